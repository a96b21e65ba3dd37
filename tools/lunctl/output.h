/*
 * What people see: tables, a progress bar. Text from the daemon may hold what a disk's label says,
 * so nothing reaches the terminal before control characters are taken out.
 */
#ifndef LUNROOT_LUNCTL_OUTPUT_H
#define LUNROOT_LUNCTL_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/size.h"

#define OUTPUT_COLUMNS_MAX 8
#define OUTPUT_SIZE_BYTES  SIZE_TEXT_BYTES
#define OUTPUT_ETA_BYTES   64
#define OUTPUT_TIME_BYTES  32

/* Prints text with every control character (C0, DEL, C1) replaced by '?'. */
void put_text(FILE *out, const char *text);

/* A table: columns as wide as their widest cell, two spaces between, none at a line's end. */
struct table {
	unsigned column_count;
	unsigned row_count;
	bool failed; /* out of memory */
	char **cells;
};

void table_init(struct table *table, unsigned column_count);
/* Copies column_count cells. */
void table_row(struct table *table, const char *const *cells);
void table_print(const struct table *table, FILE *out);
void table_done(struct table *table);

/* ", 45.0 MiB/s, 1:20 left"; empty until there is enough to judge by. */
const char *eta_format(uint64_t done, uint64_t total, uint64_t elapsed_ms,
		       char buffer[OUTPUT_ETA_BYTES]);

/* How long ago a time like 2026-11-23T12:00:00Z was, in the largest unit that it fills: "12 s",
 * "3 h", "40 d"; "-" if it is no time. */
#define OUTPUT_AGE_BYTES 16
const char *age_format(const char *when, int64_t now_s, char buffer[OUTPUT_AGE_BYTES]);
/* "6 days", "2 hours", "45 seconds": rounded down to its largest unit. */
const char *time_format(uint64_t seconds, char buffer[OUTPUT_TIME_BYTES]);

/* One line that overwrites itself; nothing at all unless standard error is a terminal. */
void progress_show(const char *what, uint64_t done, uint64_t total);
void progress_end(void);

#endif
