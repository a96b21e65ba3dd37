/*
 * Every kernel has its banner, "Linux version 6.12.34+rpt-rpi-v8 (...", in its data. In a packed
 * one it shows when that is unpacked: libarchive does that piece by piece, and no more than
 * LIMIT_KERNEL_BYTES. In a zImage the packed kernel lies behind the code that unpacks it, at a
 * place that older ones do not tell, so each place that looks like the beginning of one is tried.
 */
#include "boot/kernel_version.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/blob.h"

#define BANNER       "Linux version "
#define WINDOW_BYTES 65536
#define TRIES_MAX    64 /* places in a zImage; a real one has a handful of false ones */
#define HEAD_BYTES   64

bool kernel_version_clean(const char *version)
{
	static const char good[] =
		"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+_~-";
	size_t bytes = strlen(version);

	return bytes > 0 && bytes <= LIMIT_KERNEL_VERSION_BYTES && version[0] >= '0' &&
	       version[0] <= '9' && strspn(version, good) == bytes;
}

/* The version behind a banner in `data`, if one is there as a whole. */
static bool banner_find(const uint8_t *data, size_t bytes, char *ret_version)
{
	const uint8_t *at = data, *end = data + bytes;

	while ((at = memmem(at, (size_t)(end - at), BANNER, strlen(BANNER)))) {
		const uint8_t *word = at += strlen(BANNER);
		char version[LIMIT_KERNEL_VERSION_BYTES + 1];
		size_t length;

		while (word < end && *word != ' ' && word - at <= LIMIT_KERNEL_VERSION_BYTES)
			word++;
		length = (size_t)(word - at);
		if (word == end || length == 0 || length > LIMIT_KERNEL_VERSION_BYTES)
			continue;
		memcpy(version, at, length);
		version[length] = '\0';
		if (!kernel_version_clean(version))
			continue;
		memcpy(ret_version, version, length + 1);
		return true;
	}
	return false;
}

/* --- unpacking --- */

static struct archive *unpacker_new(void)
{
	struct archive *archive = archive_read_new();

	/* Those that libarchive does by itself; it would start programs for others. */
	if (archive && (archive_read_support_format_raw(archive) != ARCHIVE_OK ||
			archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
			archive_read_support_filter_xz(archive) != ARCHIVE_OK ||
			archive_read_support_filter_lzma(archive) != ARCHIVE_OK ||
			archive_read_support_filter_zstd(archive) != ARCHIVE_OK ||
			archive_read_support_filter_lz4(archive) != ARCHIVE_OK ||
			archive_read_support_filter_bzip2(archive) != ARCHIVE_OK)) {
		archive_read_free(archive);
		return NULL;
	}
	return archive;
}

struct work {
	uint8_t window[WINDOW_BYTES];
	uint8_t head[HEAD_BYTES]; /* the beginning of what was unpacked last */
	size_t budget;            /* what may still be unpacked, all tries together */
};

/*
 * Unpacks and looks for the banner. `window` holds the end of what came before, so that one that
 * lies across a border is seen. What comes out before damage or rubbish at the end counts.
 */
static bool unpack_search(const uint8_t *data, size_t bytes, struct work *work, char *ret_version)
{
	const size_t keep = strlen(BANNER) + LIMIT_KERNEL_VERSION_BYTES + 1;
	struct archive *archive = unpacker_new();
	struct archive_entry *entry;
	size_t held = 0;
	uint8_t *window = work->window;
	bool found = false, first = true;

	if (!archive)
		return false;
	if (archive_read_open_memory(archive, data, bytes) == ARCHIVE_OK &&
	    archive_read_next_header(archive, &entry) == ARCHIVE_OK &&
	    archive_filter_code(archive, 0) != ARCHIVE_FILTER_NONE) {
		while (!found && work->budget > 0) {
			la_ssize_t got =
				archive_read_data(archive, window + held, WINDOW_BYTES - held);

			if (got <= 0)
				break;
			if (first)
				memcpy(work->head, window,
				       got < HEAD_BYTES ? (size_t)got : HEAD_BYTES);
			first = false;
			work->budget -= (size_t)got < work->budget ? (size_t)got : work->budget;
			held += (size_t)got;
			found = banner_find(window, held, ret_version);
			if (held > keep) {
				memmove(window, window + held - keep, keep);
				held = keep;
			}
		}
	}
	archive_read_free(archive);
	return found;
}

/* --- what kind of file --- */

static uint32_t get_le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static bool is_arm64(const uint8_t *head)
{
	return memcmp(head + 56, "ARM\x64", 4) == 0; /* Documentation/arm64/booting */
}

static bool is_arm32(const uint8_t *head)
{
	return get_le32(head + 36) == 0x016f2818;
}

static bool is_zboot(const uint8_t *head)
{
	return memcmp(head, "MZ", 2) == 0 && memcmp(head + 4, "zimg", 4) == 0;
}

struct mark {
	const char *bytes;
	size_t count;
};

static const struct mark marks[] = {
	{"\x1f\x8b\x08", 3},
	{"\xfd\x37\x7a\x58\x5a", 5},
	{"\x5d\x00\x00", 3},
	{"\x28\xb5\x2f\xfd", 4},
	{"\x02\x21\x4c\x18", 4},
	{"\x04\x22\x4d\x18", 4},
	{"BZh", 3},
};

static const struct mark lzo_mark = {"\x89LZO\0\r\n\x1a\n", 9};

static bool mark_at(const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		if (bytes >= marks[i].count && memcmp(data, marks[i].bytes, marks[i].count) == 0)
			return true;
	}
	return false;
}

/* Each place in the file where something packed may begin. */
static bool scan(const uint8_t *data, size_t bytes, struct work *work, char *ret_version)
{
	unsigned tries = 0;

	for (size_t at = 0; at < bytes && tries < TRIES_MAX; at++) {
		if (!mark_at(data + at, bytes - at))
			continue;
		tries++;
		if (unpack_search(data + at, bytes - at, work, ret_version))
			return true;
	}
	return false;
}

static enum kernel_arch arch_of(const uint8_t *head, const uint8_t *data, size_t bytes)
{
	if (is_arm64(head))
		return KERNEL_ARM64;
	if (is_arm32(head))
		return KERNEL_ARM32;
	/* Documentation/arch/x86/boot: "HdrS" */
	if (bytes > 0x206 && memcmp(data + 0x202, "HdrS", 4) == 0)
		return KERNEL_X86;
	return KERNEL_OTHER;
}

/* A bzImage's header says where its version stands, in plain text. */
static bool bzimage_version(const uint8_t *data, size_t bytes, char *ret_version)
{
	char version[LIMIT_KERNEL_VERSION_BYTES + 2] = {0};
	size_t place, length;

	if (bytes < 0x210)
		return false;
	place = (size_t)(data[0x20e] | data[0x20f] << 8) + 0x200;
	if (place >= bytes)
		return false;
	length = bytes - place < sizeof(version) - 1 ? bytes - place : sizeof(version) - 1;
	memcpy(version, data + place, length);
	version[strcspn(version, " ")] = '\0';
	if (!kernel_version_clean(version))
		return false;
	memcpy(ret_version, version, strlen(version) + 1);
	return true;
}

static bool find(const uint8_t *data, size_t bytes, struct work *work, struct kernel_info *info)
{
	uint8_t head[HEAD_BYTES];
	uint32_t offset, length;

	memcpy(head, data, HEAD_BYTES);
	info->arch = arch_of(head, data, bytes);
	if (info->arch == KERNEL_X86)
		return bzimage_version(data, bytes, info->version);
	if (is_zboot(head)) {
		info->efi_only = true;
		offset = get_le32(head + 8);
		length = get_le32(head + 12);
		if (offset >= bytes || length > bytes - offset ||
		    !unpack_search(data + offset, length, work, info->version))
			return false;
		info->arch = arch_of(work->head, work->head, 0);
		return true;
	}
	if (mark_at(data, bytes)) {
		if (!unpack_search(data, bytes, work, info->version))
			return false;
		info->arch = arch_of(work->head, work->head, 0);
		return true;
	}
	if (banner_find(data, bytes, info->version))
		return true;
	return info->arch == KERNEL_ARM32 && scan(data, bytes, work, info->version);
}

int kernel_info(const struct blob *kernel, struct kernel_info *ret_info,
		struct boot_error *ret_error)
{
	struct kernel_info info = {.arch = KERNEL_OTHER};
	const void *data;
	size_t bytes;
	struct work *work;
	bool found;

	/* Files are one piece. */
	if (blob_pieces(kernel, &data, &bytes, 1) != 1 || bytes < HEAD_BYTES)
		return boot_fail(ret_error, -EINVAL, "it is no Linux kernel: it is too short");
	work = calloc(1, sizeof(*work));
	if (!work)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	work->budget = LIMIT_KERNEL_BYTES;
	found = find(data, bytes, work, &info);
	free(work);
	if (!found && memmem(data, bytes, lzo_mark.bytes, lzo_mark.count))
		return boot_fail(ret_error, -EINVAL,
				 "it is packed by lzo, which can't be read here: build it with "
				 "CONFIG_KERNEL_GZIP, _XZ or _ZSTD");
	if (!found)
		return boot_fail(ret_error, -EINVAL,
				 "it is no Linux kernel, or does not say its version");
	*ret_info = info;
	return 0;
}
