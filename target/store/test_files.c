/*
 * The files and the disk of a test; see test_files.h.
 */
#include "store/test_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crc32c.h"

struct test_files t;

/* --- files --- */

void fill(uint8_t *data, size_t bytes, uint8_t seed)
{
	for (size_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)(seed + i / S * 7 + i % 251);
}

int open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

void patch(const char *path, uint64_t offset, const void *data, size_t bytes)
{
	int AUTO_CLOSE fd = open_file(path);

	assert_int_equal(pwrite(fd, data, bytes, (off_t)offset), bytes);
}

void peek(const char *path, uint64_t offset, void *data, size_t bytes)
{
	int AUTO_CLOSE fd = open_file(path);

	assert_int_equal(pread(fd, data, bytes, (off_t)offset), bytes);
}

void damage(const char *path, uint64_t offset)
{
	uint8_t byte;

	peek(path, offset, &byte, 1);
	byte = (uint8_t)~byte;
	patch(path, offset, &byte, 1);
}

const char *live_path(void)
{
	static char path[160];

	map_live_path(t.run_dir, t.layer_uuids[t.layer_count - 1].b, path, sizeof(path));
	return path;
}

bool live_exists(void)
{
	return access(live_path(), F_OK) == 0;
}

void image_add(void)
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
	t.image_bytes = IMAGE_BYTES;
	t.with_image = true;
}

void image_block(unsigned i, uint8_t data[B])
{
	memset(data, 0, B);
	if (i < 32)
		fill(data, B, (uint8_t)(100 + i));
	if (i == 64) {
		fill(data, B, 164);
		memset(data + 3 * S, 0, B - 3 * S);
	}
}

void layer_add_sized(uint64_t size_bytes)
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
		info.parent_uuid = *store_layer_identity(&parent);
		info.parent_size_bytes = parent.size_bytes;
	} else if (t.with_image) {
		info.parent_kind = STORE_PARENT_IMAGE;
		info.parent_uuid = t.image_uuid;
		info.parent_size_bytes = t.image_bytes;
	}
	(void)snprintf(path, sizeof(path), "%s/layer%u.cow", t.dir, i);
	memcpy(t.layers[i], path, sizeof(path));
	assert_int_equal(store_layer_create(t.layers[i], &info, &t.err), 0);
}

void layer_add(void)
{
	layer_add_sized(SIZE);
}

const char *top_path(void)
{
	return t.layers[t.layer_count - 1];
}

/* --- the disk --- */

int try_open(void)
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

void open_disk(void)
{
	int r = try_open();

	if (r < 0)
		fail_msg("%s", t.err.text);
	assert_int_equal(store_attach(t.disk, sim_ring()), 0);
}

void assert_refused(int error, const char *words)
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

int close_disk(void)
{
	int res = 1;

	t.disk->ops->detach(t.disk, closed, &res);
	sim_run(NULL, NULL);
	assert_int_not_equal(res, 1);
	t.disk->ops->free(t.disk);
	t.disk = NULL;
	return res;
}

void die(void)
{
	sim_kill();
	t.disk->ops->free(t.disk);
	t.disk = NULL;
}

static void command_done(struct store_io *io, int res)
{
	struct command *c = CONTAINER_OF(io, struct command, io);

	assert_true(c->busy);
	c->busy = false;
	c->res = res;
}

void start(struct command *c, enum store_op op, uint64_t offset, uint64_t bytes, void *data)
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

int finish(struct command *c)
{
	sim_run(is_busy, c);
	assert_false(c->busy);
	return c->res;
}

int do_io(enum store_op op, uint64_t offset, uint64_t bytes, void *data)
{
	struct command c = {.io.fua = false};

	start(&c, op, offset, bytes, data);
	return finish(&c);
}

void write_ok(uint64_t offset, uint64_t bytes, uint8_t seed)
{
	uint8_t *AUTO_FREE data = malloc(bytes);

	fill(data, bytes, seed);
	assert_int_equal(do_io(STORE_WRITE, offset, bytes, data), 0);
}

void discard_ok(uint64_t offset, uint64_t bytes)
{
	assert_int_equal(do_io(STORE_DISCARD, offset, bytes, NULL), 0);
}

void flush_ok(void)
{
	assert_int_equal(do_io(STORE_FLUSH, 0, 0, NULL), 0);
}

void assert_reads(uint64_t offset, uint64_t bytes, const uint8_t *expected)
{
	uint8_t *AUTO_FREE data = malloc(bytes);

	memset(data, 0xee, bytes);
	assert_int_equal(do_io(STORE_READ, offset, bytes, data), 0);
	assert_memory_equal(data, expected, bytes);
}

void assert_reads_fill(uint64_t offset, uint64_t bytes, uint8_t seed)
{
	uint8_t *AUTO_FREE expected = malloc(bytes);

	fill(expected, bytes, seed);
	assert_reads(offset, bytes, expected);
}

void assert_reads_zeros(uint64_t offset, uint64_t bytes)
{
	uint8_t *AUTO_FREE expected = calloc(1, bytes);

	assert_reads(offset, bytes, expected);
}

void assert_reads_image(unsigned block)
{
	uint8_t expected[B];

	image_block(block, expected);
	assert_reads((uint64_t)block * B, B, expected);
}

struct store_stats get_stats(void)
{
	struct store_stats stats;

	t.disk->ops->stats(t.disk, &stats);
	return stats;
}

struct store_chain chain_of(unsigned layer_count)
{
	struct store_chain chain = {
		.image_path = t.with_image ? t.image : NULL,
		.image_uuid = t.image_uuid,
		.layer_count = layer_count,
	};

	for (unsigned i = 0; i < layer_count; i++)
		chain.layer_paths[i] = t.layers[i];
	return chain;
}

struct store_chain two_layers(void)
{
	image_add();
	for (unsigned i = 0; i < 2; i++) {
		layer_add_sized(2 * SIZE);
		open_disk();
		write_ok(i * SIZE / 2, SIZE, (uint8_t)(1 + i));
		discard_ok(2 * SIZE - 100 * B, 100 * B);
		assert_int_equal(close_disk(), 0);
		assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	}
	return chain_of(2);
}

/* --- map pages --- */

uint64_t sector_offset(unsigned slot, unsigned sector)
{
	return map_slot_offset(0, slot) + sector * (uint64_t)MAP_SECTOR_BYTES;
}

struct slots slots_read(void)
{
	struct slots s;

	peek(top_path(), map_slot_offset(0, 0), s.pages, sizeof(s.pages));
	s.newer =
		le64_get(s.pages[1].sectors[0].sequence) > le64_get(s.pages[0].sectors[0].sequence);
	return s;
}

void slots_write(const struct slots *s)
{
	patch(top_path(), map_slot_offset(0, 0), s->pages, sizeof(s->pages));
}

void sums_fix(struct map_page *page)
{
	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++)
		le32_put(&page->sectors[i].crc,
			 crc32c(0, &page->sectors[i], offsetof(struct map_sector, crc)));
}

void sequences_put(struct map_page *page, uint64_t sequence)
{
	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++)
		le64_put(&page->sectors[i].sequence, sequence);
	sums_fix(page);
}

void three_flushes(void)
{
	image_add();
	layer_add();
	open_disk();
	for (unsigned i = 0; i < 3; i++) {
		write_ok(i * B, B, (uint8_t)(1 + i));
		flush_ok();
	}
	assert_int_equal(close_disk(), 0);
}

void assert_slots_in_order(void)
{
	struct slots s = slots_read();
	struct map_judgement judgement;

	map_page_judge(s.pages, t.layer_uuids[t.layer_count - 1].b, 0, &judgement);
	assert_int_equal(judgement.state, MAP_PAGE_GOOD);
	assert_false(judgement.torn || judgement.bad[0] || judgement.bad[1]);
	for (unsigned slot = 0; slot < MAP_PAGE_SLOTS; slot++)
		assert_true(le64_get(s.pages[slot].sectors[0].sequence) > MAP_SEQUENCE_EMPTY);
}

void assert_three_blocks(void)
{
	open_disk();
	for (unsigned i = 0; i < 3; i++)
		assert_reads_fill(i * B, B, (uint8_t)(1 + i));
	assert_reads_image(3);
	assert_int_equal(get_stats().owned_blocks, 3);
	/* And it goes on: the next flush puts the other slot in order. */
	assert_int_equal(close_disk(), 0);
	assert_slots_in_order();
	open_disk();
	assert_int_equal(get_stats().owned_blocks, 3);
	assert_int_equal(close_disk(), 0);
}

/* --- faults of blocking calls --- */

uint64_t unreadable_begin, unreadable_end;
atomic_uint map_pages_read;

int __wrap_pread_all(int fd, void *data, size_t bytes, uint64_t offset);

int __real_pread_all(int fd, void *data, size_t bytes, uint64_t offset);

int __wrap_pread_all(int fd, void *data, size_t bytes, uint64_t offset)
{
	if (offset < unreadable_end && offset + bytes > unreadable_begin)
		return -EIO;
	map_pages_read += bytes == MAP_PAGE_SLOTS * MAP_PAGE_BYTES && offset >= LAYER_MAP_OFFSET;
	return __real_pread_all(fd, data, bytes, offset);
}

unsigned writes_left = UINT_MAX;
uint64_t writes_torn;

int __wrap_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset);

int __real_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset);

int __wrap_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset)
{
	if (writes_left == UINT_MAX)
		return __real_pwrite_all(fd, data, bytes, offset);
	if (writes_left-- > 0)
		return __real_pwrite_all(fd, data, bytes, offset);
	writes_left = 0;
	if (!writes_torn)
		(void)__real_pwrite_all(fd, data, bytes / (2 * S) * S, offset);
	for (uint64_t i = 0; i < 64 && i < bytes / S; i++) {
		if (writes_torn >> i & 1)
			(void)__real_pwrite_all(fd, (const uint8_t *)data + i * S, S,
						offset + i * S);
	}
	return -ENOSPC;
}

/* --- time --- */

unsigned rounds_by_mode(unsigned quick)
{
	const char *mode = getenv("LUNROOT_CHECK");

	if (mode && strcmp(mode, "long") == 0)
		return quick * 100;
	return mode && strcmp(mode, "full") == 0 ? quick * 10 : quick;
}

uint64_t now_ms(void)
{
	return clock_ms();
}

/* --- around each test --- */

int set_up(void **state)
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

int tear_down(void **state)
{
	char command[128];

	(void)state;
	if (t.disk)
		die();
	sim_done();
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", t.dir);
	return system(command);
}
