/*
 * CHAP against answers computed by another program (openssl dgst over id, secret, challenge).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "wire/chap.h"
#include "wire/text.h"

static const struct vector {
	enum chap_algorithm algorithm;
	uint8_t id;
	const char *secret, *challenge, *response; /* hexadecimal but for the secret */
} vectors[] = {
	{CHAP_MD5, 0xa5, "node-secret-0001", "0x000102030405060708090a0b0c0d0e0f",
	 "0x459b928ed73754a2cd18440a11c6d0a2"},
	{CHAP_SHA1, 0xa5, "node-secret-0001", "0x000102030405060708090a0b0c0d0e0f",
	 "0x7a4071861b4f4fe9bd743b3d0192289259a66d1b"},
	{CHAP_SHA256, 0xa5, "node-secret-0001", "0x000102030405060708090a0b0c0d0e0f",
	 "0x326896d4b421463b7a8f54a04bd224e27497a7e90e8803432ce7591e391ded74"},
	{CHAP_SHA3_256, 0xa5, "node-secret-0001", "0x000102030405060708090a0b0c0d0e0f",
	 "0x21be28b46838cde518d314e14d80c749cf2d000a9de590045f8321a48ef07fdb"},
	{CHAP_MD5, 0, "sixteen-byte-key-and-more",
	 "0xfffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0",
	 "0xb295b1de0ce4b3ba24fd7e1c454ee31f"},
	{CHAP_SHA1, 0, "sixteen-byte-key-and-more",
	 "0xfffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0",
	 "0x9e191f364a97338084cb948037a1cf4bf14fea86"},
	{CHAP_SHA256, 0, "sixteen-byte-key-and-more",
	 "0xfffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0",
	 "0xacad8e1f551728f3e01adea849254ce19f646f9784f09eda7091da26130bc39b"},
	{CHAP_SHA3_256, 0, "sixteen-byte-key-and-more",
	 "0xfffefdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e0",
	 "0xde1559a75083771660b47a6a8ee1dec9758daac92fb9c2a4082722d2b2af0be6"},
};

/* Of the four only SHA3-256 may be missing: libmd does not have it. */
static bool has(enum chap_algorithm algorithm)
{
	bool usable = chap_algorithm_usable(algorithm);

	if (algorithm != CHAP_SHA3_256)
		assert_true(usable);
	return usable;
}

static void known_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const struct vector *v = &vectors[i];
		uint8_t challenge[64], want[64], response[CHAP_DIGEST_BYTES_MAX];
		size_t challenge_bytes, want_bytes;

		assert_int_equal(wire_text_binary(v->challenge, challenge, sizeof(challenge),
						  &challenge_bytes),
				 0);
		assert_int_equal(wire_text_binary(v->response, want, sizeof(want), &want_bytes), 0);
		assert_int_equal(chap_digest_bytes(v->algorithm), want_bytes);
		if (!has(v->algorithm)) {
			assert_int_equal(chap_response(v->algorithm, v->id, challenge, 16,
						       challenge, challenge_bytes, response),
					 -ENOTSUP);
			continue;
		}
		assert_int_equal(chap_response(v->algorithm, v->id, (const uint8_t *)v->secret,
					       strlen(v->secret), challenge, challenge_bytes,
					       response),
				 0);
		assert_memory_equal(response, want, want_bytes);
	}
}

static void list_picking(void **state)
{
	const struct {
		const char *list;
		int res;
		unsigned algorithm;
	} rows[] = {
		{"5", 0, CHAP_MD5},
		{"0x7", 0, CHAP_SHA256},
		{"7,5", 0, CHAP_SHA256},
		{"5,7", 0, CHAP_MD5},
		{"1,2,8,6", 0, has(CHAP_SHA3_256) ? CHAP_SHA3_256 : CHAP_SHA1},
		{"4", -ENOENT, 0},
		{"0,9,4294967295", -ENOENT, 0},
		{"", -EINVAL, 0},
		{"5,", -EINVAL, 0},
		{",5", -EINVAL, 0},
		{"5,MD5", -EINVAL, 0},
		{"5,00000000000000007", -EINVAL, 0},
		{"4294967296", -EINVAL, 0},
		{"-5", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum chap_algorithm algorithm = 0;

		if (chap_pick(rows[i].list, &algorithm) != rows[i].res)
			fail_msg("list \"%s\"", rows[i].list);
		assert_int_equal(algorithm, rows[i].algorithm);
	}
}

static void unknown_algorithms(void **state)
{
	(void)state;
	assert_int_equal(chap_digest_bytes(4), 0);
	assert_int_equal(chap_digest_bytes(9), 0);
	assert_false(chap_algorithm_usable(4));
	assert_true(chap_algorithm_usable(CHAP_SHA256));
	assert_string_equal(chap_algorithm_name(CHAP_SHA3_256), "SHA3-256");
	assert_string_equal(chap_algorithm_name(1), "unknown algorithm");
}

static void comparison_wants_equal_lengths(void **state)
{
	(void)state;
	assert_true(chap_equal((const uint8_t *)"abcd", 4, (const uint8_t *)"abcd", 4));
	assert_false(chap_equal((const uint8_t *)"abcd", 4, (const uint8_t *)"abcd", 3));
	assert_false(chap_equal((const uint8_t *)"abcd", 4, (const uint8_t *)"abce", 4));
	assert_false(chap_equal((const uint8_t *)"abcd", 0, (const uint8_t *)"abcd", 4));
}

static void challenges_differ(void **state)
{
	uint8_t a[CHAP_CHALLENGE_BYTES], b[CHAP_CHALLENGE_BYTES];

	(void)state;
	assert_int_equal(chap_random(a, sizeof(a)), 0);
	assert_int_equal(chap_random(b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),
		cmocka_unit_test(list_picking),
		cmocka_unit_test(unknown_algorithms),
		cmocka_unit_test(comparison_wants_equal_lengths),
		cmocka_unit_test(challenges_differ),
	};

	return cmocka_run_group_tests_name("chap", tests, NULL, NULL);
}
