/*
 * Boots as JSON, as docs/api.md says.
 */
#include "control/boots_internal.h"

#include <string.h>

#define LAST_DEFAULT 1000 /* heads in a list, if the caller does not say how many */

static json_t *reply_event(const struct boot_event *event)
{
	json_t *value = json_pack("{s:o, s:s}", "at", reply_time_ms(event->at_ms), "kind",
				  boot_kind_name(event->kind));

	if (event->text_bytes > 0)
		json_object_set_new(value, "text", json_stringn(event->text, event->text_bytes));
	if (event->file_bytes == 0)
		return value;
	json_object_set_new(value, "file", json_stringn(event->file, event->file_bytes));
	json_object_set_new(value, "bytes", json_integer((json_int_t)event->bytes));
	json_object_set_new(value, "retries", json_integer(event->retries));
	json_object_set_new(value, "took_ms", json_integer(event->took_ms));
	return value;
}

static json_t *reply_log(const struct boot_log *log)
{
	json_t *events = json_array();
	struct boot_event event;
	size_t at = 0;

	while (boot_log_next(log, &at, &event))
		json_array_append_new(events, reply_event(&event));
	return events;
}

/* A node in the trash is none. */
static json_t *node_name(const struct boots *boots, const struct boot_head *head)
{
	const struct node *node =
		head->has_node ? node_find_uuid(boots->control, &head->node) : NULL;

	return node ? json_string(node->name) : json_null();
}

json_t *reply_boot(const struct boots *boots, const struct boot *boot, bool events)
{
	const struct boot_head *head = &boot->head;
	struct boot_event last;
	json_t *value = json_pack(
		"{s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:b, s:I, s:I, s:I, s:I, s:I, "
		"s:o}",
		"id", head->id, "node", node_name(boots, head), "serial", head->serial, "mac",
		head->mac, "model", reply_text(head->model), "address", reply_text(head->address),
		"began", reply_time_ms(head->began_ms), "last", reply_time_ms(head->last_ms),
		"reached", boot_stage_name(head->reached), "reached_at",
		head->reached ? reply_time_ms(head->reached_ms) : json_null(), "done",
		(int)head->done, "files", (json_int_t)head->files, "file_bytes",
		(json_int_t)head->file_bytes, "retries", (json_int_t)head->retries, "event_count",
		(json_int_t)boot->log.count, "dropped", (json_int_t)boot->log.dropped, "last_event",
		boot_log_last(&boot->log, &last) ? reply_event(&last) : json_null());

	if (events)
		json_object_set_new(value, "events", reply_log(&boot->log));
	return value;
}

json_t *reply_boots(const struct boots *boots, const struct node *node, const char *key,
		    unsigned last)
{
	json_t *list = json_array();

	if (last == 0)
		last = LAST_DEFAULT;
	/* The newest first. */
	for (struct list *pos = boots->all.prev; pos != &boots->all && last > 0; pos = pos->prev) {
		const struct boot *boot = LIST_ENTRY(pos, struct boot, all);

		if (node && (!boot->head.has_node ||
			     memcmp(&boot->head.node, &node->uuid, sizeof(node->uuid)) != 0))
			continue;
		if (key[0] && !boot_is_of_pi(&boot->head, key))
			continue;
		json_array_append_new(list, reply_boot(boots, boot, false));
		last--;
	}
	return json_pack("{s:o}", "boots", list);
}

/* Whether a later boot is of the same Pi; `boot` is one without a node. */
static unsigned boots_of_pi(const struct boots *boots, const struct boot *boot, bool *ret_newest)
{
	const char *key = boot_key(&boot->head);
	unsigned count = 0;

	*ret_newest = true;
	list_for_each (pos, &boots->unknown) {
		const struct boot *other = LIST_ENTRY(pos, struct boot, by_owner);

		if (strcmp(boot_key(&other->head), key) != 0)
			continue;
		count++;
		if (other->head.order > boot->head.order)
			*ret_newest = false;
	}
	return count;
}

json_t *reply_pending(const struct boots *boots)
{
	json_t *list = json_array();

	for (struct list *pos = boots->unknown.prev; pos != &boots->unknown; pos = pos->prev) {
		const struct boot *boot = LIST_ENTRY(pos, struct boot, by_owner);
		bool newest;
		unsigned count;
		json_t *value;

		if (boot_key(&boot->head)[0] == '\0')
			continue; /* nobody could say which Pi is meant */
		count = boots_of_pi(boots, boot, &newest);
		if (!newest)
			continue;
		value = reply_boot(boots, boot, false);
		json_object_set_new(value, "key", json_string(boot_key(&boot->head)));
		json_object_set_new(value, "boots", json_integer(count));
		json_array_append_new(list, value);
	}
	return json_pack("{s:o}", "pending", list);
}
