/*
 * What the files of this room share.
 */
#ifndef LUNROOT_RING_INTERNAL_H
#define LUNROOT_RING_INTERNAL_H

#include <liburing.h>

#include "ring/ring.h"

/* Data buffers by size; see buf.c. */
#define BUF_CLASS_COUNT 6

struct ring_pool {
	size_t bytes_max; /* budget */
	size_t bytes_out; /* handed out */
	size_t bytes_peak;
	size_t bytes_cached; /* on the free lists */
	uint64_t waits;
	struct list free[BUF_CLASS_COUNT];
	struct list waiters;             /* first come, first served */
	struct ring_buf_waiter *serving; /* the one whose ready() runs now */
	struct ring_task serve;
	struct ring_timer trim;
	struct ring_timer retry; /* the system had no memory: ask again without a ring_buf_put */
};

struct ring {
	const char *name;
	struct io_uring uring;
	bool stopping;
	uint64_t now_ms;

	struct mailbox mailbox;
	struct ring_op mailbox_op;

	struct list tasks;

	struct ring_timer **timers; /* heap, earliest first */
	size_t timer_count, timer_room;

	struct io_uring_buf_ring *recv_ring;
	uint8_t *recv_data;

	struct ring_pool pool;
	struct ring_stats stats;
};

/* recv.c: the shared receive buffers. */
int ring_recv_buffers_init(struct ring *ring);
void ring_recv_buffers_done(struct ring *ring);
const uint8_t *ring_recv_buffer(const struct ring *ring, unsigned buffer_id);
void ring_recv_buffer_return(struct ring *ring, unsigned buffer_id);

/* timer.c */
void ring_timers_fire(struct ring *ring);
/* Milliseconds until the earliest timer; -1: there is none. */
int64_t ring_timers_wait_ms(const struct ring *ring);

/* buf.c */
void ring_pool_init(struct ring *ring, size_t bytes_max);
void ring_pool_done(struct ring *ring);

/* ops.c: a free submission entry, for `op` (NULL: nobody hears of it); and the mailbox's watch. */
struct io_uring_sqe *ring_sqe(struct ring *ring, struct ring_op *op);
void ring_poll_multishot(struct ring *ring, struct ring_op *op, int fd);

#endif
