/* A queue, and threads that take from it. */
#include "work.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list queue; /* of struct work */
	struct mailbox *box;
	bool stopping;
	unsigned thread_count;
	pthread_t threads[];
};

static void on_finished(struct mailbox_msg *msg)
{
	struct work *work = CONTAINER_OF(msg, struct work, finished);

	work->done(work);
}

/* NULL: the end. */
static struct work *next_work(struct workers *workers)
{
	struct work *work = NULL;

	pthread_mutex_lock(&workers->lock);
	while (!workers->stopping && list_empty(&workers->queue))
		pthread_cond_wait(&workers->wake, &workers->lock);
	if (!workers->stopping) {
		work = LIST_FIRST(&workers->queue, struct work, node);
		list_remove(&work->node);
	}
	pthread_mutex_unlock(&workers->lock);
	return work;
}

static void *worker(void *arg)
{
	struct workers *workers = arg;
	struct work *work;

	log_set_thread("worker");
	while ((work = next_work(workers))) {
		work->run(work);
		mailbox_post(workers->box, &work->finished);
	}
	return NULL;
}

/* Signals are the event loop's. */
static int threads_start(struct workers *workers, unsigned count)
{
	sigset_t all, before;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (r == 0 && workers->thread_count < count) {
		r = -pthread_create(&workers->threads[workers->thread_count], NULL, worker,
				    workers);
		if (r == 0)
			workers->thread_count++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

int workers_new(unsigned thread_count, struct mailbox *box, struct workers **ret_workers)
{
	struct workers *workers =
		calloc(1, sizeof(*workers) + thread_count * sizeof(workers->threads[0]));
	int r;

	if (!workers)
		return -ENOMEM;
	pthread_mutex_init(&workers->lock, NULL);
	pthread_cond_init(&workers->wake, NULL);
	list_init(&workers->queue);
	workers->box = box;
	r = threads_start(workers, thread_count);
	if (r < 0) {
		workers_free(workers);
		return r;
	}
	*ret_workers = workers;
	return 0;
}

void workers_free(struct workers *workers)
{
	if (!workers)
		return;
	pthread_mutex_lock(&workers->lock);
	workers->stopping = true;
	pthread_cond_broadcast(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
	for (unsigned i = 0; i < workers->thread_count; i++)
		pthread_join(workers->threads[i], NULL);
	pthread_cond_destroy(&workers->wake);
	pthread_mutex_destroy(&workers->lock);
	free(workers);
}

static void post(struct workers *workers, struct work *work, bool first)
{
	work->workers = workers;
	work->finished.run = on_finished;
	pthread_mutex_lock(&workers->lock);
	if (first)
		list_prepend(&workers->queue, &work->node);
	else
		list_append(&workers->queue, &work->node);
	pthread_cond_signal(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
}

void work_post(struct workers *workers, struct work *work)
{
	post(workers, work, false);
}

void work_post_first(struct workers *workers, struct work *work)
{
	post(workers, work, true);
}
