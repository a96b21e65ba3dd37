/*
 * Where the programs are that go into an initramfs, and the one that packs it: seen from lunbootd
 * itself, so that a tree can be moved, in a build folder or installed.
 */
#ifndef LUNROOT_BOOT_PROGRAMS_H
#define LUNROOT_BOOT_PROGRAMS_H

#include <limits.h>

#include "kernel_version.h"

struct programs {
	char mkinitramfs[PATH_MAX];
	/* By kind of kernel; "": there is none. */
	char init[KERNEL_OTHER][PATH_MAX], busybox[KERNEL_OTHER][PATH_MAX];
};

/* `dir`: where to look, "" for the usual places. What is not found is "". Any thread. */
void programs_find(const char *dir, struct programs *ret_programs);

#endif
