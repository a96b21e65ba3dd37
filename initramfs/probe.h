/*
 * Which file system of a disk is root. The partition tables (GPT, MBR with its logical partitions)
 * and the superblocks of the file systems a Pi may have as root (ext2/3/4, btrfs, xfs, f2fs,
 * squashfs, erofs) are read by ourselves, a few hundred bytes each: libblkid has no static build
 * that fits an initramfs. What is read is a stranger's: every offset is checked against the disk's
 * size, every loop has an end. Pure but for the reads.
 */
#ifndef LUNROOT_INITRAMFS_PROBE_H
#define LUNROOT_INITRAMFS_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROBE_PARTITIONS_MAX 128

/* Reads exactly `bytes` at `offset` of the disk; 0 or a negative errno. */
typedef int (*probe_read_fn)(void *arg, void *ret_data, size_t bytes, uint64_t offset);

/* A place that may hold a file system. All text is UTF-8; "" is unknown or none. UUIDs as blkid
 * prints them. */
struct probe_volume {
	unsigned partition; /* number as Linux counts (sda1 = 1); 0: the whole disk */
	uint64_t offset_bytes, size_bytes;
	char partuuid[37], partlabel[36 * 4 + 1];
	char fstype[12]; /* as mount(2) wants it */
	char uuid[37], label[257];
};

struct probe_disk {
	unsigned count;
	struct probe_volume volumes[PROBE_PARTITIONS_MAX + 1];
};

/*
 * Finds all volumes of a disk of `size_bytes`, in the order of their partitions. A whole-disk file
 * system is a volume, partition 0; should there be a partition table as well, one of the two is
 * left over from earlier, and both are listed, so that nothing is picked by itself. A place with
 * the marks of several file systems has fstype "". 0 (count may be 0), or the error of a read that
 * failed.
 */
int probe_disk(probe_read_fn read, void *arg, uint64_t size_bytes, struct probe_disk *ret_disk);

struct probe_error {
	char text[320]; /* one sentence: what was looked for, what is there */
};

/*
 * Picks root by `root`: "LABEL=x" "UUID=x" "PARTUUID=x" "PARTLABEL=x" (quotes around x allowed;
 * UUIDs in any letter case), "PART=N" (0: the whole disk), "/dev/sda2", "/dev/mmcblk0p2" and the
 * like (the partition's number is taken, the disk is always ours: an SD card's cmdline.txt goes on
 * to work), or "" (the only volume with a file system that can be root; on a Raspberry Pi OS layout
 * that is the one behind the FAT partition). vfat is never picked by itself. 0 with the volume
 * (points into `disk`); -ENOENT none, -ENOTUNIQ several fit (an error: never guess), -EINVAL `root`
 * can't be understood; with `ret_error`.
 */
int probe_pick(const struct probe_disk *disk, const char *root,
	       const struct probe_volume **ret_volume, struct probe_error *ret_error);

#endif
