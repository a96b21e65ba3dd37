/*
 * A Pi's TFTP client: one file at a time, each from the next source port, blocks in lock step. Who
 * asks decides how: the ROM and bootcode.bin with 512-byte blocks and little patience, the EEPROM
 * with options, a repeated request and half a minute. Checks that what came is what was meant.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pisim.h"

enum { BLOCK_PLAIN = 512 };

static const char own_line[] = "pisim-file "; /* BYTES FNV-1a-64-of-the-rest, in the first line */

static const uint64_t hash_basis = 0xcbf29ce484222325; /* FNV-1a */

static uint64_t hash_add(uint64_t hash, uint8_t byte)
{
	return (hash ^ byte) * 0x100000001b3;
}

static const char *prefixless(const struct pi *pi)
{
	const char *slash = strchr(pi->get.path, '/');

	return pi->prefixed && slash ? slash + 1 : pi->get.path;
}

/* EXPECT/prefix/name, or EXPECT/name for what all have alike. */
static void expect_open(struct pi *pi)
{
	struct get *get = &pi->get;
	const char *names[] = {get->path, prefixless(pi)};

	for (int i = 0; i < 2 && pi->sim->expect_dir && !get->expected; i++) {
		char path[1024];
		struct stat status;
		int fd;

		snprintf(path, sizeof(path), "%s/%s", pi->sim->expect_dir, names[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (fstat(fd, &status) == 0 && status.st_size > 0) {
			void *map =
				mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);

			if (map != MAP_FAILED) {
				get->expected = map;
				get->expected_bytes = (uint64_t)status.st_size;
			}
		}
		close(fd);
	}
}

static void save_open(struct pi *pi)
{
	char path[1024], folder[1024];

	snprintf(path, sizeof(path), "%s/%s", pi->sim->save_dir, prefixless(pi));
	snprintf(folder, sizeof(folder), "%s", path);
	if (mkdir(dirname(folder), 0777) < 0 && errno != EEXIST)
		fprintf(stderr, "pisim: %s: %s\n", folder, strerror(errno));
	pi->get.save = fopen(path, "wb");
	if (!pi->get.save)
		fprintf(stderr, "pisim: %s: %s\n", path, strerror(errno));
}

static void ask(struct pi *pi)
{
	uint8_t payload[NAME_MAX_BYTES + 64];
	enum level level = pi->step->level;
	size_t bytes = packet_rrq(payload, pi->get.path, level != LEVEL_ROM,
				  level == LEVEL_EEPROM ? pi->sim->rules.blksize : 0);

	pi->get.asks++;
	pi_send(pi, pi->tftp_mac, pi->tftp, pi->get.port, PORT_TFTP, payload, bytes);
}

/* How long the next packet may take; the EEPROM counts for the whole file. */
static void patience(struct pi *pi, bool begins)
{
	const struct rules *rules = &pi->sim->rules;
	uint64_t now = pi->sim->link.now_us;

	switch (pi->step->level) {
	case LEVEL_ROM:
		pi_set_times(pi, begins ? now + 1000ull * rules->rrq_every_ms : 0,
			     now + 1000ull * rules->rom_patience_ms);
		break;
	case LEVEL_BOOTCODE:
		pi_set_times(pi, 0, now + 1000ull * rules->bootcode_patience_ms);
		break;
	case LEVEL_EEPROM:
		if (begins)
			pi_set_times(pi, now + 1000ull * rules->rrq_every_ms,
				     now + 1000ull * rules->file_timeout_ms);
		else
			pi_set_times(pi, 0, pi->limit_us);
		break;
	}
}

void file_begin(struct pi *pi, const char *name, bool probe)
{
	struct get *get = &pi->get;

	*get = (struct get){
		.active = true, .probe = probe, .blksize = BLOCK_PLAIN, .port = pi->next_port++};
	if (pi->next_port < 49152)
		pi->next_port = 49152;
	if (pi->prefixed)
		snprintf(get->path, sizeof(get->path), "%08x/%s", pi->who.serial, name);
	else
		snprintf(get->path, sizeof(get->path), "%s", name);
	if (!probe)
		expect_open(pi);
	get->hash = hash_basis;
	/* The 3B's ROM: deaf to ARP from here on. */
	if (pi->model->rom_bugs && pi->step->level == LEVEL_ROM)
		pi->deaf = true;
	if (pi->who.model == MODEL_3B && pi->step->level == LEVEL_BOOTCODE &&
	    pi->sim->rules.deaf_bootcode)
		pi->deaf = true;
	pi_trace(pi, "%s %s from port %u", probe ? "is there" : "asks for", get->path, get->port);
	ask(pi);
	patience(pi, true);
}

void file_close(struct pi *pi)
{
	struct get *get = &pi->get;

	if (get->save && fclose(get->save) != 0)
		fprintf(stderr, "pisim: %s: %s\n", get->path, strerror(errno));
	if (get->expected)
		munmap((void *)get->expected, get->expected_bytes);
	free(get->text);
	get->save = NULL;
	get->expected = NULL;
	get->text = NULL;
	get->active = false;
}

static void ended(struct pi *pi, enum result result)
{
	static const char *const texts[] = {"whole", "there", "missing", "lost"};

	pi_trace(pi, "%s: %s, %llu bytes", pi->get.path, texts[result],
		 (unsigned long long)pi->get.bytes);
	pi_file_ended(pi, result);
}

static void terminate(struct pi *pi, uint16_t to_port)
{
	uint8_t payload[32];

	pi_send(pi, pi->tftp_mac, pi->tftp, pi->get.port, to_port, payload,
		packet_error(payload, 0, "Early terminate"));
}

static void acknowledge(struct pi *pi)
{
	uint8_t payload[4];

	pi_send(pi, pi->tftp_mac, pi->tftp, pi->get.port, pi->get.tid, payload,
		packet_ack(payload, pi->get.block));
}

unsigned file_line(uint8_t *data, size_t bytes)
{
	uint64_t hash = hash_basis;
	char line[FILE_LINE_BYTES + 1];
	int length;

	for (size_t i = FILE_LINE_BYTES; i < bytes; i++)
		hash = hash_add(hash, data[i]);
	length = snprintf(line, sizeof(line), "%s%10zu %016llx         \n", own_line, bytes,
			  (unsigned long long)hash);
	memcpy(data, line, FILE_LINE_BYTES);
	return (unsigned)length;
}

/* The first line of a test file says how long it is and what it hashes to: how many bytes that line
 * has, 0: it is none. */
static size_t read_own_line(struct get *get, const uint8_t *data, size_t bytes)
{
	const size_t word_bytes = sizeof(own_line) - 1;
	char line[FILE_LINE_BYTES + 1], *hash;

	if (bytes < FILE_LINE_BYTES || memcmp(data, own_line, word_bytes) != 0 ||
	    data[FILE_LINE_BYTES - 1] != '\n')
		return 0;
	memcpy(line, data, FILE_LINE_BYTES);
	line[FILE_LINE_BYTES] = 0;
	get->said_bytes = strtoull(line + word_bytes, &hash, 10);
	get->said_hash = strtoull(hash, NULL, 16);
	get->says = true;
	return FILE_LINE_BYTES;
}

static void take_data(struct pi *pi, const uint8_t *data, size_t bytes)
{
	struct get *get = &pi->get;
	size_t from = 0;

	if (get->expected && (get->bytes + bytes > get->expected_bytes ||
			      memcmp(get->expected + get->bytes, data, bytes) != 0))
		get->wrong = true;
	if (get->bytes == 0)
		from = read_own_line(get, data, bytes);
	for (size_t i = from; get->says && i < bytes; i++)
		get->hash = hash_add(get->hash, data[i]);
	if (pi->step->act == ACT_CONFIG && get->bytes + bytes <= CONFIG_BYTES_MAX) {
		char *text = realloc(get->text, get->bytes + bytes);

		if (text) {
			memcpy(text + get->bytes, data, bytes);
			get->text = text;
		}
	}
	if (pi->sim->save_dir && !get->save && get->bytes == 0)
		save_open(pi);
	if (get->save && fwrite(data, 1, bytes, get->save) != bytes)
		fprintf(stderr, "pisim: %s: %s\n", get->path, strerror(errno));
	get->bytes += bytes;
	pi->file_bytes += bytes;
}

static void data_packet(struct pi *pi, uint16_t from_port, uint16_t block, const uint8_t *data,
			size_t bytes)
{
	struct get *get = &pi->get;
	bool last = bytes < get->blksize;

	/* A repeated block is acknowledged again (ee-rn 2021-02; of older firmware nothing is
	 * known). */
	if (block == get->block && get->block) {
		pi->retries++;
		acknowledge(pi);
		return;
	}
	if (block != (uint16_t)(get->block + 1) || bytes > get->blksize)
		return;
	get->tid = from_port;
	if (get->probe) {
		terminate(pi, get->tid);
		ended(pi, RESULT_THERE);
		return;
	}
	get->block = block;
	take_data(pi, data, bytes);
	acknowledge(pi);
	if (!last) {
		patience(pi, false);
		return;
	}
	if ((get->has_tsize && get->tsize != get->bytes) ||
	    (get->expected && get->bytes != get->expected_bytes) ||
	    (get->says && (get->said_bytes != get->bytes || get->said_hash != get->hash)))
		get->wrong = true;
	ended(pi, RESULT_WHOLE);
}

/* The first answer that makes sense decides whom it talks to (RFC 1350, 4). */
static void oack_packet(struct pi *pi, uint16_t from_port, const struct oack_seen *oack)
{
	struct get *get = &pi->get;

	if (get->block)
		return;
	get->tid = from_port;
	if (get->probe) {
		terminate(pi, get->tid);
		ended(pi, RESULT_THERE);
		return;
	}
	if (get->oack)
		pi->retries++;
	get->oack = true;
	get->has_tsize = oack->has_tsize;
	get->tsize = oack->tsize;
	if (oack->blksize && oack->blksize <= TFTP_DATA_MAX)
		get->blksize = oack->blksize;
	acknowledge(pi);
	patience(pi, false);
}

void file_packet(struct pi *pi, const struct seen *seen)
{
	struct get *get = &pi->get;
	struct oack_seen oack;
	unsigned operation, number;

	if (!get->active || seen->to_port != get->port || seen->from_ip != pi->tftp ||
	    seen->bytes < 4)
		return;
	if (get->tid && seen->from_port != get->tid)
		return;
	operation = (unsigned)(seen->payload[0] << 8 | seen->payload[1]);
	number = (unsigned)(seen->payload[2] << 8 | seen->payload[3]);
	if (operation == TFTP_ERROR) {
		ended(pi, RESULT_MISSING);
	} else if (operation == TFTP_DATA) {
		data_packet(pi, seen->from_port, (uint16_t)number, seen->payload + 4,
			    seen->bytes - 4);
	} else if (operation == TFTP_OACK && pi->step->level != LEVEL_ROM &&
		   packet_parse_oack(seen->payload, seen->bytes, &oack)) {
		oack_packet(pi, seen->from_port, &oack);
	}
}

void file_due(struct pi *pi)
{
	const struct rules *rules = &pi->sim->rules;
	uint64_t now = pi->sim->link.now_us;

	if (pi->step->level == LEVEL_BOOTCODE && !pi->get.tid &&
	    pi->get.asks < rules->bootcode_asks) {
		pi->retries++;
		ask(pi);
		patience(pi, true);
		return;
	}
	if (pi->limit_us && now >= pi->limit_us) {
		/* fw#1025: its "Early terminate" goes to a port where no server listens. */
		if (pi->step->level == LEVEL_BOOTCODE && pi->get.tid)
			terminate(pi, pi->get.port);
		ended(pi, RESULT_LOST);
		return;
	}
	if (!pi->get.tid) {
		pi->retries++;
		ask(pi);
		pi_set_times(pi, now + 1000ull * rules->rrq_every_ms, pi->limit_us);
	} else {
		pi_set_times(pi, 0, pi->limit_us);
	}
}
