/*
 * Partition tables and superblocks, built here byte by byte: what Linux would find is found under
 * the same number, and what is broken, outside the disk, looped or ambiguous is never picked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "initramfs/probe.h"

#define SECTOR      512
#define DISK_BYTES  (2u << 20)
#define LAST_SECTOR (DISK_BYTES / SECTOR - 1)

static uint8_t image[DISK_BYTES];
static struct probe_disk disk;
static struct probe_error error;
static uint64_t fail_at = UINT64_MAX;

static int read_image(void *arg, void *ret_data, size_t bytes, uint64_t offset)
{
	(void)arg;
	assert_true(bytes > 0 && bytes <= DISK_BYTES && offset <= DISK_BYTES - bytes);
	if (offset <= fail_at && fail_at < offset + bytes)
		return -EIO;
	memcpy(ret_data, image + offset, bytes);
	return 0;
}

static int start_over(void **state)
{
	(void)state;
	memset(image, 0, sizeof(image));
	fail_at = UINT64_MAX;
	return 0;
}

static void put(size_t offset, uint64_t value, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		image[offset + i] = (uint8_t)(value >> (8 * i));
}

static void put_bytes(size_t offset, const void *data, size_t bytes)
{
	memcpy(image + offset, data, bytes);
}

static void probe(void)
{
	memset(&disk, 0xff, sizeof(disk));
	assert_int_equal(probe_disk(read_image, NULL, DISK_BYTES, &disk), 0);
}

static const uint8_t uuid_bytes[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
				       0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe};
#define UUID_TEXT "01234567-89ab-cdef-1032-547698badcfe"
#define GUID_TEXT "67452301-ab89-efcd-1032-547698badcfe"

static void put_ext4(size_t at, const char *label)
{
	put(at + 1024, 16, 4);
	put(at + 1024 + 4, 64, 4);
	put(at + 1024 + 0x38, 0xef53, 2);
	put(at + 1024 + 0x4c, 1, 4);
	put(at + 1024 + 0x5c, 4, 4);
	put(at + 1024 + 0x60, 0x42, 4); /* extents */
	put_bytes(at + 1024 + 0x68, uuid_bytes, 16);
	put_bytes(at + 1024 + 0x78, label, strlen(label));
}

static void put_vfat(size_t at, const char *label)
{
	char padded[12];

	snprintf(padded, sizeof(padded), "%-11s", label);
	put(at + 11, 512, 2);
	image[at + 13] = 4;
	put(at + 14, 32, 2);
	image[at + 16] = 2;
	image[at + 21] = 0xf8;
	image[at + 66] = 0x29;
	put(at + 67, 0x1234abcd, 4);
	put_bytes(at + 71, padded, 11);
	put_bytes(at + 82, "FAT32   ", 8);
	put(at + 510, 0xaa55, 2);
}

static void put_mbr(size_t sector, unsigned index, unsigned type, uint32_t start, uint32_t count)
{
	size_t at = sector * SECTOR + 446 + 16 * (size_t)index;

	image[at + 4] = (uint8_t)type;
	put(at + 8, start, 4);
	put(at + 12, count, 4);
	put(sector * SECTOR + 510, 0xaa55, 2);
}

/* Written again here, and with other words, so that a mistake is not made twice. */
static uint32_t crc32(const uint8_t *data, size_t bytes)
{
	uint32_t table[256], crc = 0xffffffff;

	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = table[i] & 1 ? table[i] >> 1 ^ 0xedb88320 : table[i] >> 1;
	}
	for (size_t i = 0; i < bytes; i++)
		crc = table[(crc ^ data[i]) & 0xff] ^ crc >> 8;
	return ~crc;
}

#define GPT_ENTRIES 128

static void put_gpt_entry(unsigned index, uint64_t first, uint64_t last, const char *name)
{
	size_t at = 2 * SECTOR + 128 * (size_t)index;

	put_bytes(at, "a linux type....", 16);
	put_bytes(at + 16, uuid_bytes, 16);
	image[at + 31] = (uint8_t)(0xfe - index);
	put(at + 32, first, 8);
	put(at + 40, last, 8);
	for (size_t i = 0; name[i]; i++)
		put(at + 56 + 2 * i, (uint8_t)name[i], 2);
}

/* The header in sector `lba`, over entries that begin at `entries`. */
static void put_gpt_header(size_t lba, uint64_t entries)
{
	size_t at = lba * SECTOR;

	put_bytes(at, "EFI PART", 8);
	put(at + 8, 0x10000, 4);
	put(at + 12, 92, 4);
	put(at + 16, 0, 4);
	put(at + 24, lba, 8);
	put(at + 32, lba == 1 ? LAST_SECTOR : 1, 8);
	put(at + 40, 34, 8);
	put(at + 48, LAST_SECTOR - 33, 8);
	put(at + 72, entries, 8);
	put(at + 80, GPT_ENTRIES, 4);
	put(at + 84, 128, 4);
	put(at + 88, crc32(image + entries * SECTOR, (size_t)GPT_ENTRIES * 128), 4);
	put(at + 16, crc32(image + at, 92), 4);
}

static void put_gpt(void)
{
	put_mbr(0, 0, 0xee, 1, LAST_SECTOR);
	memcpy(image + (LAST_SECTOR - 32) * SECTOR, image + 2 * SECTOR, 32 * SECTOR);
	put_gpt_header(1, 2);
	put_gpt_header(LAST_SECTOR, LAST_SECTOR - 32);
}

/* A Raspberry Pi OS disk: FAT, then ext4. */
static void put_pi_gpt(void)
{
	put_gpt_entry(0, 64, 127, "bootfs");
	put_gpt_entry(1, 128, 1023, "rootfs");
	put_gpt();
	put_vfat((size_t)64 * SECTOR, "BOOT");
	put_ext4((size_t)128 * SECTOR, "root");
}

static void assert_pick(const char *root, unsigned partition)
{
	const struct probe_volume *picked = NULL;

	if (probe_pick(&disk, root, &picked, &error))
		fail_msg("%s", error.text);
	assert_int_equal(picked->partition, partition);
}

static void assert_no_pick(const char *root, int res, const char *text)
{
	const struct probe_volume *picked = NULL;

	assert_int_equal(probe_pick(&disk, root, &picked, &error), res);
	assert_null(picked);
	assert_string_equal(error.text, text);
}

static void an_empty_disk(void **state)
{
	(void)state;
	probe();
	assert_int_equal(disk.count, 0);
	assert_no_pick("", -ENOENT,
		       "root=: the disk has no file system that can be root: it is empty or has "
		       "no file system that is known");
	for (uint64_t bytes = 0; bytes <= 8192; bytes += 100)
		assert_int_equal(probe_disk(read_image, NULL, bytes, &disk), 0);
}

static void put_ext_features(uint32_t compat, uint32_t incompat, uint32_t ro_compat)
{
	put_ext4(0, "");
	put(1024 + 0x5c, compat, 4);
	put(1024 + 0x60, incompat, 4);
	put(1024 + 0x64, ro_compat, 4);
}

static void ext_types_by_features(void **state)
{
	static const struct {
		uint32_t compat, incompat, ro_compat;
		const char *type;
	} cases[] = {
		{0x38, 0x2, 0x3, "ext2"},      {0, 0, 0, "ext2"},
		{0x3c, 0x2, 0x3, "ext3"},      {0x3c, 0x6, 0x3, "ext3"},
		{0x3c, 0x242, 0x7b, "ext4"},   {0x38, 0x242, 0x7b, "ext4"},
		{0x3c, 0x2, 0x73, "ext4"},     {0x3c, 0x2c2, 0x46b, "ext4"},
		{0x3c, 0x80000002, 0, "ext4"}, {0, 0x8, 0, "jbd"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		start_over(state);
		put_ext_features(cases[i].compat, cases[i].incompat, cases[i].ro_compat);
		probe();
		assert_int_equal(disk.count, 1);
		assert_string_equal(disk.volumes[0].fstype, cases[i].type);
	}
}

static void put_xfs(void)
{
	put_bytes(0, "XFSB\0\0\x10\0", 8);
	put_bytes(32, uuid_bytes, 16);
	put_bytes(108, "twelve bytes", 12);
}

static void put_btrfs(void)
{
	put_bytes(65536 + 0x20, uuid_bytes, 16);
	put_bytes(65536 + 0x40, "_BHRfS_M", 8);
	put_bytes(65536 + 0x12b, "my btrfs", 8);
}

static void put_f2fs(void)
{
	put(1024, 0xf2f52010, 4);
	put(1024 + 16, 12, 4);
	put_bytes(1024 + 108, uuid_bytes, 16);
	put(1024 + 124, 0x00fc, 2); /* u with dots, and a face outside the first plane */
	put(1024 + 126, 0xde00d83d, 4);
}

static void put_squashfs(void)
{
	put_bytes(0, "hsqs", 4);
	put(28, 4, 2);
}

static void put_erofs(void)
{
	put(1024, 0xe0f5e1e2, 4);
	image[1024 + 12] = 12;
	put_bytes(1024 + 48, uuid_bytes, 16);
	put_bytes(1024 + 64, "read only", 9);
}

static void put_whole_vfat(void)
{
	put_vfat(0, "A FAT ONE");
}

static void put_fat16_without_a_name(void)
{
	put_vfat(0, "");
	put(22, 32, 2);
	image[38] = 0x29;
	put(39, 0x1234abcd, 4);
	put_bytes(43, "NO NAME    FAT16   ", 19);
}

static void put_swap(void)
{
	put(1024, 1, 4);
	put_bytes(1024 + 12, uuid_bytes, 16);
	put_bytes(1024 + 28, "swapped", 7);
	put_bytes(16384 - 10, "SWAPSPACE2", 10);
}

static void file_systems_of_whole_disks(void **state)
{
	static const struct {
		void (*put)(void);
		const char *type, *uuid, *label;
	} cases[] = {
		{put_xfs, "xfs", UUID_TEXT, "twelve bytes"},
		{put_btrfs, "btrfs", UUID_TEXT, "my btrfs"},
		{put_f2fs, "f2fs", UUID_TEXT, "\xc3\xbc\xf0\x9f\x98\x80"},
		{put_squashfs, "squashfs", "", ""},
		{put_erofs, "erofs", UUID_TEXT, "read only"},
		{put_whole_vfat, "vfat", "1234-ABCD", "A FAT ONE"},
		{put_fat16_without_a_name, "vfat", "1234-ABCD", ""},
		{put_swap, "swap", UUID_TEXT, "swapped"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct probe_volume *volume = &disk.volumes[0];
		const struct probe_volume *picked = NULL;
		bool usable = strcmp(cases[i].type, "vfat") && strcmp(cases[i].type, "swap");

		start_over(state);
		cases[i].put();
		probe();
		assert_int_equal(disk.count, 1);
		assert_string_equal(volume->fstype, cases[i].type);
		assert_string_equal(volume->uuid, cases[i].uuid);
		assert_string_equal(volume->label, cases[i].label);
		assert_int_equal(volume->partition, 0);
		assert_int_equal(volume->offset_bytes, 0);
		assert_int_equal(volume->size_bytes, DISK_BYTES);
		assert_int_equal(probe_pick(&disk, "", &picked, &error), usable ? 0 : -ENOENT);
	}
}

static void labels_that_are_no_text(void **state)
{
	(void)state;
	put_ext4(0, "\x1b[2J");
	probe();
	assert_string_equal(disk.volumes[0].label, "");
	put_ext4(0, "caf\xe9");
	probe();
	assert_string_equal(disk.volumes[0].label, "");
	put_ext4(0, "sixteen bytes ok");
	probe();
	assert_string_equal(disk.volumes[0].label, "sixteen bytes ok");
	start_over(state);
	put_f2fs();
	put(1024 + 124, 0x0041d83d0041, 6); /* half a pair */
	probe();
	assert_string_equal(disk.volumes[0].label, "");
	put(1024 + 124, 0x0041dc000041, 6); /* the other half */
	probe();
	assert_string_equal(disk.volumes[0].label, "");
	for (size_t i = 0; i < 512; i++) /* 1536 bytes of UTF-8 */
		put(1024 + 124 + 2 * i, 0x20ac, 2);
	probe();
	assert_string_equal(disk.volumes[0].label, "");
}

static void left_over_marks_are_not_guessed(void **state)
{
	/* Two file systems' marks in one place. */
	put_ext4(0, "old");
	put_btrfs();
	probe();
	assert_int_equal(disk.count, 0);

	/* A file system under a partition table with another. */
	start_over(state);
	put_ext4(0, "old");
	put_mbr(0, 0, 0x83, 256, 512);
	put_ext4((size_t)256 * SECTOR, "new");
	probe();
	assert_int_equal(disk.count, 2);
	assert_no_pick("", -ENOTUNIQ,
		       "root=: several file systems fit, and root= must name one: PART=0 ext4 "
		       "\"old\", PART=1 ext4 \"new\"");
	assert_pick("LABEL=new", 1);

	/* Swap's is left over by design: mke2fs does not write there. */
	start_over(state);
	put_swap();
	put_ext4(0, "root");
	put(1024, 1, 4);
	put(1024 + 0x18, 0, 4);
	probe();
	assert_string_equal(disk.volumes[0].fstype, "ext4");
}

static void a_boot_sector_is_no_partition_table(void **state)
{
	(void)state;
	put_vfat(0, "FAT");
	memset(image + 446, 0xe8, 64); /* code */
	probe();
	assert_int_equal(disk.count, 1);
	assert_string_equal(disk.volumes[0].fstype, "vfat");
	put_bytes(82, "NTFS    ", 8);
	probe();
	assert_int_equal(disk.count, 0);
}

static void mbr_with_logical_partitions(void **state)
{
	(void)state;
	put(440, 0xdeadbeef, 4);
	put_mbr(0, 0, 0x0c, 64, 64);
	put_mbr(0, 1, 0x0f, 200, 3000);
	put_mbr(0, 3, 0x83, 3300, 100);
	put_mbr(200, 0, 0x83, 10, 100);
	put_mbr(200, 1, 0x05, 500, 400);
	put_mbr(700, 0, 0x83, 10, 200);
	put_mbr(700, 2, 0x83, 4000, 90000); /* rubbish */
	put_mbr(700, 1, 0x05, 1000, 400);
	put_mbr(1200, 0, 0x82, 10, 50);
	put_mbr(1200, 1, 0x05, 500, 400); /* back to the second link */
	put_vfat((size_t)64 * SECTOR, "BOOT");
	put_ext4((size_t)710 * SECTOR, "root");
	probe();
	assert_int_equal(disk.count, 5);
	assert_int_equal(disk.volumes[0].partition, 1);
	assert_string_equal(disk.volumes[0].partuuid, "deadbeef-01");
	assert_string_equal(disk.volumes[0].fstype, "vfat");
	assert_int_equal(disk.volumes[2].partition, 6);
	assert_string_equal(disk.volumes[2].partuuid, "deadbeef-06");
	assert_int_equal(disk.volumes[2].offset_bytes, 710 * SECTOR);
	assert_int_equal(disk.volumes[2].size_bytes, 200 * SECTOR);
	assert_int_equal(disk.volumes[3].partition, 7);
	assert_int_equal(disk.volumes[4].partition, 4);
	assert_pick("", 6);
	assert_pick("PARTUUID=DEADBEEF-06", 6);
}

static void mbr_of_many_links_ends(void **state)
{
	(void)state;
	put_mbr(0, 0, 0x05, 10, 4000);
	for (uint32_t i = 0; i < 1000; i++) {
		put_mbr(10 + 2 * i, 0, 0x83, 1, 1);
		put_mbr(10 + 2 * i, 1, 0x05, 2 * (i + 1), 2);
	}
	probe();
	assert_int_equal(disk.count, PROBE_PARTITIONS_MAX);
	assert_int_equal(disk.volumes[PROBE_PARTITIONS_MAX - 1].partition, 132);
}

static void mbr_entries_outside_the_disk(void **state)
{
	(void)state;
	put_mbr(0, 0, 0x83, LAST_SECTOR, 1);
	put_mbr(0, 1, 0x83, LAST_SECTOR, 2);
	put_mbr(0, 2, 0x83, UINT32_MAX, UINT32_MAX);
	put_mbr(0, 3, 0x05, UINT32_MAX, UINT32_MAX);
	probe();
	assert_int_equal(disk.count, 1);
	assert_int_equal(disk.volumes[0].partition, 1);
	assert_string_equal(disk.volumes[0].partuuid, "");
}

static void gpt_of_a_pi(void **state)
{
	(void)state;
	put_pi_gpt();
	probe();
	assert_int_equal(disk.count, 2);
	assert_string_equal(disk.volumes[1].partuuid, "67452301-ab89-efcd-1032-547698badcfd");
	assert_string_equal(disk.volumes[1].partlabel, "rootfs");
	assert_string_equal(disk.volumes[1].uuid, UUID_TEXT);
	assert_int_equal(disk.volumes[1].offset_bytes, 128 * SECTOR);
	assert_int_equal(disk.volumes[1].size_bytes, 896 * SECTOR);
	assert_string_equal(disk.volumes[0].partuuid, GUID_TEXT);
}

static void gpt_backup_is_used(void **state)
{
	(void)state;
	put_pi_gpt();
	image[SECTOR + 40] ^= 1; /* the header's sum is wrong */
	probe();
	assert_int_equal(disk.count, 2);
	start_over(state);
	put_pi_gpt();
	image[2 * SECTOR + 500] ^= 1; /* the entries' sum is */
	probe();
	assert_int_equal(disk.count, 2);
	image[(size_t)LAST_SECTOR * SECTOR + 20] ^= 1; /* and the backup is gone */
	probe();
	assert_int_equal(disk.count, 0);
}

/* A right sum over a wrong header. */
static void gpt_headers_that_lie(void **state)
{
	static const struct {
		size_t at, bytes;
		uint64_t value;
	} cases[] = {
		{12, 4, 91},         {12, 4, 513},
		{12, 4, UINT32_MAX}, {24, 8, 2},
		{40, 8, UINT64_MAX}, {48, 8, LAST_SECTOR + 1},
		{48, 8, UINT64_MAX}, {72, 8, 0},
		{72, 8, 1},          {72, 8, LAST_SECTOR + 1},
		{72, 8, UINT64_MAX}, {72, 8, LAST_SECTOR},
		{80, 4, 0},          {80, 4, UINT32_MAX},
		{80, 4, 1025},       {84, 4, 0},
		{84, 4, 64},         {84, 4, UINT32_MAX},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t bytes;

		start_over(state);
		put_pi_gpt();
		memset(image + (size_t)LAST_SECTOR * SECTOR, 0, SECTOR);
		put(SECTOR + cases[i].at, cases[i].value, cases[i].bytes);
		put(SECTOR + 16, 0, 4);
		memcpy(&bytes, image + SECTOR + 12, 4);
		put(SECTOR + 16, crc32(image + SECTOR, bytes <= 1024 ? bytes : 92), 4);
		probe();
		if (disk.count != 0)
			fail_msg("case %zu", i);
	}
}

static void gpt_without_its_protective_mbr(void **state)
{
	(void)state;
	put_pi_gpt();
	put_mbr(0, 0, 0xee, 2, LAST_SECTOR);
	probe();
	assert_int_equal(disk.count, 0);
	memset(image, 0, SECTOR);
	probe();
	assert_int_equal(disk.count, 0);
}

static void gpt_entries_outside_the_disk(void **state)
{
	(void)state;
	put_gpt_entry(0, 100, 99, "turned round");
	put_gpt_entry(1, 100, LAST_SECTOR + 1, "too far");
	put_gpt_entry(2, UINT64_MAX, UINT64_MAX, "far away");
	put_gpt_entry(3, 0, UINT64_MAX, "all");
	put_gpt_entry(127, LAST_SECTOR, LAST_SECTOR, "the last");
	put_gpt();
	probe();
	assert_int_equal(disk.count, 1);
	assert_int_equal(disk.volumes[0].partition, 128);
}

static void root_in_every_notation(void **state)
{
	static const struct {
		const char *root;
		unsigned partition;
	} cases[] = {
		{"", 2},
		{"LABEL=root", 2},
		{"LABEL=\"root\"", 2},
		{"LABEL='root'", 2},
		{"LABEL=BOOT", 1},
		{"UUID=" UUID_TEXT, 2},
		{"UUID=01234567-89AB-CDEF-1032-547698BADCFE", 2},
		{"UUID=\"1234-abcd\"", 1},
		{"PARTUUID=67452301-AB89-efcd-1032-547698badcfd", 2},
		{"PARTLABEL=rootfs", 2},
		{"PART=2", 2},
		{"PART=02", 2},
		{"/dev/sda2", 2},
		{"/dev/sdaa2", 2},
		{"/dev/vdb1", 1},
		{"/dev/mmcblk0p2", 2},
		{"/dev/nvme0n1p2", 2},
		{"/dev/disk/by-label/root", 2},
		{"/dev/disk/by-partlabel/r\\x6fotfs", 2},
		{"/dev/disk/by-uuid/" UUID_TEXT, 2},
	};

	(void)state;
	put_pi_gpt();
	probe();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_pick(cases[i].root, cases[i].partition);
}

static void root_that_is_not_there(void **state)
{
	static const char *const absent[] = {
		"LABEL=Root", "LABEL=roo",    "LABEL=root ",    "PART=0",
		"PART=3",     "PART=999",     "/dev/sda",       "/dev/mmcblk0",
		"/dev/sda12", "UUID=1234",    "LABEL=\\x72oot", "PARTLABEL=",
		"UUID=-",     "/dev/nvme0n1", "/dev/sda9",      "PARTUUID=67452301-ab89-efcd",
	};
	static const char *const strange[] = {
		"LABEL=",     "LABEL=\"\"",     "UUID=",         "PART=",         "PART=x",
		"PART=-1",    "PART=1000",      "PART=1x",       "/dev/",         "/dev/root",
		"/dev/sd2",   "/dev/sda02",     "/dev/sda2x",    "/dev/mmcblk0p", "/dev/mmcblkp2",
		"/dev/nvme0", "/dev/nvme0p2",   "/dev/mapper/x", "8:2",           "root",
		"label=root", "/dev/mmcblk0p0",
	};
	const struct probe_volume *picked = NULL;

	(void)state;
	put_pi_gpt();
	probe();
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
		int res = probe_pick(&disk, absent[i], &picked, &error);

		if (res != (strcmp(absent[i], "PARTLABEL=") == 0 ? -EINVAL : -ENOENT))
			fail_msg("%s gives %d", absent[i], res);
	}
	for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]); i++) {
		if (probe_pick(&disk, strange[i], &picked, &error) != -EINVAL)
			fail_msg("%s is understood", strange[i]);
	}
	assert_null(picked);
	assert_no_pick("LABEL=x", -ENOENT,
		       "root=LABEL=x: the disk has none: PART=1 vfat \"BOOT\", PART=2 ext4 "
		       "\"root\"");
	assert_no_pick("\x1b[2J", -EINVAL,
		       "root=(no text): LABEL=, UUID=, PARTUUID=, PARTLABEL=, PART=NUMBER or a "
		       "disk's /dev name is wanted");
}

static void several_that_fit(void **state)
{
	(void)state;
	put_mbr(0, 0, 0x83, 100, 100);
	put_mbr(0, 1, 0x83, 300, 100);
	put_ext4((size_t)100 * SECTOR, "same");
	put_ext4((size_t)300 * SECTOR, "same");
	probe();
	assert_no_pick("", -ENOTUNIQ,
		       "root=: several file systems fit, and root= must name one: PART=1 ext4 "
		       "\"same\", PART=2 ext4 \"same\"");
	assert_no_pick("LABEL=same", -ENOTUNIQ,
		       "root=LABEL=same: several file systems fit, and root= must name one: "
		       "PART=1 ext4 \"same\", PART=2 ext4 \"same\"");
	assert_no_pick("UUID=" UUID_TEXT, -ENOTUNIQ,
		       "root=UUID=" UUID_TEXT ": several file systems fit, and root= must name "
		       "one: PART=1 ext4 \"same\", PART=2 ext4 \"same\"");
	assert_pick("PART=2", 2);
}

static void a_long_list_is_cut(void **state)
{
	const struct probe_volume *picked;

	(void)state;
	for (unsigned i = 0; i < 100; i++)
		put_gpt_entry(i, 100 + 10 * i, 109 + 10 * i,
			      "a name of thirty-six characters.....");
	put_gpt();
	probe();
	assert_int_equal(disk.count, 100);
	assert_int_equal(probe_pick(&disk, "LABEL=x", &picked, &error), -ENOENT);
	assert_true(strlen(error.text) < sizeof(error.text));
	assert_string_equal(error.text + strlen(error.text) - 5, ", ...");
}

static void a_read_that_fails_is_told(void **state)
{
	static const uint64_t places[] = {0,     SECTOR,           2 * SECTOR + 3000,
					  65536, 128 * SECTOR + 9, 128 * SECTOR + 65536};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		start_over(state);
		put_pi_gpt();
		fail_at = places[i];
		assert_int_equal(probe_disk(read_image, NULL, DISK_BYTES, &disk), -EIO);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(an_empty_disk, start_over),
		cmocka_unit_test_setup(ext_types_by_features, start_over),
		cmocka_unit_test_setup(file_systems_of_whole_disks, start_over),
		cmocka_unit_test_setup(labels_that_are_no_text, start_over),
		cmocka_unit_test_setup(left_over_marks_are_not_guessed, start_over),
		cmocka_unit_test_setup(a_boot_sector_is_no_partition_table, start_over),
		cmocka_unit_test_setup(mbr_with_logical_partitions, start_over),
		cmocka_unit_test_setup(mbr_of_many_links_ends, start_over),
		cmocka_unit_test_setup(mbr_entries_outside_the_disk, start_over),
		cmocka_unit_test_setup(gpt_of_a_pi, start_over),
		cmocka_unit_test_setup(gpt_backup_is_used, start_over),
		cmocka_unit_test_setup(gpt_headers_that_lie, start_over),
		cmocka_unit_test_setup(gpt_without_its_protective_mbr, start_over),
		cmocka_unit_test_setup(gpt_entries_outside_the_disk, start_over),
		cmocka_unit_test_setup(root_in_every_notation, start_over),
		cmocka_unit_test_setup(root_that_is_not_there, start_over),
		cmocka_unit_test_setup(several_that_fit, start_over),
		cmocka_unit_test_setup(a_long_list_is_cut, start_over),
		cmocka_unit_test_setup(a_read_that_fails_is_told, start_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
