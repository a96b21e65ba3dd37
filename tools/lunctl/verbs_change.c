/*
 * The verbs that change or destroy what is there: rename, rm.
 */
#include <stdio.h>
#include <string.h>

#include "lunctl.h"
#include "output.h"

static const char *const kind_names[] = {[OBJECT_NODE] = "node", [OBJECT_IMAGE] = "image"};
static const char *const kind_paths[] = {[OBJECT_NODE] = "nodes", [OBJECT_IMAGE] = "images"};

/* --- rename --- */

enum { RENAME_NODE, RENAME_IMAGE };

static int run_rename(const struct request *request)
{
	const char *old_name = request->operands[0], *new_name = request->operands[1];
	json_t *object = NULL, *answer = NULL;
	enum object_kind kind;
	char target[160];
	int r = find_object(request, old_name, GIVEN(request, RENAME_NODE),
			    GIVEN(request, RENAME_IMAGE), false, &kind, &object);

	if (r != 0)
		return r;
	json_decref(object);
	(void)snprintf(target, sizeof(target), "/v1/%s/%s/rename", kind_paths[kind], old_name);
	r = api_call(request, "POST", target, json_pack("{s:s}", "name", new_name), &answer);
	if (api_tells_person(request, answer, &r)) {
		(void)printf("%s %s is now %s\n", kind_names[kind], old_name, new_name);
		if (kind == OBJECT_NODE)
			say_next(request,
				 "give the initiator its new names: lunctl show %s --secrets",
				 new_name);
		else
			say_next(request, "lunctl clone %s pi-01", new_name);
	}
	json_decref(answer);
	return r;
}

const struct verb verb_rename = {
	.name = "rename",
	.operands = "OLD NEW",
	.operands_min = 2,
	.operands_max = 2,
	.help = "give a node or an image another name",
	.options = {[RENAME_NODE] = {"node", NULL, "OLD is a node (if an image has that name too)"},
		    [RENAME_IMAGE] = {"image", NULL, "OLD is an image"}},
	.run = run_rename,
};

/* --- rm --- */

enum { RM_DRY_RUN, RM_NOW, RM_TRASH, RM_NODE, RM_IMAGE };

void print_removed(const json_t *answer)
{
	const json_t *removed = json_object_get(answer, "removed"),
		     *kept = json_object_get(answer, "kept");
	bool dry_run = get_bool(answer, "dry_run");
	char size[OUTPUT_SIZE_BYTES], left[OUTPUT_TIME_BYTES];

	for (size_t i = 0; i < json_array_size(removed); i++) {
		const char *what = json_string_value(json_array_get(removed, i));

		(void)fputs(dry_run ? "would remove " : "removed ", stdout);
		put_text(stdout, what ? what : "");
		(void)putchar('\n');
	}
	if (json_is_object(kept))
		(void)printf("%s %s in the trash for %s, unless the space is needed\n",
			     dry_run ? "would keep" : "kept",
			     size_format(get_number(kept, "used_bytes"), size),
			     time_format(get_number(kept, "left_s"), left));
	else
		(void)printf("%s %s\n", dry_run ? "would free" : "freed",
			     size_format(get_number(answer, "frees_bytes"), size));
}

/* Where to send DELETE for `name`. */
static int rm_target(const struct request *request, const char *name, char target[160])
{
	const char *dry_run = GIVEN(request, RM_DRY_RUN) ? "?dry_run=1" : "",
		   *now = !GIVEN(request, RM_NOW)      ? ""
			  : GIVEN(request, RM_DRY_RUN) ? "&now=1"
						       : "?now=1";
	enum object_kind kind = OBJECT_NODE;
	json_t *object = NULL;
	int r;

	if (GIVEN(request, RM_TRASH)) {
		r = find_trash(request, name, GIVEN(request, RM_NODE), GIVEN(request, RM_IMAGE),
			       &object);
		(void)snprintf(target, 160, "/v1/trash/%.40s%s", get_text(object, "id"), dry_run);
	} else {
		r = find_object(request, name, GIVEN(request, RM_NODE), GIVEN(request, RM_IMAGE),
				false, &kind, &object);
		(void)snprintf(target, 160, "/v1/%s/%.63s%s%s", kind_paths[kind], name, dry_run,
			       now);
	}
	json_decref(object);
	return r;
}

/* NODE@SNAPSHOT. */
static int rm_snapshot(const struct request *request, const char *at)
{
	const char *name = request->operands[0];
	bool dry_run = GIVEN(request, RM_DRY_RUN);
	char node[64], target[200], size[SIZE_TEXT_BYTES];
	json_t *answer = NULL;
	int r;

	(void)snprintf(node, sizeof(node), "%.*s", (int)(at - name < 64 ? at - name : 63), name);
	if (!name_valid(node) || !name_valid(at + 1) || GIVEN(request, RM_IMAGE))
		return usage_error("%s: no name of a node's snapshot; write NODE@SNAPSHOT", name);
	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/snapshots/%s%s", node, at + 1,
		       dry_run ? "?dry_run=1" : "");
	r = api_call(request, "DELETE", target, NULL, &answer);
	if (api_tells_person(request, answer, &r)) {
		(void)printf("%s snapshot %s\n", dry_run ? "would remove" : "removed", name);
		(void)printf("its blocks are merged in the background; that frees up to %s\n",
			     size_format(get_number(answer, "frees_bytes"), size));
		if (dry_run)
			say_next(request, "nothing was removed yet; to do it: lunctl rm %s", name);
		else
			say_next(request, "lunctl show %s", node);
	}
	json_decref(answer);
	return r;
}

static int run_rm(const struct request *request)
{
	const char *name = request->operands[0];
	json_t *answer = NULL;
	char target[160];
	int r;

	if (strchr(name, '@'))
		return rm_snapshot(request, strchr(name, '@'));
	r = rm_target(request, name, target);
	if (r == 0)
		r = api_call(request, "DELETE", target, NULL, &answer);
	if (api_tells_person(request, answer, &r)) {
		print_removed(answer);
		if (GIVEN(request, RM_DRY_RUN))
			say_next(request, "nothing was removed yet; to do it: lunctl rm %s%s%s",
				 GIVEN(request, RM_TRASH) ? "--trash " : "",
				 GIVEN(request, RM_NOW) ? "--now " : "", name);
		else if (json_is_object(json_object_get(answer, "kept")))
			say_next(request, "lunctl undo %s brings it back", name);
		else
			say_next(request, "lunctl ls");
	}
	json_decref(answer);
	return r;
}

const struct verb verb_rm = {
	.name = "rm",
	.operands = "NAME",
	.operands_min = 1,
	.operands_max = 1,
	.help = "remove a node with its disks, an image, or a snapshot: NODE@SNAPSHOT",
	.options = {[RM_DRY_RUN] = {"dry-run", NULL, "only say what would be removed"},
		    [RM_NOW] = {"now", NULL, "for good, not into the trash"},
		    [RM_TRASH] = {"trash", NULL, "for good, out of the trash"},
		    [RM_NODE] = {"node", NULL, "NAME is a node (if an image has that name too)"},
		    [RM_IMAGE] = {"image", NULL, "NAME is an image"}},
	.run = run_rm,
};
