/*
 * Whether bytes are text fit to be kept, compared and shown on a console: UTF-8 (RFC 3629) without
 * control characters. Text keys, settings and disk labels are all a stranger's words. Any thread.
 */
#ifndef LUNROOT_BASE_UTF8_H
#define LUNROOT_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the sequence at `p`, or 0: a control, overlong, a surrogate, cut off. */
static inline size_t utf8_sequence(const char *text, size_t bytes)
{
	const uint8_t *p = (const uint8_t *)text;
	uint8_t lead = bytes > 0 ? p[0] : 0;
	size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

	if (lead < 0x80)
		return lead >= 0x20 && lead != 0x7f ? 1 : 0;
	if (lead < 0xc2 || lead > 0xf4 || length > bytes)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	/* U+0080 to U+009F move a terminal's cursor as escape sequences do. */
	if ((lead == 0xc2 && p[1] < 0xa0) || (lead == 0xe0 && p[1] < 0xa0) ||
	    (lead == 0xed && p[1] > 0x9f) || (lead == 0xf0 && p[1] < 0x90) ||
	    (lead == 0xf4 && p[1] > 0x8f))
		return 0;
	return length;
}

static inline bool utf8_clean(const char *text, size_t bytes)
{
	size_t i = 0;

	while (i < bytes) {
		size_t step = utf8_sequence(text + i, bytes - i);

		if (step == 0)
			return false;
		i += step;
	}
	return true;
}

/* At most `bytes_max` bytes of clean text, not cut inside a character. */
static inline size_t utf8_cut(const char *text, size_t bytes, size_t bytes_max)
{
	if (bytes <= bytes_max)
		return bytes;
	while (bytes_max > 0 && ((uint8_t)text[bytes_max] & 0xc0) == 0x80)
		bytes_max--;
	return bytes_max;
}

#endif
