/*
 * Folders of an ext2, ext3 or ext4 file system within a disk, read by libext2fs: the root file
 * system of a node. Read-only, and the journal is not replayed: what the node wrote in its last
 * half minute before a power cut may be missing here until it has been mounted again. Nothing is
 * lost by it, since lunroot-init mounts the same disk and the kernel replays the journal then; but
 * a kernel package that was being installed just then is seen half. Blocking; one thread at a time.
 */
#ifndef LUNROOT_BOOT_EXT_H
#define LUNROOT_BOOT_EXT_H

#include "boot/tree.h"

struct disk;
struct ext;

/* The file system at `offset` of the disk, which must outlive it. 0, or a negative errno with the
 * text: -EUCLEAN (none, or damaged), -ENOTSUP (features that libext2fs does not know), ... */
int ext_open(struct disk *disk, uint64_t offset, uint64_t bytes, struct ext **ret_ext,
	     struct boot_error *ret_error);
/* Accepts NULL. After the trees that were made of it. */
void ext_free(struct ext *ext);

/* Whether it was not unmounted properly, so that what is seen may be half a minute old. */
bool ext_needs_recovery(const struct ext *ext);

/*
 * The files below an absolute path; symbolic links on the way to it are followed, those below it
 * only to files. 0; -ENOENT (no text): no such folder; or a negative errno with the text.
 */
int ext_tree(struct ext *ext, const char *folder, struct tree **ret_tree,
	     struct boot_error *ret_error);

/* Whether there is such a file or folder; symbolic links are followed. */
bool ext_has(struct ext *ext, const char *path);

/* The target of a symbolic link, cut off to `capacity`; -ENOENT, -EINVAL (no link), ... Without
 * text. */
int ext_link(struct ext *ext, const char *path, char *ret_target, size_t capacity);

#endif
