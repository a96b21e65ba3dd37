/*
 * For tests: writes all files of a FAT image into a folder, which must be empty.
 *
 *   fat_write IMAGE OUT
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "boot/blob.h"
#include "boot/disk.h"
#include "boot/fat.h"

static int write_file(const char *folder, const char *name, const struct blob *blob)
{
	char path[4096];
	const void *data = "";
	size_t bytes = 0;
	int fd, res;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0777) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return -errno;
	(void)blob_pieces(blob, &data, &bytes, 1);
	res = pwrite_all(fd, data, bytes, 0);
	close(fd);
	return res;
}

int main(int argc, char **argv)
{
	struct boot_error error = {""};
	struct disk *disk;
	struct tree *tree;
	int res;

	if (argc != 3) {
		fprintf(stderr, "usage: fat_write IMAGE OUT\n");
		return 2;
	}
	res = disk_open_file(argv[1], &disk);
	if (res) {
		fprintf(stderr, "fat_write: %s: %s\n", argv[1], strerror(-res));
		return 1;
	}
	if (fat_tree(disk, 0, disk_bytes(disk), &tree, &error)) {
		fprintf(stderr, "fat_write: %s: %s\n", argv[1], error.text);
		return 1;
	}
	for (size_t i = 0; i < tree_count(tree); i++) {
		const struct tree_file *file = tree_at(tree, i);
		struct blob *blob;

		res = tree_read(tree, file, LIMIT_VIEW_BYTES, &blob);
		if (!res) {
			res = write_file(argv[2], file->path, blob);
			blob_unref(blob);
		}
		if (res) {
			fprintf(stderr, "fat_write: %s: %s\n", file->path, strerror(-res));
			return 1;
		}
	}
	printf("%zu files, %" PRIu64 " reads, %" PRIu64 " bytes\n", tree_count(tree),
	       disk_counts(disk).reads, disk_counts(disk).bytes);
	tree_free(tree);
	disk_free(disk);
	return 0;
}
