/*
 * The medium: reading, writing, comparing, repeating and giving back (SBC-3, 5). READ and WRITE
 * are one store I/O straight into or out of the transport's buffer; the others are small state
 * machines that go through a bounded scratch buffer piece by piece, so that no command holds
 * the ring's thread or much memory, however many blocks it names.
 *
 * task->lba and block_count are the range, task->step how many blocks (UNMAP: descriptors) are
 * done, task->io.op which half of a step just ended.
 *
 * Data-out shorter than the CDB says: what arrived in whole blocks is written and the rest left
 * alone; the transport tells the initiator by the residual count (RFC 7143, 11.4.5).
 */
#include <string.h>

#include "scsi/scsi_internal.h"

/* SBC-3, 4.5: a range that begins or ends behind the last block. Nothing of it is done. */
static bool range(struct scsi_task *task)
{
	uint64_t capacity = scsi_unit_blocks(scsi_task_unit(task));

	scsi_cdb_range(task->cdb, &task->lba, &task->block_count);
	if (task->lba > capacity || task->block_count > capacity - task->lba) {
		scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
		return false;
	}
	return true;
}

static bool fua(const struct scsi_task *task)
{
	/* READ(6) and WRITE(6) have address bits there. */
	return task->cdb[0] >> 5 != 0 && task->cdb[1] & 0x08;
}

/* Scratch for `blocks`, or BUSY: the initiator asks again, and memory has come back. */
static bool get_scratch(struct scsi_task *task, uint64_t blocks)
{
	uint64_t bytes = blocks * SECTOR;

	assert(!task->scratch && bytes > 0);
	task->scratch = ring_buf_get(task->nexus->device->ring, (uint32_t)bytes);
	if (task->scratch)
		return true;
	task->status = SCSI_BUSY;
	task->wanted_bytes = 0;
	return false;
}

static uint32_t min_blocks(uint64_t a, uint64_t b)
{
	return (uint32_t)(a < b ? a : b);
}

#define SCRATCH_BLOCKS (SCRATCH_BYTES / SECTOR)

/* Blocks of the next piece. */
static uint32_t piece(const struct scsi_task *task)
{
	return min_blocks(task->block_count - task->step, SCRATCH_BLOCKS);
}

/* Cuts the range to the whole blocks that arrived. */
static void cut_to_data(struct scsi_task *task)
{
	task->block_count = min_blocks(task->block_count, task->data_room_bytes / SECTOR);
}

bool scsi_plain_resume(struct scsi_task *task, int res)
{
	return res < 0 ? scsi_fail_store(task, res) : scsi_good(task);
}

/* --- READ --- */

/* Into the transport's buffer if that ends at a block boundary; else what has no room for a
 * whole block goes through scratch. */
static bool submit_read(struct scsi_task *task)
{
	uint32_t room = task->data_room_bytes;
	uint32_t blocks = min_blocks(task->block_count, ((uint64_t)room + SECTOR - 1) / SECTOR);

	if (room < blocks * SECTOR) {
		if (!get_scratch(task, blocks))
			return true;
		scsi_io(task, STORE_READ, task->lba, blocks, task->scratch->data, false);
	} else {
		scsi_io(task, STORE_READ, task->lba, blocks, task->data, false);
	}
	return false;
}

bool scsi_read(struct scsi_task *task)
{
	struct store_disk *disk = scsi_task_unit(task)->disk;

	if (!range(task))
		return true;
	if (task->block_count == 0)
		return scsi_good(task);
	task->wanted_bytes = task->block_count * SECTOR;
	if (task->data_room_bytes == 0)
		return scsi_good(task);
	/* FUA: what is read has to be on the medium (SBC-3, 5.11, table 66). */
	if (fua(task) && disk->volatile_cache && !disk->read_only) {
		scsi_io(task, STORE_FLUSH, 0, 0, NULL, false);
		return false;
	}
	return submit_read(task);
}

bool scsi_read_resume(struct scsi_task *task, int res)
{
	if (res < 0)
		return scsi_fail_store(task, res);
	if (task->io.op == STORE_FLUSH)
		return submit_read(task);
	task->data_bytes = task->wanted_bytes < task->data_room_bytes ? task->wanted_bytes
								      : task->data_room_bytes;
	if (task->scratch)
		memcpy(task->data, task->scratch->data, task->data_bytes);
	return scsi_good(task);
}

/* --- WRITE, SYNCHRONIZE CACHE, PRE-FETCH --- */

bool scsi_write(struct scsi_task *task)
{
	if (!range(task))
		return true;
	cut_to_data(task);
	if (task->block_count == 0)
		return scsi_good(task);
	scsi_io(task, STORE_WRITE, task->lba, task->block_count, task->data, fua(task));
	return false;
}

/* All of the cache, which is more than the range; the store shares one round among many.
 * IMMED is answered when it is done: too late is allowed, too early would be a lie. */
bool scsi_synchronize_cache(struct scsi_task *task)
{
	if (!range(task))
		return true;
	scsi_io(task, STORE_FLUSH, 0, 0, NULL, false);
	return false;
}

/* GOOD: not all of it was brought into a cache (CONDITION MET would say so; SBC-3, 5.8). */
bool scsi_prefetch(struct scsi_task *task)
{
	return range(task) ? scsi_good(task) : true;
}

/* --- VERIFY, WRITE AND VERIFY --- */

/* Offset of the first difference, or `bytes`. */
static uint32_t first_difference(const uint8_t *a, const uint8_t *b, uint32_t bytes)
{
	uint32_t i = 0;

	if (memcmp(a, b, bytes) == 0)
		return bytes;
	while (a[i] == b[i])
		i++;
	return i;
}

static bool verify_next(struct scsi_task *task)
{
	uint32_t blocks = piece(task);

	if (blocks == 0)
		return scsi_good(task);
	if (!task->scratch && !get_scratch(task, blocks))
		return true;
	scsi_io(task, STORE_READ, task->lba + task->step, blocks, task->scratch->data, false);
	return false;
}

bool scsi_verify(struct scsi_task *task)
{
	if (!range(task))
		return true;
	if (task->cdb[1] & 0x02)
		cut_to_data(task);
	return verify_next(task);
}

/* On the medium first, then read back. */
bool scsi_write_and_verify(struct scsi_task *task)
{
	if (!range(task))
		return true;
	cut_to_data(task);
	if (task->block_count == 0)
		return scsi_good(task);
	scsi_io(task, STORE_WRITE, task->lba, task->block_count, task->data, true);
	return false;
}

bool scsi_verify_resume(struct scsi_task *task, int res)
{
	uint32_t bytes = (uint32_t)task->io.length_bytes;

	if (res < 0)
		return scsi_fail_store(task, res);
	if (task->io.op == STORE_WRITE)
		return verify_next(task);
	/* Without BYTCHK there may be no data at all. */
	if (task->cdb[1] & 0x02 &&
	    first_difference(task->scratch->data, task->data + task->step * SECTOR, bytes) < bytes)
		return scsi_fail(task, SENSE_MISCOMPARE, ASC_MISCOMPARE);
	task->step += bytes / SECTOR;
	return verify_next(task);
}

/* --- ORWRITE, COMPARE AND WRITE: indivisible by CMD_ALONE --- */

static bool orwrite_next(struct scsi_task *task)
{
	uint32_t blocks = piece(task);

	if (blocks == 0)
		return scsi_good(task);
	if (!task->scratch && !get_scratch(task, blocks))
		return true;
	scsi_io(task, STORE_READ, task->lba + task->step, blocks, task->scratch->data, false);
	return false;
}

bool scsi_orwrite(struct scsi_task *task)
{
	if (!range(task))
		return true;
	cut_to_data(task);
	return orwrite_next(task);
}

bool scsi_orwrite_resume(struct scsi_task *task, int res)
{
	uint32_t bytes = (uint32_t)task->io.length_bytes;
	const uint8_t *data = task->data + task->step * SECTOR;

	if (res < 0)
		return scsi_fail_store(task, res);
	if (task->io.op == STORE_WRITE) {
		task->step += bytes / SECTOR;
		return orwrite_next(task);
	}
	for (uint32_t i = 0; i < bytes; i++)
		task->scratch->data[i] |= data[i];
	scsi_io(task, STORE_WRITE, task->lba + task->step, bytes / SECTOR, task->scratch->data,
		fua(task));
	return false;
}

/* Data that is not exactly twice the blocks can't be meant (SBC-3, 5.2). */
static bool wrong_size(const struct scsi_task *task)
{
	return task->data_room_bytes < task->transfer_bytes ||
	       task->expected_bytes > task->transfer_bytes;
}

bool scsi_compare_and_write(struct scsi_task *task)
{
	if (!range(task))
		return true;
	if (wrong_size(task))
		return scsi_fail_cdb(task, 13, NO_BIT);
	if (task->block_count == 0)
		return scsi_good(task);
	if (!get_scratch(task, task->block_count))
		return true;
	scsi_io(task, STORE_READ, task->lba, task->block_count, task->scratch->data, false);
	return false;
}

bool scsi_compare_and_write_resume(struct scsi_task *task, int res)
{
	uint32_t bytes = task->block_count * SECTOR, same;

	if (res < 0)
		return scsi_fail_store(task, res);
	if (task->io.op == STORE_WRITE)
		return scsi_good(task);
	same = first_difference(task->scratch->data, task->data, bytes);
	if (same < bytes)
		return scsi_fail_information(task, SENSE_MISCOMPARE, ASC_MISCOMPARE, same);
	scsi_io(task, STORE_WRITE, task->lba, task->block_count, task->data + bytes, fua(task));
	return false;
}

/* --- WRITE SAME --- */

static bool write_same_next(struct scsi_task *task)
{
	uint32_t blocks = piece(task);

	if (blocks == 0)
		return scsi_good(task);
	scsi_io(task, STORE_WRITE, task->lba + task->step, blocks, task->scratch->data, false);
	return false;
}

/*
 * SBC-3, 5.43. No blocks means to the end of the medium. With UNMAP the blocks are given back and
 * read as zeros from then on (LBPRZ), whatever the data says, as other targets and libiscsi's suite
 * have it; Linux sends zeros.
 */
bool scsi_write_same(struct scsi_task *task)
{
	bool sixteen = task->cdb[0] == 0x93;
	bool no_data = sixteen && task->cdb[1] & 0x01;
	uint64_t capacity = scsi_unit_blocks(scsi_task_unit(task)), blocks;

	if (!range(task))
		return true;
	if (!no_data && wrong_size(task))
		return scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_INVALID_CDB);
	blocks = task->block_count ? task->block_count : capacity - task->lba;
	if (blocks > WRITE_SAME_BLOCKS_MAX)
		return scsi_fail_cdb(task, sixteen ? 10 : 7, NO_BIT);
	task->block_count = (uint32_t)blocks;
	if (blocks == 0)
		return scsi_good(task);
	if (task->cdb[1] & 0x08) {
		scsi_io(task, STORE_DISCARD, task->lba, blocks, NULL, false);
		return false;
	}
	if (!get_scratch(task, piece(task)))
		return true;
	for (uint32_t i = 0; i < piece(task); i++) {
		if (no_data)
			memset(task->scratch->data + i * SECTOR, 0, SECTOR);
		else
			memcpy(task->scratch->data + i * SECTOR, task->data, SECTOR);
	}
	return write_same_next(task);
}

bool scsi_write_same_resume(struct scsi_task *task, int res)
{
	if (res < 0)
		return scsi_fail_store(task, res);
	if (task->io.op == STORE_DISCARD)
		return scsi_good(task);
	task->step += (uint32_t)(task->io.length_bytes / SECTOR);
	return write_same_next(task);
}

/* --- UNMAP --- */

#define UNMAP_HEADER_BYTES     8
#define UNMAP_DESCRIPTOR_BYTES 16

/* SBC-3, 5.28.2; every descriptor is checked before the first is obeyed. */
static bool check_unmap(struct scsi_task *task)
{
	const uint8_t *p = task->data;
	uint64_t capacity = scsi_unit_blocks(scsi_task_unit(task)), total = 0;
	uint32_t bytes;

	if (task->data_room_bytes < task->transfer_bytes ||
	    task->transfer_bytes < UNMAP_HEADER_BYTES)
		return !scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LENGTH);
	bytes = get_be16(p + 2);
	if (bytes > task->transfer_bytes - UNMAP_HEADER_BYTES)
		return !scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LENGTH);
	/* The part of a descriptor at the end, if any, is to be ignored. */
	task->block_count = bytes / UNMAP_DESCRIPTOR_BYTES;
	if (task->block_count > LIMIT_UNMAP_DESCRIPTORS)
		return !scsi_fail_parameter(task, 2, NO_BIT);
	for (uint32_t i = 0; i < task->block_count; i++) {
		unsigned at = UNMAP_HEADER_BYTES + i * UNMAP_DESCRIPTOR_BYTES;
		uint64_t lba = get_be64(p + at);
		uint32_t blocks = get_be32(p + at + 8);

		if (lba > capacity || blocks > capacity - lba)
			return !scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
		total += blocks;
		if (total > UNMAP_BLOCKS_MAX)
			return !scsi_fail_parameter(task, at + 8, NO_BIT);
	}
	return true;
}

static bool unmap_next(struct scsi_task *task)
{
	while (task->step < task->block_count) {
		const uint8_t *p =
			task->data + UNMAP_HEADER_BYTES + task->step++ * UNMAP_DESCRIPTOR_BYTES;

		if (get_be32(p + 8) == 0)
			continue;
		scsi_io(task, STORE_DISCARD, get_be64(p), get_be32(p + 8), NULL, false);
		return false;
	}
	return scsi_good(task);
}

bool scsi_unmap(struct scsi_task *task)
{
	if (task->transfer_bytes == 0)
		return scsi_good(task);
	return check_unmap(task) ? unmap_next(task) : true;
}

bool scsi_unmap_resume(struct scsi_task *task, int res)
{
	return res < 0 ? scsi_fail_store(task, res) : unmap_next(task);
}
