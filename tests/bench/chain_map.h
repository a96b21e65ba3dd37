/*
 * Block maps for benchmarks: written into layer files that nobody has open, without any data.
 */
#ifndef LUNROOT_BENCH_CHAIN_MAP_H
#define LUNROOT_BENCH_CHAIN_MAP_H

#include <stdbool.h>

#include "store/store_internal.h"

/* One block in every 64 MiB, or every other block by chance: the most that a map can cost. 0 or
 * -errno. */
int chain_map_write(int fd, const uint8_t uuid[16], uint64_t block_count, bool scattered);

#endif
