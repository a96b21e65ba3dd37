/*
 * Small things that a program which is /init does over and over: reading little files, starting
 * programs.
 */
#ifndef LUNROOT_INITRAMFS_RUN_H
#define LUNROOT_INITRAMFS_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads up to `bytes` - 1 and ends them with NUL: the length, or a negative errno. */
ssize_t file_read(const char *path, char *ret_text, size_t bytes);
/* As file_read, without the newline at the end; "" for what can't be read. */
void file_read_word(const char *path, char *ret_text, size_t bytes);
int file_write(const char *path, const char *text);
bool file_exists(const char *path);

/*
 * Starts a program and does not wait: its pid or a negative errno. Its input is empty and its
 * output the console's, or goes to `output_fd` if that is not negative.
 */
int program_start(char *const argv[], int output_fd);
/* Starts it and waits for its end: its exit status (128 + signal), or a negative errno. */
int program_run(char *const argv[]);

#endif
