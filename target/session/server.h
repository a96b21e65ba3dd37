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

/* A login as it is told of. */
struct server_login {
	uint8_t target_uuid[16];
	bool by_boot;     /* with credentials of a boot: */
	bool by_operator; /* with the operator's */
	uint8_t boot_id[LIMIT_BOOT_ID_BYTES];
	char initiator[LIMIT_ISCSI_NAME_BYTES + 1];
	char address[LIMIT_ADDRESS_TEXT_BYTES];
	unsigned lost; /* notices of a storm before it that were dropped */
};

/* How a session ended. */
enum server_end {
	SERVER_END_NOT_YET,
	SERVER_END_LOGOUT,   /* the initiator logged out */
	SERVER_END_CLOSED,   /* it closed the connection without */
	SERVER_END_LOST,     /* the connection broke, or it stopped answering */
	SERVER_END_REPLACED, /* a new login took its place */
	SERVER_END_TARGET,   /* the target was taken away, or the daemon stops */
	SERVER_END_BROKEN,   /* it broke the protocol, or we ran out of memory */
};

/*
 * Who is told of normal sessions, on the control thread, one after another in the order in which
 * they happen to a target. Any function may be NULL.
 */
struct server_watch {
	/*
	 * Somebody has proved to have credentials of a boot that were not `used` in the target's
	 * conf. The login gets its last response only after this returns, so that what it writes
	 * down is there before the initiator thinks that it is logged in. 0; or -errno: they have
	 * ended meanwhile, and the login is refused. A conf that is given to server_target_update
	 * within it counts for this session and all later ones.
	 */
	int (*record)(void *arg, const struct server_login *login);
	void (*login)(void *arg, const struct server_login *login);
	/* Comes for every session whose login was told, unless it is among the lost. */
	void (*end)(void *arg, const struct server_login *login, enum server_end end);
	void *arg;
};

/* NULL: nobody. Control thread. */
void server_watch(struct server *server, const struct server_watch *watch);

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
/*
 * Holds a target still, so that its files can change beneath it: sessions stay, new commands wait,
 * those under way end, its disks are flushed (first without holding, so that the stall is short)
 * and closed. After cb(0) nothing writes to its files until server_target_resume, and their tops
 * can be sealed; sealed layers are still open, which nothing ever changes. A login to a held target
 * works, and its commands wait.
 *
 * With `unused` it is -EBUSY if it has sessions. -ENOENT: there is no such target, or it was taken
 * away meanwhile; -EBUSY: it is held, or being held or removed; another error: a flush failed, and
 * the target goes on as it was.
 */
void server_target_hold(struct server *server, const uint8_t uuid[16], bool unused, server_cb cb,
			void *arg);
/*
 * Gives a held target its disks (the same LUNs) and lets commands go on. A unit whose size has
 * changed reports the unit attention CAPACITY DATA HAS CHANGED (2A/09) to every session. Takes the
 * disks. -ENOENT; -EINVAL: it is not held, or the LUNs are others. If it can't be resumed the
 * caller removes it: server_target_remove works on a held target.
 */
void server_target_resume(struct server *server, const uint8_t uuid[16],
			  const struct server_unit *units, unsigned unit_count, server_cb cb,
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

/*
 * Reads a unit as an initiator would now: whatever was acknowledged before the call is in it. While
 * its disk is exchanged the read waits, up to STORE_GATE_WAIT_MS. `data` must live until cb; offset
 * and length are multiples of STORE_SECTOR_BYTES, the length up to LIMIT_DATA_BYTES and a sector at
 * either end. 0, or -ENOENT: there is no such target or unit; -ERANGE: beyond its end; -EAGAIN,
 * -ECANCELED: not now, try again; others: the medium failed.
 */
void server_read(struct server *server, const uint8_t uuid[16], uint8_t lun, uint64_t offset_bytes,
		 void *data, uint64_t bytes, server_cb cb, void *arg);
/* The same of a file that is as long as that, at any offset; off the control thread, which it would
 * block. `fd` and `data` must live until cb. */
void server_read_file(struct server *server, int fd, uint64_t offset_bytes, void *data,
		      uint64_t bytes, server_cb cb, void *arg);

struct server_unit_state {
	struct server_unit_info unit;
	uint64_t size_bytes;
	/* Whether it changed: as struct store_gate_state says. */
	store_uuid_t incarnation;
	uint64_t changes;
	bool steady;
};

/* How a unit is now; res 0 or -ENOENT. `state` is gone after the callback. */
typedef void (*server_unit_cb)(void *arg, int res, const struct server_unit_state *state);
void server_unit_look(struct server *server, const uint8_t uuid[16], uint8_t lun, server_unit_cb cb,
		      void *arg);

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
