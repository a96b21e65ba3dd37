/*
 * The sending side of RFC 1350 with windows (RFC 7440). Packets are sent again by the clock alone:
 * soon, by the pace of the client's answers, and again and again, since bootcode.bin gives a file
 * up when a block is missing for about a second. Where answers take long, as when thousands boot at
 * once, it is more patient: what is sent again too soon makes a crowd slower still. An ACK inside
 * the window means that the block behind it was lost: the window begins anew there.
 */
#include "boot/tftp_transfer.h"

#include <assert.h>

#define RESEND_FIRST_MS 100 /* of a client whose pace is not known yet */
#define RESEND_LEAST_MS 25  /* a pause of the client's own, to look at what it got */
#define RESEND_MAX_MS   400
#define RESEND_SLOW_MS  2000 /* the most, in a crowd */
/* After so many, a second and more, nobody in a hurry waits any longer; whoever does (atftp)
 * repeats its own ACK only when it hears nothing for a while. */
#define RESEND_QUICK_COUNT 12
#define RESEND_LATE_MS     1500

static unsigned smaller(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* RFC 2347: what was not asked for is not granted. */
static struct tftp_options grant(const struct tftp_options *asked, unsigned payload_bytes_max)
{
	struct tftp_options granted = *asked;

	if (asked->block_bytes)
		granted.block_bytes = smaller(asked->block_bytes,
					      smaller(payload_bytes_max, LIMIT_TFTP_BLOCK_BYTES));
	if (granted.block_bytes < TFTP_BLOCK_BYTES_MIN)
		granted.block_bytes = 0;
	granted.window_blocks = smaller(asked->window_blocks, LIMIT_TFTP_WINDOW_BLOCKS);
	return granted;
}

void tftp_transfer_init(struct tftp_transfer *transfer, struct blob *blob,
			const struct tftp_options *asked, unsigned payload_bytes_max,
			uint64_t now_ms)
{
	struct tftp_options granted = grant(asked, payload_bytes_max);
	bool any =
		granted.tsize || granted.block_bytes || granted.window_blocks || granted.timeout_s;

	*transfer = (struct tftp_transfer){
		.blob = blob_ref(blob),
		.file_bytes = blob_bytes(blob),
		.granted = granted,
		.block_bytes = granted.block_bytes ? granted.block_bytes : TFTP_BLOCK_BYTES,
		.window_blocks = granted.window_blocks ? granted.window_blocks : 1,
		.first = any ? 0 : 1,
		.heard_ms = now_ms,
		.deadline_ms = now_ms,
	};
	transfer->last = transfer->file_bytes / transfer->block_bytes + 1;
	transfer->base = transfer->next = transfer->ahead = transfer->first;
}

void tftp_transfer_done(struct tftp_transfer *transfer)
{
	blob_unref(transfer->blob);
	transfer->blob = NULL;
}

size_t tftp_transfer_packet(struct tftp_transfer *transfer, uint8_t *packet)
{
	uint64_t block = transfer->next;
	/* The OACK travels alone. */
	unsigned window = transfer->base == 0 ? 1 : transfer->window_blocks;

	if (block > transfer->last || block >= transfer->base + window)
		return 0;
	transfer->next++;
	if (transfer->ahead < transfer->next)
		transfer->ahead = transfer->next;
	if (block == 0)
		return tftp_oack_write(packet, &transfer->granted, transfer->file_bytes);
	tftp_data_header(packet, (uint16_t)block);
	return TFTP_HEADER_BYTES + blob_read(transfer->blob, (block - 1) * transfer->block_bytes,
					     packet + TFTP_HEADER_BYTES, transfer->block_bytes);
}

/* RFC 2349: a client that names a timeout wants it. */
static unsigned patience_ms(const struct tftp_transfer *transfer)
{
	bool known = transfer->base > transfer->first;
	unsigned answer_ms = (unsigned)(transfer->answer_us / 1000);
	unsigned first = known ? smaller(RESEND_LEAST_MS + 4 * answer_ms, 2 * RESEND_FIRST_MS)
			       : RESEND_FIRST_MS;
	/* Each time half as much more: bootcode.bin waits a second for a block, and ten fit into
	 * it. */
	unsigned usual = smaller(first + transfer->silent_count * first / 2, RESEND_MAX_MS);
	unsigned crowded = 2 * answer_ms;

	if (transfer->granted.timeout_s)
		return transfer->granted.timeout_s * 1000;
	if (transfer->silent_count >= RESEND_QUICK_COUNT)
		usual = RESEND_LATE_MS;
	return crowded > usual ? smaller(crowded, RESEND_SLOW_MS) : usual;
}

/* An eighth of each new one, as TCP does; a long silence counts no more than a second. */
static void learn_patience(struct tftp_transfer *transfer, uint64_t took_ms)
{
	transfer->answer_us -= transfer->answer_us / 8;
	transfer->answer_us += (took_ms < 1000 ? took_ms : 1000) * 1000 / 8;
}

/*
 * An answer to what was sent once tells how long answers take (Karn's rule). After a repetition it
 * does not: something was lost, or the client is slow. The slow one answers the repetition, too,
 * and that tells.
 */
static void answer_came(struct tftp_transfer *transfer, uint64_t now_ms)
{
	uint64_t took_ms = now_ms - transfer->fresh_ms;

	transfer->doubt_ms = transfer->silent_count > 0 ? took_ms : 0;
	if (transfer->silent_count == 0)
		learn_patience(transfer, took_ms);
}

static void answer_came_again(struct tftp_transfer *transfer)
{
	if (transfer->doubt_ms > 0)
		learn_patience(transfer, transfer->doubt_ms);
	transfer->doubt_ms = 0;
}

void tftp_transfer_sent(struct tftp_transfer *transfer, unsigned unsent, uint64_t now_ms)
{
	assert(transfer->next - transfer->base >= unsent);
	transfer->next -= unsent;
	if (transfer->silent_count == 0)
		transfer->fresh_ms = now_ms;
	transfer->deadline_ms = now_ms + patience_ms(transfer);
}

enum tftp_step tftp_transfer_ack(struct tftp_transfer *transfer, uint16_t block, uint64_t now_ms)
{
	/* How many blocks it acknowledges; 0: an old one again. */
	uint16_t count = (uint16_t)(block - (uint16_t)(transfer->base - 1));

	if (count == 0 || count > transfer->ahead - transfer->base) {
		if (count == 0)
			answer_came_again(transfer);
		return TFTP_STEP_WAIT;
	}
	answer_came(transfer, now_ms);
	transfer->base += count;
	transfer->next = transfer->base;
	transfer->silent_count = 0;
	transfer->heard_ms = now_ms;
	return transfer->base > transfer->last ? TFTP_STEP_DONE : TFTP_STEP_SEND;
}

enum tftp_step tftp_transfer_again(struct tftp_transfer *transfer, uint64_t now_ms)
{
	if (transfer->base != transfer->first)
		return TFTP_STEP_WAIT;
	transfer->next = transfer->base;
	transfer->heard_ms = now_ms;
	return TFTP_STEP_SEND;
}

/* Four packets at least, however slow the client wants them. */
static uint64_t silence_ms_max(const struct tftp_transfer *transfer)
{
	uint64_t four = 4000ull * transfer->granted.timeout_s;

	return four > LIMIT_TFTP_SILENCE_MS ? four : LIMIT_TFTP_SILENCE_MS;
}

enum tftp_step tftp_transfer_timeout(struct tftp_transfer *transfer, uint64_t now_ms)
{
	if (now_ms < transfer->deadline_ms)
		return TFTP_STEP_WAIT;
	if (now_ms - transfer->heard_ms >= silence_ms_max(transfer))
		return TFTP_STEP_LOST;
	transfer->next = transfer->base;
	transfer->silent_count++;
	transfer->retries++;
	return TFTP_STEP_SEND;
}

uint64_t tftp_transfer_bytes(const struct tftp_transfer *transfer)
{
	uint64_t bytes = transfer->base > 1 ? (transfer->base - 1) * transfer->block_bytes : 0;

	return bytes < transfer->file_bytes ? bytes : transfer->file_bytes;
}

bool tftp_transfer_at_end(const struct tftp_transfer *transfer)
{
	return transfer->ahead > transfer->last &&
	       transfer->base + transfer->window_blocks > transfer->last;
}
