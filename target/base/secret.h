/*
 * Memory in which secrets were: wiped before it is freed, all that malloc had given.
 */
#ifndef LUNROOT_BASE_SECRET_H
#define LUNROOT_BASE_SECRET_H

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static inline void secret_free(void *p)
{
	if (p)
		explicit_bzero(p, malloc_usable_size(p));
	free(p);
}

static inline void cleanup_secret(void *p)
{
	secret_free(*(void **)p);
}

/* char *AUTO_FREE_SECRET name = NULL;  as AUTO_FREE (base/cleanup.h). */
#define AUTO_FREE_SECRET __attribute__((cleanup(cleanup_secret)))

#endif
