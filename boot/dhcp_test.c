/*
 * The engine as a proxy: who is answered, with which bytes, when; and what is told of others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dhcp_test_world.h"
#include "fingerprint.h"

static struct world *w;

static int set_up(void **state)
{
	(void)state;
	w = world_new(&(struct dhcp_config){0});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static struct speech router_gives(const struct speech *to, enum dhcp_message type,
				  const char *address)
{
	return (struct speech){.op = 2,
			       .type = type,
			       .xid = to->xid,
			       .mac = to->mac,
			       .yiaddr = address,
			       .server = "192.168.1.1"};
}

/* --- bytes --- */

#define MENU                                                                                     \
	43, 35, 6, 1, 3, 10, 4, 0, 'P', 'X', 'E', 9, 23, 0, 0, 20, 'R', 'a', 's', 'p', 'b', 'e', \
		'r', 'r', 'y', ' ', 'P', 'i', ' ', 'B', 'o', 'o', 't', ' ', ' ', ' ', 255

static void offer_to_a_rom(void **state)
{
	/* What dnsmasq's proxy sends, in its order, with the padded text. */
	static const uint8_t options[] = {
		53,   1,    2,    54,   4,    192,  168,  1,    10,   60,   9,    'P',  'X',  'E',
		'C',  'l',  'i',  'e',  'n',  't',  97,   17,   0,    0x44, 0x44, 0x44, 0x44, 0x44,
		0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, MENU, 255,
	};
	struct dhcp_head head;

	(void)state;
	world_say(w, &rom_3b);
	world_pass(w, 5000);
	assert_int_equal(w->sent_count, 1);
	memcpy(&head, w->sent[0].data, sizeof(head));
	assert_int_equal(head.op, 2);
	assert_int_equal(be32_get(head.xid), PI_ROM_XID);
	assert_int_equal(be16_get(head.flags), 0x8000);
	assert_int_equal(be32_get(head.yiaddr), 0);
	assert_int_equal(be32_get(head.siaddr), 0);
	assert_memory_equal(head.chaddr, mac_3b, 6);
	assert_memory_equal(w->sent[0].data + 240, options, sizeof(options));
	assert_true(w->sent[0].out.frame);
	assert_memory_equal(w->sent[0].out.to_mac, "\xff\xff\xff\xff\xff\xff", 6);
	assert_int_equal(w->sent[0].out.datagram.to.s_addr, 0xffffffff);
	assert_int_equal(w->sent[0].out.datagram.from.s_addr, address("192.168.1.10").s_addr);
	assert_int_equal(w->sent[0].out.datagram.from_port, 67);
	assert_int_equal(w->sent[0].out.datagram.to_port, 68);
	assert_int_equal(w->sent[0].out.ifindex, 2);
}

static void offer_to_an_eeprom(void **state)
{
	size_t bytes;

	(void)state;
	world_say(w, &eeprom_4);
	assert_int_equal(w->sent_count, 1); /* at once */
	assert_int_equal(w->sent[0].packet.type, DHCP_MSG_OFFER);
	assert_int_equal(be32_get(w->sent[0].packet.head.yiaddr), 0);
	assert_int_equal(be32_get(w->sent[0].packet.head.siaddr), 0xc0a8010a);
	assert_true(dhcp_begins(&w->sent[0].packet, DHCP_OPT_TFTP_SERVER, "192.168.1.10"));
	dhcp_get(&w->sent[0].packet, DHCP_OPT_TFTP_SERVER, &bytes);
	assert_int_equal(bytes, strlen("192.168.1.10")); /* no NUL */
	assert_memory_equal(dhcp_get(&w->sent[0].packet, DHCP_OPT_GUID, &bytes), guid_4, 17);
	assert_null(dhcp_get(&w->sent[0].packet, DHCP_OPT_LEASE, &bytes));
	assert_null(dhcp_get(&w->sent[0].packet, DHCP_OPT_MASK, &bytes));
}

/* --- when --- */

static void eeprom_gets_a_second_offer(void **state)
{
	struct speech request = eeprom_4;

	(void)state;
	world_say(w, &eeprom_4);
	world_pass(w, 3000);
	assert_int_equal(w->sent_count, 2);
	assert_int_equal(w->sent[1].at_ms - w->sent[0].at_ms, 250);
	assert_int_equal(world_events(w, DHCP_EVENT_OFFER, NULL), 1);
	assert_int_equal(w->nudge_count, 0);
	/* Not if it has gone on already, or fetches files. */
	world_say(w, &eeprom_5);
	request = eeprom_5;
	request.type = DHCP_MSG_REQUEST;
	request.class = NULL; /* the bootloader's REQUEST has none */
	request.requested = "192.168.1.77", request.server = "192.168.1.1";
	world_pass(w, 100);
	world_say(w, &request);
	world_pass(w, 3000);
	assert_int_equal(w->sent_count, 3);
	world_say(w, &eeprom_5);
	dhcp_begun(w->dhcp, mac_5, address("192.168.1.77"));
	world_pass(w, 3000);
	assert_int_equal(w->sent_count, 4);
}

static void rom_waits_and_varies(void **state)
{
	/* 1000 + 0x56 * 200 / 255 */
	static const unsigned delays[] = {1067, 2000, 1500, 1067, 2000};
	struct speech offer = router_gives(&rom_3b, DHCP_MSG_OFFER, "192.168.1.60");

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		uint64_t at = w->now_ms;

		world_say(w, &rom_3b);
		world_say(w, &offer);
		assert_int_equal(w->sent_count, i);
		world_pass(w, 5000);
		assert_int_equal(w->sent_count, i + 1);
		assert_int_equal(w->sent[i].at_ms - at, delays[i]);
		/* Two nudges, 25 and 50 ms after it. */
		assert_int_equal(w->nudge_count, 2 * (i + 1));
		assert_int_equal(w->nudge_ms[2 * i] - w->sent[i].at_ms, 25);
		assert_int_equal(w->nudge_ms[2 * i + 1] - w->sent[i].at_ms, 50);
	}
}

static void first_delay_is_one_to_one_and_a_fifth(void **state)
{
	uint8_t mac[6] = {0xb8, 0x27, 0xeb, 1, 2, 0};
	struct speech speech = rom_3b;

	(void)state;
	speech.mac = mac;
	for (unsigned i = 0; i < 256; i += 15) {
		uint64_t at = w->now_ms;
		unsigned sent = w->sent_count;

		mac[5] = (uint8_t)i;
		world_say(w, &speech);
		world_pass(w, 1200);
		assert_int_equal(w->sent_count, sent + 1);
		assert_true(w->sent[sent].at_ms >= at + 1000 && w->sent[sent].at_ms <= at + 1200);
	}
}

static void one_waiting_client_keeps_no_other_back(void **state)
{
	uint64_t at = w->now_ms;

	(void)state;
	world_say(w, &rom_3b);
	world_pass(w, 500);
	world_say(w, &rom_3b_plus);
	world_say(w, &eeprom_4);
	assert_int_equal(w->sent_count, 1);
	world_pass(w, 3000);
	assert_int_equal(w->sent_count, 4);
	assert_memory_equal(w->sent[2].packet.head.chaddr, mac_3b, 6);
	assert_int_equal(w->sent[2].at_ms, at + 1067);
	assert_memory_equal(w->sent[3].packet.head.chaddr, mac_3b_plus, 6);
	assert_int_equal(w->sent[3].at_ms, at + 500 + 1017);
}

/* bootcode.bin begins anew with the first delay, and keeps the model the ROM told. */
static void bootcode_after_the_rom(void **state)
{
	const struct dhcp_client *client;
	uint64_t at;

	(void)state;
	world_say(w, &rom_3b_plus);
	world_pass(w, 2000);
	dhcp_begun(w->dhcp, mac_3b_plus, address("192.168.1.50"));
	world_pass(w, 1000);
	at = w->now_ms;
	world_say(w, &bootcode_3b_plus);
	world_pass(w, 4000);
	assert_int_equal(w->sent_count, 2);
	assert_int_equal(w->sent[1].at_ms - at, 1017);
	client = dhcp_find_mac(w->dhcp, mac_3b_plus);
	assert_non_null(client);
	assert_int_equal(client->pi.model, PI_3B_PLUS);
	assert_true(client->pi.bootcode);
	assert_int_equal(client->discovers, 1);
	assert_int_equal(client->pi.serial, 0xb66c4c16);
}

static void wait_then_go(void **state)
{
	(void)state;
	w->verdict = DHCP_WAIT;
	world_say(w, &eeprom_4);
	world_say(w, &rom_3b);
	world_pass(w, 3000);
	assert_int_equal(w->sent_count, 0);
	w->verdict = DHCP_OFFER;
	dhcp_go(w->dhcp, mac_4); /* it still listens */
	assert_int_equal(w->sent_count, 1);
	dhcp_go(w->dhcp, mac_3b);
	assert_int_equal(w->sent_count, 2);
	world_pass(w, 2000);
	assert_int_equal(w->sent_count, 3); /* the EEPROM's repeat */
	dhcp_go(w->dhcp, mac_4);            /* again: it does not wait any more */
	dhcp_go(w->dhcp, mac_5);            /* never heard of */
	assert_int_equal(w->sent_count, 3);
}

static void go_keeps_the_roms_delay(void **state)
{
	uint64_t at = w->now_ms;

	(void)state;
	w->verdict = DHCP_WAIT;
	world_say(w, &rom_3b);
	world_pass(w, 400);
	w->verdict = DHCP_OFFER;
	dhcp_go(w->dhcp, mac_3b);
	assert_int_equal(w->sent_count, 0);
	world_pass(w, 3000);
	assert_int_equal(w->sent_count, 1);
	assert_int_equal(w->sent[0].at_ms - at, 1067);
}

static void go_too_late_waits_for_the_next(void **state)
{
	(void)state;
	w->verdict = DHCP_WAIT;
	world_say(w, &eeprom_4);
	world_pass(w, 3900);
	w->verdict = DHCP_OFFER;
	dhcp_go(w->dhcp, mac_4);
	world_pass(w, 100);
	assert_int_equal(w->sent_count, 0);
	world_say(w, &eeprom_4);
	assert_int_equal(w->sent_count, 1);
}

/* An owner that calls back from within callbacks makes nobody lose its offer. */
static void owner_that_meddles(void **state)
{
	uint8_t mac[6] = {0xb8, 0x27, 0xeb, 1, 2, 0};
	struct speech speech = rom_3b;

	(void)state;
	world_say(w, &eeprom_5);
	world_pass(w, 1000);
	w->sent_count = 0;
	speech.mac = mac;
	for (unsigned i = 0; i < 20; i++) { /* all are due at once */
		mac[4] = (uint8_t)i;
		world_say(w, &speech);
		if (i == 0) /* the next one, and moved when the first gets its offer */
			world_say(w, &eeprom_5);
	}
	w->meddles = true;
	world_pass(w, 4000);
	assert_int_equal(w->sent_count, 22); /* the Pi 5's two come first */
	for (unsigned i = 2; i < 22; i++)
		assert_int_equal(w->sent[i].at_ms, w->sent[2].at_ms);
}

/* --- who --- */

static void nobody_else_is_answered(void **state)
{
	struct speech speech = eeprom_4;

	(void)state;
	world_say(w, &pxe_pc);
	assert_int_equal(w->asked, 1);
	/* A Pi's operating system. */
	speech.class = NULL, speech.architecture = false, speech.guid = NULL, speech.list = NULL;
	for (unsigned type = DHCP_MSG_DISCOVER; type <= DHCP_MSG_INFORM; type++) {
		speech.type = type;
		world_say(w, &speech);
	}
	/* A board's other messages; and what the owner does not want. */
	speech = eeprom_4;
	for (unsigned type = DHCP_MSG_OFFER; type <= DHCP_MSG_INFORM; type++) {
		speech.type = type;
		world_say(w, &speech);
		world_say_on(w, 2, "192.168.1.20", "192.168.1.10", DHCP_PORT_PXE, &speech);
	}
	assert_int_equal(w->asked, 1);
	w->verdict = DHCP_IGNORE;
	world_say(w, &eeprom_4);
	world_say(w, &rom_3b);
	assert_int_equal(w->asked, 3);
	/* An interface that is not ours. */
	w->verdict = DHCP_OFFER;
	world_say_on(w, 3, "0.0.0.0", "255.255.255.255", DHCP_PORT_SERVER, &eeprom_4);
	world_pass(w, 60000);
	assert_int_equal(w->sent_count, 0);
	assert_int_equal(w->nudge_count, 0);
	assert_int_equal(w->neighbour_count, 0);
}

static uint32_t random_state = 12345;

static uint32_t random_below(uint32_t n)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % n;
}

/* Anything that lacks what makes a Pi, however it is put together. */
static void random_clients_are_never_answered(void **state)
{
	static const char *const classes[] = {"PXEClient",
					      "PXEClient:Arch:00000:UNDI:002001",
					      "PXEClient:Arch:00007:UNDI:003016",
					      "HTTPClient:Arch:00016",
					      "udhcp 1.35",
					      "MSFT 5.0",
					      NULL};
	static const char *const addresses[] = {"192.168.1.66", "192.168.1.10", "10.0.0.1", NULL};
	static const uint8_t *const macs[] = {mac_3b, mac_3b_plus, mac_4, mac_5, mac_pc};
	static const uint16_t ports[] = {DHCP_PORT_SERVER, DHCP_PORT_SERVER, DHCP_PORT_PXE,
					 DHCP_PORT_CLIENT};

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		struct speech s = {
			.op = (uint8_t)(random_below(8) ? 1 : 2),
			.type = random_below(3) ? DHCP_MSG_DISCOVER : 1 + random_below(8),
			.xid = random_below(5) ? random_below(1u << 31) : PI_ROM_XID,
			.flags = random_below(2) ? 0x8000 : 0,
			.mac = macs[random_below(ARRAY_COUNT(macs))],
			.class = classes[random_below(ARRAY_COUNT(classes))],
			.architecture = random_below(4),
			.architecture_is = (uint16_t)(random_below(3) ? 0 : random_below(20)),
			.guid = random_below(3) ? guid_pc : NULL,
			.requested = addresses[random_below(ARRAY_COUNT(addresses))],
			.server = addresses[random_below(ARRAY_COUNT(addresses))],
			.ciaddr = addresses[random_below(ARRAY_COUNT(addresses))],
			.yiaddr = addresses[random_below(ARRAY_COUNT(addresses))],
			.giaddr = random_below(5) ? NULL : "10.0.0.1",
		};

		/* A Pi's list only with another transaction than its ROM's. */
		if (s.xid != PI_ROM_XID && random_below(2)) {
			s.list = loader_list;
			s.list_bytes = sizeof(loader_list);
		}
		world_say_on(w, 2, random_below(2) ? "0.0.0.0" : "192.168.1.66",
			     random_below(2) ? "192.168.1.10" : "255.255.255.255",
			     ports[random_below(ARRAY_COUNT(ports))], &s);
		world_pass(w, random_below(2000));
		assert_int_equal(w->sent_count, 0);
		assert_int_equal(w->nudge_count, 0);
		assert_int_equal(w->neighbour_count, 0);
		w->event_count = 0;
	}
	assert_true(w->asked > 1000);
}

/* Flipped bytes in true Pis' messages: an answer means that it still was one. */
static void damaged_messages(void **state)
{
	static const struct speech *const boards[] = {&rom_3b,   &rom_3b_plus, &bootcode_3b_plus,
						      &eeprom_4, &eeprom_5,    &pxe_pc};
	unsigned answered = 0;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t data[LIMIT_DHCP_PACKET_BYTES];
		size_t bytes = speech_write(boards[random_below(ARRAY_COUNT(boards))], data);
		struct dhcp_datagram datagram = {
			address("0.0.0.0"), address("255.255.255.255"), 68, 67, data, bytes};
		struct dhcp_packet packet;

		for (unsigned n = random_below(6); n > 0; n--)
			data[random_below(3) ? 240 + random_below((uint32_t)bytes - 240)
					     : random_below((uint32_t)bytes)] =
				(uint8_t)random_below(256);
		w->sent_count = 0;
		dhcp_input(w->dhcp, 2, &datagram);
		world_pass(w, 10000);
		w->event_count = 0;
		if (!w->sent_count)
			continue;
		answered++;
		assert_int_equal(dhcp_parse(data, bytes, &packet), 0);
		/* The second may be a probe, for a board that asks and asks. */
		if (w->sent[0].packet.type == DHCP_MSG_OFFER)
			assert_int_not_equal(pi_identify(&packet).model, PI_NONE);
	}
	assert_true(answered > 5000);
}

static void registered_pc(void **state)
{
	struct speech speech = pxe_pc, request = pxe_pc;
	size_t bytes;

	(void)state;
	w->verdict_other = DHCP_OFFER;
	world_say(w, &speech);
	assert_int_equal(w->sent_count, 0); /* no boot file: told instead */
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "no boot file"), 1);
	strcpy(w->boot_file, "ipxe.efi");
	world_say(w, &speech);
	assert_int_equal(w->sent_count, 1);
	assert_string_equal((char *)w->sent[0].data + 108, "ipxe.efi");
	assert_true(dhcp_begins(&w->sent[0].packet, DHCP_OPT_BOOT_FILE, "ipxe.efi"));
	assert_true(dhcp_begins(&w->sent[0].packet, DHCP_OPT_CLASS, "PXEClient"));
	assert_int_equal(be32_get(w->sent[0].packet.head.siaddr), 0xc0a8010a);
	assert_null(dhcp_get(&w->sent[0].packet, DHCP_OPT_VENDOR, &bytes)); /* UEFI */
	/* Port 4011: the same as an ACK, to where it asks from. */
	request.type = DHCP_MSG_REQUEST;
	request.ciaddr = "192.168.1.66";
	world_say_on(w, 2, "192.168.1.66", "192.168.1.10", DHCP_PORT_PXE, &request);
	assert_int_equal(w->sent_count, 2);
	assert_int_equal(w->sent[1].packet.type, DHCP_MSG_ACK);
	assert_false(w->sent[1].out.frame);
	assert_int_equal(w->sent[1].out.datagram.from_port, DHCP_PORT_PXE);
	assert_int_equal(w->sent[1].out.datagram.to.s_addr, address("192.168.1.66").s_addr);
	assert_int_equal(w->sent[1].out.datagram.to_port, 68);
	assert_string_equal((char *)w->sent[1].data + 108, "ipxe.efi");
	/* Not when another server is asked, nor for a stranger. */
	world_say_on(w, 2, "192.168.1.66", "192.168.1.9", DHCP_PORT_PXE, &request);
	request.mac = mac_4;
	world_say_on(w, 2, "192.168.1.66", "192.168.1.10", DHCP_PORT_PXE, &request);
	w->verdict_other = DHCP_IGNORE;
	request.mac = mac_pc;
	world_say_on(w, 2, "192.168.1.66", "192.168.1.10", DHCP_PORT_PXE, &request);
	world_pass(w, 5000);
	assert_int_equal(w->sent_count, 2);
}

/* Any program on it can ask at port 4011; a boot begins with a DISCOVER. */
static void pc_that_has_booted(void **state)
{
	struct speech request = pxe_pc;

	(void)state;
	w->verdict_other = DHCP_OFFER;
	strcpy(w->boot_file, "ipxe.efi");
	request.type = DHCP_MSG_REQUEST;
	request.ciaddr = "192.168.1.66";
	world_say(w, &pxe_pc);
	dhcp_begun(w->dhcp, mac_pc, address("192.168.1.66"));
	assert_int_equal(w->asked, 1);
	world_pass(w, 20000);
	world_say_on(w, 2, "192.168.1.66", "192.168.1.10", DHCP_PORT_PXE, &request);
	assert_int_equal(w->asked, 1);
	assert_int_equal(w->sent_count, 1);
	world_say(w, &pxe_pc);
	world_say_on(w, 2, "192.168.1.66", "192.168.1.10", DHCP_PORT_PXE, &request);
	assert_int_equal(w->asked, 3);
	assert_int_equal(w->sent_count, 3);
}

static void uefi_gets_a_url_by_http(void **state)
{
	struct speech speech = pxe_pc;
	size_t bytes;

	(void)state;
	w->verdict_other = DHCP_OFFER;
	strcpy(w->boot_file, "http://192.168.1.10:8069/EFI/BOOT/BOOTAA64.EFI");
	speech.class = "HTTPClient:Arch:00019:UNDI:003000";
	speech.architecture_is = 19;
	world_say(w, &speech);
	assert_int_equal(w->sent_count, 1);
	assert_true(dhcp_begins(&w->sent[0].packet, DHCP_OPT_CLASS, "HTTPClient"));
	assert_true(dhcp_begins(&w->sent[0].packet, DHCP_OPT_BOOT_FILE,
				"http://192.168.1.10:8069/EFI/BOOT/BOOTAA64.EFI"));
	assert_null(dhcp_get(&w->sent[0].packet, DHCP_OPT_TFTP_SERVER, &bytes));
	w->verdict_other = DHCP_IGNORE;
	world_say(w, &speech);
	assert_int_equal(w->sent_count, 1);
}

static void bios_pc_is_told_to_use_the_file(void **state)
{
	struct speech speech = pxe_pc;
	size_t bytes;

	(void)state;
	w->verdict_other = DHCP_OFFER;
	strcpy(w->boot_file, "undionly.kpxe");
	speech.class = "PXEClient:Arch:00000:UNDI:002001";
	speech.architecture_is = 0;
	world_say(w, &speech);
	assert_int_equal(w->sent_count, 1);
	assert_memory_equal(dhcp_get(&w->sent[0].packet, DHCP_OPT_VENDOR, &bytes), "\6\1\10\377",
			    4);
	/* iPXE, started by that, wants none. */
	speech.user_class = "iPXE";
	world_say(w, &speech);
	assert_null(dhcp_get(&w->sent[1].packet, DHCP_OPT_VENDOR, &bytes));
}

static void longest_boot_file_fits(void **state)
{
	size_t bytes;

	(void)state;
	w->verdict_other = DHCP_OFFER;
	memset(w->boot_file, 'f', LIMIT_DHCP_BOOT_FILE_BYTES);
	world_say(w, &pxe_pc);
	assert_int_equal(w->sent_count, 1);
	assert_non_null(dhcp_get(&w->sent[0].packet, DHCP_OPT_BOOT_FILE, &bytes));
	assert_int_equal(bytes, LIMIT_DHCP_BOOT_FILE_BYTES);
	assert_int_equal(strlen((char *)w->sent[0].data + 108), LIMIT_DHCP_BOOT_FILE_BYTES);
}

/* The same DISCOVER through two interfaces of one network is answered once. */
static void two_interfaces_of_one_network(void **state)
{
	static const char *const addresses[] = {"192.168.1.11"};

	(void)state;
	world_iface(w, 3, "eth1", addresses, 1);
	world_say(w, &eeprom_4);
	world_say_on(w, 3, "0.0.0.0", "255.255.255.255", DHCP_PORT_SERVER, &eeprom_4);
	assert_int_equal(w->sent_count, 1);
	assert_int_equal(w->sent[0].out.ifindex, 2);
	/* By the other one only, later. */
	world_pass(w, 4000);
	w->sent_count = 0;
	world_say_on(w, 3, "0.0.0.0", "255.255.255.255", DHCP_PORT_SERVER, &eeprom_4);
	assert_int_equal(w->sent_count, 1);
	assert_int_equal(w->sent[0].out.ifindex, 3);
	assert_int_equal(w->sent[0].out.datagram.from.s_addr, address("192.168.1.11").s_addr);
}

/* Of several addresses, the one in the network whose DHCP server gives the client's. */
static void the_address_of_the_routers_network(void **state)
{
	static const char *const addresses[] = {"10.1.1.1", "192.168.1.10"};
	struct speech offer = router_gives(&rom_3b, DHCP_MSG_OFFER, "192.168.1.60");

	(void)state;
	world_iface(w, 2, "eth0", addresses, 2);
	world_pass(w, 5000); /* a router is asked for, and none answers */
	assert_int_equal(w->sent[0].packet.type, DHCP_MSG_DISCOVER);
	w->sent_count = 0;
	world_say(w, &eeprom_4);
	assert_int_equal(w->sent[0].out.datagram.from.s_addr, address("10.1.1.1").s_addr);
	world_pass(w, 1000);
	w->sent_count = 0;
	world_say(w, &rom_3b);
	world_say(w, &offer);
	world_pass(w, 3000);
	assert_int_equal(w->sent_count, 1);
	assert_int_equal(w->sent[0].out.datagram.from.s_addr, address("192.168.1.10").s_addr);
	/* And from then on for others too. */
	world_say(w, &eeprom_5);
	assert_int_equal(w->sent[1].out.datagram.from.s_addr, address("192.168.1.10").s_addr);
}

static void interface_without_address(void **state)
{
	(void)state;
	world_iface(w, 2, "eth0", NULL, 0);
	world_say(w, &eeprom_4);
	assert_int_equal(w->sent_count, 0);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "has no IPv4 address"), 1);
	dhcp_iface_gone(w->dhcp, 2);
	world_say(w, &rom_3b);
	world_pass(w, 5000);
	assert_int_equal(w->sent_count, 0);
}

static void interface_goes_while_an_offer_waits(void **state)
{
	(void)state;
	world_say(w, &rom_3b);
	dhcp_iface_gone(w->dhcp, 2);
	world_pass(w, 10000);
	assert_int_equal(w->sent_count, 0);
}

static void many_clients(void **state)
{
	uint8_t mac[6] = {0x02, 0x10, 0, 0, 0, 0};
	struct speech speech = eeprom_4;
	unsigned asked;

	(void)state;
	speech.mac = mac;
	w->verdict = DHCP_IGNORE;
	for (unsigned i = 0; i < LIMIT_DHCP_CLIENTS + 100; i++) {
		put_be16(mac + 4, (uint16_t)i);
		world_say(w, &speech);
		w->event_count = 0;
		if (i == 10) { /* one of ours among them stays */
			w->verdict = DHCP_WAIT;
			world_say(w, &eeprom_5);
			w->verdict = DHCP_IGNORE;
		}
	}
	assert_null(dhcp_find_mac(w->dhcp, (const uint8_t[]){0x02, 0x10, 0, 0, 0, 0}));
	assert_non_null(dhcp_find_mac(w->dhcp, mac));
	assert_non_null(dhcp_find_mac(w->dhcp, mac_5));
	asked = w->asked;
	world_say(w, &rom_3b);
	assert_int_equal(w->asked, asked + 1);
}

/* --- what is seen and told --- */

static void address_is_learnt(void **state)
{
	struct speech offer = router_gives(&eeprom_4, DHCP_MSG_OFFER, "192.168.1.66");
	struct speech request = eeprom_5;

	(void)state;
	world_say(w, &eeprom_4);
	world_say(w, &offer);
	world_say(w, &offer);
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 1);
	assert_int_equal(w->events[w->event_count - 1].client.address.s_addr,
			 address("192.168.1.66").s_addr);
	assert_int_equal(w->events[w->event_count - 1].client.server.s_addr,
			 address("192.168.1.1").s_addr);
	assert_ptr_equal(dhcp_find_address(w->dhcp, address("192.168.1.66")),
			 dhcp_find_mac(w->dhcp, mac_4));
	assert_null(dhcp_find_address(w->dhcp, address("192.168.1.67")));
	assert_null(dhcp_find_address(w->dhcp, address("0.0.0.0")));
	/* From the client's own REQUEST, when the router's answer was not seen. */
	world_say(w, &eeprom_5);
	request.type = DHCP_MSG_REQUEST, request.class = NULL;
	request.requested = "192.168.1.67", request.server = "192.168.1.1";
	world_say(w, &request);
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 2);
	assert_non_null(dhcp_find_address(w->dhcp, address("192.168.1.67")));
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, NULL), 0);
	assert_int_equal(w->neighbour_count, 0); /* an EEPROM answers ARP */
}

static void neighbour_of_a_rom(void **state)
{
	struct speech offer = router_gives(&rom_3b, DHCP_MSG_OFFER, "192.168.1.66");
	struct speech linux_asks = {.type = DHCP_MSG_DISCOVER, .mac = mac_3b, .xid = 7};

	(void)state;
	world_say(w, &rom_3b);
	world_say(w, &offer);
	assert_int_equal(w->neighbour_count, 1);
	assert_int_equal(w->neighbour.s_addr, address("192.168.1.66").s_addr);
	world_pass(w, 30500);
	assert_int_equal(w->neighbour_count, 4); /* refreshed each 10 s */
	world_pass(w, 200000);
	assert_int_equal(w->neighbour_count, 12); /* for two minutes */
	dhcp_begun(w->dhcp, mac_3b, address("192.168.1.66"));
	assert_int_equal(w->neighbour_count, 13);
	world_say(w, &linux_asks); /* its kernel answers ARP itself */
	world_pass(w, 60000);
	assert_int_equal(w->neighbour_count, 13);
}

/* Somebody who plays router must not make the kernel send the router's or our packets elsewhere. */
static void neighbour_that_must_not_be(void **state)
{
	static const char *const bad[] = {"192.168.1.1", "192.168.1.10", "192.168.1.0",
					  "192.168.1.255", "10.0.0.5"};

	(void)state;
	for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
		struct speech offer = router_gives(&rom_3b, DHCP_MSG_OFFER, bad[i]);

		world_say(w, &rom_3b);
		world_say(w, &offer);
		world_pass(w, 15000);
		assert_int_equal(w->neighbour_count, 0);
	}
}

/* A program on some machine, with a board's MAC and somebody's address in its message. */
static void neighbour_that_a_program_names(void **state)
{
	struct speech request = {.type = DHCP_MSG_REQUEST,
				 .xid = 7,
				 .mac = mac_3b,
				 .requested = "192.168.1.77",
				 .server = "192.168.1.1"};

	(void)state;
	world_say(w, &rom_3b);
	world_say_on(w, 2, "192.168.1.66", "255.255.255.255", DHCP_PORT_SERVER, &request);
	request.ciaddr = "192.168.1.66";
	world_say_on(w, 2, "192.168.1.66", "192.168.1.10", DHCP_PORT_SERVER, &request);
	assert_int_equal(w->neighbour_count, 0);
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 0);
	/* The board itself. */
	request.ciaddr = NULL;
	world_say(w, &request);
	assert_int_equal(w->neighbour_count, 1);
	assert_int_equal(w->neighbour.s_addr, address("192.168.1.77").s_addr);
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 1);
}

static void troubles(void **state)
{
	static const uint8_t menu[] = "\6\1\3\12\4\0PXE\11\24\0\0\21Raspberry Pi Boot\377";
	struct speech foreign = {.op = 2,
				 .type = DHCP_MSG_OFFER,
				 .xid = eeprom_4.xid,
				 .mac = mac_4,
				 .class = "PXEClient",
				 .server = "192.168.1.9"};
	struct speech tftp = router_gives(&eeprom_4, DHCP_MSG_OFFER, "192.168.1.66");
	struct speech twin = router_gives(&eeprom_5, DHCP_MSG_ACK, "192.168.1.66");
	struct speech outside = router_gives(&eeprom_5, DHCP_MSG_ACK, "10.9.9.9");

	(void)state;
	/* To a board that is none of ours: nothing. */
	world_say(w, &foreign);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, NULL), 0);
	world_say(w, &eeprom_4);
	world_say(w, &foreign);
	world_say(w, &foreign);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "another boot server at 192.168.1.9"),
			 1);
	foreign.server = "192.168.1.8", foreign.class = NULL;
	foreign.vendor = menu, foreign.vendor_bytes = sizeof(menu) - 1;
	world_say(w, &foreign);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "another boot server at 192.168.1.8"),
			 1);
	world_pass(w, 3599000);
	world_say(w, &foreign);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "another boot server at 192.168.1.8"),
			 1);
	world_pass(w, 2000);
	world_say(w, &foreign);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "another boot server at 192.168.1.8"),
			 2);

	tftp.tftp_server = "192.168.1.5";
	world_say(w, &eeprom_4);
	world_say(w, &tftp);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "remove option 66"), 1);
	tftp.tftp_server = "192.168.1.10"; /* names us: well done */
	tftp.server = "192.168.1.2";
	world_say(w, &tftp);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "remove option 66"), 1);

	world_say(w, &eeprom_5);
	world_say(w, &twin);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE,
				      "two boards were given the address 192.168.1.66"),
			 1);
	world_say(w, &outside);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "is not of the network of eth0"), 1);
}

/* Packet sockets hear what routers bring, too: a forged DISCOVER from elsewhere begins no boot, and
 * an address elsewhere is none of a board here. */
static void those_elsewhere_are_not_heard(void **state)
{
	struct speech request = eeprom_4;

	(void)state;
	world_say_on(w, 2, "10.9.9.9", "192.168.1.10", DHCP_PORT_SERVER, &eeprom_4);
	assert_int_equal(world_events(w, DHCP_EVENT_DISCOVER, NULL), 0);
	assert_int_equal(w->sent_count, 0);
	world_say(w, &eeprom_4);
	assert_int_equal(world_events(w, DHCP_EVENT_DISCOVER, NULL), 1);
	request.type = DHCP_MSG_REQUEST;
	request.requested = "10.9.9.9";
	world_say(w, &request);
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 0);
	request.requested = "192.168.1.67";
	world_say(w, &request);
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 1);
}

/* Our own answers, and those of another server on this machine, are none of another's. */
static void own_answers_are_no_trouble(void **state)
{
	struct speech own = {.op = 2,
			     .type = DHCP_MSG_OFFER,
			     .xid = eeprom_4.xid,
			     .mac = mac_4,
			     .class = "PXEClient",
			     .server = "192.168.1.10"};

	(void)state;
	world_say(w, &eeprom_4);
	world_say_on(w, 2, "192.168.1.10", "255.255.255.255", DHCP_PORT_CLIENT, &own);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, NULL), 0);
}

static unsigned probes_sent(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < w->sent_count; i++)
		count += w->sent[i].packet.type == DHCP_MSG_DISCOVER;
	return count;
}

static void no_dhcp_server(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		world_say(w, &eeprom_4);
		world_pass(w, 4000);
		assert_int_equal(probes_sent(), i < 2 ? 0 : 2);
	}
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "no DHCP server answers on eth0"), 1);
}

static void dhcp_server_that_answers_the_board_alone(void **state)
{
	struct speech answer = {
		.op = 2, .type = DHCP_MSG_OFFER, .yiaddr = "192.168.1.99", .server = "192.168.1.1"};
	uint8_t mac[6];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		world_say(w, &eeprom_4);
		world_pass(w, i < 2 ? 4000 : 10);
	}
	assert_int_equal(probes_sent(), 1);
	assert_int_equal(w->sent[w->sent_count - 1].out.datagram.to_port, 67);
	assert_int_equal(be16_get(w->sent[w->sent_count - 1].packet.head.flags), 0x8000);
	memcpy(mac, w->sent[w->sent_count - 1].packet.head.chaddr, 6);
	answer.mac = mac;
	answer.xid = be32_get(w->sent[w->sent_count - 1].packet.head.xid);
	world_say(w, &answer);
	world_pass(w, 20000);
	assert_int_equal(probes_sent(), 1);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "no DHCP server"), 0);
}

static void board_in_a_loop(void **state)
{
	struct speech offer = router_gives(&eeprom_4, DHCP_MSG_OFFER, "192.168.1.66");

	(void)state;
	for (unsigned i = 0; i < 10; i++) {
		world_say(w, &eeprom_4);
		world_say(w, &offer);
		world_pass(w, 4000);
	}
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "still asks after"), 1);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, NULL), 1);
}

static void rom_gives_up(void **state)
{
	(void)state;
	w->verdict = DHCP_WAIT;
	for (unsigned i = 0; i < 5; i++) {
		world_say(w, &rom_3b);
		world_pass(w, 5000);
	}
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "has given up"), 0);
	world_pass(w, 1000);
	assert_int_equal(
		world_events(w, DHCP_EVENT_TROUBLE, "could not begin in time, and has given up"),
		1);
}

static void rom_that_boots_gives_not_up(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		world_say(w, &rom_3b);
		world_pass(w, 5000);
	}
	dhcp_begun(w->dhcp, mac_3b, address("192.168.1.66"));
	world_pass(w, 60000);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "given up"), 0);
}

static void spanning_tree(void **state)
{
	/* A config BPDU: priority 32768, hello 2 s, max age 20 s, forward delay 15 s. */
	uint8_t bpdu[] = {0x42, 0x42, 3, 0, 0, 0, 0, 0, 0x80, 0,    2, 0, 0, 0,  0, 9, 0, 0,  0,
			  0,    0x80, 0, 2, 0, 0, 0, 0, 9,    0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0};

	(void)state;
	dhcp_input_bpdu(w->dhcp, 2, bpdu, sizeof(bpdu) - 1);
	dhcp_input_bpdu(w->dhcp, 3, bpdu, sizeof(bpdu));
	bpdu[0] = 0;
	dhcp_input_bpdu(w->dhcp, 2, bpdu, sizeof(bpdu));
	assert_int_equal(w->event_count, 0);
	bpdu[0] = 0x42;
	dhcp_input_bpdu(w->dhcp, 2, bpdu, sizeof(bpdu));
	dhcp_input_bpdu(w->dhcp, 2, bpdu, sizeof(bpdu));
	assert_int_equal(w->event_count, 1);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "stay deaf for 30 s"), 1);
	/* A ROM that is heard late has lost its time to it. */
	world_say(w, &rom_3b);
	world_pass(w, 7000);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "to edge (portfast)"), 2);
}

/* Any program can send a message with a relay's address in it. */
static void relayed(void **state)
{
	struct speech speech = eeprom_4;

	(void)state;
	speech.giaddr = "10.0.0.1";
	world_say_on(w, 2, "10.0.0.1", "192.168.1.10", DHCP_PORT_SERVER, &speech);
	world_say(w, &speech);
	speech = rom_3b;
	speech.giaddr = "10.0.0.1";
	world_say(w, &speech);
	world_pass(w, 3000);
	assert_int_equal(w->asked, 0);
	assert_int_equal(w->sent_count, 0);
	assert_null(dhcp_find_mac(w->dhcp, mac_4));
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "boards behind a relay can't be"), 1);
	assert_int_equal(w->event_count, 1); /* said once */
	/* Nor does it disturb a board that is known. */
	world_say(w, &rom_3b);
	speech.type = DHCP_MSG_REQUEST;
	speech.requested = "192.168.1.66";
	world_say(w, &speech);
	assert_int_equal(w->neighbour_count, 0);
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(offer_to_a_rom),
		TEST(offer_to_an_eeprom),
		TEST(eeprom_gets_a_second_offer),
		TEST(rom_waits_and_varies),
		TEST(first_delay_is_one_to_one_and_a_fifth),
		TEST(one_waiting_client_keeps_no_other_back),
		TEST(bootcode_after_the_rom),
		TEST(wait_then_go),
		TEST(go_keeps_the_roms_delay),
		TEST(go_too_late_waits_for_the_next),
		TEST(owner_that_meddles),
		TEST(nobody_else_is_answered),
		TEST(random_clients_are_never_answered),
		TEST(damaged_messages),
		TEST(registered_pc),
		TEST(pc_that_has_booted),
		TEST(uefi_gets_a_url_by_http),
		TEST(bios_pc_is_told_to_use_the_file),
		TEST(longest_boot_file_fits),
		TEST(two_interfaces_of_one_network),
		TEST(the_address_of_the_routers_network),
		TEST(interface_without_address),
		TEST(interface_goes_while_an_offer_waits),
		TEST(many_clients),
		TEST(address_is_learnt),
		TEST(neighbour_of_a_rom),
		TEST(neighbour_that_must_not_be),
		TEST(neighbour_that_a_program_names),
		TEST(troubles),
		TEST(those_elsewhere_are_not_heard),
		TEST(own_answers_are_no_trouble),
		TEST(no_dhcp_server),
		TEST(dhcp_server_that_answers_the_board_alone),
		TEST(board_in_a_loop),
		TEST(rom_gives_up),
		TEST(rom_that_boots_gives_not_up),
		TEST(spanning_tree),
		TEST(relayed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
