/*
 * UTF-16LE, in which partition tables and FAT keep names, as UTF-8. Any thread.
 */
#ifndef LUNROOT_BASE_UTF16_H
#define LUNROOT_BASE_UTF16_H

#include <stddef.h>
#include <stdint.h>

static inline size_t utf16_put(char ret_text[4], uint32_t c)
{
	if (c < 0x80) {
		ret_text[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		ret_text[0] = (char)(0xc0 | c >> 6);
		ret_text[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		ret_text[0] = (char)(0xe0 | c >> 12);
		ret_text[1] = (char)(0x80 | (c >> 6 & 0x3f));
		ret_text[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	ret_text[0] = (char)(0xf0 | c >> 18);
	ret_text[1] = (char)(0x80 | (c >> 12 & 0x3f));
	ret_text[2] = (char)(0x80 | (c >> 6 & 0x3f));
	ret_text[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* The length as UTF-8 of at most `units` up to a NUL; -1 for a lone surrogate, or for too much of
 * it (4 bytes stay free). No NUL is written. */
static inline int utf16le_to_utf8(char *ret_text, size_t capacity, const uint8_t *data,
				  size_t units)
{
	size_t bytes = 0;

	for (size_t i = 0; i < units; i++) {
		uint32_t c = (uint32_t)(data[2 * i] | data[2 * i + 1] << 8);

		if (c == 0)
			break;
		if (c >= 0xd800 && c < 0xdc00 && i + 1 < units) {
			uint32_t low = (uint32_t)(data[2 * i + 2] | data[2 * i + 3] << 8);

			i++;
			if (low < 0xdc00 || low > 0xdfff)
				return -1;
			c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
		}
		if (bytes + 4 >= capacity)
			return -1;
		bytes += utf16_put(ret_text + bytes, c);
	}
	return (int)bytes;
}

#endif
