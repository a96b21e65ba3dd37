/*
 * The initiator's side of the login phase (RFC 7143, 6.3, 12, 13) as a machine without I/O: send
 * what it gives, feed it what comes back. Normal sessions of one connection, CHAP one-way or
 * mutual or none. It allocates nothing: it also runs while the root disk hangs on its success.
 */
#ifndef LUNROOT_INITRAMFS_INITIATOR_H
#define LUNROOT_INITRAMFS_INITIATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "wire/chap.h"
#include "wire/params.h"
#include "wire/pdu.h"

/* What is wanted; all must outlive the login. "" in user: no authentication is offered. */
struct initiator_wish {
	const char *initiator, *target, *alias;
	const char *user, *secret;
	const char *mutual_user, *mutual_secret; /* "": the target need not prove itself */
	uint8_t isid[6];
	uint32_t cmdsn; /* of the first command of full-feature phase */
	bool header_digest, data_digest;
};

struct initiator_request {
	struct wire_login_req bhs;
	uint8_t text[LIMIT_LOGIN_SEGMENT_BYTES]; /* padded with zeros to a multiple of 4 */
	uint32_t text_bytes;                     /* without padding */
};

enum initiator_phase {
	INITIATOR_AUTH_METHOD, /* AuthMethod was offered */
	INITIATOR_CHAP_OFFER,  /* CHAP_A was sent, a challenge shall come */
	INITIATOR_CHAP_PROOF,  /* CHAP_N and CHAP_R were sent */
	INITIATOR_OPERATIONAL,
	INITIATOR_ENDED,
};

/* Filled by the functions; read after the verdict. */
struct initiator {
	const struct initiator_wish *wish;
	enum initiator_phase phase;
	struct wire_negotiation negotiation;
	bool opened;                                           /* our operational keys were sent */
	bool proved;                                           /* the target has, or need not */
	uint8_t challenge[CHAP_CHALLENGE_BYTES], challenge_id; /* for the target to answer */
	enum chap_algorithm algorithm;
	unsigned pdus;
	/* results */
	uint16_t status, tsih, portal_group_tag;
	uint32_t statsn;                           /* of the last response */
	char moved_to[LIMIT_TEXT_KEY_BYTES + 254]; /* TargetAddress, with status 0101 or 0102 */
	char why[256];                             /* REFUSED and BROKEN: one sentence */
	/* one step's text that came in several PDUs */
	uint32_t text_bytes;
	uint8_t text[LIMIT_LOGIN_TEXT_BYTES];
};

enum initiator_verdict {
	INITIATOR_SEND,    /* send the request, feed the next response */
	INITIATOR_DONE,    /* in full-feature phase: parameters in negotiation.agreed */
	INITIATOR_MOVED,   /* try moved_to instead (11.13.5) */
	INITIATOR_REFUSED, /* the target said no: `status` */
	INITIATOR_BROKEN,  /* what came is no login, or proves nothing; close the connection */
};

/* Begins, with the first request. INITIATOR_SEND, or BROKEN without random bytes. */
enum initiator_verdict initiator_begin(struct initiator *initiator,
				       const struct initiator_wish *wish,
				       struct initiator_request *ret_request);
/*
 * One response: its header and its data (unpadded, at most LIMIT_LOGIN_SEGMENT_BYTES; the caller
 * checks that bound before it reads them).
 */
enum initiator_verdict initiator_step(struct initiator *initiator, const struct wire_login_rsp *rsp,
				      const uint8_t *data, uint32_t data_bytes,
				      struct initiator_request *ret_request);
/* Wipes challenges and texts. */
void initiator_done(struct initiator *initiator);

/* What to do about a login status, for people: a few words without a full stop. */
const char *initiator_cure(uint16_t status);

#endif
