/*
 * Sizes as people write and read them. Any thread.
 */
#ifndef LUNROOT_BASE_SIZE_H
#define LUNROOT_BASE_SIZE_H

#include <stdint.h>

#define SIZE_TEXT_BYTES 24

/* "8G", "512MiB", "1048576": powers of 1024. 0, -EINVAL, or -ERANGE beyond what a disk can be. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* "8.0 GiB"; never more than SIZE_TEXT_BYTES with the NUL. */
const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT_BYTES]);

#endif
