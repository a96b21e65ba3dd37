/*
 * What any daemon does around its work: going to the background, telling who started it, its log,
 * its descriptors. Before threads start.
 */
#ifndef LUNROOT_BASE_DAEMON_H
#define LUNROOT_BASE_DAEMON_H

#include <stdbool.h>

/*
 * The child goes on; the parent waits for daemon_ready(), so that who starts us may go on then, and
 * ends with failure if the child ends before. 0 or -errno.
 */
int daemon_background(void);
/* To the waiting parent, and to the service manager. */
void daemon_ready(void);
/* To the service manager (sd_notify(3)), if one asked for it: "READY=1", "STOPPING=1". */
void daemon_notify(const char *state);
/* From now on standard error is appended to `path` ("": stays as it is); in the background, input
 * and output are nothing. 0, or -errno after the old log was told. */
int daemon_log_to(const char *path, bool foreground);
/* The same in two steps: opened while it may be (ret_fd -1 for ""), and taken when whoever starts
 * us has read what there was. */
int daemon_log_open(const char *path, int *ret_fd);
int daemon_log_take(int fd, bool foreground);
/* As many descriptors as may be. */
void daemon_raise_descriptor_limit(void);

#endif
