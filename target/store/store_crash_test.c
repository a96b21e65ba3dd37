/*
 * Dies at every point. A short run, random by its seed, makes a layer, opens the disk, sends
 * commands, several at a time, flushes, seals and goes on in a new layer. It is done again and
 * again and ended each time at another point: before, after and in the middle of each thing that it
 * changes (writes, holes, syncs, sizes, entries of folders), whether by the reactor or blocking.
 * Some runs make an image instead. Others repair a layer that was damaged (store_damage.h).
 * Each point sees several ends: the process dies, or the power fails and nothing, everything or a
 * part of what was not synced is left. Then the disk is opened, compared with the model, used on,
 * perhaps ended again at some point of that, and compared once more.
 *
 * usage: store_crash_test [--seeds N] [--seed FIRST] [--commands MAX] [--point P --ending E]
 *                         [--repair 1]
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/cleanup.h"
#include "base/mutant.h"
#include "store/store_damage.h"
#include "store/store_world.h"

#define LIVES_MAX 3

enum ending { ENDING_KILL, ENDING_POWER }; /* and enum sim_loss */

#define ENDINGS (ENDING_POWER + SIM_LOSS_COUNT)

/* What a run has done so far: what may be asked of the files. */
static struct {
	bool making;  /* a layer; the chain does not have it yet; its file may be there */
	bool sealing; /* the top */
	bool sealed;  /* it is, for certain */
	bool merging; /* what lies below the top */
	bool image;   /* the run is of an image; it is made, for certain: */
	bool imported;
	bool exported; /* copied to another file, for certain */
	/* The power failed, and what is left has not been looked at yet. */
	bool fallen;
	/* The run is of repairing this layer: */
	bool repair;
	unsigned layer;
	bool uncertain; /* one of its map pages is not known for certain */
	bool refused;   /* it can't be opened until it is mended */
	bool repaired;  /* it is, for certain */
} doing;

static uint64_t point, command_max;
static unsigned ending;
static bool repair_runs;
/* Of a run of repairing: where its first life begins, and where its repair ends. */
static uint64_t repair_begin, repair_end;
static uint64_t points, crashes, second_crashes;

static void tell_where(void)
{
	(void)fprintf(
		stderr,
		"repeat: store_crash_test --seed %llu --commands %llu --point %llu --ending %u "
		"--repair %d\n",
		(unsigned long long)w.seed, (unsigned long long)command_max,
		(unsigned long long)point, ending, repair_runs);
}

/* --- lives --- */

static void layer_make(void)
{
	doing.making = true;
	layer_add();
	doing.making = false;
	doing.sealing = doing.sealed = false;
}

static void top_seal(void)
{
	struct store_error err = {""};

	/* Damage to one copy must not make a death meanwhile worse. */
	if (!doing.sealing && sim_below(2) == 0) {
		sim_arm(false);
		damage_header(w.layers[w.layer_count - 1], (unsigned)sim_below(2));
		sim_arm(true);
	}
	doing.sealing = true;
	must(store_layer_seal(w.layers[w.layer_count - 1], "", &err), &err);
	doing.sealed = true;
}

/* The old layers go; the chain does not have them any more. */
static void merge(void)
{
	struct store_error err = {""};
	char old[CHAIN_MAX][sizeof(w.layers[0])];
	unsigned old_count = w.layer_count - 1;

	memcpy(old, w.layers, sizeof(old));
	merge_choose();
	doing.merging = true;
	must(merge_try(&err), &err);
	merge_take();
	doing.merging = false;
	for (unsigned i = w.merge.first; i < old_count; i++)
		(void)unlink(old[i]);
}

/* A layer on top of another; perhaps those beneath become one. */
static void snapshot(void)
{
	top_seal();
	layer_make();
	if (sim_below(2))
		merge();
}

static void killed_in_between(void)
{
	process_end();
	sim_arm(true);
	disk_open();
	verify_all(true);
}

static void act_or_reopen(void)
{
	uint64_t dice = sim_below(50);

	if (dice == 0) {
		killed_in_between();
	} else if (dice < 3) {
		detach();
		if (w.layer_count < CHAIN_MAX && sim_below(3) == 0)
			snapshot();
		disk_open();
		verify_all(true);
	} else {
		act();
	}
}

static void first_life(void)
{
	layer_make();
	disk_open();
	for (uint64_t n = sim_below(command_max); n > 0; n--)
		act_or_reopen();
	detach();
	if (sim_below(3) && w.layer_count < CHAIN_MAX)
		snapshot();
	disk_open();
	verify_all(true);
	for (uint64_t n = sim_below(20); n > 0; n--)
		act_or_reopen();
	detach();
}

/* Any one copy of the header is enough, unless it was being written or is damaged. */
static void copies_check(const char *path, bool sealed)
{
	struct store_layer_info info;
	struct store_error err = {""};

	for (unsigned copy = 0; copy < 2; copy++) {
		damage_header(path, copy);
		must(store_layer_info(path, &info, &err), &err);
		if (info.sealed != sealed)
			die("the copies of a header differ", 0);
		damage_header(path, copy);
	}
}

/* A power loss is no damage. */
static void nothing_is_lost(void *arg, enum store_finding finding, const char *text)
{
	(void)arg;
	if (finding == STORE_FINDING_LOST)
		die(text, 0);
}

static void layers_check(void)
{
	struct store_layer_info info;
	struct store_error err = {""};
	bool thorough = sim_below(4) == 0;

	for (unsigned i = 0; i < w.layer_count; i++) {
		bool top = i == w.layer_count - 1;

		must(store_layer_info(w.layers[i], &info, &err), &err);
		if (!info.sealed && (!top || doing.sealed))
			die("a sealed layer is not sealed any more", 0);
		if (info.sealed && top && !doing.sealing)
			die("a layer is sealed that nobody sealed", 0);
		if (thorough)
			must(store_layer_check(w.layers[i], w.run_dir, false, false,
					       nothing_is_lost, NULL, NULL, &err),
			     &err);
		if (!top || doing.sealed || !doing.sealing)
			copies_check(w.layers[i], info.sealed);
	}
}

/* Looks through a disk opened for reading only, as a process may that is not the daemon. */
static void look(void)
{
	disk_open_to_read();
	verify_all(!doing.fallen);
	w.disk->ops->free(w.disk);
	w.disk = NULL;
}

/* The old layers are still right, and the new one is no layer, or all of it. */
static void merge_forget(void)
{
	static struct world before;
	struct store_layer_info info;
	struct store_error err;

	if (store_layer_info(w.merge.path, &info, &err) == 0) {
		memcpy(&before.layers, &w.layers, sizeof(w.layers));
		memcpy(&before.layer_uuids, &w.layer_uuids, sizeof(w.layer_uuids));
		before.layer_count = w.layer_count;
		before.without_image = w.without_image;
		/* No death meanwhile: the chain is not what it is. */
		sim_end_at(0, NULL);
		merge_take();
		look();
		memcpy(&w.layers, &before.layers, sizeof(w.layers));
		memcpy(&w.layer_uuids, &before.layer_uuids, sizeof(w.layer_uuids));
		w.layer_count = before.layer_count;
		w.without_image = before.without_image;
	}
	(void)unlink(w.merge.path);
	doing.merging = false;
}

/* What the control plane does at its start, then some use. */
static void next_life(void)
{
	sim_arm(false);
	/* Still being made: the next power loss may bring back what is removed here. */
	if (doing.making)
		(void)unlink(w.layers[w.layer_count]);
	layers_check();
	sim_arm(true);
	if (doing.merging)
		merge_forget();
	if (w.layer_count > 0 && (doing.sealed || sim_below(3) == 0))
		look();
	if (doing.sealing)
		top_seal();
	if (w.layer_count == 0 || doing.sealed)
		layer_make();
	disk_open();
	verify_all(!doing.fallen);
	doing.fallen = false;
	for (uint64_t n = sim_below(12); n > 0; n--)
		act_or_reopen();
}

/* All that is acknowledged is flushed; then the power fails. */
static void last_life(void)
{
	/* Flushes of scratch disks do nothing; their orderly end does. */
	if (w.scratch) {
		detach();
	} else {
		quiesce();
		submit_flush(command_new());
		quiesce();
	}
	model_all_durable();
	process_end();
	power_loss(SIM_LOSS_ALL);
	sim_arm(true);
	disk_open();
	verify_all(false);
	detach();
}

/* --- the lives of an image --- */

#define IMPORT_BYTES (5 * STORE_BLOCK_BYTES + STORE_SECTOR_BYTES)

static char import_path[128], export_path[128];
static store_uuid_t import_uuid;

static void import_fill(uint8_t data[IMPORT_BYTES])
{
	for (unsigned i = 0; i < IMPORT_BYTES; i++)
		data[i] = (uint8_t)(i / STORE_BLOCK_BYTES % 3 ? w.seed + i / 100 : 0);
}

static void import(void)
{
	static uint8_t data[IMPORT_BYTES];
	struct store_image_info info;
	struct store_error err = {""};
	int fd = open(import_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	import_fill(data);
	if (fd < 0 || pwrite(fd, data, sizeof(data), 0) != sizeof(data))
		die("no image", 0);
	close(fd);
	store_uuid_generate(&import_uuid);
	must(store_image_seal(import_path, &import_uuid, "test", NULL, NULL, &info, &err), &err);
	doing.imported = true;
}

/* As a restored backup: its content hash is compared, and the sidecar gets the new time. */
static void import_touch(void)
{
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1 + (time_t)sim_below(1000)}};

	if (utimensat(AT_FDCWD, import_path, times, 0) < 0)
		die("no image", 0);
}

static void content_check(const char *path)
{
	static uint8_t data[IMPORT_BYTES], expected[IMPORT_BYTES];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	import_fill(expected);
	if (fd < 0 || pread(fd, data, sizeof(data), 0) != sizeof(data) ||
	    memcmp(data, expected, sizeof(data)) != 0)
		die("an image is not what was imported", 0);
	close(fd);
}

static struct store_chain import_chain(void)
{
	return (struct store_chain){
		.image_path = import_path, .image_uuid = import_uuid, .read_only = true};
}

static void import_open(void)
{
	struct store_chain chain = import_chain();
	struct store_error err = {""};
	struct store_disk *disk;

	must(store_open(&chain, &disk, &err), &err);
	disk->ops->free(disk);
	content_check(import_path);
}

/* The caller makes the file's name durable, the store its content. */
static void export(void)
{
	struct store_chain chain = import_chain();
	struct store_error err = {""};
	int fd = open(export_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int dir = open(w.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || dir < 0 || fsync(dir) < 0)
		die("no export", 0);
	must(store_copy(&chain, fd, NULL, &err), &err);
	doing.exported = true;
	close(fd);
	close(dir);
}

static void import_forget(void)
{
	char path[sizeof(import_path) + 16];

	(void)snprintf(import_path, sizeof(import_path), "%s/import", w.dir);
	(void)snprintf(path, sizeof(path), "%s.json", import_path);
	(void)snprintf(export_path, sizeof(export_path), "%s/export", w.dir);
	(void)unlink(export_path);
	(void)unlink(import_path);
	(void)unlink(path);
	(void)strncat(path, ".new", sizeof(path) - strlen(path) - 1);
	(void)unlink(path);
}

static void image_live(void)
{
	if (!doing.imported) {
		sim_arm(false);
		import_forget();
		sim_arm(true);
		import();
	}
	import_open();
	if (doing.exported)
		content_check(export_path);
	doing.exported = false;
	export();
	import_touch();
	import_open();
}

/* --- the lives of a repair --- */

/* One page is damaged in one way, or the disk could not be what it was. */
static void layer_damage(const char *path, unsigned kinds)
{
	unsigned pages = 0;

	for (unsigned kind = 0; kind < DAMAGE_COUNT; kind++) {
		/* The last page's is for DAMAGE_BEYOND_END. */
		unsigned page = (unsigned)sim_below(3);
		bool of_page = kind >= DAMAGE_OLDER_SLOT && kind <= DAMAGE_TORN_SLOT;

		if (!(kinds >> kind & 1) || (of_page && (pages >> page & 1)) ||
		    !damage_do(path, (enum damage)kind, page, sim_random()))
			continue;
		if (of_page)
			pages |= 1u << page;
		if (!damage_is_harmless((enum damage)kind))
			doing.refused = true;
		if (kind == DAMAGE_NEWER_SLOT || kind == DAMAGE_ZERO_SLOT)
			doing.uncertain = true;
	}
}

/* A chain that is flushed, and some damage to one of its layers. */
static void repair_prepare(void)
{
	/* LENGTH first: it needs the pages. What was discarded can't be known of a damaged page. */
	unsigned kinds = 1u << sim_below(DAMAGE_COUNT) | (unsigned)sim_below(1u << DAMAGE_COUNT);
	bool discards = !(kinds >> DAMAGE_NEWER_SLOT & 1) && !(kinds >> DAMAGE_ZERO_SLOT & 1);

	sim_arm(true);
	for (unsigned layers = 1 + (unsigned)sim_below(3); layers > 0; layers--) {
		layer_make();
		disk_open();
		for (uint64_t n = 1 + sim_below(command_max); n > 0; n--) {
			struct command *c = command_new();

			if (!c)
				quiesce();
			else if (sim_below(5) == 0)
				submit_flush(c);
			else
				submit_change(c, discards && sim_below(4) == 0);
		}
		detach();
		if (layers > 1)
			top_seal();
	}
	sim_arm(false);
	sim_forget();
	doing.layer = (unsigned)sim_below(w.layer_count);
	layer_damage(w.layers[doing.layer], kinds);
	doing.sealing = doing.sealed = false;
	repair_begin = sim_point_count();
}

/* What a repair that was cut off leaves reads as before, or is refused as before. */
static void repair_look(void)
{
	struct store_error err = {""};
	int r = chain_open(true, &err);

	if (r == -EBADMSG && doing.refused && !doing.repaired)
		return;
	must(r, &err);
	verify_all(!doing.fallen);
	w.disk->ops->free(w.disk);
	w.disk = NULL;
}

static void repair_found(void *arg, enum store_finding finding, const char *text)
{
	(void)arg;
	if (finding == STORE_FINDING_LOST && !doing.uncertain)
		die(text, 0);
}

static void nothing_is_wrong(void *arg, enum store_finding finding, const char *text)
{
	(void)arg;
	if (finding != STORE_FINDING_NOTE)
		die(text, 0);
}

static void repair_live(void)
{
	const char *path = w.layers[doing.layer];
	struct store_error err = {""};

	repair_look();
	must(store_layer_check(path, w.run_dir, true, false, repair_found, NULL, NULL, &err), &err);
	doing.repaired = true;
	repair_end = sim_point_count();
	must(store_layer_check(path, w.run_dir, false, false, nothing_is_wrong, NULL, NULL, &err),
	     &err);
	disk_open();
	verify_all(!doing.fallen);
	doing.fallen = false;
	for (uint64_t n = sim_below(12); n > 0; n--)
		act();
	last_life();
}

/* --- a whole run --- */

static void live(unsigned life)
{
	sim_arm(true);
	if (doing.repair) {
		repair_live();
	} else if (doing.image) {
		image_live();
	} else if (life == 0) {
		first_life();
	} else {
		next_life();
		last_life();
	}
	sim_arm(false);
	if (sim_process_holds() > 0)
		die("something is never given back", 0);
}

/* --- deaths --- */

static void lose_power(unsigned how)
{
	if (how == ENDING_KILL)
		return;
	doing.fallen = true;
	power_loss((enum sim_loss)(how - ENDING_POWER));
}

/* Runs it, ended at `point` in its first life (0: never). */
static void run(void)
{
	volatile unsigned life = 0, how = ending;
	volatile uint64_t at = point;
	jmp_buf end;

	world_clone();
	memset(&doing, 0, sizeof(doing));
	sim_init(w.seed);
	doing.repair = repair_runs;
	doing.image = sim_below(8) == 0;
	sim_set_no_punch(sim_below(4) == 0);
	w.write_through = sim_below(6) == 0;
	w.scratch = !w.write_through && sim_below(6) == 0;
	w.fua_of = 6;
	if (doing.repair)
		repair_prepare();
	while (setjmp(end) != 0) {
		process_end();
		for (unsigned i = 0; i < ending; i++)
			(void)sim_random();
		lose_power(how);
		if (life++ > 0)
			second_crashes++;
		at = life + 1 < LIVES_MAX && sim_below(2) ? 1 + sim_below(120) : 0;
		if (sim_below(3) == 0)
			how = (unsigned)sim_below(ENDINGS);
	}
	sim_end_at(at, &end);
	live(life);
	sim_done();
}

static void seed_run(void)
{
	uint64_t last;

	point = 0;
	run();
	/* When it is repaired it is a disk as any other. */
	last = repair_runs ? repair_end - repair_begin + 3 : sim_point_count();
	points += last;
	for (point = 1; point <= last; point++) {
		static const unsigned others[] = {ENDING_POWER + SIM_LOSS_NONE,
						  ENDING_POWER + SIM_LOSS_MOST,
						  ENDING_POWER + SIM_LOSS_FEW};
		const unsigned endings[] = {ENDING_KILL, ENDING_POWER + SIM_LOSS_ALL,
					    ENDING_POWER + SIM_LOSS_ANY,
					    ENDING_POWER + SIM_LOSS_TORN, others[point % 3]};

		for (unsigned i = 0; i < ARRAY_COUNT(endings); i++) {
			ending = endings[i];
			run();
			crashes++;
		}
	}
}

static void both_kinds_run(void)
{
	for (unsigned kind = 0; kind < 2; kind++) {
		repair_runs = kind == 1;
		seed_run();
	}
}

int main(int argc, char **argv)
{
	command_max = argument(argc, argv, "--commands", 70);
	point = argument(argc, argv, "--point", 0);
	ending = (unsigned)argument(argc, argv, "--ending", 0);
	repair_runs = argument(argc, argv, "--repair", 0);
	/* Its memory, too, is a process's, and goes with it. */
	json_set_alloc_funcs(malloc, free);
	world_init("store_crash_test", argc, argv, tell_where);
	if (point) {
		run();
		return 0;
	}
	world_each_seed(argc, argv, by_mode(10, 16, 2000), both_kinds_run);
	(void)printf("%llu crash points, %llu crashes tried, %llu of them followed by another: "
		     "nothing lost\n",
		     (unsigned long long)points, (unsigned long long)crashes,
		     (unsigned long long)second_crashes);
	return 0;
}
