/*
 * Merging: a run of sealed layers (and the image beneath, for a disk that shall need none) becomes
 * one new sealed layer.
 *
 * A block is the new layer's if one of the merged ones has a say in it: it owns the block, or it
 * ends before it and so hides what is beneath. What reads as zeros is a hole. Such a block stays
 * owned where the parent might show something else; where the parent has ended, or there is none,
 * it need not be.
 *
 * Order, for a crash at any time:
 *
 *     data and map pages are written; a map page follows its data, but nothing depends on it
 *     sync: both are on disk
 *     header, first copy, with the sealed flag; sync; second copy; sync
 *     sync of the folder
 *
 * Before the first header copy is whole the file is no layer and is refused, whatever is in it;
 * after that it is complete. It gets its place in a chain by the caller, after that. The old layers
 * are only read.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/store_internal.h"

/* Write-back begins early, so that the sync at the end does not hold up the flushes of others. */
#define MERGE_WRITEBACK_BYTES (8u << 20)

struct merge {
	int fd;
	const char *path;
	struct store_layer_info info; /* of the new layer */
	struct layer_layout layout;
	uint64_t parent_end; /* from here on the parent reads as zeros */
	uint64_t page;       /* whose bits are being gathered */
	uint8_t bits[MAP_PAGE_BITS_BYTES];
	uint64_t written_bytes;
	struct store_error *err;
};

static int merge_failed(const struct merge *m, int r)
{
	return store_fail(m->err, r, "%s can't be written: %s", m->path, strerror(-r));
}

/* Pages come in ascending order, each once. Both slots have its bits. */
static int page_put(struct merge *m)
{
	int r = 0;

	if (all_zero(m->bits, sizeof(m->bits)))
		return 0;
	for (unsigned i = 1; r == 0 && i <= MAP_PAGE_SLOTS; i++) {
		struct map_page page;
		uint64_t offset = map_page_fill(&page, m->info.uuid.b, m->page,
						MAP_SEQUENCE_EMPTY + i, m->bits);

		r = pwrite_all(m->fd, &page, sizeof(page), offset);
	}
	memset(m->bits, 0, sizeof(m->bits));
	return r < 0 ? merge_failed(m, r) : 0;
}

static int own(struct merge *m, uint64_t begin, uint64_t end)
{
	uint64_t last = (end + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES;

	for (uint64_t block = begin / STORE_BLOCK_BYTES; block < last; block++) {
		uint64_t bit = block % MAP_PAGE_BLOCKS;

		if (block / MAP_PAGE_BLOCKS != m->page) {
			int r = page_put(m);

			if (r < 0)
				return r;
			m->page = block / MAP_PAGE_BLOCKS;
		}
		m->bits[bit / 8] |= (uint8_t)(1u << bit % 8);
	}
	return 0;
}

static int merge_piece(void *arg, uint64_t at, uint64_t bytes, const uint8_t *data)
{
	struct merge *m = arg;
	uint64_t end = at + bytes;
	int r;

	if (!data) {
		if (end > m->parent_end)
			end = m->parent_end;
		return at < end ? own(m, at, end) : 0;
	}
	r = pwrite_all(m->fd, data, bytes, m->layout.data_offset + at);
	if (r < 0)
		return merge_failed(m, r);
	m->written_bytes += bytes;
	if (m->written_bytes >= MERGE_WRITEBACK_BYTES) {
		(void)sync_file_range(m->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		m->written_bytes = 0;
	}
	return own(m, at, end);
}

/* What the new layer says of itself. */
static int merge_info(const struct store_chain *chain, unsigned first, bool with_image,
		      const store_uuid_t *uuid, struct merge *m)
{
	struct store_layer_info lowest, *info = &m->info;
	int r = -EINVAL;

	if (first >= chain->layer_count || (with_image && first != 0))
		return store_fail(m->err, r, "%s: there is nothing to merge", m->path);
	for (unsigned i = chain->layer_count; i-- > first;) {
		r = store_layer_info(chain->layer_paths[i], &lowest, m->err);
		if (r < 0)
			return r;
		if (!lowest.sealed)
			return store_fail(m->err, -EINVAL,
					  "the layer %s is not sealed, so it can't be merged",
					  chain->layer_paths[i]);
		if (i == chain->layer_count - 1)
			*info = lowest;
	}
	info->stands_for = *store_layer_identity(info);
	info->uuid = *uuid;
	if (with_image) {
		lowest.parent_kind = STORE_PARENT_NONE;
		memset(&lowest.parent_uuid, 0, sizeof(lowest.parent_uuid));
		lowest.parent_size_bytes = 0;
	}
	info->parent_kind = lowest.parent_kind;
	info->parent_uuid = lowest.parent_uuid;
	info->parent_size_bytes = lowest.parent_size_bytes;
	m->parent_end = info->parent_kind == STORE_PARENT_NONE ? 0 : info->parent_size_bytes;
	m->layout = layer_layout(info->size_bytes);
	return 0;
}

static int merge_into(struct merge *m, struct store_disk *disk, const struct store_chain *chain,
		      int lowest, const struct store_work *work)
{
	const struct chain_walk walk = {.lowest = lowest, .piece = merge_piece, .arg = m};
	int r = chain_walk(disk, chain, &walk, work, m->err);

	if (r == 0)
		r = page_put(m);
	if (r < 0)
		return r;
	if (!MUTANT(merge_unsynced) && fdatasync(m->fd) < 0)
		return merge_failed(m, -errno);
	r = layer_headers_new(m->fd, m->path, &m->info);
	return r < 0 ? merge_failed(m, r) : 0;
}

int store_merge(const struct store_chain *chain, unsigned first, bool with_image,
		const store_uuid_t *uuid, const char *path, const struct store_work *work,
		struct store_error *err)
{
	struct merge m = {.fd = -1, .path = path, .err = err};
	struct store_chain sealed = *chain;
	struct store_disk *disk;
	int r = merge_info(chain, first, with_image, uuid, &m);

	if (r < 0)
		return r;
	sealed.read_only = true;
	sealed.run_dir = NULL;
	r = store_open(&sealed, &disk, err);
	if (r < 0)
		return r;
	m.fd = layer_file_new(path, m.info.size_bytes, err);
	r = m.fd;
	if (r >= 0) {
		r = merge_into(&m, disk, chain, with_image ? OWNER_IMAGE : (int)first, work);
		close(m.fd);
		if (r < 0)
			(void)unlink(path);
	}
	disk->ops->free(disk);
	return r;
}
