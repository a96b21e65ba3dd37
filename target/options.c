/*
 * lunrootd's settings; see options.h. One table serves the command line, the configuration file
 * and the help text.
 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/option_table.h"
#include "base/size.h"

/* A disk of the slow kind has 100 MB/s; the nodes need most of it. */
#define MERGE_BYTES_PER_S   (32u << 20)
#define RESERVE_PERCENT     5
#define RESERVE_PERCENT_MAX 90
#define TRASH_DAYS          7
#define TRASH_DAYS_MAX      3650

static const char *set_state(void *options, const char *text)
{
	struct options *o = options;

	return option_path(o->state_dir, sizeof(o->state_dir), text);
}

static const char *set_run(void *options, const char *text)
{
	struct options *o = options;

	return option_path(o->run_dir, sizeof(o->run_dir), text);
}

static const char *set_socket(void *options, const char *text)
{
	struct options *o = options;

	return option_path(o->socket_path, sizeof(o->socket_path), text);
}

static const char *set_log_file(void *options, const char *text)
{
	struct options *o = options;

	return option_path(o->log_file, sizeof(o->log_file), text);
}

static const char *set_user(void *options, const char *text)
{
	struct options *o = options;

	if (text[0] == '\0' || strlen(text) >= sizeof(o->user))
		return "a user's name is wanted";
	memcpy(o->user, text, strlen(text) + 1);
	return NULL;
}

static const char *set_portal(void *options, const char *text)
{
	struct options *o = options;

	if (o->portal_count == LIMIT_PORTALS)
		return "too many portals";
	o->portals[o->portal_count] = strdup(text);
	if (!o->portals[o->portal_count])
		return "out of memory";
	o->portal_count++;
	return NULL;
}

static const char *set_reactors(void *options, const char *text)
{
	struct options *o = options;
	uint64_t number;
	const char *wrong = option_number(&number, 1, LIMIT_REACTORS, text);

	if (!wrong)
		o->reactor_count = (unsigned)number;
	return wrong;
}

static const char *set_ping_idle(void *options, const char *text)
{
	struct options *o = options;

	return option_number(&o->ping_idle_ms, 100, 24 * 3600 * 1000, text);
}

static const char *set_merge_rate(void *options, const char *text)
{
	struct options *o = options;

	return size_parse(text, &o->merge_bytes_per_s) == 0
		       ? NULL
		       : "a size is wanted, like 32M; 0 for no limit";
}

/* "5%", "20G", "0" */
static const char *set_reserve(void *options, const char *text)
{
	struct options *o = options;
	static const char wanted[] = "a percentage (5%, at most 90%) or a size (20G) is wanted";
	char digits[8];
	size_t bytes = strlen(text);
	uint64_t number;

	if (bytes == 0 || text[bytes - 1] != '%') {
		if (size_parse(text, &number) < 0)
			return wanted;
		o->reserve_percent = 0;
		o->reserve_bytes = number;
		return NULL;
	}
	if (bytes > sizeof(digits))
		return wanted;
	memcpy(digits, text, bytes - 1);
	digits[bytes - 1] = '\0';
	if (option_number(&number, 0, RESERVE_PERCENT_MAX, digits))
		return wanted;
	o->reserve_percent = (unsigned)number;
	o->reserve_bytes = 0;
	return NULL;
}

/* "7d", "12h", "30m", "45s", "0" */
static const char *set_trash_time(void *options, const char *text)
{
	struct options *o = options;
	static const struct {
		char letter;
		unsigned seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	static const char wanted[] = "a time is wanted: 7d, 12h, 30m, or 0";
	char digits[8];
	size_t bytes = strlen(text);
	uint64_t number;

	if (strcmp(text, "0") == 0) {
		o->trash_s = 0;
		return NULL;
	}
	if (bytes < 2 || bytes > sizeof(digits))
		return wanted;
	memcpy(digits, text, bytes - 1);
	digits[bytes - 1] = '\0';
	for (size_t i = 0; i < ARRAY_COUNT(units); i++) {
		if (units[i].letter != text[bytes - 1])
			continue;
		if (option_number(&number, 0, TRASH_DAYS_MAX * 86400ull / units[i].seconds, digits))
			return wanted;
		o->trash_s = number * units[i].seconds;
		return NULL;
	}
	return wanted;
}

static const char *set_log_level(void *options, const char *text)
{
	struct options *o = options;

	return log_level_parse(text, &o->log_level) ? NULL : "error, warn, info or debug is wanted";
}

static const char *set_foreground(void *options, const char *text)
{
	struct options *o = options;

	(void)text;
	o->foreground = true;
	return NULL;
}

static const struct option_row rows[] = {
	{"state", "DIR", "images, layers and the catalogue (default /var/lib/lunroot)", set_state},
	{"run", "DIR", "control socket and live maps, on tmpfs (default /run/lunroot)", set_run},
	{"portal", "ADDR:PORT",
	 "where initiators connect; may be repeated (default 0.0.0.0:3260 and [::]:3260)",
	 set_portal},
	{"socket", "PATH", "the control socket (default control.sock in the run directory)",
	 set_socket},
	{"user", "NAME", "started as root: become this user before any file is opened", set_user},
	{"reactors", "N", "threads that serve disks, 1 to 4 (default: one per core)", set_reactors},
	{"ping-idle-ms", "N", "ask a silent initiator after this long (default 60000)",
	 set_ping_idle},
	{"merge-rate", "SIZE",
	 "merge the layers of removed snapshots no faster than this a second (default 32M; 0: no "
	 "limit)",
	 set_merge_rate},
	{"reserve", "SIZE",
	 "what clones and imports leave free for nodes: 5% (default), 20G; 0: nothing",
	 set_reserve},
	{"trash-time", "TIME",
	 "how long what was removed can be brought back: 7d (default), 12h; 0: not at all",
	 set_trash_time},
	{"log-level", "LEVEL", "error, warn, info or debug (default info)", set_log_level},
	{"log-file", "FILE",
	 "append the log here (default: standard error; in the background, "
	 "lunrootd.log in the state directory)",
	 set_log_file},
	{"foreground", NULL, "stay in the foreground", set_foreground},
};

static const struct option_table table = {
	.program = "lunrootd",
	.about = "usage: lunrootd [--state DIR] [--run DIR] [--portal ADDR:PORT ...] "
		 "[--foreground] [--config FILE]\n\n"
		 "Serves copy-on-write disks over iSCSI. lunctl tells it what to serve.\n\n",
	.rows = rows,
	.count = ARRAY_COUNT(rows),
};

enum options_verdict options_parse(int argc, char **argv, struct options *ret_options)
{
	enum options_verdict verdict;

	*ret_options = (struct options){.state_dir = "/var/lib/lunroot",
					.run_dir = "/run/lunroot",
					.merge_bytes_per_s = MERGE_BYTES_PER_S,
					.reserve_percent = RESERVE_PERCENT,
					.trash_s = TRASH_DAYS * 86400,
					.log_level = LOG_LEVEL_INFO};
	verdict = options_read(&table, argc, argv, ret_options);
	if (verdict == OPTIONS_RUN && ret_options->portal_count == 0 &&
	    (set_portal(ret_options, "0.0.0.0:3260") || set_portal(ret_options, "[::]:3260")))
		return OPTIONS_EXIT_USAGE;
	return verdict;
}

void options_done(struct options *options)
{
	for (unsigned i = 0; i < options->portal_count; i++)
		free(options->portals[i]);
	options->portal_count = 0;
}
