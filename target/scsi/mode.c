/*
 * MODE SENSE and MODE SELECT (SPC-4, 6.13, 6.11 and 7.5; SBC-3, 6.5): the caching, control and
 * informational exceptions pages. Two bits can be changed, D_SENSE and SWP, both in the control
 * page; nothing is saved. A MODE SELECT is checked to its last byte before anything of it is
 * done.
 */
#include <string.h>

#include "scsi/scsi_internal.h"

enum page_control { PC_CURRENT, PC_CHANGEABLE, PC_DEFAULT, PC_SAVED };

#define PAGE_BYTES_MAX 20

/* WCE follows the disk, whose cache can't be turned off from here. */
static void page_caching(const struct scsi_unit *unit, enum page_control pc, uint8_t *p)
{
	if (pc != PC_CHANGEABLE && unit->disk->volatile_cache)
		p[2] = 0x04;
}

static void page_control(const struct scsi_unit *unit, enum page_control pc, uint8_t *p)
{
	bool d_sense = pc == PC_CHANGEABLE || (pc == PC_CURRENT && unit->d_sense);
	bool software_wp = pc == PC_CHANGEABLE || (pc == PC_CURRENT && unit->software_wp);

	if (d_sense)
		p[2] = 0x04;
	if (software_wp)
		p[4] = 0x08;
	if (pc == PC_CHANGEABLE)
		return;
	p[3] = 0x10;             /* QUEUE ALGORITHM MODIFIER 1: we do reorder */
	put_be16(p + 8, 0xffff); /* BUSY TIMEOUT PERIOD: unlimited */
}

/* Nothing is ever reported by it: DEXCPT. */
static void page_exceptions(const struct scsi_unit *unit, enum page_control pc, uint8_t *p)
{
	(void)unit;
	if (pc != PC_CHANGEABLE)
		p[2] = 0x08;
}

static const struct mode_page {
	uint8_t code, bytes;
	void (*fill)(const struct scsi_unit *unit, enum page_control pc, uint8_t *p);
} mode_pages[] = {
	{0x08, 20, page_caching},
	{0x0a, 12, page_control},
	{0x1c, 12, page_exceptions},
};

#define MODE_PAGE_COUNT (sizeof(mode_pages) / sizeof(mode_pages[0]))

static void fill_page(const struct mode_page *page, const struct scsi_unit *unit,
		      enum page_control pc, uint8_t *p)
{
	memset(p, 0, page->bytes);
	p[0] = page->code;
	p[1] = (uint8_t)(page->bytes - 2);
	page->fill(unit, pc, p);
}

/* --- MODE SENSE --- */

static uint8_t *add_header(struct scsi_reply *reply, const struct scsi_unit *unit, bool ten,
			   unsigned descriptor_bytes)
{
	uint8_t *p = scsi_reply_add(reply, ten ? 8 : 4);
	uint8_t *specific = p + (ten ? 3 : 2);

	*specific = scsi_unit_dpofua(unit) ? 0x10 : 0; /* DPOFUA */
	if (unit->read_only || unit->software_wp)
		*specific |= 0x80; /* WP */
	if (ten) {
		p[4] = descriptor_bytes == 16; /* LONGLBA */
		p[7] = (uint8_t)descriptor_bytes;
	} else {
		p[3] = (uint8_t)descriptor_bytes;
	}
	return p;
}

static void add_descriptor(struct scsi_reply *reply, const struct scsi_unit *unit,
			   unsigned descriptor_bytes)
{
	uint64_t blocks = scsi_unit_blocks(unit);
	uint8_t *p = scsi_reply_add(reply, descriptor_bytes);

	if (descriptor_bytes == 8) {
		put_be32(p, blocks > UINT32_MAX ? UINT32_MAX : (uint32_t)blocks);
		put_be24(p + 5, SECTOR);
	} else if (descriptor_bytes == 16) {
		put_be64(p, blocks);
		put_be32(p + 12, SECTOR);
	}
}

bool scsi_mode_sense(struct scsi_task *task)
{
	const struct scsi_unit *unit = scsi_task_unit(task);
	const uint8_t *cdb = task->cdb;
	bool ten = cdb[0] == 0x5a, found = false;
	unsigned descriptor_bytes = cdb[1] & 0x08 ? 0 : ten && cdb[1] & 0x10 ? 16 : 8;
	enum page_control pc = cdb[2] >> 6;
	uint8_t code = cdb[2] & 0x3f, subpage = cdb[3];
	struct scsi_reply reply;
	uint8_t *header;

	/* No page of ours has subpages: 00h is the page itself, FFh all there are. */
	if (subpage != 0x00 && subpage != 0xff)
		return scsi_fail_cdb(task, 3, NO_BIT);
	if (pc == PC_SAVED)
		return scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_NO_SAVING);
	reply.bytes = 0;
	header = add_header(&reply, unit, ten, descriptor_bytes);
	add_descriptor(&reply, unit, descriptor_bytes);
	for (unsigned i = 0; i < MODE_PAGE_COUNT; i++) {
		if (code != 0x3f && code != mode_pages[i].code)
			continue;
		fill_page(&mode_pages[i], unit, pc, scsi_reply_add(&reply, mode_pages[i].bytes));
		found = true;
	}
	if (!found)
		return scsi_fail_cdb(task, 2, 5);
	if (ten)
		put_be16(header, (uint16_t)(reply.bytes - 2));
	else
		header[0] = (uint8_t)(reply.bytes - 1);
	return scsi_reply_send(task, &reply);
}

/* --- MODE SELECT --- */

struct selection {
	bool d_sense, software_wp;
};

static bool length_error(struct scsi_task *task)
{
	scsi_fail(task, SENSE_ILLEGAL_REQUEST, ASC_PARAMETER_LENGTH);
	return false;
}

/* Whether the block descriptor says what is so anyway: this medium is not reformatted. */
static bool check_descriptor(struct scsi_task *task, unsigned at, unsigned bytes)
{
	uint64_t have = scsi_unit_blocks(scsi_task_unit(task));
	const uint8_t *p = task->data + at;
	uint64_t blocks = bytes == 16 ? get_be64(p) : get_be32(p);
	uint64_t all = bytes == 16 ? UINT64_MAX : UINT32_MAX;
	uint32_t block_bytes = bytes == 16 ? get_be32(p + 12) : get_be24(p + 5);

	if (blocks != 0 && blocks != all && blocks != have) {
		scsi_fail_parameter(task, at, NO_BIT);
		return false;
	}
	if (block_bytes != SECTOR) {
		scsi_fail_parameter(task, at + (bytes == 16 ? 12 : 5), NO_BIT);
		return false;
	}
	return true;
}

/* The length of the page at `at` if it is one of ours and differs only where it may; else 0
 * and the task has failed. */
static unsigned check_page(struct scsi_task *task, unsigned at, unsigned end,
			   struct selection *selection)
{
	const struct scsi_unit *unit = scsi_task_unit(task);
	const uint8_t *p = task->data + at;
	const struct mode_page *page = NULL;
	uint8_t current[PAGE_BYTES_MAX], changeable[PAGE_BYTES_MAX];

	if (end - at < 2)
		return length_error(task);
	for (unsigned i = 0; i < MODE_PAGE_COUNT; i++) {
		/* SPF and an unknown code both miss here; PS is reserved in MODE SELECT. */
		if ((p[0] & 0x7f) == mode_pages[i].code)
			page = &mode_pages[i];
	}
	if (!page)
		return !scsi_fail_parameter(task, at, p[0] & 0x40 ? 6 : 5);
	if (p[1] != page->bytes - 2)
		return !scsi_fail_parameter(task, at + 1, NO_BIT);
	if (end - at < page->bytes)
		return length_error(task);
	fill_page(page, unit, PC_CURRENT, current);
	fill_page(page, unit, PC_CHANGEABLE, changeable);
	for (unsigned i = 2; i < page->bytes; i++) {
		uint8_t bad = (uint8_t)((p[i] ^ current[i]) & ~changeable[i]);

		if (bad)
			return !scsi_fail_parameter(task, at + i,
						    31 - (unsigned)__builtin_clz(bad));
	}
	if (page->code == 0x0a) {
		selection->d_sense = p[2] & 0x04;
		selection->software_wp = p[4] & 0x08;
	}
	return page->bytes;
}

static bool check_parameters(struct scsi_task *task, struct selection *selection)
{
	bool ten = task->cdb[0] == 0x55;
	const uint8_t *p = task->data;
	unsigned header_bytes = ten ? 8 : 4, at = header_bytes, end = task->transfer_bytes;
	unsigned descriptor_bytes;

	if (task->data_room_bytes < end || end < header_bytes)
		return length_error(task);
	/* The mode data length is reserved here; WP and DPOFUA are not ours to be told. */
	if (p[ten ? 2 : 1] != 0)
		return !scsi_fail_parameter(task, ten ? 2 : 1, NO_BIT);
	descriptor_bytes = ten ? get_be16(p + 6) : p[3];
	if (descriptor_bytes) {
		unsigned want = ten && p[4] & 0x01 ? 16 : 8;

		if (descriptor_bytes != want)
			return !scsi_fail_parameter(task, ten ? 6 : 3, NO_BIT);
		if (end - at < descriptor_bytes)
			return length_error(task);
		if (!check_descriptor(task, at, descriptor_bytes))
			return false;
		at += descriptor_bytes;
	}
	while (at < end) {
		unsigned bytes = check_page(task, at, end, selection);

		if (!bytes)
			return false;
		at += bytes;
	}
	return true;
}

bool scsi_mode_select(struct scsi_task *task)
{
	struct scsi_unit *unit = scsi_task_unit(task);
	struct selection selection = {unit->d_sense, unit->software_wp};

	if (task->transfer_bytes == 0)
		return scsi_good(task);
	/* Without PF the list would be vendor-specific. */
	if (!(task->cdb[1] & 0x10))
		return scsi_fail_cdb(task, 1, 4);
	if (!check_parameters(task, &selection))
		return true;
	if (selection.d_sense != unit->d_sense || selection.software_wp != unit->software_wp) {
		unit->d_sense = selection.d_sense;
		unit->software_wp = selection.software_wp;
		scsi_unit_attention(unit, UA_MODE_CHANGED, task->nexus);
	}
	return scsi_good(task);
}
