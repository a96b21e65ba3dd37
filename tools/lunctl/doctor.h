/*
 * What a user needs before the first Pi boots: facts of this machine, the daemons and the network
 * (doctor_facts.c gathers them), and what is to be said of them (doctor.c, pure).
 */
#ifndef LUNROOT_LUNCTL_DOCTOR_H
#define LUNROOT_LUNCTL_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "lunctl.h"

#define DOCTOR_INTERFACES 32
#define DOCTOR_SOCKETS    32
#define DOCTOR_SERVERS    8
#define DOCTOR_NAME_BYTES 64

struct doctor_interface {
	char name[DOCTOR_NAME_BYTES], address[DOCTOR_NAME_BYTES]; /* its first IPv4 one, or "" */
	bool up, carrier, loopback, wireless, is_virtual;
	int speed_mbit; /* -1: not known */
};

/* Somebody's UDP port. */
struct doctor_socket {
	unsigned port;
	char owner[DOCTOR_NAME_BYTES]; /* the program; "": not known */
	int pid;
};

/* Who has answered one DISCOVER that asks as PXE clients do. */
struct doctor_server {
	char interface[DOCTOR_NAME_BYTES], address[DOCTOR_NAME_BYTES];
	bool gives_address, is_pxe, is_ours; /* ours: an address of this machine */
};

struct doctor_facts {
	int64_t now_ms;
	bool is_root;
	/* The daemon's answers; NULL: it does not answer, or does not know such a thing. */
	const char *socket_path;
	int unreachable; /* errno; 0: it answers */
	json_t *version, *health, *bootd;
	/* The state directory's file system; "": it can't be looked at from here. */
	char state_fs[DOCTOR_NAME_BYTES];
	struct doctor_interface interfaces[DOCTOR_INTERFACES];
	unsigned interface_count;
	struct doctor_socket sockets[DOCTOR_SOCKETS];
	unsigned socket_count;
	bool asked_dhcp; /* on the interfaces of doctor_is_asked */
	struct doctor_server servers[DOCTOR_SERVERS];
	unsigned server_count;
	char init[256], busybox[256]; /* for arm64, where lunctl initramfs looks; "": none */
};

/* The interface that Pis may hang on: named by lunbootd, or without it each that is connected. */
bool doctor_is_asked(const struct doctor_facts *facts, const struct doctor_interface *interface);

/* Findings [{"level": "ok"|"warning"|"error"|"unknown", "code", "message", "cure"}], the caller's;
 * "unknown" is what could not be looked at. NULL: no memory. */
json_t *doctor_judge(const struct doctor_facts *facts);

/* doctor_facts.c: fills it all in; doctor_done frees it. Talks to the daemon, reads /proc and /sys,
 * and as root asks for DHCP servers, which takes some seconds. */
void doctor_gather(const struct request *request, struct doctor_facts *ret_facts);
void doctor_done(struct doctor_facts *facts);
/* doctor_dhcp.c: asks on one interface; root. Adds to facts->servers. False: it can't. */
bool doctor_ask_dhcp(struct doctor_facts *facts, const struct doctor_interface *interface);
/* An answer to our DISCOVER `xid`: an IPv4 packet with a UDP datagram from port 67. */
bool doctor_read_offer(const uint8_t *packet, size_t bytes, uint32_t xid,
		       struct doctor_server *ret_server);

#endif
