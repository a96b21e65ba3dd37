/*
 * The control plane: the state directory with its catalogue, the operations that make, rename
 * and remove images and nodes, and the HTTP API on a unix socket (docs/api.md). It runs on the
 * control thread; the data path is reached only through session/server.h.
 */
#ifndef LUNROOT_CONTROL_CONTROL_H
#define LUNROOT_CONTROL_CONTROL_H

#include "base/limits.h"
#include "base/mailbox.h"
#include "store/store.h"

struct control;
struct event_base;
struct server;

struct control_config {
	const char *state_dir, *run_dir;
	const char *socket_path; /* NULL: control.sock in run_dir */
	struct server *server;
	struct mailbox *mailbox; /* the control thread's; workers post to it */
	struct event_base *base;
	const char *portals[LIMIT_PORTALS]; /* real addresses and ports */
	unsigned portal_count;
	uint64_t merge_bytes_per_s; /* how fast layers are merged in the background; 0: no limit */
	/* What clones and imports leave free for the nodes' writes: a part of the file system, or
	 * (with 0) so many bytes; 0 and 0: nothing. */
	unsigned reserve_percent;
	uint64_t reserve_bytes;
	int64_t trash_s; /* how long what was removed can be brought back; 0: not at all */
};

/*
 * Locks the state directory, opens (or makes) the catalogue, finishes or takes back what a killed
 * operation left, and opens the control socket. All strings are copied. 0, or -errno and a
 * sentence with the cure.
 */
int control_new(const struct control_config *config, struct control **ret_control,
		struct store_error *err);
/*
 * Opens every node's disks and hands them to the server. A node that can't be opened is logged,
 * shown as damaged and not served; the others go on. 0, or -errno if nothing can be served.
 */
int control_serve_all(struct control *control);
/* Before server_stop: from now on nothing begins any more that changes a node, and jobs end. */
void control_stop(struct control *control);
/* After server_stop is done. Cancels jobs and waits for their threads. NULL is fine. */
void control_free(struct control *control);

#endif
