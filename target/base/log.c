/*
 * Logging to standard error, a line at a time.
 */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

/* A longer line is cut; text from peers is bounded before it gets here. */
#define LINE_BYTES_MAX 1024

/* Peers can provoke lines: a storm of them must not fill the disk. Errors are ours and few, and
 * are always shown; so is everything at debug level. */
#define LINES_A_SECOND 50
#define LINES_BURST    1000

static const char *log_program = "lunroot";
static enum log_level log_shown = LOG_LEVEL_INFO;
static bool log_to_journal;
static _Thread_local const char *log_thread = "main";

static const struct {
	const char *name;
	int syslog_priority;
} log_levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARN] = {"warn", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

void log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_shown = level;
	log_to_journal = getenv("JOURNAL_STREAM") != NULL;
}

bool log_level_parse(const char *text, enum log_level *ret_level)
{
	for (size_t i = 0; i < ARRAY_COUNT(log_levels); i++) {
		if (strcmp(text, log_levels[i].name) == 0) {
			*ret_level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

void log_set_thread(const char *name)
{
	log_thread = name;
}

bool log_enabled(enum log_level level)
{
	return level <= log_shown;
}

static size_t log_prefix(char *line, size_t bytes, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	int n;

	if (log_to_journal) {
		n = snprintf(line, bytes, "<%d>", log_levels[level].syslog_priority);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		localtime_r(&now.tv_sec, &tm);
		n = snprintf(line, bytes,
			     "%04d-%02d-%02d %02d:%02d:%02d.%03ld %s: %s: ", tm.tm_year + 1900,
			     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
			     now.tv_nsec / 1000000, log_program, log_levels[level].name);
	}
	if (log_shown == LOG_LEVEL_DEBUG)
		n += snprintf(line + n, bytes - (size_t)n, "[%s] ", log_thread);
	return (size_t)n;
}

/*
 * Whether there is room for one more line now; ret_lost is how many were left out since the last
 * one. A bucket of LINES_BURST that fills at LINES_A_SECOND.
 */
static bool log_admits(unsigned *ret_lost)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static int64_t filled_ms;
	static int64_t room = LINES_BURST;
	static unsigned lost;
	struct timespec now;
	int64_t now_ms;
	bool admitted;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	pthread_mutex_lock(&lock);
	if (now_ms - filled_ms >= 1000) {
		room += (now_ms - filled_ms) / 1000 * LINES_A_SECOND;
		filled_ms = now_ms;
	}
	if (room > LINES_BURST)
		room = LINES_BURST;
	admitted = room > 0;
	room -= admitted;
	lost += !admitted;
	*ret_lost = admitted ? lost : 0;
	if (admitted)
		lost = 0;
	pthread_mutex_unlock(&lock);
	return admitted;
}

void log_line(enum log_level level, const char *format, ...)
{
	int saved = errno;
	unsigned lost = 0;
	char line[LINE_BYTES_MAX];
	size_t used;
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	if (level > LOG_LEVEL_ERROR && log_shown < LOG_LEVEL_DEBUG && !log_admits(&lost))
		return;
	if (lost)
		log_line(LOG_LEVEL_ERROR, "%u lines were left out: too many at once", lost);
	used = log_prefix(line, sizeof(line), level);
	va_start(ap, format);
	n = vsnprintf(line + used, sizeof(line) - used - 1, format, ap);
	va_end(ap);
	if (n > 0)
		used += (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
	/* Text from peers must not forge a second line. */
	for (size_t i = 0; i < used; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	line[used++] = '\n';
	if (write(STDERR_FILENO, line, used) < 0) {
		/* Nobody is left to tell. */
	}
	errno = saved;
}
