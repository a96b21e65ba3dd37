/*
 * Whose line it is that a boot loader says: by the MAC where frames are tapped, by the address
 * where nothing is; and that what comes both ways counts once.
 */
#include <arpa/inet.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "service_internal.h"

static const uint8_t pi_mac[6] = {0xdc, 0xa6, 0x32, 1, 2, 3}, other_mac[6] = {2, 0, 0, 0, 0, 9};

/* --- the world of listen.c --- */

static struct {
	struct boot_options options;
	struct service service;
	struct boot *boot;
	int tapped; /* the interface that is */
	int fd;     /* says things to the UDP port */
} w;

uint64_t now_ms(void)
{
	return 1000;
}

void service_admit(struct service *service)
{
	(void)service;
}

void view_unref(struct view *view)
{
	(void)view;
}

bool dhcp_socket_taps(const struct dhcp_socket *socket, int ifindex)
{
	(void)socket;
	return ifindex == w.tapped;
}

/* A port that was free a moment ago, and `w.fd` is connected to it. */
static uint16_t choose_port(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t bytes = sizeof(at);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	assert_return_code(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_return_code(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
	close(fd);
	w.fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert_return_code(connect(w.fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return ntohs(at.sin_port);
}

static int begin(void **state)
{
	struct pi_identity who = {.model = PI_4};

	(void)state;
	memset(&w, 0, sizeof(w));
	w.options.report_port = choose_port();
	w.service.options = &w.options;
	w.service.base = event_base_new();
	w.service.boots = boots_new();
	assert_int_equal(listener_new(&w.service, &w.service.listener), 0);
	memcpy(who.mac, pi_mac, 6);
	w.boot = boots_add(w.service.boots, &who, BOOT_OFFERED, 0);
	assert_non_null(w.boot);
	boot_set_address(w.service.boots, w.boot, (struct in_addr){htonl(INADDR_LOOPBACK)}, 1);
	return 0;
}

static int end(void **state)
{
	(void)state;
	listener_free(w.service.listener);
	boots_free(w.service.boots);
	event_base_free(w.service.base);
	close(w.fd);
	return 0;
}

/* --- what is said, and what is noted --- */

static void frame(const uint8_t mac[6], const char *source, const void *data, size_t bytes)
{
	struct dhcp_datagram datagram = {
		.from_port = 6665, .to_port = 6666, .data = data, .bytes = bytes};

	assert_int_equal(inet_pton(AF_INET, source, &datagram.from), 1);
	listen_to_frame(&w.service, mac, &datagram);
}

static void udp(const char *text)
{
	assert_int_equal(send(w.fd, text, strlen(text), 0), strlen(text));
	assert_int_equal(event_base_loop(w.service.base, EVLOOP_ONCE), 0);
}

/* The lines of the timeline of this kind, with a '|' behind each. */
static void assert_noted(const char *kind, const char *lines)
{
	char all[4096] = "";
	const json_t *event;
	size_t i;

	json_array_foreach(w.boot->events, i, event)
	{
		size_t used = strlen(all);

		if (strcmp(json_string_value(json_object_get(event, "kind")), kind) == 0)
			(void)snprintf(all + used, sizeof(all) - used, "%s|",
				       json_string_value(json_object_get(event, "text")));
	}
	assert_string_equal(all, lines);
}

static void a_frame_is_its_macs(void **state)
{
	(void)state;
	frame(pi_mac, "169.254.1.1", "a\n\0", 3);
	frame(pi_mac, "0.0.0.0", "b\n\0", 3);
	frame(other_mac, "169.254.1.1", "c\n\0", 3);
	/* Somebody else with the Pi's address. */
	frame(other_mac, "127.0.0.1", "d\n\0", 3);
	frame(pi_mac, "0.0.0.0", "", 0);
	assert_noted("console", "a|b|");
}

static void only_a_boot_under_way_has_lines(void **state)
{
	static const enum boot_stage others[] = {BOOT_STRANGER, BOOT_RUNNING, BOOT_FAILED};

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		w.boot->stage = others[i];
		frame(pi_mac, "0.0.0.0", "a\n", 2);
	}
	w.boot->stage = BOOT_LOADED;
	frame(pi_mac, "0.0.0.0", "b\n", 2);
	assert_noted("console", "b|");
	assert_int_equal(w.boot->stage, BOOT_LOADED);
	assert_int_equal(w.boot->active_ms, 0);
}

static void lines_are_bounded(void **state)
{
	char many[REPORT_DATAGRAM_BYTES * 2];

	(void)state;
	for (size_t i = 0; i < sizeof(many); i++)
		many[i] = i % 2 ? '\n' : 'x';
	/* Half of each are line ends. */
	frame(pi_mac, "0.0.0.0", many, REPORT_DATAGRAM_BYTES / 8);
	assert_int_equal(json_array_size(w.boot->events), REPORT_DATAGRAM_BYTES / 16);
	frame(pi_mac, "0.0.0.0", many, sizeof(many));
	frame(pi_mac, "0.0.0.0", many, sizeof(many));
	assert_int_equal(json_array_size(w.boot->events), 128);
}

static void udp_counts_where_nothing_is_tapped(void **state)
{
	(void)state;
	udp("a\n");
	assert_noted("console", "a|");
	w.tapped = (int)if_nametoindex("lo");
	udp("b\n");
	frame(pi_mac, "127.0.0.1", "b\n", 2);
	assert_noted("console", "a|b|");
}

static void a_report_counts_once(void **state)
{
	char report[128];
	int n = snprintf(report, sizeof(report), "lunroot-report 1 %s 1 root ext4", w.boot->token);

	(void)state;
	w.tapped = (int)if_nametoindex("lo");
	frame(pi_mac, "127.0.0.1", report, (size_t)n);
	assert_int_equal(w.boot->stage, BOOT_OFFERED);
	udp(report);
	frame(pi_mac, "127.0.0.1", report, (size_t)n);
	assert_int_equal(w.boot->stage, BOOT_RUNNING);
	assert_noted("report", "root: ext4|");
	assert_noted("console", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_frame_is_its_macs, begin, end),
		cmocka_unit_test_setup_teardown(only_a_boot_under_way_has_lines, begin, end),
		cmocka_unit_test_setup_teardown(lines_are_bounded, begin, end),
		cmocka_unit_test_setup_teardown(udp_counts_where_nothing_is_tapped, begin, end),
		cmocka_unit_test_setup_teardown(a_report_counts_once, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
