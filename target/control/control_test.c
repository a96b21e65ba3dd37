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

#include "control/fake.h"
#include "control/test_world.h"

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
	clone_node("pi-01");
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
	fake_store_fails = "create";
	error_is(call(API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"base\"}", 507),
		 "no_space", "no space");
	fake_store_fails = "open";
	(void)call(API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"base\"}", 500);
	fake_store_fails = "";
	w.server->add_fails = -EIO;
	(void)call(API_POST, "/v1/nodes", NULL, "{\"name\":\"a\",\"base\":\"base\"}", 500);
	w.server->add_fails = 0;
	assert_int_equal(files_in("layers"), 0);
	(void)call(API_GET, "/v1/nodes/a", NULL, NULL, 404);
	clone_node("a");
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
	clone_node("pi-01");
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
	clone_node("pi-01");
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

static void in_use_is_refused_by_name(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	clone_node("pi-01");
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
	clone_node("pi-01");
	clone_node("pi-02");
	error_is(call(API_DELETE, "/v1/images/base", NULL, NULL, 409), "in_use",
		 "2 nodes: pi-01, pi-02");
	error_is(call(API_DELETE, "/v1/images/base", "dry_run=1", NULL, 409), "in_use", "pi-01");
}

static void removing_leaves_nothing(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	clone_node("pi-01");
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
	clone_node("pi-01");
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	(void)snprintf(uuid, sizeof(uuid), "%s", text_at(answer, "uuid"));
	(void)snprintf(lun_uuid, sizeof(lun_uuid), "%s",
		       text_at(json_array_get(json_object_get(answer, "luns"), 0), "uuid"));
	clone_node("taken");
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
	clone_node("good");
	clone_node("bad");
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

static void put_obstacle(const char *path)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fclose(file), 0);
}

/* Something lies where a file has to go. */
static void removal_that_fails_is_taken_back(void **state)
{
	char path[PATH_BYTES];

	(void)state;
	make_base();
	clone_node("pi-01");
	layer_path(w.control, PREFIX_RM, &node_find(w.control, "pi-01")->luns[0].layers[0].uuid,
		   path);
	put_obstacle(path);
	(void)call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 500);
	assert_non_null(fake_target_find(w.server, "pi-01"));
	world_reopen();
	assert_non_null(fake_target_find(w.server, "pi-01"));
	(void)call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 200);
}

static void renaming_that_fails_is_taken_back(void **state)
{
	char path[PATH_BYTES];

	(void)state;
	make_base();
	clone_node("pi-01");
	image_path(w.control, "", "other", path);
	strcat(path, ".json");
	put_obstacle(path);
	(void)call(API_POST, "/v1/images/base/rename", NULL, "{\"name\":\"other\"}", 500);
	assert_int_equal(unlink(path), 0);
	world_reopen();
	(void)call(API_GET, "/v1/images/base", NULL, NULL, 200);
	assert_non_null(fake_target_find(w.server, "pi-01"));
}

static void second_operation_waits_outside(void **state)
{
	struct answer first = {.request = {.reply = on_reply, .drop = on_drop}},
		      second = {.request = {.reply = on_reply, .drop = on_drop}};
	struct api_call rm = {.op = API_NODE_DELETE, .name = "pi-01"};

	(void)state;
	make_base();
	clone_node("pi-01");
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
	char path[160], version[64];
	sqlite3_stmt *st;
	sqlite3 *db;

	(void)state;
	world_close();
	(void)snprintf(path, sizeof(path), "%s/catalog.db", w.state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	(void)snprintf(version, sizeof(version), "PRAGMA user_version=%d",
		       sqlite3_column_int(st, 0));
	(void)sqlite3_finalize(st);
	(void)sqlite3_exec(db, "PRAGMA user_version=77", NULL, NULL, NULL);
	(void)sqlite3_close(db);
	assert_int_equal(world_open(), -EPROTO);
	assert_non_null(strstr(w.err.text, "newer"));
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	(void)sqlite3_exec(db, version, NULL, NULL, NULL);
	(void)sqlite3_close(db);
	assert_int_equal(world_open(), 0);
}

/* The catalogue as the first version would have written it. */
static void catalogue_to_v1(void)
{
	static const char schema[] =
		"CREATE TABLE images(uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
		" old_name TEXT, size_bytes INTEGER NOT NULL, content TEXT NOT NULL,"
		" created INTEGER NOT NULL) STRICT;"
		"CREATE TABLE nodes(uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
		" image_uuid TEXT NOT NULL, serial TEXT NOT NULL, mac TEXT NOT NULL,"
		" hostname TEXT NOT NULL, user TEXT NOT NULL, secret TEXT NOT NULL,"
		" operator_user TEXT NOT NULL, operator_secret TEXT NOT NULL,"
		" mutual_user TEXT NOT NULL, mutual_secret TEXT NOT NULL, auth INTEGER NOT NULL,"
		" shared INTEGER NOT NULL, read_only INTEGER NOT NULL, removable INTEGER NOT NULL,"
		" durability TEXT NOT NULL, created INTEGER NOT NULL) STRICT;"
		"CREATE TABLE luns(uuid TEXT PRIMARY KEY,"
		" node_uuid TEXT NOT NULL REFERENCES nodes(uuid) ON DELETE CASCADE,"
		" lun INTEGER NOT NULL, size_bytes INTEGER NOT NULL, UNIQUE(node_uuid, lun)) "
		"STRICT;"
		"CREATE TABLE layers(uuid TEXT PRIMARY KEY,"
		" lun_uuid TEXT NOT NULL REFERENCES luns(uuid) ON DELETE CASCADE,"
		" position INTEGER NOT NULL, sealed INTEGER NOT NULL, UNIQUE(lun_uuid, position))"
		" STRICT;"
		"PRAGMA application_id=0x4c554e52; PRAGMA user_version=1;";
	char text[1024], path[160], later[160];

	(void)snprintf(path, sizeof(path), "%s/catalog.db", w.state);
	(void)snprintf(later, sizeof(later), "%s/later.db", w.dir);
	assert_int_equal(rename(path, later), 0);
	sql(schema);
	(void)snprintf(
		text, sizeof(text),
		"ATTACH '%s' AS later;"
		"ALTER TABLE later.nodes DROP COLUMN address;"
		"INSERT INTO images SELECT * FROM later.images;"
		"INSERT INTO nodes SELECT * FROM later.nodes;"
		"INSERT INTO luns SELECT * FROM later.luns;"
		"INSERT INTO layers SELECT uuid, lun_uuid, position, sealed FROM later.layers;",
		later);
	sql(text);
}

static void older_catalogue_is_brought_up(void **state)
{
	char secret[64];
	json_t *answer;

	(void)state;
	make_base();
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}", 201);
	clone_node("pi-02");
	answer = call(API_GET, "/v1/nodes/pi-01", "secrets=1", NULL, 200);
	(void)snprintf(secret, sizeof(secret), "%s",
		       text_at(json_object_get(answer, "credentials"), "secret"));
	world_close();
	catalogue_to_v1();
	for (int i = 0; i < 2; i++) { /* the second time it is there */
		assert_int_equal(world_open(), 0);
		world_reopen();
		answer = call(API_GET, "/v1/nodes/pi-01", "secrets=1", NULL, 200);
		assert_string_equal(text_at(json_object_get(answer, "credentials"), "secret"),
				    secret);
		assert_string_equal(text_at(answer, "state"), "ready");
		assert_int_equal(json_array_size(json_object_get(answer, "luns")), 2);
		answer = call(API_GET, "/v1/nodes/pi-02", NULL, NULL, 200);
		assert_string_equal(text_at(answer, "base"), "base");
		clone_node(i ? "pi-04" : "pi-03");
		world_close();
	}
	sql("UPDATE layers SET snapshot='before', created=1700000000 WHERE position=0");
	assert_int_equal(world_open(), 0);
	assert_string_equal(node_find(w.control, "pi-01")->luns[1].layers[0].snapshot, "before");
	assert_int_equal(node_find(w.control, "pi-01")->luns[0].layers[0].created, 1700000000);
}

/* All steps or none: what stops half-way is as it was. */
static void upgrade_that_fails_changes_nothing(void **state)
{
	(void)state;
	make_base();
	clone_node("pi-01");
	world_close();
	catalogue_to_v1();
	sql("ALTER TABLE layers ADD COLUMN created INTEGER");
	assert_true(world_open() < 0);
	assert_non_null(strstr(w.err.text, "created"));
	sql("ALTER TABLE layers DROP COLUMN created");
	sql("ALTER TABLE layers ADD COLUMN snapshot TEXT"); /* it is not there: no error */
	sql("ALTER TABLE layers DROP COLUMN snapshot");
	assert_int_equal(world_open(), 0);
	(void)call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
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

/* What is removed because the disk is full must be written down. */
static void catalogue_keeps_room(void **state)
{
	char path[160];
	struct stat st;

	(void)state;
	make_base();
	clone_node("pi-01");
	for (int i = 0; i < 3; i++) {
		(void)snprintf(path, sizeof(path), "%s/catalog.db-wal", w.state);
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_blocks * 512 >= 1 << 20);
		world_reopen();
	}
	/* It begins anew before that is used up. */
	for (int i = 0; i < 200; i++)
		(void)call(API_POST, i % 2 ? "/v1/images/other/rename" : "/v1/images/base/rename",
			   NULL, i % 2 ? "{\"name\":\"base\"}" : "{\"name\":\"other\"}", 200);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 1 << 20);
}

static void lost_catalogue_is_rebuilt(void **state)
{
	char uuid[64], lun_uuid[64], path[PATH_BYTES];
	json_t *answer;

	(void)state;
	make_base();
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}", 201);
	clone_node("pi-02");
	(void)call(API_POST, "/v1/nodes/pi-02/rename", NULL, "{\"name\":\"x\"}", 200);
	clone_node("pi-02");
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	(void)snprintf(uuid, sizeof(uuid), "%s", text_at(answer, "uuid"));
	(void)snprintf(lun_uuid, sizeof(lun_uuid), "%s",
		       text_at(json_array_get(json_object_get(answer, "luns"), 1), "uuid"));
	layer_path(w.control, "", &node_find(w.control, "x")->luns[0].layers[0].uuid, path);
	world_close();
	assert_int_equal(store_layer_label(path, NULL, "pi-02", &w.err), 0);
	shell("rm state/catalog.db*");
	assert_int_equal(world_open(), 0);
	world_reopen();
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "uuid"), uuid);
	assert_string_equal(text_at(answer, "base"), "base");
	assert_string_equal(text_at(answer, "state"), "ready");
	assert_string_equal(text_at(json_array_get(json_object_get(answer, "luns"), 1), "uuid"),
			    lun_uuid);
	/* Of two whose headers say the same name the second gets a number. */
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
#define CASE(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
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
		CASE(removal_that_fails_is_taken_back),
		CASE(renaming_that_fails_is_taken_back),
		CASE(second_operation_waits_outside),
		CASE(second_daemon_is_refused),
		CASE(missing_state_directory),
		CASE(damaged_catalogue_is_refused),
		CASE(newer_catalogue_is_refused),
		CASE(older_catalogue_is_brought_up),
		CASE(upgrade_that_fails_changes_nothing),
		CASE(catalogue_is_private),
		CASE(catalogue_keeps_room),
		CASE(lost_catalogue_is_rebuilt),
		CASE(unknown_files_are_left_alone),
		CASE(leftover_beside_the_real_file),
		CASE(http_answers),
		CASE(http_client_gone),
		CASE(http_control_gone),
		CASE(http_too_many_clients),
		CASE(stale_socket_is_replaced),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as main does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
