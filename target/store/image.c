/*
 * Images: plain sparse raw files that never change again, and the sidecar that says so. Whether
 * one has changed is seen by its size and modification time; if only the time differs, by its
 * content hash, so that a copy restored from a backup is good again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "store/image.h"
#include "store/store_internal.h"

#define SIDECAR_VERSION   1
#define SIDECAR_BYTES_MAX 65536
#define HASH_BUFFER_BYTES (1u << 20)

static void sidecar_path(const char *path, char ret_path[LIMIT_PATH_BYTES + 8])
{
	(void)snprintf(ret_path, LIMIT_PATH_BYTES + 8, "%s.json", path);
}

static int64_t stat_mtime_ns(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* --- the content hash --- */

struct hasher {
	EVP_MD_CTX *ctx;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
};

/* Blocks that are all zeros count as much as holes: not at all. */
static int hash_blocks(struct hasher *h, const uint8_t *data, size_t bytes, uint64_t offset)
{
	static const uint8_t zeros[STORE_BLOCK_BYTES];

	for (size_t at = 0; at < bytes; at += STORE_BLOCK_BYTES) {
		le64_t index;

		if (memcmp(data + at, zeros, STORE_BLOCK_BYTES) == 0)
			continue;
		le64_put(&index, (offset + at) / STORE_BLOCK_BYTES);
		if (EVP_DigestUpdate(h->ctx, index.b, sizeof(index.b)) != 1 ||
		    EVP_DigestUpdate(h->ctx, data + at, STORE_BLOCK_BYTES) != 1)
			return -EIO;
	}
	return 0;
}

static int hash_range(struct hasher *h, int fd, uint64_t begin, uint64_t end, uint8_t *buffer)
{
	while (begin < end) {
		size_t bytes = end - begin < HASH_BUFFER_BYTES ? end - begin : HASH_BUFFER_BYTES;
		size_t padded =
			(bytes + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
		int r = pread_all(fd, buffer, bytes, begin);

		if (r < 0)
			return r;
		memset(buffer + bytes, 0, padded - bytes);
		r = hash_blocks(h, buffer, padded, begin);
		if (r < 0)
			return r;
		begin += bytes;
		if (h->progress)
			h->progress(h->arg, begin);
	}
	return 0;
}

static int hash_data(struct hasher *h, int fd, uint64_t size_bytes, uint8_t *buffer)
{
	uint64_t at = 0, end;

	while (at < size_bytes) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;
		int r;

		if (data < 0 && errno == ENXIO)
			return 0;
		/* A file system that can't tell holes is read whole. */
		if (data < 0)
			data = (off_t)at;
		hole = lseek(fd, data, SEEK_HOLE);
		/* Whole blocks, also on a file system whose own are smaller. */
		at = (uint64_t)data / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
		end = hole < 0 ? size_bytes
			       : ((uint64_t)hole + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES *
					 STORE_BLOCK_BYTES;
		if (end > size_bytes)
			end = size_bytes;
		r = hash_range(h, fd, at, end, buffer);
		if (r < 0)
			return r;
		at = end;
	}
	return 0;
}

static int hash_file(int fd, uint64_t size_bytes, void (*progress)(void *arg, uint64_t bytes),
		     void *arg, uint8_t ret_sha256[32])
{
	struct hasher h = {.ctx = EVP_MD_CTX_new(), .progress = progress, .arg = arg};
	uint8_t AUTO_FREE *buffer = malloc(HASH_BUFFER_BYTES + STORE_BLOCK_BYTES);
	int r = -ENOMEM;

	if (h.ctx && buffer) {
		r = EVP_DigestInit_ex(h.ctx, EVP_sha256(), NULL) == 1 ? 0 : -EIO;
		if (r == 0)
			r = hash_data(&h, fd, size_bytes, buffer);
		if (r == 0 && EVP_DigestFinal_ex(h.ctx, ret_sha256, NULL) != 1)
			r = -EIO;
	}
	EVP_MD_CTX_free(h.ctx);
	return r;
}

/* --- the sidecar --- */

static void hex(const uint8_t *data, size_t bytes, char *ret_text)
{
	for (size_t i = 0; i < bytes; i++)
		(void)snprintf(ret_text + 2 * i, 3, "%02x", data[i]);
}

static bool unhex(const char *text, uint8_t *ret_data, size_t bytes)
{
	if (strlen(text) != 2 * bytes || strspn(text, "0123456789abcdef") != 2 * bytes)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		const char pair[3] = {text[2 * i], text[2 * i + 1], 0};

		ret_data[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return true;
}

/* What import found names labels of file systems, which may be any bytes; JSON is UTF-8. */
static void content_copy(char ret_content[64], const char *content)
{
	size_t i;

	for (i = 0; content[i] && i < 63; i++)
		ret_content[i] = (char)(content[i] >= 0x20 && content[i] < 0x7f ? content[i] : '?');
	ret_content[i] = '\0';
}

/* Written beside it, synced, and put in its place. */
static int sidecar_write(const char *path, const struct store_image_info *info)
{
	char final[LIMIT_PATH_BYTES + 8], fresh[LIMIT_PATH_BYTES + 16];
	char uuid[STORE_UUID_TEXT_BYTES], sha256[65];
	char AUTO_FREE *text = NULL;
	int AUTO_CLOSE fd = -1;
	json_t *json;
	int r;

	store_uuid_format(&info->uuid, uuid);
	hex(info->sha256, sizeof(info->sha256), sha256);
	json = json_pack("{s:i, s:s, s:I, s:I, s:s, s:s}", "version", SIDECAR_VERSION, "uuid", uuid,
			 "size_bytes", (json_int_t)info->size_bytes, "mtime_ns",
			 (json_int_t)info->mtime_ns, "sha256", sha256, "content", info->content);
	if (json)
		text = json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	json_decref(json);
	if (!text)
		return -ENOMEM;
	sidecar_path(path, final);
	(void)snprintf(fresh, sizeof(fresh), "%s.new", final);
	fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0)
		return -errno;
	r = pwrite_all(fd, text, strlen(text), 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(fresh, final) < 0)
		r = -errno;
	return r < 0 ? r : fsync_parent(path);
}

static int sidecar_parse(json_t *json, struct store_image_info *ret_info)
{
	struct store_image_info info = {0};
	const char *uuid, *sha256, *content;
	json_int_t size_bytes, mtime_ns;
	int version;

	if (json_unpack(json, "{s:i, s:s, s:I, s:I, s:s, s:s}", "version", &version, "uuid", &uuid,
			"size_bytes", &size_bytes, "mtime_ns", &mtime_ns, "sha256", &sha256,
			"content", &content) < 0 ||
	    version != SIDECAR_VERSION || size_bytes <= 0 || size_bytes % STORE_SECTOR_BYTES ||
	    (uint64_t)size_bytes > LIMIT_DISK_BYTES || !store_uuid_parse(uuid, &info.uuid) ||
	    !unhex(sha256, info.sha256, sizeof(info.sha256)))
		return -EBADMSG;
	info.size_bytes = (uint64_t)size_bytes;
	info.mtime_ns = mtime_ns;
	(void)snprintf(info.content, sizeof(info.content), "%s", content);
	*ret_info = info;
	return 0;
}

int store_image_info(const char *path, struct store_image_info *ret_info, struct store_error *err)
{
	char sidecar[LIMIT_PATH_BYTES + 8];
	char AUTO_FREE *text = malloc(SIDECAR_BYTES_MAX);
	int AUTO_CLOSE fd = -1;
	ssize_t bytes;
	json_t *json;
	int r;

	sidecar_path(path, sidecar);
	fd = open(sidecar, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return store_fail(err, -errno,
				  "%s: %s; it belongs to the image %s, restore it from a "
				  "backup or import the image again",
				  sidecar, strerror(errno), path);
	bytes = text ? read(fd, text, SIDECAR_BYTES_MAX) : -1;
	if (bytes < 0)
		return store_fail(err, -EIO, "%s can't be read", sidecar);
	json = json_loadb(text, (size_t)bytes, 0, NULL);
	r = json ? sidecar_parse(json, ret_info) : -EBADMSG;
	json_decref(json);
	if (r < 0)
		return store_fail(err, r,
				  "%s is damaged: it is not what an import writes; restore it "
				  "from a backup or import the image again",
				  sidecar);
	return 0;
}

int store_image_seal(const char *path, const store_uuid_t *uuid, const char *content,
		     void (*progress)(void *arg, uint64_t bytes), void *arg,
		     struct store_image_info *ret_info, struct store_error *err)
{
	struct store_image_info info = {.uuid = *uuid};
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0)
		return store_fail(err, -errno, "%s can't be made an image: %s", path,
				  strerror(errno));
	if (st.st_size == 0 || st.st_size % STORE_SECTOR_BYTES)
		return store_fail(err, -EINVAL,
				  "%s can't be an image: %lld bytes are no whole number of sectors "
				  "of 512; was it cut off?",
				  path, (long long)st.st_size);
	info.size_bytes = (uint64_t)st.st_size;
	info.mtime_ns = stat_mtime_ns(&st);
	content_copy(info.content, content);
	if (fchmod(fd, 0440) < 0)
		return store_fail(err, -errno, "%s can't be made read-only: %s", path,
				  strerror(errno));
	r = hash_file(fd, info.size_bytes, progress, arg, info.sha256);
	if (r == 0)
		r = sidecar_write(path, &info);
	if (r < 0)
		return store_fail(err, r, "%s can't be made an image: %s", path, strerror(-r));
	*ret_info = info;
	return 0;
}

int image_verify(int fd, const char *path, const store_uuid_t *uuid, uint64_t *ret_size_bytes,
		 struct store_error *err)
{
	struct store_image_info info;
	uint8_t sha256[32];
	struct stat st;
	int r = store_image_info(path, &info, err);

	if (r < 0)
		return r;
	if (memcmp(info.uuid.b, uuid->b, 16) != 0)
		return store_fail(err, -ESTALE,
				  "%s is another image than the one that was cloned; put "
				  "the right one back in its place",
				  path);
	if (fstat(fd, &st) < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	*ret_size_bytes = info.size_bytes;
	if ((uint64_t)st.st_size != info.size_bytes)
		return store_fail(err, -ESTALE,
				  "%s was changed after its import: it has %lld bytes, not "
				  "%llu; restore it from a backup",
				  path, (long long)st.st_size, (unsigned long long)info.size_bytes);
	if (stat_mtime_ns(&st) == info.mtime_ns)
		return 0;
	log_warn("%s was touched after its import: comparing its content hash", path);
	r = hash_file(fd, info.size_bytes, NULL, NULL, sha256);
	if (r < 0)
		return store_fail(err, r, "%s can't be read: %s", path, strerror(-r));
	if (memcmp(sha256, info.sha256, sizeof(sha256)) != 0)
		return store_fail(
			err, -ESTALE,
			"%s was changed after its import: its content hash "
			"differs, so clones of it can't be trusted; restore it from a backup",
			path);
	info.mtime_ns = stat_mtime_ns(&st);
	r = sidecar_write(path, &info);
	if (r < 0)
		log_warn("%s.json can't be updated: %s", path, strerror(-r));
	log_info("%s is what was imported", path);
	return 0;
}
