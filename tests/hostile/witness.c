/*
 * The witness: see witness.h. One command at a time over libiscsi's asynchronous calls, so that
 * each has a deadline of its own.
 */
#include "witness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define SECTOR_BYTES     512
#define SPAN_SECTORS     16384 /* 8 MiB of the disk */
#define TRANSFER_SECTORS 64
#define PAUSE_US         3000 /* it watches; it is no load */

struct command {
	bool done;
	int status;
};

struct witness {
	struct iscsi_context *iscsi;
	struct iscsi_url *url;
	unsigned stall_ms_max;
	uint32_t *generations; /* of each sector, 0: not written yet */
	uint64_t random;
	/* Here and not on the stack: a command that missed its deadline still points to them. */
	struct command command;
	uint8_t data[TRANSFER_SECTORS * SECTOR_BYTES];
	atomic_bool stop, failed;
	pthread_t thread;
	struct witness_report report;
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint32_t next_random(struct witness *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (uint32_t)(w->random >> 16);
}

static void sector_fill(uint8_t *sector, uint32_t lba, uint32_t generation)
{
	uint32_t value = lba * 2654435761u ^ generation;

	for (unsigned i = 0; i < SECTOR_BYTES; i += 4) {
		value = value * 1664525u + 1013904223u;
		memcpy(sector + i, &value, 4);
	}
}

static void command_done(struct iscsi_context *iscsi, int status, void *data, void *arg)
{
	struct command *command = arg;

	(void)iscsi;
	(void)data;
	command->done = true;
	command->status = status;
}

/* Serves the context until the command is done: 0, -ETIMEDOUT or -ECONNRESET. */
static int await(struct witness *w)
{
	uint64_t begin = now_ms(), took;

	while (!w->command.done) {
		struct pollfd poll_fd = {.fd = iscsi_get_fd(w->iscsi),
					 .events = (short)iscsi_which_events(w->iscsi)};

		if (now_ms() - begin > w->stall_ms_max)
			return -ETIMEDOUT;
		if (poll(&poll_fd, 1, 100) < 0 && errno != EINTR)
			return -errno;
		if (iscsi_service(w->iscsi, poll_fd.revents) < 0)
			return -ECONNRESET;
	}
	took = now_ms() - begin;
	if (took > w->report.slowest_ms)
		w->report.slowest_ms = took;
	return 0;
}

static bool fail(struct witness *w, const char *what, uint32_t lba, int res, struct scsi_task *task)
{
	snprintf(w->report.failure, sizeof(w->report.failure),
		 "%s at sector %u, round %llu: %s%s%s", what, lba,
		 (unsigned long long)w->report.rounds, res ? strerror(-res) : "", res ? "; " : "",
		 !res && task ? iscsi_get_error(w->iscsi) : "");
	atomic_store(&w->failed, true);
	return false;
}

static bool write_some(struct witness *w, uint32_t lba, uint32_t count, uint32_t generation)
{
	struct scsi_task *task;
	int res;

	for (uint32_t i = 0; i < count; i++) {
		sector_fill(w->data + i * SECTOR_BYTES, lba + i, generation);
		w->generations[lba + i] = generation;
	}
	w->command = (struct command){false, 0};
	task = iscsi_write10_task(w->iscsi, w->url->lun, lba, w->data, count * SECTOR_BYTES,
				  SECTOR_BYTES, 0, 0, 0, 0, 0, command_done, &w->command);
	res = task ? await(w) : -ENOMEM;
	if (res || w->command.status)
		return fail(w, "write failed", lba, res, task);
	scsi_free_scsi_task(task);
	return true;
}

static bool read_some(struct witness *w, uint32_t lba, uint32_t count)
{
	uint8_t expected[SECTOR_BYTES];
	struct scsi_task *task;
	int res;

	w->command = (struct command){false, 0};
	task = iscsi_read10_task(w->iscsi, w->url->lun, lba, count * SECTOR_BYTES, SECTOR_BYTES, 0,
				 0, 0, 0, 0, command_done, &w->command);
	res = task ? await(w) : -ENOMEM;
	if (res || w->command.status)
		return fail(w, "read failed", lba, res, task);
	if ((uint32_t)task->datain.size != count * SECTOR_BYTES)
		return fail(w, "read came back short", lba, 0, NULL);
	for (uint32_t i = 0; i < count; i++) {
		if (!w->generations[lba + i])
			continue;
		sector_fill(expected, lba + i, w->generations[lba + i]);
		if (memcmp(expected, task->datain.data + i * SECTOR_BYTES, SECTOR_BYTES))
			return fail(w, "wrong data", lba + i, 0, NULL);
	}
	scsi_free_scsi_task(task);
	return true;
}

static bool flush(struct witness *w)
{
	struct scsi_task *task;
	int res;

	w->command = (struct command){false, 0};
	task = iscsi_synchronizecache10_task(w->iscsi, w->url->lun, 0, 0, 0, 0, command_done,
					     &w->command);
	res = task ? await(w) : -ENOMEM;
	if (res || w->command.status)
		return fail(w, "flush failed", 0, res, task);
	scsi_free_scsi_task(task);
	return true;
}

static void *witness_run(void *arg)
{
	struct witness *w = arg;

	while (!atomic_load(&w->stop)) {
		uint32_t count = 1 + next_random(w) % TRANSFER_SECTORS;
		uint32_t lba = next_random(w) % (SPAN_SECTORS - count);
		uint32_t other = next_random(w) % (SPAN_SECTORS - count);

		if (!write_some(w, lba, count, (uint32_t)w->report.rounds + 1) ||
		    !read_some(w, lba, count) || !read_some(w, other, count))
			break;
		if (w->report.rounds % 32 == 0 && !flush(w))
			break;
		w->report.rounds++;
		usleep(PAUSE_US);
	}
	return NULL;
}

/* libiscsi has no context to hang its log on; it speaks only when something is wrong. */
static void log_to_stderr(int level, const char *message)
{
	fprintf(stderr, "witness: libiscsi %d: %s\n", level, message);
}

static bool log_in(struct witness *w, const char *url)
{
	w->iscsi = iscsi_create_context("iqn.2026-11.local.lunroot.test:witness");
	w->url = w->iscsi ? iscsi_parse_full_url(w->iscsi, url) : NULL;
	if (!w->url)
		return false;
	iscsi_set_log_level(w->iscsi, 1);
	iscsi_set_log_fn(w->iscsi, log_to_stderr);
	iscsi_set_session_type(w->iscsi, ISCSI_SESSION_NORMAL);
	iscsi_set_noautoreconnect(w->iscsi, 1);
	iscsi_set_timeout(w->iscsi, 15);
	if (w->url->user[0])
		iscsi_set_initiator_username_pwd(w->iscsi, w->url->user, w->url->passwd);
	iscsi_set_targetname(w->iscsi, w->url->target);
	if (!iscsi_full_connect_sync(w->iscsi, w->url->portal, w->url->lun))
		return true;
	fprintf(stderr, "witness: login failed: %s\n", iscsi_get_error(w->iscsi));
	return false;
}

static void witness_free(struct witness *w)
{
	if (w->url)
		iscsi_destroy_url(w->url);
	if (w->iscsi)
		iscsi_destroy_context(w->iscsi);
	free(w->generations);
	free(w);
}

struct witness *witness_start(const char *url, unsigned stall_ms_max)
{
	struct witness *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->stall_ms_max = stall_ms_max;
	w->random = 88172645463325252ull;
	w->generations = calloc(SPAN_SECTORS, sizeof(*w->generations));
	if (!w->generations || !log_in(w, url) ||
	    pthread_create(&w->thread, NULL, witness_run, w)) {
		witness_free(w);
		return NULL;
	}
	return w;
}

bool witness_failed(struct witness *w)
{
	return atomic_load(&w->failed);
}

void witness_stop(struct witness *w, struct witness_report *ret_report)
{
	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	if (!atomic_load(&w->failed))
		iscsi_logout_sync(w->iscsi);
	*ret_report = w->report;
	witness_free(w);
}
