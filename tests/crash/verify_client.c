/*
 * The verifying client of the crash tests. It keeps a record of every sector of a LUN (record.h).
 * Afterwards `verify` reads the whole LUN and judges each 4 KiB block by it: after a death of the
 * process, a loss of power (--power-loss), or a sync that failed (--failed-sync).
 *
 * With --reconnect it does as a kernel's initiator: logs in again when the target went away, sends
 * again what was under way, and never sees an error. `run` ends early by SIGTERM, and then finishes
 * what is under way.
 *
 * With --journal it also notes what it did and where a machine's write log stood then (journal.h),
 * and `verify --cut` judges what is left after a power cut at any position of that log.
 *
 * Every sector describes itself (sector.h). Generation 0 is the image's content (`fill` writes it).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include "journal.h"
#include "record.h"
#include "sector.h"

#define ZEROED           SECTOR_ZEROED
#define DEPTH_MAX        64u
#define IO_SECTORS_MAX   512u
#define SECTORS_MAX      (1u << 22) /* 2 GiB */
#define STALL_MS_MAX     20000u
#define RECONNECT_MS_MAX 60000u
#define READ_SECTORS     1024u
#define FAILURES_SHOWN   10u

enum { EXIT_GOOD = 0, EXIT_BAD = 1, EXIT_USAGE = 2, EXIT_TARGET_DIED = 7 };

enum op_kind { OP_WRITE, OP_READ, OP_DISCARD, OP_FLUSH };

struct client;

struct op {
	struct client *client;
	enum op_kind kind;
	bool busy, fua;
	uint32_t lba, count, generation;
	uint32_t number;    /* in the journal */
	uint32_t *snapshot; /* OP_FLUSH: what was acknowledged when it was sent */
	uint8_t *data;
	struct unmap_list unmap;
	uint64_t begin_ms, retry_at_ms;
};

struct client {
	struct iscsi_context *iscsi;
	struct iscsi_url *url;
	struct record *record;
	struct journal *journal; /* or NULL */
	uint8_t *locked;         /* sectors under an operation; overlaps are never sent */
	struct op ops[DEPTH_MAX];
	unsigned depth, in_flight, flush_percent, discard_percent, fua_percent;
	uint64_t random, slowest_ms, busy_count;
	unsigned error_count, errors_allowed;
	bool bad, died, reconnect;
	unsigned reconnect_count;
	const char *initiator, *url_text;
	/* Verification: */
	struct history *history;
	int file_fd; /* read instead of a LUN, or -1 */
	uint32_t sector_count;
	enum record_event event;
	unsigned rolled_back, later_count, shown;
	bool torn;
	uint64_t sum;
};

static volatile sig_atomic_t stopped;

static void on_stop(int number)
{
	(void)number;
	stopped = 1;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint32_t next_random(struct client *c, uint32_t bound)
{
	uint64_t z = (c->random += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)(((z ^ z >> 31) >> 32) * bound >> 32);
}

/* --- load --- */

/* With a journal whole blocks are locked, so that their versions have an order. */
static uint32_t lock_end(const struct client *c, uint32_t lba, uint32_t count, uint32_t *ret_first)
{
	uint32_t end = lba + count;

	*ret_first = lba;
	if (!c->journal || !count)
		return end;
	*ret_first = lba / BLOCK_SECTORS * BLOCK_SECTORS;
	end = (end + BLOCK_SECTORS - 1) / BLOCK_SECTORS * BLOCK_SECTORS;
	return end < c->record->sector_count ? end : c->record->sector_count;
}

static void set_locked(struct client *c, uint32_t lba, uint32_t count, bool locked)
{
	uint32_t first, end = lock_end(c, lba, count, &first);

	memset(c->locked + first, locked, end - first);
}

static void op_end(struct op *op, bool good)
{
	struct client *c = op->client;
	struct record *record = c->record;

	for (uint32_t i = 0; i < record->sector_count && op->kind == OP_FLUSH && good; i++)
		sector_flushed(&record->sectors[i], op->snapshot[i]);
	/* What failed may be there or not: nobody else writes to it. */
	set_locked(c, op->lba, op->count, !good && op->kind != OP_READ);
	for (uint32_t i = op->lba; i < op->lba + op->count && good && op->kind != OP_READ; i++)
		sector_written(&record->sectors[i], op->generation, op->fua);
	if (good && c->journal && op->kind != OP_READ)
		journal_acked(c->journal, op->number);
	if (good) {
		record->acked_writes += op->kind == OP_WRITE;
		record->acked_flushes += op->kind == OP_FLUSH;
		record->acked_discards += op->kind == OP_DISCARD;
	}
	op->busy = false;
	c->in_flight--;
}

static void check_read(struct op *op, const struct scsi_task *task)
{
	struct client *c = op->client;
	char found[100];

	if ((uint32_t)task->datain.size != op->count * SECTOR_BYTES) {
		fprintf(stderr, "verify_client: read of %u sectors gave %d bytes\n", op->count,
			task->datain.size);
		c->bad = true;
		return;
	}
	for (uint32_t i = 0; i < op->count && !c->bad; i++) {
		const uint8_t *sector = task->datain.data + i * SECTOR_BYTES;

		if (sector_is(sector, op->lba + i, sector_acked(&c->record->sectors[op->lba + i])))
			continue;
		sector_describe(sector, found, sizeof(found));
		fprintf(stderr,
			"verify_client: sector %u reads as %s while generation %x is written\n",
			op->lba + i, found, sector_acked(&c->record->sectors[op->lba + i]));
		c->bad = true;
	}
}

/* The first block that failed, by the sense data: 0 if there is none. */
static uint32_t sense_information(const struct scsi_task *task)
{
	const uint8_t *sense = task->datain.data + 2;

	if (task->datain.size < 2 + 18 || (sense[0] & 0x7f) != 0x70 || !(sense[0] & 0x80))
		return 0;
	return (uint32_t)sense[3] << 24 | (uint32_t)sense[4] << 16 | (uint32_t)sense[5] << 8 |
	       sense[6];
}

/* MEDIUM ERROR or HARDWARE ERROR, and a block of this very command. */
static bool error_is_told_well(const struct op *op, const struct scsi_task *task)
{
	uint32_t block = sense_information(task);

	if (task->status != SCSI_STATUS_CHECK_CONDITION ||
	    (task->sense.key != SCSI_SENSE_MEDIUM_ERROR &&
	     task->sense.key != SCSI_SENSE_HARDWARE_ERROR))
		return false;
	return op->kind == OP_FLUSH || (block >= op->lba && block < op->lba + op->count);
}

/* The target went away. What can be sent again goes on. */
static void op_interrupted(struct op *op)
{
	op->client->died = true;
	if (op->client->reconnect)
		op->retry_at_ms = now_ms();
	else
		op_end(op, false);
}

static void op_done(struct iscsi_context *iscsi, int status, void *data, void *arg)
{
	struct scsi_task *task = data;
	struct op *op = arg;
	struct client *c = op->client;
	uint64_t took_ms = now_ms() - op->begin_ms;

	if (took_ms > c->slowest_ms)
		c->slowest_ms = took_ms;
	if (status == SCSI_STATUS_BUSY || status == SCSI_STATUS_TASK_SET_FULL) {
		/* As a kernel does: the same again, a little later. */
		c->busy_count++;
		op->begin_ms = now_ms();
		op->retry_at_ms = op->begin_ms + 100;
		scsi_free_scsi_task(task);
		return;
	}
	if (status == SCSI_STATUS_GOOD) {
		if (op->kind == OP_READ)
			check_read(op, task);
	} else if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR) {
		op_interrupted(op);
		if (task)
			scsi_free_scsi_task(task);
		return;
	} else if (!c->died && c->error_count < c->errors_allowed && error_is_told_well(op, task)) {
		c->error_count++;
	} else if (!c->died) {
		fprintf(stderr, "verify_client: %s of %u sectors at %u ended with status %d: %s\n",
			op->kind == OP_WRITE     ? "write"
			: op->kind == OP_READ    ? "read"
			: op->kind == OP_DISCARD ? "discard"
						 : "flush",
			op->count, op->lba, status, iscsi_get_error(iscsi));
		c->bad = true;
	}
	op_end(op, status == SCSI_STATUS_GOOD);
	if (task)
		scsi_free_scsi_task(task);
}

static bool lock_range(struct client *c, uint32_t lba, uint32_t count)
{
	uint32_t first, end = lock_end(c, lba, count, &first);

	if (memchr(c->locked + first, 1, end - first))
		return false;
	set_locked(c, lba, count, true);
	return true;
}

/* Whether the record can hold one more content of each. */
static bool has_room(const struct client *c, uint32_t lba, uint32_t count)
{
	for (uint32_t i = lba; i < lba + count; i++)
		if (c->record->sectors[i].count == RECORD_CONTENTS_MAX)
			return false;
	return true;
}

/* Where and how much: whole blocks, parts of one block, or a long run. */
static void choose_range(struct client *c, struct op *op)
{
	uint32_t total = c->record->sector_count, how = next_random(c, 100);
	/* Half of all go to a sixteenth of the disk, so that things happen twice there. */
	uint32_t span = next_random(c, 2) ? total : total / 16;

	if (how < 50) {
		op->count = BLOCK_SECTORS * (1 + next_random(c, 4));
		op->lba = next_random(c, (span - op->count) / BLOCK_SECTORS) * BLOCK_SECTORS;
	} else if (how < 80) {
		op->count = 1 + next_random(c, BLOCK_SECTORS - 1);
		op->lba = next_random(c, span - op->count);
	} else if (how < 95) {
		op->count = 1 + next_random(c, 64);
		op->lba = next_random(c, span - op->count);
	} else {
		op->count = 1 + next_random(c, IO_SECTORS_MAX);
		op->lba = next_random(c, span - op->count);
	}
}

static void prepare_flush(struct client *c, struct op *op)
{
	for (uint32_t i = 0; i < c->record->sector_count; i++)
		op->snapshot[i] = sector_acked(&c->record->sectors[i]);
	op->lba = op->count = 0;
}

static void prepare_write(struct client *c, struct op *op)
{
	struct record *record = c->record;

	op->generation = record->next_generation++ & ~ZEROED;
	op->fua = next_random(c, 100) < c->fua_percent;
	for (uint32_t i = 0; i < op->count; i++) {
		sector_make(op->data + i * SECTOR_BYTES, op->lba + i, op->generation);
		record->sectors[op->lba + i].pending = op->generation;
	}
}

static void prepare_discard(struct client *c, struct op *op)
{
	struct record *record = c->record;

	op->generation = (record->next_generation++ & ~ZEROED) | ZEROED;
	for (uint32_t i = 0; i < op->count; i++)
		record->sectors[op->lba + i].pending = op->generation;
	memset(op->data, 0, SECTOR_BYTES);
	op->unmap.lba = op->lba;
	op->unmap.num = op->count;
}

/* Sends what is prepared, for the first time or again. */
static void issue(struct client *c, struct op *op)
{
	struct iscsi_context *iscsi = c->iscsi;
	uint32_t bytes = op->count * SECTOR_BYTES;
	int lun = c->url->lun;
	struct scsi_task *task = NULL;

	op->retry_at_ms = 0;
	switch (op->kind) {
	case OP_FLUSH:
		task = iscsi_synchronizecache10_task(iscsi, lun, 0, 0, 0, 0, op_done, op);
		break;
	case OP_WRITE:
		task = iscsi_write16_task(iscsi, lun, op->lba, op->data, bytes, SECTOR_BYTES, 0, 0,
					  op->fua, 0, 0, op_done, op);
		break;
	case OP_DISCARD:
		if (op->generation % 3)
			task = iscsi_unmap_task(iscsi, lun, 0, 0, &op->unmap, 1, op_done, op);
		else
			task = iscsi_writesame16_task(iscsi, lun, op->lba, op->data, SECTOR_BYTES,
						      op->count, 0, 1, 0, 0, op_done, op);
		break;
	case OP_READ:
		task = iscsi_read16_task(iscsi, lun, op->lba, bytes, SECTOR_BYTES, 0, 0, 0, 0, 0,
					 op_done, op);
		break;
	}
	if (!task)
		op_interrupted(op);
}

/* Sends one operation. */
static void op_send(struct client *c, struct op *op)
{
	uint32_t what = next_random(c, 100);

	op->fua = false;
	op->generation = 0;
	if (what < c->flush_percent) {
		op->kind = OP_FLUSH;
	} else {
		choose_range(c, op);
		op->kind = what < c->flush_percent + c->discard_percent ? OP_DISCARD
			   : next_random(c, 10) == 0                    ? OP_READ
									: OP_WRITE;
		/* Discards of partial blocks may leave them as they are; whole ones read as zeros.
		 */
		if (op->kind == OP_DISCARD) {
			op->lba &= ~(BLOCK_SECTORS - 1);
			op->count = (op->count + BLOCK_SECTORS - 1) & ~(BLOCK_SECTORS - 1);
		}
		if (op->kind != OP_READ && !has_room(c, op->lba, op->count))
			op->kind = OP_FLUSH;
		else if (!lock_range(c, op->lba, op->count))
			return; /* next time elsewhere */
	}
	op->busy = true;
	op->begin_ms = now_ms();
	c->in_flight++;
	if (op->kind == OP_FLUSH)
		prepare_flush(c, op);
	else if (op->kind == OP_WRITE)
		prepare_write(c, op);
	else if (op->kind == OP_DISCARD)
		prepare_discard(c, op);
	if (c->journal && op->kind != OP_READ)
		op->number = journal_sent(c->journal,
					  &(struct journal_op){op->kind == OP_FLUSH, op->fua,
							       op->lba, op->count, op->generation});
	issue(c, op);
}

static bool stalled(struct client *c)
{
	for (unsigned i = 0; i < c->depth; i++)
		if (c->ops[i].busy && now_ms() - c->ops[i].begin_ms > STALL_MS_MAX)
			return true;
	return false;
}

/* Waits for the socket and serves it. */
static void serve(struct client *c)
{
	struct pollfd poll_fd = {.fd = iscsi_get_fd(c->iscsi),
				 .events = (short)iscsi_which_events(c->iscsi)};

	if (poll(&poll_fd, 1, 200) < 0 && errno != EINTR)
		c->died = true;
	else if (iscsi_service(c->iscsi, poll_fd.revents) < 0)
		c->died = true;
	if (stalled(c)) {
		fprintf(stderr, "verify_client: a command got no answer in %u ms\n", STALL_MS_MAX);
		c->bad = true;
	}
}

/* --- logging in --- */

/* False, and a context to be destroyed, if the target is not there. */
static bool log_in(struct client *c)
{
	c->iscsi = iscsi_create_context(c->initiator);
	assert(c->iscsi);
	if (!c->url)
		c->url = iscsi_parse_full_url(c->iscsi, c->url_text);
	if (!c->url) {
		fprintf(stderr, "verify_client: not an iSCSI URL: %s\n", c->url_text);
		exit(EXIT_USAGE);
	}
	iscsi_set_session_type(c->iscsi, ISCSI_SESSION_NORMAL);
	iscsi_set_noautoreconnect(c->iscsi, 1);
	if (c->url->user[0])
		iscsi_set_initiator_username_pwd(c->iscsi, c->url->user, c->url->passwd);
	iscsi_set_targetname(c->iscsi, c->url->target);
	return iscsi_full_connect_sync(c->iscsi, c->url->portal, c->url->lun) == 0;
}

/* False if the target went away before it said so. */
static bool capacity_sectors(struct client *c, uint32_t *ret_count)
{
	struct scsi_task *task = iscsi_readcapacity16_sync(c->iscsi, c->url->lun);
	bool good = task && task->status == SCSI_STATUS_GOOD;
	struct scsi_readcapacity16 *capacity = good ? scsi_datain_unmarshall(task) : NULL;
	uint64_t count = capacity ? capacity->returned_lba + 1 : 0;

	if (task)
		scsi_free_scsi_task(task);
	if (good && (!count || count > SECTORS_MAX)) {
		fprintf(stderr, "verify_client: a LUN of %llu sectors does not suit\n",
			(unsigned long long)count);
		exit(EXIT_USAGE);
	}
	*ret_count = (uint32_t)count;
	return good;
}

/* The first login to a target: it must be there, and tells how large the LUN is. */
static bool session_begin(struct client *c, const char *url)
{
	c->url_text = url;
	if (!log_in(c) || !capacity_sectors(c, &c->sector_count)) {
		fprintf(stderr, "verify_client: login failed: %s\n", iscsi_get_error(c->iscsi));
		return false;
	}
	return true;
}

static void session_end(struct client *c)
{
	iscsi_destroy_url(c->url);
	iscsi_destroy_context(c->iscsi);
	c->url = NULL;
}

/* Until the target is there again. */
static void log_in_again(struct client *c)
{
	uint64_t end_ms = now_ms() + RECONNECT_MS_MAX;

	/* Ends what is under way with SCSI_STATUS_CANCELLED. */
	iscsi_destroy_context(c->iscsi);
	while (!log_in(c)) {
		iscsi_destroy_context(c->iscsi);
		if (now_ms() > end_ms) {
			fprintf(stderr, "verify_client: the target did not come back\n");
			exit(EXIT_TARGET_DIED);
		}
		usleep(10000);
	}
	c->died = false;
	c->reconnect_count++;
	for (unsigned i = 0; i < c->depth; i++)
		c->ops[i].begin_ms = now_ms();
}

/* --- the loop --- */

static void send_new(struct client *c)
{
	for (unsigned i = 0; i < c->depth; i++)
		if (!c->ops[i].busy)
			op_send(c, &c->ops[i]);
}

/* What was busy, or was under way when the target died. */
static void send_again(struct client *c)
{
	for (unsigned i = 0; i < c->depth; i++)
		if (c->ops[i].retry_at_ms && now_ms() >= c->ops[i].retry_at_ms)
			issue(c, &c->ops[i]);
}

static int run_load(struct client *c, unsigned seconds)
{
	uint64_t end_ms = now_ms() + seconds * 1000ull;

	c->record->rounds++;
	while (!c->died && !c->bad && ((now_ms() < end_ms && !stopped) || c->in_flight)) {
		if (now_ms() < end_ms && !stopped)
			send_new(c);
		send_again(c);
		serve(c);
		if (c->died && c->reconnect)
			log_in_again(c);
	}
	if (c->bad)
		return EXIT_BAD;
	if (!c->died)
		iscsi_logout_sync(c->iscsi);
	printf("%llu writes, %llu flushes, %llu discards acknowledged so far, slowest %llu ms, "
	       "%llu times busy, %u errors, %u times logged in again%s\n",
	       (unsigned long long)c->record->acked_writes,
	       (unsigned long long)c->record->acked_flushes,
	       (unsigned long long)c->record->acked_discards, (unsigned long long)c->slowest_ms,
	       (unsigned long long)c->busy_count, c->error_count, c->reconnect_count,
	       c->died ? "; the target went away" : "");
	return c->died ? EXIT_TARGET_DIED : EXIT_GOOD;
}

/* --- verification --- */

/* Told each block of the LUN, and where it is; false if it is bad. */
typedef bool (*block_fn)(struct client *c, const uint8_t *data, uint32_t lba, uint32_t count);

/* From the LUN, or from the file that has its content. */
static bool read_sectors(struct client *c, uint32_t lba, uint32_t count, uint8_t *ret_data)
{
	size_t bytes = (size_t)count * SECTOR_BYTES;
	struct scsi_task *task;
	bool good;

	if (c->file_fd >= 0)
		return pread(c->file_fd, ret_data, bytes, (off_t)lba * SECTOR_BYTES) ==
		       (ssize_t)bytes;
	task = iscsi_read16_sync(c->iscsi, c->url->lun, lba, (uint32_t)bytes, SECTOR_BYTES, 0, 0, 0,
				 0, 0);
	good = task && task->status == SCSI_STATUS_GOOD && (size_t)task->datain.size == bytes;
	if (good)
		memcpy(ret_data, task->datain.data, bytes);
	else
		fprintf(stderr, "verify_client: read at %u failed: %s\n", lba,
			iscsi_get_error(c->iscsi));
	if (task)
		scsi_free_scsi_task(task);
	return good;
}

/* ret how many are bad; false if it can't be read. */
static bool for_each_block(struct client *c, block_fn see, unsigned *ret_bad_count)
{
	static uint8_t data[READ_SECTORS * SECTOR_BYTES];
	uint32_t total = c->sector_count;
	unsigned bad_count = 0;

	for (uint32_t lba = 0; lba < total; lba += READ_SECTORS) {
		uint32_t left = total - lba;
		uint32_t count = left < READ_SECTORS ? left : READ_SECTORS;

		if (!read_sectors(c, lba, count, data))
			return false;
		for (uint32_t at = 0; at < count; at += BLOCK_SECTORS) {
			uint32_t sectors = count - at < BLOCK_SECTORS ? count - at : BLOCK_SECTORS;

			bad_count += !see(c, data + at * SECTOR_BYTES, lba + at, sectors);
		}
	}
	if (c->iscsi)
		iscsi_logout_sync(c->iscsi);
	*ret_bad_count = bad_count;
	return true;
}

static bool judge_by_record(struct client *c, const uint8_t *data, uint32_t lba, uint32_t count)
{
	if (record_judge(c->record, data, lba, count, c->event, &c->rolled_back))
		return true;
	if (c->shown++ < FAILURES_SHOWN)
		record_explain(c->record, data, lba, count);
	return false;
}

static int run_verify(struct client *c)
{
	const struct record *record = c->record;
	unsigned bad_count;

	if (!for_each_block(c, judge_by_record, &bad_count))
		return EXIT_BAD;
	printf("%u sectors verified after %llu writes, %llu flushes, %llu discards: %u bad blocks",
	       record->sector_count, (unsigned long long)record->acked_writes,
	       (unsigned long long)record->acked_flushes,
	       (unsigned long long)record->acked_discards, bad_count);
	if (c->event != RECORD_PROCESS_DEATH)
		printf(", %u older than acknowledged", c->rolled_back);
	putchar('\n');
	return bad_count ? EXIT_BAD : EXIT_GOOD;
}

static bool judge_by_journal(struct client *c, const uint8_t *data, uint32_t lba, uint32_t count)
{
	uint32_t block = lba / BLOCK_SECTORS, generations[BLOCK_SECTORS];
	char found[100];

	switch (history_judge(c->history, block, data, count, c->torn)) {
	case HISTORY_DURABLE: return true;
	case HISTORY_LATER: c->later_count++; return true;
	case HISTORY_LOST: break;
	}
	history_durable(c->history, block, generations);
	for (uint32_t i = 0; i < count && c->shown < FAILURES_SHOWN * BLOCK_SECTORS; i++) {
		sector_describe(data + i * SECTOR_BYTES, found, sizeof(found));
		fprintf(stderr, "verify_client: sector %u: durable %x; found %s\n", lba + i,
			generations[i], found);
		c->shown++;
	}
	return false;
}

static int run_verify_cut(struct client *c, const char *journal, uint64_t position)
{
	unsigned bad_count;
	bool read;

	c->history = history_new(journal, position, c->sector_count);
	read = for_each_block(c, judge_by_journal, &bad_count);
	history_free(c->history);
	if (!read)
		return EXIT_BAD;
	printf("%u sectors verified: %u bad blocks, %u newer than the last flush\n",
	       c->sector_count, bad_count, c->later_count);
	return bad_count ? EXIT_BAD : EXIT_GOOD;
}

/* --- looking --- */

/* On a disk that may fail: each block reads as acknowledged, or as an error. */
static int run_look(struct client *c)
{
	struct record *record = c->record;
	unsigned error_count = 0;

	for (uint32_t lba = 0; lba < record->sector_count; lba += BLOCK_SECTORS) {
		struct op op = {.kind = OP_READ, .lba = lba, .count = BLOCK_SECTORS};
		struct scsi_task *task =
			iscsi_read16_sync(c->iscsi, c->url->lun, lba, BLOCK_SECTORS * SECTOR_BYTES,
					  SECTOR_BYTES, 0, 0, 0, 0, 0);
		bool told = task && error_is_told_well(&op, task);

		if (!told && (!task || task->status != SCSI_STATUS_GOOD ||
			      !record_allows(record, task->datain.data, lba, BLOCK_SECTORS,
					     RECORD_PROCESS_DEATH))) {
			if (!task || task->status != SCSI_STATUS_GOOD)
				fprintf(stderr, "verify_client: read at %u failed: %s\n", lba,
					iscsi_get_error(c->iscsi));
			else
				record_explain(record, task->datain.data, lba, BLOCK_SECTORS);
			return EXIT_BAD;
		}
		error_count += told;
		scsi_free_scsi_task(task);
	}
	iscsi_logout_sync(c->iscsi);
	printf("%u sectors, %u blocks can't be read\n", record->sector_count, error_count);
	return EXIT_GOOD;
}

/* --- single commands --- */

static bool add_to_sum(struct client *c, const uint8_t *data, uint32_t lba, uint32_t count)
{
	(void)lba;
	for (uint32_t i = 0; i < count * SECTOR_BYTES; i += 8) {
		uint64_t word;

		memcpy(&word, data + i, 8);
		c->sum = (c->sum ^ word) * 1099511628211ull;
		c->sum ^= c->sum >> 29;
	}
	return true;
}

/* A hash of each one's whole content. */
static int run_sums(struct client *c, char **urls)
{
	unsigned bad_count;

	for (; *urls; urls++) {
		if (!session_begin(c, *urls))
			return EXIT_TARGET_DIED;
		c->sum = 14695981039346656037ull;
		if (!for_each_block(c, add_to_sum, &bad_count))
			return EXIT_BAD;
		printf("%016llx\n", (unsigned long long)c->sum);
		session_end(c);
	}
	return EXIT_GOOD;
}

static struct scsi_task *one_task(struct client *c, const char *what, uint32_t lba, uint32_t count,
				  uint32_t generation)
{
	static uint8_t data[IO_SECTORS_MAX * SECTOR_BYTES];
	struct iscsi_context *iscsi = c->iscsi;
	uint32_t bytes = count * SECTOR_BYTES;
	int lun = c->url->lun;

	for (uint32_t i = 0; i < count; i++)
		sector_make(data + i * SECTOR_BYTES, lba + i, generation);
	if (!strcmp(what, "read"))
		return iscsi_read16_sync(iscsi, lun, lba, bytes, SECTOR_BYTES, 0, 0, 0, 0, 0);
	if (!strcmp(what, "flush"))
		return iscsi_synchronizecache10_sync(iscsi, lun, 0, 0, 0, 0);
	return iscsi_write16_sync(iscsi, lun, lba, data, bytes, SECTOR_BYTES, 0, 0,
				  !strcmp(what, "fua"), 0, 0);
}

/* One command, and how it ends: "good" (a read: and what each block begins with), "busy", or
 * "error KEY BLOCK". */
static int run_one(struct client *c, char **words)
{
	uint32_t lba = (uint32_t)strtoul(words[1], NULL, 0);
	uint32_t count = (uint32_t)strtoul(words[2], NULL, 0);
	struct scsi_task *task;
	char found[100];

	if (count > IO_SECTORS_MAX)
		return EXIT_USAGE;
	task = one_task(c, words[0], lba, count, (uint32_t)strtoul(words[3], NULL, 16));
	if (!task)
		return EXIT_TARGET_DIED;
	if (task->status == SCSI_STATUS_CHECK_CONDITION)
		printf("error %u %u\n", task->sense.key, sense_information(task));
	else
		printf("%s\n", task->status == SCSI_STATUS_GOOD ? "good" : "busy");
	for (int at = 0; !strcmp(words[0], "read") && task->status == SCSI_STATUS_GOOD &&
			 at < task->datain.size;
	     at += BLOCK_SECTORS * SECTOR_BYTES) {
		sector_describe(task->datain.data + at, found, sizeof(found));
		printf("%s\n", found);
	}
	scsi_free_scsi_task(task);
	iscsi_logout_sync(c->iscsi);
	return EXIT_GOOD;
}

/* --- files --- */

static int run_fill(const char *path, uint64_t bytes)
{
	uint8_t sector[SECTOR_BYTES];
	FILE *file = fopen(path, "we");

	for (uint64_t lba = 0; file && lba < bytes / SECTOR_BYTES; lba++) {
		sector_make(sector, (uint32_t)lba, 0);
		if (fwrite(sector, SECTOR_BYTES, 1, file) != 1)
			break;
	}
	if (!file || fclose(file)) {
		fprintf(stderr, "verify_client: %s: %s\n", path, strerror(errno));
		return EXIT_BAD;
	}
	return EXIT_GOOD;
}

/* The content that a LUN must have by its record, as a raw disk for other programs to compare. */
static int run_dump(const char *record_path, const char *path)
{
	struct stat st;
	struct record *record;
	uint8_t sector[SECTOR_BYTES];
	FILE *file = fopen(path, "we");

	if (!file || stat(record_path, &st) < 0) {
		fprintf(stderr, "verify_client: %s: %s\n", path, strerror(errno));
		return EXIT_BAD;
	}
	record = record_open(record_path, record_sector_count(&st));
	for (uint32_t lba = 0; lba < record->sector_count; lba++) {
		assert(record->sectors[lba].pending == SECTOR_NONE);
		sector_make(sector, lba, sector_acked(&record->sectors[lba]));
		if (fwrite(sector, SECTOR_BYTES, 1, file) != 1)
			break;
	}
	return fclose(file) ? EXIT_BAD : EXIT_GOOD;
}

/* --- start --- */

/* Instead of a LUN. */
static void open_file(struct client *c, const char *path)
{
	struct stat st;

	c->file_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (c->file_fd < 0 || fstat(c->file_fd, &st) < 0) {
		fprintf(stderr, "verify_client: %s: %s\n", path, strerror(errno));
		exit(EXIT_USAGE);
	}
	c->sector_count = (uint32_t)((uint64_t)st.st_size / SECTOR_BYTES);
}

static void client_init(struct client *c, const char *record_path)
{
	uint32_t sector_count = c->sector_count;

	if (sector_count < 16 * IO_SECTORS_MAX * 2) {
		fprintf(stderr, "verify_client: a LUN of %u sectors is too small\n", sector_count);
		exit(EXIT_USAGE);
	}
	c->record = record_open(record_path, sector_count);
	c->locked = calloc(1, sector_count);
	assert(c->locked);
	for (unsigned i = 0; i < c->depth; i++) {
		c->ops[i].client = c;
		/* Discards round outwards, so the data may be a block longer at either end. */
		c->ops[i].data = malloc((IO_SECTORS_MAX + 2 * BLOCK_SECTORS) * SECTOR_BYTES);
		c->ops[i].snapshot = malloc(sector_count * sizeof(uint32_t));
		assert(c->ops[i].data && c->ops[i].snapshot);
	}
}

static void client_done(struct client *c)
{
	/* Cancels what is in flight: pending generations stay in the record. */
	c->died = true;
	session_end(c);
	for (unsigned i = 0; i < c->depth; i++) {
		free(c->ops[i].data);
		free(c->ops[i].snapshot);
	}
	free(c->locked);
}

static void usage(void)
{
	fputs("usage: verify_client fill FILE BYTES\n"
	      "       verify_client run --url URL --record FILE [--seconds N] [--depth N] [--seed "
	      "N]\n"
	      "                         [--flush-percent N] [--discard-percent N] [--initiator "
	      "NAME]\n"
	      "                         [--fua-percent N] [--errors-allowed N]\n"
	      "                         [--reconnect] [--journal FILE --log FILE]\n"
	      "       verify_client dump RECORD FILE\n"
	      "       verify_client verify --url URL --record FILE [--power-loss | --failed-sync]\n"
	      "       verify_client verify {--url URL | --file DISK} --journal FILE --cut POSITION "
	      "[--torn]\n"
	      "       verify_client look --url URL --record FILE\n"
	      "       verify_client sum URL...\n"
	      "       verify_client one --url URL read|write|fua|flush LBA SECTORS GENERATION\n"
	      "exit status: 0 good, 1 data lost or wrong, 2 usage, 7 the target went away\n",
	      stderr);
	exit(EXIT_USAGE);
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{"url", 1, NULL, 'u'},
		{"record", 1, NULL, 'r'},
		{"seconds", 1, NULL, 't'},
		{"depth", 1, NULL, 'd'},
		{"seed", 1, NULL, 's'},
		{"flush-percent", 1, NULL, 'f'},
		{"discard-percent", 1, NULL, 'D'},
		{"power-loss", 0, NULL, 'p'},
		{"failed-sync", 0, NULL, 'S'},
		{"initiator", 1, NULL, 'i'},
		{"fua-percent", 1, NULL, 'F'},
		{"errors-allowed", 1, NULL, 'e'},
		{"reconnect", 0, NULL, 'R'},
		{"journal", 1, NULL, 'j'},
		{"log", 1, NULL, 'l'},
		{"cut", 1, NULL, 'c'},
		{"file", 1, NULL, 'm'},
		{"torn", 0, NULL, 'T'},
		{NULL, 0, NULL, 0},
	};
	static struct client c = {
		.depth = 24,
		.flush_percent = 2,
		.discard_percent = 4,
		.fua_percent = 3,
		.file_fd = -1,
		.initiator = "iqn.2026-11.local.lunroot.test:verify",
	};
	const char *url = NULL, *record = NULL, *verb = argc > 1 ? argv[1] : "";
	const char *journal = NULL, *log = NULL, *cut = NULL, *file = NULL;
	unsigned seconds = 10;
	bool run, verify, look, one;
	int option, status;

	/* A target that goes away while we send is no reason to die. */
	(void)signal(SIGPIPE, SIG_IGN);
	c.random = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
	if (!strcmp(verb, "fill") && argc == 4)
		return run_fill(argv[2], strtoull(argv[3], NULL, 0));
	if (!strcmp(verb, "dump") && argc == 4)
		return run_dump(argv[2], argv[3]);
	optind = 2;
	while (argc > 1 && (option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'u': url = optarg; break;
		case 'r': record = optarg; break;
		case 't': seconds = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'd': c.depth = (unsigned)strtoul(optarg, NULL, 0); break;
		case 's': c.random = strtoull(optarg, NULL, 0); break;
		case 'f': c.flush_percent = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'D': c.discard_percent = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'F': c.fua_percent = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'p': c.event = RECORD_POWER_LOSS; break;
		case 'S': c.event = RECORD_FAILED_SYNC; break;
		case 'i': c.initiator = optarg; break;
		case 'e': c.errors_allowed = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'R': c.reconnect = true; break;
		case 'j': journal = optarg; break;
		case 'l': log = optarg; break;
		case 'c': cut = optarg; break;
		case 'm': file = optarg; break;
		case 'T': c.torn = true; break;
		default: usage();
		}
	}
	if (!strcmp(verb, "sum"))
		return run_sums(&c, argv + optind);
	run = !strcmp(verb, "run");
	verify = !strcmp(verb, "verify");
	look = !strcmp(verb, "look");
	one = !strcmp(verb, "one");
	if (!url == !(file && cut) || !c.depth || c.depth > DEPTH_MAX ||
	    argc - optind != (one ? 4 : 0) || (!run && !verify && !look && !one) ||
	    (cut && !verify) || (log && !run) || (!record && !one && !cut) ||
	    !journal != !(log || cut))
		usage();
	if (file) {
		open_file(&c, file);
		return run_verify_cut(&c, journal, strtoull(cut, NULL, 0));
	}
	if (!session_begin(&c, url))
		return EXIT_TARGET_DIED;
	if (cut || one) {
		status = cut ? run_verify_cut(&c, journal, strtoull(cut, NULL, 0))
			     : run_one(&c, argv + optind);
		session_end(&c);
		return status;
	}
	if (run)
		(void)signal(SIGTERM, on_stop);
	client_init(&c, record);
	if (log)
		c.journal = journal_new(journal, log);
	status = run ? run_load(&c, seconds) : look ? run_look(&c) : run_verify(&c);
	client_done(&c);
	return journal_flush(c.journal) ? status : EXIT_BAD;
}
