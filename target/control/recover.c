/*
 * Start-up: what a killed operation left is finished or taken back, files that nobody knows are
 * told about and left alone, and a lost catalogue is rebuilt from what images and layers say of
 * themselves.
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

enum file_kind { FILE_OTHER, FILE_IMAGE, FILE_SIDECAR, FILE_LAYER };

/* "NAME.img", "NAME.img.json" or "UUID.cow", cut to NAME or UUID. */
static enum file_kind file_kind(char *name, bool in_images)
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

static bool layer_known(struct control *control, const char *text)
{
	store_uuid_t uuid;

	if (!store_uuid_parse(text, &uuid))
		return false;
	for (unsigned i = 0; i < control->node_count; i++) {
		const struct node *node = control->nodes[i];

		for (unsigned j = 0; j < node->lun_count; j++) {
			for (unsigned k = 0; k < node->luns[j].layer_count; k++) {
				if (memcmp(&node->luns[j].layers[k].uuid, &uuid, sizeof(uuid)) == 0)
					return true;
			}
		}
	}
	return false;
}

static bool file_known(struct control *control, enum file_kind kind, const char *name)
{
	if (kind == FILE_LAYER)
		return layer_known(control, name);
	return kind != FILE_OTHER && image_find(control, name) != NULL;
}

/* A .new- or .rm- file: to its place if the catalogue knows it and the place is free. */
static void recover_marked(struct control *control, const char *dir, const char *file,
			   size_t prefix_bytes, bool in_images)
{
	char name[NAME_MAX + 1], from[PATH_BYTES + NAME_MAX + 2], to[PATH_BYTES + NAME_MAX + 2];
	store_uuid_t uuid;
	enum file_kind kind;
	int r = -EEXIST;

	(void)snprintf(name, sizeof(name), "%s", file + prefix_bytes);
	kind = file_kind(name, in_images);
	(void)snprintf(from, sizeof(from), "%s/%s", dir, file);
	(void)snprintf(to, sizeof(to), "%s/%s", dir, file + prefix_bytes);
	if (file_known(control, kind, name)) {
		r = file_move(from, to);
		if (r == 0)
			log_info("%s: finished what was interrupted", to);
		else if (r != -EEXIST)
			log_error("%s can't be renamed to %s: %s", from, to, strerror(-r));
	}
	control_step("recover-file");
	if (r != -EEXIST)
		return;
	if (kind == FILE_LAYER && !file_known(control, kind, name) && store_uuid_parse(name, &uuid))
		store_live_map_remove(control->run_dir, &uuid);
	log_info("%s: taken away, it is left from an interrupted operation", from);
	file_unlink(from);
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
		size_t prefix =
			strncmp(file, PREFIX_NEW, strlen(PREFIX_NEW)) == 0 ? strlen(PREFIX_NEW)
			: strncmp(file, PREFIX_RM, strlen(PREFIX_RM)) == 0 ? strlen(PREFIX_RM)
									   : 0;

		if (prefix > 0 && marked_only) {
			recover_marked(control, dir, file, prefix, in_images);
		} else if (prefix == 0 && !marked_only && file[0] != '.') {
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
		r = catalog_rename_image(control->catalog, &image->uuid, image->name, NULL, err);
		if (r < 0)
			return r;
		log_info("image %s: its renaming to %s is finished", image->old_name, image->name);
		image->old_name[0] = '\0';
	}
	return 0;
}

static int take_image(void *arg, struct image *image)
{
	int r = image_insert(arg, image);

	if (r < 0)
		free(image);
	return r;
}

static int take_node(void *arg, struct node *node)
{
	int r = node_insert(arg, node);

	if (r < 0)
		node_free(node);
	return r;
}

/* --- rebuilding --- */

struct found_layer {
	struct store_layer_info info;
	bool used;
};

static int rebuild_image(struct control *control, const char *file, const char *name,
			 struct store_error *err)
{
	struct store_image_info info;
	struct store_error why = {""};
	struct image *image;
	struct stat st;
	char path[PATH_BYTES];
	int r;

	image_path(control, "", name, path);
	if (store_image_info(path, &info, &why) < 0 || !name_valid(name)) {
		log_warn("%s is left alone: %s", file, why.text);
		return 0;
	}
	image = calloc(1, sizeof(*image));
	if (!image)
		return -ENOMEM;
	image->uuid = info.uuid;
	image->size_bytes = info.size_bytes;
	memcpy(image->name, name, strlen(name) + 1);
	(void)snprintf(image->content, sizeof(image->content), "%s", info.content);
	image->created = stat(path, &st) < 0 ? time(NULL) : st.st_mtime;
	r = image_insert(control, image);
	if (r < 0) {
		free(image);
		return r;
	}
	log_warn("image %s is back in the catalogue", name);
	return catalog_put_image(control->catalog, image, err);
}

static int rebuild_images(struct control *control, struct store_error *err)
{
	char dir[PATH_BYTES], name[NAME_MAX + 1];
	const struct dirent *entry;
	DIR *stream;
	int r = 0;

	(void)snprintf(dir, sizeof(dir), "%s/images", control->state_dir);
	stream = opendir(dir);
	while (r == 0 && stream && (entry = readdir(stream))) {
		(void)snprintf(name, sizeof(name), "%s", entry->d_name);
		if (name[0] != '.' && file_kind(name, true) == FILE_IMAGE)
			r = rebuild_image(control, entry->d_name, name, err);
	}
	if (stream)
		closedir(stream);
	return r;
}

/* All layers' headers; `ret_layers` is the caller's. */
static int read_layers(struct control *control, struct found_layer **ret_layers, size_t *ret_count)
{
	char dir[PATH_BYTES], path[PATH_BYTES + NAME_MAX + 2], name[NAME_MAX + 1];
	struct found_layer *layers = NULL, *grown;
	struct store_error err = {""};
	const struct dirent *entry;
	size_t count = 0;
	DIR *stream;
	int r = 0;

	(void)snprintf(dir, sizeof(dir), "%s/layers", control->state_dir);
	stream = opendir(dir);
	while (stream && (entry = readdir(stream))) {
		(void)snprintf(name, sizeof(name), "%s", entry->d_name);
		if (name[0] == '.' || file_kind(name, false) != FILE_LAYER)
			continue;
		grown = realloc(layers, (count + 1) * sizeof(*layers));
		if (!grown) {
			r = -ENOMEM;
			break;
		}
		layers = grown;
		layers[count].used = false;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (store_layer_info(path, &layers[count].info, &err) < 0)
			log_warn("%s is left alone: %s", path, err.text);
		else
			count++;
	}
	if (stream)
		closedir(stream);
	*ret_layers = layers;
	*ret_count = count;
	return r;
}

/* The chain that grows from layer `first`. */
static void rebuild_lun(struct found_layer *layers, size_t count, struct found_layer *first,
			uint8_t number, struct lun *lun)
{
	struct found_layer *top = first;

	*lun = (struct lun){.number = number, .uuid = first->info.uuid};
	while (top && lun->layer_count < LIMIT_CHAIN_LAYERS) {
		struct found_layer *next = NULL;

		top->used = true;
		lun->size_bytes = top->info.size_bytes;
		lun->layers[lun->layer_count].uuid = top->info.uuid;
		lun->layers[lun->layer_count++].sealed = top->info.sealed;
		for (size_t i = 0; i < count && !next; i++) {
			if (!layers[i].used && layers[i].info.parent_kind == STORE_PARENT_LAYER &&
			    memcmp(&layers[i].info.parent_uuid, &top->info.uuid,
				   sizeof(store_uuid_t)) == 0)
				next = &layers[i];
		}
		top = next;
	}
}

/* The label, or with a number if a renamed node left it to another one. */
static bool rebuild_name(struct control *control, const char *label, char name[NAME_BYTES])
{
	const char *stem = name_valid(label) ? label : "node";

	(void)snprintf(name, NAME_BYTES, "%s", stem);
	for (unsigned n = 2; node_find(control, name) && n < LIMIT_NODES; n++)
		(void)snprintf(name, NAME_BYTES, "%.56s-%u", stem, n);
	return node_find(control, name) == NULL;
}

static int rebuild_node(struct control *control, struct found_layer *layers, size_t count,
			struct found_layer *first, struct store_error *err)
{
	struct node *node = calloc(1, sizeof(*node));
	int r = -ENOMEM;

	if (!node)
		return -ENOMEM;
	node->luns = calloc(LIMIT_LUNS_PER_NODE, sizeof(*node->luns));
	if (!node->luns || !rebuild_name(control, first->info.label, node->name))
		goto fail;
	memcpy(node->hostname, node->name, sizeof(node->hostname));
	node->uuid = first->info.uuid;
	node->image_uuid = first->info.parent_uuid;
	node->auth = true;
	node->created = time(NULL);
	r = node_new_credentials(node);
	if (r < 0)
		goto fail;
	rebuild_lun(layers, count, first, 0, &node->luns[node->lun_count++]);
	for (size_t i = 0; i < count && node->lun_count < LIMIT_LUNS_PER_NODE; i++) {
		if (layers[i].used || layers[i].info.parent_kind != STORE_PARENT_NONE ||
		    strcmp(layers[i].info.label, first->info.label) != 0)
			continue;
		rebuild_lun(layers, count, &layers[i], (uint8_t)node->lun_count,
			    &node->luns[node->lun_count]);
		node->lun_count++;
	}
	r = node_insert(control, node);
	if (r < 0)
		goto fail;
	log_warn("node %s is back in the catalogue, with new credentials", node->name);
	return catalog_put_node(control->catalog, node, err);

fail:
	node_free(node);
	return r;
}

static int rebuild(struct control *control, struct store_error *err)
{
	struct found_layer *AUTO_FREE layers = NULL;
	size_t count = 0;
	int r = rebuild_images(control, err);

	if (r == 0)
		r = read_layers(control, &layers, &count);
	if (r == 0 && (count > 0 || control->image_count > 0))
		log_warn("the catalogue is missing: rebuilding it from %u images and %zu layers",
			 control->image_count, count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (!layers[i].used && layers[i].info.parent_kind == STORE_PARENT_IMAGE)
			r = rebuild_node(control, layers, count, &layers[i], err);
	}
	control_step("recover-rebuilt");
	if (r == 0)
		return catalog_commit(control->catalog, err);
	catalog_rollback(control->catalog);
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

int recover(struct control *control, bool fresh, struct store_error *err)
{
	int r;

	/* With a lost catalogue nobody can tell whether a marked file was new or old; all of
	 * them stay, and rebuilding looks only at files that have their names. */
	if (fresh) {
		r = rebuild(control, err);
	} else {
		r = catalog_load(control->catalog, take_image, take_node, control, err);
		if (r == 0)
			r = recover_renames(control, err);
		if (r == 0) {
			recover_directory(control, "images", true);
			recover_directory(control, "layers", true);
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
	return 0;
}
