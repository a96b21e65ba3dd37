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
	if (r != 0)
		return r;
	if (request->json) {
		r = print_json(answer);
	} else {
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

enum { RM_DRY_RUN, RM_NODE, RM_IMAGE };

static void print_removed(const json_t *answer)
{
	const json_t *removed = json_object_get(answer, "removed");
	char size[OUTPUT_SIZE_BYTES];
	const char *doing = get_bool(answer, "dry_run") ? "would remove " : "removed ";

	for (size_t i = 0; i < json_array_size(removed); i++) {
		const char *what = json_string_value(json_array_get(removed, i));

		(void)fputs(doing, stdout);
		put_text(stdout, what ? what : "");
		(void)putchar('\n');
	}
	(void)printf("%s %s\n", get_bool(answer, "dry_run") ? "would free" : "freed",
		     size_format(get_number(answer, "frees_bytes"), size));
}

static int run_rm(const struct request *request)
{
	const char *name = request->operands[0];
	bool dry_run = GIVEN(request, RM_DRY_RUN);
	json_t *object = NULL, *answer = NULL;
	enum object_kind kind;
	char target[160];
	int r = find_object(request, name, GIVEN(request, RM_NODE), GIVEN(request, RM_IMAGE), false,
			    &kind, &object);

	if (r != 0)
		return r;
	json_decref(object);
	(void)snprintf(target, sizeof(target), "/v1/%s/%s%s", kind_paths[kind], name,
		       dry_run ? "?dry_run=1" : "");
	r = api_call(request, "DELETE", target, NULL, &answer);
	if (r != 0)
		return r;
	if (request->json) {
		r = print_json(answer);
	} else {
		print_removed(answer);
		if (dry_run)
			say_next(request, "nothing was removed yet; to do it: lunctl rm %s", name);
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
	.help = "remove a node with its disks, or an image",
	.options = {[RM_DRY_RUN] = {"dry-run", NULL, "only say what would be removed"},
		    [RM_NODE] = {"node", NULL, "NAME is a node (if an image has that name too)"},
		    [RM_IMAGE] = {"image", NULL, "NAME is an image"}},
	.run = run_rm,
};
