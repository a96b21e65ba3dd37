/*
 * The real system's first minutes, seen by the keeper for the boot service: that its init runs, and
 * that users may log in. Looks only at a pipe and at /run, which is memory: never at the root disk.
 */
#ifndef LUNROOT_INITRAMFS_ARRIVAL_H
#define LUNROOT_INITRAMFS_ARRIVAL_H

#include <stdbool.h>

struct arrival {
	int parent_fd; /* a pipe's end for writing; the other one is closed by the parent's exec */
	int run_fd;    /* /run, from before the switch; -1: no more to be seen */
	bool is_first; /* the parent is the first process: its exec is the switch */
	bool nologin_seen;
	long long until_ms; /* 0: the parent is not gone yet */
};

/* Takes both descriptors; they may be negative. Without anybody to be told it has done already. */
void arrival_init(struct arrival *arrival, int parent_fd, int run_fd, bool is_first);
void arrival_look(struct arrival *arrival);
/* When to look next, in milliseconds; -1: never again. */
int arrival_due(const struct arrival *arrival);

#endif
