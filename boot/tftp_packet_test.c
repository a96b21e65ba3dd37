/*
 * TFTP packets: requests as boot loaders send them, requests that are none, and what is answered.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "boot/tftp_packet.h"

#define PACKET(text) (const uint8_t *)(text), sizeof(text) - 1

static void requests_of_boot_loaders(void **state)
{
	static const struct {
		const char *packet;
		size_t bytes;
		const char *path;
		bool netascii;
		struct tftp_options options;
	} cases[] = {
#define CASE(packet, ...) {packet, sizeof(packet) - 1, __VA_ARGS__}
		/* 3B's ROM */
		CASE("\0\1bootcode.bin\0octet\0", "bootcode.bin", false, {0}),
		/* bootcode.bin and start.elf */
		CASE("\0\1b66c4c16/start.elf\0octet\0tsize\0"
		     "0\0",
		     "b66c4c16/start.elf", false, {.tsize = true}),
		/* EEPROM */
		CASE("\0\1/S/config.txt\0OCTET\0TSIZE\0"
		     "0\0BlkSize\0"
		     "1468\0",
		     "S/config.txt", false, {.tsize = true, .block_bytes = 1468}),
		/* iPXE, EDK2, atftp */
		CASE("\0\1k\0octet\0blksize\0"
		     "1432\0tsize\0"
		     "0\0multicast\0\0windowsize\0"
		     "4\0",
		     "k", false, {.tsize = true, .block_bytes = 1432, .window_blocks = 4}),
		CASE("\0\1k\0octet\0timeout\0"
		     "5\0",
		     "k", false, {.timeout_s = 5}),
		CASE("\0\1a\\b\0NetASCII\0", "a/b", true, {0}),
		/* what is out of range is not asked for */
		CASE("\0\1k\0octet\0blksize\0"
		     "7\0windowsize\0"
		     "0\0timeout\0"
		     "256\0",
		     "k", false, {0}),
		CASE("\0\1k\0octet\0blksize\0"
		     "65465\0windowsize\0"
		     "65536\0timeout\0"
		     "0\0",
		     "k", false, {0}),
		CASE("\0\1k\0octet\0blksize\0"
		     "8\0windowsize\0"
		     "65535\0timeout\0"
		     "255\0",
		     "k", false, {.block_bytes = 8, .window_blocks = 65535, .timeout_s = 255}),
		CASE("\0\1k\0octet\0blksize\0-512\0windowsize\0 4\0timeout\0"
		     "1s\0",
		     "k", false, {0}),
		CASE("\0\1k\0octet\0blksize\0"
		     "99999999999999999999\0",
		     "k", false, {0}),
		CASE("\0\1k\0octet\0blksize\0\0", "k", false, {0}),
		/* cut off */
		CASE("\0\1k\0octet\0tsize", "k", false, {0}),
		CASE("\0\1k\0octet\0tsize\0"
		     "0",
		     "k", false, {0}),
		CASE("\0\1k\0octet\0tsize\0"
		     "0\0blksize\0"
		     "51",
		     "k", false, {.tsize = true}),
		CASE("\0\1k\0octet\0\0\0\0\0\0\0", "k", false, {0}),
#undef CASE
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct tftp_request request;

		assert_int_equal(tftp_request_parse((const uint8_t *)cases[i].packet,
						    cases[i].bytes, &request),
				 0);
		assert_false(request.write);
		assert_string_equal(request.path, cases[i].path);
		assert_int_equal(request.netascii, cases[i].netascii);
		assert_int_equal(request.options.tsize, cases[i].options.tsize);
		assert_int_equal(request.options.block_bytes, cases[i].options.block_bytes);
		assert_int_equal(request.options.window_blocks, cases[i].options.window_blocks);
		assert_int_equal(request.options.timeout_s, cases[i].options.timeout_s);
	}
}

static void requests_that_are_none(void **state)
{
	static const struct {
		const char *packet;
		size_t bytes;
		int result;
	} cases[] = {
#define CASE(packet, result) {packet, sizeof(packet) - 1, result}
		CASE("", -EBADMSG),
		CASE("\0", -EBADMSG),
		CASE("\0\1", -EBADMSG),
		CASE("\0\1\0", -EBADMSG),
		CASE("\0\1name", -EBADMSG),
		CASE("\0\1name\0", -EBADMSG),
		CASE("\0\1name\0octet", -EBADMSG),
		CASE("\0\3name\0octet\0", -EBADMSG),
		CASE("\0\0name\0octet\0", -EBADMSG),
		CASE("\1\1name\0octet\0", -EBADMSG),
		CASE("\0\1name\0mail\0", -EPROTO),
		CASE("\0\1name\0\0", -EPROTO),
		CASE("\0\1\0octet\0", -ENOENT),
		CASE("\0\1../x\0octet\0", -EACCES),
		CASE("\0\1..\\x\0octet\0", -EACCES),
		CASE("\0\1x\ny\0octet\0", -EINVAL),
#undef CASE
	};
	uint8_t large[LIMIT_TFTP_REQUEST_BYTES + 1] = "\0\1k\0octet";
	struct tftp_request request;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
		assert_int_equal(tftp_request_parse((const uint8_t *)cases[i].packet,
						    cases[i].bytes, &request),
				 cases[i].result);
	assert_int_equal(tftp_request_parse(large, sizeof(large), &request), -EBADMSG);
	assert_int_equal(tftp_request_parse(large, sizeof(large) - 1, &request), 0);
	assert_int_equal(tftp_request_parse(PACKET("\0\2k\0octet\0"), &request), 0);
	assert_true(request.write);
}

static void acks_and_errors(void **state)
{
	char text[TFTP_ERROR_TEXT_BYTES];
	uint8_t long_one[600] = "\0\5\0\0";
	uint16_t block = 1;

	(void)state;
	assert_true(tftp_ack_parse(PACKET("\0\4\xff\xfe"), &block));
	assert_int_equal(block, 0xfffe);
	assert_true(tftp_ack_parse(PACKET("\0\4\0\1padding"), &block));
	assert_int_equal(block, 1);
	assert_false(tftp_ack_parse(PACKET("\0\4\0"), &block));
	assert_false(tftp_ack_parse(PACKET("\0\5\0\0"), &block));
	assert_true(tftp_error_parse(PACKET("\0\5\0\0Early terminate\0"), text));
	assert_string_equal(text, "Early terminate");
	assert_true(tftp_error_parse(PACKET("\0\5\0\0no end"), text));
	assert_string_equal(text, "no end");
	assert_true(tftp_error_parse(PACKET("\0\5\0\0"), text));
	assert_string_equal(text, "");
	assert_true(tftp_error_parse(PACKET("\0\5\0\0\x1b[2J\0"), text));
	assert_string_equal(text, "");
	memset(long_one + 4, 'x', sizeof(long_one) - 4);
	assert_true(tftp_error_parse(long_one, sizeof(long_one), text));
	assert_int_equal(strlen(text), TFTP_ERROR_TEXT_BYTES - 1);
	assert_false(tftp_error_parse(PACKET("\0\4\0\0"), text));
}

static void answers(void **state)
{
	static const struct tftp_options all = {true, 1468, 64, 255}, size = {.tsize = true};
	uint8_t packet[TFTP_PACKET_BYTES];
	char text[400];

	(void)state;
	assert_int_equal(tftp_error_write(packet, TFTP_ERROR_NOT_FOUND, "no such file"), 17);
	assert_memory_equal(packet, "\0\5\0\1no such file\0", 17);
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(tftp_error_write(packet, TFTP_ERROR_OTHER, text),
			 TFTP_HEADER_BYTES + TFTP_ERROR_TEXT_BYTES);
	assert_int_equal(packet[TFTP_HEADER_BYTES + TFTP_ERROR_TEXT_BYTES - 1], 0);
	assert_int_equal(tftp_oack_write(packet, &size, 0), 10);
	assert_memory_equal(packet,
			    "\0\6tsize\0"
			    "0\0",
			    10);
	assert_int_equal(tftp_oack_write(packet, &all, UINT64_MAX), 68);
	assert_memory_equal(packet,
			    "\0\6tsize\0"
			    "18446744073709551615\0blksize\0"
			    "1468\0timeout\0"
			    "255\0"
			    "windowsize\0"
			    "64\0",
			    68);
	tftp_data_header(packet, 0xabcd);
	assert_memory_equal(packet, "\0\3\xab\xcd", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_of_boot_loaders),
		cmocka_unit_test(requests_that_are_none),
		cmocka_unit_test(acks_and_errors),
		cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests_name("tftp_packet", tests, NULL, NULL);
}
