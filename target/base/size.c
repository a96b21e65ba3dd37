/*
 * Sizes as people write and read them; see size.h.
 */
#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char size_letters[] = "KMGTP";

int size_parse(const char *text, uint64_t *ret_bytes)
{
	unsigned shift = 0;
	uint64_t bytes = 0;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	for (; *text >= '0' && *text <= '9'; text++) {
		if (__builtin_mul_overflow(bytes, 10, &bytes) ||
		    __builtin_add_overflow(bytes, (uint64_t)(*text - '0'), &bytes))
			return -ERANGE;
	}
	if (*text) {
		char upper = (char)(*text >= 'a' && *text <= 'z' ? *text - 'a' + 'A' : *text);
		const char *letter = strchr(size_letters, upper);

		if (!letter)
			return -EINVAL;
		shift = 10 * (unsigned)(letter - size_letters + 1);
		text++;
		if (*text && strcmp(text, "iB") != 0 && strcmp(text, "ib") != 0)
			return -EINVAL;
	}
	if (shift && bytes >> (63 - shift))
		return -ERANGE;
	if (bytes > INT64_MAX)
		return -ERANGE;
	*ret_bytes = bytes << shift;
	return 0;
}

const char *size_format(uint64_t bytes, char buffer[SIZE_TEXT_BYTES])
{
	unsigned step = 0;
	double value = (double)bytes;

	/* 1023.95 would be written as 1024.0 of the smaller unit. */
	while (value >= 1023.95 && size_letters[step]) {
		value /= 1024;
		step++;
	}
	if (step == 0)
		(void)snprintf(buffer, SIZE_TEXT_BYTES, "%u B", (unsigned)bytes);
	else
		(void)snprintf(buffer, SIZE_TEXT_BYTES, "%.1f %ciB", value, size_letters[step - 1]);
	return buffer;
}
