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

static json_t *reply_time(int64_t when)
{
	time_t t = (time_t)when;
	char text[32] = "";
	struct tm tm;

	if (gmtime_r(&t, &tm))
		(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	return json_string(text);
}

static json_t *reply_uuid(const store_uuid_t *uuid)
{
	char text[STORE_UUID_TEXT_BYTES];

	store_uuid_format(uuid, text);
	return json_string(text);
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* Text from files and peers may be no UTF-8; then it is not shown. */
static json_t *text_of(const char *text)
{
	json_t *value = json_string(text);

	return value ? value : json_string("?");
}

json_t *reply_version(struct control *control)
{
	json_t *portals = json_array();

	for (unsigned i = 0; i < control->portal_count; i++)
		json_array_append_new(portals, text_of(control->portals[i]));
	return json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:b}", "version", LUNROOT_VERSION, "api",
			 1, "pid", (int)getpid(), "portals", portals, "state_dir",
			 text_of(control->state_dir), "run_dir", text_of(control->run_dir),
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
			 text_of(image->content), "created", reply_time(image->created), "nodes",
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

static json_t *reply_lun(struct control *control, const struct node *node, const struct lun *lun,
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
		"owned_blocks", (json_int_t)s.owned_blocks, "no_space", (int)s.no_space, "failed",
		(int)s.failed);
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
			 text_of(s->initiator), "address", text_of(s->address), "connected_ms",
			 (json_int_t)s->connected_ms, "commands", (json_int_t)s->commands,
			 "read_bytes", (json_int_t)s->read_bytes, "written_bytes",
			 (json_int_t)s->written_bytes, "header_digest", (int)s->header_digest,
			 "data_digest", (int)s->data_digest);
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

json_t *reply_node(struct control *control, const struct node *node,
		   const struct server_stats *stats, bool secrets)
{
	const struct image *base = image_find_uuid(control, &node->image_uuid);
	json_t *sessions = reply_sessions(node, stats);
	const char *state = node_state(node, json_array_size(sessions));
	json_t *body = json_pack(
		"{s:s, s:o, s:o, s:o, s:s?, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b, s:s, s:s, s:o,"
		" s:o, s:o}",
		"name", node->name, "uuid", reply_uuid(&node->uuid), "iqn",
		json_sprintf("%s%s", IQN_PREFIX, node->name), "initiator",
		node->auth ? json_sprintf("%s%s", INITIATOR_PREFIX, node->name) : json_string(""),
		"base", base ? base->name : NULL, "created", reply_time(node->created), "serial",
		text_of(node->serial), "mac", text_of(node->mac), "hostname",
		text_of(node->hostname), "auth", (int)node->auth, "shared", (int)node->shared,
		"read_only", (int)node->read_only, "removable", (int)node->removable, "durability",
		node->scratch ? "scratch" : "strict", "state", state, "message",
		text_of(node->message), "luns", reply_luns(control, node, stats), "sessions",
		sessions);

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
	json_t *nodes = json_array();

	for (unsigned i = 0; i < control->node_count; i++)
		json_array_append_new(nodes, reply_node_stats(control, control->nodes[i], stats));
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:o}",
			 "connections_accepted", (json_int_t)stats->connections_accepted,
			 "connections_open", (json_int_t)stats->connections_open, "logins_ok",
			 (json_int_t)stats->logins_ok, "logins_refused",
			 (json_int_t)stats->logins_refused, "protocol_errors",
			 (json_int_t)stats->protocol_errors, "commands",
			 (json_int_t)stats->commands, "read_bytes", (json_int_t)stats->read_bytes,
			 "written_bytes", (json_int_t)stats->written_bytes, "images",
			 (int)control->image_count, "nodes", nodes);
}

json_t *reply_error(const struct api_error *err)
{
	return json_pack("{s:{s:s, s:o, s:o}}", "error", "code", err->code, "message",
			 text_of(err->message), "cure", text_of(err->cure));
}

static const char *phase_name(enum job_phase phase)
{
	switch (phase) {
	case PHASE_READING: return "reading";
	case PHASE_FORMATTING: return "formatting";
	case PHASE_SEALING: return "sealing";
	}
	return "";
}

static json_t *job_message(const struct job *job)
{
	const char *phase = phase_name((enum job_phase)atomic_load(&job->phase));
	const char *kind = job->kind == JOB_IMPORT ? "import" : "creation";

	if (job->state == JOB_FAILED)
		return text_of(job->error.message);
	if (job->state == JOB_DONE)
		return json_sprintf("image %s is ready: %s", job->name, job->image.content);
	return json_sprintf("%s of %s: %s%s%s", kind, job->name, phase, job->path[0] ? " " : "",
			    job->path);
}

json_t *reply_job(const struct job *job)
{
	static const char *const states[] = {
		[JOB_RUNNING] = "running", [JOB_DONE] = "done", [JOB_FAILED] = "failed"};
	json_t *message = job_message(job);
	json_t *body = json_pack("{s:o, s:s, s:s, s:s, s:I, s:I, s:o}", "id",
				 json_sprintf("%llu", (unsigned long long)job->id), "kind",
				 job->kind == JOB_IMPORT ? "import" : "create", "state",
				 states[job->state], "phase",
				 phase_name((enum job_phase)atomic_load(&job->phase)), "done_bytes",
				 (json_int_t)atomic_load(&job->done_bytes), "total_bytes",
				 (json_int_t)atomic_load(&job->total_bytes), "message",
				 message ? message : json_string(""));

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

static bool is_loopback(const char *portal)
{
	return strncmp(portal, "127.", 4) == 0 || strncmp(portal, "[::1]", 5) == 0;
}

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
		if (!is_loopback(control->portals[i])) {
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
