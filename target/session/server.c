/*
 * The control side: reactors and their threads, the directory of targets, and the messages that
 * carry the control plane's wishes to the reactor that owns a target and the answers back.
 *
 * The directory is under a mutex that only logins, discovery and the control thread take; the
 * data path never does. A target's entry is made before and removed after the target itself;
 * `ready` says whether a login may find it.
 */
#include "session/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "session/session_internal.h"

/* A stop's stages: commands may end, then connections are dropped, then we stop waiting. */
#define STOP_DROP_MS    1500
#define STOP_GIVE_UP_MS (LIMIT_STOP_MS - 500)

/* --- making --- */

static unsigned default_reactor_count(void)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	return cores < 1 ? 1 : (unsigned)cores;
}

static int reactor_init(struct server *server, unsigned index)
{
	struct reactor *reactor = &server->reactors[index];
	struct ring_config config = {.name = reactor->name};

	reactor->server = server;
	reactor->index = index;
	(void)snprintf(reactor->name, sizeof(reactor->name), "reactor-%u", index);
	list_init(&reactor->conns);
	list_init(&reactor->targets);
	pressure_init(reactor);
	return ring_new(&config, &reactor->ring);
}

int server_new(const struct server_config *config, struct server **ret_server)
{
	struct server *server = calloc(1, sizeof(*server));
	unsigned count = config->reactor_count;
	int r = 0;

	assert(config->control);
	if (!server)
		return -ENOMEM;
	server->config = *config;
	if (!server->config.ping_idle_ms)
		server->config.ping_idle_ms = LIMIT_PING_IDLE_MS;
	if (!server->config.login_timeout_ms)
		server->config.login_timeout_ms = LIMIT_LOGIN_TIMEOUT_MS;
	list_init(&server->entries);
	pthread_mutex_init(&server->mutex, NULL);
	if (count == 0)
		count = default_reactor_count();
	if (count > LIMIT_REACTORS)
		count = LIMIT_REACTORS;
	for (unsigned i = 0; i < count && r == 0; i++) {
		r = reactor_init(server, i);
		if (r == 0)
			server->reactor_count++;
	}
	if (r < 0) {
		server_free(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

int server_listen(struct server *server, const char *portal,
		  char ret_address[LIMIT_ADDRESS_TEXT_BYTES], struct store_error *err)
{
	assert(!server->started);
	return portal_listen(server, portal, ret_address, err);
}

struct start_msg {
	struct mailbox_msg msg;
	struct server *server;
	unsigned reactor;
};

/* From reactor to reactor, behind the targets that each was given before: who logs in first finds
 * them all. */
static void start_accepting(struct mailbox_msg *msg)
{
	struct start_msg *start = CONTAINER_OF(msg, struct start_msg, msg);

	if (start->reactor > 0) {
		start->reactor--;
		ring_post(start->server->reactors[start->reactor].ring, msg);
		return;
	}
	portals_start(start->server);
	free(start);
}

static void *reactor_thread(void *arg)
{
	struct reactor *reactor = arg;
	int r = ring_run(reactor->ring);

	if (r < 0)
		log_error("%s: %s", reactor->name, strerror(-r));
	return NULL;
}

int server_start(struct server *server)
{
	struct start_msg *start = calloc(1, sizeof(*start));

	if (!start)
		return -ENOMEM;
	for (unsigned i = 0; i < server->reactor_count; i++) {
		struct reactor *reactor = &server->reactors[i];
		int r = pthread_create(&reactor->thread, NULL, reactor_thread, reactor);

		if (r != 0) {
			free(start);
			return -r;
		}
		reactor->running = true;
	}
	server->started = true;
	start->server = server;
	start->msg.run = start_accepting;
	start->reactor = server->reactor_count - 1;
	ring_post(server->reactors[start->reactor].ring, &start->msg);
	return 0;
}

/* --- the directory --- */

static void entry_free(struct entry *entry)
{
	list_remove(&entry->node);
	target_conf_unref(entry->conf);
	free(entry);
}

static struct entry *entry_by_uuid(struct server *server, const uint8_t uuid[16])
{
	list_for_each (node, &server->entries) {
		struct entry *entry = LIST_ENTRY(node, struct entry, node);

		if (memcmp(entry->conf->uuid, uuid, 16) == 0)
			return entry;
	}
	return NULL;
}

static struct entry *entry_by_name(struct server *server, const char *name)
{
	list_for_each (node, &server->entries) {
		struct entry *entry = LIST_ENTRY(node, struct entry, node);

		if (strcmp(entry->conf->name, name) == 0)
			return entry;
	}
	return NULL;
}

struct reactor *server_reactor_of(struct server *server, const uint8_t uuid[16])
{
	struct entry *entry = entry_by_uuid(server, uuid);

	return entry ? entry->reactor : NULL;
}

struct target_conf *server_find_target(struct server *server, const char *name,
				       struct reactor **ret_reactor)
{
	struct target_conf *conf = NULL;
	struct entry *entry;

	pthread_mutex_lock(&server->mutex);
	entry = entry_by_name(server, name);
	if (entry && entry->ready) {
		conf = target_conf_ref(entry->conf);
		*ret_reactor = entry->reactor;
	}
	pthread_mutex_unlock(&server->mutex);
	return conf;
}

struct target_conf *server_find_chap_user(struct server *server, const char *chap_name)
{
	struct target_conf *conf = NULL;

	pthread_mutex_lock(&server->mutex);
	list_for_each (node, &server->entries) {
		const struct entry *entry = LIST_ENTRY(node, struct entry, node);

		if (!entry->ready || chap_name[0] == '\0' ||
		    (strcmp(entry->conf->in.name, chap_name) != 0 &&
		     strcmp(entry->conf->operator.name, chap_name) != 0))
			continue;
		conf = target_conf_ref(entry->conf);
		break;
	}
	pthread_mutex_unlock(&server->mutex);
	return conf;
}

void server_each_target(struct server *server,
			void (*each)(void *arg, const struct target_conf *conf), void *arg)
{
	pthread_mutex_lock(&server->mutex);
	list_for_each (node, &server->entries) {
		const struct entry *entry = LIST_ENTRY(node, struct entry, node);

		if (entry->ready)
			each(arg, entry->conf);
	}
	pthread_mutex_unlock(&server->mutex);
}

uint16_t server_next_tsih(struct server *server)
{
	uint16_t tsih;

	do
		tsih = (uint16_t)atomic_fetch_add(&server->next_tsih, 1);
	while (tsih == 0);
	return tsih;
}

static void entry_set_ready(struct server *server, struct entry *entry, bool ready)
{
	pthread_mutex_lock(&server->mutex);
	entry->ready = ready;
	pthread_mutex_unlock(&server->mutex);
}

/* --- requests about one target --- */

/* Goes to the target's reactor, and comes back to the control thread. */
struct request {
	struct mailbox_msg msg;
	struct server *server;
	struct reactor *reactor;
	struct entry *entry;
	struct target_conf *conf;
	uint8_t uuid[16]; /* hold, resume, remove: by then the entry may be gone */
	server_cb cb;
	void *arg;
	int res;
	bool force, unused;
	bool drop_entry; /* at the end */
	unsigned unit_count;
	struct server_unit units[];
};

static struct request *request_new(struct server *server, unsigned unit_count, server_cb cb,
				   void *arg)
{
	struct request *request =
		calloc(1, sizeof(*request) + unit_count * sizeof(struct server_unit));

	if (!request)
		return NULL;
	request->server = server;
	request->cb = cb;
	request->arg = arg;
	request->unit_count = unit_count;
	return request;
}

static void request_finish(struct mailbox_msg *msg)
{
	struct request *request = CONTAINER_OF(msg, struct request, msg);
	server_cb cb = request->cb;
	void *arg = request->arg;
	int res = request->res;

	if (request->drop_entry) {
		request->entry->reactor->target_count--;
		pthread_mutex_lock(&request->server->mutex);
		entry_free(request->entry);
		pthread_mutex_unlock(&request->server->mutex);
	}
	target_conf_unref(request->conf);
	free(request);
	cb(arg, res);
}

static void request_answer(struct request *request, int res)
{
	request->res = res;
	request->msg.run = request_finish;
	mailbox_post(request->server->config.control, &request->msg);
}

static void request_send(struct request *request, void (*run)(struct mailbox_msg *msg))
{
	request->msg.run = run;
	ring_post(request->reactor->ring, &request->msg);
}

static void add_undone(void *arg, int res)
{
	struct request *request = arg;

	(void)res; /* the first error counts */
	request_answer(request, request->res);
}

static void add_run(struct mailbox_msg *msg)
{
	struct request *request = CONTAINER_OF(msg, struct request, msg);
	struct target *target = NULL;
	int r = target_new(request->reactor, request->conf, request->units, request->unit_count,
			   &target);

	if (r == 0) {
		if (request->reactor->stopping) {
			r = -ESHUTDOWN;
		} else {
			entry_set_ready(request->server, request->entry, true);
			log_debug("%s: served", request->conf->name);
			request_answer(request, 0);
			return;
		}
	}
	request->drop_entry = true;
	request->res = r;
	if (target)
		target_close(target, add_undone, request);
	else
		request_answer(request, r);
}

static struct reactor *least_loaded(struct server *server)
{
	struct reactor *best = &server->reactors[0];

	for (unsigned i = 1; i < server->reactor_count; i++) {
		if (server->reactors[i].target_count < best->target_count)
			best = &server->reactors[i];
	}
	return best;
}

static bool luns_differ(const struct server_unit *units, unsigned unit_count)
{
	uint32_t seen = 0;

	for (unsigned i = 0; i < unit_count; i++) {
		if (units[i].lun >= LIMIT_LUNS_PER_NODE || seen & 1u << units[i].lun)
			return false;
		seen |= 1u << units[i].lun;
	}
	return true;
}

/* Without memory for the answer's message it comes at once. */
static void add_failed(struct request *request, int res, const struct server_unit *units,
		       unsigned unit_count, struct target_conf *conf, server_cb cb, void *arg)
{
	units_free(units, unit_count);
	target_conf_unref(conf);
	if (request)
		request_answer(request, res);
	else
		cb(arg, res);
}

void server_target_add(struct server *server, struct target_conf *conf,
		       const struct server_unit *units, unsigned unit_count, server_cb cb,
		       void *arg)
{
	struct request *request = request_new(server, unit_count, cb, arg);
	struct entry *entry = calloc(1, sizeof(*entry));
	bool taken;

	if (!request || !entry) {
		free(entry);
		add_failed(request, -ENOMEM, units, unit_count, conf, cb, arg);
		return;
	}
	taken = entry_by_name(server, conf->name) || entry_by_uuid(server, conf->uuid);
	if (taken || !luns_differ(units, unit_count)) {
		free(entry);
		add_failed(request, taken ? -EEXIST : -EINVAL, units, unit_count, conf, cb, arg);
		return;
	}
	entry->conf = target_conf_ref(conf);
	entry->reactor = least_loaded(server);
	entry->reactor->target_count++;
	pthread_mutex_lock(&server->mutex);
	list_append(&server->entries, &entry->node);
	pthread_mutex_unlock(&server->mutex);
	request->entry = entry;
	request->reactor = entry->reactor;
	request->conf = conf;
	if (unit_count)
		memcpy(request->units, units, unit_count * sizeof(*units));
	request_send(request, add_run);
}

static void update_run(struct mailbox_msg *msg)
{
	struct request *request = CONTAINER_OF(msg, struct request, msg);
	struct target *target = target_find(request->reactor, request->conf->uuid);

	if (target) {
		struct target_conf *old = target->conf;

		target->conf = target_conf_ref(request->conf);
		target_conf_unref(old);
	}
	request_answer(request, target ? 0 : -ENOENT);
}

void server_target_update(struct server *server, struct target_conf *conf, server_cb cb, void *arg)
{
	struct request *request = request_new(server, 0, cb, arg);
	struct entry *entry = entry_by_uuid(server, conf->uuid);
	struct target_conf *old;

	if (!request) {
		target_conf_unref(conf);
		cb(arg, -ENOMEM);
		return;
	}
	request->conf = conf;
	if (!entry || strcmp(entry->conf->name, conf->name) != 0) {
		request_answer(request, -ENOENT);
		return;
	}
	pthread_mutex_lock(&server->mutex);
	old = entry->conf;
	entry->conf = target_conf_ref(conf);
	pthread_mutex_unlock(&server->mutex);
	target_conf_unref(old);
	request->reactor = entry->reactor;
	request_send(request, update_run);
}

static void remove_done(void *arg, int res)
{
	struct request *request = arg;

	request->drop_entry = true;
	request_answer(request, res);
}

static void remove_run(struct mailbox_msg *msg)
{
	struct request *request = CONTAINER_OF(msg, struct request, msg);
	struct target *target = target_find(request->reactor, request->uuid);

	if (!target || target->removing) {
		request_answer(request, -ENOENT);
		return;
	}
	if (target_has_sessions(target) && !request->force) {
		request_answer(request, -EBUSY);
		return;
	}
	entry_set_ready(request->server, request->entry, false);
	target_close(target, remove_done, request);
}

/* To the reactor of the target with that uuid, or the answer that there is none. */
static void request_send_to(struct request *request, const uint8_t uuid[16],
			    void (*run)(struct mailbox_msg *msg))
{
	request->entry = entry_by_uuid(request->server, uuid);
	memcpy(request->uuid, uuid, sizeof(request->uuid));
	if (!request->entry) {
		units_free(request->units, request->unit_count);
		request_answer(request, -ENOENT);
		return;
	}
	request->reactor = request->entry->reactor;
	request_send(request, run);
}

void server_target_remove(struct server *server, const uint8_t uuid[16], bool force, server_cb cb,
			  void *arg)
{
	struct request *request = request_new(server, 0, cb, arg);

	if (!request) {
		cb(arg, -ENOMEM);
		return;
	}
	request->force = force;
	request_send_to(request, uuid, remove_run);
}

static void hold_done(void *arg, int res)
{
	request_answer(arg, res);
}

static void hold_run(struct mailbox_msg *msg)
{
	struct request *request = CONTAINER_OF(msg, struct request, msg);
	struct target *target = target_find(request->reactor, request->uuid);

	if (target)
		target_hold(target, request->unused, hold_done, request);
	else
		request_answer(request, -ENOENT);
}

void server_target_hold(struct server *server, const uint8_t uuid[16], bool unused, server_cb cb,
			void *arg)
{
	struct request *request = request_new(server, 0, cb, arg);

	if (!request) {
		cb(arg, -ENOMEM);
		return;
	}
	request->unused = unused;
	request_send_to(request, uuid, hold_run);
}

static void resume_run(struct mailbox_msg *msg)
{
	struct request *request = CONTAINER_OF(msg, struct request, msg);
	struct target *target = target_find(request->reactor, request->uuid);

	if (target) {
		request_answer(request, target_resume(target, request->units, request->unit_count));
		return;
	}
	units_free(request->units, request->unit_count);
	request_answer(request, -ENOENT);
}

void server_target_resume(struct server *server, const uint8_t uuid[16],
			  const struct server_unit *units, unsigned unit_count, server_cb cb,
			  void *arg)
{
	struct request *request = request_new(server, unit_count, cb, arg);

	if (!request) {
		units_free(units, unit_count);
		cb(arg, -ENOMEM);
		return;
	}
	if (unit_count)
		memcpy(request->units, units, unit_count * sizeof(*units));
	request_send_to(request, uuid, resume_run);
}

/* --- statistics: one message that visits all reactors --- */

struct stats_request {
	struct mailbox_msg msg;
	struct server *server;
	unsigned index;
	unsigned session_room, unit_room;
	struct server_stats stats;
	server_stats_cb cb;
	void *arg;
};

/* Room for one more; false: no memory, and the snapshot has one less. */
static bool grow(void **array, unsigned count, unsigned *room, size_t each_bytes)
{
	unsigned more = *room ? 2 * *room : 16;
	void *p;

	if (count < *room)
		return true;
	p = reallocarray(*array, more, each_bytes);
	if (!p)
		return false;
	*array = p;
	*room = more;
	return true;
}

static void stats_session(struct stats_request *request, const struct session *session)
{
	struct server_stats *stats = &request->stats;
	const struct conn *conn = session->conn;
	struct server_session_info *info;

	stats->commands += session->commands;
	stats->read_bytes += session->bytes_read;
	stats->written_bytes += session->bytes_written;
	if (!conn_is_full(conn) || !grow((void **)&stats->sessions, stats->session_count,
					 &request->session_room, sizeof(*info)))
		return;
	info = &stats->sessions[stats->session_count++];
	memset(info, 0, sizeof(*info));
	memcpy(info->target_uuid, session->target->conf->uuid, sizeof(info->target_uuid));
	memcpy(info->initiator, session->initiator, sizeof(info->initiator));
	memcpy(info->address, conn->peer, sizeof(info->address));
	info->connected_ms = ring_now_ms(conn->reactor->ring) - conn->connected_ms;
	info->commands = session->commands;
	info->read_bytes = session->bytes_read;
	info->written_bytes = session->bytes_written;
	info->header_digest = conn->params.header_digest;
	info->data_digest = conn->params.data_digest;
}

static void stats_target(struct stats_request *request, struct target *target)
{
	struct server_stats *stats = &request->stats;

	list_for_each (node, &target->sessions)
		stats_session(request, LIST_ENTRY(node, struct session, node));
	if (target->closing_device)
		return;
	for (unsigned lun = 0; lun < LIMIT_LUNS_PER_NODE; lun++) {
		struct server_unit_info *info;

		/* Peripheral addressing: the number in the second byte (SAM-5, 4.7.3). */
		if (!scsi_device_has_unit(target->device, (uint64_t)lun << 48) ||
		    !grow((void **)&stats->units, stats->unit_count, &request->unit_room,
			  sizeof(*info)))
			continue;
		info = &stats->units[stats->unit_count++];
		memset(info, 0, sizeof(*info));
		memcpy(info->target_uuid, target->conf->uuid, sizeof(info->target_uuid));
		info->lun = (uint8_t)lun;
		scsi_device_stats(target->device, info->lun, &info->store);
	}
}

static void stats_finish(struct mailbox_msg *msg)
{
	struct stats_request *request = CONTAINER_OF(msg, struct stats_request, msg);

	request->cb(request->arg, &request->stats);
	free(request->stats.sessions);
	free(request->stats.units);
	free(request);
}

static void stats_run(struct mailbox_msg *msg)
{
	struct stats_request *request = CONTAINER_OF(msg, struct stats_request, msg);
	struct server *server = request->server;
	const struct reactor *reactor = &server->reactors[request->index];

	request->stats.commands += reactor->commands;
	request->stats.read_bytes += reactor->read_bytes;
	request->stats.written_bytes += reactor->written_bytes;
	list_for_each (node, &reactor->targets)
		stats_target(request, LIST_ENTRY(node, struct target, node));
	if (++request->index < server->reactor_count) {
		ring_post(server->reactors[request->index].ring, msg);
		return;
	}
	msg->run = stats_finish;
	mailbox_post(server->config.control, msg);
}

void server_stats(struct server *server, server_stats_cb cb, void *arg)
{
	struct stats_request *request = calloc(1, sizeof(*request));
	const struct server_stats nothing = {0};

	if (!request) {
		cb(arg, &nothing);
		return;
	}
	request->server = server;
	request->cb = cb;
	request->arg = arg;
	request->stats.connections_accepted = atomic_load(&server->accepted);
	request->stats.connections_open = atomic_load(&server->connections_open);
	request->stats.logins_ok = atomic_load(&server->logins_ok);
	request->stats.logins_refused = atomic_load(&server->logins_refused);
	request->stats.protocol_errors = atomic_load(&server->protocol_errors);
	request->msg.run = stats_run;
	ring_post(server->reactors[0].ring, &request->msg);
}

/* --- stopping --- */

static void stopped(struct mailbox_msg *msg)
{
	struct reactor *reactor = CONTAINER_OF(msg, struct reactor, stopped_msg);
	struct server *server = reactor->server;

	assert(server->stop_waiting > 0);
	if (--server->stop_waiting == 0)
		server->stopped(server->stopped_arg);
}

static void stop_end(struct reactor *reactor)
{
	if (reactor->stop_told)
		return;
	reactor->stop_told = true;
	ring_timer_cancel(reactor->ring, &reactor->stop_timer);
	reactor->stopped_msg.run = stopped;
	mailbox_post(reactor->server->config.control, &reactor->stopped_msg);
}

void reactor_check_stopped(struct reactor *reactor)
{
	if (reactor->stopping && list_empty(&reactor->conns) && list_empty(&reactor->targets) &&
	    reactor->file_read_count == 0)
		stop_end(reactor);
}

static void stop_timer_fire(struct ring_timer *timer)
{
	struct reactor *reactor = CONTAINER_OF(timer, struct reactor, stop_timer);

	if (reactor->stop_stage++ > 0) {
		log_warn("%s: not everything has ended in time", reactor->name);
		stop_end(reactor);
		return;
	}
	list_for_each (node, &reactor->conns)
		conn_step(LIST_ENTRY(node, struct conn, node), CONN_EV_KICKED);
	if (ring_timer_arm(reactor->ring, timer, STOP_GIVE_UP_MS - STOP_DROP_MS) < 0)
		stop_end(reactor);
}

static void target_stopped(void *arg, int res)
{
	(void)arg;
	(void)res; /* was logged */
}

static void stop_run(struct mailbox_msg *msg)
{
	struct reactor *reactor = CONTAINER_OF(msg, struct reactor, stop_msg);

	reactor->stopping = true;
	if (reactor->index == 0)
		portals_stop(reactor->server);
	ring_timer_init(&reactor->stop_timer, stop_timer_fire);
	if (ring_timer_arm(reactor->ring, &reactor->stop_timer, STOP_DROP_MS) < 0)
		log_error("%s: out of memory while stopping", reactor->name);
	list_for_each (node, &reactor->targets) {
		struct target *target = LIST_ENTRY(node, struct target, node);

		if (!target->removing)
			target_close(target, target_stopped, NULL);
	}
	list_for_each (node, &reactor->conns) {
		struct conn *conn = LIST_ENTRY(node, struct conn, node);

		conn->told = true;
		if (conn_is_full(conn))
			conn_step(conn, CONN_EV_LOGOUT);
		else if (conn->login)
			conn_step(conn, CONN_EV_KICKED);
	}
	reactor_check_stopped(reactor);
}

void server_stop(struct server *server, void (*done)(void *arg), void *arg)
{
	assert(server->started);
	server->stopped = done;
	server->stopped_arg = arg;
	server->stop_waiting = server->reactor_count;
	for (unsigned i = 0; i < server->reactor_count; i++) {
		server->reactors[i].stop_msg.run = stop_run;
		ring_post(server->reactors[i].ring, &server->reactors[i].stop_msg);
	}
}

static void quit_run(struct mailbox_msg *msg)
{
	ring_stop(CONTAINER_OF(msg, struct reactor, quit_msg)->ring);
}

void server_free(struct server *server)
{
	if (!server)
		return;
	for (unsigned i = 0; i < server->reactor_count; i++) {
		struct reactor *reactor = &server->reactors[i];

		if (!reactor->running)
			continue;
		reactor->quit_msg.run = quit_run;
		ring_post(reactor->ring, &reactor->quit_msg);
		pthread_join(reactor->thread, NULL);
	}
	for (unsigned i = 0; i < server->reactor_count; i++)
		ring_free(server->reactors[i].ring);
	for (unsigned i = 0; i < server->portal_count; i++)
		close(server->portals[i].fd);
	while (!list_empty(&server->entries))
		entry_free(LIST_ENTRY(server->entries.next, struct entry, node));
	pthread_mutex_destroy(&server->mutex);
	explicit_bzero(&server->config.discovery_chap, sizeof(server->config.discovery_chap));
	free(server);
}
