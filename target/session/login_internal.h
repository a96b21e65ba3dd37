/*
 * What the two halves of the login share: login.c owns stages, PDUs and names, login_auth.c the
 * security stage.
 */
#ifndef LUNROOT_SESSION_LOGIN_INTERNAL_H
#define LUNROOT_SESSION_LOGIN_INTERNAL_H

#include "session/login.h"
#include "wire/chap.h"
#include "wire/text.h"

/* How far the two sides are in proving who they are. */
enum login_auth {
	LOGIN_AUTH_OPEN,       /* nothing chosen yet */
	LOGIN_AUTH_CHAP,       /* we chose CHAP; CHAP_A is due */
	LOGIN_AUTH_CHALLENGED, /* our challenge is out; CHAP_N and CHAP_R are due */
	LOGIN_AUTH_DONE,       /* proved, or none needed */
};

#define LOGIN_ALIAS_BYTES 255
#define LOGIN_WHY_BYTES   1024

/* Our text of one step: every key may have to be answered with NotUnderstood. */
#define LOGIN_ANSWER_BYTES (LIMIT_TEXT_KEYS * (LIMIT_TEXT_KEY_BYTES + 32) + 4096)

/* The security keys of one step, in the parsed text; NULL where not sent. */
struct login_auth_keys {
	const char *method, *a, *i, *c, *n, *r;
};

struct login {
	struct login_env env;

	/* set by the first request and constant for the phase */
	bool begun;
	uint8_t isid[6];
	uint16_t tsih, cid;
	uint32_t itt, cmdsn;

	uint8_t stage; /* WIRE_STAGE_... of the requests that are due */
	unsigned pdu_count;
	bool named;    /* the first complete text has been taken */
	bool admitted; /* LOGIN_ADMIT was given */
	bool refused;

	bool discovery;
	char initiator[LIMIT_ISCSI_NAME_BYTES + 1]; /* in lower case */
	char alias[LOGIN_ALIAS_BYTES + 1];
	char target_name[LIMIT_ISCSI_NAME_BYTES + 1]; /* in lower case */
	struct target_conf *target;                   /* our reference, or NULL */

	struct wire_negotiation negotiation;
	struct wire_text_list list;
	struct wire_text_buffer request; /* the step so far (C bit) */

	/* our text of this step, and how much of it is sent */
	uint8_t answer[LOGIN_ANSWER_BYTES];
	uint32_t answer_bytes, answer_sent;

	enum login_auth auth;
	struct login_auth_keys keys;
	enum chap_algorithm algorithm;
	uint8_t chap_id;
	uint8_t challenge[CHAP_CHALLENGE_BYTES];
	enum login_by by;
	uint8_t boot_id[LIMIT_BOOT_ID_BYTES];

	uint16_t status;
	char why[LOGIN_WHY_BYTES];
};

/* Notes the reason, once, and returns `status`, so that a check can say `return login_fail(...)`.
 */
uint16_t login_fail(struct login *login, uint16_t status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* All return 0 or the status that refuses the login. */

/* Whether this initiator must prove itself, and whether it could at all, by names alone. */
uint16_t login_auth_begin(struct login *login);
bool login_auth_needed(const struct login *login);
/* One step of the security stage, from login->keys. */
uint16_t login_auth_step(struct login *login, struct wire_text_writer *answer);

#endif
