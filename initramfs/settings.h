/*
 * What a node is told about its disk, and by whom: node.conf (appended to the initramfs, so that
 * secrets stand in no command line), the kernel's command line, and DHCP's root path (option 17,
 * RFC 4173). One table of keys serves all three; the source named first wins, key by key.
 *
 *     node.conf        KEY=VALUE, a line each; # begins a comment line
 *     command line     lunroot=ROOTPATH, lunroot=ADDRESS[,ADDRESS]..., lunroot.KEY=VALUE,
 *                      and of the kernel's own words root= rootflags= rootfstype= ro rw
 *                      init= ip=, where no lunroot.KEY stands; the last one counts
 *     root path        iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET[;KEY=VALUE]...
 *
 * lunroot=dhcp says only that root is ours and DHCP knows the rest. Quotes are the kernel's.
 * ro, rw and rescue may stand without a value. Any other key said twice in one source is a mistake.
 * A source that names a target means its LUN 0 unless it says otherwise.
 *
 * Pure: no I/O, no clock. Whatever is wrong is named, with its source and field, and nothing of a
 * bad source is half taken: a node never boots from what it had to guess.
 */
#ifndef LUNROOT_INITRAMFS_SETTINGS_H
#define LUNROOT_INITRAMFS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define SETTINGS_PORTALS_MAX 4
#define SETTINGS_WORD_BYTES  256 /* an option string: rootflags, root, init... */

enum settings_source { SETTINGS_NODE_CONF, SETTINGS_CMDLINE, SETTINGS_DHCP, SETTINGS_SOURCE_COUNT };

/* A host as it was written (name, IPv4, IPv6 without brackets, scope allowed) and a TCP port. */
struct settings_portal {
	char host[254]; /* RFC 1035: 253 at most */
	uint16_t port;
};

/* Who is told how far the boot got; host "" nobody. Its host is a number, never a name. */
struct settings_report {
	struct settings_portal to;
	char token[33]; /* 32 hexadecimal digits, in lower case */
};

/* The third state: nobody said anything. */
enum settings_choice { SETTINGS_UNSET, SETTINGS_NO, SETTINGS_YES };

struct settings {
	/* Who serves the disk, tried in this order. */
	struct settings_portal
		portals[SETTINGS_PORTALS_MAX]; /* portal=HOST[:PORT][,HOST[:PORT]]... */
	unsigned portal_count;
	char target[LIMIT_ISCSI_NAME_BYTES + 1];    /* target= */
	char initiator[LIMIT_ISCSI_NAME_BYTES + 1]; /* initiator= ; "" unset */
	uint16_t lun;                               /* lun= 0 to 16383; default 0 */
	/* CHAP; "" means none. mutual_* is what the target must prove. */
	char user[LIMIT_CHAP_NAME_BYTES + 1], secret[LIMIT_CHAP_SECRET_BYTES + 1];
	char mutual_user[LIMIT_CHAP_NAME_BYTES + 1], mutual_secret[LIMIT_CHAP_SECRET_BYTES + 1];
	bool header_digest, data_digest; /* header_digest= data_digest= : crc32c or none */

	/* Which file system on it is root, and how it is mounted. */
	char root[SETTINGS_WORD_BYTES];      /* "" (found by itself), LABEL=, UUID=, PARTUUID=,
						PARTLABEL=, PART=N */
	char rootflags[SETTINGS_WORD_BYTES]; /* "" none */
	char rootfstype[32];                 /* "" found by itself */
	enum settings_choice read_only; /* ro=, rw=; unset: read-only, as the kernel's default */
	bool overlay_tmpfs;             /* overlay=tmpfs: a throw-away root; overlay=none */
	enum settings_choice fsck;      /* fsck=yes|no; unset: yes if e2fsck is there */
	char init[SETTINGS_WORD_BYTES]; /* init= ; "" the usual places */

	/* The network. */
	char interface[16];           /* interface= ; "" the first wired one with a carrier */
	char ip[SETTINGS_WORD_BYTES]; /* the kernel's ip= as written; "" DHCP */
	char hostname[64];            /* hostname= a DNS label; "" what DHCP says */

	/* When it does not work. */
	enum settings_choice rescue; /* rescue=yes|no, or the bare word lunroot.rescue: a shell
					instead of waiting */
	uint32_t reboot_after_s;     /* reboot_after=SECONDS; default 600, 0 never */

	struct settings_report report; /* report=ADDRESS[:PORT]/TOKEN */

	uint64_t given[SETTINGS_SOURCE_COUNT]; /* bits by key (internal): who said what */
};

/* Defaults, nothing given. */
void settings_init(struct settings *settings);
/* Wipes secrets. */
void settings_done(struct settings *settings);

/* One sentence that names source, field and cure, e.g. "node.conf, line 3: lun=x: a number from 0
 * to 16383 is wanted". */
struct settings_error {
	char text[320];
};

/*
 * Each takes a whole source, in any order of calls; what a source of higher rank gave stays. 0, or
 * -EINVAL with `ret_error` and `settings` as it was. Text need not end with NUL; secrets are never
 * repeated in an error. Unknown keys: an error in node.conf and after "lunroot.", since a typing
 * error there is a wrong disk; other words of the command line are not ours.
 */
int settings_take_node_conf(struct settings *settings, const char *text, size_t bytes,
			    struct settings_error *ret_error);
int settings_take_cmdline(struct settings *settings, const char *text, size_t bytes,
			  struct settings_error *ret_error);
/*
 * DHCP option 17 as received. A root path of another kind ("/srv/nfs", "nbd:...") is not ours: 0
 * and nothing taken. An empty SERVER means `dhcp_server` (dotted); with "" for that, too, the root
 * path says nothing of who serves.
 */
int settings_take_root_path(struct settings *settings, const char *text, size_t bytes,
			    const char *dhcp_server, struct settings_error *ret_error);

/*
 * After all sources: is there a portal and a target, do the CHAP parts belong together (user with
 * secret; mutual only with one-way; lengths of RFC 7143, 9.2.1; both secrets differ)? Derives
 * initiator from a lunroot target name (IQN_PREFIX:NAME -> IQN_PREFIX:initiator:NAME); for another
 * target, from `fallback_id` (a serial or MAC; letters, digits, - only). 0, or -EINVAL with
 * `ret_error`.
 */
int settings_finish(struct settings *settings, const char *fallback_id,
		    struct settings_error *ret_error);

/*
 * "HOST", "HOST:PORT", "[IPv6]:PORT", "IPv6" and a TargetAddress's ",TPGT" suffix cut off (RFC
 * 7143, 13.8). `default_port` where none is written. 0 or -EINVAL.
 */
int settings_portal_parse(const char *text, uint16_t default_port,
			  struct settings_portal *ret_portal);

#endif
