/*
 * One HTTP request over a unix socket and its answer. The daemon closes after each answer, so
 * there is no keep-alive, no pipelining and no chunked coding here; what is not understood is an
 * error, never a guess.
 */
#include "base/clock.h"
#include "base/http_client.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/secret.h"

/* connect() can't wait for stop_fd too. */
#define CONNECT_LOOK_MS 200

static int wrong(char why[HTTP_WHY_BYTES], const char *text)
{
	(void)snprintf(why, HTTP_WHY_BYTES, "%s", text);
	return -EPROTO;
}

static int status_parse(const char *line, size_t bytes, int *ret_status)
{
	int status = 0;

	if (bytes < 12 || strncmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ')
		return -EPROTO;
	for (int i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return -EPROTO;
		status = status * 10 + (line[i] - '0');
	}
	if (status < 100 || (bytes > 12 && line[12] != ' '))
		return -EPROTO;
	*ret_status = status;
	return 0;
}

/* Digits only (RFC 9110, 8.6), and no more than we would hold. */
static int length_parse(const char *text, size_t bytes, size_t *ret_length)
{
	size_t length = 0;

	if (bytes == 0)
		return -EPROTO;
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EPROTO;
		length = length * 10 + (size_t)(text[i] - '0');
		if (length > HTTP_BODY_BYTES_MAX)
			return -EFBIG;
	}
	*ret_length = length;
	return 0;
}

struct head {
	int status;
	bool has_length;
	size_t length;
};

static int field_parse(const char *line, size_t bytes, struct head *head, char *why)
{
	const char *colon = memchr(line, ':', bytes);
	const char *value, *end = line + bytes;
	size_t name_bytes, length = 0;
	int r;

	if (!colon || colon == line)
		return wrong(why, "a header line without a name");
	name_bytes = (size_t)(colon - line);
	for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (name_bytes == 17 && strncasecmp(line, "Transfer-Encoding", 17) == 0)
		return wrong(why, "a transfer coding that was not asked for");
	if (name_bytes != 14 || strncasecmp(line, "Content-Length", 14) != 0)
		return 0;
	r = length_parse(value, (size_t)(end - value), &length);
	if (r == -EFBIG)
		return wrong(why, "an answer larger than is taken");
	if (r < 0 || (head->has_length && head->length != length))
		return wrong(why, "a Content-Length that makes no sense");
	head->has_length = true;
	head->length = length;
	return 0;
}

static int head_parse(const char *bytes, size_t count, struct head *head, char *why)
{
	const char *line = bytes, *end = bytes + count;
	bool first = true;

	while (line < end) {
		const char *newline = memchr(line, '\n', (size_t)(end - line));
		size_t line_bytes = (size_t)((newline ? newline : end) - line);

		if (line_bytes > 0 && line[line_bytes - 1] == '\r')
			line_bytes--;
		if (first && status_parse(line, line_bytes, &head->status) < 0)
			return wrong(why, "something that is not HTTP");
		if (!first && line_bytes > 0) {
			int r = field_parse(line, line_bytes, head, why);

			if (r < 0)
				return r;
		}
		first = false;
		if (!newline)
			break;
		line = newline + 1;
	}
	return 0;
}

int http_client_parse(const char *bytes, size_t count, int ended, struct http_answer *ret_answer,
		      char why[HTTP_WHY_BYTES])
{
	size_t look = count < HTTP_HEAD_BYTES_MAX ? count : HTTP_HEAD_BYTES_MAX;
	const char *blank = memmem(bytes, look, "\r\n\r\n", 4);
	struct head head = {0};
	size_t body_start, have;
	int r;

	if (!blank) {
		if (count >= HTTP_HEAD_BYTES_MAX)
			return wrong(why, "a header without end");
		if (ended)
			return wrong(why, count ? "an answer that is cut off" : "no answer");
		return 0;
	}
	r = head_parse(bytes, (size_t)(blank - bytes), &head, why);
	if (r < 0)
		return r;
	body_start = (size_t)(blank - bytes) + 4;
	have = count - body_start;
	if (!head.has_length) { /* ends with the connection (RFC 9112, 6.3) */
		if (have > HTTP_BODY_BYTES_MAX)
			return wrong(why, "an answer larger than is taken");
		if (!ended)
			return 0;
		head.length = have;
	}
	if (have < head.length) {
		if (ended)
			return wrong(why, "an answer that is cut off");
		return 0;
	}
	ret_answer->status = head.status;
	ret_answer->body_start = body_start;
	ret_answer->body_bytes = head.length;
	return 1;
}

/* --- the socket --- */

static int stop_fd = -1;
static unsigned stop_grace_ms;

void http_client_stop_by(int fd, unsigned grace_ms)
{
	stop_fd = fd;
	stop_grace_ms = grace_ms;
}

static bool stop_wanted(void)
{
	struct pollfd stop = {.fd = stop_fd, .events = POLLIN};

	return poll(&stop, 1, 0) > 0;
}

/* A signal ends no wait by itself, nor does it make one longer. */
static int wait_for(int fd, short events, unsigned silence_ms)
{
	struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = stop_fd, .events = POLLIN}};
	uint64_t end_ms = clock_ms() + silence_ms;
	bool stopped = false;

	for (;;) {
		uint64_t now = clock_ms();
		int r = poll(fds, ARRAY_COUNT(fds), now < end_ms ? (int)(end_ms - now) : 0);

		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			return stopped ? -ECANCELED : -ETIMEDOUT;
		if (r < 0)
			continue;
		if (fds[0].revents)
			return 0;
		stopped = true;
		fds[1].fd = -1;
		now = clock_ms() + stop_grace_ms;
		end_ms = now < end_ms ? now : end_ms;
	}
}

/* While more wait than the daemon has said it would let wait, connect() does; this ends that. */
static int limit_connect(int fd, unsigned silence_ms)
{
	const struct timeval limit = {.tv_sec = silence_ms / 1000,
				      .tv_usec = (silence_ms % 1000) * 1000};

	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ? -errno : 0;
}

int socket_connect(const char *path, unsigned silence_ms, int *ret_fd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint64_t end_ms = clock_ms() + silence_ms;
	int AUTO_CLOSE fd = -1;
	int r;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	r = limit_connect(fd, silence_ms < CONNECT_LOOK_MS ? silence_ms : CONNECT_LOOK_MS);
	if (r < 0)
		return r;
	while (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (stop_wanted())
			return -ECANCELED;
		if (clock_ms() >= end_ms)
			return -ETIMEDOUT;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int send_all(int fd, const char *bytes, size_t count, unsigned silence_ms)
{
	while (count > 0) {
		ssize_t n = send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			bytes += n;
			count -= (size_t)n;
		} else if (errno == EAGAIN) {
			int r = wait_for(fd, POLLOUT, silence_ms);

			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

struct received {
	char *bytes;
	size_t count, room;
};

/* 1: bytes came; 0: the end; -errno. */
static int receive_some(int fd, struct received *in, unsigned silence_ms)
{
	ssize_t n;
	int r;

	if (in->count + 1 >= in->room) {
		size_t room = in->room ? in->room * 2 : 16384;
		char *grown;

		if (room > 2 * (size_t)(HTTP_HEAD_BYTES_MAX + HTTP_BODY_BYTES_MAX))
			return -EFBIG;
		grown = realloc(in->bytes, room);
		if (!grown)
			return -ENOMEM;
		in->bytes = grown;
		in->room = room;
	}
	for (;;) {
		n = recv(fd, in->bytes + in->count, in->room - in->count - 1, MSG_DONTWAIT);
		if (n >= 0)
			break;
		if (errno == EAGAIN) {
			r = wait_for(fd, POLLIN, silence_ms);
			if (r < 0)
				return r;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	in->count += (size_t)n;
	in->bytes[in->count] = '\0';
	return n > 0;
}

static int receive_answer(int fd, struct received *in, unsigned silence_ms,
			  struct http_answer *ret_answer, char *why)
{
	for (;;) {
		int more = receive_some(fd, in, silence_ms);
		int r;

		/* A reset after the whole answer has come does not matter. */
		if (more < 0 && more != -ECONNRESET) {
			(void)snprintf(why, HTTP_WHY_BYTES, "%s", strerror(-more));
			return more;
		}
		r = http_client_parse(in->bytes, in->count, more <= 0, ret_answer, why);
		if (r != 0)
			return r < 0 ? r : 0;
	}
}

static enum http_outcome silent(unsigned silence_ms, char why[HTTP_WHY_BYTES])
{
	(void)snprintf(why, HTTP_WHY_BYTES, "no answer for %u seconds", silence_ms / 1000);
	return HTTP_SILENT;
}

static enum http_outcome stopped(char why[HTTP_WHY_BYTES])
{
	(void)snprintf(why, HTTP_WHY_BYTES, "%s", strerror(ECANCELED));
	return HTTP_STOPPED;
}

enum http_outcome http_client_call(const char *socket_path, const char *method, const char *target,
				   const char *body, unsigned silence_ms, int *ret_status,
				   char **ret_body, size_t *ret_body_bytes, int *ret_errno,
				   char why[HTTP_WHY_BYTES])
{
	struct http_answer answer;
	struct received in = {0};
	char *AUTO_FREE head = NULL;
	int AUTO_CLOSE fd = -1;
	int r = socket_connect(socket_path, silence_ms, &fd);
	int head_bytes;

	if (r == -ETIMEDOUT)
		return silent(silence_ms, why);
	if (r == -ECANCELED)
		return stopped(why);
	if (r < 0) {
		*ret_errno = -r;
		return HTTP_UNREACHABLE;
	}
	head_bytes = asprintf(&head,
			      "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			      method, target, body ? strlen(body) : 0, body ? body : "");
	if (head_bytes < 0) {
		head = NULL;
		(void)snprintf(why, HTTP_WHY_BYTES, "out of memory");
		return HTTP_BROKEN;
	}
	/* A daemon that refuses early may close before it has read all; its answer is there anyway.
	 */
	r = send_all(fd, head, (size_t)head_bytes, silence_ms);
	if (r == -ETIMEDOUT)
		return silent(silence_ms, why);
	if (r == -ECANCELED)
		return stopped(why);
	if (r < 0 && r != -EPIPE && r != -ECONNRESET) {
		(void)snprintf(why, HTTP_WHY_BYTES, "%s", strerror(-r));
		return HTTP_BROKEN;
	}
	r = receive_answer(fd, &in, silence_ms, &answer, why);
	if (r < 0) {
		secret_free(in.bytes);
		if (r == -ECANCELED)
			return stopped(why);
		return r == -ETIMEDOUT ? silent(silence_ms, why) : HTTP_BROKEN;
	}
	memmove(in.bytes, in.bytes + answer.body_start, answer.body_bytes);
	in.bytes[answer.body_bytes] = '\0';
	*ret_status = answer.status;
	*ret_body = in.bytes;
	*ret_body_bytes = answer.body_bytes;
	return HTTP_ANSWERED;
}
