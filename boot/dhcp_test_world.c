/* A world for the engine: speech of boards, a clock, an owner. */
#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dhcp_test_world.h"
#include "fingerprint.h"

const uint8_t rom_list[12] = {43, 60, 67, 128, 129, 130, 131, 132, 133, 134, 135, 66};
const uint8_t loader_list[14] = {1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135};

const uint8_t mac_3b[6] = {0xb8, 0x27, 0xeb, 0x12, 0x34, 0x56};
const uint8_t mac_3b_plus[6] = {0xb8, 0x27, 0xeb, 0x6c, 0x4c, 0x16};
const uint8_t mac_4[6] = {0xdc, 0xa6, 0x32, 0x2e, 0xf8, 0xed};
const uint8_t mac_5[6] = {0x2c, 0xcf, 0x67, 0x01, 0x02, 0x03};
const uint8_t mac_pc[6] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

#define FOUR_TIMES(a, b, c, d) a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d
const uint8_t guid_3b[17] = {0, FOUR_TIMES(0x44, 0x44, 0x44, 0x44)};
const uint8_t guid_3b_plus[17] = {0, FOUR_TIMES(0x16, 0x4c, 0x6c, 0xb6)};
const uint8_t guid_4[17] = {0,    0x52, 0x50, 0x69, 0x34, 0x11, 0x31, 0xa0, 0x00,
			    0x32, 0x2e, 0xf8, 0xed, 0x10, 0x45, 0x15, 0x5b};
const uint8_t guid_4_swapped[17] = {0,    0x34, 0x69, 0x50, 0x52, 0x14, 0x31, 0xd0, 0x00,
				    0x01, 0x09, 0x02, 0xf7, 0x3d, 0x01, 0x02, 0x03};
const uint8_t guid_5[17] = {0,    0x52, 0x50, 0x69, 0x35, 0x70, 0x41, 0xd0, 0x00,
			    0x67, 0x01, 0x02, 0x03, 0xef, 0xfd, 0xfe, 0x9f};
const uint8_t guid_pc[17] = {0,    0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0x41,
			     0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07};

#define PI_CLASS "PXEClient:Arch:00000:UNDI:002001"
#define FROM_PI  .type = DHCP_MSG_DISCOVER, .class = PI_CLASS, .architecture = true

const struct speech rom_3b = {FROM_PI,         .xid = PI_ROM_XID, .mac = mac_3b,
			      .guid = guid_3b, .list = rom_list,  .list_bytes = sizeof(rom_list)};
const struct speech rom_3b_plus = {FROM_PI,
				   .xid = PI_ROM_XID,
				   .mac = mac_3b_plus,
				   .guid = guid_3b_plus,
				   .list = rom_list,
				   .list_bytes = sizeof(rom_list)};
const struct speech bootcode_3b_plus = {FROM_PI,
					.xid = PI_ROM_XID,
					.mac = mac_3b_plus,
					.guid = guid_3b_plus,
					.list = loader_list,
					.list_bytes = sizeof(loader_list)};
const struct speech eeprom_4 = {
	FROM_PI,        .xid = 0x13572468,   .mac = mac_4,
	.guid = guid_4, .list = loader_list, .list_bytes = sizeof(loader_list)};
const struct speech eeprom_5 = {
	FROM_PI,        .xid = 0x24681357,   .mac = mac_5,
	.guid = guid_5, .list = loader_list, .list_bytes = sizeof(loader_list)};
const struct speech pxe_pc = {.type = DHCP_MSG_DISCOVER,
			      .class = "PXEClient:Arch:00007:UNDI:003001",
			      .architecture = true,
			      .architecture_is = 7,
			      .xid = 0xabcdef01,
			      .flags = DHCP_FLAG_BROADCAST,
			      .mac = mac_pc,
			      .guid = guid_pc,
			      .max_bytes = 1472};

struct in_addr address(const char *text)
{
	struct in_addr a = {0};

	if (text)
		assert(inet_pton(AF_INET, text, &a) == 1);
	return a;
}

static size_t put(uint8_t *to, size_t at, uint8_t code, const void *data, size_t bytes)
{
	to[at] = code;
	to[at + 1] = (uint8_t)bytes;
	memcpy(to + at + 2, data, bytes);
	return at + 2 + bytes;
}

static size_t put_text(uint8_t *to, size_t at, uint8_t code, const char *text)
{
	return text ? put(to, at, code, text, strlen(text)) : at;
}

static size_t put_address(uint8_t *to, size_t at, uint8_t code, const char *text)
{
	struct in_addr a = address(text);

	return text ? put(to, at, code, &a, sizeof(a)) : at;
}

size_t speech_write(const struct speech *s, uint8_t *to)
{
	struct dhcp_wire wire = {
		.head = {.op = s->op ? s->op : 1,
			 .htype = 1,
			 .hlen = 6,
			 .ciaddr = dhcp_be32(address(s->ciaddr)),
			 .yiaddr = dhcp_be32(address(s->yiaddr)),
			 .siaddr = dhcp_be32(address(s->siaddr)),
			 .giaddr = dhcp_be32(address(s->giaddr))},
		.cookie = {99, 130, 83, 99},
	};
	uint8_t type = (uint8_t)s->type, two[2];
	size_t at = sizeof(wire);

	be32_put(&wire.head.xid, s->xid);
	be16_put(&wire.head.flags, s->flags);
	memcpy(wire.head.chaddr, s->mac, 6);
	memcpy(to, &wire, sizeof(wire));
	at = put(to, at, 53, &type, 1);
	if (s->list)
		at = put(to, at, 55, s->list, s->list_bytes);
	put_be16(two, s->max_bytes);
	if (s->max_bytes)
		at = put(to, at, 57, two, 2);
	put_be16(two, s->architecture_is);
	if (s->architecture)
		at = put(to, at, 93, two, 2);
	if (s->architecture)
		at = put(to, at, 94, "\1\2\1", 3);
	if (s->guid)
		at = put(to, at, 97, s->guid, 17);
	at = put_text(to, at, 60, s->class);
	at = put_address(to, at, 50, s->requested);
	at = put_address(to, at, 54, s->server);
	at = put_text(to, at, 12, s->hostname);
	at = put_text(to, at, 77, s->user_class);
	at = put_text(to, at, 66, s->tftp_server);
	if (s->vendor)
		at = put(to, at, 43, s->vendor, s->vendor_bytes);
	to[at++] = 255;
	assert(at <= LIMIT_DHCP_PACKET_BYTES);
	return at;
}

/* --- the owner --- */

/* All that a callback may do, about every board. */
static void meddle(struct world *w)
{
	static const uint8_t *const macs[] = {mac_3b, mac_3b_plus, mac_4, mac_5, mac_pc};

	if (!w->meddles)
		return;
	w->meddles = false; /* what is told of this, no more */
	for (unsigned i = 0; i < ARRAY_COUNT(macs); i++)
		dhcp_go(w->dhcp, macs[i]);
	dhcp_begun(w->dhcp, mac_pc, address("192.168.1.200"));
	dhcp_begun(w->dhcp, mac_5, address("192.168.1.201"));
	dhcp_find_address(w->dhcp, address("192.168.1.200"));
	w->meddles = true;
}

static enum dhcp_verdict ask(void *arg, const struct dhcp_client *client, struct dhcp_boot *boot)
{
	struct world *w = arg;

	w->asked++;
	meddle(w);
	if (client->pi.model != PI_NONE)
		return w->verdict;
	memcpy(boot->file, w->boot_file, sizeof(boot->file));
	return w->verdict_other;
}

static void on_event(void *arg, const struct dhcp_client *client, enum dhcp_event event,
		     const char *text)
{
	struct world *w = arg;
	unsigned i = w->event_count % EVENTS_MAX;

	assert((event == DHCP_EVENT_TROUBLE || event == DHCP_EVENT_REFUSED) == (text != NULL));
	w->events[i].event = event;
	w->events[i].at_ms = w->now_ms;
	memset(&w->events[i].client, 0, sizeof(w->events[i].client));
	if (client)
		w->events[i].client = *client;
	w->events[i].text[0] = 0;
	if (text)
		strncpy(w->events[i].text, text, sizeof(w->events[i].text) - 1);
	w->event_count++;
	meddle(w);
}

static bool host(void *arg, const uint8_t mac[6], struct dhcp_host *ret_host)
{
	struct world *w = arg;

	for (unsigned i = 0; i < ARRAY_COUNT(w->hosts); i++) {
		if (!w->hosts[i].hostname || memcmp(w->hosts[i].mac, mac, 6) != 0)
			continue;
		ret_host->address = address(w->hosts[i].address);
		strncpy(ret_host->hostname, w->hosts[i].hostname, sizeof(ret_host->hostname) - 1);
		return true;
	}
	return false;
}

static bool is_static(void *arg, struct in_addr a)
{
	struct world *w = arg;

	for (unsigned i = 0; i < ARRAY_COUNT(w->hosts); i++)
		if (w->hosts[i].address && address(w->hosts[i].address).s_addr == a.s_addr)
			return true;
	return false;
}

static int64_t unix_s(void *arg)
{
	struct world *w = arg;

	return w->unix_s + (int64_t)(w->now_ms / 1000);
}

/* What is kept of this MAC is worth nothing from now on. */
static void stored_end(struct world *w, const uint8_t mac[6])
{
	for (unsigned i = 0; i < w->stored_count && i < ARRAY_COUNT(w->stored); i++)
		if (memcmp(w->stored[i].mac, mac, 6) == 0)
			w->stored[i].until_s = 0;
}

/* As lunrootd does it: an address is one MAC's, until its lease has ended. */
static int lease_store(void *arg, const struct dhcp_lease *lease)
{
	struct world *w = arg;

	stored_end(w, lease->mac);
	for (unsigned i = 0; i < w->stored_count && i < ARRAY_COUNT(w->stored); i++)
		if (w->stored[i].address.s_addr == lease->address.s_addr &&
		    w->stored[i].until_s >= unix_s(w))
			return -EEXIST;
	w->stored[w->stored_count++ % ARRAY_COUNT(w->stored)] = *lease;
	return w->store_result;
}

static void lease_forget(void *arg, const uint8_t mac[6])
{
	struct world *w = arg;

	stored_end(w, mac);
	w->forgotten_count++;
}

static const struct dhcp_ops ops = {
	.ask = ask,
	.event = on_event,
	.known = {.host = host, .is_static = is_static, .unix_s = unix_s},
	.lease_store = lease_store,
	.lease_forget = lease_forget,
};

/* --- what is beneath --- */

static uint64_t now_ms(void *arg)
{
	struct world *w = arg;

	return w->now_ms;
}

static void io_send(void *arg, const struct dhcp_out *out)
{
	struct world *w = arg;
	struct sent *sent = &w->sent[w->sent_count++ % SENT_MAX];

	assert(out->datagram.bytes <= sizeof(sent->data) && out->datagram.bytes >= 300);
	sent->out = *out;
	sent->at_ms = w->now_ms;
	memcpy(sent->data, out->datagram.data, out->datagram.bytes);
	sent->out.datagram.data = sent->data;
	assert(dhcp_parse(sent->data, out->datagram.bytes, &sent->packet) == 0);
}

static void io_nudge(void *arg, int ifindex, struct in_addr local)
{
	struct world *w = arg;

	assert(ifindex > 0 && local.s_addr);
	w->nudge_ms[w->nudge_count++ % SENT_MAX] = w->now_ms;
}

static void io_neighbour(void *arg, int ifindex, struct in_addr a, const uint8_t mac[6])
{
	struct world *w = arg;

	(void)mac;
	assert(ifindex > 0);
	w->neighbour = a;
	w->neighbour_count++;
}

static void io_timer(void *arg, uint64_t due_ms)
{
	struct world *w = arg;

	w->due_ms = due_ms;
}

static const struct dhcp_io io = {
	.now_ms = now_ms,
	.send = io_send,
	.nudge = io_nudge,
	.neighbour = io_neighbour,
	.timer = io_timer,
};

void world_iface(struct world *w, int ifindex, const char *name, const char *const *addresses,
		 unsigned count)
{
	struct dhcp_iface iface = {
		.ifindex = ifindex, .mac = {2, 0, 0, 0, 0, (uint8_t)ifindex}, .net_count = count};

	strncpy(iface.name, name, sizeof(iface.name) - 1);
	for (unsigned i = 0; i < count; i++)
		iface.nets[i] = (struct dhcp_net){address(addresses[i]), address("255.255.255.0")};
	assert(dhcp_iface_set(w->dhcp, &iface) == 0);
}

struct world *world_new(const struct dhcp_config *config)
{
	static const char *const addresses[] = {"192.168.1.10"};
	struct world *w = calloc(1, sizeof(*w));

	assert(w);
	w->now_ms = 1000000;
	w->due_ms = UINT64_MAX;
	w->verdict = DHCP_OFFER;
	w->verdict_other = DHCP_IGNORE;
	w->unix_s = 1795000000;
	w->dhcp = dhcp_new(config, &ops, w);
	assert(w->dhcp);
	dhcp_set_io(w->dhcp, &io, w);
	world_iface(w, 2, "eth0", addresses, 1);
	return w;
}

void world_free(struct world *w)
{
	dhcp_free(w->dhcp);
	free(w);
}

void world_pass(struct world *w, uint64_t ms)
{
	uint64_t end = w->now_ms + ms;

	for (unsigned i = 0; w->due_ms <= end; i++) {
		assert(i < 100000); /* a timer that never comes to rest */
		if (w->due_ms > w->now_ms)
			w->now_ms = w->due_ms;
		w->due_ms = UINT64_MAX;
		dhcp_run(w->dhcp);
	}
	w->now_ms = end;
}

void world_say_on(struct world *w, int ifindex, const char *from, const char *to, uint16_t port,
		  const struct speech *speech)
{
	uint8_t data[LIMIT_DHCP_PACKET_BYTES];
	size_t bytes = speech_write(speech, data);
	/* An allocation of its own, so that reads beyond it are seen. */
	uint8_t *copy = malloc(bytes);
	struct dhcp_datagram datagram = {address(from), address(to), 68, port, copy, bytes};

	assert(copy);
	memcpy(copy, data, bytes);
	dhcp_input(w->dhcp, ifindex, &datagram);
	free(copy);
}

void world_say(struct world *w, const struct speech *speech)
{
	bool reply = speech->op == 2;

	world_say_on(w, 2, reply ? "192.168.1.1" : "0.0.0.0", "255.255.255.255",
		     reply ? DHCP_PORT_CLIENT : DHCP_PORT_SERVER, speech);
}

unsigned world_events(const struct world *w, enum dhcp_event event, const char *text)
{
	unsigned count = 0;

	assert(w->event_count <= EVENTS_MAX);
	for (unsigned i = 0; i < w->event_count; i++)
		count += w->events[i].event == event && (!text || strstr(w->events[i].text, text));
	return count;
}
