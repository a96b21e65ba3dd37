/*
 * Room on the state directory's file system. A reserve keeps some of it for the nodes that are
 * there: what would make more things (clones, imports) is refused or stopped while less than the
 * reserve is free; the nodes' own writes go on until nothing is left. A timer of the control
 * thread watches it, tells the log when the border is crossed, stops work that fills the disk
 * and can't look for itself, and lets trash go. Removing takes a little space itself, which the
 * catalogue keeps for that (catalog_reserve).
 */
#include "control/control_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "base/size.h"

#define WATCH_S       2
#define NOTHING_BYTES (2u << 20) /* less than this is too little for what a node writes at once */
#define GONE_WATCHES  2          /* every so many a look at files that may be gone */
/* Free space that goes up and down by a few blocks at the border is told once. */
#define CALM_PERCENT 105

static uint64_t percent_of(uint64_t whole, unsigned percent)
{
	return whole / 100 * percent + whole % 100 * percent / 100;
}

int space_read(const struct control *control, struct space *ret_space)
{
	struct statvfs fs;

	while (statvfs(control->state_dir, &fs) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	ret_space->total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
	/* What is left for us, without what only root may have. */
	ret_space->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	ret_space->reserve_bytes = control->reserve_percent ? percent_of(ret_space->total_bytes,
									 control->reserve_percent)
							    : control->reserve_bytes;
	return 0;
}

bool space_is_short(const struct space *space)
{
	return space->free_bytes < space->reserve_bytes;
}

int space_check(const struct control *control, const char *kind, const char *name,
		struct api_error *err)
{
	char free_text[SIZE_TEXT_BYTES], reserve_text[SIZE_TEXT_BYTES];
	struct space space;
	int r = space_read(control, &space);

	if (r < 0)
		return api_error_world(err, r, control->state_dir);
	if (!space_is_short(&space))
		return 0;
	return api_error_set(err, 507, "no_space", SPACE_CURE,
			     "%s %s can't be made: %s are free in %.300s, and %s are reserved for "
			     "the nodes' writes",
			     kind, name, size_format(space.free_bytes, free_text),
			     control->state_dir, size_format(space.reserve_bytes, reserve_text));
}

bool space_is_awaited(const struct control *control, const struct node *node,
		      const struct server_stats *stats, const struct store_stats *disk)
{
	struct space space;

	if (!disk->no_space)
		return false;
	for (unsigned i = 0; i < stats->session_count; i++) {
		if (memcmp(stats->sessions[i].target_uuid, node->uuid.b, sizeof(node->uuid.b)) == 0)
			return true;
	}
	return space_read(control, &space) < 0 || space.free_bytes < NOTHING_BYTES;
}

/* --- watching --- */

static void tell(struct control *control, const struct space *space)
{
	char free_text[SIZE_TEXT_BYTES], reserve_text[SIZE_TEXT_BYTES];
	bool is_short = space_is_short(space);

	size_format(space->free_bytes, free_text);
	size_format(space->reserve_bytes, reserve_text);
	if (is_short && !control->space_short) {
		control->space_short = true;
		log_warn("%s: %s are free, less than the reserve of %s: clones and imports are "
			 "refused until there is more; %s",
			 control->state_dir, free_text, reserve_text, SPACE_CURE);
	} else if (!is_short && control->space_short &&
		   space->free_bytes >= percent_of(space->reserve_bytes, CALM_PERCENT)) {
		control->space_short = false;
		log_info("%s: %s are free again, the reserve is %s", control->state_dir, free_text,
			 reserve_text);
	}
}

void space_watch(struct control *control)
{
	struct space space;

	if (space_read(control, &space) < 0)
		return;
	tell(control, &space);
	if (space_is_short(&space))
		jobs_want_space(control);
	trash_look(control);
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct control *control = arg;

	(void)fd;
	(void)what;
	space_watch(control);
	if (control->watches++ % GONE_WATCHES == 0)
		gone_watch(control);
}

int space_start(struct control *control)
{
	const struct timeval every = {.tv_sec = WATCH_S};

	control->space_event = event_new(control->base, -1, EV_PERSIST, on_watch, control);
	if (!control->space_event || event_add(control->space_event, &every) < 0)
		return -ENOMEM;
	space_watch(control);
	return 0;
}

void space_stop(struct control *control)
{
	if (control->space_event)
		event_free(control->space_event);
	control->space_event = NULL;
}
