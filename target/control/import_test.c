/* Images come in: of all packings, of partitioned disks, of nothing; and what is no image. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "control/fake.h"
#include "control/test_world.h"

#define MKE2FS "PATH=$PATH:/usr/sbin:/sbin mke2fs -F -q -t ext4 -L root "

static void import_ext4_in_every_packing(void **state)
{
	static const char *const files[] = {"d.img", "d.img.gz", "d.img.xz", "d.img.zst"};
	char name[16], command[PATH_BYTES + 32], path[PATH_BYTES];
	json_t *image;

	(void)state;
	shell("rm -f d.img*; truncate -s 8M d.img && " MKE2FS
	      "d.img && gzip -k d.img && xz -k d.img && { zstd -q -k d.img || cp d.img.gz "
	      "d.img.zst; }");
	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		(void)snprintf(name, sizeof(name), "base-%zu", i);
		image = job_done(import_body(name, files[i], ""));
		assert_string_equal(text_at(image, "content"), "ext4 \"root\"");
		assert_int_equal(json_integer_value(json_object_get(image, "size_bytes")), 8 << 20);
		assert_true(json_integer_value(json_object_get(image, "used_bytes")) < 4 << 20);
		image_path(w.control, "", name, path);
		(void)snprintf(command, sizeof(command), "cmp d.img %s", path);
		shell(command);
	}
	assert_int_equal(files_in("images"), 2 * ARRAY_COUNT(files));
}

/* A master boot record with one Linux partition. */
static void write_mbr(const char *file, uint32_t start, uint32_t sectors)
{
	uint8_t mbr[512] = {0};
	char path[128];
	int fd;

	mbr[446 + 4] = 0x83;
	for (unsigned i = 0; i < 4; i++) {
		mbr[446 + 8 + i] = (uint8_t)(start >> (8 * i));
		mbr[446 + 12 + i] = (uint8_t)(sectors >> (8 * i));
	}
	mbr[510] = 0x55;
	mbr[511] = 0xaa;
	(void)snprintf(path, sizeof(path), "%s/%s", w.dir, file);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(pwrite(fd, mbr, sizeof(mbr), 0), sizeof(mbr));
	close(fd);
}

static void import_with_partitions(void **state)
{
	json_t *image;

	(void)state;
	shell("truncate -s 8M root && " MKE2FS
	      "root && truncate -s 24M disk && dd if=root of=disk bs=512 seek=2048 conv=notrunc");
	write_mbr("disk", 2048, 16384);
	image = job_done(import_body("disk", "disk", ""));
	assert_string_equal(text_at(image, "content"), "mbr: ext4 \"root\"");
	/* The partition is there, the file system in it is larger. */
	write_mbr("disk", 2048, 8192);
	job_fails(import_body("cut", "disk", ""), "bad_image", "its ext4 file system has");
	write_mbr("disk", 2048, 16384);
	shell("truncate -s 8M disk");
	job_fails(import_body("cut", "disk", ""), "bad_image", "partition 1 ends");
}

static void import_of_bad_files(void **state)
{
	static const struct {
		const char *file, *code, *part;
	} table[] = {
		{"nowhere", "not_found", "no file"},
		{"folder", "bad_image", "neither a file nor"},
		{"fifo", "bad_image", "neither a file nor"},
		{"empty", "bad_image", "too small"},
		{"small", "bad_image", "too small"},
		{"small.gz", "bad_image", "too small"},
		{"zeros", "bad_image", "neither a partition table"},
		{"noise", "bad_image", "neither a partition table"},
		{"cut", "bad_image", "cut off"},
		{"cut.gz", "bad_image", "cut off"},
		{"cut.xz", "bad_image", "cut off"},
		{"whole-cut.gz", "bad_image", "cut off"},
		{"x.tar", "bad_image", "a tar archive"},
		{"x.tar.gz", "bad_image", "a tar archive"},
		{"x.zip", "bad_image", "a zip archive"},
		{"x.qcow2", "bad_image", "qcow2"},
	};

	(void)state;
	shell("rm -rf folder fifo; mkdir folder; mkfifo fifo; : >empty; head -c 4096 /dev/zero "
	      ">small; gzip -kf small; head -c 3M /dev/zero >zeros; head -c 3M /dev/urandom "
	      ">noise; "
	      "truncate -s 8M d && " MKE2FS
	      "d && head -c 1M /dev/urandom | dd of=d bs=1M seek=5 conv=notrunc && "
	      "head -c 5M d >cut && gzip -c d | head -c 900000 >cut.gz && xz -0 -c d | head -c "
	      "900000 >cut.xz && gzip -c cut >whole-cut.gz && tar cf x.tar zeros && gzip -kf x.tar "
	      "&& printf 'PK\\003\\004' | cat - zeros >x.zip && printf 'QFI\\373' | cat - zeros "
	      ">x.qcow2");
	for (size_t i = 0; i < ARRAY_COUNT(table); i++)
		job_fails(import_body("bad", table[i].file, ""), table[i].code, table[i].part);
	assert_int_equal(files_in("images"), 0);
	(void)job_done(import_body("noise", "noise", ",\"force\":true"));
	(void)job_done(import_body("zeros", "zeros", ",\"force\":true"));
	error_is(call(API_POST, "/v1/images", NULL, import_body("noise", "noise", ""), 409),
		 "exists", "noise");
}

static void import_pads_odd_sizes(void **state)
{
	json_t *image;

	(void)state;
	shell("rm -f odd; head -c 1048577 /dev/urandom >odd");
	image = job_done(import_body("odd", "odd", ",\"force\":true"));
	assert_int_equal(json_integer_value(json_object_get(image, "size_bytes")), 1048576 + 4096);
}

static void create_with_ext4(void **state)
{
	json_t *image = job_done("{\"name\":\"data\",\"size_bytes\":1099511627776,\"ext4\":true}");

	(void)state;
	assert_string_equal(text_at(image, "content"), "ext4 \"data\"");
	image = job_done("{\"name\":\"bare\",\"size_bytes\":1048577}");
	assert_string_equal(text_at(image, "content"), "empty");
	assert_int_equal(json_integer_value(json_object_get(image, "size_bytes")), 1048576 + 4096);
}

/* The worker waits in a step until the job was cancelled. */
static atomic_bool step_go;

static void wait_at_step(const char *step)
{
	while (strcmp(step, "import-filled") == 0 && !atomic_load(&step_go))
		usleep(1000);
}

static void cancelled_import_leaves_nothing(void **state)
{
	json_t *answer;

	(void)state;
	atomic_store(&step_go, false);
	control_step_hook = wait_at_step;
	(void)call(API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"size_bytes\":1048576}", 202);
	error_is(call(API_POST, "/v1/images", NULL, "{\"name\":\"a\",\"size_bytes\":1048576}", 409),
		 "exists", "is being made");
	(void)call(API_DELETE, "/v1/jobs/1", NULL, NULL, 200);
	atomic_store(&step_go, true);
	do {
		mailbox_wait();
		answer = call(API_GET, "/v1/jobs/1", NULL, NULL, 200);
	} while (strcmp(text_at(answer, "state"), "running") == 0);
	control_step_hook = NULL;
	error_is(answer, "cancelled", "cancelled");
	assert_int_equal(files_in("images"), 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
	const struct CMUnitTest tests[] = {
		CASE(import_ext4_in_every_packing),
		CASE(import_with_partitions),
		CASE(import_of_bad_files),
		CASE(import_pads_odd_sizes),
		CASE(create_with_ext4),
		CASE(cancelled_import_leaves_nothing),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as main does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
