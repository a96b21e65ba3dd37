/*
 * Every key of the table, each rule at its bounds, on both sides.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "wire/params.h"

struct bench {
	struct wire_negotiation negotiation;
	uint8_t text[16384];
	struct wire_text_writer writer;
	struct wire_text_list answers;
};

static void bench_begin(struct bench *bench, enum wire_side side)
{
	struct wire_params offered = wire_params_target();

	wire_negotiation_init(&bench->negotiation, side, &offered);
	wire_text_writer_init(&bench->writer, bench->text, sizeof(bench->text));
}

static struct wire_text_pair pair_of(const char *key, const char *value)
{
	struct wire_text_pair pair = {.value = value, .value_bytes = strlen(value)};

	strcpy(pair.key, key);
	return pair;
}

static enum wire_take take(struct bench *bench, enum wire_stage stage, const char *key,
			   const char *value)
{
	struct wire_text_pair pair = pair_of(key, value);
	enum wire_take res =
		wire_negotiation_take(&bench->negotiation, stage, &pair, &bench->writer);

	assert_int_equal(wire_text_parse(bench->text, bench->writer.bytes, &bench->answers), 0);
	return res;
}

static const char *answer(const struct bench *bench, const char *key)
{
	const struct wire_text_pair *pair = wire_text_find(&bench->answers, key);

	return pair ? pair->value : "";
}

/* Field by field: padding has no value. */
static bool params_equal(const struct wire_params *a, const struct wire_params *b)
{
	return a->header_digest == b->header_digest && a->data_digest == b->data_digest &&
	       a->max_recv_segment_bytes == b->max_recv_segment_bytes &&
	       a->max_send_segment_bytes == b->max_send_segment_bytes &&
	       a->max_burst_bytes == b->max_burst_bytes &&
	       a->first_burst_bytes == b->first_burst_bytes && a->initial_r2t == b->initial_r2t &&
	       a->immediate_data == b->immediate_data &&
	       a->max_outstanding_r2t == b->max_outstanding_r2t &&
	       a->data_pdu_in_order == b->data_pdu_in_order &&
	       a->data_sequence_in_order == b->data_sequence_in_order &&
	       a->error_recovery_level == b->error_recovery_level &&
	       a->time2wait_s == b->time2wait_s && a->time2retain_s == b->time2retain_s &&
	       a->max_connections == b->max_connections;
}

/* One key to a fresh target; "" means that no answer is due. */
static const struct {
	const char *key, *value, *answer;
} offers[] = {
	{"HeaderDigest", "None", "None"},
	{"HeaderDigest", "CRC32C", "CRC32C"},
	{"HeaderDigest", "CRC32C,None", "CRC32C"},
	{"HeaderDigest", "None,CRC32C", "None"},
	{"HeaderDigest", "CRC64,CRC32C", "CRC32C"},
	{"HeaderDigest", "CRC64", "Reject"},
	{"HeaderDigest", "crc32c", "Reject"},
	{"HeaderDigest", "", "Reject"},
	{"DataDigest", "CRC32C,None", "CRC32C"},
	{"DataDigest", "MD5", "Reject"},
	{"MaxConnections", "1", "1"},
	{"MaxConnections", "65535", "1"},
	{"MaxConnections", "0", "Reject"},
	{"MaxConnections", "65536", "Reject"},
	{"InitialR2T", "Yes", "Yes"},
	{"InitialR2T", "No", "No"},
	{"InitialR2T", "Maybe", "Reject"},
	{"ImmediateData", "Yes", "Yes"},
	{"ImmediateData", "No", "No"},
	{"ImmediateData", "yes", "Reject"},
	{"MaxRecvDataSegmentLength", "512", ""},
	{"MaxRecvDataSegmentLength", "16777215", ""},
	{"MaxBurstLength", "512", "512"},
	{"MaxBurstLength", "1048576", "1048576"},
	{"MaxBurstLength", "16777215", "1048576"},
	{"MaxBurstLength", "0x8000", "32768"},
	{"MaxBurstLength", "511", "Reject"},
	{"MaxBurstLength", "16777216", "Reject"},
	{"MaxBurstLength", "-1", "Reject"},
	{"MaxBurstLength", "many", "Reject"},
	{"MaxBurstLength", "", "Reject"},
	{"FirstBurstLength", "512", "512"},
	{"FirstBurstLength", "16777215", "262144"},
	{"FirstBurstLength", "511", "Reject"},
	{"FirstBurstLength", "16777216", "Reject"},
	{"DefaultTime2Wait", "0", "0"},
	{"DefaultTime2Wait", "3600", "3600"},
	{"DefaultTime2Wait", "3601", "Reject"},
	{"DefaultTime2Retain", "0", "0"},
	{"DefaultTime2Retain", "3600", "0"},
	{"DefaultTime2Retain", "3601", "Reject"},
	{"MaxOutstandingR2T", "1", "1"},
	{"MaxOutstandingR2T", "65535", "8"},
	{"MaxOutstandingR2T", "0", "Reject"},
	{"MaxOutstandingR2T", "65536", "Reject"},
	{"DataPDUInOrder", "Yes", "Yes"},
	{"DataPDUInOrder", "No", "Yes"},
	{"DataSequenceInOrder", "No", "Yes"},
	{"DataSequenceInOrder", "1", "Reject"},
	{"ErrorRecoveryLevel", "0", "0"},
	{"ErrorRecoveryLevel", "2", "0"},
	{"ErrorRecoveryLevel", "3", "Reject"},
	{"IFMarker", "Yes", "No"},
	{"IFMarker", "No", "No"},
	{"OFMarker", "Yes", "No"},
	{"OFMarker", "On", "Reject"},
	{"IFMarkInt", "2048", "Reject"},
	{"OFMarkInt", "1~65535", "Reject"},
	{"TaskReporting", "RFC3720", "RFC3720"},
	{"TaskReporting", "FastAbort,ResponseFence,RFC3720", "RFC3720"},
	{"TaskReporting", "FastAbort", "Reject"},
	{"iSCSIProtocolLevel", "0", "0"},
	{"iSCSIProtocolLevel", "1", "1"},
	{"iSCSIProtocolLevel", "31", "1"},
	{"iSCSIProtocolLevel", "32", "Reject"},
	{"X-com.example.speed", "fast", "NotUnderstood"},
	{"X#old", "1", "NotUnderstood"},
	{"Unheard", "of", "NotUnderstood"},
	{"headerdigest", "None", "NotUnderstood"},
	{"Unheard", "NotUnderstood", ""},
};

static void each_offer_gets_its_answer(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		struct bench bench;

		bench_begin(&bench, WIRE_TARGET);
		if (take(&bench, WIRE_STAGE_OPERATIONAL, offers[i].key, offers[i].value) !=
		    WIRE_TAKE_DONE)
			fail_msg("%s=%s failed", offers[i].key, offers[i].value);
		if (strcmp(answer(&bench, offers[i].key), offers[i].answer) != 0)
			fail_msg("%s=%s was answered \"%s\"", offers[i].key, offers[i].value,
				 answer(&bench, offers[i].key));
		assert_int_equal(wire_negotiation_finish(&bench.negotiation), 0);
	}
}

/* A refused value leaves the default (6.2). */
static void rejected_offers_change_nothing(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		struct wire_params before = wire_params_default();
		struct bench bench;

		if (strcmp(offers[i].answer, "Reject") != 0)
			continue;
		bench_begin(&bench, WIRE_TARGET);
		take(&bench, WIRE_STAGE_OPERATIONAL, offers[i].key, offers[i].value);
		assert_true(params_equal(&bench.negotiation.agreed, &before));
	}
}

static void what_is_agreed(void **state)
{
	struct bench bench;
	const struct wire_params *agreed = &bench.negotiation.agreed;

	(void)state;
	bench_begin(&bench, WIRE_TARGET);
	wire_negotiation_open(&bench.negotiation, &bench.writer);
	take(&bench, WIRE_STAGE_OPERATIONAL, "HeaderDigest", "CRC32C");
	take(&bench, WIRE_STAGE_OPERATIONAL, "InitialR2T", "No");
	take(&bench, WIRE_STAGE_OPERATIONAL, "ImmediateData", "No");
	take(&bench, WIRE_STAGE_OPERATIONAL, "MaxRecvDataSegmentLength", "4096");
	take(&bench, WIRE_STAGE_OPERATIONAL, "MaxBurstLength", "65536");
	take(&bench, WIRE_STAGE_OPERATIONAL, "FirstBurstLength", "131072");
	take(&bench, WIRE_STAGE_OPERATIONAL, "MaxOutstandingR2T", "4");
	take(&bench, WIRE_STAGE_OPERATIONAL, "DefaultTime2Wait", "5");
	take(&bench, WIRE_STAGE_OPERATIONAL, "ErrorRecoveryLevel", "1");
	assert_string_equal(answer(&bench, "MaxRecvDataSegmentLength"), "262144"); /* our own */
	assert_true(agreed->header_digest);
	assert_false(agreed->data_digest);
	assert_false(agreed->initial_r2t);
	assert_false(agreed->immediate_data);
	assert_int_equal(agreed->max_send_segment_bytes, 4096);
	assert_int_equal(agreed->max_recv_segment_bytes, LIMIT_SEGMENT_BYTES);
	assert_int_equal(agreed->max_burst_bytes, 65536);
	assert_int_equal(agreed->first_burst_bytes, 65536);
	assert_int_equal(agreed->max_outstanding_r2t, 4);
	assert_int_equal(agreed->time2wait_s, 5);
	assert_int_equal(agreed->error_recovery_level, 0);
	assert_int_equal(bench.negotiation.requested.first_burst_bytes, 131072);
}

static void declared_once_only(void **state)
{
	struct bench bench;
	size_t bytes;

	(void)state;
	bench_begin(&bench, WIRE_TARGET);
	wire_negotiation_open(&bench.negotiation, &bench.writer);
	bytes = bench.writer.bytes;
	assert_true(bytes > 0);
	wire_negotiation_open(&bench.negotiation, &bench.writer);
	assert_int_equal(bench.writer.bytes, bytes);
	/* "I do not know that key" needs no answer and spends nothing. */
	assert_int_equal(take(&bench, WIRE_STAGE_OPERATIONAL, "MaxRecvDataSegmentLength", "Reject"),
			 WIRE_TAKE_DONE);
	assert_int_equal(take(&bench, WIRE_STAGE_OPERATIONAL, "MaxRecvDataSegmentLength", "1024"),
			 WIRE_TAKE_DONE);
	assert_int_equal(bench.negotiation.agreed.max_send_segment_bytes, 1024);
}

static void misplaced_and_repeated_keys(void **state)
{
	static const struct {
		enum wire_stage stage;
		const char *key, *value;
		enum wire_take first, again;
	} rows[] = {
		{WIRE_STAGE_SECURITY, "HeaderDigest", "None", WIRE_TAKE_FAILED, WIRE_TAKE_FAILED},
		{WIRE_STAGE_SECURITY, "MaxRecvDataSegmentLength", "512", WIRE_TAKE_FAILED,
		 WIRE_TAKE_FAILED},
		{WIRE_STAGE_SECURITY, "AuthMethod", "None", WIRE_TAKE_CALLER, WIRE_TAKE_FAILED},
		{WIRE_STAGE_SECURITY, "CHAP_A", "5", WIRE_TAKE_CALLER, WIRE_TAKE_FAILED},
		{WIRE_STAGE_SECURITY, "CHAP_N", "5", WIRE_TAKE_CALLER, WIRE_TAKE_FAILED},
		{WIRE_STAGE_SECURITY, "X-a", "5", WIRE_TAKE_DONE, WIRE_TAKE_DONE},
		{WIRE_STAGE_OPERATIONAL, "AuthMethod", "None", WIRE_TAKE_FAILED, WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "CHAP_R", "0x00", WIRE_TAKE_FAILED, WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "SendTargets", "All", WIRE_TAKE_FAILED, WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "TargetAlias", "x", WIRE_TAKE_FAILED, WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "TargetAddress", "x", WIRE_TAKE_FAILED, WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "TargetPortalGroupTag", "1", WIRE_TAKE_FAILED,
		 WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "InitiatorName", "x", WIRE_TAKE_CALLER, WIRE_TAKE_CALLER},
		{WIRE_STAGE_OPERATIONAL, "SessionType", "x", WIRE_TAKE_CALLER, WIRE_TAKE_CALLER},
		{WIRE_STAGE_OPERATIONAL, "MaxBurstLength", "512", WIRE_TAKE_DONE, WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "MaxBurstLength", "1", WIRE_TAKE_DONE, WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "MaxRecvDataSegmentLength", "512", WIRE_TAKE_DONE,
		 WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "MaxRecvDataSegmentLength", "511", WIRE_TAKE_FAILED,
		 WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "MaxRecvDataSegmentLength", "16777216", WIRE_TAKE_FAILED,
		 WIRE_TAKE_FAILED},
		{WIRE_STAGE_OPERATIONAL, "MaxRecvDataSegmentLength", "8k", WIRE_TAKE_FAILED,
		 WIRE_TAKE_FAILED},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench bench;

		bench_begin(&bench, WIRE_TARGET);
		if (take(&bench, rows[i].stage, rows[i].key, rows[i].value) != rows[i].first)
			fail_msg("%s the first time", rows[i].key);
		if (rows[i].first == WIRE_TAKE_FAILED)
			assert_non_null(bench.negotiation.why);
		/* Its answers may repeat, as for X-a: start a new text. */
		wire_text_writer_init(&bench.writer, bench.text, sizeof(bench.text));
		if (take(&bench, rows[i].stage, rows[i].key, rows[i].value) != rows[i].again)
			fail_msg("%s again", rows[i].key);
	}
}

static void discovery_has_no_session_keys(void **state)
{
	static const char *const irrelevant[] = {
		"MaxConnections",      "InitialR2T",        "ImmediateData",
		"MaxBurstLength",      "FirstBurstLength",  "DataPDUInOrder",
		"DataSequenceInOrder", "MaxOutstandingR2T", "TaskReporting",
		"iSCSIProtocolLevel",
	};
	struct wire_params before;
	struct bench bench;

	(void)state;
	bench_begin(&bench, WIRE_TARGET);
	bench.negotiation.discovery = true;
	before = bench.negotiation.agreed;
	for (size_t i = 0; i < sizeof(irrelevant) / sizeof(irrelevant[0]); i++) {
		take(&bench, WIRE_STAGE_OPERATIONAL, irrelevant[i], "1");
		assert_string_equal(answer(&bench, irrelevant[i]), "Irrelevant");
	}
	assert_true(params_equal(&bench.negotiation.agreed, &before));
	take(&bench, WIRE_STAGE_OPERATIONAL, "DefaultTime2Wait", "2");
	assert_string_equal(answer(&bench, "DefaultTime2Wait"), "2");
	take(&bench, WIRE_STAGE_OPERATIONAL, "ErrorRecoveryLevel", "0");
	assert_string_equal(answer(&bench, "ErrorRecoveryLevel"), "0");
}

static int no_caller_keys(void *arg, enum wire_key key, const struct wire_text_pair *pair)
{
	(void)arg;
	(void)key;
	(void)pair;
	return -1;
}

static void bursts_in_either_order(void **state)
{
	static const char *const texts[] = {
		"FirstBurstLength=65536\0MaxBurstLength=8192",
		"MaxBurstLength=8192\0FirstBurstLength=65536",
	};
	size_t bytes = strlen(texts[0]) + 1 + strlen("MaxBurstLength=8192") + 1;

	(void)state;
	for (int i = 0; i < 2; i++) {
		const struct wire_text_pair *failed;
		struct wire_text_list list;
		struct bench bench;

		bench_begin(&bench, WIRE_TARGET);
		if (i == 1)
			bytes = strlen(texts[1]) + 1 + strlen("FirstBurstLength=65536") + 1;
		assert_int_equal(wire_text_parse((const uint8_t *)texts[i], bytes, &list), 0);
		assert_int_equal(
			wire_negotiation_take_all(&bench.negotiation, WIRE_STAGE_OPERATIONAL, &list,
						  no_caller_keys, NULL, &bench.writer, &failed),
			0);
		assert_int_equal(bench.negotiation.agreed.first_burst_bytes, 8192);
		assert_int_equal(bench.negotiation.agreed.max_burst_bytes, 8192);
		assert_int_equal(wire_negotiation_finish(&bench.negotiation), 0);
	}
}

static void bursts_that_contradict_or_only_by_default(void **state)
{
	struct bench bench;

	(void)state;
	bench_begin(&bench, WIRE_TARGET);
	take(&bench, WIRE_STAGE_OPERATIONAL, "FirstBurstLength", "65536");
	take(&bench, WIRE_STAGE_OPERATIONAL, "MaxBurstLength", "8192");
	assert_int_equal(wire_negotiation_finish(&bench.negotiation), -EPROTO);
	bench_begin(&bench, WIRE_TARGET);
	take(&bench, WIRE_STAGE_OPERATIONAL, "MaxBurstLength", "8192");
	assert_int_equal(wire_negotiation_finish(&bench.negotiation), 0);
	assert_int_equal(bench.negotiation.agreed.first_burst_bytes, 8192);
}

static void initiator_checks_answers(void **state)
{
	static const struct {
		const char *key, *value;
		enum wire_take take;
	} rows[] = {
		{"MaxBurstLength", "1048576", WIRE_TAKE_DONE},
		{"MaxBurstLength", "1048577", WIRE_TAKE_FAILED},
		{"MaxBurstLength", "512", WIRE_TAKE_DONE},
		{"MaxBurstLength", "x", WIRE_TAKE_FAILED},
		{"MaxBurstLength", "Reject", WIRE_TAKE_DONE},
		{"DefaultTime2Wait", "20", WIRE_TAKE_DONE},
		{"ImmediateData", "No", WIRE_TAKE_DONE},
		{"InitialR2T", "Yes", WIRE_TAKE_DONE},
		{"DataPDUInOrder", "No", WIRE_TAKE_FAILED},
		{"HeaderDigest", "CRC32C", WIRE_TAKE_DONE},
		{"HeaderDigest", "CRC32C,None", WIRE_TAKE_FAILED},
		{"ErrorRecoveryLevel", "1", WIRE_TAKE_FAILED},
		{"MaxRecvDataSegmentLength", "65536", WIRE_TAKE_DONE},
		{"TargetPortalGroupTag", "1", WIRE_TAKE_CALLER},
		{"InitiatorName", "x", WIRE_TAKE_FAILED},
		{"X-offer", "1", WIRE_TAKE_DONE},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench bench;
		size_t offered;

		bench_begin(&bench, WIRE_INITIATOR);
		wire_negotiation_open(&bench.negotiation, &bench.writer);
		offered = bench.writer.bytes;
		if (take(&bench, WIRE_STAGE_OPERATIONAL, rows[i].key, rows[i].value) !=
		    rows[i].take)
			fail_msg("%s=%s", rows[i].key, rows[i].value);
		/* An answer is never answered. */
		if (strcmp(rows[i].key, "X-offer") != 0)
			assert_int_equal(bench.writer.bytes, offered);
	}
}

static void initiator_and_target_agree(void **state)
{
	struct bench initiator, target;
	const struct wire_text_pair *failed;
	struct wire_text_list list;

	(void)state;
	bench_begin(&initiator, WIRE_INITIATOR);
	bench_begin(&target, WIRE_TARGET);
	target.negotiation.offered.max_burst_bytes = 65536;
	target.negotiation.offered.first_burst_bytes = 16384;
	wire_negotiation_open(&initiator.negotiation, &initiator.writer);
	assert_int_equal(wire_text_parse(initiator.text, initiator.writer.bytes, &list), 0);
	assert_null(wire_text_find(&list, "TaskReporting"));
	assert_null(wire_text_find(&list, "iSCSIProtocolLevel"));
	assert_int_equal(wire_negotiation_take_all(&target.negotiation, WIRE_STAGE_OPERATIONAL,
						   &list, no_caller_keys, NULL, &target.writer,
						   &failed),
			 0);
	wire_negotiation_open(&target.negotiation, &target.writer);
	assert_int_equal(wire_text_parse(target.text, target.writer.bytes, &list), 0);
	assert_int_equal(wire_negotiation_take_all(&initiator.negotiation, WIRE_STAGE_OPERATIONAL,
						   &list, no_caller_keys, NULL, &initiator.writer,
						   &failed),
			 0);
	assert_true(params_equal(&initiator.negotiation.agreed, &target.negotiation.agreed));
	assert_int_equal(initiator.negotiation.agreed.first_burst_bytes, 16384);
}

static void full_feature_text(void **state)
{
	static const struct {
		const char *key, *value;
		bool ours;
		const char *answer;
		uint32_t segment_bytes;
	} rows[] = {
		{"MaxRecvDataSegmentLength", "16384", true, "", 16384},
		{"MaxRecvDataSegmentLength", "511", true, "Reject", 8192},
		{"MaxBurstLength", "512", true, "Reject", 8192},
		{"TargetName", "x", true, "Reject", 8192},
		{"TargetAddress", "x", true, "Reject", 8192},
		{"InitiatorAlias", "x", true, "", 8192},
		{"X-a", "x", true, "NotUnderstood", 8192},
		{"X-a", "NotUnderstood", true, "", 8192},
		{"SendTargets", "All", false, "", 8192},
		{"sendtargets", "All", true, "NotUnderstood", 8192},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct wire_text_pair pair = pair_of(rows[i].key, rows[i].value);
		struct wire_params params = wire_params_default();
		struct bench bench;

		bench_begin(&bench, WIRE_TARGET);
		assert_int_equal(wire_params_text_ffp(&params, &pair, &bench.writer), rows[i].ours);
		assert_int_equal(wire_text_parse(bench.text, bench.writer.bytes, &bench.answers),
				 0);
		assert_string_equal(answer(&bench, rows[i].key), rows[i].answer);
		assert_int_equal(params.max_send_segment_bytes, rows[i].segment_bytes);
	}
}

static void keys_have_their_own_names(void **state)
{
	(void)state;
	for (int key = WIRE_KEY_UNKNOWN + 1; key < WIRE_KEY_COUNT; key++)
		assert_int_equal(wire_key_find(wire_key_name((enum wire_key)key)), key);
	assert_int_equal(wire_key_find("maxburstlength"), WIRE_KEY_UNKNOWN);
}

static void names_of_constants(void **state)
{
	(void)state;
	for (int i = 0; i < 256; i++) {
		assert_non_null(wire_opcode_name((uint8_t)i));
		assert_non_null(wire_tmf_function_name((uint8_t)i));
		assert_non_null(wire_reject_reason_name((uint8_t)i));
		assert_non_null(wire_login_status_name((uint16_t)(0x200 | i)));
	}
	assert_string_equal(wire_opcode_name(WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE), "Login Request");
	assert_string_equal(wire_opcode_name(0x07), "unknown opcode");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_offer_gets_its_answer),
		cmocka_unit_test(rejected_offers_change_nothing),
		cmocka_unit_test(what_is_agreed),
		cmocka_unit_test(declared_once_only),
		cmocka_unit_test(misplaced_and_repeated_keys),
		cmocka_unit_test(discovery_has_no_session_keys),
		cmocka_unit_test(bursts_in_either_order),
		cmocka_unit_test(bursts_that_contradict_or_only_by_default),
		cmocka_unit_test(initiator_checks_answers),
		cmocka_unit_test(initiator_and_target_agree),
		cmocka_unit_test(full_feature_text),
		cmocka_unit_test(keys_have_their_own_names),
		cmocka_unit_test(names_of_constants),
	};

	return cmocka_run_group_tests_name("params", tests, NULL, NULL);
}
