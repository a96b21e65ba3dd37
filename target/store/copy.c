/*
 * Copying what a chain reads as to a raw disk: a sparse file, or a stream with all its zeros.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_internal.h"

/* A pipe that has room for anything takes this much without blocking. */
#define STREAM_WRITE_BYTES 4096u
/* How often cancelling is looked at while nobody reads. */
#define STREAM_POLL_MS 100

struct copy {
	int fd;
	const atomic_bool *cancelled;
	struct store_error *err;
};

static int copy_failed(const struct copy *c, int r)
{
	return store_fail(c->err, r, "the copy can't be written: %s", strerror(-r));
}

/* The file is empty and has its length: what is zeros is there already. */
static int file_piece(void *arg, uint64_t at, uint64_t bytes, const uint8_t *data)
{
	struct copy *c = arg;
	int r = data ? pwrite_all(c->fd, data, bytes, at) : 0;

	return r < 0 ? copy_failed(c, r) : 0;
}

static int stream_wait(const struct copy *c)
{
	for (;;) {
		struct pollfd p = {.fd = c->fd, .events = POLLOUT};

		if (c->cancelled && atomic_load(c->cancelled))
			return -ECANCELED;
		if (poll(&p, 1, STREAM_POLL_MS) > 0)
			return 0;
	}
}

static int stream_piece(void *arg, uint64_t at, uint64_t bytes, const uint8_t *data)
{
	struct copy *c = arg;

	(void)at;
	while (bytes > 0) {
		ssize_t n;
		int r = stream_wait(c);

		if (r < 0)
			return r;
		n = write(c->fd, data, bytes < STREAM_WRITE_BYTES ? bytes : STREAM_WRITE_BYTES);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return copy_failed(c, -errno);
		if (n > 0) {
			data += n;
			bytes -= (uint64_t)n;
		}
	}
	return 0;
}

int store_copy(const struct store_chain *chain, int out_fd, const struct store_work *work,
	       struct store_error *err)
{
	struct copy c = {.fd = out_fd, .cancelled = work ? work->cancelled : NULL, .err = err};
	struct chain_walk walk = {.lowest = OWNER_NONE, .piece = file_piece, .arg = &c};
	struct store_chain reader = *chain;
	struct store_disk *disk;
	struct stat st;
	int r;

	if (fstat(out_fd, &st) < 0)
		return copy_failed(&c, -errno);
	if (!S_ISREG(st.st_mode)) {
		walk.piece = stream_piece;
		walk.whole = true;
	}
	reader.read_only = true;
	r = store_open(&reader, &disk, err);
	if (r < 0)
		return r;
	if (!walk.whole &&
	    (ftruncate(out_fd, 0) < 0 || ftruncate(out_fd, (off_t)disk->size_bytes) < 0))
		r = copy_failed(&c, -errno);
	if (r == 0)
		r = chain_walk(disk, chain, &walk, work, err);
	if (r == 0 && !walk.whole && !MUTANT(copy_unsynced) && fsync(out_fd) < 0)
		r = copy_failed(&c, -errno);
	disk->ops->free(disk);
	return r;
}
