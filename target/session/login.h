/*
 * The target's side of the login phase (RFC 7143, 6.3, 12, 13) as a machine without I/O: feed
 * it login requests, send what it answers. The connection owns sockets, timers and the hand-over
 * between reactors; this owns stages, keys, CHAP and status codes.
 */
#ifndef LUNROOT_SESSION_LOGIN_H
#define LUNROOT_SESSION_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "session/target.h"
#include "wire/params.h"
#include "wire/pdu.h"

struct login;

struct login_env {
	/*
	 * The target of that name, with a reference for the login, or NULL (0203). Called when the
	 * first complete text names a target; not for discovery.
	 */
	struct target_conf *(*find_target)(void *arg, const char *target_name);
	/*
	 * Discovery with CHAP: the target that has this user name as its node's or operator's, with
	 * a reference, or NULL. Its credentials then prove the discovery session, and SendTargets
	 * shows that target even where the initiator's name alone would not.
	 */
	struct target_conf *(*find_chap_user)(void *arg, const char *chap_name);
	void *arg;
	uint16_t portal_group_tag;
	/* An empty name: discovery needs no authentication (but may use it, see find_chap_user). */
	const struct target_chap *discovery_chap;
};

int login_new(const struct login_env *env, struct login **ret_login);
/* Wipes what was secret. Accepts NULL. */
void login_free(struct login *login);

enum login_verdict {
	LOGIN_MORE,   /* send the response; wait for the next request */
	LOGIN_ADMIT,  /* security and parameters agreed: the session must be admitted (TSIH chosen,
			 old session ended) before login_finish makes the final response */
	LOGIN_REFUSE, /* send the response, whose status says why, then close */
};

struct login_reply {
	struct wire_login_rsp bhs; /* StatSN, ExpCmdSN, MaxCmdSN are left to the connection */
	uint8_t text[LIMIT_LOGIN_SEGMENT_BYTES];
	uint32_t text_bytes;
};

/*
 * One request: its header and its data (unpadded, already bounded by LIMIT_LOGIN_SEGMENT_BYTES
 * of the default MaxRecvDataSegmentLength). The reply is filled for MORE and REFUSE.
 */
enum login_verdict login_step(struct login *login, const struct wire_login_req *req,
			      const uint8_t *data, uint32_t data_bytes,
			      struct login_reply *ret_reply);
/* After LOGIN_ADMIT: the final response with this TSIH. */
void login_finish(struct login *login, uint16_t tsih, struct login_reply *ret_reply);
/* After LOGIN_ADMIT or at any time: a response that refuses with this status class and detail. */
void login_refuse(struct login *login, uint16_t status, struct login_reply *ret_reply);

/* Why it was refused, one sentence for the log that names initiator, target and cure. */
const char *login_why(const struct login *login);

/* Whose credentials it proved. */
enum login_by {
	LOGIN_BY_NOBODY, /* no proof was needed */
	LOGIN_BY_NODE,
	LOGIN_BY_BOOT, /* one of the target's boots */
	LOGIN_BY_OPERATOR,
	LOGIN_BY_DISCOVERY, /* the ones of discovery */
};

/* Valid from LOGIN_ADMIT on (names: as soon as they were sent, else ""). */
enum login_by login_by(const struct login *login);
const uint8_t *login_boot_id(const struct login *login); /* LOGIN_BY_BOOT */
bool login_is_discovery(const struct login *login);
const char *login_initiator_name(const struct login *login);
const char *login_initiator_alias(const struct login *login);
const char *login_target_name(const struct login *login);
/* No reference added. For discovery: the target whose CHAP user it proved to be, or NULL. */
struct target_conf *login_target(const struct login *login);
const struct wire_params *login_params(const struct login *login);
const uint8_t *login_isid(const struct login *login); /* 6 bytes */
uint16_t login_tsih(const struct login *login);       /* as the initiator sent it */
uint16_t login_cid(const struct login *login);

#endif
