/*
 * What a disk over a chain of files promises: who owns a block, reads, writes, discards. The rest
 * of the store has its own tests beside its files; store_prop_test.c does the same by chance.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "store/gate.h"
#include "store/test_files.h"

/* --- chains --- */

static void missing_file_is_named(void **state)
{
	char moved[sizeof(t.dir) + sizeof("/moved")];

	(void)state;
	image_add();
	layer_add();
	(void)snprintf(moved, sizeof(moved), "%s/moved", t.dir);
	assert_int_equal(rename(t.image, moved), 0);
	assert_refused(-ENOENT, t.image);
	assert_int_equal(rename(moved, t.image), 0);
	assert_int_equal(unlink(t.layers[0]), 0);
	assert_refused(-ENOENT, t.layers[0]);
}

static void wrong_parent_is_refused(void **state)
{
	(void)state;
	image_add();
	layer_add();
	t.with_image = false;
	assert_refused(-ESTALE, t.layers[0]);
	t.with_image = true;
	store_uuid_generate(&t.image_uuid);
	assert_refused(-ESTALE, t.image);
}

static void parent_that_is_another_layer_is_refused(void **state)
{
	(void)state;
	layer_add();
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	layer_add();
	/* Another one in the parent's place, as an older backup would be. */
	assert_int_equal(unlink(t.layers[0]), 0);
	t.layer_count = 0;
	layer_add();
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	t.layer_count = 2;
	assert_refused(-ESTALE, t.layers[0]);
}

static void parent_that_is_not_sealed_is_refused(void **state)
{
	(void)state;
	layer_add();
	layer_add();
	assert_refused(-ESTALE, "not sealed");
}

static void sealed_layer_is_not_written(void **state)
{
	(void)state;
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	assert_refused(-EROFS, "sealed");
	t.read_only = true;
	open_disk();
	assert_true(t.disk->read_only);
	assert_reads_fill(0, B, 1);
	assert_int_equal(do_io(STORE_WRITE, 0, B, (uint8_t[B]){0}), -EROFS);
	assert_int_equal(do_io(STORE_DISCARD, 0, B, NULL), -EROFS);
	flush_ok();
	assert_int_equal(close_disk(), 0);
}

static void layer_in_use_is_neither_opened_nor_sealed(void **state)
{
	struct store_disk *first;
	uint64_t begin_ms;

	(void)state;
	layer_add();
	open_disk();
	first = t.disk;
	store_lock_wait_ms = 1500;
	begin_ms = now_ms();
	assert_refused(-EBUSY, "in use");
	assert_true(now_ms() - begin_ms >= 1500);
	/* Whoever comes next has less patience. */
	begin_ms = now_ms();
	assert_refused(-EBUSY, "in use");
	assert_true(now_ms() - begin_ms < 1500);
	store_lock_wait_ms = 10000;
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), -EBUSY);
	t.disk = first;
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
}

/* A merged layer takes the place of another one that its children name. */
static void layer_that_stands_for_the_parent_is_accepted(void **state)
{
	struct store_layer_info info, other = {.size_bytes = SIZE};

	(void)state;
	layer_add();
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	layer_add();
	assert_int_equal(store_layer_info(t.layers[0], &info, &t.err), 0);
	assert_true(store_layer_is_parent(&info, &t.layer_uuids[0]));
	assert_false(store_layer_is_parent(&info, &t.layer_uuids[1]));
	/* Standing for none is not standing for what has no UUID. */
	assert_false(store_layer_is_parent(&info, &(store_uuid_t){{0}}));
	for (unsigned stands = 0; stands < 2; stands++) {
		store_uuid_generate(&other.uuid);
		if (stands)
			other.stands_for = t.layer_uuids[0];
		assert_int_equal(unlink(t.layers[0]), 0);
		assert_int_equal(store_layer_create(t.layers[0], &other, &t.err), 0);
		assert_int_equal(store_layer_seal(t.layers[0], "", &t.err), 0);
		if (!stands)
			assert_refused(-ESTALE, t.layers[0]);
	}
	open_disk();
	assert_int_equal(store_layer_info(t.layers[0], &info, &t.err), 0);
	assert_true(store_layer_is_parent(&info, &t.layer_uuids[0]));
}

static void bare_image_is_read_only(void **state)
{
	uint8_t tail[B];

	(void)state;
	image_add();
	open_disk();
	assert_int_equal(t.disk->size_bytes, IMAGE_BYTES);
	assert_true(t.disk->read_only);
	assert_reads_image(3);
	assert_reads_image(40);
	image_block(64, tail);
	assert_reads(64 * B, 3 * S, tail);
	assert_int_equal(do_io(STORE_WRITE, 0, S, tail), -EROFS);
	assert_int_equal(close_disk(), 0);
}

/* Four layers, each with blocks of its own, over an image, each larger than the one below. */
static void chain_reads_each_block_from_its_owner(void **state)
{
	static const uint64_t sizes[4] = {80 * B, 120 * B, 120 * B, SIZE};

	(void)state;
	image_add();
	for (unsigned i = 0; i < 4; i++) {
		if (i > 0)
			assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
		layer_add_sized(sizes[i]);
		open_disk();
		assert_int_equal(t.disk->size_bytes, sizes[i]);
		/* The same block in each, one of each layer's own, and its last one. */
		write_ok(5 * B, B, (uint8_t)(10 + i));
		write_ok((10 + i) * B, B, (uint8_t)(20 + i));
		write_ok(sizes[i] - B, B, (uint8_t)(30 + i));
		if (i < 3)
			assert_int_equal(close_disk(), 0);
	}
	assert_reads_fill(5 * B, B, 13);
	for (unsigned i = 0; i < 4; i++)
		assert_reads_fill((10 + i) * B, B, (uint8_t)(20 + i));
	assert_reads_fill(79 * B, B, 30);
	assert_reads_fill(119 * B, B, 32);
	assert_reads_fill(SIZE - B, B, 33);
	assert_reads_image(4);
	assert_reads_image(31);
	assert_reads_image(64);
	assert_reads_zeros(65 * B, 14 * B);
	assert_reads_zeros(80 * B, 39 * B);
	assert_reads_zeros(120 * B, (BLOCKS - 121) * B);
}

/* One command over many owners. */
static void read_of_many_runs_is_put_together(void **state)
{
	uint8_t *AUTO_FREE expected = calloc(1, SIZE);

	(void)state;
	image_add();
	layer_add();
	open_disk();
	for (unsigned i = 0; i < 65; i++)
		image_block(i, expected + i * B);
	for (unsigned i = 0; i < BLOCKS; i += 3) {
		write_ok(i * (uint64_t)B, B, (uint8_t)i);
		fill(expected + i * B, B, (uint8_t)i);
	}
	assert_reads(0, SIZE, expected);
	for (unsigned at = 0; at < BLOCKS * 8 - 100; at += 37)
		assert_reads(at * (uint64_t)S, 99 * S, expected + at * S);
}

/* A layer that is smaller than its parent hides the parent's end, also from a larger child. */
static void blocks_beyond_a_smaller_layer_are_zeros(void **state)
{
	(void)state;
	layer_add_sized(100 * B);
	open_disk();
	write_ok(0, 100 * B, 1);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	layer_add_sized(50 * B);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	layer_add_sized(100 * B);
	open_disk();
	assert_reads_fill(0, 50 * B, 1);
	assert_reads_zeros(50 * B, 50 * B);
}

/* What extent says, from every sector of the block on. */
static void assert_block_mapped(unsigned block, bool expected)
{
	for (unsigned sector = 0; sector < 8; sector++) {
		uint64_t bytes = 0, at = block * (uint64_t)B + sector * S;
		bool mapped = !expected;

		assert_int_equal(t.disk->ops->extent(t.disk, at, (8 - sector) * S, &mapped, &bytes),
				 0);
		assert_int_equal(bytes, (8 - sector) * S);
		assert_int_equal(mapped, expected);
	}
}

/* Ends within blocks, of the image and of layers, one above the other: beyond each there is nothing
 * but zeros, for reads, for merges and in what extent says. */
static void ends_within_a_block_hide_what_is_beneath(void **state)
{
	static const struct {
		uint64_t size_bytes;
		unsigned sectors; /* of block 64 that the image shows through */
	} layers[] = {{64 * B + 2 * S, 2}, {SIZE, 2}, {64 * B + S, 1}, {SIZE, 1}, {SIZE, 1}};
	uint8_t expected[B], written[S];

	(void)state;
	image_add();
	for (size_t i = 0; i < ARRAY_COUNT(layers); i++) {
		if (i > 0)
			assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
		layer_add_sized(layers[i].size_bytes);
		open_disk();
		image_block(64, expected);
		memset(expected + layers[i].sectors * S, 0, B - layers[i].sectors * S);
		assert_reads(64 * B, layers[i].size_bytes == SIZE ? B : layers[i].sectors * S,
			     expected);
		/* The image cut off at the disk's end is what it is; one with a hole is not. */
		assert_int_equal(get_stats().untouched, layers[i].size_bytes != SIZE);
		if (layers[i].size_bytes == SIZE) {
			assert_reads_zeros(65 * B, 10 * B);
			assert_block_mapped(64, true);
			assert_block_mapped(65, false);
		}
		assert_int_equal(close_disk(), 0);
	}
	open_disk();
	write_ok(64 * B + 5 * S, S, 77);
	fill(written, S, 77);
	memcpy(expected + 5 * S, written, S);
	assert_reads(64 * B, B, expected);
}

/* The same with a layer that owns the block its end lies in. */
static void owned_block_is_cut_at_the_end_of_a_layer(void **state)
{
	uint8_t expected[B] = {0};

	(void)state;
	layer_add_sized(100 * B);
	open_disk();
	write_ok(50 * B, B, 1);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	layer_add_sized(50 * B + 3 * S);
	open_disk();
	/* Merged with the parent's block, of which the end must not be seen again. */
	write_ok(50 * B, S, 2);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	layer_add_sized(100 * B);
	open_disk();
	fill(expected, 3 * S, 1);
	fill(expected, S, 2);
	assert_reads(50 * B, B, expected);
	write_ok(50 * B + 7 * S, S, 3);
	fill(expected + 7 * S, S, 3);
	assert_reads(50 * B, B, expected);
	assert_int_equal(close_disk(), 0);
	open_disk();
	assert_reads(50 * B, B, expected);
}

/* --- writes --- */

static void small_write_keeps_the_rest_of_the_parents_block(void **state)
{
	static const struct {
		unsigned first, count; /* sectors */
	} writes[] = {{3, 2}, {8, 4}, {20, 4}, {29, 1}, {30, 20}, {64 * 8 + 1, 1}, {64 * 8 + 6, 5}};
	uint8_t *AUTO_FREE expected = calloc(1, SIZE);

	(void)state;
	image_add();
	layer_add();
	open_disk();
	for (unsigned i = 0; i < 65; i++)
		image_block(i, expected + i * B);
	for (size_t i = 0; i < ARRAY_COUNT(writes); i++) {
		write_ok(writes[i].first * S, writes[i].count * S, (uint8_t)(50 + i));
		fill(expected + writes[i].first * S, writes[i].count * S, (uint8_t)(50 + i));
		assert_reads(0, SIZE, expected);
	}
	assert_true(get_stats().copy_ups > 5);
	assert_int_equal(close_disk(), 0);
	open_disk();
	assert_reads(0, SIZE, expected);
}

static void small_writes_at_once_into_one_block_all_stay(void **state)
{
	struct command c[8];
	uint8_t data[8][S], expected[B];

	(void)state;
	image_add();
	layer_add();
	open_disk();
	for (unsigned block = 0; block < 16; block++) {
		for (unsigned i = 0; i < 8; i++) {
			fill(data[i], S, (uint8_t)(60 + i));
			memset(&c[i], 0, sizeof(c[i]));
			start(&c[i], STORE_WRITE, block * B + i * S, S, data[i]);
			memcpy(expected + i * S, data[i], S);
		}
		for (unsigned i = 0; i < 8; i++)
			assert_int_equal(finish(&c[i]), 0);
		assert_reads(block * B, B, expected);
	}
	assert_int_equal(get_stats().copy_ups, 16);
}

static void write_that_fails_leaves_the_block_as_it_was(void **state)
{
	uint8_t data[B];

	(void)state;
	image_add();
	layer_add();
	open_disk();
	fill(data, B, 9);
	sim_set_write_failure(1);
	assert_int_equal(do_io(STORE_WRITE, 7 * B, B, data), -EIO);
	assert_reads_image(7);
	sim_set_write_failure(1);
	assert_int_equal(do_io(STORE_WRITE, 7 * B + S, S, data), -EIO);
	assert_reads_image(7);
	assert_false(get_stats().failed);
	write_ok(7 * B, B, 9);
	assert_reads_fill(7 * B, B, 9);
}

static uint64_t failed_read(uint64_t offset, uint64_t bytes)
{
	uint8_t *AUTO_FREE data = malloc(bytes);
	struct command c = {.io.fua = false};

	start(&c, STORE_READ, offset, bytes, data);
	assert_int_equal(finish(&c), -EBADF);
	return c.io.good_bytes;
}

/* Its runs end in any order; the first block that could not be read counts. */
static void read_that_fails_names_the_place(void **state)
{
	struct file_disk *disk;
	int image_fd;

	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, 2 * B, 1);
	write_ok(5 * B, B, 2);
	disk = CONTAINER_OF(t.disk, struct file_disk, disk);
	image_fd = disk->image_fd;
	disk->image_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(failed_read(0, 8 * B), 2 * B);
		assert_int_equal(failed_read(B + S, 6 * B), B - S);
		assert_int_equal(failed_read(4 * B, 8 * B), 0);
		assert_int_equal(failed_read(5 * B, 8 * B), B);
	}
	assert_reads_fill(0, 2 * B, 1);
	close(disk->image_fd);
	disk->image_fd = image_fd;
	assert_reads_image(2);
	assert_false(get_stats().failed);
}

/* --- discards --- */

static void discard_reads_as_zeros_whoever_owned(void **state)
{
	uint8_t *AUTO_FREE expected = calloc(1, SIZE);
	struct stat before, after;

	(void)state;
	image_add();
	layer_add();
	open_disk();
	for (unsigned i = 0; i < 65; i++)
		image_block(i, expected + i * B);
	write_ok(16 * B, 100 * B, 4);
	fill(expected + 16 * B, 100 * B, 4);
	assert_int_equal(stat(top_path(), &before), 0);
	/* From the image into the layer and beyond, with parts of blocks at both ends. */
	discard_ok(10 * B + 3 * S, 50 * B);
	memset(expected + 10 * B + 3 * S, 0, 50 * B);
	assert_reads(0, SIZE, expected);
	discard_ok(2 * B + S, 2 * S);
	memset(expected + 2 * B + S, 0, 2 * S);
	discard_ok(200 * B, 56 * B);
	assert_reads(0, SIZE, expected);
	assert_int_equal(stat(top_path(), &after), 0);
	assert_true(after.st_blocks < before.st_blocks - 40 * 8);
	assert_int_equal(close_disk(), 0);
	open_disk();
	assert_reads(0, SIZE, expected);
}

static void discard_without_holes_writes_zeros(void **state)
{
	uint8_t *AUTO_FREE expected = calloc(1, SIZE);

	(void)state;
	image_add();
	layer_add();
	open_disk();
	sim_set_no_punch(true);
	write_ok(0, SIZE, 4);
	fill(expected, SIZE, 4);
	discard_ok(10 * B + 3 * S, 90 * B);
	memset(expected + 10 * B + 3 * S, 0, 90 * B);
	discard_ok(200 * B, 56 * B);
	memset(expected + 200 * B, 0, 56 * B);
	assert_reads(0, SIZE, expected);
}

static void extent_tells_where_data_is(void **state)
{
	static const struct {
		unsigned first, end; /* blocks */
		bool mapped;
	} runs[] = {{0, 4, true},   {4, 6, false},    {6, 32, true},    {32, 64, false},
		    {64, 65, true}, {65, 100, false}, {100, 103, true}, {103, BLOCKS, false}};
	uint64_t at = 0;

	(void)state;
	image_add();
	layer_add();
	open_disk();
	discard_ok(4 * B, 2 * B);
	write_ok(100 * B, 3 * B, 1);
	for (size_t i = 0; i < ARRAY_COUNT(runs); i++) {
		while (at < runs[i].end * (uint64_t)B) {
			uint64_t bytes = 0;
			bool mapped;

			assert_int_equal(
				t.disk->ops->extent(t.disk, at, SIZE - at, &mapped, &bytes), 0);
			assert_true(bytes >= S && bytes % S == 0);
			assert_int_equal(mapped, runs[i].mapped);
			at += bytes;
		}
		assert_int_equal(at, runs[i].end * (uint64_t)B);
	}
}

/* --- a disk is exchanged for one with another top --- */

static void answered(void *arg, int res)
{
	*(int *)arg = res;
}

/* Closed, but not gone: so it is between two disks of a gate. */
static struct store_disk *detach_disk(void)
{
	struct store_disk *disk = TAKE_PTR(t.disk);
	int res = 1;

	disk->ops->detach(disk, answered, &res);
	sim_run(NULL, NULL);
	assert_int_equal(res, 0);
	return disk;
}

/* Its top owns block 0. */
static struct store_disk *closed_disk(void)
{
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	return detach_disk();
}

static uint64_t owned_by_layer(unsigned i)
{
	const struct file_disk *files = CONTAINER_OF(t.disk, struct file_disk, disk);

	return sealed_map_owned_count(files->layers[i].sealed);
}

static void gate_hold(struct store_disk *gate)
{
	int res = 1;

	store_gate_shut(gate, answered, &res);
	sim_run(NULL, NULL);
	assert_int_equal(res, 0);
	res = 1;
	store_gate_take(gate, answered, &res);
	sim_run(NULL, NULL);
	assert_int_equal(res, 0);
}

/* The top becomes history, and the disk `t.disk` is opened with a new one. */
static void push_layer(void)
{
	assert_int_equal(store_layer_seal(top_path(), "snap", &t.err), 0);
	layer_add();
	open_disk();
}

/* Whatever the chain's length: commands wait meanwhile. */
static void exchange_reads_no_map(void **state)
{
	struct store_disk *gate;

	(void)state;
	image_add();
	layer_add();
	open_disk();
	assert_int_equal(store_gate_new(sim_ring(), t.disk, &gate), 0);
	for (unsigned i = 1; i < LAYERS_MAX; i++) {
		t.disk = gate;
		write_ok((uint64_t)i * 3 * B, 5 * B, (uint8_t)i);
		flush_ok();
		write_ok((uint64_t)(100 + i) * B, B, (uint8_t)i);
		discard_ok((uint64_t)(200 + i) * B, B);
		gate_hold(gate);
		map_pages_read = 0;
		push_layer();
		assert_int_equal(map_pages_read, 0);
		assert_int_equal(owned_by_layer(i - 1), 7);
		store_gate_open(gate, t.disk);
		assert_int_equal(sealed_map_count(), i);
	}
	t.disk = gate;
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 1; i < LAYERS_MAX; i++) {
			assert_reads_fill((uint64_t)i * 3 * B, 3 * B, (uint8_t)i);
			assert_reads_fill((uint64_t)(100 + i) * B, B, (uint8_t)i);
			assert_reads_zeros((uint64_t)(200 + i) * B, B);
		}
		assert_reads_image(1);
		/* What the files say is the same. */
		assert_int_equal(close_disk(), 0);
		assert_int_equal(sealed_map_count(), 0);
		open_disk();
		for (unsigned i = 1; i < LAYERS_MAX; i++)
			assert_int_equal(owned_by_layer(i - 1), 7);
	}
}

/* Somebody has put a backup in the top's place, between its closing and its sealing. */
static void top_that_was_changed_is_read(void **state)
{
	const struct timespec tick = {.tv_nsec = 20000000}; /* of the file system's clock */
	static const uint8_t no_bits[MAP_PAGE_BITS_BYTES];
	struct store_disk *old = closed_disk();

	(void)state;
	(void)nanosleep(&tick, NULL);
	for (unsigned i = 1; i <= MAP_PAGE_SLOTS; i++) {
		struct map_page page;
		uint64_t offset = map_page_fill(&page, t.layer_uuids[0].b, 0,
						MAP_SEQUENCE_EMPTY + i, no_bits);

		patch(t.layers[0], offset, &page, sizeof(page));
	}
	push_layer();
	assert_reads_zeros(0, B);
	old->ops->free(old);
}

/* Its clock may not have moved on since it was closed: that it was opened is enough. */
static void top_that_was_opened_again_is_read(void **state)
{
	struct store_disk *old = closed_disk();

	(void)state;
	open_disk();
	die();
	map_pages_read = 0;
	push_layer();
	assert_int_equal(map_pages_read, 1);
	assert_reads_fill(0, B, 1);
	old->ops->free(old);
}

/* Nobody else wants what it leaves. */
static void top_that_goes_takes_its_map_along(void **state)
{
	struct store_disk *old = closed_disk();

	(void)state;
	assert_int_equal(sealed_map_count(), 1);
	old->ops->free(old);
	assert_int_equal(sealed_map_count(), 0);
}

/* Nothing is known of what a disk that failed has on its medium. */
static void disk_that_failed_leaves_no_map(void **state)
{
	struct store_disk *disk;
	int res = 1;

	(void)state;
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	sim_set_sync_failure(1);
	disk = TAKE_PTR(t.disk);
	disk->ops->detach(disk, answered, &res);
	sim_run(NULL, NULL);
	assert_int_equal(res, -EIO);
	assert_int_equal(sealed_map_count(), 0);
	disk->ops->free(disk);
}

/* --- memory --- */

static void memory_disk_keeps_what_is_written(void **state)
{
	uint8_t data[B], expected[B];
	struct command c = {.io.fua = false};
	uint64_t bytes = 0;
	bool mapped;

	(void)state;
	assert_int_equal(store_mem_new(SIZE, &t.disk), 0);
	fill(data, B, 1);
	memcpy(expected, data, B);
	start(&c, STORE_WRITE, 3 * S, B, data);
	assert_int_equal(store_mem_run(t.disk), 1);
	assert_false(c.busy);
	memset(data, 0, B);
	start(&c, STORE_READ, 3 * S, B, data);
	assert_int_equal(store_mem_run(t.disk), 1);
	assert_memory_equal(data, expected, B);
	assert_int_equal(t.disk->ops->extent(t.disk, 0, SIZE, &mapped, &bytes), 0);
	assert_true(mapped);
	assert_int_equal(bytes, 2 * B);
	sim_kill();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(missing_file_is_named),
		TEST(wrong_parent_is_refused),
		TEST(parent_that_is_another_layer_is_refused),
		TEST(parent_that_is_not_sealed_is_refused),
		TEST(sealed_layer_is_not_written),
		TEST(layer_in_use_is_neither_opened_nor_sealed),
		TEST(layer_that_stands_for_the_parent_is_accepted),
		TEST(bare_image_is_read_only),
		TEST(chain_reads_each_block_from_its_owner),
		TEST(read_of_many_runs_is_put_together),
		TEST(blocks_beyond_a_smaller_layer_are_zeros),
		TEST(ends_within_a_block_hide_what_is_beneath),
		TEST(owned_block_is_cut_at_the_end_of_a_layer),
		TEST(small_write_keeps_the_rest_of_the_parents_block),
		TEST(small_writes_at_once_into_one_block_all_stay),
		TEST(write_that_fails_leaves_the_block_as_it_was),
		TEST(read_that_fails_names_the_place),
		TEST(discard_reads_as_zeros_whoever_owned),
		TEST(discard_without_holes_writes_zeros),
		TEST(extent_tells_where_data_is),
		TEST(exchange_reads_no_map),
		TEST(top_that_was_changed_is_read),
		TEST(top_that_was_opened_again_is_read),
		TEST(top_that_goes_takes_its_map_along),
		TEST(disk_that_failed_leaves_no_map),
		TEST(memory_disk_keeps_what_is_written),
	};

	log_init("store_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
