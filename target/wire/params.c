/*
 * The operational keys of RFC 7143, section 13.
 */
#include "wire/params.h"

struct wire_params wire_params_default(void)
{
	return (struct wire_params){
		.max_recv_segment_bytes = 8192,
		.max_send_segment_bytes = 8192,
		.max_burst_bytes = 262144,
		.first_burst_bytes = 65536,
		.initial_r2t = true,
		.immediate_data = true,
		.max_outstanding_r2t = 1,
		.data_pdu_in_order = true,
		.data_sequence_in_order = true,
		.error_recovery_level = 0,
		.time2wait_s = 2,
		.time2retain_s = 20,
		.max_connections = 1,
	};
}
