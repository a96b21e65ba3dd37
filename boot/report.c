/* Words of strangers, bounded and made clean. */
#include "report.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define REPORT_MAGIC "lunroot-report 1 "
/* Sequence numbers stay far below; more digits are none of ours. */
#define SEQUENCE_DIGITS 9

struct words {
	const char *at, *end;
};

static bool take_literal(struct words *in, const char *literal)
{
	size_t bytes = strlen(literal);

	if ((size_t)(in->end - in->at) < bytes || memcmp(in->at, literal, bytes) != 0)
		return false;
	in->at += bytes;
	return true;
}

/* Up to a blank or the end, NUL-terminated; its length, 0 if there is none, or it is too long or no
 * text. */
static size_t take_word(struct words *in, char *to, size_t room)
{
	const char *blank = memchr(in->at, ' ', (size_t)(in->end - in->at));
	size_t bytes = (size_t)((blank ? blank : in->end) - in->at);

	if (bytes == 0 || bytes >= room || memchr(in->at, '\0', bytes))
		return 0;
	memcpy(to, in->at, bytes);
	to[bytes] = '\0';
	in->at += bytes + (blank != NULL);
	return bytes;
}

static void take_text(struct words *in, char *to, size_t room)
{
	size_t bytes = utf8_cut(in->at, (size_t)(in->end - in->at), room - 1);

	if (!utf8_clean(in->at, bytes))
		bytes = 0;
	memcpy(to, in->at, bytes);
	to[bytes] = '\0';
}

int report_parse(const void *datagram, size_t bytes, struct report *ret_report)
{
	struct words in = {.at = datagram, .end = (const char *)datagram + bytes};
	struct report report;
	char sequence[SEQUENCE_DIGITS + 1];

	if (bytes > REPORT_DATAGRAM_BYTES || !take_literal(&in, REPORT_MAGIC))
		return -EINVAL;
	if (in.end > in.at && in.end[-1] == '\n')
		in.end--;
	if (take_word(&in, report.token, sizeof(report.token)) != REPORT_TOKEN_BYTES - 1 ||
	    strspn(report.token, "0123456789abcdef") != REPORT_TOKEN_BYTES - 1)
		return -EINVAL;
	if (take_word(&in, sequence, sizeof(sequence)) == 0 ||
	    strspn(sequence, "0123456789") != strlen(sequence))
		return -EINVAL;
	report.sequence = (uint32_t)strtoul(sequence, NULL, 10);
	if (take_word(&in, report.event, sizeof(report.event)) == 0 ||
	    strspn(report.event, "abcdefghijklmnopqrstuvwxyz-") != strlen(report.event))
		return -EINVAL;
	take_text(&in, report.text, sizeof(report.text));
	*ret_report = report;
	return 0;
}

bool console_line(const void *datagram, size_t bytes, size_t *at, char ret_line[REPORT_TEXT_BYTES])
{
	const uint8_t *p = datagram;
	size_t used = 0;

	if (bytes > REPORT_DATAGRAM_BYTES)
		bytes = REPORT_DATAGRAM_BYTES;
	while (*at < bytes) {
		uint8_t c = p[(*at)++];

		/* A published capture of a CM4 has lines that end in "\n\0". */
		if (c == '\n' || c == '\r' || c == '\0') {
			if (used > 0)
				break;
		} else if (used < REPORT_TEXT_BYTES - 1) {
			ret_line[used] = '?';
			if (c >= 0x20 && c < 0x7f)
				ret_line[used] = (char)c;
			used++;
		}
	}
	ret_line[used] = '\0';
	return used > 0;
}
