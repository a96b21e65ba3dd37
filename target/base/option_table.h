/*
 * A daemon's settings, described by a table: the command line (--name value, --name=value) and the
 * configuration file (name = value) say the same words, and the command line wins. Before threads
 * start.
 */
#ifndef LUNROOT_BASE_OPTION_TABLE_H
#define LUNROOT_BASE_OPTION_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct option_row {
	const char *name;  /* without "--" */
	const char *value; /* what the help calls it; NULL: a switch, its text is "" */
	const char *help;
	/* NULL, or what is wrong with the text. */
	const char *(*set)(void *options, const char *text);
};

struct option_table {
	const char *program;
	const char *about; /* the help's first lines, with a blank one at the end */
	const struct option_row *rows;
	size_t count;
};

enum options_verdict { OPTIONS_RUN, OPTIONS_EXIT_OK, OPTIONS_EXIT_USAGE };

/*
 * --help and --version first, then the file that --config names, then the rest. `options` has its
 * defaults already. Speaks to the person itself: OPTIONS_EXIT_OK (exit status 0),
 * OPTIONS_EXIT_USAGE (exit status 2, after a message).
 */
enum options_verdict options_read(const struct option_table *table, int argc, char **argv,
				  void *options);

/* For `set` functions: NULL or what is wrong; nothing is changed then. */
const char *option_path(char *to, size_t room, const char *text);
const char *option_number(uint64_t *number, uint64_t min, uint64_t max, const char *text);

#endif
