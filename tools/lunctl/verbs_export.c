/*
 * The verb export: a disk's content into a file. The daemon sends it through a socket of its own,
 * so it is lunctl, and with it the person, who opens the file; what is zeros becomes holes there.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/size.h"
#include "base/http_client.h"
#include "lunctl.h"
#include "output.h"

#define PIECE_BYTES (1u << 20)
#define BLOCK_BYTES 4096u
#define SHOW_EVERY  32u /* pieces */

extern char **environ;

enum { EXPORT_SNAPSHOT, EXPORT_LUN };

struct export
{
	const struct request *request;
	const char *file;   /* what was asked for */
	char raw[PATH_MAX]; /* where the raw disk goes; "": standard output */
	bool qcow2;
	int fd;
	size_t write_bytes; /* to standard output at once, without a wait */
	uint64_t size_bytes;
};

static int world(const char *what, int error)
{
	return complain(what, strerror(error));
}

/* The file that was named, or one beside it. */
static int file_failed(const struct export *e, const char *what, int error)
{
	char message[PATH_MAX + 256];
	const char *cure = "name another file";

	switch (error) {
	case ENOENT:
	case ENOTDIR: cure = "name a file in a folder that is there"; break;
	case EACCES:
	case EPERM:
	case EROFS: cure = "name a file where you may write"; break;
	case ENOSPC:
	case EDQUOT: cure = "free space there, or name a file on another disk"; break;
	default: break;
	}
	(void)snprintf(message, sizeof(message), "%s %s: %s",
		       strcmp(e->file, "-") == 0 ? "standard output" : e->file, what,
		       strerror(error));
	return complain(message, cure);
}

static int cancelled(void)
{
	return complain("the export was cancelled", NULL);
}

/* --- qemu-img --- */

/* 0, or -1 if it can't be run or fails; it has said why. */
static int qemu_img(const char *const arguments[], bool quiet)
{
	posix_spawn_file_actions_t actions;
	int AUTO_CLOSE ended = -1;
	int status = 0, r;
	pid_t pid;

	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	if (quiet)
		(void)posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
						       O_WRONLY, 0);
	r = posix_spawnp(&pid, "qemu-img", &actions, NULL, (char *const *)arguments, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return -1;
	ended = pidfd_open(pid, 0);
	if (ended >= 0 && !api_await(ended, POLLIN))
		(void)kill(pid, SIGTERM);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

/* Behind "file:" a name is nothing but a name, whatever it begins with or holds. */
static int convert(const struct export *e)
{
	char from[PATH_MAX + 8], to[PATH_MAX + 8];
	const char *const arguments[] = {"qemu-img", "convert", "-q", "-f", "raw",
					 "-O",       "qcow2",   from, to,   NULL};

	(void)snprintf(from, sizeof(from), "file:%s", e->raw);
	(void)snprintf(to, sizeof(to), "file:%s", e->file);
	if (qemu_img(arguments, false) == 0)
		return 0;
	if (api_interrupted())
		return cancelled();
	return complain("qemu-img could not make the qcow2 file", "it has said why");
}

/* --- the file --- */

static bool ends_with(const char *text, const char *end)
{
	size_t bytes = strlen(text), end_bytes = strlen(end);

	return bytes > end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

static int exists(const struct export *e)
{
	char message[PATH_MAX + 64];

	(void)snprintf(message, sizeof(message), "%s is there already", e->file);
	return complain(message, "choose another name, or remove it");
}

static int open_stdout(struct export *e)
{
	struct stat st = {0};

	if (e->request->json)
		return usage_error("export: --json and the disk can't both go to standard output");
	if (isatty(STDOUT_FILENO))
		return usage_error("export: standard output is a terminal; name a file, or send it "
				   "to a program");
	(void)fstat(STDOUT_FILENO, &st);
	/* Opened anew, so that nobody who shares it finds it non-blocking. */
	if (S_ISFIFO(st.st_mode))
		e->fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	e->write_bytes =
		e->fd >= 0 || S_ISREG(st.st_mode) || S_ISCHR(st.st_mode) ? PIECE_BYTES : PIPE_BUF;
	if (e->fd < 0)
		e->fd = dup(STDOUT_FILENO);
	return e->fd < 0 ? world("standard output can't be used", errno) : 0;
}

static int open_file(struct export *e)
{
	static const char *const version[] = {"qemu-img", "--version", NULL};

	e->qcow2 = ends_with(e->file, ".qcow2");
	if (e->qcow2 && qemu_img(version, true) < 0)
		return api_interrupted()
			       ? cancelled()
			       : complain("qemu-img, which makes qcow2 files, can't be run",
					  "install it (Debian: qemu-utils), or export to a raw "
					  "file");
	if (e->file[0] == '\0')
		return usage_error("export: the file has no name");
	if (access(e->file, F_OK) == 0)
		return exists(e);
	if (strlen(e->file) + 16 >= sizeof(e->raw))
		return usage_error("%s: the name is too long", e->file);
	/* It is somebody's disk: not for everybody's eyes. What qemu-img finds keeps its mode. */
	e->fd = open(e->file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (e->fd < 0 && errno == EEXIST)
		return exists(e);
	if (e->fd < 0)
		return file_failed(e, "can't be made", errno);
	(void)snprintf(e->raw, sizeof(e->raw), "%s%s", e->file, e->qcow2 ? ".raw.XXXXXX" : "");
	if (!e->qcow2)
		return 0;
	(void)close(e->fd);
	e->fd = mkostemp(e->raw, O_CLOEXEC);
	if (e->fd < 0) {
		int error = errno;

		(void)unlink(e->file);
		return file_failed(e, "can't have a file beside it", error);
	}
	return 0;
}

/* A reader may be slow, and a signal must not wait for it. */
static int write_stream(const struct export *e, const char *data, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n;

		if (!api_await(e->fd, POLLOUT))
			return -EINTR;
		n = write(e->fd, data, bytes < e->write_bytes ? bytes : e->write_bytes);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (n > 0) {
			data += n;
			bytes -= (size_t)n;
		}
	}
	return 0;
}

/* Runs of blocks that are not all zeros; the rest becomes holes. */
static int write_sparse(int fd, const char *data, size_t bytes, uint64_t at)
{
	size_t begin = 0;

	while (begin < bytes) {
		size_t end = begin, part = 0;
		int r;

		while (end < bytes) {
			part = bytes - end < BLOCK_BYTES ? bytes - end : BLOCK_BYTES;
			if (all_zero(data + end, part))
				break;
			end += part;
		}
		r = end > begin ? pwrite_all(fd, data + begin, end - begin, at + begin) : 0;
		if (r < 0)
			return r;
		begin = end + (end < bytes ? part : 0);
	}
	return 0;
}

/* --- the transfer --- */

/* As much as fits, less only at the end. */
static ssize_t read_piece(int fd, char *piece)
{
	size_t have = 0;

	while (have < PIECE_BYTES) {
		ssize_t n;

		if (!api_await(fd, POLLIN))
			return -EINTR;
		n = read(fd, piece + have, PIECE_BYTES - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

/* The daemon's end says why it stopped, if it did: all that is told here is our own trouble. */
static int receive(struct export *e, int from)
{
	char *AUTO_FREE piece = malloc(PIECE_BYTES);
	uint64_t at = 0;
	unsigned count = 0;
	ssize_t n;

	if (!piece)
		return complain("out of memory", NULL);
	while ((n = read_piece(from, piece)) > 0) {
		int r = e->raw[0] ? write_sparse(e->fd, piece, (size_t)n, at)
				  : write_stream(e, piece, (size_t)n);

		if (r < 0)
			return api_interrupted() ? cancelled()
						 : file_failed(e, "can't be written", -r);
		at += (uint64_t)n;
		if (++count % SHOW_EVERY == 0)
			progress_show("export", at, e->size_bytes);
	}
	progress_end();
	if (api_interrupted())
		return cancelled();
	if (e->raw[0] && at == e->size_bytes &&
	    (ftruncate(e->fd, (off_t)at) < 0 || fsync(e->fd) < 0))
		return file_failed(e, "can't be written", errno);
	return 0;
}

static int transfer(struct export *e, const json_t *answer)
{
	const json_t *job = json_object_get(answer, "job");
	json_t *result = NULL;
	int AUTO_CLOSE from = -1;
	int r = socket_connect(get_text(job, "socket"), HTTP_SILENCE_MS, &from);

	e->size_bytes = get_number(job, "size_bytes");
	if (r == -ECANCELED)
		r = cancelled();
	else if (r < 0)
		r = world("the daemon's socket can't be opened", -r);
	else
		r = receive(e, from);
	if (from >= 0)
		close(TAKE_FD(from));
	if (r != 0) {
		(void)api_cancel_job(e->request, answer, &result);
		json_decref(result);
		return r;
	}
	r = api_wait_job(e->request, answer, &result);
	json_decref(result);
	return r;
}

/* --- export --- */

static int tell(const struct export *e)
{
	const char *node = e->request->operands[0];
	char size[SIZE_TEXT_BYTES], used[SIZE_TEXT_BYTES];
	struct stat st = {0};
	int r = 0;

	if (!e->raw[0])
		return 0;
	(void)stat(e->file, &st);
	if (e->request->json) {
		json_t *answer = json_pack("{s:s, s:s, s:I}", "node", node, "file", e->file,
					   "size_bytes", (json_int_t)e->size_bytes);

		r = print_json(answer);
		json_decref(answer);
		return r;
	}
	put_text(stdout, e->file);
	(void)printf(": %s (%s on disk) of node %s\n", size_format(e->size_bytes, size),
		     size_format((uint64_t)st.st_blocks * 512, used), node);
	if (e->qcow2)
		say_next(e->request, "qemu-img info %s", e->file);
	else
		say_next(e->request, "lunctl import %s NAME makes an image of it", e->file);
	return 0;
}

static int run_export(const struct request *request)
{
	struct export e = {.request = request, .file = request->operands[1], .fd = -1};
	json_t *answer = NULL, *body = json_object();
	char target[160];
	int r = name_valid(request->operands[0])
			? 0
			: usage_error("%s: no name of a node", request->operands[0]);

	if (r == 0)
		r = put_string(body, "snapshot", request->values[EXPORT_SNAPSHOT]);
	if (r == 0)
		r = put_lun(body, request->values[EXPORT_LUN]);
	if (r == 0)
		r = api_catch_interrupts();
	if (r == 0)
		r = strcmp(e.file, "-") == 0 ? open_stdout(&e) : open_file(&e);
	if (r != 0) {
		json_decref(body);
		return r;
	}
	(void)signal(SIGXFSZ, SIG_IGN); /* then it is an error, and the file goes */
	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/export", request->operands[0]);
	r = api_call(request, "POST", target, body, &answer);
	if (r == 0)
		r = transfer(&e, answer);
	if (close(e.fd) < 0 && r == 0)
		r = file_failed(&e, "can't be written", errno);
	if (r == 0 && e.qcow2)
		r = convert(&e);
	/* One that came after the last look still means what it says. */
	if (r == 0 && api_interrupted())
		r = cancelled();
	if (e.qcow2)
		(void)unlink(e.raw);
	if (e.raw[0] && r != 0)
		(void)unlink(e.file);
	if (r == 0)
		r = tell(&e);
	json_decref(answer);
	return r;
}

const struct verb verb_export = {
	.name = "export",
	.operands = "NODE FILE",
	.operands_min = 2,
	.operands_max = 2,
	.help = "copy a node's disk to a raw file, a .qcow2, or - for standard output",
	.options = {[EXPORT_SNAPSHOT] = {"snapshot", "NAME", "as it was then, not as it is now"},
		    [EXPORT_LUN] = {"lun", "LUN", "which disk, if not LUN 0"}},
	.run = run_export,
};
