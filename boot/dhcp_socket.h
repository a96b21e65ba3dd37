/*
 * The DHCP engine on real interfaces. Everything is received through packet sockets, before the
 * firewall and beside any DHCP server this machine may run: requests of boards, answers of others,
 * the switch's spanning tree. In proxy mode UDP port 67 is therefore left alone; in known mode it
 * is held on each interface. Answers to boards without an address leave as frames; the rest by UDP
 * from the interface and address that were asked.
 *
 * Interfaces may come, go and change their addresses at any time.
 *
 * Beside DHCP one more UDP port can be tapped: what boards say to it, whatever their IP addresses
 * are, also what the IP layer drops.
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

struct dhcp_socket_config {
	/* The interfaces, which need not be there yet; with name_count 0 every Ethernet interface
	 * that has an IPv4 address. */
	const char *const *names;
	unsigned name_count;
	bool tap_only;     /* no DHCP: the engine is only told of troubles */
	uint16_t tap_port; /* 0: none */
	/* A datagram to that port, and the MAC it came from. */
	void (*on_tap)(void *arg, const uint8_t mac[6], const struct dhcp_datagram *datagram);
	void *arg;
};

/*
 * Sets the engine's io and starts at once. Everything runs on the thread of `base`, which, as the
 * engine, must outlive it.
 *
 * 0, or: -EPERM (no CAP_NET_RAW), -EINVAL (too many names, or one too long), -ENOMEM, other -errno.
 * What goes wrong later, and with one interface only, is told as DHCP_EVENT_TROUBLE.
 */
int dhcp_socket_new(struct event_base *base, struct dhcp *dhcp,
		    const struct dhcp_socket_config *config, struct dhcp_socket **ret_socket);
void dhcp_socket_free(struct dhcp_socket *socket); /* NULL is fine; before dhcp_free() */

/* Whether this interface is tapped; false of NULL. */
bool dhcp_socket_taps(const struct dhcp_socket *socket, int ifindex);

#endif
