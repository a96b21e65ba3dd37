/*
 * A gate: a disk whose backing can be taken away and exchanged while commands come in. It stands
 * between SCSI and a disk over files and passes everything on while it is open.
 *
 *              shut                    take                   open, with another disk
 *     OPEN -----------> SHUT, flushed ------> SHUT, no disk ------------------------> OPEN
 *       ^                    |
 *       +--------------------+ open, with the one it has
 *
 * While it is shut commands wait, in the order in which they came, but no longer than
 * STORE_GATE_WAIT_MS: then they end with -EAGAIN, so that the initiator hears BUSY in time. What
 * only waits in the disk (for space, or behind such a write) is called back and waits here, so
 * that a full file system can't keep a gate from being shut.
 *
 * All functions: ring thread; callbacks come once, from the loop.
 */
#ifndef LUNROOT_STORE_GATE_H
#define LUNROOT_STORE_GATE_H

#include "store/store.h"

struct ring;

/* With another 15 s of the disk's own (STORE_SPACE_WAIT_MS) still well within Linux' 30 s. */
#define STORE_GATE_WAIT_MS 10000

/* An open gate over an attached disk, which it takes. 0 or -ENOMEM. */
int store_gate_new(struct ring *ring, struct store_disk *inner, struct store_disk **ret_gate);

/*
 * Shuts it: nothing more reaches the disk; quiet(arg, res) is called when nothing is under way in
 * it and all that was done is durable. res < 0: it could not be flushed (-ENOSPC: there is no space
 * for that); it is shut all the same, until store_gate_open.
 */
void store_gate_shut(struct store_disk *gate, void (*quiet)(void *arg, int res), void *arg);
/*
 * After quiet(arg, 0): detaches the disk, then taken(arg, 0). Its top may be sealed or opened now.
 * What it has of the layers beneath stays until the gate has another disk, so that this one finds
 * their maps and need not read them while commands wait.
 */
void store_gate_take(struct store_disk *gate, void (*taken)(void *arg, int res), void *arg);
/*
 * Opens it: what waits goes on in order. `inner` (attached; taken) if it has no disk, NULL if it
 * still has its own. The size is the new disk's from now on; what waits and lies beyond it ends
 * with -ERANGE.
 */
void store_gate_open(struct store_disk *gate, struct store_disk *inner);

/*
 * How often what the disk reads as may have changed: by writes, discards, or another disk in its
 * place. As long as both fields of a steady state are the same, nothing has changed: a change is
 * counted when it begins, and until it has ended the state is not steady, so that none can lie
 * between two equal steady states, or reach into what is between them.
 */
struct store_gate_state {
	store_uuid_t incarnation; /* of this gate: no other has it, nor a later start */
	uint64_t changes;
	bool steady; /* nothing is being written, and it has a disk */
};

void store_gate_state(struct store_disk *gate, struct store_gate_state *ret_state);

#endif
