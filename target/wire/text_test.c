/*
 * Text keys: what is well formed, and that nothing else passes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "wire/text.h"

/* `text` with its length, in its own allocation so that reads beyond it are seen. */
static int parse(const char *text, size_t bytes, struct wire_text_list *ret_list,
		 uint8_t **ret_copy)
{
	uint8_t *copy = malloc(bytes ? bytes : 1);

	memcpy(copy, text, bytes);
	*ret_copy = copy;
	return wire_text_parse(copy, bytes, ret_list);
}

#define LITERAL(s) s, sizeof(s) - 1

static void texts(void **state)
{
	static const struct {
		const char *text;
		size_t bytes;
		int res;
		unsigned count;
	} rows[] = {
		{LITERAL(""), 0, 0},
		{LITERAL("\0"), 0, 0},
		{LITERAL("\0\0\0"), 0, 0},
		{LITERAL("A=b\0"), 0, 1},
		{LITERAL("A=b\0\0\0\0"), 0, 1},
		{LITERAL("A=b\0\0\0\0\0"), -EBADMSG, 0},
		{LITERAL("A=b\0C=d\0"), 0, 2},
		{LITERAL("A=b\0\0C=d\0"), -EBADMSG, 0},
		{LITERAL("SendTargets=\0"), 0, 1},
		{LITERAL("A=b=c\0"), 0, 1},
		{LITERAL("iSCSIProtocolLevel=1\0"), 0, 1},
		{LITERAL("X-com.example.a+b@c_d=1\0"), 0, 1},
		{LITERAL("X#old=1\0"), 0, 1},
		{LITERAL("A=b"), -EBADMSG, 0},
		{LITERAL("A=b\0C=d"), -EBADMSG, 0},
		{LITERAL("A\0"), -EBADMSG, 0},
		{LITERAL("=b\0"), -EBADMSG, 0},
		{LITERAL("1A=b\0"), -EBADMSG, 0},
		{LITERAL("A B=b\0"), -EBADMSG, 0},
		{LITERAL("A\xc3\xa4=b\0"), -EBADMSG, 0},
		{LITERAL("A=\x01\0"), -EBADMSG, 0},
		{LITERAL("A=\x7f\0"), -EBADMSG, 0},
		{LITERAL("A=a\nb\0"), -EBADMSG, 0},
		{LITERAL("A=\xc3\xa4 \xe2\x82\xac \xf0\x9f\x8d\x93\0"), 0, 1},
		{LITERAL("A=\xc3\0"), -EBADMSG, 0},
		{LITERAL("A=\x80\0"), -EBADMSG, 0},
		{LITERAL("A=\xc0\xaf\0"), -EBADMSG, 0},
		{LITERAL("A=\xe0\x80\xaf\0"), -EBADMSG, 0},
		{LITERAL("A=\xed\xa0\x80\0"), -EBADMSG, 0},
		{LITERAL("A=\xf4\x90\x80\x80\0"), -EBADMSG, 0},
		{LITERAL("A=\xf0\x8f\xbf\xbf\0"), -EBADMSG, 0},
		{LITERAL("A=\xff\0"), -EBADMSG, 0},
		{LITERAL("A=b\0A=c\0"), -EEXIST, 0},
		{LITERAL("A=b\0a=c\0"), 0, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct wire_text_list list;
		uint8_t *copy;
		int res = parse(rows[i].text, rows[i].bytes, &list, &copy);

		if (res != rows[i].res || (res == 0 && list.count != rows[i].count))
			fail_msg("row %zu \"%s\": %d, %u keys", i, rows[i].text, res, list.count);
		free(copy);
	}
}

static void key_too_long(void **state)
{
	struct wire_text_list list;
	uint8_t *copy;
	char text[80];

	(void)state;
	memset(text, 'K', sizeof(text));
	strcpy(text + 63, "=v");
	assert_int_equal(parse(text, 66, &list, &copy), 0);
	assert_int_equal(strlen(list.pairs[0].key), 63);
	assert_string_equal(list.pairs[0].value, "v");
	assert_int_equal(list.pairs[0].value_bytes, 1);
	free(copy);
	text[63] = 'K';
	strcpy(text + 64, "=v");
	assert_int_equal(parse(text, 67, &list, &copy), -EBADMSG);
	free(copy);
}

static void too_many_keys(void **state)
{
	struct wire_text_list list;
	uint8_t *copy;
	char text[2048];
	size_t bytes = 0;

	(void)state;
	for (int i = 0; i < LIMIT_TEXT_KEYS; i++)
		bytes += (size_t)sprintf(text + bytes, "K%d=v", i) + 1;
	assert_int_equal(parse(text, bytes, &list, &copy), 0);
	assert_int_equal(list.count, LIMIT_TEXT_KEYS);
	assert_ptr_equal(wire_text_find(&list, "K5"), &list.pairs[5]);
	assert_null(wire_text_find(&list, "k5"));
	free(copy);
	bytes += (size_t)sprintf(text + bytes, "More=v") + 1;
	assert_int_equal(parse(text, bytes, &list, &copy), -E2BIG);
	free(copy);
}

static void numbers(void **state)
{
	static const struct {
		const char *value;
		uint64_t min, max;
		int res;
		uint64_t number;
	} rows[] = {
		{"0", 0, 10, 0, 0},
		{"10", 0, 10, 0, 10},
		{"11", 0, 10, -ERANGE, 0},
		{"511", 512, 16777215, -ERANGE, 0},
		{"512", 512, 16777215, 0, 512},
		{"16777215", 512, 16777215, 0, 16777215},
		{"16777216", 512, 16777215, -ERANGE, 0},
		{"0x200", 512, 16777215, 0, 512},
		{"0XfF", 0, 255, 0, 255},
		{"0x00ff", 0, 255, 0, 255},
		{"18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", 0, UINT64_MAX, -ERANGE, 0},
		{"0xffffffffffffffff", 0, UINT64_MAX, 0, UINT64_MAX},
		{"0x10000000000000000", 0, UINT64_MAX, -ERANGE, 0},
		{"99999999999999999999999999999999", 0, UINT64_MAX, -ERANGE, 0},
		{"", 0, 10, -EINVAL, 0},
		{"0x", 0, 10, -EINVAL, 0},
		{"007", 0, 10, -EINVAL, 0},
		{"-1", 0, 10, -EINVAL, 0},
		{"+1", 0, 10, -EINVAL, 0},
		{" 1", 0, 10, -EINVAL, 0},
		{"1 ", 0, 10, -EINVAL, 0},
		{"1a", 0, 100, -EINVAL, 0},
		{"0xg", 0, 100, -EINVAL, 0},
		{"1,2", 0, 100, -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t number = 0;

		if (wire_text_number(rows[i].value, rows[i].min, rows[i].max, &number) !=
		    rows[i].res)
			fail_msg("number \"%s\"", rows[i].value);
		assert_int_equal(number, rows[i].number);
	}
}

static void booleans(void **state)
{
	bool boolean = false;

	(void)state;
	assert_int_equal(wire_text_boolean("Yes", &boolean), 0);
	assert_true(boolean);
	assert_int_equal(wire_text_boolean("No", &boolean), 0);
	assert_false(boolean);
	assert_int_equal(wire_text_boolean("yes", &boolean), -EINVAL);
	assert_int_equal(wire_text_boolean("", &boolean), -EINVAL);
	assert_int_equal(wire_text_boolean("Yes,No", &boolean), -EINVAL);
}

static void binaries(void **state)
{
	static const struct {
		const char *value;
		int res;
		const char *data;
		size_t bytes;
	} rows[] = {
		{"0x00", 0, LITERAL("\0")},
		{"0xaBcD", 0, LITERAL("\xab\xcd")},
		{"0xabc", 0, LITERAL("\x0a\xbc")},
		{"0X0102030405060708", 0, LITERAL("\1\2\3\4\5\6\7\x8")},
		{"0x010203040506070809", -ERANGE, NULL, 0},
		{"0x", -EINVAL, NULL, 0},
		{"0xzz", -EINVAL, NULL, 0},
		{"0x0 ", -EINVAL, NULL, 0},
		{"0bZm9v", 0, LITERAL("foo")},
		{"0bZm9vYg==", 0, LITERAL("foob")},
		{"0BZm9vYmE=", 0, LITERAL("fooba")},
		{"0bZm9vYmFy", 0, LITERAL("foobar")},
		{"0b+/+/", 0, LITERAL("\xfb\xff\xbf")},
		{"0bZm9vYmFyMTI=", 0, LITERAL("foobar12")},
		{"0bZm9vYmFyMTIz", -ERANGE, NULL, 0},
		{"0b", -EINVAL, NULL, 0},
		{"0bZm9", -EINVAL, NULL, 0},
		{"0bZm9vYg=", -EINVAL, NULL, 0},
		{"0bZm9vYg===", -EINVAL, NULL, 0},
		{"0b====", -EINVAL, NULL, 0},
		{"0bZ===", -EINVAL, NULL, 0},
		{"0bZm=v", -EINVAL, NULL, 0},
		{"0bZh==", -EINVAL, NULL, 0}, /* bits left over */
		{"0bZm9-", -EINVAL, NULL, 0},
		{"1234", -EINVAL, NULL, 0},
		{"", -EINVAL, NULL, 0},
		{"0", -EINVAL, NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *data = malloc(8);
		size_t bytes = 0;

		if (wire_text_binary(rows[i].value, data, 8, &bytes) != rows[i].res)
			fail_msg("binary \"%s\"", rows[i].value);
		assert_int_equal(bytes, rows[i].bytes);
		if (bytes)
			assert_memory_equal(data, rows[i].data, bytes);
		free(data);
	}
}

static void lists(void **state)
{
	size_t position = 0, bytes;
	const char *item;

	(void)state;
	assert_true(wire_text_list_next("a,,bc", &position, &item, &bytes));
	assert_int_equal(bytes, 1);
	assert_true(wire_text_list_next("a,,bc", &position, &item, &bytes));
	assert_int_equal(bytes, 0);
	assert_true(wire_text_list_next("a,,bc", &position, &item, &bytes));
	assert_memory_equal(item, "bc", 3);
	assert_false(wire_text_list_next("a,,bc", &position, &item, &bytes));
	assert_false(wire_text_list_next("a,,bc", &position, &item, &bytes));
	assert_true(wire_text_list_has("CHAP,None", "None"));
	assert_false(wire_text_list_has("CHAP,Nones", "None"));
	assert_false(wire_text_list_has("CHAP,Non", "None"));
	assert_false(wire_text_list_has("", "None"));
}

static void names(void **state)
{
	static const struct {
		const char *name;
		bool valid;
	} rows[] = {
		{"iqn.2026-11.local.lunroot:pi-07", true},
		{"IQN.2026-11.Local.Lunroot:PI-07", true},
		{"iqn.2026-11.local", true},
		{"iqn.2026-11.local:\xc3\xa4", true},
		{"iqn.2026-11.", false},
		{"iqn.2026-11", false},
		{"iqn.2026.11.local", false},
		{"iqn.20a6-11.local", false},
		{"iqn.", false},
		{"iqn.2026-11.local:a_b", false},
		{"iqn.2026-11.local:a b", false},
		{"iqn.2026-11.local:a\xff", false},
		{"eui.02004567A425678D", true},
		{"eui.02004567A425678", false},
		{"eui.02004567A425678DA", false},
		{"eui.02004567A425678G", false},
		{"naa.52004567BA64678D", true},
		{"naa.62004567BA64678D0123456789ABCDEF", true},
		{"naa.62004567BA64678D0123456789ABCDE", false},
		{"wwn.52004567BA64678D", false},
		{"", false},
		{"i", false},
	};
	char longest[300] = "iqn.2026-11.local:";

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (wire_iscsi_name_valid(rows[i].name) != rows[i].valid)
			fail_msg("name \"%s\"", rows[i].name);
	}
	memset(longest + strlen(longest), 'a', LIMIT_ISCSI_NAME_BYTES - strlen(longest));
	assert_true(wire_iscsi_name_valid(longest));
	strcat(longest, "a");
	assert_false(wire_iscsi_name_valid(longest));
	assert_true(wire_iscsi_name_equal("iqn.A", "IQN.a"));
	assert_false(wire_iscsi_name_equal("iqn.a", "iqn.ab"));
	assert_false(wire_iscsi_name_equal("iqn.ab", "iqn.a"));
}

static void writer_never_passes_its_end(void **state)
{
	static const char want[] = "A=b\0Number=18446744073709551615\0Flag=No\0Bin=0x00ff\0";

	(void)state;
	for (size_t capacity = 0; capacity <= sizeof(want); capacity++) {
		uint8_t *text = malloc(capacity ? capacity : 1);
		struct wire_text_writer writer;

		wire_text_writer_init(&writer, text, capacity);
		wire_text_put(&writer, "A", "b");
		wire_text_put_number(&writer, "Number", UINT64_MAX);
		wire_text_put_boolean(&writer, "Flag", false);
		wire_text_put_binary(&writer, "Bin", (const uint8_t *)"\x00\xff", 2);
		assert_true(writer.bytes <= capacity);
		assert_int_equal(writer.overflow, capacity < sizeof(want) - 1);
		if (writer.bytes)
			assert_memory_equal(text, want, writer.bytes);
		/* whole pairs only */
		assert_true(writer.bytes == 0 || text[writer.bytes - 1] == '\0');
		free(text);
	}
}

static void buffer_bound(void **state)
{
	static uint8_t chunk[4096];
	struct wire_text_buffer buffer = {0};

	(void)state;
	for (size_t sum = 0; sum < LIMIT_LOGIN_TEXT_BYTES; sum += sizeof(chunk)) {
		memset(chunk, (int)(sum / sizeof(chunk)), sizeof(chunk));
		assert_int_equal(wire_text_buffer_add(&buffer, chunk, sizeof(chunk)), 0);
	}
	assert_int_equal(wire_text_buffer_add(&buffer, chunk, 1), -E2BIG);
	assert_int_equal(wire_text_buffer_add(&buffer, NULL, 0), 0);
	assert_int_equal(buffer.text[5 * sizeof(chunk)], 5);
	wire_text_buffer_done(&buffer);
	assert_null(buffer.text);
	assert_int_equal(buffer.bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(key_too_long),
		cmocka_unit_test(too_many_keys),
		cmocka_unit_test(numbers),
		cmocka_unit_test(booleans),
		cmocka_unit_test(binaries),
		cmocka_unit_test(lists),
		cmocka_unit_test(names),
		cmocka_unit_test(writer_never_passes_its_end),
		cmocka_unit_test(buffer_bound),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
