/*
 * lunrootd's settings: what the command line and the file say, and what is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "options.h"

static enum options_verdict parse(struct options *o, const char *const *words)
{
	char *argv[16] = {(char *)"lunrootd"};
	int argc = 1;

	for (; *words; words++)
		argv[argc++] = (char *)(uintptr_t)*words;
	return options_parse(argc, argv, o);
}

static void defaults_serve_both_families(void **state)
{
	struct options o;
	const char *none[] = {NULL};

	(void)state;
	assert_int_equal(parse(&o, none), OPTIONS_RUN);
	assert_string_equal(o.state_dir, "/var/lib/lunroot");
	assert_string_equal(o.run_dir, "/run/lunroot");
	assert_int_equal(o.portal_count, 2);
	assert_false(o.foreground);
	assert_int_equal(o.merge_bytes_per_s, 32 << 20);
	options_done(&o);
}

static void command_line_beats_the_file(void **state)
{
	char path[] = "/tmp/options_test.XXXXXX";
	const char text[] = "# comment\n\n state = /from/file \nportal=[::1]:1\nforeground\n"
			    "log-level = debug\n";
	const char *words[] = {"--state",  "/from/line",   "--config", path,
			       "--run=/r", "--merge-rate", "1G",       NULL};
	struct options o;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	assert_int_equal(parse(&o, words), OPTIONS_RUN);
	assert_string_equal(o.state_dir, "/from/line");
	assert_string_equal(o.run_dir, "/r");
	assert_int_equal(o.portal_count, 1);
	assert_string_equal(o.portals[0], "[::1]:1");
	assert_true(o.foreground);
	assert_int_equal(o.log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(o.merge_bytes_per_s, 1 << 30);
	options_done(&o);
	unlink(path);
}

static void nonsense_is_refused(void **state)
{
	static const char *const rows[][4] = {
		{"--stat", "/x", NULL},
		{"--state", NULL},
		{"state", NULL},
		{"--reactors", "0", NULL},
		{"--reactors", "5", NULL},
		{"--reactors", "2x", NULL},
		{"--reactors", "-1", NULL},
		{"--log-level", "loud", NULL},
		{"--config", "/nonexistent", NULL},
		{"--config", NULL},
		{"--state=", NULL},
		{"--ping-idle-ms", "99999999999999999999", NULL},
		{"--merge-rate", "fast", NULL},
		{"--reserve", "91%", NULL},
		{"--reserve", "%", NULL},
		{"--reserve", "-5%", NULL},
		{"--reserve", "5%%", NULL},
		{"--reserve", "00000000005%", NULL},
		{"--reserve", "lots", NULL},
		{"--reserve=", NULL},
		{"--trash-time", "7", NULL},
		{"--trash-time", "d", NULL},
		{"--trash-time", "-7d", NULL},
		{"--trash-time", "7w", NULL},
		{"--trash-time", "3651d", NULL},
		{"--trash-time", "1234567890s", NULL},
		{"--trash-time=", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct options o;

		assert_int_equal(parse(&o, rows[i]), OPTIONS_EXIT_USAGE);
		options_done(&o);
	}
}

static void reserve_is_a_part_or_a_size(void **state)
{
	static const struct {
		const char *text;
		unsigned percent;
		uint64_t bytes;
	} rows[] = {
		{"12%", 12, 0}, {"0%", 0, 0}, {"90%", 90, 0}, {"0", 0, 0}, {"20G", 0, 20ull << 30},
	};
	const char *none[] = {NULL};
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, none), OPTIONS_RUN);
	assert_int_equal(o.reserve_percent, 5);
	options_done(&o);
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		const char *words[] = {"--reserve", "7%", "--reserve", rows[i].text, NULL};

		assert_int_equal(parse(&o, words), OPTIONS_RUN);
		assert_int_equal(o.reserve_percent, rows[i].percent);
		assert_int_equal(o.reserve_bytes, rows[i].bytes);
		options_done(&o);
	}
}

static void trash_time_in_every_unit(void **state)
{
	static const struct {
		const char *text;
		uint64_t seconds;
	} rows[] = {{"0", 0},       {"0d", 0},      {"45s", 45},        {"30m", 1800},
		    {"12h", 43200}, {"7d", 604800}, {"365d", 31536000}, {"3650d", 315360000}};
	const char *none[] = {NULL};
	struct options o;

	(void)state;
	assert_int_equal(parse(&o, none), OPTIONS_RUN);
	assert_int_equal(o.trash_s, 7 * 86400);
	options_done(&o);
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		const char *words[] = {"--trash-time", rows[i].text, NULL};

		assert_int_equal(parse(&o, words), OPTIONS_RUN);
		assert_int_equal(o.trash_s, rows[i].seconds);
		options_done(&o);
	}
}

static void bad_file_lines_are_refused(void **state)
{
	static const char *const rows[] = {"stat = /x\n", "state\n", "reactors = many\n",
					   "state =\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		char path[] = "/tmp/options_test.XXXXXX";
		const char *words[] = {"--config", path, NULL};
		struct options o;
		int fd = mkstemp(path);

		assert_true(fd >= 0);
		assert_int_equal(write(fd, rows[i], strlen(rows[i])), strlen(rows[i]));
		close(fd);
		assert_int_equal(parse(&o, words), OPTIONS_EXIT_USAGE);
		options_done(&o);
		unlink(path);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_serve_both_families),
		cmocka_unit_test(command_line_beats_the_file),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(reserve_is_a_part_or_a_size),
		cmocka_unit_test(trash_time_in_every_unit),
		cmocka_unit_test(bad_file_lines_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
