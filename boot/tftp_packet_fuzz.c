/*
 * Any bytes as a TFTP packet. A request that is accepted has a clean name and options in range, and
 * says the same when it is written down and read again.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "boot/tftp_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t put(uint8_t *packet, size_t at, const char *text)
{
	size_t bytes = strlen(text) + 1;

	assert(at + bytes <= LIMIT_TFTP_REQUEST_BYTES);
	memcpy(packet + at, text, bytes);
	return at + bytes;
}

static size_t put_option(uint8_t *packet, size_t at, const char *name, unsigned value)
{
	char text[12];

	(void)snprintf(text, sizeof(text), "%u", value);
	return put(packet, put(packet, at, name), text);
}

static void write_again(const struct tftp_request *request)
{
	const struct tftp_options *o = &request->options;
	uint8_t packet[LIMIT_TFTP_REQUEST_BYTES] = {0, request->write ? TFTP_WRQ : TFTP_RRQ};
	struct tftp_request again;
	size_t at = put(packet, 2, request->path);

	at = put(packet, at, request->netascii ? "netascii" : "octet");
	at = put_option(packet, at, o->tsize ? "tsize" : "nothing", 0);
	at = put_option(packet, at, "blksize", o->block_bytes);
	at = put_option(packet, at, "timeout", o->timeout_s);
	at = put_option(packet, at, "windowsize", o->window_blocks);
	assert(tftp_request_parse(packet, at, &again) == 0);
	assert(again.write == request->write && again.netascii == request->netascii);
	assert(strcmp(again.path, request->path) == 0);
	assert(again.options.tsize == o->tsize && again.options.block_bytes == o->block_bytes);
	assert(again.options.timeout_s == o->timeout_s);
	assert(again.options.window_blocks == o->window_blocks);
}

static void read_request(const uint8_t *data, size_t size)
{
	struct tftp_request request;
	int r = tftp_request_parse(data, size, &request);

	if (r < 0) {
		assert(r == -EBADMSG || r == -EPROTO || r == -EINVAL || r == -EACCES ||
		       r == -ENOENT || r == -ENAMETOOLONG);
		return;
	}
	assert(request.path[0] && utf8_clean(request.path, strlen(request.path)));
	assert(request.options.block_bytes == 0 || request.options.block_bytes >= 8);
	assert(request.options.block_bytes <= 65464 && request.options.window_blocks <= 65535);
	assert(request.options.timeout_s <= 255);
	write_again(&request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[TFTP_ERROR_TEXT_BYTES];
	uint16_t block;

	assert(tftp_opcode(data, size) <= TFTP_OACK);
	read_request(data, size);
	if (tftp_ack_parse(data, size, &block))
		assert(data[2] == block >> 8 && data[3] == (block & 0xff));
	if (tftp_error_parse(data, size, text))
		assert(strlen(text) < sizeof(text) && utf8_clean(text, strlen(text)));
	return 0;
}
