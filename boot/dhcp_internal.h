/*
 * What the files of the DHCP engine share: dhcp.c (clients, timers, who is answered when),
 * dhcp_offer.c (the answers themselves), dhcp_watch.c (what others say, and troubles),
 * dhcp_address.c (known mode).
 */
#ifndef LUNROOT_BOOT_DHCP_INTERNAL_H
#define LUNROOT_BOOT_DHCP_INTERNAL_H

#include "base/list.h"
#include "dhcp.h"

#define NEVER UINT64_MAX

enum { CLIENT_BUCKETS = 1024, NUDGES = 2 };

/* One board. Times are NEVER while there is nothing to do. */
struct client {
	struct dhcp_client seen;
	struct list by_mac, by_age; /* by_age: heard longest ago first */
	uint64_t heard_ms, discover_ms;
	struct dhcp_request request; /* the newest DISCOVER */
	enum dhcp_verdict verdict;
	struct dhcp_boot boot;
	bool begun;     /* it fetches files, or has said REQUEST to the newest DISCOVER */
	bool requested; /* it has said REQUEST in this start */
	uint64_t offer_ms, repeat_ms, nudge_ms, gave_up_ms;
	unsigned nudges;       /* left to send */
	uint64_t neighbour_ms; /* next refreshing */
	uint64_t neighbour_until_ms;
};

enum known_state { KNOWN_OFF, KNOWN_PROBING, KNOWN_SERVING, KNOWN_REFUSED };

struct iface {
	struct dhcp_iface at; /* ifindex 0: the place is free */
	enum known_state known;
	/* A DISCOVER of our own, to see whether a DHCP server answers here. */
	bool probing;
	uint32_t probe_xid;
	unsigned probes; /* left to send */
	uint64_t probe_ms, probed_ms;
	struct in_addr probe_answer;
	uint8_t probe_for[6]; /* the client for whose sake */
	struct in_addr given; /* an address the network's DHCP server gave lately */
	bool bpdus;
	unsigned bpdu_delay_s;
};

enum trouble {
	TROUBLE_NO_ADDRESS,
	TROUBLE_NO_FILE,
	TROUBLE_NO_SERVER,
	TROUBLE_LOOP,
	TROUBLE_GAVE_UP,
	TROUBLE_FOREIGN_BOOT,
	TROUBLE_FOREIGN_TFTP,
	TROUBLE_FOREIGN_DHCP,
	TROUBLE_TWO_MACS,
	TROUBLE_OTHER_NET,
	TROUBLE_RELAY,
	TROUBLE_STP,
	TROUBLE_POOL_FULL,
	TROUBLE_STATIC_OUTSIDE,
	TROUBLE_DECLINED,
	TROUBLE_STORE,
	/* dhcp_socket.c */
	TROUBLE_PORT,
	TROUBLE_SEND,
	TROUBLE_NEIGHBOUR,
};

struct told {
	enum trouble trouble;
	uint64_t key;
	uint64_t at_ms; /* 0: free */
};

/* Known mode: an ACK that waits until its lease is kept. */
struct pending {
	struct list link;
	int ifindex;
	struct dhcp_request request;
	struct dhcp_known_answer answer;
};

struct dhcp {
	struct dhcp_config config;
	const struct dhcp_ops *ops;
	void *arg;
	const struct dhcp_io *io;
	void *io_arg;
	struct iface ifaces[LIMIT_DHCP_INTERFACES];
	struct list by_mac[CLIENT_BUCKETS], by_age;
	unsigned client_count;
	uint64_t due_ms;
	struct told told[LIMIT_DHCP_TROUBLES];
	struct dhcp_known *known;
	struct list pending;
	unsigned pending_count;
};

/* --- dhcp.c --- */
uint64_t dhcp_now(const struct dhcp *dhcp);
/* dhcp_run() shall be called by then. */
void dhcp_due(struct dhcp *dhcp, uint64_t at_ms);
struct iface *dhcp_iface_find(struct dhcp *dhcp, int ifindex);
struct client *dhcp_client_find(struct dhcp *dhcp, const uint8_t mac[6]);
void dhcp_event(struct dhcp *dhcp, const struct client *client, enum dhcp_event event,
		const char *text);
/* The address is the client's: told, checked, made known to the kernel where that helps. */
void dhcp_client_address(struct dhcp *dhcp, struct client *client, struct in_addr address,
			 struct in_addr server);
/* Which of our addresses the client shall use; updates seen.local. */
void dhcp_client_local(struct client *client, const struct iface *iface);
static inline bool client_is_rom(const struct client *client)
{
	return client->seen.pi.rom || client->seen.pi.bootcode;
}

/* --- dhcp_offer.c --- */
/* The options that make it boot from us. */
void dhcp_boot_options(struct dhcp_reply *reply, const struct client *client);
/* Sends the proxy's offer. */
void dhcp_offer_send(struct dhcp *dhcp, struct client *client);
/* Answers a request to port 4011. */
void dhcp_pxe_send(struct dhcp *dhcp, struct client *client, const struct dhcp_request *request,
		   const struct dhcp_datagram *to);
/* Ends the reply and sends it where RFC 2131, 4.1 says; a proxy's is always a broadcast. */
void dhcp_reply_send(struct dhcp *dhcp, const struct iface *iface, struct dhcp_reply *reply,
		     struct in_addr local, bool broadcast);

/* --- dhcp_watch.c --- */
/* Once an hour at most for each trouble and key. */
void dhcp_trouble(struct dhcp *dhcp, const struct client *client, enum trouble trouble,
		  uint64_t key, const char *format, ...) __attribute__((format(printf, 5, 6)));
uint64_t dhcp_mac_key(const uint8_t mac[6]);
/* A server's message was seen. */
void dhcp_watch_reply(struct dhcp *dhcp, struct iface *iface, const struct dhcp_datagram *datagram,
		      const struct dhcp_packet *packet);
void dhcp_watch_address(struct dhcp *dhcp, struct client *client, const struct iface *iface);
/* A DISCOVER of the client was counted. */
void dhcp_watch_discover(struct dhcp *dhcp, struct client *client, struct iface *iface);
/* A request came through a relay. */
void dhcp_watch_relay(struct dhcp *dhcp, const struct iface *iface,
		      const struct dhcp_packet *packet);
void dhcp_watch_gave_up(struct dhcp *dhcp, struct client *client);
/* Asks whether a DHCP server answers; `mac` for whom, or NULL. */
void dhcp_probe_begin(struct dhcp *dhcp, struct iface *iface, const uint8_t *mac);
void dhcp_probe_run(struct dhcp *dhcp, struct iface *iface);

/* --- dhcp_address.c: known mode --- */
/* Any request of any client. `client` is its entry if it wants to boot and may, else NULL. */
void dhcp_address_input(struct dhcp *dhcp, struct iface *iface, const struct dhcp_packet *packet);
/* The merged offer; also a late one. */
void dhcp_address_offer(struct dhcp *dhcp, struct client *client, struct iface *iface);
void dhcp_address_done(struct dhcp *dhcp);

#endif
