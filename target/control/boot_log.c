/*
 * One boot's events, packed one behind the other: a head of fixed size, the text, the name of the
 * file. Most events are about a file and take some fifty bytes so. The same bytes lie in the
 * database, hence their order; what comes from there is checked as a stranger's.
 */
#include "control/boots_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/utf8.h"

struct packed_event {
	le64_t at_ms, bytes;
	le32_t retries, took_ms;
	le16_t text_bytes;
	uint8_t kind, file_bytes;
};
static_assert(sizeof(struct packed_event) == 28, "it lies in files");
static_assert(LIMIT_BOOT_FILE_BYTES <= UINT8_MAX && LIMIT_BOOT_TEXT_BYTES <= UINT16_MAX,
	      "their lengths fit");

#define FIRST_HALF (LIMIT_BOOT_EVENTS / 2)
#define ROOM_MIN   512

static const char *const kind_names[] = {
	[BOOT_DISCOVER] = "discover",
	[BOOT_OFFER] = "offer",
	[BOOT_REQUEST] = "request",
	[BOOT_WAIT] = "wait",
	[BOOT_VIEW] = "view",
	[BOOT_ASKED] = "asked",
	[BOOT_MISSING] = "missing",
	[BOOT_SENT] = "sent",
	[BOOT_ENDED] = "ended",
	[BOOT_LOST] = "lost",
	[BOOT_SETTINGS] = "settings",
	[BOOT_LOGIN] = "login",
	[BOOT_REPORT] = "report",
	[BOOT_CONSOLE] = "console",
	[BOOT_TROUBLE] = "trouble",
	[BOOT_DONE] = "done",
	[BOOT_SESSION_END] = "session end",
};
static_assert(ARRAY_COUNT(kind_names) == BOOT_KIND_COUNT, "each has a name");

static const char *const stage_names[] = {
	[STAGE_NONE] = "nothing",      [STAGE_DISCOVER] = "discover",
	[STAGE_OFFER] = "offer",       [STAGE_REQUEST] = "request",
	[STAGE_ASKED] = "asked",       [STAGE_SENT] = "sent",
	[STAGE_SETTINGS] = "settings", [STAGE_START] = "start",
	[STAGE_NETWORK] = "network",   [STAGE_LOGIN] = "login",
	[STAGE_DISK] = "disk",         [STAGE_ROOT] = "root",
	[STAGE_SWITCH] = "switch",     [STAGE_MULTI_USER] = "multi-user",
};
static_assert(ARRAY_COUNT(stage_names) == STAGE_COUNT, "each has a name");

const char *boot_kind_name(enum boot_kind kind)
{
	assert(kind < BOOT_KIND_COUNT);
	return kind_names[kind];
}

bool boot_kind_parse(const char *name, enum boot_kind *ret_kind)
{
	for (unsigned i = 0; i < BOOT_KIND_COUNT; i++) {
		if (strcmp(kind_names[i], name) == 0) {
			*ret_kind = (enum boot_kind)i;
			return true;
		}
	}
	return false;
}

const char *boot_stage_name(enum boot_stage stage)
{
	assert(stage < STAGE_COUNT);
	return stage_names[stage];
}

/* A report's first word is the name of what was reached, or "waiting:", or "back". */
static enum boot_stage report_stage(const struct boot_event *event)
{
	for (unsigned i = STAGE_START; i < STAGE_COUNT; i++) {
		size_t bytes = strlen(stage_names[i]);

		if (event->text_bytes >= bytes && memcmp(event->text, stage_names[i], bytes) == 0 &&
		    (event->text_bytes == bytes || event->text[bytes] == ' '))
			return (enum boot_stage)i;
	}
	return STAGE_NONE;
}

enum boot_stage boot_event_stage(const struct boot_event *event)
{
	switch (event->kind) {
	case BOOT_DISCOVER: return STAGE_DISCOVER;
	case BOOT_OFFER: return STAGE_OFFER;
	case BOOT_REQUEST: return STAGE_REQUEST;
	case BOOT_ASKED:
	case BOOT_MISSING:
	case BOOT_ENDED:
	case BOOT_LOST: return STAGE_ASKED;
	case BOOT_SENT: return STAGE_SENT;
	case BOOT_SETTINGS: return STAGE_SETTINGS;
	case BOOT_LOGIN: return STAGE_LOGIN;
	case BOOT_REPORT: return report_stage(event);
	case BOOT_WAIT:
	case BOOT_VIEW:
	case BOOT_CONSOLE:
	case BOOT_TROUBLE:
	case BOOT_DONE:
	case BOOT_SESSION_END:
	case BOOT_KIND_COUNT: return STAGE_NONE;
	}
	return STAGE_NONE;
}

/* --- the bytes --- */

/* The event at `at`, and where the next one is; 0: there is no whole one. */
static size_t unpack(const struct boot_log *log, size_t at, struct boot_event *ret_event)
{
	struct packed_event head;
	size_t text_bytes, file_bytes;

	if (log->used - at < sizeof(head))
		return 0;
	memcpy(&head, log->data + at, sizeof(head));
	at += sizeof(head);
	text_bytes = le16_get(head.text_bytes);
	file_bytes = head.file_bytes;
	if (head.kind >= BOOT_KIND_COUNT || log->used - at < text_bytes + file_bytes)
		return 0;
	*ret_event = (struct boot_event){
		.at_ms = (int64_t)le64_get(head.at_ms),
		.kind = (enum boot_kind)head.kind,
		.bytes = le64_get(head.bytes),
		.retries = le32_get(head.retries),
		.took_ms = le32_get(head.took_ms),
		.text = (const char *)log->data + at,
		.text_bytes = text_bytes,
		.file = (const char *)log->data + at + text_bytes,
		.file_bytes = file_bytes,
	};
	return at + text_bytes + file_bytes;
}

static int make_room(struct boot_log *log, size_t bytes)
{
	size_t room = log->room ? log->room : ROOM_MIN;
	uint8_t *data;

	while (room < log->used + bytes)
		room += room / 2;
	if (room == log->room)
		return 0;
	data = realloc(log->data, room);
	if (!data)
		return -ENOMEM;
	log->data = data;
	log->room = room;
	return 0;
}

/* The oldest of the second half. */
static void drop_one(struct boot_log *log)
{
	struct boot_event event;
	size_t next = unpack(log, log->first_half_bytes, &event);
	size_t bytes = next - log->first_half_bytes;

	assert(next > 0); /* it was packed here, or checked when it was loaded */
	memmove(log->data + log->first_half_bytes, log->data + next, log->used - next);
	log->used -= bytes;
	log->last_at -= bytes;
	log->count--;
	log->dropped++;
}

int boot_log_append(struct boot_log *log, const struct boot_event *event)
{
	size_t text_bytes = utf8_cut(event->text, event->text_bytes, LIMIT_BOOT_TEXT_BYTES);
	size_t file_bytes = utf8_cut(event->file, event->file_bytes, LIMIT_BOOT_FILE_BYTES);
	struct packed_event head = {.kind = (uint8_t)event->kind,
				    .file_bytes = (uint8_t)file_bytes};
	int r = make_room(log, sizeof(head) + text_bytes + file_bytes);

	assert(event->kind < BOOT_KIND_COUNT);
	if (r < 0)
		return r;
	if (log->count == LIMIT_BOOT_EVENTS)
		drop_one(log);
	le64_put(&head.at_ms, (uint64_t)event->at_ms);
	le64_put(&head.bytes, event->bytes);
	le32_put(&head.retries, event->retries);
	le32_put(&head.took_ms, event->took_ms);
	le16_put(&head.text_bytes, (uint16_t)text_bytes);
	log->last_at = log->used;
	memcpy(log->data + log->used, &head, sizeof(head));
	log->used += sizeof(head);
	if (text_bytes > 0)
		memcpy(log->data + log->used, event->text, text_bytes);
	log->used += text_bytes;
	if (file_bytes > 0)
		memcpy(log->data + log->used, event->file, file_bytes);
	log->used += file_bytes;
	if (++log->count == FIRST_HALF)
		log->first_half_bytes = log->used;
	return 0;
}

bool boot_log_next(const struct boot_log *log, size_t *at, struct boot_event *ret_event)
{
	size_t next = *at < log->used ? unpack(log, *at, ret_event) : 0;

	if (next == 0)
		return false;
	*at = next;
	return true;
}

bool boot_log_last(const struct boot_log *log, struct boot_event *ret_event)
{
	return log->count > 0 && unpack(log, log->last_at, ret_event) > 0;
}

/* All of it is whole events, no more of them than there can be, and text is text. */
static int check(struct boot_log *log)
{
	struct boot_event event;
	size_t at = 0;

	while (at < log->used) {
		size_t next = unpack(log, at, &event);

		if (next == 0 || log->count == LIMIT_BOOT_EVENTS ||
		    event.text_bytes > LIMIT_BOOT_TEXT_BYTES ||
		    event.file_bytes > LIMIT_BOOT_FILE_BYTES || event.at_ms < 0)
			return -EBADMSG;
		log->last_at = at;
		at = next;
		if (++log->count == FIRST_HALF)
			log->first_half_bytes = at;
	}
	return 0;
}

int boot_log_load(struct boot_log *log, const void *data, size_t bytes, uint64_t dropped)
{
	int r;

	*log = (struct boot_log){.dropped = dropped};
	if (bytes == 0)
		return 0;
	r = make_room(log, bytes);
	if (r < 0)
		return r;
	memcpy(log->data, data, bytes);
	log->used = bytes;
	r = check(log);
	if (r < 0)
		boot_log_done(log);
	return r;
}

void boot_log_done(struct boot_log *log)
{
	free(log->data);
	*log = (struct boot_log){.data = NULL};
}
