/*
 * The message digests that CHAP is made of, and random bytes: the seam between wire and the
 * library that has them. The daemon uses libcrypto (digest_crypto.c); lunroot-init, which must be
 * small and static, libmd (digest_md.c). Any thread.
 */
#ifndef LUNROOT_WIRE_DIGEST_H
#define LUNROOT_WIRE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/chap.h"

struct digest_part {
	const void *data;
	size_t bytes;
};

/* Whether this library computes it: a FIPS policy switches MD5 off, libmd has no SHA3. */
bool digest_usable(enum chap_algorithm algorithm);
/*
 * The digest of all parts, one after the other; ret_digest has room for CHAP_DIGEST_BYTES_MAX and
 * gets chap_digest_bytes(algorithm). 0, or -ENOTSUP if the library refuses the algorithm.
 */
int digest_compute(enum chap_algorithm algorithm, const struct digest_part *parts, size_t count,
		   uint8_t *ret_digest);
/* 0, or -EIO if there are no random bytes to be had. */
int digest_random(uint8_t *ret_data, size_t bytes);

#endif
