/*
 * Boot records in words; see records.h.
 */
#include "records.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/cleanup.h"
#include "lunctl.h"
#include "output.h"

#define UNDER_WAY_MS 60000 /* as long as anything happens a boot is under way */
#define KIND_WIDTH   11

/* --- times --- */

int64_t record_time_ms(const char *text)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int ms = 0;

	if (!end)
		return -1;
	if (*end == '.') {
		if (strspn(end + 1, "0123456789") != 3)
			return -1;
		ms = (end[1] - '0') * 100 + (end[2] - '0') * 10 + (end[3] - '0');
		end += 4;
	}
	if (strcmp(end, "Z") != 0)
		return -1;
	return (int64_t)timegm(&tm) * 1000 + ms;
}

const char *record_duration(int64_t ms, char buffer[RECORD_TIME_BYTES])
{
	if (ms < 0)
		(void)snprintf(buffer, RECORD_TIME_BYTES, "-");
	else if (ms < 1000)
		(void)snprintf(buffer, RECORD_TIME_BYTES, "%d ms", (int)ms);
	else if (ms < 100000)
		(void)snprintf(buffer, RECORD_TIME_BYTES, "%d.%d s", (int)(ms / 1000),
			       (int)(ms % 1000 / 100));
	else if (ms < 3600000)
		(void)snprintf(buffer, RECORD_TIME_BYTES, "%d:%02d min", (int)(ms / 60000),
			       (int)(ms / 1000 % 60));
	else
		(void)snprintf(buffer, RECORD_TIME_BYTES, "%" PRId64 ":%02d h", ms / 3600000,
			       (int)(ms / 60000 % 60));
	return buffer;
}

const char *record_when(const char *text, char buffer[RECORD_TIME_BYTES])
{
	if (record_time_ms(text) < 0)
		return "-";
	(void)snprintf(buffer, RECORD_TIME_BYTES, "%.10s %.8s", text, text + 11);
	return buffer;
}

/* --- how far --- */

static const struct {
	const char *name, *words;
} stages[] = {
	[RECORD_NOTHING] = {"nothing", "nothing yet"},
	[RECORD_DISCOVER] = {"discover", "asked for an address"},
	[RECORD_OFFER] = {"offer", "was offered its boot"},
	[RECORD_REQUEST] = {"request", "has an address"},
	[RECORD_ASKED] = {"asked", "asks for files"},
	[RECORD_SENT] = {"sent", "was sent files"},
	[RECORD_SETTINGS] = {"settings", "has kernel and settings"},
	[RECORD_START] = {"start", "lunroot-init runs"},
	[RECORD_NETWORK] = {"network", "its network is up"},
	[RECORD_LOGIN] = {"login", "logged in"},
	[RECORD_DISK] = {"disk", "has its disk"},
	[RECORD_ROOT] = {"root", "root is mounted"},
	[RECORD_SWITCH] = {"switch", "its system starts"},
	[RECORD_MULTI_USER] = {"multi-user", "up"},
};

enum record_stage record_stage(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(stages); i++) {
		if (strcmp(stages[i].name, name) == 0)
			return (enum record_stage)i;
	}
	return RECORD_NOTHING;
}

static bool is_waiting(const char *report)
{
	return strncmp(report, "waiting", 7) == 0;
}

/* What says more than the stage, where the last event does. */
static const char *last_words(const json_t *boot)
{
	const json_t *last = json_object_get(boot, "last_event");
	const char *kind = get_text(last, "kind"), *text = get_text(last, "text");

	if (strcmp(kind, "wait") == 0)
		return text[0] ? text : "waits for its turn";
	if (strcmp(kind, "trouble") == 0 || strcmp(kind, "session end") == 0)
		return text;
	if (strcmp(kind, "report") == 0 && is_waiting(text))
		return text;
	return "";
}

const char *record_got_to(const json_t *boot, char buffer[RECORD_WORDS_BYTES])
{
	enum record_stage stage = record_stage(get_text(boot, "reached"));
	const char *more = last_words(boot);
	uint64_t files = get_number(boot, "files");
	char what[64];

	if (stage == RECORD_SENT && files > 0)
		(void)snprintf(what, sizeof(what), "was sent %" PRIu64 " file%s", files,
			       files == 1 ? "" : "s");
	else
		(void)snprintf(what, sizeof(what), "%s", stages[stage].words);
	(void)snprintf(buffer, RECORD_WORDS_BYTES, "%s%s%s", what, more[0] ? "; " : "", more);
	return buffer;
}

const char *record_result(const json_t *boot, int64_t now_ms, char buffer[RECORD_WORDS_BYTES])
{
	int64_t last = record_time_ms(get_text(boot, "last"));
	char words[RECORD_WORDS_BYTES];
	bool up = record_stage(get_text(boot, "reached")) == RECORD_MULTI_USER;

	(void)record_got_to(boot, words);
	(void)snprintf(buffer, RECORD_WORDS_BYTES, "%s%s",
		       up                              ? ""
		       : now_ms - last <= UNDER_WAY_MS ? "under way: "
						       : "stopped: ",
		       words);
	return buffer;
}

int64_t record_took_ms(const json_t *boot)
{
	int64_t began = record_time_ms(get_text(boot, "began"));
	int64_t reached = record_time_ms(get_text(boot, "reached_at"));

	return began < 0 || reached < began ? -1 : reached - began;
}

/* --- the timeline --- */

/* A run of events about files. */
struct fold {
	unsigned sent, missing, ended, lost, asked;
	uint64_t bytes, retries;
	const char *last_lost;
};

static bool is_about_file(const char *kind)
{
	return strcmp(kind, "asked") == 0 || strcmp(kind, "missing") == 0 ||
	       strcmp(kind, "sent") == 0 || strcmp(kind, "ended") == 0 || strcmp(kind, "lost") == 0;
}

static void fold_add(struct fold *fold, const json_t *event)
{
	const char *kind = get_text(event, "kind");

	fold->sent += strcmp(kind, "sent") == 0;
	fold->missing += strcmp(kind, "missing") == 0;
	fold->ended += strcmp(kind, "ended") == 0;
	fold->asked += strcmp(kind, "asked") == 0;
	if (strcmp(kind, "lost") == 0) {
		fold->lost++;
		fold->last_lost = get_text(event, "file");
	}
	if (strcmp(kind, "sent") == 0) {
		fold->bytes += get_number(event, "bytes");
		fold->retries += get_number(event, "retries");
	}
}

static void fold_print(const struct fold *fold, FILE *out)
{
	char size[OUTPUT_SIZE_BYTES];

	(void)fprintf(out, "%u file%s, %s", fold->sent, fold->sent == 1 ? "" : "s",
		      size_format(fold->bytes, size));
	if (fold->retries > 0)
		(void)fprintf(out, ", %" PRIu64 " retr%s", fold->retries,
			      fold->retries == 1 ? "y" : "ies");
	if (fold->missing > 0)
		(void)fprintf(out, ", %u that there are not", fold->missing);
	if (fold->lost > 0) {
		(void)fprintf(out, ", %u broken off: ", fold->lost);
		put_text(out, fold->last_lost);
	}
}

static void put_offset(int64_t ms, const char *kind, FILE *out)
{
	int width;

	(void)fprintf(out, "%9" PRId64 " ms  ", ms);
	put_text(out, kind);
	width = KIND_WIDTH - (int)strlen(kind);
	(void)fprintf(out, "%*s  ", width > 0 ? width : 0, "");
}

static void print_event(const json_t *event, FILE *out)
{
	const char *file = get_text(event, "file"), *text = get_text(event, "text");
	char size[OUTPUT_SIZE_BYTES], took[RECORD_TIME_BYTES];

	put_text(out, file);
	if (file[0] && get_number(event, "bytes") > 0)
		(void)fprintf(out, ", %s in %s", size_format(get_number(event, "bytes"), size),
			      record_duration((int64_t)get_number(event, "took_ms"), took));
	if (get_number(event, "retries") > 0)
		(void)fprintf(out, ", %" PRIu64 " retries", get_number(event, "retries"));
	if (file[0] && text[0])
		(void)fputs(", ", out);
	put_text(out, text);
	(void)fputc('\n', out);
}

void record_print_events(const json_t *boot, bool all, FILE *out)
{
	const json_t *events = json_object_get(boot, "events");
	int64_t began = record_time_ms(get_text(boot, "began"));
	size_t i = 0, count = json_array_size(events);

	while (i < count) {
		const json_t *event = json_array_get(events, i);
		int64_t at = record_time_ms(get_text(event, "at")) - began;
		const char *kind = get_text(event, "kind");
		struct fold fold = {0};

		if (all || !is_about_file(kind)) {
			put_offset(at, kind, out);
			print_event(event, out);
			i++;
			continue;
		}
		for (; i < count && is_about_file(get_text(json_array_get(events, i), "kind")); i++)
			fold_add(&fold, json_array_get(events, i));
		put_offset(at, "files", out);
		fold_print(&fold, out);
		(void)fputc('\n', out);
	}
	if (get_number(boot, "dropped") > 0)
		(void)fprintf(out, "(%" PRIu64 " events of its middle were not kept)\n",
			      get_number(boot, "dropped"));
}
