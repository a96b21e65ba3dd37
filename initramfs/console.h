/*
 * What the person in front of the Pi reads. Every line goes to /dev/kmsg, and so to each console
 * with a time, and later to the journal; problems at a level that "quiet" does not hide.
 */
#ifndef LUNROOT_INITRAMFS_CONSOLE_H
#define LUNROOT_INITRAMFS_CONSOLE_H

/* Opens /dev/kmsg (or stays with standard error), and asks the kernel not to drop our lines. */
void console_open(void);
/* Gives the kernel its own limit on such lines back. */
void console_unlimit_end(void);

/* What is going on. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What is wrong. Keeps errno. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * A complaint that is tried over and over: said when it is new, and again every 30 seconds while
 * it stays the same. Who follows the boot from afar is told it, too (report.h).
 */
struct complaint {
	char text[320];
	long long said_ms;
};
void complain_again(struct complaint *complaint, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* It is over: the next one is new. */
void complaint_clear(struct complaint *complaint);

/* Milliseconds since the machine started, sleep included. */
long long now_ms(void);
void sleep_ms(unsigned ms);

#endif
