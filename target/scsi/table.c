/*
 * The commands there are. One table drives dispatch, the check of reserved bits, data lengths
 * and REPORT SUPPORTED OPERATION CODES, so that what is told is what is done.
 *
 * Sorted by opcode, then service action. Usage starts at CDB byte 1; the last byte is CONTROL,
 * where NACA and everything else must be zero (NORMACA is zero in INQUIRY). GROUP NUMBER is
 * accepted and means nothing. RDPROTECT, WRPROTECT and VRPROTECT are absent from the masks:
 * without protection information they are invalid fields (SBC-3, 4.22).
 */
#include "scsi/scsi_internal.h"

#define DPO_FUA 0x18
#define MEDIA_S 60 /* a write may wait STORE_SPACE_WAIT_MS for space, then go on */

#define FF4 0xff, 0xff, 0xff, 0xff
#define FF8 FF4, FF4

#define ROW(op, bytes, flag_bits, ...) \
	.opcode = (op), .cdb_bytes = (bytes), .flags = (flag_bits), .usage = {__VA_ARGS__}
#define ACTION(value)        .has_action = true, .action = (value)
#define ALLOCATION(at, wide) .length = LEN_ALLOCATION, .length_at = (at), .length_bytes = (wide)
#define PARAMETERS(at, wide) .length = LEN_PARAMETERS, .length_at = (at), .length_bytes = (wide)

const struct scsi_command scsi_commands[] = {
	{ROW(0x00, 6, CMD_MEDIUM), .run = scsi_test_unit_ready},
	{ROW(0x03, 6, CMD_ANY_LUN | CMD_NO_ATTENTION | CMD_SHARES, 0x01, 0, 0, 0xff),
	 ALLOCATION(4, 1), .run = scsi_request_sense},
	{ROW(0x08, 6, CMD_MEDIUM, 0x1f, 0xff, 0xff, 0xff), .length = LEN_READ, .timeout_s = MEDIA_S,
	 .run = scsi_read, .resume = scsi_read_resume},
	{ROW(0x0a, 6, CMD_MEDIUM | CMD_WRITES, 0x1f, 0xff, 0xff, 0xff), .length = LEN_WRITE,
	 .timeout_s = MEDIA_S, .run = scsi_write, .resume = scsi_plain_resume},
	{ROW(0x12, 6, CMD_ANY_LUN | CMD_NO_ATTENTION | CMD_SHARES, 0x01, 0xff, 0xff, 0xff),
	 ALLOCATION(3, 2), .run = scsi_inquiry},
	{ROW(0x15, 6, 0, 0x10, 0, 0, 0xff), PARAMETERS(4, 1), .run = scsi_mode_select},
	{ROW(0x16, 6, 0), .run = scsi_reserve},
	{ROW(0x17, 6, CMD_SHARES), .run = scsi_release},
	{ROW(0x1a, 6, 0, 0x08, 0xff, 0xff, 0xff), ALLOCATION(4, 1), .run = scsi_mode_sense},
	{ROW(0x1b, 6, 0, 0x01, 0, 0x0f, 0xf7), .timeout_s = MEDIA_S, .run = scsi_start_stop,
	 .resume = scsi_start_stop_resume},
	{ROW(0x1e, 6, CMD_REMOVABLE, 0, 0, 0, 0x03), .run = scsi_prevent_allow},
	{ROW(0x25, 10, CMD_MEDIUM | CMD_SHARES), .length = LEN_FIXED, .length_bytes = 8,
	 .run = scsi_read_capacity_10},
	{ROW(0x28, 10, CMD_MEDIUM, 0x18, FF4, 0x1f, 0xff, 0xff), .length = LEN_READ,
	 .timeout_s = MEDIA_S, .run = scsi_read, .resume = scsi_read_resume},
	{ROW(0x2a, 10, CMD_MEDIUM | CMD_WRITES, 0x18, FF4, 0x1f, 0xff, 0xff), .length = LEN_WRITE,
	 .timeout_s = MEDIA_S, .run = scsi_write, .resume = scsi_plain_resume},
	{ROW(0x2e, 10, CMD_MEDIUM | CMD_WRITES, 0x12, FF4, 0x1f, 0xff, 0xff), .length = LEN_WRITE,
	 .timeout_s = MEDIA_S, .run = scsi_write_and_verify, .resume = scsi_verify_resume},
	{ROW(0x2f, 10, CMD_MEDIUM, 0x12, FF4, 0x1f, 0xff, 0xff), .length = LEN_VERIFY,
	 .timeout_s = MEDIA_S, .run = scsi_verify, .resume = scsi_verify_resume},
	{ROW(0x34, 10, CMD_MEDIUM, 0x02, FF4, 0x1f, 0xff, 0xff), .run = scsi_prefetch},
	{ROW(0x35, 10, CMD_MEDIUM, 0x06, FF4, 0x1f, 0xff, 0xff), .timeout_s = MEDIA_S,
	 .run = scsi_synchronize_cache, .resume = scsi_plain_resume},
	{ROW(0x41, 10, CMD_MEDIUM | CMD_WRITES, 0x08, FF4, 0x1f, 0xff, 0xff),
	 .length = LEN_ONE_BLOCK, .timeout_s = MEDIA_S, .run = scsi_write_same,
	 .resume = scsi_write_same_resume},
	{ROW(0x42, 10, CMD_MEDIUM | CMD_WRITES, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff), PARAMETERS(7, 2),
	 .timeout_s = MEDIA_S, .run = scsi_unmap, .resume = scsi_unmap_resume},
	{ROW(0x55, 10, 0, 0x10, 0, 0, 0, 0, 0, 0xff, 0xff), PARAMETERS(7, 2),
	 .run = scsi_mode_select},
	{ROW(0x56, 10, 0), .run = scsi_reserve},
	{ROW(0x57, 10, CMD_SHARES), .run = scsi_release},
	{ROW(0x5a, 10, 0, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff), ALLOCATION(7, 2),
	 .run = scsi_mode_sense},
	{ROW(0x88, 16, CMD_MEDIUM, 0x18, FF8, FF4, 0x1f), .length = LEN_READ, .timeout_s = MEDIA_S,
	 .run = scsi_read, .resume = scsi_read_resume},
	{ROW(0x89, 16, CMD_MEDIUM | CMD_WRITES | CMD_ALONE, 0x18, FF8, 0, 0, 0, 0xff, 0x1f),
	 .length = LEN_COMPARE, .timeout_s = MEDIA_S, .run = scsi_compare_and_write,
	 .resume = scsi_compare_and_write_resume},
	{ROW(0x8a, 16, CMD_MEDIUM | CMD_WRITES, 0x18, FF8, FF4, 0x1f), .length = LEN_WRITE,
	 .timeout_s = MEDIA_S, .run = scsi_write, .resume = scsi_plain_resume},
	{ROW(0x8b, 16, CMD_MEDIUM | CMD_WRITES | CMD_ALONE, 0x18, FF8, FF4, 0x1f),
	 .length = LEN_WRITE, .timeout_s = MEDIA_S, .run = scsi_orwrite,
	 .resume = scsi_orwrite_resume},
	{ROW(0x8e, 16, CMD_MEDIUM | CMD_WRITES, 0x12, FF8, FF4, 0x1f), .length = LEN_WRITE,
	 .timeout_s = MEDIA_S, .run = scsi_write_and_verify, .resume = scsi_verify_resume},
	{ROW(0x8f, 16, CMD_MEDIUM, 0x12, FF8, FF4, 0x1f), .length = LEN_VERIFY,
	 .timeout_s = MEDIA_S, .run = scsi_verify, .resume = scsi_verify_resume},
	{ROW(0x90, 16, CMD_MEDIUM, 0x02, FF8, FF4, 0x1f), .run = scsi_prefetch},
	{ROW(0x91, 16, CMD_MEDIUM, 0x06, FF8, FF4, 0x1f), .timeout_s = MEDIA_S,
	 .run = scsi_synchronize_cache, .resume = scsi_plain_resume},
	{ROW(0x93, 16, CMD_MEDIUM | CMD_WRITES, 0x09, FF8, FF4, 0x1f), .length = LEN_ONE_BLOCK,
	 .timeout_s = MEDIA_S, .run = scsi_write_same, .resume = scsi_write_same_resume},
	{ROW(0x9e, 16, CMD_MEDIUM | CMD_SHARES, 0, 0, 0, 0, 0, 0, 0, 0, 0, FF4), ACTION(0x10),
	 ALLOCATION(10, 4), .run = scsi_read_capacity_16},
	{ROW(0x9e, 16, CMD_MEDIUM, 0, FF8, FF4), ACTION(0x12), ALLOCATION(10, 4),
	 .run = scsi_get_lba_status},
	{ROW(0xa0, 12, CMD_ANY_LUN | CMD_NO_ATTENTION | CMD_SHARES, 0, 0xff, 0, 0, 0, FF4),
	 ALLOCATION(6, 4), .run = scsi_report_luns},
	{ROW(0xa3, 12, CMD_SHARES, 0, 0x87, 0xff, 0xff, 0xff, FF4), ACTION(0x0c), ALLOCATION(6, 4),
	 .run = scsi_report_opcodes},
	{ROW(0xa3, 12, CMD_SHARES, 0, 0x80, 0, 0, 0, FF4), ACTION(0x0d), ALLOCATION(6, 4),
	 .run = scsi_report_task_management},
	{ROW(0xa8, 12, CMD_MEDIUM, 0x18, FF4, FF4, 0x1f), .length = LEN_READ, .timeout_s = MEDIA_S,
	 .run = scsi_read, .resume = scsi_read_resume},
	{ROW(0xaa, 12, CMD_MEDIUM | CMD_WRITES, 0x18, FF4, FF4, 0x1f), .length = LEN_WRITE,
	 .timeout_s = MEDIA_S, .run = scsi_write, .resume = scsi_plain_resume},
	{ROW(0xae, 12, CMD_MEDIUM | CMD_WRITES, 0x12, FF4, FF4, 0x1f), .length = LEN_WRITE,
	 .timeout_s = MEDIA_S, .run = scsi_write_and_verify, .resume = scsi_verify_resume},
	{ROW(0xaf, 12, CMD_MEDIUM, 0x12, FF4, FF4, 0x1f), .length = LEN_VERIFY,
	 .timeout_s = MEDIA_S, .run = scsi_verify, .resume = scsi_verify_resume},
};

const unsigned scsi_command_count = sizeof(scsi_commands) / sizeof(scsi_commands[0]);

const struct scsi_command *scsi_command_find(uint8_t opcode, unsigned action,
					     bool *ret_opcode_known)
{
	unsigned low = 0, high = scsi_command_count;

	*ret_opcode_known = false;
	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (scsi_commands[middle].opcode < opcode)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < scsi_command_count && scsi_commands[low].opcode == opcode; low++) {
		const struct scsi_command *command = &scsi_commands[low];

		*ret_opcode_known = true;
		if (!command->has_action || command->action == action)
			return command;
	}
	return NULL;
}

bool scsi_command_supported(const struct scsi_command *command, const struct scsi_unit *unit)
{
	return !(command->flags & CMD_REMOVABLE) || (unit && unit->removable);
}

/* DPO and FUA stand in byte 1 of the longer commands that move or compare the medium's data. */
static bool has_dpo_fua(const struct scsi_command *command)
{
	switch (command->length) {
	case LEN_READ:
	case LEN_WRITE:
	case LEN_VERIFY:
	case LEN_COMPARE: return command->cdb_bytes > 6;
	case LEN_NONE:
	case LEN_ALLOCATION:
	case LEN_PARAMETERS:
	case LEN_FIXED:
	case LEN_ONE_BLOCK: return false;
	}
	return false;
}

/*
 * A scratch disk has a volatile cache (WCE) that nothing makes durable. Saying that there is no
 * cache would be the greater lie, and an initiator whose SYNCHRONIZE CACHE is refused takes the
 * disk for broken; so that one is answered and does nothing, as somebody wished. But nobody needs
 * FUA: what can say no to it says no.
 */
bool scsi_unit_dpofua(const struct scsi_unit *unit)
{
	return !unit->disk->scratch;
}

uint8_t scsi_command_mask(const struct scsi_command *command, const struct scsi_unit *unit,
			  unsigned i)
{
	assert(i >= 1 && i < command->cdb_bytes);
	if (i == 1 && unit && !scsi_unit_dpofua(unit) && has_dpo_fua(command))
		return command->usage[0] & (uint8_t)~DPO_FUA;
	if (i == 1 && command->has_action)
		return command->usage[0] | 0x1f;
	return command->usage[i - 1];
}

/* The fields' places follow from the CDB's length, and that from the opcode's group. Of no
 * use, and harmless, for commands that have neither. */
void scsi_cdb_range(const uint8_t *cdb, uint64_t *ret_lba, uint32_t *ret_blocks)
{
	switch (cdb[0] >> 5) {
	case 0:
		*ret_lba = get_be24(cdb + 1) & 0x1fffff;
		*ret_blocks = cdb[4] ? cdb[4] : 256; /* SBC-3, 5.8 */
		break;
	case 4:
		*ret_lba = get_be64(cdb + 2);
		*ret_blocks = cdb[0] == 0x89 ? cdb[13] : get_be32(cdb + 10);
		break;
	case 5:
		*ret_lba = get_be32(cdb + 2);
		*ret_blocks = get_be32(cdb + 6);
		break;
	default:
		*ret_lba = get_be32(cdb + 2);
		*ret_blocks = get_be16(cdb + 7);
		break;
	}
}
