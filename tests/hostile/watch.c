/* See watch.h. */
#include "watch.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FDS_WAIT_MS 40000 /* half-open connections end with the login timeout of 15 s */

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

void watch_sample(struct watch *watch, bool second_half)
{
	unsigned *max = second_half ? &watch->anon_max_second_half : &watch->anon_max_first_half;
	unsigned kib = anon_kib(watch->pid);

	if (kib > *max)
		*max = kib;
}

bool watch_end(struct watch *watch, unsigned rss_slack_mib)
{
	unsigned fds = 0;

	for (unsigned waited = 0; waited <= FDS_WAIT_MS; waited += 100) {
		fds = count_fds(watch->pid);
		if (fds <= watch->fds_at_begin)
			break;
		usleep(100000);
	}
	printf("daemon: descriptors %u -> %u; anonymous memory %u KiB at first, at most %u KiB in "
	       "the "
	       "first half, %u KiB in the second\n",
	       watch->fds_at_begin, fds, watch->anon_at_begin, watch->anon_max_first_half,
	       watch->anon_max_second_half);
	if (fds > watch->fds_at_begin) {
		snprintf(watch->failure, sizeof(watch->failure),
			 "%u descriptors were not given back", fds - watch->fds_at_begin);
		return false;
	}
	if (watch->anon_max_second_half > watch->anon_max_first_half + rss_slack_mib * 1024) {
		snprintf(watch->failure, sizeof(watch->failure),
			 "memory grew in the second half by more than %u MiB", rss_slack_mib);
		return false;
	}
	return true;
}
