/*
 * The shared maps of sealed layers: what they say, who has them and for how long. Files are real,
 * in /dev/shm; the reactor is the simulated one.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "store/sim.h"
#include "store/store_internal.h"

/* Ends within a map page, a chunk of the shared map, and a word. */
#define BLOCKS (MAP_PAGE_BLOCKS + 5 * MAP_SECTOR_BLOCKS + 77)

#define LAYERS 3 /* sealed ones; each disk has a top of its own over them */
#define TOPS   2

static struct {
	char dir[64], sealed[LAYERS][128], tops[TOPS][128];
	store_uuid_t uuids[LAYERS];
	struct store_error err;
} t;

/* Which blocks layer `i` owns: here and there, all of a chunk, none of one. */
static bool layer_owns(unsigned i, uint64_t block)
{
	uint64_t chunk = block / MAP_SECTOR_BLOCKS;

	return chunk % 4 == i || (chunk % 4 == 3 && block % (7 + i) == 0);
}

static unsigned owner_of(uint64_t block, unsigned layer_count)
{
	while (layer_count > 0 && !layer_owns(layer_count - 1, block))
		layer_count--;
	return layer_count;
}

/* --- files --- */

static void path_of(char path[128], const char *name, unsigned i)
{
	(void)snprintf(path, 128, "%s/%s%u", t.dir, name, i);
}

/* Both slots of every page, saying of each block what `owns` says for `layer`. */
static void map_write(const char *path, const store_uuid_t *uuid,
		      bool (*owns)(unsigned layer, uint64_t block), unsigned layer)
{
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	for (uint64_t page = 0; page * MAP_PAGE_BLOCKS < BLOCKS; page++) {
		uint8_t bits[MAP_PAGE_BITS_BYTES] = {0};

		for (uint64_t i = 0; i < MAP_PAGE_BLOCKS; i++) {
			uint64_t block = page * MAP_PAGE_BLOCKS + i;

			if (block < BLOCKS && owns(layer, block))
				bits[i / 8] |= (uint8_t)(1u << i % 8);
		}
		for (unsigned i = 1; i <= MAP_PAGE_SLOTS; i++) {
			struct map_page copy;
			uint64_t offset =
				map_page_fill(&copy, uuid->b, page, MAP_SEQUENCE_EMPTY + i, bits);

			assert_int_equal(pwrite_all(fd, &copy, sizeof(copy), offset), 0);
		}
	}
}

static void layer_make(const char *path, const store_uuid_t *uuid, const store_uuid_t *parent)
{
	struct store_layer_info info = {.uuid = *uuid, .size_bytes = BLOCKS * STORE_BLOCK_BYTES};

	if (parent) {
		info.parent_kind = STORE_PARENT_LAYER;
		info.parent_uuid = *parent;
		info.parent_size_bytes = info.size_bytes;
	}
	assert_int_equal(store_layer_create(path, &info, &t.err), 0);
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(t.dir, sizeof(t.dir), "/dev/shm/sealed_test.XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	sim_init(1);
	for (unsigned i = 0; i < LAYERS; i++) {
		path_of(t.sealed[i], "sealed", i);
		store_uuid_generate(&t.uuids[i]);
		layer_make(t.sealed[i], &t.uuids[i], i ? &t.uuids[i - 1] : NULL);
		map_write(t.sealed[i], &t.uuids[i], layer_owns, i);
		assert_int_equal(store_layer_seal(t.sealed[i], "", &t.err), 0);
	}
	for (unsigned i = 0; i < TOPS; i++) {
		store_uuid_t uuid;

		path_of(t.tops[i], "top", i);
		store_uuid_generate(&uuid);
		layer_make(t.tops[i], &uuid, &t.uuids[LAYERS - 1]);
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	sim_done();
	for (unsigned i = 0; i < LAYERS; i++)
		(void)unlink(t.sealed[i]);
	for (unsigned i = 0; i < TOPS; i++)
		(void)unlink(t.tops[i]);
	assert_int_equal(rmdir(t.dir), 0);
	assert_int_equal(sealed_map_count(), 0);
	return 0;
}

/* --- disks --- */

/* `top`: which; TOPS: none, the sealed layers alone, for reading. */
static struct store_chain chain_of(unsigned top)
{
	struct store_chain chain = {.layer_count = LAYERS, .read_only = top == TOPS};

	for (unsigned i = 0; i < LAYERS; i++)
		chain.layer_paths[i] = t.sealed[i];
	if (top < TOPS)
		chain.layer_paths[chain.layer_count++] = t.tops[top];
	return chain;
}

static struct store_disk *disk_open(unsigned top)
{
	struct store_chain chain = chain_of(top);
	struct store_disk *disk = NULL;

	if (store_open(&chain, &disk, &t.err) < 0)
		fail_msg("%s", t.err.text);
	return disk;
}

static void disk_free(struct store_disk *disk)
{
	disk->ops->free(disk);
}

/* Every block has the owner it should have; true if so. Any thread. */
static bool owners_are_right(struct store_disk *disk, unsigned layer_count)
{
	const struct file_disk *files = CONTAINER_OF(disk, struct file_disk, disk);
	uint64_t block = 0;

	while (block < BLOCKS) {
		uint64_t at = block * STORE_BLOCK_BYTES;
		struct file_owner owner =
			file_find_owner(files, files->layer_count, at, disk->size_bytes - at);
		uint64_t end = block + owner.bytes / STORE_BLOCK_BYTES;
		unsigned expected = owner_of(block, layer_count);

		for (; block < end; block++) {
			if (owner_of(block, layer_count) != expected)
				return false;
		}
		if (owner.layer != (expected ? (int)expected - 1 : OWNER_NONE))
			return false;
	}
	return true;
}

/* --- what a map says --- */

static bool owns_nothing(unsigned layer, uint64_t block)
{
	(void)layer;
	(void)block;
	return false;
}

static bool owns_all(unsigned layer, uint64_t block)
{
	return !owns_nothing(layer, block);
}

static bool owns_ends(unsigned layer, uint64_t block)
{
	(void)layer;
	return block == 0 || block == BLOCKS - 1;
}

/* Long runs and short ones, of random lengths but the same each time. */
static bool owns_runs(unsigned layer, uint64_t block)
{
	uint64_t x = block >> (layer % 13);

	x = (x ^ (x >> 7)) * 0x9e3779b97f4a7c15ull;
	return x >> 63;
}

static void map_compare(const uint8_t *plain, const char *path)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	struct layer_header header;
	struct sealed_map *map;
	uint64_t owned = 0;
	bool agree;

	assert_int_equal(layer_header_read(fd, path, &header, &agree, &t.err), 0);
	assert_int_equal(sealed_map_get(fd, path, &header, &map, &t.err), 0);
	for (uint64_t block = 0; block < BLOCKS; block++)
		owned += plain[block];
	assert_int_equal(sealed_map_owned_count(map), owned);
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t at = i % 3 ? sim_below(BLOCKS)
				    : sim_below(BLOCKS / MAP_SECTOR_BLOCKS + 1) * MAP_SECTOR_BLOCKS;
		uint64_t limit = i % 5 ? 1 + sim_below(300) : BLOCKS, run = 0;
		bool value;

		while (at + run < BLOCKS && run < limit && plain[at + run] == plain[at])
			run++;
		assert_int_equal(sealed_map_run(map, at, limit, &value), run);
		assert_int_equal(value, plain[at]);
	}
	sealed_map_unref(map);
}

static void map_agrees_with_a_plain_array(void **state)
{
	bool (*const kinds[])(unsigned layer, uint64_t block) = {
		owns_nothing, owns_all, owns_ends, layer_owns, owns_runs, owns_runs, owns_runs};
	uint8_t *AUTO_FREE plain = calloc(1, BLOCKS);

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
		map_write(t.sealed[0], &t.uuids[0], kinds[i], 2 * i);
		for (uint64_t block = 0; block < BLOCKS; block++)
			plain[block] = kinds[i](2 * i, block);
		map_compare(plain, t.sealed[0]);
	}
}

/* --- who has it --- */

static void disks_share_the_maps_beneath_them(void **state)
{
	struct store_disk *first = disk_open(0), *second;

	(void)state;
	assert_int_equal(sealed_map_count(), LAYERS);
	second = disk_open(1);
	assert_int_equal(sealed_map_count(), LAYERS);
	assert_true(owners_are_right(first, LAYERS));
	/* Closed while another still reads. */
	disk_free(first);
	assert_int_equal(sealed_map_count(), LAYERS);
	assert_true(owners_are_right(second, LAYERS));
	disk_free(second);
	assert_int_equal(sealed_map_count(), 0);
}

static void readers_share_them_too(void **state)
{
	struct store_disk *disk = disk_open(0), *reader = disk_open(TOPS);
	struct store_stats stats;

	(void)state;
	assert_int_equal(sealed_map_count(), LAYERS);
	assert_true(owners_are_right(reader, LAYERS));
	reader->ops->stats(reader, &stats);
	disk_free(disk);
	assert_int_equal(sealed_map_count(), LAYERS);
	for (uint64_t block = 0; block < BLOCKS; block++)
		stats.owned_blocks -= layer_owns(LAYERS - 1, block);
	assert_int_equal(stats.owned_blocks, 0);
	disk_free(reader);
}

static void what_a_write_takes_is_its_own_disks_alone(void **state)
{
	struct store_disk *disks[TOPS] = {disk_open(0), disk_open(1)};
	struct file_disk *first = CONTAINER_OF(disks[0], struct file_disk, disk);
	const uint64_t at = 4 * MAP_SECTOR_BLOCKS; /* the lowest layer's */

	(void)state;
	assert_int_equal(map_reserve(&first->map, at, 1), 0);
	map_set(&first->map, at, 1);
	for (unsigned i = 0; i < TOPS; i++) {
		struct file_disk *disk = CONTAINER_OF(disks[i], struct file_disk, disk);
		struct file_owner owner =
			file_find_owner(disk, disk->layer_count, at * STORE_BLOCK_BYTES, 8192);

		assert_int_equal(owner.layer, i == 0 ? LAYERS : 0);
		assert_int_equal(owner.bytes, i == 0 ? 4096 : 8192);
	}
	disk_free(disks[0]);
	disk_free(disks[1]);
}

/* The same name and UUID, another file: a copy from a backup, or a merged layer. */
static void file_put_in_its_place_has_a_map_of_its_own(void **state)
{
	struct store_disk *before = disk_open(0), *after;
	char fresh[128];

	(void)state;
	path_of(fresh, "fresh", 0);
	layer_make(fresh, &t.uuids[0], NULL);
	assert_int_equal(store_layer_seal(fresh, "", &t.err), 0);
	assert_int_equal(rename(fresh, t.sealed[0]), 0);
	after = disk_open(1);
	assert_int_equal(sealed_map_count(), LAYERS + 1);
	assert_true(owners_are_right(before, LAYERS));
	assert_false(owners_are_right(after, LAYERS));
	disk_free(before);
	assert_int_equal(sealed_map_count(), LAYERS);
	disk_free(after);
}

static void file_changed_in_place_has_a_map_of_its_own(void **state)
{
	const struct timespec tick = {.tv_nsec = 20000000}; /* of the file system's clock */
	struct store_disk *before = disk_open(0), *after;

	(void)state;
	(void)nanosleep(&tick, NULL);
	map_write(t.sealed[0], &t.uuids[0], owns_nothing, 0);
	after = disk_open(1);
	assert_int_equal(sealed_map_count(), LAYERS + 1);
	assert_true(owners_are_right(before, LAYERS));
	assert_false(owners_are_right(after, LAYERS));
	disk_free(after);
	assert_int_equal(sealed_map_count(), LAYERS);
	disk_free(before);
}

/* All sealed layers as one, at `path`; and the chain that it stands in once it has the highest
 * one's name. */
static struct store_chain merge_all(char path[128])
{
	struct store_chain chain = chain_of(TOPS), merged = {.layer_count = 2};
	store_uuid_t uuid;

	path_of(path, "merged", 0);
	store_uuid_generate(&uuid);
	assert_int_equal(store_merge(&chain, 0, false, &uuid, path, NULL, &t.err), 0);
	merged.layer_paths[0] = t.sealed[2];
	merged.layer_paths[1] = t.tops[1];
	return merged;
}

static void merged_layer_is_loaded_beside_the_old_ones(void **state)
{
	struct store_disk *before = disk_open(0), *after;
	char path[128];
	struct store_chain merged = merge_all(path);

	(void)state;
	assert_int_equal(sealed_map_count(), LAYERS);
	/* It takes the place of all three; the old ones are removed under the first disk. */
	for (unsigned i = 0; i < LAYERS; i++)
		assert_int_equal(unlink(t.sealed[i]), 0);
	assert_int_equal(rename(path, t.sealed[2]), 0);
	assert_int_equal(store_open(&merged, &after, &t.err), 0);
	assert_int_equal(sealed_map_count(), LAYERS + 1);
	assert_true(owners_are_right(before, LAYERS));
	disk_free(before);
	assert_int_equal(sealed_map_count(), 1);
	disk_free(after);
}

/* What is loaded ahead is found by the first disk, under its new name; what has changed is not. */
static void merged_layer_is_loaded_ahead(void **state)
{
	const struct timespec tick = {.tv_nsec = 20000000}; /* of the file system's clock */
	struct store_preload *preload;
	struct store_disk *disk;
	char path[128];
	struct store_chain merged = merge_all(path);

	(void)state;
	assert_int_equal(store_preload(path, &preload, &t.err), 0);
	assert_int_equal(sealed_map_count(), 1);
	store_preload_moves(preload);
	(void)nanosleep(&tick, NULL);
	assert_int_equal(rename(path, t.sealed[2]), 0);
	store_preload_moved(preload);
	assert_int_equal(store_open(&merged, &disk, &t.err), 0);
	assert_int_equal(sealed_map_count(), 1);
	disk_free(disk);
	/* Not this time. */
	(void)nanosleep(&tick, NULL);
	assert_int_equal(chmod(t.sealed[2], 0600), 0);
	store_preload_moves(preload);
	store_preload_moved(preload);
	assert_int_equal(store_open(&merged, &disk, &t.err), 0);
	assert_int_equal(sealed_map_count(), 2);
	disk_free(disk);
	store_preload_free(preload);
	assert_int_equal(sealed_map_count(), 0);
	assert_int_equal(store_preload(t.tops[1], &preload, &t.err), -EINVAL);
	assert_non_null(strstr(t.err.text, "is not sealed"));
	assert_int_equal(store_preload("/nonexistent/layer", &preload, &t.err), -ENOENT);
	store_preload_free(NULL);
}

/* --- what goes wrong --- */

static void damage_is_told_to_each_opener(void **state)
{
	static const uint8_t noise[MAP_SECTOR_BYTES] = {1, 2, 3};
	struct store_chain chains[TOPS] = {chain_of(0), chain_of(1)};
	int AUTO_CLOSE fd = open(t.sealed[1], O_RDWR | O_CLOEXEC);
	struct store_disk *disk;

	(void)state;
	for (unsigned slot = 0; slot < MAP_PAGE_SLOTS; slot++)
		assert_int_equal(pwrite_all(fd, noise, sizeof(noise), map_slot_offset(1, slot)), 0);
	for (unsigned i = 0; i < 2 * TOPS; i++) {
		t.err.text[0] = '\0';
		assert_int_equal(store_open(&chains[i % TOPS], &disk, &t.err), -EBADMSG);
		assert_non_null(strstr(t.err.text, "page 1 of its block map"));
		assert_non_null(strstr(t.err.text, "sealed1"));
		assert_int_equal(sealed_map_count(), 0);
	}
}

/* Each call that can fail so fails once, while another has the maps or not. */
static void fail_each(int error, bool another)
{
	struct store_chain chain = chain_of(1);
	struct store_disk *disk, *other = NULL;
	uint64_t nth = 0;
	int r;

	if (another)
		other = disk_open(0);
	do {
		t.err.text[0] = '\0';
		sim_arm(true);
		sim_fail_at(++nth, error);
		r = store_open(&chain, &disk, &t.err);
		if (r == 0)
			disk_free(disk);
		sim_arm(false);
		assert_int_equal(sim_process_holds(), 0);
		assert_int_equal(sealed_map_count(), another ? LAYERS : 0);
		if (r < 0)
			assert_string_not_equal(t.err.text, "");
		assert_true(nth < 1000);
	} while (sim_failed().happened);
	assert_int_equal(r, 0);
	assert_true(nth > LAYERS);
	sim_fail_at(0, 0);
	if (other) {
		assert_true(owners_are_right(other, LAYERS));
		disk_free(other);
	}
}

static void failures_leave_nothing_behind(void **state)
{
	(void)state;
	for (unsigned another = 0; another < 2; another++) {
		fail_each(ENOMEM, another);
		fail_each(EIO, another);
	}
}

/* --- threads --- */

#define THREADS 4
#define ROUNDS  40

struct opener {
	pthread_t thread;
	bool right;
};

/* Opens and closes for reading: of writers a layer has one. */
static void *opener_run(void *arg)
{
	struct opener *o = arg;

	o->right = true;
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct store_chain chain = chain_of(TOPS);
		struct store_disk *disk;
		struct store_error err;

		if (store_open(&chain, &disk, &err) < 0) {
			o->right = false;
			return NULL;
		}
		o->right &= owners_are_right(disk, LAYERS);
		disk_free(disk);
	}
	return NULL;
}

static void threads_open_and_close_at_once(void **state)
{
	struct opener openers[THREADS];

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&openers[i].thread, NULL, opener_run, &openers[i]),
				 0);
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(openers[i].thread, NULL), 0);
		assert_true(openers[i].right);
	}
	assert_int_equal(sealed_map_count(), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(map_agrees_with_a_plain_array),
		TEST(disks_share_the_maps_beneath_them),
		TEST(readers_share_them_too),
		TEST(what_a_write_takes_is_its_own_disks_alone),
		TEST(file_put_in_its_place_has_a_map_of_its_own),
		TEST(file_changed_in_place_has_a_map_of_its_own),
		TEST(merged_layer_is_loaded_beside_the_old_ones),
		TEST(merged_layer_is_loaded_ahead),
		TEST(damage_is_told_to_each_opener),
		TEST(failures_leave_nothing_behind),
		TEST(threads_open_and_close_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
