/*
 * Lets every call fail. A short run, random by its seed, makes a layer, opens the disk, sends
 * commands, dies, comes back, seals and goes on in a new layer. It is done again and again, and
 * each time another call of it fails, once: an operation of the reactor, a system call, an
 * allocation, with every kind of fault that it can have. What must hold:
 *
 * - Interruptions and work done in parts are not seen by anybody. Want of space heals.
 * - An error ends the one command that it belongs to, with that error, and no other.
 * - A failed sync, or map page that can't be written, fails the disk: nothing says "durable" any
 *   more until it is opened anew. Then it is as after a power loss: what a flush had acknowledged
 * is there, each later block is old or new, and flushes mean what they say again.
 * - What blocks and fails has told why, holds nothing, and works when it is tried again.
 * - Whatever fails, no acknowledged write is lost.
 *
 * usage: store_fault_test [--seeds N] [--seed FIRST] [--error E [--call N]]
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/store_world.h"

static const int errors[] = {EIO, ENOSPC, EINTR, EAGAIN, ENOMEM, 0 /* a part */};

static uint64_t call;
static int error, only; /* only: -1, or the one that is tried */
static uint64_t faults, reported, failed_disks;
static unsigned failures; /* that this run has heard of */
static bool failed_once;  /* the disk */

static void tell_where(void)
{
	struct sim_failed f = sim_failed();

	(void)fprintf(stderr, "repeat: store_fault_test --seed %llu --call %llu --error %d\n",
		      (unsigned long long)w.seed, (unsigned long long)call, error);
	if (f.happened)
		(void)fprintf(stderr, "kind %u, %s, offset %llu: ", f.call,
			      f.in_ring ? "reactor" : "blocking", (unsigned long long)f.offset);
}

/* --- which errors are right --- */

/* What can't be known any more after this fault. */
static bool fails_disk(const struct sim_failed *f)
{
	if (!f->in_ring)
		return false;
	if (f->call == SIM_CALL_SYNC)
		return error == EIO || error == ENOSPC || error == ENOMEM;
	return error == EIO && f->call == SIM_CALL_WRITE && f->offset < TORN_END;
}

static bool waits_for_flush(const struct command *c)
{
	return c->io.op == STORE_FLUSH ||
	       (c->io.op != STORE_READ && (c->io.fua || w.write_through));
}

/* Whether the operation that failed was done for this command. */
static bool belongs(const struct command *c, const struct sim_failed *f)
{
	uint64_t block = f->offset / STORE_BLOCK_BYTES;
	uint64_t first = c->io.offset_bytes / STORE_BLOCK_BYTES;
	uint64_t last = (c->io.offset_bytes + c->io.length_bytes - 1) / STORE_BLOCK_BYTES;
	char proc[32], path[256];
	ssize_t n;

	if (c->io.op == STORE_FLUSH)
		return false;
	if (!f->in_ring)
		return c->io.op != STORE_READ;
	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", f->fd);
	n = readlink(proc, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (strcmp(path, w.image) != 0)
		block -= TORN_END / STORE_BLOCK_BYTES;
	return block >= first && block <= last;
}

static bool forgives(const struct command *c, int res)
{
	struct sim_failed f = sim_failed();

	if (!f.happened)
		return false;
	failures++;
	/* Once failed, a disk refuses all but reads of what its top layer does not own. */
	if (failed_once || fails_disk(&f)) {
		if (!failed_once)
			failed_disks++;
		failed_once = true;
		return res == -EIO &&
		       (waits_for_flush(c) || c->after_failure || c->io.op != STORE_FLUSH);
	}
	switch (error) {
	case EIO: return res == -EIO && failures == 1 && belongs(c, &f);
	case ENOMEM: return res == -ENOMEM && (failures == 1 || waits_for_flush(c));
	/* Of blocking calls within a command; a kernel has no such answer for them. */
	case EAGAIN: return res == -EIO && failures == 1 && !f.in_ring && belongs(c, &f);
	default: return false;
	}
}

/* What blocks fails with the very error, tells why, holds nothing, and works the next time. */
static void attempt(int (*f)(struct store_error *err))
{
	struct store_error err = {""};
	unsigned held = sim_process_holds();
	bool before = sim_failed().happened;
	int r = f(&err);

	if (r == 0)
		return;
	if (before || !sim_failed().happened)
		die(err.text, 0);
	failures++;
	if (error == 0 || (r != -error && !(r == -EIO && error != ENOMEM && error != ENOSPC)))
		die(err.text[0] ? err.text : "the wrong error", (uint64_t)-r);
	if (!err.text[0])
		die("fails and does not say why", 0);
	if (sim_process_holds() != held)
		die("what failed is not given back", 0);
	err.text[0] = '\0';
	must(f(&err), &err);
}

/* --- the run --- */

static int open_try(struct store_error *err)
{
	int r = chain_open(false, err);

	if (r == 0)
		failed_once = false;
	return r;
}

static int seal_try(struct store_error *err)
{
	return store_layer_seal(w.layers[w.layer_count - 1], "", err);
}

static int look_try(struct store_error *err)
{
	int r = chain_open(true, err);

	if (r == 0)
		w.disk->ops->free(w.disk);
	return r;
}

static int image_try(struct store_error *err)
{
	struct store_image_info info;

	return store_image_seal(w.image, &w.image_uuid, "test", NULL, NULL, &info, err);
}

/* Opened after an end that was none: as after a kill, or after a power loss if the disk had
 * failed. */
static void come_back(void)
{
	bool as_it_was = !failed_once;

	attempt(look_try);
	attempt(open_try);
	verify_all(as_it_was);
}

static void killed(void)
{
	if (w.disk)
		process_end();
	sim_arm(true);
	come_back();
}

/* Ends the disk; if that fails it is opened anew and ended once more. */
static void closed(void)
{
	int res = detach_now();
	struct sim_failed f = sim_failed();

	if (res == 0 && failed_once)
		die("a failed disk ends as if all were well", 0);
	if (res < 0) {
		if (!f.happened || (res != -EIO && res != -ENOMEM))
			die("detaching failed", (uint64_t)-res);
		failed_once |= fails_disk(&f);
		come_back();
		if (detach_now() != 0)
			die("detaching failed twice", 0);
	}
	model_all_durable();
}

static void ended(void)
{
	closed();
	attempt(open_try);
	verify_all(true);
}

static void power_lost(void)
{
	process_end();
	power_loss(SIM_LOSS_ALL);
	sim_arm(true);
	failed_once = false;
	attempt(open_try);
	verify_all(false);
}

static void check_disk_failed(void)
{
	struct sim_failed f = sim_failed();
	struct store_stats stats;

	w.disk->ops->stats(w.disk, &stats);
	if (stats.failed && !(f.happened && fails_disk(&f)))
		die("the disk failed without need", 0);
	if (stats.failed)
		failed_once = true;
}

static void acts(uint64_t count)
{
	while (count-- > 0)
		act();
	quiesce();
	check_disk_failed();
	if (!failed_once)
		return;
	/* Refused, however often it is asked. */
	submit_change(command_new(), false);
	submit_flush(command_new());
	quiesce();
}

static int merge_or_nothing(struct store_error *err)
{
	int r = merge_try(err);

	if (r < 0 && access(w.merge.path, F_OK) == 0)
		die("a merge that failed leaves its file", 0);
	return r;
}

static void next_layer(void)
{
	closed();
	attempt(seal_try);
	attempt(layer_try);
	merge_choose();
	attempt(merge_or_nothing);
	merge_take();
	attempt(open_try);
	verify_all(true);
}

static void life(void)
{
	attempt(image_try);
	attempt(layer_try);
	attempt(open_try);
	acts(5 + sim_below(12));
	killed();
	acts(sim_below(8));
	if (sim_below(2))
		next_layer();
	acts(2 + sim_below(8));
	if (sim_below(2))
		ended();
	else
		killed();
	acts(sim_below(6));
	submit_flush(command_new());
	quiesce();
	check_disk_failed();
	power_lost();
	/* Whatever happened, it is a disk like any other again. */
	acts(6);
	killed();
	submit_flush(command_new());
	quiesce();
	check_disk_failed();
	power_lost();
	if (detach_now() != 0 && !sim_failed().happened)
		die("detaching failed", 0);
}

static void run(void)
{
	world_clone();
	sim_init(w.seed);
	sim_set_no_punch(sim_below(4) == 0);
	w.write_through = sim_below(4) == 0;
	w.fua_of = 5;
	failures = 0;
	failed_once = false;
	sim_fail_at(call, error);
	sim_arm(true);
	life();
	sim_arm(false);
	if (sim_process_holds() > 0)
		die("something is never given back", 0);
	reported += failures > 0;
	sim_done();
}

static void seed_run(void)
{
	for (unsigned i = 0; i < ARRAY_COUNT(errors); i++) {
		uint64_t last;

		if (only >= 0 && errors[i] != only)
			continue;
		error = errors[i];
		call = 0;
		run();
		last = sim_call_count(error);
		for (call = 1; call <= last; call++) {
			run();
			faults++;
		}
	}
}

int main(int argc, char **argv)
{
	call = argument(argc, argv, "--call", 0);
	only = error = (int)argument(argc, argv, "--error", (uint64_t)-1);
	w.forgives = forgives;
	world_init("store_fault_test", argc, argv, tell_where);
	if (call) {
		run();
		return 0;
	}
	world_each_seed(argc, argv, by_mode(4, 12, 1500), seed_run);
	(void)printf("%llu faults tried, %llu of them told to somebody, %llu of them failed the "
		     "disk: nothing lost\n",
		     (unsigned long long)faults, (unsigned long long)reported,
		     (unsigned long long)failed_disks);
	return 0;
}
