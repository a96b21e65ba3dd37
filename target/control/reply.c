/*
 * Objects as JSON, as docs/api.md says. jansson's functions accept NULL for what could not be
 * allocated; http.c answers 500 if a whole body is missing.
 */
#include "control/control_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/portal.h"

json_t *reply_time(int64_t when)
{
	time_t t = (time_t)when;
	char text[32] = "";
	struct tm tm;

	if (gmtime_r(&t, &tm))
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(text);
}

json_t *reply_time_ms(int64_t when_ms)
{
	time_t t = (time_t)(when_ms / 1000);
	char text[32] = "", whole[48];
	struct tm tm;

	if (gmtime_r(&t, &tm))
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(whole, sizeof(whole), "%s.%03dZ", text, (int)(when_ms % 1000));
	return json_string(whole);
}

json_t *reply_uuid(const store_uuid_t *uuid)
{
	char text[STORE_UUID_TEXT_BYTES];

	store_uuid_format(uuid, text);
	return json_string(text);
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

json_t *reply_text(const char *text)
{
	json_t *value = json_string(text);

	return value ? value : json_string("?");
}

json_t *reply_version(struct control *control)
{
	json_t *portals = json_array();

	for (unsigned i = 0; i < control->portal_count; i++)
		json_array_append_new(portals, reply_text(control->portals[i]));
	return json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:b}", "version", LUNROOT_VERSION, "api",
			 1, "pid", (int)getpid(), "portals", portals, "state_dir",
			 reply_text(control->state_dir), "run_dir", reply_text(control->run_dir),
			 "write_through", (int)control->write_through);
}

json_t *reply_image(struct control *control, const struct image *image)
{
	json_t *nodes = json_array();
	char path[PATH_BYTES];

	for (unsigned i = 0; i < control->node_count; i++) {
		if (memcmp(&control->nodes[i]->image_uuid, &image->uuid, sizeof(image->uuid)) == 0)
			json_array_append_new(nodes, json_string(control->nodes[i]->name));
	}
	image_path(control, "", image->name, path);
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name", image->name, "uuid",
			 reply_uuid(&image->uuid), "size_bytes", number(image->size_bytes),
			 "used_bytes", number(file_used_bytes(path)), "content",
			 reply_text(image->content), "created", reply_time(image->created), "nodes",
			 nodes);
}

json_t *reply_images(struct control *control)
{
	json_t *images = json_array();

	for (unsigned i = 0; i < control->image_count; i++)
		json_array_append_new(images, reply_image(control, control->images[i]));
	return json_pack("{s:o}", "images", images);
}

static bool is_node(const struct node *node, const uint8_t uuid[16])
{
	return memcmp(node->uuid.b, uuid, sizeof(node->uuid.b)) == 0;
}

json_t *reply_lun(struct control *control, const struct node *node, const struct lun *lun,
		  const struct server_stats *stats)
{
	struct store_stats s = {0};
	char path[PATH_BYTES];
	uint64_t used = 0;

	for (unsigned i = 0; i < stats->unit_count; i++) {
		if (is_node(node, stats->units[i].target_uuid) &&
		    stats->units[i].lun == lun->number)
			s = stats->units[i].store;
	}
	for (unsigned i = 0; i < lun->layer_count; i++) {
		layer_path(control, "", &lun->layers[i].uuid, path);
		used += file_used_bytes(path);
	}
	return json_pack(
		"{s:i, s:o, s:I, s:I, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I,"
		" s:I, s:b, s:b}",
		"lun", (int)lun->number, "uuid", reply_uuid(&lun->uuid), "size_bytes",
		(json_int_t)lun->size_bytes, "used_bytes", (json_int_t)used, "layers",
		(int)lun->layer_count, "reads", (json_int_t)s.reads, "read_bytes",
		(json_int_t)s.read_bytes, "writes", (json_int_t)s.writes, "written_bytes",
		(json_int_t)s.written_bytes, "discards", (json_int_t)s.discards, "discarded_bytes",
		(json_int_t)s.discarded_bytes, "flushes", (json_int_t)s.flushes, "flush_rounds",
		(json_int_t)s.flush_rounds, "flush_us_total", (json_int_t)s.flush_us_total,
		"flush_us_max", (json_int_t)s.flush_us_max, "copy_ups", (json_int_t)s.copy_ups,
		"owned_blocks", (json_int_t)s.owned_blocks, "no_space",
		(int)space_is_awaited(control, node, stats, &s), "failed", (int)s.failed);
}

static json_t *reply_luns(struct control *control, const struct node *node,
			  const struct server_stats *stats)
{
	json_t *luns = json_array();

	for (unsigned i = 0; i < node->lun_count; i++)
		json_array_append_new(luns, reply_lun(control, node, &node->luns[i], stats));
	return luns;
}

static json_t *reply_session(const struct server_session_info *s)
{
	return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:b, s:b}", "initiator",
			 reply_text(s->initiator), "address", reply_text(s->address),
			 "connected_ms", (json_int_t)s->connected_ms, "commands",
			 (json_int_t)s->commands, "read_bytes", (json_int_t)s->read_bytes,
			 "written_bytes", (json_int_t)s->written_bytes, "header_digest",
			 (int)s->header_digest, "data_digest", (int)s->data_digest);
}

static json_t *reply_sessions(const struct node *node, const struct server_stats *stats)
{
	json_t *sessions = json_array();

	for (unsigned i = 0; i < stats->session_count; i++) {
		if (is_node(node, stats->sessions[i].target_uuid))
			json_array_append_new(sessions, reply_session(&stats->sessions[i]));
	}
	return sessions;
}

static json_t *reply_credentials(const struct node *node)
{
	const struct credentials *c = &node->cred;

	if (!node->auth)
		return json_null();
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "user", c->user, "secret", c->secret,
			 "operator_user", c->operator_user, "operator_secret", c->operator_secret,
			 "mutual_user", c->mutual_user, "mutual_secret", c->mutual_secret);
}

static const char *node_state(const struct node *node, size_t sessions)
{
	if (node->damaged)
		return "damaged";
	return sessions > 0 ? "in use" : "ready";
}

/* Snapshots of the node, oldest first: what their layers hold beyond those below. */
static json_t *reply_snapshots(struct control *control, const struct node *node)
{
	const struct lun *first = &node->luns[0];
	json_t *snapshots = json_array();
	char path[PATH_BYTES];

	for (unsigned k = 0; k < first->layer_count; k++) {
		const struct layer *layer = &first->layers[k];
		uint64_t used = 0;

		if (layer->snapshot[0] == '\0')
			continue;
		for (unsigned i = 0; i < node->lun_count; i++) {
			int place = lun_find_snapshot(&node->luns[i], layer->snapshot);

			if (place < 0)
				continue;
			layer_path(control, "", &node->luns[i].layers[place].uuid, path);
			used += file_used_bytes(path);
		}
		json_array_append_new(snapshots,
				      json_pack("{s:s, s:o, s:I}", "name", layer->snapshot,
						"created", reply_time(layer->created), "used_bytes",
						(json_int_t)used));
	}
	return snapshots;
}

json_t *reply_node(struct control *control, const struct node *node,
		   const struct server_stats *stats, bool secrets)
{
	const struct image *base = image_find_uuid(control, &node->image_uuid);
	json_t *sessions = reply_sessions(node, stats);
	const char *state = node_state(node, json_array_size(sessions));
	json_t *body = json_pack(
		"{s:s, s:o, s:o, s:o, s:s?, s:b, s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b, s:s, "
		"s:s,"
		" s:o, s:o, s:o, s:o, s:o}",
		"name", node->name, "uuid", reply_uuid(&node->uuid), "iqn",
		json_sprintf("%s%s", IQN_PREFIX, node->name), "initiator",
		node->auth ? json_sprintf("%s%s", INITIATOR_PREFIX, node->name) : json_string(""),
		"base", base ? base->name : NULL, "flat", (int)node_is_flat(node), "created",
		reply_time(node->created), "serial", reply_text(node->serial), "mac",
		reply_text(node->mac), "hostname", reply_text(node->hostname), "address",
		reply_text(node->address), "auth", (int)node->auth, "shared", (int)node->shared,
		"read_only", (int)node->read_only, "removable", (int)node->removable, "durability",
		node->scratch ? "scratch" : "strict", "state", state, "message",
		reply_text(node->message), "snapshots", reply_snapshots(control, node), "luns",
		reply_luns(control, node, stats), "sessions", sessions, "boot_credentials",
		reply_boot_credentials(node));

	if (secrets)
		json_object_set_new(body, "credentials", reply_credentials(node));
	return body;
}

json_t *reply_nodes(struct control *control, const struct server_stats *stats)
{
	json_t *nodes = json_array();

	for (unsigned i = 0; i < control->node_count; i++)
		json_array_append_new(nodes, reply_node(control, control->nodes[i], stats, false));
	return json_pack("{s:o}", "nodes", nodes);
}

static json_t *reply_node_stats(struct control *control, const struct node *node,
				const struct server_stats *stats)
{
	json_int_t commands = 0, read_bytes = 0, written_bytes = 0, sessions = 0;

	for (unsigned i = 0; i < stats->session_count; i++) {
		const struct server_session_info *s = &stats->sessions[i];

		if (!is_node(node, s->target_uuid))
			continue;
		sessions++;
		commands += (json_int_t)s->commands;
		read_bytes += (json_int_t)s->read_bytes;
		written_bytes += (json_int_t)s->written_bytes;
	}
	return json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o}", "name", node->name, "state",
			 node_state(node, (size_t)sessions), "commands", commands, "read_bytes",
			 read_bytes, "written_bytes", written_bytes, "sessions", sessions, "luns",
			 reply_luns(control, node, stats));
}

json_t *reply_stats(struct control *control, const struct server_stats *stats)
{
	json_t *nodes = json_array(), *health = reply_health(control, stats), *body;

	for (unsigned i = 0; i < control->node_count; i++)
		json_array_append_new(nodes, reply_node_stats(control, control->nodes[i], stats));
	body = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o}",
			 "connections_accepted", (json_int_t)stats->connections_accepted,
			 "connections_open", (json_int_t)stats->connections_open, "logins_ok",
			 (json_int_t)stats->logins_ok, "logins_refused",
			 (json_int_t)stats->logins_refused, "protocol_errors",
			 (json_int_t)stats->protocol_errors, "commands",
			 (json_int_t)stats->commands, "read_bytes", (json_int_t)stats->read_bytes,
			 "written_bytes", (json_int_t)stats->written_bytes, "images",
			 (int)control->image_count, "nodes", nodes);
	(void)json_object_update(body, health);
	json_decref(health);
	return body;
}

json_t *reply_error(const struct api_error *err)
{
	return json_pack("{s:{s:s, s:o, s:o}}", "error", "code", err->code, "message",
			 reply_text(err->message), "cure", reply_text(err->cure));
}

static const char *phase_name(enum job_phase phase)
{
	switch (phase) {
	case PHASE_READING: return "reading";
	case PHASE_FORMATTING: return "formatting";
	case PHASE_SEALING: return "sealing";
	case PHASE_MERGING: return "merging";
	case PHASE_WAITING: return "waiting";
	case PHASE_COPYING: return "copying";
	case PHASE_CHECKING: return "checking";
	}
	return "";
}

static const char *kind_name(enum job_kind kind)
{
	switch (kind) {
	case JOB_IMPORT: return "import";
	case JOB_CREATE: return "create";
	case JOB_PROMOTE: return "promote";
	case JOB_FLATTEN: return "flatten";
	case JOB_EXPORT: return "export";
	case JOB_MERGE: return "merge";
	case JOB_CHECK: return "check";
	}
	return "";
}

static json_t *job_message_done(const struct job *job)
{
	switch (job->kind) {
	case JOB_IMPORT:
	case JOB_CREATE:
	case JOB_PROMOTE:
		return json_sprintf("image %s is ready: %s", job->name, job->image.content);
	case JOB_FLATTEN: return json_sprintf("node %s stands on no image any more", job->name);
	case JOB_EXPORT: return json_sprintf("node %s is exported", job->name);
	case JOB_MERGE: return json_sprintf("layers of node %s are merged", job->name);
	case JOB_CHECK: return json_string("all that was asked for is checked");
	}
	return NULL;
}

static json_t *job_message(const struct job *job)
{
	const char *phase = phase_name((enum job_phase)atomic_load(&job->phase));

	if (job->state == JOB_FAILED)
		return reply_text(job->error.message);
	if (job->state == JOB_DONE)
		return job_message_done(job);
	if (job->kind == JOB_PROMOTE)
		return json_sprintf("promotion of %s to %s: %s", job->node_name, job->name, phase);
	if (job->kind == JOB_CHECK)
		return json_sprintf("check of %s: %s", job->name[0] ? job->name : "everything",
				    phase);
	return json_sprintf("%s of %s: %s%s%s",
			    job->kind == JOB_CREATE ? "creation" : kind_name(job->kind), job->name,
			    phase, job->kind == JOB_IMPORT ? " " : "",
			    job->kind == JOB_IMPORT ? job->path : "");
}

json_t *reply_job(const struct job *job)
{
	static const char *const states[] = {
		[JOB_RUNNING] = "running", [JOB_DONE] = "done", [JOB_FAILED] = "failed"};
	json_t *message = job_message(job);
	json_t *body = json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:o}", "id",
				 json_sprintf("%llu", (unsigned long long)job->id), "kind",
				 kind_name(job->kind), "state", states[job->state], "phase",
				 phase_name((enum job_phase)atomic_load(&job->phase)), "done_bytes",
				 (json_int_t)atomic_load(&job->done_bytes), "total_bytes",
				 (json_int_t)atomic_load(&job->total_bytes), "message",
				 message ? message : json_string(""));

	if (job->kind == JOB_EXPORT && job->state == JOB_RUNNING) {
		json_object_set_new(body, "socket", reply_text(job->path));
		json_object_set_new(body, "size_bytes", number(job->size_bytes));
	}
	if (job->state == JOB_FAILED) {
		json_t *error = reply_error(&job->error);

		json_object_set(body, "error", json_object_get(error, "error"));
		json_decref(error);
	} else if (job->state == JOB_DONE && job->result_json) {
		json_object_set(body, "result", job->result_json);
	}
	return body;
}

/* --- URLs --- */

/* Whether an interface's address is one that others can reach, as text. */
static bool usable_address(const struct ifaddrs *i, int family, char *text, size_t bytes)
{
	const struct sockaddr_in6 *six = (const void *)i->ifa_addr;
	const struct sockaddr_in *four = (const void *)i->ifa_addr;
	char plain[INET6_ADDRSTRLEN]; /* and brackets */

	if (!i->ifa_addr || i->ifa_addr->sa_family != family || !(i->ifa_flags & IFF_UP) ||
	    (i->ifa_flags & IFF_LOOPBACK))
		return false;
	if (family == AF_INET) {
		if ((ntohl(four->sin_addr.s_addr) >> 16) == 0xa9fe) /* 169.254: link-local */
			return false;
		return inet_ntop(family, &four->sin_addr, text, (socklen_t)bytes) != NULL;
	}
	if (IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr) ||
	    !inet_ntop(family, &six->sin6_addr, plain, sizeof(plain)))
		return false;
	(void)snprintf(text, bytes, "[%s]", plain);
	return true;
}

/* What stands for a wildcard in a URL. */
static void host_address(bool with_ipv6, char *text, size_t bytes)
{
	const int families[] = {AF_INET, AF_INET6};
	struct ifaddrs *list = NULL;
	bool found = false;

	if (getifaddrs(&list) == 0) {
		for (unsigned f = 0; f < (with_ipv6 ? 2u : 1u) && !found; f++) {
			for (struct ifaddrs *i = list; i && !found; i = i->ifa_next)
				found = usable_address(i, families[f], text, bytes);
		}
		freeifaddrs(list);
	}
	if (!found)
		(void)snprintf(text, bytes, "%s", with_ipv6 ? "[::1]" : "127.0.0.1");
}

static void url_portal(const struct control *control, char *text, size_t bytes)
{
	const char *portal = control->portals[0];
	char host[INET6_ADDRSTRLEN + 4];
	const char *port;
	bool six;

	for (unsigned i = 0; i < control->portal_count; i++) {
		if (!portal_is_loopback(control->portals[i])) {
			portal = control->portals[i];
			break;
		}
	}
	port = strrchr(portal, ':');
	six = strncmp(portal, "[::]", 4) == 0;
	if (!port || (!six && strncmp(portal, "0.0.0.0", 7) != 0)) {
		(void)snprintf(text, bytes, "%s", portal);
		return;
	}
	host_address(six, host, sizeof(host));
	(void)snprintf(text, bytes, "%s%s", host, port);
}

json_t *reply_portal(const struct control *control)
{
	char portal[LIMIT_ADDRESS_TEXT_BYTES + INET6_ADDRSTRLEN];

	url_portal(control, portal, sizeof(portal));
	return reply_text(portal);
}

int reply_url(struct control *control, const struct node *node, uint8_t lun, json_t **ret_body,
	      struct api_error *err)
{
	char portal[LIMIT_ADDRESS_TEXT_BYTES + INET6_ADDRSTRLEN],
		login[CHAP_USER_BYTES + SECRET_CHARS + 4] = "";
	bool found = false;

	for (unsigned i = 0; i < node->lun_count; i++)
		found |= node->luns[i].number == lun;
	if (!found)
		return api_error_set(err, 404, "not_found", "lunctl show lists its LUNs",
				     "node %s has no LUN %u", node->name, lun);
	url_portal(control, portal, sizeof(portal));
	/* Names and secrets are letters, digits and '-': nothing needs escaping. */
	if (node->auth)
		(void)snprintf(login, sizeof(login), "%s%%%s@", node->cred.operator_user,
			       node->cred.operator_secret);
	*ret_body = json_pack("{s:o, s:s}", "url",
			      json_sprintf("iscsi://%s%s/%s%s/%u", login, portal, IQN_PREFIX,
					   node->name, (unsigned)lun),
			      "portal", portal);
	return 0;
}
