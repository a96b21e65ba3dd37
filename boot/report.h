/*
 * What Pis say of themselves over UDP: lunroot-init's reports, and the log lines of an EEPROM boot
 * loader that is set up for it (NETCONSOLE). Parsing is pure; any thread.
 *
 *     lunroot-report 1 TOKEN SEQUENCE EVENT[ TEXT]
 *
 * The token is the boot's own and came with its settings: nobody else can report for it. Each
 * report may come several times, since datagrams get lost; its sequence number tells.
 */
#ifndef LUNROOT_BOOT_REPORT_H
#define LUNROOT_BOOT_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define REPORT_TOKEN_BYTES    33 /* 32 hexadecimal digits: 128 bits */
#define REPORT_EVENT_BYTES    16
#define REPORT_TEXT_BYTES     (LIMIT_REPORT_TEXT_BYTES + 1)
#define REPORT_DATAGRAM_BYTES 1024

struct report {
	char token[REPORT_TOKEN_BYTES];
	uint32_t sequence;
	char event[REPORT_EVENT_BYTES]; /* lower-case letters and '-' */
	char text[REPORT_TEXT_BYTES];   /* clean UTF-8, perhaps cut; "" */
};

/* 0 or -EINVAL: it is none. */
int report_parse(const void *datagram, size_t bytes, struct report *ret_report);
/*
 * A log line out of a NETCONSOLE datagram, from `at` on: printable, without end of line. False when
 * there is no further one; empty lines are passed over.
 */
bool console_line(const void *datagram, size_t bytes, size_t *at, char ret_line[REPORT_TEXT_BYTES]);

#endif
