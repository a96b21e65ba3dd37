/*
 * Messages to a thread: any thread posts, one thread takes them in the order in which each
 * sender posted. A lock-free stack and an eventfd; no allocation, the message is embedded in
 * what it is about.
 */
#ifndef LUNROOT_BASE_MAILBOX_H
#define LUNROOT_BASE_MAILBOX_H

#include <stdatomic.h>

struct mailbox_msg {
	struct mailbox_msg *next;
	/* Runs on the owner's thread; the message may be freed or posted on within. */
	void (*run)(struct mailbox_msg *msg);
};

struct mailbox {
	_Atomic(struct mailbox_msg *) head; /* newest first */
	int eventfd;                        /* readable while there may be messages */
};

/* 0 or -errno. */
int mailbox_init(struct mailbox *box);
/* Messages that were never taken are dropped, not freed. */
void mailbox_done(struct mailbox *box);
/* Any thread. The message belongs to the owner's thread until it runs. */
void mailbox_post(struct mailbox *box, struct mailbox_msg *msg);
/* Owner's thread: clears the eventfd and runs all that was posted before the call. */
void mailbox_run(struct mailbox *box);

#endif
