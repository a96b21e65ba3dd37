/*
 * Check: whether all files are what they should be, and mending what can be mended. A job that
 * takes images and nodes in turn; each turn has a worker thread that reads the files of one of
 * them.
 *
 *   a turn   [ repair: stats | target_remove ] | worker | [ target_add ]
 *
 * A node is only looked at while it is served. To be mended it is taken out of service for its
 * turn, if nobody is logged in. Its layers must not go meanwhile (node.job). One that was out of
 * service is tried again when it is mended, and is told about when it is not. Operations on images
 * wait for nobody: what was found of an image that is gone by the end of its turn is forgotten.
 *
 * A layer by itself and an image are the store's to judge. Here it is looked at whether all files
 * are there that the catalogue knows, whether parents fit, and whether there are others.
 */
#include "control/control_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define FINDING_KINDS 4
#define BACKUP        "restore it from a backup"

struct check_target {
	bool is_image;
	store_uuid_t uuid;
};

/* One file of a turn; a LUN's layers lie one behind the other, lowest first. */
struct check_file {
	char path[PATH_BYTES];
	store_uuid_t uuid;
	bool is_image;
	bool in_use;
	bool is_lowest, is_top; /* of its LUN */
	/* "": nobody is served from it; else: a node and LUN, and from which file. */
	char served[NAME_BYTES];
	unsigned lun;
	struct file_id id;
	/* The lowest: of the image beneath, or none. */
	enum store_parent parent_kind;
	store_uuid_t parent_uuid;
	uint64_t parent_bytes;
};

struct check {
	bool repair;
	struct check_target *targets;
	unsigned target_count, next;
	bool waits; /* until a merge has taken its place in the next one: milliseconds */
	/* What was found until now; [i] counts those of a kind. */
	json_t *findings;
	unsigned counts[FINDING_KINDS], file_count;
	/* This turn's; the worker's while it runs. */
	struct node *node; /* or NULL: an image */
	char name[NAME_BYTES];
	struct check_file *files;
	unsigned turn_file_count;
	const char *path; /* of the file that is looked at */
	bool mend;
	bool was_out; /* the node was not served before */
	json_t *found;
};

void check_free(struct check *check)
{
	if (!check)
		return;
	json_decref(check->findings);
	json_decref(check->found);
	free(check->files);
	free(check->targets);
	free(check);
}

/* --- findings --- */

static const char *finding_name(enum store_finding finding)
{
	switch (finding) {
	case STORE_FINDING_NOTE: return "note";
	case STORE_FINDING_MENDED: return "mended";
	case STORE_FINDING_MENDABLE: return "mendable";
	case STORE_FINDING_LOST: return "lost";
	}
	return "";
}

static json_t *finding_cure(const struct check *check, enum store_finding finding)
{
	switch (finding) {
	case STORE_FINDING_NOTE:
	case STORE_FINDING_MENDED:
	case STORE_FINDING_LOST: break; /* the sentence says it */
	case STORE_FINDING_MENDABLE:
		return json_sprintf("while nobody uses the node: lunctl check %s --repair",
				    check->name);
	}
	return json_string("");
}

/* As store_found wants it. */
static void add_finding(void *arg, enum store_finding finding, const char *text)
{
	struct check *check = arg;

	json_array_append_new(check->found,
			      json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "kind",
					check->node ? "node" : "image", "name", check->name,
					"finding", finding_name(finding), "file",
					reply_text(check->path ? check->path : ""), "message",
					reply_text(text), "cure", finding_cure(check, finding)));
}

static void find(struct check *check, enum store_finding finding, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void find(struct check *check, enum store_finding finding, const char *format, ...)
{
	char text[2 * PATH_BYTES + 128];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	add_finding(check, finding, text);
}

/* --- the worker --- */

/* Whether the layer is what stands in the catalogue, over `below` (NULL: the lowest, or unknown).
 */
static void check_relation(struct check *check, const struct check_file *file,
			   const struct store_layer_info *info,
			   const struct store_layer_info *below)
{
	if (memcmp(&info->uuid, &file->uuid, sizeof(info->uuid)) != 0)
		find(check, STORE_FINDING_LOST, "%s is another layer than its name says; " BACKUP,
		     file->path);
	if (!file->is_top && !info->sealed)
		find(check, STORE_FINDING_LOST, "%s is not sealed, but others stand on it; " BACKUP,
		     file->path);
	if (file->is_lowest) {
		if (info->parent_kind != file->parent_kind ||
		    (info->parent_kind == STORE_PARENT_IMAGE &&
		     memcmp(&info->parent_uuid, &file->parent_uuid, sizeof(info->parent_uuid)) !=
			     0))
			find(check, STORE_FINDING_LOST,
			     "%s was not made over the node's image; " BACKUP, file->path);
		else if (info->parent_kind == STORE_PARENT_IMAGE &&
			 info->parent_size_bytes != file->parent_bytes)
			find(check, STORE_FINDING_LOST,
			     "%s was made over an image of %llu bytes, and it has %llu now; "
			     "restore "
			     "the image from a backup",
			     file->path, (unsigned long long)info->parent_size_bytes,
			     (unsigned long long)file->parent_bytes);
	} else if (below && (info->parent_kind != STORE_PARENT_LAYER ||
			     !store_layer_is_parent(below, &info->parent_uuid) ||
			     info->parent_size_bytes != below->size_bytes)) {
		find(check, STORE_FINDING_LOST,
		     "%s was not made over the layer below it (%s); restore them from a backup",
		     file->path, file[-1].path);
	}
}

/* What it holds is in no other file, but is not lost yet. */
static void find_gone(struct check *check, const struct check_file *file)
{
	char cure[GONE_CURE_BYTES];

	gone_cure(file->served, file->lun, cure);
	find(check, STORE_FINDING_LOST,
	     "%s is missing, or is another file now, but node %s is served from it: its data is "
	     "still there as long as lunrootd runs; %s",
	     file->path, file->served, cure);
}

static int check_file_run(struct check *check, const char *run_dir, const struct check_file *file,
			  const struct store_work *work, struct store_error *err)
{
	bool gone = file->served[0] && !file_is(file->path, &file->id);
	int r = file->is_image ? store_image_check(file->path, add_finding, check, work, err)
			       : store_layer_check(file->path, run_dir, check->mend, file->in_use,
						   add_finding, check, work, err);

	if (gone)
		find_gone(check, file);
	else if (r == -ENOENT)
		find(check, STORE_FINDING_LOST, "%s is missing; " BACKUP, file->path);
	if (r == -EBUSY)
		find(check, STORE_FINDING_NOTE, "%s", err->text);
	else if (r < 0 && r != -ENOENT && r != -ECANCELED && r != -ENOMEM)
		find(check, STORE_FINDING_LOST, "%s", err->text);
	return r == -ECANCELED || r == -ENOMEM ? r : 0;
}

void check_run(struct job *job)
{
	const struct store_work work = {
		.done_bytes = &job->done_bytes,
		.total_bytes = &job->total_bytes,
		.cancelled = &job->cancelled,
	};
	struct check *check = job->check;
	struct store_layer_info infos[2] = {0};
	bool known = false; /* the layer below is */
	int r = 0;

	atomic_store_explicit(&job->phase, PHASE_CHECKING, memory_order_relaxed);
	for (unsigned i = 0; r == 0 && i < check->turn_file_count; i++) {
		const struct check_file *file = &check->files[i];
		struct store_layer_info *info = &infos[i % 2];
		struct store_error err = {""};

		check->path = file->path;
		r = check_file_run(check, job->control->run_dir, file, &work, &err);
		/* What a mended header says now. */
		if (r == 0 && !file->is_image) {
			bool below_known = known && !file->is_lowest;

			known = store_layer_info(file->path, info, &err) == 0;
			if (known)
				check_relation(check, file, info,
					       below_known ? &infos[(i + 1) % 2] : NULL);
		}
		check->file_count++;
		control_step("check-file");
	}
	check->path = NULL;
	job->result = r;
	if (r == -ECANCELED)
		job_tell_cancelled(job, "the check");
	else if (r < 0)
		(void)api_error_world(&job->error, r, "check");
}

/* --- what a turn looks at --- */

static void file_served(struct check_file *file, const struct node *node, unsigned lun,
			const struct file_id *id)
{
	(void)snprintf(file->served, sizeof(file->served), "%s", node->served ? node->name : "");
	file->lun = lun;
	file->id = *id;
}

static bool turn_of_image(const struct control *control, struct check *check,
			  const struct image *image)
{
	char name[IMAGE_FILE_BYTES];

	check->node = NULL;
	(void)snprintf(check->name, sizeof(check->name), "%s", image->name);
	check->files = calloc(1, sizeof(*check->files));
	if (!check->files)
		return false;
	check->turn_file_count = 1;
	check->files[0].is_image = true;
	for (unsigned i = 0; i < control->node_count && !check->files[0].served[0]; i++) {
		const struct node *node = control->nodes[i];

		if (memcmp(&node->image_uuid, &image->uuid, sizeof(image->uuid)) == 0)
			file_served(&check->files[0], node, 0, &node->image_id);
	}
	image_file_name(image, name);
	image_path(control, image->removed ? PREFIX_TRASH : "", name, check->files[0].path);
	return true;
}

/* Of the image that its LUN 0 stands on, which may lie in the trash with it. */
static const struct image *base_of(struct control *control, const struct node *node)
{
	const struct trash *trash = trash_find(control, &node->image_uuid);

	return trash && trash->image ? trash->image : image_find_uuid(control, &node->image_uuid);
}

static void turn_of_lun(struct control *control, struct check *check, const struct node *node,
			const struct lun *lun)
{
	const struct image *base =
		lun->number == 0 && !node_is_flat(node) ? base_of(control, node) : NULL;

	if (lun->number == 0 && !node_is_flat(node) && !base)
		find(check, STORE_FINDING_LOST,
		     "the image that node %s stands on is missing; put its file and its .json back",
		     node->name);
	for (unsigned i = 0; i < lun->layer_count; i++) {
		struct check_file *file = &check->files[check->turn_file_count++];

		layer_path(control, node->removed ? PREFIX_TRASH : "", &lun->layers[i].uuid,
			   file->path);
		file->uuid = lun->layers[i].uuid;
		file->is_lowest = i == 0;
		file->is_top = i + 1 == lun->layer_count;
		file->in_use = file->is_top && node->served;
		file_served(file, node, lun->number, &lun->layers[i].id);
		if (!base)
			continue;
		file->parent_kind = STORE_PARENT_IMAGE;
		file->parent_uuid = base->uuid;
		file->parent_bytes = base->size_bytes;
	}
}

static bool turn_of_node(struct control *control, struct check *check, struct node *node)
{
	unsigned layers = 0;

	for (unsigned i = 0; i < node->lun_count; i++)
		layers += node->luns[i].layer_count;
	check->files = calloc(layers + 1, sizeof(*check->files));
	if (!check->files)
		return false;
	for (unsigned i = 0; i < node->lun_count; i++)
		turn_of_lun(control, check, node, &node->luns[i]);
	return true;
}

/* --- strangers --- */

static bool is_being_made(struct control *control, const char *path)
{
	list_for_each (pos, &control->jobs) {
		const struct job *job = LIST_ENTRY(pos, struct job, node);
		size_t bytes = strlen(job->file);

		if (job->state == JOB_RUNNING && bytes > 0 && strncmp(job->file, path, bytes) == 0)
			return true; /* it, or the sidecar */
	}
	return false;
}

static void find_strangers(struct control *control, struct check *check, const char *sub)
{
	char dir[PATH_BYTES], path[PATH_BYTES + NAME_MAX + 2], name[NAME_MAX + 1],
		place[PATH_BYTES + 8];
	const struct dirent *entry;
	DIR *stream;

	(void)snprintf(dir, sizeof(dir), "%s/%s", control->state_dir, sub);
	stream = opendir(dir);
	while (stream && (entry = readdir(stream))) {
		const char *file = entry->d_name, *prefix = file_prefix(file);
		enum file_kind kind;

		if (strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", dir, file);
		(void)snprintf(name, sizeof(name), "%s", file + strlen(prefix));
		kind = file_kind(name, strcmp(sub, "images") == 0);
		if ((file_place(control, kind, name, place) && strcmp(path, place) == 0) ||
		    is_being_made(control, path))
			continue;
		check->path = path;
		find(check, STORE_FINDING_NOTE,
		     "%s is in no catalogue, and nobody uses it: remove it if nobody misses it",
		     path);
	}
	check->path = NULL;
	if (stream)
		closedir(stream);
}

/* --- turns --- */

static void turn_next(struct job *job);

static void finish(struct job *job, int r)
{
	struct check *check = job->check;
	const unsigned *counts = check->counts;

	if (r == 0)
		job->result_json = json_pack(
			"{s:O, s:i, s:i, s:i, s:i, s:i, s:b}", "findings", check->findings, "files",
			(int)check->file_count, "notes", (int)counts[STORE_FINDING_NOTE], "mended",
			(int)counts[STORE_FINDING_MENDED], "mendable",
			(int)counts[STORE_FINDING_MENDABLE], "lost",
			(int)counts[STORE_FINDING_LOST], "clean",
			counts[STORE_FINDING_MENDED] + counts[STORE_FINDING_MENDABLE] +
					counts[STORE_FINDING_LOST] ==
				0);
	job_end(job, r);
}

static void count(struct check *check, const char *name)
{
	for (unsigned i = 0; i < FINDING_KINDS; i++)
		check->counts[i] += strcmp(name, finding_name((enum store_finding)i)) == 0;
}

/* What was found in this turn is told, here and in the log. */
static void turn_keep(struct check *check)
{
	for (size_t i = 0; i < json_array_size(check->found); i++) {
		const json_t *finding = json_array_get(check->found, i);
		const char *name = json_string_value(json_object_get(finding, "finding")),
			   *message = json_string_value(json_object_get(finding, "message"));

		if (!name || !message)
			continue; /* there was no memory */
		count(check, name);
		log_warn("check: %s: %s", name, message);
	}
	json_array_extend(check->findings, check->found);
	json_array_clear(check->found);
	free(check->files);
	check->files = NULL;
	check->turn_file_count = 0;
}

/* The node goes on. */
static void turn_end(struct job *job)
{
	struct check *check = job->check;

	turn_keep(check);
	if (check->node) {
		check->node->busy = false;
		check->node->job = NULL;
		check->node = NULL;
		merge_kick(job->control);
	}
	if (job->result < 0)
		finish(job, job->result);
	else
		turn_next(job);
}

/* The node is out of service, and nothing that was found of its files says why. */
static bool is_out_for_nothing(const struct job *job)
{
	const struct check *check = job->check;

	if (job->result < 0 || !check->node || check->node->removed || !check->was_out)
		return false;
	for (size_t i = 0; i < json_array_size(check->found); i++) {
		const json_t *finding = json_array_get(check->found, i);
		const char *name = json_string_value(json_object_get(finding, "finding"));

		if (name && strcmp(name, finding_name(STORE_FINDING_NOTE)) != 0)
			return false;
	}
	return true;
}

static void find_out(const struct job *job)
{
	struct check *check = job->check;
	const struct node *node = check->node;
	const char *why;

	if (!is_out_for_nothing(job))
		return;
	why = node->message[0] ? node->message : "the log says why";
	if (node->served)
		find(check, STORE_FINDING_MENDED, "node %s was not served, and is served again",
		     node->name);
	else if (check->mend)
		find(check, STORE_FINDING_LOST,
		     "node %s can't be served: %s; its layers are good, so put right what this "
		     "says, then start lunrootd again",
		     node->name, why);
	else
		find(check, STORE_FINDING_MENDABLE,
		     "node %s is not served (%s), but its layers are good: once that is put "
		     "right, start lunrootd again",
		     node->name, why);
}

static void on_served(void *arg, int res)
{
	struct job *job = arg;

	if (res < 0)
		node_not_served(job->check->node, res);
	find_out(job);
	turn_end(job);
}

void check_settle(struct job *job)
{
	struct check *check = job->check;
	const struct check_target *target = &check->targets[check->next - 1];

	if (target->is_image && !image_find_uuid(job->control, &target->uuid) &&
	    !trash_find(job->control, &target->uuid))
		json_array_clear(check->found);
	/* Mended or not, it goes on; one that was damaged may be whole now. */
	if (check->node && !check->node->removed && check->mend && !job->control->stopping &&
	    node_serve(job->control, check->node, on_served, job) == 0)
		return;
	find_out(job);
	turn_end(job);
}

static void turn_start(struct job *job)
{
	struct check *check = job->check;
	int r = turn_of_node(job->control, check, check->node) ? job_thread_start(job) : -ENOMEM;

	if (r == 0)
		return;
	(void)api_error_world(&job->error, r, "check");
	job->result = r;
	check_settle(job);
}

static void turn_in_use(struct job *job)
{
	struct check *check = job->check;

	check->node->busy = false;
	check->mend = false;
	find(check, STORE_FINDING_NOTE, "node %s is in use: it is looked at, and nothing is mended",
	     check->name);
	turn_start(job);
}

static void on_removed(void *arg, int res)
{
	struct job *job = arg;

	if (res < 0) {
		turn_in_use(job);
		return;
	}
	job->check->node->served = false;
	turn_start(job);
}

static void on_stats(void *arg, const struct server_stats *stats)
{
	struct job *job = arg;
	struct node *node = job->check->node;

	for (unsigned i = 0; i < stats->session_count; i++) {
		if (memcmp(stats->sessions[i].target_uuid, node->uuid.b, sizeof(node->uuid.b)) ==
		    0) {
			turn_in_use(job);
			return;
		}
	}
	server_target_remove(job->control->server, node->uuid.b, false, on_removed, job);
}

/* False: not now. */
static bool turn_node(struct job *job, struct node *node)
{
	struct check *check = job->check;
	char path[PATH_BYTES];

	if (node->merge_busy) {
		check->waits = true;
		check->next--;
		return true;
	}
	check->node = node;
	(void)snprintf(check->name, sizeof(check->name), "%s", node->name);
	if (node->busy || (node->job && node->job != job)) {
		find(check, STORE_FINDING_NOTE,
		     "node %s was not checked: something else is being done with it", node->name);
		turn_keep(check);
		check->node = NULL;
		return false;
	}
	node->job = job;
	/* What is in files that are gone would be lost with its service. */
	check->mend = check->repair && !gone_look(job->control, node, path);
	check->was_out = !node->served;
	if (check->mend && node->served) {
		node->busy = true;
		server_stats(job->control->server, on_stats, job);
	} else {
		node->busy = check->mend;
		turn_start(job);
	}
	return true;
}

static bool turn_image(struct job *job, const struct image *image)
{
	struct check *check = job->check;
	int r = turn_of_image(job->control, check, image) ? job_thread_start(job) : -ENOMEM;

	if (r < 0) {
		(void)api_error_world(&job->error, r, "check");
		job->result = r;
		turn_end(job);
	}
	return true;
}

/* The next that is still there. */
static void turn_next(struct job *job)
{
	struct control *control = job->control;
	struct check *check = job->check;

	while (check->next < check->target_count) {
		const struct check_target *target = &check->targets[check->next++];
		const struct trash *trash = trash_find(control, &target->uuid);
		struct image *image = trash ? trash->image : NULL;
		struct node *node = trash ? trash->node : NULL;

		if (atomic_load(&job->cancelled) || control->stopping) {
			job_tell_cancelled(job, "the check");
			finish(job, -ECANCELED);
			return;
		}
		if (!trash && target->is_image)
			image = image_find_uuid(control, &target->uuid);
		else if (!trash)
			node = node_find_uuid(control, &target->uuid);
		if ((image && turn_image(job, image)) || (node && turn_node(job, node)))
			return;
	}
	finish(job, 0);
}

void check_go_on(struct control *control)
{
	list_for_each (pos, &control->jobs) {
		struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->state != JOB_RUNNING || !job->check || !job->check->waits)
			continue;
		job->check->waits = false;
		turn_next(job);
	}
}

/* --- start --- */

static void add_target(struct check *check, bool is_image, const store_uuid_t *uuid)
{
	check->targets[check->target_count++] =
		(struct check_target){.is_image = is_image, .uuid = *uuid};
}

static void add_all(struct control *control, struct check *check)
{
	for (unsigned i = 0; i < control->node_count; i++)
		add_target(check, false, &control->nodes[i]->uuid);
	list_for_each (pos, &control->trash) {
		const struct trash *trash = LIST_ENTRY(pos, struct trash, entry);

		add_target(check, trash->image != NULL,
			   trash->image ? &trash->image->uuid : &trash->node->uuid);
	}
	/* The long ones last. */
	for (unsigned i = 0; i < control->image_count; i++)
		add_target(check, true, &control->images[i]->uuid);
	find_strangers(control, check, "images");
	find_strangers(control, check, "layers");
	turn_keep(check);
}

static int add_named(struct control *control, struct check *check, const struct api_call *call,
		     struct api_error *err)
{
	const char *name = call->name[0] ? call->name : call->base;
	const struct image *image = call->base[0] ? image_find(control, name) : NULL;
	const struct node *node = call->name[0] ? node_find(control, name) : NULL;

	if (image) {
		add_target(check, true, &image->uuid);
		return 0;
	}
	if (!node)
		return api_error_set(err, 404, "not_found", "lunctl ls shows what there is",
				     "there is no %s %s", call->name[0] ? "node" : "image", name);
	if ((node->busy && !node->merge_busy) || node->job)
		return api_error_set(err, 409, "busy", "try again when it is done",
				     "something else is being done with node %s", name);
	add_target(check, false, &node->uuid);
	return 0;
}

int check_start(struct control *control, const struct api_call *call, struct job **ret_job,
		struct api_error *err)
{
	struct check *check = calloc(1, sizeof(*check));
	unsigned count = control->node_count + control->image_count + control->trash_count + 1;
	struct job *job;
	int r = job_check_room(control, err);

	if (check) {
		check->targets = calloc(count, sizeof(*check->targets));
		check->findings = json_array();
		check->found = json_array();
		check->repair = call->repair;
	}
	if (r == 0 && control->stopping)
		r = api_error_set(err, 503, "stopping", "start it again, then try again",
				  "lunrootd is stopping");
	if (r == 0 && (!check || !check->targets || !check->findings || !check->found))
		r = api_error_world(err, -ENOMEM, "check");
	if (r == 0 && (call->name[0] || call->base[0]))
		r = add_named(control, check, call, err);
	else if (r == 0)
		add_all(control, check);
	if (r == 0)
		r = job_new_check(control, call->name[0] ? call->name : call->base, check, &job,
				  err);
	if (r < 0) {
		check_free(check);
		return r;
	}
	*ret_job = job;
	turn_next(job);
	return 0;
}
