/*
 * Reading and writing of TFTP packets. Strings end with a NUL inside the packet or are not there;
 * numbers are decimal digits and nothing else.
 */
#include "boot/tftp_packet.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/byteorder.h"
#include "base/utf8.h"

unsigned tftp_opcode(const uint8_t *packet, size_t bytes)
{
	unsigned opcode = bytes >= TFTP_HEADER_BYTES ? get_be16(packet) : 0;

	return opcode <= TFTP_OACK ? opcode : 0;
}

/* --- requests --- */

/* The string at *at and its length, *at behind its NUL; NULL: it has no end. */
static const char *next_string(const uint8_t *packet, size_t bytes, size_t *at, size_t *ret_length)
{
	const char *text = (const char *)packet + *at;
	const char *end = *at < bytes ? memchr(text, '\0', bytes - *at) : NULL;

	if (!end)
		return NULL;
	*ret_length = (size_t)(end - text);
	*at += *ret_length + 1;
	return text;
}

/* A number from `min` to `max`, or 0. */
static unsigned option_number(const char *text, unsigned min, unsigned max)
{
	unsigned value = 0;

	if (!*text)
		return 0;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return 0;
		value = value * 10 + (unsigned)(*text - '0');
		if (value > max)
			return 0;
	}
	return value >= min ? value : 0;
}

static void take_option(const char *name, const char *value, struct tftp_options *options)
{
	if (strcasecmp(name, "tsize") == 0)
		options->tsize = true; /* whatever the value: a question has none */
	else if (strcasecmp(name, "blksize") == 0)
		options->block_bytes = option_number(value, TFTP_BLOCK_BYTES_MIN, 65464);
	else if (strcasecmp(name, "windowsize") == 0)
		options->window_blocks = option_number(value, 1, 65535);
	else if (strcasecmp(name, "timeout") == 0)
		options->timeout_s = option_number(value, 1, 255);
}

int tftp_request_parse(const uint8_t *packet, size_t bytes, struct tftp_request *ret_request)
{
	struct tftp_request request = {0};
	const char *path, *mode, *name, *value;
	size_t at = 2, path_bytes, length;
	unsigned opcode = tftp_opcode(packet, bytes);
	int r;

	if ((opcode != TFTP_RRQ && opcode != TFTP_WRQ) || bytes > LIMIT_TFTP_REQUEST_BYTES)
		return -EBADMSG;
	path = next_string(packet, bytes, &at, &path_bytes);
	mode = path ? next_string(packet, bytes, &at, &length) : NULL;
	if (!mode)
		return -EBADMSG;
	request.write = opcode == TFTP_WRQ;
	request.netascii = strcasecmp(mode, "netascii") == 0;
	if (!request.netascii && strcasecmp(mode, "octet") != 0)
		return -EPROTO;
	while ((name = next_string(packet, bytes, &at, &length)) != NULL &&
	       (value = next_string(packet, bytes, &at, &length)) != NULL)
		take_option(name, value, &request.options);
	r = path_clean(path, path_bytes, request.path);
	if (r < 0)
		return r;
	*ret_request = request;
	return 0;
}

/* --- what a client says during a transfer --- */

bool tftp_ack_parse(const uint8_t *packet, size_t bytes, uint16_t *ret_block)
{
	if (tftp_opcode(packet, bytes) != TFTP_ACK)
		return false;
	*ret_block = get_be16(packet + 2);
	return true;
}

bool tftp_error_parse(const uint8_t *packet, size_t bytes, char ret_text[TFTP_ERROR_TEXT_BYTES])
{
	const char *text = (const char *)packet + TFTP_HEADER_BYTES;
	size_t length;

	if (tftp_opcode(packet, bytes) != TFTP_ERROR)
		return false;
	length = strnlen(text, bytes - TFTP_HEADER_BYTES);
	if (!utf8_clean(text, length))
		length = 0;
	length = utf8_cut(text, length, TFTP_ERROR_TEXT_BYTES - 1);
	memcpy(ret_text, text, length);
	ret_text[length] = '\0';
	return true;
}

/* --- answers --- */

static void put_header(uint8_t *packet, enum tftp_opcode opcode, uint16_t number)
{
	put_be16(packet, (uint16_t)opcode);
	put_be16(packet + 2, number);
}

size_t tftp_error_write(uint8_t *packet, enum tftp_error code, const char *text)
{
	size_t length = strnlen(text, TFTP_ERROR_TEXT_BYTES - 1);

	put_header(packet, TFTP_ERROR, (uint16_t)code);
	memcpy(packet + TFTP_HEADER_BYTES, text, length);
	packet[TFTP_HEADER_BYTES + length] = 0;
	return TFTP_HEADER_BYTES + length + 1;
}

static size_t put_option(uint8_t *packet, size_t at, const char *name, uint64_t value)
{
	int length = snprintf((char *)packet + at, TFTP_PACKET_BYTES - at, "%s%c%llu", name, 0,
			      (unsigned long long)value);

	assert(length > 0 && at + (size_t)length < TFTP_PACKET_BYTES);
	return at + (size_t)length + 1;
}

size_t tftp_oack_write(uint8_t *packet, const struct tftp_options *granted, uint64_t file_bytes)
{
	size_t at = 2;

	put_be16(packet, TFTP_OACK);
	if (granted->tsize)
		at = put_option(packet, at, "tsize", file_bytes);
	if (granted->block_bytes)
		at = put_option(packet, at, "blksize", granted->block_bytes);
	if (granted->timeout_s)
		at = put_option(packet, at, "timeout", granted->timeout_s);
	if (granted->window_blocks)
		at = put_option(packet, at, "windowsize", granted->window_blocks);
	return at;
}

void tftp_data_header(uint8_t *packet, uint16_t block)
{
	put_header(packet, TFTP_DATA, block);
}
