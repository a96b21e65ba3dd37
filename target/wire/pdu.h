/*
 * The layout of every iSCSI PDU header (RFC 7143, section 11) as structs of bytes, and the
 * constants that stand in them. Pure: nothing here checks what a peer may send or keeps state;
 * the session decides what a value means. Initiator and target share it.
 */
#ifndef LUNROOT_WIRE_PDU_H
#define LUNROOT_WIRE_PDU_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/byteorder.h"

#define WIRE_BHS_BYTES    48
#define WIRE_DIGEST_BYTES 4
#define WIRE_TAG_NONE     0xffffffffu /* the reserved ITT or TTT */
#define WIRE_PORT         3260
#define WIRE_VERSION      0x00 /* the only one there is (11.12.4) */

/* Byte 0: the opcode in the low six bits, and the immediate bit of requests. */
#define WIRE_OPCODE_MASK 0x3f
#define WIRE_IMMEDIATE   0x40

enum wire_opcode {
	WIRE_OP_NOP_OUT = 0x00,
	WIRE_OP_SCSI_CMD = 0x01,
	WIRE_OP_TMF_REQ = 0x02,
	WIRE_OP_LOGIN_REQ = 0x03,
	WIRE_OP_TEXT_REQ = 0x04,
	WIRE_OP_DATA_OUT = 0x05,
	WIRE_OP_LOGOUT_REQ = 0x06,
	WIRE_OP_SNACK = 0x10,
	WIRE_OP_NOP_IN = 0x20,
	WIRE_OP_SCSI_RSP = 0x21,
	WIRE_OP_TMF_RSP = 0x22,
	WIRE_OP_LOGIN_RSP = 0x23,
	WIRE_OP_TEXT_RSP = 0x24,
	WIRE_OP_DATA_IN = 0x25,
	WIRE_OP_LOGOUT_RSP = 0x26,
	WIRE_OP_R2T = 0x31,
	WIRE_OP_ASYNC = 0x32,
	WIRE_OP_REJECT = 0x3f,
};

/* Byte 1, bit 7: the final PDU of a sequence; always set where there are no sequences. */
#define WIRE_FINAL 0x80

/* What all headers have in common. */
struct wire_bhs {
	uint8_t opcode, flags, specific[2];
	uint8_t ahs_words; /* 4-byte words */
	be24_t data_bytes; /* without padding */
	be64_t lun;
	be32_t itt;
	uint8_t rest[28];
};
static_assert(sizeof(struct wire_bhs) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- SCSI Command (11.3) --- */
#define WIRE_CMD_FINAL     0x80 /* no unsolicited Data-Out follows */
#define WIRE_CMD_READ      0x40
#define WIRE_CMD_WRITE     0x20
#define WIRE_CMD_ATTR_MASK 0x07

enum wire_attr {
	WIRE_ATTR_UNTAGGED = 0,
	WIRE_ATTR_SIMPLE = 1,
	WIRE_ATTR_ORDERED = 2,
	WIRE_ATTR_HEAD_OF_QUEUE = 3,
	WIRE_ATTR_ACA = 4,
};

struct wire_scsi_cmd {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, edtl_bytes, cmdsn, expstatsn;
	uint8_t cdb[16];
};
static_assert(sizeof(struct wire_scsi_cmd) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* Additional header segments (11.2.2): this, then `bytes` - 1 more bytes, padded to 4. */
enum wire_ahs_type {
	WIRE_AHS_EXTENDED_CDB = 1,
	WIRE_AHS_BIDI_READ = 2,
};

struct wire_ahs {
	be16_t bytes; /* what follows the type, reserved byte included, padding excluded */
	uint8_t type;
	uint8_t rsvd;
};
static_assert(sizeof(struct wire_ahs) == 4, "AHS head is 4 bytes");

/* --- SCSI Response (11.4) --- */
#define WIRE_RSP_BIDI_OVERFLOW  0x10
#define WIRE_RSP_BIDI_UNDERFLOW 0x08
#define WIRE_RSP_OVERFLOW       0x04
#define WIRE_RSP_UNDERFLOW      0x02

enum wire_response {
	WIRE_RESPONSE_COMPLETED = 0x00,
	WIRE_RESPONSE_TARGET_FAILURE = 0x01,
};

struct wire_scsi_rsp {
	uint8_t opcode, flags, response, status;
	uint8_t ahs_words;
	be24_t data_bytes;
	uint8_t rsvd[8];
	be32_t itt, snack_tag, statsn, expcmdsn, maxcmdsn, expdatasn;
	be32_t bidi_residual_count, residual_count;
};
static_assert(sizeof(struct wire_scsi_rsp) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- Task Management (11.5, 11.6; RFC 7144 for 9 to 12) --- */
#define WIRE_TMF_FUNCTION_MASK 0x7f

enum wire_tmf_function {
	WIRE_TMF_ABORT_TASK = 1,
	WIRE_TMF_ABORT_TASK_SET = 2,
	WIRE_TMF_CLEAR_ACA = 3,
	WIRE_TMF_CLEAR_TASK_SET = 4,
	WIRE_TMF_LUN_RESET = 5,
	WIRE_TMF_TARGET_WARM_RESET = 6,
	WIRE_TMF_TARGET_COLD_RESET = 7,
	WIRE_TMF_TASK_REASSIGN = 8,
	WIRE_TMF_QUERY_TASK = 9,
	WIRE_TMF_QUERY_TASK_SET = 10,
	WIRE_TMF_NEXUS_RESET = 11,
	WIRE_TMF_QUERY_ASYNC_EVENT = 12,
};

enum wire_tmf_response {
	WIRE_TMF_COMPLETE = 0,
	WIRE_TMF_NO_TASK = 1,
	WIRE_TMF_NO_LUN = 2,
	WIRE_TMF_STILL_ALLEGIANT = 3,
	WIRE_TMF_NO_REASSIGN = 4,
	WIRE_TMF_UNSUPPORTED = 5,
	WIRE_TMF_NOT_AUTHORIZED = 6,
	WIRE_TMF_SUCCEEDED = 7, /* RFC 7144: a query found it */
	WIRE_TMF_REJECTED = 255,
};

struct wire_tmf_req {
	uint8_t opcode, function, rsvd[2]; /* WIRE_FINAL | function */
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ref_tag, cmdsn, expstatsn, refcmdsn, expdatasn;
	uint8_t rsvd2[8];
};
static_assert(sizeof(struct wire_tmf_req) == WIRE_BHS_BYTES, "BHS is 48 bytes");

struct wire_tmf_rsp {
	uint8_t opcode, flags, response, rsvd;
	uint8_t ahs_words;
	be24_t data_bytes;
	uint8_t rsvd2[8];
	be32_t itt;
	uint8_t rsvd3[4];
	be32_t statsn, expcmdsn, maxcmdsn;
	uint8_t rsvd4[12];
};
static_assert(sizeof(struct wire_tmf_rsp) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- Data-Out, Data-In, R2T (11.7, 11.8) --- */
#define WIRE_DATA_ACKNOWLEDGE 0x40 /* Data-In, ErrorRecoveryLevel 1 and above */
#define WIRE_DATA_OVERFLOW    0x04 /* Data-In with status only */
#define WIRE_DATA_UNDERFLOW   0x02
#define WIRE_DATA_STATUS      0x01 /* the status byte holds; implies WIRE_FINAL */

struct wire_data_out {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt;
	uint8_t rsvd2[4];
	be32_t expstatsn;
	uint8_t rsvd3[4];
	be32_t datasn, offset_bytes;
	uint8_t rsvd4[4];
};
static_assert(sizeof(struct wire_data_out) == WIRE_BHS_BYTES, "BHS is 48 bytes");

struct wire_data_in {
	uint8_t opcode, flags, rsvd, status;
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt, statsn, expcmdsn, maxcmdsn, datasn, offset_bytes, residual_count;
};
static_assert(sizeof(struct wire_data_in) == WIRE_BHS_BYTES, "BHS is 48 bytes");

struct wire_r2t {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt, statsn, expcmdsn, maxcmdsn, r2tsn, offset_bytes, desired_bytes;
};
static_assert(sizeof(struct wire_r2t) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- Asynchronous Message (11.9) --- */
enum wire_async_event {
	WIRE_ASYNC_SCSI = 0,
	WIRE_ASYNC_LOGOUT = 1,    /* within parameter3 seconds */
	WIRE_ASYNC_DROP_CONN = 2, /* parameter1: CID, 2: Time2Wait, 3: Time2Retain */
	WIRE_ASYNC_DROP_ALL = 3,  /* parameter2, parameter3 as above */
	WIRE_ASYNC_NEGOTIATE = 4, /* within parameter3 seconds */
	WIRE_ASYNC_TASKS_TERMINATED = 5,
	WIRE_ASYNC_VENDOR = 255,
};

struct wire_async {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt; /* WIRE_TAG_NONE */
	uint8_t rsvd2[4];
	be32_t statsn, expcmdsn, maxcmdsn;
	uint8_t event, vendor_code;
	be16_t parameter1, parameter2, parameter3;
	uint8_t rsvd3[4];
};
static_assert(sizeof(struct wire_async) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- Text (11.10, 11.11) --- */
#define WIRE_TEXT_CONTINUE 0x40 /* the set of keys goes on in the next PDU */

struct wire_text_req {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt, cmdsn, expstatsn;
	uint8_t rsvd2[16];
};
static_assert(sizeof(struct wire_text_req) == WIRE_BHS_BYTES, "BHS is 48 bytes");

struct wire_text_rsp {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt, statsn, expcmdsn, maxcmdsn;
	uint8_t rsvd2[12];
};
static_assert(sizeof(struct wire_text_rsp) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- Login (11.12, 11.13) --- */
#define WIRE_LOGIN_TRANSIT   0x80
#define WIRE_LOGIN_CONTINUE  0x40
#define WIRE_LOGIN_CSG_MASK  0x0c
#define WIRE_LOGIN_CSG_SHIFT 2
#define WIRE_LOGIN_NSG_MASK  0x03

enum wire_stage {
	WIRE_STAGE_SECURITY = 0,
	WIRE_STAGE_OPERATIONAL = 1,
	WIRE_STAGE_FULL_FEATURE = 3,
};

/* Status-Class and Status-Detail as one number, class << 8 | detail (11.13.5). */
enum wire_login_status {
	WIRE_LOGIN_SUCCESS = 0x0000,
	WIRE_LOGIN_MOVED_TEMPORARILY = 0x0101,
	WIRE_LOGIN_MOVED_PERMANENTLY = 0x0102,
	WIRE_LOGIN_INITIATOR_ERROR = 0x0200,
	WIRE_LOGIN_AUTH_FAILED = 0x0201,
	WIRE_LOGIN_FORBIDDEN = 0x0202,
	WIRE_LOGIN_NOT_FOUND = 0x0203,
	WIRE_LOGIN_TARGET_REMOVED = 0x0204,
	WIRE_LOGIN_VERSION = 0x0205,
	WIRE_LOGIN_TOO_MANY_CONNECTIONS = 0x0206,
	WIRE_LOGIN_MISSING_PARAMETER = 0x0207,
	WIRE_LOGIN_CANNOT_INCLUDE = 0x0208,
	WIRE_LOGIN_SESSION_TYPE = 0x0209,
	WIRE_LOGIN_NO_SESSION = 0x020a,
	WIRE_LOGIN_INVALID_DURING_LOGIN = 0x020b,
	WIRE_LOGIN_TARGET_ERROR = 0x0300,
	WIRE_LOGIN_UNAVAILABLE = 0x0301,
	WIRE_LOGIN_NO_RESOURCES = 0x0302,
};

struct wire_login_req {
	uint8_t opcode, flags, version_max, version_min;
	uint8_t ahs_words;
	be24_t data_bytes;
	uint8_t isid[6];
	be16_t tsih;
	be32_t itt;
	be16_t cid;
	uint8_t rsvd[2];
	be32_t cmdsn, expstatsn;
	uint8_t rsvd2[16];
};
static_assert(sizeof(struct wire_login_req) == WIRE_BHS_BYTES, "BHS is 48 bytes");

struct wire_login_rsp {
	uint8_t opcode, flags, version_max, version_active;
	uint8_t ahs_words;
	be24_t data_bytes;
	uint8_t isid[6];
	be16_t tsih;
	be32_t itt;
	uint8_t rsvd[4];
	be32_t statsn, expcmdsn, maxcmdsn;
	be16_t status; /* enum wire_login_status */
	uint8_t rsvd2[10];
};
static_assert(sizeof(struct wire_login_rsp) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- Logout (11.14, 11.15) --- */
#define WIRE_LOGOUT_REASON_MASK 0x7f

enum wire_logout_reason {
	WIRE_LOGOUT_SESSION = 0,
	WIRE_LOGOUT_CONNECTION = 1,
	WIRE_LOGOUT_RECOVERY = 2,
};

enum wire_logout_response {
	WIRE_LOGOUT_CLOSED = 0,
	WIRE_LOGOUT_NO_CID = 1,
	WIRE_LOGOUT_NO_RECOVERY = 2,
	WIRE_LOGOUT_CLEANUP_FAILED = 3,
};

struct wire_logout_req {
	uint8_t opcode, reason, rsvd[2]; /* WIRE_FINAL | reason */
	uint8_t ahs_words;
	be24_t data_bytes;
	uint8_t rsvd2[8];
	be32_t itt;
	be16_t cid;
	uint8_t rsvd3[2];
	be32_t cmdsn, expstatsn;
	uint8_t rsvd4[16];
};
static_assert(sizeof(struct wire_logout_req) == WIRE_BHS_BYTES, "BHS is 48 bytes");

struct wire_logout_rsp {
	uint8_t opcode, flags, response, rsvd;
	uint8_t ahs_words;
	be24_t data_bytes;
	uint8_t rsvd2[8];
	be32_t itt;
	uint8_t rsvd3[4];
	be32_t statsn, expcmdsn, maxcmdsn;
	uint8_t rsvd4[4];
	be16_t time2wait_s, time2retain_s;
	uint8_t rsvd5[4];
};
static_assert(sizeof(struct wire_logout_rsp) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- SNACK (11.16) --- */
#define WIRE_SNACK_TYPE_MASK 0x0f

struct wire_snack {
	uint8_t opcode, type, rsvd[2]; /* WIRE_FINAL | type */
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt;
	uint8_t rsvd2[4];
	be32_t expstatsn;
	uint8_t rsvd3[8];
	be32_t begrun, run_count;
};
static_assert(sizeof(struct wire_snack) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- Reject (11.17) --- */
enum wire_reject_reason {
	WIRE_REJECT_DATA_DIGEST = 0x02,
	WIRE_REJECT_SNACK = 0x03,
	WIRE_REJECT_PROTOCOL = 0x04,
	WIRE_REJECT_UNSUPPORTED = 0x05,
	WIRE_REJECT_TOO_MANY_IMMEDIATE = 0x06,
	WIRE_REJECT_TASK_IN_PROGRESS = 0x07,
	WIRE_REJECT_INVALID_DATA_ACK = 0x08,
	WIRE_REJECT_INVALID_FIELD = 0x09,
	WIRE_REJECT_LONG_OPERATION = 0x0a,
	WIRE_REJECT_NEGOTIATION_RESET = 0x0b, /* obsolete */
	WIRE_REJECT_WAITING_FOR_LOGOUT = 0x0c,
};

struct wire_reject {
	uint8_t opcode, flags, reason, rsvd;
	uint8_t ahs_words;
	be24_t data_bytes; /* the header complained about follows as data */
	uint8_t rsvd2[8];
	be32_t itt; /* WIRE_TAG_NONE */
	uint8_t rsvd3[4];
	be32_t statsn, expcmdsn, maxcmdsn, datasn;
	uint8_t rsvd4[8];
};
static_assert(sizeof(struct wire_reject) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- NOP (11.18, 11.19) --- */
struct wire_nop_out {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt, cmdsn, expstatsn;
	uint8_t rsvd2[16];
};
static_assert(sizeof(struct wire_nop_out) == WIRE_BHS_BYTES, "BHS is 48 bytes");

struct wire_nop_in {
	uint8_t opcode, flags, rsvd[2];
	uint8_t ahs_words;
	be24_t data_bytes;
	be64_t lun;
	be32_t itt, ttt, statsn, expcmdsn, maxcmdsn;
	uint8_t rsvd2[12];
};
static_assert(sizeof(struct wire_nop_in) == WIRE_BHS_BYTES, "BHS is 48 bytes");

/* --- helpers --- */

static inline uint8_t wire_opcode(const struct wire_bhs *bhs)
{
	return bhs->opcode & WIRE_OPCODE_MASK;
}

static inline bool wire_is_immediate(const struct wire_bhs *bhs)
{
	return (bhs->opcode & WIRE_IMMEDIATE) != 0;
}

static inline bool wire_is_final(const struct wire_bhs *bhs)
{
	return (bhs->flags & WIRE_FINAL) != 0;
}

static inline uint32_t wire_ahs_bytes(const struct wire_bhs *bhs)
{
	return (uint32_t)bhs->ahs_words * 4;
}

static inline uint32_t wire_data_bytes(const struct wire_bhs *bhs)
{
	return be24_get(bhs->data_bytes);
}

/* Segments are padded to whole words, and the padding counts in no length (11.2.3). */
static inline uint32_t wire_pad4(uint32_t bytes)
{
	return (bytes + 3) & ~3u;
}

static inline uint8_t wire_login_csg(uint8_t flags)
{
	return (uint8_t)((flags & WIRE_LOGIN_CSG_MASK) >> WIRE_LOGIN_CSG_SHIFT);
}

static inline uint8_t wire_login_nsg(uint8_t flags)
{
	return flags & WIRE_LOGIN_NSG_MASK;
}

/* For log lines; never NULL. */
const char *wire_opcode_name(uint8_t opcode);
const char *wire_login_status_name(uint16_t status);
const char *wire_tmf_function_name(uint8_t function);
const char *wire_reject_reason_name(uint8_t reason);

#endif
