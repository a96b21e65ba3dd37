/* Calls of the control API, one connection each. */
#include "api.h"

#include <errno.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/http_client.h"
#include "base/limits.h"
#include "base/secret.h"

/*
 * How long lunrootd may keep still. Longer than it takes for a sync on a slow and busy disk; a Pi
 * whose boot is prepared waits no longer either. Variables, so that a test has less patience.
 */
static unsigned patience_ms = 30000, patience_making_ms = HTTP_SILENCE_MS;

static unsigned patience(const char *method, const char *target)
{
	bool makes_disks = strcmp(method, "POST") == 0 && strcmp(target, "/v1/nodes") == 0;

	return makes_disks ? patience_making_ms : patience_ms;
}

static int failed(struct api_failure *failure, int r, const char *code, const char *text,
		  const char *cure)
{
	(void)snprintf(failure->code, sizeof(failure->code), "%s", code);
	(void)snprintf(failure->text, sizeof(failure->text), "%s%s%s", text, cure[0] ? "; " : "",
		       cure);
	return r;
}

/* Readable from api_stop on. */
static int stop_fd = -1;

void api_init(void)
{
	json_set_alloc_funcs(malloc, secret_free);
	stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	http_client_stop_by(stop_fd, 0);
}

void api_stop(void)
{
	(void)eventfd_write(stop_fd, 1);
}

const char *api_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

/* Whose the socket is; or the first folder above it that can be seen. */
static void owner_of(const char *path, char *name, size_t bytes)
{
	char seen[LIMIT_PATH_BYTES];
	struct passwd room, *pw = NULL;
	char texts[1024];
	struct stat st = {.st_uid = 0};
	char *slash;

	(void)snprintf(seen, sizeof(seen), "%s", path);
	while (stat(seen, &st) < 0 && (slash = strrchr(seen, '/')) && slash > seen)
		*slash = '\0';
	if (getpwuid_r(st.st_uid, &room, texts, sizeof(texts), &pw) == 0 && pw)
		(void)snprintf(name, bytes, "%s", pw->pw_name);
	else
		(void)snprintf(name, bytes, "%u", (unsigned)st.st_uid);
}

static int unreachable(const char *socket_path, int error, struct api_failure *failure)
{
	char text[400], cure[160], owner[64];

	if (error != EACCES && error != EPERM) {
		(void)snprintf(text, sizeof(text), "lunrootd does not answer at %s: %s",
			       socket_path, strerror(error));
		return failed(failure, -ECONNREFUSED, "", text,
			      "start lunrootd, or name its socket with --socket");
	}
	owner_of(socket_path, owner, sizeof(owner));
	(void)snprintf(text, sizeof(text),
		       "lunbootd may not open lunrootd's socket %s, which is user %s's",
		       socket_path, owner);
	(void)snprintf(cure, sizeof(cure), "start lunbootd as root with --user %s", owner);
	return failed(failure, -ECONNREFUSED, "", text, cure);
}

/* An answer's body, whatever its status. */
static int call(const char *socket_path, const char *method, const char *target, const char *body,
		int *ret_status, char **ret_text, size_t *ret_bytes, struct api_failure *failure)
{
	char why[HTTP_WHY_BYTES], text[400];
	int error = 0;

	switch (http_client_call(socket_path, method, target, body, patience(method, target),
				 ret_status, ret_text, ret_bytes, &error, why)) {
	case HTTP_ANSWERED: return 0;
	case HTTP_UNREACHABLE: return unreachable(socket_path, error, failure);
	case HTTP_SILENT:
		(void)snprintf(text, sizeof(text), "lunrootd at %s hangs: %s to %s %s", socket_path,
			       why, method, target);
		return failed(failure, -ECONNREFUSED, API_UNANSWERED, text,
			      "see its log and its disk, and start it anew if it stays so");
	case HTTP_STOPPED:
	case HTTP_BROKEN: break;
	}
	(void)snprintf(text, sizeof(text), "lunrootd's answer to %s %s is broken: %s", method,
		       target, why);
	return failed(failure, -ECONNREFUSED, API_UNANSWERED, text, "");
}

static int refused(int status, const json_t *answer, struct api_failure *failure)
{
	const json_t *error = json_object_get(answer, "error");
	const char *message = api_text(error, "message");

	return failed(failure,
		      status == 404   ? -ENOENT
		      : status == 409 ? -EEXIST
				      : -EREMOTEIO,
		      api_text(error, "code"),
		      message[0] ? message : "lunrootd refuses and does not say why",
		      api_text(error, "cure"));
}

int api_call(const char *socket_path, const char *method, const char *target, json_t *body,
	     json_t **ret_answer, struct api_failure *ret_failure)
{
	char *AUTO_FREE sent = body ? json_dumps(body, JSON_COMPACT) : NULL;
	char *AUTO_FREE_SECRET text = NULL;
	bool lost = body && !sent;
	json_t *answer;
	size_t bytes;
	int status, r;

	json_decref(body);
	if (lost)
		return failed(ret_failure, -ENOMEM, "", "out of memory", "");
	r = call(socket_path, method, target, sent, &status, &text, &bytes, ret_failure);
	if (r < 0)
		return r;
	answer = json_loadb(text, bytes, 0, NULL);
	if (status >= 300) {
		r = refused(status, answer, ret_failure);
		json_decref(answer);
		return r;
	}
	if (!json_is_object(answer)) {
		json_decref(answer);
		return failed(ret_failure, -EREMOTEIO, "", "lunrootd's answer is no JSON object",
			      "are lunbootd and lunrootd of the same version?");
	}
	if (ret_answer)
		*ret_answer = answer;
	else
		json_decref(answer);
	return 0;
}

static int read_some(const char *socket_path, const char *target, uint8_t *to, size_t bytes,
		     uint64_t offset, struct api_failure *failure)
{
	char *AUTO_FREE text = NULL;
	char with_range[API_TARGET_BYTES + 64];
	size_t got;
	int status, r;

	(void)snprintf(with_range, sizeof(with_range), "%s?offset=%llu&length=%zu", target,
		       (unsigned long long)offset, bytes);
	r = call(socket_path, "GET", with_range, NULL, &status, &text, &got, failure);
	if (r < 0)
		return r;
	if (status != 200) {
		json_t *answer = json_loadb(text, got, 0, NULL);

		r = refused(status, answer, failure);
		json_decref(answer);
		return r;
	}
	if (got != bytes)
		return failed(failure, -EIO, "", "lunrootd's answer is shorter than what was asked",
			      "");
	memcpy(to, text, bytes);
	return 0;
}

int api_read(const char *socket_path, const char *target, void *to, size_t bytes, uint64_t offset,
	     struct api_failure *ret_failure)
{
	uint8_t *at = to;
	int r = 0;

	while (bytes > 0 && r == 0) {
		size_t step = bytes < API_DATA_BYTES ? bytes : API_DATA_BYTES;

		r = read_some(socket_path, target, at, step, offset, ret_failure);
		at += step;
		offset += step;
		bytes -= step;
	}
	return r;
}
