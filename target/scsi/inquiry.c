/*
 * INQUIRY and the vital product data pages (SPC-4, 6.6 and 7.8; SBC-3, 6.6). Identity comes
 * from the unit's UUID alone, so it stays the same through renames, restarts and moves.
 */
#include <stdio.h>
#include <string.h>

#include "scsi/scsi_internal.h"

#define VENDOR "LUNROOT "
/* SPC-4, 6.6.2: a LUN that is not there, and could not be. */
#define ABSENT 0x7f

static void put_text(uint8_t *p, const char *text, unsigned bytes)
{
	size_t have = strlen(text);

	memset(p, ' ', bytes);
	memcpy(p, text, have < bytes ? have : bytes);
}

static void standard(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	static const uint16_t versions[] = {
		0x00a0, /* SAM-5 */
		0x0960, /* iSCSI */
		0x0460, /* SPC-4 */
		0x04c0, /* SBC-3 */
	};
	uint8_t *p = scsi_reply_add(reply, 96);

	p[0] = unit ? 0x00 : ABSENT;
	p[1] = unit && unit->removable ? 0x80 : 0x00;
	p[2] = 0x06;        /* SPC-4 */
	p[3] = 0x10 | 0x02; /* HISUP, response data format */
	p[4] = 96 - 5;
	p[7] = 0x02; /* CMDQUE */
	memcpy(p + 8, VENDOR, 8);
	put_text(p + 16, unit ? unit->product : "", 16);
	put_text(p + 32, LUNROOT_VERSION, 4);
	for (unsigned i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
		put_be16(p + 58 + 2 * i, versions[i]);
}

static void page_serial(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	char serial[SERIAL_BYTES + 1];

	scsi_unit_serial(unit, serial);
	memcpy(scsi_reply_add(reply, SERIAL_BYTES), serial, SERIAL_BYTES);
}

/* NAA locally assigned: 60 bits, taken where a UUID is random (RFC 4122, 4.4). */
static void page_identification(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	char serial[SERIAL_BYTES + 1];
	uint8_t *p = scsi_reply_add(reply, 4 + 8);

	p[0] = 0x01; /* binary */
	p[1] = 0x03; /* logical unit, NAA */
	p[3] = 8;
	memcpy(p + 4, unit->uuid.b + 8, 8);
	p[4] = (uint8_t)(0x30 | (unit->uuid.b[0] & 0x0f));
	p[5] = unit->uuid.b[1];

	p = scsi_reply_add(reply, 4 + 8 + SERIAL_BYTES);
	p[0] = 0x02; /* ASCII */
	p[1] = 0x01; /* logical unit, T10 vendor ID */
	p[3] = 8 + SERIAL_BYTES;
	memcpy(p + 4, VENDOR, 8);
	scsi_unit_serial(unit, serial);
	memcpy(p + 12, serial, SERIAL_BYTES);

	p = scsi_reply_add(reply, 4 + 4);
	p[0] = 0x51; /* iSCSI, binary */
	p[1] = 0x94; /* PIV, target port, relative target port */
	p[3] = 4;
	p[7] = 1; /* all portals are one portal group, and so one port */
}

static void page_extended(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	uint8_t *p = scsi_reply_add(reply, 0x3c) - 4;

	p[5] = 0x07;                                     /* HEADSUP, ORDSUP, SIMPSUP */
	p[6] = unit->disk->volatile_cache ? 0x01 : 0x00; /* V_SUP */
	p[7] = 0x01;                                     /* LUICLR */
}

static void page_block_limits(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	uint8_t *p = scsi_reply_add(reply, 0x3c) - 4;

	(void)unit;
	p[5] = COMPARE_BLOCKS_MAX;
	put_be16(p + 6, SECTORS_PER_BLOCK);
	put_be32(p + 8, TRANSFER_BLOCKS_MAX);
	put_be32(p + 20, UNMAP_BLOCKS_MAX);
	put_be32(p + 24, LIMIT_UNMAP_DESCRIPTORS);
	put_be32(p + 28, SECTORS_PER_BLOCK);
	put_be32(p + 32, 0x80000000); /* UGAVALID, alignment 0 */
	put_be64(p + 36, WRITE_SAME_BLOCKS_MAX);
}

static void page_characteristics(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	uint8_t *p = scsi_reply_add(reply, 0x3c) - 4;

	(void)unit;
	put_be16(p + 4, 1); /* does not rotate */
}

static void page_provisioning(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	uint8_t *p = scsi_reply_add(reply, 4) - 4;

	(void)unit;
	p[5] = 0x80 | 0x40 | 0x20 | 0x04; /* LBPU, LBPWS, LBPWS10, LBPRZ */
	p[6] = 0x02;                      /* thin */
}

static const struct vpd_page {
	uint8_t code;
	void (*add)(const struct scsi_unit *unit, struct scsi_reply *reply);
} vpd_pages[] = {
	{0x00, NULL},
	{0x80, page_serial},
	{0x83, page_identification},
	{0x86, page_extended},
	{0xb0, page_block_limits},
	{0xb1, page_characteristics},
	{0xb2, page_provisioning},
};

#define VPD_PAGE_COUNT (sizeof(vpd_pages) / sizeof(vpd_pages[0]))

static void page_list(const struct scsi_unit *unit, struct scsi_reply *reply)
{
	unsigned count = unit ? VPD_PAGE_COUNT : 1;

	for (unsigned i = 0; i < count; i++)
		*scsi_reply_add(reply, 1) = vpd_pages[i].code;
}

static bool vital_product_data(struct scsi_task *task, const struct scsi_unit *unit,
			       struct scsi_reply *reply)
{
	uint8_t code = task->cdb[2];

	for (unsigned i = 0; i < VPD_PAGE_COUNT; i++) {
		const struct vpd_page *page = &vpd_pages[i];
		uint8_t *header;

		if (page->code != code || (!unit && page->add))
			continue;
		header = scsi_reply_add(reply, 4);
		header[0] = unit ? 0x00 : ABSENT;
		header[1] = code;
		if (page->add)
			page->add(unit, reply);
		else
			page_list(unit, reply);
		put_be16(header + 2, (uint16_t)(reply->bytes - 4));
		return scsi_reply_send(task, reply);
	}
	return scsi_fail_cdb(task, 2, NO_BIT);
}

bool scsi_inquiry(struct scsi_task *task)
{
	const struct scsi_unit *unit = scsi_task_unit(task);
	struct scsi_reply reply;

	reply.bytes = 0;
	if (task->cdb[1] & 0x01)
		return vital_product_data(task, unit, &reply);
	if (task->cdb[2] != 0)
		return scsi_fail_cdb(task, 2, NO_BIT);
	standard(unit, &reply);
	return scsi_reply_send(task, &reply);
}
