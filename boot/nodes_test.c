/*
 * Whose Pi it is: by serial, by MAC, and by the tail of the MAC that a boot ROM shares with the
 * serial.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "nodes.h"

static struct nodes *some_nodes(void)
{
	struct nodes *nodes = nodes_new();
	json_t *answer = json_loads(
		"{\"nodes\": ["
		"{\"name\": \"pi-01\", \"serial\": \"10000000B66C4C16\", \"mac\": \"\"},"
		"{\"name\": \"pi-02\", \"serial\": \"\", \"mac\": \"dc:a6:32:01:02:03\", "
		"\"hostname\": \"two\", \"address\": \"10.42.0.2\"},"
		"{\"name\": \"pi-03\", \"serial\": \"5b154510\", \"mac\": \"dc:a6:32:0a:0b:0c\"}]}",
		0, NULL);

	assert_non_null(nodes);
	assert_int_equal(nodes_take(nodes, answer, 1), 0);
	json_decref(answer);
	return nodes;
}

static void a_serial_tells_in_every_form(void **state)
{
	struct nodes *nodes = some_nodes();
	struct pi_identity who = {.model = PI_4, .has_serial = true, .serial = 0xb66c4c16};

	(void)state;
	assert_string_equal(nodes_find(nodes, &who)->name, "pi-01");
	who.serial = 0x5b154510;
	assert_string_equal(nodes_find(nodes, &who)->name, "pi-03");
	/* The board was changed, the network chip kept: the serial counts. */
	memcpy(who.mac, "\xdc\xa6\x32\x01\x02\x03", 6);
	assert_string_equal(nodes_find(nodes, &who)->name, "pi-03");
	who.serial = 0x11111111;
	assert_string_equal(nodes_find(nodes, &who)->name, "pi-02");
	nodes_free(nodes);
}

static void a_boot_rom_is_known_by_its_mac(void **state)
{
	struct nodes *nodes = some_nodes();
	struct pi_identity who = {.model = PI_3B, .mac = {0xb8, 0x27, 0xeb, 0x6c, 0x4c, 0x16}};

	(void)state;
	assert_string_equal(nodes_find(nodes, &who)->name, "pi-01");
	/* Not a PC whose MAC happens to end so. */
	who.model = PI_NONE;
	assert_null(nodes_find(nodes, &who));
	/* Nor one that has said another serial. */
	who.model = PI_3B_PLUS;
	who.has_serial = true;
	who.serial = 0xaa6c4c16;
	assert_null(nodes_find(nodes, &who));
	nodes_free(nodes);
}

static void a_broken_answer_changes_nothing(void **state)
{
	struct nodes *nodes = some_nodes();
	json_t *broken = json_loads("{\"nodes\": {}}", 0, NULL);

	(void)state;
	assert_int_equal(nodes_take(nodes, broken, 1), -EINVAL);
	assert_int_equal(nodes_count(nodes), 3);
	assert_string_equal(nodes_find_name(nodes, "pi-02")->hostname, "two");
	assert_null(nodes_find_name(nodes, "pi-04"));
	json_decref(broken);
	nodes_free(nodes);
}

static void who_booted_last_is_kept(void **state)
{
	struct nodes *nodes = some_nodes();
	json_t *list = json_loads("{\"nodes\": [{\"name\": \"pi-02\"}, {\"name\": \"pi-01\", "
				  "\"state\": \"in use\"}]}",
				  0, NULL);
	json_t *boots = json_loads("{\"boots\": ["
				   "{\"node\": \"pi-01\", \"mac\": \"dc:a6:32:00:00:01\"},"
				   "{\"node\": null, \"mac\": \"dc:a6:32:00:00:07\"},"
				   "{\"node\": \"pi-02\", \"mac\": \"dc:a6:32:00:00:02\"},"
				   "{\"node\": \"pi-01\", \"mac\": \"dc:a6:32:00:00:03\"}]}",
				   0, NULL);

	(void)state;
	nodes_begun(nodes, "pi-02", (const uint8_t *)"\xdc\xa6\x32\0\0\x09");
	nodes_take_boots(nodes, boots);
	nodes_take_boots(nodes, NULL);
	assert_false(nodes_find_name(nodes, "pi-03")->has_booted);
	assert_int_equal(nodes_take(nodes, list, 7), 0);
	assert_int_equal(nodes_find_name(nodes, "pi-01")->booted_mac[5], 1);
	assert_int_equal(nodes_find_name(nodes, "pi-01")->used_ms, 7);
	assert_int_equal(nodes_find_name(nodes, "pi-02")->booted_mac[5], 9);
	assert_int_equal(nodes_find_name(nodes, "pi-02")->used_ms, 0);
	json_decref(list);
	json_decref(boots);
	nodes_free(nodes);
}

static void macs_are_read_and_written(void **state)
{
	uint8_t mac[6];
	char text[MAC_TEXT_BYTES];

	(void)state;
	assert_true(mac_parse("dc:A6:32:01:02:03", mac));
	mac_format(mac, '-', text);
	assert_string_equal(text, "dc-a6-32-01-02-03");
	assert_false(mac_parse("", mac));
	assert_false(mac_parse("dc:a6:32:01:02:0", mac));
	assert_false(mac_parse("dc:a6:32:01:02:0g", mac));
	assert_false(mac_parse("dc a6 32 01 02 03", mac));
}

static void a_static_address_is_one_nodes(void **state)
{
	struct nodes *nodes = some_nodes();
	struct in_addr address = {.s_addr = INADDR_ANY};

	(void)state;
	assert_null(nodes_find_address(nodes, address)); /* those that have none */
	assert_int_equal(inet_pton(AF_INET, "10.42.0.2", &address), 1);
	assert_string_equal(nodes_find_address(nodes, address)->name, "pi-02");
	assert_int_equal(inet_pton(AF_INET, "10.42.0.3", &address), 1);
	assert_null(nodes_find_address(nodes, address));
	nodes_free(nodes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_serial_tells_in_every_form),
		cmocka_unit_test(a_boot_rom_is_known_by_its_mac),
		cmocka_unit_test(a_broken_answer_changes_nothing),
		cmocka_unit_test(who_booted_last_is_kept),
		cmocka_unit_test(macs_are_read_and_written),
		cmocka_unit_test(a_static_address_is_one_nodes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
