/*
 * What the nodes' boots came to: lunbootd tells what each Pi asks for and is sent, lunroot-init by
 * way of lunbootd how it goes on, and the target who logs in. lunctl why explains it.
 *
 * All of it is in memory, bounded (limits.h), and nothing here waits for a disk: once a second what
 * has changed is copied and handed to a thread (boots_write.c). A boot belongs to a node by its
 * UUID, so that renaming is safe. Pis that belong to no node are "pending"; when somebody gives a
 * node their serial or MAC, their boots become the node's (boots_settle).
 */
#include "control/boots_internal.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/log.h"
#include "base/serial.h"

#define LOGIN_WITHIN_MS (15 * 60 * 1000) /* from a boot's begin to a login that says no boot */

static int64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- finding --- */

static unsigned id_bucket(const char *id)
{
	char tail[5];

	/* Chosen at random, so any digits will do. */
	(void)snprintf(tail, sizeof(tail), "%s", id + BOOT_ID_BYTES - 1 - 4);
	return (unsigned)strtoul(tail, NULL, 16) % BOOT_BUCKETS;
}

static unsigned node_bucket(const store_uuid_t *uuid)
{
	return (uuid->b[0] | (unsigned)uuid->b[1] << 8) % BOOT_BUCKETS;
}

static struct list *owner_list(struct boots *boots, const struct boot_head *head)
{
	return head->has_node ? &boots->by_node[node_bucket(&head->node)] : &boots->unknown;
}

struct boot *boot_find(const struct boots *boots, const char *id)
{
	list_for_each (pos, &boots->by_id[id_bucket(id)]) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, by_id);

		if (strcmp(boot->head.id, id) == 0)
			return boot;
	}
	return NULL;
}

static bool is_of_node(const struct boot *boot, const store_uuid_t *node)
{
	return boot->head.has_node && memcmp(&boot->head.node, node, sizeof(*node)) == 0;
}

const char *boot_key(const struct boot_head *head)
{
	return head->serial[0] ? head->serial : head->mac;
}

/* Of the same node, or of the same Pi without one. */
static bool same_owner(const struct boot *a, const struct boot *b)
{
	if (a->head.has_node || b->head.has_node)
		return a->head.has_node && is_of_node(b, &a->head.node);
	return boot_key(&a->head)[0] && strcmp(boot_key(&a->head), boot_key(&b->head)) == 0;
}

static size_t boot_bytes(const struct boot *boot)
{
	return sizeof(*boot) + boot->log.room;
}

/* Out of memory and out of the file. */
static void boot_drop(struct boots *boots, struct boot *boot)
{
	if (boots->dead_count == BOOT_DEAD)
		boots->anew = true;
	else if (boots->dead)
		memcpy(boots->dead[boots->dead_count++], boot->head.id, BOOT_ID_BYTES);
	boots->count--;
	boots->unknown_count -= boot->head.has_node ? 0 : 1;
	boots->bytes -= boot_bytes(boot);
	list_remove(&boot->all);
	list_remove(&boot->by_id);
	list_remove(&boot->by_owner);
	list_remove(&boot->dirty);
	boot_log_done(&boot->log);
	free(boot);
	boots_arm(boots);
}

/* --- bounds --- */

/* The owner has no more than it may; the oldest goes, but never the one that was just touched. */
static void trim_owner(struct boots *boots, const struct boot *newest)
{
	const struct list *list = owner_list(boots, &newest->head);
	unsigned max = newest->head.has_node ? LIMIT_BOOTS_PER_NODE : LIMIT_BOOTS_PER_UNKNOWN;
	unsigned count = 0;
	struct boot *oldest = NULL;

	list_for_each (pos, list) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, by_owner);

		if (boot == newest || !same_owner(newest, boot))
			continue;
		count++;
		if (!oldest)
			oldest = boot;
	}
	if (count >= max)
		boot_drop(boots, oldest);
	if (boots->unknown_count > LIMIT_BOOTS_UNKNOWN) {
		oldest = LIST_ENTRY(boots->unknown.next, struct boot, by_owner);
		if (oldest == newest)
			oldest = LIST_ENTRY(boots->unknown.next->next, struct boot, by_owner);
		boot_drop(boots, oldest);
	}
}

static bool is_only_one(struct boots *boots, const struct boot *boot)
{
	list_for_each (pos, owner_list(boots, &boot->head)) {
		const struct boot *other = LIST_ENTRY(pos, struct boot, by_owner);

		if (other != boot && same_owner(boot, other))
			return false;
	}
	return boot->head.has_node;
}

/* Room for all: the oldest go, at first of those that have others. */
static void trim_all(struct boots *boots, const struct boot *newest)
{
	const uint64_t goal = LIMIT_BOOT_RECORDS_BYTES / 16 * 15;

	if (boots->bytes <= LIMIT_BOOT_RECORDS_BYTES)
		return;
	for (unsigned round = 0; round < 2 && boots->bytes > goal; round++) {
		list_for_each (pos, &boots->all) {
			struct boot *boot = LIST_ENTRY(pos, struct boot, all);

			if (boots->bytes > goal && boot != newest &&
			    (round > 0 || !is_only_one(boots, boot)))
				boot_drop(boots, boot);
		}
	}
}

/* --- adding --- */

static struct boot *boot_insert(struct boots *boots, const struct boot_head *head)
{
	struct boot *boot = calloc(1, sizeof(*boot));

	if (!boot)
		return NULL;
	boot->head = *head;
	list_append(&boots->all, &boot->all);
	list_append(&boots->by_id[id_bucket(head->id)], &boot->by_id);
	list_append(owner_list(boots, head), &boot->by_owner);
	list_init(&boot->dirty);
	boots->count++;
	boots->unknown_count += head->has_node ? 0 : 1;
	boots->bytes += boot_bytes(boot);
	if (head->order > boots->last_order)
		boots->last_order = head->order;
	return boot;
}

static struct boot *boot_new(struct boots *boots, const char *id)
{
	struct boot_head head = {.order = boots->last_order + 1, .began_ms = now_ms()};

	(void)snprintf(head.id, sizeof(head.id), "%s", id);
	head.last_ms = head.began_ms;
	return boot_insert(boots, &head);
}

static void give_to_node(struct boots *boots, struct boot *boot, const struct node *node)
{
	struct list *list;

	if (is_of_node(boot, &node->uuid))
		return;
	boots->unknown_count -= boot->head.has_node ? 0 : 1;
	boot->head.has_node = true;
	boot->head.node = node->uuid;
	list_remove(&boot->by_owner);
	/* Its place among the others is by age. */
	list = owner_list(boots, &boot->head)->prev;
	while (list != owner_list(boots, &boot->head) &&
	       LIST_ENTRY(list, struct boot, by_owner)->head.order > boot->head.order)
		list = list->prev;
	list_prepend(list, &boot->by_owner);
	boots_touch(boots, boot);
	trim_owner(boots, boot);
}

/* What is not said stays as it is. */
static void take_text(const json_t *object, const char *name, char *to, size_t bytes, bool lower)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_string_value(value);
	size_t length;

	if (!text)
		return;
	length = json_string_length(value);
	while (length >= bytes) { /* not inside a character */
		length = bytes - 1;
		while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
			length--;
	}
	memcpy(to, text, length);
	to[length] = '\0';
	for (; lower && *to; to++) {
		if (*to >= 'A' && *to <= 'Z')
			*to = (char)(*to - 'A' + 'a');
	}
}

static void take_head(struct boots *boots, struct boot *boot, const json_t *object)
{
	const char *name = json_string_value(json_object_get(object, "node"));
	const char *mac = json_string_value(json_object_get(object, "mac"));
	const struct node *node = name ? node_find(boots->control, name) : NULL;

	take_text(object, "serial", boot->head.serial, sizeof(boot->head.serial), true);
	take_text(object, "model", boot->head.model, sizeof(boot->head.model), false);
	take_text(object, "address", boot->head.address, sizeof(boot->head.address), false);
	if (mac)
		(void)mac_normal(mac, boot->head.mac);
	boots_touch(boots, boot);
	/* One that has just been removed is none. */
	if (node)
		give_to_node(boots, boot, node);
	else if (!boot->head.has_node)
		trim_owner(boots, boot);
}

static int add_event(struct boots *boots, struct boot *boot, const struct boot_event *event)
{
	struct boot_head *head = &boot->head;
	enum boot_stage stage = boot_event_stage(event);
	size_t before = boot->log.room;
	bool first = boot->log.count == 0;
	int r = boot_log_append(&boot->log, event);

	if (r < 0)
		return r;
	boots->bytes += boot->log.room - before;
	if (first)
		head->began_ms = head->last_ms = event->at_ms;
	if (event->at_ms > head->last_ms)
		head->last_ms = event->at_ms;
	if (stage > head->reached) {
		head->reached = stage;
		head->reached_ms = event->at_ms;
	}
	if (event->kind == BOOT_LOGIN)
		head->login_ms = event->at_ms;
	if (event->kind == BOOT_SENT) {
		head->files++;
		head->file_bytes += event->bytes;
		head->retries += event->retries;
	}
	head->done |= event->kind == BOOT_DONE;
	boots_touch(boots, boot);
	return 0;
}

static void event_of_json(const json_t *object, struct boot_event *event)
{
	const json_t *text = json_object_get(object, "text"),
		     *file = json_object_get(object, "file");
	json_int_t retries = json_integer_value(json_object_get(object, "retries"));
	json_int_t took_ms = json_integer_value(json_object_get(object, "took_ms"));

	*event = (struct boot_event){
		.bytes = (uint64_t)json_integer_value(json_object_get(object, "bytes")),
		.retries = retries > UINT32_MAX ? UINT32_MAX : (uint32_t)retries,
		.took_ms = took_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)took_ms,
		.text = json_string_value(text),
		.text_bytes = json_string_length(text),
		.file = json_string_value(file),
		.file_bytes = json_string_length(file),
	};
	/* Both were checked with the request. */
	(void)time_parse_ms(json_string_value(json_object_get(object, "at")), &event->at_ms);
	(void)boot_kind_parse(json_string_value(json_object_get(object, "kind")), &event->kind);
}

static int add_events(struct boots *boots, struct boot *boot, const json_t *events)
{
	for (size_t i = 0; i < json_array_size(events); i++) {
		struct boot_event event;
		int r;

		event_of_json(json_array_get(events, i), &event);
		r = add_event(boots, boot, &event);
		if (r < 0)
			return r;
	}
	trim_all(boots, boot);
	return 0;
}

/* --- who becomes whose --- */

bool boot_is_of_pi(const struct boot_head *head, const char *key)
{
	return serial_same(head->serial, key) || (key[0] && strcmp(head->mac, key) == 0);
}

static bool is_node_of(const struct node *node, const struct boot_head *head)
{
	return serial_same(node->serial, head->serial) ||
	       (head->mac[0] && strcmp(node->mac, head->mac) == 0);
}

static const struct node *owner_of(const struct control *control, const struct boot_head *head)
{
	for (unsigned i = 0; i < control->node_count; i++) {
		if (is_node_of(control->nodes[i], head))
			return control->nodes[i];
	}
	return NULL;
}

void boots_settle(struct boots *boots, const struct node *only)
{
	list_for_each (pos, &boots->unknown) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, by_owner);
		const struct node *node = only && is_node_of(only, &boot->head) ? only
					  : only                                ? NULL
						 : owner_of(boots->control, &boot->head);

		if (node)
			give_to_node(boots, boot, node);
	}
}

void boots_forget_node(struct control *control, const store_uuid_t *uuid)
{
	struct boots *boots = control->boots;

	if (!boots)
		return; /* still starting */
	list_for_each (pos, &boots->by_node[node_bucket(uuid)]) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, by_owner);

		if (is_of_node(boot, uuid))
			boot_drop(boots, boot);
	}
}

/* --- what the target sees --- */

static struct boot *boot_of_login(struct boots *boots, const store_uuid_t *node, const char *id)
{
	struct boot *boot = strlen(id) == BOOT_ID_BYTES - 1 ? boot_find(boots, id) : NULL;
	struct boot *newest = NULL;

	if (boot && is_of_node(boot, node))
		return boot;
	if (node_find_uuid(boots->control, node))
		boots_settle(boots, node_find_uuid(boots->control, node));
	list_for_each (pos, &boots->by_node[node_bucket(node)]) {
		boot = LIST_ENTRY(pos, struct boot, by_owner);
		if (is_of_node(boot, node))
			newest = boot;
	}
	return newest && now_ms() - newest->head.began_ms <= LOGIN_WITHIN_MS ? newest : NULL;
}

static void clean(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f)
			*text = '?';
	}
}

static void tell(struct boots *boots, struct boot *boot, enum boot_kind kind, char *text)
{
	struct boot_event event = {.at_ms = now_ms(), .kind = kind, .text = text};

	clean(text);
	event.text_bytes = strlen(text);
	if (add_event(boots, boot, &event) < 0)
		log_debug("boot %s: no memory for an event", boot->head.id);
}

void boots_login(struct control *control, const store_uuid_t *node, const char *boot_id,
		 const char *initiator, const char *address)
{
	struct boot *boot = control->boots ? boot_of_login(control->boots, node, boot_id) : NULL;
	char text[LIMIT_BOOT_TEXT_BYTES];

	if (!boot)
		return;
	(void)snprintf(text, sizeof(text), "%s as %s", address, initiator);
	tell(control->boots, boot, BOOT_LOGIN, text);
}

void boots_session_end(struct control *control, const store_uuid_t *node, const char *reason,
		       const char *address)
{
	struct boots *boots = control->boots;
	struct boot *last = NULL;
	char text[LIMIT_BOOT_TEXT_BYTES];

	if (!boots)
		return; /* still starting, or ending */
	list_for_each (pos, &boots->by_node[node_bucket(node)]) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, by_owner);

		if (is_of_node(boot, node) && boot->head.login_ms > 0 &&
		    (!last || boot->head.login_ms >= last->head.login_ms))
			last = boot;
	}
	if (!last)
		return;
	(void)snprintf(text, sizeof(text), "%s%s%s", reason, address[0] ? ": " : "", address);
	tell(boots, last, BOOT_SESSION_END, text);
}

/* --- begin and end --- */

static int on_row(void *arg, const struct boot_row *row)
{
	struct boots *boots = arg;
	struct control *control = boots->control;
	struct boot_log log;
	struct boot *boot;
	int r = boot_log_load(&log, row->events, row->event_bytes, row->dropped);

	if (r < 0)
		return r;
	boot = boot_insert(boots, &row->head);
	if (!boot) {
		boot_log_done(&log);
		return -ENOMEM;
	}
	boot->log = log;
	boots->bytes += log.room;
	if (row->head.has_node && !node_find_uuid(control, &row->head.node) &&
	    !trash_find(control, &row->head.node))
		boot_drop(boots, boot); /* it went while we did not run */
	else
		trim_owner(boots, boot);
	trim_all(boots, NULL);
	return 0;
}

static int open_db(struct boots *boots)
{
	char path[PATH_BYTES];
	int r;

	(void)snprintf(path, sizeof(path), "%s/boots.db", boots->control->state_dir);
	r = boots_db_open(path, boots->control->mailbox, on_row, boots, &boots->db);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		boots->anew = true;
	if (r < 0 && r != -EBADMSG) {
		boots->failed = true;
		log_warn("boot records are kept in memory only for now: %s can't be read: %s", path,
			 strerror(-r));
	}
	return 0;
}

int boots_open(struct control *control)
{
	struct boots *boots = calloc(1, sizeof(*boots));
	int r;

	if (!boots)
		return -ENOMEM;
	control->boots = boots;
	boots->control = control;
	list_init(&boots->all);
	list_init(&boots->unknown);
	list_init(&boots->dirty);
	for (unsigned i = 0; i < BOOT_BUCKETS; i++) {
		list_init(&boots->by_id[i]);
		list_init(&boots->by_node[i]);
	}
	boots->dead = calloc(BOOT_DEAD, sizeof(*boots->dead));
	if (!boots->dead || boots_timer_new(boots) < 0)
		return -ENOMEM;
	r = open_db(boots);
	if (!boots_are_written(boots))
		boots_arm(boots);
	return r;
}

void boots_close(struct control *control)
{
	struct boots *boots = TAKE_PTR(control->boots);

	if (!boots)
		return;
	if (boots->db) {
		boots_db_stop(boots->db);
		boots_flush(boots);
		boots_db_free(boots->db);
	}
	if (boots->timer)
		event_free(TAKE_PTR(boots->timer));
	list_for_each (pos, &boots->all)
		boot_drop(boots, LIST_ENTRY(pos, struct boot, all));
	free(boots->dead);
	free(boots);
}

/* --- the calls --- */

static int no_boot(const char *id, struct api_error *err)
{
	return api_error_set(err, 404, "not_found", "GET /v1/boots lists those there are",
			     "there is no boot %s", id);
}

/* Head, events, or both, of a boot that may be new. */
static int put_boot(struct boots *boots, const char *id, const json_t *object,
		    struct boot **ret_boot)
{
	struct boot *boot = boot_find(boots, id);

	if (!boot)
		boot = boot_new(boots, id);
	if (!boot)
		return -ENOMEM;
	take_head(boots, boot, object);
	*ret_boot = boot;
	return add_events(boots, boot, json_object_get(object, "events"));
}

static int handle_add(struct boots *boots, const json_t *list, json_t **ret_body,
		      struct api_error *err)
{
	json_int_t events = 0;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *object = json_array_get(list, i);
		struct boot *boot;
		int r = put_boot(boots, json_string_value(json_object_get(object, "id")), object,
				 &boot);

		if (r < 0)
			return api_error_world(err, r, "boot records");
		events += (json_int_t)json_array_size(json_object_get(object, "events"));
	}
	*ret_body = json_pack("{s:I, s:I}", "boots", (json_int_t)json_array_size(list), "events",
			      events);
	return 0;
}

static int handle_put(struct boots *boots, const struct api_call *call, json_t **ret_body,
		      struct api_error *err)
{
	struct boot *boot;
	int r = put_boot(boots, call->key, call->json, &boot);

	if (r < 0)
		return api_error_world(err, r, "boot record");
	*ret_body = json_pack("{s:o}", "boot", reply_boot(boots, boot, false));
	return 0;
}

static int handle_events(struct boots *boots, const struct api_call *call, json_t **ret_body,
			 struct api_error *err)
{
	const json_t *events = json_object_get(call->json, "events");
	struct boot *boot = boot_find(boots, call->key);
	int r;

	if (!boot)
		return api_error_set(err, 404, "not_found", "make it first: PUT /v1/boots/ID",
				     "there is no boot %s", call->key);
	r = add_events(boots, boot, events);
	if (r < 0)
		return api_error_world(err, r, "boot record");
	*ret_body = json_pack("{s:I, s:I}", "events", (json_int_t)json_array_size(events),
			      "dropped", (json_int_t)boot->log.dropped);
	return 0;
}

static int handle_list(struct boots *boots, const struct api_call *call, json_t **ret_body,
		       struct api_error *err)
{
	const struct node *node = call->name[0] ? node_find(boots->control, call->name) : NULL;

	if (call->name[0] && !node)
		return api_error_set(err, 404, "not_found", "lunctl ls shows what there is",
				     "there is no node %s", call->name);
	if (node)
		boots_settle(boots, node);
	*ret_body = reply_boots(boots, node, call->key, call->last);
	return 0;
}

static int handle_pending_delete(struct boots *boots, const char *key, json_t **ret_body,
				 struct api_error *err)
{
	json_int_t count = 0;

	list_for_each (pos, &boots->unknown) {
		struct boot *boot = LIST_ENTRY(pos, struct boot, by_owner);

		if (boot_is_of_pi(&boot->head, key)) {
			boot_drop(boots, boot);
			count++;
		}
	}
	if (count == 0)
		return api_error_set(err, 404, "not_found", "lunctl ls --pending shows who does",
				     "no Pi %s waits for a node", key);
	*ret_body = json_pack("{s:I}", "removed", count);
	return 0;
}

int boots_handle(struct control *control, const struct api_call *call, json_t **ret_body,
		 struct api_error *err)
{
	struct boots *boots = control->boots;
	const struct boot *boot;

	switch (call->op) {
	case API_BOOTS_ADD:
		return handle_add(boots, json_object_get(call->json, "boots"), ret_body, err);
	case API_BOOT_PUT: return handle_put(boots, call, ret_body, err);
	case API_BOOT_EVENTS: return handle_events(boots, call, ret_body, err);
	default: break;
	}
	if (call->op != API_BOOTS || !call->name[0])
		boots_settle(boots, NULL);
	switch (call->op) {
	case API_BOOTS: return handle_list(boots, call, ret_body, err);
	case API_PENDING: *ret_body = reply_pending(boots); return 0;
	case API_PENDING_DELETE: return handle_pending_delete(boots, call->key, ret_body, err);
	default: break;
	}
	boot = boot_find(boots, call->key);
	if (!boot)
		return no_boot(call->key, err);
	*ret_body = reply_boot(boots, boot, true);
	return 0;
}
