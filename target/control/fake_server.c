/*
 * An iSCSI side for this room's tests: a list of targets, answers through the mailbox as the real
 * one gives them, and sessions that a test claims are there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/fake.h"
#include "session/server.h"

struct server *fake_server_new(struct mailbox *mailbox)
{
	struct server *server = calloc(1, sizeof(*server));

	if (server)
		server->mailbox = mailbox;
	return server;
}

static void target_drop(struct server *server, unsigned i)
{
	struct fake_target *target = &server->targets[i];

	for (unsigned u = 0; u < target->unit_count; u++)
		target->units[u].disk->ops->free(target->units[u].disk);
	target_conf_unref(target->conf);
	server->targets[i] = server->targets[--server->target_count];
}

void server_free(struct server *server)
{
	while (server && server->target_count > 0)
		target_drop(server, 0);
	free(server);
}

struct fake_target *fake_target_find(struct server *server, const char *name)
{
	for (unsigned i = 0; i < server->target_count; i++) {
		if (strcmp(server->targets[i].conf->alias, name) == 0)
			return &server->targets[i];
	}
	return NULL;
}

struct answer {
	struct mailbox_msg msg;
	server_cb cb;
	server_stats_cb stats_cb;
	struct server *server;
	void *arg;
	int res;
};

static void answer_run(struct mailbox_msg *msg)
{
	struct answer *answer = CONTAINER_OF(msg, struct answer, msg);
	struct server_stats stats = {0};

	if (answer->server->forgets) {
		free(answer);
		return;
	}
	if (answer->stats_cb) {
		stats.sessions = &answer->server->session;
		stats.session_count = answer->server->session_count;
		answer->stats_cb(answer->arg, &stats);
	} else if (answer->cb) {
		answer->cb(answer->arg, answer->res);
	}
	free(answer);
}

static void answer_post(struct server *server, server_cb cb, server_stats_cb stats_cb, void *arg,
			int res)
{
	struct answer *answer = calloc(1, sizeof(*answer));

	if (!answer)
		abort();
	*answer = (struct answer){
		.msg.run = answer_run,
		.cb = cb,
		.stats_cb = stats_cb,
		.server = server,
		.arg = arg,
		.res = res,
	};
	mailbox_post(server->mailbox, &answer->msg);
}

void server_target_add(struct server *server, struct target_conf *conf,
		       const struct server_unit *units, unsigned unit_count, server_cb cb,
		       void *arg)
{
	struct fake_target *target = &server->targets[server->target_count];

	target->conf = conf;
	target->unit_count = unit_count;
	memcpy(target->units, units, unit_count * sizeof(*units));
	server->target_count++;
	if (server->add_fails < 0)
		target_drop(server, server->target_count - 1);
	answer_post(server, cb, NULL, arg, server->add_fails);
}

void server_target_remove(struct server *server, const uint8_t uuid[16], bool force, server_cb cb,
			  void *arg)
{
	(void)force;
	for (unsigned i = 0; i < server->target_count; i++) {
		if (memcmp(server->targets[i].conf->uuid, uuid, 16) != 0)
			continue;
		if (server->remove_fails == 0)
			target_drop(server, i);
		answer_post(server, cb, NULL, arg, server->remove_fails);
		return;
	}
	answer_post(server, cb, NULL, arg, -ENOENT);
}

void server_stats(struct server *server, server_stats_cb cb, void *arg)
{
	answer_post(server, NULL, cb, arg, 0);
}
