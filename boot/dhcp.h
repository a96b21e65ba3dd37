/*
 * The DHCP side of network boot, without sockets and without a clock: messages come in, decisions
 * are asked of the owner, messages go out through `struct dhcp_io`. Two modes:
 *
 *   proxy   beside the router's DHCP: a board that wants to boot gets a second offer without an
 *           address, which says only "boot from here". Nobody else is ever answered.
 *   known   (dhcp_known.h) addresses too, one merged offer, for a network that has no DHCP server.
 *
 * It also watches what others say and tells each trouble once, in a sentence with its cure.
 *
 * All functions, and all callbacks, run on one thread. A callback may call dhcp_go(), dhcp_begun(),
 * dhcp_find_mac(), dhcp_find_address() and dhcp_lease_stored(), nothing else of this.
 * Times are milliseconds of dhcp_io.now_ms, which never goes back. Peers are hostile: what they
 * send can cost at most one of LIMIT_DHCP_CLIENTS places.
 */
#ifndef LUNROOT_BOOT_DHCP_H
#define LUNROOT_BOOT_DHCP_H

#include <net/if.h>

#include "dhcp_known.h"
#include "dhcp_packet.h"
#include "model.h"

struct dhcp;

/* A board or PC that asks to be booted, as far as is known. */
struct dhcp_client {
	struct pi_identity pi; /* its MAC is always there */
	int ifindex;
	/* Option 93: 0 BIOS and every Pi, 7 x86-64 UEFI, 11 arm64 UEFI; 0xffff: none. */
	uint16_t architecture;
	bool http; /* UEFI asks to be booted by HTTP: it takes a URL */
	bool ipxe; /* iPXE asks: it takes a script, or "http://" */
	/* What it got, and from which DHCP server; 0.0.0.0: not seen yet. */
	struct in_addr address, server;
	struct in_addr local;       /* our address towards it: its TFTP server; 0.0.0.0: none */
	unsigned discovers, offers; /* of this start of the board */
};

enum dhcp_verdict {
	DHCP_IGNORE, /* not ours: silence (in known mode an address without boot options) */
	DHCP_OFFER,  /* boot it */
	DHCP_WAIT,   /* ours, but not yet: the owner calls dhcp_go() when the boot may begin */
};

/* What DHCP_OFFER needs for a client that is no Pi. */
struct dhcp_boot {
	/* TFTP path, or a URL for iPXE; "": it can't be answered. */
	char file[LIMIT_DHCP_BOOT_FILE_BYTES + 1];
};

enum dhcp_event {
	DHCP_EVENT_DISCOVER, /* a board asks, each time it does */
	DHCP_EVENT_OFFER,    /* it was offered its boot */
	DHCP_EVENT_ADDRESS,  /* its address and who gave it are known, or changed */
	DHCP_EVENT_TROUBLE,  /* `text` is a sentence with a cure; the client may be NULL */
	/* Known mode, for each interface: nobody else answers there, addresses are given from now
	 * on; another server is there (`text` says which), so nothing is given. */
	DHCP_EVENT_SERVING,
	DHCP_EVENT_REFUSED,
};

struct dhcp_ops {
	/* For every DISCOVER of a Pi, and of any other PXE client (model PI_NONE), for which the
	 * answer must be DHCP_IGNORE unless its MAC was registered. `boot` is empty at first. */
	enum dhcp_verdict (*ask)(void *arg, const struct dhcp_client *client,
				 struct dhcp_boot *boot);
	/* `client` is NULL where an event is about none. `text` is NULL but for troubles. */
	void (*event)(void *arg, const struct dhcp_client *client, enum dhcp_event event,
		      const char *text);

	/* The rest only for the known mode. */
	struct dhcp_known_ops known;
	/*
	 * Keeps a lease: 0 when it is on disk (then the ACK goes out), -EINPROGRESS when the owner
	 * will call dhcp_lease_stored(), else -errno (no ACK; the client asks again).
	 */
	int (*lease_store)(void *arg, const struct dhcp_lease *lease);
	/* Was given back; best effort. */
	void (*lease_forget)(void *arg, const uint8_t mac[6]);
};

struct dhcp_config {
	bool known;        /* known mode; else proxy */
	bool known_anyway; /* and also where another server answers */
	bool leases_later; /* no address is given before dhcp_leases_loaded() */
	struct dhcp_known_config addresses;
	struct in_addr router; /* 0.0.0.0: none is told */
	struct in_addr dns[LIMIT_DHCP_NAME_SERVERS];
	unsigned dns_count;
	char domain[LIMIT_DHCP_DOMAIN_BYTES + 1];
};

/* One datagram to be sent. */
struct dhcp_out {
	int ifindex;
	/* false: through the kernel's UDP, as to any address. true: as a frame to `to_mac`, since
	 * the client has no address yet (or everybody is meant). */
	bool frame;
	uint8_t to_mac[6];
	struct dhcp_datagram datagram;
};

/* What is beneath: dhcp_socket.c, or a test. */
struct dhcp_io {
	uint64_t (*now_ms)(void *arg);
	void (*send)(void *arg, const struct dhcp_out *out);
	/* A small broadcast frame (ARP) from this interface and address. */
	void (*nudge)(void *arg, int ifindex, struct in_addr local);
	/* For the next half minute this MAC need not be asked for by ARP; best effort. */
	void (*neighbour)(void *arg, int ifindex, struct in_addr address, const uint8_t mac[6]);
	/* dhcp_run() shall be called at this time; the last call counts. */
	void (*timer)(void *arg, uint64_t due_ms);
};

/* An interface that works: up, with a carrier. */
struct dhcp_iface {
	int ifindex;
	char name[IF_NAMESIZE];
	uint8_t mac[6];
	struct dhcp_net nets[LIMIT_DHCP_ADDRESSES]; /* its IPv4 addresses, the primary one first */
	unsigned net_count;
};

/* NULL: no memory. `ops`, `io` and their arguments must outlive it. */
struct dhcp *dhcp_new(const struct dhcp_config *config, const struct dhcp_ops *ops, void *arg);
void dhcp_free(struct dhcp *dhcp); /* NULL is fine */
/* Before anything else is called. */
void dhcp_set_io(struct dhcp *dhcp, const struct dhcp_io *io, void *arg);

/*
 * An interface is there, or has changed; 0 or -ENOSPC beyond LIMIT_DHCP_INTERFACES. In known mode
 * it is asked first whether another server answers there (three seconds), each time it comes back.
 */
int dhcp_iface_set(struct dhcp *dhcp, const struct dhcp_iface *iface);
void dhcp_iface_gone(struct dhcp *dhcp, int ifindex);

/* A datagram to port 67, 68 or 4011 was seen on an interface; others and malformed ones are
 * ignored. */
void dhcp_input(struct dhcp *dhcp, int ifindex, const struct dhcp_datagram *datagram);
/* An 802.2 frame to the spanning tree's group address was. */
void dhcp_input_bpdu(struct dhcp *dhcp, int ifindex, const uint8_t *llc, size_t bytes);

/* What is due. */
void dhcp_run(struct dhcp *dhcp);

/*
 * The boot of a client that had to wait may begin: ask() is asked again within this call, and if it
 * says DHCP_OFFER the offer goes out for the newest DISCOVER if the client still listens for one,
 * else with its next. A client that does not wait, or is unknown: nothing.
 */
void dhcp_go(struct dhcp *dhcp, const uint8_t mac[6]);
/* It has come to fetch files, so no offer has to be repeated. `address`: where it asks from, or
 * 0.0.0.0. */
void dhcp_begun(struct dhcp *dhcp, const uint8_t mac[6], struct in_addr address);
/* The client with this address, or NULL; valid until the next call of any function. */
const struct dhcp_client *dhcp_find_address(struct dhcp *dhcp, struct in_addr address);
const struct dhcp_client *dhcp_find_mac(struct dhcp *dhcp, const uint8_t mac[6]);

/* Known mode: a lease from before, once the io is set. As dhcp_known_load(). */
int dhcp_lease_load(struct dhcp *dhcp, const struct dhcp_lease *lease);
/* Known mode with config.leases_later: all leases from before are known now. */
void dhcp_leases_loaded(struct dhcp *dhcp);
/* Known mode: the lease that lease_store() took is kept (0), or could not be (-errno). */
void dhcp_lease_stored(struct dhcp *dhcp, const uint8_t mac[6], int res);

#endif
