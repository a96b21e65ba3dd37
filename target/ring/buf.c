/*
 * Data buffers: contiguous and page-aligned, in a few sizes, within the reactor's budget. Freed
 * ones are kept for the next command, and given back to the system when the reactor has been
 * quiet for a while.
 *
 * Waiters are served strictly in the order in which they came: while one waits, newcomers get
 * nothing, or a large transfer would starve behind small ones.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "base/limits.h"
#include "ring/ring_internal.h"

#define CACHE_BYTES_MAX (16u << 20)
#define TRIM_DELAY_MS   5000
#define RETRY_DELAY_MS  50

static const uint32_t class_bytes[BUF_CLASS_COUNT] = {
	4096, 16384, 65536, 262144, 1048576, LIMIT_IO_BUFFER_BYTES,
};

static_assert(LIMIT_IO_BUFFER_BYTES > 1048576, "classes rise");

static void buf_free(struct ring_buf *buf)
{
	munmap(buf->data, buf->bytes);
	free(buf);
}

static struct ring_buf *buf_new(unsigned size_class)
{
	struct ring_buf *buf = calloc(1, sizeof(*buf));
	void *data;

	if (!buf)
		return NULL;
	data = mmap(NULL, class_bytes[size_class], PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (data == MAP_FAILED) {
		free(buf);
		return NULL;
	}
	buf->data = data;
	buf->bytes = class_bytes[size_class];
	buf->size_class = (uint8_t)size_class;
	list_init(&buf->node);
	return buf;
}

static void pool_trim(struct ring_pool *pool)
{
	for (unsigned i = 0; i < BUF_CLASS_COUNT; i++) {
		while (!list_empty(&pool->free[i])) {
			struct ring_buf *buf =
				LIST_ENTRY(pool->free[i].next, struct ring_buf, node);

			list_remove(&buf->node);
			buf_free(buf);
		}
	}
	pool->bytes_cached = 0;
}

static void trim_fire(struct ring_timer *timer)
{
	pool_trim(CONTAINER_OF(timer, struct ring_pool, trim));
}

static void serve_run(struct ring_task *task)
{
	struct ring_pool *pool = CONTAINER_OF(task, struct ring_pool, serve);

	while (!list_empty(&pool->waiters)) {
		struct ring_buf_waiter *waiter =
			LIST_ENTRY(pool->waiters.next, struct ring_buf_waiter, node);

		list_remove(&waiter->node);
		pool->serving = waiter;
		waiter->ready(waiter);
		/* It may be freed by now; if it waits again it stands first again. */
		pool->serving = NULL;
		if (pool->waiters.next == &waiter->node)
			return;
	}
}

static void retry_fire(struct ring_timer *timer)
{
	serve_run(&CONTAINER_OF(timer, struct ring_pool, retry)->serve);
}

void ring_pool_init(struct ring *ring, size_t bytes_max)
{
	struct ring_pool *pool = &ring->pool;

	pool->bytes_max = bytes_max ? bytes_max : LIMIT_IO_POOL_BYTES;
	assert(pool->bytes_max >= LIMIT_IO_BUFFER_BYTES);
	for (unsigned i = 0; i < BUF_CLASS_COUNT; i++)
		list_init(&pool->free[i]);
	list_init(&pool->waiters);
	ring_task_init(&pool->serve, serve_run);
	ring_timer_init(&pool->trim, trim_fire);
	ring_timer_init(&pool->retry, retry_fire);
}

void ring_pool_done(struct ring *ring)
{
	pool_trim(&ring->pool);
}

struct ring_buf *ring_buf_get(struct ring *ring, uint32_t bytes)
{
	struct ring_pool *pool = &ring->pool;
	struct ring_buf *buf;
	unsigned size_class = 0;

	ASSERT_RING_THREAD(ring);
	if (bytes > LIMIT_IO_BUFFER_BYTES)
		return NULL;
	while (class_bytes[size_class] < bytes)
		size_class++;
	if (pool->bytes_out + class_bytes[size_class] > pool->bytes_max ||
	    (!list_empty(&pool->waiters) && !pool->serving)) {
		pool->waits++;
		return NULL;
	}
	buf = LIST_FIRST(&pool->free[size_class], struct ring_buf, node);
	if (buf) {
		list_remove(&buf->node);
		pool->bytes_cached -= buf->bytes;
	} else {
		buf = buf_new(size_class);
		if (!buf)
			return NULL;
	}
	pool->bytes_out += buf->bytes;
	if (pool->bytes_out > pool->bytes_peak)
		pool->bytes_peak = pool->bytes_out;
	return buf;
}

void ring_buf_put(struct ring *ring, struct ring_buf *buf)
{
	struct ring_pool *pool = &ring->pool;

	ASSERT_RING_THREAD(ring);
	if (!buf)
		return;
	assert(pool->bytes_out >= buf->bytes);
	pool->bytes_out -= buf->bytes;
	if (pool->bytes_cached + buf->bytes > CACHE_BYTES_MAX) {
		buf_free(buf);
	} else {
		list_prepend(&pool->free[buf->size_class], &buf->node);
		pool->bytes_cached += buf->bytes;
		if (!pool->trim.armed && ring_timer_arm(ring, &pool->trim, TRIM_DELAY_MS) < 0)
			pool_trim(pool);
	}
	if (!list_empty(&pool->waiters))
		ring_defer(ring, &pool->serve);
}

void ring_buf_waiter_init(struct ring_buf_waiter *waiter,
			  void (*ready)(struct ring_buf_waiter *waiter))
{
	list_init(&waiter->node);
	waiter->ready = ready;
}

void ring_buf_wait(struct ring *ring, struct ring_buf_waiter *waiter)
{
	struct ring_pool *pool = &ring->pool;

	ASSERT_RING_THREAD(ring);
	if (!list_empty(&waiter->node))
		return;
	if (pool->serving == waiter)
		list_prepend(&pool->waiters, &waiter->node);
	else
		list_append(&pool->waiters, &waiter->node);
	/* With nothing handed out there will be no ring_buf_put: what failed was memory itself. */
	if (pool->bytes_out == 0 && ring_timer_arm(ring, &pool->retry, RETRY_DELAY_MS) < 0)
		ring_defer(ring, &pool->serve);
}

void ring_buf_wait_cancel(struct ring_buf_waiter *waiter)
{
	list_remove(&waiter->node);
}

bool ring_buf_wanted(const struct ring *ring)
{
	return !list_empty(&ring->pool.waiters);
}
