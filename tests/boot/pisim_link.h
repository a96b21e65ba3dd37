/*
 * The wire between the simulated Pis and the network: an AF_PACKET socket that knows no addresses,
 * and in both directions a seeded source of trouble (loss, duplicates, reordering, delay) where the
 * kernel has no netem. Also the clock and the one queue of things that are due.
 */
#ifndef PISIM_LINK_H
#define PISIM_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pisim_packet.h"

/* xorshift64*: the same seed, the same run. */
struct chance {
	uint64_t state;
};
void chance_seed(struct chance *chance, uint64_t seed);
uint32_t chance_below(struct chance *chance, uint32_t bound); /* bound 0: 0 */
bool chance_permille(struct chance *chance, unsigned permille);

/* One direction's trouble; all zero: none. */
struct trouble {
	unsigned loss_permille, duplicate_permille, reorder_permille;
	unsigned delay_us, jitter_us;
	unsigned reorder_us; /* how much later a reordered frame comes, and a duplicate up to */
};

struct tally {
	uint64_t frames, lost, duplicated, reordered;
};

/* Due at a time: a frame on its way, or (frame_bytes 0) whatever `who` wanted to be woken for. */
struct due {
	uint64_t at_us, order;
	void *who;
	uint8_t *frame;
	uint16_t frame_bytes;
	bool inwards;
};

struct link {
	int fd; /* -1: frames go nowhere but to on_out (unit tests) */
	struct chance chance;
	struct trouble out, in;
	struct tally out_tally, in_tally;
	struct due *heap;
	size_t count, room;
	uint64_t order;
	uint64_t now_us;   /* of the boards' clock: CLOCK_MONOTONIC without */
	uint64_t stood_us; /* the time when this process was not let run */
	uint64_t send_errors;
	/* A frame arrives at the Pis; whoever asked to be woken is. */
	void (*on_in)(void *arg, const uint8_t *frame, size_t bytes);
	void (*on_due)(void *arg, void *who, uint64_t at_us);
	void (*on_out)(void *arg, const uint8_t *frame, size_t bytes); /* instead of the socket */
	void *arg;
	uint8_t (*batch)[FRAME_BYTES_MAX]; /* frames to be sent together */
	uint16_t batch_bytes[64];
	unsigned batch_count;
};

/* interface NULL: no socket. -errno if there is none to be had. */
int link_open(struct link *link, const char *interface, uint64_t seed);
void link_close(struct link *link);
void link_send(struct link *link, const uint8_t *frame, size_t bytes);
/* As if the frame came from the wire. */
void link_receive(struct link *link, const uint8_t *frame, size_t bytes);
/* The same, `us` later than now. */
void link_receive_after(struct link *link, const uint8_t *frame, size_t bytes, unsigned us);
void link_wake(struct link *link, uint64_t at_us, void *who);
/* Everything that is due by link->now_us. */
void link_run_due(struct link *link);
/* Takes in what the socket has, then runs what is due; waits for at most until_us. How late the
 * latest due thing was run is added to *lag_us's maximum. */
void link_turn(struct link *link, uint64_t until_us, uint64_t *lag_us);

#endif
