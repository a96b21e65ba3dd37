/*
 * Tables whose cells come from a stranger's disk, rates and times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "output.h"

static void rate_and_time_left(void **state)
{
	char buffer[OUTPUT_ETA_BYTES];
	const uint64_t mib = 1u << 20;

	(void)state;
	assert_string_equal(eta_format(mib, 2 * mib, 10, buffer), ""); /* too early to judge */
	assert_string_equal(eta_format(0, 2 * mib, 5000, buffer), "");
	assert_string_equal(eta_format(10 * mib, 100 * mib, 2000, buffer),
			    ", 5.0 MiB/s, 0:18 left");
	assert_string_equal(eta_format(10 * mib, 1000 * mib, 1000, buffer),
			    ", 10.0 MiB/s, 1:39 left");
	assert_string_equal(eta_format(mib, 0, 1000, buffer), ", 1.0 MiB/s");
	assert_string_equal(eta_format(1, UINT64_MAX, 1000, buffer), ", 1 B/s, days left");
	assert_true(strlen(eta_format(UINT64_MAX, 0, 1000, buffer)) < OUTPUT_ETA_BYTES);
}

/* The table as text, the caller's. */
static char *printed(const struct table *table)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	assert_non_null(out);
	table_print(table, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void times_written(void **state)
{
	static const struct {
		uint64_t seconds;
		const char *want;
	} cases[] = {
		{0, "0 seconds"},         {1, "1 second"},       {119, "119 seconds"},
		{120, "2 minutes"},       {7199, "119 minutes"}, {7200, "2 hours"},
		{86400, "24 hours"},      {172800, "2 days"},    {604799, "6 days"},
		{315360000, "3650 days"},
	};
	char buffer[OUTPUT_TIME_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(time_format(cases[i].seconds, buffer), cases[i].want);
	(void)time_format(UINT64_MAX, buffer);
}

static void columns_line_up(void **state)
{
	struct table table;
	char *text;

	(void)state;
	table_init(&table, 3);
	table_row(&table, (const char *[]){"NODE", "BASE", "STATE"});
	table_row(&table, (const char *[]){"a", "longer-than-its-head", ""});
	table_row(&table, (const char *[]){"pi-0000007", "b", "in use"});
	text = printed(&table);
	assert_string_equal(text, "NODE        BASE                  STATE\n"
				  "a           longer-than-its-head\n"
				  "pi-0000007  b                     in use\n");
	free(text);
	table_done(&table);
}

static void letters_beyond_ascii_count_once(void **state)
{
	struct table table;
	char *text;

	(void)state;
	table_init(&table, 2);
	table_row(&table, (const char *[]){"gr\xc3\xbc\xc3\x9f", "x"});
	table_row(&table, (const char *[]){"12345", "x"});
	text = printed(&table);
	assert_string_equal(text, "gr\xc3\xbc\xc3\x9f   x\n12345  x\n");
	free(text);
	table_done(&table);
}

/* A file system's label can be anything, an escape sequence for instance. */
static void control_characters_never_reach_the_terminal(void **state)
{
	struct table table;
	char *text;

	(void)state;
	table_init(&table, 2);
	table_row(&table, (const char *[]){"\033[2J\007", "a\nb"});
	table_row(&table, (const char *[]){"\xc2\x9b"
					   "31m",
					   "\x7f"});
	text = printed(&table);
	assert_string_equal(text, "?[2J?  a?b\n?31m   ?\n");
	free(text);
	table_done(&table);
}

static void table_without_rows_prints_nothing(void **state)
{
	struct table table;
	char *text;

	(void)state;
	table_init(&table, 2);
	text = printed(&table);
	assert_string_equal(text, "");
	free(text);
	table_done(&table);
}

static void ages(void **state)
{
	static const struct {
		const char *when, *want;
	} cases[] = {
		{"2026-11-23T12:00:00Z", "0 s"},
		{"2026-11-23T11:59:01Z", "59 s"},
		{"2026-11-23T11:59:00Z", "1 min"},
		{"2026-11-23T11:00:01Z", "59 min"},
		{"2026-11-23T11:00:00Z", "1 h"},
		{"2026-11-22T12:00:01Z", "23 h"},
		{"2026-11-22T12:00:00Z", "1 d"},
		{"2025-11-23T12:00:00Z", "365 d"},
		{"2027-11-23T12:00:00Z", "0 s"},
		{"", "-"},
		{"yesterday", "-"},
		{"2026-11-23T12:00:00Z?", "-"},
	};
	char buffer[OUTPUT_AGE_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(age_format(cases[i].when, 1795435200, buffer), cases[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ages),
		cmocka_unit_test(rate_and_time_left),
		cmocka_unit_test(times_written),
		cmocka_unit_test(columns_line_up),
		cmocka_unit_test(letters_beyond_ascii_count_once),
		cmocka_unit_test(control_characters_never_reach_the_terminal),
		cmocka_unit_test(table_without_rows_prints_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
