/*
 * The PDU assembler; see rx.h. Each part is "have n of m bytes", and partial reads are handled
 * in one helper.
 */
#include "session/rx.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/crc32c.h"

void rx_init(struct rx *rx)
{
	*rx = (struct rx){.state = RX_HEADER};
}

void rx_done(struct rx *rx)
{
	free(rx->ahs);
	rx->ahs = NULL;
}

/* Up to what is missing of `want` bytes; copies them to `to` unless it is NULL. True: complete. */
static bool take(struct rx *rx, uint8_t *to, uint32_t room, uint32_t want, const uint8_t **data,
		 size_t *bytes, const uint8_t **ret_taken, uint32_t *ret_bytes)
{
	uint32_t n = want - rx->have_bytes;

	assert(rx->have_bytes <= want);
	if (n > *bytes)
		n = (uint32_t)*bytes;
	if (to && rx->have_bytes < room) {
		uint32_t fits = room - rx->have_bytes;

		memcpy(to + rx->have_bytes, *data, n < fits ? n : fits);
	}
	*ret_taken = *data;
	*ret_bytes = n;
	rx->have_bytes += n;
	*data += n;
	*bytes -= n;
	return rx->have_bytes == want;
}

static void enter(struct rx *rx, enum rx_state state)
{
	rx->state = state;
	rx->have_bytes = 0;
}

/* Where a finished payload leads. */
static void after_data(struct rx *rx)
{
	if (wire_data_bytes(&rx->bhs) % 4)
		enter(rx, RX_PADDING);
	else
		enter(rx, RX_DATA_DIGEST);
}

static enum rx_event end_pdu(struct rx *rx)
{
	enter(rx, RX_HEADER);
	rx->crc = 0;
	rx->data = NULL;
	return RX_EV_PDU;
}

void rx_data_to(struct rx *rx, uint8_t *data, uint32_t room_bytes)
{
	assert(rx->state == RX_DECIDE);
	rx->data = data;
	rx->data_room_bytes = data ? room_bytes : 0;
	rx->crc = 0;
	rx->digest_ok = true;
	enter(rx, RX_DATA);
}

void rx_data_nowhere(struct rx *rx)
{
	rx->data = NULL;
	rx->data_room_bytes = 0;
}

static bool header_done(struct rx *rx)
{
	if (rx->header_digest) {
		enter(rx, RX_HEADER_DIGEST);
		return false;
	}
	enter(rx, RX_DECIDE);
	return true;
}

size_t rx_feed(struct rx *rx, const uint8_t *data, size_t bytes, enum rx_event *ret_event)
{
	const uint8_t *start = data, *taken;
	uint32_t n, want;

	for (;;) {
		switch (rx->state) {
		case RX_HEADER:
			if (rx->have_bytes == 0) {
				free(rx->ahs);
				rx->ahs = NULL;
			}
			if (!take(rx, (uint8_t *)&rx->bhs, WIRE_BHS_BYTES, WIRE_BHS_BYTES, &data,
				  &bytes, &taken, &n))
				goto more;
			rx->crc = rx->header_digest ? crc32c(0, &rx->bhs, WIRE_BHS_BYTES) : 0;
			if (rx->bhs.ahs_words) {
				rx->ahs = malloc(wire_ahs_bytes(&rx->bhs));
				if (!rx->ahs) {
					*ret_event = RX_EV_NO_MEMORY;
					return (size_t)(data - start);
				}
				enter(rx, RX_AHS);
				break;
			}
			if (header_done(rx))
				goto header;
			break;
		case RX_AHS:
			want = wire_ahs_bytes(&rx->bhs);
			if (!take(rx, rx->ahs, want, want, &data, &bytes, &taken, &n))
				goto more;
			if (rx->header_digest)
				rx->crc = crc32c(rx->crc, rx->ahs, want);
			if (header_done(rx))
				goto header;
			break;
		case RX_HEADER_DIGEST:
			if (!take(rx, rx->digest, sizeof(rx->digest), WIRE_DIGEST_BYTES, &data,
				  &bytes, &taken, &n))
				goto more;
			/* The CRC goes out least significant byte first (13.1). */
			if (le32_get(*(const le32_t *)rx->digest) != rx->crc) {
				*ret_event = RX_EV_BAD_HEADER;
				return (size_t)(data - start);
			}
			enter(rx, RX_DECIDE);
			goto header;
		case RX_DECIDE: goto header;
		case RX_DATA:
			want = wire_data_bytes(&rx->bhs);
			if (want == 0) { /* then there is no digest either */
				*ret_event = end_pdu(rx);
				return (size_t)(data - start);
			}
			if (bytes == 0)
				goto more;
			if (!take(rx, rx->data, rx->data_room_bytes, want, &data, &bytes, &taken,
				  &n)) {
				if (rx->data_digest)
					rx->crc = crc32c(rx->crc, taken, n);
				goto more;
			}
			if (rx->data_digest)
				rx->crc = crc32c(rx->crc, taken, n);
			after_data(rx);
			break;
		case RX_PADDING:
			want = wire_pad4(wire_data_bytes(&rx->bhs)) - wire_data_bytes(&rx->bhs);
			if (bytes == 0)
				goto more;
			if (!take(rx, NULL, 0, want, &data, &bytes, &taken, &n)) {
				if (rx->data_digest)
					rx->crc = crc32c(rx->crc, taken, n);
				goto more;
			}
			if (rx->data_digest)
				rx->crc = crc32c(rx->crc, taken, n);
			enter(rx, RX_DATA_DIGEST);
			break;
		case RX_DATA_DIGEST:
			if (!rx->data_digest) {
				*ret_event = end_pdu(rx);
				return (size_t)(data - start);
			}
			if (!take(rx, rx->digest, sizeof(rx->digest), WIRE_DIGEST_BYTES, &data,
				  &bytes, &taken, &n))
				goto more;
			rx->digest_ok = le32_get(*(const le32_t *)rx->digest) == rx->crc;
			*ret_event = end_pdu(rx);
			return (size_t)(data - start);
		}
	}
header:
	*ret_event = RX_EV_HEADER;
	return (size_t)(data - start);
more:
	*ret_event = RX_EV_MORE;
	return (size_t)(data - start);
}
