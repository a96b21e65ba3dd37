/*
 * Starting operations: one function each, so that nobody above speaks liburing.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>

#include "base/log.h"
#include "ring/ring_internal.h"

/*
 * A free submission entry. When the queue is full what is in it goes to the kernel first; that
 * runs no completion (IORING_SETUP_DEFER_TASKRUN). Without kernel memory it is tried again.
 */
struct io_uring_sqe *ring_sqe(struct ring *ring, struct ring_op *op)
{
	struct io_uring_sqe *sqe;

	ASSERT_RING_THREAD(ring);
	assert(!op || op->done);
	while (!(sqe = io_uring_get_sqe(&ring->uring))) {
		if (io_uring_submit(&ring->uring) < 0)
			sched_yield();
	}
	return sqe;
}

void ring_poll_multishot(struct ring *ring, struct ring_op *op, int fd)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_poll_multishot(sqe, fd, POLLIN);
	io_uring_sqe_set_data(sqe, op);
}

void ring_accept_multishot(struct ring *ring, struct ring_op *op, int fd)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, op);
}

void ring_recv(struct ring *ring, struct ring_op *op, int fd, void *data, size_t bytes, int flags)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_recv(sqe, fd, data, bytes, flags);
	io_uring_sqe_set_data(sqe, op);
}

void ring_sendmsg(struct ring *ring, struct ring_op *op, int fd, const struct msghdr *msg,
		  int flags)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_sendmsg(sqe, fd, msg, (unsigned)flags | MSG_NOSIGNAL);
	io_uring_sqe_set_data(sqe, op);
}

void ring_close(struct ring *ring, struct ring_op *op, int fd)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_close(sqe, fd);
	io_uring_sqe_set_data(sqe, op);
}

void ring_read(struct ring *ring, struct ring_op *op, int fd, void *data, size_t bytes,
	       uint64_t offset)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	assert(bytes <= UINT32_MAX);
	io_uring_prep_read(sqe, fd, data, (unsigned)bytes, offset);
	io_uring_sqe_set_data(sqe, op);
}

void ring_write(struct ring *ring, struct ring_op *op, int fd, const void *data, size_t bytes,
		uint64_t offset)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	assert(bytes <= UINT32_MAX);
	io_uring_prep_write(sqe, fd, data, (unsigned)bytes, offset);
	io_uring_sqe_set_data(sqe, op);
}

void ring_readv(struct ring *ring, struct ring_op *op, int fd, const struct iovec *iov,
		unsigned iov_count, uint64_t offset)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_readv(sqe, fd, iov, iov_count, offset);
	io_uring_sqe_set_data(sqe, op);
}

void ring_writev(struct ring *ring, struct ring_op *op, int fd, const struct iovec *iov,
		 unsigned iov_count, uint64_t offset)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_writev(sqe, fd, iov, iov_count, offset);
	io_uring_sqe_set_data(sqe, op);
}

void ring_fdatasync(struct ring *ring, struct ring_op *op, int fd)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, op);
}

void ring_fallocate(struct ring *ring, struct ring_op *op, int fd, int mode, uint64_t offset,
		    uint64_t bytes)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_fallocate(sqe, fd, mode, (off_t)offset, (off_t)bytes);
	io_uring_sqe_set_data(sqe, op);
}

void ring_cancel(struct ring *ring, struct ring_op *target)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, NULL);

	io_uring_prep_cancel(sqe, target, 0);
	io_uring_sqe_set_data(sqe, NULL);
}
