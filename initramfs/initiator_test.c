/*
 * The initiator's login against the target's own login machine, in memory, and against answers that
 * no target should give.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "initramfs/initiator.h"
#include "session/login.h"
#include "wire/text.h"

#define TARGET    "iqn.2026-11.local.lunroot:pi-07"
#define INITIATOR "iqn.2026-11.local.lunroot:initiator:pi-07"
#define USER      "pi-07"
#define SECRET    "node-secret-0001"
#define T_USER    "target-pi-07"
#define T_SECRET  "mutual-secret-01"

/* Both ends of a login. */
struct pair {
	struct target_conf *conf;
	struct login *login;
	struct initiator_wish wish;
	struct initiator initiator;
	struct initiator_request request;
	struct login_reply reply;
	unsigned exchanges;
};

static struct target_conf *find_target(void *arg, const char *name)
{
	struct pair *pair = arg;

	return strcmp(name, TARGET) == 0 ? target_conf_ref(pair->conf) : NULL;
}

static void chap_set(struct target_chap *chap, const char *name, const char *secret)
{
	snprintf(chap->name, sizeof(chap->name), "%s", name);
	memcpy(chap->secret, secret, strlen(secret));
	chap->secret_bytes = (uint8_t)strlen(secret);
}

enum { OPEN = 0, CHAP = 1, MUTUAL = 2 };

static void pair_begin(struct pair *pair, unsigned target_has, unsigned we_have)
{
	struct login_env env = {.find_target = find_target, .arg = pair, .portal_group_tag = 1};

	memset(pair, 0, sizeof(*pair));
	pair->conf = target_conf_new();
	assert_non_null(pair->conf);
	strcpy(pair->conf->name, TARGET);
	strcpy(pair->conf->initiator, INITIATOR);
	if (target_has & CHAP)
		chap_set(&pair->conf->in, USER, SECRET);
	if (target_has & MUTUAL)
		chap_set(&pair->conf->mutual, T_USER, T_SECRET);
	assert_int_equal(login_new(&env, &pair->login), 0);
	pair->wish = (struct initiator_wish){
		.initiator = INITIATOR,
		.target = TARGET,
		.alias = "pi-07",
		.user = we_have & CHAP ? USER : "",
		.secret = we_have & CHAP ? SECRET : "",
		.mutual_user = we_have & MUTUAL ? T_USER : "",
		.mutual_secret = we_have & MUTUAL ? T_SECRET : "",
		.isid = {0x80, 1, 2, 3, 4, 5},
		.cmdsn = 4711,
	};
}

static void pair_end(struct pair *pair)
{
	initiator_done(&pair->initiator);
	login_free(pair->login);
	target_conf_unref(pair->conf);
}

/* One request through the target's machine. */
static void answer(struct pair *pair)
{
	enum login_verdict verdict;

	assert_int_equal(pair->request.bhs.opcode, WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE);
	assert_int_equal(be32_get(pair->request.bhs.cmdsn), 4711);
	verdict = login_step(pair->login, &pair->request.bhs, pair->request.text,
			     pair->request.text_bytes, &pair->reply);
	if (verdict == LOGIN_ADMIT)
		login_finish(pair->login, 77, &pair->reply);
	be32_put(&pair->reply.bhs.statsn, 900 + pair->exchanges++);
}

static enum initiator_verdict take(struct pair *pair)
{
	/* Its own allocation, so that the sanitizer sees a read beyond it. */
	uint8_t *copy = malloc(pair->reply.text_bytes ? pair->reply.text_bytes : 1);
	enum initiator_verdict verdict;

	memcpy(copy, pair->reply.text, pair->reply.text_bytes);
	verdict = initiator_step(&pair->initiator, &pair->reply.bhs, copy, pair->reply.text_bytes,
				 &pair->request);
	free(copy);
	return verdict;
}

static enum initiator_verdict run(struct pair *pair)
{
	enum initiator_verdict verdict =
		initiator_begin(&pair->initiator, &pair->wish, &pair->request);

	while (verdict == INITIATOR_SEND && pair->exchanges < 100) {
		answer(pair);
		verdict = take(pair);
	}
	return verdict;
}

static void logs_in(unsigned target_has, unsigned we_have, unsigned exchanges)
{
	struct pair pair;
	const struct wire_params *ours, *theirs;

	pair_begin(&pair, target_has, we_have);
	pair.wish.data_digest = true;
	assert_int_equal(run(&pair), INITIATOR_DONE);
	assert_int_equal(pair.exchanges, exchanges);
	assert_int_equal(pair.initiator.tsih, 77);
	assert_int_equal(pair.initiator.portal_group_tag, 1);
	assert_int_equal(pair.initiator.statsn, 900 + exchanges - 1);
	ours = &pair.initiator.negotiation.agreed;
	theirs = login_params(pair.login);
	assert_int_equal(ours->max_burst_bytes, theirs->max_burst_bytes);
	assert_int_equal(ours->first_burst_bytes, theirs->first_burst_bytes);
	assert_int_equal(ours->max_send_segment_bytes, theirs->max_recv_segment_bytes);
	assert_int_equal(ours->max_recv_segment_bytes, theirs->max_send_segment_bytes);
	assert_false(ours->initial_r2t);
	assert_true(ours->immediate_data);
	assert_false(ours->header_digest);
	assert_true(ours->data_digest);
	assert_int_equal(ours->max_outstanding_r2t, 1);
	pair_end(&pair);
}

static void without_authentication(void **state)
{
	(void)state;
	logs_in(OPEN, OPEN, 1);
}

static void with_chap(void **state)
{
	(void)state;
	logs_in(CHAP, CHAP, 4);
	logs_in(CHAP | MUTUAL, CHAP, 4);
}

static void with_mutual_chap(void **state)
{
	(void)state;
	logs_in(CHAP | MUTUAL, CHAP | MUTUAL, 4);
}

static void refused(void (*spoil)(struct pair *pair), unsigned target_has, unsigned we_have,
		    enum initiator_verdict verdict, uint16_t status, const char *why)
{
	struct pair pair;

	pair_begin(&pair, target_has, we_have);
	if (spoil)
		spoil(&pair);
	assert_int_equal(run(&pair), verdict);
	if (verdict == INITIATOR_REFUSED)
		assert_int_equal(pair.initiator.status, status);
	if (!strstr(pair.initiator.why, why))
		fail_msg("\"%s\" does not say \"%s\"", pair.initiator.why, why);
	assert_null(strstr(pair.initiator.why, SECRET));
	pair_end(&pair);
}

static void wrong_secret(struct pair *pair)
{
	pair->wish.secret = "another-secret-1";
}

static void wrong_mutual_secret(struct pair *pair)
{
	pair->wish.mutual_secret = "another-secret-1";
}

static void wrong_mutual_user(struct pair *pair)
{
	pair->wish.mutual_user = "somebody-else";
}

static void wrong_target(struct pair *pair)
{
	pair->wish.target = "iqn.2026-11.local.lunroot:pi-08";
}

static void refusals_are_understood(void **state)
{
	(void)state;
	refused(wrong_secret, CHAP, CHAP, INITIATOR_REFUSED, WIRE_LOGIN_AUTH_FAILED, "0201");
	refused(NULL, CHAP, OPEN, INITIATOR_REFUSED, WIRE_LOGIN_AUTH_FAILED, "0201");
	refused(wrong_target, CHAP, CHAP, INITIATOR_REFUSED, WIRE_LOGIN_NOT_FOUND, "0203");
	/* A target that can't prove itself is not logged in to, whatever it thinks of us. */
	refused(wrong_mutual_secret, CHAP | MUTUAL, CHAP | MUTUAL, INITIATOR_BROKEN, 0,
		"mutual_secret");
	refused(wrong_mutual_user, CHAP | MUTUAL, CHAP | MUTUAL, INITIATOR_BROKEN, 0,
		"mutual_user");
}

static void target_that_wants_no_proof_is_not_trusted(void **state)
{
	struct pair pair;

	(void)state;
	pair_begin(&pair, OPEN, CHAP);
	/* AuthMethod=None, whatever it was offered. */
	assert_int_equal(initiator_begin(&pair.initiator, &pair.wish, &pair.request),
			 INITIATOR_SEND);
	answer(&pair);
	pair.reply.bhs.flags = 0;
	be16_put(&pair.reply.bhs.status, 0);
	memcpy(pair.reply.text, "AuthMethod=None", 16);
	pair.reply.text_bytes = 16;
	assert_int_equal(take(&pair), INITIATOR_BROKEN);
	assert_non_null(strstr(pair.initiator.why, "CHAP"));
	pair_end(&pair);
}

/* The answer to the first request is replaced. */
struct bad_answer {
	const char *name;
	uint8_t opcode, flags;
	uint16_t status, tsih;
	const char *text; /* newlines for NULs */
	enum initiator_verdict verdict;
};

#define T         0x80
#define C         0x40
#define OP_TO_FFP (T | 1 << 2 | 3)
#define RSP       WIRE_OP_LOGIN_RSP

static void bad_answers(void **state)
{
	static const struct bad_answer rows[] = {
		{"another opcode", WIRE_OP_NOP_IN, OP_TO_FFP, 0, 1, "", INITIATOR_BROKEN},
		{"another stage", RSP, T | 0 << 2 | 1, 0, 1, "", INITIATOR_BROKEN},
		{"a stage that is none", RSP, T | 1 << 2 | 2, 0, 1, "", INITIATOR_BROKEN},
		{"more to say and done", RSP, OP_TO_FFP | C, 0, 1, "", INITIATOR_BROKEN},
		{"no TSIH", RSP, OP_TO_FFP, 0, 0, "", INITIATOR_BROKEN},
		{"text without a value", RSP, OP_TO_FFP, 0, 1, "HeaderDigest\n", INITIATOR_BROKEN},
		{"a key twice", RSP, OP_TO_FFP, 0, 1, "MaxBurstLength=8192\nMaxBurstLength=8192\n",
		 INITIATOR_BROKEN},
		{"beyond the offer", RSP, OP_TO_FFP, 0, 1, "MaxOutstandingR2T=2\n",
		 INITIATOR_BROKEN},
		{"ERL 1", RSP, OP_TO_FFP, 0, 1, "ErrorRecoveryLevel=1\n", INITIATOR_BROKEN},
		{"two connections", RSP, OP_TO_FFP, 0, 1, "MaxConnections=2\n", INITIATOR_BROKEN},
		{"digests not asked for", RSP, OP_TO_FFP, 0, 1, "DataDigest=CRC32C\n",
		 INITIATOR_BROKEN},
		{"segment of 5 bytes", RSP, OP_TO_FFP, 0, 1, "MaxRecvDataSegmentLength=5\n",
		 INITIATOR_BROKEN},
		{"moved nowhere", RSP, 1 << 2, WIRE_LOGIN_MOVED_TEMPORARILY, 0, "",
		 INITIATOR_BROKEN},
		{"moved", RSP, 1 << 2, WIRE_LOGIN_MOVED_TEMPORARILY, 0,
		 "TargetAddress=10.0.0.2:3261,1\n", INITIATOR_MOVED},
		{"busy", RSP, 0, WIRE_LOGIN_NO_RESOURCES, 0, "", INITIATOR_REFUSED},
		{"nothing negotiated", RSP, OP_TO_FFP, 0, 1, "", INITIATOR_DONE},
		{"a key nobody knows", RSP, OP_TO_FFP, 0, 1, "X-com.example.y=1\n", INITIATOR_DONE},
		{"not done yet", RSP, 1 << 2, 0, 0, "", INITIATOR_SEND},
		{"more to come", RSP, 1 << 2 | C, 0, 0, "HeaderDi", INITIATOR_SEND},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct bad_answer *row = &rows[i];
		struct pair pair;

		pair_begin(&pair, OPEN, OPEN);
		assert_int_equal(initiator_begin(&pair.initiator, &pair.wish, &pair.request),
				 INITIATOR_SEND);
		answer(&pair);
		pair.reply.bhs.opcode = row->opcode;
		pair.reply.bhs.flags = row->flags;
		be16_put(&pair.reply.bhs.status, row->status);
		be16_put(&pair.reply.bhs.tsih, row->tsih);
		pair.reply.text_bytes = (uint32_t)strlen(row->text);
		for (uint32_t j = 0; j < pair.reply.text_bytes; j++)
			pair.reply.text[j] = row->text[j] == '\n' ? 0 : (uint8_t)row->text[j];
		if (take(&pair) != row->verdict)
			fail_msg("%s: \"%s\"", row->name, pair.initiator.why);
		if (row->verdict == INITIATOR_BROKEN)
			assert_true(pair.initiator.why[0]);
		if (row->verdict == INITIATOR_MOVED)
			assert_string_equal(pair.initiator.moved_to, "10.0.0.2:3261,1");
		pair_end(&pair);
	}
}

static void response_to_another_login(void **state)
{
	struct pair pair;

	(void)state;
	pair_begin(&pair, OPEN, OPEN);
	initiator_begin(&pair.initiator, &pair.wish, &pair.request);
	answer(&pair);
	pair.reply.bhs.isid[5] ^= 1;
	assert_int_equal(take(&pair), INITIATOR_BROKEN);
	pair_end(&pair);
}

static void target_without_end(void **state)
{
	struct pair pair;
	enum initiator_verdict verdict;

	(void)state;
	pair_begin(&pair, OPEN, OPEN);
	verdict = initiator_begin(&pair.initiator, &pair.wish, &pair.request);
	answer(&pair);
	pair.reply.bhs.flags = 1 << 2 | C;
	pair.reply.text_bytes = 8192;
	memset(pair.reply.text, 'x', 8192);
	for (unsigned i = 0; i < 1000 && verdict == INITIATOR_SEND; i++)
		verdict = take(&pair);
	assert_int_equal(verdict, INITIATOR_BROKEN);
	pair_end(&pair);
}

/* RFC 7143, 9.2.1: a target that returns our challenge as its own could have us answer it. */
static void own_challenge_sent_back(void **state)
{
	struct pair pair;
	struct wire_text_writer writer;

	(void)state;
	pair_begin(&pair, CHAP | MUTUAL, CHAP | MUTUAL);
	initiator_begin(&pair.initiator, &pair.wish, &pair.request);
	answer(&pair);
	assert_int_equal(take(&pair), INITIATOR_SEND);
	answer(&pair);
	wire_text_writer_init(&writer, pair.reply.text, sizeof(pair.reply.text));
	wire_text_put(&writer, "CHAP_A", "7");
	wire_text_put(&writer, "CHAP_I", "1");
	wire_text_put_binary(&writer, "CHAP_C", pair.initiator.challenge,
			     sizeof(pair.initiator.challenge));
	pair.reply.text_bytes = (uint32_t)writer.bytes;
	assert_int_equal(take(&pair), INITIATOR_BROKEN);
	assert_non_null(strstr(pair.initiator.why, "challenge"));
	pair_end(&pair);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_authentication),
		cmocka_unit_test(with_chap),
		cmocka_unit_test(with_mutual_chap),
		cmocka_unit_test(refusals_are_understood),
		cmocka_unit_test(target_that_wants_no_proof_is_not_trusted),
		cmocka_unit_test(bad_answers),
		cmocka_unit_test(response_to_another_login),
		cmocka_unit_test(target_without_end),
		cmocka_unit_test(own_challenge_sent_back),
	};

	return cmocka_run_group_tests_name("initiator", tests, NULL, NULL);
}
