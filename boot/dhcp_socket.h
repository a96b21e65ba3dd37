/*
 * The DHCP engine on real interfaces. Everything is received through packet sockets, before the
 * firewall and beside any DHCP server this machine may run: requests of boards, answers of others,
 * the switch's spanning tree. In proxy mode UDP port 67 is therefore left alone; in known mode it
 * is held on each interface. Answers to boards without an address leave as frames; the rest by UDP
 * from the interface and address that were asked.
 *
 * Interfaces may come, go and change their addresses at any time.
 *
 * Needs CAP_NET_RAW and, in known mode only, CAP_NET_BIND_SERVICE, both also later (an interface
 * comes back); makes use of CAP_NET_ADMIN (neighbour entries for Pis up to the 3), without which it
 * goes on.
 */
#ifndef LUNROOT_BOOT_DHCP_SOCKET_H
#define LUNROOT_BOOT_DHCP_SOCKET_H

#include "dhcp.h"

struct event_base;
struct dhcp_socket;

/*
 * Sets the engine's io and starts at once. `names`: the interfaces, which need not be there yet;
 * with name_count 0 every Ethernet interface that has an IPv4 address. Everything runs on the
 * thread of `base`, which, as the engine, must outlive it.
 *
 * 0, or: -EPERM (no CAP_NET_RAW), -EINVAL (too many names, or one too long), -ENOMEM, other -errno.
 * What goes wrong later, and with one interface only, is told as DHCP_EVENT_TROUBLE.
 */
int dhcp_socket_new(struct event_base *base, struct dhcp *dhcp, const char *const *names,
		    unsigned name_count, struct dhcp_socket **ret_socket);
void dhcp_socket_free(struct dhcp_socket *socket); /* NULL is fine; before dhcp_free() */

#endif
