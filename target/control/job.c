/*
 * Jobs: work that takes longer than a request may. Each has a thread, which posts one message
 * when it is done; what it made becomes real here, on the control thread.
 */
#include "control/control_internal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static_assert(sizeof(pthread_t) <= sizeof(unsigned long), "struct job holds it");

struct job *job_find(struct control *control, uint64_t id)
{
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->id == id)
			return job;
	}
	return NULL;
}

static void job_free(struct control *control, struct job *job)
{
	list_remove(&job->node);
	control->job_count--;
	json_decref(job->result_json);
	change_free(job->change);
	if (job->listen_fd >= 0)
		close(job->listen_fd);
	store_preload_free(job->preload);
	free(job->chain);
	check_free(job->check);
	free(job);
}

static bool makes_image(const struct job *job)
{
	return job->kind == JOB_IMPORT || job->kind == JOB_CREATE || job->kind == JOB_PROMOTE;
}

bool job_makes(struct control *control, const char *name)
{
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->state == JOB_RUNNING && makes_image(job) && strcmp(job->name, name) == 0)
			return true;
	}
	return false;
}

/* The oldest that has ended makes room. */
static void jobs_forget(struct control *control)
{
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (control->job_count < LIMIT_JOBS)
			return;
		if (job->state != JOB_RUNNING)
			job_free(control, job);
	}
}

void job_end(struct job *job, int res)
{
	struct node *node = node_find_uuid(job->control, &job->node_uuid);

	if (node && node->job == job)
		node->job = NULL;
	job->state = res < 0 ? JOB_FAILED : JOB_DONE;
	store_preload_free(job->preload); /* it may be the last to have a file that is gone */
	job->preload = NULL;
	if (res < 0 && job->kind != JOB_MERGE)
		log_warn("job %llu: %s", (unsigned long long)job->id, job->error.message);
	merge_kick(job->control); /* it may have waited for this */
}

static void image_settle(struct job *job)
{
	struct image *image;

	job->image.created = time(NULL);
	if (job->result == 0)
		job->result = image_adopt(job->control, &job->image, &job->error);
	image = image_find(job->control, job->name);
	if (job->result == 0 && image) {
		job->result_json = json_pack("{s:o}", "image", reply_image(job->control, image));
		log_info("image %s: %s, %llu bytes", image->name, image->content,
			 (unsigned long long)image->size_bytes);
	}
	job_end(job, image ? job->result : -EIO);
}

static void job_settle(struct job *job)
{
	switch (job->kind) {
	case JOB_IMPORT:
	case JOB_CREATE:
	case JOB_PROMOTE: image_settle(job); return;
	case JOB_FLATTEN:
	case JOB_MERGE: merge_settle(job); return;
	case JOB_CHECK: check_settle(job); return;
	case JOB_EXPORT:
		if (job->result == 0)
			job->result_json = json_pack("{s:s, s:I}", "name", job->name, "size_bytes",
						     (json_int_t)job->size_bytes);
		job_end(job, job->result);
		return;
	}
}

/* Control thread. */
static void on_finished(struct mailbox_msg *msg)
{
	struct job *job = CONTAINER_OF(msg, struct job, finished);

	(void)pthread_join((pthread_t)job->thread, NULL);
	job->joined = true;
	job_settle(job);
}

static void *job_thread(void *arg)
{
	struct job *job = arg;

	log_set_thread("job");
	switch (job->kind) {
	case JOB_IMPORT:
	case JOB_CREATE:
	case JOB_PROMOTE: import_run(job); break;
	case JOB_FLATTEN:
	case JOB_MERGE: merge_run(job); break;
	case JOB_EXPORT: export_run(job); break;
	case JOB_CHECK: check_run(job); break;
	}
	mailbox_post(job->control->mailbox, &job->finished);
	return NULL;
}

int job_check_room(struct control *control, struct api_error *err)
{
	unsigned running = 0;

	list_for_each (pos, &control->jobs) {
		const struct job *job = LIST_ENTRY(pos, struct job, node);

		running += job->state == JOB_RUNNING && job->kind != JOB_MERGE;
	}
	if (running == RUNNING_JOBS_MAX)
		return api_error_set(err, 409, "busy", "wait until one of them is done",
				     "%u jobs are running, no more can be started", running);
	return 0;
}

static int job_check(struct control *control, const struct api_call *call, struct api_error *err)
{
	int r;

	if (image_find(control, call->name))
		return api_error_set(err, 409, "exists", "choose another name, or remove it first",
				     "there is an image %s already", call->name);
	if (job_makes(control, call->name))
		return api_error_set(err, 409, "exists", "wait for it, or choose another name",
				     "an image %s is being made", call->name);
	if (control->image_count == LIMIT_IMAGES)
		return api_error_set(err, 409, "limit", "remove images that are not needed",
				     "there are %u images, no more can be made", LIMIT_IMAGES);
	r = space_check(control, "image", call->name, err);
	return r < 0 ? r : job_check_room(control, err);
}

static bool fills_state(enum job_kind kind)
{
	switch (kind) {
	case JOB_IMPORT:
	case JOB_CREATE:
	case JOB_PROMOTE:
	case JOB_FLATTEN: return true;
	case JOB_MERGE: /* gives space back in the end, and began with enough */
	case JOB_EXPORT:
	case JOB_CHECK: return false;
	}
	return false;
}

void jobs_want_space(struct control *control)
{
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->state != JOB_RUNNING || !fills_state(job->kind))
			continue;
		atomic_store(&job->wants_space, true);
		atomic_store(&job->cancelled, true);
	}
}

void job_tell_cancelled(struct job *job, const char *what)
{
	if (atomic_load(&job->wants_space))
		(void)api_error_set(&job->error, 507, "no_space", SPACE_CURE,
				    "%s was stopped: less than the reserve is free (lunctl ls)",
				    what);
	else
		(void)api_error_set(&job->error, 409, "cancelled", "start it again",
				    "%s was cancelled", what);
}

/* Signals are for the control thread's loop. */
int job_thread_start(struct job *job)
{
	sigset_t all, before;
	pthread_t thread;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&thread, NULL, job_thread, job);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		job->thread = (unsigned long)thread;
	job->joined = r != 0;
	return -r;
}

static struct job *job_new(struct control *control, enum job_kind kind, const char *name)
{
	struct job *job;

	jobs_forget(control);
	job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	job->control = control;
	job->id = ++control->last_job_id;
	job->kind = kind;
	job->state = JOB_RUNNING;
	(void)snprintf(job->name, sizeof(job->name), "%s", name);
	job->finished.run = on_finished;
	job->listen_fd = -1;
	list_append(&control->jobs, &job->node);
	control->job_count++;
	return job;
}

int job_start(struct control *control, const struct api_call *call, struct job **ret_job,
	      struct api_error *err)
{
	struct job *job;
	int r = job_check(control, call, err);

	if (r < 0)
		return r;
	job = job_new(control, call->path[0] ? JOB_IMPORT : JOB_CREATE, call->name);
	if (!job)
		return api_error_world(err, -ENOMEM, "job");
	memcpy(job->path, call->path, sizeof(job->path));
	image_path(control, PREFIX_NEW, job->name, job->file);
	job->size_bytes = call->size_bytes;
	job->ext4 = call->ext4;
	job->force = call->force;
	r = job_thread_start(job);
	if (r < 0) {
		job_free(control, job);
		return api_error_world(err, r, "job");
	}
	*ret_job = job;
	return 0;
}

/* What the layers say of themselves, and where what is made of them goes. */
static int job_prepare(struct job *job, const struct node *node, const struct lun *lun,
		       const struct job_wish *wish, struct api_error *err)
{
	struct store_error why = {""};
	struct store_layer_info info;
	int r;

	job->chain = malloc(sizeof(*job->chain));
	if (!job->chain)
		return api_error_world(err, -ENOMEM, "job");
	r = lun_chain(job->control, node, lun, wish->layer_count, job->chain, &why);
	if (r == 0)
		r = store_layer_info(job->chain->layers[wish->layer_count - 1], &info, &why);
	if (r < 0)
		return api_error_world(err, r, why.text);
	job->chain->store.run_dir = NULL;
	job->chain->store.read_only = true;
	job->chain->store.scratch = false;
	job->size_bytes = info.size_bytes;
	job->node_uuid = node->uuid;
	(void)snprintf(job->node_name, sizeof(job->node_name), "%s", node->name);
	job->lun_uuid = lun->uuid;
	job->first = wish->first;
	job->with_image = wish->with_image;
	if (job->kind == JOB_EXPORT)
		return export_listen(job, err);
	if (job->kind == JOB_PROMOTE) {
		image_path(job->control, PREFIX_NEW, job->name, job->file);
		return 0;
	}
	store_uuid_generate(&job->layer_uuid);
	layer_path(job->control, PREFIX_NEW, &job->layer_uuid, job->file);
	job->bytes_per_s = job->kind == JOB_MERGE ? job->control->merge_bytes_per_s : 0;
	return 0;
}

int job_new_check(struct control *control, const char *name, struct check *check,
		  struct job **ret_job, struct api_error *err)
{
	struct job *job = job_new(control, JOB_CHECK, name);

	if (!job)
		return api_error_world(err, -ENOMEM, "job");
	job->check = check;
	job->joined = true; /* there is no thread yet */
	*ret_job = job;
	return 0;
}

int job_start_on_node(struct control *control, struct node *node, const struct lun *lun,
		      const struct job_wish *wish, struct job **ret_job, struct api_error *err)
{
	struct job *job =
		job_new(control, wish->kind, wish->kind == JOB_PROMOTE ? wish->name : node->name);
	int r;

	if (!job)
		return api_error_world(err, -ENOMEM, "job");
	r = job_prepare(job, node, lun, wish, err);
	if (r == 0) {
		r = job_thread_start(job);
		if (r < 0)
			(void)api_error_world(err, r, "job");
	}
	if (r < 0) {
		if (job->listen_fd >= 0)
			file_unlink(job->path);
		job_free(control, job);
		return r;
	}
	if (wish->kind != JOB_MERGE)
		node->job = job;
	*ret_job = job;
	return 0;
}

/* What a worker made that will not be needed any more. */
static void job_unmake(struct job *job)
{
	char json[PATH_BYTES + 8];

	/* Once its layer is taking its place, the next start decides. */
	if (job->result < 0 || job->change || job->file[0] == '\0')
		return;
	file_unlink(job->file);
	if (!makes_image(job))
		return;
	(void)snprintf(json, sizeof(json), "%s.json", job->file);
	file_unlink(json);
}

void jobs_cancel(struct control *control)
{
	list_for_each (pos, &control->jobs)
		atomic_store(&LIST_ENTRY(pos, struct job, node)->cancelled, true);
}

/* The daemon ends: what is not done leaves nothing behind. */
void jobs_stop(struct control *control)
{
	jobs_cancel(control);
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->state == JOB_RUNNING) {
			if (!job->joined)
				(void)pthread_join((pthread_t)job->thread, NULL);
			job_unmake(job);
		}
		job_free(control, job);
	}
}
