/*
 * The initramfs that belongs to one kernel, made by tools/mkinitramfs from the module tree of the
 * node's own disk: so it has the modules of exactly that kernel, whoever upgrades it and when.
 * Made once for each content (the kernel's version, the list of its modules, the programs that go
 * in) and kept in memory and in the runtime folder; nothing is written elsewhere. Who asks for one
 * that is being made waits for it. Blocking; any worker thread.
 */
#ifndef LUNROOT_BOOT_INITRAMFS_H
#define LUNROOT_BOOT_INITRAMFS_H

#include "boot/boot_error.h"
#include "boot/kernel_version.h"

struct blob;
struct tree;
struct initramfs_maker;

struct initramfs_config {
	const char *tool;       /* mkinitramfs */
	const char *run_folder; /* absolute; the folder "initramfs" in it is the maker's own */
	/* Static programs of each kind of kernel, by enum kernel_arch; NULL: none. */
	struct {
		const char *init, *busybox;
	} programs[KERNEL_OTHER];
	unsigned timeout_ms; /* of one run of the tool; 0: LIMIT_INITRAMFS_MAKE_MS */
};

/* Copies the config. What an earlier process left half made is removed. 0, or a negative errno with
 * the text. */
int initramfs_maker_new(const struct initramfs_config *config, struct initramfs_maker **ret_maker,
			struct boot_error *ret_error);
/* Accepts NULL. When nobody is making one. */
void initramfs_maker_free(struct initramfs_maker *maker);

/*
 * The initramfs for that kernel; `modules` are the files of its /lib/modules/VERSION. Fits
 * view_config.make_initramfs; arg is the maker. 0 and a reference; or a negative errno with the
 * text: -ENOENT (no program for that kind of kernel), -ETIMEDOUT, -EINVAL (the tool says why), ...
 */
int initramfs_make(void *arg, struct tree *modules, const struct kernel_info *kernel,
		   struct blob **ret_blob, struct boot_error *ret_error);

/* How often the tool was run to the end, for tests. */
unsigned initramfs_made_count(struct initramfs_maker *maker);

#endif
