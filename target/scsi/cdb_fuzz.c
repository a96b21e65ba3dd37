/*
 * Arbitrary CDBs, data lengths that lie, rooms that are too short, aborts and resets at any
 * moment, against a disk in memory. What must hold: a task ends exactly once, tells no more
 * data than its room, leaves the bytes behind the room alone, and gives its memory back.
 *
 * The input is a list of steps. Each begins with one byte that says what to do:
 *   00-9f  a command: attribute and LUN, 16 bytes CDB, room (2 bytes), then it runs
 *   a0-cf  the same, but left in flight, to be mixed with what follows
 *   d0-df  abort one that is in flight       e0-ef  one store I/O completes, maybe badly
 *   f0-ff  a reset, a grown disk, a new nexus
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scsi/scsi_fake.h"
#include "scsi/scsi_internal.h"

#define DISK_BYTES   (1u << 20)
#define FLIGHT_MAX   8
#define STEPS_MAX    64
#define REDZONE      64
#define REDZONE_BYTE 0x5a

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct flight {
	struct scsi_task task;
	uint8_t *room;
	uint32_t room_bytes;
	bool busy;
	unsigned done_count;
};

static struct flight flights[FLIGHT_MAX];
static struct fake_disk *disk;
static struct scsi_device *device;
static struct scsi_nexus *nexuses[2];
static bool disk_freed;

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_redzone(const struct flight *flight)
{
	for (unsigned i = 0; i < REDZONE; i++)
		require(flight->room[flight->room_bytes + i] == REDZONE_BYTE);
}

static void done(struct scsi_task *task)
{
	struct flight *flight = CONTAINER_OF(task, struct flight, task);

	require(flight->busy);
	require(++flight->done_count == 1);
	check_redzone(flight);
	if (task->direction == SCSI_DATA_IN)
		require(task->data_bytes <= flight->room_bytes);
	else
		require(task->data_bytes == 0 && task->wanted_bytes == 0);
	require(task->data_bytes <= task->wanted_bytes);
	require(task->wanted_bytes <= task->transfer_bytes);
	require(task->status == SCSI_CHECK_CONDITION
			? task->sense_bytes >= 8 && task->sense_bytes <= LIMIT_SENSE_BYTES
			: task->sense_bytes == 0);
	require(!task->scratch);
	if (task->status != SCSI_GOOD)
		require(task->data_bytes == 0);
	free(flight->room);
	flight->room = NULL;
	flight->busy = false;
}

struct input {
	const uint8_t *p, *end;
};

static uint8_t take(struct input *input)
{
	return input->p < input->end ? *input->p++ : 0;
}

static struct flight *command(struct input *input)
{
	struct flight *flight = NULL;
	struct scsi_task *task;
	uint8_t shape;
	uint32_t lie;

	for (unsigned i = 0; i < FLIGHT_MAX && !flight; i++)
		flight = flights[i].busy ? NULL : &flights[i];
	if (!flight)
		return NULL;
	memset(flight, 0, sizeof(*flight));
	task = &flight->task;
	shape = take(input);
	task->nexus = nexuses[shape & 1];
	task->attribute = (enum scsi_attribute)(shape >> 1 & 3);
	task->lun = (uint64_t)(shape >> 3 & 3) << 48;
	if (shape & 0x20)
		task->lun |= (uint64_t)take(input) << 56;
	for (unsigned i = 0; i < 16; i++)
		task->cdb[i] = take(input);
	task->done = done;
	lie = take(input);
	task->expected_bytes = lie * 37;
	scsi_task_parse(task);
	require(task->transfer_bytes <= LIMIT_IO_BUFFER_BYTES);
	require((task->direction == SCSI_DATA_NONE) == (task->transfer_bytes == 0));

	/* Most get all they ask for, some nearly, some little, some nothing. */
	flight->room_bytes = task->transfer_bytes;
	if (lie < 0x40)
		flight->room_bytes = (uint32_t)((uint64_t)task->transfer_bytes * lie / 0x40);
	else if (lie < 0x60 && task->transfer_bytes > lie)
		flight->room_bytes = task->transfer_bytes - lie;
	flight->room = malloc(flight->room_bytes + REDZONE);
	require(flight->room);
	if (task->direction == SCSI_DATA_OUT) {
		uint32_t given = flight->room_bytes < 64 ? flight->room_bytes : 64;

		memset(flight->room, lie & 2 ? 0 : 0x33, flight->room_bytes);
		for (uint32_t i = 0; i < given; i++)
			flight->room[i] = take(input);
	}
	memset(flight->room + flight->room_bytes, REDZONE_BYTE, REDZONE);
	if (flight->room_bytes) {
		task->data = flight->room;
		task->data_room_bytes = flight->room_bytes;
	}
	flight->busy = true;
	scsi_task_execute(task);
	require(flight->busy); /* never from inside */
	return flight;
}

static void state_change(struct input *input)
{
	switch (take(input) % 6) {
	case 0: scsi_unit_reset(device, 0); break;
	case 1: scsi_device_reset(device); break;
	case 2: scsi_device_capacity_changed(device, 0); break;
	case 3: scsi_nexus_commands_cleared(nexuses[1], 0); break;
	case 4: fake_bufs_limit(take(input) % 3 - 1); break;
	case 5: /* a nexus goes when its last task is done */
		disk->hold = false;
		fake_run(disk);
		scsi_nexus_free(nexuses[1]);
		require(scsi_nexus_new(device, "iqn.2026-11.test:c,i,0x2", &nexuses[1]) == 0);
		break;
	}
}

static void step(struct input *input)
{
	uint8_t what = take(input);

	disk->hold = what >= 0xa0;
	if (what < 0xd0) {
		command(input);
	} else if (what < 0xe0) {
		if (flights[what % FLIGHT_MAX].busy)
			scsi_task_abort(&flights[what % FLIGHT_MAX].task);
	} else if (what < 0xf0) {
		static const int results[] = {0, 0, -EIO, -ENOSPC, -EROFS};

		disk->fail_res = results[what % 5];
		disk->fail_op = (enum store_op)(take(input) % 4);
		fake_disk_complete(disk);
		disk->fail_res = 0;
	} else {
		state_change(input);
	}
	fake_run(disk);
}

static void closed(void *arg, int res)
{
	(void)arg;
	(void)res;
	device = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = {data, data + size};
	struct scsi_unit_config config = {.product = "fuzzed disk"};
	uint8_t shape = take(&input);

	disk_freed = false;
	disk = fake_disk_new(DISK_BYTES, DISK_BYTES);
	disk->freed = &disk_freed;
	disk->disk.read_only = (shape & 7) == 7;
	disk->disk.volatile_cache = shape & 8;
	disk->disk.scratch = (shape & 15) == 14;
	config.disk = &disk->disk;
	config.removable = shape & 16;
	require(scsi_device_new(fake_ring(), &device) == 0);
	require(scsi_device_add_unit(device, &config) == 0);
	require(scsi_nexus_new(device, "iqn.2026-11.test:a,i,0x1", &nexuses[0]) == 0);
	require(scsi_nexus_new(device, "iqn.2026-11.test:b,i,0x2", &nexuses[1]) == 0);
	if (shape & 32) { /* past the unit attentions */
		uint16_t code;

		while (scsi_nexus_take_attention(nexuses[0], device->units[0], &code))
			;
		while (scsi_nexus_take_attention(nexuses[1], device->units[0], &code))
			;
	}
	for (unsigned i = 0; i < STEPS_MAX && input.p < input.end; i++)
		step(&input);

	disk->hold = false;
	fake_run(disk);
	for (unsigned i = 0; i < FLIGHT_MAX; i++)
		require(!flights[i].busy);
	require(fake_bufs_out() == 0);
	fake_bufs_limit(-1);
	scsi_nexus_free(nexuses[0]);
	scsi_nexus_free(nexuses[1]);
	scsi_device_close(device, closed, NULL);
	fake_run(NULL);
	require(!device && disk_freed);
	return 0;
}

#ifdef CORPUS_REPLAY
/* Without libFuzzer: runs the corpus in the folder it is given, as a test. */
#include <dirent.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	static uint8_t input[65536];
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	unsigned count = 0;

	if (!dir) {
		fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
		return 2;
	}
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
		char path[4096];
		FILE *file;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		file = fopen(path, "rb");
		if (!file)
			return 1;
		LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof(input), file));
		fclose(file);
		count++;
	}
	closedir(dir);
	printf("%u inputs\n", count);
	return count ? 0 : 1;
}
#endif
