/*
 * Digests by libcrypto.
 */
#include "wire/digest.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

static EVP_MD *fetch(enum chap_algorithm algorithm)
{
	switch (algorithm) {
	case CHAP_MD5: return EVP_MD_fetch(NULL, "MD5", NULL);
	case CHAP_SHA1: return EVP_MD_fetch(NULL, "SHA1", NULL);
	case CHAP_SHA256: return EVP_MD_fetch(NULL, "SHA256", NULL);
	case CHAP_SHA3_256: return EVP_MD_fetch(NULL, "SHA3-256", NULL);
	}
	return NULL;
}

bool digest_usable(enum chap_algorithm algorithm)
{
	EVP_MD *md = fetch(algorithm);
	bool usable = md != NULL;

	EVP_MD_free(md);
	if (!usable)
		ERR_clear_error();
	return usable;
}

int digest_compute(enum chap_algorithm algorithm, const struct digest_part *parts, size_t count,
		   uint8_t *ret_digest)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned digest_bytes = 0;
	EVP_MD *md = fetch(algorithm);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool done = md && ctx && EVP_DigestInit_ex2(ctx, md, NULL);

	for (size_t i = 0; i < count && done; i++)
		done = EVP_DigestUpdate(ctx, parts[i].data, parts[i].bytes);
	done = done && EVP_DigestFinal_ex(ctx, digest, &digest_bytes) &&
	       digest_bytes == chap_digest_bytes(algorithm);
	if (done)
		memcpy(ret_digest, digest, digest_bytes);
	else
		ERR_clear_error();
	OPENSSL_cleanse(digest, sizeof(digest));
	EVP_MD_CTX_free(ctx);
	EVP_MD_free(md);
	return done ? 0 : -ENOTSUP;
}

int digest_random(uint8_t *ret_data, size_t bytes)
{
	assert(bytes <= INT_MAX);
	if (RAND_bytes(ret_data, (int)bytes) == 1)
		return 0;
	ERR_clear_error();
	return -EIO;
}
