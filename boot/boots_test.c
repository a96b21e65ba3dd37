/*
 * Boots: which one a MAC, an address, a token stands for, how many load, and what their timeline
 * says.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "boots.h"

static struct pi_identity pi(unsigned n)
{
	struct pi_identity who = {.model = PI_4, .has_serial = true, .serial = n};

	who.mac[0] = 0xdc;
	who.mac[4] = (uint8_t)(n >> 8);
	who.mac[5] = (uint8_t)n;
	return who;
}

static struct in_addr address(const char *text)
{
	struct in_addr a;

	assert_int_equal(inet_pton(AF_INET, text, &a), 1);
	return a;
}

static void the_newest_boot_has_the_mac(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who = pi(7);
	struct boot *first = boots_add(boots, &who, BOOT_PREPARING, 0);
	struct boot *second = boots_add(boots, &who, BOOT_PREPARING, 1);

	(void)state;
	assert_non_null(second);
	assert_string_not_equal(first->id, second->id);
	assert_string_not_equal(first->token, second->token);
	assert_int_equal(strlen(first->id), BOOT_ID_BYTES - 1);
	assert_int_equal(strlen(first->token), REPORT_TOKEN_BYTES - 1);
	assert_ptr_equal(boots_find_mac(boots, who.mac), second);
	/* The one before may still report. */
	assert_ptr_equal(boots_find_token(boots, first->token), first);
	assert_ptr_equal(boots_find_id(boots, second->id), second);
	assert_null(boots_find_token(boots, "no such token"));
	boots_free(boots);
}

static void an_address_has_one_boot(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who[] = {pi(1), pi(2)};
	struct boot *one = boots_add(boots, &who[0], BOOT_OFFERED, 0);
	struct boot *two = boots_add(boots, &who[1], BOOT_OFFERED, 0);

	(void)state;
	boot_set_address(boots, one, address("10.0.0.5"), 3);
	assert_ptr_equal(boots_find_address(boots, address("10.0.0.5")), one);
	boot_set_address(boots, two, address("10.0.0.5"), 3);
	assert_ptr_equal(boots_find_address(boots, address("10.0.0.5")), two);
	assert_int_equal(one->address.s_addr, INADDR_ANY);
	boot_set_address(boots, two, address("10.0.0.6"), 3);
	assert_null(boots_find_address(boots, address("10.0.0.5")));
	assert_ptr_equal(boots_find_address(boots, address("10.0.0.6")), two);
	boots_free(boots);
}

static void those_who_fell_silent_do_not_load(void **state)
{
	struct boots *boots = boots_new();
	static const enum boot_stage stages[] = {BOOT_STRANGER, BOOT_PREPARING, BOOT_WAITING,
						 BOOT_OFFERED,  BOOT_LOADING,   BOOT_LOADED,
						 BOOT_RUNNING,  BOOT_FAILED};

	(void)state;
	for (unsigned i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		struct pi_identity who = pi(i);

		assert_non_null(boots_add(boots, &who, stages[i], 1000));
	}
	assert_int_equal(boots_in_flight(boots, 1000), 3);
	assert_int_equal(boots_in_flight(boots, 60000), 0);
	boots_free(boots);
}

static void a_boot_rom_does_not_count_and_its_bootcode_waits(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who = {.model = PI_3B, .rom = true};
	struct boot *boot = boots_add(boots, &who, BOOT_OFFERED, 1000);

	(void)state;
	assert_int_equal(boots_in_flight(boots, 1000), 0);
	boot->stage = BOOT_LOADING; /* bootcode.bin */
	boot_leaves_rom(boot, 3000);
	assert_int_equal(boot->stage, BOOT_WAITING);
	assert_int_equal(boot->asked_ms, 3000);
	boot->stage = BOOT_OFFERED;
	assert_int_equal(boots_in_flight(boots, 3000), 1);
	boots_free(boots);
}

/* Whoever asks last is never refused; who waits for a worker is never forgotten. */
static void the_longest_silent_one_makes_room(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who = pi(0);
	struct boot *first = boots_add(boots, &who, BOOT_PREPARING, 0);

	(void)state;
	first->preparing = true;
	for (unsigned i = 1; i <= LIMIT_BOOTS; i++) {
		who = pi(i);
		assert_non_null(boots_add(boots, &who, BOOT_RUNNING, i));
	}
	who = pi(0);
	assert_ptr_equal(boots_find_mac(boots, who.mac), first);
	who = pi(1);
	assert_null(boots_find_mac(boots, who.mac));
	who = pi(2);
	assert_non_null(boots_find_mac(boots, who.mac));
	boots_free(boots);
}

/* Anybody can be many; a node's boot does not go for them. */
static void a_flood_of_strangers_pushes_out_strangers_only(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who = pi(0);
	struct boot *node = boots_add(boots, &who, BOOT_LOADING, 0);

	(void)state;
	for (unsigned i = 1; i <= LIMIT_BOOTS_UNKNOWN + 100; i++) {
		who = pi(i);
		assert_non_null(boots_add(boots, &who, BOOT_STRANGER, i));
	}
	who = pi(0);
	assert_ptr_equal(boots_find_mac(boots, who.mac), node);
	who = pi(100);
	assert_null(boots_find_mac(boots, who.mac));
	who = pi(101);
	assert_non_null(boots_find_mac(boots, who.mac));
	boots_free(boots);
}

static void what_is_over_and_told_is_forgotten(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who[] = {pi(1), pi(2)};
	struct boot *told = boots_add(boots, &who[0], BOOT_RUNNING, 0);
	struct boot *untold = boots_add(boots, &who[1], BOOT_RUNNING, 0);

	(void)state;
	boot_note(untold, "offer", NULL);
	boots_forget_old(boots, 1000);
	assert_ptr_equal(boots_find_mac(boots, who[0].mac), told);
	boots_forget_old(boots, 24 * 3600 * 1000);
	assert_null(boots_find_mac(boots, who[0].mac));
	assert_ptr_equal(boots_find_mac(boots, who[1].mac), untold);
	boots_free(boots);
}

static void a_timeline_keeps_its_order(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who = pi(0x5b154510);
	struct boot *boot = boots_add(boots, &who, BOOT_OFFERED, 0);
	json_t *events, *head;

	(void)state;
	assert_null(boot_take_events(boot));
	boot_note(boot, "offer", NULL);
	boot_note_file(boot, "sent", "config.txt", 300, 2, 15, NULL);
	events = boot_take_events(boot);
	assert_int_equal(json_array_size(events), 2);
	boot_note(boot, "trouble", "%s", "bad \xff words are left out");
	/* It could not be posted: what came meanwhile is behind it. */
	boot_untake_events(boot, events);
	events = boot_take_events(boot);
	assert_int_equal(json_array_size(events), 3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(events, 0), "kind")),
			    "offer");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(events, 1), "bytes")),
			 300);
	assert_null(json_object_get(json_array_get(events, 2), "text"));
	json_decref(events);
	boot_set_address(boots, boot, address("10.0.0.9"), 2);
	head = boot_head(boot);
	assert_true(json_is_null(json_object_get(head, "node")));
	assert_string_equal(json_string_value(json_object_get(head, "serial")), "5b154510");
	assert_string_equal(json_string_value(json_object_get(head, "address")), "10.0.0.9");
	json_decref(head);
	boots_free(boots);
}

static void a_timeline_has_an_end(void **state)
{
	struct boots *boots = boots_new();
	struct pi_identity who = pi(1);
	struct boot *boot = boots_add(boots, &who, BOOT_OFFERED, 0);

	(void)state;
	for (unsigned i = 0; i < LIMIT_BOOT_EVENTS + 10; i++)
		boot_note(boot, "discover", NULL);
	assert_int_equal(json_array_size(boot->events), LIMIT_BOOT_EVENTS);
	/* What was told makes room. */
	json_decref(boot_take_events(boot));
	boot_note(boot, "offer", NULL);
	assert_int_equal(json_array_size(boot->events), 1);
	boots_free(boots);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_newest_boot_has_the_mac),
		cmocka_unit_test(an_address_has_one_boot),
		cmocka_unit_test(those_who_fell_silent_do_not_load),
		cmocka_unit_test(a_boot_rom_does_not_count_and_its_bootcode_waits),
		cmocka_unit_test(the_longest_silent_one_makes_room),
		cmocka_unit_test(a_flood_of_strangers_pushes_out_strangers_only),
		cmocka_unit_test(what_is_over_and_told_is_forgotten),
		cmocka_unit_test(a_timeline_keeps_its_order),
		cmocka_unit_test(a_timeline_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
