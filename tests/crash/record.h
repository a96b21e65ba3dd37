/*
 * What the verifying client knows of each sector of a LUN: what was acknowledged since what a flush
 * made durable last, and what was in flight when the target died. A shared mapping of a file, so
 * that it outlives the client.
 */
#ifndef CRASH_RECORD_H
#define CRASH_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define RECORD_CONTENTS_MAX 6u /* of a sector since the last flush; one more waits for a flush */

struct sector_state {
	uint32_t pending; /* generation in flight, or SECTOR_NONE */
	uint32_t count;
	/* Generations: the first is durable, the last was acknowledged last. */
	uint32_t contents[RECORD_CONTENTS_MAX];
};

struct record {
	uint64_t magic;
	uint32_t sector_count, next_generation;
	uint64_t acked_writes, acked_flushes, acked_discards, rounds;
	struct sector_state sectors[];
};

/* What may have happened since it was written. */
enum record_event { RECORD_PROCESS_DEATH, RECORD_POWER_LOSS, RECORD_FAILED_SYNC };

/* Of the LUN that this record's file is about. */
uint32_t record_sector_count(const struct stat *st);
/* Made if it is not there. Ends the process if it can't be had, or is of another size. */
struct record *record_open(const char *path, uint32_t sector_count);

/* What was acknowledged last. */
uint32_t sector_acked(const struct sector_state *state);
/* A flush made this generation durable; a later one, or a write with FUA, may have passed it. */
void sector_flushed(struct sector_state *state, uint32_t generation);
/* It was acknowledged; nothing is pending any more. There must be room, or it is durable. */
void sector_written(struct sector_state *state, uint32_t generation, bool durable);

/*
 * May this block be so? Allowed is
 *  - after the death of the process what was acknowledged, and of each pending operation all of its
 *    sectors or none;
 *  - after a loss of power that, or the block as the last flush (or FUA) left it, or as it was
 *    since; of each operation all of its sectors or none;
 *  - after a sync that failed the same for each sector by itself: the kernel may have dropped a
 *    block's older writes and then merged what was under way with what is on the disk.
 */
bool record_allows(const struct record *record, const uint8_t *data, uint32_t lba, uint32_t count,
		   enum record_event event);
/* The same, and takes what was found as the new truth. Counts up rolled_back if that is older than
 * what was acknowledged. */
bool record_judge(struct record *record, const uint8_t *data, uint32_t lba, uint32_t count,
		  enum record_event event, unsigned *rolled_back);
/* For people: what should be there, and what is. */
void record_explain(const struct record *record, const uint8_t *data, uint32_t lba, uint32_t count);

#endif
