/*
 * Boot records, Pis that wait for a node, leases, and what lunbootd says of itself: every call as
 * lunbootd makes it, all bounds, and what is left after a restart, a damaged file and a full disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <event2/event.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "control/boots_internal.h"
#include "control/fake.h"
#include "control/test_world.h"

#define ID_A "00000000000000aa"
#define ID_B "00000000000000bb"
#define AT   "2026-11-26T12:00:00.123Z"

static json_t *member_at(json_t *list, size_t i, const char *key)
{
	return json_object_get(json_array_get(list, i), key);
}

static const char *text_in(json_t *list, size_t i, const char *key)
{
	return text_at(json_array_get(list, i), key);
}

static json_int_t number_at(json_t *body, const char *key)
{
	assert_true(json_is_integer(json_object_get(body, key)));
	return json_integer_value(json_object_get(body, key));
}

/* PUT of a head. */
static void put(const char *id, const char *body)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/v1/boots/%s", id);
	(void)call(API_PUT, path, NULL, body, 200);
}

/* One event, `seconds` after noon. */
static void event(const char *id, unsigned seconds, const char *kind, const char *more)
{
	char path[64], body[900];

	(void)snprintf(path, sizeof(path), "/v1/boots/%s/events", id);
	(void)snprintf(body, sizeof(body),
		       "{\"events\":[{\"at\":\"2026-11-26T12:%02u:%02u.500Z\",\"kind\":\"%s\"%s}]}",
		       seconds / 60, seconds % 60, kind, more);
	(void)call(API_POST, path, NULL, body, 200);
}

static json_t *boot_at(const char *id, int status)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/v1/boots/%s", id);
	return call(API_GET, path, NULL, NULL, status);
}

static json_t *boots_of(const char *node)
{
	char query[80];

	(void)snprintf(query, sizeof(query), "node=%s", node);
	return json_object_get(call(API_GET, "/v1/boots", query, NULL, 200), "boots");
}

static json_t *pending(void)
{
	return json_object_get(call(API_GET, "/v1/pending", NULL, NULL, 200), "pending");
}

static int64_t rows_in_file(void)
{
	char path[160];
	sqlite3_stmt *st;
	sqlite3 *db;
	int64_t count;

	(void)snprintf(path, sizeof(path), "%s/boots.db", w.state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM boots", -1, &st, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	count = sqlite3_column_int64(st, 0);
	(void)sqlite3_finalize(st);
	(void)sqlite3_close(db);
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
		{API_GET, "/v1/boots/1", NULL, NULL, 400, "no boot's ID"},
		{API_GET, "/v1/boots/00000000000000AA", NULL, NULL, 400, "no boot's ID"},
		{API_GET, "/v1/boots/" ID_A, NULL, NULL, 404, "no boot " ID_A},
		{API_GET, "/v1/boots", "node=A", NULL, 400, "no valid name"},
		{API_GET, "/v1/boots", "node", NULL, 400, "no valid name"},
		{API_GET, "/v1/boots", "node=pi-99", NULL, 404, "no node pi-99"},
		{API_GET, "/v1/boots", "last=x", NULL, 400, "bad value"},
		{API_DELETE, "/v1/boots/" ID_A, NULL, NULL, 405, "method"},
		{API_PUT, "/v1/boots/" ID_A, NULL, NULL, 400, "no JSON"},
		{API_PUT, "/v1/boots/" ID_A, NULL, "[]", 400, "not a JSON object"},
		{API_PUT, "/v1/boots/" ID_A, NULL, "{\"node\":1}", 400, "node is not a string"},
		{API_PUT, "/v1/boots/" ID_A, NULL, "{\"node\":\"A\"}", 400, "no name of a node"},
		{API_PUT, "/v1/boots/" ID_A, NULL, "{\"mac\":\"dc:a6\"}", 400, "hardware address"},
		{API_PUT, "/v1/boots/" ID_A, NULL, "{\"serial\":\"a b\"}", 400, "letters and"},
		{API_PUT, "/v1/boots/" ID_A, NULL,
		 "{\"serial\":\"0123456789012345678901234567890123\"}", 400, "letters and"},
		{API_PUT, "/v1/boots/" ID_A, NULL, "{\"id\":\"" ID_A "\"}", 400, "unknown field"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL, "{}", 400, "events is missing"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL, "{\"events\":{}}", 400, "no list"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL, "{\"events\":[1]}", 400,
		 "JSON object"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL, "{\"events\":[{\"at\":\"" AT "\"}]}",
		 400, "kind is missing"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL,
		 "{\"events\":[{\"at\":\"" AT "\",\"kind\":\"dance\"}]}", 400, "no kind of event"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL,
		 "{\"events\":[{\"at\":\"yesterday\",\"kind\":\"offer\"}]}", 400, "no time"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL,
		 "{\"events\":[{\"at\":\"2026-13-26T12:00:00Z\",\"kind\":\"offer\"}]}", 400,
		 "no time"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL,
		 "{\"events\":[{\"at\":\"" AT "\",\"kind\":\"sent\",\"bytes\":-1}]}", 400,
		 "whole number"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL,
		 "{\"events\":[{\"at\":\"" AT "\",\"kind\":\"sent\",\"retries\":1.5}]}", 400,
		 "whole number"},
		{API_POST, "/v1/boots/" ID_A "/events", NULL,
		 "{\"events\":[{\"at\":\"" AT "\",\"kind\":\"wait\"}]}", 404, "no boot"},
		{API_POST, "/v1/boots", NULL, "{\"boots\":[{}]}", 400, "id is missing"},
		{API_POST, "/v1/boots", NULL, "{\"boots\":[{\"id\":\"x\"}]}", 400, "16 hex digits"},
		{API_DELETE, "/v1/pending/a-b", NULL, NULL, 400, "neither a serial nor"},
		{API_DELETE, "/v1/pending/0123", NULL, NULL, 404, "no Pi 0123"},
		{API_PUT, "/v1/leases/0123", NULL, "{}", 400, "no hardware address"},
		{API_PUT, "/v1/leases/dc:a6:32:01:02:03", NULL,
		 "{\"address\":\"10.0.0\",\"until\":\"" AT "\"}", 400, "no IPv4 address"},
		{API_PUT, "/v1/leases/dc:a6:32:01:02:03", NULL,
		 "{\"address\":\"10.0.0.1\",\"until\":\"" AT "\",\"hostname\":\"a b\"}", 400,
		 "no host's name"},
		{API_DELETE, "/v1/leases/dc:a6:32:01:02:03", NULL, NULL, 404, "no lease"},
		{API_PUT, "/v1/bootd", NULL, "{\"version\":\"1\"}", 400, "interfaces is missing"},
		{API_PUT, "/v1/bootd", NULL,
		 "{\"version\":\"1\",\"interfaces\":[],\"troubles\":[1]}", 400,
		 "objects are wanted"},
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

static void times_are_read(void **state)
{
	static const char *const bad[] = {
		"",
		"2026-11-26",
		"2026-11-26T12:00:00",
		"2026-11-26T12:00:00.1Z",
		"2026-11-26 12:00:00Z",
		"1969-12-31T23:59:59Z",
		"2200-01-01T00:00:00Z",
		"2026-00-26T12:00:00Z",
		"2026-11-26T24:00:00Z",
		"2026-11-26T12:00:00,123Z",
		"2026-1x-26T12:00:00Z",
		"+026-11-26T12:00:00Z",
	};
	int64_t ms = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		assert_false(time_parse_ms(bad[i], &ms));
	assert_true(time_parse_ms("1970-01-01T00:00:00Z", &ms));
	assert_int_equal(ms, 0);
	assert_true(time_parse_ms("2026-11-26T12:00:00.123Z", &ms));
	assert_int_equal(ms, 1795694400123);
	assert_true(time_parse_ms("2024-02-29T00:00:01Z", &ms));
	assert_int_equal(ms, 1709164801000);
	assert_true(time_parse_ms("2199-12-31T23:59:59.999Z", &ms));
	assert_int_equal(ms, 7258118399999);
}

/* --- the good way --- */

static void check_boot(void)
{
	json_t *boot = boot_at(ID_A, 200), *events = json_object_get(boot, "events");

	assert_string_equal(text_at(boot, "node"), "pi-01");
	assert_string_equal(text_at(boot, "serial"), "abcdef01");
	assert_string_equal(text_at(boot, "mac"), "dc:a6:32:01:02:03");
	assert_string_equal(text_at(boot, "model"), "Raspberry Pi 4");
	assert_string_equal(text_at(boot, "address"), "10.0.0.17");
	assert_string_equal(text_at(boot, "began"), "2026-11-26T12:00:00.500Z");
	assert_string_equal(text_at(boot, "last"), "2026-11-26T12:01:10.500Z");
	assert_string_equal(text_at(boot, "reached"), "multi-user");
	assert_string_equal(text_at(boot, "reached_at"), "2026-11-26T12:01:10.500Z");
	assert_int_equal(number_at(boot, "files"), 2);
	assert_int_equal(number_at(boot, "file_bytes"), 2252001);
	assert_int_equal(number_at(boot, "retries"), 3);
	assert_int_equal(number_at(boot, "dropped"), 0);
	assert_int_equal(number_at(boot, "event_count"), json_array_size(events));
	assert_int_equal(json_array_size(events), 6);
	assert_string_equal(text_in(events, 0, "kind"), "discover");
	assert_null(member_at(events, 0, "text"));
	assert_null(member_at(events, 0, "bytes"));
	assert_string_equal(text_in(events, 1, "text"), "\xc3\xa4 \"wait\"\n");
	assert_string_equal(text_in(events, 2, "file"), "start4.elf");
	assert_int_equal(number_at(json_array_get(events, 2), "bytes"), 2250001);
	assert_int_equal(number_at(json_array_get(events, 2), "took_ms"), 410);
	assert_string_equal(text_in(events, 5, "at"), "2026-11-26T12:01:10.500Z");
	assert_string_equal(text_at(json_object_get(boot, "last_event"), "text"), "multi-user");
}

static void boot_is_told_and_stays(void **state)
{
	(void)state;
	make_base();
	clone_node("pi-01");
	put(ID_A, "{\"node\":null,\"serial\":\"ABCDEF01\",\"mac\":\"DC-A6-32-01-02-03\"}");
	assert_true(json_is_null(json_object_get(boot_at(ID_A, 200), "node")));
	assert_string_equal(text_at(boot_at(ID_A, 200), "reached"), "nothing");
	put(ID_A, "{\"node\":\"pi-01\",\"model\":\"Raspberry Pi 4\",\"address\":\"10.0.0.17\"}");
	event(ID_A, 0, "discover", "");
	event(ID_A, 1, "wait", ",\"text\":\"\\u00e4 \\\"wait\\\"\\n\"");
	event(ID_A, 2, "sent",
	      ",\"file\":\"start4.elf\",\"bytes\":2250001,\"retries\":3,\"took_ms\":410");
	event(ID_A, 3, "sent", ",\"file\":\"config.txt\",\"bytes\":2000,\"retries\":0");
	event(ID_A, 60, "report", ",\"text\":\"root ext4 /dev/sda2\"");
	event(ID_A, 70, "report", ",\"text\":\"multi-user\"");
	check_boot();
	world_reopen();
	check_boot();
	assert_int_equal(json_array_size(boots_of("pi-01")), 1);
	assert_null(member_at(boots_of("pi-01"), 0, "events"));
	/* A new name is the same node. */
	(void)call(API_POST, "/v1/nodes/pi-01/rename", NULL, "{\"name\":\"pi-02\"}", 200);
	assert_string_equal(text_in(boots_of("pi-02"), 0, "node"), "pi-02");
}

static void several_boots_in_one_call(void **state)
{
	json_t *list;

	(void)state;
	make_base();
	clone_node("pi-01");
	list = call(API_POST, "/v1/boots", NULL,
		    "{\"boots\":[{\"id\":\"" ID_A "\",\"node\":\"pi-01\",\"events\":["
		    "{\"at\":\"" AT "\",\"kind\":\"discover\"},{\"at\":\"" AT
		    "\",\"kind\":\"offer\"}]},"
		    "{\"id\":\"" ID_B "\",\"node\":\"gone\",\"serial\":\"1234\"}]}",
		    200);
	assert_int_equal(number_at(list, "boots"), 2);
	assert_int_equal(number_at(list, "events"), 2);
	assert_int_equal(json_array_size(boots_of("pi-01")), 1);
	list = json_object_get(call(API_GET, "/v1/boots", NULL, NULL, 200), "boots");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text_in(list, 0, "id"), ID_B);
	list = json_object_get(call(API_GET, "/v1/boots", "last=1", NULL, 200), "boots");
	assert_int_equal(json_array_size(list), 1);
	/* Events that are told later do not need the head again. */
	(void)call(API_POST, "/v1/boots", NULL,
		   "{\"boots\":[{\"id\":\"" ID_A "\",\"events\":["
		   "{\"at\":\"" AT "\",\"kind\":\"asked\",\"file\":\"x\"}]}]}",
		   200);
	assert_string_equal(text_at(boot_at(ID_A, 200), "node"), "pi-01");
	assert_string_equal(text_at(boot_at(ID_A, 200), "reached"), "asked");
}

static void removed_nodes_take_their_boots(void **state)
{
	json_t *trash;
	char path[80];

	(void)state;
	w.trash_s = 100;
	world_reopen();
	make_base();
	clone_node("pi-01");
	clone_node("pi-02");
	put(ID_A, "{\"node\":\"pi-01\"}");
	put(ID_B, "{\"node\":\"pi-02\"}");
	(void)call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 200);
	assert_true(json_is_null(json_object_get(boot_at(ID_A, 200), "node")));
	assert_int_equal(json_array_size(pending()), 0);
	world_reopen();
	assert_true(json_is_null(json_object_get(boot_at(ID_A, 200), "node")));
	trash = json_object_get(call(API_GET, "/v1/trash", NULL, NULL, 200), "trash");
	(void)snprintf(path, sizeof(path), "/v1/trash/%s/undo", text_in(trash, 0, "id"));
	(void)call(API_POST, path, NULL, NULL, 200);
	assert_string_equal(text_at(boot_at(ID_A, 200), "node"), "pi-01");
	(void)call(API_DELETE, "/v1/nodes/pi-01", "now=1", NULL, 200);
	(void)boot_at(ID_A, 404);
	(void)boot_at(ID_B, 200);
	world_reopen();
	(void)boot_at(ID_A, 404);
	(void)boot_at(ID_B, 200);
	assert_int_equal(rows_in_file(), 1);
	/* One that went while nothing was kept of it. */
	world_close();
	sql("PRAGMA foreign_keys=ON; DELETE FROM nodes WHERE name='pi-02'");
	assert_int_equal(world_open(), 0);
	(void)boot_at(ID_B, 404);
}

/* --- bounds --- */

static void middle_of_a_long_boot_goes(void **state)
{
	json_t *boot, *events;
	unsigned extra = 40;

	(void)state;
	put(ID_A, "{\"serial\":\"1\"}");
	for (unsigned i = 0; i < LIMIT_BOOT_EVENTS + extra; i++) {
		char more[40];

		(void)snprintf(more, sizeof(more), ",\"text\":\"line %u\"", i);
		event(ID_A, i, "console", more);
	}
	for (int round = 0; round < 2; round++) {
		boot = boot_at(ID_A, 200);
		events = json_object_get(boot, "events");
		assert_int_equal(json_array_size(events), LIMIT_BOOT_EVENTS);
		assert_int_equal(number_at(boot, "dropped"), extra + (unsigned)round);
		assert_string_equal(text_in(events, 0, "text"), "line 0");
		assert_string_equal(text_in(events, 255, "text"), "line 255");
		assert_string_equal(text_in(events, 256, "text"),
				    round == 0 ? "line 296" : "line 297");
		assert_string_equal(text_at(json_object_get(boot, "last_event"), "text"),
				    round == 0 ? "line 551" : "last");
		world_reopen();
		event(ID_A, 600, "console", ",\"text\":\"last\"");
	}
}

static void long_texts_are_cut(void **state)
{
	char more[800], wanted[LIMIT_BOOT_TEXT_BYTES + 1];
	json_t *events;
	size_t at;

	(void)state;
	put(ID_A, "{\"serial\":\"1\",\"model\":\"an "
		  "0123456789012345678901234567890123456789012345678901234567890123456789\"}");
	assert_int_equal(strlen(text_at(boot_at(ID_A, 200), "model")), LIMIT_BOOT_MODEL_BYTES);
	/* Cut before a character that would not be whole. */
	at = (size_t)snprintf(more, sizeof(more), ",\"text\":\"");
	memset(more + at, 'x', LIMIT_BOOT_TEXT_BYTES - 1);
	(void)snprintf(more + at + LIMIT_BOOT_TEXT_BYTES - 1,
		       sizeof(more) - at - LIMIT_BOOT_TEXT_BYTES, "\xc3\xa4yyy\"");
	event(ID_A, 0, "console", more);
	memset(wanted, 'x', sizeof(wanted));
	wanted[LIMIT_BOOT_TEXT_BYTES - 1] = '\0';
	events = json_object_get(boot_at(ID_A, 200), "events");
	assert_string_equal(text_in(events, 0, "text"), wanted);
	(void)snprintf(more, sizeof(more), ",\"file\":\"%0300d\"", 7);
	event(ID_A, 0, "asked", more);
	events = json_object_get(boot_at(ID_A, 200), "events");
	assert_int_equal(strlen(text_in(events, 1, "file")), LIMIT_BOOT_FILE_BYTES);
}

static void only_the_newest_boots_stay(void **state)
{
	char id[20], body[80];
	json_t *list;

	(void)state;
	make_base();
	clone_node("pi-01");
	for (unsigned i = 0; i < LIMIT_BOOTS_PER_NODE + 3; i++) {
		(void)snprintf(id, sizeof(id), "%016x", i);
		put(id, "{\"node\":\"pi-01\"}");
	}
	list = boots_of("pi-01");
	assert_int_equal(json_array_size(list), LIMIT_BOOTS_PER_NODE);
	assert_string_equal(text_in(list, 0, "id"), "0000000000000012");
	/* One Pi that tries again and again does not push out the others. */
	put("00000000000000f0", "{\"serial\":\"quiet\"}");
	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(id, sizeof(id), "1%015x", i);
		put(id, "{\"serial\":\"again\",\"mac\":\"dc:a6:32:00:00:01\"}");
	}
	list = pending();
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text_in(list, 0, "key"), "again");
	assert_string_equal(text_in(list, 0, "id"), "100000000000012b");
	assert_int_equal(number_at(json_array_get(list, 0), "boots"), LIMIT_BOOTS_PER_UNKNOWN);
	/* A flood of them has an end, and leaves the nodes' alone. */
	for (unsigned i = 0; i < 300; i++) {
		(void)snprintf(id, sizeof(id), "2%015x", i);
		(void)snprintf(body, sizeof(body), "{\"mac\":\"dc:a6:32:00:%02x:%02x\"}", i / 256,
			       i % 256);
		put(id, body);
	}
	assert_int_equal(json_array_size(pending()), LIMIT_BOOTS_UNKNOWN);
	assert_string_equal(text_in(pending(), 0, "key"), "dc:a6:32:00:01:2b");
	assert_int_equal(json_array_size(boots_of("pi-01")), LIMIT_BOOTS_PER_NODE);
	world_reopen();
	assert_int_equal(json_array_size(pending()), LIMIT_BOOTS_UNKNOWN);
	assert_int_equal(json_array_size(boots_of("pi-01")), LIMIT_BOOTS_PER_NODE);
	assert_int_equal(rows_in_file(), LIMIT_BOOTS_UNKNOWN + LIMIT_BOOTS_PER_NODE);
}

/* Events of many boots, as large as they can be. */
static void memory_has_an_end(void **state)
{
	static char body[LIMIT_BOOT_EVENTS * 600];
	char text[LIMIT_BOOT_TEXT_BYTES + 1], name[16];
	size_t at = 0;

	(void)state;
	make_base();
	memset(text, 'x', sizeof(text));
	text[LIMIT_BOOT_TEXT_BYTES] = '\0';
	for (unsigned i = 0; i < LIMIT_BOOT_EVENTS; i++)
		at += (size_t)snprintf(body + at, sizeof(body) - at,
				       "%s{\"at\":\"" AT "\",\"kind\":\"console\",\"text\":\"%s\"}",
				       i ? "," : "{\"events\":[", text);
	(void)snprintf(body + at, sizeof(body) - at, "]}");
	for (unsigned i = 0; i < 20 * LIMIT_BOOTS_PER_NODE; i++) {
		char id[20], head[64], path[64];

		(void)snprintf(name, sizeof(name), "pi-%02u", i / LIMIT_BOOTS_PER_NODE);
		if (i % LIMIT_BOOTS_PER_NODE == 0)
			clone_node(name);
		(void)snprintf(id, sizeof(id), "%016x", i);
		(void)snprintf(head, sizeof(head), "{\"node\":\"%s\"}", name);
		put(id, head);
		(void)snprintf(path, sizeof(path), "/v1/boots/%s/events", id);
		(void)call(API_POST, path, NULL, body, 200);
		assert_true(w.control->boots->bytes <= LIMIT_BOOT_RECORDS_BYTES);
	}
	assert_true(w.control->boots->bytes > LIMIT_BOOT_RECORDS_BYTES / 2);
	/* The oldest have gone, but each node still has one. */
	(void)boot_at("0000000000000000", 404);
	assert_int_equal(json_array_size(boots_of("pi-19")), LIMIT_BOOTS_PER_NODE);
	assert_int_equal(json_array_size(boots_of("pi-00")), 1);
	at = w.control->boots->count;
	world_reopen();
	assert_int_equal(w.control->boots->count, at);
	assert_int_equal(json_array_size(boots_of("pi-00")), 1);
}

/* --- Pis without a node --- */

static void pending_becomes_a_node(void **state)
{
	json_t *list;

	(void)state;
	make_base();
	put(ID_A, "{\"serial\":\"abcdef01\",\"mac\":\"dc:a6:32:01:02:03\",\"model\":\"Raspberry Pi "
		  "4\"}");
	event(ID_A, 0, "discover", "");
	put(ID_B, "{\"mac\":\"b8:27:eb:00:00:01\"}");
	put("00000000000000cc", "{}"); /* nobody knows what it is */
	list = pending();
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text_in(list, 0, "key"), "b8:27:eb:00:00:01");
	assert_string_equal(text_in(list, 1, "key"), "abcdef01");
	assert_string_equal(text_at(member_at(list, 1, "last_event"), "kind"), "discover");
	/* The serial as /proc/cpuinfo has it. */
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"serial\":\"10000000ABCDEF01\"}", 201);
	assert_int_equal(json_array_size(pending()), 1);
	assert_string_equal(text_in(boots_of("pi-01"), 0, "id"), ID_A);
	assert_string_equal(text_at(boot_at(ID_A, 200), "node"), "pi-01");
	/* By what the Pi is known. */
	list = call(API_GET, "/v1/boots", "pi=10000000ABCDEF01", NULL, 200);
	assert_string_equal(text_in(json_object_get(list, "boots"), 0, "id"), ID_A);
	list = call(API_GET, "/v1/boots", "pi=b8:27:eb:00:00:01", NULL, 200);
	assert_int_equal(json_array_size(json_object_get(list, "boots")), 1);
	list = call(API_GET, "/v1/boots", "pi=00000000", NULL, 200);
	assert_int_equal(json_array_size(json_object_get(list, "boots")), 0);
	error_is(call(API_GET, "/v1/boots", "pi=", NULL, 400), "invalid", "neither a serial");
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-02\",\"base\":\"base\",\"mac\":\"B8-27-EB-00-00-01\"}", 201);
	assert_int_equal(json_array_size(pending()), 0);
	assert_int_equal(json_array_size(boots_of("pi-02")), 1);
}

static void pending_is_forgotten(void **state)
{
	(void)state;
	put(ID_A, "{\"serial\":\"abcdef01\",\"mac\":\"dc:a6:32:01:02:03\"}");
	put(ID_B, "{\"serial\":\"abcdef01\"}");
	assert_int_equal(
		number_at(call(API_DELETE, "/v1/pending/ABCDEF01", NULL, NULL, 200), "removed"), 2);
	assert_int_equal(json_array_size(pending()), 0);
	put(ID_A, "{\"serial\":\"abcdef01\",\"mac\":\"dc:a6:32:01:02:03\"}");
	(void)call(API_DELETE, "/v1/pending/DC-A6-32-01-02-03", NULL, NULL, 200);
	(void)boot_at(ID_A, 404);
}

/* --- logins --- */

static void logins_find_their_boot(void **state)
{
	const struct node *node;
	json_t *events;
	char now[96];
	time_t t = time(NULL);

	(void)state;
	make_base();
	clone_node("pi-01");
	node = node_find(w.control, "pi-01");
	/* Nothing to add to. */
	boots_login(w.control, &node->uuid, "", "iqn.a", "10.0.0.1:1");
	boots_session_end(w.control, &node->uuid, "logout", "10.0.0.1:1");
	put(ID_A, "{\"node\":\"pi-01\"}");
	put(ID_B, "{\"node\":\"pi-01\"}");
	event(ID_B, 0, "discover", ""); /* long ago, or far ahead, by this test's clock */
	boots_login(w.control, &node->uuid, ID_A, "iqn.\x1b[a", "10.0.0.1:1");
	events = json_object_get(boot_at(ID_A, 200), "events");
	assert_string_equal(text_in(events, 0, "kind"), "login");
	assert_string_equal(text_in(events, 0, "text"), "10.0.0.1:1 as iqn.?[a");
	assert_string_equal(text_at(boot_at(ID_A, 200), "reached"), "login");
	boots_session_end(w.control, &node->uuid, "connection lost", "10.0.0.1:1");
	events = json_object_get(boot_at(ID_A, 200), "events");
	assert_string_equal(text_in(events, 1, "kind"), "session end");
	assert_string_equal(text_in(events, 1, "text"), "connection lost: 10.0.0.1:1");
	/* No boot is named: the newest, if it is new enough. */
	put("00000000000000cc", "{\"node\":\"pi-01\"}");
	(void)strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime(&(time_t){t - 14 * 60}));
	{
		char body[200];

		(void)snprintf(body, sizeof(body),
			       "{\"events\":[{\"at\":\"%s\",\"kind\":\"discover\"}]}", now);
		(void)call(API_POST, "/v1/boots/00000000000000cc/events", NULL, body, 200);
		boots_login(w.control, &node->uuid, "", "iqn.a", "10.0.0.1:2");
		events = json_object_get(boot_at("00000000000000cc", 200), "events");
		assert_int_equal(json_array_size(events), 2);
		put("00000000000000dd", "{\"node\":\"pi-01\"}");
		(void)strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ",
			       gmtime(&(time_t){t - 16 * 60}));
		(void)snprintf(body, sizeof(body),
			       "{\"events\":[{\"at\":\"%s\",\"kind\":\"discover\"}]}", now);
		(void)call(API_POST, "/v1/boots/00000000000000dd/events", NULL, body, 200);
		boots_login(w.control, &node->uuid, "", "iqn.a", "10.0.0.1:3");
		events = json_object_get(boot_at("00000000000000dd", 200), "events");
		assert_int_equal(json_array_size(events), 1);
	}
	/* The session that ends is that of the last login. */
	boots_session_end(w.control, &node->uuid, "logout", "");
	events = json_object_get(boot_at("00000000000000cc", 200), "events");
	assert_string_equal(text_in(events, 2, "text"), "logout");
	/* Another node's boot is none of ours. */
	clone_node("pi-02");
	boots_login(w.control, &node_find(w.control, "pi-02")->uuid, ID_A, "iqn.b", "10.0.0.2:1");
	assert_int_equal(number_at(boot_at(ID_A, 200), "event_count"), 2);
}

/* --- the file --- */

/* What the timer does when a second is over. */
static void second_is_over(bool wait)
{
	assert_true(evtimer_pending(w.control->boots->timer, NULL));
	(void)event_del(w.control->boots->timer);
	event_active(w.control->boots->timer, EV_TIMEOUT, 1);
	(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
	if (wait)
		mailbox_wait();
}

/* Without an orderly end, as a killed daemon leaves it. */
static void written_behind(void **state)
{
	const struct timeval enough = {.tv_sec = 1, .tv_usec = 300000};

	(void)state;
	put(ID_A, "{\"serial\":\"1\"}");
	assert_int_equal(rows_in_file(), 0);
	(void)event_base_loopexit(w.base, &enough);
	(void)event_base_dispatch(w.base);
	mailbox_wait();
	assert_int_equal(rows_in_file(), 1);
	assert_true(list_empty(&w.control->boots->dirty));
	assert_false(evtimer_pending(w.control->boots->timer, NULL)); /* idle costs nothing */
	(void)call(API_DELETE, "/v1/pending/1", NULL, NULL, 200);
	put(ID_B, "{\"serial\":\"2\"}");
	second_is_over(true);
	assert_int_equal(rows_in_file(), 1);
	/* It ends while a batch is under way. */
	put(ID_A, "{\"serial\":\"1\"}");
	second_is_over(false);
	world_reopen();
	(void)boot_at(ID_A, 200);
	(void)boot_at(ID_B, 200);
}

static void damaged_file_is_put_aside(void **state)
{
	static const char *const damages[] = {
		"echo no database, but long enough to be looked at >state/boots.db",
		/* the first page of the table */
		"dd if=/dev/urandom of=state/boots.db bs=4096 seek=1 count=1 conv=notrunc",
		"truncate -s 4096 state/boots.db",
		"cd state; rm boots.db; sqlite3 boots.db 'PRAGMA user_version=99'",
		"sqlite3 state/boots.db 'ALTER TABLE boots DROP COLUMN dropped'",
	};
	struct stat st;
	char path[160];

	(void)state;
	make_base();
	clone_node("pi-01");
	for (size_t i = 0; i < ARRAY_COUNT(damages); i++) {
		put(ID_A, "{\"node\":\"pi-01\"}");
		world_close();
		shell("rm -f state/boots.db.damaged*");
		shell(damages[i]);
		assert_int_equal(world_open(), 0);
		(void)snprintf(path, sizeof(path), "%s/boots.db.damaged", w.state);
		assert_int_equal(stat(path, &st), 0);
		(void)call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
		(void)boot_at(ID_A, 404);
		put(ID_B, "{\"node\":\"pi-01\"}");
		world_reopen();
		(void)boot_at(ID_B, 200);
		assert_int_equal(rows_in_file(), 1);
	}
}

static void senseless_rows_are_passed_over(void **state)
{
	static const char *const changes[] = {
		"UPDATE boots SET events=x'00' WHERE id='" ID_A "'",
		"UPDATE boots SET reached=99 WHERE id='" ID_A "'",
		"UPDATE boots SET reached=-1 WHERE id='" ID_A "'",
		"UPDATE boots SET node='x' WHERE id='" ID_A "'",
		"UPDATE boots SET serial=printf('%100d', 1) WHERE id='" ID_A "'",
		"UPDATE boots SET id='short' WHERE id='" ID_A "'",
		"UPDATE boots SET began_ms=-1 WHERE id='" ID_A "'",
		/* an event whose text ends beyond the end */
		"UPDATE boots SET "
		"events=x'000000000000000000000000000000000000000000000000ff000000' WHERE id='" ID_A
		"'",
		/* of a kind that there is not */
		"UPDATE boots SET "
		"events=x'0000000000000000000000000000000000000000000000000000ff00' WHERE id='" ID_A
		"'",
	};
	char command[400];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
		put(ID_A, "{\"serial\":\"1\"}");
		put(ID_B, "{\"serial\":\"2\"}");
		event(ID_A, 0, "discover", ",\"text\":\"x\"");
		world_close();
		(void)snprintf(command, sizeof(command), "sqlite3 state/boots.db \"%s\"",
			       changes[i]);
		shell(command);
		assert_int_equal(world_open(), 0);
		(void)boot_at(ID_A, 404);
		(void)boot_at(ID_B, 200);
	}
}

static void unwritable_file_is_no_harm(void **state)
{
	(void)state;
	world_close();
	shell("rm -f state/boots.db*; mkdir state/boots.db; touch state/boots.db/x");
	assert_int_equal(world_open(), 0);
	put(ID_A, "{\"serial\":\"1\"}");
	event(ID_A, 0, "discover", "");
	assert_int_equal(json_array_size(pending()), 1);
	/* When it can be written again all of it is. */
	shell("rm -r state/boots.db");
	world_reopen();
	assert_int_equal(number_at(boot_at(ID_A, 200), "event_count"), 1);
}

/* SQLite is told that the file may not grow: a disk that is full. */
static void full_disk_keeps_them_in_memory(void **state)
{
	(void)state;
	put(ID_A, "{\"serial\":\"1\"}");
	world_reopen();
	(void)sqlite3_hard_heap_limit64(1); /* the thread's calls fail with no memory */
	put(ID_B, "{\"serial\":\"2\"}");
	second_is_over(true);
	(void)sqlite3_hard_heap_limit64(0);
	assert_true(w.control->boots->failed);
	assert_true(w.control->boots->anew);
	(void)boot_at(ID_A, 200);
	(void)boot_at(ID_B, 200);
	world_reopen();
	(void)boot_at(ID_A, 200);
	(void)boot_at(ID_B, 200);
	assert_int_equal(rows_in_file(), 2);
	/* Below the reserve nothing of this is written at all. */
	w.control->space_short = true;
	put("00000000000000cc", "{\"serial\":\"3\"}");
	world_reopen();
	(void)boot_at("00000000000000cc", 404);
}

/* --- 3,000 Pis after a power cut --- */

#define STORM_NODES  3000
#define STORM_EVENTS 60
#define STORM_CALLS  20 /* a boot tells of itself so often: once a second */

static int64_t cpu_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Half a second's worth of it: so many nodes at once in one call. */
static size_t storm_body(char *body, size_t bytes, unsigned first, unsigned count, unsigned step)
{
	size_t at = (size_t)snprintf(body, bytes, "{\"boots\":[");

	for (unsigned i = first; i < first + count; i++) {
		at += (size_t)snprintf(
			body + at, bytes - at,
			"%s{\"id\":\"%016x\",\"node\":\"pi-%u\",\"serial\":\"%08x\",\"mac\":\"dc:"
			"a6:"
			"32:00:%02x:%02x\",\"model\":\"Raspberry Pi 4\",\"address\":\"10.0.%u.%u\","
			"\"events\":[",
			i > first ? "," : "", i, i, i, i / 256, i % 256, i / 250, i % 250 + 1);
		for (unsigned k = 0; k < STORM_EVENTS / STORM_CALLS; k++)
			at += (size_t)snprintf(
				body + at, bytes - at,
				"%s{\"at\":\"2026-11-26T12:00:%02u.%03uZ\",\"kind\":\"sent\","
				"\"file\":"
				"\"overlays/overlay_map-%u.dtb\",\"bytes\":%u,\"retries\":0,"
				"\"took_ms\":12}",
				k ? "," : "", step, k, step, 40000 + k);
		at += (size_t)snprintf(body + at, bytes - at, "]}");
	}
	return at + (size_t)snprintf(body + at, bytes - at, "]}");
}

static void storm_is_no_burden(void **state)
{
	static char body[LIMIT_CONTROL_BODY_BYTES];
	const unsigned per_call = 500;
	int64_t begin, calls_us = 0, longest_us = 0, timer_us = 0, longest_timer_us = 0;
	struct timespec from, to;

	(void)state;
	/* More nodes than the fake server takes. */
	for (unsigned i = 0; i < STORM_NODES; i++) {
		struct node *node = calloc(1, sizeof(*node));

		assert_non_null(node);
		(void)snprintf(node->name, sizeof(node->name), "pi-%u", i);
		store_uuid_generate(&node->uuid);
		assert_int_equal(node_insert(w.control, node), 0);
	}
	for (unsigned step = 0; step < STORM_CALLS; step++) {
		for (unsigned first = 0; first < STORM_NODES; first += per_call) {
			(void)storm_body(body, sizeof(body), first, per_call, step);
			begin = cpu_us();
			(void)call(API_POST, "/v1/boots", NULL, body, 200);
			begin = cpu_us() - begin;
			calls_us += begin;
			longest_us = begin > longest_us ? begin : longest_us;
		}
		/* The second is over. */
		begin = cpu_us();
		event_active(w.control->boots->timer, EV_TIMEOUT, 1);
		(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
		begin = cpu_us() - begin;
		timer_us += begin;
		longest_timer_us = begin > longest_timer_us ? begin : longest_timer_us;
		if (step % 2 == 0)
			mailbox_wait_ms(0);
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	/* What the writer has still said is for these records, not for the next. */
	boots_db_stop(w.control->boots->db);
	mailbox_run(&w.mailbox);
	boots_close(w.control);
	assert_int_equal(boots_open(w.control), 0);
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	assert_int_equal(w.control->boots->count, STORM_NODES);
	assert_int_equal(number_at(json_array_get(boots_of("pi-2999"), 0), "files"), STORM_EVENTS);
	print_message("storm: %u boots, %u events: calls %.0f ms (longest %.1f), hand-over %.0f ms "
		      "(longest %.1f) of the control thread; %.1f MiB; end and start in %.0f ms\n",
		      STORM_NODES, STORM_NODES * STORM_EVENTS, (double)calls_us / 1000,
		      (double)longest_us / 1000, (double)timer_us / 1000,
		      (double)longest_timer_us / 1000, (double)w.control->boots->bytes / (1 << 20),
		      (double)(to.tv_sec - from.tv_sec) * 1000 +
			      (double)(to.tv_nsec - from.tv_nsec) / 1e6);
}

/* --- leases, and lunbootd itself --- */

static void leases_are_kept(void **state)
{
	json_t *list;

	(void)state;
	(void)call(API_PUT, "/v1/leases/DC-A6-32-01-02-03", NULL,
		   "{\"address\":\"10.0.0.17\",\"until\":\"2100-01-01T00:00:00Z\",\"hostname\":"
		   "\"pi-01\"}",
		   200);
	error_is(call(API_PUT, "/v1/leases/dc:a6:32:01:02:04", NULL,
		      "{\"address\":\"10.0.0.17\",\"until\":\"2100-01-01T00:00:00Z\"}", 409),
		 "exists", "10.0.0.17");
	/* The same Pi: longer, elsewhere. */
	(void)call(API_PUT, "/v1/leases/dc:a6:32:01:02:03", NULL,
		   "{\"address\":\"10.0.0.18\",\"until\":\"2020-01-01T00:00:00Z\"}", 200);
	/* Its time is over, so that another may have it. */
	(void)call(API_PUT, "/v1/leases/dc:a6:32:01:02:04", NULL,
		   "{\"address\":\"10.0.0.18\",\"until\":\"2100-01-01T00:00:00Z\"}", 200);
	(void)call(API_PUT, "/v1/leases/dc:a6:32:01:02:05", NULL,
		   "{\"address\":\"10.0.0.17\",\"until\":\"2100-01-01T00:00:00.5Z\"}", 400);
	(void)call(API_PUT, "/v1/leases/dc:a6:32:01:02:05", NULL,
		   "{\"address\":\"10.0.0.17\",\"until\":\"2100-01-01T00:00:00.500Z\"}", 200);
	world_reopen();
	list = json_object_get(call(API_GET, "/v1/leases", NULL, NULL, 200), "leases");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text_in(list, 0, "mac"), "dc:a6:32:01:02:05");
	assert_string_equal(text_in(list, 0, "address"), "10.0.0.17");
	assert_string_equal(text_in(list, 0, "until"), "2100-01-01T00:00:00Z");
	assert_string_equal(text_in(list, 1, "hostname"), "");
	(void)call(API_DELETE, "/v1/leases/dc:a6:32:01:02:05", NULL, NULL, 200);
	(void)call(API_DELETE, "/v1/leases/dc:a6:32:01:02:05", NULL, NULL, 404);
	list = json_object_get(call(API_GET, "/v1/leases", NULL, NULL, 200), "leases");
	assert_int_equal(json_array_size(list), 1);
}

static void leases_have_an_end(void **state)
{
	(void)state;
	world_close();
	sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<8192) "
	    "INSERT INTO leases SELECT printf('%d', i), printf('10.%d', i), 4000000000, '' FROM n");
	assert_int_equal(world_open(), 0);
	error_is(call(API_PUT, "/v1/leases/dc:a6:32:01:02:04", NULL,
		      "{\"address\":\"10.0.0.18\",\"until\":\"2100-01-01T00:00:00Z\"}", 409),
		 "limit", "8192 leases");
}

static void ended_leases_make_room(void **state)
{
	json_t *list;

	(void)state;
	world_close();
	sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<8192) "
	    "INSERT INTO leases SELECT printf('%d', i), printf('10.%d', i), "
	    "iif(i>8190, 1000000000 - i, 4000000000), '' FROM n");
	assert_int_equal(world_open(), 0);
	(void)call(API_PUT, "/v1/leases/dc:a6:32:01:02:04", NULL,
		   "{\"address\":\"10.0.0.18\",\"until\":\"2100-01-01T00:00:00Z\"}", 200);
	list = json_object_get(call(API_GET, "/v1/leases", NULL, NULL, 200), "leases");
	assert_int_equal(json_array_size(list), 8192);
	/* Of the two that have ended, the one that did longest ago. */
	for (size_t i = 0; i < json_array_size(list); i++)
		assert_string_not_equal(text_in(list, i, "mac"), "8192");
}

static void catalogue_without_leases_is_brought_up(void **state)
{
	(void)state;
	make_base();
	world_close();
	sql("ALTER TABLE nodes DROP COLUMN address; DROP TABLE leases; PRAGMA user_version=4");
	for (int i = 0; i < 2; i++) {
		assert_int_equal(world_open(), 0);
		(void)call(API_GET, "/v1/images/base", NULL, NULL, 200);
		(void)call(API_PUT, "/v1/leases/dc:a6:32:01:02:03", NULL,
			   "{\"address\":\"10.0.0.18\",\"until\":\"2100-01-01T00:00:00Z\"}", 200);
		world_close();
	}
	assert_int_equal(world_open(), 0);
}

static void bootd_says_how_it_is(void **state)
{
	json_t *answer = call(API_GET, "/v1/bootd", NULL, NULL, 200);

	(void)state;
	assert_true(json_is_null(json_object_get(answer, "bootd")));
	(void)call(API_PUT, "/v1/bootd", NULL, "{\"version\":\"0\",\"interfaces\":[]}", 200);
	(void)call(API_PUT, "/v1/bootd", NULL,
		   "{\"version\":\"0.2.0\",\"started\":\"" AT
		   "\",\"interfaces\":[{\"name\":\"eth0\","
		   "\"address\":\"10.0.0.2\"}],\"troubles\":[{"
		   "\"code\":\"network\",\"message\":\"m\",\"cure\":\"\"}]}",
		   200);
	answer = json_object_get(call(API_GET, "/v1/bootd", NULL, NULL, 200), "bootd");
	assert_string_equal(text_at(answer, "version"), "0.2.0");
	assert_true(strlen(text_at(answer, "seen")) == 20);
	assert_string_equal(text_in(json_object_get(answer, "interfaces"), 0, "name"), "eth0");
	world_reopen();
	answer = call(API_GET, "/v1/bootd", NULL, NULL, 200);
	assert_true(json_is_null(json_object_get(answer, "bootd")));
}

/* --- packed events --- */

static void packed_events_from_a_stranger(void **state)
{
	uint8_t bytes[400];
	unsigned good = 0;

	(void)state;
	srand(7);
	for (unsigned i = 0; i < 200000; i++) {
		size_t count = (size_t)rand() % sizeof(bytes), at = 0;
		struct boot_event event;
		struct boot_log log;

		/* Heads that are nearly good, so that some get through. */
		memset(bytes, 0, sizeof(bytes));
		for (unsigned k = 0; k < 6; k++)
			bytes[(size_t)rand() % sizeof(bytes)] = (uint8_t)(rand() % 32);
		if (boot_log_load(&log, bytes, count, 0) < 0)
			continue;
		good++;
		while (boot_log_next(&log, &at, &event))
			assert_true(event.text_bytes + event.file_bytes <= count);
		assert_int_equal(at, count);
		boot_log_done(&log);
	}
	assert_true(good > 100);
}

int main(void)
{
#define WORLD_TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		WORLD_TEST(bad_requests),
		cmocka_unit_test(times_are_read),
		WORLD_TEST(boot_is_told_and_stays),
		WORLD_TEST(several_boots_in_one_call),
		WORLD_TEST(removed_nodes_take_their_boots),
		WORLD_TEST(middle_of_a_long_boot_goes),
		WORLD_TEST(long_texts_are_cut),
		WORLD_TEST(only_the_newest_boots_stay),
		WORLD_TEST(memory_has_an_end),
		WORLD_TEST(pending_becomes_a_node),
		WORLD_TEST(pending_is_forgotten),
		WORLD_TEST(logins_find_their_boot),
		WORLD_TEST(written_behind),
		WORLD_TEST(damaged_file_is_put_aside),
		WORLD_TEST(senseless_rows_are_passed_over),
		WORLD_TEST(unwritable_file_is_no_harm),
		WORLD_TEST(full_disk_keeps_them_in_memory),
		WORLD_TEST(storm_is_no_burden),
		WORLD_TEST(leases_are_kept),
		WORLD_TEST(leases_have_an_end),
		WORLD_TEST(ended_leases_make_room),
		WORLD_TEST(catalogue_without_leases_is_brought_up),
		WORLD_TEST(bootd_says_how_it_is),
		cmocka_unit_test(packed_events_from_a_stranger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
