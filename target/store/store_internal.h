/*
 * What the files of this room share: the layout of a layer file, the block map, and the disk
 * over a chain of files. docs/format.md is the specification of the first.
 */
#ifndef LUNROOT_STORE_INTERNAL_H
#define LUNROOT_STORE_INTERNAL_H

#include <assert.h>
#include <stddef.h>

#include "base/byteorder.h"
#include "base/file.h"
#include "ring/ring.h"
#include "store/store.h"

/* --- on disk: little-endian, every structure with a version and a CRC32C --- */

#define LAYER_MAGIC         "lunroot\n"
#define LAYER_VERSION       1u
#define LAYER_HEADER_BYTES  4096u
#define LAYER_HEADER_COPIES 2u
#define LAYER_MAP_OFFSET    (LAYER_HEADER_BYTES * LAYER_HEADER_COPIES)
#define LAYER_DATA_ALIGN    (1u << 20)
#define LAYER_FLAG_SEALED   1u

struct layer_header {
	uint8_t magic[8];
	le32_t version;
	le32_t flags;
	le64_t sequence; /* the valid copy with the higher one counts */
	uint8_t uuid[16];
	uint8_t parent_uuid[16];
	le32_t parent_kind;
	le32_t block_bytes;
	le64_t parent_size_bytes;
	le64_t size_bytes;
	le64_t map_offset;
	le32_t map_page_blocks;
	le32_t map_page_bytes;
	le64_t data_offset;
	le64_t created_s; /* since 1970 */
	uint8_t label[64];
	uint8_t reserved[LAYER_HEADER_BYTES - 180];
	le32_t crc; /* of all before it */
};
static_assert(sizeof(struct layer_header) == LAYER_HEADER_BYTES, "one block");

#define MAP_PAGE_MAGIC      "LRMP"
#define MAP_PAGE_BYTES      4096u
#define MAP_PAGE_BITS_BYTES 2048u
#define MAP_PAGE_BLOCKS     (MAP_PAGE_BITS_BYTES * 8u)
#define MAP_PAGE_SLOTS      2u

struct map_page {
	uint8_t magic[4];
	le32_t version;
	uint8_t layer_uuid[16];
	le64_t index;
	le32_t sequence; /* serial number arithmetic; the slot is its lowest bit */
	le32_t crc;      /* of the whole page with this field zero */
	uint8_t reserved[24];
	uint8_t bits[MAP_PAGE_BITS_BYTES]; /* bit 0 of byte 0 is the first block */
	uint8_t reserved2[MAP_PAGE_BYTES - 64 - MAP_PAGE_BITS_BYTES];
};
static_assert(sizeof(struct map_page) == MAP_PAGE_BYTES, "one block");

#define LIVE_MAGIC        "lunrlive"
#define LIVE_VERSION      1u
#define LIVE_HEADER_BYTES 4096u

struct live_header {
	uint8_t magic[8];
	le32_t version;
	uint8_t layer_uuid[16];
	le64_t block_count;
	uint8_t boot_id[36];
	le64_t device, inode; /* of the layer file */
	uint8_t reserved[LIVE_HEADER_BYTES - 92];
	le32_t crc;
};
static_assert(sizeof(struct live_header) == LIVE_HEADER_BYTES, "one block");

/* A layer's geometry, checked against the file's size. */
struct layer_layout {
	uint64_t block_count, page_count, map_offset, data_offset, file_bytes;
};

struct layer_layout layer_layout(uint64_t size_bytes);
/* Reads and checks both copies. 0 or -errno; `path` is for the message. */
int layer_header_read(int fd, const char *path, struct layer_header *ret_header,
		      struct store_error *err);
int layer_header_info(const struct layer_header *header, struct store_layer_info *ret_info);

/* Fills in the message and returns `error`. */
int store_fail(struct store_error *err, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int fsync_parent(const char *path);

/* --- the block map --- */

/*
 * Invariants:
 * 1. A bit that is set is in the live map before the write that set it is acknowledged, and
 *    after its data reached the page cache.
 * 2. Memory of a live page is touched only when its `present` bit is set; then the tmpfs has
 *    given its page, so an access can't fail.
 * 3. A durable page whose bits differ from the disk has its `dirty` bit set.
 */
struct store_map {
	uint64_t block_count, page_count;
	uint8_t layer_uuid[16];
	uint64_t map_offset;
	int live_fd;   /* -1: private memory */
	uint8_t *live; /* header and bits, mapped */
	size_t live_bytes;
	uint64_t *present; /* a bit per 4 KiB of live bits */
	uint64_t *dirty;   /* a bit per durable page */
	uint64_t dirty_count;
	uint32_t *sequence; /* of the durable page that is valid; 0: none yet */
	uint64_t *slots;    /* a bit per durable page: its two slots have their space */
	int layer_fd;       /* borrowed */
	uint64_t owned_count;
};

/* Loads the durable map of the open layer file; `run_dir` NULL: no live map, bits in memory.
 * Otherwise a live map of this boot and file is taken over, or made anew; a reader only looks
 * into it. */
int map_open(struct store_map *map, int fd, const char *path, const struct layer_header *header,
	     const char *run_dir, bool writable, struct store_error *err);
void map_close(struct store_map *map);
bool map_owns(const struct store_map *map, uint64_t block);
/* How many blocks from `block` on, at most `limit`, have the same bit. */
uint64_t map_run(const struct store_map *map, uint64_t block, uint64_t limit, bool *ret_owned);
/* Makes sure that map_set of these blocks can't fail. 0, -ENOSPC or -ENOMEM. */
int map_reserve(struct store_map *map, uint64_t first, uint64_t count);
void map_set(struct store_map *map, uint64_t first, uint64_t count);
/* The next dirty page from `from` on; page_count: none. */
uint64_t map_next_dirty(const struct store_map *map, uint64_t from);
/* A copy of the page as it is now, to be written at ret_offset; no longer dirty. */
void map_snapshot(struct store_map *map, uint64_t page, struct map_page *ret_page,
		  uint64_t *ret_offset);
/* The copy could not be written for want of space: its slot is written again another time. */
void map_snapshot_failed(struct store_map *map, uint64_t page, const struct map_page *copy);
void map_mark_dirty(struct store_map *map, uint64_t page);
void map_live_path(const char *run_dir, const uint8_t uuid[16], char *ret_path, size_t bytes);

/* --- the disk over files --- */

struct file_layer {
	int fd;
	uint64_t size_bytes, data_offset;
	struct store_map map;
};

/* Reads in flight for one command: its runs of one owner each. */
#define FILE_RUNS 8

struct file_disk;

struct file_run {
	struct ring_op op;
	struct file_io *io;
	int fd;
	uint8_t *data;
	uint64_t offset, bytes, end; /* in the file; at `end` the file may stop: zeros */
	bool busy;
};

enum file_step {
	STEP_HEAD, /* first block, if only a part of it is written */
	STEP_MIDDLE,
	STEP_TAIL,
	STEP_DURABLE, /* FUA: waits for a flush round */
	STEP_DONE,
};

struct file_io {
	struct list node; /* disk->active, waiting or flushes */
	struct list all;  /* disk->all */
	struct file_disk *disk;
	struct store_io *io;
	struct ring_task finish;
	int res;
	uint64_t first_block, last_block; /* what it locks, inclusive */
	/* reads */
	struct file_run runs[FILE_RUNS];
	unsigned runs_busy;
	uint64_t position; /* bytes of the command that are dealt with or under way */
	/* writes and discards */
	enum file_step step;
	struct ring_op op;
	uint64_t op_offset, op_bytes;
	const uint8_t *op_data;
	uint64_t op_end; /* merging: the file read may end there */
	int op_fd;
	bool merging, zeroing, locked, holds_space;
	uint64_t submitted_ms;
	uint64_t space_since_ms; /* when there was none for it; 0: there always was */
	uint8_t *bounce;         /* a block, while a part of it is merged */
};

/* One map page on its way to the layer file. */
struct flush_write {
	struct ring_op op;
	struct file_disk *disk;
	struct map_page page;
	uint64_t index, offset;
};

/* Pages a batch: a sync of the data goes before each, so not too few; 512 KiB of memory. */
#define FLUSH_BATCH 128

struct file_flush {
	struct list waiting, running; /* file_io of flushes, FUA writes and discards */
	bool busy;
	struct ring_op sync_op;
	uint64_t page;              /* the next to look at in this round */
	struct flush_write *writes; /* pages of the present batch; allocated at the first flush */
	unsigned batch_count, writes_busy;
	bool data_dirty; /* written since the last sync began */
	int res;
	struct ring_task start;
	uint64_t started_us;
};

struct file_disk {
	struct store_disk disk;
	struct ring *ring;
	char name[LIMIT_PATH_BYTES];
	char live_path[LIMIT_PATH_BYTES];
	int image_fd;
	uint64_t image_bytes;
	struct file_layer layers[LIMIT_CHAIN_LAYERS];
	unsigned layer_count;
	bool scratch, write_through, failed, punch_unsupported;
	struct list active, waiting; /* writes and discards: file_io.node */
	struct list starved;         /* store_io.node: there was no memory for them */
	struct ring_task starve;
	struct ring_timer space_timer;
	uint64_t no_space_ms; /* when there was none last */
	struct list all;      /* file_io, in flight or spare */
	struct list spare;    /* those to use again */
	unsigned spare_count;
	struct file_flush flush;
	struct store_stats stats;
	struct store_io detach_io;
	void (*closed)(void *arg, int res);
	void *closed_arg;
};

/* How long a layer's lock is waited for; tests shorten it. */
extern unsigned store_lock_wait_ms;

/* disk.c: what an open disk begins with; nothing is open and no memory taken. */
void file_disk_init(struct file_disk *disk);

/* flush.c */
void flush_init(struct file_disk *disk);
/* Waits for a round that begins after now; then it is done. */
void flush_request(struct file_disk *disk, struct file_io *io);
/* Space may have come back: flushes that wait for it try again. */
void flush_retry(struct file_disk *disk);
/* The file system is full: raises the alarm and lets what waits try again in a while. False: it
 * can't, for want of memory. */
bool file_disk_no_space(struct file_disk *disk);
/* Something was written or synced, for which there had to be space or not: the alarm may end. */
void file_disk_succeeded(struct file_disk *disk, bool needed_space);
void file_disk_fail(struct file_disk *disk, const char *what, int error);
void file_io_finish_later(struct file_io *io, int res);
struct file_io *file_io_get(struct file_disk *disk, struct store_io *io);

static inline struct file_layer *file_top(struct file_disk *disk)
{
	return disk->layer_count ? &disk->layers[disk->layer_count - 1] : NULL;
}

#endif
