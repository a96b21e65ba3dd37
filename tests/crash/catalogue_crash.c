/*
 * Ends the control plane at every step of every operation, as kill -9 would, and again at every
 * step of the start-up that follows; then what is there must be the old state or the new one, all
 * of it served, and no file more or less than the catalogue says, and each disk and snapshot must
 * read as it did. Real store and catalogue, a fake iSCSI side.
 *
 * usage: catalogue_crash [--once] [OPERATION...]
 *   --once     no death is followed by another one
 *   OPERATION  only these
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "control/control_internal.h"
#include "control/fake.h"
#include "ring/ring.h"

#define EXIT_AT_STEP 77
#define STEPS_MAX    64
#define STATE_BYTES  16384
#define CHAINS_MAX   32
#define OPERATION_MS 20000
#define KEEP_S       1000000
#define TRASH_MAX    8

static char dir[64], state_dir[96], run_dir[96];

static struct world {
	struct mailbox mailbox;
	struct event_base *base;
	struct server *server;
	struct control *control;
} w;

/* What the world that is opened next keeps removed things for. */
static int64_t trash_s = KEEP_S;

static bool once;
static const char *where = "";
static unsigned where_step, where_again;

static void fail(const char *what, const char *detail)
{
	char command[80];

	fprintf(stderr, "FAILED: %s killed at step %u, start-up at step %u: %s %s\n", where,
		where_step, where_again, what, detail);
	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (once && dir[0]) /* a mutant: nobody looks at what it has left */
		(void)!system(command);
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
		.trash_s = trash_s,
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

/* "/v1/trash/@NAME/undo": NAME's newest in the trash. */
static void trash_path(const char *pattern, char path[160])
{
	const char *at = strchr(pattern, '@'), *after = at + strcspn(at, "/");
	char uuid[STORE_UUID_TEXT_BYTES] = "";

	list_for_each (pos, &w.control->trash) {
		const struct trash *trash = LIST_ENTRY(pos, struct trash, entry);
		const char *name = trash->node ? trash->node->name : trash->image->name;

		if (strlen(name) == (size_t)(after - at - 1) &&
		    memcmp(name, at + 1, strlen(name)) == 0)
			store_uuid_format(trash->node ? &trash->node->uuid : &trash->image->uuid,
					  uuid);
	}
	if (uuid[0] == '\0')
		fail("not in the trash:", pattern);
	(void)snprintf(path, 160, "%.*s%s%s", (int)(at - pattern), pattern, uuid, after);
}

static void act(enum api_method method, const char *pattern, const char *body)
{
	char path[160];
	const char *query = strchr(pattern, '?');
	struct answer a = {.request = {.reply = on_reply, .drop = on_drop}};
	struct api_error err = {0};
	struct api_call parsed;
	char *text;

	if (strchr(pattern, '@'))
		trash_path(pattern, path);
	else
		(void)snprintf(path, sizeof(path), "%.*s", (int)strcspn(pattern, "?"), pattern);
	if (request_parse(method, path, query ? query + 1 : NULL, body, strlen(body), &parsed,
			  &err) < 0)
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

/* The first login of the boot that pi-01 was given last, as the server asks about it. */
static void log_in(void)
{
	const struct node *node = node_find(w.control, "pi-01");
	struct server_login login = {.by_boot = true};

	memcpy(login.target_uuid, node->uuid.b, sizeof(login.target_uuid));
	boot_id_bytes(node->boots[node->boot_count - 1].id, login.boot_id);
	if (w.server->watch.record(w.server->watch.arg, &login) < 0)
		fail("a login is refused", "");
	mailbox_run(&w.mailbox);
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
		if (entry->d_name[0] == '.' && strncmp(entry->d_name, PREFIX_TRASH, 7) != 0)
			fail("left over:", entry->d_name);
		count++;
	}
	if (stream)
		closedir(stream);
	if (count != expected)
		fail("number of files in", sub);
}

static bool is_map_of(const char *file, const struct node *node)
{
	char uuid[STORE_UUID_TEXT_BYTES];

	for (unsigned j = 0; j < node->lun_count; j++) {
		const struct lun *lun = &node->luns[j];

		store_uuid_format(&lun->layers[lun->layer_count - 1].uuid, uuid);
		if (strstr(file, uuid))
			return true;
	}
	return false;
}

/* Live maps of layers that are gone. */
static void expect_no_stale_maps(void)
{
	const struct dirent *entry;
	DIR *stream = opendir(run_dir);

	while (stream && (entry = readdir(stream))) {
		const char *name = entry->d_name;
		bool known = name[0] == '.' || strcmp(name, "control.sock") == 0;

		for (unsigned i = 0; i < w.control->node_count && !known; i++)
			known = is_map_of(name, w.control->nodes[i]);
		list_for_each (pos, &w.control->trash) {
			const struct node *node = LIST_ENTRY(pos, struct trash, entry)->node;

			known |= node && is_map_of(name, node);
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

/* What every disk and snapshot reads as is looked at when nobody has them open. */
static struct {
	char what[160];
	struct job_chain chain;
} chains[CHAINS_MAX];
static unsigned chain_count;

static void add_chains(const struct node *node, const struct lun *lun)
{
	struct store_error err = {""};

	for (unsigned k = 0; k < lun->layer_count; k++) {
		const struct layer *layer = &lun->layers[k];
		bool top = k + 1 == lun->layer_count;

		if (!top && layer->snapshot[0] == '\0')
			continue; /* history: nobody can tell */
		if (chain_count == CHAINS_MAX)
			fail("too many chains", "");
		(void)snprintf(chains[chain_count].what, sizeof(chains[0].what), "%s/%u%s%s",
			       node->name, (unsigned)lun->number, top ? "" : "@", layer->snapshot);
		if (lun_chain(w.control, node, lun, k + 1, &chains[chain_count].chain, &err) < 0)
			fail("chain:", err.text);
		chain_count++;
	}
}

static void add_contents(char *text)
{
	static uint8_t data[1 << 20];
	char path[128], sum[256];

	(void)snprintf(path, sizeof(path), "%s/copy", dir);
	for (unsigned i = 0; i < chain_count; i++) {
		struct store_chain *chain = &chains[i].chain.store;
		int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		struct store_error err = {""};
		uint32_t crc = 0;
		off_t bytes;

		/* The store's name for it may differ between two states: it only looks. */
		for (unsigned k = 0; k < chain->layer_count; k++)
			chain->layer_paths[k] = chains[i].chain.layers[k];
		if (chain->image_path)
			chain->image_path = chains[i].chain.image;
		chain->run_dir = run_dir;
		chain->read_only = true;
		if (fd < 0 || store_copy(chain, fd, NULL, &err) < 0)
			fail("can't be read:", err.text);
		bytes = lseek(fd, 0, SEEK_END);
		for (off_t at = 0; at < bytes; at += (off_t)sizeof(data)) {
			size_t part = (size_t)(bytes - at) < sizeof(data) ? (size_t)(bytes - at)
									  : sizeof(data);

			if (pread_all(fd, data, part, (uint64_t)at) < 0)
				fail("can't be read:", path);
			crc = crc32c(crc, data, part);
		}
		(void)close(fd);
		(void)snprintf(sum, sizeof(sum), "%s: %lld bytes, %08x", chains[i].what,
			       (long long)bytes, crc);
		add(text, "content", sum);
	}
}

static unsigned describe_layers(const struct node *node)
{
	const char *prefix = node->removed ? PREFIX_TRASH : "";
	char path[PATH_BYTES];
	unsigned layers = 0;

	for (unsigned j = 0; j < node->lun_count; j++) {
		for (unsigned k = 0; k < node->luns[j].layer_count; k++, layers++) {
			layer_path(w.control, prefix, &node->luns[j].layers[k].uuid, path);
			if (access(path, R_OK) < 0)
				fail("missing:", path);
		}
	}
	return layers;
}

static void describe_image_files(const struct image *image)
{
	char path[PATH_BYTES + 8], name[IMAGE_FILE_BYTES];

	image_file_name(image, name);
	image_path(w.control, image->removed ? PREFIX_TRASH : "", name, path);
	if (access(path, R_OK) < 0)
		fail("missing:", path);
	strcat(path, ".json");
	if (access(path, R_OK) < 0)
		fail("missing:", path);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

/* Returns the images in it; adds up the layers. Sorted, since a rebuilt catalogue has another
 * order. */
static unsigned describe_trash(char *text, unsigned *layers)
{
	char lines[TRASH_MAX][256], uuid[STORE_UUID_TEXT_BYTES];
	unsigned images = 0, count = 0;

	list_for_each (pos, &w.control->trash) {
		const struct trash *trash = LIST_ENTRY(pos, struct trash, entry);
		const struct node *node = trash->node;

		if (count == TRASH_MAX)
			fail("too much trash", "");
		store_uuid_format(node ? &node->uuid : &trash->image->uuid, uuid);
		(void)snprintf(lines[count++], sizeof(lines[0]), "%s %s with %s secret %s",
			       node ? "node" : "image", node ? node->name : trash->image->name,
			       uuid, node && keeps_secrets ? node->cred.secret : "");
		if (node && fake_target_find(w.server, node->name) &&
		    !node_find(w.control, node->name))
			fail("served from the trash:", node->name);
		if (node)
			*layers += describe_layers(node);
		else
			describe_image_files(trash->image);
		images += !node;
	}
	qsort(lines, count, sizeof(lines[0]), by_text);
	for (unsigned i = 0; i < count; i++)
		add(text, "trash:", lines[i]);
	return images;
}

/* In the catalogue and in what the server has of the node; secrets that are made anew differ. */
static void describe_boots(char *text, const struct node *node)
{
	const struct fake_target *target = fake_target_find(w.server, node->name);
	uint8_t id[LIMIT_BOOT_ID_BYTES];

	if (!keeps_secrets)
		return;
	if (!target || target->conf->boot_count != node->boot_count)
		fail("the server has other credentials of boots:", node->name);
	for (unsigned i = 0; i < node->boot_count; i++) {
		boot_id_bytes(node->boots[i].id, id);
		if (!target_conf_boot(target->conf, id))
			fail("the server does not know the boot", node->boots[i].id);
		add(text, node->boots[i].used ? "boot in use" : "boot", node->boots[i].id);
	}
}

/* Everything that a user could tell apart, and that all of it is whole. */
static void describe(char *text)
{
	char uuid[STORE_UUID_TEXT_BYTES];
	unsigned layers = 0, images;

	text[0] = '\0';
	chain_count = 0;
	for (unsigned i = 0; i < w.control->image_count; i++) {
		const struct image *image = w.control->images[i];

		add(text, "image", image->name);
		store_uuid_format(&image->uuid, uuid);
		/* What is made anew has a new UUID; what was there keeps it. */
		if (strcmp(image->name, "new") != 0)
			add(text, "with", uuid);
		describe_image_files(image);
	}
	for (unsigned i = 0; i < w.control->node_count; i++) {
		const struct node *node = w.control->nodes[i];

		add(text, "node", node->name);
		add(text, "user", node->cred.user);
		add(text, "image", node_is_flat(node) ? "none" : "some");
		store_uuid_format(&node->uuid, uuid);
		if (strcmp(node->name, "new") != 0) {
			add(text, "with", uuid);
			if (keeps_secrets)
				add(text, "secret", node->cred.secret);
		}
		add(text, "serial", node->serial);
		add(text, "mac", node->mac);
		describe_boots(text, node);
		if (node->damaged || !fake_target_find(w.server, node->name))
			fail("not served:", node->message);
		layers += describe_layers(node);
		for (unsigned j = 0; j < node->lun_count; j++)
			add_chains(node, &node->luns[j]);
	}
	images = w.control->image_count + describe_trash(text, &layers);
	expect_files("images", 2 * images);
	expect_files("layers", layers);
	expect_no_stale_maps();
}

/* --- operations --- */

#define REBUILD "rebuild"
#define EXPIRY  "expiry"
#define LOGIN   "login of a boot"

static const struct action {
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
	{"boot", API_POST, "/v1/nodes/pi-01/boots", "{\"boot\":\"00000000000000bb\"}"},
	{LOGIN, API_POST, "", NULL},
	{"assign", API_POST, "/v1/nodes/pi-01/identity",
	 "{\"serial\":\"abcdef01\",\"mac\":\"dc:a6:32:01:02:03\"}"},
	{"rename node", API_POST, "/v1/nodes/pi-01/rename", "{\"name\":\"pi-99\"}"},
	{"rm node --now", API_DELETE, "/v1/nodes/pi-01?now=1", ""},
	{"rm image --now", API_DELETE, "/v1/images/unused?now=1", ""},
	{"rm node", API_DELETE, "/v1/nodes/pi-01", ""},
	{"rm image", API_DELETE, "/v1/images/unused", ""},
	{"snapshot", API_POST, "/v1/nodes/pi-03/snapshots", "{\"name\":\"three\"}"},
	{"rm snapshot", API_DELETE, "/v1/nodes/pi-03/snapshots/one", ""},
	{"rollback", API_POST, "/v1/nodes/pi-03/rollback", "{\"snapshot\":\"two\"}"},
	{"rollback --force", API_POST, "/v1/nodes/pi-03/rollback",
	 "{\"snapshot\":\"one\",\"force\":true}"},
	{"reset", API_POST, "/v1/nodes/pi-04/reset", ""},
	{"resize", API_POST, "/v1/nodes/pi-04/resize", "{\"size_bytes\":3145728}"},
	{"flatten", API_POST, "/v1/nodes/pi-04/flatten", ""},
	{"promote", API_POST, "/v1/nodes/pi-04/promote", "{\"image\":\"new\"}"},
	{"undo node", API_POST, "/v1/trash/@gone/undo", "{}"},
	{"undo node with another name", API_POST, "/v1/trash/@gone/undo", "{\"name\":\"back\"}"},
	{"undo image", API_POST, "/v1/trash/@waste/undo", "{}"},
	{"undo image with another name", API_POST, "/v1/trash/@waste/undo", "{\"name\":\"back\"}"},
	{"rm --trash node", API_DELETE, "/v1/trash/@gone", ""},
	{"rm --trash image", API_DELETE, "/v1/trash/@waste", ""},
	/* These happen in a start: the catalogue was taken away before, or the trash's time is
	   over. */
	{REBUILD, API_GET, NULL, NULL},
	{EXPIRY, API_GET, NULL, NULL},
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
static bool in_child(const struct action *op, unsigned step, bool dies_in_start)
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
		if (op && strcmp(op->name, LOGIN) == 0)
			log_in();
		else if (op)
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
	while (jobs_running()) /* merges go on by themselves */
		mailbox_wait();
	describe(text);
	world_close();
	add_contents(text);
}

/* A copy of the prepared state, so that all rounds begin alike. */
static void begin_round(void)
{
	shell("rm -rf %s/state %s/run", dir, dir);
	shell("cp -a %s/prepared %s/state && mkdir %s/run", dir, dir, dir);
}

/* In a hurry, only some of the deaths are followed by another one. */
static unsigned again_max(unsigned step)
{
	const char *mode = getenv("LUNROOT_CHECK");

	if (once)
		return 1;
	return mode && strcmp(mode, "quick") == 0 && step % 5 != 1 ? 1 : STEPS_MAX;
}

static unsigned run_operation(const struct action *op)
{
	static char old_state[STATE_BYTES], new_state[STATE_BYTES], now[STATE_BYTES];
	bool in_start = !op->path, rebuild = strcmp(op->name, REBUILD) == 0;
	unsigned kills = 0;

	where = op->name;
	keeps_secrets = !rebuild;
	begin_round();
	look(old_state);
	if (!in_start)
		(void)in_child(op, 0, false);
	trash_s = strcmp(op->name, EXPIRY) == 0 ? 1 : KEEP_S;
	look(new_state); /* a rebuilt one has nothing new */
	for (unsigned step = 1; step < STEPS_MAX; step++) {
		for (unsigned again = 0; again < again_max(step); again++) {
			bool died, died_again = false;

			where_step = step;
			where_again = again;
			begin_round();
			if (rebuild)
				shell("rm -f %s/state/catalog.db*", dir);
			died = in_child(in_start ? NULL : op, step, in_start);
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

/* --- what nodes have written --- */

static struct writer {
	struct mailbox_msg begin;
	struct ring *ring;
	struct store_disk *disk;
	struct store_io io;
	bool flushed;
} writer;

static void on_closed(void *arg, int res)
{
	(void)arg;
	if (res < 0)
		fail("close:", strerror(-res));
	ring_stop(writer.ring);
}

static void on_written(struct store_io *io, int res)
{
	(void)io;
	if (res < 0)
		fail("write:", strerror(-res));
	writer.disk->ops->detach(writer.disk, on_closed, NULL);
}

static void on_begin(struct mailbox_msg *msg)
{
	(void)msg;
	if (store_attach(writer.disk, writer.ring) < 0)
		fail("attach", "");
	store_submit(writer.disk, &writer.io);
}

/* Fills some blocks of the node's disk, as it would. */
static void write_to(const char *name, unsigned lun_index, unsigned block, unsigned count)
{
	const struct ring_config config = {.name = "writer"};
	static struct job_chain chain;
	static uint8_t data[64 * STORE_BLOCK_BYTES];
	const struct node *node;
	struct store_error err = {""};

	world_open();
	node = node_find(w.control, name);
	if (lun_chain(w.control, node, &node->luns[lun_index], node->luns[lun_index].layer_count,
		      &chain, &err) < 0)
		fail("chain:", err.text);
	world_close();
	chain.store.run_dir = run_dir;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)((unsigned)i * 31 + block * 7 + (unsigned)(i >> 12));
	if (store_open(&chain.store, &writer.disk, &err) < 0 || ring_new(&config, &writer.ring) < 0)
		fail("open:", err.text);
	writer.begin.run = on_begin;
	writer.io = (struct store_io){
		.op = STORE_WRITE,
		.offset_bytes = (uint64_t)block * STORE_BLOCK_BYTES,
		.length_bytes = (uint64_t)count * STORE_BLOCK_BYTES,
		.data = data,
		.done = on_written,
	};
	ring_post(writer.ring, &writer.begin);
	if (ring_run(writer.ring) < 0)
		fail("ring", "");
	writer.disk->ops->free(writer.disk);
	ring_free(writer.ring);
}

static void act_once(enum api_method method, const char *path, const char *body)
{
	world_open();
	act(method, path, body);
	world_close();
}

/* pi-03: snapshots one and two with what was written before, between and after; pi-04: none. */
static void prepare_life(void)
{
	write_to("pi-03", 0, 1, 20);
	write_to("pi-03", 1, 0, 4);
	act_once(API_POST, "/v1/nodes/pi-03/snapshots", "{\"name\":\"one\"}");
	write_to("pi-03", 0, 10, 20);
	act_once(API_POST, "/v1/nodes/pi-03/snapshots", "{\"name\":\"two\"}");
	write_to("pi-03", 0, 15, 3);
	write_to("pi-03", 1, 2, 4);
	write_to("pi-04", 0, 5, 5);
	write_to("pi-04", 1, 6, 5);
}

static void prepare(void)
{
	static const char *const bodies[][2] = {
		{"/v1/images", NULL},
		{"/v1/images", "{\"name\":\"unused\",\"size_bytes\":1048576}"},
		{"/v1/nodes", "{\"name\":\"pi-01\",\"base\":\"base\",\"data_bytes\":1048576}"},
		{"/v1/nodes", "{\"name\":\"pi-02\",\"base\":\"base\"}"},
		{"/v1/nodes", "{\"name\":\"pi-03\",\"base\":\"base\",\"data_bytes\":1048576}"},
		{"/v1/nodes", "{\"name\":\"pi-04\",\"base\":\"base\",\"data_bytes\":1048576}"},
		{"/v1/images", "{\"name\":\"waste\",\"size_bytes\":1048576}"},
		{"/v1/nodes", "{\"name\":\"gone\",\"base\":\"base\",\"data_bytes\":1048576}"},
		{"/v1/nodes", "{\"name\":\"twice\",\"base\":\"base\"}"},
	};

	char import[160];

	where = "prepare";
	(void)snprintf(dir, sizeof(dir), "/dev/shm/lunroot-crash.XXXXXX");
	if (!mkdtemp(dir))
		fail("mkdtemp", strerror(errno));
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
	(void)snprintf(run_dir, sizeof(run_dir), "%s/run", dir);
	if (mkdir(state_dir, 0750) < 0 || mkdir(run_dir, 0750) < 0)
		fail("mkdir", strerror(errno));
	shell("head -c 1048576 /dev/urandom >%s/file", dir);
	(void)snprintf(import, sizeof(import),
		       "{\"name\":\"base\",\"path\":\"%s/file\",\"force\":true}", dir);
	world_open();
	for (size_t i = 0; i < ARRAY_COUNT(bodies); i++)
		act(API_POST, bodies[i][0], bodies[i][1] ? bodies[i][1] : import);
	act(API_DELETE, "/v1/nodes/gone", "");
	act(API_DELETE, "/v1/images/waste", "");
	/* Others have taken their names meanwhile. */
	act(API_DELETE, "/v1/nodes/twice", "");
	act(API_POST, "/v1/nodes", "{\"name\":\"twice\",\"base\":\"base\"}");
	/* One is in use; two have been issued after it. */
	act(API_POST, "/v1/nodes/pi-01/boots", "{\"boot\":\"0000000000000001\"}");
	log_in();
	act(API_POST, "/v1/nodes/pi-01/boots", "{\"boot\":\"0000000000000002\"}");
	act(API_POST, "/v1/nodes/pi-01/boots", "{\"boot\":\"0000000000000003\"}");
	world_close();
	prepare_life();
	sleep(2); /* so that one second is over its time */
	shell("mv %s/state %s/prepared", dir, dir);
}

static bool named(const char *name, char **names, int count)
{
	for (int i = 0; i < count; i++) {
		if (strcmp(names[i], name) == 0)
			return true;
	}
	return false;
}

int main(int argc, char **argv)
{
	unsigned kills = 0;

	once = argc > 1 && strcmp(argv[1], "--once") == 0;
	argc -= 1 + once;
	argv += 1 + once;
	log_init("catalogue_crash", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN);
	prepare();
	for (size_t i = 0; i < ARRAY_COUNT(operations); i++) {
		unsigned n;

		if (argc > 0 && !named(operations[i].name, argv, argc))
			continue;
		n = run_operation(&operations[i]);
		printf("%s: good after %u deaths\n", operations[i].name, n);
		kills += n;
	}
	shell("rm -rf %s", dir);
	printf("catalogue_crash: %u deaths, always the old state or the new one\n", kills);
	return 0;
}
