/*
 * The keys of RFC 7143, sections 12 and 13, as one table, and the engine that negotiates by it.
 *
 * The rules that shape it (6.2): each offer is answered exactly once; a value that is malformed
 * or out of range is answered with Reject and leaves the default in force; an unknown key is
 * answered with NotUnderstood; declarations get no answer, so a bad one can only end the login;
 * the same key twice ends it too. We answer also where the RFC allows silence (a Yes that meets
 * an AND with No, say), because initiators count on it.
 */
#include "wire/params.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/limits.h"

#define SEGMENT_BYTES_MIN 512
#define SEGMENT_BYTES_MAX 16777215 /* 2^24 - 1 */

enum key_rule {
	RULE_CALLER, /* names and authentication */
	RULE_AND,    /* booleans */
	RULE_OR,
	RULE_MIN, /* numbers */
	RULE_MAX,
	RULE_DIGEST,    /* list, first acceptable to us */
	RULE_SEGMENT,   /* declared by each side for itself */
	RULE_REPORTING, /* TaskReporting: we have only the rules of RFC 3720 and 7143 */
	RULE_LEVEL,     /* iSCSIProtocolLevel: 1 at most (RFC 7144, 7.1.1) */
	RULE_NO_MARKER, /* obsolete, No */
	RULE_REJECT,    /* obsolete, Reject */
};

enum {
	IN_SECURITY = 1 << 0, /* the stages a key may come at */
	IN_OPERATIONAL = 1 << 1,
	IN_LOGIN = IN_SECURITY | IN_OPERATIONAL,
	IN_FULL_FEATURE = 1 << 2,
	BY_INITIATOR = 1 << 3,
	BY_TARGET = 1 << 4,
	BY_BOTH = BY_INITIATOR | BY_TARGET,
	NORMAL_ONLY = 1 << 5, /* Irrelevant in a discovery session */
	AGAIN = 1 << 6,       /* libiscsi declares its names at both stages: the caller compares */
};

struct key_row {
	const char *name;
	enum key_rule rule;
	unsigned use;
	uint32_t min, max;
	size_t offset; /* in struct wire_params */
};

#define FIELD(name) offsetof(struct wire_params, name)
#define OPERATIONAL (IN_OPERATIONAL | BY_BOTH)
#define NORMAL      (OPERATIONAL | NORMAL_ONLY)

/* clang-format off */
static const struct key_row key_rows[WIRE_KEY_COUNT] = {
	[WIRE_KEY_INITIATOR_NAME] = { "InitiatorName", RULE_CALLER, IN_LOGIN | AGAIN | BY_INITIATOR, 0, 0, 0 },
	[WIRE_KEY_INITIATOR_ALIAS] = { "InitiatorAlias", RULE_CALLER, IN_LOGIN | AGAIN | IN_FULL_FEATURE | BY_INITIATOR, 0, 0, 0 },
	[WIRE_KEY_TARGET_NAME] = { "TargetName", RULE_CALLER, IN_LOGIN | AGAIN | BY_BOTH, 0, 0, 0 },
	[WIRE_KEY_TARGET_ALIAS] = { "TargetAlias", RULE_CALLER, IN_LOGIN | IN_FULL_FEATURE | BY_TARGET, 0, 0, 0 },
	[WIRE_KEY_TARGET_ADDRESS] = { "TargetAddress", RULE_CALLER, IN_LOGIN | IN_FULL_FEATURE | BY_TARGET, 0, 0, 0 },
	[WIRE_KEY_TARGET_PORTAL_GROUP_TAG] = { "TargetPortalGroupTag", RULE_CALLER, IN_LOGIN | BY_TARGET, 0, 0, 0 },
	[WIRE_KEY_SESSION_TYPE] = { "SessionType", RULE_CALLER, IN_LOGIN | AGAIN | BY_INITIATOR, 0, 0, 0 },
	[WIRE_KEY_SEND_TARGETS] = { "SendTargets", RULE_CALLER, IN_FULL_FEATURE | BY_INITIATOR, 0, 0, 0 },
	[WIRE_KEY_AUTH_METHOD] = { "AuthMethod", RULE_CALLER, IN_SECURITY | BY_BOTH, 0, 0, 0 },
	[WIRE_KEY_CHAP_A] = { "CHAP_A", RULE_CALLER, IN_SECURITY | BY_BOTH, 0, 0, 0 },
	[WIRE_KEY_CHAP_I] = { "CHAP_I", RULE_CALLER, IN_SECURITY | BY_BOTH, 0, 0, 0 },
	[WIRE_KEY_CHAP_C] = { "CHAP_C", RULE_CALLER, IN_SECURITY | BY_BOTH, 0, 0, 0 },
	[WIRE_KEY_CHAP_N] = { "CHAP_N", RULE_CALLER, IN_SECURITY | BY_BOTH, 0, 0, 0 },
	[WIRE_KEY_CHAP_R] = { "CHAP_R", RULE_CALLER, IN_SECURITY | BY_BOTH, 0, 0, 0 },
	[WIRE_KEY_HEADER_DIGEST] = { "HeaderDigest", RULE_DIGEST, OPERATIONAL, 0, 0, FIELD(header_digest) },
	[WIRE_KEY_DATA_DIGEST] = { "DataDigest", RULE_DIGEST, OPERATIONAL, 0, 0, FIELD(data_digest) },
	[WIRE_KEY_MAX_CONNECTIONS] = { "MaxConnections", RULE_MIN, NORMAL, 1, 65535, FIELD(max_connections) },
	[WIRE_KEY_INITIAL_R2T] = { "InitialR2T", RULE_OR, NORMAL, 0, 0, FIELD(initial_r2t) },
	[WIRE_KEY_IMMEDIATE_DATA] = { "ImmediateData", RULE_AND, NORMAL, 0, 0, FIELD(immediate_data) },
	[WIRE_KEY_MAX_RECV_SEGMENT] = { "MaxRecvDataSegmentLength", RULE_SEGMENT, OPERATIONAL | IN_FULL_FEATURE, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX, FIELD(max_send_segment_bytes) },
	[WIRE_KEY_MAX_BURST] = { "MaxBurstLength", RULE_MIN, NORMAL, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX, FIELD(max_burst_bytes) },
	[WIRE_KEY_FIRST_BURST] = { "FirstBurstLength", RULE_MIN, NORMAL, SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX, FIELD(first_burst_bytes) },
	[WIRE_KEY_TIME2WAIT] = { "DefaultTime2Wait", RULE_MAX, OPERATIONAL, 0, 3600, FIELD(time2wait_s) },
	[WIRE_KEY_TIME2RETAIN] = { "DefaultTime2Retain", RULE_MIN, OPERATIONAL, 0, 3600, FIELD(time2retain_s) },
	[WIRE_KEY_MAX_OUTSTANDING_R2T] = { "MaxOutstandingR2T", RULE_MIN, NORMAL, 1, 65535, FIELD(max_outstanding_r2t) },
	[WIRE_KEY_DATA_PDU_IN_ORDER] = { "DataPDUInOrder", RULE_OR, NORMAL, 0, 0, FIELD(data_pdu_in_order) },
	[WIRE_KEY_DATA_SEQUENCE_IN_ORDER] = { "DataSequenceInOrder", RULE_OR, NORMAL, 0, 0, FIELD(data_sequence_in_order) },
	[WIRE_KEY_ERROR_RECOVERY_LEVEL] = { "ErrorRecoveryLevel", RULE_MIN, OPERATIONAL, 0, 2, FIELD(error_recovery_level) },
	[WIRE_KEY_TASK_REPORTING] = { "TaskReporting", RULE_REPORTING, NORMAL, 0, 0, 0 },
	[WIRE_KEY_PROTOCOL_LEVEL] = { "iSCSIProtocolLevel", RULE_LEVEL, NORMAL, 0, 31, 0 },
	[WIRE_KEY_IF_MARKER] = { "IFMarker", RULE_NO_MARKER, OPERATIONAL, 0, 0, 0 },
	[WIRE_KEY_OF_MARKER] = { "OFMarker", RULE_NO_MARKER, OPERATIONAL, 0, 0, 0 },
	[WIRE_KEY_IF_MARK_INT] = { "IFMarkInt", RULE_REJECT, OPERATIONAL, 0, 0, 0 },
	[WIRE_KEY_OF_MARK_INT] = { "OFMarkInt", RULE_REJECT, OPERATIONAL, 0, 0, 0 },
};
/* clang-format on */

static_assert(WIRE_KEY_COUNT <= 64, "one bit for each key");

static uint64_t key_bit(enum wire_key key)
{
	return 1ull << key;
}

enum wire_key wire_key_find(const char *name)
{
	for (int key = WIRE_KEY_UNKNOWN + 1; key < WIRE_KEY_COUNT; key++) {
		if (strcmp(key_rows[key].name, name) == 0)
			return (enum wire_key)key;
	}
	return WIRE_KEY_UNKNOWN;
}

const char *wire_key_name(enum wire_key key)
{
	assert(key > WIRE_KEY_UNKNOWN && key < WIRE_KEY_COUNT);
	return key_rows[key].name;
}

struct wire_params wire_params_default(void)
{
	return (struct wire_params){
		.max_recv_segment_bytes = 8192,
		.max_send_segment_bytes = 8192,
		.max_burst_bytes = 262144,
		.first_burst_bytes = 65536,
		.initial_r2t = true,
		.immediate_data = true,
		.max_outstanding_r2t = 1,
		.data_pdu_in_order = true,
		.data_sequence_in_order = true,
		.error_recovery_level = 0,
		.time2wait_s = 2,
		.time2retain_s = 20,
		.max_connections = 1,
	};
}

struct wire_params wire_params_target(void)
{
	return (struct wire_params){
		.header_digest = true,
		.data_digest = true,
		.max_recv_segment_bytes = LIMIT_SEGMENT_BYTES,
		.max_burst_bytes = LIMIT_MAX_BURST_BYTES,
		.first_burst_bytes = LIMIT_FIRST_BURST_BYTES,
		.initial_r2t = false,
		.immediate_data = true,
		.max_outstanding_r2t = LIMIT_OUTSTANDING_R2T,
		.data_pdu_in_order = true,
		.data_sequence_in_order = true,
		.error_recovery_level = 0,
		/* Nothing is kept for a lost connection, so nobody needs to wait for it either. */
		.time2wait_s = 0,
		.time2retain_s = 0,
		.max_connections = 1,
	};
}

void wire_negotiation_init(struct wire_negotiation *negotiation, enum wire_side side,
			   const struct wire_params *offered)
{
	*negotiation = (struct wire_negotiation){
		.side = side,
		.offered = *offered,
		.requested = wire_params_default(),
		.agreed = wire_params_default(),
	};
}

/* --- fields of struct wire_params by their row --- */

static uint32_t number_get(const struct wire_params *params, const struct key_row *row)
{
	uint32_t number;

	memcpy(&number, (const char *)params + row->offset, sizeof(number));
	return number;
}

static void number_set(struct wire_params *params, const struct key_row *row, uint32_t number)
{
	memcpy((char *)params + row->offset, &number, sizeof(number));
}

static bool boolean_get(const struct wire_params *params, const struct key_row *row)
{
	bool boolean;

	memcpy(&boolean, (const char *)params + row->offset, sizeof(boolean));
	return boolean;
}

static void boolean_set(struct wire_params *params, const struct key_row *row, bool boolean)
{
	memcpy((char *)params + row->offset, &boolean, sizeof(boolean));
}

/* --- one key --- */

static enum wire_take take_failed(struct wire_negotiation *negotiation, const char *why)
{
	negotiation->why = why;
	return WIRE_TAKE_FAILED;
}

static enum wire_take take_reject(const char *name, struct wire_text_writer *answer)
{
	wire_text_put(answer, name, "Reject");
	return WIRE_TAKE_DONE;
}

static bool is_reserved_answer(const char *value)
{
	return strcmp(value, "Reject") == 0 || strcmp(value, "Irrelevant") == 0 ||
	       strcmp(value, "NotUnderstood") == 0;
}

/* Our answer to a number; it is never beyond what the peer offered. */
static uint32_t number_result(const struct wire_negotiation *negotiation, enum wire_key key,
			      uint32_t requested)
{
	const struct key_row *row = &key_rows[key];
	uint32_t ours = number_get(&negotiation->offered, row);
	uint32_t result;

	if (row->rule == RULE_MAX)
		return ours > requested ? ours : requested;
	result = ours < requested ? ours : requested;
	/* 13.14: FirstBurstLength must not exceed MaxBurstLength. */
	if (key == WIRE_KEY_FIRST_BURST && result > negotiation->agreed.max_burst_bytes)
		result = negotiation->agreed.max_burst_bytes;
	return result;
}

static enum wire_take offer_number(struct wire_negotiation *negotiation, enum wire_key key,
				   const char *value, struct wire_text_writer *answer)
{
	const struct key_row *row = &key_rows[key];
	uint64_t number;
	uint32_t result;

	if (wire_text_number(value, row->min, row->max, &number))
		return take_reject(row->name, answer);
	number_set(&negotiation->requested, row, (uint32_t)number);
	result = number_result(negotiation, key, (uint32_t)number);
	number_set(&negotiation->agreed, row, result);
	negotiation->answered |= key_bit(key);
	wire_text_put_number(answer, row->name, result);
	return WIRE_TAKE_DONE;
}

static enum wire_take offer_boolean(struct wire_negotiation *negotiation, enum wire_key key,
				    const char *value, struct wire_text_writer *answer)
{
	const struct key_row *row = &key_rows[key];
	bool requested, ours = boolean_get(&negotiation->offered, row), result;

	if (wire_text_boolean(value, &requested))
		return take_reject(row->name, answer);
	boolean_set(&negotiation->requested, row, requested);
	result = row->rule == RULE_AND ? requested && ours : requested || ours;
	boolean_set(&negotiation->agreed, row, result);
	negotiation->answered |= key_bit(key);
	wire_text_put_boolean(answer, row->name, result);
	return WIRE_TAKE_DONE;
}

/* 6.2.1: the first of the peer's list that we take too. */
static enum wire_take offer_digest(struct wire_negotiation *negotiation, enum wire_key key,
				   const char *value, struct wire_text_writer *answer)
{
	const struct key_row *row = &key_rows[key];
	bool allowed = boolean_get(&negotiation->offered, row);
	size_t position = 0, bytes;
	const char *item;

	while (wire_text_list_next(value, &position, &item, &bytes)) {
		bool crc = bytes == 6 && memcmp(item, "CRC32C", 6) == 0;

		if (!(crc && allowed) && !(bytes == 4 && memcmp(item, "None", 4) == 0))
			continue;
		boolean_set(&negotiation->requested, row, crc);
		boolean_set(&negotiation->agreed, row, crc);
		negotiation->answered |= key_bit(key);
		wire_text_put(answer, row->name, crc ? "CRC32C" : "None");
		return WIRE_TAKE_DONE;
	}
	return take_reject(row->name, answer);
}

static enum wire_take take_segment(struct wire_negotiation *negotiation, const char *value)
{
	const struct key_row *row = &key_rows[WIRE_KEY_MAX_RECV_SEGMENT];
	uint64_t number;

	/* The peer's limit on what it receives is the limit on what we send. */
	if (wire_text_number(value, row->min, row->max, &number))
		return take_failed(negotiation, "is not a number from 512 to 16777215");
	negotiation->requested.max_send_segment_bytes = (uint32_t)number;
	negotiation->agreed.max_send_segment_bytes = (uint32_t)number;
	return WIRE_TAKE_DONE;
}

static enum wire_take offer_level(const char *value, struct wire_text_writer *answer)
{
	const struct key_row *row = &key_rows[WIRE_KEY_PROTOCOL_LEVEL];
	uint64_t number;

	if (wire_text_number(value, row->min, row->max, &number))
		return take_reject(row->name, answer);
	wire_text_put_number(answer, row->name, number < 1 ? number : 1);
	return WIRE_TAKE_DONE;
}

static enum wire_take take_offer(struct wire_negotiation *negotiation, enum wire_key key,
				 const char *value, struct wire_text_writer *answer)
{
	const char *name = key_rows[key].name;
	bool boolean;

	switch (key_rows[key].rule) {
	case RULE_CALLER: return WIRE_TAKE_CALLER;
	case RULE_AND:
	case RULE_OR: return offer_boolean(negotiation, key, value, answer);
	case RULE_MIN:
	case RULE_MAX: return offer_number(negotiation, key, value, answer);
	case RULE_DIGEST: return offer_digest(negotiation, key, value, answer);
	case RULE_SEGMENT: return take_segment(negotiation, value);
	case RULE_REPORTING:
		if (!wire_text_list_has(value, "RFC3720"))
			return take_reject(name, answer);
		wire_text_put(answer, name, "RFC3720");
		return WIRE_TAKE_DONE;
	case RULE_LEVEL: return offer_level(value, answer);
	case RULE_NO_MARKER:
		if (wire_text_boolean(value, &boolean))
			return take_reject(name, answer);
		wire_text_put(answer, name, "No");
		return WIRE_TAKE_DONE;
	case RULE_REJECT: return take_reject(name, answer);
	}
	return take_failed(negotiation, "has no rule");
}

/* --- answers to what we offered --- */

static enum wire_take answer_number(struct wire_negotiation *negotiation, enum wire_key key,
				    const char *value)
{
	const struct key_row *row = &key_rows[key];
	uint32_t ours = number_get(&negotiation->offered, row);
	uint64_t number;

	if (wire_text_number(value, row->min, row->max, &number) ||
	    (row->rule == RULE_MAX ? number < ours : number > ours))
		return take_failed(negotiation, "answers beyond what was offered");
	number_set(&negotiation->agreed, row, (uint32_t)number);
	return WIRE_TAKE_DONE;
}

static enum wire_take answer_boolean(struct wire_negotiation *negotiation, enum wire_key key,
				     const char *value)
{
	const struct key_row *row = &key_rows[key];
	bool ours = boolean_get(&negotiation->offered, row), result;

	/* An AND with No is No, an OR with Yes is Yes, whatever the peer wishes. */
	if (wire_text_boolean(value, &result) ||
	    (row->rule == RULE_AND ? result && !ours : !result && ours))
		return take_failed(negotiation, "answers beyond what was offered");
	boolean_set(&negotiation->agreed, row, result);
	return WIRE_TAKE_DONE;
}

static enum wire_take answer_digest(struct wire_negotiation *negotiation, enum wire_key key,
				    const char *value)
{
	const struct key_row *row = &key_rows[key];
	bool crc = strcmp(value, "CRC32C") == 0;

	if ((!crc && strcmp(value, "None") != 0) ||
	    (crc && !boolean_get(&negotiation->offered, row)))
		return take_failed(negotiation, "answers beyond what was offered");
	boolean_set(&negotiation->agreed, row, crc);
	return WIRE_TAKE_DONE;
}

static enum wire_take take_answer(struct wire_negotiation *negotiation, enum wire_key key,
				  const char *value)
{
	if (is_reserved_answer(value))
		return WIRE_TAKE_DONE; /* the default stays in force (6.2) */
	negotiation->answered |= key_bit(key);
	switch (key_rows[key].rule) {
	case RULE_MIN:
	case RULE_MAX: return answer_number(negotiation, key, value);
	case RULE_AND:
	case RULE_OR: return answer_boolean(negotiation, key, value);
	case RULE_DIGEST: return answer_digest(negotiation, key, value);
	case RULE_CALLER:
	case RULE_SEGMENT:
	case RULE_REPORTING:
	case RULE_LEVEL:
	case RULE_NO_MARKER:
	case RULE_REJECT: break;
	}
	return take_failed(negotiation, "answers what was not offered");
}

/* --- the engine --- */

static unsigned stage_use(enum wire_stage stage)
{
	switch (stage) {
	case WIRE_STAGE_SECURITY: return IN_SECURITY;
	case WIRE_STAGE_OPERATIONAL: return IN_OPERATIONAL;
	case WIRE_STAGE_FULL_FEATURE: return IN_FULL_FEATURE;
	}
	return 0;
}

enum wire_take wire_negotiation_take(struct wire_negotiation *negotiation, enum wire_stage stage,
				     const struct wire_text_pair *pair,
				     struct wire_text_writer *answer)
{
	enum wire_key key = wire_key_find(pair->key);
	const struct key_row *row = &key_rows[key];
	unsigned by_peer = negotiation->side == WIRE_TARGET ? BY_INITIATOR : BY_TARGET;

	if (key == WIRE_KEY_UNKNOWN) {
		/* The answer to an answer would never end. */
		if (!is_reserved_answer(pair->value))
			wire_text_put(answer, pair->key, "NotUnderstood");
		return WIRE_TAKE_DONE;
	}
	/* A peer that does not know our declarations may say so; they need no answer. */
	if ((negotiation->sent & key_bit(key)) && is_reserved_answer(pair->value))
		return WIRE_TAKE_DONE;
	if (!(row->use & by_peer))
		return take_failed(negotiation, "is not this side's to send");
	if (!(row->use & stage_use(stage)))
		return take_failed(negotiation, "does not belong to this stage");
	if ((negotiation->taken & key_bit(key)) && !(row->use & AGAIN))
		return take_failed(negotiation, "was sent twice");
	negotiation->taken |= key_bit(key);
	if (row->rule == RULE_CALLER)
		return WIRE_TAKE_CALLER;
	if ((negotiation->sent & key_bit(key)) && row->rule != RULE_SEGMENT)
		return take_answer(negotiation, key, pair->value);
	if (negotiation->discovery && (row->use & NORMAL_ONLY)) {
		wire_text_put(answer, row->name, "Irrelevant");
		return WIRE_TAKE_DONE;
	}
	return take_offer(negotiation, key, pair->value, answer);
}

int wire_negotiation_take_all(struct wire_negotiation *negotiation, enum wire_stage stage,
			      const struct wire_text_list *list,
			      int (*caller_key)(void *arg, enum wire_key key,
						const struct wire_text_pair *pair),
			      void *arg, struct wire_text_writer *answer,
			      const struct wire_text_pair **ret_failed)
{
	/* FirstBurstLength is settled last: its bound is MaxBurstLength. */
	for (int round = 0; round < 2; round++) {
		for (unsigned i = 0; i < list->count; i++) {
			const struct wire_text_pair *pair = &list->pairs[i];
			bool last = strcmp(pair->key, "FirstBurstLength") == 0;
			enum wire_take take;
			int res;

			if (last != (round == 1))
				continue;
			take = wire_negotiation_take(negotiation, stage, pair, answer);
			if (take == WIRE_TAKE_FAILED) {
				*ret_failed = pair;
				return -EPROTO;
			}
			if (take != WIRE_TAKE_CALLER)
				continue;
			res = caller_key(arg, wire_key_find(pair->key), pair);
			if (res)
				return res;
		}
	}
	return 0;
}

static void put_wish(const struct wire_negotiation *negotiation, const struct key_row *row,
		     struct wire_text_writer *writer)
{
	switch (row->rule) {
	case RULE_AND:
	case RULE_OR:
		wire_text_put_boolean(writer, row->name, boolean_get(&negotiation->offered, row));
		break;
	case RULE_MIN:
	case RULE_MAX:
		wire_text_put_number(writer, row->name, number_get(&negotiation->offered, row));
		break;
	case RULE_DIGEST:
		wire_text_put(writer, row->name,
			      boolean_get(&negotiation->offered, row) ? "CRC32C,None" : "None");
		break;
	case RULE_SEGMENT:
		wire_text_put_number(writer, row->name,
				     negotiation->offered.max_recv_segment_bytes);
		break;
	case RULE_CALLER:
	case RULE_REPORTING: /* never offered: open-iscsi gives up over them */
	case RULE_LEVEL:
	case RULE_NO_MARKER:
	case RULE_REJECT: break;
	}
}

void wire_negotiation_open(struct wire_negotiation *negotiation, struct wire_text_writer *writer)
{
	for (int i = WIRE_KEY_HEADER_DIGEST; i <= WIRE_KEY_ERROR_RECOVERY_LEVEL; i++) {
		const struct key_row *row = &key_rows[i];

		if (negotiation->side == WIRE_TARGET && row->rule != RULE_SEGMENT)
			continue;
		if (negotiation->discovery && (row->use & NORMAL_ONLY))
			continue;
		if (negotiation->sent & key_bit((enum wire_key)i))
			continue;
		put_wish(negotiation, row, writer);
		negotiation->sent |= key_bit((enum wire_key)i);
		if (row->rule == RULE_SEGMENT)
			negotiation->agreed.max_recv_segment_bytes =
				negotiation->offered.max_recv_segment_bytes;
	}
}

int wire_negotiation_finish(struct wire_negotiation *negotiation)
{
	struct wire_params *agreed = &negotiation->agreed;

	if (agreed->first_burst_bytes <= agreed->max_burst_bytes)
		return 0;
	if (negotiation->answered & key_bit(WIRE_KEY_FIRST_BURST)) {
		negotiation->why = "MaxBurstLength came after, and below, FirstBurstLength";
		return -EPROTO;
	}
	/* Only the default exceeds it: the bound of 13.14 holds for both sides. */
	agreed->first_burst_bytes = agreed->max_burst_bytes;
	return 0;
}

bool wire_params_text_ffp(struct wire_params *params, const struct wire_text_pair *pair,
			  struct wire_text_writer *answer)
{
	enum wire_key key = wire_key_find(pair->key);
	const struct key_row *row = &key_rows[key];
	uint64_t number;

	if (key == WIRE_KEY_SEND_TARGETS)
		return false;
	if (is_reserved_answer(pair->value))
		return true;
	if (key == WIRE_KEY_UNKNOWN) {
		wire_text_put(answer, pair->key, "NotUnderstood");
		return true;
	}
	if (!(row->use & IN_FULL_FEATURE) || !(row->use & BY_INITIATOR)) {
		wire_text_put(answer, row->name, "Reject");
		return true;
	}
	if (key == WIRE_KEY_MAX_RECV_SEGMENT) {
		if (wire_text_number(pair->value, row->min, row->max, &number))
			wire_text_put(answer, row->name, "Reject");
		else
			params->max_send_segment_bytes = (uint32_t)number;
	}
	return true; /* InitiatorAlias: a declaration that changes nothing */
}
