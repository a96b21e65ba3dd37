/*
 * The verbs that keep a server well: the trash and undo, check.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "lunctl.h"
#include "output.h"

/* --- the trash --- */

int list_trash(const struct request *request)
{
	json_t *answer = NULL;
	const json_t *items;
	struct table table;
	int r = api_call(request, "GET", "/v1/trash", NULL, &answer);

	if (r != 0)
		return r;
	items = json_object_get(answer, "trash");
	if (request->json) {
		r = print_json(answer);
		json_decref(answer);
		return r;
	}
	table_init(&table, 6);
	table_row(&table, (const char *[]){"NAME", "KIND", "SIZE", "ON DISK", "REMOVED", "LEFT"});
	for (size_t i = 0; i < json_array_size(items); i++) {
		const json_t *item = json_array_get(items, i);
		char size[OUTPUT_SIZE_BYTES], used[OUTPUT_SIZE_BYTES], left[OUTPUT_TIME_BYTES];

		table_row(&table,
			  (const char *[]){get_text(item, "name"), get_text(item, "kind"),
					   size_format(get_number(item, "size_bytes"), size),
					   size_format(get_number(item, "used_bytes"), used),
					   get_text(item, "removed"),
					   time_format(get_number(item, "left_s"), left)});
	}
	table_print(&table, stdout);
	table_done(&table);
	if (json_array_size(items) > 0)
		say_next(request, "lunctl undo %s",
			 get_text(json_array_get(items, json_array_size(items) - 1), "name"));
	json_decref(answer);
	return 0;
}

int find_trash(const struct request *request, const char *name, bool want_node, bool want_image,
	       json_t **ret_item)
{
	json_t *answer = NULL, *found = NULL;
	const json_t *items;
	bool node = false, image = false;
	char message[256];
	int r;

	if (!name_valid(name))
		return usage_error("%s: no name of a node or an image", name);
	r = api_call(request, "GET", "/v1/trash", NULL, &answer);
	if (r != 0)
		return r;
	items = json_object_get(answer, "trash");
	for (size_t i = 0; i < json_array_size(items); i++) {
		json_t *item = json_array_get(items, i);
		bool is_image = strcmp(get_text(item, "kind"), "image") == 0;

		if (strcmp(get_text(item, "name"), name) != 0 ||
		    (want_node != want_image && is_image != want_image))
			continue;
		node |= !is_image;
		image |= is_image;
		found = item; /* the last one is the newest */
	}
	if (node && image) {
		(void)snprintf(message, sizeof(message),
			       "a node and an image named %s are in the trash", name);
		r = complain(message, "say which one: --node or --image");
	} else if (!found) {
		(void)snprintf(message, sizeof(message), "nothing named %s is in the trash", name);
		r = complain(message, "lunctl ls --trash shows what there is");
	} else {
		*ret_item = json_incref(found);
	}
	json_decref(answer);
	return r;
}

/* --- undo --- */

enum { UNDO_NODE, UNDO_IMAGE };

static int run_undo(const struct request *request)
{
	const char *name = request->operands[0],
		   *new_name = request->operand_count > 1 ? request->operands[1] : name;
	json_t *item = NULL, *answer = NULL;
	const json_t *node;
	char target[160];
	int r = find_trash(request, name, GIVEN(request, UNDO_NODE), GIVEN(request, UNDO_IMAGE),
			   &item);

	if (r != 0)
		return r;
	(void)snprintf(target, sizeof(target), "/v1/trash/%.40s/undo", get_text(item, "id"));
	json_decref(item);
	r = api_call(request, "POST", target, json_pack("{s:s}", "name", new_name), &answer);
	if (r != 0)
		return r;
	node = json_object_get(answer, "node");
	if (request->json) {
		r = print_json(answer);
	} else if (node && get_text(node, "message")[0]) {
		r = complain(get_text(node, "message"), "the node is back, but it is not served");
	} else {
		(void)printf("%s %s is back\n", node ? "node" : "image", new_name);
		say_next(request, "lunctl show %s", new_name);
	}
	json_decref(answer);
	return r;
}

const struct verb verb_undo = {
	.name = "undo",
	.operands = "NAME [NEW-NAME]",
	.operands_min = 1,
	.operands_max = 2,
	.help = "bring back what was removed, with data and credentials",
	.options = {[UNDO_NODE] = {"node", NULL, "NAME was a node (if an image had that name too)"},
		    [UNDO_IMAGE] = {"image", NULL, "NAME was an image"}},
	.run = run_undo,
};

/* --- check --- */

enum { CHECK_REPAIR, CHECK_NODE, CHECK_IMAGE };

static void print_finding(const json_t *finding)
{
	const char *name = get_text(finding, "name"), *cure = get_text(finding, "cure");

	(void)printf("%-8s ", get_text(finding, "finding"));
	if (name[0])
		(void)printf("%s %s: ", get_text(finding, "kind"), name);
	put_text(stdout, get_text(finding, "message"));
	(void)putchar('\n');
	if (cure[0]) {
		(void)fputs("         cure: ", stdout);
		put_text(stdout, cure);
		(void)putchar('\n');
	}
}

static void print_check(const json_t *result)
{
	const json_t *findings = json_object_get(result, "findings");
	static const char *const kinds[] = {"lost", "mendable", "mended"};
	const char *separator = ": ";

	for (size_t i = 0; i < json_array_size(findings); i++)
		print_finding(json_array_get(findings, i));
	(void)printf("%" PRIu64 " file%s checked", get_number(result, "files"),
		     get_number(result, "files") == 1 ? "" : "s");
	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		uint64_t count = get_number(result, kinds[i]);

		if (count == 0)
			continue;
		(void)printf("%s%" PRIu64 " %s", separator, count, kinds[i]);
		separator = ", ";
	}
	(void)printf("%s\n", get_bool(result, "clean") ? ": nothing is wrong" : "");
}

static int check_body(const struct request *request, json_t **ret_body)
{
	const char *name = request->operand_count > 0 ? request->operands[0] : NULL;
	json_t *object = NULL;
	enum object_kind kind;
	int r = 0;

	*ret_body = json_pack("{s:b}", "repair", GIVEN(request, CHECK_REPAIR));
	if (!name)
		return 0;
	r = find_object(request, name, GIVEN(request, CHECK_NODE), GIVEN(request, CHECK_IMAGE),
			false, &kind, &object);
	if (r == 0)
		(void)json_object_set_new(*ret_body, kind == OBJECT_NODE ? "node" : "image",
					  json_string(name));
	json_decref(object);
	return r;
}

static int run_check(const struct request *request)
{
	json_t *body = NULL, *result = NULL;
	int r = check_body(request, &body);

	if (r != 0) {
		json_decref(body);
		return r;
	}
	r = api_job(request, "/v1/check", body, &result);
	if (r != 0)
		return r;
	if (request->json)
		r = print_json(result);
	else
		print_check(result);
	if (r == 0 && !get_bool(result, "clean"))
		r = EXIT_FINDINGS;
	json_decref(result);
	return r;
}

const struct verb verb_check = {
	.name = "check",
	.operands = "[NAME]",
	.operands_max = 1,
	.help = "look whether the files of a node, an image, or all are whole",
	.options = {[CHECK_REPAIR] = {"repair", NULL,
				      "mend what can be mended, of nodes that nobody uses"},
		    [CHECK_NODE] = {"node", NULL, "NAME is a node (if an image has that name too)"},
		    [CHECK_IMAGE] = {"image", NULL, "NAME is an image"}},
	.run = run_check,
};
