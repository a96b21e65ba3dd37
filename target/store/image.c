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
#include <sys/file.h>
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
	struct work *work; /* or NULL */
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
		r = h->work ? work_step(h->work, bytes) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int hash_data(struct hasher *h, int fd, uint64_t size_bytes, uint8_t *buffer)
{
	uint64_t at = 0, begin, end;

	while (file_data_next(fd, at, size_bytes, &begin, &end)) {
		int r = hash_range(h, fd, begin, end, buffer);

		if (r < 0)
			return r;
		at = end;
	}
	return 0;
}

static int hash_file(struct hasher h, int fd, uint64_t size_bytes, uint8_t ret_sha256[32])
{
	uint8_t AUTO_FREE *buffer = malloc(HASH_BUFFER_BYTES + STORE_BLOCK_BYTES);
	int r = -ENOMEM;

	h.ctx = EVP_MD_CTX_new();
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

/* The file beside the sidecar, whose one name several threads may want: with its lock. */
static int sidecar_begin(const char *fresh)
{
	for (;;) {
		int AUTO_CLOSE fd = open(fresh, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
		struct stat ours, named;

		if (fd < 0 || flock(fd, LOCK_EX) < 0 || fstat(fd, &ours) < 0)
			return -errno;
		if (stat(fresh, &named) == 0 && named.st_ino == ours.st_ino)
			return ftruncate(fd, 0) < 0 ? -errno : TAKE_FD(fd);
		/* Who had it before has put it in the sidecar's place. */
	}
}

/* Written beside it, synced, and put in its place. */
static int sidecar_replace(const char *path, const char *final, const char *text)
{
	char fresh[LIMIT_PATH_BYTES + 16];
	int AUTO_CLOSE fd = -1;
	int r;

	(void)snprintf(fresh, sizeof(fresh), MUTANT(sidecar_in_place) ? "%s" : "%s.new", final);
	fd = sidecar_begin(fresh);
	if (fd < 0)
		return fd;
	r = pwrite_all(fd, text, strlen(text), 0);
	if (r == 0 && !MUTANT(sidecar_unsynced) && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && rename(fresh, final) < 0)
		r = -errno;
	return r < 0 || MUTANT(sidecar_folder_unsynced) ? r : fsync_parent(path);
}

static int sidecar_write(const char *path, const struct store_image_info *info)
{
	char final[LIMIT_PATH_BYTES + 8];
	char uuid[STORE_UUID_TEXT_BYTES], sha256[65];
	char AUTO_FREE *text = NULL;
	json_t *json;

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
	return sidecar_replace(path, final, text);
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

	if (!text)
		return store_fail(err, -ENOMEM, "out of memory");
	sidecar_path(path, sidecar);
	fd = open(sidecar, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return store_fail(err, -errno,
				  "%s: %s; it belongs to the image %s, restore it from a "
				  "backup or import the image again",
				  sidecar, strerror(errno), path);
	bytes = read(fd, text, SIDECAR_BYTES_MAX);
	if (bytes < 0)
		return store_fail(err, -errno, "%s can't be read: %s", sidecar, strerror(errno));
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

	if (fd < 0 || (!MUTANT(image_unsynced) && fsync(fd) < 0) || fstat(fd, &st) < 0)
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
	r = hash_file((struct hasher){.progress = progress, .arg = arg}, fd, info.size_bytes,
		      info.sha256);
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
	r = hash_file((struct hasher){.ctx = NULL}, fd, info.size_bytes, sha256);
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

/* The text stays as it is if nothing is wrong. -errno: it could not be judged. */
static int image_judge(int fd, const char *path, struct work *work, enum store_finding *ret_finding,
		       char ret_text[STORE_ERROR_BYTES])
{
	struct store_image_info info;
	struct store_error err;
	uint8_t sha256[32];
	struct stat st;
	int r;

	*ret_finding = STORE_FINDING_LOST;
	if (store_image_info(path, &info, &err) < 0) {
		(void)snprintf(ret_text, STORE_ERROR_BYTES, "%s", err.text);
		return 0;
	}
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != info.size_bytes) {
		(void)snprintf(ret_text, STORE_ERROR_BYTES,
			       "%s has %lld bytes, but had %llu when it was imported; restore it "
			       "from a backup",
			       path, (long long)st.st_size, (unsigned long long)info.size_bytes);
		return 0;
	}
	r = hash_file((struct hasher){.work = work}, fd, info.size_bytes, sha256);
	if (r == -ECANCELED || r == -ENOMEM)
		return r;
	if (r < 0) {
		(void)snprintf(ret_text, STORE_ERROR_BYTES,
			       "%s can't be read: %s; restore it from a backup", path,
			       strerror(-r));
	} else if (memcmp(sha256, info.sha256, sizeof(sha256)) != 0) {
		(void)snprintf(ret_text, STORE_ERROR_BYTES,
			       "%s is not what was imported: its content hash differs, so clones "
			       "of it can't be trusted; restore it from a backup",
			       path);
	} else if (stat_mtime_ns(&st) != info.mtime_ns) {
		*ret_finding = STORE_FINDING_NOTE;
		(void)snprintf(ret_text, STORE_ERROR_BYTES,
			       "%s was touched, but its content is what was imported", path);
	}
	return 0;
}

int store_image_check(const char *path, store_found *found, void *arg,
		      const struct store_work *work, struct store_error *err)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[STORE_ERROR_BYTES] = "";
	enum store_finding finding;
	struct stat st;
	struct work w;
	int r;

	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	work_begin(&w, work, fstat(fd, &st) < 0 ? 0 : file_data_bytes(fd, 0, (uint64_t)st.st_size));
	r = image_judge(fd, path, &w, &finding, text);
	if (r < 0)
		return store_fail(err, r, "%s can't be checked: %s", path,
				  r == -ECANCELED ? "cancelled" : strerror(-r));
	if (text[0])
		found(arg, finding, text);
	return 0;
}
