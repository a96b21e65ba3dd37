/* Which of our addresses and portals a Pi is told, on a machine that has several. */
#include <arpa/inet.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "reach.h"

static struct in_addr ip(const char *text)
{
	struct in_addr address = {0};

	if (text)
		assert_int_equal(inet_pton(AF_INET, text, &address), 1);
	return address;
}

static struct dhcp_net net(const char *address, const char *mask)
{
	return (struct dhcp_net){ip(address), ip(mask)};
}

static void the_address_in_its_network(void **state)
{
	const struct dhcp_net nets[] = {
		net("10.79.0.2", "255.255.255.0"),
		net("10.78.0.2", "255.255.255.0"),
		net("10.78.0.3", "255.255.255.0"),
	};
	static const struct {
		const char *pi, *told, *chosen;
	} cases[] = {
		{"10.78.0.50", NULL, "10.78.0.2"},
		{"10.78.0.50", "10.78.0.3", "10.78.0.3"}, /* the one that it knows us by */
		{"10.78.0.50", "10.79.0.2", "10.78.0.2"}, /* a guess of before its address */
		{NULL, "10.78.0.2", "10.78.0.2"},
		{NULL, NULL, "10.79.0.2"},
		{"192.0.2.1", NULL, "10.79.0.2"}, /* behind a router */
		{"192.0.2.1", "10.78.0.2", "10.78.0.2"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		assert_int_equal(
			reach_choose(nets, ARRAY_COUNT(nets), ip(cases[i].pi), ip(cases[i].told))
				.address.s_addr,
			ip(cases[i].chosen).s_addr);
	assert_int_equal(reach_choose(NULL, 0, ip("10.78.0.50"), ip(NULL)).address.s_addr, 0);
}

static void an_interface_is_asked(void **state)
{
	int lo = (int)if_nametoindex("lo");
	struct dhcp_net found = reach_find(lo, ip("127.0.0.9"), ip(NULL));

	(void)state;
	if (lo > 0 && found.address.s_addr)
		assert_int_equal(found.address.s_addr, ip("127.0.0.1").s_addr);
	assert_int_equal(reach_find(0, ip("127.0.0.9"), ip(NULL)).address.s_addr, 0);
}

static void the_portal_in_its_network(void **state)
{
	static const struct {
		const char *portals[4], *chosen;
	} cases[] = {
		{{"10.79.0.2:3260", "10.78.0.2:3261"}, "10.78.0.2:3261"},
		{{"10.78.0.7:3260", "10.78.0.2:3261"}, "10.78.0.2:3261"},
		{{"[fd00::1]:3260", "10.78.0.7:3262", "10.79.0.2:3260"}, "10.78.0.7:3262"},
		{{"10.79.0.2:3260", "0.0.0.0:3263"}, "10.78.0.2:3263"},
		{{"10.79.0.2:3260", "127.0.0.1:3260", "[::]:3260"}, ""},
		{{"nonsense", "10.78.0.2"}, ""},
	};
	const struct dhcp_net ours = net("10.78.0.2", "255.255.255.0");
	const struct dhcp_net none = {.address = {0}};
	char text[LIMIT_ADDRESS_TEXT_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct reach_portals portals = {.count = 0};

		for (size_t p = 0; p < 4 && cases[i].portals[p]; p++)
			reach_portals_add(&portals, cases[i].portals[p]);
		reach_portal(&portals, &ours, text);
		assert_string_equal(text, cases[i].chosen);
		reach_portal(&portals, &none, text);
		assert_string_equal(text, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_address_in_its_network),
		cmocka_unit_test(an_interface_is_asked),
		cmocka_unit_test(the_portal_in_its_network),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
