/*
 * The store: disks made of immutable raw images and copy-on-write layers over them. This header
 * is the seam to SCSI (struct store_disk and struct store_io) and what the control plane needs
 * to make, seal and open the files. It knows blocks and durability; it knows neither SCSI nor
 * the network. docs/format.md has every byte on disk.
 */
#ifndef LUNROOT_STORE_STORE_H
#define LUNROOT_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/list.h"

struct ring;

#define STORE_SECTOR_BYTES 512u  /* logical block: every offset and length is a multiple */
#define STORE_BLOCK_BYTES  4096u /* physical block: what copy-on-write owns */

/* Wide enough for one sentence with a path and its cure. */
#define STORE_ERROR_BYTES 512

struct store_error {
	char text[STORE_ERROR_BYTES];
};

/* --- the seam: one open disk, served by one ring thread --- */

enum store_op {
	STORE_READ,
	STORE_WRITE,
	STORE_DISCARD, /* gives whole blocks back; they read as zeros; parts of blocks are zeroed */
	STORE_FLUSH,   /* all that was acknowledged before the submit survives a power loss */
};

struct store_io {
	enum store_op op;
	bool fua;              /* STORE_WRITE, STORE_DISCARD: durable before done */
	uint64_t offset_bytes; /* multiples of STORE_SECTOR_BYTES, within size_bytes (asserted) */
	uint64_t length_bytes; /* > 0 but for STORE_FLUSH */
	void *data;            /* STORE_READ, STORE_WRITE: length_bytes, the caller's until done */
	/*
	 * Called once on the disk's thread, never from inside submit. 0, or -errno:
	 * -ENOSPC   no space for longer than STORE_SPACE_WAIT_MS: BUSY, let the initiator retry
	 * -EROFS    the disk is read-only
	 * -EIO and others: the medium failed
	 * -ECANCELED after store_cancel
	 */
	void (*done)(struct store_io *io, int res);
	/* The store's own while in flight. */
	struct list node;
	void *priv;
};

/* How long a write waits for space before -ENOSPC; Linux gives a command 30 s. */
#define STORE_SPACE_WAIT_MS 15000

struct store_stats {
	uint64_t reads, read_bytes, writes, written_bytes, discards, discarded_bytes;
	uint64_t flushes;      /* asked for */
	uint64_t flush_rounds; /* done: flushes that arrived together share one */
	uint64_t flush_us_total, flush_us_max;
	uint64_t copy_ups;     /* blocks merged with their parent's content */
	uint64_t owned_blocks; /* of the top layer */
	bool no_space;         /* a write waits for space now */
	bool failed; /* the medium failed: writes and flushes are refused until reopened */
};

struct store_disk;

struct store_disk_ops {
	void (*submit)(struct store_disk *disk, struct store_io *io);
	/* Ends `io` early with -ECANCELED if it only waits (for space, or behind another I/O);
	 * otherwise it completes as it would have. */
	void (*cancel)(struct store_disk *disk, struct store_io *io);
	/*
	 * What GET LBA STATUS tells: whether the bytes from `offset_bytes` on are allocated
	 * anywhere in the chain, and for how many the answer is the same (at least one sector,
	 * at most `length_bytes`). 0 or -errno.
	 */
	int (*extent)(struct store_disk *disk, uint64_t offset_bytes, uint64_t length_bytes,
		      bool *ret_mapped, uint64_t *ret_bytes);
	void (*stats)(struct store_disk *disk, struct store_stats *ret_stats);
	/* Ring thread, no I/O in flight: flushes, then calls closed(arg, res) once from the loop.
	 * The disk may be freed after that. */
	void (*detach)(struct store_disk *disk, void (*closed)(void *arg, int res), void *arg);
	/* Any thread, detached or never attached. */
	void (*free)(struct store_disk *disk);
};

struct store_disk {
	const struct store_disk_ops *ops;
	uint64_t size_bytes; /* a multiple of STORE_BLOCK_BYTES or, for images, of sectors */
	bool read_only;
	bool volatile_cache; /* WCE: written data is durable only after a flush */
};

static inline void store_submit(struct store_disk *disk, struct store_io *io)
{
	disk->ops->submit(disk, io);
}

/* --- files; blocking, control thread --- */

typedef struct {
	uint8_t b[16];
} store_uuid_t;

enum store_parent { STORE_PARENT_NONE, STORE_PARENT_IMAGE, STORE_PARENT_LAYER };

/*
 * An image is a plain sparse raw file, never changed again; a sidecar PATH.json beside it
 * carries what the raw file can't: UUID, size, modification time and content hash.
 */
struct store_image_info {
	store_uuid_t uuid;
	uint64_t size_bytes;
	uint8_t sha256[32]; /* content hash, docs/format.md */
	int64_t mtime_ns;
	char content[64]; /* what import found: "mbr: fat32, ext4" or "ext4 \"root\"" */
};

/* Makes `path` an image: hashes it, makes it read-only, writes the sidecar, syncs both and their
 * folder. `progress` (may be NULL) is called with bytes done. 0 or -errno and the reason. */
int store_image_seal(const char *path, const store_uuid_t *uuid, const char *content,
		     void (*progress)(void *arg, uint64_t bytes), void *arg,
		     struct store_image_info *ret_info, struct store_error *err);
int store_image_info(const char *path, struct store_image_info *ret_info, struct store_error *err);

struct store_layer_info {
	store_uuid_t uuid;
	enum store_parent parent_kind;
	store_uuid_t parent_uuid;
	uint64_t parent_size_bytes;
	uint64_t size_bytes;
	bool sealed;
	char label[LIMIT_OBJECT_NAME_BYTES +
		   1]; /* node's name when made: to rebuild the catalogue */
};

/* Makes an empty layer file (all of info but `sealed` is used) in constant time and syncs it and
 * its folder. -EEXIST if the path is taken. */
int store_layer_create(const char *path, const struct store_layer_info *info,
		       struct store_error *err);
int store_layer_info(const char *path, struct store_layer_info *ret_info, struct store_error *err);
/* Marks a layer that is not open as never to change again (the disk was flushed by detach). */
int store_layer_seal(const char *path, struct store_error *err);

struct store_chain {
	const char *image_path;  /* NULL: the lowest layer has no parent */
	store_uuid_t image_uuid; /* what the lowest layer must name as its parent */
	const char *
		layer_paths[LIMIT_CHAIN_LAYERS]; /* lowest first; none: the bare image, read-only */
	unsigned layer_count;
	const char *run_dir; /* live maps; NULL or not tmpfs: write-through */
	bool read_only;
	bool scratch; /* flush does nothing */
};

/*
 * Opens a disk over files, checking that each parent is the one its child was made over and is
 * unchanged and whole, that nothing below the top is writable, and that nobody else has the top
 * open (lock). Blocking; any thread. On failure `err` says which file, what is wrong and the cure.
 */
int store_open(const struct store_chain *chain, struct store_disk **ret_disk,
	       struct store_error *err);
/* Ring thread, once, before the first submit: from now on `ring` serves the disk. 0 or -errno. */
int store_attach(struct store_disk *disk, struct ring *ring);
/* After the top layer is gone for good: removes its live map. */
void store_live_map_remove(const char *run_dir, const store_uuid_t *layer_uuid);
/* Whether `dir` is on tmpfs and so dies with the power, as live maps must. */
bool store_dir_is_tmpfs(const char *dir);

void store_uuid_generate(store_uuid_t *ret_uuid);
#define STORE_UUID_TEXT_BYTES 37
void store_uuid_format(const store_uuid_t *uuid, char ret_text[STORE_UUID_TEXT_BYTES]);
/* false if it is no UUID. */
bool store_uuid_parse(const char *text, store_uuid_t *ret_uuid);

/* --- other backings of the same seam, for tests --- */

/* All in memory; completions are queued and run by store_mem_run or, once attached, the ring. */
int store_mem_new(uint64_t size_bytes, struct store_disk **ret_disk);
/* Runs what completed; returns how many. For tests without a ring. */
unsigned store_mem_run(struct store_disk *disk);

#endif
