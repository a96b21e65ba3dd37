/* DHCP messages to and from bytes; every length is checked before it is used. */
#include <errno.h>
#include <string.h>

#include "dhcp_packet.h"

#define BOOTP_BYTES_MIN 300 /* RFC 1542, 2.1; some relays drop less */

static const uint8_t cookie[4] = {99, 130, 83, 99};

/* --- parse --- */

struct area {
	const uint8_t *data;
	size_t bytes;
};

/*
 * Adds up each option's bytes over the area and, with `store`, appends them at the option's place.
 * An area may end without option 255: its end is its end.
 */
static int area_walk(const struct area *area, struct dhcp_packet *packet, bool store)
{
	size_t i = 0;

	while (i < area->bytes) {
		uint8_t code = area->data[i++];
		uint8_t bytes;

		if (code == DHCP_OPT_PAD)
			continue;
		if (code == DHCP_OPT_END)
			return 0;
		if (i == area->bytes)
			return -EBADMSG;
		bytes = area->data[i++];
		if (bytes > area->bytes - i)
			return -EBADMSG;
		if (store)
			memcpy(packet->data + packet->at[code] + packet->bytes[code],
			       area->data + i, bytes);
		packet->has[code] = true;
		packet->bytes[code] = (uint16_t)(packet->bytes[code] + bytes);
		i += bytes;
	}
	return 0;
}

/* Which of the fixed fields hold options (option 52): 0 to 3, or -EBADMSG. */
static int overload_find(const struct area *options)
{
	size_t i = 0;

	while (i < options->bytes && options->data[i] != DHCP_OPT_END) {
		const uint8_t *at = options->data + i;

		if (at[0] == DHCP_OPT_PAD) {
			i++;
			continue;
		}
		/* area_walk() has seen that every option lies within. */
		if (at[0] == DHCP_OPT_OVERLOAD)
			return at[1] == 1 && at[2] >= 1 && at[2] <= 3 ? at[2] : -EBADMSG;
		i += 2u + at[1];
	}
	return 0;
}

static int options_read(const struct area *areas, unsigned count, struct dhcp_packet *packet)
{
	size_t at = 0;

	for (unsigned i = 1; i < count; i++) { /* the first has been measured */
		int res = area_walk(&areas[i], packet, false);

		if (res)
			return res;
	}
	for (unsigned code = 0; code < 256; code++) {
		packet->at[code] = (uint16_t)at;
		at += packet->bytes[code];
		packet->bytes[code] = 0;
	}
	assert(at <= sizeof(packet->data));
	for (unsigned i = 0; i < count; i++)
		area_walk(&areas[i], packet, true);
	return 0;
}

int dhcp_parse(const void *data, size_t bytes, struct dhcp_packet *ret_packet)
{
	struct dhcp_wire wire;
	struct dhcp_packet packet;
	struct area areas[3];
	unsigned count = 1;
	const uint8_t *type;
	size_t type_bytes;
	int overload, res;

	if (bytes < sizeof(wire) || bytes > LIMIT_DHCP_PACKET_BYTES)
		return -EMSGSIZE;
	memcpy(&wire, data, sizeof(wire));
	if (wire.head.htype != 1 || wire.head.hlen != 6)
		return -EPROTONOSUPPORT;
	if (wire.head.op != 1 && wire.head.op != 2)
		return -EBADMSG;
	if (memcmp(wire.cookie, cookie, sizeof(cookie)) != 0)
		return -ENOMSG;
	memset(&packet, 0, sizeof(packet));
	packet.head = wire.head;
	areas[0] = (struct area){(const uint8_t *)data + sizeof(wire), bytes - sizeof(wire)};
	res = area_walk(&areas[0], &packet, false);
	if (res)
		return res;
	overload = overload_find(&areas[0]);
	if (overload < 0)
		return overload;
	if (overload & 1) /* RFC 3396, 5: file before sname */
		areas[count++] = (struct area){wire.file, sizeof(wire.file)};
	if (overload & 2)
		areas[count++] = (struct area){wire.sname, sizeof(wire.sname)};
	res = options_read(areas, count, &packet);
	if (res)
		return res;
	type = dhcp_get(&packet, DHCP_OPT_MESSAGE, &type_bytes);
	if (!type)
		return -ENOMSG;
	if (type_bytes != 1 || type[0] < DHCP_MSG_DISCOVER || type[0] > DHCP_MSG_INFORM)
		return -EBADMSG;
	packet.type = type[0];
	*ret_packet = packet;
	return 0;
}

const uint8_t *dhcp_get(const struct dhcp_packet *packet, enum dhcp_option code, size_t *ret_bytes)
{
	assert((unsigned)code < 256);
	if (!packet->has[code])
		return NULL;
	*ret_bytes = packet->bytes[code];
	return packet->data + packet->at[code];
}

struct in_addr dhcp_get_address(const struct dhcp_packet *packet, enum dhcp_option code)
{
	struct in_addr address = {0};
	size_t bytes;
	const uint8_t *value = dhcp_get(packet, code, &bytes);

	if (value && bytes == sizeof(address))
		memcpy(&address, value, sizeof(address));
	return address;
}

void dhcp_get_name(const struct dhcp_packet *packet, enum dhcp_option code, char *to, size_t room)
{
	size_t bytes = 0, n = 0;
	const uint8_t *value = dhcp_get(packet, code, &bytes);

	assert(room > 0);
	for (; value && n < bytes && n + 1 < room; n++) {
		uint8_t c = value[n];
		bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';

		if (!letter && !(c >= '0' && c <= '9') && (n == 0 || (c != '-' && c != '.')))
			break;
		to[n] = (char)c;
	}
	to[n] = 0;
}

bool dhcp_begins(const struct dhcp_packet *packet, enum dhcp_option code, const char *text)
{
	size_t bytes;
	const uint8_t *value = dhcp_get(packet, code, &bytes);

	return value && bytes >= strlen(text) && memcmp(value, text, strlen(text)) == 0;
}

struct dhcp_request dhcp_request_of(const struct dhcp_packet *packet)
{
	struct dhcp_request request = {
		.head = packet->head,
		.reply_bytes_max = LIMIT_DHCP_REPLY_BYTES_MIN,
		.type = packet->type,
		.requested = dhcp_get_address(packet, DHCP_OPT_REQUESTED),
		.server = dhcp_get_address(packet, DHCP_OPT_SERVER),
	};
	size_t bytes;
	const uint8_t *value = dhcp_get(packet, DHCP_OPT_GUID, &bytes);

	if (value && bytes == DHCP_GUID_BYTES) {
		memcpy(request.guid, value, bytes);
		request.guid_bytes = DHCP_GUID_BYTES;
	}
	value = dhcp_get(packet, DHCP_OPT_MAX_BYTES, &bytes);
	if (value && bytes == 2) {
		unsigned max = get_be16(value);

		if (max > LIMIT_DHCP_REPLY_BYTES + DHCP_FRAME_HEADER_BYTES)
			max = LIMIT_DHCP_REPLY_BYTES + DHCP_FRAME_HEADER_BYTES;
		if (max > LIMIT_DHCP_REPLY_BYTES_MIN + DHCP_FRAME_HEADER_BYTES)
			request.reply_bytes_max = (uint16_t)(max - DHCP_FRAME_HEADER_BYTES);
	}
	return request;
}

/* --- build --- */

void dhcp_reply_begin(struct dhcp_reply *reply, const struct dhcp_request *request,
		      enum dhcp_message type)
{
	uint8_t byte = (uint8_t)type;

	assert(request->reply_bytes_max >= LIMIT_DHCP_REPLY_BYTES_MIN);
	assert(request->reply_bytes_max <= LIMIT_DHCP_REPLY_BYTES);
	memset(reply, 0, sizeof(*reply));
	reply->wire.head = (struct dhcp_head){
		.op = 2,
		.htype = request->head.htype,
		.hlen = request->head.hlen,
		.hops = request->head.hops,
		.xid = request->head.xid,
		.flags = request->head.flags,
		.giaddr = request->head.giaddr,
	};
	memcpy(reply->wire.head.chaddr, request->head.chaddr, sizeof(reply->wire.head.chaddr));
	memcpy(reply->wire.cookie, cookie, sizeof(cookie));
	reply->option_bytes_max = request->reply_bytes_max - sizeof(reply->wire);
	dhcp_put(reply, DHCP_OPT_MESSAGE, &byte, 1);
}

void dhcp_discover_begin(struct dhcp_reply *reply, const uint8_t mac[6], uint32_t xid)
{
	struct dhcp_request request = {.reply_bytes_max = LIMIT_DHCP_REPLY_BYTES_MIN};

	request.head.htype = 1;
	request.head.hlen = 6;
	be32_put(&request.head.xid, xid);
	be16_put(&request.head.flags, DHCP_FLAG_BROADCAST);
	memcpy(request.head.chaddr, mac, 6);
	dhcp_reply_begin(reply, &request, DHCP_MSG_DISCOVER);
	reply->wire.head.op = 1;
}

bool dhcp_put(struct dhcp_reply *reply, enum dhcp_option code, const void *data, size_t bytes)
{
	uint8_t *at = reply->options + reply->option_bytes;

	assert(code > DHCP_OPT_PAD && code < DHCP_OPT_END);
	/* One byte is kept for the end. */
	if (bytes > 255 || reply->option_bytes + 2 + bytes + 1 > reply->option_bytes_max)
		return false;
	at[0] = (uint8_t)code;
	at[1] = (uint8_t)bytes;
	memcpy(at + 2, data, bytes);
	reply->option_bytes += 2 + bytes;
	return true;
}

bool dhcp_put_text(struct dhcp_reply *reply, enum dhcp_option code, const char *text)
{
	return dhcp_put(reply, code, text, strlen(text));
}

bool dhcp_put_u32(struct dhcp_reply *reply, enum dhcp_option code, uint32_t value)
{
	uint8_t bytes[4];

	put_be32(bytes, value);
	return dhcp_put(reply, code, bytes, sizeof(bytes));
}

bool dhcp_put_address(struct dhcp_reply *reply, enum dhcp_option code, struct in_addr address)
{
	return dhcp_put(reply, code, &address, sizeof(address));
}

size_t dhcp_reply_end(struct dhcp_reply *reply)
{
	size_t bytes;

	assert(reply->option_bytes < reply->option_bytes_max);
	reply->options[reply->option_bytes++] = DHCP_OPT_END;
	bytes = sizeof(reply->wire) + reply->option_bytes;
	return bytes < BOOTP_BYTES_MIN ? BOOTP_BYTES_MIN : bytes;
}

static_assert(offsetof(struct dhcp_reply, options) == sizeof(struct dhcp_wire),
	      "the options follow the header");

/* --- IPv4 and UDP around it --- */

int dhcp_frame_parse(const void *packet, size_t bytes, struct dhcp_datagram *ret_datagram)
{
	const uint8_t *ip = packet, *udp;
	size_t header, total, udp_bytes;

	if (bytes < 20 || ip[0] >> 4 != 4)
		return -EBADMSG;
	header = (size_t)(ip[0] & 15) * 4;
	total = get_be16(ip + 2);
	if (header < 20 || total > bytes || total < header + 8) /* Ethernet may have padded it */
		return -EBADMSG;
	if (ip[9] != IPPROTO_UDP || (get_be16(ip + 6) & 0x3fff)) /* a fragment */
		return -EBADMSG;
	udp = ip + header;
	udp_bytes = get_be16(udp + 4);
	if (udp_bytes < 8 || udp_bytes > total - header)
		return -EBADMSG;
	memcpy(&ret_datagram->from, ip + 12, 4);
	memcpy(&ret_datagram->to, ip + 16, 4);
	ret_datagram->from_port = get_be16(udp);
	ret_datagram->to_port = get_be16(udp + 2);
	ret_datagram->data = udp + 8;
	ret_datagram->bytes = udp_bytes - 8;
	return 0;
}

/* RFC 1071, not yet complemented. */
static uint32_t checksum_add(uint32_t sum, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		sum += i % 2 ? data[i] : (uint32_t)data[i] << 8;
	return sum;
}

static uint16_t checksum_end(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

size_t dhcp_frame_build(const struct dhcp_datagram *datagram, uint8_t *to, size_t room)
{
	size_t total = DHCP_FRAME_HEADER_BYTES + datagram->bytes;
	uint8_t *ip = to, *udp = to + 20;
	uint16_t sum;

	if (datagram->bytes > LIMIT_DHCP_REPLY_BYTES || total > room)
		return 0;
	memset(to, 0, DHCP_FRAME_HEADER_BYTES);
	ip[0] = 0x45;
	put_be16(ip + 2, (uint16_t)total);
	ip[8] = 64; /* TTL */
	ip[9] = IPPROTO_UDP;
	memcpy(ip + 12, &datagram->from, 4);
	memcpy(ip + 16, &datagram->to, 4);
	put_be16(ip + 10, checksum_end(checksum_add(0, ip, 20)));
	put_be16(udp, datagram->from_port);
	put_be16(udp + 2, datagram->to_port);
	put_be16(udp + 4, (uint16_t)(8 + datagram->bytes));
	memcpy(udp + 8, datagram->data, datagram->bytes);
	/* The pseudo header: addresses, protocol, length. */
	sum = checksum_end(checksum_add(IPPROTO_UDP + 8 + (uint32_t)datagram->bytes, ip + 12, 8) +
			   checksum_add(0, udp, 8 + datagram->bytes));
	put_be16(udp + 6, sum ? sum : 0xffff); /* RFC 768: 0 says "none" */
	return total;
}
