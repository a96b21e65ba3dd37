/*
 * Answers as a daemon, or whatever else listens there, may give them: cut off, lying about their
 * length, endless.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/http_client.h"

struct answer_case {
	const char *name;
	const char *bytes;
	int ended;
	int want; /* 1, 0 or -EPROTO */
	int status;
	const char *body;
};

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

static const struct answer_case cases[] = {
	{"whole", HEAD "Content-Length: 2\r\n\r\n{}", 0, 1, 200, "{}"},
	{"whole_and_ended", HEAD "Content-Length: 2\r\n\r\n{}", 1, 1, 200, "{}"},
	{"status_of_an_error", "HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\n{}", 0, 1, 409,
	 "{}"},
	{"status_without_reason", "HTTP/1.1 201\r\nContent-Length: 0\r\n\r\n", 0, 1, 201, ""},
	{"length_in_other_letters", "HTTP/1.0 200 OK\r\ncontent-length:\t2 \r\n\r\n{}", 0, 1, 200,
	 "{}"},
	{"bytes_beyond_the_length", HEAD "Content-Length: 2\r\n\r\n{}junk", 0, 1, 200, "{}"},
	{"without_length_still_open", HEAD "\r\n{}", 0, 0, 0, NULL},
	{"without_length_ended", HEAD "\r\n{}", 1, 1, 200, "{}"},
	{"nothing_yet", "", 0, 0, 0, NULL},
	{"nothing_ever", "", 1, -EPROTO, 0, NULL},
	{"head_incomplete", "HTTP/1.1 200 OK\r\nContent-", 0, 0, 0, NULL},
	{"head_cut_off", "HTTP/1.1 200 OK\r\nContent-", 1, -EPROTO, 0, NULL},
	{"body_incomplete", HEAD "Content-Length: 10\r\n\r\n{}", 0, 0, 0, NULL},
	{"body_cut_off", HEAD "Content-Length: 10\r\n\r\n{}", 1, -EPROTO, 0, NULL},
	{"length_negative", HEAD "Content-Length: -1\r\n\r\n{}", 0, -EPROTO, 0, NULL},
	{"length_empty", HEAD "Content-Length: \r\n\r\n{}", 0, -EPROTO, 0, NULL},
	{"length_hex", HEAD "Content-Length: 0x2\r\n\r\n{}", 0, -EPROTO, 0, NULL},
	{"length_with_junk", HEAD "Content-Length: 2, 2\r\n\r\n{}", 0, -EPROTO, 0, NULL},
	{"length_huge", HEAD "Content-Length: 99999999999\r\n\r\n{}", 0, -EPROTO, 0, NULL},
	{"length_overflows", HEAD "Content-Length: 18446744073709551618\r\n\r\n{}", 0, -EPROTO, 0,
	 NULL},
	{"two_lengths_agree", HEAD "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 0, 1, 200,
	 "{}"},
	{"two_lengths_differ", HEAD "Content-Length: 2\r\nContent-Length: 1\r\n\r\n{}", 0, -EPROTO,
	 0, NULL},
	{"chunked", HEAD "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", 0, -EPROTO, 0, NULL},
	{"field_without_name", HEAD ": 2\r\n\r\n", 0, -EPROTO, 0, NULL},
	{"field_without_colon", HEAD "nonsense\r\n\r\n", 0, -EPROTO, 0, NULL},
	{"not_http", "SSH-2.0-OpenSSH_9.2\r\n\r\n", 0, -EPROTO, 0, NULL},
	{"status_not_a_number", "HTTP/1.1 2x0 OK\r\n\r\n", 0, -EPROTO, 0, NULL},
	{"status_of_four_digits", "HTTP/1.1 2000 OK\r\n\r\n", 0, -EPROTO, 0, NULL},
	{"status_line_short", "HTTP/1.1\r\n\r\n", 0, -EPROTO, 0, NULL},
};

static void answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct answer_case *c = &cases[i];
		size_t count = strlen(c->bytes);
		/* Exactly as large as it is, so that a sanitizer sees a read beyond it. */
		char *bytes = malloc(count ? count : 1);
		struct http_answer answer = {.status = -1};
		char why[HTTP_WHY_BYTES] = "";
		int got;

		assert_non_null(bytes);
		memcpy(bytes, c->bytes, count);
		got = http_client_parse(bytes, count, c->ended, &answer, why);
		if (got != c->want)
			fail_msg("%s: %d instead of %d (%s)", c->name, got, c->want, why);
		if (got == 1) {
			assert_int_equal(answer.status, c->status);
			assert_int_equal(answer.body_bytes, strlen(c->body));
			assert_memory_equal(bytes + answer.body_start, c->body, strlen(c->body));
		} else {
			assert_int_equal(answer.status, -1); /* untouched */
		}
		assert_true((got < 0) == (why[0] != '\0'));
		free(bytes);
	}
}

/* However an answer is cut, it is incomplete until its last byte has come. */
static void answer_in_pieces(void **state)
{
	const char *whole = HEAD "Content-Length: 14\r\n\r\n{\"images\": []}";
	size_t count = strlen(whole);
	char why[HTTP_WHY_BYTES] = "";
	struct http_answer answer;

	(void)state;
	for (size_t n = 0; n < count; n++)
		assert_int_equal(http_client_parse(whole, n, 0, &answer, why), 0);
	assert_int_equal(http_client_parse(whole, count, 0, &answer, why), 1);
}

static void head_without_end(void **state)
{
	static char bytes[HTTP_HEAD_BYTES_MAX + 100];
	char why[HTTP_WHY_BYTES] = "";
	struct http_answer answer;

	(void)state;
	memset(bytes, 'a', sizeof(bytes));
	memcpy(bytes, "HTTP/1.1 200 OK\r\nX: ", 20);
	assert_int_equal(http_client_parse(bytes, HTTP_HEAD_BYTES_MAX - 1, 0, &answer, why), 0);
	assert_int_equal(http_client_parse(bytes, HTTP_HEAD_BYTES_MAX, 0, &answer, why), -EPROTO);
	/* Its end comes too late. */
	memcpy(bytes + sizeof(bytes) - 4, "\r\n\r\n", 4);
	assert_int_equal(http_client_parse(bytes, sizeof(bytes), 0, &answer, why), -EPROTO);
}

static void nobody_listens(void **state)
{
	char why[HTTP_WHY_BYTES] = "", long_path[300], *body = NULL;
	int status = 0, error = 0;
	size_t body_bytes = 0;

	(void)state;
	assert_int_equal(http_client_call("/nonexistent/socket", "GET", "/", NULL, 10000, &status,
					  &body, &body_bytes, &error, why),
			 HTTP_UNREACHABLE);
	assert_int_equal(error, ENOENT);
	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(http_client_call(long_path, "GET", "/", NULL, 10000, &status, &body,
					  &body_bytes, &error, why),
			 HTTP_UNREACHABLE);
	assert_int_equal(error, ENAMETOOLONG);
	assert_null(body);
}

/* --- over a socket --- */

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strlen(path));
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

/* A process that takes one request and answers in pieces of `piece` bytes. */
static pid_t serve(int fd, const char *answer, size_t piece)
{
	pid_t pid = fork();
	char request[4096];
	ssize_t n;

	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	fd = accept(fd, NULL, NULL);
	n = recv(fd, request, sizeof(request) - 1, 0);
	if (n <= 0)
		_exit(1);
	request[n] = '\0';
	for (size_t at = 0, all = strlen(answer); at < all; at += piece) {
		size_t count = all - at < piece ? all - at : piece;

		if (send(fd, answer + at, count, MSG_NOSIGNAL) != (ssize_t)count)
			_exit(2);
	}
	_exit(strstr(request, "Connection: close\r\n") ? 0 : 3);
}

/* The same, but it keeps the connection. */
static pid_t serve_and_stay(int fd, const char *answer)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid > 0)
		return pid;
	fd = accept(fd, NULL, NULL);
	if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
		_exit(1);
	for (;;)
		pause();
}

static void over_a_socket(void **state)
{
	static const struct {
		const char *answer;
		size_t piece;
		enum http_outcome want;
		int status;
		const char *body;
	} calls[] = {
		{HEAD "Content-Length: 8\r\n\r\n{\"a\": 1}", 1000, HTTP_ANSWERED, 200,
		 "{\"a\": 1}"},
		{HEAD "Content-Length: 8\r\n\r\n{\"a\": 1}", 1, HTTP_ANSWERED, 200, "{\"a\": 1}"},
		{HEAD "\r\n{}", 3, HTTP_ANSWERED, 200, "{}"},
		{"HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n", 7, HTTP_ANSWERED, 409, ""},
		{HEAD "Content-Length: 9\r\n\r\n{\"a\": 1}", 5, HTTP_BROKEN, 0, NULL},
		{"", 1, HTTP_BROKEN, 0, NULL},
		{"220 mail.example ESMTP\r\n\r\n", 100, HTTP_BROKEN, 0, NULL},
	};
	char folder[] = "/tmp/lunctl-http.XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/s", folder);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		int fd = listen_at(path), status = 0, error = 0, child = -1;
		pid_t pid = serve(fd, calls[i].answer, calls[i].piece);
		char why[HTTP_WHY_BYTES] = "", *body = NULL;
		size_t body_bytes = 0;

		assert_int_equal(http_client_call(path, "POST", "/v1/nodes", "{}", 10000, &status,
						  &body, &body_bytes, &error, why),
				 calls[i].want);
		assert_int_equal(waitpid(pid, &child, 0), pid);
		assert_true(WIFEXITED(child));
		assert_int_equal(WEXITSTATUS(child), 0);
		assert_int_equal(status, calls[i].status);
		if (calls[i].body) {
			assert_int_equal(body_bytes, strlen(calls[i].body));
			assert_string_equal(body, calls[i].body); /* with its NUL */
		} else {
			assert_null(body);
			assert_true(why[0] != '\0');
		}
		free(body);
		close(fd);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(folder), 0);
}

/* One that hangs: the connection waits to be taken, nobody reads the request, or half an answer
 * comes. */
static void a_daemon_that_hangs(void **state)
{
	static char large[1 << 20];
	const char *const bodies[] = {NULL, "{}", large, "{}"};
	char folder[] = "/tmp/lunctl-http.XXXXXX", path[64];

	(void)state;
	memset(large, ' ', sizeof(large) - 1);
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/s", folder);
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		int fd = listen_at(path), waiting[2] = {-1, -1}, status = 0, error = 0;
		char why[HTTP_WHY_BYTES] = "", *body = NULL;
		size_t body_bytes = 0;
		pid_t pid = -1;

		/* As many as it lets wait. */
		for (size_t n = 0; i == 0 && n < 2; n++)
			assert_int_equal(socket_connect(path, 100, &waiting[n]), 0);
		if (i == 3)
			pid = serve_and_stay(fd, HEAD "Content-Le");
		assert_int_equal(http_client_call(path, "POST", "/", bodies[i], 100, &status, &body,
						  &body_bytes, &error, why),
				 HTTP_SILENT);
		assert_string_equal(why, "no answer for 0 seconds");
		assert_null(body);
		for (size_t n = 0; i == 0 && n < 2; n++)
			close(waiting[n]);
		if (pid > 0) {
			assert_int_equal(kill(pid, SIGKILL), 0);
			assert_int_equal(waitpid(pid, NULL, 0), pid);
		}
		close(fd);
		(void)unlink(path);
	}
	assert_int_equal(rmdir(folder), 0);
}

static void a_call_that_is_stopped(void **state)
{
	char folder[] = "/tmp/lunctl-http.XXXXXX", path[64];
	char why[HTTP_WHY_BYTES] = "", *body = NULL;
	int fd, stop = eventfd(0, EFD_CLOEXEC), waiting[2] = {-1, -1}, status = 0, error = 0;
	size_t body_bytes = 0;
	pid_t pid;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/s", folder);
	fd = listen_at(path);
	http_client_stop_by(stop, 0);
	assert_int_equal(http_client_call(path, "GET", "/", NULL, 50, &status, &body, &body_bytes,
					  &error, why),
			 HTTP_SILENT);
	assert_int_equal(eventfd_write(stop, 1), 0);
	assert_int_equal(http_client_call(path, "GET", "/", NULL, HTTP_SILENCE_MS, &status, &body,
					  &body_bytes, &error, why),
			 HTTP_STOPPED);
	assert_string_equal(why, strerror(ECANCELED));
	assert_null(body);
	/* Nor does it wait for a connection to be taken. */
	for (size_t n = 0; n < 2; n++)
		(void)socket_connect(path, 100, &waiting[n]);
	assert_int_equal(http_client_call(path, "GET", "/", NULL, HTTP_SILENCE_MS, &status, &body,
					  &body_bytes, &error, why),
			 HTTP_STOPPED);
	for (size_t n = 0; n < 2; n++) {
		if (waiting[n] >= 0)
			close(waiting[n]);
	}
	/* One that answers in its grace has answered. */
	close(fd);
	(void)unlink(path);
	fd = listen_at(path);
	http_client_stop_by(stop, 10000);
	pid = serve(fd, HEAD "Content-Length: 2\r\n\r\n{}", 1000);
	assert_int_equal(http_client_call(path, "GET", "/", NULL, HTTP_SILENCE_MS, &status, &body,
					  &body_bytes, &error, why),
			 HTTP_ANSWERED);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	free(body);
	http_client_stop_by(-1, 0);
	close(stop);
	close(fd);
	(void)unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

static void on_alarm(int number)
{
	(void)number;
}

static void signals_make_no_wait_longer(void **state)
{
	const struct sigaction action = {.sa_handler = on_alarm};
	const struct itimerval often = {{0, 20000}, {0, 20000}}, never = {{0, 0}, {0, 0}};
	char folder[] = "/tmp/lunctl-http.XXXXXX", path[64];
	char why[HTTP_WHY_BYTES] = "", *body = NULL;
	int fd, status = 0, error = 0;
	size_t body_bytes = 0;
	pid_t watch;

	(void)state;
	assert_non_null(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/s", folder);
	fd = listen_at(path);
	/* A wait that goes on for ever ends the test. */
	watch = fork();
	if (watch == 0) {
		sleep(20);
		(void)kill(getppid(), SIGKILL);
		_exit(0);
	}
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	assert_int_equal(http_client_call(path, "GET", "/", NULL, 100, &status, &body, &body_bytes,
					  &error, why),
			 HTTP_SILENT);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(kill(watch, SIGKILL), 0);
	assert_int_equal(waitpid(watch, NULL, 0), watch);
	close(fd);
	(void)unlink(path);
	assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(answer_in_pieces),
		cmocka_unit_test(head_without_end),
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(over_a_socket),
		cmocka_unit_test(a_daemon_that_hangs),
		cmocka_unit_test(a_call_that_is_stopped),
		cmocka_unit_test(signals_make_no_wait_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
