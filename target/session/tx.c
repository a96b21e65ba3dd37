/*
 * Sending: a queue of PDUs for each connection, and one sendmsg that carries many of them.
 * Numbers are given when a PDU is queued, so the order of the queue is the order of StatSN. Data
 * is sent from the task's own buffer; the PDU holds a reference on the task until it has gone.
 *
 * The queue's length is bounded by those that fill it: reads by LIMIT_SESSION_TX_BYTES of
 * buffers, everything else by conn_stall, which stops taking requests from a peer that does not
 * take its answers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "session/session_internal.h"

/* What a queued PDU costs besides its data. */
static size_t cost(const struct tx_pdu *pdu)
{
	return (size_t)pdu->header_bytes + pdu->data_bytes + pdu->tail_bytes;
}

static void pdu_free(struct tx_pdu *pdu)
{
	list_remove(&pdu->node);
	if (pdu->task)
		task_unref(pdu->task);
	free(pdu->owned);
	free(pdu);
}

static void send_done(struct ring_op *op, int res);
static void tx_run(struct ring_task *task);

void tx_init(struct conn *conn)
{
	list_init(&conn->tx_queue);
	conn->send_op.done = send_done;
	ring_task_init(&conn->tx_task, tx_run);
}

struct tx_pdu *tx_new(struct conn *conn, uint32_t room_bytes)
{
	struct tx_pdu *pdu = malloc(sizeof(*pdu) + room_bytes);

	if (!pdu) {
		conn_no_memory(conn);
		return NULL;
	}
	memset(pdu, 0, sizeof(*pdu));
	list_init(&pdu->node);
	pdu->header_bytes = WIRE_BHS_BYTES;
	return pdu;
}

bool tx_idle(const struct conn *conn)
{
	return list_empty(&conn->tx_queue) && !conn->send_busy;
}

/* The next sendmsg: as many PDUs as its vectors hold; the first may be half gone. */
static void send_start(struct conn *conn)
{
	size_t skip = conn->tx_first_done;
	unsigned count = 0;

	list_for_each (node, &conn->tx_queue) {
		struct tx_pdu *pdu = LIST_ENTRY(node, struct tx_pdu, node);
		const struct iovec parts[3] = {
			{.iov_base = pdu->header, .iov_len = pdu->header_bytes},
			{.iov_base = (void *)(uintptr_t)pdu->data, .iov_len = pdu->data_bytes},
			{.iov_base = pdu->tail, .iov_len = pdu->tail_bytes},
		};

		if (count + 3 > TX_IOVECS)
			break;
		for (unsigned i = 0; i < 3; i++) {
			size_t bytes = parts[i].iov_len;

			if (skip >= bytes) {
				skip -= bytes;
				continue;
			}
			conn->tx_iov[count++] = (struct iovec){
				.iov_base = (uint8_t *)parts[i].iov_base + skip,
				.iov_len = bytes - skip,
			};
			skip = 0;
		}
	}
	assert(count > 0);
	conn->tx_msg = (struct msghdr){.msg_iov = conn->tx_iov, .msg_iovlen = count};
	conn->send_busy = true;
	ring_sendmsg(conn->reactor->ring, &conn->send_op, conn->fd, &conn->tx_msg, MSG_NOSIGNAL);
}

static void tx_run(struct ring_task *task)
{
	struct conn *conn = CONTAINER_OF(task, struct conn, tx_task);

	if (conn->send_busy || list_empty(&conn->tx_queue) || conn->state == CONN_CLOSING)
		return;
	send_start(conn);
}

static void send_done(struct ring_op *op, int res)
{
	struct conn *conn = CONTAINER_OF(op, struct conn, send_op);
	size_t sent;

	conn->send_busy = false;
	if (conn->state == CONN_CLOSING) {
		conn_step(conn, CONN_EV_LOST);
		return;
	}
	if (res == -EINTR || res == -EAGAIN) {
		ring_defer(conn->reactor->ring, &conn->tx_task);
		return;
	}
	if (res <= 0) {
		log_debug("%s: send: %s", conn_tag(conn), strerror(-res));
		conn_step(conn, CONN_EV_LOST);
		return;
	}
	sent = (size_t)res + conn->tx_first_done;
	conn->tx_bytes -= (size_t)res;
	conn->tx_ms = ring_now_ms(conn->reactor->ring);
	while (!list_empty(&conn->tx_queue)) {
		struct tx_pdu *pdu = LIST_ENTRY(conn->tx_queue.next, struct tx_pdu, node);

		if (sent < cost(pdu))
			break;
		sent -= cost(pdu);
		conn->tx_count--;
		pdu_free(pdu);
	}
	conn->tx_first_done = sent;
	if (!list_empty(&conn->tx_queue))
		send_start(conn);
	conn_sent(conn);
}

void tx_drop_all(struct conn *conn)
{
	assert(!conn->send_busy);
	while (!list_empty(&conn->tx_queue))
		pdu_free(LIST_ENTRY(conn->tx_queue.next, struct tx_pdu, node));
	conn->tx_bytes = 0;
	conn->tx_count = 0;
	conn->tx_first_done = 0;
}

static void append(struct conn *conn, struct tx_pdu *pdu)
{
	if (list_empty(&conn->tx_queue))
		conn->tx_ms = ring_now_ms(conn->reactor->ring);
	list_append(&conn->tx_queue, &pdu->node);
	conn->tx_bytes += cost(pdu);
	conn->tx_count++;
	if (!conn->send_busy)
		ring_defer(conn->reactor->ring, &conn->tx_task);
}

static void pad(struct tx_pdu *pdu)
{
	pdu->tail_bytes = (uint8_t)(wire_pad4(pdu->data_bytes) - pdu->data_bytes);
	memset(pdu->tail, 0, sizeof(pdu->tail));
	be24_put(&((struct wire_bhs *)pdu->header)->data_bytes, pdu->data_bytes);
}

void tx_queue_plain(struct conn *conn, struct tx_pdu *pdu)
{
	pad(pdu);
	append(conn, pdu);
}

/* All headers from the target have StatSN, ExpCmdSN and MaxCmdSN at the same place (11.4). */
struct numbers {
	uint8_t before[24];
	be32_t statsn, expcmdsn, maxcmdsn;
	uint8_t after[12];
};
static_assert(sizeof(struct numbers) == WIRE_BHS_BYTES, "BHS is 48 bytes");

void tx_queue(struct conn *conn, struct tx_pdu *pdu, enum tx_sn sn)
{
	struct numbers *numbers = (struct numbers *)pdu->header;
	uint32_t crc;

	assert(conn->session);
	if (conn->state == CONN_CLOSING || conn->state == CONN_LINGER) {
		pdu_free(pdu);
		return;
	}
	be32_put(&numbers->expcmdsn, conn->session->expcmdsn);
	be32_put(&numbers->maxcmdsn, session_maxcmdsn(conn->session));
	if (sn != TX_SN_NONE)
		be32_put(&numbers->statsn, conn->statsn);
	if (sn == TX_SN_CONSUME)
		conn->statsn++;
	pad(pdu);
	if (conn->params.header_digest) {
		crc = crc32c(0, pdu->header, WIRE_BHS_BYTES);
		le32_put((le32_t *)(pdu->header + WIRE_BHS_BYTES), crc);
		pdu->header_bytes = WIRE_BHS_BYTES + WIRE_DIGEST_BYTES;
	}
	if (conn->params.data_digest && pdu->data_bytes) {
		crc = crc32c(0, pdu->data, pdu->data_bytes);
		crc = crc32c(crc, pdu->tail, pdu->tail_bytes);
		le32_put((le32_t *)(pdu->tail + pdu->tail_bytes), crc);
		pdu->tail_bytes = (uint8_t)(pdu->tail_bytes + WIRE_DIGEST_BYTES);
	}
	append(conn, pdu);
}

void tx_reject(struct conn *conn, enum wire_reject_reason reason, const void *header)
{
	struct tx_pdu *pdu = tx_new(conn, WIRE_BHS_BYTES);
	struct wire_reject *reject;

	log_debug("%s: reject %s of %s", conn_tag(conn), wire_reject_reason_name((uint8_t)reason),
		  wire_opcode_name(*(const uint8_t *)header & WIRE_OPCODE_MASK));
	if (!pdu)
		return;
	reject = (struct wire_reject *)pdu->header;
	reject->opcode = WIRE_OP_REJECT;
	reject->flags = WIRE_FINAL;
	reject->reason = (uint8_t)reason;
	be32_put(&reject->itt, WIRE_TAG_NONE);
	memcpy(pdu->room, header, WIRE_BHS_BYTES);
	pdu->data = pdu->room;
	pdu->data_bytes = WIRE_BHS_BYTES;
	tx_queue(conn, pdu, TX_SN_CONSUME);
}

void tx_async(struct conn *conn, enum wire_async_event event, uint16_t parameter1,
	      uint16_t parameter2, uint16_t parameter3)
{
	struct tx_pdu *pdu = tx_new(conn, 0);
	struct wire_async *async;

	if (!pdu)
		return;
	async = (struct wire_async *)pdu->header;
	async->opcode = WIRE_OP_ASYNC;
	async->flags = WIRE_FINAL;
	be32_put(&async->itt, WIRE_TAG_NONE);
	async->event = (uint8_t)event;
	be16_put(&async->parameter1, parameter1);
	be16_put(&async->parameter2, parameter2);
	be16_put(&async->parameter3, parameter3);
	tx_queue(conn, pdu, TX_SN_CONSUME);
}
