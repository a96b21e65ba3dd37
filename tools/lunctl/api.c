/*
 * The control API as verbs see it: calls with JSON in and out, jobs to wait for, and one way of
 * saying what went wrong. Every error that the daemon reports ends here.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/http_client.h"
#include "lunctl.h"
#include "output.h"

#define JOB_POLL_MS_MIN   5
#define JOB_POLL_MS_MAX   200
#define PROGRESS_AFTER_MS 500 /* what is done sooner needs no bar */
/* After an interrupt: what starts a job may be answered yet, and the job cancelled. */
#define GRACE_MS          1000
#define CANCEL_SILENCE_MS 2000

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

/* --- interrupts --- */

/* Can be read once a signal has come, so that a wait sees it whenever it came; -1: not caught. */
static int interrupt_fd = -1;
static bool interrupt_seen;

static void on_interrupt(int number)
{
	static const uint64_t one = 1;
	int before = errno;

	(void)number;
	if (write(interrupt_fd, &one, sizeof(one)) < 0) {
		/* it can be read already */
	}
	errno = before;
}

int api_catch_interrupts(void)
{
	const struct sigaction cancel = {.sa_handler = on_interrupt};

	interrupt_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (interrupt_fd < 0)
		return complain("no descriptor to catch Ctrl-C with", strerror(errno));
	(void)sigaction(SIGINT, &cancel, NULL);
	(void)sigaction(SIGTERM, &cancel, NULL);
	return 0;
}

static bool interrupted_within(int ms)
{
	struct pollfd interrupt = {.fd = interrupt_fd, .events = POLLIN};

	return poll(&interrupt, 1, ms) > 0;
}

bool api_interrupted(void)
{
	return interrupt_seen || interrupted_within(0);
}

bool api_await(int fd, short events)
{
	struct pollfd fds[] = {{.fd = fd, .events = events},
			       {.fd = interrupt_fd, .events = POLLIN}};

	while (poll(fds, ARRAY_COUNT(fds), -1) < 0 && errno == EINTR)
		;
	return fds[1].revents == 0;
}

/* The next one is another one. */
static void interrupt_taken(void)
{
	uint64_t count;

	interrupt_seen |= read(interrupt_fd, &count, sizeof(count)) > 0;
}

/* --- calls --- */

static int stopped(const struct request *request, const char *method)
{
	char message[512];

	(void)snprintf(message, sizeof(message), "interrupted before lunrootd on %s answered%s",
		       request->socket_path,
		       strcmp(method, "GET") == 0 ? "" : ": it may still do what it was asked for");
	(void)complain(message, "lunctl jobs shows what it works on, and ends it");
	return EXIT_UNREACHABLE;
}

/* As api_call with any status; -ECANCELED if it was interrupted, which it has not said. */
static int call(const struct request *request, const char *method, const char *target, json_t *body,
		unsigned silence_ms, int *ret_status, json_t **ret_answer)
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
	http_client_stop_by(interrupt_fd, strcmp(method, "GET") == 0 ? 0 : GRACE_MS);
	switch (http_client_call(request->socket_path, method, target, text, silence_ms, ret_status,
				 &reply, &reply_bytes, &error, why)) {
	case HTTP_UNREACHABLE: return unreachable(request, error);
	case HTTP_STOPPED: return -ECANCELED;
	case HTTP_SILENT:
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

/* Takes the answer. */
static int answered(const struct request *request, int status, json_t *answer, json_t **ret_answer)
{
	int r;

	if (status >= 200 && status < 300) {
		*ret_answer = answer;
		return 0;
	}
	r = refused(request, json_object_get(answer, "error"));
	json_decref(answer);
	return r;
}

int api_call(const struct request *request, const char *method, const char *target, json_t *body,
	     json_t **ret_answer)
{
	json_t *answer = NULL;
	int status = 0, r = call(request, method, target, body, HTTP_SILENCE_MS, &status, &answer);

	if (r != 0)
		return r == -ECANCELED ? stopped(request, method) : r;
	return answered(request, status, answer, ret_answer);
}

int api_find(const struct request *request, const char *target, json_t **ret_answer)
{
	json_t *answer = NULL;
	int status = 0, r = call(request, "GET", target, NULL, HTTP_SILENCE_MS, &status, &answer);

	if (r != 0)
		return r == -ECANCELED ? stopped(request, "GET") : r;
	if (status == 404) {
		json_decref(answer);
		*ret_answer = NULL;
		return 0;
	}
	return answered(request, status, answer, ret_answer);
}

/* --- jobs --- */

static void job_progress(const json_t *job)
{
	char what[128];

	(void)snprintf(what, sizeof(what), "%s: %s", get_text(job, "kind"), get_text(job, "phase"));
	progress_show(what, get_number(job, "done_bytes"), get_number(job, "total_bytes"));
}

/* "/v1/jobs/ID" of the job in `answer`. */
static int job_target(const json_t *answer, char *target, size_t bytes)
{
	const char *id = get_text(json_object_get(answer, "job"), "id");

	if (id[0] == '\0' || strlen(id) > 40 || strspn(id, "0123456789abcdef-") != strlen(id))
		return complain("the daemon's answer names no job", NULL);
	(void)snprintf(target, bytes, "/v1/jobs/%s", id);
	return 0;
}

static int goes_on(const char *target, const char *why)
{
	const char *id = target + strlen("/v1/jobs/");
	char message[128], cure[128];

	(void)snprintf(message, sizeof(message), "job %s %s", id, why);
	(void)snprintf(cure, sizeof(cure), "lunctl jobs shows it, lunctl jobs --cancel %s ends it",
		       id);
	return complain(message, cure);
}

/* Who has pressed Ctrl-C waits no two minutes for a daemon that hangs. */
static int job_cancel(const struct request *request, const char *target, json_t **ret_job)
{
	json_t *answer = NULL;
	int status = 0, r;

	interrupt_taken();
	r = call(request, "DELETE", target, NULL, CANCEL_SILENCE_MS, &status, &answer);
	if (r == 0)
		return answered(request, status, answer, ret_job);
	if (r == -ECANCELED)
		r = EXIT_UNREACHABLE;
	(void)goes_on(target, "may still be carried out");
	return r;
}

/* The job as it is now, again and again until it has ended. */
static int job_poll(const struct request *request, const char *target, bool cancelled, json_t **job)
{
	unsigned pause_ms = JOB_POLL_MS_MIN, waited_ms = 0;

	while (strcmp(get_text(*job, "state"), "running") == 0) {
		json_t *now = NULL;
		int status = 0, r;

		if (waited_ms >= PROGRESS_AFTER_MS)
			job_progress(*job);
		if (interrupted_within((int)pause_ms)) {
			if (cancelled)
				return goes_on(target, "goes on, nobody waits for it");
			cancelled = true;
			r = job_cancel(request, target, &now);
		} else {
			r = call(request, "GET", target, NULL, HTTP_SILENCE_MS, &status, &now);
			if (r == -ECANCELED)
				continue;
			if (r == 0)
				r = answered(request, status, now, &now);
		}
		if (r != 0)
			return r;
		waited_ms += pause_ms;
		pause_ms = pause_ms * 2 < JOB_POLL_MS_MAX ? pause_ms * 2 : JOB_POLL_MS_MAX;
		json_decref(*job);
		*job = now;
	}
	progress_end();
	return 0;
}

int api_wait_job(const struct request *request, const json_t *answer, json_t **ret_result)
{
	json_t *job = json_incref(json_object_get(answer, "job"));
	char target[128];
	int r = job_target(answer, target, sizeof(target));

	if (r == 0)
		r = job_poll(request, target, false, &job);
	if (r == 0 && strcmp(get_text(job, "state"), "done") != 0)
		r = refused(request, json_object_get(job, "error"));
	if (r == 0)
		*ret_result = json_incref(json_object_get(job, "result"));
	json_decref(job);
	return r;
}

int api_cancel_job(const struct request *request, const json_t *answer, json_t **ret_job)
{
	json_t *job = NULL;
	char target[128];
	int r = job_target(answer, target, sizeof(target));

	if (r == 0)
		r = job_cancel(request, target, &job);
	if (r == 0)
		r = job_poll(request, target, true, &job);
	if (r == 0)
		*ret_job = json_incref(job);
	json_decref(job);
	return r;
}

int api_job(const struct request *request, const char *target, json_t *body, json_t **ret_result)
{
	json_t *answer = NULL;
	int r = api_catch_interrupts();

	if (r != 0)
		json_decref(body);
	else
		r = api_call(request, "POST", target, body, &answer);
	if (r == 0)
		r = api_wait_job(request, answer, ret_result);
	json_decref(answer);
	return r;
}

bool api_tells_person(const struct request *request, const json_t *answer, int *r)
{
	if (*r == 0 && request->json)
		*r = print_json(answer);
	return *r == 0 && !request->json;
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
