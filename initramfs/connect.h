/*
 * From a portal to a connection in full-feature phase: names to addresses, TCP, and the login
 * machine with its PDUs over it. Blocking, with a deadline for each step.
 */
#ifndef LUNROOT_INITRAMFS_CONNECT_H
#define LUNROOT_INITRAMFS_CONNECT_H

#include <netinet/in.h>
#include <stdbool.h>

#include "initramfs/initiator.h"
#include "initramfs/settings.h"

#define CONNECT_ADDRESSES_MAX 4

/* A portal's addresses, kept: while the disk is away no name can be looked up for sure. */
struct connect_portal {
	struct settings_portal portal;
	struct sockaddr_storage addresses[CONNECT_ADDRESSES_MAX];
	unsigned address_count;
};

enum connect_result {
	CONNECT_DONE,
	CONNECT_UNREACHABLE, /* no name, no route, nobody listens, no answer */
	CONNECT_REFUSED,     /* the target said no, or is not what it should be */
};

struct connected {
	int fd;                              /* the caller's */
	char address[INET6_ADDRSTRLEN + 16]; /* numeric, with its scope */
	uint16_t port;
};

/*
 * Logs in at one portal, following redirections. `why` gets one sentence when it fails.
 * `initiator` holds the results (parameters, StatSN) afterwards.
 */
enum connect_result connect_portal_login(struct connect_portal *portal,
					 const struct initiator_wish *wish,
					 struct initiator *initiator,
					 struct connected *ret_connected, char *why,
					 size_t why_bytes);

#endif
