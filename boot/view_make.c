/*
 * The making of a view, step by step: find the boot files, read config.txt as this board would,
 * choose the kernel, make the initramfs for exactly that one, read all else that the board may ask
 * for, and write config.txt and cmdline.txt anew.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "boot/blob.h"
#include "boot/blob_pool.h"
#include "boot/cmdline.h"
#include "boot/view_internal.h"

/* For a root file system without a config.txt. The device trees are the mainline kernel's there. */
#define CONFIG_DEFAULT "upstream_kernel=1\nenable_uart=1\n"

#define PATH_BYTES (LIMIT_TREE_PATH_BYTES + 1)

struct making {
	const struct view_config *config;
	struct boot_error *error;
	struct view *view;
	struct source source;
	struct config_txt *config_txt;
	struct cmdline cmdline;
	char prefix[CONFIG_NAME_BYTES]; /* os_prefix, if the firmware would take it */
	bool prefix_overlays;           /* and whether overlays are below it, too */
	char kernel_path[PATH_BYTES];   /* among the boot files */
	struct kernel_info kernel;
	bool linux_kernel; /* else a folder's own program, which is served as it is */
};

static const struct config_settings *settings_of(const struct making *making)
{
	return config_txt_settings(making->config_txt);
}

static enum pi_model model_of(const struct making *making)
{
	return making->config->pi->model;
}

static int no_memory(struct making *making)
{
	return boot_fail(making->error, -ENOMEM, "the boot files of %s: out of memory",
			 making->config->node);
}

/* --- files into the view --- */

static int add_blob(struct making *making, const char *name, struct blob *blob)
{
	int res = blob ? view_add(making->view, name, blob) : -ENOMEM;

	if (res == -EFBIG)
		return boot_fail(
			making->error, res,
			"the boot files of %s have more than %u MiB (%s would be too much): "
			"remove what is not needed from the boot partition",
			making->config->node, LIMIT_VIEW_BYTES >> 20, name);
	return res ? no_memory(making) : 0;
}

/* Reads a file, each content once in memory. What is damaged is said in `trouble`. */
static int read_file(struct making *making, struct tree *tree, const struct tree_file *file,
		     struct blob **ret_blob, struct boot_error *trouble)
{
	struct blob *blob;
	int res = tree_read(tree, file, LIMIT_VIEW_BYTES, &blob);

	if (!res)
		res = blob_pool_share(making->config->pool, blob, ret_blob);
	if (!res)
		return 0;
	return boot_fail(
		trouble, res, "%s of %s can't be read: %s", file->path, making->config->node,
		res == -EUCLEAN  ? "the file system is damaged there; run fsck.vfat on the "
				   "boot partition"
		: res == -ENOSPC ? "the boot files of all nodes together fill the memory that "
				   "is allowed for them"
		: res == -EFBIG  ? "it is too large"
				 : strerror(-res));
}

/* A file that a boot can do without is left out when it is damaged, and that is noted. */
static int add_file(struct making *making, struct tree *tree, const struct tree_file *file,
		    const char *name)
{
	struct boot_error trouble;
	struct blob *blob;
	int res;

	if (view_has(making->view, name))
		return 0;
	res = read_file(making, tree, file, &blob, &trouble);
	if (res == -EUCLEAN) {
		view_note(making->view, "%s", trouble.text);
		return 0;
	}
	if (res)
		return boot_fail(making->error, res, "%s", trouble.text);
	return add_blob(making, name, blob);
}

/* A small text file, NUL-terminated and to be freed. -ENOENT without a text. */
static int read_text(struct making *making, const char *path, size_t bytes_max, char **ret_text,
		     size_t *ret_bytes)
{
	struct tree *tree = making->source.boot;
	const struct tree_file *file = tree_find(tree, path);
	struct blob *blob;
	char *text;
	int res;

	if (!file)
		return -ENOENT;
	res = tree_read(tree, file, bytes_max, &blob);
	if (res)
		return boot_fail(making->error, res, "%s of %s can't be read: %s", path,
				 making->config->node,
				 res == -EFBIG ? "it is too large"
				 : res == -EUCLEAN
					 ? "the file system is damaged there; run fsck.vfat "
					   "on the boot partition"
					 : strerror(-res));
	text = malloc((size_t)blob_bytes(blob) + 1);
	if (text) {
		*ret_bytes = blob_read(blob, 0, text, (size_t)blob_bytes(blob));
		text[*ret_bytes] = '\0';
		*ret_text = text;
	}
	blob_unref(blob);
	return text ? 0 : no_memory(making);
}

/* --- config.txt --- */

static int include(void *arg, const char *name, char *ret_text, size_t capacity, size_t *ret_bytes)
{
	struct making *making = arg;
	const struct tree_file *file = tree_find(making->source.boot, name);
	struct blob *blob;
	int res;

	if (!file)
		return -ENOENT;
	res = tree_read(making->source.boot, file, capacity, &blob);
	if (res)
		return res;
	*ret_bytes = blob_read(blob, 0, ret_text, capacity);
	blob_unref(blob);
	return 0;
}

static int read_config(struct making *making)
{
	char AUTO_FREE *text = NULL;
	struct boot_error error;
	size_t bytes = 0;
	int res = read_text(making, "config.txt", LIMIT_CONFIG_TXT_SOURCE_BYTES, &text, &bytes);

	if (res && res != -ENOENT)
		return res;
	if (!text && making->source.kind == SOURCE_DEBIAN)
		res = config_txt_parse(CONFIG_DEFAULT, strlen(CONFIG_DEFAULT), making->config->pi,
				       NULL, NULL, &making->config_txt, &error);
	else
		res = config_txt_parse(text ? text : "", bytes, making->config->pi, include, making,
				       &making->config_txt, &error);
	if (res)
		return boot_fail(making->error, res, "the disk of %s: %s", making->config->node,
				 error.text);
	if (settings_of(making)->boot_ramdisk)
		return boot_fail(
			making->error, -ENOTSUP,
			"config.txt of %s has boot_ramdisk=1: its boot files are in a boot.img, "
			"which is not looked into; remove that line",
			making->config->node);
	if (settings_of(making)->unsure)
		view_note(making->view,
			  "config.txt has sections that hang on GPIO lines, monitors or "
			  "the like: kernels named there are not considered");
	view_about_edit(making->view)->by_serial = settings_of(making)->by_serial;
	return 0;
}

/* --- the kernel --- */

/* Joins two parts of a path; false: too long. */
static bool join(char *ret_path, const char *first, const char *second)
{
	return snprintf(ret_path, PATH_BYTES, "%s%s", first, second) < PATH_BYTES;
}

/* The kernel below a prefix: the one that is named, or the first that the model looks for. */
static const struct tree_file *kernel_below(const struct making *making, const char *prefix)
{
	const struct config_settings *settings = settings_of(making);
	const char *const *names = rules_kernels(model_of(making), settings->arm_64bit);
	const struct tree_file *file = NULL;
	char path[PATH_BYTES];

	if (*settings->kernel == '/') /* bypasses all prefixes */
		return tree_find(making->source.boot, settings->kernel + 1);
	if (*settings->kernel)
		return join(path, prefix, settings->kernel) ? tree_find(making->source.boot, path)
							    : NULL;
	for (; *names && !file; names++)
		file = join(path, prefix, *names) ? tree_find(making->source.boot, path) : NULL;
	return file;
}

static bool device_tree_below(const struct making *making, const char *prefix)
{
	for (size_t i = 0; i < tree_count(making->source.boot); i++) {
		const char *path = tree_at(making->source.boot, i)->path;

		if (strncmp(path, prefix, strlen(prefix)) == 0 &&
		    rules_device_tree(model_of(making), path + strlen(prefix)))
			return true;
	}
	return false;
}

/* As the firmware does: a prefix without a kernel and a device tree is as if it were not there. */
static void choose_prefix(struct making *making)
{
	const struct config_settings *settings = settings_of(making);
	const char *overlays = *settings->overlay_prefix ? settings->overlay_prefix : "overlays/";
	char path[PATH_BYTES];

	if (!*settings->os_prefix)
		return;
	if (!kernel_below(making, settings->os_prefix) ||
	    !device_tree_below(making, settings->os_prefix)) {
		view_note(making->view,
			  "config.txt says os_prefix=%s, but no kernel and device tree are there: "
			  "it is "
			  "ignored, as the firmware does",
			  settings->os_prefix);
		return;
	}
	memcpy(making->prefix, settings->os_prefix, sizeof(making->prefix));
	making->prefix_overlays = snprintf(path, sizeof(path), "%s%sREADME", making->prefix,
					   overlays) < (int)sizeof(path) &&
				  tree_find(making->source.boot, path);
	view_note(making->view, "the files below os_prefix=%s are served in its place",
		  making->prefix);
}

static int no_kernel(struct making *making)
{
	const struct config_settings *settings = settings_of(making);
	const char *const *names = rules_kernels(model_of(making), settings->arm_64bit);
	char list[128] = "";

	if (*settings->kernel)
		return boot_fail(making->error, -ENOENT,
				 "config.txt of %s says kernel=%s, but there is no such file in %s",
				 making->config->node, settings->kernel, making->source.text);
	for (; *names; names++)
		(void)snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
			       *list ? ", " : "", *names);
	return boot_fail(making->error, -ENOENT,
			 "no kernel for a %s in %s of %s: it looks for %s%s. Install the kernel "
			 "package, or name another one by kernel= in config.txt",
			 pi_model_text(model_of(making)), making->source.text, making->config->node,
			 list,
			 settings->arm_64bit == 1   ? " (arm_64bit=1)"
			 : settings->arm_64bit == 0 ? " (arm_64bit=0)"
						    : "");
}

/* Any file that people call a kernel: what a PXE client without config.txt is offered. */
static const struct tree_file *any_kernel(const struct making *making)
{
	const struct tree_file *best = NULL;

	for (size_t i = 0; i < tree_count(making->source.boot); i++) {
		const struct tree_file *file = tree_at(making->source.boot, i);

		if (!strchr(file->path, '/') && rules_kernel_like(file->path) &&
		    (!best || strverscmp(file->path, best->path) > 0))
			best = file;
	}
	return best;
}

static int choose_kernel(struct making *making, const struct tree_file **ret_file)
{
	const struct tree_file *file = NULL;
	char name[PATH_BYTES];
	struct boot_error error;
	int res;

	if (making->source.kind == SOURCE_DEBIAN && !*settings_of(making)->kernel) {
		res = source_debian_kernel(&making->source, name, sizeof(name), &error);
		if (res)
			return boot_fail(making->error, res, "the disk of %s: %s",
					 making->config->node, error.text);
		file = tree_find(making->source.boot, name);
	} else {
		choose_prefix(making);
		file = kernel_below(making, making->prefix);
		if (!file && model_of(making) == PI_NONE)
			file = any_kernel(making);
	}
	if (!file)
		return no_kernel(making);
	memcpy(making->kernel_path, file->path, strlen(file->path) + 1);
	*ret_file = file;
	return 0;
}

/* The name that the kernel is served by: its path without the prefix. */
static const char *kernel_name(const struct making *making)
{
	size_t bytes = strlen(making->prefix);

	return strncmp(making->kernel_path, making->prefix, bytes) == 0
		       ? making->kernel_path + bytes
		       : making->kernel_path;
}

static int check_kernel(struct making *making, struct blob *blob)
{
	struct boot_error error;
	int res = kernel_info(blob, &making->kernel, &error);

	making->linux_kernel = res == 0;
	if (res && making->source.kind != SOURCE_FOLDER)
		return boot_fail(making->error, res, "%s of %s: %s", making->kernel_path,
				 making->config->node, error.text);
	if (res) {
		view_note(making->view, "%s: %s. It is served as it is", making->kernel_path,
			  error.text);
		return 0;
	}
	if (making->kernel.efi_only && model_of(making) != PI_NONE)
		return boot_fail(
			making->error, -ENOTSUP,
			"%s of %s is packed for EFI firmware (CONFIG_EFI_ZBOOT), and a Pi can't "
			"start it: unpack it, or install another kernel",
			making->kernel_path, making->config->node);
	if (model_of(making) == PI_5 && making->kernel.arch != KERNEL_ARM64)
		return boot_fail(
			making->error, -ENOTSUP,
			"%s of %s is no 64-bit kernel, and a Raspberry Pi 5 starts no other: "
			"install a 64-bit kernel package",
			making->kernel_path, making->config->node);
	return 0;
}

static int take_kernel(struct making *making)
{
	const struct tree_file *file = NULL;
	struct boot_error trouble;
	struct blob *blob;
	int res = choose_kernel(making, &file);

	if (res) {
		/* A folder may have quite other things in it than a Pi's files. */
		if (making->source.kind == SOURCE_FOLDER && !*settings_of(making)->kernel) {
			view_note(making->view, "there is no kernel in %s: it is served as it is",
				  making->source.text);
			return 0;
		}
		return res;
	}
	res = read_file(making, making->source.boot, file, &blob, &trouble);
	if (res)
		return boot_fail(making->error, res, "%s", trouble.text);
	res = check_kernel(making, blob);
	if (res) {
		blob_unref(blob);
		return res;
	}
	view_about_edit(making->view)->kernel = view_text(making->view, kernel_name(making));
	view_about_edit(making->view)->kernel_version =
		view_text(making->view, making->kernel.version);
	return add_blob(making, kernel_name(making), blob);
}

/* --- the command line --- */

static int take_cmdline(struct making *making)
{
	const struct config_settings *settings = settings_of(making);
	const char *name = *settings->cmdline ? settings->cmdline : "cmdline.txt";
	const char *extra = making->config->cmdline_extra ? making->config->cmdline_extra : "";
	char AUTO_FREE *text = NULL;
	char path[PATH_BYTES];
	struct boot_error error;
	size_t bytes = 0;
	int res = -ENOENT;

	if (join(path, *name == '/' ? "" : making->prefix, *name == '/' ? name + 1 : name))
		res = read_text(making, path, LIMIT_CONFIG_TXT_SOURCE_BYTES, &text, &bytes);
	if (res && res != -ENOENT)
		return res;
	if (text)
		res = cmdline_make(text, bytes, extra, &making->cmdline, &error);
	else
		res = cmdline_make(CMDLINE_DEFAULT, strlen(CMDLINE_DEFAULT), extra,
				   &making->cmdline, &error);
	if (res)
		return boot_fail(making->error, res, "the disk of %s: %s", making->config->node,
				 error.text);
	if (*making->cmdline.dropped)
		view_note(making->view, "taken out of cmdline.txt: %s", making->cmdline.dropped);
	return 0;
}

/* --- the initramfs --- */

/* The kernel's module tree: in the folder, or in the root file system. -ENOENT without a text. */
static int find_modules(struct making *making, struct tree **ret_tree, struct boot_error *error)
{
	static const char *const places[] = {"/lib/modules", "/usr/lib/modules"};
	char path[2 * PATH_BYTES];
	int res;

	if (making->source.kind == SOURCE_FOLDER) {
		(void)snprintf(path, sizeof(path), "%s/lib/modules/%s", making->config->folder,
			       making->kernel.version);
		res = tree_of_folder(path, ret_tree, error);
		if (res != -ENOENT)
			return res;
	}
	if (!making->source.ext)
		return -ENOENT;
	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", places[i], making->kernel.version);
		res = ext_tree(making->source.ext, path, ret_tree, error);
		if (res != -ENOENT)
			return res;
	}
	return -ENOENT;
}

static int no_modules(struct making *making)
{
	bool stale = making->source.ext && ext_needs_recovery(making->source.ext);

	return boot_fail(
		making->error, -ENOENT,
		"%s of %s has kernel %s in %s but no /lib/modules/%s: reinstall the kernel "
		"package%s",
		making->source.kind == SOURCE_FOLDER ? "the folder" : "the disk",
		making->config->node, making->kernel.version, making->kernel_path,
		making->kernel.version,
		stale ? " (the disk was not unmounted properly, and what was written last may "
			"not be seen yet: mount it once, or run e2fsck on it)"
		      : "");
}

static int make_initramfs(struct making *making)
{
	struct tree *modules = NULL;
	struct boot_error error;
	struct blob *blob = NULL;
	int res = find_modules(making, &modules, &error);

	if (res == -ENOENT)
		return no_modules(making);
	if (!res && tree_count(modules) == 0) {
		tree_free(modules);
		return no_modules(making);
	}
	if (res)
		return boot_fail(making->error, res, "the kernel modules of %s: %s",
				 making->config->node, error.text);
	res = making->config->make_initramfs(making->config->make_initramfs_arg, modules,
					     &making->kernel, &blob, &error);
	tree_free(modules);
	if (res)
		return boot_fail(making->error, res, "no initramfs for %s (kernel %s): %s",
				 making->config->node, making->kernel.version, error.text);
	return add_blob(making, VIEW_INITRAMFS, blob);
}

/* The root file system first: its choice is lunroot-init's, and wrong settings shall show here. */
static int take_root(struct making *making)
{
	struct source *source = &making->source;
	char text[PARTITION_TEXT_BYTES];
	int res = 0;

	if (!source->disk)
		return 0;
	/* A folder with an initramfs or modules of its own needs nothing from the disk. */
	if (source->kind == SOURCE_FOLDER && tree_find(source->boot, VIEW_INITRAMFS))
		return 0;
	res = source_open_root(source, making->cmdline.root, making->config, making->error);
	if (res && source->kind == SOURCE_FOLDER) {
		view_note(making->view, "%s", making->error->text);
		return 0;
	}
	if (res)
		return res;
	view_about_edit(making->view)->root =
		view_text(making->view, partition_text(source->root, text));
	if (ext_needs_recovery(source->ext))
		view_note(making->view,
			  "the root file system was not unmounted properly: what the node "
			  "wrote in its last half minute may not be seen here");
	return 0;
}

static int take_initramfs(struct making *making)
{
	const struct source *source = &making->source;
	const struct tree_file *file = tree_find(source->boot, VIEW_INITRAMFS);
	int res;

	if (!making->linux_kernel)
		return 0;
	if (source->kind == SOURCE_FOLDER && file)
		return add_file(making, source->boot, file, VIEW_INITRAMFS);
	res = take_root(making);
	return res ? res : make_initramfs(making);
}

/* --- all other files --- */

/* The name by which a boot file is served, if it is one of an operating system below a prefix. */
static const char *served_name(const struct making *making, const char *path)
{
	const char *overlays = *settings_of(making)->overlay_prefix
				       ? settings_of(making)->overlay_prefix
				       : "overlays/";
	size_t bytes = strlen(making->prefix);
	const char *name = path + bytes;

	if (bytes == 0 || strncmp(path, making->prefix, bytes) != 0)
		return NULL;
	if (strncmp(name, overlays, strlen(overlays)) == 0 && !making->prefix_overlays)
		return NULL;
	return name;
}

/* Whether config.txt names it, beside what the model looks for by itself. */
static bool named_by_config(const struct making *making, const char *name)
{
	const struct config_settings *settings = settings_of(making);
	const char *const names[] = {settings->device_tree, settings->armstub, settings->start_file,
				     settings->fixup_file};

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		if (*names[i] && tree_compare(names[i] + (*names[i] == '/'), name) == 0)
			return true;
	}
	return *settings->overlay_prefix &&
	       strncmp(name, settings->overlay_prefix, strlen(settings->overlay_prefix)) == 0;
}

static bool is_made_by_us(const char *name)
{
	return tree_compare(name, "config.txt") == 0 || tree_compare(name, "cmdline.txt") == 0 ||
	       tree_compare(name, VIEW_INITRAMFS) == 0;
}

static int take_boot_file(struct making *making, const struct tree_file *file, const char *name)
{
	bool folder = making->source.kind == SOURCE_FOLDER;
	bool named = named_by_config(making, name);

	/* An initramfs in a folder may be what that folder is for. */
	if (rules_hide(name) && !named && !(folder && name[0] == 'i')) {
		view_hide(making->view, name);
		return 0;
	}
	if (is_made_by_us(name) && making->linux_kernel)
		return 0;
	if (!folder && !named && !rules_wanted(model_of(making), name))
		return 0;
	if (folder && strncmp(name, "lib/modules/", 12) == 0)
		return 0;
	return add_file(making, making->source.boot, file, name);
}

static int take_boot_files(struct making *making)
{
	const struct tree *tree = making->source.boot;
	int res = 0;

	if (making->source.kind == SOURCE_DEBIAN)
		return 0;
	/* Those below the prefix first: they stand before others of the same name. */
	for (size_t i = 0; i < tree_count(tree) && !res; i++) {
		const struct tree_file *file = tree_at(tree, i);
		const char *name = served_name(making, file->path);

		if (name && *name)
			res = take_boot_file(making, file, name);
	}
	for (size_t i = 0; i < tree_count(tree) && !res; i++)
		res = take_boot_file(making, tree_at(tree, i), tree_at(tree, i)->path);
	return res;
}

/* Where kernel packages put device trees: Debian's, flash-kernel's, Ubuntu's. */
static int take_debian_trees(struct making *making)
{
	static const char *const places[] = {"/usr/lib/linux-image-%s", "/boot/dtbs/%s",
					     "/lib/firmware/%s/device-tree"};

	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		char path[PATH_BYTES];
		struct boot_error error;
		struct tree *tree;
		int res;

		/* The pattern is one of the above. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)snprintf(path, sizeof(path), places[i], making->kernel.version);
#pragma GCC diagnostic pop
		res = ext_tree(making->source.ext, path, &tree, &error);
		if (res == -ENOENT)
			continue;
		for (size_t j = 0; !res && j < tree_count(tree); j++) {
			const struct tree_file *file = tree_at(tree, j);
			const char *name = strrchr(file->path, '/');

			name = name ? name + 1 : file->path;
			if (strncmp(file->path, "overlays/", 9) == 0)
				name = file->path;
			if (rules_wanted(model_of(making), name))
				res = add_file(making, tree, file, name);
		}
		tree_free(tree);
		return res;
	}
	return 0;
}

/* --- what must be there --- */

/* What the disk lacks, out of the firmware folder. Never a mixture: start and fixup files belong
 * together. */
static int add_firmware(struct making *making, struct tree *tree)
{
	bool own = view_has(making->view, "start.elf") || view_has(making->view, "start4.elf");
	int res = 0;

	for (size_t i = 0; i < tree_count(tree) && !res; i++) {
		const struct tree_file *file = tree_at(tree, i);

		if (strchr(file->path, '/') || !rules_wanted(model_of(making), file->path) ||
		    rules_device_tree(model_of(making), file->path) ||
		    (own && tree_compare(file->path, "bootcode.bin") != 0))
			continue;
		res = add_file(making, tree, file, file->path);
	}
	return res;
}

static int lacks_firmware(struct making *making, const char *name, const char *trouble)
{
	const char *folder = making->config->firmware_folder;

	return boot_fail(making->error, -ENOENT,
			 "%s of %s has no %s, which a %s needs, and %s%s: install the package "
			 "raspi-firmware",
			 making->source.text, making->config->node, name,
			 pi_model_text(model_of(making)),
			 *trouble ? trouble
			 : folder ? "neither has "
				  : "no folder with firmware is configured",
			 *trouble || !folder ? "" : folder);
}

static int take_firmware(struct making *making)
{
	const char *const *names = rules_firmware(model_of(making));
	struct boot_error error = {""};
	struct tree *tree = NULL;
	int res = 0;

	if (*names && making->config->firmware_folder &&
	    tree_of_folder(making->config->firmware_folder, &tree, &error) == 0) {
		res = add_firmware(making, tree);
		tree_free(tree);
	}
	/* start_file= names another set, and a folder may be for quite another way of booting. */
	if (*settings_of(making)->start_file || making->source.kind == SOURCE_FOLDER)
		return res;
	for (; *names && !res; names++) {
		if (!view_has(making->view, *names))
			res = lacks_firmware(making, *names, error.text);
	}
	return res;
}

static int check_device_tree(struct making *making)
{
	const char *named = settings_of(making)->device_tree;

	if (model_of(making) == PI_NONE || !making->linux_kernel || *named)
		return 0;
	for (size_t i = 0; i < view_count(making->view); i++) {
		if (rules_device_tree(model_of(making), view_at(making->view, i).name))
			return 0;
	}
	if (making->source.kind == SOURCE_FOLDER) {
		view_note(making->view, "there is no device tree for a %s in %s",
			  pi_model_text(model_of(making)), making->source.text);
		return 0;
	}
	return boot_fail(
		making->error, -ENOENT,
		"%s of %s has no device tree for a %s: its kernel package (%s) is made for "
		"other boards",
		making->source.text, making->config->node, pi_model_text(model_of(making)),
		making->kernel.version);
}

/* --- our texts --- */

static int add_text(struct making *making, const char *name, const char *text)
{
	return add_blob(making, name, blob_copy(text, strlen(text)));
}

static int take_texts(struct making *making)
{
	char text[LIMIT_CONFIG_TXT_BYTES + 1];
	char line[LIMIT_CMDLINE_BYTES + 2];
	struct boot_error error;
	int res;

	if (!making->linux_kernel)
		return 0;
	(void)snprintf(line, sizeof(line), "%s\n", making->cmdline.text);
	res = add_text(making, "cmdline.txt", line);
	if (res || model_of(making) == PI_NONE)
		return res;
	res = config_txt_serve(making->config_txt, kernel_name(making),
			       making->kernel.arch == KERNEL_ARM64, VIEW_INITRAMFS, text, &error);
	if (res)
		return boot_fail(making->error, res, "the disk of %s: %s", making->config->node,
				 error.text);
	return add_text(making, "config.txt", text);
}

/* --- all of it --- */

static int make(struct making *making, struct disk *disk)
{
	static int (*const steps[])(struct making *) = {
		read_config, take_kernel,   take_cmdline,      take_initramfs, take_boot_files,
		NULL,        take_firmware, check_device_tree, take_texts,
	};
	int res = source_open(&making->source, disk, making->config, making->error);

	if (!res)
		view_about_edit(making->view)->source =
			view_text(making->view, making->source.text);
	for (size_t i = 0; i < ARRAY_COUNT(steps) && !res; i++) {
		if (steps[i])
			res = steps[i](making);
		else if (making->source.kind == SOURCE_DEBIAN)
			res = take_debian_trees(making);
	}
	return res;
}

int view_make(struct disk *disk, const struct view_config *config, struct view **ret_view,
	      struct boot_error *ret_error)
{
	struct making *making = calloc(1, sizeof(*making));
	int res;

	assert(config->node && config->pi && config->pool && config->make_initramfs);
	if (!making)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	making->config = config;
	making->error = ret_error;
	making->view = view_new();
	res = making->view ? make(making, disk) : no_memory(making);
	if (!res)
		*ret_view = TAKE_PTR(making->view);
	view_unref(making->view);
	config_txt_free(making->config_txt);
	source_done(&making->source);
	free(making);
	return res;
}
