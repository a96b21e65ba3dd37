/*
 * TFTP's packets as bytes: requests with their options read, answers written. RFC 1350, options of
 * RFC 2347, 2348 (blksize), 2349 (tsize, timeout) and 7440 (windowsize). No sockets, no state; any
 * thread.
 */
#ifndef LUNROOT_BOOT_TFTP_PACKET_H
#define LUNROOT_BOOT_TFTP_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "boot/path.h"

#define TFTP_HEADER_BYTES     4
#define TFTP_PACKET_BYTES     (TFTP_HEADER_BYTES + LIMIT_TFTP_BLOCK_BYTES)
#define TFTP_BLOCK_BYTES      512 /* without the blksize option */
#define TFTP_BLOCK_BYTES_MIN  8   /* RFC 2348 */
#define TFTP_ERROR_TEXT_BYTES 128 /* of which we keep and send no more */

enum tftp_opcode {
	TFTP_RRQ = 1,
	TFTP_WRQ = 2,
	TFTP_DATA = 3,
	TFTP_ACK = 4,
	TFTP_ERROR = 5,
	TFTP_OACK = 6
};

/* RFC 1350, appendix; 8 of RFC 2347. */
enum tftp_error {
	TFTP_ERROR_OTHER = 0,
	TFTP_ERROR_NOT_FOUND = 1,
	TFTP_ERROR_ACCESS = 2,
	TFTP_ERROR_ILLEGAL = 4,
	TFTP_ERROR_UNKNOWN_TID = 5
};

/* What a request asks for, or an OACK grants; 0 and false: it does not. */
struct tftp_options {
	bool tsize;
	unsigned block_bytes;   /* 8 or more */
	unsigned window_blocks; /* 1 to 65535 */
	unsigned timeout_s;     /* 1 to 255 */
};

struct tftp_request {
	bool write;
	bool netascii;
	struct tftp_options options;
	char path[PATH_BUFFER_BYTES]; /* clean, see boot/path.h */
};

/* The opcode, or 0 for what is no TFTP packet. */
unsigned tftp_opcode(const uint8_t *packet, size_t bytes);

/*
 * Reads a RRQ or WRQ. Options that are unknown, out of range or cut off count as not asked for, as
 * RFC 2347 wants.
 *   -EBADMSG  no whole file name and mode, or too long
 *   -EPROTO   a mode that is neither octet nor netascii
 *   and what path_clean says of the name
 */
int tftp_request_parse(const uint8_t *packet, size_t bytes, struct tftp_request *ret_request);

/* The block of an ACK; false: it is none. */
bool tftp_ack_parse(const uint8_t *packet, size_t bytes, uint16_t *ret_block);

/* An ERROR's text as clean UTF-8, "" if it has none; false: it is no ERROR. */
bool tftp_error_parse(const uint8_t *packet, size_t bytes, char ret_text[TFTP_ERROR_TEXT_BYTES]);

/* Each writes a packet of at most TFTP_PACKET_BYTES and returns its length. */
size_t tftp_error_write(uint8_t *packet, enum tftp_error code, const char *text);
/* The options that are granted; `file_bytes` for tsize. */
size_t tftp_oack_write(uint8_t *packet, const struct tftp_options *granted, uint64_t file_bytes);
/* Before a block's data. */
void tftp_data_header(uint8_t *packet, uint16_t block);

#endif
