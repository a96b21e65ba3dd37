/*
 * The cache: what is being made, what is ready, under one lock. The making itself is in
 * initramfs_make.c and done without the lock.
 */
#include "boot/initramfs.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/list.h"
#include "boot/blob.h"
#include "boot/initramfs_internal.h"

struct entry {
	struct list list; /* oldest use first; on none once it failed */
	uint8_t key[INITRAMFS_KEY_BYTES];
	unsigned references; /* of those who make it or wait for it */
	bool making;
	struct blob *blob; /* NULL while it is made, and if that failed: */
	int res;
	struct boot_error error;
};

struct initramfs_maker {
	struct initramfs_paths paths;
	pthread_mutex_t lock;
	pthread_cond_t done;
	struct list entries;
	size_t count;
	unsigned made_count;
};

int initramfs_maker_new(const struct initramfs_config *config, struct initramfs_maker **ret_maker,
			struct boot_error *ret_error)
{
	struct initramfs_maker *maker = calloc(1, sizeof(*maker));
	int res;

	if (!maker)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	pthread_mutex_init(&maker->lock, NULL);
	pthread_cond_init(&maker->done, NULL);
	list_init(&maker->entries);
	res = initramfs_paths_init(&maker->paths, config, ret_error);
	if (res) {
		initramfs_maker_free(maker);
		return res;
	}
	*ret_maker = maker;
	return 0;
}

static void entry_free(struct entry *entry)
{
	blob_unref(entry->blob);
	free(entry);
}

void initramfs_maker_free(struct initramfs_maker *maker)
{
	if (!maker)
		return;
	list_for_each (node, &maker->entries) {
		struct entry *entry = LIST_ENTRY(node, struct entry, list);

		assert(!entry->making);
		entry_free(entry);
	}
	initramfs_paths_done(&maker->paths);
	pthread_cond_destroy(&maker->done);
	pthread_mutex_destroy(&maker->lock);
	free(maker);
}

unsigned initramfs_made_count(struct initramfs_maker *maker)
{
	unsigned count;

	pthread_mutex_lock(&maker->lock);
	count = maker->made_count;
	pthread_mutex_unlock(&maker->lock);
	return count;
}

/* --- with the lock --- */

static struct entry *find(struct initramfs_maker *maker, const uint8_t *key)
{
	list_for_each (node, &maker->entries) {
		struct entry *entry = LIST_ENTRY(node, struct entry, list);

		if (memcmp(entry->key, key, INITRAMFS_KEY_BYTES) == 0)
			return entry;
	}
	return NULL;
}

static void forget_oldest(struct initramfs_maker *maker)
{
	list_for_each (node, &maker->entries) {
		struct entry *entry = LIST_ENTRY(node, struct entry, list);

		if (maker->count <= LIMIT_INITRAMFS_CACHED)
			return;
		if (entry->references > 0)
			continue;
		list_remove(&entry->list);
		maker->count--;
		entry_free(entry);
	}
}

/* The caller's part in it ends; what it came to. */
static int leave(struct entry *entry, struct blob **ret_blob, struct boot_error *ret_error)
{
	int res = entry->res;

	if (res)
		*ret_error = entry->error;
	else
		*ret_blob = blob_ref(entry->blob);
	assert(entry->references > 0);
	if (--entry->references == 0 && res)
		entry_free(entry);
	return res;
}

/* A failure is for those who waited; the next one tries again. */
static void finish(struct initramfs_maker *maker, struct entry *entry, struct blob *blob, int res,
		   bool made)
{
	entry->making = false;
	entry->blob = blob;
	entry->res = res;
	if (made)
		maker->made_count++;
	if (res) {
		list_remove(&entry->list);
		maker->count--;
	}
	pthread_cond_broadcast(&maker->done);
}

/* --- without it --- */

static int get(const struct initramfs_maker *maker, struct tree *modules,
	       const struct kernel_info *kernel, const uint8_t *key, struct blob **ret_blob,
	       bool *ret_made, struct boot_error *ret_error)
{
	*ret_made = false;
	if (initramfs_load(&maker->paths, key, ret_blob) == 0)
		return 0;
	*ret_made = true;
	return initramfs_build(&maker->paths, modules, kernel, key, ret_blob, ret_error);
}

int initramfs_make(void *arg, struct tree *modules, const struct kernel_info *kernel,
		   struct blob **ret_blob, struct boot_error *ret_error)
{
	struct initramfs_maker *maker = arg;
	uint8_t key[INITRAMFS_KEY_BYTES];
	struct blob *blob = NULL;
	struct entry *entry;
	bool made;
	int res = initramfs_key(&maker->paths, modules, kernel, key, ret_error);

	if (res)
		return res;
	pthread_mutex_lock(&maker->lock);
	entry = find(maker, key);
	if (entry) {
		entry->references++;
		list_remove(&entry->list);
		list_append(&maker->entries, &entry->list);
		while (entry->making)
			pthread_cond_wait(&maker->done, &maker->lock);
		res = leave(entry, ret_blob, ret_error);
		pthread_mutex_unlock(&maker->lock);
		return res;
	}
	entry = calloc(1, sizeof(*entry));
	if (!entry) {
		pthread_mutex_unlock(&maker->lock);
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	}
	memcpy(entry->key, key, sizeof(entry->key));
	entry->references = 1;
	entry->making = true;
	list_append(&maker->entries, &entry->list);
	maker->count++;
	forget_oldest(maker);
	pthread_mutex_unlock(&maker->lock);

	res = get(maker, modules, kernel, key, &blob, &made, &entry->error);

	pthread_mutex_lock(&maker->lock);
	finish(maker, entry, blob, res, made);
	res = leave(entry, ret_blob, ret_error);
	pthread_mutex_unlock(&maker->lock);
	return res;
}
