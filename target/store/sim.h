/*
 * A simulated reactor and page cache for the store's tests: the functions of ring.h, in one
 * thread, with completions in any order, time that passes when we say so, faults, and a power
 * that can fail. Files are real; what was not synced is remembered version by version, and a
 * power loss leaves each page in any version that no sync had covered.
 *
 * A sync covers what was written before it was submitted, not before it completed: the worst that
 * a kernel may do.
 */
#ifndef LUNROOT_STORE_SIM_H
#define LUNROOT_STORE_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "ring/ring.h"

void sim_init(uint64_t seed);
void sim_done(void);
struct ring *sim_ring(void);
uint64_t sim_random(void);
uint64_t sim_below(uint64_t bound);

/* Runs one deferred task or one operation, in an order by chance; false: nothing is left to do
 * (armed timers aside). */
bool sim_step(void);
/* Runs everything, letting time pass for timers while `busy` says so. */
void sim_run(bool (*busy)(void *arg), void *arg);

/* Of a thousand writes, this many fail with -ENOSPC. */
void sim_set_no_space(unsigned per_mille);
/* The n-th sync from now on fails with -EIO; 0: none. */
void sim_set_sync_failure(unsigned nth);
/* The n-th write from now on fails with -EIO; 0: none. */
void sim_set_write_failure(unsigned nth);
/* The file system can't punch holes. */
void sim_set_no_punch(bool no_punch);
/* How many syncs were submitted so far. */
unsigned sim_sync_count(void);

/* The process dies: operations not yet executed never will be; nobody hears of them. */
void sim_kill(void);
/* The power fails (after sim_kill): unsynced pages of all files fall back. Pages before
 * `torn_end` in a file may be torn at sector borders too. */
void sim_power_loss(uint64_t torn_end);
/* All that was written is durable now, and files are forgotten. */
void sim_forget(void);

#endif
