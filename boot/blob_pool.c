/*
 * A hash table of digests beside a list by use, under one lock. A blob is idle when the pool's
 * reference is its only one; nobody can get another but here, under the lock, so it stays idle
 * while it is thrown out.
 */
#include "boot/blob_pool.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "boot/blob.h"

#define DIGEST_BYTES 32
#define BUCKETS      1024 /* files of some tens of views: a few each */

struct entry {
	struct list bucket, used; /* by digest; by use, oldest first */
	uint8_t digest[DIGEST_BYTES];
	struct blob *blob;
};

struct blob_pool {
	pthread_mutex_t lock;
	uint64_t bytes_max, bytes;
	size_t count;
	struct list used;
	struct list buckets[BUCKETS];
};

struct blob_pool *blob_pool_new(uint64_t bytes_max)
{
	struct blob_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pool->bytes_max = bytes_max;
	list_init(&pool->used);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&pool->buckets[i]);
	return pool;
}

static void entry_drop(struct blob_pool *pool, struct entry *entry)
{
	list_remove(&entry->bucket);
	list_remove(&entry->used);
	pool->bytes -= blob_bytes(entry->blob);
	pool->count--;
	blob_unref(entry->blob);
	free(entry);
}

void blob_pool_free(struct blob_pool *pool)
{
	if (!pool)
		return;
	list_for_each (node, &pool->used)
		entry_drop(pool, LIST_ENTRY(node, struct entry, used));
	assert(pool->bytes == 0 && pool->count == 0);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

static int digest_of(const struct blob *blob, uint8_t ret_digest[DIGEST_BYTES])
{
	const void *data[BLOB_PIECES_MAX];
	size_t bytes[BLOB_PIECES_MAX];
	size_t count = blob_pieces(blob, data, bytes, BLOB_PIECES_MAX);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	int good = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL);

	for (size_t i = 0; i < count && good; i++)
		good = EVP_DigestUpdate(context, data[i], bytes[i]);
	good = good && EVP_DigestFinal_ex(context, ret_digest, NULL);
	EVP_MD_CTX_free(context);
	return good ? 0 : -ENOMEM;
}

static struct list *bucket_of(struct blob_pool *pool, const uint8_t digest[DIGEST_BYTES])
{
	return &pool->buckets[(digest[0] | (unsigned)digest[1] << 8) % BUCKETS];
}

static struct entry *find(struct blob_pool *pool, const uint8_t digest[DIGEST_BYTES])
{
	list_for_each (node, bucket_of(pool, digest)) {
		struct entry *entry = LIST_ENTRY(node, struct entry, bucket);

		if (memcmp(entry->digest, digest, DIGEST_BYTES) == 0)
			return entry;
	}
	return NULL;
}

/* Makes room by throwing out what is idle; false if that is not enough. */
static int make_room(struct blob_pool *pool, uint64_t bytes)
{
	if (bytes > pool->bytes_max)
		return 0;
	list_for_each (node, &pool->used) {
		struct entry *entry = LIST_ENTRY(node, struct entry, used);

		if (pool->bytes <= pool->bytes_max - bytes)
			return 1;
		if (blob_is_sole(entry->blob))
			entry_drop(pool, entry);
	}
	return pool->bytes <= pool->bytes_max - bytes;
}

static int share_locked(struct blob_pool *pool, struct blob *blob,
			const uint8_t digest[DIGEST_BYTES], struct blob **ret_blob)
{
	struct entry *entry = find(pool, digest);

	if (entry) {
		list_remove(&entry->used);
		list_append(&pool->used, &entry->used);
		*ret_blob = blob_ref(entry->blob);
		return 0;
	}
	if (!make_room(pool, blob_bytes(blob)))
		return -ENOSPC;
	entry = calloc(1, sizeof(*entry));
	if (!entry)
		return -ENOMEM;
	memcpy(entry->digest, digest, DIGEST_BYTES);
	entry->blob = blob_ref(blob);
	list_append(bucket_of(pool, digest), &entry->bucket);
	list_append(&pool->used, &entry->used);
	pool->bytes += blob_bytes(blob);
	pool->count++;
	*ret_blob = blob_ref(blob);
	return 0;
}

int blob_pool_share(struct blob_pool *pool, struct blob *blob, struct blob **ret_blob)
{
	uint8_t digest[DIGEST_BYTES];
	int res = digest_of(blob, digest);

	if (!res) {
		pthread_mutex_lock(&pool->lock);
		res = share_locked(pool, blob, digest, ret_blob);
		pthread_mutex_unlock(&pool->lock);
	}
	blob_unref(blob);
	return res;
}

struct blob_pool_usage blob_pool_usage(struct blob_pool *pool)
{
	struct blob_pool_usage usage = {0};

	pthread_mutex_lock(&pool->lock);
	usage.bytes = pool->bytes;
	usage.blobs = pool->count;
	list_for_each (node, &pool->used) {
		struct blob *blob = LIST_ENTRY(node, struct entry, used)->blob;

		if (blob_is_sole(blob))
			usage.bytes_idle += blob_bytes(blob);
	}
	pthread_mutex_unlock(&pool->lock);
	return usage;
}
