/*
 * What may block is done by a few worker threads, so that the event loop never waits: calls of the
 * control API, reading disks, making initramfs.
 */
#ifndef LUNROOT_BOOT_WORK_H
#define LUNROOT_BOOT_WORK_H

#include "base/list.h"
#include "base/mailbox.h"

struct workers;

/* Embedded in what the work is about; the workers' from work_post until `done`. */
struct work {
	struct list node;
	void (*run)(struct work *work);  /* a worker's thread */
	void (*done)(struct work *work); /* the mailbox's thread; may free or post it again */
	struct mailbox_msg finished;     /* internal */
	struct workers *workers;         /* internal */
};

/* `box` tells the event loop of what is done, and outlives the workers. 0 or -errno. */
int workers_new(unsigned thread_count, struct mailbox *box, struct workers **ret_workers);
/* Waits for what is being run; what waits its turn is never run, and `done` never called. Accepts
 * NULL. */
void workers_free(struct workers *workers);
/* Event loop. In the order of posting, but with several threads not one after the other. */
void work_post(struct workers *workers, struct work *work);
/* The same, before all that waits. */
void work_post_first(struct workers *workers, struct work *work);

#endif
