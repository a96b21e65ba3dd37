/*
 * Views of disks as Raspberry Pi OS and Debian leave them, and of disks that can't boot. The ext4
 * file systems are made by mke2fs (of e2fsprogs, which lunrootd needs anyway).
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
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "boot/blob.h"
#include "boot/blob_pool.h"
#include "boot/cmdline.h"
#include "boot/disk.h"
#include "boot/test_fat.h"
#include "boot/view_internal.h"

#define V8       "6.12.34+rpt-rpi-v8"
#define V2712    "6.12.34+rpt-rpi-2712"
#define V7       "6.12.34+rpt-rpi-v7"
#define DEBIAN   "6.12.57-arm64"
#define VMLINUZ  "vmlinuz-6.12.57-arm64"
#define FAT_AT   (1u << 20)
#define EXT_MIB  12
#define PARTUUID "7d267577-02"

static char folder[64];
static struct blob_pool *pool;

/* --- files of this machine --- */

static void put_file(const char *path, const void *data, size_t bytes)
{
	char full[512];
	FILE *file;

	(void)snprintf(full, sizeof(full), "%s/%s", folder, path);
	for (char *slash = full + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		(void)mkdir(full, 0755);
		*slash = '/';
	}
	file = fopen(full, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
}

static void put_text(const char *path, const char *text)
{
	put_file(path, text, strlen(text));
}

static const char *path_of(const char *path)
{
	static char full[512];

	(void)snprintf(full, sizeof(full), "%s/%s", folder, path);
	return full;
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/lunroot-view-test.XXXXXX");
	pool = blob_pool_new(64u << 20);
	return mkdtemp(folder) && pool ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	blob_pool_free(pool);
	return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* --- kernels --- */

struct kernel {
	uint8_t data[8192];
	size_t bytes;
};

static struct kernel kernel_plain(const char *version, bool arm64)
{
	struct kernel kernel = {.bytes = sizeof(kernel.data)};

	if (arm64)
		memcpy(kernel.data + 56, "ARM\x64", 4);
	else
		memcpy(kernel.data + 36, "\x18\x28\x6f\x01", 4);
	(void)snprintf((char *)kernel.data + 5000, 200, "Linux version %s (x) #1", version);
	return kernel;
}

static struct kernel kernel_gzip(const char *version)
{
	struct kernel plain = kernel_plain(version, true), packed;
	struct archive *archive = archive_write_new();
	struct archive_entry *entry = archive_entry_new();

	assert_int_equal(archive_write_set_format_raw(archive), ARCHIVE_OK);
	assert_int_equal(archive_write_add_filter_gzip(archive), ARCHIVE_OK);
	assert_int_equal(archive_write_set_filter_option(archive, "gzip", "timestamp", NULL),
			 ARCHIVE_OK);
	assert_int_equal(archive_write_set_bytes_in_last_block(archive, 1), ARCHIVE_OK);
	assert_int_equal(
		archive_write_open_memory(archive, packed.data, sizeof(packed.data), &packed.bytes),
		ARCHIVE_OK);
	archive_entry_set_filetype(entry, AE_IFREG);
	assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
	assert_int_equal(archive_write_data(archive, plain.data, plain.bytes), plain.bytes);
	archive_entry_free(entry);
	assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
	return packed;
}

static void fat_put_kernel(struct test_fat *fat, const char *name, struct kernel kernel)
{
	test_fat_put(fat, name, kernel.data, kernel.bytes);
}

/* --- disks --- */

/* What of the boot partition of Raspberry Pi OS matters. */
static void fat_put_pi_os(struct test_fat *fat, const char *config, const char *cmdline)
{
	static const char *const same[] = {
		"bootcode.bin",
		"start.elf",
		"fixup.dat",
		"start_x.elf",
		"fixup_x.dat",
		"start4.elf",
		"fixup4.dat",
		"start4cd.elf",
		"fixup4cd.dat",
		"bcm2710-rpi-3-b.dtb",
		"bcm2710-rpi-3-b-plus.dtb",
		"bcm2711-rpi-4-b.dtb",
		"bcm2711-rpi-cm4.dtb",
		"bcm2712-rpi-5-b.dtb",
		"overlays/README",
		"overlays/vc4-kms-v3d.dtbo",
		"overlays/overlay_map.dtb",
		"initramfs8",
		"initramfs_2712",
		"issue.txt",
		"LICENCE.broadcom",
		"userconf.txt",
		"wpa_supplicant.conf",
		"recovery.bin",
		"recovery8.img",
		"pieeprom.upd",
		"vl805.bin",
		"autoboot.txt",
	};

	test_fat_init(fat, 16, 2048, 4200);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		test_fat_put_text(fat, same[i], same[i]);
	fat_put_kernel(fat, "kernel8.img", kernel_gzip(V8));
	fat_put_kernel(fat, "kernel_2712.img", kernel_gzip(V2712));
	test_fat_put_text(fat, "config.txt", config);
	test_fat_put_text(fat, "cmdline.txt", cmdline);
}

static const char config_trixie[] =
	"# For more options and information see\n"
	"# http://rptl.io/configtxt\n\n"
	"dtparam=audio=on\ncamera_auto_detect=1\ndisplay_auto_detect=1\n\n"
	"# Automatically load initramfs files, if found\nauto_initramfs=1\n\n"
	"dtoverlay=vc4-kms-v3d\nmax_framebuffers=2\ndisable_fw_kms_setup=1\n\n"
	"# Run in 64-bit mode\narm_64bit=1\n\ndisable_overscan=1\narm_boost=1\n\n"
	"[cm4]\notg_mode=1\n\n[cm5]\ndtoverlay=dwc2,dr_mode=host\n\n[all]\n";
static const char cmdline_trixie[] = "console=serial0,115200 console=tty1 root=PARTUUID=" PARTUUID
				     " rootfstype=ext4 fsck.repair=yes rootwait resize\n";
static const char cmdline_bookworm[] = "console=serial0,115200 console=tty1 root=PARTUUID=" PARTUUID
				       " rootfstype=ext4 fsck.repair=yes rootwait quiet "
				       "init=/usr/lib/raspberrypi-sys-mods/firstboot\n";

/* The module tree of a version, below a folder of the root file system that is being made. */
static void put_modules(const char *root, const char *version)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s/kernel/drivers/scsi/iscsi_tcp.ko", root, version);
	put_text(path, version);
	(void)snprintf(path, sizeof(path), "%s/%s/modules.dep", root, version);
	put_text(path, "kernel/drivers/scsi/iscsi_tcp.ko:\n");
}

/* An ext4 file system of what is in `from`. */
static uint8_t *ext_new(const char *from, size_t *ret_bytes)
{
	size_t bytes = (size_t)EXT_MIB << 20;
	uint8_t *data = malloc(bytes);
	char command[512];
	FILE *file;

	(void)mkdir(path_of(from), 0755);
	(void)snprintf(command, sizeof(command),
		       "PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -L rootfs -d %s/%s "
		       "%s/ext.img %uM >/dev/null",
		       folder, from, folder, EXT_MIB);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a test's own words */
	file = fopen(path_of("ext.img"), "r");
	assert_non_null(file);
	assert_non_null(data);
	assert_int_equal(fread(data, 1, bytes, file), bytes);
	(void)fclose(file);
	*ret_bytes = bytes;
	return data;
}

static void put_le32(uint8_t *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void put_partition(uint8_t *mbr, unsigned index, uint8_t type, size_t offset, size_t bytes)
{
	uint8_t *entry = mbr + 446 + 16 * (size_t)index;

	entry[4] = type;
	put_le32(entry + 8, (uint32_t)(offset / 512));
	put_le32(entry + 12, (uint32_t)(bytes / 512));
}

struct test_disk {
	uint8_t *data;
	size_t bytes;
	struct disk *disk;
};

/* MBR, FAT, ext4: takes both. */
static struct test_disk disk_of(struct test_fat *fat, const char *root)
{
	struct test_disk disk;
	size_t ext_bytes, fat_bytes = (fat->bytes + FAT_AT - 1) / FAT_AT * FAT_AT;
	uint8_t *ext = ext_new(root, &ext_bytes);

	disk.bytes = FAT_AT + fat_bytes + ext_bytes;
	disk.data = calloc(1, disk.bytes);
	assert_non_null(disk.data);
	put_le32(disk.data + 440, 0x7d267577);
	put_partition(disk.data, 0, 0x0c, FAT_AT, fat_bytes);
	put_partition(disk.data, 1, 0x83, FAT_AT + fat_bytes, ext_bytes);
	disk.data[510] = 0x55;
	disk.data[511] = 0xaa;
	memcpy(disk.data + FAT_AT, fat->data, fat->bytes);
	memcpy(disk.data + FAT_AT + fat_bytes, ext, ext_bytes);
	free(ext);
	test_fat_done(fat);
	disk.disk = test_disk(disk.data, disk.bytes);
	return disk;
}

static struct test_disk disk_bare(const char *root)
{
	struct test_disk disk;

	disk.data = ext_new(root, &disk.bytes);
	disk.disk = test_disk(disk.data, disk.bytes);
	return disk;
}

static void disk_done(struct test_disk *disk)
{
	disk_free(disk->disk);
	free(disk->data);
}

/* --- making views --- */

/* Instead of the maker: what it was asked for is what it makes. */
static int fake_initramfs(void *arg, struct tree *modules, const struct kernel_info *kernel,
			  struct blob **ret_blob, struct boot_error *ret_error)
{
	const struct tree_file *file = tree_find(modules, "kernel/drivers/scsi/iscsi_tcp.ko");
	char text[256];
	struct blob *blob;

	if (arg)
		return boot_fail(ret_error, -EINVAL, "%s", (const char *)arg);
	assert_non_null(file);
	assert_int_equal(tree_read(modules, file, 100, &blob), 0);
	(void)snprintf(text, sizeof(text), "initramfs of %s with ", kernel->version);
	text[strlen(text) + blob_read(blob, 0, text + strlen(text), 100)] = '\0';
	blob_unref(blob);
	*ret_blob = blob_copy(text, strlen(text));
	return 0;
}

static const struct pi_identity pi3 = {.model = PI_3B, .has_serial = true, .serial = 0xb66c4c16};
static const struct pi_identity pi4 = {.model = PI_4, .revision = 0xa03111};
static const struct pi_identity pi5 = {.model = PI_5};
static const struct pi_identity pc = {.model = PI_NONE};

static struct view_config config_for(const struct pi_identity *pi)
{
	return (struct view_config){
		.node = "pi-07", .pi = pi, .pool = pool, .make_initramfs = fake_initramfs};
}

static struct view *make(struct disk *disk, const struct view_config *config)
{
	struct boot_error error = {""};
	struct view *view = NULL;

	if (view_make(disk, config, &view, &error))
		fail_msg("%s", error.text);
	return view;
}

static struct view *make_for(struct test_disk *disk, const struct pi_identity *pi)
{
	struct view_config config = config_for(pi);

	return make(disk->disk, &config);
}

static int make_fails(struct disk *disk, const struct view_config *config, const char *words)
{
	struct boot_error error = {""};
	struct view *view = NULL;
	int res = view_make(disk, config, &view, &error);

	assert_null(view);
	assert_true(res < 0);
	if (!strstr(error.text, words))
		fail_msg("no \"%s\" in \"%s\"", words, error.text);
	assert_non_null(strstr(error.text, "pi-07"));
	return res;
}

static const char *text_of(const struct view *view, const char *name)
{
	static char text[10000];
	struct blob *blob = view_find(view, name);

	if (!blob)
		fail_msg("no %s", name);
	text[blob_read(blob, 0, text, sizeof(text) - 1)] = '\0';
	blob_unref(blob);
	return text;
}

static void assert_names(const struct view *view, const char *const *names)
{
	for (size_t i = 0; i < view_count(view) || names[i]; i++) {
		const char *name = i < view_count(view) ? view_at(view, i).name : "(nothing)";

		if (!names[i] || strcmp(name, names[i]) != 0)
			fail_msg("file %zu is %s, not %s", i, name,
				 names[i] ? names[i] : "(nothing)");
	}
}

static bool has_hidden(const struct view *view, const char *name)
{
	for (size_t i = 0; i < view_about(view)->hidden_count; i++) {
		if (strcmp(view_about(view)->hidden[i], name) == 0)
			return true;
	}
	return false;
}

static bool has_note(const struct view *view, const char *words)
{
	for (size_t i = 0; i < view_about(view)->note_count; i++) {
		if (strstr(view_about(view)->notes[i], words))
			return true;
	}
	return false;
}

static struct test_disk disk_pi_os(const char *config, const char *cmdline)
{
	struct test_fat fat;

	fat_put_pi_os(&fat, config, cmdline);
	put_modules("root/usr/lib/modules", V8);
	put_modules("root/usr/lib/modules", V2712);
	/* As a merged /usr has it. */
	(void)symlink("usr/lib", path_of("root/lib"));
	return disk_of(&fat, "root");
}

/* --- tests --- */

static void raspberry_pi_os_for_each_model(void **state)
{
	static const char *const for_3[] = {"bcm2710-rpi-3-b-plus.dtb",
					    "bcm2710-rpi-3-b.dtb",
					    "bootcode.bin",
					    "cmdline.txt",
					    "config.txt",
					    "fixup.dat",
					    "fixup_x.dat",
					    "kernel8.img",
					    "lunroot.img",
					    "overlays/overlay_map.dtb",
					    "overlays/README",
					    "overlays/vc4-kms-v3d.dtbo",
					    "start.elf",
					    "start_x.elf",
					    NULL};
	static const char *const for_4[] = {"bcm2711-rpi-4-b.dtb",
					    "bcm2711-rpi-cm4.dtb",
					    "cmdline.txt",
					    "config.txt",
					    "fixup4.dat",
					    "fixup4cd.dat",
					    "kernel8.img",
					    "lunroot.img",
					    "overlays/overlay_map.dtb",
					    "overlays/README",
					    "overlays/vc4-kms-v3d.dtbo",
					    "start4.elf",
					    "start4cd.elf",
					    NULL};
	static const char *const for_5[] = {"bcm2712-rpi-5-b.dtb",
					    "cmdline.txt",
					    "config.txt",
					    "kernel_2712.img",
					    "lunroot.img",
					    "overlays/overlay_map.dtb",
					    "overlays/README",
					    "overlays/vc4-kms-v3d.dtbo",
					    NULL};
	struct test_disk disk = disk_pi_os(config_trixie, cmdline_trixie);
	struct view *view;

	(void)state;
	view = make_for(&disk, &pi3);
	assert_names(view, for_3);
	assert_string_equal(text_of(view, "LUNROOT.IMG"), "initramfs of " V8 " with " V8);
	assert_string_equal(text_of(view, "cmdline.txt"),
			    "console=serial0,115200 console=tty1 root=PARTUUID=" PARTUUID
			    " rootfstype=ext4 fsck.repair=yes rootwait\n");
	assert_string_equal(text_of(view, "config.txt"),
			    "# For more options and information see\n# http://rptl.io/configtxt\n\n"
			    "dtparam=audio=on\ncamera_auto_detect=1\ndisplay_auto_detect=1\n\n"
			    "# Automatically load initramfs files, if found\n\n"
			    "dtoverlay=vc4-kms-v3d\nmax_framebuffers=2\ndisable_fw_kms_setup=1\n\n"
			    "# Run in 64-bit mode\n\ndisable_overscan=1\narm_boost=1\n\n"
			    "[cm4]\notg_mode=1\n\n[cm5]\ndtoverlay=dwc2,dr_mode=host\n\n[all]\n"
			    "[all]\nauto_initramfs=0\narm_64bit=1\nkernel=kernel8.img\n"
			    "initramfs lunroot.img followkernel\n");
	assert_string_equal(view_about(view)->kernel, "kernel8.img");
	assert_string_equal(view_about(view)->kernel_version, V8);
	assert_non_null(strstr(view_about(view)->root, "ext4 on partition 2"));
	assert_non_null(strstr(view_about(view)->source, "vfat on partition 1"));
	assert_true(has_hidden(view, "recovery.bin") && has_hidden(view, "recovery8.img") &&
		    has_hidden(view, "pieeprom.upd") && has_hidden(view, "vl805.bin") &&
		    has_hidden(view, "autoboot.txt") && has_hidden(view, "initramfs8"));
	assert_int_equal(view_about(view)->hidden_count, 7);
	assert_true(has_note(view, "taken out of cmdline.txt: resize"));
	assert_false(view_about(view)->by_serial);
	view_unref(view);
	view = make_for(&disk, &pi4);
	assert_names(view, for_4);
	view_unref(view);
	view = make_for(&disk, &pi5);
	assert_names(view, for_5);
	assert_string_equal(text_of(view, "lunroot.img"), "initramfs of " V2712 " with " V2712);
	assert_non_null(strstr(text_of(view, "config.txt"), "\nkernel=kernel_2712.img\n"));
	view_unref(view);
	view = make_for(&disk, &pc);
	assert_string_equal(view_about(view)->kernel, "kernel8.img");
	assert_int_equal(view_count(view), 3);
	view_unref(view);
	disk_done(&disk);
}

static void bookworm_and_choices_in_config(void **state)
{
	struct test_fat fat;
	struct test_disk disk;
	struct view *view;
	struct view_config config;

	(void)state;
	fat_put_pi_os(
		&fat,
		"[pi3]\narm_64bit=0\n[0xb66c4c16]\ncmdline=mine.txt\n[all]\n[pi4]\nkernel=kernel_"
		"2712.img\n"
		"device_tree=special.dtb\n[all]\ninclude user.txt\n",
		cmdline_bookworm);
	fat_put_kernel(&fat, "kernel7.img", kernel_plain(V7, false));
	test_fat_put_text(&fat, "mine.txt", "root=LABEL=rootfs");
	test_fat_put_text(&fat, "special.dtb", "dtb");
	test_fat_put_text(&fat, "user.txt", "gpu_mem=16\n");
	put_modules("root/lib/modules", V8);
	put_modules("root/lib/modules", V2712);
	put_modules("root/lib/modules", V7);
	disk = disk_of(&fat, "root");
	config = config_for(&pi3);
	config.cmdline_extra = "lunroot.rescue console=ttyAMA0";
	view = make(disk.disk, &config);
	assert_string_equal(view_about(view)->kernel, "kernel7.img");
	assert_string_equal(text_of(view, "cmdline.txt"),
			    "root=LABEL=rootfs lunroot.rescue console=ttyAMA0\n");
	assert_non_null(strstr(text_of(view, "config.txt"), "gpu_mem=16\n[all]\nauto_initramfs=0\n"
							    "arm_64bit=0\nkernel=kernel7.img\n"));
	assert_true(view_about(view)->by_serial);
	view_unref(view);
	view = make_for(&disk, &pi4);
	assert_string_equal(view_about(view)->kernel, "kernel_2712.img");
	assert_string_equal(text_of(view, "special.dtb"), "dtb");
	assert_string_equal(text_of(view, "cmdline.txt"),
			    "console=serial0,115200 console=tty1 root=PARTUUID=" PARTUUID
			    " rootfstype=ext4 fsck.repair=yes rootwait quiet\n");
	view_unref(view);
	disk_done(&disk);
}

static void prefix_is_followed_where_the_firmware_would(void **state)
{
	struct test_fat fat;
	struct test_disk disk;
	struct view *view;

	(void)state;
	fat_put_pi_os(&fat, "os_prefix=new/\n", cmdline_trixie);
	fat_put_kernel(&fat, "new/kernel8.img", kernel_gzip(V2712));
	test_fat_put_text(&fat, "new/bcm2710-rpi-3-b.dtb", "new dtb");
	test_fat_put_text(&fat, "new/cmdline.txt", "root=LABEL=rootfs new");
	test_fat_put_text(&fat, "new/overlays/vc4-kms-v3d.dtbo", "new overlay");
	put_modules("root/lib/modules", V8);
	put_modules("root/lib/modules", V2712);
	disk = disk_of(&fat, "root");
	view = make_for(&disk, &pi3);
	assert_string_equal(view_about(view)->kernel_version, V2712);
	assert_string_equal(view_about(view)->kernel, "kernel8.img");
	assert_string_equal(text_of(view, "bcm2710-rpi-3-b.dtb"), "new dtb");
	assert_string_equal(text_of(view, "bcm2710-rpi-3-b-plus.dtb"), "bcm2710-rpi-3-b-plus.dtb");
	assert_string_equal(text_of(view, "cmdline.txt"), "root=LABEL=rootfs new\n");
	/* No README there: overlays are shared. */
	assert_string_equal(text_of(view, "overlays/vc4-kms-v3d.dtbo"),
			    "overlays/vc4-kms-v3d.dtbo");
	assert_null(strstr(text_of(view, "config.txt"), "os_prefix"));
	view_unref(view);
	/* There is no device tree for it: as if nothing were said. */
	view = make_for(&disk, &pi4);
	assert_string_equal(view_about(view)->kernel_version, V8);
	assert_true(has_note(view, "ignored, as the firmware does"));
	view_unref(view);
	disk_done(&disk);
}

static void what_is_missing_is_named(void **state)
{
	struct test_fat fat;
	struct test_disk disk;
	struct view_config config = config_for(&pi3);
	char firmware[128];
	struct view *view;

	(void)state;
	disk = disk_pi_os("kernel=lost.img\n", cmdline_trixie);
	assert_int_equal(
		make_fails(disk.disk, &config, "kernel=lost.img, but there is no such file"),
		-ENOENT);
	disk_done(&disk);
	disk = disk_pi_os("boot_ramdisk=1\n", cmdline_trixie);
	assert_int_equal(make_fails(disk.disk, &config, "boot_ramdisk=1"), -ENOTSUP);
	disk_done(&disk);
	disk = disk_pi_os("arm_64bit=0\n", cmdline_trixie);
	assert_int_equal(make_fails(disk.disk, &config, "it looks for kernel7.img (arm_64bit=0)"),
			 -ENOENT);
	disk_done(&disk);
	disk = disk_pi_os("kernel=issue.txt\n", cmdline_trixie);
	assert_int_equal(make_fails(disk.disk, &config, "no Linux kernel"), -EINVAL);
	disk_done(&disk);
	disk = disk_pi_os("", "root=LABEL=wrong");
	assert_int_equal(
		make_fails(disk.disk, &config, "root=LABEL=wrong: the disk has none: PART=1 vfat"),
		-ENOENT);
	config.make_initramfs_arg = "no luck today";
	disk_done(&disk);
	disk = disk_pi_os("", "");
	assert_int_equal(make_fails(disk.disk, &config, "no luck today"), -EINVAL);
	config.make_initramfs_arg = NULL;
	disk_done(&disk);

	fat_put_pi_os(&fat, "", "");
	disk = disk_of(&fat, "empty");
	assert_int_equal(make_fails(disk.disk, &config,
				    "the disk of pi-07 has kernel " V8
				    " in kernel8.img but no /lib/modules/" V8
				    ": reinstall the kernel package"),
			 -ENOENT);
	disk_done(&disk);

	test_fat_init(&fat, 16, 2048, 4200);
	fat_put_kernel(&fat, "kernel8.img", kernel_gzip(V8));
	disk = disk_of(&fat, "root");
	assert_int_equal(make_fails(disk.disk, &config, "has no bootcode.bin"), -ENOENT);
	config.firmware_folder = path_of("nowhere");
	assert_int_equal(make_fails(disk.disk, &config, "nowhere"), -ENOENT);
	put_text("firmware/bootcode.bin", "1");
	put_text("firmware/start.elf", "2");
	(void)snprintf(firmware, sizeof(firmware), "%s", path_of("firmware"));
	config.firmware_folder = firmware;
	assert_int_equal(make_fails(disk.disk, &config, "has no fixup.dat"), -ENOENT);
	put_text("firmware/fixup.dat", "3");
	put_text("firmware/start4.elf", "4");
	put_text("firmware/start_x.elf", "5");
	assert_int_equal(make_fails(disk.disk, &config, "no device tree for a Raspberry Pi 3B"),
			 -ENOENT);
	disk_done(&disk);

	test_fat_init(&fat, 16, 2048, 4200);
	fat_put_kernel(&fat, "kernel8.img", kernel_gzip(V8));
	test_fat_put_text(&fat, "bcm2837-rpi-3-b.dtb", "x");
	disk = disk_of(&fat, "root");
	view = make(disk.disk, &config);
	assert_string_equal(text_of(view, "start.elf"), "2");
	assert_string_equal(text_of(view, "start_x.elf"), "5");
	assert_null(view_find(view, "start4.elf"));
	assert_string_equal(text_of(view, "cmdline.txt"), CMDLINE_DEFAULT "\n");
	view_unref(view);
	disk_done(&disk);

	test_fat_init(&fat, 16, 2048, 4200);
	fat_put_kernel(&fat, "kernel8.img", kernel_gzip(V8));
	test_fat_put_text(&fat, "bcm2837-rpi-3-b.dtb", "x");
	test_fat_put_text(&fat, "start.elf", "own");
	disk = disk_of(&fat, "root");
	/* Not half of one set and half of another. */
	assert_int_equal(make_fails(disk.disk, &config, "has no fixup.dat"), -ENOENT);
	disk_done(&disk);
}

static void damage_is_left_out_or_refused(void **state)
{
	struct test_fat fat;
	struct test_disk disk;
	struct view_config config = config_for(&pi3);
	struct view *view;
	static const char *const vital[] = {"kernel8.img", "config.txt", "cmdline.txt"};

	(void)state;
	put_modules("root/lib/modules", V8);
	fat_put_pi_os(&fat, "", "");
	test_fat_link(&fat, test_fat_first(test_fat_entry(&fat, "start_x.elf")), 0);
	memset(test_fat_entry(&fat, "start_x.elf") + 26, 0, 2);
	disk = disk_of(&fat, "root");
	view = make(disk.disk, &config);
	assert_true(has_note(view, "start_x.elf of pi-07 can't be read"));
	assert_null(view_find(view, "start_x.elf"));
	assert_string_equal(text_of(view, "start.elf"), "start.elf");
	view_unref(view);
	disk_done(&disk);
	for (size_t i = 0; i < 3; i++) {
		fat_put_pi_os(&fat, config_trixie, cmdline_trixie);
		memset(test_fat_entry(&fat, vital[i]) + 26, 0, 2);
		disk = disk_of(&fat, "root");
		assert_int_equal(make_fails(disk.disk, &config, vital[i]), -EUCLEAN);
		disk_done(&disk);
	}
}

static void bare_root_of_debian(void **state)
{
	static const char *const for_5[] = {"bcm2712-rpi-5-b.dtb", "cmdline.txt", "config.txt",
					    "lunroot.img",         VMLINUZ,       NULL};
	struct kernel kernel = kernel_plain(DEBIAN, true), old = kernel_plain("6.9.1-arm64", true);
	struct test_disk disk;
	struct view_config config = config_for(&pi3);
	struct view *view;

	(void)state;
	put_file("root/boot/vmlinuz-" DEBIAN, kernel.data, kernel.bytes);
	put_file("root/boot/vmlinuz-6.9.1-arm64", old.data, old.bytes);
	put_text("root/boot/vmlinuz-6.99.0-arm64", "without modules");
	put_text("root/boot/initrd.img-" DEBIAN, "x");
	put_text("root/usr/lib/linux-image-" DEBIAN "/broadcom/bcm2712-rpi-5-b.dtb", "five");
	put_text("root/usr/lib/linux-image-" DEBIAN "/broadcom/bcm2837-rpi-3-b.dtb", "three");
	put_text("root/usr/lib/linux-image-" DEBIAN "/rockchip/rk3399.dtb", "other");
	put_modules("root/lib/modules", DEBIAN);
	put_modules("root/lib/modules", "6.9.1-arm64");
	disk = disk_bare("root");
	view = make_for(&disk, &pi5);
	assert_names(view, for_5);
	assert_string_equal(
		text_of(view, "config.txt"),
		"upstream_kernel=1\nenable_uart=1\n[all]\nauto_initramfs=0\narm_64bit=1\n"
		"kernel=vmlinuz-" DEBIAN "\ninitramfs lunroot.img followkernel\n");
	assert_string_equal(view_about(view)->root, "ext4 on the whole disk (label rootfs)");
	view_unref(view);
	assert_int_equal(make_fails(disk.disk, &config, "raspi-firmware"), -ENOENT);
	disk_done(&disk);
	/* The administrator's link stands before the highest number. */
	assert_int_equal(symlink("boot/vmlinuz-6.9.1-arm64", path_of("root/vmlinuz")), 0);
	put_text("root/usr/lib/linux-image-6.9.1-arm64/broadcom/bcm2712-rpi-5-b.dtb", "five");
	disk = disk_bare("root");
	view = make_for(&disk, &pi5);
	assert_string_equal(view_about(view)->kernel_version, "6.9.1-arm64");
	view_unref(view);
	view = make_for(&disk, &pc);
	assert_int_equal(view_count(view), 3);
	view_unref(view);
	disk_done(&disk);
}

static void root_that_was_not_unmounted(void **state)
{
	struct kernel kernel = kernel_gzip(V8);
	struct view_config config = config_for(&pi5);
	struct test_disk disk;
	struct view *view;

	(void)state;
	put_file("root/boot/kernel8.img", kernel.data, kernel.bytes);
	put_text("root/boot/config.txt", "");
	put_text("root/boot/bcm2712-rpi-5-b.dtb", "d");
	for (unsigned round = 0; round < 2; round++) {
		if (round == 1)
			put_modules("root/lib/modules", V8);
		disk = disk_bare("root");
		disk_free(disk.disk);
		disk.data[1024 + 96] |= 4; /* s_feature_incompat: its journal has something */
		disk.disk = test_disk(disk.data, disk.bytes);
		if (round == 0) {
			assert_int_equal(make_fails(disk.disk, &config, "or run e2fsck on it"),
					 -ENOENT);
		} else {
			view = make(disk.disk, &config);
			assert_true(has_note(view, "not unmounted properly"));
			view_unref(view);
		}
		disk_done(&disk);
	}
}

static void boot_folder_within_the_root(void **state)
{
	struct kernel kernel = kernel_gzip(V8);
	struct test_disk disk;
	struct view *view;

	(void)state;
	put_file("root/boot/firmware/kernel8.img", kernel.data, kernel.bytes);
	put_text("root/boot/firmware/config.txt", "arm_64bit=1\n");
	put_text("root/boot/firmware/start4.elf", "s");
	put_text("root/boot/firmware/fixup4.dat", "f");
	put_text("root/boot/firmware/bcm2711-rpi-4-b.dtb", "d");
	put_text("root/boot/firmware/overlays/x.dtbo", "o");
	put_modules("root/lib/modules", V8);
	disk = disk_bare("root");
	view = make_for(&disk, &pi4);
	assert_non_null(strstr(view_about(view)->source, "/boot/firmware"));
	assert_string_equal(text_of(view, "overlays/X.dtbo"), "o");
	view_unref(view);
	disk_done(&disk);
}

static void disks_without_anything(void **state)
{
	struct view_config config = config_for(&pi4);
	uint8_t *zeros = calloc(1, 1 << 20);
	struct test_disk disk;
	struct disk *empty;

	(void)state;
	assert_non_null(zeros);
	empty = test_disk(zeros, 1 << 20);
	assert_int_equal(make_fails(empty, &config, "no boot files for pi-07"), -ENOENT);
	disk_free(empty);
	empty = test_disk(zeros, 0);
	assert_int_equal(make_fails(empty, &config, "no boot files for pi-07"), -ENOENT);
	disk_free(empty);
	free(zeros);
	assert_int_equal(make_fails(NULL, &config, "neither a disk nor a folder"), -ENOENT);
	disk = disk_bare("nothing");
	assert_int_equal(make_fails(disk.disk, &config, "no /boot"), -ENOENT);
	disk_done(&disk);
	put_text("other/boot/grub/grub.cfg", "x");
	disk = disk_bare("other");
	assert_int_equal(make_fails(disk.disk, &config, "install a kernel package"), -ENOENT);
	disk_done(&disk);
}

static void folder_on_the_server(void **state)
{
	struct kernel kernel = kernel_gzip(V8);
	struct view_config config = config_for(&pi4);
	struct test_disk disk;
	char boot[128];
	struct view *view;

	(void)state;
	(void)snprintf(boot, sizeof(boot), "%s", path_of("boot"));
	config.folder = boot;
	assert_int_equal(make_fails(NULL, &config, "No such file"), -ENOENT);
	/* Something quite else: served as it is. */
	put_text("boot/pxelinux.0", "loader");
	put_text("boot/config.txt", "own=1\n");
	put_text("boot/initrd.gz", "an installer's");
	put_text("boot/recovery.elf", "never");
	view = make(NULL, &config);
	assert_string_equal(text_of(view, "pxelinux.0"), "loader");
	assert_string_equal(text_of(view, "config.txt"), "own=1\n");
	assert_string_equal(text_of(view, "initrd.gz"), "an installer's");
	assert_null(view_find(view, "recovery.elf"));
	assert_true(has_hidden(view, "recovery.elf") && has_note(view, "no kernel"));
	view_unref(view);
	/* A kernel, but no modules anywhere. */
	put_file("boot/kernel8.img", kernel.data, kernel.bytes);
	assert_int_equal(make_fails(NULL, &config, "the folder of pi-07 has kernel " V8), -ENOENT);
	/* Modules of the node's disk, of the folder, and a ready initramfs. */
	put_modules("root/lib/modules", V8);
	disk = disk_bare("root");
	view = make(disk.disk, &config);
	assert_string_equal(text_of(view, "lunroot.img"), "initramfs of " V8 " with " V8);
	assert_non_null(strstr(text_of(view, "config.txt"), "own=1\n[all]\n"));
	view_unref(view);
	disk_done(&disk);
	put_modules("boot/lib/modules", V8);
	view = make(NULL, &config);
	assert_string_equal(text_of(view, "lunroot.img"), "initramfs of " V8 " with " V8);
	assert_null(view_find(view, "lib/modules/" V8 "/modules.dep"));
	view_unref(view);
	put_text("boot/lunroot.img", "ready");
	view = make(NULL, &config);
	assert_string_equal(text_of(view, "lunroot.img"), "ready");
	view_unref(view);
}

static void clones_hold_their_files_once(void **state)
{
	struct test_disk first = disk_pi_os(config_trixie, cmdline_trixie);
	struct test_disk second = disk_pi_os(config_trixie, cmdline_trixie);
	struct view *one = make_for(&first, &pi3), *two = make_for(&second, &pi4);
	struct blob *kernel = view_find(one, "kernel8.img"), *same = view_find(two, "kernel8.img");
	struct view_config config = config_for(&pi3);
	struct blob_pool_usage usage = blob_pool_usage(pool);
	struct blob_pool *small;

	(void)state;
	assert_ptr_equal(kernel, same);
	blob_unref(same);
	assert_int_equal(usage.bytes_idle, 0);
	view_unref(one);
	view_unref(two);
	blob_unref(kernel);
	usage = blob_pool_usage(pool);
	assert_true(usage.bytes > 0 && usage.bytes_idle == usage.bytes);
	/* Idle ones are found again, and go when the room is needed. */
	one = make_for(&first, &pi3);
	assert_int_equal(blob_pool_usage(pool).bytes, usage.bytes);
	view_unref(one);
	small = blob_pool_new(150);
	config.pool = small;
	assert_int_equal(make_fails(first.disk, &config, "fill the memory"), -ENOSPC);
	blob_pool_free(small);
	disk_done(&first);
	disk_done(&second);
}

static void pool_lets_the_longest_unused_go(void **state)
{
	struct blob_pool *small = blob_pool_new(100);
	struct blob *held, *blob;
	char text[40];

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_int_equal(blob_pool_share(small, blob_copy("held", 4), &held), 0);
	for (unsigned i = 0; i < 10; i++) {
		text[0] = (char)('0' + i);
		assert_int_equal(blob_pool_share(small, blob_copy(text, sizeof(text)), &blob), 0);
		blob_unref(blob);
		assert_true(blob_pool_usage(small).bytes <= 100);
	}
	assert_int_equal(blob_pool_usage(small).blobs, 3);
	assert_int_equal(blob_pool_share(small, blob_copy("held", 4), &blob), 0);
	assert_ptr_equal(blob, held);
	blob_unref(blob);
	assert_int_equal(blob_pool_share(small, blob_copy(folder, 101 - 40), &blob), 0);
	assert_int_equal(
		blob_pool_share(small, blob_new(calloc(1, 101), 101), &(struct blob *){NULL}),
		-ENOSPC);
	assert_int_equal(
		blob_pool_share(small, blob_new(calloc(1, 50), 50), &(struct blob *){NULL}),
		-ENOSPC);
	blob_unref(blob);
	blob_pool_free(small);
	assert_int_equal(blob_bytes(held), 4); /* outlives the pool */
	blob_unref(held);
}

static void blobs_of_pieces(void **state)
{
	struct blob *a = blob_copy("abcde", 5), *b = blob_copy("fg", 2), *c, *d;
	const void *data[8];
	size_t bytes[8];
	char text[32];

	(void)state;
	c = blob_concat(blob_ref(a), blob_ref(b));
	assert_int_equal(blob_bytes(c), 10);
	assert_int_equal(blob_read(c, 0, text, sizeof(text)), 10);
	assert_memory_equal(text, "abcde\0\0\0fg", 10);
	assert_int_equal(blob_read(c, 4, text, 3), 3);
	assert_memory_equal(text, "e\0\0", 3);
	assert_int_equal(blob_read(c, 9, text, 3), 1);
	assert_int_equal(blob_read(c, 10, text, 3), 0);
	assert_int_equal(blob_read(c, UINT64_MAX, text, 3), 0);
	assert_int_equal(blob_pieces(c, data, bytes, 8), 3);
	assert_int_equal(bytes[1], 3);
	assert_int_equal(blob_pieces(c, data, bytes, 0), 3);
	d = blob_concat(blob_ref(c), c);
	assert_int_equal(blob_bytes(d), 22);
	assert_int_equal(blob_read(d, 12, text, 32), 10);
	assert_memory_equal(text, "abcde\0\0\0fg", 10);
	blob_unref(a);
	blob_unref(b);
	assert_int_equal(blob_read(d, 12, text, 5), 5);
	blob_unref(d);
	d = blob_concat(blob_new(NULL, 0), blob_copy("x", 1));
	assert_int_equal(blob_bytes(d), 1);
	assert_int_equal(blob_pieces(d, data, bytes, 8), 1);
	assert_null(blob_concat(d, NULL));
	assert_null(blob_concat(NULL, blob_copy("x", 1)));
	/* Not without end. */
	a = blob_copy("1234", 4);
	for (unsigned i = 1; i < BLOB_PIECES_MAX; i++)
		a = blob_concat(a, blob_copy("1234", 4));
	assert_non_null(a);
	assert_null(blob_concat(a, blob_copy("x", 1)));
}

/* What the kernel would unpack from the end of the initramfs: the node's settings. */
static void assert_settings(const struct blob *blob, size_t from, const char *settings)
{
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	size_t bytes = (size_t)blob_bytes(blob) - from;
	uint8_t *data = malloc(bytes);
	char text[200] = "";

	assert_non_null(data);
	assert_int_equal(from % 4, 0);
	assert_int_equal(blob_read(blob, from, data, bytes), bytes);
	assert_int_equal(archive_read_support_format_cpio(archive), ARCHIVE_OK);
	assert_int_equal(archive_read_support_filter_gzip(archive), ARCHIVE_OK);
	assert_int_equal(archive_read_open_memory(archive, data, bytes), ARCHIVE_OK);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_int_equal(archive_format(archive), ARCHIVE_FORMAT_CPIO_SVR4_NOCRC);
	assert_string_equal(archive_entry_pathname(entry), "etc");
	assert_int_equal(archive_entry_filetype(entry), AE_IFDIR);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), "etc/lunroot");
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_OK);
	assert_string_equal(archive_entry_pathname(entry), "etc/lunroot/node.conf");
	assert_int_equal(archive_entry_mode(entry), AE_IFREG | 0600);
	assert_int_equal(archive_entry_uid(entry), 0);
	assert_int_equal(archive_entry_mtime(entry), 0);
	assert_int_equal(archive_read_data(archive, text, sizeof(text)), strlen(settings));
	assert_string_equal(text, settings);
	assert_int_equal(archive_read_next_header(archive, &entry), ARCHIVE_EOF);
	archive_read_free(archive);
	free(data);
}

static void a_pc_has_a_script_before_its_files(void **state)
{
	struct test_disk disk = disk_pi_os(config_trixie, cmdline_trixie);
	struct view *view = make_for(&disk, &pi3), *boot, *for_pc, *bare;

	(void)state;
	assert_int_equal(view_for_boot(view, "secret=not-a-real-one\n", &boot), 0);
	assert_int_equal(view_for_pc(boot, "#!ipxe\n", &for_pc), 0);
	assert_int_equal(view_count(for_pc), view_count(boot) + 1);
	assert_string_equal(text_of(for_pc, "Boot.ipxe"), "#!ipxe\n");
	for (size_t i = 0; i < view_count(boot); i++) {
		struct view_file file = view_at(boot, i);
		struct blob *blob = view_find(for_pc, file.name);

		assert_int_equal(blob_bytes(blob), file.bytes);
		blob_unref(blob);
	}
	/* One whose disk has nothing for a boot loader. */
	assert_int_equal(view_for_pc(NULL, "#!ipxe\n", &bare), 0);
	assert_int_equal(view_count(bare), 1);
	assert_string_equal(view_about(bare)->kernel, "");
	view_unref(view);
	view_unref(boot);
	view_unref(for_pc);
	view_unref(bare);
	disk_done(&disk);
}

static void each_boot_has_settings_of_its_own(void **state)
{
	static const char settings[] =
		"portal=10.0.0.2:3260\ntarget=iqn.x\nsecret=not-a-real-one\n";
	static char long_one[LIMIT_NODE_CONF_BYTES + 2];
	struct test_disk disk = disk_pi_os(config_trixie, cmdline_trixie);
	struct view *view = make_for(&disk, &pi3), *boot, *again, *other;
	struct blob *base = view_find(view, "lunroot.img"), *own, *same, *third;
	const void *pieces[4], *base_piece;
	size_t bytes[4], base_bytes, aligned = ((size_t)blob_bytes(base) + 3) / 4 * 4;
	char first[2000], second[2000];

	(void)state;
	assert_int_equal(view_for_boot(view, settings, &boot), 0);
	assert_int_equal(view_for_boot(boot, settings, &again), 0);
	assert_int_equal(view_for_boot(view, "secret=another\n", &other), 0);
	own = view_find(boot, "LunRoot.img");
	same = view_find(again, "lunroot.img");
	third = view_find(other, "lunroot.img");
	/* The big one is not copied. */
	assert_int_equal(blob_pieces(base, &base_piece, &base_bytes, 1), 1);
	assert_true(blob_pieces(own, pieces, bytes, 4) >= 2);
	assert_ptr_equal(pieces[0], base_piece);
	assert_settings(own, aligned, settings);
	assert_settings(third, aligned, "secret=another\n");
	assert_int_equal(blob_bytes(own), blob_bytes(same));
	assert_true(blob_bytes(own) < sizeof(first));
	assert_int_equal(blob_read(own, 0, first, sizeof(first)), blob_bytes(own));
	assert_int_equal(blob_read(same, 0, second, sizeof(second)), blob_bytes(own));
	assert_memory_equal(first, second, (size_t)blob_bytes(own));
	/* All else is as before, also when the first view has gone. */
	view_unref(view);
	assert_int_equal(view_count(boot), 14);
	for (size_t i = 0; i < view_count(boot); i++) {
		struct view_file file = view_at(boot, i);
		struct blob *blob = view_find(boot, file.name);

		assert_int_equal(blob_bytes(blob), file.bytes);
		blob_unref(blob);
	}
	assert_string_equal(view_about(boot)->kernel_version, V8);
	assert_string_equal(text_of(boot, "start.elf"), "start.elf");
	assert_null(view_find(boot, "start.elf2"));
	assert_null(view_find(boot, ""));
	assert_null(view_find(boot, "overlays"));
	assert_int_equal(view_for_boot(boot, "", &other), -EINVAL);
	memset(long_one, '#', LIMIT_NODE_CONF_BYTES + 1);
	assert_int_equal(view_for_boot(boot, long_one, &other), -EINVAL);
	long_one[LIMIT_NODE_CONF_BYTES] = '\0';
	view_unref(other);
	assert_int_equal(view_for_boot(boot, long_one, &other), 0);
	view_unref(other);
	blob_unref(base);
	blob_unref(own);
	blob_unref(same);
	blob_unref(third);
	view_unref(boot);
	view_unref(again);
	disk_done(&disk);
}

static void too_much_for_one_view(void **state)
{
	struct view *view = view_new(), *boot = NULL;
	size_t bytes = LIMIT_VIEW_BYTES / 2;

	(void)state;
	assert_int_equal(view_add(view, "a", blob_new(calloc(1, bytes), bytes)), 0);
	assert_int_equal(view_add(view, "b", blob_new(calloc(1, bytes), bytes)), 0);
	assert_int_equal(view_add(view, "c", blob_new(calloc(1, 1), 1)), -EFBIG);
	assert_int_equal(view_add(view, "A", blob_new(calloc(1, 1), 1)), 0); /* keeps the first */
	assert_int_equal(view_count(view), 2);
	assert_int_equal(view_at(view, 0).bytes, bytes);
	assert_int_equal(view_for_boot(view, "x=y\n", &boot), -ENOENT);
	view_unref(view);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(raspberry_pi_os_for_each_model),
		TEST(bookworm_and_choices_in_config),
		TEST(prefix_is_followed_where_the_firmware_would),
		TEST(what_is_missing_is_named),
		TEST(damage_is_left_out_or_refused),
		TEST(bare_root_of_debian),
		TEST(root_that_was_not_unmounted),
		TEST(boot_folder_within_the_root),
		TEST(disks_without_anything),
		TEST(folder_on_the_server),
		TEST(clones_hold_their_files_once),
		TEST(pool_lets_the_longest_unused_go),
		TEST(blobs_of_pieces),
		TEST(a_pc_has_a_script_before_its_files),
		TEST(each_boot_has_settings_of_its_own),
		TEST(too_much_for_one_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
