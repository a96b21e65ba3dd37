/*
 * Digests by libmd, and random bytes by the kernel: for programs that are linked statically.
 */
#include "wire/digest.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <md5.h>
#include <sha1.h>
#include <sha2.h>

/* Which one is in use is known only to the functions of the algorithm. */
union digest_state {
	MD5_CTX md5;
	SHA1_CTX sha1;
	SHA2_CTX sha2;
};

bool digest_usable(enum chap_algorithm algorithm)
{
	return algorithm == CHAP_MD5 || algorithm == CHAP_SHA1 || algorithm == CHAP_SHA256;
}

static void begin(enum chap_algorithm algorithm, union digest_state *state)
{
	if (algorithm == CHAP_MD5)
		MD5Init(&state->md5);
	else if (algorithm == CHAP_SHA1)
		SHA1Init(&state->sha1);
	else
		SHA256Init(&state->sha2);
}

static void add(enum chap_algorithm algorithm, union digest_state *state, const void *data,
		size_t bytes)
{
	if (algorithm == CHAP_MD5)
		MD5Update(&state->md5, data, bytes);
	else if (algorithm == CHAP_SHA1)
		SHA1Update(&state->sha1, data, bytes);
	else
		SHA256Update(&state->sha2, data, bytes);
}

static void end(enum chap_algorithm algorithm, union digest_state *state, uint8_t *ret_digest)
{
	if (algorithm == CHAP_MD5)
		MD5Final(ret_digest, &state->md5);
	else if (algorithm == CHAP_SHA1)
		SHA1Final(ret_digest, &state->sha1);
	else
		SHA256Final(ret_digest, &state->sha2);
}

int digest_compute(enum chap_algorithm algorithm, const struct digest_part *parts, size_t count,
		   uint8_t *ret_digest)
{
	union digest_state state;

	if (!digest_usable(algorithm))
		return -ENOTSUP;
	begin(algorithm, &state);
	for (size_t i = 0; i < count; i++)
		add(algorithm, &state, parts[i].data, parts[i].bytes);
	end(algorithm, &state, ret_digest);
	explicit_bzero(&state, sizeof(state));
	return 0;
}

int digest_random(uint8_t *ret_data, size_t bytes)
{
	size_t have = 0;

	while (have < bytes) {
		/* Early in a boot this waits until the kernel has enough to start from. */
		ssize_t got = getrandom(ret_data + have, bytes - have, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EIO;
		have += (size_t)got;
	}
	return 0;
}
