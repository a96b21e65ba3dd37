/*
 * Layers become one. A sealed layer that no snapshot names is only history: it is merged with the
 * one above it, in the background, one merge at a time, slowly, and the node notices nothing but
 * being held still for some milliseconds when the new layer takes its place. Flatten is the same
 * with the image beneath, asked for by a person.
 *
 * A merge does not keep others from working on the node. When its worker is done it waits until the
 * node is free, and then looks whether the layers that it has merged are still there; if not, its
 * work was in vain. A daemon that ends forgets it and starts it again.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define RETRY_S          60
#define SPACE_LEFT_BYTES (16u << 20) /* for what nodes write meanwhile */

/* --- a merged layer takes its place --- */

static void on_taken(void *arg, int res)
{
	struct job *job = arg;
	struct node *node = job->change->target;
	struct control *control = job->control;

	node->busy = node->merge_busy = false;
	if (res < 0) {
		job->error = job->change->error;
		node->merge_failed = true;
		log_warn("node %s: %s", node->name, job->error.message);
	} else if (job->kind == JOB_FLATTEN) {
		log_info("node %s: stands on no image any more", node->name);
		job->result_json = json_pack("{s:s}", "name", node->name);
	} else {
		log_info("node %s: %u layers became one, held for %.1f ms", node->name,
			 job->chain->store.layer_count - job->first,
			 (double)job->change->held_us / 1000.0);
	}
	change_free(job->change);
	job->change = NULL;
	job->file[0] = '\0'; /* it is the node's, or gone */
	operations_go_on(control, node);
	job_end(job, res);
	check_go_on(control);
}

/* Where the merged layers stand in the node's LUNs; false if they don't any more. */
static bool find_run(const struct job *job, const struct node *node, unsigned *ret_lun,
		     unsigned *ret_first)
{
	unsigned count = job->chain->store.layer_count - job->first;

	for (unsigned i = 0; i < node->lun_count; i++) {
		const struct lun *lun = &node->luns[i];

		for (unsigned first = 0; first + count < lun->layer_count; first++) {
			unsigned same = 0;

			while (same < count && memcmp(&lun->layers[first + same].uuid,
						      &job->chain->uuids[job->first + same],
						      sizeof(store_uuid_t)) == 0)
				same++;
			if (same < count)
				continue;
			*ret_lun = i;
			*ret_first = first;
			return true;
		}
	}
	return false;
}

static void in_vain(struct job *job)
{
	file_unlink(job->file);
	job->file[0] = '\0';
	(void)api_error_set(&job->error, 409, "cancelled", "nothing needs to be done",
			    "node %s has changed", job->node_name);
	job_end(job, -ECANCELED);
}

/* The header's name is for rebuilding a lost catalogue; the snapshot may have gone meanwhile. */
static void name_follows(const struct job *job, const struct layer *last)
{
	struct store_layer_info info;
	struct store_error err = {""};

	if (store_layer_info(job->file, &info, &err) == 0 &&
	    strcmp(info.snapshot, last->snapshot) != 0 &&
	    store_layer_seal(job->file, last->snapshot, &err) < 0)
		log_warn("%s", err.text);
}

/* False: it has to wait. */
static bool take_place(struct job *job)
{
	struct node *node = node_find_uuid(job->control, &job->node_uuid);
	unsigned i = 0, first = 0, count = job->chain->store.layer_count - job->first;

	if (!node || !node->served || node->damaged || !find_run(job, node, &i, &first)) {
		in_vain(job);
		return true;
	}
	if (node->busy || (node->job && node->job != job))
		return false;
	job->change = change_new(job->control, node);
	if (!job->change)
		return false;
	name_follows(job, &node->luns[i].layers[first + count - 1]);
	change_merge(job->change, i, first, first + count - 1, &job->layer_uuid);
	job->change->preload = job->preload;
	if (job->with_image)
		memset(&job->change->image_uuid, 0, sizeof(job->change->image_uuid));
	node->busy = node->merge_busy = true;
	change_run(job->change, on_taken, job);
	return true;
}

void merge_settle(struct job *job)
{
	struct node *node = node_find_uuid(job->control, &job->node_uuid);

	if (job->result == 0) {
		job->merged = true;
		merge_kick(job->control);
		return;
	}
	if (job->kind == JOB_MERGE) {
		unsigned i, first;

		/* Its layers have gone beneath it. */
		if (!node || !find_run(job, node, &i, &first)) {
			in_vain(job);
			return;
		}
		if (atomic_load(&job->cancelled))
			node->merge_cancelled = true;
		else
			node->merge_failed = true;
		log_warn("node %s: its layers can't be merged now: %s", node->name,
			 job->error.message);
	}
	job_end(job, job->result);
}

/* --- what can be merged --- */

/* All but the last of a run have no name; it ends below the top. */
static bool find_mergeable(const struct lun *lun, unsigned *ret_first, unsigned *ret_last)
{
	for (unsigned first = 0; first + 2 < lun->layer_count; first++) {
		unsigned last = first;

		while (lun->layers[last].snapshot[0] == '\0' && last + 2 < lun->layer_count)
			last++;
		if (last == first)
			continue;
		*ret_first = first;
		*ret_last = last;
		return true;
	}
	return false;
}

static bool space_suffices(struct control *control, const struct lun *lun, unsigned first,
			   unsigned last)
{
	uint64_t needed = SPACE_LEFT_BYTES;
	char path[PATH_BYTES];
	struct space space;

	if (space_read(control, &space) < 0)
		return true;
	if (needed < space.reserve_bytes)
		needed = space.reserve_bytes;

	for (unsigned i = first; i <= last; i++) {
		layer_path(control, "", &lun->layers[i].uuid, path);
		needed += file_used_bytes(path);
	}
	return space.free_bytes >= needed;
}

static bool merge_start(struct control *control, struct node *node)
{
	struct job_wish wish = {.kind = JOB_MERGE};
	struct api_error err = {0};
	struct job *job;

	for (unsigned i = 0; i < node->lun_count; i++) {
		const struct lun *lun = &node->luns[i];
		unsigned last = 0;

		if (!find_mergeable(lun, &wish.first, &last))
			continue;
		wish.layer_count = last + 1;
		if (!space_suffices(control, lun, wish.first, last))
			log_info("node %s: there is no space to merge its layers now", node->name);
		else if (job_start_on_node(control, node, lun, &wish, &job, &err) < 0)
			log_warn("node %s: its layers can't be merged now: %s", node->name,
				 err.message);
		else
			return true;
		node->merge_failed = true;
		return false;
	}
	return false;
}

static bool is_running(struct control *control)
{
	list_for_each (pos, &control->jobs) {
		const struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->kind == JOB_MERGE && job->state == JOB_RUNNING)
			return true;
	}
	return false;
}

void merge_kick(struct control *control)
{
	if (control->stopping)
		return;
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->state == JOB_RUNNING && job->merged && !job->change && take_place(job))
			return; /* its end kicks again */
	}
	if (is_running(control))
		return;
	for (unsigned i = 0; i < control->node_count; i++) {
		struct node *node = control->nodes[i];

		if (node->served && !node->damaged && !node->gone && !node->busy && !node->job &&
		    !node->merge_failed && !node->merge_cancelled && merge_start(control, node))
			return;
	}
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct control *control = arg;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < control->node_count; i++)
		control->nodes[i]->merge_failed = false;
	merge_kick(control);
}

void merge_init(struct control *control)
{
	const struct timeval every = {.tv_sec = RETRY_S};

	control->merge_timer = event_new(control->base, -1, EV_PERSIST, on_retry, control);
	if (control->merge_timer)
		(void)event_add(control->merge_timer, &every);
}

void merge_done(struct control *control)
{
	control->stopping = true;
	if (control->merge_timer)
		event_free(control->merge_timer);
	control->merge_timer = NULL;
}
