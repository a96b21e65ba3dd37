/*
 * lunctl's own seam: what a verb gets, what the API client gives it, and the exit codes.
 */
#ifndef LUNROOT_LUNCTL_LUNCTL_H
#define LUNROOT_LUNCTL_LUNCTL_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#define LUNCTL_OPTIONS_MAX    12
#define LUNCTL_OPERANDS_MAX   3
#define LUNCTL_SOCKET_DEFAULT "/run/lunroot/control.sock"

enum lunctl_exit {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1,     /* the daemon said no, or the work failed */
	EXIT_USAGE = 2,       /* the command line makes no sense */
	EXIT_UNREACHABLE = 3, /* no daemon answers */
	EXIT_FINDINGS = 4,    /* check, doctor: something is not as it should be, or was not */
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
 * leaving it to the daemon alone. 0, or the exit code after the error was printed. */
int api_catch_interrupts(void);
/* One came, at any time. */
bool api_interrupted(void);
/* Until `fd` is ready for poll's `events`; false if a signal came, also one that came before. */
bool api_await(int fd, short events);
/* Waits for the job in `answer` ({"job": JOB}), shows its progress.
 * 0 and the job's result, or the exit code after the error was printed. */
int api_wait_job(const struct request *request, const json_t *answer, json_t **ret_result);
/* Cancels the job in `answer`, and waits for its end, so that what it held is free again. 0 and the
 * job as it ended, or the exit code after the error was printed. */
int api_cancel_job(const struct request *request, const json_t *answer, json_t **ret_job);
/* All of it: posts what starts a job, and waits. Takes the body. */
int api_job(const struct request *request, const char *target, json_t *body, json_t **ret_result);
/* What comes after a call that ended with *r: true if a person is to be told of the answer.
 * Otherwise *r is the exit code of the verb: it failed, or a program has got the answer. */
bool api_tells_person(const struct request *request, const json_t *answer, int *r);

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

/* A member of a request's body, if the text is there; EXIT_USAGE after saying what is wrong with
 * it. `what` is the option or verb that it came from. */
int put_string(json_t *body, const char *field, const char *text);
int put_size(json_t *body, const char *field, const char *what, const char *text);
int put_lun(json_t *body, const char *text);
/* Posts what makes an image, waits, and tells of it. Takes the body. */
int make_image(const struct request *request, const char *target, json_t *body, const char *next);
/* "removed" and "frees_bytes" of an answer. */
void print_removed(const json_t *answer);

/* "/v1/nodes/NAME" and the like: a person's word in a path. False if it can't be a name. */
bool name_valid(const char *name);

/* --- the verbs --- */
extern const struct verb verb_import, verb_create, verb_clone;
extern const struct verb verb_ls, verb_show, verb_url, verb_stats;
extern const struct verb verb_rename, verb_rm, verb_undo, verb_check, verb_jobs;
extern const struct verb verb_snapshot, verb_rollback, verb_reset;
extern const struct verb verb_resize, verb_flatten, verb_promote, verb_export;
extern const struct verb verb_initramfs;
extern const struct verb verb_assign, verb_auth;
extern const struct verb verb_adopt, verb_boots, verb_why, verb_doctor;

/* verbs_care.c: the trash, for ls and rm. */
int list_trash(const struct request *request);
/* The newest of that name in the trash; 0, or the exit code after the error was printed.
 * *ret_item is the caller's. */
int find_trash(const struct request *request, const char *name, bool want_node, bool want_image,
	       json_t **ret_item);

/* verbs_boot.c: where mkinitramfs is; false: nowhere. */
bool mkinitramfs_path(char *ret_path, size_t bytes);
/* verbs_pending.c, for ls. */
int list_pending(const struct request *request);

/* verbs_boots.c. The boot with this ID, with its events; 0 with NULL if it is no ID or none of
 * ours. *ret_boot is the caller's. */
int find_boot(const struct request *request, const char *id, json_t **ret_boot);
/* {"boots": [...]} of a node, or of a Pi by serial or MAC: heads, the newest first; there may be
 * none. 0, or the exit code after the error was printed. */
int find_boots(const struct request *request, const char *word, unsigned last, bool *ret_is_node,
	       json_t **ret_boots);
/* "boot ID, when, who". */
void print_boot_title(const json_t *boot);

/* What a name stands for; both images and nodes have names. */
enum object_kind { OBJECT_NODE, OBJECT_IMAGE };

/* Finds `name` among nodes and images; want_node and want_image narrow it down. 0, or the exit
 * code after the error was printed. *ret_object is the caller's. */
int find_object(const struct request *request, const char *name, bool want_node, bool want_image,
		bool secrets, enum object_kind *ret_kind, json_t **ret_object);

#endif
