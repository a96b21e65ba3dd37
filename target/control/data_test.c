/*
 * Reading disks through the API, and what their content is called.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/fake.h"
#include "control/test_world.h"

#define LUN0  "/v1/nodes/pi-01/luns/0"
#define DATA0 LUN0 "/data"
#define MIB   (1u << 20)

static int setup(void **state)
{
	int r = world_setup(state);

	make_base(); /* 8 MiB */
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}", 201);
	return r;
}

static void wait_for(struct answer *a)
{
	while (a->status == 0)
		mailbox_wait();
}

/* Data, whole; the caller frees it. */
static uint8_t *get(const char *path, uint64_t offset, uint64_t length, size_t expected)
{
	struct answer a = {0};
	char query[80];

	(void)snprintf(query, sizeof(query), "offset=%llu&length=%llu", (unsigned long long)offset,
		       (unsigned long long)length);
	call_begin(&a, API_GET, path, query, NULL);
	wait_for(&a);
	if (a.body)
		print_error("%s?%s: %s\n", path, query, json_dumps(a.body, 0));
	assert_int_equal(a.status, 200);
	assert_int_equal(a.data_bytes, expected);
	return a.data;
}

static void luns_are_read_at_any_offset(void **state)
{
	static const struct {
		uint64_t offset, length;
	} parts[] = {{0, 1},       {0, 512},         {511, 2},          {513, 511},
		     {4095, 4098}, {1000000, 48576}, {1, MIB},          {0, MIB},
		     {511, 1},     {MIB - 1, 1},     {MIB - 1, 4 * MIB}};

	(void)state;
	for (uint8_t lun = 0; lun < 2; lun++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "/v1/nodes/pi-01/luns/%u/data", lun);
		for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
			uint64_t size = lun ? MIB : 8 * MIB, left = size - parts[i].offset;
			size_t bytes = (size_t)(parts[i].length < left ? parts[i].length : left);
			uint8_t *data = get(path, parts[i].offset, parts[i].length, bytes);

			for (size_t k = 0; k < bytes; k++)
				assert_int_equal(data[k], fake_byte(lun, parts[i].offset + k));
			free(data);
		}
	}
	free(get(DATA0, 3 * MIB + 7, 4 * MIB, 4 * MIB));
	assert_int_equal(w.control->read_count, 0);
}

static void images_are_read_at_any_offset(void **state)
{
	uint8_t *data;

	(void)state;
	shell("head -c 3000000 /dev/urandom >file && truncate -s 3000320 file");
	(void)job_done(import_body("some", "file", ",\"force\":true"));
	data = get("/v1/images/some/data", 12345, 2 * MIB, 2 * MIB);
	shell("tail -c +12346 file | head -c 2097152 >part");
	{
		char path[96];
		uint8_t *expected = malloc(2 * MIB);
		FILE *file;

		(void)snprintf(path, sizeof(path), "%s/part", w.dir);
		file = fopen(path, "re");
		assert_non_null(file);
		assert_int_equal(fread(expected, 1, 2 * MIB, file), 2 * MIB);
		(void)fclose(file);
		assert_memory_equal(data, expected, 2 * MIB);
		free(expected);
	}
	free(data);
	free(get("/v1/images/some/data", 3000319, 4 * MIB, 1));
	error_is(call(API_GET, "/v1/images/some/data", "offset=3000320&length=1", NULL, 416),
		 "range", "3000320 bytes");
	error_is(call(API_GET, "/v1/images/none/data", "length=1", NULL, 404), "not_found", "none");
	assert_int_equal(w.control->read_count, 0);
	/* Its file is gone. */
	shell("rm -f state/images/some.img");
	(void)call(API_GET, "/v1/images/some/data", "length=1", NULL, 500);
}

static void what_makes_no_sense_is_refused(void **state)
{
	static const struct {
		const char *path, *query;
		int status;
		const char *code;
	} bad[] = {
		{DATA0, NULL, 400, "invalid"},
		{DATA0, "offset=0", 400, "invalid"},
		{DATA0, "length=0", 400, "invalid"},
		{DATA0, "length=4194305", 400, "invalid"},
		{DATA0, "length=-1", 400, "invalid"},
		{DATA0, "length=1&offset=x", 400, "invalid"},
		{DATA0, "length=1&offset=99999999999999999999", 400, "invalid"},
		{DATA0, "length=1&lun=1", 400, "invalid"},
		{DATA0, "length=1&offset=8388608", 416, "range"},
		{DATA0, "length=1&offset=70368744177664", 416, "range"},
		{"/v1/nodes/pi-01/luns/2/data", "length=1", 404, "not_found"},
		{"/v1/nodes/pi-01/luns/16/data", "length=1", 404, "not_found"},
		{"/v1/nodes/pi-01/luns/x/data", "length=1", 404, "not_found"},
		{"/v1/nodes/pi-02/luns/0/data", "length=1", 404, "not_found"},
		{"/v1/nodes/pi-01/luns/0/date", "length=1", 404, "not_found"},
		{"/v1/nodes/pi-01/luns/0/data/0", "length=1", 404, "not_found"},
		{"/v1/nodes/pi-01/luns/0", "length=1", 400, "invalid"},
		{"/v1/nodes/pi-01/luns", NULL, 404, "not_found"},
		{"/v1/nodes/pi-02/luns/0", NULL, 404, "not_found"},
		{"/v1/nodes/pi-01/luns/2", NULL, 404, "not_found"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		error_is(call(API_GET, bad[i].path, bad[i].query, NULL, bad[i].status), bad[i].code,
			 "");
	assert_int_equal(w.server->reads, 0);
}

static void failures_are_told(void **state)
{
	static const struct {
		int res, status;
		const char *code;
	} cases[] = {{-ENOENT, 409, "busy"},    {-EAGAIN, 409, "busy"}, {-ERANGE, 409, "busy"},
		     {-ECANCELED, 409, "busy"}, {-EIO, 500, "io"},      {-ENOMEM, 500, "io"}};
	struct node *node = node_find(w.control, "pi-01");

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		w.server->read_fails = cases[i].res;
		error_is(call(API_GET, DATA0, "length=1", NULL, cases[i].status), cases[i].code,
			 "pi-01");
		error_is(call(API_GET, "/v1/images/base/data", "length=1", NULL, cases[i].status),
			 cases[i].code, "base");
	}
	assert_int_equal(w.control->read_count, 0);
	node->served = false;
	error_is(call(API_GET, DATA0, "length=1", NULL, 409), "busy", "pi-01");
	error_is(call(API_GET, LUN0, NULL, NULL, 409), "busy", "pi-01");
	node->damaged = true;
	(void)snprintf(node->message, sizeof(node->message), "a layer is gone");
	error_is(call(API_GET, DATA0, "length=1", NULL, 409), "damaged", "a layer is gone");
	error_is(call(API_GET, LUN0, NULL, NULL, 409), "damaged", "a layer is gone");
}

/* No more buffers than the limit, whoever keeps them: the reactors, or clients that do not read. */
static void memory_is_bounded(void **state)
{
	enum { COUNT = 3 * LIMIT_DATA_READS };
	static struct answer a[COUNT];
	unsigned answered = 0;

	(void)state;
	memset(a, 0, sizeof(a));
	for (unsigned i = 0; i < COUNT; i++) {
		a[i].holds = true;
		call_begin(&a[i], API_GET, i % 2 ? DATA0 : "/v1/images/base/data", "length=4096",
			   NULL);
	}
	mailbox_run(&w.mailbox);
	mailbox_run(&w.mailbox);
	for (unsigned i = 0; i < COUNT; i++)
		answered += a[i].status == 200;
	assert_int_equal(answered, LIMIT_DATA_READS);
	assert_int_equal(w.control->read_count, LIMIT_DATA_READS);
	/* In order: each that is taken lets the next one in. */
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(a[i].status, 200);
		a[i].taken(a[i].taken_arg);
		mailbox_run(&w.mailbox);
		free(a[i].data);
	}
	assert_int_equal(w.control->read_count, 0);
	assert_int_equal(w.server->reads_at_once_max, LIMIT_DATA_READS);
	assert_int_equal(w.server->reads, COUNT);
}

/* Those that wait are dropped with the control, and what clients still have is theirs after it. */
static void the_end_drops_those_that_wait(void **state)
{
	enum { COUNT = LIMIT_DATA_READS + 2 };
	static struct answer a[COUNT];

	(void)state;
	memset(a, 0, sizeof(a));
	for (unsigned i = 0; i < COUNT; i++) {
		a[i].holds = true;
		call_begin(&a[i], API_GET, DATA0, "length=1", NULL);
	}
	mailbox_run(&w.mailbox);
	world_close();
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(a[i].dropped, i >= LIMIT_DATA_READS);
		if (a[i].taken)
			a[i].taken(a[i].taken_arg);
		free(a[i].data);
	}
	assert_int_equal(world_open(), 0);
}

/* --- names of content --- */

static void text_get(const char *path, const char *key, char to[128])
{
	json_t *body = call(API_GET, path, NULL, NULL, 200);

	assert_true(json_is_object(json_object_get(body, "lun")));
	(void)snprintf(to, 128, "%s", text_at(body, key));
}

static void untouched_luns_are_called_as_their_image(void **state)
{
	char uuid[STORE_UUID_TEXT_BYTES], expected[128], text[128], again[128];
	struct server_unit_state *unit = &w.server->state;

	(void)state;
	store_uuid_format(&image_find(w.control, "base")->uuid, uuid);
	store_uuid_generate(&unit->incarnation);
	unit->size_bytes = 8 * MIB;
	unit->steady = true;
	unit->unit.store.untouched = true;
	unit->unit.store.reads = 77;
	(void)snprintf(expected, sizeof(expected), "image:%s:8388608", uuid);
	text_get(LUN0, "identity", text);
	assert_string_equal(text, expected);
	/* All fresh clones have the same, wherever they are. */
	clone_node("pi-02");
	store_uuid_generate(&unit->incarnation);
	text_get("/v1/nodes/pi-02/luns/0", "identity", text);
	assert_string_equal(text, expected);
	unit->size_bytes = 16 * MIB;
	text_get(LUN0, "identity", text);
	assert_string_not_equal(text, expected);
	/* A data disk stands on no image, nor does a flat node. */
	unit->size_bytes = MIB;
	text_get("/v1/nodes/pi-01/luns/1", "identity", text);
	assert_string_equal(text, "zeros:1048576");
	memset(&node_find(w.control, "pi-01")->image_uuid, 0, 16);
	text_get(LUN0, "identity", text);
	assert_string_equal(text, "zeros:1048576");
	/* Something is being written: nobody knows. */
	unit->steady = false;
	text_get(LUN0, "identity", text);
	text_get(LUN0, "identity", again);
	assert_int_equal(strncmp(text, "state:", 6), 0);
	assert_string_not_equal(text, again);
}

static void touched_luns_are_called_by_their_changes(void **state)
{
	struct server_unit_state *unit = &w.server->state;
	char first[128], text[128], generation[128];

	(void)state;
	store_uuid_generate(&unit->incarnation);
	unit->size_bytes = 8 * MIB;
	unit->steady = true;
	unit->changes = 5;
	text_get(LUN0, "identity", first);
	text_get(LUN0, "identity", text);
	assert_string_equal(text, first);
	text_get(LUN0, "generation", generation);
	assert_string_equal(generation, first);
	unit->changes = 6;
	text_get(LUN0, "identity", text);
	assert_string_not_equal(text, first);
	unit->changes = 5;
	store_uuid_generate(&unit->incarnation);
	text_get(LUN0, "identity", text);
	assert_string_not_equal(text, first);
	/* The generation goes on where the identity is the image's. */
	unit->unit.store.untouched = true;
	text_get(LUN0, "generation", generation);
	assert_string_equal(generation, text);
	text_get(LUN0, "identity", text);
	assert_int_equal(strncmp(text, "image:", 6), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(luns_are_read_at_any_offset),
		CASE(images_are_read_at_any_offset),
		CASE(what_makes_no_sense_is_refused),
		CASE(failures_are_told),
		CASE(memory_is_bounded),
		CASE(the_end_drops_those_that_wait),
		CASE(untouched_luns_are_called_as_their_image),
		CASE(touched_luns_are_called_by_their_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
