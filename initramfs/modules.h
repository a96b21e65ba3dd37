/*
 * Kernel modules, loaded in a listed order: whoever made the initramfs knew what depends on what.
 */
#ifndef LUNROOT_INITRAMFS_MODULES_H
#define LUNROOT_INITRAMFS_MODULES_H

#include <stddef.h>

#define MODULES_LIST "/etc/lunroot/modules"

/*
 * Loads all of MODULES_LIST (paths relative to /lib/modules, a line each), with the parameters that
 * the command line has for them (MODULE.PARAMETER=VALUE). One that can't be loaded is complained
 * about, and the next is tried.
 */
void modules_load(const char *cmdline);

/*
 * The parameters for the module of this file, as the kernel takes them; what does not fit is left
 * out. "-" and "_" are the same in a module's name.
 */
void modules_parameters(const char *cmdline, const char *path, char *ret_text, size_t bytes);

#endif
