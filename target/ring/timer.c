/*
 * Timers: a binary heap, earliest first. The loop waits no longer than the earliest; an idle
 * reactor without timers sleeps.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "ring/ring_internal.h"

static void heap_put(struct ring *ring, size_t index, struct ring_timer *timer)
{
	ring->timers[index] = timer;
	timer->heap_index = index;
}

static void heap_up(struct ring *ring, size_t index, struct ring_timer *timer)
{
	while (index > 0) {
		size_t parent = (index - 1) / 2;

		if (ring->timers[parent]->due_ms <= timer->due_ms)
			break;
		heap_put(ring, index, ring->timers[parent]);
		index = parent;
	}
	heap_put(ring, index, timer);
}

static void heap_down(struct ring *ring, size_t index, struct ring_timer *timer)
{
	for (;;) {
		size_t child = 2 * index + 1;

		if (child >= ring->timer_count)
			break;
		if (child + 1 < ring->timer_count &&
		    ring->timers[child + 1]->due_ms < ring->timers[child]->due_ms)
			child++;
		if (timer->due_ms <= ring->timers[child]->due_ms)
			break;
		heap_put(ring, index, ring->timers[child]);
		index = child;
	}
	heap_put(ring, index, timer);
}

static void heap_remove(struct ring *ring, struct ring_timer *timer)
{
	size_t index = timer->heap_index;
	struct ring_timer *last = ring->timers[--ring->timer_count];

	assert(ring->timers[index] == timer);
	if (last == timer)
		return;
	heap_up(ring, index, last);
	heap_down(ring, last->heap_index, last);
}

void ring_timer_init(struct ring_timer *timer, void (*fire)(struct ring_timer *timer))
{
	*timer = (struct ring_timer){.fire = fire};
	list_init(&timer->node);
}

int ring_timer_arm(struct ring *ring, struct ring_timer *timer, uint64_t delay_ms)
{
	ASSERT_RING_THREAD(ring);
	assert(timer->fire);
	if (timer->armed)
		heap_remove(ring, timer);
	timer->armed = false;
	if (ring->timer_count == ring->timer_room) {
		size_t room = ring->timer_room ? 2 * ring->timer_room : 64;
		/* NOLINTNEXTLINE(bugprone-sizeof-expression): an array of pointers it is */
		struct ring_timer **timers = reallocarray(ring->timers, room, sizeof(*timers));

		if (!timers)
			return -ENOMEM;
		ring->timers = timers;
		ring->timer_room = room;
	}
	/* The turn's clock may be a little behind: never too early. */
	timer->due_ms = clock_ms() + delay_ms;
	timer->armed = true;
	heap_up(ring, ring->timer_count++, timer);
	return 0;
}

void ring_timer_cancel(struct ring *ring, struct ring_timer *timer)
{
	if (!timer->armed)
		return;
	ASSERT_RING_THREAD(ring);
	timer->armed = false;
	heap_remove(ring, timer);
}

void ring_timers_fire(struct ring *ring)
{
	while (ring->timer_count > 0 && ring->timers[0]->due_ms <= ring->now_ms) {
		struct ring_timer *timer = ring->timers[0];

		timer->armed = false;
		heap_remove(ring, timer);
		timer->fire(timer);
	}
}

int64_t ring_timers_wait_ms(const struct ring *ring)
{
	uint64_t now_ms;

	if (ring->timer_count == 0)
		return -1;
	now_ms = clock_ms();
	return ring->timers[0]->due_ms <= now_ms ? 0 : (int64_t)(ring->timers[0]->due_ms - now_ms);
}
