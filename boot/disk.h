/*
 * A disk to be read: an image file, or a node's LUN through lunrootd's API. Small reads, of which
 * file systems make many, go through a cache of 16 KiB pieces, since each one from the API costs a
 * round trip. Blocking; one thread at a time.
 */
#ifndef LUNROOT_BOOT_DISK_H
#define LUNROOT_BOOT_DISK_H

#include <stddef.h>
#include <stdint.h>

struct disk;

struct disk_ops {
	/* All of it, or a negative errno; never past the disk's end, and at most
	 * DISK_READ_BYTES_MAX. */
	int (*read)(void *arg, void *to, size_t bytes, uint64_t offset);
	/* May be NULL. */
	void (*free)(void *arg);
};

#define DISK_READ_BYTES_MAX (4u << 20) /* what the API gives in one answer */

/* A disk of `bytes` that `ops` reads. `arg` becomes its own, also in failure. NULL: no memory. */
struct disk *disk_new(const struct disk_ops *ops, void *arg, uint64_t bytes);

/* An image file or a block device. 0 or a negative errno. */
int disk_open_file(const char *path, struct disk **ret_disk);

/* Accepts NULL. */
void disk_free(struct disk *disk);

uint64_t disk_bytes(const struct disk *disk);

/* All of it, or a negative errno: -EIO past the end, else what the reader says. */
int disk_read(struct disk *disk, void *to, size_t bytes, uint64_t offset);

/* How much was asked of the reader so far, for tests and logs. */
struct disk_counts {
	uint64_t reads, bytes;
};
struct disk_counts disk_counts(const struct disk *disk);

#endif
