/*
 * Within the store: whether an image file is still what was imported.
 */
#ifndef LUNROOT_STORE_IMAGE_H
#define LUNROOT_STORE_IMAGE_H

#include "store/store.h"

/* 0 with its size, or -errno with the message. Rehashes a file whose time has changed. Blocking. */
int image_verify(int fd, const char *path, const store_uuid_t *uuid, uint64_t *ret_size_bytes,
		 struct store_error *err);

#endif
