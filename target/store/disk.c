/*
 * The disk over a chain of files: reads cut into runs of one owner, writes and discards into the
 * top layer, copying up what is smaller than a block.
 *
 * Order of a write: its data reaches the page cache; its bits are set in the live map; it is
 * acknowledged. So after the process dies nothing acknowledged is missing, and after a power loss
 * a block whose bit was not flushed belongs to its parent as before (map.c, flush.c).
 *
 * Writes and discards lock the blocks they touch; one that overlaps an earlier one waits for it.
 * Otherwise the merge of a part of a block with the parent's content could undo a whole-block
 * write beside it. Reads lock nothing: between two states of a block either may be seen until the
 * write is acknowledged.
 *
 * Without space on the file system a write waits, holding its lock, and tries again; after
 * STORE_SPACE_WAIT_MS it ends with -ENOSPC, so that the initiator hears BUSY in time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "store/store_internal.h"

#define SPACE_RETRY_MS 500
#define SPACE_QUIET_MS 2000 /* nothing that waits would have been quiet for so long */
#define SPARE_MAX      16   /* a quiet disk keeps no more than this */
#define ZERO_BYTES     65536u

static const uint8_t zeros[ZERO_BYTES];

static struct file_disk *file_disk(struct store_disk *disk)
{
	return CONTAINER_OF(disk, struct file_disk, disk);
}

static void write_step(struct file_io *f);
static void write_retry(struct file_io *f);

/* --- commands in flight --- */

static void finish_run(struct ring_task *task);
static void op_done(struct ring_op *op, int res);
static void run_done(struct ring_op *op, int res);

struct file_io *file_io_get(struct file_disk *disk, struct store_io *io)
{
	struct file_io *f = LIST_FIRST(&disk->spare, struct file_io, node);

	if (f) {
		list_remove(&f->node);
		list_remove(&f->all);
		disk->spare_count--;
	} else {
		f = malloc(sizeof(*f));
		if (!f)
			return NULL;
	}
	memset(f, 0, sizeof(*f));
	list_init(&f->node);
	list_append(&disk->all, &f->all);
	f->disk = disk;
	f->io = io;
	f->submitted_ms = ring_now_ms(disk->ring);
	f->op.done = op_done;
	for (unsigned i = 0; i < FILE_RUNS; i++) {
		f->runs[i].op.done = run_done;
		f->runs[i].io = f;
	}
	ring_task_init(&f->finish, finish_run);
	io->priv = f;
	return f;
}

static void file_io_put(struct file_io *f)
{
	struct file_disk *disk = f->disk;

	assert(list_empty(&f->node));
	free(f->bounce);
	f->bounce = NULL;
	if (disk->spare_count == SPARE_MAX) {
		list_remove(&f->all);
		free(f);
		return;
	}
	list_append(&disk->spare, &f->node);
	disk->spare_count++;
}

static bool overlaps(const struct file_io *a, const struct file_io *b)
{
	return a->first_block <= b->last_block && b->first_block <= a->last_block;
}

static bool must_wait(struct file_disk *disk, const struct file_io *f)
{
	if (MUTANT(overlap_unordered) ||
	    (MUTANT(merge_unlocked) && f->io->offset_bytes % STORE_BLOCK_BYTES))
		return false;
	list_for_each (n, &disk->active) {
		if (overlaps(LIST_ENTRY(n, struct file_io, node), f))
			return true;
	}
	/* First come, first served: also behind those that wait themselves. */
	list_for_each (n, &disk->waiting) {
		const struct file_io *other = LIST_ENTRY(n, struct file_io, node);

		if (other == f || MUTANT(waiting_overtaken))
			break;
		if (overlaps(other, f))
			return true;
	}
	return false;
}

static void lock_and_start(struct file_io *f)
{
	struct file_disk *disk = f->disk;

	list_remove(&f->node);
	list_append(&disk->active, &f->node);
	f->locked = true;
	write_retry(f);
}

static void unlock(struct file_io *f)
{
	struct file_disk *disk = f->disk;

	if (!f->locked)
		return;
	f->locked = false;
	list_remove(&f->node);
	list_for_each (n, &disk->waiting) {
		struct file_io *next = LIST_ENTRY(n, struct file_io, node);

		if (!must_wait(disk, next))
			lock_and_start(next);
	}
}

/* The end of every command, from the loop. */
static void finish_run(struct ring_task *task)
{
	struct file_io *f = CONTAINER_OF(task, struct file_io, finish);
	struct store_io *io = f->io;
	int res = f->res;

	unlock(f);
	io->priv = NULL;
	file_io_put(f);
	io->done(io, res);
}

void file_io_finish_later(struct file_io *f, int res)
{
	f->res = res;
	f->step = STEP_DONE;
	ring_defer(f->disk->ring, &f->finish);
}

void file_disk_fail(struct file_disk *disk, const char *what, int error)
{
	if (disk->failed)
		return;
	log_error("%s: %s failed: %s; what it has written is neither given out nor added to from "
		  "now on, because it is not known what of it is on the medium; mend the file "
		  "system and restart lunrootd",
		  disk->name, what, strerror(-error));
	disk->failed = true;
	if (!MUTANT(failed_sync_believed_later))
		map_distrust(&disk->map);
}

/* --- who owns what --- */

static uint64_t blocks_of(uint64_t bytes)
{
	return bytes / STORE_BLOCK_BYTES + (bytes % STORE_BLOCK_BYTES != 0);
}

static struct file_owner zeros_of(int layer, uint64_t bytes)
{
	return (struct file_owner){.fd = -1, .layer = layer, .bytes = bytes};
}

struct file_owner file_find_owner(const struct file_disk *disk, unsigned layer_count, uint64_t at,
				  uint64_t bytes)
{
	uint64_t block = at / STORE_BLOCK_BYTES, limit = blocks_of(at + bytes) - block, end;

	for (unsigned i = layer_count; i-- > 0;) {
		const struct file_layer *layer = &disk->layers[i];
		bool owned = false;

		/* Beyond a layer's end there are only zeros, whatever it stands on; the end may lie
		 * within a block. */
		if (at >= layer->size_bytes)
			return zeros_of((int)i, bytes);
		if (bytes > layer->size_bytes - at)
			bytes = layer->size_bytes - at;
		limit = layer->sealed ? sealed_map_run(layer->sealed, block, limit, &owned)
				      : map_run(&disk->map, block, limit, &owned);
		end = (block + limit) * STORE_BLOCK_BYTES - at;
		if (bytes > end)
			bytes = end;
		if (owned)
			return (struct file_owner){layer->fd, (int)i, layer->data_offset + at,
						   bytes};
	}
	if (disk->image_fd < 0 || at >= disk->image_bytes)
		return zeros_of(OWNER_NONE, bytes);
	if (bytes > disk->image_bytes - at)
		bytes = disk->image_bytes - at;
	return (struct file_owner){disk->image_fd, OWNER_IMAGE, at, bytes};
}

/* Shortens what an owner has, from the beginning of a block on, to the blocks of the same kind. */
int file_data_run(struct file_owner *owner, bool *ret_data)
{
	uint64_t until;
	off_t data, hole;

	*ret_data = false;
	if (owner->fd < 0)
		return 0;
	assert(owner->offset % STORE_BLOCK_BYTES == 0);
	data = lseek(owner->fd, (off_t)owner->offset, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? 0 : -errno;
	until = (uint64_t)data / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
	if (until == owner->offset) {
		hole = lseek(owner->fd, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		*ret_data = true;
		until = blocks_of((uint64_t)hole) * STORE_BLOCK_BYTES;
	}
	if (owner->bytes > until - owner->offset)
		owner->bytes = until - owner->offset;
	return 0;
}

/* --- reads --- */

static void run_start(struct file_run *run)
{
	ring_read(run->io->disk->ring, &run->op, run->fd, run->data, run->bytes, run->offset);
}

/* Starts as many runs as there is room for; zeros are filled in at once. */
static void read_go_on(struct file_io *f)
{
	struct file_disk *disk = f->disk;
	struct store_io *io = f->io;

	while (f->position < io->length_bytes && f->runs_busy < FILE_RUNS && f->res == 0) {
		uint8_t *data = (uint8_t *)io->data + f->position;
		struct file_owner owner =
			file_find_owner(disk, disk->layer_count, io->offset_bytes + f->position,
					io->length_bytes - f->position);
		struct file_run *run = f->runs;

		f->position += owner.bytes;
		if (owner.fd < 0) {
			memset(data, 0, owner.bytes);
			continue;
		}
		while (run->busy)
			run++;
		run->busy = true;
		run->fd = owner.fd;
		run->data = data;
		run->offset = owner.offset;
		run->bytes = owner.bytes;
		f->runs_busy++;
		run_start(run);
	}
	if (f->runs_busy == 0)
		file_io_finish_later(f, f->res);
}

static void read_failed(struct file_io *f, int error)
{
	log_error("%s: reading %llu bytes at %llu failed: %s", f->disk->name,
		  (unsigned long long)f->io->length_bytes, (unsigned long long)f->io->offset_bytes,
		  strerror(-error));
	f->res = error;
}

/* The lowest of all places where it failed is the one that counts. */
static void run_failed(struct file_run *run, int error)
{
	struct file_io *f = run->io;
	uint64_t good_bytes = (uint64_t)(run->data - (uint8_t *)f->io->data);

	if (f->res == 0 || good_bytes < f->io->good_bytes)
		f->io->good_bytes = good_bytes;
	read_failed(f, error);
}

static void run_done(struct ring_op *op, int res)
{
	struct file_run *run = CONTAINER_OF(op, struct file_run, op);
	struct file_io *f = run->io;

	if (res == -EINTR || res == -EAGAIN) {
		run_start(run);
		return;
	}
	/* The page cache may have dropped what was written. */
	if (f->disk->failed && run->fd == file_top(f->disk)->fd)
		res = -EIO;
	if (res > 0 && (uint64_t)res < run->bytes) {
		run->data += res;
		run->offset += (uint64_t)res;
		run->bytes -= (uint64_t)res;
		run_start(run);
		return;
	}
	if (res <= 0)
		run_failed(run, res < 0 ? res : -EIO);
	run->busy = false;
	f->runs_busy--;
	read_go_on(f);
}

/* --- writes and discards --- */

static uint64_t io_end(const struct file_io *f)
{
	return f->io->offset_bytes + f->io->length_bytes;
}

/* The part of the command that lies in the block. */
static void part_of_block(const struct file_io *f, uint64_t block, uint64_t *ret_begin,
			  uint64_t *ret_end)
{
	uint64_t begin = block * STORE_BLOCK_BYTES, end = begin + STORE_BLOCK_BYTES;

	*ret_begin = begin > f->io->offset_bytes ? begin : f->io->offset_bytes;
	*ret_end = end < io_end(f) ? end : io_end(f);
}

static bool is_partial(const struct file_io *f, uint64_t block)
{
	uint64_t begin, end;

	part_of_block(f, block, &begin, &end);
	return end - begin < STORE_BLOCK_BYTES;
}

bool file_disk_no_space(struct file_disk *disk)
{
	if (!disk->stats.no_space)
		log_error("%s: the file system is full: the node's writes wait; free space, and "
			  "they go "
			  "on by themselves",
			  disk->name);
	disk->stats.no_space = true;
	disk->no_space_ms = ring_now_ms(disk->ring);
	return disk->space_timer.armed ||
	       ring_timer_arm(disk->ring, &disk->space_timer, SPACE_RETRY_MS) == 0;
}

/* Waits for space; the lock is kept, so what overlaps waits too. */
static void space_wait(struct file_io *f)
{
	struct file_disk *disk = f->disk;
	uint64_t now_ms = ring_now_ms(disk->ring);

	f->space_since_ms = now_ms;
	f->holds_space = file_disk_no_space(disk) && now_ms - f->submitted_ms < STORE_SPACE_WAIT_MS;
	if (!f->holds_space)
		file_io_finish_later(f, -ENOSPC);
}

/* What waits behind a write that waits for space must not wait longer than that one. */
static void waiting_give_up(struct file_disk *disk)
{
	uint64_t now_ms = ring_now_ms(disk->ring);

	list_for_each (n, &disk->waiting) {
		struct file_io *f = LIST_ENTRY(n, struct file_io, node);

		if (now_ms - f->submitted_ms >= STORE_SPACE_WAIT_MS) {
			list_remove(&f->node);
			file_io_finish_later(f, -ENOSPC);
		}
	}
}

static void space_retry(struct ring_timer *timer)
{
	struct file_disk *disk = CONTAINER_OF(timer, struct file_disk, space_timer);

	list_for_each (n, &disk->active) {
		struct file_io *f = LIST_ENTRY(n, struct file_io, node);

		if (f->holds_space) {
			f->holds_space = false;
			write_retry(f);
		}
	}
	waiting_give_up(disk);
	flush_retry(disk);
}

void file_disk_succeeded(struct file_disk *disk, bool needed_space)
{
	if (!disk->stats.no_space ||
	    (!needed_space && ring_now_ms(disk->ring) - disk->no_space_ms < SPACE_QUIET_MS))
		return;
	log_info("%s: there is space again; writes go on", disk->name);
	disk->stats.no_space = false;
}

static void write_failed(struct file_io *f, int error)
{
	if (error == -ENOSPC || error == -EDQUOT) {
		space_wait(f);
		return;
	}
	log_error("%s: writing %llu bytes at %llu failed: %s", f->disk->name,
		  (unsigned long long)f->io->length_bytes, (unsigned long long)f->io->offset_bytes,
		  strerror(-error));
	file_io_finish_later(f, error == -ENOMEM ? -ENOMEM : -EIO);
}

static void op_write(struct file_io *f, const void *data, uint64_t bytes, uint64_t disk_offset)
{
	f->op_data = data;
	f->op_bytes = bytes;
	f->op_offset = file_top(f->disk)->data_offset + disk_offset;
	ring_write(f->disk->ring, &f->op, file_top(f->disk)->fd, f->op_data, f->op_bytes,
		   f->op_offset);
}

/* The next of a long row of zeros, where no hole can be punched. */
static void op_zeros(struct file_io *f, uint64_t disk_offset, uint64_t end)
{
	uint64_t bytes = end - disk_offset < ZERO_BYTES ? end - disk_offset : ZERO_BYTES;

	f->zeroing = true;
	op_write(f, zeros, bytes, disk_offset);
}

/* Puts the command's part over the block's old content and writes the block whole. */
static void merged_write(struct file_io *f, uint64_t block)
{
	uint64_t begin, end;
	uint8_t *at;

	part_of_block(f, block, &begin, &end);
	at = f->bounce + begin % STORE_BLOCK_BYTES;
	if (f->io->op == STORE_WRITE)
		memcpy(at, (const uint8_t *)f->io->data + (begin - f->io->offset_bytes),
		       end - begin);
	else
		memset(at, 0, end - begin);
	f->disk->stats.copy_ups++;
	f->merging = false;
	op_write(f, f->bounce, STORE_BLOCK_BYTES, block * STORE_BLOCK_BYTES);
}

/* What is still missing of the old content of the block. */
static void merge_read(struct file_io *f)
{
	ring_read(f->disk->ring, &f->op, f->op_fd, f->bounce + (f->merge_bytes - f->op_bytes),
		  f->op_bytes, f->op_offset);
}

/* A block of which only a part is written: alone if the layer owns it, else merged. */
static void partial_start(struct file_io *f, uint64_t block)
{
	struct file_disk *disk = f->disk;
	struct file_owner owner;
	uint64_t begin, end;

	part_of_block(f, block, &begin, &end);
	if (map_owns(&disk->map, block)) {
		op_write(f,
			 f->io->op == STORE_WRITE
				 ? (const uint8_t *)f->io->data + (begin - f->io->offset_bytes)
				 : zeros,
			 end - begin, begin);
		return;
	}
	if (!f->bounce)
		f->bounce = malloc(STORE_BLOCK_BYTES);
	if (!f->bounce) {
		file_io_finish_later(f, -ENOMEM);
		return;
	}
	/* One owner: if it ends within the block, only zeros follow. */
	owner = file_find_owner(disk, disk->layer_count - 1, block * STORE_BLOCK_BYTES,
				STORE_BLOCK_BYTES);
	memset(f->bounce, 0, STORE_BLOCK_BYTES);
	if (owner.fd < 0) {
		merged_write(f, block);
		return;
	}
	f->merging = true;
	f->op_bytes = f->merge_bytes = owner.bytes;
	f->op_offset = owner.offset;
	f->op_fd = owner.fd;
	merge_read(f);
}

/* Blocks that are written whole. */
static void middle_range(const struct file_io *f, uint64_t *ret_begin, uint64_t *ret_end)
{
	uint64_t first = f->first_block + (is_partial(f, f->first_block) ? 1 : 0);
	uint64_t last = f->last_block + 1;

	if (last > first && f->last_block != f->first_block && is_partial(f, f->last_block))
		last--;
	*ret_begin = first * STORE_BLOCK_BYTES;
	*ret_end = last > first ? last * STORE_BLOCK_BYTES : *ret_begin;
}

static void middle_start(struct file_io *f, uint64_t begin, uint64_t end)
{
	struct file_disk *disk = f->disk;
	struct file_layer *top = file_top(disk);

	if (f->io->op == STORE_WRITE) {
		op_write(f, (const uint8_t *)f->io->data + (begin - f->io->offset_bytes),
			 end - begin, begin);
	} else if (disk->punch_unsupported) {
		op_zeros(f, begin, end);
	} else {
		f->op_bytes = 0;
		ring_fallocate(disk->ring, &f->op, top->fd,
			       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, top->data_offset + begin,
			       end - begin);
	}
}

static void write_complete(struct file_io *f)
{
	struct file_disk *disk = f->disk;
	uint64_t owned = disk->map.owned_count;

	if (!MUTANT(bit_missing) && !(MUTANT(discard_bit_missing) && f->io->op == STORE_DISCARD))
		map_set(&disk->map, f->first_block, f->last_block - f->first_block + 1);
	if (!MUTANT(write_not_dirty))
		disk->flush.data_dirty = true;
	file_disk_succeeded(disk, f->space_since_ms != 0 || (f->io->op == STORE_WRITE &&
							     disk->map.owned_count > owned));
	if (f->io->op == STORE_WRITE)
		disk->stats.written_bytes += f->io->length_bytes;
	else
		disk->stats.discarded_bytes += f->io->length_bytes;
	if ((f->io->fua && !disk->scratch && !MUTANT(fua_unflushed)) ||
	    (disk->write_through && !MUTANT(write_through_unflushed))) {
		f->step = STEP_DURABLE;
		unlock(f);
		flush_request(disk, f);
		return;
	}
	file_io_finish_later(f, 0);
}

/* Starts what the present step needs, skipping steps that have nothing to do. */
static void write_step(struct file_io *f)
{
	uint64_t begin, end;

	switch (f->step) {
	case STEP_HEAD:
		if (is_partial(f, f->first_block)) {
			partial_start(f, f->first_block);
			return;
		}
		f->step = STEP_MIDDLE;
		__attribute__((fallthrough));
	case STEP_MIDDLE:
		middle_range(f, &begin, &end);
		if (end > begin) {
			middle_start(f, begin, end);
			return;
		}
		f->step = STEP_TAIL;
		__attribute__((fallthrough));
	case STEP_TAIL:
		if (f->last_block != f->first_block && is_partial(f, f->last_block)) {
			partial_start(f, f->last_block);
			return;
		}
		write_complete(f);
		return;
	case STEP_DURABLE:
	case STEP_DONE: return;
	}
}

/* From the beginning, at first and after space came back: writing twice does no harm. */
static void write_retry(struct file_io *f)
{
	int r;

	if (f->disk->failed) {
		file_io_finish_later(f, -EIO);
		return;
	}
	r = map_reserve(&f->disk->map, f->first_block, f->last_block - f->first_block + 1);
	if (r < 0) {
		write_failed(f, r);
		return;
	}
	if (MUTANT(bit_before_data))
		map_set(&f->disk->map, f->first_block, f->last_block - f->first_block + 1);
	f->step = STEP_HEAD;
	f->merging = f->zeroing = false;
	write_step(f);
}

static uint64_t step_block(const struct file_io *f)
{
	return f->step == STEP_HEAD ? f->first_block : f->last_block;
}

/* The step's last operation is done: on to the next step. */
static void step_done(struct file_io *f)
{
	uint64_t begin, end;

	if (f->zeroing) {
		uint64_t at = f->op_offset + f->op_bytes - file_top(f->disk)->data_offset;

		middle_range(f, &begin, &end);
		if (at < end) {
			op_zeros(f, at, end);
			return;
		}
		f->zeroing = false;
	}
	if (f->step == STEP_TAIL) {
		write_complete(f);
		return;
	}
	f->step = f->step == STEP_HEAD ? STEP_MIDDLE : STEP_TAIL;
	write_step(f);
}

static void merge_read_done(struct file_io *f, int res)
{
	if (res <= 0) {
		read_failed(f, res < 0 ? res : -EIO);
		file_io_finish_later(f, -EIO);
		return;
	}
	f->op_offset += (uint64_t)res;
	f->op_bytes -= (uint64_t)res;
	if (f->op_bytes == 0)
		merged_write(f, step_block(f));
	else
		merge_read(f);
}

/* Maybe not the first: several discards may have been under way. */
static void punch_refused(struct file_io *f)
{
	if (!f->disk->punch_unsupported)
		log_warn("%s: the file system can't punch holes: discards write zeros and free "
			 "nothing",
			 f->disk->name);
	f->disk->punch_unsupported = true;
	write_retry(f);
}

static void op_done(struct ring_op *op, int res)
{
	struct file_io *f = CONTAINER_OF(op, struct file_io, op);
	struct file_disk *disk = f->disk;

	if (res == -EINTR || res == -EAGAIN) {
		write_retry(f);
	} else if (f->merging) {
		merge_read_done(f, res);
	} else if (res == -EOPNOTSUPP && f->step == STEP_MIDDLE && !f->zeroing &&
		   f->io->op == STORE_DISCARD) {
		punch_refused(f);
	} else if (res < 0) {
		write_failed(f, res);
	} else if ((uint64_t)res < f->op_bytes && !MUTANT(short_write_accepted)) {
		if (res == 0) {
			write_failed(f, -ENOSPC);
			return;
		}
		f->op_data += res;
		f->op_offset += (uint64_t)res;
		f->op_bytes -= (uint64_t)res;
		ring_write(disk->ring, &f->op, file_top(disk)->fd, f->op_data, f->op_bytes,
			   f->op_offset);
	} else {
		step_done(f);
	}
}

/* --- the seam --- */

static void submit_write(struct file_disk *disk, struct file_io *f)
{
	const struct store_io *io = f->io;

	if (disk->disk.read_only || disk->failed) {
		file_io_finish_later(f, disk->disk.read_only ? -EROFS : -EIO);
		return;
	}
	if (io->op == STORE_WRITE)
		disk->stats.writes++;
	else
		disk->stats.discards++;
	f->first_block = io->offset_bytes / STORE_BLOCK_BYTES;
	f->last_block = (io->offset_bytes + io->length_bytes - 1) / STORE_BLOCK_BYTES;
	/* Others may have been written over it since. */
	if (io->written && !MUTANT(written_again)) {
		f->step = STEP_DURABLE;
		flush_request(disk, f);
		return;
	}
	list_append(&disk->waiting, &f->node);
	if (!must_wait(disk, f))
		lock_and_start(f);
}

/* Commands for which there was no memory. */
static void starve_run(struct ring_task *task)
{
	struct file_disk *disk = CONTAINER_OF(task, struct file_disk, starve);

	while (!list_empty(&disk->starved)) {
		struct store_io *io = LIST_ENTRY(disk->starved.next, struct store_io, node);

		list_remove(&io->node);
		io->done(io, -ENOMEM);
	}
}

static void file_submit(struct store_disk *sd, struct store_io *io)
{
	struct file_disk *disk = file_disk(sd);
	struct file_io *f;

	ASSERT_RING_THREAD(disk->ring);
	assert(io->op == STORE_FLUSH ||
	       (io->length_bytes > 0 && io->offset_bytes % STORE_SECTOR_BYTES == 0 &&
		io->length_bytes % STORE_SECTOR_BYTES == 0 && io->offset_bytes <= sd->size_bytes &&
		io->length_bytes <= sd->size_bytes - io->offset_bytes));
	f = file_io_get(disk, io);
	if (!f) {
		io->priv = NULL;
		list_append(&disk->starved, &io->node);
		ring_defer(disk->ring, &disk->starve);
		return;
	}
	switch (io->op) {
	case STORE_READ:
		disk->stats.reads++;
		disk->stats.read_bytes += io->length_bytes;
		read_go_on(f);
		return;
	case STORE_WRITE:
	case STORE_DISCARD: submit_write(disk, f); return;
	case STORE_FLUSH:
		disk->stats.flushes++;
		if (disk->failed)
			file_io_finish_later(f, MUTANT(failed_disk_flushes) ? 0 : -EIO);
		else if (disk->disk.read_only || (disk->scratch && !io->fua))
			file_io_finish_later(f, 0);
		else
			flush_request(disk, f);
		return;
	}
}

static bool list_holds(struct list *list, const struct list *node)
{
	list_for_each (n, list) {
		if (n == node)
			return true;
	}
	return false;
}

static void file_cancel(struct store_disk *sd, struct store_io *io)
{
	struct file_disk *disk = file_disk(sd);
	struct file_io *f = io->priv;

	ASSERT_RING_THREAD(disk->ring);
	if (!f || f->step == STEP_DONE)
		return;
	if (f->holds_space) {
		f->holds_space = false;
		file_io_finish_later(f, -ECANCELED);
		return;
	}
	if (list_holds(&disk->waiting, &f->node) || list_holds(&disk->flush.waiting, &f->node)) {
		list_remove(&f->node);
		io->written = f->step == STEP_DURABLE;
		file_io_finish_later(f, -ECANCELED);
	}
}

/* Whole blocks: one counts as mapped if any part of it is, on whatever file system. */
static int file_extent(struct store_disk *sd, uint64_t offset_bytes, uint64_t length_bytes,
		       bool *ret_mapped, uint64_t *ret_bytes)
{
	struct file_disk *disk = file_disk(sd);
	uint64_t skip = offset_bytes % STORE_BLOCK_BYTES;
	struct file_owner owner =
		file_find_owner(disk, disk->layer_count, offset_bytes - skip, skip + length_bytes);
	int r = file_data_run(&owner, ret_mapped);

	if (r < 0)
		return r;
	/* What is left of a block after an owner's end is zeros. */
	owner.bytes = blocks_of(owner.bytes) * STORE_BLOCK_BYTES - skip;
	*ret_bytes = owner.bytes < length_bytes ? owner.bytes : length_bytes;
	return 0;
}

static uint64_t owned_blocks(const struct file_disk *disk, const struct file_layer *layer)
{
	return layer->sealed ? sealed_map_owned_count(layer->sealed) : disk->map.owned_count;
}

/* A layer that was made smaller than the image and larger again hides what lies between. */
static bool untouched(const struct file_disk *disk)
{
	uint64_t image_bytes = disk->image_fd < 0 ? 0 : disk->image_bytes;

	if (image_bytes > disk->disk.size_bytes)
		image_bytes = disk->disk.size_bytes;
	for (unsigned i = 0; i < disk->layer_count; i++) {
		const struct file_layer *layer = &disk->layers[i];

		if (owned_blocks(disk, layer) > 0 || layer->size_bytes < image_bytes)
			return false;
	}
	return true;
}

static void file_stats(struct store_disk *sd, struct store_stats *ret_stats)
{
	struct file_disk *disk = file_disk(sd);

	*ret_stats = disk->stats;
	ret_stats->failed = disk->failed;
	if (disk->layer_count)
		ret_stats->owned_blocks = owned_blocks(disk, file_top(disk));
	ret_stats->untouched = untouched(disk);
}

/* The top may be sealed, or opened by another, before this disk is freed. */
static void top_let_go(struct file_disk *disk, bool in_order)
{
	struct file_layer *top = file_top(disk);

	if (!top || top->sealed)
		return;
	if (in_order && !disk->disk.read_only)
		disk->left = sealed_map_leave(top->fd, &disk->map);
	close(TAKE_FD(top->fd));
}

static void detach_flushed(struct store_io *io, int res)
{
	struct file_disk *disk = CONTAINER_OF(io, struct file_disk, detach_io);

	/* A page's first write goes to both its slots, one flush after the other. */
	if (res == 0 && !disk->disk.read_only && disk->map.dirty_count > 0) {
		file_submit(&disk->disk, io);
		return;
	}
	/* Only now the durable map says all that the live one says. */
	if ((res == 0 || MUTANT(failed_detach_removes_live_map)) && disk->live_path[0])
		(void)unlink(disk->live_path);
	top_let_go(disk, res == 0);
	ring_timer_cancel(disk->ring, &disk->space_timer);
	disk->ring = NULL;
	disk->closed(disk->closed_arg, res);
}

static void file_detach(struct store_disk *sd, void (*closed)(void *arg, int res), void *arg)
{
	struct file_disk *disk = file_disk(sd);

	assert(list_empty(&disk->active) && list_empty(&disk->waiting));
	disk->closed = closed;
	disk->closed_arg = arg;
	/* Scratch ends here: the layer may be sealed next, and a sealed layer's bits are those of
	 * its durable map. */
	if (MUTANT(live_map_removed_before_flush))
		(void)unlink(disk->live_path);
	disk->detach_io = (struct store_io){.op = STORE_FLUSH,
					    .fua = !MUTANT(scratch_detach_unflushed),
					    .done = detach_flushed};
	file_submit(sd, &disk->detach_io);
}

static void file_free(struct store_disk *sd)
{
	struct file_disk *disk;

	if (!sd)
		return;
	disk = file_disk(sd);
	/* None is in flight, but for a test that lets the process die. */
	list_for_each (n, &disk->all) {
		struct file_io *f = LIST_ENTRY(n, struct file_io, all);

		free(f->bounce);
		free(f);
	}
	map_close(&disk->map);
	sealed_map_unref(disk->left);
	for (unsigned i = 0; i < disk->layer_count; i++) {
		sealed_map_unref(disk->layers[i].sealed);
		if (disk->layers[i].fd >= 0)
			close(disk->layers[i].fd);
	}
	if (disk->image_fd >= 0)
		close(disk->image_fd);
	free(disk->flush.writes);
	free(disk);
}

static const struct store_disk_ops file_ops = {
	.submit = file_submit,
	.cancel = file_cancel,
	.extent = file_extent,
	.stats = file_stats,
	.detach = file_detach,
	.free = file_free,
};

void file_disk_init(struct file_disk *disk)
{
	disk->disk.ops = &file_ops;
	disk->image_fd = -1;
	disk->map.live_fd = -1;
	list_init(&disk->active);
	list_init(&disk->waiting);
	list_init(&disk->starved);
	ring_task_init(&disk->starve, starve_run);
	list_init(&disk->all);
	list_init(&disk->spare);
	ring_timer_init(&disk->space_timer, space_retry);
	flush_init(disk);
}

int store_attach(struct store_disk *sd, struct ring *ring)
{
	struct file_disk *disk;

	ASSERT_RING_THREAD(ring);
	if (sd->ops != &file_ops)
		return 0; /* the memory disk needs no ring */
	disk = file_disk(sd);
	assert(!disk->ring);
	disk->ring = ring;
	return 0;
}
