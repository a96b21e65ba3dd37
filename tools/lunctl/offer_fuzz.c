/*
 * Fuzzes what lunctl doctor reads off the wire: an IPv4 packet that may be an answer to its
 * DISCOVER.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "doctor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct doctor_server server;

	if (doctor_read_offer(data, size, 0x12345678, &server))
		assert(strlen(server.address) >= 7 && strlen(server.address) <= 15);
	return 0;
}
