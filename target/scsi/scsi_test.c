/*
 * The room through its public header, above a disk in memory: a task is parsed, given data,
 * run and ended as a transport would. The opcode table is looked at too, so that no row
 * escapes the tests that go over all of them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "scsi/scsi_fake.h"
#include "scsi/scsi_internal.h"

#define DISK_BYTES  (4u << 20)
#define DISK_BLOCKS (DISK_BYTES / SECTOR)
#define REDZONE     32
#define ROOM_BYTES  (5u << 20)

/* Two nexuses that have heard their unit attentions, LUN 0 fixed, LUN 3 removable. */
struct rig {
	struct scsi_device *device;
	struct scsi_nexus *a, *b;
	struct fake_disk *disk, *disk3;
};

static struct rig rig;
static uint8_t *room; /* of the task that ran last */
static struct scsi_task last;
static unsigned done_count;

static const store_uuid_t test_uuid = {
	{0xde, 0xad, 0xbe, 0xef, 1, 2, 0x43, 4, 0x85, 6, 7, 8, 9, 10, 11, 12}};

static void count_done(struct scsi_task *task)
{
	(void)task;
	done_count++;
}

/* Starts one command; `data` (may be NULL) is its data-out, else the room is `room_bytes`. */
static void begin(struct scsi_task *task, struct scsi_nexus *nexus, uint64_t lun,
		  const uint8_t cdb[16], const void *data, uint32_t room_bytes)
{
	memset(task, 0, sizeof(*task));
	task->nexus = nexus;
	task->lun = lun;
	memcpy(task->cdb, cdb, 16);
	task->done = count_done;
	scsi_task_parse(task);
	assert_true(room_bytes + REDZONE <= ROOM_BYTES);
	memset(room, 0xcc, room_bytes + REDZONE);
	if (data)
		memcpy(room, data, room_bytes);
	if (task->direction != SCSI_DATA_NONE) {
		task->data = room_bytes ? room : NULL;
		task->data_room_bytes = room_bytes;
	}
	scsi_task_execute(task);
}

static enum scsi_status run_on(struct scsi_nexus *nexus, uint64_t lun, const uint8_t cdb[16],
			       const void *data, uint32_t room_bytes)
{
	unsigned before = done_count;

	begin(&last, nexus, lun, cdb, data, room_bytes);
	assert_int_equal(done_count, before); /* never from inside execute */
	fake_run(lun == 3ull << 48 ? rig.disk3 : rig.disk);
	assert_int_equal(done_count, before + 1);
	for (unsigned i = 0; i < REDZONE; i++)
		assert_int_equal(room[room_bytes + i], 0xcc);
	assert_int_equal(fake_bufs_out(), 0);
	return last.status;
}

#define CDB(...)          ((const uint8_t[16]){__VA_ARGS__})
#define RUN(...)          run_on(rig.a, 0, CDB(__VA_ARGS__), NULL, 8192)
#define RUN_B(...)        run_on(rig.b, 0, CDB(__VA_ARGS__), NULL, 8192)
#define RUN_LUN3(...)     run_on(rig.a, 3ull << 48, CDB(__VA_ARGS__), NULL, 8192)
#define OUT(data, n, ...) run_on(rig.a, 0, CDB(__VA_ARGS__), data, n)

/* Sense of the last task, whichever format. */
static unsigned sense_key(void)
{
	assert_int_equal(last.status, SCSI_CHECK_CONDITION);
	return last.sense[0] & 2 ? last.sense[1] & 0xf : last.sense[2] & 0xf;
}

static unsigned asc(void)
{
	assert_int_equal(last.status, SCSI_CHECK_CONDITION);
	return get_be16(last.sense + (last.sense[0] & 2 ? 2 : 12));
}

#define ASSERT_SENSE(key, code)                                      \
	do {                                                         \
		assert_int_equal(last.status, SCSI_CHECK_CONDITION); \
		assert_int_equal(sense_key(), key);                  \
		assert_int_equal(asc(), code);                       \
		assert_int_equal(last.data_bytes, 0);                \
	} while (0)

#define ASSERT_GOOD() assert_int_equal(last.status, SCSI_GOOD)

static void add_unit(uint8_t lun, struct fake_disk *disk, bool removable)
{
	struct scsi_unit_config config = {.lun = lun,
					  .uuid = test_uuid,
					  .disk = &disk->disk,
					  .removable = removable,
					  .product = "lunroot disk"};

	config.uuid.b[15] = (uint8_t)(config.uuid.b[15] + lun);
	assert_int_equal(scsi_device_add_unit(rig.device, &config), 0);
}

static void forget_attentions(struct scsi_nexus *nexus)
{
	memset(nexus->luns, 0, sizeof(nexus->luns));
}

static int set_up(void **state)
{
	(void)state;
	room = malloc(ROOM_BYTES);
	assert_non_null(room);
	rig.disk = fake_disk_new(DISK_BYTES, DISK_BYTES);
	rig.disk3 = fake_disk_new(DISK_BYTES, DISK_BYTES);
	assert_int_equal(scsi_device_new(fake_ring(), &rig.device), 0);
	add_unit(0, rig.disk, false);
	add_unit(3, rig.disk3, true);
	assert_int_equal(scsi_nexus_new(rig.device, "iqn.x:a,i,0x1", &rig.a), 0);
	assert_int_equal(scsi_nexus_new(rig.device, "iqn.x:b,i,0x2", &rig.b), 0);
	forget_attentions(rig.a);
	forget_attentions(rig.b);
	return 0;
}

static void device_closed(void *arg, int res)
{
	assert_int_equal(res, 0);
	*(bool *)arg = true;
}

static int tear_down(void **state)
{
	bool closed = false, freed = false, freed3 = false;

	(void)state;
	rig.disk->freed = &freed;
	rig.disk3->freed = &freed3;
	scsi_nexus_free(rig.a);
	scsi_nexus_free(rig.b);
	scsi_device_close(rig.device, device_closed, &closed);
	assert_false(closed);
	fake_run(NULL);
	assert_true(closed && freed && freed3);
	free(room);
	return 0;
}

/* --- every row of the table --- */

/* A CDB that does its command no harm: everything zero but the length where there is one. */
static void plain_cdb(const struct scsi_command *command, uint8_t cdb[16])
{
	memset(cdb, 0, 16);
	cdb[0] = command->opcode;
	if (command->has_action)
		cdb[1] = command->action;
	if (command->length == LEN_ALLOCATION)
		cdb[command->length_at + command->length_bytes - 1] = 255;
	switch (command->opcode) {
	case 0x08:
	case 0x0a: cdb[4] = 1; break;
	case 0x93:
	case 0x41: cdb[command->cdb_bytes == 16 ? 13 : 8] = 1; break;
	case 0x1a:
	case 0x5a: cdb[2] = 0x3f; break;
	case 0x15:
	case 0x55: cdb[1] = 0x10; break;
	default: break;
	}
}

static void undo_state(void)
{
	scsi_device_reset(rig.device);
	forget_attentions(rig.a);
	forget_attentions(rig.b);
}

static void each_command_plain_is_good(void **state)
{
	static const uint8_t zeros[SECTOR];

	(void)state;
	for (unsigned i = 0; i < scsi_command_count; i++) {
		uint8_t cdb[16];

		plain_cdb(&scsi_commands[i], cdb);
		run_on(rig.a, 3ull << 48, cdb, zeros, SECTOR);
		if (last.status != SCSI_GOOD)
			fail_msg("opcode %02x", cdb[0]);
		undo_state();
	}
}

static void reserved_bit_is_pointed_at(void **state)
{
	unsigned bits = 0;

	(void)state;
	for (unsigned i = 0; i < scsi_command_count; i++) {
		const struct scsi_command *command = &scsi_commands[i];

		for (unsigned bit = 8; bit < 8u * command->cdb_bytes; bit++) {
			uint8_t cdb[16], value = (uint8_t)(1u << bit % 8);

			if (scsi_command_mask(command, NULL, bit / 8) & value)
				continue;
			plain_cdb(command, cdb);
			cdb[bit / 8] |= value;
			run_on(rig.a, 3ull << 48, cdb, NULL, 512);
			ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
			assert_int_equal(last.direction, SCSI_DATA_NONE);
			assert_int_equal(last.sense[15], 0xc8 | bit % 8);
			assert_int_equal(get_be16(last.sense + 16), bit / 8);
			bits++;
		}
	}
	assert_true(bits > 500);
	/* NACA, which INQUIRY says is not there. */
	RUN(0x00, 0, 0, 0, 0, 0x04);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
}

/* What REPORT SUPPORTED OPERATION CODES calls used must not be refused as reserved. */
static void usage_bit_is_accepted(void **state)
{
	(void)state;
	for (unsigned i = 0; i < scsi_command_count; i++) {
		const struct scsi_command *command = &scsi_commands[i];

		for (unsigned bit = 8; bit < 8u * command->cdb_bytes; bit++) {
			uint8_t cdb[16], value = (uint8_t)(1u << bit % 8);

			if (!(command->usage[bit / 8 - 1] & value))
				continue;
			plain_cdb(command, cdb);
			cdb[bit / 8] |= value;
			/* Fields whose single values may be wrong. */
			if (command->opcode == 0x1b || command->opcode == 0x1e ||
			    command->opcode == 0x1a || command->opcode == 0x5a ||
			    command->opcode == 0xa3)
				continue;
			run_on(rig.a, 3ull << 48, cdb, NULL, 512);
			if (last.status == SCSI_CHECK_CONDITION && asc() == 0x2400)
				assert_int_equal(last.sense[15] & 0x08, 0); /* no bit pointed at */
			undo_state();
		}
	}
}

static void out_of_range_is_refused(void **state)
{
	static const uint8_t opcodes[] = {0x08, 0x0a, 0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35,
					  0x41, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90,
					  0x91, 0x93, 0xa8, 0xaa, 0xae, 0xaf};

	(void)state;
	for (unsigned i = 0; i < sizeof(opcodes); i++) {
		static const struct {
			uint64_t lba;
			uint8_t blocks;
			bool good;
		} cases[] = {
			{DISK_BLOCKS, 1, false},     {DISK_BLOCKS - 1, 2, false},
			{DISK_BLOCKS + 1, 0, false}, {UINT32_MAX, 0, false},
			{UINT32_MAX, 1, false},      {DISK_BLOCKS, 0, true},
			{DISK_BLOCKS - 1, 1, true},
		};

		for (unsigned c = 0; c < ARRAY_COUNT(cases); c++) {
			static const uint8_t zeros[2 * SECTOR];
			uint8_t cdb[16] = {opcodes[i]};
			unsigned group = opcodes[i] >> 5, submits = rig.disk->submits;

			if (group == 0 && (cases[c].lba >> 21 || cases[c].blocks == 0))
				continue; /* no such address; and 0 is 256 there */
			if (group == 0)
				put_be24(cdb + 1, (uint32_t)cases[c].lba);
			else if (group == 4)
				put_be64(cdb + 2, cases[c].lba);
			else
				put_be32(cdb + 2, (uint32_t)cases[c].lba);
			cdb[group == 0                         ? 4
			    : opcodes[i] == 0x89 || group == 4 ? 13
			    : group == 5                       ? 9
							       : 8] = cases[c].blocks;
			run_on(rig.a, 0, cdb, zeros, sizeof(zeros));
			if (cases[c].good) {
				ASSERT_GOOD();
				continue;
			}
			ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2100);
			assert_int_equal(rig.disk->submits, submits);
		}
	}
}

static void unknown_command_is_refused(void **state)
{
	unsigned unknown = 0;

	(void)state;
	for (unsigned opcode = 0; opcode < 256; opcode++) {
		bool known;

		scsi_command_find((uint8_t)opcode, 0, &known);
		if (known)
			continue;
		unknown++;
		RUN((uint8_t)opcode);
		ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2000);
	}
	assert_true(unknown > 200);
	/* A service action that is not there is a field (SPC-4, 4.3.3). */
	RUN(0x9e, 0x1f);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	assert_int_equal(get_be16(last.sense + 16), 1);
	/* What needs a removable medium is not there for a fixed one. */
	RUN(0x1e);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2000);
}

static void transfer_above_maximum_is_refused(void **state)
{
	(void)state;
	RUN(0x28, 0, 0, 0, 0, 0, 0, 0x20, 0x01);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	assert_int_equal(get_be16(last.sense + 16), 7);
	assert_int_equal(last.direction, SCSI_DATA_NONE);
	assert_int_equal(last.transfer_bytes, 0);
	RUN(0xaa, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	RUN(0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	assert_int_equal(get_be16(last.sense + 16), 10);
	begin(&last, rig.a, 0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0x20, 0x00), NULL, 4u << 20);
	assert_int_equal(last.transfer_bytes, LIMIT_IO_BUFFER_BYTES);
	fake_run(rig.disk);
	ASSERT_GOOD();
}

/* --- truncation --- */

static const uint8_t reports[][16] = {
	{0x12},
	{0x12, 1, 0x00},
	{0x12, 1, 0x80},
	{0x12, 1, 0x83},
	{0x12, 1, 0x86},
	{0x12, 1, 0xb0},
	{0x12, 1, 0xb1},
	{0x12, 1, 0xb2},
	{0x03},
	{0x03, 1},
	{0x1a, 0, 0x3f},
	{0x1a, 8, 0x0a},
	{0x5a, 0, 0x3f, 0xff},
	{0x5a, 0x10, 0x08},
	{0x5a, 8, 0x7f},
	{0xa0},
	{0xa0, 0, 1},
	{0xa0, 0, 2},
	{0x9e, 0x10},
	{0x9e, 0x12},
	{0xa3, 0x0c},
	{0xa3, 0x0c, 0x80},
	{0xa3, 0x0c, 1, 0x28},
	{0xa3, 0x0c, 0x82, 0x9e, 0, 0x12},
	{0xa3, 0x0c, 3, 0xff},
	{0xa3, 0x0d},
	{0xa3, 0x0d, 0x80},
};

static void report_cdb(const uint8_t report[16], uint32_t allocation, uint8_t cdb[16])
{
	bool known;
	const struct scsi_command *command = scsi_command_find(report[0], report[1] & 0x1f, &known);

	assert_non_null(command);
	memcpy(cdb, report, 16);
	for (unsigned i = command->length_bytes; i-- > 0; allocation >>= 8)
		cdb[command->length_at + i] = (uint8_t)allocation;
}

static void report_is_cut_at_every_length(void **state)
{
	static uint8_t full[REPLY_BYTES_MAX];

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(reports); i++) {
		bool one_byte = reports[i][0] == 0x03 || reports[i][0] == 0x1a;
		uint32_t full_bytes;
		uint8_t cdb[16];

		/* Only GET LBA STATUS answers more the more there is room for. */
		report_cdb(reports[i], one_byte ? 255 : 4096, cdb);
		run_on(rig.a, 0, cdb, NULL, 4096);
		ASSERT_GOOD();
		full_bytes = last.data_bytes;
		assert_true(full_bytes >= 4 && full_bytes == last.wanted_bytes);
		memcpy(full, room, full_bytes);
		for (uint32_t n = 0; n <= full_bytes + 4 && (!one_byte || n < 256); n++) {
			uint32_t want = n < full_bytes ? n : full_bytes;

			report_cdb(reports[i], n, cdb);
			run_on(rig.a, 0, cdb, NULL, n);
			ASSERT_GOOD();
			assert_int_equal(last.wanted_bytes, want);
			assert_int_equal(last.data_bytes, want);
			assert_memory_equal(room, full, want);
			/* A room that is too small leaves a residual. */
			report_cdb(reports[i], one_byte ? 255 : 4096, cdb);
			run_on(rig.a, 0, cdb, NULL, want);
			assert_int_equal(last.wanted_bytes, full_bytes);
			assert_int_equal(last.data_bytes, want);
		}
	}
}

/* --- identity --- */

static void inquiry_tells_the_truth(void **state)
{
	(void)state;
	RUN(0x12, 0, 0, 1, 0);
	ASSERT_GOOD();
	assert_int_equal(last.data_bytes, 96);
	assert_int_equal(room[0], 0x00);
	assert_int_equal(room[1], 0x00);
	assert_int_equal(room[2], 6);
	assert_int_equal(room[3], 0x12);
	assert_int_equal(room[4], 91);
	assert_int_equal(room[7], 0x02);
	assert_memory_equal(room + 8, "LUNROOT lunroot disk    ", 24);
	assert_int_equal(get_be16(room + 64), 0x04c0);
	RUN_LUN3(0x12, 0, 0, 1, 0);
	assert_int_equal(room[1], 0x80);
	RUN(0x12, 0, 0x80, 1, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	RUN(0x12, 1, 0xb3, 1, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
}

static void each_listed_page_is_readable(void **state)
{
	uint8_t pages[64];
	unsigned count;

	(void)state;
	RUN(0x12, 1, 0x00, 1, 0);
	ASSERT_GOOD();
	count = get_be16(room + 2);
	assert_int_equal(last.data_bytes, 4 + count);
	assert_true(count == 7 && count <= sizeof(pages));
	memcpy(pages, room + 4, count);
	for (unsigned i = 0; i < count; i++) {
		assert_true(i == 0 || pages[i] > pages[i - 1]);
		RUN(0x12, 1, pages[i], 1, 0);
		ASSERT_GOOD();
		assert_int_equal(room[1], pages[i]);
		assert_int_equal(get_be16(room + 2), last.data_bytes - 4);
		if (pages[i] == 0xb0 || pages[i] == 0xb1 || pages[i] == 0x86)
			assert_int_equal(last.data_bytes, 64);
	}
}

static void identity_comes_from_uuid(void **state)
{
	uint8_t first[256];
	unsigned bytes, at;

	(void)state;
	RUN(0x12, 1, 0x80, 1, 0);
	assert_memory_equal(room + 4,
			    "deadbeef010243048506070809"
			    "0a0b0c",
			    32);
	RUN(0x12, 1, 0x83, 1, 0);
	bytes = last.data_bytes;
	memcpy(first, room, bytes);
	assert_int_equal(room[8] >> 4, 3); /* NAA, locally assigned */
	for (at = 4; at < bytes; at += 4u + room[at + 3])
		assert_true(at + 4 <= bytes);
	assert_int_equal(at, bytes);
	RUN_LUN3(0x12, 1, 0x83, 1, 0);
	assert_memory_not_equal(room + 8, first + 8, 8);
}

/* --- LUN addresses --- */

static void absent_unit(void **state)
{
	(void)state;
	run_on(rig.a, 5ull << 48, CDB(0x12, 0, 0, 0, 96), NULL, 96);
	ASSERT_GOOD();
	assert_int_equal(room[0], 0x7f);
	assert_int_equal(last.data_bytes, 96);
	run_on(rig.a, 5ull << 48, CDB(0x12, 1, 0x83, 0, 96), NULL, 96);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	run_on(rig.a, 5ull << 48, CDB(0x00), NULL, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2500);
	run_on(rig.a, 5ull << 48, CDB(0xff), NULL, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2500);
	run_on(rig.a, 5ull << 48, CDB(0x03, 0, 0, 0, 18), NULL, 18);
	ASSERT_GOOD();
	assert_int_equal(room[2], SENSE_ILLEGAL_REQUEST);
	assert_int_equal(get_be16(room + 12), 0x2500);
	/* Any address will do for REPORT LUNS. */
	run_on(rig.a, 0xc101ull << 48, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0), NULL, 256);
	ASSERT_GOOD();
	assert_int_equal(get_be32(room), 16);
	assert_int_equal(room[9], 0);
	assert_int_equal(room[17], 3);
	run_on(rig.a, 0, CDB(0xa0, 0, 0x11, 0, 0, 0, 0, 0, 1, 0), NULL, 256);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
}

static void lun_address_forms(void **state)
{
	static const struct {
		uint64_t lun;
		bool there;
	} cases[] = {
		{0x0000000000000000, true},  {0x0003000000000000, true},
		{0x4003000000000000, true},  {0x4000000000000000, true},
		{0x4103000000000000, false}, {0x0103000000000000, false},
		{0x8003000000000000, false}, {0xc101000000000000, false},
		{0x0003000100000000, false}, {0x0003000000000001, false},
		{0x0010000000000000, false}, {0x00ff000000000000, false},
		{0x7fff000000000000, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(cases); i++)
		assert_int_equal(scsi_device_has_unit(rig.device, cases[i].lun), cases[i].there);
}

/* --- unit attentions --- */

static void attention_told_once_to_each_nexus(void **state)
{
	(void)state;
	scsi_device_capacity_changed(rig.device, 0);
	RUN(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2a09);
	RUN(0x00);
	ASSERT_GOOD();
	RUN_B(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2a09);
	RUN_B(0x00);
	ASSERT_GOOD();
	RUN_LUN3(0x00);
	ASSERT_GOOD();
}

static void attention_passes_inquiry_by(void **state)
{
	(void)state;
	scsi_device_capacity_changed(rig.device, 0);
	RUN(0x12, 0, 0, 0, 96);
	ASSERT_GOOD();
	RUN(0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	ASSERT_GOOD();
	/* REQUEST SENSE tells it as data, and that was it. */
	RUN(0x03, 0, 0, 0, 18);
	ASSERT_GOOD();
	assert_int_equal(room[2], SENSE_UNIT_ATTENTION);
	assert_int_equal(get_be16(room + 12), 0x2a09);
	RUN(0x03, 1, 0, 0, 18);
	ASSERT_GOOD();
	assert_int_equal(room[0], 0x72);
	assert_int_equal(room[1], SENSE_NO_SENSE);
	RUN(0x00);
	ASSERT_GOOD();
}

static void attention_comes_before_other_faults(void **state)
{
	(void)state;
	scsi_device_capacity_changed(rig.device, 0);
	RUN(0xff);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2a09);
	scsi_device_capacity_changed(rig.device, 0);
	RUN(0x28, 0xff);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2a09);
	RUN(0x28, 0xff);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
}

static void attentions_in_order(void **state)
{
	static const uint16_t order[] = {0x2903, 0x2f00, 0x2a01, 0x2a09, 0x3f0e};

	(void)state;
	scsi_unit_reset(rig.device, 0);
	add_unit(7, fake_disk_new(DISK_BYTES, DISK_BYTES), false);
	scsi_device_capacity_changed(rig.device, 0);
	scsi_unit_attention(rig.device->units[0], UA_MODE_CHANGED, NULL);
	scsi_nexus_commands_cleared(rig.a, 0);
	for (unsigned i = 0; i < ARRAY_COUNT(order); i++) {
		RUN(0x00);
		ASSERT_SENSE(SENSE_UNIT_ATTENTION, order[i]);
	}
	RUN(0x00);
	ASSERT_GOOD();
	/* Told on one unit, REPORTED LUNS DATA HAS CHANGED is told. */
	RUN_LUN3(0x00);
	ASSERT_GOOD();
	run_on(rig.a, 7ull << 48, CDB(0x00), NULL, 0);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2900);
}

static void power_on_swallows_the_rest(void **state)
{
	struct scsi_nexus *c;

	(void)state;
	assert_int_equal(scsi_nexus_new(rig.device, "iqn.x:c,i,0x3", &c), 0);
	scsi_device_capacity_changed(rig.device, 0);
	scsi_unit_reset(rig.device, 0);
	run_on(c, 0, CDB(0x00), NULL, 0);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2900);
	run_on(c, 0, CDB(0x00), NULL, 0);
	ASSERT_GOOD();
	scsi_nexus_free(c);
	/* The reset was for all, the one that asked for it too. */
	RUN(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2903);
	scsi_device_reset(rig.device);
	RUN_B(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2902);
	RUN_B(0x00);
	ASSERT_GOOD();
}

static void report_luns_tells_luns_changed(void **state)
{
	(void)state;
	add_unit(9, fake_disk_new(DISK_BYTES, DISK_BYTES), false);
	RUN(0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0);
	assert_int_equal(get_be32(room), 24);
	RUN(0x00);
	ASSERT_GOOD();
	RUN_B(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x3f0e);
}

/* --- reservations --- */

static void reserved_unit_conflicts(void **state)
{
	static const struct {
		uint8_t cdb[16];
		bool allowed;
	} cases[] = {
		{{0x00}, false},
		{{0x03, 0, 0, 0, 18}, true},
		{{0x12, 0, 0, 0, 36}, true},
		{{0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16}, true},
		{{0x16}, false},
		{{0x56}, false},
		{{0x17}, true},
		{{0x57}, true},
		{{0x1a, 0, 0x3f, 0, 255}, false},
		{{0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255}, false},
		{{0x15, 0x10}, false},
		{{0x55, 0x10}, false},
		{{0x08, 0, 0, 0, 1}, false},
		{{0x0a, 0, 0, 0, 1}, false},
		{{0x28}, false},
		{{0x2a}, false},
		{{0x25}, true},
		{{0x9e, 0x10}, true},
		{{0x9e, 0x12}, false},
		{{0x35}, false},
		{{0x42}, false},
		{{0x41}, false},
		{{0x93}, false},
		{{0xa3, 0x0c}, true},
		{{0xa3, 0x0d}, true},
		{{0x1b, 0, 0, 0, 0}, false},
		{{0x1b, 0, 0, 0, 1}, true},
		{{0x89}, false},
		{{0x2e}, false},
		{{0x2f}, false},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
		bool conflict;

		RUN(0x16);
		ASSERT_GOOD();
		run_on(rig.b, 0, cases[i].cdb, NULL, 512);
		conflict = last.status == SCSI_RESERVATION_CONFLICT;
		if (conflict == cases[i].allowed)
			fail_msg("opcode %02x: status %02x", cases[i].cdb[0], last.status);
		assert_int_equal(last.sense_bytes, conflict ? 0 : last.sense_bytes);
		run_on(rig.a, 0, cases[i].cdb, NULL, 512);
		assert_int_not_equal(last.status, SCSI_RESERVATION_CONFLICT);
		undo_state();
	}
}

static void reservation_ends(void **state)
{
	struct scsi_nexus *c;

	(void)state;
	RUN(0x16);
	RUN(0x16); /* again by the holder */
	ASSERT_GOOD();
	RUN_B(0x17); /* by another: nothing */
	ASSERT_GOOD();
	RUN_B(0x00);
	assert_int_equal(last.status, SCSI_RESERVATION_CONFLICT);
	RUN(0x57); /* the ten-byte kind ends it as well */
	RUN_B(0x00);
	ASSERT_GOOD();
	/* A conflict comes before a unit attention, which stays. */
	RUN(0x56);
	scsi_device_capacity_changed(rig.device, 0);
	RUN_B(0x00);
	assert_int_equal(last.status, SCSI_RESERVATION_CONFLICT);
	scsi_unit_reset(rig.device, 0);
	RUN_B(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2903);
	/* Its holder is gone. */
	assert_int_equal(scsi_nexus_new(rig.device, "iqn.x:c,i,0x3", &c), 0);
	forget_attentions(c);
	forget_attentions(rig.b);
	run_on(c, 0, CDB(0x16), NULL, 0);
	RUN_B(0x00);
	assert_int_equal(last.status, SCSI_RESERVATION_CONFLICT);
	scsi_nexus_free(c);
	RUN_B(0x00);
	ASSERT_GOOD();
}

/* --- mode pages --- */

static void mode_sense_pages(void **state)
{
	(void)state;
	RUN(0x1a, 0, 0x3f, 0, 255);
	ASSERT_GOOD();
	assert_int_equal(last.data_bytes, 4 + 8 + 20 + 12 + 12);
	assert_int_equal(room[0], last.data_bytes - 1);
	assert_int_equal(room[2], 0x10);
	assert_int_equal(room[3], 8);
	assert_int_equal(get_be32(room + 4), DISK_BLOCKS);
	assert_int_equal(get_be24(room + 9), 512);
	assert_int_equal(room[12], 0x08);
	assert_int_equal(room[14], 0x04); /* WCE */
	RUN(0x5a, 0x10, 0x08, 0, 0, 0, 0, 1, 0);
	assert_int_equal(get_be16(room), last.data_bytes - 2);
	assert_int_equal(room[4], 1);
	assert_int_equal(get_be64(room + 8), DISK_BLOCKS);
	RUN(0x1a, 8, 0x48, 0, 255); /* what of it can be changed */
	assert_int_equal(last.data_bytes, 4 + 20);
	assert_int_equal(room[4 + 2], 0);
	RUN(0x1a, 8, 0x4a, 0, 255);
	assert_int_equal(room[4 + 2], 0x04);
	assert_int_equal(room[4 + 4], 0x08);
	rig.disk->disk.volatile_cache = false;
	RUN(0x1a, 8, 0x08, 0, 255);
	assert_int_equal(room[4 + 2], 0);
	RUN(0x1a, 8, 0xca, 0, 255);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x3900);
	RUN(0x1a, 8, 0x02, 0, 255);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	RUN(0x1a, 8, 0x0a, 1, 255);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	RUN(0x1a, 8, 0x3f, 0xff, 255);
	ASSERT_GOOD();
}

/* The control page with bits set in it, behind a header. */
static void control_page(uint8_t list[16], uint8_t byte2, uint8_t byte4)
{
	static const uint8_t page[16] = {0, 0, 0, 0, 0x0a, 0x0a, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff};

	memcpy(list, page, 16);
	list[4 + 2] = byte2;
	list[4 + 4] = byte4;
}

static void software_write_protect(void **state)
{
	static const uint8_t sector[SECTOR];
	uint8_t list[16];

	(void)state;
	control_page(list, 0, 0x08);
	OUT(list, 16, 0x15, 0x10, 0, 0, 16);
	ASSERT_GOOD();
	/* The others are told, the one that did it knows. */
	RUN_B(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2a01);
	OUT(sector, SECTOR, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_SENSE(SENSE_DATA_PROTECT, 0x2702);
	RUN(0x42);
	ASSERT_SENSE(SENSE_DATA_PROTECT, 0x2702);
	RUN(0x1a, 8, 0x0a, 0, 255);
	assert_int_equal(room[2], 0x90);
	assert_int_equal(room[4 + 4], 0x08);
	RUN(0x1a, 8, 0x8a, 0, 255);
	assert_int_equal(room[4 + 4], 0); /* by default */
	RUN(0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_GOOD();
	RUN(0x35);
	ASSERT_GOOD();
	control_page(list, 0, 0);
	OUT(list, 16, 0x15, 0x10, 0, 0, 16);
	ASSERT_GOOD();
	OUT(sector, SECTOR, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_GOOD();
	/* Nothing changed: nobody is told. */
	forget_attentions(rig.b);
	OUT(list, 16, 0x15, 0x10, 0, 0, 16);
	RUN_B(0x00);
	ASSERT_GOOD();
}

static void descriptor_sense(void **state)
{
	uint8_t list[16];

	(void)state;
	control_page(list, 0x04, 0);
	OUT(list, 16, 0x15, 0x10, 0, 0, 16);
	ASSERT_GOOD();
	RUN(0x28, 0x20);
	assert_int_equal(last.sense[0], 0x72);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	assert_int_equal(last.sense[8], 0x02);
	assert_int_equal(last.sense[12], 0xcd);
	assert_int_equal(get_be16(last.sense + 13), 1);
	assert_int_equal(last.sense_bytes, 8u + last.sense[7]);
	rig.disk->fail_op = STORE_READ;
	rig.disk->fail_res = -EIO;
	RUN(0x28, 0, 0, 0, 0, 9, 0, 0, 1);
	ASSERT_SENSE(SENSE_MEDIUM_ERROR, 0x1100);
	assert_int_equal(last.sense[8], 0x00);
	assert_int_equal(get_be64(last.sense + 12), 9);
	scsi_task_fail(&last, SENSE_ABORTED_COMMAND, 0x4705);
	assert_int_equal(last.sense[0], 0x72);
	ASSERT_SENSE(SENSE_ABORTED_COMMAND, 0x4705);
	/* A reset takes it back. */
	scsi_unit_reset(rig.device, 0);
	RUN(0x00);
	assert_int_equal(last.sense[0], 0x70);
}

static void mode_select_wrong_lists(void **state)
{
	static const struct {
		const char *name;
		uint8_t cdb[16];
		uint8_t list[24];
		unsigned bytes; /* that arrive */
		unsigned asc, at;
	} cases[] = {
		{"no PF", {0x15, 0, 0, 0, 4}, {0}, 4, 0x2400, 1},
		{"SP", {0x15, 0x11, 0, 0, 4}, {0}, 4, 0x2400, 1},
		{"header cut", {0x15, 0x10, 0, 0, 3}, {0}, 3, 0x1a00, 0},
		{"header cut, long", {0x55, 0x10, 0, 0, 0, 0, 0, 0, 7}, {0}, 7, 0x1a00, 0},
		{"less than the CDB says",
		 {0x15, 0x10, 0, 0, 16},
		 {0, 0, 0, 0, 0x0a, 0x0a},
		 8,
		 0x1a00,
		 0},
		{"page cut", {0x15, 0x10, 0, 0, 8}, {0, 0, 0, 0, 0x0a, 0x0a}, 8, 0x1a00, 0},
		{"page of one byte", {0x15, 0x10, 0, 0, 5}, {0, 0, 0, 0, 0x0a}, 5, 0x1a00, 0},
		{"descriptor cut", {0x15, 0x10, 0, 0, 8}, {0, 0, 0, 8}, 8, 0x1a00, 0},
		{"odd descriptor", {0x15, 0x10, 0, 0, 12}, {0, 0, 0, 7}, 12, 0x2600, 3},
		{"block length",
		 {0x15, 0x10, 0, 0, 12},
		 {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0x10, 0},
		 12,
		 0x2600,
		 9},
		{"block count",
		 {0x15, 0x10, 0, 0, 12},
		 {0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 2, 0},
		 12,
		 0x2600,
		 4},
		{"medium type", {0x15, 0x10, 0, 0, 4}, {0, 1}, 4, 0x2600, 1},
		{"unknown page", {0x15, 0x10, 0, 0, 6}, {0, 0, 0, 0, 0x01, 0x0a}, 6, 0x2600, 4},
		{"subpage", {0x15, 0x10, 0, 0, 8}, {0, 0, 0, 0, 0x4a, 0x01}, 8, 0x2600, 4},
		{"page length", {0x15, 0x10, 0, 0, 16}, {0, 0, 0, 0, 0x0a, 0x0b}, 16, 0x2600, 5},
		{"fixed bit",
		 {0x15, 0x10, 0, 0, 16},
		 {0, 0, 0, 0, 0x0a, 0x0a, 0, 0x18, 0, 0, 0, 0, 0xff, 0xff},
		 16,
		 0x2600,
		 7},
		{"good page, then a wrong one",
		 {0x15, 0x10, 0, 0, 18},
		 {0, 0, 0, 0, 0x0a, 0x0a, 0x04, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0x33, 0},
		 18,
		 0x2600,
		 16},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
		run_on(rig.a, 0, cases[i].cdb, cases[i].list, cases[i].bytes);
		if (last.status != SCSI_CHECK_CONDITION || asc() != cases[i].asc)
			fail_msg("%s: status %02x", cases[i].name, last.status);
		if (cases[i].at)
			assert_int_equal(get_be16(last.sense + 16), cases[i].at);
		assert_int_equal(last.sense[0], 0x70); /* nothing of it was done */
	}
	/* Whatever MODE SENSE says may be sent back, header and all. */
	RUN(0x5a, 0x10, 0x3f, 0, 0, 0, 0, 1, 0);
	memmove(room, room, last.data_bytes);
	{
		uint8_t all[128];
		uint8_t bytes = (uint8_t)last.data_bytes;

		memcpy(all, room, bytes);
		all[0] = all[1] = 0;
		OUT(all, bytes, 0x55, 0x10, 0, 0, 0, 0, 0, 0, bytes);
		ASSERT_GOOD();
	}
}

/* --- the medium --- */

static void fill(uint8_t *p, uint32_t bytes, uint8_t seed)
{
	for (uint32_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 9));
}

static void write_then_read(void **state)
{
	static const struct {
		uint8_t write[16], read[16];
	} cases[] = {
		{{0x0a, 0, 0, 5, 3}, {0x08, 0, 0, 5, 3}},
		{{0x2a, 0, 0, 0, 0, 5, 0, 0, 3}, {0x28, 0x10, 0, 0, 0, 5, 0, 0, 3}},
		{{0xaa, 0x08, 0, 0, 0, 5, 0, 0, 0, 3}, {0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 3}},
		{{0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3},
		 {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3}},
	};
	uint8_t sent[3 * SECTOR];

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
		fill(sent, sizeof(sent), (uint8_t)(i + 1));
		run_on(rig.a, 0, cases[i].write, sent, sizeof(sent));
		ASSERT_GOOD();
		assert_int_equal(rig.disk->fua_seen, (cases[i].write[1] & 0x08) != 0);
		assert_memory_equal(rig.disk->data + 5 * SECTOR, sent, sizeof(sent));
		run_on(rig.b, 0, cases[i].read, NULL, sizeof(sent));
		ASSERT_GOOD();
		assert_int_equal(last.data_bytes, sizeof(sent));
		assert_int_equal(last.wanted_bytes, sizeof(sent));
		assert_memory_equal(room, sent, sizeof(sent));
	}
	/* In six bytes, no blocks are 256. */
	begin(&last, rig.a, 0, CDB(0x08), NULL, 256 * SECTOR);
	assert_int_equal(last.transfer_bytes, 256 * SECTOR);
	fake_run(rig.disk);
	assert_int_equal(last.data_bytes, 256 * SECTOR);
	RUN(0x28);
	ASSERT_GOOD();
	assert_int_equal(last.data_bytes, 0);
}

static void short_data_out_writes_whole_blocks(void **state)
{
	static const struct {
		uint32_t arrived, blocks;
	} cases[] = {{0, 0}, {511, 0}, {512, 1}, {1000, 1}, {1024, 2}, {1535, 2}};
	static const uint8_t cdbs[][16] = {
		{0x0a, 0, 0, 0, 3},
		{0x2a, 0, 0, 0, 0, 0, 0, 0, 3},
		{0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 3},
		{0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3},
		{0x2e, 0, 0, 0, 0, 0, 0, 0, 3},
		{0x2e, 2, 0, 0, 0, 0, 0, 0, 3},
		{0x8e, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3},
		{0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3},
	};
	uint8_t sent[3 * SECTOR];
	static const uint8_t zeros[3 * SECTOR];

	(void)state;
	memset(sent, 0x77, sizeof(sent));
	for (unsigned i = 0; i < ARRAY_COUNT(cdbs) * ARRAY_COUNT(cases); i++) {
		uint32_t arrived = cases[i % ARRAY_COUNT(cases)].arrived;
		uint32_t bytes = cases[i % ARRAY_COUNT(cases)].blocks * SECTOR;

		memset(rig.disk->data, 0, sizeof(sent));
		run_on(rig.a, 0, cdbs[i / ARRAY_COUNT(cases)], sent, arrived);
		ASSERT_GOOD();
		assert_memory_equal(rig.disk->data, sent, bytes);
		assert_memory_equal(rig.disk->data + bytes, zeros, sizeof(zeros) - bytes);
	}
}

static void small_room_reads_what_fits(void **state)
{
	static const uint32_t rooms[] = {0, 1, 200, 511, 512, 513, 1024, 1535};

	(void)state;
	fill(rig.disk->data, 3 * SECTOR, 9);
	for (unsigned i = 0; i < ARRAY_COUNT(rooms); i++) {
		run_on(rig.a, 0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 3), NULL, rooms[i]);
		ASSERT_GOOD();
		assert_int_equal(last.data_bytes, rooms[i]);
		assert_int_equal(last.wanted_bytes, 3 * SECTOR);
		assert_memory_equal(room, rig.disk->data, rooms[i]);
	}
	fake_bufs_limit(0);
	run_on(rig.a, 0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 3), NULL, 200);
	fake_bufs_limit(-1);
	assert_int_equal(last.status, SCSI_BUSY);
	assert_int_equal(last.wanted_bytes, 0);
}

static void fua_read_flushes_first(void **state)
{
	(void)state;
	RUN(0x28, 0x08, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_GOOD();
	assert_int_equal(rig.disk->flushes, 1);
	assert_int_equal(last.data_bytes, SECTOR);
	rig.disk->disk.volatile_cache = false;
	RUN(0x28, 0x08, 0, 0, 0, 0, 0, 0, 1);
	assert_int_equal(rig.disk->flushes, 1);
	/* An address bit of READ(6) is no FUA. */
	rig.disk->disk.volatile_cache = true;
	RUN(0x08, 0, 0x08, 0, 1);
	assert_int_equal(rig.disk->flushes, 1);
	RUN(0x35, 0x02, 0, 0, 0, 0, 0, 0, 1);
	RUN(0x91);
	ASSERT_GOOD();
	assert_int_equal(rig.disk->flushes, 3);
}

/* What a scratch disk can't do it does not offer; what it was told to forget it forgets. */
static void scratch_offers_no_fua(void **state)
{
	static const struct {
		uint8_t cdb[16];
		uint8_t usage; /* of byte 1, without the bits */
	} cases[] = {
		{{0x28, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0x2a, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0x2e, 0, 0, 0, 0, 0, 0, 0, 1}, 0x02},
		{{0x2f, 0, 0, 0, 0, 0, 0, 0, 1}, 0x02},
		{{0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0x02},
		{{0x8f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0x02},
		{{0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0},
		{{0xae, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0x02},
		{{0xaf, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 0x02},
	};
	static const uint8_t bits[] = {0x08, 0x10};
	static const uint8_t zeros[2 * SECTOR];

	(void)state;
	rig.disk->disk.scratch = true;
	RUN(0x1a, 8, 0x08, 0, 255);
	assert_int_equal(room[2], 0);        /* no DPOFUA */
	assert_int_equal(room[4 + 2], 0x04); /* WCE: there is a cache */
	for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
		uint8_t cdb[16];

		RUN(0xa3, 0x0c, 1, cases[i].cdb[0], 0, 0, 0, 0, 1, 0);
		ASSERT_GOOD();
		assert_int_equal(room[5], cases[i].usage);
		run_on(rig.a, 0, cases[i].cdb, zeros, sizeof(zeros));
		ASSERT_GOOD();
		for (unsigned k = 0; k < sizeof(bits); k++) {
			memcpy(cdb, cases[i].cdb, sizeof(cdb));
			cdb[1] |= bits[k];
			run_on(rig.a, 0, cdb, zeros, sizeof(zeros));
			ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
		}
	}
	/* Bits that only stand in the same place. */
	RUN(0x41, 0x08, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_GOOD();
	RUN(0x5a, 0x18, 0x08, 0, 0, 0, 0, 1, 0);
	ASSERT_GOOD();
	RUN(0x35, 0, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_GOOD();
}

static void store_failure_is_translated(void **state)
{
	static const struct {
		enum store_op op;
		int res;
		enum scsi_status status;
		unsigned key, asc;
	} cases[] = {
		{STORE_READ, -EIO, SCSI_CHECK_CONDITION, SENSE_MEDIUM_ERROR, 0x1100},
		{STORE_READ, -EAGAIN, SCSI_BUSY, 0, 0},
		{STORE_READ, -ERANGE, SCSI_CHECK_CONDITION, SENSE_ILLEGAL_REQUEST, 0x2100},
		{STORE_READ, -EBADF, SCSI_CHECK_CONDITION, SENSE_MEDIUM_ERROR, 0x1100},
		{STORE_WRITE, -EIO, SCSI_CHECK_CONDITION, SENSE_HARDWARE_ERROR, 0x0c00},
		{STORE_WRITE, -ENOSPC, SCSI_BUSY, 0, 0},
		{STORE_WRITE, -EAGAIN, SCSI_BUSY, 0, 0},
		{STORE_FLUSH, -EAGAIN, SCSI_BUSY, 0, 0},
		{STORE_WRITE, -EROFS, SCSI_CHECK_CONDITION, SENSE_DATA_PROTECT, 0x2700},
		{STORE_FLUSH, -EIO, SCSI_CHECK_CONDITION, SENSE_HARDWARE_ERROR, 0x0c00},
		{STORE_DISCARD, -EIO, SCSI_CHECK_CONDITION, SENSE_HARDWARE_ERROR, 0x0c00},
		{STORE_DISCARD, -ENOSPC, SCSI_BUSY, 0, 0},
	};
	static const uint8_t zeros[SECTOR];
	static const uint8_t cdbs[][16] = {
		[STORE_READ] = {0x28, 0, 0, 0, 0, 7, 0, 0, 1},
		[STORE_WRITE] = {0x2a, 0, 0, 0, 0, 7, 0, 0, 1},
		[STORE_FLUSH] = {0x35},
		[STORE_DISCARD] = {0x41, 0x08, 0, 0, 0, 7, 0, 0, 1},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
		rig.disk->fail_op = cases[i].op;
		rig.disk->fail_res = cases[i].res;
		run_on(rig.a, 0, cdbs[cases[i].op], zeros, SECTOR);
		assert_int_equal(last.status, cases[i].status);
		assert_int_equal(last.data_bytes, 0);
		assert_int_equal(last.wanted_bytes, 0);
		if (cases[i].status != SCSI_CHECK_CONDITION)
			continue;
		ASSERT_SENSE(cases[i].key, cases[i].asc);
		/* Which block, if any: VALID, and INFORMATION. */
		if (cases[i].asc == 0x1100 ||
		    (cases[i].asc == 0x0c00 && cases[i].op != STORE_FLUSH)) {
			assert_int_equal(last.sense[0], 0xf0);
			assert_int_equal(get_be32(last.sense + 3), 7);
		} else {
			assert_int_equal(last.sense[0], 0x70);
		}
	}
}

static void assert_failed_at(unsigned key, unsigned code, uint32_t lba)
{
	ASSERT_SENSE(key, code);
	assert_int_equal(last.sense[0], 0xf0);
	assert_int_equal(get_be32(last.sense + 3), lba);
}

/* The block in a long command that could not be read, whatever the command. */
static void medium_error_names_the_block(void **state)
{
	static uint8_t data[1024 * SECTOR];

	(void)state;
	rig.disk->fail_op = STORE_READ;
	rig.disk->fail_good_bytes = 3 * SECTOR + 100;
	rig.disk->fail_res = -EIO;
	RUN(0x28, 0, 0, 0, 0, 7, 0, 0, 16);
	assert_failed_at(SENSE_MEDIUM_ERROR, 0x1100, 10);
	/* FUA: a flush goes before it. */
	rig.disk->fail_res = -EIO;
	RUN(0x28, 0x08, 0, 0, 0, 7, 0, 0, 16);
	assert_failed_at(SENSE_MEDIUM_ERROR, 0x1100, 10);
	/* VERIFY without data. */
	rig.disk->fail_res = -EIO;
	RUN(0x2f, 0, 0, 0, 1, 0, 0, 4, 0);
	assert_failed_at(SENSE_MEDIUM_ERROR, 0x1100, 256 + 3);
	/* COMPARE AND WRITE. */
	rig.disk->fail_res = -EIO;
	OUT(data, 8 * SECTOR, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 4);
	assert_failed_at(SENSE_MEDIUM_ERROR, 0x1100, 12);
	/* ORWRITE: what it has read is no measure of what it then can't write. */
	rig.disk->fail_res = -EIO;
	OUT(data, 8 * SECTOR, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8);
	assert_failed_at(SENSE_MEDIUM_ERROR, 0x1100, 12);
	rig.disk->fail_op = STORE_WRITE;
	rig.disk->fail_res = -EIO;
	OUT(data, 8 * SECTOR, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8);
	assert_failed_at(SENSE_HARDWARE_ERROR, 0x0c00, 9);
}

static void verify_compares(void **state)
{
	static const uint8_t cdbs[][16] = {
		{0x2f, 0x02, 0, 0, 0, 0, 0, 0x04, 0},
		{0xaf, 0x02, 0, 0, 0, 0, 0, 0, 0x04, 0},
		{0x8f, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x04, 0},
	};
	uint32_t bytes = 1024 * SECTOR;
	uint8_t *sent = malloc(bytes);

	(void)state;
	assert_non_null(sent);
	fill(rig.disk->data, bytes, 3);
	memcpy(sent, rig.disk->data, bytes);
	for (unsigned i = 0; i < ARRAY_COUNT(cdbs); i++) {
		uint8_t cdb[16];

		run_on(rig.a, 0, cdbs[i], sent, bytes);
		ASSERT_GOOD();
		/* In the last byte, in a piece that is not the first. */
		sent[bytes - 1] ^= 1;
		run_on(rig.a, 0, cdbs[i], sent, bytes);
		ASSERT_SENSE(SENSE_MISCOMPARE, 0x1d00);
		sent[bytes - 1] ^= 1;
		/* BYTCHK 0 has no data, and reads. */
		memcpy(cdb, cdbs[i], 16);
		cdb[1] = 0;
		rig.disk->fail_op = STORE_READ;
		rig.disk->fail_res = -EIO;
		run_on(rig.a, 0, cdb, NULL, 0);
		assert_int_equal(last.direction, SCSI_DATA_NONE);
		ASSERT_SENSE(SENSE_MEDIUM_ERROR, 0x1100);
		run_on(rig.a, 0, cdb, NULL, 0);
		ASSERT_GOOD();
	}
	free(sent);
}

static void write_and_verify_is_durable(void **state)
{
	static const uint8_t cdbs[][16] = {
		{0x2e, 0x02, 0, 0, 0, 9, 0, 0, 2},
		{0xae, 0x02, 0, 0, 0, 9, 0, 0, 0, 2},
		{0x8e, 0x02, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2},
		{0x2e, 0x00, 0, 0, 0, 9, 0, 0, 2},
	};
	uint8_t sent[2 * SECTOR];

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(cdbs); i++) {
		fill(sent, sizeof(sent), (uint8_t)i);
		run_on(rig.a, 0, cdbs[i], sent, sizeof(sent));
		ASSERT_GOOD();
		assert_true(rig.disk->fua_seen);
		assert_memory_equal(rig.disk->data + 9 * SECTOR, sent, sizeof(sent));
	}
}

static void orwrite_merges(void **state)
{
	uint32_t bytes = 600 * SECTOR;
	uint8_t *sent = malloc(bytes);

	(void)state;
	assert_non_null(sent);
	memset(sent, 0x0f, bytes);
	memset(rig.disk->data, 0xa5, bytes);
	run_on(rig.a, 0, CDB(0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x58), sent, bytes);
	ASSERT_GOOD();
	assert_true(rig.disk->fua_seen);
	for (uint32_t i = 0; i < bytes; i++)
		assert_int_equal(rig.disk->data[i], 0xaf);
	assert_int_equal(rig.disk->data[bytes], 0);
	free(sent);
}

static void compare_and_write(void **state)
{
	uint8_t sent[4 * SECTOR];

	(void)state;
	fill(rig.disk->data, 2 * SECTOR, 1);
	memcpy(sent, rig.disk->data, 2 * SECTOR);
	memset(sent + 2 * SECTOR, 0x99, 2 * SECTOR);
	OUT(sent, sizeof(sent), 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
	ASSERT_GOOD();
	assert_int_equal(last.transfer_bytes, 4 * SECTOR);
	assert_int_equal(rig.disk->data[0], 0x99);
	assert_int_equal(rig.disk->data[2 * SECTOR - 1], 0x99);
	assert_int_equal(rig.disk->data[2 * SECTOR], 0);
	/* The medium is different now; the sense says where. */
	memset(sent, 0x99, 700);
	OUT(sent, sizeof(sent), 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
	ASSERT_SENSE(SENSE_MISCOMPARE, 0x1d00);
	assert_int_equal(last.sense[0], 0xf0);
	assert_int_equal(get_be32(last.sense + 3), 700);
	OUT(sent, sizeof(sent) - 1, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
}

static void write_same_fills(void **state)
{
	uint8_t sent[SECTOR];

	(void)state;
	fill(sent, sizeof(sent), 5);
	OUT(sent, SECTOR, 0x41, 0, 0, 0, 0, 3, 0, 0x04, 0x00);
	ASSERT_GOOD();
	for (unsigned i = 3; i < 3 + 1024; i++)
		assert_memory_equal(rig.disk->data + i * SECTOR, sent, SECTOR);
	assert_int_equal(rig.disk->data[2 * SECTOR], 0);
	assert_int_equal(rig.disk->data[(3 + 1024) * SECTOR], 0);
	/* To the end; then with UNMAP, which gives the blocks back whatever the data says. */
	OUT(sent, SECTOR, 0x93, 0, 0, 0, 0, 0, 0, 0, (DISK_BLOCKS - 8) >> 8,
	    (DISK_BLOCKS - 8) & 0xff);
	ASSERT_GOOD();
	assert_memory_equal(rig.disk->data + DISK_BYTES - SECTOR, sent, SECTOR);
	assert_true(rig.disk->mapped[DISK_BYTES / STORE_BLOCK_BYTES - 1]);
	OUT(sent, SECTOR, 0x93, 0x08, 0, 0, 0, 0, 0, 0, (DISK_BLOCKS - 8) >> 8,
	    (DISK_BLOCKS - 8) & 0xff);
	ASSERT_GOOD();
	assert_int_equal(rig.disk->data[DISK_BYTES - SECTOR], 0);
	assert_false(rig.disk->mapped[DISK_BYTES / STORE_BLOCK_BYTES - 1]);
	/* Zeros without UNMAP stay mapped. */
	memset(sent, 0, SECTOR);
	OUT(sent, SECTOR, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16);
	ASSERT_GOOD();
	assert_int_equal(rig.disk->data[15 * SECTOR], 0);
	assert_true(rig.disk->mapped[0] && rig.disk->mapped[1]);
	OUT(sent, SECTOR, 0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8);
	assert_false(rig.disk->mapped[0]);
	/* NDOB, with and without UNMAP, has no data. */
	RUN(0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8);
	ASSERT_GOOD();
	assert_int_equal(last.direction, SCSI_DATA_NONE);
	assert_true(rig.disk->mapped[0]);
	RUN(0x93, 0x09);
	ASSERT_GOOD();
	assert_false(rig.disk->mapped[0] || rig.disk->mapped[DISK_BYTES / STORE_BLOCK_BYTES - 1]);
}

static void write_same_refuses(void **state)
{
	static const uint8_t sent[2 * SECTOR];
	struct fake_disk *large = fake_disk_new(1ull << 40, 4096);

	(void)state;
	RUN(0x93, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1); /* ANCHOR */
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	RUN(0x41, 0x18, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	OUT(sent, SECTOR / 2, 0x41, 0x08, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	memset(&last, 0, sizeof(last));
	last.nexus = rig.a;
	last.cdb[0] = 0x41;
	last.cdb[8] = 1;
	last.expected_bytes = 2 * SECTOR;
	last.done = count_done;
	scsi_task_parse(&last);
	last.data = room;
	last.data_room_bytes = SECTOR;
	scsi_task_execute(&last);
	fake_run(rig.disk);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	/* Past the limit of VPD page B0h, named or to the end. */
	add_unit(5, large, false);
	forget_attentions(rig.a);
	run_on(rig.a, 5ull << 48, CDB(0x93, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1), NULL, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	run_on(rig.a, 5ull << 48, CDB(0x93, 1), NULL, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	/* Blocks beyond 32 bits. */
	run_on(rig.a, 5ull << 48, CDB(0x25), NULL, 8);
	assert_int_equal(get_be32(room), (1ull << 31) - 1);
	run_on(rig.a, 5ull << 48, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), NULL, 32);
	assert_int_equal(get_be64(room), (1ull << 31) - 1);
}

static void unmap_list(uint8_t *list, unsigned descriptors)
{
	memset(list, 0, 8 + 16 * descriptors);
	put_be16(list, (uint16_t)(6 + 16 * descriptors));
	put_be16(list + 2, (uint16_t)(16 * descriptors));
}

static void unmap_gives_back(void **state)
{
	uint8_t list[8 + 16 * 3];

	(void)state;
	memset(rig.disk->data, 0x11, DISK_BYTES);
	memset(rig.disk->mapped, 1, DISK_BYTES / STORE_BLOCK_BYTES);
	RUN(0x42);
	ASSERT_GOOD();
	unmap_list(list, 0);
	OUT(list, 8, 0x42, 0, 0, 0, 0, 0, 0, 0, 8);
	ASSERT_GOOD();
	unmap_list(list, 3);
	put_be64(list + 8, 8);
	put_be32(list + 16, 8);
	put_be64(list + 24, DISK_BLOCKS); /* nothing, at the very end */
	put_be64(list + 40, 16);
	put_be32(list + 48, 4);
	OUT(list, sizeof(list), 0x42, 0, 0, 0, 0, 0, 0, 0, sizeof(list));
	ASSERT_GOOD();
	assert_false(rig.disk->mapped[1]);
	assert_true(rig.disk->mapped[0] && rig.disk->mapped[2]);
	assert_int_equal(rig.disk->data[8 * SECTOR], 0);
	assert_int_equal(rig.disk->data[20 * SECTOR - 1], 0);
	assert_int_equal(rig.disk->data[20 * SECTOR], 0x11);
}

static void unmap_wrong_lists(void **state)
{
	static uint8_t list[8 + 16 * (LIMIT_UNMAP_DESCRIPTORS + 1)];
	unsigned submits = rig.disk->submits;

	(void)state;
	unmap_list(list, 2);
	put_be32(list + 16, 1);
	put_be64(list + 24, DISK_BLOCKS - 1);
	put_be32(list + 32, 2);
	OUT(list, 40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2100);
	OUT(list, 39, 0x42, 0, 0, 0, 0, 0, 0, 0, 40);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x1a00);
	OUT(list, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x1a00);
	OUT(list, 7, 0x42, 0, 0, 0, 0, 0, 0, 0, 7);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x1a00);
	RUN(0x42, 0x01, 0, 0, 0, 0, 0, 0, 8);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	unmap_list(list, LIMIT_UNMAP_DESCRIPTORS + 1);
	OUT(list, sizeof(list), 0x42, 0, 0, 0, 0, 0, 0, sizeof(list) >> 8, sizeof(list) & 0xff);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2600);
	unmap_list(list, LIMIT_UNMAP_DESCRIPTORS);
	for (unsigned i = 0; i < LIMIT_UNMAP_DESCRIPTORS; i++)
		put_be32(list + 16 + 16 * i, DISK_BLOCKS); /* together more than the limit */
	OUT(list, sizeof(list) - 16, 0x42, 0, 0, 0, 0, 0, 0, (sizeof(list) - 16) >> 8,
	    (sizeof(list) - 16) & 0xff);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2600);
	assert_int_equal(rig.disk->submits, submits);
}

static void lba_status_begins_where_asked(void **state)
{
	(void)state;
	rig.disk->mapped[1] = rig.disk->mapped[2] = 1;
	RUN(0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 0);
	ASSERT_GOOD();
	assert_int_equal(last.data_bytes, 8 + 3 * 16);
	assert_int_equal(get_be32(room), last.data_bytes - 4);
	assert_int_equal(get_be64(room + 8), 3);
	assert_int_equal(get_be32(room + 16), 5);
	assert_int_equal(room[20], 1);
	assert_int_equal(get_be64(room + 24), 8);
	assert_int_equal(get_be32(room + 32), 16);
	assert_int_equal(room[36], 0);
	assert_int_equal(get_be64(room + 40), 24);
	assert_int_equal(get_be32(room + 48), DISK_BLOCKS - 24);
	RUN(0x9e, 0x12, 0, 0, 0, 0, 0, 0, DISK_BLOCKS >> 8, 0, 0, 0, 1, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2100);
	/* The disk is being exchanged; it could not be read. */
	rig.disk->extent_res = -EAGAIN;
	RUN(0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 0);
	assert_int_equal(last.status, SCSI_BUSY);
	assert_int_equal(last.data_bytes, 0);
	rig.disk->extent_res = -EIO;
	RUN(0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 0);
	ASSERT_SENSE(SENSE_HARDWARE_ERROR, 0x4400);
	rig.disk->extent_res = 0;
	/* More runs than descriptors fit. */
	for (unsigned i = 0; i < DISK_BYTES / STORE_BLOCK_BYTES; i += 2)
		rig.disk->mapped[i] = 1, rig.disk->mapped[i + 1] = 0;
	RUN(0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff);
	ASSERT_GOOD();
	assert_int_equal(last.data_bytes, 8 + 255 * 16);
}

static void read_only_disk(void **state)
{
	static const uint8_t opcodes[] = {0x0a, 0x2a, 0x2e, 0x41, 0x42, 0x89,
					  0x8a, 0x8b, 0x8e, 0x93, 0xaa, 0xae};

	(void)state;
	rig.device->units[0]->read_only = true;
	for (unsigned i = 0; i < sizeof(opcodes); i++) {
		RUN(opcodes[i]);
		ASSERT_SENSE(SENSE_DATA_PROTECT, 0x2700);
	}
	RUN(0x1a, 8, 0x08, 0, 255);
	assert_int_equal(room[2], 0x90);
	RUN(0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_GOOD();
}

/* --- state of the unit --- */

static void stopped_unit(void **state)
{
	(void)state;
	RUN(0x1b, 0, 0, 0, 0);
	ASSERT_GOOD();
	assert_int_equal(rig.disk->flushes, 1);
	RUN(0x00);
	ASSERT_SENSE(SENSE_NOT_READY, 0x0402);
	RUN(0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	ASSERT_SENSE(SENSE_NOT_READY, 0x0402);
	RUN(0x03, 0, 0, 0, 18);
	assert_int_equal(room[2], SENSE_NOT_READY);
	RUN(0x12, 0, 0, 0, 96);
	ASSERT_GOOD();
	RUN(0x1b, 0, 0, 0, 1);
	ASSERT_GOOD();
	RUN(0x00);
	ASSERT_GOOD();
	/* Power conditions change nothing; ejecting is not for fixed disks. */
	RUN(0x1b, 0, 0, 0, 0x30);
	ASSERT_GOOD();
	RUN(0x1b, 0, 0, 0, 0x40);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	RUN(0x1b, 0, 0, 0, 0x02);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	RUN(0x00);
	ASSERT_GOOD();
	/* NO_FLUSH; and a flush that fails leaves the unit running. */
	RUN(0x1b, 0, 0, 0, 0x04);
	assert_int_equal(rig.disk->flushes, 1);
	RUN(0x1b, 0, 0, 0, 1);
	rig.disk->fail_op = STORE_FLUSH;
	rig.disk->fail_res = -EIO;
	RUN(0x1b, 0, 0, 0, 0);
	ASSERT_SENSE(SENSE_HARDWARE_ERROR, 0x0c00);
	RUN(0x00);
	ASSERT_GOOD();
}

static void removable_medium(void **state)
{
	(void)state;
	RUN_LUN3(0x1e, 0, 0, 0, 1);
	RUN_LUN3(0x1b, 0, 0, 0, 0x02);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x5302);
	run_on(rig.b, 3ull << 48, CDB(0x1b, 0, 0, 0, 0x02), NULL, 0); /* by whomever */
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x5302);
	RUN_LUN3(0x1e);
	RUN_LUN3(0x1b, 0, 0, 0, 0x02);
	ASSERT_GOOD();
	RUN_LUN3(0x00);
	ASSERT_SENSE(SENSE_NOT_READY, 0x3a00);
	RUN_LUN3(0x25);
	ASSERT_SENSE(SENSE_NOT_READY, 0x3a00);
	RUN_LUN3(0x35);
	ASSERT_SENSE(SENSE_NOT_READY, 0x3a00);
	RUN_LUN3(0x1b, 0, 0, 0, 0x01);
	ASSERT_SENSE(SENSE_NOT_READY, 0x3a00);
	RUN_LUN3(0x1b, 0, 0, 0, 0x03);
	ASSERT_GOOD();
	RUN_LUN3(0x00);
	ASSERT_GOOD();
	run_on(rig.b, 3ull << 48, CDB(0x00), NULL, 0);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2800);
	RUN_LUN3(0x1e, 0, 0, 0, 2);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	/* Nothing but LOEJ takes it away. */
	RUN_LUN3(0x1b, 0, 0, 0, 0x00);
	ASSERT_GOOD();
	RUN_LUN3(0x00);
	ASSERT_GOOD();
	for (unsigned condition = 1; condition < 16; condition++) {
		RUN_LUN3(0x1b, 1, 0, 0, (uint8_t)(condition << 4 | 0x02));
		ASSERT_GOOD();
		RUN_LUN3(0x00);
		ASSERT_GOOD();
	}
}

/* A node that ejected or stopped its disk at shutdown must boot again. */
static void last_nexus_gone_is_power_on(void **state)
{
	uint8_t list[16];

	(void)state;
	control_page(list, 0, 0x08);
	OUT(list, 16, 0x15, 0x10, 0, 0, 16);
	RUN(0x1b, 0, 0, 0, 0);
	ASSERT_GOOD();
	RUN_LUN3(0x1e, 0, 0, 0, 1);
	scsi_nexus_free(rig.b);
	RUN(0x00);
	ASSERT_SENSE(SENSE_NOT_READY, 0x0402);
	scsi_nexus_free(rig.a);
	assert_int_equal(scsi_nexus_new(rig.device, "iqn.x:a,i,0x1", &rig.a), 0);
	assert_int_equal(scsi_nexus_new(rig.device, "iqn.x:b,i,0x2", &rig.b), 0);
	RUN(0x00);
	ASSERT_SENSE(SENSE_UNIT_ATTENTION, 0x2900);
	RUN(0x00);
	ASSERT_GOOD();
	assert_false(rig.device->units[0]->software_wp);
}

/* --- what commands there are --- */

static const uint8_t *find_descriptor(const uint8_t *list, uint32_t bytes, unsigned size,
				      uint8_t opcode, unsigned action)
{
	for (uint32_t at = 4; at + size <= bytes; at += size) {
		if (list[at] == opcode && get_be16(list + at + 2) == action)
			return list + at;
	}
	return NULL;
}

static void reported_commands_match_the_table(void **state)
{
	static uint8_t list[REPLY_BYTES_MAX];
	uint32_t bytes, count = 0;

	(void)state;
	for (unsigned i = 1; i < scsi_command_count; i++) {
		const struct scsi_command *a = &scsi_commands[i - 1], *b = &scsi_commands[i];

		assert_true(a->opcode < b->opcode ||
			    (a->opcode == b->opcode && a->action < b->action));
	}
	RUN_LUN3(0xa3, 0x0c, 0x80, 0, 0, 0, 0, 0, 0x20, 0);
	ASSERT_GOOD();
	bytes = last.data_bytes;
	memcpy(list, room, bytes);
	assert_int_equal(get_be32(list), bytes - 4);
	assert_int_equal(bytes, 4 + 20 * scsi_command_count);
	for (unsigned i = 0; i < scsi_command_count; i++) {
		const struct scsi_command *command = &scsi_commands[i];
		uint8_t option = command->has_action ? 2 : 1;
		const uint8_t *d =
			find_descriptor(list, bytes, 20, command->opcode, command->action);

		assert_non_null(d);
		assert_int_equal(d[5], command->has_action ? 3 : 2);
		assert_int_equal(get_be16(d + 6), command->cdb_bytes);
		assert_int_equal(get_be16(d + 8), 10);
		for (unsigned o = 1; o <= 3; o++) {
			run_on(rig.a, 3ull << 48,
			       CDB(0xa3, 0x0c, (uint8_t)o, command->opcode, 0, command->action, 0,
				   0, 1, 0),
			       NULL, 256);
			if (o != 3 && o != option) {
				ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
				assert_int_equal(last.sense[15] & 0xc0, 0xc0);
				assert_true(get_be16(last.sense + 16) >= 2);
				continue;
			}
			ASSERT_GOOD();
			assert_int_equal(room[1], 0x03);
			assert_int_equal(last.data_bytes, 4u + command->cdb_bytes);
			assert_int_equal(room[4], command->opcode);
			if (command->has_action)
				assert_int_equal(room[5] & 0x1f, command->action);
		}
		count++;
	}
	assert_int_equal(count, scsi_command_count);
	/* A fixed disk has one less. */
	RUN(0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0x20, 0);
	assert_int_equal(last.data_bytes, 4 + 8 * (scsi_command_count - 1));
	RUN(0xa3, 0x0c, 1, 0x1e, 0, 0, 0, 0, 1, 0);
	assert_int_equal(room[1], 0x01);
	RUN(0xa3, 0x0c, 1, 0xff, 0, 0, 0, 0, 1, 0);
	assert_int_equal(room[1], 0x01);
	RUN(0xa3, 0x0c, 2, 0x9e, 0, 0x1f, 0, 0, 1, 0);
	assert_int_equal(room[1], 0x01);
	RUN(0xa3, 0x0c, 3, 0x28, 0, 0x05, 0, 0, 1, 0);
	assert_int_equal(room[1], 0x01);
	RUN(0xa3, 0x0c, 4, 0x28, 0, 0, 0, 0, 1, 0);
	ASSERT_SENSE(SENSE_ILLEGAL_REQUEST, 0x2400);
	/* An action that is larger than its field is not the one of its low bits. */
	RUN(0xa3, 0x0c, 2, 0x9e, 0x01, 0x10, 0, 0, 1, 0);
	assert_int_equal(room[1], 0x01);
}

/* --- order and aborts --- */

struct queued {
	struct scsi_task task;
	uint8_t data[SECTOR];
	unsigned rank; /* 1: done first */
};

static unsigned ranks;

static void rank_done(struct scsi_task *task)
{
	struct queued *queued = CONTAINER_OF(task, struct queued, task);

	assert_int_equal(queued->rank, 0);
	queued->rank = ++ranks;
}

static void enqueue(struct queued *queued, enum scsi_attribute attribute, const uint8_t cdb[16])
{
	memset(queued, 0, sizeof(*queued));
	queued->task.nexus = rig.a;
	queued->task.attribute = attribute;
	queued->task.done = rank_done;
	memcpy(queued->task.cdb, cdb, 16);
	scsi_task_parse(&queued->task);
	queued->task.data = queued->data;
	queued->task.data_room_bytes = SECTOR;
	scsi_task_execute(&queued->task);
}

static void ordered_task_waits(void **state)
{
	static const uint8_t read[16] = {0x28, 0, 0, 0, 0, 0, 0, 0, 1};
	struct queued q[5];

	(void)state;
	ranks = 0;
	rig.disk->hold = true;
	enqueue(&q[0], SCSI_SIMPLE, read);
	enqueue(&q[1], SCSI_SIMPLE, read);
	enqueue(&q[2], SCSI_ORDERED, read);
	enqueue(&q[3], SCSI_SIMPLE, read);
	enqueue(&q[4], SCSI_HEAD_OF_QUEUE, read);
	fake_run(rig.disk);
	assert_int_equal(rig.disk->submits, 3); /* both before it, and the head of queue */
	assert_true(q[4].task.started && !q[2].task.started && !q[3].task.started);
	fake_disk_complete(rig.disk);
	fake_run(rig.disk);
	assert_false(q[2].task.started);
	fake_disk_complete(rig.disk);
	fake_run(rig.disk);
	assert_true(q[2].task.started);
	assert_false(q[3].task.started);
	rig.disk->hold = false;
	fake_run(rig.disk);
	assert_int_equal(ranks, 5);
	assert_int_equal(rig.device->units[0]->barrier_count, 0);
	assert_true(q[2].rank < q[3].rank && q[2].rank > q[0].rank && q[2].rank > q[1].rank);
}

static void indivisible_command_runs_alone(void **state)
{
	static const uint8_t caw[16] = {0x89},
			     orwrite[16] = {0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
	static const uint8_t write[16] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1};
	struct queued q[4];

	(void)state;
	ranks = 0;
	rig.disk->hold = true;
	enqueue(&q[0], SCSI_SIMPLE, orwrite);
	enqueue(&q[1], SCSI_HEAD_OF_QUEUE, write);
	enqueue(&q[2], SCSI_SIMPLE, caw);
	enqueue(&q[3], SCSI_SIMPLE, write);
	fake_run(rig.disk);
	assert_int_equal(rig.disk->submits, 1);
	rig.disk->hold = false;
	fake_run(rig.disk);
	assert_int_equal(ranks, 4);
	assert_int_equal(q[0].rank, 1);
	assert_true(q[2].rank < q[3].rank);
	assert_null(rig.device->units[0]->alone);
}

static void abort_cuts_waits_short(void **state)
{
	static const uint8_t write[16] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1};
	struct queued q[3];

	(void)state;
	ranks = 0;
	memset(&q[0], 0, sizeof(q[0]));
	q[0].task.nexus = rig.a;
	scsi_task_parse(&q[0].task);
	scsi_task_abort(&q[0].task); /* not executed */
	rig.disk->hold = true;
	enqueue(&q[0], SCSI_SIMPLE, write);
	enqueue(&q[1], SCSI_ORDERED, write);
	enqueue(&q[2], SCSI_SIMPLE, write);
	scsi_task_abort(&q[1].task);
	scsi_task_abort(&q[1].task);
	assert_int_equal(ranks, 0);
	fake_run(rig.disk);
	assert_int_equal(q[1].rank, 1);
	assert_int_equal(q[1].task.status, SCSI_TASK_ABORTED);
	assert_true(q[2].task.started); /* what waited for the ordered one */
	scsi_task_abort(&q[0].task);
	assert_int_equal(rig.disk->cancels, 1);
	fake_run(rig.disk);
	assert_int_equal(ranks, 3);
	assert_int_equal(q[0].task.status, SCSI_TASK_ABORTED);
	assert_int_equal(q[2].task.status, SCSI_GOOD);
	scsi_task_abort(&q[2].task); /* done */
	assert_int_equal(rig.disk->cancels, 1);
}

/* File I/O under way can't be taken back; the command still ends at its next step. */
static void abort_ends_long_command(void **state)
{
	static const uint8_t fill_all[16] = {0x93, 0x01};
	struct queued q;

	(void)state;
	ranks = 0;
	rig.disk->hold = rig.disk->stubborn = true;
	enqueue(&q, SCSI_SIMPLE, fill_all);
	fake_disk_complete(rig.disk);
	scsi_task_abort(&q.task);
	rig.disk->hold = false;
	fake_run(rig.disk);
	assert_int_equal(q.rank, 1);
	assert_int_equal(q.task.status, SCSI_TASK_ABORTED);
	assert_int_equal(rig.disk->writes, 2);
	assert_int_equal(fake_bufs_out(), 0);
}

/* --- the rest --- */

static void unit_taken_twice(void **state)
{
	struct fake_disk *disk = fake_disk_new(DISK_BYTES, DISK_BYTES);
	struct scsi_unit_config config = {.lun = 3, .disk = &disk->disk};
	struct store_stats stats;

	(void)state;
	assert_int_equal(scsi_device_add_unit(rig.device, &config), -EEXIST);
	disk->disk.ops->free(&disk->disk);
	scsi_device_stats(rig.device, 8, &stats);
	assert_int_equal(stats.writes, 0);
	rig.disk->writes = 4;
	scsi_device_stats(rig.device, 0, &stats);
	assert_int_equal(stats.writes, 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_command_plain_is_good),
		TEST(reserved_bit_is_pointed_at),
		TEST(usage_bit_is_accepted),
		TEST(out_of_range_is_refused),
		TEST(unknown_command_is_refused),
		TEST(transfer_above_maximum_is_refused),
		TEST(report_is_cut_at_every_length),
		TEST(inquiry_tells_the_truth),
		TEST(each_listed_page_is_readable),
		TEST(identity_comes_from_uuid),
		TEST(absent_unit),
		TEST(lun_address_forms),
		TEST(attention_told_once_to_each_nexus),
		TEST(attention_passes_inquiry_by),
		TEST(attention_comes_before_other_faults),
		TEST(attentions_in_order),
		TEST(power_on_swallows_the_rest),
		TEST(report_luns_tells_luns_changed),
		TEST(reserved_unit_conflicts),
		TEST(reservation_ends),
		TEST(mode_sense_pages),
		TEST(software_write_protect),
		TEST(descriptor_sense),
		TEST(mode_select_wrong_lists),
		TEST(write_then_read),
		TEST(short_data_out_writes_whole_blocks),
		TEST(small_room_reads_what_fits),
		TEST(fua_read_flushes_first),
		TEST(scratch_offers_no_fua),
		TEST(store_failure_is_translated),
		TEST(medium_error_names_the_block),
		TEST(verify_compares),
		TEST(write_and_verify_is_durable),
		TEST(orwrite_merges),
		TEST(compare_and_write),
		TEST(write_same_fills),
		TEST(write_same_refuses),
		TEST(unmap_gives_back),
		TEST(unmap_wrong_lists),
		TEST(lba_status_begins_where_asked),
		TEST(read_only_disk),
		TEST(stopped_unit),
		TEST(removable_medium),
		TEST(last_nexus_gone_is_power_on),
		TEST(reported_commands_match_the_table),
		TEST(ordered_task_waits),
		TEST(indivisible_command_runs_alone),
		TEST(abort_cuts_waits_short),
		TEST(abort_ends_long_command),
		TEST(unit_taken_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
