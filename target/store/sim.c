/*
 * A simulated reactor, the points at which a process may end, and the faults of its calls; see
 * sim.h.
 */
#include "store/sim.h"

#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "store/sim_internal.h"

#define PAGE_BYTES   4096u
#define SECTOR_BYTES 512u
#define OPS_MAX      4096
#define STEPS_MAX    10000000u /* in one sim_run; far more than any needs */

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

static struct {
	uint64_t random, now_ms;
	struct sim_op ops[OPS_MAX];
	unsigned op_count;
	struct list tasks, timers;
	unsigned no_space, sync_failure, write_failure, sync_count;
	bool no_punch, armed;
	uint64_t point_count, end_at;
	jmp_buf *end;
	uint64_t fail_at;
	int fail_error;
	struct sim_failed failed;
	uint64_t call_count[SIM_CALL_COUNT];
	uint64_t partial_count; /* calls that could have done a part of their work */
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

/* splitmix64's: seeds beside each other begin far from each other. Any but 0. */
static uint64_t seed_spread(uint64_t seed)
{
	uint64_t z = seed + 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return z ? z : 1;
}

void sim_init(uint64_t seed)
{
	memset(&sim, 0, sizeof(sim));
	sim.random = seed_spread(seed);
	sim.now_ms = 1000;
	list_init(&sim.tasks);
	list_init(&sim.timers);
	sim_files_init();
}

void sim_done(void)
{
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

/* --- the end of the process, and faults of its calls --- */

void sim_arm(bool armed)
{
	sim.armed = armed;
}

bool sim_is_armed(void)
{
	return sim.armed;
}

void sim_end_at(uint64_t nth, jmp_buf *where)
{
	sim.end_at = nth ? sim.point_count + nth : 0;
	sim.end = where;
}

uint64_t sim_point_count(void)
{
	return sim.point_count;
}

void sim_point(void)
{
	if (!sim.armed)
		return;
	if (++sim.point_count == sim.end_at)
		longjmp(*sim.end, 1);
}

void sim_fail_at(uint64_t nth, int error)
{
	sim.fail_at = nth ? sim_call_count(error) + nth : 0;
	sim.fail_error = error;
	sim.failed = (struct sim_failed){.happened = false};
}

struct sim_failed sim_failed(void)
{
	return sim.failed;
}

static bool can_fail(enum sim_call call, int error)
{
	switch (error) {
	case ENOMEM:
		return call == SIM_CALL_MEMORY || call == SIM_CALL_MAP || call == SIM_CALL_SYNC ||
		       call == SIM_CALL_WRITE;
	case ENOSPC:
		return call == SIM_CALL_WRITE || call == SIM_CALL_PUNCH ||
		       call == SIM_CALL_ALLOCATE || call == SIM_CALL_TRUNCATE ||
		       call == SIM_CALL_CREATE || call == SIM_CALL_RENAME;
	case EINTR:
	case EAGAIN: return call <= SIM_CALL_ALLOCATE;
	default: return call < SIM_CALL_MAP;
	}
}

uint64_t sim_call_count(int error)
{
	uint64_t count = 0;

	if (error == 0)
		return sim.partial_count;
	for (unsigned call = 0; call < SIM_CALL_COUNT; call++) {
		if (can_fail((enum sim_call)call, error))
			count += sim.call_count[call];
	}
	return count;
}

int sim_fault(enum sim_call call, bool in_ring, int fd, uint64_t offset, size_t *bytes)
{
	bool partial = bytes && *bytes > 1;

	if (!sim.armed)
		return 0;
	sim.call_count[call]++;
	sim.partial_count += partial;
	if (sim.fail_at == 0 || sim.failed.happened ||
	    !(sim.fail_error ? can_fail(call, sim.fail_error) : partial) ||
	    sim_call_count(sim.fail_error) != sim.fail_at)
		return 0;
	sim.failed = (struct sim_failed){true, call, in_ring, fd, offset};
	if (sim.fail_error)
		return -sim.fail_error;
	/* Sectors, where it is many. */
	*bytes = *bytes > SECTOR_BYTES ? SECTOR_BYTES * (1 + sim_below((*bytes - 1) / SECTOR_BYTES))
				       : 1 + sim_below(*bytes - 1);
	return 0;
}

/* --- operations --- */

ssize_t sim_write(int fd, const void *data, size_t bytes, uint64_t offset)
{
	size_t first = bytes > PAGE_BYTES ? PAGE_BYTES * (1 + sim_below(bytes / PAGE_BYTES)) : 0;
	ssize_t n;

	sim_point();
	if (first && first < bytes && sim.armed) {
		/* A process that is killed meanwhile has written a part. */
		n = sim_file_write(fd, data, first, offset);
		sim_point();
		if (n < 0)
			return n;
	}
	n = sim_file_write(fd, data, bytes, offset);
	sim_point();
	return n;
}

static int op_write(const struct sim_op *o)
{
	size_t bytes = o->bytes;
	int r = sim_fault(SIM_CALL_WRITE, true, o->fd, o->offset, &bytes);

	if (r == 0 && is_nth(&sim.write_failure))
		r = -EIO;
	if (r == 0 && sim_below(1000) < sim.no_space)
		r = -ENOSPC;
	if (r < 0)
		return r;
	/* A short write now and then, as at the end of space. */
	if (bytes > PAGE_BYTES && sim_below(50) == 0)
		bytes = PAGE_BYTES * (1 + sim_below(bytes / PAGE_BYTES));
	return (int)sim_write(o->fd, o->data, bytes, o->offset);
}

static int op_punch(const struct sim_op *o)
{
	int r = sim_fault(SIM_CALL_PUNCH, true, o->fd, o->offset, NULL);

	if (sim.no_punch)
		r = -EOPNOTSUPP;
	if (r < 0)
		return r;
	sim_point();
	r = sim_file_punch(o->fd, o->offset, o->bytes);
	sim_point();
	return r;
}

static int op_read(const struct sim_op *o)
{
	size_t bytes = o->bytes;
	int r = sim_fault(SIM_CALL_READ, true, o->fd, o->offset, &bytes);
	ssize_t n;

	if (r < 0)
		return r;
	/* Short reads happen, also within a page; zero only at the end. */
	if (bytes >= SECTOR_BYTES && sim_below(50) == 0)
		bytes = SECTOR_BYTES * (1 + sim_below(bytes / SECTOR_BYTES));
	n = __real_pread64(o->fd, o->data, bytes, (off_t)o->offset);
	return n < 0 ? -errno : (int)n;
}

static int op_sync(const struct sim_op *o)
{
	int r = sim_fault(SIM_CALL_SYNC, true, o->fd, 0, NULL);

	if (r == 0 && is_nth(&sim.sync_failure))
		r = -EIO;
	if (r == -EINTR || r == -EAGAIN)
		return r;
	sim_point();
	if (r < 0)
		sim_file_sync_failed(o->fd, o->version);
	else
		sim_file_sync(o->fd, o->version);
	sim_point();
	return r;
}

static int op_execute(const struct sim_op *o)
{
	/* Interrupted, or would have had to wait: as if it had never been. */
	if (sim_below(200) == 0)
		return sim_below(2) ? -EINTR : -EAGAIN;
	switch (o->kind) {
	case SIM_READ: return op_read(o);
	case SIM_WRITE: return op_write(o);
	case SIM_PUNCH: return op_punch(o);
	case SIM_SYNC: return op_sync(o);
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
	for (unsigned steps = 0;; steps++) {
		if (steps == STEPS_MAX)
			abort(); /* something turns in a circle */
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
		.version = sim_files_version(),
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
	if (sim_fault(SIM_CALL_MEMORY, false, -1, 0, NULL) < 0)
		return -ENOMEM;
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
