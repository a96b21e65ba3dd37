/*
 * Immutable bytes in RAM that many transfers, views and caches hold at one time: counted
 * references, no locks, any thread. A blob is one piece of memory, or several one after the other,
 * so that a node's settings come behind an initramfs that a hundred nodes share without a copy of
 * it.
 */
#ifndef LUNROOT_BOOT_BLOB_H
#define LUNROOT_BOOT_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A base, its padding and what is appended; concatenations of concatenations stay far below. */
#define BLOB_PIECES_MAX 16

struct blob;

/* Takes malloc'ed data (NULL only with bytes 0); NULL: no memory, and the data is freed. */
struct blob *blob_new(void *data, size_t bytes);

/* The same for data with secrets: it is wiped before it is freed. */
struct blob *blob_new_secret(void *data, size_t bytes);

/* A copy of the bytes; NULL: no memory. */
struct blob *blob_copy(const void *data, size_t bytes);

/*
 * `a`, zeros up to a multiple of 4, `b`. The caller's references are taken, also in failure; either
 * may be NULL (an earlier failure), and then so is the result. NULL: no memory, or more than
 * BLOB_PIECES_MAX pieces.
 */
struct blob *blob_concat(struct blob *a, struct blob *b);

struct blob *blob_ref(struct blob *blob);
/* Accepts NULL. The last one frees the bytes. */
void blob_unref(struct blob *blob);

/* Whether the caller's reference is the only one: true stays true while nobody else can come by
 * one. */
bool blob_is_sole(struct blob *blob);

uint64_t blob_bytes(const struct blob *blob);

/* Copies what there is of `bytes` at `offset`, and says how much that was. */
size_t blob_read(const struct blob *blob, uint64_t offset, void *to, size_t bytes);

/* The pieces, for writev and evbuffers, valid as long as the reference: how many there are; at most
 * `max` are given. None is empty. */
size_t blob_pieces(const struct blob *blob, const void **ret_data, size_t *ret_bytes, size_t max);

#endif
