/*
 * For fuzz targets that read disks: a disk of zeros but for pieces of the input, each with its
 * place before it, since partitions and file systems have their parts far from each other.
 *
 *     size of the disk in sectors (3 bytes) | sector (3 bytes), length (2 bytes), bytes | ...
 */
#ifndef LUNROOT_INITRAMFS_FUZZ_PIECES_H
#define LUNROOT_INITRAMFS_FUZZ_PIECES_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FUZZ_PIECES_MAX   65
#define FUZZ_SECTOR_BYTES 512

struct fuzz_piece {
	uint64_t offset;
	const uint8_t *data; /* of the input */
	size_t bytes;
};

struct fuzz_pieces {
	struct fuzz_piece pieces[FUZZ_PIECES_MAX];
	unsigned count;
	uint64_t size_bytes; /* of the disk */
};

static inline uint32_t fuzz_le24(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

/* At least 3 bytes of input, at most `max` pieces of it. */
static inline void fuzz_pieces_cut(struct fuzz_pieces *pieces, unsigned max, const uint8_t *data,
				   size_t size)
{
	assert(size >= 3 && max <= FUZZ_PIECES_MAX);
	pieces->size_bytes = (uint64_t)fuzz_le24(data) % (1 << 17) * FUZZ_SECTOR_BYTES;
	data += 3;
	size -= 3;
	while (size > 5 && pieces->count < max) {
		uint64_t offset = (uint64_t)fuzz_le24(data) * FUZZ_SECTOR_BYTES;
		size_t bytes = (size_t)(data[3] | data[4] << 8);

		data += 5;
		size -= 5;
		if (bytes > size)
			bytes = size;
		pieces->pieces[pieces->count++] = (struct fuzz_piece){offset, data, bytes};
		data += bytes;
		size -= bytes;
	}
}

/* No read may leave the disk. */
static inline void fuzz_pieces_read(const struct fuzz_pieces *pieces, void *to, size_t bytes,
				    uint64_t offset)
{
	uint8_t *out = to;

	assert(offset <= pieces->size_bytes && bytes <= pieces->size_bytes - offset);
	memset(out, 0, bytes);
	for (unsigned i = 0; i < pieces->count; i++) {
		const struct fuzz_piece *piece = &pieces->pieces[i];
		uint64_t first = piece->offset > offset ? piece->offset : offset;
		uint64_t end = piece->offset + piece->bytes;

		if (end > offset + bytes)
			end = offset + bytes;
		if (first < end)
			memcpy(out + (first - offset), piece->data + (first - piece->offset),
			       (size_t)(end - first));
	}
}

#endif
