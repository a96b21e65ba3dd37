/*
 * HTTP's Range header (RFC 9110, 14): one range of bytes of a file. Any thread.
 */
#ifndef LUNROOT_BOOT_HTTP_RANGE_H
#define LUNROOT_BOOT_HTTP_RANGE_H

#include <stdint.h>

/*
 *   0        the answer is 206, with `*ret_bytes` (1 or more) from `*ret_first` on
 *   -ENOENT  no range we know, or several: the answer is the whole file, as RFC 9110 allows
 *   -ERANGE  nothing of it is in the file: 416
 */
int http_range_parse(const char *header, uint64_t file_bytes, uint64_t *ret_first,
		     uint64_t *ret_bytes);

#endif
