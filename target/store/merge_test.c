/*
 * Merging and copying chains, against a plain array.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "store/test_files.h"

/* Blocks that the model covers, from `base` on; nothing is ever written elsewhere. */
#define MODEL_BLOCKS 64u

#define MODEL_BYTES (MODEL_BLOCKS * (size_t)B)

static struct {
	uint64_t base; /* bytes */
	uint8_t data[MODEL_BYTES];
} model;

/* Between 20 blocks and all of the model, seldom whole blocks. */
static uint64_t random_size(void)
{
	uint64_t bytes = (20 + sim_below(MODEL_BLOCKS - 20)) * (uint64_t)B;

	return model.base + bytes + (sim_below(3) ? sim_below(8) * S : 0);
}

/* What lies beyond the end of a layer is hidden for good. */
static void model_cut(uint64_t size_bytes)
{
	uint64_t end = size_bytes - model.base;

	memset(model.data + end, 0, MODEL_BYTES - end);
}

static void random_image(void)
{
	uint64_t size_bytes = random_size();
	int AUTO_CLOSE fd = -1;

	(void)snprintf(t.image, sizeof(t.image), "%s/base.img", t.dir);
	(void)unlink(t.image);
	fd = open(t.image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size_bytes), 0);
	for (unsigned i = 0; i < 12; i++) {
		uint64_t at = sim_below(size_bytes - model.base) / S * S;

		fill(model.data + at, S, (uint8_t)sim_random());
		assert_int_equal(pwrite(fd, model.data + at, S, (off_t)(model.base + at)), S);
	}
	store_uuid_generate(&t.image_uuid);
	assert_int_equal(store_image_seal(t.image, &t.image_uuid, "", NULL, NULL,
					  &(struct store_image_info){.size_bytes = 0}, &t.err),
			 0);
	t.image_bytes = size_bytes;
	t.with_image = true;
}

static void random_changes(uint64_t size_bytes)
{
	for (uint64_t i = sim_below(30); i > 0; i--) {
		uint64_t at = sim_below(size_bytes - model.base) / S * S;
		uint64_t bytes = (1 + sim_below(sim_below(4) ? 30 : 5 * 8)) * S;

		if (bytes > size_bytes - model.base - at)
			bytes = size_bytes - model.base - at;
		switch (sim_below(4)) {
		case 0:
			discard_ok(model.base + at, bytes);
			memset(model.data + at, 0, bytes);
			break;
		case 1: /* zeros that are data */
			memset(model.data + at, 0, bytes);
			assert_int_equal(
				do_io(STORE_WRITE, model.base + at, bytes, model.data + at), 0);
			break;
		default:
			fill(model.data + at, bytes, (uint8_t)sim_random());
			assert_int_equal(
				do_io(STORE_WRITE, model.base + at, bytes, model.data + at), 0);
			break;
		}
	}
}

/* A chain of sealed layers; `shrinking`: some of them smaller than what they stand on. */
static void random_chain(bool with_image, bool shrinking)
{
	uint64_t size_bytes = model.base + 20 * (uint64_t)B;
	unsigned count = 2 + (unsigned)sim_below(LAYERS_MAX - 1);
	char name[32];

	memset(model.data, 0, sizeof(model.data));
	t.layer_count = 0;
	t.with_image = false;
	if (with_image)
		random_image();
	for (unsigned i = 0; i < count; i++) {
		uint64_t next = random_size();

		if (i == 0 || shrinking || next > size_bytes)
			size_bytes = next;
		layer_add_sized(size_bytes);
		model_cut(size_bytes);
		open_disk();
		random_changes(size_bytes);
		assert_int_equal(close_disk(), 0);
		sim_forget();
		(void)snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(store_layer_seal(top_path(), i % 2 ? "" : name, &t.err), 0);
	}
}

static void assert_agrees_with_model(void)
{
	t.read_only = true;
	open_disk();
	assert_reads(model.base, t.disk->size_bytes - model.base, model.data);
	if (model.base)
		assert_reads_zeros(model.base - B, B);
	assert_int_equal(close_disk(), 0);
	t.read_only = false;
}

static void chain_unlink(void)
{
	for (unsigned i = 0; i < t.layer_count; i++)
		assert_int_equal(unlink(t.layers[i]), 0);
}

/* The chain's layers from `first` up to before `end` become one. */
static void merge_and_compare(unsigned first, unsigned end, bool with_image)
{
	struct store_chain chain = chain_of(end);
	struct store_layer_info low, high, merged;
	atomic_ullong done = 1, total = 2;
	const struct store_work work = {.done_bytes = &done, .total_bytes = &total};
	char path[sizeof(t.layers[0])];
	store_uuid_t uuid;

	(void)snprintf(path, sizeof(path), "%s/merged.cow", t.dir);
	(void)unlink(path);
	store_uuid_generate(&uuid);
	assert_int_equal(store_layer_info(t.layers[first], &low, &t.err), 0);
	assert_int_equal(store_layer_info(t.layers[end - 1], &high, &t.err), 0);
	if (store_merge(&chain, first, with_image, &uuid, path, &work, &t.err) < 0)
		fail_msg("%s", t.err.text);
	assert_int_equal(done, total);
	assert_int_equal(store_layer_info(path, &merged, &t.err), 0);
	assert_memory_equal(merged.uuid.b, uuid.b, 16);
	assert_true(store_layer_is_parent(&merged, store_layer_identity(&high)));
	assert_true(merged.sealed);
	assert_string_equal(merged.snapshot, high.snapshot);
	assert_string_equal(merged.label, high.label);
	assert_int_equal(merged.created_s, high.created_s);
	assert_int_equal(merged.size_bytes, high.size_bytes);
	assert_int_equal(merged.parent_kind, with_image ? STORE_PARENT_NONE : low.parent_kind);
	assert_int_equal(merged.parent_size_bytes, with_image ? 0 : low.parent_size_bytes);
	for (unsigned i = first; i < end; i++)
		assert_int_equal(unlink(t.layers[i]), 0);
	assert_int_equal(rename(path, t.layers[first]), 0);
	memmove(t.layers + first + 1, t.layers + end, (t.layer_count - end) * sizeof(t.layers[0]));
	t.layer_count -= end - first - 1;
	if (with_image)
		t.with_image = false;
	assert_agrees_with_model();
}

static void merge_agrees_with_a_plain_array(void **state)
{
	unsigned rounds = rounds_by_mode(300);

	(void)state;
	for (unsigned i = 0; i < rounds; i++) {
		bool with_image = sim_below(3) > 0;
		unsigned first, end;

		/* At the beginning, and over the border of two map pages. */
		model.base = i % 2 ? (MAP_PAGE_BLOCKS - 40) * (uint64_t)B : 0;
		random_chain(with_image, i % 3 == 0);
		assert_agrees_with_model();
		/* Twice: also what was merged before. */
		while (t.layer_count > 1) {
			first = (unsigned)sim_below(t.layer_count);
			end = first + 1 + (unsigned)sim_below(t.layer_count - first);
			merge_and_compare(first, end, first == 0 && sim_below(3) == 0);
		}
		if (sim_below(2))
			merge_and_compare(0, 1, true);
		chain_unlink();
	}
}

static uint64_t data_blocks(const uint8_t *data, size_t bytes)
{
	uint64_t count = 0;

	for (size_t at = 0; at < bytes; at += B)
		count += !all_zero(data + at, bytes - at < B ? bytes - at : B);
	return count;
}

static void copy_agrees_with_a_plain_array(void **state)
{
	static uint8_t data[MODEL_BYTES];
	unsigned rounds = rounds_by_mode(100);
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/copy.img", t.dir);
	for (unsigned i = 0; i < rounds; i++) {
		atomic_ullong done = 1, total = 2;
		const struct store_work work = {.done_bytes = &done, .total_bytes = &total};
		int AUTO_CLOSE fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		struct store_chain chain;
		struct stat st;
		int pipes[2];
		size_t bytes;

		model.base = i % 2 ? (MAP_PAGE_BLOCKS - 40) * (uint64_t)B : 0;
		random_chain(sim_below(3) > 0, i % 3 == 0);
		chain = chain_of(t.layer_count);
		/* What was in the file before must not show through. */
		memset(data, 0xee, sizeof(data));
		assert_int_equal(pwrite(fd, data, MODEL_BYTES, (off_t)model.base), MODEL_BYTES);
		assert_int_equal(store_copy(&chain, fd, &work, &t.err), 0);
		assert_int_equal(done, total);
		assert_int_equal(fstat(fd, &st), 0);
		bytes = (size_t)st.st_size - model.base;
		assert_int_equal(pread(fd, data, sizeof(data), (off_t)model.base), bytes);
		assert_memory_equal(data, model.data, bytes);
		assert_int_equal(st.st_blocks * 512, data_blocks(data, bytes) * B);
		if (model.base == 0) {
			assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
			assert_true(fcntl(pipes[1], F_SETPIPE_SZ, 2 * MODEL_BYTES) > 0);
			assert_int_equal(store_copy(&chain, pipes[1], &work, &t.err), 0);
			assert_int_equal(done, bytes);
			close(pipes[1]);
			for (size_t at = 0; at < bytes;) {
				ssize_t n = read(pipes[0], data + at, sizeof(data) - at);

				assert_true(n > 0);
				at += (size_t)n;
			}
			assert_memory_equal(data, model.data, bytes);
			assert_int_equal(read(pipes[0], data, 1), 0);
			close(pipes[0]);
		}
		chain_unlink();
	}
}

static void work_is_throttled_and_cancelled(void **state)
{
	struct store_chain chain = two_layers();
	atomic_ullong done, total;
	atomic_bool cancelled = false;
	struct store_work work = {.done_bytes = &done,
				  .total_bytes = &total,
				  .cancelled = &cancelled,
				  .bytes_per_s = 4 * SIZE};
	int AUTO_CLOSE out = -1;
	uint64_t began = now_ms();
	store_uuid_t uuid;
	char path[128];
	int pipes[2];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/merged.cow", t.dir);
	store_uuid_generate(&uuid);
	assert_int_equal(store_merge(&chain, 0, false, &uuid, path, &work, &t.err), 0);
	assert_in_range(now_ms() - began, 150, 3000);
	assert_int_equal(total, SIZE + SIZE / 2);
	/* It is there, so another one does not take its place. */
	assert_int_equal(store_merge(&chain, 0, false, &uuid, path, &work, &t.err), -EEXIST);
	assert_int_equal(unlink(path), 0);
	cancelled = true;
	began = now_ms();
	work.bytes_per_s = 1;
	assert_int_equal(store_merge(&chain, 0, false, &uuid, path, &work, &t.err), -ECANCELED);
	assert_int_not_equal(access(path, F_OK), 0);
	(void)snprintf(path, sizeof(path), "%s/copy.img", t.dir);
	out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(store_copy(&chain, out, &work, &t.err), -ECANCELED);
	/* A reader that does not read holds nobody. */
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	work.bytes_per_s = 0;
	assert_int_equal(store_copy(&chain, pipes[1], &work, &t.err), -ECANCELED);
	assert_in_range(now_ms() - began, 0, 3000);
	close(pipes[0]);
	close(pipes[1]);
}

static void merge_refuses_what_it_must_not_touch(void **state)
{
	struct store_chain chain = two_layers();
	store_uuid_t uuid;
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/merged.cow", t.dir);
	store_uuid_generate(&uuid);
	assert_int_equal(store_merge(&chain, 2, false, &uuid, path, NULL, &t.err), -EINVAL);
	assert_int_equal(store_merge(&chain, 1, true, &uuid, path, NULL, &t.err), -EINVAL);
	layer_add_sized(2 * SIZE);
	chain = chain_of(3);
	assert_int_equal(store_merge(&chain, 1, false, &uuid, path, NULL, &t.err), -EINVAL);
	assert_non_null(strstr(t.err.text, "not sealed"));
	assert_int_not_equal(access(path, F_OK), 0);
	/* A damaged one is not carried over into a good one. */
	damage(t.layers[0], sector_offset(0, 0) + 100);
	chain = chain_of(2);
	assert_int_equal(store_merge(&chain, 0, false, &uuid, path, NULL, &t.err), -EBADMSG);
	assert_non_null(strstr(t.err.text, t.layers[0]));
	assert_int_not_equal(access(path, F_OK), 0);
}

/* The node runs on: its chain is open while lower layers of it are merged. */
static void merge_leaves_readers_alone(void **state)
{
	struct store_chain chain = two_layers();
	store_uuid_t uuid;
	char path[128];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/merged.cow", t.dir);
	store_uuid_generate(&uuid);
	layer_add_sized(2 * SIZE);
	open_disk();
	write_ok(SIZE, B, 7);
	assert_int_equal(store_merge(&chain, 0, true, &uuid, path, NULL, &t.err), 0);
	assert_reads_fill(0, SIZE / 2, 1);
	assert_reads_fill(SIZE, B, 7);
	assert_int_equal(close_disk(), 0);
	/* The child names the old one, and takes the new one. */
	assert_int_equal(rename(path, t.layers[0]), 0);
	memcpy(t.layers[1], t.layers[2], sizeof(t.layers[1]));
	t.layer_uuids[1] = t.layer_uuids[2];
	t.layer_count = 2;
	t.with_image = false;
	open_disk();
	assert_reads_fill(0, SIZE / 2, 1);
	assert_reads_fill(SIZE / 2, SIZE / 2, 2);
	assert_reads_fill(SIZE, B, 7);
	assert_reads_zeros(2 * SIZE - 100 * B, 100 * B);
}

/* Nothing is beneath, so what was discarded needs no bit; with a parent it does. */
static void merge_owns_no_zeros_over_nothing(void **state)
{
	struct store_chain chain = two_layers();
	store_uuid_t uuid;

	(void)state;
	for (unsigned with_image = 0; with_image < 2; with_image++) {
		struct store_layer_info info;

		(void)snprintf(t.layers[2], sizeof(t.layers[2]), "%s/m%u.cow", t.dir, with_image);
		store_uuid_generate(&uuid);
		assert_int_equal(
			store_merge(&chain, 0, with_image, &uuid, t.layers[2], NULL, &t.err), 0);
		assert_int_equal(store_layer_info(t.layers[2], &info, &t.err), 0);
		t.read_only = true;
		t.with_image = !with_image;
		memcpy(t.layers[0], t.layers[2], sizeof(t.layers[0]));
		t.layer_count = 1;
		open_disk();
		/* The image ends before what was discarded. */
		assert_int_equal(get_stats().owned_blocks, 3 * BLOCKS / 2);
		assert_reads_zeros(2 * SIZE - 100 * B, 100 * B);
		assert_int_equal(close_disk(), 0);
		(void)snprintf(t.layers[0], sizeof(t.layers[0]), "%s/layer0.cow", t.dir);
	}
}

static void merge_keeps_zeros_over_a_parent(void **state)
{
	struct store_chain chain;
	store_uuid_t uuid;
	char path[128];

	(void)state;
	image_add();
	for (unsigned i = 0; i < 2; i++) {
		layer_add();
		open_disk();
		discard_ok(i * 4 * B, 3 * B);
		assert_int_equal(close_disk(), 0);
		assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	}
	chain = chain_of(2);
	(void)snprintf(path, sizeof(path), "%s/merged.cow", t.dir);
	store_uuid_generate(&uuid);
	assert_int_equal(store_merge(&chain, 0, false, &uuid, path, NULL, &t.err), 0);
	assert_int_equal(rename(path, t.layers[0]), 0);
	t.layer_count = 1;
	t.read_only = true;
	open_disk();
	assert_int_equal(get_stats().owned_blocks, 6);
	assert_reads_zeros(0, 3 * B);
	assert_reads_image(3);
	assert_reads_zeros(4 * B, 3 * B);
	assert_reads_image(7);
}

/* A block of the parent, of which a merged layer shows the beginning and hides the end. */
static void merge_keeps_the_end_of_a_layer_within_a_block(void **state)
{
	struct store_chain chain;
	store_uuid_t uuid;
	uint8_t expected[B];
	char path[128];

	(void)state;
	image_add();
	layer_add_sized(64 * B + S);
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	layer_add();
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
	chain = chain_of(2);
	(void)snprintf(path, sizeof(path), "%s/merged.cow", t.dir);
	store_uuid_generate(&uuid);
	assert_int_equal(store_merge(&chain, 0, false, &uuid, path, NULL, &t.err), 0);
	assert_int_equal(rename(path, t.layers[0]), 0);
	t.layer_count = 1;
	t.read_only = true;
	open_disk();
	image_block(64, expected);
	memset(expected + S, 0, B - S);
	assert_reads(64 * B, B, expected);
	assert_reads_image(31);
	assert_int_equal(get_stats().owned_blocks, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(merge_agrees_with_a_plain_array),
		TEST(merge_refuses_what_it_must_not_touch),
		TEST(merge_leaves_readers_alone),
		TEST(merge_owns_no_zeros_over_nothing),
		TEST(merge_keeps_zeros_over_a_parent),
		TEST(merge_keeps_the_end_of_a_layer_within_a_block),
		TEST(copy_agrees_with_a_plain_array),
		TEST(work_is_throttled_and_cancelled),
	};

	log_init("merge_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
