/*
 * CHAP above the digests of wire/digest.h, which the daemon and lunroot-init have from different
 * libraries.
 */
#include "wire/chap.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "wire/digest.h"
#include "wire/text.h"

static const struct chap_kind {
	enum chap_algorithm algorithm;
	uint8_t digest_bytes;
	const char *name;
} chap_kinds[] = {
	{CHAP_MD5, 16, "MD5"},
	{CHAP_SHA1, 20, "SHA-1"},
	{CHAP_SHA256, 32, "SHA-256"},
	{CHAP_SHA3_256, 32, "SHA3-256"},
};

static const struct chap_kind *kind_find(unsigned algorithm)
{
	for (size_t i = 0; i < sizeof(chap_kinds) / sizeof(chap_kinds[0]); i++) {
		if (chap_kinds[i].algorithm == algorithm)
			return &chap_kinds[i];
	}
	return NULL;
}

size_t chap_digest_bytes(unsigned algorithm)
{
	const struct chap_kind *kind = kind_find(algorithm);

	return kind ? kind->digest_bytes : 0;
}

const char *chap_algorithm_name(unsigned algorithm)
{
	const struct chap_kind *kind = kind_find(algorithm);

	return kind ? kind->name : "unknown algorithm";
}

bool chap_algorithm_usable(unsigned algorithm)
{
	const struct chap_kind *kind = kind_find(algorithm);

	return kind && digest_usable(kind->algorithm);
}

int chap_pick(const char *list, enum chap_algorithm *ret_algorithm)
{
	size_t position = 0, bytes;
	const char *item;
	unsigned picked = 0;

	while (wire_text_list_next(list, &position, &item, &bytes)) {
		char text[12];
		uint64_t number;

		if (bytes >= sizeof(text))
			return -EINVAL;
		memcpy(text, item, bytes);
		text[bytes] = '\0';
		if (wire_text_number(text, 0, UINT_MAX, &number))
			return -EINVAL;
		/* The rest of the list is read on, for its form. */
		if (!picked && chap_algorithm_usable((unsigned)number))
			picked = (unsigned)number;
	}
	if (!picked)
		return -ENOENT;
	*ret_algorithm = (enum chap_algorithm)picked;
	return 0;
}

int chap_random(uint8_t *ret_data, size_t bytes)
{
	return digest_random(ret_data, bytes);
}

int chap_response(enum chap_algorithm algorithm, uint8_t id, const uint8_t *secret,
		  size_t secret_bytes, const uint8_t *challenge, size_t challenge_bytes,
		  uint8_t *ret_response)
{
	const struct digest_part parts[] = {
		{&id, 1}, {secret, secret_bytes}, {challenge, challenge_bytes}};
	const struct chap_kind *kind = kind_find(algorithm);
	uint8_t digest[CHAP_DIGEST_BYTES_MAX];
	int r;

	assert(kind);
	r = digest_compute(algorithm, parts, sizeof(parts) / sizeof(parts[0]), digest);
	if (r == 0)
		memcpy(ret_response, digest, kind->digest_bytes);
	explicit_bzero(digest, sizeof(digest));
	return r;
}

bool chap_equal(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
	uint8_t differs = 0;

	if (a_bytes != b_bytes)
		return false;
	for (size_t i = 0; i < a_bytes; i++)
		differs |= (uint8_t)(a[i] ^ b[i]);
	return differs == 0;
}
