/*
 * A reactor: one thread with one io_uring. It knows submission, completion, timers and
 * buffers, and nothing of what the bytes mean.
 *
 * Invariants:
 * 1. All but ring_new, ring_free, ring_post and ring_name are called on the ring's own thread
 *    (ASSERT_RING_THREAD).
 * 2. An operation started is completed exactly once (multishot: until a completion without
 *    `more`); its struct ring_op, buffers and descriptors live until then.
 * 3. No completion, timer, task or waiter runs from inside another function of this header:
 *    they run from the loop, one after another.
 */
#ifndef LUNROOT_RING_RING_H
#define LUNROOT_RING_RING_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/list.h"
#include "base/mailbox.h"

struct ring;

/* --- life --- */

struct ring_config {
	const char *name;         /* static text: thread name and log tag, at most 15 bytes */
	size_t io_pool_bytes_max; /* budget of ring_buf_get; 0 = LIMIT_IO_POOL_BYTES */
};

/*
 * Whether this kernel lets us use io_uring the way we do. 0, or -errno with a sentence in
 * ret_why that names what forbids it (kernel.io_uring_disabled, seccomp in a container, too
 * old a kernel, RLIMIT_MEMLOCK) and the cure. Any thread.
 */
int ring_probe(char *ret_why, size_t why_bytes);

/* Makes a ring that ring_run will serve. 0 or -errno. Any thread. */
int ring_new(const struct ring_config *config, struct ring **ret_ring);
/* After ring_run has returned, or if it never ran. Accepts NULL. Any thread. */
void ring_free(struct ring *ring);
/* Serves the ring on the calling thread until ring_stop. 0 or -errno. */
int ring_run(struct ring *ring);
/* Lets ring_run return when the current turn ends. Outstanding operations are abandoned to
 * the kernel: the caller has ended those that matter. */
void ring_stop(struct ring *ring);
bool ring_is_current(const struct ring *ring);
const char *ring_name(const struct ring *ring);
/* The ring that the calling thread runs, or NULL. */
struct ring *ring_current(void);

#define ASSERT_RING_THREAD(ring) assert(ring_is_current(ring))

/* Any thread: msg->run is called on the ring's thread. */
void ring_post(struct ring *ring, struct mailbox_msg *msg);

/* CLOCK_MONOTONIC in milliseconds, read once a turn of the loop. */
uint64_t ring_now_ms(const struct ring *ring);

/* --- operations; each returns nothing, every result comes by op->done --- */

struct ring_op {
	/* res: the system call's result, or -errno. */
	void (*done)(struct ring_op *op, int res);
	bool more;           /* valid in done: a multishot operation goes on */
	const uint8_t *data; /* valid in done of ring_recv_multishot: `res` bytes, only until done
				returns */
};

/* Every new connection is a completion with its descriptor (close-on-exec). */
void ring_accept_multishot(struct ring *ring, struct ring_op *op, int fd);
/* Every arrival is a completion with op->data in the reactor's shared buffers: an idle socket
 * holds none. res 0: the peer closed; -ENOBUFS: shared buffers were all in use, start again. */
void ring_recv_multishot(struct ring *ring, struct ring_op *op, int fd);
/* Straight into the caller's buffer. With MSG_WAITALL: all of it, or the peer closed. */
void ring_recv(struct ring *ring, struct ring_op *op, int fd, void *data, size_t bytes, int flags);
/* `msg` and all it points to live until done. */
void ring_sendmsg(struct ring *ring, struct ring_op *op, int fd, const struct msghdr *msg,
		  int flags);
void ring_close(struct ring *ring, struct ring_op *op, int fd);
void ring_read(struct ring *ring, struct ring_op *op, int fd, void *data, size_t bytes,
	       uint64_t offset);
void ring_write(struct ring *ring, struct ring_op *op, int fd, const void *data, size_t bytes,
		uint64_t offset);
void ring_readv(struct ring *ring, struct ring_op *op, int fd, const struct iovec *iov,
		unsigned iov_count, uint64_t offset);
void ring_writev(struct ring *ring, struct ring_op *op, int fd, const struct iovec *iov,
		 unsigned iov_count, uint64_t offset);
void ring_fdatasync(struct ring *ring, struct ring_op *op, int fd);
void ring_fallocate(struct ring *ring, struct ring_op *op, int fd, int mode, uint64_t offset,
		    uint64_t bytes);
/* Asks the kernel to end `target` early; target's own completion still comes (-ECANCELED or
 * its result). Nothing is reported of the cancelling itself. */
void ring_cancel(struct ring *ring, struct ring_op *target);

/* --- later on this thread --- */

struct ring_task {
	struct list node;
	void (*run)(struct ring_task *task);
};

void ring_task_init(struct ring_task *task, void (*run)(struct ring_task *task));
/* Runs it once from the loop, after the completions of this turn. Twice is once. */
void ring_defer(struct ring *ring, struct ring_task *task);
/* Takes it back if it has not run. */
void ring_task_cancel(struct ring_task *task);

struct ring_timer {
	struct list node;
	uint64_t due_ms; /* in ring_now_ms */
	bool armed;
	size_t heap_index;
	void (*fire)(struct ring_timer *timer);
};

void ring_timer_init(struct ring_timer *timer, void (*fire)(struct ring_timer *timer));
/* Fires once, `delay_ms` from now or a little later; arming again moves it. 0, or -ENOMEM. */
int ring_timer_arm(struct ring *ring, struct ring_timer *timer, uint64_t delay_ms);
void ring_timer_cancel(struct ring *ring, struct ring_timer *timer);

/* --- data buffers: contiguous, page-aligned, within the reactor's budget --- */

struct ring_buf {
	uint8_t *data;
	uint32_t bytes; /* at least what was asked for */
	struct list node;
	uint8_t size_class;
};

/* NULL when the budget is used up (or bytes > LIMIT_IO_BUFFER_BYTES): wait, and stop reading. */
struct ring_buf *ring_buf_get(struct ring *ring, uint32_t bytes);
void ring_buf_put(struct ring *ring, struct ring_buf *buf);

struct ring_buf_waiter {
	struct list node;
	void (*ready)(struct ring_buf_waiter *waiter);
};

/* Called once from the loop when memory came back; ask again then, and wait again if it is
 * not enough. First come, first served. */
void ring_buf_waiter_init(struct ring_buf_waiter *waiter,
			  void (*ready)(struct ring_buf_waiter *waiter));
void ring_buf_wait(struct ring *ring, struct ring_buf_waiter *waiter);
void ring_buf_wait_cancel(struct ring_buf_waiter *waiter);
/* Somebody waits. */
bool ring_buf_wanted(const struct ring *ring);

struct ring_stats {
	uint64_t submits, completions;
	uint64_t recv_no_buffers; /* times the shared receive buffers were all in use */
	size_t io_pool_bytes;     /* handed out now */
	size_t io_pool_bytes_peak;
	uint64_t io_pool_waits; /* times the budget was used up */
};

void ring_stats(const struct ring *ring, struct ring_stats *ret_stats);

#endif
