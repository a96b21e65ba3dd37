/* What any daemon does around its work. */
#include "base/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

void daemon_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int AUTO_CLOSE fd = -1;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(to.sun_path))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	memcpy(to.sun_path, path, strlen(path));
	if (path[0] == '@') /* an abstract address */
		to.sun_path[0] = '\0';
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
		log_debug("service manager: %s", strerror(errno));
}

/* Tells the waiting parent that the daemon is ready; a closed pipe tells it that it is not. */
static int ready_pipe = -1;

void daemon_ready(void)
{
	if (ready_pipe >= 0) {
		if (write(ready_pipe, "+", 1) != 1)
			log_debug("nobody waits for us");
		close(TAKE_FD(ready_pipe));
	}
	daemon_notify("READY=1");
}

/* The child goes on; the parent waits until it is ready, so that who starts us may go on then. */
int daemon_background(void)
{
	int fds[2];
	pid_t pid;
	char answer;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(fds[0]);
		ready_pipe = fds[1];
		setsid();
		return 0;
	}
	close(fds[1]);
	if (read(fds[0], &answer, 1) == 1)
		_exit(EXIT_SUCCESS);
	/* It has said why on standard error. */
	_exit(EXIT_FAILURE);
}

int daemon_log_open(const char *path, int *ret_fd)
{
	int fd;

	*ret_fd = -1;
	if (!path[0])
		return 0;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		log_error("log file %s: %s; name one that this user may write with --log-file",
			  path, strerror(errno));
		return -errno;
	}
	*ret_fd = fd;
	return 0;
}

int daemon_log_take(int fd, bool foreground)
{
	int AUTO_CLOSE null = -1;
	int AUTO_CLOSE log = fd;

	if (log >= 0 && dup2(log, STDERR_FILENO) < 0)
		return -errno;
	if (!foreground) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
			return -errno;
	}
	return 0;
}

int daemon_log_to(const char *path, bool foreground)
{
	int fd, r = daemon_log_open(path, &fd);

	return r < 0 ? r : daemon_log_take(fd, foreground);
}

void daemon_raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_debug("descriptor limit: %s", strerror(errno));
}
