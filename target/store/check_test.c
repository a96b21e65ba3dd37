/*
 * Checking layers and images, mending them, and faults while files are written.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "store/test_files.h"

static struct {
	unsigned count[STORE_FINDING_LOST + 1];
	char text[4096];
} findings;

static void on_found(void *arg, enum store_finding finding, const char *text)
{
	size_t used = strlen(findings.text);

	assert_ptr_equal(arg, &findings);
	findings.count[finding]++;
	(void)snprintf(findings.text + used, sizeof(findings.text) - used, "%s\n", text);
}

static int try_check(bool repair, bool in_use)
{
	memset(&findings, 0, sizeof(findings));
	t.err.text[0] = '\0';
	return store_layer_check(top_path(), t.run_dir, repair, in_use, on_found, &findings, NULL,
				 &t.err);
}

/* How many findings of each kind; each of them names the file. */
static void check(bool repair, unsigned notes, unsigned mended, unsigned mendable, unsigned lost)
{
	if (try_check(repair, false) < 0)
		fail_msg("%s", t.err.text);
	if (findings.count[STORE_FINDING_NOTE] != notes ||
	    findings.count[STORE_FINDING_MENDED] != mended ||
	    findings.count[STORE_FINDING_MENDABLE] != mendable ||
	    findings.count[STORE_FINDING_LOST] != lost)
		fail_msg("%u notes, %u mended, %u mendable, %u lost: %s",
			 findings.count[STORE_FINDING_NOTE], findings.count[STORE_FINDING_MENDED],
			 findings.count[STORE_FINDING_MENDABLE], findings.count[STORE_FINDING_LOST],
			 findings.text);
	if (notes + mended + mendable + lost)
		assert_non_null(strstr(findings.text, top_path()));
}

static void check_finds(const char *words)
{
	if (!strstr(findings.text, words))
		fail_msg("\"%s\" lacks \"%s\"", findings.text, words);
}

/* Nothing that is half done is taken for whole: the file is gone, or what was there is there. */
static void files_survive_a_write_that_fails(void **state)
{
	struct store_chain chain = two_layers();
	int AUTO_CLOSE out = -1;
	store_uuid_t uuid;
	char path[128];
	unsigned n;
	int r = -1;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/merged.cow", t.dir);
	store_uuid_generate(&uuid);
	for (n = 0; r < 0; n++) {
		writes_left = n;
		r = store_merge(&chain, 0, true, &uuid, path, NULL, &t.err);
		assert_true(r == 0 || r == -ENOSPC);
		assert_int_equal(access(path, F_OK) == 0, r == 0);
		assert_true(r == 0 || strstr(t.err.text, path));
	}
	assert_true(n > 5);
	assert_int_equal(unlink(path), 0);
	out = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	writes_left = 0;
	assert_int_equal(store_copy(&chain, out, NULL, &t.err), -ENOSPC);
	writes_left = UINT_MAX;
	assert_int_equal(unlink(path), 0);
	assert_int_equal(store_merge(&chain, 0, true, &uuid, path, NULL, &t.err), 0);
}

static void seal_that_fails_can_be_repeated(void **state)
{
	struct store_layer_info info;

	(void)state;
	for (unsigned n = 0; n <= LAYER_HEADER_COPIES; n++) {
		t.layer_count = 0;
		layer_add();
		writes_left = n;
		assert_int_equal(store_layer_seal(top_path(), "s", &t.err),
				 n < LAYER_HEADER_COPIES ? -ENOSPC : 0);
		writes_left = UINT_MAX;
		assert_int_equal(store_layer_info(top_path(), &info, &t.err), 0);
		assert_int_equal(info.sealed, n > 0);
		assert_string_equal(info.snapshot, n > 0 ? "s" : "");
		assert_int_equal(store_layer_seal(top_path(), "s", &t.err), 0);
		check(false, 0, 0, 0, 0);
		assert_int_equal(unlink(top_path()), 0);
	}
}

/* A disk with something of everything, all of it known to both slots of its map page. What it
 * reads as is in `ret_expected`. */
static void layer_with_content(uint8_t *ret_expected)
{
	image_add();
	layer_add();
	open_disk();
	for (unsigned i = 0; i < 65; i++)
		image_block(i, ret_expected + i * B);
	write_ok(3 * B, 5 * B, 1);
	fill(ret_expected + 3 * B, 5 * B, 1);
	discard_ok(20 * B, 4 * B);
	memset(ret_expected + 20 * B, 0, 4 * B);
	write_ok(SIZE - B, B, 2);
	fill(ret_expected + SIZE - B, B, 2);
	flush_ok();
	/* This one only the newer slot knows, but there is data that tells. */
	flush_ok();
	write_ok(100 * B + S, S, 3);
	fill(ret_expected + 100 * B + S, S, 3);
	assert_int_equal(close_disk(), 0);
}

/* However far a repair came, it can be repeated. */
static void repair_that_fails_can_be_repeated(void **state)
{
	uint8_t *AUTO_FREE expected = calloc(1, SIZE), *AUTO_FREE good = malloc(LAYER_DATA_ALIGN);
	bool done = false;

	(void)state;
	layer_with_content(expected);
	peek(top_path(), 0, good, LAYER_DATA_ALIGN);
	for (unsigned n = 0; !done; n++) {
		damage(top_path(), 120);
		damage(top_path(), map_slot_offset(0, n % 3 == 1) + 100);
		if (n % 3 == 2)
			damage(top_path(), map_slot_offset(0, 1) + 100);
		writes_left = n / 3;
		done = try_check(true, false) == 0;
		writes_left = UINT_MAX;
		assert_int_equal(try_check(true, false), 0);
		/* A slot whose writing was cut off looks as if the power had failed, as it may. */
		assert_int_equal(try_check(false, false), 0);
		assert_int_equal(findings.count[STORE_FINDING_MENDABLE], 0);
		assert_int_equal(findings.count[STORE_FINDING_LOST], 0);
		open_disk();
		/* With no good copy of that sector left, what was discarded is the image's again.
		 */
		if (n % 3 == 2)
			image_block(20, expected + 20 * B);
		else
			memset(expected + 20 * B, 0, B);
		assert_reads(0, 21 * B, expected);
		assert_reads(24 * B, SIZE - 24 * B, expected + 24 * B);
		assert_int_equal(close_disk(), 0);
		patch(top_path(), 0, good, LAYER_DATA_ALIGN);
	}
}

static void check_finds_nothing_wrong(void **state)
{
	uint8_t *AUTO_FREE expected = calloc(1, SIZE);
	struct store_chain chain;
	store_uuid_t uuid;

	(void)state;
	layer_with_content(expected);
	check(false, 0, 0, 0, 0);
	check(true, 0, 0, 0, 0);
	open_disk();
	assert_reads(0, SIZE, expected);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_seal(top_path(), "s", &t.err), 0);
	check(true, 0, 0, 0, 0);
	layer_add();
	check(true, 0, 0, 0, 0);
	chain = chain_of(1);
	(void)snprintf(t.layers[1], sizeof(t.layers[1]), "%s/merged.cow", t.dir);
	store_uuid_generate(&uuid);
	assert_int_equal(store_merge(&chain, 0, true, &uuid, t.layers[1], NULL, &t.err), 0);
	check(true, 0, 0, 0, 0);
	/* A death leaves nothing that a check would complain of. */
	layer_add_sized(3 * MAP_PAGE_BLOCKS * (uint64_t)B);
	t.layer_count = 1;
	memcpy(t.layers[0], t.layers[2], sizeof(t.layers[0]));
	check(true, 0, 0, 0, 0);
}

/* Whatever byte of header and map is changed: the disk is refused by name or reads as it should,
 * the check finds it, and mends it. */
static void any_changed_byte_is_found(void **state)
{
	uint8_t *AUTO_FREE expected = calloc(1, SIZE), *AUTO_FREE good = malloc(LAYER_DATA_ALIGN);
	const uint64_t map_end = map_slot_offset(1, 0);
	const char *mode = getenv("LUNROOT_CHECK");
	bool quick = !mode || strcmp(mode, "quick") == 0, all_bits = mode && !strcmp(mode, "long");
	unsigned refused = 0, read = 0;

	(void)state;
	layer_with_content(expected);
	peek(top_path(), 0, good, LAYER_DATA_ALIGN);
	for (uint64_t i = all_bits ? 0 : sim_below(9); i < map_end * 8;
	     i += all_bits ? 1 : (quick ? 72 : 20) + sim_below(9)) {
		uint64_t at = i / 8;
		uint8_t byte = good[at] ^ (uint8_t)(1u << (all_bits ? i % 8 : sim_below(8)));

		patch(top_path(), at, &byte, 1);
		if (try_open() < 0) {
			assert_int_equal(-EBADMSG, try_open());
			assert_non_null(strstr(t.err.text, top_path()));
			refused++;
		} else {
			assert_int_equal(store_attach(t.disk, sim_ring()), 0);
			assert_reads(0, SIZE, expected);
			die();
			assert_int_equal(unlink(live_path()), 0);
			read++;
		}
		assert_int_equal(try_check(false, false), 0);
		assert_int_equal(findings.count[STORE_FINDING_MENDABLE], 1);
		assert_int_equal(try_check(true, false), 0);
		assert_int_equal(findings.count[STORE_FINDING_MENDED], 1);
		check(false, 0, 0, 0, 0);
		open_disk();
		assert_reads(0, SIZE, expected);
		assert_int_equal(close_disk(), 0);
		patch(top_path(), 0, good, map_end);
	}
	assert_true(refused > 10 && read > 10);
	/* Between the map and the data nothing is read, but nothing belongs there. */
	damage(top_path(), map_end + 5);
	check(true, 1, 0, 0, 0);
	open_disk();
	assert_reads(0, SIZE, expected);
}

/* A large disk, of which blocks 3000, 7000 and 7001 were flushed, and then 5000 to 5002 as well,
 * of which one was discarded. */
static void large_layer_with_content(void)
{
	image_add();
	layer_add_sized(MAP_PAGE_BLOCKS * (uint64_t)B + 5 * B);
	open_disk();
	write_ok(3000 * B, B, 1);
	write_ok(7000 * B, B, 2);
	discard_ok(7001 * B, B);
	discard_ok(10 * B, B);
	write_ok(MAP_PAGE_BLOCKS * (uint64_t)B, 5 * B, 9);
	flush_ok();
	flush_ok();
	write_ok(5000 * B, 2 * B, 3);
	discard_ok(5002 * B, B);
	discard_ok(11 * B, B);
	assert_int_equal(close_disk(), 0);
}

/* The damage lies in what speaks of blocks 4096 to 6143. */
static void repair_of_a_sector(const struct slots *damaged)
{
	slots_write(damaged);
	assert_refused(-EBADMSG, "blocks 4096 to 6143");
	check(false, 0, 0, 1, 1);
	check_finds("page 0 of its block map is damaged, blocks 4096 to 6143: can be made");
	check_finds("of blocks 4096 to 6143 (8388608 bytes of the disk from 16777216 on)");
	check_finds("discarded");
	assert_refused(-EBADMSG, "blocks 4096 to 6143");
	check(true, 0, 1, 0, 1);
	check(true, 0, 0, 0, 0);
	open_disk();
	assert_reads_fill(3000 * B, B, 1);
	assert_reads_fill(7000 * B, B, 2);
	assert_reads_fill(5000 * B, 2 * B, 3);
	assert_reads_fill(MAP_PAGE_BLOCKS * (uint64_t)B, 5 * B, 9);
	assert_reads_zeros(10 * B, B);
	assert_reads_zeros(7001 * B, B);
	/* Its own sector was good, so this discard is known, */
	assert_reads_zeros(11 * B, B);
	/* and of the other one nothing was left. */
	assert_int_equal(get_stats().owned_blocks, 12);
	assert_int_equal(close_disk(), 0);
	assert_slots_in_order();
}

static void repair_rebuilds_a_damaged_page_and_says_what_it_cannot_know(void **state)
{
	struct slots good, bad;

	(void)state;
	large_layer_with_content();
	good = bad = slots_read();
	bad.pages[good.newer].sectors[2].bits[100] ^= 1;
	repair_of_a_sector(&bad);
	bad = good;
	memset(&bad.pages[good.newer].sectors[2], 0, MAP_SECTOR_BYTES);
	repair_of_a_sector(&bad);
}

static void repair_without_any_good_copy_takes_what_has_data(void **state)
{
	static const uint8_t noise[MAP_PAGE_BYTES * MAP_PAGE_SLOTS] = {[0 ... 8191] = 0x55};

	(void)state;
	large_layer_with_content();
	patch(top_path(), map_slot_offset(0, 0), noise, sizeof(noise));
	assert_refused(-EBADMSG, "blocks 0 to 16383");
	check(true, 0, 1, 0, 1);
	check(true, 0, 0, 0, 0);
	open_disk();
	assert_reads_fill(3000 * B, B, 1);
	assert_reads_fill(7000 * B, B, 2);
	assert_reads_fill(5000 * B, 2 * B, 3);
	assert_reads_fill(MAP_PAGE_BLOCKS * (uint64_t)B, 5 * B, 9);
	/* What was discarded is the image's again, as was said. */
	assert_reads_image(10);
	assert_reads_image(11);
	assert_int_equal(get_stats().owned_blocks, 9);
}

static void repair_mends_bits_beyond_the_end(void **state)
{
	struct slots s;

	(void)state;
	three_flushes();
	s = slots_read();
	s.pages[s.newer].sectors[0].bits[BLOCKS / 8] = 1;
	s.pages[s.newer].sectors[6].bits[7] = 1;
	sums_fix(&s.pages[s.newer]);
	slots_write(&s);
	assert_refused(-EBADMSG, "beyond the end");
	check(false, 0, 0, 1, 0);
	check_finds("beyond the end");
	check(true, 0, 1, 0, 0);
	check(true, 0, 0, 0, 0);
	/* The same beside damage. */
	s.pages[s.newer].sectors[3].bits[0] ^= 1;
	slots_write(&s);
	check(true, 0, 1, 0, 1);
	check(true, 0, 0, 0, 0);
	assert_three_blocks();
}

/* Wherever the repair of the older slot is cut off, the newer one counts and says so. */
static void repair_of_what_is_harmless_never_makes_it_worse(void **state)
{
	struct slots bad;

	(void)state;
	three_flushes();
	bad = slots_read();
	bad.pages[!bad.newer].sectors[5].bits[0] ^= 1;
	for (unsigned done = 0;; done++) {
		int r = -ENOSPC;

		for (writes_torn = 1; r < 0 && writes_torn < (1u << MAP_PAGE_SECTORS) - 1;
		     writes_torn++) {
			slots_write(&bad);
			writes_left = done;
			r = try_check(true, false);
			writes_left = UINT_MAX;
			open_disk();
			assert_int_equal(get_stats().owned_blocks, 3);
			die();
			assert_int_equal(unlink(live_path()), 0);
		}
		if (r == 0)
			break;
		assert_int_equal(r, -ENOSPC);
	}
	writes_torn = 0;
	assert_three_blocks();
}

static void check_tells_of_a_torn_page_and_leaves_it(void **state)
{
	struct slots s;

	(void)state;
	three_flushes();
	s = slots_read();
	sequences_put(&s.pages[!s.newer], 50 + !s.newer);
	s.pages[!s.newer].sectors[4] = s.pages[s.newer].sectors[4];
	le64_put(&s.pages[!s.newer].sectors[4].sequence, 40 + !s.newer);
	sums_fix(&s.pages[!s.newer]);
	slots_write(&s);
	check(true, 1, 0, 0, 0);
	check_finds("when the power failed");
	assert_three_blocks();
}

static void repair_mends_either_copy_of_the_header(void **state)
{
	struct layer_header before;

	(void)state;
	layer_add();
	peek(top_path(), 0, &before, sizeof(before));
	assert_int_equal(store_layer_seal(top_path(), "s", &t.err), 0);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t at = i % 2 * (uint64_t)LAYER_HEADER_BYTES;
		struct store_layer_info info;

		if (i < 2)
			damage(top_path(), at + 120);
		else
			patch(top_path(), at, &before, sizeof(before));
		check(false, 0, 0, 1, 0);
		check_finds(i % 2 ? "second copy of its header" : "first copy of its header");
		check_finds(i < 2 ? "damaged" : "not finished");
		check(true, 0, 1, 0, 0);
		check(true, 0, 0, 0, 0);
		assert_int_equal(store_layer_info(top_path(), &info, &t.err), 0);
		assert_true(info.sealed);
		assert_string_equal(info.snapshot, "s");
	}
	damage(top_path(), 120);
	damage(top_path(), LAYER_HEADER_BYTES + 120);
	check(true, 0, 0, 0, 1);
	check_finds("neither copy of its header");
}

/* A checksum that is right says that the file is whole; the version is another matter. */
static void check_refuses_another_version(void **state)
{
	struct layer_header header;

	(void)state;
	layer_add();
	peek(top_path(), 0, &header, sizeof(header));
	le32_put(&header.version, 1);
	le32_put(&header.crc, crc32c(0, &header, offsetof(struct layer_header, crc)));
	for (unsigned copy = 0; copy < LAYER_HEADER_COPIES; copy++)
		patch(top_path(), copy * LAYER_HEADER_BYTES, &header, sizeof(header));
	assert_int_equal(try_check(true, false), -EPROTONOSUPPORT);
	assert_non_null(strstr(t.err.text, "older"));
}

static void check_judges_a_length_by_what_is_missing(void **state)
{
	uint64_t data = layer_layout(SIZE).data_offset;

	(void)state;
	layer_add();
	open_disk();
	write_ok(3 * B, B, 1);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(truncate(top_path(), (off_t)(data + 4 * B)), 0);
	assert_refused(-EBADMSG, "cut off");
	check(false, 0, 0, 1, 0);
	check(true, 0, 1, 0, 0);
	check(true, 0, 0, 0, 0);
	open_disk();
	assert_reads_fill(3 * B, B, 1);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(truncate(top_path(), (off_t)(data + SIZE + 100)), 0);
	check(true, 1, 0, 0, 0);
	assert_int_equal(truncate(top_path(), (off_t)(data + 4 * B - 1)), 0);
	check(true, 0, 0, 0, 1);
	check_finds("blocks 3 to 3");
	assert_int_equal(truncate(top_path(), (off_t)data - 1), 0);
	check(true, 0, 0, 0, 1);
	check_finds("cut off within its block map");
	assert_int_equal(truncate(top_path(), 100), 0);
	check(true, 0, 0, 0, 1);
}

static void check_names_what_cannot_be_read(void **state)
{
	uint64_t data = layer_layout(SIZE).data_offset;

	(void)state;
	layer_add();
	open_disk();
	write_ok(0, 200 * B, 1);
	assert_int_equal(close_disk(), 0);
	unreadable_begin = data + 100 * B;
	unreadable_end = data + 102 * B;
	check(true, 0, 0, 0, 1);
	check_finds("blocks 100 to 101 of the disk can't be read: Input/output error");
	unreadable_begin = map_slot_offset(0, 0) + 5000;
	unreadable_end = unreadable_begin + 1;
	check(true, 0, 0, 0, 1);
	check_finds("page 0 of its block map can't be read");
	unreadable_begin = 4000;
	unreadable_end = 4001;
	check(true, 0, 0, 0, 1);
	check_finds("header can't be read");
	unreadable_end = 0;
	check(true, 0, 0, 0, 0);
}

static void check_of_a_disk_in_use_repairs_nothing(void **state)
{
	struct slots good, bad;

	(void)state;
	three_flushes();
	good = bad = slots_read();
	open_disk();
	assert_int_equal(try_check(false, false), -EBUSY);
	assert_int_equal(try_check(true, false), -EBUSY);
	assert_non_null(strstr(t.err.text, "in use"));
	assert_int_equal(try_check(true, true), 0);
	assert_string_equal(findings.text, "");
	/* Damage stays as it is, and so is told from a flush. */
	bad.pages[good.newer].sectors[0].bits[9] ^= 1;
	slots_write(&bad);
	assert_int_equal(try_check(true, true), 0);
	assert_int_equal(findings.count[STORE_FINDING_MENDABLE], 1);
	damage(top_path(), 300);
	assert_int_equal(try_check(true, true), 0);
	assert_int_equal(findings.count[STORE_FINDING_MENDABLE], 2);
	damage(top_path(), 300);
	/* Whoever has it open has read it before, and the next flushes write over it. */
	for (unsigned i = 0; i < 2; i++) {
		write_ok((10 + i) * B, B, 1);
		flush_ok();
	}
	assert_int_equal(try_check(true, true), 0);
	assert_string_equal(findings.text, "");
}

/* How often the flusher wrote, and how long it did not get to: on a busy machine, long. */
static atomic_ullong flusher_writes, flusher_gap_ms;

/* What a reader may see of a page that is written again and again. */
static void *flusher(void *arg)
{
	const atomic_bool *end = arg;
	struct slots s = slots_read();
	uint64_t sequence = 100, last = now_ms(), now;

	while (!*end) {
		struct map_page *page = &s.pages[++sequence % MAP_PAGE_SLOTS];
		uint64_t offset = map_slot_offset(0, sequence);

		sequences_put(page, sequence);
		for (unsigned half = 0; half < 2; half++) {
			patch(top_path(), offset, page, half ? sizeof(*page) : 1000);
			now = now_ms();
			if (now - last > flusher_gap_ms)
				flusher_gap_ms = now - last;
			last = now;
			flusher_writes++;
			if (!half)
				(void)usleep((useconds_t)(sequence % 3 * 10000));
		}
	}
	return NULL;
}

static void check_of_a_disk_in_use_takes_no_flush_for_damage(void **state)
{
	unsigned rounds = rounds_by_mode(2), wrong = 0;
	atomic_bool end = false;
	pthread_t thread;

	(void)state;
	three_flushes();
	assert_int_equal(pthread_create(&thread, NULL, flusher, &end), 0);
	for (unsigned i = 0; i < rounds; i++) {
		flusher_gap_ms = 0;
		if (try_check(false, true) < 0)
			wrong++;
		/* A gap is known when it has ended. */
		for (unsigned long long known = flusher_writes + 2; flusher_writes < known;)
			(void)usleep(1000);
		/* A page that stays half written for as long as a reader looks at it (page_read) is
		 * not what a flush does. */
		if (findings.text[0] && flusher_gap_ms < 180)
			wrong++;
	}
	end = true;
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(wrong, 0);
}

static void check_is_throttled_and_cancelled(void **state)
{
	atomic_ullong done, total;
	atomic_bool cancelled = false;
	struct store_work work = {.done_bytes = &done,
				  .total_bytes = &total,
				  .cancelled = &cancelled,
				  .bytes_per_s = 2 * SIZE};
	uint64_t began = now_ms();

	(void)state;
	image_add();
	layer_add();
	open_disk();
	write_ok(0, SIZE, 1);
	assert_int_equal(close_disk(), 0);
	assert_int_equal(store_layer_check(top_path(), t.run_dir, false, false, on_found, &findings,
					   &work, &t.err),
			 0);
	assert_true(now_ms() - began >= 250);
	assert_int_equal(total, SIZE);
	assert_int_equal(done, SIZE);
	assert_int_equal(store_image_check(t.image, on_found, &findings, &work, &t.err), 0);
	assert_int_equal(total, 32 * B + 3 * S);
	assert_int_equal(done, total);
	cancelled = true;
	assert_int_equal(store_layer_check(top_path(), t.run_dir, false, false, on_found, &findings,
					   &work, &t.err),
			 -ECANCELED);
	assert_int_equal(store_image_check(t.image, on_found, &findings, &work, &t.err),
			 -ECANCELED);
}

static void check_of_an_image(void **state)
{
	char sidecar[160];

	(void)state;
	memset(&findings, 0, sizeof(findings));
	image_add();
	assert_int_equal(store_image_check(t.image, on_found, &findings, NULL, &t.err), 0);
	assert_string_equal(findings.text, "");
	damage(t.image, 5000);
	assert_int_equal(store_image_check(t.image, on_found, &findings, NULL, &t.err), 0);
	assert_int_equal(findings.count[STORE_FINDING_LOST], 1);
	check_finds(t.image);
	check_finds("content hash");
	damage(t.image, 5000);
	assert_int_equal(store_image_check(t.image, on_found, &findings, NULL, &t.err), 0);
	assert_int_equal(findings.count[STORE_FINDING_NOTE], 1);
	check_finds("touched");
	unreadable_begin = 8000;
	unreadable_end = 8001;
	assert_int_equal(store_image_check(t.image, on_found, &findings, NULL, &t.err), 0);
	unreadable_end = 0;
	assert_int_equal(findings.count[STORE_FINDING_LOST], 2);
	check_finds("can't be read");
	assert_int_equal(truncate(t.image, (off_t)(IMAGE_BYTES - S)), 0);
	assert_int_equal(store_image_check(t.image, on_found, &findings, NULL, &t.err), 0);
	assert_int_equal(findings.count[STORE_FINDING_LOST], 3);
	check_finds("bytes, but had");
	(void)snprintf(sidecar, sizeof(sidecar), "%s.json", t.image);
	assert_int_equal(truncate(sidecar, 5), 0);
	assert_int_equal(store_image_check(t.image, on_found, &findings, NULL, &t.err), 0);
	assert_int_equal(findings.count[STORE_FINDING_LOST], 4);
	check_finds(sidecar);
	assert_int_equal(unlink(t.image), 0);
	assert_int_equal(store_image_check(t.image, on_found, &findings, NULL, &t.err), -ENOENT);
}

static void process_ends(void)
{
	sim_arm(false);
	sim_kill();
	sim_process_ends();
	t.disk = NULL;
}

/* Which of the calls that can fail in a repair is its first sync. */
static uint64_t first_sync_of_repair(void)
{
	uint64_t nth = 0;

	sim_arm(true);
	do {
		sim_fail_at(++nth, EIO);
		(void)try_check(true, false);
		assert_true(sim_failed().happened);
	} while (sim_failed().call != SIM_CALL_SYNC);
	sim_fail_at(0, 0);
	process_ends();
	return nth;
}

/*
 * Killed with writes that were not flushed; a repair can't sync them, and says so. The kernel says
 * it once: whoever comes after must not take them for safe, be it another repair or an opening.
 */
static void repair_whose_sync_fails_is_remembered(void **state)
{
	char boot_id[160], command[256];
	uint64_t nth;

	(void)state;
	(void)snprintf(boot_id, sizeof(boot_id), "%s/boot_id", t.dir);
	(void)snprintf(command, sizeof(command), "cat /proc/sys/kernel/random/boot_id >%s",
		       boot_id);
	assert_int_equal(system(command), 0);
	sim_set_folders(t.dir, t.run_dir, boot_id);
	image_add();
	layer_add();
	nth = first_sync_of_repair();
	for (unsigned i = 0; i < 30; i++) {
		uint8_t data[B], first[B];
		struct command c;

		sim_arm(true);
		open_disk();
		write_ok(0, B, 1);
		flush_ok();
		write_ok(5 * B, B, (uint8_t)(2 + i));
		process_ends();
		sim_arm(true);
		sim_fail_at(nth, EIO);
		assert_true(try_check(true, false) < 0);
		assert_int_equal(sim_failed().call, SIM_CALL_SYNC);
		sim_fail_at(0, 0);
		assert_int_equal(try_check(true, false), 0);
		open_disk();
		start(&c, STORE_READ, 5 * B, B, first);
		assert_int_equal(finish(&c), 0);
		flush_ok();
		process_ends();
		assert_int_equal(unlink(live_path()), 0);
		sim_set_loss(SIM_LOSS_ALL);
		sim_power_loss(1u << 20);
		open_disk();
		/* What it was when the flush said that it is safe, whichever that is. */
		start(&c, STORE_READ, 5 * B, B, data);
		assert_int_equal(finish(&c), 0);
		assert_memory_equal(data, first, B);
		assert_int_equal(close_disk(), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(files_survive_a_write_that_fails),
		TEST(seal_that_fails_can_be_repeated),
		TEST(repair_that_fails_can_be_repeated),
		TEST(repair_whose_sync_fails_is_remembered),
		TEST(check_finds_nothing_wrong),
		TEST(any_changed_byte_is_found),
		TEST(repair_rebuilds_a_damaged_page_and_says_what_it_cannot_know),
		TEST(repair_without_any_good_copy_takes_what_has_data),
		TEST(repair_mends_bits_beyond_the_end),
		TEST(repair_of_what_is_harmless_never_makes_it_worse),
		TEST(check_tells_of_a_torn_page_and_leaves_it),
		TEST(repair_mends_either_copy_of_the_header),
		TEST(check_refuses_another_version),
		TEST(check_judges_a_length_by_what_is_missing),
		TEST(check_names_what_cannot_be_read),
		TEST(check_of_a_disk_in_use_repairs_nothing),
		TEST(check_of_a_disk_in_use_takes_no_flush_for_damage),
		TEST(check_is_throttled_and_cancelled),
		TEST(check_of_an_image),
	};

	log_init("check_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
