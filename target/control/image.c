/*
 * Operations on images: adopt what a worker has made, rename, remove. The files follow the
 * catalogue as control_internal.h says.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

void image_file_name(const struct image *image, char ret_name[IMAGE_FILE_BYTES])
{
	char uuid[STORE_UUID_TEXT_BYTES];

	store_uuid_format(&image->uuid, uuid);
	(void)snprintf(ret_name, IMAGE_FILE_BYTES, "%s%s%s", image->name, image->removed ? "." : "",
		       image->removed ? uuid : "");
}

int image_files_move(struct control *control, const char *from_prefix, const char *from,
		     const char *to_prefix, const char *to)
{
	char old_path[PATH_BYTES], new_path[PATH_BYTES], old_json[PATH_BYTES + 8],
		new_json[PATH_BYTES + 8];
	int r, s;

	image_path(control, from_prefix, from, old_path);
	image_path(control, to_prefix, to, new_path);
	(void)snprintf(old_json, sizeof(old_json), "%s.json", old_path);
	(void)snprintf(new_json, sizeof(new_json), "%s.json", new_path);
	r = file_move(old_path, new_path);
	if (r < 0 && r != -ENOENT)
		return r;
	control_step("image-moved");
	/* An image that was lost may have left its sidecar. */
	s = file_move(old_json, new_json);
	if (s < 0 && s != -ENOENT)
		return s;
	control_step("sidecar-moved");
	return r;
}

/* 0 if it is back, or never went: then its old place is taken, or the new one empty. */
static int file_return(const char *from, const char *to)
{
	int r = file_move(from, to);

	return r == -ENOENT || r == -EEXIST ? 0 : r;
}

int image_files_return(struct control *control, const char *from_prefix, const char *from,
		       const char *to_prefix, const char *to)
{
	char old_path[PATH_BYTES], new_path[PATH_BYTES], old_json[PATH_BYTES + 8],
		new_json[PATH_BYTES + 8];
	int r, s;

	image_path(control, from_prefix, from, old_path);
	image_path(control, to_prefix, to, new_path);
	(void)snprintf(old_json, sizeof(old_json), "%s.json", old_path);
	(void)snprintf(new_json, sizeof(new_json), "%s.json", new_path);
	r = file_return(new_path, old_path);
	s = file_return(new_json, old_json);
	return r < 0 ? r : s;
}

static void image_files_unlink(struct control *control, const char *prefix, const char *name)
{
	char path[PATH_BYTES], json[PATH_BYTES + 8];

	image_path(control, prefix, name, path);
	(void)snprintf(json, sizeof(json), "%s.json", path);
	file_unlink(path);
	control_step("image-unlinked");
	file_unlink(json);
}

int image_adopt(struct control *control, const struct image *made, struct api_error *api_err)
{
	struct store_error err = {""};
	struct image *image = malloc(sizeof(*image));
	int r;

	if (!image)
		return api_error_world(api_err, -ENOMEM, "image");
	*image = *made;
	r = image_insert(control, image);
	if (r < 0) {
		free(image);
		return api_error_set(api_err, 409, "limit", "remove images that are not needed",
				     "there are %u images, no more can be made", LIMIT_IMAGES);
	}
	control_step("adopt-begin");
	if (MUTANT(image_named_early))
		(void)image_files_move(control, PREFIX_NEW, image->name, "", image->name);
	r = catalog_put_image(control->catalog, image, &err);
	if (r < 0) {
		image_forget(control, image);
		if (r != -EUCLEAN)
			image_files_unlink(control, PREFIX_NEW, made->name);
		api_error_world(api_err, r, err.text);
		return r;
	}
	control_step("adopt-committed");
	r = image_files_move(control, PREFIX_NEW, image->name, "", image->name);
	if (MUTANT(image_named_early))
		r = 0;
	if (r < 0) /* it is in the catalogue: the next start gives the files their names */
		return api_error_world(api_err, r, "the image's file can't get its name");
	control_step("adopt-done");
	return 0;
}

/* With the note still there the next start finishes what can't be taken back now. */
static int rename_undo(struct control *control, const struct image *image, const char *name,
		       int error, struct api_error *api_err)
{
	struct store_error err = {""};
	int r = image_files_return(control, "", image->name, "", name);

	if (r == 0 && !MUTANT(rename_undo_unsynced))
		r = folder_sync(control, "images");
	if (r == 0)
		r = catalog_rename_image(control->catalog, &image->uuid, image->name, NULL, &err);
	if (r < 0)
		log_error("image %s is half renamed to %s, the next start finishes that: %s",
			  image->name, name, err.text[0] ? err.text : strerror(-r));
	return api_error_world(api_err, error, "the image's file");
}

int image_rename(struct control *control, struct image *image, const char *name,
		 struct api_error *api_err)
{
	struct store_error err = {""};
	char old_name[NAME_BYTES];
	int r;

	memcpy(old_name, image->name, sizeof(old_name));
	control_step("image-rename-begin");
	r = catalog_rename_image(control->catalog, &image->uuid, name,
				 MUTANT(rename_unnoted) ? NULL : old_name, &err);
	if (r < 0) {
		api_error_world(api_err, r, err.text);
		return r;
	}
	control_step("image-rename-committed");
	r = image_files_move(control, "", old_name, "", name);
	if (r == 0 && !MUTANT(rename_unsynced))
		r = folder_sync(control, "images");
	if (r < 0)
		return rename_undo(control, image, name, r, api_err);
	/* If this fails the note stays, and the next start sees that there is nothing to do. */
	if (catalog_rename_image(control->catalog, &image->uuid, name, NULL, &err) < 0)
		log_warn("image %s: %s", name, err.text);
	control_step("image-rename-done");
	image_reinsert(control, image, name);
	return 0;
}

int image_check_unused(struct control *control, const struct image *image, struct api_error *err)
{
	char names[256] = "";
	unsigned count = 0;
	size_t used = 0;

	for (unsigned i = 0; i < control->node_count; i++) {
		const struct node *node = control->nodes[i];

		if (memcmp(&node->image_uuid, &image->uuid, sizeof(image->uuid)) != 0)
			continue;
		count++;
		if (used + strlen(node->name) + 8 < sizeof(names))
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
						 used ? ", " : "", node->name);
	}
	if (count == 0)
		return 0;
	return api_error_set(err, 409, "in_use", "remove the nodes first",
			     "image %s is the base of %u node%s: %s", image->name, count,
			     count == 1 ? "" : "s", names);
}

int image_check_purgeable(struct control *control, const struct image *image, struct api_error *err)
{
	unsigned count = trash_nodes_over(control, image);

	if (count == 0)
		return 0;
	return api_error_set(
		err, 409, "in_use",
		"put it in the trash too, where it stays as long as they do, or remove "
		"them first: lunctl rm --trash NAME",
		"image %s is the base of %u node%s in the trash (lunctl ls --trash)", image->name,
		count, count == 1 ? "" : "s");
}

void image_removal(struct control *control, const struct image *image, json_t *removed,
		   uint64_t *ret_bytes)
{
	char path[PATH_BYTES], name[IMAGE_FILE_BYTES];

	image_file_name(image, name);
	image_path(control, image->removed ? PREFIX_TRASH : "", name, path);
	json_array_append_new(removed, json_sprintf("image %s", image->name));
	json_array_append_new(removed, json_string(path));
	*ret_bytes = file_used_bytes(path);
}

int image_remove(struct control *control, struct image *image, struct api_error *api_err)
{
	const char *prefix = image->removed ? PREFIX_TRASH : "";
	struct store_error err = {""};
	char name[IMAGE_FILE_BYTES];
	int r;

	image_file_name(image, name);
	control_step("image-delete-begin");
	r = image_files_move(control, prefix, name, PREFIX_RM, name);
	if (r == 0 || r == -ENOENT)
		r = MUTANT(image_removal_unsynced) ? 0 : folder_sync(control, "images");
	if (MUTANT(image_unlinked_early))
		image_files_unlink(control, PREFIX_RM, name);
	if (r < 0) {
		(void)image_files_return(control, prefix, name, PREFIX_RM, name);
		return api_error_world(api_err, r, name);
	}
	r = catalog_delete_image(control->catalog, &image->uuid, &err);
	if (r < 0) {
		if (r != -EUCLEAN)
			(void)image_files_return(control, prefix, name, PREFIX_RM, name);
		api_error_world(api_err, r, err.text);
		return r;
	}
	control_step("image-delete-committed");
	image_files_unlink(control, PREFIX_RM, name);
	control_step("image-delete-done");
	if (!image->removed)
		image_take_out(control, image);
	free(image);
	return 0;
}
