/*
 * Fuzzes what boots.db may hold of a boot: packed events, which must be refused or read whole, and
 * to which another one can be added.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "control/boots_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct boot_event more = {
		.at_ms = 1, .kind = BOOT_DONE, .text = "x", .text_bytes = 1};
	struct boot_event event, last = {.kind = BOOT_DISCOVER};
	struct boot_log log;
	size_t at = 0;
	unsigned count = 0;

	if (boot_log_load(&log, data, size, 0) < 0)
		return 0;
	while (boot_log_next(&log, &at, &event)) {
		assert(event.text_bytes <= LIMIT_BOOT_TEXT_BYTES);
		assert(event.file_bytes <= LIMIT_BOOT_FILE_BYTES);
		assert(boot_event_stage(&event) < STAGE_COUNT);
		count++;
	}
	assert(at == size && count == log.count && count <= LIMIT_BOOT_EVENTS);
	assert(boot_log_append(&log, &more) == 0);
	assert(boot_log_last(&log, &last) && last.kind == BOOT_DONE);
	assert(log.count == (count < LIMIT_BOOT_EVENTS ? count + 1 : count));
	boot_log_done(&log);
	return 0;
}
