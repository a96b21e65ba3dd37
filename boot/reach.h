/*
 * How a Pi reaches us: by which of our addresses on the interface that it asks through, and at
 * which of lunrootd's portals. Any thread.
 */
#ifndef LUNROOT_BOOT_REACH_H
#define LUNROOT_BOOT_REACH_H

#include <netinet/in.h>

#include "base/limits.h"
#include "dhcp_known.h"

/* Where lunrootd listens by IPv4; 0.0.0.0: on all of this machine's addresses. */
struct reach_portals {
	struct sockaddr_in at[LIMIT_PORTALS];
	unsigned count;
};

/* Adds "10.0.0.2:3260"; others, and those that there is no room for, are passed over. */
void reach_portals_add(struct reach_portals *portals, const char *text);

/*
 * Of `count` networks of an interface the one that has the Pi's address; else the one whose address
 * it was told is ours; else the first (0.0.0.0: there is none). Both may be 0.0.0.0, unknown.
 */
struct dhcp_net reach_choose(const struct dhcp_net *nets, unsigned count, struct in_addr pi,
			     struct in_addr told);
/* The same of an interface's networks as they are now. */
struct dhcp_net reach_find(int ifindex, struct in_addr pi, struct in_addr told);

/* The portal in this network, preferably at this address of ours; "" if there is none. */
void reach_portal(const struct reach_portals *portals, const struct dhcp_net *net,
		  char ret_text[LIMIT_ADDRESS_TEXT_BYTES]);

#endif
