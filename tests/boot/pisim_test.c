/*
 * The simulator itself: its packets byte for byte against what Pis were seen to send, the wire's
 * troubles against the rates asked for, and each bug of the firmware against a server made up here,
 * in a time of its own (no sockets, no waiting).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pisim.h"

/* --- packets --- */

/* Frame of firmware issue 862 (3B, ROM): its first 44 bytes, then the client's address. */
static const uint8_t rom_head[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xb8, 0x27, 0xeb, 0x9d, 0xc1,
				   0x5a, 0x08, 0x00, 0x45, 0x00, 0x01, 0x5c, 0x00, 0x00, 0x00, 0x00,
				   0x80, 0x11, 0x39, 0x92, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
				   0xff, 0x00, 0x44, 0x00, 0x43, 0x01, 0x48, 0x00, 0x00, 0x01, 0x01,
				   0x06, 0x00, 0x26, 0xf3, 0x03, 0x39, 0x00, 0x00, 0x00, 0x00};
/* Options of the ROM as issue 764 prints them. */
static const uint8_t rom_options[] = {
	0x63, 0x82, 0x53, 0x63, 53,   1,    1,    55,   12,   43,   60,   67,   128,  129,
	130,  131,  132,  133,  134,  135,  66,   93,   2,    0,    0,    94,   3,    1,
	2,    1,    97,   17,   0,    0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44,
	0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 60,   32,   'P',  'X',  'E',  'C',  'l',
	'i',  'e',  'n',  't',  ':',  'A',  'r',  'c',  'h',  ':',  '0',  '0',  '0',  '0',
	'0',  ':',  'U',  'N',  'D',  'I',  ':',  '0',  '0',  '2',  '0',  '0',  '1',  255};

struct capture {
	uint8_t frames[64][FRAME_BYTES_MAX];
	size_t bytes[64];
	unsigned count;
};

static void capture_out(void *arg, const uint8_t *frame, size_t bytes)
{
	struct capture *capture = *(struct capture **)arg;

	if (capture->count == 64)
		return;
	memcpy(capture->frames[capture->count], frame, bytes);
	capture->bytes[capture->count++] = bytes;
}

/* A simulator and whatever watches its wire; `capture` comes first for capture_out(). */
struct bench {
	struct capture *capture;
	struct sim sim;
	/* the server of serve() */
	const char *const *absent; /* names, NULL-terminated; NULL: nothing is absent */
	size_t file_bytes;
	bool silent, oack;
	unsigned skip_block; /* this block of each file is never sent, 0: all are */
	unsigned boot_delay_us, address_delay_us;
	bool padded;
	unsigned discovers, requests, transfers, arp_answers;
	uint16_t last_ports[64];
};

static void run_until(struct sim *sim, uint64_t us)
{
	struct link *link = &sim->link;

	while (link->count && link->heap[0].at_us <= us && sim->ended < sim->count) {
		link->now_us =
			link->heap[0].at_us > link->now_us ? link->heap[0].at_us : link->now_us;
		link_run_due(link);
	}
	link->now_us = us;
}

static struct identity identity_of(enum model_id model, uint32_t serial, const uint8_t mac[6])
{
	struct identity who = {.model = model, .serial = serial};

	memcpy(who.mac, mac, 6);
	return who;
}

static const uint8_t *first_frame(struct bench *bench, struct identity who, size_t *ret_bytes)
{
	static struct capture capture;

	capture.count = 0;
	bench->capture = &capture;
	bench->sim.rules = rules_default();
	assert_int_equal(sim_init(&bench->sim, 1), 0);
	assert_int_equal(link_open(&bench->sim.link, NULL, 1), 0);
	bench->sim.link.on_out = capture_out;
	bench->sim.link.arg = &bench->sim;
	/* capture_out wants the bench. */
	bench->sim.link.arg = bench;
	sim_place(&bench->sim, 0, who, 10);
	bench->sim.link.now_us = 10;
	bench->sim.link.on_due = NULL;
	pi_on(&bench->sim.pis[0]);
	assert_int_equal(capture.count, 1);
	*ret_bytes = capture.bytes[0];
	sim_done(&bench->sim);
	return capture.frames[0];
}

static void discover_of_the_rom_is_the_dump(void **state)
{
	static const uint8_t mac[] = {0xb8, 0x27, 0xeb, 0x9d, 0xc1, 0x5a};
	struct bench bench = {0};
	size_t bytes;
	const uint8_t *frame = first_frame(&bench, identity_of(MODEL_3B, 0x009dc15a, mac), &bytes);
	uint8_t zero[202] = {0};

	(void)state;
	assert_int_equal(bytes, 362);
	assert_memory_equal(frame, rom_head, sizeof(rom_head));
	assert_memory_equal(frame + 42 + 28, mac, 6);
	assert_memory_equal(frame + 42 + 34, zero, sizeof(zero));
	assert_memory_equal(frame + 42 + 236, rom_options, sizeof(rom_options));
	assert_int_equal(42 + 236 + sizeof(rom_options), bytes);
}

/* Issue 941: 322 bytes of BOOTP, 14 items, and this GUID for b8:27:eb:86:96:f5. */
static void discover_of_bootcode_has_the_serial_four_times(void **state)
{
	static const uint8_t mac[] = {0xb8, 0x27, 0xeb, 0x86, 0x96, 0xf5};
	static const uint8_t list[] = {55,  14,  43,  60,  67,  128, 129, 130,
				       131, 132, 133, 134, 135, 66,  1,   3};
	static const uint8_t guid[] = {97,  17,  0,   245, 150, 134, 141, 245, 150, 134,
				       141, 245, 150, 134, 141, 245, 150, 134, 141};
	struct bench bench = {0};
	size_t bytes;
	const uint8_t *frame =
		first_frame(&bench, identity_of(MODEL_3B_SD, 0x8d8696f5, mac), &bytes);

	(void)state;
	assert_int_equal(bytes, 14 + 350);
	assert_memory_equal(frame + 42 + 4, "\x26\xf3\x03\x39", 4);
	assert_memory_equal(frame + 42 + 243, list, sizeof(list));
	assert_memory_equal(frame + 42 + 268, guid, sizeof(guid));
	assert_memory_equal(frame + 40, "\0\0", 2); /* no UDP checksum */
	assert_int_equal(frame[22], 128);
}

static uint32_t sum_words(const uint8_t *bytes, size_t count)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += (uint32_t)bytes[i] << (i % 2 ? 0 : 8);
	return sum;
}

/* The example of the EEPROM's GUID: rev a03111, MAC ..:32:2e:f8:ed, serial 5b154510. */
static void discover_of_the_eeprom_tells_model_and_serial(void **state)
{
	static const uint8_t mac[] = {0xdc, 0xa6, 0x32, 0x2e, 0xf8, 0xed};
	static const uint8_t list[] = {55,  14,  1,   3,   43,  60,  66,  67,
				       128, 129, 130, 131, 132, 133, 134, 135};
	static const uint8_t guid[] = {97,   17,   0,    0x52, 0x50, 0x69, 0x34, 0x11, 0x31, 0xa0,
				       0x00, 0x32, 0x2e, 0xf8, 0xed, 0x10, 0x45, 0x15, 0x5b};
	struct bench bench = {0};
	size_t bytes;
	const uint8_t *frame = first_frame(&bench, identity_of(MODEL_4, 0x5b154510, mac), &bytes);
	uint32_t sum;

	(void)state;
	assert_int_equal(bytes, 364);
	assert_memory_equal(frame + 42 + 243, list, sizeof(list));
	assert_memory_equal(frame + 42 + 268, guid, sizeof(guid));
	assert_int_equal(frame[22], 64);
	/* Both checksums add up. */
	sum = sum_words(frame + 14, 20);
	assert_int_equal((sum & 0xffff) + (sum >> 16), 0xffff);
	sum = sum_words(frame + 34, bytes - 34) + sum_words(frame + 26, 8) + 17 +
	      (uint32_t)(bytes - 34);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	assert_int_equal(sum, 0xffff);
	assert_true(frame[40] || frame[41]);
}

static void requests_are_the_ones_seen(void **state)
{
	static const char rom[] = "\0\1bootcode.bin\0octet";
	static const char start[] = "\0\1b66c4c16/kernel7.img\0octet\0tsize\0000";
	static const char eeprom[] = "\0\1x/config.txt\0octet\0tsize\0000\0blksize\0001468";
	uint8_t got[300];

	(void)state;
	assert_int_equal(packet_rrq(got, "bootcode.bin", false, 0), 21);
	assert_memory_equal(got, rom, sizeof(rom));
	assert_int_equal(packet_rrq(got, "b66c4c16/kernel7.img", true, 0), sizeof(start));
	assert_memory_equal(got, start, sizeof(start));
	assert_int_equal(packet_rrq(got, "x/config.txt", true, 1468), sizeof(eeprom));
	assert_memory_equal(got, eeprom, sizeof(eeprom));
}

/* The proxy's offer of issue 941: two spaces behind the text, which is not the ROM's three. */
static void offer_of_a_proxy_is_understood(void **state)
{
	static const uint8_t options[] = {
		0x63, 0x82, 0x53, 0x63, 53,  1,   2,   54,  4,   192, 168, 1,   117, 60,  9,   'P',
		'X',  'E',  'C',  'l',  'i', 'e', 'n', 't', 43,  34,  6,   1,   3,   10,  4,   0,
		80,   88,   69,   9,    22,  0,   0,   19,  82,  97,  115, 112, 98,  101, 114, 114,
		121,  32,   80,   105,  32,  66,  111, 111, 116, 32,  32,  255, 255};
	uint8_t payload[236 + sizeof(options)] = {2, 1, 6, 0, 0x26, 0xf3, 0x03, 0x39};
	struct dhcp_seen dhcp;

	(void)state;
	memcpy(payload + 236, options, sizeof(options));
	assert_true(packet_parse_dhcp(payload, sizeof(payload), &dhcp));
	assert_true(dhcp.pi_string && !dhcp.pi_string_padded);
	assert_int_equal(dhcp.server_id, 0xc0a80175);
	assert_int_equal(dhcp.address, 0);
	assert_int_equal(dhcp.type, DHCP_OFFER);
	/* Cut anywhere it is refused or read as far as it is whole, never beyond. */
	for (size_t cut = 0; cut < sizeof(payload); cut++) {
		uint8_t *exact = malloc(cut + 1);

		memcpy(exact, payload, cut);
		exact = realloc(exact, cut ? cut : 1);
		packet_parse_dhcp(exact, cut, &dhcp);
		free(exact);
	}
}

static void frames_that_lie_about_their_length(void **state)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct udp_path path = {.from_ip = 1, .to_ip = 2, .from_port = 3, .to_port = 4, .ttl = 64};
	uint8_t frame[FRAME_BYTES_MAX];
	size_t bytes = packet_udp(frame, &path, "12345678", 8);

	(void)state;
	assert_int_equal(packet_parse(frame, bytes).kind, SEEN_UDP);
	assert_int_equal(packet_parse(frame, bytes).bytes, 8);
	assert_int_equal(packet_parse(frame, bytes - 1).kind, SEEN_OTHER);
	frame[39]++; /* UDP's length beyond IP's */
	assert_int_equal(packet_parse(frame, bytes).kind, SEEN_OTHER);
	bytes = packet_arp(frame, 1, mac, 7, mac, 9);
	assert_int_equal(bytes, 60);
	assert_int_equal(packet_parse(frame, bytes).target_ip, 9);
	assert_int_equal(packet_parse(frame, 41).kind, SEEN_OTHER);
}

static void identities_are_all_different(void **state)
{
	(void)state;
	for (enum model_id id = 0; id < MODEL_COUNT; id++) {
		struct identity a = identity_make(id, 1);

		assert_int_equal(model_by_name(models[id].name), id);
		/* Up to the Pi 3 the MAC tells the serial number. */
		assert_int_equal(models[id].first != LEVEL_EEPROM,
				 a.mac[3] == (a.serial >> 16 & 255) &&
					 a.mac[4] == (a.serial >> 8 & 255) &&
					 a.mac[5] == (a.serial & 255));
		for (unsigned i = 2; i < 3000; i++) {
			struct identity b = identity_make(id, i);

			assert_int_not_equal(a.serial, b.serial);
			assert_memory_not_equal(a.mac, b.mac, 6);
		}
	}
}

/* --- the wire --- */

struct arrivals {
	unsigned count, late, out_of_order;
	uint32_t last;
	struct link *link;
};

static void count_in(void *arg, const uint8_t *frame, size_t bytes)
{
	struct arrivals *arrivals = arg;
	uint32_t number;

	assert_int_equal(bytes, 60);
	memcpy(&number, frame, 4);
	arrivals->count++;
	arrivals->out_of_order += number < arrivals->last;
	arrivals->last = number;
}

static struct arrivals pass_frames(struct trouble trouble, unsigned count, uint64_t seed,
				   struct tally *ret_tally)
{
	struct link link = {.fd = -1, .in = trouble};
	struct arrivals arrivals = {.link = &link};

	assert_int_equal(link_open(&link, NULL, seed), 0);
	link.on_in = count_in;
	link.arg = &arrivals;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t frame[60] = {0};

		memcpy(frame, &i, 4);
		link_receive(&link, frame, sizeof(frame));
		link.now_us += 1000;
		link_run_due(&link);
	}
	link.now_us += 10000000;
	link_run_due(&link);
	*ret_tally = link.in_tally;
	link_close(&link);
	return arrivals;
}

static void troubles_come_at_their_rates(void **state)
{
	static const struct {
		struct trouble trouble;
		double lost, twice;
	} cases[] = {
		{{.loss_permille = 0}, 0, 0},
		{{.loss_permille = 10}, 0.01, 0},
		{{.loss_permille = 50}, 0.05, 0},
		{{.loss_permille = 100}, 0.1, 0},
		{{.duplicate_permille = 50, .reorder_us = 3000}, 0, 0.05},
		{{.loss_permille = 1000}, 1, 0},
	};
	const unsigned count = 100000;
	struct tally tally;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct arrivals arrivals = pass_frames(cases[i].trouble, count, 7 + i, &tally);
		double lost = (double)tally.lost / count, twice = (double)tally.duplicated / count;

		/* Five standard deviations of 100,000 draws at 10 % are half a percent. */
		assert_true(lost >= cases[i].lost - 0.005 && lost <= cases[i].lost + 0.005);
		assert_true(twice >= cases[i].twice - 0.005 && twice <= cases[i].twice + 0.005);
		assert_int_equal(arrivals.count, count - tally.lost + tally.duplicated);
		assert_int_equal(tally.frames, count);
	}
}

static void reordered_frames_are_overtaken(void **state)
{
	struct tally tally;
	struct arrivals arrivals = pass_frames(
		(struct trouble){.reorder_permille = 50, .reorder_us = 3000}, 100000, 3, &tally);

	(void)state;
	assert_int_equal(arrivals.count, 100000);
	assert_true(tally.reordered > 4500 && tally.reordered < 5500);
	assert_true(arrivals.out_of_order > 4000 && arrivals.out_of_order <= tally.reordered);
	arrivals = pass_frames((struct trouble){.delay_us = 5000}, 1000, 3, &tally);
	assert_int_equal(arrivals.out_of_order, 0);
	assert_int_equal(arrivals.count, 1000);
}

static void delay_is_delay_and_jitter(void **state)
{
	struct link link = {.fd = -1, .in = {.delay_us = 20000, .jitter_us = 10000}};
	struct arrivals arrivals = {0};
	uint8_t frame[60] = {0};
	unsigned before, early = 0;

	(void)state;
	assert_int_equal(link_open(&link, NULL, 1), 0);
	link.on_in = count_in;
	link.arg = &arrivals;
	for (int i = 0; i < 1000; i++) {
		link_receive(&link, frame, sizeof(frame));
		link.now_us += 19999;
		before = arrivals.count;
		link_run_due(&link);
		assert_int_equal(arrivals.count, before);
		link.now_us += 5001;
		link_run_due(&link);
		early += arrivals.count - before;
		link.now_us += 5000;
		link_run_due(&link);
		assert_int_equal(arrivals.count, before + 1);
	}
	assert_true(early > 400 && early < 600);
	link_close(&link);
}

static void the_same_seed_is_the_same_run(void **state)
{
	struct trouble trouble = {.loss_permille = 50,
				  .duplicate_permille = 50,
				  .reorder_permille = 50,
				  .reorder_us = 3000};
	struct tally a, b, c;

	(void)state;
	pass_frames(trouble, 10000, 1, &a);
	pass_frames(trouble, 10000, 1, &b);
	pass_frames(trouble, 10000, 2, &c);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_memory_not_equal(&a, &c, sizeof(a));
}

/* --- config.txt --- */

static void config_is_read_for_the_model(void **state)
{
	static const char text[] =
		"# comment\nkernel=all.img\r\n[pi4]\nkernel=four.img\narm_64bit=0\n"
		"[pi3]\ninitramfs a,b "
		"followkernel\ndtoverlay=one,x=1\n[0xa3030001]\ncmdline=own.txt\n"
		"[gpio4=1]\nkernel=never.img\n[all]\ndtoverlay=two\ndtoverlay=\n";
	struct identity three = identity_make(MODEL_3B, 1), four = identity_make(MODEL_4, 1);
	struct config config;

	(void)state;
	assert_int_equal(four.serial, 0xa3030001);
	config_parse(&config, text, sizeof(text) - 1, &four);
	assert_string_equal(config.kernel, "four.img");
	assert_string_equal(config.cmdline, "own.txt");
	assert_string_equal(config.initramfs, "");
	assert_int_equal(config.overlay_count, 1);
	assert_false(config.arm_64bit);
	config_parse(&config, text, sizeof(text) - 1, &three);
	assert_string_equal(config.kernel, "all.img");
	assert_string_equal(config.initramfs, "a,b");
	assert_int_equal(config.overlay_count, 2);
	assert_string_equal(config.overlays[0], "one");
	config_parse(&config, "", 0, &four);
	assert_true(config.arm_64bit);
}

/* --- a boot, against a server made up here --- */

enum { SERVER_IP = 0x0a000002, ROUTER_IP = 0x0a000001, PI_IP = 0x0a000010 };
static const uint8_t server_mac[6] = {2, 0, 0, 0, 0, 2};

static void answer(struct bench *bench, const struct seen *seen, uint16_t from_port,
		   const void *payload, size_t bytes, unsigned us)
{
	uint8_t frame[FRAME_BYTES_MAX];
	struct udp_path path = {
		.from_ip = SERVER_IP,
		.to_ip = seen->from_ip,
		.from_port = from_port,
		.to_port = seen->from_port,
		.ttl = 64,
		.checksum = true,
	};

	memcpy(path.from_mac, server_mac, 6);
	memcpy(path.to_mac, seen->from_mac, 6);
	link_receive_after(&bench->sim.link, frame, packet_udp(frame, &path, payload, bytes), us);
}

static void answer_dhcp(struct bench *bench, const struct seen *seen)
{
	static const char padded[] = "Raspberry Pi Boot   ";
	uint8_t type = seen->payload[242], payload[400] = {0};
	uint8_t *options = payload + 240;

	bench->discovers += type == DHCP_DISCOVER;
	if (type == DHCP_REQUEST) {
		bench->requests++;
		/* ee#82: no vendor class in it. */
		assert_null(memmem(seen->payload, seen->bytes, "PXEClient", 9));
	}
	if (bench->silent)
		return;
	memcpy(payload, seen->payload, 44);
	payload[0] = 2;
	memcpy(payload + 236, "\x63\x82\x53\x63", 4);
	memcpy(options, "\x35\x01\x02\x36\x04\x0a\x00\x00\x01\xff", 10);
	memcpy(payload + 16, "\x0a\x00\x00\x10", 4);
	if (type == DHCP_REQUEST)
		options[2] = DHCP_ACK;
	answer(bench, seen, PORT_DHCP_SERVER, payload, 300, bench->address_delay_us);
	if (type == DHCP_REQUEST)
		return;
	memset(payload + 16, 0, 4);
	memcpy(options, "\x35\x01\x02\x36\x04\x0a\x00\x00\x02", 9);
	options[9] = 43;
	options[10] = bench->padded ? 20 : 17;
	memcpy(options + 11, padded, options[10]);
	options[11 + options[10]] = 255;
	answer(bench, seen, PORT_DHCP_SERVER, payload, 300, bench->boot_delay_us);
}

static bool is_absent(const struct bench *bench, const char *path)
{
	const char *slash = strchr(path, '/');

	for (const char *const *name = bench->absent; name && *name; name++)
		if (!strcmp(*name, path) || (slash && !strcmp(*name, slash + 1)))
			return true;
	return false;
}

/* Every file has file_bytes bytes of 'x', or for config.txt of newlines. What a transfer is about
 * is remembered by its port: 2000 and the client's. */
static void answer_tftp(struct bench *bench, const struct seen *seen)
{
	static bool small[65536];
	static uint16_t block_bytes[65536];
	uint8_t payload[4 + TFTP_DATA_MAX];
	uint16_t port = (uint16_t)(seen->from_port - 40000);
	unsigned block;
	size_t from, bytes;

	if (seen->to_port == PORT_TFTP) {
		const char *path = (const char *)seen->payload + 2, *blksize;

		bench->transfers++;
		if (is_absent(bench, path)) {
			answer(bench, seen, port, payload, packet_error(payload, 1, "no"), 100);
			return;
		}
		small[port] = strstr(path, "config.txt");
		blksize = memmem(seen->payload, seen->bytes, "blksize", 8);
		block_bytes[port] =
			(uint16_t)(bench->oack && blksize ? strtol(blksize + 8, NULL, 10) : 512);
		if (bench->oack && memmem(seen->payload, seen->bytes, "tsize", 6)) {
			int n = 2 + 1 +
				snprintf((char *)payload + 2, 60, "blksize%c%u", 0,
					 block_bytes[port]);

			payload[0] = 0;
			payload[1] = TFTP_OACK;
			answer(bench, seen, port, payload, (size_t)n, 100);
			return;
		}
		block = 1;
	} else if (seen->payload[1] == TFTP_ACK) {
		block = (unsigned)(seen->payload[2] << 8 | seen->payload[3]) + 1;
	} else {
		return;
	}
	bytes = small[port] ? 10 : bench->file_bytes;
	from = (size_t)(block - 1) * block_bytes[port];
	if (from > bytes || (block == bench->skip_block && !small[port]))
		return;
	bytes = bytes - from < block_bytes[port] ? bytes - from : block_bytes[port];
	payload[0] = 0;
	payload[1] = TFTP_DATA;
	payload[2] = (uint8_t)(block >> 8);
	payload[3] = (uint8_t)block;
	memset(payload + 4, small[port] ? '\n' : 'x', bytes);
	answer(bench, seen, port, payload, 4 + bytes, 100);
}

static void serve(void *arg, const uint8_t *frame, size_t bytes)
{
	struct bench *bench = (struct bench *)((char *)arg - offsetof(struct bench, sim));
	struct seen seen = packet_parse(frame, bytes);
	uint8_t reply[FRAME_BYTES_MAX];

	if (seen.kind == SEEN_ARP && seen.operation == 1 && seen.target_ip == SERVER_IP)
		link_receive_after(&bench->sim.link, reply,
				   packet_arp(reply, 2, server_mac, SERVER_IP, seen.sender_mac,
					      seen.sender_ip),
				   50);
	else if (seen.kind == SEEN_ARP && seen.operation == 2)
		bench->arp_answers++;
	else if (seen.kind == SEEN_UDP && seen.to_port == PORT_DHCP_SERVER)
		answer_dhcp(bench, &seen);
	else if (seen.kind == SEEN_UDP)
		answer_tftp(bench, &seen);
}

static const char *const usual_absent[] = {"bootsig.bin",
					   "autoboot.txt",
					   "recovery.elf",
					   "recover4.elf",
					   "dt-blob.bin",
					   "bootcfg.txt",
					   "recovery8.img",
					   "recovery8-32.img",
					   "recovery7.img",
					   "recovery.img",
					   "kernel8-32.img",
					   "armstub8-32.bin",
					   "armstub8-gic.bin",
					   "armstub8-2712.bin",
					   "vl805.sig",
					   "pieeprom.sig",
					   NULL};

static struct pi *bench_begin(struct bench *bench, enum model_id model)
{
	bench->sim.rules = rules_default();
	bench->sim.rules.lock_percent = bench->sim.rules.sit_percent = 0;
	assert_int_equal(sim_init(&bench->sim, 1), 0);
	assert_int_equal(link_open(&bench->sim.link, NULL, 5), 0);
	bench->sim.link.on_out = serve;
	bench->oack = bench->padded = true;
	bench->file_bytes = 5000;
	bench->absent = usual_absent;
	bench->address_delay_us = bench->boot_delay_us = 1000;
	sim_place(&bench->sim, 0, identity_make(model, 1), 1000);
	return &bench->sim.pis[0];
}

static const uint64_t second = 1000000;

static void every_model_boots(void **state)
{
	(void)state;
	for (enum model_id id = 0; id < MODEL_COUNT; id++) {
		struct bench bench = {0};
		struct pi *pi = bench_begin(&bench, id);

		run_until(&bench.sim, 2 * second);
		if (!pi->booted)
			fail_msg("%s: %s", models[id].name, pi->stuck);
		assert_true(pi->prefixed);
		assert_int_equal(bench.requests, models[id].first == LEVEL_EEPROM ? 1 : 0);
		/* The ROM and bootcode.bin each have an exchange of their own. */
		assert_int_equal(bench.discovers, models[id].first == LEVEL_ROM ? 2 : 1);
		assert_int_equal(pi->retries, 0);
		sim_done(&bench.sim);
	}
}

static void rom_asks_five_times_and_is_dead(void **state)
{
	struct bench bench = {.silent = true};
	struct pi *pi = bench_begin(&bench, MODEL_3B);

	(void)state;
	run_until(&bench.sim, 24 * second);
	assert_int_equal(bench.discovers, 5);
	assert_false(pi->stage == STAGE_END);
	run_until(&bench.sim, 26 * second);
	assert_true(pi->stage == STAGE_END && !pi->booted);
	assert_string_equal(pi->stuck, "ROM: no offer at all");
	bench.silent = false;
	run_until(&bench.sim, 600 * second);
	assert_int_equal(bench.discovers, 5);
	sim_done(&bench.sim);
}

static void eeprom_begins_again_for_ever(void **state)
{
	struct bench bench = {.silent = true};
	struct pi *pi = bench_begin(&bench, MODEL_4);

	(void)state;
	run_until(&bench.sim, 44 * second);
	assert_int_equal(pi->restarts, 0);
	assert_int_equal(bench.discovers, 11); /* every 4 s */
	run_until(&bench.sim, 300 * second);
	assert_int_equal(pi->restarts, 6);
	bench.silent = false;
	run_until(&bench.sim, 310 * second);
	assert_true(pi->booted);
	sim_done(&bench.sim);
}

static void bootcode_takes_a_lost_block_for_a_missing_file(void **state)
{
	struct bench bench = {.skip_block = 3};
	struct pi *pi = bench_begin(&bench, MODEL_3B_SD);

	(void)state;
	run_until(&bench.sim, second / 2);
	assert_true(pi->stage == STAGE_FILES);
	run_until(&bench.sim, 2 * second);
	assert_string_equal(pi->stuck, "bootcode.bin: file lost: start.elf");
	assert_true(pi->done_us - pi->on_us < 3 * second / 2);
	sim_done(&bench.sim);
}

static void eeprom_gives_a_file_half_a_minute(void **state)
{
	struct bench bench = {.skip_block = 3};
	struct pi *pi = bench_begin(&bench, MODEL_5);

	(void)state;
	run_until(&bench.sim, 29 * second);
	assert_int_equal(pi->restarts, 0);
	run_until(&bench.sim, 31 * second);
	assert_int_equal(pi->restarts, 1);
	bench.skip_block = 0;
	run_until(&bench.sim, 40 * second);
	assert_true(pi->booted);
	sim_done(&bench.sim);
}

static void offers_too_close_lock_the_3b_only(void **state)
{
	static const struct {
		enum model_id model;
		unsigned boot_delay_us, percent;
		bool boots;
	} cases[] = {
		{MODEL_3B, 500000, 100, false},   {MODEL_3B, 1000000, 100, true},
		{MODEL_3B, 500000, 0, true},      {MODEL_3B_PLUS, 500000, 100, true},
		{MODEL_3B_SD, 500000, 100, true}, {MODEL_4, 500000, 100, true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct bench bench = {0};
		struct pi *pi = bench_begin(&bench, cases[i].model);

		bench.boot_delay_us = cases[i].boot_delay_us;
		bench.sim.rules.lock_percent = cases[i].percent;
		run_until(&bench.sim, 60 * second);
		assert_int_equal(pi->booted, cases[i].boots);
		if (!cases[i].boots) {
			assert_string_equal(pi->stuck, "ROM: loops (answers too close together)");
			assert_int_equal(bench.discovers, 5);
		}
		sim_done(&bench.sim);
	}
}

/* The last packet sits in the NIC until the next DISCOVER's answer, or a nudge. */
static void packet_sits_until_another_comes(void **state)
{
	static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};
	struct bench bench = {0};
	struct pi *pi = bench_begin(&bench, MODEL_3B);
	uint8_t frame[FRAME_BYTES_MAX];

	(void)state;
	bench.boot_delay_us = 1000000;
	bench.sim.rules.sit_percent = 100;
	run_until(&bench.sim, 2 * second);
	assert_non_null(pi->held);
	assert_true(pi->stage == STAGE_DHCP);
	link_receive(&bench.sim.link, frame,
		     packet_arp(frame, 1, server_mac, SERVER_IP, everybody, 0x0a0000fe));
	run_until(&bench.sim, 2 * second + 1000);
	assert_null(pi->held);
	assert_true(pi->stage == STAGE_FILES);
	run_until(&bench.sim, 60 * second);
	assert_true(pi->booted);
	sim_done(&bench.sim);

	/* Without a nudge five seconds are lost, not the boot. */
	memset(&bench, 0, sizeof(bench));
	pi = bench_begin(&bench, MODEL_3B);
	bench.boot_delay_us = 1000000;
	bench.sim.rules.sit_percent = 100;
	run_until(&bench.sim, 60 * second);
	assert_true(pi->booted);
	assert_true(pi->done_us > 5 * second);
	sim_done(&bench.sim);
}

static void others_broadcasts_nudge_unless_alone(void **state)
{
	(void)state;
	for (int alone = 0; alone < 2; alone++) {
		struct bench bench = {.silent = true};
		struct pi *pi;
		uint8_t *held = malloc(60);

		bench.sim.rules = rules_default();
		bench.sim.rules.alone = alone;
		assert_int_equal(sim_init(&bench.sim, 2), 0);
		assert_int_equal(link_open(&bench.sim.link, NULL, 5), 0);
		bench.sim.link.on_out = serve;
		sim_place(&bench.sim, 0, identity_make(MODEL_3B, 1), 1000);
		sim_place(&bench.sim, 1, identity_make(MODEL_3B, 2), second);
		pi = &bench.sim.pis[0];
		run_until(&bench.sim, second / 2);
		memset(held, 0, 60);
		pi->held = held;
		pi->held_bytes = 60;
		bench.sim.held_count = 1;
		run_until(&bench.sim, second + second / 2);
		assert_int_equal(pi->held != NULL, alone);
		sim_done(&bench.sim);
	}
}

static void only_the_3b_rom_is_deaf_to_arp(void **state)
{
	static const struct {
		enum model_id model;
		unsigned answers;
	} cases[] = {{MODEL_3B, 0}, {MODEL_3B_PLUS, 1}, {MODEL_4, 1}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct bench bench = {.skip_block = 2};
		struct pi *pi = bench_begin(&bench, cases[i].model);
		uint8_t frame[FRAME_BYTES_MAX];

		run_until(&bench.sim, second);
		assert_true(pi->stage == STAGE_FILES);
		link_receive(&bench.sim.link, frame,
			     packet_arp(frame, 1, server_mac, SERVER_IP, pi->who.mac, PI_IP));
		/* Unicast, as Linux asks for a neighbour it knows. */
		memcpy(frame, pi->who.mac, 6);
		link_receive(&bench.sim.link, frame, 60);
		assert_int_equal(bench.arp_answers, 2 * cases[i].answers);
		sim_done(&bench.sim);
	}
}

static void missing_things_are_named(void **state)
{
	static const char *const no_kernel[] = {"kernel8-32.img", "kernel8.img",     "kernel7.img",
						"kernel7l.img",   "kernel_2712.img", NULL};
	static const char *const no_start[] = {"start.elf", "start4.elf", NULL};
	static const char *const no_bootcode[] = {"bootcode.bin", NULL};
	static const struct {
		enum model_id model;
		const char *const *absent;
		const char *stuck;
	} cases[] = {
		{MODEL_3B, no_bootcode, "ROM: file missing: bootcode.bin"},
		{MODEL_3B, no_start, "bootcode.bin: file missing: start.elf"},
		{MODEL_3B_PLUS, no_kernel, "bootcode.bin: file missing: kernel7.img"},
		{MODEL_4, no_start, "EEPROM: file missing: start4.elf"},
		{MODEL_5, no_kernel, "EEPROM: file missing: kernel_2712.img"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct bench bench = {0};
		struct pi *pi = bench_begin(&bench, cases[i].model);

		bench.absent = cases[i].absent;
		run_until(&bench.sim, second);
		assert_false(pi->booted);
		assert_string_equal(pi->stuck, cases[i].stuck);
		/* Without start*.elf in its folder the prefix is dropped. */
		if (bench.absent == no_start)
			assert_false(pi->prefixed);
		sim_done(&bench.sim);
	}
}

static void harder_readings_are_harder(void **state)
{
	struct bench bench = {0};
	struct pi *pi = bench_begin(&bench, MODEL_3B);

	(void)state;
	bench.padded = false;
	bench.sim.rules.need_padding = true;
	run_until(&bench.sim, 60 * second);
	assert_string_equal(pi->stuck, "ROM: no boot offer");
	sim_done(&bench.sim);

	/* fw#1012: a Pi 4 without an OACK takes no notice of config.txt. */
	memset(&bench, 0, sizeof(bench));
	pi = bench_begin(&bench, MODEL_4);
	bench.oack = false;
	run_until(&bench.sim, second);
	assert_string_equal(pi->stuck, "config.txt ignored: no OACK");
	sim_done(&bench.sim);

	memset(&bench, 0, sizeof(bench));
	pi = bench_begin(&bench, MODEL_3B_PLUS);
	bench.oack = false;
	run_until(&bench.sim, 2 * second);
	assert_true(pi->booted);
	sim_done(&bench.sim);
	memset(&bench, 0, sizeof(bench));
	pi = bench_begin(&bench, MODEL_3B_PLUS);
	bench.oack = false;
	bench.sim.rules.need_oack = true;
	run_until(&bench.sim, 2 * second);
	assert_string_equal(pi->stuck, "bootcode.bin: file missing: start.elf");
	sim_done(&bench.sim);
}

static void every_model_survives_a_bad_wire_and_a_patient_server(void **state)
{
	/* Duplicates and reordering alone never stop lock step, whoever sends twice. */
	(void)state;
	for (enum model_id id = 0; id < MODEL_COUNT; id++) {
		struct bench bench = {0};
		struct pi *pi = bench_begin(&bench, id);

		bench.sim.link.in = bench.sim.link.out = (struct trouble){.duplicate_permille = 200,
									  .reorder_permille = 200,
									  .reorder_us = 3000,
									  .jitter_us = 500};
		run_until(&bench.sim, 60 * second);
		if (!pi->booted)
			fail_msg("%s: %s", models[id].name, pi->stuck);
		sim_done(&bench.sim);
	}
}

static void content_is_checked(void **state)
{
	uint8_t file[4096];
	struct bench bench = {0};
	struct pi *pi = bench_begin(&bench, MODEL_5);

	(void)state;
	memset(file, 'a', sizeof(file));
	assert_int_equal(file_line(file, sizeof(file)), FILE_LINE_BYTES);
	for (int round = 0; round < 3; round++) {
		size_t bytes = round == 2 ? sizeof(file) - 1 : sizeof(file);
		struct seen seen = {
			.kind = SEEN_UDP, .from_ip = SERVER_IP, .from_port = 9, .to_port = 49152};
		uint8_t data[4 + TFTP_DATA_MAX] = {0, TFTP_DATA};

		run_until(&bench.sim, pi->on_us);
		if (round == 1)
			file[4000]++;
		pi->step = models[MODEL_5].steps + 3; /* pieeprom.sig: needs nothing */
		pi->stage = STAGE_FILES;
		pi->tftp = SERVER_IP;
		pi->next_port = 49152;
		pi->flaw[0] = 0;
		file_begin(pi, "file", false);
		pi->get.blksize = TFTP_DATA_MAX;
		seen.payload = data;
		for (uint8_t block = 1; block <= 3; block++) {
			size_t from = (size_t)(block - 1) * TFTP_DATA_MAX;
			size_t part = bytes - from < TFTP_DATA_MAX ? bytes - from : TFTP_DATA_MAX;

			data[3] = block;
			memcpy(data + 4, file + from, part);
			seen.bytes = 4 + part;
			file_packet(pi, &seen);
		}
		if (round)
			assert_string_equal(pi->flaw, "content wrong: file");
		else
			assert_string_equal(pi->flaw, "");
		file_close(pi);
	}
	sim_done(&bench.sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(discover_of_the_rom_is_the_dump),
		cmocka_unit_test(discover_of_bootcode_has_the_serial_four_times),
		cmocka_unit_test(discover_of_the_eeprom_tells_model_and_serial),
		cmocka_unit_test(requests_are_the_ones_seen),
		cmocka_unit_test(offer_of_a_proxy_is_understood),
		cmocka_unit_test(frames_that_lie_about_their_length),
		cmocka_unit_test(identities_are_all_different),
		cmocka_unit_test(troubles_come_at_their_rates),
		cmocka_unit_test(reordered_frames_are_overtaken),
		cmocka_unit_test(delay_is_delay_and_jitter),
		cmocka_unit_test(the_same_seed_is_the_same_run),
		cmocka_unit_test(config_is_read_for_the_model),
		cmocka_unit_test(every_model_boots),
		cmocka_unit_test(rom_asks_five_times_and_is_dead),
		cmocka_unit_test(eeprom_begins_again_for_ever),
		cmocka_unit_test(bootcode_takes_a_lost_block_for_a_missing_file),
		cmocka_unit_test(eeprom_gives_a_file_half_a_minute),
		cmocka_unit_test(offers_too_close_lock_the_3b_only),
		cmocka_unit_test(packet_sits_until_another_comes),
		cmocka_unit_test(others_broadcasts_nudge_unless_alone),
		cmocka_unit_test(only_the_3b_rom_is_deaf_to_arp),
		cmocka_unit_test(missing_things_are_named),
		cmocka_unit_test(harder_readings_are_harder),
		cmocka_unit_test(every_model_survives_a_bad_wire_and_a_patient_server),
		cmocka_unit_test(content_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
