/*
 * The little of HTTP/1.1 that lunctl needs: one request over a unix socket, one answer, both
 * bounded in size and time. lunctl must start and end within milliseconds, which no HTTP library
 * does.
 */
#ifndef LUNROOT_LUNCTL_HTTP_H
#define LUNROOT_LUNCTL_HTTP_H

#include <stddef.h>

#define HTTP_HEAD_BYTES_MAX 16384       /* status line and header fields */
#define HTTP_BODY_BYTES_MAX (64u << 20) /* 4,096 nodes with 16 LUNs each stay below this */
#define HTTP_SILENCE_MS     120000 /* removing a large file is the longest that the daemon thinks */
#define HTTP_WHY_BYTES      160

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
int http_parse(const char *bytes, size_t count, int ended, struct http_answer *ret_answer,
	       char why[HTTP_WHY_BYTES]);

/* What became of a request. */
enum http_outcome {
	HTTP_ANSWERED,
	HTTP_UNREACHABLE, /* nobody took the connection; *ret_errno says why */
	HTTP_BROKEN,      /* the connection was taken, but no proper answer came; why is set */
};

/*
 * One request on a connection of its own. `body` may be NULL. On HTTP_ANSWERED, *ret_body is the
 * caller's to free, NUL-terminated, and *ret_body_bytes long.
 */
enum http_outcome http_call(const char *socket_path, const char *method, const char *target,
			    const char *body, int *ret_status, char **ret_body,
			    size_t *ret_body_bytes, int *ret_errno, char why[HTTP_WHY_BYTES]);

#endif
