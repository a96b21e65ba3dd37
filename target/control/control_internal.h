/*
 * What the files of this room share: the objects in memory, the catalogue, requests and jobs.
 * Everything here belongs to the control thread, but for what import.c says its worker touches.
 *
 *   control.c   start and end, the state directory's lock
 *   catalog.c   SQLite: the truth about what exists
 *   object.c    images and nodes in memory     files.c    moving files without covering any
 *   recover.c   start-up: finishes or takes back what was killed, rebuilds a lost catalogue
 *   image.c     operations on images        node.c   operations on nodes
 *   import.c    the worker that fills an image     probe.c  what an image holds
 *   job.c       long work and its progress  request.c  from HTTP's words to a checked call
 *   api.c       from a checked call to an answer   reply.c  objects as JSON
 *   http.c      evhttp on the unix socket
 *
 * How an operation survives being killed. The catalogue says what exists; a file counts only if
 * it stands there.
 *
 *   make     .new-FILE is made and synced | transaction | .new-FILE becomes FILE
 *   remove   FILE becomes .rm-FILE        | transaction | .rm-FILE is unlinked
 *   rename   (images)                     | transaction notes the old name | files move | note goes
 *
 * Whatever is left of the transaction when we die is the old state, whatever is right of it the
 * new one, and recover.c walks the rest of the way: a .new- file that the catalogue knows gets its
 * name, another goes; a .rm- file that the catalogue still knows gets its name back, another
 * goes. A file without such a prefix is never deleted at start-up: if the catalogue was lost, it
 * may be the only copy of somebody's disk. control_step() marks each place where a test kills us.
 */
#ifndef LUNROOT_CONTROL_INTERNAL_H
#define LUNROOT_CONTROL_INTERNAL_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "control/control.h"
#include "session/server.h"
#include "store/store.h"

#define NAME_BYTES       (LIMIT_OBJECT_NAME_BYTES + 1)
#define PATH_BYTES       (LIMIT_PATH_BYTES + 128) /* a directory of ours and a file in it */
#define SECRET_CHARS     24                       /* of 62: 142 bits */
#define SERIAL_BYTES     33
#define MAC_BYTES        18
#define CHAP_USER_BYTES  (LIMIT_OBJECT_NAME_BYTES + 16)
#define CONTENT_BYTES    64 /* as in struct store_image_info */
#define RUNNING_JOBS_MAX 4  /* each has a thread, and they share one disk */

#define IQN_PREFIX       "iqn.2026-11.local.lunroot:"
#define INITIATOR_PREFIX IQN_PREFIX "initiator:"

#define PREFIX_NEW ".new-"
#define PREFIX_RM  ".rm-"

/* --- errors, as the API tells them --- */

struct api_error {
	int status;
	const char *code; /* static */
	char message[STORE_ERROR_BYTES + 128];
	char cure[256];
};

/* Fills in; returns -errno that fits the status, so that callers can return it. `cure` is static
 * text or made by the caller. */
int api_error_set(struct api_error *err, int status, const char *code, const char *cure,
		  const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The world failed with -errno while `what` was done. */
int api_error_world(struct api_error *err, int r, const char *what);

/* --- objects --- */

struct image {
	store_uuid_t uuid;
	char name[NAME_BYTES];
	char old_name[NAME_BYTES]; /* a rename is under way in the files */
	uint64_t size_bytes;
	char content[CONTENT_BYTES];
	int64_t created;
};

struct layer {
	store_uuid_t uuid;
	bool sealed;
};

struct lun {
	uint8_t number;
	store_uuid_t
		uuid; /* its first layer's, so that a rebuilt catalogue gives the same identity */
	uint64_t size_bytes;
	unsigned layer_count;
	struct layer layers[LIMIT_CHAIN_LAYERS]; /* lowest first */
};

struct credentials {
	char user[CHAP_USER_BYTES], secret[SECRET_CHARS + 1];
	char operator_user[CHAP_USER_BYTES], operator_secret[SECRET_CHARS + 1];
	char mutual_user[CHAP_USER_BYTES], mutual_secret[SECRET_CHARS + 1];
};

struct node {
	store_uuid_t uuid; /* LUN 0's, for the same reason */
	char name[NAME_BYTES];
	store_uuid_t image_uuid;
	char serial[SERIAL_BYTES], mac[MAC_BYTES], hostname[NAME_BYTES];
	struct credentials cred;
	bool auth, shared, read_only, removable, scratch;
	int64_t created;
	unsigned lun_count;
	struct lun *luns; /* ours */

	/* Not in the catalogue. */
	bool served; /* the server has it */
	bool busy;   /* an operation waits for the server */
	bool damaged;
	char message[STORE_ERROR_BYTES]; /* why */
};

void node_free(struct node *node);

/* --- the catalogue; each function 0 or -errno with a sentence --- */

struct catalog;

/* `ret_fresh`: there was none; the caller fills it and commits within the transaction that this
 * leaves open, so that a half-filled one is never seen. */
int catalog_open(const char *path, struct catalog **ret_catalog, bool *ret_fresh,
		 struct store_error *err);
void catalog_close(struct catalog *catalog);
int catalog_begin(struct catalog *catalog, struct store_error *err);
/* Ends the transaction either way: rolled back unless 0 is returned. */
int catalog_commit(struct catalog *catalog, struct store_error *err);
void catalog_rollback(struct catalog *catalog);
/* Within a transaction, or each one by itself. */
int catalog_put_image(struct catalog *catalog, const struct image *image, struct store_error *err);
int catalog_put_node(struct catalog *catalog, const struct node *node, struct store_error *err);
int catalog_rename_image(struct catalog *catalog, const store_uuid_t *uuid, const char *name,
			 const char *old_name, struct store_error *err);
/* Name, hostname and credentials. */
int catalog_update_node(struct catalog *catalog, const struct node *node, struct store_error *err);
int catalog_delete_image(struct catalog *catalog, const store_uuid_t *uuid,
			 struct store_error *err);
int catalog_delete_node(struct catalog *catalog, const store_uuid_t *uuid, struct store_error *err);
/* Calls back with heap objects that the callee takes. */
int catalog_load(struct catalog *catalog, int (*on_image)(void *arg, struct image *image),
		 int (*on_node)(void *arg, struct node *node), void *arg, struct store_error *err);

/* --- a request, checked --- */

enum api_op {
	API_VERSION,
	API_IMAGES,
	API_IMAGE,
	API_IMAGE_MAKE,
	API_IMAGE_RENAME,
	API_IMAGE_DELETE,
	API_NODES,
	API_NODE,
	API_NODE_URL,
	API_NODE_CLONE,
	API_NODE_RENAME,
	API_NODE_DELETE,
	API_STATS,
	API_JOBS,
	API_JOB,
	API_JOB_CANCEL,
};

enum api_method { API_GET, API_POST, API_DELETE, API_OTHER_METHOD };

struct api_call {
	enum api_op op;
	char name[NAME_BYTES]; /* in the path, or of what is made */
	char new_name[NAME_BYTES];
	char base[NAME_BYTES];
	char path[LIMIT_PATH_BYTES];
	char serial[SERIAL_BYTES], mac[MAC_BYTES], hostname[NAME_BYTES];
	uint64_t size_bytes, data_bytes, job_id;
	uint8_t lun;
	bool ext4, force, auth, shared, read_only, removable, scratch, dry_run, secrets;
};

/*
 * Pure: checks everything that can be checked without looking at the state. `path` is as in the
 * request line, without the query; `query` may be NULL. 0, or -errno and ret_err.
 */
int request_parse(enum api_method method, const char *path, const char *query, const void *body,
		  size_t body_bytes, struct api_call *ret_call, struct api_error *ret_err);
/* A DNS label in lower case. */
bool name_valid(const char *name);

/*
 * Who asked. `reply` is called once for each request, perhaps later, unless the control goes
 * away before: then `drop` is. Both take the body's reference and the request.
 */
struct api_request {
	void (*reply)(struct api_request *request, int status, json_t *body);
	void (*drop)(struct api_request *request);
};

/* Control thread. */
void api_handle(struct control *control, const struct api_call *call, struct api_request *request);
void api_reply_error(struct api_request *request, const struct api_error *err);
/* Drops those that wait. */
void operations_drop(struct control *control);

/* --- jobs --- */

enum job_kind { JOB_IMPORT, JOB_CREATE };
enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED };
enum job_phase { PHASE_READING, PHASE_FORMATTING, PHASE_SEALING };

struct job {
	struct list node; /* of control.jobs */
	struct control *control;
	uint64_t id;
	enum job_kind kind;
	enum job_state state;
	/* What to do: constant while the worker runs. */
	char name[NAME_BYTES];
	char path[LIMIT_PATH_BYTES]; /* import: from where */
	char file[PATH_BYTES];       /* .new-NAME.img */
	uint64_t size_bytes;         /* create */
	bool ext4, force;
	/* Told by the worker while it runs. */
	atomic_ullong done_bytes, total_bytes;
	atomic_int phase;
	atomic_bool cancelled;
	/* The worker's until the message is posted. */
	int result;
	struct api_error error;
	struct image image;
	struct mailbox_msg finished;
	unsigned long thread; /* pthread_t */
	json_t *result_json;
};

int job_start(struct control *control, const struct api_call *call, struct job **ret_job,
	      struct api_error *err);
struct job *job_find(struct control *control, uint64_t id);
/* The name of an image that a running job makes. */
bool job_makes(struct control *control, const char *name);
void jobs_stop(struct control *control);

/* The worker: fills job->file, checks and seals it. Any thread; touches only `job`. */
void import_run(struct job *job);

/*
 * What the `bytes` long file holds, in a few words; `file_name` is for messages. Fails with
 * -EMEDIUMTYPE and an error if it is no disk or cut off; `force` takes what is not known.
 */
int probe_disk(int fd, uint64_t bytes, const char *file_name, bool force,
	       char ret_content[CONTENT_BYTES], struct api_error *err);
/* Says what a file is that is no raw disk but looks like something else ("a zip archive"); NULL
 * if nothing speaks against it. */
const char *probe_not_a_disk(const void *head, size_t bytes);

/* --- the control itself --- */

struct http;

struct control {
	struct server *server;
	struct mailbox *mailbox;
	struct event_base *base;
	char state_dir[LIMIT_PATH_BYTES], run_dir[LIMIT_PATH_BYTES];
	char portals[LIMIT_PORTALS][LIMIT_ADDRESS_TEXT_BYTES];
	unsigned portal_count;
	bool write_through;
	int lock_fd;
	struct catalog *catalog;
	struct http *http;
	/* Sorted by name. */
	struct image *images[LIMIT_IMAGES];
	unsigned image_count;
	struct node *nodes[LIMIT_NODES];
	unsigned node_count;
	struct list jobs; /* oldest first */
	unsigned job_count;
	uint64_t last_job_id;
	struct list operations; /* that wait for the server */
};

/* A test's place to kill us at; does nothing otherwise. */
extern void (*control_step_hook)(const char *step);
static inline void control_step(const char *step)
{
	if (control_step_hook)
		control_step_hook(step);
}

int recover(struct control *control, bool fresh, struct store_error *err);

struct image *image_find(struct control *control, const char *name);
struct image *image_find_uuid(struct control *control, const store_uuid_t *uuid);
/* Takes the object into the sorted list; -ENOSPC if there are too many (then it is not taken). */
int image_insert(struct control *control, struct image *image);
void image_forget(struct control *control, struct image *image); /* and frees it */
void image_reinsert(struct control *control, struct image *image, const char *name);
struct node *node_find(struct control *control, const char *name);
int node_insert(struct control *control, struct node *node);
void node_forget(struct control *control, struct node *node); /* and frees it */
void node_take_out(struct control *control, const struct node *node);
void objects_free(struct control *control);

/* Paths; `prefix` is "", PREFIX_NEW or PREFIX_RM. */
void image_path(const struct control *control, const char *prefix, const char *name,
		char ret_path[PATH_BYTES]);
void layer_path(const struct control *control, const char *prefix, const store_uuid_t *uuid,
		char ret_path[PATH_BYTES]);
uint64_t file_used_bytes(const char *path);
/* Renames, but never over another file: -EEXIST. */
int file_move(const char *from, const char *to);
void file_unlink(const char *path);
int directory_sync(const char *path);

/* Makes the sealed .new- files and their image one. */
int image_adopt(struct control *control, const struct image *image, struct api_error *err);
int image_rename(struct control *control, struct image *image, const char *name,
		 struct api_error *err);
/* Fills ret_removed (names and paths) and ret_bytes; removes unless `dry_run`. */
int image_delete(struct control *control, struct image *image, bool dry_run, json_t *ret_removed,
		 uint64_t *ret_bytes, struct api_error *err);

/* Makes the node with its layers in files and catalogue; it is not served yet. */
int node_make(struct control *control, const struct api_call *call, struct node **ret_node,
	      struct api_error *err);
/* Not served. */
int node_rename(struct control *control, struct node *node, const char *name,
		struct api_error *err);
void node_removal(struct control *control, const struct node *node, json_t *removed,
		  uint64_t *ret_bytes);
/* Not served. On success the node is freed. */
int node_delete(struct control *control, struct node *node, struct api_error *err);
/* Opens the disks and hands them to the server; cb may be NULL. On failure nothing is called, the
 * node is damaged, and its message says why. */
int node_serve(struct control *control, struct node *node, server_cb cb, void *arg);
/* -EIO without random numbers. */
int node_new_credentials(struct node *node);

/* --- JSON --- */

json_t *reply_version(struct control *control);
json_t *reply_image(struct control *control, const struct image *image);
json_t *reply_images(struct control *control);
json_t *reply_node(struct control *control, const struct node *node,
		   const struct server_stats *stats, bool secrets);
json_t *reply_nodes(struct control *control, const struct server_stats *stats);
json_t *reply_stats(struct control *control, const struct server_stats *stats);
json_t *reply_job(const struct job *job);
json_t *reply_error(const struct api_error *err);
int reply_url(struct control *control, const struct node *node, uint8_t lun, json_t **ret_body,
	      struct api_error *err);

/* --- HTTP --- */

int http_new(struct control *control, const char *socket_path, struct http **ret_http,
	     struct store_error *err);
void http_free(struct http *http);

#endif
