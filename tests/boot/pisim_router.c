/*
 * A router's DHCP as far as Pis need it: OFFER and ACK with the address that belongs to the client,
 * a mask and itself as gateway. Nothing about booting. Its answers pass the wire as others' do.
 */
#include <string.h>

#include "pisim.h"

enum { BOOTP_BYTES = 236 };

static const uint8_t router_mac[6] = {0x02, 0x77, 0, 0, 0, 1};

static void put32(uint8_t *to, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static size_t option_ip(uint8_t *to, uint8_t code, uint32_t value)
{
	to[0] = code;
	to[1] = 4;
	put32(to + 2, value);
	return 6;
}

/* Option 53 comes first in what a Pi sends. */
static uint8_t asked_type(const struct seen *seen)
{
	const uint8_t *options = seen->payload + BOOTP_BYTES + 4;

	return seen->bytes > BOOTP_BYTES + 7 && options[0] == 53 ? options[2] : 0;
}

void router_frame(struct sim *sim, const uint8_t *frame, size_t bytes)
{
	static const uint8_t cookie[4] = {0x63, 0x82, 0x53, 0x63};
	struct seen seen = packet_parse(frame, bytes);
	uint8_t payload[400] = {0}, reply[FRAME_BYTES_MAX], *at = payload + BOOTP_BYTES;
	struct udp_path path = {
		.from_port = PORT_DHCP_SERVER, .to_port = PORT_DHCP_CLIENT, .ttl = 64};
	struct pi *pi;
	uint8_t type;

	if (seen.kind != SEEN_UDP || seen.to_port != PORT_DHCP_SERVER)
		return;
	type = asked_type(&seen);
	pi = sim_by_mac(sim, seen.from_mac);
	if (!pi || (type != DHCP_DISCOVER && type != DHCP_REQUEST))
		return;
	path.from_ip = sim->router.address;
	path.to_ip = sim->router.address + 0x1000 + (uint32_t)(pi - sim->pis);
	memcpy(path.from_mac, router_mac, 6);
	memcpy(path.to_mac, seen.from_mac, 6);
	memcpy(payload, seen.payload, 44); /* op to chaddr: hardware, xid, client */
	payload[0] = 2;
	put32(payload + 16, path.to_ip);
	memcpy(at, cookie, 4);
	at += 4;
	*at++ = 53;
	*at++ = 1;
	*at++ = type == DHCP_DISCOVER ? DHCP_OFFER : DHCP_ACK;
	at += option_ip(at, 54, sim->router.address);
	at += option_ip(at, 51, 3600);
	at += option_ip(at, 1, 0xffff0000);
	at += option_ip(at, 3, sim->router.address);
	*at++ = 255;
	link_receive_after(&sim->link, reply,
			   packet_udp(reply, &path, payload, (size_t)(at - payload)),
			   sim->router.answer_us);
}
