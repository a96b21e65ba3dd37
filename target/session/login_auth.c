/*
 * The security stage of the login (RFC 7143, 6.3.2, 9.2.1, 12.1): choosing a method, CHAP in one
 * or both directions, and who may use which credentials.
 *
 * A step's keys drive it:
 *
 *     OPEN --AuthMethod--> CHAP --CHAP_A--> CHALLENGED --CHAP_N, CHAP_R--> DONE
 *       \------------------- None, where nothing is needed -----------------/
 *
 * What a stranger learns is no more than a status: whether the name or the secret was wrong is
 * said in our log only. Node credentials serve only the node's own initiator name; that name is
 * looked at after the proof, so that it can't be found out by trying.
 *
 * Credentials of a node's boots have the node's user name; which of them it is tells the secret.
 * All that there may be are tried each time, so that the time taken tells neither how many there
 * are nor which of them it was. The mutual secret is the one that belongs to the secret.
 */
#include "session/login_internal.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static bool optional_chap(const struct login *login)
{
	return login->discovery ? login->env.find_chap_user != NULL
				: login->target->operator.name[0] != '\0';
}

static bool name_allowed(const struct login *login, const struct target_conf *conf)
{
	return conf->initiator[0] == '\0' ||
	       wire_iscsi_name_equal(conf->initiator, login->initiator);
}

bool login_auth_needed(const struct login *login)
{
	if (login->discovery)
		return login->env.discovery_chap && login->env.discovery_chap->name[0] != '\0';
	return login->target->in.name[0] != '\0' || !name_allowed(login, login->target);
}

uint16_t login_auth_begin(struct login *login)
{
	const struct target_conf *conf = login->target;

	if (login->discovery || conf->operator.name[0] != '\0' || name_allowed(login, conf))
		return 0;
	/* With nobody else's credentials no proof could change the answer. */
	return login_fail(login, WIRE_LOGIN_FORBIDDEN,
			  "only initiator %s may log in; give the initiator that name, or allow "
			  "this one",
			  conf->initiator);
}

static uint16_t choose_method(struct login *login, struct wire_text_writer *answer)
{
	bool needed = login_auth_needed(login), possible = needed || optional_chap(login);
	bool has_none = wire_text_list_has(login->keys.method, "None");
	size_t position = 0, bytes;
	const char *item;

	/*
	 * The order is the initiator's preference (6.2.1). A normal login that needs no proof gets
	 * None, though: the credentials an initiator offers there are for other targets.
	 */
	while (wire_text_list_next(login->keys.method, &position, &item, &bytes)) {
		bool chap = bytes == 4 && memcmp(item, "CHAP", 4) == 0;
		bool none = bytes == 4 && memcmp(item, "None", 4) == 0;

		if (chap && possible && (needed || login->discovery || !has_none)) {
			wire_text_put(answer, "AuthMethod", "CHAP");
			login->auth = LOGIN_AUTH_CHAP;
			return 0;
		}
		if (none && !needed) {
			wire_text_put(answer, "AuthMethod", "None");
			login->auth = LOGIN_AUTH_DONE;
			return 0;
		}
	}
	if (needed)
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"it must log in with CHAP but offers AuthMethod=%.64s; set its CHAP "
			"user and secret",
			login->keys.method);
	return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
			  "it offers only AuthMethod=%.64s, but there are no credentials to check; "
			  "switch CHAP off in the initiator or give the target credentials",
			  login->keys.method);
}

static uint16_t send_challenge(struct login *login, struct wire_text_writer *answer)
{
	int res = chap_pick(login->keys.a, &login->algorithm);

	if (res == -EINVAL)
		return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
				  "CHAP_A=%.64s is no list of algorithm numbers", login->keys.a);
	if (res)
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"none of its CHAP algorithms (%.64s) can be used here; 5 (MD5, unless "
			"a FIPS policy forbids it), 6, 7 and 8 can",
			login->keys.a);
	if (chap_random(&login->chap_id, 1) ||
	    chap_random(login->challenge, sizeof(login->challenge)))
		return login_fail(login, WIRE_LOGIN_TARGET_ERROR,
				  "the system has no random bytes for a CHAP challenge");
	wire_text_put_number(answer, "CHAP_A", login->algorithm);
	wire_text_put_number(answer, "CHAP_I", login->chap_id);
	wire_text_put_binary(answer, "CHAP_C", login->challenge, sizeof(login->challenge));
	login->auth = LOGIN_AUTH_CHALLENGED;
	return 0;
}

/* --- the proof --- */

struct chap_proof {
	uint8_t response[LIMIT_CHAP_BINARY_BYTES];
	size_t response_bytes;
	bool name_known; /* for the log */
	bool proved;
	/* By which credentials; of a boot: by which of the target's. */
	enum login_by by;
	const struct target_boot *boot;
	struct target_chap chap; /* them */
};

/* Our challenge answered with these credentials: is it what the initiator sent? */
static bool response_matches(const struct login *login, const struct chap_proof *proof,
			     const struct target_chap *chap)
{
	uint8_t expected[CHAP_DIGEST_BYTES_MAX];
	bool same;

	if (chap_response(login->algorithm, login->chap_id, chap->secret, chap->secret_bytes,
			  login->challenge, sizeof(login->challenge), expected))
		return false;
	same = chap_equal(expected, chap_digest_bytes(login->algorithm), proof->response,
			  proof->response_bytes);
	explicit_bzero(expected, sizeof(expected));
	return same;
}

/* True: these are the ones, and the first that are. */
static bool try_credentials(const struct login *login, struct chap_proof *proof,
			    const struct target_chap *chap, enum login_by by)
{
	static const struct target_chap nobody = {.secret_bytes = 16};
	bool named = target_chap_valid(chap) && strcmp(chap->name, login->keys.n) == 0;
	/* An unknown name costs the same time as a wrong secret. */
	bool matches = response_matches(login, proof, named ? chap : &nobody);

	proof->name_known |= named;
	if (!matches || !named || proof->proved)
		return false;
	proof->proved = true;
	proof->by = by;
	proof->chap = *chap;
	return true;
}

static void set_secret(struct target_chap *chap, const char *name, const uint8_t *secret,
		       uint8_t bytes)
{
	memset(chap, 0, sizeof(*chap));
	memcpy(chap->name, name, strlen(name));
	memcpy(chap->secret, secret, bytes);
	chap->secret_bytes = bytes;
}

/* Who it is, by the credentials of a target. */
static void try_target(const struct login *login, struct chap_proof *proof,
		       const struct target_conf *conf)
{
	struct target_chap chap;

	/* The operator's first: should the names and secrets be equal, it may do more. */
	(void)try_credentials(login, proof, &conf->operator, LOGIN_BY_OPERATOR);
	(void)try_credentials(login, proof, &conf->in, LOGIN_BY_NODE);
	for (unsigned i = 0; i < TARGET_BOOTS_MAX; i++) {
		static const struct target_boot none;
		const struct target_boot *boot = i < conf->boot_count ? &conf->boots[i] : &none;

		set_secret(&chap, conf->in.name, boot->secret, boot->secret_bytes);
		if (try_credentials(login, proof, &chap, LOGIN_BY_BOOT))
			proof->boot = boot;
	}
	explicit_bzero(&chap, sizeof(chap));
}

static void try_discovery(struct login *login, struct chap_proof *proof)
{
	if (login->env.discovery_chap)
		(void)try_credentials(login, proof, login->env.discovery_chap, LOGIN_BY_DISCOVERY);
	if (proof->proved || !login->env.find_chap_user)
		return;
	login->target = login->env.find_chap_user(login->env.arg, login->keys.n);
	if (login->target)
		try_target(login, proof, login->target);
}

static uint16_t check_proof(struct login *login, struct chap_proof *proof)
{
	const struct target_conf *conf;

	if (wire_text_binary(login->keys.r, proof->response, sizeof(proof->response),
			     &proof->response_bytes))
		return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
				  "CHAP_R is neither hexadecimal nor base64 or too long");
	if (login->discovery)
		try_discovery(login, proof);
	else
		try_target(login, proof, login->target);
	if (!proof->proved && proof->name_known)
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"wrong CHAP secret for user \"%s\"; compare it with what lunctl show "
			"--secrets prints; credentials of a boot end when a later boot logs in",
			login->keys.n);
	if (!proof->proved)
		return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
				  "unknown CHAP user \"%.255s\"; compare it with what lunctl show "
				  "--secrets prints",
				  login->keys.n);
	conf = login->target;
	if (conf && (proof->by == LOGIN_BY_NODE || proof->by == LOGIN_BY_BOOT) &&
	    !name_allowed(login, conf))
		return login_fail(
			login, WIRE_LOGIN_FORBIDDEN,
			"the node's CHAP user \"%s\" serves only initiator %s; give the "
			"initiator that name, or use the operator's credentials of lunctl url",
			login->keys.n, conf->initiator);
	return 0;
}

/* --- the other direction --- */

static uint16_t check_reflection(struct login *login, const struct chap_proof *proof,
				 const struct target_chap *mutual, const uint8_t *challenge,
				 size_t challenge_bytes)
{
	if (chap_equal(challenge, challenge_bytes, login->challenge, sizeof(login->challenge)))
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"it sent our own CHAP challenge back: an attempt to have us answer it");
	if (chap_equal(proof->chap.secret, proof->chap.secret_bytes, mutual->secret,
		       mutual->secret_bytes))
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"both directions of CHAP share one secret; set another with lunctl "
			"auth --mutual-secret-file");
	return 0;
}

static uint16_t prove_ourselves(struct login *login, const struct chap_proof *proof,
				struct wire_text_writer *answer)
{
	uint8_t challenge[LIMIT_CHAP_BINARY_BYTES], response[CHAP_DIGEST_BYTES_MAX];
	size_t challenge_bytes, response_bytes = chap_digest_bytes(login->algorithm);
	struct target_chap mutual = {0};
	uint64_t id;
	uint16_t status;

	if (wire_text_number(login->keys.i, 0, 255, &id) ||
	    wire_text_binary(login->keys.c, challenge, sizeof(challenge), &challenge_bytes))
		return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
				  "its CHAP_I or CHAP_C for mutual CHAP is malformed");
	if (login->target)
		mutual = login->target->mutual;
	if (proof->boot)
		set_secret(&mutual, login->target->mutual.name, proof->boot->mutual_secret,
			   proof->boot->mutual_secret_bytes);
	if (!target_chap_valid(&mutual))
		return login_fail(
			login, WIRE_LOGIN_AUTH_FAILED,
			"it asks for mutual CHAP, which is not configured; set it with lunctl "
			"auth --mutual-user, or take it out of the initiator");
	status = check_reflection(login, proof, &mutual, challenge, challenge_bytes);
	if (!status && chap_response(login->algorithm, (uint8_t)id, mutual.secret,
				     mutual.secret_bytes, challenge, challenge_bytes, response))
		status = login_fail(login, WIRE_LOGIN_TARGET_ERROR,
				    "%s is switched off on this system",
				    chap_algorithm_name(login->algorithm));
	explicit_bzero(mutual.secret, sizeof(mutual.secret));
	if (status)
		return status;
	if (chap_equal(response, response_bytes, proof->response, proof->response_bytes))
		return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
				  "its CHAP response equals the one that we would give");
	wire_text_put(answer, "CHAP_N", mutual.name);
	wire_text_put_binary(answer, "CHAP_R", response, response_bytes);
	return 0;
}

static uint16_t take_response(struct login *login, struct wire_text_writer *answer)
{
	const struct login_auth_keys *keys = &login->keys;
	struct chap_proof proof = {0};
	uint16_t status;

	if (!keys->n || !keys->r)
		return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
				  "CHAP_N and CHAP_R must answer the challenge");
	if (!keys->i != !keys->c)
		return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
				  "mutual CHAP needs both CHAP_I and CHAP_C");
	status = check_proof(login, &proof);
	if (!status && keys->i)
		status = prove_ourselves(login, &proof, answer);
	if (!status) {
		login->auth = LOGIN_AUTH_DONE;
		login->by = proof.by;
		if (proof.boot)
			memcpy(login->boot_id, proof.boot->id, sizeof(login->boot_id));
	}
	explicit_bzero(&proof, sizeof(proof));
	return status;
}

static bool has_chap_keys(const struct login_auth_keys *keys)
{
	return keys->a || keys->i || keys->c || keys->n || keys->r;
}

uint16_t login_auth_step(struct login *login, struct wire_text_writer *answer)
{
	const struct login_auth_keys *keys = &login->keys;
	uint16_t status;

	if (login->auth == LOGIN_AUTH_OPEN && keys->method) {
		status = choose_method(login, answer);
		/* CHAP_A may come with the offer; otherwise it is the next step's. */
		if (status || !has_chap_keys(keys))
			return status;
	}
	switch (login->auth) {
	case LOGIN_AUTH_OPEN:
	case LOGIN_AUTH_DONE:
		if (has_chap_keys(keys))
			return login_fail(login, WIRE_LOGIN_INITIATOR_ERROR,
					  "it sends CHAP keys though CHAP was not agreed");
		return 0;
	case LOGIN_AUTH_CHAP:
		if (!keys->a || keys->i || keys->c || keys->n || keys->r)
			return login_fail(login, WIRE_LOGIN_AUTH_FAILED,
					  "CHAP_A, alone, must follow AuthMethod=CHAP");
		return send_challenge(login, answer);
	case LOGIN_AUTH_CHALLENGED: return take_response(login, answer);
	}
	return login_fail(login, WIRE_LOGIN_TARGET_ERROR,
			  "the security stage is in no known state");
}
