/*
 * The room against an initiator that others wrote: libiscsi, over loopback.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "base/cleanup.h"
#include "session/test_peer.h"

#define INITIATOR   "iqn.2026-11.local.lunroot:init:libiscsi"
#define LARGE_BYTES (3u << 20)

static struct test_server ts;

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

static struct iscsi_context *new_context(unsigned target)
{
	struct iscsi_context *iscsi = iscsi_create_context(INITIATOR);

	assert_non_null(iscsi);
	assert_int_equal(iscsi_set_targetname(iscsi, ts.names[target]), 0);
	assert_int_equal(iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL), 0);
	iscsi_set_noautoreconnect(iscsi, 1);
	iscsi_set_timeout(iscsi, 10);
	return iscsi;
}

static void write_large_and_read(struct iscsi_context *iscsi)
{
	uint8_t *AUTO_FREE data = malloc(LARGE_BYTES);
	struct scsi_task *task;

	assert_non_null(data);
	for (unsigned i = 0; i < LARGE_BYTES; i++)
		data[i] = (uint8_t)(i / 512 + i * 13);
	task = iscsi_write16_sync(iscsi, 0, 64, data, LARGE_BYTES, 512, 0, 0, 0, 0, 0);
	assert_non_null(task);
	assert_int_equal(task->status, SCSI_STATUS_GOOD);
	scsi_free_scsi_task(task);
	task = iscsi_read16_sync(iscsi, 0, 64, LARGE_BYTES, 512, 0, 0, 0, 0, 0);
	assert_non_null(task);
	assert_int_equal(task->status, SCSI_STATUS_GOOD);
	assert_int_equal(task->datain.size, LARGE_BYTES);
	assert_memory_equal(task->datain.data, data, LARGE_BYTES);
	scsi_free_scsi_task(task);
}

/* Every way in which the data of a write may travel, with and without digests. */
static void large_transfers(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 8; way++) {
		struct iscsi_context *iscsi = new_context(TEST_PRIVATE);

		iscsi_set_header_digest(iscsi, way & 1 ? ISCSI_HEADER_DIGEST_CRC32C
						       : ISCSI_HEADER_DIGEST_NONE);
		iscsi_set_initial_r2t(iscsi,
				      way & 2 ? ISCSI_INITIAL_R2T_YES : ISCSI_INITIAL_R2T_NO);
		iscsi_set_immediate_data(iscsi, way & 4 ? ISCSI_IMMEDIATE_DATA_YES
							: ISCSI_IMMEDIATE_DATA_NO);
		assert_int_equal(iscsi_full_connect_sync(iscsi, ts.address, 0), 0);
		write_large_and_read(iscsi);
		assert_int_equal(iscsi_logout_sync(iscsi), 0);
		iscsi_destroy_context(iscsi);
	}
}

static int connect_with(const char *user, const char *secret)
{
	struct iscsi_context *iscsi = new_context(TEST_SECRET);
	int r;

	if (user)
		assert_int_equal(iscsi_set_initiator_username_pwd(iscsi, user, secret), 0);
	r = iscsi_full_connect_sync(iscsi, ts.address, 0);
	if (r == 0) {
		write_large_and_read(iscsi);
		assert_int_equal(iscsi_logout_sync(iscsi), 0);
	}
	iscsi_destroy_context(iscsi);
	return r;
}

static void wrong_secret(void **state)
{
	(void)state;
	assert_int_equal(connect_with("node", "correct-horse"), 0);
	assert_int_not_equal(connect_with("node", "correct-horsf"), 0);
	assert_int_not_equal(connect_with("mode", "correct-horse"), 0);
	assert_int_not_equal(connect_with(NULL, NULL), 0);
	assert_int_equal(connect_with("node", "correct-horse"), 0);
}

static void discovery(void **state)
{
	struct iscsi_context *iscsi = iscsi_create_context(INITIATOR);
	struct iscsi_discovery_address *found;
	unsigned count = 0;

	(void)state;
	assert_non_null(iscsi);
	assert_int_equal(iscsi_set_session_type(iscsi, ISCSI_SESSION_DISCOVERY), 0);
	assert_int_equal(iscsi_connect_sync(iscsi, ts.address), 0);
	assert_int_equal(iscsi_login_sync(iscsi), 0);
	found = iscsi_discovery_sync(iscsi);
	assert_non_null(found);
	for (const struct iscsi_discovery_address *at = found; at; at = at->next) {
		char address[LIMIT_ADDRESS_TEXT_BYTES + 8];

		snprintf(address, sizeof(address), "%s,1", ts.address);
		assert_non_null(at->portals);
		assert_string_equal(at->portals->portal, address);
		count++;
	}
	assert_int_equal(count, TEST_TARGETS);
	iscsi_free_discovery_data(iscsi, found);
	assert_int_equal(iscsi_logout_sync(iscsi), 0);
	iscsi_destroy_context(iscsi);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(large_transfers, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_secret, setup, teardown),
		cmocka_unit_test_setup_teardown(discovery, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
