/*
 * The operational parameters of a session (RFC 7143, section 13): what the two sides agreed on,
 * and the table-driven negotiation that gets there. No I/O and no session state; the initiator
 * program uses it too.
 */
#ifndef LUNROOT_WIRE_PARAMS_H
#define LUNROOT_WIRE_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/pdu.h"
#include "wire/text.h"

/* The values in force. Two of them are declared, one by each side, not negotiated. */
struct wire_params {
	bool header_digest, data_digest; /* CRC32C, or none */
	uint32_t max_recv_segment_bytes; /* ours: the longest data segment we take */
	uint32_t max_send_segment_bytes; /* the peer's: the longest that we may send */
	uint32_t max_burst_bytes, first_burst_bytes;
	bool initial_r2t, immediate_data;
	uint32_t max_outstanding_r2t;
	bool data_pdu_in_order, data_sequence_in_order;
	uint32_t error_recovery_level;
	uint32_t time2wait_s, time2retain_s;
	uint32_t max_connections;
};

/* The defaults of section 13, in force for what nobody negotiates. */
struct wire_params wire_params_default(void);
/* What our target wishes for. Digests: allowed, and taken if the initiator prefers them. */
struct wire_params wire_params_target(void);

/* Every key that has a meaning to us; all others are answered with NotUnderstood. */
enum wire_key {
	WIRE_KEY_UNKNOWN,
	/* who and how: the caller's, the engine only checks place and repetition */
	WIRE_KEY_INITIATOR_NAME,
	WIRE_KEY_INITIATOR_ALIAS,
	WIRE_KEY_TARGET_NAME,
	WIRE_KEY_TARGET_ALIAS,
	WIRE_KEY_TARGET_ADDRESS,
	WIRE_KEY_TARGET_PORTAL_GROUP_TAG,
	WIRE_KEY_SESSION_TYPE,
	WIRE_KEY_SEND_TARGETS,
	WIRE_KEY_AUTH_METHOD,
	WIRE_KEY_CHAP_A,
	WIRE_KEY_CHAP_I,
	WIRE_KEY_CHAP_C,
	WIRE_KEY_CHAP_N,
	WIRE_KEY_CHAP_R,
	/* operational */
	WIRE_KEY_HEADER_DIGEST,
	WIRE_KEY_DATA_DIGEST,
	WIRE_KEY_MAX_CONNECTIONS,
	WIRE_KEY_INITIAL_R2T,
	WIRE_KEY_IMMEDIATE_DATA,
	WIRE_KEY_MAX_RECV_SEGMENT,
	WIRE_KEY_MAX_BURST,
	WIRE_KEY_FIRST_BURST,
	WIRE_KEY_TIME2WAIT,
	WIRE_KEY_TIME2RETAIN,
	WIRE_KEY_MAX_OUTSTANDING_R2T,
	WIRE_KEY_DATA_PDU_IN_ORDER,
	WIRE_KEY_DATA_SEQUENCE_IN_ORDER,
	WIRE_KEY_ERROR_RECOVERY_LEVEL,
	WIRE_KEY_TASK_REPORTING,
	WIRE_KEY_PROTOCOL_LEVEL,
	WIRE_KEY_IF_MARKER,
	WIRE_KEY_OF_MARKER,
	WIRE_KEY_IF_MARK_INT,
	WIRE_KEY_OF_MARK_INT,
	WIRE_KEY_COUNT,
};

enum wire_key wire_key_find(const char *name);
const char *wire_key_name(enum wire_key key);

enum wire_side { WIRE_INITIATOR, WIRE_TARGET };

/* One login's negotiation: what we wish, what the peer asked, what is agreed so far. */
struct wire_negotiation {
	enum wire_side side; /* which one we are */
	bool discovery;
	struct wire_params offered, requested, agreed;
	uint64_t taken,
		sent; /* bits by enum wire_key: received once; sent, so answers are no offers */
	uint64_t answered; /* bits: keys whose value in `agreed` was settled between the two */
	const char *why;   /* after WIRE_TAKE_FAILED: what is wrong with the key; static */
};

void wire_negotiation_init(struct wire_negotiation *negotiation, enum wire_side side,
			   const struct wire_params *offered);

enum wire_take {
	WIRE_TAKE_DONE,   /* dealt with; the answer, if one is due, was written */
	WIRE_TAKE_CALLER, /* in its place: a key of names (perhaps again) or authentication (new) */
	WIRE_TAKE_FAILED, /* the negotiation has failed (7.12): see `why` */
};

/*
 * Takes one key at this stage (WIRE_STAGE_...): the peer's offer or declaration, or its answer
 * to one of ours. Of one step, MaxBurstLength should be given before FirstBurstLength: see
 * wire_negotiation_take_all.
 */
enum wire_take wire_negotiation_take(struct wire_negotiation *negotiation, enum wire_stage stage,
				     const struct wire_text_pair *pair,
				     struct wire_text_writer *answer);

/*
 * All keys of one step in a sensible order. Those of the caller go to `caller_key` (0, or a
 * non-zero value that ends it and is returned). 0, or -EPROTO with `why` and `ret_failed`.
 */
int wire_negotiation_take_all(struct wire_negotiation *negotiation, enum wire_stage stage,
			      const struct wire_text_list *list,
			      int (*caller_key)(void *arg, enum wire_key key,
						const struct wire_text_pair *pair),
			      void *arg, struct wire_text_writer *answer,
			      const struct wire_text_pair **ret_failed);

/*
 * The keys we open with at the operational stage: a target only declares its
 * MaxRecvDataSegmentLength (once); an initiator offers all its wishes.
 */
void wire_negotiation_open(struct wire_negotiation *negotiation, struct wire_text_writer *writer);

/* At the end of login: what holds between several keys. 0, or -EPROTO with `why`. */
int wire_negotiation_finish(struct wire_negotiation *negotiation);

/*
 * One key of a Text request in full-feature phase. True: dealt with, and the answer, if one is
 * due, was written; MaxRecvDataSegmentLength changes `params`. False for SendTargets, which is
 * the session's to answer. What belongs to login is answered with Reject.
 */
bool wire_params_text_ffp(struct wire_params *params, const struct wire_text_pair *pair,
			  struct wire_text_writer *answer);

#endif
