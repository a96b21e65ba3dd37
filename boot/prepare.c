/*
 * A boot's files and credentials, made by a worker:
 *
 *   what its disk holds now  |  the view of that: shared, or made  |  credentials of this boot  |
 * its own files
 *
 * The disk is asked what it holds before and after it is read: what was written meanwhile would be
 * half in the view. The credentials come last, so that a boot that fails spends none.
 */
#include "service_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/node_conf.h"
#include "base/portal.h"
#include "disk.h"

/* A disk that is written to all the time is somebody else's now: the Pi asks again. */
#define TRIES_MAX 3

struct prepare {
	struct work work;
	struct service *service;
	struct boot *boot; /* stays while `preparing`; not the worker's */
	struct boot_node node;
	struct pi_identity who;
	char id[BOOT_ID_BYTES], token[REPORT_TOKEN_BYTES];
	uint64_t begun_ms;
	struct view *shared;
	/* How this Pi reaches us: what is known of that, and what is chosen. */
	int ifindex;
	struct in_addr address, told;
	struct reach_portals portals;
	char local[INET_ADDRSTRLEN];
	char portal[LIMIT_ADDRESS_TEXT_BYTES]; /* "" as lunrootd says */
	/* What came of it. */
	int res;
	struct view *view;
	struct boot_error error;
	char said[LIMIT_ADDRESS_TEXT_BYTES + 64];
};

static int from_api(struct prepare *prepare, int r, const struct api_failure *failure)
{
	return boot_fail(&prepare->error, r, "%s", failure->text);
}

/* --- the disk through lunrootd --- */

struct lun {
	const char *socket_path;
	char target[API_TARGET_BYTES];
};

static int lun_read(void *arg, void *to, size_t bytes, uint64_t offset)
{
	struct lun *lun = arg;
	struct api_failure failure;
	int r = api_read(lun->socket_path, lun->target, to, bytes, offset, &failure);

	if (r < 0)
		log_debug("%s: %s", lun->target, failure.text);
	return r;
}

static int lun_open(struct prepare *prepare, uint64_t bytes, struct disk **ret_disk)
{
	static const struct disk_ops ops = {.read = lun_read, .free = free};
	struct lun *lun = calloc(1, sizeof(*lun));

	if (!lun)
		return -ENOMEM;
	lun->socket_path = prepare->service->options->socket_path;
	(void)snprintf(lun->target, sizeof(lun->target), "/v1/nodes/%s/luns/0/data",
		       prepare->node.name);
	*ret_disk = disk_new(&ops, lun, bytes);
	return *ret_disk ? 0 : -ENOMEM;
}

struct lun_state {
	char identity[VIEW_KEY_BYTES - 32]; /* equal ones mean equal content */
	char generation[128]; /* equal ones mean that nothing was written in between */
	uint64_t bytes;
};

static int lun_look(struct prepare *prepare, struct lun_state *ret_state)
{
	struct api_failure failure;
	char target[API_TARGET_BYTES];
	json_t *answer = NULL;
	int r;

	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/luns/0", prepare->node.name);
	r = api_call(prepare->service->options->socket_path, "GET", target, NULL, &answer,
		     &failure);
	if (r < 0)
		return from_api(prepare, r, &failure);
	(void)snprintf(ret_state->identity, sizeof(ret_state->identity), "%s",
		       api_text(answer, "identity"));
	(void)snprintf(ret_state->generation, sizeof(ret_state->generation), "%s",
		       api_text(answer, "generation"));
	ret_state->bytes = (uint64_t)json_integer_value(
		json_object_get(json_object_get(answer, "lun"), "size_bytes"));
	json_decref(answer);
	if (!ret_state->identity[0] || ret_state->bytes == 0)
		return boot_fail(&prepare->error, -EREMOTEIO,
				 "lunrootd does not say what the disk of %s holds; are lunbootd "
				 "and lunrootd of the same version?",
				 prepare->node.name);
	return 0;
}

/* --- the view --- */

struct making {
	struct prepare *prepare;
	const struct lun_state *state; /* before it is read */
};

static int make_view(void *arg, struct view **ret_view, struct boot_error *ret_error)
{
	struct making *making = arg;
	struct prepare *prepare = making->prepare;
	struct service *service = prepare->service;
	struct view_config config = service->view_config;
	struct disk *disk = NULL;
	struct lun_state after;
	int r;

	config.node = prepare->node.name;
	config.pi = &prepare->who;
	r = lun_open(prepare, making->state->bytes, &disk);
	if (r < 0)
		return boot_fail(ret_error, r, "out of memory");
	r = view_make(disk, &config, ret_view, ret_error);
	disk_free(disk);
	/* What was written meanwhile is half in it: nobody shall have that under this identity. */
	if (r == 0 && lun_look(prepare, &after) == 0 &&
	    strcmp(after.generation, making->state->generation) != 0) {
		view_unref(*ret_view);
		return boot_fail(ret_error, -EAGAIN,
				 "the disk of %s is written to while its boot files are read; is "
				 "another machine using it?",
				 prepare->node.name);
	}
	return r;
}

/*
 * Shared by all boots of this content, model and board revision; by one board alone, if the disk's
 * files name boards.
 */
static int get_view(struct prepare *prepare, const char *identity, struct making *making,
		    struct view **ret_view)
{
	const struct pi_identity *who = &prepare->who;
	struct views *views = prepare->service->views;
	char key[VIEW_KEY_BYTES];
	struct view *view;
	int r;

	(void)snprintf(key, sizeof(key), "%s|%d|%x", identity, (int)who->model, who->revision);
	r = views_get(views, key, make_view, making, &view, &prepare->error);
	if (r < 0)
		return r;
	if (!view_about(view)->by_serial) {
		*ret_view = view;
		return 0;
	}
	view_unref(view);
	(void)snprintf(key, sizeof(key), "%s|%d|%x|%08x", identity, (int)who->model, who->revision,
		       who->serial);
	return views_get(views, key, make_view, making, ret_view, &prepare->error);
}

static int find_view(struct prepare *prepare, struct view **ret_view)
{
	struct lun_state state;
	struct making making = {.prepare = prepare, .state = &state};
	int r = -EAGAIN;

	for (unsigned try = 0; r == -EAGAIN && try < TRIES_MAX; try++) {
		r = lun_look(prepare, &state);
		if (r == 0)
			r = get_view(prepare, state.identity, &making, ret_view);
		if (r == -ENOSPC) {
			views_forget(prepare->service->views);
			r = get_view(prepare, state.identity, &making, ret_view);
		}
	}
	return r;
}

/* --- what belongs to this boot alone --- */

static int write_settings(struct prepare *prepare, const json_t *answer, struct node_conf *conf)
{
	const json_t *credentials = json_object_get(answer, "credentials");
	const struct boot_node *node = &prepare->node;
	const char *portal = prepare->portal[0] ? prepare->portal : api_text(answer, "portal");
	char report[INET_ADDRSTRLEN + 8 + REPORT_TOKEN_BYTES];

	if (!portal[0] || portal_is_loopback(portal))
		return boot_fail(&prepare->error, -EADDRNOTAVAIL,
				 "lunrootd listens on a loopback address, which no Pi reaches; "
				 "start it with --portal ADDRESS, or lunbootd with --portal");
	(void)snprintf(report, sizeof(report), "%s:%llu/%s", prepare->local,
		       (unsigned long long)prepare->service->options->report_port, prepare->token);
	node_conf_put(conf, "portal", portal);
	node_conf_put(conf, "target", node->target);
	node_conf_put(conf, "initiator", node->initiator);
	node_conf_put(conf, "hostname", node->hostname[0] ? node->hostname : node->name);
	node_conf_put(conf, "user", api_text(credentials, "user"));
	node_conf_put(conf, "secret", api_text(credentials, "secret"));
	node_conf_put(conf, "mutual_user", api_text(credentials, "mutual_user"));
	node_conf_put(conf, "mutual_secret", api_text(credentials, "mutual_secret"));
	if (prepare->local[0])
		node_conf_put(conf, "report", report);
	(void)snprintf(prepare->said, sizeof(prepare->said), "portal %s", portal);
	return conf->bad ? boot_fail(&prepare->error, -EINVAL,
				     "what lunrootd says of %s makes no settings; are lunbootd and "
				     "lunrootd of the same version?",
				     node->name)
			 : 0;
}

/* "HOST", "HOST:PORT", "[IPv6]:PORT": how much of it is the host. */
static int split_portal(const char *portal, const char **ret_port)
{
	const char *bracket = strchr(portal, ']');
	const char *colon = strchr(bracket ? bracket : portal, ':');

	*ret_port = colon ? colon + 1 : "3260";
	return (int)(colon ? (size_t)(colon - portal) : strlen(portal));
}

/* What iPXE does with a node's disk: it starts from it, as from a disk of its own. */
static int make_script(struct prepare *prepare, const json_t *answer, char *script, size_t bytes)
{
	const json_t *credentials = json_object_get(answer, "credentials");
	const char *portal = prepare->portal[0] ? prepare->portal : api_text(answer, "portal");
	const char *port;
	int host_bytes = split_portal(portal, &port);
	int n = snprintf(script, bytes,
			 "#!ipxe\n"
			 "set initiator-iqn %s\n"
			 "set username %s\nset password %s\n"
			 "set reverse-username %s\nset reverse-password %s\n"
			 "sanboot iscsi:%.*s::%s:0:%s\n",
			 prepare->node.initiator, api_text(credentials, "user"),
			 api_text(credentials, "secret"), api_text(credentials, "mutual_user"),
			 api_text(credentials, "mutual_secret"), host_bytes, portal, port,
			 prepare->node.target);

	return n < 0 || (size_t)n >= bytes ? -ENAMETOOLONG : 0;
}

/* A PC has its script, and whatever files its disk has for it. */
static int make_pc(struct prepare *prepare, const json_t *answer)
{
	struct view *files = prepare->view;
	char script[2048];
	int r = make_script(prepare, answer, script, sizeof(script));

	prepare->view = NULL;
	if (r == 0)
		r = view_for_pc(files, script, &prepare->view);
	explicit_bzero(script, sizeof(script));
	view_unref(files);
	return r;
}

static int make_own(struct prepare *prepare, struct view *shared)
{
	struct node_conf conf = {.used = 0};
	struct api_failure failure;
	char target[API_TARGET_BYTES];
	json_t *answer = NULL;
	int r;

	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/boots", prepare->node.name);
	r = api_call(prepare->service->options->socket_path, "POST", target,
		     json_pack("{s:s}", "boot", prepare->id), &answer, &failure);
	if (r < 0)
		return from_api(prepare, r, &failure);
	r = write_settings(prepare, answer, &conf);
	if (r == 0) {
		if (shared)
			r = view_for_boot(shared, conf.text, &prepare->view);
		if (r == -ENOENT && prepare->who.model == PI_NONE) {
			/* Files, and no kernel among them. */
			prepare->view = view_ref(shared);
			r = 0;
		}
		if (r == 0 && prepare->who.model == PI_NONE)
			r = make_pc(prepare, answer);
		if (r < 0)
			(void)boot_fail(&prepare->error, r, "the files of %s: %s",
					prepare->node.name, strerror(-r));
	}
	explicit_bzero(&conf, sizeof(conf));
	json_decref(answer);
	return r;
}

/* The interface may have several networks, and lunrootd be in one of them. */
static void choose_way(struct prepare *prepare)
{
	struct dhcp_net net = reach_find(prepare->ifindex, prepare->address, prepare->told);

	if (net.address.s_addr)
		(void)inet_ntop(AF_INET, &net.address, prepare->local, sizeof(prepare->local));
	if (prepare->service->options->portal[0])
		(void)snprintf(prepare->portal, sizeof(prepare->portal), "%s",
			       prepare->service->options->portal);
	else
		reach_portal(&prepare->portals, &net, prepare->portal);
}

static void run_view(struct work *work)
{
	struct prepare *prepare = CONTAINER_OF(work, struct prepare, work);

	prepare->res = find_view(prepare, &prepare->shared);
}

static void run_own(struct work *work)
{
	struct prepare *prepare = CONTAINER_OF(work, struct prepare, work);

	choose_way(prepare);
	prepare->res = make_own(prepare, prepare->shared);
	view_unref(prepare->shared);
}

/* --- the event loop's part --- */

static void note_view(const struct prepare *prepare)
{
	const struct view_about *about = view_about(prepare->boot->view);

	boot_note(prepare->boot, "view", "%s%s%s%s%s%s%s; ready after %llu ms", about->kernel,
		  about->source[0] ? " from " : "", about->source,
		  about->kernel_version[0] ? ", Linux " : "", about->kernel_version,
		  about->kernel[0] ? "; " : "", prepare->said,
		  (unsigned long long)(now_ms() - prepare->begun_ms));
	for (size_t i = 0; i < about->note_count; i++)
		boot_note(prepare->boot, "view", "%s", about->notes[i]);
}

static void done(struct work *work)
{
	struct prepare *prepare = CONTAINER_OF(work, struct prepare, work);
	struct service *service = prepare->service;
	struct boot *boot = prepare->boot;

	boot->preparing = false;
	service_lunrootd(service, prepare->res != -ECONNREFUSED, prepare->error.text);
	if (prepare->res < 0) {
		boot->stage = BOOT_FAILED;
		(void)snprintf(boot->trouble, sizeof(boot->trouble), "%s", prepare->error.text);
		boot_note(boot, "trouble", "%s", prepare->error.text);
		if (prepare->res != -ECONNREFUSED)
			log_warn("%s can't boot: %s", boot->node, prepare->error.text);
	} else {
		boot->view = TAKE_PTR(prepare->view);
		boot->stage = BOOT_WAITING;
		note_view(prepare);
	}
	explicit_bzero(prepare, sizeof(*prepare));
	free(prepare);
	service_admit(service);
}

/* Where the Pi is; before it has an address, where it will have one. */
static void note_way(struct prepare *prepare)
{
	const struct service *service = prepare->service;
	const struct boot *boot = prepare->boot;
	const struct dhcp_client *client =
		service->dhcp ? dhcp_find_mac(service->dhcp, boot->who.mac) : NULL;

	prepare->ifindex = boot->ifindex;
	prepare->portals = service->portals;
	prepare->address = boot->address;
	if (client)
		prepare->told = client->local;
	if (!prepare->address.s_addr && client)
		prepare->address = client->address;
	if (!prepare->address.s_addr && service->options->known)
		prepare->address = service->options->pool_first.s_addr
					   ? service->options->pool_first
					   : prepare->node.address;
}

/* Its own files are made by what is known of it now: that takes no time, and a Pi may have got its
 * address while the view was made. */
static void on_viewed(struct work *work)
{
	struct prepare *prepare = CONTAINER_OF(work, struct prepare, work);

	/* A PC needs no kernel in our files: its disk may have a boot loader. */
	if (prepare->res < 0 && (prepare->who.model != PI_NONE || prepare->res == -ECONNREFUSED)) {
		done(work);
		return;
	}
	note_way(prepare);
	prepare->work.run = run_own;
	prepare->work.done = done;
	work_post_first(prepare->service->makers, &prepare->work);
}

void prepare_boot(struct service *service, struct boot *boot, const struct boot_node *node)
{
	struct prepare *prepare = calloc(1, sizeof(*prepare));

	if (!prepare) {
		boot->stage = BOOT_FAILED;
		return;
	}
	prepare->work = (struct work){.run = run_view, .done = on_viewed};
	prepare->service = service;
	prepare->boot = boot;
	prepare->node = *node;
	prepare->who = boot->who;
	prepare->begun_ms = now_ms();
	memcpy(prepare->id, boot->id, sizeof(prepare->id));
	memcpy(prepare->token, boot->token, sizeof(prepare->token));
	boot->preparing = true;
	/* A Pi up to the 3 asks for 25 seconds and never again; the others wait as long as it
	 * takes. */
	if (boot->who.model != PI_NONE && !pi_model_is_new(boot->who.model))
		work_post_first(service->makers, &prepare->work);
	else
		work_post(service->makers, &prepare->work);
}
