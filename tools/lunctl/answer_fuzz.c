/*
 * What comes from the control socket as an answer: must never be read beyond its end, and what is
 * taken lies within what came. The first byte says whether the connection has ended.
 */
#include "base/http_client.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_answer answer = {0};
	char why[HTTP_WHY_BYTES] = "";
	int ended, r;

	if (size == 0)
		return 0;
	ended = data[0] & 1;
	r = http_client_parse((const char *)data + 1, size - 1, ended, &answer, why);
	assert(r == 1 || r == -EPROTO || (r == 0 && !ended));
	if (r == 1)
		assert(answer.body_start + answer.body_bytes <= size - 1);
	if (r < 0)
		assert(why[0] != '\0' && memchr(why, '\0', sizeof(why)) != NULL);
	return 0;
}
