/*
 * lunctl's own seam: what a verb gets, what the API client gives it, and the exit codes.
 */
#ifndef LUNROOT_LUNCTL_LUNCTL_H
#define LUNROOT_LUNCTL_LUNCTL_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#define LUNCTL_OPTIONS_MAX    12
#define LUNCTL_OPERANDS_MAX   2
#define LUNCTL_SOCKET_DEFAULT "/run/lunroot/control.sock"

enum lunctl_exit {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,     /* the daemon said no, or the work failed */
	EXIT_USAGE = 2,       /* the command line makes no sense */
	EXIT_UNREACHABLE = 3, /* no daemon answers */
};

/* A parsed command line. values[i] belongs to the verb's options[i]: NULL when it was not given,
 * "" for one that takes no value. */
struct request {
	const char *socket_path;
	bool json;
	const char *operands[LUNCTL_OPERANDS_MAX];
	unsigned operand_count;
	const char *values[LUNCTL_OPTIONS_MAX];
};

struct verb_option {
	const char *name;  /* without "--" */
	const char *value; /* what it takes, for the help; NULL: nothing */
	const char *help;
};

struct verb {
	const char *name;
	const char *operands; /* for the help */
	unsigned operands_min, operands_max;
	const char *help;
	struct verb_option options[LUNCTL_OPTIONS_MAX];
	int (*run)(const struct request *request);
};

/* The value of the option at `index` of the verb's table is there. */
#define GIVEN(request, index) ((request)->values[index] != NULL)

/* --- api.c: what the daemon says --- */

/*
 * One call. 0 and *ret_answer (the caller's, an object) on a 2xx; otherwise the exit code,
 * after the error was printed. `body` may be NULL; it is released in any case.
 */
int api_call(const struct request *request, const char *method, const char *target, json_t *body,
	     json_t **ret_answer);

/* As api_call with GET, but a 404 is no error: 0 with *ret_answer NULL. */
int api_find(const struct request *request, const char *target, json_t **ret_answer);

/* Before the request that starts a job: from now on SIGINT and SIGTERM cancel it instead of
 * leaving it to the daemon alone. */
void api_catch_interrupts(void);
/* Waits for the job in `answer` ({"job": JOB}), shows its progress.
 * 0 and the job's result, or the exit code after the error was printed. */
int api_wait_job(const struct request *request, const json_t *answer, json_t **ret_result);

/* Members of an object, "" or 0 or false when they are not there or of another type. */
const char *get_text(const json_t *object, const char *name);
uint64_t get_number(const json_t *object, const char *name);
bool get_bool(const json_t *object, const char *name);

/* Prints JSON for programs; always EXIT_DONE unless standard output fails. */
int print_json(const json_t *value);

/* Standard error: what went wrong and what helps; `cure` may be NULL. Returns EXIT_REFUSED. */
int complain(const char *message, const char *cure);
int usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Standard error: "next: ...", unless the output is for a program. */
void say_next(const struct request *request, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* "/v1/nodes/NAME" and the like: a person's word in a path. False if it can't be a name. */
bool name_valid(const char *name);

/* --- the verbs --- */
extern const struct verb verb_import, verb_create, verb_clone;
extern const struct verb verb_ls, verb_show, verb_url, verb_stats;
extern const struct verb verb_rename, verb_rm;
extern const struct verb verb_initramfs;

/* What a name stands for; both images and nodes have names. */
enum object_kind { OBJECT_NODE, OBJECT_IMAGE };

/* Finds `name` among nodes and images; want_node and want_image narrow it down. 0, or the exit
 * code after the error was printed. *ret_object is the caller's. */
int find_object(const struct request *request, const char *name, bool want_node, bool want_image,
		bool secrets, enum object_kind *ret_kind, json_t **ret_object);

#endif
