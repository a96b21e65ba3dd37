/*
 * The reactor's promises: order, exactly one completion, nothing from inside another function,
 * buffers within the budget and first come first served.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "ring/ring.h"

struct fixture {
	struct ring *ring;
	struct mailbox_msg start;
	void (*body)(struct fixture *f);
	char trace[256];

	struct ring_timer timers[3];
	struct ring_task tasks[2];
	struct ring_op op;
	struct ring_buf *bufs[64];
	unsigned buf_count;
	struct ring_buf_waiter waiters[2];
	int fds[2];
	char received[65536];
	size_t received_bytes;
	pthread_t thread;
	unsigned msg_count;
	bool inside;
};

static void note(struct fixture *f, const char *what)
{
	assert_false(f->inside);
	strncat(f->trace, what, sizeof(f->trace) - strlen(f->trace) - 1);
}

static void body_run(struct mailbox_msg *msg)
{
	struct fixture *f = CONTAINER_OF(msg, struct fixture, start);

	f->body(f);
}

static void run(struct fixture *f, void (*body)(struct fixture *f))
{
	const struct ring_config config = {.name = "test", .io_pool_bytes_max = 8u << 20};

	f->body = body;
	f->start.run = body_run;
	assert_int_equal(ring_new(&config, &f->ring), 0);
	ring_post(f->ring, &f->start);
	assert_int_equal(ring_run(f->ring), 0);
	ring_free(f->ring);
}

static void timer0(struct ring_timer *t)
{
	struct fixture *f = CONTAINER_OF(t, struct fixture, timers[0]);

	note(f, "0");
	ring_stop(f->ring);
}

static void timer1(struct ring_timer *t)
{
	note(CONTAINER_OF(t, struct fixture, timers[1]), "1");
}

static void timer2(struct ring_timer *t)
{
	note(CONTAINER_OF(t, struct fixture, timers[2]), "2");
}

static void timers_body(struct fixture *f)
{
	ring_timer_init(&f->timers[0], timer0);
	ring_timer_init(&f->timers[1], timer1);
	ring_timer_init(&f->timers[2], timer2);
	assert_int_equal(ring_timer_arm(f->ring, &f->timers[0], 300), 0);
	assert_int_equal(ring_timer_arm(f->ring, &f->timers[1], 200), 0);
	assert_int_equal(ring_timer_arm(f->ring, &f->timers[2], 1), 0);
	assert_int_equal(ring_timer_arm(f->ring, &f->timers[2], 100), 0);
	ring_timer_cancel(f->ring, &f->timers[1]);
	assert_int_equal(ring_timer_arm(f->ring, &f->timers[1], 50), 0);
}

static void timers_fire_in_order_and_once(void **state)
{
	struct fixture f = {0};

	(void)state;
	run(&f, timers_body);
	assert_string_equal(f.trace, "120");
}

#define HEAP_TIMERS 500
static struct ring_timer heap_timers[HEAP_TIMERS];
static uint64_t heap_last_due_ms;
static unsigned heap_fired;
static struct ring *heap_ring;

static void heap_fire(struct ring_timer *t)
{
	assert_true(t->due_ms >= heap_last_due_ms);
	heap_last_due_ms = t->due_ms;
	if (++heap_fired == HEAP_TIMERS - HEAP_TIMERS / 5)
		ring_stop(heap_ring);
}

static void heap_body(struct fixture *f)
{
	uint32_t x = 12345;

	heap_ring = f->ring;
	for (unsigned i = 0; i < HEAP_TIMERS; i++) {
		x = x * 1664525 + 1013904223;
		ring_timer_init(&heap_timers[i], heap_fire);
		assert_int_equal(ring_timer_arm(f->ring, &heap_timers[i], (x >> 16) % 50), 0);
	}
	for (unsigned i = 0; i < HEAP_TIMERS; i += 5)
		ring_timer_cancel(f->ring, &heap_timers[i]);
}

static void timers_many_with_cancels_keep_order(void **state)
{
	struct fixture f = {0};

	(void)state;
	run(&f, heap_body);
	assert_int_equal(heap_fired, HEAP_TIMERS - HEAP_TIMERS / 5);
}

static void task1(struct ring_task *t)
{
	struct fixture *f = CONTAINER_OF(t, struct fixture, tasks[1]);

	note(f, "b");
	ring_stop(f->ring);
}

static void task0(struct ring_task *t)
{
	struct fixture *f = CONTAINER_OF(t, struct fixture, tasks[0]);

	note(f, "a");
	f->inside = true;
	ring_defer(f->ring, &f->tasks[1]);
	ring_defer(f->ring, &f->tasks[1]);
	f->inside = false;
}

static void tasks_body(struct fixture *f)
{
	ring_task_init(&f->tasks[0], task0);
	ring_task_init(&f->tasks[1], task1);
	f->inside = true;
	ring_defer(f->ring, &f->tasks[0]);
	f->inside = false;
}

static void deferred_twice_runs_once_and_later(void **state)
{
	struct fixture f = {0};

	(void)state;
	run(&f, tasks_body);
	assert_string_equal(f.trace, "ab");
}

static void recv_done(struct ring_op *op, int res)
{
	struct fixture *f = CONTAINER_OF(op, struct fixture, op);

	assert_true(res >= 0);
	if (res == 0) {
		assert_false(op->more);
		ring_stop(f->ring);
		return;
	}
	assert_non_null(op->data);
	memcpy(f->received + f->received_bytes, op->data, (size_t)res);
	f->received_bytes += (size_t)res;
	if (!op->more)
		ring_recv_multishot(f->ring, op, f->fds[0]);
}

static void *sender(void *arg)
{
	struct fixture *f = arg;
	char block[1000];

	for (int i = 0; i < 60; i++) {
		memset(block, 'A' + i % 26, sizeof(block));
		assert_int_equal(write(f->fds[1], block, sizeof(block)), sizeof(block));
	}
	close(f->fds[1]);
	return NULL;
}

static void recv_body(struct fixture *f)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->fds), 0);
	f->op.done = recv_done;
	ring_recv_multishot(f->ring, &f->op, f->fds[0]);
	assert_int_equal(pthread_create(&f->thread, NULL, sender, f), 0);
}

static void recv_multishot_brings_every_byte_in_order(void **state)
{
	struct fixture f = {0};

	(void)state;
	run(&f, recv_body);
	pthread_join(f.thread, NULL);
	close(f.fds[0]);
	assert_int_equal(f.received_bytes, 60000);
	for (size_t i = 0; i < f.received_bytes; i++)
		assert_int_equal(f.received[i], 'A' + (int)(i / 1000) % 26);
}

static void cancel_done(struct ring_op *op, int res)
{
	struct fixture *f = CONTAINER_OF(op, struct fixture, op);

	assert_int_equal(res, -ECANCELED);
	assert_false(op->more);
	ring_stop(f->ring);
}

static void cancel_body(struct fixture *f)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, f->fds), 0);
	f->op.done = cancel_done;
	ring_recv_multishot(f->ring, &f->op, f->fds[0]);
	ring_cancel(f->ring, &f->op);
}

static void cancelled_recv_completes_once(void **state)
{
	struct fixture f = {0};

	(void)state;
	run(&f, cancel_body);
	close(f.fds[0]);
	close(f.fds[1]);
}

struct counted_msg {
	struct mailbox_msg msg;
	struct fixture *f;
	unsigned number;
};

static struct counted_msg counted[1000];

static void counted_run(struct mailbox_msg *msg)
{
	struct counted_msg *c = CONTAINER_OF(msg, struct counted_msg, msg);

	assert_int_equal(c->number, c->f->msg_count);
	if (++c->f->msg_count == ARRAY_COUNT(counted))
		ring_stop(c->f->ring);
}

static void *poster(void *arg)
{
	struct fixture *f = arg;

	for (unsigned i = 0; i < ARRAY_COUNT(counted); i++) {
		counted[i] = (struct counted_msg){{.run = counted_run}, f, i};
		ring_post(f->ring, &counted[i].msg);
		if (i % 100 == 0)
			usleep(100);
	}
	return NULL;
}

static void post_body(struct fixture *f)
{
	assert_int_equal(pthread_create(&f->thread, NULL, poster, f), 0);
}

static void messages_of_another_thread_come_in_order(void **state)
{
	struct fixture f = {0};

	(void)state;
	run(&f, post_body);
	pthread_join(f.thread, NULL);
	assert_int_equal(f.msg_count, ARRAY_COUNT(counted));
}

static void waiter1_ready(struct ring_buf_waiter *w)
{
	struct fixture *f = CONTAINER_OF(w, struct fixture, waiters[1]);

	note(f, "small");
	ring_stop(f->ring);
}

static void waiter0_ready(struct ring_buf_waiter *w)
{
	struct fixture *f = CONTAINER_OF(w, struct fixture, waiters[0]);
	struct ring_buf *buf = ring_buf_get(f->ring, LIMIT_IO_BUFFER_BYTES);

	if (!buf) {
		note(f, "wait,");
		ring_buf_wait(f->ring, w);
		ring_buf_put(f->ring, f->bufs[--f->buf_count]);
		return;
	}
	note(f, "large,");
	ring_buf_put(f->ring, buf);
}

static void buf_body(struct fixture *f)
{
	struct ring_buf *buf;

	while ((buf = ring_buf_get(f->ring, 1000000))) {
		assert_true(buf->bytes >= 1000000);
		memset(buf->data, 1, buf->bytes);
		f->bufs[f->buf_count++] = buf;
	}
	assert_int_equal(f->buf_count, 8);
	ring_buf_waiter_init(&f->waiters[0], waiter0_ready);
	ring_buf_waiter_init(&f->waiters[1], waiter1_ready);
	ring_buf_wait(f->ring, &f->waiters[0]);
	ring_buf_wait(f->ring, &f->waiters[1]);
	ring_buf_put(f->ring, f->bufs[--f->buf_count]);
	/* There is room for a small one, but others came first. */
	assert_null(ring_buf_get(f->ring, 4096));
}

static void buffers_are_bounded_and_first_come_first_served(void **state)
{
	struct fixture f = {0};

	(void)state;
	run(&f, buf_body);
	assert_string_equal(f.trace, "wait,wait,wait,large,small");
	for (unsigned i = 0; i < f.buf_count; i++) {
		munmap(f.bufs[i]->data, f.bufs[i]->bytes);
		free(f.bufs[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_order_and_once),
		cmocka_unit_test(timers_many_with_cancels_keep_order),
		cmocka_unit_test(deferred_twice_runs_once_and_later),
		cmocka_unit_test(recv_multishot_brings_every_byte_in_order),
		cmocka_unit_test(cancelled_recv_completes_once),
		cmocka_unit_test(messages_of_another_thread_come_in_order),
		cmocka_unit_test(buffers_are_bounded_and_first_come_first_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
