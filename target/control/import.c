/*
 * The worker that fills an image's file: unpacks or copies what was given, sparse, or makes an
 * empty disk; then checks and seals it. It runs in a thread of its own and touches only its job;
 * the catalogue is the control thread's.
 */
#include "control/control_internal.h"

#include <archive.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define COPY_BYTES (1u << 20)
#define HEAD_BYTES 512
#define POLL_MS    100

static int job_cancelled(struct job *job)
{
	char what[NAME_BYTES + 8];

	if (!atomic_load_explicit(&job->cancelled, memory_order_relaxed))
		return 0;
	(void)snprintf(what, sizeof(what), "image %s", job->name);
	job_tell_cancelled(job, what);
	return -ECANCELED;
}

/* A part is written: is there to be another? */
static int job_goes_on(struct job *job)
{
	int r = job_cancelled(job);

	return r < 0 ? r : space_check(job->control, "image", job->name, &job->error);
}

static int job_world(struct job *job, int r, const char *what)
{
	char text[LIMIT_PATH_BYTES + 64];

	(void)snprintf(text, sizeof(text), "%.500s", what);
	(void)api_error_world(&job->error, r, text);
	return r;
}

static void job_progress(struct job *job, uint64_t bytes)
{
	atomic_store_explicit(&job->done_bytes, bytes, memory_order_relaxed);
}

static void job_phase(struct job *job, enum job_phase phase, uint64_t total)
{
	atomic_store_explicit(&job->done_bytes, 0, memory_order_relaxed);
	atomic_store_explicit(&job->total_bytes, total, memory_order_relaxed);
	atomic_store_explicit(&job->phase, (int)phase, memory_order_relaxed);
}

/* --- the source --- */

static const char *user_name(char *text, size_t bytes)
{
	struct passwd pw, *found = NULL;
	char buffer[1024];

	if (getpwuid_r(geteuid(), &pw, buffer, sizeof(buffer), &found) == 0 && found)
		(void)snprintf(text, bytes, "%s", pw.pw_name);
	else
		(void)snprintf(text, bytes, "with id %u", (unsigned)geteuid());
	return text;
}

/* Which part of the path the daemon's user is stopped at. */
static void first_closed_directory(const char *path, char *ret_dir, size_t bytes)
{
	for (const char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		(void)snprintf(ret_dir, bytes, "%.*s", (int)(slash - path), path);
		if (access(ret_dir, X_OK) < 0)
			return;
	}
	ret_dir[0] = '\0';
}

static int source_denied(struct job *job)
{
	char user[128], dir[LIMIT_PATH_BYTES], cure[256];

	user_name(user, sizeof(user));
	first_closed_directory(job->path, dir, sizeof(dir));
	if (dir[0])
		(void)snprintf(cure, sizeof(cure),
			       "let it pass: chmod o+x %.120s; or put the file elsewhere", dir);
	else
		(void)snprintf(cure, sizeof(cure), "let it read: chmod o+r %.150s", job->path);
	(void)api_error_set(&job->error, 403, "denied", cure,
			    "lunrootd runs as user %s, who may not read %.300s", user, job->path);
	return -EACCES;
}

static int source_open(struct job *job, int *ret_fd, uint64_t *ret_bytes)
{
	/* Without O_NONBLOCK a FIFO would hold us for ever. */
	int AUTO_CLOSE fd = open(job->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	off_t end;

	if (fd < 0 && (errno == EACCES || errno == EPERM))
		return source_denied(job);
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return api_error_set(&job->error, 404, "not_found",
				     "the path is one of the machine that lunrootd runs on",
				     "there is no file %.300s", job->path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return job_world(job, -errno, job->path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return api_error_set(&job->error, 422, "bad_image", "give a file or a block device",
				     "%.300s is neither a file nor a block device", job->path);
	end = lseek(fd, 0, SEEK_END);
	if (end < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return job_world(job, -errno, job->path);
	*ret_bytes = (uint64_t)end;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static bool is_packed(const uint8_t *head, size_t bytes)
{
	static const struct {
		size_t bytes;
		const char *magic;
	} kinds[] = {
		{2, "\037\213"},             /* gzip */
		{6, "\3757zXZ"},             /* xz */
		{4, "\050\265\057\375"},     /* zstd */
		{3, "BZh"},                  /* bzip2 */
		{4, "\004\042\115\030"},     /* lz4 */
		{5, "\135\000\000\200\000"}, /* lzma, the usual dictionary */
	};

	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		if (bytes >= kinds[i].bytes && memcmp(head, kinds[i].magic, kinds[i].bytes) == 0)
			return true;
	}
	return false;
}

static int not_a_disk(struct job *job, const void *head, size_t bytes)
{
	const char *what = probe_not_a_disk(head, bytes);

	if (!what)
		return 0;
	return api_error_set(&job->error, 422, "bad_image", "give a raw disk or file system image",
			     "%.300s is no raw disk but %s", job->path, what);
}

/* --- writing --- */

/* Blocks of zeros are left out, so that they become holes of the new file. */
static int write_sparse(struct job *job, int fd, const uint8_t *data, size_t bytes, uint64_t offset)
{
	while (bytes > 0) {
		size_t run = 0, part;
		int r;

		/* Cut at block borders of the file. */
		do {
			part = STORE_BLOCK_BYTES - (size_t)((offset + run) % STORE_BLOCK_BYTES);
			if (part > bytes - run)
				part = bytes - run;
			if (all_zero(data + run, part))
				break;
			run += part;
		} while (run < bytes);
		if (run > 0) {
			r = pwrite_all(fd, data, run, offset);
			if (r < 0)
				return job_world(job, r, job->file);
			data += run;
			bytes -= run;
			offset += run;
		} else {
			data += part;
			bytes -= part;
			offset += part;
		}
	}
	return 0;
}

/* A plain file: shared blocks where the file system can, else what it has, without its holes. */
static int copy_plain(struct job *job, int from, int to, uint64_t bytes)
{
	uint8_t *AUTO_FREE buffer = NULL;
	uint64_t at = 0;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	buffer = malloc(COPY_BYTES);
	if (!buffer)
		return job_world(job, -ENOMEM, "import");
	while (at < bytes) {
		off_t data = lseek(from, (off_t)at, SEEK_DATA);
		ssize_t n;
		int r;

		if (data < 0 && errno == ENXIO)
			break; /* only a hole is left */
		if (data > (off_t)at)
			at = (uint64_t)data;
		n = pread(from, buffer, COPY_BYTES, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return job_world(job, -errno, job->path);
		if (n == 0)
			break; /* it got shorter; the size check says so */
		r = write_sparse(job, to, buffer, (size_t)n, at);
		if (r == 0)
			r = job_goes_on(job);
		if (r < 0)
			return r;
		at += (uint64_t)n;
		job_progress(job, at);
	}
	return 0;
}

/* libarchive says "truncated" for most; whatever it says, the file is not whole. */
static int unpack_failed(struct job *job, struct archive *archive)
{
	const char *why = archive_error_string(archive);

	return api_error_set(&job->error, 422, "bad_image", "get the file again",
			     "%.300s is damaged or cut off: %.120s", job->path,
			     why ? why : "it can't be unpacked");
}

static int unpack_blocks(struct job *job, struct archive *archive, int to, uint64_t *ret_bytes)
{
	struct archive_entry *entry;
	uint64_t end = 0;
	const void *data;
	size_t bytes;
	la_int64_t offset;
	int r = archive_read_next_header(archive, &entry);

	if (r != ARCHIVE_OK)
		return unpack_failed(job, archive);
	while ((r = archive_read_data_block(archive, &data, &bytes, &offset)) == ARCHIVE_OK) {
		int w;

		if (offset < 0 || (uint64_t)offset + bytes > LIMIT_DISK_BYTES)
			return api_error_set(&job->error, 422, "bad_image", "use a smaller image",
					     "%.300s unpacks to more than 64 TiB", job->path);
		w = end == 0 ? not_a_disk(job, data, bytes) : 0;
		if (w == 0)
			w = write_sparse(job, to, data, bytes, (uint64_t)offset);
		if (w == 0)
			w = job_goes_on(job);
		if (w < 0)
			return w;
		end = (uint64_t)offset + bytes;
		job_progress(job, (uint64_t)archive_filter_bytes(archive, -1));
	}
	if (r != ARCHIVE_EOF)
		return unpack_failed(job, archive);
	*ret_bytes = end;
	return 0;
}

static int unpack(struct job *job, int from, int to, uint64_t *ret_bytes)
{
	struct archive *archive = archive_read_new();
	int r;

	if (!archive)
		return job_world(job, -ENOMEM, "import");
	/* Only those that are built in: others would start programs. */
	if (archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
	    archive_read_support_filter_xz(archive) != ARCHIVE_OK ||
	    archive_read_support_filter_zstd(archive) != ARCHIVE_OK ||
	    archive_read_support_filter_bzip2(archive) != ARCHIVE_OK ||
	    archive_read_support_filter_lz4(archive) != ARCHIVE_OK ||
	    archive_read_support_filter_lzma(archive) != ARCHIVE_OK ||
	    archive_read_support_format_raw(archive) != ARCHIVE_OK ||
	    archive_read_open_fd(archive, from, 65536) != ARCHIVE_OK)
		r = unpack_failed(job, archive);
	else
		r = unpack_blocks(job, archive, to, ret_bytes);
	(void)archive_read_free(archive);
	return r;
}

static int check_size(struct job *job, uint64_t bytes)
{
	if (bytes < LIMIT_DISK_BYTES_MIN)
		return api_error_set(
			&job->error, 422, "bad_image",
			"check that this is the right file, and complete",
			"%.300s is too small for a disk: %llu bytes, at least 1 MiB is "
			"needed",
			job->path, (unsigned long long)bytes);
	if (bytes > LIMIT_DISK_BYTES)
		return api_error_set(&job->error, 422, "bad_image", "use a smaller image",
				     "%.300s has more than 64 TiB", job->path);
	return 0;
}

static int import_fill(struct job *job, int to, uint64_t *ret_bytes)
{
	uint8_t head[HEAD_BYTES] = {0};
	int AUTO_CLOSE from = -1;
	uint64_t bytes = 0;
	ssize_t n;
	int r = source_open(job, &from, &bytes);

	if (r < 0)
		return r;
	job_phase(job, PHASE_READING, bytes);
	n = pread(from, head, sizeof(head), 0);
	if (n < 0)
		return job_world(job, -errno, job->path);
	if (is_packed(head, (size_t)n)) {
		r = unpack(job, from, to, &bytes);
		return r < 0 ? r : ((void)(*ret_bytes = bytes), check_size(job, bytes));
	}
	r = not_a_disk(job, head, (size_t)n);
	if (r == 0)
		r = check_size(job, bytes);
	if (r == 0)
		r = copy_plain(job, from, to, bytes);
	if (r == 0)
		*ret_bytes = bytes;
	return r;
}

/* --- an empty image --- */

static int format_failed(struct job *job, const char *said)
{
	return api_error_set(&job->error, 500, "io",
			     "install e2fsprogs on the machine that lunrootd runs on",
			     "mke2fs failed: %.300s", said[0] ? said : "it said nothing");
}

/* Reads what the child says, until it ends or the job is cancelled. */
static int format_wait(struct job *job, pid_t pid, int fd, char *said, size_t bytes)
{
	struct pollfd wait_for = {.fd = fd, .events = POLLIN};
	size_t used = 0;
	int status = 0;

	for (;;) {
		char rest[256];
		ssize_t n;

		if (poll(&wait_for, 1, POLL_MS) == 0) {
			if (atomic_load(&job->cancelled))
				(void)kill(pid, SIGKILL);
			continue;
		}
		n = used + 1 < bytes ? read(fd, said + used, bytes - 1 - used)
				     : read(fd, rest, sizeof(rest));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		if (used + 1 < bytes)
			used += (size_t)n;
	}
	said[used] = '\0';
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
}

static int format_ext4(struct job *job)
{
	char label[17];
	char *argv[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-L", label, job->file, NULL};
	char *envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "MKE2FS_SYNC=0", NULL};
	static const char *const places[] = {"/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs"};
	posix_spawn_file_actions_t actions;
	char said[512] = "";
	int fds[2], r = ENOENT;
	pid_t pid = -1;

	(void)snprintf(label, sizeof(label), "%.16s", job->name);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return job_world(job, -errno, "mke2fs");
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
	(void)posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	for (size_t i = 0; r != 0 && i < ARRAY_COUNT(places); i++)
		r = posix_spawn(&pid, places[i], &actions, NULL, argv, envp);
	(void)posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (r != 0) {
		close(fds[0]);
		return format_failed(job, strerror(r));
	}
	r = format_wait(job, pid, fds[0], said, sizeof(said));
	close(fds[0]);
	if (job_cancelled(job) < 0)
		return -ECANCELED;
	return r < 0 ? format_failed(job, said) : job_goes_on(job);
}

/* --- the whole job --- */

static void on_sealed(void *arg, uint64_t bytes)
{
	job_progress(arg, bytes);
}

static int seal(struct job *job, const char *content)
{
	struct store_image_info info;
	struct store_error err = {""};
	store_uuid_t uuid;
	int r;

	store_uuid_generate(&uuid);
	r = store_image_seal(job->file, &uuid, content, on_sealed, job, &info, &err);
	if (r < 0)
		return job_world(job, r, err.text[0] ? err.text : job->file);
	job->image.uuid = uuid;
	job->image.size_bytes = info.size_bytes;
	(void)snprintf(job->image.name, sizeof(job->image.name), "%s", job->name);
	(void)snprintf(job->image.content, sizeof(job->image.content), "%s", content);
	return 0;
}

static int fill(struct job *job, int fd, char content[CONTENT_BYTES])
{
	uint64_t bytes = job->size_bytes, padded;
	int r = 0;

	if (job->kind == JOB_IMPORT)
		r = import_fill(job, fd, &bytes);
	else if (job->kind == JOB_PROMOTE)
		r = promote_fill(job, fd);
	if (r < 0)
		return r;
	padded = bytes % STORE_SECTOR_BYTES == 0
			 ? bytes
			 : (bytes + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
	if (ftruncate(fd, (off_t)padded) < 0)
		return job_world(job, -errno, job->file);
	if (job->kind == JOB_IMPORT)
		return probe_disk(fd, bytes, job->path, job->force, content, &job->error);
	if (job->kind == JOB_PROMOTE) /* whatever it holds */
		return probe_disk(fd, bytes, job->node_name, true, content, &job->error);
	(void)snprintf(content, CONTENT_BYTES, "empty");
	if (!job->ext4)
		return 0;
	job_phase(job, PHASE_FORMATTING, 0);
	r = format_ext4(job);
	return r < 0 ? r : probe_disk(fd, padded, job->file, false, content, &job->error);
}

static void remove_files(struct job *job)
{
	char json[PATH_BYTES + 8];

	(void)snprintf(json, sizeof(json), "%s.json", job->file);
	file_unlink(job->file);
	file_unlink(json);
}

static int import_steps(struct job *job)
{
	char content[CONTENT_BYTES] = "";
	int AUTO_CLOSE fd = open(job->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	struct stat st;
	int r;

	if (fd < 0)
		return job_world(job, -errno, job->file);
	control_step("import-file-made");
	r = fill(job, fd, content);
	if (r < 0)
		return r;
	control_step("import-filled");
	if (fstat(fd, &st) < 0)
		return job_world(job, -errno, job->file);
	close(TAKE_FD(fd));
	job_phase(job, PHASE_SEALING, (uint64_t)st.st_size);
	r = job_cancelled(job);
	if (r == 0)
		r = seal(job, content);
	if (r == 0)
		r = job_cancelled(job);
	control_step("import-sealed");
	return r;
}

void import_run(struct job *job)
{
	assert(job->file[0] != '\0');
	job->result = import_steps(job);
	/* EEXIST: somebody else's file of that name; it stays. */
	if (job->result < 0 && job->result != -EEXIST)
		remove_files(job);
}
