/*
 * Whole reads and writes at an offset of a file, and the test for zeros that decides whether a
 * write is worth one. Any thread.
 */
#ifndef LUNROOT_FILE_H
#define LUNROOT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All of it, or -errno (-EIO at the end of the file). */
int pread_all(int fd, void *data, size_t bytes, uint64_t offset);
int pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset);

/* True of no bytes at all, too. */
bool all_zero(const void *data, size_t bytes);

#endif
