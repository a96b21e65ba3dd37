/*
 * What the control plane reads of a disk, and what it asks about it. A read goes to the reactor
 * that owns the disk and through the same gate as the initiator's commands: so it sees every write
 * that was acknowledged, waits like a command while layers are exchanged beneath it, and needs no
 * lock. It is cut into pieces, one after the other, so that the initiators' commands never wait for
 * more than one of them.
 *
 * A read holds its target: what is taken away lets the piece under way end, or calls it back if it
 * only waits, and the read ends with -ECANCELED.
 *
 * Files that never change (images) are read the same way, on whichever reactor is next.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "session/session_internal.h"
#include "store/gate.h"

struct disk_read {
	struct mailbox_msg msg;
	struct list node; /* target->reads */
	struct server *server;
	struct reactor *reactor;
	struct target *target; /* from the reactor on */
	uint8_t uuid[16];
	uint8_t lun;
	int fd; /* of a file; -1: a disk */
	uint64_t offset_bytes, bytes, piece_bytes, done_bytes;
	uint8_t *data;
	struct store_io io;
	struct ring_op op;
	int res;
	server_cb cb;
	void *arg;
};

static void answered(struct mailbox_msg *msg)
{
	struct disk_read *read = CONTAINER_OF(msg, struct disk_read, msg);
	server_cb cb = read->cb;
	void *arg = read->arg;
	int res = read->res;

	free(read);
	cb(arg, res);
}

static void answer(struct disk_read *read, int res)
{
	read->res = res;
	read->msg.run = answered;
	mailbox_post(read->server->config.control, &read->msg);
}

static void piece_choose(struct disk_read *read)
{
	uint64_t left = read->bytes - read->done_bytes;

	read->piece_bytes = left < LIMIT_DATA_PIECE_BYTES ? left : LIMIT_DATA_PIECE_BYTES;
}

/* --- disks --- */

static void disk_read_over(struct disk_read *read, int res)
{
	struct target *target = read->target;

	list_remove(&read->node);
	answer(read, res);
	target_check_closing(target);
}

static void disk_piece_done(struct store_io *io, int res);

static void disk_piece(struct disk_read *read)
{
	piece_choose(read);
	read->io = (struct store_io){
		.op = STORE_READ,
		.offset_bytes = read->offset_bytes + read->done_bytes,
		.length_bytes = read->piece_bytes,
		.data = read->data + read->done_bytes,
		.done = disk_piece_done,
	};
	store_submit(read->target->gates[read->lun], &read->io);
}

static void disk_piece_done(struct store_io *io, int res)
{
	struct disk_read *read = CONTAINER_OF(io, struct disk_read, io);

	if (res == 0)
		read->done_bytes += read->piece_bytes;
	if (res < 0 || read->done_bytes == read->bytes)
		disk_read_over(read, res < 0 ? res : 0);
	else if (read->target->removing)
		disk_read_over(read, -ECANCELED);
	else
		disk_piece(read);
}

static void disk_read_run(struct mailbox_msg *msg)
{
	struct disk_read *read = CONTAINER_OF(msg, struct disk_read, msg);
	struct target *target = target_find(read->reactor, read->uuid);

	if (!target || target->removing || !target->gates[read->lun]) {
		answer(read, -ENOENT);
		return;
	}
	if (read->offset_bytes > target->gates[read->lun]->size_bytes ||
	    read->bytes > target->gates[read->lun]->size_bytes - read->offset_bytes) {
		answer(read, -ERANGE);
		return;
	}
	read->target = target;
	list_append(&target->reads, &read->node);
	disk_piece(read);
}

void target_reads_cancel(struct target *target)
{
	list_for_each (node, &target->reads) {
		struct disk_read *read = LIST_ENTRY(node, struct disk_read, node);
		struct store_disk *gate = target->gates[read->lun];

		gate->ops->cancel(gate, &read->io);
	}
}

/* Without memory the answer comes at once. */
static struct disk_read *disk_read_new(struct server *server, uint64_t offset_bytes, void *data,
				       uint64_t bytes, server_cb cb, void *arg)
{
	struct disk_read *read = calloc(1, sizeof(*read));

	assert(bytes > 0 && bytes <= LIMIT_DATA_BYTES + 2 * STORE_SECTOR_BYTES);
	if (!read) {
		cb(arg, -ENOMEM);
		return NULL;
	}
	list_init(&read->node);
	read->server = server;
	read->fd = -1;
	read->offset_bytes = offset_bytes;
	read->data = data;
	read->bytes = bytes;
	read->cb = cb;
	read->arg = arg;
	return read;
}

void server_read(struct server *server, const uint8_t uuid[16], uint8_t lun, uint64_t offset_bytes,
		 void *data, uint64_t bytes, server_cb cb, void *arg)
{
	struct disk_read *read = disk_read_new(server, offset_bytes, data, bytes, cb, arg);

	assert(lun < LIMIT_LUNS_PER_NODE);
	assert(offset_bytes % STORE_SECTOR_BYTES == 0 && bytes % STORE_SECTOR_BYTES == 0);
	if (!read)
		return;
	memcpy(read->uuid, uuid, sizeof(read->uuid));
	read->lun = lun;
	read->reactor = server_reactor_of(server, uuid);
	if (!read->reactor) {
		answer(read, -ENOENT);
		return;
	}
	read->msg.run = disk_read_run;
	ring_post(read->reactor->ring, &read->msg);
}

/* --- files --- */

static void file_read_over(struct disk_read *read, int res)
{
	struct reactor *reactor = read->reactor;

	reactor->file_read_count--;
	answer(read, res);
	reactor_check_stopped(reactor);
}

static void file_piece(struct disk_read *read)
{
	piece_choose(read);
	ring_read(read->reactor->ring, &read->op, read->fd, read->data + read->done_bytes,
		  read->piece_bytes, read->offset_bytes + read->done_bytes);
}

static void file_piece_done(struct ring_op *op, int res)
{
	struct disk_read *read = CONTAINER_OF(op, struct disk_read, op);

	if (res > 0)
		read->done_bytes += (uint64_t)res;
	if (res == 0) /* shorter than it was */
		file_read_over(read, -EIO);
	else if (res < 0 && res != -EINTR && res != -EAGAIN)
		file_read_over(read, res);
	else if (read->done_bytes == read->bytes)
		file_read_over(read, 0);
	else if (read->reactor->stopping)
		file_read_over(read, -ECANCELED);
	else
		file_piece(read);
}

static void file_read_run(struct mailbox_msg *msg)
{
	struct disk_read *read = CONTAINER_OF(msg, struct disk_read, msg);

	if (read->reactor->stopping) {
		answer(read, -ECANCELED);
		return;
	}
	read->reactor->file_read_count++;
	read->op.done = file_piece_done;
	file_piece(read);
}

void server_read_file(struct server *server, int fd, uint64_t offset_bytes, void *data,
		      uint64_t bytes, server_cb cb, void *arg)
{
	struct disk_read *read = disk_read_new(server, offset_bytes, data, bytes, cb, arg);

	if (!read)
		return;
	read->fd = fd;
	read->reactor = &server->reactors[server->next_reader++ % server->reactor_count];
	read->msg.run = file_read_run;
	ring_post(read->reactor->ring, &read->msg);
}

/* --- how a unit is --- */

struct unit_asked {
	struct mailbox_msg msg;
	struct server *server;
	struct reactor *reactor;
	uint8_t uuid[16];
	int res;
	struct server_unit_state state;
	server_unit_cb cb;
	void *arg;
};

static void unit_told(struct mailbox_msg *msg)
{
	struct unit_asked *asked = CONTAINER_OF(msg, struct unit_asked, msg);

	asked->cb(asked->arg, asked->res, &asked->state);
	free(asked);
}

static void unit_tell(struct unit_asked *asked, int res)
{
	asked->res = res;
	asked->msg.run = unit_told;
	mailbox_post(asked->server->config.control, &asked->msg);
}

static void unit_look(struct mailbox_msg *msg)
{
	struct unit_asked *asked = CONTAINER_OF(msg, struct unit_asked, msg);
	struct server_unit_state *state = &asked->state;
	struct target *target = target_find(asked->reactor, asked->uuid);
	struct store_gate_state gate;

	if (!target || target->removing || !target->gates[state->unit.lun]) {
		unit_tell(asked, -ENOENT);
		return;
	}
	store_gate_state(target->gates[state->unit.lun], &gate);
	memcpy(state->unit.target_uuid, asked->uuid, sizeof(asked->uuid));
	scsi_device_stats(target->device, state->unit.lun, &state->unit.store);
	state->size_bytes = target->gates[state->unit.lun]->size_bytes;
	state->incarnation = gate.incarnation;
	state->changes = gate.changes;
	state->steady = gate.steady;
	unit_tell(asked, 0);
}

void server_unit_look(struct server *server, const uint8_t uuid[16], uint8_t lun, server_unit_cb cb,
		      void *arg)
{
	static const struct server_unit_state nothing;
	struct unit_asked *asked = calloc(1, sizeof(*asked));

	assert(lun < LIMIT_LUNS_PER_NODE);
	if (!asked) {
		cb(arg, -ENOMEM, &nothing);
		return;
	}
	asked->server = server;
	asked->state.unit.lun = lun;
	memcpy(asked->uuid, uuid, sizeof(asked->uuid));
	asked->cb = cb;
	asked->arg = arg;
	asked->reactor = server_reactor_of(server, uuid);
	if (!asked->reactor) {
		unit_tell(asked, -ENOENT);
		return;
	}
	asked->msg.run = unit_look;
	ring_post(asked->reactor->ring, &asked->msg);
}
