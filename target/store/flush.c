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
 * the disk is failed until it is opened again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/store_internal.h"

static void batch_start(struct file_disk *disk);

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void round_end(struct file_disk *disk, int res)
{
	struct file_flush *flush = &disk->flush;
	uint64_t us = now_us() - flush->started_us;

	/* Without memory nothing was begun, and nothing is lost. */
	if (res < 0 && res != -ENOMEM)
		file_disk_fail(disk, "a flush", res);
	else if (res == 0)
		file_disk_succeeded(disk, false);
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

static void final_synced(struct ring_op *op, int res)
{
	struct file_disk *disk = CONTAINER_OF(op, struct file_disk, flush.sync_op);

	if (res == -EINTR || res == -EAGAIN) {
		ring_fdatasync(disk->ring, op, file_top(disk)->fd);
		return;
	}
	round_end(disk, res);
}

static void batch_written(struct file_disk *disk)
{
	struct file_flush *flush = &disk->flush;

	if (flush->res == -ENOSPC || flush->res == -EDQUOT) {
		round_starved(disk);
	} else if (flush->res < 0) {
		round_end(disk, flush->res);
	} else if (flush->page < file_top(disk)->map.page_count) {
		batch_start(disk);
	} else {
		flush->sync_op.done = final_synced;
		ring_fdatasync(disk->ring, &flush->sync_op, file_top(disk)->fd);
	}
}

static void page_start(struct flush_write *w)
{
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
	if (res != (int)sizeof(w->page)) {
		map_snapshot_failed(&file_top(w->disk)->map, w->index, &w->page);
		/* Want of space may heal; any other fault weighs more. */
		if (flush->res == 0 || (res < 0 && res != -ENOSPC && res != -EDQUOT))
			flush->res = res < 0 ? res : -ENOSPC;
	}
	if (--flush->writes_busy == 0)
		batch_written(w->disk);
}

/* The data that the copied bits stand for is durable now: the bits may follow. */
static void data_synced(struct ring_op *op, int res)
{
	struct file_disk *disk = CONTAINER_OF(op, struct file_disk, flush.sync_op);
	struct file_flush *flush = &disk->flush;

	if (res == -EINTR || res == -EAGAIN) {
		ring_fdatasync(disk->ring, op, file_top(disk)->fd);
		return;
	}
	if (res < 0 || flush->batch_count == 0) {
		round_end(disk, res);
		return;
	}
	flush->writes_busy = flush->batch_count;
	for (unsigned i = 0; i < flush->batch_count; i++)
		page_start(&flush->writes[i]);
}

static void batch_start(struct file_disk *disk)
{
	struct file_flush *flush = &disk->flush;
	struct store_map *map = &file_top(disk)->map;

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
	flush->data_dirty = false;
	flush->sync_op.done = data_synced;
	ring_fdatasync(disk->ring, &flush->sync_op, file_top(disk)->fd);
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
	flush->started_us = now_us();
	list_splice(&flush->running, &flush->waiting);
	if (disk->failed) {
		round_end(disk, -EIO);
		return;
	}
	if (!flush->data_dirty && file_top(disk)->map.dirty_count == 0) {
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
	disk->flush.data_dirty = true;
}

void flush_request(struct file_disk *disk, struct file_io *f)
{
	list_append(&disk->flush.waiting, &f->node);
	if (!disk->flush.busy)
		ring_defer(disk->ring, &disk->flush.start);
}

void flush_retry(struct file_disk *disk)
{
	if (!list_empty(&disk->flush.waiting) && !disk->flush.busy)
		ring_defer(disk->ring, &disk->flush.start);
}
