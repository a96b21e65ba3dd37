/*
 * The login phase, initiator's side.
 *
 *     AUTH_METHOD --CHAP--> CHAP_OFFER --A,I,C--> CHAP_PROOF --T--> OPERATIONAL --T--> ENDED
 *                                                                      ^
 *     without a user the login begins here ----------------------------'
 *
 * The steps are not merged: a target may choose what it is offered, and only then do the next
 * keys have a meaning. Four exchanges with CHAP, one without.
 */
#include "initramfs/initiator.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "wire/text.h"

#define LOGIN_ITT 0x6c756e00u /* any but the reserved one; there is one task in a login */

static enum initiator_verdict broken(struct initiator *initiator, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static enum initiator_verdict broken(struct initiator *initiator, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(initiator->why, sizeof(initiator->why), format, args);
	va_end(args);
	initiator->phase = INITIATOR_ENDED;
	return INITIATOR_BROKEN;
}

/* --- requests --- */

static enum wire_stage stage_of(const struct initiator *initiator)
{
	return initiator->phase == INITIATOR_OPERATIONAL ? WIRE_STAGE_OPERATIONAL
							 : WIRE_STAGE_SECURITY;
}

/* An empty request of the present stage that asks for no transit. */
static void request_begin(const struct initiator *initiator, struct initiator_request *request,
			  struct wire_text_writer *ret_writer)
{
	const struct initiator_wish *wish = initiator->wish;
	struct wire_login_req *bhs = &request->bhs;

	*request = (struct initiator_request){.bhs = {.opcode = WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE,
						      .version_max = WIRE_VERSION,
						      .version_min = WIRE_VERSION}};
	memcpy(bhs->isid, wish->isid, sizeof(bhs->isid));
	be32_put(&bhs->itt, LOGIN_ITT);
	be32_put(&bhs->cmdsn, wish->cmdsn);
	/* Nothing was received before the first response, so nothing is acknowledged by it. */
	be32_put(&bhs->expstatsn, initiator->pdus ? initiator->statsn + 1 : 0);
	bhs->flags = (uint8_t)(stage_of(initiator) << WIRE_LOGIN_CSG_SHIFT);
	wire_text_writer_init(ret_writer, request->text, sizeof(request->text));
}

static void request_transit(struct initiator_request *request, enum wire_stage next)
{
	request->bhs.flags |= (uint8_t)(WIRE_LOGIN_TRANSIT | next);
}

static enum initiator_verdict request_end(struct initiator *initiator,
					  struct initiator_request *request,
					  const struct wire_text_writer *writer)
{
	if (writer->overflow)
		return broken(initiator, "our own keys do not fit one login request");
	request->text_bytes = (uint32_t)writer->bytes;
	be24_put(&request->bhs.data_bytes, request->text_bytes);
	return INITIATOR_SEND;
}

static void put_names(const struct initiator *initiator, struct wire_text_writer *writer)
{
	const struct initiator_wish *wish = initiator->wish;

	wire_text_put(writer, "InitiatorName", wish->initiator);
	if (wish->alias[0])
		wire_text_put(writer, "InitiatorAlias", wish->alias);
	wire_text_put(writer, "TargetName", wish->target);
	wire_text_put(writer, "SessionType", "Normal");
}

/* The operational keys (once), and the wish to be done. */
static void put_operational(struct initiator *initiator, struct initiator_request *request,
			    struct wire_text_writer *writer)
{
	if (!initiator->opened)
		wire_negotiation_open(&initiator->negotiation, writer);
	initiator->opened = true;
	request_transit(request, WIRE_STAGE_FULL_FEATURE);
}

static struct wire_params params_wished(const struct initiator_wish *wish)
{
	struct wire_params params = wire_params_default();

	params.header_digest = wish->header_digest;
	params.data_digest = wish->data_digest;
	params.max_recv_segment_bytes = LIMIT_SEGMENT_BYTES;
	/* As Linux's own tools wish; the target bounds it. */
	params.max_burst_bytes = 16776192;
	params.first_burst_bytes = LIMIT_FIRST_BURST_BYTES;
	params.initial_r2t = false;
	params.immediate_data = true;
	params.max_outstanding_r2t = 1;
	params.time2retain_s = 0;
	return params;
}

enum initiator_verdict initiator_begin(struct initiator *initiator,
				       const struct initiator_wish *wish,
				       struct initiator_request *ret_request)
{
	struct wire_params offered = params_wished(wish);
	struct wire_text_writer writer;

	memset(initiator, 0, sizeof(*initiator));
	initiator->wish = wish;
	initiator->phase = wish->user[0] ? INITIATOR_AUTH_METHOD : INITIATOR_OPERATIONAL;
	wire_negotiation_init(&initiator->negotiation, WIRE_INITIATOR, &offered);
	if (chap_random(initiator->challenge, sizeof(initiator->challenge)) ||
	    chap_random(&initiator->challenge_id, 1))
		return broken(initiator, "the kernel has no random bytes");
	request_begin(initiator, ret_request, &writer);
	put_names(initiator, &writer);
	if (initiator->phase == INITIATOR_AUTH_METHOD)
		wire_text_put(&writer, "AuthMethod", "CHAP");
	else
		put_operational(initiator, ret_request, &writer);
	return request_end(initiator, ret_request, &writer);
}

void initiator_done(struct initiator *initiator)
{
	explicit_bzero(initiator->challenge, sizeof(initiator->challenge));
	explicit_bzero(initiator->text, sizeof(initiator->text));
}

/* --- responses --- */

/* The keys of a step that the negotiation leaves to us. */
struct step_keys {
	struct initiator *initiator;
	const char *auth_method, *chap_a, *chap_i, *chap_c, *chap_n, *chap_r;
};

static int take_key(void *arg, enum wire_key key, const struct wire_text_pair *pair)
{
	struct step_keys *keys = arg;
	uint64_t number;

	switch (key) {
	case WIRE_KEY_AUTH_METHOD: keys->auth_method = pair->value; break;
	case WIRE_KEY_CHAP_A: keys->chap_a = pair->value; break;
	case WIRE_KEY_CHAP_I: keys->chap_i = pair->value; break;
	case WIRE_KEY_CHAP_C: keys->chap_c = pair->value; break;
	case WIRE_KEY_CHAP_N: keys->chap_n = pair->value; break;
	case WIRE_KEY_CHAP_R: keys->chap_r = pair->value; break;
	case WIRE_KEY_TARGET_PORTAL_GROUP_TAG:
		if (wire_text_number(pair->value, 0, UINT16_MAX, &number))
			return -EINVAL;
		keys->initiator->portal_group_tag = (uint16_t)number;
		break;
	default: break; /* names and aliases of the target: nothing depends on them */
	}
	return 0;
}

/* AuthMethod was answered: offer the algorithms, the stronger first (RFC 7143, 12.1.3). */
static enum initiator_verdict take_auth_method(struct initiator *initiator,
					       const struct step_keys *keys,
					       struct initiator_request *request)
{
	struct wire_text_writer writer;

	if (!keys->auth_method || strcmp(keys->auth_method, "CHAP") != 0)
		return broken(initiator,
			      "the target does not ask for CHAP (AuthMethod=%.40s), but "
			      "a user and a secret are set",
			      keys->auth_method ? keys->auth_method : "");
	initiator->phase = INITIATOR_CHAP_OFFER;
	request_begin(initiator, request, &writer);
	wire_text_put(&writer, "CHAP_A", "7,5");
	return request_end(initiator, request, &writer);
}

/* A challenge came: prove ourselves, and ask for a proof if one is wanted. */
static enum initiator_verdict take_challenge(struct initiator *initiator,
					     const struct step_keys *keys,
					     struct initiator_request *request)
{
	const struct initiator_wish *wish = initiator->wish;
	uint8_t challenge[LIMIT_CHAP_BINARY_BYTES], response[CHAP_DIGEST_BYTES_MAX];
	size_t challenge_bytes;
	struct wire_text_writer writer;
	uint64_t algorithm, id;

	if (!keys->chap_a || !keys->chap_i || !keys->chap_c ||
	    wire_text_number(keys->chap_a, 0, UINT32_MAX, &algorithm) ||
	    wire_text_number(keys->chap_i, 0, UINT8_MAX, &id) ||
	    wire_text_binary(keys->chap_c, challenge, sizeof(challenge), &challenge_bytes))
		return broken(initiator, "the target's challenge is malformed");
	if (algorithm != CHAP_SHA256 && algorithm != CHAP_MD5)
		return broken(initiator, "the target chose a CHAP algorithm that was not offered");
	initiator->algorithm = (enum chap_algorithm)algorithm;
	if (chap_response(initiator->algorithm, (uint8_t)id, (const uint8_t *)wish->secret,
			  strlen(wish->secret), challenge, challenge_bytes, response))
		return broken(initiator, "%s can't be computed",
			      chap_algorithm_name((unsigned)algorithm));
	initiator->phase = INITIATOR_CHAP_PROOF;
	request_begin(initiator, request, &writer);
	wire_text_put(&writer, "CHAP_N", wish->user);
	wire_text_put_binary(&writer, "CHAP_R", response, chap_digest_bytes((unsigned)algorithm));
	if (wish->mutual_user[0]) {
		/* 9.2.1: a target that gets its own challenge back could have us answer it. */
		if (chap_equal(challenge, challenge_bytes, initiator->challenge,
			       sizeof(initiator->challenge)))
			return broken(initiator, "the target sends our own challenge back");
		wire_text_put_number(&writer, "CHAP_I", initiator->challenge_id);
		wire_text_put_binary(&writer, "CHAP_C", initiator->challenge,
				     sizeof(initiator->challenge));
	}
	request_transit(request, WIRE_STAGE_OPERATIONAL);
	return request_end(initiator, request, &writer);
}

static bool target_proved(const struct initiator *initiator, const struct step_keys *keys)
{
	const struct initiator_wish *wish = initiator->wish;
	uint8_t got[LIMIT_CHAP_BINARY_BYTES], want[CHAP_DIGEST_BYTES_MAX];
	size_t got_bytes;

	return keys->chap_n && keys->chap_r && strcmp(keys->chap_n, wish->mutual_user) == 0 &&
	       wire_text_binary(keys->chap_r, got, sizeof(got), &got_bytes) == 0 &&
	       chap_response(initiator->algorithm, initiator->challenge_id,
			     (const uint8_t *)wish->mutual_secret, strlen(wish->mutual_secret),
			     initiator->challenge, sizeof(initiator->challenge), want) == 0 &&
	       chap_equal(got, got_bytes, want, chap_digest_bytes(initiator->algorithm));
}

static enum initiator_verdict take_proof(struct initiator *initiator, const struct step_keys *keys,
					 bool transit, struct initiator_request *request)
{
	struct wire_text_writer writer;

	if (initiator->wish->mutual_user[0] && !initiator->proved &&
	    !target_proved(initiator, keys))
		return broken(initiator, "the target could not prove that it is the right one "
					 "(mutual CHAP): mutual_user or mutual_secret differ");
	initiator->proved = true;
	if (!transit) {
		/* Its proof came in several PDUs, or it wants to be asked again. */
		request_begin(initiator, request, &writer);
		request_transit(request, WIRE_STAGE_OPERATIONAL);
		return request_end(initiator, request, &writer);
	}
	initiator->phase = INITIATOR_OPERATIONAL;
	request_begin(initiator, request, &writer);
	put_operational(initiator, request, &writer);
	return request_end(initiator, request, &writer);
}

/* What Linux can do with a session (RFC 7143, 13): nothing beyond what was offered, ERL 0. */
static enum initiator_verdict take_operational(struct initiator *initiator, bool transit,
					       const struct wire_text_writer *answers,
					       struct initiator_request *request)
{
	struct wire_text_writer writer;

	if (transit) {
		if (wire_negotiation_finish(&initiator->negotiation))
			return broken(initiator, "the target's %s", initiator->negotiation.why);
		if (initiator->tsih == 0)
			return broken(initiator, "the target names no session (TSIH 0)");
		initiator->phase = INITIATOR_ENDED;
		return INITIATOR_DONE;
	}
	/* It has offers of its own, or more to say: answer, and ask again. */
	request_begin(initiator, request, &writer);
	if (answers->bytes) {
		memcpy(writer.text, answers->text, answers->bytes);
		writer.bytes = answers->bytes;
	}
	put_operational(initiator, request, &writer);
	return request_end(initiator, request, &writer);
}

static enum initiator_verdict take_step(struct initiator *initiator, bool transit,
					struct initiator_request *request)
{
	struct step_keys keys = {.initiator = initiator};
	/* Too large for the stack of a program that locks its memory; nothing here is reentrant. */
	static struct wire_text_list list;
	static uint8_t answer_text[LIMIT_LOGIN_SEGMENT_BYTES];
	const struct wire_text_pair *failed = NULL;
	struct wire_text_writer answers;
	int r;

	r = wire_text_parse(initiator->text, initiator->text_bytes, &list);
	if (r)
		return broken(initiator, "the target's text is malformed");
	wire_text_writer_init(&answers, answer_text, sizeof(answer_text));
	r = wire_negotiation_take_all(&initiator->negotiation, stage_of(initiator), &list, take_key,
				      &keys, &answers, &failed);
	if (r && failed)
		return broken(initiator, "the target's %.63s %s", failed->key,
			      initiator->negotiation.why);
	if (r || answers.overflow)
		return broken(initiator, "the target's keys can't be answered");
	initiator->text_bytes = 0;
	switch (initiator->phase) {
	case INITIATOR_AUTH_METHOD: return take_auth_method(initiator, &keys, request);
	case INITIATOR_CHAP_OFFER: return take_challenge(initiator, &keys, request);
	case INITIATOR_CHAP_PROOF: return take_proof(initiator, &keys, transit, request);
	case INITIATOR_OPERATIONAL: return take_operational(initiator, transit, &answers, request);
	case INITIATOR_ENDED: break;
	}
	return broken(initiator, "the login is over");
}

/* A header that can't be the answer to our request; NULL if it can. */
static const char *header_fault(const struct initiator *initiator, const struct wire_login_rsp *rsp)
{
	bool transit = (rsp->flags & WIRE_LOGIN_TRANSIT) != 0;

	if ((rsp->opcode & WIRE_OPCODE_MASK) != WIRE_OP_LOGIN_RSP)
		return "what answers is no login response: is this port an iSCSI target's?";
	if (be32_get(rsp->itt) != LOGIN_ITT ||
	    memcmp(rsp->isid, initiator->wish->isid, sizeof(rsp->isid)) != 0)
		return "the response is to another login";
	if (be16_get(rsp->status) != WIRE_LOGIN_SUCCESS)
		return NULL; /* stages and versions have no meaning then (11.13) */
	if (rsp->version_active != WIRE_VERSION)
		return "the target speaks another version of iSCSI";
	if (wire_login_csg(rsp->flags) != stage_of(initiator))
		return "the target answers in another stage";
	if (transit && (rsp->flags & WIRE_LOGIN_CONTINUE))
		return "the target goes on while it has more to say";
	/* Only the proof and the operational keys ask for a transit. */
	if (transit && initiator->phase != INITIATOR_OPERATIONAL &&
	    initiator->phase != INITIATOR_CHAP_PROOF)
		return "the target goes on unasked";
	if (transit && wire_login_nsg(rsp->flags) != (initiator->phase == INITIATOR_OPERATIONAL
							      ? WIRE_STAGE_FULL_FEATURE
							      : WIRE_STAGE_OPERATIONAL))
		return "the target goes on to another stage";
	return NULL;
}

/* 0101 and 0102 carry the address to go to. */
static enum initiator_verdict take_redirect(struct initiator *initiator)
{
	static struct wire_text_list list;
	const struct wire_text_pair *pair = NULL;

	if (wire_text_parse(initiator->text, initiator->text_bytes, &list) == 0)
		pair = wire_text_find(&list, "TargetAddress");
	if (!pair || pair->value_bytes >= sizeof(initiator->moved_to))
		return broken(initiator, "the target has moved and does not say where to");
	memcpy(initiator->moved_to, pair->value, pair->value_bytes + 1);
	initiator->phase = INITIATOR_ENDED;
	return INITIATOR_MOVED;
}

static enum initiator_verdict take_refusal(struct initiator *initiator)
{
	(void)snprintf(initiator->why, sizeof(initiator->why), "%s (%04x)",
		       wire_login_status_name(initiator->status), (unsigned)initiator->status);
	initiator->phase = INITIATOR_ENDED;
	return INITIATOR_REFUSED;
}

enum initiator_verdict initiator_step(struct initiator *initiator, const struct wire_login_rsp *rsp,
				      const uint8_t *data, uint32_t data_bytes,
				      struct initiator_request *ret_request)
{
	const char *fault;
	struct wire_text_writer writer;

	assert(initiator->phase != INITIATOR_ENDED);
	assert(data_bytes <= LIMIT_LOGIN_SEGMENT_BYTES);
	fault = header_fault(initiator, rsp);
	if (fault)
		return broken(initiator, "%s", fault);
	if (++initiator->pdus > LIMIT_LOGIN_PDUS)
		return broken(initiator, "the target never comes to an end");
	if (initiator->text_bytes + data_bytes > sizeof(initiator->text))
		return broken(initiator, "the target says more than %u bytes in one step",
			      (unsigned)sizeof(initiator->text));
	if (data_bytes)
		memcpy(initiator->text + initiator->text_bytes, data, data_bytes);
	initiator->text_bytes += data_bytes;
	initiator->status = be16_get(rsp->status);
	if (initiator->status == WIRE_LOGIN_MOVED_TEMPORARILY ||
	    initiator->status == WIRE_LOGIN_MOVED_PERMANENTLY)
		return take_redirect(initiator);
	if (initiator->status != WIRE_LOGIN_SUCCESS)
		return take_refusal(initiator);
	/* StatSN holds for success only (11.13.4). */
	initiator->statsn = be32_get(rsp->statsn);
	initiator->tsih = be16_get(rsp->tsih);
	if (rsp->flags & WIRE_LOGIN_CONTINUE) {
		/* 6.2: an empty request asks for the rest. */
		request_begin(initiator, ret_request, &writer);
		return request_end(initiator, ret_request, &writer);
	}
	return take_step(initiator, (rsp->flags & WIRE_LOGIN_TRANSIT) != 0, ret_request);
}

const char *initiator_cure(uint16_t status)
{
	switch (status) {
	case WIRE_LOGIN_AUTH_FAILED:
		return "user or secret are not those the target knows: see lunctl show --secrets";
	case WIRE_LOGIN_FORBIDDEN: return "the target does not let this initiator name in";
	case WIRE_LOGIN_NOT_FOUND:
		return "the server has no such target: see lunctl ls for its name";
	case WIRE_LOGIN_TARGET_REMOVED: return "the target was removed: see lunctl ls";
	case WIRE_LOGIN_MISSING_PARAMETER: return "the target misses a key";
	case WIRE_LOGIN_TARGET_ERROR:
	case WIRE_LOGIN_UNAVAILABLE:
	case WIRE_LOGIN_NO_RESOURCES:
		return "the target can't serve the disk now: its log says why";
	default: return "see the target's log";
	}
}
