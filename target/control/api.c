/*
 * From a checked call to an answer. What needs to know who is logged in asks the server first and
 * answers from its callback; a node is marked busy while an operation on it waits, so that no
 * second one comes between its steps.
 *
 *   clone    files, catalogue | target_add | 201
 *   rename   stats | target_remove | catalogue | target_add | 200
 *   rm       stats | target_remove | trash, or files and catalogue | 200
 *   undo     trash, files | target_add | 200
 *
 * What changes a node's layers goes through life.c and change.c.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static void reply_ok(struct api_request *request, int status, json_t *body)
{
	request->reply(request, status, body);
}

void api_reply_error(struct api_request *request, const struct api_error *err)
{
	request->reply(request, err->status, reply_error(err));
}

static struct operation *operation_new(struct control *control, const struct api_call *call,
				       struct api_request *request)
{
	struct operation *op = calloc(1, sizeof(*op));
	struct api_error err;

	if (!op) {
		(void)api_error_world(&err, -ENOMEM, "request");
		api_reply_error(request, &err);
		return NULL;
	}
	op->control = control;
	op->request = request;
	op->call = *call;
	op->call.json = NULL; /* the caller's */
	list_append(&control->operations, &op->node);
	return op;
}

static void operation_free(struct operation *op)
{
	list_remove(&op->node);
	json_decref(op->removed);
	change_free(op->change);
	free(op);
}

void operation_end(struct operation *op, int status, json_t *body)
{
	struct control *control = op->control;

	if (op->target)
		op->target->busy = false;
	op->request->reply(op->request, status, body);
	operation_free(op);
	merge_kick(control); /* it may have waited for the node */
}

void operation_fail(struct operation *op)
{
	operation_end(op, op->error.status, reply_error(&op->error));
}

static int no_image(const char *name, struct api_error *err)
{
	return api_error_set(err, 404, "not_found", "lunctl ls shows what there is",
			     "there is no image %s", name);
}

static int no_node(const char *name, struct api_error *err)
{
	return api_error_set(err, 404, "not_found", "lunctl ls shows what there is",
			     "there is no node %s", name);
}

static int claim_node(struct operation *op)
{
	struct node *node = node_find(op->control, op->call.name);

	if (!node)
		return no_node(op->call.name, &op->error);
	op->waits = node->merge_busy;
	if (op->waits)
		return 0;
	if (node->busy)
		return api_error_set(&op->error, 409, "busy", "try again in a moment",
				     "another operation on node %s is under way", node->name);
	node->busy = true;
	op->target = node;
	return 0;
}

int operation_check_unused(struct operation *op, const struct server_stats *stats, const char *cure)
{
	for (unsigned i = 0; i < stats->session_count; i++) {
		const struct server_session_info *s = &stats->sessions[i];

		if (memcmp(s->target_uuid, op->target->uuid.b, sizeof(s->target_uuid)) == 0)
			return api_error_set(&op->error, 409, "in_use", cure,
					     "node %s is in use by %s (%s)", op->target->name,
					     s->initiator, s->address);
	}
	return 0;
}

int operation_check_read(struct operation *op)
{
	const struct job *job = op->target->job;
	char cure[80];

	if (!job)
		return 0;
	(void)snprintf(cure, sizeof(cure), "wait for it, or cancel it: lunctl jobs --cancel %llu",
		       (unsigned long long)job->id);
	return api_error_set(&op->error, 409, "busy", cure, "job %llu reads the layers of node %s",
			     (unsigned long long)job->id, op->target->name);
}

static int removed_failed(struct operation *op, int res, const char *cure)
{
	if (res == -EBUSY)
		return api_error_set(&op->error, 409, "in_use", cure,
				     "node %s is in use: an initiator has just logged in",
				     op->target->name);
	return api_error_world(&op->error, res, op->target->name);
}

/* The last answer of what changes a node: as it is now. */
void operation_show_node(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;
	json_t *body =
		json_pack("{s:o}", "node", reply_node(op->control, op->target, stats, false));

	if (op->removed) {
		json_object_set(body, "removed", op->removed);
		json_object_set_new(body, "frees_bytes", json_integer((json_int_t)op->frees_bytes));
		json_object_set_new(body, "dry_run", json_boolean(op->call.dry_run));
	}
	operation_end(op, op->created ? 201 : 200, body);
}

/* --- clone --- */

static void on_clone_undone(struct operation *op)
{
	struct node *node = op->target;
	struct api_error ignored;

	op->target = NULL;
	node->busy = false;
	node->served = false;
	if (node_delete(op->control, node, &ignored) < 0)
		log_error("node %s can't be removed: %s", node->name, ignored.message);
	operation_fail(op);
}

static void on_clone_added(void *arg, int res)
{
	static const struct server_stats nothing;
	struct operation *op = arg;

	if (res < 0) {
		(void)api_error_world(&op->error, res, "the target can't be served");
		on_clone_undone(op);
		return;
	}
	log_info("node %s: cloned from %s", op->call.name, op->call.base);
	/* Nobody has logged in yet, and counters are zero. */
	operation_show_node(op, &nothing);
}

static void node_clone(struct operation *op)
{
	int r = node_make(op->control, &op->call, &op->target, &op->error);

	if (r < 0) {
		operation_fail(op);
		return;
	}
	op->created = true;
	op->target->busy = true;
	r = node_serve(op->control, op->target, on_clone_added, op);
	if (r < 0) {
		(void)api_error_store(&op->error, r, op->target->message);
		on_clone_undone(op);
		return;
	}
}

/* --- rename --- */

static void on_rename_added(void *arg, int res)
{
	struct operation *op = arg;

	if (res < 0)
		node_not_served(op->target, res);
	if (op->error.status)
		operation_fail(op);
	else
		server_stats(op->control->server, operation_show_node, op);
}

static void on_rename_removed(void *arg, int res)
{
	struct operation *op = arg;

	if (res < 0) {
		(void)removed_failed(op, res, "shut the node down, then rename it");
		operation_fail(op);
		return;
	}
	op->target->served = false;
	(void)node_rename(op->control, op->target, op->call.new_name, &op->error);
	/* Renamed or not, it goes on. */
	if (node_serve(op->control, op->target, on_rename_added, op) < 0)
		on_rename_added(op, 0);
}

static void on_stats_rename(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;

	/* Its disks would be opened again, from files that are not there. */
	if (operation_check_unused(op, stats, "shut the node down, then rename it") < 0 ||
	    gone_refuse(op->control, op->target, &op->error) < 0)
		operation_fail(op);
	else if (node_find(op->control, op->call.new_name))
		(void)api_error_set(&op->error, 409, "exists", "choose another name",
				    "there is a node %s already", op->call.new_name),
			operation_fail(op);
	else if (op->target->served)
		server_target_remove(op->control->server, op->target->uuid.b, false,
				     on_rename_removed, op);
	else
		on_rename_removed(op, 0);
}

/* --- remove --- */

/* Names and, of what goes for good, paths. */
static json_t *node_removed(struct operation *op, bool dry_run)
{
	bool kept = !op->call.now && op->control->trash_s > 0;
	json_t *removed = json_array();
	uint64_t bytes = 0;

	if (kept) {
		json_array_append_new(removed, json_sprintf("node %s", op->target->name));
		bytes = node_used_bytes(op->control, op->target);
	} else {
		node_removal(op->control, op->target, removed, &bytes);
	}
	return reply_removed(op->control, removed, kept ? 0 : bytes, bytes, kept, dry_run);
}

static void on_delete_undone(void *arg, int res)
{
	struct operation *op = arg;

	if (res < 0)
		node_not_served(op->target, res);
	operation_fail(op);
}

static void on_delete_removed(void *arg, int res)
{
	struct operation *op = arg;
	bool kept = !op->call.now && op->control->trash_s > 0;
	json_t *body;

	if (res < 0) {
		(void)removed_failed(op, res, "shut the node down first");
		operation_fail(op);
		return;
	}
	op->target->served = false;
	body = node_removed(op, false);
	if ((kept ? trash_node(op->control, op->target, &op->error)
		  : node_delete(op->control, op->target, &op->error)) < 0) {
		json_decref(body);
		if (node_serve(op->control, op->target, on_delete_undone, op) < 0)
			operation_fail(op);
		return;
	}
	if (kept)
		op->target->busy = false;
	op->target = NULL;
	log_info("node %s: removed%s", op->call.name, kept ? ", and in the trash" : "");
	operation_end(op, 200, body);
}

static void on_stats_delete(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;

	if (operation_check_unused(op, stats, "shut the node down first") < 0 ||
	    operation_check_read(op) < 0)
		operation_fail(op);
	else if (op->call.dry_run)
		operation_end(op, 200, node_removed(op, true));
	else if (op->target->served)
		server_target_remove(op->control->server, op->target->uuid.b, false,
				     on_delete_removed, op);
	else
		on_delete_removed(op, 0);
}

/* --- trash --- */

static struct trash *trash_named(struct control *control, const struct api_call *call,
				 struct api_error *err)
{
	store_uuid_t uuid;
	struct trash *trash =
		store_uuid_parse(call->name, &uuid) ? trash_find(control, &uuid) : NULL;

	if (!trash)
		(void)api_error_set(err, 404, "not_found", "lunctl ls --trash shows what there is",
				    "nothing in the trash has the id %s", call->name);
	else if (trash_is_busy(trash))
		(void)api_error_set(err, 409, "busy", "wait for it",
				    "node %s is being checked in the trash", trash->node->name);
	return trash && !trash_is_busy(trash) ? trash : NULL;
}

/* The one that was given, or the one that it had. */
static void undo_name(const struct api_call *call, const char *had, char ret_name[NAME_BYTES])
{
	(void)snprintf(ret_name, NAME_BYTES, "%s", call->new_name[0] ? call->new_name : had);
}

static void undo_node(struct control *control, const struct api_call *call,
		      struct api_request *request, struct trash *trash)
{
	char name[NAME_BYTES];
	struct operation *op = operation_new(control, call, request);
	struct node *node = trash->node;
	int r;

	if (!op)
		return;
	undo_name(call, node->name, name);
	if (control->stopping)
		r = api_error_set(&op->error, 503, "stopping", "start it again, then try again",
				  "lunrootd is stopping");
	else if (node_find(control, name))
		r = api_error_set(&op->error, 409, "exists",
				  "give it another one: lunctl undo NAME NEW-NAME",
				  "there is a node %s now", name);
	else if (control->node_count == LIMIT_NODES)
		r = api_error_set(&op->error, 409, "limit", "remove nodes that are not needed",
				  "there are %u nodes, no more can be made", LIMIT_NODES);
	else if (trash_find(control, &node->image_uuid))
		r = api_error_set(&op->error, 409, "in_use", "bring it back first: lunctl undo",
				  "the image that node %s stands on, %s, is in the trash too",
				  node->name, trash_find(control, &node->image_uuid)->image->name);
	else
		r = trash_undo_node(control, trash, name, &op->error);
	if (r < 0) {
		operation_fail(op);
		return;
	}
	log_info("node %s: back from the trash", node->name);
	op->target = node;
	node->busy = true;
	/* If it can't be served it is back all the same, and says why. */
	if (node_serve(control, node, on_rename_added, op) < 0)
		on_rename_added(op, 0);
}

static int undo_image(struct control *control, const struct api_call *call, struct trash *trash,
		      json_t **ret_body, struct api_error *err)
{
	char name[NAME_BYTES];
	struct image *image = trash->image;
	int r;

	undo_name(call, image->name, name);
	if (image_find(control, name) || job_makes(control, name))
		return api_error_set(err, 409, "exists",
				     "give it another one: lunctl undo NAME NEW-NAME",
				     "there is an image %s now", name);
	if (control->image_count == LIMIT_IMAGES)
		return api_error_set(err, 409, "limit", "remove images that are not needed",
				     "there are %u images, no more can be made", LIMIT_IMAGES);
	r = trash_undo_image(control, trash, name, err);
	if (r < 0)
		return r;
	log_info("image %s: back from the trash", image->name);
	*ret_body = json_pack("{s:o}", "image", reply_image(control, image));
	return 0;
}

static void handle_undo(struct control *control, const struct api_call *call,
			struct api_request *request)
{
	struct api_error err = {0};
	json_t *body = NULL;
	struct trash *trash = trash_named(control, call, &err);

	if (trash && trash->node)
		undo_node(control, call, request, trash);
	else if (trash && undo_image(control, call, trash, &body, &err) == 0)
		reply_ok(request, 200, body);
	else
		api_reply_error(request, &err);
}

static int handle_trash_delete(struct control *control, const struct api_call *call,
			       json_t **ret_body, struct api_error *err)
{
	struct trash *trash = trash_named(control, call, err);
	json_t *removed;
	uint64_t bytes = 0;
	int r;

	if (!trash)
		return -EBUSY;
	r = trash->image ? image_check_purgeable(control, trash->image, err) : 0;
	if (r < 0)
		return r;
	removed = json_array();
	if (trash->node)
		node_removal(control, trash->node, removed, &bytes);
	else
		image_removal(control, trash->image, removed, &bytes);
	r = call->dry_run ? 0 : trash_purge(control, trash, "somebody wished it", err);
	if (r < 0)
		json_decref(removed);
	else
		*ret_body = reply_removed(control, removed, bytes, 0, false, call->dry_run);
	return r;
}

/* --- lists --- */

static void on_stats_nodes(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;

	operation_end(op, 200, reply_nodes(op->control, stats));
}

static void on_stats_show(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;
	struct node *node = node_find(op->control, op->call.name);

	/* It may have gone while the reactors were asked. */
	if (!node) {
		(void)no_node(op->call.name, &op->error);
		operation_fail(op);
		return;
	}
	operation_end(op, 200, reply_node(op->control, node, stats, op->call.secrets));
}

static void on_stats_stats(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;

	operation_end(op, 200, reply_stats(op->control, stats));
}

static void on_stats_health(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;

	operation_end(op, 200, reply_health(op->control, stats));
}

/* Calls that change a node. */
static void operation_begin(struct operation *op)
{
	if (op->control->stopping) {
		(void)api_error_set(&op->error, 503, "stopping", "start it again, then try again",
				    "lunrootd is stopping");
		operation_fail(op);
		return;
	}
	if (claim_node(op) < 0)
		operation_fail(op);
	else if (op->waits)
		return;
	else if (op->call.op == API_NODE_RENAME)
		server_stats(op->control->server, on_stats_rename, op);
	else if (op->call.op == API_NODE_DELETE)
		server_stats(op->control->server, on_stats_delete, op);
	else
		life_handle(op);
}

void operations_go_on(struct control *control, const struct node *node)
{
	struct operation *found;

	do { /* they may end at once, and others begin */
		found = NULL;
		list_for_each (pos, &control->operations) {
			struct operation *op = LIST_ENTRY(pos, struct operation, node);

			if (!found && op->waits && strcmp(op->call.name, node->name) == 0)
				found = op;
		}
		if (found) {
			found->waits = false;
			operation_begin(found);
		}
	} while (found && !node->merge_busy);
}

/* --- whose it is, and who may log in --- */

/* As operation_show_node, where the node was not claimed. */
static void on_stats_changed(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;
	const struct node *node = node_find(op->control, op->call.name);

	if (!node) {
		(void)no_node(op->call.name, &op->error);
		operation_fail(op);
		return;
	}
	operation_end(op, 200,
		      json_pack("{s:o}", "node", reply_node(op->control, node, stats, false)));
}

static void on_node_told(void *arg, int res)
{
	struct operation *op = arg;

	/* -ENOENT: it is told when it is served again. */
	if (res < 0 && res != -ENOENT) {
		(void)api_error_world(&op->error, res, op->call.name);
		operation_fail(op);
		return;
	}
	server_stats(op->control->server, on_stats_changed, op);
}

static void rotate(struct operation *op, struct node *node)
{
	int r = node_rotate(op->control, node, &op->error);

	if (r == 0 && node_tell_target(op->control, node, on_node_told, op) < 0)
		r = api_error_world(&op->error, -ENOMEM, node->name);
	if (r < 0)
		operation_fail(op);
	else
		log_info("node %s: has new credentials", op->call.name);
}

/* What touches no disk: also while another operation waits for the node. */
static void node_care(struct operation *op)
{
	struct node *node = node_find(op->control, op->call.name);

	if (!node) {
		(void)no_node(op->call.name, &op->error);
		operation_fail(op);
	} else if (op->call.op == API_NODE_BOOT) {
		boot_cred_handle(op);
	} else if (op->call.op == API_NODE_ROTATE) {
		rotate(op, node);
	} else if (node_assign(op->control, node, &op->call, &op->error) < 0) {
		operation_fail(op);
	} else {
		log_info("node %s: belongs to the Pi with serial %s, MAC %s", node->name,
			 node->serial[0] ? node->serial : "-", node->mac[0] ? node->mac : "-");
		server_stats(op->control->server, on_stats_changed, op);
	}
}

/* Calls that need the server. */
static void handle_asking(struct control *control, const struct api_call *call,
			  struct api_request *request)
{
	struct operation *op = operation_new(control, call, request);
	const struct node *node = NULL;

	if (!op)
		return;
	switch (call->op) {
	case API_NODES: server_stats(control->server, on_stats_nodes, op); return;
	case API_STATS: server_stats(control->server, on_stats_stats, op); return;
	case API_HEALTH: server_stats(control->server, on_stats_health, op); return;
	case API_NODE:
		if (node_find(control, call->name)) {
			server_stats(control->server, on_stats_show, op);
		} else {
			(void)no_node(call->name, &op->error);
			operation_fail(op);
		}
		return;
	case API_NODE_CLONE: node_clone(op); return;
	case API_LUN:
		if (lun_find(control, call, &node, &op->error))
			server_unit_look(control->server, node->uuid.b, call->lun,
					 operation_show_lun, op);
		else
			operation_fail(op);
		return;
	case API_NODE_BOOT:
	case API_NODE_IDENTITY:
	case API_NODE_ROTATE: node_care(op); return;
	default: break;
	}
	operation_begin(op);
}

/* --- calls that are answered at once; 0 with a body and status, or an error --- */

static int handle_image(struct control *control, const struct api_call *call, json_t **ret_body,
			struct api_error *err)
{
	struct image *image = image_find(control, call->name);

	if (!image)
		return no_image(call->name, err);
	*ret_body = reply_image(control, image);
	return 0;
}

static int handle_image_rename(struct control *control, const struct api_call *call,
			       json_t **ret_body, struct api_error *err)
{
	struct image *image = image_find(control, call->name);
	int r;

	if (!image)
		return no_image(call->name, err);
	if (image_find(control, call->new_name) || job_makes(control, call->new_name))
		return api_error_set(err, 409, "exists", "choose another name",
				     "there is an image %s already", call->new_name);
	r = image_rename(control, image, call->new_name, err);
	if (r < 0)
		return r;
	log_info("image %s: renamed to %s", call->name, call->new_name);
	*ret_body = json_pack("{s:o}", "image", reply_image(control, image));
	return 0;
}

static int handle_image_delete(struct control *control, const struct api_call *call,
			       json_t **ret_body, struct api_error *err)
{
	struct image *image = image_find(control, call->name);
	bool kept = !call->now && control->trash_s > 0;
	json_t *removed;
	uint64_t bytes = 0;
	int r;

	if (!image)
		return no_image(call->name, err);
	r = image_check_unused(control, image, err);
	if (r == 0 && !kept)
		r = image_check_purgeable(control, image, err);
	if (r < 0)
		return r;
	removed = json_array();
	image_removal(control, image, removed, &bytes);
	if (kept)
		json_array_remove(removed, 1); /* its path: it is not gone */
	if (!call->dry_run)
		r = kept ? trash_image(control, image, err) : image_remove(control, image, err);
	if (r < 0) {
		json_decref(removed);
		return r;
	}
	if (!call->dry_run)
		log_info("image %s: removed%s", call->name, kept ? ", and in the trash" : "");
	*ret_body = reply_removed(control, removed, kept ? 0 : bytes, bytes, kept, call->dry_run);
	return 0;
}

static int handle_image_make(struct control *control, const struct api_call *call,
			     json_t **ret_body, struct api_error *err)
{
	struct job *job;
	int r = job_start(control, call, &job, err);

	if (r == 0)
		*ret_body = json_pack("{s:o}", "job", reply_job(job));
	return r;
}

static int handle_check(struct control *control, const struct api_call *call, json_t **ret_body,
			struct api_error *err)
{
	struct job *job;
	int r = check_start(control, call, &job, err);

	if (r == 0)
		*ret_body = json_pack("{s:o}", "job", reply_job(job));
	return r;
}

static int handle_url(struct control *control, const struct api_call *call, json_t **ret_body,
		      struct api_error *err)
{
	struct node *node = node_find(control, call->name);

	return node ? reply_url(control, node, call->lun, ret_body, err) : no_node(call->name, err);
}

static int handle_jobs(struct control *control, json_t **ret_body)
{
	json_t *jobs = json_array();

	list_for_each (pos, &control->jobs)
		json_array_append_new(jobs, reply_job(LIST_ENTRY(pos, struct job, node)));
	*ret_body = json_pack("{s:o}", "jobs", jobs);
	return 0;
}

static int handle_job(struct control *control, const struct api_call *call, json_t **ret_body,
		      struct api_error *err)
{
	struct job *job = job_find(control, call->job_id);

	if (!job)
		return api_error_set(err, 404, "not_found", "lunctl jobs lists those there are",
				     "there is no job %llu", (unsigned long long)call->job_id);
	if (call->op == API_JOB_CANCEL && job->state == JOB_RUNNING)
		atomic_store(&job->cancelled, true);
	*ret_body = reply_job(job);
	return 0;
}

void api_handle(struct control *control, const struct api_call *call, struct api_request *request)
{
	struct api_error err = {0};
	json_t *body = NULL;
	int r = 0, status = 200;

	switch (call->op) {
	case API_VERSION: body = reply_version(control); break;
	case API_IMAGES: body = reply_images(control); break;
	case API_IMAGE: r = handle_image(control, call, &body, &err); break;
	case API_IMAGE_RENAME: r = handle_image_rename(control, call, &body, &err); break;
	case API_IMAGE_DELETE: r = handle_image_delete(control, call, &body, &err); break;
	case API_CHECK:
		r = handle_check(control, call, &body, &err);
		status = 202;
		break;
	case API_TRASH: body = reply_trash(control); break;
	case API_TRASH_DELETE: r = handle_trash_delete(control, call, &body, &err); break;
	case API_TRASH_UNDO: handle_undo(control, call, request); return;
	case API_LUN_DATA:
	case API_IMAGE_DATA: data_handle(control, call, request); return;
	case API_NODE_URL: r = handle_url(control, call, &body, &err); break;
	case API_JOBS: r = handle_jobs(control, &body); break;
	case API_JOB:
	case API_JOB_CANCEL: r = handle_job(control, call, &body, &err); break;
	case API_IMAGE_MAKE:
		r = handle_image_make(control, call, &body, &err);
		status = 202;
		break;
	case API_NODES:
	case API_NODE:
	case API_NODE_CLONE:
	case API_LUN:
	case API_NODE_BOOT:
	case API_NODE_IDENTITY:
	case API_NODE_ROTATE:
	case API_NODE_RENAME:
	case API_NODE_DELETE:
	case API_SNAPSHOT_MAKE:
	case API_SNAPSHOT_DELETE:
	case API_NODE_ROLLBACK:
	case API_NODE_RESET:
	case API_NODE_RESIZE:
	case API_NODE_FLATTEN:
	case API_NODE_PROMOTE:
	case API_NODE_EXPORT:
	case API_STATS:
	case API_HEALTH: handle_asking(control, call, request); return;
	case API_BOOTS:
	case API_BOOTS_ADD:
	case API_BOOT:
	case API_BOOT_PUT:
	case API_BOOT_EVENTS:
	case API_PENDING:
	case API_PENDING_DELETE: r = boots_handle(control, call, &body, &err); break;
	case API_LEASES:
	case API_LEASE_PUT:
	case API_LEASE_DELETE:
	case API_BOOTD:
	case API_BOOTD_PUT: r = leases_handle(control, call, &body, &err); break;
	}
	if (r < 0)
		api_reply_error(request, &err);
	else
		reply_ok(request, status, body);
}

void operations_drop(struct control *control)
{
	list_for_each (pos, &control->operations) {
		struct operation *op = LIST_ENTRY(pos, struct operation, node);

		op->request->drop(op->request);
		operation_free(op);
	}
}
