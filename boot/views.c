/* A short list, the last used first; those under way stand in it without a view. */
#include "views.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"

struct entry {
	struct list node;
	char key[VIEW_KEY_BYTES];
	struct view *view; /* NULL: it is being made */
};

struct views {
	pthread_mutex_t lock;
	pthread_cond_t made;
	struct list entries;
	unsigned count, count_max;
};

struct views *views_new(unsigned count_max)
{
	struct views *views = calloc(1, sizeof(*views));

	if (!views)
		return NULL;
	pthread_mutex_init(&views->lock, NULL);
	pthread_cond_init(&views->made, NULL);
	list_init(&views->entries);
	views->count_max = count_max;
	return views;
}

static void drop(struct views *views, struct entry *entry)
{
	list_remove(&entry->node);
	views->count--;
	view_unref(entry->view);
	free(entry);
}

void views_free(struct views *views)
{
	if (!views)
		return;
	list_for_each (at, &views->entries)
		drop(views, LIST_ENTRY(at, struct entry, node));
	pthread_cond_destroy(&views->made);
	pthread_mutex_destroy(&views->lock);
	free(views);
}

static struct entry *find(struct views *views, const char *key)
{
	list_for_each (at, &views->entries) {
		struct entry *entry = LIST_ENTRY(at, struct entry, node);

		if (strcmp(entry->key, key) == 0)
			return entry;
	}
	return NULL;
}

/* The longest unused go. */
static void trim(struct views *views)
{
	struct list *at = views->entries.prev;

	while (views->count > views->count_max && at != &views->entries) {
		struct entry *entry = LIST_ENTRY(at, struct entry, node);

		at = at->prev;
		if (entry->view)
			drop(views, entry);
	}
}

/* With the lock. NULL: nobody has it, or is making it. */
static struct view *wait_for(struct views *views, const char *key)
{
	struct entry *entry;

	while ((entry = find(views, key)) && !entry->view)
		pthread_cond_wait(&views->made, &views->lock);
	if (!entry)
		return NULL;
	list_remove(&entry->node);
	list_prepend(&views->entries, &entry->node);
	return view_ref(entry->view);
}

static struct entry *reserve(struct views *views, const char *key)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	memcpy(entry->key, key, strlen(key) + 1);
	list_prepend(&views->entries, &entry->node);
	views->count++;
	return entry;
}

int views_get(struct views *views, const char *key,
	      int (*make)(void *arg, struct view **ret_view, struct boot_error *ret_error),
	      void *arg, struct view **ret_view, struct boot_error *ret_error)
{
	struct entry *entry = NULL;
	struct view *view;
	int r = 0;

	if (strlen(key) >= VIEW_KEY_BYTES)
		return boot_fail(ret_error, -ENAMETOOLONG, "a disk's identity is too long");
	pthread_mutex_lock(&views->lock);
	view = wait_for(views, key);
	if (!view)
		entry = reserve(views, key);
	pthread_mutex_unlock(&views->lock);
	if (view) {
		*ret_view = view;
		return 0;
	}
	if (!entry)
		return boot_fail(ret_error, -ENOMEM, "out of memory");
	r = make(arg, &view, ret_error);
	pthread_mutex_lock(&views->lock);
	if (r < 0) {
		drop(views, entry);
	} else {
		entry->view = view;
		*ret_view = view_ref(view);
		trim(views);
	}
	pthread_cond_broadcast(&views->made);
	pthread_mutex_unlock(&views->lock);
	return r;
}

void views_forget(struct views *views)
{
	pthread_mutex_lock(&views->lock);
	list_for_each (at, &views->entries) {
		struct entry *entry = LIST_ENTRY(at, struct entry, node);

		if (entry->view)
			drop(views, entry);
	}
	pthread_mutex_unlock(&views->lock);
}
