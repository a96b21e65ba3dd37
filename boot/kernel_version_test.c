/*
 * Kernels of each kind as they are packed, made here of a page of zeros and a banner.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>

#include "boot/blob.h"
#include "boot/kernel_version.h"

#define PLAIN_BYTES 300000
#define VERSION     "6.12.34+rpt-rpi-v8"
#define BANNER      "Linux version " VERSION " (serge@raspberrypi.com) (gcc) #1 SMP"

struct bytes {
	uint8_t data[2 * PLAIN_BYTES];
	size_t count;
};

/* Not too easy to pack, so that it comes out in several pieces. */
static void plain(struct bytes *bytes, size_t banner_at)
{
	uint32_t random = 1;

	bytes->count = PLAIN_BYTES;
	for (size_t i = 0; i < PLAIN_BYTES; i++) {
		random = random * 1664525 + 1013904223;
		bytes->data[i] = (uint8_t)(random >> 28);
	}
	strcpy((char *)bytes->data + 1000, "Linux version %s");
	strcpy((char *)bytes->data + banner_at, BANNER);
}

static void mark_arm64(struct bytes *bytes)
{
	memcpy(bytes->data + 56, "ARM\x64", 4);
}

static void mark_arm32(struct bytes *bytes)
{
	memcpy(bytes->data + 36, "\x18\x28\x6f\x01", 4);
}

static void pack(struct bytes *to, const struct bytes *from, const char *filter)
{
	struct archive *archive = archive_write_new();
	struct archive_entry *entry = archive_entry_new();

	assert_int_equal(archive_write_set_format_raw(archive), ARCHIVE_OK);
	assert_int_equal(archive_write_add_filter_by_name(archive, filter), ARCHIVE_OK);
	assert_int_equal(archive_write_set_bytes_in_last_block(archive, 1), ARCHIVE_OK);
	assert_int_equal(archive_write_open_memory(archive, to->data, sizeof(to->data), &to->count),
			 ARCHIVE_OK);
	archive_entry_set_filetype(entry, AE_IFREG);
	assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
	assert_int_equal(archive_write_data(archive, from->data, from->count), from->count);
	archive_entry_free(entry);
	assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
}

static int info_of(const struct bytes *bytes, struct kernel_info *info, struct boot_error *error)
{
	struct blob *blob = blob_copy(bytes->data, bytes->count);
	int res = kernel_info(blob, info, error);

	blob_unref(blob);
	return res;
}

static void assert_info(const struct bytes *bytes, enum kernel_arch arch)
{
	struct boot_error error = {""};
	struct kernel_info info;

	if (info_of(bytes, &info, &error))
		fail_msg("%s", error.text);
	assert_string_equal(info.version, VERSION);
	assert_int_equal(info.arch, arch);
}

static const char *const filters[] = {"gzip", "xz", "lzma", "zstd", "lz4", "bzip2"};
static struct bytes one, two;

static void arm64_plain_and_packed(void **state)
{
	/* Also across the borders of the pieces in which it is unpacked. */
	static const size_t places[] = {5000, 65530, 65536 - 20, 131060, PLAIN_BYTES - 100};

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		plain(&one, places[i]);
		mark_arm64(&one);
		assert_info(&one, KERNEL_ARM64);
		for (size_t j = 0; j < sizeof(filters) / sizeof(filters[0]); j++) {
			pack(&two, &one, filters[j]);
			assert_info(&two, KERNEL_ARM64);
		}
	}
}

/* Code that unpacks, what is packed, and what stands behind it. */
static void zimage(struct bytes *to, const char *filter)
{
	static struct bytes packed;
	const size_t head = 20000;

	plain(to, 200000);
	pack(&packed, to, filter);
	memset(to->data, 0x20, sizeof(to->data));
	/* Places that only look like the beginning of something packed. */
	memcpy(to->data + 100, "\x1f\x8b\x08", 3);
	memcpy(to->data + 300, "\x5d\x00\x00\x01", 4);
	memcpy(to->data + 500, "\xfd\x37\x7a\x58\x5a\x00", 6);
	memcpy(to->data + 700, "BZh9", 4);
	memcpy(to->data + head, packed.data, packed.count);
	to->count = head + packed.count + 3000;
	mark_arm32(to);
}

static void arm32_zimage(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		zimage(&two, filters[i]);
		assert_info(&two, KERNEL_ARM32);
	}
}

static void packed_for_efi(void **state)
{
	static struct bytes packed;
	struct boot_error error = {""};
	struct kernel_info info;

	(void)state;
	plain(&one, 5000);
	mark_arm64(&one);
	pack(&packed, &one, "gzip");
	memset(&two, 0, sizeof(two));
	memcpy(two.data, "MZ\0\0zimg", 8);
	two.data[8] = 0x80;
	memcpy(two.data + 12, &(uint32_t){(uint32_t)packed.count}, 4);
	memcpy(two.data + 0x80, packed.data, packed.count);
	two.count = 0x80 + packed.count;
	assert_int_equal(info_of(&two, &info, &error), 0);
	assert_string_equal(info.version, VERSION);
	assert_int_equal(info.arch, KERNEL_ARM64);
	assert_true(info.efi_only);
	two.data[15] = 0x7f; /* longer than the file */
	assert_int_equal(info_of(&two, &info, &error), -EINVAL);
	two.data[11] = 0x7f;
	assert_int_equal(info_of(&two, &info, &error), -EINVAL);
}

static void x86(void **state)
{
	(void)state;
	plain(&one, 5000);
	memset(one.data + 0x200, 0, 0x100);
	memcpy(one.data + 0x202, "HdrS", 4);
	one.data[0x20e] = 0x00;
	one.data[0x20f] = 0x20;
	strcpy((char *)one.data + 0x2200, VERSION " (x)");
	assert_info(&one, KERNEL_X86);
}

static void no_kernels(void **state)
{
	static const char *const banners[] = {
		"Linux version ../../etc (x)", "Linux version  (x)",     "Linux version x6.1 (x)",
		"Linux version 6.1/../x (x)",  "Linux version 6.1\n(x)",
	};
	struct boot_error error = {""};
	struct kernel_info info;

	(void)state;
	for (size_t i = 0; i < sizeof(banners) / sizeof(banners[0]); i++) {
		plain(&one, 5000);
		memset(one.data + 5000, 0, 100);
		strcpy((char *)one.data + 6000, banners[i]);
		mark_arm64(&one);
		assert_int_equal(info_of(&one, &info, &error), -EINVAL);
	}
	plain(&one, 5000);
	memset(one.data + 5014, '6', LIMIT_KERNEL_VERSION_BYTES + 1);
	assert_int_equal(info_of(&one, &info, &error), -EINVAL);
	/* The file ends within the version. */
	plain(&one, PLAIN_BYTES - 20);
	one.count = PLAIN_BYTES;
	assert_int_equal(info_of(&one, &info, &error), -EINVAL);
	one.count = 10;
	assert_int_equal(info_of(&one, &info, &error), -EINVAL);
	one.count = 0;
	assert_int_equal(info_of(&one, &info, &error), -EINVAL);
	/* Damaged before the banner is reached. */
	plain(&one, 250000);
	mark_arm64(&one);
	pack(&two, &one, "gzip");
	memset(two.data + 2000, 0xff, 500);
	assert_int_equal(info_of(&two, &info, &error), -EINVAL);
	pack(&two, &one, "gzip");
	two.count /= 2;
	assert_int_equal(info_of(&two, &info, &error), -EINVAL);
	/* Packed by lzo, which is named. */
	memset(&one, 0, sizeof(one));
	one.count = 5000;
	mark_arm32(&one);
	memcpy(one.data + 3000, "\x89LZO\0\r\n\x1a\n", 9);
	assert_int_equal(info_of(&one, &info, &error), -EINVAL);
	assert_non_null(strstr(error.text, "lzo"));
}

static void versions(void **state)
{
	char long_one[80];

	(void)state;
	assert_true(kernel_version_clean("6.1.0-42-arm64"));
	assert_true(kernel_version_clean("6.12.34+rpt-rpi-v8"));
	assert_true(kernel_version_clean("5.15.0-1~exp_1"));
	assert_false(kernel_version_clean(""));
	assert_false(kernel_version_clean(".."));
	assert_false(kernel_version_clean("6/1"));
	assert_false(kernel_version_clean("6 1"));
	memset(long_one, '1', sizeof(long_one));
	long_one[65] = '\0';
	assert_false(kernel_version_clean(long_one));
	long_one[64] = '\0';
	assert_true(kernel_version_clean(long_one));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arm64_plain_and_packed),
		cmocka_unit_test(arm32_zimage),
		cmocka_unit_test(packed_for_efi),
		cmocka_unit_test(x86),
		cmocka_unit_test(no_kernels),
		cmocka_unit_test(versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
