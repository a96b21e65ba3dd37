/*
 * "bytes=FIRST-LAST", "bytes=FIRST-" and "bytes=-LAST-SO-MANY".
 */
#include "boot/http_range.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <strings.h>

/* Digits; a number too large to be held is as good as the largest. false: there are none. */
static bool take_number(const char **at, uint64_t *ret_value)
{
	const char *p = *at;
	uint64_t value = 0;
	bool huge = false;

	for (; *p >= '0' && *p <= '9'; p++)
		huge |= __builtin_mul_overflow(value, 10, &value) ||
			__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
	if (p == *at)
		return false;
	*at = p;
	*ret_value = huge ? UINT64_MAX : value;
	return true;
}

static const char *skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

int http_range_parse(const char *header, uint64_t file_bytes, uint64_t *ret_first,
		     uint64_t *ret_bytes)
{
	uint64_t first = 0, last = UINT64_MAX;
	bool has_first, has_last;
	const char *p = header;

	if (strncasecmp(p, "bytes=", 6) != 0)
		return -ENOENT;
	p = skip_blanks(p + 6);
	has_first = take_number(&p, &first);
	if (*p++ != '-')
		return -ENOENT;
	has_last = take_number(&p, &last);
	if (*skip_blanks(p) || (!has_first && !has_last) || (has_first && has_last && last < first))
		return -ENOENT;
	if (!has_first) {
		if (last == 0)
			return -ERANGE;
		first = last < file_bytes ? file_bytes - last : 0;
		last = UINT64_MAX;
		if (file_bytes == 0)
			return -ENOENT;
	}
	if (first >= file_bytes)
		return -ERANGE;
	if (last >= file_bytes)
		last = file_bytes - 1;
	*ret_first = first;
	*ret_bytes = last - first + 1;
	return 0;
}
