/* Calls to a lunrootd that is not there, that hangs, and that takes its time to make a disk. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "api.c"

static char folder[] = "/tmp/lunboot-api.XXXXXX", path[64];
static int listening;

static int begin(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	(void)state;
	patience_ms = 200;
	patience_making_ms = 5000;
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/s", folder);
	memcpy(address.sun_path, path, strlen(path));
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return bind(listening, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
			       listen(listening, 8) < 0
		       ? -1
		       : 0;
}

static int end(void **state)
{
	(void)state;
	close(listening);
	(void)unlink(path);
	return rmdir(folder);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void nobody_is_there(void **state)
{
	struct api_failure failure;

	(void)state;
	assert_int_equal(api_call("/nonexistent/socket", "GET", "/v1/nodes", NULL, NULL, &failure),
			 -ECONNREFUSED);
	assert_non_null(strstr(failure.text, "does not answer at /nonexistent/socket"));
	assert_non_null(strstr(failure.text, "start lunrootd"));
}

static void it_never_answers(void **state)
{
	struct api_failure failure;
	uint64_t begun_ms = now_ms();
	char byte;

	(void)state;
	assert_int_equal(api_call(path, "GET", "/v1/nodes", NULL, NULL, &failure), -ECONNREFUSED);
	assert_non_null(strstr(failure.text, "hangs: no answer for 0 seconds to GET /v1/nodes; "));
	assert_int_equal(api_read(path, "/v1/nodes/pi-01/luns/0/data", &byte, 1, 0, &failure),
			 -ECONNREFUSED);
	assert_true(now_ms() - begun_ms < patience_making_ms);
}

static void answer_late(void)
{
	static const char answer[] = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}";
	char request[1024];
	int fd;

	/* The calls of the test before have gone away; theirs are the first. */
	for (;;) {
		fd = accept(listening, NULL, NULL);
		if (fd < 0 || recv(fd, request, sizeof(request), 0) < 0)
			_exit(1);
		usleep(2 * patience_ms * 1000);
		(void)send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
		close(fd);
	}
}

static void a_disk_takes_longer(void **state)
{
	struct api_failure failure = {.text = ""};
	pid_t pid = fork();

	(void)state;
	assert_true(pid >= 0);
	if (pid == 0)
		answer_late();
	assert_int_equal(api_call(path, "POST", "/v1/nodes", json_pack("{s:s}", "name", "pi-01"),
				  NULL, &failure),
			 0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* What who may not even look into the folder is told. */
static void the_socket_of_another(void **state)
{
	struct api_failure failure;
	char cure[128];
	int status = -1;
	pid_t pid;

	(void)state;
	(void)snprintf(cure, sizeof(cure), "; start lunbootd as root with --user %s",
		       getpwuid(geteuid())->pw_name);
	assert_int_equal(chmod(folder, 0), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(1);
		if (api_call(path, "GET", "/v1/nodes", NULL, NULL, &failure) != -ECONNREFUSED)
			_exit(2);
		_exit(strstr(failure.text, "may not open lunrootd's socket") &&
				      strstr(failure.text, cure)
			      ? 0
			      : 3);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(chmod(folder, 0700), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_there),
		cmocka_unit_test(the_socket_of_another),
		cmocka_unit_test(it_never_answers),
		cmocka_unit_test(a_disk_takes_longer),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
