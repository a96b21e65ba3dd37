/*
 * The verbs that only look: ls, show, url, stats.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lunctl.h"
#include "output.h"

#define NODE_STATE_BYTES 96

/* What a node's row says: its state, unless a disk of it is in trouble. */
static const char *node_state(const json_t *node, char buffer[NODE_STATE_BYTES])
{
	const json_t *luns = json_object_get(node, "luns");
	bool no_space = false, failed = false;

	for (size_t i = 0; i < json_array_size(luns); i++) {
		no_space |= get_bool(json_array_get(luns, i), "no_space");
		failed |= get_bool(json_array_get(luns, i), "failed");
	}
	(void)snprintf(buffer, NODE_STATE_BYTES, "%s%s%s", get_text(node, "state"),
		       failed ? ", DISK FAILED" : "", no_space ? ", NO SPACE LEFT" : "");
	return buffer;
}

static uint64_t luns_total(const json_t *node, const char *field)
{
	const json_t *luns = json_object_get(node, "luns");
	uint64_t total = 0;

	for (size_t i = 0; i < json_array_size(luns); i++)
		total += get_number(json_array_get(luns, i), field);
	return total;
}

/* "3, newest 2 h". */
static const char *node_snapshots(const json_t *node, char buffer[NODE_STATE_BYTES])
{
	const json_t *list = json_object_get(node, "snapshots");
	size_t count = json_array_size(list);
	char age[OUTPUT_AGE_BYTES];

	buffer[0] = '\0';
	if (count > 0)
		(void)snprintf(buffer, NODE_STATE_BYTES, "%zu%s%s", count,
			       count > 1 ? ", newest " : ", ",
			       age_format(get_text(json_array_get(list, count - 1), "created"),
					  time(NULL), age));
	return buffer;
}

static const char *node_base(const json_t *node)
{
	const char *base = get_text(node, "base");

	return base[0] ? base : get_bool(node, "flat") ? "(none)" : "(gone)";
}

static const char *first_session(const json_t *node)
{
	return get_text(json_array_get(json_object_get(node, "sessions"), 0), "address");
}

/* --- ls --- */

static void print_images(const json_t *images)
{
	struct table table;

	table_init(&table, 5);
	table_row(&table, (const char *[]){"IMAGE", "SIZE", "ON DISK", "NODES", "CONTENT"});
	for (size_t i = 0; i < json_array_size(images); i++) {
		const json_t *image = json_array_get(images, i);
		char size[OUTPUT_SIZE_BYTES], used[OUTPUT_SIZE_BYTES], nodes[24];

		(void)snprintf(nodes, sizeof(nodes), "%zu",
			       json_array_size(json_object_get(image, "nodes")));
		table_row(&table,
			  (const char *[]){get_text(image, "name"),
					   size_format(get_number(image, "size_bytes"), size),
					   size_format(get_number(image, "used_bytes"), used),
					   nodes, get_text(image, "content")});
	}
	table_print(&table, stdout);
	table_done(&table);
}

static void print_nodes(const json_t *nodes)
{
	struct table table;

	table_init(&table, 7);
	table_row(&table, (const char *[]){"NODE", "BASE", "SIZE", "ON DISK", "SNAPSHOTS", "STATE",
					   "FROM"});
	for (size_t i = 0; i < json_array_size(nodes); i++) {
		const json_t *node = json_array_get(nodes, i);
		char size[OUTPUT_SIZE_BYTES], used[OUTPUT_SIZE_BYTES], state[NODE_STATE_BYTES],
			snapshots[NODE_STATE_BYTES];

		table_row(&table,
			  (const char *[]){get_text(node, "name"), node_base(node),
					   size_format(luns_total(node, "size_bytes"), size),
					   size_format(luns_total(node, "used_bytes"), used),
					   node_snapshots(node, snapshots), node_state(node, state),
					   first_session(node)});
	}
	table_print(&table, stdout);
	table_done(&table);
}

/* Room, then what needs a person. An older daemon tells neither. */
static void print_health(const json_t *health)
{
	const json_t *space = json_object_get(health, "space"),
		     *alarms = json_object_get(health, "alarms");
	char total[OUTPUT_SIZE_BYTES], left[OUTPUT_SIZE_BYTES], reserve[OUTPUT_SIZE_BYTES],
		trash[OUTPUT_SIZE_BYTES];

	if (space)
		(void)printf("%s of %s free, reserve %s, trash %s\n",
			     size_format(get_number(space, "free_bytes"), left),
			     size_format(get_number(space, "total_bytes"), total),
			     size_format(get_number(space, "reserve_bytes"), reserve),
			     size_format(get_number(space, "trash_bytes"), trash));
	for (size_t i = 0; i < json_array_size(alarms); i++) {
		const json_t *alarm = json_array_get(alarms, i);
		const char *cure = get_text(alarm, "cure");

		(void)fputs("! ", stdout);
		put_text(stdout, get_text(alarm, "message"));
		if (cure[0]) {
			(void)fputs("; ", stdout);
			put_text(stdout, cure);
		}
		(void)putchar('\n');
	}
}

static void ls_next(const struct request *request, const json_t *images, const json_t *nodes)
{
	if (json_array_size(nodes) > 0)
		say_next(request, "lunctl show %s", get_text(json_array_get(nodes, 0), "name"));
	else if (json_array_size(images) > 0)
		say_next(request, "lunctl clone %s pi-01",
			 get_text(json_array_get(images, 0), "name"));
	else
		say_next(request, "lunctl import FILE base");
}

enum { LS_TRASH, LS_PENDING };

static int run_ls(const struct request *request)
{
	json_t *images_answer = NULL, *nodes_answer = NULL, *health = NULL;
	const json_t *images, *nodes;
	int r;

	if (GIVEN(request, LS_TRASH))
		return list_trash(request);
	if (GIVEN(request, LS_PENDING))
		return list_pending(request);
	r = api_call(request, "GET", "/v1/images", NULL, &images_answer);
	if (r == 0)
		r = api_call(request, "GET", "/v1/nodes", NULL, &nodes_answer);
	if (r == 0)
		r = api_find(request, "/v1/health", &health);
	images = json_object_get(images_answer, "images");
	nodes = json_object_get(nodes_answer, "nodes");
	if (r == 0 && request->json) {
		(void)json_object_update(images_answer, nodes_answer);
		(void)json_object_update(images_answer, health);
		r = print_json(images_answer);
	} else if (r == 0) {
		print_images(images);
		(void)putchar('\n');
		print_nodes(nodes);
		(void)putchar('\n');
		print_health(health);
		ls_next(request, images, nodes);
	}
	json_decref(images_answer);
	json_decref(nodes_answer);
	json_decref(health);
	return r;
}

const struct verb verb_ls = {
	.name = "ls",
	.operands = "",
	.help = "list images and nodes, room and alarms",
	.options = {[LS_TRASH] = {"trash", NULL, "what was removed and can be brought back"},
		    [LS_PENDING] = {"pending", NULL, "Pis that ask for a boot and have no node"}},
	.run = run_ls,
};

/* --- show --- */

enum { SHOW_SECRETS, SHOW_NODE, SHOW_IMAGE };

static void line(const char *label, const char *text)
{
	if (!text[0])
		return;
	(void)printf("%-16s ", label);
	put_text(stdout, text);
	(void)putchar('\n');
}

static void show_image(const json_t *image)
{
	const json_t *nodes = json_object_get(image, "nodes");
	char size[OUTPUT_SIZE_BYTES];

	line("image", get_text(image, "name"));
	line("uuid", get_text(image, "uuid"));
	line("size", size_format(get_number(image, "size_bytes"), size));
	line("on disk", size_format(get_number(image, "used_bytes"), size));
	line("content", get_text(image, "content"));
	line("created", get_text(image, "created"));
	for (size_t i = 0; i < json_array_size(nodes); i++) {
		const char *name = json_string_value(json_array_get(nodes, i));

		line(i == 0 ? "nodes" : "", name ? name : "");
	}
}

static void show_luns(const json_t *luns)
{
	struct table table;

	table_init(&table, 8);
	(void)putchar('\n');
	table_row(&table, (const char *[]){"LUN", "SIZE", "ON DISK", "READ", "WRITTEN", "DISCARDED",
					   "FLUSHES", "STATE"});
	for (size_t i = 0; i < json_array_size(luns); i++) {
		const json_t *lun = json_array_get(luns, i);
		char number[24], size[OUTPUT_SIZE_BYTES], used[OUTPUT_SIZE_BYTES],
			in[OUTPUT_SIZE_BYTES], out[OUTPUT_SIZE_BYTES], gone[OUTPUT_SIZE_BYTES],
			flushes[24];

		(void)snprintf(number, sizeof(number), "%" PRIu64, get_number(lun, "lun"));
		(void)snprintf(flushes, sizeof(flushes), "%" PRIu64, get_number(lun, "flushes"));
		table_row(&table,
			  (const char *[]){number, size_format(get_number(lun, "size_bytes"), size),
					   size_format(get_number(lun, "used_bytes"), used),
					   size_format(get_number(lun, "read_bytes"), out),
					   size_format(get_number(lun, "written_bytes"), in),
					   size_format(get_number(lun, "discarded_bytes"), gone),
					   flushes,
					   get_bool(lun, "failed")     ? "failed"
					   : get_bool(lun, "no_space") ? "no space left"
								       : "ok"});
	}
	table_print(&table, stdout);
	table_done(&table);
}

static void show_snapshots(const json_t *snapshots)
{
	struct table table;

	if (json_array_size(snapshots) == 0)
		return;
	table_init(&table, 4);
	(void)putchar('\n');
	table_row(&table, (const char *[]){"SNAPSHOT", "AGE", "ON DISK", "CREATED"});
	for (size_t i = 0; i < json_array_size(snapshots); i++) {
		const json_t *snapshot = json_array_get(snapshots, i);
		const char *created = get_text(snapshot, "created");
		char age[OUTPUT_AGE_BYTES], used[OUTPUT_SIZE_BYTES];

		table_row(&table,
			  (const char *[]){
				  get_text(snapshot, "name"), age_format(created, time(NULL), age),
				  size_format(get_number(snapshot, "used_bytes"), used), created});
	}
	table_print(&table, stdout);
	table_done(&table);
}

static void show_sessions(const json_t *sessions)
{
	struct table table;

	if (json_array_size(sessions) == 0)
		return;
	table_init(&table, 4);
	(void)putchar('\n');
	table_row(&table, (const char *[]){"SESSION", "FROM", "SECONDS", "COMMANDS"});
	for (size_t i = 0; i < json_array_size(sessions); i++) {
		const json_t *session = json_array_get(sessions, i);
		char seconds[24], commands[24];

		(void)snprintf(seconds, sizeof(seconds), "%" PRIu64,
			       get_number(session, "connected_ms") / 1000);
		(void)snprintf(commands, sizeof(commands), "%" PRIu64,
			       get_number(session, "commands"));
		table_row(&table,
			  (const char *[]){get_text(session, "initiator"),
					   get_text(session, "address"), seconds, commands});
	}
	table_print(&table, stdout);
	table_done(&table);
}

static void show_credentials(const json_t *node)
{
	const json_t *credentials = json_object_get(node, "credentials");

	if (!json_is_object(credentials))
		return;
	line("user", get_text(credentials, "user"));
	line("secret", get_text(credentials, "secret"));
	line("mutual user", get_text(credentials, "mutual_user"));
	line("mutual secret", get_text(credentials, "mutual_secret"));
	line("operator user", get_text(credentials, "operator_user"));
	line("operator secret", get_text(credentials, "operator_secret"));
}

static const char *durability_words(const json_t *node)
{
	const char *durability = get_text(node, "durability");

	if (strcmp(durability, "strict") == 0)
		return "strict: what the node flushes survives a power loss of the server";
	if (strcmp(durability, "scratch") == 0)
		return "scratch: flushes do nothing; a power loss of the server may take back what "
		       "was written since lunrootd last opened the disk";
	return durability;
}

static void show_node(const json_t *node)
{
	const char *base = get_text(node, "base");
	char state[NODE_STATE_BYTES];

	line("node", get_text(node, "name"));
	line("state", node_state(node, state));
	line("message", get_text(node, "message"));
	line("base", base[0]                  ? base
		     : get_bool(node, "flat") ? "(it needs none)"
					      : "(the image is gone)");
	line("target", get_text(node, "iqn"));
	line("initiator",
	     get_bool(node, "auth") ? get_text(node, "initiator") : "any, without CHAP");
	line("hostname", get_text(node, "hostname"));
	line("serial", get_text(node, "serial"));
	line("mac", get_text(node, "mac"));
	line("address", get_text(node, "address"));
	line("durability", durability_words(node));
	if (get_bool(node, "shared"))
		line("sessions", "several at a time");
	if (get_bool(node, "read_only"))
		line("writes", "refused");
	if (get_bool(node, "removable"))
		line("removable", "yes");
	line("created", get_text(node, "created"));
	line("uuid", get_text(node, "uuid"));
	show_credentials(node);
	show_luns(json_object_get(node, "luns"));
	show_snapshots(json_object_get(node, "snapshots"));
	show_sessions(json_object_get(node, "sessions"));
}

static int run_show(const struct request *request)
{
	const char *name = request->operands[0];
	enum object_kind kind;
	json_t *object = NULL;
	int r = find_object(request, name, GIVEN(request, SHOW_NODE), GIVEN(request, SHOW_IMAGE),
			    GIVEN(request, SHOW_SECRETS), &kind, &object);

	if (r != 0)
		return r;
	if (request->json) {
		r = print_json(object);
	} else if (kind == OBJECT_NODE) {
		show_node(object);
		if (strcmp(get_text(object, "state"), "damaged") == 0)
			say_next(request, "put right what the message says, then start lunrootd "
					  "again");
		else
			say_next(request, "qemu-img info \"$(lunctl url %s)\"", name);
	} else {
		show_image(object);
		say_next(request, "lunctl clone %s pi-01", name);
	}
	json_decref(object);
	return r;
}

const struct verb verb_show = {
	.name = "show",
	.operands = "NAME",
	.operands_min = 1,
	.operands_max = 1,
	.help = "tell all about a node or an image",
	.options = {[SHOW_SECRETS] = {"secrets", NULL, "with the node's CHAP credentials"},
		    [SHOW_NODE] = {"node", NULL, "NAME is a node (if an image has that name too)"},
		    [SHOW_IMAGE] = {"image", NULL, "NAME is an image"}},
	.run = run_show,
};

/* --- url --- */

static int run_url(const struct request *request)
{
	const char *name = request->operands[0], *lun = request->operands[1];
	json_t *answer = NULL;
	char target[160];
	int r;

	if (!name_valid(name))
		return usage_error("%s: no name of a node", name);
	if (lun && (lun[0] == '\0' || strlen(lun) > 5 || strspn(lun, "0123456789") != strlen(lun)))
		return usage_error("%s: no LUN; LUNs are numbered from 0", lun);
	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/url%s%s", name, lun ? "?lun=" : "",
		       lun ? lun : "");
	r = api_call(request, "GET", target, NULL, &answer);
	if (api_tells_person(request, answer, &r)) {
		put_text(stdout, get_text(answer, "url"));
		(void)putchar('\n');
		/* In "$(lunctl url ...)" the person has gone on already. */
		if (isatty(STDOUT_FILENO))
			say_next(request, "qemu-img info \"$(lunctl url %s%s%s)\"", name,
				 lun ? " " : "", lun ? lun : "");
	}
	json_decref(answer);
	return r;
}

const struct verb verb_url = {
	.name = "url",
	.operands = "NODE [LUN]",
	.operands_min = 1,
	.operands_max = 2,
	.help = "print a disk's iSCSI URL for qemu-img and other libiscsi programs",
	.run = run_url,
};

/* --- stats --- */

static void print_node_stats(const json_t *nodes)
{
	struct table table;

	table_init(&table, 8);
	table_row(&table, (const char *[]){"NODE", "STATE", "SESSIONS", "READ", "WRITTEN",
					   "FLUSHES", "FLUSH AVG", "FLUSH MAX"});
	for (size_t i = 0; i < json_array_size(nodes); i++) {
		const json_t *node = json_array_get(nodes, i),
			     *luns = json_object_get(node, "luns");
		char state[NODE_STATE_BYTES], sessions[24], out[OUTPUT_SIZE_BYTES],
			in[OUTPUT_SIZE_BYTES], flushes[24], average[32], longest[32];
		uint64_t flush_count = luns_total(node, "flushes"), max_us = 0;

		for (size_t k = 0; k < json_array_size(luns); k++) {
			uint64_t us = get_number(json_array_get(luns, k), "flush_us_max");

			max_us = us > max_us ? us : max_us;
		}
		(void)snprintf(sessions, sizeof(sessions), "%" PRIu64,
			       get_number(node, "sessions"));
		(void)snprintf(flushes, sizeof(flushes), "%" PRIu64, flush_count);
		(void)snprintf(average, sizeof(average), "%.1f ms",
			       flush_count ? (double)luns_total(node, "flush_us_total") / 1000.0 /
						     (double)flush_count
					   : 0.0);
		(void)snprintf(longest, sizeof(longest), "%.1f ms", (double)max_us / 1000.0);
		table_row(&table, (const char *[]){
					  get_text(node, "name"), node_state(node, state), sessions,
					  size_format(luns_total(node, "read_bytes"), out),
					  size_format(luns_total(node, "written_bytes"), in),
					  flushes, average, longest});
	}
	table_print(&table, stdout);
	table_done(&table);
}

static int run_stats(const struct request *request)
{
	static const char *const counters[][2] = {
		{"connections_open", "open connections"},
		{"connections_accepted", "accepted"},
		{"logins_ok", "logins"},
		{"logins_refused", "refused logins"},
		{"protocol_errors", "protocol errors"},
		{"commands", "commands"},
	};
	json_t *stats = NULL;
	int r = api_call(request, "GET", "/v1/stats", NULL, &stats);

	if (api_tells_person(request, stats, &r)) {
		for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++)
			(void)printf("%-18s %" PRIu64 "\n", counters[i][1],
				     get_number(stats, counters[i][0]));
		(void)putchar('\n');
		print_node_stats(json_object_get(stats, "nodes"));
		(void)putchar('\n');
		print_health(stats);
		say_next(request, "lunctl stats --json has all counters");
	}
	json_decref(stats);
	return r;
}

const struct verb verb_stats = {
	.name = "stats",
	.operands = "",
	.help = "what the daemon has done since it started",
	.run = run_stats,
};
