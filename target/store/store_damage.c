/*
 * Damages layer files; see store_damage.h.
 */
#include "store/store_damage.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/store_internal.h"

struct target {
	int fd;
	struct layer_header header;
	struct layer_layout layout;
	/* One page of its map. */
	struct map_page slots[MAP_PAGE_SLOTS];
	struct map_judgement judgement;
};

static void must(bool right)
{
	if (!right)
		abort();
}

static void page_read(struct target *t, uint64_t page)
{
	must(pread_all(t->fd, t->slots, sizeof(t->slots), map_slot_offset(page, 0)) == 0);
	map_page_judge(t->slots, t->header.uuid, page, &t->judgement);
}

/* Both slots are as they should be and say something. */
static bool page_is_good(const struct target *t)
{
	return t->judgement.state == MAP_PAGE_GOOD && !t->judgement.torn && !t->judgement.bad[0] &&
	       !t->judgement.bad[1];
}

static void byte_turn(int fd, uint64_t at)
{
	uint8_t byte;

	must(pread_all(fd, &byte, 1, at) == 0);
	byte = (uint8_t)~byte;
	must(pwrite_all(fd, &byte, 1, at) == 0);
}

void damage_header(const char *path, unsigned copy)
{
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	byte_turn(fd, copy * (uint64_t)LAYER_HEADER_BYTES + 20);
}

static uint64_t owned_end(struct target *t)
{
	for (uint64_t page = t->layout.page_count; page-- > 0;) {
		uint8_t bits[MAP_PAGE_BITS_BYTES];

		page_read(t, page);
		if (t->judgement.state != MAP_PAGE_GOOD)
			continue;
		map_page_bits(&t->slots[t->judgement.slot], bits);
		if (!all_zero(bits, sizeof(bits)))
			return page * MAP_PAGE_BLOCKS + map_bits_last(bits) + 1;
	}
	return 0;
}

static bool cut_off(struct target *t, uint64_t random)
{
	uint64_t end = owned_end(t), rest = t->layout.block_count - end;

	if (rest == 0)
		return false;
	end += random % rest;
	must(ftruncate(t->fd, (off_t)(t->layout.data_offset + end * STORE_BLOCK_BYTES)) == 0);
	return true;
}

static bool beyond_end(struct target *t, uint64_t random)
{
	uint64_t page = t->layout.page_count - 1;
	uint64_t used = t->layout.block_count - page * MAP_PAGE_BLOCKS, bit, offset;
	uint8_t bits[MAP_PAGE_BITS_BYTES];
	struct map_page lie;

	page_read(t, page);
	if (!page_is_good(t) || used == MAP_PAGE_BLOCKS)
		return false;
	map_page_bits(&t->slots[t->judgement.slot], bits);
	bit = used + random % (MAP_PAGE_BLOCKS - used);
	bits[bit / 8] |= (uint8_t)(1u << bit % 8);
	offset = map_page_fill(&lie, t->header.uuid, page, t->judgement.sequence, bits);
	must(pwrite_all(t->fd, &lie, sizeof(lie), offset) == 0);
	return true;
}

static bool slot_hurt(struct target *t, enum damage damage, uint64_t page, uint64_t random)
{
	static const struct map_page zeros;
	unsigned slot;
	uint64_t at;

	page_read(t, page);
	if (!page_is_good(t))
		return false;
	slot = t->judgement.slot ^ (damage == DAMAGE_OLDER_SLOT);
	at = map_slot_offset(page, slot);
	if (damage == DAMAGE_ZERO_SLOT)
		must(pwrite_all(t->fd, &zeros, sizeof(zeros), at) == 0);
	else
		byte_turn(t->fd, at + random % MAP_PAGE_BYTES);
	return true;
}

/* Some sectors of it were written; all of its blocks would be owned. */
static bool slot_tear(struct target *t, uint64_t page, uint64_t random)
{
	unsigned written = 1 + (unsigned)(random % 254); /* not none, not all */
	uint8_t bits[MAP_PAGE_BITS_BYTES];
	struct map_page copy;
	uint64_t offset;

	page_read(t, page);
	if (!page_is_good(t))
		return false;
	memset(bits, 0xff, sizeof(bits));
	offset = map_page_fill(&copy, t->header.uuid, page, t->judgement.sequence + 1, bits);
	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++) {
		if (written >> i & 1)
			must(pwrite_all(t->fd, &copy.sectors[i], MAP_SECTOR_BYTES,
					offset + i * (uint64_t)MAP_SECTOR_BYTES) == 0);
	}
	return true;
}

bool damage_is_harmless(enum damage damage)
{
	return damage == DAMAGE_HEADER || damage == DAMAGE_OLDER_SLOT ||
	       damage == DAMAGE_TORN_SLOT || damage == DAMAGE_TAIL;
}

bool damage_do(const char *path, enum damage damage, uint64_t page, uint64_t random)
{
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);
	struct layer_headers headers;
	struct store_error err;
	struct target t;

	must(fd >= 0);
	must(layer_headers_read(fd, path, &headers, &err) == 0);
	t.header = headers.copies[headers.chosen];
	t.fd = fd;
	t.layout = layer_layout(le64_get(t.header.size_bytes));
	switch (damage) {
	case DAMAGE_LENGTH: return cut_off(&t, random);
	case DAMAGE_BEYOND_END: return beyond_end(&t, random);
	case DAMAGE_HEADER: damage_header(path, random % LAYER_HEADER_COPIES); return true;
	case DAMAGE_OLDER_SLOT:
	case DAMAGE_NEWER_SLOT:
	case DAMAGE_ZERO_SLOT: return slot_hurt(&t, damage, page, random);
	case DAMAGE_TORN_SLOT: return slot_tear(&t, page, random);
	case DAMAGE_TAIL:
		must(pwrite_all(fd, "tail", 4, t.layout.file_bytes + random % 10000) == 0);
		return true;
	case DAMAGE_COUNT: break;
	}
	return false;
}
