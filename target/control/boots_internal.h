/*
 * What the files about boots share. boots.c keeps the records in memory, and memory is what counts:
 * boots_db.c writes them behind, once a second, from a thread of its own, so that neither a slow
 * nor a full disk is felt here. One boot's events lie packed in one piece (boot_log.c).
 */
#ifndef LUNROOT_CONTROL_BOOTS_INTERNAL_H
#define LUNROOT_CONTROL_BOOTS_INTERNAL_H

#include "control/control_internal.h"

#define BOOT_ID_BYTES 17 /* 16 hex digits */
/* The API's names for them are in boot_log.c. Files hold the numbers: only add, at the end. */
enum boot_kind {
	BOOT_DISCOVER,
	BOOT_OFFER,
	BOOT_REQUEST,
	BOOT_WAIT,
	BOOT_VIEW,
	BOOT_ASKED,
	BOOT_MISSING,
	BOOT_SENT,
	BOOT_ENDED,
	BOOT_LOST,
	BOOT_SETTINGS,
	BOOT_LOGIN,
	BOOT_REPORT,
	BOOT_CONSOLE,
	BOOT_TROUBLE,
	BOOT_DONE,
	BOOT_SESSION_END,
	BOOT_KIND_COUNT,
};

/* How far a boot has come. Files hold the numbers. */
enum boot_stage {
	STAGE_NONE,
	STAGE_DISCOVER,
	STAGE_OFFER,
	STAGE_REQUEST,
	STAGE_ASKED,
	STAGE_SENT,
	STAGE_SETTINGS,
	STAGE_START,
	STAGE_NETWORK,
	STAGE_LOGIN,
	STAGE_DISK,
	STAGE_ROOT,
	STAGE_SWITCH,
	STAGE_MULTI_USER,
	STAGE_COUNT,
};

/* --- boot_log.c --- */

/* The texts are spans: of a request's JSON, or of the log. */
struct boot_event {
	int64_t at_ms; /* since 1970 */
	enum boot_kind kind;
	uint64_t bytes;
	uint32_t retries, took_ms;
	const char *text, *file;
	size_t text_bytes, file_bytes; /* cut to the limits when it is kept */
};

/* Events in the order in which they came. When there are too many the middle ones go: the first
 * half stays, and of what comes later the newest. */
struct boot_log {
	uint8_t *data; /* ours */
	size_t used, room;
	size_t first_half_bytes, last_at; /* where the second half and the last event begin */
	unsigned count;
	uint64_t dropped;
};

/* 0, or -ENOMEM and nothing has changed. */
int boot_log_append(struct boot_log *log, const struct boot_event *event);
/* Begins with *at 0; false at the end. The spans hold until the log changes. */
bool boot_log_next(const struct boot_log *log, size_t *at, struct boot_event *ret_event);
/* The last event; false: there is none. */
bool boot_log_last(const struct boot_log *log, struct boot_event *ret_event);
/* What another run has packed; 0, -EBADMSG (it makes no sense) or -ENOMEM. */
int boot_log_load(struct boot_log *log, const void *data, size_t bytes, uint64_t dropped);
void boot_log_done(struct boot_log *log);

const char *boot_kind_name(enum boot_kind kind);
bool boot_kind_parse(const char *name, enum boot_kind *ret_kind);
/* The stage that an event shows to have been reached. */
enum boot_stage boot_event_stage(const struct boot_event *event);
const char *boot_stage_name(enum boot_stage stage);

/* --- boots.c --- */

/* What is said of a boot as a whole; kept in a file as it stands here. */
struct boot_head {
	char id[BOOT_ID_BYTES];
	bool has_node;
	store_uuid_t node; /* if it has one; its name is looked up */
	char serial[SERIAL_BYTES], mac[MAC_BYTES], model[LIMIT_BOOT_MODEL_BYTES + 1],
		address[LIMIT_ADDRESS_TEXT_BYTES];
	uint64_t order;                                  /* of two boots the later one has more */
	int64_t began_ms, last_ms, reached_ms, login_ms; /* 0: never */
	enum boot_stage reached;
	bool done;
	uint64_t files, file_bytes, retries; /* of those that were sent */
};

struct boot {
	struct list all, by_id, by_owner, dirty;
	struct boot_head head;
	struct boot_log log;
};

#define BOOT_BUCKETS 4096
#define BOOT_DEAD    4096 /* removed ones that the file still has; beyond, it is written anew */

struct boots {
	struct control *control;
	struct list all; /* the oldest first; so are the buckets */
	struct list by_id[BOOT_BUCKETS], by_node[BOOT_BUCKETS];
	struct list unknown; /* those of no node */
	unsigned count, unknown_count;
	uint64_t last_order, bytes;
	struct boots_db *db;
	struct event *timer; /* runs while something is to be written */
	struct list dirty;
	char (*dead)[BOOT_ID_BYTES];
	unsigned dead_count;
	bool anew;                 /* the file is to be written from nothing */
	struct boots_batch *batch; /* the thread has it; ours again when its message has come */
	bool failed;               /* the last one failed, and the log was told */
};

/* The boot; NULL: there is none. */
struct boot *boot_find(const struct boots *boots, const char *id);
/* Boots of Pis that have become nodes since go to them: to all nodes, or (which is cheap) to one.
 */
void boots_settle(struct boots *boots, const struct node *only);
/* Whether it is the boot of a Pi with this serial (its last 8 characters count) or MAC. */
bool boot_is_of_pi(const struct boot_head *head, const char *key);
/* A Pi's name while it has none: its serial, or else its MAC; "" if neither is known. */
const char *boot_key(const struct boot_head *head);

/* --- boots_write.c --- */

/* 0 or -ENOMEM. */
int boots_timer_new(struct boots *boots);
/* The boot has changed: it is written within a second, if that can be. */
void boots_touch(struct boots *boots, struct boot *boot);
/* The same for what is not one boot: boots->dead, boots->anew. */
void boots_arm(struct boots *boots);
bool boots_are_written(const struct boots *boots);
/* At the end, when the thread has ended: what it has not got yet. Tries once. */
void boots_flush(struct boots *boots);

/* --- boots_db.c --- */

struct boot_row {
	struct boot_head head;
	uint64_t dropped;
	uint8_t *events; /* a copy, the batch's */
	size_t event_bytes;
};

struct boots_batch {
	struct mailbox_msg written; /* its `run` is set by who makes it; comes to the mailbox */
	struct boots *boots;
	bool anew; /* what the file has goes first */
	struct boot_row *rows;
	unsigned row_count;
	char (*dead)[BOOT_ID_BYTES];
	unsigned dead_count;
	/* The thread's, until `written` runs. */
	int result;
	char message[256];
};

/* A row that the file has, the oldest first; `events` are the file's. 0, -ENOMEM, or -EBADMSG if it
 * makes no sense. */
typedef int (*boots_db_row_fn)(void *arg, const struct boot_row *row);

/*
 * Reads what is there. *ret_db is set in any case but without memory for it; on -errno it has no
 * file yet, and tries again with each batch. -EBADMSG: what was there made no sense and was put
 * aside (*.damaged), of which the log has been told; the rows that made sense were given out.
 */
int boots_db_open(const char *path, struct mailbox *mailbox, boots_db_row_fn on_row, void *arg,
		  struct boots_db **ret_db);
/* Takes the batch; it comes back when `written` runs. One at a time. */
void boots_db_write(struct boots_db *db, struct boots_batch *batch);
/* The same on the caller's thread, once the thread has ended. */
void boots_db_write_now(struct boots_db *db, struct boots_batch *batch);
/* Waits for the batch that the thread has; its message is not posted if it comes later. */
void boots_db_stop(struct boots_db *db);
void boots_db_free(struct boots_db *db);
void boots_batch_free(struct boots_batch *batch);

/* --- boots_reply.c --- */

json_t *reply_boot(const struct boots *boots, const struct boot *boot, bool events);
/* The newest first: of a node, of a Pi, or of all; `node` may be NULL, `key` may be "". */
json_t *reply_boots(const struct boots *boots, const struct node *node, const char *key,
		    unsigned last);
json_t *reply_pending(const struct boots *boots);

#endif
