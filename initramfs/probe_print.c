/*
 * For tests: prints what probe.c finds in the image whose name is given, a line each volume, and
 * with a second argument the partition that it picks for that root=.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "initramfs/probe.h"

static int read_image(void *arg, void *ret_data, size_t bytes, uint64_t offset)
{
	ssize_t got = pread(*(int *)arg, ret_data, bytes, (off_t)offset);

	if (got < 0)
		return -errno;
	return (size_t)got == bytes ? 0 : -EIO;
}

int main(int argc, char **argv)
{
	static struct probe_disk disk;
	const struct probe_volume *picked;
	struct probe_error error;
	struct stat status;
	int image, res;

	if (argc < 2 || (image = open(argv[1], O_RDONLY | O_CLOEXEC)) < 0 ||
	    fstat(image, &status)) {
		fprintf(stderr, "usage: probe_print IMAGE [ROOT]\n");
		return 2;
	}
	res = probe_disk(read_image, &image, (uint64_t)status.st_size, &disk);
	if (res) {
		fprintf(stderr, "probe_print: %s can't be read: error %d\n", argv[1], -res);
		return 1;
	}
	if (argc > 2) {
		if (probe_pick(&disk, argv[2], &picked, &error)) {
			fprintf(stderr, "%s\n", error.text);
			return 1;
		}
		printf("%u\n", picked->partition);
		return 0;
	}
	for (unsigned i = 0; i < disk.count; i++) {
		const struct probe_volume *v = &disk.volumes[i];

		printf("%u %" PRIu64 " %" PRIu64 " partuuid=%s partlabel=%s type=%s uuid=%s "
		       "label=%s\n",
		       v->partition, v->offset_bytes, v->size_bytes, v->partuuid, v->partlabel,
		       v->fstype, v->uuid, v->label);
	}
	return 0;
}
