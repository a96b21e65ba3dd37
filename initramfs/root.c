/*
 * Mounting and switching.
 */
#include "initramfs/root.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/console.h"
#include "initramfs/run.h"

#define E2FSCK      "/sbin/e2fsck"
#define OVERLAY_DIR "/run/lunroot/overlay" /* moves with /run, so that the person can look */
#define LOWER_DIR   "/run/lunroot/root"
#define LOG_DEVICE  "/dev/kmsg"
#define DEPTH_MAX   16

static int fault(struct root_error *error, int r, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fault(struct root_error *error, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return r;
}

/* --- checking --- */

int root_check(const struct settings *settings, const char *device, const char *fstype,
	       struct root_error *ret_error)
{
	char *argv[] = {E2FSCK, "-p", (char *)device, NULL};
	int status;

	if (settings->fsck == SETTINGS_NO || strncmp(fstype, "ext", 3) != 0)
		return 0;
	if (!file_exists(E2FSCK)) {
		if (settings->fsck == SETTINGS_YES)
			complain("fsck=yes, but there is no %s in the initramfs; not checked",
				 E2FSCK);
		return 0;
	}
	status = program_run(argv);
	/* 1 and 2: errors were found and mended (e2fsck(8)); nothing is mounted yet. */
	if (status >= 0 && (status & ~3) == 0)
		return 0;
	return fault(ret_error, -EUCLEAN,
		     "root on %s is damaged and e2fsck -p does not mend it alone (status %d): run "
		     "e2fsck on it by hand (lunroot.rescue), or boot it as it is (lunroot.fsck=no)",
		     device, status);
}

/* --- mounting --- */

/* Options that are flags of mount(2) and must not reach the file system. */
static const struct {
	const char *word;
	unsigned long set, clear;
} mount_words[] = {
	{"ro", MS_RDONLY, 0},         {"rw", 0, MS_RDONLY},
	{"noatime", MS_NOATIME, 0},   {"nodiratime", MS_NODIRATIME, 0},
	{"relatime", MS_RELATIME, 0}, {"strictatime", MS_STRICTATIME, 0},
	{"lazytime", MS_LAZYTIME, 0}, {"sync", MS_SYNCHRONOUS, 0},
	{"dirsync", MS_DIRSYNC, 0},   {"nosuid", MS_NOSUID, 0},
	{"nodev", MS_NODEV, 0},       {"noexec", MS_NOEXEC, 0},
	{"defaults", 0, 0},
};

static bool take_mount_word(const char *word, unsigned long *flags)
{
	for (size_t i = 0; i < ARRAY_COUNT(mount_words); i++) {
		if (strcmp(word, mount_words[i].word) != 0)
			continue;
		*flags = (*flags | mount_words[i].set) & ~mount_words[i].clear;
		return true;
	}
	return false;
}

static void options_split(const char *rootflags, unsigned long *flags, char *ret_data, size_t bytes)
{
	char copy[SETTINGS_WORD_BYTES];
	char *rest = copy, *word;
	size_t used = 0;

	(void)snprintf(copy, sizeof(copy), "%s", rootflags);
	ret_data[0] = '\0';
	while ((word = strsep(&rest, ","))) {
		size_t word_bytes = strlen(word);

		if (!word_bytes || take_mount_word(word, flags) || used + word_bytes + 2 > bytes)
			continue;
		if (used)
			ret_data[used++] = ',';
		memcpy(ret_data + used, word, word_bytes + 1);
		used += word_bytes;
	}
}

static int folders_make(const char *path)
{
	char copy[128];

	(void)snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(copy, 0755) && errno != EEXIST ? -errno : 0;
}

static int mount_device(const struct settings *settings, const char *device, const char *fstype,
			bool read_only, const char *where, struct root_error *error)
{
	unsigned long flags = read_only ? MS_RDONLY : 0;
	char data[SETTINGS_WORD_BYTES];
	int r = folders_make(where);

	options_split(settings->rootflags, &flags, data, sizeof(data));
	if (read_only)
		flags |= MS_RDONLY;
	if (r == 0 && mount(device, where, fstype, flags, data))
		r = -errno;
	if (r == 0)
		return 0;
	return fault(error, r, "root not mountable: %s as %s%s%s%s: %s", device, fstype,
		     data[0] ? " with " : "", data, read_only ? ", read-only" : "",
		     r == -ENODEV ? "the kernel does not know this file system: is its module in "
				    "the initramfs?"
				  : strerror(-r));
}

/* A tmpfs over the disk: what is written is gone at the next boot. */
static int mount_overlay(struct root_error *error)
{
	const char *options = "lowerdir=" LOWER_DIR ",upperdir=" OVERLAY_DIR
			      "/upper,workdir=" OVERLAY_DIR "/work";
	int r = folders_make(OVERLAY_DIR);

	if (r == 0 && mount("lunroot", OVERLAY_DIR, "tmpfs", 0, "mode=755"))
		r = -errno;
	if (r == 0)
		r = folders_make(OVERLAY_DIR "/upper");
	if (r == 0)
		r = folders_make(OVERLAY_DIR "/work");
	if (r == 0 && mount("lunroot", ROOT_MOUNT, "overlay", 0, options))
		r = -errno;
	if (r == 0)
		return 0;
	(void)umount2(OVERLAY_DIR, MNT_DETACH);
	(void)umount2(LOWER_DIR, MNT_DETACH);
	return fault(error, r, "overlay=tmpfs: %s%s", strerror(-r),
		     r == -ENODEV ? ": is the module overlay in the initramfs?" : "");
}

int root_mount(const struct settings *settings, const char *device, const char *fstype,
	       struct root_error *ret_error)
{
	int r = folders_make(ROOT_MOUNT);

	if (r)
		return fault(ret_error, r, ROOT_MOUNT ": %s", strerror(-r));
	if (!settings->overlay_tmpfs)
		return mount_device(settings, device, fstype, settings->read_only != SETTINGS_NO,
				    ROOT_MOUNT, ret_error);
	r = mount_device(settings, device, fstype, true, LOWER_DIR, ret_error);
	return r ? r : mount_overlay(ret_error);
}

/* --- the real init --- */

/* Looked for by a child that has the new root for its own: links in it are to be followed there. */
static bool can_execute(const char *path)
{
	pid_t pid = fork();
	int status = 1;

	if (pid == 0) {
		struct stat info;

		if (chroot(ROOT_MOUNT) || chdir("/") || stat(path, &info) ||
		    !S_ISREG(info.st_mode) || access(path, X_OK))
			_exit(1);
		_exit(0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void unmount_root(const struct settings *settings)
{
	(void)umount2(ROOT_MOUNT, MNT_DETACH);
	if (settings->overlay_tmpfs) {
		(void)umount2(OVERLAY_DIR, MNT_DETACH);
		(void)umount2(LOWER_DIR, MNT_DETACH);
	}
}

static const char *const moved[] = {"/dev", "/proc", "/sys", "/run"};

int root_find_init(const struct settings *settings, char *ret_init, size_t bytes,
		   struct root_error *ret_error)
{
	static const char *const usual[] = {
		"/sbin/init", "/usr/sbin/init", "/usr/lib/systemd/systemd",
		"/etc/init",  "/bin/init",      "/bin/sh"};
	const char *init = settings->init;

	for (size_t i = 0; i < ARRAY_COUNT(moved); i++) {
		char path[64];
		struct stat info;

		(void)snprintf(path, sizeof(path), ROOT_MOUNT "%s", moved[i]);
		if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
			continue;
		unmount_root(settings);
		return fault(ret_error, -ENOENT,
			     "root has no folder %s: is it the root file system of a system?",
			     moved[i]);
	}
	if (init[0] && !can_execute(init)) {
		unmount_root(settings);
		return fault(ret_error, -ENOENT, "init=%s: root has no such program", init);
	}
	for (size_t i = 0; i < ARRAY_COUNT(usual) && !init[0]; i++) {
		if (can_execute(usual[i]))
			init = usual[i];
	}
	if (!init[0]) {
		unmount_root(settings);
		return fault(ret_error, -ENOENT,
			     "root has no init (/sbin/init and other usual places)");
	}
	(void)snprintf(ret_init, bytes, "%s", init);
	return 0;
}

/* --- the switch --- */

/*
 * What stays in the initramfs's memory: names can be looked up while the disk is away, and the
 * DHCP client still finds its script, which then knows whose the routes are, which address it had
 * before, and where to say that it has another.
 */
static bool stays(const char *path)
{
	static const char *const kept[] = {
		"/bin/busybox",         "/bin/sh",          ROOT_MOUNTED_MARK, "/etc/lunroot/dhcp",
		"/etc/lunroot/address", "/etc/resolv.conf", "/etc/hosts",      LOG_DEVICE,
	};

	for (size_t i = 0; i < ARRAY_COUNT(kept); i++) {
		if (strcmp(path, kept[i]) == 0)
			return true;
	}
	return false;
}

/* Removes what is on this file system; folders that still hold something stay. */
static void empty(const char *path, dev_t device, int depth)
{
	DIR *dir = depth < DEPTH_MAX ? opendir(path) : NULL;
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char name[512];
		struct stat info;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    (size_t)snprintf(name, sizeof(name), "%s/%s", path[1] ? path : "",
				     entry->d_name) >= sizeof(name) ||
		    lstat(name, &info) || info.st_dev != device || stays(name))
			continue;
		if (S_ISDIR(info.st_mode)) {
			empty(name, device, depth + 1);
			(void)rmdir(name);
		} else {
			(void)unlink(name);
		}
	}
	if (dir)
		closedir(dir);
}

/* /dev has moved away; without this one, what the DHCP client's script says would be lost. */
static void keep_log(void)
{
	(void)mkdir("/dev", 0755);
	(void)mknod(LOG_DEVICE, S_IFCHR | 0600, makedev(1, 11));
}

static void empty_initramfs(void)
{
	struct statfs fs;
	struct stat info;

	/* Never anything but memory, whatever was mounted here. */
	if (statfs("/", &fs) || stat("/", &info) ||
	    ((unsigned long)fs.f_type != RAMFS_MAGIC && (unsigned long)fs.f_type != TMPFS_MAGIC))
		return;
	keep_log();
	empty("/", info.st_dev, 0);
}

int root_switch(const char *init, char *argv[])
{
	for (size_t i = 0; i < ARRAY_COUNT(moved); i++) {
		char path[64];

		(void)snprintf(path, sizeof(path), ROOT_MOUNT "%s", moved[i]);
		if (mount(moved[i], path, NULL, MS_MOVE, NULL))
			return -errno;
	}
	empty_initramfs();
	/* Not every init waits for children that it never had. */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (chdir(ROOT_MOUNT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
		return -errno;
	argv[0] = (char *)init;
	(void)execv(init, argv);
	return -errno;
}
