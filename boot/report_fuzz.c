/* Datagrams of strangers: whatever they are, a report or lines that can be shown. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct report report;
	char line[REPORT_TEXT_BYTES];
	size_t at = 0;

	if (report_parse(data, bytes, &report) == 0 &&
	    (strlen(report.token) != REPORT_TOKEN_BYTES - 1 || report.event[0] == '\0' ||
	     !utf8_clean(report.text, strlen(report.text))))
		abort();
	while (console_line(data, bytes, &at, line)) {
		if (line[0] == '\0' || !utf8_clean(line, strlen(line)))
			abort();
	}
	return 0;
}
