/*
 * A blob is a list of pieces. Each piece is a stretch of memory and the blob that owns it (itself,
 * another one, or nobody for padding), so a concatenation of concatenations is flat at once.
 */
#include "boot/blob.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 4 /* the kernel looks for a further archive at multiples of four */

struct piece {
	const uint8_t *data;
	size_t bytes;
	struct blob *owner; /* a reference; NULL: this blob's own data, or static */
};

struct blob {
	atomic_uint references;
	uint64_t bytes;
	void *data;  /* of a blob that is no concatenation */
	bool secret; /* which is wiped */
	size_t piece_count;
	struct piece pieces[];
};

static struct blob *blob_alloc(size_t piece_count)
{
	struct blob *blob = calloc(1, sizeof(*blob) + piece_count * sizeof(struct piece));

	if (blob) {
		atomic_init(&blob->references, 1);
		blob->piece_count = piece_count;
	}
	return blob;
}

struct blob *blob_new(void *data, size_t bytes)
{
	struct blob *blob;

	assert(data || bytes == 0);
	blob = blob_alloc(bytes > 0);
	if (!blob) {
		free(data);
		return NULL;
	}
	blob->data = data;
	blob->bytes = bytes;
	if (bytes > 0)
		blob->pieces[0] = (struct piece){data, bytes, NULL};
	return blob;
}

struct blob *blob_new_secret(void *data, size_t bytes)
{
	struct blob *blob = blob_new(data, bytes);

	if (blob)
		blob->secret = true;
	return blob;
}

struct blob *blob_copy(const void *data, size_t bytes)
{
	void *copy = malloc(bytes ? bytes : 1);

	if (!copy)
		return NULL;
	if (bytes)
		memcpy(copy, data, bytes);
	return blob_new(copy, bytes);
}

/* The pieces of `from`, each kept alive by its owner, behind those that `to` has. */
static size_t take_pieces(struct blob *to, size_t at, struct blob *from)
{
	for (size_t i = 0; i < from->piece_count; i++) {
		struct piece piece = from->pieces[i];

		if (piece.owner || piece.data == from->data)
			piece.owner = blob_ref(piece.owner ? piece.owner : from);
		to->pieces[at++] = piece;
	}
	to->bytes += from->bytes;
	return at;
}

struct blob *blob_concat(struct blob *a, struct blob *b)
{
	static const uint8_t zeros[ALIGNMENT];
	struct blob *blob = NULL;
	size_t padding, count, at;

	if (!a || !b)
		goto done;
	padding = (size_t)((ALIGNMENT - a->bytes % ALIGNMENT) % ALIGNMENT);
	count = a->piece_count + b->piece_count + (padding > 0);
	if (count > BLOB_PIECES_MAX)
		goto done;
	blob = blob_alloc(count);
	if (!blob)
		goto done;
	at = take_pieces(blob, 0, a);
	if (padding > 0)
		blob->pieces[at++] = (struct piece){zeros, padding, NULL};
	blob->bytes += padding;
	at = take_pieces(blob, at, b);
	assert(at == count);
done:
	blob_unref(a);
	blob_unref(b);
	return blob;
}

struct blob *blob_ref(struct blob *blob)
{
	unsigned before = atomic_fetch_add_explicit(&blob->references, 1, memory_order_relaxed);

	assert(before > 0);
	return blob;
}

void blob_unref(struct blob *blob)
{
	if (!blob || atomic_fetch_sub_explicit(&blob->references, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < blob->piece_count; i++)
		blob_unref(blob->pieces[i].owner);
	if (blob->secret)
		explicit_bzero(blob->data, (size_t)blob->bytes);
	free(blob->data);
	free(blob);
}

bool blob_is_sole(struct blob *blob)
{
	return atomic_load_explicit(&blob->references, memory_order_acquire) == 1;
}

uint64_t blob_bytes(const struct blob *blob)
{
	return blob->bytes;
}

size_t blob_read(const struct blob *blob, uint64_t offset, void *to, size_t bytes)
{
	uint8_t *out = to;
	size_t done = 0;

	for (size_t i = 0; i < blob->piece_count && done < bytes; i++) {
		const struct piece *piece = &blob->pieces[i];
		size_t step;

		if (offset >= piece->bytes) {
			offset -= piece->bytes;
			continue;
		}
		step = piece->bytes - (size_t)offset;
		if (step > bytes - done)
			step = bytes - done;
		memcpy(out + done, piece->data + offset, step);
		done += step;
		offset = 0;
	}
	return done;
}

size_t blob_pieces(const struct blob *blob, const void **ret_data, size_t *ret_bytes, size_t max)
{
	for (size_t i = 0; i < blob->piece_count && i < max; i++) {
		ret_data[i] = blob->pieces[i].data;
		ret_bytes[i] = blob->pieces[i].bytes;
	}
	return blob->piece_count;
}
