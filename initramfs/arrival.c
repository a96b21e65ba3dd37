/*
 * systemd makes /run/nologin early and removes it when users may log in (systemd-user-sessions):
 * seen and gone is multi-user. Another init has no such sign, and nothing is said.
 */
#include "initramfs/arrival.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "initramfs/console.h"
#include "initramfs/report.h"

#define LOOK_MS 250 /* systemd on a fast machine has passed it within a second */
/* A system that is not up by then, or says so in no way. */
#define WATCH_FOR_MS (10 * 60 * 1000)

static void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void arrival_init(struct arrival *arrival, int parent_fd, int run_fd, bool is_first)
{
	*arrival = (struct arrival){.parent_fd = parent_fd, .run_fd = run_fd, .is_first = is_first};
	if (report_wanted())
		return;
	fd_close(&arrival->parent_fd);
	fd_close(&arrival->run_fd);
}

/* Writing to a pipe that nobody can read is an error, which poll tells. */
static bool parent_is_gone(const struct arrival *arrival)
{
	struct pollfd other_end = {.fd = arrival->parent_fd, .events = 0};

	return poll(&other_end, 1, 0) > 0 && other_end.revents & POLLERR;
}

static void look_at_parent(struct arrival *arrival)
{
	if (!parent_is_gone(arrival))
		return;
	fd_close(&arrival->parent_fd);
	arrival->until_ms = now_ms() + WATCH_FOR_MS;
	if (arrival->is_first)
		report(REPORT_SWITCH, "init runs");
}

static void look_at_run(struct arrival *arrival)
{
	bool nologin = faccessat(arrival->run_fd, "nologin", F_OK, 0) == 0;
	bool up = arrival->nologin_seen && !nologin;

	arrival->nologin_seen |= nologin;
	if (up)
		report(REPORT_MULTI_USER, "%lld s after the kernel's start", now_ms() / 1000);
	if (up || now_ms() > arrival->until_ms)
		fd_close(&arrival->run_fd);
}

void arrival_look(struct arrival *arrival)
{
	if (arrival->parent_fd >= 0)
		look_at_parent(arrival);
	if (arrival->parent_fd < 0 && arrival->run_fd >= 0)
		look_at_run(arrival);
}

int arrival_due(const struct arrival *arrival)
{
	return arrival->parent_fd >= 0 || arrival->run_fd >= 0 ? LOOK_MS : -1;
}
