/*
 * What this room's tests have beneath them in place of the iSCSI side and the store.
 */
#ifndef LUNROOT_CONTROL_FAKE_H
#define LUNROOT_CONTROL_FAKE_H

#include "session/server.h"

#define FAKE_TARGETS 64

struct fake_target {
	struct target_conf *conf;
	struct server_unit units[LIMIT_LUNS_PER_NODE];
	unsigned unit_count;
};

struct server {
	struct mailbox *mailbox;
	struct fake_target targets[FAKE_TARGETS];
	unsigned target_count;
	int add_fails, remove_fails; /* 0 or -errno */
	bool forgets;                /* answers that are on their way are lost */
	struct server_session_info session;
	unsigned session_count; /* 0 or 1 */
};

struct server *fake_server_new(struct mailbox *mailbox);
/* By the node's name. */
struct fake_target *fake_target_find(struct server *server, const char *name);

/* "create" or "open" makes that function fail; fake_store.c only. */
extern char fake_store_fails[64];

#endif
