/*
 * What holds long work on files back, and how far it is: progress, throttle and cancelling.
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "store/store_internal.h"

/* Cancelling is heard at least so often while the throttle waits. */
#define WORK_NAP_US 50000
/* What the throttle owes after a pause is forgiven, but for this. */
#define WORK_BURST_US 200000

void work_begin(struct work *w, const struct store_work *work, uint64_t total_bytes)
{
	static const struct store_work none;

	w->work = work ? work : &none;
	w->due_us = clock_us();
	if (w->work->total_bytes)
		atomic_store(w->work->total_bytes, total_bytes);
	if (w->work->done_bytes)
		atomic_store(w->work->done_bytes, 0);
}

static bool is_cancelled(const struct work *w)
{
	return w->work->cancelled && atomic_load(w->work->cancelled);
}

int work_step(struct work *w, uint64_t bytes)
{
	uint64_t now = clock_us();

	if (w->work->done_bytes)
		atomic_fetch_add(w->work->done_bytes, bytes);
	if (w->work->bytes_per_s) {
		if (w->due_us + WORK_BURST_US < now)
			w->due_us = now - WORK_BURST_US;
		w->due_us += bytes * 1000000 / w->work->bytes_per_s;
	}
	while (!is_cancelled(w) && w->work->bytes_per_s && (now = clock_us()) < w->due_us) {
		uint64_t us = w->due_us - now < WORK_NAP_US ? w->due_us - now : WORK_NAP_US;
		const struct timespec nap = {.tv_nsec = (long)us * 1000};

		(void)nanosleep(&nap, NULL);
	}
	return is_cancelled(w) ? -ECANCELED : 0;
}
