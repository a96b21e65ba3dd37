/*
 * Pages of the durable block map: how they lie on disk, and which of a page's two slots is right.
 *
 * A page is rewritten in place while the disk is in use, so it has two slots that are written in
 * turn, with a sync between. A power loss leaves a slot in which some sectors are new and some are
 * as before: each of them whole (a medium writes sectors, not bytes), with its own checksum and
 * sequence. Damage leaves sectors that are not whole. The two must be told apart: a torn slot had
 * not been acknowledged, so the other one is right; a damaged one may be the only one that knows
 * of writes that were, and taking the other one would lose them in silence.
 *
 * A slot that was never written is zeros, or partly so when its first write was torn, and some file
 * systems bring zeros where they have lost something. So that zeros are never taken for that when
 * they are damage: both slots are written with empty pages (sequences 1 and 2) before a page's
 * first bit is set, and so are on disk, by the sync of the data, before the first true one
 * (sequence 3) is written over slot 1. From then on there is nothing that may be zeros. The next
 * flush writes slot 0 as well (map.c), and from then on the loss of a slot as a whole is seen too.
 *
 *     all sectors of a slot good and of one sequence    it is whole; the newest whole slot counts
 *     the other slot: good sectors of several           its last write was torn: it does not count
 *     the other slot: damaged sectors, and good ones
 *         that are older, or of several sequences       damaged, but known not to count
 *     the other slot: damaged otherwise                 nobody knows: the page is damaged
 *     no sequence above 2, no damage                    it was being made: the page owns nothing
 *     no whole slot otherwise                           the page is damaged
 */
#include <string.h>

#include "base/crc32c.h"
#include "store/store_internal.h"

/* More flushes than any page will see; a file that has more is not ours. */
#define SEQUENCE_MAX (1ull << 62)

enum sector_kind { SECTOR_ZERO, SECTOR_GOOD, SECTOR_BAD };

/* What the sectors of one slot say. */
struct slot_sum {
	unsigned good;
	uint64_t lowest, highest; /* of the good ones */
	uint8_t bad, zero;        /* a bit a sector */
};

uint64_t map_slot_offset(uint64_t page, uint64_t sequence)
{
	return LAYER_MAP_OFFSET +
	       (page * MAP_PAGE_SLOTS + sequence % MAP_PAGE_SLOTS) * MAP_PAGE_BYTES;
}

static uint32_t sector_crc(const struct map_sector *sector)
{
	return crc32c(0, sector, offsetof(struct map_sector, crc));
}

uint64_t map_page_fill(struct map_page *page, const uint8_t layer_uuid[16], uint64_t index,
		       uint64_t sequence, const uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	assert(sequence > 0 && sequence <= SEQUENCE_MAX);
	memset(page, 0, sizeof(*page));
	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++) {
		struct map_sector *sector = &page->sectors[i];

		memcpy(sector->magic, MAP_PAGE_MAGIC, sizeof(sector->magic));
		le32_put(&sector->version, MAP_PAGE_VERSION);
		memcpy(sector->layer_uuid, layer_uuid, 16);
		le64_put(&sector->page, index);
		le64_put(&sector->sequence, sequence);
		le32_put(&sector->number, i);
		if (sequence > MAP_SEQUENCE_EMPTY)
			memcpy(sector->bits, bits + i * MAP_SECTOR_BITS_BYTES,
			       MAP_SECTOR_BITS_BYTES);
		le32_put(&sector->crc, sector_crc(sector));
	}
	return map_slot_offset(index, sequence);
}

void map_page_bits(const struct map_page *page, uint8_t ret_bits[MAP_PAGE_BITS_BYTES])
{
	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++)
		memcpy(ret_bits + i * MAP_SECTOR_BITS_BYTES, page->sectors[i].bits,
		       MAP_SECTOR_BITS_BYTES);
}

unsigned map_bits_last(const uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	for (unsigned i = MAP_PAGE_BITS_BYTES; i-- > 0;) {
		if (bits[i])
			return i * 8 + 31 - (unsigned)__builtin_clz(bits[i]);
	}
	return 0;
}

static enum sector_kind sector_judge(const struct map_sector *sector, const uint8_t layer_uuid[16],
				     uint64_t index, unsigned slot, unsigned number)
{
	uint64_t sequence = le64_get(sector->sequence);

	if (all_zero(sector, sizeof(*sector)))
		return SECTOR_ZERO;
	if (memcmp(sector->magic, MAP_PAGE_MAGIC, sizeof(sector->magic)) != 0 ||
	    (le32_get(sector->crc) != sector_crc(sector) && !MUTANT(map_checksum_ignored)) ||
	    le32_get(sector->version) != MAP_PAGE_VERSION ||
	    memcmp(sector->layer_uuid, layer_uuid, 16) != 0 || le64_get(sector->page) != index ||
	    le32_get(sector->number) != number || sequence == 0 || sequence > SEQUENCE_MAX ||
	    sequence % MAP_PAGE_SLOTS != slot)
		return SECTOR_BAD;
	if (sequence <= MAP_SEQUENCE_EMPTY && !all_zero(sector->bits, sizeof(sector->bits)))
		return SECTOR_BAD;
	return SECTOR_GOOD;
}

static struct slot_sum slot_sum(const struct map_page *page, const uint8_t layer_uuid[16],
				uint64_t index, unsigned slot)
{
	struct slot_sum sum = {.lowest = UINT64_MAX};

	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++) {
		const struct map_sector *sector = &page->sectors[i];
		uint64_t sequence = le64_get(sector->sequence);

		switch (sector_judge(sector, layer_uuid, index, slot, i)) {
		case SECTOR_ZERO: sum.zero |= (uint8_t)(1u << i); break;
		case SECTOR_BAD: sum.bad |= (uint8_t)(1u << i); break;
		case SECTOR_GOOD:
			sum.good++;
			if (sequence < sum.lowest)
				sum.lowest = sequence;
			if (sequence > sum.highest)
				sum.highest = sequence;
			break;
		}
	}
	return sum;
}

static bool is_whole(const struct slot_sum *sum)
{
	return sum->good == MAP_PAGE_SECTORS &&
	       (sum->lowest == sum->highest || MUTANT(torn_map_page_believed));
}

/* The slot that does not count is not whole. Is it certain that it does not count? Its last write
 * was not complete if a good sector is of another one, and the one before is older. */
static bool is_stale(const struct slot_sum *sum, uint64_t sequence)
{
	return sum->good > 0 && (sum->lowest != sum->highest || sum->lowest < sequence);
}

void map_page_judge(const struct map_page slots[MAP_PAGE_SLOTS], const uint8_t layer_uuid[16],
		    uint64_t index, struct map_judgement *ret)
{
	struct slot_sum sums[MAP_PAGE_SLOTS];
	bool whole[MAP_PAGE_SLOTS];
	uint64_t highest;
	unsigned slot;

	for (unsigned i = 0; i < MAP_PAGE_SLOTS; i++) {
		sums[i] = slot_sum(&slots[i], layer_uuid, index, i);
		whole[i] = is_whole(&sums[i]);
	}
	highest = sums[0].highest > sums[1].highest ? sums[0].highest : sums[1].highest;
	*ret = (struct map_judgement){.state = MAP_PAGE_EMPTY};
	if (!(whole[0] && whole[1]) && !sums[0].bad && !sums[1].bad &&
	    highest <= MAP_SEQUENCE_EMPTY)
		return;
	slot = whole[1] && (!whole[0] || sums[1].highest > sums[0].highest);
	ret->slot = slot;
	/* The next write goes to the other slot, with a sequence that no sector has had: a sector
	 * of a torn write must not be taken for one of the next. */
	ret->sequence = highest + (highest % MAP_PAGE_SLOTS != slot);
	for (unsigned i = 0; i < MAP_PAGE_SLOTS; i++)
		ret->bad[i] = sums[i].bad | sums[i].zero;
	ret->state = MAP_PAGE_DAMAGED;
	if (!whole[slot] || (!whole[!slot] && !is_stale(&sums[!slot], sums[slot].highest)))
		return;
	ret->torn = !whole[!slot] && !ret->bad[!slot];
	/* The first true write was torn: the page is begun anew. */
	ret->state = !whole[!slot] && sums[slot].highest <= MAP_SEQUENCE_EMPTY ? MAP_PAGE_EMPTY
									       : MAP_PAGE_GOOD;
}

void map_damaged_blocks(uint64_t page, const struct map_judgement *judgement, uint64_t block_count,
			uint64_t *ret_first, uint64_t *ret_last)
{
	uint8_t bad = judgement->bad[0] | judgement->bad[1];
	unsigned first, last;

	/* Two slots, both torn, is none of the states that a power loss leaves. */
	if (bad == 0)
		bad = 0xff;
	first = (unsigned)__builtin_ctz(bad);
	last = 31 - (unsigned)__builtin_clz(bad);
	*ret_first = page * MAP_PAGE_BLOCKS + first * MAP_SECTOR_BLOCKS;
	*ret_last = page * MAP_PAGE_BLOCKS + (last + 1) * MAP_SECTOR_BLOCKS - 1;
	if (*ret_last >= block_count)
		*ret_last = block_count - 1;
	if (*ret_first > *ret_last)
		*ret_first = *ret_last;
}
