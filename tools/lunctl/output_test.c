/*
 * Sizes as people write and read them, and tables whose cells come from a stranger's disk.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "output.h"

static void sizes_read(void **state)
{
	static const struct {
		const char *text;
		int want;
		uint64_t bytes;
	} cases[] = {
		{"0", 0, 0},
		{"4096", 0, 4096},
		{"1K", 0, 1024},
		{"512M", 0, 512ull << 20},
		{"8G", 0, 8ull << 30},
		{"8g", 0, 8ull << 30},
		{"8GiB", 0, 8ull << 30},
		{"1T", 0, 1ull << 40},
		{"64T", 0, 64ull << 40},
		{"9223372036854775807", 0, INT64_MAX},
		{"9223372036854775808", -ERANGE, 0},
		{"18446744073709551616", -ERANGE, 0},
		{"99999999999999999999999", -ERANGE, 0},
		{"8191P", 0, 8191ull << 50},
		{"8192P", -ERANGE, 0},
		{"9007199254740992K", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"G", -EINVAL, 0},
		{"-1G", -EINVAL, 0},
		{"+1G", -EINVAL, 0},
		{" 1G", -EINVAL, 0},
		{"1 G", -EINVAL, 0},
		{"1.5G", -EINVAL, 0},
		{"1GB", -EINVAL, 0}, /* of ten or of two? */
		{"1Gi", -EINVAL, 0},
		{"1X", -EINVAL, 0},
		{"1GiBx", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"\xff", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 77;
		int got = size_parse(cases[i].text, &bytes);

		if (got != cases[i].want)
			fail_msg("'%s': %d instead of %d", cases[i].text, got, cases[i].want);
		if (bytes != (got == 0 ? cases[i].bytes : 77))
			fail_msg("'%s': %llu", cases[i].text, (unsigned long long)bytes);
	}
}

static void sizes_written(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *want;
	} cases[] = {
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1.0 KiB"},
		{1536, "1.5 KiB"},
		{1048575, "1.0 MiB"}, /* not 1024.0 KiB */
		{4294967296, "4.0 GiB"},
		{64ull << 40, "64.0 TiB"},
		{UINT64_MAX, "16384.0 PiB"},
	};
	char buffer[OUTPUT_SIZE_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(size_format(cases[i].bytes, buffer), cases[i].want);
}

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_read),
		cmocka_unit_test(sizes_written),
		cmocka_unit_test(rate_and_time_left),
		cmocka_unit_test(columns_line_up),
		cmocka_unit_test(letters_beyond_ascii_count_once),
		cmocka_unit_test(control_characters_never_reach_the_terminal),
		cmocka_unit_test(table_without_rows_prints_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
