/*
 * Range headers: which bytes they mean, and which are no range.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "boot/http_range.h"

static void ranges(void **state)
{
	static const struct {
		const char *header;
		uint64_t file_bytes;
		int result;
		uint64_t first, bytes;
	} cases[] = {
		{"bytes=0-0", 10, 0, 0, 1},
		{"bytes=0-9", 10, 0, 0, 10},
		{"bytes=3-5", 10, 0, 3, 3},
		{"bytes=3-", 10, 0, 3, 7},
		{"bytes=9-", 10, 0, 9, 1},
		{"bytes=-1", 10, 0, 9, 1},
		{"bytes=-10", 10, 0, 0, 10},
		{"bytes=-99", 10, 0, 0, 10},
		{"bytes=5-99999999999999999999999", 10, 0, 5, 5},
		{"BYTES=1-2", 10, 0, 1, 2},
		{"bytes= 1-2 ", 10, 0, 1, 2},
		{"bytes=4294967296-4294967297", 1ull << 33, 0, 1ull << 32, 2},
		{"bytes=10-", 10, -ERANGE, 0, 0},
		{"bytes=10-12", 10, -ERANGE, 0, 0},
		{"bytes=99999999999999999999999-", 10, -ERANGE, 0, 0},
		{"bytes=-0", 10, -ERANGE, 0, 0},
		{"bytes=0-", 0, -ERANGE, 0, 0},
		{"bytes=-5", 0, -ENOENT, 0, 0},
		{"bytes=5-3", 10, -ENOENT, 0, 0},
		{"bytes=0-1,3-4", 10, -ENOENT, 0, 0},
		{"bytes=-", 10, -ENOENT, 0, 0},
		{"bytes=", 10, -ENOENT, 0, 0},
		{"bytes=1", 10, -ENOENT, 0, 0},
		{"bytes=a-b", 10, -ENOENT, 0, 0},
		{"bytes=+1-2", 10, -ENOENT, 0, 0},
		{"bytes=1--2", 10, -ENOENT, 0, 0},
		{"bytes=1-2x", 10, -ENOENT, 0, 0},
		{"lines=1-2", 10, -ENOENT, 0, 0},
		{"", 10, -ENOENT, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		uint64_t first = 77, bytes = 78;
		int r = http_range_parse(cases[i].header, cases[i].file_bytes, &first, &bytes);

		if (r != cases[i].result)
			print_error("%s\n", cases[i].header);
		assert_int_equal(r, cases[i].result);
		assert_int_equal(first, r < 0 ? 77 : cases[i].first);
		assert_int_equal(bytes, r < 0 ? 78 : cases[i].bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ranges)};

	return cmocka_run_group_tests_name("http_range", tests, NULL, NULL);
}
