/*
 * Pis that belong to no node yet: ls --pending, adopt. lunbootd tells the daemon of each Pi that
 * asks to be booted; a person says here which node it shall be.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lunctl.h"
#include "output.h"
#include "records.h"
#include "base/serial.h"

/* A Pi up to the 3 asks so long after it was switched on, and then never again. */
#define OLD_PI_ASKS_S 25

/* --- ls --pending --- */

static const char *or_dash(const char *text)
{
	return text[0] ? text : "-";
}

/* When a time with milliseconds was. */
static const char *seen(const char *when, char buffer[OUTPUT_AGE_BYTES])
{
	char cut[RECORD_TIME_BYTES];

	(void)snprintf(cut, sizeof(cut), "%.19sZ", when);
	return age_format(cut, time(NULL), buffer);
}

int list_pending(const struct request *request)
{
	json_t *answer = NULL;
	const json_t *items;
	struct table table;
	int r = api_call(request, "GET", "/v1/pending", NULL, &answer);

	if (r != 0)
		return r;
	items = json_object_get(answer, "pending");
	if (request->json) {
		r = print_json(answer);
		json_decref(answer);
		return r;
	}
	table_init(&table, 6);
	table_row(&table, (const char *[]){"SERIAL", "MAC", "MODEL", "ADDRESS", "SEEN", "GOT TO"});
	for (size_t i = 0; i < json_array_size(items); i++) {
		const json_t *item = json_array_get(items, i);
		char age[OUTPUT_AGE_BYTES], words[RECORD_WORDS_BYTES];

		table_row(&table, (const char *[]){or_dash(get_text(item, "serial")),
						   or_dash(get_text(item, "mac")),
						   or_dash(get_text(item, "model")),
						   or_dash(get_text(item, "address")),
						   seen(get_text(item, "last"), age),
						   record_got_to(item, words)});
	}
	table_print(&table, stdout);
	table_done(&table);
	if (json_array_size(items) > 0)
		say_next(request, "lunctl adopt %s as NAME",
			 get_text(json_array_get(items, 0), "key"));
	else
		say_next(request, "switch a Pi on; if it does not show up here: lunctl doctor");
	json_decref(answer);
	return 0;
}

/* --- adopt --- */

enum { ADOPT_IMAGE, ADOPT_SIZE, ADOPT_DATA, ADOPT_HOSTNAME, ADOPT_OPTIONS };

/* The Pi that `word` names, the caller's. */
static int find_pending(const struct request *request, const char *word, json_t **ret_item)
{
	json_t *answer = NULL, *found = NULL;
	const json_t *items;
	char message[256];
	int r = api_call(request, "GET", "/v1/pending", NULL, &answer);

	if (r != 0)
		return r;
	items = json_object_get(answer, "pending");
	for (size_t i = 0; i < json_array_size(items) && !found; i++) {
		json_t *item = json_array_get(items, i);

		if (serial_same(get_text(item, "serial"), word) ||
		    (word[0] && strcasecmp(get_text(item, "mac"), word) == 0))
			found = json_incref(item);
	}
	json_decref(answer);
	if (found) {
		*ret_item = found;
		return 0;
	}
	(void)snprintf(message, sizeof(message), "no Pi %.100s waits for a node", word);
	return complain(message,
			"lunctl ls --pending shows those that do; switch it on first, or "
			"make a node for it beforehand: lunctl clone BASE NODE --serial S");
}

/* The image for a new node: the one that was named, or the only one. */
static int choose_image(const struct request *request, char *ret_name, size_t bytes)
{
	json_t *answer = NULL;
	const json_t *images;
	char names[400] = "";
	size_t used = 0;
	int r;

	if (GIVEN(request, ADOPT_IMAGE)) {
		(void)snprintf(ret_name, bytes, "%s", request->values[ADOPT_IMAGE]);
		return 0;
	}
	r = api_call(request, "GET", "/v1/images", NULL, &answer);
	if (r != 0)
		return r;
	images = json_object_get(answer, "images");
	for (size_t i = 0; i < json_array_size(images) && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 i > 0 ? ", " : "",
					 get_text(json_array_get(images, i), "name"));
	if (json_array_size(images) == 1) {
		(void)snprintf(ret_name, bytes, "%s", get_text(json_array_get(images, 0), "name"));
	} else if (json_array_size(images) == 0) {
		r = complain("there is no image that a new node could stand on",
			     "make one first: lunctl import FILE base");
	} else {
		char message[512];

		(void)snprintf(message, sizeof(message),
			       "which image shall it stand on? There are "
			       "%s",
			       names);
		r = complain(message, "name one: --image BASE");
	}
	json_decref(answer);
	return r;
}

static json_t *identity(const json_t *item)
{
	return json_pack("{s:s, s:s}", "serial", get_text(item, "serial"), "mac",
			 get_text(item, "mac"));
}

static int adopt_new(const struct request *request, const char *name, const json_t *item,
		     json_t **ret_answer)
{
	const char *const *values = request->values;
	json_t *body = identity(item);
	char image[80];
	int r = choose_image(request, image, sizeof(image));

	if (r == 0)
		r = put_string(body, "name", name);
	if (r == 0)
		r = put_string(body, "base", image);
	if (r == 0)
		r = put_string(body, "hostname", values[ADOPT_HOSTNAME]);
	if (r == 0 && values[ADOPT_SIZE])
		r = put_size(body, "size_bytes", "--size", values[ADOPT_SIZE]);
	if (r == 0 && values[ADOPT_DATA])
		r = put_size(body, "data_bytes", "--data", values[ADOPT_DATA]);
	if (r != 0) {
		json_decref(body);
		return r;
	}
	return api_call(request, "POST", "/v1/nodes", body, ret_answer);
}

static int adopt_known(const struct request *request, const char *name, const json_t *item,
		       json_t **ret_answer)
{
	char target[160];

	for (unsigned i = 0; i < ADOPT_OPTIONS; i++) {
		if (GIVEN(request, i))
			return usage_error(
				"adopt: there is a node %s already, and --%s is for a new "
				"one",
				name, verb_adopt.options[i].name);
	}
	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/identity", name);
	return api_call(request, "POST", target, identity(item), ret_answer);
}

/* When it will ask again is a matter of its boot ROM. */
static void adopt_next(const struct request *request, const char *name, const json_t *item)
{
	const char *model = get_text(item, "model");
	int64_t age_ms = (int64_t)time(NULL) * 1000 - record_time_ms(get_text(item, "last"));

	if (strstr(model, "Pi 4") || strstr(model, "Pi 5"))
		say_next(request, "power %s off and on, or wait: it asks again within 60 s", name);
	else if (age_ms < OLD_PI_ASKS_S * 1000)
		say_next(request,
			 "wait: %s asks again within 5 s; if it does not, power it off and on",
			 name);
	else
		say_next(request, "power %s off and on; it has asked for %d s and then given up",
			 name, OLD_PI_ASKS_S);
}

static int run_adopt(const struct request *request)
{
	const char *word = request->operands[0];
	const char *name = request->operands[request->operand_count - 1];
	json_t *item = NULL, *node = NULL, *answer = NULL;
	char target[160];
	int r;

	if (request->operand_count == 3 && strcmp(request->operands[1], "as") != 0)
		return usage_error("usage: lunctl adopt SERIAL|MAC [as] NAME");
	if (!name_valid(name))
		return usage_error("%s: no name of a node; names have lower-case letters, digits "
				   "and -, at most 63",
				   name);
	r = find_pending(request, word, &item);
	(void)snprintf(target, sizeof(target), "/v1/nodes/%s", name);
	if (r == 0)
		r = api_find(request, target, &node);
	if (r == 0)
		r = node ? adopt_known(request, name, item, &answer)
			 : adopt_new(request, name, item, &answer);
	if (r == 0 && request->json) {
		r = print_json(answer);
	} else if (r == 0) {
		(void)printf("node %s: ", name);
		put_text(stdout, get_text(item, "model"));
		(void)fputs(get_text(item, "model")[0] ? " " : "", stdout);
		put_text(stdout, get_text(item, "key"));
		(void)fputs(node ? ", on the disk that it had\n" : ", with a new disk\n", stdout);
		adopt_next(request, name, item);
	}
	json_decref(item);
	json_decref(node);
	json_decref(answer);
	return r;
}

const struct verb verb_adopt = {
	.name = "adopt",
	.operands = "SERIAL|MAC [as] NAME",
	.operands_min = 2,
	.operands_max = 3,
	.help = "give a Pi that waits (ls --pending) a node: a new one, or one that there is",
	.options = {[ADOPT_IMAGE] = {"image", "BASE",
				     "what a new node stands on, if there are "
				     "several images"},
		    [ADOPT_SIZE] = {"size", "SIZE", "size of its LUN 0, if not the image's: 32G"},
		    [ADOPT_DATA] = {"data", "SIZE", "adds an empty data disk as LUN 1: 64G"},
		    [ADOPT_HOSTNAME] = {"hostname", "NAME",
					"its host name, if not the node's name"}},
	.run = run_adopt,
};
