/*
 * Images: their sidecar, and those that were changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "store/test_files.h"

static void image_hash_does_not_depend_on_holes(void **state)
{
	struct store_image_info a, b;
	char dense[160], command[400];

	(void)state;
	image_add();
	(void)snprintf(dense, sizeof(dense), "%s/dense.img", t.dir);
	(void)snprintf(command, sizeof(command), "cp --sparse=never '%s' '%s'", t.image, dense);
	assert_int_equal(system(command), 0);
	assert_int_equal(store_image_info(t.image, &a, &t.err), 0);
	assert_int_equal(store_image_seal(dense, &t.image_uuid, "", NULL, NULL, &b, &t.err), 0);
	assert_memory_equal(a.sha256, b.sha256, 32);
	assert_int_equal(a.size_bytes, IMAGE_BYTES);
	assert_string_equal(a.content, "test");
}

static void image_whose_label_is_no_utf8_is_sealed(void **state)
{
	struct store_image_info info;
	char path[160], content[100];

	(void)state;
	image_add();
	memset(content, 'x', sizeof(content));
	/* Cut in the middle of a character, and a byte that is none. */
	memcpy(content + 62, "\xc3\xbc\xc3\xbc", 4);
	content[3] = '\xff';
	content[5] = '\n';
	content[99] = '\0';
	(void)snprintf(path, sizeof(path), "%s", t.image);
	assert_int_equal(store_image_seal(path, &t.image_uuid, content, NULL, NULL, &info, &t.err),
			 0);
	assert_int_equal(store_image_info(path, &info, &t.err), 0);
	assert_int_equal(strncmp(info.content, "xxx", 3), 0);
}

static void file_of_no_whole_sectors_is_no_image(void **state)
{
	static const off_t sizes[] = {0, 1, 1000, 4097};
	struct store_image_info info;
	char path[160];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/odd.img", t.dir);
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		int AUTO_CLOSE fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		assert_int_equal(ftruncate(fd, sizes[i]), 0);
		assert_int_equal(
			store_image_seal(path, &t.image_uuid, "", NULL, NULL, &info, &t.err),
			-EINVAL);
		assert_non_null(strstr(t.err.text, path));
		assert_int_equal(unlink(path), 0);
	}
}

static void image_that_changed_is_refused(void **state)
{
	(void)state;
	image_add();
	layer_add();
	damage(t.image, 5000);
	assert_refused(-ESTALE, t.image);
	assert_refused(-ESTALE, "changed");
	damage(t.image, 5000);
	/* Only touched: good again, and noted. */
	open_disk();
	assert_int_equal(close_disk(), 0);
	assert_int_equal(truncate(t.image, (off_t)(IMAGE_BYTES + S)), 0);
	assert_refused(-ESTALE, "bytes");
	assert_int_equal(truncate(t.image, (off_t)(IMAGE_BYTES - S)), 0);
	assert_refused(-ESTALE, "bytes");
}

static void image_sidecar_that_is_damaged_is_refused(void **state)
{
	static const char *const sidecars[] = {
		"",
		"{",
		"[]",
		"null",
		"{}",
		"{\"version\": 1}",
		"{\"version\": 1, \"uuid\": \"x\", \"size_bytes\": 1, \"mtime_ns\": 1, "
		"\"sha256\": \"00\", \"content\": \"\"}",
		"{\"version\": 1, \"uuid\": 7, \"size_bytes\": \"1\", \"mtime_ns\": 1, "
		"\"sha256\": \"00\", \"content\": \"\"}",
	};
	char sidecar[160];

	(void)state;
	image_add();
	layer_add();
	(void)snprintf(sidecar, sizeof(sidecar), "%s.json", t.image);
	for (size_t i = 0; i < ARRAY_COUNT(sidecars); i++) {
		assert_int_equal(truncate(sidecar, 0), 0);
		patch(sidecar, 0, sidecars[i], strlen(sidecars[i]));
		assert_refused(-EBADMSG, sidecar);
	}
	assert_int_equal(unlink(sidecar), 0);
	assert_refused(-ENOENT, sidecar);
}

/* --- by several at once --- */

static atomic_bool opened_enough;
static atomic_uint bad_sidecars;

static void *opener(void *arg)
{
	const struct store_chain chain = {
		.image_path = t.image, .image_uuid = t.image_uuid, .read_only = true};

	(void)arg;
	for (unsigned i = 0; i < 4000; i++) {
		/* Touched, so that whoever opens it notes the new time. */
		const struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};
		struct store_error err;
		struct store_disk *disk;

		(void)utimensat(AT_FDCWD, t.image, times, 0);
		if (store_open(&chain, &disk, &err) == 0)
			disk->ops->free(disk);
	}
	return NULL;
}

static void *looker(void *arg)
{
	struct store_image_info info;
	struct store_error err;

	(void)arg;
	while (!opened_enough)
		bad_sidecars += store_image_info(t.image, &info, &err) < 0;
	return NULL;
}

/* The sidecar, too, is one of them and whole, whenever somebody looks (or the power fails). */
static void image_opened_by_several_at_once(void **state)
{
	pthread_t openers[3], eye;

	(void)state;
	image_add();
	opened_enough = false;
	assert_int_equal(pthread_create(&eye, NULL, looker, NULL), 0);
	for (size_t i = 0; i < ARRAY_COUNT(openers); i++)
		assert_int_equal(pthread_create(&openers[i], NULL, opener, NULL), 0);
	for (size_t i = 0; i < ARRAY_COUNT(openers); i++)
		assert_int_equal(pthread_join(openers[i], NULL), 0);
	opened_enough = true;
	assert_int_equal(pthread_join(eye, NULL), 0);
	assert_int_equal(bad_sidecars, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(image_hash_does_not_depend_on_holes),
		TEST(image_whose_label_is_no_utf8_is_sealed),
		TEST(file_of_no_whole_sectors_is_no_image),
		TEST(image_that_changed_is_refused),
		TEST(image_sidecar_that_is_damaged_is_refused),
		TEST(image_opened_by_several_at_once),
	};

	log_init("image_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
