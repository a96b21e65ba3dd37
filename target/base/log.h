/*
 * Logging: four levels, one line an event, to standard error (which systemd takes to the
 * journal, with the priority prefix it understands). Library-like modules do not log above
 * debug; the function that decides what happens logs once.
 */
#ifndef LUNROOT_BASE_LOG_H
#define LUNROOT_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Sets what is shown; `program` must outlive the process. Call before threads start. */
void log_init(const char *program, enum log_level level);

/* Parses "error", "warn", "info" or "debug"; false if it is none of them. */
bool log_level_parse(const char *text, enum log_level *ret_level);

/* The calling thread's tag, shown at debug level; `name` must be static. */
void log_set_thread(const char *name);

bool log_enabled(enum log_level level);

/* Writes one line with a single write(2); keeps errno. Any thread. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
/* Debug arguments are evaluated only when debug lines are shown. */
#define log_debug(...)                                          \
	do {                                                    \
		if (log_enabled(LOG_LEVEL_DEBUG))               \
			log_line(LOG_LEVEL_DEBUG, __VA_ARGS__); \
	} while (0)

#endif
