/*
 * Shared by the two halves of the TFTP server: tftp.c hears requests and decides, tftp_session.c
 * moves one transfer's packets.
 */
#ifndef LUNROOT_BOOT_TFTP_INTERNAL_H
#define LUNROOT_BOOT_TFTP_INTERNAL_H

#include "boot/tftp.h"

#include <event2/event.h>
#include <sys/socket.h>

#include "base/list.h"
#include "boot/tftp_packet.h"
#include "boot/tftp_transfer.h"

#define TFTP_BUCKETS 1024 /* a power of two */

struct tftp {
	struct event_base *base;
	const struct serve_ops *ops;
	void *arg;
	char **interfaces;
	unsigned interface_count;
	unsigned sessions_max, sessions_per_peer_max;
	int send_flags;
	uint16_t port;
	int fd;
	struct event *readable;
	/* Each session is on one list by its peer's address and on one of these, the longest silent
	 * first: those that never answered may be forged, so they make room soonest. */
	struct list unproven, proven;
	struct list buckets[TFTP_BUCKETS];
	uint64_t seed;
	struct tftp_stats stats;
};

struct session {
	struct tftp *tftp;
	struct list bucket_node, age_node;
	int fd;
	struct event *readable, *timer;
	struct serve_request request; /* its path is asked.path */
	struct tftp_request asked;
	struct tftp_transfer transfer;
	uint64_t started_ms, heard_ms;
	bool proven;     /* the peer has acknowledged something, so it is there */
	bool superseded; /* the peer asks for the file anew: nobody waits for this one */
};

uint64_t tftp_now_ms(void);

/* A transfer of `blob` (a reference of its own is taken), first packet sent; 0 or -errno. */
int session_new(struct tftp *tftp, const struct serve_request *request,
		const struct tftp_request *asked, struct blob *blob);
/* Ends it; the last word is SENT, ENDED or LOST. */
void session_end(struct session *session, enum serve_event event, const char *text);
/* Ends it without a word. */
void session_free(struct session *session);
/* The peer sent the same request again. */
void session_again(struct session *session);

/* The list of sessions whose peers' addresses may be this one. */
struct list *tftp_bucket(struct tftp *tftp, struct in_addr peer);

#endif
