/*
 * Flushing: rounds that make everything acknowledged before them durable.
 *
 *     waiting -> [ copy up to FLUSH_BATCH dirty map pages
 *                  sync the data
 *                  write the copies, each to its page's older slot ] while there are dirty pages
 *                sync the pages
 *             -> all that waited at the beginning are done
 *
 * The copy is made before the sync begins: a bit that goes to the medium belongs to data that the
 * sync covered. A write that ends meanwhile sets its bit in the live map only and is of the next
 * round. Flushes that arrive while a round runs share the next one. When nothing was written
 * since the last round nothing is synced; when no new block was, one sync is enough.
 *
 * The slots' space is reserved before a page's first bit is set; where the file system needs more
 * all the same and is full, the flush waits and tries again as writes do.
 *
 * A sync that fails has lost track of what is on the medium (the kernel forgets dirty pages), so
 * the disk is failed until it is opened again: it takes no write and no flush, and gives out
 * nothing that its top layer owns. Opened again it is as after a loss of power.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "store/store_internal.h"

static void batch_start(struct file_disk *disk);

static void round_end(struct file_disk *disk, int res)
{
	struct file_flush *flush = &disk->flush;
	uint64_t us = clock_us() - flush->started_us;

	/* Without memory nothing was begun, and nothing is lost. */
	if (res < 0 && res != -ENOMEM)
		file_disk_fail(disk, "a flush", res);
	else if (res == 0)
		file_disk_succeeded(disk, false);
	if (MUTANT(dirty_reset_late) && res == 0)
		flush->data_dirty = false;
	disk->stats.flush_rounds++;
	disk->stats.flush_us_total += us;
	if (us > disk->stats.flush_us_max)
		disk->stats.flush_us_max = us;
	flush->busy = false;
	while (!list_empty(&flush->running)) {
		struct file_io *f = LIST_ENTRY(flush->running.next, struct file_io, node);

		list_remove(&f->node);
		if (res == 0 && f->space_since_ms)
			file_disk_succeeded(disk, true);
		file_io_finish_later(f, res < 0 && res != -ENOMEM ? -EIO : res);
	}
	if (!list_empty(&flush->waiting))
		ring_defer(disk->ring, &flush->start);
}

/* The file system is full: those who have time left wait for another round. */
static void round_starved(struct file_disk *disk)
{
	struct file_flush *flush = &disk->flush;
	uint64_t now_ms = ring_now_ms(disk->ring);
	bool timer = file_disk_no_space(disk);

	flush->busy = false;
	while (!list_empty(&flush->running)) {
		struct file_io *f = LIST_ENTRY(flush->running.next, struct file_io, node);

		list_remove(&f->node);
		f->space_since_ms = now_ms;
		if (!timer || now_ms - f->submitted_ms >= STORE_SPACE_WAIT_MS)
			file_io_finish_later(f, -ENOSPC);
		else
			list_append(&flush->waiting, &f->node);
	}
}

/* `skipped`: only says that it was done. */
static void sync_start(struct file_disk *disk, void (*done)(struct ring_op *op, int res),
		       bool skipped)
{
	disk->flush.sync_op.done = done;
	if (skipped)
		done(&disk->flush.sync_op, 0);
	else
		ring_fdatasync(disk->ring, &disk->flush.sync_op, file_top(disk)->fd);
}

/*
 * Want of memory may be the medium's answer to what was written before (a device mapper's, say),
 * so it loses track as any other error does: unlike that of a round which has not begun.
 */
static void round_end_synced(struct file_disk *disk, int res)
{
	round_end(disk, res == -ENOMEM && !MUTANT(sync_without_memory_forgiven) ? -EIO : res);
}

/* A sync may be asked for again only if it was not tried. */
static bool sync_was_not_tried(int res)
{
	return res == -EINTR || res == -EAGAIN || (res < 0 && MUTANT(failed_sync_retried));
}

static void final_synced(struct ring_op *op, int res)
{
	struct file_disk *disk = CONTAINER_OF(op, struct file_disk, flush.sync_op);

	if (sync_was_not_tried(res)) {
		ring_fdatasync(disk->ring, op, file_top(disk)->fd);
		return;
	}
	round_end_synced(disk, res);
}

static void batch_written(struct file_disk *disk)
{
	struct file_flush *flush = &disk->flush;

	if ((flush->res == -ENOSPC || flush->res == -EDQUOT) &&
	    !MUTANT(unwritten_map_page_ignored)) {
		round_starved(disk);
	} else if (flush->res < 0) {
		round_end(disk, flush->res);
	} else if (flush->page < disk->map.page_count) {
		batch_start(disk);
	} else {
		sync_start(disk, final_synced, MUTANT(final_sync_skipped));
	}
}

static void page_start(struct flush_write *w)
{
	if (MUTANT(map_write_skipped))
		w->op.done(&w->op, sizeof(w->page));
	else
		ring_write(w->disk->ring, &w->op, file_top(w->disk)->fd, &w->page, sizeof(w->page),
			   w->offset);
}

static void page_written(struct ring_op *op, int res)
{
	struct flush_write *w = CONTAINER_OF(op, struct flush_write, op);
	struct file_flush *flush = &w->disk->flush;

	if (res == -EINTR || res == -EAGAIN) {
		page_start(w);
		return;
	}
	if (res != (int)sizeof(w->page) && !(MUTANT(short_map_write_accepted) && res > 0)) {
		if (!MUTANT(unwritten_map_page_clean))
			map_snapshot_failed(&w->disk->map, w->index, &w->page);
		/* Want of space may heal; any other fault weighs more. */
		if (flush->res == 0 || (res < 0 && res != -ENOSPC && res != -EDQUOT))
			flush->res = res < 0 ? res : -ENOSPC;
	} else {
		map_snapshot_written(&w->disk->map, w->index, &w->page);
	}
	if (--flush->writes_busy == 0)
		batch_written(w->disk);
}

static void copy_again(struct flush_write *w)
{
	map_snapshot_failed(&w->disk->map, w->index, &w->page);
	map_snapshot(&w->disk->map, w->index, &w->page, &w->offset);
}

/* The data that the copied bits stand for is durable now: the bits may follow. */
static void data_synced(struct ring_op *op, int res)
{
	struct file_disk *disk = CONTAINER_OF(op, struct file_disk, flush.sync_op);
	struct file_flush *flush = &disk->flush;

	if (sync_was_not_tried(res)) {
		ring_fdatasync(disk->ring, op, file_top(disk)->fd);
		return;
	}
	if (res < 0 || flush->batch_count == 0) {
		round_end_synced(disk, res);
		return;
	}
	flush->writes_busy = flush->batch_count;
	for (unsigned i = 0; i < flush->batch_count; i++) {
		if (MUTANT(map_copied_after_sync))
			copy_again(&flush->writes[i]);
		page_start(&flush->writes[i]);
	}
}

static void batch_start(struct file_disk *disk)
{
	struct file_flush *flush = &disk->flush;
	struct store_map *map = &disk->map;

	flush->batch_count = 0;
	flush->page = map_next_dirty(map, flush->page);
	while (flush->page < map->page_count && flush->batch_count < FLUSH_BATCH) {
		struct flush_write *w = &flush->writes[flush->batch_count++];

		w->disk = disk;
		w->op.done = page_written;
		w->index = flush->page;
		map_snapshot(map, flush->page, &w->page, &w->offset);
		flush->page = map_next_dirty(map, flush->page + 1);
	}
	flush->data_dirty = MUTANT(dirty_reset_late);
	sync_start(disk, data_synced,
		   /* NOLINTNEXTLINE(bugprone-branch-clone): switches of tests, off elsewhere */
		   flush->batch_count ? MUTANT(data_sync_skipped) : MUTANT(only_sync_skipped));
}

static void round_start(struct ring_task *task)
{
	struct file_disk *disk = CONTAINER_OF(task, struct file_disk, flush.start);
	struct file_flush *flush = &disk->flush;

	if (flush->busy)
		return;
	flush->busy = true;
	flush->res = 0;
	flush->page = 0;
	flush->started_us = clock_us();
	list_splice(&flush->running, &flush->waiting);
	if (disk->failed) {
		round_end(disk, -EIO);
		return;
	}
	if (!flush->data_dirty && disk->map.dirty_count == 0) {
		round_end(disk, 0);
		return;
	}
	if (!flush->writes)
		flush->writes = malloc(FLUSH_BATCH * sizeof(*flush->writes));
	if (!flush->writes)
		round_end(disk, -ENOMEM);
	else
		batch_start(disk);
}

void flush_init(struct file_disk *disk)
{
	list_init(&disk->flush.waiting);
	list_init(&disk->flush.running);
	ring_task_init(&disk->flush.start, round_start);
	/* What a process before us wrote and did not sync is ours to sync. */
	disk->flush.data_dirty = !MUTANT(opened_clean);
}

void flush_request(struct file_disk *disk, struct file_io *f)
{
	list_append(MUTANT(flush_joins_running_round) && disk->flush.busy ? &disk->flush.running
									  : &disk->flush.waiting,
		    &f->node);
	if (!disk->flush.busy)
		ring_defer(disk->ring, &disk->flush.start);
}

void flush_retry(struct file_disk *disk)
{
	if (!list_empty(&disk->flush.waiting) && !disk->flush.busy)
		ring_defer(disk->ring, &disk->flush.start);
}
