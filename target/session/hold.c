/*
 * A target held still, so that its files can change beneath it while its sessions stay.
 *
 *   flush every disk, again while that takes long (the node goes on: what is left is little)
 *   shut all gates, so that what is held is one moment of all disks; flush what came meanwhile
 *     one could not be flushed: open all, the target goes on as it was
 *   take the disks away (closed; they go when there are others)
 *   ... held: commands wait in the gates (store/gate.h) ...
 *   resume: the new disks
 *
 * A target that is being removed lets the step under way end, and is held no more. Once its disks
 * are being taken nothing that waits can end, so that its tasks are aborted then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/session_internal.h"
#include "store/gate.h"

/* A writer that is faster than the medium has always something left to be flushed. */
#define FLUSHES_MAX 4
#define QUICK_MS    20

enum hold_state { HOLD_FLUSHING, HOLD_SHUTTING, HOLD_TAKING, HOLD_HELD };

struct hold {
	struct target *target;
	enum hold_state state;
	bool unused;
	unsigned pending; /* disks whose answer is to come */
	int res;          /* the first that went wrong */
	unsigned flushes;
	uint64_t flush_ms, shut_ms;
	void (*done)(void *arg, int res);
	void *arg;
	struct hold_flush {
		struct hold *hold;
		struct store_io io;
	} flush[LIMIT_LUNS_PER_NODE];
};

static void flush_all(struct hold *hold);

bool target_holding(const struct target *target)
{
	return target->hold && target->hold->state != HOLD_HELD;
}

bool target_stands_still(const struct target *target)
{
	return target->hold && target->hold->state >= HOLD_TAKING;
}

static unsigned unit_count_of(const struct target *target)
{
	unsigned count = 0;

	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++)
		count += target->gates[i] != NULL;
	return count;
}

/* The target is held, or it is as it was. */
static void hold_over(struct hold *hold, int res)
{
	struct target *target = hold->target;
	void (*done)(void *arg, int res) = hold->done;
	void *arg = hold->arg;

	if (res == 0 && target->removing)
		res = -ENOENT;
	if (hold->state != HOLD_HELD) {
		target->hold = NULL;
		free(hold);
	}
	done(arg, res);
	target_check_closing(target);
}

/* Begins a step of all disks. */
static void step(struct hold *hold, enum hold_state state)
{
	hold->state = state;
	hold->pending = unit_count_of(hold->target);
	hold->res = 0;
}

/* A disk has done its part of the step. False: others have not yet. */
static bool step_over(struct hold *hold, int res)
{
	assert(hold->pending > 0);
	if (res < 0 && hold->res == 0)
		hold->res = res;
	return --hold->pending == 0;
}

static void taken(void *arg, int res)
{
	struct hold *hold = arg;

	if (!step_over(hold, res))
		return;
	hold->state = HOLD_HELD;
	hold_over(hold, 0);
}

static void quiet(void *arg, int res)
{
	struct hold *hold = arg;
	struct target *target = hold->target;

	if (!step_over(hold, res))
		return;
	res = hold->res;
	if (res < 0 || target->removing) {
		for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
			if (target->gates[i])
				store_gate_open(target->gates[i], NULL);
		}
		hold_over(hold, res);
		return;
	}
	step(hold, HOLD_TAKING);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
		if (target->gates[i])
			store_gate_take(target->gates[i], taken, hold);
	}
}

static void shut_all(struct hold *hold)
{
	struct target *target = hold->target;

	/* Who logs in from now on has seen nothing of the disks yet. */
	if (hold->unused && target_has_sessions(target)) {
		hold_over(hold, -EBUSY);
		return;
	}
	step(hold, HOLD_SHUTTING);
	hold->shut_ms = ring_now_ms(target->reactor->ring);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
		if (target->gates[i])
			store_gate_shut(target->gates[i], quiet, hold);
	}
}

static void flushed(struct store_io *io, int res)
{
	struct hold *hold = CONTAINER_OF(io, struct hold_flush, io)->hold;
	uint64_t now_ms = ring_now_ms(hold->target->reactor->ring);

	if (!step_over(hold, res))
		return;
	if (hold->res < 0 || hold->target->removing)
		hold_over(hold, hold->res);
	else if (now_ms - hold->flush_ms > QUICK_MS && hold->flushes < FLUSHES_MAX)
		flush_all(hold);
	else
		shut_all(hold);
}

static void flush_all(struct hold *hold)
{
	struct target *target = hold->target;

	step(hold, HOLD_FLUSHING);
	hold->flushes++;
	hold->flush_ms = ring_now_ms(target->reactor->ring);
	for (unsigned i = 0; i < LIMIT_LUNS_PER_NODE; i++) {
		struct hold_flush *flush = &hold->flush[i];

		if (!target->gates[i])
			continue;
		flush->hold = hold;
		/* All of it, although the disk be scratch: its files may be sealed next. */
		flush->io = (struct store_io){.op = STORE_FLUSH, .fua = true, .done = flushed};
		store_submit(target->gates[i], &flush->io);
	}
}

void target_hold(struct target *target, bool unused, void (*done)(void *arg, int res), void *arg)
{
	struct hold *hold;

	ASSERT_RING_THREAD(target->reactor->ring);
	if (target->hold || target->removing || (unused && target_has_sessions(target))) {
		done(arg, -EBUSY);
		return;
	}
	hold = calloc(1, sizeof(*hold));
	if (!hold) {
		done(arg, -ENOMEM);
		return;
	}
	hold->target = target;
	hold->unused = unused;
	hold->done = done;
	hold->arg = arg;
	target->hold = hold;
	if (unit_count_of(target) > 0) {
		flush_all(hold);
		return;
	}
	hold->state = HOLD_HELD;
	hold_over(hold, 0);
}

/* --- resuming --- */

static bool same_luns(const struct target *target, const struct server_unit *units,
		      unsigned unit_count)
{
	uint32_t seen = 0;

	for (unsigned i = 0; i < unit_count; i++) {
		if (units[i].lun >= LIMIT_LUNS_PER_NODE || !target->gates[units[i].lun] ||
		    seen & 1u << units[i].lun)
			return false;
		seen |= 1u << units[i].lun;
	}
	return unit_count == unit_count_of(target);
}

static void exchange(struct target *target, const struct server_unit *unit)
{
	struct store_disk *gate = target->gates[unit->lun];
	uint64_t size_bytes = gate->size_bytes;

	store_gate_open(gate, unit->disk);
	if (gate->size_bytes == size_bytes)
		return;
	log_info("%s: LUN %u has %llu MiB now", target->conf->name, unit->lun,
		 (unsigned long long)(gate->size_bytes >> 20));
	scsi_device_capacity_changed(target->device, unit->lun);
}

static void disk_detached(void *arg, int res)
{
	struct store_disk *disk = arg;

	(void)res; /* nothing was written */
	disk->ops->free(disk);
}

/* All or none. */
static int attach_all(struct target *target, const struct server_unit *units, unsigned unit_count)
{
	unsigned count = 0;
	int r = 0;

	while (count < unit_count && r == 0) {
		r = store_attach(units[count].disk, target->reactor->ring);
		if (r == 0)
			count++;
	}
	if (r == 0)
		return 0;
	for (unsigned i = 0; i < count; i++)
		units[i].disk->ops->detach(units[i].disk, disk_detached, units[i].disk);
	units_free(units + count, unit_count - count);
	return r;
}

int target_resume(struct target *target, const struct server_unit *units, unsigned unit_count)
{
	int r;

	ASSERT_RING_THREAD(target->reactor->ring);
	if (target->removing || !target->hold || target->hold->state != HOLD_HELD ||
	    !same_luns(target, units, unit_count)) {
		units_free(units, unit_count);
		return target->removing ? -ENOENT : -EINVAL;
	}
	r = attach_all(target, units, unit_count);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < unit_count; i++)
		exchange(target, &units[i]);
	log_debug("%s: commands have waited for %llu ms", target->conf->name,
		  (unsigned long long)(ring_now_ms(target->reactor->ring) - target->hold->shut_ms));
	free(TAKE_PTR(target->hold));
	return 0;
}
