/*
 * Ends the control plane at every step of every operation, as kill -9 would, and again at every
 * step of the start-up that follows; then what is there must be the old state or the new one, all
 * of it served, and no file more or less than the catalogue says. Real store and catalogue, a fake
 * iSCSI side.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "control/control_internal.h"
#include "control/fake.h"

#define EXIT_AT_STEP 77
#define STEPS_MAX    64
#define STATE_BYTES  8192
#define OPERATION_MS 20000

static char dir[64], state_dir[96], run_dir[96];

static struct world {
	struct mailbox mailbox;
	struct event_base *base;
	struct server *server;
	struct control *control;
} w;

static const char *where = "";
static unsigned where_step, where_again;

static void fail(const char *what, const char *detail)
{
	fprintf(stderr, "FAILED: %s killed at step %u, start-up at step %u: %s %s\n", where,
		where_step, where_again, what, detail);
	exit(1);
}

/* --- dying --- */

static atomic_uint step_count;
static unsigned step_last;

static void die_at_step(const char *step)
{
	(void)step;
	if (atomic_fetch_add(&step_count, 1) + 1 == step_last)
		_exit(EXIT_AT_STEP);
}

/* 0: never. */
static void die_at(unsigned step)
{
	atomic_store(&step_count, 0);
	step_last = step;
	control_step_hook = step ? die_at_step : NULL;
}

/* --- a control --- */

static void world_open(void)
{
	struct control_config config = {
		.state_dir = state_dir,
		.run_dir = run_dir,
		.mailbox = &w.mailbox,
		.portals = {"127.0.0.1:3260"},
		.portal_count = 1,
	};
	struct store_error err = {""};

	w.base = event_base_new();
	if (!w.base || mailbox_init(&w.mailbox) < 0)
		fail("no memory", "");
	w.server = fake_server_new(&w.mailbox);
	config.server = w.server;
	config.base = w.base;
	if (control_new(&config, &w.control, &err) < 0 || control_serve_all(w.control) < 0)
		fail("start:", err.text);
	mailbox_run(&w.mailbox);
}

static void world_close(void)
{
	mailbox_run(&w.mailbox);
	control_free(w.control);
	server_free(w.server);
	event_base_free(w.base);
	mailbox_done(&w.mailbox);
}

struct answer {
	struct api_request request;
	int status;
	json_t *body;
};

static void on_reply(struct api_request *request, int status, json_t *body)
{
	struct answer *a = CONTAINER_OF(request, struct answer, request);

	a->status = status;
	a->body = body;
}

static void on_drop(struct api_request *request)
{
	CONTAINER_OF(request, struct answer, request)->status = 503;
}

static void mailbox_wait(void)
{
	struct pollfd fd = {.fd = w.mailbox.eventfd, .events = POLLIN};

	if (poll(&fd, 1, OPERATION_MS) <= 0)
		fail("nothing happens", "");
	mailbox_run(&w.mailbox);
}

static bool jobs_running(void)
{
	list_for_each (pos, &w.control->jobs) {
		if (LIST_ENTRY(pos, struct job, node)->state == JOB_RUNNING)
			return true;
	}
	return false;
}

static void act(enum api_method method, const char *path, const char *body)
{
	struct answer a = {.request = {on_reply, on_drop}};
	struct api_error err = {0};
	struct api_call parsed;
	char *text;

	if (request_parse(method, path, NULL, body, strlen(body), &parsed, &err) < 0)
		fail("request:", err.message);
	api_handle(w.control, &parsed, &a.request);
	while (a.status == 0 || jobs_running())
		mailbox_wait();
	if (a.status >= 300) {
		text = json_dumps(a.body, 0);
		fail(path, text ? text : "");
	}
	json_decref(a.body);
}

/* --- what is there --- */

static void expect_files(const char *sub, unsigned expected)
{
	char path[256];
	const struct dirent *entry;
	unsigned count = 0;
	DIR *stream;

	(void)snprintf(path, sizeof(path), "%s/%s", state_dir, sub);
	stream = opendir(path);
	while (stream && (entry = readdir(stream))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (entry->d_name[0] == '.')
			fail("left over:", entry->d_name);
		count++;
	}
	if (stream)
		closedir(stream);
	if (count != expected)
		fail("number of files in", sub);
}

/* Live maps of layers that are gone. */
static void expect_no_stale_maps(void)
{
	const struct dirent *entry;
	DIR *stream = opendir(run_dir);
	char uuid[STORE_UUID_TEXT_BYTES];

	while (stream && (entry = readdir(stream))) {
		const char *name = entry->d_name;
		bool known = name[0] == '.' || strcmp(name, "control.sock") == 0;

		for (unsigned i = 0; i < w.control->node_count && !known; i++) {
			const struct node *node = w.control->nodes[i];

			for (unsigned j = 0; j < node->lun_count; j++) {
				store_uuid_format(&node->luns[j].layers[0].uuid, uuid);
				known |= strstr(name, uuid) != NULL;
			}
		}
		if (!known)
			fail("a live map without its layer:", name);
	}
	if (stream)
		closedir(stream);
}

/* A rebuilt catalogue has new ones. */
static bool keeps_secrets;

static void add(char *text, const char *word, const char *name)
{
	size_t used = strlen(text);

	(void)snprintf(text + used, STATE_BYTES - used, "%s %s\n", word, name);
}

/* Everything that a user could tell apart, and that all of it is whole. */
static void describe(char *text)
{
	char uuid[STORE_UUID_TEXT_BYTES], path[PATH_BYTES];
	unsigned layers = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < w.control->image_count; i++) {
		const struct image *image = w.control->images[i];

		add(text, "image", image->name);
		store_uuid_format(&image->uuid, uuid);
		/* What is made anew has a new UUID; what was there keeps it. */
		if (strcmp(image->name, "new") != 0)
			add(text, "with", uuid);
		image_path(w.control, "", image->name, path);
		if (access(path, R_OK) < 0)
			fail("missing:", path);
		strcat(path, ".json");
		if (access(path, R_OK) < 0)
			fail("missing:", path);
	}
	for (unsigned i = 0; i < w.control->node_count; i++) {
		const struct node *node = w.control->nodes[i];

		add(text, "node", node->name);
		add(text, "user", node->cred.user);
		store_uuid_format(&node->uuid, uuid);
		if (strcmp(node->name, "new") != 0) {
			add(text, "with", uuid);
			if (keeps_secrets)
				add(text, "secret", node->cred.secret);
		}
		if (node->damaged || !fake_target_find(w.server, node->name))
			fail("not served:", node->message);
		for (unsigned j = 0; j < node->lun_count; j++) {
			layers += node->luns[j].layer_count;
			layer_path(w.control, "", &node->luns[j].layers[0].uuid, path);
			if (access(path, R_OK) < 0)
				fail("missing:", path);
		}
	}
	expect_files("images", 2 * w.control->image_count);
	expect_files("layers", layers);
	expect_no_stale_maps();
}

/* --- operations --- */

static const struct operation {
	const char *name;
	enum api_method method;
	const char *path, *body;
} operations[] = {
	{"create", API_POST, "/v1/images", "{\"name\":\"new\",\"size_bytes\":2097152}"},
	{"create --ext4", API_POST, "/v1/images",
	 "{\"name\":\"new\",\"size_bytes\":2097152,\"ext4\":true}"},
	{"import", API_POST, "/v1/images", NULL},
	{"clone", API_POST, "/v1/nodes",
	 "{\"name\":\"new\",\"base\":\"base\",\"data_bytes\":1048576}"},
	{"rename image", API_POST, "/v1/images/base/rename", "{\"name\":\"other\"}"},
	{"rename node", API_POST, "/v1/nodes/pi-01/rename", "{\"name\":\"pi-99\"}"},
	{"rm node", API_DELETE, "/v1/nodes/pi-01", ""},
	{"rm image", API_DELETE, "/v1/images/unused", ""},
	/* Its catalogue is taken away before; steps are those of the rebuilding. */
	{"rebuild", API_GET, NULL, NULL},
};

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void shell(const char *format, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(command, sizeof(command), format, ap);
	va_end(ap);
	if (system(command) != 0)
		fail("command:", command);
}

/* The operation in a child that dies at `step`; whether it got that far. */
static bool in_child(const struct operation *op, unsigned step, bool dies_in_start)
{
	char body[256];
	int status;
	pid_t pid;

	(void)snprintf(body, sizeof(body), "{\"name\":\"new\",\"path\":\"%s/file\",\"force\":true}",
		       dir);
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		die_at(dies_in_start ? step : 0);
		world_open();
		die_at(dies_in_start ? 0 : step);
		if (op)
			act(op->method, op->path, op->body ? op->body : body);
		die_at(0);
		world_close();
		exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != EXIT_AT_STEP))
		fail("the child ended badly", "");
	return WEXITSTATUS(status) == EXIT_AT_STEP;
}

static void look(char *text)
{
	die_at(0);
	world_open();
	describe(text);
	world_close();
}

/* A copy of the prepared state, so that all rounds begin alike. */
static void begin_round(void)
{
	shell("rm -rf %s/state %s/run", dir, dir);
	shell("cp -a %s/prepared %s/state && mkdir %s/run", dir, dir, dir);
}

static unsigned run_operation(const struct operation *op)
{
	static char old_state[STATE_BYTES], new_state[STATE_BYTES], now[STATE_BYTES];
	bool rebuild = !op->path;
	unsigned kills = 0;

	where = op->name;
	keeps_secrets = !rebuild;
	begin_round();
	look(old_state);
	if (rebuild)
		memcpy(new_state, old_state, sizeof(new_state));
	else
		(void)in_child(op, 0, false);
	if (!rebuild)
		look(new_state);
	for (unsigned step = 1; step < STEPS_MAX; step++) {
		for (unsigned again = 0; again < STEPS_MAX; again++) {
			bool died, died_again = false;

			where_step = step;
			where_again = again;
			begin_round();
			if (rebuild)
				shell("rm -f %s/state/catalog.db*", dir);
			died = in_child(rebuild ? NULL : op, step, rebuild);
			if (again > 0)
				died_again = in_child(NULL, again, true);
			kills += died + died_again;
			look(now);
			if (strcmp(now, old_state) != 0 && strcmp(now, new_state) != 0)
				fail("neither the old state nor the new one:", now);
			else if (!died && strcmp(now, new_state) != 0)
				fail("done, but not there:", now);
			if (!died)
				return kills;
			if (again > 0 && !died_again)
				break;
		}
	}
	fail("more steps than expected", "");
	return 0;
}

static void prepare(void)
{
	static const char *const bodies[][2] = {
		{"/v1/images", "{\"name\":\"base\",\"size_bytes\":1048576}"},
		{"/v1/images", "{\"name\":\"unused\",\"size_bytes\":1048576}"},
		{"/v1/nodes", "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}"},
		{"/v1/nodes", "{\"name\":\"pi-02\",\"base\":\"base\"}"},
	};

	where = "prepare";
	(void)snprintf(dir, sizeof(dir), "/dev/shm/lunroot-crash.XXXXXX");
	if (!mkdtemp(dir))
		fail("mkdtemp", strerror(errno));
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
	(void)snprintf(run_dir, sizeof(run_dir), "%s/run", dir);
	if (mkdir(state_dir, 0750) < 0 || mkdir(run_dir, 0750) < 0)
		fail("mkdir", strerror(errno));
	shell("head -c 1048576 /dev/urandom >%s/file", dir);
	world_open();
	for (size_t i = 0; i < ARRAY_COUNT(bodies); i++)
		act(API_POST, bodies[i][0], bodies[i][1]);
	world_close();
	shell("mv %s/state %s/prepared", dir, dir);
}

int main(void)
{
	unsigned kills = 0;

	log_init("catalogue_crash", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN);
	prepare();
	for (size_t i = 0; i < ARRAY_COUNT(operations); i++) {
		unsigned n = run_operation(&operations[i]);

		printf("%s: good after %u deaths\n", operations[i].name, n);
		kills += n;
	}
	shell("rm -rf %s", dir);
	printf("catalogue_crash: %u deaths, always the old state or the new one\n", kills);
	return 0;
}
