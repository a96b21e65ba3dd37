/*
 * Where a node's boot files are. In this order: the folder that was configured; the first FAT
 * partition that looks like a Pi's; within the root file system /boot/firmware or /boot, if they
 * are laid out like one (a boot partition that was copied into the root); /boot as Debian's kernel
 * packages fill it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/disk.h"
#include "boot/fat.h"
#include "boot/view_internal.h"

/* Whether the files are ones that a Pi's firmware would begin with: an EFI partition is FAT, too.
 */
static bool boots_a_pi(const struct tree *tree)
{
	if (tree_find(tree, "config.txt"))
		return true;
	for (size_t i = 0; i < tree_count(tree); i++) {
		const char *path = tree_at(tree, i)->path;

		if (!strchr(path, '/') && rules_kernel_like(path))
			return true;
	}
	return false;
}

/* *ret_tree stays NULL if no FAT partition is a Pi's; what is wrong with them goes to `trouble`. */
static int find_fat(struct source *source, struct boot_error *trouble)
{
	const struct probe_volume *volume = NULL;

	while ((volume = partition_next_fat(&source->volumes, volume))) {
		struct boot_error error;
		char text[PARTITION_TEXT_BYTES];
		int res = fat_tree(source->disk, volume->offset_bytes, volume->size_bytes,
				   &source->boot, &error);

		if (res == -ENOMEM)
			return res;
		if (res) {
			(void)boot_fail(trouble, res, "; %s: %s", partition_text(volume, text),
					error.text);
			continue;
		}
		if (boots_a_pi(source->boot)) {
			source->kind = SOURCE_FAT;
			(void)snprintf(source->text, sizeof(source->text), "%s",
				       partition_text(volume, text));
			return 0;
		}
		tree_free(source->boot);
		source->boot = NULL;
	}
	return 0;
}

static int find_in_root(struct source *source, struct boot_error *ret_error)
{
	static const char *const folders[] = {"/boot/firmware", "/boot"};

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
		int res = ext_tree(source->ext, folders[i], &source->boot, ret_error);

		if (res == -ENOENT)
			continue;
		if (res)
			return res;
		(void)snprintf(source->text, sizeof(source->text), "%s in the root file system",
			       folders[i]);
		if (tree_find(source->boot, "config.txt")) {
			source->kind = SOURCE_EXT;
			return 0;
		}
		if (i == 1) {
			source->kind = SOURCE_DEBIAN;
			return 0;
		}
		tree_free(source->boot);
		source->boot = NULL;
	}
	return -ENOENT;
}

int source_open_root(struct source *source, const char *root, const struct view_config *config,
		     struct boot_error *ret_error)
{
	const struct probe_volume *volume;
	struct boot_error error;
	int res = partition_root(&source->volumes, root, &volume, &error);

	if (res)
		return boot_fail(ret_error, res, "the disk of %s: %s", config->node, error.text);
	if (source->root == volume && source->ext)
		return 0;
	if (source->ext) /* its boot files are being read */
		return boot_fail(
			ret_error, -EINVAL,
			"the disk of %s: cmdline.txt says root=%s, but its boot files are in "
			"another file system",
			config->node, root);
	source->root = volume;
	if (strncmp(volume->fstype, "ext", 3) != 0)
		return boot_fail(
			ret_error, -ENOTSUP,
			"the root file system of %s is %s, and kernel modules can be read "
			"only from ext2, ext3 and ext4: give the node a folder of boot files "
			"that has lib/modules/VERSION or " VIEW_INITRAMFS " in it",
			config->node, *volume->fstype ? volume->fstype : "unknown");
	res = ext_open(source->disk, volume->offset_bytes, volume->size_bytes, &source->ext,
		       &error);
	return res ? boot_fail(ret_error, res, "the root file system of %s: %s", config->node,
			       error.text)
		   : 0;
}

static int open_disk(struct source *source, const struct view_config *config,
		     struct boot_error *ret_error)
{
	struct boot_error trouble = {""}, error = {""};
	int res = find_fat(source, &trouble);

	if (res)
		return boot_fail(ret_error, res, "out of memory");
	if (source->boot)
		return 0;
	res = source_open_root(source, "", config, &error);
	if (!res)
		res = find_in_root(source, &error);
	if (res)
		return boot_fail(
			ret_error, res,
			"no boot files for %s: its disk has no FAT partition with a config.txt "
			"or a kernel%s, and no /boot in a root file system%s%s",
			config->node, trouble.text, *error.text ? ": " : "", error.text);
	return 0;
}

int source_open(struct source *source, struct disk *disk, const struct view_config *config,
		struct boot_error *ret_error)
{
	struct boot_error error;
	int res = 0;

	source->disk = disk;
	if (disk) {
		res = partition_probe(disk, &source->volumes, &error);
		if (res)
			return boot_fail(ret_error, res, "the disk of %s %s", config->node,
					 error.text);
	}
	if (config->folder) {
		source->kind = SOURCE_FOLDER;
		(void)snprintf(source->text, sizeof(source->text), "the folder %.180s",
			       config->folder);
		res = tree_of_folder(config->folder, &source->boot, &error);
		return res ? boot_fail(ret_error, res, "no boot files for %s: %s", config->node,
				       error.text)
			   : 0;
	}
	if (!disk)
		return boot_fail(ret_error, -ENOENT,
				 "no boot files for %s: it has neither a disk nor a folder of them",
				 config->node);
	return open_disk(source, config, ret_error);
}

void source_done(struct source *source)
{
	tree_free(source->boot);
	ext_free(source->ext);
}

/* --- Debian's kernels --- */

static bool has_modules(struct source *source, const char *version)
{
	char path[LIMIT_TREE_PATH_BYTES + 1];

	(void)snprintf(path, sizeof(path), "/lib/modules/%s", version);
	return ext_has(source->ext, path);
}

/* /vmlinuz, or /boot/vmlinuz: what the administrator of a Debian system means. */
static bool by_link(struct source *source, char *ret_name, size_t capacity)
{
	static const char *const links[] = {"/vmlinuz", "/boot/vmlinuz"};

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
		char target[LIMIT_TREE_PATH_BYTES + 1];
		const char *name;

		if (ext_link(source->ext, links[i], target, sizeof(target)))
			continue;
		name = strrchr(target, '/') ? strrchr(target, '/') + 1 : target;
		if (!tree_find(source->boot, name) || strlen(name) >= capacity)
			continue;
		memcpy(ret_name, name, strlen(name) + 1);
		return true;
	}
	return false;
}

int source_debian_kernel(struct source *source, char *ret_name, size_t capacity,
			 struct boot_error *ret_error)
{
	const char *best = NULL;

	if (by_link(source, ret_name, capacity))
		return 0;
	for (size_t i = 0; i < tree_count(source->boot); i++) {
		const char *name = tree_at(source->boot, i)->path;

		if (strncmp(name, "vmlinuz-", 8) != 0 || strchr(name, '/') ||
		    strlen(name) >= capacity || (best && strverscmp(name, best) < 0) ||
		    !has_modules(source, name + 8))
			continue;
		best = name;
	}
	if (!best)
		return boot_fail(
			ret_error, -ENOENT,
			"/boot has no vmlinuz-VERSION with modules in /lib/modules/VERSION: "
			"install a kernel package (linux-image-arm64)");
	memcpy(ret_name, best, strlen(best) + 1);
	return 0;
}
