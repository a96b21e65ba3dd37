/*
 * What a node's disk is made of: the FAT partition that a Pi's firmware would boot from, and the
 * root file system, as lunroot-init will choose it. Partition tables and superblocks are read by
 * initramfs/probe.h, so that both ends see the same. Blocking.
 */
#ifndef LUNROOT_BOOT_PARTITION_H
#define LUNROOT_BOOT_PARTITION_H

#include "boot/boot_error.h"
#include "initramfs/probe.h"

struct disk;

/* All volumes of the disk. 0, or what reading it gave, with the text. */
int partition_probe(struct disk *disk, struct probe_disk *ret_volumes,
		    struct boot_error *ret_error);

/* The next FAT volume in the table's order after `after` (NULL: the first); NULL: no more. */
const struct probe_volume *partition_next_fat(const struct probe_disk *volumes,
					      const struct probe_volume *after);

/* The root file system by root= ("": the only one that can be root). As probe_pick. */
int partition_root(const struct probe_disk *volumes, const char *root,
		   const struct probe_volume **ret_volume, struct boot_error *ret_error);

/* Whether root= is one that lunroot-init understands, whatever the disk has. */
bool partition_root_understood(const char *root);

#define PARTITION_TEXT_BYTES 160
/* "ext4 on partition 2 (label rootfs)", for people. */
const char *partition_text(const struct probe_volume *volume, char buffer[PARTITION_TEXT_BYTES]);

#endif
