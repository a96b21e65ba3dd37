/*
 * The block map of a disk's top layer: which blocks it owns. Two copies for two deaths. (What is
 * sealed has no live map, sealed.c.)
 *
 * The live map is a shared mapping of a file on tmpfs. It has the page cache's lifetime: it
 * outlives the process and dies with the power, as written data does. The durable map lies in
 * the layer file and changes only in a flush, after the data is durable (flush.c). Each of its
 * pages has two slots, written in turn, so that a torn write leaves the older one (page.c).
 *
 * On opening: a live map of this very file, made since this boot, is the truth, and what differs
 * from the durable map is dirty. Without one the power was lost, or the daemon ended in order;
 * then the durable map is the truth.
 *
 * A file may keep its inode and become an older one: a backup is copied over it. So the live map
 * also notes the sequence that each durable page was last written with. A page with a lower one
 * says that the file is not what the live map speaks of.
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
#include "store/store_internal.h"

/* Live bits in one page of the tmpfs. */
#define LIVE_PAGE_BYTES  4096u
#define LIVE_PAGE_BLOCKS (LIVE_PAGE_BYTES * 8u)

/* And the sequences of its durable pages. */
#define LIVE_PAGE_SEQUENCES_BYTES (LIVE_PAGE_BLOCKS / MAP_PAGE_BLOCKS * sizeof(uint64_t))

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

static uint64_t live_sequences_offset(const struct store_map *map)
{
	return LIVE_HEADER_BYTES + live_page_count(map) * LIVE_PAGE_BYTES;
}

static uint64_t *live_sequences(const struct store_map *map)
{
	return (uint64_t *)(void *)(map->live + live_sequences_offset(map));
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bits on disk are the words in memory");

bool store_dir_is_tmpfs(const char *dir)
{
	struct statfs fs;

	/* Not ramfs: it knows no fallocate, and so can't promise a page of a live map. */
	return statfs(dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
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

bool map_owns(const struct store_map *map, uint64_t block)
{
	assert(block < map->block_count);
	return bit_get(map->present, block / LIVE_PAGE_BLOCKS) && bit_get(live_words(map), block);
}

uint64_t map_scan(const uint64_t *words, uint64_t block, uint64_t end, bool value)
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
		at = map_scan(live_words(map), at, stop, !owned);
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
	/* Its bits last: whoever finds them takes the sequences for granted. */
	if (map->live_fd >= 0)
		r = allocate(map->live_fd, 0,
			     live_sequences_offset(map) + page * LIVE_PAGE_SEQUENCES_BYTES,
			     LIVE_PAGE_SEQUENCES_BYTES);
	if (r == 0 && map->live_fd >= 0)
		r = allocate(map->live_fd, 0, LIVE_HEADER_BYTES + page * LIVE_PAGE_BYTES,
			     LIVE_PAGE_BYTES);
	if (r < 0)
		return r;
	bit_put(map->present, page, true);
	return 0;
}

/*
 * Before a page's first bit is set both its slots get their space, so that a flush needs none on a
 * full file system (those that copy on write need it all the same, flush.c), and are written with
 * empty pages, so that zeros are never taken for one (page.c). No sync: that of the data, which
 * goes before any page, covers them.
 */
static int slots_make(struct store_map *map, uint64_t page)
{
	struct map_page slots[MAP_PAGE_SLOTS];
	int r;

	if (bit_get(map->slots, page))
		return 0;
	r = allocate(map->layer_fd, FALLOC_FL_KEEP_SIZE, map_slot_offset(page, 0), sizeof(slots));
	if (r < 0 && r != -EOPNOTSUPP && r != -ENOSYS)
		return r;
	for (unsigned sequence = 1; sequence <= MAP_SEQUENCE_EMPTY; sequence++)
		(void)map_page_fill(&slots[sequence % MAP_PAGE_SLOTS], map->layer_uuid, page,
				    sequence, NULL);
	if (!MUTANT(map_slots_not_emptied))
		r = pwrite_all(map->layer_fd, slots, sizeof(slots), map_slot_offset(page, 0));
	if (r < 0)
		return r;
	map->sequence[page] = MAP_SEQUENCE_EMPTY;
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
			if (!MUTANT(map_dirty_lost))
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

const uint8_t *map_live_bits(const struct store_map *map, uint64_t block)
{
	assert(block < map->block_count && block % 8 == 0);
	return bit_get(map->present, block / LIVE_PAGE_BLOCKS)
		       ? map->live + LIVE_HEADER_BYTES + block / 8
		       : NULL;
}

/* --- durable pages --- */

/* The bits of a durable page in live words; its live page is present. */
static uint8_t *page_bits(const struct store_map *map, uint64_t page)
{
	return map->live + LIVE_HEADER_BYTES + page * MAP_PAGE_BITS_BYTES;
}

static void sequence_note(struct store_map *map, uint64_t page, uint64_t sequence)
{
	assert(bit_get(map->present, page * MAP_PAGE_BLOCKS / LIVE_PAGE_BLOCKS));
	live_sequences(map)[page] = sequence;
}

void map_snapshot(struct store_map *map, uint64_t page, struct map_page *ret_page,
		  uint64_t *ret_offset)
{
	uint64_t sequence = map->sequence[page] += MUTANT(map_newer_slot) ? 2 : 1;

	assert(bit_get(map->dirty, page) && bit_get(map->slots, page));
	*ret_offset =
		map_page_fill(ret_page, map->layer_uuid, page, sequence, page_bits(map, page));
	if (MUTANT(live_sequence_noted_early))
		sequence_note(map, page, sequence);
	/* The other slot is still an empty page: the next flush writes that as well. */
	if (sequence == MAP_SEQUENCE_EMPTY + 1 && !MUTANT(map_other_slot_left_empty))
		return;
	bit_put(map->dirty, page, false);
	map->dirty_count--;
}

void map_snapshot_written(struct store_map *map, uint64_t page, const struct map_page *copy)
{
	if (!MUTANT(live_sequence_noted_early))
		sequence_note(map, page, le64_get(copy->sectors[0].sequence));
}

void map_snapshot_failed(struct store_map *map, uint64_t page, const struct map_page *copy)
{
	/* The other slot holds the only good copy: the next try must go to the same slot again. */
	assert(map->sequence[page] == le64_get(copy->sectors[0].sequence));
	map->sequence[page]--;
	map_mark_dirty(map, page);
}

/* What opening needs to know besides. */
struct load {
	struct map_load pages;
	struct store_map *map;
	uint64_t *clean;            /* a bit a page: the durable one lacks nothing */
	bool live_found, live_made; /* there was a live map of this file; it was made empty */
};

/* The bits of one durable page are added to the map. */
static int page_load(void *arg, uint64_t index, const struct map_judgement *judgement,
		     const uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	struct load *load = arg;
	struct store_map *map = load->map;
	int r;

	map->sequence[index] = judgement->sequence;
	bit_put(map->slots, index, true);
	if (all_zero(bits, MAP_PAGE_BITS_BYTES))
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
		page_bits(map, index)[i] |= bits[i];
	if (memcmp(page_bits(map, index), bits, MAP_PAGE_BITS_BYTES) == 0)
		bit_put(load->clean, index, true);
	if (judgement->torn || judgement->bad[!judgement->slot] ||
	    judgement->sequence == MAP_SEQUENCE_EMPTY + 1)
		map_mark_dirty(map, index);
	return 0;
}

/* --- the live map --- */

void map_distrust(struct store_map *map)
{
	if (map->live_fd >= 0)
		memcpy(map->live, LIVE_MAGIC_FAILED, sizeof(LIVE_MAGIC_FAILED) - 1);
}

void map_live_distrust(const char *run_dir, const store_uuid_t *layer_uuid)
{
	char path[LIMIT_PATH_BYTES];
	int AUTO_CLOSE fd = -1;

	if (!run_dir)
		return;
	map_live_path(run_dir, layer_uuid->b, path, sizeof(path));
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	/* A live map that can't be marked must not be found either. */
	if (fd >= 0 && pwrite_all(fd, LIVE_MAGIC_FAILED, sizeof(LIVE_MAGIC_FAILED) - 1, 0) < 0)
		(void)unlink(path);
}

/*
 * A sync that failed left pages in the cache that the medium does not have, and the kernel holds
 * them for clean: no later sync would write them. They are dropped, so that we see what is there.
 */
static int cache_drop(int layer_fd)
{
	if (fdatasync(layer_fd) < 0)
		return -errno;
	if (MUTANT(failed_sync_cache_kept))
		return 0;
	return -posix_fadvise(layer_fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* What can't be found out is an error: a guess would make a good live map look like another's. */
static int live_header_fill(struct live_header *header, const struct store_map *map,
			    const struct stat *layer)
{
	int AUTO_CLOSE fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	memset(header, 0, sizeof(*header));
	memcpy(header->magic, LIVE_MAGIC, sizeof(header->magic));
	le32_put(&header->version, LIVE_VERSION);
	memcpy(header->layer_uuid, map->layer_uuid, 16);
	le64_put(&header->block_count, map->block_count);
	n = read(fd, header->boot_id, sizeof(header->boot_id));
	if (n != (ssize_t)sizeof(header->boot_id))
		return n < 0 ? -errno : -EIO;
	le64_put(&header->device, (uint64_t)layer->st_dev);
	le64_put(&header->inode, (uint64_t)layer->st_ino);
	le32_put(&header->crc, crc32c(0, header, offsetof(struct live_header, crc)));
	return 0;
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

/* 1: it is this layer's, of this boot. 0: it is not, or was when a sync failed. */
static int live_is_ours(const struct store_map *map, int fd, const struct live_header *wanted,
			bool *ret_failed)
{
	struct live_header found;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != map->live_bytes)
		return 0;
	r = pread_all(fd, &found, sizeof(found), 0);
	if (r < 0)
		return r;
	*ret_failed = memcmp(found.magic, LIVE_MAGIC_FAILED, sizeof(found.magic)) == 0;
	return memcmp(wanted, &found,
		      MUTANT(live_map_of_old_boot) ? offsetof(struct live_header, boot_id)
						   : sizeof(found)) == 0;
}

/* Opens the live map's file: 1 if what is in it is this layer's, 0 if it was made empty. */
static int live_open(struct store_map *map, const char *path, const struct stat *layer,
		     bool believed)
{
	struct live_header wanted;
	bool failed = false;
	int r = live_header_fill(&wanted, map, layer);

	if (r < 0)
		return r;
	map->live_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (map->live_fd < 0)
		return -errno;
	r = live_is_ours(map, map->live_fd, &wanted, &failed);
	if (r == 0 && failed)
		r = cache_drop(map->layer_fd);
	if (r < 0 || (r > 0 && believed))
		return r;
	/* Emptied first: no page of another life may stay. */
	if ((!MUTANT(live_map_not_emptied) && ftruncate(map->live_fd, 0) < 0) ||
	    ftruncate(map->live_fd, (off_t)map->live_bytes) < 0)
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
 * writer. 1: there was one. */
static int live_copy(struct store_map *map, const char *path, const struct stat *layer)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct live_header wanted;
	bool failed;
	int r;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = live_header_fill(&wanted, map, layer);
	if (r == 0)
		r = live_is_ours(map, fd, &wanted, &failed);
	if (r <= 0 || MUTANT(reader_ignores_live_map))
		return r < 0 ? r : 0;
	r = live_find_present(map, fd);
	for (uint64_t page = 0; r == 0 && page < live_page_count(map); page++) {
		uint64_t at = LIVE_HEADER_BYTES + page * LIVE_PAGE_BYTES;

		if (bit_get(map->present, page))
			r = pread_all(fd, map->live + at, LIVE_PAGE_BYTES, at);
	}
	if (r == 0)
		r = pread_all(fd, live_sequences(map), map->live_bytes - live_sequences_offset(map),
			      live_sequences_offset(map));
	return r < 0 ? r : 1;
}

/* What an adopted live map has more than the file goes to the file with the next flush. */
static int page_adopt(struct store_map *map, uint64_t page)
{
	int r = slots_make(map, page);

	if (r == 0 && !MUTANT(adopted_pages_clean))
		map_mark_dirty(map, page);
	return r;
}

/* Bits beyond the last block mean nothing and must not count. */
static int count_owned(struct store_map *map, bool writable, const struct load *load)
{
	const uint64_t *words = live_words(map);

	for (uint64_t page = 0; page < map->page_count; page++) {
		uint64_t first = page * MAP_PAGE_BLOCKS, last = first + MAP_PAGE_BLOCKS, count = 0;
		int r;

		if (!bit_get(map->present, first / LIVE_PAGE_BLOCKS))
			continue;
		for (uint64_t word = first / 64; word < last / 64; word++) {
			if (words[word] && (word + 1) * 64 > map->block_count &&
			    (word * 64 >= map->block_count ||
			     words[word] >> (map->block_count % 64)))
				return map_beyond_end(&load->pages);
			count += (uint64_t)__builtin_popcountll(words[word]);
		}
		map->owned_count += count;
		if (!load->live_found || !writable || count == 0 || bit_get(load->clean, page))
			continue;
		r = page_adopt(map, page);
		if (r < 0)
			return r;
	}
	return 0;
}

/* -ESTALE: the file is an older one than the live map speaks of. */
static int sequences_compare(struct store_map *map, const struct load *load)
{
	for (uint64_t page = 0; page < map->page_count; page++) {
		if (!bit_get(map->present, page * MAP_PAGE_BLOCKS / LIVE_PAGE_BLOCKS))
			continue;
		if (load->live_found && live_sequences(map)[page] > map->sequence[page] &&
		    !MUTANT(live_sequences_ignored))
			return -ESTALE;
		/* Empty pages are made again, with the same sequence or none. */
		if (map->sequence[page] > MAP_SEQUENCE_EMPTY)
			sequence_note(map, page, map->sequence[page]);
	}
	return 0;
}

static int map_load(struct store_map *map, bool writable, struct load *load)
{
	uint64_t AUTO_FREE *clean = bits_new(map->page_count);
	int r;

	if (!clean)
		return -ENOMEM;
	load->clean = clean;
	r = load->live_found && MUTANT(durable_bits_ignored) ? 0 : map_load_pages(&load->pages);
	if (r == 0)
		r = sequences_compare(map, load);
	if (r == 0)
		r = count_owned(map, writable, load);
	if (r == 0)
		map_notes_tell(&load->pages.notes, load->pages.path);
	return r;
}

static int map_alloc(struct store_map *map, const struct layer_header *header)
{
	struct layer_layout l = layer_layout(le64_get(header->size_bytes));

	*map = (struct store_map){.live_fd = -1};
	map->block_count = l.block_count;
	map->page_count = l.page_count;
	memcpy(map->layer_uuid, header->uuid, 16);
	map->live_bytes =
		live_sequences_offset(map) + live_page_count(map) * LIVE_PAGE_SEQUENCES_BYTES;
	map->present = bits_new(live_page_count(map));
	map->dirty = bits_new(map->page_count);
	map->sequence = calloc(map->page_count, sizeof(*map->sequence));
	map->slots = bits_new(map->page_count);
	return map->present && map->dirty && map->slots && map->sequence ? 0 : -ENOMEM;
}

/* -ESTALE: not with this live map; nothing has been said. */
static int open_failed(struct load *load, const char *live_path, int r)
{
	/* One that was made now knows no more than the file does, which may be replaced. */
	if (load->live_made && !MUTANT(live_map_left_when_refused))
		(void)unlink(live_path);
	map_close(load->map);
	if (r == -EBADMSG || r == -ESTALE)
		return r; /* what is damaged has been said */
	return store_fail(load->pages.err, r, "the block map of %s can't be set up (%s): %s",
			  load->pages.path, live_path, strerror(-r));
}

/* `live_path` NULL: bits in memory. */
static int open_with(struct store_map *map, int fd, const char *path,
		     const struct layer_header *header, const char *live_path, bool writable,
		     bool live_believed, struct store_error *err)
{
	struct load load = {.map = map};
	struct stat st;
	int r = map_alloc(map, header);

	map->layer_fd = fd;
	load.pages = (struct map_load){
		.fd = fd,
		.path = path,
		.layer_uuid = map->layer_uuid,
		.block_count = map->block_count,
		.page = page_load,
		.arg = &load,
		.err = err,
	};
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	/* Without a live map nothing tells of a failed sync. */
	if (r == 0 && !live_path && writable)
		r = cache_drop(fd);
	if (r == 0 && live_path && writable) {
		r = live_open(map, live_path, &st, live_believed);
		load.live_found = r > 0;
		load.live_made = r == 0;
	}
	if (r >= 0)
		r = live_map(map);
	if (r == 0 && load.live_found)
		r = live_find_present(map, map->live_fd);
	if (r == 0 && live_path && !writable && live_believed) {
		r = live_copy(map, live_path, &st);
		load.live_found = r > 0;
	}
	if (r >= 0)
		r = map_load(map, writable, &load);
	if (r < 0)
		return open_failed(&load, live_path ? live_path : "in memory", r);
	if (load.live_found)
		log_debug("%s: live map taken over, %llu pages to flush", path,
			  (unsigned long long)map->dirty_count);
	return 0;
}

int map_open(struct store_map *map, int fd, const char *path, const struct layer_header *header,
	     const char *run_dir, bool writable, struct store_error *err)
{
	char live_path[LIMIT_PATH_BYTES];
	int r;

	if (run_dir)
		map_live_path(run_dir, header->uuid, live_path, sizeof(live_path));
	r = open_with(map, fd, path, header, run_dir ? live_path : NULL, writable, true, err);
	if (r != -ESTALE)
		return r;
	log_warn(
		"%s is older than what lunrootd wrote last (%s): it was restored from a backup, "
		"or repaired without a good copy of its map; what was written since may be missing",
		path, live_path);
	return open_with(map, fd, path, header, live_path, writable, false, err);
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
