/*
 * A load generator over libiscsi, in the manner of fio's jobs (Debian's fio has no libiscsi
 * engine): one session, a queue depth, a block size, reads or writes, in sequence or at random,
 * for some seconds. Prints one line: IOPS, MiB/s; mean, 99th percentile and longest latency.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define SECTOR_BYTES  512u
#define DEPTH_MAX     256u
#define LATENCY_STEPS 200000u /* of one microsecond; longer ones count as the longest */

struct load;

struct slot {
	struct load *load;
	uint8_t *data;
	uint64_t begin_ns;
};

struct load {
	struct iscsi_context *iscsi;
	struct iscsi_url *url;
	bool write, sequential, failed;
	uint32_t bytes, depth;
	uint64_t sectors, next, random, end_ns, done_count, latency_ns_total, latency_ns_max;
	unsigned in_flight;
	uint32_t *latencies;
	struct slot slots[DEPTH_MAX];
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static void send_next(struct slot *slot);

static void slot_done(struct iscsi_context *iscsi, int status, void *data, void *arg)
{
	struct slot *slot = arg;
	struct load *load = slot->load;
	uint64_t now = now_ns(), us = (now - slot->begin_ns) / 1000;

	load->in_flight--;
	if (status != SCSI_STATUS_GOOD) {
		if (!load->failed)
			fprintf(stderr, "load: %s\n", iscsi_get_error(iscsi));
		load->failed = true;
	}
	load->done_count++;
	load->latency_ns_total += now - slot->begin_ns;
	if (now - slot->begin_ns > load->latency_ns_max)
		load->latency_ns_max = now - slot->begin_ns;
	load->latencies[us < LATENCY_STEPS ? us : LATENCY_STEPS - 1]++;
	if (data)
		scsi_free_scsi_task(data);
	if (now < load->end_ns && !load->failed)
		send_next(slot);
}

static void send_next(struct slot *slot)
{
	struct load *load = slot->load;
	uint32_t sectors = load->bytes / SECTOR_BYTES;
	uint64_t slots = load->sectors / sectors, at;
	struct scsi_task *task;

	if (load->sequential) {
		at = load->next++ % slots;
	} else {
		load->random ^= load->random << 13;
		load->random ^= load->random >> 7;
		load->random ^= load->random << 17;
		at = load->random % slots;
	}
	at *= sectors;
	slot->begin_ns = now_ns();
	load->in_flight++;
	if (load->write)
		task = iscsi_write16_task(load->iscsi, load->url->lun, at, slot->data, load->bytes,
					  SECTOR_BYTES, 0, 0, 0, 0, 0, slot_done, slot);
	else
		task = iscsi_read16_task(load->iscsi, load->url->lun, at, load->bytes, SECTOR_BYTES,
					 0, 0, 0, 0, 0, slot_done, slot);
	if (!task) {
		load->in_flight--;
		load->failed = true;
		return;
	}
	if (!load->write) { /* straight into the buffer, as a real initiator does */
		if (scsi_task_add_data_in_buffer(task, (int)load->bytes, slot->data))
			load->failed = true;
	}
}

static bool log_in(struct load *load, const char *url)
{
	load->iscsi = iscsi_create_context("iqn.2026-11.local.lunroot.test:load");
	load->url = load->iscsi ? iscsi_parse_full_url(load->iscsi, url) : NULL;
	if (!load->url)
		return false;
	iscsi_set_session_type(load->iscsi, ISCSI_SESSION_NORMAL);
	iscsi_set_noautoreconnect(load->iscsi, 1);
	if (load->url->user[0])
		iscsi_set_initiator_username_pwd(load->iscsi, load->url->user, load->url->passwd);
	iscsi_set_targetname(load->iscsi, load->url->target);
	if (iscsi_full_connect_sync(load->iscsi, load->url->portal, load->url->lun)) {
		fprintf(stderr, "load: %s\n", iscsi_get_error(load->iscsi));
		return false;
	}
	return true;
}

static bool find_capacity(struct load *load)
{
	struct scsi_task *task = iscsi_readcapacity16_sync(load->iscsi, load->url->lun);
	struct scsi_readcapacity16 *capacity = task ? scsi_datain_unmarshall(task) : NULL;

	if (capacity)
		load->sectors = capacity->returned_lba + 1;
	if (task)
		scsi_free_scsi_task(task);
	return load->sectors >= load->bytes / SECTOR_BYTES;
}

static bool run(struct load *load)
{
	for (uint32_t i = 0; i < load->depth; i++)
		send_next(&load->slots[i]);
	while (load->in_flight && !load->failed) {
		struct pollfd poll_fd = {.fd = iscsi_get_fd(load->iscsi),
					 .events = (short)iscsi_which_events(load->iscsi)};

		if (poll(&poll_fd, 1, 10000) < 0 && errno != EINTR)
			return false;
		if (iscsi_service(load->iscsi, poll_fd.revents) < 0)
			return false;
	}
	return !load->failed;
}

static void print_result(const struct load *load, const char *name, double seconds)
{
	uint64_t seen = 0, p99 = 0;

	while (p99 < LATENCY_STEPS - 1 &&
	       (seen += load->latencies[p99]) * 100 < load->done_count * 99)
		p99++;
	printf("%s %.0f %.1f %.0f %llu %llu\n", name, (double)load->done_count / seconds,
	       (double)load->done_count * load->bytes / seconds / 1048576,
	       (double)load->latency_ns_total / 1000 /
		       (double)(load->done_count ? load->done_count : 1),
	       (unsigned long long)p99, (unsigned long long)load->latency_ns_max / 1000);
}

/* "rr4k-qd32": r = random or s = sequential, r = read or w = write, KiB, queue depth. */
static bool parse_job(struct load *load, const char *job)
{
	char order, kind;
	unsigned kib, depth;

	if (sscanf(job, "%c%c%uk-qd%u", &order, &kind, &kib, &depth) != 4 || !kib || kib > 1024 ||
	    !depth || depth > DEPTH_MAX)
		return false;
	load->sequential = order == 's';
	load->write = kind == 'w';
	load->bytes = kib * 1024;
	load->depth = depth;
	return true;
}

int main(int argc, char **argv)
{
	static struct load load = {.random = 88172645463325252ull};
	uint64_t begin_ns;
	bool good;

	if (argc != 4 || !parse_job(&load, argv[2])) {
		fputs("usage: load URL JOB SECONDS, where JOB is like rr4k-qd32 or sw256k-qd8\n"
		      "prints: JOB IOPS MiB/s MEAN_US P99_US MAX_US\n",
		      stderr);
		return 2;
	}
	load.latencies = calloc(LATENCY_STEPS, sizeof(*load.latencies));
	if (!load.latencies || !log_in(&load, argv[1]) || !find_capacity(&load))
		return 1;
	for (uint32_t i = 0; i < load.depth; i++) {
		load.slots[i].load = &load;
		load.slots[i].data = malloc(load.bytes);
		if (!load.slots[i].data)
			return 1;
		memset(load.slots[i].data, (int)i + 1, load.bytes);
	}
	begin_ns = now_ns();
	load.end_ns = begin_ns + (uint64_t)(strtod(argv[3], NULL) * 1e9);
	good = run(&load);
	if (good)
		print_result(&load, argv[2], (double)(now_ns() - begin_ns) / 1e9);
	if (good)
		iscsi_logout_sync(load.iscsi);
	return good ? 0 : 1;
}
