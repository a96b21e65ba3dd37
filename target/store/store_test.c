/*
 * The store's promises, one by one: over real files in /dev/shm, with the reactor and the page
 * cache simulated (sim.h), so that deaths, faults and time come when a test wants them.
 * store_prop_test.c does the same by chance.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "store/sim.h"
#include "store/store_internal.h"

#define B      STORE_BLOCK_BYTES
#define S      STORE_SECTOR_BYTES
#define BLOCKS 256u
#define SIZE   (BLOCKS * (uint64_t)B)
/* A whole number of sectors, not of blocks. */
#define IMAGE_BYTES (64u * (uint64_t)B + 3 * S)

#define LAYERS_MAX 5

static struct {
	char dir[64], run_dir[80], image[128], layers[LAYERS_MAX][128];
	store_uuid_t image_uuid, layer_uuids[LAYERS_MAX];
	unsigned layer_count;
	bool with_image, no_run_dir, read_only, scratch;
	struct store_disk *disk;
	struct store_error err;
} t;

/* --- files --- */

static void fill(uint8_t *data, size_t bytes, uint8_t seed)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(seed + i / S * 7 + i % 251);
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void patch(const char *path, uint64_t offset, const void *data, size_t bytes)
{
	int AUTO_CLOSE fd = open_file(path);

	assert_int_equal(pwrite(fd, data, bytes, (off_t)offset), bytes);
}

static void peek(const char *path, uint64_t offset, void *data, size_t bytes)
{
	int AUTO_CLOSE fd = open_file(path);

	assert_int_equal(pread(fd, data, bytes, (off_t)offset), bytes);
}

/* Overwrites a byte with its complement. */
static void damage(const char *path, uint64_t offset)
{
	uint8_t byte;

	peek(path, offset, &byte, 1);
	byte = (uint8_t)~byte;
	patch(path, offset, &byte, 1);
}

static const char *live_path(void)
{
	static char path[160];

	map_live_path(t.run_dir, t.layer_uuids[t.layer_count - 1].b, path, sizeof(path));
	return path;
}

static bool live_exists(void)
{
	return access(live_path(), F_OK) == 0;
}

/* Blocks 0 to 31 and the last have data, the others are a hole. */
static void image_add(void)
{
	uint8_t data[B];
	int AUTO_CLOSE fd = -1;

	(void)snprintf(t.image, sizeof(t.image), "%s/base.img", t.dir);
	fd = open(t.image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)IMAGE_BYTES), 0);
	for (unsigned i = 0; i < 32; i++) {
		fill(data, sizeof(data), (uint8_t)(100 + i));
		assert_int_equal(pwrite(fd, data, B, (off_t)i * B), B);
	}
	fill(data, sizeof(data), 164);
	assert_int_equal(pwrite(fd, data, 3 * S, (off_t)64 * B), 3 * S);
	store_uuid_generate(&t.image_uuid);
	assert_int_equal(store_image_seal(t.image, &t.image_uuid, "test", NULL, NULL,
					  &(struct store_image_info){.size_bytes = 0}, &t.err),
			 0);
	t.with_image = true;
}

/* What block `i` of the image reads as. */
static void image_block(unsigned i, uint8_t data[B])
{
	memset(data, 0, B);
	if (i < 32)
		fill(data, B, (uint8_t)(100 + i));
	if (i == 64) {
		fill(data, B, 164);
		memset(data + 3 * S, 0, B - 3 * S);
	}
}

static void layer_add_sized(uint64_t size_bytes)
{
	struct store_layer_info info = {.size_bytes = size_bytes, .label = "node"};
	unsigned i = t.layer_count++;
	char path[sizeof(t.layers[0])];

	assert_true(i < LAYERS_MAX);
	store_uuid_generate(&info.uuid);
	t.layer_uuids[i] = info.uuid;
	if (i > 0) {
		struct store_layer_info parent;

		assert_int_equal(store_layer_info(t.layers[i - 1], &parent, &t.err), 0);
		info.parent_kind = STORE_PARENT_LAYER;
		info.parent_uuid = parent.uuid;
		info.parent_size_bytes = parent.size_bytes;
	} else if (t.with_image) {
		info.parent_kind = STORE_PARENT_IMAGE;
		info.parent_uuid = t.image_uuid;
		info.parent_size_bytes = IMAGE_BYTES;
	}
	(void)snprintf(path, sizeof(path), "%s/layer%u.cow", t.dir, i);
	memcpy(t.layers[i], path, sizeof(path));
	assert_int_equal(store_layer_create(t.layers[i], &info, &t.err), 0);
}

static void layer_add(void)
{
	layer_add_sized(SIZE);
}

static const char *top_path(void)
{
	return t.layers[t.layer_count - 1];
}

/* --- the disk --- */

static int try_open(void)
{
	struct store_chain chain = {
		.image_path = t.with_image ? t.image : NULL,
		.image_uuid = t.image_uuid,
		.layer_count = t.layer_count,
		.run_dir = t.no_run_dir ? NULL : t.run_dir,
		.read_only = t.read_only,
		.scratch = t.scratch,
	};

	for (unsigned i = 0; i < t.layer_count; i++)
		chain.layer_paths[i] = t.layers[i];
	t.err.text[0] = '\0';
	return store_open(&chain, &t.disk, &t.err);
}

static void open_disk(void)
{
	int r = try_open();

	if (r < 0)
		fail_msg("%s", t.err.text);
	assert_int_equal(store_attach(t.disk, sim_ring()), 0);
}

/* Opening fails with `error` and a message that has `words` in it. */
static void assert_refused(int error, const char *words)
{
	assert_int_equal(try_open(), error);
	if (!strstr(t.err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", t.err.text, words);
	t.disk = NULL;
}

static void closed(void *arg, int res)
{
	*(int *)arg = res;
}

static int close_disk(void)
{
	int res = 1;

	t.disk->ops->detach(t.disk, closed, &res);
	sim_run(NULL, NULL);
	assert_int_not_equal(res, 1);
	t.disk->ops->free(t.disk);
	t.disk = NULL;
	return res;
}

/* kill -9. */
static void die(void)
{
	sim_kill();
	t.disk->ops->free(t.disk);
	t.disk = NULL;
}

struct command {
	struct store_io io;
	bool busy;
	int res;
};

static void command_done(struct store_io *io, int res)
{
	struct command *c = CONTAINER_OF(io, struct command, io);

	assert_true(c->busy);
	c->busy = false;
	c->res = res;
}

static void start(struct command *c, enum store_op op, uint64_t offset, uint64_t bytes, void *data)
{
	bool fua = c->io.fua;

	memset(c, 0, sizeof(*c));
	c->io = (struct store_io){.op = op,
				  .fua = fua,
				  .offset_bytes = offset,
				  .length_bytes = bytes,
				  .data = data,
				  .done = command_done};
	c->busy = true;
	store_submit(t.disk, &c->io);
	assert_true(c->busy); /* never from inside submit */
}

static bool is_busy(void *arg)
{
	return ((struct command *)arg)->busy;
}

static int finish(struct command *c)
{
	sim_run(is_busy, c);
	assert_false(c->busy);
	return c->res;
}

static int do_io(enum store_op op, uint64_t offset, uint64_t bytes, void *data)
{
	struct command c = {.io.fua = false};

	start(&c, op, offset, bytes, data);
	return finish(&c);
}

static void write_ok(uint64_t offset, uint64_t bytes, uint8_t seed)
{
	uint8_t *AUTO_FREE data = malloc(bytes);

	fill(data, bytes, seed);
	assert_int_equal(do_io(STORE_WRITE, offset, bytes, data), 0);
}

static void discard_ok(uint64_t offset, uint64_t bytes)
{
	assert_int_equal(do_io(STORE_DISCARD, offset, bytes, NULL), 0);
}

static void flush_ok(void)
{
	assert_int_equal(do_io(STORE_FLUSH, 0, 0, NULL), 0);
}

static void assert_reads(uint64_t offset, uint64_t bytes, const uint8_t *expected)
{
	uint8_t *AUTO_FREE data = malloc(bytes);

	memset(data, 0xee, bytes);
	assert_int_equal(do_io(STORE_READ, offset, bytes, data), 0);
	assert_memory_equal(data, expected, bytes);
}

static void assert_reads_fill(uint64_t offset, uint64_t bytes, uint8_t seed)
{
	uint8_t *AUTO_FREE expected = malloc(bytes);

	fill(expected, bytes, seed);
	assert_reads(offset, bytes, expected);
}

static void assert_reads_zeros(uint64_t offset, uint64_t bytes)
{
	uint8_t *AUTO_FREE expected = calloc(1, bytes);

	assert_reads(offset, bytes, expected);
}

static void assert_reads_image(unsigned block)
{
	uint8_t expected[B];

	image_block(block, expected);
	assert_reads((uint64_t)block * B, B, expected);
}

static struct store_stats get_stats(void)
{
	struct store_stats stats;

	t.disk->ops->stats(t.disk, &stats);
	return stats;
}

/* --- around each test --- */

static int set_up(void **state)
{
	(void)state;
	memset(&t, 0, sizeof(t));
	(void)snprintf(t.dir, sizeof(t.dir), "/dev/shm/store_test.XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	(void)snprintf(t.run_dir, sizeof(t.run_dir), "%s/run", t.dir);
	assert_int_equal(mkdir(t.run_dir, 0700), 0);
	sim_init(1);
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	if (t.disk)
		die();
	sim_done();
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", t.dir);
	return system(command);
}

/* --- headers --- */

static void uuid_text_is_checked(void **state)
{
	static const char *const bad[] = {
		"",
		"x",
		"0f8fad5b-d9cb-469f-a165-70867728950",
		"0f8fad5b-d9cb-469f-a165-70867728950ez",
		"0f8fad5bxd9cb-469f-a165-70867728950e",
		"0f8fad5b-d9cb-469f-a165-7086772895ge",
	};
	char text[STORE_UUID_TEXT_BYTES];
	store_uuid_t a, b;

	(void)state;
	store_uuid_generate(&a);
	store_uuid_format(&a, text);
	assert_true(store_uuid_parse(text, &b));
	assert_memory_equal(&a, &b, sizeof(a));
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_false(store_uuid_parse(bad[i], &b));
}

static void layer_info_comes_back(void **state)
{
	struct store_layer_info info =
					{
						.parent_kind = STORE_PARENT_IMAGE,
						.parent_size_bytes = 12345 * S,
						.size_bytes = 1ull << 40,
						.label = "pi-07",
					},
				found;
	char path[128];
	struct stat st;

	(void)state;
	store_uuid_generate(&info.uuid);
	store_uuid_generate(&info.parent_uuid);
	(void)snprintf(path, sizeof(path), "%s/l.cow", t.dir);
	assert_int_equal(store_layer_create(path, &info, &t.err), 0);
	assert_int_equal(store_layer_info(path, &found, &t.err), 0);
	assert_memory_equal(&found, &info, sizeof(info));
	/* A terabyte costs its headers. */
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 <= 65536);
	assert_int_equal(store_layer_create(path, &info, &t.err), -EEXIST);
	assert_int_equal(store_layer_info(path, &found, &t.err), 0);
}

static void layer_of_impossible_size_is_refused(void **state)
{
	static const uint64_t sizes[] = {0, 1, 513, LIMIT_DISK_BYTES + B, UINT64_MAX};
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/l.cow", t.dir);
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		struct store_layer_info info = {.size_bytes = sizes[i]};

		assert_int_equal(store_layer_create(path, &info, &t.err), -EINVAL);
		assert_int_not_equal(access(path, F_OK), 0);
	}
}

static void header_damaged_in_one_copy_is_read_from_the_other(void **state)
{
	(void)state;
	for (unsigned copy = 0; copy < LAYER_HEADER_COPIES; copy++) {
		for (unsigned sealed = 0; sealed < 2; sealed++) {
			struct store_layer_info info;

			t.layer_count = 0;
			layer_add();
			if (sealed)
				assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
			damage(top_path(), copy * LAYER_HEADER_BYTES + 100);
			assert_int_equal(store_layer_info(top_path(), &info, &t.err), 0);
			assert_int_equal(info.sealed, sealed);
			assert_string_equal(info.label, "node");
			assert_int_equal(unlink(top_path()), 0);
		}
	}
}

static void header_damaged_in_both_copies_is_refused(void **state)
{
	(void)state;
	layer_add();
	damage(top_path(), 200);
	damage(top_path(), LAYER_HEADER_BYTES + 4000);
	assert_refused(-EBADMSG, top_path());
	assert_refused(-EBADMSG, "damaged");
}

/* The checksum is right and what it covers is not. */
static void header_that_lies_is_refused(void **state)
{
	static const struct {
		size_t offset;
		uint64_t value;
		const char *words;
	} lies[] = {
		{offsetof(struct layer_header, version), 2, "newer"},
		{offsetof(struct layer_header, parent_kind), 3, "parent"},
		{offsetof(struct layer_header, block_bytes), 8192, "layout"},
		{offsetof(struct layer_header, size_bytes), 0, "size"},
		{offsetof(struct layer_header, size_bytes), UINT64_MAX, "size"},
		{offsetof(struct layer_header, size_bytes), (64ull << 40) + B, "size"},
		{offsetof(struct layer_header, size_bytes), SIZE + B, "cut off"},
		{offsetof(struct layer_header, map_offset), 1ull << 62, "layout"},
		{offsetof(struct layer_header, map_page_blocks), 0, "layout"},
		{offsetof(struct layer_header, data_offset), UINT64_MAX - 4095, "layout"},
	};

	(void)state;
	layer_add();
	for (size_t i = 0; i < ARRAY_COUNT(lies); i++) {
		struct layer_header header, saved;
		size_t bytes = lies[i].offset == offsetof(struct layer_header, version) ||
					       lies[i].offset ==
						       offsetof(struct layer_header, parent_kind) ||
					       lies[i].offset ==
						       offsetof(struct layer_header, block_bytes) ||
					       lies[i].offset == offsetof(struct layer_header,
									  map_page_blocks)
				       ? 4
				       : 8;

		peek(top_path(), 0, &saved, sizeof(saved));
		header = saved;
		memcpy((uint8_t *)&header + lies[i].offset, &lies[i].value, bytes);
		le32_put(&header.crc, crc32c(0, &header, offsetof(struct layer_header, crc)));
		patch(top_path(), 0, &header, sizeof(header));
		patch(top_path(), LAYER_HEADER_BYTES, &header, sizeof(header));
		assert_refused(-EBADMSG, lies[i].words);
		patch(top_path(), 0, &saved, sizeof(saved));
		patch(top_path(), LAYER_HEADER_BYTES, &saved, sizeof(saved));
	}
	open_disk();
}

static void file_that_is_cut_off_or_no_layer_is_refused(void **state)
{
	(void)state;
	layer_add();
	assert_int_equal(truncate(top_path(), (off_t)SIZE), 0);
	assert_refused(-EBADMSG, "cut off");
	assert_int_equal(truncate(top_path(), 100), 0);
	assert_refused(-EBADMSG, "cut off");
	assert_int_equal(truncate(top_path(), 0), 0);
	assert_refused(-EBADMSG, "cut off");
	assert_int_equal(truncate(top_path(), (off_t)SIZE), 0);
	assert_refused(-EBADMSG, top_path());
}

/* --- chains --- */

static void missing_file_is_named(void **state)
{
	(void)state;
	image_add();
	layer_add();
	assert_int_equal(rename(t.image, "/dev/shm/store_test.moved"), 0);
	assert_refused(-ENOENT, t.image);
	assert_int_equal(rename("/dev/shm/store_test.moved", t.image), 0);
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
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
	layer_add();
	/* Another one in the parent's place, as an older backup would be. */
	assert_int_equal(unlink(t.layers[0]), 0);
	t.layer_count = 0;
	layer_add();
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
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
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
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

	(void)state;
	layer_add();
	open_disk();
	first = t.disk;
	store_lock_wait_ms = 50;
	assert_refused(-EBUSY, "in use");
	store_lock_wait_ms = 10000;
	assert_int_equal(store_layer_seal(top_path(), &t.err), -EBUSY);
	t.disk = first;
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
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
			assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
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
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
	layer_add_sized(50 * B);
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
	layer_add_sized(100 * B);
	open_disk();
	assert_reads_fill(0, 50 * B, 1);
	assert_reads_zeros(50 * B, 50 * B);
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

/* --- durability --- */

static void flush_syncs_no_more_than_it_must(void **state)
{
	unsigned before;
	struct command c[10];

	(void)state;
	layer_add();
	open_disk();
	flush_ok();
	before = sim_sync_count();
	flush_ok(); /* nothing was written */
	assert_int_equal(sim_sync_count() - before, 0);
	write_ok(0, B, 1);
	flush_ok(); /* data, then the map */
	assert_int_equal(sim_sync_count() - before, 2);
	write_ok(0, B, 2);
	flush_ok(); /* no new block */
	assert_int_equal(sim_sync_count() - before, 3);
	write_ok(0, B, 3);
	for (unsigned i = 0; i < 10; i++) {
		memset(&c[i], 0, sizeof(c[i]));
		start(&c[i], STORE_FLUSH, 0, 0, NULL);
	}
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(finish(&c[i]), 0);
	assert_in_range(sim_sync_count() - before, 4, 5);
	assert_int_equal(get_stats().flushes, 14);
}

static void flushed_write_survives_power_loss(void **state)
{
	struct command c = {.io.fua = true};
	uint8_t data[B];

	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, 3 * B, 1);
	flush_ok();
	fill(data, B, 2);
	start(&c, STORE_WRITE, 5 * B, B, data);
	assert_int_equal(finish(&c), 0);
	die();
	assert_int_equal(unlink(live_path()), 0);
	sim_power_loss(1u << 20);
	open_disk();
	assert_reads_fill(0, 3 * B, 1);
	assert_reads_fill(5 * B, B, 2);
	assert_reads_image(6);
	assert_int_equal(get_stats().owned_blocks, 4);
}

static void unflushed_write_survives_a_kill(void **state)
{
	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	write_ok(9 * B + S, S, 2);
	discard_ok(20 * B, 2 * B);
	die();
	assert_true(live_exists());
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_fill(9 * B + S, S, 2);
	assert_reads_zeros(20 * B, 2 * B);
	assert_int_equal(get_stats().owned_blocks, 4);
	/* And they are dirty: a flush brings them to disk. */
	flush_ok();
	die();
	assert_int_equal(unlink(live_path()), 0);
	sim_power_loss(1u << 20);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_zeros(20 * B, 2 * B);
}

static void orderly_end_leaves_no_live_map(void **state)
{
	(void)state;
	layer_add();
	open_disk();
	assert_true(live_exists());
	write_ok(0, B, 1);
	assert_int_equal(close_disk(), 0);
	assert_false(live_exists());
	sim_power_loss(1u << 20);
	open_disk();
	assert_reads_fill(0, B, 1);
}

/* --- live maps that must not be believed --- */

static void write_flush_write_die(void)
{
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	flush_ok();
	write_ok(B, B, 2);
	die();
}

static void live_map_of_another_boot_is_not_used(void **state)
{
	struct live_header header;

	(void)state;
	write_flush_write_die();
	peek(live_path(), 0, &header, sizeof(header));
	header.boot_id[0] ^= 1;
	le32_put(&header.crc, crc32c(0, &header, offsetof(struct live_header, crc)));
	patch(live_path(), 0, &header, sizeof(header));
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_image(1);
	assert_int_equal(get_stats().owned_blocks, 1);
}

/* A copy of the layer from a backup, under the old name, has none of the unflushed blocks. */
static void live_map_of_another_file_is_not_used(void **state)
{
	char command[400];

	(void)state;
	write_flush_write_die();
	(void)snprintf(command, sizeof(command),
		       "cp --sparse=always '%s' '%s.new' && mv '%s.new' '%s'", top_path(),
		       top_path(), top_path(), top_path());
	assert_int_equal(system(command), 0);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_image(1);
}

static void live_map_that_is_garbage_is_not_used(void **state)
{
	(void)state;
	write_flush_write_die();
	for (unsigned i = 0; i < 4; i++) {
		int AUTO_CLOSE fd = open_file(live_path());

		switch (i) {
		case 0: assert_int_equal(ftruncate(fd, 0), 0); break;
		case 1: assert_int_equal(ftruncate(fd, 100), 0); break;
		case 2: assert_int_equal(ftruncate(fd, 1 << 20), 0); break;
		case 3: damage(live_path(), 20); break;
		}
		open_disk();
		assert_reads_fill(0, B, 1);
		assert_reads_image(1);
		die();
	}
}

/* Killed while it was being made: its header is there, its bits are not yet. */
static void live_map_without_its_bits_does_not_hide_flushed_blocks(void **state)
{
	int AUTO_CLOSE fd = -1;

	(void)state;
	write_flush_write_die();
	fd = open_file(live_path());
	assert_int_equal(ftruncate(fd, LIVE_HEADER_BYTES), 0);
	assert_int_equal(ftruncate(fd, LIVE_HEADER_BYTES + 4096), 0);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_image(1);
	assert_int_equal(get_stats().owned_blocks, 1);
}

static void live_map_with_bits_beyond_the_end_does_no_harm(void **state)
{
	static const uint8_t ones[64] = {[0 ... 63] = 0xff};

	(void)state;
	write_flush_write_die();
	patch(live_path(), LIVE_HEADER_BYTES + BLOCKS / 8, ones, sizeof(ones));
	if (try_open() < 0) {
		assert_non_null(strstr(t.err.text, top_path()));
		return;
	}
	assert_int_equal(store_attach(t.disk, sim_ring()), 0);
	assert_int_equal(get_stats().owned_blocks, 2);
	assert_int_equal(close_disk(), 0);
	open_disk();
	assert_int_equal(get_stats().owned_blocks, 2);
}

static void reader_sees_what_a_killed_writer_left(void **state)
{
	(void)state;
	write_flush_write_die();
	t.read_only = true;
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_fill(B, B, 2);
	assert_int_equal(close_disk(), 0);
	/* It took nothing away from the writer. */
	assert_true(live_exists());
	t.read_only = false;
	open_disk();
	assert_reads_fill(B, B, 2);
}

/* --- map pages --- */

static uint64_t slot_offset(unsigned page, unsigned slot)
{
	return LAYER_MAP_OFFSET + (page * MAP_PAGE_SLOTS + slot) * (uint64_t)MAP_PAGE_BYTES;
}

/* Which slot of page 0 is the newer one. */
static unsigned newer_slot(void)
{
	struct map_page pages[2];

	peek(top_path(), slot_offset(0, 0), pages, sizeof(pages));
	return le32_get(pages[1].sequence) > le32_get(pages[0].sequence);
}

/* Block 0 was flushed, then block 1. */
static void two_flushes(void)
{
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	flush_ok();
	write_ok(B, B, 2);
	flush_ok();
	assert_int_equal(close_disk(), 0);
}

static void map_page_torn_in_one_slot_is_read_from_the_other(void **state)
{
	(void)state;
	two_flushes();
	damage(top_path(), slot_offset(0, newer_slot()) + 64);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_image(1);
	/* The torn slot is the one that is written next. */
	write_ok(2 * B, B, 3);
	assert_int_equal(close_disk(), 0);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_image(1);
	assert_reads_fill(2 * B, B, 3);
}

static void map_page_bad_in_both_slots_is_refused(void **state)
{
	(void)state;
	two_flushes();
	damage(top_path(), slot_offset(0, 0) + 2000);
	damage(top_path(), slot_offset(0, 1) + 2000);
	assert_refused(-EBADMSG, top_path());
}

/* The first write of a page goes to slot 1, so slot 0 alone is never there by a power loss. */
static void map_page_with_only_a_bad_slot_0_is_refused(void **state)
{
	static const uint8_t nothing[MAP_PAGE_BYTES];

	(void)state;
	two_flushes();
	damage(top_path(), slot_offset(0, 0) + 2000);
	patch(top_path(), slot_offset(0, 1), nothing, sizeof(nothing));
	assert_refused(-EBADMSG, top_path());
}

/* Slots that carry a right checksum and are not this layer's, this page's or this slot's. */
static void map_page_of_somewhere_else_is_not_believed(void **state)
{
	struct map_page page;

	(void)state;
	two_flushes();
	for (unsigned i = 0; i < 5; i++) {
		unsigned slot = newer_slot();
		struct map_page lie;

		peek(top_path(), slot_offset(0, slot), &page, sizeof(page));
		lie = page;
		switch (i) {
		case 0: lie.layer_uuid[3] ^= 1; break;
		case 1: le64_put(&lie.index, 1); break;
		case 2: le32_put(&lie.version, 2); break;
		case 3: le32_put(&lie.sequence, le32_get(lie.sequence) + 1); break;
		case 4: le32_put(&lie.sequence, 0); break;
		}
		le32_put(&lie.crc, 0);
		le32_put(&lie.crc, crc32c(0, &lie, sizeof(lie)));
		patch(top_path(), slot_offset(0, slot), &lie, sizeof(lie));
		open_disk();
		assert_reads_fill(0, B, 1);
		assert_reads_image(1);
		die();
		assert_int_equal(unlink(live_path()), 0);
		patch(top_path(), slot_offset(0, slot), &page, sizeof(page));
	}
}

static void map_page_with_bits_beyond_the_end_is_refused(void **state)
{
	struct map_page page;

	(void)state;
	two_flushes();
	peek(top_path(), slot_offset(0, newer_slot()), &page, sizeof(page));
	page.bits[BLOCKS / 8] = 1;
	le32_put(&page.crc, 0);
	le32_put(&page.crc, crc32c(0, &page, sizeof(page)));
	patch(top_path(), slot_offset(0, newer_slot()), &page, sizeof(page));
	assert_refused(-EBADMSG, top_path());
}

/* After 2^32 flushes of a page, or with a file that says so. */
static void map_page_sequence_wraps(void **state)
{
	struct map_page page;

	(void)state;
	two_flushes();
	peek(top_path(), slot_offset(0, newer_slot()), &page, sizeof(page));
	for (unsigned slot = 0; slot < 2; slot++) {
		le32_put(&page.sequence, slot ? 0xffffffff : 0xfffffffe);
		le32_put(&page.crc, 0);
		le32_put(&page.crc, crc32c(0, &page, sizeof(page)));
		patch(top_path(), slot_offset(0, slot), &page, sizeof(page));
	}
	for (unsigned i = 2; i < 8; i++) {
		open_disk();
		write_ok(i * B, B, (uint8_t)(1 + i));
		assert_int_equal(close_disk(), 0);
		open_disk();
		for (unsigned k = 0; k <= i; k++)
			assert_reads_fill(k * B, B, (uint8_t)(1 + k));
		assert_int_equal(close_disk(), 0);
	}
}

/* Against a plain array: runs and sets over word, page and chunk borders. */
static void map_agrees_with_a_plain_array(void **state)
{
	const uint64_t blocks = 3 * MAP_PAGE_BLOCKS + 77;
	uint8_t *AUTO_FREE plain = calloc(1, blocks);
	struct layer_header header;
	struct store_map map;
	uint64_t owned = 0;
	int AUTO_CLOSE fd = -1;

	(void)state;
	layer_add_sized(blocks * B);
	fd = open_file(top_path());
	assert_int_equal(layer_header_read(fd, top_path(), &header, &t.err), 0);
	assert_int_equal(map_open(&map, fd, top_path(), &header, t.run_dir, true, &t.err), 0);
	for (unsigned i = 0; i < 3000; i++) {
		uint64_t at = sim_below(blocks), count = 1 + sim_below(i % 10 ? 70 : 3000), run = 0;
		bool value;

		if (i % 3 == 0)
			at = sim_below(4) * MAP_PAGE_BLOCKS + sim_below(64);
		if (at >= blocks)
			continue;
		if (count > blocks - at)
			count = blocks - at;
		if (i % 2) {
			assert_int_equal(map_reserve(&map, at, count), 0);
			map_set(&map, at, count);
			for (uint64_t k = at; k < at + count; k++) {
				owned += !plain[k];
				plain[k] = 1;
			}
		}
		while (run < count && plain[at + run] == plain[at])
			run++;
		assert_int_equal(map_run(&map, at, count, &value), run);
		assert_int_equal(value, plain[at]);
	}
	assert_int_equal(map.owned_count, owned);
	map_close(&map);
}

/* --- faults --- */

static void failed_sync_fails_the_disk(void **state)
{
	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	sim_set_sync_failure(1);
	assert_int_equal(do_io(STORE_FLUSH, 0, 0, NULL), -EIO);
	assert_true(get_stats().failed);
	/* Nothing may say "durable" any more, however often it is asked. */
	assert_int_equal(do_io(STORE_FLUSH, 0, 0, NULL), -EIO);
	assert_int_equal(do_io(STORE_WRITE, B, B, (uint8_t[B]){1}), -EIO);
	assert_int_equal(do_io(STORE_DISCARD, B, B, NULL), -EIO);
	assert_reads_fill(0, B, 1);
	assert_reads_image(1);
	assert_int_equal(close_disk(), -EIO);
	/* What was acknowledged is still in the page cache. */
	assert_true(live_exists());
	open_disk();
	assert_false(get_stats().failed);
	assert_reads_fill(0, B, 1);
	flush_ok();
}

static void failed_map_write_fails_the_disk(void **state)
{
	(void)state;
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	sim_set_write_failure(1);
	assert_int_equal(do_io(STORE_FLUSH, 0, 0, NULL), -EIO);
	assert_true(get_stats().failed);
}

static void full_disk_holds_a_write_until_there_is_space(void **state)
{
	struct command w = {.io.fua = false};
	uint8_t data[B];

	(void)state;
	image_add();
	layer_add();
	open_disk();
	sim_set_no_space(1000);
	fill(data, B, 5);
	start(&w, STORE_WRITE, 3 * B, B, data);
	sim_run(NULL, NULL);
	assert_true(w.busy);
	assert_true(get_stats().no_space);
	/* Others go on: reads, discards, and flushes, which change nothing about it. */
	assert_reads_image(3);
	discard_ok(10 * B, B);
	assert_true(w.busy);
	assert_true(get_stats().no_space);
	sim_set_no_space(0);
	assert_int_equal(finish(&w), 0);
	assert_reads_fill(3 * B, B, 5);
	assert_false(get_stats().no_space);
}

/* A flush that needs no space says nothing about space. */
static void full_disk_alarm_outlives_a_flush(void **state)
{
	struct command w = {.io.fua = false};
	uint8_t data[B] = {1};

	(void)state;
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	flush_ok();
	write_ok(0, B, 2);
	sim_set_no_space(1000);
	start(&w, STORE_WRITE, 3 * B, B, data);
	sim_run(NULL, NULL);
	assert_true(get_stats().no_space);
	flush_ok();
	assert_true(w.busy);
	assert_true(get_stats().no_space);
	sim_set_no_space(0);
	assert_int_equal(finish(&w), 0);
}

/* Those who waited have given up; then there is space, and somebody else finds out. */
static void full_disk_alarm_ends_with_the_next_write(void **state)
{
	uint8_t data[B] = {1};

	(void)state;
	layer_add();
	open_disk();
	sim_set_no_space(1000);
	assert_int_equal(do_io(STORE_WRITE, 3 * B, B, data), -ENOSPC);
	assert_true(get_stats().no_space);
	sim_set_no_space(0);
	write_ok(4 * B, B, 1);
	assert_false(get_stats().no_space);
}

static void full_disk_ends_a_write_in_time_for_a_retry(void **state)
{
	struct command c[3];
	uint8_t data[B] = {1};
	uint64_t began = ring_now_ms(sim_ring());

	(void)state;
	image_add();
	layer_add();
	open_disk();
	sim_set_no_space(1000);
	for (unsigned i = 0; i < 3; i++) {
		memset(&c[i], 0, sizeof(c[i]));
		start(&c[i], STORE_WRITE, 3 * B, B, data);
	}
	/* Also those that wait behind another one. */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(finish(&c[i]), -ENOSPC);
	assert_in_range(ring_now_ms(sim_ring()) - began, STORE_SPACE_WAIT_MS,
			STORE_SPACE_WAIT_MS + 2000);
	assert_reads_image(3);
}

static void full_disk_write_can_be_cancelled(void **state)
{
	struct command w = {.io.fua = false}, behind = {.io.fua = false};
	uint8_t data[B] = {1};

	(void)state;
	image_add();
	layer_add();
	open_disk();
	sim_set_no_space(1000);
	start(&w, STORE_WRITE, 3 * B, B, data);
	start(&behind, STORE_WRITE, 3 * B + S, S, data);
	sim_run(NULL, NULL);
	assert_true(w.busy && behind.busy);
	t.disk->ops->cancel(t.disk, &behind.io);
	assert_true(behind.busy); /* never from inside */
	assert_int_equal(finish(&behind), -ECANCELED);
	t.disk->ops->cancel(t.disk, &w.io);
	t.disk->ops->cancel(t.disk, &w.io);
	assert_int_equal(finish(&w), -ECANCELED);
	sim_set_no_space(0);
	assert_reads_image(3);
	write_ok(3 * B, B, 1);
}

static void full_disk_flush_can_be_cancelled(void **state)
{
	struct command f = {.io.fua = false};

	(void)state;
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	sim_set_no_space(1000);
	start(&f, STORE_FLUSH, 0, 0, NULL);
	sim_run(NULL, NULL);
	assert_true(f.busy);
	assert_true(get_stats().no_space);
	t.disk->ops->cancel(t.disk, &f.io);
	assert_int_equal(finish(&f), -ECANCELED);
	sim_set_no_space(0);
	flush_ok();
}

static void full_disk_holds_a_flush_and_loses_nothing(void **state)
{
	struct command f = {.io.fua = false};

	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	sim_set_no_space(1000);
	start(&f, STORE_FLUSH, 0, 0, NULL);
	sim_run(NULL, NULL);
	assert_true(f.busy);
	sim_set_no_space(0);
	assert_int_equal(finish(&f), 0);
	assert_false(get_stats().failed);
	die();
	assert_int_equal(unlink(live_path()), 0);
	sim_power_loss(1u << 20);
	open_disk();
	assert_reads_fill(0, B, 1);
	sim_set_no_space(1000);
	/* Nothing to flush: no space needed. */
	flush_ok();
}

/* A block of the image, or what was written over it: never a third thing. */
static void assert_old_or_new(unsigned block, uint8_t seed)
{
	uint8_t data[B], old[B], new[B];

	assert_int_equal(do_io(STORE_READ, block * (uint64_t)B, B, data), 0);
	image_block(block, old);
	fill(new, B, seed);
	assert_true(memcmp(data, old, B) == 0 || memcmp(data, new, B) == 0);
}

/* Blocks 0 and 1 were flushed, each with a slot of its own; then the power fails in a third flush,
 * with a write beside it, after so many steps. */
static void flush_cut_off(unsigned steps, bool no_space)
{
	struct command flush = {.io.fua = false}, again = flush, beside = flush;
	uint8_t data[B];

	t.layer_count = 0;
	layer_add_sized(MAP_PAGE_BLOCKS * (uint64_t)B);
	open_disk();
	write_ok(0, B, 1);
	flush_ok();
	write_ok(B, B, 2);
	flush_ok();
	write_ok(2 * B, B, 3);
	/* Its bit lies in another sector of the slot, so that the slot can be torn. */
	write_ok(6000 * B, B, 5);
	sim_set_no_space(no_space ? 1000 : 0);
	start(&flush, STORE_FLUSH, 0, 0, NULL);
	if (no_space) {
		sim_run(NULL, NULL);
		sim_set_no_space(0);
		start(&again, STORE_FLUSH, 0, 0, NULL);
	}
	fill(data, B, 4);
	start(&beside, STORE_WRITE, 3 * B, B, data);
	while (steps-- > 0)
		(void)sim_step();
	die();
	assert_int_equal(unlink(live_path()), 0);
	sim_power_loss(1u << 20);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_fill(B, B, 2);
	assert_old_or_new(2, 3);
	if (!flush.busy)
		assert_reads_fill(2 * B, B, 3);
	assert_old_or_new(3, 4);
	assert_old_or_new(6000, 5);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(unlink(top_path()), 0);
}

static void flush_cut_off_anywhere_loses_nothing(void **state)
{
	(void)state;
	image_add();
	for (unsigned i = 0; i < 2000; i++)
		flush_cut_off(i % 20, i / 20 % 2);
}

/* More map pages than one batch of a flush takes, and a write while each batch is under way. */
static void flush_of_many_pages_is_complete(void **state)
{
	const uint64_t page_bytes = MAP_PAGE_BLOCKS * (uint64_t)B;
	struct command f = {.io.fua = false};

	(void)state;
	layer_add_sized((2 * FLUSH_BATCH + 40) * page_bytes);
	open_disk();
	for (unsigned i = 0; i < 2 * FLUSH_BATCH + 40; i++)
		write_ok(i * page_bytes + i % 100 * B, B, (uint8_t)i);
	start(&f, STORE_FLUSH, 0, 0, NULL);
	for (unsigned i = 0; f.busy && i < 100; i++)
		write_ok((i * 7 % (2 * FLUSH_BATCH)) * page_bytes + 200 * B, B, 1);
	assert_int_equal(finish(&f), 0);
	die();
	assert_int_equal(unlink(live_path()), 0);
	sim_power_loss(4u << 20);
	open_disk();
	for (unsigned i = 0; i < 2 * FLUSH_BATCH + 40; i++)
		assert_reads_fill(i * page_bytes + i % 100 * B, B, (uint8_t)i);
}

/* --- without a tmpfs, and scratch --- */

static void without_live_map_each_write_is_durable(void **state)
{
	(void)state;
	image_add();
	layer_add();
	t.no_run_dir = true;
	open_disk();
	assert_false(t.disk->volatile_cache);
	write_ok(0, B, 1);
	write_ok(5 * B + S, S, 2);
	discard_ok(7 * B, B);
	die();
	assert_false(live_exists());
	sim_power_loss(1u << 20);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_reads_fill(5 * B + S, S, 2);
	assert_reads_zeros(7 * B, B);
}

static void scratch_flush_does_nothing_and_the_end_does(void **state)
{
	unsigned before;

	(void)state;
	image_add();
	layer_add();
	t.scratch = true;
	open_disk();
	before = sim_sync_count();
	write_ok(0, B, 1);
	flush_ok();
	assert_int_equal(sim_sync_count(), before);
	die();
	open_disk();
	assert_reads_fill(0, B, 1);
	/* An orderly end brings the map to the file: what comes next may be a snapshot, and a
	 * sealed layer is read by the durable map alone. */
	assert_int_equal(close_disk(), 0);
	assert_false(live_exists());
	assert_int_equal(store_layer_seal(top_path(), &t.err), 0);
	layer_add();
	open_disk();
	assert_reads_fill(0, B, 1);
}

static void scratch_without_live_map_survives_a_kill(void **state)
{
	(void)state;
	image_add();
	layer_add();
	t.scratch = t.no_run_dir = true;
	open_disk();
	write_ok(0, B, 1);
	die();
	open_disk();
	assert_reads_fill(0, B, 1);
}

/* --- images --- */

static void image_hash_does_not_depend_on_holes(void **state)
{
	struct store_image_info a, b;
	char dense[160], command[400];

	(void)state;
	image_add();
	(void)snprintf(dense, sizeof(dense), "%s/dense.img", t.dir);
	(void)snprintf(command, sizeof(command), "cp --sparse=never '%s' '%s'", t.image, dense);
	assert_int_equal(system(command), 0);
	assert_int_equal(store_image_info(t.image, &a, &t.err), 0);
	assert_int_equal(store_image_seal(dense, &t.image_uuid, "", NULL, NULL, &b, &t.err), 0);
	assert_memory_equal(a.sha256, b.sha256, 32);
	assert_int_equal(a.size_bytes, IMAGE_BYTES);
	assert_string_equal(a.content, "test");
}

static void image_whose_label_is_no_utf8_is_sealed(void **state)
{
	struct store_image_info info;
	char path[160], content[100];

	(void)state;
	image_add();
	memset(content, 'x', sizeof(content));
	/* Cut in the middle of a character, and a byte that is none. */
	memcpy(content + 62, "\xc3\xbc\xc3\xbc", 4);
	content[3] = '\xff';
	content[5] = '\n';
	content[99] = '\0';
	(void)snprintf(path, sizeof(path), "%s", t.image);
	assert_int_equal(store_image_seal(path, &t.image_uuid, content, NULL, NULL, &info, &t.err),
			 0);
	assert_int_equal(store_image_info(path, &info, &t.err), 0);
	assert_int_equal(strncmp(info.content, "xxx", 3), 0);
}

static void file_of_no_whole_sectors_is_no_image(void **state)
{
	static const off_t sizes[] = {0, 1, 1000, 4097};
	struct store_image_info info;
	char path[160];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/odd.img", t.dir);
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		int AUTO_CLOSE fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		assert_int_equal(
			store_image_seal(path, &t.image_uuid, "", NULL, NULL, &info, &t.err),
			-EINVAL);
		assert_non_null(strstr(t.err.text, path));
		assert_int_equal(unlink(path), 0);
	}
}

static void image_that_changed_is_refused(void **state)
{
	(void)state;
	image_add();
	layer_add();
	damage(t.image, 5000);
	assert_refused(-ESTALE, t.image);
	assert_refused(-ESTALE, "changed");
	damage(t.image, 5000);
	/* Only touched: good again, and noted. */
	open_disk();
	assert_int_equal(close_disk(), 0);
	assert_int_equal(truncate(t.image, (off_t)(IMAGE_BYTES + S)), 0);
	assert_refused(-ESTALE, "bytes");
	assert_int_equal(truncate(t.image, (off_t)(IMAGE_BYTES - S)), 0);
	assert_refused(-ESTALE, "bytes");
}

static void image_sidecar_that_is_damaged_is_refused(void **state)
{
	static const char *const sidecars[] = {
		"",
		"{",
		"[]",
		"null",
		"{}",
		"{\"version\": 1}",
		"{\"version\": 1, \"uuid\": \"x\", \"size_bytes\": 1, \"mtime_ns\": 1, "
		"\"sha256\": \"00\", \"content\": \"\"}",
		"{\"version\": 1, \"uuid\": 7, \"size_bytes\": \"1\", \"mtime_ns\": 1, "
		"\"sha256\": \"00\", \"content\": \"\"}",
	};
	char sidecar[160];

	(void)state;
	image_add();
	layer_add();
	(void)snprintf(sidecar, sizeof(sidecar), "%s.json", t.image);
	for (size_t i = 0; i < ARRAY_COUNT(sidecars); i++) {
		assert_int_equal(truncate(sidecar, 0), 0);
		patch(sidecar, 0, sidecars[i], strlen(sidecars[i]));
		assert_refused(-EBADMSG, sidecar);
	}
	assert_int_equal(unlink(sidecar), 0);
	assert_refused(-ENOENT, sidecar);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(uuid_text_is_checked),
		TEST(layer_info_comes_back),
		TEST(layer_of_impossible_size_is_refused),
		TEST(header_damaged_in_one_copy_is_read_from_the_other),
		TEST(header_damaged_in_both_copies_is_refused),
		TEST(header_that_lies_is_refused),
		TEST(file_that_is_cut_off_or_no_layer_is_refused),
		TEST(missing_file_is_named),
		TEST(wrong_parent_is_refused),
		TEST(parent_that_is_another_layer_is_refused),
		TEST(parent_that_is_not_sealed_is_refused),
		TEST(sealed_layer_is_not_written),
		TEST(layer_in_use_is_neither_opened_nor_sealed),
		TEST(bare_image_is_read_only),
		TEST(chain_reads_each_block_from_its_owner),
		TEST(read_of_many_runs_is_put_together),
		TEST(blocks_beyond_a_smaller_layer_are_zeros),
		TEST(small_write_keeps_the_rest_of_the_parents_block),
		TEST(small_writes_at_once_into_one_block_all_stay),
		TEST(write_that_fails_leaves_the_block_as_it_was),
		TEST(discard_reads_as_zeros_whoever_owned),
		TEST(discard_without_holes_writes_zeros),
		TEST(extent_tells_where_data_is),
		TEST(flush_syncs_no_more_than_it_must),
		TEST(flushed_write_survives_power_loss),
		TEST(unflushed_write_survives_a_kill),
		TEST(orderly_end_leaves_no_live_map),
		TEST(live_map_of_another_boot_is_not_used),
		TEST(live_map_of_another_file_is_not_used),
		TEST(live_map_that_is_garbage_is_not_used),
		TEST(live_map_without_its_bits_does_not_hide_flushed_blocks),
		TEST(live_map_with_bits_beyond_the_end_does_no_harm),
		TEST(reader_sees_what_a_killed_writer_left),
		TEST(map_page_torn_in_one_slot_is_read_from_the_other),
		TEST(map_page_bad_in_both_slots_is_refused),
		TEST(map_page_with_only_a_bad_slot_0_is_refused),
		TEST(map_page_of_somewhere_else_is_not_believed),
		TEST(map_page_with_bits_beyond_the_end_is_refused),
		TEST(map_page_sequence_wraps),
		TEST(map_agrees_with_a_plain_array),
		TEST(failed_sync_fails_the_disk),
		TEST(failed_map_write_fails_the_disk),
		TEST(full_disk_holds_a_write_until_there_is_space),
		TEST(full_disk_alarm_outlives_a_flush),
		TEST(full_disk_alarm_ends_with_the_next_write),
		TEST(full_disk_ends_a_write_in_time_for_a_retry),
		TEST(full_disk_write_can_be_cancelled),
		TEST(full_disk_flush_can_be_cancelled),
		TEST(full_disk_holds_a_flush_and_loses_nothing),
		TEST(flush_cut_off_anywhere_loses_nothing),
		TEST(flush_of_many_pages_is_complete),
		TEST(without_live_map_each_write_is_durable),
		TEST(scratch_flush_does_nothing_and_the_end_does),
		TEST(scratch_without_live_map_survives_a_kill),
		TEST(image_hash_does_not_depend_on_holes),
		TEST(image_whose_label_is_no_utf8_is_sealed),
		TEST(file_of_no_whole_sectors_is_no_image),
		TEST(image_that_changed_is_refused),
		TEST(image_sidecar_that_is_damaged_is_refused),
		TEST(memory_disk_keeps_what_is_written),
	};

	log_init("store_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
