/*
 * What boots.c has changed, on its way to the thread of boots_db.c: once a second a copy of it, a
 * batch, is handed over, while anything is to be written. After a failure the file is behind by
 * nobody knows how much, so after a while all of it is written anew.
 */
#include "control/boots_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define WRITE_S     1
#define RETRY_S     60 /* after writing has failed */
#define BATCH_BYTES (8u << 20)

void boots_arm(struct boots *boots)
{
	/* The reserve is for the nodes' own writes. */
	bool later = boots->failed || boots->control->space_short;
	const struct timeval soon = {.tv_sec = later ? RETRY_S : WRITE_S};

	if (boots->timer && !evtimer_pending(boots->timer, NULL))
		(void)evtimer_add(boots->timer, &soon);
}

void boots_touch(struct boots *boots, struct boot *boot)
{
	if (list_empty(&boot->dirty))
		list_append(&boots->dirty, &boot->dirty);
	boots_arm(boots);
}

static struct boots_batch *batch_new(struct boots *boots)
{
	struct boots_batch *batch = calloc(1, sizeof(*batch));
	unsigned room = 0;

	if (!batch)
		return NULL;
	list_for_each (pos, &boots->dirty)
		room++;
	batch->boots = boots;
	batch->rows = calloc(room ? room : 1, sizeof(*batch->rows));
	batch->dead = calloc(BOOT_DEAD, sizeof(*batch->dead));
	if (!batch->rows || !batch->dead) {
		boots_batch_free(batch);
		return NULL;
	}
	return batch;
}

/* 0, or -ENOMEM: it stays dirty. */
static int batch_add(struct boots_batch *batch, struct boot *boot)
{
	struct boot_row *row = &batch->rows[batch->row_count];

	row->event_bytes = boot->log.used;
	row->events = malloc(boot->log.used + 1);
	if (!row->events)
		return -ENOMEM;
	if (boot->log.used > 0)
		memcpy(row->events, boot->log.data, boot->log.used);
	row->head = boot->head;
	row->dropped = boot->log.dropped;
	batch->row_count++;
	list_remove(&boot->dirty);
	return 0;
}

/* The file is behind, nobody knows how far: all of it goes there again. */
static void write_anew(struct boots *boots)
{
	boots->anew = true;
	boots->dead_count = 0;
	list_for_each (pos, &boots->all) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, all);

		if (list_empty(&boot->dirty))
			list_append(&boots->dirty, &boot->dirty);
	}
}

/* What has changed, as far as one batch goes; NULL: no memory. */
static struct boots_batch *take_batch(struct boots *boots)
{
	struct boots_batch *batch;
	size_t bytes = 0;

	if (boots->anew)
		write_anew(boots);
	batch = batch_new(boots);
	if (!batch)
		return NULL;
	list_for_each (pos, &boots->dirty) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, dirty);

		if (bytes > BATCH_BYTES || batch_add(batch, boot) < 0)
			break;
		bytes += sizeof(*boot) + boot->log.used;
	}
	batch->anew = boots->anew;
	boots->anew = false;
	memcpy(batch->dead, boots->dead, boots->dead_count * sizeof(*boots->dead));
	batch->dead_count = boots->dead_count;
	boots->dead_count = 0;
	return batch;
}

bool boots_are_written(const struct boots *boots)
{
	return list_empty(&boots->dirty) && boots->dead_count == 0 && !boots->anew;
}

static void settle_batch(struct boots *boots)
{
	struct boots_batch *batch = TAKE_PTR(boots->batch);

	if (batch->result < 0) {
		boots->anew = true;
		if (!boots->failed)
			log_warn("boot records are kept in memory only for now: %s",
				 batch->message);
	} else if (boots->failed) {
		log_info("boot records are written again");
	}
	boots->failed = batch->result < 0;
	boots_batch_free(batch);
}

static void on_written(struct mailbox_msg *msg)
{
	struct boots *boots = CONTAINER_OF(msg, struct boots_batch, written)->boots;

	settle_batch(boots);
	if (!boots_are_written(boots))
		boots_arm(boots);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct boots *boots = arg;

	(void)fd;
	(void)what;
	if (boots->batch || boots_are_written(boots))
		return; /* on_written looks again */
	if (boots->control->space_short) {
		boots_arm(boots);
		return;
	}
	boots->batch = take_batch(boots);
	if (!boots->batch) {
		boots_arm(boots);
		return;
	}
	boots->batch->written.run = on_written;
	boots_db_write(boots->db, boots->batch);
}

void boots_flush(struct boots *boots)
{
	bool empty;

	if (boots->batch)
		settle_batch(boots);
	while (!boots->control->space_short && !boots_are_written(boots)) {
		boots->batch = take_batch(boots);
		if (!boots->batch)
			return;
		empty = boots->batch->row_count == 0; /* no memory for copies */
		boots_db_write_now(boots->db, boots->batch);
		settle_batch(boots);
		if (boots->failed || empty)
			return;
	}
}

int boots_timer_new(struct boots *boots)
{
	boots->timer = evtimer_new(boots->control->base, on_timer, boots);
	return boots->timer ? 0 : -ENOMEM;
}
