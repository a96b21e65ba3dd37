/*
 * What a raw image holds, and whether it is whole: partition table and file systems by libblkid,
 * their ends against the file's. Reads only; any thread.
 */
#include "control/control_internal.h"

#include <blkid/blkid.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PARTITIONS_MAX 256 /* GPT allows more; nobody names them in 64 characters */
#define CURE_FULL      "get the file again: it is not complete"

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t le64(const uint8_t *p)
{
	return (uint64_t)le32(p) | (uint64_t)le32(p + 4) << 32;
}

const char *probe_not_a_disk(const void *head, size_t bytes)
{
	static const struct {
		size_t offset, bytes;
		const char *magic, *what;
	} kinds[] = {
		{0, 4, "PK\003\004", "a zip archive: unpack it and import the .img in it"},
		{257, 5, "ustar", "a tar archive: a disk image is needed, not a folder of files"},
		{0, 4, "QFI\373", "a qcow2 image: convert it with qemu-img convert -O raw"},
		{0, 4, "KDMV", "a VMDK image: convert it with qemu-img convert -O raw"},
		{0, 8, "conectix", "a VHD image: convert it with qemu-img convert -O raw"},
		{0, 8, "vhdxfile", "a VHDX image: convert it with qemu-img convert -O raw"},
		{0, 6, "7z\274\257\047\034",
		 "a 7-Zip archive: unpack it and import the .img in it"},
		{0, 4, "\177ELF", "a program, not a disk image"},
		{0, 4, "hsqs", "a squashfs: a file system that can be written is needed"},
		{0, 4, "LCOW", "a layer of lunroot: export its node instead"},
	};

	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		if (bytes >= kinds[i].offset + kinds[i].bytes &&
		    memcmp((const char *)head + kinds[i].offset, kinds[i].magic, kinds[i].bytes) ==
			    0)
			return kinds[i].what;
	}
	return NULL;
}

/* Appends " and so on" rather than half a word when there is no room left. */
static void content_add(char content[CONTENT_BYTES], const char *separator, const char *word)
{
	size_t used = strlen(content);

	if (used >= 3 && strcmp(content + used - 3, "...") == 0)
		return;
	if (used + strlen(separator) + strlen(word) + 6 < CONTENT_BYTES)
		(void)snprintf(content + used, CONTENT_BYTES - used, "%s%s", separator, word);
	else
		(void)snprintf(content + used, CONTENT_BYTES - used, ", ...");
}

/* The ext superblock's size (ext4 disk layout: 1024 bytes in, little-endian) against the room. */
static int check_ext(int fd, uint64_t offset, uint64_t bytes, const char *file_name,
		     struct api_error *err)
{
	uint8_t sb[512];
	uint64_t blocks, size;
	uint32_t shift;

	if (bytes < 2048 || pread(fd, sb, sizeof(sb), (off_t)offset + 1024) != (ssize_t)sizeof(sb))
		return 0;
	if (sb[0x38] != 0x53 || sb[0x39] != 0xef)
		return 0;
	blocks = le32(sb + 0x04);
	if (le32(sb + 0x60) & 0x80) /* 64bit */
		blocks |= (uint64_t)le32(sb + 0x150) << 32;
	shift = le32(sb + 0x18);
	if (shift > 6)
		return 0;
	size = blocks << (10 + shift);
	if (blocks > UINT64_MAX >> (10 + shift) || size > bytes)
		return api_error_set(err, 422, "bad_image", CURE_FULL,
				     "%.300s is cut off: its ext4 file system has %llu bytes, but "
				     "there are only %llu",
				     file_name, (unsigned long long)size,
				     (unsigned long long)bytes);
	return 0;
}

/* "fat32 "bootfs"" of what libblkid found by its superblock; false if nothing. */
static bool describe(blkid_probe probe, char *text, size_t bytes)
{
	const char *type = NULL, *label = NULL, *version = NULL;
	char clean[24];
	size_t n = 0;

	if (blkid_probe_lookup_value(probe, "TYPE", &type, NULL) < 0 || !type)
		return false;
	(void)blkid_probe_lookup_value(probe, "VERSION", &version, NULL);
	if (strcmp(type, "vfat") == 0 && version)
		type = version; /* FAT32 */
	(void)blkid_probe_lookup_value(probe, "LABEL", &label, NULL);
	for (; label && label[n] && n + 1 < sizeof(clean); n++) {
		clean[n] = '?';
		if (label[n] >= 0x20 && label[n] < 0x7f && label[n] != '"')
			clean[n] = label[n];
	}
	clean[n] = '\0';
	(void)snprintf(text, bytes, n ? "%.20s \"%s\"" : "%.20s", type, clean);
	for (char *p = text; *p && *p != ' '; p++)
		*p = (char)tolower((unsigned char)*p);
	return true;
}

static blkid_probe probe_new(int fd, uint64_t offset, uint64_t bytes)
{
	blkid_probe probe = blkid_new_probe();

	if (!probe)
		return NULL;
	if (blkid_probe_set_device(probe, fd, (blkid_loff_t)offset, (blkid_loff_t)bytes) < 0) {
		blkid_free_probe(probe);
		return NULL;
	}
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_LABEL |
							 BLKID_SUBLKS_VERSION);
	return probe;
}

static int probe_partition(int fd, blkid_partition part, uint64_t bytes, const char *file_name,
			   char content[CONTENT_BYTES], bool *first, struct api_error *err)
{
	uint64_t start = (uint64_t)blkid_partition_get_start(part) * 512;
	uint64_t length = (uint64_t)blkid_partition_get_size(part) * 512;
	char text[64] = "unknown";
	blkid_probe probe;
	int r;

	if (start > bytes || length > bytes - start)
		return api_error_set(err, 422, "bad_image", CURE_FULL,
				     "%.300s is cut off: partition %d ends at byte %llu, but there "
				     "are only %llu",
				     file_name, blkid_partition_get_partno(part),
				     (unsigned long long)start + (unsigned long long)length,
				     (unsigned long long)bytes);
	/* An extended partition only holds others. */
	if (blkid_partition_is_extended(part) || length == 0)
		return 0;
	r = check_ext(fd, start, length, file_name, err);
	if (r < 0)
		return r;
	probe = probe_new(fd, start, length);
	if (probe && blkid_do_safeprobe(probe) == 0 && !describe(probe, text, sizeof(text)))
		(void)snprintf(text, sizeof(text), "unknown");
	if (probe)
		blkid_free_probe(probe);
	content_add(content, *first ? " " : ", ", text);
	*first = false;
	return 0;
}

/* GPT keeps a copy at the disk's end (UEFI, 5.3.2): without it the file is cut off. */
static int check_gpt(int fd, uint64_t bytes, const char *file_name, struct api_error *err)
{
	uint8_t header[512];
	uint64_t last;

	if (pread(fd, header, sizeof(header), 512) != (ssize_t)sizeof(header) ||
	    memcmp(header, "EFI PART", 8) != 0)
		return 0;
	last = le64(header + 32);
	if (last < bytes / 512)
		return 0;
	return api_error_set(
		err, 422, "bad_image", CURE_FULL,
		"%.300s is cut off: its GPT reaches to sector %llu, but there are only "
		"%llu",
		file_name, (unsigned long long)last, (unsigned long long)bytes / 512);
}

/* 1 with `content` if there is a table with partitions, 0 if not, or -errno. */
static int probe_table(int fd, uint64_t bytes, const char *file_name, char content[CONTENT_BYTES],
		       struct api_error *err)
{
	blkid_probe probe = probe_new(fd, 0, bytes);
	blkid_partlist list;
	bool first = true;
	const char *type;
	int count, r = 0;

	if (!probe)
		return api_error_world(err, -ENOMEM, file_name);
	blkid_probe_enable_superblocks(probe, 0);
	blkid_probe_enable_partitions(probe, 1);
	list = blkid_probe_get_partitions(probe);
	count = list ? blkid_partlist_numof_partitions(list) : 0;
	if (count > 0) {
		type = blkid_parttable_get_type(blkid_partlist_get_table(list));
		content[0] = '\0';
		content_add(content, "", strcmp(type, "dos") == 0 ? "mbr:" : type);
		if (strcmp(type, "dos") != 0)
			content_add(content, "", ":");
		if (strcmp(type, "gpt") == 0)
			r = check_gpt(fd, bytes, file_name, err);
	}
	for (int i = 0; r == 0 && i < count && i < PARTITIONS_MAX; i++)
		r = probe_partition(fd, blkid_partlist_get_partition(list, i), bytes, file_name,
				    content, &first, err);
	blkid_free_probe(probe);
	return r < 0 ? r : count > 0;
}

static int probe_bare(int fd, uint64_t bytes, const char *file_name, char content[CONTENT_BYTES],
		      struct api_error *err)
{
	blkid_probe probe;
	char text[64];
	int r = check_ext(fd, 0, bytes, file_name, err);

	if (r < 0)
		return r;
	probe = probe_new(fd, 0, bytes);
	if (!probe)
		return api_error_world(err, -ENOMEM, file_name);
	if (blkid_do_safeprobe(probe) == 0 && describe(probe, text, sizeof(text))) {
		content[0] = '\0';
		content_add(content, "", text);
		r = 1;
	}
	blkid_free_probe(probe);
	return r;
}

int probe_disk(int fd, uint64_t bytes, const char *file_name, bool force,
	       char ret_content[CONTENT_BYTES], struct api_error *err)
{
	char content[CONTENT_BYTES] = "unknown";
	int r = probe_table(fd, bytes, file_name, content, err);

	if (r == 0)
		r = probe_bare(fd, bytes, file_name, content, err);
	if (r < 0)
		return r;
	if (r == 0 && !force)
		return api_error_set(err, 422, "bad_image",
				     "give a raw disk or file system image; to take it as it is, "
				     "use --force",
				     "%.300s is no disk: it has neither a partition table with "
				     "partitions nor a file system that is known",
				     file_name);
	memcpy(ret_content, content, sizeof(content));
	return 0;
}
