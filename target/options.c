/*
 * lunrootd's settings; see options.h. One table serves the command line, the configuration file
 * and the help text.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define CONFIG_LINE_BYTES_MAX 2048

struct option_row {
	const char *name;
	const char *value; /* what the help calls it; NULL: the option is a switch */
	const char *help;
	/* NULL, or what is wrong with the text. */
	const char *(*set)(struct options *options, const char *text);
};

static const char *set_path(char path[LIMIT_PATH_BYTES], const char *text)
{
	if (text[0] == '\0')
		return "a path is wanted";
	if (strlen(text) >= LIMIT_PATH_BYTES)
		return "the path is too long";
	memcpy(path, text, strlen(text) + 1);
	return NULL;
}

static const char *set_state(struct options *o, const char *text)
{
	return set_path(o->state_dir, text);
}

static const char *set_run(struct options *o, const char *text)
{
	return set_path(o->run_dir, text);
}

static const char *set_socket(struct options *o, const char *text)
{
	return set_path(o->socket_path, text);
}

static const char *set_log_file(struct options *o, const char *text)
{
	return set_path(o->log_file, text);
}

static const char *set_user(struct options *o, const char *text)
{
	if (text[0] == '\0' || strlen(text) >= sizeof(o->user))
		return "a user's name is wanted";
	memcpy(o->user, text, strlen(text) + 1);
	return NULL;
}

static const char *set_portal(struct options *o, const char *text)
{
	if (o->portal_count == LIMIT_PORTALS)
		return "too many portals";
	o->portals[o->portal_count] = strdup(text);
	if (!o->portals[o->portal_count])
		return "out of memory";
	o->portal_count++;
	return NULL;
}

static const char *set_number(uint64_t *number, uint64_t min, uint64_t max, const char *text)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || value < min || value > max)
		return "a number within its range is wanted";
	*number = value;
	return NULL;
}

static const char *set_reactors(struct options *o, const char *text)
{
	uint64_t number;
	const char *wrong = set_number(&number, 1, LIMIT_REACTORS, text);

	if (!wrong)
		o->reactor_count = (unsigned)number;
	return wrong;
}

static const char *set_ping_idle(struct options *o, const char *text)
{
	return set_number(&o->ping_idle_ms, 100, 24 * 3600 * 1000, text);
}

static const char *set_log_level(struct options *o, const char *text)
{
	return log_level_parse(text, &o->log_level) ? NULL : "error, warn, info or debug is wanted";
}

static const char *set_foreground(struct options *o, const char *text)
{
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
	{"log-level", "LEVEL", "error, warn, info or debug (default info)", set_log_level},
	{"log-file", "FILE",
	 "append the log here (default: standard error; in the background, "
	 "lunrootd.log in the state directory)",
	 set_log_file},
	{"foreground", NULL, "stay in the foreground", set_foreground},
};

static void usage(FILE *to)
{
	(void)fprintf(to,
		      "usage: lunrootd [--state DIR] [--run DIR] [--portal ADDR:PORT ...] "
		      "[--foreground] [--config FILE]\n\n"
		      "Serves copy-on-write disks over iSCSI. lunctl tells it what to serve.\n\n");
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		char left[40];

		(void)snprintf(left, sizeof(left), "--%s %s", rows[i].name,
			       rows[i].value ? rows[i].value : "");
		(void)fprintf(to, "  %-22s %s\n", left, rows[i].help);
	}
	(void)fprintf(to, "  %-22s %s\n", "--config FILE",
		      "the same words as above, a line each: portal = 10.0.0.2:3260");
	(void)fprintf(to, "  %-22s %s\n", "--version", "print the version");
	(void)fprintf(to, "  %-22s %s\n", "--help", "print this");
}

static const struct option_row *row_find(const char *name, size_t name_bytes)
{
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		if (strlen(rows[i].name) == name_bytes &&
		    memcmp(rows[i].name, name, name_bytes) == 0)
			return &rows[i];
	}
	return NULL;
}

static char *trim(char *text)
{
	size_t bytes;

	while (isspace((unsigned char)*text))
		text++;
	bytes = strlen(text);
	while (bytes > 0 && isspace((unsigned char)text[bytes - 1]))
		text[--bytes] = '\0';
	return text;
}

/* One line of the file: "name = value", "name", a comment or nothing. */
static bool config_line(struct options *options, const char *path, unsigned number, char *line)
{
	char *name = trim(line), *value;
	const struct option_row *row;
	const char *wrong;

	if (name[0] == '\0' || name[0] == '#')
		return true;
	value = strchr(name, '=');
	if (value) {
		*value++ = '\0';
		value = trim(value);
		name = trim(name);
	}
	row = row_find(name, strlen(name));
	if (!row)
		wrong = "no such setting; see lunrootd --help";
	else if (row->value && !value)
		wrong = "a value is wanted: NAME = VALUE";
	else
		wrong = row->set(options, value ? value : "");
	if (wrong)
		(void)fprintf(stderr, "lunrootd: %s:%u: %s: %s\n", path, number, name, wrong);
	return !wrong;
}

static bool config_read(struct options *options, const char *path)
{
	char line[CONFIG_LINE_BYTES_MAX];
	unsigned number = 0;
	bool good = true;
	FILE *file = fopen(path, "re");

	if (!file) {
		(void)fprintf(stderr, "lunrootd: configuration %s: %s\n", path, strerror(errno));
		return false;
	}
	while (good && fgets(line, sizeof(line), file)) {
		number++;
		if (strlen(line) == sizeof(line) - 1) {
			(void)fprintf(stderr, "lunrootd: %s:%u: the line is too long\n", path,
				      number);
			good = false;
		} else {
			good = config_line(options, path, number, line);
		}
	}
	if (fclose(file) != 0)
		good = false;
	return good;
}

/*
 * One word of the command line: "--name value" or "--name=value". ret_used counts what was taken.
 * --config is handled by the caller, before all others.
 */
static bool argument(struct options *options, char **argv, int left, int *ret_used)
{
	const char *word = argv[0], *equals, *wrong, *value = NULL;
	const struct option_row *row;

	*ret_used = 1;
	if (strncmp(word, "--", 2) != 0) {
		(void)fprintf(stderr, "lunrootd: %s: not an option; see lunrootd --help\n", word);
		return false;
	}
	word += 2;
	equals = strchr(word, '=');
	row = row_find(word, equals ? (size_t)(equals - word) : strlen(word));
	if (!row) {
		(void)fprintf(stderr, "lunrootd: --%s: no such option; see lunrootd --help\n",
			      word);
		return false;
	}
	if (row->value) {
		value = equals ? equals + 1 : left > 1 ? argv[1] : NULL;
		*ret_used = equals ? 1 : 2;
	}
	wrong = row->value && !value ? "a value is wanted" : row->set(options, value ? value : "");
	if (wrong)
		(void)fprintf(stderr, "lunrootd: --%s: %s\n", row->name, wrong);
	return !wrong;
}

static const char *config_path(char **argv, int index, int argc, int *ret_used)
{
	*ret_used = 0;
	if (strncmp(argv[index], "--config=", 9) == 0) {
		*ret_used = 1;
		return argv[index] + 9;
	}
	if (strcmp(argv[index], "--config") == 0) {
		*ret_used = 2;
		return index + 1 < argc ? argv[index + 1] : "";
	}
	return NULL;
}

enum options_verdict options_parse(int argc, char **argv, struct options *ret_options)
{
	int used;

	*ret_options = (struct options){.state_dir = "/var/lib/lunroot",
					.run_dir = "/run/lunroot",
					.log_level = LOG_LEVEL_INFO};
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage(stdout);
			return OPTIONS_EXIT_OK;
		}
		if (strcmp(argv[i], "--version") == 0) {
			(void)printf("lunrootd %s\n", LUNROOT_VERSION);
			return OPTIONS_EXIT_OK;
		}
	}
	for (int i = 1; i < argc; i++) {
		const char *path = config_path(argv, i, argc, &used);

		if (path && !config_read(ret_options, path))
			return OPTIONS_EXIT_USAGE;
	}
	for (int i = 1; i < argc; i += used) {
		if (!config_path(argv, i, argc, &used) &&
		    !argument(ret_options, argv + i, argc - i, &used))
			return OPTIONS_EXIT_USAGE;
	}
	if (ret_options->portal_count == 0 &&
	    (set_portal(ret_options, "0.0.0.0:3260") || set_portal(ret_options, "[::]:3260")))
		return OPTIONS_EXIT_USAGE;
	return OPTIONS_RUN;
}

void options_done(struct options *options)
{
	for (unsigned i = 0; i < options->portal_count; i++)
		free(options->portals[i]);
	options->portal_count = 0;
}
