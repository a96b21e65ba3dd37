/*
 * The boot service as a whole: who asks gets the files of his own node. Here meet DHCP, TFTP, HTTP,
 * lunrootd's API and what Pis report. Event loop.
 */
#ifndef LUNROOT_BOOT_SERVICE_H
#define LUNROOT_BOOT_SERVICE_H

#include "options.h"

struct event_base;
struct mailbox;
struct service;

/*
 * Opens sockets: for that the rights are needed which confine() takes away. `options` and `box`
 * outlive it. 0 or -errno, after the log was told.
 */
int service_new(const struct boot_options *options, struct event_base *base, struct mailbox *box,
		struct service **ret_service);
/* Once confined: looks for its programs, starts its threads. 0, or -errno after the log was told.
 */
int service_start(struct service *service);
void service_free(struct service *service); /* accepts NULL */

#endif
