/* What the two daemons' loops have in common. */
#include "base/loop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include <event2/event.h>

#include "base/cleanup.h"

static void on_mailbox(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;

	(void)fd;
	(void)what;
	mailbox_run(&loop->mailbox);
}

static void on_event_signal(evutil_socket_t number, short what, void *arg)
{
	struct loop *loop = arg;

	(void)what;
	loop->on_signal(loop->arg, (int)number);
}

int loop_init(struct loop *loop, void (*on_signal)(void *arg, int number), void *arg)
{
	loop->on_signal = on_signal;
	loop->arg = arg;
	loop->base = event_base_new();
	if (!loop->base || mailbox_init(&loop->mailbox) < 0)
		return -ENOMEM;
	loop->mailbox_event = event_new(loop->base, loop->mailbox.eventfd, EV_READ | EV_PERSIST,
					on_mailbox, loop);
	loop->term_event = evsignal_new(loop->base, SIGTERM, on_event_signal, loop);
	loop->int_event = evsignal_new(loop->base, SIGINT, on_event_signal, loop);
	if (!loop->mailbox_event || !loop->term_event || !loop->int_event ||
	    event_add(loop->mailbox_event, NULL) < 0 || event_add(loop->term_event, NULL) < 0 ||
	    event_add(loop->int_event, NULL) < 0)
		return -ENOMEM;
	return 0;
}

void loop_done(struct loop *loop)
{
	struct event *events[] = {loop->mailbox_event, loop->term_event, loop->int_event};

	for (size_t i = 0; i < ARRAY_COUNT(events); i++) {
		if (events[i])
			event_free(events[i]);
	}
	mailbox_done(&loop->mailbox);
	if (loop->base)
		event_base_free(loop->base);
}
