/*
 * The table, and what fills it from a folder of this machine.
 */
#include "boot/tree.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "boot/blob.h"

struct tree {
	struct tree_ops ops;
	void *arg;
	struct tree_file *files;
	size_t count, capacity;
	bool finished;
};

struct tree *tree_new(const struct tree_ops *ops, void *arg)
{
	struct tree *tree = calloc(1, sizeof(*tree));

	if (!tree) {
		if (ops->free)
			ops->free(arg);
		return NULL;
	}
	tree->ops = *ops;
	tree->arg = arg;
	return tree;
}

void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	for (size_t i = 0; i < tree->count; i++)
		free((void *)tree->files[i].path);
	free(tree->files);
	if (tree->ops.free)
		tree->ops.free(tree->arg);
	free(tree);
}

static unsigned char fold(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

int tree_compare(const char *a, const char *b)
{
	while (*a && fold(*a) == fold(*b))
		a++, b++;
	return fold(*a) - fold(*b);
}

bool tree_name_clean(const char *name, size_t bytes)
{
	return bytes > 0 && utf8_clean(name, bytes) && !memchr(name, '/', bytes) &&
	       !memchr(name, '\\', bytes) && !(bytes == 1 && name[0] == '.') &&
	       !(bytes == 2 && name[0] == '.' && name[1] == '.');
}

static bool path_clean(const char *path)
{
	if (strlen(path) > LIMIT_TREE_PATH_BYTES)
		return false;
	for (unsigned depth = 0; depth < LIMIT_TREE_DEPTH; depth++) {
		size_t bytes = strcspn(path, "/");

		if (!tree_name_clean(path, bytes))
			return false;
		if (path[bytes] == '\0')
			return true;
		path += bytes + 1;
	}
	return false;
}

int tree_add(struct tree *tree, const struct tree_file *file)
{
	char *path;

	assert(!tree->finished);
	if (!path_clean(file->path))
		return 0;
	if (tree->count >= LIMIT_TREE_FILES)
		return -E2BIG;
	if (tree->count == tree->capacity) {
		size_t capacity = tree->capacity ? 2 * tree->capacity : 64;
		struct tree_file *files = realloc(tree->files, capacity * sizeof(*files));

		if (!files)
			return -ENOMEM;
		tree->files = files;
		tree->capacity = capacity;
	}
	path = strdup(file->path);
	if (!path)
		return -ENOMEM;
	tree->files[tree->count] = *file;
	tree->files[tree->count++].path = path;
	return 0;
}

static int file_compare(const void *a, const void *b)
{
	const struct tree_file *first = a, *second = b;
	int order = tree_compare(first->path, second->path);

	/* A fixed order among equals, so that the same one of them is taken each time. */
	return order ? order : strcmp(first->path, second->path);
}

void tree_finish(struct tree *tree)
{
	size_t kept = 0;

	if (tree->count > 0)
		qsort(tree->files, tree->count, sizeof(tree->files[0]), file_compare);
	for (size_t i = 0; i < tree->count; i++) {
		if (kept > 0 && tree_compare(tree->files[kept - 1].path, tree->files[i].path) == 0)
			free((void *)tree->files[i].path);
		else
			tree->files[kept++] = tree->files[i];
	}
	tree->count = kept;
	tree->finished = true;
}

size_t tree_count(const struct tree *tree)
{
	return tree->count;
}

const struct tree_file *tree_at(const struct tree *tree, size_t index)
{
	assert(index < tree->count);
	return &tree->files[index];
}

static int find_compare(const void *path, const void *file)
{
	return tree_compare(path, ((const struct tree_file *)file)->path);
}

const struct tree_file *tree_find(const struct tree *tree, const char *path)
{
	assert(tree->finished);
	if (tree->count == 0)
		return NULL;
	return bsearch(path, tree->files, tree->count, sizeof(tree->files[0]), find_compare);
}

int tree_read(struct tree *tree, const struct tree_file *file, uint64_t bytes_max,
	      struct blob **ret_blob)
{
	void *data;
	int res;

	if (file->bytes > bytes_max || file->bytes > LIMIT_VIEW_BYTES)
		return -EFBIG;
	data = malloc(file->bytes ? (size_t)file->bytes : 1);
	if (!data)
		return -ENOMEM;
	res = file->bytes ? tree->ops.read(tree->arg, file, data) : 0;
	if (res) {
		free(data);
		return res;
	}
	*ret_blob = blob_new(data, (size_t)file->bytes);
	return *ret_blob ? 0 : -ENOMEM;
}

/* --- a folder of this machine --- */

struct folder {
	int fd;
};

static int folder_read(void *arg, const struct tree_file *file, void *to)
{
	const struct folder *folder = arg;
	int AUTO_CLOSE fd = openat(folder->fd, file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	return pread_all(fd, to, (size_t)file->bytes, 0);
}

static void folder_free(void *arg)
{
	struct folder *folder = arg;

	close(folder->fd);
	free(folder);
}

struct walk {
	struct tree *tree;
	int fd;
	unsigned folders;
	char path[LIMIT_TREE_PATH_BYTES + 1];
};

static int walk_folder(struct walk *walk, unsigned depth);

static int walk_entry(struct walk *walk, const char *name, unsigned depth)
{
	size_t used = strlen(walk->path), bytes = strlen(name);
	struct stat status;
	int res = 0;

	if (!tree_name_clean(name, bytes) || used + 1 + bytes >= sizeof(walk->path))
		return 0;
	if (used > 0)
		walk->path[used] = '/';
	memcpy(walk->path + used + (used > 0), name, bytes + 1);
	/* What cannot be looked at, such as a link to nowhere, is not there. */
	if (fstatat(walk->fd, walk->path, &status, 0) == 0) {
		if (S_ISDIR(status.st_mode)) {
			res = walk_folder(walk, depth + 1);
		} else if (S_ISREG(status.st_mode)) {
			res = tree_add(walk->tree, &(struct tree_file){
							   .path = walk->path,
							   .bytes = (uint64_t)status.st_size,
							   .mtime_s = status.st_mtim.tv_sec,
						   });
		}
	}
	walk->path[used] = '\0';
	return res;
}

static int walk_folder(struct walk *walk, unsigned depth)
{
	int fd, res = 0;
	DIR *dir;

	/* Links may go round in a circle: the depth ends that, and the count ends what fans out. */
	if (depth >= LIMIT_TREE_DEPTH)
		return 0;
	if (walk->folders++ >= LIMIT_TREE_FOLDERS)
		return -E2BIG;
	fd = openat(walk->fd, *walk->path ? walk->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return depth == 0 ? -errno : 0;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (!res) {
		const struct dirent *entry = readdir(dir);

		if (!entry)
			break;
		res = walk_entry(walk, entry->d_name, depth);
	}
	closedir(dir);
	return res;
}

int tree_of_folder(const char *path, struct tree **ret_tree, struct boot_error *ret_error)
{
	static const struct tree_ops ops = {folder_read, folder_free};
	struct folder *folder = malloc(sizeof(*folder));
	struct walk walk = {0};
	int res;

	if (!folder)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder->fd < 0) {
		res = -errno;
		free(folder);
		return boot_fail(ret_error, res, "the folder %s: %s", path, strerror(-res));
	}
	walk.fd = folder->fd;
	walk.tree = tree_new(&ops, folder);
	if (!walk.tree)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	res = walk_folder(&walk, 0);
	if (res) {
		tree_free(walk.tree);
		return boot_fail(ret_error, res,
				 res == -E2BIG ? "the folder %s has too many files in it for boot "
						 "files (%s); name one that has only those"
					       : "the folder %s: %s",
				 path, strerror(-res));
	}
	tree_finish(walk.tree);
	*ret_tree = walk.tree;
	return 0;
}
