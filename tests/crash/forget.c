/*
 * The model of a disk that forgets; see forget.h. Pages are counted references, so that a copy of
 * the whole disk costs little, and a version that was overwritten may be kept.
 *
 * Names: a directory's entry knows whom it names now and durably. What was done to names and is
 * not durable yet stands in one list, in order; a rename is one change of two entries. A sync of a
 * directory brings along what happened before to the other directories that its changes touch, so
 * that no file has two names or none by it.
 */
#include "forget.h"

#include <assert.h>
#include <errno.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CHUNK_PAGES   512u
#define SECTOR_BYTES  512u
#define FILE_BYTES    (1ull << 40)
#define NO_LIMIT      (1ull << 40)
#define DEFAULT_PAGES (1ull << 22) /* what statfs tells where there is no limit */

struct page {
	unsigned refs;
	uint8_t data[FORGET_PAGE_BYTES];
};

enum slot_state {
	SLOT_CLEAN, /* now is durable */
	SLOT_DIRTY,
	SLOT_LOST /* not durable, and no sync will make it so: one has failed */
};

struct slot {
	struct page *now, *durable, *between; /* NULL: a hole; the latter two unless clean */
	unsigned version_count;               /* between those two */
	enum slot_state state;
	bool reserved; /* space without data */
};

struct forget_chunk {
	struct slot slots[CHUNK_PAGES];
};

struct part {
	struct forget_inode *dir, *to;
	char name[NAME_MAX + 1];
};

struct change {
	struct list node;
	unsigned part_count;
	struct part parts[2];
	bool marked;
};

struct forget_disk {
	struct forget_inode **inodes; /* by number */
	uint64_t inode_count, inode_room;
	uint64_t cookie, random;
	uint64_t used_pages, page_limit;
	struct list changes;
};

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint64_t below(uint64_t *state, uint64_t bound)
{
	return next_random(state) % bound;
}

/* Tests have memory. */
static void *take(size_t bytes)
{
	void *p = calloc(1, bytes);

	if (!p)
		abort();
	return p;
}

static void *grow(void *p, size_t bytes)
{
	p = realloc(p, bytes);
	if (!p)
		abort();
	return p;
}

/* --- pages --- */

static struct page *page_ref(struct page *page)
{
	if (page)
		page->refs++;
	return page;
}

static void page_unref(struct page *page)
{
	if (page && --page->refs == 0)
		free(page);
}

static void page_set(struct page **place, struct page *page)
{
	struct page *old = *place;

	*place = page;
	page_unref(old);
}

static struct slot *slot_find(const struct forget_inode *inode, uint64_t index)
{
	uint64_t chunk = index / CHUNK_PAGES;

	if (chunk >= inode->chunk_count || !inode->chunks[chunk])
		return NULL;
	return &inode->chunks[chunk]->slots[index % CHUNK_PAGES];
}

static struct slot *slot_make(struct forget_inode *inode, uint64_t index)
{
	uint64_t chunk = index / CHUNK_PAGES;

	if (chunk >= inode->chunk_count) {
		inode->chunks = grow(inode->chunks, (chunk + 1) * sizeof(struct forget_chunk *));
		for (uint64_t i = inode->chunk_count; i <= chunk; i++)
			inode->chunks[i] = NULL;
		inode->chunk_count = chunk + 1;
	}
	if (!inode->chunks[chunk])
		inode->chunks[chunk] = take(sizeof(struct forget_chunk));
	return &inode->chunks[chunk]->slots[index % CHUNK_PAGES];
}

static bool slot_takes_space(const struct slot *slot)
{
	return slot->now || slot->reserved;
}

/* Before a change of `now`: keeps what it was. */
static void slot_touch(struct forget_disk *disk, struct forget_inode *inode, struct slot *slot,
		       uint64_t index)
{
	if (slot->state == SLOT_CLEAN) {
		if (inode->dirty_count == inode->dirty_room) {
			inode->dirty_room = inode->dirty_room ? 2 * inode->dirty_room : 64;
			inode->dirty = grow(inode->dirty, inode->dirty_room * sizeof(uint64_t));
		}
		inode->dirty[inode->dirty_count++] = index;
		page_set(&slot->durable, page_ref(slot->now));
		slot->version_count = 0;
	} else if (slot->state == SLOT_DIRTY) {
		/* One of the versions between, each as likely as the others. */
		if (below(&disk->random, ++slot->version_count) == 0)
			page_set(&slot->between, page_ref(slot->now));
	}
	slot->state = SLOT_DIRTY;
}

static void slot_settle(struct slot *slot)
{
	page_set(&slot->durable, NULL);
	page_set(&slot->between, NULL);
	slot->state = SLOT_CLEAN;
}

/* Whether there is space for a page; takes it. */
static bool space_take(struct forget_disk *disk, struct forget_inode *inode,
		       const struct slot *slot)
{
	if (slot && slot_takes_space(slot))
		return true;
	if (disk->used_pages >= disk->page_limit)
		return false;
	disk->used_pages++;
	inode->page_count++;
	return true;
}

static void space_give(struct forget_disk *disk, struct forget_inode *inode, uint64_t page_count)
{
	assert(disk->used_pages >= page_count && inode->page_count >= page_count);
	disk->used_pages -= page_count;
	inode->page_count -= page_count;
}

/* The page's own copy of what it holds. */
static uint8_t *slot_data(struct slot *slot)
{
	struct page *fresh;

	if (slot->now && slot->now->refs == 1)
		return slot->now->data;
	fresh = take(sizeof(*fresh));
	fresh->refs = 1;
	if (slot->now)
		memcpy(fresh->data, slot->now->data, sizeof(fresh->data));
	page_set(&slot->now, fresh);
	return fresh->data;
}

static void slot_punch(struct forget_disk *disk, struct forget_inode *inode, uint64_t index)
{
	struct slot *slot = slot_find(inode, index);

	if (!slot || !slot_takes_space(slot))
		return;
	slot_touch(disk, inode, slot, index);
	page_set(&slot->now, NULL);
	slot->reserved = false;
	space_give(disk, inode, 1);
}

static void slot_zero(struct forget_disk *disk, struct forget_inode *inode, uint64_t index,
		      size_t begin, size_t end)
{
	struct slot *slot = slot_find(inode, index);

	if (!slot || !slot->now || begin >= end)
		return;
	slot_touch(disk, inode, slot, index);
	memset(slot_data(slot) + begin, 0, end - begin);
}

/* --- disks --- */

static void changed(struct forget_inode *inode)
{
	(void)clock_gettime(CLOCK_REALTIME, &inode->now.mtime);
}

static struct forget_inode *inode_put(struct forget_disk *disk, uint64_t number)
{
	struct forget_inode *inode = take(sizeof(*inode));

	if (number >= disk->inode_room) {
		disk->inodes = grow(disk->inodes, 2 * (number + 1) * sizeof(*disk->inodes));
		memset(disk->inodes + disk->inode_room, 0,
		       (2 * (number + 1) - disk->inode_room) * sizeof(*disk->inodes));
		disk->inode_room = 2 * (number + 1);
	}
	assert(!disk->inodes[number]);
	disk->inodes[number] = inode;
	if (number >= disk->inode_count)
		disk->inode_count = number + 1;
	inode->number = number;
	list_init(&inode->entries);
	return inode;
}

static void inode_free(struct forget_inode *inode)
{
	for (uint64_t i = 0; i < inode->chunk_count; i++) {
		for (unsigned j = 0; inode->chunks[i] && j < CHUNK_PAGES; j++) {
			page_set(&inode->chunks[i]->slots[j].now, NULL);
			slot_settle(&inode->chunks[i]->slots[j]);
		}
		free(inode->chunks[i]);
	}
	free(inode->chunks);
	free(inode->dirty);
	list_for_each (pos, &inode->entries)
		free(LIST_ENTRY(pos, struct forget_entry, node));
	free(inode);
}

static struct forget_disk *disk_empty(uint64_t seed)
{
	struct forget_disk *disk = take(sizeof(*disk));

	disk->random = seed;
	disk->page_limit = NO_LIMIT;
	list_init(&disk->changes);
	return disk;
}

struct forget_disk *forget_new(uint64_t seed)
{
	struct forget_disk *disk = disk_empty(seed);
	struct forget_inode *root = inode_put(disk, FORGET_ROOT);

	root->now.mode = S_IFDIR | 0755;
	root->links = 1;
	changed(root);
	root->durable = root->now;
	return disk;
}

void forget_free(struct forget_disk *disk)
{
	if (!disk)
		return;
	for (uint64_t i = 0; i < disk->inode_count; i++) {
		if (disk->inodes[i])
			inode_free(disk->inodes[i]);
	}
	list_for_each (pos, &disk->changes)
		free(LIST_ENTRY(pos, struct change, node));
	free(disk->inodes);
	free(disk);
}

void forget_seed(struct forget_disk *disk, uint64_t seed)
{
	disk->random = seed;
}

void forget_limit_space(struct forget_disk *disk, uint64_t page_count)
{
	disk->page_limit = page_count ? page_count : NO_LIMIT;
}

void forget_space(const struct forget_disk *disk, uint64_t *ret_total, uint64_t *ret_free)
{
	*ret_total = disk->page_limit == NO_LIMIT ? DEFAULT_PAGES : disk->page_limit;
	*ret_free = *ret_total > disk->used_pages ? *ret_total - disk->used_pages : 0;
}

struct forget_inode *forget_inode(struct forget_disk *disk, uint64_t number)
{
	return number < disk->inode_count ? disk->inodes[number] : NULL;
}

bool forget_is_directory(const struct forget_inode *inode)
{
	return S_ISDIR(inode->now.mode);
}

/* --- names --- */

static struct forget_entry *entry_find(const struct forget_inode *dir, const char *name)
{
	list_for_each (pos, &dir->entries) {
		struct forget_entry *entry = LIST_ENTRY(pos, struct forget_entry, node);

		if (strcmp(entry->name, name) == 0)
			return entry;
	}
	return NULL;
}

static struct forget_entry *entry_make(struct forget_disk *disk, struct forget_inode *dir,
				       const char *name)
{
	struct forget_entry *entry = entry_find(dir, name);

	if (entry)
		return entry;
	entry = take(sizeof(*entry));
	entry->cookie = ++disk->cookie;
	strcpy(entry->name, name);
	list_append(&dir->entries, &entry->node);
	return entry;
}

struct forget_inode *forget_lookup(const struct forget_inode *dir, const char *name)
{
	const struct forget_entry *entry = entry_find(dir, name);

	return entry ? entry->now : NULL;
}

/* A removed file's space comes back when nobody has it open any more. */
static void inode_gone(struct forget_disk *disk, struct forget_inode *inode)
{
	if (inode->links == 0 && inode->opens == 0)
		space_give(disk, inode, inode->page_count);
}

/* A lost page, as the medium has it. */
static void slot_evict(struct slot *slot)
{
	if (slot->now && !slot->durable)
		slot->reserved = true; /* its space stays its own */
	page_set(&slot->now, page_ref(slot->durable));
}

void forget_drop_cache(struct forget_inode *inode)
{
	for (size_t i = 0; i < inode->dirty_count; i++) {
		struct slot *slot = slot_find(inode, inode->dirty[i]);

		if (slot->state == SLOT_LOST)
			slot_evict(slot);
	}
}

void forget_closed(struct forget_disk *disk, struct forget_inode *inode)
{
	inode_gone(disk, inode);
}

static struct change *change_new(struct forget_disk *disk)
{
	struct change *change = take(sizeof(*change));

	list_append(&disk->changes, &change->node);
	return change;
}

/* From now on `name` names `to` (NULL: nobody). */
static void change_entry(struct forget_disk *disk, struct change *change, struct forget_inode *dir,
			 const char *name, struct forget_inode *to)
{
	struct forget_entry *entry = entry_make(disk, dir, name);
	struct forget_inode *before = entry->now;
	struct part *part = &change->parts[change->part_count++];

	part->dir = dir;
	part->to = to;
	strcpy(part->name, name);
	entry->now = to;
	changed(dir);
	if (to) {
		to->links++;
		strcpy(to->name, name);
	}
	if (before) {
		before->links--;
		inode_gone(disk, before);
	}
}

static int name_check(const struct forget_inode *dir, const char *name)
{
	if (!forget_is_directory(dir))
		return -ENOTDIR;
	return strlen(name) > NAME_MAX ? -ENAMETOOLONG : 0;
}

int forget_make(struct forget_disk *disk, struct forget_inode *dir, const char *name, uint32_t mode,
		uint32_t uid, uint32_t gid, struct forget_inode **ret_inode)
{
	struct forget_inode *inode;
	int r = name_check(dir, name);

	if (r < 0 || forget_lookup(dir, name))
		return r < 0 ? r : -EEXIST;
	if (disk->used_pages >= disk->page_limit)
		return -ENOSPC;
	inode = inode_put(disk, disk->inode_count);
	inode->now.mode = mode;
	inode->now.uid = uid;
	inode->now.gid = gid;
	changed(inode);
	inode->durable = inode->now;
	change_entry(disk, change_new(disk), dir, name, inode);
	*ret_inode = inode;
	return 0;
}

int forget_link(struct forget_disk *disk, struct forget_inode *inode, struct forget_inode *dir,
		const char *name)
{
	int r = name_check(dir, name);

	if (r < 0 || forget_lookup(dir, name))
		return r < 0 ? r : -EEXIST;
	if (forget_is_directory(inode))
		return -EPERM;
	change_entry(disk, change_new(disk), dir, name, inode);
	return 0;
}

static bool directory_is_empty(const struct forget_inode *dir)
{
	list_for_each (pos, &dir->entries) {
		if (LIST_ENTRY(pos, struct forget_entry, node)->now)
			return false;
	}
	return true;
}

/* Whether it may go, by its kind. */
static int removal_check(const struct forget_inode *inode, bool directory)
{
	if (!inode)
		return -ENOENT;
	if (forget_is_directory(inode) != directory)
		return directory ? -ENOTDIR : -EISDIR;
	return directory && !directory_is_empty(inode) ? -ENOTEMPTY : 0;
}

int forget_remove(struct forget_disk *disk, struct forget_inode *dir, const char *name,
		  bool directory)
{
	int r = removal_check(forget_lookup(dir, name), directory);

	if (r == 0)
		change_entry(disk, change_new(disk), dir, name, NULL);
	return r;
}

int forget_rename(struct forget_disk *disk, struct forget_inode *from, const char *name,
		  struct forget_inode *to, const char *new_name, bool replace)
{
	struct forget_inode *inode = forget_lookup(from, name), *other;
	struct change *change;
	int r = name_check(to, new_name);

	if (r < 0 || !inode)
		return r < 0 ? r : -ENOENT;
	other = forget_lookup(to, new_name);
	if (other && !replace)
		return -EEXIST;
	if (other == inode)
		return 0;
	r = other ? removal_check(other, forget_is_directory(inode)) : 0;
	if (r < 0)
		return r;
	change = change_new(disk);
	change_entry(disk, change, to, new_name, inode);
	change_entry(disk, change, from, name, NULL);
	return 0;
}

static bool change_touches_marked(const struct change *change)
{
	for (unsigned i = 0; i < change->part_count; i++) {
		if (change->parts[i].dir->marked)
			return true;
	}
	return false;
}

static void change_apply(struct forget_disk *disk, struct change *change)
{
	for (unsigned i = 0; i < change->part_count; i++) {
		const struct part *part = &change->parts[i];

		entry_make(disk, part->dir, part->name)->durable = part->to;
	}
	list_remove(&change->node);
	free(change);
}

void forget_sync_directory(struct forget_disk *disk, struct forget_inode *dir)
{
	dir->durable = dir->now;
	dir->marked = true;
	for (struct list *pos = disk->changes.prev; pos != &disk->changes; pos = pos->prev) {
		struct change *change = LIST_ENTRY(pos, struct change, node);

		change->marked = change_touches_marked(change);
		for (unsigned i = 0; change->marked && i < change->part_count; i++)
			change->parts[i].dir->marked = true;
	}
	list_for_each (pos, &disk->changes) {
		struct change *change = LIST_ENTRY(pos, struct change, node);

		if (change->marked)
			change_apply(disk, change);
	}
	for (uint64_t i = 0; i < disk->inode_count; i++) {
		if (disk->inodes[i])
			disk->inodes[i]->marked = false;
	}
}

/* --- files --- */

size_t forget_read(const struct forget_inode *inode, void *data, size_t bytes, uint64_t offset)
{
	uint64_t size = inode->now.size_bytes;
	uint8_t *to = data;

	if (offset >= size)
		return 0;
	if (bytes > size - offset)
		bytes = size - offset;
	for (size_t done = 0, part; done < bytes; done += part) {
		size_t at = (offset + done) % FORGET_PAGE_BYTES;
		const struct slot *slot = slot_find(inode, (offset + done) / FORGET_PAGE_BYTES);

		part = FORGET_PAGE_BYTES - at;
		if (part > bytes - done)
			part = bytes - done;
		if (slot && slot->now)
			memcpy(to + done, slot->now->data + at, part);
		else
			memset(to + done, 0, part);
	}
	return bytes;
}

ssize_t forget_write(struct forget_disk *disk, struct forget_inode *inode, const void *data,
		     size_t bytes, uint64_t offset)
{
	size_t done = 0;

	if (bytes > FILE_BYTES || offset > FILE_BYTES - bytes)
		return -EFBIG;
	while (done < bytes) {
		uint64_t index = (offset + done) / FORGET_PAGE_BYTES;
		size_t at = (offset + done) % FORGET_PAGE_BYTES, part = FORGET_PAGE_BYTES - at;
		struct slot *slot = slot_make(inode, index);

		if (part > bytes - done)
			part = bytes - done;
		if (!space_take(disk, inode, slot))
			break;
		slot_touch(disk, inode, slot, index);
		slot->reserved = false;
		memcpy(slot_data(slot) + at, (const uint8_t *)data + done, part);
		done += part;
	}
	if (done == 0 && bytes > 0)
		return -ENOSPC;
	if (offset + done > inode->now.size_bytes)
		inode->now.size_bytes = offset + done;
	changed(inode);
	return (ssize_t)done;
}

int forget_truncate(struct forget_disk *disk, struct forget_inode *inode, uint64_t bytes)
{
	uint64_t first = (bytes + FORGET_PAGE_BYTES - 1) / FORGET_PAGE_BYTES;

	if (bytes > FILE_BYTES)
		return -EFBIG;
	for (uint64_t i = first;
	     bytes < inode->now.size_bytes && i < inode->chunk_count * CHUNK_PAGES; i++)
		slot_punch(disk, inode, i);
	if (bytes < inode->now.size_bytes && bytes % FORGET_PAGE_BYTES)
		slot_zero(disk, inode, bytes / FORGET_PAGE_BYTES, bytes % FORGET_PAGE_BYTES,
			  FORGET_PAGE_BYTES);
	inode->now.size_bytes = bytes;
	changed(inode);
	return 0;
}

static void punch(struct forget_disk *disk, struct forget_inode *inode, uint64_t begin,
		  uint64_t end)
{
	uint64_t room = inode->chunk_count * CHUNK_PAGES * FORGET_PAGE_BYTES;

	if (end > room)
		end = room;
	while (begin < end) {
		uint64_t index = begin / FORGET_PAGE_BYTES, page = index * FORGET_PAGE_BYTES;
		uint64_t stop = end - page < FORGET_PAGE_BYTES ? end : page + FORGET_PAGE_BYTES;

		if (stop - begin == FORGET_PAGE_BYTES)
			slot_punch(disk, inode, index);
		else
			slot_zero(disk, inode, index, begin - page, stop - page);
		begin = stop;
	}
	changed(inode);
}

int forget_allocate(struct forget_disk *disk, struct forget_inode *inode, int mode, uint64_t offset,
		    uint64_t bytes)
{
	if (bytes == 0)
		return -EINVAL;
	if (bytes > FILE_BYTES || offset > FILE_BYTES - bytes)
		return -EFBIG;
	if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
		punch(disk, inode, offset, offset + bytes);
		return 0;
	}
	if (mode & ~FALLOC_FL_KEEP_SIZE)
		return -EOPNOTSUPP;
	for (uint64_t i = offset / FORGET_PAGE_BYTES; i <= (offset + bytes - 1) / FORGET_PAGE_BYTES;
	     i++) {
		struct slot *slot = slot_make(inode, i);

		if (!space_take(disk, inode, slot))
			return -ENOSPC;
		slot->reserved = !slot->now;
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + bytes > inode->now.size_bytes)
		inode->now.size_bytes = offset + bytes;
	return 0;
}

off_t forget_seek(const struct forget_inode *inode, uint64_t offset, bool data)
{
	uint64_t size = inode->now.size_bytes;

	if (offset >= size)
		return -ENXIO;
	for (uint64_t i = offset / FORGET_PAGE_BYTES; i * FORGET_PAGE_BYTES < size; i++) {
		const struct slot *slot = slot_find(inode, i);
		bool is_data = slot && slot->now;

		if (is_data == data)
			return (off_t)(i * FORGET_PAGE_BYTES > offset ? i * FORGET_PAGE_BYTES
								      : offset);
		if (!slot) /* a chunk that is all hole */
			i |= CHUNK_PAGES - 1;
	}
	return data ? -ENXIO : (off_t)size;
}

void forget_sync(struct forget_inode *inode, bool data_only)
{
	size_t left = 0;

	for (size_t i = 0; i < inode->dirty_count; i++) {
		struct slot *slot = slot_find(inode, inode->dirty[i]);

		if (slot->state == SLOT_DIRTY)
			slot_settle(slot);
		else
			inode->dirty[left++] = inode->dirty[i];
	}
	inode->dirty_count = left;
	if (data_only)
		inode->durable.size_bytes = inode->now.size_bytes;
	else
		inode->durable = inode->now;
}

void forget_sync_failed(struct forget_disk *disk, struct forget_inode *inode)
{
	/* Sometimes none, some, or all. */
	uint64_t written_percent = (uint64_t[]){0, 30, 100}[below(&disk->random, 3)];
	uint64_t gone_percent = (uint64_t[]){0, 0, 50, 100}[below(&disk->random, 4)];
	size_t left = 0;

	for (size_t i = 0; i < inode->dirty_count; i++) {
		struct slot *slot = slot_find(inode, inode->dirty[i]);

		if (slot->state == SLOT_DIRTY && below(&disk->random, 100) < written_percent) {
			slot_settle(slot);
			continue;
		}
		slot->state = SLOT_LOST;
		inode->dirty[left++] = inode->dirty[i];
		if (below(&disk->random, 100) < gone_percent)
			slot_evict(slot);
	}
	inode->dirty_count = left;
}

/* --- copies, and what a power loss leaves --- */

struct copier {
	struct forget_disk *from, *to;
	const struct forget_cut *cut;
	uint64_t random, change_percent; /* of the pages: how many have changed */
};

/* A new page, each sector of it from one of the two. */
static struct page *page_torn(struct copier *c, const struct page *a, const struct page *b)
{
	static const struct page hole;
	struct page *page = take(sizeof(*page));
	uint64_t choice = next_random(&c->random);

	page->refs = 1;
	for (unsigned i = 0; i < FORGET_PAGE_BYTES / SECTOR_BYTES; i++) {
		const struct page *from = choice >> i & 1 ? a : b;

		memcpy(page->data + i * SECTOR_BYTES,
		       (from ? from : &hole)->data + i * SECTOR_BYTES, SECTOR_BYTES);
	}
	return page;
}

/* What is on the medium of a page that was not synced. */
static struct page *page_survivor(struct copier *c, const struct slot *slot, uint64_t index)
{
	const struct forget_cut *cut = c->cut;
	struct page *older = slot->durable, *newer = slot->now;

	if (slot->state == SLOT_LOST || cut->way == FORGET_DROP)
		return page_ref(slot->durable);
	if (cut->way == FORGET_KEEP)
		return page_ref(slot->now);
	if (below(&c->random, 100) >= c->change_percent)
		return page_ref(slot->durable);
	if (slot->version_count && below(&c->random, 3) == 0)
		newer = slot->between;
	else if (slot->version_count && below(&c->random, 3) == 0)
		older = slot->between;
	if (index * FORGET_PAGE_BYTES < cut->torn_end_bytes && below(&c->random, 3) == 0)
		return page_torn(c, older, newer);
	return page_ref(newer);
}

/* Synced or not, the size may be on the medium already; and so may the rest. */
static struct forget_meta meta_survivor(struct copier *c, const struct forget_inode *inode)
{
	const struct forget_cut *cut = c->cut;
	struct forget_meta meta = inode->now;

	if (!cut || cut->way == FORGET_KEEP)
		return meta;
	if (cut->way == FORGET_DROP || below(&c->random, 2) == 0)
		meta = inode->durable;
	if (cut->way == FORGET_MIX)
		meta.size_bytes =
			below(&c->random, 2) ? inode->now.size_bytes : inode->durable.size_bytes;
	return meta;
}

static void file_copy(struct copier *c, const struct forget_inode *inode, struct forget_inode *copy)
{
	uint64_t size = copy->now.size_bytes;

	for (uint64_t i = 0; i < inode->chunk_count * CHUNK_PAGES; i++) {
		const struct slot *slot = slot_find(inode, i);
		struct slot *to;
		struct page *page;

		if (!slot) {
			i |= CHUNK_PAGES - 1;
			continue;
		}
		page = c->cut && slot->state != SLOT_CLEAN ? page_survivor(c, slot, i)
							   : page_ref(slot->now);
		if (i * FORGET_PAGE_BYTES >= size)
			page_set(&page, NULL);
		if (!page && !slot->reserved)
			continue;
		to = slot_make(copy, i);
		to->now = page;
		to->reserved = !page;
		copy->page_count++;
		if (page && size - i * FORGET_PAGE_BYTES < FORGET_PAGE_BYTES)
			memset(slot_data(to) + size % FORGET_PAGE_BYTES, 0,
			       FORGET_PAGE_BYTES - size % FORGET_PAGE_BYTES);
	}
	c->to->used_pages += copy->page_count;
}

static struct forget_inode *inode_copy(struct copier *c, const struct forget_inode *inode)
{
	struct forget_inode *copy = forget_inode(c->to, inode->number);

	if (copy) /* its second name */
		return copy;
	copy = inode_put(c->to, inode->number);
	copy->now = copy->durable = meta_survivor(c, inode);
	memcpy(copy->name, inode->name, sizeof(copy->name));
	if (!forget_is_directory(inode))
		file_copy(c, inode, copy);
	list_for_each (pos, &inode->entries) {
		const struct forget_entry *entry = LIST_ENTRY(pos, struct forget_entry, node);
		const struct forget_inode *named = c->cut ? entry->durable : entry->now;
		struct forget_entry *twin;

		if (!named)
			continue;
		twin = entry_make(c->to, copy, entry->name);
		twin->now = twin->durable = inode_copy(c, named);
		twin->now->links++;
	}
	return copy;
}

/* Of what was done to names since the last sync, a first part is durable after all. */
static void names_survive(struct copier *c)
{
	uint64_t count = 0, kept = 0;

	list_for_each (pos, &c->from->changes)
		count++;
	if (c->cut->way == FORGET_KEEP)
		kept = count;
	else if (c->cut->way == FORGET_MIX)
		kept = below(&c->random, 3) == 0 ? 0 : below(&c->random, count + 1);
	while (kept-- > 0)
		change_apply(c->from, LIST_FIRST(&c->from->changes, struct change, node));
}

struct forget_disk *forget_copy(struct forget_disk *disk, const struct forget_cut *cut)
{
	static const uint8_t percents[] = {0, 10, 50, 90, 100};
	struct copier c = {.from = disk, .to = disk_empty(disk->random), .cut = cut};
	struct forget_inode *root = disk->inodes[FORGET_ROOT];

	if (cut) {
		c.random = cut->seed;
		c.change_percent = percents[below(&c.random, sizeof(percents))];
		names_survive(&c);
		c.to->random = next_random(&c.random);
	}
	c.to->page_limit = disk->page_limit;
	inode_copy(&c, root)->links = 1;
	/* Numbers are not used twice. */
	c.to->inode_count = disk->inode_count;
	if (c.to->inode_room < c.to->inode_count) {
		c.to->inodes = grow(c.to->inodes, c.to->inode_count * sizeof(*c.to->inodes));
		memset(c.to->inodes + c.to->inode_room, 0,
		       (c.to->inode_count - c.to->inode_room) * sizeof(*c.to->inodes));
		c.to->inode_room = c.to->inode_count;
	}
	return c.to;
}
