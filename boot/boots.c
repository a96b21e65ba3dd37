/*
 * Boots in three indexes: all in the order of their making, by MAC, by address. A few thousand at
 * most, each some kilobytes beside its view, which boots share.
 */
#include "boots.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/limits.h"
#include "base/utf8.h"
#include "view.h"

#define BUCKETS 1024u /* a power of two */
/* A Pi that says nothing for so long is not loading any more: switched off, or it gave up. */
#define SILENT_MS 20000
/* After so long nobody reports for it, and its Pi has begun anew or never will. */
#define OVER_MS             (15 * 60 * 1000)
#define STRANGER_EVENTS_MAX 32

struct boots {
	struct list all;
	unsigned count;
	struct list macs[BUCKETS], addresses[BUCKETS];
};

static unsigned bucket_of_mac(const uint8_t mac[6])
{
	uint32_t tail = (uint32_t)mac[3] << 16 | (uint32_t)mac[4] << 8 | mac[5];

	return (tail * 2654435761u) >> 22;
}

static unsigned bucket_of_address(struct in_addr address)
{
	return (ntohl(address.s_addr) * 2654435761u) >> 22;
}

static_assert(BUCKETS == 1u << 10, "hashes have ten bits");

struct boots *boots_new(void)
{
	struct boots *boots = calloc(1, sizeof(*boots));

	if (!boots)
		return NULL;
	list_init(&boots->all);
	for (unsigned i = 0; i < BUCKETS; i++) {
		list_init(&boots->macs[i]);
		list_init(&boots->addresses[i]);
	}
	return boots;
}

static void forget(struct boots *boots, struct boot *boot)
{
	list_remove(&boot->entry);
	list_remove(&boot->by_mac);
	list_remove(&boot->by_address);
	boots->count--;
	view_unref(boot->view);
	json_decref(boot->events);
	explicit_bzero(boot->token, sizeof(boot->token));
	free(boot);
}

void boots_free(struct boots *boots)
{
	if (!boots)
		return;
	list_for_each (at, &boots->all)
		forget(boots, LIST_ENTRY(at, struct boot, entry));
	free(boots);
}

/* --- one more --- */

static void hex(const uint8_t *bytes, size_t count, char *to)
{
	for (size_t i = 0; i < count; i++)
		(void)snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

static bool can_go(const struct boot *boot)
{
	return !boot->preparing && !boot->posting;
}

/* Goes before the other: a stranger, since anybody can be many; else who has been silent longer. */
static bool goes_first(const struct boot *boot, const struct boot *other)
{
	bool stranger = boot->stage == BOOT_STRANGER, too = other->stage == BOOT_STRANGER;

	return stranger == too ? boot->active_ms < other->active_ms : stranger;
}

static bool make_room(struct boots *boots, bool strangers_only)
{
	struct boot *first = NULL;

	list_for_each (at, &boots->all) {
		struct boot *boot = LIST_ENTRY(at, struct boot, entry);

		if (!can_go(boot) || (strangers_only && boot->stage != BOOT_STRANGER))
			continue;
		if (!first || goes_first(boot, first))
			first = boot;
	}
	if (first)
		forget(boots, first);
	return first != NULL;
}

static unsigned stranger_count(const struct boots *boots)
{
	unsigned count = 0;

	list_for_each (at, &boots->all)
		count += LIST_ENTRY(at, struct boot, entry)->stage == BOOT_STRANGER;
	return count;
}

struct boot *boots_add(struct boots *boots, const struct pi_identity *who, enum boot_stage stage,
		       uint64_t now_ms)
{
	uint8_t random[(BOOT_ID_BYTES - 1) / 2 + (REPORT_TOKEN_BYTES - 1) / 2];
	/* It may be of a boot that is forgotten here. */
	const struct pi_identity own = *who;
	struct boot *boot, *before;

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return NULL;
	if (stage == BOOT_STRANGER && stranger_count(boots) >= LIMIT_BOOTS_UNKNOWN &&
	    !make_room(boots, true))
		return NULL;
	if (boots->count >= LIMIT_BOOTS && !make_room(boots, false))
		return NULL;
	boot = calloc(1, sizeof(*boot));
	if (!boot)
		return NULL;
	hex(random, (BOOT_ID_BYTES - 1) / 2, boot->id);
	hex(random + (BOOT_ID_BYTES - 1) / 2, (REPORT_TOKEN_BYTES - 1) / 2, boot->token);
	explicit_bzero(random, sizeof(random));
	boot->who = own;
	boot->stage = stage;
	boot->started_ms = boot->active_ms = boot->asked_ms = now_ms;
	boot->in_rom = own.rom;
	boot->head_changed = true;
	list_init(&boot->by_address);
	list_init(&boot->by_mac);
	before = boots_find_mac(boots, own.mac);
	if (before)
		list_remove(&before->by_mac);
	list_append(&boots->macs[bucket_of_mac(own.mac)], &boot->by_mac);
	list_append(&boots->all, &boot->entry);
	boots->count++;
	return boot;
}

/* --- finding --- */

struct boot *boots_find_mac(const struct boots *boots, const uint8_t mac[6])
{
	const struct list *head = &boots->macs[bucket_of_mac(mac)];

	list_for_each (at, head) {
		struct boot *boot = LIST_ENTRY(at, struct boot, by_mac);

		if (memcmp(boot->who.mac, mac, 6) == 0)
			return boot;
	}
	return NULL;
}

struct boot *boots_find_address(const struct boots *boots, struct in_addr address)
{
	const struct list *head = &boots->addresses[bucket_of_address(address)];

	list_for_each (at, head) {
		struct boot *boot = LIST_ENTRY(at, struct boot, by_address);

		if (boot->address.s_addr == address.s_addr)
			return boot;
	}
	return NULL;
}

struct boot *boots_find_token(const struct boots *boots, const char *token)
{
	list_for_each (at, &boots->all) {
		struct boot *boot = LIST_ENTRY(at, struct boot, entry);

		if (strcmp(boot->token, token) == 0)
			return boot;
	}
	return NULL;
}

struct boot *boots_find_id(const struct boots *boots, const char *id)
{
	list_for_each (at, &boots->all) {
		struct boot *boot = LIST_ENTRY(at, struct boot, entry);

		if (strcmp(boot->id, id) == 0)
			return boot;
	}
	return NULL;
}

struct boot *boots_next(const struct boots *boots, const struct boot *after)
{
	const struct list *at = after ? after->entry.next : boots->all.next;

	return at == &boots->all ? NULL
				 : LIST_ENTRY((struct list *)(uintptr_t)at, struct boot, entry);
}

void boot_set_address(struct boots *boots, struct boot *boot, struct in_addr address, int ifindex)
{
	struct boot *other = boots_find_address(boots, address);

	boot->ifindex = ifindex;
	if (other == boot)
		return;
	if (other) {
		list_remove(&other->by_address);
		other->address.s_addr = INADDR_ANY;
	}
	list_remove(&boot->by_address);
	boot->address = address;
	boot->head_changed = true;
	list_append(&boots->addresses[bucket_of_address(address)], &boot->by_address);
}

/* --- admission --- */

void boot_leaves_rom(struct boot *boot, uint64_t now_ms)
{
	boot->in_rom = false;
	boot->asked_ms = now_ms;
	if (boot->stage == BOOT_OFFERED || boot->stage == BOOT_LOADING)
		boot->stage = BOOT_WAITING;
}

static bool in_flight(const struct boot *boot, uint64_t now_ms)
{
	return boot->stage >= BOOT_OFFERED && boot->stage <= BOOT_LOADED && !boot->in_rom &&
	       boot->active_ms + SILENT_MS > now_ms;
}

unsigned boots_in_flight(const struct boots *boots, uint64_t now_ms)
{
	unsigned count = 0;

	list_for_each (at, &boots->all)
		count += in_flight(LIST_ENTRY(at, struct boot, entry), now_ms);
	return count;
}

struct boot *boots_next_waiting(const struct boots *boots)
{
	list_for_each (at, &boots->all) {
		struct boot *boot = LIST_ENTRY(at, struct boot, entry);

		if (boot->stage == BOOT_WAITING)
			return boot;
	}
	return NULL;
}

void boots_forget_old(struct boots *boots, uint64_t now_ms)
{
	list_for_each (at, &boots->all) {
		struct boot *boot = LIST_ENTRY(at, struct boot, entry);

		if (boot->active_ms + OVER_MS <= now_ms && can_go(boot) &&
		    json_array_size(boot->events) == 0)
			forget(boots, boot);
	}
}

/* --- the timeline --- */

static json_t *event_new(struct boot *boot, const char *kind)
{
	struct timespec now;
	struct tm tm;
	char at[40], seconds[24];

	/* Untold ones, while lunrootd is away; a stranger has no more to say than that he asks. */
	if (json_array_size(boot->events) >=
	    (boot->stage == BOOT_STRANGER ? STRANGER_EVENTS_MAX : LIMIT_BOOT_EVENTS))
		return NULL;
	clock_gettime(CLOCK_REALTIME, &now);
	(void)strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", gmtime_r(&now.tv_sec, &tm));
	(void)snprintf(at, sizeof(at), "%s.%03ldZ", seconds, now.tv_nsec / 1000000);
	return json_pack("{s:s, s:s}", "at", at, "kind", kind);
}

static void put_text(json_t *event, const char *text)
{
	if (text && text[0] && utf8_clean(text, strlen(text)))
		json_object_set_new(event, "text", json_string(text));
}

static void event_add(struct boot *boot, json_t *event)
{
	if (!event)
		return;
	if (!boot->events)
		boot->events = json_array();
	json_array_append_new(boot->events, event);
}

void boot_note(struct boot *boot, const char *kind, const char *format, ...)
{
	char text[512] = "";
	json_t *event = event_new(boot, kind);
	va_list args;

	if (format) {
		va_start(args, format);
		(void)vsnprintf(text, sizeof(text), format, args);
		va_end(args);
	}
	put_text(event, text);
	event_add(boot, event);
}

void boot_note_file(struct boot *boot, const char *kind, const char *file, uint64_t bytes,
		    unsigned retries, uint64_t took_ms, const char *text)
{
	json_t *event = event_new(boot, kind);

	if (!event)
		return;
	json_object_set_new(event, "file",
			    json_string(utf8_clean(file, strlen(file)) ? file : "?"));
	if (bytes > 0)
		json_object_set_new(event, "bytes", json_integer((json_int_t)bytes));
	if (retries > 0)
		json_object_set_new(event, "retries", json_integer(retries));
	if (took_ms > 0)
		json_object_set_new(event, "took_ms", json_integer((json_int_t)took_ms));
	put_text(event, text);
	event_add(boot, event);
}

json_t *boot_head(const struct boot *boot)
{
	char mac[MAC_TEXT_BYTES], serial[16] = "", address[INET_ADDRSTRLEN] = "";

	mac_format(boot->who.mac, ':', mac);
	if (boot->who.has_serial)
		(void)snprintf(serial, sizeof(serial), "%08x", boot->who.serial);
	if (boot->address.s_addr != INADDR_ANY)
		(void)inet_ntop(AF_INET, &boot->address, address, sizeof(address));
	return json_pack("{s:o, s:s, s:s, s:s, s:s}", "node",
			 boot->node[0] ? json_string(boot->node) : json_null(), "serial", serial,
			 "mac", mac, "model", pi_model_text(boot->who.model), "address", address);
}

json_t *boot_take_events(struct boot *boot)
{
	return json_array_size(boot->events) > 0 ? TAKE_PTR(boot->events) : NULL;
}

void boot_untake_events(struct boot *boot, json_t *events)
{
	if (boot->events)
		json_array_extend(events, boot->events);
	while (json_array_size(events) > LIMIT_BOOT_EVENTS)
		json_array_remove(events, LIMIT_BOOT_EVENTS / 2);
	json_decref(boot->events);
	boot->events = events;
}
