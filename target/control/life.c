/*
 * The life of a disk: snapshot, rollback, reset, resize, and the jobs flatten, promote and export.
 * Here is decided what may be done and what the layers shall be; change.c makes them so.
 *
 * A snapshot of a node is the name that one sealed layer of each of its LUNs carries: that layer
 * and all below it. A sealed layer without a name is only history; merge.c takes care of it.
 */
#include "control/control_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define CURE_LS    "lunctl show NODE lists its snapshots"
#define CURE_FORCE "remove them first, or use --force to lose them with what they hold"
#define CURE_FLAT  "remove the snapshots first: lunctl rm NODE@SNAPSHOT"

static int no_memory(struct operation *op)
{
	return api_error_world(&op->error, -ENOMEM, op->target->name);
}

static int change_begin(struct operation *op)
{
	op->change = change_new(op->control, op->target);
	return op->change ? 0 : no_memory(op);
}

/* Its layers are open: what is written to it is in them, once they are flushed. */
static int check_served(struct operation *op)
{
	if (op->target->served && !op->target->damaged)
		return 0;
	return api_error_set(&op->error, 409, "damaged",
			     "put right what lunctl show says of it, then start lunrootd again",
			     "node %s is not served: %.300s", op->target->name,
			     op->target->message);
}

static int no_snapshot(struct operation *op)
{
	return api_error_set(&op->error, 404, "not_found", CURE_LS, "node %s has no snapshot %s",
			     op->target->name, op->call.snapshot);
}

static bool has_snapshot(const struct node *node, const char *name)
{
	for (unsigned i = 0; i < node->lun_count; i++) {
		if (lun_find_snapshot(&node->luns[i], name) >= 0)
			return true;
	}
	return false;
}

static int find_lun(struct operation *op, unsigned *ret_index)
{
	for (unsigned i = 0; i < op->target->lun_count; i++) {
		if (op->target->luns[i].number == op->call.lun) {
			*ret_index = i;
			return 0;
		}
	}
	return api_error_set(&op->error, 404, "not_found", "lunctl show lists its LUNs",
			     "node %s has no LUN %u", op->target->name, (unsigned)op->call.lun);
}

/* Names of LUN number `i` of the list from layer `from` on: how many, and the first few. */
static unsigned list_snapshots(const struct lun *lun, unsigned from, char *names, size_t bytes)
{
	unsigned count = 0;
	size_t used = 0;

	names[0] = '\0';
	for (unsigned i = from; i < lun->layer_count; i++) {
		const char *name = lun->layers[i].snapshot;

		if (name[0] == '\0')
			continue;
		count++;
		if (used + strlen(name) + 8 < bytes)
			used += (size_t)snprintf(names + used, bytes - used, "%s%s",
						 used ? ", " : "", name);
	}
	return count;
}

/* --- changes that end with the node as it is then --- */

static void on_changed(void *arg, int res)
{
	struct operation *op = arg;

	if (res < 0) {
		op->error = op->change->error;
		operation_fail(op);
		return;
	}
	log_info("node %s: %s, held for %.1f ms", op->target->name,
		 op->call.op == API_SNAPSHOT_MAKE   ? op->call.snapshot
		 : op->call.op == API_NODE_ROLLBACK ? "rolled back"
		 : op->call.op == API_NODE_RESET    ? "reset"
						    : "resized",
		 (double)op->change->held_us / 1000.0);
	server_stats(op->control->server, operation_show_node, op);
}

static void change_start(struct operation *op)
{
	if (op->call.dry_run)
		server_stats(op->control->server, operation_show_node, op);
	else
		change_run(op->change, on_changed, op);
}

/* --- snapshot --- */

static int plan_snapshot(struct operation *op)
{
	const struct node *node = op->target;
	int r = check_served(op);

	if (r < 0)
		return r;
	if (has_snapshot(node, op->call.snapshot))
		return api_error_set(&op->error, 409, "exists",
				     "choose another name, or remove it: lunctl rm NODE@SNAPSHOT",
				     "node %s has a snapshot %s already", node->name,
				     op->call.snapshot);
	r = change_begin(op);
	for (unsigned i = 0; r == 0 && i < node->lun_count; i++) {
		r = change_push(op->change, i, op->call.snapshot, node->luns[i].size_bytes);
		if (r < 0)
			op->error = op->change->error;
	}
	op->created = true;
	return r;
}

/* --- resize --- */

static int plan_resize(struct operation *op)
{
	const struct lun *lun;
	unsigned i = 0;
	int r = check_served(op);

	if (r == 0)
		r = find_lun(op, &i);
	if (r < 0)
		return r;
	lun = &op->target->luns[i];
	if (op->call.size_bytes < lun->size_bytes)
		return api_error_set(&op->error, 400, "invalid",
				     "clone a smaller node, and copy what it shall keep",
				     "LUN %u of node %s has %llu bytes, and a disk can't shrink",
				     (unsigned)lun->number, op->target->name,
				     (unsigned long long)lun->size_bytes);
	if (op->call.size_bytes == lun->size_bytes)
		return api_error_set(&op->error, 400, "invalid", "choose a larger size",
				     "LUN %u of node %s is that large already",
				     (unsigned)lun->number, op->target->name);
	r = change_begin(op);
	if (r == 0) {
		r = change_push(op->change, i, "", op->call.size_bytes);
		if (r < 0)
			op->error = op->change->error;
	}
	return r;
}

/* --- rollback and reset: the node is not in use --- */

static int layer_size(struct operation *op, const struct layer *layer, uint64_t *ret_bytes)
{
	struct store_layer_info info;
	struct store_error err = {""};
	char path[PATH_BYTES];
	int r;

	layer_path(op->control, "", &layer->uuid, path);
	r = store_layer_info(path, &info, &err);
	if (r < 0)
		return api_error_world(&op->error, r, err.text);
	*ret_bytes = info.size_bytes;
	return 0;
}

static int plan_rollback(struct operation *op)
{
	const struct node *node = op->target;
	const char *snapshot = op->call.snapshot;
	char names[200];
	int r = 0;

	if (!has_snapshot(node, snapshot))
		return no_snapshot(op);
	r = change_begin(op);
	op->removed = json_array();
	for (unsigned i = 0; r == 0 && i < node->lun_count; i++) {
		const struct lun *lun = &node->luns[i];
		int place = lun_find_snapshot(lun, snapshot);
		uint64_t size = 0;
		unsigned newer;

		if (place < 0)
			return api_error_set(&op->error, 409, "damaged",
					     "export what it has: lunctl export NODE FILE",
					     "LUN %u of node %s has no snapshot %s",
					     (unsigned)lun->number, node->name, snapshot);
		newer = list_snapshots(lun, (unsigned)place + 1, names, sizeof(names));
		if (newer > 0 && !op->call.force)
			return api_error_set(&op->error, 409, "in_use", CURE_FORCE,
					     "node %s has %u newer snapshot%s: %s", node->name,
					     newer, newer == 1 ? "" : "s", names);
		for (unsigned k = (unsigned)place + 1; i == 0 && k < lun->layer_count; k++) {
			if (lun->layers[k].snapshot[0])
				json_array_append_new(op->removed,
						      json_sprintf("snapshot %s@%s", node->name,
								   lun->layers[k].snapshot));
		}
		/* Its size goes back with what is on it. */
		r = layer_size(op, &lun->layers[place], &size);
		if (r == 0)
			change_cut(op->change, i, (unsigned)place + 1, size);
	}
	return r;
}

static int plan_reset(struct operation *op)
{
	const struct node *node = op->target;
	char names[200];
	unsigned count = list_snapshots(&node->luns[0], 0, names, sizeof(names));
	int r;

	if (node_is_flat(node))
		return api_error_set(&op->error, 409, "no_image",
				     "roll back to a snapshot, or clone a node from an image",
				     "node %s was flattened: there is no image to reset it to",
				     node->name);
	if (count > 0 && !op->call.force)
		return api_error_set(&op->error, 409, "in_use", CURE_FORCE,
				     "node %s has %u snapshot%s: %s", node->name, count,
				     count == 1 ? "" : "s", names);
	r = change_begin(op);
	if (r < 0)
		return r;
	op->removed = json_array();
	for (unsigned k = 0; k < node->luns[0].layer_count; k++) {
		const char *name = node->luns[0].layers[k].snapshot;

		if (name[0])
			json_array_append_new(op->removed,
					      json_sprintf("snapshot %s@%s", node->name, name));
	}
	/* Without LUN 0's part they are no snapshots of the node any more. */
	for (unsigned i = 1; i < node->lun_count; i++) {
		for (unsigned k = 0; k < node->luns[i].layer_count; k++)
			op->change->luns[i].layers[k].snapshot[0] = '\0';
	}
	change_cut(op->change, 0, 0, node->luns[0].size_bytes);
	return 0;
}

static void on_stats_unused(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;
	int r = operation_check_unused(op, stats, "shut the node down first");

	if (r == 0)
		r = operation_check_read(op);
	if (r == 0)
		r = op->call.op == API_NODE_RESET ? plan_reset(op) : plan_rollback(op);
	if (r < 0) {
		operation_fail(op);
		return;
	}
	op->change->unused = true;
	change_removal(op->change, op->removed, &op->frees_bytes);
	change_start(op);
}

/* --- removal of a snapshot --- */

/* Its name goes; its layers are merged by and by. */
static int forget_name(struct operation *op)
{
	struct node after = *op->target;
	struct store_error err = {""};
	char path[PATH_BYTES];
	int r = catalog_begin(op->control->catalog, &err);

	after.luns = op->change->luns;
	control_step("snapshot-rm-begin");
	if (r == 0) {
		r = catalog_update_chains(op->control->catalog, &after, &err);
		if (r == 0)
			r = catalog_commit(op->control->catalog, &err);
		else
			catalog_rollback(op->control->catalog);
	}
	if (r < 0)
		return api_error_world(&op->error, r, err.text);
	control_step("snapshot-rm-committed");
	for (unsigned i = 0; i < op->target->lun_count; i++) {
		struct lun *lun = &op->target->luns[i];
		int place = lun_find_snapshot(lun, op->call.snapshot);

		if (place < 0)
			continue;
		lun->layers[place].snapshot[0] = '\0';
		/* The header says it only to whoever rebuilds a lost catalogue. */
		layer_path(op->control, "", &lun->layers[place].uuid, path);
		if (store_layer_seal(path, "", &err) < 0)
			log_warn("%s", err.text);
		control_step("snapshot-rm-header");
	}
	op->target->merge_failed = op->target->merge_cancelled = false;
	return 0;
}

static void snapshot_delete(struct operation *op)
{
	char path[PATH_BYTES];
	int r = has_snapshot(op->target, op->call.snapshot) ? change_begin(op) : no_snapshot(op);

	if (r < 0) {
		operation_fail(op);
		return;
	}
	op->removed = json_pack(
		"[o]", json_sprintf("snapshot %s@%s", op->target->name, op->call.snapshot));
	for (unsigned i = 0; i < op->target->lun_count; i++) {
		int place = lun_find_snapshot(&op->target->luns[i], op->call.snapshot);

		if (place < 0)
			continue;
		layer_path(op->control, "", &op->target->luns[i].layers[place].uuid, path);
		op->frees_bytes += file_used_bytes(path);
		op->change->luns[i].layers[place].snapshot[0] = '\0';
	}
	if (!op->call.dry_run && forget_name(op) < 0) {
		operation_fail(op);
		return;
	}
	if (!op->call.dry_run)
		log_info("node %s: snapshot %s is removed", op->target->name, op->call.snapshot);
	server_stats(op->control->server, operation_show_node, op);
}

/* --- jobs --- */

static void job_begin(struct operation *op, const struct lun *lun, const struct job_wish *wish)
{
	struct job *job;

	if (job_start_on_node(op->control, op->target, lun, wish, &job, &op->error) < 0)
		operation_fail(op);
	else
		operation_end(op, 202, json_pack("{s:o}", "job", reply_job(job)));
}

static struct job_wish job_wish(const struct operation *op, unsigned layer_count)
{
	bool flatten = op->call.op == API_NODE_FLATTEN;

	return (struct job_wish){
		.kind = flatten                          ? JOB_FLATTEN
			: op->call.op == API_NODE_EXPORT ? JOB_EXPORT
							 : JOB_PROMOTE,
		.name = op->call.new_name,
		.layer_count = layer_count,
		.with_image = flatten,
	};
}

/* An export of what the node has now takes a new top layer. Without one there are other ways. */
static void export_otherwise(struct operation *op)
{
	const char *code = op->error.code, *name = op->target->name, *snapshot = "";
	char number[16] = "", option[24] = "", *cure = op->error.cure;
	size_t room = sizeof(op->error.cure);
	unsigned i = 0;
	int used = 0;

	if (op->call.op != API_NODE_EXPORT || find_lun(op, &i) < 0 ||
	    (strcmp(code, "no_space") != 0 && strcmp(code, "limit") != 0))
		return;
	for (unsigned k = 0; k < op->target->luns[i].layer_count; k++) {
		if (op->target->luns[i].layers[k].snapshot[0])
			snapshot = op->target->luns[i].layers[k].snapshot;
	}
	if (op->call.lun > 0) {
		(void)snprintf(number, sizeof(number), " %u", (unsigned)op->call.lun);
		(void)snprintf(option, sizeof(option), " --lun %u", (unsigned)op->call.lun);
	}
	if (snapshot[0])
		used = snprintf(cure, room, "lunctl export %s FILE --snapshot %s%s; or ", name,
				snapshot, option);
	(void)snprintf(
		cure + used, room - (size_t)used,
		"with the node shut down: qemu-img convert -f raw \"$(lunctl url %s%s)\" FILE",
		name, number);
}

/* What the node has written until now is sealed: the job reads that. */
static void on_sealed(void *arg, int res)
{
	struct operation *op = arg;
	struct job_wish wish;
	const struct lun *lun;
	unsigned i = 0;

	if (res < 0 || find_lun(op, &i) < 0) {
		if (res < 0) {
			op->error = op->change->error;
			export_otherwise(op);
		}
		operation_fail(op);
		return;
	}
	lun = &op->target->luns[i];
	wish = job_wish(op, lun->layer_count - 1);
	job_begin(op, lun, &wish);
}

static int check_flatten(struct operation *op)
{
	char names[200];
	unsigned count = list_snapshots(&op->target->luns[0], 0, names, sizeof(names));

	if (count > 0)
		return api_error_set(&op->error, 409, "in_use", CURE_FLAT,
				     "node %s has %u snapshot%s: %s", op->target->name, count,
				     count == 1 ? "" : "s", names);
	if (node_is_flat(op->target))
		return api_error_set(&op->error, 409, "no_image", "nothing is left to do",
				     "node %s stands on no image already", op->target->name);
	return 0;
}

static int check_promote(struct operation *op)
{
	const char *name = op->call.new_name;

	if (image_find(op->control, name))
		return api_error_set(&op->error, 409, "exists",
				     "choose another name, or remove it first",
				     "there is an image %s already", name);
	if (job_makes(op->control, name))
		return api_error_set(&op->error, 409, "exists",
				     "wait for it, or choose another name",
				     "an image %s is being made", name);
	if (op->control->image_count == LIMIT_IMAGES)
		return api_error_set(&op->error, 409, "limit", "remove images that are not needed",
				     "there are %u images, no more can be made", LIMIT_IMAGES);
	return 0;
}

/* What is sealed is read from its files, and the rest is closed to be sealed. */
static int check_gone(struct operation *op, const struct lun *lun)
{
	int place = op->call.snapshot[0] ? lun_find_snapshot(lun, op->call.snapshot) : -1;

	return place < 0 ? gone_refuse(op->control, op->target, &op->error)
			 : gone_refuse_lun(op->control, op->target, lun, (unsigned)place + 1,
					   &op->error);
}

static void start_job(struct operation *op)
{
	const char *snapshot = op->call.snapshot;
	struct job_wish wish;
	unsigned i = 0;
	int place, r = find_lun(op, &i);

	if (r == 0)
		r = check_gone(op, &op->target->luns[i]);
	if (r == 0)
		r = operation_check_read(op);
	if (r == 0)
		r = job_check_room(op->control, &op->error);
	if (r == 0 && op->call.op != API_NODE_EXPORT)
		r = space_check(op->control,
				op->call.op == API_NODE_PROMOTE ? "image" : "the flat layer of",
				op->call.op == API_NODE_PROMOTE ? op->call.new_name
								: op->target->name,
				&op->error);
	if (r == 0 && op->call.op == API_NODE_FLATTEN)
		r = check_flatten(op);
	if (r == 0 && op->call.op == API_NODE_PROMOTE)
		r = check_promote(op);
	if (r == 0 && snapshot[0]) {
		place = lun_find_snapshot(&op->target->luns[i], snapshot);
		if (place >= 0) {
			wish = job_wish(op, (unsigned)place + 1);
			job_begin(op, &op->target->luns[i], &wish);
			return;
		}
		r = no_snapshot(op);
	}
	if (r == 0)
		r = check_served(op);
	if (r == 0)
		r = change_begin(op);
	if (r == 0) {
		r = change_push(op->change, i, "", op->target->luns[i].size_bytes);
		if (r < 0) {
			op->error = op->change->error;
			export_otherwise(op);
		}
	}
	if (r < 0)
		operation_fail(op);
	else
		change_run(op->change, on_sealed, op);
}

void life_handle(struct operation *op)
{
	int r = -EINVAL;

	assert(op->target && op->target->busy);
	switch (op->call.op) {
	case API_SNAPSHOT_MAKE: r = plan_snapshot(op); break;
	case API_NODE_RESIZE: r = plan_resize(op); break;
	case API_SNAPSHOT_DELETE: snapshot_delete(op); return;
	case API_NODE_ROLLBACK:
	case API_NODE_RESET: server_stats(op->control->server, on_stats_unused, op); return;
	case API_NODE_FLATTEN:
	case API_NODE_PROMOTE:
	case API_NODE_EXPORT: start_job(op); return;
	default: break;
	}
	if (r < 0)
		operation_fail(op);
	else
		change_start(op);
}
