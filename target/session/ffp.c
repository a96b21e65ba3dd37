/*
 * Full-feature phase: which PDU is taken when (CmdSN, RFC 7143, 4.2.2.1), and to whom it goes.
 * NOP and Logout are answered here.
 *
 * Each PDU is looked at twice: when its header is there, to decide where its payload goes, and
 * when it is complete. Numbered ones outside of the window and duplicates are dropped without a
 * word. One ahead of its turn is held: on a single connection that is a mistake of the peer or
 * follows one we rejected, whose CmdSN is not used up (7.3) and comes again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sn32.h"
#include "session/session_internal.h"

enum mode {
	MODE_DROP,
	MODE_COMMAND,
	MODE_DATA_OUT,
	MODE_OTHER,
	MODE_HOLD,
};

struct held {
	struct list node;
	uint32_t cmdsn;
	bool skip; /* no PDU: counts as received (ABORT TASK, 11.5.1) */
	bool has_ahs;
	struct wire_bhs bhs;
	uint32_t data_bytes;
	uint8_t data[];
};

/* All numbered requests have these here (11.3, 11.5, 11.10, 11.14, 11.18). */
static uint32_t cmdsn_of(const struct wire_bhs *bhs)
{
	return be32_get(((const struct wire_scsi_cmd *)bhs)->cmdsn);
}

static bool is_numbered(uint8_t opcode)
{
	switch (opcode) {
	case WIRE_OP_NOP_OUT:
	case WIRE_OP_SCSI_CMD:
	case WIRE_OP_TMF_REQ:
	case WIRE_OP_TEXT_REQ:
	case WIRE_OP_LOGOUT_REQ: return true;
	default: return false;
	}
}

void ffp_rx_reset(struct conn *conn)
{
	free(conn->rx_data);
	conn->rx_data = NULL;
	conn->rx_task = NULL;
	rx_data_nowhere(&conn->rx);
}

/* --- ahead of their turn --- */

static void held_remove(struct session *session, struct held *held)
{
	list_remove(&held->node);
	session->held_count--;
	session->held_bytes -= held->data_bytes;
	free(held);
}

void ffp_held_free(struct session *session)
{
	while (!list_empty(&session->held))
		held_remove(session, LIST_ENTRY(session->held.next, struct held, node));
}

static struct held *held_command(const struct session *session, uint32_t itt)
{
	list_for_each (node, &session->held) {
		struct held *held = LIST_ENTRY(node, struct held, node);

		if (!held->skip && wire_opcode(&held->bhs) == WIRE_OP_SCSI_CMD &&
		    be32_get(held->bhs.itt) == itt)
			return held;
	}
	return NULL;
}

static bool held_has(const struct session *session, uint32_t cmdsn)
{
	list_for_each (node, &session->held) {
		if (LIST_ENTRY(node, struct held, node)->cmdsn == cmdsn)
			return true;
	}
	return false;
}

/* By CmdSN; unsolicited data behind its command, which has the same. */
static bool hold(struct conn *conn, uint32_t cmdsn, const struct wire_bhs *bhs, const uint8_t *data,
		 uint32_t data_bytes)
{
	struct session *session = conn->session;
	struct list *before = &session->held;
	struct held *held;

	if (session->held_count >= LIMIT_HELD_PDUS ||
	    session->held_bytes + data_bytes > LIMIT_HELD_BYTES) {
		conn_peer_bad(conn, "too many commands ahead of CmdSN %u", session->expcmdsn);
		return false;
	}
	held = malloc(sizeof(*held) + data_bytes);
	if (!held) {
		conn_no_memory(conn);
		return false;
	}
	memset(held, 0, sizeof(*held));
	held->cmdsn = cmdsn;
	held->skip = !bhs;
	if (bhs) {
		held->bhs = *bhs;
		held->has_ahs = conn->rx.ahs != NULL;
	}
	held->data_bytes = data_bytes;
	if (data_bytes)
		memcpy(held->data, data, data_bytes);
	list_for_each (node, &session->held) {
		if (sn32_after(LIST_ENTRY(node, struct held, node)->cmdsn, cmdsn)) {
			before = node;
			break;
		}
	}
	list_append(before, &held->node);
	session->held_count++;
	session->held_bytes += data_bytes;
	return true;
}

/* --- NOP (11.18, 11.19) --- */

static void nop_out(struct conn *conn, const struct wire_nop_out *nop, const uint8_t *data,
		    uint32_t data_bytes)
{
	struct tx_pdu *pdu;
	struct wire_nop_in *in;

	if (be32_get(nop->itt) == WIRE_TAG_NONE) {
		if (conn->ping_out && be32_get(nop->ttt) == conn->ping_ttt) {
			conn->ping_out = false;
			conn->ping_answered = true;
			conn_watch_timer(conn);
		}
		return;
	}
	if (data_bytes > conn->params.max_send_segment_bytes)
		data_bytes = conn->params.max_send_segment_bytes;
	pdu = tx_new(conn, data_bytes);
	if (!pdu)
		return;
	in = (struct wire_nop_in *)pdu->header;
	in->opcode = WIRE_OP_NOP_IN;
	in->flags = WIRE_FINAL;
	in->lun = nop->lun;
	in->itt = nop->itt;
	be32_put(&in->ttt, WIRE_TAG_NONE);
	if (data_bytes)
		memcpy(pdu->room, data, data_bytes);
	pdu->data = pdu->room;
	pdu->data_bytes = data_bytes;
	tx_queue(conn, pdu, TX_SN_CONSUME);
}

void ffp_ping(struct conn *conn)
{
	struct session *session = conn->session;
	struct tx_pdu *pdu = tx_new(conn, 0);
	struct wire_nop_in *in;

	if (!pdu)
		return;
	if (session->next_ttt == WIRE_TAG_NONE)
		session->next_ttt = 0;
	conn->ping_ttt = session->next_ttt++;
	conn->ping_out = true;
	conn->ping_ms = ring_now_ms(conn->reactor->ring);
	in = (struct wire_nop_in *)pdu->header;
	in->opcode = WIRE_OP_NOP_IN;
	in->flags = WIRE_FINAL;
	be32_put(&in->itt, WIRE_TAG_NONE);
	be32_put(&in->ttt, conn->ping_ttt);
	tx_queue(conn, pdu, TX_SN_SHOW);
}

/* --- Logout (11.14) --- */

static void logout_answer(struct conn *conn, const struct wire_logout_req *req,
			  enum wire_logout_response response)
{
	struct tx_pdu *pdu = tx_new(conn, 0);
	struct wire_logout_rsp *rsp;

	if (!pdu)
		return;
	rsp = (struct wire_logout_rsp *)pdu->header;
	rsp->opcode = WIRE_OP_LOGOUT_RSP;
	rsp->flags = WIRE_FINAL;
	rsp->response = (uint8_t)response;
	rsp->itt = req->itt;
	tx_queue(conn, pdu, TX_SN_CONSUME);
}

static void logout(struct conn *conn, const struct wire_logout_req *req)
{
	switch (req->reason & WIRE_LOGOUT_REASON_MASK) {
	case WIRE_LOGOUT_CONNECTION:
		if (be16_get(req->cid) != conn->cid) {
			logout_answer(conn, req, WIRE_LOGOUT_NO_CID);
			return;
		}
		break; /* the only connection is the session */
	case WIRE_LOGOUT_SESSION: break;
	case WIRE_LOGOUT_RECOVERY: logout_answer(conn, req, WIRE_LOGOUT_NO_RECOVERY); return;
	default: tx_reject(conn, WIRE_REJECT_INVALID_FIELD, req); return;
	}
	conn->session->logout_asked = true;
	conn->session->logout_itt = be32_get(req->itt);
	conn->told = true;
	if (conn->session->discovery)
		log_debug("%s: logged out", conn_tag(conn));
	else
		log_info("%s: logged out", conn_tag(conn));
	conn_step(conn, CONN_EV_LOGOUT);
}

/* --- dispatch --- */

static void other(struct conn *conn, const struct wire_bhs *bhs, const uint8_t *data,
		  uint32_t data_bytes)
{
	switch (wire_opcode(bhs)) {
	case WIRE_OP_NOP_OUT:
		nop_out(conn, (const struct wire_nop_out *)bhs, data, data_bytes);
		break;
	case WIRE_OP_TMF_REQ: tmf_request(conn, (const struct wire_tmf_req *)bhs); break;
	case WIRE_OP_TEXT_REQ:
		text_request(conn, (const struct wire_text_req *)bhs, data, data_bytes);
		break;
	case WIRE_OP_LOGOUT_REQ: logout(conn, (const struct wire_logout_req *)bhs); break;
	case WIRE_OP_SNACK: tx_reject(conn, WIRE_REJECT_SNACK, bhs); break; /* 7.1.5: ERL 0 */
	case WIRE_OP_LOGIN_REQ: tx_reject(conn, WIRE_REJECT_PROTOCOL, bhs); break;
	default: tx_reject(conn, WIRE_REJECT_UNSUPPORTED, bhs); break;
	}
}

/* 0, or the reason to reject it; asked before its CmdSN is used up. */
static enum wire_reject_reason objection(const struct conn *conn, const struct wire_bhs *bhs)
{
	const struct session *session = conn->session;
	uint8_t opcode = wire_opcode(bhs);

	/* 4.3: a discovery session knows SendTargets and Logout. */
	if (session->discovery && opcode != WIRE_OP_TEXT_REQ && opcode != WIRE_OP_LOGOUT_REQ)
		return WIRE_REJECT_PROTOCOL;
	if (opcode != WIRE_OP_SCSI_CMD)
		return 0;
	if (be32_get(bhs->itt) == WIRE_TAG_NONE)
		return WIRE_REJECT_INVALID_FIELD;
	if (task_find(session, be32_get(bhs->itt)))
		return WIRE_REJECT_TASK_IN_PROGRESS;
	if (wire_is_immediate(bhs) && session->immediate_count >= LIMIT_IMMEDIATE_COMMANDS)
		return WIRE_REJECT_TOO_MANY_IMMEDIATE;
	return 0;
}

static void use_cmdsn(struct session *session, const struct wire_bhs *bhs)
{
	if (is_numbered(wire_opcode(bhs)) && !wire_is_immediate(bhs))
		session->expcmdsn++;
}

static void held_dispatch(struct conn *conn, const struct held *held)
{
	const struct wire_bhs *bhs = &held->bhs;
	enum wire_reject_reason reason = objection(conn, bhs);
	struct task *task;
	uint8_t *to = NULL;
	uint32_t room = 0;

	if (wire_opcode(bhs) == WIRE_OP_DATA_OUT) {
		const struct wire_data_out *out = (const struct wire_data_out *)bhs;

		task = task_data_header(conn, out, &to, &room);
		if (task && to)
			memcpy(to, held->data, held->data_bytes < room ? held->data_bytes : room);
		if (task)
			task_data_done(conn, task, out, true);
		return;
	}
	if (reason) {
		/* It is gone from its place in the order, so its number must be used up. */
		conn->session->expcmdsn++;
		tx_reject(conn, reason, bhs);
		return;
	}
	use_cmdsn(conn->session, bhs);
	if (wire_opcode(bhs) != WIRE_OP_SCSI_CMD) {
		other(conn, bhs, held->data, held->data_bytes);
		return;
	}
	if (task_command(conn, (const struct wire_scsi_cmd *)bhs, held->has_ahs ? held->data : NULL,
			 false, &task) < 0) {
		conn_no_memory(conn);
		return;
	}
	if (task->buf && held->data_bytes)
		memcpy(task->buf->data, held->data,
		       held->data_bytes < task->want_bytes ? held->data_bytes : task->want_bytes);
	task_command_done(task, (const struct wire_scsi_cmd *)bhs, true);
}

/* Those whose turn has come. */
static void release_held(struct conn *conn)
{
	struct session *session = conn->session;

	while (!list_empty(&session->held) && conn->state == CONN_FULL) {
		struct held *held = LIST_ENTRY(session->held.next, struct held, node);
		bool data = !held->skip && wire_opcode(&held->bhs) == WIRE_OP_DATA_OUT;

		if (sn32_after(held->cmdsn, session->expcmdsn))
			return;
		if (held->skip) {
			if (held->cmdsn == session->expcmdsn)
				session->expcmdsn++;
		} else if (data || held->cmdsn == session->expcmdsn) {
			held_dispatch(conn, held);
		}
		held_remove(session, held);
	}
}

int ffp_skip_cmdsn(struct conn *conn, uint32_t cmdsn)
{
	struct session *session = conn->session;

	if (sn32_before(cmdsn, session->expcmdsn) || sn32_after(cmdsn, session->maxcmdsn))
		return -EINVAL;
	/* Held: it has come, and is forgotten with its data. */
	list_for_each (node, &session->held) {
		struct held *held = LIST_ENTRY(node, struct held, node);

		if (held->cmdsn != cmdsn)
			continue;
		if (held->skip)
			return -EINVAL;
		if (wire_opcode(&held->bhs) == WIRE_OP_DATA_OUT)
			held_remove(session, held);
		else
			held->skip = true;
	}
	if (!held_has(session, cmdsn) && !hold(conn, cmdsn, NULL, NULL, 0))
		return -ENOMEM;
	release_held(conn);
	return 0;
}

/* --- the two looks --- */

static bool payload_to_memory(struct conn *conn, uint32_t bytes)
{
	assert(!conn->rx_data);
	if (bytes) {
		conn->rx_data = malloc(bytes);
		if (!conn->rx_data) {
			conn_no_memory(conn);
			return false;
		}
	}
	rx_data_to(&conn->rx, conn->rx_data, bytes);
	return true;
}

static bool reject_header(struct conn *conn, enum wire_reject_reason reason)
{
	tx_reject(conn, reason, &conn->rx.bhs);
	conn->rx_mode = MODE_DROP;
	rx_data_to(&conn->rx, NULL, 0);
	return true;
}

static bool data_out_header(struct conn *conn)
{
	const struct wire_data_out *out = (const struct wire_data_out *)&conn->rx.bhs;
	uint8_t *to = NULL;
	uint32_t room = 0;

	if (conn->session->discovery)
		return reject_header(conn, WIRE_REJECT_PROTOCOL);
	if (be32_get(out->ttt) == WIRE_TAG_NONE &&
	    held_command(conn->session, be32_get(out->itt))) {
		conn->rx_mode = MODE_HOLD;
		return payload_to_memory(conn, be24_get(out->data_bytes));
	}
	conn->rx_task = task_data_header(conn, out, &to, &room);
	conn->rx_mode = conn->rx_task ? MODE_DATA_OUT : MODE_DROP;
	rx_data_to(&conn->rx, to, room);
	return true;
}

static bool command_header(struct conn *conn)
{
	const struct wire_scsi_cmd *cmd = (const struct wire_scsi_cmd *)&conn->rx.bhs;
	struct task *task;
	int r = task_command(conn, cmd, conn->rx.ahs, true, &task);

	if (r == -EAGAIN) {
		ring_buf_wait(conn->reactor->ring, &conn->buf_waiter);
		pressure_watch(conn->reactor);
		conn_stall(conn);
		return false;
	}
	if (r < 0) {
		conn_no_memory(conn);
		return false;
	}
	use_cmdsn(conn->session, &conn->rx.bhs);
	conn->rx_mode = MODE_COMMAND;
	conn->rx_task = task;
	rx_data_to(&conn->rx, task->buf ? task->buf->data : NULL, task->want_bytes);
	return true;
}

bool ffp_header(struct conn *conn)
{
	const struct wire_bhs *bhs = &conn->rx.bhs;
	struct session *session = conn->session;
	uint8_t opcode = wire_opcode(bhs);
	uint32_t bytes = wire_data_bytes(bhs);
	enum wire_reject_reason reason;

	/* 7.7: what is longer than we said we take is a format error. */
	if (bytes > conn->params.max_recv_segment_bytes) {
		conn_peer_bad(conn, "%s with %u bytes of data, %u are allowed",
			      wire_opcode_name(opcode), bytes, conn->params.max_recv_segment_bytes);
		return false;
	}
	if (opcode == WIRE_OP_DATA_OUT)
		return data_out_header(conn);
	if (is_numbered(opcode) && !wire_is_immediate(bhs)) {
		uint32_t cmdsn = cmdsn_of(bhs);

		if (sn32_before(cmdsn, session->expcmdsn) ||
		    sn32_after(cmdsn, session_maxcmdsn(session)) || held_has(session, cmdsn)) {
			log_debug("%s: CmdSN %u outside of [%u, %u] or again", conn_tag(conn),
				  cmdsn, session->expcmdsn, session->maxcmdsn);
			conn->rx_mode = MODE_DROP;
			rx_data_to(&conn->rx, NULL, 0);
			return true;
		}
		if (cmdsn != session->expcmdsn) {
			conn->rx_mode = MODE_HOLD;
			return payload_to_memory(conn, bytes);
		}
	}
	reason = objection(conn, bhs);
	if (reason)
		return reject_header(conn, reason);
	if (opcode == WIRE_OP_SCSI_CMD)
		return command_header(conn);
	conn->rx_mode = MODE_OTHER;
	if (opcode == WIRE_OP_NOP_OUT || opcode == WIRE_OP_TEXT_REQ)
		return payload_to_memory(conn, bytes);
	rx_data_to(&conn->rx, NULL, 0);
	return true;
}

static void pdu_held(struct conn *conn, const struct wire_bhs *bhs, bool digest_ok)
{
	const struct held *command = held_command(conn->session, be32_get(bhs->itt));

	if (!digest_ok)
		tx_reject(conn, WIRE_REJECT_DATA_DIGEST, bhs);
	else if (wire_opcode(bhs) != WIRE_OP_DATA_OUT)
		(void)hold(conn, cmdsn_of(bhs), bhs, conn->rx_data, wire_data_bytes(bhs));
	else if (command)
		(void)hold(conn, command->cmdsn, bhs, conn->rx_data, wire_data_bytes(bhs));
}

void ffp_pdu(struct conn *conn)
{
	const struct wire_bhs *bhs = &conn->rx.bhs;
	struct task *task = TAKE_PTR(conn->rx_task);
	bool digest_ok = conn->rx.digest_ok;

	switch ((enum mode)conn->rx_mode) {
	case MODE_DROP: break;
	case MODE_HOLD: pdu_held(conn, bhs, digest_ok); break;
	case MODE_COMMAND:
		if (!digest_ok)
			tx_reject(conn, WIRE_REJECT_DATA_DIGEST, bhs);
		/* NULL: aborted while its data came */
		if (task)
			task_command_done(task, (const struct wire_scsi_cmd *)bhs, digest_ok);
		break;
	case MODE_DATA_OUT:
		if (task)
			task_data_done(conn, task, (const struct wire_data_out *)bhs, digest_ok);
		break;
	case MODE_OTHER:
		if (!digest_ok) {
			tx_reject(conn, WIRE_REJECT_DATA_DIGEST, bhs);
			break;
		}
		use_cmdsn(conn->session, bhs);
		other(conn, bhs, conn->rx_data, conn->rx_data ? wire_data_bytes(bhs) : 0);
		break;
	}
	free(conn->rx_data);
	conn->rx_data = NULL;
	if (conn->state == CONN_FULL)
		release_held(conn);
}
