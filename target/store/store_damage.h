/*
 * Damage that a layer file may have, for the tests: each kind by itself is one that "check
 * --repair" mends without loss, if nothing was discarded lately.
 */
#ifndef LUNROOT_STORE_DAMAGE_H
#define LUNROOT_STORE_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

enum damage {
	DAMAGE_LENGTH,     /* cut off behind the last block that it owns */
	DAMAGE_BEYOND_END, /* a map page has blocks beyond the end of the disk */
	DAMAGE_HEADER,     /* a byte of one copy */
	DAMAGE_OLDER_SLOT, /* a byte of a map page's slot that does not count */
	DAMAGE_NEWER_SLOT, /* of the one that counts: the page is not known for certain */
	DAMAGE_ZERO_SLOT,  /* the one that counts is zeros */
	DAMAGE_TORN_SLOT,  /* a write of the other slot was not finished: no damage */
	DAMAGE_TAIL,       /* bytes behind its end: no damage */
	DAMAGE_COUNT,
};

/*
 * Does it to the file; a page may have one of them. `random` chooses where. False: the file is as
 * it was, since it has no place for that (a page that was never flushed, a last block that is
 * owned).
 */
bool damage_do(const char *path, enum damage damage, uint64_t page, uint64_t random);
/* Whether a disk over a file with that can be opened before it is mended. */
bool damage_is_harmless(enum damage damage);
/* Turns a byte of one copy of the header; twice is never. */
void damage_header(const char *path, unsigned copy);

#endif
