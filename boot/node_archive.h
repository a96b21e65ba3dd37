/*
 * A node's settings as an archive that the kernel unpacks behind another one:
 * etc/lunroot/node.conf, mode 0600, in the kernel's "newc" format
 * (Documentation/driver-api/early-userspace/ buffer-format.rst), packed by gzip. As
 * `tools/mkinitramfs --node-conf` makes it. Any thread.
 */
#ifndef LUNROOT_BOOT_NODE_ARCHIVE_H
#define LUNROOT_BOOT_NODE_ARCHIVE_H

struct blob;

/* The same text gives the same bytes. 0; -EINVAL: empty, or more than lunroot-init reads; -ENOMEM.
 */
int node_archive(const char *text, struct blob **ret_blob);

#endif
