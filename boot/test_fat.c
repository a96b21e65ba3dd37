/* FAT file systems written by hand. */
#include "boot/test_fat.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "boot/disk.h"

#define SECTOR       512
#define RESERVED     32
#define ROOT_ENTRIES 512

static void put_le16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static void put_le32(uint8_t *p, uint32_t v)
{
	put_le16(p, v & 0xffff);
	put_le16(p + 2, v >> 16);
}

static uint32_t get_le16(const uint8_t *p)
{
	return (uint32_t)(p[0] | p[1] << 8);
}

void test_fat_init(struct test_fat *fat, unsigned bits, uint32_t cluster_bytes, uint32_t clusters)
{
	uint32_t table_sectors = ((clusters + 2) * bits / 8 + SECTOR) / SECTOR, sectors;
	uint8_t *boot;

	memset(fat, 0, sizeof(*fat));
	fat->bits = bits;
	fat->cluster_bytes = cluster_bytes;
	fat->cluster_count = clusters;
	fat->table_offset = RESERVED * SECTOR;
	fat->table_bytes = table_sectors * SECTOR;
	fat->root_offset = fat->table_offset + 2 * fat->table_bytes;
	fat->root_bytes = bits == 32 ? 0 : ROOT_ENTRIES * 32;
	fat->data_offset = fat->root_offset + fat->root_bytes;
	fat->bytes = fat->data_offset + (size_t)clusters * cluster_bytes;
	fat->data = calloc(1, fat->bytes);
	assert(fat->data);
	sectors = (uint32_t)(fat->bytes / SECTOR);
	boot = fat->data;
	put_le16(boot + 11, SECTOR);
	boot[13] = (uint8_t)(cluster_bytes / SECTOR);
	put_le16(boot + 14, RESERVED);
	boot[16] = 2;
	boot[21] = 0xf8;
	put_le16(boot + 17, bits == 32 ? 0 : ROOT_ENTRIES);
	put_le32(boot + 32, sectors);
	if (bits == 32) {
		put_le32(boot + 36, table_sectors);
		put_le32(boot + 44, 2);
	} else {
		put_le16(boot + 22, table_sectors);
	}
	/* So that probe.c knows it for a FAT. */
	memcpy(boot + (bits == 32 ? 64 : 36) + 18, "FAT     ", 8);
	boot[510] = 0x55;
	boot[511] = 0xaa;
	fat->next_cluster = 2;
	if (bits == 32) {
		test_fat_link(fat, 2, 0x0fffffff);
		fat->next_cluster = 3;
	}
}

void test_fat_done(struct test_fat *fat)
{
	free(fat->data);
}

uint32_t test_fat_next(const struct test_fat *fat, uint32_t cluster)
{
	const uint8_t *table = fat->data + fat->table_offset;
	uint32_t pair;

	if (fat->bits == 32)
		return get_le16(table + 4 * cluster) | get_le16(table + 4 * cluster + 2) << 16;
	if (fat->bits == 16)
		return get_le16(table + 2 * cluster);
	pair = get_le16(table + cluster + cluster / 2);
	return cluster % 2 ? pair >> 4 : pair & 0xfff;
}

void test_fat_link(struct test_fat *fat, uint32_t cluster, uint32_t next)
{
	uint8_t *table = fat->data + fat->table_offset;
	uint8_t *place = table + cluster + cluster / 2;

	if (fat->bits == 32)
		put_le32(table + 4 * cluster, next);
	else if (fat->bits == 16)
		put_le16(table + 2 * cluster, next);
	else if (cluster % 2)
		put_le16(place, (get_le16(place) & 0xf) | next << 4);
	else
		put_le16(place, (get_le16(place) & 0xf000) | (next & 0xfff));
}

uint8_t *test_fat_cluster(struct test_fat *fat, uint32_t cluster)
{
	assert(cluster >= 2 && cluster - 2 < fat->cluster_count);
	return fat->data + fat->data_offset + (size_t)(cluster - 2) * fat->cluster_bytes;
}

uint32_t test_fat_first(const uint8_t *entry)
{
	return get_le16(entry + 26) | get_le16(entry + 20) << 16;
}

/* A chain of so many clusters; 0 for none. */
static uint32_t allocate(struct test_fat *fat, size_t bytes)
{
	uint32_t first = 0, last = 0;

	for (size_t done = 0; done < bytes; done += fat->cluster_bytes) {
		uint32_t cluster = fat->next_cluster;

		assert(cluster - 2 < fat->cluster_count);
		fat->next_cluster += 1 + fat->gap;
		test_fat_link(fat, cluster, 0x0fffffff);
		if (last)
			test_fat_link(fat, last, cluster);
		else
			first = cluster;
		last = cluster;
	}
	return first;
}

/* --- folders: a chain of clusters, or FAT12's and FAT16's root (cluster 0) --- */

static uint8_t *slot(struct test_fat *fat, uint32_t folder, size_t index)
{
	size_t at = index * 32;

	if (folder == 0 && fat->bits != 32) {
		assert(at < fat->root_bytes);
		return fat->data + fat->root_offset + at;
	}
	if (folder == 0)
		folder = 2;
	for (; at >= fat->cluster_bytes; at -= fat->cluster_bytes) {
		uint32_t next = test_fat_next(fat, folder);

		if (next < 2 || next - 2 >= fat->cluster_count) {
			next = allocate(fat, 1);
			test_fat_link(fat, folder, next);
		}
		folder = next;
	}
	return test_fat_cluster(fat, folder) + at;
}

static uint8_t checksum(const uint8_t *name)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1) + (sum << 7) + name[i]);
	return sum;
}

static bool is_short(const char *name, size_t bytes, uint8_t ret_short[11])
{
	size_t dot = strcspn(name, "."), extension;

	if (dot > bytes)
		dot = bytes;
	extension = dot < bytes ? bytes - dot - 1 : 0;
	memset(ret_short, ' ', 11);
	if (dot == 0 || dot > 8 || extension > 3)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		if ((name[i] >= 'a' && name[i] <= 'z') || (name[i] == '.' && i != dot))
			return false;
	}
	memcpy(ret_short, name, dot);
	if (extension)
		memcpy(ret_short + 8, name + dot + 1, extension);
	return true;
}

/* Long names here are ASCII or UTF-8 of two bytes. */
static size_t units_of(const char *name, size_t bytes, uint16_t *ret_units)
{
	size_t count = 0;

	for (size_t i = 0; i < bytes; i++) {
		uint8_t c = (uint8_t)name[i];

		if (c >= 0xc0)
			ret_units[count++] = (uint16_t)((c & 0x1f) << 6 | (name[++i] & 0x3f));
		else
			ret_units[count++] = c;
	}
	return count;
}

static uint8_t *add_entry(struct test_fat *fat, uint32_t folder, const char *name, size_t bytes,
			  uint8_t attributes)
{
	static const uint8_t places[13] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
	uint8_t short_form[11], *entry;
	size_t index = 0;

	while (slot(fat, folder, index)[0] != 0)
		index++;
	if (!is_short(name, bytes, short_form)) {
		uint16_t units[300];
		size_t count = units_of(name, bytes, units), parts = (count + 12) / 13;
		char made[16];

		(void)snprintf(made, sizeof(made), "LONG%04zu~1", index);
		memcpy(short_form, made, 8);
		memcpy(short_form + 8, "TMP", 3);
		for (size_t part = parts; part-- > 0; index++) {
			entry = slot(fat, folder, index);
			entry[0] = (uint8_t)((part + 1) | (part + 1 == parts ? 0x40 : 0));
			entry[11] = 0x0f;
			entry[13] = checksum(short_form);
			for (size_t i = 0; i < 13; i++) {
				size_t at = part * 13 + i;

				put_le16(entry + places[i], at < count    ? units[at]
							    : at == count ? 0
									  : 0xffff);
			}
		}
	}
	entry = slot(fat, folder, index);
	memcpy(entry, short_form, 11);
	entry[11] = attributes;
	return entry;
}

/* The entry of a name, by the reader's own rules as this maker writes them. */
static uint8_t *find_entry(struct test_fat *fat, uint32_t folder, const char *name, size_t bytes)
{
	uint8_t short_form[11];
	uint16_t units[300];
	size_t count = units_of(name, bytes, units);
	bool brief = is_short(name, bytes, short_form);

	for (size_t i = 0; slot(fat, folder, i)[0] != 0; i++) {
		const uint8_t *entry = slot(fat, folder, i);
		bool same = true;

		if (brief && memcmp(entry, short_form, 11) == 0)
			return slot(fat, folder, i);
		if (brief || entry[11] != 0x0f || !(entry[0] & 0x40) ||
		    (size_t)(entry[0] & 0x3f) != (count + 12) / 13)
			continue;
		for (size_t at = 0; at < count && same; at++) {
			static const uint8_t places[13] = {1,  3,  5,  7,  9,  14, 16,
							   18, 20, 22, 24, 28, 30};
			const uint8_t *part =
				slot(fat, folder, i + (count + 12) / 13 - 1 - at / 13);

			same = get_le16(part + places[at % 13]) == units[at];
		}
		if (same)
			return slot(fat, folder, i + (count + 12) / 13);
	}
	return NULL;
}

static void set_first(uint8_t *entry, uint32_t cluster)
{
	put_le16(entry + 26, cluster & 0xffff);
	put_le16(entry + 20, cluster >> 16);
}

static uint32_t folder_get(struct test_fat *fat, uint32_t parent, const char *name, size_t bytes)
{
	uint8_t *entry = find_entry(fat, parent, name, bytes);
	uint32_t cluster;

	if (entry)
		return test_fat_first(entry);
	cluster = allocate(fat, 1);
	set_first(add_entry(fat, parent, name, bytes, 0x10), cluster);
	entry = slot(fat, cluster, 0);
	memcpy(entry, ".          ", 11);
	entry[11] = 0x10;
	set_first(entry, cluster);
	entry = slot(fat, cluster, 1);
	memcpy(entry, "..         ", 11);
	entry[11] = 0x10;
	set_first(entry, parent);
	return cluster;
}

static uint32_t folder_of(struct test_fat *fat, const char **path)
{
	uint32_t folder = 0;
	const char *slash;

	while ((slash = strchr(*path, '/'))) {
		folder = folder_get(fat, folder, *path, (size_t)(slash - *path));
		*path = slash + 1;
	}
	return folder;
}

void test_fat_put(struct test_fat *fat, const char *path, const void *data, size_t bytes)
{
	uint32_t folder = folder_of(fat, &path), cluster = allocate(fat, bytes);
	uint8_t *entry = add_entry(fat, folder, path, strlen(path), 0x20);

	set_first(entry, cluster);
	put_le32(entry + 28, (uint32_t)bytes);
	for (size_t done = 0; done < bytes; done += fat->cluster_bytes) {
		size_t step = bytes - done < fat->cluster_bytes ? bytes - done : fat->cluster_bytes;

		memcpy(test_fat_cluster(fat, cluster), (const uint8_t *)data + done, step);
		cluster = test_fat_next(fat, cluster);
	}
}

void test_fat_put_text(struct test_fat *fat, const char *path, const char *text)
{
	test_fat_put(fat, path, text, strlen(text));
}

uint8_t *test_fat_entry(struct test_fat *fat, const char *path)
{
	uint32_t folder = folder_of(fat, &path);
	uint8_t *entry = find_entry(fat, folder, path, strlen(path));

	assert(entry);
	return entry;
}

/* --- a disk in memory --- */

struct memory {
	const uint8_t *data;
	size_t bytes;
};

static int memory_read(void *arg, void *to, size_t bytes, uint64_t offset)
{
	const struct memory *memory = arg;

	/* The disk never asks beyond its end. */
	assert(offset <= memory->bytes && bytes <= memory->bytes - offset);
	memcpy(to, memory->data + offset, bytes);
	return 0;
}

struct disk *test_disk(const void *data, size_t bytes)
{
	static const struct disk_ops ops = {memory_read, free};
	struct memory *memory = malloc(sizeof(*memory));
	struct disk *disk;

	assert(memory);
	*memory = (struct memory){data, bytes};
	disk = disk_new(&ops, memory, bytes);
	assert(disk);
	return disk;
}
