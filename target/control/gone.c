/*
 * Files of served nodes that are no longer where they were opened: removed, moved away, or others
 * put in their place. What they hold can be read until they are closed, so nothing may close them
 * before somebody has copied it.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

static struct file_id id_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return (struct file_id){0};
	return (struct file_id){.device = st.st_dev, .inode = st.st_ino};
}

bool file_is(const char *path, const struct file_id *id)
{
	struct file_id now = id_of(path);

	return id->inode == 0 || (now.device == id->device && now.inode == id->inode);
}

static bool has_image(const struct node *node, const struct lun *lun)
{
	return lun->number == 0 && !node_is_flat(node);
}

void gone_note(struct control *control, struct node *node)
{
	const struct image *image = image_find_uuid(control, &node->image_uuid);
	char path[PATH_BYTES];

	node->gone = false;
	node->image_id = (struct file_id){0};
	if (image) {
		image_path(control, "", image->name, path);
		node->image_id = id_of(path);
	}
	for (unsigned i = 0; i < node->lun_count; i++) {
		for (unsigned j = 0; j < node->luns[i].layer_count; j++) {
			struct layer *layer = &node->luns[i].layers[j];

			layer_path(control, "", &layer->uuid, path);
			layer->id = id_of(path);
		}
	}
}

/* Of the lowest `layer_count` layers and what they stand on. */
static bool lun_is_gone(struct control *control, const struct node *node, const struct lun *lun,
			unsigned layer_count, char ret_path[PATH_BYTES])
{
	const struct image *image =
		has_image(node, lun) ? image_find_uuid(control, &node->image_uuid) : NULL;

	if (image) {
		image_path(control, "", image->name, ret_path);
		if (!file_is(ret_path, &node->image_id))
			return true;
	}
	for (unsigned i = 0; i < layer_count; i++) {
		layer_path(control, "", &lun->layers[i].uuid, ret_path);
		if (!file_is(ret_path, &lun->layers[i].id))
			return true;
	}
	return false;
}

const struct lun *gone_look(struct control *control, const struct node *node,
			    char ret_path[PATH_BYTES])
{
	for (unsigned i = 0; i < node->lun_count && node->served; i++) {
		const struct lun *lun = &node->luns[i];

		if (lun_is_gone(control, node, lun, lun->layer_count, ret_path))
			return lun;
	}
	return NULL;
}

void gone_cure(const char *name, unsigned lun, char ret_cure[GONE_CURE_BYTES])
{
	char number[16] = "";

	if (lun > 0)
		(void)snprintf(number, sizeof(number), " %u", lun);
	(void)snprintf(ret_cure, GONE_CURE_BYTES,
		       "move it back; or copy its data now, with the node shut down: qemu-img "
		       "convert -f raw \"$(lunctl url %s%s)\" FILE, then stop lunrootd",
		       name, number);
}

static int refuse(const struct node *node, const struct lun *lun, const char *path,
		  struct api_error *err)
{
	char cure[GONE_CURE_BYTES];

	gone_cure(node->name, lun->number, cure);
	return api_error_set(err, 409, "damaged", cure, GONE_TEXT, path, node->name);
}

int gone_refuse(struct control *control, const struct node *node, struct api_error *err)
{
	char path[PATH_BYTES];
	const struct lun *lun = gone_look(control, node, path);

	return lun ? refuse(node, lun, path, err) : 0;
}

int gone_refuse_lun(struct control *control, const struct node *node, const struct lun *lun,
		    unsigned layer_count, struct api_error *err)
{
	char path[PATH_BYTES];

	return node->served && lun_is_gone(control, node, lun, layer_count, path)
		       ? refuse(node, lun, path, err)
		       : 0;
}

void gone_watch(struct control *control)
{
	char path[PATH_BYTES];

	for (unsigned i = 0; i < control->node_count; i++) {
		struct node *node = control->nodes[i];
		bool was = node->gone;

		if (node->busy)
			continue; /* its files may be moving */
		node->gone = gone_look(control, node, path) != NULL;
		if (node->gone && !was)
			log_error(GONE_TEXT, path, node->name);
		else if (was && node->served && !node->gone)
			log_info("node %s: its files are where they were again", node->name);
	}
}
