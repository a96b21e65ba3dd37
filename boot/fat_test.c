/*
 * FAT file systems as they should be, and as they should not be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "boot/blob.h"
#include "boot/disk.h"
#include "boot/fat.h"
#include "boot/test_fat.h"

struct opened {
	struct disk *disk;
	struct tree *tree;
};

static struct opened open_good(const struct test_fat *fat)
{
	struct opened opened = {.disk = test_disk(fat->data, fat->bytes)};
	struct boot_error error = {""};
	int res = fat_tree(opened.disk, 0, fat->bytes, &opened.tree, &error);

	if (res)
		fail_msg("%s", error.text);
	return opened;
}

static void close_all(struct opened *opened)
{
	tree_free(opened->tree);
	disk_free(opened->disk);
}

static void assert_file(const struct opened *opened, const char *path, const void *data,
			size_t bytes)
{
	const struct tree_file *file = tree_find(opened->tree, path);
	struct blob *blob;
	const void *got = "";
	size_t got_bytes = 0;

	assert_non_null(file);
	assert_int_equal(file->bytes, bytes);
	assert_int_equal(tree_read(opened->tree, file, 1 << 30, &blob), 0);
	blob_pieces(blob, &got, &got_bytes, 1);
	assert_int_equal(got_bytes, bytes);
	assert_memory_equal(got, data, bytes);
	blob_unref(blob);
}

static int read_result(const struct opened *opened, const char *path)
{
	const struct tree_file *file = tree_find(opened->tree, path);
	struct blob *blob = NULL;
	int res;

	assert_non_null(file);
	res = tree_read(opened->tree, file, 1 << 20, &blob);
	blob_unref(blob);
	return res;
}

static int open_result(struct test_fat *fat, uint64_t bytes)
{
	struct disk *disk = test_disk(fat->data, fat->bytes);
	struct boot_error error = {""};
	struct tree *tree = NULL;
	int res = fat_tree(disk, 0, bytes, &tree, &error);

	assert_true(res == 0 || *error.text);
	tree_free(tree);
	disk_free(disk);
	return res;
}

static const struct {
	unsigned bits;
	uint32_t cluster_bytes, clusters;
} kinds[] = {{12, 512, 200},   {12, 4096, 300}, {12, 512, 4084},  {16, 512, 4085},
	     {16, 2048, 5000}, {32, 512, 2000}, {32, 512, 70000}, {32, 65536, 40}};

static void every_kind_gives_the_same_files(void **state)
{
	static uint8_t data[70000];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i >> 3);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (unsigned gap = 0; gap < 2; gap++) {
			struct test_fat fat;
			struct opened opened;
			size_t large = (size_t)kinds[i].clusters * kinds[i].cluster_bytes / 4;

			if (large > sizeof(data))
				large = sizeof(data);
			test_fat_init(&fat, kinds[i].bits, kinds[i].cluster_bytes,
				      kinds[i].clusters);
			fat.gap = gap;
			test_fat_put_text(&fat, "CONFIG.TXT", "arm_64bit=1\n");
			test_fat_put(&fat, "kernel8.img", data, large);
			test_fat_put(&fat, "EMPTY", "", 0);
			test_fat_put(&fat, "EXACT.BIN", data, kinds[i].cluster_bytes);
			test_fat_put(&fat, "overlays/A rather long name (of 40 bytes).dtbo", data,
				     700);
			test_fat_put_text(&fat, "overlays/deeper/and-deeper/last.txt", "x");
			opened = open_good(&fat);
			assert_int_equal(tree_count(opened.tree), 6);
			assert_file(&opened, "config.txt", "arm_64bit=1\n", 12);
			assert_file(&opened, "KERNEL8.IMG", data, large);
			assert_file(&opened, "empty", "", 0);
			assert_file(&opened, "exact.bin", data, kinds[i].cluster_bytes);
			assert_file(&opened, "overlays/a RATHER long name (of 40 bytes).dtbo", data,
				    700);
			assert_file(&opened, "overlays/deeper/and-deeper/last.txt", "x", 1);
			assert_null(tree_find(opened.tree, "overlays"));
			assert_null(tree_find(opened.tree, "config.txt/"));
			close_all(&opened);
			test_fat_done(&fat);
		}
	}
}

static void folder_of_many_clusters(void **state)
{
	struct test_fat fat;
	struct opened opened;
	char path[64], text[16];

	(void)state;
	test_fat_init(&fat, 32, 512, 4000);
	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(path, sizeof(path), "overlays/overlay-with-number-%u.dtbo", i);
		(void)snprintf(text, sizeof(text), "%u", i);
		test_fat_put_text(&fat, path, text);
	}
	opened = open_good(&fat);
	assert_int_equal(tree_count(opened.tree), 300);
	assert_file(&opened, "overlays/overlay-with-number-299.dtbo", "299", 3);
	close_all(&opened);
	test_fat_done(&fat);
}

static void names_that_are_special(void **state)
{
	struct test_fat fat;
	struct opened opened;
	uint8_t *entry;

	(void)state;
	test_fat_init(&fat, 16, 512, 5000);
	test_fat_put_text(&fat, "LOWER.DAT", "1");
	test_fat_entry(&fat, "LOWER.DAT")[12] = 0x18;
	test_fat_put_text(&fat, "\xc3\xbc.txt", "2");
	test_fat_put_text(&fat, "LABEL", "");
	test_fat_entry(&fat, "LABEL")[11] = 0x08;
	test_fat_put_text(&fat, "GONE.TXT", "3");
	test_fat_entry(&fat, "GONE.TXT")[0] = 0xe5;
	/* A code page's letter: nobody knows which. */
	test_fat_put_text(&fat, "XX.TXT", "4");
	test_fat_entry(&fat, "XX.TXT")[0] = 0x81;
	/* A long name that belongs to another short one. */
	test_fat_put_text(&fat, "orphaned-name.txt", "5");
	entry = test_fat_entry(&fat, "orphaned-name.txt");
	memcpy(entry, "OTHER   TXT", 11);
	test_fat_put_text(&fat, "a/../evil.txt", "6");
	test_fat_put_text(&fat, "back\\slash.txt", "7");
	test_fat_put_text(&fat, "new\nline.txt", "8");
	test_fat_put_text(&fat, "LAST.TXT", "9");
	opened = open_good(&fat);
	assert_file(&opened, "lower.dat", "1", 1);
	assert_string_equal(tree_find(opened.tree, "LOWER.DAT")->path, "lower.dat");
	assert_file(&opened, "\xc3\xbc.txt", "2", 1);
	assert_file(&opened, "other.txt", "5", 1);
	assert_file(&opened, "last.txt", "9", 1);
	assert_int_equal(tree_count(opened.tree), 4);
	close_all(&opened);
	test_fat_done(&fat);
}

static void file_chain_is_cut_or_circular(void **state)
{
	struct test_fat fat;
	struct opened opened;
	uint8_t data[2000] = {1};
	uint32_t first;

	(void)state;
	test_fat_init(&fat, 16, 512, 5000);
	test_fat_put(&fat, "CUT.BIN", data, sizeof(data));
	first = test_fat_first(test_fat_entry(&fat, "CUT.BIN"));
	test_fat_link(&fat, first, 0xffff);
	test_fat_put(&fat, "FREE.BIN", data, sizeof(data));
	test_fat_link(&fat, test_fat_first(test_fat_entry(&fat, "FREE.BIN")), 0);
	test_fat_put(&fat, "BEYOND.BIN", data, sizeof(data));
	test_fat_link(&fat, test_fat_first(test_fat_entry(&fat, "BEYOND.BIN")), 5002);
	test_fat_put(&fat, "ROUND.BIN", data, sizeof(data));
	first = test_fat_first(test_fat_entry(&fat, "ROUND.BIN"));
	test_fat_link(&fat, first, first);
	test_fat_put(&fat, "NOWHERE.BIN", data, sizeof(data));
	memset(test_fat_entry(&fat, "NOWHERE.BIN") + 26, 0, 2);
	test_fat_put(&fat, "HUGE.BIN", data, sizeof(data));
	memset(test_fat_entry(&fat, "HUGE.BIN") + 28, 0xff, 4);
	opened = open_good(&fat);
	assert_int_equal(read_result(&opened, "cut.bin"), -EUCLEAN);
	assert_int_equal(read_result(&opened, "free.bin"), -EUCLEAN);
	assert_int_equal(read_result(&opened, "beyond.bin"), -EUCLEAN);
	assert_int_equal(read_result(&opened, "round.bin"), 0);
	assert_int_equal(read_result(&opened, "nowhere.bin"), -EUCLEAN);
	assert_int_equal(read_result(&opened, "huge.bin"), -EFBIG);
	close_all(&opened);
	test_fat_done(&fat);
}

static void folder_chain_is_circular(void **state)
{
	struct test_fat fat;
	uint32_t folder;
	uint8_t *entry;

	(void)state;
	/* A full cluster without an end mark that is its own successor: entries without end. */
	test_fat_init(&fat, 32, 512, 2000);
	test_fat_put_text(&fat, "DIR/A", "1");
	folder = test_fat_first(test_fat_entry(&fat, "DIR"));
	for (unsigned i = 3; i < 16; i++)
		memcpy(test_fat_cluster(&fat, folder) + (size_t)i * 32,
		       test_fat_cluster(&fat, folder) + 64, 32);
	test_fat_link(&fat, folder, folder);
	assert_int_equal(open_result(&fat, fat.bytes), -E2BIG);
	test_fat_done(&fat);

	/* A folder within itself, by another name than "..". */
	test_fat_init(&fat, 32, 512, 2000);
	test_fat_put_text(&fat, "DIR/SUB/A", "1");
	entry = test_fat_entry(&fat, "DIR/SUB");
	folder = test_fat_first(test_fat_entry(&fat, "DIR"));
	entry[26] = (uint8_t)folder;
	entry[27] = (uint8_t)(folder >> 8);
	assert_int_equal(open_result(&fat, fat.bytes), 0);
	test_fat_done(&fat);
}

static void damaged_folder_leaves_the_others(void **state)
{
	struct test_fat fat;
	struct opened opened;
	uint8_t *entry;

	(void)state;
	test_fat_init(&fat, 16, 512, 5000);
	test_fat_put_text(&fat, "BAD/A", "1");
	test_fat_put_text(&fat, "GOOD/B", "2");
	entry = test_fat_entry(&fat, "BAD");
	entry[26] = 0xf0;
	entry[27] = 0xff;
	opened = open_good(&fat);
	assert_int_equal(tree_count(opened.tree), 1);
	assert_file(&opened, "good/b", "2", 1);
	close_all(&opened);
	test_fat_done(&fat);
}

static void too_deep_is_left_out(void **state)
{
	struct test_fat fat;
	struct opened opened;
	char path[128] = "";

	(void)state;
	test_fat_init(&fat, 16, 512, 5000);
	for (unsigned i = 0; i < 15; i++)
		strcat(path, "D/");
	strcat(path, "LAST");
	test_fat_put_text(&fat, path, "1");
	test_fat_put_text(&fat, "D/D/D/D/D/D/D/D/D/D/D/D/D/D/D/D/D/D/D/TOO", "2");
	opened = open_good(&fat);
	assert_int_equal(tree_count(opened.tree), 1);
	assert_file(&opened, path, "1", 1);
	close_all(&opened);
	test_fat_done(&fat);
}

static void boot_sector_makes_no_sense(void **state)
{
	static const struct {
		unsigned place;
		uint8_t value;
	} faults[] = {{11, 1}, {12, 0},  {12, 32}, {13, 0},    {13, 3},    {14, 0},
		      {16, 0}, {510, 0}, {22, 0},  {33, 0xff}, {35, 0xff}, {16, 255}};

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct test_fat fat;

		test_fat_init(&fat, 16, 512, 5000);
		test_fat_put_text(&fat, "CONFIG.TXT", "x");
		fat.data[faults[i].place] = faults[i].value;
		if (faults[i].place == 22)
			memset(fat.data + 22, 0, 2);
		if (faults[i].place == 14)
			memset(fat.data + 14, 0, 2);
		if (open_result(&fat, fat.bytes) != -EUCLEAN)
			fail_msg("byte %u as %u is accepted", faults[i].place, faults[i].value);
		test_fat_done(&fat);
	}
}

static void volume_is_smaller_than_it_says(void **state)
{
	struct test_fat fat;

	(void)state;
	test_fat_init(&fat, 32, 512, 2000);
	assert_int_equal(open_result(&fat, fat.bytes - 512), -EUCLEAN);
	assert_int_equal(open_result(&fat, 100), -EUCLEAN);
	assert_int_equal(open_result(&fat, 0), -EUCLEAN);
	assert_int_equal(open_result(&fat, fat.bytes), 0);
	test_fat_done(&fat);
}

static void table_is_shorter_than_the_clusters(void **state)
{
	struct test_fat fat;
	struct opened opened;

	(void)state;
	/* One sector of table has 126 clusters: the rest does not exist. */
	test_fat_init(&fat, 32, 512, 2000);
	test_fat_put_text(&fat, "A", "1");
	test_fat_put_text(&fat, "B", "2");
	test_fat_entry(&fat, "B")[26] = 200;
	fat.data[36] = 1;
	memset(fat.data + 37, 0, 3);
	/* The data area moves forward with it: the root folder is empty there. */
	opened = open_good(&fat);
	close_all(&opened);
	test_fat_done(&fat);
}

static void second_table_is_the_active_one(void **state)
{
	struct test_fat fat;
	struct opened opened;
	uint8_t data[1500];

	(void)state;
	memset(data, 7, sizeof(data));
	test_fat_init(&fat, 32, 512, 2000);
	test_fat_put(&fat, "A.BIN", data, sizeof(data));
	memcpy(fat.data + fat.table_offset + fat.table_bytes, fat.data + fat.table_offset,
	       fat.table_bytes);
	memset(fat.data + fat.table_offset, 0, fat.table_bytes);
	fat.data[40] = 0x81;
	opened = open_good(&fat);
	assert_file(&opened, "a.bin", data, sizeof(data));
	close_all(&opened);
	test_fat_done(&fat);
}

/* --- the disk beneath --- */

static int failing_read(void *arg, void *to, size_t bytes, uint64_t offset)
{
	unsigned *left = arg;

	(void)offset;
	memset(to, 0, bytes);
	return (*left)-- == 0 ? -ETIMEDOUT : 0;
}

static void disk_is_read_once_and_within(void **state)
{
	static uint8_t data[300001];
	struct disk *disk;
	uint8_t out[100001];

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i % 251);
	disk = test_disk(data, sizeof(data));
	for (size_t offset = 0; offset + 7 < sizeof(data); offset += 4999) {
		size_t bytes = offset % 90000 + 1;

		if (bytes > sizeof(data) - offset)
			bytes = sizeof(data) - offset;
		assert_int_equal(disk_read(disk, out, bytes, offset), 0);
		assert_memory_equal(out, data + offset, bytes);
	}
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(disk_read(disk, out, 10, 5), 0);
	assert_int_equal(disk_read(disk, out, 1, sizeof(data)), -EIO);
	assert_int_equal(disk_read(disk, out, 2, sizeof(data) - 1), -EIO);
	assert_int_equal(disk_read(disk, out, 1, UINT64_MAX), -EIO);
	assert_int_equal(disk_read(disk, out, 0, sizeof(data)), 0);
	assert_true(disk_counts(disk).reads < 200);
	disk_free(disk);
}

static void disk_that_fails_is_no_stale_data(void **state)
{
	static const struct disk_ops ops = {failing_read, NULL};
	unsigned left = 0;
	struct disk *disk = disk_new(&ops, &left, 1 << 20);
	struct boot_error error = {""};
	struct tree *tree;
	uint8_t out[16];

	(void)state;
	assert_int_equal(disk_read(disk, out, sizeof(out), 0), -ETIMEDOUT);
	left = 0;
	assert_int_equal(disk_read(disk, out, sizeof(out), 0), -ETIMEDOUT);
	left = 0;
	assert_int_equal(fat_tree(disk, 0, 1 << 20, &tree, &error), -ETIMEDOUT);
	assert_non_null(strstr(error.text, "timed out"));
	left = 5;
	assert_int_equal(disk_read(disk, out, sizeof(out), 0), 0);
	disk_free(disk);
}

static void disk_of_a_file(void **state)
{
	struct disk *disk = NULL;

	(void)state;
	assert_int_equal(disk_open_file("/nonexistent", &disk), -ENOENT);
	assert_int_equal(disk_open_file("/", &disk), -EISDIR);
	assert_int_equal(disk_open_file("/dev/null", &disk), -ENODEV);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_gives_the_same_files),
		cmocka_unit_test(folder_of_many_clusters),
		cmocka_unit_test(names_that_are_special),
		cmocka_unit_test(file_chain_is_cut_or_circular),
		cmocka_unit_test(folder_chain_is_circular),
		cmocka_unit_test(damaged_folder_leaves_the_others),
		cmocka_unit_test(too_deep_is_left_out),
		cmocka_unit_test(boot_sector_makes_no_sense),
		cmocka_unit_test(volume_is_smaller_than_it_says),
		cmocka_unit_test(table_is_shorter_than_the_clusters),
		cmocka_unit_test(second_table_is_the_active_one),
		cmocka_unit_test(disk_is_read_once_and_within),
		cmocka_unit_test(disk_that_fails_is_no_stale_data),
		cmocka_unit_test(disk_of_a_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
