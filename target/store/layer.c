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

static_assert(sizeof(((struct layer_header *)0)->label) == LIMIT_OBJECT_NAME_BYTES + 1 &&
		      sizeof(((struct layer_header *)0)->snapshot) == LIMIT_OBJECT_NAME_BYTES + 1,
	      "labels and snapshots are objects' names");

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
	       (le32_get(header->crc) == header_crc(header) || MUTANT(header_checksum_ignored));
}

const char *layer_header_complaint(const struct layer_header *header, uint64_t file_bytes)
{
	uint64_t size_bytes = le64_get(header->size_bytes);
	struct layer_layout l;

	if (le32_get(header->version) > LAYER_VERSION)
		return "was made by a newer lunroot; use that version";
	if (le32_get(header->version) < LAYER_VERSION)
		return "was made by an older lunroot, before its first release; export the disk "
		       "with that version and import it again";
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
	if (memchr(header->label, 0, sizeof(header->label)) == NULL ||
	    memchr(header->snapshot, 0, sizeof(header->snapshot)) == NULL)
		return "has a name without an end in its header";
	if (le32_get(header->lun) >= LIMIT_LUNS_PER_NODE)
		return "has an impossible LUN in its header";
	if (file_bytes < l.file_bytes)
		return "is cut off: it is shorter than its header says; \"lunctl check\" says "
		       "what is missing, restore it from a backup";
	return NULL;
}

/* Two whole copies that can't both be of this file. */
static bool headers_contradict(const struct layer_headers *headers)
{
	const struct layer_header *a = &headers->copies[0], *b = &headers->copies[1];

	if (!headers->whole[0] || !headers->whole[1])
		return false;
	return memcmp(a->uuid, b->uuid, sizeof(a->uuid)) != 0 ||
	       (le64_get(a->sequence) == le64_get(b->sequence) && memcmp(a, b, sizeof(*a)) != 0);
}

int layer_headers_read(int fd, const char *path, struct layer_headers *ret_headers,
		       struct store_error *err)
{
	struct layer_headers *h = ret_headers;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	h->file_bytes = (uint64_t)st.st_size;
	if (h->file_bytes < sizeof(h->copies))
		return store_fail(err, -EBADMSG,
				  "%s is cut off or no layer; restore it from a backup", path);
	r = pread_all(fd, h->copies, sizeof(h->copies), 0);
	if (r < 0)
		return store_fail(err, r, "%s: its header can't be read: %s", path, strerror(-r));
	for (unsigned i = 0; i < LAYER_HEADER_COPIES; i++)
		h->whole[i] = header_is_whole(&h->copies[i]);
	if (!h->whole[0] && !h->whole[1])
		return store_fail(
			err, -EBADMSG,
			"%s is damaged: neither copy of its header has a good checksum; restore "
			"it from a backup",
			path);
	if (headers_contradict(h))
		return store_fail(err, -EBADMSG,
				  "%s is damaged: the copies of its header contradict each other; "
				  "restore it from a backup",
				  path);
	h->chosen = h->whole[1] && (!h->whole[0] || le64_get(h->copies[1].sequence) >
							    le64_get(h->copies[0].sequence));
	return 0;
}

bool layer_headers_agree(const struct layer_headers *headers)
{
	return memcmp(&headers->copies[0], &headers->copies[1], sizeof(headers->copies[0])) == 0;
}

/* The newest whole copy, and the two of them. */
static int header_choose(int fd, const char *path, struct layer_header *ret_header,
			 struct layer_headers *ret_headers, struct store_error *err)
{
	const struct layer_header *header;
	const char *complaint;
	int r = layer_headers_read(fd, path, ret_headers, err);

	if (r < 0)
		return r;
	header = &ret_headers->copies[ret_headers->chosen];
	complaint = layer_header_complaint(header, ret_headers->file_bytes);
	if (complaint)
		return store_fail(err, -EBADMSG, "%s %s", path, complaint);
	*ret_header = *header;
	return 0;
}

int layer_header_read(int fd, const char *path, struct layer_header *ret_header, bool *ret_agree,
		      struct store_error *err)
{
	struct layer_headers headers;
	int r = header_choose(fd, path, ret_header, &headers, err);

	if (r == 0)
		*ret_agree = layer_headers_agree(&headers);
	return r;
}

void layer_header_info(const struct layer_header *header, struct store_layer_info *ret_info)
{
	struct store_layer_info info = {
		.parent_kind = (enum store_parent)le32_get(header->parent_kind),
		.parent_size_bytes = le64_get(header->parent_size_bytes),
		.size_bytes = le64_get(header->size_bytes),
		.sealed = le32_get(header->flags) & LAYER_FLAG_SEALED,
		.created_s = (int64_t)le64_get(header->created_s),
	};

	memcpy(info.uuid.b, header->uuid, 16);
	memcpy(info.parent_uuid.b, header->parent_uuid, 16);
	memcpy(info.stands_for.b, header->stands_for, 16);
	memcpy(info.node_uuid.b, header->node_uuid, 16);
	memcpy(info.lun_uuid.b, header->lun_uuid, 16);
	info.lun = (uint8_t)le32_get(header->lun);
	memcpy(info.label, header->label, sizeof(info.label));
	memcpy(info.snapshot, header->snapshot, sizeof(info.snapshot));
	*ret_info = info;
}

const store_uuid_t *store_layer_identity(const struct store_layer_info *layer)
{
	return all_zero(layer->stands_for.b, 16) ? &layer->uuid : &layer->stands_for;
}

bool store_layer_is_parent(const struct store_layer_info *layer, const store_uuid_t *parent_uuid)
{
	return memcmp(layer->uuid.b, parent_uuid->b, 16) == 0 ||
	       memcmp(store_layer_identity(layer)->b, parent_uuid->b, 16) == 0;
}

static int copy_write(int fd, struct layer_header *header, unsigned copy)
{
	le32_put(&header->crc, header_crc(header));
	return pwrite_all(fd, header, sizeof(*header), (uint64_t)copy * LAYER_HEADER_BYTES);
}

static int header_sync(int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

int layer_sync_before(int fd, const struct layer_header *header, const char *run_dir)
{
	store_uuid_t uuid;
	int r = MUTANT(layer_unsynced_before) ? 0 : header_sync(fd);

	memcpy(uuid.b, header->uuid, sizeof(uuid.b));
	if (r < 0)
		map_live_distrust(run_dir, &uuid);
	return r;
}

int layer_header_write(int fd, struct layer_header *header, const struct layer_headers *before)
{
	int r = 0;

	/*
	 * Who wrote the copy that counts may have been killed before its sync, or the sync failed:
	 * then only the page cache has it, and the medium what was there before, which may be
	 * damaged. It is written again, because after a sync that failed the cache holds it for
	 * clean.
	 */
	if (!layer_headers_agree(before)) {
		if (!MUTANT(counting_header_not_rewritten))
			r = pwrite_all(fd, &before->copies[before->chosen], LAYER_HEADER_BYTES,
				       (uint64_t)before->chosen * LAYER_HEADER_BYTES);
		if (r == 0 && !MUTANT(counting_header_unsynced))
			r = header_sync(fd);
	}
	/* First over the other copy: the one that counts now stays until the new one is safe. */
	for (unsigned i = 1; r == 0 && i <= LAYER_HEADER_COPIES; i++) {
		r = copy_write(fd, header,
			       (before->chosen + i + MUTANT(header_over_counting_copy)) %
				       LAYER_HEADER_COPIES);
		if (r == 0 && !(i == 1 && MUTANT(headers_unsynced_between)) &&
		    !(i == 2 && MUTANT(headers_unsynced)))
			r = header_sync(fd);
	}
	return r;
}

static void header_fill(struct layer_header *header, const struct store_layer_info *info)
{
	struct layer_layout l = layer_layout(info->size_bytes);

	memset(header, 0, sizeof(*header));
	memcpy(header->magic, LAYER_MAGIC, sizeof(header->magic));
	le32_put(&header->version, LAYER_VERSION);
	le32_put(&header->flags, info->sealed ? LAYER_FLAG_SEALED : 0);
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
	le64_put(&header->created_s, (uint64_t)(info->created_s ? info->created_s : time(NULL)));
	memcpy(header->label, info->label, sizeof(header->label));
	memcpy(header->stands_for, info->stands_for.b, 16);
	memcpy(header->node_uuid, info->node_uuid.b, 16);
	memcpy(header->lun_uuid, info->lun_uuid.b, 16);
	le32_put(&header->lun, info->lun);
	memcpy(header->snapshot, info->snapshot, sizeof(header->snapshot));
}

int layer_file_new(const char *path, uint64_t size_bytes, struct store_error *err)
{
	int AUTO_CLOSE fd = -1;

	if (size_bytes == 0 || size_bytes > LIMIT_DISK_BYTES || size_bytes % STORE_SECTOR_BYTES)
		return store_fail(err, -EINVAL, "%s: a size of %llu bytes can't be", path,
				  (unsigned long long)size_bytes);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	if (fd < 0)
		return store_fail(err, -errno, "%s can't be made: %s", path, strerror(errno));
	if (ftruncate(fd, (off_t)layer_layout(size_bytes).file_bytes) < 0) {
		int r = -errno;

		(void)unlink(path);
		return store_fail(err, r, "%s can't be written: %s", path, strerror(-r));
	}
	return TAKE_FD(fd);
}

int layer_headers_new(int fd, const char *path, const struct store_layer_info *info)
{
	struct layer_header header;
	int r = 0;

	header_fill(&header, info);
	for (unsigned i = 0; r == 0 && i < LAYER_HEADER_COPIES; i++)
		r = copy_write(fd, &header, i);
	/* One sync is enough: until this function returns nobody counts on the file. The file's
	 * size is metadata that fdatasync needs and so brings along. */
	if (r == 0 && !MUTANT(create_unsynced))
		r = header_sync(fd);
	return r < 0 || MUTANT(create_folder_unsynced) ? r : fsync_parent(path);
}

int store_layer_create(const char *path, const struct store_layer_info *info,
		       struct store_error *err)
{
	struct store_layer_info writable = *info;
	int AUTO_CLOSE fd = layer_file_new(path, info->size_bytes, err);
	int r;

	if (fd < 0)
		return fd;
	writable.sealed = false;
	r = layer_headers_new(fd, path, &writable);
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
	bool agree;
	int r;

	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	r = layer_header_read(fd, path, &header, &agree, err);
	if (r == 0)
		layer_header_info(&header, ret_info);
	return r;
}

int store_layer_label(const char *path, const char *run_dir, const char *label,
		      struct store_error *err)
{
	struct layer_headers headers;
	struct layer_header header;
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);
	int r;

	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (strlen(label) >= sizeof(header.label))
		return store_fail(err, -EINVAL, "%s: the label is too long", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return store_fail(err, -EBUSY, "the layer %s is in use", path);
	r = header_choose(fd, path, &header, &headers, err);
	if (r < 0)
		return r;
	memset(header.label, 0, sizeof(header.label));
	memcpy(header.label, label, strlen(label));
	le64_put(&header.sequence, le64_get(header.sequence) + 1);
	r = layer_sync_before(fd, &header, run_dir);
	if (r == 0)
		r = layer_header_write(fd, &header, &headers);
	return r < 0 ? store_fail(err, r, "%s can't be labelled: %s", path, strerror(-r)) : 0;
}

int store_layer_seal(const char *path, const char *snapshot, struct store_error *err)
{
	struct layer_headers headers;
	struct layer_header header, before;
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);
	struct stat unsealed;
	bool locked;
	int r;

	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (strlen(snapshot) >= sizeof(header.snapshot))
		return store_fail(err, -EINVAL, "%s: the name of a snapshot is too long", path);
	r = flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
	if (r < 0 && r != -EWOULDBLOCK)
		return store_fail(err, r, "%s can't be locked: %s", path, strerror(-r));
	locked = r == 0;
	r = header_choose(fd, path, &header, &headers, err);
	if (r < 0)
		return r;
	/* What is sealed has readers only, and they have read its header. */
	if (!locked && !(le32_get(header.flags) & LAYER_FLAG_SEALED))
		return store_fail(err, -EBUSY,
				  "the layer %s is in use, so it can't be sealed; end what uses it "
				  "first",
				  path);
	if (fstat(fd, &unsealed) < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	before = header;
	le32_put(&header.flags, le32_get(header.flags) | LAYER_FLAG_SEALED);
	memset(header.snapshot, 0, sizeof(header.snapshot));
	memcpy(header.snapshot, snapshot, strlen(snapshot));
	/* Also done if only the first copy was written when the power failed. Synced in any case:
	 * who wrote it may have been killed when only the page cache knew. */
	if (memcmp(&before, &header, sizeof(header)) == 0 && layer_headers_agree(&headers)) {
		r = MUTANT(seal_believed) ? 0 : header_sync(fd);
	} else {
		le64_put(&header.sequence, le64_get(header.sequence) + 1);
		r = layer_header_write(fd, &header, &headers);
	}
	if (r < 0)
		return store_fail(err, r, "%s can't be sealed: %s", path, strerror(-r));
	if (locked && !(le32_get(before.flags) & LAYER_FLAG_SEALED))
		sealed_maps_follow(fd, &unsealed);
	return 0;
}
