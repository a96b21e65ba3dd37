/*
 * Scope cleanup for what a function owns, and TAKE_PTR() to hand ownership on.
 */
#ifndef LUNROOT_BASE_CLEANUP_H
#define LUNROOT_BASE_CLEANUP_H

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

/* char *AUTO_FREE name = NULL;  freed at the end of the scope. */
#define AUTO_FREE __attribute__((cleanup(cleanup_free)))
/* int AUTO_CLOSE fd = -1;  closed at the end of the scope unless negative. */
#define AUTO_CLOSE __attribute__((cleanup(cleanup_close)))

/* The pointer's value, leaving NULL behind. */
#define TAKE_PTR(p)                                      \
	({                                               \
		__typeof__(p) *take_from_ = &(p);        \
		__typeof__(p) take_value_ = *take_from_; \
		*take_from_ = NULL;                      \
		take_value_;                             \
	})

/* The descriptor's value, leaving -1 behind. */
#define TAKE_FD(fd)                            \
	({                                     \
		int *take_from_ = &(fd);       \
		int take_value_ = *take_from_; \
		*take_from_ = -1;              \
		take_value_;                   \
	})

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* The struct that embeds `member` at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
