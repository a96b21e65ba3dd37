/*
 * CHAP by libcrypto.
 */
#include "wire/chap.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "wire/text.h"

static const struct chap_kind {
	enum chap_algorithm algorithm;
	uint8_t digest_bytes;
	const char *name, *crypto_name;
} chap_kinds[] = {
	{CHAP_MD5, 16, "MD5", "MD5"},
	{CHAP_SHA1, 20, "SHA-1", "SHA1"},
	{CHAP_SHA256, 32, "SHA-256", "SHA256"},
	{CHAP_SHA3_256, 32, "SHA3-256", "SHA3-256"},
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
	EVP_MD *md = kind ? EVP_MD_fetch(NULL, kind->crypto_name, NULL) : NULL;
	bool usable = md != NULL;

	EVP_MD_free(md);
	if (!usable)
		ERR_clear_error();
	return usable;
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
	assert(bytes <= INT_MAX);
	if (RAND_bytes(ret_data, (int)bytes) == 1)
		return 0;
	ERR_clear_error();
	return -EIO;
}

int chap_response(enum chap_algorithm algorithm, uint8_t id, const uint8_t *secret,
		  size_t secret_bytes, const uint8_t *challenge, size_t challenge_bytes,
		  uint8_t *ret_response)
{
	const struct chap_kind *kind = kind_find(algorithm);
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned digest_bytes = 0;
	EVP_MD *md;
	EVP_MD_CTX *ctx;
	bool done;

	assert(kind);
	md = EVP_MD_fetch(NULL, kind->crypto_name, NULL);
	ctx = EVP_MD_CTX_new();
	done = md && ctx && EVP_DigestInit_ex2(ctx, md, NULL) && EVP_DigestUpdate(ctx, &id, 1) &&
	       EVP_DigestUpdate(ctx, secret, secret_bytes) &&
	       EVP_DigestUpdate(ctx, challenge, challenge_bytes) &&
	       EVP_DigestFinal_ex(ctx, digest, &digest_bytes) && digest_bytes == kind->digest_bytes;
	if (done)
		memcpy(ret_response, digest, kind->digest_bytes);
	else
		ERR_clear_error();
	OPENSSL_cleanse(digest, sizeof(digest));
	EVP_MD_CTX_free(ctx);
	EVP_MD_free(md);
	return done ? 0 : -ENOTSUP;
}

bool chap_equal(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes)
{
	return a_bytes == b_bytes && CRYPTO_memcmp(a, b, a_bytes) == 0;
}
