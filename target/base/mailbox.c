/*
 * Messages to a thread; see mailbox.h.
 */
#include "base/mailbox.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int mailbox_init(struct mailbox *box)
{
	atomic_init(&box->head, NULL);
	box->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return box->eventfd < 0 ? -errno : 0;
}

void mailbox_done(struct mailbox *box)
{
	if (box->eventfd >= 0)
		close(box->eventfd);
	box->eventfd = -1;
}

void mailbox_post(struct mailbox *box, struct mailbox_msg *msg)
{
	struct mailbox_msg *head = atomic_load_explicit(&box->head, memory_order_relaxed);
	const uint64_t one = 1;

	assert(msg->run);
	do {
		msg->next = head;
	} while (!atomic_compare_exchange_weak_explicit(
		&box->head, &head, msg, memory_order_release, memory_order_relaxed));
	/* Only the post that found it empty has to wake the owner. */
	if (!head && write(box->eventfd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN); /* the counter is full: it is readable all the same */
}

void mailbox_run(struct mailbox *box)
{
	struct mailbox_msg *msg, *in_order = NULL;
	uint64_t count;

	/* Cleared before the messages are taken, so that a later post wakes us again. */
	if (read(box->eventfd, &count, sizeof(count)) < 0)
		assert(errno == EAGAIN || errno == EINTR);
	msg = atomic_exchange_explicit(&box->head, NULL, memory_order_acquire);
	while (msg) {
		struct mailbox_msg *next = msg->next;

		msg->next = in_order;
		in_order = msg;
		msg = next;
	}
	while (in_order) {
		msg = in_order;
		in_order = msg->next;
		msg->run(msg);
	}
}
