/*
 * One interface as the DHCP engine uses it: the sockets of a link, and what the kernel is asked
 * and told about links and neighbours. No engine in here. One thread.
 */
#ifndef LUNROOT_BOOT_DHCP_LINK_H
#define LUNROOT_BOOT_DHCP_LINK_H

#include <ifaddrs.h>

#include "dhcp.h"

/* Descriptors are -1 while closed. */
struct dhcp_link {
	struct dhcp_iface at;
	int packet_fd; /* IPv4 to the DHCP ports, without the Ethernet header */
	int stp_fd;    /* bridge protocol data units; may be -1 */
	int server_fd; /* UDP 67, held in known mode */
	int pxe_fd;    /* UDP 4011; may be -1 */
	int tap_fd;    /* IPv4 to one more UDP port, as packet_fd; may be -1 */
};

/* Nothing is open. */
void dhcp_link_init(struct dhcp_link *link, const struct dhcp_iface *at);
/*
 * Opens the sockets of link->at; with `hold_server` also UDP 67, which then must be free
 * (-EADDRINUSE if not). 0 or -errno, all closed. *ret_pxe_res: 0, or why there is no pxe_fd.
 */
int dhcp_link_open(struct dhcp_link *link, bool hold_server, int *ret_pxe_res);
/* Opens tap_fd for what is sent to this UDP port; 0 or -errno. */
int dhcp_link_tap(struct dhcp_link *link, uint16_t port);
void dhcp_link_close(struct dhcp_link *link);

/* 1 and a datagram that lies in `buffer`, 0 if it was not for us, -EAGAIN, or another -errno. */
int dhcp_link_receive(struct dhcp_link *link, uint8_t *buffer, size_t room,
		      struct dhcp_datagram *ret_datagram);
/* The same of tap_fd, and whose frame it was. To whom it was sent does not matter. */
int dhcp_link_receive_tap(struct dhcp_link *link, uint8_t *buffer, size_t room,
			  struct dhcp_datagram *ret_datagram, uint8_t ret_mac[6]);
/* 0 or -errno. */
int dhcp_link_send(struct dhcp_link *link, const struct dhcp_out *out);
/* ARP who-has for an address that is nobody's, to everybody. 0 or -errno. */
int dhcp_link_nudge(struct dhcp_link *link, struct in_addr local);

/* The network of an IPv4 address that getifaddrs() names. */
struct dhcp_net dhcp_net_of(const struct ifaddrs *at);

/*
 * All interfaces of Ethernet's kind that are up with a carrier: at most `max`; how many, or -errno.
 * With `names` those of that list, else those that have an IPv4 address. `ret_more`: there are
 * others, for which there was no room.
 */
int dhcp_links_scan(const char (*names)[IF_NAMESIZE], unsigned name_count,
		    struct dhcp_iface *ret_ifaces, unsigned max, bool *ret_more);

/* Becomes readable when links or addresses change; -errno. */
int dhcp_links_watch_open(void);
/* Reads all that is there. */
void dhcp_links_watch_clear(int fd);

/* A socket for dhcp_neighbour_set(), or -errno. */
int dhcp_neighbour_open(void);
/* The address is the MAC's, reachable as of now; it fades as any neighbour entry does. 0 or -errno.
 */
int dhcp_neighbour_set(int fd, int ifindex, struct in_addr address, const uint8_t mac[6]);

#endif
