/*
 * Known mode's answers: what dhcp_known.c decides, as messages. A board that may boot gets its
 * address and its boot in one offer. An ACK goes out when its lease is kept, not before.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dhcp_internal.h"

#define BOOT_XID_MS 60000 /* a REQUEST with the boot's transaction id is the bootloader's */

/* The interface's network that the pool is in; without a pool, or outside it, the first. */
static const struct dhcp_net *net_of(const struct dhcp *dhcp, const struct iface *iface)
{
	struct in_addr pool = dhcp->config.addresses.pool_first;

	for (unsigned i = 0; pool.s_addr && i < iface->at.net_count; i++)
		if (dhcp_net_has(&iface->at.nets[i], pool))
			return &iface->at.nets[i];
	return iface->at.net_count ? &iface->at.nets[0] : NULL;
}

static void put_lease(struct dhcp_reply *reply, const struct dhcp_known_answer *answer)
{
	if (!answer->address.s_addr)
		return; /* to an INFORM */
	reply->wire.head.yiaddr = dhcp_be32(answer->address);
	dhcp_put_u32(reply, DHCP_OPT_LEASE, answer->lease_s);
	dhcp_put_u32(reply, DHCP_OPT_T1, answer->lease_s / 2);
	dhcp_put_u32(reply, DHCP_OPT_T2, answer->lease_s / 8 * 7);
}

static void put_network(struct dhcp_reply *reply, const struct dhcp_config *config,
			const struct dhcp_net *net, const char *hostname)
{
	struct in_addr broadcast = {net->address.s_addr | ~net->mask.s_addr};

	dhcp_put_address(reply, DHCP_OPT_MASK, net->mask);
	if (config->router.s_addr)
		dhcp_put_address(reply, DHCP_OPT_ROUTER, config->router);
	if (config->dns_count)
		dhcp_put(reply, DHCP_OPT_DNS, config->dns,
			 config->dns_count * sizeof(config->dns[0]));
	dhcp_put_address(reply, DHCP_OPT_BROADCAST, broadcast);
	if (hostname[0])
		dhcp_put_text(reply, DHCP_OPT_HOSTNAME, hostname);
	if (config->domain[0])
		dhcp_put_text(reply, DHCP_OPT_DOMAIN, config->domain);
}

/* `boot`: the client is to boot by this answer; else NULL. */
static void answer_send(struct dhcp *dhcp, const struct iface *iface, const struct dhcp_net *net,
			const struct dhcp_request *request, const struct dhcp_known_answer *answer,
			const struct client *boot)
{
	struct dhcp_reply reply;
	bool broadcast = be16_get(request->head.flags) & DHCP_FLAG_BROADCAST;

	dhcp_reply_begin(&reply, request, answer->type);
	dhcp_put_address(&reply, DHCP_OPT_SERVER, net->address);
	if (answer->type == DHCP_MSG_NAK) {
		dhcp_put_text(&reply, DHCP_OPT_TEXT, answer->why);
		dhcp_reply_send(dhcp, iface, &reply, net->address, true);
		return;
	}
	if (answer->type == DHCP_MSG_ACK)
		reply.wire.head.ciaddr = request->head.ciaddr;
	put_lease(&reply, answer);
	/* What makes it boot comes before what is only comfort, should there be no room for all. */
	if (boot)
		dhcp_boot_options(&reply, boot);
	put_network(&reply, &dhcp->config, net, answer->hostname);
	/* A set ciaddr is where it can be reached: RFC 2131, 4.1 asks for the flag only without. */
	dhcp_reply_send(dhcp, iface, &reply, net->address,
			broadcast && !be32_get(reply.wire.head.ciaddr));
}

static void trouble_tell(struct dhcp *dhcp, const struct client *client, const struct iface *iface,
			 const uint8_t mac[6], const struct dhcp_known_answer *answer)
{
	char text[INET_ADDRSTRLEN];
	struct pi_identity pi = {.model = PI_NONE};
	char who[PI_IDENTITY_TEXT_BYTES];
	uint64_t key = dhcp_mac_key(mac);

	if (client)
		pi = client->seen.pi;
	memcpy(pi.mac, mac, 6);
	pi_identity_text(&pi, who);
	inet_ntop(AF_INET, &answer->trouble_address, text, sizeof(text));
	switch (answer->trouble) {
	case DHCP_KNOWN_FINE: break;
	case DHCP_KNOWN_POOL_FULL:
		dhcp_trouble(dhcp, client, TROUBLE_POOL_FULL, 0,
			     "no address is left on %s for %s: make the range larger or the leases "
			     "shorter, or give the nodes addresses of their own",
			     iface->at.name, who);
		break;
	case DHCP_KNOWN_STATIC_OUTSIDE:
		dhcp_trouble(
			dhcp, client, TROUBLE_STATIC_OUTSIDE, key,
			"the node of %s has the address %s, which can't be given on %s: choose "
			"one of that network that is not this machine's",
			who, text, iface->at.name);
		break;
	case DHCP_KNOWN_DECLINED:
		dhcp_trouble(dhcp, client, TROUBLE_DECLINED, ntohl(answer->trouble_address.s_addr),
			     "%s found its address %s in use by somebody else: another machine was "
			     "given it by hand, or by another DHCP server",
			     who, text);
		break;
	case DHCP_KNOWN_OTHER_SERVER:
		dhcp_trouble(dhcp, client, TROUBLE_FOREIGN_DHCP,
			     ntohl(answer->trouble_address.s_addr),
			     "another DHCP server, %s, gives addresses on %s too, so two machines "
			     "may get one address: switch one of the two off",
			     text, iface->at.name);
		break;
	}
}

/* --- leases that are being kept --- */

static struct pending *pending_find(struct dhcp *dhcp, const uint8_t mac[6])
{
	list_for_each (pos, &dhcp->pending) {
		struct pending *pending = LIST_ENTRY(pos, struct pending, link);

		if (memcmp(pending->request.head.chaddr, mac, 6) == 0)
			return pending;
	}
	return NULL;
}

static void pending_free(struct dhcp *dhcp, struct pending *pending)
{
	list_remove(&pending->link);
	free(pending);
	dhcp->pending_count--;
}

/* 0: the ACK may go out now. */
static int lease_keep(struct dhcp *dhcp, const struct iface *iface,
		      const struct dhcp_request *request, const struct dhcp_known_answer *answer)
{
	struct pending *pending = pending_find(dhcp, request->head.chaddr);
	int res;

	if (pending && pending->answer.address.s_addr == answer->address.s_addr) {
		pending->request = *request; /* asked again meanwhile: one answer, to the newest */
		return -EINPROGRESS;
	}
	if (pending)
		pending_free(dhcp, pending);
	if (dhcp->pending_count >= LIMIT_LEASES)
		return -ENOSPC;
	pending = calloc(1, sizeof(*pending));
	if (!pending)
		return -ENOMEM;
	*pending = (struct pending){
		.ifindex = iface->at.ifindex, .request = *request, .answer = *answer};
	list_append(&dhcp->pending, &pending->link);
	dhcp->pending_count++;
	res = dhcp->ops->lease_store(dhcp->arg, &answer->lease);
	if (res != -EINPROGRESS) {
		/* The owner may have called dhcp_lease_stored() at once, which has freed it. */
		pending = pending_find(dhcp, request->head.chaddr);
		if (pending)
			pending_free(dhcp, pending);
	}
	return res;
}

static void store_failed(struct dhcp *dhcp, int res)
{
	dhcp_trouble(dhcp, NULL, TROUBLE_STORE, 0,
		     "leases can't be kept (%s), so no addresses are given: see whether lunrootd "
		     "runs and its disk has room",
		     strerror(-res));
}

/* The boot client this message comes from: the bootloader, not the system it has started. */
static struct client *boot_client(struct dhcp *dhcp, const struct dhcp_request *request)
{
	struct client *client = dhcp_client_find(dhcp, request->head.chaddr);

	if (!client || client->verdict != DHCP_OFFER || client->begun ||
	    be32_get(client->request.head.xid) != be32_get(request->head.xid) ||
	    dhcp_now(dhcp) - client->discover_ms > BOOT_XID_MS)
		return NULL;
	return client;
}

static void ack_send(struct dhcp *dhcp, struct iface *iface, const struct dhcp_net *net,
		     const struct dhcp_request *request, const struct dhcp_known_answer *answer)
{
	struct client *client = dhcp_client_find(dhcp, request->head.chaddr);

	answer_send(dhcp, iface, net, request, answer, boot_client(dhcp, request));
	if (client)
		dhcp_client_address(dhcp, client, answer->address, net->address);
}

void dhcp_leases_loaded(struct dhcp *dhcp)
{
	dhcp->config.leases_later = false;
}

void dhcp_lease_stored(struct dhcp *dhcp, const uint8_t mac[6], int res)
{
	struct pending *pending = pending_find(dhcp, mac);
	struct iface *iface;
	const struct dhcp_net *net;

	if (!pending)
		return;
	iface = dhcp_iface_find(dhcp, pending->ifindex);
	net = iface ? net_of(dhcp, iface) : NULL;
	if (res)
		store_failed(dhcp, res);
	else if (net && iface->known == KNOWN_SERVING)
		ack_send(dhcp, iface, net, &pending->request, &pending->answer);
	pending_free(dhcp, pending);
}

int dhcp_lease_load(struct dhcp *dhcp, const struct dhcp_lease *lease)
{
	return dhcp->known ? dhcp_known_load(dhcp->known, lease, dhcp_now(dhcp)) : -EINVAL;
}

void dhcp_address_done(struct dhcp *dhcp)
{
	while (!list_empty(&dhcp->pending))
		pending_free(dhcp, LIST_FIRST(&dhcp->pending, struct pending, link));
	dhcp_known_free(dhcp->known);
	dhcp->known = NULL;
}

/* --- requests --- */

static struct dhcp_known_answer known_ask(struct dhcp *dhcp, const struct iface *iface,
					  const struct dhcp_net *net,
					  const struct dhcp_request *request, const char *hostname)
{
	struct dhcp_known_answer answer = dhcp_known_ask(dhcp->known, net, dhcp->config.router,
							 request, hostname, dhcp_now(dhcp));

	trouble_tell(dhcp, dhcp_client_find(dhcp, request->head.chaddr), iface,
		     request->head.chaddr, &answer);
	for (unsigned i = 0; i < answer.forget_count; i++) {
		/* What was being kept is not wanted any more, and no ACK is due. */
		struct pending *pending = pending_find(dhcp, answer.forget[i]);

		if (pending)
			pending_free(dhcp, pending);
		dhcp->ops->lease_forget(dhcp->arg, answer.forget[i]);
	}
	return answer;
}

void dhcp_address_input(struct dhcp *dhcp, struct iface *iface, const struct dhcp_packet *packet)
{
	const struct dhcp_net *net = net_of(dhcp, iface);
	struct dhcp_request request = dhcp_request_of(packet);
	struct dhcp_known_answer answer;
	char hostname[LIMIT_OBJECT_NAME_BYTES + 1];
	int res;

	/* A multicast or empty MAC is nobody; other networks are not ours. */
	if (dhcp->config.leases_later || iface->known != KNOWN_SERVING || !net ||
	    be32_get(request.head.giaddr) || (request.head.chaddr[0] & 1) ||
	    !dhcp_mac_key(request.head.chaddr))
		return;
	dhcp_get_name(packet, DHCP_OPT_HOSTNAME, hostname, sizeof(hostname));
	answer = known_ask(dhcp, iface, net, &request, hostname);
	if (!answer.type)
		return;
	if (!answer.store) {
		answer_send(dhcp, iface, net, &request, &answer, NULL);
		return;
	}
	res = lease_keep(dhcp, iface, &request, &answer);
	if (res == 0)
		ack_send(dhcp, iface, net, &request, &answer);
	else if (res != -EINPROGRESS)
		store_failed(dhcp, res);
}

void dhcp_address_offer(struct dhcp *dhcp, struct client *client, struct iface *iface)
{
	const struct dhcp_net *net = net_of(dhcp, iface);
	struct dhcp_known_answer answer;

	if (dhcp->config.leases_later || !net)
		return;
	answer = known_ask(dhcp, iface, net, &client->request, "");
	if (answer.type != DHCP_MSG_OFFER)
		return;
	client->seen.local = net->address;
	client->seen.offers++;
	answer_send(dhcp, iface, net, &client->request, &answer, client);
	if (client_is_rom(client)) /* it uses the address at once */
		dhcp_client_address(dhcp, client, answer.address, net->address);
}
