/*
 * Frames as Raspberry Pi boot firmware sends them, and what it reads of others' frames: Ethernet,
 * ARP, IPv4, UDP, DHCP options and TFTP. Pure functions on bytes: no sockets, no clock, no state.
 * A second reading of the protocols: nothing of lunbootd is used here.
 */
#ifndef PISIM_PACKET_H
#define PISIM_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_BYTES_MAX 1600 /* an Ethernet frame of MTU 1500 with a VLAN tag, rounded up */
#define TFTP_DATA_MAX                                                               \
	1468 /* the largest block a Pi asks for: 1500 less IP, UDP and TFTP headers \
	      */

enum { PORT_DHCP_SERVER = 67, PORT_DHCP_CLIENT = 68, PORT_TFTP = 69 };
enum { DHCP_DISCOVER = 1, DHCP_OFFER = 2, DHCP_REQUEST = 3, DHCP_ACK = 5, DHCP_NAK = 6 };
enum { TFTP_RRQ = 1, TFTP_DATA = 3, TFTP_ACK = 4, TFTP_ERROR = 5, TFTP_OACK = 6 };

/* One way through Ethernet, IPv4 and UDP. Addresses and ports in host order. */
struct udp_path {
	uint8_t from_mac[6], to_mac[6];
	uint32_t from_ip, to_ip;
	uint16_t from_port, to_port;
	uint8_t ttl;
	uint16_t ip_id;
	bool checksum; /* false: UDP checksum 0, "none" */
};

/* The frame's bytes; payload is at most 1472 bytes. */
size_t packet_udp(uint8_t frame[static FRAME_BYTES_MAX], const struct udp_path *path,
		  const void *payload, size_t bytes);
/* operation 1: who has to_ip; 2: reply to to_mac. */
size_t packet_arp(uint8_t frame[static FRAME_BYTES_MAX], int operation, const uint8_t from_mac[6],
		  uint32_t from_ip, const uint8_t to_mac[6], uint32_t to_ip);

/* What differs between the DHCP packets of two Pis or two stages. */
struct dhcp_make {
	uint8_t type; /* DHCP_DISCOVER, DHCP_REQUEST */
	uint32_t xid;
	uint8_t mac[6];
	const uint8_t *asked_for; /* option 55 */
	size_t asked_count;
	uint8_t guid[17];
	bool vendor_class;             /* option 60 */
	uint32_t requested, server_id; /* options 50 and 54, 0: left out */
};
size_t packet_dhcp(uint8_t *to, const struct dhcp_make *make); /* at most 400 bytes */

/* blksize 0: not asked for; tsize likewise. At most 300 bytes. */
size_t packet_rrq(uint8_t *to, const char *name, bool tsize, unsigned blksize);
size_t packet_ack(uint8_t *to, uint16_t block);
size_t packet_error(uint8_t *to, uint16_t code, const char *text);

enum seen_kind { SEEN_OTHER, SEEN_ARP, SEEN_UDP };
/* A received frame; payload points into it. */
struct seen {
	enum seen_kind kind;
	uint8_t to_mac[6], from_mac[6];
	/* ARP */
	uint16_t operation;
	uint8_t sender_mac[6];
	uint32_t sender_ip, target_ip;
	/* UDP */
	uint32_t from_ip, to_ip;
	uint16_t from_port, to_port;
	const uint8_t *payload;
	size_t bytes;
};
struct seen packet_parse(const uint8_t *frame, size_t bytes);

/* What the firmware reads of a DHCP reply. */
struct dhcp_seen {
	uint32_t xid;
	uint8_t mac[6];
	uint8_t type;
	uint32_t address, server_id, mask, router;
	uint32_t tftp_name;    /* option 66 as dotted text, 0: none */
	bool pi_string;        /* "Raspberry Pi Boot" in option 43 */
	bool pi_string_padded; /* and three spaces behind it */
};
bool packet_parse_dhcp(const uint8_t *payload, size_t bytes, struct dhcp_seen *ret_dhcp);

/* Options of an OACK; those that are absent are 0. */
struct oack_seen {
	bool has_tsize;
	uint64_t tsize;
	unsigned blksize;
};
bool packet_parse_oack(const uint8_t *payload, size_t bytes, struct oack_seen *ret_oack);

#endif
