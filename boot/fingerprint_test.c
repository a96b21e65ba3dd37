/*
 * Which board it is, from the bytes boards are known to send, and what must be taken for none.
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

static struct pi_identity identify(const struct speech *speech)
{
	uint8_t data[LIMIT_DHCP_PACKET_BYTES];
	struct dhcp_packet packet;

	assert_int_equal(dhcp_parse(data, speech_write(speech, data), &packet), 0);
	return pi_identify(&packet);
}

static void boards(void **state)
{
	static const struct {
		const struct speech *speech;
		enum pi_model model;
		uint32_t serial, revision;
		bool rom, bootcode;
	} rows[] = {
		{&rom_3b, PI_3B, 0, 0, true, false},
		{&rom_3b_plus, PI_3B_PLUS, 0xb66c4c16, 0, true, false},
		{&bootcode_3b_plus, PI_OLD_UNKNOWN, 0xb66c4c16, 0, false, true},
		{&eeprom_4, PI_4, 0x5b154510, 0xa03111, false, false},
		{&eeprom_5, PI_5, 0x9ffefdef, 0xd04170, false, false},
		{&pxe_pc, PI_NONE, 0, 0, false, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct pi_identity pi = identify(rows[i].speech);

		assert_int_equal(pi.model, rows[i].model);
		assert_int_equal(pi.has_serial, rows[i].serial != 0);
		assert_int_equal(pi.serial, rows[i].serial);
		assert_int_equal(pi.revision, rows[i].revision);
		assert_int_equal(pi.rom, rows[i].rom);
		assert_int_equal(pi.bootcode, rows[i].bootcode);
		assert_memory_equal(pi.mac, rows[i].speech->mac, 6);
	}
}

static void letters_in_either_order(void **state)
{
	struct speech speech = eeprom_4;
	struct pi_identity pi;

	(void)state;
	speech.guid = guid_4_swapped; /* a CM4's log */
	pi = identify(&speech);
	assert_int_equal(pi.model, PI_4);
	assert_int_equal(pi.revision, 0xd03114);
	assert_int_equal(pi.serial, 0x0302013d);
}

static void newer_board_than_known(void **state)
{
	struct speech speech = eeprom_4;
	uint8_t guid[17];

	(void)state;
	memcpy(guid, guid_4, sizeof(guid));
	guid[4] = '6';
	speech.guid = guid;
	assert_int_equal(identify(&speech).model, PI_NEW_UNKNOWN);
}

/* DHCP_OPTION97=0: the serial four times, from a board whose MAC does not go with it. */
static void eeprom_with_serial_only(void **state)
{
	struct speech speech = eeprom_4;

	(void)state;
	speech.guid = guid_3b_plus;
	assert_int_equal(identify(&speech).model, PI_NEW_UNKNOWN);
	assert_int_equal(identify(&speech).serial, 0xb66c4c16);
	/* The same numbers with the ROM's transaction: an old board with a MAC set by hand. */
	speech.xid = PI_ROM_XID;
	assert_int_equal(identify(&speech).model, PI_OLD_UNKNOWN);
	/* And with nothing else that speaks for a Pi. */
	speech.xid = 1;
	speech.list = NULL;
	assert_int_equal(identify(&speech).model, PI_NONE);
}

static void rom_without_guid(void **state)
{
	struct speech speech = rom_3b;

	(void)state;
	speech.guid = NULL;
	assert_int_equal(identify(&speech).model, PI_OLD_UNKNOWN);
	assert_true(identify(&speech).rom);
	speech.list = loader_list, speech.list_bytes = sizeof(loader_list);
	assert_true(identify(&speech).bootcode);
	/* The transaction id alone may be chance, */
	speech.list = NULL;
	assert_int_equal(identify(&speech).model, PI_NONE);
	/* the list alone is any bootloader's. */
	speech.list = rom_list, speech.list_bytes = sizeof(rom_list);
	speech.xid++;
	assert_int_equal(identify(&speech).model, PI_NONE);
}

/* One thing of a true Pi's message made otherwise; none of these is a Pi that wants to boot. */
static void no_pi(void **state)
{
	static const uint8_t zeros[17],
		ones[17] = {0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	static const uint8_t typed[17] = {1, 0x52, 0x50, 0x69, 0x34};
	static const uint8_t mac_zero[6] = {0xb8, 0x27, 0xeb, 0, 0, 0};
	static const uint8_t mac_ones[6] = {0xb8, 0x27, 0xeb, 0xff, 0xff, 0xff};
	static const uint8_t no_digit[17] = {0, 'R', 'P', 'i', 'x'};
	static const uint8_t other_list[12] = {43,  60,  67,  128, 129, 130,
					       131, 132, 133, 134, 135, 43};
	static const uint8_t other_14[14] = {1,   43,  60,  66,  67,  128, 129,
					     130, 131, 132, 133, 134, 135, 6};
	struct speech rows[16];
	unsigned count = 0;

	(void)state;
#define ROW(base, change)               \
	do {                            \
		struct speech s = base; \
		change;                 \
		rows[count++] = s;      \
	} while (0)
	ROW(eeprom_4, s.class = NULL);
	ROW(eeprom_4, s.class = "PXEClien");
	ROW(eeprom_4, s.class = "HTTPClient:Arch:00000");
	ROW(eeprom_4, s.architecture = false);
	ROW(eeprom_4, s.architecture_is = 11);
	ROW(eeprom_4, s.guid = typed);
	ROW(eeprom_4, s.guid = no_digit);
	ROW(eeprom_4, s.guid = guid_pc); /* a Pi's MAC and list */
	ROW(eeprom_4, s.guid = zeros; s.mac = mac_zero);
	ROW(eeprom_4, s.guid = ones; s.mac = mac_ones);
	ROW(eeprom_4, s.guid = NULL);
	ROW(rom_3b, s.guid = NULL; s.list = other_list; s.list_bytes = sizeof(other_list));
	ROW(rom_3b, s.guid = NULL; s.list = other_14; s.list_bytes = sizeof(other_14));
	ROW(rom_3b, s.class = NULL);
	ROW(rom_3b_plus, s.xid = 5; s.mac = mac_pc);
	ROW(pxe_pc, s.mac = mac_4);
#undef ROW
	for (unsigned i = 0; i < count; i++) {
		struct pi_identity pi = identify(&rows[i]);

		assert_int_equal(pi.model, PI_NONE);
		assert_false(pi.rom || pi.bootcode || pi.has_serial);
	}
}

static void others(void **state)
{
	struct speech speech = pxe_pc;
	uint8_t data[LIMIT_DHCP_PACKET_BYTES];
	struct dhcp_packet packet;

	(void)state;
	assert_int_equal(dhcp_parse(data, speech_write(&speech, data), &packet), 0);
	assert_true(pxe_client(&packet));
	assert_false(pxe_is_ipxe(&packet));
	assert_int_equal(pxe_architecture(&packet), 7);
	speech.user_class = "iPXE";
	assert_int_equal(dhcp_parse(data, speech_write(&speech, data), &packet), 0);
	assert_true(pxe_is_ipxe(&packet));
	speech.user_class = "\4iPXE";
	assert_int_equal(dhcp_parse(data, speech_write(&speech, data), &packet), 0);
	assert_true(pxe_is_ipxe(&packet));
	speech.architecture = false;
	assert_int_equal(dhcp_parse(data, speech_write(&speech, data), &packet), 0);
	assert_int_equal(pxe_architecture(&packet), 0xffff);
}

static void texts(void **state)
{
	char text[PI_IDENTITY_TEXT_BYTES];
	struct pi_identity pi = identify(&eeprom_4);

	(void)state;
	assert_string_equal(pi_identity_text(&pi, text),
			    "Raspberry Pi 4 dc:a6:32:2e:f8:ed, serial 5b154510");
	pi = identify(&rom_3b);
	assert_string_equal(pi_identity_text(&pi, text), "Raspberry Pi 3B b8:27:eb:12:34:56");
	assert_string_equal(pi_revision_text(0xc03130), "Raspberry Pi 400");
	assert_null(pi_revision_text(0x000e)); /* an old-style code */
	assert_null(pi_revision_text(0xffffff));
	assert_int_equal(pi_model_of_revision(0xa020d3), PI_3B_PLUS);
	assert_int_equal(pi_model_of_revision(0xa02082), PI_3B);
	assert_int_equal(pi_model_of_revision(0xc04170), PI_5);
	assert_int_equal(pi_model_of_revision(0), PI_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boards),
		cmocka_unit_test(letters_in_either_order),
		cmocka_unit_test(newer_board_than_known),
		cmocka_unit_test(eeprom_with_serial_only),
		cmocka_unit_test(rom_without_guid),
		cmocka_unit_test(no_pi),
		cmocka_unit_test(others),
		cmocka_unit_test(texts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
