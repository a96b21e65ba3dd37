/*
 * The login phase, target's side: PDUs in, PDUs out, no I/O (RFC 7143, 6.3, 11.12, 11.13).
 *
 *     request --C=1--> collect, answer empty
 *        |
 *        C=0: parse, names (first time), then by stage
 *        |
 *     SECURITY(0) --T, proved--> OPERATIONAL(1) --T--> FULL FEATURE(3) = LOGIN_ADMIT
 *        \------------------T, proved-------------------/
 *
 * The first request may start at 0 or 1. An answer longer than one PDU is handed out in pieces
 * with the C bit; the last piece carries T. Whatever is wrong ends the login with a status and
 * one sentence for the log: a login is never repaired half-way (7.12).
 */
#include "session/login_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int login_new(const struct login_env *env, struct login **ret_login)
{
	struct login *login = calloc(1, sizeof(*login));
	struct wire_params offered = wire_params_target();

	if (!login)
		return -ENOMEM;
	login->env = *env;
	login->status = WIRE_LOGIN_SUCCESS;
	wire_negotiation_init(&login->negotiation, WIRE_TARGET, &offered);
	*ret_login = login;
	return 0;
}

void login_free(struct login *login)
{
	if (!login)
		return;
	wire_text_buffer_done(&login->request);
	target_conf_unref(login->target);
	explicit_bzero(login, sizeof(*login));
	free(login);
}

uint16_t login_fail(struct login *login, uint16_t status, const char *format, ...)
{
	int used;
	va_list args;

	assert(status != WIRE_LOGIN_SUCCESS);
	if (login->status != WIRE_LOGIN_SUCCESS)
		return status;
	login->status = status;
	used = snprintf(login->why, sizeof(login->why), "login of %s to %s refused, %s (%04x): ",
			login->initiator[0] ? login->initiator : "an unnamed initiator",
			login->discovery        ? "discovery"
			: login->target_name[0] ? login->target_name
						: "an unnamed target",
			wire_login_status_name(status), (unsigned)status);
	if (used < 0 || (size_t)used >= sizeof(login->why))
		return status;
	va_start(args, format);
	vsnprintf(login->why + used, sizeof(login->why) - (size_t)used, format, args);
	va_end(args);
	return status;
}

/* --- replies --- */

static void reply_begin(const struct login *login, uint8_t flags, struct login_reply *ret_reply)
{
	struct wire_login_rsp *bhs = &ret_reply->bhs;

	*bhs = (struct wire_login_rsp){
		.opcode = WIRE_OP_LOGIN_RSP,
		.flags = flags,
		.version_max = WIRE_VERSION,
		.version_active = WIRE_VERSION,
	};
	memcpy(bhs->isid, login->isid, sizeof(bhs->isid));
	be16_put(&bhs->tsih, login->tsih);
	be32_put(&bhs->itt, login->itt);
	ret_reply->text_bytes = 0;
}

static uint8_t csg_bits(uint8_t stage)
{
	return (uint8_t)(stage << WIRE_LOGIN_CSG_SHIFT);
}

/* The next piece of our text; true if it was the last. */
static bool reply_text(struct login *login, struct login_reply *ret_reply)
{
	uint32_t bytes = login->answer_bytes - login->answer_sent;

	if (bytes > sizeof(ret_reply->text))
		bytes = sizeof(ret_reply->text);
	if (bytes)
		memcpy(ret_reply->text, login->answer + login->answer_sent, bytes);
	ret_reply->text_bytes = bytes;
	be24_put(&ret_reply->bhs.data_bytes, bytes);
	login->answer_sent += bytes;
	return login->answer_sent == login->answer_bytes;
}

void login_refuse(struct login *login, uint16_t status, struct login_reply *ret_reply)
{
	login_fail(login, status, "%s", wire_login_status_name(status));
	login->refused = true;
	reply_begin(login, csg_bits(login->stage), ret_reply);
	be16_put(&ret_reply->bhs.status, status);
}

void login_finish(struct login *login, uint16_t tsih, struct login_reply *ret_reply)
{
	bool last;

	assert(login->admitted && !login->refused);
	reply_begin(
		login,
		(uint8_t)(WIRE_LOGIN_TRANSIT | csg_bits(login->stage) | WIRE_STAGE_FULL_FEATURE),
		ret_reply);
	be16_put(&ret_reply->bhs.tsih, tsih);
	last = reply_text(login, ret_reply);
	assert(last);
	login->tsih = tsih;
}

/* --- the header --- */

static uint16_t check_same(struct login *login, const struct wire_login_req *req)
{
	if (memcmp(req->isid, login->isid, sizeof(login->isid)) == 0 &&
	    be16_get(req->tsih) == login->tsih && be16_get(req->cid) == login->cid &&
	    be32_get(req->itt) == login->itt && be32_get(req->cmdsn) == login->cmdsn)
		return 0;
	return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
			  "ISID, TSIH, CID, task tag and CmdSN must stay the same in all requests");
}

static uint16_t check_flags(struct login *login, uint8_t flags)
{
	uint8_t csg = wire_login_csg(flags), nsg = wire_login_nsg(flags);
	bool transit = (flags & WIRE_LOGIN_TRANSIT) != 0;

	if (transit && (flags & WIRE_LOGIN_CONTINUE))
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
				  "a request has both the T and the C bit");
	if (csg != login->stage)
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
				  "a request of stage %u came at stage %u", csg, login->stage);
	/* Without T the next stage means nothing: open-iscsi then repeats the current one. */
	if (transit && (nsg <= csg || nsg == 2))
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
				  "there is no transition from stage %u to %u", csg, nsg);
	return 0;
}

static uint16_t begin(struct login *login, const struct wire_login_req *req)
{
	uint8_t csg = wire_login_csg(req->flags);

	login->begun = true;
	memcpy(login->isid, req->isid, sizeof(login->isid));
	login->tsih = be16_get(req->tsih);
	login->cid = be16_get(req->cid);
	login->itt = be32_get(req->itt);
	login->cmdsn = be32_get(req->cmdsn);
	/* For refusals that name a stage, too, only a stage that exists. */
	login->stage = csg == WIRE_STAGE_OPERATIONAL ? csg : WIRE_STAGE_SECURITY;
	if (req->version_min > WIRE_VERSION)
		return login_fail(login, WIRE_LOGIN_VERSION,
				  "it speaks iSCSI versions %u to %u, we only %u", req->version_min,
				  req->version_max, WIRE_VERSION);
	return 0;
}

static uint16_t check_header(struct login *login, const struct wire_login_req *req)
{
	uint16_t status;

	if ((req->opcode & WIRE_OPCODE_MASK) != WIRE_OP_LOGIN_REQ)
		return login_fail(login, WIRE_LOGIN_INVALID_DURING_LOGIN,
				  "a %s came before the login was complete",
				  wire_opcode_name(req->opcode));
	if (++login->pdu_count > LIMIT_LOGIN_PDUS)
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR, "no end after %d requests",
				  LIMIT_LOGIN_PDUS);
	status = login->begun ? check_same(login, req) : begin(login, req);
	return status ? status : check_flags(login, req->flags);
}

/* --- names --- */

static void lower(char *text)
{
	for (; *text; text++) {
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
	}
}

static uint16_t take_initiator_name(struct login *login)
{
	const struct wire_text_pair *pair = wire_text_find(&login->list, "InitiatorName");

	if (!pair)
		return login_fail(login, WIRE_LOGIN_MISSING_PARAMETER,
				  "the first request has no InitiatorName");
	if (!wire_iscsi_name_valid(pair->value))
		return login_fail(
			login, WIRE_LOGIN_INITIATOR_ERROR,
			"InitiatorName=%.223s is no iSCSI name; iqn.2026-11.local:node is one",
			pair->value);
	memcpy(login->initiator, pair->value, pair->value_bytes + 1);
	lower(login->initiator);
	return 0;
}

static uint16_t take_session_type(struct login *login)
{
	const struct wire_text_pair *pair = wire_text_find(&login->list, "SessionType");

	if (!pair || strcmp(pair->value, "Normal") == 0)
		return 0;
	if (strcmp(pair->value, "Discovery") != 0)
		return login_fail(login, WIRE_LOGIN_SESSION_TYPE,
				  "SessionType=%.64s is neither Normal nor Discovery", pair->value);
	login->discovery = true;
	login->negotiation.discovery = true;
	return 0;
}

static uint16_t take_target_name(struct login *login)
{
	const struct wire_text_pair *pair = wire_text_find(&login->list, "TargetName");

	if (!pair && login->discovery)
		return 0;
	if (!pair)
		return login_fail(login, WIRE_LOGIN_MISSING_PARAMETER,
				  "the first request has no TargetName");
	if (pair->value_bytes > LIMIT_ISCSI_NAME_BYTES)
		return login_fail(login, WIRE_LOGIN_NOT_FOUND,
				  "its TargetName is longer than %d bytes", LIMIT_ISCSI_NAME_BYTES);
	memcpy(login->target_name, pair->value, pair->value_bytes + 1);
	lower(login->target_name);
	if (login->discovery)
		return 0;
	login->target = login->env.find_target(login->env.arg, login->target_name);
	if (!login->target)
		return login_fail(
			login, WIRE_LOGIN_NOT_FOUND,
			"there is no target of that name; lunctl ls shows those there are");
	return login_auth_begin(login);
}

/* The first complete text says who comes for what; the order of keys in it is free. */
static uint16_t take_names(struct login *login, struct wire_text_writer *answer)
{
	uint16_t status = take_initiator_name(login);

	if (!status)
		status = take_session_type(login);
	if (!status)
		status = take_target_name(login);
	if (status)
		return status;
	login->named = true;
	if (login->target && login->target->alias[0])
		wire_text_put(answer, "TargetAlias", login->target->alias);
	/* 13.9: with the first answer, discovery included. */
	wire_text_put_number(answer, "TargetPortalGroupTag", login->env.portal_group_tag);
	login->negotiation.sent |=
		1ull << WIRE_KEY_TARGET_ALIAS | 1ull << WIRE_KEY_TARGET_PORTAL_GROUP_TAG;
	if (login->stage == WIRE_STAGE_OPERATIONAL && login_auth_needed(login))
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"it must log in with CHAP but left authentication out; set its CHAP "
			"user and secret");
	return 0;
}

/* --- keys --- */

/* libiscsi declares its names again at the operational stage: then nothing may have changed. */
static bool name_same(const char *ours, const char *theirs)
{
	return wire_iscsi_name_equal(ours, theirs);
}

static void take_alias(struct login *login, const struct wire_text_pair *pair)
{
	if (pair->value_bytes < sizeof(login->alias))
		memcpy(login->alias, pair->value, pair->value_bytes + 1);
}

/* The keys which the negotiation leaves to us. */
static int take_key(void *arg, enum wire_key key, const struct wire_text_pair *pair)
{
	struct login *login = arg;
	const char *value = pair->value;
	bool good = true;

	switch ((int)key) {
	case WIRE_KEY_INITIATOR_NAME: good = name_same(login->initiator, value); break;
	case WIRE_KEY_TARGET_NAME: good = name_same(login->target_name, value); break;
	case WIRE_KEY_SESSION_TYPE:
		good = strcmp(value, login->discovery ? "Discovery" : "Normal") == 0;
		break;
	case WIRE_KEY_INITIATOR_ALIAS: take_alias(login, pair); break;
	case WIRE_KEY_AUTH_METHOD: login->keys.method = value; break;
	case WIRE_KEY_CHAP_A: login->keys.a = value; break;
	case WIRE_KEY_CHAP_I: login->keys.i = value; break;
	case WIRE_KEY_CHAP_C: login->keys.c = value; break;
	case WIRE_KEY_CHAP_N: login->keys.n = value; break;
	case WIRE_KEY_CHAP_R: login->keys.r = value; break;
	default: good = false; break;
	}
	if (good)
		return 0;
	return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
			  "%s=%.223s does not agree with the first request", pair->key, value);
}

static uint16_t parse(struct login *login)
{
	switch (wire_text_parse(login->request.text, login->request.bytes, &login->list)) {
	case 0: return 0;
	case -EEXIST: return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR, "a key was sent twice");
	case -E2BIG:
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR, "more than %d keys at once",
				  LIMIT_TEXT_KEYS);
	default:
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
				  "its text is no sequence of key=value pairs that end with NUL");
	}
}

static uint16_t take_keys(struct login *login, struct wire_text_writer *answer)
{
	const struct wire_text_pair *failed = NULL;
	int res;

	login->keys = (struct login_auth_keys){0};
	res = wire_negotiation_take_all(&login->negotiation, (enum wire_stage)login->stage,
					&login->list, take_key, login, answer, &failed);
	if (res == -EPROTO)
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR, "%s=%.223s %s", failed->key,
				  failed->value, login->negotiation.why);
	if (res)
		return (uint16_t)res;
	if (login->stage == WIRE_STAGE_SECURITY)
		return login_auth_step(login, answer);
	wire_negotiation_open(&login->negotiation, answer);
	return 0;
}

/* A complete text: our answer to it is then in login->answer. */
static uint16_t take_text(struct login *login)
{
	struct wire_text_writer answer;
	uint16_t status;

	wire_text_writer_init(&answer, login->answer, sizeof(login->answer));
	status = parse(login);
	if (!status && !login->named)
		status = take_names(login, &answer);
	if (!status)
		status = take_keys(login, &answer);
	if (!status && answer.overflow)
		status = login_fail(login, WIRE_LOGIN_NO_RESOURCES, "our answer became too long");
	login->keys = (struct login_auth_keys){0};
	wire_text_buffer_done(&login->request);
	login->answer_bytes = (uint32_t)answer.bytes;
	login->answer_sent = 0;
	return status;
}

/* --- steps --- */

/* T in our answer: asked for, and nothing is owed at this stage any more. */
static bool may_leave(const struct login *login)
{
	return login->stage != WIRE_STAGE_SECURITY || login->auth == LOGIN_AUTH_DONE ||
	       (login->auth == LOGIN_AUTH_OPEN && !login_auth_needed(login));
}

static uint16_t check_leave(struct login *login, uint8_t next_stage)
{
	if (login->auth == LOGIN_AUTH_OPEN && login->stage == WIRE_STAGE_SECURITY &&
	    login_auth_needed(login))
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"it must log in with CHAP but offers no AuthMethod; set its CHAP user "
			"and secret");
	if (next_stage == WIRE_STAGE_FULL_FEATURE && may_leave(login) &&
	    wire_negotiation_finish(&login->negotiation))
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR, "%s", login->negotiation.why);
	return 0;
}

/* Hands out our text, and moves on with its last piece. */
static enum login_verdict answer_step(struct login *login, uint8_t flags,
				      struct login_reply *ret_reply)
{
	bool transit = (flags & WIRE_LOGIN_TRANSIT) != 0;
	uint8_t nsg = wire_login_nsg(flags);
	bool more = login->answer_bytes - login->answer_sent > sizeof(ret_reply->text);
	uint8_t reply_flags = csg_bits(login->stage);

	if (more) {
		reply_begin(login, reply_flags | WIRE_LOGIN_CONTINUE, ret_reply);
		reply_text(login, ret_reply);
		return LOGIN_MORE;
	}
	if (transit) {
		uint16_t status = check_leave(login, nsg);

		if (status) {
			login_refuse(login, status, ret_reply);
			return LOGIN_REFUSE;
		}
	}
	if (transit && may_leave(login)) {
		if (nsg == WIRE_STAGE_FULL_FEATURE) {
			login->admitted = true;
			return LOGIN_ADMIT;
		}
		reply_flags |= WIRE_LOGIN_TRANSIT | nsg;
	}
	reply_begin(login, reply_flags, ret_reply);
	reply_text(login, ret_reply);
	if (reply_flags & WIRE_LOGIN_TRANSIT)
		login->stage = nsg;
	return LOGIN_MORE;
}

static uint16_t collect(struct login *login, const uint8_t *data, uint32_t data_bytes)
{
	switch (wire_text_buffer_add(&login->request, data, data_bytes)) {
	case 0: return 0;
	case -ENOMEM: return login_fail(login, WIRE_LOGIN_NO_RESOURCES, "out of memory");
	default:
		return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
				  "more than %d bytes of keys at once", LIMIT_LOGIN_TEXT_BYTES);
	}
}

/* While our text is under way the initiator may only ask for more of it (6.2). */
static uint16_t step_text(struct login *login, const struct wire_login_req *req,
			  const uint8_t *data, uint32_t data_bytes)
{
	uint16_t status;

	if (login->answer_sent < login->answer_bytes) {
		if (data_bytes || (req->flags & WIRE_LOGIN_CONTINUE))
			return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
					  "it sent text before it had all of ours");
		return 0;
	}
	status = collect(login, data, data_bytes);
	if (status || (req->flags & WIRE_LOGIN_CONTINUE))
		return status;
	return take_text(login);
}

enum login_verdict login_step(struct login *login, const struct wire_login_req *req,
			      const uint8_t *data, uint32_t data_bytes,
			      struct login_reply *ret_reply)
{
	uint16_t status;

	/* A peer that goes on after the end is refused like any other mistake of its. */
	status = login->admitted || login->refused
			 ? login_fail(login, WIRE_LOGIN_INVALID_DURING_LOGIN,
				      "a request came after the last one")
			 : check_header(login, req);
	if (!status)
		status = step_text(login, req, data, data_bytes);
	if (status) {
		login_refuse(login, status, ret_reply);
		return LOGIN_REFUSE;
	}
	if (req->flags & WIRE_LOGIN_CONTINUE) {
		/* 6.2: an empty answer asks for the rest. */
		reply_begin(login, csg_bits(login->stage), ret_reply);
		return LOGIN_MORE;
	}
	return answer_step(login, req->flags, ret_reply);
}

/* --- what the connection asks --- */

const char *login_why(const struct login *login)
{
	return login->why;
}

bool login_is_discovery(const struct login *login)
{
	return login->discovery;
}

const char *login_initiator_name(const struct login *login)
{
	return login->initiator;
}

const char *login_initiator_alias(const struct login *login)
{
	return login->alias;
}

const char *login_target_name(const struct login *login)
{
	return login->target_name;
}

struct target_conf *login_target(const struct login *login)
{
	return login->target;
}

enum login_by login_by(const struct login *login)
{
	return login->by;
}

const uint8_t *login_boot_id(const struct login *login)
{
	assert(login->by == LOGIN_BY_BOOT);
	return login->boot_id;
}

const struct wire_params *login_params(const struct login *login)
{
	return &login->negotiation.agreed;
}

const uint8_t *login_isid(const struct login *login)
{
	return login->isid;
}

uint16_t login_tsih(const struct login *login)
{
	return login->tsih;
}

uint16_t login_cid(const struct login *login)
{
	return login->cid;
}
