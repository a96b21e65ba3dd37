/* The engine: clients, their timers, and who is answered when. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dhcp_internal.h"
#include "fingerprint.h"

/*
 * How long after a DISCOVER the offer goes out to a ROM of a Pi up to the 3 (and its bootcode.bin):
 * when the router's offer and ours come close together the 3B can fall into a loop, and a reply
 * that always comes at the same wrong moment never helps. Then from the start again.
 */
static const unsigned rom_delays_ms[] = {1000, 2000, 1500};
#define ROM_SPREAD_MS 200 /* on top of the first one, by MAC: boards are switched on together */
/* In known mode there is one offer only, so nothing to keep apart. */
static const unsigned rom_delays_known_ms[] = {0, 1000, 200};

#define REPEAT_MS 250 /* a second offer, to an EEPROM's bootloader that has not said REQUEST */
#define NUDGE_MS  25  /* a frame that sits in the 3B's network chip comes out with the next one */

/* So long a DISCOVER can be answered: a ROM's next comes after 5 s, an EEPROM's after 4 s. */
#define PATIENCE_ROM_MS 4800
#define PATIENCE_MS     3800

#define COPY_MS      100   /* the same DISCOVER through two interfaces of one network */
#define START_GAP_MS 30000 /* silent for longer: it has started anew */
#define GAVE_UP_MS   6000  /* a ROM asks each 5 s, or has given up */
#define NEIGHBOUR_MS                                                                 \
	10000 /* refreshed: the kernel trusts an entry for half of its 30 s at least \
	       */
#define NEIGHBOUR_KEPT_MS 120000 /* from the last sign of the board */

uint64_t dhcp_now(const struct dhcp *dhcp)
{
	return dhcp->io->now_ms(dhcp->io_arg);
}

void dhcp_due(struct dhcp *dhcp, uint64_t at_ms)
{
	if (at_ms >= dhcp->due_ms)
		return;
	dhcp->due_ms = at_ms;
	dhcp->io->timer(dhcp->io_arg, at_ms);
}

void dhcp_event(struct dhcp *dhcp, const struct client *client, enum dhcp_event event,
		const char *text)
{
	dhcp->ops->event(dhcp->arg, client ? &client->seen : NULL, event, text);
}

/* --- clients --- */

static struct list *client_bucket(struct dhcp *dhcp, const uint8_t mac[6])
{
	uint32_t hash = get_be32(mac + 2) * 2654435761u ^ get_be16(mac);

	return &dhcp->by_mac[(hash ^ hash >> 16) % CLIENT_BUCKETS];
}

struct client *dhcp_client_find(struct dhcp *dhcp, const uint8_t mac[6])
{
	struct list *bucket = client_bucket(dhcp, mac);

	list_for_each (pos, bucket) {
		struct client *client = LIST_ENTRY(pos, struct client, by_mac);

		if (memcmp(client->seen.pi.mac, mac, 6) == 0)
			return client;
	}
	return NULL;
}

static void client_free(struct dhcp *dhcp, struct client *client)
{
	list_remove(&client->by_mac);
	list_remove(&client->by_age);
	free(client);
	dhcp->client_count--;
}

/* Makes room: the one unheard of longest goes, of the oldest ones rather one that is not ours. */
static void client_forget_one(struct dhcp *dhcp)
{
	struct client *victim = LIST_FIRST(&dhcp->by_age, struct client, by_age);
	unsigned looked = 0;

	list_for_each (pos, &dhcp->by_age) {
		struct client *client = LIST_ENTRY(pos, struct client, by_age);

		if (client->verdict == DHCP_IGNORE) {
			victim = client;
			break;
		}
		if (++looked == 64)
			break;
	}
	client_free(dhcp, victim);
}

static struct client *client_new(struct dhcp *dhcp, const uint8_t mac[6])
{
	struct client *client;

	if (dhcp->client_count >= LIMIT_DHCP_CLIENTS)
		client_forget_one(dhcp);
	client = calloc(1, sizeof(*client));
	if (!client)
		return NULL;
	memcpy(client->seen.pi.mac, mac, 6);
	client->offer_ms = client->repeat_ms = client->nudge_ms = NEVER;
	client->gave_up_ms = client->neighbour_ms = NEVER;
	list_append(client_bucket(dhcp, mac), &client->by_mac);
	list_append(&dhcp->by_age, &client->by_age);
	dhcp->client_count++;
	return client;
}

static void client_heard(struct dhcp *dhcp, struct client *client)
{
	client->heard_ms = dhcp_now(dhcp);
	list_remove(&client->by_age);
	list_append(&dhcp->by_age, &client->by_age);
}

/* Its operating system has taken over: nothing of the boot is to be sent any more. */
static void client_taken_over(struct client *client)
{
	client->begun = true;
	client->offer_ms = client->repeat_ms = client->nudge_ms = NEVER;
	client->gave_up_ms = client->neighbour_ms = NEVER;
}

void dhcp_client_local(struct client *client, const struct iface *iface)
{
	const struct in_addr wishes[] = {client->seen.address, iface->given};

	for (unsigned w = 0; w < ARRAY_COUNT(wishes); w++)
		for (unsigned i = 0; wishes[w].s_addr && i < iface->at.net_count; i++)
			if (dhcp_net_has(&iface->at.nets[i], wishes[w])) {
				client->seen.local = iface->at.nets[i].address;
				return;
			}
	client->seen.local = iface->at.net_count ? iface->at.nets[0].address : (struct in_addr){0};
}

/* The address may be told to the kernel as this MAC's: never one that is ours or the server's. */
static bool neighbour_fits(const struct client *client, const struct iface *iface)
{
	if (client->seen.address.s_addr == client->seen.server.s_addr)
		return false;
	for (unsigned i = 0; i < iface->at.net_count; i++)
		if (client->seen.address.s_addr == iface->at.nets[i].address.s_addr)
			return false;
	for (unsigned i = 0; i < iface->at.net_count; i++)
		if (dhcp_net_can_give(&iface->at.nets[i], client->seen.address))
			return true;
	return false;
}

/* A ROM is deaf to ARP while it loads; what it needs is told to the kernel again and again. */
static void client_neighbour(struct dhcp *dhcp, struct client *client)
{
	const struct iface *iface = dhcp_iface_find(dhcp, client->seen.ifindex);
	uint64_t now = dhcp_now(dhcp);

	client->neighbour_ms = NEVER;
	if (!iface || !client_is_rom(client) || client->verdict == DHCP_IGNORE ||
	    !client->seen.address.s_addr || !neighbour_fits(client, iface) ||
	    now >= client->neighbour_until_ms)
		return;
	dhcp->io->neighbour(dhcp->io_arg, client->seen.ifindex, client->seen.address,
			    client->seen.pi.mac);
	client->neighbour_ms = now + NEIGHBOUR_MS;
	dhcp_due(dhcp, client->neighbour_ms);
}

static bool iface_has(const struct iface *iface, struct in_addr address)
{
	for (unsigned i = 0; i < iface->at.net_count; i++) {
		if (dhcp_net_has(&iface->at.nets[i], address))
			return true;
	}
	return false;
}

void dhcp_client_address(struct dhcp *dhcp, struct client *client, struct in_addr address,
			 struct in_addr server)
{
	struct iface *iface = dhcp_iface_find(dhcp, client->seen.ifindex);
	bool news = address.s_addr && (address.s_addr != client->seen.address.s_addr ||
				       server.s_addr != client->seen.server.s_addr);

	if (!iface || !news)
		return;
	client->seen.address = address;
	client->seen.server = server;
	client->neighbour_until_ms = dhcp_now(dhcp) + NEIGHBOUR_KEPT_MS;
	dhcp_client_local(client, iface);
	/* What somebody says to have in another network is no address of a board of this one. */
	if (iface_has(iface, address)) {
		client_neighbour(dhcp, client);
		dhcp_event(dhcp, client, DHCP_EVENT_ADDRESS, NULL);
	}
	dhcp_watch_address(dhcp, client, iface);
}

/* --- offers --- */

static void offer_now(struct dhcp *dhcp, struct client *client)
{
	struct iface *iface = dhcp_iface_find(dhcp, client->seen.ifindex);
	unsigned offers = client->seen.offers;
	uint64_t now = dhcp_now(dhcp);

	client->offer_ms = NEVER;
	if (!iface || client->begun)
		return;
	dhcp_client_local(client, iface);
	if (dhcp->known) {
		if (iface->known == KNOWN_SERVING)
			dhcp_address_offer(dhcp, client, iface);
	} else {
		dhcp_offer_send(dhcp, client);
	}
	if (client->seen.offers == offers)
		return; /* it could not be made, and the reason was told */
	if (client_is_rom(client)) {
		client->nudges = NUDGES;
		client->nudge_ms = now + NUDGE_MS;
		dhcp_due(dhcp, client->nudge_ms);
	} else if (pi_model_is_new(client->seen.pi.model) && !dhcp->known) {
		client->repeat_ms = now + REPEAT_MS;
		dhcp_due(dhcp, client->repeat_ms);
	}
	dhcp_event(dhcp, client, DHCP_EVENT_OFFER, NULL);
}

static unsigned offer_delay_ms(const struct dhcp *dhcp, const struct client *client)
{
	const unsigned *delays = dhcp->known ? rom_delays_known_ms : rom_delays_ms;
	unsigned turn = client->seen.discovers ? client->seen.discovers - 1 : 0;

	if (!client_is_rom(client))
		return 0;
	turn %= ARRAY_COUNT(rom_delays_ms);
	return delays[turn] +
	       (delays[turn] && turn == 0 ? client->seen.pi.mac[5] * ROM_SPREAD_MS / 255u : 0);
}

static void offer_plan(struct dhcp *dhcp, struct client *client)
{
	uint64_t at = client->discover_ms + offer_delay_ms(dhcp, client);

	client->offer_ms = at;
	if (at <= dhcp_now(dhcp))
		offer_now(dhcp, client);
	else
		dhcp_due(dhcp, at);
}

/* --- what comes in --- */

/* What a request says of its sender, beside what was known before. */
static struct dhcp_client seen_now(const struct client *client, const struct iface *iface,
				   const struct dhcp_packet *packet)
{
	struct dhcp_client seen = client ? client->seen : (struct dhcp_client){0};
	struct pi_identity pi = pi_identify(packet);

	/* bootcode.bin says less than the ROM before it did. */
	if (pi.model == PI_OLD_UNKNOWN && !pi_model_is_new(seen.pi.model) &&
	    seen.pi.model != PI_NONE)
		pi.model = seen.pi.model;
	if (!pi.has_serial && seen.pi.has_serial && pi.model == seen.pi.model) {
		pi.has_serial = true;
		pi.serial = seen.pi.serial;
	}
	seen.pi = pi;
	seen.ifindex = iface->at.ifindex;
	seen.architecture = pxe_architecture(packet);
	seen.ipxe = pxe_is_ipxe(packet);
	seen.http = pxe_is_http(packet);
	return seen;
}

static void client_new_start(struct client *client)
{
	client->seen.discovers = client->seen.offers = 0;
	client->seen.address.s_addr = client->seen.server.s_addr = 0;
	client->begun = false;
	client->neighbour_ms = NEVER;
}

static void client_discover(struct dhcp *dhcp, struct client *client, struct iface *iface,
			    const struct dhcp_packet *packet)
{
	struct pi_identity before = client->seen.pi;
	uint64_t now = dhcp_now(dhcp);

	client->seen = seen_now(client, iface, packet);
	if (client->begun || client->seen.pi.rom != before.rom ||
	    client->seen.pi.bootcode != before.bootcode || now - client->discover_ms > START_GAP_MS)
		client_new_start(client);
	client->request = dhcp_request_of(packet);
	client->discover_ms = now;
	client->seen.discovers++;
	client->requested = false;
	client->offer_ms = client->repeat_ms = client->nudge_ms = client->gave_up_ms = NEVER;
	dhcp_client_local(client, iface);
	if (client->seen.pi.rom) {
		client->gave_up_ms = now + GAVE_UP_MS;
		dhcp_due(dhcp, client->gave_up_ms);
	}
}

static void ask(struct dhcp *dhcp, struct client *client)
{
	/* Until the answer is there the client does not wait: dhcp_go() has nothing to do. */
	client->verdict = DHCP_IGNORE;
	memset(&client->boot, 0, sizeof(client->boot));
	client->verdict = dhcp->ops->ask(dhcp->arg, &client->seen, &client->boot);
}

/* A DISCOVER of somebody who wants to boot. */
static void boot_discover(struct dhcp *dhcp, struct iface *iface, const struct dhcp_packet *packet)
{
	struct client *client = dhcp_client_find(dhcp, packet->head.chaddr);
	uint64_t now = dhcp_now(dhcp);

	if (client && now - client->discover_ms < COPY_MS &&
	    client->seen.ifindex != iface->at.ifindex &&
	    be32_get(client->request.head.xid) == be32_get(packet->head.xid))
		return;
	if (!client)
		client = client_new(dhcp, packet->head.chaddr);
	if (!client)
		return; /* no memory: it asks again */
	client_heard(dhcp, client);
	client_discover(dhcp, client, iface, packet);
	dhcp_event(dhcp, client, DHCP_EVENT_DISCOVER, NULL);
	ask(dhcp, client);
	if (client->verdict == DHCP_OFFER)
		offer_plan(dhcp, client);
	else if (client->verdict == DHCP_IGNORE && dhcp->known)
		dhcp_address_input(dhcp, iface, packet);
	if (client->verdict != DHCP_IGNORE)
		dhcp_watch_discover(dhcp, client, iface);
}

/* A REQUEST is the router's business; but it says what the client was given, and by whom. */
static void boot_request(struct dhcp *dhcp, struct client *client, const struct dhcp_packet *packet)
{
	struct dhcp_request request = dhcp_request_of(packet);

	client_heard(dhcp, client);
	client->requested = true;
	client->repeat_ms = NEVER;
	dhcp_client_address(dhcp, client,
			    request.requested.s_addr ? request.requested
						     : dhcp_address(packet->head.ciaddr),
			    request.server.s_addr ? request.server : client->seen.server);
}

/*
 * Who has an address may speak of that one alone: any program can put another's MAC and address in
 * a message. Only a board that has none yet says from 0.0.0.0 what it will have.
 */
static bool speaks_for_another(const struct dhcp_packet *packet,
			       const struct dhcp_datagram *datagram)
{
	return packet->type == DHCP_MSG_REQUEST && datagram->from.s_addr &&
	       datagram->from.s_addr != dhcp_address(packet->head.ciaddr).s_addr;
}

/* Any request to port 67. */
static void input_request(struct dhcp *dhcp, struct iface *iface, const struct dhcp_packet *packet,
			  const struct dhcp_datagram *datagram)
{
	struct client *client = dhcp_client_find(dhcp, packet->head.chaddr);

	/* Any program can say to be a relay, and the board's own frame is not seen behind one. */
	if (be32_get(packet->head.giaddr)) {
		dhcp_watch_relay(dhcp, iface, packet);
		return;
	}
	if (packet->type == DHCP_MSG_DISCOVER && pxe_client(packet)) {
		/* A board that boots has no address yet. */
		if (!datagram->from.s_addr)
			boot_discover(dhcp, iface, packet);
		return;
	}
	if (client && packet->type == DHCP_MSG_DISCOVER)
		client_taken_over(client);
	/* The boot is over for one that renews: nothing is to be learnt of it. */
	if (client && packet->type == DHCP_MSG_REQUEST && !dhcp->known && !datagram->from.s_addr)
		boot_request(dhcp, client, packet);
	if (dhcp->known && !speaks_for_another(packet, datagram))
		dhcp_address_input(dhcp, iface, packet);
}

/* Port 4011: PCs ask here for the boot file once they have their address; no Pi does. */
static void input_pxe(struct dhcp *dhcp, struct iface *iface, const struct dhcp_packet *packet,
		      const struct dhcp_datagram *datagram)
{
	struct client *client = dhcp_client_find(dhcp, packet->head.chaddr);
	struct dhcp_request request = dhcp_request_of(packet);
	bool to_us = false;

	for (unsigned i = 0; i < iface->at.net_count; i++)
		to_us |= iface->at.nets[i].address.s_addr == datagram->to.s_addr;
	/* Who never sent a DISCOVER here is answered neither, nor who has got files since: any
	 * program on a PC that runs can ask, and would begin another boot. */
	if (!client || client->begun || !to_us || !pxe_client(packet) ||
	    pi_identify(packet).model != PI_NONE ||
	    (packet->type != DHCP_MSG_REQUEST && packet->type != DHCP_MSG_INFORM))
		return;
	client_heard(dhcp, client);
	client->seen = seen_now(client, iface, packet);
	ask(dhcp, client);
	if (client->verdict == DHCP_OFFER)
		dhcp_pxe_send(dhcp, client, &request, datagram);
}

void dhcp_input(struct dhcp *dhcp, int ifindex, const struct dhcp_datagram *datagram)
{
	struct iface *iface = dhcp_iface_find(dhcp, ifindex);
	struct dhcp_packet packet;

	if (!iface || dhcp_parse(datagram->data, datagram->bytes, &packet) != 0)
		return;
	if (packet.head.op == 2)
		dhcp_watch_reply(dhcp, iface, datagram, &packet);
	else if (memcmp(packet.head.chaddr, iface->at.mac, 6) == 0)
		return; /* this machine's own client, or our probe */
	else if (datagram->to_port == DHCP_PORT_SERVER)
		input_request(dhcp, iface, &packet, datagram);
	else if (datagram->to_port == DHCP_PORT_PXE)
		input_pxe(dhcp, iface, &packet, datagram);
}

/* --- what the owner says --- */

void dhcp_go(struct dhcp *dhcp, const uint8_t mac[6])
{
	struct client *client = dhcp_client_find(dhcp, mac);
	uint64_t patience = client && client_is_rom(client) ? PATIENCE_ROM_MS : PATIENCE_MS;

	if (!client || client->verdict != DHCP_WAIT)
		return;
	ask(dhcp, client);
	if (client->verdict == DHCP_OFFER && dhcp_now(dhcp) - client->discover_ms < patience)
		offer_plan(dhcp, client);
}

void dhcp_begun(struct dhcp *dhcp, const uint8_t mac[6], struct in_addr address)
{
	struct client *client = dhcp_client_find(dhcp, mac);

	if (!client)
		return;
	client_heard(dhcp, client);
	client->begun = true;
	client->offer_ms = client->repeat_ms = client->gave_up_ms = NEVER;
	client->neighbour_until_ms = dhcp_now(dhcp) + NEIGHBOUR_KEPT_MS;
	if (address.s_addr && address.s_addr != client->seen.address.s_addr)
		dhcp_client_address(dhcp, client, address, client->seen.server);
	else if (client->neighbour_ms == NEVER)
		client_neighbour(dhcp, client);
}

const struct dhcp_client *dhcp_find_mac(struct dhcp *dhcp, const uint8_t mac[6])
{
	struct client *client = dhcp_client_find(dhcp, mac);

	return client ? &client->seen : NULL;
}

const struct dhcp_client *dhcp_find_address(struct dhcp *dhcp, struct in_addr address)
{
	const struct dhcp_client *found = NULL;

	/* Heard last comes last, and is right if two claim one address. */
	list_for_each (pos, &dhcp->by_age) {
		struct client *client = LIST_ENTRY(pos, struct client, by_age);

		if (address.s_addr && client->seen.address.s_addr == address.s_addr)
			found = &client->seen;
	}
	return found;
}

/* --- time --- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t client_due(const struct client *client)
{
	return earlier(
		earlier(client->offer_ms, client->repeat_ms),
		earlier(client->nudge_ms, earlier(client->gave_up_ms, client->neighbour_ms)));
}

static void client_run(struct dhcp *dhcp, struct client *client, uint64_t now)
{
	if (client->offer_ms <= now)
		offer_now(dhcp, client);
	if (client->repeat_ms <= now) {
		client->repeat_ms = NEVER;
		if (!client->begun && !client->requested)
			dhcp_offer_send(dhcp, client);
	}
	if (client->nudge_ms <= now) {
		client->nudge_ms = --client->nudges ? now + NUDGE_MS : NEVER;
		dhcp->io->nudge(dhcp->io_arg, client->seen.ifindex, client->seen.local);
	}
	if (client->gave_up_ms <= now) {
		client->gave_up_ms = NEVER;
		dhcp_watch_gave_up(dhcp, client);
	}
	if (client->neighbour_ms <= now)
		client_neighbour(dhcp, client);
}

void dhcp_run(struct dhcp *dhcp)
{
	uint64_t now = dhcp_now(dhcp);
	uint64_t next = NEVER;

	dhcp->due_ms = NEVER;
	/* By MAC: what the owner does meanwhile changes the order by age. */
	for (unsigned i = 0; i < CLIENT_BUCKETS; i++)
		list_for_each (pos, &dhcp->by_mac[i]) {
			struct client *client = LIST_ENTRY(pos, struct client, by_mac);

			if (client_due(client) <= now)
				client_run(dhcp, client, now);
			next = earlier(next, client_due(client));
		}
	for (unsigned i = 0; i < LIMIT_DHCP_INTERFACES; i++) {
		struct iface *iface = &dhcp->ifaces[i];

		if (iface->at.ifindex && iface->probing && iface->probe_ms <= now)
			dhcp_probe_run(dhcp, iface);
		if (iface->at.ifindex && iface->probing)
			next = earlier(next, iface->probe_ms);
	}
	dhcp_due(dhcp, next);
}

/* --- interfaces --- */

struct iface *dhcp_iface_find(struct dhcp *dhcp, int ifindex)
{
	for (unsigned i = 0; ifindex && i < LIMIT_DHCP_INTERFACES; i++)
		if (dhcp->ifaces[i].at.ifindex == ifindex)
			return &dhcp->ifaces[i];
	return NULL;
}

int dhcp_iface_set(struct dhcp *dhcp, const struct dhcp_iface *at)
{
	struct iface *iface = dhcp_iface_find(dhcp, at->ifindex);
	bool came = !iface;

	assert(at->ifindex > 0 && at->net_count <= LIMIT_DHCP_ADDRESSES);
	for (unsigned i = 0; !iface && i < LIMIT_DHCP_INTERFACES; i++)
		if (!dhcp->ifaces[i].at.ifindex)
			iface = &dhcp->ifaces[i];
	if (!iface)
		return -ENOSPC;
	if (came)
		memset(iface, 0, sizeof(*iface));
	iface->at = *at;
	if (came && dhcp->known && dhcp->config.known_anyway) {
		iface->known = KNOWN_SERVING;
		dhcp_event(dhcp, NULL, DHCP_EVENT_SERVING, NULL);
	} else if (came && dhcp->known) {
		iface->known = KNOWN_PROBING;
		dhcp_probe_begin(dhcp, iface, NULL);
	} else if (!dhcp->known && at->net_count > 1) {
		/* Which of its networks do boards get their addresses in? */
		dhcp_probe_begin(dhcp, iface, NULL);
	}
	return 0;
}

void dhcp_iface_gone(struct dhcp *dhcp, int ifindex)
{
	struct iface *iface = dhcp_iface_find(dhcp, ifindex);

	if (iface)
		memset(iface, 0, sizeof(*iface));
}

/* --- life --- */

struct dhcp *dhcp_new(const struct dhcp_config *config, const struct dhcp_ops *ops, void *arg)
{
	struct dhcp *dhcp = calloc(1, sizeof(*dhcp));

	if (!dhcp)
		return NULL;
	dhcp->config = *config;
	dhcp->ops = ops;
	dhcp->arg = arg;
	dhcp->due_ms = NEVER;
	list_init(&dhcp->by_age);
	list_init(&dhcp->pending);
	for (unsigned i = 0; i < CLIENT_BUCKETS; i++)
		list_init(&dhcp->by_mac[i]);
	if (config->known) {
		dhcp->known = dhcp_known_new(&config->addresses, &ops->known, arg);
		if (!dhcp->known) {
			free(dhcp);
			return NULL;
		}
	}
	return dhcp;
}

void dhcp_free(struct dhcp *dhcp)
{
	if (!dhcp)
		return;
	while (!list_empty(&dhcp->by_age))
		client_free(dhcp, LIST_FIRST(&dhcp->by_age, struct client, by_age));
	dhcp_address_done(dhcp);
	free(dhcp);
}

void dhcp_set_io(struct dhcp *dhcp, const struct dhcp_io *io, void *arg)
{
	dhcp->io = io;
	dhcp->io_arg = arg;
}
