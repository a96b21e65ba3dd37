/*
 * The iSCSI side as the control plane sees it: portals, reactors, targets. Control-thread
 * functions; the data path is reached by messages only, and answers come back by messages to the
 * control thread's mailbox.
 */
#ifndef LUNROOT_SESSION_SERVER_H
#define LUNROOT_SESSION_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/mailbox.h"
#include "session/target.h"
#include "store/store.h"

struct server;

struct server_config {
	unsigned reactor_count;    /* 0: one per core, at most LIMIT_REACTORS */
	struct mailbox *control;   /* where callbacks are posted; the control thread runs it */
	uint64_t ping_idle_ms;     /* 0: LIMIT_PING_IDLE_MS */
	uint64_t login_timeout_ms; /* 0: LIMIT_LOGIN_TIMEOUT_MS */
	struct target_chap discovery_chap;
};

int server_new(const struct server_config *config, struct server **ret_server);
/*
 * Binds and listens on "ADDR:PORT", "[ADDR6]:PORT", port 0 = any. 0, or -errno with a sentence
 * that says what is wrong and the cure (address in use: by whom to look for, how to change it).
 * ret_address gets the real address and port.
 */
int server_listen(struct server *server, const char *portal,
		  char ret_address[LIMIT_ADDRESS_TEXT_BYTES], struct store_error *err);
/* Starts the reactors' threads; only now connections are taken. */
int server_start(struct server *server);

/*
 * Graceful end: no new connections, Async Message to every session, disks flushed and detached,
 * within LIMIT_STOP_MS; then done(arg) on the control thread. After that server_free.
 */
void server_stop(struct server *server, void (*done)(void *arg), void *arg);
void server_free(struct server *server);

/* A unit of a target as it is handed over; `disk` is opened and not attached. */
struct server_unit {
	uint8_t lun;
	store_uuid_t uuid;
	struct store_disk *disk;
	bool read_only, removable;
};

/* All callbacks: control thread, once. res 0 or -errno. */
typedef void (*server_cb)(void *arg, int res);

/* Takes the reference and the disks. The target can be logged in to when cb says 0; -EEXIST if
 * its name is served already (the disks are freed). */
void server_target_add(struct server *server, struct target_conf *conf,
		       const struct server_unit *units, unsigned unit_count, server_cb cb,
		       void *arg);
/* New credentials or initiator for the same uuid and name; sessions go on. -ENOENT. */
void server_target_update(struct server *server, struct target_conf *conf, server_cb cb, void *arg);
/* Takes the target away: -EBUSY if it has sessions, unless `force` ends them. cb comes when its
 * disks are flushed, closed and freed. */
void server_target_remove(struct server *server, const uint8_t uuid[16], bool force, server_cb cb,
			  void *arg);

struct server_session_info {
	uint8_t target_uuid[16];
	char initiator[LIMIT_ISCSI_NAME_BYTES + 1];
	char address[LIMIT_ADDRESS_TEXT_BYTES];
	uint64_t connected_ms; /* how long */
	uint64_t commands, read_bytes, written_bytes;
	bool header_digest, data_digest;
};

struct server_unit_info {
	uint8_t target_uuid[16];
	uint8_t lun;
	struct store_stats store;
};

struct server_stats {
	uint64_t connections_accepted, connections_open, logins_ok, logins_refused;
	uint64_t protocol_errors; /* connections ended for a peer's mistake */
	uint64_t commands, read_bytes, written_bytes;
	struct server_session_info *sessions;
	unsigned session_count;
	struct server_unit_info *units;
	unsigned unit_count;
};

/* A snapshot gathered from all reactors; `stats` is freed after the callback returns. */
typedef void (*server_stats_cb)(void *arg, const struct server_stats *stats);
void server_stats(struct server *server, server_stats_cb cb, void *arg);

#endif
