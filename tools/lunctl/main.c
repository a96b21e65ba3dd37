/*
 * lunctl: the command line of lunrootd. A table of verbs, one small parser for all of them; the
 * daemon does the work, and checks everything again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "lunctl.h"

static const struct verb *const verbs[] = {
	&verb_import,   &verb_create,    &verb_clone,  &verb_ls,     &verb_show,    &verb_url,
	&verb_stats,    &verb_rename,    &verb_rm,     &verb_undo,   &verb_check,   &verb_jobs,
	&verb_snapshot, &verb_rollback,  &verb_reset,  &verb_resize, &verb_promote, &verb_flatten,
	&verb_export,   &verb_initramfs, &verb_assign, &verb_auth,   &verb_adopt,   &verb_boots,
	&verb_why,      &verb_doctor,
};

static void print_help(FILE *out)
{
	(void)fputs("usage: lunctl [--socket PATH] [--json] VERB ...\n\n"
		    "gives diskless machines their disks, by way of lunrootd\n\n",
		    out);
	for (size_t i = 0; i < ARRAY_COUNT(verbs); i++) {
		char synopsis[64];

		(void)snprintf(synopsis, sizeof(synopsis), "%s %s", verbs[i]->name,
			       verbs[i]->operands);
		(void)fprintf(out, "  %-24s %s\n", synopsis, verbs[i]->help);
	}
	(void)fputs("\n"
		    "  --socket PATH            lunrootd's control socket (also LUNROOT_SOCKET;\n"
		    "                           default " LUNCTL_SOCKET_DEFAULT ")\n"
		    "  --json                   the API's JSON instead of text\n"
		    "  --help, --version\n\n"
		    "lunctl VERB --help tells more. Exit codes: 0 done, 1 refused, 2 usage,\n"
		    "3 lunrootd can't be reached, 4 check or doctor has found something.\n",
		    out);
}

static void print_verb_help(const struct verb *verb)
{
	(void)printf("usage: lunctl %s%s%s%s\n\n%s\n", verb->name, verb->operands[0] ? " " : "",
		     verb->operands, verb->options[0].name ? " [OPTION...]" : "", verb->help);
	for (size_t i = 0; i < LUNCTL_OPTIONS_MAX && verb->options[i].name; i++) {
		const struct verb_option *option = &verb->options[i];
		char synopsis[64];

		(void)snprintf(synopsis, sizeof(synopsis), "--%s%s%s", option->name,
			       option->value ? " " : "", option->value ? option->value : "");
		(void)printf("%s  %-28s %s\n", i == 0 ? "\n" : "", synopsis, option->help);
	}
}

static const struct verb *verb_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(verbs); i++) {
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	}
	return NULL;
}

struct parser {
	int argc;
	char **argv;
	int at;
	const struct verb *verb;
	struct request request;
	bool help, version, operands_only;
};

/* The value of the option `word`, which may stand behind '=' or in the next word. */
static const char *option_value(struct parser *p, const char *word)
{
	const char *equals = strchr(word, '=');

	if (equals)
		return equals + 1;
	return p->at < p->argc ? p->argv[p->at++] : NULL;
}

static bool option_is(const char *word, const char *name)
{
	size_t bytes = strlen(name);

	return strncmp(word, name, bytes) == 0 && (word[bytes] == '\0' || word[bytes] == '=');
}

static int verb_option(struct parser *p, const char *word)
{
	for (unsigned i = 0; p->verb && i < LUNCTL_OPTIONS_MAX && p->verb->options[i].name; i++) {
		const struct verb_option *option = &p->verb->options[i];

		if (!option_is(word, option->name))
			continue;
		if (!option->value) {
			if (strchr(word, '='))
				return usage_error("--%s takes no value", option->name);
			p->request.values[i] = "";
			return 0;
		}
		p->request.values[i] = option_value(p, word);
		if (!p->request.values[i] || !p->request.values[i][0])
			return usage_error("--%s: %s is wanted behind it", option->name,
					   option->value);
		return 0;
	}
	if (!p->verb)
		return usage_error("--%s: no such option before the verb; see lunctl --help", word);
	return usage_error("--%s: lunctl %s has no such option; see lunctl %s --help", word,
			   p->verb->name, p->verb->name);
}

static int parse_option(struct parser *p, const char *word)
{
	if (option_is(word, "socket")) {
		p->request.socket_path = option_value(p, word);
		if (!p->request.socket_path || !p->request.socket_path[0])
			return usage_error("--socket: a path is wanted behind it");
		return 0;
	}
	if (strcmp(word, "json") == 0)
		p->request.json = true;
	else if (strcmp(word, "help") == 0)
		p->help = true;
	else if (strcmp(word, "version") == 0)
		p->version = true;
	else
		return verb_option(p, word);
	return 0;
}

static int parse_word(struct parser *p, const char *word)
{
	if (!p->operands_only && strcmp(word, "--") == 0) {
		p->operands_only = true;
		return 0;
	}
	if (!p->operands_only && strncmp(word, "--", 2) == 0)
		return parse_option(p, word + 2);
	if (!p->operands_only && strcmp(word, "-h") == 0) {
		p->help = true;
		return 0;
	}
	if (!p->operands_only && word[0] == '-' && word[1])
		return usage_error("%s: no such option; see lunctl --help", word);
	if (!p->verb) {
		p->verb = verb_find(word);
		if (p->verb)
			return 0;
		if (strcmp(word, "help") == 0) {
			p->help = true;
			return 0;
		}
		return usage_error("%s: no such verb; see lunctl --help", word);
	}
	if (p->request.operand_count == p->verb->operands_max)
		return usage_error("%s: one too many; usage: lunctl %s %s", word, p->verb->name,
				   p->verb->operands);
	p->request.operands[p->request.operand_count++] = word;
	return 0;
}

int main(int argc, char **argv)
{
	const char *from_environment = getenv("LUNROOT_SOCKET");
	struct parser p = {.argc = argc, .argv = argv, .at = 1};

	p.request.socket_path =
		from_environment && from_environment[0] ? from_environment : LUNCTL_SOCKET_DEFAULT;
	while (p.at < argc && !p.version) {
		int r = parse_word(&p, argv[p.at++]);

		if (r != 0 && !p.help)
			return r;
	}
	if (p.version) {
		(void)printf("lunctl %s\n", LUNROOT_VERSION);
		return EXIT_DONE;
	}
	if (p.help) {
		if (p.verb)
			print_verb_help(p.verb);
		else
			print_help(stdout);
		return EXIT_DONE;
	}
	if (!p.verb) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	if (p.request.operand_count < p.verb->operands_min)
		return usage_error("usage: lunctl %s %s", p.verb->name, p.verb->operands);
	return p.verb->run(&p.request);
}
