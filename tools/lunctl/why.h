/*
 * Why a Pi has not booted, from its boot's record alone: what is known of boot ROMs, networks and
 * lunroot-init, as a table of rules. Pure; verbs_why.c asks the daemon and prints.
 */
#ifndef LUNROOT_LUNCTL_WHY_H
#define LUNROOT_LUNCTL_WHY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define WHY_TEXT_BYTES 1024

/* Beside the record. */
struct why_context {
	int64_t now_ms;
	const char *pi;      /* how a person calls it: node's name, or serial */
	bool is_node;        /* there is a node for it */
	const json_t *bootd; /* GET /v1/bootd's "bootd": lunbootd's own troubles; NULL: not known */
};

struct why_answer {
	const char *rule; /* its name, for programs and tests */
	bool fine;        /* nothing is wrong, or it is still under way */
	char stuck[WHY_TEXT_BYTES], cause[WHY_TEXT_BYTES], cure[WHY_TEXT_BYTES];
};

/* `boot` is what GET /v1/boots/ID answers, with its events; NULL: no boot of it is known. */
void why_explain(const json_t *boot, const struct why_context *context,
		 struct why_answer *ret_answer);

/* How many rules there are, so that a test can have a record for each. */
size_t why_rule_count(void);

/* What a line of the Pi's own boot loader means (NETCONSOLE), or NULL: not known. */
const char *why_console(const char *line);

#endif
