/*
 * Which version a kernel file is, out of the file itself: what `uname -r` will say, and so the
 * folder that its modules are in. Arm64 images (plain, packed by gzip or any other packer, EFI
 * "zboot"), 32-bit zImages and x86 bzImages. Blocking (unpacks some tens of MiB); any thread.
 */
#ifndef LUNROOT_BOOT_KERNEL_VERSION_H
#define LUNROOT_BOOT_KERNEL_VERSION_H

#include <stdbool.h>

#include "base/limits.h"
#include "boot/boot_error.h"

struct blob;

enum kernel_arch { KERNEL_ARM64, KERNEL_ARM32, KERNEL_X86, KERNEL_OTHER };

struct kernel_info {
	enum kernel_arch arch;
	bool efi_only; /* "zboot": an EFI firmware can start it, a Pi's can't */
	char version[LIMIT_KERNEL_VERSION_BYTES +
		     1]; /* letters, digits, ".+_~-"; begins with a digit */
};

/* 0; -EINVAL: this is no Linux kernel, or not one that says its version; -ENOMEM. With the text. */
int kernel_info(const struct blob *kernel, struct kernel_info *ret_info,
		struct boot_error *ret_error);

/* Whether a text can be a version: it becomes the name of a folder. */
bool kernel_version_clean(const char *version);

#endif
