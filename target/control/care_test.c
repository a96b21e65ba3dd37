/*
 * What keeps a server well, over a fake server and a fake store: the reserve, alarms, the trash,
 * check.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/fake.h"
#include "control/test_world.h"

#define MORE_THAN_THERE_IS (1ull << 60)

/* --- the reserve --- */

static void reserve_of_a_part(void **state)
{
	struct space space;

	(void)state;
	assert_int_equal(space_read(w.control, &space), 0);
	assert_int_equal(space.reserve_bytes, 0);
	assert_false(space_is_short(&space));
	w.control->reserve_percent = 10;
	assert_int_equal(space_read(w.control, &space), 0);
	assert_int_equal(space.reserve_bytes, space.total_bytes / 10);
	assert_true(space.free_bytes <= space.total_bytes);
	space = (struct space){.total_bytes = 100, .free_bytes = 10, .reserve_bytes = 10};
	assert_false(space_is_short(&space));
	space.free_bytes = 9;
	assert_true(space_is_short(&space));
}

static void reserve_refuses_what_is_new(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	clone_node("pi-01");
	shell("rm -f noise; head -c 3M /dev/urandom >noise");
	w.control->reserve_bytes = MORE_THAN_THERE_IS;
	answer = call(API_POST, "/v1/nodes", NULL, "{\"name\":\"pi-02\",\"base\":\"base\"}", 507);
	error_is(answer, "no_space", "node pi-02 can't be made");
	error_is(answer, "no_space", "1024.0 PiB are reserved");
	error_is(answer, "no_space", w.state);
	assert_non_null(strstr(text_at(json_object_get(answer, "error"), "cure"), "--reserve"));
	error_is(call(API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"size_bytes\":1048576}", 507),
		 "no_space", "image a can't be made");
	error_is(call(API_POST, "/v1/images", NULL, import_body("a", "noise", ""), 507), "no_space",
		 "image a can't be made");
	assert_int_equal(files_in("layers"), 1);
	assert_int_equal(files_in("images"), 2);
	error_is(call(API_POST, "/v1/nodes/pi-01/promote", NULL, "{\"image\":\"b\"}", 507),
		 "no_space", "image b can't be made");
	error_is(call(API_POST, "/v1/nodes/pi-01/flatten", NULL, NULL, 507), "no_space",
		 "the flat layer of pi-01 can't be made");
	assert_int_equal(node_find(w.control, "pi-01")->luns[0].layer_count, 1);
	/* What is there can be renamed and goes on. */
	(void)call(API_POST, "/v1/nodes/pi-01/rename", NULL, "{\"name\":\"x\"}", 200);
	world_reopen();
	w.control->reserve_bytes = 0;
	clone_node("pi-02");
}

/* Each runs in the worker, where the job finds itself short. */
static void shrink_at_begin(const char *step)
{
	if (strcmp(step, "import-file-made") == 0)
		w.control->reserve_bytes = MORE_THAN_THERE_IS;
}

static void import_stops_in_the_middle(void **state)
{
	static const char *const files[] = {"noise", "noise.gz"};

	(void)state;
	shell("rm -f noise*; head -c 3M /dev/urandom >noise; gzip -k noise");
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		control_step_hook = shrink_at_begin;
		job_fails(import_body("a", files[i], ",\"force\":true"), "no_space",
			  "image a can't be made");
		control_step_hook = NULL;
		assert_int_equal(files_in("images"), 0);
		w.control->reserve_bytes = 0;
	}
	control_step_hook = shrink_at_begin;
	job_fails("{\"name\":\"a\",\"size_bytes\":4194304,\"ext4\":true}", "no_space",
		  "image a can't be made");
	control_step_hook = NULL;
	assert_int_equal(files_in("images"), 0);
	w.control->reserve_bytes = 0;
	(void)job_done(import_body("a", "noise", ",\"force\":true"));
}

/* A worker that is busy with one long call is told by the watch. */
static atomic_bool step_go;

static void wait_at_step(const char *step)
{
	while (strcmp(step, "import-filled") == 0 && !atomic_load(&step_go))
		usleep(1000);
}

static void watch_stops_jobs(void **state)
{
	json_t *answer;
	char path[32];

	(void)state;
	atomic_store(&step_go, false);
	control_step_hook = wait_at_step;
	answer = call(API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"size_bytes\":1048576}", 202);
	(void)snprintf(path, sizeof(path), "/v1/jobs/%s",
		       text_at(json_object_get(answer, "job"), "id"));
	space_watch(w.control); /* there is enough: nothing happens */
	assert_false(atomic_load(&LIST_ENTRY(w.control->jobs.prev, struct job, node)->cancelled));
	w.control->reserve_bytes = MORE_THAN_THERE_IS;
	space_watch(w.control);
	assert_true(w.control->space_short);
	atomic_store(&step_go, true);
	do {
		mailbox_wait();
		answer = call(API_GET, path, NULL, NULL, 200);
	} while (strcmp(text_at(answer, "state"), "running") == 0);
	control_step_hook = NULL;
	error_is(answer, "no_space", "image a was stopped: less than the reserve");
	assert_int_equal(files_in("images"), 0);
	w.control->reserve_bytes = 0;
	space_watch(w.control);
	assert_false(w.control->space_short);
}

/* --- what the file system and the files are like --- */

static void sizes_that_no_file_can_have(void **state)
{
	struct rlimit before, limit;
	json_t *answer;

	(void)state;
	make_base();
	clone_node("pi-01");
	fake_store_fails = "large";
	for (int i = 0; i < 2; i++) {
		answer = i == 0 ? call(API_POST, "/v1/nodes/pi-01/resize", NULL,
				       "{\"size_bytes\":70368744177664}", 400)
				: call(API_POST, "/v1/nodes", NULL,
				       "{\"name\":\"pi-02\",\"base\":\"base\","
				       "\"size_bytes\":70368744177664}",
				       400);
		error_is(answer, "invalid", "takes no files of that size");
		assert_string_equal(text_at(json_object_get(answer, "error"), "cure"),
				    "choose a smaller size");
	}
	fake_store_fails = "";
	assert_int_equal(files_in("layers"), 1);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 4 << 20;
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	job_fails("{\"name\":\"a\",\"size_bytes\":8388608}", "invalid",
		  "takes no files of that size");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(files_in("images"), 2);
}

static void image_that_was_changed_is_not_cloned(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	fake_store_fails = "changed";
	answer = call(API_POST, "/v1/nodes", NULL, "{\"name\":\"pi-01\",\"base\":\"base\"}", 409);
	fake_store_fails = "";
	error_is(answer, "damaged", "the image was changed");
	answer = json_object_get(answer, "error");
	assert_null(strstr(text_at(answer, "message"), "tale")); /* errno's words */
	assert_non_null(
		strstr(text_at(answer, "cure"), "import the image anew under another name"));
	assert_int_equal(files_in("layers"), 0);
}

/* --- alarms --- */

static json_t *only_alarm(json_t *answer, const char *code, const char *part)
{
	json_t *alarms = json_object_get(answer, "alarms"), *alarm = json_array_get(alarms, 0);

	assert_int_equal(json_array_size(alarms), 1);
	assert_string_equal(text_at(alarm, "code"), code);
	if (!strstr(text_at(alarm, "message"), part))
		print_error("\"%s\" is not in: %s\n", part, text_at(alarm, "message"));
	assert_non_null(strstr(text_at(alarm, "message"), part));
	return alarm;
}

static void alarms_are_told(void **state)
{
	static const char *const paths[] = {"/v1/health", "/v1/stats"};
	struct server_unit_info *unit = &w.server->unit;

	(void)state;
	make_base();
	clone_node("pi-01");
	memcpy(unit->target_uuid, fake_target_find(w.server, "pi-01")->conf->uuid, 16);
	w.server->unit_count = 1;
	for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
		json_t *answer = call(API_GET, paths[i], NULL, NULL, 200), *space;

		assert_int_equal(json_array_size(json_object_get(answer, "alarms")), 0);
		space = json_object_get(answer, "space");
		assert_true(json_is_false(json_object_get(space, "below_reserve")));
		assert_true(json_integer_value(json_object_get(space, "free_bytes")) > 0);
		w.control->reserve_bytes = MORE_THAN_THERE_IS;
		answer = call(API_GET, paths[i], NULL, NULL, 200);
		(void)only_alarm(answer, "reserve", "less than the reserve of 1024.0 PiB");
		space = json_object_get(answer, "space");
		assert_true(json_is_true(json_object_get(space, "below_reserve")));
		w.control->reserve_bytes = 0;
		unit->store.no_space = true;
		log_somebody_in("pi-01");
		answer = call(API_GET, paths[i], NULL, NULL, 200);
		(void)only_alarm(answer, "no_space", "the writes of pi-01 to LUN 0 wait");
		/* Who waited has gone, and there is space: the disk does not know yet. */
		w.server->session_count = 0;
		answer = call(API_GET, paths[i], NULL, NULL, 200);
		assert_int_equal(json_array_size(json_object_get(answer, "alarms")), 0);
		answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
		assert_true(json_is_false(json_object_get(
			json_array_get(json_object_get(answer, "luns"), 0), "no_space")));
		unit->store.no_space = false;
		unit->store.failed = true;
		answer = call(API_GET, paths[i], NULL, NULL, 200);
		(void)only_alarm(answer, "failed", "LUN 0 of pi-01 has failed");
		unit->store.failed = false;
	}
}

static void damaged_node_is_an_alarm(void **state)
{
	char path[PATH_BYTES];

	(void)state;
	make_base();
	clone_node("bad");
	layer_path(w.control, "", &node_find(w.control, "bad")->luns[0].layers[0].uuid, path);
	assert_int_equal(unlink(path), 0);
	world_reopen();
	(void)only_alarm(call(API_GET, "/v1/health", NULL, NULL, 200), "damaged", path);
}

/* What is written to a file that is gone can be read until it is closed. */
static void files_that_are_gone_are_an_alarm(void **state)
{
	static const char *const refused[][2] = {
		{"/v1/nodes/pi-01/snapshots", "{\"name\":\"s\"}"},
		{"/v1/nodes/pi-01/export", "{}"},
		{"/v1/nodes/pi-01/promote", "{\"image\":\"gold\"}"},
		{"/v1/nodes/pi-01/resize", "{\"size_bytes\":16777216}"},
		{"/v1/nodes/pi-01/reset", "{\"force\":true}"},
		{"/v1/nodes/pi-01/rename", "{\"name\":\"pi-02\"}"},
	};
	static const char *const gone[] = {"mv $top .", "mv $top . && cp *.cow $top",
					   "mv state/images/base.img .", "mv state moved"};
	static const char *const back[] = {"mv *.cow $top", "mv *.cow $top",
					   "mv base.img state/images", "mv moved state"};
	char path[PATH_BYTES], command[PATH_BYTES + 128];
	json_t *error;

	(void)state;
	make_base();
	clone_node("pi-01");
	layer_path(w.control, "", &node_find(w.control, "pi-01")->luns[0].layers[0].uuid, path);
	gone_watch(w.control);
	assert_int_equal(json_array_size(json_object_get(
				 call(API_GET, "/v1/health", NULL, NULL, 200), "alarms")),
			 0);
	for (unsigned i = 0; i < 4; i++) {
		(void)snprintf(command, sizeof(command), "top=%s; %s", path, gone[i]);
		shell(command);
		for (unsigned k = 0; k < ARRAY_COUNT(refused); k++) {
			json_t *answer = call(API_POST, refused[k][0], NULL, refused[k][1], 409);

			error_is(answer, "damaged", "as long as lunrootd runs");
			error = json_object_get(answer, "error");
			assert_non_null(strstr(text_at(error, "cure"), "qemu-img convert"));
		}
		gone_watch(w.control);
		(void)only_alarm(call(API_GET, "/v1/health", NULL, NULL, 200), "gone",
				 i >= 2 ? "base.img" : path);
		assert_non_null(fake_target_find(w.server, "pi-01"));
		(void)snprintf(command, sizeof(command), "top=%s; %s", path, back[i]);
		shell(command);
		gone_watch(w.control);
		assert_int_equal(json_array_size(json_object_get(
					 call(API_GET, "/v1/health", NULL, NULL, 200), "alarms")),
				 0);
	}
	(void)call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"s\"}", 201);
	/* The snapshot is whole without the top. */
	layer_path(w.control, "", &node_find(w.control, "pi-01")->luns[0].layers[1].uuid, path);
	assert_int_equal(unlink(path), 0);
	error_is(call(API_POST, "/v1/nodes/pi-01/export", NULL, "{}", 409), "damaged", path);
	(void)call(API_POST, "/v1/nodes/pi-01/promote", NULL,
		   "{\"image\":\"gold\",\"snapshot\":\"s\"}", 202);
	layer_path(w.control, "", &node_find(w.control, "pi-01")->luns[0].layers[0].uuid, path);
	while (node_find(w.control, "pi-01")->job)
		mailbox_wait();
	assert_int_equal(unlink(path), 0);
	error_is(call(API_POST, "/v1/nodes/pi-01/export", NULL, "{\"snapshot\":\"s\"}", 409),
		 "damaged", path);
	world_reopen();
	gone_watch(w.control);
	(void)only_alarm(call(API_GET, "/v1/health", NULL, NULL, 200), "damaged", path);
}

/* --- the trash --- */

#define DAY_S 86400

/* A second world: one that keeps what was removed. */
static int setup_keeping(void **state)
{
	int r = world_setup(state);

	w.trash_s = w.control->trash_s = 7 * DAY_S;
	return r;
}

static json_t *trash_item(const char *name)
{
	json_t *items = json_object_get(call(API_GET, "/v1/trash", NULL, NULL, 200), "trash");
	json_t *found = NULL;

	for (size_t i = 0; i < json_array_size(items); i++) {
		json_t *item = json_array_get(items, i);

		if (strcmp(text_at(item, "name"), name) == 0)
			found = item;
	}
	return found;
}

static unsigned trash_count(void)
{
	return (unsigned)json_array_size(
		json_object_get(call(API_GET, "/v1/trash", NULL, NULL, 200), "trash"));
}

static json_t *remove_kept(const char *path)
{
	json_t *answer = call(API_DELETE, path, NULL, NULL, 200);

	assert_true(json_is_object(json_object_get(answer, "kept")));
	assert_int_equal(json_integer_value(json_object_get(answer, "frees_bytes")), 0);
	return answer;
}

/* "" : the name it had. */
static json_t *undo(const char *name, const char *new_name, int status)
{
	json_t *item = trash_item(name);
	char path[96], body[96];

	assert_non_null(item);
	(void)snprintf(path, sizeof(path), "/v1/trash/%s/undo", text_at(item, "id"));
	(void)snprintf(body, sizeof(body), new_name[0] ? "{\"name\":\"%s\"}" : "{}", new_name);
	return call(API_POST, path, NULL, body, status);
}

static json_t *purge(const char *name, const char *query, int status)
{
	json_t *item = trash_item(name);
	char path[96];

	assert_non_null(item);
	(void)snprintf(path, sizeof(path), "/v1/trash/%s", text_at(item, "id"));
	return call(API_DELETE, path, query, NULL, status);
}

static unsigned files_like(const char *pattern)
{
	char command[256];
	unsigned count = 0;
	FILE *pipe;

	(void)snprintf(command, sizeof(command), "ls -A %s/images %s/layers | grep -Ec '%s'",
		       w.state, w.state, pattern);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_int_equal(fscanf(pipe, "%u", &count), 1);
	(void)pclose(pipe);
	return count;
}

static void removed_node_comes_back(void **state)
{
	char secret[64], uuid[64];
	json_t *answer;

	(void)state;
	make_base();
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}", 201);
	answer = call(API_GET, "/v1/nodes/pi-01", "secrets=1", NULL, 200);
	(void)snprintf(secret, sizeof(secret), "%s",
		       text_at(json_object_get(answer, "credentials"), "secret"));
	(void)snprintf(uuid, sizeof(uuid), "%s", text_at(answer, "uuid"));
	answer = call(API_DELETE, "/v1/nodes/pi-01", "dry_run=1", NULL, 200);
	assert_true(json_is_object(json_object_get(answer, "kept")));
	assert_int_equal(trash_count(), 0);
	answer = remove_kept("/v1/nodes/pi-01");
	assert_int_equal(json_array_size(json_object_get(answer, "removed")), 1);
	assert_null(fake_target_find(w.server, "pi-01"));
	(void)call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 404);
	answer = trash_item("pi-01");
	assert_string_equal(text_at(answer, "id"), uuid);
	assert_string_equal(text_at(answer, "kind"), "node");
	assert_in_range(json_integer_value(json_object_get(answer, "left_s")), 7 * DAY_S - 60,
			7 * DAY_S);
	assert_int_equal(json_integer_value(json_object_get(answer, "size_bytes")), 9 << 20);
	assert_true(json_integer_value(json_object_get(answer, "used_bytes")) > 0);
	assert_int_equal(files_like("^[.]trash-"), 2);
	answer = call(API_GET, "/v1/health", NULL, NULL, 200);
	assert_true(json_integer_value(
			    json_object_get(json_object_get(answer, "space"), "trash_bytes")) > 0);
	/* Its name is free. */
	clone_node("pi-01");
	error_is(undo("pi-01", "", 409), "exists", "there is a node pi-01 now");
	world_reopen();
	answer = json_object_get(undo("pi-01", "pi-old", 200), "node");
	assert_string_equal(text_at(answer, "uuid"), uuid);
	assert_string_equal(text_at(answer, "state"), "ready");
	assert_string_equal(text_at(answer, "hostname"), "pi-old");
	assert_int_equal(trash_count(), 0);
	assert_int_equal(files_like("^[.]"), 0);
	for (int again = 0; again < 2; again++) {
		assert_non_null(fake_target_find(w.server, "pi-old"));
		assert_non_null(fake_target_find(w.server, "pi-01"));
		answer = call(API_GET, "/v1/nodes/pi-old", "secrets=1", NULL, 200);
		answer = json_object_get(answer, "credentials");
		assert_string_equal(text_at(answer, "secret"), secret);
		assert_string_equal(text_at(answer, "user"), "pi-old");
		world_reopen();
	}
	error_is(call(API_POST, "/v1/trash/pi-old/undo", NULL, "{}", 404), "not_found", "pi-old");
}

static void removed_image_comes_back(void **state)
{
	(void)state;
	make_base();
	clone_node("pi-01");
	error_is(call(API_DELETE, "/v1/images/base", NULL, NULL, 409), "in_use", "pi-01");
	(void)remove_kept("/v1/nodes/pi-01");
	/* What lies in the trash needs it. */
	error_is(call(API_DELETE, "/v1/images/base", "now=1", NULL, 409), "in_use",
		 "1 node in the trash");
	(void)remove_kept("/v1/images/base");
	assert_int_equal(files_like("^[.]trash-base[.][-0-9a-f]{36}[.]img([.]json)?$"), 2);
	make_base();
	(void)remove_kept("/v1/images/base"); /* two of one name */
	assert_int_equal(trash_count(), 3);
	error_is(undo("pi-01", "", 409), "in_use", "the image that node pi-01 stands on, base, is");
	world_reopen();
	make_base();
	error_is(undo("base", "", 409), "exists", "there is an image base now");
	(void)undo("base", "newer", 200);
	(void)undo("base", "older", 200);
	assert_string_equal(text_at(json_object_get(undo("pi-01", "", 200), "node"), "base"),
			    "older");
	world_reopen();
	assert_string_equal(text_at(call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200), "state"),
			    "ready");
	(void)call(API_GET, "/v1/images/newer", NULL, NULL, 200);
	assert_int_equal(files_like("^[.]"), 0);
	assert_int_equal(files_in("images"), 6);
}

static void trash_goes_for_good(void **state)
{
	json_t *answer;

	(void)state;
	make_base();
	clone_node("pi-01");
	clone_node("pi-02");
	(void)call(API_DELETE, "/v1/nodes/pi-02", "now=1", NULL, 200);
	assert_int_equal(files_in("layers"), 1);
	assert_int_equal(trash_count(), 0);
	(void)remove_kept("/v1/nodes/pi-01");
	(void)remove_kept("/v1/images/base");
	error_is(purge("base", NULL, 409), "in_use", "1 node in the trash");
	answer = purge("pi-01", "dry_run=1", 200);
	assert_true(json_integer_value(json_object_get(answer, "frees_bytes")) > 0);
	assert_int_equal(json_array_size(json_object_get(answer, "removed")), 2);
	assert_int_equal(files_in("layers"), 1);
	(void)purge("pi-01", NULL, 200);
	assert_int_equal(files_in("layers"), 0);
	(void)purge("base", NULL, 200);
	assert_int_equal(files_in("images"), 0);
	world_reopen();
	assert_int_equal(trash_count(), 0);
}

static void trash_has_its_time(void **state)
{
	char text[128];

	(void)state;
	make_base();
	clone_node("pi-01");
	clone_node("pi-02");
	(void)remove_kept("/v1/nodes/pi-01");
	(void)remove_kept("/v1/nodes/pi-02");
	(void)remove_kept("/v1/images/base");
	trash_look(w.control);
	assert_int_equal(trash_count(), 3);
	/* Its time is over, but somebody needs it. */
	LIST_ENTRY(w.control->trash.prev, struct trash, entry)->image->removed -= 8 * DAY_S;
	trash_look(w.control);
	assert_int_equal(trash_count(), 3);
	world_close();
	(void)snprintf(text, sizeof(text),
		       "UPDATE trash SET removed=removed-%d WHERE name<>'pi-02'", 7 * DAY_S + 1);
	sql(text);
	assert_int_equal(world_open(), 0);
	assert_null(trash_item("pi-01"));
	assert_non_null(trash_item("base")); /* pi-02 is there */
	assert_int_equal(files_in("layers"), 1);
	world_close();
	sql("UPDATE trash SET removed=removed-900000 WHERE name='pi-02'");
	assert_int_equal(world_open(), 0);
	assert_int_equal(trash_count(), 0);
	assert_int_equal(files_in("layers") + files_in("images"), 0);
}

/* What was removed when the clock was ahead has its time from now on; with a clock that fell behind
 * nothing goes early. */
static void trash_and_wrong_clocks(void **state)
{
	json_t *item;

	(void)state;
	make_base();
	clone_node("pi-01");
	(void)remove_kept("/v1/nodes/pi-01");
	LIST_ENTRY(w.control->trash.next, struct trash, entry)->node->removed += 1000 * DAY_S;
	trash_look(w.control);
	item = trash_item("pi-01");
	assert_in_range(json_integer_value(json_object_get(item, "left_s")), 7 * DAY_S - 60,
			7 * DAY_S);
}

static void trash_makes_room(void **state)
{
	(void)state;
	make_base();
	clone_node("pi-01");
	clone_node("pi-02");
	(void)remove_kept("/v1/nodes/pi-02");
	(void)remove_kept("/v1/nodes/pi-01");
	(void)remove_kept("/v1/images/base");
	/* The image is the oldest by its date, but it is needed. */
	LIST_ENTRY(w.control->trash.prev, struct trash, entry)->image->removed -= DAY_S;
	world_reopen();
	w.control->reserve_bytes = MORE_THAN_THERE_IS;
	for (int i = 0; i < 3 && trash_count() > 0; i++) {
		assert_non_null(trash_item("base"));
		trash_look(w.control);
	}
	trash_look(w.control);
	assert_int_equal(trash_count(), 0);
	assert_int_equal(files_in("layers") + files_in("images"), 0);
}

static void trash_is_bounded(void **state)
{
	(void)state;
	make_base();
	clone_node("pi-01");
	world_close();
	sql("WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n WHERE x < 1023)"
	    " INSERT INTO images SELECT printf('%08d-0000-4000-8000-000000000000', x),"
	    " printf('.%d', x), NULL, 1048576, '', 1 FROM n;"
	    "INSERT INTO trash SELECT uuid, 'old', strftime('%s', 'now') - 1000 + substr(uuid, 1, "
	    "8)"
	    " FROM images WHERE uuid LIKE '%-0000-4000-8000-000000000000'");
	assert_int_equal(world_open(), 0);
	assert_int_equal(trash_count(), LIMIT_TRASH);
	assert_string_equal(text_at(trash_item("old"), "id"),
			    "00001023-0000-4000-8000-000000000000");
	(void)remove_kept("/v1/nodes/pi-01");
	assert_int_equal(trash_count(), LIMIT_TRASH);
	assert_non_null(trash_item("pi-01"));
	(void)call(API_DELETE, "/v1/trash/00000000-0000-4000-8000-000000000000", NULL, NULL, 404);
	(void)call(API_DELETE, "/v1/trash/00000001-0000-4000-8000-000000000000", NULL, NULL, 200);
}

/* A power loss took renames back that came after the transaction. */
static void files_follow_the_catalogue(void **state)
{
	(void)state;
	make_base();
	clone_node("pi-01");
	world_close();
	shell("cd state/layers && for f in *.cow; do mv $f .trash-$f; done; cd ../images && "
	      "mv base.img .trash-base.$(cut -c 1-36 base.img.json | head -n 1).img");
	assert_int_equal(world_open(), 0);
	assert_int_equal(files_like("^[.]"), 0);
	assert_string_equal(text_at(call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200), "state"),
			    "ready");
	/* The file is another's by now. */
	(void)remove_kept("/v1/nodes/pi-01");
	(void)remove_kept("/v1/images/base");
	make_base();
	world_close();
	shell("rm state/images/.trash-base.*");
	assert_int_equal(world_open(), 0);
	assert_int_equal(files_like("^base[.]img"), 2);
	assert_int_equal(files_like("^[.]trash-base"), 0);
	/* The sidecar of one that was lost makes place, too. */
	shell("rm state/images/base.img");
	(void)remove_kept("/v1/images/base");
	assert_int_equal(files_like("^base[.]img"), 0);
	make_base();
}

static void strange_trash_is_left_alone(void **state)
{
	(void)state;
	shell("cd state && touch images/.trash-x.img images/.trash-x.y.img layers/.trash-notes "
	      "images/.trash-x.01234567-89ab-cdef-0123-456789abcdef.img "
	      "layers/.trash-01234567-89ab-cdef-0123-456789abcdef.cow");
	world_reopen();
	world_reopen();
	assert_int_equal(files_like("^[.]trash-"), 5);
	world_lose_catalogue();
	assert_int_equal(files_like("^[.]trash-"), 5);
	assert_int_equal(trash_count(), 0);
}

static void lost_catalogue_keeps_trash_apart(void **state)
{
	char uuid[64];

	(void)state;
	make_base();
	clone_node("pi-01");
	(void)snprintf(uuid, sizeof(uuid), "%s",
		       text_at(call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200), "uuid"));
	(void)remove_kept("/v1/nodes/pi-01");
	clone_node("pi-01");
	(void)job_done("{\"name\":\"spare\",\"size_bytes\":1048576}");
	(void)remove_kept("/v1/images/spare");
	(void)job_done("{\"name\":\"spare\",\"size_bytes\":2097152}");
	world_lose_catalogue();
	for (int again = 0; again < 2; again++) {
		json_t *nodes;

		nodes = json_object_get(call(API_GET, "/v1/nodes", NULL, NULL, 200), "nodes");
		assert_int_equal(json_array_size(nodes), 1);
		assert_string_not_equal(text_at(json_array_get(nodes, 0), "uuid"), uuid);
		assert_int_equal(trash_count(), 2);
		assert_string_equal(text_at(trash_item("pi-01"), "id"), uuid);
		assert_int_equal(
			json_integer_value(json_object_get(trash_item("spare"), "size_bytes")),
			1 << 20);
		world_reopen();
	}
	(void)undo("spare", "old-spare", 200);
	(void)undo("pi-01", "pi-old", 200);
	assert_string_equal(text_at(call(API_GET, "/v1/nodes/pi-old", NULL, NULL, 200), "state"),
			    "ready");
}

static void damaged_node_comes_back_damaged(void **state)
{
	char path[PATH_BYTES];
	json_t *node;

	(void)state;
	make_base();
	clone_node("bad");
	layer_path(w.control, "", &node_find(w.control, "bad")->luns[0].layers[0].uuid, path);
	assert_int_equal(unlink(path), 0);
	world_reopen();
	(void)remove_kept("/v1/nodes/bad");
	node = json_object_get(undo("bad", "", 200), "node");
	assert_string_equal(text_at(node, "state"), "damaged");
	assert_non_null(strstr(text_at(node, "message"), path));
}

/* --- check --- */

/* The result, which stays valid until the next call. */
static json_t *check(const char *body)
{
	json_t *answer = job_at("/v1/check", body);

	if (strcmp(text_at(answer, "state"), "done") != 0)
		print_error("%s\n", json_dumps(answer, 0));
	assert_string_equal(text_at(answer, "state"), "done");
	return json_object_get(answer, "result");
}

static void counts_are(json_t *result, int notes, int mended, int mendable, int lost)
{
	static const char *const names[] = {"notes", "mended", "mendable", "lost"};
	const int wanted[] = {notes, mended, mendable, lost};

	for (unsigned i = 0; i < 4; i++) {
		if (json_integer_value(json_object_get(result, names[i])) != wanted[i])
			print_error("%s: %s\n", names[i], json_dumps(result, 0));
		assert_int_equal(json_integer_value(json_object_get(result, names[i])), wanted[i]);
	}
	assert_int_equal(json_is_true(json_object_get(result, "clean")),
			 mended + mendable + lost == 0);
	assert_int_equal(json_array_size(json_object_get(result, "findings")),
			 notes + mended + mendable + lost);
}

/* Finding number `i` is of this and says that. */
static void finding_is(json_t *result, unsigned i, const char *name, const char *part)
{
	json_t *finding = json_array_get(json_object_get(result, "findings"), i);

	assert_string_equal(text_at(finding, "name"), name);
	if (!strstr(text_at(finding, "message"), part))
		print_error("\"%s\" is not in: %s\n", part, text_at(finding, "message"));
	assert_non_null(strstr(text_at(finding, "message"), part));
}

static void damage(const char *name, unsigned lun, unsigned layer, const char *word)
{
	char command[PATH_BYTES + 64], path[PATH_BYTES];

	layer_path(w.control, "", &node_find(w.control, name)->luns[lun].layers[layer].uuid, path);
	(void)snprintf(command, sizeof(command), "echo %s >>%s", word, path);
	shell(command);
}

static void make_three(void)
{
	make_base();
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}", 201);
	clone_node("pi-02");
	clone_node("pi-03");
	(void)call(API_POST, "/v1/nodes/pi-02/snapshots", NULL, "{\"name\":\"s\"}", 201);
}

static void check_of_whole_files(void **state)
{
	json_t *result;

	(void)state;
	counts_are(check("{}"), 0, 0, 0, 0);
	make_three();
	result = check("{}");
	counts_are(result, 0, 0, 0, 0);
	assert_int_equal(json_integer_value(json_object_get(result, "files")), 6);
	result = check("{\"node\":\"pi-02\"}");
	assert_int_equal(json_integer_value(json_object_get(result, "files")), 2);
	result = check("{\"image\":\"base\",\"repair\":true}");
	assert_int_equal(json_integer_value(json_object_get(result, "files")), 1);
	counts_are(check("{\"repair\":true}"), 0, 0, 0, 0);
	assert_non_null(fake_target_find(w.server, "pi-01"));
	error_is(call(API_POST, "/v1/check", NULL, "{\"node\":\"x\"}", 404), "not_found", "x");
	error_is(call(API_POST, "/v1/check", NULL, "{\"image\":\"x\"}", 404), "not_found", "x");
	error_is(call(API_POST, "/v1/check", NULL, "{\"node\":\"pi-01\",\"image\":\"base\"}", 400),
		 "invalid", "one of these");
}

static void check_finds_and_mends(void **state)
{
	json_t *result;

	(void)state;
	make_three();
	damage("pi-01", 1, 0, "MENDABLE");
	damage("pi-02", 0, 1, "LOST");
	result = check("{}");
	counts_are(result, 0, 0, 1, 1);
	finding_is(result, 0, "pi-01", "can be mended");
	finding_is(result, 1, "pi-02", "lost");
	assert_non_null(
		strstr(text_at(json_array_get(json_object_get(result, "findings"), 0), "cure"),
		       "lunctl check pi-01 --repair"));
	counts_are(check("{\"node\":\"pi-03\"}"), 0, 0, 0, 0);
	/* Somebody is logged in: looked at, not mended, and not taken away. */
	log_somebody_in("pi-01");
	result = check("{\"node\":\"pi-01\",\"repair\":true}");
	counts_are(result, 1, 0, 1, 0);
	finding_is(result, 0, "pi-01", "in use");
	/* Nor are its sealed layers, although nobody writes to them. */
	damage("pi-02", 0, 0, "MENDABLE");
	log_somebody_in("pi-02");
	counts_are(check("{\"node\":\"pi-02\",\"repair\":true}"), 1, 0, 1, 1);
	w.server->session_count = 0;
	counts_are(check("{\"node\":\"pi-02\",\"repair\":true}"), 0, 1, 0, 1);
	log_somebody_in("pi-01");
	/* Somebody logs in just then. */
	w.server->session_count = 0;
	w.server->remove_fails = -EBUSY;
	counts_are(check("{\"node\":\"pi-01\",\"repair\":true}"), 1, 0, 1, 0);
	w.server->remove_fails = 0;
	assert_false(node_find(w.control, "pi-01")->busy);
	result = check("{\"repair\":true}");
	counts_are(result, 0, 1, 0, 1);
	finding_is(result, 0, "pi-01", "is mended");
	counts_are(check("{\"node\":\"pi-01\"}"), 0, 0, 0, 0);
	for (unsigned i = 0; i < w.control->node_count; i++) {
		const struct node *node = w.control->nodes[i];

		assert_true(node->served && !node->busy && !node->job && !node->damaged);
		assert_non_null(fake_target_find(w.server, node->name));
	}
	/* One that can't go on after that says so. */
	damage("pi-03", 0, 0, "MENDABLE");
	w.server->add_fails = -EIO;
	counts_are(check("{\"node\":\"pi-03\",\"repair\":true}"), 0, 1, 0, 0);
	w.server->add_fails = 0;
	assert_true(node_find(w.control, "pi-03")->damaged);
	/* And one that could not go on before goes on. */
	result = check("{\"node\":\"pi-03\",\"repair\":true}");
	counts_are(result, 0, 1, 0, 0);
	finding_is(result, 0, "pi-03", "is served again");
	assert_non_null(fake_target_find(w.server, "pi-03"));
	assert_false(node_find(w.control, "pi-03")->damaged);
}

static void check_tells_who_is_not_served(void **state)
{
	json_t *result;

	(void)state;
	make_three();
	shell("mv state/images/base.img .");
	world_reopen();
	/* What keeps them is found, too. */
	counts_are(check("{}"), 0, 0, 3, 1);
	result = check("{\"node\":\"pi-02\",\"repair\":true}");
	counts_are(result, 0, 0, 0, 1);
	finding_is(result, 0, "pi-02", "can't be served: ");
	shell("mv base.img state/images");
	result = check("{}");
	counts_are(result, 0, 0, 3, 0);
	finding_is(result, 0, "pi-01", "node pi-01 is not served (");
	finding_is(result, 0, "pi-01", "start lunrootd again");
	/* What is wrong with its files says it already. */
	damage("pi-03", 0, 0, "LOST");
	counts_are(check("{\"node\":\"pi-03\"}"), 0, 0, 0, 1);
	counts_are(check("{\"node\":\"pi-02\",\"repair\":true}"), 0, 1, 0, 0);
	assert_non_null(fake_target_find(w.server, "pi-02"));
	counts_are(check("{\"node\":\"pi-02\"}"), 0, 0, 0, 0);
	world_reopen();
	counts_are(check("{\"node\":\"pi-01\"}"), 0, 0, 0, 0);
}

static void check_keeps_what_is_in_files_that_are_gone(void **state)
{
	char path[PATH_BYTES];
	json_t *result;

	(void)state;
	make_three();
	layer_path(w.control, "", &node_find(w.control, "pi-01")->luns[1].layers[0].uuid, path);
	assert_int_equal(unlink(path), 0);
	for (int repair = 0; repair < 2; repair++) {
		result = check(repair ? "{\"repair\":true}" : "{}");
		counts_are(result, 0, 0, 0, 1);
		finding_is(result, 0, "pi-01", "is missing");
		finding_is(result, 0, "pi-01",
			   "qemu-img convert -f raw \"$(lunctl url pi-01 1)\" FILE");
		assert_non_null(fake_target_find(w.server, "pi-01"));
	}
	shell("mv state/images/base.img .");
	result = check("{\"image\":\"base\"}");
	counts_are(result, 0, 0, 0, 1);
	finding_is(result, 0, "base", "node pi-01 is served from it");
	shell("mv base.img state/images");
	/* Nobody has it open any more. */
	world_reopen();
	finding_is(check("{\"node\":\"pi-01\"}"), 0, "pi-01", "restore it from a backup");
}

static void check_of_relations(void **state)
{
	char command[3 * PATH_BYTES], path[PATH_BYTES], other[PATH_BYTES];
	struct node *one, *two;
	json_t *result;

	(void)state;
	make_three();
	one = node_find(w.control, "pi-01");
	two = node_find(w.control, "pi-02");
	/* Missing, and another file in its place. */
	layer_path(w.control, "", &one->luns[1].layers[0].uuid, path);
	assert_int_equal(unlink(path), 0);
	layer_path(w.control, "", &two->luns[0].layers[0].uuid, other);
	layer_path(w.control, "", &one->luns[0].layers[0].uuid, path);
	(void)snprintf(command, sizeof(command), "cp %s %s.bak; cp %s %s", other, other, path,
		       other);
	shell(command);
	result = check("{}");
	counts_are(result, 1, 0, 0, 4);
	finding_is(result, 0, "", "is in no catalogue");
	finding_is(result, 1, "pi-01", "is missing");
	finding_is(result, 2, "pi-02", "another layer than its name says");
	finding_is(result, 3, "pi-02", "is not sealed, but others stand on it");
	finding_is(result, 4, "pi-02", "was not made over the layer below it");
	/* An image of another content. */
	(void)snprintf(command, sizeof(command), "cp %s.bak %s && rm %s.bak", other, other, other);
	shell(command);
	shell("cd state/images && sed -i 's/8388608/4194304/' base.img.json");
	w.control->images[0]->size_bytes = 4194304;
	result = check("{\"node\":\"pi-02\"}");
	counts_are(result, 0, 0, 0, 1);
	finding_is(result, 0, "pi-02", "over an image of 8388608 bytes, and it has 4194304 now");
	w.control->images[0]->uuid.b[0] ^= 1;
	result = check("{\"node\":\"pi-02\"}");
	finding_is(result, 0, "pi-02", "the image that node pi-02 stands on is missing");
	two->image_uuid.b[0] ^= 1;
	finding_is(check("{\"node\":\"pi-02\"}"), 0, "pi-02", "not made over the node's image");
}

static void check_of_images_and_strangers(void **state)
{
	json_t *result;

	(void)state;
	make_base();
	(void)job_done("{\"name\":\"spare\",\"size_bytes\":1048576}");
	clone_node("pi-01");
	(void)remove_kept("/v1/nodes/pi-01");
	(void)remove_kept("/v1/images/base");
	counts_are(check("{}"), 0, 0, 0, 0);
	shell("cd state && echo LOST >>images/spare.img.json && touch layers/notes.txt "
	      "images/.trash-x.img images/.new-y.img layers/.rm-z.cow && "
	      "rm images/.trash-base.*.img && for f in layers/.trash-*; do echo MENDABLE >>$f; "
	      "done");
	result = check("{}");
	counts_are(result, 4, 0, 1, 2);
	finding_is(result, 4, "pi-01", "can be mended");
	finding_is(result, 5, "base", "is missing");
	finding_is(result, 6, "spare", "is lost");
	counts_are(check("{\"image\":\"spare\"}"), 0, 0, 0, 1);
	counts_are(check("{\"repair\":true}"), 4, 1, 0, 2);
	counts_are(check("{}"), 4, 0, 0, 2);
}

/* While its files are read, what would take them away waits outside. */
static void check_keeps_others_away(void **state)
{
	char path[64], undo_path[96];
	json_t *answer;

	(void)state;
	make_three();
	for (int trash = 0; trash < 2; trash++) {
		fake_store_fails = "slow";
		answer = call(API_POST, "/v1/check", NULL,
			      trash ? "{}" : "{\"node\":\"pi-01\",\"repair\":true}", 202);
		(void)snprintf(path, sizeof(path), "/v1/jobs/%s",
			       text_at(json_object_get(answer, "job"), "id"));
		if (trash) {
			(void)snprintf(undo_path, sizeof(undo_path), "/v1/trash/%s",
				       text_at(trash_item("pi-01"), "id"));
			error_is(call(API_DELETE, undo_path, NULL, NULL, 409), "busy", "pi-01");
			strcat(undo_path, "/undo");
			error_is(call(API_POST, undo_path, NULL, "{}", 409), "busy", "pi-01");
			LIST_ENTRY(w.control->trash.next, struct trash, entry)->node->removed = 1;
			trash_look(w.control);
			assert_int_equal(trash_count(), 1);
		} else {
			while (fake_target_find(w.server, "pi-01"))
				mailbox_wait();
			error_is(call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 409), "busy",
				 "pi-01");
			error_is(call(API_POST, "/v1/check", NULL, "{\"node\":\"pi-01\"}", 409),
				 "busy", "pi-01");
			answer = call(API_GET, "/v1/nodes/pi-02", NULL, NULL, 200);
			assert_string_equal(text_at(answer, "state"), "ready");
		}
		(void)call(API_DELETE, path, NULL, NULL, 200);
		do {
			mailbox_wait();
			answer = call(API_GET, path, NULL, NULL, 200);
		} while (strcmp(text_at(answer, "state"), "running") == 0);
		error_is(answer, "cancelled", "the check was cancelled");
		fake_store_fails = "";
		if (!trash) {
			assert_non_null(fake_target_find(w.server, "pi-01"));
			(void)remove_kept("/v1/nodes/pi-01");
			(void)call(API_DELETE, "/v1/nodes/pi-02", "now=1", NULL, 200);
			(void)call(API_DELETE, "/v1/nodes/pi-03", "now=1", NULL, 200);
		}
	}
	/* The daemon ends in the middle of one. */
	fake_store_fails = "slow";
	(void)call(API_POST, "/v1/check", NULL, "{\"image\":\"base\"}", 202);
	fake_store_fails = "";
	world_reopen();
}

/* A merge that takes its place is waited for, and a daemon that stops begins nothing. */
static void check_waits_for_a_merge(void **state)
{
	json_t *result;

	(void)state;
	make_three();
	(void)call(API_POST, "/v1/nodes/pi-02/snapshots", NULL, "{\"name\":\"t\"}", 201);
	(void)call(API_DELETE, "/v1/nodes/pi-02/snapshots/s", NULL, NULL, 200);
	while (!node_find(w.control, "pi-02")->merge_busy)
		mailbox_wait();
	result = check("{\"node\":\"pi-02\"}");
	counts_are(result, 0, 0, 0, 0);
	assert_int_equal(json_integer_value(json_object_get(result, "files")), 2);
	assert_false(node_find(w.control, "pi-02")->busy);
	(void)remove_kept("/v1/nodes/pi-03");
	control_stop(w.control);
	error_is(call(API_POST, "/v1/check", NULL, "{}", 503), "stopping", "stopping");
	error_is(undo("pi-03", "", 503), "stopping", "stopping");
}

int main(void)
{
#define CASE(f)    cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
#define KEEPING(f) cmocka_unit_test_setup_teardown(f, setup_keeping, world_teardown)
	const struct CMUnitTest tests[] = {
		CASE(reserve_of_a_part),
		CASE(reserve_refuses_what_is_new),
		CASE(import_stops_in_the_middle),
		CASE(watch_stops_jobs),
		CASE(alarms_are_told),
		CASE(sizes_that_no_file_can_have),
		CASE(image_that_was_changed_is_not_cloned),
		CASE(damaged_node_is_an_alarm),
		CASE(files_that_are_gone_are_an_alarm),
		KEEPING(removed_node_comes_back),
		KEEPING(removed_image_comes_back),
		KEEPING(trash_goes_for_good),
		KEEPING(trash_has_its_time),
		KEEPING(trash_and_wrong_clocks),
		KEEPING(trash_makes_room),
		KEEPING(trash_is_bounded),
		KEEPING(files_follow_the_catalogue),
		KEEPING(strange_trash_is_left_alone),
		KEEPING(lost_catalogue_keeps_trash_apart),
		KEEPING(damaged_node_comes_back_damaged),
		CASE(check_of_whole_files),
		CASE(check_finds_and_mends),
		CASE(check_tells_who_is_not_served),
		CASE(check_keeps_what_is_in_files_that_are_gone),
		CASE(check_of_relations),
		KEEPING(check_of_images_and_strangers),
		KEEPING(check_keeps_others_away),
		KEEPING(check_waits_for_a_merge),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as main does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
