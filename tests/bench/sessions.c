/*
 * Many sessions from one process, with the raw speaker: `login` measures logins a second, one
 * after another and many at once; `hold` opens sessions, says so on standard output, and keeps
 * them idle until its standard input ends.
 */
#include "speaker.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SESSIONS_MAX  4096
#define THREADS_MAX   64
#define LOGIN_WAIT_MS 30000

static struct sockaddr_storage portal;
static struct speaker_target target;
static atomic_int left;
static atomic_uint failures;
static atomic_ullong slowest_ms;

static bool open_session(struct speaker *s, unsigned index)
{
	struct speaker_target numbered = target;
	struct speaker_offer offer = {
		.isid = {0x80, 0, 0, (uint8_t)(index >> 16), (uint8_t)(index >> 8), (uint8_t)index},
		.immediate_data = true,
		.mrdsl = 262144,
		.first_burst = 65536,
		.max_burst = 262144,
		.outstanding_r2t = 1,
	};
	uint16_t status = 0;
	enum speaker_result result;

	speaker_init(s);
	/* "...:node-" stands for node-1, node-2, ...: one session a node. */
	if (numbered.name[strlen(numbered.name) - 1] == '-')
		snprintf(numbered.name + strlen(numbered.name),
			 sizeof(numbered.name) - strlen(numbered.name), "%u", index);
	if (speaker_connect(s, &portal, 0) != SPEAKER_OK)
		return false;
	result = speaker_login(s, &numbered, &offer, LOGIN_WAIT_MS, &status);
	if (result != SPEAKER_OK && !atomic_fetch_add(&failures, 1))
		fprintf(stderr, "sessions: login failed: result %d, status %04x %s\n", result,
			status, s->complaint);
	return result == SPEAKER_OK;
}

static void *log_in_repeatedly(void *arg)
{
	unsigned index = (unsigned)(uintptr_t)arg;

	while (atomic_fetch_sub(&left, 1) > 0) {
		uint64_t begin_ms = speaker_now_ms(), took_ms;
		struct speaker s;

		open_session(&s, index);
		speaker_done(&s, true);
		took_ms = speaker_now_ms() - begin_ms;
		if (took_ms > atomic_load(&slowest_ms))
			atomic_store(&slowest_ms, took_ms);
	}
	return NULL;
}

/* "logins THREADS LOGINS_PER_SECOND SLOWEST_MS" */
static int measure_logins(unsigned threads, int count)
{
	pthread_t ids[THREADS_MAX];
	uint64_t begin_ms = speaker_now_ms();
	double seconds;

	atomic_store(&left, count);
	for (unsigned i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, log_in_repeatedly, (void *)(uintptr_t)(i + 1)))
			return 1;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	seconds = (double)(speaker_now_ms() - begin_ms) / 1000;
	printf("logins %u %.0f %llu\n", threads, count / (seconds > 0 ? seconds : 0.001),
	       atomic_load(&slowest_ms));
	if (atomic_load(&failures))
		fprintf(stderr, "sessions: %u logins failed\n", atomic_load(&failures));
	return atomic_load(&failures) ? 1 : 0;
}

static int hold_sessions(unsigned count)
{
	static struct speaker sessions[SESSIONS_MAX];
	struct pollfd poll_fd = {.fd = STDIN_FILENO, .events = POLLIN};
	unsigned long long pings = 0;
	unsigned lost = 0;

	for (unsigned i = 0; i < count; i++)
		if (!open_session(&sessions[i], i + 1))
			return 1;
	printf("held %u\n", count);
	fflush(stdout);
	/* The speaker answers no pings; a holder that is measured for seconds gets none. */
	poll(&poll_fd, 1, -1);
	for (unsigned i = 0; i < count; i++) {
		pings -= sessions[i].received;
		if (speaker_receive(&sessions[i], 0) != SPEAKER_OK)
			lost++;
		pings += sessions[i].received;
		speaker_done(&sessions[i], true);
	}
	printf("lost %u, %llu pings came\n", lost, pings);
	return lost ? 1 : 0;
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 4 ? strtoul(argv[4], NULL, 0) : 0;
	unsigned long threads = argc > 5 ? strtoul(argv[5], NULL, 0) : 1;

	if (argc < 5 || !count || !threads || threads > THREADS_MAX ||
	    !speaker_parse_portal(argv[2], &portal) || !argv[3][0] ||
	    strlen(argv[3]) + 12 >= sizeof(target.name) ||
	    (strcmp(argv[1], "login") && (strcmp(argv[1], "hold") || count > SESSIONS_MAX))) {
		fputs("usage: sessions login ADDR:PORT IQN COUNT [THREADS]\n"
		      "       sessions hold ADDR:PORT IQN COUNT\n",
		      stderr);
		return 2;
	}
	strcpy(target.name, argv[3]);
	strcpy(target.initiator, "iqn.2026-11.local.lunroot.test:sessions");
	if (!strcmp(argv[1], "login"))
		return measure_logins((unsigned)threads, (int)count);
	return hold_sessions((unsigned)count);
}
