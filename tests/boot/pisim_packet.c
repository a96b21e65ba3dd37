/*
 * Building and reading frames; see pisim_packet.h. Layouts: RFC 826 (ARP), 791 (IPv4), 768 (UDP),
 * 2131 and 2132 (DHCP), 4578 (PXE's options 93, 94, 97), 1350, 2347-2349 (TFTP and its options).
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pisim_packet.h"

enum { ETHERNET_BYTES = 14, IP_BYTES = 20, UDP_BYTES = 8, BOOTP_BYTES = 236 };
enum { ETHERTYPE_IP = 0x0800, ETHERTYPE_ARP = 0x0806, PROTOCOL_UDP = 17 };

static const uint8_t cookie[4] = {0x63, 0x82, 0x53, 0x63};
static const char vendor_class[] = "PXEClient:Arch:00000:UNDI:002001";

static void put16(uint8_t *to, unsigned value)
{
	to[0] = (uint8_t)(value >> 8);
	to[1] = (uint8_t)value;
}

static void put32(uint8_t *to, uint32_t value)
{
	put16(to, value >> 16);
	put16(to + 2, value & 0xffff);
}

static uint16_t get16(const uint8_t *from)
{
	return (uint16_t)(from[0] << 8 | from[1]);
}

static uint32_t get32(const uint8_t *from)
{
	return (uint32_t)get16(from) << 16 | get16(from + 2);
}

static uint32_t sum16(uint32_t sum, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i + 1 < count; i += 2)
		sum += get16(bytes + i);
	if (count % 2)
		sum += (uint32_t)bytes[count - 1] << 8;
	return sum;
}

static uint16_t sum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put_ethernet(uint8_t *frame, const uint8_t to[6], const uint8_t from[6], unsigned type)
{
	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	put16(frame + 12, type);
}

size_t packet_udp(uint8_t frame[static FRAME_BYTES_MAX], const struct udp_path *path,
		  const void *payload, size_t bytes)
{
	uint8_t *ip = frame + ETHERNET_BYTES, *udp = ip + IP_BYTES;
	size_t udp_bytes = UDP_BYTES + bytes;

	assert(ETHERNET_BYTES + IP_BYTES + udp_bytes <= FRAME_BYTES_MAX);
	put_ethernet(frame, path->to_mac, path->from_mac, ETHERTYPE_IP);
	memset(ip, 0, IP_BYTES);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(IP_BYTES + udp_bytes));
	put16(ip + 4, path->ip_id);
	ip[8] = path->ttl;
	ip[9] = PROTOCOL_UDP;
	put32(ip + 12, path->from_ip);
	put32(ip + 16, path->to_ip);
	put16(ip + 10, sum_fold(sum16(0, ip, IP_BYTES)));
	put16(udp, path->from_port);
	put16(udp + 2, path->to_port);
	put16(udp + 4, (unsigned)udp_bytes);
	put16(udp + 6, 0);
	memcpy(udp + UDP_BYTES, payload, bytes);
	if (path->checksum) {
		uint32_t sum = sum16(PROTOCOL_UDP + (uint32_t)udp_bytes, ip + 12, 8);
		uint16_t folded = sum_fold(sum16(sum, udp, udp_bytes));

		put16(udp + 6, folded ? folded : 0xffff);
	}
	return ETHERNET_BYTES + IP_BYTES + udp_bytes;
}

size_t packet_arp(uint8_t frame[static FRAME_BYTES_MAX], int operation, const uint8_t from_mac[6],
		  uint32_t from_ip, const uint8_t to_mac[6], uint32_t to_ip)
{
	static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255}, nobody[6];
	static const uint8_t ethernet_ip[6] = {0, 1, 8, 0, 6, 4};
	uint8_t *arp = frame + ETHERNET_BYTES;
	bool asks = operation == 1;

	put_ethernet(frame, asks ? everybody : to_mac, from_mac, ETHERTYPE_ARP);
	memcpy(arp, ethernet_ip, 6);
	put16(arp + 6, (unsigned)operation);
	memcpy(arp + 8, from_mac, 6);
	put32(arp + 14, from_ip);
	memcpy(arp + 18, asks ? nobody : to_mac, 6);
	put32(arp + 24, to_ip);
	/* Ethernet's smallest frame. */
	memset(arp + 28, 0, 18);
	return 60;
}

static size_t put_option(uint8_t *to, uint8_t code, const void *value, size_t bytes)
{
	to[0] = code;
	to[1] = (uint8_t)bytes;
	memcpy(to + 2, value, bytes);
	return 2 + bytes;
}

static size_t put_option_ip(uint8_t *to, uint8_t code, uint32_t ip)
{
	uint8_t value[4];

	put32(value, ip);
	return put_option(to, code, value, 4);
}

/* Order and contents as in the dumps of firmware issues 862 and 941, and rpi-eeprom issue 58. */
size_t packet_dhcp(uint8_t *to, const struct dhcp_make *make)
{
	static const uint8_t architecture[2] = {0, 0}, undi[3] = {1, 2, 1};
	uint8_t *at = to + BOOTP_BYTES;

	memset(to, 0, BOOTP_BYTES);
	to[0] = 1; /* a request */
	to[1] = 1; /* over Ethernet */
	to[2] = 6;
	put32(to + 4, make->xid);
	memcpy(to + 28, make->mac, 6);
	memcpy(at, cookie, 4);
	at += 4;
	at += put_option(at, 53, &make->type, 1);
	if (make->requested)
		at += put_option_ip(at, 50, make->requested);
	if (make->server_id)
		at += put_option_ip(at, 54, make->server_id);
	at += put_option(at, 55, make->asked_for, make->asked_count);
	at += put_option(at, 93, architecture, 2);
	at += put_option(at, 94, undi, 3);
	at += put_option(at, 97, make->guid, 17);
	if (make->vendor_class)
		at += put_option(at, 60, vendor_class, sizeof(vendor_class) - 1);
	*at++ = 255;
	return (size_t)(at - to);
}

static size_t put_text(uint8_t *to, const char *text)
{
	size_t bytes = strlen(text) + 1;

	memcpy(to, text, bytes);
	return bytes;
}

size_t packet_rrq(uint8_t *to, const char *name, bool tsize, unsigned blksize)
{
	char number[12];
	size_t at = 2;

	put16(to, TFTP_RRQ);
	at += put_text(to + at, name);
	at += put_text(to + at, "octet");
	if (tsize) {
		at += put_text(to + at, "tsize");
		at += put_text(to + at, "0");
	}
	if (blksize) {
		snprintf(number, sizeof(number), "%u", blksize);
		at += put_text(to + at, "blksize");
		at += put_text(to + at, number);
	}
	return at;
}

size_t packet_ack(uint8_t *to, uint16_t block)
{
	put16(to, TFTP_ACK);
	put16(to + 2, block);
	return 4;
}

size_t packet_error(uint8_t *to, uint16_t code, const char *text)
{
	put16(to, TFTP_ERROR);
	put16(to + 2, code);
	return 4 + put_text(to + 4, text);
}

static void parse_arp(const uint8_t *arp, size_t bytes, struct seen *seen)
{
	if (bytes < 28 || get16(arp + 2) != ETHERTYPE_IP || arp[4] != 6 || arp[5] != 4)
		return;
	seen->kind = SEEN_ARP;
	seen->operation = get16(arp + 6);
	memcpy(seen->sender_mac, arp + 8, 6);
	seen->sender_ip = get32(arp + 14);
	seen->target_ip = get32(arp + 24);
}

/* The UDP checksum is not looked at: between virtual interfaces it is often left undone. */
static void parse_ip(const uint8_t *ip, size_t bytes, struct seen *seen)
{
	size_t header, total, udp_bytes;

	if (bytes < IP_BYTES || ip[0] >> 4 != 4)
		return;
	header = (size_t)(ip[0] & 15) * 4;
	total = get16(ip + 2);
	if (header < IP_BYTES || total > bytes || total < header + UDP_BYTES ||
	    ip[9] != PROTOCOL_UDP || (get16(ip + 6) & 0x3fff) != 0)
		return;
	udp_bytes = get16(ip + header + 4);
	if (udp_bytes < UDP_BYTES || header + udp_bytes > total)
		return;
	seen->kind = SEEN_UDP;
	seen->from_ip = get32(ip + 12);
	seen->to_ip = get32(ip + 16);
	seen->from_port = get16(ip + header);
	seen->to_port = get16(ip + header + 2);
	seen->payload = ip + header + UDP_BYTES;
	seen->bytes = udp_bytes - UDP_BYTES;
}

struct seen packet_parse(const uint8_t *frame, size_t bytes)
{
	struct seen seen = {.kind = SEEN_OTHER};

	if (bytes < ETHERNET_BYTES)
		return seen;
	memcpy(seen.to_mac, frame, 6);
	memcpy(seen.from_mac, frame + 6, 6);
	if (get16(frame + 12) == ETHERTYPE_ARP)
		parse_arp(frame + ETHERNET_BYTES, bytes - ETHERNET_BYTES, &seen);
	else if (get16(frame + 12) == ETHERTYPE_IP)
		parse_ip(frame + ETHERNET_BYTES, bytes - ETHERNET_BYTES, &seen);
	return seen;
}

static uint32_t dotted(const uint8_t *text, size_t bytes)
{
	char copy[16];
	struct in_addr address;

	if (bytes && !text[bytes - 1])
		bytes--;
	if (bytes >= sizeof(copy))
		return 0;
	memcpy(copy, text, bytes);
	copy[bytes] = 0;
	return inet_pton(AF_INET, copy, &address) == 1 ? ntohl(address.s_addr) : 0;
}

static void parse_option(uint8_t code, const uint8_t *value, size_t bytes, struct dhcp_seen *dhcp)
{
	switch (code) {
	case 1: dhcp->mask = bytes >= 4 ? get32(value) : 0; break;
	case 3: dhcp->router = bytes >= 4 ? get32(value) : 0; break;
	case 43:
		dhcp->pi_string = memmem(value, bytes, "Raspberry Pi Boot", 17);
		dhcp->pi_string_padded = memmem(value, bytes, "Raspberry Pi Boot   ", 20);
		break;
	case 53: dhcp->type = bytes ? value[0] : 0; break;
	case 54: dhcp->server_id = bytes >= 4 ? get32(value) : 0; break;
	case 66: dhcp->tftp_name = dotted(value, bytes); break;
	default: break;
	}
}

bool packet_parse_dhcp(const uint8_t *payload, size_t bytes, struct dhcp_seen *ret_dhcp)
{
	struct dhcp_seen dhcp = {0};
	size_t at = BOOTP_BYTES + 4;

	if (bytes < at || payload[0] != 2 || memcmp(payload + BOOTP_BYTES, cookie, 4) != 0)
		return false;
	dhcp.xid = get32(payload + 4);
	dhcp.address = get32(payload + 16);
	memcpy(dhcp.mac, payload + 28, 6);
	while (at < bytes && payload[at] != 255) {
		if (payload[at] == 0) {
			at++;
			continue;
		}
		if (at + 2 > bytes || at + 2 + payload[at + 1] > bytes)
			return false;
		parse_option(payload[at], payload + at + 2, payload[at + 1], &dhcp);
		at += 2u + payload[at + 1];
	}
	*ret_dhcp = dhcp;
	return true;
}

bool packet_parse_oack(const uint8_t *payload, size_t bytes, struct oack_seen *ret_oack)
{
	struct oack_seen oack = {0};
	const char *at = (const char *)payload + 2, *end = (const char *)payload + bytes;

	if (bytes < 2 || get16(payload) != TFTP_OACK || (bytes > 2 && end[-1] != 0))
		return false;
	while (at < end) {
		const char *name = at, *value = name + strlen(name) + 1;

		if (value >= end)
			return false;
		if (!strcasecmp(name, "tsize")) {
			oack.has_tsize = true;
			oack.tsize = strtoull(value, NULL, 10);
		} else if (!strcasecmp(name, "blksize")) {
			oack.blksize = (unsigned)strtoul(value, NULL, 10);
		}
		at = value + strlen(value) + 1;
	}
	*ret_oack = oack;
	return true;
}
