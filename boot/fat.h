/*
 * The FAT file system of a boot partition (FAT12, FAT16, FAT32 with long names), read-only. What is
 * read is a node's own and may be anything: every number is checked against the volume, every chain
 * has an end. After Microsoft's "FAT32 File System Specification" 1.03 and what Linux accepts.
 */
#ifndef LUNROOT_BOOT_FAT_H
#define LUNROOT_BOOT_FAT_H

#include "boot/tree.h"

struct disk;

/*
 * All files of the file system at `offset` of the disk, which must outlive the tree. What is
 * damaged in a folder below the root ends its list; what is damaged in a file is said when it is
 * read (-EUCLEAN). 0; -EUCLEAN: no FAT file system, or the root folder can't be read; -E2BIG;
 * -ENOMEM; or what reading the disk gave. With the text.
 */
int fat_tree(struct disk *disk, uint64_t offset, uint64_t bytes, struct tree **ret_tree,
	     struct boot_error *ret_error);

#endif
