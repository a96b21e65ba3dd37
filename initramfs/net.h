/*
 * The wired network: an interface with a carrier, and an address for it.
 */
#ifndef LUNROOT_INITRAMFS_NET_H
#define LUNROOT_INITRAMFS_NET_H

#include <stdbool.h>
#include <stddef.h>

#include "initramfs/ip_setting.h"
#include "initramfs/lease.h"

struct net {
	char interface[16];
	int udhcpc_pid, udhcpc_fd; /* a pidfd; -1 when no DHCP client was started */
	bool configured;           /* by the kernel (ip=dhcp with IP_PNP) or as ip= says */
};

/*
 * Waits until there is a wired interface with a carrier (the one named in `interface`, unless ""),
 * and says every 30 seconds what is missing. Returns when there is one, or after `timeout_ms`
 * with -ETIMEDOUT.
 */
int net_wait_carrier(struct net *net, const char *interface, int timeout_ms);

/*
 * Begins to get it an address: takes the kernel's, sets the one of `ip`, or starts udhcpc, which
 * goes on for ever. 0 or a negative errno.
 */
int net_configure(struct net *net, const struct ip_setting *ip, const char *hostname);

/* The interface's IPv4 address as text; "" for none. */
void net_address(const struct net *net, char *ret_text, size_t bytes);

#endif
