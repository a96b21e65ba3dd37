/*
 * Targets whose disks are exchanged while initiators use them, over loopback. What the gate does
 * by itself is store/gate_test.c's, exchange under the load of a real initiator exchange_test.c's.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/session_internal.h"
#include "session/test_peer.h"

#define NODE "iqn.2026-11.local.lunroot:init:pi-07"

static struct test_server ts;
static struct pdu pdu;
static uint8_t uuid[16]; /* of the target under test */

static int setup(void **state)
{
	(void)state;
	test_server_start(&ts, NULL);
	test_uuid(TEST_PRIVATE + 1, uuid);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_server_stop(&ts);
	assert_int_equal(atomic_load(&test_disks), 0);
	return 0;
}

static void login_as(struct peer *peer, unsigned target, uint8_t isid)
{
	const struct peer_login login = {
		.initiator = NODE, .target = ts.names[target], .isid = isid};

	assert_int_equal(peer_login(peer, ts.port, &login), 0);
	peer_clear_attention(peer);
}

static void login(struct peer *peer)
{
	login_as(peer, TEST_PRIVATE, 1);
}

static int hold(bool unused)
{
	server_target_hold(ts.server, uuid, unused, test_server_cb, &ts);
	test_server_wait(&ts);
	return ts.res;
}

static int resume_with(const struct server_unit *units, unsigned unit_count)
{
	server_target_resume(ts.server, uuid, units, unit_count, test_server_cb, &ts);
	test_server_wait(&ts);
	return ts.res;
}

static int resume(uint64_t size_bytes)
{
	const struct server_unit unit = {.disk = test_disk_new(size_bytes)};

	return resume_with(&unit, 1);
}

static int remove_target(bool force)
{
	server_target_remove(ts.server, uuid, force, test_server_cb, &ts);
	test_server_wait(&ts);
	return ts.res;
}

static void send_write(struct peer *peer, uint32_t lba, uint8_t fill)
{
	struct wire_scsi_cmd cmd;
	uint8_t data[512];

	memset(data, fill, sizeof(data));
	peer_command(peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, lba, 1);
	peer_send(peer, &cmd, data, sizeof(data));
}

static void send_bare(struct peer *peer, uint8_t opcode)
{
	struct wire_scsi_cmd cmd;

	peer_command(peer, &cmd, opcode, WIRE_CMD_FINAL, 0, 0);
	peer_send(peer, &cmd, NULL, 0);
}

static void assert_silent(const struct peer *peer)
{
	struct pollfd fd = {.fd = peer->fd, .events = POLLIN};

	assert_int_equal(poll(&fd, 1, 50), 0);
}

static void assert_alive(struct peer *peer)
{
	send_bare(peer, 0x00);
	peer_expect_status(peer, peer->itt, 0, 0, 0);
}

static void assert_block(struct peer *peer, uint32_t lba, uint8_t fill)
{
	uint8_t data[512];

	peer_read(peer, lba, 1, data);
	for (unsigned i = 0; i < sizeof(data); i++)
		assert_int_equal(data[i], fill);
}

static void read_capacity(struct peer *peer, uint64_t bytes)
{
	struct wire_scsi_cmd cmd;

	peer_command(peer, &cmd, 0x25, WIRE_CMD_FINAL | WIRE_CMD_READ, 0, 0);
	be32_put(&cmd.edtl_bytes, 8);
	peer_send(peer, &cmd, NULL, 0);
	peer_expect(peer, WIRE_OP_DATA_IN, &pdu);
	peer->expstatsn++;
	assert_int_equal(get_be32(pdu.data), bytes / 512 - 1);
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- holding and going on --- */

/* The session stays and answers what needs no disk; commands wait, and are the new disk's. */
static void commands_wait(void **state)
{
	struct peer peer;
	int disks = atomic_load(&test_disks);

	(void)state;
	login(&peer);
	send_write(&peer, 5, 0x11);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	assert_int_equal(hold(false), 0);
	send_write(&peer, 7, 0x22);
	send_bare(&peer, 0x35); /* SYNCHRONIZE CACHE */
	assert_silent(&peer);
	assert_alive(&peer);
	read_capacity(&peer, TEST_DISK_BYTES);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	assert_int_equal(atomic_load(&test_disks), disks); /* the old one is gone */
	peer_expect_status(&peer, peer.itt - 3, 0, 0, 0);
	peer_expect_status(&peer, peer.itt - 2, 0, 0, 0);
	assert_block(&peer, 7, 0x22);
	assert_block(&peer, 5, 0); /* another disk indeed */
	peer_close(&peer);
}

/* Under way when it began: it is the old disk's, and hold waits for it. */
static void what_is_under_way_ends(void **state)
{
	struct peer peer;

	(void)state;
	login(&peer);
	atomic_store(&test_write_delay_ms, 150);
	send_write(&peer, 5, 0x11);
	while (atomic_load(&test_writes_begun) == 0)
		test_sleep_ms(1);
	assert_int_equal(hold(false), 0);
	assert_int_equal(atomic_load(&test_writes_done), 1);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	peer_close(&peer);
}

static void what_can_not_be(void **state)
{
	struct server_unit unit = {.lun = 1, .disk = test_disk_new(TEST_DISK_BYTES)};
	struct server_unit twice[2] = {{.disk = test_disk_new(TEST_DISK_BYTES)},
				       {.disk = test_disk_new(TEST_DISK_BYTES)}};
	struct peer peer;

	(void)state;
	assert_int_equal(resume(TEST_DISK_BYTES), -EINVAL);
	test_uuid(99, uuid);
	assert_int_equal(hold(false), -ENOENT);
	assert_int_equal(resume(TEST_DISK_BYTES), -ENOENT);
	test_uuid(TEST_PRIVATE + 1, uuid);
	login(&peer);
	assert_int_equal(hold(true), -EBUSY);
	assert_alive(&peer);
	assert_int_equal(hold(false), 0);
	assert_int_equal(hold(false), -EBUSY);
	assert_int_equal(resume_with(&unit, 1), -EINVAL);
	assert_int_equal(resume_with(twice, 2), -EINVAL);
	assert_int_equal(resume_with(NULL, 0), -EINVAL);
	send_write(&peer, 1, 1);
	assert_silent(&peer);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	peer_close(&peer);
	while (hold(true) == -EBUSY) /* until the session's end is noticed */
		test_sleep_ms(1);
	assert_int_equal(ts.res, 0);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
}

struct answers {
	unsigned count;
	int res[2];
};

static void first_answer(void *arg, int res)
{
	((struct answers *)arg)->res[0] = res;
	((struct answers *)arg)->count++;
}

static void second_answer(void *arg, int res)
{
	((struct answers *)arg)->res[1] = res;
	((struct answers *)arg)->count++;
}

static void wait_for_both(struct answers *answers)
{
	for (unsigned i = 0; i < 30000 && answers->count < 2; i++) {
		mailbox_run(&ts.mailbox);
		test_sleep_ms(1);
	}
	assert_int_equal(answers->count, 2);
}

/* Two posted at once: the second finds the first under way. */
static void two_holds(void **state)
{
	struct answers answers = {0};

	(void)state;
	atomic_store(&test_flush_delay_ms, 50);
	server_target_hold(ts.server, uuid, false, first_answer, &answers);
	server_target_hold(ts.server, uuid, false, second_answer, &answers);
	wait_for_both(&answers);
	assert_int_equal(answers.res[0], 0);
	assert_int_equal(answers.res[1], -EBUSY);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
}

/* Nobody was there when it began; who came meanwhile may have written what would be lost. */
static void somebody_comes_while_it_flushes(void **state)
{
	struct peer peer;

	(void)state;
	atomic_store(&test_flush_delay_ms, 500);
	server_target_hold(ts.server, uuid, true, test_server_cb, &ts);
	test_sleep_ms(50);
	login(&peer);
	send_write(&peer, 5, 0x33);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	test_server_wait(&ts);
	assert_int_equal(ts.res, -EBUSY);
	assert_block(&peer, 5, 0x33);
	peer_close(&peer);
}

static void login_while_held(void **state)
{
	struct peer peer;

	(void)state;
	assert_int_equal(hold(true), 0);
	login(&peer);
	assert_alive(&peer);
	send_write(&peer, 3, 0x44);
	assert_silent(&peer);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	assert_block(&peer, 3, 0x44);
	peer_close(&peer);
}

/* The old session's commands wait in the gate: they end at once, and never land. */
static void takeover_while_held(void **state)
{
	struct peer first, second;

	(void)state;
	login(&first);
	assert_int_equal(hold(false), 0);
	send_write(&first, 3, 0x44);
	assert_silent(&first);
	login(&second);
	assert_true(peer_is_closed(&first));
	send_write(&second, 4, 0x55);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	peer_expect_status(&second, second.itt, 0, 0, 0);
	assert_block(&second, 3, 0);
	assert_block(&second, 4, 0x55);
	peer_close(&first);
	peer_close(&second);
}

/* Again and again, with thirty writes of the old session under way or in the gate: none of them
 * lands after the new session's. */
static void takeover_under_load(void **state)
{
	enum { WRITES = 30, ROUNDS = 40 };
	struct peer peers[2];

	(void)state;
	login(&peers[0]);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct peer *old = &peers[i % 2], *new = &peers[(i + 1) % 2];
		bool holds = i % 3 != 0;

		atomic_store(&test_write_delay_ms, 1 + i % 7);
		for (uint32_t lba = 0; lba < WRITES; lba++)
			send_write(old, lba, (uint8_t)(100 + i));
		if (holds)
			server_target_hold(ts.server, uuid, false, test_server_cb, &ts);
		login(new);
		assert_true(atomic_load(&test_writes_begun) == atomic_load(&test_writes_done));
		if (holds) {
			test_server_wait(&ts);
			assert_int_equal(ts.res, 0);
		}
		for (uint32_t lba = 0; lba < WRITES; lba++)
			send_write(new, lba, (uint8_t)(i + 1));
		if (holds)
			assert_int_equal(resume(TEST_DISK_BYTES), 0);
		for (uint32_t lba = 0; lba < WRITES; lba++) {
			peer_expect(new, WIRE_OP_SCSI_RSP, &pdu);
			new->expstatsn++;
			assert_int_equal(pdu.rsp.status, 0);
		}
		for (uint32_t lba = 0; lba < WRITES; lba++)
			assert_block(new, lba, (uint8_t)(i + 1));
		peer_close(old);
	}
	peer_close(&peers[ROUNDS % 2]);
}

/* It can't be called back; the function is answered when it is over, and it is not. */
static void abort_a_flush(void **state)
{
	struct peer peer;
	uint64_t begin_ms;

	(void)state;
	login(&peer);
	atomic_store(&test_flush_delay_ms, 200);
	begin_ms = now_ms();
	send_bare(&peer, 0x35);
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, peer.itt, peer.cmdsn - 1);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	assert_true(now_ms() - begin_ms >= 150);
	assert_alive(&peer);
	/* While a hold flushes, too. */
	server_target_hold(ts.server, uuid, false, test_server_cb, &ts);
	send_bare(&peer, 0x35);
	peer_tmf(&peer, WIRE_TMF_LUN_RESET, 0, 0);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	test_server_wait(&ts);
	assert_int_equal(ts.res, 0);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	send_bare(&peer, 0x00);
	peer_expect_status(&peer, peer.itt, 2, 6, 0x2903);
	peer_close(&peer);
}

static void abort_while_held(void **state)
{
	struct peer peer;

	(void)state;
	login(&peer);
	assert_int_equal(hold(false), 0);
	send_write(&peer, 3, 0x44);
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, peer.itt, peer.cmdsn - 1);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	send_bare(&peer, 0x35);
	peer_tmf(&peer, WIRE_TMF_ABORT_TASK, peer.itt, peer.cmdsn - 1);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	send_write(&peer, 4, 0x55);
	send_write(&peer, 5, 0x66);
	peer_tmf(&peer, WIRE_TMF_LUN_RESET, 0, 0);
	peer_expect_tmf(&peer, WIRE_TMF_COMPLETE);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	send_bare(&peer, 0x00);
	peer_expect_status(&peer, peer.itt, 2, 6, 0x2903);
	for (uint32_t lba = 3; lba < 6; lba++)
		assert_block(&peer, lba, 0);
	peer_close(&peer);
}

static void lba_status_while_held(void **state)
{
	struct wire_scsi_cmd cmd;
	struct peer peer;

	(void)state;
	login(&peer);
	assert_int_equal(hold(false), 0);
	peer_command(&peer, &cmd, 0x9e, WIRE_CMD_FINAL | WIRE_CMD_READ, 0, 0);
	memset(cmd.cdb, 0, sizeof(cmd.cdb));
	cmd.cdb[0] = 0x9e;
	cmd.cdb[1] = 0x12;
	cmd.cdb[13] = 24;
	be32_put(&cmd.edtl_bytes, 24);
	peer_send(&peer, &cmd, NULL, 0);
	peer_expect_status(&peer, peer.itt, 8, 0, 0);
	assert_int_equal(resume(TEST_DISK_BYTES), 0);
	peer_close(&peer);
}

/* --- size --- */

static void everybody_hears_of_a_new_size(void **state)
{
	struct peer peers[2];

	(void)state;
	test_uuid(TEST_SHARED + 1, uuid);
	for (uint8_t i = 0; i < 2; i++)
		login_as(&peers[i], TEST_SHARED, (uint8_t)(i + 1));
	assert_int_equal(hold(false), 0);
	assert_int_equal(resume(2 * TEST_DISK_BYTES), 0);
	for (unsigned i = 0; i < 2; i++) {
		send_bare(&peers[i], 0x00);
		peer_expect_status(&peers[i], peers[i].itt, 2, 6, 0x2a09);
		assert_alive(&peers[i]);
		read_capacity(&peers[i], 2 * TEST_DISK_BYTES);
		assert_block(&peers[i], 2 * TEST_DISK_BYTES / 512 - 1, 0);
	}
	/* The same size again is nothing new. */
	assert_int_equal(hold(false), 0);
	assert_int_equal(resume(2 * TEST_DISK_BYTES), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_alive(&peers[i]);
		peer_close(&peers[i]);
	}
}

/* Checked against the old size and waiting: no write beyond the end reaches the smaller disk. */
static void a_smaller_disk(void **state)
{
	const uint32_t last_lba = TEST_DISK_BYTES / 512 - 1;
	struct peer peer;

	(void)state;
	login(&peer);
	assert_int_equal(hold(false), 0);
	send_write(&peer, last_lba, 1);
	assert_silent(&peer);
	assert_int_equal(resume(TEST_DISK_BYTES / 2), 0);
	peer_expect_status(&peer, peer.itt, 2, 5, 0x2100);
	send_bare(&peer, 0x00);
	peer_expect_status(&peer, peer.itt, 2, 6, 0x2a09);
	read_capacity(&peer, TEST_DISK_BYTES / 2);
	peer_close(&peer);
}

/* --- flushes that fail --- */

/* All disks of a target are held, or none. */
static void a_flush_fails(void **state)
{
	struct server_unit units[2] = {test_unit(20), test_unit(21)};
	struct store_disk *second = units[1].disk;
	const struct peer_login as = {
		.initiator = NODE, .target = "iqn.2026-11.local.lunroot:two", .isid = 1};
	struct peer peer;
	int disks;

	(void)state;
	units[1].lun = 1;
	assert_int_equal(test_target_add_units(&ts, as.target, 20, false, units, 2), 0);
	test_uuid(20, uuid);
	disks = atomic_load(&test_disks);
	assert_int_equal(peer_login(&peer, ts.port, &as), 0);
	peer_clear_attention(&peer);
	send_write(&peer, 9, 0x77);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	/* The flush beforehand, and the one when nothing is under way any more. */
	for (unsigned nth = 1; nth <= 2; nth++) {
		test_disk_fail_flush(second, nth);
		assert_int_equal(hold(false), -EIO);
		assert_int_equal(atomic_load(&test_disks), disks);
		send_write(&peer, nth, 0x78);
		peer_expect_status(&peer, peer.itt, 0, 0, 0);
		assert_block(&peer, nth, 0x78);
	}
	assert_block(&peer, 9, 0x77);
	assert_int_equal(hold(false), 0);
	units[0].disk = test_disk_new(TEST_DISK_BYTES);
	units[1].disk = test_disk_new(TEST_DISK_BYTES);
	assert_int_equal(resume_with(units, 2), 0);
	assert_int_equal(atomic_load(&test_disks), disks);
	peer_close(&peer);
}

/* --- the end --- */

/* No answer that could be taken for an error: the initiator repeats them elsewhere or later. */
static void removed_while_held(void **state)
{
	struct peer peer;

	(void)state;
	login(&peer);
	assert_int_equal(hold(false), 0);
	send_write(&peer, 1, 1);
	assert_silent(&peer);
	assert_int_equal(remove_target(false), -EBUSY);
	assert_silent(&peer);
	assert_int_equal(remove_target(true), 0);
	peer_expect(&peer, WIRE_OP_ASYNC, &pdu);
	assert_int_equal(pdu.async.event, WIRE_ASYNC_DROP_ALL);
	assert_true(peer_is_closed(&peer));
	peer_close(&peer);
	assert_int_equal(resume(TEST_DISK_BYTES), -ENOENT);
	assert_int_equal(hold(false), -ENOENT);
	assert_int_equal(test_target_add(&ts, ts.names[TEST_PRIVATE], 1, false), 0);
	assert_int_equal(hold(true), 0);
	assert_int_equal(remove_target(false), 0);
}

/* Good answers and none, but no error. */
static void read_to_the_end(struct peer *peer)
{
	while (peer_recv(peer, &pdu))
		assert_true(pdu.bhs.opcode == WIRE_OP_ASYNC || pdu.rsp.status == 0);
	peer_close(peer);
}

/* At any moment of a hold: it is over, then the target is gone, and what was under way is
 * answered. */
static void removed_while_being_held(void **state)
{
	(void)state;
	for (unsigned delay_ms = 0; delay_ms < 60; delay_ms += 5) {
		struct answers answers = {0};
		struct peer peer;

		login(&peer);
		atomic_store(&test_write_delay_ms, 30);
		atomic_store(&test_flush_delay_ms, 8);
		send_write(&peer, 1, 1);
		server_target_hold(ts.server, uuid, false, first_answer, &answers);
		test_sleep_ms(delay_ms);
		send_write(&peer, 2, 2); /* it may find the gate shut */
		test_sleep_ms(1);
		server_target_remove(ts.server, uuid, true, second_answer, &answers);
		read_to_the_end(&peer);
		wait_for_both(&answers);
		assert_true(answers.res[0] == -ENOENT || answers.res[0] == 0);
		assert_int_equal(answers.res[1], 0);
		atomic_store(&test_flush_delay_ms, 0);
		assert_int_equal(test_target_add(&ts, ts.names[TEST_PRIVATE], 1, false), 0);
	}
}

static void stopped(void *arg)
{
	test_server_cb(arg, 0);
}

static void held(void *arg, int res)
{
	(void)res;
	*(bool *)arg = true;
}

static void stop(struct peer *peer)
{
	server_stop(ts.server, stopped, &ts);
	read_to_the_end(peer);
	test_server_wait(&ts);
	server_free(ts.server);
	mailbox_done(&ts.mailbox);
}

static void stopped_while_held(void **state)
{
	uint64_t begin_ms;
	struct peer peer;

	(void)state;
	test_server_start(&ts, NULL);
	test_uuid(TEST_PRIVATE + 1, uuid);
	login(&peer);
	assert_int_equal(hold(false), 0);
	send_write(&peer, 1, 1);
	assert_silent(&peer);
	begin_ms = now_ms();
	stop(&peer);
	assert_true(now_ms() - begin_ms < 1500); /* before connections are dropped */
	assert_int_equal(atomic_load(&test_disks), 0);
}

static void stopped_while_being_held(void **state)
{
	(void)state;
	for (unsigned delay_ms = 0; delay_ms < 60; delay_ms += 10) {
		struct peer peer;
		bool answered = false;

		test_server_start(&ts, NULL);
		test_uuid(TEST_PRIVATE + 1, uuid);
		login(&peer);
		atomic_store(&test_write_delay_ms, 30);
		atomic_store(&test_flush_delay_ms, 8);
		send_write(&peer, 1, 1);
		server_target_hold(ts.server, uuid, false, held, &answered);
		test_sleep_ms(delay_ms);
		send_write(&peer, 2, 2);
		test_sleep_ms(1);
		stop(&peer);
		assert_true(answered);
		assert_int_equal(atomic_load(&test_disks), 0);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(commands_wait),
		T(what_is_under_way_ends),
		T(what_can_not_be),
		T(two_holds),
		T(somebody_comes_while_it_flushes),
		T(login_while_held),
		T(takeover_while_held),
		T(takeover_under_load),
		T(abort_a_flush),
		T(abort_while_held),
		T(lba_status_while_held),
		T(everybody_hears_of_a_new_size),
		T(a_smaller_disk),
		T(a_flush_fails),
		T(removed_while_held),
		T(removed_while_being_held),
		cmocka_unit_test(stopped_while_held),
		cmocka_unit_test(stopped_while_being_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
