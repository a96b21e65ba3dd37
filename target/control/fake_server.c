/*
 * An iSCSI side for this room's tests: a list of targets, answers through the mailbox as the real
 * one gives them, and sessions that a test claims are there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/fake.h"
#include "session/server.h"

struct server *fake_server_new(struct mailbox *mailbox)
{
	struct server *server = calloc(1, sizeof(*server));

	if (server)
		server->mailbox = mailbox;
	return server;
}

static void free_disks(const struct server_unit *units, unsigned unit_count)
{
	for (unsigned u = 0; u < unit_count; u++)
		units[u].disk->ops->free(units[u].disk);
}

static void target_drop(struct server *server, unsigned i)
{
	struct fake_target *target = &server->targets[i];

	if (!target->held)
		free_disks(target->units, target->unit_count);
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
	server_unit_cb unit_cb;
	bool read;
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
		stats.units = &answer->server->unit;
		stats.unit_count = answer->server->unit_count;
		answer->stats_cb(answer->arg, &stats);
	} else if (answer->unit_cb) {
		answer->unit_cb(answer->arg, answer->res, &answer->server->state);
	} else {
		answer->server->reads_at_once -= answer->read;
		answer->cb(answer->arg, answer->res);
	}
	free(answer);
}

static struct answer *answer_post(struct server *server, server_cb cb, server_stats_cb stats_cb,
				  void *arg, int res)
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
	return answer;
}

void server_target_add(struct server *server, struct target_conf *conf,
		       const struct server_unit *units, unsigned unit_count, server_cb cb,
		       void *arg)
{
	struct fake_target *target = &server->targets[server->target_count];

	target->conf = conf;
	target->unit_count = unit_count;
	target->held = false;
	memcpy(target->units, units, unit_count * sizeof(*units));
	server->target_count++;
	if (server->add_fails < 0)
		target_drop(server, server->target_count - 1);
	(void)answer_post(server, cb, NULL, arg, server->add_fails);
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
		(void)answer_post(server, cb, NULL, arg, server->remove_fails);
		return;
	}
	(void)answer_post(server, cb, NULL, arg, -ENOENT);
}

static struct fake_target *find_by_uuid(struct server *server, const uint8_t uuid[16])
{
	for (unsigned i = 0; i < server->target_count; i++) {
		if (memcmp(server->targets[i].conf->uuid, uuid, 16) == 0)
			return &server->targets[i];
	}
	return NULL;
}

void server_target_hold(struct server *server, const uint8_t uuid[16], bool unused, server_cb cb,
			void *arg)
{
	struct fake_target *target = find_by_uuid(server, uuid);
	bool in_use = server->session_count > 0 && memcmp(server->session.target_uuid, uuid,
							  sizeof(server->session.target_uuid)) == 0;
	int res = server->hold_fails;

	if (!target)
		res = -ENOENT;
	else if (target->held || (unused && in_use))
		res = -EBUSY;
	if (res == 0) {
		free_disks(target->units, target->unit_count);
		target->held = true;
		server->holds++;
	}
	(void)answer_post(server, cb, NULL, arg, res);
}

static bool same_luns(const struct fake_target *target, const struct server_unit *units,
		      unsigned unit_count)
{
	uint32_t had = 0, has = 0;

	for (unsigned i = 0; i < target->unit_count; i++)
		had |= 1u << target->units[i].lun;
	for (unsigned i = 0; i < unit_count; i++)
		has |= 1u << units[i].lun;
	return unit_count == target->unit_count && had == has;
}

void server_target_resume(struct server *server, const uint8_t uuid[16],
			  const struct server_unit *units, unsigned unit_count, server_cb cb,
			  void *arg)
{
	struct fake_target *target = find_by_uuid(server, uuid);
	int res = server->resume_fails;

	if (!target)
		res = -ENOENT;
	else if (!target->held || !same_luns(target, units, unit_count))
		res = -EINVAL;
	if (res == 0) {
		memcpy(target->units, units, unit_count * sizeof(*units));
		target->held = false;
		server->resumes++;
	} else {
		free_disks(units, unit_count);
	}
	(void)answer_post(server, cb, NULL, arg, res);
}

void server_stats(struct server *server, server_stats_cb cb, void *arg)
{
	(void)answer_post(server, NULL, cb, arg, 0);
}

void server_target_update(struct server *server, struct target_conf *conf, server_cb cb, void *arg)
{
	struct fake_target *target = find_by_uuid(server, conf->uuid);

	if (target) {
		target_conf_unref(target->conf);
		target->conf = conf;
		server->updates++;
	} else {
		target_conf_unref(conf);
	}
	(void)answer_post(server, cb, NULL, arg, target ? 0 : -ENOENT);
}

void server_watch(struct server *server, const struct server_watch *watch)
{
	server->watch = watch ? *watch : (struct server_watch){0};
}

/* --- reading --- */

uint8_t fake_byte(uint8_t lun, uint64_t offset)
{
	return (uint8_t)(offset / 512 * 3 + offset + lun);
}

static void answer_read(struct server *server, server_cb cb, void *arg, int res)
{
	answer_post(server, cb, NULL, arg, res)->read = true;
	server->reads++;
	if (++server->reads_at_once > server->reads_at_once_max)
		server->reads_at_once_max = server->reads_at_once;
}

void server_read(struct server *server, const uint8_t uuid[16], uint8_t lun, uint64_t offset_bytes,
		 void *data, uint64_t bytes, server_cb cb, void *arg)
{
	if (offset_bytes % 512 || bytes % 512 || bytes == 0 || bytes > LIMIT_DATA_BYTES + 1024)
		abort();
	for (uint64_t i = 0; i < bytes; i++)
		((uint8_t *)data)[i] = fake_byte(lun, offset_bytes + i);
	answer_read(server, cb, arg, find_by_uuid(server, uuid) ? server->read_fails : -ENOENT);
}

void server_read_file(struct server *server, int fd, uint64_t offset_bytes, void *data,
		      uint64_t bytes, server_cb cb, void *arg)
{
	ssize_t n = pread(fd, data, bytes, (off_t)offset_bytes);

	answer_read(server, cb, arg, n == (ssize_t)bytes ? server->read_fails : -EIO);
}

void server_unit_look(struct server *server, const uint8_t uuid[16], uint8_t lun, server_unit_cb cb,
		      void *arg)
{
	bool there = find_by_uuid(server, uuid) != NULL;

	server->state.unit.lun = lun;
	answer_post(server, NULL, NULL, arg, there ? 0 : -ENOENT)->unit_cb = cb;
}
