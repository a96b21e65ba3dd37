/*
 * The rules of boot/path.h. Escapes are decoded before anything is judged, and once only: "%2e%2e"
 * is "..", while "%252e" is a file whose name has a '%'.
 */
#include "boot/path.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"

static bool is_separator(char c)
{
	return c == '/' || c == '\\';
}

int path_clean(const char *asked, size_t bytes, char ret_path[PATH_BUFFER_BYTES])
{
	char path[PATH_BUFFER_BYTES];
	size_t length = 0;

	if (!utf8_clean(asked, bytes))
		return -EINVAL;
	for (size_t at = 0; at < bytes;) {
		const char *part = asked + at;
		size_t part_bytes = 0;

		while (at + part_bytes < bytes && !is_separator(part[part_bytes]))
			part_bytes++;
		at += part_bytes + 1;
		if (part_bytes == 0 || (part_bytes == 1 && part[0] == '.'))
			continue;
		if (part_bytes == 2 && part[0] == '.' && part[1] == '.')
			return -EACCES;
		if (length + (length > 0) + part_bytes > LIMIT_BOOT_PATH_BYTES)
			return -ENAMETOOLONG;
		if (length > 0)
			path[length++] = '/';
		memcpy(path + length, part, part_bytes);
		length += part_bytes;
	}
	if (length == 0)
		return -ENOENT;
	memcpy(ret_path, path, length);
	ret_path[length] = '\0';
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int path_clean_url(const char *asked, char ret_path[PATH_BUFFER_BYTES])
{
	/* Room for separators that go away; longer ones are nobody's. */
	char decoded[4 * LIMIT_BOOT_PATH_BYTES];
	size_t bytes = 0;

	for (const char *p = asked; *p; p++) {
		char c = *p;

		if (c == '%') {
			int high = hex_digit(p[1]), low = high < 0 ? -1 : hex_digit(p[2]);

			if (low < 0)
				return -EINVAL;
			c = (char)(high << 4 | low);
			p += 2;
		}
		if (bytes == sizeof(decoded))
			return -ENAMETOOLONG;
		decoded[bytes++] = c;
	}
	return path_clean(decoded, bytes, ret_path);
}
