/*
 * I/O of an open disk: a chain of levels, the lowest an image perhaps, the top a layer that takes
 * the writes.
 *
 * What orders what:
 * - A write's data is in the page cache (its completion came) before its bits are set, and its
 *   bits are set before it is acknowledged. So a kill at any point leaves each block old or new,
 *   and no acknowledged write is lost.
 * - A discard punches first and sets bits afterwards, for the same reason.
 * - Bits reach the disk only after the data they stand for: flush.c.
 * - A block that the layer does not own is only ever written whole: what a smaller write leaves
 *   of it is read from the parent and merged ("copy up"). Whatever lies in the file under a
 *   clear bit, from before a power loss, is never seen.
 * - Writes and discards that share a block run one after another in the order in which they
 *   came (`ranges`), so that a copy-up can't undo its neighbour. Reads wait for nobody: the order
 *   of commands under way together is the initiator's affair.
 *
 * A write goes through the steps of enum io_step:
 *
 *	PREPARE -> READ_HEAD -> READ_TAIL -> BUILD_FIRST -> WRITE_FIRST -> ...
 *	... -> (discard: BUILD_SECOND -> WRITE_SECOND -> PUNCH or BUILD_ZEROS/WRITE_ZEROS) -> MARK
 *
 * Any step that finds no space waits in `space` and is tried again.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/store_internal.h"

#define SPACE_RETRY_MS   500
#define FREE_IO_COUNT    8          /* kept for the next command; a busy disk makes more */
#define TRANSFER_BYTES   (1u << 30) /* of one read or write; below the kernel's own bound */
#define NO_SPACE_SHOW_MS 5000       /* an initiator that was told BUSY comes again within it */

/* Source of written zeros; never written to itself. */
static uint8_t zeros[65536];

static struct file_disk *disk_of(struct store_disk *disk)
{
	return CONTAINER_OF(disk, struct file_disk, disk);
}

uint64_t store_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

bool store_is_no_space(int res)
{
	return res == -ENOSPC || res == -EDQUOT;
}

/* --- ends --- */

/* While an I/O waits for its `done` to be called, its priv is its result, marked by an odd
 * value; before that it points at its file_io, which is even. */
static void io_finish_later(struct file_disk *d, struct store_io *io, int res)
{
	io->priv = (void *)(((uintptr_t)(unsigned)-res << 1) | 1);
	list_append(&d->finished, &io->node);
	ring_defer(d->ring, &d->finish);
}

static void finish_run(struct ring_task *task)
{
	struct file_disk *d = CONTAINER_OF(task, struct file_disk, finish);
	struct list due;

	list_init(&due);
	list_splice(&due, &d->finished);
	/* The last one may be a detach, after which the disk may be gone. */
	while (!list_empty(&due)) {
		struct store_io *io = LIST_ENTRY(due.next, struct store_io, node);
		int res = -(int)((uintptr_t)io->priv >> 1);

		list_remove(&io->node);
		io->priv = NULL;
		assert(d->in_flight > 0);
		d->in_flight--;
		io->done(io, res);
	}
}

static struct file_io *io_new(struct file_disk *d, struct store_io *io)
{
	struct file_io *fio = LIST_FIRST(&d->free, struct file_io, node);

	if (fio) {
		list_remove(&fio->node);
		d->free_count--;
	} else {
		fio = calloc(1, sizeof(*fio));
		if (!fio)
			return NULL;
		list_init(&fio->node);
		list_init(&fio->wait);
		list_append(&d->all, &fio->all);
		fio->d = d;
	}
	fio->io = io;
	fio->submitted_ms = ring_now_ms(d->ring);
	fio->submitted_us = store_now_us();
	fio->in_ranges = fio->granted = fio->waits_space = fio->had_no_space = false;
	fio->res = 0;
	return fio;
}

static void io_free(struct file_io *fio)
{
	list_remove(&fio->all);
	free(fio->bounce);
	free(fio);
}

void io_finish(struct file_io *fio, int res)
{
	struct file_disk *d = fio->d;
	struct store_io *io = fio->io;

	assert(!fio->in_ranges && list_empty(&fio->wait) && list_empty(&fio->node));
	if (io->op == STORE_FLUSH && io != &d->detach_io) {
		uint64_t us = store_now_us() - fio->submitted_us;

		d->stats.flush_us_total += us;
		if (us > d->stats.flush_us_max)
			d->stats.flush_us_max = us;
	}
	io_finish_later(d, io, res);
	free(fio->bounce);
	fio->bounce = NULL;
	if (d->free_count >= FREE_IO_COUNT) {
		io_free(fio);
		return;
	}
	list_prepend(&d->free, &fio->node);
	d->free_count++;
}

/* --- ranges --- */

static void io_advance(struct file_io *fio);

static bool ranges_overlap(const struct file_io *a, const struct file_io *b)
{
	return a->block_first < b->block_end && b->block_first < a->block_end;
}

/* Whether one that came before shares a block with it. */
static bool range_is_blocked(const struct file_disk *d, const struct file_io *fio)
{
	for (const struct list *at = fio->node.prev; at != &d->ranges; at = at->prev) {
		const struct file_io *other =
			CONTAINER_OF((struct list *)at, struct file_io, node);

		if (ranges_overlap(fio, other))
			return true;
	}
	return false;
}

static void range_enter(struct file_io *fio)
{
	struct file_disk *d = fio->d;

	list_append(&d->ranges, &fio->node);
	fio->in_ranges = true;
	if (range_is_blocked(d, fio)) {
		d->range_waiters++;
		return;
	}
	fio->granted = true;
	io_advance(fio);
}

/* Lets those go on that nothing blocks any more. */
static void ranges_grant(struct file_disk *d)
{
	/* One that goes on may end at once and come here again: the loop below sees it. */
	if (d->granting)
		return;
	d->granting = true;
	for (bool again = d->range_waiters > 0; again;) {
		again = false;
		list_for_each (at, &d->ranges) {
			struct file_io *fio = LIST_ENTRY(at, struct file_io, node);

			if (fio->granted || range_is_blocked(d, fio))
				continue;
			fio->granted = true;
			d->range_waiters--;
			io_advance(fio);
			again = d->range_waiters > 0;
			break;
		}
	}
	d->granting = false;
}

static void range_leave(struct file_io *fio)
{
	assert(fio->in_ranges);
	list_remove(&fio->node);
	fio->in_ranges = false;
	if (!fio->granted)
		fio->d->range_waiters--;
}

/* Ends a write or discard. */
static void io_end(struct file_io *fio, int res)
{
	struct file_disk *d = fio->d;

	range_leave(fio);
	io_finish(fio, res);
	ranges_grant(d);
}

/* --- space --- */

void disk_no_space(struct file_disk *d)
{
	d->no_space_ms = ring_now_ms(d->ring);
	if (d->no_space)
		return;
	d->no_space = true;
	log_warn("disk full: writes to %s wait; free some space on its file system",
		 disk_top(d)->path);
}

void disk_space_again(struct file_disk *d)
{
	if (!d->no_space)
		return;
	d->no_space = false;
	log_info("there is space again: writes to %s go on", disk_top(d)->path);
}

int disk_space_retry_later(struct file_disk *d)
{
	return d->space_timer.armed ? 0 : ring_timer_arm(d->ring, &d->space_timer, SPACE_RETRY_MS);
}

static bool io_is_overdue(const struct file_io *fio)
{
	return ring_now_ms(fio->d->ring) >= fio->submitted_ms + STORE_SPACE_WAIT_MS;
}

/* The step will be tried again, unless it has waited for too long. */
static void space_wait(struct file_io *fio)
{
	struct file_disk *d = fio->d;

	disk_no_space(d);
	fio->had_no_space = true;
	if (io_is_overdue(fio) || disk_space_retry_later(d) < 0) {
		io_end(fio, -ENOSPC);
		return;
	}
	fio->waits_space = true;
	list_append(&d->space, &fio->wait);
}

/* Those behind one that waits for space must not wait longer than it. */
static void space_give_up_blocked(struct file_disk *d)
{
	list_for_each (at, &d->ranges) {
		struct file_io *fio = LIST_ENTRY(at, struct file_io, node);

		if (!fio->granted && io_is_overdue(fio)) {
			range_leave(fio);
			io_finish(fio, -ENOSPC);
		}
	}
	ranges_grant(d);
}

static void space_retry(struct ring_timer *timer)
{
	struct file_disk *d = CONTAINER_OF(timer, struct file_disk, space_timer);
	struct list due;

	list_init(&due);
	list_splice(&due, &d->space);
	while (!list_empty(&due)) {
		struct file_io *fio = LIST_ENTRY(due.next, struct file_io, wait);

		list_remove(&fio->wait);
		fio->waits_space = false;
		io_advance(fio);
	}
	if (d->no_space)
		space_give_up_blocked(d);
	flush_retry(d);
}

/* --- reading --- */

/* Who owns `block` among the lowest `level_count` levels (NULL: nobody, it reads as zeros), and
 * for how many blocks, at most `blocks_max`, that is so. */
static const struct level *chain_run(const struct file_disk *d, unsigned level_count,
				     uint64_t block, uint64_t blocks_max, uint64_t *ret_blocks)
{
	while (level_count > 0) {
		const struct level *level = &d->levels[--level_count];
		bool owned = true;
		uint64_t run;

		/* What lies below is no larger. */
		if (block >= level->visible_blocks)
			break;
		run = level->visible_blocks - block;
		if (!level->image)
			run = map_run(&level->map, block, store_min(run, blocks_max), &owned);
		blocks_max = store_min(blocks_max, run);
		if (owned) {
			*ret_blocks = blocks_max;
			return level;
		}
	}
	*ret_blocks = blocks_max;
	return NULL;
}

static void read_fill(struct file_io *fio);

static void run_start(struct io_run *run)
{
	ring_read(run->fio->d->ring, &run->op, run->level->fd, run->data, run->bytes, run->offset);
}

/* Whether the run is over; otherwise it was started again. */
static bool run_step(struct io_run *run, int res)
{
	if (res == -EINTR || res == -EAGAIN) {
		run_start(run);
		return false;
	}
	/* The file is shorter than when it was opened. */
	if (res == 0 && run->offset < run->level->data_end)
		res = -EIO;
	if (res < 0) {
		run->fio->res = res;
		return true;
	}
	run->data += res;
	run->offset += (uint64_t)res;
	run->bytes -= (size_t)res;
	if (run->offset >= run->level->data_end) {
		/* The last block of an image that is no whole number of blocks. */
		memset(run->data, 0, run->bytes);
		return true;
	}
	if (run->bytes == 0)
		return true;
	run_start(run);
	return false;
}

static void run_done(struct ring_op *op, int res)
{
	struct io_run *run = CONTAINER_OF(op, struct io_run, op);
	struct file_io *fio = run->fio;

	if (!run_step(run, res))
		return;
	run->busy = false;
	fio->run_count--;
	read_fill(fio);
}

static struct io_run *run_get(struct file_io *fio)
{
	if (fio->run_count == IO_RUNS)
		return NULL;
	for (unsigned i = 0; i < IO_RUNS; i++) {
		if (!fio->runs[i].busy)
			return &fio->runs[i];
	}
	return NULL;
}

static void read_end(struct file_io *fio)
{
	if (fio->io->op == STORE_READ)
		io_finish(fio, fio->res);
	else if (fio->res < 0)
		io_end(fio, fio->res);
	else
		io_advance(fio); /* a block was read to copy it up */
}

/* Starts as many runs as may be under way; ends the read after the last. */
static void read_fill(struct file_io *fio)
{
	struct file_disk *d = fio->d;
	struct io_run *run;

	while (fio->pos < fio->end && fio->res == 0 && (run = run_get(fio)) != NULL) {
		uint64_t block = fio->pos / STORE_BLOCK_BYTES, blocks;
		const struct level *level =
			chain_run(d, fio->level_count, block, store_blocks(fio->end) - block, &blocks);
		uint64_t bytes = store_min((block + blocks) * STORE_BLOCK_BYTES, fio->end) - fio->pos;
		uint8_t *data = fio->data + (fio->pos - fio->origin);

		bytes = store_min(bytes, TRANSFER_BYTES);
		if (!level) {
			memset(data, 0, bytes);
		} else {
			*run = (struct io_run){
				.op.done = run_done,
				.fio = fio,
				.level = level,
				.data = data,
				.offset = level->data_offset + fio->pos,
				.bytes = bytes,
				.busy = true,
			};
			fio->run_count++;
			run_start(run);
		}
		fio->pos += bytes;
	}
	if (fio->run_count == 0 && (fio->res < 0 || fio->pos == fio->end))
		read_end(fio);
}

static void read_start(struct file_io *fio, unsigned level_count, uint64_t offset, uint64_t bytes,
		       uint8_t *data)
{
	assert(fio->run_count == 0);
	fio->level_count = level_count;
	fio->pos = fio->origin = offset;
	fio->end = offset + bytes;
	fio->data = data;
	read_fill(fio);
}

/* --- writing --- */

/* Blocks at or beyond this need no bit when they are discarded: they read as zeros anyway. */
static uint64_t parent_blocks(const struct file_disk *d)
{
	return d->level_count > 1 ? d->levels[d->level_count - 2].visible_blocks : 0;
}

static uint64_t io_end_bytes(const struct store_io *io)
{
	return io->offset_bytes + io->length_bytes;
}

/* Blocks that are written only in part; block_end if there is none. */
static void write_edges(struct file_io *fio)
{
	const struct store_io *io = fio->io;
	uint64_t first = fio->block_first, last = fio->block_end - 1;
	bool head = io->offset_bytes % STORE_BLOCK_BYTES != 0;
	bool tail = io_end_bytes(io) % STORE_BLOCK_BYTES != 0;

	if (first == last) {
		head = head || tail;
		tail = false;
	}
	fio->head_block = head ? first : fio->block_end;
	fio->tail_block = tail ? last : fio->block_end;
	fio->whole_first = first + head;
	fio->whole_end = fio->block_end - tail;
}

/* Room for the bits that IO_MARK will set. */
static int write_prepare(struct file_io *fio)
{
	struct map *map = &disk_top(fio->d)->map;

	if (fio->io->op == STORE_DISCARD) {
		uint64_t end = store_min(fio->whole_end, parent_blocks(fio->d));
		int r = 0;

		if (fio->head_block < fio->block_end)
			r = map_prepare(map, fio->head_block, 1);
		if (r == 0 && fio->tail_block < fio->block_end)
			r = map_prepare(map, fio->tail_block, 1);
		if (r == 0 && fio->whole_first < end)
			r = map_prepare(map, fio->whole_first, end - fio->whole_first);
		return r;
	}
	return map_prepare(map, fio->block_first, fio->block_end - fio->block_first);
}

static int write_plan(struct file_io *fio)
{
	struct map *map = &disk_top(fio->d)->map;
	int r;

	write_edges(fio);
	r = write_prepare(fio);
	if (r < 0)
		return r;
	fio->head_copy = fio->head_block < fio->block_end && !map_test(map, fio->head_block);
	fio->tail_copy = fio->tail_block < fio->block_end && !map_test(map, fio->tail_block);
	if ((fio->head_copy || fio->tail_copy) && !fio->bounce) {
		fio->bounce = malloc((size_t)2 * STORE_BLOCK_BYTES);
		if (!fio->bounce)
			return -ENOMEM;
	}
	return 0;
}

/* What the I/O writes to the disk's [offset, offset + bytes) lands in `target`. */
static void merge(const struct store_io *io, uint64_t offset, uint64_t bytes, uint8_t *target)
{
	if (io->op == STORE_DISCARD)
		memset(target, 0, bytes);
	else
		memcpy(target, (const uint8_t *)io->data + (offset - io->offset_bytes), bytes);
}

static void iov_clear(struct file_io *fio, uint64_t disk_offset)
{
	fio->iov_first = fio->iov_count = 0;
	fio->offset = disk_top(fio->d)->data_offset + disk_offset;
}

static void iov_add(struct file_io *fio, void *data, uint64_t bytes)
{
	if (bytes == 0)
		return;
	assert(fio->iov_count < ARRAY_COUNT(fio->iov) && bytes <= TRANSFER_BYTES);
	fio->iov[fio->iov_count++] = (struct iovec){.iov_base = data, .iov_len = bytes};
}

/* A block written in part: merged with what was copied up. */
static void iov_add_merged(struct file_io *fio, uint64_t block, uint8_t *bounce)
{
	uint64_t start = block * STORE_BLOCK_BYTES;
	uint64_t from = fio->io->offset_bytes > start ? fio->io->offset_bytes : start;
	uint64_t to = store_min(io_end_bytes(fio->io), start + STORE_BLOCK_BYTES);

	merge(fio->io, from, to - from, bounce + (from - start));
	iov_add(fio, bounce, STORE_BLOCK_BYTES);
	fio->d->stats.copy_ups++;
}

/* All of a write in one piece: a merged block, the caller's data, a merged block. */
static void build_write(struct file_io *fio)
{
	const struct store_io *io = fio->io;
	uint64_t from = io->offset_bytes, to = io_end_bytes(io);

	iov_clear(fio, fio->head_copy ? fio->head_block * STORE_BLOCK_BYTES : from);
	if (fio->head_copy) {
		iov_add_merged(fio, fio->head_block, fio->bounce);
		from = store_min((fio->head_block + 1) * STORE_BLOCK_BYTES, to);
	}
	if (fio->tail_copy)
		to = fio->tail_block * STORE_BLOCK_BYTES;
	iov_add(fio, (uint8_t *)io->data + (from - io->offset_bytes), to - from);
	if (fio->tail_copy)
		iov_add_merged(fio, fio->tail_block, fio->bounce + STORE_BLOCK_BYTES);
}

/* The part of a block that is discarded. */
static void build_part(struct file_io *fio, uint64_t block, bool copy, uint8_t *bounce)
{
	uint64_t start = block * STORE_BLOCK_BYTES;
	uint64_t from = fio->io->offset_bytes > start ? fio->io->offset_bytes : start;
	uint64_t to = store_min(io_end_bytes(fio->io), start + STORE_BLOCK_BYTES);

	if (block == fio->block_end) {
		iov_clear(fio, 0);
	} else if (copy) {
		iov_clear(fio, start);
		iov_add_merged(fio, block, bounce);
	} else {
		iov_clear(fio, from);
		iov_add(fio, zeros, to - from);
	}
}

/* The next of a discard's whole blocks as zeros. */
static void build_zeros(struct file_io *fio)
{
	uint64_t left = (fio->whole_end - fio->whole_first) * STORE_BLOCK_BYTES;

	iov_clear(fio, fio->whole_first * STORE_BLOCK_BYTES);
	for (unsigned i = 0; i < ARRAY_COUNT(fio->iov) && left > 0; i++) {
		uint64_t bytes = store_min(left, sizeof(zeros));

		iov_add(fio, zeros, bytes);
		fio->whole_first += bytes / STORE_BLOCK_BYTES;
		left -= bytes;
	}
}

/* A write, punch or sync says that it could not be done now. */
static bool is_transient(int res)
{
	return res == -EINTR || res == -EAGAIN;
}

static void write_done(struct ring_op *op, int res)
{
	struct file_io *fio = CONTAINER_OF(op, struct file_io, op);

	if (store_is_no_space(res)) {
		space_wait(fio);
		return;
	}
	if (res == 0)
		res = -EIO;
	if (res < 0 && !is_transient(res)) {
		io_end(fio, res);
		return;
	}
	while (res > 0) {
		struct iovec *iov = &fio->iov[fio->iov_first];
		size_t bytes = (size_t)store_min((uint64_t)res, iov->iov_len);

		iov->iov_base = (uint8_t *)iov->iov_base + bytes;
		iov->iov_len -= bytes;
		fio->offset += bytes;
		res -= (int)bytes;
		if (iov->iov_len == 0)
			fio->iov_first++;
	}
	io_advance(fio);
}

/* Whether there is something to write; write_done goes on from there. */
static bool write_start(struct file_io *fio)
{
	if (fio->iov_first == fio->iov_count)
		return false;
	fio->op.done = write_done;
	ring_writev(fio->d->ring, &fio->op, disk_top(fio->d)->fd, &fio->iov[fio->iov_first],
		    fio->iov_count - fio->iov_first, fio->offset);
	return true;
}

static void punch_done(struct ring_op *op, int res)
{
	struct file_io *fio = CONTAINER_OF(op, struct file_io, op);

	if (store_is_no_space(res)) {
		space_wait(fio);
		return;
	}
	if (res == -EOPNOTSUPP || res == -ENOSYS) {
		fio->d->no_punch = true;
		fio->step = IO_BUILD_ZEROS;
	} else if (res == 0) {
		fio->step = IO_MARK;
	} else if (!is_transient(res)) {
		io_end(fio, res);
		return;
	}
	io_advance(fio);
}

static void punch_start(struct file_io *fio)
{
	const struct level *top = disk_top(fio->d);

	fio->op.done = punch_done;
	ring_fallocate(fio->d->ring, &fio->op, top->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       top->data_offset + fio->whole_first * STORE_BLOCK_BYTES,
		       (fio->whole_end - fio->whole_first) * STORE_BLOCK_BYTES);
}

/* The data is in the page cache: now the bits. */
static void write_mark(struct file_io *fio)
{
	struct file_disk *d = fio->d;
	struct map *map = &disk_top(d)->map;
	uint64_t added = 0;

	if (fio->io->op == STORE_WRITE) {
		added = map_set(map, fio->block_first, fio->block_end - fio->block_first);
	} else {
		uint64_t first, end;

		write_edges(fio); /* written zeros have moved whole_first */
		first = fio->whole_first;
		end = store_min(fio->whole_end, parent_blocks(d));
		if (fio->head_block < fio->block_end)
			added += map_set(map, fio->head_block, 1);
		if (fio->tail_block < fio->block_end)
			added += map_set(map, fio->tail_block, 1);
		if (first < end)
			added += map_set(map, first, end - first);
	}
	d->generation++;
	if (fio->had_no_space || (added > 0 && fio->io->op == STORE_WRITE))
		disk_space_again(d);
}

static void write_finish(struct file_io *fio)
{
	struct file_disk *d = fio->d;

	write_mark(fio);
	range_leave(fio);
	if (d->write_through || (fio->io->fua && !d->scratch))
		flush_join(fio);
	else
		io_finish(fio, 0);
	ranges_grant(d);
}

static bool copy_up(struct file_io *fio, bool wanted, uint64_t block, uint8_t *bounce)
{
	if (!wanted)
		return false;
	read_start(fio, fio->d->level_count - 1, block * STORE_BLOCK_BYTES, STORE_BLOCK_BYTES, bounce);
	return true;
}

/* A write or discard goes on until it has to wait. What makes it go on again calls this. */
static void io_advance(struct file_io *fio)
{
	bool discard = fio->io->op == STORE_DISCARD;
	int r;

	for (;;) {
		switch (fio->step) {
		case IO_PREPARE:
			r = fio->d->failed ? -EIO : write_plan(fio);
			if (store_is_no_space(r)) {
				space_wait(fio);
				return;
			}
			if (r < 0) {
				io_end(fio, r);
				return;
			}
			break;
		case IO_READ_HEAD:
			fio->step = IO_READ_TAIL;
			if (copy_up(fio, fio->head_copy, fio->head_block, fio->bounce))
				return;
			continue;
		case IO_READ_TAIL:
			fio->step = IO_BUILD_FIRST;
			if (copy_up(fio, fio->tail_copy, fio->tail_block,
				    fio->bounce ? fio->bounce + STORE_BLOCK_BYTES : NULL))
				return;
			continue;
		case IO_BUILD_FIRST:
			if (discard)
				build_part(fio, fio->head_block, fio->head_copy, fio->bounce);
			else
				build_write(fio);
			break;
		case IO_WRITE_FIRST:
			if (write_start(fio))
				return;
			if (!discard) {
				fio->step = IO_MARK;
				continue;
			}
			break;
		case IO_BUILD_SECOND:
			build_part(fio, fio->tail_block, fio->tail_copy,
				   fio->bounce ? fio->bounce + STORE_BLOCK_BYTES : NULL);
			break;
		case IO_WRITE_SECOND:
			if (write_start(fio))
				return;
			break;
		case IO_PUNCH:
			if (fio->whole_first >= fio->whole_end) {
				fio->step = IO_MARK;
				continue;
			}
			if (!fio->d->no_punch) {
				punch_start(fio);
				return;
			}
			break;
		case IO_BUILD_ZEROS: build_zeros(fio); break;
		case IO_WRITE_ZEROS:
			if (write_start(fio))
				return;
			if (fio->whole_first < fio->whole_end) {
				fio->step = IO_BUILD_ZEROS;
				continue;
			}
			break;
		case IO_MARK: write_finish(fio); return;
		}
		fio->step++;
	}
}

/* --- the seam --- */

static void count(struct store_stats *stats, const struct store_io *io)
{
	switch (io->op) {
	case STORE_READ:
		stats->reads++;
		stats->read_bytes += io->length_bytes;
		break;
	case STORE_WRITE:
		stats->writes++;
		stats->written_bytes += io->length_bytes;
		break;
	case STORE_DISCARD:
		stats->discards++;
		stats->discarded_bytes += io->length_bytes;
		break;
	case STORE_FLUSH: stats->flushes++; break;
	}
}

/* What needs no work ends at once: 0 or -errno; 1 if there is work. */
static int submit_check(const struct file_disk *d, const struct store_io *io)
{
	if (io->op == STORE_READ)
		return 1;
	if (d->disk.read_only)
		return io->op == STORE_FLUSH ? 0 : -EROFS;
	if (d->failed)
		return -EIO;
	return io->op == STORE_FLUSH && d->scratch ? 0 : 1;
}

static void submit(struct store_disk *disk, struct store_io *io)
{
	struct file_disk *d = disk_of(disk);
	struct file_io *fio = NULL;
	int r;

	ASSERT_RING_THREAD(d->ring);
	if (io->op != STORE_FLUSH) {
		assert(io->length_bytes > 0 && io->length_bytes % STORE_SECTOR_BYTES == 0);
		assert(io->offset_bytes % STORE_SECTOR_BYTES == 0);
		assert(io->offset_bytes <= disk->size_bytes);
		assert(io->length_bytes <= disk->size_bytes - io->offset_bytes);
		assert(io->op == STORE_DISCARD || io->length_bytes <= TRANSFER_BYTES);
	}
	count(&d->stats, io);
	d->in_flight++;
	r = submit_check(d, io);
	if (r == 1) {
		fio = io_new(d, io);
		if (!fio)
			r = -ENOMEM;
	}
	if (!fio) {
		io_finish_later(d, io, r);
		return;
	}
	io->priv = fio;
	switch (io->op) {
	case STORE_READ:
		read_start(fio, d->level_count, io->offset_bytes, io->length_bytes, io->data);
		break;
	case STORE_WRITE:
	case STORE_DISCARD:
		fio->step = IO_PREPARE;
		fio->block_first = io->offset_bytes / STORE_BLOCK_BYTES;
		fio->block_end = store_blocks(io_end_bytes(io));
		range_enter(fio);
		break;
	case STORE_FLUSH: flush_join(fio); break;
	}
}

static void cancel(struct store_disk *disk, struct store_io *io)
{
	struct file_disk *d = disk_of(disk);
	struct file_io *fio = io->priv;

	ASSERT_RING_THREAD(d->ring);
	/* Ended already, and waits for its done. */
	if ((uintptr_t)io->priv & 1)
		return;
	assert(fio && fio->io == io);
	if (!fio->in_ranges || (fio->granted && !fio->waits_space))
		return;
	list_remove(&fio->wait);
	io_end(fio, -ECANCELED);
}

/* Whether the file has data at `offset`, and up to where, at most `end`, that is so. */
static int file_extent(const struct level *level, uint64_t offset, uint64_t end, bool *ret_mapped,
		       uint64_t *ret_end)
{
	uint64_t block_start = offset / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
	uint64_t base = level->data_offset;
	off_t data = lseek(level->fd, (off_t)(base + block_start), SEEK_DATA), hole;

	if (data < 0 && errno != ENXIO)
		return -errno;
	/* A block counts as data if any part of it is. */
	if (data < 0 ||
	    ((uint64_t)data - base) / STORE_BLOCK_BYTES > block_start / STORE_BLOCK_BYTES) {
		*ret_mapped = false;
		*ret_end = data < 0 ? end
				    : store_min(end, ((uint64_t)data - base) / STORE_BLOCK_BYTES *
							     STORE_BLOCK_BYTES);
		return 0;
	}
	hole = lseek(level->fd, data, SEEK_HOLE);
	if (hole < 0)
		return -errno;
	*ret_mapped = true;
	*ret_end = store_min(end, store_blocks((uint64_t)hole - base) * STORE_BLOCK_BYTES);
	return 0;
}

static int extent(struct store_disk *disk, uint64_t offset_bytes, uint64_t length_bytes,
		  bool *ret_mapped, uint64_t *ret_bytes)
{
	struct file_disk *d = disk_of(disk);
	uint64_t block = offset_bytes / STORE_BLOCK_BYTES, end = offset_bytes + length_bytes, blocks;
	const struct level *level;
	bool mapped = false;
	int r = 0;

	assert(length_bytes > 0 && end <= disk->size_bytes);
	level = chain_run(d, d->level_count, block, store_blocks(end) - block, &blocks);
	end = store_min(end, (block + blocks) * STORE_BLOCK_BYTES);
	if (level)
		r = file_extent(level, offset_bytes, end, &mapped, &end);
	if (r < 0)
		return r;
	assert(end > offset_bytes);
	*ret_mapped = mapped;
	*ret_bytes = end - offset_bytes;
	return 0;
}

static void stats(struct store_disk *disk, struct store_stats *ret_stats)
{
	struct file_disk *d = disk_of(disk);
	const struct level *top = disk_top(d);

	*ret_stats = d->stats;
	ret_stats->owned_blocks = top->image ? 0 : top->map.owned_blocks;
	ret_stats->failed = d->failed;
	ret_stats->no_space = !list_empty(&d->space) || d->flush.waits_space ||
			      (d->no_space && d->ring &&
			       ring_now_ms(d->ring) < d->no_space_ms + NO_SPACE_SHOW_MS);
}

/* --- life --- */

static void detach_flushed(struct store_io *io, int res)
{
	struct file_disk *d = CONTAINER_OF(io, struct file_disk, detach_io);

	assert(d->in_flight == 0);
	ring_timer_cancel(d->ring, &d->space_timer);
	/* All bits are on disk. If not, the live map still has them for the next opening. */
	if (res == 0 && !disk_top(d)->image)
		map_live_remove(&disk_top(d)->map);
	d->closed(d->closed_arg, res);
}

static void detach(struct store_disk *disk, void (*closed)(void *arg, int res), void *arg)
{
	struct file_disk *d = disk_of(disk);
	struct file_io *fio;

	ASSERT_RING_THREAD(d->ring);
	assert(d->in_flight == 0 && !d->closed);
	d->closed = closed;
	d->closed_arg = arg;
	d->detach_io = (struct store_io){.op = STORE_FLUSH, .done = detach_flushed};
	d->in_flight++;
	/* Of a scratch disk too: a restart of the program is no reset. */
	fio = disk->read_only || d->failed ? NULL : io_new(d, &d->detach_io);
	if (!fio) {
		io_finish_later(d, &d->detach_io,
				disk->read_only ? 0 : d->failed ? -EIO : -ENOMEM);
		return;
	}
	d->detach_io.priv = fio;
	flush_join(fio);
}

static void level_done(struct level *level)
{
	if (!level->image)
		map_done(&level->map);
	if (level->fd >= 0)
		close(level->fd);
	free(level->path);
}

static void disk_free(struct store_disk *disk)
{
	struct file_disk *d = disk_of(disk);

	assert(d->in_flight == 0);
	file_disk_free(d);
}

void store_disk_abandon(struct store_disk *disk)
{
	file_disk_free(disk_of(disk));
}

const struct store_disk_ops file_disk_ops = {
	.submit = submit,
	.cancel = cancel,
	.extent = extent,
	.stats = stats,
	.detach = detach,
	.free = disk_free,
};

struct file_disk *file_disk_new(void)
{
	struct file_disk *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->disk.ops = &file_disk_ops;
	list_init(&d->all);
	list_init(&d->free);
	list_init(&d->ranges);
	list_init(&d->finished);
	list_init(&d->space);
	ring_task_init(&d->finish, finish_run);
	ring_timer_init(&d->space_timer, space_retry);
	flush_init(d);
	/* What a killed predecessor wrote may not be durable. */
	d->generation = 1;
	return d;
}

int file_disk_attach(struct file_disk *d, struct ring *ring)
{
	assert(!d->ring);
	d->ring = ring;
	return 0;
}

void file_disk_free(struct file_disk *d)
{
	if (!d)
		return;
	list_for_each (at, &d->all)
		io_free(LIST_ENTRY(at, struct file_io, all));
	flush_done(d);
	for (unsigned i = 0; i < d->level_count; i++)
		level_done(&d->levels[i]);
	free(d);
}

int store_attach(struct store_disk *disk, struct ring *ring)
{
	ASSERT_RING_THREAD(ring);
	if (disk->ops == &mem_disk_ops)
		return mem_attach(disk, ring);
	assert(disk->ops == &file_disk_ops);
	return file_disk_attach(disk_of(disk), ring);
}
