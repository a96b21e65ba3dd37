/*
 * Blobs: what is read from several pieces, padding, and that pieces live as long as any reference.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "boot/blob.h"

static struct blob *text(const char *words)
{
	char *copy = strdup(words);

	assert_non_null(copy);
	return blob_new(copy, strlen(words));
}

static void check(struct blob *blob, const char *want, size_t bytes)
{
	char got[64];

	assert_int_equal(blob_bytes(blob), bytes);
	for (size_t from = 0; from <= bytes + 1; from++) {
		for (size_t length = 0; length <= bytes + 1; length++) {
			size_t there = from >= bytes ? 0 : bytes - from;

			memset(got, '#', sizeof(got));
			if (there > length)
				there = length;
			assert_int_equal(blob_read(blob, from, got, length), there);
			assert_memory_equal(got, want + from, there);
			assert_int_equal(got[there], '#');
		}
	}
}

static void one_piece(void **state)
{
	struct blob *blob = text("hello");
	const void *data;
	size_t bytes;

	(void)state;
	check(blob, "hello", 5);
	assert_int_equal(blob_pieces(blob, &data, &bytes, 1), 1);
	assert_int_equal(bytes, 5);
	assert_memory_equal(data, "hello", 5);
	assert_int_equal(blob_read(blob, UINT64_MAX, &bytes, 1), 0);
	blob_unref(blob);
	blob_unref(NULL);
}

static void nothing_has_no_piece(void **state)
{
	struct blob *empty = blob_new(NULL, 0), *none = blob_new(malloc(1), 0);

	(void)state;
	check(empty, "", 0);
	assert_int_equal(blob_pieces(none, NULL, NULL, 0), 0);
	empty = blob_concat(empty, none);
	check(empty, "", 0);
	empty = blob_concat(empty, text("a"));
	check(empty, "a", 1);
	blob_unref(empty);
}

static void the_second_begins_at_a_multiple_of_four(void **state)
{
	static const struct {
		const char *a, *b, *both;
		size_t bytes, pieces;
	} cases[] = {
		{"abcd", "ef", "abcdef", 6, 2},       {"abc", "ef", "abc\0ef", 6, 3},
		{"ab", "ef", "ab\0\0ef", 6, 3},       {"a", "ef", "a\0\0\0ef", 6, 3},
		{"abcde", "f", "abcde\0\0\0f", 9, 3}, {"", "ef", "ef", 2, 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob *both = blob_concat(text(cases[i].a), text(cases[i].b));

		check(both, cases[i].both, cases[i].bytes);
		assert_int_equal(blob_pieces(both, NULL, NULL, 0), cases[i].pieces);
		blob_unref(both);
	}
}

static void a_big_one_is_shared_by_many(void **state)
{
	struct blob *big = text("initramfs"), *boots[3], *nested;
	const void *data[8], *shared;
	size_t bytes[8];

	(void)state;
	assert_int_equal(blob_pieces(big, &shared, bytes, 1), 1);
	boots[0] = blob_concat(blob_ref(big), text("one"));
	boots[1] = blob_concat(blob_ref(big), text("two"));
	boots[2] = blob_ref(boots[1]);
	blob_unref(big);
	check(boots[0], "initramfs\0\0\0one", 15);
	blob_unref(boots[0]);
	check(boots[1], "initramfs\0\0\0two", 15);
	assert_int_equal(blob_pieces(boots[1], data, bytes, 8), 3);
	assert_ptr_equal(data[0], shared); /* no copy */
	/* Rows of rows; the inner ones go first. */
	nested = blob_concat(boots[1], blob_concat(boots[2], text("!")));
	check(nested, "initramfs\0\0\0two\0initramfs\0\0\0two\0!", 33);
	blob_unref(nested);
}

static void no_memory_for_a_part_frees_the_other(void **state)
{
	(void)state;
	assert_null(blob_concat(text("a"), NULL)); /* ASan would see the leak */
	assert_null(blob_concat(NULL, text("b")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_piece),
		cmocka_unit_test(nothing_has_no_piece),
		cmocka_unit_test(the_second_begins_at_a_multiple_of_four),
		cmocka_unit_test(a_big_one_is_shared_by_many),
		cmocka_unit_test(no_memory_for_a_part_frees_the_other),
	};

	return cmocka_run_group_tests_name("blob", tests, NULL, NULL);
}
