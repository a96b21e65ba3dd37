/*
 * The simulated page cache and the entries of folders; see sim.h. The real files are what a process
 * sees. Beside them is remembered what a power loss may bring back: for each page the contents that
 * it had since it was last durable, for each file its sizes, for each folder what was made,
 * renamed and removed in it since its last sync.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/list.h"
#include "store/sim_internal.h"

#define PAGE_BYTES   4096u
#define SECTOR_BYTES 512u
#define NAMES_MAX    256

struct sim_version {
	uint64_t number; /* 0: what a sync, or nobody, has made durable */
	uint8_t data[PAGE_BYTES];
};

struct sim_page {
	struct list node; /* of its file */
	uint64_t index;
	uint64_t lost; /* what is not newer a failed sync has lost */
	unsigned count, room;
	struct sim_version *versions; /* the first is durable; the last is in the file */
};

struct sim_size {
	uint64_t number, bytes;
};

struct sim_file {
	struct list node;
	dev_t device;
	ino_t inode;
	int fd; /* ours */
	struct list pages;
	struct sim_size *sizes; /* the first is durable */
	unsigned size_count;
};

/* A change of a folder that its next sync makes durable. Files are known by links of ours, which
 * outlive their names. 0: no file. */
struct sim_name {
	char path[LIMIT_PATH_BYTES]; /* gets `file` */
	char from[LIMIT_PATH_BYTES]; /* a rename's: loses it */
	unsigned file, before;
};

static struct {
	struct list files;
	uint64_t version;
	enum sim_loss loss;
	char links[LIMIT_PATH_BYTES]; /* folder of our links */
	struct sim_name names[NAMES_MAX];
	unsigned name_count, link_count;
} s;

void sim_files_init(void)
{
	list_init(&s.files);
	s.version = 0;
	s.loss = SIM_LOSS_ANY;
	s.name_count = s.link_count = 0;
}

uint64_t sim_files_version(void)
{
	return s.version;
}

void sim_set_loss(enum sim_loss loss)
{
	s.loss = loss;
}

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

/* --- files and their unsynced pages --- */

static uint64_t file_size(int fd)
{
	struct stat st;

	if (__real_fstat64(fd, &st) < 0)
		abort();
	return (uint64_t)st.st_size;
}

static struct sim_file *file_of(int fd)
{
	struct sim_file *file;
	char path[32];
	struct stat st;

	if (__real_fstat64(fd, &st) < 0)
		abort();
	list_for_each (n, &s.files) {
		file = LIST_ENTRY(n, struct sim_file, node);
		if (file->device == st.st_dev && file->inode == st.st_ino)
			return file;
	}
	file = must(__real_calloc(1, sizeof(*file)));
	file->device = st.st_dev;
	file->inode = st.st_ino;
	/* Of its own, not a duplicate: that would share the layer's lock. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	file->fd = __real_open64(path, O_RDWR | O_CLOEXEC);
	if (file->fd < 0)
		abort();
	list_init(&file->pages);
	file->sizes = must(__real_calloc(1, sizeof(*file->sizes)));
	file->sizes[0].bytes = (uint64_t)st.st_size;
	file->size_count = 1;
	list_append(&s.files, &file->node);
	return file;
}

static void file_free(struct sim_file *file)
{
	list_remove(&file->node);
	__real_close(file->fd);
	__real_free(file->sizes);
	__real_free(file);
}

static void page_read(const struct sim_file *file, uint64_t index, uint8_t *data)
{
	ssize_t n = __real_pread64(file->fd, data, PAGE_BYTES, (off_t)(index * PAGE_BYTES));

	if (n < 0)
		abort();
	memset(data + n, 0, PAGE_BYTES - (size_t)n);
}

static void page_write(const struct sim_file *file, uint64_t index, const uint8_t *data)
{
	if (__real_pwrite64(file->fd, data, PAGE_BYTES, (off_t)(index * PAGE_BYTES)) != PAGE_BYTES)
		abort();
}

static struct sim_page *page_of(struct sim_file *file, uint64_t index)
{
	struct sim_page *page;

	list_for_each (n, &file->pages) {
		page = LIST_ENTRY(n, struct sim_page, node);
		if (page->index == index)
			return page;
	}
	page = must(__real_calloc(1, sizeof(*page)));
	page->index = index;
	page->room = 4;
	page->versions = must(__real_calloc(page->room, sizeof(*page->versions)));
	page_read(file, index, page->versions[0].data);
	page->count = 1;
	list_prepend(&file->pages, &page->node);
	return page;
}

static void pages_before_change(struct sim_file *file, uint64_t offset, uint64_t bytes)
{
	for (uint64_t i = offset / PAGE_BYTES; i <= (offset + bytes - 1) / PAGE_BYTES; i++)
		(void)page_of(file, i);
}

static void page_grow(struct sim_page *page)
{
	struct sim_version *bigger = must(__real_calloc(2 * page->room, sizeof(*bigger)));

	memcpy(bigger, page->versions, page->count * sizeof(*bigger));
	__real_free(page->versions);
	page->versions = bigger;
	page->room *= 2;
}

static void pages_after_change(struct sim_file *file, uint64_t offset, uint64_t bytes)
{
	s.version++;
	for (uint64_t i = offset / PAGE_BYTES; i <= (offset + bytes - 1) / PAGE_BYTES; i++) {
		struct sim_page *page = page_of(file, i);

		if (page->count == page->room)
			page_grow(page);
		page->versions[page->count].number = s.version;
		page_read(file, i, page->versions[page->count].data);
		page->count++;
	}
}

static void page_free(struct sim_page *page)
{
	list_remove(&page->node);
	__real_free(page->versions);
	__real_free(page);
}

static void size_changed(struct sim_file *file, uint64_t bytes)
{
	struct sim_size *bigger;

	if (file->sizes[file->size_count - 1].bytes == bytes)
		return;
	bigger = must(__real_calloc(file->size_count + 1, sizeof(*bigger)));
	memcpy(bigger, file->sizes, file->size_count * sizeof(*bigger));
	bigger[file->size_count++] = (struct sim_size){++s.version, bytes};
	__real_free(file->sizes);
	file->sizes = bigger;
}

ssize_t sim_file_write(int fd, const void *data, size_t bytes, uint64_t offset)
{
	struct sim_file *file = file_of(fd);
	ssize_t n;

	pages_before_change(file, offset, bytes);
	n = __real_pwrite64(fd, data, bytes, (off_t)offset);
	if (n < 0)
		return -errno;
	pages_after_change(file, offset, bytes);
	size_changed(file, file_size(fd));
	return n;
}

int sim_file_punch(int fd, uint64_t offset, uint64_t bytes)
{
	struct sim_file *file = file_of(fd);

	pages_before_change(file, offset, bytes);
	if (__real_fallocate64(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
			       (off_t)bytes) < 0)
		return -errno;
	pages_after_change(file, offset, bytes);
	return 0;
}

int sim_file_truncate(int fd, uint64_t bytes)
{
	struct sim_file *file = file_of(fd);
	uint64_t before = file_size(fd);

	if (bytes < before)
		pages_before_change(file, bytes, before - bytes);
	if (__real_ftruncate64(fd, (off_t)bytes) < 0)
		return -errno;
	if (bytes < before)
		pages_after_change(file, bytes, before - bytes);
	size_changed(file, bytes);
	return 0;
}

/* --- syncs --- */

static bool page_is_lost(const struct sim_page *page)
{
	return page->versions[page->count - 1].number <= page->lost;
}

static void page_sync(struct sim_page *page, uint64_t version)
{
	unsigned durable = 0;

	/* The kernel thinks that it is clean: nothing is written. */
	if (page->lost && page_is_lost(page))
		return;
	for (unsigned i = 1; i < page->count; i++) {
		if (page->versions[i].number <= version && page->versions[i].number > page->lost)
			durable = i;
	}
	if (durable == page->count - 1) {
		page_free(page);
		return;
	}
	memmove(page->versions, page->versions + durable,
		(page->count - durable) * sizeof(*page->versions));
	page->count -= durable;
}

static void sync_until(struct sim_file *file, uint64_t version)
{
	unsigned durable = 0;

	list_for_each (n, &file->pages)
		page_sync(LIST_ENTRY(n, struct sim_page, node), version);
	for (unsigned i = 1; i < file->size_count; i++) {
		if (file->sizes[i].number <= version)
			durable = i;
	}
	memmove(file->sizes, file->sizes + durable,
		(file->size_count - durable) * sizeof(*file->sizes));
	file->size_count -= durable;
}

void sim_file_sync(int fd, uint64_t version)
{
	sync_until(file_of(fd), version);
}

void sim_file_sync_failed(int fd, uint64_t version)
{
	struct sim_file *file = file_of(fd);

	list_for_each (n, &file->pages) {
		struct sim_page *page = LIST_ENTRY(n, struct sim_page, node);

		if (sim_below(3) == 0)
			page_sync(page, version);
		else if (page->lost < version)
			page->lost = version;
	}
}

void sim_file_drop_cache(int fd)
{
	struct sim_file *file = file_of(fd);

	list_for_each (n, &file->pages) {
		struct sim_page *page = LIST_ENTRY(n, struct sim_page, node);

		if (page->lost == 0 || !page_is_lost(page))
			continue;
		page_write(file, page->index, page->versions[0].data);
		page_free(page);
	}
}

void sim_forget(void)
{
	list_for_each (n, &s.files) {
		struct sim_file *file = LIST_ENTRY(n, struct sim_file, node);

		list_for_each (p, &file->pages)
			page_free(LIST_ENTRY(p, struct sim_page, node));
		file_free(file);
	}
	for (unsigned i = 1; i <= s.link_count; i++) {
		char path[LIMIT_PATH_BYTES + 16];

		(void)snprintf(path, sizeof(path), "%s/%u", s.links, i);
		(void)__real_unlink(path);
	}
	s.name_count = s.link_count = 0;
}

/* --- power loss --- */

static unsigned choose(unsigned count)
{
	switch (s.loss) {
	case SIM_LOSS_COUNT: break;
	case SIM_LOSS_TORN:
	case SIM_LOSS_ANY: return (unsigned)sim_below(count);
	case SIM_LOSS_ALL: return 0;
	case SIM_LOSS_NONE: return count - 1;
	case SIM_LOSS_MOST: return sim_below(6) == 0 ? count - 1 : 0;
	case SIM_LOSS_FEW: return sim_below(6) == 0 ? 0 : count - 1;
	}
	abort();
}

static bool tears(void)
{
	return s.loss == SIM_LOSS_TORN ||
	       (s.loss != SIM_LOSS_ALL && s.loss != SIM_LOSS_NONE && sim_below(3) == 0);
}

static void page_fall_back(const struct sim_file *file, const struct sim_page *page, bool may_tear)
{
	unsigned kept = choose(page->count);
	uint8_t data[PAGE_BYTES];

	may_tear = may_tear && page->count > 1 && tears();
	if (may_tear && s.loss == SIM_LOSS_TORN)
		kept = 0;
	memcpy(data, page->versions[kept].data, PAGE_BYTES);
	if (may_tear) {
		unsigned other = s.loss == SIM_LOSS_TORN  ? page->count - 1
				 : kept + 1 < page->count ? kept + 1
							  : kept - 1;

		for (unsigned at = 0; at < PAGE_BYTES; at += SECTOR_BYTES) {
			if (sim_below(2))
				memcpy(data + at, page->versions[other].data + at, SECTOR_BYTES);
		}
	}
	page_write(file, page->index, data);
}

static void file_fall_back(const struct sim_file *file, uint64_t torn_end)
{
	if (list_empty(&file->pages) && file->size_count == 1)
		return;
	list_for_each (p, &file->pages) {
		const struct sim_page *page = LIST_ENTRY(p, struct sim_page, node);

		page_fall_back(file, page, page->index * PAGE_BYTES < torn_end);
	}
	if (__real_ftruncate64(file->fd, (off_t)file->sizes[choose(file->size_count)].bytes) < 0)
		abort();
}

static void names_fall_back(void);

void sim_power_loss(uint64_t torn_end)
{
	list_for_each (n, &s.files)
		file_fall_back(LIST_ENTRY(n, struct sim_file, node), torn_end);
	names_fall_back();
	sim_forget();
}

/* --- entries of folders --- */

void sim_names_init(const char *dir)
{
	(void)snprintf(s.links, sizeof(s.links), "%s/.links", dir);
	if (mkdir(s.links, 0700) < 0 && errno != EEXIST)
		abort();
}

static void link_path(unsigned file, char ret_path[LIMIT_PATH_BYTES + 16])
{
	(void)snprintf(ret_path, LIMIT_PATH_BYTES + 16, "%s/%u", s.links, file);
}

/* Our link to the file of this name, made if there is none. 0: there is no such file. */
static unsigned link_of(const char *path)
{
	char ours[LIMIT_PATH_BYTES + 16];
	struct stat st, other;

	if (lstat(path, &st) < 0)
		return 0;
	for (unsigned i = 1; i <= s.link_count; i++) {
		link_path(i, ours);
		if (lstat(ours, &other) == 0 && other.st_ino == st.st_ino &&
		    other.st_dev == st.st_dev)
			return i;
	}
	link_path(++s.link_count, ours);
	if (link(path, ours) < 0)
		abort();
	return s.link_count;
}

static struct sim_name *name_add(const char *path)
{
	struct sim_name *name = &s.names[s.name_count++];

	if (s.name_count > NAMES_MAX)
		abort();
	memset(name, 0, sizeof(*name));
	(void)snprintf(name->path, sizeof(name->path), "%s", path);
	return name;
}

void sim_name_created(const char *path)
{
	name_add(path)->file = link_of(path);
}

int sim_name_unlink(const char *path)
{
	unsigned file = link_of(path);

	if (__real_unlink(path) < 0)
		return -errno;
	name_add(path)->before = file;
	return 0;
}

int sim_name_rename(const char *from, const char *to)
{
	unsigned file = link_of(from), before = link_of(to);
	struct sim_name *name;

	if (__real_rename(from, to) < 0)
		return -errno;
	name = name_add(to);
	(void)snprintf(name->from, sizeof(name->from), "%s", from);
	name->file = file;
	name->before = before;
	return 0;
}

static bool lies_in(const char *path, const char *folder)
{
	size_t bytes = strlen(folder);

	return strncmp(path, folder, bytes) == 0 && path[bytes] == '/' &&
	       strchr(path + bytes + 1, '/') == NULL;
}

void sim_folder_sync(int fd)
{
	char proc[32], folder[LIMIT_PATH_BYTES];
	unsigned kept = 0;
	ssize_t n;

	(void)snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	n = readlink(proc, folder, sizeof(folder) - 1);
	if (n < 0)
		abort();
	folder[n] = '\0';
	for (unsigned i = 0; i < s.name_count; i++) {
		if (!lies_in(s.names[i].path, folder))
			s.names[kept++] = s.names[i];
	}
	s.name_count = kept;
}

static void name_put(const char *path, unsigned file)
{
	char ours[LIMIT_PATH_BYTES + 16];

	(void)__real_unlink(path);
	link_path(file, ours);
	if (file && link(ours, path) < 0)
		abort();
}

/* Back to the synced entries, then each change again that reached the disk. */
static void names_fall_back(void)
{
	for (unsigned i = s.name_count; i-- > 0;) {
		name_put(s.names[i].path, s.names[i].before);
		if (s.names[i].from[0])
			name_put(s.names[i].from, s.names[i].file);
	}
	for (unsigned i = 0; i < s.name_count; i++) {
		if (choose(2) == 0)
			continue;
		name_put(s.names[i].path, s.names[i].file);
		if (s.names[i].from[0])
			name_put(s.names[i].from, 0);
	}
}
