/*
 * What the files of this room share: the objects in memory, the catalogue, requests and jobs.
 * Everything here belongs to the control thread, but for what import.c says its worker touches.
 *
 *   control.c   start and end, the state directory's lock
 *   catalog.c   SQLite: the truth about what exists
 *   object.c    images and nodes in memory     files.c    moving files without covering any
 *   recover.c   start-up: finishes or takes back what was killed
 *   rebuild.c   a lost catalogue from images and layers
 *   image.c     operations on images        node.c   operations on nodes
 *   change.c    a node's layers change while it runs      life.c  snapshots and what follows
 *   merge.c     layers become one, in the background
 *   import.c    the worker that fills an image     probe.c  what an image holds
 *   work.c      the workers that merge and copy layers    job.c   long work and its progress
 *   request.c   from HTTP's words to a checked call
 *   api.c       from a checked call to an answer   reply.c  objects as JSON
 *   space.c     the reserve                 health.c   what needs a person
 *   gone.c      files that are gone while nodes are served from them
 *   trash.c     what was removed, for a time        check.c    whether files are whole
 *   data.c      what disks hold, as bytes      boot_cred.c  credentials of boots
 *   http.c      evhttp on the unix socket
 *   boots.c     what the nodes' boots came to        boot_log.c  one boot's events, packed
 *   boots_write.c, boots_db.c  the thread that keeps them on disk
 *   boot_request.c  checks what is sent of them     boots_reply.c  them as JSON
 *   leases.c    addresses given out by lunbootd
 *
 * How an operation survives being killed. The catalogue says what exists; a file counts only if
 * it stands there.
 *
 *   make     .new-FILE is made and synced  | transaction | .new-FILE becomes FILE
 *   remove   FILE becomes .rm-FILE, synced | transaction | .rm-FILE is unlinked
 *   rename   (images)                      | transaction notes the old name | files move, synced
 *            | note goes
 *   seal                                   | transaction | the file is sealed
 *
 *   trash    FILE becomes .trash-FILE, synced | transaction |                    (trash.c)
 *   undo                                      | transaction | .trash-FILE becomes FILE
 *
 * Whatever is left of the transaction when we die is the old state, whatever is right of it the
 * new one, and recover.c walks the rest of the way: a .new- file that the catalogue knows gets its
 * name, another goes; a .rm- file that the catalogue still knows gets its name back, another
 * goes; a layer that the catalogue calls sealed is sealed; a .trash- file gets the name that the
 * catalogue thinks it has, and stays if there is none. "Synced" is the folder: what the catalogue
 * counts on must not be undone by a power loss, while of what comes after the last transaction any
 * part may be. A file without a prefix is never deleted at start-up: if the catalogue was lost, it
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
#include "base/mutant.h"
#include "control/control.h"
#include "session/server.h"
#include "store/store.h"

#define NAME_BYTES       (LIMIT_OBJECT_NAME_BYTES + 1)
#define PATH_BYTES       (LIMIT_PATH_BYTES + 128) /* a directory of ours and a file in it */
#define SECRET_CHARS     24                       /* of 62: 142 bits */
#define SERIAL_BYTES     33
#define MAC_BYTES        18
#define ADDRESS_BYTES    16 /* of IPv4 */
#define CHAP_USER_BYTES  (LIMIT_OBJECT_NAME_BYTES + 16)
#define BOOT_ID_CHARS    (2 * LIMIT_BOOT_ID_BYTES)
#define CONTENT_BYTES    64 /* as in struct store_image_info */
#define RUNNING_JOBS_MAX 4  /* each has a thread, and they share one disk */

#define IQN_PREFIX       "iqn.2026-11.local.lunroot:"
#define INITIATOR_PREFIX IQN_PREFIX "initiator:"

#define PREFIX_NEW   ".new-"
#define PREFIX_RM    ".rm-"
#define PREFIX_TRASH ".trash-"

#define IMAGE_FILE_BYTES (NAME_BYTES + STORE_UUID_TEXT_BYTES) /* NAME, in the trash NAME.UUID */

/* --- errors, as the API tells them --- */

struct api_error {
	int status;
	const char *code; /* static */
	char message[STORE_ERROR_BYTES + 128];
	char cure[384];
};

/* Fills in; returns -errno that fits the status, so that callers can return it. `cure` is static
 * text or made by the caller. */
int api_error_set(struct api_error *err, int status, const char *code, const char *cure,
		  const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The world failed with -errno while `what` was done. */
int api_error_world(struct api_error *err, int r, const char *what);
/* The same with a sentence of the store's about its files, which may not be what they were. */
int api_error_store(struct api_error *err, int r, const char *sentence);

/* --- objects --- */

struct image {
	store_uuid_t uuid;
	char name[NAME_BYTES];
	char old_name[NAME_BYTES]; /* a rename is under way in the files */
	uint64_t size_bytes;
	char content[CONTENT_BYTES];
	int64_t created;
	int64_t removed; /* when it went to the trash; 0: it is there */
};

/* Which file it is, whatever stands at its path; of zeros: not known. */
struct file_id {
	uint64_t device, inode;
};

struct layer {
	store_uuid_t uuid;
	bool sealed;
	char snapshot[NAME_BYTES]; /* its name; "": it is only history, or the top */
	int64_t created;           /* when it was sealed; the top: when it was made */
	struct file_id id;         /* not in the catalogue: what was opened */
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

/* Credentials of one boot (boot_cred.c); the user names are the node's. */
struct boot_cred {
	char id[BOOT_ID_CHARS + 1];
	char secret[SECRET_CHARS + 1], mutual_secret[SECRET_CHARS + 1];
	int64_t issued;
	int64_t used;      /* since when they are in use; 0: they have not been used */
	uint64_t until_ms; /* then they go, unless used; CLOCK_BOOTTIME, not in the catalogue */
};

struct node {
	store_uuid_t uuid; /* LUN 0's, for the same reason */
	char name[NAME_BYTES];
	store_uuid_t image_uuid;
	char serial[SERIAL_BYTES], mac[MAC_BYTES], hostname[NAME_BYTES];
	char address[ADDRESS_BYTES]; /* what lunbootd gives it; "": one of its pool */
	struct credentials cred;
	bool auth, shared, read_only, removable, scratch;
	int64_t created;
	int64_t removed; /* when it went to the trash; 0: it is there */
	unsigned lun_count;
	struct lun *luns;                         /* ours */
	struct boot_cred boots[TARGET_BOOTS_MAX]; /* as they were issued; one in use is the first */
	unsigned boot_count;

	/* Not in the catalogue. */
	bool served;     /* the server has it */
	bool busy;       /* an operation waits for the server */
	bool merge_busy; /* and it is a merge that takes its place: others wait for it */
	bool damaged;
	char message[STORE_ERROR_BYTES]; /* why */
	struct file_id image_id;         /* what was opened */
	bool gone;                       /* it is served from files that are not there any more */
	const struct job *job;           /* reads its sealed layers: they must stay */
	bool boots_unsaved;              /* the catalogue has others: it could not be written */
	bool merge_failed;               /* tried again after a while, */
	bool merge_cancelled;            /* or when the node changes */
};

void node_free(struct node *node);

/*
 * --- the catalogue; each function 0 or -errno with a sentence ---
 *
 * -EUCLEAN: nobody knows whether it happened. Then files stay under the names they have, and the
 * next start walks the rest of the way.
 */

struct catalog;

/* One of an older version is brought to ours first, one of a newer is refused. `ret_fresh`: there
 * was none; the caller fills it and commits within the transaction that this leaves open, so that a
 * half-filled one is never seen. */
int catalog_open(const char *path, struct catalog **ret_catalog, bool *ret_fresh,
		 struct store_error *err);
/* Keeps room for changes on a full disk, if the file system lets us. */
void catalog_reserve(struct catalog *catalog);
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
/* Name, hostname, the Pi and the node's own credentials. */
int catalog_update_node(struct catalog *catalog, const struct node *node, struct store_error *err);
/* The node's image, LUNs and layers, as they are now. */
int catalog_update_chains(struct catalog *catalog, const struct node *node,
			  struct store_error *err);
/* The credentials of its boots; several statements, so within a transaction. */
int catalog_put_boots(struct catalog *catalog, const struct node *node, struct store_error *err);
int catalog_delete_image(struct catalog *catalog, const store_uuid_t *uuid,
			 struct store_error *err);
int catalog_delete_node(struct catalog *catalog, const store_uuid_t *uuid, struct store_error *err);
/* Into the trash: the name is free. Out of it: with the name (of a node: and what else
 * catalog_update_node writes) that the object has now. Two statements each, so within a
 * transaction. */
int catalog_trash_image(struct catalog *catalog, const struct image *image,
			struct store_error *err);
int catalog_trash_node(struct catalog *catalog, const struct node *node, struct store_error *err);
int catalog_undo_image(struct catalog *catalog, const struct image *image, struct store_error *err);
int catalog_undo_node(struct catalog *catalog, const struct node *node, struct store_error *err);
/* Addresses that lunbootd has given out. */
struct lease {
	char mac[MAC_BYTES], address[LIMIT_ADDRESS_TEXT_BYTES], hostname[NAME_BYTES];
	int64_t until; /* seconds since 1970 */
};
/* In place of the MAC's former one, and of one over its time (`now`) that has the address; -EEXIST
 * while another MAC has it. */
int catalog_put_lease(struct catalog *catalog, const struct lease *lease, int64_t now,
		      struct store_error *err);
/* -ENOENT: there is none. */
int catalog_delete_lease(struct catalog *catalog, const char *mac, struct store_error *err);
/* By address as text. */
int catalog_load_leases(struct catalog *catalog, int (*on_lease)(void *arg, const struct lease *),
			void *arg, struct store_error *err);
/* Calls back with heap objects that the callee takes; those in the trash have `removed` set. */
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
	API_LUN,
	API_LUN_DATA,
	API_IMAGE_DATA,
	API_NODE_BOOT,
	API_NODE_IDENTITY,
	API_NODE_ROTATE,
	API_NODE_CLONE,
	API_NODE_RENAME,
	API_NODE_DELETE,
	API_SNAPSHOT_MAKE,
	API_SNAPSHOT_DELETE,
	API_NODE_ROLLBACK,
	API_NODE_RESET,
	API_NODE_RESIZE,
	API_NODE_FLATTEN,
	API_NODE_PROMOTE,
	API_NODE_EXPORT,
	API_TRASH,
	API_TRASH_DELETE,
	API_TRASH_UNDO,
	API_CHECK,
	API_STATS,
	API_HEALTH,
	API_JOBS,
	API_JOB,
	API_JOB_CANCEL,
	API_BOOTS,
	API_BOOTS_ADD,
	API_BOOT,
	API_BOOT_PUT,
	API_BOOT_EVENTS,
	API_PENDING,
	API_PENDING_DELETE,
	API_LEASES,
	API_LEASE_PUT,
	API_LEASE_DELETE,
	API_BOOTD,
	API_BOOTD_PUT,
};

enum api_method { API_GET, API_POST, API_DELETE, API_OTHER_METHOD, API_PUT };

struct api_call {
	enum api_op op;
	char name[NAME_BYTES];     /* in the path, or of what is made; of trash: its UUID */
	char new_name[NAME_BYTES]; /* renamed to; the image that promote makes */
	char snapshot[NAME_BYTES];
	char base[NAME_BYTES];
	char path[LIMIT_PATH_BYTES];
	char serial[SERIAL_BYTES], mac[MAC_BYTES], hostname[NAME_BYTES], address[ADDRESS_BYTES];
	char boot[BOOT_ID_CHARS + 1];
	uint64_t size_bytes, data_bytes, job_id, offset;
	uint32_t length;
	uint8_t lun;
	bool serial_given, mac_given, address_given; /* empty ones, too */
	char key[SERIAL_BYTES]; /* a boot's ID, a Pi's serial or MAC, a lease's MAC */
	unsigned last;          /* how many of the newest; 0: not said */
	json_t *json;           /* a body that is a list, checked; see request_done */
	bool ext4, force, auth, shared, read_only, removable, scratch, dry_run, now, secrets,
		repair;
};

/*
 * Pure: checks everything that can be checked without looking at the state. `path` is as in the
 * request line, without the query; `query` may be NULL. 0, or -errno and ret_err.
 */
int request_parse(enum api_method method, const char *path, const char *query, const void *body,
		  size_t body_bytes, struct api_call *ret_call, struct api_error *ret_err);
/* After the call was handled, if request_parse gave 0: copies of it have no `json` any more. */
void request_done(struct api_call *call);
/* A DNS label in lower case. */
bool name_valid(const char *name);
/* 16 hexadecimal digits in lower case. */
bool boot_id_valid(const char *id);

/*
 * Who asked. `reply` or `reply_data` is called once for each request, perhaps later, unless the
 * control goes away before: then `drop` is. They take the body's reference and the request.
 */
struct api_request {
	void (*reply)(struct api_request *request, int status, json_t *body);
	/* In its place, with status 200: `data` must live until taken(arg), which comes once. */
	void (*reply_data)(struct api_request *request, const void *data, size_t bytes,
			   void (*taken)(void *arg), void *arg);
	void (*drop)(struct api_request *request);
};

/* Control thread. */
void api_handle(struct control *control, const struct api_call *call, struct api_request *request);
void api_reply_error(struct api_request *request, const struct api_error *err);
/* Drops those that wait. */
void operations_drop(struct control *control);

/* A call on its way through the server's callbacks. */
struct operation {
	struct list node; /* of control.operations */
	struct control *control;
	struct api_request *request;
	struct api_call call;
	struct node *target;   /* busy for us, or NULL */
	struct change *change; /* or NULL */
	bool waits;            /* until a merge on its node has taken its place */
	json_t *removed;       /* what the answer says of it, or NULL */
	uint64_t frees_bytes;
	struct api_error error;
	bool created;
};

/* A merge has taken its place: who has waited for the node goes on. */
void operations_go_on(struct control *control, const struct node *node);
/* Answers, and that was it. */
void operation_end(struct operation *op, int status, json_t *body);
void operation_fail(struct operation *op);
/* As server_stats wants it: answers with the node, and with what was removed. */
void operation_show_node(void *op, const struct server_stats *stats);
/* 0, or an error that names who is logged in. */
int operation_check_unused(struct operation *op, const struct server_stats *stats,
			   const char *cure);
/* 0, or an error that names the job which reads the node's layers. */
int operation_check_read(struct operation *op);
/* The calls of a disk's life, its node claimed. */
void life_handle(struct operation *op);

/* --- data.c --- */

/* GET .../data. */
void data_handle(struct control *control, const struct api_call *call, struct api_request *request);
/* Drops those that wait or are under way. */
void data_drop(struct control *control);
/* The LUN that the call names, of a node that is served; or NULL and an error. */
const struct lun *lun_find(struct control *control, const struct api_call *call,
			   const struct node **ret_node, struct api_error *err);
int node_check_served(const struct node *node, struct api_error *err);
void operation_show_lun(void *op, int res, const struct server_unit_state *state);

/* --- boot_cred.c --- */

int boot_cred_start(struct control *control);
void boot_cred_stop(struct control *control);
/* POST /v1/nodes/NAME/boots, of a node that there is. */
void boot_cred_handle(struct operation *op);
/* Copies the node's boots into what the server is to have of it. 0 or -ENOMEM. */
int boot_cred_conf(const struct node *node, struct target_conf *conf);
/* The node goes to the trash. */
void boot_cred_drop_unused(struct node *node);
/* At start-up: their time begins. */
void boot_cred_renew(struct node *node);
/* What is over its time at `now_ms` (CLOCK_BOOTTIME) goes, and what could not be saved is. */
void boot_cred_look(struct control *control, uint64_t now_ms);
json_t *reply_boot_credentials(const struct node *node);
void boot_id_bytes(const char *id, uint8_t ret_bytes[LIMIT_BOOT_ID_BYTES]);

/* --- change.c: layers change, with the node held still meanwhile --- */

struct change {
	struct control *control;
	struct node *target; /* busy until done */
	/* As they shall be; `luns` has as many as the node. */
	struct lun *luns;
	store_uuid_t image_uuid;
	bool unused;                   /* only if nobody is logged in */
	bool taken;                    /* the catalogue has it; `luns` are the old ones now */
	struct store_preload *preload; /* not ours, or NULL: of the only layer that is new */
	uint64_t hold_begin_us, held_us;
	struct api_error error;
	void (*done)(void *arg, int res);
	void *arg;
};

/* Nothing changes yet; NULL: no memory. */
struct change *change_new(struct control *control, struct node *node);
void change_free(struct change *change);
/* Seals LUN number `i` of the list under a name ("": none) below a new top; -EBUSY: too many. */
int change_push(struct change *change, unsigned i, const char *snapshot, uint64_t size_bytes);
/* The lowest `keep` layers stay, and get a new top. */
void change_cut(struct change *change, unsigned i, unsigned keep, uint64_t size_bytes);
/* The layers from `first` to `last` become one, which lies there as a .new- file. */
void change_merge(struct change *change, unsigned i, unsigned first, unsigned last,
		  const store_uuid_t *merged);
/* What goes: paths and what they take. */
void change_removal(const struct change *change, json_t *removed, uint64_t *ret_bytes);
/*
 * Does it; done(arg, res) comes once, perhaps before this returns. When res is not 0 the error is
 * set, and the node goes on with its old layers (unless it says that it is damaged); files that
 * change_merge named are gone.
 */
void change_run(struct change *change, void (*done)(void *arg, int res), void *arg);

/* The place of the layer that carries the name, or -1. */
int lun_find_snapshot(const struct lun *lun, const char *name);

/* --- jobs --- */

struct check;

enum job_kind {
	JOB_IMPORT,
	JOB_CREATE,
	JOB_PROMOTE,
	JOB_FLATTEN,
	JOB_EXPORT,
	JOB_MERGE,
	JOB_CHECK
};
enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED };
enum job_phase {
	PHASE_READING,
	PHASE_FORMATTING,
	PHASE_SEALING,
	PHASE_MERGING,
	PHASE_WAITING,
	PHASE_COPYING,
	PHASE_CHECKING,
};

/* Sealed layers that a job reads, lowest first, and the paths of their files. */
struct job_chain {
	struct store_chain store;
	char image[PATH_BYTES], layers[LIMIT_CHAIN_LAYERS][PATH_BYTES];
	store_uuid_t uuids[LIMIT_CHAIN_LAYERS];
};

struct job {
	struct list node; /* of control.jobs */
	struct control *control;
	uint64_t id;
	enum job_kind kind;
	enum job_state state;
	/* What to do: constant while the worker runs. */
	char name[NAME_BYTES];       /* of the image, or of the node */
	char path[LIMIT_PATH_BYTES]; /* import: from where; export: the socket */
	char file[PATH_BYTES];       /* .new-NAME.img, .new-UUID.cow */
	uint64_t size_bytes;         /* create, promote, export */
	bool ext4, force;
	/* Jobs that read a node's layers. */
	char node_name[NAME_BYTES];
	store_uuid_t node_uuid, lun_uuid, layer_uuid; /* the layer that a merge makes */
	struct store_preload *preload;                /* of that one; NULL: it is read later */
	struct job_chain *chain;                      /* ours */
	unsigned first;                               /* merge: of the chain */
	bool with_image;
	uint64_t bytes_per_s;
	int listen_fd; /* export */
	/* Told by the worker while it runs. */
	atomic_ullong done_bytes, total_bytes;
	atomic_int phase;
	atomic_bool cancelled;
	atomic_bool wants_space; /* cancelled because of the reserve */
	/* The worker's until the message is posted. */
	int result;
	struct api_error error;
	struct image image;
	struct mailbox_msg finished;
	unsigned long thread; /* pthread_t */
	bool joined;
	/* The worker is done; its layer waits until it can take its place. */
	bool merged;
	struct change *change; /* it is taking its place */
	struct check *check;   /* ours */
	json_t *result_json;
};

int job_start(struct control *control, const struct api_call *call, struct job **ret_job,
	      struct api_error *err);
/* 0, or an error if no job may be started now. */
int job_check_room(struct control *control, struct api_error *err);
/*
 * Flatten, promote, export, merge: reads the lowest `layer_count` layers of a LUN, from `first` on
 * and with the image if they are to be merged. The node must not go away meanwhile (node.job),
 * unless it is a merge.
 */
struct job_wish {
	enum job_kind kind;
	const char *name; /* promote: of the image */
	unsigned layer_count, first;
	bool with_image;
};
int job_start_on_node(struct control *control, struct node *node, const struct lun *lun,
		      const struct job_wish *wish, struct job **ret_job, struct api_error *err);
/* It has ended: what it made is real, or job->error is set. */
void job_end(struct job *job, int res);
/* Takes the check; its worker is started for each turn. */
int job_new_check(struct control *control, const char *name, struct check *check,
		  struct job **ret_job, struct api_error *err);
int job_thread_start(struct job *job);
struct job *job_find(struct control *control, uint64_t id);
/* The name of an image that a running job makes. */
bool job_makes(struct control *control, const char *name);
void jobs_cancel(struct control *control);
void jobs_stop(struct control *control);
/* Less than the reserve is free: those that fill the state directory end. */
void jobs_want_space(struct control *control);
/* job->error, by whom and why `what` was cancelled. */
void job_tell_cancelled(struct job *job, const char *what);

/* The workers. Any thread; they touch only `job`, and of its control what never changes. import_run
 * fills job->file, checks and seals it. */
void import_run(struct job *job);
int promote_fill(struct job *job, int fd); /* import_run's, for an image made from layers */
void merge_run(struct job *job);
void export_run(struct job *job);
/* Control thread: makes the socket that export_run serves, job->path. */
int export_listen(struct job *job, struct api_error *err);
/* At start-up: sockets that were left behind. */
void export_sweep(const char *run_dir);

/* --- check.c --- */

/* Its first turn begins. */
int check_start(struct control *control, const struct api_call *call, struct job **ret_job,
		struct api_error *err);
void check_run(struct job *job); /* the worker */
void check_settle(struct job *job);
/* A merge has taken its place. */
void check_go_on(struct control *control);
void check_free(struct check *check);

/* --- merge.c --- */

/* Starts what can be started, and lets merged layers take their place where that is possible now:
 * to be called whenever a node becomes free or its layers have changed. */
void merge_kick(struct control *control);
void merge_init(struct control *control);
void merge_done(struct control *control);
/* The worker of a merge or of flatten is done. */
void merge_settle(struct job *job);

/*
 * What the `bytes` long file holds, in a few words; `file_name` is for messages. Fails with
 * -EMEDIUMTYPE and an error if it is no disk or cut off; `force` takes what is not known.
 */
int probe_disk(int fd, uint64_t bytes, const char *file_name, bool force,
	       char ret_content[CONTENT_BYTES], struct api_error *err);
/* Says what a file is that is no raw disk but looks like something else ("a zip archive"); NULL
 * if nothing speaks against it. */
const char *probe_not_a_disk(const void *head, size_t bytes);

/* --- boots (boots.c); all of it on the control thread --- */

struct boots;

/*
 * What was kept of the boots; nodes and trash must have been loaded. Only without memory does it
 * fail: what can't be read is put aside, what can't be written is kept in memory.
 */
int boots_open(struct control *control);
/* Writes what is not written yet, and waits for it. */
void boots_close(struct control *control);
/* The node is gone for good. */
void boots_forget_node(struct control *control, const store_uuid_t *uuid);
/*
 * An initiator has logged in to the node. `boot`: the ID of the boot whose credentials it has used,
 * or "": then the node's newest boot, if that is younger than 15 minutes; none otherwise. What a
 * peer has said may be in `initiator` and `address`; neither need be clean.
 */
void boots_login(struct control *control, const store_uuid_t *node, const char *boot,
		 const char *initiator, const char *address);
/* A session of the node has ended: told to the boot that logged in last. */
void boots_session_end(struct control *control, const store_uuid_t *node, const char *reason,
		       const char *address);
/* 0 and a body, or an error; they answer the calls API_BOOTS to API_PENDING_DELETE. */
int boots_handle(struct control *control, const struct api_call *call, json_t **ret_body,
		 struct api_error *err);
/* API_LEASES to API_BOOTD_PUT. */
int leases_handle(struct control *control, const struct api_call *call, json_t **ret_body,
		  struct api_error *err);

/* --- boot_request.c: pure, as request.c --- */

/* The name in the path of such a call: ID, serial or MAC, into call->key. */
int boot_key_read(enum api_op op, const char *text, struct api_call *call, struct api_error *err);
/* Whether the call has a body of this room's kind; then boot_body_read checks and gives it. */
bool boot_has_body(enum api_op op);
int boot_body_read(enum api_op op, const void *body, size_t bytes, json_t **ret_json,
		   struct api_error *err);
/* dc:a6:32:01:02:03, in lower case; false if it is none. */
bool mac_normal(const char *text, char ret_mac[MAC_BYTES]);
/* 2026-11-26T12:00:00.123Z, with or without the fraction; false if it is none from 1970 to 2199. */
bool time_parse_ms(const char *text, int64_t *ret_ms);

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
	unsigned reserve_percent; /* of the file system, or: */
	uint64_t reserve_bytes;
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
	uint64_t merge_bytes_per_s; /* 0: as fast as it goes */
	struct event *merge_timer;  /* tries failed ones again */
	bool stopping;
	struct list operations; /* that wait for the server */
	struct list reads;      /* struct data_read: waiting, or under way, */
	struct list lent;       /* or in the hands of their clients */
	unsigned read_count;    /* buffers: under way, or not taken by their client yet */
	uint64_t identities_asked;
	struct event *boot_timer; /* boot_cred.c */
	struct list trash;        /* the longest removed first */
	unsigned trash_count;
	int64_t trash_s; /* how long it is kept; 0: not at all */
	struct event *space_event;
	bool space_short; /* and the log has been told */
	unsigned watches; /* space_event's */
	struct boots *boots;
	json_t *bootd; /* what lunbootd has said of itself last, or NULL */
	int64_t bootd_seen;
};

/* A test's place to kill us at; does nothing otherwise. */
extern void (*control_step_hook)(const char *step);
static inline void control_step(const char *step)
{
	if (control_step_hook)
		control_step_hook(step);
}

int recover(struct control *control, bool fresh, struct store_error *err);
/* What the catalogue has, to where it belongs; frees it on failure. `control`: as catalog_load
 * wants it. */
int recover_image(void *control, struct image *image);
int recover_node(void *control, struct node *node);
/* A lost catalogue, within the transaction that catalog_open has left open. */
int rebuild(struct control *control, struct store_error *err);
enum file_kind { FILE_OTHER, FILE_IMAGE, FILE_SIDECAR, FILE_LAYER };
/* "NAME.img", "NAME.img.json" or "UUID.cow", cut to NAME or UUID. */
enum file_kind file_kind(char *name, bool in_images);
/* PREFIX_NEW, PREFIX_RM, PREFIX_TRASH or "". */
const char *file_prefix(const char *file);
/* Where the catalogue thinks that a file of this kind and name (without prefix and suffix) is;
 * false: nowhere. */
bool file_place(struct control *control, enum file_kind kind, const char *name,
		char ret_path[PATH_BYTES + 8]);

struct image *image_find(struct control *control, const char *name);
struct image *image_find_uuid(struct control *control, const store_uuid_t *uuid);
/* Takes the object into the sorted list; -ENOSPC if there are too many (then it is not taken). */
int image_insert(struct control *control, struct image *image);
void image_forget(struct control *control, struct image *image); /* and frees it */
void image_take_out(struct control *control, const struct image *image);
void image_reinsert(struct control *control, struct image *image, const char *name);
struct node *node_find(struct control *control, const char *name);
struct node *node_find_uuid(struct control *control, const store_uuid_t *uuid);
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
/* What was moved in images/ or layers/ has moved for good. */
int folder_sync(const struct control *control, const char *name);

/* Makes the sealed .new- files and their image one. */
int image_adopt(struct control *control, const struct image *image, struct api_error *err);
int image_rename(struct control *control, struct image *image, const char *name,
		 struct api_error *err);
/* -EBUSY and an error that names the nodes that stand on it. */
int image_check_unused(struct control *control, const struct image *image, struct api_error *err);
/* The same for those in the trash: it can't go for good. */
int image_check_purgeable(struct control *control, const struct image *image,
			  struct api_error *err);
/* What its removal takes away: names and paths. */
void image_removal(struct control *control, const struct image *image, json_t *removed,
		   uint64_t *ret_bytes);
/* For good, also out of the trash. On success the image is freed. */
int image_remove(struct control *control, struct image *image, struct api_error *err);
/* The image's file without prefix and suffix: its name, or what it is called in the trash. */
void image_file_name(const struct image *image, char ret_name[IMAGE_FILE_BYTES]);
/* The image's file and its sidecar, from one name to another. */
int image_files_move(struct control *control, const char *from_prefix, const char *from,
		     const char *to_prefix, const char *to);
/* Takes such a move back, as far as it got. */
int image_files_return(struct control *control, const char *from_prefix, const char *from,
		       const char *to_prefix, const char *to);

/* Makes the node with its layers in files and catalogue; it is not served yet. */
int node_make(struct control *control, const struct api_call *call, struct node **ret_node,
	      struct api_error *err);
/* Not served. */
int node_rename(struct control *control, struct node *node, const char *name,
		struct api_error *err);
void node_removal(struct control *control, const struct node *node, json_t *removed,
		  uint64_t *ret_bytes);
/* Its name, and those of its credentials and host that follow it. */
void node_call(struct node *node, const char *name);
/* All of its layers from one prefix to another, those that are there: a damaged node may lack some.
 */
int node_layers_move(struct control *control, const struct node *node, const char *from,
		     const char *to);
uint64_t node_used_bytes(const struct control *control, const struct node *node);
/* For good, also out of the trash. Not served. On success the node is freed. */
int node_delete(struct control *control, struct node *node, struct api_error *err);
/* Opens all disks; on failure none is open. */
int node_open_units(struct control *control, const struct node *node,
		    struct server_unit units[LIMIT_LUNS_PER_NODE], struct store_error *err);
void node_units_free(const struct server_unit *units, unsigned count);
/* It stands on no image any more. */
bool node_is_flat(const struct node *node);
/* The paths of a LUN's lowest `layer_count` layers and of its image. */
int lun_chain(struct control *control, const struct node *node, const struct lun *lun,
	      unsigned layer_count, struct job_chain *ret_chain, struct store_error *err);
/* Opens the disks and hands them to the server. On failure nothing is called, the node is damaged,
 * and its message says why. */
int node_serve(struct control *control, struct node *node, server_cb cb, void *arg);
/* What cb does when the server could not take it. */
void node_not_served(struct node *node, int error);
/* -EIO without random numbers. */
int node_new_credentials(struct node *node);
int random_text(char *to, unsigned chars);
/* New secrets of its own under the same names. It is not told to the server. */
int node_rotate(struct control *control, struct node *node, struct api_error *err);
/* Which node has the Pi (either may be ""), other than `except`; or NULL. */
struct node *node_of_pi(struct control *control, const char *serial, const char *mac,
			const struct node *except);
/* The node that has this static address, other than `except`; or NULL. */
struct node *node_of_address(struct control *control, const char *address,
			     const struct node *except);
/* Gives it what the call names, or takes it away. */
int node_assign(struct control *control, struct node *node, const struct api_call *call,
		struct api_error *err);
/* Its name and credentials as they are now, to the server. 0 and cb, or -ENOMEM. */
int node_tell_target(struct control *control, const struct node *node, server_cb cb, void *arg);

/* --- room on the state directory's file system --- */

#define SPACE_CURE "free space there (lunctl rm), or give a smaller reserve (lunrootd --reserve)"

struct space {
	uint64_t total_bytes, free_bytes, reserve_bytes;
};

/* Any thread: 0 or -errno. */
int space_read(const struct control *control, struct space *ret_space);
bool space_is_short(const struct space *space);
/* Any thread: -ENOSPC and an error if less than the reserve is free, so that the image or node
 * (`kind`) of this name can't be made. */
int space_check(const struct control *control, const char *kind, const char *name,
		struct api_error *err);
/* Whether the node's disk waits for space, or would. It knows that there is some again when it
 * writes next; but who waited may be gone, and nothing be written for long. */
bool space_is_awaited(const struct control *control, const struct node *node,
		      const struct server_stats *stats, const struct store_stats *disk);
/* Looks at it from time to time, from now on. */
int space_start(struct control *control);
void space_stop(struct control *control);
void space_watch(struct control *control); /* now */

/* --- gone.c: files that are gone while nodes are served from them --- */

#define GONE_CURE_BYTES 256
/* Path and node. */
#define GONE_TEXT                                                                               \
	"%.300s is gone, or is another file now: what node %s has written is still there, but " \
	"only "                                                                                 \
	"as long as lunrootd runs"

/* Any thread: whether that file is what stands there. */
bool file_is(const char *path, const struct file_id *id);
/* All of its disks have just been opened. */
void gone_note(struct control *control, struct node *node);
/* NULL, or the LUN that is served from a file that is gone, and the path where that was. */
const struct lun *gone_look(struct control *control, const struct node *node,
			    char ret_path[PATH_BYTES]);
/* What helps. Any thread. */
void gone_cure(const char *name, unsigned lun, char ret_cure[GONE_CURE_BYTES]);
/* 0, or an error because the node's disks must stay open; */
int gone_refuse(struct control *control, const struct node *node, struct api_error *err);
/* because the LUN's lowest layers can't be read from their files. */
int gone_refuse_lun(struct control *control, const struct node *node, const struct lun *lun,
		    unsigned layer_count, struct api_error *err);
/* Looks at all of them. */
void gone_watch(struct control *control);

/* --- the trash --- */

struct trash {
	struct list entry; /* of control.trash */
	struct node *node; /* one of them; ours */
	struct image *image;
};

struct trash *trash_find(struct control *control, const store_uuid_t *uuid);
/* At start-up: takes the object that says when it was removed. */
int trash_insert(struct control *control, struct node *node, struct image *image);
uint64_t trash_used_bytes(const struct control *control, const struct trash *trash);
int64_t trash_left_s(const struct control *control, const struct trash *trash);
/* Something is being done with its files. */
bool trash_is_busy(const struct trash *trash);
/* How many nodes in it stand on the image. */
unsigned trash_nodes_over(struct control *control, const struct image *image);
/* Not served, no nodes: out of the lists and into the trash. */
int trash_node(struct control *control, struct node *node, struct api_error *err);
int trash_image(struct control *control, struct image *image, struct api_error *err);
/* Back, with a name that is free. On success `trash` is gone. */
int trash_undo_node(struct control *control, struct trash *trash, const char *name,
		    struct api_error *err);
int trash_undo_image(struct control *control, struct trash *trash, const char *name,
		     struct api_error *err);
/* For good; the log is told why. */
int trash_purge(struct control *control, struct trash *trash, const char *why,
		struct api_error *err);
json_t *reply_trash(const struct control *control);
/* What a removal answers; takes `removed`. `kept_bytes` are in the trash, `freed_bytes` are not. */
json_t *reply_removed(const struct control *control, json_t *removed, uint64_t freed_bytes,
		      uint64_t kept_bytes, bool kept, bool dry_run);
/* What is over its time, and what is in the way of others, goes. */
void trash_look(struct control *control);
void trash_free(struct control *control);

/* --- JSON --- */

json_t *reply_time(int64_t when);
json_t *reply_time_ms(int64_t when_ms);
json_t *reply_uuid(const store_uuid_t *uuid);
/* Text from files and peers may be no UTF-8; then it is not shown. */
json_t *reply_text(const char *text);
json_t *reply_health(struct control *control, const struct server_stats *stats);

json_t *reply_version(struct control *control);
json_t *reply_image(struct control *control, const struct image *image);
json_t *reply_images(struct control *control);
json_t *reply_node(struct control *control, const struct node *node,
		   const struct server_stats *stats, bool secrets);
json_t *reply_nodes(struct control *control, const struct server_stats *stats);
json_t *reply_stats(struct control *control, const struct server_stats *stats);
json_t *reply_job(const struct job *job);
json_t *reply_error(const struct api_error *err);
json_t *reply_lun(struct control *control, const struct node *node, const struct lun *lun,
		  const struct server_stats *stats);
/* Where others reach us. */
json_t *reply_portal(const struct control *control);
int reply_url(struct control *control, const struct node *node, uint8_t lun, json_t **ret_body,
	      struct api_error *err);

/* --- HTTP --- */

int http_new(struct control *control, const char *socket_path, struct http **ret_http,
	     struct store_error *err);
void http_free(struct http *http);

#endif
