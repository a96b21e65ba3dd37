/*
 * What people see: tables, sizes, a progress bar; and sizes as people write them. Text from the
 * daemon may hold what a disk's label says, so nothing reaches the terminal before control
 * characters are taken out.
 */
#ifndef LUNROOT_LUNCTL_OUTPUT_H
#define LUNROOT_LUNCTL_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define OUTPUT_COLUMNS_MAX 8
#define OUTPUT_SIZE_BYTES  24
#define OUTPUT_ETA_BYTES   64

/* "8G", "512MiB", "1048576": powers of 1024. 0, -EINVAL, or -ERANGE beyond what a disk can be. */
int size_parse(const char *text, uint64_t *ret_bytes);

/* "8.0 GiB"; never more than OUTPUT_SIZE_BYTES with the NUL. */
const char *size_format(uint64_t bytes, char buffer[OUTPUT_SIZE_BYTES]);

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

/* One line that overwrites itself; nothing at all unless standard error is a terminal. */
void progress_show(const char *what, uint64_t done, uint64_t total);
void progress_end(void);

#endif
