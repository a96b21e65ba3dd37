/*
 * For tests: serve_ops over a handful of files, an event loop, and what the server told. One test
 * at a time.
 */
#ifndef LUNROOT_BOOT_FAKE_SERVE_H
#define LUNROOT_BOOT_FAKE_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boot/serve.h"

struct event_base;

#define FAKE_BIG_BYTES 300007

/*
 * Its names: "small" ("hello"), "empty", "big" (FAKE_BIG_BYTES of fake_byte), "parts" (two pieces:
 * "hello", padding, "world"), "denied", "busy" (-EAGAIN), "broken" (-EIO); all else is missing.
 */
extern const struct serve_ops fake_ops;

struct fake_event {
	enum serve_event event;
	struct serve_request request;   /* its path is below */
	struct serve_progress progress; /* its text, too */
	char path[300], text[200];
};

struct fake {
	struct event_base *base;
	unsigned opened, event_count;
	struct fake_event events[64];
};

void fake_begin(struct fake *fake);
void fake_end(struct fake *fake);
uint8_t fake_byte(uint64_t offset);
uint64_t fake_now_ms(void);

/* Runs the event loop until it is so, 30 s at most: a busy machine's tests take their time. */
#define FAKE_AWAIT(fake, condition)                           \
	do {                                                  \
		for (uint64_t until_ = fake_now_ms() + 30000; \
		     !(condition) && fake_now_ms() < until_;) \
			fake_run(fake, 1);                    \
		assert_true(condition);                       \
	} while (0)

/* Runs the event loop for so long. */
void fake_run(struct fake *fake, unsigned ms);
/* Runs the event loop until something can be read, or for `ms`. */
bool fake_readable(struct fake *fake, int fd, unsigned ms);
/* Runs it until so many events came, at most 30 s; the last one. */
const struct fake_event *fake_await_event(struct fake *fake, unsigned count);

#endif
