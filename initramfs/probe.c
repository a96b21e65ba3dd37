/*
 * Reading of partition tables and superblocks. Numbers of partitions are counted as Linux counts
 * them, for it is Linux's device that is mounted; what Linux refuses (a GPT without its protective
 * MBR, entries past the end of the disk) is refused here, too.
 *
 * Sectors have 512 bytes: that is what lunroot's disks report.
 */
#include "initramfs/probe.h"

#include <stdio.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/utf16.h"
#include "base/utf8.h"

#define SECTOR_BYTES  512
#define HEAD_BYTES    4096 /* of a volume: all superblocks but btrfs's lie in it */
#define BTRFS_OFFSET  65536
#define BTRFS_BYTES   1024
#define PRIMARY_COUNT 4
#define LOGICAL_FIRST 5

/* GPT (UEFI 2.10, 5.3): Linux takes entries of 128 bytes only; all tools make 128 of them. */
#define GPT_ENTRY_BYTES  128
#define GPT_ENTRIES_MAX  1024
#define GPT_HEADER_BYTES 92

struct disk {
	probe_read_fn read;
	void *arg;
	uint64_t sectors, bytes;
	struct probe_disk *found;
};

static uint16_t get_le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get_le32(const uint8_t *p)
{
	return get_le16(p) | (uint32_t)get_le16(p + 2) << 16;
}

static uint64_t get_le64(const uint8_t *p)
{
	return get_le32(p) | (uint64_t)get_le32(p + 4) << 32;
}

static int read_sector(const struct disk *disk, uint64_t sector, uint8_t ret_data[SECTOR_BYTES])
{
	return disk->read(disk->arg, ret_data, SECTOR_BYTES, sector * SECTOR_BYTES);
}

/* --- texts --- */

static bool all_zero(const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (data[i])
			return false;
	}
	return true;
}

/* A label of fixed width, ended by a NUL or filled up with blanks. What is no text is no label. */
static void put_label(char *ret_label, size_t capacity, const uint8_t *data, size_t bytes)
{
	const char *text = (const char *)data;

	bytes = strnlen(text, bytes);
	while (bytes > 0 && text[bytes - 1] == ' ')
		bytes--;
	if (bytes >= capacity || !utf8_clean(text, bytes))
		bytes = 0;
	memcpy(ret_label, text, bytes);
	ret_label[bytes] = '\0';
}

static void put_label_utf16(char *ret_label, size_t capacity, const uint8_t *data, size_t units)
{
	int bytes = utf16le_to_utf8(ret_label, capacity, data, units);

	if (bytes < 0 || !utf8_clean(ret_label, (size_t)bytes))
		bytes = 0;
	ret_label[bytes] = '\0';
}

/* Sixteen bytes in the order they are printed in; all zero is none. */
static void put_uuid(char ret_uuid[37], const uint8_t *data)
{
	size_t at = 0;

	ret_uuid[0] = '\0';
	if (all_zero(data, 16))
		return;
	for (unsigned i = 0; i < 16; i++) {
		at += (size_t)snprintf(ret_uuid + at, 37 - at, "%s%02x",
				       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", data[i]);
	}
}

/* A GUID's first three fields are little-endian. */
static void put_guid(char ret_uuid[37], const uint8_t *guid)
{
	static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
	uint8_t data[16];

	for (unsigned i = 0; i < 16; i++)
		data[i] = guid[order[i]];
	put_uuid(ret_uuid, data);
}

/* --- superblocks: true and the volume filled in, if `head` begins one --- */

#define EXT_COMPAT_JOURNAL       0x0004
#define EXT_INCOMPAT_JOURNAL_DEV 0x0008
/* What a driver of ext2 and one of ext3 know; anything else needs ext4. */
#define EXT2_INCOMPAT  0x0012 /* file type in directories, meta block groups */
#define EXT3_INCOMPAT  0x0016 /* and a journal to be replayed */
#define EXT3_RO_COMPAT 0x0007 /* sparse super, large file, btree directories */

static bool find_ext(const uint8_t *head, struct probe_volume *volume)
{
	const uint8_t *sb = head + 1024;
	uint32_t compat = get_le32(sb + 0x5c), incompat = get_le32(sb + 0x60);
	uint32_t ro_compat = get_le32(sb + 0x64);
	bool journal = compat & EXT_COMPAT_JOURNAL;
	uint32_t known = journal ? EXT3_INCOMPAT : EXT2_INCOMPAT;
	const char *type = journal ? "ext3" : "ext2";

	/* Two bytes of magic prove little: counts, block size and revision must make sense. */
	if (get_le16(sb + 0x38) != 0xef53 || get_le32(sb + 0x18) > 6 || get_le32(sb + 0x4c) > 1 ||
	    (get_le32(sb + 4) == 0 && get_le32(sb + 0x150) == 0))
		return false;
	if (incompat & EXT_INCOMPAT_JOURNAL_DEV)
		type = "jbd"; /* a journal alone has no inodes */
	else if (get_le32(sb) == 0)
		return false;
	else if ((incompat & ~known) || (ro_compat & ~(uint32_t)EXT3_RO_COMPAT))
		type = "ext4";
	memcpy(volume->fstype, type, strlen(type) + 1);
	put_uuid(volume->uuid, sb + 0x68);
	put_label(volume->label, sizeof(volume->label), sb + 0x78, 16);
	return true;
}

static bool find_xfs(const uint8_t *head, struct probe_volume *volume)
{
	uint32_t block = get_be32(head + 4);

	if (memcmp(head, "XFSB", 4) != 0 || block < 512 || block > 65536 || (block & (block - 1)))
		return false;
	strcpy(volume->fstype, "xfs");
	put_uuid(volume->uuid, head + 32);
	put_label(volume->label, sizeof(volume->label), head + 108, 12);
	return true;
}

static bool find_f2fs(const uint8_t *head, struct probe_volume *volume)
{
	const uint8_t *sb = head + 1024;

	if (get_le32(sb) != 0xf2f52010 || get_le32(sb + 16) < 12 || get_le32(sb + 16) > 16)
		return false;
	strcpy(volume->fstype, "f2fs");
	put_uuid(volume->uuid, sb + 108);
	put_label_utf16(volume->label, sizeof(volume->label), sb + 124, 512);
	return true;
}

static bool find_squashfs(const uint8_t *head, struct probe_volume *volume)
{
	if (memcmp(head, "hsqs", 4) != 0 || get_le16(head + 28) != 4)
		return false;
	strcpy(volume->fstype, "squashfs");
	return true;
}

static bool find_erofs(const uint8_t *head, struct probe_volume *volume)
{
	const uint8_t *sb = head + 1024;

	if (get_le32(sb) != 0xe0f5e1e2 || sb[12] < 9 || sb[12] > 16)
		return false;
	strcpy(volume->fstype, "erofs");
	put_uuid(volume->uuid, sb + 48);
	put_label(volume->label, sizeof(volume->label), sb + 64, 16);
	return true;
}

/*
 * An MBR and many a boot sector end with 55AA as well, so the whole parameter block must make
 * sense and one of the two places must say FAT.
 */
static bool find_vfat(const uint8_t *head, struct probe_volume *volume)
{
	unsigned sector = get_le16(head + 11), cluster = head[13], reserved = get_le16(head + 14);
	bool fat32 = get_le16(head + 22) == 0;
	const uint8_t *extended = head + (fat32 ? 64 : 36);

	if (head[510] != 0x55 || head[511] != 0xaa || sector < 512 || sector > 4096 ||
	    (sector & (sector - 1)) || cluster == 0 || (cluster & (cluster - 1)) || reserved == 0 ||
	    head[16] == 0 || head[16] > 2 || (head[21] != 0xf0 && head[21] < 0xf8) ||
	    memcmp(extended + 18, "FAT", 3) != 0)
		return false;
	strcpy(volume->fstype, "vfat");
	if (extended[2] != 0x28 && extended[2] != 0x29)
		return true;
	(void)snprintf(volume->uuid, sizeof(volume->uuid), "%04X-%04X", get_le16(extended + 5),
		       get_le16(extended + 3));
	if (extended[2] == 0x29 && memcmp(extended + 7, "NO NAME    ", 11) != 0)
		put_label(volume->label, sizeof(volume->label), extended + 7, 11);
	return true;
}

static int find_btrfs(const struct disk *disk, struct probe_volume *volume, bool *ret_found)
{
	uint8_t sb[BTRFS_BYTES];
	int res;

	if (volume->size_bytes < BTRFS_OFFSET + BTRFS_BYTES)
		return 0;
	res = disk->read(disk->arg, sb, sizeof(sb), volume->offset_bytes + BTRFS_OFFSET);
	if (res || memcmp(sb + 0x40, "_BHRfS_M", 8) != 0)
		return res;
	strcpy(volume->fstype, "btrfs");
	put_uuid(volume->uuid, sb + 0x20);
	put_label(volume->label, sizeof(volume->label), sb + 0x12b, 256);
	*ret_found = true;
	return 0;
}

/* The mark ends the first page, and pages have many sizes (a Pi 5's have 16 KiB). */
static int find_swap(const struct disk *disk, const uint8_t *head, struct probe_volume *volume)
{
	if (get_le32(head + 1024) != 1)
		return 0;
	for (unsigned page = 4096; page <= 65536 && page <= volume->size_bytes; page *= 2) {
		char mark[10];
		int res = disk->read(disk->arg, mark, sizeof(mark),
				     volume->offset_bytes + page - sizeof(mark));

		if (res)
			return res;
		if (memcmp(mark, "SWAPSPACE2", sizeof(mark)) == 0) {
			strcpy(volume->fstype, "swap");
			put_uuid(volume->uuid, head + 1036);
			put_label(volume->label, sizeof(volume->label), head + 1052, 16);
			return 0;
		}
	}
	return 0;
}

/*
 * What is in a volume whose place is known. Two file systems' marks at once mean that one is left
 * over from earlier: which, is not guessed. FAT's and swap's marks often are left over, so they
 * count only alone.
 */
static int find_contents(const struct disk *disk, struct probe_volume *volume)
{
	static bool (*const finders[])(const uint8_t *, struct probe_volume *) = {
		find_ext, find_xfs, find_f2fs, find_squashfs, find_erofs,
	};
	uint8_t head[HEAD_BYTES] = {0};
	const struct probe_volume empty = *volume;
	bool btrfs = false;
	unsigned marks = 0;
	int res = disk->read(disk->arg, head,
			     volume->size_bytes < HEAD_BYTES ? (size_t)volume->size_bytes
							     : HEAD_BYTES,
			     volume->offset_bytes);

	if (res)
		return res;
	for (size_t i = 0; i < sizeof(finders) / sizeof(finders[0]); i++)
		marks += finders[i](head, volume);
	res = find_btrfs(disk, volume, &btrfs);
	if (res)
		return res;
	marks += btrfs;
	if (marks > 1)
		*volume = empty;
	if (marks > 0 || find_vfat(head, volume))
		return 0;
	return find_swap(disk, head, volume);
}

/* Adds a volume; the place was checked by the caller against the disk's size. */
static int add_volume(const struct disk *disk, const struct probe_volume *volume)
{
	struct probe_disk *found = disk->found;
	int res;

	if (found->count > PROBE_PARTITIONS_MAX)
		return 0;
	found->volumes[found->count] = *volume;
	res = find_contents(disk, &found->volumes[found->count]);
	if (!res)
		found->count++;
	return res;
}

/* --- MBR --- */

struct mbr_entry {
	uint8_t flags, type;
	uint32_t start, sectors;
};

static struct mbr_entry mbr_entry(const uint8_t *sector, unsigned index)
{
	const uint8_t *p = sector + 446 + 16 * (size_t)index;

	return (struct mbr_entry){p[0], p[4], get_le32(p + 8), get_le32(p + 12)};
}

static bool mbr_marked(const uint8_t *sector)
{
	return sector[510] == 0x55 && sector[511] == 0xaa;
}

static bool mbr_extended(const struct mbr_entry *entry)
{
	return entry->type == 0x05 || entry->type == 0x0f || entry->type == 0x85;
}

static int mbr_add(const struct disk *disk, unsigned number, uint64_t start, uint64_t sectors,
		   uint32_t signature)
{
	struct probe_volume volume = {.partition = number};

	if (start == 0 || start >= disk->sectors || sectors > disk->sectors - start)
		return 0;
	volume.offset_bytes = start * SECTOR_BYTES;
	volume.size_bytes = sectors * SECTOR_BYTES;
	if (signature)
		(void)snprintf(volume.partuuid, sizeof(volume.partuuid), "%08x-%02x", signature,
			       number);
	return add_volume(disk, &volume);
}

/*
 * Whether Linux makes a logical partition of a chain sector's entry. The third and fourth, which
 * should be empty, are seen to hold rubbish: they count only if they lie within.
 */
static bool logical_counts(const struct mbr_entry *entry, unsigned index, uint64_t at,
			   uint64_t at_sectors, const struct mbr_entry *outer)
{
	uint64_t start = at + entry->start;

	if (entry->sectors == 0 || mbr_extended(entry))
		return false;
	return index < 2 ||
	       ((uint64_t)entry->start + entry->sectors <= at_sectors && start >= outer->start &&
		start + entry->sectors <= (uint64_t)outer->start + outer->sectors);
}

/* The chain of an extended partition; each link is visited once. */
static int mbr_walk(const struct disk *disk, const struct mbr_entry *outer, uint32_t signature,
		    unsigned *number)
{
	uint64_t visited[PROBE_PARTITIONS_MAX];
	uint64_t at = outer->start, at_sectors = outer->sectors;

	for (unsigned link = 0; link < PROBE_PARTITIONS_MAX; link++) {
		uint8_t sector[SECTOR_BYTES];
		bool more = false;
		int res;

		for (unsigned i = 0; i < link; i++) {
			if (visited[i] == at)
				return 0;
		}
		visited[link] = at;
		if (at == 0 || at >= disk->sectors)
			return 0;
		res = read_sector(disk, at, sector);
		if (res || !mbr_marked(sector))
			return res;
		for (unsigned i = 0; i < PRIMARY_COUNT; i++) {
			struct mbr_entry entry = mbr_entry(sector, i);

			if (!logical_counts(&entry, i, at, at_sectors, outer))
				continue;
			res = mbr_add(disk, (*number)++, at + entry.start, entry.sectors,
				      signature);
			if (res)
				return res;
		}
		for (unsigned i = 0; i < PRIMARY_COUNT && !more; i++) {
			struct mbr_entry entry = mbr_entry(sector, i);

			if (entry.sectors == 0 || !mbr_extended(&entry))
				continue;
			at = (uint64_t)outer->start + entry.start;
			at_sectors = entry.sectors;
			more = true;
		}
		if (!more)
			return 0;
	}
	return 0;
}

/* A boot sector has code where an MBR has flags; Linux tells them apart by these, too. */
static bool mbr_valid(const uint8_t *sector)
{
	for (unsigned i = 0; i < PRIMARY_COUNT; i++) {
		if (mbr_entry(sector, i).flags & 0x7f)
			return false;
	}
	return mbr_marked(sector);
}

static int mbr_find(const struct disk *disk, const uint8_t *sector)
{
	uint32_t signature = get_le32(sector + 440);
	unsigned logical = LOGICAL_FIRST;

	for (unsigned i = 0; i < PRIMARY_COUNT; i++) {
		struct mbr_entry entry = mbr_entry(sector, i);
		int res;

		if (entry.sectors == 0)
			continue;
		if (mbr_extended(&entry))
			res = mbr_walk(disk, &entry, signature, &logical);
		else
			res = mbr_add(disk, i + 1, entry.start, entry.sectors, signature);
		if (res)
			return res;
	}
	return 0;
}

/* --- GPT --- */

/* CRC-32 of UEFI 2.10, 4.2; without a table, for a few KiB once a boot. */
static uint32_t crc32_add(uint32_t crc, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		crc ^= data[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return crc;
}

struct gpt {
	uint64_t entries_lba, first_usable, last_usable;
	uint32_t entry_count, entries_crc;
};

/* The header at `lba`, if there is a good one: *ret_good. */
static int gpt_header(const struct disk *disk, uint64_t lba, struct gpt *ret_gpt, bool *ret_good)
{
	uint8_t sector[SECTOR_BYTES];
	struct gpt gpt;
	uint32_t header_bytes, crc;
	int res;

	*ret_good = false;
	if (lba == 0 || lba >= disk->sectors)
		return 0;
	res = read_sector(disk, lba, sector);
	if (res || memcmp(sector, "EFI PART", 8) != 0)
		return res;
	header_bytes = get_le32(sector + 12);
	crc = get_le32(sector + 16);
	memset(sector + 16, 0, 4);
	if (header_bytes < GPT_HEADER_BYTES || header_bytes > SECTOR_BYTES ||
	    ~crc32_add(UINT32_MAX, sector, header_bytes) != crc || get_le64(sector + 24) != lba ||
	    get_le32(sector + 84) != GPT_ENTRY_BYTES)
		return 0;
	gpt.first_usable = get_le64(sector + 40);
	gpt.last_usable = get_le64(sector + 48);
	gpt.entries_lba = get_le64(sector + 72);
	gpt.entry_count = get_le32(sector + 80);
	gpt.entries_crc = get_le32(sector + 88);
	if (gpt.first_usable > gpt.last_usable || gpt.last_usable >= disk->sectors ||
	    gpt.entry_count == 0 || gpt.entry_count > GPT_ENTRIES_MAX || gpt.entries_lba < 2 ||
	    gpt.entries_lba >= disk->sectors ||
	    (uint64_t)gpt.entry_count * GPT_ENTRY_BYTES >
		    (disk->sectors - gpt.entries_lba) * SECTOR_BYTES)
		return 0;
	*ret_gpt = gpt;
	*ret_good = true;
	return 0;
}

static int gpt_entry(const struct disk *disk, const struct gpt *gpt, uint32_t index,
		     uint8_t ret_entry[GPT_ENTRY_BYTES])
{
	return disk->read(disk->arg, ret_entry, GPT_ENTRY_BYTES,
			  gpt->entries_lba * SECTOR_BYTES + (uint64_t)index * GPT_ENTRY_BYTES);
}

/* Reads all of the table once for its sum, and into `ret_good`. */
static int gpt_check(const struct disk *disk, const struct gpt *gpt, bool *ret_good)
{
	uint32_t crc = UINT32_MAX;

	for (uint32_t i = 0; i < gpt->entry_count; i++) {
		uint8_t entry[GPT_ENTRY_BYTES];
		int res = gpt_entry(disk, gpt, i, entry);

		if (res)
			return res;
		crc = crc32_add(crc, entry, sizeof(entry));
	}
	*ret_good = ~crc == gpt->entries_crc;
	return 0;
}

static int gpt_add(const struct disk *disk, const struct gpt *gpt)
{
	for (uint32_t i = 0; i < gpt->entry_count && i < PROBE_PARTITIONS_MAX; i++) {
		struct probe_volume volume = {.partition = i + 1};
		uint8_t entry[GPT_ENTRY_BYTES];
		uint64_t first, last;
		int res = gpt_entry(disk, gpt, i, entry);

		if (res)
			return res;
		first = get_le64(entry + 32);
		last = get_le64(entry + 40);
		if (all_zero(entry, 16) || first == 0 || first > last || last >= disk->sectors)
			continue;
		volume.offset_bytes = first * SECTOR_BYTES;
		volume.size_bytes = (last - first + 1) * SECTOR_BYTES;
		put_guid(volume.partuuid, entry + 16);
		put_label_utf16(volume.partlabel, sizeof(volume.partlabel), entry + 56, 36);
		res = add_volume(disk, &volume);
		if (res)
			return res;
	}
	return 0;
}

/* The first header, or else the backup in the last sector. */
static int gpt_find(const struct disk *disk)
{
	const uint64_t places[] = {1, disk->sectors - 1};

	for (unsigned i = 0; i < 2; i++) {
		struct gpt gpt;
		bool good;
		int res = gpt_header(disk, places[i], &gpt, &good);

		if (!res && good)
			res = gpt_check(disk, &gpt, &good);
		if (res)
			return res;
		if (good)
			return gpt_add(disk, &gpt);
	}
	return 0;
}

/* --- the disk --- */

static int find_partitions(const struct disk *disk)
{
	uint8_t sector[SECTOR_BYTES];
	bool protective = false, gpt = false;
	int res = read_sector(disk, 0, sector);

	if (res || !mbr_marked(sector))
		return res;
	for (unsigned i = 0; i < PRIMARY_COUNT; i++) {
		struct mbr_entry entry = mbr_entry(sector, i);

		protective |= entry.type == 0xee;
		gpt |= entry.type == 0xee && entry.start == 1;
	}
	if (gpt)
		return gpt_find(disk);
	return protective || !mbr_valid(sector) ? 0 : mbr_find(disk, sector);
}

int probe_disk(probe_read_fn read, void *arg, uint64_t size_bytes, struct probe_disk *ret_disk)
{
	struct disk disk = {read, arg, size_bytes / SECTOR_BYTES,
			    size_bytes / SECTOR_BYTES * SECTOR_BYTES, ret_disk};
	struct probe_volume whole = {.size_bytes = disk.bytes};
	int res;

	memset(ret_disk, 0, sizeof(*ret_disk));
	if (disk.sectors < 2)
		return 0;
	res = add_volume(&disk, &whole);
	/* A whole disk that holds nothing is no volume. */
	if (!res && ret_disk->volumes[0].fstype[0] == '\0')
		ret_disk->count = 0;
	if (!res)
		res = find_partitions(&disk);
	return res;
}
