/*
 * The steps that move files between "is made", "is" and "is removed". A file's place is taken
 * with RENAME_NOREPLACE, so that no step can ever cover another file.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

int file_move(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* Some file systems (older NFS) don't know the flag; we hold the directory's lock. */
	if (access(to, F_OK) == 0)
		return -EEXIST;
	return rename(from, to) < 0 ? -errno : 0;
}

void file_unlink(const char *path)
{
	if (unlink(path) < 0 && errno != ENOENT)
		log_warn("%s can't be removed: %s; it is tried again at the next start", path,
			 strerror(errno));
}

int directory_sync(const char *path)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int folder_sync(const struct control *control, const char *name)
{
	char path[PATH_BYTES];

	(void)snprintf(path, sizeof(path), "%s/%s", control->state_dir, name);
	return directory_sync(path);
}
