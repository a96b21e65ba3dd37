/*
 * Targets as their reactor has them: the SCSI device with its disks, and the sessions that use
 * it. Made and taken away by messages from the control plane.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/session_internal.h"
#include "store/gate.h"

struct target *target_find(struct reactor *reactor, const uint8_t uuid[16])
{
	list_for_each (node, &reactor->targets) {
		struct target *target = LIST_ENTRY(node, struct target, node);

		if (memcmp(target->conf->uuid, uuid, sizeof(target->conf->uuid)) == 0)
			return target;
	}
	return NULL;
}

bool target_has_sessions(const struct target *target)
{
	return !list_empty(&target->sessions);
}

void units_free(const struct server_unit *units, unsigned unit_count)
{
	for (unsigned i = 0; i < unit_count; i++)
		units[i].disk->ops->free(units[i].disk);
}

/* A disk that no unit has taken. */
static void disk_detached(void *arg, int res)
{
	struct store_disk *disk = arg;

	(void)res;
	disk->ops->free(disk);
}

static int add_unit(struct target *target, const struct server_unit *unit)
{
	struct scsi_unit_config config = {
		.lun = unit->lun,
		.uuid = unit->uuid,
		.read_only = unit->read_only,
		.removable = unit->removable,
	};
	int r = store_attach(unit->disk, target->reactor->ring);

	/* For people at the initiator: lsscsi and the like show it. */
	(void)snprintf(config.product, sizeof(config.product), "lunroot %s",
		       unit->disk->scratch ? "scratch" : "disk");
	if (r < 0) {
		unit->disk->ops->free(unit->disk);
		return r;
	}
	r = store_gate_new(target->reactor->ring, unit->disk, &config.disk);
	if (r < 0) {
		unit->disk->ops->detach(unit->disk, disk_detached, unit->disk);
		return r;
	}
	r = scsi_device_add_unit(target->device, &config);
	if (r < 0)
		config.disk->ops->detach(config.disk, disk_detached, config.disk);
	else
		target->gates[unit->lun] = config.disk;
	return r;
}

int target_new(struct reactor *reactor, struct target_conf *conf, const struct server_unit *units,
	       unsigned unit_count, struct target **ret_target)
{
	struct target *target = calloc(1, sizeof(*target));
	int r = target ? scsi_device_new(reactor->ring, &target->device) : -ENOMEM;

	if (r < 0) {
		units_free(units, unit_count);
		free(target);
		return r;
	}
	target->reactor = reactor;
	target->conf = target_conf_ref(conf);
	list_init(&target->sessions);
	list_init(&target->tmfs);
	list_init(&target->reads);
	for (unsigned i = 0; i < unit_count; i++) {
		if (r == 0)
			r = add_unit(target, &units[i]);
		else
			units[i].disk->ops->free(units[i].disk);
	}
	list_append(&reactor->targets, &target->node);
	*ret_target = target;
	return r;
}

static void device_closed(void *arg, int res)
{
	struct target *target = arg;
	struct reactor *reactor = target->reactor;
	void (*closed)(void *arg, int res) = target->closed;
	void *closed_arg = target->closed_arg;

	assert(list_empty(&target->sessions));
	assert(list_empty(&target->tmfs));
	if (res < 0)
		log_error("%s: its disks could not be closed cleanly: %s", target->conf->name,
			  strerror(-res));
	list_remove(&target->node);
	target_conf_unref(target->conf);
	free(target->hold);
	free(target);
	closed(closed_arg, res);
	reactor_check_stopped(reactor);
}

/* Running commands end and are answered, then the connection is closed; what waits for data is
 * repeated by the initiator when it is back. */
static void end_session(struct session *session)
{
	struct conn *conn = session->conn;

	if (conn->state == CONN_ADMIT) {
		conn_kick(conn, "the target is being taken away");
	} else if (conn->state == CONN_FULL) {
		/* 11.9.1, event 3: parameter 2 is when to come back, in seconds. */
		tx_async(conn, WIRE_ASYNC_DROP_ALL, 0, (uint16_t)conn->params.time2wait_s, 0);
		if (conn->state != CONN_FULL)
			return;
		conn->told = true;
		log_info("%s: connection ended: the target %s", conn_tag(conn),
			 conn->reactor->stopping ? "stops" : "is being taken away");
		conn_step(conn, CONN_EV_LOGOUT);
	}
}

/* With the last session gone, nobody waits for an answer to a function. */
static void close_device(struct target *target)
{
	if (!list_empty(&target->sessions) || !list_empty(&target->reads) ||
	    target->closing_device || target_holding(target))
		return;
	target->closing_device = true;
	tmf_check(target);
	scsi_device_close(target->device, device_closed, target);
}

void target_close(struct target *target, void (*closed)(void *arg, int res), void *arg)
{
	assert(!target->removing);
	target->removing = true;
	target->closed = closed;
	target->closed_arg = arg;
	list_for_each (node, &target->sessions) {
		struct session *session = LIST_ENTRY(node, struct session, node);

		end_session(session);
		/* What never ends has no answer; the initiator repeats it when it is back. */
		if (target_stands_still(target))
			session_tasks_abort(session);
	}
	target_reads_cancel(target);
	close_device(target);
}

void target_check_closing(struct target *target)
{
	if (target->removing)
		close_device(target);
}
