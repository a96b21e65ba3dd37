/*
 * The control plane over a fake server and a fake store: every call of the API as a client makes
 * it, what must be refused, and what the files look like afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/control_internal.h"
#include "control/fake.h"

/* --- a control to talk to --- */

static struct world {
	char dir[64], state[96], run[96];
	struct mailbox mailbox;
	struct event_base *base;
	struct server *server;
	struct control *control;
	struct store_error err;
} w;

static int world_open(void)
{
	const struct control_config config = {
		.state_dir = w.state,
		.run_dir = w.run,
		.server = w.server,
		.mailbox = &w.mailbox,
		.base = w.base,
		.portals = {"127.0.0.1:3260", "10.1.2.3:3261"},
		.portal_count = 2,
	};
	int r = control_new(&config, &w.control, &w.err);

	return r < 0 ? r : control_serve_all(w.control);
}

static void world_close(void)
{
	mailbox_run(&w.mailbox);
	control_free(w.control);
	w.control = NULL;
}

static void world_reopen(void)
{
	world_close();
	server_free(w.server);
	w.server = fake_server_new(&w.mailbox);
	assert_int_equal(world_open(), 0);
	mailbox_run(&w.mailbox);
}

static int setup(void **state)
{
	(void)state;
	(void)snprintf(w.dir, sizeof(w.dir), "/dev/shm/lunroot-control.XXXXXX");
	assert_non_null(mkdtemp(w.dir));
	(void)snprintf(w.state, sizeof(w.state), "%s/state", w.dir);
	(void)snprintf(w.run, sizeof(w.run), "%s/run", w.dir);
	assert_int_equal(mkdir(w.state, 0750), 0);
	assert_int_equal(mkdir(w.run, 0750), 0);
	assert_int_equal(mailbox_init(&w.mailbox), 0);
	w.base = event_base_new();
	w.server = fake_server_new(&w.mailbox);
	assert_non_null(w.server);
	fake_store_fails[0] = '\0';
	return world_open();
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	world_close();
	server_free(w.server);
	event_base_free(w.base);
	mailbox_done(&w.mailbox);
	(void)snprintf(command, sizeof(command), "rm -rf %s", w.dir);
	return system(command);
}

/* --- calls --- */

struct answer {
	struct api_request request;
	int status;
	json_t *body;
	bool dropped;
};

static void on_reply(struct api_request *request, int status, json_t *body)
{
	struct answer *a = CONTAINER_OF(request, struct answer, request);

	assert_int_equal(a->status, 0); /* once */
	a->status = status;
	a->body = body;
}

static void on_drop(struct api_request *request)
{
	CONTAINER_OF(request, struct answer, request)->dropped = true;
}

static void mailbox_wait(void)
{
	struct pollfd fd = {.fd = w.mailbox.eventfd, .events = POLLIN};

	assert_true(poll(&fd, 1, 20000) > 0);
	mailbox_run(&w.mailbox);
}

/* The body stays valid until the next call. */
static json_t *call(enum api_method method, const char *path, const char *query, const char *body,
		    int status)
{
	static json_t *last;
	struct answer a = {.request = {on_reply, on_drop}};
	struct api_call parsed;
	struct api_error err = {0};

	json_decref(last);
	last = NULL;
	if (request_parse(method, path, query, body, body ? strlen(body) : 0, &parsed, &err) < 0)
		api_reply_error(&a.request, &err);
	else
		api_handle(w.control, &parsed, &a.request);
	while (a.status == 0)
		mailbox_wait();
	assert_non_null(a.body);
	if (a.status != status)
		print_error("%s %s: %s\n", path, body ? body : "", json_dumps(a.body, 0));
	assert_int_equal(a.status, status);
	last = a.body;
	return a.body;
}

static const char *text_at(json_t *body, const char *key)
{
	const char *text = json_string_value(json_object_get(body, key));

	assert_non_null(text);
	return text;
}

static void error_is(json_t *body, const char *code, const char *part)
{
	json_t *error = json_object_get(body, "error");

	assert_string_equal(text_at(error, "code"), code);
	if (!strstr(text_at(error, "message"), part))
		print_error("\"%s\" is not in: %s\n", part, text_at(error, "message"));
	assert_non_null(strstr(text_at(error, "message"), part));
	assert_true(strlen(text_at(error, "cure")) > 0);
}

/* Starts a job and waits for its end. */
static json_t *job(const char *body)
{
	json_t *answer = call(API_POST, "/v1/images", NULL, body, 202);
	char path[64];

	(void)snprintf(path, sizeof(path), "/v1/jobs/%s",
		       text_at(json_object_get(answer, "job"), "id"));
	for (;;) {
		answer = call(API_GET, path, NULL, NULL, 200);
		if (strcmp(text_at(answer, "state"), "running") != 0)
			return answer;
		mailbox_wait();
	}
}

static json_t *job_done(const char *body)
{
	json_t *answer = job(body);

	if (strcmp(text_at(answer, "state"), "done") != 0)
		print_error("%s\n", json_dumps(answer, 0));
	assert_string_equal(text_at(answer, "state"), "done");
	return json_object_get(json_object_get(answer, "result"), "image");
}

static void job_fails(const char *body, const char *code, const char *part)
{
	json_t *answer = job(body);

	assert_string_equal(text_at(answer, "state"), "failed");
	error_is(answer, code, part);
}

static void make_base(void)
{
	(void)job_done("{\"name\":\"base\",\"size_bytes\":8388608}");
}

static void clone(const char *name)
{
	char body[128];

	(void)snprintf(body, sizeof(body), "{\"name\":\"%s\",\"base\":\"base\"}", name);
	(void)call(API_POST, "/v1/nodes", NULL, body, 201);
}

static unsigned files_in(const char *sub)
{
	char command[160];
	unsigned count = 0;
	FILE *pipe;

	(void)snprintf(command, sizeof(command), "ls -A %s/%s | wc -l", w.state, sub);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_int_equal(fscanf(pipe, "%u", &count), 1);
	(void)pclose(pipe);
	return count;
}

/* --- requests that make no sense --- */

static void bad_requests(void **state)
{
	static const struct {
		enum api_method method;
		const char *path, *query, *body;
		int status;
		const char *part;
	} table[] = {
		{API_GET, "", NULL, NULL, 404, "no resource"},
		{API_GET, "/", NULL, NULL, 404, "no resource"},
		{API_GET, "/v2/version", NULL, NULL, 404, "no resource"},
		{API_GET, "/v1//version", NULL, NULL, 404, "no resource"},
		{API_GET, "/v1/version/x", NULL, NULL, 404, "no resource"},
		{API_GET, "/v1/a/b/c/d/e", NULL, NULL, 404, "no resource"},
		{API_POST, "/v1/version", NULL, NULL, 405, "method"},
		{API_OTHER_METHOD, "/v1/nodes", NULL, NULL, 405, "method"},
		{API_GET, "/v1/nodes", "x=1", NULL, 400, "unknown query"},
		{API_GET, "/v1/nodes/a", "secrets=2", NULL, 400, "bad value"},
		{API_GET, "/v1/nodes/a", "secrets", NULL, 400, "bad value"},
		{API_GET, "/v1/nodes/a/url", "lun=16", NULL, 400, "bad value"},
		{API_GET, "/v1/nodes/a/url", "lun=", NULL, 400, "bad value"},
		{API_GET, "/v1/nodes/UPPER", NULL, NULL, 400, "no valid name"},
		{API_GET, "/v1/nodes/..", NULL, NULL, 400, "no valid name"},
		{API_GET, "/v1/nodes/-a", NULL, NULL, 400, "no valid name"},
		{API_GET, "/v1/jobs/0x1", NULL, NULL, 404, "no job"},
		{API_GET, "/v1/jobs/99999999999999999999", NULL, NULL, 404, "no job"},
		{API_POST, "/v1/nodes", NULL, NULL, 400, "no JSON"},
		{API_POST, "/v1/nodes", NULL, "{", 400, "no JSON"},
		{API_POST, "/v1/nodes", NULL, "[]", 400, "not a JSON object"},
		{API_POST, "/v1/nodes", NULL, "{} {}", 400, "no JSON"},
		{API_POST, "/v1/nodes", NULL, "{}", 400, "name is missing"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"name\":\"b\"}", 400, "no JSON"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\"}", 400, "base is missing"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":null,\"base\":\"b\"}", 400,
		 "not a string"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":1,\"base\":\"b\"}", 400, "not a string"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a b\",\"base\":\"b\"}", 400, "no valid"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\",\"sise\":1}", 400,
		 "unknown field \"sise\""},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\",\"auth\":1}", 400,
		 "neither true nor false"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\",\"size_bytes\":-1}",
		 400, "out of range"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\",\"size_bytes\":1e9}",
		 400, "whole number"},
		{API_POST, "/v1/nodes", NULL,
		 "{\"name\":\"a\",\"base\":\"b\",\"size_bytes\":9223372036854775807}", 400,
		 "out of range"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\",\"mac\":\"zz\"}", 400,
		 "no hardware address"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\",\"serial\":\"a b\"}",
		 400, "letters and digits"},
		{API_POST, "/v1/nodes", NULL,
		 "{\"name\":\"a\",\"base\":\"b\",\"durability\":\"fast\"}", 400, "durability"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\",\"mac\":\"\\u0000\"}",
		 400, ""},
		{API_POST, "/v1/images", NULL, "{\"name\":\"a\"}", 400, "one of them"},
		{API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"path\":\"x\"}", 400,
		 "not absolute"},
		{API_POST, "/v1/images", NULL,
		 "{\"name\":\"a\",\"path\":\"/x\",\"size_bytes\":1048576}", 400, "one of them"},
		{API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"size_bytes\":4096}", 400,
		 "out of range"},
		{API_POST, "/v1/images/a/rename", NULL, "{\"name\":\"B\"}", 400, "no valid name"},
		{API_POST, "/v1/images/a/rename", NULL, "{\"name\":\"b\"}", 404, "no image a"},
		{API_POST, "/v1/nodes/a/rename", NULL, "{\"name\":\"b\"}", 404, "no node a"},
		{API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"b\"}", 404, "no image b"},
		{API_GET, "/v1/images/a", NULL, NULL, 404, "no image a"},
		{API_GET, "/v1/nodes/a", NULL, NULL, 404, "no node a"},
		{API_DELETE, "/v1/nodes/a", NULL, NULL, 404, "no node a"},
		{API_DELETE, "/v1/images/a", "dry_run=1", NULL, 404, "no image a"},
		{API_GET, "/v1/jobs/7", NULL, NULL, 404, "no job 7"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		json_t *answer = call(table[i].method, table[i].path, table[i].query, table[i].body,
				      table[i].status);

		error_is(answer,
			 table[i].status == 404   ? "not_found"
			 : table[i].status == 405 ? "method"
						  : "invalid",
			 table[i].part);
	}
}

static void body_too_large(void **state)
{
	static char body[LIMIT_CONTROL_BODY_BYTES + 2];

	(void)state;
	memset(body, ' ', sizeof(body) - 1);
	error_is(call(API_POST, "/v1/nodes", NULL, body, 413), "too_large", "more than");
}

/* --- the good way --- */

static void version_and_empty_lists(void **state)
{
	json_t *answer = call(API_GET, "/v1/version", NULL, NULL, 200);

	(void)state;
	assert_int_equal(json_integer_value(json_object_get(answer, "api")), 1);
	assert_int_equal(json_array_size(json_object_get(answer, "portals")), 2);
	assert_string_equal(text_at(answer, "state_dir"), w.state);
	answer = call(API_GET, "/v1/images", NULL, NULL, 200);
	assert_int_equal(json_array_size(json_object_get(answer, "images")), 0);
	answer = call(API_GET, "/v1/nodes", NULL, NULL, 200);
	assert_int_equal(json_array_size(json_object_get(answer, "nodes")), 0);
	answer = call(API_GET, "/v1/stats", NULL, NULL, 200);
	assert_int_equal(json_array_size(json_object_get(answer, "nodes")), 0);
	answer = call(API_GET, "/v1/jobs", NULL, NULL, 200);
	assert_int_equal(json_array_size(json_object_get(answer, "jobs")), 0);
}

static void clone_is_served_and_stays(void **state)
{
	struct fake_target *target;
	json_t *node, *cred;
	char secret[64], uuid[64];

	(void)state;
	make_base();
	node = call(API_POST, "/v1/nodes", NULL,
		    "{\"name\":\"pi-07\",\"base\":\"base\",\"serial\":\"10000000abcdef01\","
		    "\"mac\":\"DC-A6-32-01-02-03\",\"size_bytes\":16777216,\"data_bytes\":2097152,"
		    "\"durability\":\"scratch\"}",
		    201);
	node = json_object_get(node, "node");
	assert_string_equal(text_at(node, "mac"), "dc:a6:32:01:02:03");
	assert_string_equal(text_at(node, "hostname"), "pi-07");
	assert_string_equal(text_at(node, "durability"), "scratch");
	assert_string_equal(text_at(node, "state"), "ready");
	assert_string_equal(text_at(node, "base"), "base");
	assert_int_equal(json_array_size(json_object_get(node, "luns")), 2);
	assert_null(json_object_get(node, "credentials"));
	node = call(API_GET, "/v1/nodes/pi-07", "secrets=1", NULL, 200);
	cred = json_object_get(node, "credentials");
	assert_int_equal(strlen(text_at(cred, "secret")), SECRET_CHARS);
	assert_string_not_equal(text_at(cred, "secret"), text_at(cred, "operator_secret"));
	assert_string_not_equal(text_at(cred, "secret"), text_at(cred, "mutual_secret"));
	assert_string_equal(text_at(cred, "operator_user"), "operator-pi-07");
	target = fake_target_find(w.server, "pi-07");
	assert_non_null(target);
	assert_string_equal(target->conf->name, "iqn.2026-11.local.lunroot:pi-07");
	assert_string_equal(target->conf->initiator, "iqn.2026-11.local.lunroot:initiator:pi-07");
	assert_int_equal(target->unit_count, 2);
	assert_int_equal(target->conf->in.secret_bytes, SECRET_CHARS);
	assert_true(target_chap_valid(&target->conf->operator));
	(void)snprintf(secret, sizeof(secret), "%s", text_at(cred, "secret"));
	(void)snprintf(uuid, sizeof(uuid), "%s", text_at(node, "uuid"));
	world_reopen();
	node = call(API_GET, "/v1/nodes/pi-07", "secrets=1", NULL, 200);
	assert_string_equal(text_at(json_object_get(node, "credentials"), "secret"), secret);
	assert_string_equal(text_at(node, "uuid"), uuid);
	assert_non_null(fake_target_find(w.server, "pi-07"));
}

static void clone_refused(void **state)
{
	(void)state;
	make_base();
	clone("pi-01");
	error_is(call(API_POST, "/v1/nodes", NULL, "{\"name\":\"pi-01\",\"base\":\"base\"}", 409),
		 "exists", "pi-01");
	error_is(call(API_POST, "/v1/nodes", NULL,
		      "{\"name\":\"x\",\"base\":\"base\",\"size_bytes\":1048576}", 400),
		 "invalid", "smaller than image base");
	assert_int_equal(files_in("layers"), 1);
}

static void clone_that_fails_leaves_nothing(void **state)
{
	(void)state;
	make_base();
	(void)snprintf(fake_store_fails, sizeof(fake_store_fails), "create");
	error_is(call(API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"base\"}", 507),
		 "no_space", "no space");
	(void)snprintf(fake_store_fails, sizeof(fake_store_fails), "open");
	(void)call(API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"base\"}", 500);
	fake_store_fails[0] = '\0';
	w.server->add_fails = -EIO;
	(void)call(API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"base\"}", 500);
	w.server->add_fails = 0;
	assert_int_equal(files_in("layers"), 0);
	(void)call(API_GET, "/v1/nodes/a", NULL, NULL, 404);
	clone("a");
}

static void no_auth_has_no_secrets(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"open\",\"base\":\"base\",\"auth\":false}", 201);
	answer = call(API_GET, "/v1/nodes/open/url", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "url"),
			    "iscsi://10.1.2.3:3261/iqn.2026-11.local.lunroot:open/0");
	assert_string_equal(fake_target_find(w.server, "open")->conf->initiator, "");
	assert_string_equal(fake_target_find(w.server, "open")->conf->in.name, "");
	assert_string_equal(fake_target_find(w.server, "open")->conf->operator.name, "");
	answer = call(API_GET, "/v1/nodes/open", "secrets=1", NULL, 200);
	assert_true(json_is_null(json_object_get(answer, "credentials")));
}

static void url_has_the_operator(void **state)
{
	char secret[64], want[256];
	json_t *answer;

	(void)state;
	make_base();
	clone("pi-01");
	answer = call(API_GET, "/v1/nodes/pi-01", "secrets=1", NULL, 200);
	(void)snprintf(secret, sizeof(secret), "%s",
		       text_at(json_object_get(answer, "credentials"), "operator_secret"));
	(void)snprintf(want, sizeof(want),
		       "iscsi://operator-pi-01%%%s@10.1.2.3:3261/iqn.2026-11.local.lunroot:pi-01/0",
		       secret);
	answer = call(API_GET, "/v1/nodes/pi-01/url", "lun=0", NULL, 200);
	assert_string_equal(text_at(answer, "url"), want);
	assert_string_equal(text_at(answer, "portal"), "10.1.2.3:3261");
	error_is(call(API_GET, "/v1/nodes/pi-01/url", "lun=1", NULL, 404), "not_found", "no LUN 1");
}

static void url_of_a_wildcard(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	clone("pi-01");
	w.control->portal_count = 1;
	(void)snprintf(w.control->portals[0], LIMIT_ADDRESS_TEXT_BYTES, "0.0.0.0:3260");
	answer = call(API_GET, "/v1/nodes/pi-01/url", NULL, NULL, 200);
	assert_null(strstr(text_at(answer, "portal"), "0.0.0.0"));
	assert_non_null(strstr(text_at(answer, "portal"), ":3260"));
	(void)snprintf(w.control->portals[0], LIMIT_ADDRESS_TEXT_BYTES, "[::]:3260");
	answer = call(API_GET, "/v1/nodes/pi-01/url", NULL, NULL, 200);
	assert_null(strstr(text_at(answer, "portal"), "[::]"));
	(void)snprintf(w.control->portals[0], LIMIT_ADDRESS_TEXT_BYTES, "[fd00::1]:3260");
	answer = call(API_GET, "/v1/nodes/pi-01/url", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "portal"), "[fd00::1]:3260");
}

static void log_somebody_in(const char *name)
{
	w.server->session_count = 1;
	memcpy(w.server->session.target_uuid, fake_target_find(w.server, name)->conf->uuid, 16);
	(void)snprintf(w.server->session.initiator, sizeof(w.server->session.initiator), "iqn.who");
	(void)snprintf(w.server->session.address, sizeof(w.server->session.address), "10.9.8.7:1");
}

static void in_use_is_refused_by_name(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	clone("pi-01");
	log_somebody_in("pi-01");
	error_is(call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 409), "in_use",
		 "iqn.who (10.9.8.7:1)");
	error_is(call(API_DELETE, "/v1/nodes/pi-01", "dry_run=1", NULL, 409), "in_use", "iqn.who");
	error_is(call(API_POST, "/v1/nodes/pi-01/rename", NULL, "{\"name\":\"x\"}", 409), "in_use",
		 "iqn.who");
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "state"), "in use");
	assert_int_equal(json_array_size(json_object_get(answer, "sessions")), 1);
	/* One that logs in between the question and the removal. */
	w.server->session_count = 0;
	w.server->remove_fails = -EBUSY;
	error_is(call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 409), "in_use", "just logged in");
	w.server->remove_fails = 0;
	(void)call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 200);
}

static void image_with_nodes_is_refused_by_name(void **state)
{
	(void)state;
	make_base();
	clone("pi-01");
	clone("pi-02");
	error_is(call(API_DELETE, "/v1/images/base", NULL, NULL, 409), "in_use",
		 "2 nodes: pi-01, pi-02");
	error_is(call(API_DELETE, "/v1/images/base", "dry_run=1", NULL, 409), "in_use", "pi-01");
}

static void removing_leaves_nothing(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	clone("pi-01");
	answer = call(API_DELETE, "/v1/nodes/pi-01", "dry_run=1", NULL, 200);
	assert_true(json_is_true(json_object_get(answer, "dry_run")));
	assert_int_equal(json_array_size(json_object_get(answer, "removed")), 2);
	assert_int_equal(files_in("layers"), 1);
	answer = call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 200);
	assert_true(json_is_false(json_object_get(answer, "dry_run")));
	assert_int_equal(files_in("layers"), 0);
	assert_null(fake_target_find(w.server, "pi-01"));
	answer = call(API_DELETE, "/v1/images/base", "dry_run=1", NULL, 200);
	assert_int_equal(files_in("images"), 2);
	(void)call(API_DELETE, "/v1/images/base", NULL, NULL, 200);
	assert_int_equal(files_in("images"), 0);
	world_reopen();
	answer = call(API_GET, "/v1/images", NULL, NULL, 200);
	assert_int_equal(json_array_size(json_object_get(answer, "images")), 0);
}

static void rename_keeps_identity(void **state)
{
	char uuid[64], lun_uuid[64];
	json_t *answer, *node;

	(void)state;
	make_base();
	clone("pi-01");
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	(void)snprintf(uuid, sizeof(uuid), "%s", text_at(answer, "uuid"));
	(void)snprintf(lun_uuid, sizeof(lun_uuid), "%s",
		       text_at(json_array_get(json_object_get(answer, "luns"), 0), "uuid"));
	clone("taken");
	error_is(call(API_POST, "/v1/nodes/pi-01/rename", NULL, "{\"name\":\"taken\"}", 409),
		 "exists", "taken");
	answer = call(API_POST, "/v1/nodes/pi-01/rename", NULL, "{\"name\":\"pi-99\"}", 200);
	node = json_object_get(answer, "node");
	assert_string_equal(text_at(node, "uuid"), uuid);
	assert_string_equal(text_at(node, "hostname"), "pi-99");
	assert_string_equal(text_at(node, "iqn"), "iqn.2026-11.local.lunroot:pi-99");
	assert_non_null(fake_target_find(w.server, "pi-99"));
	assert_null(fake_target_find(w.server, "pi-01"));
	(void)call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 404);
	(void)call(API_POST, "/v1/images/base/rename", NULL, "{\"name\":\"alpha\"}", 200);
	world_reopen();
	answer = call(API_GET, "/v1/nodes/pi-99", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "base"), "alpha");
	assert_string_equal(text_at(answer, "state"), "ready");
	assert_string_equal(text_at(json_array_get(json_object_get(answer, "luns"), 0), "uuid"),
			    lun_uuid);
}

static void damaged_node_is_shown_and_can_go(void **state)
{
	char path[PATH_BYTES];
	json_t *answer;

	(void)state;
	make_base();
	clone("good");
	clone("bad");
	layer_path(w.control, "", &node_find(w.control, "bad")->luns[0].layers[0].uuid, path);
	assert_int_equal(unlink(path), 0);
	world_reopen();
	answer = call(API_GET, "/v1/nodes/bad", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "state"), "damaged");
	assert_non_null(strstr(text_at(answer, "message"), path));
	assert_null(fake_target_find(w.server, "bad"));
	assert_non_null(fake_target_find(w.server, "good"));
	(void)call(API_DELETE, "/v1/nodes/bad", NULL, NULL, 200);
	world_reopen();
	(void)call(API_GET, "/v1/nodes/bad", NULL, NULL, 404);
}

static void second_operation_waits_outside(void **state)
{
	struct answer first = {.request = {on_reply, on_drop}},
		      second = {.request = {on_reply, on_drop}};
	struct api_call rm = {.op = API_NODE_DELETE, .name = "pi-01"};

	(void)state;
	make_base();
	clone("pi-01");
	api_handle(w.control, &rm, &first.request);
	api_handle(w.control, &rm, &second.request);
	assert_int_equal(second.status, 409);
	error_is(second.body, "busy", "another operation");
	json_decref(second.body);
	while (first.status == 0)
		mailbox_wait();
	assert_int_equal(first.status, 200);
	json_decref(first.body);
}

/* --- start-up --- */

static void second_daemon_is_refused(void **state)
{
	struct control *first = w.control;
	char pid[32];

	(void)state;
	assert_true(world_open() < 0);
	(void)snprintf(pid, sizeof(pid), "(pid %d)", (int)getpid());
	assert_non_null(strstr(w.err.text, "is in use by another lunrootd"));
	assert_non_null(strstr(w.err.text, pid));
	w.control = first;
}

static void missing_state_directory(void **state)
{
	char before[sizeof(w.state)];

	(void)state;
	world_close();
	memcpy(before, w.state, sizeof(before));
	(void)snprintf(w.state, sizeof(w.state), "%s/nowhere", w.dir);
	assert_int_equal(world_open(), -ENOENT);
	assert_non_null(strstr(w.err.text, "does not exist"));
	memcpy(w.state, before, sizeof(before));
	assert_int_equal(world_open(), 0);
}

static void damaged_catalogue_is_refused(void **state)
{
	char path[160];
	int fd;

	(void)state;
	make_base();
	world_close();
	(void)snprintf(path, sizeof(path), "%s/catalog.db", w.state);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(pwrite(fd, "garbage!garbage!", 16, 4096 * i + (i ? 0 : 16)), 16);
	close(fd);
	assert_true(world_open() < 0);
	assert_non_null(strstr(w.err.text, "damaged"));
	/* The cure that the message names. */
	(void)unlink(path);
	assert_int_equal(world_open(), 0);
	(void)call(API_GET, "/v1/images/base", NULL, NULL, 200);
}

static void newer_catalogue_is_refused(void **state)
{
	char path[160];
	sqlite3 *db;

	(void)state;
	world_close();
	(void)snprintf(path, sizeof(path), "%s/catalog.db", w.state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	(void)sqlite3_exec(db, "PRAGMA user_version=77", NULL, NULL, NULL);
	(void)sqlite3_close(db);
	assert_int_equal(world_open(), -EPROTO);
	assert_non_null(strstr(w.err.text, "newer"));
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	(void)sqlite3_exec(db, "PRAGMA user_version=1", NULL, NULL, NULL);
	(void)sqlite3_close(db);
	assert_int_equal(world_open(), 0);
}

static void catalogue_is_private(void **state)
{
	static const char *const names[] = {"catalog.db", "catalog.db-wal"};
	char path[160];
	struct stat st;

	(void)state;
	make_base();
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", w.state, names[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
	(void)snprintf(path, sizeof(path), "%s/control.sock", w.run);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
}

static void lost_catalogue_is_rebuilt(void **state)
{
	char uuid[64], lun_uuid[64], command[160];
	json_t *answer;

	(void)state;
	make_base();
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}", 201);
	clone("pi-02");
	(void)call(API_POST, "/v1/nodes/pi-02/rename", NULL, "{\"name\":\"x\"}", 200);
	clone("pi-02");
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	(void)snprintf(uuid, sizeof(uuid), "%s", text_at(answer, "uuid"));
	(void)snprintf(lun_uuid, sizeof(lun_uuid), "%s",
		       text_at(json_array_get(json_object_get(answer, "luns"), 1), "uuid"));
	world_close();
	(void)snprintf(command, sizeof(command), "rm %s/catalog.db*", w.state);
	assert_int_equal(system(command), 0);
	assert_int_equal(world_open(), 0);
	world_reopen();
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "uuid"), uuid);
	assert_string_equal(text_at(answer, "base"), "base");
	assert_string_equal(text_at(answer, "state"), "ready");
	assert_string_equal(text_at(json_array_get(json_object_get(answer, "luns"), 1), "uuid"),
			    lun_uuid);
	/* Headers keep the first name; the second node of that name gets a number. */
	(void)call(API_GET, "/v1/nodes/pi-02", NULL, NULL, 200);
	(void)call(API_GET, "/v1/nodes/pi-02-2", NULL, NULL, 200);
}

static void unknown_files_are_left_alone(void **state)
{
	static const char *const names[] = {"images/precious.img",
					    "layers/01234567-89ab-cdef-0123-456789abcdef.cow",
					    "layers/notes.txt"};
	static const char *const leftovers[] = {
		"images/.new-x.img", "images/.new-x.img.json", "images/.rm-y.img",
		"layers/.new-01234567-89ab-cdef-0123-456789abcdef.cow", "layers/.rm-what"};
	char path[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", w.state, names[i]);
		(void)close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
	for (size_t i = 0; i < ARRAY_COUNT(leftovers); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", w.state, leftovers[i]);
		(void)close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
	world_reopen();
	assert_int_equal(files_in("images"), 1);
	assert_int_equal(files_in("layers"), 2);
}

/* A leftover never covers the file that has its name. */
static void leftover_beside_the_real_file(void **state)
{
	char path[PATH_BYTES];
	struct stat before, after;

	(void)state;
	make_base();
	image_path(w.control, "", "base", path);
	assert_int_equal(stat(path, &before), 0);
	image_path(w.control, PREFIX_RM, "base", path);
	(void)close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	world_reopen();
	image_path(w.control, "", "base", path);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(files_in("images"), 2);
}

/* --- import --- */

static void shell(const char *command)
{
	char full[1024];

	(void)snprintf(full, sizeof(full), "cd %s && { %s; } >/dev/null 2>&1", w.dir, command);
	if (system(full) != 0)
		print_error("%s\n", full);
	assert_int_equal(system(full), 0);
}

static const char *import_body(const char *name, const char *file, const char *more)
{
	static char body[512];

	(void)snprintf(body, sizeof(body), "{\"name\":\"%s\",\"path\":\"%s/%s\"%s}", name, w.dir,
		       file, more);
	return body;
}

#define MKE2FS "PATH=$PATH:/usr/sbin:/sbin mke2fs -F -q -t ext4 -L root "

static void import_ext4_in_every_packing(void **state)
{
	static const char *const files[] = {"d.img", "d.img.gz", "d.img.xz", "d.img.zst"};
	char name[16], command[PATH_BYTES + 32], path[PATH_BYTES];
	json_t *image;

	(void)state;
	shell("rm -f d.img*; truncate -s 8M d.img && " MKE2FS
	      "d.img && gzip -k d.img && xz -k d.img && { zstd -q -k d.img || cp d.img.gz "
	      "d.img.zst; }");
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		(void)snprintf(name, sizeof(name), "base-%zu", i);
		image = job_done(import_body(name, files[i], ""));
		assert_string_equal(text_at(image, "content"), "ext4 \"root\"");
		assert_int_equal(json_integer_value(json_object_get(image, "size_bytes")), 8 << 20);
		assert_true(json_integer_value(json_object_get(image, "used_bytes")) < 4 << 20);
		image_path(w.control, "", name, path);
		(void)snprintf(command, sizeof(command), "cmp d.img %s", path);
		shell(command);
	}
	assert_int_equal(files_in("images"), 2 * ARRAY_COUNT(files));
}

/* A master boot record with one Linux partition. */
static void write_mbr(const char *file, uint32_t start, uint32_t sectors)
{
	uint8_t mbr[512] = {0};
	char path[128];
	int fd;

	mbr[446 + 4] = 0x83;
	for (unsigned i = 0; i < 4; i++) {
		mbr[446 + 8 + i] = (uint8_t)(start >> (8 * i));
		mbr[446 + 12 + i] = (uint8_t)(sectors >> (8 * i));
	}
	mbr[510] = 0x55;
	mbr[511] = 0xaa;
	(void)snprintf(path, sizeof(path), "%s/%s", w.dir, file);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(pwrite(fd, mbr, sizeof(mbr), 0), sizeof(mbr));
	close(fd);
}

static void import_with_partitions(void **state)
{
	json_t *image;

	(void)state;
	shell("truncate -s 8M root && " MKE2FS
	      "root && truncate -s 24M disk && dd if=root of=disk bs=512 seek=2048 conv=notrunc");
	write_mbr("disk", 2048, 16384);
	image = job_done(import_body("disk", "disk", ""));
	assert_string_equal(text_at(image, "content"), "mbr: ext4 \"root\"");
	/* The partition is there, the file system in it is larger. */
	write_mbr("disk", 2048, 8192);
	job_fails(import_body("cut", "disk", ""), "bad_image", "its ext4 file system has");
	write_mbr("disk", 2048, 16384);
	shell("truncate -s 8M disk");
	job_fails(import_body("cut", "disk", ""), "bad_image", "partition 1 ends");
}

static void import_of_bad_files(void **state)
{
	static const struct {
		const char *file, *code, *part;
	} table[] = {
		{"nowhere", "not_found", "no file"},
		{"folder", "bad_image", "neither a file nor"},
		{"fifo", "bad_image", "neither a file nor"},
		{"empty", "bad_image", "too small"},
		{"small", "bad_image", "too small"},
		{"small.gz", "bad_image", "too small"},
		{"zeros", "bad_image", "neither a partition table"},
		{"noise", "bad_image", "neither a partition table"},
		{"cut", "bad_image", "cut off"},
		{"cut.gz", "bad_image", "cut off"},
		{"cut.xz", "bad_image", "cut off"},
		{"whole-cut.gz", "bad_image", "cut off"},
		{"x.tar", "bad_image", "a tar archive"},
		{"x.tar.gz", "bad_image", "a tar archive"},
		{"x.zip", "bad_image", "a zip archive"},
		{"x.qcow2", "bad_image", "qcow2"},
	};

	(void)state;
	shell("rm -rf folder fifo; mkdir folder; mkfifo fifo; : >empty; head -c 4096 /dev/zero "
	      ">small; gzip -kf small; head -c 3M /dev/zero >zeros; head -c 3M /dev/urandom "
	      ">noise; "
	      "truncate -s 8M d && " MKE2FS
	      "d && head -c 1M /dev/urandom | dd of=d bs=1M seek=5 conv=notrunc && "
	      "head -c 5M d >cut && gzip -c d | head -c 900000 >cut.gz && xz -0 -c d | head -c "
	      "900000 >cut.xz && gzip -c cut >whole-cut.gz && tar cf x.tar zeros && gzip -kf x.tar "
	      "&& printf 'PK\\003\\004' | cat - zeros >x.zip && printf 'QFI\\373' | cat - zeros "
	      ">x.qcow2");
	for (size_t i = 0; i < ARRAY_COUNT(table); i++)
		job_fails(import_body("bad", table[i].file, ""), table[i].code, table[i].part);
	assert_int_equal(files_in("images"), 0);
	(void)job_done(import_body("noise", "noise", ",\"force\":true"));
	(void)job_done(import_body("zeros", "zeros", ",\"force\":true"));
	error_is(call(API_POST, "/v1/images", NULL, import_body("noise", "noise", ""), 409),
		 "exists", "noise");
}

static void import_pads_odd_sizes(void **state)
{
	json_t *image;

	(void)state;
	shell("rm -f odd; head -c 1048577 /dev/urandom >odd");
	image = job_done(import_body("odd", "odd", ",\"force\":true"));
	assert_int_equal(json_integer_value(json_object_get(image, "size_bytes")), 1048576 + 4096);
}

static void create_with_ext4(void **state)
{
	json_t *image = job_done("{\"name\":\"data\",\"size_bytes\":1099511627776,\"ext4\":true}");

	(void)state;
	assert_string_equal(text_at(image, "content"), "ext4 \"data\"");
	image = job_done("{\"name\":\"bare\",\"size_bytes\":1048577}");
	assert_string_equal(text_at(image, "content"), "empty");
	assert_int_equal(json_integer_value(json_object_get(image, "size_bytes")), 1048576 + 4096);
}

/* The worker waits in a step until the job was cancelled. */
static atomic_bool step_go;

static void wait_at_step(const char *step)
{
	while (strcmp(step, "import-filled") == 0 && !atomic_load(&step_go))
		usleep(1000);
}

static void cancelled_import_leaves_nothing(void **state)
{
	json_t *answer;

	(void)state;
	atomic_store(&step_go, false);
	control_step_hook = wait_at_step;
	(void)call(API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"size_bytes\":1048576}", 202);
	error_is(call(API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"size_bytes\":1048576}", 409),
		 "exists", "is being made");
	(void)call(API_DELETE, "/v1/jobs/1", NULL, NULL, 200);
	atomic_store(&step_go, true);
	do {
		mailbox_wait();
		answer = call(API_GET, "/v1/jobs/1", NULL, NULL, 200);
	} while (strcmp(text_at(answer, "state"), "running") == 0);
	control_step_hook = NULL;
	error_is(answer, "cancelled", "cancelled");
	assert_int_equal(files_in("images"), 0);
}

/* --- HTTP --- */

static int http_connect(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/control.sock", w.run);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void loop_for_a_while(void)
{
	for (int i = 0; i < 20; i++) {
		struct pollfd none;

		(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
		mailbox_run(&w.mailbox);
		(void)poll(&none, 0, 2);
	}
}

static size_t http_talk(const char *request, char *answer, size_t bytes)
{
	int fd = http_connect();
	size_t used = 0;
	ssize_t n;

	assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
	loop_for_a_while();
	while ((n = recv(fd, answer + used, bytes - 1 - used, MSG_DONTWAIT)) > 0)
		used += (size_t)n;
	answer[used] = '\0';
	close(fd);
	loop_for_a_while();
	return used;
}

static void http_answers(void **state)
{
	char answer[8192];

	(void)state;
	(void)http_talk("GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	assert_non_null(strstr(answer, "HTTP/1.1 200 "));
	assert_non_null(strstr(answer, "Content-Length: "));
	assert_non_null(strstr(answer, "Connection: close"));
	assert_non_null(strstr(answer, "\"api\":1"));
	(void)http_talk("GET /v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	assert_non_null(strstr(answer, "{\"nodes\":[]}"));
	(void)http_talk("POST /v1/nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", answer,
			sizeof(answer));
	assert_non_null(strstr(answer, "HTTP/1.1 400 "));
	assert_non_null(strstr(answer, "name is missing"));
	(void)http_talk("GET /v1/nodes/%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n", answer, sizeof(answer));
	assert_non_null(strstr(answer, "HTTP/1.1 400 "));
	(void)http_talk("nonsense\r\n\r\n", answer, sizeof(answer));
	(void)http_talk("GET /v1/version HTTP/1.1\r\n", answer, sizeof(answer));
	(void)http_talk("POST /v1/nodes HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", answer,
			sizeof(answer));
	(void)http_talk("GET /v1/version HTTP/1.0\r\n\r\n", answer, sizeof(answer));
	assert_non_null(strstr(answer, " 200 "));
}

/* The answer comes when the client has gone. */
static void http_client_gone(void **state)
{
	static const char request[] = "GET /v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n";
	int fd = http_connect();

	(void)state;
	assert_true(send(fd, request, strlen(request), MSG_NOSIGNAL) > 0);
	for (int i = 0; i < 5; i++)
		(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
	assert_false(list_empty(&w.control->operations));
	close(fd);
	for (int i = 0; i < 5; i++)
		(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
	loop_for_a_while();
	assert_true(list_empty(&w.control->operations));
}

/* The control goes while a request waits for the server. */
static void http_control_gone(void **state)
{
	static const char request[] = "GET /v1/nodes HTTP/1.1\r\nHost: x\r\n\r\n";
	int fds[2] = {http_connect(), http_connect()};

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_true(send(fds[i], request, strlen(request), MSG_NOSIGNAL) > 0);
	for (int i = 0; i < 5; i++)
		(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
	close(fds[0]);
	for (int i = 0; i < 5; i++)
		(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
	control_free(w.control);
	w.control = NULL;
	close(fds[1]);
	/* The fake server's answers must not reach what is gone. */
	w.server->forgets = true;
	mailbox_run(&w.mailbox);
	w.server->forgets = false;
	assert_int_equal(world_open(), 0);
}

static void http_too_many_clients(void **state)
{
	int fds[LIMIT_CONTROL_CLIENTS + 8];
	char answer[8192];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(fds); i++) {
		fds[i] = http_connect();
		(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
	}
	loop_for_a_while();
	for (size_t i = 0; i < ARRAY_COUNT(fds); i++)
		close(fds[i]);
	loop_for_a_while();
	assert_true(http_talk("GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n", answer,
			      sizeof(answer)) > 0);
	assert_non_null(strstr(answer, " 200 "));
}

static void stale_socket_is_replaced(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)state;
	world_close();
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/control.sock", w.run);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(world_open(), -EADDRINUSE);
	assert_non_null(strstr(w.err.text, "in use by another lunrootd"));
	close(fd);
	assert_int_equal(world_open(), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(bad_requests),
		CASE(body_too_large),
		CASE(version_and_empty_lists),
		CASE(clone_is_served_and_stays),
		CASE(clone_refused),
		CASE(clone_that_fails_leaves_nothing),
		CASE(no_auth_has_no_secrets),
		CASE(url_has_the_operator),
		CASE(url_of_a_wildcard),
		CASE(in_use_is_refused_by_name),
		CASE(image_with_nodes_is_refused_by_name),
		CASE(removing_leaves_nothing),
		CASE(rename_keeps_identity),
		CASE(damaged_node_is_shown_and_can_go),
		CASE(second_operation_waits_outside),
		CASE(second_daemon_is_refused),
		CASE(missing_state_directory),
		CASE(damaged_catalogue_is_refused),
		CASE(newer_catalogue_is_refused),
		CASE(catalogue_is_private),
		CASE(lost_catalogue_is_rebuilt),
		CASE(unknown_files_are_left_alone),
		CASE(leftover_beside_the_real_file),
		CASE(import_ext4_in_every_packing),
		CASE(import_with_partitions),
		CASE(import_of_bad_files),
		CASE(import_pads_odd_sizes),
		CASE(create_with_ext4),
		CASE(cancelled_import_leaves_nothing),
		CASE(http_answers),
		CASE(http_client_gone),
		CASE(http_control_gone),
		CASE(http_too_many_clients),
		CASE(stale_socket_is_replaced),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as main does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
