/*
 * A store for this room's tests that knows only what the control plane sees of one: files with
 * a few lines of text in them, and disks that are never read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "control/fake.h"
#include "store/store.h"

char fake_store_fails[64];

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

int store_layer_create(const char *path, const struct store_layer_info *info,
		       struct store_error *err)
{
	char text[512], id[STORE_UUID_TEXT_BYTES], parent[STORE_UUID_TEXT_BYTES];
	int r;

	if (strcmp(fake_store_fails, "create") == 0)
		return fake_error(err, path, -ENOSPC);
	store_uuid_format(&info->uuid, id);
	store_uuid_format(&info->parent_uuid, parent);
	(void)snprintf(text, sizeof(text), "%s %d %s %lld %s\n", id, (int)info->parent_kind, parent,
		       (long long)info->size_bytes, info->label);
	r = write_text(path, text);
	return r < 0 ? fake_error(err, path, r) : 0;
}

int store_layer_info(const char *path, struct store_layer_info *ret_info, struct store_error *err)
{
	struct store_layer_info info = {0};
	char id[64] = "", parent[64] = "";
	long long size = 0;
	int kind = 0, n;
	FILE *file = fopen(path, "re");

	if (!file)
		return fake_error(err, path, -errno);
	n = fscanf(file, "%36s %d %36s %lld %63s", id, &kind, parent, &size, info.label);
	(void)fclose(file);
	if (n != 5 || !store_uuid_parse(id, &info.uuid) ||
	    !store_uuid_parse(parent, &info.parent_uuid))
		return fake_error(err, path, -EBADMSG);
	info.parent_kind = (enum store_parent)kind;
	info.size_bytes = (uint64_t)size;
	*ret_info = info;
	return 0;
}

static void fake_free(struct store_disk *disk)
{
	free(disk);
}

static const struct store_disk_ops fake_ops = {.free = fake_free};

int store_open(const struct store_chain *chain, struct store_disk **ret_disk,
	       struct store_error *err)
{
	struct store_disk *disk;

	if (strcmp(fake_store_fails, "open") == 0)
		return fake_error(err, chain->layer_paths[0], -EBADMSG);
	for (unsigned i = 0; i < chain->layer_count; i++) {
		if (access(chain->layer_paths[i], R_OK) < 0)
			return fake_error(err, chain->layer_paths[i], -errno);
	}
	if (chain->image_path && access(chain->image_path, R_OK) < 0)
		return fake_error(err, chain->image_path, -errno);
	disk = calloc(1, sizeof(*disk));
	if (!disk)
		return -ENOMEM;
	disk->ops = &fake_ops;
	*ret_disk = disk;
	return 0;
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
