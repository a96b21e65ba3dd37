/*
 * The operational parameters of a session (RFC 7143, section 13): what the two sides agreed on,
 * and the table-driven negotiation that gets there. No I/O and no session state; the initiator
 * program uses it too.
 */
#ifndef LUNROOT_WIRE_PARAMS_H
#define LUNROOT_WIRE_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

/* The values in force. Two of them are declared, one by each side, not negotiated. */
struct wire_params {
	bool header_digest, data_digest; /* CRC32C, or none */
	uint32_t max_recv_segment_bytes; /* ours: the longest data segment we take */
	uint32_t max_send_segment_bytes; /* the peer's: the longest that we may send */
	uint32_t max_burst_bytes, first_burst_bytes;
	bool initial_r2t, immediate_data;
	uint32_t max_outstanding_r2t;
	bool data_pdu_in_order, data_sequence_in_order;
	uint32_t error_recovery_level;
	uint32_t time2wait_s, time2retain_s;
	uint32_t max_connections;
};

/* The defaults of section 13, in force for what nobody negotiates. */
struct wire_params wire_params_default(void);

#endif
