/*
 * The boot files of all nodes, each content once: a hundred clones of one image have the same
 * kernel, device trees and firmware, and hold them together. Found by SHA-256. What no view holds
 * any more stays for the next boot until the room is needed, the longest unused going first.
 * Any thread.
 */
#ifndef LUNROOT_BOOT_BLOB_POOL_H
#define LUNROOT_BOOT_BLOB_POOL_H

#include <stddef.h>
#include <stdint.h>

struct blob;
struct blob_pool;

/* Holds at most `bytes_max` of content. NULL: no memory. */
struct blob_pool *blob_pool_new(uint64_t bytes_max);
/* Accepts NULL. Blobs that others hold live on. */
void blob_pool_free(struct blob_pool *pool);

/*
 * Takes the caller's reference of a blob and gives one of the pool's blob of the same content: the
 * very one, if it is new. 0, -ENOMEM, or -ENOSPC: what views hold fills the pool. In failure the
 * reference is gone, too.
 */
int blob_pool_share(struct blob_pool *pool, struct blob *blob, struct blob **ret_blob);

struct blob_pool_usage {
	uint64_t bytes, bytes_idle; /* idle: no view holds it */
	size_t blobs;
};
struct blob_pool_usage blob_pool_usage(struct blob_pool *pool);

#endif
