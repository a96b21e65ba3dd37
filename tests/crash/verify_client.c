/*
 * The verifying client of the crash tests. It keeps a record of every sector of a LUN in a file
 * of its own (a shared mapping, so that it outlives this process too): what was acknowledged last,
 * what a flush made durable last, and what was in flight when the target died. Afterwards
 * `verify` reads the whole LUN and allows, for each 4 KiB block, only:
 *
 *  - after a death of the process: every sector as acknowledged; of a write that was in flight,
 *    all of its sectors in that block or none;
 *  - after a loss of power (--power-loss): the same, or the whole block as the last flush (or FUA)
 *    left it.
 *
 * Every sector describes itself: magic, LBA, generation, and a body computed from the two, so a
 * sector from elsewhere, torn, or mixed is recognised for what it is. Generation 0 is the image's
 * content (`fill` writes it), generation | ZEROED is a discard.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#define SECTOR_BYTES   512u
#define BLOCK_SECTORS  8u
#define MAGIC          0x6c756e726f6f7463ull
#define ZEROED         0x80000000u
#define NONE           0xffffffffu
#define DEPTH_MAX      64u
#define IO_SECTORS_MAX 512u
#define SECTORS_MAX    (1u << 22) /* 2 GiB */
#define STALL_MS_MAX   20000u
#define READ_SECTORS   1024u
#define FAILURES_SHOWN 10u

enum { EXIT_GOOD = 0, EXIT_BAD = 1, EXIT_USAGE = 2, EXIT_TARGET_DIED = 7 };

struct sector_state {
	uint32_t acked;   /* generation acknowledged last */
	uint32_t durable; /* what the last flush that was acknowledged covers */
	uint32_t pending; /* generation in flight, or NONE */
};

struct record {
	uint64_t magic;
	uint32_t sector_count, next_generation;
	uint64_t acked_writes, acked_flushes, acked_discards, rounds;
	struct sector_state sectors[];
};

enum op_kind { OP_WRITE, OP_READ, OP_DISCARD, OP_FLUSH };

struct client;

struct op {
	struct client *client;
	enum op_kind kind;
	bool busy, fua;
	uint32_t lba, count, generation;
	uint32_t *snapshot; /* OP_FLUSH: what was acknowledged when it was sent */
	uint8_t *data;
	struct unmap_list unmap;
	uint64_t begin_ms, retry_at_ms;
};

struct client {
	struct iscsi_context *iscsi;
	struct iscsi_url *url;
	struct record *record;
	uint8_t *locked; /* sectors under an operation; overlaps are never sent */
	struct op ops[DEPTH_MAX];
	unsigned depth, in_flight, flush_percent, discard_percent, fua_percent;
	uint64_t random, slowest_ms, busy_count;
	bool bad, died;
};

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

/* --- sectors --- */

static void sector_make(uint8_t *sector, uint32_t lba, uint32_t generation)
{
	uint64_t words[SECTOR_BYTES / 8], value = (uint64_t)lba << 32 | generation;

	if (generation & ZEROED) {
		memset(sector, 0, SECTOR_BYTES);
		return;
	}
	words[0] = MAGIC;
	words[1] = value;
	for (unsigned i = 2; i < SECTOR_BYTES / 8; i++) {
		value = value * 6364136223846793005ull + 1442695040888963407ull;
		words[i] = value;
	}
	memcpy(sector, words, SECTOR_BYTES);
}

static bool sector_is(const uint8_t *sector, uint32_t lba, uint32_t generation)
{
	uint8_t expected[SECTOR_BYTES];

	if (generation == NONE)
		return false;
	sector_make(expected, lba, generation);
	return !memcmp(sector, expected, SECTOR_BYTES);
}

static void sector_describe(const uint8_t *sector, char *ret_text, size_t room)
{
	uint64_t words[2];

	memcpy(words, sector, sizeof(words));
	if (words[0] == MAGIC)
		snprintf(ret_text, room, "sector %u of generation %x%s", (uint32_t)(words[1] >> 32),
			 (uint32_t)words[1],
			 sector_is(sector, (uint32_t)(words[1] >> 32), (uint32_t)words[1])
				 ? ""
				 : " (torn)");
	else if (sector_is(sector, 0, ZEROED))
		snprintf(ret_text, room, "zeros");
	else
		snprintf(ret_text, room, "something else, %016llx", (unsigned long long)words[0]);
}

/* --- record --- */

static struct record *record_open(const char *path, uint32_t sector_count)
{
	size_t bytes = sizeof(struct record) + sector_count * sizeof(struct sector_state);
	struct record *record;
	struct stat st;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || fstat(fd, &st) < 0 || (!st.st_size && ftruncate(fd, (off_t)bytes) < 0)) {
		fprintf(stderr, "verify_client: %s: %s\n", path, strerror(errno));
		exit(EXIT_USAGE);
	}
	record = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (record == MAP_FAILED) {
		fprintf(stderr, "verify_client: %s: %s\n", path, strerror(errno));
		exit(EXIT_USAGE);
	}
	if (record->magic != MAGIC) {
		record->sector_count = sector_count;
		record->next_generation = 1;
		for (uint32_t i = 0; i < sector_count; i++)
			record->sectors[i].pending = NONE;
		record->magic = MAGIC;
	} else if (record->sector_count != sector_count) {
		fprintf(stderr, "verify_client: %s is of a LUN with %u sectors, this one has %u\n",
			path, record->sector_count, sector_count);
		exit(EXIT_USAGE);
	}
	return record;
}

/* --- load --- */

static void op_end(struct op *op, bool acked)
{
	struct client *c = op->client;
	struct record *record = c->record;

	/* Never back: a write with FUA may have passed the flush. */
	for (uint32_t i = 0; i < record->sector_count && op->kind == OP_FLUSH && acked; i++)
		if ((op->snapshot[i] & ~ZEROED) > (record->sectors[i].durable & ~ZEROED))
			record->sectors[i].durable = op->snapshot[i];
	for (uint32_t i = op->lba; i < op->lba + op->count; i++) {
		struct sector_state *state = &record->sectors[i];

		c->locked[i] = 0;
		if (!acked || op->kind == OP_READ)
			continue;
		state->acked = op->generation;
		state->pending = NONE;
		if (op->fua)
			state->durable = op->generation;
	}
	if (acked) {
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

		if (sector_is(sector, op->lba + i, c->record->sectors[op->lba + i].acked))
			continue;
		sector_describe(sector, found, sizeof(found));
		fprintf(stderr,
			"verify_client: sector %u reads as %s while generation %x is written\n",
			op->lba + i, found, c->record->sectors[op->lba + i].acked);
		c->bad = true;
	}
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
		c->died = true;
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
	for (uint32_t i = lba; i < lba + count; i++)
		if (c->locked[i])
			return false;
	memset(c->locked + lba, 1, count);
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
		op->snapshot[i] = c->record->sectors[i].acked;
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

/* Sends what is prepared, for the first time or after BUSY; false if the session is gone. */
static bool issue(struct client *c, struct op *op)
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
		op_end(op, false);
	return task != NULL;
}

/* Sends one operation; false if the session is gone. */
static bool op_send(struct client *c, struct op *op)
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
		if (!lock_range(c, op->lba, op->count))
			return true; /* next time elsewhere */
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
	return issue(c, op);
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

static int run_load(struct client *c, unsigned seconds)
{
	uint64_t end_ms = now_ms() + seconds * 1000ull;

	c->record->rounds++;
	while (!c->died && !c->bad && (now_ms() < end_ms || c->in_flight)) {
		for (unsigned i = 0; i < c->depth && now_ms() < end_ms; i++)
			if (!c->ops[i].busy && !op_send(c, &c->ops[i]))
				c->died = true;
		for (unsigned i = 0; i < c->depth; i++)
			if (c->ops[i].retry_at_ms && now_ms() >= c->ops[i].retry_at_ms &&
			    !issue(c, &c->ops[i]))
				c->died = true;
		serve(c);
	}
	if (c->bad)
		return EXIT_BAD;
	if (!c->died)
		iscsi_logout_sync(c->iscsi);
	printf("%llu writes, %llu flushes, %llu discards acknowledged so far, slowest %llu ms, "
	       "%llu times busy%s\n",
	       (unsigned long long)c->record->acked_writes,
	       (unsigned long long)c->record->acked_flushes,
	       (unsigned long long)c->record->acked_discards, (unsigned long long)c->slowest_ms,
	       (unsigned long long)c->busy_count, c->died ? "; the target went away" : "");
	return c->died ? EXIT_TARGET_DIED : EXIT_GOOD;
}

/* --- verification --- */

/* The whole block as the last flush left it? */
static bool block_is_durable(const struct record *record, const uint8_t *data, uint32_t lba,
			     uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!sector_is(data + i * SECTOR_BYTES, lba + i, record->sectors[lba + i].durable))
			return false;
	return true;
}

/*
 * Each sector acknowledged or pending, and each pending operation in the block whole or not at
 * all? Sets found to what each sector is.
 */
static bool block_is_latest(const struct record *record, const uint8_t *data, uint32_t lba,
			    uint32_t count, uint32_t *ret_found)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct sector_state *state = &record->sectors[lba + i];
		const uint8_t *sector = data + i * SECTOR_BYTES;

		if (sector_is(sector, lba + i, state->acked))
			ret_found[i] = state->acked;
		else if (sector_is(sector, lba + i, state->pending))
			ret_found[i] = state->pending;
		else
			return false;
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct sector_state *a = &record->sectors[lba + i];

		for (uint32_t j = i + 1; j < count && a->pending != NONE; j++) {
			const struct sector_state *b = &record->sectors[lba + j];
			bool a_new, b_new;

			/* Zeros over zeros tell nothing. */
			if (b->pending != a->pending || (a->acked & a->pending & ZEROED) ||
			    (b->acked & b->pending & ZEROED))
				continue;
			a_new = ret_found[i] == a->pending;
			b_new = ret_found[j] == b->pending;
			if (a_new != b_new)
				return false;
		}
	}
	return true;
}

static void explain(const struct record *record, const uint8_t *data, uint32_t lba, uint32_t count)
{
	char found[100];

	for (uint32_t i = 0; i < count; i++) {
		const struct sector_state *state = &record->sectors[lba + i];

		sector_describe(data + i * SECTOR_BYTES, found, sizeof(found));
		fprintf(stderr,
			"verify_client: sector %u: acknowledged %x, durable %x, pending %x; found "
			"%s\n",
			lba + i, state->acked, state->durable, state->pending, found);
	}
}

/* Judges one block and takes what was found as the new truth. */
static bool verify_block(struct record *record, const uint8_t *data, uint32_t lba, uint32_t count,
			 bool power_loss, unsigned *rolled_back)
{
	uint32_t found[BLOCK_SECTORS];
	bool good = block_is_latest(record, data, lba, count, found);

	if (!good && power_loss && block_is_durable(record, data, lba, count)) {
		*rolled_back += 1;
		for (uint32_t i = 0; i < count; i++)
			found[i] = record->sectors[lba + i].durable;
		good = true;
	}
	if (!good)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		record->sectors[lba + i].acked = found[i];
		record->sectors[lba + i].pending = NONE;
		/* What was seen after a power loss is on the medium. */
		if (power_loss)
			record->sectors[lba + i].durable = found[i];
	}
	return true;
}

static int run_verify(struct client *c, bool power_loss)
{
	struct record *record = c->record;
	unsigned bad_count = 0, rolled_back = 0;

	for (uint32_t lba = 0; lba < record->sector_count; lba += READ_SECTORS) {
		uint32_t left = record->sector_count - lba;
		uint32_t count = left < READ_SECTORS ? left : READ_SECTORS;
		struct scsi_task *task =
			iscsi_read16_sync(c->iscsi, c->url->lun, lba, count * SECTOR_BYTES,
					  SECTOR_BYTES, 0, 0, 0, 0, 0);

		if (!task || task->status != SCSI_STATUS_GOOD ||
		    (uint32_t)task->datain.size != count * SECTOR_BYTES) {
			fprintf(stderr, "verify_client: read at %u failed: %s\n", lba,
				iscsi_get_error(c->iscsi));
			return EXIT_BAD;
		}
		for (uint32_t at = 0; at < count; at += BLOCK_SECTORS) {
			const uint8_t *data = task->datain.data + at * SECTOR_BYTES;
			uint32_t sectors = count - at < BLOCK_SECTORS ? count - at : BLOCK_SECTORS;

			if (!verify_block(record, data, lba + at, sectors, power_loss,
					  &rolled_back) &&
			    bad_count++ < FAILURES_SHOWN)
				explain(record, data, lba + at, sectors);
		}
		scsi_free_scsi_task(task);
	}
	iscsi_logout_sync(c->iscsi);
	printf("%u sectors verified after %llu writes, %llu flushes, %llu discards: %u bad blocks",
	       record->sector_count, (unsigned long long)record->acked_writes,
	       (unsigned long long)record->acked_flushes,
	       (unsigned long long)record->acked_discards, bad_count);
	if (power_loss)
		printf(", %u as the last flush left them", rolled_back);
	putchar('\n');
	return bad_count ? EXIT_BAD : EXIT_GOOD;
}

/* --- start --- */

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

static bool log_in(struct client *c, const char *url, const char *initiator)
{
	c->iscsi = iscsi_create_context(initiator);
	c->url = c->iscsi ? iscsi_parse_full_url(c->iscsi, url) : NULL;
	if (!c->url) {
		fprintf(stderr, "verify_client: not an iSCSI URL: %s\n", url);
		return false;
	}
	iscsi_set_session_type(c->iscsi, ISCSI_SESSION_NORMAL);
	iscsi_set_noautoreconnect(c->iscsi, 1);
	if (c->url->user[0])
		iscsi_set_initiator_username_pwd(c->iscsi, c->url->user, c->url->passwd);
	iscsi_set_targetname(c->iscsi, c->url->target);
	if (iscsi_full_connect_sync(c->iscsi, c->url->portal, c->url->lun)) {
		fprintf(stderr, "verify_client: login failed: %s\n", iscsi_get_error(c->iscsi));
		return false;
	}
	return true;
}

static uint32_t capacity_sectors(struct client *c)
{
	struct scsi_task *task = iscsi_readcapacity16_sync(c->iscsi, c->url->lun);
	struct scsi_readcapacity16 *capacity = task ? scsi_datain_unmarshall(task) : NULL;
	uint64_t count = capacity ? capacity->returned_lba + 1 : 0;

	if (task)
		scsi_free_scsi_task(task);
	if (!count || count > SECTORS_MAX || count < 16 * IO_SECTORS_MAX * 2) {
		fprintf(stderr, "verify_client: a LUN of %llu sectors does not suit\n",
			(unsigned long long)count);
		exit(EXIT_USAGE);
	}
	return (uint32_t)count;
}

static void client_init(struct client *c, const char *record_path)
{
	uint32_t sector_count = capacity_sectors(c);

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
	iscsi_destroy_url(c->url);
	iscsi_destroy_context(c->iscsi);
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
	      "       verify_client verify --url URL --record FILE [--power-loss]\n"
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
		{"initiator", 1, NULL, 'i'},
		{"fua-percent", 1, NULL, 'F'},
		{NULL, 0, NULL, 0},
	};
	static struct client c = {
		.depth = 24, .flush_percent = 2, .discard_percent = 4, .fua_percent = 3};
	const char *url = NULL, *record = NULL, *verb = argc > 1 ? argv[1] : "";
	const char *initiator = "iqn.2026-11.local.lunroot.test:verify";
	unsigned seconds = 10;
	bool power_loss = false;
	int option, status;

	c.random = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
	if (!strcmp(verb, "fill") && argc == 4)
		return run_fill(argv[2], strtoull(argv[3], NULL, 0));
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
		case 'p': power_loss = true; break;
		case 'i': initiator = optarg; break;
		default: usage();
		}
	}
	if (!url || !record || !c.depth || c.depth > DEPTH_MAX ||
	    (strcmp(verb, "run") && strcmp(verb, "verify")))
		usage();
	if (!log_in(&c, url, initiator))
		return EXIT_TARGET_DIED;
	client_init(&c, record);
	status = strcmp(verb, "run") ? run_verify(&c, power_loss) : run_load(&c, seconds);
	client_done(&c);
	return status;
}
