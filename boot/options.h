/*
 * lunbootd's settings: the command line and the configuration file say the same words.
 */
#ifndef LUNROOT_BOOT_OPTIONS_H
#define LUNROOT_BOOT_OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/option_table.h"

struct boot_options {
	char *interfaces[LIMIT_BOOT_INTERFACES]; /* ours; none: all that are up */
	unsigned interface_count;
	char socket_path[LIMIT_PATH_BYTES]; /* lunrootd's */
	char run_dir[LIMIT_PATH_BYTES];
	char user[64];                         /* empty: stay who we are */
	char portal[LIMIT_ADDRESS_TEXT_BYTES]; /* empty: where lunrootd listens, as the Pi reaches
						  it */
	char firmware_dir[LIMIT_PATH_BYTES]; /* bootcode.bin and the like for disks without; may be
						missing */
	char folder[LIMIT_PATH_BYTES]; /* boot files of all nodes, instead of their disks'; empty:
					  none */
	char cmdline[512];             /* appended to cmdline.txt */
	char programs_dir[LIMIT_PATH_BYTES]; /* mkinitramfs, lunroot-init-ARCH, busybox-ARCH; empty:
						beside us */
	char auto_image[LIMIT_OBJECT_NAME_BYTES + 1]; /* clones for newcomers; empty: not */
	char auto_name[LIMIT_OBJECT_NAME_BYTES + 1];  /* with one run of # for the number */
	uint64_t auto_max;
	uint64_t in_flight; /* boots that load at a time */
	uint64_t http_port, tftp_port, report_port;
	bool dhcp;  /* answer Pis; else only TFTP and HTTP */
	bool known; /* be the network's DHCP server */
	bool force_known;
	struct in_addr pool_first, pool_last;
	struct in_addr router, dns; /* 0.0.0.0: ourselves, none */
	uint64_t lease_s;
	char log_file[LIMIT_PATH_BYTES]; /* empty: standard error; in the background lunbootd.log in
					    run_dir */
	bool foreground;
	enum log_level log_level;
};

/* Defaults, then --config, then the rest of the command line. Speaks to the person itself. */
enum options_verdict boot_options_parse(int argc, char **argv, struct boot_options *ret_options);
void boot_options_done(struct boot_options *options);

#endif
