/*
 * The gate; see gate.h.
 *
 * An I/O is WAITING here, UNDER_WAY in the disk, CALLED_BACK (it only waited in the disk, which
 * gave it back; it keeps its place among those under way until none is), or ENDING: its result is
 * there and told from the loop.
 *
 * Statistics of a unit go on over an exchange: what the disks before have counted is kept.
 */
#include "store/gate.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "ring/ring.h"

#define TICK_MS       50
#define FLUSH_WAIT_MS 1000 /* a flush that waits for space while all others wait for it */

enum { WAITING, UNDER_WAY, CALLED_BACK, ENDING };

struct gate {
	struct store_disk disk;
	struct store_disk *inner; /* NULL: there is none now */
	struct store_disk *old;   /* then: the one that was taken, closed */
	struct ring *ring;
	bool shut;
	struct list under_way; /* in the order of their submission; CALLED_BACK ones included */
	unsigned busy;         /* of those, UNDER_WAY */
	struct list waiting;
	struct list ending;
	struct ring_task end, closing;
	struct ring_timer tick;

	struct store_io flush;
	uint64_t flush_ms; /* when it was submitted; 0: it is not under way */
	void (*done)(void *arg, int res);
	void *done_arg;

	struct store_stats past; /* of disks that are gone */

	store_uuid_t incarnation;
	uint64_t changes;  /* that have begun */
	unsigned changing; /* of those, that have not ended */
};

static struct gate *gate_of(struct store_disk *disk)
{
	return CONTAINER_OF(disk, struct gate, disk);
}

/* --- I/O --- */

static void finish(struct store_io *io, int res)
{
	io->done = io->gate.done;
	io->done(io, res);
}

static void end_run(struct ring_task *task)
{
	struct gate *g = CONTAINER_OF(task, struct gate, end);
	struct list ending;

	list_init(&ending);
	list_splice(&ending, &g->ending);
	while (!list_empty(&ending)) {
		struct store_io *io = LIST_ENTRY(ending.next, struct store_io, gate.node);

		list_remove(&io->gate.node);
		finish(io, io->gate.res);
	}
}

static void end_later(struct gate *g, struct store_io *io, int res)
{
	list_remove(&io->gate.node);
	io->gate.state = ENDING;
	io->gate.res = res;
	list_append(&g->ending, &io->gate.node);
	ring_defer(g->ring, &g->end);
}

static bool beyond_end(const struct gate *g, const struct store_io *io)
{
	return io->op != STORE_FLUSH && (io->offset_bytes > g->disk.size_bytes ||
					 io->length_bytes > g->disk.size_bytes - io->offset_bytes);
}

static bool is_change(const struct store_io *io)
{
	return io->op == STORE_WRITE || io->op == STORE_DISCARD;
}

static void pass_on(struct gate *g, struct store_io *io)
{
	if (beyond_end(g, io)) {
		end_later(g, io, -ERANGE);
		return;
	}
	if (is_change(io)) {
		g->changes++;
		g->changing++;
	}
	io->gate.state = UNDER_WAY;
	list_append(&g->under_way, &io->gate.node);
	g->busy++;
	store_submit(g->inner, io);
}

static void watch(struct gate *g)
{
	/* Without memory for the timer those that wait do so until the gate opens. */
	if (!g->tick.armed)
		(void)ring_timer_arm(g->ring, &g->tick, TICK_MS);
}

static void flush_done(struct store_io *io, int res)
{
	struct gate *g = CONTAINER_OF(io, struct gate, flush);
	void (*done)(void *arg, int res) = TAKE_PTR(g->done);

	g->flush_ms = 0;
	/* It could be called back: it waited for space. */
	done(g->done_arg, res == -ECANCELED ? -ENOSPC : res);
}

/* Nothing is under way: what was called back is first among those that wait. */
static void drained(struct gate *g)
{
	list_for_each (node, &g->under_way)
		LIST_ENTRY(node, struct store_io, gate.node)->gate.state = WAITING;
	list_splice(&g->under_way, &g->waiting);
	list_splice(&g->waiting, &g->under_way);
	g->flush_ms = ring_now_ms(g->ring);
	/* All of it, although the disk be scratch: its files may be sealed next. */
	g->flush = (struct store_io){.op = STORE_FLUSH, .fua = true, .done = flush_done};
	store_submit(g->inner, &g->flush);
}

static void inner_done(struct store_io *io, int res)
{
	struct gate *g = gate_of(io->gate.disk);
	bool called_back = g->shut && res == -ECANCELED && !io->gate.cancelled;

	assert(io->gate.state == UNDER_WAY);
	assert(g->busy > 0);
	g->busy--;
	if (is_change(io))
		g->changing--;
	if (called_back)
		io->gate.state = CALLED_BACK;
	else
		list_remove(&io->gate.node);
	if (g->shut && g->busy == 0)
		drained(g);
	if (!called_back)
		finish(io, res);
}

/* --- shutting and opening --- */

static void call_back(struct gate *g)
{
	list_for_each (node, &g->under_way) {
		struct store_io *io = LIST_ENTRY(node, struct store_io, gate.node);

		if (io->gate.state == UNDER_WAY)
			g->inner->ops->cancel(g->inner, io);
	}
}

static void tick_fire(struct ring_timer *timer)
{
	struct gate *g = CONTAINER_OF(timer, struct gate, tick);
	uint64_t now_ms = ring_now_ms(g->ring);

	if (g->busy > 0)
		call_back(g);
	else if (g->flush_ms && now_ms - g->flush_ms >= FLUSH_WAIT_MS)
		g->inner->ops->cancel(g->inner, &g->flush);
	list_for_each (node, &g->waiting) {
		struct store_io *io = LIST_ENTRY(node, struct store_io, gate.node);

		if (now_ms - io->gate.since_ms >= STORE_GATE_WAIT_MS)
			end_later(g, io, -EAGAIN);
	}
	if (g->busy > 0 || g->flush_ms || !list_empty(&g->waiting))
		watch(g);
}

void store_gate_shut(struct store_disk *gate, void (*quiet)(void *arg, int res), void *arg)
{
	struct gate *g = gate_of(gate);

	ASSERT_RING_THREAD(g->ring);
	assert(!g->shut && g->inner);
	g->shut = true;
	g->done = quiet;
	g->done_arg = arg;
	watch(g);
	if (g->busy > 0)
		call_back(g);
	else
		drained(g);
}

static void add_past(struct store_stats *sum, const struct store_stats *past)
{
	sum->reads += past->reads;
	sum->read_bytes += past->read_bytes;
	sum->writes += past->writes;
	sum->written_bytes += past->written_bytes;
	sum->discards += past->discards;
	sum->discarded_bytes += past->discarded_bytes;
	sum->flushes += past->flushes;
	sum->flush_rounds += past->flush_rounds;
	sum->flush_us_total += past->flush_us_total;
	if (sum->flush_us_max < past->flush_us_max)
		sum->flush_us_max = past->flush_us_max;
	sum->copy_ups += past->copy_ups;
}

static void gate_stats(struct store_disk *gate, struct store_stats *ret_stats)
{
	struct gate *g = gate_of(gate);

	if (!g->inner) {
		*ret_stats = g->past;
		ret_stats->untouched = false; /* nobody can tell */
		return;
	}
	g->inner->ops->stats(g->inner, ret_stats);
	add_past(ret_stats, &g->past);
}

static void inner_detached(void *arg, int res)
{
	struct gate *g = arg;
	void (*done)(void *arg, int res) = TAKE_PTR(g->done);
	struct store_stats stats;

	/* Nothing was done since it was flushed, so that nothing can be lost. */
	if (res < 0)
		log_warn("a disk that was flushed could not be closed cleanly: %s", strerror(-res));
	gate_stats(&g->disk, &stats);
	g->past = stats;
	g->old = TAKE_PTR(g->inner);
	done(g->done_arg, 0);
}

static void old_free(struct gate *g)
{
	struct store_disk *old = TAKE_PTR(g->old);

	if (old)
		old->ops->free(old);
}

void store_gate_take(struct store_disk *gate, void (*taken)(void *arg, int res), void *arg)
{
	struct gate *g = gate_of(gate);

	ASSERT_RING_THREAD(g->ring);
	assert(g->shut && g->inner && !g->done);
	g->done = taken;
	g->done_arg = arg;
	g->inner->ops->detach(g->inner, inner_detached, g);
}

/* Whatever a disk says of itself is said by its gate. */
static void take_in(struct gate *g, struct store_disk *inner)
{
	const struct store_disk_ops *ops = g->disk.ops;

	g->inner = inner;
	g->disk = *inner;
	g->disk.ops = ops;
}

void store_gate_open(struct store_disk *gate, struct store_disk *inner)
{
	struct gate *g = gate_of(gate);
	struct list waiting;

	ASSERT_RING_THREAD(g->ring);
	assert(g->shut && !g->done);
	assert(!g->inner == !!inner);
	if (inner) {
		old_free(g); /* before anything is written to the new one */
		take_in(g, inner);
		g->changes++;
	}
	g->shut = false;
	ring_timer_cancel(g->ring, &g->tick);
	list_init(&waiting);
	list_splice(&waiting, &g->waiting);
	while (!list_empty(&waiting)) {
		struct store_io *io = LIST_ENTRY(waiting.next, struct store_io, gate.node);

		list_remove(&io->gate.node);
		pass_on(g, io);
	}
}

void store_gate_state(struct store_disk *gate, struct store_gate_state *ret_state)
{
	struct gate *g = gate_of(gate);

	ASSERT_RING_THREAD(g->ring);
	*ret_state = (struct store_gate_state){
		.incarnation = g->incarnation,
		.changes = g->changes,
		.steady = g->changing == 0 && g->inner,
	};
}

/* --- the seam --- */

static void gate_submit(struct store_disk *gate, struct store_io *io)
{
	struct gate *g = gate_of(gate);

	ASSERT_RING_THREAD(g->ring);
	io->gate.disk = gate;
	io->gate.done = io->done;
	io->gate.cancelled = false;
	io->gate.since_ms = ring_now_ms(g->ring);
	io->done = inner_done;
	list_init(&io->gate.node);
	if (!g->shut) {
		pass_on(g, io);
		return;
	}
	io->gate.state = WAITING;
	list_append(&g->waiting, &io->gate.node);
	watch(g);
}

static void gate_cancel(struct store_disk *gate, struct store_io *io)
{
	struct gate *g = gate_of(gate);

	ASSERT_RING_THREAD(g->ring);
	switch (io->gate.state) {
	case WAITING:
	case CALLED_BACK: end_later(g, io, -ECANCELED); break;
	case UNDER_WAY:
		io->gate.cancelled = true;
		g->inner->ops->cancel(g->inner, io);
		break;
	case ENDING: break;
	}
}

/* While it is shut there may be nobody who can tell: ask again. */
static int gate_extent(struct store_disk *gate, uint64_t offset_bytes, uint64_t length_bytes,
		       bool *ret_mapped, uint64_t *ret_bytes)
{
	struct gate *g = gate_of(gate);

	if (g->shut)
		return -EAGAIN;
	return g->inner->ops->extent(g->inner, offset_bytes, length_bytes, ret_mapped, ret_bytes);
}

static void closing_run(struct ring_task *task)
{
	struct gate *g = CONTAINER_OF(task, struct gate, closing);
	void (*done)(void *arg, int res) = TAKE_PTR(g->done);

	done(g->done_arg, 0);
}

static void gate_detach(struct store_disk *gate, void (*closed)(void *arg, int res), void *arg)
{
	struct gate *g = gate_of(gate);

	ASSERT_RING_THREAD(g->ring);
	assert(list_empty(&g->under_way) && list_empty(&g->waiting) && list_empty(&g->ending));
	assert(!g->done);
	ring_timer_cancel(g->ring, &g->tick);
	if (g->inner) {
		g->inner->ops->detach(g->inner, closed, arg);
		return;
	}
	g->done = closed;
	g->done_arg = arg;
	ring_defer(g->ring, &g->closing);
}

static void gate_free(struct store_disk *gate)
{
	struct gate *g = gate_of(gate);

	if (g->inner)
		g->inner->ops->free(g->inner);
	old_free(g);
	free(g);
}

static const struct store_disk_ops gate_ops = {
	.submit = gate_submit,
	.cancel = gate_cancel,
	.extent = gate_extent,
	.stats = gate_stats,
	.detach = gate_detach,
	.free = gate_free,
};

int store_gate_new(struct ring *ring, struct store_disk *inner, struct store_disk **ret_gate)
{
	struct gate *g = calloc(1, sizeof(*g));

	ASSERT_RING_THREAD(ring);
	if (!g)
		return -ENOMEM;
	g->disk.ops = &gate_ops;
	g->ring = ring;
	list_init(&g->under_way);
	list_init(&g->waiting);
	list_init(&g->ending);
	ring_task_init(&g->end, end_run);
	ring_task_init(&g->closing, closing_run);
	ring_timer_init(&g->tick, tick_fire);
	take_in(g, inner);
	store_uuid_generate(&g->incarnation);
	*ret_gate = &g->disk;
	return 0;
}
