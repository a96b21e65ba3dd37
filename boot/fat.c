/*
 * The layout is worked out and checked once; then all folders are walked and the files' first
 * clusters kept. The table of clusters is read entry by entry, through the disk's cache: a hostile
 * one may be a gigabyte long.
 */
#include "boot/fat.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf16.h"
#include "boot/disk.h"

#define ENTRY_BYTES 32

#define ATTR_VOLUME 0x08
#define ATTR_FOLDER 0x10
#define ATTR_LONG   0x0f /* all of read-only, hidden, system, volume */
#define ATTR_MASK   0x3f

#define LOWER_BASE      0x08 /* Windows NT's flags for short names in small letters */
#define LOWER_EXTENSION 0x10

#define LONG_LAST       0x40
#define LONG_UNITS      13 /* UTF-16 units in one entry */
#define LONG_PARTS_MAX  20
#define SHORT_DELETED   0xe5
#define SHORT_IS_E5     0x05
#define FAT12_CLUSTERS  4084
#define FAT16_CLUSTERS  65524
#define FAT32_CLUSTERS  0x0ffffff5u
#define CLUSTER_FIRST   2
#define NAME_BYTES_MAX  (LIMIT_TREE_PATH_BYTES + 8)
#define SECTOR_BYTES    512
#define SIGNATURE_PLACE 510

struct fat {
	struct disk *disk;
	unsigned bits;                      /* 12, 16, 32 */
	uint64_t table_offset, data_offset; /* on the disk */
	uint64_t root_offset;               /* FAT12 and 16 */
	uint32_t root_bytes;
	uint32_t root_cluster; /* FAT32 */
	uint32_t cluster_bytes, cluster_count;
};

static uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_le32(const uint8_t *p)
{
	return get_le16(p) | (uint32_t)get_le16(p + 2) << 16;
}

/* --- the layout --- */

static bool is_power_of_2(uint32_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* False: this is no FAT file system that fits into `bytes`. */
static bool layout_parse(struct fat *fat, const uint8_t *boot, uint64_t offset, uint64_t bytes)
{
	uint32_t sector = get_le16(boot + 11), per_cluster = boot[13], tables = boot[16];
	uint64_t reserved = get_le16(boot + 14);
	uint64_t table_sectors = get_le16(boot + 22), sectors = get_le16(boot + 19);
	uint64_t root_sectors, data, clusters, in_table;
	bool fat32 = table_sectors == 0;

	if (get_le16(boot + SIGNATURE_PLACE) != 0xaa55 || !is_power_of_2(sector) || sector < 512 ||
	    sector > 4096 || !is_power_of_2(per_cluster) || reserved == 0 || tables == 0)
		return false;
	if (fat32)
		table_sectors = get_le32(boot + 36);
	if (sectors == 0)
		sectors = get_le32(boot + 32);
	root_sectors = ((uint64_t)get_le16(boot + 17) * ENTRY_BYTES + sector - 1) / sector;
	data = reserved + tables * table_sectors + root_sectors;
	if (table_sectors == 0 || data >= sectors || sectors > bytes / sector)
		return false;
	clusters = (sectors - data) / per_cluster;
	fat->bits = fat32 ? 32 : clusters <= FAT12_CLUSTERS ? 12 : 16;
	in_table = table_sectors * sector * 8 / fat->bits;
	if (clusters == 0 || in_table <= CLUSTER_FIRST)
		return false;
	if (clusters > in_table - CLUSTER_FIRST)
		clusters = in_table - CLUSTER_FIRST;
	if (clusters > (fat32 ? FAT32_CLUSTERS : FAT16_CLUSTERS))
		clusters = fat32 ? FAT32_CLUSTERS : FAT16_CLUSTERS;
	fat->cluster_count = (uint32_t)clusters;
	fat->cluster_bytes = sector * per_cluster;
	fat->table_offset = offset + reserved * sector;
	/* One table may be named as the only good one. */
	if (fat32 && (boot[40] & 0x80) && (boot[40] & 0x0f) < tables)
		fat->table_offset += (boot[40] & 0x0f) * table_sectors * sector;
	fat->root_offset = offset + (reserved + tables * table_sectors) * sector;
	fat->root_bytes = fat32 ? 0 : (uint32_t)get_le16(boot + 17) * ENTRY_BYTES;
	fat->root_cluster = fat32 ? get_le32(boot + 44) : 0;
	fat->data_offset = offset + data * sector;
	return fat32 || fat->root_bytes > 0;
}

/* --- chains --- */

static bool cluster_good(const struct fat *fat, uint32_t cluster)
{
	return cluster >= CLUSTER_FIRST && cluster - CLUSTER_FIRST < fat->cluster_count;
}

/* What the table says of a good cluster: the next one, or anything that is no good cluster. */
static int cluster_next(const struct fat *fat, uint32_t cluster, uint32_t *ret_next)
{
	uint8_t entry[4] = {0};
	uint64_t place = fat->bits == 12   ? cluster + cluster / 2
			 : fat->bits == 16 ? (uint64_t)cluster * 2
					   : (uint64_t)cluster * 4;
	int res;

	assert(cluster_good(fat, cluster));
	res = disk_read(fat->disk, entry, fat->bits == 32 ? 4 : 2, fat->table_offset + place);
	if (res)
		return res;
	if (fat->bits == 12)
		*ret_next = cluster % 2 ? get_le16(entry) >> 4 : get_le16(entry) & 0x0fff;
	else
		*ret_next = get_le32(entry) & 0x0fffffff;
	return 0;
}

/* Reads along a chain. Neighbours are read at once. It ends with the bytes that are wanted, so a
 * chain that bites its tail does no harm. */
static int chain_read(const struct fat *fat, uint32_t cluster, uint8_t *to, uint64_t bytes)
{
	while (bytes > 0) {
		uint32_t first = cluster, next = 0;
		uint64_t run = 0;
		int res = 0;

		do {
			if (!cluster_good(fat, cluster))
				return -EUCLEAN;
			run += fat->cluster_bytes;
			if (run >= bytes)
				break;
			res = cluster_next(fat, cluster, &next);
			if (res)
				return res;
			cluster = next;
		} while (next == first + run / fat->cluster_bytes);
		if (run > bytes)
			run = bytes;
		res = disk_read(fat->disk, to, (size_t)run,
				fat->data_offset +
					(uint64_t)(first - CLUSTER_FIRST) * fat->cluster_bytes);
		if (res)
			return res;
		to += run;
		bytes -= run;
	}
	return 0;
}

/* --- names --- */

/* The parts of a long name as they come, last part first. */
struct long_name {
	uint8_t units[LONG_PARTS_MAX * LONG_UNITS * 2];
	unsigned parts, left; /* left: 0 when complete, > parts when there is none */
	uint8_t checksum;
};

static void long_reset(struct long_name *name)
{
	name->parts = 0;
	name->left = 1;
}

static void long_take(struct long_name *name, const uint8_t *entry)
{
	static const uint8_t places[LONG_UNITS] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
	unsigned number = entry[0] & 0x3f;

	if (entry[0] & LONG_LAST) {
		name->parts = name->left = number;
		name->checksum = entry[13];
	}
	if (number == 0 || number > LONG_PARTS_MAX || name->parts == 0 || number != name->left ||
	    entry[13] != name->checksum) {
		long_reset(name);
		return;
	}
	for (unsigned i = 0; i < LONG_UNITS; i++)
		memcpy(name->units + 2 * ((number - 1) * LONG_UNITS + i), entry + places[i], 2);
	name->left--;
}

static uint8_t short_checksum(const uint8_t *name)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 11; i++)
		sum = (uint8_t)((sum << 7 | sum >> 1) + name[i]);
	return sum;
}

/* Bytes beyond ASCII depend on a code page that nobody knows: such a name is none. */
static size_t short_part(char *to, const uint8_t *from, unsigned width, bool lower)
{
	size_t bytes = 0;

	while (width > 0 && from[width - 1] == ' ')
		width--;
	for (unsigned i = 0; i < width; i++) {
		uint8_t c = from[i];

		to[bytes++] = (char)(lower && c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
	}
	return bytes;
}

static size_t short_name(char *to, const uint8_t *entry)
{
	uint8_t name[11];
	size_t bytes, extension;

	memcpy(name, entry, sizeof(name));
	if (name[0] == SHORT_IS_E5)
		name[0] = SHORT_DELETED;
	bytes = short_part(to, name, 8, entry[12] & LOWER_BASE);
	extension = short_part(to + bytes + 1, name + 8, 3, entry[12] & LOWER_EXTENSION);
	if (extension == 0)
		return bytes;
	to[bytes] = '.';
	return bytes + 1 + extension;
}

/* The name of a file or folder, long if it has one; 0 if it is not fit to be served. */
static size_t entry_name(char ret_name[NAME_BYTES_MAX], const struct long_name *name,
			 const uint8_t *entry)
{
	size_t bytes;

	if (name->parts > 0 && name->left == 0 && name->checksum == short_checksum(entry)) {
		int length = utf16le_to_utf8(ret_name, NAME_BYTES_MAX, name->units,
					     (size_t)name->parts * LONG_UNITS);

		bytes = length < 0 ? 0 : (size_t)length;
	} else {
		bytes = short_name(ret_name, entry);
	}
	return tree_name_clean(ret_name, bytes) ? bytes : 0;
}

/* --- folders --- */

struct walk {
	struct fat *fat;
	struct tree *tree;
	uint64_t bytes_left; /* of folders, all together */
	unsigned folder_count;
	uint32_t folders[LIMIT_TREE_FOLDERS]; /* first clusters: a folder within itself is not gone
						 into again */
	char path[LIMIT_TREE_PATH_BYTES + 1];
};

static int walk_chain(struct walk *walk, uint32_t cluster, unsigned depth);

static int walk_into(struct walk *walk, uint32_t cluster, unsigned depth)
{
	int res;

	if (depth >= LIMIT_TREE_DEPTH || walk->folder_count >= LIMIT_TREE_FOLDERS)
		return 0;
	for (unsigned i = 0; i < walk->folder_count; i++) {
		if (walk->folders[i] == cluster)
			return 0;
	}
	walk->folders[walk->folder_count++] = cluster;
	res = walk_chain(walk, cluster, depth);
	/* What is damaged below does not take away what is around it. */
	return res == -EUCLEAN ? 0 : res;
}

static int walk_entry(struct walk *walk, const uint8_t *entry, const char *name, size_t bytes,
		      unsigned depth)
{
	size_t used = strlen(walk->path);
	uint32_t cluster = get_le16(entry + 26);
	int res;

	if (walk->fat->bits == 32)
		cluster |= (uint32_t)get_le16(entry + 20) << 16;
	if (used + 1 + bytes >= sizeof(walk->path))
		return 0;
	if (used > 0)
		walk->path[used] = '/';
	memcpy(walk->path + used + (used > 0), name, bytes);
	walk->path[used + (used > 0) + bytes] = '\0';
	if (entry[11] & ATTR_FOLDER)
		res = walk_into(walk, cluster, depth + 1);
	else
		res = tree_add(walk->tree, &(struct tree_file){
						   .path = walk->path,
						   .bytes = get_le32(entry + 28),
						   .id = cluster,
					   });
	walk->path[used] = '\0';
	return res;
}

/* The entries of a piece of a folder; *ret_end at its last one. */
static int walk_entries(struct walk *walk, const uint8_t *data, size_t bytes,
			struct long_name *name, unsigned depth, bool *ret_end)
{
	for (size_t at = 0; at + ENTRY_BYTES <= bytes; at += ENTRY_BYTES) {
		const uint8_t *entry = data + at;
		char text[NAME_BYTES_MAX];
		size_t length;
		int res;

		if (entry[0] == 0) {
			*ret_end = true;
			return 0;
		}
		if (entry[0] == SHORT_DELETED) {
			long_reset(name);
			continue;
		}
		if ((entry[11] & ATTR_MASK) == ATTR_LONG) {
			long_take(name, entry);
			continue;
		}
		length = entry[11] & ATTR_VOLUME ? 0 : entry_name(text, name, entry);
		long_reset(name);
		if (length == 0)
			continue;
		res = walk_entry(walk, entry, text, length, depth);
		if (res)
			return res;
	}
	return 0;
}

/* A folder that is a chain of clusters. */
static int walk_chain(struct walk *walk, uint32_t cluster, unsigned depth)
{
	const struct fat *fat = walk->fat;
	uint32_t bytes_max = LIMIT_FAT_FOLDER_BYTES;
	struct long_name name;
	uint8_t *data;
	bool end = false;
	int res = 0;

	if (bytes_max < fat->cluster_bytes)
		bytes_max = fat->cluster_bytes;
	data = malloc(fat->cluster_bytes);
	if (!data)
		return -ENOMEM;
	long_reset(&name);
	for (uint32_t bytes = 0; bytes < bytes_max && !end && !res; bytes += fat->cluster_bytes) {
		if (walk->bytes_left < fat->cluster_bytes)
			res = -E2BIG;
		else
			res = chain_read(fat, cluster, data, fat->cluster_bytes);
		walk->bytes_left -= res ? 0 : fat->cluster_bytes;
		if (!res)
			res = walk_entries(walk, data, fat->cluster_bytes, &name, depth, &end);
		if (!res && !end)
			res = cluster_next(fat, cluster, &cluster);
		/* No next one: a folder that fills its clusters has no end mark. */
		if (!res && !cluster_good(fat, cluster))
			break;
	}
	free(data);
	return res;
}

static int walk_root(struct walk *walk)
{
	const struct fat *fat = walk->fat;
	struct long_name name;
	uint8_t *data;
	bool end = false;
	int res;

	if (fat->bits == 32) {
		walk->folders[walk->folder_count++] = fat->root_cluster;
		return walk_chain(walk, fat->root_cluster, 0);
	}
	data = malloc(fat->root_bytes);
	if (!data)
		return -ENOMEM;
	long_reset(&name);
	res = disk_read(fat->disk, data, fat->root_bytes, fat->root_offset);
	if (!res)
		res = walk_entries(walk, data, fat->root_bytes, &name, 0, &end);
	free(data);
	return res;
}

/* --- the tree --- */

static int fat_read(void *arg, const struct tree_file *file, void *to)
{
	const struct fat *fat = arg;

	return chain_read(fat, (uint32_t)file->id, to, file->bytes);
}

static int walk_all(struct fat *fat, struct tree *tree)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	int res;

	if (!walk)
		return -ENOMEM;
	walk->fat = fat;
	walk->tree = tree;
	walk->bytes_left = LIMIT_FAT_FOLDERS_BYTES;
	res = walk_root(walk);
	free(walk);
	return res;
}

int fat_tree(struct disk *disk, uint64_t offset, uint64_t bytes, struct tree **ret_tree,
	     struct boot_error *ret_error)
{
	static const struct tree_ops ops = {fat_read, free};
	struct fat *fat = calloc(1, sizeof(*fat));
	uint8_t boot[SECTOR_BYTES] = {0};
	struct tree *tree;
	int res;

	if (!fat)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	fat->disk = disk;
	res = bytes < sizeof(boot) ? -EUCLEAN : disk_read(disk, boot, sizeof(boot), offset);
	if (!res && !layout_parse(fat, boot, offset, bytes))
		res = -EUCLEAN;
	if (res) {
		free(fat);
		return boot_fail(ret_error, res, "%s",
				 res == -EUCLEAN ? "there is no FAT file system that makes sense"
						 : strerror(-res));
	}
	tree = tree_new(&ops, fat);
	res = tree ? walk_all(fat, tree) : -ENOMEM;
	if (res) {
		tree_free(tree);
		return boot_fail(ret_error, res, "%s",
				 res == -E2BIG ? "it has too many files for a boot partition"
				 : res == -EUCLEAN
					 ? "its root folder is damaged: run fsck.vfat on it"
					 : strerror(-res));
	}
	tree_finish(tree);
	*ret_tree = tree;
	return 0;
}
