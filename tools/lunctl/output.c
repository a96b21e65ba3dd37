/*
 * Tables and the progress bar. Knows nothing of the API.
 */
#include "base/clock.h"
#include "output.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define PROGRESS_BAR_WIDTH 24
#define PROGRESS_JUDGE_MS  1000 /* a rate measured over less is noise */

/* --- text --- */

/* The bytes at `text` that are one control character: 1, 2 (C1 in UTF-8) or 0. */
static unsigned control_bytes(const unsigned char *text)
{
	if (text[0] < 0x20 || text[0] == 0x7f)
		return 1;
	if (text[0] == 0xc2 && text[1] >= 0x80 && text[1] < 0xa0)
		return 2;
	return 0;
}

void put_text(FILE *out, const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	while (*at) {
		unsigned skip = control_bytes(at);

		(void)fputc(skip ? '?' : *at, out);
		at += skip ? skip : 1;
	}
}

/* Characters, not bytes: UTF-8's continuation bytes take no room. */
static unsigned text_width(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	unsigned width = 0;

	while (*at) {
		unsigned skip = control_bytes(at);

		width += skip || (*at & 0xc0) != 0x80;
		at += skip ? skip : 1;
	}
	return width;
}

/* --- tables --- */

void table_init(struct table *table, unsigned column_count)
{
	*table = (struct table){.column_count = column_count < OUTPUT_COLUMNS_MAX
							? column_count
							: OUTPUT_COLUMNS_MAX};
}

void table_row(struct table *table, const char *const *cells)
{
	size_t count = (size_t)table->row_count * table->column_count;
	char **grown = realloc(table->cells, (count + table->column_count) * sizeof(char *));

	if (!grown) {
		table->failed = true;
		return;
	}
	table->cells = grown;
	for (unsigned i = 0; i < table->column_count; i++) {
		grown[count + i] = strdup(cells[i]);
		table->failed |= !grown[count + i];
	}
	table->row_count++;
}

void table_print(const struct table *table, FILE *out)
{
	unsigned width[OUTPUT_COLUMNS_MAX] = {0};

	if (table->failed) {
		(void)fprintf(stderr, "lunctl: out of memory\n");
		return;
	}
	for (unsigned row = 0; row < table->row_count; row++) {
		for (unsigned i = 0; i < table->column_count; i++) {
			unsigned w = text_width(table->cells[row * table->column_count + i]);

			width[i] = w > width[i] ? w : width[i];
		}
	}
	for (unsigned row = 0; row < table->row_count; row++) {
		char **cells = table->cells + (size_t)row * table->column_count;
		unsigned last = table->column_count, gap = 0;

		while (last > 0 && cells[last - 1][0] == '\0')
			last--;
		for (unsigned i = 0; i < last; i++) {
			(void)fprintf(out, "%*s", (int)gap, "");
			put_text(out, cells[i]);
			gap = width[i] - text_width(cells[i]) + 2;
		}
		(void)fputc('\n', out);
	}
}

void table_done(struct table *table)
{
	for (size_t i = 0; i < (size_t)table->row_count * table->column_count; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){0};
}

/* --- ages --- */

const char *age_format(const char *when, int64_t now_s, char buffer[OUTPUT_AGE_BYTES])
{
	static const struct {
		int64_t seconds;
		const char *unit;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	struct tm tm = {0};
	const char *end = strptime(when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	int64_t age;
	size_t i = 0;

	(void)snprintf(buffer, OUTPUT_AGE_BYTES, "-");
	if (!end || *end)
		return buffer;
	age = now_s - (int64_t)timegm(&tm);
	if (age < 0)
		age = 0; /* the daemon's clock is not ours */
	while (i + 1 < ARRAY_COUNT(units) && age < units[i].seconds)
		i++;
	(void)snprintf(buffer, OUTPUT_AGE_BYTES, "%lld %s", (long long)(age / units[i].seconds),
		       units[i].unit);
	return buffer;
}

/* --- progress --- */

const char *time_format(uint64_t seconds, char buffer[OUTPUT_TIME_BYTES])
{
	static const struct {
		uint64_t seconds;
		const char *name;
	} units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
	unsigned i = 0;
	uint64_t count;

	/* Below two of them the smaller unit tells more. */
	while (i + 1 < ARRAY_COUNT(units) && seconds < 2 * units[i].seconds)
		i++;
	count = seconds / units[i].seconds;
	(void)snprintf(buffer, OUTPUT_TIME_BYTES, "%llu %s%s", (unsigned long long)count,
		       units[i].name, count == 1 ? "" : "s");
	return buffer;
}

const char *eta_format(uint64_t done, uint64_t total, uint64_t elapsed_ms,
		       char buffer[OUTPUT_ETA_BYTES])
{
	char rate[OUTPUT_SIZE_BYTES];
	double bytes_per_s, left_s;

	buffer[0] = '\0';
	if (elapsed_ms < PROGRESS_JUDGE_MS || done == 0)
		return buffer;
	bytes_per_s = (double)done * 1000.0 / (double)elapsed_ms;
	/* The daemon's numbers may be anything; what a conversion can't hold it must not see. */
	(void)size_format(bytes_per_s < 0x1p63 ? (uint64_t)bytes_per_s : INT64_MAX, rate);
	if (total <= done) {
		(void)snprintf(buffer, OUTPUT_ETA_BYTES, ", %s/s", rate);
		return buffer;
	}
	left_s = (double)(total - done) / bytes_per_s + 0.5;
	if (left_s < 100 * 3600)
		(void)snprintf(buffer, OUTPUT_ETA_BYTES, ", %s/s, %u:%02u left", rate,
			       (unsigned)left_s / 60, (unsigned)left_s % 60);
	else
		(void)snprintf(buffer, OUTPUT_ETA_BYTES, ", %s/s, days left", rate);
	return buffer;
}

static struct {
	bool shown;
	char what[128];
	uint64_t begin_ms, begin_bytes;
} progress;

/* Each phase counts its own bytes, so each has its own rate. */
static void progress_phase(const char *what, uint64_t done)
{
	if (progress.shown && strcmp(progress.what, what) == 0 && done >= progress.begin_bytes)
		return;
	(void)snprintf(progress.what, sizeof(progress.what), "%s", what);
	progress.begin_ms = clock_ms();
	progress.begin_bytes = done;
	progress.shown = true;
}

void progress_show(const char *what, uint64_t done, uint64_t total)
{
	char bar[PROGRESS_BAR_WIDTH + 1], a[OUTPUT_SIZE_BYTES], b[OUTPUT_SIZE_BYTES];
	char eta[OUTPUT_ETA_BYTES];

	if (!isatty(STDERR_FILENO))
		return;
	progress_phase(what, done);
	(void)eta_format(done - progress.begin_bytes,
			 total > progress.begin_bytes ? total - progress.begin_bytes : 0,
			 clock_ms() - progress.begin_ms, eta);
	(void)fputc('\r', stderr);
	put_text(stderr, what);
	if (total > 0) {
		double part = done < total ? (double)done / (double)total : 1.0;
		unsigned full = (unsigned)(part * PROGRESS_BAR_WIDTH);

		memset(bar, '.', PROGRESS_BAR_WIDTH);
		memset(bar, '#', full);
		bar[PROGRESS_BAR_WIDTH] = '\0';
		(void)fprintf(stderr, " [%s] %3u%%  %s of %s%s\033[K", bar, (unsigned)(part * 100),
			      size_format(done, a), size_format(total, b), eta);
	} else {
		(void)fprintf(stderr, "  %s%s\033[K", size_format(done, a), eta);
	}
	(void)fflush(stderr);
}

void progress_end(void)
{
	if (!progress.shown)
		return;
	progress.shown = false;
	(void)fprintf(stderr, "\r\033[K");
}
