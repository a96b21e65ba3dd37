/*
 * For fuzz targets: any bytes as a disk that may be larger than they are: zeros but for pieces of
 * the input, each with its place before it, since what belongs together lies far apart on a disk.
 *
 *   input: 3 bytes of disk size; then pieces: place (3 bytes), length (2 bytes), data. Sizes and
 *   places in sectors of 512 bytes; little-endian; the size modulo 64 MiB.
 */
#ifndef LUNROOT_BOOT_FUZZ_DISK_H
#define LUNROOT_BOOT_FUZZ_DISK_H

#include <stddef.h>
#include <stdint.h>

struct disk;

/* NULL: too short an input. The data must outlive it. Aborts when it is read past its end. */
struct disk *fuzz_disk_new(const uint8_t *data, size_t size);

#endif
