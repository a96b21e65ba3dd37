/*
 * SCSI commands as iSCSI tasks: their data in both directions, R2Ts, residuals, responses.
 *
 *                     data out, none of it here            SCSI is done
 *   command --------------------> WAIT ------> DATA        +------> DONE --> gone when the last
 *      |  |   a buffer               |          | all here |                  PDU with its data
 *      |  | data in                  +----------+--> RUN --+                  is sent
 *      |  +------------------------> WAIT ------------^
 *      +-- no data ----------------------------------/
 *
 * A task never waits for a buffer while it holds one, and a connection is never left unread
 * while one of its tasks holds a buffer that only reading can fill; so buffers always come back.
 * When immediate data meets an empty pool and reading may not stop, the command ends with TASK
 * SET FULL, which initiators repeat by themselves.
 *
 * What is thrown away: data of a command that has failed already, and data beyond what the
 * command moves (EDTL larger than SPDTL). It is counted all the same, because the sequence has
 * to end before the response may be sent (RFC 7143, 7.8, 11.17.1).
 *
 * PDUs and sequences come in order: DataPDUInOrder and DataSequenceInOrder are agreed as Yes
 * always, since one side's Yes is enough and we say it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/session_internal.h"

/* RFC 7143, 11.4.7.2: faults of the transport as ABORTED COMMAND, and its ASC/ASCQ. */
#define ASC_UNEXPECTED_DATA  0x0c0c
#define ASC_DATA_AMOUNT      0x0c0d
#define ASC_CRC_ERROR        0x4705
#define ASC_DATA_PHASE_ERROR 0x4b00 /* SPC-4: a Data-Out out of its order */
#define ASC_INVALID_FIELD_IU 0x0e03 /* SPC-4: direction flags that do not fit the command */

static void respond(struct task *task);
static void run(struct task *task);
static void turn_over(struct task *task);
static void release_turns(struct session *session);

struct residual residual_of(uint32_t edtl_bytes, uint32_t transfer_bytes)
{
	struct residual r = {0};

	r.overflow = transfer_bytes > edtl_bytes;
	r.underflow = transfer_bytes < edtl_bytes;
	r.count = r.overflow ? transfer_bytes - edtl_bytes : edtl_bytes - transfer_bytes;
	return r;
}

static uint32_t min_bytes(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* --- finding --- */

static struct task **hash_slot(const struct session *session, uint32_t itt)
{
	/* Initiators put an index into the low or the high half. */
	uint32_t h = (itt ^ itt >> 16) & (TASK_HASH - 1);

	return (struct task **)(uintptr_t)&session->task_hash[h];
}

struct task *task_find(const struct session *session, uint32_t itt)
{
	struct task *task = *hash_slot(session, itt);

	while (task && task->itt != itt)
		task = task->hash_next;
	return task;
}

static void hash_remove(struct task *task)
{
	struct task **slot = hash_slot(task->session, task->itt);

	while (*slot != task)
		slot = &(*slot)->hash_next;
	*slot = task->hash_next;
}

/* Data-Out that is under way for a task that has ended is no mistake. */
static void remember_gone(struct session *session, uint32_t itt)
{
	session->gone_itts[session->gone_next] = itt;
	session->gone_next = (session->gone_next + 1) % LIMIT_SESSION_COMMANDS;
	if (session->gone_count < LIMIT_SESSION_COMMANDS)
		session->gone_count++;
}

static bool is_gone(const struct session *session, uint32_t itt)
{
	for (unsigned i = 0; i < session->gone_count; i++) {
		if (session->gone_itts[i] == itt)
			return true;
	}
	return false;
}

/* --- buffers --- */

static void charge(struct task *task, bool write)
{
	size_t *used = write ? &task->session->write_bytes : &task->session->read_bytes;

	task->charge_bytes = task->buf->bytes;
	task->charge_write = write;
	*used += task->charge_bytes;
}

static void buf_put(struct task *task)
{
	size_t *used =
		task->charge_write ? &task->session->write_bytes : &task->session->read_bytes;

	if (!task->buf)
		return;
	assert(*used >= task->charge_bytes);
	*used -= task->charge_bytes;
	ring_buf_put(task->reactor->ring, TAKE_PTR(task->buf));
}

/* A session's share is used up; one task may always have what it needs. */
static bool share_used(const struct session *session, bool write, uint32_t bytes)
{
	size_t used = write ? session->write_bytes : session->read_bytes;
	size_t most = write ? LIMIT_SESSION_WRITE_BYTES : LIMIT_SESSION_TX_BYTES;

	/* Who has hoarded gets one at a time until it sends again. */
	return used > 0 && (used + bytes > most || (write && session->hoards));
}

static bool buf_get(struct task *task, uint32_t bytes, bool write)
{
	assert(!task->buf);
	task->buf = ring_buf_get(task->reactor->ring, bytes);
	if (!task->buf)
		return false;
	charge(task, write);
	return true;
}

/* --- life --- */

static struct task *task_new(struct conn *conn, const struct wire_scsi_cmd *cmd)
{
	struct session *session = conn->session;
	struct task *task = calloc(1, sizeof(*task));
	struct task **slot;

	if (!task)
		return NULL;
	list_init(&task->wait_node);
	task->session = session;
	task->reactor = conn->reactor;
	task->refs = 1;
	task->itt = be32_get(cmd->itt);
	task->cmdsn = be32_get(cmd->cmdsn);
	task->edtl_bytes = be32_get(cmd->edtl_bytes);
	task->immediate = cmd->opcode & WIRE_IMMEDIATE;
	task->flag_read = cmd->flags & WIRE_CMD_READ;
	task->flag_write = cmd->flags & WIRE_CMD_WRITE;
	slot = hash_slot(session, task->itt);
	task->hash_next = *slot;
	*slot = task;
	list_append(&session->tasks, &task->node);
	session->task_count++;
	session->window_used++;
	if (task->immediate)
		session->immediate_count++;
	session->commands++;
	return task;
}

void task_unref(struct task *task)
{
	struct session *session = task->session;

	assert(task->refs > 0);
	if (--task->refs > 0)
		return;
	assert(task->state == TASK_DONE);
	buf_put(task);
	session->task_count--;
	free(task);
	if (session->task_count == 0)
		conn_tasks_changed(session->conn);
}

static void stop_counting_data(struct task *task)
{
	if (!task->counts_data)
		return;
	task->counts_data = false;
	assert(task->session->data_out_count > 0);
	task->session->data_out_count--;
}

/* From now on nobody finds it: its answer is queued, or it has none. */
static void leave(struct task *task)
{
	struct session *session = task->session;

	assert(task->state != TASK_DONE);
	stop_counting_data(task);
	if (session->conn->rx_task == task) {
		session->conn->rx_task = NULL;
		rx_data_nowhere(&session->conn->rx);
	}
	if (task->state != TASK_RUN)
		turn_over(task);
	hash_remove(task);
	list_remove(&task->node);
	list_remove(&task->wait_node);
	assert(session->window_used > 0);
	session->window_used--;
	if (task->immediate)
		session->immediate_count--;
	task->state = TASK_DONE;
	if (session->conn->state == CONN_FULL)
		release_turns(session);
}

/* Its last reference may go with this. */
static void end(struct task *task)
{
	struct session *session = task->session;

	leave(task);
	task_unref(task);
	conn_tasks_changed(session->conn);
}

void task_abort(struct task *task)
{
	if (task->state == TASK_RUN) {
		task->aborted = true;
		scsi_task_abort(&task->scsi);
		return;
	}
	assert(task->state != TASK_DONE);
	if (task->state == TASK_DATA || task->unsolicited)
		remember_gone(task->session, task->itt);
	end(task);
}

void session_tasks_abort(struct session *session)
{
	list_for_each (node, &session->tasks)
		task_abort(LIST_ENTRY(node, struct task, node));
	ring_buf_wait_cancel(&session->buf_waiter);
}

void session_tasks_quiesce(struct session *session)
{
	list_for_each (node, &session->tasks) {
		struct task *task = LIST_ENTRY(node, struct task, node);

		if (task->state != TASK_RUN)
			task_abort(task);
	}
	ring_buf_wait_cancel(&session->buf_waiter);
}

/* --- running --- */

static void scsi_done(struct scsi_task *scsi)
{
	struct task *task = CONTAINER_OF(scsi, struct task, scsi);
	struct session *session = task->session;
	struct target *target = session->target;

	assert(task->state == TASK_RUN);
	if (task->aborted || session->ending || session->conn->state == CONN_CLOSING)
		end(task);
	else
		respond(task);
	session_pump(session);
	if (!list_empty(&target->tmfs))
		tmf_check(target);
}

/* --- ORDERED tasks (SAM-5, 8.9) ---
 *
 * SCSI orders tasks by when it gets them. One that still waits for data has been received all the
 * same, so an ORDERED task behind it has to wait here, and all that come behind that one.
 */

static bool is_ordered(const struct task *task)
{
	return task->scsi.attribute == SCSI_ORDERED;
}

/* SCSI has it, or never will. */
static void turn_over(struct task *task)
{
	if (is_ordered(task)) {
		assert(task->session->ordered_count > 0);
		task->session->ordered_count--;
	}
	if (task->state == TASK_TURN)
		task->session->turn_count--;
}

static bool must_wait(const struct task *task)
{
	if (task->session->ordered_count == 0 || task->scsi.attribute == SCSI_HEAD_OF_QUEUE)
		return false;
	list_for_each (node, &task->session->tasks) {
		const struct task *before = LIST_ENTRY(node, struct task, node);

		if (before == task)
			break;
		if (before->state != TASK_RUN && before->scsi.lun == task->scsi.lun &&
		    (is_ordered(task) || is_ordered(before)))
			return true;
	}
	return false;
}

static void enter(struct task *task)
{
	struct scsi_task *scsi = &task->scsi;

	turn_over(task);
	task->state = TASK_RUN;
	if (scsi->direction != SCSI_DATA_NONE) {
		scsi->data = task->buf ? task->buf->data : NULL;
		scsi->data_room_bytes = task->want_bytes;
	}
	scsi_task_execute(scsi);
}

static void run(struct task *task)
{
	stop_counting_data(task);
	if (must_wait(task)) {
		task->state = TASK_TURN;
		task->data_ms = ring_now_ms(task->reactor->ring);
		task->session->turn_count++;
		return;
	}
	enter(task);
	release_turns(task->session);
}

static void release_turns(struct session *session)
{
	if (session->turn_count == 0)
		return;
	list_for_each (node, &session->tasks) {
		struct task *task = LIST_ENTRY(node, struct task, node);

		if (task->state == TASK_TURN && !must_wait(task))
			enter(task);
	}
}

/* All data has come, or there is none: to SCSI, or its failure to the initiator. */
static void data_complete(struct task *task)
{
	task->unsolicited = false;
	if (task->failed) {
		if (task->fail_status) {
			task->scsi.status = task->fail_status;
			task->scsi.sense_bytes = 0;
		} else {
			scsi_task_fail(&task->scsi, task->fail_key, task->fail_asc_ascq);
		}
		task->scsi.data_bytes = task->scsi.wanted_bytes = 0;
		respond(task);
		return;
	}
	run(task);
}

static void fail(struct task *task, enum scsi_sense_key key, uint16_t asc_ascq)
{
	if (task->failed)
		return;
	task->failed = true;
	task->fail_key = (uint8_t)key;
	task->fail_asc_ascq = asc_ascq;
}

static void fail_status(struct task *task, enum scsi_status status)
{
	if (task->failed)
		return;
	task->failed = true;
	task->fail_status = (uint8_t)status;
}

/* --- R2T (11.8) --- */

static bool send_r2t(struct task *task)
{
	struct session *session = task->session;
	struct conn *conn = session->conn;
	struct r2t *r2t = &task->r2ts[task->r2t_count];
	struct tx_pdu *pdu = tx_new(conn, 0);
	struct wire_r2t *bhs;

	if (!pdu)
		return false;
	r2t->offset_bytes = task->asked_bytes;
	r2t->bytes = min_bytes(task->want_bytes - task->asked_bytes, conn->params.max_burst_bytes);
	if (session->next_ttt == WIRE_TAG_NONE)
		session->next_ttt = 0;
	r2t->ttt = session->next_ttt++;
	task->asked_bytes += r2t->bytes;
	task->r2t_count++;
	bhs = (struct wire_r2t *)pdu->header;
	bhs->opcode = WIRE_OP_R2T;
	bhs->flags = WIRE_FINAL;
	be64_put(&bhs->lun, task->scsi.lun);
	be32_put(&bhs->itt, task->itt);
	be32_put(&bhs->ttt, r2t->ttt);
	be32_put(&bhs->r2tsn, task->r2tsn++);
	be32_put(&bhs->offset_bytes, r2t->offset_bytes);
	be32_put(&bhs->desired_bytes, r2t->bytes);
	tx_queue(conn, pdu, TX_SN_SHOW);
	return true;
}

static void ask_for_data(struct task *task)
{
	unsigned most = task->session->conn->params.max_outstanding_r2t;

	if (most > LIMIT_OUTSTANDING_R2T)
		most = LIMIT_OUTSTANDING_R2T;
	task->data_ms = ring_now_ms(task->reactor->ring);
	while (task->asked_bytes < task->want_bytes && task->r2t_count < most && !task->failed) {
		if (!send_r2t(task))
			return;
	}
}

/* A sequence has ended: ask for more, or go on. */
static void sequence_done(struct task *task)
{
	task->datasn = 0;
	task->sequence_bytes = 0;
	task->asked_bytes =
		task->asked_bytes < task->got_bytes ? task->got_bytes : task->asked_bytes;
	if (!task->failed)
		ask_for_data(task);
	if (task->session->conn->state != CONN_FULL)
		return;
	if (task->r2t_count == 0 && (task->failed || task->got_bytes >= task->want_bytes))
		data_complete(task);
}

static void await_data(struct task *task)
{
	task->state = TASK_DATA;
	task->data_ms = ring_now_ms(task->reactor->ring);
	if (task->buf && !task->counts_data) {
		task->counts_data = true;
		task->session->data_out_count++;
	}
}

/* --- waiting for buffers --- */

static void pump_ready(struct ring_buf_waiter *waiter)
{
	session_pump(CONTAINER_OF(waiter, struct session, buf_waiter));
}

void session_tasks_init(struct session *session)
{
	list_init(&session->tasks);
	list_init(&session->waiting);
	ring_buf_waiter_init(&session->buf_waiter, pump_ready);
}

static void enqueue(struct task *task)
{
	task->state = TASK_WAIT;
	list_append(&task->session->waiting, &task->wait_node);
	session_pump(task->session);
}

void session_pump(struct session *session)
{
	while (!list_empty(&session->waiting) && session->conn->state == CONN_FULL) {
		struct task *task = LIST_ENTRY(session->waiting.next, struct task, wait_node);
		bool write = task->scsi.direction == SCSI_DATA_OUT;

		if (share_used(session, write, task->want_bytes))
			return; /* a task that ends calls again */
		if (!buf_get(task, task->want_bytes, write)) {
			ring_buf_wait(task->reactor->ring, &session->buf_waiter);
			pressure_watch(task->reactor);
			return;
		}
		list_remove(&task->wait_node);
		if (write) {
			await_data(task);
			ask_for_data(task);
		} else {
			run(task);
		}
	}
}

void session_reclaim(struct session *session)
{
	list_for_each (node, &session->tasks) {
		struct task *task = LIST_ENTRY(node, struct task, node);

		if (task->state != TASK_DATA || !task->buf)
			continue;
		fail_status(task, SCSI_BUSY);
		if (session->conn->rx_task == task)
			rx_data_nowhere(&session->conn->rx);
		stop_counting_data(task);
		buf_put(task);
		session->hoards = true;
	}
}

uint64_t session_data_due_ms(const struct session *session, uint64_t now_ms)
{
	uint64_t soonest = UINT64_MAX;

	list_for_each (node, &session->tasks) {
		const struct task *task = LIST_ENTRY(node, struct task, node);
		uint64_t due_ms = task->data_ms + LIMIT_DATA_OUT_MS;
		uint64_t ms = due_ms > now_ms ? due_ms - now_ms : 0;

		/* Turns as well: whoever stands before it may wait for the buffer that it has. */
		if ((task->state == TASK_DATA || task->state == TASK_TURN) && ms < soonest)
			soonest = ms;
	}
	return soonest;
}

/* --- the command PDU --- */

static enum scsi_attribute attribute_of(uint8_t flags)
{
	switch (flags & WIRE_CMD_ATTR_MASK) {
	case WIRE_ATTR_ORDERED: return SCSI_ORDERED;
	case WIRE_ATTR_HEAD_OF_QUEUE: return SCSI_HEAD_OF_QUEUE;
	case WIRE_ATTR_ACA: return SCSI_ACA;
	default: return SCSI_SIMPLE;
	}
}

/* What is wrong with the command's framing, before SCSI looks at it. */
static void check_command(struct task *task, const struct wire_scsi_cmd *cmd, const uint8_t *ahs)
{
	const struct wire_params *params = &task->session->conn->params;
	uint32_t immediate = be24_get(cmd->data_bytes);
	bool final = cmd->flags & WIRE_CMD_FINAL;
	enum scsi_data direction = task->scsi.direction;

	/* Additional headers carry longer CDBs or a second direction; we have no command that
	 * takes either. */
	if (ahs || (task->flag_read && task->flag_write))
		fail(task, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD_IU);
	if ((immediate || !final) && !task->flag_write)
		fail(task, SENSE_ABORTED_COMMAND, ASC_UNEXPECTED_DATA);
	if (immediate && !params->immediate_data)
		fail(task, SENSE_ABORTED_COMMAND, ASC_UNEXPECTED_DATA);
	if (!final && params->initial_r2t)
		fail(task, SENSE_ABORTED_COMMAND, ASC_UNEXPECTED_DATA);
	if (immediate > params->first_burst_bytes || immediate > task->edtl_bytes)
		fail(task, SENSE_ABORTED_COMMAND, ASC_DATA_AMOUNT);
	/* A write whose data goes the other way must not end as if it had been written. The other
	 * way round is harmless: what comes is thrown away, and the residual tells it. */
	if (task->edtl_bytes > 0 && direction == SCSI_DATA_OUT && !task->flag_write)
		fail(task, SENSE_ILLEGAL_REQUEST, ASC_INVALID_FIELD_IU);
}

/* How much of the data the command will see. */
static uint32_t wanted(const struct task *task)
{
	switch (task->scsi.direction) {
	case SCSI_DATA_NONE: return 0;
	case SCSI_DATA_IN:
		return task->flag_read ? min_bytes(task->edtl_bytes, task->scsi.transfer_bytes) : 0;
	case SCSI_DATA_OUT:
		return task->flag_write ? min_bytes(task->edtl_bytes, task->scsi.transfer_bytes)
					: 0;
	}
	return 0;
}

int task_command(struct conn *conn, const struct wire_scsi_cmd *cmd, const uint8_t *ahs,
		 bool may_wait, struct task **ret_task)
{
	struct session *session = conn->session;
	bool unsolicited = be24_get(cmd->data_bytes) || !(cmd->flags & WIRE_CMD_FINAL);
	struct task *task = task_new(conn, cmd);
	struct scsi_task *scsi;

	if (!task)
		return -ENOMEM;
	scsi = &task->scsi;
	scsi->nexus = session->nexus;
	scsi->lun = be64_get(cmd->lun);
	memcpy(scsi->cdb, cmd->cdb, sizeof(scsi->cdb));
	scsi->expected_bytes = task->edtl_bytes;
	scsi->attribute = attribute_of(cmd->flags);
	if (is_ordered(task))
		session->ordered_count++;
	scsi->done = scsi_done;
	scsi_task_parse(scsi);
	task->want_bytes = wanted(task);
	check_command(task, cmd, ahs);
	task->state = TASK_WAIT; /* on no list: until its PDU is complete */
	if (unsolicited && !task->failed && scsi->direction == SCSI_DATA_OUT &&
	    task->want_bytes > 0 &&
	    (share_used(session, true, task->want_bytes) ||
	     !buf_get(task, task->want_bytes, true))) {
		if (may_wait && session->data_out_count == 0) {
			session->commands--;
			end(task);
			return -EAGAIN;
		}
		fail_status(task, session->window_used > 1 ? SCSI_TASK_SET_FULL : SCSI_BUSY);
	}
	if (task->failed)
		task->want_bytes = 0;
	/* From here on reading may not stop until its data is there. */
	if (unsolicited)
		await_data(task);
	*ret_task = task;
	return 0;
}

void task_command_done(struct task *task, const struct wire_scsi_cmd *cmd, bool digest_ok)
{
	const struct wire_params *params = &task->session->conn->params;
	uint32_t immediate = be24_get(cmd->data_bytes);

	if (!digest_ok) {
		/* 7.8: at ERL 0 nothing is asked for again; the task ends when the rest is here. */
		fail(task, SENSE_ABORTED_COMMAND, ASC_CRC_ERROR);
		task->want_bytes = 0;
	}
	task->got_bytes = immediate;
	task->sequence_bytes = immediate;
	task->asked_bytes = immediate;
	if (!(cmd->flags & WIRE_CMD_FINAL)) {
		/* The first burst is used up and yet more is announced. */
		if (immediate >= params->first_burst_bytes)
			fail(task, SENSE_ABORTED_COMMAND, ASC_DATA_AMOUNT);
		task->unsolicited = true;
		await_data(task);
		return;
	}
	if (task->failed || task->scsi.direction == SCSI_DATA_NONE || task->want_bytes == 0) {
		data_complete(task);
	} else if (task->scsi.direction == SCSI_DATA_IN) {
		enqueue(task);
	} else if (!task->buf) {
		task->got_bytes = task->asked_bytes = 0;
		enqueue(task);
	} else {
		await_data(task);
		sequence_done(task);
	}
}

/* --- Data-Out (11.7) --- */

struct task *task_data_header(struct conn *conn, const struct wire_data_out *out, uint8_t **ret_to,
			      uint32_t *ret_room_bytes)
{
	uint32_t itt = be32_get(out->itt), ttt = be32_get(out->ttt);
	uint32_t bytes = be24_get(out->data_bytes), offset = be32_get(out->offset_bytes);
	struct task *task = task_find(conn->session, itt);
	uint32_t sequence_max;

	if (!task || task->state != TASK_DATA) {
		if (!is_gone(conn->session, itt))
			tx_reject(conn, WIRE_REJECT_INVALID_FIELD, out);
		return NULL;
	}
	if (ttt == WIRE_TAG_NONE) {
		if (!task->unsolicited) {
			tx_reject(conn, WIRE_REJECT_PROTOCOL, out);
			return NULL;
		}
		/* All of the first burst, immediate data included, is one amount. */
		sequence_max = min_bytes(conn->params.first_burst_bytes, task->edtl_bytes);
	} else {
		if (task->unsolicited || task->r2t_count == 0 || task->r2ts[0].ttt != ttt) {
			tx_reject(conn, WIRE_REJECT_INVALID_FIELD, out);
			return NULL;
		}
		sequence_max = task->r2ts[0].bytes;
	}
	if (offset != task->got_bytes || be32_get(out->datasn) != task->datasn)
		fail(task, SENSE_ABORTED_COMMAND, ASC_DATA_PHASE_ERROR);
	if ((uint64_t)task->sequence_bytes + bytes > sequence_max)
		fail(task, SENSE_ABORTED_COMMAND, ASC_DATA_AMOUNT);
	task->data_ms = ring_now_ms(task->reactor->ring);
	*ret_to = NULL;
	*ret_room_bytes = 0;
	if (!task->failed && task->buf && offset < task->want_bytes) {
		*ret_to = task->buf->data + offset;
		*ret_room_bytes = task->want_bytes - offset;
	}
	return task;
}

/* 11.4.7.2: the last PDU of a sequence has come; was it all that was due? */
static void check_amount(struct task *task, bool solicited)
{
	const struct wire_params *params = &task->session->conn->params;

	if (solicited) {
		if (task->sequence_bytes != task->r2ts[0].bytes)
			fail(task, SENSE_ABORTED_COMMAND, ASC_DATA_AMOUNT);
	} else if (task->edtl_bytes > params->first_burst_bytes &&
		   task->sequence_bytes != params->first_burst_bytes) {
		fail(task, SENSE_ABORTED_COMMAND, ASC_DATA_AMOUNT);
	}
}

void task_data_done(struct conn *conn, struct task *task, const struct wire_data_out *out,
		    bool digest_ok)
{
	bool solicited = be32_get(out->ttt) != WIRE_TAG_NONE;

	if (!digest_ok) {
		tx_reject(conn, WIRE_REJECT_DATA_DIGEST, out);
		fail(task, SENSE_ABORTED_COMMAND, ASC_CRC_ERROR);
	}
	task->datasn++;
	task->sequence_bytes += be24_get(out->data_bytes);
	task->got_bytes += be24_get(out->data_bytes);
	task->session->bytes_written += be24_get(out->data_bytes);
	task->session->hoards = false;
	if (!(out->flags & WIRE_FINAL) || conn->state != CONN_FULL)
		return;
	check_amount(task, solicited);
	if (solicited) {
		task->r2t_count--;
		memmove(&task->r2ts[0], &task->r2ts[1], task->r2t_count * sizeof(task->r2ts[0]));
	}
	task->unsolicited = false;
	sequence_done(task);
}

/* --- Data-In and SCSI Response (11.4, 11.7) --- */

static bool status_fits_data(const struct task *task, uint32_t bytes)
{
	/*
	 * Status goes with the last Data-In when there is nothing else to say (11.7.3). With a
	 * residual it goes by itself: iPXE takes status in Data-In for a full buffer.
	 */
	return task->scsi.status == SCSI_GOOD && task->scsi.sense_bytes == 0 &&
	       bytes == task->edtl_bytes && task->scsi.wanted_bytes <= bytes;
}

static bool send_data_in(struct task *task, uint32_t bytes, bool with_status)
{
	struct conn *conn = task->session->conn;
	const struct wire_params *params = &conn->params;
	uint32_t offset = 0, burst = 0;

	while (offset < bytes) {
		uint32_t n = min_bytes(bytes - offset, params->max_send_segment_bytes);
		struct tx_pdu *pdu = tx_new(conn, 0);
		struct wire_data_in *bhs;
		bool last;

		if (!pdu)
			return false;
		n = min_bytes(n, params->max_burst_bytes - burst);
		last = offset + n == bytes;
		burst += n;
		bhs = (struct wire_data_in *)pdu->header;
		bhs->opcode = WIRE_OP_DATA_IN;
		if (last || burst == params->max_burst_bytes) {
			bhs->flags = WIRE_FINAL;
			burst = 0;
		}
		if (last && with_status) {
			bhs->flags |= WIRE_DATA_STATUS;
			bhs->status = (uint8_t)task->scsi.status;
		}
		be32_put(&bhs->itt, task->itt);
		be32_put(&bhs->ttt, WIRE_TAG_NONE);
		be32_put(&bhs->datasn, task->data_in_count++);
		be32_put(&bhs->offset_bytes, offset);
		pdu->data = task->buf->data + offset;
		pdu->data_bytes = n;
		pdu->task = task;
		task->refs++;
		tx_queue(conn, pdu, last && with_status ? TX_SN_CONSUME : TX_SN_NONE);
		offset += n;
	}
	return true;
}

/* SPDTL in the direction that the initiator announced. */
static uint32_t moved(const struct task *task)
{
	if (task->scsi.direction != SCSI_DATA_IN)
		return task->scsi.transfer_bytes;
	return task->flag_write ? 0 : task->scsi.wanted_bytes;
}

static void send_response(struct task *task)
{
	const struct scsi_task *scsi = &task->scsi;
	struct conn *conn = task->session->conn;
	uint32_t sense_bytes = scsi->sense_bytes;
	uint32_t transfer = moved(task);
	struct residual residual = residual_of(task->edtl_bytes, transfer);
	struct tx_pdu *pdu = tx_new(conn, sense_bytes ? 2 + sense_bytes : 0);
	struct wire_scsi_rsp *bhs;

	if (!pdu)
		return;
	bhs = (struct wire_scsi_rsp *)pdu->header;
	bhs->opcode = WIRE_OP_SCSI_RSP;
	bhs->flags = WIRE_FINAL;
	if (residual.overflow)
		bhs->flags |= WIRE_RSP_OVERFLOW;
	if (residual.underflow)
		bhs->flags |= WIRE_RSP_UNDERFLOW;
	be32_put(&bhs->residual_count, residual.count);
	bhs->response = WIRE_RESPONSE_COMPLETED;
	bhs->status = (uint8_t)scsi->status;
	be32_put(&bhs->itt, task->itt);
	be32_put(&bhs->expdatasn, task->data_in_count + task->r2tsn);
	if (sense_bytes) {
		put_be16(pdu->room, (uint16_t)sense_bytes);
		memcpy(pdu->room + 2, scsi->sense, sense_bytes);
		pdu->data = pdu->room;
		pdu->data_bytes = 2 + sense_bytes;
	}
	tx_queue(conn, pdu, TX_SN_CONSUME);
}

static void respond(struct task *task)
{
	struct session *session = task->session;
	const struct scsi_task *scsi = &task->scsi;
	uint32_t bytes = 0;
	bool with_status, sent = true;

	if (scsi->direction == SCSI_DATA_IN && task->buf) {
		bytes = min_bytes(scsi->data_bytes, task->want_bytes);
		session->bytes_read += bytes;
	}
	/* Written data is not needed any more; the reader behind it waits for the memory. */
	if (!bytes)
		buf_put(task);
	with_status = bytes > 0 && status_fits_data(task, bytes);
	/* First out of the window, so that the response already shows the room. */
	leave(task);
	if (bytes)
		sent = send_data_in(task, bytes, with_status);
	if (sent && !with_status)
		send_response(task);
	task_unref(task);
	conn_tasks_changed(session->conn);
}
