/*
 * A folder's files, however deep, as a table of paths that can be read: the FAT boot partition of a
 * disk, a folder within its ext4 root, a folder of this machine. Names are found as FAT finds them,
 * without regard to the case of ASCII letters. Blocking; one thread at a time.
 */
#ifndef LUNROOT_BOOT_TREE_H
#define LUNROOT_BOOT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/boot_error.h"

struct blob;
struct tree;

struct tree_file {
	const char *path; /* clean UTF-8, parts separated by '/', none of them "", "." or ".." */
	uint64_t bytes;
	uint64_t id;     /* the maker's own: first cluster, inode */
	int64_t mtime_s; /* 0: unknown */
};

struct tree_ops {
	/* All bytes of the file; 0 or a negative errno. */
	int (*read)(void *arg, const struct tree_file *file, void *to);
	/* May be NULL. */
	void (*free)(void *arg);
};

/* An empty one. `arg` becomes its own, also in failure; NULL: no memory. */
struct tree *tree_new(const struct tree_ops *ops, void *arg);
/* Accepts NULL. */
void tree_free(struct tree *tree);

/*
 * For its maker: adds a file. 0 also for a path that is not clean, too long or too deep, which is
 * left out; -E2BIG with too many files; -ENOMEM.
 */
int tree_add(struct tree *tree, const struct tree_file *file);
/* When all are added: sorts them. Of names that differ in case only, the first one stays. */
void tree_finish(struct tree *tree);

size_t tree_count(const struct tree *tree);
/* In the order of their paths. */
const struct tree_file *tree_at(const struct tree *tree, size_t index);
/* NULL: none. */
const struct tree_file *tree_find(const struct tree *tree, const char *path);

/* The whole file. 0, -EFBIG beyond `bytes_max`, -ENOMEM, or what the medium says (-EIO; -EUCLEAN:
 * the file system is damaged there). */
int tree_read(struct tree *tree, const struct tree_file *file, uint64_t bytes_max,
	      struct blob **ret_blob);

/* Less, equal or more, as trees are sorted. */
int tree_compare(const char *a, const char *b);

/* Whether one name can be part of a path. */
bool tree_name_clean(const char *name, size_t bytes);

/* A folder of this machine; symbolic links are followed. 0, or a negative errno with the text. */
int tree_of_folder(const char *path, struct tree **ret_tree, struct boot_error *ret_error);

#endif
