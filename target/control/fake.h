/*
 * What this room's tests have beneath them in place of the iSCSI side and the store.
 */
#ifndef LUNROOT_CONTROL_FAKE_H
#define LUNROOT_CONTROL_FAKE_H

#include <stdatomic.h>

#include "session/server.h"

#define FAKE_TARGETS 64

struct fake_target {
	struct target_conf *conf;
	struct server_unit units[LIMIT_LUNS_PER_NODE];
	unsigned unit_count;
	bool held; /* it has no disks */
};

struct server {
	struct mailbox *mailbox;
	struct fake_target targets[FAKE_TARGETS];
	unsigned target_count;
	int add_fails, remove_fails; /* 0 or -errno */
	int hold_fails, resume_fails;
	unsigned holds, resumes; /* that went well */
	bool forgets;            /* answers that are on their way are lost */
	struct server_session_info session;
	unsigned session_count; /* 0 or 1 */
	struct server_unit_info unit;
	unsigned unit_count; /* 0 or 1 */
	struct server_watch watch;
	unsigned updates;
	int read_fails;
	unsigned reads, reads_at_once, reads_at_once_max;
	struct server_unit_state state; /* of every unit */
};

/* What every LUN holds. */
uint8_t fake_byte(uint8_t lun, uint64_t offset);

struct server *fake_server_new(struct mailbox *mailbox);
/* By the node's name. */
struct fake_target *fake_target_find(struct server *server, const char *name);

/*
 * fake_store.c only: "create", "open", "seal" or "merge" makes that function fail, "open" and
 * "seal" after as many good calls as the countdown says; "slow" makes merges and copies last until
 * they are cancelled; "large": the file system takes no such file; "changed": an image is not what
 * it was when it is opened.
 */
/* Set by the test, read by the workers' threads. */
extern _Atomic(const char *) fake_store_fails;
extern atomic_int fake_store_countdown;
/* What the last merge was told of how fast it may be. */
extern _Atomic(uint64_t) fake_store_merge_rate;
/* Layers whose maps are loaded ahead, and how often one followed its file to another name. */
extern atomic_uint fake_store_preloads, fake_store_preloads_moved;

#endif
