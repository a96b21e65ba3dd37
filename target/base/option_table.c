/* Words of a command line and of a file, to the functions that a table names for them. */
#include "base/option_table.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_LINE_BYTES_MAX 2048

const char *option_path(char *to, size_t room, const char *text)
{
	if (text[0] == '\0')
		return "a path is wanted";
	if (strlen(text) >= room)
		return "the path is too long";
	memcpy(to, text, strlen(text) + 1);
	return NULL;
}

const char *option_number(uint64_t *number, uint64_t min, uint64_t max, const char *text)
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

static void usage(const struct option_table *table, FILE *to)
{
	(void)fputs(table->about, to);
	for (size_t i = 0; i < table->count; i++) {
		char left[40];

		(void)snprintf(left, sizeof(left), "--%s %s", table->rows[i].name,
			       table->rows[i].value ? table->rows[i].value : "");
		(void)fprintf(to, "  %-22s %s\n", left, table->rows[i].help);
	}
	(void)fprintf(to, "  %-22s %s\n", "--config FILE",
		      "the same words as above, a line each: NAME = VALUE");
	(void)fprintf(to, "  %-22s %s\n", "--version", "print the version");
	(void)fprintf(to, "  %-22s %s\n", "--help", "print this");
}

static const struct option_row *row_find(const struct option_table *table, const char *name,
					 size_t name_bytes)
{
	for (size_t i = 0; i < table->count; i++) {
		if (strlen(table->rows[i].name) == name_bytes &&
		    memcmp(table->rows[i].name, name, name_bytes) == 0)
			return &table->rows[i];
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
static bool config_line(const struct option_table *table, void *options, const char *path,
			unsigned number, char *line)
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
	row = row_find(table, name, strlen(name));
	if (!row)
		wrong = "no such setting; --help lists them";
	else if (row->value && !value)
		wrong = "a value is wanted: NAME = VALUE";
	else
		wrong = row->set(options, value ? value : "");
	if (wrong)
		(void)fprintf(stderr, "%s: %s:%u: %s: %s\n", table->program, path, number, name,
			      wrong);
	return !wrong;
}

static bool config_read(const struct option_table *table, void *options, const char *path)
{
	char line[CONFIG_LINE_BYTES_MAX];
	unsigned number = 0;
	bool good = true;
	FILE *file = fopen(path, "re");

	if (!file) {
		(void)fprintf(stderr, "%s: configuration %s: %s\n", table->program, path,
			      strerror(errno));
		return false;
	}
	while (good && fgets(line, sizeof(line), file)) {
		number++;
		if (strlen(line) == sizeof(line) - 1) {
			(void)fprintf(stderr, "%s: %s:%u: the line is too long\n", table->program,
				      path, number);
			good = false;
		} else {
			good = config_line(table, options, path, number, line);
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
static bool argument(const struct option_table *table, void *options, char **argv, int left,
		     int *ret_used)
{
	const char *word = argv[0], *equals, *wrong, *value = NULL;
	const struct option_row *row;

	*ret_used = 1;
	if (strncmp(word, "--", 2) != 0) {
		(void)fprintf(stderr, "%s: %s: not an option; see %s --help\n", table->program,
			      word, table->program);
		return false;
	}
	word += 2;
	equals = strchr(word, '=');
	row = row_find(table, word, equals ? (size_t)(equals - word) : strlen(word));
	if (!row) {
		(void)fprintf(stderr, "%s: --%s: no such option; see %s --help\n", table->program,
			      word, table->program);
		return false;
	}
	if (row->value) {
		value = equals ? equals + 1 : left > 1 ? argv[1] : NULL;
		*ret_used = equals ? 1 : 2;
	}
	wrong = row->value && !value ? "a value is wanted" : row->set(options, value ? value : "");
	if (wrong)
		(void)fprintf(stderr, "%s: --%s: %s\n", table->program, row->name, wrong);
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

enum options_verdict options_read(const struct option_table *table, int argc, char **argv,
				  void *options)
{
	int used;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage(table, stdout);
			return OPTIONS_EXIT_OK;
		}
		if (strcmp(argv[i], "--version") == 0) {
			(void)printf("%s %s\n", table->program, LUNROOT_VERSION);
			return OPTIONS_EXIT_OK;
		}
	}
	for (int i = 1; i < argc; i++) {
		const char *path = config_path(argv, i, argc, &used);

		if (path && !config_read(table, options, path))
			return OPTIONS_EXIT_USAGE;
	}
	for (int i = 1; i < argc; i += used) {
		if (!config_path(argv, i, argc, &used) &&
		    !argument(table, options, argv + i, argc - i, &used))
			return OPTIONS_EXIT_USAGE;
	}
	return OPTIONS_RUN;
}
