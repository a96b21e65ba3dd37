/*
 * A raw iSCSI initiator for tests: packs, sends and receives PDUs over one socket, honest by
 * default and able to lie in every field. It shares no code with the target, so that the two
 * can't share a mistake: RFC 7143 was read a second time for it.
 *
 * What it receives it judges: framing, digests, StatSN and the command window of everything the
 * target sends must be right however bad the peer's own behaviour was.
 */
#ifndef LUNROOT_TESTS_SPEAKER_H
#define LUNROOT_TESTS_SPEAKER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPEAKER_BHS_BYTES     48
#define SPEAKER_AHS_BYTES_MAX 1020
#define SPEAKER_R2T_COUNT_MAX 64
#define SPEAKER_RX_BYTES      (SPEAKER_BHS_BYTES + 4 + (1u << 18) + 8)
#define SPEAKER_NO_TAG        0xffffffffu

/* Opcodes as the initiator sends them (RFC 7143, 11.2.1.2) ... */
enum {
	IOP_NOP = 0,
	IOP_SCSI = 1,
	IOP_TMF = 2,
	IOP_LOGIN = 3,
	IOP_TEXT = 4,
	IOP_DATA = 5,
	IOP_LOGOUT = 6,
	IOP_SNACK = 0x10,
	IOP_IMMEDIATE = 0x40
};
/* ... and as the target does. */
enum {
	TOP_NOP = 0x20,
	TOP_SCSI = 0x21,
	TOP_TMF = 0x22,
	TOP_LOGIN = 0x23,
	TOP_TEXT = 0x24,
	TOP_DATA = 0x25,
	TOP_LOGOUT = 0x26,
	TOP_R2T = 0x31,
	TOP_ASYNC = 0x32,
	TOP_REJECT = 0x3f
};

struct speaker_target {
	char name[256];
	char user[256], secret[256]; /* empty user: no CHAP */
	char initiator[256];
};

/* What is proposed at login. */
struct speaker_offer {
	uint8_t isid[6];
	uint16_t tsih, cid; /* 0: a new session */
	bool discovery;     /* names no target */
	bool header_digest, data_digest, immediate_data, initial_r2t;
	uint32_t mrdsl, first_burst, max_burst;
	unsigned outstanding_r2t;
};

struct speaker_r2t {
	uint32_t itt, ttt, offset, bytes;
	uint8_t lun[8];
};

struct speaker {
	int fd;
	bool logged_in, header_digest, data_digest, stat_known, window_known;
	bool honest; /* in speaker_login */
	bool blind;  /* a login of the caller's own making came through: what was agreed is not
			known, so what follows is read and not judged */
	uint32_t cmdsn, expstatsn, expcmdsn, maxcmdsn, next_itt;
	uint32_t mrdsl;                                 /* ours */
	uint32_t peer_mrdsl;                            /* the target's */
	struct speaker_r2t r2ts[SPEAKER_R2T_COUNT_MAX]; /* not answered yet */
	unsigned r2t_count;
	uint16_t tsih;               /* as the target gave it */
	uint32_t text_itt, text_ttt; /* of the last text response */
	uint32_t ping_ttt;           /* of the target's last ping; 0: none to answer */
	uint8_t ping_lun[8];
	uint32_t last_itt; /* of the last response of any kind */
	uint8_t last_opcode;
	uint64_t received; /* PDUs */
	uint8_t *rx;
	size_t rx_bytes;
	char complaint[200]; /* what the target did wrong; empty: nothing */
};

struct speaker_pdu {
	uint8_t bhs[SPEAKER_BHS_BYTES];
	uint8_t ahs[SPEAKER_AHS_BYTES_MAX];
	unsigned ahs_bytes; /* a multiple of four */
	const uint8_t *data;
	uint32_t data_bytes;
	bool lengths_lie; /* the header's two length fields are sent as they stand */
	bool header_digest_wrong, data_digest_wrong, digests_absent;
};

enum speaker_result {
	SPEAKER_OK,
	SPEAKER_CLOSED, /* by the target, or reset */
	SPEAKER_TIMEOUT,
	SPEAKER_REFUSED,   /* login status is not zero */
	SPEAKER_COMPLAINT, /* the target broke the protocol; see complaint */
};

void speaker_init(struct speaker *s);
/* Closes the socket, with a reset if asked for, and frees. */
void speaker_done(struct speaker *s, bool reset);

/* Connects; rcvbuf_bytes 0 leaves the default. */
enum speaker_result speaker_connect(struct speaker *s, const struct sockaddr_storage *address,
				    int rcvbuf_bytes);
/* A whole honest login. ret_status gets class and detail of the last response. */
enum speaker_result speaker_login(struct speaker *s, const struct speaker_target *target,
				  const struct speaker_offer *offer, int timeout_ms,
				  uint16_t *ret_status);

/* The PDU as bytes, padded and digested; returns how many (room must suffice). */
size_t speaker_pack(const struct speaker *s, const struct speaker_pdu *pdu, uint8_t *out);
#define SPEAKER_PACK_BYTES(data_bytes) \
	(SPEAKER_BHS_BYTES + SPEAKER_AHS_BYTES_MAX + 4 + (data_bytes) + 3 + 4)
/* Sends all bytes, receiving meanwhile so that neither side waits for the other. */
enum speaker_result speaker_send(struct speaker *s, const void *bytes, size_t count,
				 int timeout_ms);
/* Receives and judges what is there; with a timeout waits for at least one PDU. */
enum speaker_result speaker_receive(struct speaker *s, int timeout_ms);

/* An honest header for the next command: tag, CmdSN (consumed), ExpStatSN. */
void speaker_command(struct speaker *s, struct speaker_pdu *pdu, uint8_t opcode);
/* Sends an immediate NOP-Out and waits for its answer, which may be a Reject. */
enum speaker_result speaker_ping(struct speaker *s, int timeout_ms);

/* "1.2.3.4:3260" or "[::1]:3260"; false if it is neither. */
bool speaker_parse_portal(const char *text, struct sockaddr_storage *ret_address);

uint32_t speaker_crc32c(uint32_t crc, const uint8_t *data, size_t bytes);
void speaker_put32(uint8_t *p, uint32_t v);
void speaker_put24(uint8_t *p, uint32_t v);
uint32_t speaker_get32(const uint8_t *p);
uint64_t speaker_now_ms(void);

#endif
