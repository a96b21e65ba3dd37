/*
 * Reports and console lines: what is taken, what is not, and that nothing of a stranger's words
 * gets through unclean.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "report.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static int parse(const char *text, struct report *report)
{
	return report_parse(text, strlen(text), report);
}

static void a_report_has_its_parts(void **state)
{
	struct report report;

	(void)state;
	assert_int_equal(parse("lunroot-report 1 " TOKEN " 3 root ext4 /dev/sda2", &report), 0);
	assert_string_equal(report.token, TOKEN);
	assert_int_equal(report.sequence, 3);
	assert_string_equal(report.event, "root");
	assert_string_equal(report.text, "ext4 /dev/sda2");
	assert_int_equal(parse("lunroot-report 1 " TOKEN " 12 multi-user\n", &report), 0);
	assert_string_equal(report.event, "multi-user");
	assert_string_equal(report.text, "");
}

static void strangers_words_are_none(void **state)
{
	static const char *const bad[] = {
		"",
		"lunroot-report",
		"lunroot-report 2 " TOKEN " 3 root",
		"lunroot-report 1 0123 3 root",
		"lunroot-report 1 " TOKEN "0 3 root",
		"lunroot-report 1 0123456789ABCDEF0123456789abcdef 3 root",
		"lunroot-report 1 " TOKEN " x root",
		"lunroot-report 1 " TOKEN " 1234567890 root",
		"lunroot-report 1 " TOKEN " -1 root",
		"lunroot-report 1 " TOKEN " 3",
		"lunroot-report 1 " TOKEN " 3 ",
		"lunroot-report 1 " TOKEN " 3 Root",
		"lunroot-report 1 " TOKEN " 3 an-event-that-is-too-long",
	};
	static const char nul[] = "lunroot-report 1 " TOKEN " 3 \0root";
	struct report report;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_int_equal(parse(bad[i], &report), -EINVAL);
	assert_int_equal(report_parse(nul, sizeof(nul) - 1, &report), -EINVAL);
}

static void text_is_clean_and_bounded(void **state)
{
	char text[REPORT_DATAGRAM_BYTES + 2];
	struct report report;
	int n = snprintf(text, sizeof(text), "lunroot-report 1 " TOKEN " 3 waiting ");

	(void)state;
	memset(text + n, 'x', sizeof(text) - (size_t)n);
	assert_int_equal(report_parse(text, REPORT_DATAGRAM_BYTES, &report), 0);
	assert_int_equal(strlen(report.text), REPORT_TEXT_BYTES - 1);
	assert_int_equal(report_parse(text, REPORT_DATAGRAM_BYTES + 1, &report), -EINVAL);
	assert_int_equal(parse("lunroot-report 1 " TOKEN " 3 waiting \033[2J", &report), 0);
	assert_string_equal(report.text, "");
}

static void console_lines_are_cut_out(void **state)
{
	static const char log[] = "\r\nBoot mode: NETWORK\n\0\r\n\nLINK\033[1m up\r\nlast\n";
	char line[REPORT_TEXT_BYTES];
	size_t at = 0;

	(void)state;
	assert_true(console_line(log, sizeof(log) - 1, &at, line));
	assert_string_equal(line, "Boot mode: NETWORK");
	assert_true(console_line(log, sizeof(log) - 1, &at, line));
	assert_string_equal(line, "LINK?[1m up");
	assert_true(console_line(log, sizeof(log) - 1, &at, line));
	assert_string_equal(line, "last");
	assert_false(console_line(log, sizeof(log) - 1, &at, line));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_report_has_its_parts),
		cmocka_unit_test(strangers_words_are_none),
		cmocka_unit_test(text_is_clean_and_bounded),
		cmocka_unit_test(console_lines_are_cut_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
