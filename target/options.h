/*
 * lunrootd's settings: the command line and the configuration file say the same words.
 */
#ifndef LUNROOT_OPTIONS_H
#define LUNROOT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/option_table.h"

struct options {
	char state_dir[LIMIT_PATH_BYTES];
	char run_dir[LIMIT_PATH_BYTES];
	char socket_path[LIMIT_PATH_BYTES]; /* empty: control.sock in run_dir */
	char log_file[LIMIT_PATH_BYTES];    /* empty: stderr, or lunrootd.log in state_dir */
	char user[64];                      /* empty: stay who we are */
	char *portals[LIMIT_PORTALS];       /* ours */
	unsigned portal_count;
	unsigned reactor_count; /* 0: by the number of cores */
	uint64_t ping_idle_ms;  /* 0: LIMIT_PING_IDLE_MS */
	uint64_t merge_bytes_per_s;
	/* What clones and imports leave free: a part, or (with 0) so many bytes. */
	unsigned reserve_percent;
	uint64_t reserve_bytes;
	uint64_t trash_s; /* how long what was removed can be brought back */
	enum log_level log_level;
	bool foreground;
};

/* Defaults, then --config, then the rest of the command line. Speaks to the person itself. */
enum options_verdict options_parse(int argc, char **argv, struct options *ret_options);
void options_done(struct options *options);

#endif
