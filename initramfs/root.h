/*
 * From a volume to the real system: check, mount, switch.
 */
#ifndef LUNROOT_INITRAMFS_ROOT_H
#define LUNROOT_INITRAMFS_ROOT_H

#include "initramfs/probe.h"
#include "initramfs/settings.h"

#define ROOT_MOUNT "/newroot"
/* A file of the initramfs: the DHCP script leaves routes and names to the real system then. */
#define ROOT_MOUNTED_MARK "/etc/lunroot/root-mounted"

struct root_error {
	char text[320];
};

/* Runs e2fsck, if it is in the initramfs and not switched off. 0, or -EUCLEAN when a person must
 * look. */
int root_check(const struct settings *settings, const char *device, const char *fstype,
	       struct root_error *ret_error);

/* Mounts the device at ROOT_MOUNT, as the settings say; beneath a throw-away layer if asked for. 0
 * or a negative errno. */
int root_mount(const struct settings *settings, const char *device, const char *fstype,
	       struct root_error *ret_error);

/*
 * Whether that root can be switched to: it has the folders and an init. `ret_init` gets the
 * path. On failure unmounts it again. 0, -ENOENT with `ret_error`.
 */
int root_find_init(const struct settings *settings, char *ret_init, size_t bytes,
		   struct root_error *ret_error);

/*
 * Moves the pseudo file systems over, empties the initramfs but for what the keeper and the DHCP
 * client still need, makes ROOT_MOUNT the root and executes init with `argv` (argv[0] is replaced).
 * Returns only on failure, with a negative errno; the kernel panics if the caller then ends.
 */
int root_switch(const char *init, char *argv[]);

#endif
