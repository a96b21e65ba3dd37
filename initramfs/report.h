/*
 * How far this boot got, told to the boot service: one UDP datagram for each event,
 *
 *     lunroot-report 1 TOKEN SEQUENCE EVENT[ TEXT]
 *
 * TOKEN is the boot's (report=ADDRESS[:PORT]/TOKEN), SEQUENCE counts from 1 within the boot, TEXT
 * is clean UTF-8 and never a secret. Nothing is answered. A datagram may be lost, so each is sent
 * three times: at once, after 0.3 and after 1 second; the receiver drops a SEQUENCE that it has
 * seen.
 *
 * It never delays the boot: nothing waits, no name is looked up, every failure is ignored. What
 * can't be sent yet (no network, or DHCP is still to say where to) is kept and sent when it can;
 * of more than REPORT_KEPT events the oldest are forgotten.
 *
 * lunroot-init and its keeper share one queue: the keeper repeats what its parent said last before
 * it became the real system's init. Any process that was forked after report_init().
 */
#ifndef LUNROOT_INITRAMFS_REPORT_H
#define LUNROOT_INITRAMFS_REPORT_H

#include "initramfs/settings.h"

#define REPORT_KEPT  16
#define REPORT_SENDS 3

enum report_event {
	REPORT_START,      /* the program's version */
	REPORT_NETWORK,    /* interface and address */
	REPORT_LOGIN,      /* portal */
	REPORT_DISK,       /* name, LUN, size */
	REPORT_ROOT,       /* type and device */
	REPORT_SWITCH,     /* init's path; once more with "init runs" */
	REPORT_MULTI_USER, /* users may log in */
	REPORT_WAITING,    /* what the console says while something does not work */
	REPORT_BACK,       /* after a lost connection, the seconds that it was away */
	REPORT_EVENT_COUNT,
};

/* Before the first fork that shall share the queue. Without memory for it nothing is reported. */
void report_init(void);

/* Where to, as soon as the settings say it. The socket is each process's own. */
void report_to(const struct settings_report *to);
/* All settings are known and none is a report: forgets what was kept, and all that comes. */
void report_none(void);
/* Whether somebody may want to know. */
bool report_wanted(void);

/*
 * Tells it, now and twice more. The text is cut to LIMIT_REPORT_TEXT_BYTES. What waits as before is
 * not told again within half a minute.
 */
void report(enum report_event event, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Sends what is due; the milliseconds until it wants to be called again, -1 for never. */
int report_tick(void);
/* Sleeps as sleep_ms() does, and sends what becomes due meanwhile. */
void report_sleep_ms(unsigned ms);

#endif
