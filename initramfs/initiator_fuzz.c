/*
 * Whatever a target answers: the login ends with a verdict. The input is a row of responses: flags,
 * status (2 bytes), length (2 bytes, big endian), text.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "initramfs/initiator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct initiator initiator;
	static struct initiator_request request;
	static uint8_t text[LIMIT_LOGIN_SEGMENT_BYTES];
	unsigned kind = size ? data[0] : 0;
	struct initiator_wish wish = {
		.initiator = "iqn.2026-11.local.lunroot:initiator:pi",
		.target = "iqn.2026-11.local.lunroot:pi",
		.alias = "",
		.user = kind & 1 ? "user" : "",
		.secret = "secret-of-16-by1",
		.mutual_user = kind & 2 ? "target" : "",
		.mutual_secret = "other-of-16-by1!",
		.header_digest = (kind & 4) != 0,
	};
	enum initiator_verdict verdict = initiator_begin(&initiator, &wish, &request);
	size_t at = 1;

	while (verdict == INITIATOR_SEND && at + 5 <= size) {
		struct wire_login_rsp rsp = {.opcode = WIRE_OP_LOGIN_RSP, .flags = data[at]};
		size_t bytes = (size_t)get_be16(data + at + 3) % (sizeof(text) + 1);

		memcpy(rsp.isid, wish.isid, sizeof(rsp.isid));
		rsp.itt = request.bhs.itt;
		be16_put(&rsp.tsih, 1);
		be16_put(&rsp.status, get_be16(data + at + 1));
		at += 5;
		if (bytes > size - at)
			bytes = size - at;
		memcpy(text, data + at, bytes);
		at += bytes;
		verdict = initiator_step(&initiator, &rsp, text, (uint32_t)bytes, &request);
		if (verdict == INITIATOR_SEND && request.text_bytes > sizeof(request.text))
			abort();
		if ((verdict == INITIATOR_BROKEN || verdict == INITIATOR_REFUSED) &&
		    !initiator.why[0])
			abort();
	}
	initiator_done(&initiator);
	return 0;
}
