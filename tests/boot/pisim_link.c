/*
 * Socket, trouble and clock of the simulator; see pisim_link.h. Frames that wait are taken in
 * before timers run, so that a frame that came in time is never judged late because the machine was
 * busy.
 */
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pisim_link.h"

#define BATCH          64
#define BATCHES_A_TURN 128 /* then timers have their turn */
#define STANDSTILL_US  100000
#define SOCKET_BYTES                                                                \
	(64 * 1024 * 1024) /* a storm's answers while the machine is busy elsewhere \
			    */

void chance_seed(struct chance *chance, uint64_t seed)
{
	/* splitmix64's step: neighbouring seeds begin far apart, and never at 0. */
	seed += 0x9e3779b97f4a7c15;
	seed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9;
	seed = (seed ^ seed >> 27) * 0x94d049bb133111eb;
	chance->state = (seed ^ seed >> 31) | 1;
}

uint32_t chance_below(struct chance *chance, uint32_t bound)
{
	chance->state ^= chance->state >> 12;
	chance->state ^= chance->state << 25;
	chance->state ^= chance->state >> 27;
	return bound ? (uint32_t)((chance->state * 0x2545f4914f6cdd1d) >> 33) % bound : 0;
}

bool chance_permille(struct chance *chance, unsigned permille)
{
	return permille && chance_below(chance, 1000) < permille;
}

/* The boards' clock. */
static uint64_t clock_us(const struct link *link)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 - link->stood_us;
}

/* A machine that stood still: the server could not answer either, so the boards' clocks stood, too,
 * and their patience is what it was. */
static void take_off_standstill(struct link *link, uint64_t wake_us, uint64_t *lag_us)
{
	uint64_t now_us = clock_us(link);

	if (now_us <= wake_us + STANDSTILL_US)
		return;
	link->stood_us += now_us - wake_us;
	if (now_us - wake_us > *lag_us)
		*lag_us = now_us - wake_us;
}

int link_open(struct link *link, const char *interface, uint64_t seed)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int one = 1, bytes = SOCKET_BYTES;

	chance_seed(&link->chance, seed);
	link->fd = -1;
	link->stood_us = 0;
	link->now_us = interface ? clock_us(link) : 1;
	if (!interface)
		return 0;
	address.sll_ifindex = (int)if_nametoindex(interface);
	if (!address.sll_ifindex)
		return -errno;
	link->batch = malloc(sizeof(*link->batch) * BATCH);
	if (!link->batch)
		return -ENOMEM;
	link->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (link->fd < 0)
		return -errno;
	setsockopt(link->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	setsockopt(link->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
	setsockopt(link->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
	if (bind(link->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return 0;
}

void link_close(struct link *link)
{
	for (size_t i = 0; i < link->count; i++)
		free(link->heap[i].frame);
	free(link->heap);
	free(link->batch);
	if (link->fd >= 0)
		close(link->fd);
	link->heap = NULL;
	link->count = 0;
}

static bool due_before(const struct due *a, const struct due *b)
{
	return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

static void heap_push(struct link *link, struct due due)
{
	size_t at = link->count++;

	if (link->count > link->room) {
		link->room = link->room ? link->room * 2 : 1024;
		link->heap = realloc(link->heap, link->room * sizeof(*link->heap));
		if (!link->heap)
			abort();
	}
	due.order = link->order++;
	while (at > 0 && due_before(&due, &link->heap[(at - 1) / 2])) {
		link->heap[at] = link->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	link->heap[at] = due;
}

static struct due heap_pop(struct link *link)
{
	struct due first = link->heap[0], last = link->heap[--link->count];
	size_t at = 0, child;

	while ((child = 2 * at + 1) < link->count) {
		if (child + 1 < link->count &&
		    due_before(&link->heap[child + 1], &link->heap[child]))
			child++;
		if (!due_before(&link->heap[child], &last))
			break;
		link->heap[at] = link->heap[child];
		at = child;
	}
	link->heap[at] = last;
	return first;
}

void link_wake(struct link *link, uint64_t at_us, void *who)
{
	heap_push(link, (struct due){.at_us = at_us, .who = who});
}

static void batch_flush(struct link *link)
{
	struct mmsghdr messages[BATCH];
	struct iovec pieces[BATCH];
	unsigned sent = 0;

	memset(messages, 0, sizeof(messages));
	for (unsigned i = 0; i < link->batch_count; i++) {
		pieces[i] = (struct iovec){link->batch[i], link->batch_bytes[i]};
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	while (sent < link->batch_count) {
		int n = sendmmsg(link->fd, messages + sent, link->batch_count - sent, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			/* A full queue loses one frame, as a switch would. */
			link->send_errors++;
			sent++;
			continue;
		}
		sent += (unsigned)n;
	}
	link->batch_count = 0;
}

static void frame_out(struct link *link, const uint8_t *frame, size_t bytes)
{
	if (link->on_out)
		link->on_out(link->arg, frame, bytes);
	if (link->fd < 0)
		return;
	memcpy(link->batch[link->batch_count], frame, bytes);
	link->batch_bytes[link->batch_count++] = (uint16_t)bytes;
	if (link->batch_count == BATCH)
		batch_flush(link);
}

static void deliver(struct link *link, bool inwards, const uint8_t *frame, size_t bytes)
{
	if (inwards)
		link->on_in(link->arg, frame, bytes);
	else
		frame_out(link, frame, bytes);
}

static void later(struct link *link, bool inwards, const uint8_t *frame, size_t bytes, uint64_t us)
{
	struct due due = {
		.at_us = link->now_us + us, .frame_bytes = (uint16_t)bytes, .inwards = inwards};

	due.frame = malloc(bytes);
	if (!due.frame)
		abort();
	memcpy(due.frame, frame, bytes);
	heap_push(link, due);
}

/* What the wire does to one frame. */
static void pass(struct link *link, bool inwards, const uint8_t *frame, size_t bytes, uint64_t us)
{
	const struct trouble *trouble = inwards ? &link->in : &link->out;
	struct tally *tally = inwards ? &link->in_tally : &link->out_tally;
	struct chance *chance = &link->chance;

	us += trouble->delay_us + chance_below(chance, trouble->jitter_us);
	tally->frames++;
	if (chance_permille(chance, trouble->loss_permille)) {
		tally->lost++;
		return;
	}
	if (chance_permille(chance, trouble->reorder_permille)) {
		tally->reordered++;
		us += trouble->reorder_us;
	}
	if (chance_permille(chance, trouble->duplicate_permille)) {
		tally->duplicated++;
		later(link, inwards, frame, bytes, us + chance_below(chance, trouble->reorder_us));
	}
	if (us)
		later(link, inwards, frame, bytes, us);
	else
		deliver(link, inwards, frame, bytes);
}

void link_send(struct link *link, const uint8_t *frame, size_t bytes)
{
	pass(link, false, frame, bytes, 0);
}

void link_receive(struct link *link, const uint8_t *frame, size_t bytes)
{
	pass(link, true, frame, bytes, 0);
}

void link_receive_after(struct link *link, const uint8_t *frame, size_t bytes, unsigned us)
{
	pass(link, true, frame, bytes, us);
}

void link_run_due(struct link *link)
{
	while (link->count > 0 && link->heap[0].at_us <= link->now_us) {
		struct due due = heap_pop(link);

		if (due.frame)
			deliver(link, due.inwards, due.frame, due.frame_bytes);
		else
			link->on_due(link->arg, due.who, due.at_us);
		free(due.frame);
	}
}

/* One batch; how many frames it had. */
static int take_in(struct link *link)
{
	static uint8_t room[BATCH][2048];
	struct mmsghdr messages[BATCH];
	struct iovec pieces[BATCH];
	int n;

	memset(messages, 0, sizeof(messages));
	for (int i = 0; i < BATCH; i++) {
		pieces[i] = (struct iovec){room[i], sizeof(room[i])};
		messages[i].msg_hdr.msg_iov = &pieces[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(link->fd, messages, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++)
		if (messages[i].msg_len <= FRAME_BYTES_MAX)
			link_receive(link, room[i], messages[i].msg_len);
	return n;
}

void link_turn(struct link *link, uint64_t until_us, uint64_t *lag_us)
{
	uint64_t wake =
		link->count && link->heap[0].at_us < until_us ? link->heap[0].at_us : until_us;
	struct pollfd poll_fd = {.fd = link->fd, .events = POLLIN};
	struct timespec wait = {0};
	int batches = 0, ready;

	link->now_us = clock_us(link);
	if (wake > link->now_us) {
		wait.tv_sec = (time_t)((wake - link->now_us) / 1000000);
		wait.tv_nsec = (long)((wake - link->now_us) % 1000000 * 1000);
	}
	ready = ppoll(&poll_fd, 1, &wait, NULL);
	if (wake > link->now_us)
		take_off_standstill(link, wake, lag_us);
	if (ready > 0)
		do
			link->now_us = clock_us(link);
		while (take_in(link) == BATCH && ++batches < BATCHES_A_TURN);
	link->now_us = clock_us(link);
	if (link->count && link->heap[0].at_us + *lag_us < link->now_us)
		*lag_us = link->now_us - link->heap[0].at_us;
	link_run_due(link);
	if (link->batch_count)
		batch_flush(link);
}
