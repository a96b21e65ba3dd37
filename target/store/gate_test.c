/*
 * The gate over a disk that does what the test says: when an I/O ends and how, and which of them
 * only wait and can be called back.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "store/gate.h"
#include "store/sim.h"
#include "store/store_internal.h"

#define B    STORE_BLOCK_BYTES
#define SIZE (64u * (uint64_t)B)
#define IOS  16

/* --- a disk with a will of its own --- */

struct script_disk {
	struct store_disk disk;
	struct store_io *seen[IOS]; /* in the order of their arrival; NULL: ended */
	unsigned seen_count, cancels;
	bool flush_waits; /* the flush of a gate that is shut ends only when called back */
	struct store_io *flush;
	struct ring_task flush_task, closing;
	int flush_res, detach_res;
	unsigned flushes;
	struct store_stats stats;
	void (*closed)(void *arg, int res);
	void *closed_arg;
	bool *freed;
};

static struct script_disk *script(struct store_disk *disk)
{
	return CONTAINER_OF(disk, struct script_disk, disk);
}

static void script_end(struct script_disk *s, unsigned index, int res)
{
	struct store_io *io = TAKE_PTR(s->seen[index]);

	assert_non_null(io);
	io->done(io, res);
}

static void script_flushed(struct ring_task *task)
{
	struct script_disk *s = CONTAINER_OF(task, struct script_disk, flush_task);
	struct store_io *io = TAKE_PTR(s->flush);

	io->done(io, s->flush_res);
}

static void script_submit(struct store_disk *disk, struct store_io *io)
{
	struct script_disk *s = script(disk);

	/* Only the gate's own flush says so, and it comes when nothing is under way. */
	if (io->op == STORE_FLUSH && io->fua) {
		for (unsigned i = 0; i < s->seen_count; i++)
			assert_null(s->seen[i]);
		s->flushes++;
		s->flush = io;
		if (!s->flush_waits)
			ring_defer(sim_ring(), &s->flush_task);
		return;
	}
	assert_true(s->seen_count < IOS);
	assert_true(io->offset_bytes + io->length_bytes <= disk->size_bytes);
	s->seen[s->seen_count++] = io;
}

static void script_cancel(struct store_disk *disk, struct store_io *io)
{
	struct script_disk *s = script(disk);

	s->cancels++;
	if (io == s->flush) {
		s->flush_res = -ECANCELED;
		ring_defer(sim_ring(), &s->flush_task);
	}
	/* The test ends it: never from inside. */
}

static int script_extent(struct store_disk *disk, uint64_t offset_bytes, uint64_t length_bytes,
			 bool *ret_mapped, uint64_t *ret_bytes)
{
	(void)disk;
	(void)offset_bytes;
	*ret_mapped = true;
	*ret_bytes = length_bytes;
	return 0;
}

static void script_stats(struct store_disk *disk, struct store_stats *ret_stats)
{
	*ret_stats = script(disk)->stats;
}

static void script_closing(struct ring_task *task)
{
	struct script_disk *s = CONTAINER_OF(task, struct script_disk, closing);

	s->closed(s->closed_arg, s->detach_res);
}

static void script_detach(struct store_disk *disk, void (*closed)(void *arg, int res), void *arg)
{
	struct script_disk *s = script(disk);

	s->closed = closed;
	s->closed_arg = arg;
	ring_defer(sim_ring(), &s->closing);
}

static void script_free(struct store_disk *disk)
{
	*script(disk)->freed = true;
	free(script(disk));
}

static const struct store_disk_ops script_ops = {
	.submit = script_submit,
	.cancel = script_cancel,
	.extent = script_extent,
	.stats = script_stats,
	.detach = script_detach,
	.free = script_free,
};

static struct script_disk *script_new(uint64_t size_bytes, bool *freed)
{
	struct script_disk *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->disk = (struct store_disk){
		.ops = &script_ops,
		.size_bytes = size_bytes,
		.volatile_cache = true,
		.scratch = true,
	};
	s->freed = freed;
	ring_task_init(&s->flush_task, script_flushed);
	ring_task_init(&s->closing, script_closing);
	*freed = false;
	return s;
}

/* --- what stands before it --- */

struct user_io {
	struct store_io io;
	bool done;
	int res;
};

static struct {
	struct store_disk *gate;
	struct script_disk *old, *new;
	bool old_freed, new_freed;
	struct user_io ios[IOS];
	unsigned io_count;
	unsigned answers;
	int answer;
} t;

static void user_done(struct store_io *io, int res)
{
	struct user_io *user = CONTAINER_OF(io, struct user_io, io);

	assert_false(user->done);
	user->done = true;
	user->res = res;
}

static struct user_io *submit(enum store_op op, uint64_t block)
{
	struct user_io *user = &t.ios[t.io_count++];

	user->io = (struct store_io){
		.op = op,
		.offset_bytes = op == STORE_FLUSH ? 0 : block * B,
		.length_bytes = op == STORE_FLUSH ? 0 : B,
		.done = user_done,
	};
	store_submit(t.gate, &user->io);
	assert_false(user->done);
	return user;
}

static void answered(void *arg, int res)
{
	assert_ptr_equal(arg, &t);
	t.answers++;
	t.answer = res;
}

static void run(void)
{
	sim_run(NULL, NULL);
}

static void passed(struct ring_timer *timer)
{
	(void)timer;
}

static bool is_armed(void *arg)
{
	return ((struct ring_timer *)arg)->armed;
}

static void pass(uint64_t ms)
{
	struct ring_timer timer;

	ring_timer_init(&timer, passed);
	assert_int_equal(ring_timer_arm(sim_ring(), &timer, ms), 0);
	sim_run(is_armed, &timer);
}

static void assert_answer(int res)
{
	run();
	assert_int_equal(t.answers, 1);
	assert_int_equal(t.answer, res);
	t.answers = 0;
}

static void assert_ended(const struct user_io *user, int res)
{
	assert_true(user->done);
	assert_int_equal(user->res, res);
}

static void shut(void)
{
	store_gate_shut(t.gate, answered, &t);
	assert_int_equal(t.answers, 0);
}

static void take(void)
{
	store_gate_take(t.gate, answered, &t);
	assert_false(t.old_freed);
	assert_answer(0);
	assert_false(t.old_freed);
}

static void open_with(uint64_t size_bytes)
{
	t.new = script_new(size_bytes, &t.new_freed);
	store_gate_open(t.gate, &t.new->disk);
	assert_true(t.old_freed);
}

static int setup(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	sim_init(1);
	log_init("test", LOG_LEVEL_ERROR);
	t.old = script_new(SIZE, &t.old_freed);
	assert_int_equal(store_gate_new(sim_ring(), &t.old->disk, &t.gate), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	t.gate->ops->detach(t.gate, answered, &t);
	assert_int_equal(t.answers, 0);
	assert_answer(0);
	t.gate->ops->free(t.gate);
	assert_true(t.old_freed);
	if (t.new)
		assert_true(t.new_freed);
	sim_done();
	return 0;
}

/* --- */

static void an_open_gate_changes_nothing(void **state)
{
	struct user_io *write = submit(STORE_WRITE, 1), *flush = submit(STORE_FLUSH, 0);
	struct user_io *read = submit(STORE_READ, 63);
	uint64_t bytes;
	bool mapped;

	(void)state;
	assert_int_equal(t.gate->size_bytes, SIZE);
	assert_true(t.gate->volatile_cache);
	assert_true(t.gate->scratch);
	assert_int_equal(t.old->seen_count, 3);
	assert_ptr_equal(t.old->seen[1], &flush->io);
	script_end(t.old, 2, -EIO);
	assert_ended(read, -EIO);
	t.gate->ops->cancel(t.gate, &write->io);
	assert_int_equal(t.old->cancels, 1);
	script_end(t.old, 0, -ECANCELED);
	assert_ended(write, -ECANCELED);
	script_end(t.old, 1, 0);
	assert_ended(flush, 0);
	assert_int_equal(t.gate->ops->extent(t.gate, 0, B, &mapped, &bytes), 0);
	assert_true(mapped);
}

/* What came before is done and flushed before it is quiet; what comes after waits, in order. */
static void waits_in_order(void **state)
{
	struct user_io *before[2] = {submit(STORE_WRITE, 0), submit(STORE_READ, 1)}, *after[3];

	(void)state;
	shut();
	after[0] = submit(STORE_WRITE, 2);
	after[1] = submit(STORE_FLUSH, 0);
	after[2] = submit(STORE_DISCARD, 3);
	script_end(t.old, 1, 0);
	run();
	assert_int_equal(t.old->flushes, 0);
	assert_int_equal(t.answers, 0);
	script_end(t.old, 0, 0);
	assert_ended(before[0], 0);
	assert_ended(before[1], 0);
	assert_answer(0);
	assert_int_equal(t.old->flushes, 1);
	assert_int_equal(t.old->seen_count, 2);
	take();
	open_with(SIZE);
	assert_int_equal(t.new->seen_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_equal(t.new->seen[i], &after[i]->io);
		script_end(t.new, i, i == 1 ? -EIO : 0);
		assert_ended(after[i], i == 1 ? -EIO : 0);
	}
}

/* What waits for space in the old disk is done by the new one, before what came later. */
static void what_only_waits_is_called_back(void **state)
{
	struct user_io *stuck = submit(STORE_WRITE, 0), *good = submit(STORE_WRITE, 1);
	struct user_io *behind = submit(STORE_WRITE, 0), *later;

	(void)state;
	shut();
	assert_int_equal(t.old->cancels, 3);
	later = submit(STORE_READ, 0);
	script_end(t.old, 2, -ECANCELED);
	script_end(t.old, 1, 0);
	assert_ended(good, 0);
	assert_int_equal(t.answers, 0);
	script_end(t.old, 0, -ECANCELED);
	assert_answer(0);
	assert_false(stuck->done || behind->done || later->done);
	take();
	open_with(SIZE);
	assert_ptr_equal(t.new->seen[0], &stuck->io);
	assert_ptr_equal(t.new->seen[1], &behind->io);
	assert_ptr_equal(t.new->seen[2], &later->io);
	for (unsigned i = 0; i < 3; i++)
		script_end(t.new, i, 0);
	assert_ended(stuck, 0);
}

/* It was under way when the gate was shut, and only then there was no space for it. */
static void what_begins_to_wait_is_called_back(void **state)
{
	struct user_io *user = submit(STORE_WRITE, 0);

	(void)state;
	shut();
	assert_int_equal(t.old->cancels, 1);
	pass(120);
	assert_true(t.old->cancels >= 3);
	script_end(t.old, 0, -ECANCELED);
	assert_answer(0);
	store_gate_open(t.gate, NULL);
	assert_ptr_equal(t.old->seen[1], &user->io);
	script_end(t.old, 1, 0);
	assert_ended(user, 0);
}

static void aborted_while_it_waits(void **state)
{
	struct user_io *stuck = submit(STORE_WRITE, 0), *running = submit(STORE_WRITE, 1);
	struct user_io *late, *stays;

	(void)state;
	shut();
	late = submit(STORE_FLUSH, 0);
	stays = submit(STORE_WRITE, 5);
	script_end(t.old, 0, -ECANCELED);
	/* Called back, waiting, and under way. */
	t.gate->ops->cancel(t.gate, &stuck->io);
	t.gate->ops->cancel(t.gate, &late->io);
	t.gate->ops->cancel(t.gate, &running->io);
	assert_false(stuck->done || late->done);
	t.gate->ops->cancel(t.gate, &late->io); /* twice is once */
	run();
	assert_ended(stuck, -ECANCELED);
	assert_ended(late, -ECANCELED);
	script_end(t.old, 1, -ECANCELED);
	assert_ended(running, -ECANCELED);
	assert_answer(0);
	take();
	open_with(SIZE);
	assert_int_equal(t.new->seen_count, 1);
	assert_ptr_equal(t.new->seen[0], &stays->io);
	script_end(t.new, 0, 0);
}

static void a_flush_that_fails_leaves_it_as_it_was(void **state)
{
	struct user_io *user;

	(void)state;
	t.old->flush_res = -EIO;
	shut();
	user = submit(STORE_WRITE, 0);
	assert_answer(-EIO);
	store_gate_open(t.gate, NULL);
	assert_false(t.old_freed);
	assert_ptr_equal(t.old->seen[0], &user->io);
	script_end(t.old, 0, -EIO);
	assert_ended(user, -EIO);
}

/* Not for 15 seconds, while everything else waits. */
static void a_flush_that_waits_for_space_is_given_up(void **state)
{
	uint64_t begin_ms = ring_now_ms(sim_ring());

	(void)state;
	t.old->flush_waits = true;
	shut();
	pass(900);
	assert_int_equal(t.answers, 0);
	pass(400);
	assert_answer(-ENOSPC);
	assert_true(ring_now_ms(sim_ring()) - begin_ms < 1500);
	store_gate_open(t.gate, NULL);
}

static void held_too_long_is_busy(void **state)
{
	struct user_io *stuck = submit(STORE_WRITE, 0), *first, *second;

	(void)state;
	shut();
	script_end(t.old, 0, -ECANCELED);
	assert_answer(0);
	take();
	first = submit(STORE_READ, 0);
	pass(STORE_GATE_WAIT_MS / 2);
	second = submit(STORE_READ, 1);
	pass(STORE_GATE_WAIT_MS / 2 - 100);
	assert_false(stuck->done || first->done);
	pass(200);
	assert_ended(stuck, -EAGAIN);
	assert_ended(first, -EAGAIN);
	assert_false(second->done);
	open_with(SIZE);
	assert_int_equal(t.new->seen_count, 1);
	script_end(t.new, 0, 0);
	assert_ended(second, 0);
}

/* What the disk says of itself. */
static void the_gate_is_as_its_disk(void **state)
{
	(void)state;
	assert_true(t.gate->volatile_cache);
	shut();
	assert_answer(0);
	take();
	t.new = script_new(SIZE + B, &t.new_freed);
	t.new->disk.read_only = true;
	t.new->disk.volatile_cache = false;
	store_gate_open(t.gate, &t.new->disk);
	assert_true(t.gate->read_only);
	assert_false(t.gate->volatile_cache);
	assert_int_equal(t.gate->size_bytes, SIZE + B);
	assert_ptr_not_equal(t.gate->ops, t.new->disk.ops);
}

static void a_smaller_disk(void **state)
{
	struct user_io *inside, *across, *beyond, *flush;

	(void)state;
	shut();
	inside = submit(STORE_WRITE, 30);
	across = submit(STORE_READ, 31);
	beyond = submit(STORE_READ, 63);
	flush = submit(STORE_FLUSH, 0);
	across->io.length_bytes = 2 * B;
	assert_answer(0);
	take();
	open_with(32 * B);
	assert_int_equal(t.gate->size_bytes, 32 * B);
	assert_int_equal(t.new->seen_count, 2);
	script_end(t.new, 0, 0);
	script_end(t.new, 1, 0);
	run();
	assert_ended(inside, 0);
	assert_ended(flush, 0);
	assert_ended(across, -ERANGE);
	assert_ended(beyond, -ERANGE);
}

static struct store_stats stats(void)
{
	struct store_stats s;

	t.gate->ops->stats(t.gate, &s);
	return s;
}

/* A counter never goes back; what is so now is the present disk's. */
static void statistics_go_on(void **state)
{
	(void)state;
	t.old->stats = (struct store_stats){.reads = 1,
					    .read_bytes = 2,
					    .writes = 3,
					    .written_bytes = 4,
					    .discards = 5,
					    .discarded_bytes = 6,
					    .flushes = 7,
					    .flush_rounds = 8,
					    .flush_us_total = 9,
					    .flush_us_max = 100,
					    .copy_ups = 11,
					    .owned_blocks = 12};
	shut();
	assert_answer(0);
	take();
	assert_int_equal(stats().read_bytes, 2);
	assert_int_equal(stats().owned_blocks, 12);
	open_with(SIZE);
	assert_int_equal(stats().written_bytes, 4);
	t.new->stats = (struct store_stats){.reads = 10,
					    .read_bytes = 10,
					    .writes = 10,
					    .written_bytes = 10,
					    .discards = 10,
					    .discarded_bytes = 10,
					    .flushes = 10,
					    .flush_rounds = 10,
					    .flush_us_total = 10,
					    .flush_us_max = 99,
					    .copy_ups = 10,
					    .owned_blocks = 1,
					    .no_space = true};
	assert_int_equal(stats().reads, 11);
	assert_int_equal(stats().read_bytes, 12);
	assert_int_equal(stats().writes, 13);
	assert_int_equal(stats().written_bytes, 14);
	assert_int_equal(stats().discards, 15);
	assert_int_equal(stats().discarded_bytes, 16);
	assert_int_equal(stats().flushes, 17);
	assert_int_equal(stats().flush_rounds, 18);
	assert_int_equal(stats().flush_us_total, 19);
	assert_int_equal(stats().flush_us_max, 100);
	assert_int_equal(stats().copy_ups, 21);
	t.new->stats.flush_us_max = 101;
	assert_int_equal(stats().flush_us_max, 101);
	assert_int_equal(stats().owned_blocks, 1);
	assert_true(stats().no_space);
}

static struct store_gate_state state_now(void)
{
	struct store_gate_state now;

	store_gate_state(t.gate, &now);
	return now;
}

static bool same_state(const struct store_gate_state *a, const struct store_gate_state *b)
{
	return a->steady && b->steady && a->changes == b->changes &&
	       memcmp(&a->incarnation, &b->incarnation, sizeof(a->incarnation)) == 0;
}

/* Two equal steady states have nothing between them that changes what the disk reads as. */
static void every_change_is_counted(void **state)
{
	static const enum store_op quiet[] = {STORE_READ, STORE_FLUSH},
				   loud[] = {STORE_WRITE, STORE_DISCARD};
	static const int results[] = {0, -EIO, -ENOSPC};
	struct store_gate_state before, after;
	unsigned seen = 0;
	bool freed;

	(void)state;
	before = state_now();
	assert_true(before.steady);
	for (unsigned i = 0; i < 2; i++) {
		(void)submit(quiet[i], 1);
		after = state_now();
		assert_true(same_state(&before, &after));
		script_end(t.old, seen++, 0);
		after = state_now();
		assert_true(same_state(&before, &after));
	}
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < 3; k++) {
			before = state_now();
			assert_true(before.steady);
			(void)submit(loud[i], 1);
			assert_false(state_now().steady);
			/* Whatever it says: it may have changed something. */
			script_end(t.old, seen++, results[k]);
			after = state_now();
			assert_true(after.steady);
			assert_false(same_state(&before, &after));
		}
	}
	/* One that waits has not begun. */
	shut();
	assert_answer(0);
	(void)submit(STORE_WRITE, 1);
	before = state_now();
	assert_true(same_state(&before, &after));
	take();
	assert_false(state_now().steady);
	open_with(SIZE);
	assert_false(state_now().steady);
	script_end(t.new, 0, 0);
	after = state_now();
	assert_true(after.steady);
	assert_false(same_state(&before, &after));
	/* Another gate has other states. */
	{
		struct store_disk *other;
		struct script_disk *disk = script_new(SIZE, &freed);
		struct store_gate_state others;

		assert_int_equal(store_gate_new(sim_ring(), &disk->disk, &other), 0);
		store_gate_state(other, &others);
		others.changes = after.changes;
		assert_false(same_state(&after, &others));
		other->ops->free(other);
		assert_true(freed);
	}
}

/* An exchange alone is a change too, and one whose write was called back. */
static void exchanges_are_counted(void **state)
{
	struct store_gate_state before = state_now(), after;
	struct user_io *write;

	(void)state;
	t.old->stats.untouched = true;
	assert_true(stats().untouched);
	shut();
	assert_answer(0);
	assert_true(stats().untouched);
	take();
	assert_false(stats().untouched); /* nobody can tell */
	open_with(SIZE);
	t.new->stats.untouched = true;
	assert_true(stats().untouched);
	after = state_now();
	assert_true(after.steady);
	assert_false(same_state(&before, &after));
	/* It may have been half-way. */
	before = after;
	write = submit(STORE_WRITE, 1);
	shut();
	script_end(t.new, 0, -ECANCELED);
	assert_false(write->done);
	assert_answer(0);
	store_gate_open(t.gate, NULL);
	assert_false(state_now().steady);
	script_end(t.new, 1, 0);
	assert_ended(write, 0);
	after = state_now();
	assert_true(after.steady);
	assert_false(same_state(&before, &after));
}

static void nobody_can_tell_extents(void **state)
{
	uint64_t bytes;
	bool mapped;

	(void)state;
	shut();
	assert_int_equal(t.gate->ops->extent(t.gate, 0, B, &mapped, &bytes), -EAGAIN);
	assert_answer(0);
	take();
	assert_int_equal(t.gate->ops->extent(t.gate, 0, B, &mapped, &bytes), -EAGAIN);
	open_with(SIZE);
	assert_int_equal(t.gate->ops->extent(t.gate, 0, B, &mapped, &bytes), 0);
}

/* Everything was flushed just before, so that nothing is lost by it; teardown closes a gate that
 * has no disk. */
static void a_disk_that_closes_badly_is_gone_all_the_same(void **state)
{
	(void)state;
	t.old->detach_res = -ENOMEM;
	shut();
	assert_answer(0);
	take();
}

/* --- over the real disk --- */

static struct {
	char dir[64], layer[96];
} real;

static void real_new(void)
{
	static const struct store_layer_info info = {.size_bytes = LIMIT_DISK_BYTES_MIN};
	struct store_error err;

	(void)snprintf(real.dir, sizeof(real.dir), "/dev/shm/lunroot-gate-XXXXXX");
	assert_non_null(mkdtemp(real.dir));
	(void)snprintf(real.layer, sizeof(real.layer), "%s/layer.cow", real.dir);
	assert_int_equal(store_layer_create(real.layer, &info, &err), 0);
}

static struct store_disk *real_open(bool scratch)
{
	const struct store_chain chain = {.layer_paths = {real.layer},
					  .layer_count = 1,
					  .run_dir = real.dir,
					  .scratch = scratch};
	struct store_disk *disk;
	struct store_error err;

	assert_int_equal(store_open(&chain, &disk, &err), 0);
	assert_int_equal(store_attach(disk, sim_ring()), 0);
	return disk;
}

static void real_close(struct store_disk *disk)
{
	disk->ops->detach(disk, answered, &t);
	assert_answer(0);
	disk->ops->free(disk);
}

static void real_remove(void)
{
	assert_int_equal(remove(real.layer), 0);
	assert_int_equal(remove(real.dir), 0);
}

/* Block 0. */
static void real_submit(struct store_disk *disk, struct user_io *user, enum store_op op,
			uint8_t *data)
{
	*user = (struct user_io){.io = {.op = op,
					.length_bytes = op == STORE_FLUSH ? 0 : B,
					.data = data,
					.done = user_done}};
	store_submit(disk, &user->io);
}

/* A flush with FUA reaches a scratch disk, too. */
static void scratch_is_flushed_for_good(void **state)
{
	static uint8_t data[B];
	struct user_io write, lazy,
		flush = {.io = {.op = STORE_FLUSH, .fua = true, .done = user_done}};
	struct store_disk *disk;
	unsigned syncs;

	(void)state;
	real_new();
	disk = real_open(true);
	real_submit(disk, &write, STORE_WRITE, data);
	run();
	assert_ended(&write, 0);
	syncs = sim_sync_count();
	real_submit(disk, &lazy, STORE_FLUSH, NULL);
	run();
	assert_ended(&lazy, 0);
	assert_int_equal(sim_sync_count(), syncs);
	store_submit(disk, &flush.io);
	run();
	assert_ended(&flush, 0);
	assert_int_equal(sim_sync_count(), syncs + 2);
	real_close(disk);
	real_remove();
}

/* A write that waits for space, one that waits for that one, and a flush: none keeps the gate from
 * being shut, and all are done by the disk that comes then, in order. */
static void a_full_disk_can_be_exchanged(void **state)
{
	static uint8_t one[B], two[B], seen[B];
	struct user_io first, second, flush, read;
	struct store_disk *gate;
	struct store_stats s;

	(void)state;
	real_new();
	memset(one, 1, B);
	memset(two, 2, B);
	assert_int_equal(store_gate_new(sim_ring(), real_open(false), &gate), 0);
	sim_set_no_space(1000);
	real_submit(gate, &first, STORE_WRITE, one);
	real_submit(gate, &second, STORE_WRITE, two);
	pass(100);
	gate->ops->stats(gate, &s);
	assert_true(s.no_space);
	store_gate_shut(gate, answered, &t);
	real_submit(gate, &flush, STORE_FLUSH, NULL);
	assert_answer(0);
	assert_false(first.done || second.done || flush.done);
	store_gate_take(gate, answered, &t);
	assert_answer(0);
	sim_set_no_space(0);
	store_gate_open(gate, real_open(false));
	run();
	assert_ended(&first, 0);
	assert_ended(&second, 0);
	assert_ended(&flush, 0);
	real_submit(gate, &read, STORE_READ, seen);
	run();
	assert_ended(&read, 0);
	assert_memory_equal(seen, two, B);
	gate->ops->stats(gate, &s);
	assert_false(s.no_space);
	real_close(gate);
	real_remove();
}

/* --- by chance --- */

#define CHANCE_BLOCKS 12u
#define CHANCE_STEPS  600u

/* A block has one command at a time, so that it is known what it may hold. */
struct chance_block {
	struct user_io io;
	enum store_op op;
	bool busy, cancelled;
	uint8_t data[B];
	uint8_t sure;      /* what was acknowledged last */
	uint8_t maybe[32]; /* what came after it and ended otherwise */
	unsigned maybe_count;
	uint8_t writing;
};

static struct {
	struct store_disk *gate;
	struct chance_block blocks[CHANCE_BLOCKS];
	enum { OPEN, SHUTTING, QUIET, TAKING, TAKEN } state;
	int res;
	unsigned seed, exchanges, called_off, busies, done, deaths;
} chance;

static bool may_hold(const struct chance_block *block, uint8_t value)
{
	for (unsigned i = 0; i < block->maybe_count; i++) {
		if (block->maybe[i] == value)
			return true;
	}
	return block->sure == value;
}

static void chance_check(struct chance_block *block)
{
	for (unsigned i = 0; i < B; i++)
		assert_int_equal(block->data[i], block->data[0]);
	assert_true(may_hold(block, block->data[0]));
}

static void chance_ended(struct chance_block *block)
{
	int res = block->io.res;

	block->busy = false;
	chance.done++;
	assert_true(res == 0 || res == -ENOSPC || res == -EAGAIN ||
		    (res == -ECANCELED && block->cancelled));
	chance.busies += res == -ENOSPC || res == -EAGAIN;
	if (block->op == STORE_READ) {
		if (res == 0)
			chance_check(block);
	} else if (block->op != STORE_FLUSH && res == 0) {
		block->sure = block->writing;
		block->maybe_count = 0;
	} else if (block->op != STORE_FLUSH) {
		assert_true(block->maybe_count < sizeof(block->maybe));
		block->maybe[block->maybe_count++] = block->writing;
	}
}

static void chance_submit(unsigned index)
{
	static const enum store_op ops[] = {STORE_WRITE, STORE_WRITE, STORE_READ, STORE_DISCARD,
					    STORE_FLUSH};
	struct chance_block *block = &chance.blocks[index];

	block->busy = true;
	block->cancelled = false;
	block->op = block->maybe_count == sizeof(block->maybe) ? STORE_READ
							       : ops[sim_below(ARRAY_COUNT(ops))];
	block->writing = block->op == STORE_DISCARD ? 0 : (uint8_t)(1 + sim_below(255));
	memset(block->data, block->op == STORE_WRITE ? block->writing : 0xee, B);
	block->io = (struct user_io){
		.io = {.op = block->op,
		       .fua = block->op == STORE_WRITE && sim_below(8) == 0,
		       .offset_bytes = block->op == STORE_FLUSH ? 0 : (uint64_t)index * B,
		       .length_bytes = block->op == STORE_FLUSH ? 0 : B,
		       .data = block->data,
		       .done = user_done}};
	store_submit(chance.gate, &block->io.io);
}

static void chance_quiet(void *arg, int res)
{
	(void)arg;
	chance.res = res;
	chance.state = QUIET;
}

static void chance_taken(void *arg, int res)
{
	(void)arg;
	assert_int_equal(res, 0);
	chance.state = TAKEN;
}

/* The next step of an exchange, or the way back. */
static void chance_exchange(void)
{
	switch (chance.state) {
	case OPEN:
		chance.state = SHUTTING;
		store_gate_shut(chance.gate, chance_quiet, NULL);
		break;
	case QUIET:
		if (chance.res < 0 || sim_below(4) == 0) {
			chance.called_off++;
			chance.state = OPEN;
			store_gate_open(chance.gate, NULL);
			break;
		}
		chance.state = TAKING;
		store_gate_take(chance.gate, chance_taken, NULL);
		break;
	case TAKEN:
		chance.exchanges++;
		chance.state = OPEN;
		store_gate_open(chance.gate, real_open(false));
		break;
	case SHUTTING:
	case TAKING: break;
	}
}

/* The process dies, at any moment of an exchange, and another one opens what is there. */
static void chance_die(void)
{
	sim_kill();
	chance.gate->ops->free(chance.gate);
	for (unsigned i = 0; i < CHANCE_BLOCKS; i++) {
		struct chance_block *block = &chance.blocks[i];

		if (!block->busy)
			continue;
		/* Nobody heard how it ended. */
		block->io.res = -EAGAIN;
		chance_ended(block);
	}
	chance.deaths++;
	chance.state = OPEN;
	assert_int_equal(store_gate_new(sim_ring(), real_open(false), &chance.gate), 0);
}

static void chance_step(void)
{
	struct chance_block *block = &chance.blocks[sim_below(CHANCE_BLOCKS)];
	uint64_t dice = sim_below(100);

	if (dice < 30 && !block->busy) {
		chance_submit((unsigned)(block - chance.blocks));
	} else if (dice < 34 && block->busy && !block->io.done) {
		block->cancelled = true;
		chance.gate->ops->cancel(chance.gate, &block->io.io);
	} else if (dice < 44) {
		chance_exchange();
	} else if (dice < 46) {
		sim_set_no_space(sim_below(2) ? 0 : 900);
	} else if (dice < 50) {
		pass(sim_below(400));
	} else if (dice == 50 && sim_below(5) == 0) {
		chance_die();
	} else {
		(void)sim_step();
	}
	for (unsigned i = 0; i < CHANCE_BLOCKS; i++) {
		if (chance.blocks[i].busy && chance.blocks[i].io.done)
			chance_ended(&chance.blocks[i]);
	}
}

static bool chance_busy(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < CHANCE_BLOCKS; i++) {
		if (chance.blocks[i].busy && !chance.blocks[i].io.done)
			return true;
	}
	return chance.state == SHUTTING || chance.state == TAKING;
}

static void chance_run(unsigned seed)
{
	memset(&chance, 0, sizeof(chance));
	chance.seed = seed;
	sim_init(seed);
	real_new();
	assert_int_equal(store_gate_new(sim_ring(), real_open(false), &chance.gate), 0);
	for (unsigned i = 0; i < CHANCE_STEPS; i++)
		chance_step();
	sim_set_no_space(0);
	while (chance.state != OPEN) {
		sim_run(chance.state == SHUTTING || chance.state == TAKING ? chance_busy : NULL,
			NULL);
		chance_exchange();
	}
	sim_run(chance_busy, NULL);
	for (unsigned i = 0; i < CHANCE_BLOCKS; i++) {
		struct chance_block *block = &chance.blocks[i];

		if (block->busy)
			chance_ended(block);
		block->op = STORE_READ;
		block->cancelled = false;
		block->io = (struct user_io){.io = {.op = STORE_READ,
						    .offset_bytes = (uint64_t)i * B,
						    .length_bytes = B,
						    .data = block->data,
						    .done = user_done}};
		store_submit(chance.gate, &block->io.io);
		run();
		assert_ended(&block->io, 0);
		chance_check(block);
	}
	chance.gate->ops->detach(chance.gate, answered, &t);
	assert_answer(0);
	chance.gate->ops->free(chance.gate);
	real_remove();
	sim_done();
}

/* A full file system is told of a thousand times. */
static int saved_stderr;

static int quiet_stderr(void **state)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	assert_true(null >= 0 && saved_stderr >= 0 && dup2(null, STDERR_FILENO) >= 0);
	return close(null);
}

static int restore_stderr(void **state)
{
	(void)state;
	assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
	return close(saved_stderr);
}

/* Each command ends once, for a reason, and what it did is there, whatever is exchanged, cancelled,
 * full or dies meanwhile. LUNROOT_SEED runs one seed only. */
static void exchanges_by_chance(void **state)
{
	const char *mode = getenv("LUNROOT_CHECK"), *only = getenv("LUNROOT_SEED");
	unsigned seeds = mode && !strcmp(mode, "long")   ? 100000
			 : mode && !strcmp(mode, "full") ? 5000
							 : 500;
	unsigned exchanges = 0, called_off = 0, busies = 0, done = 0, deaths = 0;

	(void)state;
	memset(&t, 0, sizeof(t));
	if (only) {
		chance_run((unsigned)strtoul(only, NULL, 10));
		return;
	}
	for (unsigned seed = 1; seed <= seeds; seed++) {
		chance_run(seed);
		exchanges += chance.exchanges;
		called_off += chance.called_off;
		busies += chance.busies;
		done += chance.done;
		deaths += chance.deaths;
	}
	print_message(
		"%u seeds: %u commands, %u of them BUSY; %u exchanges, %u called off; %u deaths\n",
		seeds, done, busies, exchanges, called_off, deaths);
	assert_true(exchanges > seeds && called_off > seeds && busies > 0 && deaths > 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(an_open_gate_changes_nothing),
		T(waits_in_order),
		T(what_only_waits_is_called_back),
		T(what_begins_to_wait_is_called_back),
		T(aborted_while_it_waits),
		T(a_flush_that_fails_leaves_it_as_it_was),
		T(a_flush_that_waits_for_space_is_given_up),
		T(held_too_long_is_busy),
		T(the_gate_is_as_its_disk),
		T(a_smaller_disk),
		T(statistics_go_on),
		T(every_change_is_counted),
		T(exchanges_are_counted),
		T(nobody_can_tell_extents),
		T(a_disk_that_closes_badly_is_gone_all_the_same),
		T(scratch_is_flushed_for_good),
		T(a_full_disk_can_be_exchanged),
		cmocka_unit_test_setup_teardown(exchanges_by_chance, quiet_stderr, restore_stderr),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	if (failed)
		print_message("the last seed was %u; LUNROOT_SEED=%u runs it alone\n", chance.seed,
			      chance.seed);
	return failed;
}
