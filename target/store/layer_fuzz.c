/*
 * What is read from files: headers, map pages, live map, sidecar. The input is a list of changes
 * to good files (an input of bytes alone would never get past the first checksum), with the
 * checksums made right again if it says so. Whatever comes out is checked and mended, if it says
 * so, and opened; if that succeeds the disk is used, closed and opened again, and its layer sealed
 * and merged.
 *
 * Input: a byte of flags, then records: what, offset (2 bytes), length, bytes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "store/sim.h"
#include "store/store_internal.h"

#define BLOCKS       (MAP_PAGE_BLOCKS + 300u)
#define IMAGE_BYTES  (40u * STORE_BLOCK_BYTES + STORE_SECTOR_BYTES)
#define LENGTH_MAX   (2ull << 40) /* of a layer file; its map takes a while */
#define RECORDS_MAX  64
#define MAPPED_PAGES 2u

enum flag {
	FLAG_FIX_SUMS = 1,
	FLAG_IMAGE = 2,
	FLAG_LIVE = 4,
	FLAG_READ_ONLY = 8,
	FLAG_WRITE_THROUGH = 16,
	FLAG_CHECK = 32,
	FLAG_REPAIR = 64,
};

/* Where a record's bytes go. */
enum target {
	TARGET_HEADERS, /* both copies, one after the other */
	TARGET_HEADER_BOTH,
	TARGET_SLOTS, /* of page 0, then of page 1 */
	TARGET_LIVE,
	TARGET_LENGTH, /* of the layer file: 8 bytes */
	TARGET_LIVE_LENGTH,
	TARGET_SIDECAR, /* all of it */
	TARGET_COUNT,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	char dir[64], run_dir[80], layer[80], image[80], sidecar[96];
	char live[LIMIT_PATH_BYTES];
	store_uuid_t uuid, image_uuid;
	struct store_image_info image_info;
	struct layer_header headers[2];
	struct map_page slots[MAPPED_PAGES * MAP_PAGE_SLOTS];
	uint8_t live_map[LIVE_HEADER_BYTES + 2 * (4096 + 16)];
	char sidecar_text[4096];
	size_t sidecar_bytes;
	uint8_t flags;
	bool sound, sidecar_changed;
} t;

static void require(bool what)
{
	if (!what)
		abort();
}

static void clean_up(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", t.dir);
	require(system(command) == 0);
}

static size_t load(const char *path, uint64_t offset, void *data, size_t bytes)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = pread(fd, data, bytes, (off_t)offset);

	require(fd >= 0 && n >= 0);
	return (size_t)n;
}

static void save(const char *path, uint64_t offset, const void *data, size_t bytes)
{
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	require(fd >= 0 && pwrite(fd, data, bytes, (off_t)offset) == (ssize_t)bytes);
}

/* --- using a disk --- */

static int io_result;
static bool io_busy;

static void io_done(struct store_io *io, int res)
{
	(void)io;
	io_result = res;
	io_busy = false;
}

static void closed(void *arg, int res)
{
	(void)arg;
	io_result = res;
	io_busy = false;
}

static bool is_busy(void *arg)
{
	(void)arg;
	return io_busy;
}

static int submit(struct store_disk *disk, enum store_op op, uint64_t offset, uint64_t bytes,
		  void *data)
{
	struct store_io io = {.op = op,
			      .offset_bytes = offset,
			      .length_bytes = bytes,
			      .data = data,
			      .done = io_done};

	io_busy = true;
	store_submit(disk, &io);
	sim_run(is_busy, NULL);
	return io_result;
}

static struct store_chain chain_of(void)
{
	return (struct store_chain){
		.layer_paths = {t.layer},
		.layer_count = 1,
		.image_path = t.flags & FLAG_IMAGE ? t.image : NULL,
		.image_uuid = t.image_uuid,
		.run_dir = t.flags & FLAG_WRITE_THROUGH ? NULL : t.run_dir,
		.read_only = t.flags & FLAG_READ_ONLY,
	};
}

static struct store_disk *open_disk(void)
{
	struct store_chain chain = chain_of();
	struct store_error err = {""};
	struct store_disk *disk;
	int r = store_open(&chain, &disk, &err);

	require(r <= 0 && (r == 0 || err.text[0] != '\0'));
	/* What a check has mended, or found nothing wrong with, is not damaged. */
	require(!(r == -EBADMSG && t.sound));
	if (r < 0)
		return NULL;
	require(disk->size_bytes > 0 && disk->size_bytes <= LIMIT_DISK_BYTES);
	require(store_attach(disk, sim_ring()) == 0);
	return disk;
}

static void close_disk(struct store_disk *disk)
{
	io_busy = true;
	disk->ops->detach(disk, closed, NULL);
	sim_run(is_busy, NULL);
	require(io_result == 0);
	disk->ops->free(disk);
}

static void walk_extents(struct store_disk *disk)
{
	uint64_t at = 0;

	for (unsigned i = 0; i < 50 && at < disk->size_bytes; i++) {
		uint64_t bytes = 0;
		bool mapped;

		require(disk->ops->extent(disk, at, disk->size_bytes - at, &mapped, &bytes) == 0);
		require(bytes >= STORE_SECTOR_BYTES && bytes <= disk->size_bytes - at);
		at += bytes;
	}
}

static void on_found(void *arg, enum store_finding finding, const char *text)
{
	unsigned *counts = arg;

	require(text[0] != '\0');
	counts[finding]++;
}

static void check_layer(void)
{
	bool repair = t.flags & FLAG_REPAIR;
	unsigned first[STORE_FINDING_LOST + 1] = {0}, again[STORE_FINDING_LOST + 1] = {0};
	struct store_error err = {""};

	if (!(t.flags & (FLAG_CHECK | FLAG_REPAIR)))
		return;
	if (store_layer_check(t.layer, t.run_dir, repair, false, on_found, first, NULL, &err) < 0) {
		require(err.text[0] != '\0');
		return;
	}
	require(first[repair ? STORE_FINDING_MENDABLE : STORE_FINDING_MENDED] == 0);
	require(store_layer_check(t.layer, t.run_dir, repair, false, on_found, again, NULL, &err) ==
		0);
	require(again[STORE_FINDING_MENDED] == 0);
	/* The live map and the image's sidecar may say what they like. */
	t.sound = !(t.flags & FLAG_LIVE) && !t.sidecar_changed &&
		  again[STORE_FINDING_MENDABLE] == 0 && again[STORE_FINDING_LOST] == 0;
}

/* What a disk reads as is the same after its layer and its image have become one. */
static void merge(const uint8_t *expected, uint64_t at, size_t bytes)
{
	static uint8_t back[4 * STORE_BLOCK_BYTES];
	struct store_chain chain = chain_of();
	struct store_error err = {""};
	char path[96];
	store_uuid_t uuid;
	struct store_disk *disk;

	(void)snprintf(path, sizeof(path), "%s.merged", t.layer);
	store_uuid_generate(&uuid);
	require(store_layer_seal(t.layer, "s", &err) == 0);
	require(store_merge(&chain, 0, true, &uuid, path, NULL, &err) == 0);
	chain.layer_paths[0] = path;
	chain.image_path = NULL;
	chain.read_only = true;
	require(store_open(&chain, &disk, &err) == 0);
	require(store_attach(disk, sim_ring()) == 0);
	require(submit(disk, STORE_READ, at, bytes, back) == 0);
	require(memcmp(expected, back, bytes) == 0);
	close_disk(disk);
	require(unlink(path) == 0);
}

static void use_disk(void)
{
	static uint8_t data[4 * STORE_BLOCK_BYTES], back[4 * STORE_BLOCK_BYTES];
	struct store_disk *disk = open_disk();
	struct store_stats stats;
	uint64_t at, bytes = sizeof(data);

	if (!disk)
		return;
	if (bytes > disk->size_bytes)
		bytes = disk->size_bytes;
	at = disk->size_bytes - bytes;
	disk->ops->stats(disk, &stats);
	require(stats.owned_blocks <= disk->size_bytes / STORE_BLOCK_BYTES + 1);
	walk_extents(disk);
	require(submit(disk, STORE_READ, 0, bytes, back) == 0);
	memset(data, 0x5a, sizeof(data));
	if (t.flags & FLAG_READ_ONLY) {
		require(submit(disk, STORE_WRITE, at, STORE_SECTOR_BYTES, data) < 0);
		close_disk(disk);
		return;
	}
	require(submit(disk, STORE_WRITE, at, bytes, data) == 0);
	if (disk->size_bytes >= (uint64_t)2 * STORE_SECTOR_BYTES)
		require(submit(disk, STORE_WRITE, STORE_SECTOR_BYTES, STORE_SECTOR_BYTES, data) ==
			0);
	require(submit(disk, STORE_DISCARD, at, STORE_SECTOR_BYTES, NULL) == 0);
	memset(data, 0, STORE_SECTOR_BYTES);
	require(submit(disk, STORE_FLUSH, 0, 0, NULL) == 0);
	close_disk(disk);
	disk = open_disk();
	require(disk != NULL);
	require(submit(disk, STORE_READ, at, bytes, back) == 0);
	/* The second write hits the end only of a disk this small. */
	if (at >= 2 * STORE_SECTOR_BYTES)
		require(memcmp(data, back, bytes) == 0);
	close_disk(disk);
	merge(back, at, bytes);
}

/* --- the good files --- */

static void make_image(void)
{
	uint8_t block[STORE_BLOCK_BYTES];
	struct store_error err;

	memset(block, 7, sizeof(block));
	save(t.image, 3 * STORE_BLOCK_BYTES, block, sizeof(block));
	require(truncate(t.image, IMAGE_BYTES) == 0);
	store_uuid_parse("11111111-2222-4333-8444-555555555555", &t.image_uuid);
	require(store_image_seal(t.image, &t.image_uuid, "test", NULL, NULL, &t.image_info, &err) ==
		0);
	t.sidecar_bytes = load(t.sidecar, 0, t.sidecar_text, sizeof(t.sidecar_text));
}

static void make_layer(void)
{
	struct store_layer_info info = {.size_bytes = (uint64_t)BLOCKS * STORE_BLOCK_BYTES};
	struct store_error err;

	info.uuid = t.uuid;
	if (t.flags & FLAG_IMAGE) {
		info.parent_kind = STORE_PARENT_IMAGE;
		info.parent_uuid = t.image_uuid;
		info.parent_size_bytes = IMAGE_BYTES;
	}
	(void)unlink(t.layer);
	(void)unlink(t.live);
	require(store_layer_create(t.layer, &info, &err) == 0);
}

/* What flushes leave in the file, and what a kill leaves on the tmpfs. */
static void write_blocks(void)
{
	struct store_disk *disk = open_disk();
	uint8_t block[STORE_BLOCK_BYTES];

	memset(block, 9, sizeof(block));
	require(disk != NULL);
	for (uint64_t i = 0; i < 4; i++) {
		require(submit(disk, STORE_WRITE, i * (BLOCKS / 4) * STORE_BLOCK_BYTES,
			       sizeof(block), block) == 0);
		require(submit(disk, STORE_FLUSH, 0, 0, NULL) == 0);
	}
	require(submit(disk, STORE_WRITE, 5 * STORE_BLOCK_BYTES, sizeof(block), block) == 0);
	disk->ops->free(disk);
	sim_kill();
}

static void set_up(void)
{
	static bool done;

	if (done)
		return;
	done = true;
	log_init("layer_fuzz", LOG_LEVEL_ERROR);
	(void)snprintf(t.dir, sizeof(t.dir), "/dev/shm/layer_fuzz.XXXXXX");
	require(mkdtemp(t.dir) != NULL);
	(void)atexit(clean_up);
	memcpy(t.run_dir, t.dir, sizeof(t.dir));
	strcat(t.run_dir, "/run");
	memcpy(t.layer, t.dir, sizeof(t.dir));
	strcat(t.layer, "/l.cow");
	memcpy(t.image, t.dir, sizeof(t.dir));
	strcat(t.image, "/i.img");
	memcpy(t.sidecar, t.image, sizeof(t.image));
	strcat(t.sidecar, ".json");
	require(mkdir(t.run_dir, 0700) == 0);
	store_uuid_parse("01234567-89ab-4cde-8f01-23456789abcd", &t.uuid);
	map_live_path(t.run_dir, t.uuid.b, t.live, sizeof(t.live));
	make_image();
}

/* --- an input --- */

static void live_header_sum(void)
{
	struct live_header *header = (struct live_header *)(void *)t.live_map;

	le32_put(&header->crc, crc32c(0, header, offsetof(struct live_header, crc)));
}

static void fix_sums(void)
{
	for (unsigned i = 0; i < ARRAY_COUNT(t.headers); i++)
		le32_put(&t.headers[i].crc,
			 crc32c(0, &t.headers[i], offsetof(struct layer_header, crc)));
	for (unsigned i = 0; i < ARRAY_COUNT(t.slots) * MAP_PAGE_SECTORS; i++) {
		struct map_sector *sector =
			&t.slots[i / MAP_PAGE_SECTORS].sectors[i % MAP_PAGE_SECTORS];

		le32_put(&sector->crc, crc32c(0, sector, offsetof(struct map_sector, crc)));
	}
	live_header_sum();
}

static void change(void *target, size_t target_bytes, size_t offset, const uint8_t *data,
		   size_t bytes)
{
	offset %= target_bytes;
	if (bytes > target_bytes - offset)
		bytes = target_bytes - offset;
	memcpy((uint8_t *)target + offset, data, bytes);
}

static uint64_t number(const uint8_t *data, size_t bytes)
{
	le64_t v = {{0}};

	memcpy(v.b, data, bytes < sizeof(v.b) ? bytes : sizeof(v.b));
	return le64_get(v);
}

struct lengths {
	uint64_t layer, live;
};

static void apply(enum target target, size_t offset, const uint8_t *data, size_t bytes,
		  struct lengths *lengths)
{
	switch (target) {
	case TARGET_HEADERS: change(t.headers, sizeof(t.headers), offset, data, bytes); break;
	case TARGET_HEADER_BOTH:
		change(&t.headers[0], sizeof(t.headers[0]), offset, data, bytes);
		change(&t.headers[1], sizeof(t.headers[1]), offset, data, bytes);
		break;
	case TARGET_SLOTS: change(t.slots, sizeof(t.slots), offset, data, bytes); break;
	case TARGET_LIVE: change(t.live_map, sizeof(t.live_map), offset, data, bytes); break;
	case TARGET_LENGTH: lengths->layer = number(data, bytes) % LENGTH_MAX; break;
	case TARGET_LIVE_LENGTH: lengths->live = number(data, bytes) % (1u << 20); break;
	case TARGET_SIDECAR:
		t.sidecar_changed = true;
		save(t.sidecar, 0, data, bytes);
		require(truncate(t.sidecar, (off_t)bytes) == 0);
		break;
	case TARGET_COUNT: break;
	}
}

static void put_files(const struct lengths *lengths)
{
	save(t.layer, 0, t.headers, sizeof(t.headers));
	save(t.layer, LAYER_MAP_OFFSET, t.slots, sizeof(t.slots));
	if (lengths->layer)
		require(truncate(t.layer, (off_t)lengths->layer) == 0);
	if (!(t.flags & FLAG_LIVE)) {
		(void)unlink(t.live);
		return;
	}
	save(t.live, 0, t.live_map, sizeof(t.live_map));
	if (lengths->live)
		require(truncate(t.live, (off_t)lengths->live) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lengths lengths = {0, 0};
	size_t at = 1;

	if (size == 0)
		return 0;
	sim_init(1);
	t.flags = 0;
	set_up();
	t.flags = data[0] & FLAG_IMAGE;
	save(t.sidecar, 0, t.sidecar_text, t.sidecar_bytes);
	require(truncate(t.sidecar, (off_t)t.sidecar_bytes) == 0);
	make_layer();
	write_blocks();
	t.flags = data[0];
	t.sound = t.sidecar_changed = false;
	load(t.layer, 0, t.headers, sizeof(t.headers));
	load(t.layer, LAYER_MAP_OFFSET, t.slots, sizeof(t.slots));
	load(t.live, 0, t.live_map, sizeof(t.live_map));
	for (unsigned i = 0; i < RECORDS_MAX && size - at >= 4; i++) {
		size_t bytes = data[at + 3];

		if (bytes > size - at - 4)
			bytes = size - at - 4;
		apply((enum target)(data[at] % TARGET_COUNT),
		      (size_t)data[at + 1] | (size_t)data[at + 2] << 8, data + at + 4, bytes,
		      &lengths);
		at += 4 + bytes;
	}
	if (t.flags & FLAG_FIX_SUMS)
		fix_sums();
	put_files(&lengths);
	check_layer();
	use_disk();
	sim_done();
	return 0;
}

#ifdef CORPUS_REPLAY
/* Without libFuzzer: runs the corpus in the folder it is given, as a test. */
int main(int argc, char **argv)
{
	static uint8_t input[65536];
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	unsigned count = 0;

	if (!dir) {
		(void)fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
		return 2;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		char path[4096];

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		LLVMFuzzerTestOneInput(input, load(path, 0, input, sizeof(input)));
		count++;
	}
	closedir(dir);
	(void)printf("%u inputs\n", count);
	return count ? 0 : 1;
}
#endif
