/* The same maps in every run: pages as a flush writes them, in both slots. */
#include "chain_map.h"

#include <string.h>

static void bits_make(uint64_t page, uint64_t block_count, bool scattered,
		      uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	static uint64_t x = 88172645463325252ull;
	uint64_t rest = block_count - page * MAP_PAGE_BLOCKS;

	memset(bits, 0, MAP_PAGE_BITS_BYTES);
	bits[0] = 1;
	for (size_t i = 0; scattered && i < MAP_PAGE_BITS_BYTES && (i + 1) * 8 <= rest; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		bits[i] = (uint8_t)x;
	}
}

int chain_map_write(int fd, const uint8_t uuid[16], uint64_t block_count, bool scattered)
{
	int r = 0;

	for (uint64_t page = 0; r == 0 && page * MAP_PAGE_BLOCKS < block_count; page++) {
		uint8_t bits[MAP_PAGE_BITS_BYTES];

		bits_make(page, block_count, scattered, bits);
		for (unsigned i = 1; r == 0 && i <= MAP_PAGE_SLOTS; i++) {
			struct map_page copy;
			uint64_t offset =
				map_page_fill(&copy, uuid, page, MAP_SEQUENCE_EMPTY + i, bits);

			r = pwrite_all(fd, &copy, sizeof(copy), offset);
		}
	}
	return r;
}
