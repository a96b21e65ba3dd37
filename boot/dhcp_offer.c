/*
 * The answers that make a board boot from us. Two shapes:
 *
 *   a Pi      option 43 with "Raspberry Pi Boot" in a PXE menu, padded with three spaces for the
 *             3B's ROM, which counts its length wrong; the newer ones search for the text in it.
 *             The TFTP server is option 54. ROMs get exactly what dnsmasq's proxy sends, since
 *             that is known to work; EEPROM bootloaders get the server in 66 and siaddr too.
 *   others    the boot file and the server, in the header's fields and in options 66 and 67: iPXE
 *             and UEFI take the file from the offer, or ask for it again at port 4011.
 */
#include <arpa/inet.h>
#include <string.h>

#include "dhcp_internal.h"

static const uint8_t pi_menu[] = {
	6,   1,   3,                  /* discovery control: no broadcast, no multicast */
	10,  4,   0,   'P', 'X', 'E', /* prompt: no time to choose */
	9,   23,  0,   0,   20,       /* menu: the local boot's type, 20 letters */
	'R', 'a', 's', 'p', 'b', 'e', 'r', 'r', 'y', ' ', 'P',
	'i', ' ', 'B', 'o', 'o', 't', ' ', ' ', ' ', 255,
};
static_assert(sizeof(pi_menu) == 35, "the padded form");

/* "Use the boot file of this offer": for PXE ROMs of PCs, which would else look for a menu. */
static const uint8_t pxe_use_file[] = {6, 1, 8, 255};

static void put_tftp_server(struct dhcp_reply *reply, struct in_addr local)
{
	char text[INET_ADDRSTRLEN];

	reply->wire.head.siaddr = dhcp_be32(local);
	if (inet_ntop(AF_INET, &local, text, sizeof(text)))
		dhcp_put_text(reply, DHCP_OPT_TFTP_SERVER, text);
}

void dhcp_boot_options(struct dhcp_reply *reply, const struct client *client)
{
	const struct dhcp_client *seen = &client->seen;

	dhcp_put_text(reply, DHCP_OPT_CLASS, seen->http ? "HTTPClient" : "PXEClient");
	if (client->request.guid_bytes)
		dhcp_put(reply, DHCP_OPT_GUID, client->request.guid, client->request.guid_bytes);
	if (seen->pi.model != PI_NONE) {
		dhcp_put(reply, DHCP_OPT_VENDOR, pi_menu, sizeof(pi_menu));
		if (!client_is_rom(client))
			put_tftp_server(reply, seen->local);
		return;
	}
	if (seen->http) {
		dhcp_put_text(reply, DHCP_OPT_BOOT_FILE, client->boot.file);
		return;
	}
	if (seen->architecture == 0 && !seen->ipxe)
		dhcp_put(reply, DHCP_OPT_VENDOR, pxe_use_file, sizeof(pxe_use_file));
	put_tftp_server(reply, seen->local);
	memcpy(reply->wire.file, client->boot.file,
	       strnlen(client->boot.file, sizeof(reply->wire.file) - 1));
	dhcp_put_text(reply, DHCP_OPT_BOOT_FILE, client->boot.file);
}

void dhcp_reply_send(struct dhcp *dhcp, const struct iface *iface, struct dhcp_reply *reply,
		     struct in_addr local, bool broadcast)
{
	const struct dhcp_head *head = &reply->wire.head;
	struct dhcp_out out = {
		.ifindex = iface->at.ifindex,
		.frame = true,
		.datagram = {.from = local,
			     .to = {htonl(INADDR_BROADCAST)},
			     .from_port = DHCP_PORT_SERVER,
			     .to_port = DHCP_PORT_CLIENT,
			     .data = (const uint8_t *)&reply->wire,
			     .bytes = dhcp_reply_end(reply)},
	};

	memset(out.to_mac, 0xff, sizeof(out.to_mac));
	if (!broadcast && be32_get(head->ciaddr)) {
		out.frame = false;
		out.datagram.to = dhcp_address(head->ciaddr);
	} else if (!broadcast && be32_get(head->yiaddr)) {
		out.datagram.to = dhcp_address(head->yiaddr);
		memcpy(out.to_mac, head->chaddr, sizeof(out.to_mac));
	}
	dhcp->io->send(dhcp->io_arg, &out);
}

/* Whether there is anything that could be offered; if not, why is told. */
static bool offer_possible(struct dhcp *dhcp, struct client *client, const struct iface *iface)
{
	char who[PI_IDENTITY_TEXT_BYTES];
	uint64_t key = dhcp_mac_key(client->seen.pi.mac);

	pi_identity_text(&client->seen.pi, who);
	if (!client->seen.local.s_addr) {
		dhcp_trouble(dhcp, client, TROUBLE_NO_ADDRESS, (uint64_t)iface->at.ifindex,
			     "%s has no IPv4 address, so %s can't be offered its boot: give it one",
			     iface->at.name, who);
		return false;
	}
	if (client->seen.pi.model == PI_NONE && !client->boot.file[0]) {
		dhcp_trouble(dhcp, client, TROUBLE_NO_FILE, key,
			     "%s is no Raspberry Pi and there is no boot file for it: set one, or "
			     "take its MAC address from the node",
			     who);
		return false;
	}
	return true;
}

void dhcp_offer_send(struct dhcp *dhcp, struct client *client)
{
	struct iface *iface = dhcp_iface_find(dhcp, client->seen.ifindex);
	struct dhcp_reply reply;

	if (!iface || !offer_possible(dhcp, client, iface))
		return;
	dhcp_reply_begin(&reply, &client->request, DHCP_MSG_OFFER);
	be16_put(&reply.wire.head.flags, DHCP_FLAG_BROADCAST);
	dhcp_put_address(&reply, DHCP_OPT_SERVER, client->seen.local);
	dhcp_boot_options(&reply, client);
	client->seen.offers++;
	dhcp_reply_send(dhcp, iface, &reply, client->seen.local, true);
}

void dhcp_pxe_send(struct dhcp *dhcp, struct client *client, const struct dhcp_request *request,
		   const struct dhcp_datagram *to)
{
	struct iface *iface = dhcp_iface_find(dhcp, client->seen.ifindex);
	struct dhcp_reply reply;
	struct dhcp_out out = {.ifindex = client->seen.ifindex};

	client->seen.local = to->to; /* the address it has asked */
	client->request = *request;
	if (!iface || !to->from.s_addr || !offer_possible(dhcp, client, iface))
		return;
	dhcp_reply_begin(&reply, request, DHCP_MSG_ACK);
	reply.wire.head.ciaddr = request->head.ciaddr;
	dhcp_put_address(&reply, DHCP_OPT_SERVER, client->seen.local);
	dhcp_boot_options(&reply, client);
	out.datagram = (struct dhcp_datagram){
		.from = client->seen.local,
		.to = to->from,
		.from_port = DHCP_PORT_PXE,
		.to_port = to->from_port,
		.data = (const uint8_t *)&reply.wire,
		.bytes = dhcp_reply_end(&reply),
	};
	dhcp->io->send(dhcp->io_arg, &out);
}
