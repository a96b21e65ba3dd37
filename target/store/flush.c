/*
 * Durability of a disk. A round makes durable all that was acknowledged before it began:
 *
 *	IDLE -> SYNC_DATA -> IDLE                                    no new block: one sync
 *	IDLE -> [FORMAT ->] SYNC_DATA -> WRITE_PAGES -> SYNC_MAP -> IDLE
 *	                 ^------- more dirty pages ------'
 *
 * The bits that will be written are copied BEFORE the data sync begins, and nothing that comes
 * later is added to them. So a bit on disk always stands for data on disk: after a power loss a
 * block is owned with its new content, or it is not owned and reads as before.
 *
 * Each map page has two slots, written in turn; the slot written is never the one that counts
 * now, and the one that counts is on disk, since a sync lies between any two writes of a page. A
 * page that was never written gets an empty slot first (FORMAT), which the data sync makes
 * durable, so that its first real write has something to fall back to, too.
 *
 * Flushes that come while a round is under way share the next one. If a sync fails nobody knows
 * what is on disk, and the kernel does not try again (it marks the pages clean): the disk is
 * failed, and refuses writes and flushes until it is opened anew.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "store/store_internal.h"

static void round_begin(struct file_disk *d);
static void batch_write(struct file_disk *d);
static void sync_start(struct file_disk *d, enum flush_state state);

/* --- waiting and ends --- */

static void waiters_end(struct list *waiters, int res)
{
	while (!list_empty(waiters)) {
		struct file_io *fio = LIST_ENTRY(waiters->next, struct file_io, wait);

		list_remove(&fio->wait);
		io_finish(fio, res);
	}
}

static void batch_free(struct flush *flush)
{
	free(flush->slots);
	free(flush->pages);
	flush->slots = NULL;
	flush->pages = NULL;
	flush->batch_count = flush->batch_at = 0;
}

static void round_end(struct file_disk *d, int res)
{
	struct flush *flush = &d->flush;

	batch_free(flush);
	flush->state = FLUSH_IDLE;
	flush->waits_space = false;
	d->stats.flush_rounds++;
	if (res == 0)
		d->synced_generation = flush->generation;
	waiters_end(&flush->now, res);
	if (!list_empty(&flush->next))
		round_begin(d);
}

static void disk_fail(struct file_disk *d, int res)
{
	if (!d->failed)
		log_error("%s: what was written can't be brought to disk (%s); its node gets errors "
			  "until the disk beneath is repaired and the target started again",
			  disk_top(d)->path, strerror(-res));
	d->failed = true;
	waiters_end(&d->flush.next, -EIO);
	round_end(d, -EIO);
}

/* --- pages --- */

/* Copies the bits of the next dirty pages. 0, also if there are none, or -ENOMEM. */
static int batch_copy(struct file_disk *d)
{
	struct flush *flush = &d->flush;
	struct map *map = &disk_top(d)->map;
	uint64_t count = store_min(map->dirty_count, FLUSH_BATCH_PAGES);
	uint64_t page = map_next_dirty(map, flush->next_page);

	batch_free(flush);
	if (page >= map->page_count)
		return 0;
	for (; !flush->slots || !flush->pages; count /= 2) {
		batch_free(flush);
		if (count == 0)
			return -ENOMEM;
		flush->slots = malloc(count * sizeof(*flush->slots));
		flush->pages = malloc(count * sizeof(*flush->pages));
		if (flush->slots && flush->pages)
			break;
	}
	while (flush->batch_count < count && page < map->page_count) {
		map_clean(map, page);
		flush->pages[flush->batch_count++] = page;
		page = map_next_dirty(map, page + 1);
	}
	flush->next_page = flush->pages[flush->batch_count - 1] + 1;
	return 0;
}

/* The slots as they will be written next: empty ones for pages that have none, or the bits. */
static bool batch_fill(struct file_disk *d, bool format)
{
	struct flush *flush = &d->flush;
	const struct map *map = &disk_top(d)->map;
	bool any = false;

	for (uint64_t i = 0; i < flush->batch_count; i++) {
		uint64_t page = flush->pages[i], sequence = map->sequence[page];

		if (format && sequence > 0)
			continue;
		any = true;
		map_slot_fill(map, &d->layer_uuid, page, sequence + 1, format, &flush->slots[i]);
	}
	return any;
}

/* Bits that were not written are dirty again. */
static void batch_give_up(struct file_disk *d)
{
	struct flush *flush = &d->flush;

	for (uint64_t i = 0; i < flush->batch_count; i++)
		map_soil(&disk_top(d)->map, flush->pages[i]);
}

/* --- writes of a batch --- */

static void batch_written(struct file_disk *d)
{
	struct flush *flush = &d->flush;
	struct map *map = &disk_top(d)->map;

	if (store_is_no_space(flush->res)) {
		const struct file_io *oldest = LIST_FIRST(&flush->now, struct file_io, wait);

		disk_no_space(d);
		if (ring_now_ms(d->ring) < oldest->submitted_ms + STORE_SPACE_WAIT_MS &&
		    disk_space_retry_later(d) == 0) {
			flush->waits_space = true;
			return;
		}
		batch_give_up(d);
		round_end(d, -ENOSPC);
		return;
	}
	if (flush->res < 0) {
		batch_give_up(d);
		disk_fail(d, flush->res);
		return;
	}
	for (uint64_t i = 0; i < flush->batch_count; i++) {
		if (flush->state == FLUSH_WRITE_PAGES || map->sequence[flush->pages[i]] == 0)
			map->sequence[flush->pages[i]]++;
	}
	if (flush->state == FLUSH_FORMAT) {
		sync_start(d, FLUSH_SYNC_DATA);
		return;
	}
	if (map_next_dirty(map, flush->next_page) < map->page_count) {
		int r = batch_copy(d);

		if (r < 0) {
			round_end(d, r);
			return;
		}
	} else {
		batch_free(flush);
	}
	sync_start(d, flush->batch_count > 0 ? FLUSH_SYNC_DATA : FLUSH_SYNC_MAP);
}
