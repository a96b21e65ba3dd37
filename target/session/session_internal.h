/*
 * What the files of this room share.
 *
 *   server.c    control side: portals, reactors, target directory, messages
 *   portal.c    listening sockets, accept, its limits
 *   conn.c      a connection from accept to close: its machine, receiving, timers
 *   admit.c     login PDUs, hand-over to the target's reactor, TSIH, takeover
 *   rx.c        bytes to PDUs
 *   tx.c        PDUs to bytes
 *   ffp.c       full-feature phase: CmdSN and dispatch
 *   task.c      SCSI commands: data in both directions, responses
 *   tmf.c       task management
 *   text.c      Text requests
 *   pressure.c  memory back from those who sit on it
 *   target.c    the control plane's snapshot of a target
 *   unit.c      targets as a reactor has them
 *   hold.c      a target held still while its files change
 *   read.c      what the control plane reads of disks
 *   notice.c    what it is told of logins
 *
 * Threads: a struct server's directory is under its mutex; all else below belongs to the
 * reactor that has the connection or the target.
 */
#ifndef LUNROOT_SESSION_INTERNAL_H
#define LUNROOT_SESSION_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/limits.h"
#include "base/list.h"
#include "base/mailbox.h"
#include "ring/ring.h"
#include "scsi/scsi.h"
#include "session/login.h"
#include "session/rx.h"
#include "session/server.h"
#include "wire/params.h"
#include "wire/pdu.h"

struct conn;
struct session;
struct target;
struct task;
struct notice;

/* --- server --- */

struct portal {
	int fd;
	bool wildcard;
	struct sockaddr_storage address;
	char text[LIMIT_ADDRESS_TEXT_BYTES];
	struct server *server;
	struct ring_op accept_op;
	bool accepting; /* the multishot accept is under way */
};

struct reactor {
	struct server *server;
	unsigned index;
	char name[16];
	struct ring *ring;
	pthread_t thread;
	bool running;
	struct list conns;     /* struct conn.node */
	struct list targets;   /* struct target.node */
	unsigned target_count; /* control thread's, for spreading */
	bool stopping;
	struct ring_timer accept_timer; /* reactor 0: try to accept again */
	struct ring_timer stop_timer;
	struct ring_timer pressure_timer;
	struct mailbox_msg stop_msg, stopped_msg, quit_msg;
	unsigned stop_stage;
	bool stop_told;
	unsigned file_read_count; /* read.c */
	/* Of connections that are gone. */
	uint64_t commands, read_bytes, written_bytes;
};

/* One served target as the directory has it: control plane and logins, under server->mutex. */
struct entry {
	struct list node;
	struct target_conf *conf;
	struct reactor *reactor;
	bool ready; /* can be logged in to */
};

struct server {
	struct server_config config;
	struct reactor reactors[LIMIT_REACTORS];
	unsigned reactor_count;
	struct portal portals[LIMIT_PORTALS];
	unsigned portal_count;
	bool started;

	pthread_mutex_t mutex;
	struct list entries;

	atomic_uint connections_open, half_open;
	atomic_uint next_tsih;
	atomic_ullong accepted, logins_ok, logins_refused, protocol_errors;
	bool accept_error_told, accept_full_told; /* reactor 0 */

	void (*stopped)(void *arg);
	void *stopped_arg;
	unsigned stop_waiting; /* reactors that have not stopped yet; control thread */
	unsigned next_reader;  /* of a file; control thread */

	struct server_watch watch; /* control thread */
	atomic_uint notices;       /* notice.c: on their way */
	atomic_uint notices_lost;  /* there were too many */
};

/* Control thread: who has the target, or NULL. */
struct reactor *server_reactor_of(struct server *server, const uint8_t uuid[16]);

/* Logins: the ready target of that name with a reference, or NULL. Any thread. */
struct target_conf *server_find_target(struct server *server, const char *name,
				       struct reactor **ret_reactor);
struct target_conf *server_find_chap_user(struct server *server, const char *chap_name);
/* Calls `each` for every target that can be logged in to, under the mutex. Any thread. */
void server_each_target(struct server *server,
			void (*each)(void *arg, const struct target_conf *conf), void *arg);
/* A TSIH that is not zero; the target checks that it is unused. Any thread. */
uint16_t server_next_tsih(struct server *server);

/* While stopping: whether all is gone. */
void reactor_check_stopped(struct reactor *reactor);

/* portal.c; reactor 0. */
/* How long a port may be another process's before that is an error; tests change it. */
extern unsigned portal_wait_ms;
void portals_start(struct server *server);
void portals_stop(struct server *server);
int portal_listen(struct server *server, const char *text,
		  char ret_address[LIMIT_ADDRESS_TEXT_BYTES], struct store_error *err);
/* "ADDR:PORT" or "[ADDR6]:PORT"; IPv4-mapped addresses as IPv4. */
void address_format(const struct sockaddr_storage *address,
		    char ret_text[LIMIT_ADDRESS_TEXT_BYTES]);
/* Whether the portal can be reached by who came in on `local`; the address to tell him. */
bool portal_address_for(const struct portal *portal, const struct sockaddr_storage *local,
			char ret_text[LIMIT_ADDRESS_TEXT_BYTES]);

/* --- targets on their reactor (unit.c) --- */

struct target {
	struct list node; /* reactor->targets */
	struct reactor *reactor;
	struct target_conf *conf;
	struct scsi_device *device;
	struct list sessions; /* in the order in which they were admitted; ending ones included */
	struct list tmfs;     /* struct tmf.node: waiting for tasks to end */
	struct list reads;    /* of the control plane (read.c) */
	bool removing, closing_device;
	void (*closed)(void *arg, int res);
	void *closed_arg;
	struct store_disk *gates[LIMIT_LUNS_PER_NODE]; /* of its units; SCSI's */
	struct hold *hold;                             /* NULL: it is not held (hold.c) */
};

/*
 * Takes a reference of its own, and the disks in any case. On failure ret_target may be set all
 * the same: to what is there, which has to be closed.
 */
int target_new(struct reactor *reactor, struct target_conf *conf, const struct server_unit *units,
	       unsigned unit_count, struct target **ret_target);
struct target *target_find(struct reactor *reactor, const uint8_t uuid[16]);
bool target_has_sessions(const struct target *target);
/* Tells the initiators, ends their sessions, closes the disks, frees it; then closed(). */
void target_close(struct target *target, void (*closed)(void *arg, int res), void *arg);
void target_check_closing(struct target *target);
/* A session has gone: others may have waited for it. */
void target_session_gone(struct target *target);
/* Frees disks that nobody has attached. */
void units_free(const struct server_unit *units, unsigned unit_count);

/* hold.c. As server_target_hold; `done` may come from inside. */
void target_hold(struct target *target, bool unused, void (*done)(void *arg, int res), void *arg);
/* As server_target_resume: 0 or -errno. */
int target_resume(struct target *target, const struct server_unit *units, unsigned unit_count);
/* It is being held, and target_check_closing is called when that is over. */
bool target_holding(const struct target *target);
/* Its commands wait for a resume: without one they never end. */
bool target_stands_still(const struct target *target);

/* read.c: the target is going away. */
void target_reads_cancel(struct target *target);

/* --- connections --- */

enum conn_state {
	CONN_LOGIN,    /* login requests and responses */
	CONN_HANDOVER, /* between two reactors: no operation in flight */
	CONN_ADMIT,    /* waits for an older session's tasks to end */
	CONN_FULL,     /* full-feature phase */
	CONN_LOGOUT,   /* asked to end: running tasks are waited for */
	CONN_FLUSH,    /* the last PDUs are being sent */
	CONN_LINGER,   /* our end is closed, the peer's not yet */
	CONN_CLOSING,  /* operations and tasks are being waited for */
};

enum conn_event {
	CONN_EV_HANDOVER,  /* the login names a target of another reactor */
	CONN_EV_ARRIVED,   /* and is there */
	CONN_EV_ADMIT,     /* parameters are agreed */
	CONN_EV_LOGGED_IN, /* nobody is in the way any more */
	CONN_EV_REFUSED,   /* the last login response is queued */
	CONN_EV_LOGOUT,    /* the peer asks, or we stop */
	CONN_EV_TASKS_DONE,
	CONN_EV_FLUSHED,  /* all is sent */
	CONN_EV_FIN,      /* the peer has closed */
	CONN_EV_LOST,     /* socket error */
	CONN_EV_PEER_BAD, /* it broke the protocol */
	CONN_EV_KICKED,   /* we end it: takeover, removal, time-out */
	CONN_EV_NO_MEMORY,
};

/* What only the login phase needs; freed when it is over. */
struct conn_login {
	struct login *login;
	struct login_env env;
	struct target_conf *conf;                  /* what find_target found */
	struct reactor *target_reactor;            /* and who has it */
	char chap_name[LIMIT_CHAP_NAME_BYTES + 1]; /* last asked for in discovery */
	struct wire_login_req req;
	uint8_t data[LIMIT_LOGIN_SEGMENT_BYTES + 4];
	uint32_t have_bytes; /* of req, then of data */
	bool in_data;
	unsigned pdu_count;
	enum login_verdict verdict;
	struct login_reply reply;
};

#define TX_IOVECS 64

struct conn {
	struct list node; /* reactor->conns */
	struct server *server;
	struct reactor *reactor;
	int fd;
	enum conn_state state;
	bool half_open;      /* counted in server->half_open */
	bool told;           /* why it ends has been logged */
	enum server_end end; /* why, if that is known before */
	struct sockaddr_storage local;
	char peer[LIMIT_ADDRESS_TEXT_BYTES];
	char *tag; /* log tag once names are known, else NULL */
	uint64_t login_deadline_ms, connected_ms;
	struct conn_login *login;
	struct mailbox_msg handover_msg;
	struct ring_timer timer;
	struct ring_task finish; /* the end, from the loop */
	uint16_t cid;
	struct wire_params params;
	struct session *session;

	/* receiving */
	struct ring_op recv_op;
	bool recv_busy;
	struct rx rx;
	uint8_t *rx_data;     /* of a PDU that is no SCSI data; ours */
	struct task *rx_task; /* whose buffer the payload goes to */
	unsigned rx_mode;     /* ffp.c: what becomes of the PDU whose header is there */
	bool stalled;         /* what arrives is held, see conn_stall */
	uint8_t *hold;
	size_t hold_bytes, hold_room;
	struct ring_buf_waiter buf_waiter;
	struct ring_task resume;
	uint64_t last_rx_ms;

	/* sending */
	struct ring_op send_op;
	bool send_busy;
	struct list tx_queue;
	size_t tx_bytes; /* queued and not sent */
	uint64_t tx_ms;  /* when some of it was last taken, or the queue was begun */
	unsigned tx_count;
	size_t tx_first_done; /* bytes of the first PDU that are sent */
	struct ring_task tx_task;
	struct iovec tx_iov[TX_IOVECS];
	struct msghdr tx_msg;
	uint32_t statsn;

	/* target-side ping */
	bool ping_out, ping_answered, ping_useless;
	uint32_t ping_ttt;
	uint64_t ping_ms;
};

void conn_accepted(struct reactor *reactor, int fd);
void conn_step(struct conn *conn, enum conn_event event);
/* The tag for log lines: initiator, target and address as far as they are known. */
const char *conn_tag(const struct conn *conn);
/* Ends the connection for a mistake of the peer, with one log line. */
void conn_peer_bad(struct conn *conn, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Ends it for a reason of ours. */
void conn_kick(struct conn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
void conn_no_memory(struct conn *conn);
void conn_watch_timer(struct conn *conn);
/* Full-feature receiving. */
void conn_recv_start(struct conn *conn);
/* Nothing more is taken from the socket until conn_unstall. */
void conn_stall(struct conn *conn);
void conn_unstall(struct conn *conn);
/* tx.c reports. */
void conn_sent(struct conn *conn);
/* The session's tasks have become fewer. */
void conn_tasks_changed(struct conn *conn);
bool conn_is_full(const struct conn *conn);
/* Posts it to its new reactor, when nothing is in flight. */
void conn_handover_try(struct conn *conn);

/* --- what the control plane is told (notice.c) --- */

void session_tell_begun(struct session *session);
/* Nothing, unless it was told that it has begun. */
void session_tell_ended(struct session *session, enum server_end end);
/* Asks to have the use of its credentials recorded: session_recorded follows, unless the session
 * goes first. 0 or -ENOMEM. */
int session_ask_record(struct session *session);
void session_question_drop(struct session *session);
/* admit.c */
void session_recorded(struct session *session, int res);

/* --- login (admit.c) --- */

int conn_login_begin(struct conn *conn);
void conn_login_recv(struct conn *conn);
/* Acts on login->verdict on the reactor where the connection is to stay. */
void conn_login_verdict(struct conn *conn);
/* State actions. */
void conn_admit(struct conn *conn);
void conn_login_finish(struct conn *conn);
void conn_login_free(struct conn *conn);

/* --- sessions --- */

#define TASK_HASH 64 /* a power of two */

struct session {
	struct list node;      /* target->sessions */
	struct target *target; /* NULL: discovery */
	struct conn *conn;
	char initiator[LIMIT_ISCSI_NAME_BYTES + 1];
	uint8_t isid[6];
	uint16_t tsih;
	bool discovery;
	bool waiting_turn; /* an older session has to end first */
	bool ending;
	enum login_by by;
	uint8_t boot_id[LIMIT_BOOT_ID_BYTES]; /* LOGIN_BY_BOOT */
	bool unrecorded;                      /* their use has to be written down first */
	bool told;                            /* that it has begun */
	struct notice *question;              /* notice.c: is under way, and it waits */
	struct target_conf *proven;           /* discovery: whose CHAP user it is */
	bool proven_operator;
	struct scsi_nexus *nexus;

	/* Command window (4.2.2.1): CmdSNs from expcmdsn to maxcmdsn are taken. */
	uint32_t expcmdsn, maxcmdsn;
	unsigned window_used;     /* tasks that are not answered yet */
	unsigned immediate_count; /* of them, immediate ones */
	struct list held;         /* ahead of their turn, by CmdSN */
	unsigned held_count;
	size_t held_bytes;

	unsigned task_count;               /* all struct tasks, those being sent included */
	struct task *task_hash[TASK_HASH]; /* unanswered ones, by ITT */
	struct list tasks;                 /* unanswered ones, oldest first */
	struct list waiting;               /* of them: for a buffer, oldest first */
	struct ring_buf_waiter buf_waiter;
	size_t read_bytes, write_bytes; /* buffers in use */
	bool hoards;                    /* let buffers wait for its data while others needed them */
	unsigned ordered_count;         /* ORDERED tasks that SCSI does not have yet */
	unsigned turn_count;            /* tasks in TASK_TURN */
	unsigned data_out_count;        /* tasks that have a buffer and wait for data */
	uint32_t next_ttt;
	uint32_t gone_itts[LIMIT_SESSION_COMMANDS]; /* ended while data was to come */
	unsigned gone_count, gone_next;

	struct text *text; /* a Text negotiation of several PDUs */

	uint32_t logout_itt;
	bool logout_asked;

	uint64_t commands, bytes_read, bytes_written;
};

/* Frees a session that has no tasks. Accepts NULL. */
void session_free(struct session *session);
/* Window fields of every PDU to the initiator. */
uint32_t session_maxcmdsn(struct session *session);
bool session_is_discovery(const struct session *session);

/* --- sending (tx.c) --- */

struct tx_pdu {
	struct list node;
	uint8_t header[WIRE_BHS_BYTES + WIRE_DIGEST_BYTES];
	uint8_t tail[3 + WIRE_DIGEST_BYTES]; /* padding and data digest */
	uint8_t header_bytes, tail_bytes;
	uint32_t data_bytes;
	const uint8_t *data;
	struct task *task; /* has a reference, or NULL */
	uint8_t *owned;    /* freed with it, or NULL */
	uint8_t room[];
};

void tx_init(struct conn *conn);
/* A PDU with room for `room_bytes` of data behind it, zeroed header; NULL: no memory (and the
 * connection is being closed). The header is filled in by the caller. */
struct tx_pdu *tx_new(struct conn *conn, uint32_t room_bytes);
enum tx_sn {
	TX_SN_NONE, /* StatSN stays as it is in the header */
	TX_SN_SHOW, /* shows the next StatSN without using it (R2T, target ping) */
	TX_SN_CONSUME,
};
/* Numbers it, adds digests, queues it. */
void tx_queue(struct conn *conn, struct tx_pdu *pdu, enum tx_sn sn);
/* As it is: login responses carry their own numbers and no digests. */
void tx_queue_plain(struct conn *conn, struct tx_pdu *pdu);
void tx_drop_all(struct conn *conn);
bool tx_idle(const struct conn *conn);

/* Reject with the header it is about. */
void tx_reject(struct conn *conn, enum wire_reject_reason reason, const void *header);
void tx_async(struct conn *conn, enum wire_async_event event, uint16_t parameter1,
	      uint16_t parameter2, uint16_t parameter3);

/* --- full-feature phase --- */

/* The PDU's header is there: where does its data go? false: it has to wait (conn_stall). */
bool ffp_header(struct conn *conn);
/* The whole PDU is there. */
void ffp_pdu(struct conn *conn);
/* Forgets what was being received. */
void ffp_rx_reset(struct conn *conn);
void ffp_ping(struct conn *conn);
/* The CmdSN counts as received: 0, or -EINVAL if it is outside of the window or had come. */
int ffp_skip_cmdsn(struct conn *conn, uint32_t cmdsn);
void ffp_held_free(struct session *session);

/* --- tasks --- */

enum task_state {
	TASK_DATA, /* data from the initiator is to come */
	TASK_WAIT, /* for a buffer */
	TASK_TURN, /* all is here, but an ORDERED task stands before it, or it is one */
	TASK_RUN,  /* SCSI has it */
	TASK_DONE, /* answered; lives until its data is sent */
};

struct r2t {
	uint32_t ttt, offset_bytes, bytes;
};

struct task {
	struct scsi_task scsi;
	struct session *session;
	struct reactor *reactor;
	struct task *hash_next;
	struct list node, wait_node;
	enum task_state state;
	unsigned refs;
	uint32_t itt, cmdsn, edtl_bytes;
	bool immediate, flag_read, flag_write;
	bool aborted;     /* no response */
	bool unsolicited; /* Data-Out without R2T is still to come */
	bool counts_data; /* in session->data_out_count */
	bool final_seen;
	uint32_t want_bytes;     /* data-out that SCSI gets; more is thrown away */
	uint32_t got_bytes;      /* arrived, in order */
	uint32_t sequence_bytes; /* of the sequence under way */
	uint32_t datasn;         /* next of this sequence */
	uint32_t asked_bytes;    /* R2Ts go up to here */
	uint32_t r2tsn;
	struct r2t r2ts[LIMIT_OUTSTANDING_R2T]; /* outstanding ones, oldest first */
	unsigned r2t_count;
	uint32_t data_in_count;
	bool failed; /* ends with this when its data has come */
	uint8_t fail_key;
	uint16_t fail_asc_ascq;
	uint8_t fail_status; /* or with this, if not zero */
	uint64_t data_ms;    /* when data last came or was asked for */
	size_t charge_bytes; /* in session->read_bytes or write_bytes */
	bool charge_write;
	struct ring_buf *buf;
};

/*
 * A SCSI command's header: makes its task. -EAGAIN: no buffer for its immediate data now and
 * `may_wait`: ask again when memory is there; -ENOMEM.
 */
int task_command(struct conn *conn, const struct wire_scsi_cmd *cmd, const uint8_t *ahs,
		 bool may_wait, struct task **ret_task);
/* Its PDU is complete: on with it. */
void task_command_done(struct task *task, const struct wire_scsi_cmd *cmd, bool digest_ok);
struct task *task_find(const struct session *session, uint32_t itt);
/* A Data-Out's header: its task and where the data goes (NULL: nowhere); or NULL if it is to be
 * thrown away (and was answered). */
struct task *task_data_header(struct conn *conn, const struct wire_data_out *out, uint8_t **ret_to,
			      uint32_t *ret_room_bytes);
void task_data_done(struct conn *conn, struct task *task, const struct wire_data_out *out,
		    bool digest_ok);
/* Ends it without a response; the memory goes when SCSI and the socket are through with it. */
void task_abort(struct task *task);
void task_unref(struct task *task);
void session_tasks_init(struct session *session);
void session_tasks_abort(struct session *session);
/* Ends those that SCSI does not have yet. */
void session_tasks_quiesce(struct session *session);
/* Gives buffers to those that wait. */
void session_pump(struct session *session);
/* Takes the buffers of writes whose data does not come: they end with BUSY when it has. */
void session_reclaim(struct session *session);
/* Milliseconds until the oldest data-out is overdue; UINT64_MAX: none is waited for. */
uint64_t session_data_due_ms(const struct session *session, uint64_t now_ms);

struct residual {
	bool overflow, underflow;
	uint32_t count;
};
/* RFC 7143, 11.4.5: what was announced against what the command moves. */
struct residual residual_of(uint32_t edtl_bytes, uint32_t transfer_bytes);

/* --- memory (pressure.c) --- */

void pressure_init(struct reactor *reactor);
/* Somebody waits for a buffer: looks after those who keep theirs. */
void pressure_watch(struct reactor *reactor);

/* --- task management (tmf.c) --- */

void tmf_request(struct conn *conn, const struct wire_tmf_req *req);
/* Tasks have ended: answers may be due. */
void tmf_check(struct target *target);
void tmf_session_gone(struct session *session);

/* --- text (text.c) --- */

void text_request(struct conn *conn, const struct wire_text_req *req, const uint8_t *data,
		  uint32_t data_bytes);
void text_free(struct session *session);

#endif
