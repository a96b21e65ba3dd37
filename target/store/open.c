/*
 * A chain of files becomes a disk: each file is opened and locked, each parent is checked to be the
 * one its child was made over, unchanged and whole. What is wrong is said with the file and the
 * cure.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/image.h"
#include "store/store_internal.h"

#define LOCK_RETRY_MS 10
#define LOCK_TELL_MS  500

unsigned store_lock_wait_ms = 10000;

/* What a layer says of its parent, against what stands beneath it. */
struct parent {
	enum store_parent kind;
	store_uuid_t uuid;
	uint64_t size_bytes;
	const char *path;
};

static int parent_check(const struct layer_header *header, const char *path,
			const struct parent *parent, struct store_error *err)
{
	enum store_parent kind = (enum store_parent)le32_get(header->parent_kind);

	if (kind != parent->kind)
		return store_fail(err, -ESTALE, "%s was made over %s, not over %s", path,
				  kind == STORE_PARENT_IMAGE   ? "an image"
				  : kind == STORE_PARENT_LAYER ? "another layer"
							       : "nothing",
				  parent->path ? parent->path : "nothing");
	if (kind == STORE_PARENT_NONE)
		return 0;
	if (memcmp(header->parent_uuid, parent->uuid.b, 16) != 0)
		return store_fail(err, -ESTALE,
				  "%s was made over another file than %s; put the right "
				  "one back in its place",
				  path, parent->path);
	if (le64_get(header->parent_size_bytes) != parent->size_bytes)
		return store_fail(err, -ESTALE,
				  "%s was made over a file of %llu bytes, but %s has %llu; "
				  "restore it from a backup",
				  path, (unsigned long long)le64_get(header->parent_size_bytes),
				  parent->path, (unsigned long long)parent->size_bytes);
	return 0;
}

static int image_open(struct file_disk *disk, const struct store_chain *chain,
		      struct parent *ret_parent, struct store_error *err)
{
	int r;

	disk->image_fd = open(chain->image_path, O_RDONLY | O_CLOEXEC);
	if (disk->image_fd < 0)
		return store_fail(err, -errno,
				  "the image %s is missing or can't be read: %s; restore it "
				  "from a backup, its clones need it",
				  chain->image_path, strerror(errno));
	r = image_verify(disk->image_fd, chain->image_path, &chain->image_uuid, &disk->image_bytes,
			 err);
	if (r < 0)
		return r;
	disk->disk.size_bytes = disk->image_bytes;
	*ret_parent = (struct parent){STORE_PARENT_IMAGE, chain->image_uuid, disk->image_bytes,
				      chain->image_path};
	return 0;
}

/*
 * A process that was killed holds its files until the kernel has ended its io_uring, a little after
 * its death; until then its last writes may still land. So a lock is waited for, and that is what
 * keeps them away from ours.
 */
static int lock_wait(int fd, int operation, const char *path)
{
	const struct timespec pause = {.tv_nsec = LOCK_RETRY_MS * 1000000L};

	for (unsigned waited_ms = 0; flock(fd, operation) < 0; waited_ms += LOCK_RETRY_MS) {
		if (errno != EWOULDBLOCK || waited_ms >= store_lock_wait_ms)
			return -errno;
		if (waited_ms == LOCK_TELL_MS)
			log_info("waiting for the process that has %s open", path);
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

static int layer_file_open(const char *path, bool writable, struct store_error *err)
{
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);

	if (fd < 0)
		return store_fail(err, -errno,
				  "the layer %s is missing or can't be opened: %s; restore it "
				  "from a backup",
				  path, strerror(errno));
	if (lock_wait(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB, path) < 0) {
		int r = store_fail(err, -EBUSY,
				   "the layer %s is in use by another process; end it first", path);

		close(fd);
		return r;
	}
	return fd;
}

static int layer_open(struct file_disk *disk, const struct store_chain *chain, unsigned index,
		      struct parent *parent, struct store_error *err)
{
	const char *path = chain->layer_paths[index];
	struct file_layer *layer = &disk->layers[index];
	bool top = index == chain->layer_count - 1, writable = top && !chain->read_only;
	struct layer_header header;
	/* A reader, too, must see what a writer that died left in the live map. */
	bool live = top && chain->run_dir && store_dir_is_tmpfs(chain->run_dir);
	const char *run_dir = live ? chain->run_dir : NULL;
	int r;

	layer->fd = layer_file_open(path, writable, err);
	if (layer->fd < 0)
		return layer->fd;
	disk->layer_count = index + 1;
	layer->map.live_fd = -1;
	r = layer_header_read(layer->fd, path, &header, err);
	if (r == 0)
		r = parent_check(&header, path, parent, err);
	if (r < 0)
		return r;
	if (!top && !(le32_get(header.flags) & LAYER_FLAG_SEALED))
		return store_fail(err, -ESTALE,
				  "the layer %s is not sealed, but others stand on it", path);
	if (writable && le32_get(header.flags) & LAYER_FLAG_SEALED)
		return store_fail(err, -EROFS, "the layer %s is sealed and can't be written to",
				  path);
	layer->size_bytes = le64_get(header.size_bytes);
	layer->data_offset = le64_get(header.data_offset);
	disk->disk.size_bytes = layer->size_bytes;
	memcpy(parent->uuid.b, header.uuid, 16);
	parent->kind = STORE_PARENT_LAYER;
	parent->size_bytes = layer->size_bytes;
	parent->path = path;
	r = map_open(&layer->map, layer->fd, path, &header, run_dir, writable, err);
	if (r == 0 && run_dir && writable)
		map_live_path(run_dir, header.uuid, disk->live_path, sizeof(disk->live_path));
	return r;
}

int store_open(const struct store_chain *chain, struct store_disk **ret_disk,
	       struct store_error *err)
{
	struct parent parent = {STORE_PARENT_NONE, {{0}}, 0, NULL};
	struct file_disk *disk;
	int r = 0;

	if (chain->layer_count > LIMIT_CHAIN_LAYERS ||
	    (!chain->image_path && chain->layer_count == 0))
		return store_fail(err, -EINVAL, "a chain of %u layers can't be",
				  chain->layer_count);
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return store_fail(err, -ENOMEM, "out of memory");
	file_disk_init(disk);
	disk->scratch = chain->scratch;
	disk->disk.read_only = chain->read_only || chain->layer_count == 0;
	/* Scratch, too: flushes do nothing there, but the process may die. */
	disk->write_through =
		!disk->disk.read_only && (!chain->run_dir || !store_dir_is_tmpfs(chain->run_dir));
	disk->disk.volatile_cache = !disk->disk.read_only && !disk->write_through;
	if (chain->image_path)
		r = image_open(disk, chain, &parent, err);
	for (unsigned i = 0; r == 0 && i < chain->layer_count; i++)
		r = layer_open(disk, chain, i, &parent, err);
	if (r < 0) {
		disk->disk.ops->free(&disk->disk);
		return r;
	}
	(void)snprintf(disk->name, sizeof(disk->name), "%s", parent.path);
	*ret_disk = &disk->disk;
	return 0;
}
