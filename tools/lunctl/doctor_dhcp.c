/*
 * Asks a network for its DHCP and PXE servers: a DISCOVER as x86 PXE clients send it, from no Pi's
 * fingerprint, so that lunbootd stays silent; then every answer within some seconds is read off the
 * wire, whoever else listens on port 68. Nothing is requested, so nobody gets an address by it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "base/cleanup.h"
#include "doctor.h"

#define WAIT_MS      4500 /* a server may look for 3 s whether an address is in use */
#define REPEAT_MS    1500
#define PACKET_BYTES 1500
#define MAGIC        0x63825363u
#define HEAD_BYTES   240 /* BOOTP's and the magic (RFC 2131, 2) */
#define UDP_BYTES    8

enum { OPTION_PAD = 0, OPTION_TYPE = 53, OPTION_SERVER = 54, OPTION_CLASS = 60, OPTION_END = 255 };

/* --- what is asked --- */

static size_t write_discover(uint8_t *p, uint32_t xid, const uint8_t mac[6])
{
	/* Type; parameters: mask, router, vendor options, TFTP server, boot file; class; arch. */
	static const uint8_t options[] = {53,  1,   1,   55,  5,   1,   3,   43,  66,  67,  60,
					  32,  'P', 'X', 'E', 'C', 'l', 'i', 'e', 'n', 't', ':',
					  'A', 'r', 'c', 'h', ':', '0', '0', '0', '0', '0', ':',
					  'U', 'N', 'D', 'I', ':', '0', '0', '2', '0', '0', '1',
					  93,  2,   0,   0,   94,  3,   1,   2,   1,   255};

	memset(p, 0, HEAD_BYTES);
	p[0] = 1; /* request, over Ethernet */
	p[1] = 1;
	p[2] = 6;
	put_be32(p + 4, xid);
	put_be16(p + 10, 0x8000); /* answer by broadcast */
	memcpy(p + 28, mac, 6);
	put_be32(p + 236, MAGIC);
	memcpy(p + HEAD_BYTES, options, sizeof(options));
	return HEAD_BYTES + sizeof(options);
}

/* --- what comes --- */

/* Finds an option; its length, or -1. */
static int find_option(const uint8_t *p, size_t bytes, uint8_t code, const uint8_t **ret_value)
{
	size_t at = HEAD_BYTES;

	while (at < bytes && p[at] != OPTION_END) {
		size_t length;

		if (p[at] == OPTION_PAD) {
			at++;
			continue;
		}
		if (at + 2 > bytes)
			return -1;
		length = p[at + 1];
		if (at + 2 + length > bytes)
			return -1;
		if (p[at] == code) {
			*ret_value = p + at + 2;
			return (int)length;
		}
		at += 2 + length;
	}
	return -1;
}

bool doctor_read_offer(const uint8_t *packet, size_t bytes, uint32_t xid,
		       struct doctor_server *ret_server)
{
	size_t ip_bytes = bytes > 0 ? (packet[0] & 15u) * 4u : 0;
	const uint8_t *p, *value = NULL;
	struct in_addr address;

	if (ip_bytes < 20 || bytes < ip_bytes + UDP_BYTES + HEAD_BYTES || packet[0] >> 4 != 4 ||
	    packet[9] != IPPROTO_UDP || get_be16(packet + ip_bytes) != 67)
		return false;
	p = packet + ip_bytes + UDP_BYTES;
	bytes -= ip_bytes + UDP_BYTES;
	if (p[0] != 2 || get_be32(p + 4) != xid || get_be32(p + 236) != MAGIC ||
	    find_option(p, bytes, OPTION_TYPE, &value) != 1 || *value != 2)
		return false;
	memset(ret_server, 0, sizeof(*ret_server));
	ret_server->gives_address = get_be32(p + 16) != 0;
	ret_server->is_pxe = !ret_server->gives_address;
	if (find_option(p, bytes, OPTION_CLASS, &value) >= 9 && memcmp(value, "PXEClient", 9) == 0)
		ret_server->is_pxe = true;
	if (find_option(p, bytes, OPTION_SERVER, &value) == 4)
		memcpy(&address, value, 4);
	else
		memcpy(&address, packet + 12, 4); /* who sent it */
	(void)inet_ntop(AF_INET, &address, ret_server->address, sizeof(ret_server->address));
	return true;
}

static void keep_server(struct doctor_facts *facts, const struct doctor_interface *interface,
			struct doctor_server *server)
{
	(void)snprintf(server->interface, sizeof(server->interface), "%s", interface->name);
	for (unsigned i = 0; i < facts->interface_count; i++)
		server->is_ours |= strcmp(facts->interfaces[i].address, server->address) == 0;
	for (unsigned i = 0; i < facts->server_count; i++) {
		struct doctor_server *known = &facts->servers[i];

		if (strcmp(known->address, server->address) != 0 ||
		    strcmp(known->interface, server->interface) != 0)
			continue;
		known->gives_address |= server->gives_address;
		known->is_pxe |= server->is_pxe;
		return;
	}
	if (facts->server_count < DOCTOR_SERVERS)
		facts->servers[facts->server_count++] = *server;
}

static int64_t clock_ms(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until the time is over. */
static void listen_for(struct doctor_facts *facts, const struct doctor_interface *interface, int fd,
		       uint32_t xid, int64_t until_ms)
{
	uint8_t packet[PACKET_BYTES];

	for (;;) {
		int64_t left = until_ms - clock_ms();
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		struct doctor_server server;
		ssize_t n;

		if (left <= 0)
			return;
		if (poll(&wait, 1, (int)left) <= 0)
			continue;
		n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);
		if (n > 0 && doctor_read_offer(packet, (size_t)n, xid, &server))
			keep_server(facts, interface, &server);
	}
}

/* --- sockets --- */

/* All IPv4 packets of the interface, without their Ethernet heads. */
static int listener(unsigned ifindex)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
				      .sll_protocol = htons(ETH_P_IP),
				      .sll_ifindex = (int)ifindex};
	int AUTO_CLOSE fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_IP));

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -1;
	return TAKE_FD(fd);
}

/* Servers answer to port 68 wherever a question comes from. */
static int sender(const char *name, uint8_t ret_mac[6])
{
	struct ifreq ifr = {0};
	int on = 1;
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (strlen(name) >= sizeof(ifr.ifr_name))
		return -1;
	memcpy(ifr.ifr_name, name, strlen(name));
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name) + 1) < 0 ||
	    ioctl(fd, SIOCGIFHWADDR, &ifr) < 0)
		return -1;
	memcpy(ret_mac, ifr.ifr_hwaddr.sa_data, 6);
	return TAKE_FD(fd);
}

bool doctor_ask_dhcp(struct doctor_facts *facts, const struct doctor_interface *interface)
{
	struct sockaddr_in everybody = {.sin_family = AF_INET,
					.sin_port = htons(67),
					.sin_addr = {htonl(INADDR_BROADCAST)}};
	int AUTO_CLOSE in = listener(if_nametoindex(interface->name));
	int64_t end_ms = clock_ms() + WAIT_MS;
	uint8_t packet[HEAD_BYTES + 80], mac[6];
	uint32_t xid = 0;
	size_t bytes;
	int AUTO_CLOSE out = in < 0 ? -1 : sender(interface->name, mac);

	if (out < 0 || getrandom(&xid, sizeof(xid), 0) != sizeof(xid))
		return false;
	bytes = write_discover(packet, xid, mac);
	while (clock_ms() < end_ms) {
		int64_t next_ms = clock_ms() + REPEAT_MS;

		if (sendto(out, packet, bytes, 0, (struct sockaddr *)&everybody,
			   sizeof(everybody)) < 0)
			return false;
		listen_for(facts, interface, in, xid, next_ms < end_ms ? next_ms : end_ms);
	}
	return true;
}
