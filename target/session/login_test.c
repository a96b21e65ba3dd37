/*
 * The login as real initiators drive it, and as broken or hostile ones do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "session/login.h"
#include "wire/chap.h"
#include "wire/text.h"

#define TARGET      "iqn.2026-11.local.lunroot:pi-07"
#define INITIATOR   "iqn.2026-11.local.lunroot:node.pi-07"
#define NODE_USER   "pi-07"
#define NODE_KEY    "node-secret-0001"
#define OPER_USER   "operator"
#define OPER_KEY    "operator-secret-1"
#define MUTUAL_USER "target-pi-07"
#define MUTUAL_KEY  "mutual-secret-01"

#define T         0x80
#define C         0x40
#define CSG(x)    ((x) << 2)
#define FIRST     "InitiatorName=" INITIATOR "\nTargetName=" TARGET "\nSessionType=Normal\n"
#define DISCOVERY "InitiatorName=" INITIATOR "\nSessionType=Discovery\n"

/* One conversation. Keys are written with newlines instead of NULs. */
struct talk {
	struct target_conf *conf;
	struct target_chap discovery_chap;
	struct login *login;
	struct wire_login_req req;
	struct login_reply reply;
	enum login_verdict verdict;
	struct wire_text_list list; /* the reply's keys */
	bool open_discovery_users;
};

static struct target_conf *find_target(void *arg, const char *name)
{
	struct talk *talk = arg;

	return strcmp(name, TARGET) == 0 ? target_conf_ref(talk->conf) : NULL;
}

static struct target_conf *find_chap_user(void *arg, const char *name)
{
	struct talk *talk = arg;

	if (strcmp(name, talk->conf->in.name) == 0 || strcmp(name, talk->conf->operator.name) == 0)
		return target_conf_ref(talk->conf);
	return NULL;
}

static void chap_set(struct target_chap *chap, const char *name, const char *secret)
{
	snprintf(chap->name, sizeof(chap->name), "%s", name);
	memcpy(chap->secret, secret, strlen(secret));
	chap->secret_bytes = (uint8_t)strlen(secret);
}

enum {
	NO_AUTH,
	WITH_NODE = 1,
	WITH_OPERATOR = 2,
	WITH_MUTUAL = 4,
	ANY_NAME = 8,
	DISCOVERY_USERS = 16
};

static void talk_begin(struct talk *talk, unsigned with)
{
	struct login_env env = {.find_target = find_target, .arg = talk, .portal_group_tag = 1};

	*talk = (struct talk){.conf = target_conf_new()};
	assert_non_null(talk->conf);
	strcpy(talk->conf->name, TARGET);
	strcpy(talk->conf->alias, "pi-07");
	if (!(with & ANY_NAME))
		strcpy(talk->conf->initiator, INITIATOR);
	if (with & WITH_NODE)
		chap_set(&talk->conf->in, NODE_USER, NODE_KEY);
	if (with & WITH_OPERATOR)
		chap_set(&talk->conf->operator, OPER_USER, OPER_KEY);
	if (with & WITH_MUTUAL)
		chap_set(&talk->conf->mutual, MUTUAL_USER, MUTUAL_KEY);
	if (with & DISCOVERY_USERS)
		env.find_chap_user = find_chap_user;
	env.discovery_chap = &talk->discovery_chap;
	assert_int_equal(login_new(&env, &talk->login), 0);
	talk->req.opcode = WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE;
	memcpy(talk->req.isid, "\x00\x02\x3d\x00\x00\x01", 6);
	be32_put(&talk->req.itt, 0x12345678);
	be32_put(&talk->req.cmdsn, 77);
}

static void talk_end(struct talk *talk)
{
	login_free(talk->login);
	assert_int_equal(atomic_load(&talk->conf->refs), 1);
	target_conf_unref(talk->conf);
}

static void reply_check(struct talk *talk)
{
	const struct wire_login_rsp *bhs = &talk->reply.bhs;

	assert_int_equal(bhs->opcode, WIRE_OP_LOGIN_RSP);
	assert_int_equal(be32_get(bhs->itt), be32_get(talk->req.itt));
	assert_memory_equal(bhs->isid, talk->req.isid, 6);
	assert_int_equal(be24_get(bhs->data_bytes), talk->reply.text_bytes);
	assert_true(talk->reply.text_bytes <= LIMIT_LOGIN_SEGMENT_BYTES);
	if (!(bhs->flags & C))
		assert_int_equal(
			wire_text_parse(talk->reply.text, talk->reply.text_bytes, &talk->list), 0);
}

static enum login_verdict send_bytes(struct talk *talk, uint8_t flags, const void *text,
				     size_t bytes)
{
	/* Its own allocation, so that the sanitizer sees a read beyond it. */
	uint8_t *copy = malloc(bytes ? bytes : 1);

	memcpy(copy, text, bytes);
	talk->req.flags = flags;
	be24_put(&talk->req.data_bytes, (uint32_t)bytes);
	memset(&talk->reply, 0xee, sizeof(talk->reply));
	talk->verdict = login_step(talk->login, &talk->req, copy, (uint32_t)bytes, &talk->reply);
	if (talk->verdict == LOGIN_ADMIT) {
		login_finish(talk->login, 0x4711, &talk->reply);
		assert_int_equal(be16_get(talk->reply.bhs.tsih), 0x4711);
		assert_int_equal(talk->reply.bhs.flags & 0x83, T | 3);
	}
	reply_check(talk);
	if (talk->verdict == LOGIN_REFUSE)
		assert_true(login_why(talk->login)[0] != '\0');
	else
		assert_int_equal(be16_get(talk->reply.bhs.status), 0);
	free(copy);
	return talk->verdict;
}

static size_t to_nul(const char *keys, char *ret_text)
{
	size_t bytes = strlen(keys);

	for (size_t i = 0; i < bytes; i++)
		ret_text[i] = keys[i] == '\n' ? '\0' : keys[i];
	return bytes;
}

static enum login_verdict send_keys(struct talk *talk, uint8_t flags, const char *keys)
{
	char text[70000];
	size_t bytes = to_nul(keys, text);

	return send_bytes(talk, flags, text, bytes);
}

static const char *got(const struct talk *talk, const char *key)
{
	const struct wire_text_pair *pair = wire_text_find(&talk->list, key);

	return pair ? pair->value : "(none)";
}

static unsigned status_of(const struct talk *talk)
{
	return be16_get(talk->reply.bhs.status);
}

#define assert_refused(talk, want)                               \
	do {                                                     \
		assert_int_equal((talk)->verdict, LOGIN_REFUSE); \
		assert_int_equal(status_of(talk), want);         \
	} while (0)

/* --- CHAP, the initiator's half --- */

static unsigned algorithm_of(const struct talk *talk)
{
	return (unsigned)strtoul(got(talk, "CHAP_A"), NULL, 10);
}

static void chap_answer(const struct talk *talk, const char *user, const char *secret,
			char *ret_keys, size_t size)
{
	uint8_t challenge[64], response[CHAP_DIGEST_BYTES_MAX];
	size_t bytes;
	unsigned id = (unsigned)strtoul(got(talk, "CHAP_I"), NULL, 10);
	int used;

	assert_int_equal(
		wire_text_binary(got(talk, "CHAP_C"), challenge, sizeof(challenge), &bytes), 0);
	assert_true(bytes >= chap_digest_bytes(algorithm_of(talk)));
	assert_int_equal(chap_response(algorithm_of(talk), (uint8_t)id, (const uint8_t *)secret,
				       strlen(secret), challenge, bytes, response),
			 0);
	used = snprintf(ret_keys, size, "CHAP_N=%s\nCHAP_R=0x", user);
	for (size_t i = 0; i < chap_digest_bytes(algorithm_of(talk)); i++)
		used += snprintf(ret_keys + used, size - (size_t)used, "%02x", response[i]);
	snprintf(ret_keys + used, size - (size_t)used, "\n");
}

static void chap_until_challenge(struct talk *talk, const char *first, const char *algorithms)
{
	char keys[256];

	assert_int_equal(send_keys(talk, T | 1, first), LOGIN_MORE);
	assert_int_equal(talk->reply.bhs.flags, 0); /* T asked, not granted */
	assert_string_equal(got(talk, "AuthMethod"), "CHAP");
	snprintf(keys, sizeof(keys), "CHAP_A=%s\n", algorithms);
	assert_int_equal(send_keys(talk, 0, keys), LOGIN_MORE);
}

static enum login_verdict chap_login(struct talk *talk, const char *first, const char *user,
				     const char *secret, const char *more)
{
	char keys[1024], answer[512];

	chap_until_challenge(talk, first, "5");
	chap_answer(talk, user, secret, answer, sizeof(answer));
	snprintf(keys, sizeof(keys), "%s%s", answer, more);
	return send_keys(talk, T | 1, keys);
}

#define FIRST_CHAP FIRST "AuthMethod=CHAP,None\n"

/* --- real initiators --- */

static void open_iscsi_without_auth(void **state)
{
	struct talk talk;
	const struct wire_params *params;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	assert_int_equal(
		send_keys(&talk, T | CSG(1) | 3,
			  "InitiatorName=" INITIATOR "\nInitiatorAlias=pi\nTargetName=" TARGET
			  "\nSessionType=Normal\nHeaderDigest=None\nDataDigest=None\n"
			  "DefaultTime2Wait=2\nDefaultTime2Retain=0\nIFMarker=No\nOFMarker=No\n"
			  "ErrorRecoveryLevel=0\nInitialR2T=No\nImmediateData=Yes\n"
			  "MaxBurstLength=16776192\nFirstBurstLength=262144\nMaxOutstandingR2T=1\n"
			  "MaxConnections=1\nDataPDUInOrder=Yes\nDataSequenceInOrder=Yes\n"
			  "MaxRecvDataSegmentLength=262144\n"),
		LOGIN_ADMIT);
	assert_string_equal(got(&talk, "TargetPortalGroupTag"), "1");
	assert_string_equal(got(&talk, "TargetAlias"), "pi-07");
	assert_string_equal(got(&talk, "MaxBurstLength"), "1048576");
	assert_string_equal(got(&talk, "FirstBurstLength"), "262144");
	assert_string_equal(got(&talk, "MaxRecvDataSegmentLength"), "262144");
	assert_string_equal(got(&talk, "InitialR2T"), "No");
	assert_string_equal(got(&talk, "IFMarker"), "No");
	/* open-iscsi gives up over keys that it does not know. */
	assert_string_equal(got(&talk, "iSCSIProtocolLevel"), "(none)");
	assert_string_equal(got(&talk, "TaskReporting"), "(none)");
	params = login_params(talk.login);
	assert_int_equal(params->max_send_segment_bytes, 262144);
	assert_int_equal(params->max_recv_segment_bytes, LIMIT_SEGMENT_BYTES);
	assert_false(params->initial_r2t);
	assert_string_equal(login_initiator_name(talk.login), INITIATOR);
	assert_string_equal(login_initiator_alias(talk.login), "pi");
	assert_string_equal(login_target_name(talk.login), TARGET);
	assert_ptr_equal(login_target(talk.login), talk.conf);
	talk_end(&talk);
}

/* libiscsi says its names again at the operational stage, after CHAP. */
static void libiscsi_with_chap(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR);
	assert_int_equal(chap_login(&talk, FIRST_CHAP, NODE_USER, NODE_KEY, ""), LOGIN_MORE);
	assert_int_equal(talk.reply.bhs.flags, T | 1);
	assert_int_equal(talk.reply.text_bytes, 0);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3,
				   FIRST "HeaderDigest=None,CRC32C\nDataDigest=CRC32C,None\n"
					 "InitialR2T=No\nImmediateData=Yes\nMaxBurstLength=262144\n"
					 "FirstBurstLength=262144\nDefaultTime2Wait=2\n"
					 "DefaultTime2Retain=0\nMaxOutstandingR2T=1\n"
					 "ErrorRecoveryLevel=0\nIFMarker=No\nOFMarker=No\n"
					 "MaxConnections=1\nMaxRecvDataSegmentLength=262144\n"
					 "DataPDUInOrder=Yes\nDataSequenceInOrder=Yes\n"),
			 LOGIN_ADMIT);
	assert_string_equal(got(&talk, "HeaderDigest"), "None");
	assert_string_equal(got(&talk, "DataDigest"), "CRC32C");
	assert_false(login_params(talk.login)->header_digest);
	assert_true(login_params(talk.login)->data_digest);
	talk_end(&talk);
}

static void ipxe_and_edk2_through_both_stages(void **state)
{
	static const char *const operational[] = {
		"HeaderDigest=None\nDataDigest=None\nMaxConnections=1\nInitialR2T=Yes\n"
		"ImmediateData=No\nMaxRecvDataSegmentLength=8192\nMaxBurstLength=262144\n"
		"FirstBurstLength=65536\nDefaultTime2Wait=0\nDefaultTime2Retain=0\n"
		"MaxOutstandingR2T=1\nDataPDUInOrder=Yes\nDataSequenceInOrder=Yes\n"
		"ErrorRecoveryLevel=0\n",
		"HeaderDigest=None\nDataDigest=None\nInitialR2T=No\nImmediateData=Yes\n"
		"MaxRecvDataSegmentLength=65536\nMaxBurstLength=262144\nFirstBurstLength=65536\n"
		"DefaultTime2Wait=2\nDefaultTime2Retain=20\nMaxOutstandingR2T=1\n",
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct talk talk;

		talk_begin(&talk, NO_AUTH);
		assert_int_equal(send_keys(&talk, T | 1, FIRST "AuthMethod=None\n"), LOGIN_MORE);
		assert_int_equal(talk.reply.bhs.flags, T | 1);
		assert_string_equal(got(&talk, "AuthMethod"), "None");
		assert_string_equal(got(&talk, "TargetPortalGroupTag"), "1");
		assert_int_equal(send_keys(&talk, T | CSG(1) | 3, operational[i]), LOGIN_ADMIT);
		/* iPXE gives up over any Reject. */
		for (unsigned k = 0; k < talk.list.count; k++)
			assert_string_not_equal(talk.list.pairs[k].value, "Reject");
		assert_int_equal(login_params(talk.login)->initial_r2t, i == 0);
		assert_int_equal(login_params(talk.login)->immediate_data, i == 1);
		talk_end(&talk);
	}
}

static void discovery_marks_session_keys_irrelevant(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, WITH_NODE);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3,
				   DISCOVERY "MaxConnections=1\nInitialR2T=No\nHeaderDigest=None\n"
					     "MaxRecvDataSegmentLength=32768\n"),
			 LOGIN_ADMIT);
	assert_string_equal(got(&talk, "MaxConnections"), "Irrelevant");
	assert_string_equal(got(&talk, "InitialR2T"), "Irrelevant");
	assert_string_equal(got(&talk, "HeaderDigest"), "None");
	assert_string_equal(got(&talk, "TargetPortalGroupTag"), "1");
	assert_string_equal(got(&talk, "TargetAlias"), "(none)");
	assert_true(login_is_discovery(talk.login));
	assert_null(login_target(talk.login));
	assert_true(login_params(talk.login)->initial_r2t);
	talk_end(&talk);
}

/* --- transitions --- */

static void security_straight_to_full_feature(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	assert_int_equal(send_keys(&talk, T | 3, FIRST "AuthMethod=None\n"), LOGIN_ADMIT);
	/* Nothing was declared, so the default holds. */
	assert_int_equal(login_params(talk.login)->max_recv_segment_bytes, 8192);
	talk_end(&talk);
	talk_begin(&talk, WITH_NODE);
	chap_until_challenge(&talk, FIRST_CHAP, "5");
	char answer[512];
	chap_answer(&talk, NODE_USER, NODE_KEY, answer, sizeof(answer));
	assert_int_equal(send_keys(&talk, T | 3, answer), LOGIN_ADMIT);
	talk_end(&talk);
}

static void stays_at_a_stage_without_t(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	assert_int_equal(send_keys(&talk, CSG(1) | 1, FIRST), LOGIN_MORE);
	assert_int_equal(talk.reply.bhs.flags, CSG(1));
	assert_string_equal(got(&talk, "MaxRecvDataSegmentLength"), "262144");
	assert_int_equal(send_keys(&talk, CSG(1), "MaxBurstLength=0x10000\n"), LOGIN_MORE);
	assert_string_equal(got(&talk, "MaxBurstLength"), "65536");
	assert_string_equal(got(&talk, "MaxRecvDataSegmentLength"), "(none)"); /* once only */
	assert_string_equal(got(&talk, "TargetPortalGroupTag"), "(none)");
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3, ""), LOGIN_ADMIT);
	talk_end(&talk);
}

struct refusal {
	const char *what;
	unsigned with;
	uint8_t flags[3];
	const char *keys[3]; /* the last one that is given is refused */
	unsigned status;
};

static const struct refusal refusals[] = {
	{"stage 3 first", NO_AUTH, {T | CSG(3) | 3}, {FIRST}, 0x0200},
	{"stage 2 first", NO_AUTH, {T | CSG(2) | 3}, {FIRST}, 0x0200},
	{"to stage 2", NO_AUTH, {T | CSG(1) | 2}, {FIRST}, 0x0200},
	{"to stage 2 from 0", NO_AUTH, {T | 2}, {FIRST}, 0x0200},
	{"to the same stage", NO_AUTH, {T | CSG(1) | 1}, {FIRST}, 0x0200},
	{"back", NO_AUTH, {T | CSG(1)}, {FIRST}, 0x0200},
	{"T and C", NO_AUTH, {T | C | CSG(1) | 3}, {FIRST}, 0x0200},
	{"stage jump", NO_AUTH, {0, T | CSG(1) | 3}, {FIRST, ""}, 0x0200},
	{"stage fall", NO_AUTH, {T | 1, T | 3}, {FIRST, ""}, 0x0200},
	{"no keys", NO_AUTH, {T | CSG(1) | 3}, {""}, 0x0207},
	{"no initiator name", NO_AUTH, {T | CSG(1) | 3}, {"TargetName=" TARGET "\n"}, 0x0207},
	{"no target name", NO_AUTH, {T | CSG(1) | 3}, {"InitiatorName=" INITIATOR "\n"}, 0x0207},
	{"no initiator name in discovery",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {"SessionType=Discovery\n"},
	 0x0207},
	{"initiator name of no form",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {"InitiatorName=me\nTargetName=" TARGET "\n"},
	 0x0200},
	{"unknown target",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {"InitiatorName=" INITIATOR "\nTargetName=iqn.2026-11.local:x\n"},
	 0x0203},
	{"session type",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {"InitiatorName=" INITIATOR "\nSessionType=Other\nTargetName=" TARGET "\n"},
	 0x0209},
	{"other initiator",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {"InitiatorName=iqn.2026-11.local:other\nTargetName=" TARGET "\n"},
	 0x0202},
	{"other initiator, node credentials only",
	 WITH_NODE,
	 {T | 1},
	 {"InitiatorName=iqn.2026-11.local:other\nTargetName=" TARGET "\nAuthMethod=CHAP\n"},
	 0x0202},
	{"key twice in one text",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {FIRST "InitialR2T=No\nInitialR2T=No\n"},
	 0x0200},
	{"key twice in two texts",
	 NO_AUTH,
	 {CSG(1), T | CSG(1) | 3},
	 {FIRST "InitialR2T=No\n", "InitialR2T=No\n"},
	 0x0200},
	{"other name later",
	 NO_AUTH,
	 {CSG(1), T | CSG(1) | 3},
	 {FIRST, "InitiatorName=iqn.2026-11.local:other\n"},
	 0x0200},
	{"other type later",
	 NO_AUTH,
	 {CSG(1), T | CSG(1) | 3},
	 {FIRST, "SessionType=Discovery\n"},
	 0x0200},
	{"no equals sign", NO_AUTH, {T | CSG(1) | 3}, {FIRST "InitialR2T\n"}, 0x0200},
	{"no NUL at the end", NO_AUTH, {T | CSG(1) | 3}, {FIRST "InitialR2T=No"}, 0x0200},
	{"control character", NO_AUTH, {T | CSG(1) | 3}, {FIRST "InitiatorAlias=a\x01b\n"}, 0x0200},
	{"operational key in security", NO_AUTH, {T | 1}, {FIRST "MaxBurstLength=65536\n"}, 0x0200},
	{"security key in operational",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {FIRST "AuthMethod=None\n"},
	 0x0200},
	{"full-feature key", NO_AUTH, {T | CSG(1) | 3}, {FIRST "SendTargets=All\n"}, 0x0200},
	{"target's key", NO_AUTH, {T | CSG(1) | 3}, {FIRST "TargetAddress=1.2.3.4\n"}, 0x0200},
	{"bad declaration",
	 NO_AUTH,
	 {T | CSG(1) | 3},
	 {FIRST "MaxRecvDataSegmentLength=511\n"},
	 0x0200},
	{"bursts that contradict",
	 NO_AUTH,
	 {CSG(1), T | CSG(1) | 3},
	 {FIRST "FirstBurstLength=65536\n", "MaxBurstLength=8192\n"},
	 0x0200},
	{"CHAP skipped", WITH_NODE, {T | CSG(1) | 3}, {FIRST}, 0x0201},
	{"CHAP not offered", WITH_NODE, {T | 1}, {FIRST "AuthMethod=None\n"}, 0x0201},
	{"no AuthMethod", WITH_NODE, {T | 1}, {FIRST}, 0x0201},
	{"no AuthMethod to 3", WITH_NODE, {T | 3}, {FIRST}, 0x0201},
	{"unknown method", NO_AUTH, {T | 1}, {FIRST "AuthMethod=KRB5\n"}, 0x0201},
	{"CHAP without credentials", NO_AUTH, {T | 1}, {FIRST "AuthMethod=CHAP\n"}, 0x0201},
	{"CHAP keys unasked", WITH_NODE, {0}, {FIRST "CHAP_A=5\n"}, 0x0200},
	{"CHAP keys after None",
	 NO_AUTH,
	 {0, 0},
	 {FIRST "AuthMethod=None\n", "CHAP_A=5\n"},
	 0x0200},
	{"no CHAP_A", WITH_NODE, {T | 1, T | 1}, {FIRST_CHAP, ""}, 0x0201},
	{"response before challenge",
	 WITH_NODE,
	 {T | 1, T | 1},
	 {FIRST_CHAP,
	  "CHAP_A=5\nCHAP_N=" NODE_USER "\nCHAP_R=0x00112233445566778899aabbccddeeff\n"},
	 0x0201},
	{"bad algorithm", WITH_NODE, {0, 0}, {FIRST_CHAP, "CHAP_A=4\n"}, 0x0201},
	{"malformed algorithm", WITH_NODE, {0, 0}, {FIRST_CHAP, "CHAP_A=5,x\n"}, 0x0201},
	{"no CHAP_R",
	 WITH_NODE,
	 {0, 0, T | 1},
	 {FIRST_CHAP, "CHAP_A=5\n", "CHAP_N=" NODE_USER "\n"},
	 0x0201},
	{"no CHAP_N",
	 WITH_NODE,
	 {0, 0, T | 1},
	 {FIRST_CHAP, "CHAP_A=5\n", "CHAP_R=0x00112233445566778899aabbccddeeff\n"},
	 0x0201},
	{"CHAP_R of no form",
	 WITH_NODE,
	 {0, 0, T | 1},
	 {FIRST_CHAP, "CHAP_A=5\n",
	  "CHAP_N=" NODE_USER "\nCHAP_R=00112233445566778899aabbccddeeff\n"},
	 0x0201},
	{"CHAP_R too short",
	 WITH_NODE,
	 {0, 0, T | 1},
	 {FIRST_CHAP, "CHAP_A=5\n", "CHAP_N=" NODE_USER "\nCHAP_R=0x00\n"},
	 0x0201},
	{"unknown user",
	 WITH_NODE,
	 {0, 0, T | 1},
	 {FIRST_CHAP, "CHAP_A=5\n", "CHAP_N=nobody\nCHAP_R=0x00112233445566778899aabbccddeeff\n"},
	 0x0201},
	{"challenge skipped by moving on",
	 WITH_NODE,
	 {0, 0, T | 1},
	 {FIRST_CHAP, "CHAP_A=5\n", ""},
	 0x0201},
};

static void broken_logins_are_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		const struct refusal *r = &refusals[i];
		struct talk talk;
		int steps = r->keys[2] ? 3 : r->keys[1] ? 2 : 1;

		talk_begin(&talk, r->with);
		for (int k = 0; k < steps; k++) {
			send_keys(&talk, r->flags[k], r->keys[k]);
			if ((talk.verdict == LOGIN_REFUSE) != (k == steps - 1))
				fail_msg("%s: step %d: %s", r->what, k, login_why(talk.login));
		}
		if (status_of(&talk) != r->status)
			fail_msg("%s: %04x instead of %04x", r->what, status_of(&talk), r->status);
		assert_null(strstr(login_why(talk.login), NODE_KEY));
		assert_int_equal(talk.reply.bhs.flags & T, 0);
		assert_int_equal(talk.reply.text_bytes, 0);
		talk_end(&talk);
	}
}

static void identity_changed_between_requests(void **state)
{
	(void)state;
	for (int field = 0; field < 5; field++) {
		struct talk talk;

		talk_begin(&talk, NO_AUTH);
		assert_int_equal(send_keys(&talk, CSG(1), FIRST), LOGIN_MORE);
		struct wire_login_req first = talk.req;

		switch (field) {
		case 0: talk.req.isid[5]++; break;
		case 1: be16_put(&talk.req.tsih, 9); break;
		case 2: be16_put(&talk.req.cid, 9); break;
		case 3: be32_put(&talk.req.itt, 9); break;
		case 4: be32_put(&talk.req.cmdsn, 9); break;
		}
		talk.req.flags = T | CSG(1) | 3;
		assert_int_equal(login_step(talk.login, &talk.req, NULL, 0, &talk.reply),
				 LOGIN_REFUSE);
		assert_int_equal(status_of(&talk), 0x0200);
		assert_int_equal(be32_get(talk.reply.bhs.itt), be32_get(first.itt));
		talk_end(&talk);
	}
}

static void version_too_new_and_wrong_opcode(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	talk.req.version_max = talk.req.version_min = 1;
	send_keys(&talk, T | CSG(1) | 3, FIRST);
	assert_refused(&talk, 0x0205);
	assert_int_equal(talk.reply.bhs.version_active, 0);
	talk_end(&talk);
	talk_begin(&talk, NO_AUTH);
	talk.req.version_max = 7; /* with 0 among them it is understood */
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3, FIRST), LOGIN_ADMIT);
	talk_end(&talk);
	talk_begin(&talk, NO_AUTH);
	send_keys(&talk, 0, FIRST);
	talk.req.opcode = WIRE_OP_SCSI_CMD;
	send_keys(&talk, 0, "");
	assert_refused(&talk, 0x020b);
	talk_end(&talk);
}

static void requests_without_end(void **state)
{
	struct talk talk;
	int count = 1;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	assert_int_equal(send_keys(&talk, CSG(1), FIRST), LOGIN_MORE);
	while (send_keys(&talk, CSG(1), "") == LOGIN_MORE)
		count++;
	assert_int_equal(count, LIMIT_LOGIN_PDUS);
	assert_refused(&talk, 0x0200);
	/* and a peer that still goes on */
	send_keys(&talk, CSG(1), "");
	assert_refused(&talk, 0x0200 | 0x0b);
	talk_end(&talk);
}

static void session_room_refuses_after_admit(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	be16_put(&talk.req.tsih, 5);
	be16_put(&talk.req.cid, 3);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3, FIRST), LOGIN_ADMIT);
	assert_int_equal(login_cid(talk.login), 3);
	assert_memory_equal(login_isid(talk.login), talk.req.isid, 6);
	login_refuse(talk.login, WIRE_LOGIN_NO_SESSION, &talk.reply);
	assert_int_equal(status_of(&talk), 0x020a);
	assert_non_null(strstr(login_why(talk.login), TARGET));
	talk_end(&talk);
}

/* --- the C bit --- */

static void text_split_at_every_byte(void **state)
{
	static const char keys[] =
		FIRST "MaxBurstLength=65536\nFirstBurstLength=32768\nX-some=thing\n";
	char text[512];
	size_t bytes = to_nul(keys, text);

	(void)state;
	for (size_t cut = 0; cut <= bytes; cut++) {
		struct talk talk;

		talk_begin(&talk, NO_AUTH);
		assert_int_equal(send_bytes(&talk, C | CSG(1), text, cut), LOGIN_MORE);
		assert_int_equal(talk.reply.bhs.flags, CSG(1));
		assert_int_equal(talk.reply.text_bytes, 0);
		assert_int_equal(send_bytes(&talk, T | CSG(1) | 3, text + cut, bytes - cut),
				 LOGIN_ADMIT);
		assert_string_equal(got(&talk, "FirstBurstLength"), "32768");
		assert_string_equal(got(&talk, "X-some"), "NotUnderstood");
		assert_string_equal(got(&talk, "TargetPortalGroupTag"), "1");
		talk_end(&talk);
	}
}

static void text_beyond_the_bound(void **state)
{
	static char filler[LIMIT_LOGIN_SEGMENT_BYTES];
	struct talk talk;
	int count = 0;

	(void)state;
	memset(filler, 'a', sizeof(filler));
	talk_begin(&talk, NO_AUTH);
	while (send_bytes(&talk, C | CSG(1), filler, sizeof(filler)) == LOGIN_MORE)
		count++;
	assert_int_equal(count, LIMIT_LOGIN_TEXT_BYTES / LIMIT_LOGIN_SEGMENT_BYTES);
	assert_refused(&talk, 0x0200);
	talk_end(&talk);
}

/* 100 unknown keys of 63 bytes: our NotUnderstoods do not fit one PDU. */
static size_t many_keys(char *ret_text)
{
	char keys[16384];
	int used = snprintf(keys, sizeof(keys), FIRST);

	for (int i = 0; i < 120; i++)
		used += snprintf(keys + used, sizeof(keys) - (size_t)used, "X-%061d=a\n", i);
	return to_nul(keys, ret_text);
}

static void long_answer_comes_in_pieces(void **state)
{
	char text[16384];
	uint8_t whole[32768];
	size_t bytes = many_keys(text), half = 8000, sum;
	struct talk talk;
	struct wire_text_list list;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	assert_int_equal(send_bytes(&talk, C | CSG(1), text, half), LOGIN_MORE);
	assert_int_equal(send_bytes(&talk, T | CSG(1) | 3, text + half, bytes - half), LOGIN_MORE);
	assert_int_equal(talk.reply.bhs.flags, C | CSG(1));
	assert_int_equal(talk.reply.text_bytes, LIMIT_LOGIN_SEGMENT_BYTES);
	memcpy(whole, talk.reply.text, talk.reply.text_bytes);
	sum = talk.reply.text_bytes;
	/* The last piece need not start at a key. */
	talk.req.flags = T | CSG(1) | 3;
	assert_int_equal(login_step(talk.login, &talk.req, NULL, 0, &talk.reply), LOGIN_ADMIT);
	login_finish(talk.login, 1, &talk.reply);
	assert_int_equal(talk.reply.bhs.flags, T | CSG(1) | 3);
	memcpy(whole + sum, talk.reply.text, talk.reply.text_bytes);
	sum += talk.reply.text_bytes;
	assert_int_equal(wire_text_parse(whole, sum, &list), 0);
	assert_int_equal(list.count, 120 + 3);
	talk_end(&talk);
	/* Text instead of the request for more is a mistake. */
	talk_begin(&talk, NO_AUTH);
	send_bytes(&talk, C | CSG(1), text, half);
	send_bytes(&talk, T | CSG(1) | 3, text + half, bytes - half);
	send_keys(&talk, T | CSG(1) | 3, "X-more=1\n");
	assert_refused(&talk, 0x0200);
	talk_end(&talk);
}

/* --- CHAP --- */

static void chap_with_each_algorithm(void **state)
{
	static const struct {
		const char *list;
		unsigned chosen;
	} rows[] = {{"5", 5}, {"6", 6}, {"7", 7}, {"8", 8}, {"7,5", 7}, {"4,9,6,8", 6}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct talk talk;
		char answer[512];

		talk_begin(&talk, WITH_NODE);
		chap_until_challenge(&talk, FIRST_CHAP, rows[i].list);
		assert_int_equal(algorithm_of(&talk), rows[i].chosen);
		chap_answer(&talk, NODE_USER, NODE_KEY, answer, sizeof(answer));
		assert_int_equal(send_keys(&talk, T | 1, answer), LOGIN_MORE);
		assert_int_equal(talk.reply.bhs.flags, T | 1);
		talk_end(&talk);
	}
}

static void chap_response_in_base64(void **state)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct talk talk;
	char hex[512], keys[512];
	uint8_t r[18] = {0};
	size_t bytes, used;

	(void)state;
	talk_begin(&talk, WITH_NODE);
	chap_until_challenge(&talk, FIRST_CHAP, "5");
	chap_answer(&talk, NODE_USER, NODE_KEY, hex, sizeof(hex));
	*strchr(strstr(hex, "CHAP_R"), '\n') = '\0';
	assert_int_equal(wire_text_binary(strstr(hex, "CHAP_R=") + 7, r, 16, &bytes), 0);
	used = (size_t)snprintf(keys, sizeof(keys), "CHAP_N=" NODE_USER "\nCHAP_R=0b");
	for (size_t i = 0; i < 18; i += 3) {
		uint32_t v = (uint32_t)r[i] << 16 | (uint32_t)r[i + 1] << 8 | r[i + 2];

		for (int k = 18; k >= 0; k -= 6)
			keys[used++] = digits[v >> k & 63];
	}
	memcpy(keys + used - 2, "==\n", 4);
	assert_int_equal(send_keys(&talk, T | 1, keys), LOGIN_MORE);
	talk_end(&talk);
}

static void chap_wrong_secret(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR);
	chap_login(&talk, FIRST_CHAP, NODE_USER, "not-the-secret-1", "");
	assert_refused(&talk, 0x0201);
	assert_non_null(strstr(login_why(talk.login), "wrong CHAP secret"));
	assert_non_null(strstr(login_why(talk.login), NODE_USER));
	assert_non_null(strstr(login_why(talk.login), TARGET));
	talk_end(&talk);
	talk_begin(&talk, WITH_NODE);
	chap_login(&talk, FIRST_CHAP, OPER_USER, OPER_KEY, "");
	assert_refused(&talk, 0x0201);
	assert_non_null(strstr(login_why(talk.login), "unknown CHAP user"));
	talk_end(&talk);
}

static void short_secret_lets_nobody_in(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, WITH_NODE);
	chap_set(&talk.conf->in, NODE_USER, "eleven-byte");
	assert_false(target_chap_valid(&talk.conf->in));
	talk.conf->in.secret_bytes = 11;
	chap_login(&talk, FIRST_CHAP, NODE_USER, "eleven-byte", "");
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
}

#define OTHER_FIRST \
	"InitiatorName=iqn.2026-11.local:tool\nTargetName=" TARGET "\nAuthMethod=CHAP,None\n"

static void operator_logs_in_under_any_name(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR);
	assert_int_equal(chap_login(&talk, OTHER_FIRST, OPER_USER, OPER_KEY, ""), LOGIN_MORE);
	assert_int_equal(talk.reply.bhs.flags, T | 1);
	talk_end(&talk);
	/* The node's credentials are the node's alone. */
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR);
	chap_login(&talk, OTHER_FIRST, NODE_USER, NODE_KEY, "");
	assert_refused(&talk, 0x0202);
	talk_end(&talk);
	/* A wrong secret says nothing of names. */
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR);
	chap_login(&talk, OTHER_FIRST, NODE_USER, "not-the-secret-1", "");
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
	/* No authentication for the node: another name must be the operator. */
	talk_begin(&talk, WITH_OPERATOR);
	assert_int_equal(chap_login(&talk, OTHER_FIRST, OPER_USER, OPER_KEY, ""), LOGIN_MORE);
	talk_end(&talk);
	talk_begin(&talk, WITH_OPERATOR);
	assert_int_equal(send_keys(&talk, T | 1, FIRST "AuthMethod=CHAP,None\n"), LOGIN_MORE);
	assert_string_equal(got(&talk, "AuthMethod"), "None");
	talk_end(&talk);
	talk_begin(&talk, WITH_OPERATOR);
	send_keys(&talk, T | CSG(1) | 3,
		  "InitiatorName=iqn.2026-11.local:tool\nTargetName=" TARGET "\n");
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
}

static void names_compared_without_case(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3,
				   "InitiatorName=IQN.2026-11.local.lunroot:Node.PI-07\n"
				   "TargetName=iqn.2026-11.LOCAL.lunroot:pi-07\n"),
			 LOGIN_ADMIT);
	assert_string_equal(login_initiator_name(talk.login), INITIATOR);
	talk_end(&talk);
}

static void any_initiator_without_a_name_in_the_conf(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, ANY_NAME);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3,
				   "InitiatorName=eui.0123456789abcdef\nTargetName=" TARGET "\n"),
			 LOGIN_ADMIT);
	talk_end(&talk);
}

#define MUTUAL_ASK "CHAP_I=9\nCHAP_C=0x0102030405060708090a0b0c0d0e0f10\n"

static void mutual_chap(void **state)
{
	uint8_t challenge[16], expected[CHAP_DIGEST_BYTES_MAX], response[CHAP_DIGEST_BYTES_MAX];
	struct talk talk;
	size_t bytes;

	(void)state;
	for (int i = 0; i < 16; i++)
		challenge[i] = (uint8_t)(i + 1);
	talk_begin(&talk, WITH_NODE | WITH_MUTUAL);
	assert_int_equal(chap_login(&talk, FIRST_CHAP, NODE_USER, NODE_KEY, MUTUAL_ASK),
			 LOGIN_MORE);
	assert_int_equal(talk.reply.bhs.flags, T | 1);
	assert_string_equal(got(&talk, "CHAP_N"), MUTUAL_USER);
	assert_int_equal(wire_text_binary(got(&talk, "CHAP_R"), response, sizeof(response), &bytes),
			 0);
	assert_int_equal(chap_response(CHAP_MD5, 9, (const uint8_t *)MUTUAL_KEY, strlen(MUTUAL_KEY),
				       challenge, sizeof(challenge), expected),
			 0);
	assert_int_equal(bytes, 16);
	assert_memory_equal(response, expected, 16);
	talk_end(&talk);
	/* Not asked for: not demanded. */
	talk_begin(&talk, WITH_NODE | WITH_MUTUAL);
	assert_int_equal(chap_login(&talk, FIRST_CHAP, NODE_USER, NODE_KEY, ""), LOGIN_MORE);
	assert_string_equal(got(&talk, "CHAP_N"), "(none)");
	talk_end(&talk);
}

/* --- credentials of boots --- */

#define BOOT_KEY "boot-secret-%02u-0001"

static void boots_set(struct target_conf *conf, unsigned count)
{
	struct target_boot boots[TARGET_BOOTS_MAX] = {0};
	char key[64];

	for (unsigned i = 0; i < count; i++) {
		memset(boots[i].id, (int)i + 1, sizeof(boots[i].id));
		boots[i].secret_bytes = (uint8_t)snprintf(key, sizeof(key), BOOT_KEY, i);
		memcpy(boots[i].secret, key, boots[i].secret_bytes);
		boots[i].mutual_secret_bytes =
			(uint8_t)snprintf(key, sizeof(key), "mutual-of-boot-%02u", i);
		memcpy(boots[i].mutual_secret, key, boots[i].mutual_secret_bytes);
	}
	assert_int_equal(target_conf_set_boots(conf, boots, count), 0);
}

static void assert_mutual(const struct talk *talk, const char *secret)
{
	uint8_t challenge[16], expected[CHAP_DIGEST_BYTES_MAX], response[CHAP_DIGEST_BYTES_MAX];
	size_t bytes;

	for (int i = 0; i < 16; i++)
		challenge[i] = (uint8_t)(i + 1);
	assert_string_equal(got(talk, "CHAP_N"), MUTUAL_USER);
	assert_int_equal(wire_text_binary(got(talk, "CHAP_R"), response, sizeof(response), &bytes),
			 0);
	assert_int_equal(chap_response(CHAP_MD5, 9, (const uint8_t *)secret, strlen(secret),
				       challenge, sizeof(challenge), expected),
			 0);
	assert_int_equal(bytes, 16);
	assert_memory_equal(response, expected, 16);
}

/* Each secret of each boot is good, known apart, and answered with its own mutual secret; those
 * that are not there are not. */
static void boots_have_their_own_secrets(void **state)
{
	char key[64], mutual[64];
	struct talk talk;

	(void)state;
	for (unsigned count = 0; count <= TARGET_BOOTS_MAX; count++) {
		for (unsigned i = 0; i <= TARGET_BOOTS_MAX; i++) {
			(void)snprintf(key, sizeof(key), BOOT_KEY, i);
			(void)snprintf(mutual, sizeof(mutual), "mutual-of-boot-%02u", i);
			talk_begin(&talk, WITH_NODE | WITH_OPERATOR | WITH_MUTUAL);
			boots_set(talk.conf, count);
			chap_login(&talk, FIRST_CHAP, NODE_USER, key, MUTUAL_ASK);
			if (i >= count) {
				assert_refused(&talk, 0x0201);
				assert_non_null(strstr(login_why(talk.login), "wrong CHAP secret"));
				talk_end(&talk);
				continue;
			}
			assert_int_equal(talk.verdict, LOGIN_MORE);
			assert_mutual(&talk, mutual);
			assert_int_equal(send_keys(&talk, T | CSG(1) | 3, ""), LOGIN_ADMIT);
			assert_int_equal(login_by(talk.login), LOGIN_BY_BOOT);
			assert_int_equal(login_boot_id(talk.login)[0], i + 1);
			assert_int_equal(login_boot_id(talk.login)[7], i + 1);
			talk_end(&talk);
		}
	}
}

/* The node's own and the operator's go on beside them, with the node's own mutual secret. */
static void boots_stand_beside_the_others(void **state)
{
	static const struct {
		const char *user, *key;
		enum login_by by;
	} others[] = {{NODE_USER, NODE_KEY, LOGIN_BY_NODE},
		      {OPER_USER, OPER_KEY, LOGIN_BY_OPERATOR}};
	struct talk talk;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		talk_begin(&talk, WITH_NODE | WITH_OPERATOR | WITH_MUTUAL);
		boots_set(talk.conf, TARGET_BOOTS_MAX);
		assert_int_equal(
			chap_login(&talk, FIRST_CHAP, others[i].user, others[i].key, MUTUAL_ASK),
			LOGIN_MORE);
		assert_mutual(&talk, MUTUAL_KEY);
		assert_int_equal(send_keys(&talk, T | CSG(1) | 3, ""), LOGIN_ADMIT);
		assert_int_equal(login_by(talk.login), others[i].by);
		talk_end(&talk);
	}
	talk_begin(&talk, NO_AUTH);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3, FIRST), LOGIN_ADMIT);
	assert_int_equal(login_by(talk.login), LOGIN_BY_NOBODY);
	talk_end(&talk);
}

static void boots_serve_only_their_node(void **state)
{
	char key[64];
	struct talk talk;

	(void)state;
	(void)snprintf(key, sizeof(key), BOOT_KEY, 0);
	/* With another initiator name, under another user, with the mutual secret. */
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | WITH_MUTUAL);
	boots_set(talk.conf, 1);
	chap_login(&talk,
		   "InitiatorName=iqn.2000-01.com.other\nTargetName=" TARGET
		   "\nSessionType=Normal\nAuthMethod=CHAP,None\n",
		   NODE_USER, key, "");
	assert_refused(&talk, 0x0202);
	talk_end(&talk);
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | WITH_MUTUAL);
	boots_set(talk.conf, 1);
	chap_login(&talk, FIRST_CHAP, OPER_USER, key, "");
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | WITH_MUTUAL);
	boots_set(talk.conf, 1);
	chap_login(&talk, FIRST_CHAP, NODE_USER, "mutual-of-boot-00", "");
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
	/* One secret for both directions is refused here too. */
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | WITH_MUTUAL);
	boots_set(talk.conf, 1);
	memcpy(talk.conf->boots[0].mutual_secret, key, strlen(key));
	talk.conf->boots[0].mutual_secret_bytes = (uint8_t)strlen(key);
	chap_login(&talk, FIRST_CHAP, NODE_USER, key, MUTUAL_ASK);
	assert_refused(&talk, 0x0201);
	assert_non_null(strstr(login_why(talk.login), "share one secret"));
	talk_end(&talk);
	/* A secret that is too short to be one never lets anybody in. */
	talk_begin(&talk, WITH_NODE);
	boots_set(talk.conf, 1);
	talk.conf->boots[0].secret_bytes = LIMIT_CHAP_SECRET_BYTES_MIN - 1;
	key[LIMIT_CHAP_SECRET_BYTES_MIN - 1] = '\0';
	chap_login(&talk, FIRST_CHAP, NODE_USER, key, "");
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
}

static void boots_prove_a_discovery(void **state)
{
	char key[64];
	struct talk talk;

	(void)state;
	(void)snprintf(key, sizeof(key), BOOT_KEY, 3);
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | DISCOVERY_USERS);
	boots_set(talk.conf, 4);
	assert_int_equal(chap_login(&talk, DISCOVERY "AuthMethod=CHAP,None\n", NODE_USER, key, ""),
			 LOGIN_MORE);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3, ""), LOGIN_ADMIT);
	assert_ptr_equal(login_target(talk.login), talk.conf);
	talk_end(&talk);
}

static void mutual_chap_refused(void **state)
{
	static const char *const bad[] = {
		"CHAP_I=9\n",
		"CHAP_C=0x0102\n",
		"CHAP_I=256\nCHAP_C=0x0102\n",
		"CHAP_I=9\nCHAP_C=0102\n",
		"CHAP_I=9\nCHAP_C=0x\n",
	};
	struct talk talk;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		talk_begin(&talk, WITH_NODE | WITH_MUTUAL);
		chap_login(&talk, FIRST_CHAP, NODE_USER, NODE_KEY, bad[i]);
		assert_refused(&talk, 0x0201);
		talk_end(&talk);
	}
	talk_begin(&talk, WITH_NODE);
	chap_login(&talk, FIRST_CHAP, NODE_USER, NODE_KEY, MUTUAL_ASK);
	assert_refused(&talk, 0x0201);
	assert_non_null(strstr(login_why(talk.login), "--mutual-user"));
	talk_end(&talk);
	/* One secret for both directions. */
	talk_begin(&talk, WITH_NODE | WITH_MUTUAL);
	chap_set(&talk.conf->mutual, MUTUAL_USER, NODE_KEY);
	chap_login(&talk, FIRST_CHAP, NODE_USER, NODE_KEY, MUTUAL_ASK);
	assert_refused(&talk, 0x0201);
	assert_non_null(strstr(login_why(talk.login), "share one secret"));
	talk_end(&talk);
}

static void reflected_challenge(void **state)
{
	struct talk talk;
	char keys[1024], answer[512], challenge[200];

	(void)state;
	talk_begin(&talk, WITH_NODE | WITH_MUTUAL);
	chap_until_challenge(&talk, FIRST_CHAP, "5");
	snprintf(challenge, sizeof(challenge), "%s", got(&talk, "CHAP_C"));
	chap_answer(&talk, NODE_USER, NODE_KEY, answer, sizeof(answer));
	snprintf(keys, sizeof(keys), "%sCHAP_I=200\nCHAP_C=%s\n", answer, challenge);
	send_keys(&talk, T | 1, keys);
	assert_refused(&talk, 0x0201);
	assert_int_equal(talk.reply.text_bytes, 0); /* nothing was answered */
	assert_non_null(strstr(login_why(talk.login), "challenge back"));
	talk_end(&talk);
}

/* --- discovery with credentials --- */

#define DISCOVERY_CHAP DISCOVERY "AuthMethod=CHAP,None\n"
#define OTHER_DISCOVERY \
	"InitiatorName=iqn.2026-11.local:tool\nSessionType=Discovery\nAuthMethod=CHAP,None\n"

static void discovery_by_chap_user(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | DISCOVERY_USERS);
	assert_int_equal(chap_login(&talk, OTHER_DISCOVERY, OPER_USER, OPER_KEY, ""), LOGIN_MORE);
	assert_ptr_equal(login_target(talk.login), talk.conf);
	assert_int_equal(send_keys(&talk, T | CSG(1) | 3, ""), LOGIN_ADMIT);
	talk_end(&talk);
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | DISCOVERY_USERS);
	chap_login(&talk, OTHER_DISCOVERY, NODE_USER, NODE_KEY, "");
	assert_refused(&talk, 0x0202);
	talk_end(&talk);
	talk_begin(&talk, WITH_NODE | WITH_OPERATOR | DISCOVERY_USERS);
	chap_login(&talk, DISCOVERY_CHAP, "stranger", NODE_KEY, "");
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
	/* Optional: None is enough. */
	talk_begin(&talk, WITH_NODE | DISCOVERY_USERS);
	assert_int_equal(send_keys(&talk, T | 3, DISCOVERY "AuthMethod=None,CHAP\n"), LOGIN_ADMIT);
	assert_string_equal(got(&talk, "AuthMethod"), "None");
	talk_end(&talk);
}

static void discovery_that_needs_chap(void **state)
{
	struct talk talk;

	(void)state;
	talk_begin(&talk, NO_AUTH);
	chap_set(&talk.discovery_chap, "look", "discovery-secret");
	assert_int_equal(chap_login(&talk, DISCOVERY_CHAP, "look", "discovery-secret", ""),
			 LOGIN_MORE);
	assert_null(login_target(talk.login));
	talk_end(&talk);
	talk_begin(&talk, NO_AUTH);
	chap_set(&talk.discovery_chap, "look", "discovery-secret");
	send_keys(&talk, T | CSG(1) | 3, DISCOVERY);
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
	talk_begin(&talk, NO_AUTH);
	chap_set(&talk.discovery_chap, "look", "discovery-secret");
	chap_login(&talk, DISCOVERY_CHAP, "look", "discovery-secret", MUTUAL_ASK);
	assert_refused(&talk, 0x0201);
	talk_end(&talk);
}

static void conf_references(void **state)
{
	struct target_conf *conf = target_conf_new();

	(void)state;
	assert_ptr_equal(target_conf_ref(conf), conf);
	target_conf_unref(conf);
	assert_int_equal(atomic_load(&conf->refs), 1);
	chap_set(&conf->in, "user", "twelve-bytes");
	assert_true(target_chap_valid(&conf->in));
	conf->in.name[0] = '\0';
	assert_false(target_chap_valid(&conf->in));
	chap_set(&conf->in, "us\ner", "twelve-bytes");
	assert_false(target_chap_valid(&conf->in));
	target_conf_unref(conf);
	target_conf_unref(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_iscsi_without_auth),
		cmocka_unit_test(libiscsi_with_chap),
		cmocka_unit_test(ipxe_and_edk2_through_both_stages),
		cmocka_unit_test(discovery_marks_session_keys_irrelevant),
		cmocka_unit_test(security_straight_to_full_feature),
		cmocka_unit_test(stays_at_a_stage_without_t),
		cmocka_unit_test(broken_logins_are_refused),
		cmocka_unit_test(identity_changed_between_requests),
		cmocka_unit_test(version_too_new_and_wrong_opcode),
		cmocka_unit_test(requests_without_end),
		cmocka_unit_test(session_room_refuses_after_admit),
		cmocka_unit_test(text_split_at_every_byte),
		cmocka_unit_test(text_beyond_the_bound),
		cmocka_unit_test(long_answer_comes_in_pieces),
		cmocka_unit_test(chap_with_each_algorithm),
		cmocka_unit_test(chap_response_in_base64),
		cmocka_unit_test(chap_wrong_secret),
		cmocka_unit_test(short_secret_lets_nobody_in),
		cmocka_unit_test(operator_logs_in_under_any_name),
		cmocka_unit_test(names_compared_without_case),
		cmocka_unit_test(any_initiator_without_a_name_in_the_conf),
		cmocka_unit_test(mutual_chap),
		cmocka_unit_test(boots_have_their_own_secrets),
		cmocka_unit_test(boots_stand_beside_the_others),
		cmocka_unit_test(boots_serve_only_their_node),
		cmocka_unit_test(boots_prove_a_discovery),
		cmocka_unit_test(mutual_chap_refused),
		cmocka_unit_test(reflected_challenge),
		cmocka_unit_test(discovery_by_chap_user),
		cmocka_unit_test(discovery_that_needs_chap),
		cmocka_unit_test(conf_references),
	};

	return cmocka_run_group_tests_name("login", tests, NULL, NULL);
}
