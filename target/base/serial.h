/*
 * Serial numbers of Pis, as boards, people and boot ROMs write them. Any thread.
 */
#ifndef LUNROOT_BASE_SERIAL_H
#define LUNROOT_BASE_SERIAL_H

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define SERIAL_TAIL 8 /* digits that every stage of a boot tells; the board has 16 */

/* One Pi's, as far as both say it; two empty ones are nobody's. */
static inline bool serial_same(const char *a, const char *b)
{
	size_t a_bytes = strlen(a), b_bytes = strlen(b);

	if (a_bytes >= SERIAL_TAIL && b_bytes >= SERIAL_TAIL)
		return strcasecmp(a + a_bytes - SERIAL_TAIL, b + b_bytes - SERIAL_TAIL) == 0;
	return a_bytes > 0 && strcasecmp(a, b) == 0;
}

#endif
