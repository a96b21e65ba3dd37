/*
 * Any packets to the engine, as a proxy and giving addresses itself: each input is a row of frames,
 * two bytes of length and one of what happens besides (time passes, the owner says something else).
 * All that is sent must be well formed, and nobody but a Pi may make the proxy send.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dhcp.h"
#include "fingerprint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t clock_ms;
static uint64_t due_ms;
static uint8_t mood; /* of the owner */
static bool pi_was_there;

static enum dhcp_verdict ask(void *arg, const struct dhcp_client *client, struct dhcp_boot *boot)
{
	(void)arg;
	if (client->pi.model != PI_NONE) {
		pi_was_there = true;
		return mood & 1 ? DHCP_OFFER : mood & 2 ? DHCP_WAIT : DHCP_IGNORE;
	}
	memset(boot->file, 'f', sizeof(boot->file) - 1);
	if (mood & 4)
		pi_was_there = true; /* one that was registered */
	return mood & 4 ? DHCP_OFFER : DHCP_IGNORE;
}

static void on_event(void *arg, const struct dhcp_client *client, enum dhcp_event event,
		     const char *text)
{
	(void)arg;
	(void)client;
	assert((event == DHCP_EVENT_TROUBLE || event == DHCP_EVENT_REFUSED) == (text != NULL));
}

static bool host(void *arg, const uint8_t mac[6], struct dhcp_host *ret_host)
{
	(void)arg;
	if (mac[5] % 4)
		return false;
	ret_host->address.s_addr = htonl(0xc0a80100u | mac[5]);
	memset(ret_host->hostname, 'h', sizeof(ret_host->hostname) - 1);
	return true;
}

static bool is_static(void *arg, struct in_addr address)
{
	(void)arg;
	return ntohl(address.s_addr) % 4 == 0;
}

static int64_t unix_s(void *arg)
{
	(void)arg;
	return 1795000000 + (int64_t)(clock_ms / 1000);
}

static int lease_store(void *arg, const struct dhcp_lease *lease)
{
	(void)arg;
	assert(memchr(lease->hostname, 0, sizeof(lease->hostname)));
	return mood & 8 ? -EINPROGRESS : mood & 16 ? -EIO : 0;
}

static void lease_forget(void *arg, const uint8_t mac[6])
{
	(void)arg;
	(void)mac;
}

static uint64_t now_ms(void *arg)
{
	(void)arg;
	return clock_ms;
}

static void on_send(void *arg, const struct dhcp_out *out)
{
	uint8_t frame[DHCP_FRAME_HEADER_BYTES + LIMIT_DHCP_REPLY_BYTES];
	struct dhcp_datagram datagram = {0};
	struct dhcp_packet packet;
	size_t bytes = dhcp_frame_build(&out->datagram, frame, sizeof(frame));
	bool known = *(bool *)arg;

	assert(bytes && out->ifindex == 2);
	assert(dhcp_frame_parse(frame, bytes, &datagram) == 0);
	assert(datagram.bytes == out->datagram.bytes);
	assert(dhcp_parse(datagram.data, datagram.bytes, &packet) == 0);
	assert(known || pi_was_there);
	assert(known || be32_get(packet.head.yiaddr) == 0);
}

static void nudge(void *arg, int ifindex, struct in_addr local)
{
	(void)arg;
	assert(ifindex == 2 && local.s_addr);
}

static void neighbour(void *arg, int ifindex, struct in_addr address, const uint8_t mac[6])
{
	(void)arg;
	(void)mac;
	assert(ifindex == 2);
	assert(ntohl(address.s_addr) >> 8 == 0xc0a801 && address.s_addr != htonl(0xc0a8010a));
}

static void timer(void *arg, uint64_t at_ms)
{
	(void)arg;
	due_ms = at_ms;
}

static const struct dhcp_ops ops = {
	.ask = ask,
	.event = on_event,
	.known = {.host = host, .is_static = is_static, .unix_s = unix_s},
	.lease_store = lease_store,
	.lease_forget = lease_forget,
};

static const struct dhcp_io io = {
	.now_ms = now_ms, .send = on_send, .nudge = nudge, .neighbour = neighbour, .timer = timer};

static void pass(struct dhcp *dhcp, uint64_t ms)
{
	uint64_t end = clock_ms + ms;

	for (unsigned i = 0; due_ms <= end; i++) {
		assert(i < 10000);
		if (due_ms > clock_ms)
			clock_ms = due_ms;
		due_ms = UINT64_MAX;
		dhcp_run(dhcp);
	}
	clock_ms = end;
}

static void frame(struct dhcp *dhcp, const uint8_t *data, size_t bytes)
{
	/* An allocation of its own, so that reads beyond it are seen. */
	uint8_t *copy = malloc(bytes ? bytes : 1);
	struct dhcp_datagram datagram = {0};

	assert(copy);
	memcpy(copy, data, bytes);
	if (dhcp_frame_parse(copy, bytes, &datagram) == 0)
		dhcp_input(dhcp, 2, &datagram);
	dhcp_input_bpdu(dhcp, 2, copy, bytes);
	if (bytes >= 28 + 34) { /* the client's MAC, for what the owner says */
		dhcp_lease_stored(dhcp, copy + 28 + 28, mood & 32 ? -EIO : 0);
		if (mood & 64)
			dhcp_go(dhcp, copy + 28 + 28);
		if (mood & 128)
			dhcp_begun(dhcp, copy + 28 + 28, datagram.from);
	}
	free(copy);
}

static void play(bool known, const uint8_t *data, size_t size)
{
	struct dhcp_config config = {
		.known = known,
		.addresses = {{htonl(0xc0a80164)}, {htonl(0xc0a80168)}, 600},
		.router = {htonl(0xc0a80101)},
		.dns_count = 3,
	};
	struct dhcp_iface iface = {
		.ifindex = 2,
		.name = "eth0",
		.mac = {2, 0, 0, 0, 0, 2},
		.nets = {{{htonl(0xc0a8010a)}, {htonl(0xffffff00)}}},
		.net_count = 1,
	};
	struct dhcp *dhcp;

	memset(config.domain, 'd', sizeof(config.domain) - 1);
	clock_ms = 1000;
	due_ms = UINT64_MAX;
	mood = 1;
	pi_was_there = false;
	dhcp = dhcp_new(&config, &ops, &known);
	assert(dhcp);
	dhcp_set_io(dhcp, &io, &known);
	assert(dhcp_iface_set(dhcp, &iface) == 0);
	pass(dhcp, 5000);
	while (size >= 3) {
		size_t bytes = get_be16(data);

		mood = data[2];
		data += 3, size -= 3;
		bytes = bytes < size ? bytes : size;
		frame(dhcp, data, bytes);
		data += bytes, size -= bytes;
		pass(dhcp, mood & 2 ? 5000 : 50);
	}
	pass(dhcp, 30000);
	dhcp_free(dhcp);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	play(false, data, size);
	play(true, data, size);
	return 0;
}
