/*
 * Why something could not be done, in words for the person who looks after the nodes: what it was
 * about, what is wrong with it, what helps. Any thread.
 */
#ifndef LUNROOT_BOOT_ERROR_H
#define LUNROOT_BOOT_ERROR_H

#include <stdarg.h>
#include <stdio.h>

struct boot_error {
	char text[640];
};

/* Writes the text, cut off at its end if need be, and gives `res` back: return boot_fail(err, ...).
 */
static inline int __attribute__((format(printf, 3, 4)))
boot_fail(struct boot_error *ret_error, int res, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(ret_error->text, sizeof(ret_error->text), format, args);
	va_end(args);
	return res;
}

#endif
