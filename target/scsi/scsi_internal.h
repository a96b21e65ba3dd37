/*
 * What the files of this room share: the device's state, the row of the opcode table, and the
 * helpers a command is written with.
 *
 * A command's `run` looks at the CDB, and either sets the outcome (scsi_good, scsi_fail*,
 * scsi_reply) and returns true, or starts store I/O with scsi_io and returns false; then its
 * `resume` is called with each result, under the same rule.
 */
#ifndef LUNROOT_SCSI_INTERNAL_H
#define LUNROOT_SCSI_INTERNAL_H

#include <assert.h>

#include "base/byteorder.h"
#include "scsi/scsi.h"

#define SECTOR STORE_SECTOR_BYTES

/* Sectors of a physical block: LBPPBE, OPTIMAL UNMAP GRANULARITY. */
#define SECTORS_PER_BLOCK (STORE_BLOCK_BYTES / STORE_SECTOR_BYTES)

/* Parameter data we make is never longer; the longest is the list of all commands. */
#define REPLY_BYTES_MAX 4096u

/* Commands that compare, merge or repeat data work in pieces of this size. */
#define SCRATCH_BYTES (256u << 10)

/* VPD B0; the zeroing of a whole disk in commands that end in reasonable time. */
#define TRANSFER_BLOCKS_MAX   (LIMIT_IO_BUFFER_BYTES / STORE_SECTOR_BYTES)
#define COMPARE_BLOCKS_MAX    255u
#define UNMAP_BLOCKS_MAX      (1u << 20)
#define WRITE_SAME_BLOCKS_MAX (1u << 15)

/* Additional sense codes with qualifiers (SPC-4, annex F). */
enum {
	ASC_NONE = 0x0000,
	ASC_NEEDS_START = 0x0402,
	ASC_WRITE_ERROR = 0x0c00,
	ASC_READ_ERROR = 0x1100,
	ASC_PARAMETER_LENGTH = 0x1a00,
	ASC_MISCOMPARE = 0x1d00,
	ASC_INVALID_OPCODE = 0x2000,
	ASC_LBA_OUT_OF_RANGE = 0x2100,
	ASC_INVALID_CDB = 0x2400,
	ASC_NO_UNIT = 0x2500,
	ASC_INVALID_PARAMETER = 0x2600,
	ASC_WRITE_PROTECTED = 0x2700,
	ASC_SOFTWARE_WRITE_PROTECTED = 0x2702,
	ASC_NO_SAVING = 0x3900,
	ASC_NO_MEDIUM = 0x3a00,
	ASC_INTERNAL_FAILURE = 0x4400,
	ASC_REMOVAL_PREVENTED = 0x5302,
};

/* Unit attentions in their order of precedence (SAM-5, 6.2): the lowest is told first. */
enum unit_attention {
	UA_POWER_ON, /* also what a new nexus is told */
	UA_TARGET_RESET,
	UA_UNIT_RESET,
	UA_COMMANDS_CLEARED,
	UA_MEDIUM_CHANGED,
	UA_MODE_CHANGED,
	UA_CAPACITY_CHANGED,
	UA_LUNS_CHANGED,
	UA_COUNT
};
static_assert(UA_COUNT <= LIMIT_NEXUS_UNIT_ATTENTIONS, "each kind is kept once a nexus and unit");

struct scsi_unit {
	struct scsi_device *device;
	struct store_disk *disk;
	store_uuid_t uuid;
	uint8_t lun;
	bool read_only, removable;
	char product[17];

	struct list tasks;       /* entered and not done, oldest first */
	unsigned barrier_count;  /* of those, the ones that need an order (see task.c) */
	struct scsi_task *alone; /* the one that runs with no other beside it */

	/* Lost by a reset. */
	bool d_sense;     /* mode page 0Ah */
	bool software_wp; /* mode page 0Ah, SWP */
	bool stopped;     /* START STOP UNIT */
	bool ejected;
	struct scsi_nexus *reserved_by; /* RESERVE(6), RESERVE(10) */
};

struct scsi_nexus {
	struct list node;
	struct scsi_device *device;
	struct {
		uint8_t attentions; /* 1 << enum unit_attention */
		bool prevents_removal;
	} luns[LIMIT_LUNS_PER_NODE];
	char initiator_port[LIMIT_ISCSI_NAME_BYTES + 24];
};

struct scsi_device {
	struct ring *ring;
	struct list nexuses;
	struct scsi_unit *units[LIMIT_LUNS_PER_NODE];

	struct ring_task close_step;
	unsigned close_lun;
	int close_res;
	void (*closed)(void *arg, int res);
	void *closed_arg;
};

/* --- opcode table (table.c) --- */

enum length_kind {
	LEN_NONE,
	LEN_ALLOCATION, /* data-in up to the ALLOCATION LENGTH at length_at */
	LEN_PARAMETERS, /* data-out of the PARAMETER LIST LENGTH at length_at */
	LEN_FIXED,      /* data-in of length_bytes */
	LEN_READ,
	LEN_WRITE,
	LEN_VERIFY,    /* data-out if BYTCHK */
	LEN_ONE_BLOCK, /* data-out of one block unless NDOB */
	LEN_COMPARE,   /* data-out of twice the blocks */
};

enum command_flags {
	CMD_ANY_LUN = 1 << 0,      /* runs where no unit is */
	CMD_NO_ATTENTION = 1 << 1, /* neither tells nor clears unit attentions */
	CMD_SHARES = 1 << 2,       /* allowed although another nexus holds the reservation */
	CMD_MEDIUM = 1 << 3,       /* needs the medium, ready */
	CMD_WRITES = 1 << 4,       /* refused when write-protected */
	CMD_ALONE = 1 << 5,        /* reads and writes in one indivisible step */
	CMD_REMOVABLE = 1 << 6,    /* only units with a removable medium have it */
};

struct scsi_command {
	uint8_t opcode;
	bool has_action;
	uint8_t action; /* SERVICE ACTION, bits 4:0 of byte 1 */
	uint8_t cdb_bytes;
	uint8_t flags;
	enum length_kind length;
	uint8_t length_at;    /* where the length field is, */
	uint8_t length_bytes; /* and how wide; LEN_FIXED: the length */
	uint16_t timeout_s;   /* recommended; 0: not told */
	/* Bits of each CDB byte that are looked at, from byte 1 on, without the service action
	 * (SPC-4, 6.35.3). Any other bit set is an invalid field. */
	uint8_t usage[15];
	bool (*run)(struct scsi_task *task);
	bool (*resume)(struct scsi_task *task, int res);
};

extern const struct scsi_command scsi_commands[];
extern const unsigned scsi_command_count;

/* The row, or NULL; ret_opcode_known tells an unknown service action of a known opcode. */
const struct scsi_command *scsi_command_find(uint8_t opcode, unsigned action,
					     bool *ret_opcode_known);
bool scsi_command_supported(const struct scsi_command *command, const struct scsi_unit *unit);
/* The mask that CDB byte `i` may have bits of; without a unit as for any. */
uint8_t scsi_command_mask(const struct scsi_command *command, const struct scsi_unit *unit,
			  unsigned i);
/* MODE SENSE's DPOFUA: whether the unit takes the two bits. */
bool scsi_unit_dpofua(const struct scsi_unit *unit);
void scsi_cdb_range(const uint8_t *cdb, uint64_t *ret_lba, uint32_t *ret_blocks);

/* --- outcome (sense.c) --- */

#define NO_BIT 8u

struct scsi_fault {
	enum scsi_sense_key key;
	uint16_t asc_ascq;
	bool has_field, in_cdb;
	uint16_t field_byte;
	uint8_t field_bit; /* NO_BIT: the whole byte */
	bool has_information;
	uint64_t information;
};

/* At most 32 bytes are written. */
uint8_t scsi_sense_build(const struct scsi_fault *fault, bool descriptor_format,
			 uint8_t *ret_sense);
/* Each sets the outcome and returns true, so that `run` can end with it. */
bool scsi_good(struct scsi_task *task);
bool scsi_fail(struct scsi_task *task, enum scsi_sense_key key, uint16_t asc_ascq);
bool scsi_fail_fault(struct scsi_task *task, const struct scsi_fault *fault);
bool scsi_fail_cdb(struct scsi_task *task, unsigned byte, unsigned bit);
bool scsi_fail_parameter(struct scsi_task *task, unsigned byte, unsigned bit);
bool scsi_fail_information(struct scsi_task *task, enum scsi_sense_key key, uint16_t asc_ascq,
			   uint64_t information);
/* The one place where a result of the store becomes status and sense. */
bool scsi_fail_store(struct scsi_task *task, int res);

/* Parameter data under construction. */
struct scsi_reply {
	uint8_t data[REPLY_BYTES_MAX];
	uint32_t bytes;
};

/* The next `bytes` of the reply, zeroed; NULL if it is full. */
uint8_t *scsi_reply_add(struct scsi_reply *reply, uint32_t bytes);
/* Sends it, cut at the ALLOCATION LENGTH and at the room there is: GOOD. */
bool scsi_reply_send(struct scsi_task *task, const struct scsi_reply *reply);

/* --- tasks (task.c) --- */

struct scsi_unit *scsi_task_unit(const struct scsi_task *task);
uint64_t scsi_unit_blocks(const struct scsi_unit *unit);
void scsi_io(struct scsi_task *task, enum store_op op, uint64_t lba, uint64_t blocks, void *data,
	     bool fua);

/* --- units (unit.c) --- */

/* The LUN number of a single-level address, or -1 (SAM-5, 4.7). */
int scsi_lun_number(uint64_t lun);
struct scsi_unit *scsi_unit_find(const struct scsi_device *device, uint64_t lun);
/* To every nexus but `except` (NULL: to every). */
void scsi_unit_attention(struct scsi_unit *unit, enum unit_attention attention,
			 const struct scsi_nexus *except);
/* Takes the most important one, if any: its ASC and ASCQ. */
bool scsi_nexus_take_attention(struct scsi_nexus *nexus, const struct scsi_unit *unit,
			       uint16_t *ret_asc_ascq);
void scsi_nexus_forget_luns_changed(struct scsi_nexus *nexus);
bool scsi_unit_removal_prevented(const struct scsi_unit *unit);
/* Whether a reservation of another nexus forbids the task. */
bool scsi_reservation_conflict(const struct scsi_task *task);

#define SERIAL_BYTES 32
void scsi_unit_serial(const struct scsi_unit *unit, char ret_serial[SERIAL_BYTES + 1]);

/* --- commands --- */

bool scsi_inquiry(struct scsi_task *task);

bool scsi_mode_sense(struct scsi_task *task);
bool scsi_mode_select(struct scsi_task *task);

bool scsi_report_luns(struct scsi_task *task);
bool scsi_report_opcodes(struct scsi_task *task);
bool scsi_report_task_management(struct scsi_task *task);
bool scsi_request_sense(struct scsi_task *task);
bool scsi_read_capacity_10(struct scsi_task *task);
bool scsi_read_capacity_16(struct scsi_task *task);
bool scsi_get_lba_status(struct scsi_task *task);

bool scsi_test_unit_ready(struct scsi_task *task);
bool scsi_start_stop(struct scsi_task *task);
bool scsi_start_stop_resume(struct scsi_task *task, int res);
bool scsi_prevent_allow(struct scsi_task *task);
bool scsi_reserve(struct scsi_task *task);
bool scsi_release(struct scsi_task *task);

bool scsi_read(struct scsi_task *task);
bool scsi_read_resume(struct scsi_task *task, int res);
bool scsi_write(struct scsi_task *task);
bool scsi_plain_resume(struct scsi_task *task, int res);
bool scsi_synchronize_cache(struct scsi_task *task);
bool scsi_prefetch(struct scsi_task *task);
bool scsi_verify(struct scsi_task *task);
bool scsi_write_and_verify(struct scsi_task *task);
bool scsi_verify_resume(struct scsi_task *task, int res);
bool scsi_orwrite(struct scsi_task *task);
bool scsi_orwrite_resume(struct scsi_task *task, int res);
bool scsi_compare_and_write(struct scsi_task *task);
bool scsi_compare_and_write_resume(struct scsi_task *task, int res);
bool scsi_write_same(struct scsi_task *task);
bool scsi_write_same_resume(struct scsi_task *task, int res);
bool scsi_unmap(struct scsi_task *task);
bool scsi_unmap_resume(struct scsi_task *task, int res);

#endif
