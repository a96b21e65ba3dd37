/*
 * Start-up: what a killed operation left is finished or taken back, files that nobody knows are
 * told about and left alone. A lost catalogue is rebuild.c's.
 */
#include "control/control_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

enum file_kind file_kind(char *name, bool in_images)
{
	static const struct {
		const char *suffix;
		enum file_kind kind;
		bool in_images;
	} kinds[] = {
		{".img.json", FILE_SIDECAR, true},
		{".img", FILE_IMAGE, true},
		{".cow", FILE_LAYER, false},
	};
	size_t bytes = strlen(name);

	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		size_t suffix = strlen(kinds[i].suffix);

		if (kinds[i].in_images != in_images || bytes <= suffix ||
		    strcmp(name + bytes - suffix, kinds[i].suffix) != 0)
			continue;
		name[bytes - suffix] = '\0';
		return kinds[i].kind;
	}
	return FILE_OTHER;
}

static bool node_has_layer(const struct node *node, const store_uuid_t *uuid)
{
	for (unsigned j = 0; j < node->lun_count; j++) {
		for (unsigned k = 0; k < node->luns[j].layer_count; k++) {
			if (memcmp(&node->luns[j].layers[k].uuid, uuid, sizeof(*uuid)) == 0)
				return true;
		}
	}
	return false;
}

static bool layer_known(struct control *control, const char *text)
{
	store_uuid_t uuid;

	if (!store_uuid_parse(text, &uuid))
		return false;
	for (unsigned i = 0; i < control->node_count; i++) {
		if (node_has_layer(control->nodes[i], &uuid))
			return true;
	}
	return false;
}

static bool file_known(struct control *control, enum file_kind kind, const char *name)
{
	if (kind == FILE_LAYER)
		return layer_known(control, name);
	return kind != FILE_OTHER && image_find(control, name) != NULL;
}

/* By the name between prefix and suffix: NAME, or NAME.UUID of one that was in the trash. */
static const struct image *image_of_file(struct control *control, const char *name)
{
	const char *dot = strchr(name, '.');
	const struct trash *trash;
	store_uuid_t uuid;

	if (!dot)
		return image_find(control, name);
	if (!store_uuid_parse(dot + 1, &uuid))
		return NULL;
	trash = trash_find(control, &uuid);
	return trash ? trash->image : image_find_uuid(control, &uuid);
}

static bool layer_in_trash(struct control *control, const store_uuid_t *uuid)
{
	list_for_each (pos, &control->trash) {
		const struct node *node = LIST_ENTRY(pos, struct trash, entry)->node;

		if (node && node_has_layer(node, uuid))
			return true;
	}
	return false;
}

bool file_place(struct control *control, enum file_kind kind, const char *name,
		char ret_path[PATH_BYTES + 8])
{
	char file[IMAGE_FILE_BYTES];
	const struct image *image;
	store_uuid_t uuid;

	if (kind == FILE_LAYER) {
		bool live = layer_known(control, name);

		if (!store_uuid_parse(name, &uuid) || (!live && !layer_in_trash(control, &uuid)))
			return false;
		layer_path(control, live ? "" : PREFIX_TRASH, &uuid, ret_path);
		return true;
	}
	image = kind == FILE_OTHER ? NULL : image_of_file(control, name);
	if (!image)
		return false;
	image_file_name(image, file);
	image_path(control, image->removed ? PREFIX_TRASH : "", file, ret_path);
	if (kind == FILE_SIDECAR)
		(void)snprintf(ret_path + strlen(ret_path), sizeof(".json"), ".json");
	return true;
}

static void take_away(const char *path)
{
	log_info("%s: taken away, it is left from an interrupted operation", path);
	file_unlink(path);
}

/* A marked file that nobody knows. Trash of another catalogue is not ours to take away. */
static void recover_unknown(struct control *control, const char *path, bool trash,
			    enum file_kind kind, const char *name)
{
	store_uuid_t uuid;

	if (trash) {
		log_warn("%s is in no catalogue; it is left alone: remove it if nobody misses it",
			 path);
		return;
	}
	if (kind == FILE_LAYER && store_uuid_parse(name, &uuid))
		store_live_map_remove(control->run_dir, &uuid);
	take_away(path);
}

/* A marked file: to its place if the catalogue knows it and the place is free. */
static void recover_marked(struct control *control, const char *dir, const char *file,
			   const char *prefix, bool in_images)
{
	char name[NAME_MAX + 1], from[PATH_BYTES + NAME_MAX + 2], to[PATH_BYTES + 8];
	bool trash = strcmp(prefix, PREFIX_TRASH) == 0;
	enum file_kind kind;
	int r;

	(void)snprintf(name, sizeof(name), "%s", file + strlen(prefix));
	kind = file_kind(name, in_images);
	(void)snprintf(from, sizeof(from), "%s/%s", dir, file);
	if (!file_place(control, kind, name, to)) {
		recover_unknown(control, from, trash, kind, name);
	} else if (strcmp(from, to) != 0) {
		r = file_move(from, to);
		if (r == 0)
			log_info("%s: finished what was interrupted", to);
		else if (r != -EEXIST || trash)
			log_error("%s can't be renamed to %s: %s", from, to, strerror(-r));
		else
			take_away(from);
	}
	control_step("recover-file");
}

const char *file_prefix(const char *file)
{
	static const char *const prefixes[] = {PREFIX_NEW, PREFIX_RM, PREFIX_TRASH};

	for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++) {
		if (strncmp(file, prefixes[i], strlen(prefixes[i])) == 0)
			return prefixes[i];
	}
	return "";
}

static void recover_directory(struct control *control, const char *sub, bool marked_only)
{
	bool in_images = strcmp(sub, "images") == 0;
	char dir[PATH_BYTES], name[NAME_MAX + 1];
	const struct dirent *entry;
	DIR *stream;

	(void)snprintf(dir, sizeof(dir), "%s/%s", control->state_dir, sub);
	stream = opendir(dir);
	while (stream && (entry = readdir(stream))) {
		const char *file = entry->d_name;
		const char *prefix = file_prefix(file);

		if (prefix[0] && marked_only) {
			recover_marked(control, dir, file, prefix, in_images);
		} else if (!prefix[0] && !marked_only && file[0] != '.') {
			(void)snprintf(name, sizeof(name), "%s", file);
			if (!file_known(control, file_kind(name, in_images), name))
				log_warn("%s/%s is in no catalogue; it is left alone: remove it if "
					 "nobody misses it",
					 dir, file);
		}
	}
	if (stream)
		closedir(stream);
}

/* A rename whose files may have moved or not. */
static int recover_renames(struct control *control, struct store_error *err)
{
	for (unsigned i = 0; i < control->image_count; i++) {
		struct image *image = control->images[i];
		char from[PATH_BYTES], to[PATH_BYTES], from_json[PATH_BYTES + 8],
			to_json[PATH_BYTES + 8];
		int r;

		if (image->old_name[0] == '\0')
			continue;
		image_path(control, "", image->old_name, from);
		image_path(control, "", image->name, to);
		(void)snprintf(from_json, sizeof(from_json), "%s.json", from);
		(void)snprintf(to_json, sizeof(to_json), "%s.json", to);
		/* What is not there has moved already. */
		(void)file_move(from, to);
		control_step("recover-rename");
		(void)file_move(from_json, to_json);
		r = MUTANT(recovered_rename_unsynced) ? 0 : folder_sync(control, "images");
		if (r < 0)
			return r;
		r = catalog_rename_image(control->catalog, &image->uuid, image->name, NULL, err);
		if (r < 0)
			return r;
		log_info("image %s: its renaming to %s is finished", image->old_name, image->name);
		image->old_name[0] = '\0';
	}
	return 0;
}

/*
 * A layer that became history, and was not sealed before we died. Only the one below the top can
 * be: nothing comes on top of an unsealed one. Nobody has written to it since it was flushed.
 */
static void recover_seals(struct control *control, const struct node *node)
{
	for (unsigned i = 0; i < node->lun_count; i++) {
		const struct lun *lun = &node->luns[i];
		const struct layer *layer;
		struct store_layer_info info;
		struct store_error err = {""};
		char path[PATH_BYTES];

		if (lun->layer_count < 2)
			continue;
		layer = &lun->layers[lun->layer_count - 2];
		layer_path(control, "", &layer->uuid, path);
		if (store_layer_info(path, &info, &err) < 0 || info.sealed ||
		    MUTANT(history_left_unsealed))
			continue; /* opening it says what is wrong */
		store_live_map_remove(control->run_dir, &layer->uuid);
		if (store_layer_seal(path, layer->snapshot, &err) < 0)
			log_error("node %s: %s", node->name, err.text);
		else
			log_info("node %s: finished what was interrupted", node->name);
		control_step("recover-sealed");
	}
}

int recover_image(void *arg, struct image *image)
{
	int r = image->removed ? trash_insert(arg, NULL, image) : image_insert(arg, image);

	if (r < 0)
		free(image);
	return r;
}

int recover_node(void *arg, struct node *node)
{
	int r = node->removed ? trash_insert(arg, node, NULL) : node_insert(arg, node);

	if (r < 0)
		node_free(node);
	return r;
}

static void warn_missing_images(struct control *control)
{
	char path[PATH_BYTES];

	for (unsigned i = 0; i < control->image_count; i++) {
		image_path(control, "", control->images[i]->name, path);
		if (access(path, F_OK) < 0)
			log_error("image %s: %s is missing; put it back, with its .json",
				  control->images[i]->name, path);
	}
}

/* Whoever was killed had layers open that are not here: it may have been another place. */
static void warn_strange_live_maps(struct control *control)
{
	const size_t suffix = strlen(".live");
	const struct dirent *entry;
	DIR *stream = opendir(control->run_dir);
	unsigned count = 0;

	while (stream && (entry = readdir(stream))) {
		size_t bytes = strlen(entry->d_name);
		char text[STORE_UUID_TEXT_BYTES], path[PATH_BYTES];
		store_uuid_t uuid;

		if (bytes != sizeof(text) - 1 + suffix ||
		    strcmp(entry->d_name + bytes - suffix, ".live") != 0)
			continue;
		(void)snprintf(text, sizeof(text), "%s", entry->d_name);
		if (!store_uuid_parse(text, &uuid))
			continue;
		layer_path(control, "", &uuid, path);
		count += access(path, F_OK) < 0 && errno == ENOENT;
	}
	if (stream)
		closedir(stream);
	if (count > 0)
		log_warn("the lunrootd that was killed (%s) had %u layers open that %s does not "
			 "have: if it is the wrong directory, or its file system is not mounted, "
			 "end lunrootd before nodes write",
			 control->run_dir, count, control->state_dir);
}

int recover(struct control *control, bool fresh, struct store_error *err)
{
	int r;

	/* With a lost catalogue nobody can tell whether a marked file was new or old; all of
	 * them stay, and rebuilding looks only at files that have their names. */
	if (fresh) {
		r = rebuild(control, err);
	} else {
		r = catalog_load(control->catalog, recover_image, recover_node, control, err);
		if (r == 0)
			r = recover_renames(control, err);
		if (r == 0) {
			recover_directory(control, "images", true);
			recover_directory(control, "layers", true);
			for (unsigned i = 0; i < control->node_count; i++)
				recover_seals(control, control->nodes[i]);
		}
	}
	if (r < 0) {
		if (err->text[0] == '\0')
			(void)snprintf(err->text, sizeof(err->text), "catalogue: %s", strerror(-r));
		return r;
	}
	recover_directory(control, "images", false);
	recover_directory(control, "layers", false);
	warn_missing_images(control);
	warn_strange_live_maps(control);
	return 0;
}
