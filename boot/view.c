/*
 * The map, sorted by name, and the views of single boots that stand before it: those have only
 * another initramfs.
 */
#include "boot/view.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/secret.h"
#include "boot/blob.h"
#include "boot/node_archive.h"
#include "boot/view_internal.h"

struct entry {
	char *name;
	struct blob *blob;
};

/* A list of texts, each in memory of its own. */
struct texts {
	char **list;
	size_t count;
};

struct view {
	atomic_uint references;
	struct view *base;      /* of one boot: whose files they are. All below is empty then, */
	struct blob *initramfs; /* but for its own initramfs */
	struct view_about about;
	struct entry *entries;
	size_t count, capacity;
	struct texts hidden, notes, others;
};

struct view *view_new(void)
{
	struct view *view = calloc(1, sizeof(*view));

	if (!view)
		return NULL;
	atomic_init(&view->references, 1);
	view->about.source = view->about.root = view->about.kernel = "";
	view->about.kernel_version = "";
	return view;
}

struct view *view_ref(struct view *view)
{
	unsigned before = atomic_fetch_add_explicit(&view->references, 1, memory_order_relaxed);

	assert(before > 0);
	return view;
}

static void texts_done(struct texts *texts)
{
	for (size_t i = 0; i < texts->count; i++)
		free(texts->list[i]);
	free(texts->list);
}

void view_unref(struct view *view)
{
	if (!view || atomic_fetch_sub_explicit(&view->references, 1, memory_order_acq_rel) != 1)
		return;
	view_unref(view->base);
	blob_unref(view->initramfs);
	for (size_t i = 0; i < view->count; i++) {
		free(view->entries[i].name);
		blob_unref(view->entries[i].blob);
	}
	free(view->entries);
	texts_done(&view->hidden);
	texts_done(&view->notes);
	texts_done(&view->others);
	free(view);
}

/* --- making --- */

/* The place of the name, or where it would stand: *ret_found. */
static size_t place_of(const struct view *view, const char *name, bool *ret_found)
{
	size_t low = 0, high = view->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = tree_compare(view->entries[middle].name, name);

		if (order == 0) {
			*ret_found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = false;
	return low;
}

int view_add(struct view *view, const char *name, struct blob *blob)
{
	struct entry entry = {NULL, blob};
	bool found;
	size_t place = place_of(view, name, &found);
	int res = -ENOMEM;

	assert(!view->base);
	if (found) {
		blob_unref(blob);
		return 0;
	}
	if (view->about.bytes + blob_bytes(blob) > LIMIT_VIEW_BYTES) {
		res = -EFBIG;
		goto fail;
	}
	if (view->count == view->capacity) {
		size_t capacity = view->capacity ? 2 * view->capacity : 64;
		struct entry *entries = realloc(view->entries, capacity * sizeof(*entries));

		if (!entries)
			goto fail;
		view->entries = entries;
		view->capacity = capacity;
	}
	entry.name = strdup(name);
	if (!entry.name)
		goto fail;
	memmove(view->entries + place + 1, view->entries + place,
		(view->count - place) * sizeof(entry));
	view->entries[place] = entry;
	view->count++;
	view->about.bytes += blob_bytes(blob);
	return 0;
fail:
	blob_unref(blob);
	return res;
}

bool view_has(const struct view *view, const char *name)
{
	bool found;

	(void)place_of(view, name, &found);
	return found;
}

static const char *texts_add(struct texts *texts, const char *text)
{
	char **list;

	if (texts->count >= LIMIT_VIEW_NOTES)
		return "";
	list = realloc(texts->list, (texts->count + 1) * sizeof(*list));
	if (!list)
		return "";
	texts->list = list;
	list[texts->count] = strdup(text);
	return list[texts->count] ? list[texts->count++] : "";
}

void view_hide(struct view *view, const char *name)
{
	(void)texts_add(&view->hidden, name);
	view->about.hidden = (const char *const *)view->hidden.list;
	view->about.hidden_count = view->hidden.count;
}

void view_note(struct view *view, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)texts_add(&view->notes, text);
	view->about.notes = (const char *const *)view->notes.list;
	view->about.note_count = view->notes.count;
}

const char *view_text(struct view *view, const char *text)
{
	return texts_add(&view->others, text);
}

struct view_about *view_about_edit(struct view *view)
{
	assert(!view->base);
	return &view->about;
}

/* --- using --- */

static const struct view *files_of(const struct view *view)
{
	return view->base ? view->base : view;
}

static bool is_initramfs(const struct view *view, const char *name)
{
	return view->initramfs && tree_compare(name, VIEW_INITRAMFS) == 0;
}

struct blob *view_find(const struct view *view, const char *path)
{
	const struct view *files = files_of(view);
	bool found;
	size_t place;

	if (is_initramfs(view, path))
		return blob_ref(view->initramfs);
	place = place_of(files, path, &found);
	return found ? blob_ref(files->entries[place].blob) : NULL;
}

size_t view_count(const struct view *view)
{
	return files_of(view)->count;
}

struct view_file view_at(const struct view *view, size_t index)
{
	const struct view *files = files_of(view);
	const struct entry *entry;

	assert(index < files->count);
	entry = &files->entries[index];
	return (struct view_file){
		.name = entry->name,
		.bytes =
			blob_bytes(is_initramfs(view, entry->name) ? view->initramfs : entry->blob),
	};
}

const struct view_about *view_about(const struct view *view)
{
	return &files_of(view)->about;
}

int view_for_boot(struct view *view, const char *node_conf, struct view **ret_view)
{
	struct view *base = view->base ? view->base : view;
	struct blob *initramfs = view_find(base, VIEW_INITRAMFS), *settings = NULL;
	struct view *boot;
	int res;

	if (!initramfs)
		return -ENOENT;
	res = node_archive(node_conf, &settings);
	if (res) {
		blob_unref(initramfs);
		return res;
	}
	initramfs = blob_concat(initramfs, settings);
	boot = initramfs ? view_new() : NULL;
	if (!boot) {
		blob_unref(initramfs);
		return -ENOMEM;
	}
	boot->base = view_ref(base);
	boot->initramfs = initramfs;
	*ret_view = boot;
	return 0;
}

/* --- for PCs --- */

int view_for_pc(const struct view *view, const char *script, struct view **ret_view)
{
	struct view *pc = view_new();
	char *text = strdup(script);
	int res = pc && text ? 0 : -ENOMEM;

	for (size_t i = 0; view && res == 0 && i < view_count(view); i++) {
		const char *name = view_at(view, i).name;

		res = view_add(pc, name, view_find(view, name));
	}
	if (res == 0) {
		struct blob *blob = blob_new_secret(text, strlen(text));

		text = NULL;
		res = blob ? view_add(pc, VIEW_SCRIPT, blob) : -ENOMEM;
	}
	secret_free(text);
	if (res) {
		view_unref(pc);
		return res;
	}
	*ret_view = pc;
	return 0;
}
