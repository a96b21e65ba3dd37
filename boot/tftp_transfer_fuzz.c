/*
 * A transfer to a client that says anything, through a network that loses, doubles and delays. The
 * input is the request, a file's size, and what happens. No packet may hold anything but the
 * file's own bytes at their place, no window more than was agreed; and a client that then behaves
 * gets the rest of the file in as many steps as it has blocks.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "boot/tftp_transfer.h"

#define FILE_BYTES_MAX 70000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t content[FILE_BYTES_MAX];

static void check_packet(const struct tftp_transfer *t, const uint8_t *packet, size_t bytes)
{
	uint64_t block = t->next - 1, offset;
	size_t data_bytes = bytes - TFTP_HEADER_BYTES;

	assert(bytes >= TFTP_HEADER_BYTES && bytes <= TFTP_PACKET_BYTES);
	assert(block >= t->base && block < t->base + t->window_blocks && block <= t->last);
	if (block == 0) {
		assert(get_be16(packet) == TFTP_OACK);
		return;
	}
	assert(get_be16(packet) == TFTP_DATA && get_be16(packet + 2) == (uint16_t)block);
	offset = (block - 1) * t->block_bytes;
	assert(data_bytes <= t->block_bytes && offset + data_bytes <= t->file_bytes);
	assert(data_bytes == t->block_bytes || offset + data_bytes == t->file_bytes);
	assert(memcmp(packet + TFTP_HEADER_BYTES, content + offset, data_bytes) == 0);
}

static void send(struct tftp_transfer *t, unsigned lose, uint64_t now)
{
	uint8_t packet[TFTP_PACKET_BYTES];
	unsigned count = 0;
	size_t bytes;

	while ((bytes = tftp_transfer_packet(t, packet)) > 0) {
		check_packet(t, packet, bytes);
		count++;
	}
	assert(count <= t->window_blocks);
	tftp_transfer_sent(t, lose < count ? lose : count, now);
	assert(t->deadline_ms > now);
}

/* false: it is over. */
static bool happen(struct tftp_transfer *t, uint8_t what, uint8_t how, uint64_t *now)
{
	enum tftp_step step;

	*now += how;
	switch (what % 5) {
	case 0: step = tftp_transfer_ack(t, (uint16_t)(t->next - 1), *now); break;
	case 1: step = tftp_transfer_ack(t, (uint16_t)(t->base + how - 8), *now); break;
	case 2: step = tftp_transfer_ack(t, (uint16_t)(how * 257), *now); break;
	case 3: step = tftp_transfer_again(t, *now); break;
	default:
		*now += (uint64_t)how * how;
		step = tftp_transfer_timeout(t, *now);
		break;
	}
	assert(t->first <= t->base && t->base <= t->next && t->next <= t->ahead);
	assert(t->ahead <= t->last + 1 && t->ahead - t->base <= t->window_blocks);
	if (step == TFTP_STEP_SEND)
		send(t, what > 200 ? how % 8 : 0, *now);
	return step == TFTP_STEP_WAIT || step == TFTP_STEP_SEND;
}

static void finish(struct tftp_transfer *t, uint64_t now)
{
	uint64_t steps = t->last - t->base + 2;

	if (t->next == t->base) { /* the kernel took nothing of the last window */
		now = t->deadline_ms;
		if (tftp_transfer_timeout(t, now) == TFTP_STEP_LOST)
			return;
		send(t, 0, now);
	}
	while (steps-- > 0) {
		if (tftp_transfer_ack(t, (uint16_t)(t->next - 1), now) == TFTP_STEP_DONE) {
			assert(tftp_transfer_bytes(t) == t->file_bytes);
			return;
		}
		send(t, 0, now);
	}
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	struct tftp_options asked;
	struct tftp_transfer t;
	struct blob *blob;
	uint64_t now = 1;
	uint8_t *copy;
	size_t bytes;
	bool going = true;

	if (size < 8)
		return 0;
	if (!ready) {
		for (size_t i = 0; i < sizeof(content); i++)
			content[i] = (uint8_t)(i ^ i >> 8);
		ready = true;
	}
	bytes = (get_be16(data) | (size_t)data[2] << 16) % sizeof(content);
	asked = (struct tftp_options){.tsize = data[3] & 1,
				      .block_bytes = data[3] & 2 ? get_be16(data + 4) : 0,
				      .timeout_s = data[3] & 4 ? data[6] : 0,
				      .window_blocks = data[3] & 8 ? data[7] : 0};
	if (asked.block_bytes && asked.block_bytes < TFTP_BLOCK_BYTES_MIN)
		asked.block_bytes = TFTP_BLOCK_BYTES_MIN;
	copy = malloc(bytes + 1);
	if (!copy)
		return 0;
	memcpy(copy, content, bytes);
	blob = blob_new(copy, bytes);
	tftp_transfer_init(&t, blob, &asked, 36 + data[6] * 8u, now);
	blob_unref(blob);
	send(&t, 0, now);
	for (size_t i = 8; going && i + 1 < size; i += 2)
		going = happen(&t, data[i], data[i + 1], &now);
	if (going)
		finish(&t, now);
	tftp_transfer_done(&t);
	return 0;
}
