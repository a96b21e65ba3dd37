/*
 * The base library: byte order, lists, serial numbers, checksums, mailboxes, sizes.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/crc32c.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/size.h"
#include "base/sn32.h"

static void byte_order_is_of_the_wire_and_of_the_disk(void **state)
{
	const uint64_t v = 0x0102030405060708;
	const uint8_t big[] = {1, 2, 3, 4, 5, 6, 7, 8}, little[] = {8, 7, 6, 5, 4, 3, 2, 1};
	be64_t b;
	le64_t l;
	be24_t b24;
	le32_t l32;
	le16_t l16;

	(void)state;
	be64_put(&b, v);
	assert_memory_equal(b.b, big, 8);
	assert_int_equal(be64_get(b), v);
	le64_put(&l, v);
	assert_memory_equal(l.b, little, 8);
	assert_int_equal(le64_get(l), v);
	be24_put(&b24, 0xabcdef);
	assert_int_equal(b24.b[0], 0xab);
	assert_int_equal(be24_get(b24), 0xabcdef);
	le32_put(&l32, 0xfedcba98);
	assert_int_equal(l32.b[0], 0x98);
	assert_int_equal(le32_get(l32), 0xfedcba98);
	le16_put(&l16, 0xfedc);
	assert_int_equal(le16_get(l16), 0xfedc);
	assert_int_equal(get_be32(big + 2), 0x03040506);
}

static void serial_numbers_wrap(void **state)
{
	static const struct {
		uint32_t a, b;
		bool before;
	} rows[] = {
		{1, 2, true},
		{2, 1, false},
		{5, 5, false},
		{0xffffffff, 0, true},
		{0, 0xffffffff, false},
		{0x7fffffff, 0x80000000, true},
		{0xfffffff0, 0x10, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		assert_int_equal(sn32_before(rows[i].a, rows[i].b), rows[i].before);
		assert_int_equal(sn32_after(rows[i].b, rows[i].a), rows[i].before);
	}
}

/* RFC 7143 names the polynomial; the vectors are those of RFC 3720, B.4. */
static void crc32c_known_answers(void **state)
{
	uint8_t data[32];

	(void)state;
	memset(data, 0, sizeof(data));
	assert_int_equal(crc32c(0, data, 32), 0x8a9136aa);
	memset(data, 0xff, sizeof(data));
	assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
	for (unsigned i = 0; i < 32; i++)
		data[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, data, 32), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, data, 7), data + 7, 25), 0x46dd794e);
	assert_int_equal(crc32c(0, data, 0), 0);
}

struct item {
	struct list node;
	int value;
};

static void list_keeps_order_and_survives_removal_in_walk(void **state)
{
	struct list head, other;
	struct item items[6];
	int sum = 0;

	(void)state;
	list_init(&head);
	list_init(&other);
	for (int i = 0; i < 6; i++) {
		items[i].value = i;
		list_append(i < 4 ? &head : &other, &items[i].node);
	}
	list_splice(&head, &other);
	assert_true(list_empty(&other));
	list_for_each (n, &head) {
		struct item *item = LIST_ENTRY(n, struct item, node);

		sum = sum * 10 + item->value;
		if (item->value % 2)
			list_remove(n);
	}
	assert_int_equal(sum, 12345);
	list_remove(&items[1].node); /* once more: harmless */
	list_prepend(&head, &items[5].node);
	assert_ptr_equal(LIST_FIRST(&head, struct item, node), &items[5]);
}

#define POSTERS    4
#define POSTS_EACH 2000

struct numbered {
	struct mailbox_msg msg;
	unsigned poster, number;
};

static struct mailbox box;
static struct numbered posts[POSTERS][POSTS_EACH];
static unsigned taken, expected[POSTERS];

static void numbered_run(struct mailbox_msg *msg)
{
	struct numbered *n = CONTAINER_OF(msg, struct numbered, msg);

	assert_int_equal(n->number, expected[n->poster]);
	expected[n->poster]++;
	taken++;
}

static void *post_all(void *arg)
{
	unsigned poster = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < POSTS_EACH; i++) {
		posts[poster][i] = (struct numbered){{.run = numbered_run}, poster, i};
		mailbox_post(&box, &posts[poster][i].msg);
	}
	return NULL;
}

static void mailbox_loses_nothing_and_keeps_each_senders_order(void **state)
{
	pthread_t threads[POSTERS];

	(void)state;
	assert_int_equal(mailbox_init(&box), 0);
	for (unsigned i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, post_all, (void *)(uintptr_t)i),
				 0);
	while (taken < POSTERS * POSTS_EACH)
		mailbox_run(&box);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	mailbox_done(&box);
}

static void log_levels_by_name(void **state)
{
	enum log_level level = LOG_LEVEL_INFO;

	(void)state;
	assert_true(log_level_parse("debug", &level));
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_false(log_level_parse("loud", &level));
	assert_int_equal(level, LOG_LEVEL_DEBUG);
}

/* Standard error goes to a file meanwhile. */
static void log_storm_is_cut_and_errors_are_not(void **state)
{
	char path[] = "/tmp/base_test.XXXXXX";
	int file = mkstemp(path), saved = dup(STDERR_FILENO);
	unsigned lines = 0, errors = 0;
	char line[256];
	FILE *f;

	(void)state;
	assert_true(file >= 0 && dup2(file, STDERR_FILENO) >= 0);
	for (unsigned i = 0; i < 5000; i++)
		log_warn("storm");
	for (unsigned i = 0; i < 10; i++)
		log_error("real");
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		lines += strstr(line, "storm") != NULL;
		errors += strstr(line, "real") != NULL;
	}
	assert_in_range(lines, 500, 2000);
	assert_int_equal(errors, 10);
	fclose(f);
	close(file);
	close(saved);
	unlink(path);
}

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
	char buffer[SIZE_TEXT_BYTES];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(size_format(cases[i].bytes, buffer), cases[i].want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(byte_order_is_of_the_wire_and_of_the_disk),
		cmocka_unit_test(serial_numbers_wrap),
		cmocka_unit_test(crc32c_known_answers),
		cmocka_unit_test(list_keeps_order_and_survives_removal_in_walk),
		cmocka_unit_test(mailbox_loses_nothing_and_keeps_each_senders_order),
		cmocka_unit_test(sizes_read),
		cmocka_unit_test(sizes_written),
		cmocka_unit_test(log_levels_by_name),
		cmocka_unit_test(log_storm_is_cut_and_errors_are_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
