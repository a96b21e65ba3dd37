/* Making and recognising the sectors of sector.h. */
#include <stdio.h>
#include <string.h>

#include "sector.h"

#define MAGIC 0x6c756e726f6f7463ull

void sector_make(uint8_t *sector, uint32_t lba, uint32_t generation)
{
	uint64_t words[SECTOR_BYTES / 8], value = (uint64_t)lba << 32 | generation;

	if (generation & SECTOR_ZEROED) {
		memset(sector, 0, SECTOR_BYTES);
		return;
	}
	words[0] = MAGIC;
	words[1] = value;
	for (unsigned i = 2; i < SECTOR_BYTES / 8; i++) {
		value = value * 6364136223846793005ull + 1442695040888963407ull;
		words[i] = value;
	}
	memcpy(sector, words, SECTOR_BYTES);
}

bool sector_is(const uint8_t *sector, uint32_t lba, uint32_t generation)
{
	uint8_t expected[SECTOR_BYTES];

	if (generation == SECTOR_NONE)
		return false;
	sector_make(expected, lba, generation);
	return !memcmp(sector, expected, SECTOR_BYTES);
}

void sector_describe(const uint8_t *sector, char *ret_text, size_t room)
{
	uint64_t words[2];

	memcpy(words, sector, sizeof(words));
	if (words[0] == MAGIC)
		snprintf(ret_text, room, "sector %u of generation %x%s", (uint32_t)(words[1] >> 32),
			 (uint32_t)words[1],
			 sector_is(sector, (uint32_t)(words[1] >> 32), (uint32_t)words[1])
				 ? ""
				 : " (torn)");
	else if (sector_is(sector, 0, SECTOR_ZEROED))
		snprintf(ret_text, room, "zeros");
	else
		snprintf(ret_text, room, "something else, %016llx", (unsigned long long)words[0]);
}
