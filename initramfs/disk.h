/*
 * The disk of a session: found by its session in sysfs, never by a guess at /dev/sda.
 */
#ifndef LUNROOT_INITRAMFS_DISK_H
#define LUNROOT_INITRAMFS_DISK_H

#include <stdint.h>

#include "initramfs/keeper.h"
#include "initramfs/probe.h"

struct disk {
	char name[32];   /* sda */
	char device[40]; /* /dev/sda */
	uint64_t size_bytes;
};

/*
 * Has the kernel look for this LUN, and for all others of the target (data disks) after it; waits
 * until its device node can be opened. 0; -ENODEV if the target has no such LUN; -ETIMEDOUT if it
 * does not become ready in `timeout_ms`.
 */
int disk_find(const struct keeper_session *session, uint16_t lun, int timeout_ms,
	      struct disk *ret_disk);

/*
 * Gives every disk of the session the root disk's patience: Linux repeats its commands without end
 * when the connection was lost or the target busy. For data disks, whose probing ends later.
 */
void disk_patience_all(const struct keeper_session *session);

/* What volumes it has: 0, or the error of reading it. */
int disk_probe(const struct disk *disk, struct probe_disk *ret_probe);

/*
 * Waits until the device node of a partition (0: of the disk itself) can be opened: 0 with its
 * path, or -ETIMEDOUT.
 */
int disk_partition_node(const struct disk *disk, unsigned partition, int timeout_ms, char *ret_path,
			size_t bytes);

#endif
