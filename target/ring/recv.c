/*
 * The reactor's shared receive buffers (IORING_REGISTER_PBUF_RING): the kernel takes one when
 * bytes have arrived, the completion's owner reads it and it goes back at once. So a thousand
 * idle sockets hold none, and a busy one can't keep any.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/limits.h"
#include "ring/ring_internal.h"

#define RECV_GROUP 0

static_assert((LIMIT_RECV_BUFFERS & (LIMIT_RECV_BUFFERS - 1)) == 0,
	      "the kernel wants a power of two");

static void *pages_new(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int ring_recv_buffers_init(struct ring *ring)
{
	const size_t ring_bytes = LIMIT_RECV_BUFFERS * sizeof(struct io_uring_buf);
	struct io_uring_buf_reg reg = {.ring_entries = LIMIT_RECV_BUFFERS, .bgid = RECV_GROUP};
	int r;

	ring->recv_ring = pages_new(ring_bytes);
	ring->recv_data = pages_new((size_t)LIMIT_RECV_BUFFERS * LIMIT_RECV_BUFFER_BYTES);
	if (!ring->recv_ring || !ring->recv_data)
		return -ENOMEM;
	reg.ring_addr = (uintptr_t)ring->recv_ring;
	r = io_uring_register_buf_ring(&ring->uring, &reg, 0);
	if (r < 0)
		return r;
	io_uring_buf_ring_init(ring->recv_ring);
	for (unsigned i = 0; i < LIMIT_RECV_BUFFERS; i++)
		ring_recv_buffer_return(ring, i);
	return 0;
}

void ring_recv_buffers_done(struct ring *ring)
{
	if (ring->recv_ring)
		munmap(ring->recv_ring, LIMIT_RECV_BUFFERS * sizeof(struct io_uring_buf));
	if (ring->recv_data)
		munmap(ring->recv_data, (size_t)LIMIT_RECV_BUFFERS * LIMIT_RECV_BUFFER_BYTES);
}

const uint8_t *ring_recv_buffer(const struct ring *ring, unsigned buffer_id)
{
	assert(buffer_id < LIMIT_RECV_BUFFERS);
	return ring->recv_data + (size_t)buffer_id * LIMIT_RECV_BUFFER_BYTES;
}

void ring_recv_buffer_return(struct ring *ring, unsigned buffer_id)
{
	uint8_t *data = ring->recv_data + (size_t)buffer_id * LIMIT_RECV_BUFFER_BYTES;

	io_uring_buf_ring_add(ring->recv_ring, data, LIMIT_RECV_BUFFER_BYTES,
			      (unsigned short)buffer_id, io_uring_buf_ring_mask(LIMIT_RECV_BUFFERS),
			      0);
	io_uring_buf_ring_advance(ring->recv_ring, 1);
}

void ring_recv_multishot(struct ring *ring, struct ring_op *op, int fd)
{
	struct io_uring_sqe *sqe = ring_sqe(ring, op);

	io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = RECV_GROUP;
	io_uring_sqe_set_data(sqe, op);
}
