/*
 * The little of HTTP/1.1 that the control API's callers need: one request over a unix socket, one
 * answer, both bounded in size and time. Blocking; lunctl must start and end within milliseconds,
 * which no HTTP library does, and lunbootd's workers have nothing else to do meanwhile.
 */
#ifndef LUNROOT_BASE_HTTP_CLIENT_H
#define LUNROOT_BASE_HTTP_CLIENT_H

#include <stddef.h>

#define HTTP_HEAD_BYTES_MAX 16384       /* status line and header fields */
#define HTTP_BODY_BYTES_MAX (64u << 20) /* 4,096 nodes with 16 LUNs each stay below this */
/* Removing a large file is the longest that the daemon thinks. */
#define HTTP_SILENCE_MS 120000
#define HTTP_WHY_BYTES  160

/* Where an answer's parts lie within the bytes that came. */
struct http_answer {
	int status;
	size_t body_start;
	size_t body_bytes;
};

/*
 * Looks at all bytes that have come so far. 1: the answer is complete and ret_answer is set;
 * 0: more must come; -EPROTO: this is no answer, and `why` says what is wrong. `ended` says that
 * no more bytes will come, and then 0 is never returned.
 */
int http_client_parse(const char *bytes, size_t count, int ended, struct http_answer *ret_answer,
		      char why[HTTP_WHY_BYTES]);

/* 0 or -errno, -ETIMEDOUT if nobody takes the connection in time; the descriptor is the caller's.
 */
int socket_connect(const char *path, unsigned silence_ms, int *ret_fd);

/* What became of a request. */
enum http_outcome {
	HTTP_ANSWERED,
	HTTP_UNREACHABLE, /* nobody took the connection; *ret_errno says why */
	HTTP_SILENT,      /* it is there, but nothing moved for silence_ms */
	HTTP_STOPPED,     /* http_client_stop_by; the daemon may do it nevertheless */
	HTTP_BROKEN,      /* the connection was taken, but no proper answer came; why is set */
};

/*
 * Once `fd` can be read, whoever waits for an answer in this process, or will, has HTTP_STOPPED
 * if nothing comes for another `grace_ms`. Not while a call is under way; the descriptor stays the
 * caller's.
 */
void http_client_stop_by(int fd, unsigned grace_ms);

/*
 * One request on a connection of its own; the daemon may keep still for `silence_ms`, be it that it
 * does not take the connection, does not read or does not answer. `body` may be NULL. On
 * HTTP_ANSWERED, *ret_body is the caller's to free, NUL-terminated, and *ret_body_bytes long.
 */
enum http_outcome http_client_call(const char *socket_path, const char *method, const char *target,
				   const char *body, unsigned silence_ms, int *ret_status,
				   char **ret_body, size_t *ret_body_bytes, int *ret_errno,
				   char why[HTTP_WHY_BYTES]);

#endif
