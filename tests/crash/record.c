/* The record of record.h, and what a block may hold by it. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "record.h"
#include "sector.h"

#define MAGIC 0x6c756e726f6f7472ull
#define NONE  SECTOR_NONE

uint32_t record_sector_count(const struct stat *st)
{
	return (uint32_t)(((size_t)st->st_size - sizeof(struct record)) /
			  sizeof(struct sector_state));
}

struct record *record_open(const char *path, uint32_t sector_count)
{
	size_t bytes = sizeof(struct record) + sector_count * sizeof(struct sector_state);
	struct record *record;
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || fstat(fd, &st) < 0 || (!st.st_size && ftruncate(fd, (off_t)bytes) < 0)) {
		fprintf(stderr, "verify_client: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	record = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (record == MAP_FAILED) {
		fprintf(stderr, "verify_client: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	if (record->magic != MAGIC) {
		record->sector_count = sector_count;
		record->next_generation = 1;
		for (uint32_t i = 0; i < sector_count; i++) {
			record->sectors[i].pending = NONE;
			record->sectors[i].count = 1;
		}
		record->magic = MAGIC;
	} else if (record->sector_count != sector_count) {
		fprintf(stderr, "verify_client: %s is of a LUN with %u sectors, this one has %u\n",
			path, record->sector_count, sector_count);
		exit(2);
	}
	return record;
}

uint32_t sector_acked(const struct sector_state *state)
{
	return state->contents[state->count - 1];
}

void sector_flushed(struct sector_state *state, uint32_t generation)
{
	for (uint32_t i = 1; i < state->count; i++) {
		if (state->contents[i] != generation)
			continue;
		state->count -= i;
		memmove(state->contents, state->contents + i, state->count * sizeof(uint32_t));
	}
}

void sector_written(struct sector_state *state, uint32_t generation, bool durable)
{
	if (durable)
		state->count = 0;
	assert(state->count < RECORD_CONTENTS_MAX);
	state->contents[state->count++] = generation;
	state->pending = NONE;
}

/* What a sector may be, in order; `match` is which of them it is, if several look the same (zeros)
 * the first and the last. */
struct candidates {
	uint32_t count, first_match, last_match;
	uint32_t generations[RECORD_CONTENTS_MAX + 1];
};

static bool sector_judge(const struct sector_state *state, const uint8_t *sector, uint32_t lba,
			 bool power_loss, struct candidates *ret_found)
{
	struct candidates found = {.first_match = NONE};

	for (uint32_t i = power_loss ? 0 : state->count - 1; i < state->count; i++)
		found.generations[found.count++] = state->contents[i];
	if (state->pending != NONE)
		found.generations[found.count++] = state->pending;
	for (uint32_t i = 0; i < found.count; i++) {
		if (!sector_is(sector, lba, found.generations[i]))
			continue;
		if (found.first_match == NONE)
			found.first_match = i;
		found.last_match = i;
	}
	*ret_found = found;
	return found.first_match != NONE;
}

/* Did a write that both sectors were part of get to the one and not to the other? */
static bool disagree(const struct candidates *a, const struct candidates *b)
{
	for (uint32_t i = 1; i <= a->first_match; i++)
		for (uint32_t j = b->last_match + 1; j < b->count; j++)
			if (a->generations[i] == b->generations[j])
				return true;
	return false;
}

static bool block_is_possible(const struct record *record, const uint8_t *data, uint32_t lba,
			      uint32_t count, enum record_event event, struct candidates *ret_found)
{
	for (uint32_t i = 0; i < count; i++)
		if (!sector_judge(&record->sectors[lba + i], data + i * SECTOR_BYTES, lba + i,
				  event != RECORD_PROCESS_DEATH, &ret_found[i]))
			return false;
	for (uint32_t i = 0; i < count && event != RECORD_FAILED_SYNC; i++)
		for (uint32_t j = 0; j < count; j++)
			if (disagree(&ret_found[i], &ret_found[j]))
				return false;
	return true;
}

void record_explain(const struct record *record, const uint8_t *data, uint32_t lba, uint32_t count)
{
	char found[100];

	for (uint32_t i = 0; i < count; i++) {
		const struct sector_state *state = &record->sectors[lba + i];

		sector_describe(data + i * SECTOR_BYTES, found, sizeof(found));
		fprintf(stderr, "verify_client: sector %u: durable %x, since then", lba + i,
			state->contents[0]);
		for (uint32_t j = 1; j < state->count; j++)
			fprintf(stderr, " %x", state->contents[j]);
		fprintf(stderr, ", pending %x; found %s\n", state->pending, found);
	}
}

bool record_allows(const struct record *record, const uint8_t *data, uint32_t lba, uint32_t count,
		   enum record_event event)
{
	struct candidates found[BLOCK_SECTORS];

	return block_is_possible(record, data, lba, count, event, found);
}

bool record_judge(struct record *record, const uint8_t *data, uint32_t lba, uint32_t count,
		  enum record_event event, unsigned *rolled_back)
{
	struct candidates found[BLOCK_SECTORS];
	bool older = false;

	if (!block_is_possible(record, data, lba, count, event, found))
		return false;
	for (uint32_t i = 0; i < count; i++) {
		struct sector_state *state = &record->sectors[lba + i];
		uint32_t generation = found[i].generations[found[i].last_match];

		older |= generation != sector_acked(state) && generation != state->pending;
		/* What was seen after a power loss is on the medium. */
		if (event != RECORD_PROCESS_DEATH || generation != sector_acked(state))
			sector_written(state, generation, event != RECORD_PROCESS_DEATH);
		state->pending = NONE;
	}
	*rolled_back += older;
	return true;
}
