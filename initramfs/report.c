/*
 * The queue of events, in memory that lunroot-init and its keeper share. A slot is found by its
 * sequence number, so the newest overwrites the oldest; a spin lock guards it. Whoever can't have
 * the lock for a moment (its holder was killed) goes without: a report is worth no wait.
 */
#include "initramfs/report.h"

#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/utf8.h"
#include "initramfs/console.h"

#define LOCK_TRIES    20 /* of a millisecond */
#define RETRY_MS      300
#define SAME_AGAIN_MS 29000 /* the console says it again after 30 s */

struct slot {
	uint32_t sequence; /* 0: empty */
	enum report_event event;
	unsigned sent; /* REPORT_SENDS: done */
	long long made_ms, due_ms;
	char text[LIMIT_REPORT_TEXT_BYTES + 1];
};

struct queue {
	bool locked;
	uint32_t sequence; /* the last one given */
	struct slot slots[REPORT_KEPT];
};

static struct queue *queue; /* NULL: nothing is reported */
static struct settings_report target;
static struct sockaddr_storage address;
static socklen_t address_bytes;
static int socket_fd = -1;

static const char *event_name(enum report_event event)
{
	switch (event) {
	case REPORT_START: return "start";
	case REPORT_NETWORK: return "network";
	case REPORT_LOGIN: return "login";
	case REPORT_DISK: return "disk";
	case REPORT_ROOT: return "root";
	case REPORT_SWITCH: return "switch";
	case REPORT_MULTI_USER: return "multi-user";
	case REPORT_WAITING: return "waiting";
	case REPORT_BACK: return "back";
	case REPORT_EVENT_COUNT: break;
	}
	return "";
}

/* --- the queue --- */

static bool lock(void)
{
	if (!queue)
		return false;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (!__atomic_test_and_set(&queue->locked, __ATOMIC_ACQUIRE))
			return true;
		sleep_ms(1);
	}
	return false;
}

static void unlock(void)
{
	__atomic_clear(&queue->locked, __ATOMIC_RELEASE);
}

void report_init(void)
{
	void *memory = mmap(NULL, sizeof(*queue), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	queue = memory == MAP_FAILED ? NULL : memory; /* zeros: unlocked, empty */
}

void report_none(void)
{
	if (queue)
		(void)munmap(queue, sizeof(*queue));
	queue = NULL;
	if (socket_fd >= 0)
		close(socket_fd);
	socket_fd = -1;
	target = (struct settings_report){0};
}

bool report_wanted(void)
{
	return queue != NULL;
}

/* --- sending --- */

void report_to(const struct settings_report *to)
{
	if (socket_fd >= 0)
		close(socket_fd);
	socket_fd = -1;
	target = *to;
	(void)report_tick();
}

/* Numbers only, so nobody is asked. An IPv6 scope's interface may appear later. */
static bool socket_ready(void)
{
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM,
				 .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	char port[8];

	if (socket_fd >= 0)
		return true;
	if (!target.to.host[0])
		return false;
	(void)snprintf(port, sizeof(port), "%u", target.to.port);
	if (getaddrinfo(target.to.host, port, &hints, &found))
		return false;
	if (found->ai_addrlen <= sizeof(address)) {
		memcpy(&address, found->ai_addr, found->ai_addrlen);
		address_bytes = found->ai_addrlen;
		socket_fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	}
	freeaddrinfo(found);
	return socket_fd >= 0;
}

/*
 * Not connected: a refusal by the host ("nobody listens there") then never comes back to be taken
 * for a failure of the next one.
 */
static bool slot_send(const struct slot *slot)
{
	char datagram[LIMIT_REPORT_BYTES];
	int bytes = snprintf(datagram, sizeof(datagram), "lunroot-report 1 %s %u %s%s%s",
			     target.token, slot->sequence, event_name(slot->event),
			     slot->text[0] ? " " : "", slot->text);

	return bytes > 0 && (size_t)bytes < sizeof(datagram) &&
	       sendto(socket_fd, datagram, (size_t)bytes, MSG_DONTWAIT | MSG_NOSIGNAL,
		      (const struct sockaddr *)&address, address_bytes) == bytes;
}

static void slot_try(struct slot *slot, long long time_ms)
{
	static const unsigned again_ms[REPORT_SENDS] = {300, 700, 0};

	if (slot_send(slot))
		slot->due_ms = time_ms + again_ms[slot->sent++];
	else /* ever more seldom: the network may be away for days */
		slot->due_ms = time_ms + RETRY_MS + (time_ms - slot->made_ms) / 4;
}

/* Oldest first. Locked. */
static int send_due(void)
{
	long long time_ms = now_ms(), next_ms = -1;

	if (!socket_ready())
		return RETRY_MS;
	for (uint32_t i = 1; i <= REPORT_KEPT; i++) {
		struct slot *slot = &queue->slots[(queue->sequence + i) % REPORT_KEPT];

		if (slot->sequence == 0 || slot->sent == REPORT_SENDS)
			continue;
		if (slot->due_ms <= time_ms)
			slot_try(slot, time_ms);
		if (slot->sent < REPORT_SENDS && (next_ms < 0 || slot->due_ms < next_ms))
			next_ms = slot->due_ms;
	}
	if (next_ms < 0)
		return -1;
	return next_ms <= time_ms ? 0 : (int)(next_ms - time_ms);
}

int report_tick(void)
{
	int next_ms;

	if (!lock())
		return queue ? RETRY_MS : -1;
	next_ms = send_due();
	unlock();
	return next_ms;
}

void report_sleep_ms(unsigned ms)
{
	long long until_ms = now_ms() + ms, left_ms;

	while ((left_ms = until_ms - now_ms()) > 0) {
		int next_ms = report_tick();

		if (next_ms == 0)
			next_ms = 1;
		sleep_ms((unsigned)(next_ms > 0 && next_ms < left_ms ? next_ms : left_ms));
	}
}

/* --- events --- */

/* A byte that is no text becomes a question mark; never cut inside a character. */
static void text_clean(const char *text, char ret_text[LIMIT_REPORT_TEXT_BYTES + 1])
{
	size_t bytes = strlen(text), used = 0;

	for (size_t i = 0, step; i < bytes; i += step) {
		size_t whole = utf8_sequence(text + i, bytes - i);

		step = whole ? whole : 1;
		if (used + step > LIMIT_REPORT_TEXT_BYTES)
			break;
		memcpy(ret_text + used, whole ? text + i : "?", step);
		used += step;
	}
	ret_text[used] = '\0';
}

/* Two complaints that take turns are new to the console each time, but not to who reads a list. */
static bool said_lately(enum report_event event, const char *text)
{
	if (event != REPORT_WAITING)
		return false;
	for (size_t i = 0; i < REPORT_KEPT; i++) {
		const struct slot *slot = &queue->slots[i];

		if (slot->sequence && slot->event == event &&
		    now_ms() < slot->made_ms + SAME_AGAIN_MS && strcmp(slot->text, text) == 0)
			return true;
	}
	return false;
}

/* What could not be sent so far is tried with it: something has changed. Locked. */
static void slot_add(enum report_event event, const char *text)
{
	long long time_ms = now_ms();
	struct slot *slot = &queue->slots[++queue->sequence % REPORT_KEPT];

	slot->sequence = queue->sequence;
	slot->event = event;
	slot->sent = 0;
	slot->made_ms = time_ms;
	memcpy(slot->text, text, strlen(text) + 1);
	for (size_t i = 0; i < REPORT_KEPT; i++) {
		if (queue->slots[i].sent == 0)
			queue->slots[i].due_ms = time_ms;
	}
}

void report(enum report_event event, const char *format, ...)
{
	char raw[LIMIT_REPORT_BYTES], text[LIMIT_REPORT_TEXT_BYTES + 1];
	va_list args;

	if (!queue)
		return;
	va_start(args, format);
	(void)vsnprintf(raw, sizeof(raw), format, args);
	va_end(args);
	text_clean(raw, text);
	if (!lock())
		return;
	if (!said_lately(event, text)) {
		slot_add(event, text);
		(void)send_due();
	}
	unlock();
}
