/*
 * Shared views: each is made once, however many ask at a time; failures are not kept; the longest
 * unused goes. And the workers who ask.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "views.h"
#include "work.h"

/* The real ones hold files; here it matters who holds them. */
struct view {
	atomic_int refs;
};

static atomic_int made, alive;

struct view *view_ref(struct view *view)
{
	view->refs++;
	return view;
}

void view_unref(struct view *view)
{
	if (view && --view->refs == 0) {
		alive--;
		free(view);
	}
}

static int make(void *arg, struct view **ret_view, struct boot_error *ret_error)
{
	const int *failure = arg;
	struct view *view;

	made++;
	usleep(20000);
	if (failure && *failure < 0)
		return boot_fail(ret_error, *failure, "no such disk");
	view = calloc(1, sizeof(*view));
	assert_non_null(view);
	view->refs = 1;
	alive++;
	*ret_view = view;
	return 0;
}

static int fresh(void **state)
{
	(void)state;
	made = alive = 0;
	return 0;
}

static void a_failure_is_not_kept(void **state)
{
	struct views *views = views_new(4);
	struct view *view = NULL;
	struct boot_error error;
	int failure = -ENODEV;

	(void)state;
	assert_int_equal(views_get(views, "a", make, &failure, &view, &error), -ENODEV);
	assert_string_equal(error.text, "no such disk");
	failure = 0;
	assert_int_equal(views_get(views, "a", make, &failure, &view, &error), 0);
	assert_int_equal(made, 2);
	view_unref(view);
	views_free(views);
	assert_int_equal(alive, 0);
}

static void the_longest_unused_goes(void **state)
{
	static const char *const keys[] = {"a", "b", "a", "c", "a", "b"};
	struct views *views = views_new(2);
	struct view *view, *held = NULL;
	struct boot_error error;

	(void)state;
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		assert_int_equal(views_get(views, keys[i], make, NULL, &view, &error), 0);
		if (i == 1)
			held = view_ref(view);
		view_unref(view);
	}
	/* a b c, and b again; whoever holds the first b still has it. */
	assert_int_equal(made, 4);
	assert_int_equal(alive, 3);
	view_unref(held);
	assert_int_equal(alive, 2);
	views_free(views);
	assert_int_equal(alive, 0);
}

#define ASKERS 16

struct asker {
	struct work work;
	struct views *views;
	const char *key;
	int res;
	struct view *view;
	unsigned *done;
};

static void ask(struct work *work)
{
	struct asker *asker = CONTAINER_OF(work, struct asker, work);
	struct boot_error error;

	asker->res = views_get(asker->views, asker->key, make, NULL, &asker->view, &error);
}

static void asked(struct work *work)
{
	struct asker *asker = CONTAINER_OF(work, struct asker, work);

	(*asker->done)++;
}

static void many_ask_and_one_makes(void **state)
{
	struct asker askers[ASKERS] = {{.res = 1}};
	struct views *views = views_new(4);
	struct workers *workers;
	struct mailbox box;
	unsigned done = 0;

	(void)state;
	assert_int_equal(mailbox_init(&box), 0);
	assert_int_equal(workers_new(4, &box, &workers), 0);
	for (unsigned i = 0; i < ASKERS; i++) {
		askers[i] = (struct asker){.work = {.run = ask, .done = asked},
					   .views = views,
					   .key = i % 2 ? "odd" : "even",
					   .done = &done};
		work_post(workers, &askers[i].work);
	}
	while (done < ASKERS) {
		struct pollfd fd = {.fd = box.eventfd, .events = POLLIN};

		assert_int_equal(poll(&fd, 1, 10000), 1);
		mailbox_run(&box);
	}
	assert_int_equal(made, 2);
	for (unsigned i = 0; i < ASKERS; i++) {
		assert_int_equal(askers[i].res, 0);
		assert_ptr_equal(askers[i].view, askers[i % 2].view);
		view_unref(askers[i].view);
	}
	workers_free(workers);
	views_free(views);
	mailbox_done(&box);
	assert_int_equal(alive, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(a_failure_is_not_kept, fresh),
		cmocka_unit_test_setup(the_longest_unused_goes, fresh),
		cmocka_unit_test_setup(many_ask_and_one_makes, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
