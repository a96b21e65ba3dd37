/*
 * The modules are copied out of the node's root file system into a private folder, no more of them
 * than the tool will take (it is asked first), and the tool is run on it. Whatever names stand in
 * that file system: the copies are made below the private folder only, without following links.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "boot/blob.h"
#include "boot/initramfs_internal.h"
#include "boot/tree.h"

#define FORMAT      "lunroot initramfs 1" /* another one when options of the tool change */
#define OWN_FOLDER  "initramfs"
#define WORK_PREFIX "work."
#define FILE_SUFFIX ".img"
#define PATH_BYTES  (LIMIT_PATH_BYTES + 1)
#define LIST_BYTES  (256u << 10)
#define NFTW_FDS    16

static int no_memory(struct boot_error *ret_error)
{
	return boot_fail(ret_error, -ENOMEM, "out of memory");
}

/* --- folders --- */

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

static void remove_folder(const char *path)
{
	(void)nftw(path, remove_one, NFTW_FDS, FTW_DEPTH | FTW_PHYS);
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with)
{
	return strlen(text) > strlen(with) && strcmp(text + strlen(text) - strlen(with), with) == 0;
}

/* What an earlier process was in the middle of. */
static void clear_half_made(const char *folder)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char path[PATH_BYTES];

		if (begins(entry->d_name, WORK_PREFIX) &&
		    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) <
			    (int)sizeof(path) &&
		    unlink(path) < 0)
			remove_folder(path);
	}
	if (dir)
		closedir(dir);
}

/* So many as are kept in memory, too: the oldest go. */
static void clear_old(const char *folder)
{
	for (;;) {
		char path[PATH_BYTES], oldest[PATH_BYTES] = "";
		DIR *dir = opendir(folder);
		const struct dirent *entry;
		struct timespec time = {0, 0};
		unsigned count = 0;

		while (dir && (entry = readdir(dir))) {
			struct stat status;

			if (!ends(entry->d_name, FILE_SUFFIX) ||
			    snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >=
				    (int)sizeof(path) ||
			    stat(path, &status))
				continue;
			count++;
			if (*oldest && (status.st_mtim.tv_sec > time.tv_sec ||
					(status.st_mtim.tv_sec == time.tv_sec &&
					 status.st_mtim.tv_nsec >= time.tv_nsec)))
				continue;
			time = status.st_mtim;
			memcpy(oldest, path, sizeof(oldest));
		}
		if (dir)
			closedir(dir);
		if (count <= LIMIT_INITRAMFS_CACHED || unlink(oldest))
			return;
	}
}

static int copy_text(char **ret_copy, const char *text)
{
	if (!text)
		return 0;
	*ret_copy = strdup(text);
	return *ret_copy ? 0 : -ENOMEM;
}

/* Where the tool itself looks for it: beside it, or where the source tree has it. */
static int find_dhcp(char **ret_path, const char *tool)
{
	static const char *const places[] = {"dhcp", "../initramfs/dhcp"};
	const char *slash = strrchr(tool, '/');
	int bytes = slash ? (int)(slash - tool) + 1 : 0;

	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		if (asprintf(ret_path, "%.*s%s", bytes, tool, places[i]) < 0) {
			*ret_path = NULL;
			return -ENOMEM;
		}
		if (access(*ret_path, R_OK) == 0)
			return 0;
		free(*ret_path);
		*ret_path = NULL;
	}
	return -ENOENT;
}

int initramfs_paths_init(struct initramfs_paths *paths, const struct initramfs_config *config,
			 struct boot_error *ret_error)
{
	int res = 0;

	if (!config->tool || !config->run_folder || config->run_folder[0] != '/' ||
	    strlen(config->run_folder) > LIMIT_PATH_BYTES / 2)
		return boot_fail(ret_error, -EINVAL,
				 "mkinitramfs and a runtime folder (an absolute path) are wanted");
	paths->timeout_ms = config->timeout_ms ? config->timeout_ms : LIMIT_INITRAMFS_MAKE_MS;
	for (unsigned i = 0; i < KERNEL_OTHER && !res; i++) {
		res = copy_text(&paths->programs[i].init, config->programs[i].init);
		if (!res)
			res = copy_text(&paths->programs[i].busybox, config->programs[i].busybox);
	}
	if (!res)
		res = copy_text(&paths->tool, config->tool);
	if (!res && asprintf(&paths->folder, "%s/" OWN_FOLDER, config->run_folder) < 0) {
		paths->folder = NULL;
		res = -ENOMEM;
	}
	if (res)
		return no_memory(ret_error);
	if (access(paths->tool, X_OK))
		return boot_fail(ret_error, -errno, "%s: %s", paths->tool, strerror(errno));
	res = find_dhcp(&paths->dhcp, paths->tool);
	if (res)
		return boot_fail(ret_error, res, "the script \"dhcp\" beside %s: %s", paths->tool,
				 strerror(-res));
	if (mkdir(paths->folder, 0700) && errno != EEXIST)
		return boot_fail(ret_error, -errno, "%s: %s", paths->folder, strerror(errno));
	clear_half_made(paths->folder);
	return 0;
}

void initramfs_paths_done(struct initramfs_paths *paths)
{
	free(paths->tool);
	free(paths->dhcp);
	free(paths->folder);
	for (unsigned i = 0; i < KERNEL_OTHER; i++) {
		free(paths->programs[i].init);
		free(paths->programs[i].busybox);
	}
}

/* --- the key --- */

/* With its length before it, so that no two lists of parts make the same stream. */
static bool digest_part(EVP_MD_CTX *digest, const void *data, size_t bytes)
{
	uint64_t length = bytes;

	return EVP_DigestUpdate(digest, &length, sizeof(length)) &&
	       (bytes == 0 || EVP_DigestUpdate(digest, data, bytes));
}

/* A file of this machine; a negative errno if it can't be read. */
static int digest_file(EVP_MD_CTX *digest, const char *path)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	char data[16384];
	uint64_t total = 0;
	ssize_t got;

	if (fd < 0)
		return -errno;
	while ((got = read(fd, data, sizeof(data))) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		total += (uint64_t)got;
		if (!EVP_DigestUpdate(digest, data, (size_t)got))
			return -ENOMEM;
	}
	return digest_part(digest, &total, sizeof(total)) ? 0 : -ENOMEM;
}

static bool digest_tree(EVP_MD_CTX *digest, struct tree *modules)
{
	const struct tree_file *dependencies = tree_find(modules, "modules.dep");
	struct blob *blob;
	const void *data;
	size_t bytes;
	bool good = true;

	for (size_t i = 0; i < tree_count(modules) && good; i++) {
		const struct tree_file *file = tree_at(modules, i);

		good = digest_part(digest, file->path, strlen(file->path)) &&
		       digest_part(digest, &file->bytes, sizeof(file->bytes)) &&
		       digest_part(digest, &file->mtime_s, sizeof(file->mtime_s));
	}
	if (good && dependencies &&
	    tree_read(modules, dependencies, LIMIT_INITRAMFS_BYTES, &blob) == 0) {
		if (blob_pieces(blob, &data, &bytes, 1) > 0)
			good = digest_part(digest, data, bytes);
		blob_unref(blob);
	}
	return good;
}

int initramfs_key(const struct initramfs_paths *paths, struct tree *modules,
		  const struct kernel_info *kernel, uint8_t ret_key[INITRAMFS_KEY_BYTES],
		  struct boot_error *ret_error)
{
	static const char *const archs[] = {"64-bit ARM", "32-bit ARM", "x86"};
	const char *files[4];
	EVP_MD_CTX *digest;
	bool good;
	int res = 0;

	if (kernel->arch >= KERNEL_OTHER || !paths->programs[kernel->arch].init ||
	    !paths->programs[kernel->arch].busybox)
		return boot_fail(ret_error, -ENOENT,
				 "no lunroot-init and busybox for %s kernels are configured",
				 kernel->arch < KERNEL_OTHER ? archs[kernel->arch]
							     : "this kind of");
	files[0] = paths->tool;
	files[1] = paths->dhcp;
	files[2] = paths->programs[kernel->arch].init;
	files[3] = paths->programs[kernel->arch].busybox;
	digest = EVP_MD_CTX_new();
	good = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) &&
	       digest_part(digest, FORMAT, sizeof(FORMAT)) &&
	       digest_part(digest, kernel->version, strlen(kernel->version)) &&
	       digest_part(digest, &kernel->arch, sizeof(kernel->arch)) &&
	       digest_tree(digest, modules);
	for (size_t i = 0; i < ARRAY_COUNT(files) && good && !res; i++) {
		res = digest_file(digest, files[i]);
		if (res)
			(void)boot_fail(ret_error, res, "%s: %s", files[i], strerror(-res));
	}
	good = good && EVP_DigestFinal_ex(digest, ret_key, NULL);
	EVP_MD_CTX_free(digest);
	return res ? res : good ? 0 : no_memory(ret_error);
}

/* --- what was made earlier --- */

static void key_path(const struct initramfs_paths *paths, const uint8_t *key, char *ret_path)
{
	size_t used = (size_t)snprintf(ret_path, PATH_BYTES, "%s/", paths->folder);

	for (size_t i = 0; i < INITRAMFS_KEY_BYTES; i++)
		used += (size_t)snprintf(ret_path + used, PATH_BYTES - used, "%02x", key[i]);
	(void)snprintf(ret_path + used, PATH_BYTES - used, FILE_SUFFIX);
}

static int read_file(const char *path, size_t bytes_max, struct blob **ret_blob)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat status;
	size_t bytes;
	void *data;
	int res;

	if (fd < 0 || fstat(fd, &status))
		return -errno;
	if (!S_ISREG(status.st_mode) || status.st_size <= 0)
		return -EINVAL;
	if ((uint64_t)status.st_size > bytes_max)
		return -EFBIG;
	bytes = (size_t)status.st_size;
	data = malloc(bytes);
	if (!data)
		return -ENOMEM;
	res = pread_all(fd, data, bytes, 0);
	if (res) {
		free(data);
		return res;
	}
	*ret_blob = blob_new(data, bytes);
	return *ret_blob ? 0 : -ENOMEM;
}

int initramfs_load(const struct initramfs_paths *paths, const uint8_t key[INITRAMFS_KEY_BYTES],
		   struct blob **ret_blob)
{
	char path[PATH_BYTES];

	key_path(paths, key, path);
	return read_file(path, LIMIT_INITRAMFS_BYTES, ret_blob);
}

/* --- the copy of the modules --- */

struct copy {
	struct tree *modules;
	char folder[PATH_BYTES]; /* called like the version, as the tool wants it */
	uint64_t bytes_left;
	struct boot_error *error;
};

static int copy_fail(struct copy *copy, const char *path, int res)
{
	return boot_fail(copy->error, res, "module %s can't be copied: %s", path,
			 res == -EUCLEAN ? "the root file system is damaged there; run e2fsck on it"
			 : res == -EFBIG ? "all modules together are too many"
					 : strerror(-res));
}

/* The path is clean, and so are the folders above it: they are all made here. Without a blob the
 * file is empty. */
static int copy_write(const struct copy *copy, const char *path, const struct blob *blob)
{
	char target[PATH_BYTES];
	int AUTO_CLOSE fd = -1;
	const void *data;
	size_t bytes;

	if (snprintf(target, sizeof(target), "%s/%s", copy->folder, path) >= (int)sizeof(target))
		return -ENAMETOOLONG;
	for (char *slash = target + strlen(copy->folder) + 1; (slash = strchr(slash, '/'));
	     slash++) {
		*slash = '\0';
		if (mkdir(target, 0700) && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	fd = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	return !blob || blob_pieces(blob, &data, &bytes, 1) == 0 ? 0
								 : pwrite_all(fd, data, bytes, 0);
}

static int copy_file(struct copy *copy, const struct tree_file *file)
{
	struct blob *blob;
	int res = tree_read(copy->modules, file, copy->bytes_left, &blob);

	if (res)
		return copy_fail(copy, file->path, res);
	copy->bytes_left -= file->bytes;
	res = copy_write(copy, file->path, blob);
	blob_unref(blob);
	return res ? copy_fail(copy, file->path, res) : 0;
}

enum part { PART_DEPMOD, PART_MODULES, PART_PLACES /* of the modules: empty files */ };

static bool in_part(const struct tree_file *file, enum part part)
{
	bool top = strchr(file->path, '/') == NULL;

	return part == PART_DEPMOD ? top : !top && strstr(file->path, ".ko");
}

static int copy_part(struct copy *copy, enum part part)
{
	int res = 0;

	for (size_t i = 0; i < tree_count(copy->modules) && !res; i++) {
		const struct tree_file *file = tree_at(copy->modules, i);

		if (!in_part(file, part))
			continue;
		if (part != PART_PLACES) {
			res = copy_file(copy, file);
			continue;
		}
		res = copy_write(copy, file->path, NULL);
		if (res)
			res = copy_fail(copy, file->path, res);
	}
	return res;
}

/* The files that the tool named, one a line. */
static int copy_listed(struct copy *copy, char *list)
{
	char *state = NULL;
	int res = 0;

	for (char *line = strtok_r(list, "\n", &state); line && !res;
	     line = strtok_r(NULL, "\n", &state)) {
		const struct tree_file *file = tree_find(copy->modules, line);

		if (!file)
			return boot_fail(
				copy->error, -ENOENT,
				"module %.128s is named in modules.dep, but it is not there: "
				"run depmod on the node, or reinstall the kernel package",
				line);
		res = copy_file(copy, file);
	}
	return res;
}

/* --- the tool --- */

struct build {
	const struct initramfs_paths *paths;
	const struct kernel_info *kernel;
	struct copy copy;
	char work[PATH_BYTES], out[PATH_BYTES + 8], list[PATH_BYTES + 8];
};

/* Kernels before 5.9 do not know zstd. */
static const char *packer(const char *version)
{
	char *end;
	unsigned long major = strtoul(version, &end, 10);
	unsigned long minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;

	return major < 5 || (major == 5 && minor < 9) ? "gzip" : "zstd";
}

/* For overlay=tmpfs in a node's settings, which may come at any boot. */
static bool has_overlay(const struct tree *modules)
{
	for (size_t i = 0; i < tree_count(modules); i++) {
		if (strstr(tree_at(modules, i)->path, "/overlayfs/overlay.ko"))
			return true;
	}
	return false;
}

static int run_tool(struct build *build, bool list_only)
{
	char *argv[] = {build->paths->tool,
			"--modules",
			build->copy.folder,
			"--init",
			build->paths->programs[build->kernel->arch].init,
			"--busybox",
			build->paths->programs[build->kernel->arch].busybox,
			"--dhcp",
			build->paths->dhcp,
			"--fast",
			"--compress",
			(char *)packer(build->kernel->version),
			list_only ? "--list-modules" : build->out,
			has_overlay(build->copy.modules) ? "--overlay" : NULL,
			NULL};

	return initramfs_run(argv, build->work, build->list, build->paths->timeout_ms,
			     build->copy.error);
}

/* Asks the tool which modules it wants, and copies those. modprobe leaves out what a module depends
 * on if its file does not exist; that it is empty does not matter. */
static int copy_wanted(struct build *build)
{
	struct blob *blob = NULL;
	char *list;
	size_t bytes;
	int res = copy_part(&build->copy, PART_PLACES);

	if (!res)
		res = run_tool(build, true);
	if (res)
		return res;
	res = read_file(build->list, LIST_BYTES, &blob);
	if (res == -EINVAL)
		return 0; /* none: all are built in */
	if (res)
		return boot_fail(build->copy.error, res, "the list of modules: %s", strerror(-res));
	list = calloc(1, (size_t)blob_bytes(blob) + 1);
	bytes = list ? blob_read(blob, 0, list, (size_t)blob_bytes(blob)) : 0;
	blob_unref(blob);
	if (!list)
		return no_memory(build->copy.error);
	list[bytes] = '\0';
	res = copy_listed(&build->copy, list);
	free(list);
	return res;
}

static int build_in(struct build *build)
{
	struct tree *modules = build->copy.modules;
	int res;

	if (mkdir(build->copy.folder, 0700))
		return boot_fail(build->copy.error, -errno, "%s: %s", build->copy.folder,
				 strerror(errno));
	res = copy_part(&build->copy, PART_DEPMOD);
	if (res)
		return res;
	/* Without depmod's work the tool does it, and for that it needs all modules. */
	if (tree_find(modules, "modules.dep.bin") && tree_find(modules, "modules.builtin.bin"))
		res = copy_wanted(build);
	else
		res = copy_part(&build->copy, PART_MODULES);
	return res ? res : run_tool(build, false);
}

static int take_result(struct build *build, const uint8_t *key, struct blob **ret_blob)
{
	char path[PATH_BYTES];
	struct blob *blob;
	int res = read_file(build->out, LIMIT_INITRAMFS_BYTES, &blob);

	if (res)
		return boot_fail(build->copy.error, res, "what mkinitramfs made can't be read: %s",
				 res == -EFBIG ? "it is too large" : strerror(-res));
	/* Kept for the next process; this one has it in memory. */
	key_path(build->paths, key, path);
	if (rename(build->out, path) == 0)
		clear_old(build->paths->folder);
	*ret_blob = blob;
	return 0;
}

int initramfs_build(const struct initramfs_paths *paths, struct tree *modules,
		    const struct kernel_info *kernel, const uint8_t key[INITRAMFS_KEY_BYTES],
		    struct blob **ret_blob, struct boot_error *ret_error)
{
	struct build build = {
		.paths = paths,
		.kernel = kernel,
		.copy = {.modules = modules,
			 .bytes_left = LIMIT_INITRAMFS_MODULES_BYTES,
			 .error = ret_error},
	};
	int res;

	assert(kernel_version_clean(kernel->version));
	(void)snprintf(build.work, sizeof(build.work), "%s/" WORK_PREFIX "XXXXXX", paths->folder);
	if (!mkdtemp(build.work))
		return boot_fail(ret_error, -errno, "%s: %s", build.work, strerror(errno));
	(void)snprintf(build.copy.folder, sizeof(build.copy.folder), "%s/%s", build.work,
		       kernel->version);
	/* Beside it: Landlock lets no file move from one folder to another. */
	(void)snprintf(build.out, sizeof(build.out), "%s.out", build.work);
	(void)snprintf(build.list, sizeof(build.list), "%s/list", build.work);
	res = build_in(&build);
	if (!res)
		res = take_result(&build, key, ret_blob);
	(void)unlink(build.out);
	remove_folder(build.work);
	return res;
}
