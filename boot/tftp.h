/*
 * The TFTP server: read-only, from memory. One socket hears requests; each transfer has a socket
 * of its own, so the kernel tells transfers apart and no peer can fill another one's queue. Answers
 * go out from the address and the interface that were asked. What is served, and who is told of
 * it, is serve_ops' business. Event-loop thread only.
 */
#ifndef LUNROOT_BOOT_TFTP_H
#define LUNROOT_BOOT_TFTP_H

#include <stdbool.h>
#include <stdint.h>

#include <netinet/in.h>

#include "boot/serve.h"

struct event_base;
struct tftp;

struct tftp_config {
	uint16_t port;          /* 69, or what a test likes; 0: any, see tftp_port */
	struct in_addr address; /* to listen on; INADDR_ANY: each one the host has */
	/* Requests that came through others are ignored; none: all are heard. They may come and go.
	 */
	const char *const *interfaces;
	unsigned interface_count;
	unsigned sessions_max;          /* 0: LIMIT_TFTP_SESSIONS; each costs a file descriptor */
	unsigned sessions_per_peer_max; /* 0: LIMIT_TFTP_SESSIONS_PER_PEER */
	/*
	 * Tell the kernel with each packet that the neighbour is there (MSG_CONFIRM), so that it
	 * does not ask boot ROMs, which answer no ARP during a transfer.
	 */
	bool confirm;
};

struct tftp_stats {
	unsigned sessions;  /* now */
	uint64_t requests;  /* well-formed ones */
	uint64_t malformed; /* packets to the server's port that are no request */
	uint64_t sent, ended, lost, missing;
	uint64_t no_room;   /* requests left unanswered, as all transfers were busy */
	uint64_t evicted;   /* silent transfers that made room */
	uint64_t strangers; /* packets to a transfer from another peer (answered with ERROR 5) */
};

/* 0, or -errno: of socket and bind (-EADDRINUSE, -EACCES), -ENOMEM. The config is copied. */
int tftp_new(struct event_base *base, const struct tftp_config *config, const struct serve_ops *ops,
	     void *arg, struct tftp **ret_tftp);
/* Ends all transfers without a word. Accepts NULL. */
void tftp_free(struct tftp *tftp);

uint16_t tftp_port(const struct tftp *tftp);
struct tftp_stats tftp_stats(const struct tftp *tftp);

#endif
