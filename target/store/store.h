/*
 * The store: disks made of immutable raw images and copy-on-write layers over them. This header
 * is the seam to SCSI (struct store_disk and struct store_io) and what the control plane needs
 * to make, seal and open the files. It knows blocks and durability; it knows neither SCSI nor
 * the network. docs/format.md has every byte on disk.
 */
#ifndef LUNROOT_STORE_STORE_H
#define LUNROOT_STORE_STORE_H

#include <stdatomic.h>
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
	/* STORE_WRITE, STORE_DISCARD: durable before done; STORE_FLUSH: on a scratch disk, too */
	bool fua;
	uint64_t offset_bytes; /* multiples of STORE_SECTOR_BYTES, within size_bytes (asserted) */
	uint64_t length_bytes; /* > 0 but for STORE_FLUSH */
	void *data;            /* STORE_READ, STORE_WRITE: length_bytes, the caller's until done */
	/*
	 * Called once on the disk's thread, never from inside submit. 0, or -errno:
	 * -ENOSPC   no space for longer than STORE_SPACE_WAIT_MS: BUSY, let the initiator retry
	 * -EAGAIN   the disk is being exchanged, for longer than STORE_GATE_WAIT_MS: the same
	 * -ERANGE   beyond the end of the disk, which was exchanged for a smaller one
	 * -EROFS    the disk is read-only
	 * -EIO and others: the medium failed
	 * -ECANCELED after store_cancel
	 */
	void (*done)(struct store_io *io, int res);
	/* STORE_READ that failed: so many bytes at its beginning could be read all the same, so
	 * that the next one is what could not. The caller has it 0. */
	uint64_t good_bytes;
	/* STORE_WRITE, STORE_DISCARD that ended with -ECANCELED: all but making it durable was
	 * done, and that is what a disk does that gets it again. The caller has it false at first.
	 */
	bool written;
	/* The store's own while in flight. */
	struct list node;
	void *priv;
	struct { /* gate.c's */
		struct store_disk *disk;
		struct list node;
		void (*done)(struct store_io *io, int res);
		uint64_t since_ms;
		int res;
		uint8_t state;
		bool cancelled;
	} gate;
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
	/* No layer owns a block, and none cuts the image off: it reads as the image does (without
	 * one: as zeros) as far as both go, and as zeros from there on. */
	bool untouched;
	bool no_space; /* a write waits for space now */
	/* The medium failed: until reopened, writes, flushes and reads of what the top layer owns
	 * are refused. */
	bool failed;
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
	 * at most `length_bytes`). 0 or -errno; -EAGAIN: it can't be told now.
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
	bool scratch;        /* and not after one: flush and FUA do nothing */
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
	/* A merged layer takes the place of another one, for good: whatever is made over either of
	 * them names that one's UUID. All zero: it takes nobody's place. */
	store_uuid_t stands_for;
	enum store_parent parent_kind;
	store_uuid_t parent_uuid;
	uint64_t parent_size_bytes;
	uint64_t size_bytes;
	bool sealed;
	int64_t created_s; /* since 1970 */
	char label[LIMIT_OBJECT_NAME_BYTES +
		   1]; /* node's name when made: to rebuild the catalogue */
	char snapshot[LIMIT_OBJECT_NAME_BYTES + 1]; /* of a sealed layer: the name it carries */
	/* Whose disk it is, to rebuild the catalogue; all zero: made before headers said so. */
	store_uuid_t node_uuid, lun_uuid;
	uint8_t lun; /* its number */
};

/* Makes an empty layer file (all of info but `sealed` is used; created_s 0: now) in constant time
 * and syncs it and its folder. -EEXIST if the path is taken. */
int store_layer_create(const char *path, const struct store_layer_info *info,
		       struct store_error *err);
int store_layer_info(const char *path, struct store_layer_info *ret_info, struct store_error *err);
/* Marks a layer that is not open as never to change again (the disk was flushed by detach) and as
 * the snapshot of this name ("": of none). A layer that is sealed already, in use or not, gets the
 * name. Durable when it returns. */
int store_layer_seal(const char *path, const char *snapshot, struct store_error *err);
/* Gives a layer that is not open another label, durably. `run_dir` as in struct store_chain. */
int store_layer_label(const char *path, const char *run_dir, const char *label,
		      struct store_error *err);
/* What a layer made over this one names as its parent. */
const store_uuid_t *store_layer_identity(const struct store_layer_info *layer);
/* Whether a file that names this parent was made over this layer, or one that it stands for. */
bool store_layer_is_parent(const struct store_layer_info *layer, const store_uuid_t *parent_uuid);

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

/* --- long work on files; blocking, any thread but a ring's --- */

/* How far it is and what holds it; the pointers may be NULL. */
struct store_work {
	atomic_ullong *done_bytes, *total_bytes;
	const atomic_bool *cancelled; /* set: it ends soon with -ECANCELED */
	uint64_t bytes_per_s;         /* no faster than this; 0: as fast as it can */
};

/*
 * Merges the sealed layers chain->layer_paths[first..layer_count - 1] (and the image beneath them
 * if `with_image`; then `first` is 0) into a new sealed layer `uuid` at `path`. It has the size,
 * label, time and snapshot of the highest and stands for it, and the parent of the lowest, or none
 * with the image. Everything is durable on success, the folder too; the file is gone on failure.
 * The old layers stay as they are and may be in use by readers. `work` may be NULL.
 */
int store_merge(const struct store_chain *chain, unsigned first, bool with_image,
		const store_uuid_t *uuid, const char *path, const struct store_work *work,
		struct store_error *err);
/*
 * The block map of a sealed layer, read before somebody opens the layer: who does it until
 * store_preload_free finds it in memory. For a layer that takes its place in a node that is held
 * still meanwhile.
 */
struct store_preload;
/* 0 or -errno and the reason. Blocking; any thread. */
int store_preload(const char *path, struct store_preload **ret_preload, struct store_error *err);
/* Before and after its file is given another name, by the only one who has the file. Any thread. */
void store_preload_moves(struct store_preload *preload);
void store_preload_moved(struct store_preload *preload);
/* NULL: nothing. Any thread. */
void store_preload_free(struct store_preload *preload);
/*
 * Copies what a chain reads as, a raw disk: into a regular file (emptied first, synced at the
 * end) with holes, into anything else with zeros. Nobody may have the top open for writing. `work`
 * may be NULL.
 */
int store_copy(const struct store_chain *chain, int out_fd, const struct store_work *work,
	       struct store_error *err);

enum store_finding {
	STORE_FINDING_NOTE,     /* worth knowing, nothing is wrong */
	STORE_FINDING_MENDED,   /* was wrong */
	STORE_FINDING_MENDABLE, /* is wrong; repairing mends it */
	STORE_FINDING_LOST,     /* can't be mended from the file itself */
};
/* One finding, one sentence that names the file. */
typedef void store_found(void *arg, enum store_finding finding, const char *text);

/*
 * Checks a layer file by itself: header, map, length, and that its data can be read; whether it
 * fits its parent is store_open's. `repair` mends what can be mended. `in_use`: somebody may
 * be writing to it now, so what is in flux is not judged, and nothing is repaired. `run_dir` as in
 * struct store_chain, for the live map of a writer that was killed. 0 if the check came to its end,
 * whatever it found; or -errno. `work` may be NULL.
 */
int store_layer_check(const char *path, const char *run_dir, bool repair, bool in_use,
		      store_found *found, void *arg, const struct store_work *work,
		      struct store_error *err);
/* The same of an image: its sidecar, its length and its content hash. */
int store_image_check(const char *path, store_found *found, void *arg,
		      const struct store_work *work, struct store_error *err);

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
