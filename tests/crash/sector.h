/*
 * Sectors that describe themselves: magic, LBA, generation, and a body computed from the two, so a
 * sector from elsewhere, torn, or mixed is recognised for what it is. Generation 0 is the image's
 * content, generation | SECTOR_ZEROED is a discard.
 */
#ifndef CRASH_SECTOR_H
#define CRASH_SECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR_BYTES  512u
#define BLOCK_SECTORS 8u
#define SECTOR_ZEROED 0x80000000u
#define SECTOR_NONE   0xffffffffu /* no generation at all */

void sector_make(uint8_t *sector, uint32_t lba, uint32_t generation);
bool sector_is(const uint8_t *sector, uint32_t lba, uint32_t generation);
/* What it is, for people. */
void sector_describe(const uint8_t *sector, char *ret_text, size_t room);

#endif
