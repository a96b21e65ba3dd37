/*
 * The process that keeps the root disk connected, for as long as the machine runs: it logs in,
 * gives the connection to the kernel, and does so again whenever it is lost. systemd spares it at
 * the switch to the real root and at shutdown, because its name begins with '@'.
 */
#ifndef LUNROOT_INITRAMFS_KEEPER_H
#define LUNROOT_INITRAMFS_KEEPER_H

#include <stdint.h>

#include "initramfs/settings.h"

struct keeper_session {
	uint32_t sid, host; /* as in /sys/class/iscsi_session/session<sid>, scsi_host/host<host> */
};

struct keeper {
	int pid;
	int session_fd; /* readable, with one struct keeper_session, at the first login; then kept:
			   that it is closed tells the keeper that the real init runs */
};

/*
 * Forks it. `argv` are the process's own arguments, over which the child writes its name;
 * `udhcpc_fd` is a pidfd of the DHCP client that shall end when the real system has its own, or -1.
 * `settings` must stay until then; the child has its copy. 0 or a negative errno.
 */
int keeper_start(const struct settings *settings, char *argv[], int udhcpc_pid, int udhcpc_fd,
		 struct keeper *ret_keeper);

/*
 * Waits until the first login is done. 0; -EAGAIN when `timeout_ms` has passed; -ECHILD if the
 * keeper has died, which it should not.
 */
int keeper_wait(struct keeper *keeper, int timeout_ms, struct keeper_session *ret_session);

#endif
