/*
 * One transfer with a clock of the test's own: blocks, windows, lost packets, counters that wrap,
 * when it sends again and when it gives up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/cleanup.h"
#include "boot/tftp_transfer.h"

#define PAYLOAD 1468

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset ^ offset >> 8 ^ offset >> 16 ^ 0x5a);
}

static struct blob *file_of(size_t bytes)
{
	uint8_t *data = malloc(bytes + 1);

	assert_non_null(data);
	for (size_t i = 0; i < bytes; i++)
		data[i] = byte_at(i);
	return blob_new(data, bytes);
}

static void begin(struct tftp_transfer *transfer, size_t bytes, struct tftp_options options)
{
	struct blob *blob = file_of(bytes);

	tftp_transfer_init(transfer, blob, &options, PAYLOAD, 0);
	blob_unref(blob);
}

/* Sends what is due; how many packets, and the blocks of the first and last. */
static unsigned send(struct tftp_transfer *transfer, uint64_t now, uint16_t *ret_first,
		     uint16_t *ret_last)
{
	uint8_t packet[TFTP_PACKET_BYTES];
	unsigned count = 0;

	while (tftp_transfer_packet(transfer, packet) > 0) {
		*ret_last = get_be16(packet) == TFTP_OACK ? 0 : get_be16(packet + 2);
		if (count++ == 0)
			*ret_first = *ret_last;
	}
	tftp_transfer_sent(transfer, 0, now);
	return count;
}

/* A client that gets all: what it has in the end must be the file. */
static void fetch(size_t bytes, struct tftp_options options, unsigned payload)
{
	struct blob *blob = file_of(bytes);
	struct tftp_transfer transfer;
	uint8_t packet[TFTP_PACKET_BYTES];
	uint64_t got = 0, block = 1;
	size_t length, data = 0;
	enum tftp_step step = TFTP_STEP_SEND;

	tftp_transfer_init(&transfer, blob, &options, payload, 0);
	blob_unref(blob);
	assert_true(transfer.block_bytes <= payload);
	while (step == TFTP_STEP_SEND) {
		unsigned in_window = 0;

		while ((length = tftp_transfer_packet(&transfer, packet)) > 0) {
			if (get_be16(packet) == TFTP_OACK) {
				assert_int_equal(block, 1);
				block = 0;
				in_window++;
				break;
			}
			assert_int_equal(get_be16(packet), TFTP_DATA);
			assert_int_equal(get_be16(packet + 2), (uint16_t)block);
			data = length - TFTP_HEADER_BYTES;
			assert_true(data <= transfer.block_bytes);
			for (size_t i = 0; i < data; i++) {
				if (packet[TFTP_HEADER_BYTES + i] != byte_at(got + i))
					fail_msg("wrong byte at %zu", (size_t)got + i);
			}
			got += data;
			block++;
			in_window++;
		}
		assert_in_range(in_window, 1, transfer.window_blocks);
		tftp_transfer_sent(&transfer, 0, 0);
		assert_int_equal(tftp_transfer_packet(&transfer, packet), 0);
		step = tftp_transfer_ack(&transfer, (uint16_t)(block == 0 ? 0 : block - 1), 0);
		if (block == 0)
			block = 1;
		assert_int_equal(tftp_transfer_bytes(&transfer), got);
	}
	assert_int_equal(step, TFTP_STEP_DONE);
	assert_int_equal(got, bytes);
	assert_true(data < transfer.block_bytes); /* a short one at the end */
	tftp_transfer_done(&transfer);
}

static void files_of_all_sizes_arrive(void **state)
{
	static const size_t sizes[] = {0, 1, 511, 512, 513, 1024, 1467, 1468, 1469, 100000};
	static const struct tftp_options options[] = {
		{0},
		{.tsize = true},
		{.block_bytes = 8},
		{.tsize = true, .block_bytes = 1468},
		{.block_bytes = 65464, .window_blocks = 65535},
		{.window_blocks = 1},
		{.window_blocks = 4, .timeout_s = 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
		for (size_t j = 0; j < ARRAY_COUNT(options); j++)
			fetch(sizes[i], options[j], PAYLOAD);
	}
}

static void the_block_counter_wraps_to_zero(void **state)
{
	(void)state;
	/* More than 65,536 blocks, twice; a whole number of blocks; inside a window. */
	fetch(8 * 65536 * 2 + 5, (struct tftp_options){.block_bytes = 8}, PAYLOAD);
	fetch(8 * 65536, (struct tftp_options){.block_bytes = 8, .window_blocks = 7}, PAYLOAD);
	fetch(512 * 65540, (struct tftp_options){0}, PAYLOAD);
	fetch(8 * 65535 - 1, (struct tftp_options){.block_bytes = 8, .window_blocks = 64}, PAYLOAD);
}

static void options_are_granted_as_asked(void **state)
{
	static const struct {
		struct tftp_options asked, granted;
		unsigned payload, block_bytes, window_blocks, first;
	} cases[] = {
		{{0}, {0}, PAYLOAD, 512, 1, 1},
		{{.tsize = true}, {.tsize = true}, PAYLOAD, 512, 1, 0},
		{{.block_bytes = 65464}, {.block_bytes = 1468}, 65000, 1468, 1, 0},
		{{.block_bytes = 1468}, {.block_bytes = 1300}, 1300, 1300, 1, 0},
		{{.block_bytes = 8}, {.block_bytes = 8}, PAYLOAD, 8, 1, 0},
		{{.window_blocks = 65535}, {.window_blocks = 64}, PAYLOAD, 512, 64, 0},
		{{.window_blocks = 1}, {.window_blocks = 1}, PAYLOAD, 512, 1, 0},
		{{.timeout_s = 255}, {.timeout_s = 255}, PAYLOAD, 512, 1, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
		struct blob *blob = file_of(3000);
		struct tftp_transfer transfer;

		tftp_transfer_init(&transfer, blob, &cases[i].asked, cases[i].payload, 0);
		blob_unref(blob);
		assert_int_equal(transfer.granted.tsize, cases[i].granted.tsize);
		assert_int_equal(transfer.granted.block_bytes, cases[i].granted.block_bytes);
		assert_int_equal(transfer.granted.window_blocks, cases[i].granted.window_blocks);
		assert_int_equal(transfer.granted.timeout_s, cases[i].granted.timeout_s);
		assert_int_equal(transfer.block_bytes, cases[i].block_bytes);
		assert_int_equal(transfer.window_blocks, cases[i].window_blocks);
		assert_int_equal(transfer.first, cases[i].first);
		tftp_transfer_done(&transfer);
	}
}

/* Every duplicate answered by a packet would double all that follow (RFC 1123, 4.2.3.1). */
static void no_sorcerers_apprentice(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;
	uint64_t due;

	(void)state;
	begin(&t, 5000, (struct tftp_options){0});
	assert_int_equal(send(&t, 0, &first, &last), 1);
	assert_int_equal(tftp_transfer_ack(&t, 1, 10), TFTP_STEP_SEND);
	assert_int_equal(send(&t, 10, &first, &last), 1);
	assert_int_equal(first, 2);
	due = t.deadline_ms;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(tftp_transfer_ack(&t, 1, 20), TFTP_STEP_WAIT);
	assert_int_equal(tftp_transfer_ack(&t, 0, 20), TFTP_STEP_WAIT);
	assert_int_equal(tftp_transfer_ack(&t, 3, 20), TFTP_STEP_WAIT); /* not sent yet */
	assert_int_equal(tftp_transfer_ack(&t, 65535, 20), TFTP_STEP_WAIT);
	assert_int_equal(t.deadline_ms, due);
	assert_int_equal(t.heard_ms, 10);
	assert_int_equal(tftp_transfer_ack(&t, 2, 30), TFTP_STEP_SEND);
	tftp_transfer_done(&t);
}

static void it_sends_again_soon_and_gives_up_late(void **state)
{
	static const unsigned due[] = {100, 250, 450, 700, 1000, 1350};
	struct tftp_transfer t;
	uint16_t first, last;
	uint64_t now = 0;
	unsigned count = 0;
	enum tftp_step step;

	(void)state;
	begin(&t, 5000, (struct tftp_options){.tsize = true});
	assert_int_equal(send(&t, 0, &first, &last), 1);
	while ((step = tftp_transfer_timeout(&t, t.deadline_ms)) == TFTP_STEP_SEND) {
		assert_int_equal(tftp_transfer_timeout(&t, t.deadline_ms - 1), TFTP_STEP_WAIT);
		now = t.deadline_ms;
		if (count < ARRAY_COUNT(due))
			assert_int_equal(now, due[count]);
		assert_int_equal(send(&t, now, &first, &last), 1);
		assert_int_equal(first, 0);
		count++;
	}
	assert_int_equal(step, TFTP_STEP_LOST);
	assert_in_range(now, 10000, LIMIT_TFTP_SILENCE_MS);
	assert_int_equal(t.retries, count);
	tftp_transfer_done(&t);

	/* An ACK makes it quick again. */
	begin(&t, 5000, (struct tftp_options){0});
	send(&t, 0, &first, &last);
	for (now = 0; now < 5000; now = t.deadline_ms) {
		(void)tftp_transfer_timeout(&t, now);
		send(&t, now, &first, &last);
	}
	assert_int_equal(tftp_transfer_ack(&t, 1, now), TFTP_STEP_SEND);
	send(&t, now, &first, &last);
	assert_in_range(t.deadline_ms, now + 20, now + 50);
	assert_int_equal(tftp_transfer_timeout(&t, now + LIMIT_TFTP_SILENCE_MS - 1),
			 TFTP_STEP_SEND);
	assert_int_equal(tftp_transfer_timeout(&t, now + LIMIT_TFTP_SILENCE_MS), TFTP_STEP_LOST);
	tftp_transfer_done(&t);
}

static void a_crowd_is_given_time(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;
	uint64_t now = 0;

	(void)state;
	begin(&t, 100000, (struct tftp_options){0});
	send(&t, 0, &first, &last);
	for (uint16_t block = 1; block < 60; block++) { /* each answer takes 600 ms */
		uint64_t answer = now + 600;
		unsigned again = 0;

		for (; t.deadline_ms < answer; again++) {
			now = t.deadline_ms;
			assert_int_equal(tftp_transfer_timeout(&t, now), TFTP_STEP_SEND);
			send(&t, now, &first, &last);
		}
		now = answer;
		assert_int_equal(tftp_transfer_ack(&t, block, now), TFTP_STEP_SEND);
		send(&t, now, &first, &last);
		for (; again > 0; again--) /* it answers each, though nobody needs it */
			assert_int_equal(tftp_transfer_ack(&t, block, now), TFTP_STEP_WAIT);
	}
	assert_in_range(t.deadline_ms - now, 1000, 1200);
	assert_in_range(t.retries, 4, 40);               /* at the beginning only */
	for (uint16_t block = 60; block < 90; block++) { /* the crowd has gone */
		assert_int_equal(tftp_transfer_ack(&t, block, ++now), TFTP_STEP_SEND);
		send(&t, now, &first, &last);
	}
	assert_in_range(t.deadline_ms - now, 25, 100);
	tftp_transfer_done(&t);
}

/* A tenth of all packets is lost in each direction: a client that answers at once is still asked
 * again at once. */
static void loss_is_no_slowness(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;
	uint64_t now = 0;

	(void)state;
	begin(&t, 1000000, (struct tftp_options){0});
	send(&t, 0, &first, &last);
	for (uint16_t block = 1; block < 1000; block++) {
		for (unsigned lost = block % 5 == 0 ? 1 + block % 3 : 0; lost > 0; lost--) {
			now = t.deadline_ms;
			assert_int_equal(tftp_transfer_timeout(&t, now), TFTP_STEP_SEND);
			send(&t, now, &first, &last);
		}
		assert_int_equal(tftp_transfer_ack(&t, block, ++now), TFTP_STEP_SEND);
		send(&t, now, &first, &last);
	}
	assert_in_range(t.deadline_ms - now, 20, 40);
	tftp_transfer_done(&t);
}

/* What bootcode.bin misses for a second is lost to it, with all of the boot. */
static void a_quick_client_gets_many_tries_within_a_second(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;
	unsigned tries = 0;

	(void)state;
	begin(&t, 100000, (struct tftp_options){0});
	send(&t, 0, &first, &last);
	for (uint16_t block = 1; block <= 10; block++) {
		assert_int_equal(tftp_transfer_ack(&t, block, block), TFTP_STEP_SEND);
		send(&t, block, &first, &last);
	}
	while (t.deadline_ms < 1010) {
		uint64_t now = t.deadline_ms;

		assert_int_equal(tftp_transfer_timeout(&t, now), TFTP_STEP_SEND);
		send(&t, now, &first, &last);
		tries++;
	}
	assert_in_range(tries, 8, 12);
	tftp_transfer_done(&t);
}

static void the_clients_timeout_is_used(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;

	(void)state;
	begin(&t, 5000, (struct tftp_options){.timeout_s = 20});
	send(&t, 0, &first, &last);
	assert_int_equal(tftp_transfer_timeout(&t, 19999), TFTP_STEP_WAIT);
	for (uint64_t now = 20000; now < 80000; now += 20000) {
		assert_int_equal(tftp_transfer_timeout(&t, now), TFTP_STEP_SEND);
		send(&t, now, &first, &last);
	}
	assert_int_equal(tftp_transfer_timeout(&t, 80000), TFTP_STEP_LOST);
	tftp_transfer_done(&t);
}

static void a_window_goes_back_to_what_was_acknowledged(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;

	(void)state;
	begin(&t, 100000, (struct tftp_options){.window_blocks = 8});
	assert_int_equal(send(&t, 0, &first, &last), 1); /* the OACK travels alone */
	assert_int_equal(tftp_transfer_ack(&t, 0, 0), TFTP_STEP_SEND);
	assert_int_equal(send(&t, 0, &first, &last), 8);
	assert_int_equal(first, 1);
	/* Block 4 is lost: the client says 3. */
	assert_int_equal(tftp_transfer_ack(&t, 3, 0), TFTP_STEP_SEND);
	assert_int_equal(send(&t, 0, &first, &last), 8);
	assert_int_equal(first, 4);
	assert_int_equal(last, 11);
	/* It says so again for each of 5 to 8 that it gets out of turn. */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(tftp_transfer_ack(&t, 3, 0), TFTP_STEP_WAIT);
	assert_int_equal(tftp_transfer_ack(&t, 11, 0), TFTP_STEP_SEND);
	assert_int_equal(send(&t, 100, &first, &last), 8);
	/* All of it is lost. */
	assert_int_equal(tftp_transfer_timeout(&t, 300), TFTP_STEP_SEND);
	assert_int_equal(send(&t, 300, &first, &last), 8);
	assert_int_equal(first, 12);
	assert_int_equal(last, 19);
	tftp_transfer_done(&t);
}

/* The kernel took only a part; meanwhile an ACK of the first try comes. */
static void an_ack_of_what_was_sent_before_going_back_counts(void **state)
{
	uint8_t packet[TFTP_PACKET_BYTES];
	struct tftp_transfer t;
	uint16_t first, last;

	(void)state;
	begin(&t, 100000, (struct tftp_options){.window_blocks = 4});
	send(&t, 0, &first, &last);
	assert_int_equal(tftp_transfer_ack(&t, 0, 0), TFTP_STEP_SEND);
	send(&t, 0, &first, &last);
	assert_int_equal(tftp_transfer_timeout(&t, 200), TFTP_STEP_SEND);
	for (unsigned i = 0; i < 4; i++)
		assert_true(tftp_transfer_packet(&t, packet) > 0);
	tftp_transfer_sent(&t, 3, 200);
	assert_int_equal(t.next, 2);
	assert_int_equal(tftp_transfer_ack(&t, 4, 210), TFTP_STEP_SEND);
	assert_int_equal(send(&t, 210, &first, &last), 4);
	assert_int_equal(first, 5);
	tftp_transfer_done(&t);
}

static void the_first_packet_goes_again_to_one_who_asks_again(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;

	(void)state;
	begin(&t, 5000, (struct tftp_options){0});
	send(&t, 0, &first, &last);
	assert_int_equal(tftp_transfer_again(&t, 2000), TFTP_STEP_SEND);
	assert_int_equal(send(&t, 2000, &first, &last), 1);
	assert_int_equal(first, 1);
	assert_int_equal(tftp_transfer_ack(&t, 1, 2001), TFTP_STEP_SEND);
	send(&t, 2001, &first, &last);
	assert_int_equal(tftp_transfer_again(&t, 2002), TFTP_STEP_WAIT); /* late, or doubled */
	assert_int_equal(tftp_transfer_ack(&t, 2, 2003), TFTP_STEP_SEND);
	tftp_transfer_done(&t);
}

static void the_end_is_known(void **state)
{
	struct tftp_transfer t;
	uint16_t first, last;

	(void)state;
	begin(&t, 1024, (struct tftp_options){0}); /* 512, 512, 0 */
	for (uint16_t block = 1; block <= 3; block++) {
		assert_false(tftp_transfer_at_end(&t));
		assert_int_equal(send(&t, 0, &first, &last), 1);
		assert_int_equal(tftp_transfer_at_end(&t), block == 3);
		assert_int_equal(tftp_transfer_ack(&t, block, 0),
				 block == 3 ? TFTP_STEP_DONE : TFTP_STEP_SEND);
	}
	assert_int_equal(tftp_transfer_bytes(&t), 1024);
	tftp_transfer_done(&t);
	begin(&t, 1024, (struct tftp_options){.window_blocks = 64});
	assert_false(tftp_transfer_at_end(&t));
	send(&t, 0, &first, &last);
	assert_false(tftp_transfer_at_end(&t));
	(void)tftp_transfer_ack(&t, 0, 0);
	assert_int_equal(send(&t, 0, &first, &last), 3);
	assert_true(tftp_transfer_at_end(&t));
	tftp_transfer_done(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_of_all_sizes_arrive),
		cmocka_unit_test(the_block_counter_wraps_to_zero),
		cmocka_unit_test(options_are_granted_as_asked),
		cmocka_unit_test(no_sorcerers_apprentice),
		cmocka_unit_test(it_sends_again_soon_and_gives_up_late),
		cmocka_unit_test(a_crowd_is_given_time),
		cmocka_unit_test(loss_is_no_slowness),
		cmocka_unit_test(a_quick_client_gets_many_tries_within_a_second),
		cmocka_unit_test(the_clients_timeout_is_used),
		cmocka_unit_test(a_window_goes_back_to_what_was_acknowledged),
		cmocka_unit_test(an_ack_of_what_was_sent_before_going_back_counts),
		cmocka_unit_test(the_first_packet_goes_again_to_one_who_asks_again),
		cmocka_unit_test(the_end_is_known),
	};

	return cmocka_run_group_tests_name("tftp_transfer", tests, NULL, NULL);
}
