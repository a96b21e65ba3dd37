/*
 * A daemon's event loop (libevent): it runs what other threads post, and hears SIGTERM and SIGINT.
 * All of it on the thread that dispatches.
 */
#ifndef LUNROOT_BASE_LOOP_H
#define LUNROOT_BASE_LOOP_H

#include "base/mailbox.h"

struct event;
struct event_base;

struct loop {
	struct event_base *base;
	struct mailbox mailbox;
	void (*on_signal)(void *arg, int number);
	void *arg;
	struct event *mailbox_event, *term_event, *int_event;
};

/* 0 or -ENOMEM. loop_done in any case, also without this: then on zeroes, with eventfd -1. */
int loop_init(struct loop *loop, void (*on_signal)(void *arg, int number), void *arg);
/* After everybody else's events are freed. What was posted and not run is dropped. */
void loop_done(struct loop *loop);

#endif
