/*
 * A connection from accept to close: its state machine, receiving in full-feature phase, and its
 * timer. What login PDUs say is admit.c's, what full-feature PDUs say is ffp.c's.
 *
 *              accept
 *                |
 *                v   names a target of another reactor
 *             LOGIN <------------------------------> HANDOVER
 *              |  |
 *   parameters |  | refused
 *       agreed |  +---------------------------------------+
 *              v                      refused             v     all sent         peer closed
 *            ADMIT -----------------------------------> FLUSH ------------> LINGER ---------+
 *              | nobody in the way                        ^                                 |
 *              v          logout, removal, stop           | tasks done                      |
 *            FULL -----------------------------------> LOGOUT                               |
 *              |                                                                            v
 *              +---- lost, FIN, peer's mistake, kicked; likewise from all others -----> CLOSING
 *
 * FLUSH sends what is queued, LINGER waits for the peer's FIN so that a reset can't overtake
 * the last answer. CLOSING cancels what is in flight and waits for it and for all tasks; only
 * then the connection is freed, always from the loop and never from inside conn_step.
 *
 * Silent peers. A peer that has been silent for ping_idle_ms is asked by a NOP-In. Only one that
 * has answered such a ping before is dropped for not answering: iPXE and EDK2 never answer,
 * and EDK2 reads its socket only while a command runs. Dead peers of that kind are found by
 * TCP: keep-alive probes, and TCP_USER_TIMEOUT for what is sent but never acknowledged.
 *
 * Linux closes with RST, not FIN: a reset is a normal end and no error.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/session_internal.h"

/* Answers that wait for a peer that does not read: beyond either, nothing more is taken from it. */
#define TX_BYTES_MAX  (2 * LIMIT_SESSION_TX_BYTES)
#define TX_PDUS_MAX   16384
#define TX_PDUS_AGAIN 8192

#define KEEPALIVE_IDLE_S     60
#define KEEPALIVE_INTERVAL_S 15
#define KEEPALIVE_PROBES     4

static const char *state_name(enum conn_state state)
{
	switch (state) {
	case CONN_LOGIN: return "login";
	case CONN_HANDOVER: return "handover";
	case CONN_ADMIT: return "admit";
	case CONN_FULL: return "full";
	case CONN_LOGOUT: return "logout";
	case CONN_FLUSH: return "flush";
	case CONN_LINGER: return "linger";
	case CONN_CLOSING: return "closing";
	}
	return "?";
}

static const char *event_name(enum conn_event event)
{
	switch (event) {
	case CONN_EV_HANDOVER: return "handover";
	case CONN_EV_ARRIVED: return "arrived";
	case CONN_EV_ADMIT: return "admit";
	case CONN_EV_LOGGED_IN: return "logged in";
	case CONN_EV_REFUSED: return "refused";
	case CONN_EV_LOGOUT: return "logout";
	case CONN_EV_TASKS_DONE: return "tasks done";
	case CONN_EV_FLUSHED: return "flushed";
	case CONN_EV_FIN: return "fin";
	case CONN_EV_LOST: return "lost";
	case CONN_EV_PEER_BAD: return "peer bad";
	case CONN_EV_KICKED: return "kicked";
	case CONN_EV_NO_MEMORY: return "no memory";
	}
	return "?";
}

const char *conn_tag(const struct conn *conn)
{
	return conn->tag ? conn->tag : conn->peer;
}

bool conn_is_full(const struct conn *conn)
{
	return conn->state == CONN_FULL;
}

/* What an end in full-feature phase is told as; whoever knows better has said so in conn->end. */
static enum server_end end_of(const struct conn *conn, enum conn_event event)
{
	if (conn->end != SERVER_END_NOT_YET)
		return conn->end;
	switch (event) {
	case CONN_EV_LOGOUT:
		return conn->session->logout_asked ? SERVER_END_LOGOUT : SERVER_END_TARGET;
	case CONN_EV_FIN: return SERVER_END_CLOSED;
	case CONN_EV_PEER_BAD:
	case CONN_EV_NO_MEMORY: return SERVER_END_BROKEN;
	case CONN_EV_KICKED: return conn->reactor->stopping ? SERVER_END_TARGET : SERVER_END_LOST;
	default: return SERVER_END_LOST;
	}
}

static void tell_end(struct conn *conn, enum conn_event event)
{
	if (conn->session)
		session_tell_ended(conn->session, end_of(conn, event));
}

/* --- the actions of the machine --- */

static void enter_login(struct conn *conn)
{
	conn_watch_timer(conn);
	conn_login_verdict(conn);
}

static void enter_logout(struct conn *conn)
{
	conn_watch_timer(conn);
	ffp_rx_reset(conn);
	/* What has not reached SCSI ends without an answer (11.14); what has is waited for. */
	session_tasks_quiesce(conn->session);
	conn_tasks_changed(conn);
}

static void answer_logout(struct conn *conn)
{
	struct tx_pdu *pdu;
	struct wire_logout_rsp *rsp;

	conn_watch_timer(conn);
	if (conn->session->logout_asked) {
		pdu = tx_new(conn, 0);
		if (!pdu)
			return;
		rsp = (struct wire_logout_rsp *)pdu->header;
		rsp->opcode = WIRE_OP_LOGOUT_RSP;
		rsp->flags = WIRE_FINAL;
		rsp->response = WIRE_LOGOUT_CLOSED;
		be32_put(&rsp->itt, conn->session->logout_itt);
		be16_put(&rsp->time2wait_s, (uint16_t)conn->params.time2wait_s);
		be16_put(&rsp->time2retain_s, 0);
		tx_queue(conn, pdu, TX_SN_CONSUME);
	}
	ring_defer(conn->reactor->ring, &conn->finish);
}

static void enter_flush(struct conn *conn)
{
	conn_watch_timer(conn);
	ring_defer(conn->reactor->ring, &conn->finish);
}

static void enter_linger(struct conn *conn)
{
	conn_watch_timer(conn);
	(void)shutdown(conn->fd, SHUT_WR);
	if (!conn->recv_busy)
		conn_recv_start(conn);
}

static void enter_closing(struct conn *conn)
{
	ring_timer_cancel(conn->reactor->ring, &conn->timer);
	(void)shutdown(conn->fd, SHUT_RDWR);
	if (conn->recv_busy)
		ring_cancel(conn->reactor->ring, &conn->recv_op);
	if (conn->send_busy)
		ring_cancel(conn->reactor->ring, &conn->send_op);
	ring_buf_wait_cancel(&conn->buf_waiter);
	ring_defer(conn->reactor->ring, &conn->finish);
}

static void still_closing(struct conn *conn)
{
	ring_defer(conn->reactor->ring, &conn->finish);
}

static void nothing(struct conn *conn)
{
	(void)conn;
}

static const struct conn_edge {
	enum conn_state from;
	enum conn_event event;
	enum conn_state to;
	void (*action)(struct conn *conn);
} conn_edges[] = {
	/* The states of RFC 7143, 8.1.2 that these stand for: S3 LOGIN..ADMIT (IN_LOGIN), S5 FULL
	 * (LOGGED_IN), S6 LOGOUT (IN_LOGOUT), S1 gone (FREE). */
	{CONN_LOGIN, CONN_EV_HANDOVER, CONN_HANDOVER, conn_handover_try},
	{CONN_HANDOVER, CONN_EV_ARRIVED, CONN_LOGIN, enter_login},
	{CONN_LOGIN, CONN_EV_ADMIT, CONN_ADMIT, conn_admit},
	{CONN_ADMIT, CONN_EV_LOGGED_IN, CONN_FULL, conn_login_finish}, /* T5 */
	{CONN_LOGIN, CONN_EV_REFUSED, CONN_FLUSH, enter_flush},        /* T7 */
	{CONN_ADMIT, CONN_EV_REFUSED, CONN_FLUSH, enter_flush},        /* T7 */
	{CONN_FULL, CONN_EV_LOGOUT, CONN_LOGOUT, enter_logout},        /* T9, T10 */
	{CONN_LOGOUT, CONN_EV_LOGOUT, CONN_LOGOUT, nothing},
	{CONN_LOGOUT, CONN_EV_TASKS_DONE, CONN_FLUSH, answer_logout}, /* T13 */
	{CONN_FLUSH, CONN_EV_FLUSHED, CONN_LINGER, enter_linger},
	{CONN_FLUSH, CONN_EV_FIN, CONN_FLUSH, nothing},
	{CONN_FLUSH, CONN_EV_LOGOUT, CONN_FLUSH, nothing},
	{CONN_LINGER, CONN_EV_LOGOUT, CONN_LINGER, nothing},
};

void conn_step(struct conn *conn, enum conn_event event)
{
	enum conn_state from = conn->state;

	ASSERT_RING_THREAD(conn->reactor->ring);
	if (from == CONN_CLOSING) {
		still_closing(conn);
		return;
	}
	for (size_t i = 0; i < ARRAY_COUNT(conn_edges); i++) {
		const struct conn_edge *edge = &conn_edges[i];

		if (edge->from != from || edge->event != event)
			continue;
		conn->state = edge->to;
		if (from == CONN_FULL)
			tell_end(conn, event);
		log_debug("%s: %s, %s -> %s", conn_tag(conn), state_name(from), event_name(event),
			  state_name(edge->to));
		edge->action(conn);
		return;
	}
	/* Everything else ends the connection (T7, T8, T15 to T18). */
	conn->state = CONN_CLOSING;
	tell_end(conn, event);
	log_debug("%s: %s, %s -> %s", conn_tag(conn), state_name(from), event_name(event),
		  state_name(conn->state));
	if (!conn->told && conn->session && from == CONN_FULL) {
		conn->told = true;
		log_info("%s: connection %s", conn_tag(conn),
			 event == CONN_EV_FIN ? "closed by the initiator" : "lost");
	}
	enter_closing(conn);
}

void conn_peer_bad(struct conn *conn, const char *format, ...)
{
	char text[256];
	va_list args;

	if (conn->state == CONN_CLOSING)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	conn->told = true;
	atomic_fetch_add(&conn->server->protocol_errors, 1);
	log_warn("%s: connection ended: the initiator broke the protocol: %s", conn_tag(conn),
		 text);
	conn_step(conn, CONN_EV_PEER_BAD);
}

void conn_kick(struct conn *conn, const char *format, ...)
{
	char text[512];
	va_list args;

	if (conn->state == CONN_CLOSING)
		return;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	conn->told = true;
	log_info("%s: connection ended: %s", conn_tag(conn), text);
	conn_step(conn, CONN_EV_KICKED);
}

void conn_no_memory(struct conn *conn)
{
	if (conn->state == CONN_CLOSING)
		return;
	conn->told = true;
	log_error("%s: connection ended: out of memory", conn_tag(conn));
	conn_step(conn, CONN_EV_NO_MEMORY);
}

/* --- the end --- */

static void conn_free(struct conn *conn)
{
	struct session *session = conn->session;
	struct target *target = session ? session->target : NULL;
	struct reactor *reactor = conn->reactor;

	assert(!conn->recv_busy && !conn->send_busy);
	list_remove(&conn->node);
	ring_task_cancel(&conn->finish);
	ring_task_cancel(&conn->tx_task);
	ring_task_cancel(&conn->resume);
	ring_timer_cancel(reactor->ring, &conn->timer);
	ring_buf_wait_cancel(&conn->buf_waiter);
	close(conn->fd);
	if (conn->half_open)
		atomic_fetch_sub(&conn->server->half_open, 1);
	atomic_fetch_sub(&conn->server->connections_open, 1);
	if (session) {
		reactor->commands += session->commands;
		reactor->read_bytes += session->bytes_read;
		reactor->written_bytes += session->bytes_written;
	}
	ffp_rx_reset(conn);
	rx_done(&conn->rx);
	conn_login_free(conn);
	free(conn->hold);
	free(conn->tag);
	session_free(session);
	free(conn);
	if (target)
		target_session_gone(target);
	reactor_check_stopped(reactor);
}

/* What could not be done from inside a completion. */
static void finish_run(struct ring_task *task)
{
	struct conn *conn = CONTAINER_OF(task, struct conn, finish);

	if (conn->state == CONN_FLUSH && tx_idle(conn)) {
		conn_step(conn, CONN_EV_FLUSHED);
		return;
	}
	if (conn->state != CONN_CLOSING)
		return;
	if (conn->session && !conn->session->ending) {
		conn->session->ending = true;
		ffp_rx_reset(conn);
		session_tasks_abort(conn->session);
		if (conn->session->target)
			tmf_session_gone(conn->session);
	}
	if (conn->recv_busy || conn->send_busy)
		return;
	tx_drop_all(conn);
	if (conn->session && conn->session->task_count > 0)
		return;
	conn_free(conn);
}

void conn_tasks_changed(struct conn *conn)
{
	struct session *session = conn->session;

	if (conn->state == CONN_CLOSING) {
		ring_defer(conn->reactor->ring, &conn->finish);
		return;
	}
	if (conn->state == CONN_LOGOUT && list_empty(&session->tasks))
		conn_step(conn, CONN_EV_TASKS_DONE);
}

void conn_sent(struct conn *conn)
{
	if (conn->state == CONN_HANDOVER) {
		conn_handover_try(conn);
		return;
	}
	if (conn->state == CONN_FLUSH && tx_idle(conn))
		ring_defer(conn->reactor->ring, &conn->finish);
	if (conn->stalled && conn->tx_bytes < LIMIT_SESSION_TX_BYTES &&
	    conn->tx_count < TX_PDUS_AGAIN)
		ring_defer(conn->reactor->ring, &conn->resume);
	if (conn->session && conn->state == CONN_FULL)
		session_pump(conn->session);
}

/* --- receiving in full-feature phase --- */

static void recv_done(struct ring_op *op, int res);

void conn_recv_start(struct conn *conn)
{
	assert(!conn->recv_busy);
	conn->recv_op.done = recv_done;
	conn->recv_busy = true;
	ring_recv_multishot(conn->reactor->ring, &conn->recv_op, conn->fd);
}

static bool hold_append(struct conn *conn, const uint8_t *data, size_t bytes)
{
	if (bytes == 0)
		return true;
	if (conn->hold_bytes + bytes > LIMIT_HOLD_BYTES) {
		conn_kick(conn, "more arrived than can be held");
		return false;
	}
	if (conn->hold_bytes + bytes > conn->hold_room) {
		size_t room = conn->hold_bytes + bytes + LIMIT_RECV_BUFFER_BYTES;
		uint8_t *hold = realloc(conn->hold, room);

		if (!hold) {
			conn_no_memory(conn);
			return false;
		}
		conn->hold = hold;
		conn->hold_room = room;
	}
	memcpy(conn->hold + conn->hold_bytes, data, bytes);
	conn->hold_bytes += bytes;
	return true;
}

static void input(struct conn *conn, const uint8_t *data, size_t bytes)
{
	for (;;) {
		enum rx_event event;
		size_t n = rx_feed(&conn->rx, data, bytes, &event);

		data += n;
		bytes -= n;
		switch (event) {
		case RX_EV_MORE: return;
		case RX_EV_HEADER:
			if (!ffp_header(conn) && conn->state == CONN_FULL)
				assert(conn->stalled);
			break;
		case RX_EV_PDU:
			ffp_pdu(conn);
			if ((conn->tx_bytes > TX_BYTES_MAX || conn->tx_count > TX_PDUS_MAX) &&
			    conn->state == CONN_FULL)
				conn_stall(conn);
			break;
		case RX_EV_BAD_HEADER: conn_peer_bad(conn, "wrong header digest"); break;
		case RX_EV_NO_MEMORY: conn_no_memory(conn); break;
		}
		if (conn->state != CONN_FULL)
			return;
		if (conn->stalled) {
			(void)hold_append(conn, data, bytes);
			return;
		}
	}
}

void conn_stall(struct conn *conn)
{
	if (conn->stalled)
		return;
	conn->stalled = true;
	if (conn->recv_busy)
		ring_cancel(conn->reactor->ring, &conn->recv_op);
}

void conn_unstall(struct conn *conn)
{
	uint8_t *AUTO_FREE held = TAKE_PTR(conn->hold);
	size_t bytes = conn->hold_bytes;

	if (!conn->stalled || conn->state != CONN_FULL)
		return;
	conn->stalled = false;
	conn->hold_bytes = conn->hold_room = 0;
	input(conn, held ? held : (const uint8_t *)"", bytes);
	if (conn->state == CONN_FULL && !conn->stalled && !conn->recv_busy)
		conn_recv_start(conn);
}

static void resume_run(struct ring_task *task)
{
	conn_unstall(CONTAINER_OF(task, struct conn, resume));
}

static void buf_ready(struct ring_buf_waiter *waiter)
{
	conn_unstall(CONTAINER_OF(waiter, struct conn, buf_waiter));
}

static void recv_done(struct ring_op *op, int res)
{
	struct conn *conn = CONTAINER_OF(op, struct conn, recv_op);

	if (!op->more)
		conn->recv_busy = false;
	if (conn->state == CONN_CLOSING) {
		conn_step(conn, CONN_EV_LOST);
		return;
	}
	if (res == 0) {
		conn_step(conn, CONN_EV_FIN);
		return;
	}
	if (res < 0 && res != -ENOBUFS && res != -ECANCELED && res != -EINTR) {
		log_debug("%s: receive: %s", conn_tag(conn), strerror(-res));
		conn_step(conn, CONN_EV_LOST);
		return;
	}
	if (res > 0 && conn->state == CONN_FULL) {
		conn->last_rx_ms = ring_now_ms(conn->reactor->ring);
		if (conn->stalled)
			(void)hold_append(conn, op->data, (size_t)res);
		else
			input(conn, op->data, (size_t)res);
	}
	/* The kernel may end a multishot at any time; in the other states we only wait for FIN. */
	if (!conn->recv_busy && conn->state != CONN_CLOSING &&
	    !(conn->state == CONN_FULL && conn->stalled))
		conn_recv_start(conn);
}

/* --- time --- */

static uint64_t ping_idle_ms(const struct conn *conn)
{
	return conn->server->config.ping_idle_ms;
}

static uint64_t until(uint64_t due_ms, uint64_t now_ms)
{
	return due_ms > now_ms ? due_ms - now_ms : 0;
}

/* When the connection has to be looked at again. */
static uint64_t next_look_ms(struct conn *conn, uint64_t now_ms)
{
	uint64_t ms, data_ms;

	switch (conn->state) {
	case CONN_LOGIN:
	case CONN_HANDOVER:
	case CONN_ADMIT: return until(conn->login_deadline_ms, now_ms);
	case CONN_FULL: break;
	case CONN_LOGOUT: return LIMIT_DATA_OUT_MS;
	case CONN_FLUSH:
	case CONN_LINGER:
	case CONN_CLOSING: return LIMIT_LINGER_MS;
	}
	if (conn->session->discovery)
		return until(conn->last_rx_ms + LIMIT_DISCOVERY_IDLE_MS, now_ms);
	if (conn->ping_out)
		ms = until(conn->ping_ms + LIMIT_PING_ANSWER_MS, now_ms);
	else
		ms = until(conn->last_rx_ms + ping_idle_ms(conn), now_ms);
	/* Data that is awaited may become overdue before the next ping. */
	if (conn->ping_useless || ms > LIMIT_DATA_OUT_MS)
		ms = LIMIT_DATA_OUT_MS;
	data_ms = session_data_due_ms(conn->session, now_ms);
	return ms < data_ms ? ms : data_ms;
}

void conn_watch_timer(struct conn *conn)
{
	uint64_t now_ms = ring_now_ms(conn->reactor->ring);

	if (ring_timer_arm(conn->reactor->ring, &conn->timer, next_look_ms(conn, now_ms) + 1) < 0)
		conn_no_memory(conn);
}

static void look_after_peer(struct conn *conn, uint64_t now_ms)
{
	if (conn->ping_out) {
		if (now_ms < conn->ping_ms + LIMIT_PING_ANSWER_MS)
			return;
		conn->ping_out = false;
		if (conn->last_rx_ms > conn->ping_ms)
			return; /* it lives, whatever it thinks of pings */
		if (conn->ping_answered)
			conn_kick(conn, "the initiator has stopped answering");
		else
			conn->ping_useless = true; /* from now on TCP looks after it */
		return;
	}
	if (!conn->ping_useless && now_ms >= conn->last_rx_ms + ping_idle_ms(conn))
		ffp_ping(conn);
}

static void timer_fire(struct ring_timer *timer)
{
	struct conn *conn = CONTAINER_OF(timer, struct conn, timer);
	uint64_t now_ms = ring_now_ms(conn->reactor->ring);

	switch (conn->state) {
	case CONN_LOGIN:
	case CONN_HANDOVER:
	case CONN_ADMIT: conn_kick(conn, "the login took too long"); return;
	case CONN_FULL: break;
	case CONN_LOGOUT:
	case CONN_FLUSH:
	case CONN_LINGER:
	case CONN_CLOSING: conn_step(conn, CONN_EV_KICKED); return;
	}
	if (conn->session->discovery) {
		if (now_ms >= conn->last_rx_ms + LIMIT_DISCOVERY_IDLE_MS)
			conn_kick(conn, "discovery session idle");
	} else if (session_data_due_ms(conn->session, now_ms) == 0 && !conn->stalled) {
		conn_kick(conn, "data asked for by an R2T did not come");
	} else {
		look_after_peer(conn, now_ms);
	}
	if (conn->state == CONN_FULL)
		conn_watch_timer(conn);
}

/* --- the beginning --- */

static void set_option(int fd, int level, int option, int value)
{
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

/* Fails on sockets that are no TCP (tests); that is harmless. */
static void set_options(int fd)
{
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, LIMIT_UNSENT_MS);
}

void conn_accepted(struct reactor *reactor, int fd)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	struct sockaddr_storage peer = {0};
	socklen_t bytes = sizeof(peer);

	ASSERT_RING_THREAD(reactor->ring);
	if (!conn) {
		log_error("connection refused: out of memory");
		close(fd);
		return;
	}
	conn->server = reactor->server;
	conn->reactor = reactor;
	conn->fd = fd;
	conn->state = CONN_LOGIN;
	conn->half_open = true;
	atomic_fetch_add(&conn->server->half_open, 1);
	atomic_fetch_add(&conn->server->connections_open, 1);
	atomic_fetch_add(&conn->server->accepted, 1);
	set_options(fd);
	if (getpeername(fd, (struct sockaddr *)&peer, &bytes) == 0)
		address_format(&peer, conn->peer);
	else /* reset before we came to look: log lines want a subject all the same */
		(void)snprintf(conn->peer, sizeof(conn->peer), "a peer that is gone");
	bytes = sizeof(conn->local);
	(void)getsockname(fd, (struct sockaddr *)&conn->local, &bytes);
	conn->connected_ms = ring_now_ms(reactor->ring);
	conn->login_deadline_ms = conn->connected_ms + conn->server->config.login_timeout_ms;
	conn->params = wire_params_default();
	conn->statsn = 1;
	rx_init(&conn->rx);
	tx_init(conn);
	ring_timer_init(&conn->timer, timer_fire);
	ring_task_init(&conn->finish, finish_run);
	ring_task_init(&conn->resume, resume_run);
	ring_buf_waiter_init(&conn->buf_waiter, buf_ready);
	list_append(&reactor->conns, &conn->node);
	log_debug("%s: connected", conn_tag(conn));
	conn_watch_timer(conn);
	if (conn_login_begin(conn) < 0)
		conn_no_memory(conn);
	else
		conn_login_recv(conn);
}
