/*
 * For tests: FAT file systems made in memory, good ones, so that a test can spoil them.
 */
#ifndef LUNROOT_BOOT_TEST_FAT_H
#define LUNROOT_BOOT_TEST_FAT_H

#include <stddef.h>
#include <stdint.h>

struct disk;

struct test_fat {
	unsigned bits; /* 12, 16, 32 */
	uint32_t cluster_bytes, cluster_count;
	uint32_t table_offset, table_bytes, root_offset, root_bytes, data_offset;
	uint32_t next_cluster; /* the next free one */
	unsigned gap;          /* clusters left out after each one of a file: fragmentation */
	uint8_t *data;
	size_t bytes;
};

/* `clusters` as many as the kind needs (FAT16 at least 4085). */
void test_fat_init(struct test_fat *fat, unsigned bits, uint32_t cluster_bytes, uint32_t clusters);
void test_fat_done(struct test_fat *fat);

/* Puts a file; folders on the way are made. Names that are no 8.3 names in capitals get a long
 * name. */
void test_fat_put(struct test_fat *fat, const char *path, const void *data, size_t bytes);
void test_fat_put_text(struct test_fat *fat, const char *path, const char *text);

uint32_t test_fat_next(const struct test_fat *fat, uint32_t cluster);
void test_fat_link(struct test_fat *fat, uint32_t cluster, uint32_t next);
/* The folder entry (32 bytes) of a file or folder; its first cluster. */
uint8_t *test_fat_entry(struct test_fat *fat, const char *path);
uint32_t test_fat_first(const uint8_t *entry);
uint8_t *test_fat_cluster(struct test_fat *fat, uint32_t cluster);

/* A disk of these bytes, which must outlive it. */
struct disk *test_disk(const void *data, size_t bytes);

#endif
