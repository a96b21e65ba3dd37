/*
 * What the tests of the store's files share: a folder in /dev/shm with an image and a chain of
 * layers, a disk over them with the reactor and the page cache simulated (sim.h), commands, and
 * what a test does to the files behind its back. Every test has a fresh one (TEST).
 */
#ifndef LUNROOT_STORE_TEST_FILES_H
#define LUNROOT_STORE_TEST_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/sim.h"
#include "store/store_internal.h"

#define B      STORE_BLOCK_BYTES
#define S      STORE_SECTOR_BYTES
#define BLOCKS 256u
#define SIZE   (BLOCKS * (uint64_t)B)
/* A whole number of sectors, not of blocks. */
#define IMAGE_BYTES (64u * (uint64_t)B + 3 * S)
#define LAYERS_MAX  5

struct test_files {
	char dir[64], run_dir[80], image[128], layers[LAYERS_MAX][128];
	store_uuid_t image_uuid, layer_uuids[LAYERS_MAX];
	uint64_t image_bytes;
	unsigned layer_count;
	bool with_image, no_run_dir, read_only, scratch;
	struct store_disk *disk;
	struct store_error err;
};

extern struct test_files t;

/* --- files --- */

void fill(uint8_t *data, size_t bytes, uint8_t seed);
int open_file(const char *path);
void patch(const char *path, uint64_t offset, const void *data, size_t bytes);
void peek(const char *path, uint64_t offset, void *data, size_t bytes);
/* Overwrites a byte with its complement. */
void damage(const char *path, uint64_t offset);
const char *live_path(void);
bool live_exists(void);
/* Blocks 0 to 31 and the last have data, the others are a hole. */
void image_add(void);
/* What block `i` of the image reads as. */
void image_block(unsigned i, uint8_t data[B]);
void layer_add_sized(uint64_t size_bytes);
void layer_add(void);
const char *top_path(void);

/* --- the disk --- */

int try_open(void);
void open_disk(void);
/* Opening fails with `error` and a message that has `words` in it. */
void assert_refused(int error, const char *words);
int close_disk(void);
/* kill -9. */
void die(void);

struct command {
	struct store_io io;
	bool busy;
	int res;
};

void start(struct command *c, enum store_op op, uint64_t offset, uint64_t bytes, void *data);
int finish(struct command *c);
int do_io(enum store_op op, uint64_t offset, uint64_t bytes, void *data);
void write_ok(uint64_t offset, uint64_t bytes, uint8_t seed);
void discard_ok(uint64_t offset, uint64_t bytes);
void flush_ok(void);
void assert_reads(uint64_t offset, uint64_t bytes, const uint8_t *expected);
void assert_reads_fill(uint64_t offset, uint64_t bytes, uint8_t seed);
void assert_reads_zeros(uint64_t offset, uint64_t bytes);
void assert_reads_image(unsigned block);
struct store_stats get_stats(void);
struct store_chain chain_of(unsigned layer_count);
/* Two layers with a megabyte each, of which half is the same blocks. */
struct store_chain two_layers(void);

/* --- map pages --- */

/* A page as it is in the file, with what a test needs to know of it. */
struct slots {
	struct map_page pages[MAP_PAGE_SLOTS];
	unsigned newer;
};

uint64_t sector_offset(unsigned slot, unsigned sector);
struct slots slots_read(void);
void slots_write(const struct slots *s);
void sums_fix(struct map_page *page);
void sequences_put(struct map_page *page, uint64_t sequence);
/* Blocks 0, 1 and 2 were flushed, one after the other: the newer slot knows of all of them, the
 * other one of two. */
void three_flushes(void);
/* Both slots are whole and have been truly written: neither may ever be zeros, or be torn now. */
void assert_slots_in_order(void);
void assert_three_blocks(void);

/* --- faults of blocking calls --- */

/* Offsets in files at which reading fails; the linker puts this in the place of the other. */
extern uint64_t unreadable_begin, unreadable_end;
/* How many pages of durable block maps were read so far. */
extern atomic_uint map_pages_read;
/* So many writes from now on succeed; then one is cut off and fails, */
extern unsigned writes_left;
/* with these of its sectors written, a bit each; 0: the first half of them. */
extern uint64_t writes_torn;

/* --- time --- */

unsigned rounds_by_mode(unsigned quick);
uint64_t now_ms(void);

/* --- around each test --- */

int set_up(void **state);
int tear_down(void **state);

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
