/*
 * CRC32C (RFC 7143, 13.1; reflected polynomial 0x1EDC6F41), for digests and for the store.
 */
#ifndef LUNROOT_BASE_CRC32C_H
#define LUNROOT_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Starts or goes on with a checksum: pass 0 first, then the last result. Any thread. */
uint32_t crc32c(uint32_t crc, const void *data, size_t bytes);

#endif
