/*
 * libext2fs on a struct disk: an I/O manager of the few functions that reading needs. What a
 * hostile superblock could make it allocate (group descriptors) is bounded before it is opened,
 * what a hostile inode could (a link's target, data inside the inode) where it is read.
 */
#include "boot/ext.h"

#include <assert.h>
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "boot/disk.h"

#define SUPER_OFFSET 1024
#define SUPER_BYTES  1024

struct ext {
	struct disk *disk;
	uint64_t offset, bytes;
	int failed; /* what reading the disk gave last, unless it was good: libext2fs hides it */
	ext2_filsys fs;
};

/* --- libext2fs's way to read --- */

/* open() is given only a name: what it is about comes by here. */
static _Thread_local struct ext *opening;

static errcode_t channel_open(const char *name, int flags, io_channel *ret_channel);

static errcode_t channel_close(io_channel channel)
{
	if (--channel->refcount > 0)
		return 0;
	ext2fs_free_mem(&channel->name);
	ext2fs_free_mem(&channel);
	return 0;
}

static errcode_t channel_set_blksize(io_channel channel, int block_bytes)
{
	channel->block_size = block_bytes;
	return 0;
}

/* A negative count is one of bytes. */
static errcode_t channel_read64(io_channel channel, unsigned long long block, int count, void *data)
{
	struct ext *ext = channel->private_data;
	uint64_t bytes = count < 0 ? (uint64_t) - (int64_t)count
				   : (uint64_t)count * (uint64_t)channel->block_size;
	uint64_t offset;

	if (__builtin_mul_overflow(block, (uint64_t)channel->block_size, &offset) ||
	    offset > ext->bytes || bytes > ext->bytes - offset)
		return EXT2_ET_SHORT_READ;
	ext->failed = disk_read(ext->disk, data, (size_t)bytes, ext->offset + offset);
	return ext->failed ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t channel_read(io_channel channel, unsigned long block, int count, void *data)
{
	return channel_read64(channel, block, count, data);
}

static errcode_t channel_write64(io_channel channel, unsigned long long block, int count,
				 const void *data)
{
	(void)channel;
	(void)block;
	(void)count;
	(void)data;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t channel_write(io_channel channel, unsigned long block, int count, const void *data)
{
	return channel_write64(channel, block, count, data);
}

static errcode_t channel_flush(io_channel channel)
{
	(void)channel;
	return 0;
}

static struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "lunroot disk",
	.open = channel_open,
	.close = channel_close,
	.set_blksize = channel_set_blksize,
	.read_blk = channel_read,
	.write_blk = channel_write,
	.flush = channel_flush,
	.read_blk64 = channel_read64,
	.write_blk64 = channel_write64,
};

static errcode_t channel_open(const char *name, int flags, io_channel *ret_channel)
{
	io_channel channel;
	errcode_t code = ext2fs_get_memzero(sizeof(*channel), &channel);

	(void)flags;
	if (code)
		return code;
	code = ext2fs_get_mem(strlen(name) + 1, &channel->name);
	if (code) {
		ext2fs_free_mem(&channel);
		return code;
	}
	memcpy(channel->name, name, strlen(name) + 1);
	channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	channel->manager = &manager;
	channel->block_size = SUPER_BYTES;
	channel->refcount = 1;
	channel->private_data = opening;
	*ret_channel = channel;
	return 0;
}

/* --- open --- */

static uint32_t get_le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Whether the superblock's counts are bearable and fit the volume; the rest libext2fs checks. */
static bool super_fits(const struct ext *ext, const uint8_t *super)
{
	uint64_t blocks = get_le32(super + 4), block_bytes, groups;
	uint32_t log = get_le32(super + 24), per_group = get_le32(super + 32);

	if (super[56] != 0x53 || super[57] != 0xef || log > 6 || per_group == 0)
		return false;
	if (get_le32(super + 96) & EXT4_FEATURE_INCOMPAT_64BIT)
		blocks |= (uint64_t)get_le32(super + 0x150) << 32;
	block_bytes = 1024ull << log;
	groups = blocks / per_group;
	return blocks > 0 && blocks <= ext->bytes / block_bytes && groups <= LIMIT_EXT_GROUPS;
}

static int errno_of(const struct ext *ext, errcode_t code)
{
	if (code && ext->failed)
		return ext->failed;
	switch (code) {
	case 0: return 0;
	case EXT2_ET_NO_MEMORY: return -ENOMEM;
	case EXT2_ET_FILE_NOT_FOUND: return -ENOENT;
	case EXT2_ET_NO_DIRECTORY: return -ENOTDIR;
	case EXT2_ET_UNSUPP_FEATURE:
	case EXT2_ET_RO_UNSUPP_FEATURE: return -ENOTSUP;
	default: return code > 0 && code < 256 ? -(int)code : -EUCLEAN;
	}
}

/* Linux writes no target that fills its block; the library takes i_size bytes from it unasked. */
static bool link_fits(ext2_filsys fs, const struct ext2_inode *inode)
{
	return !LINUX_S_ISLNK(inode->i_mode) || EXT2_I_SIZE(inode) < fs->blocksize;
}

/*
 * What lies in the inode the library copies whole, a link's into i_size bytes, a file's into a
 * buffer of blocks, and an attribute may hold more than either.
 */
static bool inline_fits(ext2_filsys fs, ext2_ino_t ino, struct ext2_inode *inode)
{
	uint64_t room = LINUX_S_ISLNK(inode->i_mode) ? EXT2_I_SIZE(inode) : fs->blocksize;
	size_t stored = 0;

	if (!(inode->i_flags & EXT4_INLINE_DATA_FL) || ext2fs_is_fast_symlink(inode))
		return true;
	return ext2fs_inline_data_size(fs, ino, &stored) == 0 && stored <= room;
}

/* Stands before every inode that the library reads, its own walks along a path among them. */
static errcode_t checked_read_inode(ext2_filsys fs, ext2_ino_t ino, struct ext2_inode *inode)
{
	errcode_t code;

	fs->read_inode = NULL;
	code = ext2fs_read_inode(fs, ino, inode);
	if (!code && (!link_fits(fs, inode) || !inline_fits(fs, ino, inode)))
		code = EXT2_ET_INODE_CORRUPTED;
	fs->read_inode = checked_read_inode;
	return code;
}

int ext_open(struct disk *disk, uint64_t offset, uint64_t bytes, struct ext **ret_ext,
	     struct boot_error *ret_error)
{
	struct ext *ext = calloc(1, sizeof(*ext));
	uint8_t super[SUPER_BYTES];
	int res;

	if (!ext)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	*ext = (struct ext){.disk = disk, .offset = offset, .bytes = bytes};
	res = bytes < SUPER_OFFSET + SUPER_BYTES
		      ? -EUCLEAN
		      : disk_read(disk, super, sizeof(super), offset + SUPER_OFFSET);
	if (!res && !super_fits(ext, super))
		res = -EUCLEAN;
	if (!res) {
		opening = ext;
		res = errno_of(ext, ext2fs_open2("lunroot", NULL,
						 EXT2_FLAG_64BITS | EXT2_FLAG_SOFTSUPP_FEATURES |
							 EXT2_FLAG_IGNORE_CSUM_ERRORS,
						 0, 0, &manager, &ext->fs));
		opening = NULL;
	}
	if (res) {
		free(ext);
		return boot_fail(
			ret_error, res, "the ext4 file system can't be read: %s",
			res == -EUCLEAN ? "it is damaged (run e2fsck on it) or larger than its "
					  "partition"
			: res == -ENOTSUP
				? "it has features that this machine's libext2fs does not know"
				: strerror(-res));
	}
	ext->fs->read_inode = checked_read_inode;
	*ret_ext = ext;
	return 0;
}

void ext_free(struct ext *ext)
{
	if (!ext)
		return;
	(void)ext2fs_close_free(&ext->fs);
	free(ext);
}

bool ext_needs_recovery(const struct ext *ext)
{
	return ext2fs_has_feature_journal_needs_recovery(ext->fs->super);
}

/* --- files --- */

/* Data that lies in the inode itself. */
static int inline_read(const struct ext *ext, ext2_ino_t ino, uint8_t *to, uint64_t bytes)
{
	ext2_file_t file;
	unsigned got = 0;
	errcode_t code = ext2fs_file_open2(ext->fs, ino, NULL, 0, &file);

	if (code)
		return errno_of(ext, code);
	code = ext2fs_file_read(file, to, (unsigned)bytes, &got);
	(void)ext2fs_file_close(file);
	return code ? errno_of(ext, code) : got == bytes ? 0 : -EUCLEAN;
}

/* A run of blocks that lie one after the other; `first` 0: a hole. */
static int run_read(const struct ext *ext, blk64_t first, uint8_t *to, size_t bytes)
{
	uint64_t offset = first * ext->fs->blocksize;

	if (first == 0) {
		memset(to, 0, bytes);
		return 0;
	}
	if (offset > ext->bytes || bytes > ext->bytes - offset)
		return -EUCLEAN;
	return disk_read(ext->disk, to, bytes, ext->offset + offset);
}

/* Reads by runs: block by block it would be a request each. */
static int inode_read_all(const struct ext *ext, ext2_ino_t ino, uint8_t *to, uint64_t bytes)
{
	uint32_t block_bytes = ext->fs->blocksize;
	struct ext2_inode inode;
	blk64_t run_first = 0, run_count = 0;
	uint64_t blocks = (bytes + block_bytes - 1) / block_bytes;
	int res = errno_of(ext, ext2fs_read_inode(ext->fs, ino, &inode));

	if (!res && (inode.i_flags & EXT4_INLINE_DATA_FL))
		return bytes <= block_bytes ? inline_read(ext, ino, to, bytes) : -EUCLEAN;
	if (!res && (inode.i_flags & EXT4_ENCRYPT_FL))
		return -EACCES;
	for (uint64_t i = 0; i <= blocks && !res; i++) {
		blk64_t place = 0;
		int flags = 0;
		size_t run_bytes;

		if (i < blocks) {
			res = errno_of(ext, ext2fs_bmap2(ext->fs, ino, &inode, NULL, 0, i, &flags,
							 &place));
			if (res)
				break;
			if (flags & BMAP_RET_UNINIT)
				place = 0;
			if (run_count > 0 && place == (run_first ? run_first + run_count : 0)) {
				run_count++;
				continue;
			}
		}
		run_bytes = run_count * block_bytes < bytes ? (size_t)(run_count * block_bytes)
							    : (size_t)bytes;
		res = run_read(ext, run_first, to, run_bytes);
		to += run_bytes;
		bytes -= run_bytes;
		run_first = place;
		run_count = 1;
	}
	return res;
}

static int ext_read(void *arg, const struct tree_file *file, void *to)
{
	return inode_read_all(arg, (ext2_ino_t)file->id, to, file->bytes);
}

/* --- folders --- */

struct walk {
	struct ext *ext;
	struct tree *tree;
	unsigned folder_count, depth, entries;
	int res;
	ext2_ino_t folder;
	char path[LIMIT_TREE_PATH_BYTES + 1];
};

static void walk_folder(struct walk *walk, ext2_ino_t ino);

static void walk_inode(struct walk *walk, ext2_ino_t ino)
{
	struct ext2_inode inode;
	ext2_filsys fs = walk->ext->fs;

	if (ext2fs_read_inode(fs, ino, &inode)) {
		walk->res = walk->ext->failed;
		return;
	}
	if (LINUX_S_ISLNK(inode.i_mode)) {
		/* What it leads to counts, if that is a file: /boot/vmlinuz is such a one. */
		if (ext2fs_follow_link(fs, EXT2_ROOT_INO, walk->folder, ino, &ino) ||
		    ext2fs_read_inode(fs, ino, &inode) || !LINUX_S_ISREG(inode.i_mode)) {
			walk->res = walk->ext->failed;
			return;
		}
	}
	if (LINUX_S_ISDIR(inode.i_mode)) {
		if (walk->depth + 1 < LIMIT_TREE_DEPTH)
			walk_folder(walk, ino);
	} else if (LINUX_S_ISREG(inode.i_mode)) {
		walk->res = tree_add(walk->tree, &(struct tree_file){
							 .path = walk->path,
							 .bytes = EXT2_I_SIZE(&inode),
							 .id = ino,
							 .mtime_s = (int64_t)inode.i_mtime,
						 });
	}
}

static int walk_entry(struct ext2_dir_entry *entry, int offset, int block_bytes, char *block,
		      void *arg)
{
	struct walk *walk = arg;
	size_t used = strlen(walk->path), bytes = (size_t)ext2fs_dirent_name_len(entry);

	(void)offset;
	(void)block_bytes;
	(void)block;
	if (++walk->entries > 4 * LIMIT_TREE_FILES)
		walk->res = -E2BIG;
	if (!walk->res && tree_name_clean(entry->name, bytes) &&
	    used + 1 + bytes < sizeof(walk->path)) {
		if (used > 0)
			walk->path[used] = '/';
		memcpy(walk->path + used + (used > 0), entry->name, bytes);
		walk->path[used + (used > 0) + bytes] = '\0';
		walk_inode(walk, entry->inode);
		walk->path[used] = '\0';
	}
	return walk->res ? DIRENT_ABORT : 0;
}

static void walk_folder(struct walk *walk, ext2_ino_t ino)
{
	ext2_ino_t outer = walk->folder;

	if (walk->folder_count++ >= LIMIT_TREE_FOLDERS) {
		walk->res = -E2BIG;
		return;
	}
	walk->folder = ino;
	walk->depth++;
	/* What is damaged below does not take away what is around it. */
	(void)ext2fs_dir_iterate(walk->ext->fs, ino, 0, NULL, walk_entry, walk);
	if (walk->ext->failed)
		walk->res = walk->ext->failed;
	walk->depth--;
	walk->folder = outer;
}

static int find(const struct ext *ext, const char *path, ext2_ino_t *ret_ino)
{
	return errno_of(ext,
			ext2fs_namei_follow(ext->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, ret_ino));
}

static void leave_ext(void *ext)
{
	(void)ext; /* the tree only borrows it */
}

int ext_tree(struct ext *ext, const char *folder, struct tree **ret_tree,
	     struct boot_error *ret_error)
{
	static const struct tree_ops ops = {ext_read, leave_ext};
	struct walk walk = {.ext = ext};
	struct ext2_inode inode;
	ext2_ino_t ino;
	int res = find(ext, folder, &ino);

	if (res == -ENOTDIR || res == -ENOENT)
		return -ENOENT;
	if (!res)
		res = errno_of(ext, ext2fs_read_inode(ext->fs, ino, &inode));
	if (res)
		return boot_fail(ret_error, res, "%s: %s", folder, strerror(-res));
	if (!LINUX_S_ISDIR(inode.i_mode))
		return -ENOENT;
	walk.tree = tree_new(&ops, ext);
	if (!walk.tree)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	walk_folder(&walk, ino);
	if (walk.res) {
		tree_free(walk.tree);
		return boot_fail(ret_error, walk.res, "%s: %s", folder,
				 walk.res == -E2BIG ? "too many files in it" : strerror(-walk.res));
	}
	tree_finish(walk.tree);
	*ret_tree = walk.tree;
	return 0;
}

bool ext_has(struct ext *ext, const char *path)
{
	ext2_ino_t ino;

	return find(ext, path, &ino) == 0;
}

int ext_link(struct ext *ext, const char *path, char *ret_target, size_t capacity)
{
	struct ext2_inode inode;
	ext2_ino_t ino;
	uint64_t bytes;
	int res;

	assert(capacity > 0);
	res = errno_of(ext, ext2fs_namei(ext->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino));
	if (!res)
		res = errno_of(ext, ext2fs_read_inode(ext->fs, ino, &inode));
	if (res)
		return res == -ENOTDIR ? -ENOENT : res;
	if (!LINUX_S_ISLNK(inode.i_mode))
		return -EINVAL;
	bytes = EXT2_I_SIZE(&inode);
	if (bytes >= capacity)
		bytes = capacity - 1;
	if (ext2fs_is_fast_symlink(&inode) && bytes > sizeof(inode.i_block))
		bytes = sizeof(inode.i_block);
	if (ext2fs_is_fast_symlink(&inode))
		memcpy(ret_target, inode.i_block, (size_t)bytes);
	else
		res = inode_read_all(ext, ino, (uint8_t *)ret_target, bytes);
	ret_target[bytes] = '\0';
	return res;
}
