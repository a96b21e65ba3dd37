/*
 * What one client did to a LUN, in order, and where the write log of the machine's disk
 * (machine_cuts.sh) stood when each answer had come. From it follows what each block may hold
 * after a power cut at any position of that log.
 *
 * Position: the log file's size, read after the acknowledgement arrived. Whatever the target's
 * machine had synced by then lies before it, so a cut at this position or later must show it. A
 * cut before it may show it: the answer was on its way.
 *
 * The client never has two operations under way in one block. So the contents of a block are
 * versions in one order, and a cut must show one of them, whole: the newest that is durable by the
 * position, or a later one.
 */
#ifndef CRASH_JOURNAL_H
#define CRASH_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

struct journal_op {
	bool flush, fua;
	uint32_t lba, count, generation;
};

/* Writing one; both end the process on failure. log_path: the write log. */
struct journal;
struct journal *journal_new(const char *path, const char *log_path);
/* Before it is sent; ret its number. */
uint32_t journal_sent(struct journal *journal, const struct journal_op *op);
void journal_acked(struct journal *journal, uint32_t number);
/* Accepts NULL; false: not all of it is written. The rest goes with the process. */
bool journal_flush(struct journal *journal);

/* Reading it as of a position; ends the process if it can't be read. */
struct history;
struct history *history_new(const char *path, uint64_t position, uint32_t sector_count);
void history_free(struct history *history);
enum history_verdict {
	HISTORY_LOST,    /* neither of what it may be */
	HISTORY_DURABLE, /* the newest durable version */
	HISTORY_LATER,
};
/* torn: the disk beneath wrote sectors, not blocks, so each sector is judged by itself. */
enum history_verdict history_judge(const struct history *history, uint32_t block,
				   const uint8_t *data, uint32_t sectors, bool torn);
/* The newest durable version's generations, for people. */
void history_durable(const struct history *history, uint32_t block, uint32_t ret_generations[8]);

#endif
