/*
 * The HTTP server on the loopback interface: what boot loaders ask, and what others try.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "boot/fake_serve.h"
#include "boot/http.h"

static struct fake fake;
static struct http *server;
static char reply[FAKE_BIG_BYTES + 4096];
static size_t reply_bytes;

static void begin(struct http_config config)
{
	config.address.s_addr = htonl(INADDR_LOOPBACK);
	fake_begin(&fake);
	assert_int_equal(http_new(fake.base, &config, &fake_ops, &fake, &server), 0);
}

static int end(void **state)
{
	(void)state;
	http_free(server);
	server = NULL;
	fake_end(&fake);
	return 0;
}

static int dial(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(http_port(server)),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until the end of file; false: it does not come within `ms`. */
static bool read_all(int fd, unsigned ms)
{
	reply_bytes = 0;
	while (fake_readable(&fake, fd, ms)) {
		ssize_t bytes = recv(fd, reply + reply_bytes, sizeof(reply) - 1 - reply_bytes, 0);

		if (bytes <= 0) {
			reply[reply_bytes] = '\0';
			return true;
		}
		reply_bytes += (size_t)bytes;
	}
	reply[reply_bytes] = '\0';
	return false;
}

static const char *body(void)
{
	const char *at = strstr(reply, "\r\n\r\n");

	assert_non_null(at);
	return at + 4;
}

static size_t body_bytes(void)
{
	return reply_bytes - (size_t)(body() - reply);
}

/* One request on a connection of its own, which ends after it. */
static void ask(const char *method_and_path, const char *headers)
{
	char text[12000];
	int fd = dial();

	(void)snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n",
		       method_and_path, headers);
	say(fd, text);
	assert_true(read_all(fd, 8000));
	close(fd);
}

static void status_is(int status)
{
	int got = reply_bytes > 12 ? atoi(reply + 9) : 0;

	if (got != status)
		print_error("%s\n", reply);
	assert_int_equal(got, status);
}

static void has(const char *header)
{
	if (!strcasestr(reply, header))
		print_error("no \"%s\" in:\n%.500s\n", header, reply);
	assert_non_null(strcasestr(reply, header));
}

/* --- */

static void a_file_is_sent(void **state)
{
	const struct fake_event *event;

	(void)state;
	begin((struct http_config){0});
	ask("GET /small", "");
	status_is(200);
	has("\r\nContent-Length: 5\r\n");
	has("\r\nAccept-Ranges: bytes\r\n");
	has("\r\nContent-Type: application/octet-stream\r\n");
	assert_string_equal(body(), "hello");
	event = fake_await_event(&fake, 2);
	assert_int_equal(fake.events[0].event, SERVE_ASKED);
	assert_int_equal(event->event, SERVE_SENT);
	assert_int_equal(event->progress.bytes, 5);
	assert_string_equal(event->path, "small");
	assert_true(event->request.http);
	assert_int_equal(event->request.ifindex, if_nametoindex("lo"));
	assert_int_equal(ntohl(event->request.peer.sin_addr.s_addr), INADDR_LOOPBACK);
	assert_int_equal(ntohs(event->request.local.sin_port), http_port(server));
	ask("GET /empty", "");
	status_is(200);
	has("\r\nContent-Length: 0\r\n");
	assert_int_equal(body_bytes(), 0);
	ask("GET http://elsewhere/./%73mall?a=b", "");
	status_is(200);
	assert_string_equal(body(), "hello");
	ask("GET /parts", "");
	assert_int_equal(body_bytes(), 13);
	assert_memory_equal(body(), "hello\0\0\0world", 13);
	ask("GET /big", "");
	assert_int_equal(body_bytes(), FAKE_BIG_BYTES);
	for (size_t i = 0; i < FAKE_BIG_BYTES; i++) {
		if ((uint8_t)body()[i] != fake_byte(i))
			fail_msg("wrong byte at %zu", i);
	}
}

static void head_has_no_body(void **state)
{
	(void)state;
	begin((struct http_config){0});
	ask("HEAD /big", "");
	status_is(200);
	has("\r\nContent-Length: 300007\r\n");
	assert_int_equal(body_bytes(), 0);
	ask("HEAD /none", "");
	status_is(404);
	assert_int_equal(body_bytes(), 0);
	ask("HEAD /big", "Range: bytes=5-9\r\n");
	status_is(206);
	has("\r\nContent-Length: 5\r\n");
	assert_int_equal(body_bytes(), 0);
}

static void ranges(void **state)
{
	static const struct {
		const char *header;
		int status;
		const char *body, *content_range;
	} cases[] = {
		{"Range: bytes=0-0\r\n", 206, "h", "Content-Range: bytes 0-0/13\r\n"},
		{"Range: bytes=1-3\r\n", 206, "ell", "Content-Range: bytes 1-3/13\r\n"},
		{"Range: bytes=8-\r\n", 206, "world", "Content-Range: bytes 8-12/13\r\n"},
		{"Range: bytes=9-100\r\n", 206, "orld", "Content-Range: bytes 9-12/13\r\n"},
		{"Range: bytes=-2\r\n", 206, "ld", "Content-Range: bytes 11-12/13\r\n"},
		{"Range: bytes=13-\r\n", 416, NULL, "Content-Range: bytes */13\r\n"},
		{"Range: bytes=1-2,4-5\r\n", 200, NULL, "Content-Length: 13\r\n"},
		{"Range: cows=1-2\r\n", 200, NULL, "Content-Length: 13\r\n"},
		{"Range: bytes=1-2\r\nIf-Range: \"x\"\r\n", 200, NULL, "Content-Length: 13\r\n"},
	};

	(void)state;
	begin((struct http_config){0});
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		ask("GET /parts", cases[i].header);
		status_is(cases[i].status);
		has(cases[i].content_range);
		if (cases[i].body)
			assert_string_equal(body(), cases[i].body);
	}
	ask("GET /parts", "Range: bytes=3-9\r\n"); /* over all pieces */
	assert_int_equal(body_bytes(), 7);
	assert_memory_equal(body(), "lo\0\0\0wo", 7);
}

static void refusals(void **state)
{
	static const struct {
		const char *ask;
		int status;
	} cases[] = {
		{"GET /none", 404},
		{"GET /", 404},
		{"GET /denied", 403},
		{"GET /busy", 503},
		{"GET /broken", 503},
		{"GET /../small", 403},
		{"GET /a/%2e%2e/%2e%2e/small", 403},
		{"GET /..%5csmall", 403},
		{"GET /small%00", 400},
		{"GET /small%0a", 400},
		{"GET /%zz", 400},
		{"POST /small", 405},
		{"PUT /small", 405},
		{"DELETE /small", 405},
		{"OPTIONS /small", 405},
		{"PATCH /small", 405},
	};
	char longest[9000];

	(void)state;
	begin((struct http_config){0});
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		ask(cases[i].ask, "");
		status_is(cases[i].status);
		if (cases[i].status == 503)
			has("\r\nRetry-After: 1\r\n");
		if (cases[i].status == 405)
			has("\r\nAllow: GET, HEAD\r\n");
	}
	assert_int_equal(fake.event_count, 2); /* missing: "none", "denied" */
	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "GET /", 5);
	longest[500] = '\0';
	ask(longest, "");
	status_is(404);
	longest[500] = 'a';
	longest[sizeof(longest) - 1] = '\0';
	ask(longest, "");
	assert_true(atoi(reply + 9) >= 400);
	ask("GET /small", "");
	status_is(200);
}

static void a_connection_serves_many(void **state)
{
	int fd;

	(void)state;
	begin((struct http_config){.idle_ms_max = 1500});
	fd = dial();
	say(fd, "GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
	fake_run(&fake, 50);
	say(fd, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n");
	fake_run(&fake, 50);
	say(fd, "HEAD /big HTTP/1.1\r\nHost: x\r\n\r\n");
	fake_run(&fake, 50);
	say(fd, "GET /parts HTTP/1.1\r\nHost: x\r\n\r\n");
	assert_int_equal(http_client_count(server), 1);
	assert_true(read_all(fd, 8000)); /* until it was idle for too long */
	assert_non_null(strstr(reply, "hello"));
	assert_non_null(strstr(reply, "404"));
	assert_memory_equal(reply + reply_bytes - 5, "world", 5);
	close(fd);
	FAKE_AWAIT(&fake, http_client_count(server) == 0);
}

static void slow_clients_end(void **state)
{
	uint64_t began;
	int fd;

	(void)state;
	begin((struct http_config){.idle_ms_max = 300, .answer_ms_max = 500});
	/* A request that never gets whole, with a byte now and then. */
	fd = dial();
	say(fd, "GET /small HTTP/1.1\r\nX: ");
	began = fake_now_ms();
	while (!fake_readable(&fake, fd, 50) && fake_now_ms() - began < 8000)
		(void)send(fd, "y", 1, MSG_NOSIGNAL);
	assert_in_range(fake_now_ms() - began, 200, 7000);
	close(fd);
	FAKE_AWAIT(&fake, http_client_count(server) == 0);
	assert_int_equal(fake.event_count, 0);
}

/* It takes what it asked for, a little at a time. */
static void a_reader_that_dawdles_ends(void **state)
{
	const int small = 2048;
	struct sockaddr_in to;
	socklen_t bytes = sizeof(to);
	uint64_t began;
	char drop[64];
	int fd;

	(void)state;
	begin((struct http_config){.idle_ms_max = 300, .answer_ms_max = 500});
	fd = dial();
	(void)getpeername(fd, (struct sockaddr *)&to, &bytes);
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	for (unsigned i = 0; i < 20; i++)
		say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
	began = fake_now_ms();
	while (fake_now_ms() - began < 8000) {
		fake_run(&fake, 20);
		(void)recv(fd, drop, sizeof(drop), MSG_DONTWAIT);
		if (fake.event_count > 0 &&
		    fake.events[(fake.event_count - 1) % ARRAY_COUNT(fake.events)].event ==
			    SERVE_LOST)
			break;
	}
	assert_in_range(fake_now_ms() - began, 300, 7000);
	FAKE_AWAIT(&fake, http_client_count(server) == 0);
	close(fd);
}

static void connections_have_a_limit(void **state)
{
	int fds[6];
	unsigned open = 0;

	(void)state;
	begin((struct http_config){.clients_max = 4, .idle_ms_max = 3000});
	for (unsigned i = 0; i < ARRAY_COUNT(fds); i++)
		fds[i] = dial();
	fake_run(&fake, 100);
	assert_true(http_client_count(server) <= 4);
	for (unsigned i = 0; i < 4; i++)
		close(fds[i]);
	say(fds[5], "GET /small HTTP/1.0\r\n\r\n");
	assert_true(read_all(fds[5], 8000)); /* it waited its turn */
	assert_string_equal(body(), "hello");
	close(fds[4]);
	close(fds[5]);
	end(NULL);

	begin((struct http_config){.clients_per_peer_max = 2});
	for (unsigned i = 0; i < ARRAY_COUNT(fds); i++)
		fds[i] = dial();
	FAKE_AWAIT(&fake, http_client_count(server) == ARRAY_COUNT(fds));
	FAKE_AWAIT(&fake, http_client_count(server) == 2);
	for (unsigned i = 0; i < ARRAY_COUNT(fds); i++)
		open += recv(fds[i], reply, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
	assert_int_equal(open, 2);
	for (unsigned i = 0; i < ARRAY_COUNT(fds); i++)
		close(fds[i]);
}

static void a_client_that_leaves_is_told_of(void **state)
{
	const int small = 2048;
	int fd;

	(void)state;
	begin((struct http_config){0});
	fd = dial();
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (unsigned i = 0; i < 30; i++)
		say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
	FAKE_AWAIT(&fake, fake.event_count > 0);
	fake_run(&fake, 100);
	close(fd);
	FAKE_AWAIT(&fake, fake.events[(fake.event_count - 1) % ARRAY_COUNT(fake.events)].event ==
				  SERVE_LOST);
	FAKE_AWAIT(&fake, http_client_count(server) == 0);
}

static void interfaces_that_are_not_named_are_refused(void **state)
{
	static const char *const none[] = {"eth77"}, *const lo[] = {"lo"};

	(void)state;
	begin((struct http_config){.interfaces = none, .interface_count = 1});
	ask("GET /small", "");
	status_is(403);
	assert_int_equal(fake.opened, 0);
	end(NULL);
	begin((struct http_config){.interfaces = lo, .interface_count = 1});
	ask("GET /small", "");
	status_is(200);
}

static void a_port_that_is_taken_is_an_error(void **state)
{
	struct http_config config = {.address.s_addr = htonl(INADDR_LOOPBACK)};
	struct http *second = NULL;

	(void)state;
	begin(config);
	config.port = http_port(server);
	assert_int_equal(http_new(fake.base, &config, &fake_ops, &fake, &second), -EADDRINUSE);
	assert_null(second);
}

static void an_end_in_the_middle_frees_all(void **state)
{
	int fd;

	(void)state;
	begin((struct http_config){0});
	fd = dial();
	for (unsigned i = 0; i < 30; i++)
		say(fd, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
	FAKE_AWAIT(&fake, fake.event_count > 0);
	end(NULL);
	assert_int_equal(fake.events[(fake.event_count - 1) % ARRAY_COUNT(fake.events)].event,
			 SERVE_ASKED);
	close(fd);
	fake_begin(&fake);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(a_file_is_sent, end),
		cmocka_unit_test_teardown(head_has_no_body, end),
		cmocka_unit_test_teardown(ranges, end),
		cmocka_unit_test_teardown(refusals, end),
		cmocka_unit_test_teardown(a_connection_serves_many, end),
		cmocka_unit_test_teardown(slow_clients_end, end),
		cmocka_unit_test_teardown(a_reader_that_dawdles_ends, end),
		cmocka_unit_test_teardown(connections_have_a_limit, end),
		cmocka_unit_test_teardown(a_client_that_leaves_is_told_of, end),
		cmocka_unit_test_teardown(interfaces_that_are_not_named_are_refused, end),
		cmocka_unit_test_teardown(a_port_that_is_taken_is_an_error, end),
		cmocka_unit_test_teardown(an_end_in_the_middle_frees_all, end),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
