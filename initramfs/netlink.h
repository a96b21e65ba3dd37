/*
 * The kernel's iSCSI initiator over NETLINK_ISCSI: one session of one connection, whose login
 * user space does (this program) and whose commands the kernel sends. Layouts and numbers are
 * those of the kernel's include/scsi/iscsi_if.h, equal from Linux 6.1 to today's on every
 * machine but 32-bit x86, which is not supported.
 *
 * Not thread-safe: one process, one socket.
 */
#ifndef LUNROOT_INITRAMFS_NETLINK_H
#define LUNROOT_INITRAMFS_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/params.h"

/* A session in the kernel. Begin with {.fd = -1, .sysfs_fd = an open /sys}. */
struct iscsi_netlink {
	int fd;
	int sysfs_fd; /* a folder descriptor: paths move when the real root takes over */
	uint64_t transport;
	uint32_t sid, host, cid;
	bool session, connection; /* exist in the kernel */
	uint32_t initial_cmdsn;
	/* While an answer was waited for: the connection failed; events were lost, maybe that. */
	bool lost, unsure;
};

/*
 * Opens the socket and finds the tcp transport. 0; -ENOENT if the kernel has no iscsi_tcp loaded;
 * -EPERM without CAP_SYS_ADMIN; -EPROTONOSUPPORT without scsi_transport_iscsi.
 *
 * The socket's port is 0xffffffff, so that sessions made through it have the creator -1 in
 * sysfs: iscsid, if it ever starts on this machine, takes them for the kernel's own and lets
 * them be.
 */
int iscsi_netlink_open(struct iscsi_netlink *netlink);

/* Makes the session and its connection, whose first command will have this CmdSN. */
int iscsi_netlink_create(struct iscsi_netlink *netlink, uint32_t initial_cmdsn);

/* What the kernel must know beside the negotiated values. */
struct iscsi_handover {
	const struct wire_params *params;
	const char *initiator, *target, *address;
	uint16_t port, portal_group_tag;
	uint32_t exp_statsn; /* StatSN of the final login response + 1 */
	/* Timeouts in seconds. */
	uint32_t recovery_s; /* I/O waits this long for a new connection before it fails */
	uint32_t ping_s;     /* a silent target is asked after this, and has this to answer */
};

/*
 * Gives the logged-in socket to the kernel and starts the connection; the caller closes its own. On
 * failure, -ECONNRESET when it was lost at once among others, commands may have been sent: recover.
 */
int iscsi_netlink_start(struct iscsi_netlink *netlink, int tcp_fd,
			const struct iscsi_handover *handover);

/*
 * The connection is lost: stops what the kernel still does with it (its commands wait), and tells
 * the CmdSN that the next login must carry: the kernel counts on across connections.
 */
int iscsi_netlink_recover(struct iscsi_netlink *netlink, uint32_t *ret_cmdsn);

enum iscsi_event {
	ISCSI_EVENT_NONE,      /* nothing of ours */
	ISCSI_EVENT_CONN_LOST, /* the connection failed: recover */
	ISCSI_EVENT_UNSURE,    /* events were lost: look at iscsi_netlink_is_up */
};

/* Takes one event without waiting; `ret_error` is the kernel's number for what was lost. */
enum iscsi_event iscsi_netlink_event(struct iscsi_netlink *netlink, uint32_t *ret_error);
/* The kernel's words for such a number. */
const char *iscsi_error_name(uint32_t error);
/* Whether it means that the other end closed or reset the connection. */
bool iscsi_error_is_close(uint32_t error);

/* Whether the session is logged in, by sysfs. */
bool iscsi_netlink_is_up(const struct iscsi_netlink *netlink);

/* Ends connection and session in the kernel, if they exist, before anything was scanned. */
void iscsi_netlink_destroy(struct iscsi_netlink *netlink);

#endif
