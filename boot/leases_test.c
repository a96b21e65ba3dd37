/*
 * Leases on their way to lunrootd: it hears of their changes in the order in which they came to be,
 * with workers that would do several at a time, and not without end while it does not answer.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "service_internal.h"

#define CALLS_MAX 64

static const uint8_t board[6] = {0xdc, 0xa6, 0x32, 1, 2, 3}, other[6] = {0xdc, 0xa6, 0x32, 1, 2, 4};

/* --- the world of leases.c --- */

static struct {
	struct boot_options options;
	struct service service;
	struct mailbox box;
	pthread_mutex_t lock;
	char calls[CALLS_MAX][96]; /* what lunrootd has heard, when it has answered */
	unsigned call_count;
	int answer;
	sem_t hang; /* one post lets one call go on, if `hangs` */
	bool hangs;
	unsigned stored_count; /* what the engine has heard */
	int stored_res;
} w;

/* A PUT takes longer than a DELETE, as it may. */
int api_call(const char *socket_path, const char *method, const char *target, json_t *body,
	     json_t **ret_answer, struct api_failure *ret_failure)
{
	(void)socket_path;
	(void)ret_answer;
	if (w.hangs)
		sem_wait(&w.hang);
	else if (strcmp(method, "PUT") == 0)
		usleep(20000);
	ret_failure->text[0] = '\0';
	pthread_mutex_lock(&w.lock);
	if (w.call_count < CALLS_MAX)
		(void)snprintf(w.calls[w.call_count], sizeof(w.calls[0]), "%s %s %s", method,
			       strrchr(target, ':') + 1, api_text(body, "address"));
	w.call_count++;
	pthread_mutex_unlock(&w.lock);
	json_decref(body);
	return w.answer;
}

const char *api_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? text : "";
}

/* Nobody boots. */
struct boot *boots_find_mac(const struct boots *boots, const uint8_t mac[6])
{
	(void)boots;
	(void)mac;
	return NULL;
}

uint64_t now_ms(void)
{
	return 1000000;
}

void service_lunrootd(struct service *service, bool answers, const char *why)
{
	(void)service;
	(void)answers;
	(void)why;
}

void dhcp_lease_stored(struct dhcp *dhcp, const uint8_t mac[6], int res)
{
	(void)dhcp;
	(void)mac;
	w.stored_count++;
	w.stored_res = res;
}

int dhcp_lease_load(struct dhcp *dhcp, const struct dhcp_lease *lease)
{
	(void)dhcp;
	(void)lease;
	return 0;
}

void dhcp_leases_loaded(struct dhcp *dhcp)
{
	(void)dhcp;
}

static int begin(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	pthread_mutex_init(&w.lock, NULL);
	sem_init(&w.hang, 0, 0);
	w.service.options = &w.options;
	leases_init(&w.service);
	return mailbox_init(&w.box) == 0 && workers_new(3, &w.box, &w.service.workers) == 0 ? 0
											    : -1;
}

static int end(void **state)
{
	(void)state;
	sem_post(&w.hang);
	workers_free(w.service.workers);
	leases_done(&w.service);
	mailbox_done(&w.box);
	sem_destroy(&w.hang);
	pthread_mutex_destroy(&w.lock);
	return 0;
}

/* Until all is told. */
static void run(void)
{
	while (w.service.keeping_count > 0) {
		struct pollfd fd = {.fd = w.box.eventfd, .events = POLLIN};

		assert_int_equal(poll(&fd, 1, 10000), 1);
		mailbox_run(&w.box);
	}
}

static int give(const uint8_t mac[6], unsigned last)
{
	struct dhcp_lease lease = {.until_s = 1000000000};

	memcpy(lease.mac, mac, 6);
	lease.address.s_addr = htonl(0x0a000000 + last);
	return lease_store(&w.service, &lease);
}

static void heard(const char *const *calls, unsigned count)
{
	assert_int_equal(w.call_count, count);
	for (unsigned i = 0; i < count; i++)
		assert_string_equal(w.calls[i], calls[i]);
}

/* --- */

static void given_back_stays_given_back(void **state)
{
	static const char *const calls[] = {"PUT 03 10.0.0.7", "DELETE 03 ", "PUT 04 10.0.0.7"};

	(void)state;
	assert_int_equal(give(board, 7), -EINPROGRESS);
	lease_forget(&w.service, board);
	assert_int_equal(give(other, 7), -EINPROGRESS);
	run();
	heard(calls, ARRAY_COUNT(calls));
}

/* The ACK is for the second address: it must not go out when the first is kept. */
static void the_engine_hears_of_the_newest(void **state)
{
	static const char *const calls[] = {"PUT 03 10.0.0.7", "PUT 04 10.0.0.9",
					    "PUT 03 10.0.0.8"};

	(void)state;
	assert_int_equal(give(board, 7), -EINPROGRESS);
	assert_int_equal(give(other, 9), -EINPROGRESS);
	assert_int_equal(give(board, 8), -EINPROGRESS);
	run();
	heard(calls, ARRAY_COUNT(calls));
	assert_int_equal(w.stored_count, 2);
}

static void a_failure_is_no_end(void **state)
{
	(void)state;
	w.answer = -EREMOTEIO;
	assert_int_equal(give(board, 7), -EINPROGRESS);
	assert_int_equal(give(other, 8), -EINPROGRESS);
	run();
	assert_int_equal(w.call_count, 2);
	assert_int_equal(w.stored_count, 2);
	assert_int_equal(w.stored_res, -EREMOTEIO);
}

static void one_that_hangs_costs_no_memory_without_end(void **state)
{
	(void)state;
	w.hangs = true;
	for (unsigned i = 0; i < LIMIT_LEASES; i++)
		assert_int_equal(give(board, 1 + i), -EINPROGRESS);
	assert_int_equal(give(board, 7), -ENOBUFS);
	lease_forget(&w.service, board);
	assert_int_equal(w.service.keeping_count, LIMIT_LEASES);
	assert_int_equal(w.call_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(given_back_stays_given_back, begin, end),
		cmocka_unit_test_setup_teardown(the_engine_hears_of_the_newest, begin, end),
		cmocka_unit_test_setup_teardown(a_failure_is_no_end, begin, end),
		cmocka_unit_test_setup_teardown(one_that_hangs_costs_no_memory_without_end, begin,
						end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
