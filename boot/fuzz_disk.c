/* A fuzzer's bytes as a disk with holes. */
#include "boot/fuzz_disk.h"

#include <assert.h>
#include <stdlib.h>

#include "boot/disk.h"
#include "initramfs/fuzz_pieces.h"

#define PIECES_MAX 64

static int input_read(void *arg, void *to, size_t bytes, uint64_t offset)
{
	fuzz_pieces_read(arg, to, bytes, offset);
	return 0;
}

struct disk *fuzz_disk_new(const uint8_t *data, size_t size)
{
	static const struct disk_ops ops = {input_read, free};
	struct fuzz_pieces *input = calloc(1, sizeof(*input));
	struct disk *disk;

	if (size < 3 || !input) {
		free(input);
		return NULL;
	}
	fuzz_pieces_cut(input, PIECES_MAX, data, size);
	disk = disk_new(&ops, input, input->size_bytes);
	assert(disk);
	return disk;
}
