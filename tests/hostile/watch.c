/* See watch.h. */
#include "watch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Half-open connections end with the login timeout of 15 s, pools are trimmed after 5 s. */
#define SETTLE_MS 40000

static unsigned count_fds(pid_t pid)
{
	char path[64];
	unsigned count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2; /* "." and ".." */
}

static unsigned anon_kib(pid_t pid)
{
	char path[64], line[256];
	unsigned kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "RssAnon: %u", &kib) == 1)
			break;
	fclose(file);
	return kib;
}

bool watch_begin(struct watch *watch, pid_t pid)
{
	memset(watch, 0, sizeof(*watch));
	watch->pid = pid;
	if (!watch_alive(watch)) {
		fprintf(stderr, "watch: no process %d\n", pid);
		return false;
	}
	watch->fds_at_begin = count_fds(pid);
	watch->anon_at_begin = anon_kib(pid);
	return true;
}

bool watch_alive(const struct watch *watch)
{
	char path[64], line[512];
	bool alive = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", watch->pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	if (fgets(line, sizeof(line), file)) {
		const char *state = strrchr(line, ')');

		alive = state && state[1] && state[2] != 'Z' && state[2] != 'X';
	}
	fclose(file);
	return alive;
}

void watch_sample(struct watch *watch)
{
	unsigned kib = anon_kib(watch->pid);

	if (kib > watch->anon_max)
		watch->anon_max = kib;
}

bool watch_end(struct watch *watch, unsigned rss_slack_mib)
{
	unsigned fds = 0, anon = 0;
	bool settled = false;

	for (unsigned waited = 0; waited <= SETTLE_MS && !settled; waited += 100) {
		fds = count_fds(watch->pid);
		anon = anon_kib(watch->pid);
		settled = fds <= watch->fds_at_begin &&
			  anon <= watch->anon_at_begin + rss_slack_mib * 1024;
		if (!settled)
			usleep(100000);
	}
	printf("daemon: descriptors %u -> %u; anonymous memory %u KiB, at most %u KiB, %u KiB in "
	       "the "
	       "end\n",
	       watch->fds_at_begin, fds, watch->anon_at_begin, watch->anon_max, anon);
	if (fds > watch->fds_at_begin) {
		snprintf(watch->failure, sizeof(watch->failure),
			 "%u descriptors were not given back", fds - watch->fds_at_begin);
		return false;
	}
	if (!settled)
		snprintf(watch->failure, sizeof(watch->failure),
			 "%u KiB of memory more than at the beginning were not given back",
			 anon - watch->anon_at_begin);
	return settled;
}
