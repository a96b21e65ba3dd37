/*
 * What the rooms of the boot service share. Everything is the event loop's, but for what prepare.c
 * and tell.c hand to a worker.
 *
 *   service.c   start and end, the clock, the list of nodes
 *   ask.c       who asks by DHCP, and when he is let in
 *   strangers.c Pis that belong to no node
 *   leases.c    addresses of the small DHCP mode
 *   prepare.c   a boot's files and credentials, by a worker
 *   hand_out.c  files over TFTP and HTTP, and to whom the secret one goes
 *   listen.c    reports, and the logs of boot loaders
 *   tell.c      timelines and the state of the service, to lunrootd
 */
#ifndef LUNROOT_BOOT_SERVICE_INTERNAL_H
#define LUNROOT_BOOT_SERVICE_INTERNAL_H

#include <event2/event.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/mailbox.h"
#include "boots.h"
#include "dhcp.h"
#include "dhcp_socket.h"
#include "http.h"
#include "initramfs.h"
#include "nodes.h"
#include "options.h"
#include "programs.h"
#include "reach.h"
#include "serve.h"
#include "service.h"
#include "tftp.h"
#include "views.h"
#include "work.h"

struct service {
	const struct boot_options *options;
	struct event_base *base;
	struct mailbox *box;
	struct workers *workers; /* what a Pi waits for */
	struct workers *makers;  /* what may take long: views */
	struct workers *clerk;   /* one, for what nobody waits for: what lunrootd is told */
	struct boots *boots;
	struct nodes *nodes;
	struct views *views;
	struct dhcp *dhcp;
	struct dhcp_socket *dhcp_socket;
	struct tftp *tftp;
	struct http *http;
	struct listener *listener;
	struct event *tick;

	/* The nodes' list: when it was fetched last, and whether that is under way. */
	uint64_t nodes_ms;
	bool nodes_fetching, nodes_known, nodes_wanted;
	bool boots_known;             /* whose boot of each node was the last before we began */
	bool unreachable;             /* lunrootd; the log has been told */
	uint64_t away_ms;             /* when it last did not answer, or we began */
	struct reach_portals portals; /* lunrootd's */
	struct admission {
		uint64_t allowed; /* boots that may load at a time, now */
		/* When it was looked, and what the interfaces had sent and our thread used then. */
		uint64_t at_ms, bytes, busy_ns;
		int schedstat_fd; /* -1: this kernel has none */
		/* How many load, when they were counted last and with those let in since. */
		uint64_t counted_ms, loading;
	} admission;

	uint64_t troubles_ms; /* of the network: since when they are counted, */
	unsigned troubles_logged;

	bool cloning, cloning_refused;
	bool leases_known, leases_loading, leases_failed;
	uint64_t leases_ms, cloning_failed_ms;
	struct list keepings; /* changes of leases that lunrootd does not know yet; leases.c's */
	unsigned keeping_count;
	uint64_t auto_made;
	uint64_t told_ms;
	struct blob_pool *pool;
	struct programs programs;
	struct initramfs_maker *maker;
	struct view_config view_config; /* what all views are made with */

	struct teller *teller;
};

uint64_t now_ms(void); /* monotonic */

/* --- service.c --- */

/* lunrootd answers, or does not: the log is told when that changes. */
void service_lunrootd(struct service *service, bool answers, const char *why);
/* Fetches the nodes anew, unless that was done just now; `at_once` also then. */
void service_fetch_nodes(struct service *service, bool at_once);

/* --- ask.c --- */

/* A Pi that says nothing for so long and then asks has been switched off and on. */
#define BOOT_SILENCE_MS 60000

extern const struct dhcp_ops ask_ops;
/* The address that the network's DHCP server gave it, if that was seen. */
void ask_remember_address(struct service *service, struct boot *boot,
			  const struct dhcp_client *client);
/* Another board than this one is the node's, or boots as it: this one gets nothing. */
bool ask_other_board(struct service *service, const struct boot_node *node, const uint8_t who[6]);
/* The boot of a node's Pi begins: its files are made. NULL: no memory. */
struct boot *service_begin(struct service *service, const struct pi_identity *who,
			   const struct boot_node *node, int ifindex);

/* --- admission.c --- */

void admission_begin(struct service *service); /* the event loop's thread */
void admission_end(struct service *service);
/* Looks how busy line and thread are, and lets in those that there is room for. */
void admission_tick(struct service *service, uint64_t now_ms);
/* One that waits is OFFERED now, since there is room for it, or it can't wait; false: it waits on.
 */
bool admission_let_in(struct service *service, struct boot *boot, uint64_t now_ms);
/* As many as may be, of those that wait; soon, if it was done just now. */
void service_admit(struct service *service);

/* --- strangers.c --- */

void stranger_asks(struct service *service, const struct dhcp_client *client);
/* The list of nodes is new: perhaps some belong to one now. */
void strangers_look(struct service *service);

/* --- leases.c --- */

void leases_init(struct service *service);
/* When no worker runs any more. */
void leases_done(struct service *service);
/* As struct dhcp_ops wants them. */
bool lease_host(void *service, const uint8_t mac[6], struct dhcp_host *ret_host);
bool lease_is_static(void *service, struct in_addr address);
int64_t lease_unix_s(void *service);
int lease_store(void *service, const struct dhcp_lease *lease);
void lease_forget(void *service, const uint8_t mac[6]);
/* Those from before, into the engine. */
void leases_load(struct service *service);

/* --- prepare.c --- */

/* Makes the files of a boot that is PREPARING; then it is WAITING, or FAILED. */
void prepare_boot(struct service *service, struct boot *boot, const struct boot_node *node);

/* --- hand_out.c --- */

extern const struct serve_ops hand_out_ops;

/* --- listen.c --- */

struct listener;
int listener_new(struct service *service, struct listener **ret_listener);
void listener_free(struct listener *listener);
/* What is tapped at the port of reports; `service` as in struct dhcp_socket_config. */
void listen_to_frame(void *service, const uint8_t mac[6], const struct dhcp_datagram *datagram);

/* --- tell.c --- */

struct teller;
struct teller *teller_new(struct service *service);
void teller_free(struct teller *teller);
/* To be called about once a second. */
void teller_tick(struct teller *teller, uint64_t now_ms);
/* Something of the network that people should know; the same one may come again and again. */
void teller_trouble(struct teller *teller, const char *code, const char *message);

#endif
