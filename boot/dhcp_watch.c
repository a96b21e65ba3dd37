/*
 * What others say on the network, and what is wrong there. Each trouble is a sentence with its
 * cure; the same one about the same thing comes again after an hour at the earliest.
 */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "dhcp_internal.h"
#include "fingerprint.h"

#define TOLD_AGAIN_MS       (60ull * 60 * 1000)
#define SAME_TIME_MS        (10ull * 60 * 1000) /* two boards heard within this are both there */
#define PROBES              2
#define PROBE_GAP_MS        1000
#define PROBE_WAIT_MS       2000
#define PROBE_AGAIN_MS      (10ull * 60 * 1000)
#define REFUSED_MS          (60ull * 1000) /* known mode: has the other server gone? */
#define NO_SERVER_DISCOVERS 3
#define LOOP_DISCOVERS      6
#define ROM_DISCOVERS       5

#define ADDRESS_TEXT INET_ADDRSTRLEN

static const char *address_text(struct in_addr address, char buffer[ADDRESS_TEXT])
{
	inet_ntop(AF_INET, &address, buffer, ADDRESS_TEXT);
	return buffer;
}

uint64_t dhcp_mac_key(const uint8_t mac[6])
{
	return (uint64_t)get_be16(mac) << 32 | get_be32(mac + 2);
}

/* Not told within the last hour; it counts as told from now on. */
static bool trouble_is_news(struct dhcp *dhcp, enum trouble trouble, uint64_t key)
{
	struct told *oldest = &dhcp->told[0];
	uint64_t now = dhcp_now(dhcp) + 1; /* 0 is a free place */

	for (unsigned i = 0; i < LIMIT_DHCP_TROUBLES; i++) {
		struct told *told = &dhcp->told[i];

		if (told->at_ms && told->trouble == trouble && told->key == key) {
			if (now - told->at_ms < TOLD_AGAIN_MS)
				return false;
			told->at_ms = now;
			return true;
		}
		if (told->at_ms < oldest->at_ms)
			oldest = told;
	}
	*oldest = (struct told){trouble, key, now};
	return true;
}

void dhcp_trouble(struct dhcp *dhcp, const struct client *client, enum trouble trouble,
		  uint64_t key, const char *format, ...)
{
	char text[512];
	va_list args;

	if (!trouble_is_news(dhcp, trouble, key))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	dhcp_event(dhcp, client, DHCP_EVENT_TROUBLE, text);
}

/* --- boards --- */

static void watch_two_macs(struct dhcp *dhcp, const uint8_t mac[6], struct in_addr address)
{
	uint64_t now = dhcp_now(dhcp);
	char where[ADDRESS_TEXT], who[PI_IDENTITY_TEXT_BYTES];

	list_for_each (pos, &dhcp->by_age) {
		struct client *client = LIST_ENTRY(pos, struct client, by_age);

		if (client->seen.address.s_addr != address.s_addr ||
		    now - client->heard_ms > SAME_TIME_MS ||
		    memcmp(client->seen.pi.mac, mac, 6) == 0)
			continue;
		dhcp_trouble(dhcp, client, TROUBLE_TWO_MACS, ntohl(address.s_addr),
			     "two boards were given the address %s: %s and "
			     "%02x:%02x:%02x:%02x:%02x:%02x. Pis up to the 3 never confirm an "
			     "address, so a router may give it again: reserve one for each of them",
			     address_text(address, where), pi_identity_text(&client->seen.pi, who),
			     mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
		return;
	}
}

void dhcp_watch_address(struct dhcp *dhcp, struct client *client, const struct iface *iface)
{
	char who[PI_IDENTITY_TEXT_BYTES], what[ADDRESS_TEXT], ours[ADDRESS_TEXT];

	watch_two_macs(dhcp, client->seen.pi.mac, client->seen.address);
	if (client->verdict == DHCP_IGNORE || !iface->at.net_count)
		return;
	for (unsigned i = 0; i < iface->at.net_count; i++)
		if (dhcp_net_has(&iface->at.nets[i], client->seen.address))
			return;
	dhcp_trouble(dhcp, client, TROUBLE_OTHER_NET, dhcp_mac_key(client->seen.pi.mac),
		     "%s got the address %s, which is not of the network of %s (%s) here: a Pi up "
		     "to the 3 can't reach its files then. Give this machine an address there, or "
		     "correct the router's DHCP range",
		     pi_identity_text(&client->seen.pi, who),
		     address_text(client->seen.address, what), iface->at.name,
		     address_text(iface->at.nets[0].address, ours));
}

void dhcp_watch_discover(struct dhcp *dhcp, struct client *client, struct iface *iface)
{
	const struct dhcp_client *seen = &client->seen;
	char who[PI_IDENTITY_TEXT_BYTES];

	if (!dhcp->known && seen->discovers >= NO_SERVER_DISCOVERS && !seen->address.s_addr)
		dhcp_probe_begin(dhcp, iface, seen->pi.mac);
	if (!client_is_rom(client) && seen->discovers >= LOOP_DISCOVERS &&
	    seen->offers + 2 >= LOOP_DISCOVERS)
		dhcp_trouble(dhcp, client, TROUBLE_LOOP, dhcp_mac_key(seen->pi.mac),
			     "%s still asks after %u offers%s. Its screen says what it waits for; "
			     "look for another boot server, for a switch that holds broadcasts "
			     "back, and for PXE_OPTION43 or TFTP_IP in its bootloader's settings",
			     pi_identity_text(&seen->pi, who), seen->offers,
			     seen->address.s_addr ? "" : " and has no address from a DHCP server");
}

void dhcp_watch_relay(struct dhcp *dhcp, const struct iface *iface,
		      const struct dhcp_packet *packet)
{
	struct pi_identity pi = pi_identify(packet);
	char who[PI_IDENTITY_TEXT_BYTES], relay[ADDRESS_TEXT];

	if (packet->type != DHCP_MSG_DISCOVER || pi.model == PI_NONE)
		return;
	/* Its MAC and the relay are only what somebody says: one word for all of them. */
	dhcp_trouble(dhcp, NULL, TROUBLE_RELAY, (uint64_t)iface->at.ifindex,
		     "%s asks from another network through the DHCP relay %s; boards behind a "
		     "relay can't be served: run lunbootd on a machine of their network",
		     pi_identity_text(&pi, who),
		     address_text(dhcp_address(packet->head.giaddr), relay));
}

void dhcp_watch_gave_up(struct dhcp *dhcp, struct client *client)
{
	const struct iface *iface = dhcp_iface_find(dhcp, client->seen.ifindex);
	const struct dhcp_client *seen = &client->seen;
	char who[PI_IDENTITY_TEXT_BYTES];

	if (client->begun || client->verdict == DHCP_IGNORE || !iface ||
	    (seen->discovers < ROM_DISCOVERS && !iface->bpdus))
		return;
	dhcp_trouble(dhcp, client, TROUBLE_GAVE_UP, dhcp_mac_key(seen->pi.mac),
		     "%s asked %u times, %s, and has given up: switch it off and on.%s",
		     pi_identity_text(&seen->pi, who), seen->discovers,
		     seen->offers ? "was offered its boot and did not take it"
				  : "its boot could not begin in time",
		     iface->bpdus ? " The switch speaks spanning tree: set the boards' ports to "
				    "edge (portfast)"
		     : seen->offers
			     ? " If it happens again, start it from an SD card with nothing but "
			       "bootcode.bin, which does better than its ROM"
			     : "");
}

/* --- servers --- */

static bool is_ours(const struct dhcp *dhcp, struct in_addr address)
{
	for (unsigned i = 0; i < LIMIT_DHCP_INTERFACES; i++)
		for (unsigned n = 0; n < dhcp->ifaces[i].at.net_count; n++)
			if (dhcp->ifaces[i].at.nets[n].address.s_addr == address.s_addr)
				return true;
	return false;
}

/* Somebody else tells one of our boards where to boot from. */
static void watch_boot_answer(struct dhcp *dhcp, const struct client *client,
			      const struct dhcp_packet *packet, struct in_addr server)
{
	static const char text[] = "Raspberry Pi Boot";
	char who[PI_IDENTITY_TEXT_BYTES], where[ADDRESS_TEXT], other[64], local[ADDRESS_TEXT];
	size_t bytes;
	const uint8_t *menu = dhcp_get(packet, DHCP_OPT_VENDOR, &bytes);
	bool boot = dhcp_begins(packet, DHCP_OPT_CLASS, "PXEClient") ||
		    (menu && memmem(menu, bytes, text, sizeof(text) - 1));

	pi_identity_text(&client->seen.pi, who);
	address_text(server, where);
	address_text(client->seen.local, local);
	dhcp_get_name(packet, DHCP_OPT_TFTP_SERVER, other, sizeof(other));
	if (boot)
		dhcp_trouble(dhcp, client, TROUBLE_FOREIGN_BOOT, ntohl(server.s_addr),
			     "another boot server at %s answers %s too, and which of the two it "
			     "follows is chance: switch the other off, or let it leave this "
			     "board out",
			     where, who);
	else if (other[0] && strcmp(other, local) != 0)
		dhcp_trouble(dhcp, client, TROUBLE_FOREIGN_TFTP, ntohl(server.s_addr),
			     "the DHCP server %s sends %s to another TFTP server, %s: remove "
			     "option 66 (TFTP server) there",
			     where, who, other);
}

void dhcp_watch_reply(struct dhcp *dhcp, struct iface *iface, const struct dhcp_datagram *datagram,
		      const struct dhcp_packet *packet)
{
	struct client *client = dhcp_client_find(dhcp, packet->head.chaddr);
	struct in_addr yiaddr = dhcp_address(packet->head.yiaddr);
	struct in_addr server = dhcp_get_address(packet, DHCP_OPT_SERVER);
	char where[ADDRESS_TEXT];

	if (!server.s_addr)
		server = datagram->from;
	if (datagram->to_port != DHCP_PORT_CLIENT || is_ours(dhcp, server) ||
	    (packet->type != DHCP_MSG_OFFER && packet->type != DHCP_MSG_ACK))
		return;
	if (iface->probing && be32_get(packet->head.xid) == iface->probe_xid &&
	    memcmp(packet->head.chaddr, iface->at.mac, 6) == 0 && yiaddr.s_addr) {
		iface->probe_answer = server;
		iface->given = yiaddr;
		return;
	}
	if (dhcp->known && iface->known == KNOWN_SERVING && yiaddr.s_addr)
		dhcp_trouble(dhcp, client, TROUBLE_FOREIGN_DHCP, ntohl(server.s_addr),
			     "another DHCP server, %s, gives addresses on %s too, so two machines "
			     "may get one address: switch one of the two off",
			     address_text(server, where), iface->at.name);
	if (yiaddr.s_addr) {
		iface->given = yiaddr;
		if (client && client->seen.ifindex == iface->at.ifindex)
			dhcp_client_address(dhcp, client, yiaddr, server);
		else if (!client)
			watch_two_macs(dhcp, packet->head.chaddr, yiaddr);
	}
	if (client && client->verdict != DHCP_IGNORE)
		watch_boot_answer(dhcp, client, packet, server);
}

/* --- does a DHCP server answer here? --- */

void dhcp_probe_begin(struct dhcp *dhcp, struct iface *iface, const uint8_t *mac)
{
	uint64_t now = dhcp_now(dhcp);

	if (iface->probing || (mac && iface->probed_ms && now - iface->probed_ms < PROBE_AGAIN_MS))
		return;
	iface->probing = true;
	iface->probes = PROBES;
	iface->probe_ms = now;
	iface->probe_answer.s_addr = 0;
	/* Ours is told by the MAC; a number that differs each time keeps late answers apart. */
	iface->probe_xid = (uint32_t)now * 2654435761u ^ (uint32_t)iface->at.ifindex ^ 0x6c756e62u;
	memset(iface->probe_for, 0, sizeof(iface->probe_for));
	if (mac)
		memcpy(iface->probe_for, mac, sizeof(iface->probe_for));
	dhcp_due(dhcp, now);
}

static void probe_send(struct dhcp *dhcp, struct iface *iface)
{
	struct dhcp_reply discover;
	struct dhcp_out out = {.ifindex = iface->at.ifindex, .frame = true};

	dhcp_discover_begin(&discover, iface->at.mac, iface->probe_xid);
	memset(out.to_mac, 0xff, sizeof(out.to_mac));
	out.datagram = (struct dhcp_datagram){
		.to = {htonl(INADDR_BROADCAST)},
		.from_port = DHCP_PORT_CLIENT,
		.to_port = DHCP_PORT_SERVER,
		.data = (const uint8_t *)&discover.wire,
		.bytes = dhcp_reply_end(&discover),
	};
	dhcp->io->send(dhcp->io_arg, &out);
}

static void known_decide(struct dhcp *dhcp, struct iface *iface)
{
	char text[256], where[ADDRESS_TEXT];
	enum known_state was = iface->known;

	if (!iface->probe_answer.s_addr) {
		iface->known = KNOWN_SERVING;
		dhcp_event(dhcp, NULL, DHCP_EVENT_SERVING, NULL);
		return;
	}
	iface->known = KNOWN_REFUSED;
	if (was != KNOWN_REFUSED) {
		snprintf(text, sizeof(text),
			 "another DHCP server, %s, answers on %s, so no addresses are given there: "
			 "leave them to it (without --dhcp known), or switch it off",
			 address_text(iface->probe_answer, where), iface->at.name);
		dhcp_event(dhcp, NULL, DHCP_EVENT_REFUSED, text);
	}
	iface->probing = true;
	iface->probes = PROBES;
	iface->probe_answer.s_addr = 0;
	iface->probe_ms = dhcp_now(dhcp) + REFUSED_MS;
	dhcp_due(dhcp, iface->probe_ms);
}

static void no_server_decide(struct dhcp *dhcp, struct iface *iface)
{
	struct client *client = dhcp_client_find(dhcp, iface->probe_for);
	char who[PI_IDENTITY_TEXT_BYTES];

	if (iface->probe_answer.s_addr || !client || client->seen.address.s_addr || client->begun)
		return;
	dhcp_trouble(
		dhcp, client, TROUBLE_NO_SERVER, (uint64_t)iface->at.ifindex,
		"no DHCP server answers on %s, so %s gets no address: is the router's DHCP on, "
		"and the router in this network? For a network without one there is --dhcp known",
		iface->at.name, pi_identity_text(&client->seen.pi, who));
}

void dhcp_probe_run(struct dhcp *dhcp, struct iface *iface)
{
	uint64_t now = dhcp_now(dhcp);

	if (iface->probes && !iface->probe_answer.s_addr) {
		iface->probes--;
		probe_send(dhcp, iface);
		iface->probe_ms = now + (iface->probes ? PROBE_GAP_MS : PROBE_WAIT_MS);
		dhcp_due(dhcp, iface->probe_ms);
		return;
	}
	iface->probing = false;
	iface->probed_ms = now;
	if (dhcp->known)
		known_decide(dhcp, iface);
	else
		no_server_decide(dhcp, iface);
}

/* --- spanning tree --- */

#define BPDU_BYTES         38 /* with its LLC header; IEEE 802.1D, 9.3.1 */
#define BPDU_FORWARD_DELAY 36 /* in 1/256 s */

void dhcp_input_bpdu(struct dhcp *dhcp, int ifindex, const uint8_t *llc, size_t bytes)
{
	static const uint8_t header[] = {0x42, 0x42, 0x03, 0, 0};
	struct iface *iface = dhcp_iface_find(dhcp, ifindex);
	unsigned delay_s;

	if (!iface || iface->bpdus || bytes < BPDU_BYTES ||
	    memcmp(llc, header, sizeof(header)) != 0 || (llc[6] != 0 && llc[6] != 2))
		return;
	iface->bpdus = true;
	/* Listening and learning each last this long. */
	delay_s = 2u * get_be16(llc + BPDU_FORWARD_DELAY) / 256;
	dhcp_trouble(dhcp, NULL, TROUBLE_STP, (uint64_t)ifindex,
		     "the switch on %s speaks spanning tree: a port whose board is switched on can "
		     "stay deaf for %u s, and a Pi up to the 3 asks for 25 s only. Set the boards' "
		     "ports to edge (portfast)",
		     iface->at.name, delay_s ? delay_s : 30);
}
