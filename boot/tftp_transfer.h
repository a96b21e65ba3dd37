/*
 * One file on its way to one client: which block is sent next, what an ACK means, when to send
 * again and when to give up. It has no socket and no clock: its owner says what time it is, puts
 * the packets on the wire, and wakes it when its deadline comes. Event-loop thread.
 *
 * Blocks are counted without end; the wire's 16 bits wrap from 65535 to 0, so a file may have any
 * size at any block size.
 */
#ifndef LUNROOT_BOOT_TFTP_TRANSFER_H
#define LUNROOT_BOOT_TFTP_TRANSFER_H

#include "boot/blob.h"
#include "boot/tftp_packet.h"

enum tftp_step {
	TFTP_STEP_WAIT, /* nothing to do before the deadline */
	TFTP_STEP_SEND, /* take packets from tftp_transfer_packet, then tftp_transfer_sent */
	TFTP_STEP_DONE, /* the client has all of it */
	TFTP_STEP_LOST  /* the client has been silent for too long */
};

/*
 * first <= base <= next <= ahead. Block 0 is the OACK; without options the first block is 1. Blocks
 * below `base` are acknowledged, those from there to below `next` are sent, and `ahead` is how far
 * `next` has ever been: an ACK may still come for what was sent before we went back.
 */
struct tftp_transfer {
	struct blob *blob; /* a reference */
	uint64_t file_bytes;
	struct tftp_options granted;
	unsigned block_bytes, window_blocks;
	uint64_t first, last; /* last: the short one, perhaps empty */
	uint64_t base, next, ahead;
	uint64_t heard_ms;    /* when the client last got ahead */
	uint64_t deadline_ms; /* when tftp_transfer_timeout is due */
	uint64_t fresh_ms;    /* when the first packet of the window was first sent */
	uint64_t answer_us;   /* how long its answers take, smoothed */
	uint64_t doubt_ms; /* how long the last one took, if it may have been one to a repetition */
	unsigned silent_count; /* deadlines since it got ahead */
	unsigned retries;      /* deadlines in all */
};

/*
 * Takes a reference of its own. `payload_bytes_max`: what the interface carries in one packet, TFTP
 * header not counted. The owner sends the first packet at once.
 */
void tftp_transfer_init(struct tftp_transfer *transfer, struct blob *blob,
			const struct tftp_options *asked, unsigned payload_bytes_max,
			uint64_t now_ms);
void tftp_transfer_done(struct tftp_transfer *transfer);

/* The next packet of the window, or 0: it is all sent. `packet` has TFTP_PACKET_BYTES. */
size_t tftp_transfer_packet(struct tftp_transfer *transfer, uint8_t *packet);
/* The window is on the wire, but for its last `unsent` packets; sets the deadline. */
void tftp_transfer_sent(struct tftp_transfer *transfer, unsigned unsent, uint64_t now_ms);

/* An ACK came. Of one that was acknowledged before nothing follows (no Sorcerer's Apprentice). */
enum tftp_step tftp_transfer_ack(struct tftp_transfer *transfer, uint16_t block, uint64_t now_ms);
/* The same request came again: the client may not have got the first packet. */
enum tftp_step tftp_transfer_again(struct tftp_transfer *transfer, uint64_t now_ms);
/* Time has passed, perhaps the deadline. */
enum tftp_step tftp_transfer_timeout(struct tftp_transfer *transfer, uint64_t now_ms);

/* How much of the file the client has acknowledged. */
uint64_t tftp_transfer_bytes(const struct tftp_transfer *transfer);
/* Whether nothing but the last block is open: its ACK is often lost, as the client has gone. */
bool tftp_transfer_at_end(const struct tftp_transfer *transfer);

#endif
