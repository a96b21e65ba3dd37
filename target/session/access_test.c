/*
 * What the control plane reads of disks, and what it is told and asked when somebody logs in, over
 * loopback.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "session/session_internal.h"
#include "session/test_peer.h"
#include "wire/chap.h"
#include "wire/text.h"

#define NODE "iqn.2026-11.local.lunroot:init:pi-07"
#define MIB  (1u << 20)

static struct test_server ts;
static struct pdu pdu;
static uint8_t uuid[16]; /* of the target under test */

/* What the watch was told. */
static struct {
	unsigned records, logins, ends, lost;
	struct server_login record, login, end;
	enum server_end how;
	int answer;         /* to the next question */
	unsigned update_to; /* 1: of that boot's credentials within it */
	bool update_at_once;
} told;

static void update_boots(unsigned first, unsigned count, bool used);

static int on_record(void *arg, const struct server_login *login)
{
	assert_ptr_equal(arg, &told);
	told.records++;
	told.record = *login;
	if (told.update_at_once)
		update_boots(told.update_to, 1, true);
	return told.answer;
}

static void on_login(void *arg, const struct server_login *login)
{
	assert_ptr_equal(arg, &told);
	told.logins++;
	told.lost += login->lost;
	told.login = *login;
}

static void on_end(void *arg, const struct server_login *login, enum server_end end)
{
	assert_ptr_equal(arg, &told);
	told.ends++;
	told.end = *login;
	told.how = end;
}

static int setup(void **state)
{
	static const struct server_watch watch = {on_record, on_login, on_end, &told};

	(void)state;
	memset(&told, 0, sizeof(told));
	test_server_start(&ts, NULL);
	server_watch(ts.server, &watch);
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

static void mailbox_for(unsigned ms)
{
	struct pollfd fd = {.fd = ts.mailbox.eventfd, .events = POLLIN};

	if (poll(&fd, 1, (int)ms) > 0)
		mailbox_run(&ts.mailbox);
}

static void wait_until(const unsigned *count, unsigned wanted)
{
	for (unsigned i = 0; i < 3000 && *count < wanted; i++)
		mailbox_for(10);
	assert_int_equal(*count, wanted);
}

static void login_to(struct peer *peer, unsigned target, uint8_t isid)
{
	const struct peer_login login = {
		.initiator = NODE, .target = ts.names[target], .isid = isid};

	assert_int_equal(peer_login(peer, ts.port, &login), 0);
	peer_clear_attention(peer);
}

static void write_block(struct peer *peer, uint32_t lba, uint8_t fill, bool wait)
{
	struct wire_scsi_cmd cmd;
	uint8_t data[512];

	memset(data, fill, sizeof(data));
	peer_command(peer, &cmd, 0x2a, WIRE_CMD_FINAL | WIRE_CMD_WRITE, lba, 1);
	peer_send(peer, &cmd, data, sizeof(data));
	if (wait)
		peer_expect_status(peer, peer->itt, 0, 0, 0);
}

/* --- reading --- */

static int read_disk(uint64_t offset, void *data, uint64_t bytes)
{
	server_read(ts.server, uuid, 0, offset, data, bytes, test_server_cb, &ts);
	test_server_wait(&ts);
	return ts.res;
}

static void a_read_sees_what_was_acknowledged(void **state)
{
	uint8_t *data = malloc(4 * MIB + 1024);
	struct peer peer;

	(void)state;
	login_to(&peer, TEST_PRIVATE, 1);
	for (uint8_t i = 1; i < 40; i++) {
		write_block(&peer, 100 + i, i, true);
		assert_int_equal(read_disk((100 + i) * 512ull, data, 512), 0);
		for (unsigned k = 0; k < 512; k++)
			assert_int_equal(data[k], i);
	}
	/* The longest, and the whole disk's last sector. */
	write_block(&peer, 2 * MIB / 512, 7, true);
	write_block(&peer, TEST_DISK_BYTES / 512 - 1, 9, true);
	assert_int_equal(read_disk(MIB, data, 4 * MIB + 1024), 0);
	assert_int_equal(data[MIB - 1], 0);
	assert_int_equal(data[MIB], 7);
	assert_int_equal(data[MIB + 511], 7);
	assert_int_equal(data[MIB + 512], 0);
	assert_int_equal(read_disk(TEST_DISK_BYTES - 512, data, 512), 0);
	assert_int_equal(data[511], 9);
	assert_int_equal(read_disk(TEST_DISK_BYTES - 512, data, 1024), -ERANGE);
	assert_int_equal(read_disk(TEST_DISK_BYTES + 512, data, 512), -ERANGE);
	peer_close(&peer);
	free(data);
}

static void no_such_target_or_unit(void **state)
{
	uint8_t data[512];

	(void)state;
	server_read(ts.server, uuid, 5, 0, data, 512, test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, -ENOENT);
	test_uuid(99, uuid);
	assert_int_equal(read_disk(0, data, 512), -ENOENT);
}

static int hold(void)
{
	server_target_hold(ts.server, uuid, false, test_server_cb, &ts);
	test_server_wait(&ts);
	return ts.res;
}

static void resume(uint64_t size_bytes)
{
	const struct server_unit unit = {.disk = test_disk_new(size_bytes)};

	server_target_resume(ts.server, uuid, &unit, 1, test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, 0);
}

struct waited {
	bool done;
	int res;
};

static void on_waited(void *arg, int res)
{
	struct waited *waited = arg;

	assert_false(waited->done);
	*waited = (struct waited){true, res};
}

/* While its disk is exchanged a read waits like a command. */
static void a_read_waits_for_a_held_target(void **state)
{
	struct waited waited[2] = {0};
	static uint8_t data[2][MIB];

	(void)state;
	assert_int_equal(hold(), 0);
	server_read(ts.server, uuid, 0, 0, data[0], MIB, on_waited, &waited[0]);
	server_read(ts.server, uuid, 0, TEST_DISK_BYTES - MIB, data[1], MIB, on_waited, &waited[1]);
	for (unsigned i = 0; i < 5; i++)
		mailbox_for(20);
	assert_false(waited[0].done || waited[1].done);
	resume(TEST_DISK_BYTES / 2);
	while (!waited[0].done || !waited[1].done)
		mailbox_for(100);
	assert_int_equal(waited[0].res, 0);
	assert_int_equal(waited[1].res, -ERANGE); /* the new disk is smaller */
}

/* What is taken away does not wait for reads that wait, nor do they for it. */
static void a_read_ends_with_its_target(void **state)
{
	struct waited waited[8] = {0};
	static uint8_t data[8][4 * MIB];

	(void)state;
	for (unsigned held = 0; held < 2; held++) {
		memset(waited, 0, sizeof(waited));
		if (held) {
			test_uuid(TEST_SHARED + 1, uuid);
			assert_int_equal(hold(), 0);
		}
		for (unsigned i = 0; i < 8; i++)
			server_read(ts.server, uuid, 0, i * MIB, data[i], 4 * MIB, on_waited,
				    &waited[i]);
		server_target_remove(ts.server, uuid, true, test_server_cb, &ts);
		test_server_wait(&ts);
		assert_int_equal(ts.res, 0);
		for (unsigned i = 0; i < 8; i++) {
			assert_true(waited[i].done);
			assert_true(waited[i].res == -ECANCELED || waited[i].res == -ENOENT ||
				    (!held && waited[i].res == 0));
		}
	}
}

/* The end of all waits for them, too. */
static void reads_end_with_the_server(void **state)
{
	static struct waited waited[8];
	static uint8_t data[8][4 * MIB];
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)state;
	memset(waited, 0, sizeof(waited));
	assert_true(fd >= 0);
	test_server_start(&ts, NULL);
	test_uuid(TEST_PRIVATE + 1, uuid);
	for (unsigned i = 0; i < 4; i++)
		server_read(ts.server, uuid, 0, i * MIB, data[i], 4 * MIB, on_waited, &waited[i]);
	for (unsigned i = 4; i < 8; i++)
		server_read_file(ts.server, fd, 0, data[i], 16384, on_waited, &waited[i]);
	test_server_stop(&ts);
	for (unsigned i = 0; i < 8; i++)
		assert_true(waited[i].done);
	close(fd);
}

static void a_file_is_read_at_any_offset(void **state)
{
	char name[] = "/tmp/access_test.XXXXXX";
	int fd = mkstemp(name);
	uint8_t *written = malloc(3 * MIB), *data = malloc(4 * MIB);

	(void)state;
	assert_true(fd >= 0);
	(void)unlink(name);
	for (unsigned i = 0; i < 3 * MIB; i++)
		written[i] = (uint8_t)(i * 7 + i / 4096);
	assert_int_equal(write(fd, written, 3 * MIB), 3 * MIB);
	for (unsigned offset = 0; offset < 3; offset++) {
		server_read_file(ts.server, fd, offset, data, 3 * MIB - 2, test_server_cb, &ts);
		test_server_wait(&ts);
		assert_int_equal(ts.res, 0);
		assert_memory_equal(data, written + offset, 3 * MIB - 2);
	}
	server_read_file(ts.server, fd, 0, data, 4 * MIB, test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, -EIO); /* shorter than it should be */
	close(fd);
	free(written);
	free(data);
}

/* --- how a unit is --- */

static struct server_unit_state look_state;

static void on_look(void *arg, int res, const struct server_unit_state *state)
{
	look_state = *state;
	test_server_cb(arg, res);
}

static int look(void)
{
	server_unit_look(ts.server, uuid, 0, on_look, &ts);
	test_server_wait(&ts);
	return ts.res;
}

static void a_unit_tells_of_its_changes(void **state)
{
	struct server_unit_state before;
	struct wire_scsi_cmd cmd;
	struct peer peer;
	unsigned begun;
	uint8_t data[512];

	(void)state;
	login_to(&peer, TEST_PRIVATE, 1);
	assert_int_equal(look(), 0);
	before = look_state;
	assert_true(before.steady);
	assert_int_equal(before.size_bytes, TEST_DISK_BYTES);
	peer_read(&peer, 0, 1, data);
	assert_int_equal(read_disk(0, data, 512), 0);
	assert_int_equal(look(), 0);
	assert_true(look_state.steady);
	assert_int_equal(look_state.changes, before.changes);
	assert_memory_equal(&look_state.incarnation, &before.incarnation, 16);
	write_block(&peer, 5, 5, true);
	assert_int_equal(look(), 0);
	assert_true(look_state.steady);
	assert_int_not_equal(look_state.changes, before.changes);
	/* WRITE SAME, and with UNMAP. */
	for (uint8_t flags = 0; flags <= 8; flags = (uint8_t)(flags + 8)) {
		before = look_state;
		memset(data, 0, sizeof(data));
		peer_command(&peer, &cmd, 0x41, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 8, 8);
		cmd.cdb[1] = flags;
		be32_put(&cmd.edtl_bytes, 512);
		peer_send(&peer, &cmd, data, sizeof(data));
		peer_expect_status(&peer, peer.itt, 0, 0, 0);
		assert_int_equal(look(), 0);
		assert_int_not_equal(look_state.changes, before.changes);
	}
	/* While something is being written nobody knows. */
	before = look_state;
	atomic_store(&test_write_delay_ms, 1000);
	begun = atomic_load(&test_writes_begun);
	write_block(&peer, 5, 6, false);
	while (atomic_load(&test_writes_begun) == begun)
		test_sleep_ms(1);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(look(), 0);
		if (!look_state.steady)
			break;
		test_sleep_ms(1);
	}
	assert_false(look_state.steady);
	peer_expect_status(&peer, peer.itt, 0, 0, 0);
	assert_int_equal(look(), 0);
	assert_true(look_state.steady);
	assert_int_not_equal(look_state.changes, before.changes);
	/* An exchange of its disk. */
	before = look_state;
	assert_int_equal(hold(), 0);
	assert_int_equal(look(), 0);
	assert_false(look_state.steady);
	resume(TEST_DISK_BYTES);
	assert_int_equal(look(), 0);
	assert_int_not_equal(look_state.changes, before.changes);
	test_uuid(99, uuid);
	assert_int_equal(look(), -ENOENT);
	peer_close(&peer);
}

/* --- logins --- */

static void sessions_are_told(void **state)
{
	static const struct wire_logout_req logout = {.opcode = WIRE_OP_LOGOUT_REQ | WIRE_IMMEDIATE,
						      .reason = 0x80};
	struct wire_logout_req req = logout;
	struct peer peer, other;

	(void)state;
	login_to(&peer, TEST_PRIVATE, 1);
	wait_until(&told.logins, 1);
	assert_memory_equal(told.login.target_uuid, uuid, 16);
	assert_string_equal(told.login.initiator, NODE);
	assert_int_equal(strncmp(told.login.address, "127.", 4), 0);
	assert_false(told.login.by_boot || told.login.by_operator);
	assert_int_equal(told.ends, 0);
	/* A takeover. */
	login_to(&other, TEST_PRIVATE, 2);
	wait_until(&told.ends, 1);
	assert_int_equal(told.how, SERVER_END_REPLACED);
	wait_until(&told.logins, 2);
	peer_close(&peer);
	/* A logout. */
	be32_put(&req.itt, ++other.itt);
	be32_put(&req.cmdsn, other.cmdsn);
	be32_put(&req.expstatsn, other.expstatsn);
	peer_send(&other, &req, NULL, 0);
	peer_expect(&other, WIRE_OP_LOGOUT_RSP, &pdu);
	wait_until(&told.ends, 2);
	assert_int_equal(told.how, SERVER_END_LOGOUT);
	peer_close(&other);
	/* Closed. */
	login_to(&peer, TEST_PRIVATE, 1);
	peer_close(&peer);
	wait_until(&told.ends, 3);
	assert_true(told.how == SERVER_END_CLOSED || told.how == SERVER_END_LOST);
	/* Nonsense. */
	login_to(&peer, TEST_PRIVATE, 1);
	peer_send_bytes(&peer, (const uint8_t[48]){0x01, 0x80, 0, 0, 0, 0xff, 0xff, 0xff}, 48);
	while (peer_recv(&peer, &pdu))
		;
	wait_until(&told.ends, 4);
	assert_int_equal(told.how, SERVER_END_BROKEN);
	peer_close(&peer);
	/* Its target goes. */
	login_to(&peer, TEST_PRIVATE, 1);
	server_target_remove(ts.server, uuid, true, test_server_cb, &ts);
	test_server_wait(&ts);
	wait_until(&told.ends, 5);
	assert_int_equal(told.how, SERVER_END_TARGET);
	assert_int_equal(told.logins, 5);
	assert_int_equal(told.records, 0);
	peer_close(&peer);
}

/* However many come while the control thread is away: no more than the limit is kept for it. */
static void a_storm_is_counted_not_kept(void **state)
{
	struct peer peer;
	unsigned lost;

	(void)state;
	for (unsigned i = 0; i < LIMIT_SESSION_NOTICES / 2 + 50; i++) {
		login_to(&peer, TEST_PRIVATE, 1);
		peer_close(&peer);
	}
	for (unsigned i = 0; i < 3000 && atomic_load(&ts.server->connections_open) > 0; i++)
		test_sleep_ms(10);
	assert_int_equal(atomic_load(&ts.server->notices), LIMIT_SESSION_NOTICES);
	lost = atomic_load(&ts.server->notices_lost);
	assert_true(lost >= 99 && lost <= 101);
	while (atomic_load(&ts.server->notices) > 0)
		mailbox_for(100);
	assert_int_equal(told.logins + told.ends, LIMIT_SESSION_NOTICES);
	assert_int_equal(told.lost, lost); /* with the first of them */
}

/* --- credentials of boots --- */

#define KEY "boot-secret-%02u-0001"

/* The secret target with boots from number `first` on. */
static struct target_conf *conf_with_boots(unsigned first, unsigned count, bool used)
{
	struct target_conf *conf = target_conf_new();
	struct target_boot boots[TARGET_BOOTS_MAX] = {0};
	char key[64];

	assert_non_null(conf);
	test_uuid(TEST_SECRET + 1, conf->uuid);
	snprintf(conf->name, sizeof(conf->name), "%s", ts.names[TEST_SECRET]);
	snprintf(conf->initiator, sizeof(conf->initiator), "%s", NODE);
	snprintf(conf->in.name, sizeof(conf->in.name), "node");
	memcpy(conf->in.secret, "correct-horse", 13);
	conf->in.secret_bytes = 13;
	for (unsigned i = 0; i < count; i++) {
		memset(boots[i].id, (int)(first + i), sizeof(boots[i].id));
		boots[i].used = used;
		boots[i].secret_bytes = (uint8_t)snprintf(key, sizeof(key), KEY, first + i);
		memcpy(boots[i].secret, key, boots[i].secret_bytes);
	}
	assert_int_equal(target_conf_set_boots(conf, boots, count), 0);
	return conf;
}

static void ignore(void *arg, int res)
{
	(void)arg;
	assert_int_equal(res, 0);
}

static void update_boots(unsigned first, unsigned count, bool used)
{
	server_target_update(ts.server, conf_with_boots(first, count, used), ignore, NULL);
}

static uint32_t put_text(char *text, uint32_t bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static uint32_t put_text(char *text, uint32_t bytes, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text + bytes, 4096 - bytes, format, args);
	va_end(args);
	return bytes + (uint32_t)n + 1;
}

/* One login request of the security stage (or, `last`, the operational one). */
static void login_send(struct peer *peer, bool transit, bool last, const char *text, uint32_t bytes)
{
	struct wire_login_req req = {
		.opcode = WIRE_OP_LOGIN_REQ | WIRE_IMMEDIATE,
		.isid = {0x80, 0, 0, 0, 0, 1},
	};

	if (last)
		req.flags = WIRE_LOGIN_TRANSIT | WIRE_STAGE_OPERATIONAL << WIRE_LOGIN_CSG_SHIFT |
			    WIRE_STAGE_FULL_FEATURE;
	else if (transit)
		req.flags = WIRE_LOGIN_TRANSIT | WIRE_STAGE_OPERATIONAL;
	be32_put(&req.itt, 1);
	be32_put(&req.cmdsn, peer->cmdsn);
	peer_send(peer, &req, text, bytes);
}

static const char *got(const char *key)
{
	static struct wire_text_list list;
	static uint8_t text[8192];
	const struct wire_text_pair *pair;

	assert_true(pdu.data_bytes < sizeof(text));
	memcpy(text, pdu.data, pdu.data_bytes);
	assert_int_equal(wire_text_parse(text, pdu.data_bytes, &list), 0);
	pair = wire_text_find(&list, key);
	assert_non_null(pair);
	return pair->value;
}

static uint16_t login_answer(struct peer *peer)
{
	assert_true(peer_recv(peer, &pdu));
	assert_int_equal(pdu.bhs.opcode, WIRE_OP_LOGIN_RSP);
	return be16_get(pdu.login.status);
}

/* CHAP, up to the proof's answer; its status. */
static uint16_t prove(struct peer *peer, const char *secret)
{
	uint8_t challenge[64], response[CHAP_DIGEST_BYTES_MAX];
	char text[4096];
	uint32_t bytes = 0;
	size_t challenge_bytes;
	uint8_t id;

	assert_int_equal(peer_connect(peer, ts.port), 0);
	bytes = put_text(text, 0, "InitiatorName=%s", NODE);
	bytes = put_text(text, bytes, "TargetName=%s", ts.names[TEST_SECRET]);
	bytes = put_text(text, bytes, "AuthMethod=CHAP");
	login_send(peer, true, false, text, bytes);
	assert_int_equal(login_answer(peer), 0);
	login_send(peer, false, false, text, put_text(text, 0, "CHAP_A=5"));
	assert_int_equal(login_answer(peer), 0);
	id = (uint8_t)strtoul(got("CHAP_I"), NULL, 10);
	assert_int_equal(
		wire_text_binary(got("CHAP_C"), challenge, sizeof(challenge), &challenge_bytes), 0);
	assert_int_equal(chap_response(CHAP_MD5, id, (const uint8_t *)secret, strlen(secret),
				       challenge, challenge_bytes, response),
			 0);
	bytes = put_text(text, 0, "CHAP_N=node");
	bytes += (uint32_t)snprintf(text + bytes, sizeof(text) - bytes, "CHAP_R=0x");
	for (unsigned i = 0; i < 16; i++)
		bytes +=
			(uint32_t)snprintf(text + bytes, sizeof(text) - bytes, "%02x", response[i]);
	login_send(peer, true, false, text, bytes + 1);
	return login_answer(peer);
}

static uint16_t prove_boot(struct peer *peer, unsigned boot)
{
	char key[64];

	(void)snprintf(key, sizeof(key), KEY, boot);
	return prove(peer, key);
}

static bool answered_within(const struct peer *peer, int ms)
{
	struct pollfd fd = {.fd = peer->fd, .events = POLLIN};

	return poll(&fd, 1, ms) > 0;
}

static void boots_are(unsigned first, unsigned count, bool used)
{
	server_target_update(ts.server, conf_with_boots(first, count, used), test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, 0);
}

static void finish_login(struct peer *peer)
{
	peer->expstatsn = be32_get(pdu.login.statsn) + 1;
	peer->tsih = be16_get(pdu.login.tsih);
	peer_clear_attention(peer);
}

/* The last response comes when the use has been written down, and not before. */
static void a_first_login_waits_to_be_recorded(void **state)
{
	struct peer peer, old;

	(void)state;
	boots_are(1, 1, true);
	assert_int_equal(prove_boot(&old, 1), 0);
	login_send(&old, true, true, NULL, 0);
	assert_int_equal(login_answer(&old), 0); /* in use already: nobody is asked */
	finish_login(&old);
	assert_int_equal(told.records, 0);
	wait_until(&told.logins, 1);
	assert_true(told.login.by_boot);
	assert_int_equal(told.login.boot_id[0], 1);

	boots_are(2, 2, false);
	assert_int_equal(prove_boot(&peer, 2), 0);
	login_send(&peer, true, true, NULL, 0);
	assert_false(answered_within(&peer, 100));
	assert_int_equal(told.logins, 1);
	/* What is recorded is seen by all later logins: the others' credentials have ended. */
	told.update_at_once = true;
	told.update_to = 2;
	wait_until(&told.records, 1);
	assert_int_equal(told.record.boot_id[7], 2);
	test_uuid(TEST_SECRET + 1, uuid);
	assert_memory_equal(told.record.target_uuid, uuid, 16);
	assert_int_equal(login_answer(&peer), 0);
	finish_login(&peer);
	wait_until(&told.logins, 2);
	assert_int_equal(told.how, SERVER_END_REPLACED);
	assert_int_equal(told.end.boot_id[0], 1);
	assert_int_equal(prove_boot(&old, 1), 0x0201);
	peer_close(&old);
	assert_int_equal(prove_boot(&old, 3), 0x0201);
	peer_close(&old);
	/* It comes back with them, as often as it likes, and nobody is asked. */
	peer_close(&peer);
	assert_int_equal(prove_boot(&peer, 2), 0);
	login_send(&peer, true, true, NULL, 0);
	assert_int_equal(login_answer(&peer), 0);
	assert_int_equal(told.records, 1);
	peer_close(&peer);
}

static void what_has_ended_meanwhile_is_refused(void **state)
{
	struct peer peer;

	(void)state;
	/* The control plane says so. */
	boots_are(1, 1, false);
	told.answer = -ENOENT;
	assert_int_equal(prove_boot(&peer, 1), 0);
	login_send(&peer, true, true, NULL, 0);
	wait_until(&told.records, 1);
	assert_int_equal(login_answer(&peer), 0x0201);
	peer_close(&peer);
	/* It was ended between the proof and the last request. */
	told.answer = 0;
	assert_int_equal(prove_boot(&peer, 1), 0);
	boots_are(2, 1, true);
	login_send(&peer, true, true, NULL, 0);
	assert_int_equal(login_answer(&peer), 0x0201);
	peer_close(&peer);
	/* The node's own are as good as ever. */
	assert_int_equal(prove(&peer, "correct-horse"), 0);
	login_send(&peer, true, true, NULL, 0);
	assert_int_equal(login_answer(&peer), 0);
	wait_until(&told.logins, 1);
	assert_false(told.login.by_boot);
	assert_int_equal(told.records, 1);
	peer_close(&peer);
}

/* Who waits to be recorded may go, be replaced, or lose his target. */
static void who_waits_may_go(void **state)
{
	struct peer peer, other;

	(void)state;
	test_uuid(TEST_SECRET + 1, uuid);
	boots_are(1, 1, false);
	/* Gone. */
	assert_int_equal(prove_boot(&peer, 1), 0);
	login_send(&peer, true, true, NULL, 0);
	test_sleep_ms(50);
	peer_close(&peer);
	test_sleep_ms(50);
	wait_until(&told.records, 1);
	/* Replaced by another with the same: both are asked about, one gets in. */
	assert_int_equal(prove_boot(&peer, 1), 0);
	login_send(&peer, true, true, NULL, 0);
	test_sleep_ms(50);
	assert_int_equal(prove_boot(&other, 1), 0);
	login_send(&other, true, true, NULL, 0);
	test_sleep_ms(50);
	wait_until(&told.records, 3);
	assert_int_equal(login_answer(&other), 0);
	assert_false(peer_recv(&peer, &pdu));
	wait_until(&told.logins, 1);
	peer_close(&peer);
	peer_close(&other);
	/* The target goes while the question is on its way. */
	assert_int_equal(prove_boot(&peer, 1), 0);
	login_send(&peer, true, true, NULL, 0);
	test_sleep_ms(50);
	server_target_remove(ts.server, uuid, true, test_server_cb, &ts);
	test_server_wait(&ts);
	assert_int_equal(ts.res, 0);
	assert_false(peer_recv(&peer, &pdu));
	peer_close(&peer);
}

/* Without anybody who could write it down, nobody waits for it. */
static void without_a_watch_nobody_waits(void **state)
{
	struct peer peer;

	(void)state;
	server_watch(ts.server, NULL);
	boots_are(1, 1, false);
	assert_int_equal(prove_boot(&peer, 1), 0);
	login_send(&peer, true, true, NULL, 0);
	test_sleep_ms(50);
	mailbox_for(1000);
	assert_int_equal(login_answer(&peer), 0);
	peer_close(&peer);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_read_sees_what_was_acknowledged),
		CASE(no_such_target_or_unit),
		CASE(a_read_waits_for_a_held_target),
		CASE(a_read_ends_with_its_target),
		cmocka_unit_test(reads_end_with_the_server),
		CASE(a_file_is_read_at_any_offset),
		CASE(a_unit_tells_of_its_changes),
		CASE(sessions_are_told),
		CASE(a_storm_is_counted_not_kept),
		CASE(a_first_login_waits_to_be_recorded),
		CASE(what_has_ended_meanwhile_is_refused),
		CASE(who_waits_may_go),
		CASE(without_a_watch_nobody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
