/*
 * Addresses for a network that has no DHCP server (`--dhcp known`): which address a client gets and
 * for how long. Static ones for known nodes, a pool for the rest, leases that outlive a restart
 * because the owner keeps them. It decides; the engine (dhcp.h) builds and sends the answers.
 *
 * A client is its MAC address, whatever identifier it sends (option 61): a board's ROM, its
 * initramfs and its operating system send three different ones and must get one address.
 *
 * One thread: that of the engine.
 */
#ifndef LUNROOT_BOOT_DHCP_KNOWN_H
#define LUNROOT_BOOT_DHCP_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "dhcp_packet.h"

struct dhcp_lease {
	uint8_t mac[6];
	struct in_addr address;
	int64_t until_s; /* UNIX time; in the past: expired, kept so that it can be given again */
	char hostname[LIMIT_OBJECT_NAME_BYTES + 1];
};

/* What the owner wants for one MAC. */
struct dhcp_host {
	struct in_addr address; /* 0.0.0.0: from the pool */
	char hostname[LIMIT_OBJECT_NAME_BYTES + 1];
};

struct dhcp_known_config {
	struct in_addr pool_first, pool_last; /* inclusive; 0.0.0.0: nobody but hosts gets one */
	uint32_t lease_s;                     /* 0: one hour */
};

struct dhcp_known_ops {
	/* A node with this MAC; false: nothing is known of it. */
	bool (*host)(void *arg, const uint8_t mac[6], struct dhcp_host *ret_host);
	/* Some node has this address as its static one. */
	bool (*is_static)(void *arg, struct in_addr address);
	/* UNIX time in seconds. */
	int64_t (*unix_s)(void *arg);
};

/* Our end of the network the request came from. */
struct dhcp_net {
	struct in_addr address, mask;
};

static inline bool dhcp_net_has(const struct dhcp_net *net, struct in_addr address)
{
	return ((address.s_addr ^ net->address.s_addr) & net->mask.s_addr) == 0;
}

/* A usable host address of the net other than our own. */
bool dhcp_net_can_give(const struct dhcp_net *net, struct in_addr address);

enum dhcp_known_trouble {
	DHCP_KNOWN_FINE,
	DHCP_KNOWN_POOL_FULL,
	DHCP_KNOWN_STATIC_OUTSIDE, /* a node's static address is not of this network */
	DHCP_KNOWN_DECLINED,       /* somebody else uses the address */
	DHCP_KNOWN_OTHER_SERVER,   /* the client took another server's offer */
};

struct dhcp_known_answer {
	enum dhcp_message type; /* OFFER, ACK or NAK; 0: silence */
	struct in_addr address; /* the client's; 0.0.0.0 in the ACK to an INFORM */
	uint32_t lease_s;
	char hostname[LIMIT_OBJECT_NAME_BYTES + 1];
	/*
	 * Leases that have ended here, which are to be dropped before `lease` is kept: the
	 * client's, and that of another one that had its address.
	 */
	uint8_t forget[2][6];
	unsigned forget_count;
	bool store; /* keep `lease` before the ACK goes out */
	struct dhcp_lease lease;
	const char *why; /* of a NAK */
	enum dhcp_known_trouble trouble;
	struct in_addr trouble_address;
};

struct dhcp_known;

/* NULL: no memory. `ops` and `arg` must outlive it. */
struct dhcp_known *dhcp_known_new(const struct dhcp_known_config *config,
				  const struct dhcp_known_ops *ops, void *arg);
void dhcp_known_free(struct dhcp_known *known); /* NULL is fine */

/* A lease from before; 0, -ENOSPC beyond LIMIT_LEASES, -EEXIST if the address is another's. */
int dhcp_known_load(struct dhcp_known *known, const struct dhcp_lease *lease, uint64_t now_ms);

/*
 * What is answered to a request (RFC 2131, 4.3) that arrived in this network; `router` is an
 * address never given (0.0.0.0: none). `hostname`: what the client calls itself, may be "".
 */
struct dhcp_known_answer dhcp_known_ask(struct dhcp_known *known, const struct dhcp_net *net,
					struct in_addr router, const struct dhcp_request *request,
					const char *hostname, uint64_t now_ms);

/* The address a MAC has or is offered now; 0.0.0.0. */
struct in_addr dhcp_known_address(const struct dhcp_known *known, const uint8_t mac[6],
				  uint64_t now_ms);

#endif
