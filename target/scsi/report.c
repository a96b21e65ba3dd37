/*
 * What a unit tells of itself and its device: LUNs, commands, capacity, provisioning, sense; and
 * the small commands that change or ask its state.
 */
#include <errno.h>
#include <string.h>

#include "scsi/scsi_internal.h"

/* Runs of equal provisioning looked up for one GET LBA STATUS; it runs on the ring's thread. */
#define EXTENT_LOOKUPS_MAX 4096

/* --- REPORT LUNS (SPC-4, 6.33) --- */

bool scsi_report_luns(struct scsi_task *task)
{
	const struct scsi_device *device = task->nexus->device;
	struct scsi_reply reply;
	uint8_t *header;

	/* 1 asks for well-known units, of which there are none; 2 for both kinds. */
	if (task->cdb[2] > 2)
		return scsi_fail_cdb(task, 2, NO_BIT);
	reply.bytes = 0;
	header = scsi_reply_add(&reply, 8);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE && task->cdb[2] != 1; i++) {
		if (device->units[i])
			scsi_reply_add(&reply, 8)[1] = (uint8_t)i;
	}
	put_be32(header, reply.bytes - 8);
	scsi_nexus_forget_luns_changed(task->nexus);
	return scsi_reply_send(task, &reply);
}

/* --- REPORT SUPPORTED OPERATION CODES (SPC-4, 6.35) --- */

#define TIMEOUTS_BYTES 12

static void add_timeouts(struct scsi_reply *reply, const struct scsi_command *command)
{
	uint8_t *p = scsi_reply_add(reply, TIMEOUTS_BYTES);

	if (!p)
		return;
	put_be16(p, TIMEOUTS_BYTES - 2);
	put_be32(p + 8, command->timeout_s);
}

static bool report_all(struct scsi_task *task, bool timeouts)
{
	const struct scsi_unit *unit = scsi_task_unit(task);
	struct scsi_reply reply;
	uint8_t *header;

	reply.bytes = 0;
	header = scsi_reply_add(&reply, 4);
	for (unsigned i = 0; i < scsi_command_count; i++) {
		const struct scsi_command *command = &scsi_commands[i];
		uint8_t *p;

		if (!scsi_command_supported(command, unit))
			continue;
		p = scsi_reply_add(&reply, 8);
		assert(p);
		p[0] = command->opcode;
		if (command->has_action) {
			put_be16(p + 2, command->action);
			p[5] |= 0x01; /* SERVACTV */
		}
		put_be16(p + 6, command->cdb_bytes);
		if (timeouts) {
			p[5] |= 0x02; /* CTDP */
			add_timeouts(&reply, command);
		}
	}
	put_be32(header, reply.bytes - 4);
	return scsi_reply_send(task, &reply);
}

static bool report_one(struct scsi_task *task, const struct scsi_command *command, bool timeouts)
{
	struct scsi_reply reply;
	uint8_t *p;

	reply.bytes = 0;
	p = scsi_reply_add(&reply, 4);
	if (!command || !scsi_command_supported(command, scsi_task_unit(task))) {
		p[1] = 0x01; /* SUPPORT: no */
		return scsi_reply_send(task, &reply);
	}
	p[1] = 0x03; /* SUPPORT: as the standard says */
	put_be16(p + 2, command->cdb_bytes);
	p = scsi_reply_add(&reply, command->cdb_bytes);
	p[0] = command->opcode;
	for (unsigned i = 1; i < command->cdb_bytes; i++)
		p[i] = scsi_command_mask(command, scsi_task_unit(task), i);
	if (command->has_action)
		p[1] = command->usage[0] | command->action;
	if (timeouts) {
		reply.data[1] |= 0x80; /* CTDP */
		add_timeouts(&reply, command);
	}
	return scsi_reply_send(task, &reply);
}

/* The faults point at the field that is wrong: libiscsi's suite tells a command that is there
 * and refuses from one that is not by it. */
bool scsi_report_opcodes(struct scsi_task *task)
{
	const uint8_t *cdb = task->cdb;
	bool timeouts = cdb[2] & 0x80, opcode_known;
	unsigned action = get_be16(cdb + 4);
	const struct scsi_command *command = scsi_command_find(cdb[3], action, &opcode_known);
	const struct scsi_command *any = command;

	if (opcode_known && !any) { /* some row of the opcode tells whether it has actions */
		for (unsigned i = 0; i < scsi_command_count && !any; i++) {
			if (scsi_commands[i].opcode == cdb[3])
				any = &scsi_commands[i];
		}
	}
	switch (cdb[2] & 0x07) {
	case 0: return report_all(task, timeouts);
	case 1:
		if (any && any->has_action)
			return scsi_fail_cdb(task, 2, 2);
		return report_one(task, command, timeouts);
	case 2:
		if (any && !any->has_action)
			return scsi_fail_cdb(task, 2, 2);
		return report_one(task, command, timeouts);
	case 3:
		/* An opcode without actions has, as it were, action zero only. */
		if (any && !any->has_action && action != 0)
			command = NULL;
		return report_one(task, command, timeouts);
	default: return scsi_fail_cdb(task, 2, 2);
	}
}

/* SPC-4, 6.36; the functions of RFC 7143, 11.5.1. */
bool scsi_report_task_management(struct scsi_task *task)
{
	struct scsi_reply reply;
	bool extended = task->cdb[2] & 0x80; /* REPD */
	uint8_t *p;

	reply.bytes = 0;
	p = scsi_reply_add(&reply, extended ? 16 : 4);
	p[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x02; /* ATS, ATSS, CTSS, LURS, TRS */
	if (extended)
		p[3] = 12;
	return scsi_reply_send(task, &reply);
}

/* --- REQUEST SENSE (SPC-4, 6.39) --- */

bool scsi_request_sense(struct scsi_task *task)
{
	const struct scsi_unit *unit = scsi_task_unit(task);
	struct scsi_fault fault = {.key = SENSE_NO_SENSE};
	struct scsi_reply reply;
	uint8_t sense[LIMIT_SENSE_BYTES];
	uint8_t bytes;

	/* Sense is always sent with its command; what is left to tell is the state. */
	if (!unit) {
		fault.key = SENSE_ILLEGAL_REQUEST;
		fault.asc_ascq = ASC_NO_UNIT;
	} else if (scsi_nexus_take_attention(task->nexus, unit, &fault.asc_ascq)) {
		fault.key = SENSE_UNIT_ATTENTION;
	} else if (unit->ejected) {
		fault.key = SENSE_NOT_READY;
		fault.asc_ascq = ASC_NO_MEDIUM;
	} else if (unit->stopped) {
		fault.key = SENSE_NOT_READY;
		fault.asc_ascq = ASC_NEEDS_START;
	}
	bytes = scsi_sense_build(&fault, task->cdb[1] & 0x01, sense);
	reply.bytes = 0;
	memcpy(scsi_reply_add(&reply, bytes), sense, bytes);
	return scsi_reply_send(task, &reply);
}

/* --- capacity and provisioning (SBC-3, 5.15, 5.16, 5.5) --- */

bool scsi_read_capacity_10(struct scsi_task *task)
{
	uint64_t last = scsi_unit_blocks(scsi_task_unit(task)) - 1;
	struct scsi_reply reply;
	uint8_t *p;

	reply.bytes = 0;
	p = scsi_reply_add(&reply, 8);
	put_be32(p, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
	put_be32(p + 4, SECTOR);
	return scsi_reply_send(task, &reply);
}

bool scsi_read_capacity_16(struct scsi_task *task)
{
	struct scsi_reply reply;
	uint8_t *p;

	static_assert(SECTORS_PER_BLOCK == 1u << 3, "LBPPBE below");
	reply.bytes = 0;
	p = scsi_reply_add(&reply, 32);
	put_be64(p, scsi_unit_blocks(scsi_task_unit(task)) - 1);
	put_be32(p + 8, SECTOR);
	p[13] = 3;           /* LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT */
	p[14] = 0x80 | 0x40; /* LBPME, LBPRZ */
	return scsi_reply_send(task, &reply);
}

/* One descriptor: the run of equal status at `lba`. Its blocks; 0 without any, and maybe why. */
static uint32_t find_run(struct store_disk *disk, uint64_t lba, uint64_t blocks, unsigned *lookups,
			 bool *ret_mapped, int *ret_res)
{
	uint64_t run = 0;

	if (blocks > UINT32_MAX)
		blocks = UINT32_MAX;
	while (run < blocks && *lookups) {
		bool mapped;
		uint64_t bytes;

		(*lookups)--;
		*ret_res = disk->ops->extent(disk, (lba + run) * SECTOR, (blocks - run) * SECTOR,
					     &mapped, &bytes);
		if (*ret_res < 0)
			break;
		assert(bytes >= SECTOR);
		if (run == 0)
			*ret_mapped = mapped;
		else if (mapped != *ret_mapped)
			break;
		run += bytes / SECTOR;
	}
	return (uint32_t)(run < blocks ? run : blocks);
}

bool scsi_get_lba_status(struct scsi_task *task)
{
	struct scsi_unit *unit = scsi_task_unit(task);
	uint64_t lba = get_be64(task->cdb + 2), capacity = scsi_unit_blocks(unit);
	unsigned lookups = EXTENT_LOOKUPS_MAX;
	struct scsi_reply reply;
	uint8_t *header;
	int res = 0;

	if (lba >= capacity)
		return scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
	reply.bytes = 0;
	header = scsi_reply_add(&reply, 8);
	/* At least the first descriptor, as many as were asked for, or as fit. */
	do {
		bool mapped = true;
		uint32_t run = find_run(unit->disk, lba, capacity - lba, &lookups, &mapped, &res);
		uint8_t *p;

		if (run == 0)
			break;
		p = scsi_reply_add(&reply, 16);
		if (!p)
			break;
		put_be64(p, lba);
		put_be32(p + 8, run);
		p[12] = mapped ? 0 : 1;
		lba += run;
	} while (lba < capacity && reply.bytes < task->transfer_bytes);
	if (reply.bytes == 8 && res == -EAGAIN)
		return scsi_fail_store(task, res);
	if (reply.bytes == 8)
		return scsi_fail(task, SENSE_HARDWARE_ERROR, ASC_INTERNAL_FAILURE);
	put_be32(header, reply.bytes - 4);
	return scsi_reply_send(task, &reply);
}

/* --- state --- */

bool scsi_test_unit_ready(struct scsi_task *task)
{
	return scsi_good(task); /* all that could be wrong was checked before */
}

/*
 * START STOP UNIT (SBC-3, 5.25). A stop flushes first; power conditions are accepted and mean
 * nothing. IMMED is not needed: all of it is quick but the flush, and that is better awaited.
 * A removable medium has no spindle that stops: without LOEJ it is flushed and stays ready, and no
 * power condition is strange to it.
 */
bool scsi_start_stop(struct scsi_task *task)
{
	struct scsi_unit *unit = scsi_task_unit(task);
	const uint8_t *cdb = task->cdb;
	unsigned condition = cdb[4] >> 4;
	bool no_flush = cdb[4] & 0x04, loej = cdb[4] & 0x02, start = cdb[4] & 0x01;

	if (condition != 0) {
		/* ACTIVE, IDLE, STANDBY, LU_CONTROL, FORCE_IDLE_0, FORCE_STANDBY_0 */
		bool known = (condition >= 1 && condition <= 3) || condition == 7 ||
			     condition == 0xa || condition == 0xb || unit->removable;

		return known ? scsi_good(task) : scsi_fail_cdb(task, 4, 7);
	}
	if (loej && !unit->removable)
		return scsi_fail_cdb(task, 4, 1);
	if (loej && scsi_unit_removal_prevented(unit))
		return scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_REMOVAL_PREVENTED);
	if (start) {
		if (!loej && unit->ejected)
			return scsi_fail(task, SENSE_NOT_READY, ASC_NO_MEDIUM);
		if (unit->ejected) {
			unit->ejected = false;
			scsi_unit_attention(unit, UA_MEDIUM_CHANGED, task->nexus);
		}
		unit->stopped = false;
		return scsi_good(task);
	}
	if (!no_flush && !unit->ejected && !unit->read_only) {
		scsi_io(task, STORE_FLUSH, 0, 0, NULL, false);
		return false;
	}
	return scsi_start_stop_resume(task, 0);
}

bool scsi_start_stop_resume(struct scsi_task *task, int res)
{
	struct scsi_unit *unit = scsi_task_unit(task);

	if (res < 0)
		return scsi_fail_store(task, res);
	if (task->cdb[4] & 0x02)
		unit->ejected = true;
	else
		unit->stopped = !unit->removable;
	return scsi_good(task);
}

bool scsi_prevent_allow(struct scsi_task *task)
{
	const struct scsi_unit *unit = scsi_task_unit(task);

	if (task->cdb[4] & 0x02) /* the obsolete kinds, for medium changers */
		return scsi_fail_cdb(task, 4, 1);
	task->nexus->luns[unit->lun].prevents_removal = task->cdb[4] & 0x01;
	return scsi_good(task);
}

bool scsi_reserve(struct scsi_task *task)
{
	scsi_task_unit(task)->reserved_by = task->nexus;
	return scsi_good(task);
}

/* From a nexus that holds nothing it is no error, and changes nothing (SPC-2, 7.19). */
bool scsi_release(struct scsi_task *task)
{
	struct scsi_unit *unit = scsi_task_unit(task);

	if (unit->reserved_by == task->nexus)
		unit->reserved_by = NULL;
	return scsi_good(task);
}
