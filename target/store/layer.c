/*
 * Layer files: header, layout, making and sealing. A header has two copies. They are written one
 * after the other with a sync between, so that a torn write leaves one of them, and damage to
 * either does not cost the layer.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "store/store_internal.h"

static_assert(sizeof(((struct layer_header *)0)->label) == LIMIT_OBJECT_NAME_BYTES + 1,
	      "a label is an object's name");

int store_fail(struct store_error *err, int error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(err->text, sizeof(err->text), format, ap);
	va_end(ap);
	return error;
}

int fsync_parent(const char *path)
{
	char copy[LIMIT_PATH_BYTES];
	int AUTO_CLOSE fd = -1;

	if (strlen(path) >= sizeof(copy))
		return -ENAMETOOLONG;
	memcpy(copy, path, strlen(path) + 1);
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}

struct layer_layout layer_layout(uint64_t size_bytes)
{
	struct layer_layout l;

	l.block_count = (size_bytes + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES;
	l.page_count = (l.block_count + MAP_PAGE_BLOCKS - 1) / MAP_PAGE_BLOCKS;
	l.map_offset = LAYER_MAP_OFFSET;
	l.data_offset = l.map_offset + l.page_count * MAP_PAGE_SLOTS * MAP_PAGE_BYTES;
	l.data_offset =
		(l.data_offset + LAYER_DATA_ALIGN - 1) / LAYER_DATA_ALIGN * LAYER_DATA_ALIGN;
	l.file_bytes = l.data_offset + l.block_count * STORE_BLOCK_BYTES;
	return l;
}

static uint32_t header_crc(const struct layer_header *header)
{
	return crc32c(0, header, offsetof(struct layer_header, crc));
}

static bool header_is_whole(const struct layer_header *header)
{
	return memcmp(header->magic, LAYER_MAGIC, sizeof(header->magic)) == 0 &&
	       le32_get(header->crc) == header_crc(header);
}

/* What a header with a good checksum may still claim wrongly. NULL: nothing. */
static const char *header_complaint(const struct layer_header *header, uint64_t file_bytes)
{
	uint64_t size_bytes = le64_get(header->size_bytes);
	struct layer_layout l;

	if (le32_get(header->version) != LAYER_VERSION)
		return "was made by a newer lunroot; use that version";
	if (size_bytes == 0 || size_bytes > LIMIT_DISK_BYTES || size_bytes % STORE_SECTOR_BYTES)
		return "has an impossible size in its header";
	l = layer_layout(size_bytes);
	if (le32_get(header->block_bytes) != STORE_BLOCK_BYTES ||
	    le32_get(header->map_page_blocks) != MAP_PAGE_BLOCKS ||
	    le32_get(header->map_page_bytes) != MAP_PAGE_BYTES ||
	    le64_get(header->map_offset) != l.map_offset ||
	    le64_get(header->data_offset) != l.data_offset)
		return "has an impossible layout in its header";
	if (le32_get(header->parent_kind) > STORE_PARENT_LAYER)
		return "names an unknown kind of parent";
	if (memchr(header->label, 0, sizeof(header->label)) == NULL)
		return "has a label without an end";
	if (file_bytes < l.file_bytes)
		return "is cut off: it is shorter than its header says; restore it from a backup";
	return NULL;
}

/* The newest whole copy, and which of the two it is. */
static int header_choose(int fd, const char *path, struct layer_header *ret_header,
			 unsigned *ret_copy, struct store_error *err)
{
	struct layer_header copies[LAYER_HEADER_COPIES], *best = NULL;
	const char *complaint;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (st.st_size < (off_t)sizeof(copies))
		return store_fail(err, -EBADMSG,
				  "%s is cut off or no layer; restore it from a backup", path);
	r = pread_all(fd, copies, sizeof(copies), 0);
	if (r < 0)
		return store_fail(err, r, "%s: its header can't be read: %s", path, strerror(-r));
	for (unsigned i = 0; i < LAYER_HEADER_COPIES; i++) {
		if (header_is_whole(&copies[i]) &&
		    (!best || le64_get(copies[i].sequence) > le64_get(best->sequence)))
			best = &copies[i];
	}
	if (!best)
		return store_fail(
			err, -EBADMSG,
			"%s is damaged: neither copy of its header has a good checksum; restore "
			"it from a backup",
			path);
	complaint = header_complaint(best, (uint64_t)st.st_size);
	if (complaint)
		return store_fail(err, -EBADMSG, "%s %s", path, complaint);
	*ret_header = *best;
	*ret_copy = (unsigned)(best - copies);
	return 0;
}

int layer_header_read(int fd, const char *path, struct layer_header *ret_header,
		      struct store_error *err)
{
	unsigned copy;

	return header_choose(fd, path, ret_header, &copy, err);
}

int layer_header_info(const struct layer_header *header, struct store_layer_info *ret_info)
{
	struct store_layer_info info = {
		.parent_kind = (enum store_parent)le32_get(header->parent_kind),
		.parent_size_bytes = le64_get(header->parent_size_bytes),
		.size_bytes = le64_get(header->size_bytes),
		.sealed = le32_get(header->flags) & LAYER_FLAG_SEALED,
	};

	memcpy(info.uuid.b, header->uuid, 16);
	memcpy(info.parent_uuid.b, header->parent_uuid, 16);
	memcpy(info.label, header->label, sizeof(info.label));
	*ret_info = info;
	return 0;
}

/* Writes one copy and makes it durable. */
static int header_write(int fd, struct layer_header *header, unsigned copy)
{
	int r;

	le32_put(&header->crc, header_crc(header));
	r = pwrite_all(fd, header, sizeof(*header), (uint64_t)copy * LAYER_HEADER_BYTES);
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	return r;
}

static void header_fill(struct layer_header *header, const struct store_layer_info *info)
{
	struct layer_layout l = layer_layout(info->size_bytes);

	memset(header, 0, sizeof(*header));
	memcpy(header->magic, LAYER_MAGIC, sizeof(header->magic));
	le32_put(&header->version, LAYER_VERSION);
	le64_put(&header->sequence, 1);
	memcpy(header->uuid, info->uuid.b, 16);
	memcpy(header->parent_uuid, info->parent_uuid.b, 16);
	le32_put(&header->parent_kind, info->parent_kind);
	le32_put(&header->block_bytes, STORE_BLOCK_BYTES);
	le64_put(&header->parent_size_bytes, info->parent_size_bytes);
	le64_put(&header->size_bytes, info->size_bytes);
	le64_put(&header->map_offset, l.map_offset);
	le32_put(&header->map_page_blocks, MAP_PAGE_BLOCKS);
	le32_put(&header->map_page_bytes, MAP_PAGE_BYTES);
	le64_put(&header->data_offset, l.data_offset);
	le64_put(&header->created_s, (uint64_t)time(NULL));
	memcpy(header->label, info->label, sizeof(header->label));
}

int store_layer_create(const char *path, const struct store_layer_info *info,
		       struct store_error *err)
{
	struct layer_header header;
	int AUTO_CLOSE fd = -1;
	int r;

	if (info->size_bytes == 0 || info->size_bytes > LIMIT_DISK_BYTES ||
	    info->size_bytes % STORE_SECTOR_BYTES)
		return store_fail(err, -EINVAL, "%s: a size of %llu bytes can't be", path,
				  (unsigned long long)info->size_bytes);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (fd < 0)
		return store_fail(err, -errno, "%s can't be made: %s", path, strerror(errno));
	header_fill(&header, info);
	r = ftruncate(fd, (off_t)layer_layout(info->size_bytes).file_bytes) < 0 ? -errno : 0;
	for (unsigned i = 0; r == 0 && i < LAYER_HEADER_COPIES; i++)
		r = header_write(fd, &header, i);
	/* The file's size is metadata that fdatasync needs and so brings along. */
	if (r == 0)
		r = fsync_parent(path);
	if (r < 0) {
		(void)unlink(path);
		return store_fail(err, r, "%s can't be written: %s", path, strerror(-r));
	}
	return 0;
}

int store_layer_info(const char *path, struct store_layer_info *ret_info, struct store_error *err)
{
	struct layer_header header;
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	r = layer_header_read(fd, path, &header, err);
	return r < 0 ? r : layer_header_info(&header, ret_info);
}

int store_layer_seal(const char *path, struct store_error *err)
{
	struct layer_header header;
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned copy;
	int r;

	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return store_fail(err, -EBUSY,
				  "the layer %s is in use, so it can't be sealed; end what uses it "
				  "first",
				  path);
	r = header_choose(fd, path, &header, &copy, err);
	if (r < 0 || le32_get(header.flags) & LAYER_FLAG_SEALED)
		return r;
	le64_put(&header.sequence, le64_get(header.sequence) + 1);
	le32_put(&header.flags, le32_get(header.flags) | LAYER_FLAG_SEALED);
	/* First over the other copy: the one that counts now stays until the new one is safe. */
	for (unsigned i = 1; r == 0 && i <= LAYER_HEADER_COPIES; i++)
		r = header_write(fd, &header, (copy + i) % LAYER_HEADER_COPIES);
	if (r < 0)
		return store_fail(err, r, "%s can't be sealed: %s", path, strerror(-r));
	return 0;
}
