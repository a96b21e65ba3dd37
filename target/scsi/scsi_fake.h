/*
 * What the tests of this room put beneath it: a disk in memory that completes when told to and
 * fails when told to, and the few functions of the ring that SCSI uses, without a ring.
 */
#ifndef LUNROOT_SCSI_FAKE_H
#define LUNROOT_SCSI_FAKE_H

#include "scsi/scsi.h"

struct fake_disk {
	struct store_disk disk;
	uint8_t *data;   /* of the first `backed_bytes` */
	uint8_t *mapped; /* one byte for each physical block */
	uint64_t backed_bytes;
	struct list queue; /* submitted and not completed */
	unsigned submits, writes, flushes, cancels;
	bool hold;     /* fake_run completes nothing */
	bool fua_seen; /* of the last write or discard */
	bool stubborn; /* what is cancelled completes all the same */
	int fail_res;  /* result of the next I/O of kind fail_op, once; 0: none */
	enum store_op fail_op;
	uint64_t fail_good_bytes; /* what of it could be read */
	int extent_res;           /* of its extents; 0: they can be told */
	bool *freed;              /* set when freed */
};

/* `size_bytes` may be larger than `backed_bytes`: behind that, reads fail with -EIO. */
struct fake_disk *fake_disk_new(uint64_t size_bytes, uint64_t backed_bytes);
/* Completes the oldest I/O; false: there is none. */
bool fake_disk_complete(struct fake_disk *disk);

/* Deferred tasks, and I/O of `disk` (may be NULL) unless it holds, until nothing is left. */
void fake_run(struct fake_disk *disk);
/* Data buffers handed out and not returned. */
unsigned fake_bufs_out(void);
/* How many ring_buf_get may still succeed; -1: all. */
void fake_bufs_limit(int count);

struct ring *fake_ring(void);

#endif
