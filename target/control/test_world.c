/*
 * What this room's tests share; see test_world.h.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <event2/event.h>
#include <poll.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/fake.h"
#include "control/test_world.h"

struct world w;

int world_open(void)
{
	const struct control_config config = {
		.state_dir = w.state,
		.run_dir = w.run,
		.server = w.server,
		.mailbox = &w.mailbox,
		.base = w.base,
		.portals = {"127.0.0.1:3260", "10.1.2.3:3261"},
		.portal_count = 2,
		.trash_s = w.trash_s,
	};
	int r = control_new(&config, &w.control, &w.err);

	return r < 0 ? r : control_serve_all(w.control);
}

void world_close(void)
{
	mailbox_run(&w.mailbox);
	control_free(w.control);
	w.control = NULL;
	/* Jobs that were stopped have said so, to nobody. */
	mailbox_done(&w.mailbox);
	assert_int_equal(mailbox_init(&w.mailbox), 0);
}

void world_reopen(void)
{
	world_close();
	server_free(w.server);
	w.server = fake_server_new(&w.mailbox);
	if (world_open() != 0)
		print_error("%s\n", w.err.text);
	assert_non_null(w.control);
	mailbox_run(&w.mailbox);
}

void world_lose_catalogue(void)
{
	world_close();
	shell("rm state/catalog.db*");
	assert_int_equal(world_open(), 0);
}

int world_setup(void **state)
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
	fake_store_fails = "";
	w.trash_s = 0;
	return world_open();
}

int world_teardown(void **state)
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

void on_reply(struct api_request *request, int status, json_t *body)
{
	struct answer *a = CONTAINER_OF(request, struct answer, request);

	assert_int_equal(a->status, 0); /* once */
	a->status = status;
	a->body = body;
}

void on_reply_data(struct api_request *request, const void *data, size_t bytes,
		   void (*taken)(void *arg), void *arg)
{
	struct answer *a = CONTAINER_OF(request, struct answer, request);

	assert_int_equal(a->status, 0);
	a->status = 200;
	a->data = malloc(bytes);
	assert_non_null(a->data);
	memcpy(a->data, data, bytes);
	a->data_bytes = bytes;
	a->taken = taken;
	a->taken_arg = arg;
	if (!a->holds)
		taken(arg);
}

void on_drop(struct api_request *request)
{
	CONTAINER_OF(request, struct answer, request)->dropped = true;
}

void mailbox_wait_ms(int ms)
{
	struct pollfd fd = {.fd = w.mailbox.eventfd, .events = POLLIN};

	if (poll(&fd, 1, ms) > 0)
		mailbox_run(&w.mailbox);
}

void mailbox_wait(void)
{
	struct pollfd fd = {.fd = w.mailbox.eventfd, .events = POLLIN};

	assert_true(poll(&fd, 1, 20000) > 0);
	mailbox_run(&w.mailbox);
}

void call_begin(struct answer *a, enum api_method method, const char *path, const char *query,
		const char *body)
{
	struct api_call parsed;
	struct api_error err = {0};

	a->request = (struct api_request){on_reply, on_reply_data, on_drop};
	if (request_parse(method, path, query, body, body ? strlen(body) : 0, &parsed, &err) < 0) {
		api_reply_error(&a->request, &err);
	} else {
		api_handle(w.control, &parsed, &a->request);
		request_done(&parsed);
	}
}

/* The body stays valid until the next call. */
json_t *call(enum api_method method, const char *path, const char *query, const char *body,
	     int status)
{
	static json_t *last;
	struct answer a = {0};

	json_decref(last);
	last = NULL;
	call_begin(&a, method, path, query, body);
	while (a.status == 0)
		mailbox_wait();
	assert_non_null(a.body);
	if (a.status != status)
		print_error("%s %s: %s\n", path, body ? body : "", json_dumps(a.body, 0));
	assert_int_equal(a.status, status);
	last = a.body;
	return a.body;
}

const char *text_at(json_t *body, const char *key)
{
	const char *text = json_string_value(json_object_get(body, key));

	assert_non_null(text);
	return text;
}

void error_is(json_t *body, const char *code, const char *part)
{
	json_t *error = json_object_get(body, "error");

	assert_string_equal(text_at(error, "code"), code);
	if (!strstr(text_at(error, "message"), part))
		print_error("\"%s\" is not in: %s\n", part, text_at(error, "message"));
	assert_non_null(strstr(text_at(error, "message"), part));
	assert_true(strlen(text_at(error, "cure")) > 0);
}

/* Starts a job and waits for its end. */
json_t *job_at(const char *where, const char *body)
{
	json_t *answer = call(API_POST, where, NULL, body, 202);
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

json_t *job(const char *body)
{
	return job_at("/v1/images", body);
}

json_t *job_done(const char *body)
{
	json_t *answer = job(body);

	if (strcmp(text_at(answer, "state"), "done") != 0)
		print_error("%s\n", json_dumps(answer, 0));
	assert_string_equal(text_at(answer, "state"), "done");
	return json_object_get(json_object_get(answer, "result"), "image");
}

void job_fails(const char *body, const char *code, const char *part)
{
	json_t *answer = job(body);

	assert_string_equal(text_at(answer, "state"), "failed");
	error_is(answer, code, part);
}

void make_base(void)
{
	(void)job_done("{\"name\":\"base\",\"size_bytes\":8388608}");
}

void clone_node(const char *name)
{
	char body[128];

	(void)snprintf(body, sizeof(body), "{\"name\":\"%s\",\"base\":\"base\"}", name);
	(void)call(API_POST, "/v1/nodes", NULL, body, 201);
}

unsigned files_in(const char *sub)
{
	char path[160];
	unsigned count = 0;
	const struct dirent *entry;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "%s/%s", w.state, sub);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	(void)closedir(dir);
	return count;
}

void log_somebody_in(const char *name)
{
	w.server->session_count = 1;
	memcpy(w.server->session.target_uuid, fake_target_find(w.server, name)->conf->uuid, 16);
	(void)snprintf(w.server->session.initiator, sizeof(w.server->session.initiator), "iqn.who");
	(void)snprintf(w.server->session.address, sizeof(w.server->session.address), "10.9.8.7:1");
}

void sql(const char *text)
{
	char path[160], *why = NULL;
	sqlite3 *db;

	(void)snprintf(path, sizeof(path), "%s/catalog.db", w.state);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, text, NULL, NULL, &why) != SQLITE_OK)
		print_error("%s: %s\n", text, why);
	assert_null(why);
	(void)sqlite3_close(db);
}

void shell(const char *command)
{
	char full[1024];
	int r;

	(void)snprintf(full, sizeof(full), "cd %s && { %s; } >/dev/null 2>&1", w.dir, command);
	r = system(full);
	if (r != 0)
		print_error("%s\n", full);
	assert_int_equal(r, 0);
}

const char *import_body(const char *name, const char *file, const char *more)
{
	static char body[512];

	(void)snprintf(body, sizeof(body), "{\"name\":\"%s\",\"path\":\"%s/%s\"%s}", name, w.dir,
		       file, more);
	return body;
}
