/*
 * The known mode: which address a client gets in every state of RFC 2131, that leases are kept
 * before an ACK goes out, and that it keeps quiet beside another server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dhcp_test_world.h"

static struct world *w;

static struct dhcp_config config(const char *first, const char *last)
{
	struct dhcp_config c = {.known = true,
				.addresses = {.pool_first = address(first),
					      .pool_last = address(last),
					      .lease_s = 600},
				.router = address("192.168.1.1"),
				.dns = {address("192.168.1.1"), address("9.9.9.9")},
				.dns_count = 2,
				.domain = "cluster.test"};

	return c;
}

static void start(const char *first, const char *last)
{
	struct dhcp_config c = config(first, last);

	w = world_new(&c);
	world_pass(w, 4000); /* nobody else answers */
	w->sent_count = 0;
}

static int set_up(void **state)
{
	(void)state;
	start("192.168.1.100", "192.168.1.103");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	world_free(w);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static const uint8_t *mac(unsigned i)
{
	static uint8_t macs[256][6];

	macs[i][0] = 0x52;
	macs[i][5] = (uint8_t)i;
	return macs[i];
}

static struct speech says(enum dhcp_message type, unsigned who)
{
	return (struct speech){.type = type, .mac = mac(who), .xid = 100 + who};
}

/* The newest answer's type (0: none came) and its address. */
static enum dhcp_message say(const struct speech *speech, struct in_addr *ret_address)
{
	unsigned before = w->sent_count;
	const struct sent *sent;

	world_say(w, speech);
	if (w->sent_count == before)
		return 0;
	assert_int_equal(w->sent_count, before + 1);
	sent = &w->sent[before % SENT_MAX];
	if (ret_address)
		*ret_address = dhcp_address(sent->packet.head.yiaddr);
	return sent->packet.type;
}

static const struct sent *newest(void)
{
	assert_true(w->sent_count > 0);
	return &w->sent[(w->sent_count - 1) % SENT_MAX];
}

static struct in_addr discover(unsigned who)
{
	struct speech s = says(DHCP_MSG_DISCOVER, who);
	struct in_addr a = {0};

	return say(&s, &a) == DHCP_MSG_OFFER ? a : (struct in_addr){0};
}

static const char *text(struct in_addr a)
{
	static char texts[8][16];
	static unsigned next;
	char *t = texts[next++ % 8];
	uint32_t v = ntohl(a.s_addr);

	snprintf(t, 16, "%u.%u.%u.%u", v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255);
	return t;
}

static enum dhcp_message request(unsigned who, const char *wanted)
{
	struct speech s = says(DHCP_MSG_REQUEST, who);

	s.requested = wanted;
	s.server = "192.168.1.10";
	return say(&s, NULL);
}

static void get(unsigned who, const char **ret_address)
{
	const char *a = text(discover(who));

	assert_string_not_equal(a, "0.0.0.0");
	assert_int_equal(request(who, a), DHCP_MSG_ACK);
	*ret_address = a;
}

static void offer_and_ack(void **state)
{
	struct speech s = says(DHCP_MSG_DISCOVER, 1);
	const struct dhcp_packet *packet;
	struct in_addr a;
	size_t bytes;

	(void)state;
	s.hostname = "visitor";
	assert_int_equal(say(&s, &a), DHCP_MSG_OFFER);
	assert_string_equal(text(a), "192.168.1.100");
	assert_int_equal(w->stored_count, 0);
	assert_true(newest()->out.frame); /* no address yet: to its MAC */
	assert_memory_equal(newest()->out.to_mac, mac(1), 6);
	assert_int_equal(newest()->out.datagram.to.s_addr, a.s_addr);
	s.type = DHCP_MSG_REQUEST, s.requested = "192.168.1.100", s.server = "192.168.1.10";
	assert_int_equal(say(&s, &a), DHCP_MSG_ACK);
	packet = &newest()->packet;
	assert_int_equal(dhcp_get_address(packet, DHCP_OPT_MASK).s_addr, htonl(0xffffff00));
	assert_int_equal(dhcp_get_address(packet, DHCP_OPT_ROUTER).s_addr,
			 address("192.168.1.1").s_addr);
	assert_int_equal(dhcp_get_address(packet, DHCP_OPT_SERVER).s_addr,
			 address("192.168.1.10").s_addr);
	assert_int_equal(dhcp_get_address(packet, DHCP_OPT_BROADCAST).s_addr,
			 address("192.168.1.255").s_addr);
	assert_int_equal(dhcp_get_address(packet, DHCP_OPT_LEASE).s_addr, htonl(600));
	assert_int_equal(dhcp_get_address(packet, DHCP_OPT_T1).s_addr, htonl(300));
	assert_int_equal(dhcp_get_address(packet, DHCP_OPT_T2).s_addr, htonl(525));
	dhcp_get(packet, DHCP_OPT_DNS, &bytes);
	assert_int_equal(bytes, 8);
	assert_true(dhcp_begins(packet, DHCP_OPT_DOMAIN, "cluster.test"));
	assert_null(dhcp_get(packet, DHCP_OPT_CLASS, &bytes));
	assert_null(dhcp_get(packet, DHCP_OPT_HOSTNAME, &bytes));
	assert_int_equal(w->stored_count, 1);
	assert_string_equal(w->stored[0].hostname, "visitor");
	assert_int_equal(w->stored[0].until_s, w->unix_s + (int64_t)(w->now_ms / 1000) + 600);
}

static void broadcast_flag(void **state)
{
	struct speech s = says(DHCP_MSG_DISCOVER, 1);

	(void)state;
	s.flags = DHCP_FLAG_BROADCAST;
	assert_int_equal(say(&s, NULL), DHCP_MSG_OFFER);
	assert_memory_equal(newest()->out.to_mac, "\xff\xff\xff\xff\xff\xff", 6);
	assert_int_equal(newest()->out.datagram.to.s_addr, 0xffffffff);
}

static void same_address_again(void **state)
{
	const char *first, *again;

	(void)state;
	get(1, &first);
	assert_string_equal(text(discover(1)), first);
	world_pass(w, 700000); /* expired, and others have come */
	get(2, &again);
	assert_string_not_equal(again, first);
	assert_string_equal(text(discover(1)), first);
}

static void asked_for_address(void **state)
{
	struct speech s = says(DHCP_MSG_DISCOVER, 1);
	struct in_addr a;

	(void)state;
	s.requested = "192.168.1.102";
	assert_int_equal(say(&s, &a), DHCP_MSG_OFFER);
	assert_string_equal(text(a), "192.168.1.102");
	s = says(DHCP_MSG_DISCOVER, 2);
	s.requested = "192.168.1.102"; /* taken */
	assert_int_equal(say(&s, &a), DHCP_MSG_OFFER);
	assert_string_not_equal(text(a), "192.168.1.102");
	s = says(DHCP_MSG_DISCOVER, 3);
	s.requested = "192.168.1.200"; /* not of the pool */
	assert_int_equal(say(&s, &a), DHCP_MSG_OFFER);
	assert_string_not_equal(text(a), "192.168.1.200");
}

static void pool_full_and_free_again(void **state)
{
	const char *a[5];

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		get(i, &a[i]);
	for (unsigned i = 0; i < 4; i++)
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(a[i], a[j]);
	assert_int_equal(discover(9).s_addr, 0);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "no address is left on eth0"), 1);
	world_pass(w, 300000);
	assert_int_equal(request(1, a[1]), DHCP_MSG_ACK);
	world_pass(w, 301000); /* all but 1 have expired, 0 first */
	assert_string_equal(text(discover(9)), a[0]);
	/* A reservation that nobody took up ends after a minute. */
	world_pass(w, 61000);
	assert_string_equal(text(discover(8)), a[2]);
}

static void addresses_that_are_never_given(void **state)
{
	const char *a;

	(void)state;
	world_free(w);
	start("192.168.1.0", "192.168.1.12"); /* the network's, the router's, ours among them */
	w->hosts[0].hostname = "pi-01";
	w->hosts[0].address = "192.168.1.2";
	for (unsigned i = 0; i < 9; i++) {
		get(i, &a);
		assert_string_not_equal(a, "192.168.1.0");
		assert_string_not_equal(a, "192.168.1.1");
		assert_string_not_equal(a, "192.168.1.2");
		assert_string_not_equal(a, "192.168.1.10");
	}
	assert_int_equal(discover(20).s_addr, 0); /* 3 to 9, 11 and 12: nine */
}

static void static_address(void **state)
{
	const char *a;

	(void)state;
	get(1, &a); /* 192.168.1.100, which then becomes pi-07's */
	memcpy(w->hosts[0].mac, mac(7), 6);
	w->hosts[0].hostname = "pi-07";
	w->hosts[0].address = "192.168.1.100";
	assert_string_equal(text(discover(7)), "192.168.1.100");
	assert_true(dhcp_begins(&newest()->packet, DHCP_OPT_HOSTNAME, "pi-07"));
	assert_int_equal(request(7, "192.168.1.101"), DHCP_MSG_NAK);
	assert_int_equal(request(7, "192.168.1.100"), DHCP_MSG_ACK);
	assert_int_equal(request(1, "192.168.1.100"), DHCP_MSG_NAK); /* whoever had it before */
	w->hosts[0].address = "192.168.2.100";
	assert_string_equal(text(discover(7)), "192.168.1.100"); /* from the pool, and told */
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "can't be given on eth0"), 1);
}

/* The owner takes an address for one MAC's only: those that had others are taken back first. */
static void board_replaced(void **state)
{
	struct speech reboot = says(DHCP_MSG_REQUEST, 3);
	const char *a;

	(void)state;
	memcpy(w->hosts[0].mac, mac(1), 6);
	w->hosts[0].hostname = "pi-07";
	w->hosts[0].address = "192.168.1.50";
	get(1, &a);
	memcpy(w->hosts[0].mac, mac(2), 6);
	get(2, &a);
	assert_string_equal(a, "192.168.1.50");
	assert_int_equal(w->forgotten_count, 1);
	/* A third one, which doesn't ask for an offer. */
	memcpy(w->hosts[0].mac, mac(3), 6);
	reboot.requested = "192.168.1.50";
	assert_int_equal(say(&reboot, NULL), DHCP_MSG_ACK);
	assert_int_equal(w->forgotten_count, 2);
}

/* A ROM never says REQUEST, and what it had from the pool is another's meanwhile. */
static void moved_from_the_pool(void **state)
{
	const char *a, *b;

	(void)state;
	get(1, &a);
	memcpy(w->hosts[0].mac, mac(1), 6);
	w->hosts[0].hostname = "pi-07";
	w->hosts[0].address = "192.168.1.50";
	assert_string_equal(text(discover(1)), "192.168.1.50");
	b = text(discover(2));
	assert_int_equal(request(2, a), DHCP_MSG_ACK);
	assert_string_not_equal(a, b);
	assert_int_equal(request(1, "192.168.1.50"), DHCP_MSG_ACK);
}

static void init_reboot(void **state)
{
	static const struct {
		const char *wanted;
		enum dhcp_message answer;
	} rows[] = {
		{"192.168.1.103", DHCP_MSG_ACK}, /* free; its lease was lost, say */
		{"192.168.2.103", DHCP_MSG_NAK}, /* another network */
		{"192.168.1.200", DHCP_MSG_NAK}, /* not ours to give */
		{"192.168.1.10", DHCP_MSG_NAK},
	};
	struct speech s = says(DHCP_MSG_REQUEST, 1);
	const char *a;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		s.requested = rows[i].wanted;
		assert_int_equal(say(&s, NULL), rows[i].answer);
		if (rows[i].answer == DHCP_MSG_NAK) { /* to all, without anything else */
			assert_int_equal(newest()->out.datagram.to.s_addr, 0xffffffff);
			assert_int_equal(be32_get(newest()->packet.head.yiaddr), 0);
		}
	}
	get(2, &a);
	s.requested = a;
	assert_int_equal(say(&s, NULL), DHCP_MSG_NAK);
	s.requested = NULL; /* neither address: nonsense */
	assert_int_equal(say(&s, NULL), 0);
}

static void renew_and_rebind(void **state)
{
	struct speech s = says(DHCP_MSG_REQUEST, 1);
	const char *a;

	(void)state;
	get(1, &a);
	world_pass(w, 300000);
	s.ciaddr = a;
	world_say_on(w, 2, a, "192.168.1.10", DHCP_PORT_SERVER, &s);
	assert_int_equal(newest()->packet.type, DHCP_MSG_ACK);
	assert_false(newest()->out.frame);
	assert_int_equal(newest()->out.datagram.to.s_addr, address(a).s_addr);
	assert_int_equal(be32_get(newest()->packet.head.ciaddr), ntohl(address(a).s_addr));
	assert_int_equal(w->stored_count, 2);
	world_pass(w, 550000);
	world_say_on(w, 2, a, "255.255.255.255", DHCP_PORT_SERVER, &s);
	assert_int_equal(newest()->packet.type, DHCP_MSG_ACK);
	assert_int_equal(w->stored_count, 3);
	s.ciaddr = "192.168.1.103", s.mac = mac(2);
	s.ciaddr = a;
	assert_int_equal(say(&s, NULL), DHCP_MSG_NAK);
}

/* Any program can put a MAC in a message: who has an address gets no other one for it. */
static void another_ones_address(void **state)
{
	struct speech s = says(DHCP_MSG_REQUEST, 1);
	unsigned sent = w->sent_count;

	(void)state;
	s.requested = "192.168.1.103", s.server = "192.168.1.10";
	world_say_on(w, 2, "192.168.1.66", "255.255.255.255", DHCP_PORT_SERVER, &s);
	s.requested = s.server = NULL, s.ciaddr = "192.168.1.103";
	world_say_on(w, 2, "192.168.1.66", "192.168.1.10", DHCP_PORT_SERVER, &s);
	assert_int_equal(w->sent_count, sent);
	assert_int_equal(w->stored_count, 0);
	world_say_on(w, 2, "192.168.1.103", "192.168.1.10", DHCP_PORT_SERVER, &s);
	assert_int_equal(w->stored_count, 1);
}

static void decline(void **state)
{
	struct speech s = says(DHCP_MSG_DECLINE, 2);
	const char *a;

	(void)state;
	get(1, &a);
	s.requested = a, s.server = "192.168.1.10";
	assert_int_equal(say(&s, NULL), 0); /* somebody else's: nothing happens */
	assert_int_equal(request(1, a), DHCP_MSG_ACK);
	s.mac = mac(1);
	assert_int_equal(say(&s, NULL), 0);
	assert_int_equal(w->forgotten_count, 1);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "in use by somebody else"), 1);
	assert_string_not_equal(text(discover(1)), a);
	for (unsigned i = 2; i < 4; i++)
		assert_string_not_equal(text(discover(i)), a);
	assert_int_equal(discover(5).s_addr, 0); /* the fourth of the pool is left alone */
}

static void release(void **state)
{
	struct speech s = says(DHCP_MSG_RELEASE, 2);
	const char *a;

	(void)state;
	get(1, &a);
	s.ciaddr = a;
	say(&s, NULL); /* another's */
	assert_int_equal(w->forgotten_count, 0);
	s.mac = mac(1);
	assert_int_equal(say(&s, NULL), 0);
	assert_int_equal(w->forgotten_count, 1);
	assert_string_equal(text(discover(1)), a);
}

static void inform(void **state)
{
	struct speech s = says(DHCP_MSG_INFORM, 1);
	size_t bytes;

	(void)state;
	s.ciaddr = "192.168.1.50";
	assert_int_equal(say(&s, NULL), DHCP_MSG_ACK);
	assert_int_equal(be32_get(newest()->packet.head.yiaddr), 0);
	assert_null(dhcp_get(&newest()->packet, DHCP_OPT_LEASE, &bytes));
	assert_int_equal(dhcp_get_address(&newest()->packet, DHCP_OPT_ROUTER).s_addr,
			 address("192.168.1.1").s_addr);
	assert_int_equal(newest()->out.datagram.to.s_addr, address("192.168.1.50").s_addr);
	assert_int_equal(w->stored_count, 0);
	s.ciaddr = "10.0.0.1";
	assert_int_equal(say(&s, NULL), 0);
}

static void other_server_chosen(void **state)
{
	struct speech s = says(DHCP_MSG_REQUEST, 1);
	struct in_addr a = discover(1);

	(void)state;
	s.requested = "192.168.1.200", s.server = "192.168.1.3";
	assert_int_equal(say(&s, NULL), 0);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "another DHCP server, 192.168.1.3"),
			 1);
	s = says(DHCP_MSG_DISCOVER, 2);
	s.requested = text(a); /* free again */
	assert_int_equal(say(&s, &a), DHCP_MSG_OFFER);
	assert_string_equal(text(a), s.requested);
}

static void ack_waits_for_the_store(void **state)
{
	const char *a = text(discover(1));

	(void)state;
	w->store_result = -EINPROGRESS;
	assert_int_equal(request(1, a), 0);
	assert_int_equal(request(1, a), 0); /* asked again meanwhile */
	assert_int_equal(w->stored_count, 1);
	dhcp_lease_stored(w->dhcp, mac(1), 0);
	assert_int_equal(newest()->packet.type, DHCP_MSG_ACK);
	assert_int_equal(w->sent_count, 2);
	dhcp_lease_stored(w->dhcp, mac(1), 0);
	dhcp_lease_stored(w->dhcp, mac(2), 0);
	assert_int_equal(w->sent_count, 2);
	assert_int_equal(request(1, a), 0);
	dhcp_lease_stored(w->dhcp, mac(1), -EIO); /* no ACK */
	assert_int_equal(w->sent_count, 2);
	w->store_result = -ENOSPC;
	assert_int_equal(request(1, a), 0);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "leases can't be kept"), 1);
	w->store_result = 0;
	assert_int_equal(request(1, a), DHCP_MSG_ACK);
	w->store_result = -EINPROGRESS;
	assert_int_equal(request(1, a), 0); /* still waiting when all ends */
}

static void given_back_before_it_is_kept(void **state)
{
	struct speech s = says(DHCP_MSG_RELEASE, 1);
	const char *a = text(discover(1));

	(void)state;
	w->store_result = -EINPROGRESS;
	assert_int_equal(request(1, a), 0);
	s.ciaddr = a;
	assert_int_equal(say(&s, NULL), 0);
	assert_int_equal(w->forgotten_count, 1);
	dhcp_lease_stored(w->dhcp, mac(1), 0);
	assert_int_equal(w->sent_count, 1);
	/* Wanted again, it is kept again. */
	assert_int_equal(request(1, a), 0);
	assert_int_equal(w->stored_count, 2);
	dhcp_lease_stored(w->dhcp, mac(1), 0);
	assert_int_equal(newest()->packet.type, DHCP_MSG_ACK);
}

static void leases_from_before(void **state)
{
	struct dhcp_lease lease = {.address = address("192.168.1.102"), .hostname = "old"};

	(void)state;
	memcpy(lease.mac, mac(5), 6);
	lease.until_s = w->unix_s + (int64_t)(w->now_ms / 1000) + 100;
	assert_int_equal(dhcp_lease_load(w->dhcp, &lease), 0);
	memcpy(lease.mac, mac(6), 6);
	assert_int_equal(dhcp_lease_load(w->dhcp, &lease), -EEXIST);
	lease.address = address("192.168.1.103");
	lease.until_s -= 1000000; /* long ago: its first choice still */
	assert_int_equal(dhcp_lease_load(w->dhcp, &lease), 0);
	assert_string_equal(text(discover(5)), "192.168.1.102");
	assert_string_equal(text(discover(6)), "192.168.1.103");
	assert_int_equal(request(5, "192.168.1.102"), DHCP_MSG_ACK);
	/* One from a far future, by a clock that was wrong, ends like any other. */
	memcpy(lease.mac, mac(7), 6);
	lease.address = address("192.168.1.101");
	lease.until_s = INT64_MAX / 2;
	assert_int_equal(dhcp_lease_load(w->dhcp, &lease), 0);
	world_pass(w, 601000);
	for (unsigned i = 10; i < 14; i++)
		assert_int_not_equal(discover(i).s_addr, 0);
}

/* --- boards --- */

static void merged_offer(void **state)
{
	const struct dhcp_packet *packet;
	struct speech s = eeprom_4;
	struct in_addr a;
	size_t bytes;

	(void)state;
	memcpy(w->hosts[0].mac, mac_4, 6);
	w->hosts[0].hostname = "pi-04";
	w->hosts[0].address = "192.168.1.44";
	assert_int_equal(say(&s, &a), DHCP_MSG_OFFER);
	assert_string_equal(text(a), "192.168.1.44");
	packet = &newest()->packet;
	assert_true(dhcp_begins(packet, DHCP_OPT_CLASS, "PXEClient"));
	assert_non_null(dhcp_get(packet, DHCP_OPT_VENDOR, &bytes));
	assert_int_equal(bytes, 35);
	assert_non_null(dhcp_get(packet, DHCP_OPT_GUID, &bytes));
	assert_non_null(dhcp_get(packet, DHCP_OPT_MASK, &bytes));
	assert_true(dhcp_begins(packet, DHCP_OPT_DOMAIN, "cluster.test")); /* all had room */
	assert_int_equal(be32_get(packet->head.siaddr), 0xc0a8010a);
	/* Its REQUEST has no option 60; the ACK still says where to boot from. */
	s.type = DHCP_MSG_REQUEST, s.class = NULL, s.architecture = false, s.guid = NULL;
	s.requested = "192.168.1.44", s.server = "192.168.1.10";
	assert_int_equal(say(&s, &a), DHCP_MSG_ACK);
	assert_non_null(dhcp_get(&newest()->packet, DHCP_OPT_VENDOR, &bytes));
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 1);
	/* The system it started asks as anybody, and gets the same address and nothing else. */
	dhcp_begun(w->dhcp, mac_4, address("192.168.1.44"));
	s = says(DHCP_MSG_DISCOVER, 0);
	s.mac = mac_4;
	assert_int_equal(say(&s, &a), DHCP_MSG_OFFER);
	assert_string_equal(text(a), "192.168.1.44");
	assert_null(dhcp_get(&newest()->packet, DHCP_OPT_VENDOR, &bytes));
	world_pass(w, 5000);
	assert_int_equal(w->sent_count, 3); /* nothing is repeated */
}

static void rom_keeps_what_it_was_offered(void **state)
{
	const char *a = NULL, *b;
	unsigned others = 0;

	(void)state;
	world_say(w, &rom_3b);
	assert_int_equal(w->sent_count, 1); /* one offer, so no delay at first */
	assert_memory_equal(newest()->out.to_mac, mac_3b, 6);
	a = text(dhcp_address(newest()->packet.head.yiaddr));
	assert_int_equal(world_events(w, DHCP_EVENT_ADDRESS, NULL), 1);
	assert_int_equal(w->neighbour.s_addr, address(a).s_addr);
	world_pass(w, 10 * 60000);
	assert_true(w->nudge_count == 2);
	for (unsigned i = 0; i < 5; i++) {
		b = text(discover(i));
		others += strcmp(b, "0.0.0.0") != 0;
		assert_string_not_equal(b, a);
	}
	assert_int_equal(others, 3);
}

static void unwanted_board_gets_an_address_only(void **state)
{
	struct in_addr a;
	size_t bytes;

	(void)state;
	w->verdict = DHCP_IGNORE;
	assert_int_equal(say(&eeprom_4, &a), DHCP_MSG_OFFER);
	assert_null(dhcp_get(&newest()->packet, DHCP_OPT_VENDOR, &bytes));
	assert_int_equal(say(&pxe_pc, &a), DHCP_MSG_OFFER);
	assert_null(dhcp_get(&newest()->packet, DHCP_OPT_CLASS, &bytes));
	/* One that must wait gets nothing yet, or it would go on without its boot. */
	w->verdict = DHCP_WAIT;
	assert_int_equal(say(&eeprom_5, &a), 0);
	w->verdict = DHCP_OFFER;
	dhcp_go(w->dhcp, mac_5);
	assert_non_null(dhcp_get(&newest()->packet, DHCP_OPT_VENDOR, &bytes));
}

static void pc_in_known_mode(void **state)
{
	struct in_addr a;

	(void)state;
	w->verdict_other = DHCP_OFFER;
	memset(w->boot_file, 'f', LIMIT_DHCP_BOOT_FILE_BYTES);
	assert_int_equal(say(&pxe_pc, &a), DHCP_MSG_OFFER);
	assert_int_equal(strlen((const char *)newest()->data + 108), LIMIT_DHCP_BOOT_FILE_BYTES);
	assert_true(dhcp_begins(&newest()->packet, DHCP_OPT_DOMAIN, "cluster.test"));
}

static void strangers(void **state)
{
	static const uint8_t multicast[6] = {1, 2, 3, 4, 5, 6}, zero[6];
	struct speech s = says(DHCP_MSG_DISCOVER, 1);

	(void)state;
	s.mac = multicast;
	assert_int_equal(say(&s, NULL), 0);
	s.mac = zero;
	assert_int_equal(say(&s, NULL), 0);
	s.mac = mac(1), s.giaddr = "10.0.0.1";
	assert_int_equal(say(&s, NULL), 0);
}

/* --- other servers --- */

static void quiet_beside_another_server(void **state)
{
	struct dhcp_config c = config("192.168.1.100", "192.168.1.103");
	struct speech answer = {
		.op = 2, .type = DHCP_MSG_OFFER, .yiaddr = "192.168.1.99", .server = "192.168.1.3"};
	uint8_t own[6];

	(void)state;
	w = world_new(&c);
	assert_int_equal(discover(1).s_addr, 0); /* not before it is sure */
	world_pass(w, 10);
	assert_int_equal(newest()->packet.type, DHCP_MSG_DISCOVER);
	memcpy(own, newest()->packet.head.chaddr, 6);
	answer.mac = own, answer.xid = be32_get(newest()->packet.head.xid);
	world_say(w, &answer);
	world_pass(w, 4000);
	assert_int_equal(world_events(w, DHCP_EVENT_REFUSED, "192.168.1.3, answers on eth0"), 1);
	assert_int_equal(world_events(w, DHCP_EVENT_SERVING, NULL), 0);
	w->sent_count = 0;
	assert_int_equal(discover(1).s_addr, 0);
	world_say(w, &eeprom_4);
	assert_int_equal(w->sent_count, 0);
	/* It goes away: a minute later addresses are given. */
	world_pass(w, 65000);
	assert_int_equal(world_events(w, DHCP_EVENT_SERVING, NULL), 1);
	w->sent_count = 0;
	assert_int_not_equal(discover(1).s_addr, 0);
	world_free(w);
}

static void unless_told(void **state)
{
	struct dhcp_config c = config("192.168.1.100", "192.168.1.103");

	(void)state;
	c.known_anyway = true;
	w = world_new(&c);
	assert_int_equal(world_events(w, DHCP_EVENT_SERVING, NULL), 1);
	assert_int_not_equal(discover(1).s_addr, 0);
	world_free(w);
}

static void server_that_comes_later(void **state)
{
	struct speech ack = {.op = 2,
			     .type = DHCP_MSG_ACK,
			     .yiaddr = "192.168.1.99",
			     .server = "192.168.1.3",
			     .mac = mac(3),
			     .xid = 4};

	(void)state;
	world_say(w, &ack);
	world_say(w, &ack);
	assert_int_equal(world_events(w, DHCP_EVENT_TROUBLE, "another DHCP server, 192.168.1.3"),
			 1);
}

/* Whatever is asked in whatever order: no two clients have one address at a time. */
static void never_two_on_one_address(void **state)
{
	struct {
		struct in_addr address;
		uint64_t until_ms;
	} has[12] = {{{0}, 0}};
	uint32_t r = 4711;

	(void)state;
	for (unsigned i = 0; i < 30000; i++) {
		unsigned who;
		struct speech s;
		struct in_addr a = {0};
		enum dhcp_message answer;
		const char *wanted;

		r = r * 1664525u + 1013904223u;
		who = (r >> 8) % 12;
		wanted = text((struct in_addr){htonl(0xc0a80164 + (r >> 16) % 6)});
		s = says(1 + (r >> 20) % 8, who);
		if ((r >> 24) % 3)
			s.requested = wanted;
		else
			s.ciaddr = has[who].address.s_addr ? text(has[who].address) : wanted;
		if ((r >> 26) % 2)
			s.server = "192.168.1.10";
		answer = say(&s, &a);
		if (answer == DHCP_MSG_ACK && a.s_addr) {
			for (unsigned other = 0; other < 12; other++)
				if (other != who && has[other].until_ms > w->now_ms)
					assert_int_not_equal(has[other].address.s_addr, a.s_addr);
			has[who].address = a;
			has[who].until_ms = w->now_ms + 600000;
		}
		if ((s.type == DHCP_MSG_RELEASE || s.type == DHCP_MSG_DECLINE) && !answer)
			has[who].until_ms = 0;
		world_pass(w, (r >> 12) % 20000);
		w->event_count = 0;
	}
	assert_true(w->stored_count > 500);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(offer_and_ack),
		TEST(broadcast_flag),
		TEST(same_address_again),
		TEST(asked_for_address),
		TEST(pool_full_and_free_again),
		TEST(addresses_that_are_never_given),
		TEST(static_address),
		TEST(board_replaced),
		TEST(moved_from_the_pool),
		TEST(init_reboot),
		TEST(renew_and_rebind),
		TEST(another_ones_address),
		TEST(decline),
		TEST(release),
		TEST(inform),
		TEST(other_server_chosen),
		TEST(ack_waits_for_the_store),
		TEST(given_back_before_it_is_kept),
		TEST(leases_from_before),
		TEST(merged_offer),
		TEST(rom_keeps_what_it_was_offered),
		TEST(unwanted_board_gets_an_address_only),
		TEST(pc_in_known_mode),
		TEST(strangers),
		cmocka_unit_test(quiet_beside_another_server),
		cmocka_unit_test(unless_told),
		TEST(server_that_comes_later),
		TEST(never_two_on_one_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
