/*
 * The making of one initramfs, without the cache in memory.
 */
#ifndef LUNROOT_BOOT_INITRAMFS_INTERNAL_H
#define LUNROOT_BOOT_INITRAMFS_INTERNAL_H

#include <stdint.h>

#include "boot/initramfs.h"

#define INITRAMFS_KEY_BYTES 32

struct initramfs_paths {
	char *tool;
	char *dhcp;   /* the script that the tool will take */
	char *folder; /* the maker's own, in the runtime folder */
	struct {
		char *init, *busybox;
	} programs[KERNEL_OTHER];
	unsigned timeout_ms;
};

/* Makes the folder and clears it of half-made things. initramfs_paths_done in either case. */
int initramfs_paths_init(struct initramfs_paths *paths, const struct initramfs_config *config,
			 struct boot_error *ret_error);
void initramfs_paths_done(struct initramfs_paths *paths);

/* What the result depends on, as one number. */
int initramfs_key(const struct initramfs_paths *paths, struct tree *modules,
		  const struct kernel_info *kernel, uint8_t ret_key[INITRAMFS_KEY_BYTES],
		  struct boot_error *ret_error);

/* One that was made earlier, out of the runtime folder; any negative errno if there is none. */
int initramfs_load(const struct initramfs_paths *paths, const uint8_t key[INITRAMFS_KEY_BYTES],
		   struct blob **ret_blob);

/* Makes it and leaves it there. */
int initramfs_build(const struct initramfs_paths *paths, struct tree *modules,
		    const struct kernel_info *kernel, const uint8_t key[INITRAMFS_KEY_BYTES],
		    struct blob **ret_blob, struct boot_error *ret_error);

/* --- initramfs_run.c --- */

/*
 * Runs a program (argv[0] is its path) with `folder` for its temporary files, its standard output
 * into the file `output`, at most timeout_ms. 0; -ETIMEDOUT; -EINVAL: it ended with another status,
 * and the text is what it said last; or a negative errno. No file of its may grow beyond
 * LIMIT_INITRAMFS_MODULES_BYTES.
 */
int initramfs_run(char *const argv[], const char *folder, const char *output, unsigned timeout_ms,
		  struct boot_error *ret_error);

#endif
