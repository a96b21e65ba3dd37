/*
 * The PDU assembler, fed at every split of its bytes, with and without digests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "session/rx.h"

#define STREAM_BYTES 512

struct shape {
	const char *name;
	uint32_t ahs_bytes, data_bytes;
	bool header_digest, data_digest;
};

static const struct shape shapes[] = {
	{"header alone", 0, 0, false, false},
	{"header with digest", 0, 0, true, true},
	{"data of whole words", 0, 8, false, false},
	{"data with padding", 0, 5, false, false},
	{"one byte of data, all digests", 0, 1, true, true},
	{"data digest only", 0, 63, false, true},
	{"header digest only", 0, 64, true, false},
	{"additional header", 8, 0, false, false},
	{"additional header, data, digests", 12, 7, true, true},
};

static size_t build(const struct shape *shape, uint8_t *to)
{
	struct wire_bhs bhs = {.opcode = WIRE_OP_NOP_OUT, .flags = WIRE_FINAL};
	size_t at = WIRE_BHS_BYTES, start;

	bhs.ahs_words = (uint8_t)(shape->ahs_bytes / 4);
	be24_put(&bhs.data_bytes, shape->data_bytes);
	be32_put(&bhs.itt, 0x11223344);
	memcpy(to, &bhs, sizeof(bhs));
	for (uint32_t i = 0; i < shape->ahs_bytes; i++)
		to[at++] = (uint8_t)(0x80 + i);
	if (shape->header_digest) {
		le32_put((le32_t *)(to + at), crc32c(0, to, at));
		at += WIRE_DIGEST_BYTES;
	}
	start = at;
	for (uint32_t i = 0; i < shape->data_bytes; i++)
		to[at++] = (uint8_t)(i + 1);
	while ((at - start) % 4)
		to[at++] = 0;
	if (shape->data_digest && shape->data_bytes) {
		le32_put((le32_t *)(to + at), crc32c(0, to + start, at - start));
		at += WIRE_DIGEST_BYTES;
	}
	return at;
}

struct got {
	unsigned headers, pdus, bad_headers;
	bool digest_ok;
};

static void feed(struct rx *rx, const uint8_t *data, size_t bytes, uint8_t *to, uint32_t room,
		 struct got *got)
{
	enum rx_event event = RX_EV_PDU;

	while (event != RX_EV_MORE) {
		size_t n = rx_feed(rx, data, bytes, &event);

		assert_true(n <= bytes);
		data += n;
		bytes -= n;
		switch (event) {
		case RX_EV_MORE: assert_int_equal(bytes, 0); break;
		case RX_EV_HEADER:
			got->headers++;
			rx_data_to(rx, to, room);
			break;
		case RX_EV_PDU:
			got->pdus++;
			got->digest_ok = rx->digest_ok;
			break;
		case RX_EV_BAD_HEADER: got->bad_headers++; return;
		case RX_EV_NO_MEMORY: fail();
		}
	}
}

static void check_data(const struct shape *shape, const uint8_t *data)
{
	for (uint32_t i = 0; i < shape->data_bytes; i++)
		assert_int_equal(data[i], (uint8_t)(i + 1));
}

/* Two PDUs, cut at every place into two pieces, and once into single bytes. */
static void any_split(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
		const struct shape *shape = &shapes[i];
		uint8_t stream[STREAM_BYTES], data[128];
		size_t bytes = build(shape, stream);

		bytes += build(shape, stream + bytes);
		for (size_t cut = 0; cut <= bytes + 1; cut++) {
			struct rx rx;
			struct got got = {0};

			rx_init(&rx);
			rx.header_digest = shape->header_digest;
			rx.data_digest = shape->data_digest;
			memset(data, 0xee, sizeof(data));
			if (cut <= bytes) {
				feed(&rx, stream, cut, data, sizeof(data), &got);
				feed(&rx, stream + cut, bytes - cut, data, sizeof(data), &got);
			} else {
				for (size_t k = 0; k < bytes; k++)
					feed(&rx, stream + k, 1, data, sizeof(data), &got);
			}
			assert_int_equal(got.headers, 2);
			assert_int_equal(got.pdus, 2);
			assert_true(got.digest_ok);
			check_data(shape, data);
			assert_int_equal(data[shape->data_bytes], 0xee);
			assert_int_equal(rx.have_bytes, 0);
			rx_done(&rx);
		}
	}
}

static void wrong_bit(void **state)
{
	const struct shape shape = {"", 4, 6, true, true};
	uint8_t stream[STREAM_BYTES], data[128];
	size_t bytes = build(&shape, stream), header_bytes = WIRE_BHS_BYTES + 4 + WIRE_DIGEST_BYTES;

	(void)state;
	for (size_t i = 0; i < bytes; i++) {
		struct rx rx;
		struct got got = {0};

		/* A wrong length would only make it wait for more. */
		if (i >= 4 && i < 8)
			continue;
		stream[i] ^= 0x10;
		rx_init(&rx);
		rx.header_digest = rx.data_digest = true;
		feed(&rx, stream, bytes, data, sizeof(data), &got);
		assert_int_equal(got.bad_headers, i < header_bytes);
		assert_int_equal(got.pdus, i >= header_bytes);
		if (got.pdus)
			assert_false(got.digest_ok);
		rx_done(&rx);
		stream[i] ^= 0x10;
	}
}

static void room_too_small(void **state)
{
	const struct shape shape = {"", 0, 100, false, true};
	uint8_t stream[STREAM_BYTES], data[128];
	size_t bytes = build(&shape, stream);

	(void)state;
	for (uint32_t room = 0; room < 100; room += 7) {
		for (size_t piece = 1; piece < 60; piece += 13) {
			struct rx rx;
			struct got got = {0};

			rx_init(&rx);
			rx.data_digest = true;
			memset(data, 0xee, sizeof(data));
			for (size_t at = 0; at < bytes; at += piece)
				feed(&rx, stream + at, at + piece > bytes ? bytes - at : piece,
				     room ? data : NULL, room, &got);
			assert_int_equal(got.pdus, 1);
			assert_true(got.digest_ok);
			for (uint32_t i = 0; i < sizeof(data); i++)
				assert_int_equal(data[i], i < room ? i + 1 : 0xee);
			rx_done(&rx);
		}
	}
}

/* The place for the payload is taken away in the middle of it. */
static void place_lost(void **state)
{
	const struct shape shape = {"", 0, 64, false, true};
	uint8_t stream[STREAM_BYTES], data[128];
	size_t bytes = build(&shape, stream);
	struct got got = {0};
	struct rx rx;

	(void)state;
	rx_init(&rx);
	rx.data_digest = true;
	memset(data, 0xee, sizeof(data));
	feed(&rx, stream, WIRE_BHS_BYTES + 10, data, sizeof(data), &got);
	rx_data_nowhere(&rx);
	feed(&rx, stream + WIRE_BHS_BYTES + 10, bytes - WIRE_BHS_BYTES - 10, data, sizeof(data),
	     &got);
	assert_int_equal(got.pdus, 1);
	assert_true(got.digest_ok);
	assert_int_equal(data[9], 10);
	assert_int_equal(data[10], 0xee);
	rx_done(&rx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_split),
		cmocka_unit_test(wrong_bit),
		cmocka_unit_test(room_too_small),
		cmocka_unit_test(place_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
