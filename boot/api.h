/*
 * lunrootd's control API as the boot service calls it (docs/api.md). Every function blocks: for
 * workers' threads only. Any number of them at a time.
 */
#ifndef LUNROOT_BOOT_API_H
#define LUNROOT_BOOT_API_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#define API_TARGET_BYTES 256
#define API_DATA_BYTES   (4u << 20) /* a read of a disk */

#define API_TIME_BYTES 32

#define API_UNANSWERED "unanswered"

struct api_failure {
	char text[512]; /* a sentence that names the thing, and the cure behind it */
	/* The API's own; API_UNANSWERED: it may have been done all the same; "" is ours. */
	char code[32];
};

/*
 * Once, before anything is made of JSON: from then on its memory is wiped when it is freed, since
 * the answers have credentials in them.
 */
void api_init(void);
/* Whoever waits for an answer of lunrootd, now or later, fails at once. Any thread. */
void api_stop(void);
/*
 * `body` may be NULL, and its reference is taken. 0 with the answer, the caller's (ret_answer may
 * be NULL); -ENOENT for a 404, -EEXIST for a 409, -ECONNREFUSED when no daemon answers, -EREMOTEIO
 * for what else it says.
 */
int api_call(const char *socket_path, const char *method, const char *target, json_t *body,
	     json_t **ret_answer, struct api_failure *ret_failure);
/* A member of an answer, "" if it is not there or no text; lives as long as the object. */
const char *api_text(const json_t *object, const char *name);
/* A time as the API writes it, "2026-11-26T08:00:00Z". Any thread. */
static inline void api_time(time_t when, char ret_text[API_TIME_BYTES])
{
	struct tm tm;

	(void)strftime(ret_text, API_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&when, &tm));
}

/* `bytes` octets of a disk from `offset` on; `target` as in "/v1/nodes/pi-07/luns/0/data". */
int api_read(const char *socket_path, const char *target, void *to, size_t bytes, uint64_t offset,
	     struct api_failure *ret_failure);

#endif
