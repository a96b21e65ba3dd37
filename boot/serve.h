/*
 * What TFTP and HTTP ask of the rest of the boot service: which bytes a name means for this peer,
 * and whom to tell what became of them. Event-loop thread.
 */
#ifndef LUNROOT_BOOT_SERVE_H
#define LUNROOT_BOOT_SERVE_H

#include <stdbool.h>
#include <stdint.h>

#include <netinet/in.h>

#include "boot/blob.h"

struct serve_request {
	struct sockaddr_in peer, local; /* local: the address that was asked, and answers */
	int ifindex;                    /* the interface it was asked through; 0: unknown */
	/*
	 * As asked, but cleaned (boot/path.h): relative, no "..", no control characters, '\\' as
	 * '/', at most LIMIT_BOOT_PATH_BYTES. Gone when the call returns.
	 */
	const char *path;
	bool http;
};

enum serve_event {
	SERVE_ASKED,   /* open gave bytes, and they are on their way */
	SERVE_MISSING, /* open said -ENOENT or -EACCES */
	SERVE_SENT,    /* the client has it all */
	SERVE_ENDED,   /* the client ended it; boot ROMs test for a file that way */
	SERVE_LOST     /* the client fell silent, or made room for others */
};

struct serve_progress {
	uint64_t bytes;       /* the client has confirmed (HTTP: all or none) */
	uint64_t file_bytes;  /* of this answer: of the range, if HTTP was asked for one */
	unsigned retries;     /* how often something was sent again because no answer came */
	uint64_t took_ms;     /* since the request */
	unsigned block_bytes; /* TFTP's, as agreed; 0 for HTTP */
	const char *text;     /* why; of an ERROR, the client's words (clean UTF-8); may be "" */
};

/* Both run on the event-loop thread, from within it, and must not free the server that calls. */
struct serve_ops {
	/*
	 * 0 and a reference; -ENOENT: no such file; -EACCES: not for this peer; -EAGAIN: not ready,
	 * so TFTP stays silent (its clients ask again) and HTTP says 503, Retry-After: 1. Any other
	 * error is ours and treated as -EAGAIN. Never blocks.
	 */
	int (*open)(void *arg, const struct serve_request *request, struct blob **ret_blob);
	/* After SERVE_ASKED comes exactly one of SENT, ENDED or LOST, unless a newer request took
	 * the transfer's place or the server is freed: then nothing. */
	void (*event)(void *arg, const struct serve_request *request, enum serve_event event,
		      const struct serve_progress *progress);
};

#endif
