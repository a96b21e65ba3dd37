/*
 * For tests: makes the view of a disk image or folder, lists it, and writes its files into a
 * folder.
 *
 *   view_write [OPTION]... IMAGE|FOLDER|- [OUT]
 *     --model 3b|3b+|4|5|old|new|none, --serial HEX, --firmware DIR, --folder DIR, --extra WORDS
 *     --node-conf FILE            the view of one boot with these settings
 *     --initramfs FILE            this file as the initramfs of every kernel, or
 *     --tool FILE --init FILE --busybox FILE --run DIR    made by the real maker
 *     --times N                   makes it N times and tells the milliseconds
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "boot/blob.h"
#include "boot/blob_pool.h"
#include "boot/disk.h"
#include "boot/initramfs.h"
#include "boot/model.h"
#include "boot/view.h"

struct wish {
	struct pi_identity pi;
	struct view_config view;
	struct initramfs_config initramfs;
	const char *initramfs_file, *node_conf_file, *image, *out;
	unsigned times;
};

static int die(const char *what, int res)
{
	fprintf(stderr, "view_write: %s: %s\n", what, strerror(-res));
	exit(1);
}

static struct blob *file_blob(const char *path)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	void *data;

	if (fd < 0 || fstat(fd, &status))
		die(path, -errno);
	data = malloc((size_t)status.st_size + 1);
	if (!data || pread_all(fd, data, (size_t)status.st_size, 0))
		die(path, -EIO);
	return blob_new(data, (size_t)status.st_size);
}

static int given_initramfs(void *arg, struct tree *modules, const struct kernel_info *kernel,
			   struct blob **ret_blob, struct boot_error *ret_error)
{
	(void)modules;
	(void)kernel;
	(void)ret_error;
	*ret_blob = file_blob(arg);
	return 0;
}

static enum pi_model model_parse(const char *text)
{
	static const struct {
		const char *text;
		enum pi_model model;
	} models[] = {
		{"none", PI_NONE}, {"3b", PI_3B},           {"3b+", PI_3B_PLUS},    {"4", PI_4},
		{"5", PI_5},       {"old", PI_OLD_UNKNOWN}, {"new", PI_NEW_UNKNOWN}};

	for (size_t i = 0; i < ARRAY_COUNT(models); i++) {
		if (strcmp(text, models[i].text) == 0)
			return models[i].model;
	}
	die(text, -EINVAL);
	return PI_NONE;
}

static void wish_parse(struct wish *wish, int argc, char **argv)
{
	static const struct option options[] = {
		{"model", 1, NULL, 'm'},     {"serial", 1, NULL, 's'}, {"firmware", 1, NULL, 'f'},
		{"folder", 1, NULL, 'd'},    {"extra", 1, NULL, 'e'},  {"node-conf", 1, NULL, 'n'},
		{"initramfs", 1, NULL, 'i'}, {"tool", 1, NULL, 't'},   {"init", 1, NULL, 'I'},
		{"busybox", 1, NULL, 'b'},   {"run", 1, NULL, 'r'},    {"times", 1, NULL, 'T'},
		{NULL, 0, NULL, 0}};
	int option;

	wish->times = 1;
	wish->view.node = "pi-07";
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'm': wish->pi.model = model_parse(optarg); break;
		case 's':
			wish->pi.serial = (uint32_t)strtoul(optarg, NULL, 16);
			wish->pi.has_serial = true;
			break;
		case 'f': wish->view.firmware_folder = optarg; break;
		case 'd': wish->view.folder = optarg; break;
		case 'e': wish->view.cmdline_extra = optarg; break;
		case 'n': wish->node_conf_file = optarg; break;
		case 'i': wish->initramfs_file = optarg; break;
		case 't': wish->initramfs.tool = optarg; break;
		case 'I':
			wish->initramfs.programs[KERNEL_ARM64].init = optarg;
			wish->initramfs.programs[KERNEL_ARM32].init = optarg;
			break;
		case 'b':
			wish->initramfs.programs[KERNEL_ARM64].busybox = optarg;
			wish->initramfs.programs[KERNEL_ARM32].busybox = optarg;
			break;
		case 'r': wish->initramfs.run_folder = optarg; break;
		case 'T': wish->times = (unsigned)strtoul(optarg, NULL, 10); break;
		default: exit(2);
		}
	}
	if (optind >= argc) {
		fprintf(stderr, "view_write: no image named\n");
		exit(2);
	}
	wish->image = argv[optind];
	wish->out = argv[optind + 1];
}

static void write_file(const char *folder, const char *name, const struct blob *blob)
{
	char path[4096];
	size_t bytes = (size_t)blob_bytes(blob);
	void *data = malloc(bytes + 1);
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0777) && errno != EEXIST)
			die(path, -errno);
		*slash = '/';
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		die(path, -errno);
	if (!data || blob_read(blob, 0, data, bytes) != bytes || pwrite_all(fd, data, bytes, 0))
		die(path, -EIO);
	free(data);
	close(fd);
}

static void show(const struct view *view, const struct wish *wish)
{
	const struct view_about *about = view_about(view);

	printf("source %s\nroot %s\nkernel %s %s\nbytes %" PRIu64 "\n", about->source, about->root,
	       about->kernel, about->kernel_version, about->bytes);
	for (size_t i = 0; i < about->hidden_count; i++)
		printf("hidden %s\n", about->hidden[i]);
	for (size_t i = 0; i < about->note_count; i++)
		printf("note %s\n", about->notes[i]);
	for (size_t i = 0; i < view_count(view); i++) {
		struct view_file file = view_at(view, i);
		struct blob *blob = view_find(view, file.name);

		printf("file %" PRIu64 " %s\n", file.bytes, file.name);
		if (wish->out)
			write_file(wish->out, file.name, blob);
		blob_unref(blob);
	}
}

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static struct view *make(const struct wish *wish)
{
	double began = now_ms();
	struct boot_error error = {""};
	struct disk *disk = NULL;
	struct view *view;
	int res = 0;

	if (strcmp(wish->image, "-") != 0)
		res = disk_open_file(wish->image, &disk);
	if (res)
		die(wish->image, res);
	res = view_make(disk, &wish->view, &view, &error);
	if (res) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	if (disk)
		fprintf(stderr, "%.1f ms, %" PRIu64 " reads, %" PRIu64 " bytes\n", now_ms() - began,
			disk_counts(disk).reads, disk_counts(disk).bytes);
	disk_free(disk);
	return view;
}

static struct view *boot_view(const struct wish *wish, struct view *view)
{
	struct blob *settings = file_blob(wish->node_conf_file);
	char *text = calloc(1, (size_t)blob_bytes(settings) + 1);
	struct view *boot;
	int res;

	if (!text)
		die("memory", -ENOMEM);
	blob_read(settings, 0, text, (size_t)blob_bytes(settings));
	res = view_for_boot(view, text, &boot);
	if (res)
		die(wish->node_conf_file, res);
	free(text);
	blob_unref(settings);
	view_unref(view);
	return boot;
}

int main(int argc, char **argv)
{
	struct initramfs_maker *maker = NULL;
	struct boot_error error;
	struct wish wish = {.image = NULL};
	struct view *view = NULL;

	wish_parse(&wish, argc, argv);
	wish.view.pi = &wish.pi;
	wish.view.pool = blob_pool_new(1u << 30);
	if (wish.initramfs_file) {
		wish.view.make_initramfs = given_initramfs;
		wish.view.make_initramfs_arg = (void *)wish.initramfs_file;
	} else {
		if (initramfs_maker_new(&wish.initramfs, &maker, &error)) {
			fprintf(stderr, "%s\n", error.text);
			return 1;
		}
		wish.view.make_initramfs = initramfs_make;
		wish.view.make_initramfs_arg = maker;
	}
	for (unsigned i = 0; i < wish.times; i++) {
		view_unref(view);
		view = make(&wish);
	}
	if (wish.node_conf_file)
		view = boot_view(&wish, view);
	show(view, &wish);
	view_unref(view);
	initramfs_maker_free(maker);
	blob_pool_free(wish.view.pool);
	return 0;
}
