/*
 * Names as strangers ask for them, made fit to be looked up, logged and compared. No request leaves
 * the tree: what would is refused here, once, for TFTP and HTTP. Any thread.
 */
#ifndef LUNROOT_BOOT_PATH_H
#define LUNROOT_BOOT_PATH_H

#include <stddef.h>

#include "base/limits.h"

#define PATH_BUFFER_BYTES (LIMIT_BOOT_PATH_BYTES + 1)

/*
 * Cleans a path: '\\' becomes '/'; empty parts and "." go, so that "/a//./b/" is "a/b".
 *   -EINVAL        a NUL, a control character or no UTF-8
 *   -EACCES        a part is ".."
 *   -ENOENT        nothing is left
 *   -ENAMETOOLONG  more than LIMIT_BOOT_PATH_BYTES are left
 */
int path_clean(const char *asked, size_t bytes, char ret_path[PATH_BUFFER_BYTES]);

/* The same for a URL's path (RFC 3986, 2.1: %XX); -EINVAL also for a broken escape. */
int path_clean_url(const char *asked, char ret_path[PATH_BUFFER_BYTES]);

#endif
