/*
 * A program in a process group of its own, so that all it started ends with it.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "boot/initramfs_internal.h"

#define SAID_BYTES 384 /* the end of what it said */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct said {
	char text[SAID_BYTES];
	size_t bytes;
};

/* Keeps the last ones. */
static void said_add(struct said *said, const char *text, size_t bytes)
{
	if (bytes > SAID_BYTES) {
		text += bytes - SAID_BYTES;
		bytes = SAID_BYTES;
	}
	if (said->bytes + bytes > SAID_BYTES) {
		size_t drop = said->bytes + bytes - SAID_BYTES;

		memmove(said->text, said->text + drop, said->bytes - drop);
		said->bytes -= drop;
	}
	memcpy(said->text + said->bytes, text, bytes);
	said->bytes += bytes;
}

/* The last line that says something, without "PROGRAM: " before it. */
static void said_line(const struct said *said, char ret_line[SAID_BYTES + 1])
{
	size_t end = said->bytes, start;

	while (end > 0 && (said->text[end - 1] == '\n' || said->text[end - 1] == ' '))
		end--;
	start = end;
	while (start > 0 && said->text[start - 1] != '\n')
		start--;
	memcpy(ret_line, said->text + start, end - start);
	ret_line[end - start] = '\0';
	if (!utf8_clean(ret_line, end - start))
		(void)snprintf(ret_line, SAID_BYTES + 1, "it did not say why in words");
}

static int spawn(char *const argv[], const char *folder, const char *output, int error_fd,
		 pid_t *ret_pid)
{
	char temporary[LIMIT_PATH_BYTES + 16];
	char *envp[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", temporary, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int res;

	(void)snprintf(temporary, sizeof(temporary), "TMPDIR=%s", folder);
	sigemptyset(&none);
	sigfillset(&all);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output,
					       O_WRONLY | O_CREAT | O_TRUNC, 0600);
	(void)posix_spawn_file_actions_adddup2(&actions, error_fd, STDERR_FILENO);
	(void)posix_spawnattr_init(&attributes);
	/* A worker thread's mask and the daemon's ignored signals are not its business. */
	(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
							    POSIX_SPAWN_SETSIGDEF);
	(void)posix_spawnattr_setpgroup(&attributes, 0);
	(void)posix_spawnattr_setsigmask(&attributes, &none);
	(void)posix_spawnattr_setsigdefault(&attributes, &all);
	res = -posix_spawn(ret_pid, argv[0], &actions, &attributes, argv, envp);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return res;
}

/* Until it has closed its standard error, or the time is up. */
static bool listen_to(int fd, int64_t until, struct said *said)
{
	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		int64_t left = until - now_ms();
		char text[1024];
		ssize_t got;

		if (left <= 0)
			return false;
		if (poll(&poll_fd, 1, (int)left) <= 0)
			continue;
		got = read(fd, text, sizeof(text));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return true;
		said_add(said, text, (size_t)got);
	}
}

static bool await_end(pid_t pid, int64_t until, int *ret_status)
{
	int AUTO_CLOSE fd = pidfd_open(pid, 0);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	while (fd >= 0) {
		int64_t left = until - now_ms();

		if (left <= 0)
			return false;
		if (poll(&poll_fd, 1, (int)left) > 0)
			break;
	}
	while (fd >= 0 && waitpid(pid, ret_status, 0) < 0) {
		if (errno != EINTR)
			return false;
	}
	return fd >= 0;
}

static int outcome(int status, const struct said *said, struct boot_error *ret_error)
{
	char line[SAID_BYTES + 1];

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	said_line(said, line);
	if (WIFSIGNALED(status))
		return boot_fail(ret_error, -EINVAL, "mkinitramfs was ended by signal %d%s%s",
				 WTERMSIG(status), *line ? ": " : "", line);
	return boot_fail(ret_error, -EINVAL, "%s",
			 *line ? line : "mkinitramfs failed without a word");
}

int initramfs_run(char *const argv[], const char *folder, const char *output, unsigned timeout_ms,
		  struct boot_error *ret_error)
{
	const struct rlimit file_bytes = {LIMIT_INITRAMFS_MODULES_BYTES,
					  LIMIT_INITRAMFS_MODULES_BYTES};
	int64_t until = now_ms() + timeout_ms;
	struct said said = {.bytes = 0};
	int fds[2], status = 0, res;
	bool ended;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return boot_fail(ret_error, -errno, "%s: %s", argv[0], strerror(errno));
	res = spawn(argv, folder, output, fds[1], &pid);
	close(fds[1]);
	if (res) {
		close(fds[0]);
		return boot_fail(ret_error, res, "%s can't be run: %s", argv[0], strerror(-res));
	}
	(void)prlimit(pid, RLIMIT_FSIZE, &file_bytes, NULL);
	ended = listen_to(fds[0], until, &said) && await_end(pid, until, &status);
	close(fds[0]);
	if (ended)
		return outcome(status, &said, ret_error);
	(void)kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return boot_fail(ret_error, -ETIMEDOUT, "mkinitramfs was not ready within %u s",
			 (timeout_ms + 999) / 1000);
}
