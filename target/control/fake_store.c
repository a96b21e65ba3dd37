/*
 * A store for this room's tests that knows only what the control plane sees of one: files with
 * a few lines of text in them, and disks that are never read.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "control/fake.h"
#include "store/store.h"

_Atomic(const char *) fake_store_fails = "";
atomic_int fake_store_countdown;
_Atomic(uint64_t) fake_store_merge_rate;
atomic_uint fake_store_preloads, fake_store_preloads_moved;

static int write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "wxe");

	if (!file)
		return -errno;
	(void)fputs(text, file);
	return fclose(file) == 0 ? 0 : -errno;
}

static int fake_error(struct store_error *err, const char *path, int r)
{
	(void)snprintf(err->text, sizeof(err->text), "%.400s: %s", path, strerror(-r));
	return r;
}

int store_image_seal(const char *path, const store_uuid_t *uuid, const char *content,
		     void (*progress)(void *arg, uint64_t bytes), void *arg,
		     struct store_image_info *ret_info, struct store_error *err)
{
	char json[2048], text[256], id[STORE_UUID_TEXT_BYTES];
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return fake_error(err, path, -errno);
	store_uuid_format(uuid, id);
	(void)snprintf(json, sizeof(json), "%s.json", path);
	(void)snprintf(text, sizeof(text), "%s %lld\n%s\n", id, (long long)st.st_size, content);
	r = write_text(json, text);
	if (r < 0)
		return fake_error(err, json, r);
	if (progress)
		progress(arg, (uint64_t)st.st_size);
	memset(ret_info, 0, sizeof(*ret_info));
	ret_info->uuid = *uuid;
	ret_info->size_bytes = (uint64_t)st.st_size;
	return chmod(path, 0440) < 0 ? -errno : 0;
}

int store_image_info(const char *path, struct store_image_info *ret_info, struct store_error *err)
{
	struct store_image_info info = {0};
	char json[2048], id[64] = "";
	long long size = 0;
	FILE *file;
	int n;

	(void)snprintf(json, sizeof(json), "%s.json", path);
	file = fopen(json, "re");
	if (!file)
		return fake_error(err, json, -errno);
	n = fscanf(file, "%36s %lld\n%63[^\n]", id, &size, info.content);
	(void)fclose(file);
	if (n < 2 || !store_uuid_parse(id, &info.uuid))
		return fake_error(err, json, -EBADMSG);
	info.size_bytes = (uint64_t)size;
	*ret_info = info;
	return 0;
}

/* As long whatever its snapshot is called. */
static void layer_text(const struct store_layer_info *info, char text[512])
{
	char id[STORE_UUID_TEXT_BYTES], parent[STORE_UUID_TEXT_BYTES],
		stands_for[STORE_UUID_TEXT_BYTES], node[STORE_UUID_TEXT_BYTES],
		lun[STORE_UUID_TEXT_BYTES];

	store_uuid_format(&info->node_uuid, node);
	store_uuid_format(&info->lun_uuid, lun);
	store_uuid_format(&info->uuid, id);
	store_uuid_format(&info->parent_uuid, parent);
	store_uuid_format(&info->stands_for, stands_for);
	(void)snprintf(text, 512, "%s %d %s %lld %s %d %s %-*s %lld %s %s %u %lld\n", id,
		       (int)info->parent_kind, parent, (long long)info->size_bytes, info->label,
		       (int)info->sealed, stands_for, LIMIT_OBJECT_NAME_BYTES,
		       info->snapshot[0] ? info->snapshot : "-", (long long)info->created_s, node,
		       lun, (unsigned)info->lun, (long long)info->parent_size_bytes);
}

static int write_layer(const char *path, const struct store_layer_info *info)
{
	char text[512];

	layer_text(info, text);
	return write_text(path, text);
}

int store_layer_create(const char *path, const struct store_layer_info *info,
		       struct store_error *err)
{
	int r;

	if (strcmp(fake_store_fails, "create") == 0)
		return fake_error(err, path, -ENOSPC);
	if (strcmp(fake_store_fails, "large") == 0)
		return fake_error(err, path, -EFBIG);
	r = write_layer(path, info);
	return r < 0 ? fake_error(err, path, r) : 0;
}

int store_layer_info(const char *path, struct store_layer_info *ret_info, struct store_error *err)
{
	struct store_layer_info info = {0};
	char id[64] = "", parent[64] = "", stands_for[64] = "", node[64] = "", lun[64] = "";
	long long size = 0, created = 0, parent_size = 0;
	int kind = 0, sealed = 0, n;
	unsigned number = 0;
	FILE *file = fopen(path, "re");

	if (!file)
		return fake_error(err, path, -errno);
	n = fscanf(file, "%36s %d %36s %lld %63s %d %36s %63s %lld %36s %36s %u %lld", id, &kind,
		   parent, &size, info.label, &sealed, stands_for, info.snapshot, &created, node,
		   lun, &number, &parent_size);
	(void)fclose(file);
	if (n != 13 || !store_uuid_parse(node, &info.node_uuid) ||
	    !store_uuid_parse(lun, &info.lun_uuid) || !store_uuid_parse(id, &info.uuid) ||
	    !store_uuid_parse(parent, &info.parent_uuid) ||
	    !store_uuid_parse(stands_for, &info.stands_for))
		return fake_error(err, path, -EBADMSG);
	info.parent_kind = (enum store_parent)kind;
	info.size_bytes = (uint64_t)size;
	info.parent_size_bytes = (uint64_t)parent_size;
	info.sealed = sealed != 0;
	info.created_s = created;
	info.lun = (uint8_t)number;
	if (strcmp(info.snapshot, "-") == 0)
		info.snapshot[0] = '\0';
	*ret_info = info;
	return 0;
}

/* The same file, which is never gone for one who reads it meanwhile, nor half of it there. */
static int layer_replace(const char *path, const struct store_layer_info *info)
{
	int AUTO_CLOSE fd = open(path, O_WRONLY | O_CLOEXEC);
	char text[512];

	layer_text(info, text);
	return pwrite(fd, text, strlen(text), 0) == (ssize_t)strlen(text) ? 0 : -errno;
}

int store_layer_seal(const char *path, const char *snapshot, struct store_error *err)
{
	struct store_layer_info info;
	int r = store_layer_info(path, &info, err);

	if (r < 0)
		return r;
	if (strcmp(fake_store_fails, "seal") == 0 && fake_store_countdown-- <= 0)
		return fake_error(err, path, -ENOSPC);
	info.sealed = true;
	(void)snprintf(info.snapshot, sizeof(info.snapshot), "%s", snapshot);
	return layer_replace(path, &info);
}

int store_layer_label(const char *path, const char *run_dir, const char *label,
		      struct store_error *err)
{
	struct store_layer_info info;
	int r = store_layer_info(path, &info, err);

	(void)run_dir;
	if (r < 0)
		return r;
	(void)snprintf(info.label, sizeof(info.label), "%s", label);
	return layer_replace(path, &info);
}

const store_uuid_t *store_layer_identity(const struct store_layer_info *layer)
{
	static const store_uuid_t none;

	return memcmp(&layer->stands_for, &none, sizeof(none)) == 0 ? &layer->uuid
								    : &layer->stands_for;
}

bool store_layer_is_parent(const struct store_layer_info *layer, const store_uuid_t *parent_uuid)
{
	return memcmp(&layer->uuid, parent_uuid, sizeof(*parent_uuid)) == 0 ||
	       memcmp(&layer->stands_for, parent_uuid, sizeof(*parent_uuid)) == 0;
}

/* While "slow": runs until it is cancelled. */
static int fake_work(const struct store_work *work)
{
	while (strcmp(fake_store_fails, "slow") == 0) {
		if (atomic_load(work->cancelled))
			return -ECANCELED;
		(void)usleep(1000);
	}
	return 0;
}

int store_merge(const struct store_chain *chain, unsigned first, bool with_image,
		const store_uuid_t *uuid, const char *path, const struct store_work *work,
		struct store_error *err)
{
	struct store_layer_info low, high;
	int r = store_layer_info(chain->layer_paths[first], &low, err);

	if (r == 0)
		r = store_layer_info(chain->layer_paths[chain->layer_count - 1], &high, err);
	if (r == 0)
		r = fake_work(work);
	if (r < 0)
		return r;
	if (strcmp(fake_store_fails, "merge") == 0)
		return fake_error(err, path, -ENOSPC);
	fake_store_merge_rate = work->bytes_per_s;
	if (!low.sealed || !high.sealed)
		return fake_error(err, path, -EINVAL);
	high.stands_for = *store_layer_identity(&high);
	high.uuid = *uuid;
	high.parent_kind = with_image ? STORE_PARENT_NONE : low.parent_kind;
	high.parent_uuid = with_image ? (store_uuid_t){{0}} : low.parent_uuid;
	return write_layer(path, &high);
}

struct store_preload {
	char path[LIMIT_PATH_BYTES];
};

int store_preload(const char *path, struct store_preload **ret_preload, struct store_error *err)
{
	struct store_preload *preload = calloc(1, sizeof(*preload));

	(void)err;
	assert(preload);
	(void)snprintf(preload->path, sizeof(preload->path), "%s", path);
	*ret_preload = preload;
	fake_store_preloads++;
	return 0;
}

void store_preload_moves(struct store_preload *preload)
{
	assert(access(preload->path, F_OK) == 0);
}

void store_preload_moved(struct store_preload *preload)
{
	assert(access(preload->path, F_OK) < 0);
	fake_store_preloads_moved++;
}

void store_preload_free(struct store_preload *preload)
{
	if (preload)
		fake_store_preloads--;
	free(preload);
}

int store_copy(const struct store_chain *chain, int out_fd, const struct store_work *work,
	       struct store_error *err)
{
	struct store_layer_info high;
	int r = store_layer_info(chain->layer_paths[chain->layer_count - 1], &high, err);
	char block[4096] = "fake";

	if (r == 0)
		r = fake_work(work);
	for (uint64_t at = 0; r == 0 && at < high.size_bytes;) {
		struct pollfd room = {.fd = out_fd, .events = POLLOUT};

		if (poll(&room, 1, 10) > 0 && write(out_fd, block, sizeof(block)) > 0)
			at += sizeof(block);
		else if (room.revents && errno != EAGAIN)
			r = -errno;
		else if (atomic_load(work->cancelled))
			r = -ECANCELED;
	}
	return r;
}

static void fake_free(struct store_disk *disk)
{
	free(disk);
}

static const struct store_disk_ops fake_ops = {.free = fake_free};

/* Each on its parent, all but the top sealed. */
static int check_chain(const struct store_chain *chain, uint64_t *ret_size, struct store_error *err)
{
	struct store_layer_info below = {.uuid = chain->image_uuid}, info;

	for (unsigned i = 0; i < chain->layer_count; i++) {
		int r = store_layer_info(chain->layer_paths[i], &info, err);

		if (r < 0)
			return r;
		if (info.parent_kind != (i > 0               ? STORE_PARENT_LAYER
					 : chain->image_path ? STORE_PARENT_IMAGE
							     : STORE_PARENT_NONE) ||
		    (info.parent_kind != STORE_PARENT_NONE &&
		     !store_layer_is_parent(&below, &info.parent_uuid)))
			return fake_error(err, chain->layer_paths[i], -ESTALE);
		if (info.sealed != (i + 1 < chain->layer_count))
			return fake_error(err, chain->layer_paths[i], -EROFS);
		below = info;
	}
	*ret_size = info.size_bytes;
	return 0;
}

int store_open(const struct store_chain *chain, struct store_disk **ret_disk,
	       struct store_error *err)
{
	struct store_disk *disk;
	uint64_t size = 0;
	int r;

	if (strcmp(fake_store_fails, "changed") == 0) {
		(void)snprintf(err->text, sizeof(err->text), "the image was changed");
		return -ESTALE;
	}
	if (strcmp(fake_store_fails, "open") == 0 && fake_store_countdown-- == 0)
		return fake_error(err, chain->layer_paths[0], -EBADMSG);
	for (unsigned i = 0; i < chain->layer_count; i++) {
		if (access(chain->layer_paths[i], R_OK) < 0)
			return fake_error(err, chain->layer_paths[i], -errno);
	}
	if (chain->image_path && access(chain->image_path, R_OK) < 0)
		return fake_error(err, chain->image_path, -errno);
	r = check_chain(chain, &size, err);
	if (r < 0)
		return r;
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	disk->ops = &fake_ops;
	disk->size_bytes = size;
	*ret_disk = disk;
	return 0;
}

/* A file says itself what is wrong with it: "MENDABLE" or "LOST" behind its content. */
static int fake_check(const char *path, bool repair, store_found *found, void *arg,
		      struct store_error *err)
{
	char text[512] = "", *word;
	FILE *file = fopen(path, "r+e");
	size_t bytes;

	if (!file)
		return fake_error(err, path, -errno);
	bytes = fread(text, 1, sizeof(text) - 1, file);
	text[bytes] = '\0';
	word = strstr(text, "MENDABLE");
	if (word && repair && ftruncate(fileno(file), word - text) == 0)
		found(arg, STORE_FINDING_MENDED, "it is mended");
	else if (word)
		found(arg, STORE_FINDING_MENDABLE, "it can be mended");
	if (strstr(text, "LOST"))
		found(arg, STORE_FINDING_LOST, "it is lost");
	(void)fclose(file);
	return 0;
}

int store_layer_check(const char *path, const char *run_dir, bool repair, bool in_use,
		      store_found *found, void *arg, const struct store_work *work,
		      struct store_error *err)
{
	int r = fake_work(work);

	(void)run_dir;
	return r < 0 ? r : fake_check(path, repair && !in_use, found, arg, err);
}

int store_image_check(const char *path, store_found *found, void *arg,
		      const struct store_work *work, struct store_error *err)
{
	char json[2048];
	int r = fake_work(work);

	(void)snprintf(json, sizeof(json), "%s.json", path);
	if (r == 0 && access(path, F_OK) < 0)
		r = fake_error(err, path, -errno);
	return r < 0 ? r : fake_check(json, false, found, arg, err);
}

void store_live_map_remove(const char *run_dir, const store_uuid_t *layer_uuid)
{
	(void)run_dir;
	(void)layer_uuid;
}

bool store_dir_is_tmpfs(const char *dir)
{
	(void)dir;
	return true;
}

void store_uuid_generate(store_uuid_t *ret_uuid)
{
	int AUTO_CLOSE fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, ret_uuid->b, sizeof(ret_uuid->b)) != (ssize_t)sizeof(ret_uuid->b))
		abort();
}

void store_uuid_format(const store_uuid_t *uuid, char ret_text[STORE_UUID_TEXT_BYTES])
{
	char *to = ret_text;

	for (unsigned i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		(void)snprintf(to, 3, "%02x", uuid->b[i]);
		to += 2;
	}
}

bool store_uuid_parse(const char *text, store_uuid_t *ret_uuid)
{
	store_uuid_t uuid;

	if (strlen(text) != 36)
		return false;
	for (unsigned i = 0; i < 16; i++) {
		unsigned byte;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			text++;
		if (sscanf(text, "%2x", &byte) != 1)
			return false;
		uuid.b[i] = (uint8_t)byte;
		text += 2;
	}
	*ret_uuid = uuid;
	return true;
}
