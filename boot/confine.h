/*
 * What lunbootd may still do once it is under way: send and receive as it must, read files, write
 * into its runtime directory, and nothing else. Its children (mkinitramfs) may less.
 */
#ifndef LUNROOT_BOOT_CONFINE_H
#define LUNROOT_BOOT_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Started as root: whom to become, into `user` of `bytes`. One that is named must exist. Else it is
 * the owner of lunrootd's socket, which he can open in any case and root without its rights can
 * not; if that is root too, or not to be known, "" stays, and the log is warned. 0, or -errno after
 * the log was told.
 */
int confine_choose(char *user, size_t bytes, const char *socket_path);

/*
 * Becomes `user` ("": stays who it is), keeps of root's rights only those over raw packets, the
 * neighbour table and, with `low_ports`, ports below 1024 that are opened later, and lets the
 * process write below `run_dir` alone. Before any thread is started; it can't be taken back. 0, or
 * -errno after the log was told. A kernel without Landlock is told of and no error; one before 6.2
 * lets files elsewhere be truncated.
 */
int confine(const char *user, const char *run_dir, bool low_ports);

#endif
