/*
 * A lost catalogue is rebuilt from what images and layers say of themselves. Files marked as new or
 * removed are not looked at: nobody can tell which they were. Trash goes to the trash again, with
 * all its time before it: it must not meet what has taken its name since then.
 *
 * Each layer that no other stands on is the tip of a chain, which is followed down to its image or
 * to nothing. A layer that was merged is known by the one whose place it took; if both are there
 * (from a backup, say) either will do, and the merged one is taken. Of several chains of one LUN
 * the one that can be written to counts.
 */
#include "control/control_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

/* A chain, and what its layers say of whose it is. */
struct found_lun {
	struct lun lun; /* names of snapshots as the headers have them */
	enum store_parent base_kind;
	store_uuid_t base_uuid;
	store_uuid_t node_uuid; /* zeros: not said; then the first label counts */
	const struct store_layer_info *first, *tip;
	bool used;
};

struct found {
	struct store_layer_info *layers;
	size_t layer_count;
	struct found_lun *luns;
	size_t lun_count;
	bool trash;         /* what is in the trash, or what is not */
	const char *prefix; /* of its files */
};

static bool no_uuid(const store_uuid_t *uuid)
{
	return all_zero(uuid, sizeof(*uuid));
}

static bool same_uuid(const store_uuid_t *a, const store_uuid_t *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* NAME, or NAME.UUID in the trash, where the UUID must be the image's own. */
static bool rebuild_image_name(const char *file_name, bool trash, const store_uuid_t *uuid,
			       char ret_name[NAME_BYTES])
{
	char text[STORE_UUID_TEXT_BYTES];
	size_t bytes = strcspn(file_name, ".");

	store_uuid_format(uuid, text);
	if (bytes >= NAME_BYTES ||
	    strcmp(file_name + bytes + (trash ? 1 : 0), trash ? text : "") != 0)
		return false;
	(void)snprintf(ret_name, NAME_BYTES, "%.*s", (int)bytes, file_name);
	return name_valid(ret_name);
}

static int rebuild_image(struct control *control, const char *file_name, bool trash,
			 struct store_error *err)
{
	struct store_error why = {"its name does not fit"};
	struct store_image_info info;
	struct image *image;
	char path[PATH_BYTES], name[NAME_BYTES];
	struct stat st;
	int r;

	image_path(control, trash ? PREFIX_TRASH : "", file_name, path);
	if (store_image_info(path, &info, &why) < 0 ||
	    !rebuild_image_name(file_name, trash, &info.uuid, name) ||
	    (trash && image_find_uuid(control, &info.uuid))) {
		log_warn("%s is left alone: %s", path, why.text);
		return 0;
	}
	image = calloc(1, sizeof(*image));
	if (!image)
		return -ENOMEM;
	image->uuid = info.uuid;
	image->size_bytes = info.size_bytes;
	memcpy(image->name, name, sizeof(name));
	(void)snprintf(image->content, sizeof(image->content), "%s", info.content);
	image->created = stat(path, &st) < 0 ? time(NULL) : st.st_mtime;
	image->removed = trash ? time(NULL) : 0;
	r = recover_image(control, image);
	if (r < 0)
		return r;
	log_warn("image %s is back in the %s", name, trash ? "trash" : "catalogue");
	return catalog_put_image(control->catalog, image, err);
}

/* Those that have their names, or those in the trash. */
static int rebuild_images(struct control *control, bool trash, struct store_error *err)
{
	const char *prefix = trash ? PREFIX_TRASH : "";
	char dir[PATH_BYTES], name[NAME_MAX + 1];
	const struct dirent *entry;
	DIR *stream;
	int r = 0;

	(void)snprintf(dir, sizeof(dir), "%s/images", control->state_dir);
	stream = opendir(dir);
	while (r == 0 && stream && (entry = readdir(stream))) {
		if (strcmp(file_prefix(entry->d_name), prefix) != 0 ||
		    (!trash && entry->d_name[0] == '.'))
			continue;
		(void)snprintf(name, sizeof(name), "%s", entry->d_name + strlen(prefix));
		if (file_kind(name, true) == FILE_IMAGE)
			r = rebuild_image(control, name, trash, err);
	}
	if (stream)
		closedir(stream);
	return r;
}

/* The headers of all layers with this prefix; `ret_layers` is the caller's. */
static int read_layers(struct control *control, const char *prefix,
		       struct store_layer_info **ret_layers, size_t *ret_count)
{
	char dir[PATH_BYTES], path[PATH_BYTES + NAME_MAX + 2], name[NAME_MAX + 1];
	struct store_layer_info *layers = NULL, *grown;
	struct store_error err = {""};
	const struct dirent *entry;
	size_t count = 0;
	DIR *stream;
	int r = 0;

	(void)snprintf(dir, sizeof(dir), "%s/layers", control->state_dir);
	stream = opendir(dir);
	while (stream && (entry = readdir(stream))) {
		if (strcmp(file_prefix(entry->d_name), prefix) != 0)
			continue;
		(void)snprintf(name, sizeof(name), "%s", entry->d_name + strlen(prefix));
		if (name[0] == '.' || file_kind(name, false) != FILE_LAYER)
			continue;
		grown = realloc(layers, (count + 1) * sizeof(*layers));
		if (!grown) {
			r = -ENOMEM;
			break;
		}
		layers = grown;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (store_layer_info(path, &layers[count], &err) < 0)
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

/* --- chains --- */

static bool stands_on(const struct store_layer_info *child, const struct store_layer_info *layer)
{
	return child != layer && child->parent_kind == STORE_PARENT_LAYER &&
	       store_layer_is_parent(layer, &child->parent_uuid);
}

static bool is_tip(const struct found *found, const struct store_layer_info *layer)
{
	for (size_t i = 0; i < found->layer_count; i++) {
		if (stands_on(&found->layers[i], layer))
			return false;
	}
	return true;
}

/* The merged one before the one that it stands for. */
static const struct store_layer_info *find_parent(const struct found *found,
						  const struct store_layer_info *child)
{
	const struct store_layer_info *parent = NULL;

	for (size_t i = 0; i < found->layer_count; i++) {
		const struct store_layer_info *layer = &found->layers[i];

		if (stands_on(child, layer) && (!parent || !no_uuid(&layer->stands_for)))
			parent = layer;
	}
	return parent;
}

static struct layer as_layer(const struct store_layer_info *info,
			     const struct store_layer_info *above)
{
	struct layer layer = {.uuid = info->uuid, .sealed = info->sealed};

	/* It was sealed when the next one was made. */
	layer.created = above ? above->created_s : info->created_s;
	if (info->sealed && (info->snapshot[0] == '\0' || name_valid(info->snapshot)))
		(void)snprintf(layer.snapshot, sizeof(layer.snapshot), "%s", info->snapshot);
	return layer;
}

/* Down from the tip; -ENOENT if it does not come to an end. */
static int follow(const struct found *found, const struct store_layer_info *tip,
		  struct found_lun *ret_lun)
{
	const struct store_layer_info *chain[LIMIT_CHAIN_LAYERS];
	unsigned count = 0;

	for (const struct store_layer_info *l = tip; l; l = find_parent(found, l)) {
		if (count == LIMIT_CHAIN_LAYERS)
			return -ENOENT;
		chain[count++] = l;
	}
	*ret_lun = (struct found_lun){.tip = tip, .first = chain[count - 1]};
	if (ret_lun->first->parent_kind == STORE_PARENT_LAYER)
		return -ENOENT;
	ret_lun->base_kind = ret_lun->first->parent_kind;
	ret_lun->base_uuid = ret_lun->first->parent_uuid;
	ret_lun->node_uuid = tip->node_uuid;
	ret_lun->lun.uuid = no_uuid(&tip->lun_uuid) ? ret_lun->first->uuid : tip->lun_uuid;
	ret_lun->lun.number = tip->lun;
	ret_lun->lun.size_bytes = tip->size_bytes;
	ret_lun->lun.layer_count = count;
	for (unsigned i = 0; i < count; i++)
		ret_lun->lun.layers[i] =
			as_layer(chain[count - 1 - i], i + 1 < count ? chain[count - 2 - i] : NULL);
	return 0;
}

static bool is_better(const struct found_lun *a, const struct found_lun *b)
{
	if (a->tip->sealed != b->tip->sealed)
		return b->tip->sealed;
	return a->lun.layer_count > b->lun.layer_count;
}

/* One chain for each LUN. */
static int find_luns(struct control *control, struct found *found)
{
	char path[PATH_BYTES];

	found->luns = calloc(found->layer_count + 1, sizeof(*found->luns));
	if (!found->luns)
		return -ENOMEM;
	for (size_t i = 0; i < found->layer_count; i++) {
		struct found_lun *lun = &found->luns[found->lun_count];
		size_t k = 0;

		if (!is_tip(found, &found->layers[i]))
			continue;
		if (follow(found, &found->layers[i], lun) < 0) {
			layer_path(control, found->prefix, &found->layers[i].uuid, path);
			log_warn("%s is left alone: what it stands on is missing", path);
			continue;
		}
		while (k < found->lun_count && !same_uuid(&found->luns[k].lun.uuid, &lun->lun.uuid))
			k++;
		if (k == found->lun_count)
			found->lun_count++;
		else if (is_better(lun, &found->luns[k]))
			found->luns[k] = *lun;
	}
	return 0;
}

/* --- nodes --- */

/* The label, or with a number if a renamed node left it to another one. */
static bool rebuild_name(struct control *control, const char *label, bool trash,
			 char name[NAME_BYTES])
{
	const char *stem = name_valid(label) ? label : "node";

	(void)snprintf(name, NAME_BYTES, "%s", stem);
	if (trash) /* names there may repeat */
		return true;
	for (unsigned n = 2; node_find(control, name) && n < LIMIT_NODES; n++)
		(void)snprintf(name, NAME_BYTES, "%.56s-%u", stem, n);
	return node_find(control, name) == NULL;
}

/* Whether it is a further LUN of the node whose LUN 0 is `root`. */
static bool belongs_to(const struct found_lun *lun, const struct found_lun *root)
{
	if (lun->used || lun == root)
		return false;
	if (!no_uuid(&lun->node_uuid))
		return lun->lun.number > 0 && same_uuid(&lun->node_uuid, &root->node_uuid);
	return lun->base_kind == STORE_PARENT_NONE &&
	       strcmp(lun->first->label, root->first->label) == 0;
}

/* What was sealed and got no new top: it died in between. */
static int top_make(struct control *control, const struct found *found, struct node *node,
		    struct lun *lun, const struct store_layer_info *tip, struct store_error *err)
{
	struct store_layer_info info = {
		.parent_kind = STORE_PARENT_LAYER,
		.parent_uuid = *store_layer_identity(tip),
		.parent_size_bytes = tip->size_bytes,
		.size_bytes = tip->size_bytes,
		.node_uuid = node->uuid,
		.lun_uuid = lun->uuid,
		.lun = lun->number,
	};
	struct layer *top = &lun->layers[lun->layer_count];
	char path[PATH_BYTES];
	int r;

	if (!tip->sealed || lun->layer_count == LIMIT_CHAIN_LAYERS)
		return 0;
	(void)snprintf(info.label, sizeof(info.label), "%s", node->name);
	store_uuid_generate(&info.uuid);
	layer_path(control, found->prefix, &info.uuid, path);
	/* If we die now it is found as the tip the next time. */
	r = store_layer_create(path, &info, err);
	if (r < 0)
		return r;
	*top = (struct layer){.uuid = info.uuid, .created = time(NULL)};
	lun->layers[lun->layer_count - 1].created = top->created;
	lun->layer_count++;
	control_step("rebuild-top-made");
	return 0;
}

static void add_lun(struct node *node, struct found_lun *from)
{
	struct lun *lun = &node->luns[node->lun_count];

	*lun = from->lun;
	if (no_uuid(&from->node_uuid))
		lun->number = (uint8_t)node->lun_count;
	from->used = true;
	node->lun_count++;
}

/* A name that not all of the LUNs carry, or that one carries twice, is no snapshot's (any more). */
static void settle_names(struct node *node)
{
	for (unsigned i = 0; i < node->lun_count; i++) {
		for (unsigned k = 0; k < node->luns[i].layer_count; k++) {
			char *name = node->luns[i].layers[k].snapshot;
			bool everywhere = true;

			for (unsigned j = 0; j < node->lun_count && name[0]; j++)
				everywhere &= lun_find_snapshot(&node->luns[j], name) >= 0;
			for (unsigned j = k + 1; j < node->luns[i].layer_count && name[0]; j++)
				everywhere &= strcmp(node->luns[i].layers[j].snapshot, name) != 0;
			if (!everywhere)
				name[0] = '\0';
		}
	}
}

static int rebuild_luns(struct control *control, struct found *found, struct found_lun *root,
			struct node *node, struct store_error *err)
{
	const struct store_layer_info *tips[LIMIT_LUNS_PER_NODE];
	int r = 0;

	tips[node->lun_count] = root->tip;
	add_lun(node, root);
	for (size_t i = 0; i < found->lun_count && node->lun_count < LIMIT_LUNS_PER_NODE; i++) {
		if (!belongs_to(&found->luns[i], root))
			continue;
		tips[node->lun_count] = found->luns[i].tip;
		add_lun(node, &found->luns[i]);
	}
	for (unsigned pass = 0; pass < node->lun_count;
	     pass++) /* those below may have fallen out */
		settle_names(node);
	for (unsigned i = 0; r == 0 && i < node->lun_count; i++)
		r = top_make(control, found, node, &node->luns[i], tips[i], err);
	return r;
}

static int rebuild_node(struct control *control, struct found *found, struct found_lun *root,
			struct store_error *err)
{
	struct node *node = calloc(1, sizeof(*node));
	int r = -ENOMEM;

	if (!node)
		return -ENOMEM;
	node->luns = calloc(LIMIT_LUNS_PER_NODE, sizeof(*node->luns));
	if (!node->luns || !rebuild_name(control, root->tip->label, found->trash, node->name))
		goto fail;
	memcpy(node->hostname, node->name, sizeof(node->hostname));
	node->uuid = no_uuid(&root->node_uuid) ? root->lun.uuid : root->node_uuid;
	if (root->base_kind == STORE_PARENT_IMAGE)
		node->image_uuid = root->base_uuid;
	node->auth = true;
	node->created = root->first->created_s;
	node->removed = found->trash ? time(NULL) : 0;
	r = node_new_credentials(node);
	if (r == 0)
		r = rebuild_luns(control, found, root, node, err);
	if (r < 0)
		goto fail;
	r = recover_node(control, node);
	if (r < 0)
		return r;
	log_warn("node %s is back in the %s, with new credentials and the default settings: "
		 "whose Pi it is, its host name, and whether it was read-only, shared, scratch or "
		 "without CHAP is lost",
		 node->name, found->trash ? "trash" : "catalogue");
	return catalog_put_node(control->catalog, node, err);

fail:
	node_free(node);
	return r;
}

/* LUN 0: it says so, or it stands on an image. */
static bool is_root(const struct found_lun *lun)
{
	return no_uuid(&lun->node_uuid) ? lun->base_kind == STORE_PARENT_IMAGE
					: lun->lun.number == 0;
}

static int rebuild_part(struct control *control, bool trash, struct store_error *err)
{
	struct found found = {.trash = trash, .prefix = trash ? PREFIX_TRASH : ""};
	int r = rebuild_images(control, trash, err);

	if (r == 0)
		r = read_layers(control, found.prefix, &found.layers, &found.layer_count);
	if (r == 0 && !trash && (found.layer_count > 0 || control->image_count > 0))
		log_warn("the catalogue is missing: rebuilding it from %u images and %zu layers",
			 control->image_count, found.layer_count);
	if (r == 0)
		r = find_luns(control, &found);
	for (size_t i = 0; r == 0 && i < found.lun_count; i++) {
		if (!found.luns[i].used && is_root(&found.luns[i]))
			r = rebuild_node(control, &found, &found.luns[i], err);
	}
	free(found.layers);
	free(found.luns);
	return r;
}

int rebuild(struct control *control, struct store_error *err)
{
	int r = rebuild_part(control, false, err);

	if (r == 0)
		r = rebuild_part(control, true, err);
	control_step("recover-rebuilt");
	if (r == 0)
		return catalog_commit(control->catalog, err);
	catalog_rollback(control->catalog);
	return r;
}
