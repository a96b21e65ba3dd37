/*
 * What boots came to: boots. lunctl why (verbs_why.c) finds its boot here too.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lunctl.h"
#include "output.h"
#include "records.h"

enum { BOOTS_LAST, BOOTS_EVENTS, BOOTS_ALL };

static bool is_boot_id(const char *word)
{
	return strlen(word) == 16 && strspn(word, "0123456789abcdef") == 16;
}

static bool is_pi(const char *word)
{
	size_t bytes = strlen(word);

	return bytes > 0 && bytes <= 32 &&
	       strspn(word, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:-") ==
		       bytes;
}

int find_boot(const struct request *request, const char *id, json_t **ret_boot)
{
	char target[64];

	if (!is_boot_id(id)) {
		*ret_boot = NULL;
		return 0;
	}
	(void)snprintf(target, sizeof(target), "/v1/boots/%s", id);
	return api_find(request, target, ret_boot);
}

int find_boots(const struct request *request, const char *word, unsigned last, bool *ret_is_node,
	       json_t **ret_boots)
{
	json_t *node = NULL, *answer = NULL;
	char target[200];
	int r = 0;

	if (name_valid(word)) {
		(void)snprintf(target, sizeof(target), "/v1/nodes/%s", word);
		r = api_find(request, target, &node);
	}
	if (r == 0 && !node && (!is_pi(word) || (strchr(word, '-') && strlen(word) != 17)))
		r = usage_error("%s: neither a node's name nor a Pi's serial number or MAC", word);
	if (r == 0) {
		(void)snprintf(target, sizeof(target), "/v1/boots?%s=%s&last=%u",
			       node ? "node" : "pi", word, last);
		r = api_call(request, "GET", target, NULL, &answer);
	}
	*ret_is_node = node != NULL;
	json_decref(node);
	if (r == 0)
		*ret_boots = answer;
	return r;
}

static int no_boots(const char *word, bool is_node)
{
	char message[160];

	(void)snprintf(message, sizeof(message), "no boot of %s%.80s is known",
		       is_node ? "node " : "", word);
	return complain(message, is_node ? "switch it on; if nothing comes then: lunctl doctor"
					 : "lunctl ls shows the nodes, lunctl ls --pending the Pis "
					   "that wait for one");
}

static void print_boots(const json_t *boots)
{
	int64_t now_ms = (int64_t)time(NULL) * 1000;
	struct table table;

	table_init(&table, 5);
	table_row(&table, (const char *[]){"BOOT", "BEGAN (UTC)", "FROM", "TOOK", "RESULT"});
	for (size_t i = 0; i < json_array_size(boots); i++) {
		const json_t *boot = json_array_get(boots, i);
		char words[RECORD_WORDS_BYTES], when[RECORD_TIME_BYTES], took[RECORD_TIME_BYTES];

		table_row(&table, (const char *[]){get_text(boot, "id"),
						   record_when(get_text(boot, "began"), when),
						   get_text(boot, "address"),
						   record_duration(record_took_ms(boot), took),
						   record_result(boot, now_ms, words)});
	}
	table_print(&table, stdout);
	table_done(&table);
}

void print_boot_title(const json_t *boot)
{
	const char *const parts[] = {get_text(boot, "node"), get_text(boot, "model"),
				     get_text(boot, "serial"), get_text(boot, "mac"),
				     get_text(boot, "address")};
	char when[RECORD_TIME_BYTES];

	(void)printf("boot %s, %s UTC", get_text(boot, "id"),
		     record_when(get_text(boot, "began"), when));
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (!parts[i][0])
			continue;
		(void)fputs(", ", stdout);
		put_text(stdout, parts[i]);
	}
	(void)putchar('\n');
}

static int show_events(const struct request *request, const json_t *boot)
{
	if (request->json)
		return print_json(boot);
	print_boot_title(boot);
	record_print_events(boot, GIVEN(request, BOOTS_ALL), stdout);
	say_next(request, "lunctl why %s",
		 get_text(boot, "node")[0] ? get_text(boot, "node") : get_text(boot, "id"));
	return EXIT_DONE;
}

static int show_list(const struct request *request, const json_t *answer)
{
	const json_t *boots = json_object_get(answer, "boots");

	if (request->json)
		return print_json(answer);
	print_boots(boots);
	say_next(request, "lunctl boots %s shows what happened, lunctl why %s explains it",
		 get_text(json_array_get(boots, 0), "id"), request->operands[0]);
	return EXIT_DONE;
}

static int read_last(const struct request *request, unsigned *ret_last)
{
	const char *text = request->values[BOOTS_LAST];

	*ret_last = GIVEN(request, BOOTS_EVENTS) ? 1 : 16;
	if (!text)
		return 0;
	if (strlen(text) > 4 || strspn(text, "0123456789") != strlen(text) ||
	    strtoul(text, NULL, 10) == 0)
		return usage_error("--last %s: a number from 1 on is wanted", text);
	*ret_last = (unsigned)strtoul(text, NULL, 10);
	return 0;
}

static int run_boots(const struct request *request)
{
	const char *word = request->operands[0];
	json_t *boot = NULL, *answer = NULL;
	const json_t *boots;
	bool is_node = false;
	unsigned last;
	int r = read_last(request, &last);

	if (r == 0)
		r = find_boot(request, word, &boot);
	if (r == 0 && !boot) {
		r = find_boots(request, word, last, &is_node, &answer);
		boots = json_object_get(answer, "boots");
		if (r == 0 && json_array_size(boots) == 0)
			r = no_boots(word, is_node);
		else if (r == 0 && GIVEN(request, BOOTS_EVENTS))
			r = find_boot(request, get_text(json_array_get(boots, 0), "id"), &boot);
		else if (r == 0)
			r = show_list(request, answer);
	}
	if (r == 0 && boot)
		r = show_events(request, boot);
	json_decref(boot);
	json_decref(answer);
	return r;
}

const struct verb verb_boots = {
	.name = "boots",
	.operands = "NODE|SERIAL|BOOT",
	.operands_min = 1,
	.operands_max = 1,
	.help = "list how a Pi has booted, or tell one boot's timeline",
	.options = {[BOOTS_LAST] = {"last", "N", "so many of the newest (default: 16)"},
		    [BOOTS_EVENTS] = {"events", NULL, "the timeline of the newest"},
		    [BOOTS_ALL] = {"all", NULL, "in a timeline: each file by itself"}},
	.run = run_boots,
};
