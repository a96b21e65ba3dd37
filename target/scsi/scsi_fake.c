/*
 * See scsi_fake.h. The functions of ring.h below stand in for the real ones at link time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scsi/scsi_fake.h"

/* --- ring --- */

static struct list deferred = {&deferred, &deferred};
static unsigned bufs_out;
static int bufs_left = -1;

struct ring *fake_ring(void)
{
	static char nothing[1];

	return (struct ring *)(void *)nothing;
}

bool ring_is_current(const struct ring *ring)
{
	return ring == fake_ring();
}

void ring_task_init(struct ring_task *task, void (*run)(struct ring_task *task))
{
	list_init(&task->node);
	task->run = run;
}

void ring_defer(struct ring *ring, struct ring_task *task)
{
	assert(ring == fake_ring());
	if (list_empty(&task->node))
		list_append(&deferred, &task->node);
}

struct ring_buf *ring_buf_get(struct ring *ring, uint32_t bytes)
{
	struct ring_buf *buf;

	assert(ring == fake_ring());
	if (bufs_left == 0)
		return NULL;
	buf = malloc(sizeof(*buf));
	assert(buf);
	if (bufs_left > 0)
		bufs_left--;
	/* Exactly that many bytes, so that the address sanitizer sees the first one too many. */
	buf->data = malloc(bytes);
	assert(buf->data);
	memset(buf->data, 0xee, bytes);
	buf->bytes = bytes;
	bufs_out++;
	return buf;
}

void ring_buf_put(struct ring *ring, struct ring_buf *buf)
{
	assert(ring == fake_ring());
	assert(bufs_out > 0);
	bufs_out--;
	free(buf->data);
	free(buf);
}

unsigned fake_bufs_out(void)
{
	return bufs_out;
}

void fake_bufs_limit(int count)
{
	bufs_left = count;
}

/* --- disk --- */

static struct fake_disk *of(struct store_disk *disk)
{
	return CONTAINER_OF(disk, struct fake_disk, disk);
}

static void submit(struct store_disk *store, struct store_io *io)
{
	struct fake_disk *disk = of(store);

	assert(io->offset_bytes % STORE_SECTOR_BYTES == 0);
	assert(io->length_bytes % STORE_SECTOR_BYTES == 0);
	assert(io->op == STORE_FLUSH || io->length_bytes > 0);
	assert(io->offset_bytes <= store->size_bytes);
	assert(io->length_bytes <= store->size_bytes - io->offset_bytes);
	disk->submits++;
	list_append(&disk->queue, &io->node);
}

static void mark(struct fake_disk *disk, const struct store_io *io, bool mapped)
{
	for (uint64_t at = io->offset_bytes; at < io->offset_bytes + io->length_bytes;
	     at += STORE_SECTOR_BYTES) {
		uint64_t block = at / STORE_BLOCK_BYTES;
		bool whole = at % STORE_BLOCK_BYTES == 0 &&
			     io->offset_bytes + io->length_bytes - at >= STORE_BLOCK_BYTES;

		if (mapped || whole)
			disk->mapped[block] = mapped;
	}
}

static int perform(struct fake_disk *disk, struct store_io *io)
{
	uint8_t *at = disk->data + io->offset_bytes;

	if (disk->fail_res && disk->fail_op == io->op) {
		int res = disk->fail_res;

		disk->fail_res = 0;
		if (io->op == STORE_READ)
			io->good_bytes = disk->fail_good_bytes;
		return res;
	}
	if (io->op == STORE_FLUSH) {
		disk->flushes++;
		return 0;
	}
	if (io->offset_bytes + io->length_bytes > disk->backed_bytes)
		return -EIO;
	switch (io->op) {
	case STORE_READ:
		memcpy(io->data, at, io->length_bytes);
		io->good_bytes = io->length_bytes; /* says nothing: it did not fail */
		break;
	case STORE_WRITE:
		memcpy(at, io->data, io->length_bytes);
		mark(disk, io, true);
		disk->writes++;
		disk->fua_seen = io->fua;
		break;
	case STORE_DISCARD:
		memset(at, 0, io->length_bytes);
		mark(disk, io, false);
		disk->fua_seen = io->fua;
		break;
	case STORE_FLUSH: break;
	}
	return 0;
}

bool fake_disk_complete(struct fake_disk *disk)
{
	struct store_io *io = LIST_FIRST(&disk->queue, struct store_io, node);

	if (!io)
		return false;
	list_remove(&io->node);
	io->done(io, perform(disk, io));
	return true;
}

/* As a wait for space: it ends from the loop, not from inside. */
static void cancel(struct store_disk *store, struct store_io *io)
{
	struct fake_disk *disk = of(store);

	disk->cancels++;
	if (disk->stubborn)
		return;
	disk->fail_op = io->op;
	disk->fail_res = -ECANCELED;
	list_remove(&io->node);
	list_prepend(&disk->queue, &io->node);
	disk->hold = false;
}

static int extent(struct store_disk *store, uint64_t offset_bytes, uint64_t length_bytes,
		  bool *ret_mapped, uint64_t *ret_bytes)
{
	struct fake_disk *disk = of(store);
	uint64_t block_end =
		offset_bytes / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES + STORE_BLOCK_BYTES;

	assert(length_bytes > 0 && offset_bytes + length_bytes <= store->size_bytes);
	if (disk->extent_res)
		return disk->extent_res;
	if (offset_bytes >= disk->backed_bytes) {
		*ret_mapped = false;
		*ret_bytes = length_bytes;
		return 0;
	}
	/* One block at a time: joining them is the caller's. */
	*ret_mapped = disk->mapped[offset_bytes / STORE_BLOCK_BYTES];
	*ret_bytes =
		length_bytes < block_end - offset_bytes ? length_bytes : block_end - offset_bytes;
	return 0;
}

static void stats(struct store_disk *store, struct store_stats *ret_stats)
{
	memset(ret_stats, 0, sizeof(*ret_stats));
	ret_stats->writes = of(store)->writes;
}

static void detach(struct store_disk *store, void (*closed)(void *arg, int res), void *arg)
{
	assert(list_empty(&of(store)->queue));
	closed(arg, 0);
}

static void disk_free(struct store_disk *store)
{
	struct fake_disk *disk = of(store);

	if (disk->freed)
		*disk->freed = true;
	free(disk->data);
	free(disk->mapped);
	free(disk);
}

static const struct store_disk_ops fake_ops = {
	.submit = submit,
	.cancel = cancel,
	.extent = extent,
	.stats = stats,
	.detach = detach,
	.free = disk_free,
};

struct fake_disk *fake_disk_new(uint64_t size_bytes, uint64_t backed_bytes)
{
	struct fake_disk *disk = calloc(1, sizeof(*disk));

	assert(disk && backed_bytes <= size_bytes);
	disk->disk.ops = &fake_ops;
	disk->disk.size_bytes = size_bytes;
	disk->disk.volatile_cache = true;
	disk->backed_bytes = backed_bytes;
	disk->data = calloc(1, backed_bytes);
	disk->mapped = calloc(1, backed_bytes / STORE_BLOCK_BYTES + 1);
	assert(disk->data && disk->mapped);
	list_init(&disk->queue);
	return disk;
}

void fake_run(struct fake_disk *disk)
{
	bool busy;

	do {
		struct ring_task *task = LIST_FIRST(&deferred, struct ring_task, node);

		busy = task != NULL;
		if (task) {
			list_remove(&task->node);
			task->run(task);
		}
		if (disk && !disk->hold && fake_disk_complete(disk))
			busy = true;
	} while (busy);
}
