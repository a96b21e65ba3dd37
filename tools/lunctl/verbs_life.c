/*
 * The verbs of a disk's life: snapshot, rollback, reset, resize, flatten, promote.
 */
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "lunctl.h"
#include "output.h"

#define TARGET_BYTES 160

/* /v1/nodes/NODE/VERB, or the exit code after saying that NODE can't be a name. */
static int node_target(const struct request *request, const char *verb, char target[TARGET_BYTES])
{
	const char *name = request->operands[0];

	if (!name_valid(name))
		return usage_error("%s: no name of a node", name);
	(void)snprintf(target, TARGET_BYTES, "/v1/nodes/%s/%s", name, verb);
	return 0;
}

/* Takes the body. */
static int post(const struct request *request, const char *verb, json_t *body, json_t **ret_answer)
{
	char target[TARGET_BYTES];
	int r = node_target(request, verb, target);

	if (r != 0) {
		json_decref(body);
		return r;
	}
	return api_call(request, "POST", target, body, ret_answer);
}

/* --- snapshot --- */

static int run_snapshot(const struct request *request)
{
	const char *node = request->operands[0], *name = request->operands[1];
	json_t *answer = NULL;
	int r = post(request, "snapshots", json_pack("{s:s}", "name", name), &answer);

	if (api_tells_person(request, answer, &r)) {
		(void)printf("snapshot %s@%s\n", node, name);
		say_next(request,
			 "lunctl rollback %s %s goes back to it; lunctl rm %s@%s removes it", node,
			 name, node, name);
	}
	json_decref(answer);
	return r;
}

const struct verb verb_snapshot = {
	.name = "snapshot",
	.operands = "NODE NAME",
	.operands_min = 2,
	.operands_max = 2,
	.help = "keep what the node's disks hold now, under a name; the node may run",
	.run = run_snapshot,
};

/* --- rollback, reset --- */

enum { BACK_FORCE, BACK_DRY_RUN };

#define BACK_OPTIONS                                                                       \
	{                                                                                  \
		[BACK_FORCE] = {"force", NULL, "lose snapshots too that were made since"}, \
		[BACK_DRY_RUN] = {"dry-run", NULL, "only say what would be lost"},         \
	}

/* Back to `snapshot`, or to the image. */
static int go_back(const struct request *request, const char *snapshot)
{
	const char *node = request->operands[0];
	bool force = GIVEN(request, BACK_FORCE), dry_run = GIVEN(request, BACK_DRY_RUN);
	const char *verb = snapshot ? "rollback" : "reset";
	json_t *answer = NULL,
	       *body = json_pack("{s:b, s:b}", "force", (int)force, "dry_run", (int)dry_run);
	int r;

	if (snapshot)
		(void)json_object_set_new(body, "snapshot", json_string(snapshot));
	r = post(request, verb, body, &answer);
	if (api_tells_person(request, answer, &r)) {
		print_removed(answer);
		if (!dry_run)
			(void)printf("node %s is back at %s\n", node,
				     snapshot ? snapshot : "its image");
		if (dry_run)
			say_next(request, "nothing was changed yet; to do it: lunctl %s %s%s%s%s",
				 verb, node, snapshot ? " " : "", snapshot ? snapshot : "",
				 force ? " --force" : "");
		else
			say_next(request, "start %s", node);
	}
	json_decref(answer);
	return r;
}

static int run_rollback(const struct request *request)
{
	return go_back(request, request->operands[1]);
}

const struct verb verb_rollback = {
	.name = "rollback",
	.operands = "NODE NAME",
	.operands_min = 2,
	.operands_max = 2,
	.help = "put a node's disks back to a snapshot; what was written since is lost",
	.options = BACK_OPTIONS,
	.run = run_rollback,
};

static int run_reset(const struct request *request)
{
	return go_back(request, NULL);
}

const struct verb verb_reset = {
	.name = "reset",
	.operands = "NODE",
	.operands_min = 1,
	.operands_max = 1,
	.help = "put a node's root disk back to its image; data disks stay",
	.options = BACK_OPTIONS,
	.run = run_reset,
};

/* --- resize --- */

enum { RESIZE_LUN };

static int run_resize(const struct request *request)
{
	const char *node = request->operands[0], *lun = request->values[RESIZE_LUN];
	char size[SIZE_TEXT_BYTES];
	json_t *answer = NULL, *body = json_object();
	uint64_t bytes = 0;
	int r = put_size(body, "size_bytes", "resize", request->operands[1]);

	if (r == 0)
		r = put_lun(body, lun);
	if (r != 0) {
		json_decref(body);
		return r;
	}
	bytes = get_number(body, "size_bytes");
	r = post(request, "resize", body, &answer);
	if (api_tells_person(request, answer, &r)) {
		(void)printf("node %s: LUN %s has %s now\n", node, lun ? lun : "0",
			     size_format(bytes, size));
		say_next(request, "let %s grow its partition and file system: growpart, resize2fs",
			 node);
	}
	json_decref(answer);
	return r;
}

const struct verb verb_resize = {
	.name = "resize",
	.operands = "NODE SIZE",
	.operands_min = 2,
	.operands_max = 2,
	.help = "make a node's disk larger: 64G; the node may run",
	.options = {[RESIZE_LUN] = {"lun", "LUN", "which disk, if not LUN 0"}},
	.run = run_resize,
};

/* --- flatten --- */

static int run_flatten(const struct request *request)
{
	const char *node = request->operands[0];
	json_t *result = NULL;
	char target[TARGET_BYTES];
	int r = node_target(request, "flatten", target);

	if (r == 0)
		r = api_job(request, target, NULL, &result);
	if (api_tells_person(request, result, &r)) {
		(void)printf("node %s stands on no image any more\n", node);
		say_next(request, "lunctl ls shows which images nobody needs");
	}
	json_decref(result);
	return r;
}

const struct verb verb_flatten = {
	.name = "flatten",
	.operands = "NODE",
	.operands_min = 1,
	.operands_max = 1,
	.help = "give a node all of its image's content, so that it needs the image no more",
	.run = run_flatten,
};

/* --- promote --- */

enum { PROMOTE_SNAPSHOT };

static int run_promote(const struct request *request)
{
	const char *image = request->operands[1];
	json_t *body = json_pack("{s:s}", "image", image);
	char target[TARGET_BYTES], next[256];
	int r = put_string(body, "snapshot", request->values[PROMOTE_SNAPSHOT]);

	if (r == 0)
		r = node_target(request, "promote", target);
	if (r != 0) {
		json_decref(body);
		return r;
	}
	(void)snprintf(next, sizeof(next), "lunctl clone %.63s pi-01", image);
	return make_image(request, target, body, next);
}

const struct verb verb_promote = {
	.name = "promote",
	.operands = "NODE NEWBASE",
	.operands_min = 2,
	.operands_max = 2,
	.help = "make an image of a node's root disk; the node may run",
	.options = {[PROMOTE_SNAPSHOT] = {"snapshot", "NAME", "as it was then, not as it is now"}},
	.run = run_promote,
};
