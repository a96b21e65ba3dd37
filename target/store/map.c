/*
 * The block map of a layer: which blocks it owns. Two copies for two deaths.
 *
 * The live map is a shared mapping of a file on tmpfs. It has the page cache's lifetime: it
 * outlives the process and dies with the power, as written data does. The durable map lies in
 * the layer file and changes only in a flush, after the data is durable (flush.c). Each of its
 * pages has two slots, written in turn, so that a torn write leaves the older one.
 *
 * On opening: a live map of this very file, made since this boot, is the truth, and what differs
 * from the durable map is dirty. Without one the power was lost, or the daemon ended in order;
 * then the durable map is the truth.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/sn32.h"
#include "store/store_internal.h"

/* Live bits in one page of the tmpfs. */
#define LIVE_PAGE_BYTES  4096u
#define LIVE_PAGE_BLOCKS (LIVE_PAGE_BYTES * 8u)

static_assert(LIVE_PAGE_BLOCKS % MAP_PAGE_BLOCKS == 0, "a durable page lies in one live page");

static bool bit_get(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void bit_put(uint64_t *bits, uint64_t i, bool value)
{
	if (value)
		bits[i / 64] |= 1ull << (i % 64);
	else
		bits[i / 64] &= ~(1ull << (i % 64));
}

static uint64_t *bits_new(uint64_t count)
{
	return calloc((count + 63) / 64 + 1, sizeof(uint64_t));
}

static uint64_t live_page_count(const struct store_map *map)
{
	return (map->block_count + LIVE_PAGE_BLOCKS - 1) / LIVE_PAGE_BLOCKS;
}

/* The bits as words; little-endian machines only, as all that lunroot serves on are. */
static uint64_t *live_words(const struct store_map *map)
{
	return (uint64_t *)(void *)(map->live + LIVE_HEADER_BYTES);
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bits on disk are the words in memory");

bool store_dir_is_tmpfs(const char *dir)
{
	struct statfs fs;

	return statfs(dir, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
}

void map_live_path(const char *run_dir, const uint8_t uuid[16], char *ret_path, size_t bytes)
{
	char text[STORE_UUID_TEXT_BYTES];
	store_uuid_t id;

	memcpy(id.b, uuid, 16);
	store_uuid_format(&id, text);
	(void)snprintf(ret_path, bytes, "%s/%s.live", run_dir, text);
}

void store_live_map_remove(const char *run_dir, const store_uuid_t *layer_uuid)
{
	char path[LIMIT_PATH_BYTES];

	map_live_path(run_dir, layer_uuid->b, path, sizeof(path));
	(void)unlink(path);
}

/* --- bits --- */

static uint64_t slot_offset(const struct store_map *map, uint64_t page, uint32_t sequence)
{
	return map->map_offset +
	       (page * MAP_PAGE_SLOTS + sequence % MAP_PAGE_SLOTS) * MAP_PAGE_BYTES;
}

bool map_owns(const struct store_map *map, uint64_t block)
{
	assert(block < map->block_count);
	return bit_get(map->present, block / LIVE_PAGE_BLOCKS) && bit_get(live_words(map), block);
}

/* The first block from `block` on, before `end`, whose bit is `value`; within one live page. */
static uint64_t scan(const uint64_t *words, uint64_t block, uint64_t end, bool value)
{
	while (block < end) {
		uint64_t word = (value ? words[block / 64] : ~words[block / 64]) >> (block % 64);

		if (word) {
			block += (uint64_t)__builtin_ctzll(word);
			return block < end ? block : end;
		}
		block = (block / 64 + 1) * 64;
	}
	return end;
}

uint64_t map_run(const struct store_map *map, uint64_t block, uint64_t limit, bool *ret_owned)
{
	bool owned = map_owns(map, block);
	uint64_t at = block,
		 end = map->block_count - block < limit ? map->block_count : block + limit;

	while (at < end) {
		uint64_t page = at / LIVE_PAGE_BLOCKS, stop = (page + 1) * LIVE_PAGE_BLOCKS;

		if (stop > end)
			stop = end;
		if (!bit_get(map->present, page)) {
			if (owned)
				break;
			at = stop;
			continue;
		}
		at = scan(live_words(map), at, stop, !owned);
		if (at < stop)
			break;
	}
	*ret_owned = owned;
	return at - block;
}

static int allocate(int fd, int mode, uint64_t offset, uint64_t bytes)
{
	while (fallocate(fd, mode, (off_t)offset, (off_t)bytes) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int live_page_make(struct store_map *map, uint64_t page)
{
	int r = 0;

	if (bit_get(map->present, page))
		return 0;
	if (map->live_fd >= 0)
		r = allocate(map->live_fd, 0, LIVE_HEADER_BYTES + page * LIVE_PAGE_BYTES,
			     LIVE_PAGE_BYTES);
	if (r < 0)
		return r;
	bit_put(map->present, page, true);
	return 0;
}

/*
 * Space for a durable page's two slots, asked for before its first bit is set, so that a flush
 * needs no space on a full file system. Those that copy on write need it all the same (flush.c).
 */
static int slots_make(struct store_map *map, uint64_t page)
{
	int r;

	if (bit_get(map->slots, page))
		return 0;
	r = allocate(map->layer_fd, FALLOC_FL_KEEP_SIZE, slot_offset(map, page, 0),
		     MAP_PAGE_SLOTS * MAP_PAGE_BYTES);
	if (r < 0 && r != -EOPNOTSUPP && r != -ENOSYS)
		return r;
	bit_put(map->slots, page, true);
	return 0;
}

int map_reserve(struct store_map *map, uint64_t first, uint64_t count)
{
	assert(count > 0 && first + count <= map->block_count);
	for (uint64_t page = first / MAP_PAGE_BLOCKS; page <= (first + count - 1) / MAP_PAGE_BLOCKS;
	     page++) {
		int r = slots_make(map, page);

		if (r < 0)
			return r;
	}
	for (uint64_t page = first / LIVE_PAGE_BLOCKS;
	     page <= (first + count - 1) / LIVE_PAGE_BLOCKS; page++) {
		int r = live_page_make(map, page);

		if (r < 0)
			return r;
	}
	return 0;
}

void map_mark_dirty(struct store_map *map, uint64_t page)
{
	assert(page < map->page_count);
	if (!bit_get(map->dirty, page)) {
		bit_put(map->dirty, page, true);
		map->dirty_count++;
	}
}

void map_set(struct store_map *map, uint64_t first, uint64_t count)
{
	uint64_t *words = live_words(map), end = first + count;

	assert(end <= map->block_count);
	for (uint64_t block = first; block < end;) {
		uint64_t bits = 64 - block % 64, mask, fresh;

		if (bits > end - block)
			bits = end - block;
		assert(bit_get(map->present, block / LIVE_PAGE_BLOCKS));
		mask = (bits == 64 ? ~0ull : (1ull << bits) - 1) << (block % 64);
		fresh = mask & ~words[block / 64];
		if (fresh) {
			words[block / 64] |= fresh;
			map->owned_count += (uint64_t)__builtin_popcountll(fresh);
			map_mark_dirty(map, block / MAP_PAGE_BLOCKS);
		}
		block += bits;
	}
}

uint64_t map_next_dirty(const struct store_map *map, uint64_t from)
{
	for (uint64_t page = from; page < map->page_count;) {
		uint64_t word = map->dirty[page / 64] >> (page % 64);

		if (word) {
			page += (uint64_t)__builtin_ctzll(word);
			return page < map->page_count ? page : map->page_count;
		}
		page = (page / 64 + 1) * 64;
	}
	return map->page_count;
}

/* --- durable pages --- */

static uint32_t page_crc(const struct map_page *page)
{
	static const uint8_t zero[4];
	size_t at = offsetof(struct map_page, crc);
	uint32_t crc = crc32c(0, page, at);

	crc = crc32c(crc, zero, sizeof(zero));
	return crc32c(crc, (const uint8_t *)page + at + 4, sizeof(*page) - at - 4);
}

/* The bits of a durable page in live words; its live page is present. */
static uint8_t *page_bits(const struct store_map *map, uint64_t page)
{
	return map->live + LIVE_HEADER_BYTES + page * MAP_PAGE_BITS_BYTES;
}

void map_snapshot(struct store_map *map, uint64_t page, struct map_page *ret_page,
		  uint64_t *ret_offset)
{
	uint32_t sequence = map->sequence[page] + 1;

	assert(bit_get(map->dirty, page));
	/* 0 says that there is no valid slot. After 2^32 flushes of this page it is passed over,
	 * and 1 with it: the slot written must be the other one. */
	if (sequence == 0)
		sequence = 2;
	memset(ret_page, 0, sizeof(*ret_page));
	memcpy(ret_page->magic, MAP_PAGE_MAGIC, sizeof(ret_page->magic));
	le32_put(&ret_page->version, LAYER_VERSION);
	memcpy(ret_page->layer_uuid, map->layer_uuid, 16);
	le64_put(&ret_page->index, page);
	le32_put(&ret_page->sequence, sequence);
	memcpy(ret_page->bits, page_bits(map, page), MAP_PAGE_BITS_BYTES);
	le32_put(&ret_page->crc, page_crc(ret_page));
	*ret_offset = slot_offset(map, page, sequence);
	map->sequence[page] = sequence;
	bit_put(map->dirty, page, false);
	map->dirty_count--;
}

void map_snapshot_failed(struct store_map *map, uint64_t page, const struct map_page *copy)
{
	/* The other slot holds the only good copy: the next try must go to the same slot again. */
	assert(map->sequence[page] == le32_get(copy->sequence));
	map->sequence[page]--;
	map_mark_dirty(map, page);
}

static bool page_is_valid(const struct store_map *map, const struct map_page *page, uint64_t index,
			  unsigned slot)
{
	return memcmp(page->magic, MAP_PAGE_MAGIC, sizeof(page->magic)) == 0 &&
	       le32_get(page->version) == LAYER_VERSION &&
	       memcmp(page->layer_uuid, map->layer_uuid, 16) == 0 &&
	       le64_get(page->index) == index && le32_get(page->sequence) != 0 &&
	       le32_get(page->sequence) % MAP_PAGE_SLOTS == slot &&
	       le32_get(page->crc) == page_crc(page);
}

/*
 * The newer valid slot. NULL with 0: never written, or the very first write of the page was torn,
 * which no flush had acknowledged; that write goes to slot 1. -EBADMSG: slot 0 holds something,
 * so slot 1 was whole once, and neither is whole now.
 */
static int page_pick(const struct store_map *map, const struct map_page slots[MAP_PAGE_SLOTS],
		     uint64_t index, const struct map_page **ret_page)
{
	const struct map_page *best = NULL;
	bool first_write = all_zero(&slots[0], sizeof(slots[0]));

	for (unsigned i = 0; i < MAP_PAGE_SLOTS; i++) {
		if (page_is_valid(map, &slots[i], index, i)) {
			if (!best ||
			    sn32_after(le32_get(slots[i].sequence), le32_get(best->sequence)))
				best = &slots[i];
		}
	}
	*ret_page = best;
	return best || first_write ? 0 : -EBADMSG;
}

/*
 * The bits of one durable page are added to the map. 1: they are all that the page has now, so it
 * is clean.
 */
static int page_load(struct store_map *map, int fd, uint64_t index)
{
	struct map_page slots[MAP_PAGE_SLOTS];
	const struct map_page *page = NULL;
	int r;

	r = pread_all(fd, slots, sizeof(slots), slot_offset(map, index, 0));
	if (r == 0)
		r = page_pick(map, slots, index, &page);
	if (r < 0 || !page)
		return r;
	map->sequence[index] = le32_get(page->sequence);
	if (all_zero(page->bits, sizeof(page->bits)))
		return 0;
	r = live_page_make(map, index * MAP_PAGE_BLOCKS / LIVE_PAGE_BLOCKS);
	if (r < 0)
		return r;
	/*
	 * Bits are set and never cleared, so those of both maps are right. A live map lacks some
	 * that the durable one has when the process died while it was being made. What the live
	 * one has more is dirty, found by the caller's walk.
	 */
	for (size_t i = 0; i < MAP_PAGE_BITS_BYTES; i++)
		page_bits(map, index)[i] |= page->bits[i];
	return memcmp(page_bits(map, index), page->bits, MAP_PAGE_BITS_BYTES) == 0 ? 1 : 0;
}

/* Walks the written parts of the durable map only: a fresh clone of any size has none. */
static int pages_load(struct store_map *map, int fd, uint64_t *clean)
{
	uint64_t end = map->map_offset + map->page_count * MAP_PAGE_SLOTS * MAP_PAGE_BYTES;
	uint64_t next = 0;

	while (next < map->page_count) {
		off_t at = lseek(fd, (off_t)slot_offset(map, next, 0), SEEK_DATA);
		int r;

		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		if ((uint64_t)at >= end)
			return 0;
		next = ((uint64_t)at - map->map_offset) / (MAP_PAGE_SLOTS * MAP_PAGE_BYTES);
		r = page_load(map, fd, next);
		if (r < 0)
			return r;
		if (r > 0)
			bit_put(clean, next, true);
		next++;
	}
	return 0;
}

/* --- the live map --- */

static void live_header_fill(struct live_header *header, const struct store_map *map,
			     const struct stat *layer)
{
	int AUTO_CLOSE fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(header, 0, sizeof(*header));
	memcpy(header->magic, LIVE_MAGIC, sizeof(header->magic));
	le32_put(&header->version, LIVE_VERSION);
	memcpy(header->layer_uuid, map->layer_uuid, 16);
	le64_put(&header->block_count, map->block_count);
	if (fd < 0 || read(fd, header->boot_id, sizeof(header->boot_id)) < 0)
		memset(header->boot_id, '?', sizeof(header->boot_id));
	le64_put(&header->device, (uint64_t)layer->st_dev);
	le64_put(&header->inode, (uint64_t)layer->st_ino);
	le32_put(&header->crc, crc32c(0, header, offsetof(struct live_header, crc)));
}

/* Which live pages the file has: what tmpfs has not given must not be touched. */
static int live_find_present(struct store_map *map, int fd)
{
	uint64_t next = 0, count = live_page_count(map);

	while (next < count) {
		off_t at =
			lseek(fd, (off_t)(LIVE_HEADER_BYTES + next * LIVE_PAGE_BYTES), SEEK_DATA);

		if (at < 0)
			return errno == ENXIO ? 0 : -errno;
		next = ((uint64_t)at - LIVE_HEADER_BYTES) / LIVE_PAGE_BYTES;
		if (next >= count)
			return 0;
		bit_put(map->present, next, true);
		next++;
	}
	return 0;
}

static bool live_is_ours(const struct store_map *map, int fd, const struct live_header *wanted)
{
	struct live_header found;
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_size == map->live_bytes &&
	       pread_all(fd, &found, sizeof(found), 0) == 0 &&
	       memcmp(wanted, &found, sizeof(found)) == 0;
}

/* Opens the live map's file: 1 if what is in it is this layer's, 0 if it was made empty. */
static int live_open(struct store_map *map, const char *path, const struct stat *layer)
{
	struct live_header wanted;
	int r;

	live_header_fill(&wanted, map, layer);
	map->live_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (map->live_fd < 0)
		return -errno;
	if (live_is_ours(map, map->live_fd, &wanted))
		return 1;
	/* Emptied first: no page of another life may stay. */
	if (ftruncate(map->live_fd, 0) < 0 || ftruncate(map->live_fd, (off_t)map->live_bytes) < 0)
		return -errno;
	r = pwrite_all(map->live_fd, &wanted, sizeof(wanted), 0);
	return r < 0 ? r : 0;
}

static int live_map(struct store_map *map)
{
	int flags = map->live_fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *p = mmap(NULL, map->live_bytes, PROT_READ | PROT_WRITE, flags, map->live_fd, 0);

	if (p == MAP_FAILED)
		return -errno;
	map->live = p;
	return 0;
}

/* For a reader: what a dead writer left in its live map is copied, and the map stays for the next
 * writer. */
static int live_copy(struct store_map *map, const char *path, const struct stat *layer)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct live_header wanted;
	int r;

	live_header_fill(&wanted, map, layer);
	if (fd < 0 || !live_is_ours(map, fd, &wanted))
		return 0;
	r = live_find_present(map, fd);
	for (uint64_t page = 0; r == 0 && page < live_page_count(map); page++) {
		uint64_t at = LIVE_HEADER_BYTES + page * LIVE_PAGE_BYTES;

		if (bit_get(map->present, page))
			r = pread_all(fd, map->live + at, LIVE_PAGE_BYTES, at);
	}
	return r;
}

/* Bits beyond the last block mean nothing and must not count. */
static int count_owned(struct store_map *map, bool adopted, const uint64_t *clean)
{
	const uint64_t *words = live_words(map);

	for (uint64_t page = 0; page < map->page_count; page++) {
		uint64_t first = page * MAP_PAGE_BLOCKS, last = first + MAP_PAGE_BLOCKS, count = 0;

		if (!bit_get(map->present, first / LIVE_PAGE_BLOCKS))
			continue;
		for (uint64_t word = first / 64; word < last / 64; word++) {
			if (words[word] && (word + 1) * 64 > map->block_count &&
			    (word * 64 >= map->block_count ||
			     words[word] >> (map->block_count % 64)))
				return -EBADMSG;
			count += (uint64_t)__builtin_popcountll(words[word]);
		}
		map->owned_count += count;
		if (adopted && count > 0 && !bit_get(clean, page))
			map_mark_dirty(map, page);
	}
	return 0;
}

static int map_load(struct store_map *map, int fd, bool adopted)
{
	uint64_t AUTO_FREE *clean = bits_new(map->page_count);
	int r;

	if (!clean)
		return -ENOMEM;
	r = pages_load(map, fd, clean);
	return r < 0 ? r : count_owned(map, adopted, clean);
}

static int map_alloc(struct store_map *map, const struct layer_header *header)
{
	struct layer_layout l = layer_layout(le64_get(header->size_bytes));

	*map = (struct store_map){.live_fd = -1};
	map->block_count = l.block_count;
	map->page_count = l.page_count;
	map->map_offset = l.map_offset;
	memcpy(map->layer_uuid, header->uuid, 16);
	map->live_bytes = LIVE_HEADER_BYTES + live_page_count(map) * LIVE_PAGE_BYTES;
	map->present = bits_new(live_page_count(map));
	map->dirty = bits_new(map->page_count);
	map->sequence = calloc(map->page_count, sizeof(*map->sequence));
	map->slots = bits_new(map->page_count);
	return map->present && map->dirty && map->slots && map->sequence ? 0 : -ENOMEM;
}

static int open_failed(struct store_map *map, const char *path, const char *live_path, int r,
		       struct store_error *err)
{
	map_close(map);
	if (r == -EBADMSG)
		return store_fail(err, r,
				  "%s is damaged: a page of its block map has no good copy; "
				  "restore it from a backup",
				  path);
	return store_fail(err, r, "the block map of %s can't be set up (%s): %s", path, live_path,
			  strerror(-r));
}

int map_open(struct store_map *map, int fd, const char *path, const struct layer_header *header,
	     const char *run_dir, bool writable, struct store_error *err)
{
	char live_path[LIMIT_PATH_BYTES] = "in memory";
	bool adopted = false;
	struct stat st;
	int r = map_alloc(map, header);

	map->layer_fd = fd;
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == 0 && run_dir)
		map_live_path(run_dir, header->uuid, live_path, sizeof(live_path));
	if (r == 0 && run_dir && writable) {
		r = live_open(map, live_path, &st);
		adopted = r > 0;
	}
	if (r >= 0)
		r = live_map(map);
	if (r == 0 && adopted)
		r = live_find_present(map, map->live_fd);
	if (r == 0 && run_dir && !writable)
		r = live_copy(map, live_path, &st);
	if (r == 0)
		r = map_load(map, fd, adopted);
	if (r < 0)
		return open_failed(map, path, live_path, r, err);
	if (adopted)
		log_debug("%s: live map taken over, %llu pages to flush", path,
			  (unsigned long long)map->dirty_count);
	return 0;
}

void map_close(struct store_map *map)
{
	if (map->live)
		munmap(map->live, map->live_bytes);
	if (map->live_fd >= 0)
		close(map->live_fd);
	free(map->present);
	free(map->dirty);
	free(map->slots);
	free(map->sequence);
	*map = (struct store_map){.live_fd = -1};
}
