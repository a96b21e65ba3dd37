/*
 * Watches a process through /proc while others torment it: is it alive, how many descriptors
 * does it hold, how much anonymous memory.
 */
#ifndef LUNROOT_TESTS_WATCH_H
#define LUNROOT_TESTS_WATCH_H

#include <stdbool.h>
#include <sys/types.h>

struct watch {
	pid_t pid;
	unsigned fds_at_begin;
	/* KiB of RssAnon; live maps and files are not ours to judge */
	unsigned anon_at_begin, anon_max;
	char failure[200];
};

/* Takes the baseline; false after printing why not. */
bool watch_begin(struct watch *watch, pid_t pid);
bool watch_alive(const struct watch *watch);
void watch_sample(struct watch *watch);
/* Waits until descriptors and memory are back at the baseline, prints, and judges. */
bool watch_end(struct watch *watch, unsigned rss_slack_mib);

#endif
