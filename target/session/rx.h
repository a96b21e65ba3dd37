/*
 * The PDU assembler: bytes as they come from a stream, cut into header, additional header
 * segments, digest, payload, padding, digest. Pure: no I/O, no session rules. The caller looks
 * at each header before any of its payload is stored, and says where that goes.
 */
#ifndef LUNROOT_SESSION_RX_H
#define LUNROOT_SESSION_RX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/pdu.h"

enum rx_state {
	RX_HEADER,
	RX_AHS,
	RX_HEADER_DIGEST,
	RX_DECIDE, /* the header was reported; rx_data_to is awaited */
	RX_DATA,
	RX_PADDING,
	RX_DATA_DIGEST,
};

struct rx {
	bool header_digest, data_digest; /* in use */
	enum rx_state state;
	struct wire_bhs bhs;
	uint8_t *ahs;        /* wire_ahs_bytes(&bhs) bytes, or NULL */
	uint32_t have_bytes; /* of the part that `state` names */
	uint32_t crc;
	uint8_t digest[WIRE_DIGEST_BYTES];
	bool digest_ok; /* of the data; valid with RX_EV_PDU */
	uint8_t *data;
	uint32_t data_room_bytes;
};

enum rx_event {
	RX_EV_MORE,       /* everything was consumed, and more is needed */
	RX_EV_HEADER,     /* bhs and ahs are there: call rx_data_to, then go on */
	RX_EV_PDU,        /* the PDU is complete */
	RX_EV_BAD_HEADER, /* its digest is wrong: the stream can't be trusted any more */
	RX_EV_NO_MEMORY,
};

void rx_init(struct rx *rx);
void rx_done(struct rx *rx);
/*
 * Takes bytes up to the next event; returns how many were consumed. Call again, even with zero
 * bytes, until the event is RX_EV_MORE.
 */
size_t rx_feed(struct rx *rx, const uint8_t *data, size_t bytes, enum rx_event *ret_event);
/* Where the payload goes; what is beyond the room is thrown away. After RX_EV_HEADER. */
void rx_data_to(struct rx *rx, uint8_t *data, uint32_t room_bytes);
/* The place is gone: the rest of the payload is thrown away. */
void rx_data_nowhere(struct rx *rx);

#endif
