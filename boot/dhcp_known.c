/* Which address a client gets: static ones, leases, the pool. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "dhcp_known.h"

#define BUCKETS         1024
#define LEASE_S_DEFAULT 3600
/* An offer is kept this long: a Pi's ROM never says REQUEST and uses what it was offered. */
#define RESERVE_BOOT_MS (15ull * 60 * 1000)
/* Others say REQUEST within seconds, and the pool is not theirs to keep. */
#define RESERVE_MS (60ull * 1000)
/* An address that somebody else uses is left alone this long. */
#define DECLINED_MS (60ull * 60 * 1000)

/*
 * One MAC and its address. Expired leases stay, so that a client gets its old address again; when
 * the table or the pool is full, the one that expired first is reused.
 */
struct lease {
	struct list by_mac, by_address;
	uint8_t mac[6];
	struct in_addr address;
	uint64_t until_ms; /* bound or reserved up to here */
	bool bound;        /* by an ACK; else an OFFER's reservation, or DECLINED's quarantine */
	bool declined;     /* nobody's: `mac` means nothing */
	char hostname[LIMIT_OBJECT_NAME_BYTES + 1];
};

struct dhcp_known {
	struct dhcp_known_config config;
	const struct dhcp_known_ops *ops;
	void *arg;
	struct list by_mac[BUCKETS], by_address[BUCKETS];
	unsigned count;
	uint32_t next; /* of the pool, to be tried first; host order */
};

bool dhcp_net_can_give(const struct dhcp_net *net, struct in_addr address)
{
	uint32_t host = ntohl(address.s_addr & ~net->mask.s_addr);
	uint32_t all = ntohl(~net->mask.s_addr);

	return dhcp_net_has(net, address) && address.s_addr != net->address.s_addr && host != 0 &&
	       host != all;
}

/* --- the table --- */

static struct list *mac_bucket(const struct dhcp_known *known, const uint8_t mac[6])
{
	uint32_t hash = get_be32(mac + 2) * 2654435761u ^ get_be16(mac);

	return (struct list *)&known->by_mac[(hash ^ hash >> 16) % BUCKETS];
}

static struct list *address_bucket(const struct dhcp_known *known, struct in_addr address)
{
	return (struct list *)&known->by_address[ntohl(address.s_addr) % BUCKETS];
}

static struct lease *find_mac(const struct dhcp_known *known, const uint8_t mac[6])
{
	struct list *bucket = mac_bucket(known, mac);

	list_for_each (pos, bucket) {
		struct lease *lease = LIST_ENTRY(pos, struct lease, by_mac);

		if (!lease->declined && memcmp(lease->mac, mac, 6) == 0)
			return lease;
	}
	return NULL;
}

static struct lease *find_address(const struct dhcp_known *known, struct in_addr address)
{
	struct list *bucket = address_bucket(known, address);

	list_for_each (pos, bucket) {
		struct lease *lease = LIST_ENTRY(pos, struct lease, by_address);

		if (lease->address.s_addr == address.s_addr)
			return lease;
	}
	return NULL;
}

static void lease_free(struct dhcp_known *known, struct lease *lease)
{
	list_remove(&lease->by_mac);
	list_remove(&lease->by_address);
	free(lease);
	known->count--;
}

/* The expired lease that ended first; NULL if none has. */
static struct lease *find_oldest(const struct dhcp_known *known, uint64_t now_ms)
{
	struct lease *oldest = NULL;

	for (unsigned i = 0; i < BUCKETS; i++)
		list_for_each (pos, &known->by_address[i]) {
			struct lease *lease = LIST_ENTRY(pos, struct lease, by_address);

			if (lease->until_ms <= now_ms &&
			    (!oldest || lease->until_ms < oldest->until_ms))
				oldest = lease;
		}
	return oldest;
}

/* A lease of this MAC and address, which are nobody's; NULL: no room. */
static struct lease *lease_new(struct dhcp_known *known, const uint8_t mac[6],
			       struct in_addr address, uint64_t now_ms)
{
	struct lease *lease;

	if (known->count >= LIMIT_LEASES) {
		struct lease *oldest = find_oldest(known, now_ms);

		if (!oldest)
			return NULL;
		lease_free(known, oldest);
	}
	lease = calloc(1, sizeof(*lease));
	if (!lease)
		return NULL;
	memcpy(lease->mac, mac, 6);
	lease->address = address;
	list_append(mac_bucket(known, mac), &lease->by_mac);
	list_append(address_bucket(known, address), &lease->by_address);
	known->count++;
	return lease;
}

struct dhcp_known *dhcp_known_new(const struct dhcp_known_config *config,
				  const struct dhcp_known_ops *ops, void *arg)
{
	struct dhcp_known *known = calloc(1, sizeof(*known));

	if (!known)
		return NULL;
	known->config = *config;
	if (!known->config.lease_s)
		known->config.lease_s = LEASE_S_DEFAULT;
	known->ops = ops;
	known->arg = arg;
	known->next = ntohl(config->pool_first.s_addr);
	for (unsigned i = 0; i < BUCKETS; i++) {
		list_init(&known->by_mac[i]);
		list_init(&known->by_address[i]);
	}
	return known;
}

void dhcp_known_free(struct dhcp_known *known)
{
	if (!known)
		return;
	for (unsigned i = 0; i < BUCKETS; i++)
		while (!list_empty(&known->by_address[i]))
			lease_free(known,
				   LIST_FIRST(&known->by_address[i], struct lease, by_address));
	free(known);
}

int dhcp_known_load(struct dhcp_known *known, const struct dhcp_lease *from, uint64_t now_ms)
{
	struct lease *lease = find_mac(known, from->mac);
	int64_t left_s = from->until_s - known->ops->unix_s(known->arg);

	if (find_address(known, from->address))
		return -EEXIST;
	if (lease)
		lease_free(known, lease);
	if (known->count >= LIMIT_LEASES)
		return -ENOSPC;
	lease = lease_new(known, from->mac, from->address, now_ms);
	if (!lease)
		return -ENOMEM;
	/* A clock that jumped must not make leases that never end. */
	if (left_s > (int64_t)known->config.lease_s)
		left_s = known->config.lease_s;
	lease->bound = true;
	lease->until_ms = left_s > 0 ? now_ms + (uint64_t)left_s * 1000 : 0;
	memcpy(lease->hostname, from->hostname, sizeof(lease->hostname));
	lease->hostname[sizeof(lease->hostname) - 1] = 0;
	return 0;
}

struct in_addr dhcp_known_address(const struct dhcp_known *known, const uint8_t mac[6],
				  uint64_t now_ms)
{
	struct lease *lease = find_mac(known, mac);

	return lease && lease->until_ms > now_ms ? lease->address : (struct in_addr){0};
}

/* --- choosing --- */

/* One request and what is decided for it. */
struct ask {
	struct dhcp_known *known;
	const struct dhcp_net *net;
	struct in_addr router;
	const struct dhcp_request *request;
	const uint8_t *mac;
	struct dhcp_host host; /* its address is 0.0.0.0 unless it fits this network */
	uint64_t now_ms;
	struct dhcp_known_answer answer;
};

static bool in_pool(const struct ask *ask, struct in_addr address)
{
	const struct dhcp_known_config *config = &ask->known->config;
	uint32_t a = ntohl(address.s_addr);

	return config->pool_first.s_addr && a >= ntohl(config->pool_first.s_addr) &&
	       a <= ntohl(config->pool_last.s_addr) && dhcp_net_can_give(ask->net, address) &&
	       address.s_addr != ask->router.s_addr &&
	       !ask->known->ops->is_static(ask->known->arg, address);
}

/* The client may have this address: its own static one, or one of the pool that is nobody else's.
 */
static bool may_have(const struct ask *ask, struct in_addr address)
{
	const struct lease *lease = find_address(ask->known, address);

	if (ask->host.address.s_addr)
		return address.s_addr == ask->host.address.s_addr;
	if (!in_pool(ask, address))
		return false;
	return !lease || lease->until_ms <= ask->now_ms ||
	       (!lease->declined && memcmp(lease->mac, ask->mac, 6) == 0);
}

/* An address of the pool that never was anybody's, else the one that expired first. */
static struct in_addr pick_from_pool(const struct ask *ask)
{
	struct dhcp_known *known = ask->known;
	uint32_t first = ntohl(known->config.pool_first.s_addr);
	uint32_t last = ntohl(known->config.pool_last.s_addr);
	struct lease *oldest = NULL;

	if (!first || last < first)
		return (struct in_addr){0};
	/* Every address is looked at at most once, and of those with a lease there are few. */
	for (uint32_t i = 0; i <= last - first && i <= 2u * LIMIT_LEASES; i++) {
		struct in_addr address = {htonl(known->next)};
		struct lease *lease = find_address(known, address);

		known->next = known->next >= last ? first : known->next + 1;
		if (lease && (lease->until_ms > ask->now_ms ||
			      (oldest && lease->until_ms >= oldest->until_ms)))
			continue;
		if (!in_pool(ask, address))
			continue;
		if (!lease)
			return address;
		oldest = lease;
	}
	return oldest ? oldest->address : (struct in_addr){0};
}

/* The one address this client shall have now; 0.0.0.0: none can be given. */
static struct in_addr pick(struct ask *ask)
{
	const struct lease *lease = find_mac(ask->known, ask->mac);
	struct in_addr address;

	if (ask->host.address.s_addr)
		return ask->host.address;
	if (lease && may_have(ask, lease->address))
		return lease->address;
	if (ask->request->requested.s_addr && may_have(ask, ask->request->requested))
		return ask->request->requested;
	address = pick_from_pool(ask);
	if (!address.s_addr && ask->known->config.pool_first.s_addr)
		ask->answer.trouble = DHCP_KNOWN_POOL_FULL;
	return address;
}

/* What was kept of a lease has ended with it. */
static void forget(struct ask *ask, const struct lease *lease)
{
	if (lease->bound)
		memcpy(ask->answer.forget[ask->answer.forget_count++], lease->mac, 6);
}

/*
 * Gives the address to the client, whoever had it before; NULL: no room. The owner keeps an address
 * for one MAC only: what others have kept of it would stand in the way until it ends.
 */
static struct lease *take(struct ask *ask, struct in_addr address)
{
	struct lease *lease = find_mac(ask->known, ask->mac);
	struct lease *other = find_address(ask->known, address);

	if (lease && lease->address.s_addr == address.s_addr)
		return lease;
	if (lease) {
		forget(ask, lease);
		lease_free(ask->known, lease);
	}
	if (other) {
		forget(ask, other);
		lease_free(ask->known, other);
	}
	return lease_new(ask->known, ask->mac, address, ask->now_ms);
}

/* --- the messages --- */

static void answer_address(struct ask *ask, enum dhcp_message type, struct in_addr address)
{
	ask->answer.type = type;
	ask->answer.address = address;
	ask->answer.lease_s = ask->known->config.lease_s;
	memcpy(ask->answer.hostname, ask->host.hostname, sizeof(ask->answer.hostname));
}

static void nak(struct ask *ask, const char *why)
{
	ask->answer.type = DHCP_MSG_NAK;
	ask->answer.why = why;
}

static void discover(struct ask *ask)
{
	struct in_addr address = pick(ask);
	uint64_t until_ms = ask->now_ms + (ask->request->guid_bytes ? RESERVE_BOOT_MS : RESERVE_MS);
	struct lease *lease;

	if (!address.s_addr)
		return;
	lease = take(ask, address);
	if (!lease) {
		ask->answer.trouble = DHCP_KNOWN_POOL_FULL;
		return;
	}
	if (lease->until_ms <= ask->now_ms)
		lease->bound = false;
	/* An ACK's lease is not shortened by this, and must outlast what a ROM takes it for. */
	if (lease->until_ms < until_ms)
		lease->until_ms = until_ms;
	answer_address(ask, DHCP_MSG_OFFER, address);
}

static void bind_lease(struct ask *ask, struct in_addr address, const char *hostname)
{
	struct lease *lease = take(ask, address);
	const char *name = ask->host.hostname[0] ? ask->host.hostname : hostname;
	uint64_t kept_ms = (uint64_t)ask->known->config.lease_s * 1000;

	if (!lease) {
		ask->answer.trouble = DHCP_KNOWN_POOL_FULL;
		return;
	}
	lease->bound = true;
	lease->until_ms = ask->now_ms + kept_ms;
	memset(lease->hostname, 0, sizeof(lease->hostname));
	memcpy(lease->hostname, name, strnlen(name, sizeof(lease->hostname) - 1));
	answer_address(ask, DHCP_MSG_ACK, address);
	ask->answer.store = true;
	memcpy(ask->answer.lease.mac, lease->mac, 6);
	ask->answer.lease.address = address;
	ask->answer.lease.until_s =
		ask->known->ops->unix_s(ask->known->arg) + ask->known->config.lease_s;
	memcpy(ask->answer.lease.hostname, lease->hostname, sizeof(lease->hostname));
}

/* RFC 2131, 4.3.2: what kind of REQUEST it is stands in which fields are filled. */
static void request(struct ask *ask, const char *hostname)
{
	const struct dhcp_request *r = ask->request;
	struct in_addr ciaddr = dhcp_address(r->head.ciaddr);
	struct in_addr wanted = r->server.s_addr || !ciaddr.s_addr ? r->requested : ciaddr;
	struct lease *lease = find_mac(ask->known, ask->mac);

	if (r->server.s_addr && r->server.s_addr != ask->net->address.s_addr) {
		/* Another server's offer was taken: our reservation ends. */
		if (lease && !lease->bound)
			lease_free(ask->known, lease);
		ask->answer.trouble = DHCP_KNOWN_OTHER_SERVER;
		ask->answer.trouble_address = r->server;
		return;
	}
	if (!wanted.s_addr)
		return;
	if (!dhcp_net_has(ask->net, wanted))
		nak(ask, "this address is of another network");
	else if (!may_have(ask, wanted))
		nak(ask, "this address belongs to somebody else");
	else /* without a record too: we are the only server here */
		bind_lease(ask, wanted, hostname);
}

static void decline(struct ask *ask)
{
	struct in_addr address = ask->request->requested;
	struct lease *lease = find_address(ask->known, address);

	if (!lease || lease->declined || memcmp(lease->mac, ask->mac, 6) != 0)
		return; /* nobody may take an address away that it has not got */
	ask->answer.trouble = DHCP_KNOWN_DECLINED;
	ask->answer.trouble_address = address;
	forget(ask, lease);
	if (ask->host.address.s_addr == address.s_addr) {
		lease_free(ask->known, lease); /* its only one: it may ask again */
		return;
	}
	lease->declined = true;
	lease->bound = false;
	lease->until_ms = ask->now_ms + DECLINED_MS;
}

static void release(struct ask *ask)
{
	struct lease *lease = find_mac(ask->known, ask->mac);

	if (!lease || lease->address.s_addr != dhcp_address(ask->request->head.ciaddr).s_addr)
		return;
	forget(ask, lease);
	lease->bound = false;
	lease->until_ms = ask->now_ms; /* it is the first choice when the client comes back */
}

static void inform(struct ask *ask)
{
	if (!dhcp_net_has(ask->net, dhcp_address(ask->request->head.ciaddr)))
		return;
	ask->answer.type = DHCP_MSG_ACK;
	memcpy(ask->answer.hostname, ask->host.hostname, sizeof(ask->answer.hostname));
}

struct dhcp_known_answer dhcp_known_ask(struct dhcp_known *known, const struct dhcp_net *net,
					struct in_addr router, const struct dhcp_request *r,
					const char *hostname, uint64_t now_ms)
{
	struct ask ask = {
		.known = known,
		.net = net,
		.router = router,
		.request = r,
		.mac = r->head.chaddr,
		.now_ms = now_ms,
	};

	if (!known->ops->host(known->arg, ask.mac, &ask.host))
		memset(&ask.host, 0, sizeof(ask.host));
	if (ask.host.address.s_addr && !dhcp_net_can_give(net, ask.host.address)) {
		ask.answer.trouble = DHCP_KNOWN_STATIC_OUTSIDE;
		ask.answer.trouble_address = ask.host.address;
		ask.host.address.s_addr = 0;
	}
	switch (r->type) {
	case DHCP_MSG_DISCOVER: discover(&ask); break;
	case DHCP_MSG_REQUEST: request(&ask, hostname); break;
	case DHCP_MSG_DECLINE: decline(&ask); break;
	case DHCP_MSG_RELEASE: release(&ask); break;
	case DHCP_MSG_INFORM: inform(&ask); break;
	case DHCP_MSG_OFFER:
	case DHCP_MSG_ACK:
	case DHCP_MSG_NAK: break;
	}
	return ask.answer;
}
