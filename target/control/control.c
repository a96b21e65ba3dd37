/*
 * The control plane's start and end: the state directory with its lock, the catalogue, the
 * socket, and every node handed to the server.
 */
#include "control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "control/control_internal.h"

/* --- the state directory --- */

static int state_error(const char *path, int r, struct store_error *err)
{
	struct passwd *pw = getpwuid(geteuid());
	char user[64];

	if (pw)
		(void)snprintf(user, sizeof(user), "%s", pw->pw_name);
	else
		(void)snprintf(user, sizeof(user), "%u", (unsigned)geteuid());
	if (r == -ENOENT || r == -ENOTDIR)
		(void)snprintf(err->text, sizeof(err->text),
			       "state directory %.250s does not exist; make it for user %s, or "
			       "choose another with --state",
			       path, user);
	else if (r == -EROFS)
		(void)snprintf(err->text, sizeof(err->text),
			       "state directory %.250s is on a read-only file system; choose "
			       "another with --state",
			       path);
	else
		(void)snprintf(err->text, sizeof(err->text),
			       "state directory %.200s is not writable for user %s: %s; run chown "
			       "-R %s on it, or choose another with --state",
			       path, user, strerror(-r), user);
	return r;
}

static int lock_error(const char *dir, int fd, int r, struct store_error *err)
{
	char text[16] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (r != -EWOULDBLOCK)
		return state_error(dir, r, err);
	text[n > 0 ? strspn(text, "0123456789") : 0] = '\0';
	(void)snprintf(err->text, sizeof(err->text),
		       "state directory %.250s is in use by another lunrootd (pid %s); stop it, or "
		       "choose another with --state",
		       dir, text[0] ? text : "unknown");
	return -EBUSY;
}

/* The lock lives as long as the process; the number in it is for people. */
static int state_lock(struct control *control, struct store_error *err)
{
	char path[PATH_BYTES], text[16];
	int AUTO_CLOSE fd = -1;
	int bytes;

	(void)snprintf(path, sizeof(path), "%s/lock", control->state_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return state_error(control->state_dir, -errno, err);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return lock_error(control->state_dir, fd, -errno, err);
	bytes = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)bytes, 0) != bytes)
		log_debug("%s: %s", path, strerror(errno)); /* a full disk must not stop us */
	control->lock_fd = TAKE_FD(fd);
	return 0;
}

static int state_folder(struct control *control, const char *name, struct store_error *err)
{
	char path[PATH_BYTES];

	(void)snprintf(path, sizeof(path), "%s/%s", control->state_dir, name);
	if (mkdir(path, 0750) < 0 && errno != EEXIST)
		return state_error(control->state_dir, -errno, err);
	if (access(path, R_OK | W_OK | X_OK) < 0)
		return state_error(path, -errno, err);
	return 0;
}

static int state_open(struct control *control, struct store_error *err)
{
	char path[PATH_BYTES];
	bool fresh = false;
	struct stat st;
	int r;

	if (stat(control->state_dir, &st) < 0)
		return state_error(control->state_dir, -errno, err);
	if (!S_ISDIR(st.st_mode))
		return state_error(control->state_dir, -ENOTDIR, err);
	r = state_lock(control, err);
	if (r == 0)
		r = state_folder(control, "images", err);
	if (r == 0)
		r = state_folder(control, "layers", err);
	(void)snprintf(path, sizeof(path), "%s/catalog.db", control->state_dir);
	if (r == 0)
		r = catalog_open(path, &control->catalog, &fresh, err);
	/* The folders, the catalogue and its log (made when it was opened) must be there after a
	 * power loss. SQLite passes over such a failure. */
	if (r == 0 && !MUTANT(state_folder_unsynced)) {
		r = directory_sync(control->state_dir);
		if (r < 0)
			return state_error(control->state_dir, r, err);
	}
	if (r == 0)
		r = recover(control, fresh, err);
	if (r == 0)
		catalog_reserve(control->catalog);
	if (r == 0)
		r = boots_open(control);
	return r;
}

/* --- */

static int copy_config(struct control *control, const struct control_config *config,
		       struct store_error *err)
{
	control->server = config->server;
	control->mailbox = config->mailbox;
	control->base = config->base;
	control->lock_fd = -1;
	control->merge_bytes_per_s = config->merge_bytes_per_s;
	list_init(&control->jobs);
	list_init(&control->operations);
	list_init(&control->reads);
	list_init(&control->lent);
	list_init(&control->trash);
	if (strlen(config->state_dir) >= sizeof(control->state_dir) ||
	    strlen(config->run_dir) >= sizeof(control->run_dir)) {
		(void)snprintf(err->text, sizeof(err->text),
			       "the path of the state or runtime directory is too long; choose a "
			       "shorter one");
		return -ENAMETOOLONG;
	}
	(void)snprintf(control->state_dir, sizeof(control->state_dir), "%s", config->state_dir);
	(void)snprintf(control->run_dir, sizeof(control->run_dir), "%s", config->run_dir);
	control->reserve_percent = config->reserve_percent;
	control->reserve_bytes = config->reserve_bytes;
	control->trash_s = config->trash_s;
	control->portal_count = config->portal_count;
	for (unsigned i = 0; i < config->portal_count; i++)
		(void)snprintf(control->portals[i], sizeof(control->portals[i]), "%s",
			       config->portals[i]);
	return 0;
}

int control_new(const struct control_config *config, struct control **ret_control,
		struct store_error *err)
{
	struct control *control = calloc(1, sizeof(*control));
	char path[PATH_BYTES];
	int r;

	if (!control)
		return -ENOMEM;
	err->text[0] = '\0';
	r = copy_config(control, config, err);
	if (r == 0)
		r = state_open(control, err);
	if (r == 0)
		export_sweep(control->run_dir);
	(void)snprintf(path, sizeof(path), "%s/control.sock", config->run_dir);
	if (r == 0)
		r = http_new(control, config->socket_path ? config->socket_path : path,
			     &control->http, err);
	if (r == 0)
		r = space_start(control);
	if (r == 0)
		r = boot_cred_start(control);
	if (r < 0) {
		if (err->text[0] == '\0')
			(void)snprintf(err->text, sizeof(err->text), "control: %s", strerror(-r));
		control_free(control);
		return r;
	}
	control->write_through = !store_dir_is_tmpfs(control->run_dir);
	if (control->write_through)
		log_warn("runtime directory %s is not on tmpfs: every write is made durable before "
			 "it is acknowledged, which is slow; choose one on tmpfs with --run",
			 control->run_dir);
	merge_init(control);
	*ret_control = control;
	return 0;
}

/* --- serving --- */

/* One node's way to the server at start-up. */
struct serving {
	struct control *control;
	store_uuid_t uuid;
};

static void on_served(void *arg, int res)
{
	struct serving *serving = arg;

	for (unsigned i = 0; i < serving->control->node_count && res < 0; i++) {
		struct node *node = serving->control->nodes[i];

		if (memcmp(&node->uuid, &serving->uuid, sizeof(node->uuid)) != 0)
			continue;
		node_not_served(node, res);
		log_error("node %s: %s", node->name, node->message);
	}
	free(serving);
}

int control_serve_all(struct control *control)
{
	unsigned damaged = 0;

	for (unsigned i = 0; i < control->node_count; i++) {
		struct node *node = control->nodes[i];
		struct serving *serving = calloc(1, sizeof(*serving));

		if (!serving)
			return -ENOMEM;
		serving->control = control;
		serving->uuid = node->uuid;
		if (node_serve(control, node, on_served, serving) < 0) {
			free(serving);
			damaged++;
			log_error("node %s is not served: %s", node->name, node->message);
		}
	}
	log_info("%u images, %u nodes%s", control->image_count, control->node_count,
		 damaged ? ", some of them damaged" : "");
	merge_kick(control);
	return 0;
}

void control_stop(struct control *control)
{
	control->stopping = true;
	jobs_cancel(control);
}

void control_free(struct control *control)
{
	if (!control)
		return;
	merge_done(control);
	space_stop(control);
	boot_cred_stop(control);
	jobs_stop(control);
	operations_drop(control);
	data_drop(control);
	http_free(control->http);
	boots_close(control);
	json_decref(control->bootd);
	catalog_close(control->catalog);
	objects_free(control);
	trash_free(control);
	if (control->lock_fd >= 0)
		close(control->lock_fd);
	free(control);
}
