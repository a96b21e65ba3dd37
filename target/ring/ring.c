/*
 * The loop of a reactor: submit and wait, completions, deferred tasks, timers, messages. One
 * after another, none from inside another.
 *
 * The io_uring is made for one submitting thread (IORING_SETUP_SINGLE_ISSUER) which also runs
 * the kernel's completion work itself, when it waits (IORING_SETUP_DEFER_TASKRUN): no
 * interrupts of the data path, and completions come in batches. Both need Linux 6.1.
 */
#include "ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "ring/ring_internal.h"

/* Completions taken before tasks and timers get their turn. */
#define COMPLETIONS_PER_TURN 256

static _Thread_local struct ring *current_ring;

static int uring_init(struct io_uring *uring)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
		.cq_entries = 4 * LIMIT_RING_ENTRIES,
	};

	return io_uring_queue_init_params(LIMIT_RING_ENTRIES, uring, &params);
}

/* io_uring_enable_rings; liburing 2.3 declares it but does not export it. */
static int uring_enable(struct io_uring *uring)
{
	long r = syscall(SYS_io_uring_register, uring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
			 0);

	return r < 0 ? -errno : 0;
}

/* The value of kernel.io_uring_disabled (Linux 6.6), or 0 where there is no such switch. */
static int uring_disabled_switch(void)
{
	int AUTO_CLOSE fd = open("/proc/sys/kernel/io_uring_disabled", O_RDONLY | O_CLOEXEC);
	char text[8] = "";

	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		return 0;
	return text[0] >= '0' && text[0] <= '9' ? text[0] - '0' : 0;
}

static const char *uring_refusal(int error)
{
	int disabled = uring_disabled_switch();

	switch (-error) {
	case ENOSYS:
		return "this kernel has no io_uring, or a container's seccomp profile hides it; "
		       "use "
		       "Linux 6.1 or newer, or start the container with --security-opt "
		       "seccomp=unconfined (or a profile that allows the io_uring_* calls)";
	case EINVAL: return "this kernel's io_uring is too old; lunroot needs Linux 6.1 or newer";
	case ENOMEM:
		return "io_uring may not lock enough memory; raise LimitMEMLOCK= of the service or "
		       "ulimit -l to 64 MiB";
	case EMFILE:
	case ENFILE: return "too many open files; raise LimitNOFILE= of the service or ulimit -n";
	case EPERM:
	case EACCES:
		if (disabled == 2)
			return "io_uring is switched off on this machine; allow it with: sysctl "
			       "kernel.io_uring_disabled=0";
		if (disabled == 1)
			return "io_uring is allowed for privileged processes only; allow it with: "
			       "sysctl kernel.io_uring_disabled=0, or put this user's group into "
			       "kernel.io_uring_group";
		return "a seccomp profile (a container's, most often) forbids io_uring; start the "
		       "container with --security-opt seccomp=unconfined or a profile that allows "
		       "the io_uring_* calls";
	default: return "io_uring can't be set up";
	}
}

int ring_probe(char *ret_why, size_t why_bytes)
{
	struct io_uring uring;
	int r = uring_init(&uring);

	if (r < 0) {
		(void)snprintf(ret_why, why_bytes, "%s (%s)", uring_refusal(r), strerror(-r));
		return r;
	}
	io_uring_queue_exit(&uring);
	return 0;
}

static void mailbox_ready(struct ring_op *op, int res)
{
	struct ring *ring = CONTAINER_OF(op, struct ring, mailbox_op);
	bool more = op->more;

	mailbox_run(&ring->mailbox);
	if (!more && res != -ECANCELED)
		ring_poll_multishot(ring, op, ring->mailbox.eventfd);
}

int ring_new(const struct ring_config *config, struct ring **ret_ring)
{
	struct ring *ring;
	int r;

	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	ring->name = config->name;
	ring->mailbox.eventfd = -1;
	ring->now_ms = clock_ms();
	list_init(&ring->tasks);
	ring_pool_init(ring, config->io_pool_bytes_max);
	r = uring_init(&ring->uring);
	if (r < 0) {
		free(ring);
		return r;
	}
	r = ring_recv_buffers_init(ring);
	if (r == 0)
		r = mailbox_init(&ring->mailbox);
	if (r < 0) {
		ring_free(ring);
		return r;
	}
	ring->mailbox_op.done = mailbox_ready;
	*ret_ring = ring;
	return 0;
}

void ring_free(struct ring *ring)
{
	if (!ring)
		return;
	assert(current_ring != ring);
	/* First the kernel's side: it may still write to what is freed next. */
	io_uring_queue_exit(&ring->uring);
	ring_recv_buffers_done(ring);
	mailbox_done(&ring->mailbox);
	ring_pool_done(ring);
	free(ring->timers);
	free(ring);
}

bool ring_is_current(const struct ring *ring)
{
	return ring == current_ring;
}

struct ring *ring_current(void)
{
	return current_ring;
}

const char *ring_name(const struct ring *ring)
{
	return ring->name;
}

uint64_t ring_now_ms(const struct ring *ring)
{
	ASSERT_RING_THREAD(ring);
	return ring->now_ms;
}

void ring_post(struct ring *ring, struct mailbox_msg *msg)
{
	mailbox_post(&ring->mailbox, msg);
}

void ring_stop(struct ring *ring)
{
	ASSERT_RING_THREAD(ring);
	ring->stopping = true;
}

void ring_stats(const struct ring *ring, struct ring_stats *ret_stats)
{
	ASSERT_RING_THREAD(ring);
	*ret_stats = ring->stats;
	ret_stats->io_pool_bytes = ring->pool.bytes_out;
	ret_stats->io_pool_bytes_peak = ring->pool.bytes_peak;
	ret_stats->io_pool_waits = ring->pool.waits;
}

void ring_task_init(struct ring_task *task, void (*run)(struct ring_task *task))
{
	list_init(&task->node);
	task->run = run;
}

void ring_defer(struct ring *ring, struct ring_task *task)
{
	ASSERT_RING_THREAD(ring);
	if (list_empty(&task->node))
		list_append(&ring->tasks, &task->node);
}

void ring_task_cancel(struct ring_task *task)
{
	list_remove(&task->node);
}

/* Those deferred meanwhile run in the next turn, after the completions that came meanwhile. */
static void tasks_run(struct ring *ring)
{
	struct list due;

	list_init(&due);
	list_splice(&due, &ring->tasks);
	while (!list_empty(&due)) {
		struct ring_task *task = LIST_ENTRY(due.next, struct ring_task, node);

		list_remove(&task->node);
		task->run(task);
	}
}

static void complete(struct ring *ring, const struct io_uring_cqe *cqe)
{
	struct ring_op *op = io_uring_cqe_get_data(cqe);
	bool has_buffer = cqe->flags & IORING_CQE_F_BUFFER;
	unsigned buffer_id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

	ring->stats.completions++;
	if (!op) /* a cancel request's own result */
		return;
	op->more = cqe->flags & IORING_CQE_F_MORE;
	op->data = has_buffer ? ring_recv_buffer(ring, buffer_id) : NULL;
	if (cqe->res == -ENOBUFS)
		ring->stats.recv_no_buffers++;
	/* The operation may be freed, with its owner, by done. */
	op->done(op, cqe->res);
	if (has_buffer)
		ring_recv_buffer_return(ring, buffer_id);
}

static void completions_run(struct ring *ring)
{
	for (unsigned i = 0; i < COMPLETIONS_PER_TURN; i++) {
		struct io_uring_cqe *cqe, copy;

		if (io_uring_peek_cqe(&ring->uring, &cqe) != 0)
			return;
		/* Given back first, so that done may start operations that complete at once. */
		copy = (struct io_uring_cqe){
			.user_data = cqe->user_data, .res = cqe->res, .flags = cqe->flags};
		io_uring_cqe_seen(&ring->uring, cqe);
		complete(ring, &copy);
	}
}

static int submit_and_wait(struct ring *ring)
{
	struct io_uring_cqe *cqe;
	int64_t wait_ms = ring_timers_wait_ms(ring);
	int r;

	ring->stats.submits++;
	if (!list_empty(&ring->tasks) || wait_ms == 0 || io_uring_cq_ready(&ring->uring) > 0) {
		r = io_uring_submit_and_get_events(&ring->uring);
	} else if (wait_ms < 0) {
		r = io_uring_submit_and_wait(&ring->uring, 1);
	} else {
		struct __kernel_timespec ts = {.tv_sec = wait_ms / 1000,
					       .tv_nsec = wait_ms % 1000 * 1000000};

		r = io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &ts, NULL);
	}
	/* A time that is up and a signal are no errors; without memory we try again. */
	if (r == -ETIME || r == -EINTR)
		return 0;
	if (r == -EAGAIN || r == -EBUSY) {
		sched_yield();
		return 0;
	}
	return r < 0 ? r : 0;
}

int ring_run(struct ring *ring)
{
	int r;

	assert(!current_ring);
	r = uring_enable(&ring->uring);
	if (r < 0)
		return r;
	current_ring = ring;
	log_set_thread(ring->name);
	prctl(PR_SET_NAME, ring->name);
	ring_poll_multishot(ring, &ring->mailbox_op, ring->mailbox.eventfd);
	/* What was posted before the ring ran has already made the eventfd readable. */
	while (!ring->stopping) {
		r = submit_and_wait(ring);
		if (r < 0) {
			log_error("%s: io_uring failed: %s", ring->name, strerror(-r));
			break;
		}
		ring->now_ms = clock_ms();
		completions_run(ring);
		tasks_run(ring);
		ring_timers_fire(ring);
	}
	current_ring = NULL;
	return r;
}
