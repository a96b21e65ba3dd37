/*
 * CHAP as iSCSI uses it (RFC 7143, 12.1.3; RFC 1994): algorithms, responses, challenges. Who
 * asks whom and for what is the login's business. Any thread.
 */
#ifndef LUNROOT_WIRE_CHAP_H
#define LUNROOT_WIRE_CHAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/* Numbers of the PPP authentication algorithms registry. */
enum chap_algorithm {
	CHAP_MD5 = 5,
	CHAP_SHA1 = 6,
	CHAP_SHA256 = 7,
	CHAP_SHA3_256 = 8,
};

#define CHAP_DIGEST_BYTES_MAX 32
/* As long as the longest digest: a shorter one would be the weakest part. */
#define CHAP_CHALLENGE_BYTES 32

/* 0 for a number that is no algorithm. */
size_t chap_digest_bytes(unsigned algorithm);
const char *chap_algorithm_name(unsigned algorithm);
/* Whether the cryptographic library computes it: a FIPS policy switches MD5 off. */
bool chap_algorithm_usable(unsigned algorithm);
/*
 * The first algorithm of a CHAP_A value ("5" or "7,5") that we can use: the order is the
 * originator's preference. 0, -EINVAL for a malformed list, -ENOENT if none will do.
 */
int chap_pick(const char *list, enum chap_algorithm *ret_algorithm);

/* 0, or -EIO if the library has no random bytes to give. */
int chap_random(uint8_t *ret_data, size_t bytes);

/*
 * H(id, secret, challenge); ret_response has room for CHAP_DIGEST_BYTES_MAX and gets
 * chap_digest_bytes(algorithm). 0, or -ENOTSUP if the library refuses the algorithm.
 */
int chap_response(enum chap_algorithm algorithm, uint8_t id, const uint8_t *secret,
		  size_t secret_bytes, const uint8_t *challenge, size_t challenge_bytes,
		  uint8_t *ret_response);
/* In a time that does not depend on where they differ. */
bool chap_equal(const uint8_t *a, size_t a_bytes, const uint8_t *b, size_t b_bytes);

#endif
