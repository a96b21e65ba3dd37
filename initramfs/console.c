/*
 * Lines for people, through the kernel's log.
 */
#include "initramfs/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/report.h"

#define AGAIN_MS   30000
#define LIMIT_FILE "/proc/sys/kernel/printk_devkmsg"

static int kmsg_fd = -1;
static char old_limit[16];

static void file_write(const char *path, const char *text)
{
	int AUTO_CLOSE fd = open(path, O_WRONLY | O_CLOEXEC);

	/* A kernel without it, or with it fixed on its command line, drops lines as it likes. */
	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return;
}

void console_open(void)
{
	int AUTO_CLOSE limit_fd = open(LIMIT_FILE, O_RDONLY | O_CLOEXEC);
	ssize_t bytes = limit_fd >= 0 ? read(limit_fd, old_limit, sizeof(old_limit) - 1) : 0;

	old_limit[bytes > 0 ? bytes : 0] = '\0';
	kmsg_fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	file_write(LIMIT_FILE, "on\n");
}

void console_unlimit_end(void)
{
	if (old_limit[0])
		file_write(LIMIT_FILE, old_limit);
}

static void line(int level, const char *text)
{
	char whole[400];
	int bytes, saved = errno;

	/* A newline within would begin another line without our name. */
	bytes = snprintf(whole, sizeof(whole), "<%d>lunroot: %s\n", level, text);
	if (bytes >= (int)sizeof(whole))
		bytes = (int)sizeof(whole) - 1;
	if (kmsg_fd < 0 || write(kmsg_fd, whole, (size_t)bytes) < 0)
		(void)!write(STDERR_FILENO, whole + 3, (size_t)bytes - 3);
	errno = saved;
}

void say(const char *format, ...)
{
	char text[360];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	line(5, text);
}

void complain(const char *format, ...)
{
	char text[360];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	line(3, text);
}

void complain_again(struct complaint *complaint, const char *format, ...)
{
	char text[sizeof(complaint->text)];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strcmp(text, complaint->text) == 0 && now_ms() < complaint->said_ms + AGAIN_MS)
		return;
	memcpy(complaint->text, text, sizeof(text));
	complaint->said_ms = now_ms();
	line(3, text);
	report(REPORT_WAITING, "%s", text);
}

void complaint_clear(struct complaint *complaint)
{
	complaint->text[0] = '\0';
}

long long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&left, &left) && errno == EINTR)
		;
}
