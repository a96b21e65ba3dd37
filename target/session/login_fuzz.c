/*
 * A conversation of login requests, headers and all. The input is a byte that chooses the
 * target's credentials, then for each request: its flags, a byte of header changes, two bytes of
 * length and the text. In the text the bytes 0x01 and 0x02 stand for the right CHAP responses of
 * node and operator and 0x03 for our challenge, so that what lies behind the proof is reached.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/login.h"
#include "wire/chap.h"
#include "wire/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TARGET     "iqn.2026-11.l:t"
#define INITIATOR  "iqn.2026-11.l:i"
#define NODE_KEY   "node-secret-0001"
#define OPER_KEY   "operator-secret1"
#define MUTUAL_KEY "mutual-secret-01"
#define BOOT_KEY   "boot-secret-0001"

struct fuzz {
	struct target_conf *conf;
	struct target_chap discovery_chap;
	char challenge[128]; /* the last CHAP_C, and its CHAP_I and CHAP_A */
	unsigned id, algorithm;
	uint8_t text[LIMIT_LOGIN_SEGMENT_BYTES];
	uint32_t text_bytes;
};

static struct target_conf *find_target(void *arg, const char *name)
{
	struct fuzz *fuzz = arg;

	return strcmp(name, TARGET) == 0 ? target_conf_ref(fuzz->conf) : NULL;
}

static struct target_conf *find_chap_user(void *arg, const char *name)
{
	struct fuzz *fuzz = arg;

	return strcmp(name, "node") == 0 ? target_conf_ref(fuzz->conf) : NULL;
}

static void chap_set(struct target_chap *chap, const char *name, const char *secret)
{
	strcpy(chap->name, name);
	chap->secret_bytes = (uint8_t)strlen(secret);
	memcpy(chap->secret, secret, chap->secret_bytes);
}

/* The last of them has the key; the others have one that is too short. */
static void boots_set(struct target_conf *conf)
{
	struct target_boot boots[TARGET_BOOTS_MAX] = {0};

	for (unsigned i = 0; i < TARGET_BOOTS_MAX; i++) {
		boots[i].id[0] = (uint8_t)i;
		boots[i].secret_bytes = 3;
	}
	boots[TARGET_BOOTS_MAX - 1].secret_bytes = (uint8_t)strlen(BOOT_KEY);
	memcpy(boots[TARGET_BOOTS_MAX - 1].secret, BOOT_KEY, strlen(BOOT_KEY));
	boots[TARGET_BOOTS_MAX - 1].mutual_secret_bytes = (uint8_t)strlen(OPER_KEY);
	memcpy(boots[TARGET_BOOTS_MAX - 1].mutual_secret, OPER_KEY, strlen(OPER_KEY));
	assert(target_conf_set_boots(conf, boots, TARGET_BOOTS_MAX) == 0);
}

static void remember_challenge(struct fuzz *fuzz, const struct login_reply *reply)
{
	const struct wire_text_pair *a, *i, *c;
	struct wire_text_list list;

	if (wire_text_parse(reply->text, reply->text_bytes, &list))
		return;
	a = wire_text_find(&list, "CHAP_A");
	i = wire_text_find(&list, "CHAP_I");
	c = wire_text_find(&list, "CHAP_C");
	if (!a || !i || !c)
		return;
	fuzz->algorithm = (unsigned)strtoul(a->value, NULL, 10);
	fuzz->id = (unsigned)strtoul(i->value, NULL, 10);
	snprintf(fuzz->challenge, sizeof(fuzz->challenge), "%s", c->value);
}

static void put(struct fuzz *fuzz, const char *text)
{
	for (; *text && fuzz->text_bytes < sizeof(fuzz->text); text++)
		fuzz->text[fuzz->text_bytes++] = (uint8_t)*text;
}

static void put_response(struct fuzz *fuzz, const char *secret)
{
	uint8_t challenge[64], response[CHAP_DIGEST_BYTES_MAX];
	char hex[3];
	size_t bytes;

	if (!fuzz->challenge[0] ||
	    wire_text_binary(fuzz->challenge, challenge, sizeof(challenge), &bytes) ||
	    chap_response(fuzz->algorithm, (uint8_t)fuzz->id, (const uint8_t *)secret,
			  strlen(secret), challenge, bytes, response))
		return;
	put(fuzz, "0x");
	for (size_t i = 0; i < chap_digest_bytes(fuzz->algorithm); i++) {
		snprintf(hex, sizeof(hex), "%02x", response[i]);
		put(fuzz, hex);
	}
}

static void expand(struct fuzz *fuzz, const uint8_t *text, size_t bytes)
{
	fuzz->text_bytes = 0;
	for (size_t i = 0; i < bytes && fuzz->text_bytes < sizeof(fuzz->text); i++) {
		switch (text[i]) {
		case 1: put_response(fuzz, NODE_KEY); break;
		case 2: put_response(fuzz, OPER_KEY); break;
		case 3: put(fuzz, fuzz->challenge); break;
		case 4: put_response(fuzz, BOOT_KEY); break;
		default: fuzz->text[fuzz->text_bytes++] = text[i]; break;
		}
	}
}

static void change_header(struct wire_login_req *req, uint8_t how)
{
	switch (how) {
	case 1: req->version_min = 1; break;
	case 2: req->isid[0]++; break;
	case 3: req->tsih.b[0]++; break;
	case 4: req->cid.b[0]++; break;
	case 5: req->itt.b[0]++; break;
	case 6: req->cmdsn.b[0]++; break;
	case 7: req->opcode = WIRE_OP_SCSI_CMD; break;
	default: break;
	}
}

static void check_params(const struct wire_params *params)
{
	assert(params->first_burst_bytes <= params->max_burst_bytes);
	assert(params->max_burst_bytes <= LIMIT_MAX_BURST_BYTES);
	assert(params->max_send_segment_bytes >= 512);
	assert(params->max_recv_segment_bytes <= LIMIT_SEGMENT_BYTES);
	assert(params->max_outstanding_r2t >= 1);
	assert(params->max_outstanding_r2t <= LIMIT_OUTSTANDING_R2T);
	assert(params->max_connections == 1 && params->error_recovery_level == 0);
}

static void check_reply(struct login *login, enum login_verdict verdict, struct login_reply *reply)
{
	if (verdict == LOGIN_ADMIT) {
		check_params(login_params(login));
		assert(login_initiator_name(login)[0]);
		assert(login_is_discovery(login) || login_target(login));
		if (login_by(login) == LOGIN_BY_BOOT)
			assert(target_conf_boot(login_target(login), login_boot_id(login)));
		login_finish(login, 1, reply);
	}
	assert(reply->text_bytes <= sizeof(reply->text));
	assert(be24_get(reply->bhs.data_bytes) == reply->text_bytes);
	assert((be16_get(reply->bhs.status) != 0) == (verdict == LOGIN_REFUSE));
	assert((reply->bhs.flags & 0xc0) != 0xc0);
	if (verdict == LOGIN_REFUSE)
		assert(login_why(login)[0]);
}

static void talk(struct fuzz *fuzz, struct login *login, const uint8_t *data, size_t size)
{
	struct wire_login_req req = {.opcode = WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE};
	struct login_reply reply;
	enum login_verdict verdict = LOGIN_MORE;

	while (verdict == LOGIN_MORE && size >= 4) {
		size_t bytes = get_be16(data + 2);
		uint8_t *exact;

		req.flags = data[0];
		change_header(&req, data[1]);
		if (bytes > size - 4)
			bytes = size - 4;
		expand(fuzz, data + 4, bytes);
		/* Of exactly its size, so that a read past its end is seen. */
		exact = malloc(fuzz->text_bytes ? fuzz->text_bytes : 1);
		assert(exact);
		memcpy(exact, fuzz->text, fuzz->text_bytes);
		verdict = login_step(login, &req, exact, fuzz->text_bytes, &reply);
		check_reply(login, verdict, &reply);
		remember_challenge(fuzz, &reply);
		free(exact);
		data += 4 + bytes;
		size -= 4 + bytes;
	}
	/* A peer that does not take the end for an end. */
	if (verdict != LOGIN_MORE)
		assert(login_step(login, &req, NULL, 0, &reply) == LOGIN_REFUSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz fuzz = {.conf = target_conf_new()};
	struct login_env env = {.find_target = find_target, .arg = &fuzz, .portal_group_tag = 1};
	struct login *login;

	if (size < 1 || !fuzz.conf) {
		target_conf_unref(fuzz.conf);
		return 0;
	}
	strcpy(fuzz.conf->name, TARGET);
	strcpy(fuzz.conf->alias, "t");
	if (data[0] & 1)
		strcpy(fuzz.conf->initiator, INITIATOR);
	if (data[0] & 2)
		chap_set(&fuzz.conf->in, "node", NODE_KEY);
	if (data[0] & 4)
		chap_set(&fuzz.conf->operator, "oper", OPER_KEY);
	if (data[0] & 8)
		chap_set(&fuzz.conf->mutual, "mutual", MUTUAL_KEY);
	if (data[0] & 16)
		chap_set(&fuzz.discovery_chap, "look", NODE_KEY);
	if (data[0] & 32)
		env.find_chap_user = find_chap_user;
	if (data[0] & 64)
		boots_set(fuzz.conf);
	env.discovery_chap = &fuzz.discovery_chap;
	if (login_new(&env, &login) == 0) {
		talk(&fuzz, login, data + 1, size - 1);
		login_free(login);
	}
	assert(atomic_load(&fuzz.conf->refs) == 1);
	target_conf_unref(fuzz.conf);
	return 0;
}
