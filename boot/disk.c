/*
 * The cache is a table of pieces, each at the one place that its number's hash gives; what is asked
 * for whole pieces at a time goes past it.
 */
#include "boot/disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"

#define PIECE_BYTES   16384u
#define PIECE_BITS    10 /* 1024 of them: 16 MiB at most, while a view is made */
#define PIECE_COUNT   (1u << PIECE_BITS)
#define HASH_MULTIPLY 0x9e3779b97f4a7c15u

struct piece {
	uint64_t number;
	size_t bytes;
	uint8_t *data; /* NULL: nothing here */
};

struct disk {
	struct disk_ops ops;
	void *arg;
	uint64_t bytes;
	struct disk_counts counts;
	struct piece pieces[PIECE_COUNT];
};

struct disk *disk_new(const struct disk_ops *ops, void *arg, uint64_t bytes)
{
	struct disk *disk = calloc(1, sizeof(*disk));

	if (!disk) {
		if (ops->free)
			ops->free(arg);
		return NULL;
	}
	disk->ops = *ops;
	disk->arg = arg;
	disk->bytes = bytes;
	return disk;
}

void disk_free(struct disk *disk)
{
	if (!disk)
		return;
	for (unsigned i = 0; i < PIECE_COUNT; i++)
		free(disk->pieces[i].data);
	if (disk->ops.free)
		disk->ops.free(disk->arg);
	free(disk);
}

uint64_t disk_bytes(const struct disk *disk)
{
	return disk->bytes;
}

struct disk_counts disk_counts(const struct disk *disk)
{
	return disk->counts;
}

static int read_through(struct disk *disk, uint8_t *to, size_t bytes, uint64_t offset)
{
	while (bytes > 0) {
		size_t step = bytes < DISK_READ_BYTES_MAX ? bytes : DISK_READ_BYTES_MAX;
		int res = disk->ops.read(disk->arg, to, step, offset);

		if (res)
			return res;
		disk->counts.reads++;
		disk->counts.bytes += step;
		to += step;
		offset += step;
		bytes -= step;
	}
	return 0;
}

/* The piece with that number, read if it is not there. */
static int piece_get(struct disk *disk, uint64_t number, const struct piece **ret_piece)
{
	struct piece *piece = &disk->pieces[number * HASH_MULTIPLY >> (64 - PIECE_BITS)];
	uint64_t offset = number * PIECE_BYTES, left = disk->bytes - offset;
	size_t bytes = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
	int res;

	if (!piece->data || piece->number != number) {
		if (!piece->data)
			piece->data = malloc(PIECE_BYTES);
		if (!piece->data)
			return -ENOMEM;
		piece->number = UINT64_MAX; /* half-read data is nobody's */
		res = read_through(disk, piece->data, bytes, offset);
		if (res)
			return res;
		piece->number = number;
		piece->bytes = bytes;
	}
	*ret_piece = piece;
	return 0;
}

int disk_read(struct disk *disk, void *to, size_t bytes, uint64_t offset)
{
	uint8_t *out = to;

	if (offset > disk->bytes || bytes > disk->bytes - offset)
		return -EIO;
	while (bytes > 0) {
		uint64_t number = offset / PIECE_BYTES;
		size_t within = (size_t)(offset % PIECE_BYTES), step;
		const struct piece *piece;
		int res;

		if (within == 0 && bytes >= PIECE_BYTES) {
			step = bytes - bytes % PIECE_BYTES;
			res = read_through(disk, out, step, offset);
		} else {
			res = piece_get(disk, number, &piece);
			step = 0;
			if (!res) {
				assert(piece->bytes > within);
				step = piece->bytes - within < bytes ? piece->bytes - within
								     : bytes;
				memcpy(out, piece->data + within, step);
			}
		}
		if (res)
			return res;
		out += step;
		offset += step;
		bytes -= step;
	}
	return 0;
}

/* --- a file --- */

struct file {
	int fd;
};

static int file_read(void *arg, void *to, size_t bytes, uint64_t offset)
{
	const struct file *file = arg;

	return pread_all(file->fd, to, bytes, offset);
}

static void file_free(void *arg)
{
	struct file *file = arg;

	close(file->fd);
	free(file);
}

int disk_open_file(const char *path, struct disk **ret_disk)
{
	static const struct disk_ops ops = {file_read, file_free};
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct file *file;
	struct stat status;
	off_t bytes;

	if (fd < 0 || fstat(fd, &status))
		return -errno;
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
		return S_ISDIR(status.st_mode) ? -EISDIR : -ENODEV;
	bytes = lseek(fd, 0, SEEK_END);
	if (bytes < 0)
		return -errno;
	file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->fd = TAKE_FD(fd);
	*ret_disk = disk_new(&ops, file, (uint64_t)bytes);
	return *ret_disk ? 0 : -ENOMEM;
}
