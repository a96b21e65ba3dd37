/*
 * Flushing: what is durable when, on a full disk and a failing one, without a live map, and not at
 * all.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "store/test_files.h"

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
	flush_ok(); /* once more, into the page's other slot */
	assert_int_equal(sim_sync_count() - before, 4);
	flush_ok();
	assert_int_equal(sim_sync_count() - before, 4);
	write_ok(0, B, 2);
	flush_ok(); /* no new block */
	assert_int_equal(sim_sync_count() - before, 5);
	write_ok(0, B, 3);
	for (unsigned i = 0; i < 10; i++) {
		memset(&c[i], 0, sizeof(c[i]));
		start(&c[i], STORE_FLUSH, 0, 0, NULL);
	}
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(finish(&c[i]), 0);
	assert_in_range(sim_sync_count() - before, 6, 7);
	assert_int_equal(get_stats().flushes, 16);
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

/* --- faults --- */

static void failed_sync_fails_the_disk(void **state)
{
	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(2 * B, B, 2);
	flush_ok();
	write_ok(0, B, 1);
	sim_set_sync_failure(1);
	assert_int_equal(do_io(STORE_FLUSH, 0, 0, NULL), -EIO);
	assert_true(get_stats().failed);
	/* Nothing may say "durable" any more, however often it is asked. */
	assert_int_equal(do_io(STORE_FLUSH, 0, 0, NULL), -EIO);
	assert_int_equal(do_io(STORE_WRITE, B, B, (uint8_t[B]){1}), -EIO);
	assert_int_equal(do_io(STORE_DISCARD, B, B, NULL), -EIO);
	/* Nor may it be given out: it may be gone from the page cache, and zeros in its place. */
	assert_int_equal(do_io(STORE_READ, 0, B, (uint8_t[B]){0}), -EIO);
	assert_reads_image(1);
	assert_int_equal(close_disk(), -EIO);
	/* The page cache may have what the medium has not, and no sync would write it any more. So
	 * it is as after a power loss: what no flush had acknowledged is the parent's again. */
	open_disk();
	assert_false(get_stats().failed);
	assert_reads_fill(2 * B, B, 2);
	assert_reads_image(0);
	write_ok(0, B, 2);
	flush_ok();
	die();
	sim_power_loss(1u << 20);
	assert_int_equal(unlink(live_path()), 0);
	open_disk();
	assert_reads_fill(0, B, 2);
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
	flush_ok(); /* into the other slot of the map page */
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
	flush_ok(); /* into the other slot of the map page */
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
	assert_true(t.disk->scratch && t.disk->volatile_cache); /* it says so */
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
	assert_int_equal(store_layer_seal(top_path(), "", &t.err), 0);
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
	/* Every write is durable: nothing to be told. */
	assert_false(t.disk->scratch || t.disk->volatile_cache);
	write_ok(0, B, 1);
	die();
	open_disk();
	assert_reads_fill(0, B, 1);
}

/* Given back by a gate that shuts, and submitted again when it opens: W1 is written, and waits for
 * a flush; W2 is written over it and acknowledged. */
static void write_that_waits_for_a_flush_is_not_written_again(void **state)
{
	uint8_t one[B], two[B], other[B];
	unsigned cases = 0;

	(void)state;
	layer_add();
	open_disk();
	fill(one, B, 1);
	fill(two, B, 2);
	fill(other, B, 3);
	for (unsigned i = 0; i < 10000 && cases < 50; i++) {
		struct command w1 = {.io.fua = true}, w2 = {0}, before = {0}, flush = {0};

		start(&before, STORE_WRITE, 10 * B, B, other);
		assert_int_equal(finish(&before), 0);
		start(&flush, STORE_FLUSH, 0, 0, NULL);
		(void)sim_step();
		start(&w1, STORE_WRITE, 0, B, one);
		for (unsigned j = 0; j < i % 8; j++)
			(void)sim_step();
		start(&w2, STORE_WRITE, 0, B, two);
		while (w2.busy && sim_step())
			;
		if (w1.busy)
			t.disk->ops->cancel(t.disk, &w1.io);
		while (w1.busy && sim_step())
			;
		if (w1.res == -ECANCELED && w1.io.written) {
			cases++;
			w1.busy = true;
			store_submit(t.disk, &w1.io);
			assert_int_equal(finish(&w1), 0);
			assert_reads_fill(0, B, 2);
		}
		sim_run(NULL, NULL);
		assert_false(flush.busy);
	}
	assert_int_equal(cases, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(flush_syncs_no_more_than_it_must),
		TEST(flushed_write_survives_power_loss),
		TEST(unflushed_write_survives_a_kill),
		TEST(orderly_end_leaves_no_live_map),
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
		TEST(write_that_waits_for_a_flush_is_not_written_again),
		TEST(without_live_map_each_write_is_durable),
		TEST(scratch_flush_does_nothing_and_the_end_does),
		TEST(scratch_without_live_map_survives_a_kill),
	};

	log_init("flush_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
