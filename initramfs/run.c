/*
 * Files and programs.
 */
#include "initramfs/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

ssize_t file_read(const char *path, char *ret_text, size_t bytes)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t have = 0;

	if (fd < 0)
		return -errno;
	while (have < bytes - 1) {
		ssize_t got = read(fd, ret_text + have, bytes - 1 - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		have += (size_t)got;
	}
	ret_text[have] = '\0';
	return (ssize_t)have;
}

void file_read_word(const char *path, char *ret_text, size_t bytes)
{
	ssize_t have = file_read(path, ret_text, bytes);

	if (have < 0)
		have = 0;
	while (have > 0 && ret_text[have - 1] == '\n')
		have--;
	ret_text[have] = '\0';
}

int file_write(const char *path, const char *text)
{
	int AUTO_CLOSE fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t bytes = strlen(text);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, text, bytes);
	if (written < 0)
		return -errno;
	return (size_t)written == bytes ? 0 : -EIO;
}

bool file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

int program_start(char *const argv[], int output_fd)
{
	pid_t pid = fork();
	int null_fd;

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return pid;
	null_fd = open("/dev/null", O_RDONLY);
	if (null_fd >= 0)
		(void)dup2(null_fd, STDIN_FILENO);
	if (output_fd >= 0)
		(void)dup2(output_fd, STDOUT_FILENO);
	(void)execv(argv[0], argv);
	_exit(127);
}

int program_run(char *const argv[])
{
	int pid = program_start(argv, -1), status;

	if (pid < 0)
		return pid;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
