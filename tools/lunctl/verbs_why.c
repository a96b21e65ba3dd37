/*
 * Why a Pi is not up, or what it has come to: why. The explanation is why.c's; here the daemon is
 * asked and the answer printed, with what the Pi, lunbootd and the Pi's boot loader have said.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lunctl.h"
#include "output.h"
#include "records.h"
#include "why.h"

#define CONSOLE_LINES_MAX 12 /* the newest; lunctl boots shows all */

/* The newest boot with its events, the caller's; NULL: there is none. */
static int newest_boot(const struct request *request, const char *word, bool *ret_is_node,
		       json_t **ret_boot)
{
	json_t *answer = NULL;
	const json_t *first;
	int r = find_boot(request, word, ret_boot);

	if (r != 0 || *ret_boot) {
		*ret_is_node = json_is_string(json_object_get(*ret_boot, "node"));
		return r;
	}
	r = find_boots(request, word, 1, ret_is_node, &answer);
	if (r != 0)
		return r;
	first = json_array_get(json_object_get(answer, "boots"), 0);
	if (first) {
		r = find_boot(request, get_text(first, "id"), ret_boot);
		*ret_is_node = json_is_string(json_object_get(first, "node"));
	}
	json_decref(answer);
	return r;
}

static void paragraph(const char *label, const char *text)
{
	if (!text[0])
		return;
	(void)printf("%-7s ", label);
	put_text(stdout, text);
	(void)putchar('\n');
}

/* What was said meanwhile, each sentence once. */
static void print_troubles(const json_t *events, const struct why_answer *answer)
{
	for (size_t i = 0; i < json_array_size(events); i++) {
		const json_t *event = json_array_get(events, i);
		const char *text = get_text(event, "text");
		bool again = strcmp(get_text(event, "kind"), "trouble") != 0 ||
			     strstr(answer->stuck, text) || strstr(answer->cause, text);

		for (size_t k = 0; k < i && !again; k++)
			again = strcmp(get_text(json_array_get(events, k), "text"), text) == 0;
		if (!again)
			paragraph("also:", text);
	}
}

static void print_console(const json_t *events)
{
	size_t count = json_array_size(events), first = count, lines = 0;

	while (first > 0 && lines < CONSOLE_LINES_MAX) {
		first--;
		lines += strcmp(get_text(json_array_get(events, first), "kind"), "console") == 0;
	}
	if (lines == 0)
		return;
	(void)puts("\nits boot loader says:");
	for (size_t i = first; i < count; i++) {
		const json_t *event = json_array_get(events, i);
		const char *text = get_text(event, "text"), *meaning = why_console(text);

		if (strcmp(get_text(event, "kind"), "console") != 0)
			continue;
		(void)fputs("  ", stdout);
		put_text(stdout, text);
		if (meaning)
			(void)printf("   (%s)", meaning);
		(void)putchar('\n');
	}
}

/* When it reached what: the first event of each stage's own. */
static void print_times(const json_t *boot)
{
	static const char *const marks[] = {"start", "network", "login",     "disk",
					    "root",  "switch",  "multi-user"};
	const json_t *events = json_object_get(boot, "events");
	int64_t began = record_time_ms(get_text(boot, "began"));
	char took[RECORD_TIME_BYTES], size[OUTPUT_SIZE_BYTES];
	bool any = false;

	if (get_number(boot, "files") > 0) {
		(void)printf("times   %u files, %s", (unsigned)get_number(boot, "files"),
			     size_format(get_number(boot, "file_bytes"), size));
		any = true;
	}
	for (size_t m = 0; m < sizeof(marks) / sizeof(marks[0]); m++) {
		for (size_t i = 0; i < json_array_size(events); i++) {
			const json_t *event = json_array_get(events, i);
			const char *text = get_text(event, "text");
			size_t bytes = strlen(marks[m]);

			if (strcmp(get_text(event, "kind"), "report") != 0 ||
			    strncmp(text, marks[m], bytes) != 0 ||
			    (text[bytes] != '\0' && text[bytes] != ' '))
				continue;
			(void)printf("%s%s after %s", any ? ", " : "times   ", marks[m],
				     record_duration(record_time_ms(get_text(event, "at")) - began,
						     took));
			any = true;
			break;
		}
	}
	if (any)
		(void)putchar('\n');
}

static int print_answer(const struct request *request, const json_t *boot, const char *word,
			const struct why_answer *answer)
{
	const json_t *events = json_object_get(boot, "events");

	if (request->json) {
		json_t *value =
			json_pack("{s:s, s:b, s:s, s:s, s:s, s:O?}", "rule", answer->rule, "fine",
				  (int)answer->fine, "stuck", answer->stuck, "cause", answer->cause,
				  "cure", answer->cure, "boot", boot);
		int r = print_json(value);

		json_decref(value);
		return r;
	}
	if (boot)
		print_boot_title(boot);
	put_text(stdout, answer->stuck);
	(void)putchar('\n');
	paragraph("cause:", answer->cause);
	paragraph("cure:", answer->cure);
	print_troubles(events, answer);
	if (boot)
		print_times(boot);
	print_console(events);
	if (boot)
		say_next(request, "lunctl boots %s shows all that happened", get_text(boot, "id"));
	else
		say_next(request, "lunctl doctor, then lunctl why %s again", word);
	return EXIT_DONE;
}

static int run_why(const struct request *request)
{
	const char *word = request->operands[0];
	json_t *boot = NULL, *bootd = NULL;
	struct why_answer explained;
	struct why_context context = {.now_ms = (int64_t)time(NULL) * 1000, .pi = word};
	int r = newest_boot(request, word, &context.is_node, &boot);

	if (r == 0)
		r = api_find(request, "/v1/bootd", &bootd);
	if (r == 0 && !boot && !context.is_node)
		r = complain("no Pi and no node of this name was ever seen",
			     "lunctl ls shows the nodes, lunctl ls --pending the Pis that wait for "
			     "one");
	if (r == 0) {
		context.bootd = json_object_get(bootd, "bootd");
		if (boot && get_text(boot, "node")[0])
			context.pi = get_text(boot, "node");
		else if (boot)
			context.pi = get_text(boot, "serial")[0] ? get_text(boot, "serial")
								 : get_text(boot, "mac");
		why_explain(boot, &context, &explained);
		r = print_answer(request, boot, word, &explained);
	}
	json_decref(boot);
	json_decref(bootd);
	return r;
}

const struct verb verb_why = {
	.name = "why",
	.operands = "NODE|SERIAL|BOOT",
	.operands_min = 1,
	.operands_max = 1,
	.help = "explain how far a Pi has booted, why not farther, and what helps",
	.run = run_why,
};
