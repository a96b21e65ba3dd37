/*
 * DHCP: the lease that udhcpc got, and the question who keeps it. udhcpc goes on renewing after
 * the switch to the real root, because the kernel's own DHCP never does and the disk hangs on this
 * address; when the real system has started a DHCP client of its own, ours ends.
 */
#ifndef LUNROOT_INITRAMFS_LEASE_H
#define LUNROOT_INITRAMFS_LEASE_H

#include <stdbool.h>
#include <stddef.h>

#define LEASE_FILE "/run/lunroot/lease"

/* What the script of udhcpc wrote, as text; "" is unknown. */
struct lease {
	char interface[16], ip[16], router[16], server[16], hostname[64];
	char root_path[512]; /* option 17 */
};

/* Reads a lease of `bytes` bytes of KEY=VALUE lines; what is too long or unknown is left out. */
void lease_parse(const char *text, size_t bytes, struct lease *ret_lease);
/* From LEASE_FILE: 0, -ENOENT as long as there is none. */
int lease_read(struct lease *ret_lease);

#define LEASE_WATCH_MS 15000

/* The keeper's look at it. */
struct lease_watch {
	int udhcpc_pid, udhcpc_fd; /* -1: none, or it has ended */
	int proc_fd;               /* /proc, from before the switch */
	long long until_ms;
};

/* In the parent, while /proc is mounted; `udhcpc_fd` (a pidfd) may be -1. */
void lease_watch_init(struct lease_watch *watch, int udhcpc_pid, int udhcpc_fd);
/* Whether looking every LEASE_WATCH_MS still makes sense. */
bool lease_watch_due(const struct lease_watch *watch);
/* Ends udhcpc if another process has the DHCP client's port (RFC 2131, 4.1) by now. */
void lease_watch_look(struct lease_watch *watch);

#endif
