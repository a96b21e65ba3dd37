/*
 * Disks of a node exchanged again and again while an initiator that others wrote (libiscsi) keeps
 * sixteen commands in flight and checks what it reads: reopened, sealed under a new layer, and
 * grown. Every snapshot that came of it has to be one moment of both disks, with all in it that was
 * acknowledged before it began.
 *
 * LUNROOT_CHECK says how often: quick (a hundred), full, long.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "base/cleanup.h"
#include "session/test_peer.h"

#define INITIATOR "iqn.2026-11.local.lunroot:init:load"
#define TARGET    "iqn.2026-11.local.lunroot:exchanged"
#define SNAPSHOT  "iqn.2026-11.local.lunroot:snapshot"

#define B             STORE_BLOCK_BYTES
#define SLOTS         16u
#define SLOT_BLOCKS   32u
#define BLOCKS        (SLOTS * SLOT_BLOCKS)
#define IO_BLOCKS     8u
#define TWIN_BLOCK    BLOCKS /* on LUN 0, and block 0 of LUN 1 */
#define DISKS         2u
#define SNAPSHOTS_MAX (LIMIT_CHAIN_LAYERS - 1)

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- what a block holds: its number and its version, all over --- */

static uint64_t word(uint32_t block, uint32_t version, unsigned i)
{
	return (((uint64_t)version << 32 | block) + i) * 0x9e3779b97f4a7c15ull;
}

static void block_fill(uint8_t *data, uint32_t block, uint32_t version)
{
	for (unsigned i = 0; i < B / 8; i++) {
		uint64_t w = version ? word(block, version, i) : 0;

		memcpy(data + i * 8, &w, 8);
	}
}

/* Whether it is this version, all of it. */
static bool block_is(const uint8_t *data, uint32_t block, uint32_t version)
{
	uint8_t expected[B];

	block_fill(expected, block, version);
	return memcmp(data, expected, B) == 0;
}

/* --- the load: a thread with a session --- */

struct slot {
	struct load *load;
	uint32_t first, count; /* blocks of the command under way */
	enum { SLOT_WRITE, SLOT_READ, SLOT_FLUSH, SLOT_TWIN_0, SLOT_TWIN_1 } what;
	uint64_t begun_us;
	uint8_t data[IO_BLOCKS * B];
	bool busy;
};

struct load {
	struct iscsi_context *iscsi;
	pthread_t thread;
	atomic_bool stop;
	unsigned busy;
	unsigned seed;
	struct slot slots[SLOTS + 1]; /* the last is the twins' */
	/* Versions of LUN 0: of the write that was begun last, and of the one that was
	 * acknowledged. */
	atomic_uint begun[BLOCKS + 1], acked[BLOCKS + 1];
	atomic_uint commands, attentions, busies;
	uint64_t worst_us;
	char wrong[256]; /* what went wrong first */
};

static void slot_next(struct slot *slot);

static void wrong(struct load *load, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void wrong(struct load *load, const char *format, ...)
{
	va_list args;

	if (load->wrong[0])
		return;
	va_start(args, format);
	(void)vsnprintf(load->wrong, sizeof(load->wrong), format, args);
	va_end(args);
	atomic_store(&load->stop, true);
}

static bool is_twin(const struct slot *slot)
{
	return slot == &slot->load->slots[SLOTS];
}

static void slot_ended(struct slot *slot, const struct scsi_task *task)
{
	struct load *load = slot->load;

	if (slot->what == SLOT_WRITE || slot->what == SLOT_TWIN_0) {
		for (uint32_t b = slot->first; b < slot->first + slot->count; b++)
			atomic_store(&load->acked[b], atomic_load(&load->begun[b]));
	} else if (slot->what == SLOT_READ) {
		if (task->datain.size != (int)(slot->count * B))
			wrong(load, "a read of %u blocks got %d bytes", slot->count,
			      task->datain.size);
		for (uint32_t i = 0; i < slot->count && !load->wrong[0]; i++) {
			uint32_t block = slot->first + i,
				 version = atomic_load(&load->acked[block]);

			if (!block_is(task->datain.data + i * B, block, version))
				wrong(load, "block %u is not its version %u", block, version);
		}
	}
}

static void slot_submit(struct slot *slot);

static void slot_done(struct iscsi_context *iscsi, int status, void *command_data, void *arg)
{
	struct slot *slot = arg;
	struct load *load = slot->load;
	struct scsi_task *task = command_data;
	uint64_t us = now_us() - slot->begun_us;
	bool again = false;

	(void)iscsi;
	slot->busy = false;
	load->busy--;
	if (us > load->worst_us)
		load->worst_us = us;
	atomic_fetch_add(&load->commands, 1);
	if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION &&
	    task->sense.ascq == 0x2a09) {
		atomic_fetch_add(&load->attentions, 1);
		again = true;
	} else if (status == SCSI_STATUS_BUSY || status == SCSI_STATUS_TASK_SET_FULL) {
		atomic_fetch_add(&load->busies, 1);
		again = true;
	} else if (status != SCSI_STATUS_GOOD) {
		wrong(load, "status %d, sense %x/%04x", status, task ? task->sense.key : 0,
		      task ? (unsigned)task->sense.ascq : 0);
	} else {
		slot_ended(slot, task);
	}
	if (task)
		scsi_free_scsi_task(task);
	if (again)
		slot_submit(slot);
	else if (!atomic_load(&load->stop))
		slot_next(slot);
}

static void slot_submit(struct slot *slot)
{
	struct iscsi_context *iscsi = slot->load->iscsi;
	uint32_t bytes = slot->count * B;
	uint64_t lba = (uint64_t)slot->first * (B / 512);
	struct scsi_task *task = NULL;

	slot->busy = true;
	slot->load->busy++;
	switch (slot->what) {
	case SLOT_WRITE:
	case SLOT_TWIN_0:
		task = iscsi_write16_task(iscsi, 0, lba, slot->data, bytes, 512, 0, 0, 0, 0, 0,
					  slot_done, slot);
		break;
	case SLOT_TWIN_1:
		task = iscsi_write16_task(iscsi, 1, 0, slot->data, B, 512, 0, 0, 0, 0, 0, slot_done,
					  slot);
		break;
	case SLOT_READ:
		task = iscsi_read16_task(iscsi, 0, lba, bytes, 512, 0, 0, 0, 0, 0, slot_done, slot);
		break;
	case SLOT_FLUSH:
		task = iscsi_synchronizecache10_task(iscsi, 0, 0, 0, 0, 0, slot_done, slot);
		break;
	}
	if (!task)
		wrong(slot->load, "no task: %s", iscsi_get_error(iscsi));
}

static unsigned chance(struct load *load, unsigned bound)
{
	return (unsigned)rand_r(&load->seed) % bound;
}

/* LUN 1 never has a version that LUN 0 had not acknowledged. */
static void twin_next(struct slot *slot)
{
	slot->count = 1;
	slot->first = TWIN_BLOCK;
	slot->what = slot->what == SLOT_TWIN_0 ? SLOT_TWIN_1 : SLOT_TWIN_0;
	if (slot->what == SLOT_TWIN_0)
		block_fill(slot->data, TWIN_BLOCK,
			   atomic_fetch_add(&slot->load->begun[TWIN_BLOCK], 1) + 1);
}

static void slot_next(struct slot *slot)
{
	struct load *load = slot->load;
	unsigned index = (unsigned)(slot - load->slots), dice = chance(load, 100);

	slot->begun_us = now_us();
	if (is_twin(slot)) {
		twin_next(slot);
		slot_submit(slot);
		return;
	}
	slot->count = 1 + chance(load, IO_BLOCKS);
	slot->first = index * SLOT_BLOCKS + chance(load, SLOT_BLOCKS - slot->count + 1);
	slot->what = dice < 60 ? SLOT_WRITE : dice < 97 ? SLOT_READ : SLOT_FLUSH;
	for (uint32_t i = 0; i < slot->count && slot->what == SLOT_WRITE; i++) {
		uint32_t block = slot->first + i;

		block_fill(slot->data + i * B, block, atomic_fetch_add(&load->begun[block], 1) + 1);
	}
	slot_submit(slot);
}

static void *load_thread(void *arg)
{
	struct load *load = arg;

	for (unsigned i = 0; i <= SLOTS; i++)
		slot_next(&load->slots[i]);
	while (load->busy > 0) {
		struct pollfd fd = {.fd = iscsi_get_fd(load->iscsi),
				    .events = (short)iscsi_which_events(load->iscsi)};

		if (poll(&fd, 1, 1000) < 0 || iscsi_service(load->iscsi, fd.revents) < 0) {
			wrong(load, "the connection is lost: %s", iscsi_get_error(load->iscsi));
			break;
		}
		if (load->wrong[0])
			break;
	}
	return NULL;
}

/* --- the node's disks --- */

struct chain {
	char paths[LIMIT_CHAIN_LAYERS][96];
	struct store_layer_info infos[LIMIT_CHAIN_LAYERS];
	unsigned count;
};

struct snapshot {
	unsigned layer_count;
	unsigned acked[BLOCKS + 1], begun[BLOCKS + 1]; /* before it began; when it was taken */
};

static struct {
	struct test_server server;
	char dir[64], run_dir[64];
	struct chain chains[DISKS];
	struct snapshot snapshots[SNAPSHOTS_MAX];
	unsigned snapshot_count;
	struct load load;
	uint8_t uuid[16];
} t;

static void layer_add(struct chain *chain, uint64_t size_bytes)
{
	struct store_layer_info *info = &chain->infos[chain->count];
	const struct store_layer_info *parent = chain->count ? info - 1 : NULL;
	struct store_error err = {""};

	assert_true(chain->count < LIMIT_CHAIN_LAYERS);
	*info = (struct store_layer_info){.size_bytes = size_bytes};
	store_uuid_generate(&info->uuid);
	if (parent) {
		info->parent_kind = STORE_PARENT_LAYER;
		info->parent_uuid = parent->uuid;
		info->parent_size_bytes = parent->size_bytes;
	}
	(void)snprintf(chain->paths[chain->count], sizeof(chain->paths[0]), "%s/%u-%u.cow", t.dir,
		       (unsigned)(chain - t.chains), chain->count);
	if (store_layer_create(chain->paths[chain->count], info, &err) < 0)
		fail_msg("%s", err.text);
	chain->count++;
}

static struct store_disk *chain_open(const struct chain *chain, unsigned layer_count,
				     bool read_only)
{
	struct store_chain files = {
		.layer_count = layer_count, .run_dir = t.run_dir, .read_only = read_only};
	struct store_error err = {""};
	struct store_disk *disk;

	for (unsigned i = 0; i < layer_count; i++)
		files.layer_paths[i] = chain->paths[i];
	if (store_open(&files, &disk, &err) < 0)
		fail_msg("%s", err.text);
	return disk;
}

static void units_open(struct server_unit units[DISKS])
{
	for (uint8_t i = 0; i < DISKS; i++) {
		units[i] = (struct server_unit){
			.lun = i, .disk = chain_open(&t.chains[i], t.chains[i].count, false)};
		memcpy(units[i].uuid.b, t.uuid, 16);
		units[i].uuid.b[15] = i;
	}
}

static void forget_attentions(struct iscsi_context *iscsi)
{
	for (int lun = 0; lun < (int)DISKS; lun++) {
		struct scsi_task *task = iscsi_testunitready_sync(iscsi, lun);

		assert_non_null(task);
		scsi_free_scsi_task(task);
	}
}

static struct iscsi_context *new_session(const char *target)
{
	struct iscsi_context *iscsi = iscsi_create_context(INITIATOR);

	assert_non_null(iscsi);
	assert_int_equal(iscsi_set_targetname(iscsi, target), 0);
	assert_int_equal(iscsi_set_session_type(iscsi, ISCSI_SESSION_NORMAL), 0);
	iscsi_set_noautoreconnect(iscsi, 1);
	iscsi_set_timeout(iscsi, 120);
	assert_int_equal(iscsi_full_connect_sync(iscsi, t.server.address, 0), 0);
	forget_attentions(iscsi); /* POWER ON, unless connecting has taken it */
	return iscsi;
}

static int setup(void **state)
{
	struct server_unit units[DISKS];

	(void)state;
	memset(&t, 0, sizeof(t));
	(void)snprintf(t.dir, sizeof(t.dir), "/var/tmp/lunroot-exchange-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	(void)snprintf(t.run_dir, sizeof(t.run_dir), "/dev/shm/lunroot-exchange-XXXXXX");
	assert_non_null(mkdtemp(t.run_dir));
	test_server_start(&t.server, NULL);
	for (unsigned i = 0; i < DISKS; i++)
		layer_add(&t.chains[i], 16 * LIMIT_DISK_BYTES_MIN);
	test_uuid(77, t.uuid);
	units_open(units);
	assert_int_equal(test_target_add_units(&t.server, TARGET, 77, false, units, DISKS), 0);
	t.load.iscsi = new_session(TARGET);
	t.load.seed = 4711;
	for (unsigned i = 0; i <= SLOTS; i++)
		t.load.slots[i] = (struct slot){.load = &t.load, .what = SLOT_TWIN_1};
	return 0;
}

static int teardown(void **state)
{
	char command[160];

	(void)state;
	test_server_stop(&t.server);
	(void)snprintf(command, sizeof(command), "rm -r '%s' '%s'", t.dir, t.run_dir);
	assert_int_equal(system(command), 0);
	return 0;
}

static void load_start(void)
{
	assert_int_equal(pthread_create(&t.load.thread, NULL, load_thread, &t.load), 0);
}

static void load_stop(void)
{
	atomic_store(&t.load.stop, true);
	pthread_join(t.load.thread, NULL);
	if (t.load.wrong[0])
		fail_msg("%s", t.load.wrong);
}

/* --- exchanging --- */

static void hold(void)
{
	server_target_hold(t.server.server, t.uuid, false, test_server_cb, &t.server);
	test_server_wait(&t.server);
	assert_int_equal(t.server.res, 0);
}

static void resume(void)
{
	struct server_unit units[DISKS];

	units_open(units);
	server_target_resume(t.server.server, t.uuid, units, DISKS, test_server_cb, &t.server);
	test_server_wait(&t.server);
	assert_int_equal(t.server.res, 0);
}

static void versions(const atomic_uint *from, unsigned to[BLOCKS + 1])
{
	for (unsigned b = 0; b <= BLOCKS; b++)
		to[b] = atomic_load(&from[b]);
}

/* The tops are sealed and new ones put on them, larger ones if asked for. */
static void take_snapshot(uint64_t more_bytes)
{
	struct snapshot *snapshot = &t.snapshots[t.snapshot_count++];
	struct store_error err = {""};

	snapshot->layer_count = t.chains[0].count;
	versions(t.load.acked, snapshot->acked);
	hold();
	versions(t.load.begun, snapshot->begun);
	for (unsigned i = 0; i < DISKS; i++) {
		struct chain *chain = &t.chains[i];

		assert_int_equal(store_layer_seal(chain->paths[chain->count - 1], "", &err), 0);
		layer_add(chain, chain->infos[chain->count - 1].size_bytes + more_bytes);
	}
	resume();
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

struct times {
	uint64_t *us;
	unsigned count;
};

static void times_tell(struct times *times, const char *what)
{
	qsort(times->us, times->count, sizeof(*times->us), by_size);
	print_message("%-28s median %6.1f ms, max %6.1f ms of %u\n", what,
		      (double)times->us[times->count / 2] / 1000,
		      (double)times->us[times->count - 1] / 1000, times->count);
}

static unsigned by_mode(unsigned quick, unsigned full, unsigned much)
{
	const char *mode = getenv("LUNROOT_CHECK");

	return mode && !strcmp(mode, "full") ? full : mode && !strcmp(mode, "long") ? much : quick;
}

/* The same files closed and opened again, and at times a snapshot or a larger disk. */
static void exchange(unsigned count, const char *what)
{
	struct times holds = {calloc(count, sizeof(uint64_t)), count};
	struct times pauses = {calloc(count, sizeof(uint64_t)), count};
	unsigned each = count / SNAPSHOTS_MAX + 1;
	char text[64];

	assert_non_null(holds.us);
	assert_non_null(pauses.us);
	for (unsigned i = 0; i < count && !t.load.wrong[0]; i++) {
		uint64_t begun_us = now_us();

		if (i % each == each - 1 && t.snapshot_count < SNAPSHOTS_MAX) {
			take_snapshot(i / each % 2 ? LIMIT_DISK_BYTES_MIN : 0);
			holds.us[i] = pauses.us[i] = now_us() - begun_us;
			continue;
		}
		hold();
		holds.us[i] = now_us() - begun_us;
		resume();
		pauses.us[i] = now_us() - begun_us;
	}
	(void)snprintf(text, sizeof(text), "%s: hold", what);
	times_tell(&holds, text);
	(void)snprintf(text, sizeof(text), "%s: until resumed", what);
	times_tell(&pauses, text);
	free(holds.us);
	free(pauses.us);
}

/* --- looking back --- */

static void block_read(struct iscsi_context *iscsi, int lun, uint32_t block, uint8_t data[B])
{
	struct scsi_task *task =
		iscsi_read16_sync(iscsi, lun, (uint64_t)block * (B / 512), B, 512, 0, 0, 0, 0, 0);

	assert_non_null(task);
	assert_int_equal(task->status, SCSI_STATUS_GOOD);
	assert_int_equal(task->datain.size, B);
	memcpy(data, task->datain.data, B);
	scsi_free_scsi_task(task);
}

/* The one version from `low` to `high` that the block is; fails if it is none. */
static unsigned version_of(const uint8_t data[B], uint32_t block, unsigned low, unsigned high)
{
	for (unsigned version = low; version <= high; version++) {
		if (block_is(data, block, version))
			return version;
	}
	fail_msg("block %u is none of its versions %u to %u", block, low, high);
	return 0;
}

static void snapshot_check(const struct snapshot *snapshot)
{
	struct server_unit units[DISKS];
	struct iscsi_context *iscsi;
	unsigned first, second;
	uint8_t data[B], uuid[16];

	test_uuid(88, uuid);
	for (uint8_t i = 0; i < DISKS; i++)
		units[i] = (struct server_unit){
			.lun = i,
			.uuid.b = {88, i},
			.disk = chain_open(&t.chains[i], snapshot->layer_count, true)};
	assert_int_equal(test_target_add_units(&t.server, SNAPSHOT, 88, false, units, DISKS), 0);
	iscsi = new_session(SNAPSHOT);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		block_read(iscsi, 0, b, data);
		(void)version_of(data, b, snapshot->acked[b], snapshot->begun[b]);
	}
	block_read(iscsi, 0, TWIN_BLOCK, data);
	first = version_of(data, TWIN_BLOCK, snapshot->acked[TWIN_BLOCK],
			   snapshot->begun[TWIN_BLOCK]);
	block_read(iscsi, 1, 0, data);
	second = version_of(data, TWIN_BLOCK, first ? first - 1 : 0, first);
	assert_true(second <= first);
	iscsi_logout_sync(iscsi);
	iscsi_destroy_context(iscsi);
	server_target_remove(t.server.server, uuid, true, test_server_cb, &t.server);
	test_server_wait(&t.server);
	assert_int_equal(t.server.res, 0);
}

static void all_acknowledged_is_there(struct iscsi_context *iscsi)
{
	uint8_t data[B];

	for (uint32_t b = 0; b <= BLOCKS; b++) {
		unsigned version = atomic_load(&t.load.acked[b]);

		block_read(iscsi, 0, b, data);
		(void)version_of(data, b, version, version);
	}
}

static void assert_size(struct iscsi_context *iscsi, uint64_t bytes)
{
	struct scsi_task *task = iscsi_readcapacity16_sync(iscsi, 0);
	struct scsi_readcapacity16 *capacity;

	assert_non_null(task);
	assert_int_equal(task->status, SCSI_STATUS_GOOD);
	capacity = scsi_datain_unmarshall(task);
	assert_non_null(capacity);
	assert_int_equal((capacity->returned_lba + 1) * 512, bytes);
	scsi_free_scsi_task(task);
}

static void under_load(void **state)
{
	const struct chain *chain = &t.chains[0];
	uint64_t size_bytes;

	(void)state;
	load_start();
	exchange(by_mode(100, 1000, 20000), "loaded");
	load_stop();
	print_message("%u commands, worst %.1f ms; %u unit attentions, %u BUSY\n",
		      atomic_load(&t.load.commands), (double)t.load.worst_us / 1000,
		      atomic_load(&t.load.attentions), atomic_load(&t.load.busies));
	assert_int_equal(atomic_load(&t.load.busies), 0);
	assert_true(t.snapshot_count >= SNAPSHOTS_MAX / 2);
	size_bytes = chain->infos[chain->count - 1].size_bytes;
	assert_true(size_bytes >= (16 + t.snapshot_count / 2) * LIMIT_DISK_BYTES_MIN);
	assert_true(atomic_load(&t.load.attentions) > 0);
	forget_attentions(t.load.iscsi);
	assert_size(t.load.iscsi, size_bytes);
	all_acknowledged_is_there(t.load.iscsi);
	hold();
	resume();
	all_acknowledged_is_there(t.load.iscsi);
	iscsi_logout_sync(t.load.iscsi);
	iscsi_destroy_context(t.load.iscsi);
	for (unsigned i = 0; i < t.snapshot_count; i++)
		snapshot_check(&t.snapshots[i]);
}

static void idle(void **state)
{
	struct scsi_task *task;

	(void)state;
	exchange(by_mode(50, 200, 2000), "idle");
	/* Nobody asked in between: one telling for all. */
	task = iscsi_testunitready_sync(t.load.iscsi, 0);
	assert_non_null(task);
	assert_int_equal(task->status, SCSI_STATUS_CHECK_CONDITION);
	assert_int_equal(task->sense.key, SCSI_SENSE_UNIT_ATTENTION);
	assert_int_equal(task->sense.ascq, 0x2a09);
	scsi_free_scsi_task(task);
	assert_size(t.load.iscsi, t.chains[0].infos[t.chains[0].count - 1].size_bytes);
	iscsi_logout_sync(t.load.iscsi);
	iscsi_destroy_context(t.load.iscsi);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(under_load, setup, teardown),
		cmocka_unit_test_setup_teardown(idle, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
