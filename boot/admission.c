/*
 * Who may load his files when many want to at a time.
 *
 * Each Pi takes what it gets: when too many load at a time, each file takes longer than a boot
 * loader waits for it. So only `allowed` of them do. It begins at --in-flight, which a gigabit line
 * serves well whatever they load; while line and processor are half idle, because they are slow or
 * their files small, more are let in step by step, and fewer again when either is busy.
 *
 * A boot ROM asks for 25 seconds and never again, and takes a small file: it is let in at once and
 * not counted. Its bootcode.bin asks anew, for a minute, and waits its turn before those whose boot
 * loader in EEPROM waits with patience. What looks like bootcode.bin at first sight may be a ROM
 * that nobody has described: it is not kept waiting for longer than a ROM stands.
 */
#include "service_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"

#define LOOK_MS          1000
#define COUNT_MS         20
#define LINE_BYTES_PER_S 110000000ull /* a gigabit, without its frames' heads */
/* bootcode.bin has been seen to ask for a minute; some of it is for its last questions. */
#define BOOTCODE_WAIT_MS 40000
#define ROM_WAIT_MS      14000

/* --- how busy it is --- */

/* All that the chosen interfaces have sent. */
static uint64_t sent_bytes(const struct boot_options *options)
{
	char path[128], text[32];
	uint64_t sum = 0;

	for (unsigned i = 0; i < options->interface_count; i++) {
		int AUTO_CLOSE fd = -1;
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/tx_bytes",
			       options->interfaces[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n > 0) {
			text[n] = '\0';
			sum += strtoull(text, NULL, 10);
		}
	}
	return sum;
}

/* How long this thread has run, or would have if a processor had been free. */
static uint64_t busy_ns(int schedstat_fd)
{
	char text[64], *rest;
	ssize_t n = schedstat_fd < 0 ? -1 : pread(schedstat_fd, text, sizeof(text) - 1, 0);
	struct timespec ran;
	uint64_t sum;

	if (n <= 0) { /* not every kernel tells */
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
		return (uint64_t)ran.tv_sec * 1000000000 + (uint64_t)ran.tv_nsec;
	}
	text[n] = '\0';
	sum = strtoull(text, &rest, 10);
	return sum + strtoull(rest, NULL, 10);
}

void admission_begin(struct service *service)
{
	service->admission.schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

void admission_end(struct service *service)
{
	if (service->admission.schedstat_fd >= 0)
		(void)close(service->admission.schedstat_fd);
}

static void adapt(struct service *service, uint64_t now)
{
	struct admission *admission = &service->admission;
	uint64_t bytes = sent_bytes(service->options), busy = busy_ns(admission->schedstat_fd);
	uint64_t least = service->options->in_flight, most = LIMIT_BOOTS;
	uint64_t ms = now - admission->at_ms, line, processor; /* percent */

	if (admission->at_ms != 0 && service->options->interface_count > 0) {
		/* An interface that was made anew counts from zero. */
		line = bytes < admission->bytes
			       ? 0
			       : (bytes - admission->bytes) * 100 / (LINE_BYTES_PER_S / 1000 * ms);
		processor = (busy - admission->busy_ns) / (10000 * ms);
		if (line < 50 && processor < 70)
			admission->allowed += admission->allowed / 2 + 1;
		else if (line > 80 || processor > 90)
			admission->allowed -= admission->allowed / 4;
		if (admission->allowed < least)
			admission->allowed = least;
		if (admission->allowed > most)
			admission->allowed = most;
		/* What nobody waits for is not saved up. */
		if (boots_next_waiting(service->boots) == NULL)
			admission->allowed = least;
	}
	admission->at_ms = now;
	admission->bytes = bytes;
	admission->busy_ns = busy;
}

void admission_tick(struct service *service, uint64_t now)
{
	if (now - service->admission.at_ms >= LOOK_MS)
		adapt(service, now);
	service_admit(service);
}

/* --- who is next --- */

static bool is_patient(const struct boot *boot)
{
	return pi_model_is_new(boot->who.model) || boot->who.model == PI_NONE;
}

static bool can_wait(const struct boot *boot, uint64_t now)
{
	uint64_t most_ms = boot->who.rom ? BOOTCODE_WAIT_MS : ROM_WAIT_MS;

	return is_patient(boot) || (!boot->in_rom && now - boot->asked_ms < most_ms);
}

bool admission_let_in(struct service *service, struct boot *boot, uint64_t now)
{
	struct admission *admission = &service->admission;

	if (admission->loading >= admission->allowed && can_wait(boot, now))
		return false;
	boot->stage = BOOT_OFFERED;
	boot->active_ms = now;
	if (!boot->in_rom)
		admission->loading++;
	return true;
}

/* Of the patient ones, or of the others, those that came first. */
static void admit(struct service *service, bool patient, uint64_t now)
{
	struct boot *boot = NULL;

	while ((boot = boots_next(service->boots, boot)))
		if (boot->stage == BOOT_WAITING && is_patient(boot) == patient &&
		    admission_let_in(service, boot, now))
			dhcp_go(service->dhcp, boot->who.mac);
}

void service_admit(struct service *service)
{
	uint64_t now = now_ms();

	/* All boots are looked at, and in a storm there is reason to many times a millisecond. */
	if (now - service->admission.counted_ms < COUNT_MS)
		return;
	service->admission.counted_ms = now;
	service->admission.loading = boots_in_flight(service->boots, now);
	admit(service, false, now);
	admit(service, true, now);
}
