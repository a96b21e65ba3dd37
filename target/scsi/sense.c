/*
 * How a command ends: status, sense data (SPC-4, 4.5) and parameter data. Fixed or descriptor
 * format follows the unit's D_SENSE bit; where there is no unit it is fixed.
 */
#include <errno.h>
#include <string.h>

#include "scsi/scsi_internal.h"

/* SPC-4, 4.5.2.4.2: SKSV, C/D, BPV with the bit, and the byte in error. */
static void put_field_pointer(uint8_t *p, const struct scsi_fault *fault)
{
	p[0] = 0x80;
	if (fault->in_cdb)
		p[0] |= 0x40;
	if (fault->field_bit < NO_BIT)
		p[0] = (uint8_t)(p[0] | 0x08 | fault->field_bit);
	put_be16(p + 1, fault->field_byte);
}

static uint8_t build_fixed(const struct scsi_fault *fault, uint8_t *p)
{
	memset(p, 0, 18);
	p[0] = 0x70;
	/* The field has 32 bits; what does not fit is not valid. */
	if (fault->has_information && fault->information <= UINT32_MAX) {
		p[0] |= 0x80;
		put_be32(p + 3, (uint32_t)fault->information);
	}
	p[2] = (uint8_t)fault->key;
	p[7] = 18 - 8;
	put_be16(p + 12, fault->asc_ascq);
	if (fault->has_field)
		put_field_pointer(p + 15, fault);
	return 18;
}

static uint8_t build_descriptors(const struct scsi_fault *fault, uint8_t *p)
{
	uint8_t bytes = 8;

	memset(p, 0, 8);
	p[0] = 0x72;
	p[1] = (uint8_t)fault->key;
	put_be16(p + 2, fault->asc_ascq);
	if (fault->has_information) {
		uint8_t *d = p + bytes;

		d[0] = 0x00;
		d[1] = 0x0a;
		d[2] = 0x80;
		d[3] = 0;
		put_be64(d + 4, fault->information);
		bytes = (uint8_t)(bytes + 12);
	}
	if (fault->has_field) {
		uint8_t *d = p + bytes;

		memset(d, 0, 8);
		d[0] = 0x02;
		d[1] = 0x06;
		put_field_pointer(d + 4, fault);
		bytes = (uint8_t)(bytes + 8);
	}
	p[7] = (uint8_t)(bytes - 8);
	return bytes;
}

uint8_t scsi_sense_build(const struct scsi_fault *fault, bool descriptor_format, uint8_t *ret_sense)
{
	return descriptor_format ? build_descriptors(fault, ret_sense)
				 : build_fixed(fault, ret_sense);
}

bool scsi_good(struct scsi_task *task)
{
	task->status = SCSI_GOOD;
	task->sense_bytes = 0;
	return true;
}

bool scsi_fail_fault(struct scsi_task *task, const struct scsi_fault *fault)
{
	const struct scsi_unit *unit = scsi_unit_find(task->nexus->device, task->lun);

	static_assert(LIMIT_SENSE_BYTES >= 32, "sense with both descriptors fits");
	task->status = SCSI_CHECK_CONDITION;
	task->sense_bytes = scsi_sense_build(fault, unit && unit->d_sense, task->sense);
	task->data_bytes = 0;
	task->wanted_bytes = 0;
	return true;
}

bool scsi_fail(struct scsi_task *task, enum scsi_sense_key key, uint16_t asc_ascq)
{
	const struct scsi_fault fault = {.key = key, .asc_ascq = asc_ascq};

	return scsi_fail_fault(task, &fault);
}

void scsi_task_fail(struct scsi_task *task, enum scsi_sense_key key, uint16_t asc_ascq)
{
	scsi_fail(task, key, asc_ascq);
}

bool scsi_fail_cdb(struct scsi_task *task, unsigned byte, unsigned bit)
{
	const struct scsi_fault fault = {.key = SENSE_ILLEGAL_REQUEST,
					 .asc_ascq = ASC_INVALID_CDB,
					 .has_field = true,
					 .in_cdb = true,
					 .field_byte = (uint16_t)byte,
					 .field_bit = (uint8_t)bit};

	return scsi_fail_fault(task, &fault);
}

bool scsi_fail_parameter(struct scsi_task *task, unsigned byte, unsigned bit)
{
	const struct scsi_fault fault = {.key = SENSE_ILLEGAL_REQUEST,
					 .asc_ascq = ASC_INVALID_PARAMETER,
					 .has_field = true,
					 .field_byte = (uint16_t)byte,
					 .field_bit = (uint8_t)bit};

	return scsi_fail_fault(task, &fault);
}

bool scsi_fail_information(struct scsi_task *task, enum scsi_sense_key key, uint16_t asc_ascq,
			   uint64_t information)
{
	const struct scsi_fault fault = {.key = key,
					 .asc_ascq = asc_ascq,
					 .has_information = true,
					 .information = information};

	return scsi_fail_fault(task, &fault);
}

/*
 * INFORMATION is the first block that could not be read, or the first of the write that failed:
 * Linux takes all before it as done (SBC-3, 4.18.1), and nothing behind it.
 *
 * What could not be written is a HARDWARE ERROR, not a MEDIUM ERROR: initiators repeat the latter,
 * and a flush that failed must never be repeated until it seems to work (pages that could not be
 * written may be gone by then). They report the former at once.
 */
bool scsi_fail_store(struct scsi_task *task, int res)
{
	bool reading = task->io.op == STORE_READ;

	task->data_bytes = 0;
	task->wanted_bytes = 0;
	task->sense_bytes = 0;
	switch (res) {
	case -ENOSPC:
	case -EAGAIN:
	case -ENOMEM: task->status = SCSI_BUSY; return true;
	case -ECANCELED: task->status = SCSI_TASK_ABORTED; return true;
	case -EROFS: return scsi_fail(task, SENSE_DATA_PROTECT, ASC_WRITE_PROTECTED);
	case -ERANGE: return scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
	default:
		if (task->io.op == STORE_FLUSH)
			return scsi_fail(task, SENSE_HARDWARE_ERROR, ASC_WRITE_ERROR);
		return scsi_fail_information(
			task, reading ? SENSE_MEDIUM_ERROR : SENSE_HARDWARE_ERROR,
			reading ? ASC_READ_ERROR : ASC_WRITE_ERROR,
			(task->io.offset_bytes + task->io.good_bytes) / SECTOR);
	}
}

uint8_t *scsi_reply_add(struct scsi_reply *reply, uint32_t bytes)
{
	uint8_t *p = reply->data + reply->bytes;

	if (bytes > sizeof(reply->data) - reply->bytes)
		return NULL;
	memset(p, 0, bytes);
	reply->bytes += bytes;
	return p;
}

bool scsi_reply_send(struct scsi_task *task, const struct scsi_reply *reply)
{
	uint32_t wanted = reply->bytes < task->transfer_bytes ? reply->bytes : task->transfer_bytes;
	uint32_t bytes = wanted < task->data_room_bytes ? wanted : task->data_room_bytes;

	if (bytes)
		memcpy(task->data, reply->data, bytes);
	task->wanted_bytes = wanted;
	task->data_bytes = bytes;
	return scsi_good(task);
}
