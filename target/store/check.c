/*
 * Checking a layer file by itself, and mending it: the two copies of the header, the pages of the
 * map, the length, and whether the data can be read. Whether it fits its parent is open.c's.
 *
 * A page of the map that is damaged (page.c) is made again from what is left: the newest good
 * sector of either slot for each eighth, and where one is damaged, the blocks for which the file
 * has data as well. That is right for whatever was written. It can't be known of what was
 * discarded since the older copy, which left a hole, and of data that was written and never
 * flushed; so that is said, with the blocks.
 *
 * A layer that somebody is writing to is only looked at: its map page may be half written at the
 * moment, so what looks wrong is read until it stays the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "store/store_internal.h"

#define READ_BYTES (1u << 20)
/* What is in flux is read so often, */
#define FLUX_READS 40
/* until it was the same so often. */
#define FLUX_SAME 6
#define FLUX_MS   30

struct check {
	int fd;
	const char *path, *run_dir;
	bool repair, in_flux;
	store_found *found;
	void *arg;
	struct store_error *err;
	struct layer_header header;
	struct layer_layout layout;
	uint64_t file_bytes;
	uint64_t owned_end; /* the block after the last one that may be owned */
	bool holes_told;    /* a block that the file has no data for is a hole to SEEK_DATA */
	uint8_t *buffer;
	struct work work;
};

static void __attribute__((format(printf, 3, 4)))
tell(const struct check *c, enum store_finding finding, const char *format, ...)
{
	char text[STORE_ERROR_BYTES];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	c->found(c->arg, finding, text);
}

/* What is wrong is mended now, or could be. */
static enum store_finding mended(const struct check *c)
{
	return c->repair ? STORE_FINDING_MENDED : STORE_FINDING_MENDABLE;
}

static int failed(const struct check *c, int r)
{
	return store_fail(c->err, r, "%s can't be checked: %s", c->path, strerror(-r));
}

static int write_failed(const struct check *c, int r)
{
	return store_fail(c->err, r, "%s can't be mended: %s", c->path, strerror(-r));
}

static void nap(void)
{
	const struct timespec pause = {.tv_nsec = FLUX_MS * 1000000L};

	(void)nanosleep(&pause, NULL);
}

/* --- header --- */

/* Reads what a sealing may be writing until it is the same twice. */
static int headers_read(struct check *c, struct layer_headers *ret_headers)
{
	struct layer_headers again;
	int r = layer_headers_read(c->fd, c->path, ret_headers, c->err);

	for (unsigned i = 0; c->in_flux && i < FLUX_READS; i++) {
		if (r == 0 && layer_headers_agree(ret_headers))
			return 0;
		nap();
		again = *ret_headers;
		r = layer_headers_read(c->fd, c->path, ret_headers, c->err);
		if (memcmp(again.copies, ret_headers->copies, sizeof(again.copies)) == 0)
			return r;
	}
	return r;
}

/* 1: there is a header to go on with. */
static int check_headers(struct check *c)
{
	struct layer_headers headers = {.chosen = 0};
	const char *complaint;
	int r = headers_read(c, &headers);

	if (r == -EBADMSG || r == -EIO) {
		tell(c, STORE_FINDING_LOST, "%s", c->err->text);
		return 0;
	}
	if (r < 0)
		return r;
	c->header = headers.copies[headers.chosen];
	c->file_bytes = headers.file_bytes;
	complaint = layer_header_complaint(&c->header, UINT64_MAX);
	if (le32_get(c->header.version) != LAYER_VERSION)
		return store_fail(c->err, -EPROTONOSUPPORT, "%s %s", c->path, complaint);
	if (complaint) {
		tell(c, STORE_FINDING_LOST, "%s %s", c->path, complaint);
		return 0;
	}
	c->layout = layer_layout(le64_get(c->header.size_bytes));
	if (le32_get(c->header.flags) & LAYER_FLAG_SEALED)
		c->in_flux = false;
	r = c->repair ? layer_sync_before(c->fd, &c->header, c->run_dir) : 0;
	if (r < 0)
		return write_failed(c, r);
	if (layer_headers_agree(&headers))
		return 1;
	if (c->repair) {
		r = layer_header_write(c->fd, &c->header, &headers);
		if (r < 0)
			return write_failed(c, r);
	}
	tell(c, mended(c), "%s: the %s copy of its header %s; the other one is good", c->path,
	     headers.chosen ? "first" : "second",
	     headers.whole[!headers.chosen] ? "is of before, a change was not finished"
					    : "is damaged");
	return 1;
}

/* --- map --- */

static bool is_in_order(const struct map_judgement *judgement)
{
	return judgement->state != MAP_PAGE_DAMAGED && !judgement->torn && !judgement->bad[0] &&
	       !judgement->bad[1];
}

/* 0 with the page and what it is; 1: it changes all the time, which says that it is well. */
static int page_read(const struct check *c, uint64_t index, struct map_page slots[MAP_PAGE_SLOTS],
		     struct map_judgement *ret)
{
	struct map_page before[MAP_PAGE_SLOTS];
	unsigned same = 0;

	for (unsigned i = 0; i < FLUX_READS; i++) {
		int r = pread_all(c->fd, slots, sizeof(before), map_slot_offset(index, 0));

		if (r < 0)
			return r;
		map_page_judge(slots, c->header.uuid, index, ret);
		if (!c->in_flux || is_in_order(ret))
			return 0;
		same = i > 0 && memcmp(before, slots, sizeof(before)) == 0 ? same + 1 : 0;
		if (same == FLUX_SAME)
			return 0;
		memcpy(before, slots, sizeof(before));
		nap();
	}
	return 1;
}

static int slot_write(const struct check *c, uint64_t index, uint64_t sequence,
		      const uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	struct map_page page;
	uint64_t offset = map_page_fill(&page, c->header.uuid, index, sequence, bits);
	int r = pwrite_all(c->fd, &page, sizeof(page), offset);

	if (r == 0 && !MUTANT(repair_slots_unsynced) && fdatasync(c->fd) < 0)
		r = -errno;
	return r < 0 ? write_failed(c, r) : 0;
}

/*
 * Both slots, one after the other, so that neither is out of order. If the first writing is cut off
 * its slot looks torn, so it must not be the one whose damage says that the page can't be believed:
 * that is the second, and by then the first is whole and newer.
 */
static int page_write(const struct check *c, uint64_t index, uint64_t sequence,
		      const uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	int r = 0;

	if (sequence < MAP_SEQUENCE_EMPTY)
		sequence = MAP_SEQUENCE_EMPTY;
	for (unsigned i = 1; r == 0 && i <= MAP_PAGE_SLOTS; i++)
		r = slot_write(c, index, sequence + i, bits);
	return r;
}

/*
 * The slot that does not count is damaged. Cut off in the middle, a newer one over it could leave
 * new sectors beside the damaged one, as if what counts was damaged; one that is older than what
 * counts is the older one wherever it is cut off.
 */
static int older_slot_write(const struct check *c, uint64_t index,
			    const struct map_page slots[MAP_PAGE_SLOTS],
			    const struct map_judgement *judgement,
			    const uint8_t bits[MAP_PAGE_BITS_BYTES])
{
	uint64_t counts = le64_get(slots[judgement->slot].sectors[0].sequence);

	if (!judgement->bad[!judgement->slot] || counts == 1 || MUTANT(repair_newer_over_damage))
		return 0;
	return slot_write(c, index, counts - 1, bits);
}

static bool bit_of(const uint8_t *bits, uint64_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

static bool block_has_data(const struct check *c, uint64_t block)
{
	uint64_t at = c->layout.data_offset + block * STORE_BLOCK_BYTES;
	uint8_t data[STORE_BLOCK_BYTES];
	off_t next = lseek(c->fd, (off_t)at, SEEK_DATA);

	if (next < 0 || (uint64_t)next >= at + STORE_BLOCK_BYTES)
		return false;
	/* One that can't be read was written, for all we know. */
	return c->holes_told || pread_all(c->fd, data, sizeof(data), at) < 0 ||
	       !all_zero(data, sizeof(data));
}

/* An eighth of a damaged page from what is left of it. */
static void sector_rebuild(const struct check *c, uint64_t index, unsigned number,
			   const struct map_page slots[MAP_PAGE_SLOTS],
			   const struct map_judgement *judgement, uint8_t *bits)
{
	uint64_t first = index * MAP_PAGE_BLOCKS + number * MAP_SECTOR_BLOCKS, newest = 0;
	bool certain = true;

	for (unsigned i = 0; i < MAP_PAGE_SLOTS; i++) {
		const struct map_sector *sector = &slots[i].sectors[number];

		if (judgement->bad[i] >> number & 1) {
			certain = false;
		} else if (le64_get(sector->sequence) > newest) {
			newest = le64_get(sector->sequence);
			memcpy(bits, sector->bits, MAP_SECTOR_BITS_BYTES);
		}
	}
	for (uint64_t i = 0; !certain && i < MAP_SECTOR_BLOCKS; i++) {
		if (first + i < c->layout.block_count && block_has_data(c, first + i))
			bits[i / 8] |= (uint8_t)(1u << i % 8);
	}
}

/* Takes away the bits of blocks that the disk does not have; true: there were some. */
static bool bits_cut(const struct check *c, uint64_t index, uint8_t *bits)
{
	uint64_t first = index * MAP_PAGE_BLOCKS;
	bool cut = false;

	for (uint64_t i = 0; i < MAP_PAGE_BLOCKS; i++) {
		if (first + i >= c->layout.block_count && bit_of(bits, i)) {
			bits[i / 8] &= (uint8_t) ~(1u << i % 8);
			cut = true;
		}
	}
	return cut;
}

static int damaged_page(struct check *c, uint64_t index,
			const struct map_page slots[MAP_PAGE_SLOTS],
			const struct map_judgement *judgement, uint8_t *bits)
{
	uint64_t first, last, bytes;
	int r;

	for (unsigned i = 0; i < MAP_PAGE_SECTORS; i++)
		sector_rebuild(c, index, i, slots, judgement, bits + i * MAP_SECTOR_BITS_BYTES);
	(void)bits_cut(c, index, bits);
	if (c->repair) {
		/* Over the slot that is whole, if one is. */
		r = page_write(c, index, judgement->sequence + !MUTANT(repair_over_damaged_slot),
			       bits);
		if (r < 0)
			return r;
	}
	map_damaged_blocks(index, judgement, c->layout.block_count, &first, &last);
	bytes = (last + 1 - first) * STORE_BLOCK_BYTES;
	tell(c, mended(c),
	     "%s: page %llu of its block map is damaged, blocks %llu to %llu: %s again from its "
	     "older copy and from where the file has data",
	     c->path, (unsigned long long)index, (unsigned long long)first,
	     (unsigned long long)last, c->repair ? "made" : "can be made");
	tell(c, STORE_FINDING_LOST,
	     "%s: of blocks %llu to %llu (%llu bytes of the disk from %llu on) it can't be known "
	     "what was discarded since that older copy, which may read as its old contents, or "
	     "was written and never flushed, which may be seen; check the file system on the disk",
	     c->path, (unsigned long long)first, (unsigned long long)last,
	     (unsigned long long)bytes, (unsigned long long)first * STORE_BLOCK_BYTES);
	return 0;
}

static int good_page(struct check *c, uint64_t index, const struct map_page slots[MAP_PAGE_SLOTS],
		     const struct map_judgement *judgement, uint8_t *bits)
{
	bool bad = judgement->bad[0] || judgement->bad[1], cut;

	if (judgement->state == MAP_PAGE_GOOD)
		map_page_bits(&slots[judgement->slot], bits);
	cut = bits_cut(c, index, bits);
	if (c->repair && (bad || cut)) {
		int r = older_slot_write(c, index, slots, judgement, bits);

		if (r == 0)
			r = page_write(c, index, judgement->sequence, bits);
		if (r < 0)
			return r;
	}
	if (cut)
		tell(c, mended(c),
		     "%s: page %llu of its block map has blocks beyond the end of "
		     "the disk",
		     c->path, (unsigned long long)index);
	if (bad)
		tell(c, mended(c),
		     "%s: the older copy of page %llu of its block map is damaged; the newer one "
		     "is good",
		     c->path, (unsigned long long)index);
	if (judgement->torn)
		tell(c, STORE_FINDING_NOTE,
		     "%s: page %llu of its block map was being written when the power failed; "
		     "what was there before counts, as it should",
		     c->path, (unsigned long long)index);
	return 0;
}

/* --- data --- */

/* A piece that could not be read as a whole, block by block. */
static void data_tell_unreadable(struct check *c, uint64_t at, uint64_t bytes)
{
	uint64_t first = 0, end = 0;
	int error = 0;

	for (uint64_t done = 0; done <= bytes; done += STORE_BLOCK_BYTES) {
		uint64_t block = (at + done - c->layout.data_offset) / STORE_BLOCK_BYTES;
		int r = done < bytes ? pread_all(c->fd, c->buffer, STORE_BLOCK_BYTES, at + done)
				     : 0;

		if (r < 0) {
			first = end > first ? first : block;
			end = block + 1;
			error = r;
		} else if (end > first) {
			tell(c, STORE_FINDING_LOST,
			     "%s: blocks %llu to %llu of the disk can't be read: %s; restore them "
			     "from a backup, or write them anew",
			     c->path, (unsigned long long)first, (unsigned long long)(end - 1),
			     strerror(-error));
			first = end = 0;
		}
	}
}

/* What the layer owns of blocks that the file has data for. */
static int data_read(struct check *c, uint64_t index, const uint8_t *bits, uint64_t begin,
		     uint64_t end)
{
	uint64_t data_offset = c->layout.data_offset, first = index * MAP_PAGE_BLOCKS;

	while (begin < end) {
		uint64_t at = begin, block = (begin - data_offset) / STORE_BLOCK_BYTES - first;
		bool owned = bit_of(bits, block);
		int r = 0;

		while (begin < end && begin - at < READ_BYTES && bit_of(bits, block) == owned) {
			begin += STORE_BLOCK_BYTES;
			block++;
		}
		if (owned && pread_all(c->fd, c->buffer, begin - at, at) < 0)
			data_tell_unreadable(c, at, begin - at);
		r = work_step(&c->work, begin - at);
		if (r < 0)
			return store_fail(c->err, r, "%s: cancelled", c->path);
	}
	return 0;
}

/* Where the data of the page's blocks lies in the file, as far as there is one. */
static void data_range(const struct check *c, uint64_t index, uint64_t *ret_begin,
		       uint64_t *ret_end)
{
	uint64_t file_end =
		c->file_bytes < c->layout.file_bytes ? c->file_bytes : c->layout.file_bytes;

	*ret_begin = c->layout.data_offset + index * MAP_PAGE_BLOCKS * STORE_BLOCK_BYTES;
	*ret_end = *ret_begin + MAP_PAGE_BLOCKS * STORE_BLOCK_BYTES;
	file_end -= (file_end - c->layout.data_offset) % STORE_BLOCK_BYTES;
	if (*ret_end > file_end)
		*ret_end = file_end;
}

static int check_data(struct check *c, uint64_t index, const uint8_t *bits)
{
	uint64_t at, range_end, begin, end;
	int r = 0;

	data_range(c, index, &at, &range_end);
	while (r == 0 && at < range_end && file_data_next(c->fd, at, range_end, &begin, &end)) {
		r = data_read(c, index, bits, begin, end);
		at = end;
	}
	return r;
}

/* --- all of it --- */

static int check_page(struct check *c, uint64_t index)
{
	struct map_page slots[MAP_PAGE_SLOTS];
	uint8_t bits[MAP_PAGE_BITS_BYTES] = {0};
	struct map_judgement judgement;
	int r = page_read(c, index, slots, &judgement);

	if (r > 0)
		return 0;
	if (r < 0) {
		tell(c, STORE_FINDING_LOST,
		     "%s: page %llu of its block map can't be read: %s; restore it from a backup",
		     c->path, (unsigned long long)index, strerror(-r));
		return 0;
	}
	r = judgement.state == MAP_PAGE_DAMAGED ? damaged_page(c, index, slots, &judgement, bits)
						: good_page(c, index, slots, &judgement, bits);
	if (!all_zero(bits, sizeof(bits)))
		c->owned_end = index * MAP_PAGE_BLOCKS + map_bits_last(bits) + 1;
	return r < 0 ? r : check_data(c, index, bits);
}

/* Pages that were never written are holes. */
static int check_pages(struct check *c)
{
	for (uint64_t index = 0; index < c->layout.page_count; index++) {
		off_t at = lseek(c->fd, (off_t)map_slot_offset(index, 0), SEEK_DATA);
		int r;

		if (at < 0 && errno != ENXIO)
			return failed(c, -errno);
		if (at < 0 || (uint64_t)at >= map_slot_offset(c->layout.page_count, 0))
			return 0;
		index = ((uint64_t)at - LAYER_MAP_OFFSET) / (MAP_PAGE_SLOTS * MAP_PAGE_BYTES);
		r = check_page(c, index);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_length(struct check *c)
{
	uint64_t blocks = c->file_bytes < c->layout.data_offset
				  ? 0
				  : (c->file_bytes - c->layout.data_offset) / STORE_BLOCK_BYTES;

	if (c->file_bytes > c->layout.file_bytes)
		tell(c, STORE_FINDING_NOTE,
		     "%s: %llu bytes lie behind its end and belong to nothing", c->path,
		     (unsigned long long)(c->file_bytes - c->layout.file_bytes));
	if (c->file_bytes >= c->layout.file_bytes)
		return 0;
	if (blocks < c->owned_end) {
		tell(c, STORE_FINDING_LOST,
		     "%s is cut off: of blocks %llu to %llu what this layer had is gone; restore "
		     "it from a backup",
		     c->path, (unsigned long long)blocks, (unsigned long long)(c->owned_end - 1));
		return 0;
	}
	if (c->repair && ftruncate(c->fd, (off_t)c->layout.file_bytes) < 0)
		return write_failed(c, -errno);
	tell(c, mended(c), "%s is cut off, but only behind the last block it has", c->path);
	return 0;
}

/* Between the map and the data. */
static int check_gap(struct check *c)
{
	uint64_t at = map_slot_offset(c->layout.page_count, 0), end = c->layout.data_offset;
	int r = pread_all(c->fd, c->buffer, end - at, at);

	if (r < 0)
		return failed(c, r);
	if (!all_zero(c->buffer, end - at))
		tell(c, STORE_FINDING_NOTE,
		     "%s: something lies between its map and its data and belongs to nothing",
		     c->path);
	return 0;
}

static int check_layer(struct check *c, const struct store_work *work)
{
	struct statfs fs;
	off_t hole;
	int r = check_headers(c);

	if (r <= 0)
		return r;
	if (c->file_bytes < c->layout.data_offset) {
		tell(c, STORE_FINDING_LOST,
		     "%s is cut off within its block map; restore it from a backup", c->path);
		return 0;
	}
	hole = lseek(c->fd, 0, SEEK_HOLE);
	c->holes_told = fstatfs(c->fd, &fs) == 0 && fs.f_bsize <= STORE_BLOCK_BYTES && hole >= 0 &&
			(uint64_t)hole < c->file_bytes;
	work_begin(&c->work, work, file_data_bytes(c->fd, c->layout.data_offset, c->file_bytes));
	r = check_pages(c);
	if (r == 0)
		r = check_gap(c);
	if (r == 0)
		r = check_length(c);
	/* In any case: a repair that was killed may have mended what only the page cache knows. */
	if (r == 0 && c->repair && !MUTANT(repair_unsynced) && fsync(c->fd) < 0)
		r = write_failed(c, -errno);
	return r;
}

int store_layer_check(const char *path, const char *run_dir, bool repair, bool in_use,
		      store_found *found, void *arg, const struct store_work *work,
		      struct store_error *err)
{
	uint8_t AUTO_FREE *buffer = malloc(READ_BYTES);
	struct check c = {
		.path = path,
		.run_dir = run_dir,
		.repair = repair && !in_use,
		.in_flux = in_use,
		.found = found,
		.arg = arg,
		.err = err,
		.buffer = buffer,
	};
	int AUTO_CLOSE fd = open(path, (c.repair ? O_RDWR : O_RDONLY) | O_CLOEXEC);

	if (!buffer)
		return store_fail(err, -ENOMEM, "out of memory");
	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	if (!in_use && flock(fd, (c.repair ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
		return store_fail(err, -EBUSY, "the layer %s is in use%s", path,
				  c.repair ? ", so it can't be mended; end what uses it first"
					   : "");
	c.fd = fd;
	return check_layer(&c, work);
}
