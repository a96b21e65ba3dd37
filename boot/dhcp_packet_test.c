/*
 * DHCP messages: what is well formed, that nothing else passes, and what is built.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dhcp_packet.h"
#include "dhcp_test_world.h"

/* A header with these options, `file` and `sname`; in an allocation of its own. */
static int parse(const void *options, size_t bytes, const char *file, size_t file_bytes,
		 const char *sname, size_t sname_bytes, struct dhcp_packet *ret)
{
	struct dhcp_wire wire = {.head = {.op = 1, .htype = 1, .hlen = 6},
				 .cookie = {99, 130, 83, 99}};
	uint8_t *copy = malloc(sizeof(wire) + bytes);
	int res;

	assert_non_null(copy);
	memcpy(wire.file, file, file_bytes);
	memcpy(wire.sname, sname, sname_bytes);
	memcpy(copy, &wire, sizeof(wire));
	memcpy(copy + sizeof(wire), options, bytes);
	res = dhcp_parse(copy, sizeof(wire) + bytes, ret);
	free(copy);
	return res;
}

#define LITERAL(s) s, sizeof(s) - 1

static void options(void **state)
{
	static const struct {
		const char *options;
		size_t bytes;
		int res;
	} rows[] = {
		{LITERAL(""), -ENOMSG},
		{LITERAL("\xff"), -ENOMSG},
		{LITERAL("\0\0\0\0"), -ENOMSG},
		{LITERAL("\x35\1\1\xff"), 0},
		{LITERAL("\x35\1\1"), 0}, /* the end is the end */
		{LITERAL("\0\0\x35\1\1\0\0\xff\0\0"), 0},
		{LITERAL("\x35\1\1\xff\x0c\xff"), 0}, /* nothing counts after the end */
		{LITERAL("\xff\x35\1\1"), -ENOMSG},
		{LITERAL("\x35"), -EBADMSG},
		{LITERAL("\x35\1"), -EBADMSG},
		{LITERAL("\x35\2\1"), -EBADMSG},
		{LITERAL("\x35\0"), -EBADMSG},
		{LITERAL("\x35\1\0"), -EBADMSG},
		{LITERAL("\x35\1\x09"), -EBADMSG},
		{LITERAL("\x35\2\1\1\xff"), -EBADMSG},
		{LITERAL("\x35\1\1\x35\1\1\xff"), -EBADMSG}, /* joined: two bytes */
		{LITERAL("\x35\1\1\x0c\5pi-0\xff"), 0},
		{LITERAL("\x35\1\1\x0c\6pi-0\xff"), -EBADMSG},
		{LITERAL("\x35\1\1\x0c\xff\xff"), -EBADMSG},
		{LITERAL("\x35\1\1\x34\1\0\xff"), -EBADMSG},
		{LITERAL("\x35\1\1\x34\1\4\xff"), -EBADMSG},
		{LITERAL("\x35\1\1\x34\2\1\1\xff"), -EBADMSG},
		{LITERAL("\x35\1\1\x34\0\xff"), -EBADMSG},
		{LITERAL("\x35\1\1\x34\1\3\xff"), 0},
	};
	struct dhcp_packet packet;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		assert_int_equal(parse(rows[i].options, rows[i].bytes, "", 0, "", 0, &packet),
				 rows[i].res);
}

static void sizes(void **state)
{
	uint8_t data[LIMIT_DHCP_PACKET_BYTES + 1] = {0};
	struct dhcp_packet packet;
	size_t bytes = speech_write(&eeprom_4, data);

	(void)state;
	for (size_t i = 0; i < bytes; i++) {
		uint8_t *copy = malloc(i ? i : 1);
		int res;

		memcpy(copy, data, i);
		res = dhcp_parse(copy, i, &packet);
		assert_true(i < 240 ? res == -EMSGSIZE
				    : res == 0 || res == -EBADMSG || res == -ENOMSG);
		free(copy);
	}
	assert_int_equal(dhcp_parse(data, bytes, &packet), 0);
	assert_int_equal(dhcp_parse(data, LIMIT_DHCP_PACKET_BYTES, &packet), 0);
	assert_int_equal(dhcp_parse(data, LIMIT_DHCP_PACKET_BYTES + 1, &packet), -EMSGSIZE);
	data[1] = 6;
	assert_int_equal(dhcp_parse(data, bytes, &packet), -EPROTONOSUPPORT);
	data[1] = 1, data[2] = 16;
	assert_int_equal(dhcp_parse(data, bytes, &packet), -EPROTONOSUPPORT);
	data[2] = 6, data[0] = 3;
	assert_int_equal(dhcp_parse(data, bytes, &packet), -EBADMSG);
	data[0] = 1, data[239] ^= 1;
	assert_int_equal(dhcp_parse(data, bytes, &packet), -ENOMSG);
}

/* RFC 3396: pieces of one option, also over the fixed fields, in this order: options, file, sname.
 */
static void pieces_are_joined(void **state)
{
	struct dhcp_packet packet;
	const uint8_t *value;
	size_t bytes;

	(void)state;
	assert_int_equal(parse(LITERAL("\x35\1\1\x2b\2ab\x0c\1x\x2b\1c\x34\1\3\xff"),
			       LITERAL("\x2b\1d\xff"), LITERAL("\x2b\2ef\0\xff"), &packet),
			 0);
	value = dhcp_get(&packet, DHCP_OPT_VENDOR, &bytes);
	assert_non_null(value);
	assert_int_equal(bytes, 6);
	assert_memory_equal(value, "abcdef", 6);
	/* Without option 52 the fields are names. */
	assert_int_equal(
		parse(LITERAL("\x35\1\1\x2b\2ab\xff"), LITERAL("\x2b\1d\xff"), "", 0, &packet), 0);
	assert_non_null(dhcp_get(&packet, DHCP_OPT_VENDOR, &bytes));
	assert_int_equal(bytes, 2);
	/* One field only. */
	assert_int_equal(parse(LITERAL("\x35\1\1\x34\1\2\xff"), LITERAL("\x2b\1d\xff"),
			       LITERAL("\x2b\2ef\xff"), &packet),
			 0);
	assert_non_null(dhcp_get(&packet, DHCP_OPT_VENDOR, &bytes));
	assert_int_equal(bytes, 2);
	/* An option that runs out of a field; the message type in one. */
	assert_int_equal(
		parse(LITERAL("\x35\1\1\x34\1\2\xff"), "", 0, LITERAL("\x2b\xff"), &packet),
		-EBADMSG);
	assert_int_equal(parse(LITERAL("\x34\1\1\xff"), LITERAL("\x35\1\3\xff"), "", 0, &packet),
			 0);
	assert_int_equal(packet.type, DHCP_MSG_REQUEST);
	/* An empty option is there. */
	assert_int_equal(parse(LITERAL("\x35\1\1\x50\0\xff"), "", 0, "", 0, &packet), 0);
	assert_non_null(dhcp_get(&packet, (enum dhcp_option)80, &bytes));
	assert_int_equal(bytes, 0);
}

static void names(void **state)
{
	static const struct {
		const char *option;
		size_t bytes;
		const char *name;
	} rows[] = {
		{LITERAL("\x35\1\1\x0c\5pi-07\xff"), "pi-07"},
		{LITERAL("\x35\1\1\x0c\6pi-07\0\xff"), "pi-07"},
		{LITERAL("\x35\1\1\x0c\5-bad!\xff"), ""},
		{LITERAL("\x35\1\1\x0c\7ok\nrest\xff"), "ok"},
		{LITERAL("\x35\1\1\x0c\x0a"
			 "abcdefghij\xff"),
		 "abcdefg"},
		{LITERAL("\x35\1\1\x0c\0\xff"), ""},
		{LITERAL("\x35\1\1\xff"), ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct dhcp_packet packet;
		char name[8];

		assert_int_equal(parse(rows[i].option, rows[i].bytes, "", 0, "", 0, &packet), 0);
		dhcp_get_name(&packet, DHCP_OPT_HOSTNAME, name, sizeof(name));
		assert_string_equal(name, rows[i].name);
	}
}

static void reply_keeps_to_its_room(void **state)
{
	struct dhcp_request request = {.reply_bytes_max = LIMIT_DHCP_REPLY_BYTES_MIN};
	struct dhcp_reply reply;
	uint8_t big[256] = {0};
	size_t bytes;

	(void)state;
	request.head.htype = 1, request.head.hlen = 6;
	dhcp_reply_begin(&reply, &request, DHCP_MSG_OFFER);
	assert_false(dhcp_put(&reply, DHCP_OPT_DOMAIN, big, 256));
	assert_true(dhcp_put(&reply, DHCP_OPT_DOMAIN, big, 255));
	/* 308 bytes in all: 3 + 257 are taken, one is kept for the end. */
	assert_false(dhcp_put(&reply, DHCP_OPT_HOSTNAME, big, 46));
	assert_true(dhcp_put(&reply, DHCP_OPT_HOSTNAME, big, 45));
	assert_false(dhcp_put(&reply, DHCP_OPT_TEXT, big, 0));
	bytes = dhcp_reply_end(&reply);
	assert_int_equal(bytes, LIMIT_DHCP_REPLY_BYTES_MIN);
	assert_int_equal(((uint8_t *)&reply.wire)[bytes - 1], 255);
	/* A short one is BOOTP's 300. */
	dhcp_reply_begin(&reply, &request, DHCP_MSG_NAK);
	assert_int_equal(dhcp_reply_end(&reply), 300);
}

static void reply_room_is_the_clients(void **state)
{
	static const struct {
		uint16_t says;
		size_t bytes;
	} rows[] = {{0, 548},     {1, 548},     {575, 548},   {577, 549},
		    {1260, 1232}, {1500, 1472}, {65535, 1472}};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct speech speech = eeprom_4;
		uint8_t data[LIMIT_DHCP_PACKET_BYTES];
		struct dhcp_packet packet;

		speech.max_bytes = rows[i].says;
		assert_int_equal(dhcp_parse(data, speech_write(&speech, data), &packet), 0);
		assert_int_equal(dhcp_request_of(&packet).reply_bytes_max, rows[i].bytes);
	}
}

static uint16_t sum16(const uint8_t *data, size_t bytes, uint32_t sum)
{
	for (size_t i = 0; i < bytes; i++)
		sum += i % 2 ? data[i] : (unsigned)data[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

static void frames(void **state)
{
	static const uint8_t text[] = "an odd number of bytes..";
	struct dhcp_datagram in = {.from = address("192.168.1.10"),
				   .to = address("255.255.255.255"),
				   .from_port = 67,
				   .to_port = 68,
				   .data = text,
				   .bytes = sizeof(text)};
	struct dhcp_datagram out;
	uint8_t frame[256];
	size_t bytes = dhcp_frame_build(&in, frame, sizeof(frame));

	(void)state;
	assert_int_equal(bytes, 28 + sizeof(text));
	assert_int_equal(sum16(frame, 20, 0), 0xffff);
	assert_int_equal(sum16(frame + 12, bytes - 12, (uint32_t)(17 + bytes - 20)), 0xffff);
	assert_int_equal(dhcp_frame_parse(frame, sizeof(frame), &out), 0); /* padded */
	assert_int_equal(out.from.s_addr, in.from.s_addr);
	assert_int_equal(out.to.s_addr, in.to.s_addr);
	assert_int_equal(out.from_port, 67);
	assert_int_equal(out.to_port, 68);
	assert_int_equal(out.bytes, sizeof(text));
	assert_memory_equal(out.data, text, sizeof(text));
	assert_int_equal(dhcp_frame_build(&in, frame, bytes - 1), 0);
	for (size_t i = 0; i < bytes; i++) {
		uint8_t *copy = malloc(i ? i : 1);

		memcpy(copy, frame, i);
		assert_int_equal(dhcp_frame_parse(copy, i, &out), -EBADMSG);
		free(copy);
	}
	/* What no datagram of ours may be: version, header length, fragment, protocol, UDP length.
	 */
	for (unsigned i = 0; i < 7; i++) {
		static const struct {
			uint8_t at, is;
		} bad[] = {{0, 0x65}, {0, 0x44}, {0, 0x4f}, {6, 0x20}, {7, 1}, {9, 6}, {25, 7}};
		uint8_t saved = frame[bad[i].at];

		frame[bad[i].at] = bad[i].is;
		assert_int_equal(dhcp_frame_parse(frame, bytes, &out), -EBADMSG);
		frame[bad[i].at] = saved;
	}
	assert_int_equal(dhcp_frame_parse(frame, bytes, &out), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options),
		cmocka_unit_test(sizes),
		cmocka_unit_test(pieces_are_joined),
		cmocka_unit_test(names),
		cmocka_unit_test(reply_keeps_to_its_room),
		cmocka_unit_test(reply_room_is_the_clients),
		cmocka_unit_test(frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
