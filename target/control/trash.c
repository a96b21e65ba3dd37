/*
 * The trash: what was removed stays for a time, with its data, names and credentials, and can be
 * brought back. Its name is free at once.
 *
 *   to the trash   FILE becomes .trash-FILE | transaction |
 *   undo                                    | transaction | .trash-FILE becomes FILE
 *   for good       .trash-FILE becomes .rm-FILE | transaction | .rm-FILE is unlinked
 *
 * The prefix tells a rebuilt catalogue what was in the trash: there it comes back as trash, with
 * all its time before it, and never as a node that runs beside the one that took its name. An
 * image's file is called .trash-NAME.UUID.img there, since several of one name may lie in the
 * trash.
 *
 * An image goes for good only when no node in the trash stands on it. Nodes were removed before
 * their image was, so the oldest-first order sees to that; clocks may be wrong, so it is checked.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/size.h"

/* --- what is there --- */

static const store_uuid_t *trash_uuid(const struct trash *trash)
{
	return trash->node ? &trash->node->uuid : &trash->image->uuid;
}

static const char *trash_name(const struct trash *trash)
{
	return trash->node ? trash->node->name : trash->image->name;
}

static int64_t *trash_removed(const struct trash *trash)
{
	return trash->node ? &trash->node->removed : &trash->image->removed;
}

struct trash *trash_find(struct control *control, const store_uuid_t *uuid)
{
	list_for_each (pos, &control->trash) {
		struct trash *trash = LIST_ENTRY(pos, struct trash, entry);

		if (memcmp(trash_uuid(trash), uuid, sizeof(*uuid)) == 0)
			return trash;
	}
	return NULL;
}

bool trash_is_busy(const struct trash *trash)
{
	return trash->node && (trash->node->busy || trash->node->job);
}

uint64_t trash_used_bytes(const struct control *control, const struct trash *trash)
{
	char path[PATH_BYTES], name[IMAGE_FILE_BYTES];

	if (trash->node)
		return node_used_bytes(control, trash->node);
	image_file_name(trash->image, name);
	image_path(control, PREFIX_TRASH, name, path);
	return file_used_bytes(path);
}

int64_t trash_left_s(const struct control *control, const struct trash *trash)
{
	int64_t left = *trash_removed(trash) + control->trash_s - (int64_t)time(NULL);

	return left < 0 ? 0 : left;
}

/* Oldest first; those of one second in the order in which they came. */
static void trash_add(struct control *control, struct trash *trash)
{
	struct list *before = control->trash.prev;

	while (before != &control->trash &&
	       *trash_removed(LIST_ENTRY(before, struct trash, entry)) > *trash_removed(trash))
		before = before->prev;
	list_append(before->next, &trash->entry);
	control->trash_count++;
}

int trash_insert(struct control *control, struct node *node, struct image *image)
{
	struct trash *trash = calloc(1, sizeof(*trash));

	if (!trash)
		return -ENOMEM;
	trash->node = node;
	trash->image = image;
	trash_add(control, trash);
	return 0;
}

static void trash_take_out(struct control *control, struct trash *trash)
{
	list_remove(&trash->entry);
	control->trash_count--;
	free(trash);
}

void trash_free(struct control *control)
{
	list_for_each (pos, &control->trash) {
		struct trash *trash = LIST_ENTRY(pos, struct trash, entry);

		node_free(trash->node);
		free(trash->image);
		trash_take_out(control, trash);
	}
}

unsigned trash_nodes_over(struct control *control, const struct image *image)
{
	unsigned count = 0;

	list_for_each (pos, &control->trash) {
		const struct trash *trash = LIST_ENTRY(pos, struct trash, entry);

		count += trash->node &&
			 memcmp(&trash->node->image_uuid, &image->uuid, sizeof(image->uuid)) == 0;
	}
	return count;
}

/* --- transactions --- */

static int commit_if(struct control *control, int r, struct store_error *err)
{
	if (r == 0)
		return catalog_commit(control->catalog, err);
	catalog_rollback(control->catalog);
	return r;
}

static int64_t now_s(void)
{
	int64_t now = time(NULL);

	return now > 0 ? now : 1; /* 0 is "not removed" */
}

/* --- to the trash --- */

static bool may_go(struct control *control, const struct trash *trash)
{
	return trash->node ? !trash_is_busy(trash) : trash_nodes_over(control, trash->image) == 0;
}

/* There is always room for another: the oldest goes. */
static void make_place(struct control *control)
{
	struct api_error err;

	list_for_each (pos, &control->trash) {
		struct trash *trash = LIST_ENTRY(pos, struct trash, entry);

		if (control->trash_count < LIMIT_TRASH)
			return;
		if (may_go(control, trash))
			(void)trash_purge(control, trash, "the trash is full", &err);
	}
}

static int commit_node(struct control *control, struct node *node, struct store_error *err)
{
	int r = catalog_begin(control->catalog, err);

	return r < 0 ? r : commit_if(control, catalog_trash_node(control->catalog, node, err), err);
}

static int commit_image(struct control *control, struct image *image, struct store_error *err)
{
	int r = catalog_begin(control->catalog, err);

	return r < 0 ? r
		     : commit_if(control, catalog_trash_image(control->catalog, image, err), err);
}

int trash_node(struct control *control, struct node *node, struct api_error *api_err)
{
	struct trash *trash = calloc(1, sizeof(*trash));
	struct store_error err = {""};
	int r;

	if (!trash)
		return api_error_world(api_err, -ENOMEM, "trash");
	make_place(control);
	control_step("trash-begin");
	r = node_layers_move(control, node, "", PREFIX_TRASH);
	if (r == 0 && !MUTANT(trashed_node_unsynced))
		r = folder_sync(control, "layers");
	node->removed = now_s();
	if (r == 0)
		r = commit_node(control, node, &err);
	control_step("trash-committed");
	if (r < 0) {
		node->removed = 0;
		if (r != -EUCLEAN)
			(void)node_layers_move(control, node, PREFIX_TRASH, "");
		free(trash);
		api_error_world(api_err, r, err.text[0] ? err.text : "the node's layers");
		return r;
	}
	boot_cred_drop_unused(node); /* as the transaction did */
	node_take_out(control, node);
	trash->node = node;
	trash_add(control, trash);
	return 0;
}

int trash_image(struct control *control, struct image *image, struct api_error *api_err)
{
	struct trash *trash = calloc(1, sizeof(*trash));
	struct store_error err = {""};
	char name[IMAGE_FILE_BYTES];
	int r;

	if (!trash)
		return api_error_world(api_err, -ENOMEM, "trash");
	make_place(control);
	control_step("trash-begin");
	image->removed = now_s();
	image_file_name(image, name);
	r = image_files_move(control, "", image->name, PREFIX_TRASH, name);
	if (r == 0 || r == -ENOENT) /* lost: there is nothing to keep but its name */
		r = MUTANT(trashed_image_unsynced) ? 0 : folder_sync(control, "images");
	if (r == 0)
		r = commit_image(control, image, &err);
	control_step("trash-committed");
	if (r < 0) {
		image->removed = 0;
		if (r != -EUCLEAN)
			(void)image_files_return(control, "", image->name, PREFIX_TRASH, name);
		free(trash);
		api_error_world(api_err, r, err.text[0] ? err.text : "the image's file");
		return r;
	}
	image_take_out(control, image);
	trash->image = image;
	trash_add(control, trash);
	return 0;
}

/* --- undo --- */

/* Its Pi and address may have been given to other nodes meanwhile: then it comes back without. */
static void leave_to_others(struct control *control, struct node *node)
{
	const struct node *other = node_of_address(control, node->address, node);

	if (other) {
		log_warn("node %s: its address %s belongs to node %s now", node->name,
			 node->address, other->name);
		node->address[0] = '\0';
	}
	other = node_of_pi(control, node->serial, node->mac, node);
	if (!other)
		return;
	log_warn("node %s: its Pi (serial %s, MAC %s) belongs to node %s now; give it another with "
		 "lunctl assign",
		 node->name, node->serial[0] ? node->serial : "-", node->mac[0] ? node->mac : "-",
		 other->name);
	node->serial[0] = node->mac[0] = '\0';
}

int trash_undo_node(struct control *control, struct trash *trash, const char *name,
		    struct api_error *api_err)
{
	struct store_error err = {""};
	struct node *node = trash->node, before = *node;
	int r;

	control_step("undo-begin");
	node->removed = 0;
	node_call(node, name);
	leave_to_others(control, node);
	if (MUTANT(undo_node_moved_early))
		(void)node_layers_move(control, node, PREFIX_TRASH, "");
	r = catalog_begin(control->catalog, &err);
	if (r == 0)
		r = commit_if(control, catalog_undo_node(control->catalog, node, &err), &err);
	if (r < 0) {
		*node = before;
		explicit_bzero(&before, sizeof(before));
		api_error_world(api_err, r, err.text);
		return r;
	}
	explicit_bzero(&before, sizeof(before));
	control_step("undo-committed");
	trash_take_out(control, trash);
	(void)node_insert(control, node); /* the caller has seen that there is room */
	r = node_layers_move(control, node, PREFIX_TRASH, "");
	if (r < 0) /* serving it will say what is missing; the next start moves them */
		log_error("node %s: its layers can't get their names back: %s", node->name,
			  strerror(-r));
	control_step("undo-done");
	return 0;
}

int trash_undo_image(struct control *control, struct trash *trash, const char *name,
		     struct api_error *api_err)
{
	char file[IMAGE_FILE_BYTES], old_name[NAME_BYTES];
	struct image *image = trash->image;
	struct store_error err = {""};
	int64_t removed = image->removed;
	int r;

	image_file_name(image, file);
	memcpy(old_name, image->name, sizeof(old_name));
	control_step("undo-begin");
	image->removed = 0;
	(void)snprintf(image->name, sizeof(image->name), "%s", name);
	if (MUTANT(undo_image_moved_early))
		(void)image_files_move(control, PREFIX_TRASH, file, "", image->name);
	r = catalog_begin(control->catalog, &err);
	if (r == 0)
		r = commit_if(control, catalog_undo_image(control->catalog, image, &err), &err);
	if (r < 0) {
		image->removed = removed;
		memcpy(image->name, old_name, sizeof(image->name));
		api_error_world(api_err, r, err.text);
		return r;
	}
	control_step("undo-committed");
	trash_take_out(control, trash);
	(void)image_insert(control, image); /* the caller has seen that there is room */
	r = image_files_move(control, PREFIX_TRASH, file, "", image->name);
	if (r < 0)
		log_error("image %s: its file can't get its name back: %s", image->name,
			  strerror(-r));
	control_step("undo-done");
	return 0;
}

/* --- for good --- */

int trash_purge(struct control *control, struct trash *trash, const char *why,
		struct api_error *err)
{
	uint64_t bytes = trash_used_bytes(control, trash);
	const char *kind = trash->node ? "node" : "image";
	char name[NAME_BYTES], size[SIZE_TEXT_BYTES];
	int r;

	(void)snprintf(name, sizeof(name), "%s", trash_name(trash));
	r = trash->node ? node_delete(control, trash->node, err)
			: image_remove(control, trash->image, err);
	if (r < 0) {
		log_error("trash: %s %s can't be removed: %s", kind, name, err->message);
		return r;
	}
	trash_take_out(control, trash);
	log_info("trash: %s %s (%s) is removed for good: %s", kind, name, size_format(bytes, size),
		 why);
	return 0;
}

/* What is over its time. */
static void expire(struct control *control)
{
	int64_t now = now_s();
	struct api_error err;

	list_for_each (pos, &control->trash) {
		struct trash *trash = LIST_ENTRY(pos, struct trash, entry);
		int64_t *removed = trash_removed(trash);

		/* A clock that was ahead when it was removed must not keep it for years. */
		if (*removed > now)
			*removed = now;
		if (now - *removed >= control->trash_s && may_go(control, trash))
			(void)trash_purge(control, trash, "its time is over", &err);
	}
}

/* Without a reserve, too, trash makes place for what nodes write. */
static bool wants_place(const struct space *space)
{
	return space_is_short(space) || space->free_bytes < space->total_bytes / 100;
}

/* The oldest first, until there is enough. Some file systems give space back later than they say
 * that a file is gone; then the next look decides whether more must go. */
static void evict(struct control *control)
{
	struct space before, space;
	struct api_error err;

	list_for_each (pos, &control->trash) {
		struct trash *trash = LIST_ENTRY(pos, struct trash, entry);
		uint64_t bytes = trash_used_bytes(control, trash);

		if (space_read(control, &before) < 0 || !wants_place(&before))
			return;
		if (!may_go(control, trash) ||
		    trash_purge(control, trash, "less than the reserve is free", &err) < 0)
			continue;
		if (space_read(control, &space) < 0 ||
		    space.free_bytes < before.free_bytes + bytes / 2)
			return;
	}
}

void trash_look(struct control *control)
{
	expire(control);
	evict(control);
}

/* --- JSON --- */

static json_t *reply_item(const struct control *control, const struct trash *trash)
{
	const struct node *node = trash->node;
	uint64_t size = node ? 0 : trash->image->size_bytes;

	for (unsigned i = 0; node && i < node->lun_count; i++)
		size += node->luns[i].size_bytes;
	return json_pack("{s:o, s:s, s:s, s:I, s:I, s:o, s:o, s:I}", "id",
			 reply_uuid(trash_uuid(trash)), "kind", node ? "node" : "image", "name",
			 trash_name(trash), "size_bytes", (json_int_t)size, "used_bytes",
			 (json_int_t)trash_used_bytes(control, trash), "removed",
			 reply_time(*trash_removed(trash)), "until",
			 reply_time(*trash_removed(trash) + control->trash_s), "left_s",
			 (json_int_t)trash_left_s(control, trash));
}

json_t *reply_trash(const struct control *control)
{
	json_t *items = json_array();

	list_for_each (pos, &control->trash)
		json_array_append_new(items,
				      reply_item(control, LIST_ENTRY(pos, struct trash, entry)));
	return json_pack("{s:o}", "trash", items);
}

json_t *reply_removed(const struct control *control, json_t *removed, uint64_t freed_bytes,
		      uint64_t kept_bytes, bool kept, bool dry_run)
{
	json_t *keeping = kept ? json_pack("{s:I, s:o, s:I}", "used_bytes", (json_int_t)kept_bytes,
					   "until", reply_time(now_s() + control->trash_s),
					   "left_s", (json_int_t)control->trash_s)
			       : json_null();

	return json_pack("{s:o, s:I, s:o, s:b}", "removed", removed, "frees_bytes",
			 (json_int_t)freed_bytes, "kept", keeping, "dry_run", (int)dry_run);
}
