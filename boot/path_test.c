/*
 * Names that strangers ask for: what they become, and which are refused.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "boot/path.h"

#include "base/cleanup.h"

#define A15  "aaaaaaaaaaaaaaa"
#define A255 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15 A15

static void check(const char *asked, size_t bytes, int want_result, const char *want, bool url)
{
	char path[PATH_BUFFER_BYTES] = "untouched";
	int r = url ? path_clean_url(asked, path) : path_clean(asked, bytes, path);

	if (r != want_result)
		print_error("%s\n", asked);
	assert_int_equal(r, want_result);
	assert_string_equal(path, r == 0 ? want : "untouched");
}

static void paths(void **state)
{
	static const struct {
		const char *asked;
		int result;
		const char *path;
	} cases[] = {
		{"config.txt", 0, "config.txt"},
		{"5b154510/start4.elf", 0, "5b154510/start4.elf"},
		{"/a//./b/", 0, "a/b"},
		{"\\overlays\\x.dtbo", 0, "overlays/x.dtbo"},
		{"a b", 0, "a b"},
		{"%2e%2e", 0, "%2e%2e"}, /* TFTP has no escapes */
		{"...", 0, "..."},
		{"..a/b..", 0, "..a/b.."},
		{".hidden", 0, ".hidden"},
		{"gr\xc3\xbc\xc3\x9f", 0, "gr\xc3\xbc\xc3\x9f"},
		{"C:\\x", 0, "C:/x"},
		{A255, 0, A255},
		{"//////" A255, 0, A255},
		{A255 "b", -ENAMETOOLONG, NULL},
		{A255 "/b", -ENAMETOOLONG, NULL},
		{"", -ENOENT, NULL},
		{"/", -ENOENT, NULL},
		{"/.//./", -ENOENT, NULL},
		{"..", -EACCES, NULL},
		{"../etc/passwd", -EACCES, NULL},
		{"a/../b", -EACCES, NULL},
		{"a/..", -EACCES, NULL},
		{"a\\..\\b", -EACCES, NULL},
		{"/..", -EACCES, NULL},
		{"a\nb", -EINVAL, NULL},
		{"a\x7f", -EINVAL, NULL},
		{"a\x1b[2J", -EINVAL, NULL},
		{"\xff\xfe", -EINVAL, NULL},
		{"a\xc2\x9b"
		 "b",
		 -EINVAL, NULL},
		{"\xc0\xaf\xc0\xae", -EINVAL, NULL}, /* overlong '/' and '.' */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		check(cases[i].asked, strlen(cases[i].asked), cases[i].result, cases[i].path,
		      false);
	check("a\0b", 3, -EINVAL, NULL, false);
}

static void url_paths(void **state)
{
	static const struct {
		const char *asked;
		int result;
		const char *path;
	} cases[] = {
		{"/config.txt", 0, "config.txt"},
		{"/a%20b", 0, "a b"},
		{"/%61%2Fb", 0, "a/b"},
		{"/%5C%5ca", 0, "a"},
		{"/100%25", 0, "100%"},
		{"/%252e%252e/x", 0, "%2e%2e/x"},
		{"/%2e%2e/x", -EACCES, NULL},
		{"/a/%2E./x", -EACCES, NULL},
		{"/..%5cx", -EACCES, NULL},
		{"/a%00", -EINVAL, NULL},
		{"/a%0a", -EINVAL, NULL},
		{"/%", -EINVAL, NULL},
		{"/%4", -EINVAL, NULL},
		{"/%4g", -EINVAL, NULL},
		{"/%-1", -EINVAL, NULL},
		{"/%c0%af", -EINVAL, NULL},
		{"/", -ENOENT, NULL},
		{"", -ENOENT, NULL},
	};
	char longest[5 * LIMIT_BOOT_PATH_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		check(cases[i].asked, 0, cases[i].result, cases[i].path, true);
	memset(longest, '/', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	check(longest, 0, -ENAMETOOLONG, NULL, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths),
		cmocka_unit_test(url_paths),
	};

	return cmocka_run_group_tests_name("path", tests, NULL, NULL);
}
