/*
 * Reads an open chain from one end to the other, blocking: what merging and copying have in common.
 * Holes are not read, and what reads as zeros is told apart from data block by block. Memory is one
 * buffer.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/store_internal.h"

#define WALK_BUFFER_BYTES (1u << 20)

/* Whole blocks (but at the disk's end) of one kind. */
struct span {
	uint64_t bytes;
	int layer; /* the highest that has a say in them */
	bool data;
};

static const char *owner_path(const struct store_chain *chain, int layer)
{
	return layer >= 0 ? chain->layer_paths[layer] : chain->image_path;
}

/* A block in which a file ends: of several owners, those further right being higher. */
static void span_of_mixed_block(const struct file_disk *disk, uint64_t at, struct span *ret_span)
{
	uint64_t end = at + STORE_BLOCK_BYTES;
	struct span span = {.layer = OWNER_NONE};

	if (end > disk->disk.size_bytes)
		end = disk->disk.size_bytes;
	while (at < end) {
		struct file_owner owner = file_find_owner(disk, disk->layer_count, at, end - at);

		if (owner.layer > span.layer)
			span.layer = owner.layer;
		span.data |= owner.fd >= 0;
		span.bytes += owner.bytes;
		at += owner.bytes;
	}
	*ret_span = span;
}

bool file_data_next(int fd, uint64_t at, uint64_t end, uint64_t *ret_begin, uint64_t *ret_end)
{
	off_t data, hole;

	if (at >= end)
		return false;
	data = lseek(fd, (off_t)at, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return false;
	/* A file system that can't tell holes is read whole. */
	if (data < 0)
		data = (off_t)at;
	if ((uint64_t)data >= end)
		return false;
	hole = lseek(fd, data, SEEK_HOLE);
	*ret_begin = (uint64_t)data / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
	*ret_end = hole < 0 ? end
			    : ((uint64_t)hole + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES *
				      STORE_BLOCK_BYTES;
	if (*ret_end > end)
		*ret_end = end;
	return true;
}

uint64_t file_data_bytes(int fd, uint64_t at, uint64_t end)
{
	uint64_t data_begin, data_end, bytes = 0;

	while (file_data_next(fd, at, end, &data_begin, &data_end)) {
		bytes += data_end - data_begin;
		at = data_end;
	}
	return bytes;
}

static int span_at(const struct file_disk *disk, uint64_t at, struct span *ret_span)
{
	uint64_t rest = disk->disk.size_bytes - at;
	struct file_owner owner = file_find_owner(disk, disk->layer_count, at, rest);
	bool data;
	int r;

	if (owner.bytes < STORE_BLOCK_BYTES && owner.bytes < rest) {
		span_of_mixed_block(disk, at, ret_span);
		return 0;
	}
	if (owner.bytes < rest)
		owner.bytes -= owner.bytes % STORE_BLOCK_BYTES;
	r = file_data_run(&owner, &data);
	if (r == 0)
		*ret_span = (struct span){owner.bytes, owner.layer, data};
	return r;
}

static int count_bytes(const struct file_disk *disk, const struct chain_walk *walk,
		       uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	struct span span = {0};

	for (uint64_t at = 0; at < disk->disk.size_bytes; at += span.bytes) {
		int r = span_at(disk, at, &span);

		if (r < 0)
			return r;
		if (span.layer >= walk->lowest && (span.data || walk->whole))
			bytes += span.bytes;
	}
	*ret_bytes = bytes;
	return 0;
}

static int chain_read(const struct file_disk *disk, const struct store_chain *chain, uint64_t at,
		      uint8_t *data, uint64_t bytes, struct store_error *err)
{
	while (bytes > 0) {
		struct file_owner owner = file_find_owner(disk, disk->layer_count, at, bytes);
		int r = 0;

		if (owner.fd < 0)
			memset(data, 0, owner.bytes);
		else
			r = pread_all(owner.fd, data, owner.bytes, owner.offset);
		if (r < 0)
			return store_fail(err, r, "%s can't be read at byte %llu: %s",
					  owner_path(chain, owner.layer),
					  (unsigned long long)owner.offset, strerror(-r));
		at += owner.bytes;
		data += owner.bytes;
		bytes -= owner.bytes;
	}
	return 0;
}

static uint64_t block_end(uint64_t at, uint64_t bytes)
{
	return bytes - at < STORE_BLOCK_BYTES ? bytes : at + STORE_BLOCK_BYTES;
}

/* Hands on a buffer in runs that are zeros or are not. */
static int buffer_pieces(const struct chain_walk *walk, uint64_t at, const uint8_t *data,
			 uint64_t bytes)
{
	uint64_t begin = 0;

	if (walk->whole)
		return walk->piece(walk->arg, at, bytes, data);
	while (begin < bytes) {
		uint64_t end = block_end(begin, bytes);
		bool zeros = all_zero(data + begin, end - begin);
		int r;

		while (end < bytes && all_zero(data + end, block_end(end, bytes) - end) == zeros)
			end = block_end(end, bytes);
		r = walk->piece(walk->arg, at + begin, end - begin, zeros ? NULL : data + begin);
		if (r < 0)
			return r;
		begin = end;
	}
	return 0;
}

static int span_pieces(const struct file_disk *disk, const struct store_chain *chain,
		       const struct chain_walk *walk, uint64_t at, const struct span *span,
		       uint8_t *buffer, struct work *work, struct store_error *err)
{
	uint64_t end = at + span->bytes;
	int r = 0;

	if (!span->data && !walk->whole) {
		r = walk->piece(walk->arg, at, span->bytes, NULL);
		return r < 0 ? r : work_step(work, 0);
	}
	while (r == 0 && at < end) {
		uint64_t bytes = end - at < WALK_BUFFER_BYTES ? end - at : WALK_BUFFER_BYTES;

		r = chain_read(disk, chain, at, buffer, bytes, err);
		if (r == 0)
			r = buffer_pieces(walk, at, buffer, bytes);
		if (r == 0)
			r = work_step(work, bytes);
		at += bytes;
	}
	return r;
}

int chain_walk(struct store_disk *sd, const struct store_chain *chain,
	       const struct chain_walk *walk, const struct store_work *work,
	       struct store_error *err)
{
	const struct file_disk *disk = CONTAINER_OF(sd, struct file_disk, disk);
	uint8_t AUTO_FREE *buffer = malloc(WALK_BUFFER_BYTES);
	uint64_t total = 0;
	struct span span = {0};
	struct work w;
	int r = buffer ? count_bytes(disk, walk, &total) : -ENOMEM;

	err->text[0] = '\0';
	work_begin(&w, work, total);
	for (uint64_t at = 0; r == 0 && at < sd->size_bytes; at += span.bytes) {
		r = span_at(disk, at, &span);
		if (r == 0 && span.layer >= walk->lowest)
			r = span_pieces(disk, chain, walk, at, &span, buffer, &w, err);
	}
	/* Whoever knew more has said it. */
	if (r < 0 && err->text[0] == '\0')
		return store_fail(err, r, "%s: %s", disk->name,
				  r == -ECANCELED ? "cancelled" : strerror(-r));
	return r;
}
