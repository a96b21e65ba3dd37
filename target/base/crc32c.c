/*
 * CRC32C by ISA-L, which picks the machine's instructions at run time.
 */
#include "base/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L counts bytes in an int. */
#define CHUNK_BYTES_MAX ((size_t)1 << 30)

uint32_t crc32c(uint32_t crc, const void *data, size_t bytes)
{
	const uint8_t *p = data;

	/* ISA-L leaves the two inversions to the caller. */
	crc = ~crc;
	while (bytes > 0) {
		size_t n = bytes < CHUNK_BYTES_MAX ? bytes : CHUNK_BYTES_MAX;

		/* It takes a non-const pointer and only reads. */
		crc = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)n, crc);
		p += n;
		bytes -= n;
	}
	return ~crc;
}
