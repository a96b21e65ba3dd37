/*
 * A simulated reactor and page cache for the store's tests: the functions of ring.h, in one
 * thread, with completions in any order, time that passes when we say so, faults, and a power
 * that can fail. Files are real; what was not synced is remembered version by version, and a
 * power loss leaves each page in any version that no sync had covered.
 *
 * A sync covers what was written before it was submitted, not before it completed: the worst that
 * a kernel may do. One that fails loses what it should have written, and the next one says that
 * all is well: what kernels do.
 *
 * Between sim_arm(true) and sim_arm(false) the system calls and allocations that the store makes
 * itself take part as well (linked with --wrap, see meson.build): files made, written, synced,
 * renamed and removed while blocking, with the folders' entries, which last only when the folder
 * was synced. Then each change is a point at which the process may end, each call may fail, and
 * what a process holds (memory, descriptors, mappings) is known.
 */
#ifndef LUNROOT_STORE_SIM_H
#define LUNROOT_STORE_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "ring/ring.h"

/* What a power loss leaves of what was not synced. */
enum sim_loss {
	SIM_LOSS_ANY,  /* each page, size and name for itself, by chance; pages torn, too */
	SIM_LOSS_ALL,  /* nothing of it */
	SIM_LOSS_NONE, /* everything */
	SIM_LOSS_MOST, /* little */
	SIM_LOSS_FEW,  /* nearly everything */
	SIM_LOSS_TORN, /* each page that may be torn is, between its first and its last content */
	SIM_LOSS_COUNT,
};

/* Kinds of calls that can fail. */
enum sim_call {
	SIM_CALL_READ,
	SIM_CALL_WRITE,
	SIM_CALL_PUNCH,
	SIM_CALL_SYNC,
	SIM_CALL_ALLOCATE,
	SIM_CALL_TRUNCATE,
	SIM_CALL_OPEN,
	SIM_CALL_CREATE,
	SIM_CALL_RENAME,
	SIM_CALL_LOOK, /* fstat, lseek, flock, fchmod */
	SIM_CALL_MAP,
	SIM_CALL_MEMORY,
	SIM_CALL_COUNT,
};

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

void sim_set_loss(enum sim_loss loss);

/* --- the whole process; see above --- */

/* Files and links of files for this folder's tests; those in `run_dir` die with the power. Before
 * sim_arm. `boot_id` is a file that stands in for the kernel's. */
void sim_set_folders(const char *dir, const char *run_dir, const char *boot_id);
void sim_arm(bool armed);
bool sim_is_armed(void);

/* Ends the process (longjmp to `where`) at the n-th point from now on; 0: never. */
void sim_end_at(uint64_t nth, jmp_buf *where);
/* Points that were passed since sim_init. */
uint64_t sim_point_count(void);

/*
 * The n-th call from now on that can fail so fails with the error (EINTR: as if it had never been;
 * 0: it does only a part of its work). 0 as `nth`: none.
 */
void sim_fail_at(uint64_t nth, int error);
struct sim_failed {
	bool happened;
	enum sim_call call;
	bool in_ring;
	int fd;
	uint64_t offset;
};
/* What sim_fail_at met. */
struct sim_failed sim_failed(void);
/* How many calls so far could have failed with this error. */
uint64_t sim_call_count(int error);

/* Frees what the process held, as the kernel does; nothing of the store may be used any more. */
void sim_process_ends(void);
/* How much memory, descriptors and mappings it holds. */
unsigned sim_process_holds(void);

/* The process dies: operations not yet executed never will be; nobody hears of them. */
void sim_kill(void);
/* The power fails (after sim_kill): unsynced pages of all files fall back. Pages before
 * `torn_end` in a file may be torn at sector borders too. */
void sim_power_loss(uint64_t torn_end);
/* All that was written is durable now, and files are forgotten. */
void sim_forget(void);

#endif
