/*
 * What doctor says of facts, and how it reads answers to its DISCOVER, which come from anybody.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "base/byteorder.h"
#include "base/cleanup.h"
#include "doctor.h"

#define NOW_MS 1795694400000 /* 2026-11-26T12:00:00Z */

/* All is well. */
static void good_facts(struct doctor_facts *facts)
{
	static const struct doctor_interface eth0 = {.name = "eth0",
						     .address = "10.0.0.2",
						     .up = true,
						     .carrier = true,
						     .speed_mbit = 1000};
	static const struct doctor_interface lo = {.name = "lo",
						   .address = "127.0.0.1",
						   .up = true,
						   .carrier = true,
						   .loopback = true,
						   .speed_mbit = -1};

	*facts = (struct doctor_facts){.now_ms = NOW_MS,
				       .is_root = true,
				       .socket_path = "/run/x.sock",
				       .asked_dhcp = true};
	facts->version = json_pack("{s:s, s:[s], s:s, s:s, s:b}", "version", "0.2.0", "portals",
				   "10.0.0.2:3260", "state_dir", "/var/lib/lunroot", "run_dir",
				   "/run/lunroot", "write_through", 0);
	facts->health =
		json_pack("{s:{s:i, s:i, s:i, s:b}, s:[]}", "space", "free_bytes", 3000,
			  "total_bytes", 9000, "reserve_bytes", 100, "below_reserve", 0, "alarms");
	facts->bootd = json_pack("{s:s, s:s, s:s, s:[{s:s, s:s}], s:[]}", "version", "0.2.0",
				 "seen", "2026-11-26T11:59:40Z", "started", "2026-11-26T08:00:00Z",
				 "interfaces", "name", "eth0", "address", "10.0.0.2", "troubles");
	assert_non_null(facts->version);
	assert_non_null(facts->health);
	assert_non_null(facts->bootd);
	(void)snprintf(facts->state_fs, sizeof(facts->state_fs), "ext4");
	facts->interfaces[0] = lo;
	facts->interfaces[1] = eth0;
	facts->interface_count = 2;
	facts->sockets[0] = (struct doctor_socket){67, "lunbootd", 7};
	facts->sockets[1] = (struct doctor_socket){69, "lunbootd", 7};
	facts->socket_count = 2;
	facts->servers[0] = (struct doctor_server){"eth0", "10.0.0.1", true, false, false};
	facts->server_count = 1;
	(void)snprintf(facts->init, sizeof(facts->init), "/x/init");
	(void)snprintf(facts->busybox, sizeof(facts->busybox), "/x/busybox");
}

/* The finding of this code that is not "ok", or NULL; `unique`: there is but one that is not ok. */
static const json_t *finding(const json_t *findings, const char *code, unsigned *ret_bad)
{
	const json_t *found = NULL;

	*ret_bad = 0;
	for (size_t i = 0; i < json_array_size(findings); i++) {
		const json_t *f = json_array_get(findings, i);

		assert_true(get_text(f, "message")[0] != '\0');
		if (strcmp(get_text(f, "level"), "ok") == 0)
			continue;
		(*ret_bad)++;
		if (strcmp(get_text(f, "code"), code) == 0)
			found = f;
	}
	return found;
}

static void nothing_is_wrong(void **state)
{
	struct doctor_facts facts;
	json_t *findings;
	unsigned bad;

	(void)state;
	good_facts(&facts);
	findings = doctor_judge(&facts);
	assert_null(finding(findings, "", &bad));
	assert_int_equal(bad, 0);
	assert_int_equal(json_array_size(findings), 12);
	json_decref(findings);
	doctor_done(&facts);
}

/* --- one thing is wrong --- */

static void no_daemon(struct doctor_facts *f)
{
	json_decref(f->version);
	json_decref(f->health);
	json_decref(f->bootd);
	f->version = f->health = f->bootd = NULL;
	f->unreachable = ENOENT;
	f->socket_count = 0;
}

static void only_loopback(struct doctor_facts *f)
{
	json_object_set_new(f->version, "portals",
			    json_pack("[s,s]", "127.0.0.1:3260", "[::1]:3260"));
}

static void write_through(struct doctor_facts *f)
{
	json_object_set_new(f->version, "write_through", json_true());
}

static void little_space(struct doctor_facts *f)
{
	json_object_set_new(json_object_get(f->health, "space"), "below_reserve", json_true());
	json_object_set_new(f->health, "alarms",
			    json_pack("[{s:s, s:s, s:s}]", "code", "reserve", "message",
				      "1 GiB is free, less than the reserve", "cure",
				      "free space"));
}

static void failed_disk(struct doctor_facts *f)
{
	json_object_set_new(f->health, "alarms",
			    json_pack("[{s:s, s:s, s:s}]", "code", "failed", "message",
				      "LUN 0 of pi-07 has failed", "cure", "mend the disk"));
}

static void vfat(struct doctor_facts *f)
{
	(void)snprintf(f->state_fs, sizeof(f->state_fs), "vfat");
}

static void hidden_state(struct doctor_facts *f)
{
	f->state_fs[0] = '\0';
}

static void no_bootd(struct doctor_facts *f)
{
	json_decref(f->bootd);
	f->bootd = json_null();
	f->socket_count = 0;
}

static void silent_bootd(struct doctor_facts *f)
{
	json_object_set_new(f->bootd, "seen", json_string("2026-11-26T11:50:00Z"));
	f->socket_count = 0;
}

static void bootd_without_interface(struct doctor_facts *f)
{
	json_object_set_new(f->bootd, "interfaces", json_array());
}

static void bootd_in_trouble(struct doctor_facts *f)
{
	json_object_set_new(f->bootd, "troubles",
			    json_pack("[{s:s, s:s, s:s}]", "code", "network", "message",
				      "the switch on eth0 speaks spanning tree", "cure",
				      "portfast"));
}

static void tftp_taken(struct doctor_facts *f)
{
	f->sockets[1] = (struct doctor_socket){69, "in.tftpd", 99};
}

static void tftp_shared(struct doctor_facts *f)
{
	f->sockets[2] = (struct doctor_socket){69, "dnsmasq", 99};
	f->socket_count = 3;
}

static void dhcp_taken(struct doctor_facts *f)
{
	f->sockets[0] = (struct doctor_socket){67, "dnsmasq", 99};
}

static void taken_by_nobody_knows(struct doctor_facts *f)
{
	silent_bootd(f);
	f->sockets[0] = (struct doctor_socket){69, "", 0};
	f->socket_count = 1;
}

static void no_cable(struct doctor_facts *f)
{
	f->interfaces[1].carrier = false;
}

static void no_address(struct doctor_facts *f)
{
	f->interfaces[1].address[0] = '\0';
}

static void own_address(struct doctor_facts *f)
{
	(void)snprintf(f->interfaces[1].address, 32, "169.254.1.2");
}

static void slow_link(struct doctor_facts *f)
{
	f->interfaces[1].speed_mbit = 100;
}

static void wireless(struct doctor_facts *f)
{
	f->interfaces[1].wireless = true;
}

static void no_interface(struct doctor_facts *f)
{
	f->interface_count = 1;
}

static void no_dhcp(struct doctor_facts *f)
{
	f->server_count = 0;
}

static void two_dhcp(struct doctor_facts *f)
{
	f->servers[1] = (struct doctor_server){"eth0", "10.0.0.9", true, false, false};
	f->server_count = 2;
}

static void other_pxe(struct doctor_facts *f)
{
	f->servers[1] = (struct doctor_server){"eth0", "10.0.0.9", false, true, false};
	f->server_count = 2;
}

static void not_root(struct doctor_facts *f)
{
	f->is_root = f->asked_dhcp = false;
	f->server_count = 0;
}

static void no_init(struct doctor_facts *f)
{
	f->init[0] = '\0';
}

static void no_busybox(struct doctor_facts *f)
{
	f->busybox[0] = '\0';
}

static void one_thing_is_wrong(void **state)
{
	static const struct {
		void (*spoil)(struct doctor_facts *f);
		const char *code, *level, *part;
		unsigned bad;
	} table[] = {
		{no_daemon, "lunrootd", "error", "/run/x.sock: No such file", 1},
		{only_loopback, "portals", "error", "127.0.0.1:3260, [::1]:3260", 1},
		{write_through, "runtime_dir", "warning", "/run/lunroot is not on tmpfs", 1},
		{little_space, "reserve", "warning", "less than the reserve", 1},
		{failed_disk, "failed", "error", "pi-07 has failed", 1},
		{vfat, "state_dir", "error", "no holes", 1},
		{hidden_state, "state_dir", "unknown", "can't be seen from here", 1},
		{no_bootd, "lunbootd", "error", "does not run", 1},
		{silent_bootd, "lunbootd", "error", "last heard of 10:00 min ago", 1},
		{bootd_without_interface, "lunbootd_interfaces", "error", "no interface", 1},
		{bootd_in_trouble, "network", "warning", "lunbootd: the switch on eth0", 1},
		{tftp_taken, "port", "error", "69 (TFTP) is taken by in.tftpd (pid 99)", 1},
		{tftp_shared, "port", "error", "69 (TFTP) is taken by dnsmasq", 1},
		{dhcp_taken, "port", "warning", "67 (DHCP) is taken by dnsmasq", 1},
		{taken_by_nobody_knows, "port", "error", "69 (TFTP) is taken, and", 2},
		{no_cable, "interface", "error", "eth0 is not connected", 1},
		{no_address, "interface", "error", "no IPv4 address", 1},
		{own_address, "interface", "warning", "169.254.1.2", 1},
		{slow_link, "interface", "warning", "only 100 Mbit/s", 1},
		{wireless, "interface", "warning", "wireless", 1},
		{no_interface, "interface", "error", "no network interface", 1},
		{no_dhcp, "dhcp", "error", "no DHCP server answers on eth0", 1},
		{two_dhcp, "dhcp", "error", "2 DHCP servers answer on eth0: 10.0.0.1, 10.0.0.9", 1},
		{other_pxe, "pxe_server", "error", "eth0: 10.0.0.9", 1},
		{not_root, "dhcp", "unknown", "needs root", 1},
		{no_init, "init", "warning", "lunroot-init", 1},
		{no_busybox, "busybox", "warning", "busybox", 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		struct doctor_facts facts;
		json_t *findings;
		const json_t *f;
		unsigned bad;

		good_facts(&facts);
		table[i].spoil(&facts);
		findings = doctor_judge(&facts);
		f = finding(findings, table[i].code, &bad);
		if (!f || bad != table[i].bad)
			print_error("%zu %s: %u\n%s\n", i, table[i].code, bad,
				    json_dumps(findings, JSON_INDENT(1)));
		assert_non_null(f);
		assert_int_equal(bad, table[i].bad);
		assert_string_equal(get_text(f, "level"), table[i].level);
		assert_non_null(strstr(get_text(f, "message"), table[i].part));
		assert_true(get_text(f, "cure")[0] != '\0');
		json_decref(findings);
		doctor_done(&facts);
	}
}

static void our_own_answers_are_no_rival(void **state)
{
	struct doctor_facts facts;
	json_t *findings;
	unsigned bad;

	(void)state;
	good_facts(&facts);
	facts.servers[1] = (struct doctor_server){"eth0", "10.0.0.2", false, true, true};
	facts.server_count = 2;
	findings = doctor_judge(&facts);
	assert_null(finding(findings, "pxe_server", &bad));
	assert_int_equal(bad, 0);
	json_decref(findings);
	doctor_done(&facts);
}

static void interfaces_that_are_asked(void **state)
{
	struct doctor_facts facts;
	struct doctor_interface other = {.name = "eth1", .address = "10.9.0.1", .carrier = true};

	(void)state;
	good_facts(&facts);
	assert_true(doctor_is_asked(&facts, &facts.interfaces[1]));
	assert_false(doctor_is_asked(&facts, &facts.interfaces[0]));
	assert_false(doctor_is_asked(&facts, &other)); /* lunbootd does not serve it */
	json_decref(facts.bootd);
	facts.bootd = NULL;
	assert_true(doctor_is_asked(&facts, &other));
	other.is_virtual = true;
	assert_false(doctor_is_asked(&facts, &other));
	doctor_done(&facts);
}

/* --- answers --- */

#define XID 0x12345678u

/* An IPv4 packet with an OFFER; its length. */
static size_t offer(uint8_t *p, uint32_t address, const uint8_t *options, size_t bytes)
{
	memset(p, 0, 20 + 8 + 240);
	p[0] = 0x45;
	p[9] = 17;
	put_be32(p + 12, 0x0a000001);
	put_be16(p + 20, 67);
	put_be16(p + 22, 68);
	p[28] = 2;
	put_be32(p + 28 + 4, XID);
	put_be32(p + 28 + 16, address);
	put_be32(p + 28 + 236, 0x63825363);
	memcpy(p + 268, options, bytes);
	return 268 + bytes;
}

static void offers_are_read(void **state)
{
	static const uint8_t router[] = {0, 53, 1, 2, 54, 4, 10, 0, 0, 9, 255};
	static const uint8_t proxy[] = {53,  1,   2,   60,  9,   'P', 'X', 'E',
					'C', 'l', 'i', 'e', 'n', 't', 255};
	static const uint8_t ack[] = {53, 1, 5, 255};
	static const uint8_t cut[] = {53, 1, 2, 54, 200, 1};
	struct doctor_server server;
	uint8_t p[600];
	size_t bytes = offer(p, 0x0a000032, router, sizeof(router));

	(void)state;
	assert_true(doctor_read_offer(p, bytes, XID, &server));
	assert_true(server.gives_address);
	assert_false(server.is_pxe);
	assert_string_equal(server.address, "10.0.0.9");
	assert_false(doctor_read_offer(p, bytes, XID + 1, &server));
	for (size_t i = 0; i < 268; i++)
		assert_false(doctor_read_offer(p, i, XID, &server));
	p[9] = 6;
	assert_false(doctor_read_offer(p, bytes, XID, &server));
	bytes = offer(p, 0, proxy, sizeof(proxy));
	assert_true(doctor_read_offer(p, bytes, XID, &server));
	assert_false(server.gives_address);
	assert_true(server.is_pxe);
	assert_string_equal(server.address, "10.0.0.1"); /* it says nothing else */
	bytes = offer(p, 1, ack, sizeof(ack));
	assert_false(doctor_read_offer(p, bytes, XID, &server));
	bytes = offer(p, 1, cut, sizeof(cut));
	assert_true(doctor_read_offer(p, bytes, XID, &server));
	assert_string_equal(server.address, "10.0.0.1");
	p[0] = 0x4f; /* a longer IP head than there are bytes */
	assert_false(doctor_read_offer(p, 60, XID, &server));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_wrong),
		cmocka_unit_test(one_thing_is_wrong),
		cmocka_unit_test(our_own_answers_are_no_rival),
		cmocka_unit_test(interfaces_that_are_asked),
		cmocka_unit_test(offers_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
