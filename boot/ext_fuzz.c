/*
 * Any bytes as an ext4 file system (see fuzz_disk.h), through libext2fs: what we check before, and
 * what it does with the rest.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/utf8.h"
#include "boot/blob.h"
#include "boot/disk.h"
#include "boot/ext.h"
#include "boot/fuzz_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_into(struct ext *ext, const char *folder)
{
	struct boot_error error = {""};
	struct tree *tree;
	uint64_t left = 4u << 20;
	int res = ext_tree(ext, folder, &tree, &error);

	if (res) {
		assert(res < 0 && (res == -ENOENT || *error.text));
		return;
	}
	for (size_t i = 0; i < tree_count(tree); i++) {
		const struct tree_file *file = tree_at(tree, i);
		struct blob *blob = NULL;

		assert(utf8_clean(file->path, strlen(file->path)) && *file->path != '/');
		if (tree_read(tree, file, left, &blob) == 0) {
			assert(blob_bytes(blob) == file->bytes);
			left -= file->bytes;
			blob_unref(blob);
		}
	}
	tree_free(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk *disk = fuzz_disk_new(data, size);
	struct boot_error error = {""};
	struct ext *ext;
	char target[64];

	if (!disk)
		return 0;
	if (ext_open(disk, 0, disk_bytes(disk), &ext, &error) == 0) {
		(void)ext_needs_recovery(ext);
		look_into(ext, "/");
		look_into(ext, "/lib/modules/6.1.0");
		if (ext_link(ext, "/vmlinuz", target, sizeof(target)) == 0)
			assert(strlen(target) < sizeof(target));
		ext_free(ext);
	} else {
		assert(*error.text);
	}
	disk_free(disk);
	return 0;
}
