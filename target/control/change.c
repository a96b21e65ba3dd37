/*
 * A node's layers change: tops are sealed and get new ones, layers go, or one takes the place of
 * several; all LUNs of the node at the same instant, and while it runs. The node is held still
 * only between the two bars:
 *
 *   new tops are made as .new-FILE; what goes becomes .rm-FILE
 *   | hold: commands wait, the disks are flushed and closed
 *     transaction                                             <- the old state, or the new one
 *     what has become history is sealed; .new-FILE becomes FILE; the disks are opened
 *   | resume
 *   .rm-FILE is unlinked
 *
 * Whatever fails before the transaction leaves the node on its old layers. A layer that can't be
 * sealed after it (a full disk that copies on write) leaves its LUN on its old layers too, in a
 * second transaction; LUNs that were sealed before have their new top all the same, which has the
 * same content.
 */
#include "control/control_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"

#define CURE_LIMIT "remove a snapshot that is not needed: lunctl rm NODE@SNAPSHOT"

static bool same_uuid(const store_uuid_t *a, const store_uuid_t *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

int lun_find_snapshot(const struct lun *lun, const char *name)
{
	for (unsigned i = 0; i < lun->layer_count; i++) {
		if (strcmp(lun->layers[i].snapshot, name) == 0)
			return (int)i;
	}
	return -1;
}

static const struct layer *lun_find_layer(const struct lun *lun, const store_uuid_t *uuid)
{
	for (unsigned i = 0; i < lun->layer_count; i++) {
		if (same_uuid(&lun->layers[i].uuid, uuid))
			return &lun->layers[i];
	}
	return NULL;
}

/* --- what shall be --- */

struct change *change_new(struct control *control, struct node *node)
{
	struct change *change = calloc(1, sizeof(*change));

	if (!change)
		return NULL;
	change->luns = malloc(node->lun_count * sizeof(*change->luns));
	if (!change->luns) {
		free(change);
		return NULL;
	}
	memcpy(change->luns, node->luns, node->lun_count * sizeof(*change->luns));
	change->control = control;
	change->target = node;
	change->image_uuid = node->image_uuid;
	return change;
}

void change_free(struct change *change)
{
	if (!change)
		return;
	free(change->luns);
	free(change);
}

static void put_top(struct lun *lun, uint64_t size_bytes)
{
	struct layer *top = &lun->layers[lun->layer_count++];

	memset(top, 0, sizeof(*top));
	store_uuid_generate(&top->uuid);
	top->created = time(NULL);
	lun->size_bytes = size_bytes;
}

int change_push(struct change *change, unsigned i, const char *snapshot, uint64_t size_bytes)
{
	struct lun *lun = &change->luns[i];
	struct layer *top = &lun->layers[lun->layer_count - 1];

	assert(lun->layer_count > 0);
	if (lun->layer_count == LIMIT_CHAIN_LAYERS)
		return api_error_set(&change->error, 409, "limit", CURE_LIMIT,
				     "LUN %u of node %s has %u layers, no more can be put on top",
				     (unsigned)lun->number, change->target->name, lun->layer_count);
	top->sealed = true;
	(void)snprintf(top->snapshot, sizeof(top->snapshot), "%s", snapshot);
	top->created = time(NULL);
	put_top(lun, size_bytes);
	return 0;
}

void change_cut(struct change *change, unsigned i, unsigned keep, uint64_t size_bytes)
{
	assert(keep < change->luns[i].layer_count);
	change->luns[i].layer_count = keep;
	put_top(&change->luns[i], size_bytes);
}

void change_merge(struct change *change, unsigned i, unsigned first, unsigned last,
		  const store_uuid_t *merged)
{
	struct lun *lun = &change->luns[i];

	assert(first <= last && last + 1 < lun->layer_count);
	lun->layers[first] = lun->layers[last]; /* its name and time */
	lun->layers[first].uuid = *merged;
	memmove(&lun->layers[first + 1], &lun->layers[last + 1],
		(lun->layer_count - last - 1) * sizeof(lun->layers[0]));
	lun->layer_count -= last - first;
}

/* --- files --- */

/* Runs through the layers of `luns` that are not in `others`. */
static int each_only_in(struct change *change, const struct lun *luns, const struct lun *others,
			int (*visit)(struct change *change, const store_uuid_t *uuid))
{
	for (unsigned i = 0; i < change->target->lun_count; i++) {
		for (unsigned j = 0; j < luns[i].layer_count; j++) {
			const store_uuid_t *uuid = &luns[i].layers[j].uuid;
			int r = lun_find_layer(&others[i], uuid) ? 0 : visit(change, uuid);

			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int each_new(struct change *change, int (*visit)(struct change *, const store_uuid_t *))
{
	return each_only_in(change, change->luns, change->target->luns, visit);
}

static int each_old(struct change *change, int (*visit)(struct change *, const store_uuid_t *))
{
	return each_only_in(change, change->target->luns, change->luns, visit);
}

static int layer_move(struct change *change, const store_uuid_t *uuid, const char *from,
		      const char *to)
{
	char old_path[PATH_BYTES], new_path[PATH_BYTES];
	int r;

	layer_path(change->control, from, uuid, old_path);
	layer_path(change->control, to, uuid, new_path);
	r = file_move(old_path, new_path);
	control_step("change-layer-moved");
	return r == -ENOENT ? 0 : r; /* a damaged node may lack files */
}

static int layer_set_aside(struct change *change, const store_uuid_t *uuid)
{
	return layer_move(change, uuid, "", PREFIX_RM);
}

static int layer_put_back(struct change *change, const store_uuid_t *uuid)
{
	return layer_move(change, uuid, PREFIX_RM, "");
}

static int layer_appear(struct change *change, const store_uuid_t *uuid)
{
	return layer_move(change, uuid, PREFIX_NEW, "");
}

static int layer_unlink_new(struct change *change, const store_uuid_t *uuid)
{
	char path[PATH_BYTES];

	layer_path(change->control, PREFIX_NEW, uuid, path);
	file_unlink(path);
	return 0;
}

static int layer_unlink_old(struct change *change, const store_uuid_t *uuid)
{
	char path[PATH_BYTES];

	/* The live map first: without its layer nothing would lead us to it any more. */
	store_live_map_remove(change->control->run_dir, uuid);
	control_step("change-map-removed");
	layer_path(change->control, PREFIX_RM, uuid, path);
	file_unlink(path);
	control_step("change-layer-unlinked");
	return 0;
}

/* What a new top says of what is below it. */
static int top_parent(struct change *change, const struct lun *lun, struct store_layer_info *info,
		      struct store_error *err)
{
	const struct image *image = image_find_uuid(change->control, &change->image_uuid);
	struct store_layer_info below;
	char path[PATH_BYTES];
	int r;

	if (lun->layer_count == 1 && lun->number == 0 && image) {
		info->parent_kind = STORE_PARENT_IMAGE;
		info->parent_uuid = image->uuid;
		info->parent_size_bytes = image->size_bytes;
	}
	if (lun->layer_count == 1)
		return 0;
	layer_path(change->control, "", &lun->layers[lun->layer_count - 2].uuid, path);
	r = store_layer_info(path, &below, err);
	if (r < 0)
		return r;
	info->parent_kind = STORE_PARENT_LAYER;
	info->parent_uuid = *store_layer_identity(&below);
	info->parent_size_bytes = below.size_bytes;
	return 0;
}

static int top_make(struct change *change, const struct lun *lun)
{
	const struct layer *top = &lun->layers[lun->layer_count - 1];
	struct store_layer_info info = {
		.uuid = top->uuid,
		.size_bytes = lun->size_bytes,
		.node_uuid = change->target->uuid,
		.lun_uuid = lun->uuid,
		.lun = lun->number,
	};
	struct store_error err = {""};
	char path[PATH_BYTES];
	int r = top_parent(change, lun, &info, &err);

	(void)snprintf(info.label, sizeof(info.label), "%s", change->target->name);
	layer_path(change->control, PREFIX_NEW, &top->uuid, path);
	if (r == 0)
		r = store_layer_create(path, &info, &err);
	if (r < 0)
		return api_error_world(&change->error, r, err.text[0] ? err.text : path);
	control_step("change-top-made");
	return 0;
}

static int tops_make(struct change *change)
{
	for (unsigned i = 0; i < change->target->lun_count; i++) {
		const struct lun *lun = &change->luns[i];
		int r;

		if (lun_find_layer(&change->target->luns[i],
				   &lun->layers[lun->layer_count - 1].uuid))
			continue;
		r = top_make(change, lun);
		if (r < 0)
			return r;
	}
	return 0;
}

static int there_is_one(struct change *change, const store_uuid_t *uuid)
{
	(void)change;
	(void)uuid;
	return -EEXIST;
}

/* What goes is out of the way on disk before the catalogue forgets it. */
static int old_set_aside(struct change *change)
{
	int r;

	if (each_old(change, there_is_one) == 0)
		return 0;
	r = each_old(change, layer_set_aside);
	if (r == 0 && !MUTANT(change_moves_unsynced))
		r = folder_sync(change->control, "layers");
	return r < 0 ? api_error_world(&change->error, r, "the node's layers") : 0;
}

/* Twice, since a header is written whole each time: a fault that passes does no harm. */
static int layer_seal(const char *path, const char *snapshot, struct store_error *err)
{
	int r = store_layer_seal(path, snapshot, err);

	return r < 0 ? store_layer_seal(path, snapshot, err) : r;
}

/*
 * Layers that became history and are not sealed yet; `ret_lun` is the one where it stopped.
 * -ESTALE: its header may be sealed all the same, so there is no way back, and the next start goes
 * on.
 */
static int history_seal(struct change *change, unsigned *ret_lun)
{
	struct store_layer_info info;
	struct store_error err = {""}, ignored;
	char path[PATH_BYTES];

	for (unsigned i = 0; i < change->target->lun_count; i++) {
		const struct lun *was = &change->target->luns[i];
		const struct layer *top = &was->layers[was->layer_count - 1];
		const struct layer *now = lun_find_layer(&change->luns[i], &top->uuid);
		int r;

		if (!now || !now->sealed || top->sealed)
			continue;
		/* Closing it has brought all of it to the file. */
		store_live_map_remove(change->control->run_dir, &now->uuid);
		layer_path(change->control, "", &now->uuid, path);
		r = layer_seal(path, now->snapshot, &err);
		if (r < 0) {
			*ret_lun = i;
			(void)api_error_world(&change->error, r, err.text[0] ? err.text : path);
			return store_layer_info(path, &info, &ignored) < 0 || info.sealed ? -ESTALE
											  : r;
		}
		control_step("change-sealed");
	}
	return 0;
}

void change_removal(const struct change *change, json_t *removed, uint64_t *ret_bytes)
{
	char path[PATH_BYTES];

	for (unsigned i = 0; i < change->target->lun_count; i++) {
		const struct lun *was = &change->target->luns[i];

		for (unsigned j = 0; j < was->layer_count; j++) {
			if (lun_find_layer(&change->luns[i], &was->layers[j].uuid))
				continue;
			layer_path(change->control, "", &was->layers[j].uuid, path);
			json_array_append_new(removed, json_string(path));
			*ret_bytes += file_used_bytes(path);
		}
	}
}

/* --- the catalogue --- */

static int commit(struct change *change)
{
	struct catalog *catalog = change->control->catalog;
	struct node after = *change->target;
	struct store_error err = {""};
	int r = catalog_begin(catalog, &err);

	after.luns = change->luns;
	after.image_uuid = change->image_uuid;
	if (r == 0) {
		r = catalog_update_chains(catalog, &after, &err);
		if (r == 0)
			r = catalog_commit(catalog, &err);
		else
			catalog_rollback(catalog);
	}
	if (r < 0) {
		(void)api_error_world(&change->error, r, err.text);
		return r;
	}
	control_step("change-committed");
	return 0;
}

/* LUN number `from` of the list could not be sealed: it and those after it stay as they were. */
static int commit_back(struct change *change, unsigned from)
{
	const struct api_error why = change->error;
	int r;

	for (unsigned i = 0; i < change->target->lun_count; i++) {
		const struct lun *was = &change->target->luns[i];
		struct lun *lun = &change->luns[i];
		struct layer *sealed = (struct layer *)lun_find_layer(
			lun, &was->layers[was->layer_count - 1].uuid);

		if (i < from && sealed && !was->layers[was->layer_count - 1].sealed) {
			sealed->snapshot[0] = '\0'; /* it is no snapshot without the others */
		} else if (i >= from) {
			(void)layer_unlink_new(change, &lun->layers[lun->layer_count - 1].uuid);
			*lun = *was;
		}
	}
	r = commit(change);
	change->error = why;
	return r;
}

/* --- the way --- */

static void change_end(struct change *change, int res)
{
	/* What the catalogue has forgotten goes, however the node fares. */
	if (change->taken)
		(void)each_new(change, layer_unlink_old); /* `luns` has the old ones by now */
	control_step("change-done");
	change->done(change->arg, res);
}

/* Before the transaction: the node is as it was. */
static void undo(struct change *change)
{
	(void)each_old(change, layer_put_back);
	(void)each_new(change, layer_unlink_new);
}

static void node_break(struct change *change, const char *why)
{
	struct node *node = change->target;

	node->damaged = true;
	(void)snprintf(node->message, sizeof(node->message), "%s", why);
	log_error("node %s is not served any more: %s", node->name, node->message);
}

static void on_broken(void *arg, int res)
{
	struct change *change = arg;

	(void)res;
	change->target->served = false;
	change_end(change, -EIO);
}

/* The node can't go on: its sessions end. */
static void give_up(struct change *change, const char *why)
{
	node_break(change, why);
	if (!change->error.status)
		(void)api_error_set(&change->error, 500, "io",
				    "put right what it says, then start lunrootd again",
				    "node %s is not served any more: %.400s", change->target->name,
				    why);
	if (change->target->served)
		server_target_remove(change->control->server, change->target->uuid.b, true,
				     on_broken, change);
	else
		change_end(change, -EIO);
}

/* The node runs: on new layers, or on the old ones if there is an error. */
static void on_resumed(void *arg, int res)
{
	struct change *change = arg;
	char why[STORE_ERROR_BYTES];

	change->held_us = clock_us() - change->hold_begin_us;
	control_step("change-resumed");
	if (res < 0) {
		(void)snprintf(why, sizeof(why), "the target can't go on: %s", strerror(-res));
		give_up(change, why);
		return;
	}
	change_end(change, change->error.status ? -EIO : 0);
}

static void resume(struct change *change)
{
	struct server_unit units[LIMIT_LUNS_PER_NODE];
	struct node *node = change->target;
	struct store_error err = {""};

	if (!node->served) { /* it was damaged; perhaps it is not any more */
		if (node_serve(change->control, node, on_resumed, change) < 0)
			give_up(change, node->message);
		return;
	}
	if (node_open_units(change->control, node, units, &err) < 0) {
		give_up(change, err.text);
		return;
	}
	gone_note(change->control, node);
	server_target_resume(change->control->server, node->uuid.b, units, node->lun_count,
			     on_resumed, change);
}

/* From the transaction on: the node's LUNs are the new ones. */
static void take_over(struct change *change)
{
	struct node *node = change->target;
	struct lun *was = node->luns;
	int r;

	if (change->preload)
		store_preload_moves(change->preload);
	r = each_new(change, layer_appear);
	if (change->preload)
		store_preload_moved(change->preload);
	node->luns = change->luns;
	node->image_uuid = change->image_uuid;
	change->luns = was;
	change->taken = true;
	node->merge_failed = node->merge_cancelled = false;
	if (r < 0) {
		give_up(change, "its new layers can't get their names; start lunrootd again");
		return;
	}
	control_step("change-taken-over");
	resume(change);
}

static void change_files(struct change *change)
{
	unsigned from = 0;
	int r;

	if (MUTANT(change_unlinked_early))
		(void)each_old(change, layer_unlink_old);
	if (MUTANT(change_named_early))
		(void)each_new(change, layer_appear);
	if (MUTANT(change_sealed_early))
		(void)history_seal(change, &from);
	r = commit(change);
	if (r == -EUCLEAN) {
		give_up(change, "whether the change happened is known after the next start of "
				"lunrootd");
		return;
	}
	if (r < 0) {
		undo(change);
		resume(change);
		return;
	}
	r = history_seal(change, &from);
	if (r == -ESTALE || (r < 0 && commit_back(change, from) < 0)) {
		give_up(change, "a layer can't be sealed; start lunrootd again");
		return;
	}
	take_over(change);
}

static void on_held(void *arg, int res)
{
	struct change *change = arg;
	const struct node *node = change->target;

	change->hold_begin_us = clock_us();
	if (res == 0) {
		control_step("change-held");
		change_files(change);
		return;
	}
	undo(change);
	if (res == -EBUSY && change->unused)
		(void)api_error_set(&change->error, 409, "in_use", "shut the node down first",
				    "node %s is in use: an initiator has just logged in",
				    node->name);
	else if (res == -EBUSY)
		(void)api_error_set(&change->error, 409, "busy", "try again in a moment",
				    "another operation on node %s is under way", node->name);
	else
		(void)api_error_set(&change->error, 500, "io", "see the daemon's log",
				    "the disks of node %s can't be flushed: %s", node->name,
				    strerror(-res));
	change_end(change, res);
}

void change_run(struct change *change, void (*done)(void *arg, int res), void *arg)
{
	struct node *node = change->target;
	int r;

	assert(node->busy);
	change->done = done;
	change->arg = arg;
	control_step("change-begin");
	/* Its disks would be opened again, from files that are not there. */
	r = gone_refuse(change->control, node, &change->error);
	if (r == 0)
		r = tops_make(change);
	if (r == 0)
		r = old_set_aside(change);
	if (r < 0) {
		undo(change);
		change_end(change, r);
	} else if (node->served) {
		server_target_hold(change->control->server, node->uuid.b, change->unused, on_held,
				   change);
	} else {
		on_held(change, 0);
	}
}
