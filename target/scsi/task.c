/*
 * The life of a task: what its CDB moves, when it may start, the checks every command goes
 * through, and its end.
 *
 * Order (SAM-5, 8): SIMPLE tasks start as they come. An ORDERED one waits for all that entered
 * its unit before it, and those behind it wait for it; a command that must be indivisible
 * (COMPARE AND WRITE, ORWRITE) is treated the same. Both are barriers. HEAD OF QUEUE starts at
 * once, unless an indivisible one runs. With no barrier in the unit nothing is searched.
 *
 * A task ends in two steps: its outcome is set and `finish` deferred; from the loop it leaves
 * its unit, those that waited for it start, and done is called.
 */
#include <errno.h>

#include "scsi/scsi_internal.h"

/* task->step between parse and start: the CDB field in error. */
#define STEP_FAULT(byte, bit) (0x10000u | (unsigned)(byte) << 8 | (bit))

static uint64_t length_field(const uint8_t *p, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | p[i];
	return v;
}

/* First bit that is set and means nothing to us, as a fault; 0 if there is none. */
static uint32_t find_bad_bit(const struct scsi_command *command, const struct scsi_unit *unit,
			     const uint8_t *cdb)
{
	for (unsigned i = 1; i < command->cdb_bytes; i++) {
		uint8_t bad = cdb[i] & (uint8_t)~scsi_command_mask(command, unit, i);

		if (bad)
			return STEP_FAULT(i, 31 - (unsigned)__builtin_clz(bad));
	}
	return 0;
}

/* Where a media command's length stands, for the field pointer. */
static unsigned blocks_field_at(uint8_t opcode)
{
	switch (opcode >> 5) {
	case 0: return 4;
	case 5: return 6;
	case 4: return opcode == 0x89 ? 13 : 10;
	default: return 7;
	}
}

void scsi_task_parse(struct scsi_task *task)
{
	bool opcode_known;
	const uint8_t *cdb = task->cdb;
	const struct scsi_command *command =
		scsi_command_find(cdb[0], cdb[1] & 0x1f, &opcode_known);
	uint64_t bytes = 0, lba;
	uint32_t blocks;

	task->direction = SCSI_DATA_NONE;
	task->transfer_bytes = 0;
	task->status = SCSI_GOOD;
	task->data_bytes = task->wanted_bytes = 0;
	task->sense_bytes = 0;
	task->command = command;
	task->unit = NULL;
	task->scratch = NULL;
	task->aborted = task->entered = task->started = task->in_io = false;
	task->step = 0;
	if (!command) {
		/* An unknown service action is an invalid field, an unknown opcode is none. */
		if (opcode_known)
			task->step = STEP_FAULT(1, 4);
		return;
	}
	task->step = find_bad_bit(command, scsi_unit_find(task->nexus->device, task->lun), cdb);
	if (task->step)
		return;

	scsi_cdb_range(cdb, &lba, &blocks);
	switch (command->length) {
	case LEN_NONE: break;
	case LEN_ALLOCATION:
		bytes = length_field(cdb + command->length_at, command->length_bytes);
		if (bytes > REPLY_BYTES_MAX)
			bytes = REPLY_BYTES_MAX;
		task->direction = SCSI_DATA_IN;
		break;
	case LEN_PARAMETERS:
		bytes = length_field(cdb + command->length_at, command->length_bytes);
		task->direction = SCSI_DATA_OUT;
		break;
	case LEN_FIXED:
		bytes = command->length_bytes;
		task->direction = SCSI_DATA_IN;
		break;
	case LEN_READ:
		bytes = (uint64_t)blocks * SECTOR;
		task->direction = SCSI_DATA_IN;
		break;
	case LEN_VERIFY:
		/* Without data the medium is read; the same bound keeps the work finite. */
		if (!(cdb[1] & 0x02) && blocks <= TRANSFER_BLOCKS_MAX)
			break;
		__attribute__((fallthrough));
	case LEN_WRITE:
		bytes = (uint64_t)blocks * SECTOR;
		task->direction = SCSI_DATA_OUT;
		break;
	case LEN_ONE_BLOCK:
		if (cdb[0] == 0x93 && cdb[1] & 0x01)
			break; /* NDOB */
		bytes = SECTOR;
		task->direction = SCSI_DATA_OUT;
		break;
	case LEN_COMPARE:
		bytes = (uint64_t)blocks * 2 * SECTOR;
		task->direction = SCSI_DATA_OUT;
		break;
	}
	if (bytes > LIMIT_IO_BUFFER_BYTES) {
		task->direction = SCSI_DATA_NONE;
		task->step = STEP_FAULT(blocks_field_at(cdb[0]), NO_BIT);
		return;
	}
	if (bytes == 0)
		task->direction = SCSI_DATA_NONE;
	task->transfer_bytes = (uint32_t)bytes;
}

/* --- running --- */

struct scsi_unit *scsi_task_unit(const struct scsi_task *task)
{
	return task->unit;
}

uint64_t scsi_unit_blocks(const struct scsi_unit *unit)
{
	return unit->disk->size_bytes / SECTOR;
}

static void end(struct scsi_task *task)
{
	assert(!task->in_io);
	if (task->scratch) {
		ring_buf_put(task->nexus->device->ring, task->scratch);
		task->scratch = NULL;
	}
	ring_defer(task->nexus->device->ring, &task->finish);
}

static void io_done(struct store_io *io, int res)
{
	struct scsi_task *task = CONTAINER_OF(io, struct scsi_task, io);
	const struct scsi_command *command = task->command;

	assert(task->in_io);
	task->in_io = false;
	/* An abort stops a command of many steps at the next one. */
	if (task->aborted && res == 0)
		res = -ECANCELED;
	if (res == -ECANCELED ? scsi_fail_store(task, res) : command->resume(task, res))
		end(task);
}

void scsi_io(struct scsi_task *task, enum store_op op, uint64_t lba, uint64_t blocks, void *data,
	     bool fua)
{
	struct store_io *io = &task->io;
	struct scsi_unit *unit = scsi_task_unit(task);

	assert(!task->in_io);
	assert(op == STORE_FLUSH || blocks > 0);
	io->op = op;
	io->fua = fua;
	io->offset_bytes = lba * SECTOR;
	io->length_bytes = blocks * SECTOR;
	io->data = data;
	io->good_bytes = 0;
	io->written = false;
	io->done = io_done;
	task->in_io = true;
	store_submit(unit->disk, io);
}

/* What all commands have in common, in the order of precedence: SAM-5, 5.3.3 (a reservation
 * conflict comes before any sense), 5.14 (unit attentions before the command's own faults). */
static bool check(struct scsi_task *task)
{
	const struct scsi_command *command = task->command;
	const struct scsi_unit *unit = scsi_task_unit(task);
	unsigned flags = command ? command->flags : 0;
	uint16_t asc_ascq;

	if (!unit && !(flags & CMD_ANY_LUN))
		return !scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_NO_UNIT);
	if (unit && scsi_reservation_conflict(task)) {
		task->status = SCSI_RESERVATION_CONFLICT;
		return false;
	}
	if (unit && !(flags & CMD_NO_ATTENTION) &&
	    scsi_nexus_take_attention(task->nexus, unit, &asc_ascq))
		return !scsi_fail(task, SENSE_UNIT_ATTENTION, asc_ascq);
	if (!task->step && (!command || !scsi_command_supported(command, unit)))
		return !scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
	if (task->step)
		return !scsi_fail_cdb(task, task->step >> 8 & 0xff, task->step & 0xff);
	if (!unit)
		return true;
	if (flags & CMD_MEDIUM && unit->ejected)
		return !scsi_fail(task, SENSE_NOT_READY, ASC_NO_MEDIUM);
	if (flags & CMD_MEDIUM && unit->stopped)
		return !scsi_fail(task, SENSE_NOT_READY, ASC_NEEDS_START);
	if (flags & CMD_WRITES && unit->read_only)
		return !scsi_fail(task, SENSE_DATA_PROTECT, ASC_WRITE_PROTECTED);
	if (flags & CMD_WRITES && unit->software_wp)
		return !scsi_fail(task, SENSE_DATA_PROTECT, ASC_SOFTWARE_WRITE_PROTECTED);
	return true;
}

static bool is_alone(const struct scsi_task *task)
{
	const struct scsi_command *command = task->command;

	return command && command->flags & CMD_ALONE;
}

static bool is_barrier(const struct scsi_task *task)
{
	return task->attribute == SCSI_ORDERED || is_alone(task);
}

static void start(struct scsi_task *task)
{
	const struct scsi_command *command = task->command;
	struct scsi_unit *unit = scsi_task_unit(task);

	assert(!task->started);
	task->started = true;
	if (unit && is_alone(task))
		unit->alone = task;
	if (!check(task)) {
		end(task);
		return;
	}
	task->step = 0;
	if (command->run(task))
		end(task);
}

/* Starts all that may. Nothing leaves the list from inside start: ends are deferred. */
static void start_waiting(struct scsi_unit *unit)
{
	bool earlier = false, barrier = false;

	list_for_each (node, &unit->tasks) {
		struct scsi_task *task = LIST_ENTRY(node, struct scsi_task, node);
		bool may = is_barrier(task) ? !earlier : !barrier;

		if (task->attribute == SCSI_HEAD_OF_QUEUE && !is_alone(task))
			may = !unit->alone;
		if (!task->started && may)
			start(task);
		earlier = true;
		barrier = barrier || is_barrier(task);
	}
}

static void finish(struct ring_task *ring_task)
{
	struct scsi_task *task = CONTAINER_OF(ring_task, struct scsi_task, finish);
	struct scsi_unit *unit = scsi_task_unit(task);

	assert(task->entered && task->started);
	task->entered = false;
	if (unit) {
		list_remove(&task->node);
		if (unit->alone == task)
			unit->alone = NULL;
		if (unit->barrier_count) {
			if (is_barrier(task))
				unit->barrier_count--;
			start_waiting(unit);
		}
	}
	task->done(task);
}

void scsi_task_execute(struct scsi_task *task)
{
	struct scsi_unit *unit = scsi_unit_find(task->nexus->device, task->lun);

	ASSERT_RING_THREAD(task->nexus->device->ring);
	assert(!task->entered);
	ring_task_init(&task->finish, finish);
	list_init(&task->node);
	task->entered = true;
	task->unit = unit;
	if (!unit) {
		start(task);
		return;
	}
	list_append(&unit->tasks, &task->node);
	if (is_barrier(task))
		unit->barrier_count++;
	if (unit->barrier_count)
		start_waiting(unit);
	else
		start(task);
}

void scsi_task_abort(struct scsi_task *task)
{
	struct scsi_unit *unit = scsi_task_unit(task);

	if (!task->entered || task->aborted)
		return;
	task->aborted = true;
	if (!task->started) {
		task->started = true;
		task->status = SCSI_TASK_ABORTED;
		end(task);
	} else if (task->in_io) {
		unit->disk->ops->cancel(unit->disk, &task->io);
	}
}
