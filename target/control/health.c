/*
 * How the server is: room, and what needs a person. The same alarms for lunctl ls, lunctl stats
 * and whoever reads the API.
 */
#include "control/control_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/size.h"

static void alarm_add(json_t *alarms, const char *code, const char *cure, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void alarm_add(json_t *alarms, const char *code, const char *cure, const char *format, ...)
{
	char message[STORE_ERROR_BYTES + NAME_BYTES + 16];
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	json_array_append_new(alarms, json_pack("{s:s, s:o, s:s}", "code", code, "message",
						reply_text(message), "cure", cure));
}

static void alarm_space(const struct control *control, const struct space *space, json_t *alarms)
{
	char free_text[SIZE_TEXT_BYTES], reserve_text[SIZE_TEXT_BYTES];

	if (space_is_short(space))
		alarm_add(alarms, "reserve", SPACE_CURE,
			  "%s are free in %.300s, less than the reserve of %s: clones and imports "
			  "are refused",
			  size_format(space->free_bytes, free_text), control->state_dir,
			  size_format(space->reserve_bytes, reserve_text));
}

static void alarm_unit(const struct control *control, const struct node *node,
		       const struct server_stats *stats, const struct server_unit_info *unit,
		       json_t *alarms)
{
	if (unit->store.failed)
		alarm_add(alarms, "failed",
			  "mend the server's disk (the kernel's log says what is wrong) and start "
			  "lunrootd again; then let the node check its file system",
			  "LUN %u of %s has failed: the server can't keep its writes, and refuses "
			  "them",
			  unit->lun, node->name);
	if (space_is_awaited(control, node, stats, &unit->store))
		alarm_add(
			alarms, "no_space", SPACE_CURE,
			"no space left: the writes of %s to LUN %u wait until there is some again",
			node->name, unit->lun);
}

static void alarm_gone(struct control *control, const struct node *node, json_t *alarms)
{
	char path[PATH_BYTES], cure[GONE_CURE_BYTES];
	const struct lun *lun = node->gone && !node->busy ? gone_look(control, node, path) : NULL;

	if (!lun)
		return;
	gone_cure(node->name, lun->number, cure);
	alarm_add(alarms, "gone", cure, GONE_TEXT, path, node->name);
}

static void alarm_node(struct control *control, const struct node *node,
		       const struct server_stats *stats, json_t *alarms)
{
	if (node->message[0])
		alarm_add(alarms, "damaged", "", "%s: %s", node->name, node->message);
	alarm_gone(control, node, alarms);
	for (unsigned i = 0; i < stats->unit_count; i++) {
		if (memcmp(node->uuid.b, stats->units[i].target_uuid, sizeof(node->uuid.b)) == 0)
			alarm_unit(control, node, stats, &stats->units[i], alarms);
	}
}

static json_t *reply_space(const struct control *control, const struct space *space)
{
	json_int_t trash = 0;

	list_for_each (pos, &control->trash)
		trash +=
			(json_int_t)trash_used_bytes(control, LIST_ENTRY(pos, struct trash, entry));
	return json_pack("{s:I, s:I, s:I, s:I, s:b}", "total_bytes", (json_int_t)space->total_bytes,
			 "free_bytes", (json_int_t)space->free_bytes, "reserve_bytes",
			 (json_int_t)space->reserve_bytes, "trash_bytes", trash, "below_reserve",
			 (int)space_is_short(space));
}

json_t *reply_health(struct control *control, const struct server_stats *stats)
{
	json_t *alarms = json_array(), *body = json_object();
	struct space space;

	if (space_read(control, &space) == 0) {
		json_object_set_new(body, "space", reply_space(control, &space));
		alarm_space(control, &space, alarms);
	}
	for (unsigned i = 0; i < control->node_count; i++)
		alarm_node(control, control->nodes[i], stats, alarms);
	json_object_set_new(body, "alarms", alarms);
	return body;
}
