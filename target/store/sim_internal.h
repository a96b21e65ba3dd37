/*
 * What the parts of the simulation share: the reactor (sim.c), the page cache and the folders
 * (sim_files.c), and the system calls that the store makes outside of the reactor (sim_calls.c).
 */
#ifndef LUNROOT_STORE_SIM_INTERNAL_H
#define LUNROOT_STORE_SIM_INTERNAL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "store/sim.h"

/* --- sim.c --- */

/* The instant before or after something changed: the process may end here. */
void sim_point(void);
/* 0, or -errno that this call shall fail with. Shortens *bytes if that is the fault. */
int sim_fault(enum sim_call call, bool in_ring, int fd, uint64_t offset, size_t *bytes);
/* A write that counts points. */
ssize_t sim_write(int fd, const void *data, size_t bytes, uint64_t offset);

/* --- sim_files.c; each returns as the system call, but -errno --- */

void sim_files_init(void);
/* Grows with each change; a sync covers what is not newer than the number it is given. */
uint64_t sim_files_version(void);
ssize_t sim_file_write(int fd, const void *data, size_t bytes, uint64_t offset);
int sim_file_punch(int fd, uint64_t offset, uint64_t bytes);
int sim_file_truncate(int fd, uint64_t bytes);
void sim_file_sync(int fd, uint64_t version);
/* Some of it reached the medium; the rest never will, unless it is written again. */
void sim_file_sync_failed(int fd, uint64_t version);
/* Clean pages leave the page cache: what a failed sync lost is seen to be lost. */
void sim_file_drop_cache(int fd);

/* Entries of folders. */
void sim_names_init(const char *dir);
void sim_name_created(const char *path);
int sim_name_unlink(const char *path);
int sim_name_rename(const char *from, const char *to);
void sim_folder_sync(int fd);

/* --- sim_calls.c --- */

/* Files there live in memory: no power loss brings back what was in them. */
bool sim_path_is_volatile(const char *path);
bool sim_fd_is_volatile(int fd);

/* The C library's, past the wrappers. */
int __real_open64(const char *path, int flags, ...);
int __real_close(int fd);
ssize_t __real_pread64(int fd, void *data, size_t bytes, off_t offset);
ssize_t __real_pwrite64(int fd, const void *data, size_t bytes, off_t offset);
int __real_ftruncate64(int fd, off_t bytes);
int __real_fallocate64(int fd, int mode, off_t offset, off_t bytes);
struct stat;
int __real_fstat64(int fd, struct stat *ret_st);
int __real_unlink(const char *path);
int __real_rename(const char *from, const char *to);
void *__real_calloc(size_t count, size_t bytes);
void *__real_malloc(size_t bytes);
void __real_free(void *p);

#endif
