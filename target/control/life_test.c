/*
 * The life of a disk over a fake server and a fake store: snapshots, rollback, reset, resize,
 * merges, flatten, promote, export, and the catalogue that is rebuilt from layers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <event2/event.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/fake.h"
#include "control/test_world.h"

/* A node with a data disk. */
static struct node *make_node(void)
{
	make_base();
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}", 201);
	return node_find(w.control, "pi-01");
}

static void snapshot(const char *name)
{
	char body[128];

	(void)snprintf(body, sizeof(body), "{\"name\":\"%s\"}", name);
	(void)call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, body, 201);
}

static unsigned layers_of(unsigned lun)
{
	const struct node *node = node_find(w.control, "pi-01");

	return lun < node->lun_count ? node->luns[lun].layer_count : 0;
}

/* "a b - c": the names of LUN number `lun`'s layers, '-' for none. */
static const char *names_of(unsigned lun)
{
	static char text[LIMIT_CHAIN_LAYERS * NAME_BYTES];
	const struct lun *l = &node_find(w.control, "pi-01")->luns[lun];
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < l->layer_count; i++) {
		const char *name = l->layers[i].snapshot;

		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? " " : "",
					 name[0] ? name : "-");
	}
	return text;
}

static void merges_end(void)
{
	for (;;) {
		bool running = false;

		list_for_each (pos, &w.control->jobs)
			running |= LIST_ENTRY(pos, struct job, node)->state == JOB_RUNNING;
		if (!running)
			return;
		mailbox_wait();
	}
}

/* Served, as the catalogue says, with no file too many: after a new start as well. */
static void pi_is_whole(void)
{
	for (int i = 0; i < 2; i++) {
		json_t *answer;

		merges_end();
		answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
		assert_string_equal(text_at(answer, "message"), "");
		assert_string_not_equal(text_at(answer, "state"), "damaged");
		assert_non_null(fake_target_find(w.server, "pi-01"));
		assert_false(fake_target_find(w.server, "pi-01")->held);
		assert_int_equal(files_in("layers"), layers_of(0) + layers_of(1));
		if (i == 0)
			world_reopen();
	}
}

static void snapshot_seals_all_disks_at_once(void **state)
{
	json_t *answer, *list;

	(void)state;
	(void)make_node();
	log_somebody_in("pi-01");
	answer = call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"before\"}", 201);
	answer = json_object_get(answer, "node");
	assert_string_equal(text_at(answer, "state"), "in use");
	list = json_object_get(answer, "snapshots");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(text_at(json_array_get(list, 0), "name"), "before");
	assert_non_null(json_object_get(json_array_get(list, 0), "created"));
	assert_non_null(json_object_get(json_array_get(list, 0), "used_bytes"));
	assert_string_equal(names_of(0), "before -");
	assert_string_equal(names_of(1), "before -");
	assert_int_equal(w.server->holds, 1);
	assert_int_equal(w.server->resumes, 1);
	snapshot("later");
	assert_string_equal(names_of(0), "before later -");
	error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"before\"}", 409),
		 "exists", "snapshot before already");
	error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"No\"}", 400),
		 "invalid", "no valid name");
	error_is(call(API_POST, "/v1/nodes/pi-02/snapshots", NULL, "{\"name\":\"x\"}", 404),
		 "not_found", "pi-02");
	w.server->session_count = 0;
	pi_is_whole();
	assert_string_equal(names_of(1), "before later -");
}

static void cure_is(json_t *answer, const char *cure)
{
	assert_string_equal(text_at(json_object_get(answer, "error"), "cure"), cure);
}

static void too_many_snapshots(void **state)
{
	char name[16];
	json_t *answer;

	(void)state;
	(void)make_node();
	for (unsigned i = 1; i < LIMIT_CHAIN_LAYERS; i++) {
		(void)snprintf(name, sizeof(name), "s%u", i);
		snapshot(name);
	}
	error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"more\"}", 409),
		 "limit", "32 layers");
	/* An export needs one more, too; but not that of a snapshot. */
	answer = call(API_POST, "/v1/nodes/pi-01/export", NULL, "{\"lun\":1}", 409);
	error_is(answer, "limit", "32 layers");
	cure_is(answer,
		"lunctl export pi-01 FILE --snapshot s31 --lun 1; or with the node shut down: "
		"qemu-img convert -f raw \"$(lunctl url pi-01 1)\" FILE");
	error_is(call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{\"size_bytes\":99999744}", 409),
		 "limit", "32 layers");
	error_is(call(API_POST, "/v1/nodes/pi-01/export", NULL, NULL, 409), "limit", "32 layers");
	/* The cure that it names. */
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/s7", NULL, NULL, 200);
	merges_end();
	snapshot("more");
	pi_is_whole();
}

static void rollback_loses_what_came_after(void **state)
{
	json_t *answer;

	(void)state;
	(void)make_node();
	snapshot("one");
	snapshot("two");
	error_is(call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"three\"}", 404),
		 "not_found", "no snapshot three");
	error_is(call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"one\"}", 409),
		 "in_use", "1 newer snapshot: two");
	log_somebody_in("pi-01");
	error_is(call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"two\"}", 409),
		 "in_use", "iqn.who (10.9.8.7:1)");
	w.server->session_count = 0;
	answer = call(API_POST, "/v1/nodes/pi-01/rollback", NULL,
		      "{\"snapshot\":\"one\",\"force\":true,\"dry_run\":true}", 200);
	/* Snapshot two, and of each disk its layer and the top. */
	assert_int_equal(json_array_size(json_object_get(answer, "removed")), 5);
	assert_true(json_is_true(json_object_get(answer, "dry_run")));
	assert_string_equal(names_of(0), "one two -");
	answer = call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"two\"}", 200);
	assert_int_equal(json_array_size(json_object_get(answer, "removed")), 2);
	assert_string_equal(names_of(0), "one two -");
	answer = call(API_POST, "/v1/nodes/pi-01/rollback", NULL,
		      "{\"snapshot\":\"one\",\"force\":true}", 200);
	assert_true(json_is_false(json_object_get(answer, "dry_run")));
	assert_string_equal(names_of(0), "one -");
	assert_string_equal(names_of(1), "one -");
	pi_is_whole();
}

static void reset_keeps_data_disks(void **state)
{
	char uuid[64], layer[64];
	json_t *answer;
	struct node *node = make_node();

	(void)state;
	store_uuid_format(&node->uuid, uuid);
	snapshot("one");
	(void)call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{\"size_bytes\":16777216}", 200);
	store_uuid_format(&node->luns[1].layers[1].uuid, layer);
	error_is(call(API_POST, "/v1/nodes/pi-01/reset", NULL, NULL, 409), "in_use",
		 "1 snapshot: one");
	answer = call(API_POST, "/v1/nodes/pi-01/reset", NULL, "{\"force\":true,\"dry_run\":true}",
		      200);
	assert_int_equal(json_array_size(json_object_get(answer, "removed")), 4);
	assert_string_equal(names_of(0), "one - -");
	answer = call(API_POST, "/v1/nodes/pi-01/reset", NULL, "{\"force\":true}", 200);
	assert_string_equal(text_at(json_object_get(answer, "node"), "uuid"), uuid);
	assert_string_equal(names_of(0), "-");
	assert_int_equal(node->luns[0].size_bytes, 16777216);
	assert_string_equal(names_of(1), "- -");
	store_uuid_format(&node->luns[1].layers[1].uuid, uuid);
	assert_string_equal(uuid, layer);
	(void)call(API_POST, "/v1/nodes/pi-01/reset", NULL, NULL, 200);
	log_somebody_in("pi-01");
	error_is(call(API_POST, "/v1/nodes/pi-01/reset", NULL, NULL, 409), "in_use", "iqn.who");
	w.server->session_count = 0;
	pi_is_whole();
}

static void resize_grows_and_rollback_shrinks(void **state)
{
	struct fake_target *target;

	(void)state;
	(void)make_node();
	snapshot("small");
	log_somebody_in("pi-01");
	error_is(call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{\"size_bytes\":4194304}", 400),
		 "invalid", "can't shrink");
	error_is(call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{\"size_bytes\":8388608}", 400),
		 "invalid", "that large already");
	error_is(call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{}", 400), "invalid", "missing");
	error_is(call(API_POST, "/v1/nodes/pi-01/resize", NULL,
		      "{\"size_bytes\":16777216,\"lun\":2}", 404),
		 "not_found", "no LUN 2");
	error_is(call(API_POST, "/v1/nodes/pi-01/resize", NULL,
		      "{\"size_bytes\":16777216,\"lun\":16}", 400),
		 "invalid", "no number of a LUN");
	(void)call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{\"size_bytes\":16777000}", 200);
	(void)call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{\"size_bytes\":2097152,\"lun\":1}",
		   200);
	target = fake_target_find(w.server, "pi-01");
	assert_int_equal(target->units[0].disk->size_bytes, 16777216);
	assert_int_equal(target->units[1].disk->size_bytes, 2097152);
	w.server->session_count = 0;
	merges_end();
	pi_is_whole();
	(void)call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"small\"}", 200);
	target = fake_target_find(w.server, "pi-01");
	assert_int_equal(target->units[0].disk->size_bytes, 8388608);
	assert_int_equal(target->units[1].disk->size_bytes, 1048576);
	pi_is_whole();
}

static const struct job *merge_running(void)
{
	list_for_each (pos, &w.control->jobs) {
		const struct job *job = LIST_ENTRY(pos, struct job, node);

		if (job->kind == JOB_MERGE && job->state == JOB_RUNNING)
			return job;
	}
	return NULL;
}

static void fake_fails(const char *what, int after)
{
	fake_store_fails = what;
	fake_store_countdown = after;
}

static void removed_snapshot_is_merged(void **state)
{
	unsigned moved = fake_store_preloads_moved;
	json_t *answer;

	(void)state;
	(void)make_node();
	for (int i = 0; i < 5; i++)
		snapshot((const char *[]){"a", "b", "c", "d", "e"}[i]);
	error_is(call(API_DELETE, "/v1/nodes/pi-01/snapshots/x", NULL, NULL, 404), "not_found",
		 "no snapshot x");
	answer = call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", "dry_run=1", NULL, 200);
	assert_string_equal(
		json_string_value(json_array_get(json_object_get(answer, "removed"), 0)),
		"snapshot pi-01@b");
	assert_string_equal(names_of(0), "a b c d e -");
	/* A node that is used knows nothing of it but two short holds. */
	log_somebody_in("pi-01");
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", NULL, NULL, 200);
	merges_end();
	assert_string_equal(names_of(0), "a c d e -");
	assert_string_equal(names_of(1), "a c d e -");
	assert_int_equal(w.server->holds, 5 + 2);
	/* And the merged layer's map was in memory before each. */
	assert_int_equal(fake_store_preloads_moved - moved, 2);
	assert_int_equal(fake_store_preloads, 0);
	/* Several at once, the lowest and the highest. */
	fake_fails("slow", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/c", NULL, NULL, 200);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/e", NULL, NULL, 200);
	assert_string_equal(names_of(0), "- - d - -");
	control_stop(w.control);
	merges_end();
	fake_fails("", 0);
	merge_kick(w.control);
	assert_null(merge_running());
	error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"f\"}", 503),
		 "stopping", "stopping");
	w.server->session_count = 0;
	world_reopen(); /* they begin by themselves */
	merges_end();
	assert_string_equal(names_of(0), "d - -");
	assert_string_equal(names_of(1), "d - -");
	pi_is_whole();
	/* A top made over a merged layer, which is merged again. */
	(void)call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"d\"}", 200);
	snapshot("f");
	snapshot("g");
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/d", NULL, NULL, 200);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/f", NULL, NULL, 200);
	merges_end();
	assert_string_equal(names_of(0), "g -");
	pi_is_whole();
	/* A top made over a merged layer that another one is merged into. */
	snapshot("h");
	snapshot("i");
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/h", NULL, NULL, 200);
	merges_end();
	(void)call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"i\"}", 200);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/g", NULL, NULL, 200);
	merges_end();
	assert_string_equal(names_of(0), "i -");
	pi_is_whole();
}

/* The background takes its time, and a person's wish does not. */
static void merges_are_throttled(void **state)
{
	(void)state;
	(void)make_node();
	w.control->merge_bytes_per_s = 12345;
	snapshot("a");
	snapshot("b");
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	merges_end();
	assert_int_equal(fake_store_merge_rate, 12345);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", NULL, NULL, 200);
	merges_end();
	(void)job_at("/v1/nodes/pi-01/flatten", NULL);
	assert_int_equal(fake_store_merge_rate, 0);
}

static void merge_goes_on_beside_everything(void **state)
{
	char path[64];

	(void)state;
	(void)make_node();
	snapshot("a");
	snapshot("b");
	snapshot("c");
	fake_fails("slow", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", NULL, NULL, 200);
	assert_non_null(merge_running());
	snapshot("d");
	/* The name of what is merged goes meanwhile. */
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/c", NULL, NULL, 200);
	assert_string_equal(names_of(0), "a - - d -");
	fake_fails("", 0);
	merges_end();
	assert_string_equal(names_of(0), "a d -");
	assert_string_equal(names_of(1), "a d -");
	pi_is_whole();
	/* What is merged is rolled back. */
	snapshot("e");
	fake_fails("slow", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/d", NULL, NULL, 200);
	(void)call(API_POST, "/v1/nodes/pi-01/rollback", NULL,
		   "{\"snapshot\":\"a\",\"force\":true}", 200);
	fake_fails("", 0);
	merges_end();
	assert_string_equal(names_of(0), "a -");
	pi_is_whole();
	/* Cancelled by a person: it comes back with the next change. */
	snapshot("b");
	fake_fails("slow", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	(void)snprintf(path, sizeof(path), "/v1/jobs/%llu",
		       (unsigned long long)merge_running()->id);
	(void)call(API_DELETE, path, NULL, NULL, 200);
	while (merge_running())
		mailbox_wait();
	fake_fails("", 0);
	merge_kick(w.control);
	assert_null(merge_running());
	assert_string_equal(names_of(0), "- b -");
	snapshot("c");
	merges_end();
	assert_string_equal(names_of(0), "b c -");
	/* The node goes. */
	fake_fails("slow", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", NULL, NULL, 200);
	assert_non_null(merge_running());
	(void)call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 200);
	fake_fails("", 0);
	merges_end();
	assert_int_equal(files_in("layers"), 0);
}

/* A merge that takes its place is nobody's business: what is asked for meanwhile waits. */
static void merge_makes_nobody_busy(void **state)
{
	struct answer asked[3] = {{.request = {.reply = on_reply, .drop = on_drop}},
				  {.request = {.reply = on_reply, .drop = on_drop}},
				  {.request = {.reply = on_reply, .drop = on_drop}}};
	struct api_call calls[] = {
		{.op = API_SNAPSHOT_DELETE, .name = "pi-01", .snapshot = "c"},
		{.op = API_SNAPSHOT_MAKE, .name = "pi-01", .snapshot = "d"},
		{.op = API_SNAPSHOT_MAKE, .name = "pi-01", .snapshot = "e"},
	};
	struct node *node = make_node();

	(void)state;
	snapshot("a");
	snapshot("b");
	snapshot("c");
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	while (!node->merge_busy)
		mailbox_wait();
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++)
		api_handle(w.control, &calls[i], &asked[i].request);
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++)
		assert_int_equal(asked[i].status, 0);
	for (size_t i = 0; i < ARRAY_COUNT(calls); i++) {
		while (asked[i].status == 0)
			mailbox_wait();
		json_decref(asked[i].body);
	}
	assert_int_equal(asked[0].status, 200);
	/* Those two are in each other's way, as ever. */
	assert_int_equal(asked[1].status, 409);
	assert_int_equal(asked[2].status, 409);
	pi_is_whole();
	assert_string_equal(names_of(0), "b - -");
}

static void merge_ends_with_the_daemon(void **state)
{
	(void)state;
	(void)make_node();
	snapshot("a");
	snapshot("b");
	fake_fails("slow", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	assert_non_null(merge_running());
	world_reopen(); /* jobs are cancelled, or this would last for ever */
	assert_non_null(merge_running());
	assert_string_equal(names_of(0), "- b -");
	fake_fails("", 0);
	merges_end();
	assert_string_equal(names_of(0), "b -");
	pi_is_whole();
}

static void merge_that_fails_is_tried_again(void **state)
{
	(void)state;
	(void)make_node();
	snapshot("a");
	snapshot("b");
	fake_fails("merge", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	merges_end();
	assert_string_equal(names_of(0), "- b -");
	fake_fails("", 0);
	merge_kick(w.control);
	assert_null(merge_running()); /* not at once, or it would never stop */
	event_active(w.control->merge_timer, EV_TIMEOUT, 0);
	(void)event_base_loop(w.base, EVLOOP_NONBLOCK);
	merges_end();
	assert_string_equal(names_of(0), "b -");
	pi_is_whole();
}

/* What fails with the node held leaves it on its old layers. */
static void change_that_fails_changes_nothing(void **state)
{
	json_t *answer;

	(void)state;
	(void)make_node();
	snapshot("a");
	log_somebody_in("pi-01");
	fake_fails("create", 0);
	error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"b\"}", 507),
		 "no_space", "");
	answer = call(API_POST, "/v1/nodes/pi-01/export", NULL, "{}", 507);
	error_is(answer, "no_space", "");
	cure_is(answer, "lunctl export pi-01 FILE --snapshot a; or with the node shut down: "
			"qemu-img convert -f raw \"$(lunctl url pi-01)\" FILE");
	fake_fails("", 0);
	assert_int_equal(w.server->holds, 1);
	w.server->hold_fails = -EIO;
	error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"b\"}", 500), "io",
		 "can't be flushed");
	w.server->hold_fails = 0;
	sql("CREATE TRIGGER full BEFORE INSERT ON layers BEGIN SELECT RAISE(FAIL, 'full'); END");
	(void)call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"b\"}", 500);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 500);
	w.server->session_count = 0;
	(void)call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"a\"}", 500);
	sql("DROP TRIGGER full");
	assert_string_equal(names_of(0), "a -");
	w.server->hold_fails = -EBUSY;
	error_is(call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"a\"}", 409),
		 "in_use", "just logged in");
	w.server->hold_fails = 0;
	assert_string_equal(names_of(1), "a -");
	pi_is_whole();
	snapshot("b");
	pi_is_whole();
}

/* LUN 0 is sealed, LUN 1 can't be: it is no snapshot, and nothing is lost. */
static void half_a_snapshot_is_none(void **state)
{
	(void)state;
	(void)make_node();
	for (int after = 0; after < 2; after++) {
		fake_fails("seal", after);
		error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"a\"}", 507),
			 "no_space", "");
		fake_fails("", 0);
		assert_string_equal(names_of(0), after ? "- -" : "-");
		assert_string_equal(names_of(1), "-");
		pi_is_whole();
	}
	snapshot("a");
	merges_end();
	assert_string_equal(names_of(0), "a -");
	pi_is_whole();
}

static void node_that_cannot_go_on_says_so(void **state)
{
	json_t *answer;

	(void)state;
	(void)make_node();
	for (int how = 0; how < 2; how++) {
		if (how == 0)
			fake_fails("open", 1);
		else
			w.server->resume_fails = -ENOMEM;
		error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL,
			      how ? "{\"name\":\"b\"}" : "{\"name\":\"a\"}", 500),
			 "io", "not served any more");
		fake_fails("", 0);
		w.server->resume_fails = 0;
		assert_null(fake_target_find(w.server, "pi-01"));
		answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
		assert_string_equal(text_at(answer, "state"), "damaged");
		error_is(call(API_POST, "/v1/nodes/pi-01/snapshots", NULL, "{\"name\":\"c\"}", 409),
			 "damaged", "is not served");
		world_reopen();
		pi_is_whole();
	}
	assert_string_equal(names_of(0), "a b -");
}

/* A layer is lost; going back to before it makes the node whole. */
static void rollback_of_a_damaged_node(void **state)
{
	struct node *node = make_node();
	char path[PATH_BYTES];

	(void)state;
	snapshot("good");
	layer_path(w.control, "", &node->luns[0].layers[1].uuid, path);
	assert_int_equal(unlink(path), 0);
	world_reopen();
	assert_null(fake_target_find(w.server, "pi-01"));
	(void)call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"good\"}", 200);
	pi_is_whole();
}

static void flatten_needs_no_image(void **state)
{
	json_t *answer;

	(void)state;
	(void)make_node();
	snapshot("a");
	error_is(call(API_POST, "/v1/nodes/pi-01/flatten", NULL, NULL, 409), "in_use",
		 "1 snapshot: a");
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	log_somebody_in("pi-01");
	answer = job_at("/v1/nodes/pi-01/flatten", NULL);
	assert_string_equal(text_at(answer, "state"), "done");
	assert_string_equal(text_at(answer, "kind"), "flatten");
	assert_string_equal(names_of(0), "- -");
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	assert_true(json_is_null(json_object_get(answer, "base")));
	assert_true(json_is_true(json_object_get(answer, "flat")));
	w.server->session_count = 0;
	error_is(call(API_POST, "/v1/nodes/pi-01/reset", NULL, NULL, 409), "no_image",
		 "no image to reset");
	error_is(call(API_POST, "/v1/nodes/pi-01/flatten", NULL, NULL, 409), "no_image",
		 "no image already");
	(void)call(API_DELETE, "/v1/images/base", NULL, NULL, 200);
	merges_end();
	pi_is_whole();
	snapshot("b");
	pi_is_whole();
}

static void promote_makes_an_image(void **state)
{
	json_t *answer;

	(void)state;
	(void)make_node();
	log_somebody_in("pi-01");
	error_is(call(API_POST, "/v1/nodes/pi-01/promote", NULL, "{\"image\":\"base\"}", 409),
		 "exists", "image base already");
	error_is(call(API_POST, "/v1/nodes/pi-01/promote", NULL,
		      "{\"image\":\"new\",\"snapshot\":\"x\"}", 404),
		 "not_found", "no snapshot x");
	answer = job_at("/v1/nodes/pi-01/promote", "{\"image\":\"new\"}");
	assert_string_equal(text_at(answer, "state"), "done");
	assert_string_equal(
		text_at(json_object_get(json_object_get(answer, "result"), "image"), "name"),
		"new");
	assert_string_equal(names_of(0), "- -"); /* what it read */
	assert_string_equal(names_of(1), "-");
	snapshot("a");
	merges_end();
	assert_string_equal(names_of(0), "a -");
	answer = job_at("/v1/nodes/pi-01/promote", "{\"image\":\"newer\",\"snapshot\":\"a\"}");
	assert_string_equal(text_at(answer, "state"), "done");
	assert_string_equal(names_of(0), "a -");
	assert_int_equal(files_in("images"), 6);
	w.server->session_count = 0;
	pi_is_whole();
	(void)call(API_POST, "/v1/nodes", NULL, "{\"name\":\"pi-02\",\"base\":\"newer\"}", 201);
}

static int reader_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? fd : -1;
}

static void export_goes_to_who_comes_for_it(void **state)
{
	char path[128], where[64], cure[128];
	static char data[65536];
	struct stat st;
	json_t *job_answer, *answer;
	size_t total = 0;
	ssize_t n;
	int fd;

	(void)state;
	(void)make_node();
	snapshot("a");
	error_is(call(API_POST, "/v1/nodes/pi-01/export", NULL, "{\"lun\":3}", 404), "not_found",
		 "no LUN 3");
	job_answer = json_object_get(call(API_POST, "/v1/nodes/pi-01/export", NULL,
					  "{\"lun\":1,\"snapshot\":\"a\"}", 202),
				     "job");
	(void)snprintf(path, sizeof(path), "%s", text_at(job_answer, "socket"));
	(void)snprintf(where, sizeof(where), "/v1/jobs/%s", text_at(job_answer, "id"));
	assert_int_equal(json_integer_value(json_object_get(job_answer, "size_bytes")), 1048576);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0660);
	/* Meanwhile its layers stay. */
	error_is(call(API_POST, "/v1/nodes/pi-01/rollback", NULL, "{\"snapshot\":\"a\"}", 409),
		 "busy", "reads the layers");
	answer = call(API_DELETE, "/v1/nodes/pi-01", NULL, NULL, 409);
	error_is(answer, "busy", "reads the layers");
	(void)snprintf(cure, sizeof(cure), "lunctl jobs --cancel %s", where + strlen("/v1/jobs/"));
	assert_non_null(strstr(text_at(json_object_get(answer, "error"), "cure"), cure));
	error_is(call(API_POST, "/v1/nodes/pi-01/flatten", NULL, NULL, 409), "busy", "reads");
	fd = reader_connect(path);
	assert_true(fd >= 0);
	while ((n = read(fd, data, sizeof(data))) > 0)
		total += (size_t)n;
	close(fd);
	assert_int_equal(total, 1048576);
	merges_end();
	assert_string_equal(text_at(call(API_GET, where, NULL, NULL, 200), "state"), "done");
	assert_int_not_equal(access(path, F_OK), 0);
	/* Without a snapshot: as it is now. */
	job_answer =
		json_object_get(call(API_POST, "/v1/nodes/pi-01/export", NULL, NULL, 202), "job");
	(void)snprintf(path, sizeof(path), "%s", text_at(job_answer, "socket"));
	(void)snprintf(where, sizeof(where), "/v1/jobs/%s", text_at(job_answer, "id"));
	assert_string_equal(names_of(0), "a - -");
	fd = reader_connect(path);
	assert_true(read(fd, data, 1000) > 0);
	close(fd); /* it goes away */
	merges_end();
	error_is(call(API_GET, where, NULL, NULL, 200), "cancelled", "the reader is gone");
	/* Nobody comes, and it is cancelled. */
	job_answer = json_object_get(
		call(API_POST, "/v1/nodes/pi-01/export", NULL, "{\"snapshot\":\"a\"}", 202), "job");
	(void)snprintf(path, sizeof(path), "%s", text_at(job_answer, "socket"));
	(void)snprintf(where, sizeof(where), "/v1/jobs/%s", text_at(job_answer, "id"));
	(void)call(API_DELETE, where, NULL, NULL, 200);
	merges_end();
	assert_int_not_equal(access(path, F_OK), 0);
	/* The daemon ends while a reader does not read. */
	job_answer = json_object_get(
		call(API_POST, "/v1/nodes/pi-01/export", NULL, "{\"snapshot\":\"a\"}", 202), "job");
	(void)snprintf(path, sizeof(path), "%s", text_at(job_answer, "socket"));
	fd = reader_connect(path);
	assert_int_equal(read(fd, data, 1), 1);
	world_reopen();
	close(fd);
	pi_is_whole();
}

static void lost_catalogue_knows_snapshots(void **state)
{
	char uuid[64], lun_uuid[64];
	json_t *answer;

	(void)state;
	(void)make_node();
	(void)call(API_POST, "/v1/nodes/pi-01/reset", NULL, NULL, 200);
	for (int i = 0; i < 4; i++)
		snapshot((const char *[]){"a", "b", "c", "d"}[i]);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", NULL, NULL, 200);
	merges_end();
	(void)call(API_POST, "/v1/nodes/pi-01/rollback", NULL,
		   "{\"snapshot\":\"c\",\"force\":true}", 200);
	(void)call(API_POST, "/v1/nodes/pi-01/rename", NULL, "{\"name\":\"x\"}", 200);
	(void)call(API_POST, "/v1/nodes/x/rename", NULL, "{\"name\":\"pi-01\"}", 200);
	/* A second node that has no image any more. */
	(void)call(API_POST, "/v1/nodes", NULL,
		   "{\"name\":\"flat\",\"base\":\"base\",\"data_bytes\":2097152}", 201);
	assert_string_equal(text_at(job_at("/v1/nodes/flat/flatten", NULL), "state"), "done");
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	(void)snprintf(uuid, sizeof(uuid), "%s", text_at(answer, "uuid"));
	(void)snprintf(lun_uuid, sizeof(lun_uuid), "%s",
		       text_at(json_array_get(json_object_get(answer, "luns"), 1), "uuid"));
	world_lose_catalogue();
	merges_end();
	answer = call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "uuid"), uuid);
	assert_string_equal(text_at(answer, "state"), "ready");
	assert_string_equal(text_at(json_array_get(json_object_get(answer, "luns"), 1), "uuid"),
			    lun_uuid);
	assert_string_equal(names_of(0), "a c -");
	assert_string_equal(names_of(1), "a c -");
	answer = call(API_GET, "/v1/nodes/flat", NULL, NULL, 200);
	assert_string_equal(text_at(answer, "state"), "ready");
	assert_true(json_is_true(json_object_get(answer, "flat")));
	assert_int_equal(json_array_size(json_object_get(answer, "luns")), 2);
	assert_int_equal(json_integer_value(json_object_get(
				 json_array_get(json_object_get(answer, "luns"), 1), "size_bytes")),
			 2097152);
}

static const char *uuid_of(const char *name, char uuid[64])
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/v1/nodes/%s", name);
	(void)snprintf(uuid, 64, "%s", text_at(call(API_GET, path, NULL, NULL, 200), "uuid"));
	return uuid;
}

/* Each disk comes back under the name that it had last, not under another one's. */
static void lost_catalogue_knows_renamed_nodes(void **state)
{
	static const char *const steps[][2] = {{"a", "x"}, {"b", "a"}, {"x", "b"}};
	char a[64], b[64], path[64], body[64];

	(void)state;
	make_base();
	clone_node("a");
	clone_node("b");
	(void)uuid_of("a", a);
	(void)uuid_of("b", b);
	for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
		(void)snprintf(path, sizeof(path), "/v1/nodes/%s/rename", steps[i][0]);
		(void)snprintf(body, sizeof(body), "{\"name\":\"%s\"}", steps[i][1]);
		(void)call(API_POST, path, NULL, body, 200);
	}
	world_lose_catalogue();
	assert_string_equal(uuid_of("a", path), b);
	assert_string_equal(uuid_of("b", path), a);
}

/* Headers may say the name of a snapshot that is none any more. */
static void lost_catalogue_and_names_of_one_disk(void **state)
{
	(void)state;
	(void)make_node();
	snapshot("a");
	(void)call(API_POST, "/v1/nodes/pi-01/reset", NULL, "{\"force\":true}", 200);
	assert_string_equal(names_of(1), "- -");
	world_lose_catalogue();
	assert_string_equal(names_of(0), "-");
	assert_string_equal(names_of(1), "- -");
	snapshot("a");
	pi_is_whole();
}

/* Removed, and not merged yet. */
static void lost_catalogue_and_removed_snapshots(void **state)
{
	(void)state;
	(void)make_node();
	snapshot("a");
	snapshot("b");
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", NULL, NULL, 200);
	world_lose_catalogue();
	assert_string_equal(names_of(0), "a - -");
}

static void lost_catalogue_and_name_removed_while_it_was_merged(void **state)
{
	(void)state;
	make_base();
	clone_node("pi-01");
	snapshot("a");
	snapshot("b");
	fake_fails("slow", 0);
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	mailbox_wait_ms(100);
	assert_non_null(merge_running());
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/b", NULL, NULL, 200);
	fake_fails("", 0);
	merges_end();
	assert_string_equal(names_of(0), "- -");
	world_lose_catalogue();
	assert_string_equal(names_of(0), "- -");
	pi_is_whole();
}

/* It died when the old tops were out of the way, or the new ones had no names yet. */
static void lost_catalogue_and_lost_tops(void **state)
{
	char path[PATH_BYTES];
	const struct node *node = make_node();

	(void)state;
	snapshot("a");
	(void)call(API_POST, "/v1/nodes/pi-01/resize", NULL, "{\"size_bytes\":16777216}", 200);
	for (unsigned i = 0; i < 2; i++) {
		layer_path(w.control, "", &node->luns[i].layers[node->luns[i].layer_count - 1].uuid,
			   path);
		assert_int_equal(unlink(path), 0);
	}
	world_lose_catalogue();
	mailbox_run(&w.mailbox);
	assert_string_equal(names_of(0), "a - -");
	assert_string_equal(names_of(1), "a -");
	pi_is_whole();
}

/* From a backup that was made meanwhile: the merged layer, and what it was made of. */
static void lost_catalogue_with_merged_layers_and_their_parts(void **state)
{
	struct node *node = make_node();
	char command[2048], part[2][PATH_BYTES], merged[PATH_BYTES];

	(void)state;
	snapshot("a");
	snapshot("b");
	snapshot("c");
	for (int i = 0; i < 2; i++) {
		layer_path(w.control, "", &node->luns[0].layers[i].uuid, part[i]);
		(void)snprintf(command, sizeof(command), "cp %s %s/part-%d", part[i], w.dir, i);
		assert_int_equal(system(command), 0);
	}
	(void)call(API_DELETE, "/v1/nodes/pi-01/snapshots/a", NULL, NULL, 200);
	merges_end();
	layer_path(w.control, "", &node->luns[0].layers[0].uuid, merged);
	/* The lower part; both; both, and the folder lists them in another order. */
	for (int how = 0; how < 3; how++) {
		world_close();
		(void)snprintf(command, sizeof(command),
			       "rm %s/catalog.db*; cp %s/part-0 %s; %s %s/part-1 %s; "
			       "%s %s %s/m; mv %s/m %s 2>/dev/null; true",
			       w.state, w.dir, part[0], how > 0 ? "cp" : ":", w.dir, part[1],
			       how > 1 ? "mv" : ":", merged, w.dir, w.dir, merged);
		assert_int_equal(system(command), 0);
		assert_int_equal(world_open(), 0);
		merges_end();
		assert_int_equal(w.control->node_count, 1);
		assert_string_equal(names_of(0), "b c -");
		assert_string_equal(
			text_at(call(API_GET, "/v1/nodes/pi-01", NULL, NULL, 200), "state"),
			"ready");
	}
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		CASE(snapshot_seals_all_disks_at_once),
		CASE(too_many_snapshots),
		CASE(rollback_loses_what_came_after),
		CASE(reset_keeps_data_disks),
		CASE(resize_grows_and_rollback_shrinks),
		CASE(removed_snapshot_is_merged),
		CASE(merges_are_throttled),
		CASE(merge_goes_on_beside_everything),
		CASE(merge_makes_nobody_busy),
		CASE(merge_ends_with_the_daemon),
		CASE(merge_that_fails_is_tried_again),
		CASE(change_that_fails_changes_nothing),
		CASE(half_a_snapshot_is_none),
		CASE(node_that_cannot_go_on_says_so),
		CASE(rollback_of_a_damaged_node),
		CASE(flatten_needs_no_image),
		CASE(promote_makes_an_image),
		CASE(export_goes_to_who_comes_for_it),
		CASE(lost_catalogue_knows_snapshots),
		CASE(lost_catalogue_knows_renamed_nodes),
		CASE(lost_catalogue_and_names_of_one_disk),
		CASE(lost_catalogue_and_removed_snapshots),
		CASE(lost_catalogue_and_name_removed_while_it_was_merged),
		CASE(lost_catalogue_and_lost_tops),
		CASE(lost_catalogue_with_merged_layers_and_their_parts),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as main does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
