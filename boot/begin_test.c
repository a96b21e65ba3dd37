/*
 * Who counts as a Pi that begins to boot, and gets credentials: boards that ask by DHCP, requests
 * for a file alone, and programs that say to be either.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "api.h"
#include "base/byteorder.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "netif.h"
#include "service_internal.h"

#define SECOND 1000ull
#define SERIAL 0xb66c4c16

/* A Pi 4, another machine, and a PC. */
static const uint8_t pi_mac[6] = {0xdc, 0xa6, 0x32, 1, 2, 3}, other_mac[6] = {2, 0, 0, 0, 0, 9},
		     pc_mac[6] = {0x52, 0x54, 0, 1, 2, 3};

/* --- the world of ask.c, hand_out.c and strangers.c --- */

static struct {
	struct boot_options options;
	struct service service;
	uint64_t now_ms;
	const uint8_t *neighbour;     /* who asks for files */
	const struct dhcp_client *of; /* what DHCP knows of it */
	unsigned prepared, fetched;
	char trouble[512];
} w;

static struct view {
	int unused;
} the_view;

uint64_t now_ms(void)
{
	return w.now_ms;
}

void view_unref(struct view *view)
{
	(void)view;
}

struct blob *view_find(const struct view *view, const char *path)
{
	(void)view;
	(void)path;
	return blob_new(strdup("bytes"), 5);
}

/* Its files are ready at once, and there is room. */
void prepare_boot(struct service *service, struct boot *boot, const struct boot_node *node)
{
	(void)service;
	(void)node;
	w.prepared++;
	boot->view = &the_view;
	boot->stage = BOOT_WAITING;
}

bool admission_let_in(struct service *service, struct boot *boot, uint64_t now)
{
	(void)service;
	(void)now;
	boot->stage = BOOT_OFFERED;
	return true;
}

void service_admit(struct service *service)
{
	(void)service;
}

void service_fetch_nodes(struct service *service, bool at_once)
{
	(void)service;
	(void)at_once;
	w.fetched++;
}

void teller_trouble(struct teller *teller, const char *code, const char *message)
{
	(void)teller;
	(void)code;
	(void)snprintf(w.trouble, sizeof(w.trouble), "%s", message);
}

bool netif_neighbour(int fd, int ifindex, struct in_addr address, uint8_t ret_mac[6])
{
	(void)fd;
	(void)ifindex;
	(void)address;
	memcpy(ret_mac, w.neighbour, 6);
	return true;
}

const struct dhcp_client *dhcp_find_mac(struct dhcp *dhcp, const uint8_t mac[6])
{
	(void)dhcp;
	return w.of && memcmp(w.of->pi.mac, mac, 6) == 0 ? w.of : NULL;
}

void dhcp_begun(struct dhcp *dhcp, const uint8_t mac[6], struct in_addr address)
{
	(void)dhcp;
	(void)mac;
	(void)address;
}

uint16_t http_port(const struct http *http)
{
	(void)http;
	return 8069;
}

int api_call(const char *socket_path, const char *method, const char *target, json_t *body,
	     json_t **ret_answer, struct api_failure *ret_failure)
{
	(void)socket_path;
	(void)method;
	(void)target;
	(void)ret_answer;
	(void)ret_failure;
	json_decref(body);
	return -ECONNREFUSED;
}

void work_post(struct workers *workers, struct work *work)
{
	(void)workers;
	(void)work;
}

bool lease_host(void *service, const uint8_t mac[6], struct dhcp_host *ret_host)
{
	(void)service;
	(void)mac;
	(void)ret_host;
	return false;
}

bool lease_is_static(void *service, struct in_addr address)
{
	(void)service;
	(void)address;
	return false;
}

int64_t lease_unix_s(void *service)
{
	(void)service;
	return 0;
}

int lease_store(void *service, const struct dhcp_lease *lease)
{
	(void)service;
	(void)lease;
	return 0;
}

void lease_forget(void *service, const uint8_t mac[6])
{
	(void)service;
	(void)mac;
}

/* --- what happens in it --- */

/* lunrootd's list: a node known by serial alone, one by MAC, a PC's. */
static void nodes_are(const char *serial_state, const char *mac_state, const char *pc_state)
{
	json_t *answer =
		json_pack("{s:[{s:s, s:s, s:s}, {s:s, s:s, s:s}, {s:s, s:s, s:s}]}", "nodes",
			  "name", "by-serial", "serial", "b66c4c16", "state", serial_state, "name",
			  "by-mac", "mac", "dc:a6:32:01:02:03", "state", mac_state, "name", "pc",
			  "mac", "52:54:00:01:02:03", "state", pc_state);

	assert_non_null(answer);
	assert_int_equal(nodes_take(w.service.nodes, answer, w.now_ms), 0);
	json_decref(answer);
}

static int begin(void **state)
{
	(void)state;
	memset(&w, 0, sizeof(w));
	w.now_ms = 1000 * SECOND;
	w.options.dhcp = true;
	w.service.options = &w.options;
	w.service.boots = boots_new();
	w.service.nodes = nodes_new();
	w.service.nodes_known = true;
	assert_non_null(w.service.boots);
	assert_non_null(w.service.nodes);
	nodes_are("ready", "ready", "ready");
	return 0;
}

static int end(void **state)
{
	(void)state;
	boots_free(w.service.boots);
	nodes_free(w.service.nodes);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

static void stranger_has_node(void)
{
	json_t *answer =
		json_pack("{s:[{s:s, s:s}]}", "nodes", "name", "new", "mac", "02:00:00:00:00:09");

	assert_non_null(answer);
	assert_int_equal(nodes_take(w.service.nodes, answer, w.now_ms), 0);
	json_decref(answer);
}

/* A DISCOVER; whether it begins or goes on with a boot. */
static bool discover(const uint8_t mac[6], bool with_serial)
{
	static struct dhcp_client client;
	struct dhcp_boot boot = {.file = ""};

	client = (struct dhcp_client){.pi = {.model = PI_4}, .ifindex = 2};
	memcpy(client.pi.mac, mac, 6);
	if (memcmp(mac, pc_mac, 6) == 0)
		client.pi.model = PI_NONE;
	client.pi.has_serial = with_serial;
	client.pi.serial = with_serial ? SERIAL : 0;
	if (client.pi.model != PI_NONE || !w.of)
		w.of = &client;
	return ask_ops.ask(&w.service, &client, &boot) == DHCP_OFFER;
}

/* Asks for a file, and takes all of it, but for the last ACK if that is lost. */
static int get(const uint8_t mac[6], const char *path, bool confirmed)
{
	struct serve_request request = {.ifindex = 2, .path = path};
	struct serve_progress progress = {.bytes = 5, .file_bytes = 5, .text = ""};
	struct blob *blob = NULL;
	int r;

	request.peer.sin_addr.s_addr = htonl(0x0a000000u | mac[5]);
	w.neighbour = mac;
	r = hand_out_ops.open(&w.service, &request, &blob);
	if (r == 0)
		hand_out_ops.event(&w.service, &request, confirmed ? SERVE_SENT : SERVE_LOST,
				   &progress);
	blob_unref(blob);
	return r;
}

static int get_settings(const uint8_t mac[6])
{
	return get(mac, "lunroot.img", true);
}

/* As lunroot-init's first report does. */
static void runs(const uint8_t mac[6])
{
	struct boot *boot = boots_find_mac(w.service.boots, mac);

	assert_non_null(boot);
	boot->stage = BOOT_RUNNING;
	boot->active_ms = w.now_ms;
}

/* --- by DHCP --- */

static void a_board_that_asks_boots_at_once(void **state)
{
	(void)state;
	assert_true(discover(pi_mac, true));
	assert_int_equal(get(pi_mac, "config.txt", true), 0);
	assert_int_equal(get_settings(pi_mac), 0);
	assert_int_equal(get_settings(pi_mac), -EACCES); /* once */
	runs(pi_mac);
	nodes_are("in use", "in use", "ready");
	/* Switched off and on: that lunrootd believes it to be logged in keeps it from nothing. */
	w.now_ms += 10 * SECOND;
	assert_true(discover(pi_mac, true));
	assert_int_equal(get_settings(pi_mac), 0);
	assert_int_equal(w.prepared, 2);
}

static void who_runs_gets_no_settings(void **state)
{
	(void)state;
	assert_true(discover(pi_mac, false));
	assert_int_equal(get(pi_mac, "lunroot.img", false), 0); /* the last ACK is lost */
	assert_int_equal(get(pi_mac, "lunroot.img", false), 0); /* it asks again */
	runs(pi_mac);
	assert_int_equal(get_settings(pi_mac), -EACCES);
	assert_int_equal(get(pi_mac, "config.txt", true), 0);
	assert_int_equal(boots_find_mac(w.service.boots, pi_mac)->settings_sent, 0);
}

/* Nor what takes the board's address. */
static void another_machine_gets_nothing(void **state)
{
	struct boot *boot;

	(void)state;
	assert_true(discover(pi_mac, false));
	assert_int_equal(get_settings(other_mac), -EACCES);
	boot = boots_find_mac(w.service.boots, pi_mac);
	boot_set_address(w.service.boots, boot, (struct in_addr){htonl(0x0a000009)}, 2);
	assert_int_equal(get_settings(other_mac), -EACCES);
	assert_int_equal(boot->settings_sent, 0);
	assert_int_equal(w.prepared, 1);
}

/* --- for a file alone --- */

/* A PC, whose boot is known, and which does not say that it runs. */
static void a_program_on_a_pc_begins_nothing(void **state)
{
	(void)state;
	assert_true(discover(pc_mac, false));
	assert_int_equal(get(pc_mac, VIEW_SCRIPT, true), 0);
	nodes_are("ready", "ready", "in use");
	w.now_ms += 61 * SECOND;
	assert_int_equal(get(pc_mac, VIEW_SCRIPT, true), -EACCES);
	assert_int_equal(get(pc_mac, "vmlinuz", true), 0); /* what is no secret it may read */
	assert_int_equal(w.prepared, 1);
	nodes_are("ready", "ready", "ready");
	w.now_ms += 61 * SECOND;
	assert_int_equal(get(pc_mac, VIEW_SCRIPT, true), 0); /* it begins anew */
	assert_int_equal(w.prepared, 2);
}

/* Its keeper logs in again some seconds after lunrootd is back, as after a network's trouble. */
static void a_node_that_seems_free_for_a_moment(void **state)
{
	(void)state;
	nodes_are("ready", "in use", "ready");
	w.now_ms += 15 * SECOND;
	nodes_are("ready", "ready", "ready");
	assert_int_equal(get_settings(pi_mac), -EACCES);
	w.now_ms += 15 * SECOND;
	nodes_are("ready", "in use", "ready");
	w.now_ms += 59 * SECOND;
	nodes_are("ready", "ready", "ready");
	assert_int_equal(get_settings(pi_mac), -EACCES);
	w.now_ms += 1 * SECOND;
	assert_int_equal(get_settings(pi_mac), 0);
}

static void before_it_is_known_who_runs(void **state)
{
	(void)state;
	w.service.away_ms = w.now_ms; /* lunbootd has begun, or lunrootd was away */
	assert_int_equal(get_settings(pi_mac), -EACCES);
	w.now_ms += 59 * SECOND;
	assert_int_equal(get_settings(pi_mac), -EACCES);
	assert_int_equal(w.prepared, 0);
	w.now_ms += 1 * SECOND;
	assert_int_equal(get_settings(pi_mac), 0);
	/* A board that asks by DHCP waits for none of this. */
	w.service.away_ms = w.now_ms;
	nodes_are("ready", "in use", "ready");
	w.now_ms += 10 * SECOND;
	assert_true(discover(pi_mac, false));
	assert_int_equal(get_settings(pi_mac), 0);
	assert_int_equal(w.prepared, 2);
}

/* By settings of its own (TFTP_IP), beside those that ask by DHCP. */
static void a_pi_that_skips_dhcp_starts_again(void **state)
{
	(void)state;
	assert_int_equal(get(pi_mac, "config.txt", true), 0);
	assert_int_equal(get_settings(pi_mac), 0);
	runs(pi_mac);
	nodes_are("ready", "in use", "ready");
	w.now_ms += 3600 * SECOND;
	nodes_are("ready", "in use", "ready");
	assert_int_equal(get_settings(pi_mac), -EACCES); /* a program on it */
	nodes_are("ready", "ready", "ready");
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(get(pi_mac, "config.txt", true), 0);
		assert_int_equal(get_settings(pi_mac), -EACCES);
		w.now_ms += 10 * SECOND;
	}
	assert_int_equal(get(pi_mac, "config.txt", true), 0);
	assert_int_equal(get_settings(pi_mac), 0);
	assert_int_equal(w.prepared, 2);
	/* What was not loaded, or does not run, is tried again as soon. */
	w.now_ms += 59 * SECOND;
	assert_int_equal(get_settings(pi_mac), -EACCES);
	w.now_ms += 1 * SECOND;
	assert_int_equal(get_settings(pi_mac), 0);
}

/* One that asks by DHCP does so at each start. */
static void a_pi_that_uses_dhcp_must_ask(void **state)
{
	(void)state;
	assert_true(discover(pi_mac, false));
	assert_int_equal(get_settings(pi_mac), 0);
	w.now_ms += 600 * SECOND;
	assert_int_equal(get_settings(pi_mac), -EACCES);
	runs(pi_mac);
	assert_int_equal(get_settings(pi_mac), -EACCES);
	assert_int_equal(w.prepared, 1);
}

/* --- a node that is known by serial alone --- */

static void who_repeats_a_serial_stops_nothing(void **state)
{
	(void)state;
	assert_true(discover(pi_mac, true));
	assert_int_equal(get_settings(pi_mac), 0);
	assert_false(discover(other_mac, true)); /* it loads */
	runs(pi_mac);
	assert_false(discover(other_mac, true)); /* it logs in, of which nothing is known yet */
	nodes_are("in use", "ready", "ready");
	w.now_ms += 3600 * SECOND;
	boots_forget_old(w.service.boots, w.now_ms);
	assert_false(discover(other_mac, true));
	assert_string_equal(
		w.trouble, "02:00:00:00:00:09 says to be the Pi of node by-serial, which another "
			   "boots or runs: if the board was changed, lunctl assign by-serial --mac "
			   "02:00:00:00:00:09");
	assert_int_equal(w.prepared, 1);
	/* The board itself boots at once, and another one when this one is off. */
	assert_true(discover(pi_mac, true));
	assert_int_equal(w.prepared, 2);
	w.now_ms += 61 * SECOND;
	nodes_are("in use", "ready", "ready");
	nodes_are("ready", "ready", "ready"); /* its keeper logs in again soon */
	assert_false(discover(other_mac, true));
	w.now_ms += 61 * SECOND;
	assert_true(discover(other_mac, true));
}

/* lunbootd began after it: who boots then could be anybody, until the login has ended. */
static void a_running_node_of_which_nothing_is_known(void **state)
{
	(void)state;
	nodes_are("in use", "ready", "ready");
	assert_false(discover(pi_mac, true));
	assert_true(w.fetched > 0);
	nodes_are("ready", "ready", "ready");
	assert_true(discover(pi_mac, true));
	/* A MAC tells. */
	nodes_are("ready", "in use", "ready");
	w.now_ms += 61 * SECOND;
	assert_true(discover(pi_mac, false));
}

/* --- a stranger that is given a node --- */

/* The node is given to the serial: the first one has it. */
static void two_strangers_of_one_serial(void **state)
{
	json_t *none = json_pack("{s:[]}", "nodes");

	(void)state;
	assert_int_equal(nodes_take(w.service.nodes, none, w.now_ms), 0);
	json_decref(none);
	assert_false(discover(pi_mac, true));
	assert_false(discover(other_mac, true));
	nodes_are("ready", "ready", "ready");
	strangers_look(&w.service);
	strangers_look(&w.service);
	assert_int_equal(w.prepared, 1);
	assert_int_equal(boots_find_mac(w.service.boots, pi_mac)->stage, BOOT_WAITING);
	assert_int_equal(boots_find_mac(w.service.boots, other_mac)->stage, BOOT_STRANGER);
}

static void no_room_for_a_strangers_boot(void **state)
{
	struct pi_identity who = {.model = PI_4, .mac = {0xdc, 0xa6, 0x32, 8}};
	struct boot *boot = NULL;

	(void)state;
	assert_false(discover(other_mac, false));
	while ((boot = boots_next(w.service.boots, boot)))
		boot->posting = true;
	for (unsigned i = 1; i < LIMIT_BOOTS; i++) {
		put_be16(who.mac + 4, (uint16_t)i);
		boot = boots_add(w.service.boots, &who, BOOT_PREPARING, w.now_ms);
		assert_non_null(boot);
		boot->preparing = true;
	}
	stranger_has_node();
	(void)alarm(10);
	strangers_look(&w.service);
	(void)alarm(0);
	assert_int_equal(w.prepared, 0);
	boots_next(w.service.boots, NULL)->posting = false; /* it may go */
	strangers_look(&w.service);
	assert_int_equal(w.prepared, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_board_that_asks_boots_at_once),
		TEST(who_runs_gets_no_settings),
		TEST(another_machine_gets_nothing),
		TEST(a_program_on_a_pc_begins_nothing),
		TEST(a_node_that_seems_free_for_a_moment),
		TEST(before_it_is_known_who_runs),
		TEST(a_pi_that_skips_dhcp_starts_again),
		TEST(a_pi_that_uses_dhcp_must_ask),
		TEST(who_repeats_a_serial_stops_nothing),
		TEST(a_running_node_of_which_nothing_is_known),
		TEST(two_strangers_of_one_serial),
		TEST(no_room_for_a_strangers_boot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
