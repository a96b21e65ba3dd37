/*
 * Files in memory, and a diary of what the server told.
 */
#include "boot/fake_serve.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <event2/event.h>

#include "base/cleanup.h"

uint8_t fake_byte(uint64_t offset)
{
	return (uint8_t)(offset ^ offset >> 8 ^ offset >> 16);
}

static struct blob *text_blob(const char *text)
{
	return blob_new(strdup(text), strlen(text));
}

static struct blob *big_blob(void)
{
	uint8_t *data = malloc(FAKE_BIG_BYTES);

	assert_non_null(data);
	for (size_t i = 0; i < FAKE_BIG_BYTES; i++)
		data[i] = fake_byte(i);
	return blob_new(data, FAKE_BIG_BYTES);
}

static int fake_open(void *arg, const struct serve_request *request, struct blob **ret_blob)
{
	struct fake *fake = arg;

	fake->opened++;
	if (strcmp(request->path, "small") == 0)
		*ret_blob = text_blob("hello");
	else if (strcmp(request->path, "empty") == 0)
		*ret_blob = text_blob("");
	else if (strcmp(request->path, "big") == 0)
		*ret_blob = big_blob();
	else if (strcmp(request->path, "parts") == 0)
		*ret_blob = blob_concat(text_blob("hello"), text_blob("world"));
	else if (strcmp(request->path, "denied") == 0)
		return -EACCES;
	else if (strcmp(request->path, "busy") == 0)
		return -EAGAIN;
	else if (strcmp(request->path, "broken") == 0)
		return -EIO;
	else
		return -ENOENT;
	return 0;
}

static void fake_event(void *arg, const struct serve_request *request, enum serve_event event,
		       const struct serve_progress *progress)
{
	struct fake *fake = arg;
	struct fake_event *e = &fake->events[fake->event_count++ % ARRAY_COUNT(fake->events)];

	e->event = event;
	e->request = *request;
	e->progress = *progress;
	(void)snprintf(e->path, sizeof(e->path), "%s", request->path);
	(void)snprintf(e->text, sizeof(e->text), "%s", progress->text);
	e->request.path = e->path;
	e->progress.text = e->text;
}

const struct serve_ops fake_ops = {.open = fake_open, .event = fake_event};

void fake_begin(struct fake *fake)
{
	memset(fake, 0, sizeof(*fake));
	fake->base = event_base_new();
	assert_non_null(fake->base);
}

void fake_end(struct fake *fake)
{
	event_base_free(fake->base);
}

uint64_t fake_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool fake_readable(struct fake *fake, int fd, unsigned ms)
{
	uint64_t end = fake_now_ms() + ms;
	struct pollfd pollfd = {.fd = fd, .events = POLLIN};

	do {
		(void)event_base_loop(fake->base, EVLOOP_NONBLOCK);
		if (poll(&pollfd, fd >= 0, 1) > 0)
			return true;
	} while (fake_now_ms() < end);
	return false;
}

void fake_run(struct fake *fake, unsigned ms)
{
	(void)fake_readable(fake, -1, ms);
}

const struct fake_event *fake_await_event(struct fake *fake, unsigned count)
{
	FAKE_AWAIT(fake, fake->event_count >= count);
	assert_int_equal(fake->event_count, count);
	return &fake->events[(count - 1) % ARRAY_COUNT(fake->events)];
}
