/*
 * A disk in memory behind the same seam, for tests.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "ring/ring.h"
#include "store/store_internal.h"

struct mem_disk {
	struct store_disk disk;
	uint8_t *data;
	uint8_t *mapped; /* a byte per block */
	struct list done;
	struct ring_task run; /* when a ring serves the disk */
	struct store_stats stats;
	void (*closed)(void *arg, int res);
	void *closed_arg;
	struct ring_task closing;
};

static struct mem_disk *mem_disk(struct store_disk *disk)
{
	return CONTAINER_OF(disk, struct mem_disk, disk);
}

static void mem_change(struct mem_disk *m, const struct store_io *io)
{
	uint64_t first = io->offset_bytes, end = first + io->length_bytes;

	if (io->op == STORE_WRITE) {
		memcpy(m->data + first, io->data, io->length_bytes);
		m->stats.writes++;
		m->stats.written_bytes += io->length_bytes;
		memset(m->mapped + first / STORE_BLOCK_BYTES, 1,
		       (end - 1) / STORE_BLOCK_BYTES - first / STORE_BLOCK_BYTES + 1);
		return;
	}
	memset(m->data + first, 0, io->length_bytes);
	m->stats.discards++;
	m->stats.discarded_bytes += io->length_bytes;
	first = (first + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES;
	end /= STORE_BLOCK_BYTES;
	if (end > first)
		memset(m->mapped + first, 0, end - first);
}

static void mem_submit(struct store_disk *disk, struct store_io *io)
{
	struct mem_disk *m = mem_disk(disk);
	intptr_t res = 0;

	assert(io->op == STORE_FLUSH ||
	       (io->length_bytes > 0 && io->offset_bytes <= disk->size_bytes &&
		io->length_bytes <= disk->size_bytes - io->offset_bytes));
	if (io->op == STORE_READ) {
		memcpy(io->data, m->data + io->offset_bytes, io->length_bytes);
		m->stats.reads++;
		m->stats.read_bytes += io->length_bytes;
	} else if (io->op == STORE_FLUSH) {
		m->stats.flushes++;
		m->stats.flush_rounds++;
	} else if (disk->read_only) {
		res = -EROFS;
	} else {
		mem_change(m, io);
	}
	io->priv = (void *)res;
	list_append(&m->done, &io->node);
	if (ring_current())
		ring_defer(ring_current(), &m->run);
}

unsigned store_mem_run(struct store_disk *disk)
{
	struct mem_disk *m = mem_disk(disk);
	unsigned count = 0;
	struct list done;

	list_init(&done);
	list_splice(&done, &m->done);
	while (!list_empty(&done)) {
		struct store_io *io = LIST_ENTRY(done.next, struct store_io, node);

		list_remove(&io->node);
		io->done(io, (int)(intptr_t)io->priv);
		count++;
	}
	return count;
}

static void mem_run(struct ring_task *task)
{
	store_mem_run(&CONTAINER_OF(task, struct mem_disk, run)->disk);
}

static void mem_cancel(struct store_disk *disk, struct store_io *io)
{
	/* Nothing ever waits here. */
	(void)disk;
	(void)io;
}

static int mem_extent(struct store_disk *disk, uint64_t offset_bytes, uint64_t length_bytes,
		      bool *ret_mapped, uint64_t *ret_bytes)
{
	struct mem_disk *m = mem_disk(disk);
	uint64_t block = offset_bytes / STORE_BLOCK_BYTES, end = offset_bytes + length_bytes;
	uint8_t mapped = m->mapped[block];

	while (block * STORE_BLOCK_BYTES < end && m->mapped[block] == mapped)
		block++;
	if (block * STORE_BLOCK_BYTES < end)
		end = block * STORE_BLOCK_BYTES;
	*ret_mapped = mapped;
	*ret_bytes = end - offset_bytes;
	return 0;
}

static void mem_stats(struct store_disk *disk, struct store_stats *ret_stats)
{
	*ret_stats = mem_disk(disk)->stats;
}

static void mem_closing(struct ring_task *task)
{
	struct mem_disk *m = CONTAINER_OF(task, struct mem_disk, closing);

	m->closed(m->closed_arg, 0);
}

static void mem_detach(struct store_disk *disk, void (*closed)(void *arg, int res), void *arg)
{
	struct mem_disk *m = mem_disk(disk);

	m->closed = closed;
	m->closed_arg = arg;
	if (ring_current())
		ring_defer(ring_current(), &m->closing);
	else
		closed(arg, 0);
}

static void mem_free(struct store_disk *disk)
{
	struct mem_disk *m = mem_disk(disk);

	munmap(m->data, m->disk.size_bytes);
	free(m->mapped);
	free(m);
}

static const struct store_disk_ops mem_ops = {
	.submit = mem_submit,
	.cancel = mem_cancel,
	.extent = mem_extent,
	.stats = mem_stats,
	.detach = mem_detach,
	.free = mem_free,
};

int store_mem_new(uint64_t size_bytes, struct store_disk **ret_disk)
{
	struct mem_disk *m = calloc(1, sizeof(*m));
	void *data;

	if (!m)
		return -ENOMEM;
	m->mapped = calloc(size_bytes / STORE_BLOCK_BYTES + 2, 1);
	data = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!m->mapped || data == MAP_FAILED) {
		free(m->mapped);
		free(m);
		return -ENOMEM;
	}
	m->data = data;
	m->disk = (struct store_disk){
		.ops = &mem_ops, .size_bytes = size_bytes, .volatile_cache = true};
	list_init(&m->done);
	ring_task_init(&m->run, mem_run);
	ring_task_init(&m->closing, mem_closing);
	*ret_disk = &m->disk;
	return 0;
}
