/*
 * The whole room over loopback: logins, takeover, windows, data in both directions, task
 * management, and what happens to peers that break the rules.
 */
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/session_internal.h"
#include "session/test_peer.h"

#define NODE "iqn.2026-11.local.lunroot:init:pi-07"
#define TOOL "iqn.2026-11.local.lunroot:init:tool"

static struct test_server ts;
static struct pdu pdu;

static int setup(void **state)
{
	(void)state;
	test_server_start(&ts, NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_server_stop(&ts);
	return 0;
}

static void login_with(struct peer *peer, unsigned target, const char *keys)
{
	const struct peer_login login = {
		.initiator = NODE, .target = ts.names[target], .isid = 1, .keys = keys};

	assert_int_equal(peer_login(peer, ts.port, &login), 0);
	peer_clear_attention(peer);
}

static void fill(uint8_t *data, size_t bytes, unsigned seed)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(i * 7 + i / 512 + seed);
}

static void expect_reject(struct peer *peer, uint8_t reason, const void *header)
{
	peer_expect(peer, WIRE_OP_REJECT, &pdu);
	assert_int_equal(pdu.reject.reason, reason);
	assert_int_equal(be32_get(pdu.reject.itt), WIRE_TAG_NONE);
	assert_int_equal(be32_get(pdu.reject.statsn), peer->expstatsn++);
	assert_int_equal(pdu.data_bytes, WIRE_BHS_BYTES);
	assert_memory_equal(pdu.data, header, WIRE_BHS_BYTES);
}

/* --- data --- */

static void residuals(void **state)
{
	static const struct {
		uint32_t edtl, transfer;
		bool overflow, underflow;
		uint32_t count;
	} rows[] = {
		{0, 0, false, false, 0},
		{512, 512, false, false, 0},
		{512, 1024, true, false, 512},
		{1024, 512, false, true, 512},
		{0, 512, true, false, 512},
		{512, 0, false, true, 512},
		{UINT32_MAX, 1, false, true, UINT32_MAX - 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct residual r = residual_of(rows[i].edtl, rows[i].transfer);

		assert_int_equal(r.overflow, rows[i].overflow);
		assert_int_equal(r.underflow, rows[i].underflow);
		assert_int_equal(r.count, rows[i].count);
	}
}

static void write_and_read(const char *keys)
{
	static uint8_t out[65536], in[65536];
	struct wire_scsi_cmd cmd;
	struct peer peer;

	login_with(&peer, TEST_PRIVATE, keys);
	fill(out, sizeof(out), 3);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 8, 16);
	peer_send(&peer, &cmd, out, 8192);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	peer_read(&peer, 8, 16, in);
	assert_memory_equal(in, out, 8192);
	peer_close(&peer);
}

static void immediate_data(void **state)
{
	(void)state;
	write_and_read(NULL);
}

static void digests(void **state)
{
	(void)state;
	write_and_read("HeaderDigest=CRC32C\0DataDigest=CRC32C\0");
	write_and_read("HeaderDigest=CRC32C\0");
	write_and_read("DataDigest=CRC32C\0");
}

/* Each burst is asked for once, in order, and R2Ts use up no StatSN. */
static void r2t_sequences(void **state)
{
	static uint8_t out[32768], in[32768];
	struct wire_scsi_cmd cmd;
	struct peer peer;
	uint32_t ttts[8], asked = 0, answered = 0, sent = 0;

	(void)state;
	login_with(&peer, TEST_PRIVATE,
		   "MaxBurstLength=8192\0FirstBurstLength=4096\0MaxOutstandingR2T=2\0"
		   "InitialR2T=Yes\0ImmediateData=No\0");
	fill(out, sizeof(out), 5);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 64);
	peer_send(&peer, &cmd, NULL, 0);
	while (sent < sizeof(out)) {
		while (asked < sizeof(out) / 8192 && asked < answered + 2) {
			peer_expect(&peer, WIRE_OP_R2T, &pdu);
			assert_int_equal(be32_get(pdu.r2t.itt), peer.itt);
			assert_int_equal(be32_get(pdu.r2t.r2tsn), asked);
			assert_int_equal(be32_get(pdu.r2t.offset_bytes), asked * 8192);
			assert_int_equal(be32_get(pdu.r2t.desired_bytes), 8192);
			assert_int_equal(be32_get(pdu.r2t.statsn), peer.expstatsn);
			assert_int_equal(be32_get(pdu.r2t.expcmdsn), peer.cmdsn);
			ttts[asked++] = be32_get(pdu.r2t.ttt);
		}
		peer_data_out(&peer, peer.itt, ttts[answered], 0, sent, false, out + sent, 1000);
		peer_data_out(&peer, peer.itt, ttts[answered], 1, sent + 1000, true,
			      out + sent + 1000, 7192);
		sent += 8192;
		answered++;
	}
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	peer_read(&peer, 0, 64, in);
	assert_memory_equal(in, out, sizeof(out));
	peer_close(&peer);
}

/* Immediate, then unsolicited, then asked for: one write of three kinds. */
static void unsolicited_then_r2t(void **state)
{
	static uint8_t out[32768], in[32768];
	struct wire_scsi_cmd cmd;
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "FirstBurstLength=16384\0InitialR2T=No\0");
	fill(out, sizeof(out), 6);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_WRITE, 100, 64);
	peer_send(&peer, &cmd, out, 4096);
	peer_data_out(&peer, peer.itt, WIRE_TAG_NONE, 0, 4096, false, out + 4096, 5000);
	peer_data_out(&peer, peer.itt, WIRE_TAG_NONE, 1, 9096, true, out + 9096, 7288);
	peer_expect(&peer, WIRE_OP_R2T, &pdu);
	assert_int_equal(be32_get(pdu.r2t.offset_bytes), 16384);
	assert_int_equal(be32_get(pdu.r2t.desired_bytes), 16384);
	peer_data_out(&peer, peer.itt, be32_get(pdu.r2t.ttt), 0, 16384, true, out + 16384, 16384);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	peer_read(&peer, 100, 64, in);
	assert_memory_equal(in, out, sizeof(out));
	peer_close(&peer);
}

/* Only what the initiator announced is asked for and written; the residual tells the rest. */
static void edtl_and_cdb_differ(void **state)
{
	static uint8_t out[4096], in[4096];
	struct wire_scsi_cmd cmd;
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	memset(out, 0x55, sizeof(out));
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 2);
	be32_put(&cmd.edtl_bytes, 512);
	peer_send(&peer, &cmd, out, 512);
	peer_expect(&peer, WIRE_OP_SCSI_RSP, &pdu);
	peer.expstatsn++;
	assert_true(pdu.rsp.flags & WIRE_RSP_OVERFLOW);
	assert_int_equal(be32_get(pdu.rsp.residual_count), 512);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 4, 2);
	be32_put(&cmd.edtl_bytes, 4096);
	peer_send(&peer, &cmd, out, 4096);
	peer_expect(&peer, WIRE_OP_SCSI_RSP, &pdu);
	peer.expstatsn++;
	assert_int_equal(pdu.rsp.status, 0);
	assert_true(pdu.rsp.flags & WIRE_RSP_UNDERFLOW);
	assert_int_equal(be32_get(pdu.rsp.residual_count), 4096 - 1024);
	peer_read(&peer, 0, 8, in);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(in[i], i < 512 || (i >= 2048 && i < 3072) ? 0x55 : 0);
	peer_close(&peer);
}

static void unexpected_data(void **state)
{
	static uint8_t out[65536];
	struct wire_scsi_cmd cmd;
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "InitialR2T=Yes\0ImmediateData=No\0");
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, out, 512);
	peer_expect_status(&peer, peer.itt, 2, 0xb, 0x0c0c);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, NULL, 0);
	peer_data_out(&peer, peer.itt, WIRE_TAG_NONE, 0, 0, true, out, 512);
	peer_expect_status(&peer, peer.itt, 2, 0xb, 0x0c0c);
	peer_close(&peer);

	login_with(&peer, TEST_PRIVATE, "InitialR2T=No\0FirstBurstLength=4096\0");
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_WRITE, 0, 32);
	peer_send(&peer, &cmd, NULL, 0);
	peer_data_out(&peer, peer.itt, WIRE_TAG_NONE, 0, 0, true, out, 8192);
	peer_expect_status(&peer, peer.itt, 2, 0xb, 0x0c0d);
	/* More immediate data than the command announces. */
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, out, 1024);
	peer_expect_status(&peer, peer.itt, 2, 0xb, 0x0c0d);
	/* An R2T that gets less than it asked for. */
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 2);
	peer_send(&peer, &cmd, NULL, 0);
	peer_expect(&peer, WIRE_OP_R2T, &pdu);
	peer_data_out(&peer, peer.itt, be32_get(pdu.r2t.ttt), 0, 0, true, out, 512);
	peer_expect_status(&peer, peer.itt, 2, 0xb, 0x0c0d);
	peer_close(&peer);
}

static void data_out_for_nobody(void **state)
{
	struct wire_data_out out = {.opcode = WIRE_OP_DATA_OUT, .flags = WIRE_FINAL};
	uint8_t data[512] = {0};
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	be32_put(&out.itt, 0xdead);
	be32_put(&out.ttt, 77);
	peer_send(&peer, &out, data, sizeof(data));
	expect_reject(&peer, WIRE_REJECT_INVALID_FIELD, &out);
	peer_read(&peer, 0, 1, data);
	peer_close(&peer);
}

static void wrong_data_digest(void **state)
{
	static uint8_t stream[WIRE_BHS_BYTES + 512 + 4];
	struct wire_scsi_cmd cmd;
	uint8_t data[512];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "DataDigest=CRC32C\0");
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	be24_put(&cmd.data_bytes, 512);
	memcpy(stream, &cmd, sizeof(cmd));
	memset(stream + WIRE_BHS_BYTES, 0x77, 512);
	peer_send_bytes(&peer, stream, sizeof(stream)); /* a digest of zeros */
	expect_reject(&peer, WIRE_REJECT_DATA_DIGEST, &cmd);
	peer_expect_status(&peer, peer.itt, 2, 0xb, 0x4705);
	peer_read(&peer, 0, 1, data);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(data[i], 0);
	peer_close(&peer);
}

static void wrong_header_digest(void **state)
{
	struct wire_nop_out nop = {.opcode = WIRE_OP_NOP_OUT | WIRE_IMMEDIATE, .flags = WIRE_FINAL};
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "HeaderDigest=CRC32C\0");
	peer_send_bytes(&peer, &nop, sizeof(nop));
	peer_send_bytes(&peer, "\1\2\3\4", 4);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
}

/* A peer that asks for more than it reads: all comes, in order, when it reads again. */
static void reads_of_a_slow_reader(void **state)
{
	enum { COUNT = 40, BLOCKS = 2048 };
	struct wire_scsi_cmd cmd;
	struct peer peer;
	uint32_t first, got = 0;
	uint64_t bytes = 0;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "MaxRecvDataSegmentLength=65536\0");
	first = peer.itt + 1;
	for (unsigned i = 0; i < COUNT; i++) {
		peer_command(&peer, &cmd, 0x28, WIRE_CMD_FINAL | WIRE_CMD_READ, 0, BLOCKS);
		peer_send(&peer, &cmd, NULL, 0);
	}
	test_sleep_ms(300);
	while (got < COUNT) {
		peer_expect(&peer, WIRE_OP_DATA_IN, &pdu);
		bytes += pdu.data_bytes;
		if (!(pdu.data_in.flags & WIRE_DATA_STATUS))
			continue;
		assert_int_equal(be32_get(pdu.data_in.itt), first + got);
		got++;
	}
	assert_int_equal(bytes, (uint64_t)COUNT * BLOCKS * 512);
	peer_close(&peer);
}

/* More writes at once than the session's share of buffers: they wait, and all end well. */
static void many_large_writes(void **state)
{
	enum { COUNT = 100, BLOCKS = 1024 };
	static uint8_t data[BLOCKS * 512];
	struct wire_scsi_cmd cmd;
	struct peer peer;
	unsigned done = 0;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "MaxBurstLength=524288\0");
	for (unsigned i = 0; i < COUNT; i++) {
		peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, i * 8, BLOCKS);
		peer_send(&peer, &cmd, NULL, 0);
	}
	while (done < COUNT) {
		assert_true(peer_recv(&peer, &pdu));
		if (pdu.bhs.opcode == WIRE_OP_R2T) {
			uint32_t itt = be32_get(pdu.r2t.itt), ttt = be32_get(pdu.r2t.ttt);
			uint32_t offset = be32_get(pdu.r2t.offset_bytes);
			uint32_t bytes = be32_get(pdu.r2t.desired_bytes);

			assert_true(bytes <= sizeof(data));
			for (uint32_t at = 0, sn = 0; at < bytes; at += 262144)
				peer_data_out(&peer, itt, ttt, sn++, offset + at,
					      at + 262144 >= bytes, data, 262144);
			continue;
		}
		assert_int_equal(pdu.bhs.opcode, WIRE_OP_SCSI_RSP);
		assert_int_equal(pdu.rsp.status, 0);
		done++;
	}
	peer_close(&peer);
}

/* An ORDERED command runs after the write before it, whose data comes late, and one behind it
 * after that. */
static void ordered_waits_for_data(void **state)
{
	struct wire_scsi_cmd write, ordered, after;
	uint8_t data[512];
	struct peer peer;
	uint32_t ttt;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	memset(data, 0x66, sizeof(data));
	peer_command(&peer, &write, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &write, NULL, 0);
	peer_expect(&peer, WIRE_OP_R2T, &pdu);
	ttt = be32_get(pdu.r2t.ttt);
	peer_command(&peer, &ordered, 0x28, WIRE_CMD_FINAL | WIRE_CMD_READ | WIRE_ATTR_ORDERED, 0,
		     1);
	peer_send(&peer, &ordered, NULL, 0);
	peer_command(&peer, &after, 0x00, WIRE_CMD_FINAL | WIRE_ATTR_SIMPLE, 0, 0);
	peer_send(&peer, &after, NULL, 0);
	test_sleep_ms(50);
	peer_data_out(&peer, be32_get(write.itt), ttt, 0, 0, true, data, 512);
	peer_expect_status(&peer, be32_get(write.itt), 0, 0, 0);
	peer_expect(&peer, WIRE_OP_DATA_IN, &pdu);
	assert_int_equal(be32_get(pdu.data_in.itt), be32_get(ordered.itt));
	assert_memory_equal(pdu.data, data, 512);
	peer.expstatsn++;
	peer_expect_status(&peer, be32_get(after.itt), 0, 0, 0);
	/* Aborting what stands before it lets it go. */
	peer_command(&peer, &write, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &write, NULL, 0);
	peer_expect(&peer, WIRE_OP_R2T, &pdu);
	peer_command(&peer, &ordered, 0x00, WIRE_CMD_FINAL | WIRE_ATTR_ORDERED, 0, 0);
	peer_send(&peer, &ordered, NULL, 0);
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, be32_get(write.itt), be32_get(write.cmdsn));
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	peer_expect_status(&peer, be32_get(ordered.itt), 0, 0, 0);
	peer_close(&peer);
}

/* --- numbers --- */

static void cmdsn_outside_of_window(void **state)
{
	struct wire_scsi_cmd cmd;
	uint8_t data[512];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	peer_command(&peer, &cmd, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer.cmdsn--;
	be32_put(&cmd.cmdsn, peer.cmdsn - 1);
	peer_send(&peer, &cmd, NULL, 0);
	be32_put(&cmd.cmdsn, peer.cmdsn + LIMIT_SESSION_COMMANDS);
	peer_send(&peer, &cmd, NULL, 0);
	/* Nothing is said; the right one is answered. */
	peer_read(&peer, 0, 1, data);
	peer_close(&peer);
}

static void cmdsn_out_of_order(void **state)
{
	struct wire_scsi_cmd first, second, third;
	uint8_t data[512], in[512];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "InitialR2T=No\0");
	memset(data, 0x31, sizeof(data));
	peer_command(&peer, &first, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer_command(&peer, &second, 0x2a, WIRE_CMD_WRITE, 50, 1);
	peer_command(&peer, &third, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer_send(&peer, &third, NULL, 0);
	peer_send(&peer, &second, data, 256);
	peer_data_out(&peer, be32_get(second.itt), WIRE_TAG_NONE, 0, 256, true, data + 256, 256);
	peer_send(&peer, &first, NULL, 0);
	for (unsigned i = 0; i < 3; i++) {
		peer_expect(&peer, WIRE_OP_SCSI_RSP, &pdu);
		assert_int_equal(pdu.rsp.status, 0);
		peer.expstatsn++;
	}
	peer_read(&peer, 50, 1, in);
	assert_memory_equal(in, data, 512);
	peer_close(&peer);
}

static void same_itt_twice(void **state)
{
	struct wire_scsi_cmd cmd;
	struct peer peer;
	uint32_t itt;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, NULL, 0);
	peer_expect(&peer, WIRE_OP_R2T, &pdu);
	itt = peer.itt;
	peer_command(&peer, &cmd, 0x00, WIRE_CMD_FINAL, 0, 0);
	be32_put(&cmd.itt, itt);
	peer_send(&peer, &cmd, NULL, 0);
	expect_reject(&peer, WIRE_REJECT_TASK_IN_PROGRESS, &cmd);
	peer_close(&peer);
}

static void too_many_immediate(void **state)
{
	struct wire_scsi_cmd cmd;
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	for (unsigned i = 0; i <= LIMIT_IMMEDIATE_COMMANDS; i++) {
		peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
		cmd.opcode |= WIRE_IMMEDIATE;
		be32_put(&cmd.cmdsn, --peer.cmdsn);
		peer_send(&peer, &cmd, NULL, 0);
		if (i < LIMIT_IMMEDIATE_COMMANDS)
			peer_expect(&peer, WIRE_OP_R2T, &pdu);
		else
			expect_reject(&peer, WIRE_REJECT_TOO_MANY_IMMEDIATE, &cmd);
	}
	peer_close(&peer);
}

/* --- sessions --- */

static void takeover_waits_for_the_old_write(void **state)
{
	struct peer_login login = {.initiator = NODE, .target = ts.names[TEST_PRIVATE], .isid = 9};
	struct wire_scsi_cmd cmd;
	uint8_t data[512] = {0x42};
	struct peer old, young;

	(void)state;
	login_with(&old, TEST_PRIVATE, NULL);
	atomic_store(&test_write_delay_ms, 1000);
	peer_command(&old, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&old, &cmd, data, 512);
	while (atomic_load(&test_writes_begun) == 0)
		test_sleep_ms(1);
	assert_int_equal(atomic_load(&test_writes_done), 0);
	/* Another ISID, as after iPXE. */
	assert_int_equal(peer_login(&young, ts.port, &login), 0);
	assert_int_equal(atomic_load(&test_writes_done), 1);
	assert_true(peer_is_closed(&old));
	peer_clear_attention(&young);
	peer_read(&young, 0, 1, data);
	assert_int_equal(data[0], 0x42);
	peer_close(&old);
	peer_close(&young);
}

static void another_name_is_refused(void **state)
{
	const struct peer_login login = {
		.initiator = TOOL, .target = ts.names[TEST_PRIVATE], .isid = 1};
	struct peer node, tool;
	uint8_t data[512];

	(void)state;
	login_with(&node, TEST_PRIVATE, NULL);
	assert_int_equal(peer_login(&tool, ts.port, &login), WIRE_LOGIN_UNAVAILABLE);
	assert_true(peer_is_closed(&tool));
	peer_read(&node, 0, 1, data);
	peer_close(&node);
	peer_close(&tool);
	/* When the first has gone there is room. */
	for (unsigned i = 0; i < 100; i++) {
		uint16_t status = peer_login(&tool, ts.port, &login);

		peer_close(&tool);
		if (status == 0)
			return;
		test_sleep_ms(10);
	}
	fail();
}

static void shared_sessions(void **state)
{
	struct peer_login login = {.initiator = NODE, .target = ts.names[TEST_SHARED], .isid = 2};
	struct peer first, second, third;
	uint8_t data[512];

	(void)state;
	login_with(&first, TEST_SHARED, NULL);
	assert_int_equal(peer_login(&second, ts.port, &login), 0);
	peer_clear_attention(&second);
	peer_read(&first, 0, 1, data);
	/* The same name and ISID: the session is reinstated, the other is untouched. */
	assert_int_equal(peer_login(&third, ts.port, &login), 0);
	assert_true(peer_is_closed(&second));
	peer_clear_attention(&third);
	peer_read(&third, 0, 1, data);
	peer_read(&first, 0, 1, data);
	peer_close(&first);
	peer_close(&second);
	peer_close(&third);
}

static void unknown_tsih(void **state)
{
	const struct peer_login login = {
		.initiator = NODE, .target = ts.names[TEST_PRIVATE], .isid = 1, .tsih = 4711};
	struct peer peer;

	(void)state;
	assert_int_equal(peer_login(&peer, ts.port, &login), WIRE_LOGIN_NO_SESSION);
	peer_close(&peer);
}

static void known_tsih(void **state)
{
	struct peer_login login = {.initiator = NODE, .target = ts.names[TEST_PRIVATE], .isid = 1};
	struct peer first, second;

	(void)state;
	login_with(&first, TEST_PRIVATE, NULL);
	login.tsih = first.tsih;
	/* The same CID: the connection is reinstated. */
	assert_int_equal(peer_login(&second, ts.port, &login), 0);
	assert_int_equal(second.tsih, first.tsih);
	assert_true(peer_is_closed(&first));
	peer_close(&first);
	peer_close(&second);
}

static void unknown_target(void **state)
{
	const struct peer_login login = {.initiator = NODE,
					 .target = "iqn.2026-11.local.lunroot:none"};
	struct peer peer;

	(void)state;
	assert_int_equal(peer_login(&peer, ts.port, &login), WIRE_LOGIN_NOT_FOUND);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
}

static void login_too_slow(void **state)
{
	const struct server_config config = {.reactor_count = 1, .login_timeout_ms = 100};
	struct test_server t;
	struct peer peer;

	(void)state;
	test_server_start(&t, &config);
	assert_int_equal(peer_connect(&peer, t.port), 0);
	peer_send_bytes(&peer, "C", 1);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
	test_server_stop(&t);
}

static void garbage_before_login(void **state)
{
	uint8_t garbage[256];
	struct peer peer;

	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		memset(garbage, (int)(i * 37 + 1), sizeof(garbage));
		assert_int_equal(peer_connect(&peer, ts.port), 0);
		(void)!send(peer.fd, garbage, sizeof(garbage), MSG_NOSIGNAL);
		(void)shutdown(peer.fd, SHUT_WR);
		while (recv(peer.fd, garbage, sizeof(garbage), 0) > 0)
			;
		peer_close(&peer);
	}
}

static void logout_with_a_write_in_flight(void **state)
{
	struct wire_logout_req req = {.opcode = WIRE_OP_LOGOUT_REQ | WIRE_IMMEDIATE,
				      .reason = WIRE_FINAL};
	struct wire_scsi_cmd cmd;
	uint8_t data[512] = {1};
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	atomic_store(&test_write_delay_ms, 200);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, data, 512);
	/* This one waits for data and ends without an answer. */
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, NULL, 0);
	peer_expect(&peer, WIRE_OP_R2T, &pdu);
	be32_put(&req.itt, 0x999);
	be32_put(&req.cmdsn, peer.cmdsn);
	peer_send(&peer, &req, NULL, 0);
	peer_expect_status(&peer, peer.itt - 1, 0, 0, 0);
	peer_expect(&peer, WIRE_OP_LOGOUT_RSP, &pdu);
	assert_int_equal(atomic_load(&test_writes_done), 1);
	assert_int_equal(pdu.logout.response, WIRE_LOGOUT_CLOSED);
	assert_int_equal(be32_get(pdu.logout.itt), 0x999);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
}

static void logout_of_others(void **state)
{
	struct wire_logout_req req = {.opcode = WIRE_OP_LOGOUT_REQ | WIRE_IMMEDIATE};
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	req.reason = WIRE_FINAL | WIRE_LOGOUT_CONNECTION;
	be16_put(&req.cid, 5);
	peer_send(&peer, &req, NULL, 0);
	peer_expect(&peer, WIRE_OP_LOGOUT_RSP, &pdu);
	assert_int_equal(pdu.logout.response, WIRE_LOGOUT_NO_CID);
	req.reason = WIRE_FINAL | WIRE_LOGOUT_RECOVERY;
	peer_send(&peer, &req, NULL, 0);
	peer_expect(&peer, WIRE_OP_LOGOUT_RSP, &pdu);
	assert_int_equal(pdu.logout.response, WIRE_LOGOUT_NO_RECOVERY);
	req.reason = WIRE_FINAL | WIRE_LOGOUT_CONNECTION;
	be16_put(&req.cid, 0);
	peer_send(&peer, &req, NULL, 0);
	peer_expect(&peer, WIRE_OP_LOGOUT_RSP, &pdu);
	assert_int_equal(pdu.logout.response, WIRE_LOGOUT_CLOSED);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
}

/* --- task management --- */

/* The answer comes when the write has landed, and the write itself has none. */
static void abort_a_running_write(void **state)
{
	struct wire_scsi_cmd cmd;
	uint8_t data[512] = {1};
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	atomic_store(&test_write_delay_ms, 200);
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, data, 512);
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, peer.itt, peer.cmdsn - 1);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	assert_int_equal(atomic_load(&test_writes_done), 1);
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, peer.itt, peer.cmdsn - 1);
	peer_expect_tmf(&peer, WIRE_TMF_NO_TASK);
	peer_read(&peer, 0, 1, data);
	peer_close(&peer);
}

/* Data that is under way for a task that is no more is thrown away without a word. */
static void abort_a_write_that_waits(void **state)
{
	static const uint8_t functions[] = {WIRE_TMF_ABORT_TASK, WIRE_TMF_ABORT_TASK_SET,
					    WIRE_TMF_CLEAR_TASK_SET};
	struct wire_scsi_cmd cmd;
	uint8_t data[512] = {0x99};
	struct peer peer;
	uint32_t ttt;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	for (size_t i = 0; i < ARRAY_COUNT(functions); i++) {
		peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
		peer_send(&peer, &cmd, NULL, 0);
		peer_expect(&peer, WIRE_OP_R2T, &pdu);
		ttt = be32_get(pdu.r2t.ttt);
		peer_tmf(&peer, functions[i], peer.itt, peer.cmdsn - 1);
		peer_data_out(&peer, peer.itt, ttt, 0, 0, true, data, 512);
		peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	}
	peer_read(&peer, 0, 1, data);
	assert_int_equal(data[0], 0);
	assert_int_equal(atomic_load(&test_writes_begun), 0);
	peer_close(&peer);
}

static void abort_what_has_not_come(void **state)
{
	struct wire_scsi_cmd cmd;
	uint8_t data[512];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	peer.cmdsn++; /* a command that is lost on the way */
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, 0x5555, peer.cmdsn - 1);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	/* The window has moved on. */
	peer_read(&peer, 0, 1, data);
	/* Out of the window. */
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, 0x5555, peer.cmdsn - 500);
	peer_expect_tmf(&peer, WIRE_TMF_NO_TASK);
	/* One that is held. */
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	be32_put(&cmd.cmdsn, peer.cmdsn++);
	peer_send(&peer, &cmd, data, 512);
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, peer.itt, peer.cmdsn - 1);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	peer.cmdsn -= 2;
	peer_command(&peer, &cmd, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer_send(&peer, &cmd, NULL, 0);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	peer.cmdsn++;
	peer_read(&peer, 0, 1, data);
	assert_int_equal(atomic_load(&test_writes_begun), 0);
	peer_close(&peer);
}

/* A reset through one session ends the tasks of all, and all are told. */
static void lun_reset_reaches_all(void **state)
{
	const struct peer_login login = {
		.initiator = TOOL, .target = ts.names[TEST_SHARED], .isid = 2};
	struct wire_scsi_cmd cmd;
	struct peer first, second;

	(void)state;
	login_with(&first, TEST_SHARED, NULL);
	assert_int_equal(peer_login(&second, ts.port, &login), 0);
	peer_clear_attention(&second);
	peer_command(&second, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&second, &cmd, NULL, 0);
	peer_expect(&second, WIRE_OP_R2T, &pdu);
	peer_tmf(&first, WIRE_TMF_LUN_RESET, 0, 0);
	peer_expect_tmf(&first, WIRE_TMF_COMPLETE);
	peer_command(&first, &cmd, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer_send(&first, &cmd, NULL, 0);
	peer_expect_status(&first, first.itt, 2, 6, 0x2903);
	peer_command(&second, &cmd, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer_send(&second, &cmd, NULL, 0);
	peer_expect_status(&second, second.itt, 2, 6, 0x2903);
	/* Cold: all connections go. */
	peer_tmf(&first, WIRE_TMF_TARGET_COLD_RESET, 0, 0);
	peer_expect_tmf(&first, WIRE_TMF_COMPLETE);
	assert_true(peer_is_closed(&first));
	assert_true(peer_is_closed(&second));
	peer_close(&first);
	peer_close(&second);
}

static void functions_we_do_not_have(void **state)
{
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	peer_tmf(&peer, WIRE_TMF_CLEAR_ACA, 0, 0);
	peer_expect_tmf(&peer, WIRE_TMF_UNSUPPORTED);
	peer_tmf(&peer, WIRE_TMF_TASK_REASSIGN, 0, 0);
	peer_expect_tmf(&peer, WIRE_TMF_NO_REASSIGN);
	peer_tmf(&peer, WIRE_TMF_QUERY_TASK, 0, 0);
	peer_expect_tmf(&peer, WIRE_TMF_UNSUPPORTED);
	peer_tmf(&peer, WIRE_TMF_TARGET_WARM_RESET, 0, 0);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	peer_close(&peer);
}

/* --- the rest of full-feature phase --- */

static void nop_out_is_echoed(void **state)
{
	struct wire_nop_out nop = {.opcode = WIRE_OP_NOP_OUT | WIRE_IMMEDIATE, .flags = WIRE_FINAL};
	uint8_t data[1000];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, "MaxRecvDataSegmentLength=512\0");
	fill(data, sizeof(data), 1);
	be32_put(&nop.itt, 0x5678);
	be32_put(&nop.ttt, WIRE_TAG_NONE);
	be32_put(&nop.cmdsn, peer.cmdsn);
	peer_send(&peer, &nop, data, sizeof(data));
	peer_expect(&peer, WIRE_OP_NOP_IN, &pdu);
	assert_int_equal(be32_get(pdu.nop.itt), 0x5678);
	assert_int_equal(be32_get(pdu.nop.ttt), WIRE_TAG_NONE);
	assert_int_equal(be32_get(pdu.nop.statsn), peer.expstatsn++);
	assert_int_equal(pdu.data_bytes, 512);
	assert_memory_equal(pdu.data, data, 512);
	peer_close(&peer);
}

static void silent_peer_is_asked(void **state)
{
	const struct server_config config = {.reactor_count = 1, .ping_idle_ms = 50};
	struct wire_nop_out nop = {.opcode = WIRE_OP_NOP_OUT | WIRE_IMMEDIATE, .flags = WIRE_FINAL};
	struct test_server t;
	struct peer_login login = {.initiator = NODE, .isid = 1};
	struct peer peer;

	(void)state;
	test_server_start(&t, &config);
	login.target = t.names[TEST_PRIVATE];
	assert_int_equal(peer_login(&peer, t.port, &login), 0);
	for (unsigned i = 0; i < 3; i++) {
		peer_expect(&peer, WIRE_OP_NOP_IN, &pdu);
		assert_int_equal(be32_get(pdu.nop.itt), WIRE_TAG_NONE);
		assert_int_not_equal(be32_get(pdu.nop.ttt), WIRE_TAG_NONE);
		/* It shows the next StatSN and does not use it. */
		assert_int_equal(be32_get(pdu.nop.statsn), peer.expstatsn);
		assert_int_equal(pdu.data_bytes, 0);
		be32_put(&nop.itt, WIRE_TAG_NONE);
		nop.lun = pdu.nop.lun;
		nop.ttt = pdu.nop.ttt;
		be32_put(&nop.cmdsn, peer.cmdsn);
		peer_send(&peer, &nop, NULL, 0);
	}
	peer_close(&peer);
	test_server_stop(&t);
}

static void snack_and_unknown_opcodes(void **state)
{
	struct wire_bhs bhs = {.flags = WIRE_FINAL};
	uint8_t data[512];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	bhs.opcode = WIRE_OP_SNACK;
	peer_send(&peer, &bhs, NULL, 0);
	expect_reject(&peer, WIRE_REJECT_SNACK, &bhs);
	bhs.opcode = 0x1f;
	peer_send(&peer, &bhs, data, 100);
	expect_reject(&peer, WIRE_REJECT_UNSUPPORTED, &bhs);
	bhs.opcode = WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE;
	peer_send(&peer, &bhs, NULL, 0);
	expect_reject(&peer, WIRE_REJECT_PROTOCOL, &bhs);
	peer_read(&peer, 0, 1, data);
	peer_close(&peer);
}

static void oversize_pdu(void **state)
{
	struct wire_nop_out nop = {.opcode = WIRE_OP_NOP_OUT | WIRE_IMMEDIATE, .flags = WIRE_FINAL};
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	be24_put(&nop.data_bytes, LIMIT_SEGMENT_BYTES + 1);
	peer_send_bytes(&peer, &nop, sizeof(nop));
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
}

/* --- text --- */

static void send_text(struct peer *peer, uint8_t flags, uint32_t ttt, const char *text,
		      uint32_t bytes)
{
	struct wire_text_req req = {.opcode = WIRE_OP_TEXT_REQ | WIRE_IMMEDIATE, .flags = flags};

	be32_put(&req.itt, 0x3131);
	be32_put(&req.ttt, ttt);
	be32_put(&req.cmdsn, peer->cmdsn);
	peer_send(peer, &req, text, bytes);
}

static unsigned count_targets(const char *text, size_t bytes)
{
	unsigned count = 0;

	for (size_t at = 0; at < bytes; at += strlen(text + at) + 1)
		count += strncmp(text + at, "TargetName=", 11) == 0;
	return count;
}

/* A list longer than a PDU is fetched piece by piece. */
static void send_targets_in_pieces(void **state)
{
	enum { MORE = 40 };
	const struct peer_login login = {.initiator = NODE,
					 .keys = "MaxRecvDataSegmentLength=512\0"};
	static char text[65536];
	size_t bytes = 0;
	struct peer peer;
	unsigned pieces = 0;

	(void)state;
	for (unsigned i = 0; i < MORE; i++) {
		char name[64];

		snprintf(name, sizeof(name), "iqn.2026-11.local.lunroot:extra-%u", i);
		assert_int_equal(test_target_add(&ts, name, (uint8_t)(100 + i), false), 0);
	}
	assert_int_equal(peer_login(&peer, ts.port, &login), 0);
	send_text(&peer, WIRE_FINAL, WIRE_TAG_NONE, "SendTargets=All", 16);
	for (;;) {
		peer_expect(&peer, WIRE_OP_TEXT_RSP, &pdu);
		assert_int_equal(be32_get(pdu.text.itt), 0x3131);
		assert_int_equal(be32_get(pdu.text.statsn), peer.expstatsn++);
		assert_true(pdu.data_bytes <= 512);
		memcpy(text + bytes, pdu.data, pdu.data_bytes);
		bytes += pdu.data_bytes;
		pieces++;
		if (pdu.text.flags & WIRE_FINAL)
			break;
		assert_int_equal(pdu.text.flags, WIRE_TEXT_CONTINUE);
		assert_int_not_equal(be32_get(pdu.text.ttt), WIRE_TAG_NONE);
		send_text(&peer, WIRE_FINAL, be32_get(pdu.text.ttt), NULL, 0);
	}
	assert_int_equal(be32_get(pdu.text.ttt), WIRE_TAG_NONE);
	assert_true(pieces > 4);
	/* The one that wants CHAP has no initiator of its own here, so it is shown as well. */
	assert_int_equal(count_targets(text, bytes), MORE + TEST_TARGETS);
	assert_non_null(memmem(text, bytes, ts.address, strlen(ts.address)));
	peer_close(&peer);
}

static void text_in_a_normal_session(void **state)
{
	static const struct {
		const char *request;
		const char *answer; /* its beginning */
	} rows[] = {
		{"SendTargets=All", "TargetName=iqn.2026-11.local.lunroot:t0"},
		{"SendTargets=", "TargetName=iqn.2026-11.local.lunroot:t0"},
		{"SendTargets=iqn.2026-11.local.lunroot:t1", ""},
		{"SendTargets=something", "SendTargets=Reject"},
		{"sendtargets=All", "sendtargets=NotUnderstood"},
		{"X-com.example=1", "X-com.example=NotUnderstood"},
		{"HeaderDigest=None", "HeaderDigest=Reject"},
		{"MaxRecvDataSegmentLength=1", "MaxRecvDataSegmentLength=Reject"},
		/* Declarations: nothing to answer. */
		{"InitiatorAlias=pi", ""},
		{"MaxRecvDataSegmentLength=65536", ""},
	};
	struct wire_text_req req;
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		send_text(&peer, WIRE_FINAL, WIRE_TAG_NONE, rows[i].request,
			  (uint32_t)strlen(rows[i].request) + 1);
		peer_expect(&peer, WIRE_OP_TEXT_RSP, &pdu);
		peer.expstatsn++;
		assert_int_equal(pdu.text.flags, WIRE_FINAL);
		pdu.data[pdu.data_bytes] = '\0';
		if (rows[i].answer[0])
			assert_string_equal((char *)pdu.data, rows[i].answer);
		else
			assert_int_equal(pdu.data_bytes, 0);
	}
	/* Split in the middle of a key. */
	send_text(&peer, WIRE_TEXT_CONTINUE, WIRE_TAG_NONE, "SendTar", 7);
	peer_expect(&peer, WIRE_OP_TEXT_RSP, &pdu);
	peer.expstatsn++;
	assert_int_equal(pdu.text.flags, 0);
	assert_int_equal(pdu.data_bytes, 0);
	send_text(&peer, WIRE_FINAL, be32_get(pdu.text.ttt), "gets=All", 9);
	peer_expect(&peer, WIRE_OP_TEXT_RSP, &pdu);
	peer.expstatsn++;
	assert_int_equal(count_targets((char *)pdu.data, pdu.data_bytes), 1);
	/* No key at all, and a tag nobody gave. */
	send_text(&peer, WIRE_FINAL, WIRE_TAG_NONE, "nonsense", 9);
	peer_expect(&peer, WIRE_OP_REJECT, &pdu);
	peer.expstatsn++;
	assert_int_equal(pdu.reject.reason, WIRE_REJECT_PROTOCOL);
	send_text(&peer, WIRE_FINAL, 4242, NULL, 0);
	peer_expect(&peer, WIRE_OP_REJECT, &pdu);
	memcpy(&req, pdu.data, sizeof(req));
	assert_int_equal(be32_get(req.ttt), 4242);
	peer_close(&peer);
}

static void discovery_knows_no_scsi(void **state)
{
	const struct peer_login login = {.initiator = NODE};
	struct wire_scsi_cmd cmd;
	struct peer peer;

	(void)state;
	assert_int_equal(peer_login(&peer, ts.port, &login), 0);
	peer_command(&peer, &cmd, 0x00, WIRE_CMD_FINAL, 0, 0);
	peer_send(&peer, &cmd, NULL, 0);
	expect_reject(&peer, WIRE_REJECT_PROTOCOL, &cmd);
	peer_close(&peer);
}

/* --- the control plane --- */

static void remove_target(void **state)
{
	uint8_t uuid[16];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	test_uuid(1, uuid);
	server_target_remove(ts.server, uuid, false, test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, -EBUSY);
	server_target_remove(ts.server, uuid, true, test_server_cb, &ts);
	peer_expect(&peer, WIRE_OP_ASYNC, &pdu);
	assert_int_equal(pdu.async.event, WIRE_ASYNC_DROP_ALL);
	assert_int_equal(be32_get(pdu.async.statsn), peer.expstatsn);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
	test_server_wait(&ts);
	assert_int_equal(ts.res, 0);
	server_target_remove(ts.server, uuid, true, test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, -ENOENT);
	assert_int_equal(test_target_add(&ts, ts.names[TEST_PRIVATE], 1, false), 0);
	assert_int_equal(test_target_add(&ts, ts.names[TEST_PRIVATE], 77, false), -EEXIST);
	login_with(&peer, TEST_PRIVATE, NULL);
	peer_close(&peer);
}

struct blocker {
	struct mailbox_msg msg;
	sem_t go;
};

static void block(struct mailbox_msg *msg)
{
	sem_wait(&CONTAINER_OF(msg, struct blocker, msg)->go);
}

/* The second removal is on its way to the reactor when the first one's end is taken note of. */
static void removed_twice(void **state)
{
	struct pollfd answer = {.fd = ts.mailbox.eventfd, .events = POLLIN};
	/* A reactor may still be on its way out of sem_wait when we return. */
	static struct blocker blockers[LIMIT_REACTORS];
	uint8_t uuid[16];

	(void)state;
	test_uuid(1, uuid);
	server_target_remove(ts.server, uuid, true, test_server_cb, &ts);
	assert_int_equal(poll(&answer, 1, 5000), 1);
	for (unsigned i = 0; i < ts.server->reactor_count; i++) {
		sem_init(&blockers[i].go, 0, 0);
		blockers[i].msg.run = block;
		ring_post(ts.server->reactors[i].ring, &blockers[i].msg);
	}
	server_target_remove(ts.server, uuid, true, test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, 0);
	for (unsigned i = 0; i < ts.server->reactor_count; i++)
		sem_post(&blockers[i].go);
	test_server_wait(&ts);
	assert_int_equal(ts.res, -ENOENT);
}

static void stats_seen(void *arg, const struct server_stats *stats)
{
	assert_int_equal(stats->unit_count, TEST_TARGETS);
	assert_int_equal(stats->session_count, 1);
	assert_string_equal(stats->sessions[0].initiator, NODE);
	assert_int_equal(stats->sessions[0].read_bytes, 512);
	assert_int_equal(stats->sessions[0].target_uuid[0], 1);
	assert_int_equal(stats->logins_ok, 1);
	assert_true(stats->commands >= 2);
	test_server_cb(arg, 0);
}

static void statistics(void **state)
{
	uint8_t data[512];
	struct peer peer;

	(void)state;
	login_with(&peer, TEST_PRIVATE, NULL);
	peer_read(&peer, 0, 1, data);
	server_stats(ts.server, stats_seen, &ts);
	test_server_wait(&ts);
	peer_close(&peer);
}

static void stop_tells_and_ends(void **state)
{
	struct test_server t;
	struct peer_login login = {.initiator = NODE, .isid = 1};
	struct wire_scsi_cmd cmd;
	uint8_t data[512] = {0};
	struct peer peer;

	(void)state;
	test_server_start(&t, NULL);
	login.target = t.names[TEST_PRIVATE];
	assert_int_equal(peer_login(&peer, t.port, &login), 0);
	peer_clear_attention(&peer);
	atomic_store(&test_write_delay_ms,
		     700); /* well below the time when a stop drops who is slow */
	peer_command(&peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 1);
	peer_send(&peer, &cmd, data, 512);
	while (atomic_load(&test_writes_begun) == 0)
		test_sleep_ms(1);
	test_server_stop(&t);
	peer_expect(&peer, WIRE_OP_ASYNC, &pdu);
	peer.expstatsn++;
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
}

static void portal_texts(void **state)
{
	static const char *const bad[] = {"",          "1.2.3.4",     ":3260",
					  "1.2.3.4:",  "1.2.3.4:x",   "::1:1",
					  "[::1:3260", "[1.2.3.4]:1", "1.2.3.4:99999"};
	char address[LIMIT_ADDRESS_TEXT_BYTES];
	struct store_error err;
	struct mailbox mailbox;
	const struct server_config config = {.reactor_count = 1, .control = &mailbox};
	struct server *server;

	(void)state;
	assert_int_equal(mailbox_init(&mailbox), 0);
	assert_int_equal(server_new(&config, &server), 0);
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		assert_true(server_listen(server, bad[i], address, &err) < 0);
		assert_true(strlen(err.text) > 10);
	}
	portal_wait_ms = 50;
	assert_int_equal(server_listen(server, ts.address, address, &err), -EADDRINUSE);
	portal_wait_ms = 10000;
	assert_non_null(strstr(err.text, "in use"));
	assert_int_equal(server_listen(server, "0.0.0.0:0", address, &err), 0);
	assert_non_null(strstr(address, "0.0.0.0:"));
	server_free(server);
	mailbox_done(&mailbox);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(residuals),
		T(immediate_data),
		T(digests),
		T(r2t_sequences),
		T(unsolicited_then_r2t),
		T(edtl_and_cdb_differ),
		T(unexpected_data),
		T(data_out_for_nobody),
		T(wrong_data_digest),
		T(wrong_header_digest),
		T(reads_of_a_slow_reader),
		T(many_large_writes),
		T(ordered_waits_for_data),
		T(cmdsn_outside_of_window),
		T(cmdsn_out_of_order),
		T(same_itt_twice),
		T(too_many_immediate),
		T(takeover_waits_for_the_old_write),
		T(another_name_is_refused),
		T(shared_sessions),
		T(unknown_tsih),
		T(known_tsih),
		T(unknown_target),
		cmocka_unit_test(login_too_slow),
		T(garbage_before_login),
		T(logout_with_a_write_in_flight),
		T(logout_of_others),
		T(abort_a_running_write),
		T(abort_a_write_that_waits),
		T(abort_what_has_not_come),
		T(lun_reset_reaches_all),
		T(functions_we_do_not_have),
		T(nop_out_is_echoed),
		cmocka_unit_test(silent_peer_is_asked),
		T(snack_and_unknown_opcodes),
		T(oversize_pdu),
		T(send_targets_in_pieces),
		T(text_in_a_normal_session),
		T(discovery_knows_no_scsi),
		T(remove_target),
		T(removed_twice),
		T(statistics),
		cmocka_unit_test(stop_tells_and_ends),
		T(portal_texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
