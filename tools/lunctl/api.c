/*
 * The control API as verbs see it: calls with JSON in and out, jobs to wait for, and one way of
 * saying what went wrong. Every error that the daemon reports ends here.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "http.h"
#include "lunctl.h"
#include "output.h"

#define JOB_POLL_MS_MIN   5
#define JOB_POLL_MS_MAX   200
#define PROGRESS_AFTER_MS 500 /* what is done sooner needs no bar */

/* --- what people read --- */

int complain(const char *message, const char *cure)
{
	progress_end();
	(void)fputs("lunctl: ", stderr);
	put_text(stderr, message);
	(void)fputc('\n', stderr);
	if (cure && cure[0]) {
		(void)fputs("  cure: ", stderr);
		put_text(stderr, cure);
		(void)fputc('\n', stderr);
	}
	return EXIT_REFUSED;
}

int usage_error(const char *format, ...)
{
	va_list args;

	(void)fputs("lunctl: ", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	return EXIT_USAGE;
}

void say_next(const struct request *request, const char *format, ...)
{
	va_list args;

	if (request->json)
		return;
	(void)fflush(stdout);
	(void)fputs("next: ", stderr);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
}

int print_json(const json_t *value)
{
	if (json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0 ||
	    fputc('\n', stdout) == EOF)
		return complain("standard output can't be written", NULL);
	return EXIT_DONE;
}

/* --- members --- */

const char *get_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

uint64_t get_number(const json_t *object, const char *name)
{
	json_int_t number = json_integer_value(json_object_get(object, name));

	return number > 0 ? (uint64_t)number : 0;
}

bool get_bool(const json_t *object, const char *name)
{
	return json_is_true(json_object_get(object, name));
}

bool name_valid(const char *name)
{
	size_t bytes = strlen(name);

	if (bytes < 1 || bytes > 63 || name[0] == '-' || name[bytes - 1] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == bytes;
}

/* --- errors --- */

/* Who may open it: the group of the socket, or of the first directory above it that we may see. */
static void owner_group(const char *path, char *buffer, size_t bytes)
{
	char seen[PATH_MAX];
	const struct group *group;
	struct stat st;

	(void)snprintf(buffer, bytes, "use sudo, or become a user who may");
	(void)snprintf(seen, sizeof(seen), "%s", path);
	while (stat(seen, &st) < 0) {
		char *slash = strrchr(seen, '/');

		if (!slash || slash == seen)
			return;
		*slash = '\0';
	}
	group = getgrgid(st.st_gid);
	if (S_ISDIR(st.st_mode) && (st.st_mode & 0010) == 0)
		(void)snprintf(buffer, bytes,
			       "only the owner of %s may: become that user, or use sudo", seen);
	else if (st.st_gid == 0) /* nobody should join it for this */
		(void)snprintf(buffer, bytes, "root may: use sudo");
	else if (group)
		(void)snprintf(
			buffer, bytes,
			"members of group %s may: sudo usermod -aG %s $USER, then log in again; "
			"or use sudo",
			group->gr_name, group->gr_name);
	else
		(void)snprintf(buffer, bytes, "members of group %u may, or root: use sudo",
			       (unsigned)st.st_gid);
}

static int unreachable(const struct request *request, int error)
{
	char message[512], cure[512];

	(void)snprintf(message, sizeof(message), "no lunrootd answers on %s: %s",
		       request->socket_path, strerror(error));
	if (error == EACCES || error == EPERM)
		owner_group(request->socket_path, cure, sizeof(cure));
	else if (error == ENAMETOOLONG)
		(void)snprintf(cure, sizeof(cure), "give a shorter path with --socket");
	else
		(void)snprintf(
			cure, sizeof(cure),
			"start it: lunrootd --state DIR --run DIR; if it runs elsewhere, name "
			"its socket with --socket PATH or LUNROOT_SOCKET");
	(void)complain(message, cure);
	return EXIT_UNREACHABLE;
}

static int refused(const struct request *request, const json_t *error)
{
	const char *message = get_text(error, "message");

	progress_end();
	if (request->json) {
		json_t *wrapped = json_pack("{s:O}", "error", error);

		if (wrapped)
			(void)print_json(wrapped);
		json_decref(wrapped);
	}
	return complain(message[0] ? message : "the daemon refused, and did not say why",
			get_text(error, "cure"));
}

/* --- calls --- */

static int call(const struct request *request, const char *method, const char *target, json_t *body,
		int *ret_status, json_t **ret_answer)
{
	char *AUTO_FREE text = NULL;
	char *AUTO_FREE reply = NULL;
	char why[HTTP_WHY_BYTES] = "", message[512];
	size_t reply_bytes = 0;
	json_error_t where;
	int error = 0;

	if (body) {
		text = json_dumps(body, JSON_COMPACT);
		json_decref(body);
		if (!text)
			return complain("out of memory", NULL);
	}
	switch (http_call(request->socket_path, method, target, text, ret_status, &reply,
			  &reply_bytes, &error, why)) {
	case HTTP_UNREACHABLE: return unreachable(request, error);
	case HTTP_BROKEN:
		(void)snprintf(message, sizeof(message), "lunrootd on %s gave %s",
			       request->socket_path, why);
		(void)complain(message, "see lunrootd's log; is it lunrootd that listens there?");
		return EXIT_UNREACHABLE;
	case HTTP_ANSWERED: break;
	}
	*ret_answer = json_loadb(reply, reply_bytes, 0, &where);
	if (json_is_object(*ret_answer))
		return 0;
	json_decref(*ret_answer);
	*ret_answer = NULL;
	(void)snprintf(message, sizeof(message),
		       "lunrootd on %s answered with status %d and no JSON", request->socket_path,
		       *ret_status);
	(void)complain(message, "is it lunrootd that listens there?");
	return EXIT_UNREACHABLE;
}

int api_call(const struct request *request, const char *method, const char *target, json_t *body,
	     json_t **ret_answer)
{
	json_t *answer = NULL;
	int status = 0, r = call(request, method, target, body, &status, &answer);

	if (r != 0)
		return r;
	if (status >= 200 && status < 300) {
		*ret_answer = answer;
		return 0;
	}
	r = refused(request, json_object_get(answer, "error"));
	json_decref(answer);
	return r;
}

int api_find(const struct request *request, const char *target, json_t **ret_answer)
{
	json_t *answer = NULL;
	int status = 0, r = call(request, "GET", target, NULL, &status, &answer);

	if (r != 0)
		return r;
	if (status == 404) {
		json_decref(answer);
		*ret_answer = NULL;
		return 0;
	}
	if (status >= 200 && status < 300) {
		*ret_answer = answer;
		return 0;
	}
	r = refused(request, json_object_get(answer, "error"));
	json_decref(answer);
	return r;
}

/* --- jobs --- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

static void sleep_ms(unsigned ms)
{
	const struct timespec pause = {.tv_nsec = (long)ms * 1000000};

	(void)nanosleep(&pause, NULL);
}

static void job_progress(const json_t *job)
{
	char what[128];

	(void)snprintf(what, sizeof(what), "%s: %s", get_text(job, "kind"), get_text(job, "phase"));
	progress_show(what, get_number(job, "done_bytes"), get_number(job, "total_bytes"));
}

/* The job as it is now, again and again until it has ended. */
static int job_poll(const struct request *request, const char *target, json_t **job)
{
	unsigned pause_ms = JOB_POLL_MS_MIN, waited_ms = 0;
	bool cancelled = false;

	while (strcmp(get_text(*job, "state"), "running") == 0) {
		json_t *now = NULL;
		int r;

		if (waited_ms >= PROGRESS_AFTER_MS)
			job_progress(*job);
		if (!interrupted)
			sleep_ms(pause_ms);
		waited_ms += pause_ms;
		pause_ms = pause_ms * 2 < JOB_POLL_MS_MAX ? pause_ms * 2 : JOB_POLL_MS_MAX;
		if (interrupted && !cancelled) {
			cancelled = true;
			interrupted = 0;
			r = api_call(request, "DELETE", target, NULL, &now);
		} else if (interrupted) {
			return complain("the job goes on, nobody waits for it", NULL);
		} else {
			r = api_call(request, "GET", target, NULL, &now);
		}
		if (r != 0)
			return r;
		json_decref(*job);
		*job = now;
	}
	progress_end();
	return 0;
}

void api_catch_interrupts(void)
{
	const struct sigaction cancel = {.sa_handler = on_interrupt};

	(void)sigaction(SIGINT, &cancel, NULL);
	(void)sigaction(SIGTERM, &cancel, NULL);
}

int api_wait_job(const struct request *request, const json_t *answer, json_t **ret_result)
{
	json_t *job = json_incref(json_object_get(answer, "job"));
	const char *id = get_text(job, "id");
	char target[128];
	int r;

	if (id[0] == '\0' || strlen(id) > 40 || strspn(id, "0123456789abcdef-") != strlen(id)) {
		json_decref(job);
		return complain("the daemon's answer names no job", NULL);
	}
	(void)snprintf(target, sizeof(target), "/v1/jobs/%s", id);
	r = job_poll(request, target, &job);
	if (r == 0 && strcmp(get_text(job, "state"), "done") != 0)
		r = refused(request, json_object_get(job, "error"));
	if (r == 0)
		*ret_result = json_incref(json_object_get(job, "result"));
	json_decref(job);
	return r;
}

/* --- names --- */

int find_object(const struct request *request, const char *name, bool want_node, bool want_image,
		bool secrets, enum object_kind *ret_kind, json_t **ret_object)
{
	json_t *node = NULL, *image = NULL;
	char target[128], message[256];
	int r = 0;

	if (!name_valid(name))
		return usage_error("%s: no name of a node or an image; names have lower-case "
				   "letters, digits and -, at most 63",
				   name);
	if (want_node || !want_image) {
		(void)snprintf(target, sizeof(target), "/v1/nodes/%s%s", name,
			       secrets ? "?secrets=1" : "");
		r = api_find(request, target, &node);
	}
	if (r == 0 && (want_image || !want_node)) {
		(void)snprintf(target, sizeof(target), "/v1/images/%s", name);
		r = api_find(request, target, &image);
	}
	if (r == 0 && node && image) {
		(void)snprintf(message, sizeof(message), "%s is a node and an image", name);
		r = complain(message, "say which one: --node or --image");
	} else if (r == 0 && !node && !image) {
		(void)snprintf(message, sizeof(message), "there is no %s named %s",
			       want_node && !want_image   ? "node"
			       : want_image && !want_node ? "image"
							  : "node or image",
			       name);
		r = complain(message, "lunctl ls shows what there is");
	}
	if (r == 0) {
		*ret_kind = node ? OBJECT_NODE : OBJECT_IMAGE;
		*ret_object = node ? node : image;
		return 0;
	}
	json_decref(node);
	json_decref(image);
	return r;
}
