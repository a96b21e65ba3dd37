/*
 * Credentials of boots, the node's own made anew, and whose Pi a node is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/fake.h"
#include "control/test_world.h"

#define NODE "/v1/nodes/pi-01"

static const char *boot_text(unsigned n)
{
	static char text[BOOT_ID_CHARS + 1];

	(void)snprintf(text, sizeof(text), "00000000000000%02x", n);
	return text;
}

/* The credentials that boot number `n` gets. */
static json_t *ask(const char *node, unsigned n, int status)
{
	char path[96], body[64];

	(void)snprintf(path, sizeof(path), "/v1/nodes/%s/boots", node);
	(void)snprintf(body, sizeof(body), "{\"boot\":\"%s\"}", boot_text(n));
	return json_object_get(call(API_POST, path, NULL, body, status), "credentials");
}

static const struct target_conf *conf_of(const char *node)
{
	assert_non_null(fake_target_find(w.server, node));
	return fake_target_find(w.server, node)->conf;
}

static const struct target_boot *conf_boot(const char *node, unsigned n)
{
	uint8_t id[LIMIT_BOOT_ID_BYTES];

	boot_id_bytes(boot_text(n), id);
	return target_conf_boot(conf_of(node), id);
}

static bool good(unsigned n)
{
	return conf_boot("pi-01", n) != NULL;
}

static struct server_login login_of(const char *node, unsigned n)
{
	struct server_login login = {.by_boot = true, .address = "10.1.1.1:1000"};

	memcpy(login.target_uuid, conf_of(node)->uuid, sizeof(login.target_uuid));
	boot_id_bytes(boot_text(n), login.boot_id);
	return login;
}

/* As the server does when boot number `n` logs in for the first time. */
static int log_in(unsigned n)
{
	struct server_login login = login_of("pi-01", n);
	int r = w.server->watch.record(w.server->watch.arg, &login);

	mailbox_run(&w.mailbox);
	return r;
}

static int setup(void **state)
{
	int r = world_setup(state);

	make_base();
	clone_node("pi-01");
	return r;
}

/* --- issuing --- */

static void a_boot_gets_credentials_of_its_own(void **state)
{
	char secret[64], mutual[64];
	const struct target_boot *boot;
	const struct node *node = node_find(w.control, "pi-01");
	json_t *body, *cred;

	(void)state;
	body = call(API_POST, NODE "/boots", NULL, "{\"boot\":\"0000000000000001\"}", 201);
	assert_string_equal(text_at(body, "portal"), "10.1.2.3:3261");
	assert_string_equal(text_at(body, "iqn"), IQN_PREFIX "pi-01");
	assert_string_equal(text_at(body, "initiator"), INITIATOR_PREFIX "pi-01");
	cred = json_object_get(body, "credentials");
	assert_string_equal(text_at(cred, "user"), "pi-01");
	assert_string_equal(text_at(cred, "mutual_user"), node->cred.mutual_user);
	(void)snprintf(secret, sizeof(secret), "%s", text_at(cred, "secret"));
	(void)snprintf(mutual, sizeof(mutual), "%s", text_at(cred, "mutual_secret"));
	assert_int_equal(strlen(secret), SECRET_CHARS);
	assert_string_not_equal(secret, node->cred.secret);
	assert_string_not_equal(secret, mutual);
	/* The server has them, beside the node's own. */
	boot = conf_boot("pi-01", 1);
	assert_non_null(boot);
	assert_false(boot->used);
	assert_int_equal(boot->secret_bytes, SECRET_CHARS);
	assert_memory_equal(boot->secret, secret, SECRET_CHARS);
	assert_memory_equal(boot->mutual_secret, mutual, SECRET_CHARS);
	assert_memory_equal(conf_of("pi-01")->in.secret, node->cred.secret, SECRET_CHARS);
	/* Another has others; the same one has the same. */
	assert_string_not_equal(text_at(ask("pi-01", 2, 201), "secret"), secret);
	assert_string_equal(text_at(ask("pi-01", 1, 200), "secret"), secret);
	assert_int_equal(node->boot_count, 2);
}

static void of_the_unused_four_are_good(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= LIMIT_BOOT_UNUSED + 1; n++)
		(void)ask("pi-01", n, 201);
	assert_false(good(1));
	for (unsigned n = 2; n <= LIMIT_BOOT_UNUSED + 1; n++)
		assert_true(good(n));
	/* And so after a restart. */
	world_reopen();
	assert_false(good(1));
	assert_int_equal(conf_of("pi-01")->boot_count, LIMIT_BOOT_UNUSED);
	/* The one in use does not count. */
	assert_int_equal(log_in(2), 0);
	for (unsigned n = 10; n < 10 + LIMIT_BOOT_UNUSED; n++)
		(void)ask("pi-01", n, 201);
	assert_true(good(2));
	assert_int_equal(conf_of("pi-01")->boot_count, LIMIT_BOOT_UNUSED + 1);
	(void)ask("pi-01", 20, 201);
	assert_true(good(2));
	assert_false(good(10));
}

static void bad_ids_are_refused(void **state)
{
	static const char *const bodies[] = {
		"{}",
		"{\"boot\":1}",
		"{\"boot\":\"\"}",
		"{\"boot\":\"000000000000001\"}",
		"{\"boot\":\"00000000000000001\"}",
		"{\"boot\":\"000000000000000G\"}",
		"{\"boot\":\"000000000000000A\"}",
		"{\"boot\":\"0000000000000001\",\"more\":1}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bodies); i++)
		error_is(call(API_POST, NODE "/boots", NULL, bodies[i], 400), "invalid", "");
	error_is(call(API_POST, "/v1/nodes/nobody/boots", NULL, "{\"boot\":\"0000000000000001\"}",
		      404),
		 "not_found", "nobody");
}

static void who_needs_none_gets_none(void **state)
{
	json_t *cred;

	(void)state;
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"open\",\"base\":\"base\",\"auth\":false}", 201);
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"many\",\"base\":\"base\",\"shared\":true}", 201);
	assert_true(json_is_null(ask("open", 1, 200)));
	/* Several Pis at once: none may end the other's. */
	cred = ask("many", 1, 200);
	assert_string_equal(text_at(cred, "secret"), node_find(w.control, "many")->cred.secret);
	assert_int_equal(conf_of("many")->boot_count, 0);
}

static void a_node_that_is_not_served_gets_none(void **state)
{
	struct node *node = node_find(w.control, "pi-01");

	(void)state;
	node->damaged = true;
	(void)snprintf(node->message, sizeof(node->message), "its layer is gone");
	(void)ask("pi-01", 1, 409);
	node->damaged = false;
	node->served = false;
	error_is(call(API_POST, NODE "/boots", NULL, "{\"boot\":\"0000000000000001\"}", 409),
		 "busy", "pi-01");
	assert_int_equal(node->boot_count, 0);
	node->served = true;
}

/* --- logins --- */

static void a_login_ends_what_was_before_it(void **state)
{
	json_t *list;

	(void)state;
	for (unsigned n = 1; n <= 3; n++)
		(void)ask("pi-01", n, 201);
	assert_int_equal(log_in(2), 0);
	assert_false(good(1));
	assert_true(good(2) && conf_boot("pi-01", 2)->used);
	assert_true(good(3) && !conf_boot("pi-01", 3)->used);
	/* What has ended may not be recorded any more. */
	assert_int_equal(log_in(1), -ENOENT);
	/* Again with the same: nothing changes. */
	assert_int_equal(log_in(2), 0);
	assert_true(good(3));
	list = json_object_get(call(API_GET, NODE, NULL, NULL, 200), "boot_credentials");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text_at(json_array_get(list, 0), "boot"), boot_text(2));
	assert_int_equal(strlen(text_at(json_array_get(list, 0), "used")), 20);
	assert_true(json_is_null(json_object_get(json_array_get(list, 1), "used")));
	assert_null(json_object_get(json_array_get(list, 0), "secret"));
	assert_int_equal(log_in(3), 0);
	assert_false(good(2));
	assert_true(good(3));
}

static void strangers_are_not_recorded(void **state)
{
	struct server_login login = login_of("pi-01", 1);

	(void)state;
	assert_int_equal(log_in(1), -ENOENT);
	memset(login.target_uuid, 7, sizeof(login.target_uuid));
	assert_int_equal(w.server->watch.record(w.server->watch.arg, &login), -ENOENT);
	/* News of what is gone meanwhile. */
	login.lost = 3;
	w.server->watch.login(w.server->watch.arg, &login);
	w.server->watch.end(w.server->watch.arg, &login, SERVER_END_LOST);
}

static uint64_t boottime_ms(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_BOOTTIME, &now), 0);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void unused_ones_go_with_time(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 3; n++)
		(void)ask("pi-01", n, 201);
	assert_int_equal(log_in(2), 0);
	boot_cred_look(w.control, boottime_ms() + LIMIT_BOOT_UNUSED_MS - 60000);
	assert_true(good(3));
	boot_cred_look(w.control, boottime_ms() + LIMIT_BOOT_UNUSED_MS + 1000);
	mailbox_run(&w.mailbox);
	assert_false(good(3));
	/* The one in use has no time limit. */
	boot_cred_look(w.control, UINT64_MAX);
	mailbox_run(&w.mailbox);
	assert_true(good(2));
	world_reopen();
	assert_true(good(2));
	assert_false(good(3));
}

/* --- restarts --- */

static void restarts_keep_them(void **state)
{
	char used[64], unused[64], static_secret[64];

	(void)state;
	(void)snprintf(static_secret, sizeof(static_secret), "%s",
		       node_find(w.control, "pi-01")->cred.secret);
	(void)snprintf(used, sizeof(used), "%s", text_at(ask("pi-01", 1, 201), "secret"));
	assert_int_equal(log_in(1), 0);
	(void)snprintf(unused, sizeof(unused), "%s", text_at(ask("pi-01", 2, 201), "secret"));
	for (int i = 0; i < 2; i++) {
		world_reopen();
		assert_true(conf_boot("pi-01", 1)->used);
		assert_memory_equal(conf_boot("pi-01", 1)->secret, used, SECRET_CHARS);
		assert_false(conf_boot("pi-01", 2)->used);
		assert_memory_equal(conf_boot("pi-01", 2)->secret, unused, SECRET_CHARS);
		assert_memory_equal(conf_of("pi-01")->in.secret, static_secret, SECRET_CHARS);
	}
	/* The time of the unused begins with the start. */
	node_find(w.control, "pi-01")->boots[1].until_ms = 0;
	world_reopen();
	boot_cred_look(w.control, boottime_ms());
	assert_true(good(2));
}

static void upgrade_brings_their_table(void **state)
{
	(void)state;
	world_close();
	sql("ALTER TABLE nodes DROP COLUMN address; DROP TABLE leases;"
	    " DROP TABLE boot_credentials; PRAGMA user_version=3");
	assert_int_equal(world_open(), 0);
	mailbox_run(&w.mailbox);
	(void)ask("pi-01", 1, 201);
	world_reopen();
	assert_true(good(1));
}

static void nonsense_in_the_catalogue_is_refused(void **state)
{
	static const char *const rows[] = {
		"UPDATE boot_credentials SET boot='00000000000000zz'",
		"UPDATE boot_credentials SET boot='0001'",
		"UPDATE boot_credentials SET secret='short'",
		"UPDATE boot_credentials SET mutual_secret=''",
		"INSERT INTO boot_credentials SELECT node_uuid, position + 10 + p, boot, secret, "
		"mutual_secret, issued, used FROM boot_credentials, (SELECT 0 AS p UNION SELECT 1 "
		"UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5)",
	};

	(void)state;
	(void)ask("pi-01", 1, 201);
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		world_close();
		shell("cp -a state kept");
		sql(rows[i]);
		assert_int_equal(world_open(), -EBADMSG);
		assert_non_null(strstr(w.err.text, "pi-01 makes no sense"));
		shell("rm -rf state && mv kept state");
		assert_int_equal(world_open(), 0);
		mailbox_run(&w.mailbox);
	}
	assert_true(good(1));
}

/* Somebody else writes to it, and does not end. */
static sqlite3 *catalogue_lock(void)
{
	char path[160];
	sqlite3 *db;

	(void)snprintf(path, sizeof(path), "%s/catalog.db", w.state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	return db;
}

static void a_node_gets_in_while_the_catalogue_can_not_be_written(void **state)
{
	sqlite3 *db;

	(void)state;
	(void)ask("pi-01", 1, 201);
	assert_int_equal(log_in(1), 0);
	(void)ask("pi-01", 2, 201);
	db = catalogue_lock();
	/* Nothing new is given out that a restart would not know; */
	(void)ask("pi-01", 3, 500);
	assert_false(good(3));
	assert_true(good(1) && good(2));
	/* what is there goes on, */
	assert_int_equal(log_in(2), 0);
	assert_true(good(2) && conf_boot("pi-01", 2)->used);
	assert_false(good(1));
	assert_true(node_find(w.control, "pi-01")->boots_unsaved);
	/* and a death now locks neither of the two out. */
	(void)sqlite3_close(db);
	shell("cp -a state killed");
	boot_cred_look(w.control, boottime_ms());
	assert_false(node_find(w.control, "pi-01")->boots_unsaved);
	world_close();
	shell("mv state saved && mv killed state");
	world_reopen();
	assert_true(good(1) && good(2));
	world_close();
	shell("rm -rf state && mv saved state");
	world_reopen();
	assert_false(good(1));
	assert_true(good(2) && conf_boot("pi-01", 2)->used);
}

/* --- a node's life --- */

static void a_rename_keeps_them(void **state)
{
	char secret[64];

	(void)state;
	(void)snprintf(secret, sizeof(secret), "%s", text_at(ask("pi-01", 1, 201), "secret"));
	(void)call(API_POST, NODE "/rename", NULL, "{\"name\":\"pi-99\"}", 200);
	assert_string_equal(conf_of("pi-99")->in.name, "pi-99");
	assert_non_null(conf_boot("pi-99", 1));
	assert_memory_equal(conf_boot("pi-99", 1)->secret, secret, SECRET_CHARS);
	assert_string_equal(text_at(ask("pi-99", 1, 200), "user"), "pi-99");
	world_reopen();
	assert_non_null(conf_boot("pi-99", 1));
}

static void trash_ends_the_unused(void **state)
{
	char path[96], uuid[STORE_UUID_TEXT_BYTES];
	struct server_login login = login_of("pi-01", 2);

	(void)state;
	w.trash_s = 1000;
	world_reopen();
	store_uuid_format(&node_find(w.control, "pi-01")->uuid, uuid);
	(void)ask("pi-01", 1, 201);
	assert_int_equal(log_in(1), 0);
	(void)ask("pi-01", 2, 201);
	(void)call(API_DELETE, NODE, NULL, NULL, 200);
	/* A login that was on its way when the node went. */
	assert_int_equal(w.server->watch.record(w.server->watch.arg, &login), -ENOENT);
	(void)snprintf(path, sizeof(path), "/v1/trash/%s/undo", uuid);
	world_reopen();
	(void)call(API_POST, path, NULL, NULL, 200);
	assert_true(good(1) && conf_boot("pi-01", 1)->used);
	assert_false(good(2));
	(void)call(API_DELETE, NODE, NULL, NULL, 200);
	(void)call(API_POST, path, NULL, NULL, 200);
	assert_true(good(1));
}

static int64_t rows(void)
{
	char path[160];
	sqlite3_stmt *st;
	sqlite3 *db;
	int64_t count;

	(void)snprintf(path, sizeof(path), "%s/catalog.db", w.state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(
		sqlite3_prepare_v2(db, "SELECT count(*) FROM boot_credentials", -1, &st, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	count = sqlite3_column_int64(st, 0);
	(void)sqlite3_finalize(st);
	(void)sqlite3_close(db);
	return count;
}

static void nothing_stays_of_a_node_that_is_gone(void **state)
{
	(void)state;
	(void)ask("pi-01", 1, 201);
	(void)ask("pi-01", 2, 201);
	assert_int_equal(rows(), 2);
	(void)call(API_DELETE, NODE, "now=1", NULL, 200);
	assert_int_equal(rows(), 0);
}

static void rotation_leaves_boots_alone(void **state)
{
	struct credentials before = node_find(w.control, "pi-01")->cred;
	const struct credentials *after;
	char secret[64];

	(void)state;
	(void)snprintf(secret, sizeof(secret), "%s", text_at(ask("pi-01", 1, 201), "secret"));
	assert_int_equal(log_in(1), 0);
	(void)call(API_POST, NODE "/rotate", NULL, NULL, 200);
	for (int i = 0; i < 2; i++) {
		after = &node_find(w.control, "pi-01")->cred;
		assert_string_not_equal(after->secret, before.secret);
		assert_string_not_equal(after->operator_secret, before.operator_secret);
		assert_string_not_equal(after->mutual_secret, before.mutual_secret);
		assert_string_equal(after->user, before.user);
		/* Boots that run know us by it. */
		assert_string_equal(after->mutual_user, before.mutual_user);
		assert_memory_equal(conf_of("pi-01")->in.secret, after->secret, SECRET_CHARS);
		assert_memory_equal(conf_of("pi-01")->operator.secret, after->operator_secret,
				    SECRET_CHARS);
		assert_memory_equal(conf_of("pi-01")->mutual.secret, after->mutual_secret,
				    SECRET_CHARS);
		assert_memory_equal(conf_boot("pi-01", 1)->secret, secret, SECRET_CHARS);
		world_reopen();
	}
	error_is(call(API_POST, "/v1/nodes/nobody/rotate", NULL, NULL, 404), "not_found", "nobody");
}

/* --- whose Pi it is --- */

static void expect_pi(const char *name, const char *serial, const char *mac)
{
	assert_string_equal(node_find(w.control, name)->serial, serial);
	assert_string_equal(node_find(w.control, name)->mac, mac);
}

static void a_node_gets_and_loses_its_pi(void **state)
{
	(void)state;
	assert_string_equal(text_at(json_object_get(call(API_POST, NODE "/identity", NULL,
							 "{\"serial\":\"10000000ABCDEF01\",\"mac\":"
							 "\"DC-A6-32-01-02-0F\"}",
							 200),
						    "node"),
				    "serial"),
			    "10000000abcdef01");
	expect_pi("pi-01", "10000000abcdef01", "dc:a6:32:01:02:0f");
	/* What is not said stays. */
	(void)call(API_POST, NODE "/identity", NULL, "{\"mac\":\"dc:a6:32:01:02:03\"}", 200);
	expect_pi("pi-01", "10000000abcdef01", "dc:a6:32:01:02:03");
	(void)call(API_POST, NODE "/identity", NULL, "{\"serial\":\"\"}", 200);
	expect_pi("pi-01", "", "dc:a6:32:01:02:03");
	world_reopen();
	expect_pi("pi-01", "", "dc:a6:32:01:02:03");
	error_is(call(API_POST, NODE "/identity", NULL, "{}", 400), "invalid", "serial");
	error_is(call(API_POST, NODE "/identity", NULL, NULL, 400), "invalid", "serial");
	error_is(call(API_POST, NODE "/identity", NULL, "{\"serial\":\"a b\"}", 400), "invalid",
		 "letters and digits");
	error_is(call(API_POST, NODE "/identity", NULL, "{\"mac\":\"dc:a6\"}", 400), "invalid",
		 "hardware address");
	error_is(call(API_POST, "/v1/nodes/nobody/identity", NULL, "{\"mac\":\"\"}", 404),
		 "not_found", "nobody");
}

static void two_nodes_never_have_the_same_pi(void **state)
{
	static const char *const same[] = {
		"{\"name\":\"x\",\"base\":\"base\",\"serial\":\"10000000ABCDEF01\"}",
		"{\"name\":\"x\",\"base\":\"base\",\"serial\":\"abcdef01\"}",
		"{\"name\":\"x\",\"base\":\"base\",\"mac\":\"dc-a6-32-01-02-03\"}",
	};

	(void)state;
	(void)call(API_POST, NODE "/identity", NULL,
		   "{\"serial\":\"10000000abcdef01\",\"mac\":\"dc:a6:32:01:02:03\"}", 200);
	for (size_t i = 0; i < ARRAY_COUNT(same); i++)
		error_is(call(API_POST, "/v1/nodes", NULL, same[i], 409), "exists",
			 "belongs to node pi-01");
	clone_node("pi-02");
	error_is(call(API_POST, "/v1/nodes/pi-02/identity", NULL, "{\"serial\":\"abcdef01\"}", 409),
		 "exists", "serial abcdef01 belongs to node pi-01");
	error_is(call(API_POST, "/v1/nodes/pi-02/identity", NULL,
		      "{\"serial\":\"abcdef02\",\"mac\":\"dc:a6:32:01:02:03\"}", 409),
		 "exists", "MAC dc:a6:32:01:02:03 belongs to node pi-01");
	expect_pi("pi-02", "", "");
	/* Its own is not another's; and no Pi is nobody's. */
	(void)call(API_POST, NODE "/identity", NULL, "{\"serial\":\"abcdef01\"}", 200);
	(void)call(API_POST, "/v1/nodes/pi-02/identity", NULL, "{\"serial\":\"\",\"mac\":\"\"}",
		   200);
	/* Words that are no Pi's numbers are compared as a whole. */
	(void)call(API_POST, NODE "/identity", NULL, "{\"serial\":\"rack1aaaabcdef09\"}", 200);
	(void)call(API_POST, "/v1/nodes/pi-02/identity", NULL, "{\"serial\":\"abcdef09\"}", 200);
}

static void expect_address(const char *name, const char *address)
{
	assert_string_equal(node_find(w.control, name)->address, address);
}

static void a_node_gets_and_loses_its_address(void **state)
{
	static const char *const bad[] = {"10.0.0",    "10.0.0.256", "0.0.0.0",
					  "127.0.0.1", "224.0.0.1",  "255.255.255.255",
					  "fd00::1",   "10.0.0.7 ",  "10.0.0.7/24"};
	char path[96], uuid[STORE_UUID_TEXT_BYTES], body[96];

	(void)state;
	assert_string_equal(text_at(json_object_get(call(API_POST, NODE "/identity", NULL,
							 "{\"address\":\"10.42.0.7\"}", 200),
						    "node"),
				    "address"),
			    "10.42.0.7");
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		(void)snprintf(body, sizeof(body), "{\"address\":\"%s\"}", bad[i]);
		error_is(call(API_POST, NODE "/identity", NULL, body, 400), "invalid", "address");
	}
	/* What is not said stays, over a start too. */
	(void)call(API_POST, NODE "/identity", NULL, "{\"serial\":\"abcdef01\"}", 200);
	w.trash_s = 1000;
	world_reopen();
	expect_address("pi-01", "10.42.0.7");
	error_is(call(API_POST, "/v1/nodes", NULL,
		      "{\"name\":\"x\",\"base\":\"base\",\"address\":\"10.42.0.7\"}", 409),
		 "exists", "address 10.42.0.7 belongs to node pi-01");
	(void)call(API_POST, NODE "/identity", NULL, "{\"address\":\"10.42.0.7\"}", 200);
	/* Out of the trash it comes without, if it is another's now. */
	store_uuid_format(&node_find(w.control, "pi-01")->uuid, uuid);
	(void)snprintf(path, sizeof(path), "/v1/trash/%s/undo", uuid);
	(void)call(API_DELETE, NODE, NULL, NULL, 200);
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-02\",\"base\":\"base\",\"address\":\"10.42.0.7\"}", 201);
	(void)call(API_POST, path, NULL, NULL, 200);
	expect_address("pi-01", "");
	expect_pi("pi-01", "abcdef01", "");
	(void)call(API_POST, "/v1/nodes/pi-02/identity", NULL, "{\"address\":\"\"}", 200);
	world_reopen();
	expect_address("pi-01", "");
	expect_address("pi-02", "");
}

static void out_of_the_trash_it_leaves_its_pi_to_the_other(void **state)
{
	char path[96], uuid[STORE_UUID_TEXT_BYTES];

	(void)state;
	w.trash_s = 1000;
	world_reopen();
	store_uuid_format(&node_find(w.control, "pi-01")->uuid, uuid);
	(void)call(API_POST, NODE "/identity", NULL,
		   "{\"serial\":\"abcdef01\",\"mac\":\"dc:a6:32:01:02:03\"}", 200);
	(void)call(API_DELETE, NODE, NULL, NULL, 200);
	(void)snprintf(path, sizeof(path), "/v1/trash/%s/undo", uuid);
	(void)call(API_POST, path, NULL, NULL, 200);
	expect_pi("pi-01", "abcdef01", "dc:a6:32:01:02:03");
	(void)call(API_DELETE, NODE, NULL, NULL, 200);
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-02\",\"base\":\"base\",\"serial\":\"10000000abcdef01\"}", 201);
	(void)call(API_POST, path, NULL, NULL, 200);
	expect_pi("pi-01", "", "");
	world_reopen();
	expect_pi("pi-01", "", "");
	expect_pi("pi-02", "10000000abcdef01", "");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_boot_gets_credentials_of_its_own),
		CASE(of_the_unused_four_are_good),
		CASE(bad_ids_are_refused),
		CASE(who_needs_none_gets_none),
		CASE(a_node_that_is_not_served_gets_none),
		CASE(a_login_ends_what_was_before_it),
		CASE(strangers_are_not_recorded),
		CASE(unused_ones_go_with_time),
		CASE(restarts_keep_them),
		CASE(upgrade_brings_their_table),
		CASE(nonsense_in_the_catalogue_is_refused),
		CASE(a_node_gets_in_while_the_catalogue_can_not_be_written),
		CASE(a_rename_keeps_them),
		CASE(trash_ends_the_unused),
		CASE(nothing_stays_of_a_node_that_is_gone),
		CASE(rotation_leaves_boots_alone),
		CASE(a_node_gets_and_loses_its_pi),
		CASE(two_nodes_never_have_the_same_pi),
		CASE(a_node_gets_and_loses_its_address),
		CASE(out_of_the_trash_it_leaves_its_pi_to_the_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
