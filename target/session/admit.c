/*
 * Login as the connection sees it: one request at a time straight into a buffer, the answer of
 * login.c into the send queue, the hand-over to the reactor that has the target, and at the end
 * the question who may have a session.
 *
 * Login requests are received exactly, never a byte more, so that a connection can change its
 * reactor between two of them with nothing in flight.
 *
 * One session per node (unless it is shared). A login with the initiator name of the session
 * there is takes over, whatever its ISID: a Pi that lost power, or iPXE followed by Linux, must
 * not wait for the old connection's end to be noticed. The old session's tasks end before the
 * final login response, so no write of the old life lands in the new one. Another name is
 * refused with 0301 (service unavailable): class 3 makes initiators try again later, as they
 * should when the owner's qemu-img has the disk; class 2 would make them give up.
 *
 * Whoever logs in with a boot's credentials for the first time waits once more, when nobody is in
 * the way: until the control plane has recorded that they are in use (notice.c).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sn32.h"
#include "session/session_internal.h"

/* A sentence with two names in it. */
#define WHY_BYTES 768

#define ENDED "the credentials of its boot have ended: a later boot of the node has logged in"

static struct target_conf *find_target(void *arg, const char *target_name)
{
	struct conn *conn = arg;
	struct conn_login *l = conn->login;

	l->conf = server_find_target(conn->server, target_name, &l->target_reactor);
	/* The login's reference; ours is only a look at it while the login lives. */
	return l->conf;
}

static struct target_conf *find_chap_user(void *arg, const char *chap_name)
{
	struct conn *conn = arg;

	(void)snprintf(conn->login->chap_name, sizeof(conn->login->chap_name), "%s", chap_name);
	return server_find_chap_user(conn->server, chap_name);
}

int conn_login_begin(struct conn *conn)
{
	struct conn_login *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	l->env = (struct login_env){
		.find_target = find_target,
		.find_chap_user = find_chap_user,
		.arg = conn,
		.portal_group_tag = 1,
		.discovery_chap = &conn->server->config.discovery_chap,
	};
	r = login_new(&l->env, &l->login);
	if (r < 0) {
		free(l);
		return r;
	}
	conn->login = l;
	return 0;
}

void conn_login_free(struct conn *conn)
{
	struct conn_login *l = TAKE_PTR(conn->login);

	if (!l)
		return;
	login_free(l->login);
	/* It may hold a CHAP response. */
	explicit_bzero(l->data, sizeof(l->data));
	free(l);
}

/* --- receiving --- */

static void login_pdu(struct conn *conn);

static void login_recv_done(struct ring_op *op, int res)
{
	struct conn *conn = CONTAINER_OF(op, struct conn, recv_op);
	struct conn_login *l = conn->login;
	uint32_t want;

	conn->recv_busy = false;
	if (conn->state == CONN_CLOSING || res == 0) {
		conn_step(conn, res == 0 ? CONN_EV_FIN : CONN_EV_LOST);
		return;
	}
	if (res == -EINTR || res == -EAGAIN) {
		conn_login_recv(conn);
		return;
	}
	if (res < 0) {
		log_debug("%s: receive: %s", conn_tag(conn), strerror(-res));
		conn_step(conn, CONN_EV_LOST);
		return;
	}
	l->have_bytes += (uint32_t)res;
	want = l->in_data ? wire_pad4(be24_get(l->req.data_bytes)) : WIRE_BHS_BYTES;
	assert(l->have_bytes <= want);
	if (l->have_bytes == want && !l->in_data) {
		uint8_t opcode = l->req.opcode & WIRE_OPCODE_MASK;

		if (opcode != WIRE_OP_LOGIN_REQ) {
			conn_peer_bad(conn, "%s before login", wire_opcode_name(opcode));
			return;
		}
		/* 13.12: 8192 bytes until full-feature phase. */
		if (l->req.ahs_words || be24_get(l->req.data_bytes) > LIMIT_LOGIN_SEGMENT_BYTES) {
			conn_peer_bad(conn, "oversize login request");
			return;
		}
		l->in_data = true;
		l->have_bytes = 0;
		want = wire_pad4(be24_get(l->req.data_bytes));
	}
	if (l->have_bytes == want)
		login_pdu(conn);
	else
		conn_login_recv(conn);
}

void conn_login_recv(struct conn *conn)
{
	struct conn_login *l = conn->login;
	uint8_t *to = l->in_data ? l->data : (uint8_t *)&l->req;
	uint32_t want = l->in_data ? wire_pad4(be24_get(l->req.data_bytes)) : WIRE_BHS_BYTES;

	assert(!conn->recv_busy);
	assert(l->have_bytes < want);
	conn->recv_op.done = login_recv_done;
	conn->recv_busy = true;
	ring_recv(conn->reactor->ring, &conn->recv_op, conn->fd, to + l->have_bytes,
		  want - l->have_bytes, 0);
}

/* --- answering --- */

static void make_tag(struct conn *conn)
{
	const struct login *login = conn->login->login;
	char *tag;

	if (conn->tag || login_initiator_name(login)[0] == '\0')
		return;
	if (asprintf(&tag, "%s (%s) to %s", login_initiator_name(login), conn->peer,
		     login_target_name(login)[0] ? login_target_name(login) : "discovery") >= 0)
		conn->tag = tag;
}

static void login_pdu(struct conn *conn)
{
	struct conn_login *l = conn->login;

	if (++l->pdu_count > LIMIT_LOGIN_PDUS) {
		conn_peer_bad(conn, "login without end");
		return;
	}
	l->verdict = login_step(l->login, &l->req, l->data, be24_get(l->req.data_bytes), &l->reply);
	l->in_data = false;
	l->have_bytes = 0;
	if (l->target_reactor && l->target_reactor != conn->reactor)
		conn_step(conn, CONN_EV_HANDOVER);
	else
		conn_login_verdict(conn);
}

/* Login is immediate and there is no window yet: the numbers of the first command (11.13). */
static void send_reply(struct conn *conn)
{
	struct conn_login *l = conn->login;
	struct tx_pdu *pdu = tx_new(conn, l->reply.text_bytes);
	struct wire_login_rsp *rsp;
	uint32_t cmdsn = be32_get(l->req.cmdsn);

	if (!pdu)
		return;
	rsp = (struct wire_login_rsp *)pdu->header;
	*rsp = l->reply.bhs;
	be32_put(&rsp->statsn, conn->statsn++);
	be32_put(&rsp->expcmdsn, cmdsn);
	be32_put(&rsp->maxcmdsn, cmdsn + LIMIT_SESSION_COMMANDS - 1);
	memcpy(pdu->room, l->reply.text, l->reply.text_bytes);
	pdu->data = pdu->room;
	pdu->data_bytes = l->reply.text_bytes;
	tx_queue_plain(conn, pdu);
}

static void refused(struct conn *conn, const char *why)
{
	conn->told = true;
	atomic_fetch_add(&conn->server->logins_refused, 1);
	log_warn("login refused (%s), %s: %s",
		 wire_login_status_name(be16_get(conn->login->reply.bhs.status)), conn_tag(conn),
		 why);
	send_reply(conn);
	conn_step(conn, CONN_EV_REFUSED);
}

static void refuse(struct conn *conn, uint16_t status, const char *why)
{
	login_refuse(conn->login->login, status, &conn->login->reply);
	refused(conn, why);
}

void conn_login_verdict(struct conn *conn)
{
	struct conn_login *l = conn->login;

	make_tag(conn);
	switch (l->verdict) {
	case LOGIN_MORE:
		send_reply(conn);
		if (conn->state == CONN_LOGIN)
			conn_login_recv(conn);
		break;
	case LOGIN_ADMIT: conn_step(conn, CONN_EV_ADMIT); break;
	case LOGIN_REFUSE: refused(conn, login_why(l->login)); break;
	}
}

/* --- between reactors --- */

static void arrive(struct mailbox_msg *msg)
{
	struct conn *conn = CONTAINER_OF(msg, struct conn, handover_msg);
	struct reactor *reactor = conn->login->target_reactor;

	conn->reactor = reactor;
	list_append(&reactor->conns, &conn->node);
	if (reactor->stopping) {
		conn_kick(conn, "stopping");
		return;
	}
	conn_step(conn, CONN_EV_ARRIVED);
}

void conn_handover_try(struct conn *conn)
{
	/* An earlier response may still be on its way. */
	if (!tx_idle(conn))
		return;
	assert(!conn->recv_busy);
	ring_timer_cancel(conn->reactor->ring, &conn->timer);
	ring_task_cancel(&conn->tx_task);
	ring_task_cancel(&conn->finish);
	ring_task_cancel(&conn->resume);
	list_remove(&conn->node);
	conn->handover_msg.run = arrive;
	ring_post(conn->login->target_reactor->ring, &conn->handover_msg);
}

/* --- sessions --- */

static struct session *session_new(struct conn *conn)
{
	const struct login *login = conn->login->login;
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	list_init(&s->node);
	s->conn = conn;
	s->discovery = login_is_discovery(login);
	(void)snprintf(s->initiator, sizeof(s->initiator), "%s", login_initiator_name(login));
	memcpy(s->isid, login_isid(login), sizeof(s->isid));
	s->expcmdsn = be32_get(conn->login->req.cmdsn);
	s->maxcmdsn = s->expcmdsn + LIMIT_SESSION_COMMANDS - 1;
	list_init(&s->held);
	session_tasks_init(s);
	return s;
}

void session_free(struct session *session)
{
	if (!session)
		return;
	assert(session->task_count == 0);
	list_remove(&session->node);
	ring_buf_wait_cancel(&session->buf_waiter);
	session_question_drop(session);
	ffp_held_free(session);
	text_free(session);
	target_conf_unref(session->proven);
	scsi_nexus_free(session->nexus);
	free(session);
}

bool session_is_discovery(const struct session *session)
{
	return session->discovery;
}

/* MaxCmdSN leaves room for what is not answered yet, and never moves back (4.2.2.1). */
uint32_t session_maxcmdsn(struct session *session)
{
	uint32_t used = session->window_used + session->held_count;
	uint32_t room = used < LIMIT_SESSION_COMMANDS ? LIMIT_SESSION_COMMANDS - used : 0;
	uint32_t maxcmdsn = session->expcmdsn + room - 1;

	if (sn32_after(maxcmdsn, session->maxcmdsn))
		session->maxcmdsn = maxcmdsn;
	return session->maxcmdsn;
}

static bool same_initiator(const struct session *a, const struct session *b)
{
	/* iSCSI names are compared byte by byte after their preparation (4.2.7.2). */
	return strcmp(a->initiator, b->initiator) == 0;
}

static bool same_isid(const struct session *a, const struct session *b)
{
	return memcmp(a->isid, b->isid, sizeof(a->isid)) == 0;
}

/* It has had its last answer, or will have no more. */
static bool leaving(const struct session *session)
{
	return session->conn->state != CONN_FULL && session->conn->state != CONN_ADMIT;
}

/* Whether `old` has to end before `session` may begin. */
static bool in_the_way(const struct session *session, const struct session *old)
{
	if (!session->target->conf->shared)
		return true;
	return same_initiator(session, old) && same_isid(session, old);
}

static bool tsih_used(const struct target *target, uint16_t tsih)
{
	list_for_each (node, &target->sessions) {
		if (LIST_ENTRY(node, struct session, node)->tsih == tsih)
			return true;
	}
	return false;
}

static void name_holder(const struct session *session, const struct session *holder,
			char why[WHY_BYTES])
{
	(void)snprintf(
		why, WHY_BYTES,
		"%s is in use by %s (%s), and one session at a time may use it; log that one "
		"out, or make the node --shared",
		session->target->conf->name, holder->initiator, holder->conn->peer);
}

/* A login with a TSIH goes on with the session that has it (6.3.1): 0 or the status. */
static uint16_t check_tsih(struct session *session, uint16_t tsih, uint16_t cid)
{
	list_for_each (node, &session->target->sessions) {
		const struct session *old = LIST_ENTRY(node, struct session, node);

		if (leaving(old) || old->tsih != tsih || !same_initiator(session, old) ||
		    !same_isid(session, old))
			continue;
		/* A second connection: MaxConnections is 1. The same again: the connection is
		 * reinstated, which at ERL 0 ends all tasks, so it is the session anew. */
		if (old->conn->cid != cid)
			return WIRE_LOGIN_TOO_MANY_CONNECTIONS;
		session->tsih = tsih;
		return 0;
	}
	return WIRE_LOGIN_NO_SESSION;
}

/* Who else is there? 0: those in the way have been told to go; or a status, with the reason. */
static uint16_t make_room(struct session *session, char why[WHY_BYTES])
{
	unsigned others = 0;

	list_for_each (node, &session->target->sessions) {
		const struct session *old = LIST_ENTRY(node, struct session, node);

		if (leaving(old))
			continue;
		if (!in_the_way(session, old)) {
			others++;
		} else if (!same_initiator(session, old)) {
			name_holder(session, old, why);
			return WIRE_LOGIN_UNAVAILABLE;
		}
	}
	if (others >= LIMIT_SESSIONS_PER_NODE) {
		(void)snprintf(why, WHY_BYTES, "%s has %u sessions already",
			       session->target->conf->name, others);
		return WIRE_LOGIN_NO_RESOURCES;
	}
	list_for_each (node, &session->target->sessions) {
		struct session *old = LIST_ENTRY(node, struct session, node);

		if (!in_the_way(session, old))
			continue;
		if (!leaving(old)) {
			old->conn->end = SERVER_END_REPLACED;
			conn_kick(old->conn, "a new login from %s takes over", session->conn->peer);
		} else if (old->conn->state == CONN_LINGER) {
			conn_step(old->conn, CONN_EV_KICKED);
		}
	}
	return 0;
}

static void try_begin(struct session *session)
{
	char port[LIMIT_ISCSI_NAME_BYTES + 24];
	const uint8_t *isid = session->isid;

	list_for_each (node, &session->target->sessions) {
		const struct session *old = LIST_ENTRY(node, struct session, node);

		if (old == session)
			break;
		if (in_the_way(session, old))
			return;
	}
	if (session->question)
		return;
	if (session->unrecorded) {
		if (session_ask_record(session) < 0)
			conn_no_memory(session->conn);
		return;
	}
	session->waiting_turn = false;
	(void)snprintf(port, sizeof(port), "%s,i,0x%02x%02x%02x%02x%02x%02x", session->initiator,
		       isid[0], isid[1], isid[2], isid[3], isid[4], isid[5]);
	if (scsi_nexus_new(session->target->device, port, &session->nexus) < 0) {
		conn_no_memory(session->conn);
		return;
	}
	conn_step(session->conn, CONN_EV_LOGGED_IN);
}

void session_recorded(struct session *session, int res)
{
	struct conn *conn = session->conn;

	if (conn->state != CONN_ADMIT)
		return;
	if (res < 0) {
		refuse(conn, WIRE_LOGIN_AUTH_FAILED, ENDED);
		return;
	}
	session->unrecorded = false;
	try_begin(session);
}

/* A session has gone: those that waited for it may begin. */
void target_session_gone(struct target *target)
{
	list_for_each (node, &target->sessions) {
		struct session *session = LIST_ENTRY(node, struct session, node);

		if (session->waiting_turn && session->conn->state == CONN_ADMIT)
			try_begin(session);
	}
	target_check_closing(target);
}

/* The target may have been given other credentials since the login began: 0 or the status. */
static uint16_t check_boot(struct session *session, const struct login *login)
{
	const struct target_boot *boot;

	session->by = login_by(login);
	if (session->by != LOGIN_BY_BOOT)
		return 0;
	memcpy(session->boot_id, login_boot_id(login), sizeof(session->boot_id));
	boot = target_conf_boot(session->target->conf, session->boot_id);
	session->unrecorded = boot && !boot->used;
	return boot ? 0 : WIRE_LOGIN_AUTH_FAILED;
}

static void admit_normal(struct conn *conn, struct session *session)
{
	struct conn_login *l = conn->login;
	uint16_t tsih = login_tsih(l->login), status = 0;
	struct target *target = target_find(conn->reactor, login_target(l->login)->uuid);
	char why[WHY_BYTES] = "";

	if (!target || target->removing) {
		refuse(conn, WIRE_LOGIN_NOT_FOUND, "the target has just been removed");
		return;
	}
	session->target = target;
	if (check_boot(session, l->login)) {
		session->target = NULL;
		refuse(conn, WIRE_LOGIN_AUTH_FAILED, ENDED);
		return;
	}
	if (tsih)
		status = check_tsih(session, tsih, conn->cid);
	if (status) {
		session->target = NULL;
		refuse(conn, status,
		       "it wants to go on with a session that is not there, or with two "
		       "connections");
		return;
	}
	status = make_room(session, why);
	if (status) {
		session->target = NULL;
		refuse(conn, status, why);
		return;
	}
	while (!session->tsih || (!tsih && tsih_used(target, session->tsih)))
		session->tsih = server_next_tsih(conn->server);
	list_append(&target->sessions, &session->node);
	session->waiting_turn = true;
	try_begin(session);
}

static void admit_discovery(struct conn *conn, struct session *session)
{
	const struct conn_login *l = conn->login;
	struct target_conf *proven = login_target(l->login);

	if (login_tsih(l->login)) {
		refuse(conn, WIRE_LOGIN_NO_SESSION, "it wants to go on with a discovery session");
		return;
	}
	if (proven) {
		session->proven = target_conf_ref(proven);
		session->proven_operator = strcmp(proven->operator.name, l->chap_name) == 0;
	}
	session->tsih = server_next_tsih(conn->server);
	conn_step(conn, CONN_EV_LOGGED_IN);
}

void conn_admit(struct conn *conn)
{
	struct session *session = session_new(conn);

	if (!session) {
		refuse(conn, WIRE_LOGIN_NO_RESOURCES, "out of memory");
		return;
	}
	conn->session = session;
	conn->cid = login_cid(conn->login->login);
	if (session->discovery)
		admit_discovery(conn, session);
	else
		admit_normal(conn, session);
}

void conn_login_finish(struct conn *conn)
{
	struct conn_login *l = conn->login;

	login_finish(l->login, conn->session->tsih, &l->reply);
	send_reply(conn);
	conn->params = *login_params(l->login);
	conn->rx.header_digest = conn->params.header_digest;
	conn->rx.data_digest = conn->params.data_digest;
	conn_login_free(conn);
	conn->half_open = false;
	atomic_fetch_sub(&conn->server->half_open, 1);
	atomic_fetch_add(&conn->server->logins_ok, 1);
	if (conn->session->discovery)
		log_debug("%s: logged in", conn_tag(conn));
	else
		log_info("%s: logged in, digests header %s data %s", conn_tag(conn),
			 conn->params.header_digest ? "CRC32C" : "none",
			 conn->params.data_digest ? "CRC32C" : "none");
	if (conn->state != CONN_FULL)
		return;
	if (!conn->session->discovery)
		session_tell_begun(conn->session);
	conn->last_rx_ms = ring_now_ms(conn->reactor->ring);
	conn_watch_timer(conn);
	conn_recv_start(conn);
}
