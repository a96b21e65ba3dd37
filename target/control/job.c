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

bool job_makes(struct control *control, const char *name)
{
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->state == JOB_RUNNING && strcmp(job->name, name) == 0)
			return true;
	}
	return false;
}

static void job_free(struct control *control, struct job *job)
{
	list_remove(&job->node);
	control->job_count--;
	json_decref(job->result_json);
	free(job);
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

static void job_settle(struct job *job)
{
	struct image *image;

	job->image.created = time(NULL);
	if (job->result == 0)
		job->result = image_adopt(job->control, &job->image, &job->error);
	image = image_find(job->control, job->name);
	if (job->result < 0 || !image) {
		job->state = JOB_FAILED;
		log_warn("job %llu: %s", (unsigned long long)job->id, job->error.message);
		return;
	}
	job->state = JOB_DONE;
	job->result_json = json_pack("{s:o}", "image", reply_image(job->control, image));
	log_info("image %s: %s, %llu bytes", image->name, image->content,
		 (unsigned long long)image->size_bytes);
}

/* Control thread. */
static void on_finished(struct mailbox_msg *msg)
{
	struct job *job = CONTAINER_OF(msg, struct job, finished);

	(void)pthread_join((pthread_t)job->thread, NULL);
	job_settle(job);
}

static void *job_thread(void *arg)
{
	struct job *job = arg;

	log_set_thread("job");
	import_run(job);
	mailbox_post(job->control->mailbox, &job->finished);
	return NULL;
}

static int job_check(struct control *control, const struct api_call *call, struct api_error *err)
{
	unsigned running = 0;

	if (image_find(control, call->name))
		return api_error_set(err, 409, "exists", "choose another name, or remove it first",
				     "there is an image %s already", call->name);
	if (job_makes(control, call->name))
		return api_error_set(err, 409, "exists", "wait for it, or choose another name",
				     "an image %s is being made", call->name);
	if (control->image_count == LIMIT_IMAGES)
		return api_error_set(err, 409, "limit", "remove images that are not needed",
				     "there are %u images, no more can be made", LIMIT_IMAGES);
	list_for_each (pos, &control->jobs)
		running += LIST_ENTRY(pos, struct job, node)->state == JOB_RUNNING;
	if (running == RUNNING_JOBS_MAX)
		return api_error_set(err, 409, "busy", "wait until one of them is done",
				     "%u jobs are running, no more can be started", running);
	return 0;
}

/* Signals are for the control thread's loop. */
static int thread_start(struct job *job)
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
	return -r;
}

int job_start(struct control *control, const struct api_call *call, struct job **ret_job,
	      struct api_error *err)
{
	struct job *job;
	int r = job_check(control, call, err);

	if (r < 0)
		return r;
	jobs_forget(control);
	job = calloc(1, sizeof(*job));
	if (!job)
		return api_error_world(err, -ENOMEM, "job");
	job->control = control;
	job->id = ++control->last_job_id;
	job->kind = call->path[0] ? JOB_IMPORT : JOB_CREATE;
	job->state = JOB_RUNNING;
	memcpy(job->name, call->name, sizeof(job->name));
	memcpy(job->path, call->path, sizeof(job->path));
	image_path(control, PREFIX_NEW, job->name, job->file);
	job->size_bytes = call->size_bytes;
	job->ext4 = call->ext4;
	job->force = call->force;
	job->finished.run = on_finished;
	list_append(&control->jobs, &job->node);
	control->job_count++;
	r = thread_start(job);
	if (r < 0) {
		job_free(control, job);
		return api_error_world(err, r, "job");
	}
	*ret_job = job;
	return 0;
}

/* The daemon ends: what is not done leaves nothing behind. */
void jobs_stop(struct control *control)
{
	list_for_each (pos, &control->jobs)
		atomic_store(&LIST_ENTRY(pos, struct job, node)->cancelled, true);
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->state == JOB_RUNNING) {
			(void)pthread_join((pthread_t)job->thread, NULL);
			if (job->result == 0) {
				char json[PATH_BYTES + 8];

				(void)snprintf(json, sizeof(json), "%s.json", job->file);
				file_unlink(job->file);
				file_unlink(json);
			}
		}
		job_free(control, job);
	}
}
