/*
 * Any bytes as a FAT file system (see fuzz_disk.h). Nothing is read outside of it, names are clean
 * and sorted, files are found by them, and reading ends.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "boot/blob.h"
#include "boot/disk.h"
#include "boot/fat.h"
#include "boot/fuzz_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tree(struct tree *tree)
{
	uint64_t left = 4u << 20;

	assert(tree_count(tree) <= LIMIT_TREE_FILES);
	for (size_t i = 0; i < tree_count(tree); i++) {
		const struct tree_file *file = tree_at(tree, i);
		struct blob *blob = NULL;
		int res;

		assert(utf8_clean(file->path, strlen(file->path)) && *file->path != '/');
		assert(!strstr(file->path, "//") && !strstr(file->path, "/../"));
		assert(i == 0 || tree_compare(tree_at(tree, i - 1)->path, file->path) < 0);
		assert(tree_find(tree, file->path) == file);
		res = tree_read(tree, file, left, &blob);
		assert(res == 0 || res == -EUCLEAN || res == -EFBIG);
		if (!res) {
			assert(blob_bytes(blob) == file->bytes);
			left -= file->bytes;
			blob_unref(blob);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *disk = fuzz_disk_new(data, size);
	struct boot_error error = {""};
	struct tree *tree;
	int res;

	if (!disk)
		return 0;
	/* A partition that does not begin with the disk, if there is room. */
	uint64_t offset = size % 2 && disk_bytes(disk) > 4096 ? 4096 : 0;
	res = fat_tree(disk, offset, disk_bytes(disk) - offset, &tree, &error);
	if (res) {
		assert(res == -EUCLEAN || res == -E2BIG);
		assert(*error.text);
	} else {
		check_tree(tree);
		tree_free(tree);
	}
	disk_free(disk);
	return 0;
}
