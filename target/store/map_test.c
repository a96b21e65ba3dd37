/*
 * The block map: which live maps are believed, and what pages of the durable map say when they are
 * torn or damaged.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "store/test_files.h"

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

/* Over what is there, so that it stays the same file for all that stat() says. */
static void copy_over(const char *from, const char *to)
{
	char command[400];

	(void)snprintf(command, sizeof(command), "cp --sparse=always '%s' '%s'", from, to);
	assert_int_equal(system(command), 0);
}

/* As the message advises, after the end of a process and damage, and before any repair. */
static void live_map_is_not_used_for_a_backup_that_is_copied_over(void **state)
{
	char backup[160];

	(void)state;
	image_add();
	layer_add();
	(void)snprintf(backup, sizeof(backup), "%.128s.bak", top_path());
	open_disk();
	write_ok(0, B, 1);
	assert_int_equal(close_disk(), 0);
	copy_over(top_path(), backup);
	open_disk();
	write_ok(B, B, 2);
	flush_ok();
	write_ok(2 * B, B, 3);
	die();
	damage(top_path(), map_slot_offset(0, slots_read().newer) + 100);
	assert_refused(-EBADMSG, "restore it from a backup");
	assert_true(live_exists());
	copy_over(backup, top_path());
	/* For a reader, too, who must leave the live map as it is. */
	t.read_only = true;
	for (unsigned i = 0; i < 4; i++) {
		open_disk();
		assert_reads_fill(0, B, 1);
		assert_reads_image(1);
		assert_reads_image(2);
		if (i == 0)
			assert_true(live_exists());
		assert_int_equal(close_disk(), 0);
		t.read_only = false;
	}
	assert_int_equal(unlink(backup), 0);
}

/* Nor when there was no live map before the opening that found the damage. */
static void opening_that_is_refused_leaves_no_live_map(void **state)
{
	char backup[160];

	(void)state;
	image_add();
	layer_add_sized(2 * MAP_PAGE_BLOCKS * (uint64_t)B);
	(void)snprintf(backup, sizeof(backup), "%.128s.bak", top_path());
	open_disk();
	write_ok(MAP_PAGE_BLOCKS * (uint64_t)B, B, 1);
	assert_int_equal(close_disk(), 0);
	copy_over(top_path(), backup);
	open_disk();
	write_ok(B, B, 2);
	assert_int_equal(close_disk(), 0);
	damage(top_path(), map_slot_offset(1, 0) + 100);
	damage(top_path(), map_slot_offset(1, 1) + 100);
	assert_refused(-EBADMSG, "restore it from a backup");
	assert_false(live_exists());
	copy_over(backup, top_path());
	open_disk();
	assert_reads_image(1);
	assert_reads_fill(MAP_PAGE_BLOCKS * (uint64_t)B, B, 1);
	assert_int_equal(unlink(backup), 0);
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
	struct stat st;

	(void)state;
	write_flush_write_die();
	fd = open_file(live_path());
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, LIVE_HEADER_BYTES), 0);
	assert_int_equal(ftruncate(fd, st.st_size), 0);
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

/* What the newest write of the page had brought is not on disk in all sectors. */
static void map_page_torn_by_a_power_loss_is_as_before(void **state)
{
	struct slots good, torn;

	(void)state;
	three_flushes();
	good = slots_read();
	for (unsigned sectors = 1; sectors < 255; sectors++) {
		torn = good;
		/* The next flush, of which only these sectors are there. */
		sequences_put(&torn.pages[!good.newer],
			      le64_get(good.pages[good.newer].sectors[0].sequence) + 1);
		memset(torn.pages[!good.newer].sectors[0].bits, 0xff, 4);
		sums_fix(&torn.pages[!good.newer]);
		for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++) {
			if (!(sectors >> i & 1))
				torn.pages[!good.newer].sectors[i] =
					good.pages[!good.newer].sectors[i];
		}
		slots_write(&torn);
		assert_three_blocks();
	}
}

/* A sector of a torn write must not become one of a later one. */
static void map_page_torn_twice_is_as_before(void **state)
{
	struct slots first, second;
	uint64_t sequence;

	(void)state;
	three_flushes();
	first = slots_read();
	sequence = le64_get(first.pages[first.newer].sectors[0].sequence);
	sequences_put(&first.pages[!first.newer], sequence + 1);
	memset(first.pages[!first.newer].sectors[0].bits, 0xff, 4);
	sums_fix(&first.pages[!first.newer]);
	/* Its last sector did not get there. */
	sequences_put(&second.pages[0], sequence - 1);
	second.pages[0].sectors[7] = first.pages[!first.newer].sectors[7];
	le64_put(&second.pages[0].sectors[7].sequence, sequence - 1);
	sums_fix(&second.pages[0]);
	first.pages[!first.newer].sectors[7] = second.pages[0].sectors[7];
	slots_write(&first);
	open_disk();
	write_ok(5 * B, B, 6);
	flush_ok();
	die();
	assert_int_equal(unlink(live_path()), 0);
	/* The second write, of which the first sector did not get there. */
	second = slots_read();
	second.pages[!first.newer].sectors[0] = first.pages[!first.newer].sectors[0];
	slots_write(&second);
	assert_three_blocks();
}

/* The opposite of torn: each byte of the newer slot. Nothing may be lost in silence. */
static void map_page_damaged_in_the_newer_slot_is_refused(void **state)
{
	(void)state;
	three_flushes();
	for (unsigned at = 0; at < MAP_PAGE_BYTES; at += 13) {
		uint64_t offset = map_slot_offset(0, slots_read().newer) + at;
		char words[64];

		damage(top_path(), offset);
		assert_refused(-EBADMSG, top_path());
		assert_refused(-EBADMSG, "--repair");
		/* A sector speaks of 2048 blocks; the disk ends within the first. */
		(void)snprintf(words, sizeof(words),
			       "page 0 of its block map, which says who owns "
			       "blocks %u to 255",
			       at < MAP_SECTOR_BYTES ? 0 : 255);
		assert_refused(-EBADMSG, words);
		damage(top_path(), offset);
	}
	assert_three_blocks();
}

/* Each byte of the older slot: it is certain that it does not count. */
static void map_page_damaged_in_the_older_slot_is_read(void **state)
{
	struct slots good;

	(void)state;
	three_flushes();
	good = slots_read();
	for (unsigned at = 0; at < MAP_PAGE_BYTES; at += 29) {
		damage(top_path(), map_slot_offset(0, !good.newer) + at);
		assert_three_blocks();
		slots_write(&good);
	}
}

static void map_page_with_damage_beyond_doubt_is_refused(void **state)
{
	struct slots good, bad;

	(void)state;
	three_flushes();
	good = slots_read();
	for (unsigned i = 0; i < 6; i++) {
		bad = good;
		switch (i) {
		case 0: /* one sector of each */
			bad.pages[0].sectors[2].bits[7] ^= 1;
			bad.pages[1].sectors[5].bits[7] ^= 1;
			break;
		case 1: /* all of the older one: it might have been the newer one */
			memset(&bad.pages[!good.newer], 0x55, sizeof(bad.pages[0]));
			break;
		case 2: /* zeros instead of a slot, */
			memset(&bad.pages[!good.newer], 0, sizeof(bad.pages[0]));
			break;
		case 3: memset(&bad.pages[good.newer], 0, sizeof(bad.pages[0])); break;
		case 4: /* and of a sector of the newer one */
			memset(&bad.pages[good.newer].sectors[3], 0, MAP_SECTOR_BYTES);
			break;
		case 5: /* both as if torn: no power loss does that */
			sequences_put(&bad.pages[0], 20);
			sequences_put(&bad.pages[1], 21);
			bad.pages[0].sectors[1] = good.pages[0].sectors[1];
			bad.pages[1].sectors[1] = good.pages[1].sectors[1];
			break;
		}
		slots_write(&bad);
		assert_refused(-EBADMSG, top_path());
	}
	slots_write(&good);
	assert_three_blocks();
}

/* The file system may bring zeros for what was written but not synced, in any sector. */
static void map_page_torn_while_it_is_made_owns_nothing(void **state)
{
	struct slots made, torn;

	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	made = slots_read();
	die();
	assert_int_equal(unlink(live_path()), 0);
	for (unsigned i = 0; i < 3000; i++) {
		torn = made;
		for (unsigned sector = 0; sector < 2 * MAP_PAGE_SECTORS; sector++) {
			if (sim_below(2))
				memset((uint8_t *)torn.pages + sector * MAP_SECTOR_BYTES, 0,
				       MAP_SECTOR_BYTES);
		}
		slots_write(&torn);
		open_disk();
		assert_reads_image(0);
		assert_int_equal(get_stats().owned_blocks, 0);
		assert_true(get_stats().untouched);
		if (i % 100 == 0) {
			write_ok(B, B, 2);
			assert_false(get_stats().untouched);
			assert_int_equal(close_disk(), 0);
			open_disk();
			assert_reads_image(0);
			assert_reads_fill(B, B, 2);
			assert_int_equal(get_stats().owned_blocks, 1);
			assert_int_equal(slots_read().newer, 0);
		}
		assert_int_equal(close_disk(), 0);
	}
}

/* The first write of a page is the only one whose other slot holds nothing. */
static void map_page_torn_in_its_first_write_owns_nothing(void **state)
{
	struct slots made, written, torn;

	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	made = slots_read();
	flush_ok();
	written = slots_read();
	die();
	assert_int_equal(unlink(live_path()), 0);
	assert_int_equal(written.newer, 1);
	for (unsigned sectors = 0; sectors < 256; sectors++) {
		torn = written;
		for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++) {
			if (!(sectors >> i & 1))
				torn.pages[1].sectors[i] = made.pages[1].sectors[i];
		}
		slots_write(&torn);
		open_disk();
		assert_int_equal(get_stats().owned_blocks, sectors == 255);
		write_ok(B, B, 2);
		assert_int_equal(close_disk(), 0);
		open_disk();
		assert_reads_fill(B, B, 2);
		assert_int_equal(get_stats().owned_blocks, 1 + (sectors == 255));
		assert_int_equal(close_disk(), 0);
		assert_slots_in_order();
	}
}

/* After the end of any orderly use both slots know all, so that neither may be zeros. */
static void map_page_is_in_both_slots_after_an_orderly_end(void **state)
{
	struct slots s;

	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	assert_int_equal(close_disk(), 0);
	assert_slots_in_order();
	s = slots_read();
	for (unsigned slot = 0; slot < MAP_PAGE_SLOTS; slot++) {
		assert_int_equal(s.pages[slot].sectors[0].bits[0], 1);
		memset(&s.pages[slot], 0, sizeof(s.pages[slot]));
		slots_write(&s);
		assert_refused(-EBADMSG, top_path());
		s = slots_read();
		s.pages[slot] = s.pages[!slot];
		sequences_put(&s.pages[slot], 4 - slot);
		slots_write(&s);
	}
	open_disk();
	assert_reads_fill(0, B, 1);
}

/* The same after the power failed between a page's first flush and its second. */
static void map_page_flushed_once_gets_its_other_slot_later(void **state)
{
	(void)state;
	layer_add();
	open_disk();
	write_ok(0, B, 1);
	flush_ok();
	die();
	assert_int_equal(unlink(live_path()), 0);
	sim_power_loss(1u << 20);
	open_disk();
	assert_reads_fill(0, B, 1);
	assert_int_equal(close_disk(), 0);
	assert_slots_in_order();
}

/* Sectors that carry a right checksum and are not this layer's, this page's or this slot's. */
static void map_page_of_somewhere_else_is_not_believed(void **state)
{
	struct slots good;

	(void)state;
	three_flushes();
	good = slots_read();
	for (unsigned i = 0; i < 8; i++) {
		struct slots bad = good;
		struct map_sector *lie = &bad.pages[good.newer].sectors[0];

		switch (i) {
		case 0: lie->layer_uuid[3] ^= 1; break;
		case 1: le64_put(&lie->page, 1); break;
		case 2: le32_put(&lie->version, MAP_PAGE_VERSION + 1); break;
		case 3: le64_put(&lie->sequence, le64_get(lie->sequence) + 1); break;
		case 4: le64_put(&lie->sequence, 0); break;
		case 5: le32_put(&lie->number, 1); break;
		case 6: le64_put(&lie->sequence, UINT64_MAX - good.newer); break;
		case 7: /* empty pages that own something */
			sequences_put(&bad.pages[1], 1);
			sequences_put(&bad.pages[0], 2);
			break;
		}
		sums_fix(&bad.pages[good.newer]);
		slots_write(&bad);
		assert_refused(-EBADMSG, top_path());
	}
	slots_write(&good);
	assert_three_blocks();
}

static void map_page_with_bits_beyond_the_end_is_refused(void **state)
{
	struct slots s;

	(void)state;
	three_flushes();
	s = slots_read();
	s.pages[s.newer].sectors[0].bits[BLOCKS / 8] = 1;
	sums_fix(&s.pages[s.newer]);
	slots_write(&s);
	assert_refused(-EBADMSG, top_path());
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
	bool agree;

	(void)state;
	layer_add_sized(blocks * B);
	fd = open_file(top_path());
	assert_int_equal(layer_header_read(fd, top_path(), &header, &agree, &t.err), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(live_map_of_another_boot_is_not_used),
		TEST(live_map_of_another_file_is_not_used),
		TEST(live_map_is_not_used_for_a_backup_that_is_copied_over),
		TEST(opening_that_is_refused_leaves_no_live_map),
		TEST(live_map_that_is_garbage_is_not_used),
		TEST(live_map_without_its_bits_does_not_hide_flushed_blocks),
		TEST(live_map_with_bits_beyond_the_end_does_no_harm),
		TEST(reader_sees_what_a_killed_writer_left),
		TEST(map_page_torn_by_a_power_loss_is_as_before),
		TEST(map_page_torn_twice_is_as_before),
		TEST(map_page_damaged_in_the_newer_slot_is_refused),
		TEST(map_page_damaged_in_the_older_slot_is_read),
		TEST(map_page_with_damage_beyond_doubt_is_refused),
		TEST(map_page_torn_while_it_is_made_owns_nothing),
		TEST(map_page_torn_in_its_first_write_owns_nothing),
		TEST(map_page_is_in_both_slots_after_an_orderly_end),
		TEST(map_page_flushed_once_gets_its_other_slot_later),
		TEST(map_page_of_somewhere_else_is_not_believed),
		TEST(map_page_with_bits_beyond_the_end_is_refused),
		TEST(map_agrees_with_a_plain_array),
	};

	log_init("map_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
