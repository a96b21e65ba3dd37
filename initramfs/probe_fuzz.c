/*
 * Any bytes as a disk, which may be larger than they are: 64 MiB that are zero but for pieces of
 * the input, each with its place before it, since partitions lie far apart. No read leaves the
 * disk, no volume does, texts end, and what is picked is in the list.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "initramfs/fuzz_pieces.h"
#include "initramfs/probe.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIECES_MAX 32

struct input {
	struct fuzz_pieces disk;
	uint8_t header[512];
};

static int read_input(void *arg, void *ret_data, size_t bytes, uint64_t offset)
{
	const struct input *input = arg;

	fuzz_pieces_read(&input->disk, ret_data, bytes, offset);
	return 0;
}

static uint32_t get_le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void put_le32(uint8_t *p, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t crc32(uint32_t crc, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes * 8; i++) {
		crc ^= (data[i / 8] >> (i % 8)) & 1;
		crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
	}
	return crc;
}

/* Makes the sums of a GPT right: no input would ever get past them. */
static void mend(struct input *input)
{
	uint8_t *header = input->header, entry[128];
	uint64_t entries;
	uint32_t count, bytes, crc = UINT32_MAX;

	if (input->disk.size_bytes < 1024)
		return;
	read_input(input, header, 512, 512);
	if (memcmp(header, "EFI PART", 8) != 0)
		return;
	entries = (get_le32(header + 72) | (uint64_t)get_le32(header + 76) << 32) * 512;
	count = get_le32(header + 80);
	bytes = get_le32(header + 12);
	for (uint32_t i = 0; i < count && i < 1024; i++) {
		if (entries >= input->disk.size_bytes ||
		    i * 128 + 128 > input->disk.size_bytes - entries)
			break;
		read_input(input, entry, sizeof(entry), entries + (uint64_t)i * 128);
		crc = crc32(crc, entry, sizeof(entry));
	}
	put_le32(header + 88, ~crc);
	put_le32(header + 16, 0);
	put_le32(header + 16, ~crc32(UINT32_MAX, header, bytes < 512 ? bytes : 512));
	input->disk.pieces[input->disk.count++] = (struct fuzz_piece){512, header, 512};
}

static void check_text(const char *text, size_t capacity)
{
	assert(strnlen(text, capacity) < capacity);
	assert(utf8_clean(text, strlen(text)));
}

#define CHECK(field) check_text(volume->field, sizeof(volume->field))

static void check(const struct probe_disk *disk, const struct probe_volume *volume,
		  uint64_t size_bytes)
{
	CHECK(partuuid);
	CHECK(partlabel);
	CHECK(fstype);
	CHECK(uuid);
	CHECK(label);
	assert(volume >= disk->volumes && volume < disk->volumes + disk->count);
	assert(volume->size_bytes > 0 && volume->offset_bytes <= size_bytes &&
	       volume->size_bytes <= size_bytes - volume->offset_bytes);
	assert(volume->partition > 0 || volume->offset_bytes == 0);
}

static void pick(const struct probe_disk *disk, const char *root, uint64_t size_bytes)
{
	const struct probe_volume *picked = NULL;
	struct probe_error error = {""};
	int res = probe_pick(disk, root, &picked, &error);

	if (res == 0) {
		check(disk, picked, size_bytes);
		return;
	}
	assert(res == -ENOENT || res == -ENOTUNIQ || res == -EINVAL);
	check_text(error.text, sizeof(error.text));
	assert(!picked && *error.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct probe_disk disk;
	struct input input = {.disk.count = 0};
	char root[300];
	size_t bytes = size < sizeof(root) - 1 ? size : sizeof(root) - 1;

	if (size < 3)
		return 0;
	/* The same bytes as a person's root=. */
	memcpy(root, data, bytes);
	root[bytes] = '\0';
	fuzz_pieces_cut(&input.disk, PIECES_MAX, data, size);
	if (size % 2)
		mend(&input);
	if (probe_disk(read_input, &input, input.disk.size_bytes, &disk))
		return 0;
	assert(disk.count <= PROBE_PARTITIONS_MAX + 1);
	for (unsigned i = 0; i < disk.count; i++) {
		check(&disk, &disk.volumes[i], input.disk.size_bytes);
		if (*disk.volumes[i].label) {
			char wish[300] = "LABEL=";

			strcat(wish, disk.volumes[i].label);
			pick(&disk, wish, input.disk.size_bytes);
		}
	}
	pick(&disk, "", input.disk.size_bytes);
	pick(&disk, "/dev/mmcblk0p2", input.disk.size_bytes);
	pick(&disk, root, input.disk.size_bytes);
	return 0;
}
