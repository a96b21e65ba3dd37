/*
 * The maker of initramfs with a tool of the test's own, so that it is seen when, how often and on
 * what it runs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "boot/blob.h"
#include "boot/initramfs.h"
#include "boot/tree.h"

/* Its result: what it was given, and the modules that lay there. Its mode is in a file beside it.
 */
static const char tool[] =
	"#!/bin/sh\n"
	"here=${0%/*}\n"
	"for last; do :; done\n"
	"[ \"$last\" != --list-modules ] || { [ ! -e \"$here/list\" ] || cat \"$here/list\"; exit "
	"0; }\n"
	"echo run >>\"$here/runs\"\n"
	"[ ! -e \"$here/mode\" ] || read -r mode <\"$here/mode\"\n"
	"case $mode in\n"
	"fail) echo 'a word before' >&2; echo 'mkinitramfs: no such luck' >&2; exit 1 ;;\n"
	"silent) exit 3 ;;\n"
	"rubbish) head -c 3000 /dev/urandom >&2; exit 1 ;;\n"
	"nothing) exit 0 ;;\n"
	"hang) sleep 100 & echo $! >\"$here/child\"; wait ;;\n"
	"slow) sleep 0.3 ;;\n"
	"quick) echo quick >\"$last\"; exit 0 ;;\n"
	"esac\n"
	"echo \"what it says when all is well\" >&2\n"
	"{ echo \"${11}\"; echo \"${2##*/}\"; cd \"$2\" && find . -type f -exec sha256sum {} + | "
	"sort -k2; } "
	">\"$last\"\n";

static char folder[64], run_folder[80], tool_path[80], init_path[80], busybox_path[80];

static void write_text(const char *name, const char *text, mode_t mode)
{
	char path[128];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void remove_text(const char *name)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	(void)unlink(path);
}

static unsigned runs(void)
{
	char path[128];
	struct stat status;

	(void)snprintf(path, sizeof(path), "%s/runs", folder);
	return stat(path, &status) ? 0 : (unsigned)status.st_size / 4;
}

/* How many names in the maker's folder begin or end so. */
static unsigned count_names(const char *with)
{
	char path[128];
	DIR *dir;
	const struct dirent *entry;
	unsigned count = 0;

	(void)snprintf(path, sizeof(path), "%s/initramfs", run_folder);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += strstr(entry->d_name, with) != NULL;
	closedir(dir);
	return count;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/lunroot-initramfs-test.XXXXXX");
	assert_non_null(mkdtemp(folder));
	(void)snprintf(run_folder, sizeof(run_folder), "%s/run", folder);
	(void)snprintf(tool_path, sizeof(tool_path), "%s/mkinitramfs", folder);
	(void)snprintf(init_path, sizeof(init_path), "%s/init", folder);
	(void)snprintf(busybox_path, sizeof(busybox_path), "%s/busybox", folder);
	assert_int_equal(mkdir(run_folder, 0755), 0);
	write_text("mkinitramfs", tool, 0755);
	write_text("dhcp", "script", 0644);
	write_text("init", "init", 0755);
	write_text("busybox", "busybox", 0755);
	write_text("list", "kernel/net/one.ko\nkernel/fs/two.ko.xz\n", 0644);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- a module tree in memory --- */

static int module_read(void *arg, const struct tree_file *file, void *to)
{
	(void)arg;
	if (file->id == 99)
		return -EUCLEAN;
	memset(to, (int)file->id, (size_t)file->bytes);
	return 0;
}

static struct tree *modules_new(bool depmod)
{
	static const struct tree_ops ops = {module_read, NULL};
	static const char *const paths[] = {
		"modules.dep",       "modules.dep.bin",     "modules.builtin.bin", "modules.order",
		"kernel/net/one.ko", "kernel/fs/two.ko.xz", "kernel/other.ko",     "build/Makefile",
		"source/../evil.ko", "kernel/new\nline.ko"};
	struct tree *tree = tree_new(&ops, NULL);

	assert_non_null(tree);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (!depmod && strstr(paths[i], ".bin"))
			continue;
		assert_int_equal(tree_add(tree, &(struct tree_file){.path = paths[i],
								    .bytes = 100 + i,
								    .id = i,
								    .mtime_s = 1000}),
				 0);
	}
	tree_finish(tree);
	return tree;
}

static const struct initramfs_config *config(unsigned timeout_ms)
{
	static struct initramfs_config it;

	it = (struct initramfs_config){
		.tool = tool_path,
		.run_folder = run_folder,
		.timeout_ms = timeout_ms,
	};
	it.programs[KERNEL_ARM64].init = init_path;
	it.programs[KERNEL_ARM64].busybox = busybox_path;
	return &it;
}

static struct initramfs_maker *maker_new(unsigned timeout_ms)
{
	struct initramfs_maker *maker = NULL;
	struct boot_error error = {""};

	if (initramfs_maker_new(config(timeout_ms), &maker, &error))
		fail_msg("%s", error.text);
	return maker;
}

static const struct kernel_info kernel = {.arch = KERNEL_ARM64, .version = "6.12.34+rpt-rpi-v8"};

static char *make_text(struct initramfs_maker *maker, struct tree *modules,
		       const struct kernel_info *info)
{
	static char text[8192];
	struct boot_error error = {""};
	struct blob *blob;

	if (initramfs_make(maker, modules, info, &blob, &error))
		fail_msg("%s", error.text);
	text[blob_read(blob, 0, text, sizeof(text) - 1)] = '\0';
	blob_unref(blob);
	return text;
}

static int make_fails(struct initramfs_maker *maker, struct tree *modules,
		      const struct kernel_info *info, const char *words)
{
	struct boot_error error = {""};
	struct blob *blob = NULL;
	int res = initramfs_make(maker, modules, info, &blob, &error);

	assert_null(blob);
	if (!strstr(error.text, words))
		fail_msg("no \"%s\" in \"%s\"", words, error.text);
	return res;
}

static void made_of_what_the_tool_wants_and_once(void **state)
{
	struct initramfs_maker *maker = maker_new(0);
	struct tree *modules = modules_new(true);
	const char *text = make_text(maker, modules, &kernel);

	(void)state;
	assert_true(strncmp(text, "zstd\n6.12.34+rpt-rpi-v8\n", 24) == 0);
	assert_non_null(strstr(text, "./kernel/net/one.ko"));
	assert_non_null(strstr(text, "./kernel/fs/two.ko.xz"));
	assert_non_null(strstr(text, "./modules.dep.bin"));
	/* The others are there only for modprobe to see: empty. */
	assert_non_null(strstr(text,
			       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  "
			       "./kernel/other.ko"));
	assert_null(strstr(text, "Makefile"));
	assert_null(strstr(text, "evil"));
	(void)make_text(maker, modules, &kernel);
	assert_int_equal(runs(), 1);
	assert_int_equal(initramfs_made_count(maker), 1);
	assert_int_equal(count_names("work."), 0);
	assert_int_equal(count_names(".img"), 1);
	initramfs_maker_free(maker);
	/* Another process finds it. */
	maker = maker_new(0);
	(void)make_text(maker, modules, &kernel);
	assert_int_equal(runs(), 1);
	assert_int_equal(initramfs_made_count(maker), 0);
	tree_free(modules);
	initramfs_maker_free(maker);
}

static void all_modules_where_depmod_never_ran(void **state)
{
	struct initramfs_maker *maker = maker_new(0);
	struct tree *modules = modules_new(false);
	const char *text = make_text(maker, modules, &kernel);

	(void)state;
	assert_non_null(strstr(text, "./kernel/other.ko"));
	assert_null(strstr(text, "Makefile"));
	tree_free(modules);
	initramfs_maker_free(maker);
}

static void another_one_when_anything_changes(void **state)
{
	static const struct tree_ops ops = {module_read, NULL};
	static const char *const programs[] = {"init", "busybox", "dhcp", "mkinitramfs"};
	static const struct tree_file files[] = {
		{"kernel/a.ko", 1, 1, 1}, {"kernel/b.ko", 1, 1, 1}, {"kernel/a.ko", 2, 1, 1},
		{"kernel/a.ko", 1, 1, 2}, {"modules.dep", 1, 1, 1}, {"modules.dep", 1, 2, 1}};
	struct kernel_info other = {.arch = KERNEL_ARM64, .version = "4.19.1"};
	struct initramfs_maker *maker = maker_new(0);
	struct tree *modules = modules_new(true);
	unsigned wanted = 1;

	(void)state;
	(void)make_text(maker, modules, &kernel);
	/* Kernels of those days know no zstd. */
	assert_true(strncmp(make_text(maker, modules, &other), "gzip\n4.19.1\n", 12) == 0);
	assert_int_equal(runs(), ++wanted);
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		char text[sizeof(tool) + 16];

		(void)snprintf(text, sizeof(text), "%s\n# changed\n", i == 3 ? tool : "x");
		write_text(programs[i], text, 0755);
		(void)make_text(maker, modules, &kernel);
		assert_int_equal(runs(), ++wanted);
		(void)make_text(maker, modules, &kernel);
		assert_int_equal(runs(), wanted);
	}
	tree_free(modules);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		modules = tree_new(&ops, NULL);
		assert_int_equal(tree_add(modules, &files[i]), 0);
		tree_finish(modules);
		(void)make_text(maker, modules, &kernel);
		assert_int_equal(runs(), ++wanted);
		tree_free(modules);
	}
	initramfs_maker_free(maker);
}

struct asker {
	pthread_t thread;
	struct initramfs_maker *maker;
	struct blob *blob;
	int res;
};

static void *ask(void *arg)
{
	struct asker *asker = arg;
	struct tree *modules = modules_new(true);
	struct boot_error error;

	asker->res = initramfs_make(asker->maker, modules, &kernel, &asker->blob, &error);
	tree_free(modules);
	return NULL;
}

static void who_asks_meanwhile_waits(void **state)
{
	struct asker askers[4];
	struct initramfs_maker *maker = maker_new(0);

	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		write_text("mode", round == 0 ? "fail\n" : "slow\n", 0644);
		for (size_t i = 0; i < 4; i++) {
			askers[i] = (struct asker){.maker = maker};
			assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]),
					 0);
		}
		for (size_t i = 0; i < 4; i++) {
			assert_int_equal(pthread_join(askers[i].thread, NULL), 0);
			assert_int_equal(askers[i].res, round == 0 ? -EINVAL : 0);
			assert_ptr_equal(askers[i].blob, askers[0].blob);
			if (round == 0)
				assert_null(askers[i].blob);
		}
	}
	for (size_t i = 0; i < 4; i++)
		blob_unref(askers[i].blob);
	/* Failures may have been shared or not, by chance; what was good was made once. */
	assert_true(runs() >= 2 && runs() <= 5);
	initramfs_maker_free(maker);
}

static void failures_say_why_and_are_not_kept(void **state)
{
	struct kernel_info arm32 = {.arch = KERNEL_ARM32, .version = "6.1.0"};
	struct kernel_info strange = {.arch = KERNEL_OTHER, .version = "6.1.0"};
	struct initramfs_maker *maker = maker_new(0);
	struct tree *modules = modules_new(true);

	(void)state;
	assert_int_equal(make_fails(maker, modules, &arm32, "32-bit ARM"), -ENOENT);
	assert_int_equal(make_fails(maker, modules, &strange, "this kind"), -ENOENT);
	write_text("mode", "fail\n", 0644);
	assert_int_equal(make_fails(maker, modules, &kernel, "mkinitramfs: no such luck"), -EINVAL);
	write_text("mode", "silent\n", 0644);
	assert_int_equal(make_fails(maker, modules, &kernel, "without a word"), -EINVAL);
	write_text("mode", "rubbish\n", 0644);
	assert_int_equal(make_fails(maker, modules, &kernel, ""), -EINVAL);
	write_text("mode", "nothing\n", 0644);
	assert_int_equal(make_fails(maker, modules, &kernel, "can't be read"), -ENOENT);
	write_text("list", "kernel/net/one.ko\nkernel/lost.ko\n", 0644);
	assert_int_equal(make_fails(maker, modules, &kernel, "kernel/lost.ko"), -ENOENT);
	remove_text("list");
	remove_text("mode");
	assert_int_equal(count_names("work."), 0);
	assert_int_equal(count_names(".img"), 0);
	(void)make_text(maker, modules, &kernel);
	remove_text("init");
	assert_int_equal(make_fails(maker, modules, &kernel, "/init: No such file"), -ENOENT);
	tree_free(modules);
	initramfs_maker_free(maker);
}

static void damaged_module_is_named(void **state)
{
	static const struct tree_ops ops = {module_read, NULL};
	struct initramfs_maker *maker = maker_new(0);
	struct tree *modules = tree_new(&ops, NULL);

	(void)state;
	assert_int_equal(tree_add(modules, &(struct tree_file){"kernel/bad.ko", 10, 99, 1}), 0);
	tree_finish(modules);
	assert_int_equal(make_fails(maker, modules, &kernel, "kernel/bad.ko can't be copied"),
			 -EUCLEAN);
	tree_free(modules);
	initramfs_maker_free(maker);
}

static void tool_that_hangs_is_ended_with_its_children(void **state)
{
	struct initramfs_maker *maker = maker_new(3000);
	struct tree *modules = modules_new(true);
	char path[128];
	int child = 0;
	FILE *file;

	(void)state;
	write_text("mode", "hang\n", 0644);
	assert_int_equal(make_fails(maker, modules, &kernel, "not ready within 3 s"), -ETIMEDOUT);
	(void)snprintf(path, sizeof(path), "%s/child", folder);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_non_null(fgets(path, sizeof(path), file));
	(void)fclose(file);
	child = (int)strtol(path, NULL, 10);
	assert_true(child > 1);
	/* Ended, or not collected yet by whoever inherited it. */
	for (unsigned i = 0; i < 100 && kill(child, 0) == 0; i++) {
		char state_path[64], text[256] = "";

		(void)snprintf(state_path, sizeof(state_path), "/proc/%d/stat", child);
		file = fopen(state_path, "r");
		if (!file || !fgets(text, sizeof(text), file) || strstr(text, ") Z")) {
			if (file)
				(void)fclose(file);
			break;
		}
		(void)fclose(file);
		assert_true(i < 99);
		usleep(20000);
	}
	assert_int_equal(count_names("work."), 0);
	tree_free(modules);
	initramfs_maker_free(maker);
}

static void leftovers_are_cleared_and_old_ones_go(void **state)
{
	struct initramfs_maker *maker = maker_new(0);
	struct tree *modules = modules_new(true);
	char path[160];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/initramfs/work.123456", run_folder);
	assert_int_equal(mkdir(path, 0700), 0);
	strcat(path, "/file");
	write_text("run/initramfs/work.123456/file", "x", 0600);
	initramfs_maker_free(maker);
	maker = maker_new(0);
	assert_int_equal(count_names("work."), 0);
	write_text("mode", "quick\n", 0644);
	remove_text("list");
	for (unsigned i = 0; i < LIMIT_INITRAMFS_CACHED + 3; i++) {
		struct kernel_info info = {.arch = KERNEL_ARM64};

		(void)snprintf(info.version, sizeof(info.version), "6.%u", i);
		(void)make_text(maker, modules, &info);
	}
	assert_int_equal(count_names(".img"), LIMIT_INITRAMFS_CACHED);
	tree_free(modules);
	initramfs_maker_free(maker);
}

static void wrong_configurations(void **state)
{
	struct initramfs_maker *maker = NULL;
	struct boot_error error = {""};
	struct initramfs_config it = *config(0);

	(void)state;
	it.run_folder = "relative";
	assert_int_equal(initramfs_maker_new(&it, &maker, &error), -EINVAL);
	it.run_folder = "/nonexistent/folder";
	assert_int_equal(initramfs_maker_new(&it, &maker, &error), -ENOENT);
	it = *config(0);
	it.tool = "/nonexistent";
	assert_int_equal(initramfs_maker_new(&it, &maker, &error), -ENOENT);
	remove_text("dhcp");
	assert_int_equal(initramfs_maker_new(config(0), &maker, &error), -ENOENT);
	assert_non_null(strstr(error.text, "dhcp"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(made_of_what_the_tool_wants_and_once),
		TEST(all_modules_where_depmod_never_ran),
		TEST(another_one_when_anything_changes),
		TEST(who_asks_meanwhile_waits),
		TEST(failures_say_why_and_are_not_kept),
		TEST(damaged_module_is_named),
		TEST(tool_that_hangs_is_ended_with_its_children),
		TEST(leftovers_are_cleared_and_old_ones_go),
		TEST(wrong_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
