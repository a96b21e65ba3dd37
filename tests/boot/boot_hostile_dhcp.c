/*
 * Frames to ports 67, 68 and 4011 of whoever listens. Their UDP checksum is wrong, which lunbootd
 * does not look at: the network's other DHCP server hears nothing of them.
 */
#include "boot_hostile.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define PORT_SERVER 67
#define PORT_CLIENT 68
#define PORT_PXE    4011

#define BOOTP_BYTES   240
#define MESSAGE_BYTES 1400
#define HEADER_BYTES  (14 + 20 + 8)

/* What boards say. `guid`: all 0x44, the serial four times, RPi4 and a serial, or none. */
static const struct board {
	const char *class;
	char guid;
	uint8_t architecture, parameters;
	const char *user_class;
} boards[] = {
	{"PXEClient:Arch:00000:UNDI:002001", 'D', 0, 12, NULL},
	{"PXEClient:Arch:00000:UNDI:002001", 's', 0, 12, NULL},
	{"PXEClient:Arch:00000:UNDI:002001", 's', 0, 14, NULL},
	{"PXEClient:Arch:00000:UNDI:002001", 'R', 0, 14, NULL},
	{"PXEClient:Arch:00000:UNDI:002001", 'R', 0, 14, NULL},
	{"PXEClient:Arch:00007:UNDI:003001", 0, 7, 14, NULL},
	{"PXEClient:Arch:00000:UNDI:002001", 0, 0, 14, "iPXE"},
	{"HTTPClient:Arch:00016:UNDI:003001", 0, 16, 14, NULL},
	{NULL, 0, 0, 2, NULL},
};

static int fd = -1;
static struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_halen = 6};
static uint8_t node_mac[6];
static struct in_addr server_address;

void dhcp_open(const char *interface, const char *mac, struct in_addr server)
{
	uint8_t *m = node_mac;

	server_address = server;
	at.sll_ifindex = (int)if_nametoindex(interface);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (at.sll_ifindex == 0 || fd < 0 ||
	    sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", m, m + 1, m + 2, m + 3, m + 4, m + 5) !=
		    6) {
		(void)fprintf(stderr, "boot_hostile: no frames on %s as %s\n", interface, mac);
		exit(2);
	}
}

static size_t option(uint8_t *to, size_t i, uint8_t code, const void *data, size_t bytes)
{
	to[i] = code;
	to[i + 1] = (uint8_t)bytes;
	memcpy(to + i + 2, data, bytes);
	return i + 2 + bytes;
}

static size_t option_text(uint8_t *to, size_t i, uint8_t code, const char *text)
{
	return text ? option(to, i, code, text, strlen(text)) : i;
}

static size_t option_address(uint8_t *to, size_t i, uint8_t code)
{
	const struct in_addr address = somewhere();

	return option(to, i, code, &address, sizeof(address));
}

static size_t option_guid(uint8_t *to, size_t i, char kind, const uint8_t mac[6])
{
	uint8_t guid[17] = {0};

	if (!kind)
		return i;
	memset(guid + 1, 0x44, 16);
	for (unsigned n = 0; kind == 's' && n < 16; n += 4)
		memcpy(guid + 1 + n, (const uint8_t[]){mac[5], mac[4], mac[3], 0x77}, 4);
	if (kind == 'R') {
		memcpy(guid + 1, rnd(2) ? "RPi4" : "RPi5", 4);
		memcpy(guid + 9, mac + 2, 4);
		memcpy(guid + 13, mac + 2, 4);
	}
	return option(to, i, 97, guid, sizeof(guid));
}

/* A board's, who then has an address, perhaps. */
static size_t request(uint8_t *to, const uint8_t mac[6])
{
	static const uint8_t list[14] = {43,  60,  67,  128, 129, 130, 131,
					 132, 133, 134, 135, 66,  1,   3};
	const struct board *board = &boards[rnd(sizeof(boards) / sizeof(*boards))];
	const uint8_t type = (uint8_t)(rnd(2) ? 1 : rnd(2) ? 3 : rnd(10));
	size_t i = BOOTP_BYTES;

	i = option(to, i, 53, &type, 1);
	i = option(to, i, 55, list, board->parameters);
	i = option(to, i, 93, (const uint8_t[]){0, board->architecture}, 2);
	i = option_guid(to, i, board->guid, mac);
	i = option_text(to, i, 60, board->class);
	i = option_text(to, i, 77, board->user_class);
	if (rnd(2))
		i = option_address(to, i, 50);
	if (rnd(4) == 0)
		i = option_address(to, i, 54);
	if (rnd(8) == 0)
		i = option(to, i, 52, (const uint8_t[]){(uint8_t)rnd(4)}, 1);
	return i;
}

/* Another server's, that tells boards of another place to boot from. */
static size_t answer(uint8_t *to)
{
	const struct in_addr given = somewhere();
	const uint8_t type = rnd(2) ? 2 : 5;
	size_t i = BOOTP_BYTES;

	memcpy(to + 16, &given, sizeof(given));
	i = option(to, i, 53, &type, 1);
	i = option_address(to, i, 54);
	i = option_text(to, i, 60, rnd(2) ? "PXEClient" : NULL);
	i = option_text(to, i, 66, rnd(2) ? "10.1.2.3" : NULL);
	return option_text(to, i, 43, rnd(2) ? "Raspberry Pi Boot" : NULL);
}

static size_t message(uint8_t *to, const uint8_t mac[6], unsigned port)
{
	const struct in_addr address = somewhere();
	const unsigned xid = rnd(3) ? rnd(1u << 31) : 0x26f30339;
	size_t i;

	memset(to, 0, BOOTP_BYTES);
	memcpy(to, (const uint8_t[]){port == PORT_CLIENT ? 2 : 1, 1, 6}, 3);
	memcpy(to + 4, &(const uint32_t){htonl(xid)}, 4);
	to[10] = (uint8_t)(rnd(2) ? 0x80 : 0);
	if (rnd(6) == 0 || port == PORT_PXE)
		memcpy(to + 12, &address, sizeof(address)); /* ciaddr */
	if (rnd(20) == 0)
		memcpy(to + 24, &address, sizeof(address)); /* giaddr */
	memcpy(to + 28, mac, 6);
	memcpy(to + 236, (const uint8_t[]){99, 130, 83, 99}, 4);
	i = port == PORT_CLIENT ? answer(to) : request(to, mac);
	to[i++] = 255;
	return i;
}

static uint16_t ip_checksum(const uint8_t header[20])
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < 20; i += 2)
		sum += (uint32_t)header[i] << 8 | header[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

/* Ethernet, IPv4 and UDP, in front of so many bytes. */
static void headers(uint8_t *frame, const uint8_t mac[6], unsigned port, size_t bytes)
{
	static const struct in_addr all = {INADDR_BROADCAST};
	const struct in_addr us = somewhere();
	const uint16_t udp[] = {htons(port == PORT_SERVER ? PORT_CLIENT : PORT_SERVER),
				htons((uint16_t)port), htons((uint16_t)(bytes + 8)), 0xbad};
	uint8_t *ip = frame + 14;

	memset(frame, 0xff, 6);
	memcpy(frame + 6, mac, 6);
	memcpy(frame + 12, (const uint8_t[]){8, 0, 0x45, 0}, 4);
	memset(ip + 2, 0, 18);
	memcpy(ip + 2, &(const uint16_t){htons((uint16_t)(bytes + 28))}, 2);
	ip[8] = 64;
	ip[9] = IPPROTO_UDP;
	if (port == PORT_PXE || port == PORT_CLIENT || rnd(4) == 0)
		memcpy(ip + 12, &us, sizeof(us));
	memcpy(ip + 16, port == PORT_PXE ? &server_address : &all, sizeof(all));
	memcpy(ip + 10, &(const uint16_t){ip_checksum(ip)}, 2);
	memcpy(ip + 20, udp, sizeof(udp));
}

unsigned trouble_dhcp(void)
{
	static const uint16_t ports[] = {PORT_SERVER, PORT_SERVER, PORT_SERVER,
					 PORT_SERVER, PORT_CLIENT, PORT_PXE};
	uint8_t frame[HEADER_BYTES + MESSAGE_BYTES];
	uint8_t mac[6] = {2, 0, 0, 0, (uint8_t)rnd(256), (uint8_t)rnd(256)};
	unsigned port = ports[rnd(sizeof(ports) / sizeof(*ports))];
	size_t bytes;

	if (rnd(4) == 0)
		memcpy(mac, node_mac, sizeof(mac));
	bytes = rnd(10) ? message(frame + HEADER_BYTES, mac, port)
			: noise(frame + HEADER_BYTES, MESSAGE_BYTES);
	if (rnd(2))
		mutate(frame + HEADER_BYTES, &bytes);
	headers(frame, mac, port, bytes);
	bytes += HEADER_BYTES;
	if (rnd(10) == 0)
		frame[14 + rnd(28)] ^= (uint8_t)(1 << rnd(8));
	return sendto(fd, frame, bytes, MSG_DONTWAIT, (struct sockaddr *)&at, sizeof(at)) > 0;
}
