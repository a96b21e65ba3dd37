/*
 * Random commands against a simple model (store_world.h), with every kind of death, for as long as
 * is wished. store_crash_test.c dies at every point of short runs instead.
 *
 * usage: store_prop_test [--ops N] [--seed S]
 */
#include <stdio.h>
#include <stdlib.h>

#include "store/store_world.h"

static uint64_t op, kills, losses, snapshots, clones;

static void tell_where(void)
{
	(void)fprintf(stderr, "seed %llu, operation %llu: ", (unsigned long long)w.seed,
		      (unsigned long long)op);
}

static void die_and_come_back(bool power)
{
	for (uint64_t steps = sim_below(20); steps > 0 && sim_step(); steps--)
		;
	process_end();
	if (power) {
		power_loss((enum sim_loss)sim_below(SIM_LOSS_COUNT));
		losses++;
	} else {
		kills++;
	}
	sim_arm(true);
	disk_open();
	verify_all(!power);
}

static void snapshot(void)
{
	struct store_error err = {""};

	detach();
	must(store_layer_seal(w.layers[w.layer_count - 1], "", &err), &err);
	layer_add();
	disk_open();
	snapshots++;
}

static void clone_anew(void)
{
	detach();
	w.write_through = sim_below(6) == 0;
	world_clone();
	layer_add();
	disk_open();
	clones++;
}

static void reopen(void)
{
	detach();
	/* The power may fail right after an orderly end, too. */
	if (sim_below(2)) {
		sim_arm(false);
		power_loss(SIM_LOSS_ANY);
		sim_arm(true);
	}
	disk_open();
	verify_all(true);
}

static void step(void)
{
	uint64_t dice = sim_below(10000);
	struct command *c;

	if (dice < 6)
		die_and_come_back(true);
	else if (dice < 12)
		die_and_come_back(false);
	else if (dice < 15 && w.layer_count < CHAIN_MAX)
		snapshot();
	else if (dice < 17)
		clone_anew();
	else if (dice < 19)
		reopen();
	else if (dice < 25)
		sim_set_no_space(sim_below(2) ? 300 : 0);
	else if (dice < 60)
		quiesce();
	else if (dice < 4000)
		(void)sim_step();
	else if ((c = command_new()) == NULL)
		(void)sim_step();
	else if (dice < 6000)
		submit_read(c);
	else if (dice < 8800)
		submit_change(c, false);
	else if (dice < 9700)
		submit_change(c, true);
	else
		submit_flush(c);
	if (!busy(NULL))
		return;
	if (!sim_step())
		quiesce();
}

static void run(uint64_t ops)
{
	sim_init(w.seed);
	sim_set_no_punch(w.seed % 4 == 0);
	sim_arm(true);
	layer_add();
	disk_open();
	for (op = 0; op < ops; op++)
		step();
	detach();
	sim_arm(false);
	if (sim_process_holds() > 0)
		die("something is never given back", 0);
	sim_done();
}

int main(int argc, char **argv)
{
	world_init("store_prop_test", argc, argv, tell_where);
	(void)printf("seed %llu\n", (unsigned long long)w.seed);
	(void)fflush(stdout);
	run(argument(argc, argv, "--ops", by_mode(300000, 1500000, 20000000)));
	(void)printf("%llu reads, %llu writes, %llu discards, %llu flushes, %llu snapshots, %llu "
		     "clones, %llu process deaths, %llu power losses: nothing lost\n",
		     (unsigned long long)w.reads, (unsigned long long)w.writes,
		     (unsigned long long)w.discards, (unsigned long long)w.flushes,
		     (unsigned long long)snapshots, (unsigned long long)clones,
		     (unsigned long long)kills, (unsigned long long)losses);
	return 0;
}
