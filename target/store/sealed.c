/*
 * The shared maps of sealed layers, and who uses them.
 *
 * A map is cut into chunks of 2,048 blocks (8 MiB of the disk). Most of them are of one kind, since
 * a layer holds what was written between two snapshots; so bits are stored only of those that have
 * some of both, 256 bytes each, and of every chunk there is a word that says which it is. One bit a
 * block (and a 64th of one) is the most that a layer costs, however many disks stand on it. The
 * address space for the most is mapped at once; memory comes as it is filled in.
 *
 * What is the same layer: the same file (device and inode, which nobody else can have while a user
 * has it open), unchanged since it was loaded (ctime), with the same UUID and size in its header. A
 * merged layer, a copy from a backup under the same name, a repaired file: each is another one.
 * Giving a sealed layer another name as a snapshot changes its file, so who opens it after that
 * loads a map of its own; rare, and it ends with the older users.
 *
 * A top that is sealed need not be read again. When its disk is closed in order, the durable map
 * has all that the live one has, and the live one is left here, with the file's ctime of then.
 * Sealing has the file locked; if it finds that very ctime nothing has happened to the file since,
 * and when it has written the header, which is no part of the map, the map goes by the new ctime.
 * (Who ignores the lock and writes in that instant would not have been seen while the disk was open
 * either.) Whatever else has changed the file, or a sealing that failed half-way, gives it a ctime
 * that no map has, and it is read. So is what was opened for writing again: the map that was left
 * is disowned first, since a clock that ticks in milliseconds may give two changes one ctime. A map
 * that was left ends with the disk that left it, unless another has opened the layer by then; that
 * one packs it, in its own thread and not in the one that serves disks. What is loaded ahead of its
 * first disk (store_preload) follows its file to another name in the same way.
 *
 * Files are read outside of the lock, so nobody waits for another's disk. Two that open the same
 * layer at once both read it; the one that comes second takes the map of the first. A map that
 * can't be loaded is not kept: each opener reads the file and hears by itself what is wrong with
 * it.
 */
#include "store/sealed.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/list.h"
#include "store/store_internal.h"

#define CHUNK_BLOCKS MAP_SECTOR_BLOCKS
#define CHUNK_WORDS  (CHUNK_BLOCKS / 64u)

/* What a chunk's word says; from CHUNK_STORED on where its bits are. */
#define CHUNK_NONE   0u
#define CHUNK_ALL    1u
#define CHUNK_STORED 2u

static_assert(LIMIT_DISK_BYTES / STORE_BLOCK_BYTES / CHUNK_BLOCKS < UINT32_MAX - CHUNK_STORED,
	      "every chunk of the largest disk has a place");

/* What makes it the same layer. */
struct sealed_key {
	dev_t device;
	ino_t inode;
	struct timespec changed;
	uint8_t uuid[16];
	uint64_t block_count;
};

struct sealed_map {
	struct list node; /* the registry's */
	unsigned users;   /* the registry's lock */
	struct sealed_key key;
	struct store_map left; /* with packing_lock: what a disk left; it is to be packed */
	struct map_notes notes;
	uint64_t owned_count, stored_count;
	void *memory; /* the two that follow */
	size_t memory_bytes;
	uint32_t *chunks; /* one a chunk */
	uint64_t *words;  /* CHUNK_WORDS for each that is stored */
};

static struct list maps = {&maps, &maps};
static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t packing_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- loading --- */

static void chunk_load(struct sealed_map *map, uint64_t chunk, const uint8_t *bits)
{
	uint64_t rest = map->key.block_count - chunk * CHUNK_BLOCKS;
	uint64_t blocks = rest < CHUNK_BLOCKS ? rest : CHUNK_BLOCKS, words[CHUNK_WORDS];
	bool first = bits[0] & 1;

	memcpy(words, bits, sizeof(words));
	if (map_scan(words, 0, blocks, !first) == blocks) {
		map->chunks[chunk] = first ? CHUNK_ALL : CHUNK_NONE;
	} else {
		memcpy(map->words + map->stored_count * CHUNK_WORDS, words, sizeof(words));
		map->chunks[chunk] = CHUNK_STORED + (uint32_t)map->stored_count++;
	}
}

static int page_load(void *arg, uint64_t index, const struct map_judgement *judgement,
		     const uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	struct sealed_map *map = arg;

	(void)judgement;
	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++) {
		uint64_t chunk = index * MAP_PAGE_SECTORS + i;

		if (chunk * CHUNK_BLOCKS < map->key.block_count)
			chunk_load(map, chunk, bits + i * MAP_SECTOR_BITS_BYTES);
	}
	for (unsigned i = 0; i < MAP_PAGE_BITS_BYTES; i += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, bits + i, sizeof(word));
		map->owned_count += (uint64_t)__builtin_popcountll(word);
	}
	return 0;
}

static void map_free(struct sealed_map *map)
{
	if (!map)
		return;
	map_close(&map->left);
	if (map->memory)
		(void)munmap(map->memory, map->memory_bytes);
	free(map);
}

static struct sealed_map *map_new(const struct sealed_key *key)
{
	struct sealed_map *map = calloc(1, sizeof(*map));

	if (!map)
		return NULL;
	list_init(&map->node);
	map->users = 1;
	map->key = *key;
	map->left.live_fd = -1;
	return map;
}

static int map_alloc(struct sealed_map *map)
{
	size_t chunk_count = (map->key.block_count + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;
	size_t index_bytes = (chunk_count + 1) / 2 * sizeof(uint64_t);
	size_t bytes = index_bytes + chunk_count * CHUNK_WORDS * sizeof(uint64_t);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return -errno;
	map->memory = memory;
	map->memory_bytes = bytes;
	map->chunks = memory;
	map->words = (uint64_t *)memory + index_bytes / sizeof(uint64_t);
	return 0;
}

static int map_load(struct sealed_map *map, int fd, const char *path, struct store_error *err)
{
	struct map_load load = {
		.fd = fd,
		.path = path,
		.layer_uuid = map->key.uuid,
		.block_count = map->key.block_count,
		.page = page_load,
		.arg = map,
		.err = err,
	};
	int r = map_alloc(map);

	if (r == 0)
		r = map_load_pages(&load);
	map->notes = load.notes;
	return r;
}

/* What a disk has left becomes what all share, when the first of them wants it. */
static int map_pack(struct sealed_map *map)
{
	struct store_map left = {.live_fd = -1};
	int r = 0;

	pthread_mutex_lock(&packing_lock);
	if (map->left.live) {
		r = map_alloc(map);
		for (uint64_t chunk = 0; r == 0 && chunk * CHUNK_BLOCKS < map->key.block_count;
		     chunk++) {
			const uint8_t *bits = map_live_bits(&map->left, chunk * CHUNK_BLOCKS);

			if (bits)
				chunk_load(map, chunk, bits);
		}
		if (r == 0) {
			map->owned_count = map->left.owned_count;
			left = map->left;
			map->left = (struct store_map){.live_fd = -1};
		}
	}
	pthread_mutex_unlock(&packing_lock);
	map_close(&left);
	return r;
}

/* --- the registry --- */

static int key_make(int fd, const uint8_t uuid[16], uint64_t block_count,
		    struct sealed_key *ret_key)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_key = (struct sealed_key){
		.device = st.st_dev,
		.inode = st.st_ino,
		.changed = st.st_ctim,
		.block_count = block_count,
	};
	memcpy(ret_key->uuid, uuid, sizeof(ret_key->uuid));
	return 0;
}

static bool same_file(const struct sealed_key *key, const struct stat *file)
{
	return key->device == file->st_dev && key->inode == file->st_ino;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool key_equal(const struct sealed_key *a, const struct sealed_key *b)
{
	bool same_place = a->device == b->device && a->inode == b->inode;
	bool unchanged = same_time(&a->changed, &b->changed);

	return ((same_place && (unchanged || MUTANT(sealed_map_change_unseen))) ||
		MUTANT(sealed_map_by_uuid)) &&
	       memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0 && a->block_count == b->block_count;
}

/* With the lock. NULL: nobody has it. */
static struct sealed_map *find_ref(const struct sealed_key *key)
{
	list_for_each (n, &maps) {
		struct sealed_map *map = LIST_ENTRY(n, struct sealed_map, node);

		if (key_equal(&map->key, key)) {
			map->users++;
			return map;
		}
	}
	return NULL;
}

static struct sealed_map *find(const struct sealed_key *key)
{
	struct sealed_map *map;

	pthread_mutex_lock(&maps_lock);
	map = find_ref(key);
	pthread_mutex_unlock(&maps_lock);
	return map;
}

/* Takes the map that was loaded, or lets it go for one that another was faster with. */
static struct sealed_map *publish(struct sealed_map *fresh)
{
	struct sealed_map *map;

	pthread_mutex_lock(&maps_lock);
	map = find_ref(&fresh->key);
	if (!map)
		list_append(&maps, &fresh->node);
	pthread_mutex_unlock(&maps_lock);
	if (!map)
		return fresh;
	map_free(fresh);
	return map;
}

int sealed_map_get(int fd, const char *path, const struct layer_header *header,
		   struct sealed_map **ret_map, struct store_error *err)
{
	struct sealed_map *map = NULL;
	struct sealed_key key;
	int r = key_make(fd, header->uuid, layer_layout(le64_get(header->size_bytes)).block_count,
			 &key);

	if (r == 0)
		map = find(&key);
	if (map) {
		r = map_pack(map);
	} else if (r == 0) {
		map = map_new(&key);
		r = map ? map_load(map, fd, path, err) : -ENOMEM;
		if (r == 0)
			map = publish(map);
	}
	if (r < 0) {
		sealed_map_unref(map);
		/* What is damaged has been said. */
		return r == -EBADMSG ? r
				     : store_fail(err, r, "the block map of %s can't be loaded: %s",
						  path, strerror(-r));
	}
	map_notes_tell(&map->notes, path);
	*ret_map = map;
	return 0;
}

void sealed_map_unref(struct sealed_map *map)
{
	bool last;

	if (!map)
		return;
	pthread_mutex_lock(&maps_lock);
	assert(map->users > 0);
	last = --map->users == 0;
	if (last)
		list_remove(&map->node);
	pthread_mutex_unlock(&maps_lock);
	if (last)
		map_free(map);
}

/* --- a top that is sealed --- */

struct sealed_map *sealed_map_leave(int fd, struct store_map *left)
{
	struct sealed_key key;
	struct sealed_map *map = NULL;

	assert(left->dirty_count == 0);
	if (key_make(fd, left->layer_uuid, left->block_count, &key) == 0)
		map = map_new(&key);
	if (!map)
		return NULL;
	map->left = *left;
	/* What its owner may still be asked. */
	*left = (struct store_map){.live_fd = -1, .owned_count = left->owned_count};
	pthread_mutex_lock(&maps_lock);
	list_append(&maps, &map->node);
	pthread_mutex_unlock(&maps_lock);
	return map;
}

int sealed_maps_disown(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	pthread_mutex_lock(&maps_lock);
	list_for_each (n, &maps) {
		struct sealed_map *map = LIST_ENTRY(n, struct sealed_map, node);

		if (same_file(&map->key, &st) && !MUTANT(left_map_stays_believed))
			map->key.changed = (struct timespec){.tv_nsec = -1};
	}
	pthread_mutex_unlock(&maps_lock);
	return 0;
}

void sealed_maps_follow(int fd, const struct stat *before)
{
	struct stat now;

	if (fstat(fd, &now) < 0)
		return; /* it will be read */
	pthread_mutex_lock(&maps_lock);
	list_for_each (n, &maps) {
		struct sealed_map *map = LIST_ENTRY(n, struct sealed_map, node);

		if (same_file(&map->key, before) &&
		    (same_time(&map->key.changed, &before->st_ctim) ||
		     MUTANT(left_map_of_another_time)))
			map->key.changed = now.st_ctim;
	}
	pthread_mutex_unlock(&maps_lock);
}

unsigned sealed_map_count(void)
{
	unsigned count = 0;

	pthread_mutex_lock(&maps_lock);
	list_for_each (n, &maps)
		count++;
	pthread_mutex_unlock(&maps_lock);
	return count;
}

void sealed_maps_forget(void)
{
	list_init(&maps);
}

/* --- bits --- */

static bool owns(const struct sealed_map *map, uint64_t block)
{
	uint32_t chunk = map->chunks[block / CHUNK_BLOCKS];
	uint64_t bit = block % CHUNK_BLOCKS;

	if (chunk < CHUNK_STORED)
		return chunk == CHUNK_ALL;
	return map->words[(chunk - CHUNK_STORED) * (uint64_t)CHUNK_WORDS + bit / 64] >> (bit % 64) &
	       1;
}

uint64_t sealed_map_run(const struct sealed_map *map, uint64_t block, uint64_t limit,
			bool *ret_owned)
{
	uint64_t block_count = map->key.block_count, at = block, end;
	bool owned;

	assert(block < block_count);
	end = block_count - block < limit ? block_count : block + limit;
	owned = owns(map, block);
	while (at < end) {
		uint32_t chunk = map->chunks[at / CHUNK_BLOCKS];
		uint64_t begin = at / CHUNK_BLOCKS * CHUNK_BLOCKS, stop = begin + CHUNK_BLOCKS;

		if (stop > end)
			stop = end;
		if (chunk < CHUNK_STORED) {
			if ((chunk == CHUNK_ALL) != owned)
				break;
			at = stop;
			continue;
		}
		at = begin + map_scan(map->words + (chunk - CHUNK_STORED) * (uint64_t)CHUNK_WORDS,
				      at - begin, stop - begin, !owned);
		if (at < stop)
			break;
	}
	*ret_owned = owned;
	return at - block;
}

uint64_t sealed_map_owned_count(const struct sealed_map *map)
{
	return map->owned_count;
}
