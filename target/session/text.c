/*
 * Text requests in full-feature phase (RFC 7143, 11.10, 11.11): SendTargets, and the few keys
 * that may be declared there. Requests and answers may take several PDUs; an answer's next
 * piece is fetched by an empty request with our TTT.
 *
 * SendTargets shows only what the initiator may log in to: targets of its own name or of any
 * name, and in a discovery session that has proved a CHAP user the targets with that user. All
 * in a normal session shows the session's own target, as the empty value does: the RFC has no
 * meaning for it there, and libiscsi's suite expects an answer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/session_internal.h"

/* Kernel initiators take no more in one Text Response, whatever they declared. */
#define PIECE_BYTES_MAX 8192

struct text {
	uint32_t itt, ttt;
	char *in; /* the request so far */
	size_t in_bytes;
	char *out; /* the answer, and what of it is sent */
	size_t out_bytes, out_room, out_sent;
	bool out_failed; /* no memory */
	bool answering;
};

void text_free(struct session *session)
{
	struct text *text = TAKE_PTR(session->text);

	if (!text)
		return;
	free(text->in);
	free(text->out);
	free(text);
}

static void out_append(struct text *text, const void *data, size_t bytes)
{
	if (bytes == 0)
		return;
	if (text->out_bytes + bytes > text->out_room) {
		size_t room = 2 * text->out_room + bytes;
		char *out = realloc(text->out, room);

		if (!out) {
			text->out_failed = true;
			return;
		}
		text->out = out;
		text->out_room = room;
	}
	memcpy(text->out + text->out_bytes, data, bytes);
	text->out_bytes += bytes;
}

static void put(struct text *text, const char *key, const char *value)
{
	out_append(text, key, strlen(key));
	out_append(text, "=", 1);
	out_append(text, value, strlen(value) + 1); /* the NUL ends the pair */
}

/* --- SendTargets (13.4, appendix C) --- */

struct listing {
	struct text *text;
	const struct conn *conn;
	const char *name; /* NULL: all */
};

static bool may_see(const struct session *session, const struct target_conf *conf)
{
	const struct target_conf *proven = session->proven;

	if (proven && memcmp(proven->uuid, conf->uuid, sizeof(conf->uuid)) == 0)
		return true;
	if (proven && session->proven_operator &&
	    conf->operator.name[0] && strcmp(proven->operator.name, conf->operator.name) == 0 &&
	    proven->operator.secret_bytes == conf->operator.secret_bytes &&
		    memcmp(proven->operator.secret, conf->operator.secret,
			   conf->operator.secret_bytes) == 0)
		return true;
	return conf->initiator[0] == '\0' || strcmp(conf->initiator, session->initiator) == 0;
}

static void list_target(void *arg, const struct target_conf *conf)
{
	struct listing *listing = arg;
	const struct conn *conn = listing->conn;
	const struct server *server = conn->server;
	char address[LIMIT_ADDRESS_TEXT_BYTES], value[LIMIT_ADDRESS_TEXT_BYTES + 8];

	if (listing->name && strcmp(listing->name, conf->name) != 0)
		return;
	if (!may_see(conn->session, conf))
		return;
	put(listing->text, "TargetName", conf->name);
	for (unsigned i = 0; i < server->portal_count; i++) {
		if (!portal_address_for(&server->portals[i], &conn->local, address))
			continue;
		(void)snprintf(value, sizeof(value), "%s,1", address);
		put(listing->text, "TargetAddress", value);
	}
}

static void send_targets(struct conn *conn, struct text *text, const char *value)
{
	struct listing listing = {.text = text, .conn = conn};
	const struct session *session = conn->session;

	if (strcmp(value, "All") == 0 || value[0] == '\0') {
		/* An empty value means the session's own target. */
		if (!session->discovery)
			listing.name = session->target->conf->name;
		else if (value[0] == '\0')
			return;
	} else if (strncmp(value, "iqn.", 4) == 0 || strncmp(value, "eui.", 4) == 0 ||
		   strncmp(value, "naa.", 4) == 0) {
		listing.name = value;
	} else {
		put(text, "SendTargets", "Reject");
		return;
	}
	if (!session->discovery)
		list_target(&listing, session->target->conf);
	else
		server_each_target(conn->server, list_target, &listing);
}

/* --- keys --- */

static void take_key(struct conn *conn, struct text *text, const struct wire_text_pair *pair)
{
	uint8_t room[LIMIT_TEXT_KEY_BYTES + sizeof("=NotUnderstood")];
	struct wire_text_writer answer;

	if (strcmp(pair->key, "SendTargets") == 0) {
		send_targets(conn, text, pair->value);
	} else if (conn->session->discovery) {
		put(text, pair->key, "Reject"); /* 4.3: nothing else there */
	} else {
		wire_text_writer_init(&answer, room, sizeof(room));
		(void)wire_params_text_ffp(&conn->params, pair, &answer);
		assert(!answer.overflow);
		out_append(text, room, answer.bytes);
	}
}

/* false: it is no list of key=value pairs. */
static bool take_keys(struct conn *conn, struct text *text)
{
	struct wire_text_list list;

	if (text->in_bytes == 0)
		return true;
	if (wire_text_parse((const uint8_t *)text->in, text->in_bytes, &list) < 0)
		return false;
	for (unsigned i = 0; i < list.count; i++)
		take_key(conn, text, &list.pairs[i]);
	return true;
}

/* --- PDUs --- */

static void send_piece(struct conn *conn, struct text *text, bool may_end)
{
	struct session *session = conn->session;
	size_t most = conn->params.max_send_segment_bytes, bytes = text->out_bytes - text->out_sent;
	struct wire_text_rsp *rsp;
	struct tx_pdu *pdu;
	bool more;

	if (most > PIECE_BYTES_MAX)
		most = PIECE_BYTES_MAX;
	more = bytes > most;
	if (more)
		bytes = most;
	pdu = tx_new(conn, (uint32_t)bytes);
	if (!pdu)
		return;
	rsp = (struct wire_text_rsp *)pdu->header;
	rsp->opcode = WIRE_OP_TEXT_RSP;
	if (more)
		rsp->flags = WIRE_TEXT_CONTINUE;
	else if (may_end)
		rsp->flags = WIRE_FINAL;
	be32_put(&rsp->itt, text->itt);
	if (rsp->flags == WIRE_FINAL) {
		be32_put(&rsp->ttt, WIRE_TAG_NONE);
	} else {
		if (session->next_ttt == WIRE_TAG_NONE)
			session->next_ttt = 0;
		text->ttt = session->next_ttt++;
		be32_put(&rsp->ttt, text->ttt);
	}
	if (bytes)
		memcpy(pdu->room, text->out + text->out_sent, bytes);
	text->out_sent += bytes;
	pdu->data = pdu->room;
	pdu->data_bytes = (uint32_t)bytes;
	tx_queue(conn, pdu, TX_SN_CONSUME);
	if (rsp->flags == WIRE_FINAL) {
		text_free(session);
	} else if (!more && text->answering) { /* all is said; the initiator has not finished */
		text->answering = false;
		text->out_bytes = text->out_sent = 0;
		text->in_bytes = 0;
	}
}

static int append(struct text *text, const uint8_t *data, uint32_t bytes)
{
	char *in;

	if (bytes == 0)
		return 0;
	if (text->in_bytes + bytes > LIMIT_LOGIN_TEXT_BYTES)
		return -EMSGSIZE;
	in = realloc(text->in, text->in_bytes + bytes + 1);
	if (!in)
		return -ENOMEM;
	text->in = in;
	memcpy(in + text->in_bytes, data, bytes);
	text->in_bytes += bytes;
	in[text->in_bytes] = '\0';
	return 0;
}

/* The request that a PDU belongs to: a new one, or the one with its tags. */
static struct text *find(struct conn *conn, const struct wire_text_req *req)
{
	struct session *session = conn->session;
	uint32_t itt = be32_get(req->itt), ttt = be32_get(req->ttt);

	if (ttt != WIRE_TAG_NONE) {
		if (session->text && session->text->itt == itt && session->text->ttt == ttt)
			return session->text;
		tx_reject(conn, WIRE_REJECT_INVALID_FIELD, req);
		return NULL;
	}
	/* 11.10.4: TTT ffffffff begins anew and forgets what was. */
	text_free(session);
	session->text = calloc(1, sizeof(*session->text));
	if (!session->text) {
		conn_no_memory(conn);
		return NULL;
	}
	session->text->itt = itt;
	return session->text;
}

void text_request(struct conn *conn, const struct wire_text_req *req, const uint8_t *data,
		  uint32_t data_bytes)
{
	struct text *text = find(conn, req);
	bool final = req->flags & WIRE_FINAL, go_on = req->flags & WIRE_TEXT_CONTINUE;
	int r;

	if (!text)
		return;
	if (text->answering && data_bytes == 0) {
		send_piece(conn, text, final);
		return;
	}
	r = text->answering || (final && go_on) ? -EPROTO : append(text, data, data_bytes);
	if (r == -ENOMEM) {
		conn_no_memory(conn);
		return;
	}
	if (r < 0) {
		text_free(conn->session);
		tx_reject(conn, WIRE_REJECT_PROTOCOL, req);
		return;
	}
	if (go_on) { /* its keys go on in the next PDU: an empty answer asks for it */
		send_piece(conn, text, false);
		return;
	}
	text->answering = true;
	if (!take_keys(conn, text)) {
		text_free(conn->session);
		tx_reject(conn, WIRE_REJECT_PROTOCOL, req);
		return;
	}
	if (text->out_failed)
		conn_no_memory(conn);
	else
		send_piece(conn, text, final);
}
