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
#include "base/mutant.h"
#include "ring/ring.h"
#include "store/sealed.h"
#include "store/store.h"

/* --- on disk: little-endian, every structure with a version and a CRC32C --- */

#define LAYER_MAGIC         "lunroot\n"
#define LAYER_VERSION       2u
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
	uint8_t stands_for[16];
	uint8_t snapshot[64];
	uint8_t node_uuid[16];
	uint8_t lun_uuid[16];
	le32_t lun;
	uint8_t reserved[LAYER_HEADER_BYTES - 296];
	le32_t crc; /* of all before it */
};
static_assert(sizeof(struct layer_header) == LAYER_HEADER_BYTES, "one block");

#define MAP_PAGE_MAGIC        "LRMP"
#define MAP_PAGE_VERSION      2u
#define MAP_PAGE_BYTES        4096u
#define MAP_PAGE_SECTORS      8u
#define MAP_PAGE_SLOTS        2u
#define MAP_SECTOR_BYTES      512u
#define MAP_SECTOR_BITS_BYTES 256u
#define MAP_SECTOR_BLOCKS     (MAP_SECTOR_BITS_BYTES * 8u)
#define MAP_PAGE_BITS_BYTES   (MAP_SECTOR_BITS_BYTES * MAP_PAGE_SECTORS)
#define MAP_PAGE_BLOCKS       (MAP_PAGE_BITS_BYTES * 8u)
/* Up to here a page's sequences are those of the empty pages that it began with. */
#define MAP_SEQUENCE_EMPTY 2u

/* What a power loss leaves either old or new. */
struct map_sector {
	uint8_t magic[4];
	le32_t version;
	uint8_t layer_uuid[16];
	le64_t page;     /* index */
	le64_t sequence; /* the slot is its lowest bit */
	le32_t number;   /* in the slot */
	uint8_t reserved[20];
	uint8_t bits[MAP_SECTOR_BITS_BYTES]; /* bit 0 of byte 0 is the first block */
	uint8_t reserved2[188];
	le32_t crc; /* of all before it */
};
static_assert(sizeof(struct map_sector) == MAP_SECTOR_BYTES, "one sector");

struct map_page {
	struct map_sector sectors[MAP_PAGE_SECTORS];
};
static_assert(sizeof(struct map_page) == MAP_PAGE_BYTES, "one block");

#define LIVE_MAGIC        "lunrlive"
#define LIVE_MAGIC_FAILED "lunrfail" /* in its place: a sync of the layer failed */
#define LIVE_VERSION      2u
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

/* A header's copies as they are. */
struct layer_headers {
	struct layer_header copies[LAYER_HEADER_COPIES];
	bool whole[LAYER_HEADER_COPIES];
	unsigned chosen; /* which counts: the newest whole one */
	uint64_t file_bytes;
};

/* 0 or -errno; `path` is for the message. */
int layer_headers_read(int fd, const char *path, struct layer_headers *ret_headers,
		       struct store_error *err);
/* Both are whole and the same. */
bool layer_headers_agree(const struct layer_headers *headers);
/* What a header with a good checksum may still claim wrongly. NULL: nothing. */
const char *layer_header_complaint(const struct layer_header *header, uint64_t file_bytes);
/*
 * For whoever is about to change a layer that is not open: a writer that was killed may have left
 * what only the page cache has. If it can't be synced nobody may believe its live map any more, and
 * who syncs after us would not be told. `run_dir` may be NULL.
 */
int layer_sync_before(int fd, const struct layer_header *header, const char *run_dir);
/* Writes both copies, durably, so that one of them is whole all the time; `before` is what was
 * read. */
int layer_header_write(int fd, struct layer_header *header, const struct layer_headers *before);
/* The header that counts, checked; whether the other copy agrees is the caller's to tell. */
int layer_header_read(int fd, const char *path, struct layer_header *ret_header, bool *ret_agree,
		      struct store_error *err);
void layer_header_info(const struct layer_header *header, struct store_layer_info *ret_info);
/* Makes a file of the right length, without headers: its descriptor or -errno. */
int layer_file_new(const char *path, uint64_t size_bytes, struct store_error *err);
/* Makes that file a layer: writes its headers and syncs all of it and its folder. */
int layer_headers_new(int fd, const char *path, const struct store_layer_info *info);

/* Fills in the message and returns `error`. */
int store_fail(struct store_error *err, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int fsync_parent(const char *path);

/* --- pages of the durable block map: page.c --- */

enum map_page_state {
	MAP_PAGE_EMPTY, /* never flushed: owns nothing; its slots are to be made */
	MAP_PAGE_GOOD,
	MAP_PAGE_DAMAGED, /* which blocks it owns is not known for certain */
};

struct map_judgement {
	enum map_page_state state;
	unsigned slot;     /* good: the one that counts */
	uint64_t sequence; /* the next write has this and 1 more */
	bool torn;         /* not damaged: a slot was being written when the power failed */
	uint8_t bad[MAP_PAGE_SLOTS]; /* the damaged sectors of each slot, a bit each; if the page
				      * is not damaged they do not count */
};

/* Which of the page's slots is right; both as read from the file. */
void map_page_judge(const struct map_page slots[MAP_PAGE_SLOTS], const uint8_t layer_uuid[16],
		    uint64_t index, struct map_judgement *ret);
/* The blocks from the first to the last that damaged sectors speak of. */
void map_damaged_blocks(uint64_t page, const struct map_judgement *judgement, uint64_t block_count,
			uint64_t *ret_first, uint64_t *ret_last);
/* Makes a slot's content; returns the offset of the slot that this sequence belongs in. */
uint64_t map_page_fill(struct map_page *page, const uint8_t layer_uuid[16], uint64_t index,
		       uint64_t sequence, const uint8_t bits[MAP_PAGE_BITS_BYTES]);
void map_page_bits(const struct map_page *page, uint8_t ret_bits[MAP_PAGE_BITS_BYTES]);
/* The highest bit that is set; 0 if none is. */
unsigned map_bits_last(const uint8_t bits[MAP_PAGE_BITS_BYTES]);
uint64_t map_slot_offset(uint64_t page, uint64_t sequence);

/* --- reading the durable map: load.c --- */

/* What an opener is told of pages that are right all the same. */
struct map_notes {
	uint64_t torn, stale;           /* how many pages */
	uint64_t torn_page, stale_page; /* the last of them */
};

struct map_load {
	int fd;
	const char *path;
	const uint8_t *layer_uuid;
	uint64_t block_count;
	/* A good page, in ascending order; no bit is beyond the end of the disk. 0 or -errno. */
	int (*page)(void *arg, uint64_t index, const struct map_judgement *judgement,
		    const uint8_t bits[MAP_PAGE_BITS_BYTES]);
	void *arg;
	struct store_error *err;
	struct map_notes notes;
};

/* 0 or -errno; of damage (-EBADMSG) with the message. */
int map_load_pages(struct map_load *load);
int map_beyond_end(const struct map_load *load);
void map_notes_tell(const struct map_notes *notes, const char *path);

/* --- the block map of the top --- */

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
	int live_fd;   /* -1: private memory */
	uint8_t *live; /* header, bits and sequences, mapped */
	size_t live_bytes;
	uint64_t *present; /* a bit per 4 KiB of live bits, which have their sequences, too */
	uint64_t *dirty;   /* a bit per durable page */
	uint64_t dirty_count;
	uint64_t *sequence; /* a durable page's last one; 0: none yet */
	uint64_t *slots;    /* a bit per durable page: both its slots have been written */
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
/* The first bit from `at` on, before `end`, that is `value`. */
uint64_t map_scan(const uint64_t *words, uint64_t at, uint64_t end, bool value);
/* How many blocks from `block` on, at most `limit`, have the same bit. */
uint64_t map_run(const struct store_map *map, uint64_t block, uint64_t limit, bool *ret_owned);
/* The bits from this block on (a multiple of MAP_SECTOR_BLOCKS), for so many; NULL: none is set. */
const uint8_t *map_live_bits(const struct store_map *map, uint64_t block);
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
/* The copy is in the file, at least in the page cache. */
void map_snapshot_written(struct store_map *map, uint64_t page, const struct map_page *copy);
/* A sync failed: what the bits say may not be on the medium, and whoever opens the layer next must
 * not believe them. */
void map_distrust(struct store_map *map);
/* The same, of a layer that is not open; `run_dir` may be NULL. */
void map_live_distrust(const char *run_dir, const store_uuid_t *layer_uuid);
void map_mark_dirty(struct store_map *map, uint64_t page);
void map_live_path(const char *run_dir, const uint8_t uuid[16], char *ret_path, size_t bytes);

/* --- the disk over files --- */

struct file_layer {
	int fd;
	uint64_t size_bytes, data_offset;
	struct sealed_map *sealed; /* NULL: the top of the disk, which has `map` */
};

/* Reads in flight for one command: its runs of one owner each. */
#define FILE_RUNS 8

struct file_disk;

struct file_run {
	struct ring_op op;
	struct file_io *io;
	int fd;
	uint8_t *data;
	uint64_t offset, bytes; /* in the file */
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
	uint64_t merge_bytes; /* merging: what is read of the block; the rest is zeros */
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
#ifndef FLUSH_BATCH
#define FLUSH_BATCH 128
#endif

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
	struct store_map map;    /* of the top, unless that is sealed */
	struct sealed_map *left; /* what was in it when the disk was closed */
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

/* Who decides what bytes of a disk are: a layer by its index, or one of these. */
#define OWNER_IMAGE -1
#define OWNER_NONE  -2 /* zeros: there is nothing so low */

struct file_owner {
	int fd;          /* -1: zeros */
	int layer;       /* of zeros: the one that ends before them */
	uint64_t offset; /* in that file */
	uint64_t bytes; /* for how many bytes this holds; whole blocks, unless a file ends in one */
};

/* Who owns the bytes from `at` on (at most `bytes`), looking at the lowest `layer_count` layers
 * and the image. */
struct file_owner file_find_owner(const struct file_disk *disk, unsigned layer_count, uint64_t at,
				  uint64_t bytes);
/* Shortens what an owner has, from the beginning of a block on, to what is all data, or all holes
 * that read as zeros. 0 or -errno. */
int file_data_run(struct file_owner *owner, bool *ret_data);

/* walk.c: reads what an open chain reads as, from one end to the other. */
struct chain_walk {
	int lowest; /* layers (or OWNER_...) below this one are passed over */
	bool whole; /* zeros are pieces like any other */
	/* Whole blocks, but at the end of the disk; `data` NULL: zeros. 0 or -errno with a message.
	 */
	int (*piece)(void *arg, uint64_t at, uint64_t bytes, const uint8_t *data);
	void *arg;
};

/* The next blocks from `at` on, before `end`, that the file may have data for; false: none. */
bool file_data_next(int fd, uint64_t at, uint64_t end, uint64_t *ret_begin, uint64_t *ret_end);
uint64_t file_data_bytes(int fd, uint64_t at, uint64_t end);

int chain_walk(struct store_disk *disk, const struct store_chain *chain,
	       const struct chain_walk *walk, const struct store_work *work,
	       struct store_error *err);

/* work.c */
struct work {
	const struct store_work *work;
	uint64_t due_us; /* when the throttle lets the next step begin */
};

/* `work` may be NULL. */
void work_begin(struct work *w, const struct store_work *work, uint64_t total_bytes);
/* So much more is done: waits as the throttle says. 0 or -ECANCELED. */
int work_step(struct work *w, uint64_t bytes);

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
