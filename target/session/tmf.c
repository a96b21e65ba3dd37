/*
 * Task management (RFC 7143, 4.2.3, 11.5, 11.6). A function is answered when the last task it
 * affects has really ended: file I/O can't be called back, and after the answer no write of an
 * aborted task may land. Tasks that SCSI does not have yet end at once.
 *
 * Resets change the unit's state at once and reach all sessions of the target; whose tasks were
 * aborted by another session's function hears of it by a unit attention.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/sn32.h"
#include "session/session_internal.h"

struct tmf {
	struct list node;        /* target->tmfs */
	struct session *session; /* who asked; NULL: gone */
	uint8_t function;
	uint32_t itt, ref_itt;
	uint64_t lun;
};

static void answer(struct conn *conn, uint32_t itt, enum wire_tmf_response response)
{
	struct tx_pdu *pdu = tx_new(conn, 0);
	struct wire_tmf_rsp *rsp;

	if (!pdu)
		return;
	rsp = (struct wire_tmf_rsp *)pdu->header;
	rsp->opcode = WIRE_OP_TMF_RSP;
	rsp->flags = WIRE_FINAL;
	rsp->response = (uint8_t)response;
	be32_put(&rsp->itt, itt);
	tx_queue(conn, pdu, TX_SN_CONSUME);
}

static bool affects(const struct tmf *tmf, const struct task *task)
{
	switch (tmf->function) {
	case WIRE_TMF_ABORT_TASK: return task->session == tmf->session && task->itt == tmf->ref_itt;
	case WIRE_TMF_ABORT_TASK_SET:
		return task->session == tmf->session && task->scsi.lun == tmf->lun;
	case WIRE_TMF_CLEAR_TASK_SET:
	case WIRE_TMF_LUN_RESET: return task->scsi.lun == tmf->lun;
	case WIRE_TMF_TARGET_WARM_RESET:
	case WIRE_TMF_TARGET_COLD_RESET: return true;
	default: return false;
	}
}

static void abort_affected(const struct tmf *tmf, struct target *target)
{
	list_for_each (session_node, &target->sessions) {
		struct session *session = LIST_ENTRY(session_node, struct session, node);
		bool any = false;

		list_for_each (node, &session->tasks) {
			struct task *task = LIST_ENTRY(node, struct task, node);

			if (!affects(tmf, task))
				continue;
			any = true;
			task_abort(task);
		}
		if (any && session != tmf->session && tmf->function == WIRE_TMF_CLEAR_TASK_SET &&
		    session->nexus)
			scsi_nexus_commands_cleared(session->nexus, tmf->lun);
		session_pump(session);
	}
}

/* Aborted ones that SCSI still has. Tasks that came later are none of ours. */
static bool waits(const struct tmf *tmf, const struct target *target)
{
	list_for_each (session_node, &target->sessions) {
		const struct session *session = LIST_ENTRY(session_node, struct session, node);

		list_for_each (node, &session->tasks) {
			const struct task *task = LIST_ENTRY(node, struct task, node);

			if (task->aborted && affects(tmf, task))
				return true;
		}
	}
	return false;
}

/* 11.5.1: after a cold reset all connections go; the one who asked hears the answer first. */
static void drop_sessions(struct target *target)
{
	list_for_each (node, &target->sessions) {
		struct session *session = LIST_ENTRY(node, struct session, node);

		if (session->conn->state != CONN_FULL)
			continue;
		log_info("%s: connection ended: target cold reset", conn_tag(session->conn));
		session->conn->told = true;
		conn_step(session->conn, CONN_EV_LOGOUT);
	}
}

void tmf_check(struct target *target)
{
	list_for_each (node, &target->tmfs) {
		struct tmf *tmf = LIST_ENTRY(node, struct tmf, node);
		struct session *session = tmf->session;

		if (waits(tmf, target))
			continue;
		list_remove(&tmf->node);
		if (session && conn_is_full(session->conn)) {
			session->immediate_count--;
			answer(session->conn, tmf->itt, WIRE_TMF_COMPLETE);
		}
		if (tmf->function == WIRE_TMF_TARGET_COLD_RESET)
			drop_sessions(target);
		free(tmf);
	}
}

void tmf_session_gone(struct session *session)
{
	list_for_each (node, &session->target->tmfs) {
		struct tmf *tmf = LIST_ENTRY(node, struct tmf, node);

		if (tmf->session != session)
			continue;
		/* A reset goes on for the others; nobody hears of the rest. */
		tmf->session = NULL;
		if (tmf->function == WIRE_TMF_ABORT_TASK ||
		    tmf->function == WIRE_TMF_ABORT_TASK_SET) {
			list_remove(&tmf->node);
			free(tmf);
		}
	}
}

static void begin(struct conn *conn, const struct wire_tmf_req *req, uint8_t function)
{
	struct session *session = conn->session;
	struct target *target = session->target;
	struct tmf *tmf = calloc(1, sizeof(*tmf));

	if (!tmf) {
		conn_no_memory(conn);
		return;
	}
	tmf->session = session;
	tmf->function = function;
	tmf->itt = be32_get(req->itt);
	tmf->ref_itt = be32_get(req->ref_tag);
	tmf->lun = be64_get(req->lun);
	session->immediate_count++;
	list_append(&target->tmfs, &tmf->node);
	abort_affected(tmf, target);
	if (function == WIRE_TMF_LUN_RESET)
		scsi_unit_reset(target->device, tmf->lun);
	else if (function == WIRE_TMF_TARGET_WARM_RESET || function == WIRE_TMF_TARGET_COLD_RESET)
		scsi_device_reset(target->device);
	tmf_check(target);
}

/* 11.5.1: one that has not come may still come; then its CmdSN counts as received. */
static void abort_task(struct conn *conn, const struct wire_tmf_req *req)
{
	struct task *task = task_find(conn->session, be32_get(req->ref_tag));
	uint32_t refcmdsn = be32_get(req->refcmdsn);
	int r;

	if (task) {
		begin(conn, req, WIRE_TMF_ABORT_TASK);
		return;
	}
	/* What follows the function itself can't have been meant. */
	if (!sn32_before(refcmdsn, be32_get(req->cmdsn))) {
		answer(conn, be32_get(req->itt), WIRE_TMF_NO_TASK);
		return;
	}
	r = ffp_skip_cmdsn(conn, refcmdsn);
	if (conn_is_full(conn))
		answer(conn, be32_get(req->itt), r == 0 ? WIRE_TMF_COMPLETE : WIRE_TMF_NO_TASK);
}

void tmf_request(struct conn *conn, const struct wire_tmf_req *req)
{
	struct session *session = conn->session;
	uint8_t function = req->function & WIRE_TMF_FUNCTION_MASK;
	uint32_t itt = be32_get(req->itt);

	log_info("%s: %s", conn_tag(conn), wire_tmf_function_name(function));
	if (session->immediate_count >= LIMIT_IMMEDIATE_COMMANDS) {
		tx_reject(conn, WIRE_REJECT_TOO_MANY_IMMEDIATE, req);
		return;
	}
	switch (function) {
	case WIRE_TMF_ABORT_TASK: abort_task(conn, req); break;
	case WIRE_TMF_ABORT_TASK_SET:
	case WIRE_TMF_CLEAR_TASK_SET:
	case WIRE_TMF_LUN_RESET:
		if (scsi_device_has_unit(session->target->device, be64_get(req->lun)))
			begin(conn, req, function);
		else
			answer(conn, itt, WIRE_TMF_NO_LUN);
		break;
	case WIRE_TMF_TARGET_WARM_RESET:
	case WIRE_TMF_TARGET_COLD_RESET: begin(conn, req, function); break;
	/* 11.6.1: at ERL 0 no task changes its connection. */
	case WIRE_TMF_TASK_REASSIGN: answer(conn, itt, WIRE_TMF_NO_REASSIGN); break;
	/* NORMACA is 0 for us, and the queries need iSCSIProtocolLevel 2 (RFC 7144). */
	default: answer(conn, itt, WIRE_TMF_UNSUPPORTED); break;
	}
}
