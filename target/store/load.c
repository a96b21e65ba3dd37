/*
 * Reading the durable block map of a layer file from one end to the other: which pages are good,
 * and what they say. What to do with their bits is the caller's: map.c makes the map of a disk's
 * top of them, sealed.c the one that all disks over a sealed layer share.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/store_internal.h"

static int page_damaged(const struct map_load *load, uint64_t index,
			const struct map_judgement *judgement)
{
	uint64_t first, last;

	map_damaged_blocks(index, judgement, load->block_count, &first, &last);
	return store_fail(load->err, -EBADMSG,
			  "%s is damaged: page %llu of its block map, which says who owns blocks "
			  "%llu to %llu of the disk, has no good copy; \"lunctl check --repair\" "
			  "mends what can be mended, or restore it from a backup",
			  load->path, (unsigned long long)index, (unsigned long long)first,
			  (unsigned long long)last);
}

int map_beyond_end(const struct map_load *load)
{
	return store_fail(load->err, -EBADMSG,
			  "%s is damaged: its block map has blocks beyond the end of the disk; "
			  "\"lunctl check --repair\" mends that",
			  load->path);
}

/* Of a page's bits, those from this one on mean nothing and must not be there. */
static uint64_t page_bit_count(const struct map_load *load, uint64_t index)
{
	uint64_t rest = load->block_count - index * MAP_PAGE_BLOCKS;

	return rest < MAP_PAGE_BLOCKS ? rest : MAP_PAGE_BLOCKS;
}

/* A page whose other slot is not as it should be is written anew by the next flush. */
static void page_note(struct map_notes *notes, uint64_t index,
		      const struct map_judgement *judgement)
{
	if (judgement->torn) {
		notes->torn++;
		notes->torn_page = index;
	}
	if (judgement->bad[0] || judgement->bad[1]) {
		notes->stale++;
		notes->stale_page = index;
	}
}

static int page_load(struct map_load *load, uint64_t index)
{
	struct map_page slots[MAP_PAGE_SLOTS];
	uint8_t bits[MAP_PAGE_BITS_BYTES];
	struct map_judgement judgement;
	int r = pread_all(load->fd, slots, sizeof(slots), map_slot_offset(index, 0));

	if (r < 0)
		return r;
	map_page_judge(slots, load->layer_uuid, index, &judgement);
	if (judgement.state == MAP_PAGE_DAMAGED)
		return page_damaged(load, index, &judgement);
	page_note(&load->notes, index, &judgement);
	if (judgement.state == MAP_PAGE_EMPTY)
		return 0;
	map_page_bits(&slots[judgement.slot], bits);
	if (!all_zero(bits, sizeof(bits)) && map_bits_last(bits) >= page_bit_count(load, index))
		return map_beyond_end(load);
	return load->page(load->arg, index, &judgement, bits);
}

/* Walks the written parts of the durable map only: a fresh clone of any size has none. */
int map_load_pages(struct map_load *load)
{
	uint64_t page_count = (load->block_count + MAP_PAGE_BLOCKS - 1) / MAP_PAGE_BLOCKS;
	uint64_t end = map_slot_offset(page_count, 0), next = 0;

	while (next < page_count) {
		off_t at = lseek(load->fd, (off_t)map_slot_offset(next, 0), SEEK_DATA);
		int r;

		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		if ((uint64_t)at >= end)
			return 0;
		next = ((uint64_t)at - LAYER_MAP_OFFSET) / (MAP_PAGE_SLOTS * MAP_PAGE_BYTES);
		r = page_load(load, next);
		if (r < 0)
			return r;
		next++;
	}
	return 0;
}

void map_notes_tell(const struct map_notes *notes, const char *path)
{
	if (notes->torn)
		log_info("%s: %llu pages of its block map (page %llu) were being written when the "
			 "power failed; their copies from before that are used",
			 path, (unsigned long long)notes->torn,
			 (unsigned long long)notes->torn_page);
	if (notes->stale)
		log_warn("%s: %llu pages of its block map (page %llu) have a damaged older copy, "
			 "which is not needed; is the medium failing?",
			 path, (unsigned long long)notes->stale,
			 (unsigned long long)notes->stale_page);
}
