/*
 * A disk in memory with a file system on it, for tests: it knows what of it would still be there
 * after the power failed. forget.c is the model, forgetfs.c makes a mount of it.
 *
 * Two states stand side by side. `now` is what a process sees. What is durable changes only by
 * a sync, as POSIX says, and no further:
 *
 *  - pages of 4 KiB and the file's size by fsync and fdatasync of that file;
 *  - mode, owner and time of change by its fsync alone;
 *  - a name (create, link, rename, unlink, mkdir, rmdir) by fsync of its directory alone.
 *
 * When the power fails, each page that was changed since the last sync is as it was at the last
 * sync, or as it is now, or as it was in between, or torn between such versions at sectors; of the
 * names, some first part of what was done since comes through. A seed decides.
 *
 * All functions return 0 (or what they say) or -errno. One thread.
 */
#ifndef LUNROOT_TESTS_CRASH_FORGET_H
#define LUNROOT_TESTS_CRASH_FORGET_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/list.h"

#define FORGET_PAGE_BYTES 4096u
#define FORGET_ROOT       1u

struct forget_disk;
struct forget_chunk;

struct forget_meta {
	uint32_t mode, uid, gid;
	uint64_t size_bytes;
	struct timespec mtime;
};

struct forget_inode {
	uint64_t number;
	char name[NAME_MAX + 1]; /* the last it had, for those who choose files by name */
	struct forget_meta now, durable;
	unsigned links, opens; /* who opens it counts */
	uint64_t page_count;   /* that take space */
	/* A file's pages: those changed since the last sync are also listed. */
	struct forget_chunk **chunks;
	uint64_t chunk_count;
	uint64_t *dirty;
	size_t dirty_count, dirty_room;
	/* A directory's names. */
	struct list entries;
	bool marked;
};

struct forget_entry {
	struct list node;
	uint64_t cookie; /* ascending; where a reader of the directory goes on */
	char name[NAME_MAX + 1];
	struct forget_inode *now, *durable; /* NULL: no such name */
};

enum forget_way { FORGET_MIX, FORGET_DROP, FORGET_KEEP };

struct forget_cut {
	uint64_t seed;
	enum forget_way way;     /* of what was not synced: some, nothing, everything survives */
	uint64_t torn_end_bytes; /* pages of a file that begin before this may be torn */
};

struct forget_disk *forget_new(uint64_t seed);
void forget_free(struct forget_disk *disk);
/* Of what is left to chance from now on. */
void forget_seed(struct forget_disk *disk, uint64_t seed);
/* Another disk: this one as it is now, all of it durable; or, with `cut`, what the power loss
 * leaves of it. */
struct forget_disk *forget_copy(struct forget_disk *disk, const struct forget_cut *cut);
/* 0: no limit. */
void forget_limit_space(struct forget_disk *disk, uint64_t page_count);
void forget_space(const struct forget_disk *disk, uint64_t *ret_total, uint64_t *ret_free);

struct forget_inode *forget_inode(struct forget_disk *disk, uint64_t number);
bool forget_is_directory(const struct forget_inode *inode);
struct forget_inode *forget_lookup(const struct forget_inode *dir, const char *name);
/* `mode` says whether it is a file or a directory. */
int forget_make(struct forget_disk *disk, struct forget_inode *dir, const char *name, uint32_t mode,
		uint32_t uid, uint32_t gid, struct forget_inode **ret_inode);
int forget_link(struct forget_disk *disk, struct forget_inode *inode, struct forget_inode *dir,
		const char *name);
/* A file's name, or an empty directory's. */
int forget_remove(struct forget_disk *disk, struct forget_inode *dir, const char *name,
		  bool directory);
int forget_rename(struct forget_disk *disk, struct forget_inode *from, const char *name,
		  struct forget_inode *to, const char *new_name, bool replace);
void forget_sync_directory(struct forget_disk *disk, struct forget_inode *dir);

/* How many bytes, 0 at the end. */
size_t forget_read(const struct forget_inode *inode, void *data, size_t bytes, uint64_t offset);
/* How many bytes: fewer when the space ends, -ENOSPC when there is none. */
ssize_t forget_write(struct forget_disk *disk, struct forget_inode *inode, const void *data,
		     size_t bytes, uint64_t offset);
int forget_truncate(struct forget_disk *disk, struct forget_inode *inode, uint64_t bytes);
/* As fallocate(2): 0, KEEP_SIZE, or both PUNCH_HOLE and KEEP_SIZE. */
int forget_allocate(struct forget_disk *disk, struct forget_inode *inode, int mode, uint64_t offset,
		    uint64_t bytes);
/* As lseek(2) with SEEK_DATA or SEEK_HOLE. */
off_t forget_seek(const struct forget_inode *inode, uint64_t offset, bool data);
void forget_sync(struct forget_inode *inode, bool data_only);
/* As when write-back fails: some of the dirty pages get to the medium. The others are clean all
 * the same, so no later sync writes them. Some of these are out of the cache at once, the others
 * when the power fails, or the cache is dropped. */
void forget_sync_failed(struct forget_disk *disk, struct forget_inode *inode);
void forget_drop_cache(struct forget_inode *inode);
/* The last one who had it open has closed it. */
void forget_closed(struct forget_disk *disk, struct forget_inode *inode);

#endif
