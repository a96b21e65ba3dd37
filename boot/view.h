/*
 * What one node is served: a map of names, found as FAT finds them, to bytes in memory. A view is
 * made once from a node's disk (or a folder of this machine), as a whole and before the first file
 * is sent, so that a boot sees one consistent state whatever happens to the disk meanwhile. It
 * never changes; for each boot a cheap one is derived that has that boot's settings in its
 * initramfs.
 *
 * view_make blocks (it reads the disk and makes an initramfs) and belongs on a worker thread; all
 * else never blocks and may be called on any thread.
 */
#ifndef LUNROOT_BOOT_VIEW_H
#define LUNROOT_BOOT_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/boot_error.h"
#include "boot/kernel_version.h"

struct blob;
struct blob_pool;
struct disk;
struct pi_identity;
struct tree;
struct view;

/* The name under which our initramfs is served, and config.txt asks for it. */
#define VIEW_INITRAMFS "lunroot.img"

struct view_config {
	const char *node;             /* its name, for messages */
	const struct pi_identity *pi; /* whose files they are */
	const char *firmware_folder;  /* bootcode.bin, start*.elf, fixup*.dat that the disk lacks;
					 NULL */
	const char *folder;           /* boot files from here and not from the disk; NULL */
	const char *cmdline_extra;    /* words behind the disk's own command line; NULL */
	struct blob_pool *pool;
	/*
	 * Makes the initramfs for a kernel from its module tree (the files of
	 * /lib/modules/VERSION). 0 and a reference, or a negative errno with the text.
	 */
	int (*make_initramfs)(void *arg, struct tree *modules, const struct kernel_info *kernel,
			      struct blob **ret_blob, struct boot_error *ret_error);
	void *make_initramfs_arg;
};

/*
 * Makes the view of a disk, which is only read; NULL is allowed with a folder. Of the disk's files
 * only those are taken that this model's firmware asks for. 0 and a reference, or a negative errno
 * with a text that names the node and what helps.
 */
int view_make(struct disk *disk, const struct view_config *config, struct view **ret_view,
	      struct boot_error *ret_error);

/*
 * The same files, with the settings (the text of node.conf) appended to the initramfs; nothing big
 * is copied. The same settings give the same bytes. 0; -EINVAL: the text is empty or too long;
 * -ENOENT: the view has no initramfs; -ENOMEM.
 */
int view_for_boot(struct view *view, const char *node_conf, struct view **ret_view);

/* The name under which a PC's iPXE finds what it shall do. */
#define VIEW_SCRIPT "boot.ipxe"

/*
 * The same files (`view` may be NULL: none), and a script for iPXE, which has secrets. 0, -ENOMEM
 * or -EFBIG.
 */
int view_for_pc(const struct view *view, const char *script, struct view **ret_view);

struct view *view_ref(struct view *view);
/* Accepts NULL. */
void view_unref(struct view *view);

/* A reference to the file's bytes; NULL: no such file. `path` is clean, without a '/' in front. */
struct blob *view_find(const struct view *view, const char *path);

size_t view_count(const struct view *view);
struct view_file {
	const char *name;
	uint64_t bytes;
};
/* In the order of their names. */
struct view_file view_at(const struct view *view, size_t index);

struct view_about {
	const char *source; /* "the boot partition (vfat on partition 1)" */
	const char *root;   /* "ext4 on partition 2 (label rootfs)"; "": none was looked for */
	const char *kernel; /* the name it is served by */
	const char *kernel_version; /* "" if it is no Linux kernel */
	uint64_t bytes;             /* of all files */
	bool by_serial;             /* another board of this model may get another view */
	/* Files that were there and are not served because they would lead a Pi elsewhere. */
	const char *const *hidden;
	size_t hidden_count;
	/* Sentences for people: what was changed, what was damaged. */
	const char *const *notes;
	size_t note_count;
};
/* Lives as long as the view. */
const struct view_about *view_about(const struct view *view);

#endif
