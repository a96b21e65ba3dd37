/*
 * A simulated reactor and page cache; see sim.h.
 */
#include "store/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/list.h"

#define PAGE_BYTES   4096u
#define SECTOR_BYTES 512u
#define OPS_MAX      4096

enum sim_kind { SIM_READ, SIM_WRITE, SIM_SYNC, SIM_PUNCH };

struct sim_op {
	struct ring_op *op;
	enum sim_kind kind;
	int fd;
	void *data;
	size_t bytes;
	uint64_t offset;
	uint64_t version; /* sync: what it covers */
};

struct sim_version {
	uint64_t number; /* 0: what a sync, or nobody, has made durable */
	uint8_t data[PAGE_BYTES];
};

struct sim_page {
	struct list node; /* of its file */
	uint64_t index;
	unsigned count, room;
	struct sim_version *versions; /* the first is durable; the last is in the file */
};

struct sim_file {
	struct list node;
	dev_t device;
	ino_t inode;
	int fd; /* ours */
	struct list pages;
};

static struct {
	uint64_t random, now_ms, version;
	struct sim_op ops[OPS_MAX];
	unsigned op_count;
	struct list tasks, timers, files;
	unsigned no_space, sync_failure, write_failure, sync_count;
	bool no_punch;
} sim;

static int ring_stand_in;

/* xorshift64*: any seed but 0. */
uint64_t sim_random(void)
{
	sim.random ^= sim.random >> 12;
	sim.random ^= sim.random << 25;
	sim.random ^= sim.random >> 27;
	return sim.random * 2685821657736338717ull;
}

uint64_t sim_below(uint64_t bound)
{
	return (sim_random() >> 11) % bound;
}

struct ring *sim_ring(void)
{
	return (struct ring *)(void *)&ring_stand_in;
}

void sim_init(uint64_t seed)
{
	memset(&sim, 0, sizeof(sim));
	sim.random = seed ? seed : 1;
	sim.now_ms = 1000;
	list_init(&sim.tasks);
	list_init(&sim.timers);
	list_init(&sim.files);
}

void sim_done(void)
{
	sim_forget();
}

/* --- files and their unsynced pages --- */

static struct sim_file *file_of(int fd)
{
	struct sim_file *file;
	char path[32];
	struct stat st;

	if (fstat(fd, &st) < 0)
		abort();
	list_for_each (n, &sim.files) {
		file = LIST_ENTRY(n, struct sim_file, node);
		if (file->device == st.st_dev && file->inode == st.st_ino)
			return file;
	}
	file = calloc(1, sizeof(*file));
	if (!file)
		abort();
	file->device = st.st_dev;
	file->inode = st.st_ino;
	/* Of its own, not a duplicate: that would share the layer's lock. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	file->fd = open(path, O_RDWR | O_CLOEXEC);
	if (file->fd < 0)
		abort();
	list_init(&file->pages);
	list_append(&sim.files, &file->node);
	return file;
}

static void page_read(const struct sim_file *file, uint64_t index, uint8_t *data)
{
	ssize_t n = pread(file->fd, data, PAGE_BYTES, (off_t)(index * PAGE_BYTES));

	if (n < 0)
		abort();
	memset(data + n, 0, PAGE_BYTES - (size_t)n);
}

static struct sim_page *page_of(struct sim_file *file, uint64_t index)
{
	struct sim_page *page;

	list_for_each (n, &file->pages) {
		page = LIST_ENTRY(n, struct sim_page, node);
		if (page->index == index)
			return page;
	}
	page = calloc(1, sizeof(*page));
	if (!page)
		abort();
	page->index = index;
	page->room = 4;
	page->versions = calloc(page->room, sizeof(*page->versions));
	if (!page->versions)
		abort();
	page_read(file, index, page->versions[0].data);
	page->count = 1;
	list_prepend(&file->pages, &page->node);
	return page;
}

static void pages_before_change(struct sim_file *file, uint64_t offset, uint64_t bytes)
{
	for (uint64_t i = offset / PAGE_BYTES; i <= (offset + bytes - 1) / PAGE_BYTES; i++)
		(void)page_of(file, i);
}

static void pages_after_change(struct sim_file *file, uint64_t offset, uint64_t bytes)
{
	sim.version++;
	for (uint64_t i = offset / PAGE_BYTES; i <= (offset + bytes - 1) / PAGE_BYTES; i++) {
		struct sim_page *page = page_of(file, i);

		if (page->count == page->room) {
			page->room *= 2;
			page->versions =
				reallocarray(page->versions, page->room, sizeof(*page->versions));
			if (!page->versions)
				abort();
		}
		page->versions[page->count].number = sim.version;
		page_read(file, i, page->versions[page->count].data);
		page->count++;
	}
}

static void page_free(struct sim_page *page)
{
	list_remove(&page->node);
	free(page->versions);
	free(page);
}

static void sync_until(struct sim_file *file, uint64_t version)
{
	list_for_each (n, &file->pages) {
		struct sim_page *page = LIST_ENTRY(n, struct sim_page, node);
		unsigned durable = 0;

		for (unsigned i = 1; i < page->count; i++) {
			if (page->versions[i].number <= version)
				durable = i;
		}
		if (durable == page->count - 1) {
			page_free(page);
			continue;
		}
		memmove(page->versions, page->versions + durable,
			(page->count - durable) * sizeof(*page->versions));
		page->count -= durable;
	}
}

void sim_forget(void)
{
	list_for_each (n, &sim.files) {
		struct sim_file *file = LIST_ENTRY(n, struct sim_file, node);

		sync_until(file, UINT64_MAX);
		list_remove(&file->node);
		close(file->fd);
		free(file);
	}
}

static void page_fall_back(const struct sim_file *file, const struct sim_page *page, bool may_tear)
{
	uint8_t data[PAGE_BYTES];
	unsigned kept = (unsigned)sim_below(page->count);

	memcpy(data, page->versions[kept].data, PAGE_BYTES);
	if (may_tear && kept + 1 < page->count && sim_below(3) == 0) {
		for (unsigned at = 0; at < PAGE_BYTES; at += SECTOR_BYTES) {
			if (sim_below(2))
				memcpy(data + at, page->versions[kept + 1].data + at, SECTOR_BYTES);
		}
	}
	if (pwrite(file->fd, data, PAGE_BYTES, (off_t)(page->index * PAGE_BYTES)) != PAGE_BYTES)
		abort();
}

void sim_power_loss(uint64_t torn_end)
{
	list_for_each (n, &sim.files) {
		struct sim_file *file = LIST_ENTRY(n, struct sim_file, node);

		list_for_each (p, &file->pages) {
			struct sim_page *page = LIST_ENTRY(p, struct sim_page, node);

			page_fall_back(file, page, page->index * PAGE_BYTES < torn_end);
		}
	}
	sim_forget();
}

void sim_kill(void)
{
	sim.op_count = 0;
	list_init(&sim.tasks);
	list_for_each (n, &sim.timers) {
		LIST_ENTRY(n, struct ring_timer, node)->armed = false;
		list_remove(n);
	}
}

/* --- faults --- */

void sim_set_no_space(unsigned per_mille)
{
	sim.no_space = per_mille;
}

void sim_set_sync_failure(unsigned nth)
{
	sim.sync_failure = nth;
}

void sim_set_write_failure(unsigned nth)
{
	sim.write_failure = nth;
}

unsigned sim_sync_count(void)
{
	return sim.sync_count;
}

static bool is_nth(unsigned *counter)
{
	return *counter > 0 && --*counter == 0;
}

void sim_set_no_punch(bool no_punch)
{
	sim.no_punch = no_punch;
}

/* --- operations --- */

static int op_write(const struct sim_op *o)
{
	struct sim_file *file = file_of(o->fd);
	size_t bytes = o->bytes;
	ssize_t n;

	if (is_nth(&sim.write_failure))
		return -EIO;
	if (sim_below(1000) < sim.no_space)
		return -ENOSPC;
	/* A short write now and then, as at the end of space. */
	if (bytes > PAGE_BYTES && sim_below(50) == 0)
		bytes = PAGE_BYTES * (1 + sim_below(bytes / PAGE_BYTES));
	pages_before_change(file, o->offset, bytes);
	n = pwrite(o->fd, o->data, bytes, (off_t)o->offset);
	if (n < 0)
		return -errno;
	pages_after_change(file, o->offset, bytes);
	return (int)n;
}

static int op_punch(const struct sim_op *o)
{
	struct sim_file *file = file_of(o->fd);

	if (sim.no_punch)
		return -EOPNOTSUPP;
	pages_before_change(file, o->offset, o->bytes);
	if (fallocate(o->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)o->offset,
		      (off_t)o->bytes) < 0)
		return -errno;
	pages_after_change(file, o->offset, o->bytes);
	return 0;
}

static int op_execute(const struct sim_op *o)
{
	ssize_t n;

	/* Interrupted, or would have had to wait: as if it had never been. */
	if (sim_below(200) == 0)
		return sim_below(2) ? -EINTR : -EAGAIN;
	switch (o->kind) {
	case SIM_READ:
		/* Short reads happen, also within a page; zero only at the end. */
		n = pread(o->fd, o->data,
			  sim_below(50) == 0
				  ? SECTOR_BYTES * (1 + sim_below(o->bytes / SECTOR_BYTES))
				  : o->bytes,
			  (off_t)o->offset);
		return n < 0 ? -errno : (int)n;
	case SIM_WRITE: return op_write(o);
	case SIM_PUNCH: return op_punch(o);
	case SIM_SYNC:
		if (is_nth(&sim.sync_failure))
			return -EIO;
		sync_until(file_of(o->fd), o->version);
		return 0;
	}
	abort();
}

static void task_run(void)
{
	struct ring_task *task = LIST_ENTRY(sim.tasks.next, struct ring_task, node);

	list_remove(&task->node);
	task->run(task);
}

bool sim_step(void)
{
	bool tasks = !list_empty(&sim.tasks);
	struct sim_op o;
	unsigned chosen;

	if (tasks && (sim.op_count == 0 || sim_below(2))) {
		task_run();
		return true;
	}
	if (sim.op_count == 0)
		return false;
	chosen = (unsigned)sim_below(sim.op_count);
	o = sim.ops[chosen];
	sim.ops[chosen] = sim.ops[--sim.op_count];
	o.op->done(o.op, op_execute(&o));
	return true;
}

static bool timer_fire(void)
{
	struct ring_timer *first = NULL;

	list_for_each (n, &sim.timers) {
		struct ring_timer *timer = LIST_ENTRY(n, struct ring_timer, node);

		if (!first || timer->due_ms < first->due_ms)
			first = timer;
	}
	if (!first)
		return false;
	if (sim.now_ms < first->due_ms)
		sim.now_ms = first->due_ms;
	first->armed = false;
	list_remove(&first->node);
	first->fire(first);
	return true;
}

void sim_run(bool (*busy)(void *arg), void *arg)
{
	for (;;) {
		if (sim_step())
			continue;
		if (!busy || !busy(arg))
			return;
		if (!timer_fire())
			abort(); /* something waits for nothing */
	}
}

static void op_add(struct ring_op *op, enum sim_kind kind, int fd, const void *data, size_t bytes,
		   uint64_t offset)
{
	if (sim.op_count == OPS_MAX)
		abort();
	sim.ops[sim.op_count++] = (struct sim_op){
		.op = op,
		.kind = kind,
		.fd = fd,
		.data = (void *)(uintptr_t)data,
		.bytes = bytes,
		.offset = offset,
		.version = sim.version,
	};
}

/* --- ring.h --- */

bool ring_is_current(const struct ring *ring)
{
	return ring == sim_ring();
}

struct ring *ring_current(void)
{
	return sim_ring();
}

uint64_t ring_now_ms(const struct ring *ring)
{
	(void)ring;
	return sim.now_ms;
}

void ring_read(struct ring *ring, struct ring_op *op, int fd, void *data, size_t bytes,
	       uint64_t offset)
{
	(void)ring;
	op_add(op, SIM_READ, fd, data, bytes, offset);
}

void ring_write(struct ring *ring, struct ring_op *op, int fd, const void *data, size_t bytes,
		uint64_t offset)
{
	(void)ring;
	op_add(op, SIM_WRITE, fd, data, bytes, offset);
}

void ring_fdatasync(struct ring *ring, struct ring_op *op, int fd)
{
	(void)ring;
	sim.sync_count++;
	op_add(op, SIM_SYNC, fd, NULL, 0, 0);
}

void ring_fallocate(struct ring *ring, struct ring_op *op, int fd, int mode, uint64_t offset,
		    uint64_t bytes)
{
	(void)ring;
	if (mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		abort();
	op_add(op, SIM_PUNCH, fd, NULL, bytes, offset);
}

void ring_task_init(struct ring_task *task, void (*run)(struct ring_task *task))
{
	list_init(&task->node);
	task->run = run;
}

void ring_defer(struct ring *ring, struct ring_task *task)
{
	(void)ring;
	if (list_empty(&task->node))
		list_append(&sim.tasks, &task->node);
}

void ring_task_cancel(struct ring_task *task)
{
	list_remove(&task->node);
}

void ring_timer_init(struct ring_timer *timer, void (*fire)(struct ring_timer *timer))
{
	*timer = (struct ring_timer){.fire = fire};
	list_init(&timer->node);
}

int ring_timer_arm(struct ring *ring, struct ring_timer *timer, uint64_t delay_ms)
{
	(void)ring;
	timer->due_ms = sim.now_ms + delay_ms;
	timer->armed = true;
	list_remove(&timer->node);
	list_append(&sim.timers, &timer->node);
	return 0;
}

void ring_timer_cancel(struct ring *ring, struct ring_timer *timer)
{
	(void)ring;
	timer->armed = false;
	list_remove(&timer->node);
}
