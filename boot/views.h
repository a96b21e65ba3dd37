/*
 * Views that several boots share: all clones that have not written to their disks yet see the files
 * of one image, and a node that boots again sees those of the last time. A key stands for a disk's
 * content. Any thread.
 */
#ifndef LUNROOT_BOOT_VIEWS_H
#define LUNROOT_BOOT_VIEWS_H

#include "boot_error.h"
#include "view.h"

#define VIEW_KEY_BYTES 256

struct views;

/* Keeps the `count_max` that were used last, whoever else holds them. NULL: no memory. */
struct views *views_new(unsigned count_max);
void views_free(struct views *views); /* accepts NULL */

/*
 * The view of this key, as a reference: found, or made by `make`, which may take its time. Who asks
 * for one that another thread is making waits for it. 0 or what `make` returned, with its error; a
 * failure is not kept.
 */
int views_get(struct views *views, const char *key,
	      int (*make)(void *arg, struct view **ret_view, struct boot_error *ret_error),
	      void *arg, struct view **ret_view, struct boot_error *ret_error);

/* Lets go of all that nobody is making: their files' room is wanted. */
void views_forget(struct views *views);

#endif
