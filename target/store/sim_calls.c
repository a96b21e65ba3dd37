/*
 * The system calls and allocations of the store, wrapped by the linker (--wrap): while the
 * simulation is armed they count points, fail when told, go through the simulated page cache, and
 * are noted, so that a process that dies gives everything back as to a kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "store/sim_internal.h"

#define BOOT_ID    "/proc/sys/kernel/random/boot_id"
#define FDS_MAX    1024
#define MEMORY_MAX 4096
#define MAPS_MAX   64

enum sim_fd { FD_NOT_OURS, FD_FILE, FD_VOLATILE, FD_FOLDER };

static struct {
	char run_dir[LIMIT_PATH_BYTES], boot_id[LIMIT_PATH_BYTES];
	uint8_t fds[FDS_MAX]; /* enum sim_fd */
	unsigned fd_count;
	void *memory[MEMORY_MAX];
	unsigned memory_count;
	struct {
		void *at;
		size_t bytes;
	} maps[MAPS_MAX];
	unsigned map_count;
} p;

/* ld's names for what it wraps. */
int __wrap_open64(const char *path, int flags, ...);
int __wrap_close(int fd);
ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
ssize_t __wrap_read(int fd, void *data, size_t bytes);
int __wrap_ftruncate64(int fd, off_t bytes);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes);
int __wrap_posix_fadvise64(int fd, off_t offset, off_t bytes, int advice);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_rename(const char *from, const char *to);
int __wrap_unlink(const char *path);
off_t __wrap_lseek64(int fd, off_t offset, int whence);
int __wrap_fstat64(int fd, struct stat *ret_st);
int __wrap_flock(int fd, int operation);
int __wrap_fchmod(int fd, mode_t mode);
void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __wrap_munmap(void *at, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void __wrap_free(void *at);
void __wrap_log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void __real_log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

ssize_t __real_read(int fd, void *data, size_t bytes);
int __real_posix_fadvise64(int fd, off_t offset, off_t bytes, int advice);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
off_t __real_lseek64(int fd, off_t offset, int whence);
int __real_flock(int fd, int operation);
int __real_fchmod(int fd, mode_t mode);
void *__real_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
int __real_munmap(void *at, size_t bytes);

void sim_set_folders(const char *dir, const char *run_dir, const char *boot_id)
{
	sim_names_init(dir);
	(void)snprintf(p.run_dir, sizeof(p.run_dir), "%s", run_dir);
	(void)snprintf(p.boot_id, sizeof(p.boot_id), "%s", boot_id);
}

bool sim_path_is_volatile(const char *path)
{
	size_t bytes = strlen(p.run_dir);

	return bytes > 0 && strncmp(path, p.run_dir, bytes) == 0 && path[bytes] == '/';
}

/* -1 with errno, or what is not negative as it is. */
static long result(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

/* Whether the call is to be taken part in; if so *ret_fault says how it fails. */
static bool is_ours(int fd)
{
	return sim_is_armed() && fd >= 0 && fd < FDS_MAX && p.fds[fd] != FD_NOT_OURS;
}

/* --- descriptors --- */

static void fd_note(int fd, const char *path, int flags)
{
	if (fd >= FDS_MAX)
		abort();
	p.fds[fd] = sim_path_is_volatile(path) ? FD_VOLATILE
		    : flags & O_DIRECTORY      ? FD_FOLDER
					       : FD_FILE;
	p.fd_count++;
}

static int open_now(const char *path, int flags, mode_t mode)
{
	bool fresh = flags & O_CREAT && access(path, F_OK) < 0;
	int fd, r = sim_fault(fresh ? SIM_CALL_CREATE : SIM_CALL_OPEN, false, -1, 0, NULL);

	if (r < 0)
		return (int)result(r);
	if (fresh)
		sim_point();
	if (strcmp(path, BOOT_ID) == 0)
		path = p.boot_id;
	fd = __real_open64(path, flags & ~O_TRUNC, mode);
	if (fd < 0)
		return fd;
	fd_note(fd, path, flags);
	if (fresh && p.fds[fd] == FD_FILE)
		sim_name_created(path);
	if (flags & O_TRUNC && ftruncate(fd, 0) < 0) {
		(void)close(fd);
		return -1;
	}
	if (fresh)
		sim_point();
	return fd;
}

int __wrap_open64(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	va_start(ap, flags);
	if (flags & O_CREAT)
		mode = va_arg(ap, mode_t);
	va_end(ap);
	return sim_is_armed() ? open_now(path, flags, mode) : __real_open64(path, flags, mode);
}

int __wrap_close(int fd)
{
	if (fd >= 0 && fd < FDS_MAX && p.fds[fd] != FD_NOT_OURS) {
		p.fds[fd] = FD_NOT_OURS;
		p.fd_count--;
	}
	return __real_close(fd);
}

/* --- contents --- */

ssize_t __wrap_pread64(int fd, void *data, size_t bytes, off_t offset)
{
	int r = is_ours(fd) ? sim_fault(SIM_CALL_READ, false, fd, (uint64_t)offset, &bytes) : 0;

	return r < 0 ? result(r) : __real_pread64(fd, data, bytes, offset);
}

ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
	int r = is_ours(fd) ? sim_fault(SIM_CALL_READ, false, fd, 0, NULL) : 0;

	return r < 0 ? result(r) : __real_read(fd, data, bytes);
}

ssize_t __wrap_pwrite64(int fd, const void *data, size_t bytes, off_t offset)
{
	ssize_t n;
	int r;

	if (!is_ours(fd))
		return __real_pwrite64(fd, data, bytes, offset);
	r = sim_fault(SIM_CALL_WRITE, false, fd, (uint64_t)offset, &bytes);
	if (r < 0)
		return result(r);
	if (p.fds[fd] == FD_FILE)
		return result(sim_write(fd, data, bytes, (uint64_t)offset));
	sim_point();
	n = __real_pwrite64(fd, data, bytes, offset);
	sim_point();
	return n;
}

int __wrap_ftruncate64(int fd, off_t bytes)
{
	int r;

	if (!is_ours(fd))
		return __real_ftruncate64(fd, bytes);
	r = sim_fault(SIM_CALL_TRUNCATE, false, fd, (uint64_t)bytes, NULL);
	if (r < 0)
		return (int)result(r);
	sim_point();
	if (p.fds[fd] == FD_FILE)
		r = (int)result(sim_file_truncate(fd, (uint64_t)bytes));
	else
		r = __real_ftruncate64(fd, bytes);
	sim_point();
	return r;
}

/* Only reserves space; what it does to a file can't be seen. */
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes)
{
	int r;

	if (!is_ours(fd))
		return __real_fallocate64(fd, mode, offset, bytes);
	r = sim_fault(SIM_CALL_ALLOCATE, false, fd, (uint64_t)offset, NULL);
	if (r < 0)
		return (int)result(r);
	sim_point();
	r = __real_fallocate64(fd, mode, offset, bytes);
	sim_point();
	return r;
}

int __wrap_posix_fadvise64(int fd, off_t offset, off_t bytes, int advice)
{
	if (is_ours(fd) && p.fds[fd] == FD_FILE && advice == POSIX_FADV_DONTNEED)
		sim_file_drop_cache(fd);
	return __real_posix_fadvise64(fd, offset, bytes, advice);
}

static int sync_now(int fd)
{
	int r = sim_fault(SIM_CALL_SYNC, false, fd, 0, NULL);

	if (p.fds[fd] == FD_VOLATILE || r == -EINTR)
		return (int)result(r);
	sim_point();
	if (p.fds[fd] == FD_FOLDER && r == 0)
		sim_folder_sync(fd);
	else if (p.fds[fd] == FD_FILE && r == 0)
		sim_file_sync(fd, sim_files_version());
	else if (p.fds[fd] == FD_FILE)
		sim_file_sync_failed(fd, sim_files_version());
	sim_point();
	return (int)result(r);
}

int __wrap_fdatasync(int fd)
{
	return is_ours(fd) ? sync_now(fd) : __real_fdatasync(fd);
}

int __wrap_fsync(int fd)
{
	return is_ours(fd) ? sync_now(fd) : __real_fsync(fd);
}

/* --- names --- */

int __wrap_rename(const char *from, const char *to)
{
	int r;

	if (!sim_is_armed())
		return __real_rename(from, to);
	r = sim_fault(SIM_CALL_RENAME, false, -1, 0, NULL);
	if (r < 0)
		return (int)result(r);
	sim_point();
	r = sim_name_rename(from, to);
	sim_point();
	return (int)result(r);
}

int __wrap_unlink(const char *path)
{
	int r;

	if (!sim_is_armed())
		return __real_unlink(path);
	sim_point();
	r = sim_path_is_volatile(path) ? __real_unlink(path) : (int)result(sim_name_unlink(path));
	sim_point();
	return r;
}

/* --- what changes nothing --- */

off_t __wrap_lseek64(int fd, off_t offset, int whence)
{
	int r = is_ours(fd) ? sim_fault(SIM_CALL_LOOK, false, fd, (uint64_t)offset, NULL) : 0;

	return r < 0 ? result(r) : __real_lseek64(fd, offset, whence);
}

int __wrap_fstat64(int fd, struct stat *ret_st)
{
	int r = is_ours(fd) ? sim_fault(SIM_CALL_LOOK, false, fd, 0, NULL) : 0;

	return r < 0 ? (int)result(r) : __real_fstat64(fd, ret_st);
}

int __wrap_flock(int fd, int operation)
{
	int r = is_ours(fd) ? sim_fault(SIM_CALL_LOOK, false, fd, 0, NULL) : 0;

	return r < 0 ? (int)result(r) : __real_flock(fd, operation);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	int r = is_ours(fd) ? sim_fault(SIM_CALL_LOOK, false, fd, 0, NULL) : 0;

	return r < 0 ? (int)result(r) : __real_fchmod(fd, mode);
}

/* --- memory --- */

void *__wrap_mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	int r = sim_fault(SIM_CALL_MAP, false, fd, 0, NULL);
	void *map;

	if (r < 0) {
		errno = -r;
		return MAP_FAILED;
	}
	map = __real_mmap64(at, bytes, protection, flags, fd, offset);
	if (!sim_is_armed() || map == MAP_FAILED)
		return map;
	if (p.map_count == MAPS_MAX)
		abort();
	p.maps[p.map_count].at = map;
	p.maps[p.map_count++].bytes = bytes;
	return map;
}

int __wrap_munmap(void *at, size_t bytes)
{
	for (unsigned i = 0; i < p.map_count; i++) {
		if (p.maps[i].at == at) {
			p.maps[i] = p.maps[--p.map_count];
			break;
		}
	}
	return __real_munmap(at, bytes);
}

static void *memory_note(void *at)
{
	if (!sim_is_armed() || !at)
		return at;
	if (p.memory_count == MEMORY_MAX)
		abort();
	p.memory[p.memory_count++] = at;
	return at;
}

static bool memory_fails(void)
{
	return sim_fault(SIM_CALL_MEMORY, false, -1, 0, NULL) < 0;
}

void *__wrap_malloc(size_t bytes)
{
	return memory_fails() ? NULL : memory_note(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return memory_fails() ? NULL : memory_note(__real_calloc(count, bytes));
}

void __wrap_free(void *at)
{
	for (unsigned i = p.memory_count; at && i-- > 0;) {
		if (p.memory[i] == at) {
			p.memory[i] = p.memory[--p.memory_count];
			break;
		}
	}
	__real_free(at);
}

/* --- the log --- */

/* Deaths and faults by the thousand: what they say is shown only if it is asked for. */
void __wrap_log_line(enum log_level level, const char *format, ...)
{
	static int shown = -1;
	char line[1024];
	va_list ap;

	if (shown < 0)
		shown = getenv("VERBOSE") != NULL;
	if (sim_is_armed() && !shown)
		return;
	va_start(ap, format);
	(void)vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	__real_log_line(level, "%s", line);
}

/* --- the end --- */

unsigned sim_process_holds(void)
{
	return p.memory_count + p.fd_count + p.map_count;
}

void sim_process_ends(void)
{
	while (p.map_count > 0) {
		p.map_count--;
		(void)__real_munmap(p.maps[p.map_count].at, p.maps[p.map_count].bytes);
	}
	for (int fd = 0; fd < FDS_MAX && p.fd_count > 0; fd++) {
		if (p.fds[fd] != FD_NOT_OURS)
			(void)close(fd);
	}
	while (p.memory_count > 0)
		__real_free(p.memory[--p.memory_count]);
}
