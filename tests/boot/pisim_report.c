/*
 * What became of the Pis: a table by model for people, the same as JSON for scripts, a line for
 * each Pi on request.
 */
#include <stdlib.h>
#include <string.h>

#include "pisim.h"

#define REASONS_MAX 64

struct reason {
	const char *text;
	unsigned count;
};

/* One model's row; model MODEL_COUNT: all of them. */
struct row {
	unsigned pis, booted, restarts, reason_count;
	uint64_t sent, received, retries, file_bytes;
	double median_s, p99_s;
	struct reason reasons[REASONS_MAX];
};

static int by_time(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int by_count(const void *a, const void *b)
{
	return (int)((const struct reason *)b)->count - (int)((const struct reason *)a)->count;
}

/* Not stuck for good, but not ready when the simulation was ended. */
static const char *where(const struct pi *pi)
{
	static const char *const stages[] = {
		[STAGE_OFF] = "not switched on",
		[STAGE_DHCP] = "out of time: DHCP",
		[STAGE_REQUEST] = "out of time: DHCP",
		[STAGE_ARP] = "out of time: ARP",
		[STAGE_FILES] = "out of time: files",
		[STAGE_PAUSE] = "out of time: beginning again",
		[STAGE_END] = "out of time",
	};

	return pi->stuck[0] ? pi->stuck : stages[pi->stage];
}

static void add_reason(struct row *row, const char *text)
{
	unsigned i = 0;

	while (i < row->reason_count && strcmp(row->reasons[i].text, text) != 0)
		i++;
	if (i == REASONS_MAX) {
		i--;
		row->reasons[i].text = "other";
	} else if (i == row->reason_count) {
		row->reasons[row->reason_count++] = (struct reason){text, 0};
	}
	row->reasons[i].count++;
}

static struct row row_make(const struct sim *sim, enum model_id model)
{
	struct row row = {0};
	uint64_t *times = calloc(sim->count + 1, sizeof(*times));

	if (!times)
		abort();
	for (unsigned i = 0; i < sim->count; i++) {
		const struct pi *pi = &sim->pis[i];

		if (model != MODEL_COUNT && pi->who.model != model)
			continue;
		row.pis++;
		row.restarts += pi->restarts;
		row.sent += pi->sent;
		row.received += pi->received;
		row.retries += pi->retries;
		row.file_bytes += pi->file_bytes;
		if (pi->booted)
			times[row.booted++] = pi->done_us - pi->on_us;
		else
			add_reason(&row, where(pi));
	}
	qsort(times, row.booted, sizeof(*times), by_time);
	if (row.booted) {
		/* Nearest ranks. */
		uint64_t median = times[(row.booted - 1) / 2];
		uint64_t p99 = times[(row.booted * 99 + 99) / 100 - 1];

		row.median_s = (double)median / 1e6;
		row.p99_s = (double)p99 / 1e6;
	}
	qsort(row.reasons, row.reason_count, sizeof(*row.reasons), by_count);
	free(times);
	return row;
}

static void row_text(const struct row *row, const char *name, FILE *to)
{
	fprintf(to, "%-6s %5u %6u %6.1f%% %8.2f %8.2f %9llu %9llu %8llu %8u", name, row->pis,
		row->booted, 100.0 * row->booted / row->pis, row->median_s, row->p99_s,
		(unsigned long long)row->sent, (unsigned long long)row->received,
		(unsigned long long)row->retries, row->restarts);
	for (unsigned i = 0; i < row->reason_count; i++)
		fprintf(to, "%s %u x %s", i ? "," : " ", row->reasons[i].count,
			row->reasons[i].text);
	fputc('\n', to);
}

void report_text(const struct sim *sim, FILE *to, double seconds, uint64_t lag_us)
{
	const struct tally *out = &sim->link.out_tally, *in = &sim->link.in_tally;
	struct row all = row_make(sim, MODEL_COUNT);

	fprintf(to, "%-6s %5s %6s %7s %8s %8s %9s %9s %8s %8s %s\n", "model", "Pis", "booted",
		"rate", "median s", "p99 s", "sent", "received", "retries", "restarts", "stuck");
	for (enum model_id id = 0; id < MODEL_COUNT; id++) {
		struct row row = row_make(sim, id);

		if (row.pis)
			row_text(&row, models[id].name, to);
	}
	row_text(&all, "all", to);
	fprintf(to,
		"wire: out %llu frames, %llu lost, %llu twice, %llu reordered; in %llu, %llu, "
		"%llu, %llu; "
		"%llu not sent\n",
		(unsigned long long)out->frames, (unsigned long long)out->lost,
		(unsigned long long)out->duplicated, (unsigned long long)out->reordered,
		(unsigned long long)in->frames, (unsigned long long)in->lost,
		(unsigned long long)in->duplicated, (unsigned long long)in->reordered,
		(unsigned long long)sim->link.send_errors);
	fprintf(to, "%.1f s, %.1f MB of files; the simulator was at most %.0f ms late\n", seconds,
		(double)all.file_bytes / 1e6, (double)lag_us / 1e3);
}

/* Names of files come from this program and from a server's config.txt. */
static void json_text(const char *text, FILE *to)
{
	fputc('"', to);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', to);
		if ((unsigned char)*text >= ' ')
			fputc(*text, to);
	}
	fputc('"', to);
}

static void row_json(const struct row *row, const char *name, FILE *to)
{
	fprintf(to,
		"{\"model\": \"%s\", \"pis\": %u, \"booted\": %u, \"rate\": %.4f, \"median_s\": "
		"%.3f, \"p99_s\": "
		"%.3f, \"sent\": %llu, \"received\": %llu, \"retries\": %llu, \"restarts\": %u, "
		"\"bytes\": %llu, "
		"\"stuck\": {",
		name, row->pis, row->booted, row->pis ? (double)row->booted / row->pis : 0,
		row->median_s, row->p99_s, (unsigned long long)row->sent,
		(unsigned long long)row->received, (unsigned long long)row->retries, row->restarts,
		(unsigned long long)row->file_bytes);
	for (unsigned i = 0; i < row->reason_count; i++) {
		fputs(i ? ", " : "", to);
		json_text(row->reasons[i].text, to);
		fprintf(to, ": %u", row->reasons[i].count);
	}
	fputs("}}", to);
}

void report_json(const struct sim *sim, FILE *to, double seconds, uint64_t lag_us)
{
	struct row all = row_make(sim, MODEL_COUNT);

	fprintf(to, "{\"seconds\": %.3f, \"late_ms\": %.1f, \"all\": ", seconds,
		(double)lag_us / 1e3);
	row_json(&all, "all", to);
	fputs(", \"models\": [", to);
	for (enum model_id id = 0, first = MODEL_COUNT; id < MODEL_COUNT; id++) {
		struct row row = row_make(sim, id);

		if (!row.pis)
			continue;
		fputs(first == MODEL_COUNT ? "" : ", ", to);
		first = id;
		row_json(&row, models[id].name, to);
	}
	fputs("]}\n", to);
}

void report_pis(const struct sim *sim, FILE *to)
{
	for (unsigned i = 0; i < sim->count; i++) {
		const struct pi *pi = &sim->pis[i];
		uint32_t ip = pi->address;

		fprintf(to,
			"%s %u %08x %u.%u.%u.%u %s %.3f s, %u files, %u absent, %llu retries%s%s\n",
			pi->model->name, pi->who.index, pi->who.serial, ip >> 24, ip >> 16 & 255,
			ip >> 8 & 255, ip & 255, pi->booted ? "booted" : "stuck",
			pi->booted ? (double)(pi->done_us - pi->on_us) / 1e6 : 0.0, pi->files,
			pi->missing, (unsigned long long)pi->retries, pi->booted ? "" : ": ",
			pi->booted ? "" : where(pi));
	}
}
