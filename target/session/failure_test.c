/*
 * What an initiator hears when the medium beneath a real disk fails: reads, writes and flushes over
 * loopback, while the descriptor of the layer's file stands for something that can't be read,
 * written or synced.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/cleanup.h"
#include "session/test_peer.h"

#define NODE   "iqn.2026-11.local.lunroot:init:pi-07"
#define TARGET "iqn.2026-11.local.lunroot:failing"

#define MEDIUM_ERROR   3, 0x1100 /* UNRECOVERED READ ERROR */
#define HARDWARE_ERROR 4, 0x0c00 /* WRITE ERROR */
#define NO_LBA         UINT32_MAX

static struct {
	struct test_server server;
	char dir[64], layer[96];
	uint8_t uuid[16];
	struct peer peer;
	int fd, good_fd; /* the server's, and where it led */
	bool failed;
} t;

static struct pdu pdu;

/* The descriptor that the server has of the file. */
static int server_fd(const char *path)
{
	char link[32], to[128];

	for (int fd = 3; fd < 1024; fd++) {
		ssize_t n;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, to, sizeof(to) - 1);
		if (n > 0 && (size_t)n == strlen(path) && memcmp(to, path, (size_t)n) == 0)
			return fd;
	}
	fail_msg("%s is not open", path);
	return -1;
}

static struct server_unit unit_open(void)
{
	const struct store_chain chain = {
		.layer_paths = {t.layer}, .layer_count = 1, .run_dir = t.dir};
	struct server_unit unit = {.lun = 0};
	struct store_error err = {""};

	if (store_open(&chain, &unit.disk, &err) < 0)
		fail_msg("%s", err.text);
	memcpy(unit.uuid.b, t.uuid, 16);
	return unit;
}

static int setup(void **state)
{
	static const struct store_layer_info info = {.size_bytes = 16u << 20};
	const struct peer_login login = {.initiator = NODE, .target = TARGET, .isid = 1};
	struct server_unit unit;
	struct store_error err;

	(void)state;
	memset(&t, 0, sizeof(t));
	(void)snprintf(t.dir, sizeof(t.dir), "/dev/shm/lunroot-failure-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	(void)snprintf(t.layer, sizeof(t.layer), "%s/layer.cow", t.dir);
	assert_int_equal(store_layer_create(t.layer, &info, &err), 0);
	test_server_start(&t.server, NULL);
	test_uuid(55, t.uuid);
	unit = unit_open();
	assert_int_equal(test_target_add_units(&t.server, TARGET, 55, false, &unit, 1), 0);
	assert_int_equal(peer_login(&t.peer, t.server.port, &login), 0);
	peer_clear_attention(&t.peer);
	t.fd = server_fd(t.layer);
	t.good_fd = fcntl(t.fd, F_DUPFD_CLOEXEC, 0);
	assert_true(t.good_fd >= 0);
	return 0;
}

static int teardown(void **state)
{
	char command[100];

	(void)state;
	peer_close(&t.peer);
	test_server_stop(&t.server);
	close(t.good_fd);
	(void)snprintf(command, sizeof(command), "rm -r '%s'", t.dir);
	assert_int_equal(system(command), 0);
	return 0;
}

/* From now on the server's file is this one. */
static void put_in_place(int fd)
{
	assert_int_equal(dup3(fd, t.fd, O_CLOEXEC), t.fd);
	if (fd != t.good_fd)
		close(fd);
}

/* Reads fail. */
static void break_reads(void)
{
	put_in_place(open("/dev/null", O_WRONLY | O_CLOEXEC));
}

/* Writes fail, and syncs. */
static void break_writes(void)
{
	put_in_place(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

/* Syncs fail, and nothing else is noticed. */
static void break_syncs(void)
{
	put_in_place(open("/dev/null", O_RDWR | O_CLOEXEC));
}

static void mend(void)
{
	put_in_place(t.good_fd);
}

/* Of which key, code, and about which block. */
static void expect_error(uint8_t key, uint16_t asc, uint32_t lba)
{
	const uint8_t *sense = pdu.data + 2;

	peer_expect(&t.peer, WIRE_OP_SCSI_RSP, &pdu);
	t.peer.expstatsn++;
	assert_int_equal(be32_get(pdu.rsp.itt), t.peer.itt);
	assert_int_equal(pdu.rsp.status, 2);
	assert_int_equal(sense[2] & 0x0f, key);
	assert_int_equal(get_be16(sense + 12), asc);
	assert_int_equal(sense[0], lba == NO_LBA ? 0x70 : 0xf0);
	if (lba != NO_LBA)
		assert_int_equal(get_be32(sense + 3), lba);
}

static void expect_good(void)
{
	peer_expect_status(&t.peer, t.peer.itt, 0, 0, 0);
}

/* WRITE(10) or WRITE SAME(10) */
static void send_write(uint8_t opcode, uint8_t flags, uint32_t lba, uint16_t blocks,
		       uint32_t data_bytes)
{
	static const uint8_t data[64 * 512] = {0x5a};
	struct wire_scsi_cmd cmd;

	peer_command(&t.peer, &cmd, opcode, WIRE_CMD_FINAL | WIRE_CMD_WRITE, lba, blocks);
	cmd.cdb[1] = flags;
	be32_put(&cmd.edtl_bytes, data_bytes);
	peer_send(&t.peer, &cmd, data, data_bytes);
}

static void send_flush(void)
{
	struct wire_scsi_cmd cmd;

	peer_command(&t.peer, &cmd, 0x35, WIRE_CMD_FINAL, 0, 0);
	peer_send(&t.peer, &cmd, NULL, 0);
}

static void send_read(uint8_t flags, uint32_t lba, uint16_t blocks)
{
	struct wire_scsi_cmd cmd;

	peer_command(&t.peer, &cmd, 0x28, WIRE_CMD_FINAL | WIRE_CMD_READ, lba, blocks);
	cmd.cdb[1] = flags;
	peer_send(&t.peer, &cmd, NULL, 0);
}

static void send_unmap(uint32_t lba, uint32_t blocks)
{
	struct wire_scsi_cmd cmd;
	uint8_t list[24] = {0, 22, 0, 16};

	put_be32(list + 12, lba);
	put_be32(list + 16, blocks);
	peer_command(&t.peer, &cmd, 0x42, WIRE_CMD_FINAL | WIRE_CMD_WRITE, 0, 24);
	be32_put(&cmd.edtl_bytes, sizeof(list));
	peer_send(&t.peer, &cmd, list, sizeof(list));
}

static void seen(void *arg, const struct server_stats *stats)
{
	t.failed = false;
	for (unsigned i = 0; i < stats->unit_count; i++)
		t.failed = t.failed || stats->units[i].store.failed;
	test_server_cb(arg, 0);
}

static bool is_failed(void)
{
	server_stats(t.server.server, seen, &t.server);
	test_server_wait(&t.server);
	return t.failed;
}

static int hold(void)
{
	server_target_hold(t.server.server, t.uuid, false, test_server_cb, &t.server);
	test_server_wait(&t.server);
	return t.server.res;
}

/* --- */

/* One command hears of it, with the block; the next one, and the rest of the disk, are well. */
static void a_block_can_not_be_read(void **state)
{
	uint8_t data[8 * 512];

	(void)state;
	send_write(0x2a, 0, 24, 8, 8 * 512); /* the fourth block is the layer's; the others zeros */
	expect_good();
	break_reads();
	send_read(0, 0, 64);
	expect_error(MEDIUM_ERROR, 24);
	send_read(0, 26, 2);
	expect_error(MEDIUM_ERROR, 26);
	peer_read(&t.peer, 0, 8, data);
	mend();
	peer_read(&t.peer, 24, 8, data);
	assert_int_equal(data[0], 0x5a);
	send_flush();
	expect_good();
	assert_false(is_failed());
}

/* A write that failed says so itself; nothing is in doubt, so the disk goes on. */
static void a_write_fails(void **state)
{
	(void)state;
	break_writes();
	send_write(0x2a, 0, 40, 8, 8 * 512);
	expect_error(HARDWARE_ERROR, 40);
	send_write(0x41, 0, 48, 8, 512);
	expect_error(HARDWARE_ERROR, 48);
	mend();
	send_write(0x2a, 0, 40, 8, 8 * 512);
	expect_good();
	send_flush();
	expect_good();
	assert_false(is_failed());
}

/* What comes after a flush that failed, although the medium is well again: no write and no flush is
 * ever good, whichever command asks for it; what is there can be read. */
static void assert_stays_failed(void)
{
	uint8_t data[8 * 512];

	for (unsigned i = 0; i < 2; i++) {
		send_flush();
		expect_error(HARDWARE_ERROR, NO_LBA);
		send_write(0x2a, 0, 8, 8, 8 * 512);
		expect_error(HARDWARE_ERROR, 8);
		send_write(0x2a, 0x08, 16, 8, 8 * 512); /* FUA */
		expect_error(HARDWARE_ERROR, 16);
		send_write(0x41, 0x08, 24, 8, 512); /* WRITE SAME, UNMAP */
		expect_error(HARDWARE_ERROR, 24);
		send_unmap(32, 8);
		expect_error(HARDWARE_ERROR, 32);
		send_read(0x08, 0, 8); /* FUA: it flushes */
		expect_error(HARDWARE_ERROR, NO_LBA);
		/* What was written may be gone from the page cache; the rest is the image's. */
		send_read(0, 0, 8);
		expect_error(MEDIUM_ERROR, 0);
		peer_read(&t.peer, 64, 8, data);
	}
	assert_true(is_failed());
	/* Nor does an exchange wash it clean. */
	assert_int_equal(hold(), -EIO);
	send_flush();
	expect_error(HARDWARE_ERROR, NO_LBA);
}

static void a_flush_fails(void **state)
{
	(void)state;
	send_write(0x2a, 0, 0, 8, 8 * 512);
	expect_good();
	break_syncs();
	send_flush();
	expect_error(HARDWARE_ERROR, NO_LBA);
	mend();
	assert_stays_failed();
}

static void a_write_with_fua_can_not_be_flushed(void **state)
{
	(void)state;
	send_write(0x2a, 0, 0, 8, 8 * 512);
	expect_good();
	break_syncs();
	send_write(0x2a, 0x08, 56, 8, 8 * 512);
	expect_error(HARDWARE_ERROR, 56);
	mend();
	assert_stays_failed();
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_block_can_not_be_read),
		T(a_write_fails),
		T(a_flush_fails),
		T(a_write_with_fua_can_not_be_flushed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
