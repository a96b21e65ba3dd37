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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/image.h"
#include "store/store_internal.h"

#define LOCK_RETRY_MS 10
#define LOCK_TELL_MS  500
#define LOCK_SHORT_MS 100   /* for the next ones, when one has been waited for in vain, */
#define LOCK_VAIN_MS  60000 /* so long */

unsigned store_lock_wait_ms = 10000;

/* What stands beneath a layer, to be held against what the layer says of its parent. An image is
 * described as a layer would be. */
struct parent {
	enum store_parent kind;
	struct store_layer_info info;
	const char *path;
};

static int parent_check(const struct store_layer_info *info, const char *path,
			const struct parent *parent, struct store_error *err)
{
	if (info->parent_kind != parent->kind)
		return store_fail(err, -ESTALE, "%s was made over %s, not over %s", path,
				  info->parent_kind == STORE_PARENT_IMAGE   ? "an image"
				  : info->parent_kind == STORE_PARENT_LAYER ? "another layer"
									    : "nothing",
				  parent->path ? parent->path : "nothing");
	if (info->parent_kind == STORE_PARENT_NONE)
		return 0;
	if (!store_layer_is_parent(&parent->info, &info->parent_uuid))
		return store_fail(err, -ESTALE,
				  "%s was made over another file than %s; put the right "
				  "one back in its place",
				  path, parent->path);
	if (info->parent_size_bytes != parent->info.size_bytes)
		return store_fail(err, -ESTALE,
				  "%s was made over a file of %llu bytes, but %s has %llu; "
				  "restore it from a backup",
				  path, (unsigned long long)info->parent_size_bytes, parent->path,
				  (unsigned long long)parent->info.size_bytes);
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
	*ret_parent = (struct parent){
		.kind = STORE_PARENT_IMAGE,
		.info = {.uuid = chain->image_uuid, .size_bytes = disk->image_bytes},
		.path = chain->image_path,
	};
	return 0;
}

/* Monotonic; when a lock was waited for in vain last, 0: never. */
static atomic_uint_fast64_t lock_vain_ms;

/* A hundred layers that another process holds are not waited for one after the other. */
static unsigned lock_patience_ms(void)
{
	uint64_t vain = lock_vain_ms;

	if (vain && clock_ms() - vain < LOCK_VAIN_MS && LOCK_SHORT_MS < store_lock_wait_ms)
		return LOCK_SHORT_MS;
	return store_lock_wait_ms;
}

/*
 * A process that was killed holds its files until the kernel has ended its io_uring, a little after
 * its death; until then its last writes may still land. So a lock is waited for, and that is what
 * keeps them away from ours.
 */
static int lock_wait(int fd, int operation, const char *path)
{
	const struct timespec pause = {.tv_nsec = LOCK_RETRY_MS * 1000000L};
	const unsigned patience_ms = lock_patience_ms();
	const uint64_t begin_ms = clock_ms();
	bool told = false;

	while (!MUTANT(lock_not_taken) && flock(fd, operation) < 0) {
		uint64_t waited_ms = clock_ms() - begin_ms;

		if (errno != EWOULDBLOCK)
			return -errno;
		if (waited_ms >= patience_ms) {
			lock_vain_ms = clock_ms();
			return -EWOULDBLOCK;
		}
		if (waited_ms >= LOCK_TELL_MS && !told)
			log_info("waiting for the process that has %s open", path);
		told |= waited_ms >= LOCK_TELL_MS;
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

static int layer_file_open(const char *path, bool writable, struct store_error *err)
{
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	int r;

	if (fd < 0)
		return store_fail(err, -errno,
				  "the layer %s is missing or can't be opened: %s; restore it "
				  "from a backup",
				  path, strerror(errno));
	r = lock_wait(fd, (writable ? LOCK_EX : LOCK_SH) | LOCK_NB, path);
	if (r == -EWOULDBLOCK)
		r = store_fail(err, -EBUSY,
			       "the layer %s is in use by another process; end it first", path);
	else if (r < 0)
		r = store_fail(err, r, "the layer %s can't be locked: %s", path, strerror(-r));
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* A reader, too, must see what a writer that died left in the live map. */
static int top_map_open(struct file_disk *disk, const char *path, const struct layer_header *header,
			const char *run_dir, struct store_error *err)
{
	bool writable = !disk->disk.read_only;
	int r;

	if (run_dir && !store_dir_is_tmpfs(run_dir))
		run_dir = NULL;
	r = writable ? sealed_maps_disown(file_top(disk)->fd) : 0;
	if (r < 0)
		return store_fail(err, r, "%s: %s", path, strerror(-r));
	r = map_open(&disk->map, file_top(disk)->fd, path, header, run_dir, writable, err);
	if (r == 0 && run_dir && writable)
		map_live_path(run_dir, header->uuid, disk->live_path, sizeof(disk->live_path));
	return r;
}

static int layer_open(struct file_disk *disk, const struct store_chain *chain, unsigned index,
		      struct parent *parent, struct store_error *err)
{
	const char *path = chain->layer_paths[index];
	struct file_layer *layer = &disk->layers[index];
	bool top = index == chain->layer_count - 1, writable = top && !chain->read_only;
	struct layer_header header;
	struct store_layer_info info;
	bool agree;
	int r;

	layer->fd = layer_file_open(path, writable, err);
	if (layer->fd < 0)
		return layer->fd;
	disk->layer_count = index + 1;
	r = layer_header_read(layer->fd, path, &header, &agree, err);
	if (r < 0)
		return r;
	if (!agree)
		log_warn("%s: one of the two copies of its header is damaged or was not finished; "
			 "the other one is used; \"lunctl check --repair\" mends it",
			 path);
	layer_header_info(&header, &info);
	r = parent_check(&info, path, parent, err);
	if (r < 0)
		return r;
	if (!top && !info.sealed)
		return store_fail(err, -ESTALE,
				  "the layer %s is not sealed, but others stand on it", path);
	if (writable && info.sealed)
		return store_fail(err, -EROFS, "the layer %s is sealed and can't be written to",
				  path);
	layer->size_bytes = info.size_bytes;
	layer->data_offset = le64_get(header.data_offset);
	disk->disk.size_bytes = layer->size_bytes;
	*parent = (struct parent){.kind = STORE_PARENT_LAYER, .info = info, .path = path};
	if (info.sealed)
		return sealed_map_get(layer->fd, path, &header, &layer->sealed, err);
	return top_map_open(disk, path, &header, chain->run_dir, err);
}

int store_open(const struct store_chain *chain, struct store_disk **ret_disk,
	       struct store_error *err)
{
	struct parent parent = {.kind = STORE_PARENT_NONE};
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
	disk->disk.scratch = chain->scratch && disk->disk.volatile_cache;
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

/* --- a layer that will be opened --- */

struct store_preload {
	int fd; /* as long as it is open nobody else has its inode number */
	struct sealed_map *map;
	struct stat before; /* its other name */
};

static int preload_open(struct store_preload *preload, const char *path, struct store_error *err)
{
	struct layer_header header;
	bool agree;
	int r;

	preload->fd = layer_file_open(path, false, err);
	if (preload->fd < 0)
		return preload->fd;
	r = layer_header_read(preload->fd, path, &header, &agree, err);
	if (r < 0)
		return r;
	if (!(le32_get(header.flags) & LAYER_FLAG_SEALED))
		return store_fail(err, -EINVAL, "the layer %s is not sealed", path);
	return sealed_map_get(preload->fd, path, &header, &preload->map, err);
}

int store_preload(const char *path, struct store_preload **ret_preload, struct store_error *err)
{
	struct store_preload *preload = calloc(1, sizeof(*preload));
	int r;

	if (!preload)
		return store_fail(err, -ENOMEM, "out of memory");
	r = preload_open(preload, path, err);
	if (r < 0) {
		store_preload_free(preload);
		return r;
	}
	*ret_preload = preload;
	return 0;
}

void store_preload_moves(struct store_preload *preload)
{
	if (fstat(preload->fd, &preload->before) < 0)
		preload->before.st_ino = 0; /* no file's: the map will be read again */
}

void store_preload_moved(struct store_preload *preload)
{
	sealed_maps_follow(preload->fd, &preload->before);
}

void store_preload_free(struct store_preload *preload)
{
	if (!preload)
		return;
	sealed_map_unref(preload->map);
	if (preload->fd >= 0)
		close(preload->fd);
	free(preload);
}
