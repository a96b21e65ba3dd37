/*
 * SCSI: logical units and their commands (SAM-5, SPC-4, SBC-3), over the store's seam. It knows
 * CDBs, sense data and unit state; it knows neither PDUs nor connections.
 *
 * A device (struct scsi_device) is what iSCSI calls a target: up to LIMIT_LUNS_PER_NODE logical
 * units and the I_T nexuses that look at them. All functions run on the device's ring thread.
 *
 * A task's life: the transport fills in its fields, scsi_task_parse tells direction and length
 * of its data, the transport brings a buffer and the data-out, scsi_task_execute runs it, and
 * done is called exactly once, always, from the loop and never from inside scsi_task_execute.
 */
#ifndef LUNROOT_SCSI_SCSI_H
#define LUNROOT_SCSI_SCSI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/list.h"
#include "ring/ring.h"
#include "store/store.h"

struct scsi_device;
struct scsi_nexus;

enum scsi_status { /* SAM-5, 5.3.1 */
		   SCSI_GOOD = 0x00,
		   SCSI_CHECK_CONDITION = 0x02,
		   SCSI_CONDITION_MET = 0x04,
		   SCSI_BUSY = 0x08,
		   SCSI_RESERVATION_CONFLICT = 0x18,
		   SCSI_TASK_SET_FULL = 0x28,
		   SCSI_ACA_ACTIVE = 0x30,
		   SCSI_TASK_ABORTED = 0x40,
};

enum scsi_sense_key { /* SPC-4, 4.5.6 */
		      SENSE_NO_SENSE = 0x0,
		      SENSE_NOT_READY = 0x2,
		      SENSE_MEDIUM_ERROR = 0x3,
		      SENSE_HARDWARE_ERROR = 0x4,
		      SENSE_ILLEGAL_REQUEST = 0x5,
		      SENSE_UNIT_ATTENTION = 0x6,
		      SENSE_DATA_PROTECT = 0x7,
		      SENSE_ABORTED_COMMAND = 0xb,
		      SENSE_MISCOMPARE = 0xe,
};

enum scsi_data { SCSI_DATA_NONE, SCSI_DATA_IN, SCSI_DATA_OUT };

enum scsi_attribute { SCSI_SIMPLE, SCSI_ORDERED, SCSI_HEAD_OF_QUEUE, SCSI_ACA };

struct scsi_task {
	/* Set by the transport before scsi_task_parse. */
	struct scsi_nexus *nexus;
	uint64_t lun; /* eight bytes as in the PDU (SAM-5, 4.7), big-endian value */
	uint8_t cdb[16];
	/* How much data the initiator announced (EDTL); 0 if unknown. Only commands whose data
	 * has one right size look at it (WRITE SAME, COMPARE AND WRITE). */
	uint32_t expected_bytes;
	enum scsi_attribute attribute;
	void (*done)(struct scsi_task *task);

	/* Set by scsi_task_parse. */
	enum scsi_data direction;
	/* What the command itself would move (RFC 7143, 11.4.5.1: SPDTL). For data-in, an upper
	 * bound until done sets data_bytes. At most LIMIT_IO_BUFFER_BYTES. */
	uint32_t transfer_bytes;

	/* Set by the transport before scsi_task_execute, if direction is not none. */
	uint8_t *data;            /* room for at least min(transfer_bytes, what was asked) */
	uint32_t data_room_bytes; /* data-in: room; data-out: bytes that arrived */

	/* Valid in done. */
	enum scsi_status status;
	uint32_t data_bytes; /* data-in: bytes put into `data` */
	/* data-in: what the command would have moved had there been room; differs from data_bytes
	 * only if the room was too small, and makes the residual. Truncation by ALLOCATION LENGTH
	 * is inside it already. */
	uint32_t wanted_bytes;
	uint8_t sense[LIMIT_SENSE_BYTES];
	uint8_t sense_bytes;

	/* SCSI's own from execute to done. */
	struct list node;
	void *priv;
	struct store_io io;
	struct ring_task finish;
	const void *command; /* row of the opcode table */
	void *unit;
	uint32_t step;
	uint64_t lba;
	uint32_t block_count;
	struct ring_buf *scratch;
	bool aborted, entered, started, in_io;
};

/*
 * Looks the command up and finds direction and length. Never fails: a command that can't be run
 * gets direction none and its CHECK CONDITION from scsi_task_execute, so that unit attentions,
 * reservations and errors come in the order of SAM-5, 5.14 from one place.
 */
void scsi_task_parse(struct scsi_task *task);
void scsi_task_execute(struct scsi_task *task);
/* Makes done come soon, with what status there is: waits are cut short, file I/O is waited for.
 * The transport decides whether a response is sent. Harmless for a task not executed. */
void scsi_task_abort(struct scsi_task *task);
/* For faults the transport finds (RFC 7143, 11.4.7.2): fills status and sense, fixed or
 * descriptor format as the unit's D_SENSE says. */
void scsi_task_fail(struct scsi_task *task, enum scsi_sense_key key, uint16_t asc_ascq);

/* --- devices, made and changed by messages from the control plane --- */

struct scsi_unit_config {
	uint8_t lun;             /* 0 .. LIMIT_LUNS_PER_NODE - 1 */
	store_uuid_t uuid;       /* identity: serial number and NAA designator come from it */
	struct store_disk *disk; /* taken; attached to this thread's ring */
	bool read_only;          /* write-protected */
	bool removable;          /* RMB */
	char product[17];        /* "lunroot disk" */
};

int scsi_device_new(struct ring *ring, struct scsi_device **ret_device);
/* Takes a unit in. 0, -EEXIST, -ENOMEM. Sessions get REPORTED LUNS DATA HAS CHANGED. */
int scsi_device_add_unit(struct scsi_device *device, const struct scsi_unit_config *config);
/* The disk grew: CAPACITY DATA HAS CHANGED to every nexus. */
void scsi_device_capacity_changed(struct scsi_device *device, uint8_t lun);
/* No nexus left: detaches and frees all disks, then itself, then calls closed(arg, res). */
void scsi_device_close(struct scsi_device *device, void (*closed)(void *arg, int res), void *arg);
void scsi_device_stats(struct scsi_device *device, uint8_t lun, struct store_stats *ret_stats);
bool scsi_device_has_unit(const struct scsi_device *device, uint64_t lun);

/*
 * One I_T nexus: name is "iqn...,i,0x<ISID>" (SAM-5 initiator port name); a returning nexus is
 * told POWER ON, RESET, OR BUS DEVICE RESET OCCURRED. Free it when its last task is done: it
 * loses its reservations and prevents no removal (I_T nexus loss).
 */
int scsi_nexus_new(struct scsi_device *device, const char *initiator_port,
		   struct scsi_nexus **ret_nexus);
void scsi_nexus_free(struct scsi_nexus *nexus);

/* Task management that changes unit state (the transport aborts the tasks themselves):
 * reservations and mode pages return to default, every nexus gets its unit attention. */
void scsi_unit_reset(struct scsi_device *device, uint64_t lun);
void scsi_device_reset(struct scsi_device *device);
/* Another nexus' tasks were cleared: COMMANDS CLEARED BY ANOTHER INITIATOR. */
void scsi_nexus_commands_cleared(struct scsi_nexus *nexus, uint64_t lun);

#endif
