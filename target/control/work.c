/*
 * The workers that read a node's sealed layers: merge them into one, copy them into an image, or
 * send them to whoever asked for them. They run in threads of their own and touch only their job.
 *
 * An export goes through a socket that is made for it beside the control socket, with the same
 * mode: so it is the reader who opens the file, as the person who wants it, and the daemon writes
 * to no path that somebody else names. One reader, raw bytes, as many as the disk has.
 */
#include "control/control_internal.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define POLL_MS           100
#define READER_WAIT_MS    30000 /* lunctl comes at once */
#define SOCKET_PREFIX     "export-"
#define SOCKET_SUFFIX     ".sock"
#define SEND_BUFFER_BYTES (1 << 20)

static struct store_work job_work(struct job *job)
{
	return (struct store_work){
		.done_bytes = &job->done_bytes,
		.total_bytes = &job->total_bytes,
		.cancelled = &job->cancelled,
		.bytes_per_s = job->bytes_per_s,
	};
}

static void phase_set(struct job *job, enum job_phase phase)
{
	atomic_store_explicit(&job->phase, (int)phase, memory_order_relaxed);
}

static int work_failed(struct job *job, int r, const struct store_error *err, const char *what)
{
	char text[NAME_BYTES + 32];

	(void)snprintf(text, sizeof(text), "%s of %s", what, job->name);
	if (r == -ECANCELED || atomic_load(&job->cancelled))
		job_tell_cancelled(job, text);
	else
		(void)api_error_store(&job->error, r, err->text[0] ? err->text : what);
	return r;
}

/* --- merge, flatten --- */

void merge_run(struct job *job)
{
	const struct store_work work = job_work(job);
	struct store_error err = {""};
	int r;

	phase_set(job, PHASE_MERGING);
	control_step("merge-begin");
	r = store_merge(&job->chain->store, job->first, job->with_image, &job->layer_uuid,
			job->file, &work, &err);
	control_step("merge-made");
	/* Or the node would wait for it. What is wrong with it is told when it is opened. */
	if (r == 0 && store_preload(job->file, &job->preload, &err) < 0)
		log_debug("%s", err.text);
	job->result = r < 0 ? work_failed(job, r, &err,
					  job->kind == JOB_FLATTEN ? "flattening" : "merging")
			    : 0;
}

/* --- promote --- */

int promote_fill(struct job *job, int fd)
{
	const struct store_work work = job_work(job);
	struct store_error err = {""};
	int r;

	phase_set(job, PHASE_COPYING);
	r = store_copy(&job->chain->store, fd, &work, &err);
	return r < 0 ? work_failed(job, r, &err, "promoting") : 0;
}

/* --- export --- */

int export_listen(struct job *job, struct api_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int AUTO_CLOSE fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int n = snprintf(job->path, sizeof(job->path), "%s/" SOCKET_PREFIX "%llu" SOCKET_SUFFIX,
			 job->control->run_dir, (unsigned long long)job->id);

	if (fd < 0)
		return api_error_world(err, -errno, "socket");
	if (n < 0 || (size_t)n >= sizeof(address.sun_path))
		return api_error_set(err, 500, "io",
				     "choose a shorter runtime directory with --run",
				     "the path of socket %.200s is too long", job->path);
	memcpy(address.sun_path, job->path, (size_t)n + 1);
	/* Nobody gets in before listen(). */
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    chmod(job->path, 0660) < 0 || listen(fd, 1) < 0) {
		int r = -errno;

		(void)unlink(job->path);
		return api_error_world(err, r, job->path);
	}
	job->listen_fd = TAKE_FD(fd);
	return 0;
}

void export_sweep(const char *run_dir)
{
	const size_t prefix = strlen(SOCKET_PREFIX), suffix = strlen(SOCKET_SUFFIX);
	const struct dirent *entry;
	DIR *stream = opendir(run_dir);

	while (stream && (entry = readdir(stream))) {
		size_t bytes = strlen(entry->d_name);

		if (bytes > prefix + suffix && strncmp(entry->d_name, SOCKET_PREFIX, prefix) == 0 &&
		    strcmp(entry->d_name + bytes - suffix, SOCKET_SUFFIX) == 0)
			(void)unlinkat(dirfd(stream), entry->d_name, 0);
	}
	if (stream)
		closedir(stream);
}

/* Who asked comes for it. */
static int reader_await(struct job *job, int *ret_fd)
{
	struct pollfd wait_for = {.fd = job->listen_fd, .events = POLLIN};

	for (unsigned ms = 0; ms < READER_WAIT_MS; ms += POLL_MS) {
		int fd, n = poll(&wait_for, 1, POLL_MS);

		if (atomic_load(&job->cancelled))
			return -ECANCELED;
		if (n <= 0)
			continue;
		fd = accept4(job->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			return -errno;
	}
	return -ETIMEDOUT;
}

static int export_failed(struct job *job, int r, const struct store_error *err)
{
	if (!atomic_load(&job->cancelled) && (r == -EPIPE || r == -ECONNRESET || r == -ETIMEDOUT))
		return api_error_set(&job->error, 409, "cancelled", "start it again",
				     "export of %s: the reader is gone", job->name);
	return work_failed(job, r, err, "export");
}

void export_run(struct job *job)
{
	const struct store_work work = job_work(job);
	const int room = SEND_BUFFER_BYTES;
	struct store_error err = {""};
	int AUTO_CLOSE fd = -1;
	int r;

	phase_set(job, PHASE_WAITING);
	r = reader_await(job, &fd);
	file_unlink(job->path);
	if (r == 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		phase_set(job, PHASE_COPYING);
		r = store_copy(&job->chain->store, fd, &work, &err);
	}
	job->result = r < 0 ? export_failed(job, r, &err) : 0;
}
