/*
 * From a checked call to an answer. What needs to know who is logged in asks the server first and
 * answers from its callback; a node is marked busy while an operation on it waits, so that no
 * second one comes between its steps.
 *
 *   clone    files, catalogue | target_add | 201
 *   rename   stats | target_remove | catalogue | target_add | 200
 *   rm       stats | target_remove | files, catalogue | 200
 */
#include "control/control_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* A call on its way through the server's callbacks. */
struct operation {
	struct list node; /* of control.operations */
	struct control *control;
	struct api_request *request;
	struct api_call call;
	struct node *target; /* busy for us, or NULL */
	struct api_error error;
	bool created;
};

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
	list_append(&control->operations, &op->node);
	return op;
}

/* Answers, and that was it. */
static void operation_end(struct operation *op, int status, json_t *body)
{
	if (op->target)
		op->target->busy = false;
	list_remove(&op->node);
	op->request->reply(op->request, status, body);
	free(op);
}

static void operation_fail(struct operation *op)
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
	if (node->busy)
		return api_error_set(&op->error, 409, "busy", "try again in a moment",
				     "another operation on node %s is under way", node->name);
	node->busy = true;
	op->target = node;
	return 0;
}

/* 0, or an error that names who is logged in. */
static int check_unused(struct operation *op, const struct server_stats *stats, const char *cure)
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

static int removed_failed(struct operation *op, int res, const char *cure)
{
	if (res == -EBUSY)
		return api_error_set(&op->error, 409, "in_use", cure,
				     "node %s is in use: an initiator has just logged in",
				     op->target->name);
	return api_error_world(&op->error, res, op->target->name);
}

/* The last answer of clone and rename: the node as it is now. */
static void on_stats_node(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;
	json_t *node = reply_node(op->control, op->target, stats, op->call.secrets);

	if (op->call.op == API_NODE)
		operation_end(op, 200, node);
	else
		operation_end(op, op->created ? 201 : 200, json_pack("{s:o}", "node", node));
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
	on_stats_node(op, &nothing);
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
		(void)api_error_world(&op->error, r, op->target->message);
		on_clone_undone(op);
		return;
	}
}

/* --- rename --- */

static void on_rename_added(void *arg, int res)
{
	struct operation *op = arg;

	if (res < 0) {
		op->target->served = false;
		op->target->damaged = true;
		(void)snprintf(op->target->message, sizeof(op->target->message),
			       "the target can't be served: %s", strerror(-res));
	}
	if (op->error.status)
		operation_fail(op);
	else
		server_stats(op->control->server, on_stats_node, op);
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

	if (check_unused(op, stats, "shut the node down, then rename it") < 0)
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

static void on_delete_removed(void *arg, int res)
{
	struct operation *op = arg;
	json_t *removed;
	uint64_t bytes = 0;
	char name[NAME_BYTES];

	if (res < 0) {
		(void)removed_failed(op, res, "shut the node down first");
		operation_fail(op);
		return;
	}
	op->target->served = false;
	removed = json_array();
	memcpy(name, op->target->name, sizeof(name));
	node_removal(op->control, op->target, removed, &bytes);
	if (node_delete(op->control, op->target, &op->error) < 0) {
		json_decref(removed);
		(void)node_serve(op->control, op->target, NULL, NULL);
		operation_fail(op);
		return;
	}
	op->target = NULL;
	log_info("node %s: removed", name);
	operation_end(op, 200,
		      json_pack("{s:o, s:I, s:b}", "removed", removed, "frees_bytes",
				(json_int_t)bytes, "dry_run", 0));
}

static void on_stats_delete(void *arg, const struct server_stats *stats)
{
	struct operation *op = arg;
	json_t *removed;
	uint64_t bytes = 0;

	if (check_unused(op, stats, "shut the node down first") < 0) {
		operation_fail(op);
	} else if (op->call.dry_run) {
		removed = json_array();
		node_removal(op->control, op->target, removed, &bytes);
		operation_end(op, 200,
			      json_pack("{s:o, s:I, s:b}", "removed", removed, "frees_bytes",
					(json_int_t)bytes, "dry_run", 1));
	} else if (op->target->served) {
		server_target_remove(op->control->server, op->target->uuid.b, false,
				     on_delete_removed, op);
	} else {
		on_delete_removed(op, 0);
	}
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

/* Calls that need the server. */
static void handle_asking(struct control *control, const struct api_call *call,
			  struct api_request *request)
{
	struct operation *op = operation_new(control, call, request);

	if (!op)
		return;
	switch (call->op) {
	case API_NODES: server_stats(control->server, on_stats_nodes, op); return;
	case API_STATS: server_stats(control->server, on_stats_stats, op); return;
	case API_NODE:
		if (node_find(control, call->name)) {
			server_stats(control->server, on_stats_show, op);
		} else {
			(void)no_node(call->name, &op->error);
			operation_fail(op);
		}
		return;
	case API_NODE_CLONE: node_clone(op); return;
	default: break;
	}
	if (claim_node(op) < 0)
		operation_fail(op);
	else if (call->op == API_NODE_RENAME)
		server_stats(control->server, on_stats_rename, op);
	else
		server_stats(control->server, on_stats_delete, op);
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
	json_t *removed;
	uint64_t bytes = 0;
	int r;

	if (!image)
		return no_image(call->name, err);
	removed = json_array();
	r = image_delete(control, image, call->dry_run, removed, &bytes, err);
	if (r < 0) {
		json_decref(removed);
		return r;
	}
	if (!call->dry_run)
		log_info("image %s: removed", call->name);
	*ret_body = json_pack("{s:o, s:I, s:b}", "removed", removed, "frees_bytes",
			      (json_int_t)bytes, "dry_run", (int)call->dry_run);
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
		return api_error_set(err, 404, "not_found", "GET /v1/jobs lists those there are",
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
	case API_NODE_RENAME:
	case API_NODE_DELETE:
	case API_STATS: handle_asking(control, call, request); return;
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

		list_remove(&op->node);
		op->request->drop(op->request);
		free(op);
	}
}
