/*
 * Devices, their units, the nexuses that look at them, and the state that outlives a command:
 * unit attentions, reservations, whether the medium is there.
 *
 * A unit attention is kept once for each kind, nexus and unit, as a bit; the bits' order is the
 * order in which they are told. When the last nexus goes, a unit is as after power on: whatever
 * a node did to it at shutdown (stop, eject, write-protect), its next boot finds a disk.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scsi/scsi_internal.h"

static const uint16_t attention_codes[UA_COUNT] = {
	[UA_POWER_ON] = 0x2900,         /* POWER ON, RESET, OR BUS DEVICE RESET OCCURRED */
	[UA_TARGET_RESET] = 0x2902,     /* SCSI BUS RESET OCCURRED */
	[UA_UNIT_RESET] = 0x2903,       /* BUS DEVICE RESET FUNCTION OCCURRED */
	[UA_COMMANDS_CLEARED] = 0x2f00, /* COMMANDS CLEARED BY ANOTHER INITIATOR */
	[UA_MEDIUM_CHANGED] = 0x2800,   /* NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED */
	[UA_MODE_CHANGED] = 0x2a01,     /* MODE PARAMETERS CHANGED */
	[UA_CAPACITY_CHANGED] = 0x2a09, /* CAPACITY DATA HAS CHANGED */
	[UA_LUNS_CHANGED] = 0x3f0e,     /* REPORTED LUNS DATA HAS CHANGED */
};

/* A reset says all that was to say before it (SAM-5, 6.2). */
static void raise(struct scsi_nexus *nexus, const struct scsi_unit *unit,
		  enum unit_attention attention)
{
	uint8_t *attentions = &nexus->luns[unit->lun].attentions;

	if (attention <= UA_UNIT_RESET) {
		uint8_t stronger = *attentions & (uint8_t)((1u << attention) - 1);

		if (!stronger)
			*attentions = (uint8_t)(1u << attention);
		return;
	}
	/* After power on everything is read anew anyway. */
	if (!(*attentions & 1u << UA_POWER_ON))
		*attentions = (uint8_t)(*attentions | 1u << attention);
}

void scsi_unit_attention(struct scsi_unit *unit, enum unit_attention attention,
			 const struct scsi_nexus *except)
{
	list_for_each (node, &unit->device->nexuses) {
		struct scsi_nexus *nexus = LIST_ENTRY(node, struct scsi_nexus, node);

		if (nexus != except)
			raise(nexus, unit, attention);
	}
}

bool scsi_nexus_take_attention(struct scsi_nexus *nexus, const struct scsi_unit *unit,
			       uint16_t *ret_asc_ascq)
{
	uint8_t *attentions = &nexus->luns[unit->lun].attentions;
	unsigned first;

	if (!*attentions)
		return false;
	first = (unsigned)__builtin_ctz(*attentions);
	*attentions = (uint8_t)(*attentions & ~(1u << first));
	*ret_asc_ascq = attention_codes[first];
	/* One telling is enough for all units of the nexus (VPD 86h, LUICLR). */
	if (first == UA_LUNS_CHANGED)
		scsi_nexus_forget_luns_changed(nexus);
	return true;
}

void scsi_nexus_forget_luns_changed(struct scsi_nexus *nexus)
{
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++)
		nexus->luns[i].attentions =
			(uint8_t)(nexus->luns[i].attentions & ~(1u << UA_LUNS_CHANGED));
}

/* --- addresses --- */

int scsi_lun_number(uint64_t lun)
{
	unsigned method = (unsigned)(lun >> 62);

	if (lun << 16) /* a second level */
		return -1;
	switch (method) {
	case 0: /* peripheral device: bus 0, eight bits */
		return lun >> 56 ? -1 : (int)(lun >> 48 & 0xff);
	case 1: /* flat space: fourteen bits */ return (int)(lun >> 48 & 0x3fff);
	default: return -1;
	}
}

struct scsi_unit *scsi_unit_find(const struct scsi_device *device, uint64_t lun)
{
	int number = scsi_lun_number(lun);

	return number >= 0 && number < LIMIT_LUNS_PER_NODE ? device->units[number] : NULL;
}

bool scsi_device_has_unit(const struct scsi_device *device, uint64_t lun)
{
	return scsi_unit_find(device, lun) != NULL;
}

void scsi_unit_serial(const struct scsi_unit *unit, char ret_serial[SERIAL_BYTES + 1])
{
	for (unsigned i = 0; i < 16; i++)
		snprintf(ret_serial + 2 * i, 3, "%02x", unit->uuid.b[i]);
}

/* --- state --- */

bool scsi_unit_removal_prevented(const struct scsi_unit *unit)
{
	list_for_each (node, &unit->device->nexuses) {
		if (LIST_ENTRY(node, struct scsi_nexus, node)->luns[unit->lun].prevents_removal)
			return true;
	}
	return false;
}

/*
 * RESERVE and RELEASE as in SPC-2, 5.5.1: the holder alone may use the unit. What others may
 * do all the same is marked CMD_SHARES; two commands depend on their arguments.
 */
bool scsi_reservation_conflict(const struct scsi_task *task)
{
	const struct scsi_command *command = task->command;
	const struct scsi_unit *unit = scsi_task_unit(task);

	if (!unit->reserved_by || unit->reserved_by == task->nexus)
		return false;
	if (!command || command->flags & CMD_SHARES)
		return false;
	if (command->opcode == 0x1e) /* to allow removal harms nobody */
		return task->cdb[4] & 0x01;
	if (command->opcode == 0x1b) /* START only */
		return task->cdb[4] != 0x01;
	return true;
}

static void reset_state(struct scsi_unit *unit)
{
	unit->d_sense = false;
	unit->software_wp = false;
	unit->stopped = false;
	unit->ejected = false;
	unit->reserved_by = NULL;
	list_for_each (node, &unit->device->nexuses)
		LIST_ENTRY(node, struct scsi_nexus, node)->luns[unit->lun].prevents_removal = false;
}

void scsi_unit_reset(struct scsi_device *device, uint64_t lun)
{
	struct scsi_unit *unit = scsi_unit_find(device, lun);

	ASSERT_RING_THREAD(device->ring);
	if (!unit)
		return;
	reset_state(unit);
	scsi_unit_attention(unit, UA_UNIT_RESET, NULL);
}

void scsi_device_reset(struct scsi_device *device)
{
	ASSERT_RING_THREAD(device->ring);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
		if (!device->units[i])
			continue;
		reset_state(device->units[i]);
		scsi_unit_attention(device->units[i], UA_TARGET_RESET, NULL);
	}
}

void scsi_nexus_commands_cleared(struct scsi_nexus *nexus, uint64_t lun)
{
	struct scsi_unit *unit = scsi_unit_find(nexus->device, lun);

	if (unit)
		raise(nexus, unit, UA_COMMANDS_CLEARED);
}

/* --- nexuses --- */

int scsi_nexus_new(struct scsi_device *device, const char *initiator_port,
		   struct scsi_nexus **ret_nexus)
{
	struct scsi_nexus *nexus;

	ASSERT_RING_THREAD(device->ring);
	nexus = calloc(1, sizeof(*nexus));
	if (!nexus)
		return -ENOMEM;
	nexus->device = device;
	snprintf(nexus->initiator_port, sizeof(nexus->initiator_port), "%s", initiator_port);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++)
		nexus->luns[i].attentions = 1u << UA_POWER_ON;
	list_append(&device->nexuses, &nexus->node);
	*ret_nexus = nexus;
	return 0;
}

void scsi_nexus_free(struct scsi_nexus *nexus)
{
	struct scsi_device *device;

	if (!nexus)
		return;
	device = nexus->device;
	list_remove(&nexus->node);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
		struct scsi_unit *unit = device->units[i];

		if (!unit)
			continue;
		list_for_each (node, &unit->tasks)
			assert(LIST_ENTRY(node, struct scsi_task, node)->nexus != nexus);
		if (unit->reserved_by == nexus)
			unit->reserved_by = NULL;
		if (list_empty(&device->nexuses))
			reset_state(unit);
	}
	free(nexus);
}

/* --- devices --- */

int scsi_device_new(struct ring *ring, struct scsi_device **ret_device)
{
	struct scsi_device *device = calloc(1, sizeof(*device));

	if (!device)
		return -ENOMEM;
	device->ring = ring;
	list_init(&device->nexuses);
	*ret_device = device;
	return 0;
}

int scsi_device_add_unit(struct scsi_device *device, const struct scsi_unit_config *config)
{
	struct scsi_unit *unit;

	assert(config->lun < LIMIT_LUNS_PER_NODE);
	assert(config->disk);
	if (device->units[config->lun])
		return -EEXIST;
	unit = calloc(1, sizeof(*unit));
	if (!unit)
		return -ENOMEM;
	unit->device = device;
	unit->disk = config->disk;
	unit->uuid = config->uuid;
	unit->lun = config->lun;
	unit->read_only = config->read_only || config->disk->read_only;
	unit->removable = config->removable;
	memcpy(unit->product, config->product, sizeof(unit->product));
	unit->product[sizeof(unit->product) - 1] = '\0';
	list_init(&unit->tasks);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
		if (device->units[i])
			scsi_unit_attention(device->units[i], UA_LUNS_CHANGED, NULL);
	}
	device->units[unit->lun] = unit;
	scsi_unit_attention(unit, UA_POWER_ON, NULL);
	return 0;
}

void scsi_device_capacity_changed(struct scsi_device *device, uint8_t lun)
{
	ASSERT_RING_THREAD(device->ring);
	assert(lun < LIMIT_LUNS_PER_NODE);
	if (device->units[lun])
		scsi_unit_attention(device->units[lun], UA_CAPACITY_CHANGED, NULL);
}

void scsi_device_stats(struct scsi_device *device, uint8_t lun, struct store_stats *ret_stats)
{
	assert(lun < LIMIT_LUNS_PER_NODE);
	if (device->units[lun])
		device->units[lun]->disk->ops->stats(device->units[lun]->disk, ret_stats);
	else
		memset(ret_stats, 0, sizeof(*ret_stats));
}

static void unit_detached(void *arg, int res)
{
	struct scsi_device *device = arg;
	struct scsi_unit *unit = device->units[device->close_lun];

	if (res < 0 && device->close_res == 0)
		device->close_res = res;
	device->units[device->close_lun] = NULL;
	unit->disk->ops->free(unit->disk);
	free(unit);
	ring_defer(device->ring, &device->close_step);
}

/* One unit after the other, then the device itself. */
static void close_step(struct ring_task *task)
{
	struct scsi_device *device = CONTAINER_OF(task, struct scsi_device, close_step);
	void (*closed)(void *arg, int res) = device->closed;
	void *arg = device->closed_arg;
	int res;

	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
		struct store_disk *disk = device->units[i] ? device->units[i]->disk : NULL;

		if (!disk)
			continue;
		assert(list_empty(&device->units[i]->tasks));
		device->close_lun = i;
		disk->ops->detach(disk, unit_detached, device);
		return;
	}
	res = device->close_res;
	free(device);
	closed(arg, res);
}

void scsi_device_close(struct scsi_device *device, void (*closed)(void *arg, int res), void *arg)
{
	ASSERT_RING_THREAD(device->ring);
	assert(list_empty(&device->nexuses));
	device->closed = closed;
	device->closed_arg = arg;
	ring_task_init(&device->close_step, close_step);
	ring_defer(device->ring, &device->close_step);
}
