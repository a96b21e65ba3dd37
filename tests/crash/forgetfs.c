/*
 * forgetfs: a FUSE file system for tests, in memory, that loses power on command and then has
 * only what was synced, and chance (forget.h). Operations can fail, or stop at the n-th for good,
 * as if the power went there. One thread, so a run depends on the order of operations alone.
 *
 *   forgetfs MOUNTPOINT SEED     until it is unmounted or standard input ends
 *
 * Commands on standard input, an answer of one line to each on standard output:
 *
 *   at KIND[:SUFFIX] N WHAT [COUNT]
 *            the N-th operation from now on of this kind (on a file whose name ends so), and
 *            COUNT in all (default 1; 0: all that follow): WHAT is EIO, ENOSPC, EINTR; short: only
 *            half is read or written; freeze: it and all later ones get no answer. KIND: write,
 *            read, sync (of a file), space (fallocate, truncate), name (create, rename, ...),
 *            namesync (fsync of a directory), or any: all of these but read
 *   clear    no more of that, and counts from 0
 *   wait MS  "frozen ..." as soon as it is, "running" after this time
 *   count    how many operations of kind any there were, how many faults, and the last fault, or
 *            the last operation if there was none
 *   cut SEED TORN_END [drop|keep]
 *            the power fails and is there again; see struct forget_cut. Operations without an
 *            answer get one: EIO. Whoever had a file open has it no more (ESTALE)
 *   release  operations without an answer get one, EIO, and the disk goes on
 *   save NAME, load NAME SEED     the disk as it is now, all of it durable; and that one again
 *   drop SUFFIX
 *            of files whose name ends so, too, the cache is dropped when nobody has them open any
 * more (FUSE is not told of POSIX_FADV_DONTNEED): what a failed sync has lost is seen then space N
 * the disk has N pages (0: no limit)
 *
 * What is told is what is: no attribute is cached and files are open with direct I/O, but for
 * those that SQLite maps shared (*-shm): these mean nothing after a start, and don't count.
 */
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/falloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "forget.h"

#define SAVES_MAX    64
#define TRIGGERS_MAX 8
#define DROPS_MAX    4
#define LINE_BYTES   512
#define IO_BYTES_MAX (1u << 20)

enum kind { KIND_READ, KIND_WRITE, KIND_SYNC, KIND_SPACE, KIND_NAME, KIND_NAMESYNC, KIND_ANY };

static const char *const kind_names[] = {"read", "write",    "sync", "space",
					 "name", "namesync", "any"};

enum { WHAT_FREEZE = -1, WHAT_SHORT = -2 };

struct trigger {
	enum kind kind;
	char suffix[64];
	uint64_t at, count, seen;
	int what; /* errno, or one of the above */
};

struct held {
	struct list node;
	fuse_req_t req;
};

static struct {
	struct fuse_session *session;
	struct forget_disk *disk;
	uint64_t generation; /* of node numbers: the kernel must not take one for another */
	struct {
		char name[32];
		struct forget_disk *disk;
	} saves[SAVES_MAX];
	unsigned save_count;
	struct trigger triggers[TRIGGERS_MAX];
	unsigned trigger_count;
	uint64_t op_count, fault_count;
	char drop_suffixes[DROPS_MAX][64];
	unsigned drop_count;
	char last_op[LINE_BYTES], last_fault[LINE_BYTES], froze_at[LINE_BYTES];
	bool frozen, waiting;
	uint64_t wait_end_ms;
	struct list held;
	char line[LINE_BYTES];
	size_t line_bytes;
} fs;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool ends_with(const char *text, const char *suffix)
{
	size_t bytes = strlen(text), suffix_bytes = strlen(suffix);

	return bytes >= suffix_bytes && strcmp(text + bytes - suffix_bytes, suffix) == 0;
}

/* --- who is meant --- */

static fuse_ino_t node_number(const struct forget_inode *inode)
{
	return inode->number == FORGET_ROOT ? FUSE_ROOT_ID : fs.generation << 32 | inode->number;
}

/* NULL: of a life before the power failed. */
static struct forget_inode *node_find(fuse_ino_t node)
{
	if (node == FUSE_ROOT_ID)
		return forget_inode(fs.disk, FORGET_ROOT);
	if (node >> 32 != fs.generation)
		return NULL;
	return forget_inode(fs.disk, node & 0xffffffff);
}

static bool is_mapped(const char *name)
{
	return ends_with(name, "-shm");
}

static void attributes(const struct forget_inode *inode, struct stat *ret_stat)
{
	*ret_stat = (struct stat){
		.st_ino = inode->number,
		.st_mode = inode->now.mode,
		.st_nlink = forget_is_directory(inode) ? 2 : inode->links,
		.st_uid = inode->now.uid,
		.st_gid = inode->now.gid,
		.st_size = (off_t)inode->now.size_bytes,
		.st_blksize = FORGET_PAGE_BYTES,
		.st_blocks = (blkcnt_t)(inode->page_count * FORGET_PAGE_BYTES / 512),
		.st_mtim = inode->now.mtime,
		.st_ctim = inode->now.mtime,
		.st_atim = inode->now.mtime,
	};
}

static struct fuse_entry_param entry_param(const struct forget_inode *inode)
{
	struct fuse_entry_param entry = {.ino = node_number(inode)};

	attributes(inode, &entry.attr);
	return entry;
}

/* --- faults --- */

static void hold(fuse_req_t req)
{
	struct held *held = malloc(sizeof(*held));

	if (!held)
		abort();
	held->req = req;
	list_append(&fs.held, &held->node);
}

static void release_held(void)
{
	while (!list_empty(&fs.held)) {
		struct held *held = LIST_ENTRY(fs.held.next, struct held, node);

		list_remove(&held->node);
		fuse_reply_err(held->req, EIO);
		free(held);
	}
	fs.frozen = false;
}

static void answer(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void answer(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void freeze(void)
{
	fs.frozen = true;
	memcpy(fs.froze_at, fs.last_op, sizeof(fs.froze_at));
	if (fs.waiting)
		answer("frozen %s", fs.froze_at);
	fs.waiting = false;
}

/* What happens to this operation: 0 nothing, or a trigger's `what`. */
static int fate(enum kind kind, const char *name)
{
	int what = 0;

	for (unsigned i = 0; i < fs.trigger_count; i++) {
		struct trigger *t = &fs.triggers[i];

		if ((t->kind != kind && (t->kind != KIND_ANY || kind == KIND_READ)) ||
		    !ends_with(name, t->suffix))
			continue;
		t->seen++;
		if (t->seen >= t->at && (t->count == 0 || t->seen < t->at + t->count) && what == 0)
			what = t->what;
	}
	return what;
}

/*
 * Each operation that may be stopped passes here: false if it has got its answer, or will never
 * get one. `ret_short` (may be NULL): only half of it shall be done.
 */
static bool gate(fuse_req_t req, enum kind kind, const char *name, bool *ret_short)
{
	int what;

	if (ret_short)
		*ret_short = false;
	if (is_mapped(name) && !fs.frozen)
		return true;
	if (!fs.frozen) {
		if (kind != KIND_READ)
			fs.op_count++;
		what = fate(kind, name);
		if (what != 0 || kind != KIND_READ)
			(void)snprintf(fs.last_op, sizeof(fs.last_op), "%llu %s %s",
				       (unsigned long long)fs.op_count, kind_names[kind], name);
		if (what == 0)
			return true;
		if (what != WHAT_FREEZE) {
			fs.fault_count++;
			memcpy(fs.last_fault, fs.last_op, sizeof(fs.last_fault));
		}
		if (what == WHAT_SHORT && ret_short)
			*ret_short = true;
		if (what == WHAT_SHORT)
			return true;
		if (what != WHAT_FREEZE) {
			fuse_reply_err(req, what);
			return false;
		}
		freeze();
	}
	hold(req);
	return false;
}

/* The inode that is meant; NULL: the answer is sent. */
static struct forget_inode *meant(fuse_req_t req, fuse_ino_t node)
{
	struct forget_inode *inode = node_find(node);

	if (!inode)
		fuse_reply_err(req, ESTALE);
	return inode;
}

/* --- names --- */

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct forget_inode *dir = meant(req, parent), *inode;
	struct fuse_entry_param entry;

	if (!dir)
		return;
	inode = forget_lookup(dir, name);
	if (!inode) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	entry = entry_param(inode);
	fuse_reply_entry(req, &entry);
}

static void do_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct forget_inode *inode = meant(req, node);
	struct stat st;

	(void)fi;
	if (!inode)
		return;
	attributes(inode, &st);
	fuse_reply_attr(req, &st, 0);
}

static int make(fuse_req_t req, struct forget_inode *dir, const char *name, mode_t mode,
		struct forget_inode **ret_inode)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return forget_make(fs.disk, dir, name, mode, ctx->uid, ctx->gid, ret_inode);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct forget_inode *dir = meant(req, parent), *inode;
	struct fuse_entry_param entry;
	int r;

	if (!dir || !gate(req, KIND_NAME, name, NULL))
		return;
	r = make(req, dir, name, S_IFDIR | (mode & 07777), &inode);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	entry = entry_param(inode);
	fuse_reply_entry(req, &entry);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, bool directory)
{
	struct forget_inode *dir = meant(req, parent);

	if (dir && gate(req, KIND_NAME, name, NULL))
		fuse_reply_err(req, -forget_remove(fs.disk, dir, name, directory));
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, false);
}

static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, true);
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
		      const char *new_name, unsigned flags)
{
	struct forget_inode *from = meant(req, parent), *to;

	if (!from)
		return;
	to = meant(req, new_parent);
	if (!to || !gate(req, KIND_NAME, name, NULL))
		return;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		fuse_reply_err(req, EINVAL);
	else
		fuse_reply_err(req, -forget_rename(fs.disk, from, name, to, new_name,
						   !(flags & RENAME_NOREPLACE)));
}

static void do_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
	struct forget_inode *inode = meant(req, node), *dir;
	struct fuse_entry_param entry;
	int r;

	if (!inode)
		return;
	dir = meant(req, parent);
	if (!dir || !gate(req, KIND_NAME, name, NULL))
		return;
	r = forget_link(fs.disk, inode, dir, name);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	entry = entry_param(inode);
	fuse_reply_entry(req, &entry);
}

static void do_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	struct forget_inode *dir = meant(req, node);
	char *buffer;
	size_t used = 0;

	(void)fi;
	if (!dir)
		return;
	buffer = malloc(size);
	if (!buffer)
		abort();
	list_for_each (pos, &dir->entries) {
		const struct forget_entry *entry = LIST_ENTRY(pos, struct forget_entry, node);
		struct stat st;
		size_t bytes;

		if (!entry->now || entry->cookie <= (uint64_t)offset)
			continue;
		attributes(entry->now, &st);
		bytes = fuse_add_direntry(req, buffer + used, size - used, entry->name, &st,
					  (off_t)entry->cookie);
		if (bytes > size - used)
			break;
		used += bytes;
	}
	fuse_reply_buf(req, buffer, used);
	free(buffer);
}

static void do_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct forget_inode *dir = meant(req, node);

	(void)datasync;
	(void)fi;
	if (!dir || !gate(req, KIND_NAMESYNC, dir->name, NULL))
		return;
	forget_sync_directory(fs.disk, dir);
	fuse_reply_err(req, 0);
}

/* --- files --- */

static void open_info(struct forget_inode *inode, struct fuse_file_info *fi)
{
	fi->direct_io = !is_mapped(inode->name);
	fi->fh = inode->number;
	inode->opens++;
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct forget_inode *dir = meant(req, parent), *inode;
	struct fuse_entry_param entry;
	int r;

	if (!dir || !gate(req, KIND_NAME, name, NULL))
		return;
	r = make(req, dir, name, S_IFREG | (mode & 07777), &inode);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	open_info(inode, fi);
	entry = entry_param(inode);
	fuse_reply_create(req, &entry, fi);
}

static void do_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct forget_inode *inode = meant(req, node);

	if (!inode)
		return;
	if (fi->flags & O_TRUNC) {
		if (!gate(req, KIND_SPACE, inode->name, NULL))
			return;
		(void)forget_truncate(fs.disk, inode, 0);
	}
	open_info(inode, fi);
	fuse_reply_open(req, fi);
}

static void do_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct forget_inode *inode = node_find(node);

	(void)fi;
	if (inode && inode->opens > 0 && --inode->opens == 0) {
		for (unsigned i = 0; i < fs.drop_count; i++) {
			if (ends_with(inode->name, fs.drop_suffixes[i]))
				forget_drop_cache(inode);
		}
		forget_closed(fs.disk, inode);
	}
	fuse_reply_err(req, 0);
}

static void do_setattr(fuse_req_t req, fuse_ino_t node, struct stat *attr, int what,
		       struct fuse_file_info *fi)
{
	struct forget_inode *inode = meant(req, node);
	struct stat st;
	int r = 0;

	(void)fi;
	if (!inode || !gate(req, KIND_SPACE, inode->name, NULL))
		return;
	if (what & FUSE_SET_ATTR_SIZE)
		r = forget_truncate(fs.disk, inode, (uint64_t)attr->st_size);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	if (what & FUSE_SET_ATTR_MODE)
		inode->now.mode = (inode->now.mode & S_IFMT) | (attr->st_mode & 07777);
	if (what & FUSE_SET_ATTR_UID)
		inode->now.uid = attr->st_uid;
	if (what & FUSE_SET_ATTR_GID)
		inode->now.gid = attr->st_gid;
	if (what & FUSE_SET_ATTR_MTIME)
		inode->now.mtime = attr->st_mtim;
	if (what & FUSE_SET_ATTR_MTIME_NOW)
		(void)clock_gettime(CLOCK_REALTIME, &inode->now.mtime);
	attributes(inode, &st);
	fuse_reply_attr(req, &st, 0);
}

/* At least one byte. */
static size_t half(size_t bytes, bool is_short)
{
	return is_short ? (bytes + 1) / 2 : bytes;
}

static void do_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	static char buffer[IO_BYTES_MAX];
	struct forget_inode *inode = meant(req, node);
	bool is_short;
	size_t bytes;

	(void)fi;
	if (!inode || !gate(req, KIND_READ, inode->name, &is_short))
		return;
	if (size > sizeof(buffer))
		size = sizeof(buffer);
	bytes = forget_read(inode, buffer, half(size, is_short), (uint64_t)offset);
	fuse_reply_buf(req, buffer, bytes);
}

static void do_write(fuse_req_t req, fuse_ino_t node, const char *data, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct forget_inode *inode = meant(req, node);
	bool is_short;
	ssize_t r;

	(void)fi;
	if (!inode || !gate(req, KIND_WRITE, inode->name, &is_short))
		return;
	r = forget_write(fs.disk, inode, data, half(size, is_short), (uint64_t)offset);
	if (r < 0)
		fuse_reply_err(req, (int)-r);
	else
		fuse_reply_write(req, (size_t)r);
}

static void do_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct forget_inode *inode = meant(req, node);
	uint64_t faults = fs.fault_count;

	(void)fi;
	if (!inode)
		return;
	if (gate(req, KIND_SYNC, inode->name, NULL)) {
		forget_sync(inode, datasync);
		fuse_reply_err(req, 0);
	} else if (fs.fault_count > faults) {
		forget_sync_failed(fs.disk, inode);
	}
}

static void do_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct forget_inode *inode = meant(req, node);

	(void)fi;
	if (inode && gate(req, KIND_SPACE, inode->name, NULL))
		fuse_reply_err(req, -forget_allocate(fs.disk, inode, mode, (uint64_t)offset,
						     (uint64_t)length));
}

static void do_lseek(fuse_req_t req, fuse_ino_t node, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	struct forget_inode *inode = meant(req, node);
	off_t r;

	(void)fi;
	if (!inode)
		return;
	r = forget_seek(inode, (uint64_t)offset, whence == SEEK_DATA);
	if (r < 0)
		fuse_reply_err(req, (int)-r);
	else
		fuse_reply_lseek(req, r);
}

static void do_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t offset_in,
			       struct fuse_file_info *fi_in, fuse_ino_t node_out, off_t offset_out,
			       struct fuse_file_info *fi_out, size_t bytes, int flags)
{
	static char buffer[IO_BYTES_MAX];
	struct forget_inode *in = meant(req, node_in), *out;
	bool is_short;
	ssize_t r;

	(void)fi_in;
	(void)fi_out;
	(void)flags;
	if (!in)
		return;
	out = meant(req, node_out);
	if (!out || !gate(req, KIND_WRITE, out->name, &is_short))
		return;
	if (bytes > sizeof(buffer))
		bytes = sizeof(buffer);
	bytes = forget_read(in, buffer, half(bytes, is_short), (uint64_t)offset_in);
	r = bytes ? forget_write(fs.disk, out, buffer, bytes, (uint64_t)offset_out) : 0;
	if (r < 0)
		fuse_reply_err(req, (int)-r);
	else
		fuse_reply_write(req, (size_t)r);
}

static void do_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct statvfs st = {.f_bsize = FORGET_PAGE_BYTES,
			     .f_frsize = FORGET_PAGE_BYTES,
			     .f_files = 1 << 20,
			     .f_ffree = 1 << 20,
			     .f_namemax = NAME_MAX};
	uint64_t total, left;

	(void)node;
	forget_space(fs.disk, &total, &left);
	st.f_blocks = total;
	st.f_bfree = st.f_bavail = left;
	fuse_reply_statfs(req, &st);
}

static void do_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	/* Of asynchronous direct writes the kernel makes every short one an EIO. */
	conn->want &= ~(unsigned)(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ |
				  FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
				  FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_DIO);
	conn->max_write = IO_BYTES_MAX;
}

static const struct fuse_lowlevel_ops operations = {
	.init = do_init,
	.lookup = do_lookup,
	.getattr = do_getattr,
	.setattr = do_setattr,
	.mkdir = do_mkdir,
	.unlink = do_unlink,
	.rmdir = do_rmdir,
	.rename = do_rename,
	.link = do_link,
	.open = do_open,
	.create = do_create,
	.read = do_read,
	.write = do_write,
	.release = do_release,
	.fsync = do_fsync,
	.readdir = do_readdir,
	.fsyncdir = do_fsyncdir,
	.statfs = do_statfs,
	.fallocate = do_fallocate,
	.copy_file_range = do_copy_file_range,
	.lseek = do_lseek,
};

/* --- commands --- */

/* In the place of the present one. */
static void disk_set(struct forget_disk *disk)
{
	forget_free(fs.disk);
	fs.disk = disk;
	fs.generation++;
	fs.trigger_count = 0;
	release_held();
}

static void command_at(const char *which, const char *at, const char *what, const char *count)
{
	static const struct {
		const char *name;
		int what;
	} whats[] = {{"EIO", EIO},
		     {"ENOSPC", ENOSPC},
		     {"EINTR", EINTR},
		     {"short", WHAT_SHORT},
		     {"freeze", WHAT_FREEZE}};
	struct trigger t = {.at = strtoull(at, NULL, 10), .count = 1};
	const char *suffix = strchr(which, ':');
	size_t bytes = suffix ? (size_t)(suffix - which) : strlen(which);
	bool known = false;

	(void)snprintf(t.suffix, sizeof(t.suffix), "%s", suffix ? suffix + 1 : "");
	if (count)
		t.count = strtoull(count, NULL, 10);
	for (unsigned i = 0; i < ARRAY_COUNT(whats); i++) {
		if (strcmp(whats[i].name, what) == 0)
			t.what = whats[i].what;
	}
	for (unsigned i = 0; i < ARRAY_COUNT(kind_names); i++) {
		if (strlen(kind_names[i]) == bytes && strncmp(kind_names[i], which, bytes) == 0) {
			t.kind = (enum kind)i;
			known = true;
		}
	}
	if (!known || t.what == 0 || t.at == 0 || fs.trigger_count == TRIGGERS_MAX) {
		answer("error: at what?");
		return;
	}
	fs.triggers[fs.trigger_count++] = t;
	answer("ok");
}

static void command_cut(const char *seed, const char *torn_end, const char *way)
{
	struct forget_cut cut = {
		.seed = strtoull(seed, NULL, 10),
		.torn_end_bytes = strtoull(torn_end, NULL, 10),
		.way = !way                       ? FORGET_MIX
		       : strcmp(way, "drop") == 0 ? FORGET_DROP
						  : FORGET_KEEP,
	};

	disk_set(forget_copy(fs.disk, &cut));
	answer("ok");
}

static struct forget_disk **save_find(const char *name)
{
	for (unsigned i = 0; i < fs.save_count; i++) {
		if (strcmp(fs.saves[i].name, name) == 0)
			return &fs.saves[i].disk;
	}
	return NULL;
}

static void command_save(const char *name)
{
	struct forget_disk **place = save_find(name);

	if (!place && fs.save_count == SAVES_MAX) {
		answer("error: too many");
		return;
	}
	if (!place) {
		(void)snprintf(fs.saves[fs.save_count].name, sizeof(fs.saves[0].name), "%s", name);
		place = &fs.saves[fs.save_count++].disk;
	}
	forget_free(*place);
	*place = forget_copy(fs.disk, NULL);
	answer("ok");
}

static void command_load(const char *name, const char *seed)
{
	struct forget_disk **place = save_find(name);

	if (!place) {
		answer("error: no such save");
		return;
	}
	disk_set(forget_copy(*place, NULL));
	forget_seed(fs.disk, strtoull(seed, NULL, 10));
	answer("ok");
}

static void command_wait(const char *ms)
{
	if (fs.frozen) {
		answer("frozen %s", fs.froze_at);
		return;
	}
	fs.waiting = true;
	fs.wait_end_ms = now_ms() + strtoull(ms, NULL, 10);
}

static void command(char *line)
{
	char *words[6] = {NULL}, *rest = line;
	unsigned count = 0;

	while (count < 5 && (words[count] = strtok_r(rest, " ", &rest)))
		count++;
	if (count >= 4 && strcmp(words[0], "at") == 0) {
		command_at(words[1], words[2], words[3], words[4]);
	} else if (count == 1 && strcmp(words[0], "clear") == 0) {
		fs.trigger_count = 0;
		fs.op_count = fs.fault_count = 0;
		answer("ok");
	} else if (count == 2 && strcmp(words[0], "wait") == 0) {
		command_wait(words[1]);
	} else if (count == 1 && strcmp(words[0], "count") == 0) {
		answer("%llu %llu %s", (unsigned long long)fs.op_count,
		       (unsigned long long)fs.fault_count,
		       fs.fault_count ? fs.last_fault : fs.last_op);
	} else if (count >= 3 && strcmp(words[0], "cut") == 0) {
		command_cut(words[1], words[2], words[3]);
	} else if (count == 2 && strcmp(words[0], "save") == 0) {
		command_save(words[1]);
	} else if (count == 3 && strcmp(words[0], "load") == 0) {
		command_load(words[1], words[2]);
	} else if (count == 1 && strcmp(words[0], "release") == 0) {
		release_held();
		answer("ok");
	} else if (count == 2 && strcmp(words[0], "drop") == 0 && fs.drop_count < DROPS_MAX) {
		(void)snprintf(fs.drop_suffixes[fs.drop_count++], sizeof(fs.drop_suffixes[0]), "%s",
			       words[1]);
		answer("ok");
	} else if (count == 2 && strcmp(words[0], "space") == 0) {
		forget_limit_space(fs.disk, strtoull(words[1], NULL, 10));
		answer("ok");
	} else {
		answer("error: what?");
	}
}

/* False at the end of the input. */
static bool read_commands(void)
{
	ssize_t n =
		read(STDIN_FILENO, fs.line + fs.line_bytes, sizeof(fs.line) - 1 - fs.line_bytes);
	char *end;

	if (n <= 0)
		return n < 0 && errno == EINTR;
	fs.line_bytes += (size_t)n;
	fs.line[fs.line_bytes] = '\0';
	while ((end = strchr(fs.line, '\n'))) {
		size_t bytes = (size_t)(end - fs.line) + 1;

		*end = '\0';
		command(fs.line);
		fs.line_bytes -= bytes;
		memmove(fs.line, fs.line + bytes, fs.line_bytes + 1);
	}
	return fs.line_bytes < sizeof(fs.line) - 1;
}

static int wait_ms(void)
{
	uint64_t now = now_ms();

	if (!fs.waiting)
		return -1;
	return fs.wait_end_ms > now ? (int)(fs.wait_end_ms - now) : 0;
}

static void serve(void)
{
	struct fuse_buf buffer = {.mem = NULL};
	struct pollfd fds[] = {{.fd = fuse_session_fd(fs.session), .events = POLLIN},
			       {.fd = STDIN_FILENO, .events = POLLIN}};

	while (!fuse_session_exited(fs.session)) {
		int r = poll(fds, 2, wait_ms());

		if (r < 0 && errno != EINTR)
			break;
		if (fs.waiting && wait_ms() == 0) {
			fs.waiting = false;
			answer("running");
		}
		if (r <= 0)
			continue;
		if (fds[1].revents && !read_commands())
			break;
		if (!fds[0].revents)
			continue;
		r = fuse_session_receive_buf(fs.session, &buffer);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0)
			break;
		fuse_session_process_buf(fs.session, &buffer);
	}
	free(buffer.mem);
}

int main(int argc, char **argv)
{
	char *fuse_argv[] = {argv[0], "-ofsname=forgetfs,subtype=forgetfs", NULL};
	struct fuse_args args = FUSE_ARGS_INIT(2, fuse_argv);

	if (argc != 3) {
		fprintf(stderr, "usage: forgetfs MOUNTPOINT SEED\n");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN); /* the harness ends us */
	list_init(&fs.held);
	fs.generation = 1;
	fs.disk = forget_new(strtoull(argv[2], NULL, 10));
	fs.session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!fs.session || fuse_session_mount(fs.session, argv[1]) < 0)
		return 1;
	/* A request that could be read is gone when who sent it was killed meanwhile. To wait for
	 * the next one would be to read no commands. */
	if (fcntl(fuse_session_fd(fs.session), F_SETFL, O_NONBLOCK) < 0)
		return 1;
	answer("mounted");
	serve();
	release_held();
	fuse_session_unmount(fs.session);
	fuse_session_destroy(fs.session);
	forget_free(fs.disk);
	for (unsigned i = 0; i < fs.save_count; i++)
		forget_free(fs.saves[i].disk);
	fuse_opt_free_args(&args);
	return 0;
}
