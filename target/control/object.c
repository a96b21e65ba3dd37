/*
 * Images and nodes in memory, sorted by name, and the paths of their files.
 */
#include "control/control_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void (*control_step_hook)(const char *step);

/* Both lists begin with pointers to objects; where a name stands, or would. */
static unsigned image_place(const struct control *control, const char *name)
{
	unsigned low = 0, high = control->image_count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (strcmp(control->images[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static unsigned node_place(const struct control *control, const char *name)
{
	unsigned low = 0, high = control->node_count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (strcmp(control->nodes[middle]->name, name) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct image *image_find(struct control *control, const char *name)
{
	unsigned i = image_place(control, name);

	return i < control->image_count && strcmp(control->images[i]->name, name) == 0
		       ? control->images[i]
		       : NULL;
}

struct image *image_find_uuid(struct control *control, const store_uuid_t *uuid)
{
	for (unsigned i = 0; i < control->image_count; i++) {
		if (memcmp(&control->images[i]->uuid, uuid, sizeof(*uuid)) == 0)
			return control->images[i];
	}
	return NULL;
}

int image_insert(struct control *control, struct image *image)
{
	unsigned i = image_place(control, image->name);

	if (control->image_count == LIMIT_IMAGES)
		return -ENOSPC;
	memmove(&control->images[i + 1], &control->images[i],
		(control->image_count - i) * sizeof(struct image *));
	control->images[i] = image;
	control->image_count++;
	return 0;
}

void image_take_out(struct control *control, const struct image *image)
{
	unsigned i = image_place(control, image->name);

	assert(i < control->image_count && control->images[i] == image);
	control->image_count--;
	memmove(&control->images[i], &control->images[i + 1],
		(control->image_count - i) * sizeof(struct image *));
}

void image_forget(struct control *control, struct image *image)
{
	image_take_out(control, image);
	free(image);
}

void image_reinsert(struct control *control, struct image *image, const char *name)
{
	image_take_out(control, image);
	(void)snprintf(image->name, sizeof(image->name), "%s", name);
	(void)image_insert(control, image); /* there was room */
}

struct node *node_find(struct control *control, const char *name)
{
	unsigned i = node_place(control, name);

	return i < control->node_count && strcmp(control->nodes[i]->name, name) == 0
		       ? control->nodes[i]
		       : NULL;
}

struct node *node_find_uuid(struct control *control, const store_uuid_t *uuid)
{
	for (unsigned i = 0; i < control->node_count; i++) {
		if (memcmp(&control->nodes[i]->uuid, uuid, sizeof(*uuid)) == 0)
			return control->nodes[i];
	}
	return NULL;
}

int node_insert(struct control *control, struct node *node)
{
	unsigned i = node_place(control, node->name);

	if (control->node_count == LIMIT_NODES)
		return -ENOSPC;
	memmove(&control->nodes[i + 1], &control->nodes[i],
		(control->node_count - i) * sizeof(struct node *));
	control->nodes[i] = node;
	control->node_count++;
	return 0;
}

void node_take_out(struct control *control, const struct node *node)
{
	unsigned i = node_place(control, node->name);

	assert(i < control->node_count && control->nodes[i] == node);
	control->node_count--;
	memmove(&control->nodes[i], &control->nodes[i + 1],
		(control->node_count - i) * sizeof(struct node *));
}

void node_forget(struct control *control, struct node *node)
{
	node_take_out(control, node);
	node_free(node);
}

void node_free(struct node *node)
{
	if (!node)
		return;
	free(node->luns);
	explicit_bzero(node, sizeof(*node));
	free(node);
}

void objects_free(struct control *control)
{
	while (control->image_count > 0)
		free(control->images[--control->image_count]);
	while (control->node_count > 0)
		node_free(control->nodes[--control->node_count]);
}

void image_path(const struct control *control, const char *prefix, const char *name,
		char ret_path[PATH_BYTES])
{
	(void)snprintf(ret_path, PATH_BYTES, "%s/images/%s%s.img", control->state_dir, prefix,
		       name);
}

void layer_path(const struct control *control, const char *prefix, const store_uuid_t *uuid,
		char ret_path[PATH_BYTES])
{
	char text[STORE_UUID_TEXT_BYTES];

	store_uuid_format(uuid, text);
	(void)snprintf(ret_path, PATH_BYTES, "%s/layers/%s%s.cow", control->state_dir, prefix,
		       text);
}

uint64_t file_used_bytes(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}
