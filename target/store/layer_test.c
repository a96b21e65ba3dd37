/*
 * Layer files: their headers, sealing, and those that are refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "store/test_files.h"

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
						.snapshot = "before-upgrade",
						.created_s = 1234567890,
						.lun = 3,
					},
				found;
	char path[128];
	struct stat st;

	(void)state;
	store_uuid_generate(&info.uuid);
	store_uuid_generate(&info.parent_uuid);
	store_uuid_generate(&info.stands_for);
	store_uuid_generate(&info.node_uuid);
	store_uuid_generate(&info.lun_uuid);
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
				assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
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
		{offsetof(struct layer_header, version), LAYER_VERSION + 1, "newer"},
		{offsetof(struct layer_header, version), 1, "older"},
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

static void seal_keeps_the_snapshots_name(void **state)
{
	struct store_layer_info info;
	char long_name[100];

	(void)state;
	layer_add();
	memset(long_name, 'x', sizeof(long_name));
	long_name[LIMIT_OBJECT_NAME_BYTES + 1] = '\0';
	assert_int_equal(store_layer_seal(top_path(), long_name, &t.err), -EINVAL);
	long_name[LIMIT_OBJECT_NAME_BYTES] = '\0';
	assert_int_equal(store_layer_info(top_path(), &info, &t.err), 0);
	assert_false(info.sealed);
	assert_in_range(info.created_s, time(NULL) - 100, time(NULL));
	assert_int_equal(store_layer_seal(top_path(), "first", &t.err), 0);
	assert_int_equal(store_layer_info(top_path(), &info, &t.err), 0);
	assert_true(info.sealed);
	assert_string_equal(info.snapshot, "first");
	/* Another name, a longer one, none: also while somebody reads it. */
	layer_add();
	open_disk();
	assert_int_equal(store_layer_seal(t.layers[0], long_name, &t.err), 0);
	assert_int_equal(store_layer_info(t.layers[0], &info, &t.err), 0);
	assert_string_equal(info.snapshot, long_name);
	assert_int_equal(store_layer_seal(t.layers[0], "", &t.err), 0);
	assert_int_equal(store_layer_info(t.layers[0], &info, &t.err), 0);
	assert_string_equal(info.snapshot, "");
	assert_true(info.sealed);
	write_ok(0, B, 1);
	assert_int_equal(close_disk(), 0);
	open_disk();
	assert_reads_fill(0, B, 1);
}

/* One copy of the header may be of before: the power failed while it was sealed or renamed. */
static void header_of_two_states_is_the_newer_one(void **state)
{
	struct layer_header before, after, found;
	struct store_layer_info info;

	(void)state;
	layer_add();
	peek(top_path(), 0, &before, sizeof(before));
	assert_int_equal(store_layer_seal(top_path(), "s", &t.err), 0);
	peek(top_path(), 0, &after, sizeof(after));
	for (unsigned copy = 0; copy < LAYER_HEADER_COPIES; copy++) {
		patch(top_path(), copy * LAYER_HEADER_BYTES, &before, sizeof(before));
		assert_int_equal(store_layer_info(top_path(), &info, &t.err), 0);
		assert_true(info.sealed);
		/* Sealing again finishes what was begun. */
		assert_int_equal(store_layer_seal(top_path(), "s", &t.err), 0);
		peek(top_path(), copy * LAYER_HEADER_BYTES, &found, sizeof(found));
		assert_memory_equal(found.snapshot, after.snapshot, sizeof(found.snapshot));
	}
}

static void headers_that_contradict_each_other_are_refused(void **state)
{
	struct layer_header header, lie;

	(void)state;
	layer_add();
	peek(top_path(), 0, &header, sizeof(header));
	for (unsigned i = 0; i < 3; i++) {
		lie = header;
		if (i == 0)
			lie.label[0] ^= 1;
		if (i >= 1)
			lie.uuid[0] ^= 1;
		if (i == 2)
			le64_put(&lie.sequence, 9);
		le32_put(&lie.crc, crc32c(0, &lie, offsetof(struct layer_header, crc)));
		patch(top_path(), LAYER_HEADER_BYTES, &lie, sizeof(lie));
		assert_refused(-EBADMSG, "contradict");
	}
	patch(top_path(), LAYER_HEADER_BYTES, &header, sizeof(header));
	open_disk();
}

static void label_is_what_it_was_given_last(void **state)
{
	struct store_layer_info info;
	char longer[65];

	(void)state;
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	/* Not while a disk has it open. */
	assert_int_equal(store_layer_label(top_path(), t.run_dir, "x", &t.err), -EBUSY);
	assert_int_equal(close_disk(), 0);
	memset(longer, 'l', sizeof(longer) - 1);
	longer[64] = '\0';
	assert_int_equal(store_layer_label(top_path(), t.run_dir, longer, &t.err), -EINVAL);
	longer[63] = '\0';
	assert_int_equal(store_layer_label(top_path(), t.run_dir, longer, &t.err), 0);
	assert_int_equal(store_layer_label(top_path(), t.run_dir, "pi-2", &t.err), 0);
	assert_int_equal(store_layer_info(top_path(), &info, &t.err), 0);
	assert_string_equal(info.label, "pi-2");
	assert_false(info.sealed);
	open_disk();
	assert_reads_fill(0, B, 1);
}

/* Ends the process at the n-th thing that sealing changes; true: it did not get so far. */
static bool seal_until(uint64_t nth)
{
	jmp_buf end;
	volatile bool sealed = false;

	if (setjmp(end) == 0) {
		sim_end_at(nth, &end);
		sim_arm(true);
		assert_int_equal(store_layer_seal(top_path(), "s", &t.err), 0);
		sealed = true;
	}
	sim_arm(false);
	sim_end_at(0, NULL);
	sim_kill();
	sim_process_ends();
	return sealed;
}

/* More points, and calls that can fail, than sealing has. */
#define SEAL_POINTS 12
/* Which sectors a torn write leaves is chance. */
#define SEAL_ROUNDS 8

static void seal_twice(const uint8_t good[LAYER_MAP_OFFSET], unsigned damaged, uint64_t first,
		       uint64_t second, enum sim_loss loss)
{
	struct store_layer_info info;
	bool sealed;

	patch(top_path(), 0, good, LAYER_MAP_OFFSET);
	damage(top_path(), damaged * LAYER_HEADER_BYTES + 20);
	sim_forget();
	sealed = seal_until(first);
	sealed = seal_until(second) || sealed;
	sim_set_loss(loss);
	sim_power_loss(LAYER_MAP_OFFSET);
	if (store_layer_info(top_path(), &info, &t.err) < 0)
		fail_msg("copy %u, deaths at %u and %u: %s", damaged, (unsigned)first,
			 (unsigned)second, t.err.text);
	assert_true(info.sealed || !sealed);
}

/*
 * One copy of the header is damaged; who seals dies, which leaves the other one in the page cache
 * alone, perhaps; and the power fails when the next one seals.
 */
static void sealing_twice_keeps_a_copy_of_the_header(void **state)
{
	static const enum sim_loss losses[] = {SIM_LOSS_ALL, SIM_LOSS_TORN, SIM_LOSS_ANY};
	uint8_t good[LAYER_MAP_OFFSET];

	(void)state;
	layer_add();
	peek(top_path(), 0, good, sizeof(good));
	for (unsigned i = 0; i < LAYER_HEADER_COPIES * SEAL_POINTS * SEAL_POINTS; i++) {
		for (unsigned j = 0; j < SEAL_ROUNDS * ARRAY_COUNT(losses); j++)
			seal_twice(good, i % LAYER_HEADER_COPIES,
				   1 + i / LAYER_HEADER_COPIES % SEAL_POINTS,
				   1 + i / LAYER_HEADER_COPIES / SEAL_POINTS,
				   losses[j % ARRAY_COUNT(losses)]);
	}
	assert_true(seal_until(SEAL_POINTS));
}

/* The n-th call that sealing makes and that can fail with -EIO fails; true: it was a sync. */
static bool seal_fails_at(uint64_t nth)
{
	bool sync;
	int r;

	sim_arm(true);
	sim_fail_at(nth, EIO);
	r = store_layer_seal(top_path(), "s", &t.err);
	sync = sim_failed().happened && sim_failed().call == SIM_CALL_SYNC;
	sim_fail_at(0, 0);
	sim_arm(false);
	sim_process_ends();
	assert_true(!sync || r < 0);
	return sync;
}

/* The kernel takes what a sync failed to write for written. */
static void sealing_again_after_a_failed_sync_keeps_a_copy_of_the_header(void **state)
{
	static const enum sim_loss losses[] = {SIM_LOSS_TORN, SIM_LOSS_ALL};
	uint8_t good[LAYER_MAP_OFFSET];
	unsigned failed_syncs = 0;

	(void)state;
	layer_add();
	peek(top_path(), 0, good, sizeof(good));
	for (unsigned i = 0; i < 2 * SEAL_ROUNDS * SEAL_POINTS * SEAL_POINTS; i++) {
		enum sim_loss loss = losses[i / SEAL_POINTS / SEAL_POINTS % ARRAY_COUNT(losses)];
		struct store_layer_info info;
		bool sealed;

		patch(top_path(), 0, good, sizeof(good));
		sim_forget();
		failed_syncs += seal_fails_at(1 + i % SEAL_POINTS);
		sealed = seal_until(1 + i / SEAL_POINTS % SEAL_POINTS);
		sim_set_loss(loss);
		sim_power_loss(LAYER_MAP_OFFSET);
		if (store_layer_info(top_path(), &info, &t.err) < 0)
			fail_msg("try %u: %s", i, t.err.text);
		assert_true(info.sealed || !sealed);
	}
	assert_true(failed_syncs > SEAL_ROUNDS * SEAL_POINTS);
}

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
		TEST(seal_keeps_the_snapshots_name),
		TEST(label_is_what_it_was_given_last),
		TEST(header_of_two_states_is_the_newer_one),
		TEST(headers_that_contradict_each_other_are_refused),
		TEST(sealing_twice_keeps_a_copy_of_the_header),
		TEST(sealing_again_after_a_failed_sync_keeps_a_copy_of_the_header),
	};

	log_init("layer_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
