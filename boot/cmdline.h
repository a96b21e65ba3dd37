/*
 * The kernel's command line that a node is given: its disk's own cmdline.txt without the words that
 * would lead it elsewhere than to its disk on the server, or change that disk's layout. Pure; any
 * thread.
 */
#ifndef LUNROOT_BOOT_CMDLINE_H
#define LUNROOT_BOOT_CMDLINE_H

#include "base/limits.h"
#include "boot/boot_error.h"

/* For a disk that has none. */
#define CMDLINE_DEFAULT "console=serial0,115200 console=tty1 rw rootwait"

struct cmdline {
	char text[LIMIT_CMDLINE_BYTES + 1]; /* one line, no newline */
	char root[256];                     /* the root= that was kept; "": none */
	char dropped[256];                  /* what was taken out, for people; "": nothing */
};

/*
 * Makes it of cmdline.txt (its first line that has something in it) and `extra` ("": nothing).
 * 0, or -EINVAL with the text: too long, a quote without its end, control characters.
 */
int cmdline_make(const char *text, size_t bytes, const char *extra, struct cmdline *ret_cmdline,
		 struct boot_error *ret_error);

#endif
