/*
 * The journal of journal.h: a text file, one line an event.
 *
 *     s NUMBER FLUSH FUA LBA COUNT GENERATION     sent
 *     a NUMBER POSITION                           acknowledged
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "journal.h"
#include "sector.h"

static void die(const char *path, const char *why)
{
	fprintf(stderr, "journal: %s: %s\n", path, why);
	exit(2);
}

static void *must_alloc(void *old, size_t bytes)
{
	void *new = realloc(old, bytes);

	if (!new)
		die("memory", strerror(ENOMEM));
	return new;
}

/* --- writing --- */

struct journal {
	FILE *file;
	int log_fd;
	uint32_t next_number;
};

struct journal *journal_new(const char *path, const char *log_path)
{
	struct journal *journal = must_alloc(NULL, sizeof(*journal));

	journal->next_number = 0;
	journal->file = fopen(path, "wxe");
	if (!journal->file)
		die(path, strerror(errno));
	/* It may be killed. */
	setlinebuf(journal->file);
	journal->log_fd = open(log_path, O_RDONLY | O_CLOEXEC);
	if (journal->log_fd < 0)
		die(log_path, strerror(errno));
	return journal;
}

uint32_t journal_sent(struct journal *journal, const struct journal_op *op)
{
	fprintf(journal->file, "s %" PRIu32 " %d %d %" PRIu32 " %" PRIu32 " %" PRIu32 "\n",
		journal->next_number, op->flush, op->fua, op->lba, op->count, op->generation);
	return journal->next_number++;
}

void journal_acked(struct journal *journal, uint32_t number)
{
	struct stat st;

	if (fstat(journal->log_fd, &st) < 0)
		die("the write log", strerror(errno));
	fprintf(journal->file, "a %" PRIu32 " %" PRIu64 "\n", number, (uint64_t)st.st_size);
}

bool journal_flush(struct journal *journal)
{
	return !journal || (!fflush(journal->file) && !ferror(journal->file));
}

/* --- reading --- */

struct past_op {
	struct journal_op op;
	uint64_t sent_line, acked_line; /* acked_line 0: never, as of the position */
};

struct versions {
	uint32_t *ops, count, room;
};

struct history {
	uint32_t block_count, op_count, op_room;
	struct past_op *ops;
	struct versions *blocks;
	uint64_t flushed_line; /* what was acknowledged before this line is durable */
};

static void add_version(struct versions *versions, uint32_t number)
{
	if (versions->count == versions->room) {
		versions->room = versions->room ? 2 * versions->room : 4;
		versions->ops =
			must_alloc(versions->ops, versions->room * sizeof(versions->ops[0]));
	}
	versions->ops[versions->count++] = number;
}

static void add_sent(struct history *history, const struct journal_op *op, uint64_t line)
{
	if (history->op_count == history->op_room) {
		history->op_room = history->op_room ? 2 * history->op_room : 1024;
		history->ops = must_alloc(history->ops, history->op_room * sizeof(history->ops[0]));
	}
	history->ops[history->op_count] = (struct past_op){*op, line, 0};
	for (uint32_t at = op->lba; !op->flush && at < op->lba + op->count;
	     at += BLOCK_SECTORS - at % BLOCK_SECTORS)
		add_version(&history->blocks[at / BLOCK_SECTORS], history->op_count);
	history->op_count++;
}

static void add_acked(struct history *history, uint32_t number, uint64_t line)
{
	struct past_op *past = &history->ops[number];

	past->acked_line = line;
	if (past->op.flush && past->sent_line > history->flushed_line)
		history->flushed_line = past->sent_line;
}

/* One line; false if it is none. */
static bool add_line(struct history *history, const char *text, uint64_t line, uint64_t position)
{
	struct journal_op op;
	uint32_t number;
	uint64_t at;
	int flush, fua;

	if (sscanf(text, "s %" SCNu32 " %d %d %" SCNu32 " %" SCNu32 " %" SCNu32, &number, &flush,
		   &fua, &op.lba, &op.count, &op.generation) == 6) {
		op.flush = flush;
		op.fua = fua;
		if (number != history->op_count ||
		    (uint64_t)op.lba + op.count > (uint64_t)history->block_count * BLOCK_SECTORS)
			return false;
		add_sent(history, &op, line);
		return true;
	}
	if (sscanf(text, "a %" SCNu32 " %" SCNu64, &number, &at) != 2 ||
	    number >= history->op_count)
		return false;
	if (at <= position)
		add_acked(history, number, line);
	return true;
}

struct history *history_new(const char *path, uint64_t position, uint32_t sector_count)
{
	struct history *history = must_alloc(NULL, sizeof(*history));
	FILE *file = fopen(path, "re");
	char text[128];

	if (!file)
		die(path, strerror(errno));
	*history = (struct history){
		.block_count = (sector_count + BLOCK_SECTORS - 1) / BLOCK_SECTORS,
	};
	history->blocks = must_alloc(NULL, history->block_count * sizeof(history->blocks[0]));
	memset(history->blocks, 0, history->block_count * sizeof(history->blocks[0]));
	for (uint64_t line = 1; fgets(text, sizeof(text), file); line++)
		if (!add_line(history, text, line, position))
			die(path, text);
	fclose(file);
	return history;
}

void history_free(struct history *history)
{
	for (uint32_t i = 0; i < history->block_count; i++)
		free(history->blocks[i].ops);
	free(history->blocks);
	free(history->ops);
	free(history);
}

static bool durable(const struct history *history, const struct past_op *past)
{
	return past->acked_line && (past->op.fua || past->acked_line < history->flushed_line);
}

static void apply(const struct journal_op *op, uint32_t block, uint32_t generations[8])
{
	for (uint32_t i = 0; i < BLOCK_SECTORS; i++) {
		uint32_t lba = block * BLOCK_SECTORS + i;

		if (lba >= op->lba && lba < op->lba + op->count)
			generations[i] = op->generation;
	}
}

/* Its generations, and ret how many versions that takes. */
static uint32_t newest_durable(const struct history *history, uint32_t block,
			       uint32_t generations[8])
{
	const struct versions *versions = &history->blocks[block];
	uint32_t count = versions->count;

	while (count > 0 && !durable(history, &history->ops[versions->ops[count - 1]]))
		count--;
	memset(generations, 0, 8 * sizeof(generations[0]));
	for (uint32_t i = 0; i < count; i++)
		apply(&history->ops[versions->ops[i]].op, block, generations);
	return count;
}

void history_durable(const struct history *history, uint32_t block, uint32_t ret_generations[8])
{
	newest_durable(history, block, ret_generations);
}

/* A bit for each sector that is of these generations. */
static unsigned matching(uint32_t block, const uint8_t *data, uint32_t sectors,
			 const uint32_t generations[8])
{
	unsigned bits = 0;

	for (uint32_t i = 0; i < sectors; i++)
		if (sector_is(data + i * SECTOR_BYTES, block * BLOCK_SECTORS + i, generations[i]))
			bits |= 1u << i;
	return bits;
}

enum history_verdict history_judge(const struct history *history, uint32_t block,
				   const uint8_t *data, uint32_t sectors, bool torn)
{
	const struct versions *versions = &history->blocks[block];
	unsigned all = (1u << sectors) - 1, seen;
	uint32_t generations[8], next;

	assert(sectors && sectors <= BLOCK_SECTORS && block < history->block_count);
	next = newest_durable(history, block, generations);
	seen = matching(block, data, sectors, generations);
	if (seen == all)
		return HISTORY_DURABLE;
	for (; next < versions->count; next++) {
		unsigned now;

		apply(&history->ops[versions->ops[next]].op, block, generations);
		now = matching(block, data, sectors, generations);
		seen |= now;
		if (now == all || (torn && seen == all))
			return HISTORY_LATER;
	}
	return HISTORY_LOST;
}
