/*
 * A Pi from power-on to its last file: DHCP as its firmware does it, ARP, then one step after the
 * other of its model's list (pisim_model.c), each file through pisim_file.c.
 *
 *   off -> dhcp -> [request, EEPROM only] -> arp -> files -> end
 *            ^-- the ROM after a failed transfer, bootcode.bin's own exchange, an EEPROM's restart
 *
 * Up to the Pi 3 a failure is for good (a power cycle is needed); the EEPROM begins again for ever.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "pisim.h"

#define XID_OLD 0x26f30339 /* in every trace of a Pi <= 3 (fw#871, #862, #941) */

static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};
static const char *const level_names[] = {"ROM", "bootcode.bin", "EEPROM"};

void pi_trace(const struct pi *pi, const char *format, ...)
{
	va_list args;

	if (!pi->sim->trace)
		return;
	fprintf(stderr, "%9.3f %s/%u ", (double)(pi->sim->link.now_us - pi->on_us) / 1e6,
		pi->model->name, pi->who.index);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* The earlier of the two is what the link shall wake it for; an older call may come first and is
 * then passed over. */
void pi_set_times(struct pi *pi, uint64_t next_us, uint64_t limit_us)
{
	uint64_t wake = next_us && (!limit_us || next_us < limit_us) ? next_us : limit_us;

	pi->next_us = next_us;
	pi->limit_us = limit_us;
	if (wake && (!pi->queued_us || wake < pi->queued_us)) {
		pi->queued_us = wake;
		link_wake(&pi->sim->link, wake, pi);
	}
}

static void send_frame(struct pi *pi, const uint8_t *frame, size_t bytes)
{
	struct sim *sim = pi->sim;

	pi->sent++;
	link_send(&sim->link, frame, bytes);
	/* The switch floods a broadcast to the other Pis: whatever sits in a NIC comes out. */
	if (frame[0] == 255 && sim->held_count && !sim->nudged && !sim->rules.alone) {
		sim->nudged = true;
		link_wake(&sim->link, sim->link.now_us, sim);
	}
}

void pi_send(struct pi *pi, const uint8_t to_mac[6], uint32_t to_ip, uint16_t from_port,
	     uint16_t to_port, const void *payload, size_t bytes)
{
	uint8_t frame[FRAME_BYTES_MAX];
	bool old = pi->model->first != LEVEL_EEPROM;
	struct udp_path path = {
		.from_ip = pi->address,
		.to_ip = to_ip,
		.from_port = from_port,
		.to_port = to_port,
		/* fw#862: TTL 128, id 0, no UDP checksum; ee#58: TTL 64, ids, a checksum. */
		.ttl = old ? 128 : 64,
		.ip_id = old ? 0 : pi->ip_id++,
		.checksum = !old,
	};

	memcpy(path.from_mac, pi->who.mac, 6);
	memcpy(path.to_mac, to_mac, 6);
	send_frame(pi, frame, packet_udp(frame, &path, payload, bytes));
}

static uint64_t after_ms(const struct pi *pi, unsigned ms)
{
	return pi->sim->link.now_us + 1000ull * ms;
}

static void finish(struct pi *pi, bool booted)
{
	file_close(pi);
	pi->stage = STAGE_END;
	pi->booted = booted;
	pi->done_us = pi->sim->link.now_us;
	pi->sim->ended++;
	pi_set_times(pi, 0, 0);
	pi_trace(pi, "%s%s", booted ? "boots" : "is stuck: ", booted ? "" : pi->stuck);
}

/* The firmware can't go on. */
void pi_fail(struct pi *pi, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(pi->stuck, sizeof(pi->stuck), format, args);
	va_end(args);
	file_close(pi);
	if (pi->model->first == LEVEL_EEPROM &&
	    !(pi->sim->rules.black_screen && pi->who.model == MODEL_5)) {
		/* BOOT_ORDER's f, or NET_BOOT_MAX_RETRIES: from the beginning (doc
		 * eeprom-bootloader). */
		pi_trace(pi, "begins again: %s", pi->stuck);
		pi->restarts++;
		pi->stage = STAGE_PAUSE;
		pi_set_times(pi, after_ms(pi, pi->sim->rules.restart_ms), 0);
		return;
	}
	finish(pi, false);
}

/* --- DHCP --- */

static void send_dhcp(struct pi *pi, uint8_t type)
{
	enum level level = pi->step->level;
	struct dhcp_make make = {
		.type = type, .xid = pi->xid, .vendor_class = type == DHCP_DISCOVER};
	uint8_t payload[400];
	uint32_t address = pi->address;
	size_t bytes;

	memcpy(make.mac, pi->who.mac, 6);
	make.asked_for = model_asked_for(level, &make.asked_count);
	model_guid(&pi->who, level, make.guid);
	if (type == DHCP_REQUEST) { /* ee#82: no option 60 in it */
		make.requested = pi->address;
		make.server_id = pi->address_server;
	}
	pi->address = 0; /* sent from 0.0.0.0 */
	bytes = packet_dhcp(payload, &make);
	pi_send(pi, everybody, 0xffffffff, PORT_DHCP_CLIENT, PORT_DHCP_SERVER, payload, bytes);
	pi->address = address;
}

static void forget_offers(struct pi *pi)
{
	pi->address = pi->tftp = 0;
	pi->address_us = pi->boot_us = 0;
	pi->has_boot = false;
}

static void discover(struct pi *pi)
{
	const struct rules *rules = &pi->sim->rules;
	bool eeprom = pi->step->level == LEVEL_EEPROM;

	if (pi->discovers++)
		pi->retries++;
	pi->asked_us = pi->sim->link.now_us;
	pi->address_us = pi->boot_us = 0;
	pi_trace(pi, "%s: DISCOVER %u", level_names[pi->step->level], pi->discovers);
	send_dhcp(pi, DHCP_DISCOVER);
	pi_set_times(pi, after_ms(pi, eeprom ? rules->dhcp_resend_ms : rules->discover_every_ms),
		     pi->limit_us);
}

static void dhcp_begin(struct pi *pi)
{
	enum level level = pi->step->level;

	pi->stage = STAGE_DHCP;
	pi->deaf = pi->locked = false;
	forget_offers(pi);
	pi->limit_us = level == LEVEL_EEPROM ? after_ms(pi, pi->sim->rules.dhcp_timeout_ms) : 0;
	pi->xid = level == LEVEL_EEPROM ? chance_below(&pi->sim->link.chance, UINT32_MAX) : XID_OLD;
	discover(pi);
}

static void arp_ask(struct pi *pi)
{
	uint8_t frame[FRAME_BYTES_MAX];

	pi->tries++;
	send_frame(pi, frame, packet_arp(frame, 1, pi->who.mac, pi->address, everybody, pi->tftp));
	pi_set_times(pi, after_ms(pi, pi->sim->rules.arp_every_ms), pi->limit_us);
}

/* Servers on another subnet are left out: 3B ROMs don't reach them (doc), and bootcode.bin asks for
 * the server's own address there too (fw#1078, #983). */
static void arp_begin(struct pi *pi)
{
	pi->stage = STAGE_ARP;
	pi->tries = 0;
	pi->limit_us = after_ms(pi, pi->sim->rules.file_timeout_ms);
	arp_ask(pi);
}

static void files_begin(struct pi *pi)
{
	pi->stage = STAGE_FILES;
	pi->next_port = 49152;
	pi->step++;
	pi_step(pi);
}

static const char *missing_offer(const struct pi *pi)
{
	return pi->locked                      ? "loops (answers too close together)"
	       : !pi->address && !pi->has_boot ? "no offer at all"
	       : pi->address                   ? "no boot offer"
					       : "no address";
}

/* fw#934: the ROM of a 3B that gets both answers too close together loops. */
static bool rom_locks(struct pi *pi)
{
	const struct rules *rules = &pi->sim->rules;
	struct chance *chance = &pi->sim->link.chance;
	uint64_t apart;

	if (!pi->model->rom_bugs || pi->step->level != LEVEL_ROM || !pi->address_us || !pi->boot_us)
		return false;
	apart = pi->address_us > pi->boot_us ? pi->address_us - pi->boot_us
					     : pi->boot_us - pi->address_us;
	if (!apart || apart >= 1000ull * rules->lock_below_ms ||
	    !chance_permille(chance, rules->lock_percent * 10))
		return false;
	pi_trace(pi, "locks: offers %llu ms apart", (unsigned long long)apart / 1000);
	pi->locked = true;
	forget_offers(pi);
	if (rules->lock_for_good)
		pi_fail(pi, "ROM: loops (answers too close together)");
	return true;
}

static void take_offer(struct pi *pi, const struct dhcp_seen *dhcp)
{
	const struct rules *rules = &pi->sim->rules;
	bool rom = pi->step->level == LEVEL_ROM;
	uint64_t now = pi->sim->link.now_us;

	if (dhcp->address && !pi->address) {
		pi->address = dhcp->address;
		pi->mask = dhcp->mask;
		pi->address_server = dhcp->server_id;
	}
	if (dhcp->address && !pi->address_us)
		pi->address_us = now;
	/* Option 66 or the sender of the Pi string; the last one counts (fw#670, #1265). */
	if (dhcp->tftp_name ||
	    (rom && rules->need_padding ? dhcp->pi_string_padded : dhcp->pi_string)) {
		pi->has_boot = true;
		pi->tftp = dhcp->tftp_name ? dhcp->tftp_name : dhcp->server_id;
		if (!pi->boot_us)
			pi->boot_us = now;
	}
	if (!pi->address || !pi->has_boot || rom_locks(pi))
		return;
	pi_trace(pi, "has an address and a boot server after %u DISCOVERs", pi->discovers);
	if (pi->step->level != LEVEL_EEPROM) { /* fw#1699: neither REQUEST nor ACK */
		arp_begin(pi);
		return;
	}
	pi->stage = STAGE_REQUEST;
	send_dhcp(pi, DHCP_REQUEST);
	pi_set_times(pi, after_ms(pi, rules->dhcp_resend_ms), pi->limit_us);
}

static void dhcp_packet(struct pi *pi, const struct seen *seen)
{
	bool by_xid = pi->sim->rules.xid_only && pi->model->first != LEVEL_EEPROM;
	struct dhcp_seen dhcp;

	if (!packet_parse_dhcp(seen->payload, seen->bytes, &dhcp) || dhcp.xid != pi->xid)
		return;
	if (!by_xid && memcmp(dhcp.mac, pi->who.mac, 6) != 0)
		return;
	if (pi->stage == STAGE_DHCP && dhcp.type == DHCP_OFFER)
		take_offer(pi, &dhcp);
	else if (pi->stage == STAGE_REQUEST && dhcp.type == DHCP_ACK && dhcp.address == pi->address)
		arp_begin(pi);
	else if (pi->stage == STAGE_REQUEST && dhcp.type == DHCP_NAK)
		dhcp_begin(pi);
}

static void dhcp_due(struct pi *pi)
{
	const struct rules *rules = &pi->sim->rules;
	enum level level = pi->step->level;
	unsigned most = level == LEVEL_ROM ? rules->discovers_rom : rules->discovers_bootcode;

	if (level == LEVEL_EEPROM ? pi->sim->link.now_us >= pi->limit_us : pi->discovers >= most) {
		pi_fail(pi, "%s: %s", level_names[level], missing_offer(pi));
	} else if (pi->stage == STAGE_REQUEST) {
		pi->retries++;
		send_dhcp(pi, DHCP_REQUEST);
		pi_set_times(pi, after_ms(pi, rules->dhcp_resend_ms), pi->limit_us);
	} else {
		discover(pi);
	}
}

/* --- ARP --- */

static void arp_packet(struct pi *pi, const struct seen *seen)
{
	uint8_t frame[FRAME_BYTES_MAX];

	if (seen->operation == 1 && pi->address && seen->target_ip == pi->address && !pi->deaf &&
	    (pi->stage == STAGE_ARP || pi->stage == STAGE_FILES)) {
		send_frame(pi, frame,
			   packet_arp(frame, 2, pi->who.mac, pi->address, seen->sender_mac,
				      seen->sender_ip));
	} else if (seen->operation == 2 && pi->stage == STAGE_ARP && seen->sender_ip == pi->tftp) {
		memcpy(pi->tftp_mac, seen->sender_mac, 6);
		files_begin(pi);
	}
}

static void arp_due(struct pi *pi)
{
	if (pi->step->level != LEVEL_EEPROM && pi->tries >= pi->sim->rules.arp_tries) {
		/* fw#975, #745: then it sends to nobody's address. */
		memset(pi->tftp_mac, 0xaa, 6);
		files_begin(pi);
	} else if (pi->sim->link.now_us >= pi->limit_us) {
		pi_fail(pi, "%s: the TFTP server does not answer ARP",
			level_names[pi->step->level]);
	} else {
		pi->retries++;
		arp_ask(pi);
	}
}

/* --- Files --- */

static const char *initramfs_of(const char *kernel)
{
	/* doc config_txt, auto_initramfs. */
	return !strcmp(kernel, "kernel8.img")       ? "initramfs8"
	       : !strcmp(kernel, "kernel_2712.img") ? "initramfs_2712"
	       : !strcmp(kernel, "kernel7.img")     ? "initramfs7"
	       : !strcmp(kernel, "kernel7l.img")    ? "initramfs7l"
	       : !strcmp(kernel, "kernel.img")      ? "initramfs"
						    : "";
}

static const char *default_kernel(const struct pi *pi)
{
	if (pi->kernel[0])
		return pi->kernel;
	if (pi->config.kernel[0])
		return pi->config.kernel;
	return pi->who.model == MODEL_5   ? "kernel_2712.img"
	       : pi->config.arm_64bit     ? "kernel8.img"
	       : pi->who.model == MODEL_4 ? "kernel7l.img"
					  : "kernel7.img";
}

/* The n-th of the names that "initramfs a,b" has; false: there is none. */
static bool nth_initramfs(const struct pi *pi, unsigned n, char *to, size_t room)
{
	const char *list = pi->config.initramfs;
	size_t bytes;

	if (!list[0] && pi->config.auto_initramfs)
		list = initramfs_of(default_kernel(pi));
	for (; n > 0 && list; n--) {
		list = strchr(list, ',');
		list = list ? list + 1 : NULL;
	}
	if (!list || !list[0])
		return false;
	bytes = strcspn(list, ",");
	snprintf(to, room, "%.*s", (int)bytes, list);
	return true;
}

/* The name this step asks for; false: the step is left out. */
static bool step_name(const struct pi *pi, char *to, size_t room)
{
	const struct config *config = &pi->config;
	const char *name = pi->step->name;

	switch (pi->step->act) {
	case ACT_INITRAMFS: return nth_initramfs(pi, pi->overlay, to, room);
	case ACT_OVERLAYS:
		if (pi->overlay >= config->overlay_count)
			return false;
		snprintf(to, room, "overlays/%s.dtbo", config->overlays[pi->overlay]);
		return true;
	case ACT_CMDLINE:
	case ACT_CMDLINE_PROBE: name = config->cmdline[0] ? config->cmdline : "cmdline.txt"; break;
	case ACT_TREE:
	case ACT_TREE_PROBE: name = config->tree[0] ? config->tree : pi->model->tree; break;
	case ACT_KERNEL_TRY:
		/* Pi 3: all names are tried (fw#1362, #1605); later ones: until one is there. */
		if (config->kernel[0] || (pi->kernel[0] && pi->model->first == LEVEL_EEPROM))
			return false;
		break;
	case ACT_KERNEL_PROBE:
		if (!config->kernel[0])
			return false;
		name = config->kernel;
		break;
	case ACT_KERNEL: name = default_kernel(pi); break;
	case ACT_PREFIX_OR:
		if (pi->prefixed)
			return false;
		break;
	case ACT_GET:
	case ACT_PROBE:
	case ACT_CONFIG:
	case ACT_CONFIG_PROBE:
	case ACT_PREFIX:
	case ACT_DHCP:
	case ACT_END: break;
	}
	snprintf(to, room, "%s", name);
	return true;
}

void pi_tell_files(const struct pi *pi, FILE *to)
{
	const struct config *config = &pi->config;
	char name[NAME_MAX_BYTES];

	fprintf(to, "kernel=%s\ncmdline=%s\ntree=%s\n", default_kernel(pi),
		config->cmdline[0] ? config->cmdline : "cmdline.txt",
		config->tree[0] ? config->tree : pi->model->tree);
	for (unsigned i = 0; nth_initramfs(pi, i, name, sizeof(name)); i++)
		fprintf(to, "initramfs=%s\n", name);
	for (unsigned i = 0; i < config->overlay_count; i++)
		fprintf(to, "overlay=overlays/%s.dtbo\n", config->overlays[i]);
}

static bool is_probe(enum act act)
{
	return act == ACT_PREFIX || act == ACT_PREFIX_OR || act == ACT_PROBE ||
	       act == ACT_CONFIG_PROBE || act == ACT_CMDLINE_PROBE || act == ACT_TREE_PROBE ||
	       act == ACT_KERNEL_TRY || act == ACT_KERNEL_PROBE;
}

void pi_step(struct pi *pi)
{
	char name[NAME_MAX_BYTES];

	while (pi->step->act != ACT_END && pi->step->act != ACT_DHCP &&
	       !step_name(pi, name, sizeof(name))) {
		pi->step++;
		pi->overlay = 0;
	}
	if (pi->step->act == ACT_END) {
		if (pi->flaw[0])
			snprintf(pi->stuck, sizeof(pi->stuck), "%s", pi->flaw);
		finish(pi, !pi->flaw[0]);
	} else if (pi->step->act == ACT_DHCP) {
		pi->discovers = 0;
		dhcp_begin(pi);
	} else {
		/* The prefix is tried, and kept only if the file is there (doc). */
		if (pi->step->act == ACT_PREFIX || pi->step->act == ACT_PREFIX_OR)
			pi->prefixed = true;
		file_begin(pi, name, is_probe(pi->step->act));
	}
}

static void take_config(struct pi *pi)
{
	struct get *get = &pi->get;

	/* fw#1012: a Pi 4 fetches it but takes no notice without an OACK, or beyond 4096 bytes. */
	if (pi->who.model == MODEL_4 && (!get->oack || get->bytes > CONFIG_4096_BYTES)) {
		snprintf(pi->flaw, sizeof(pi->flaw), "config.txt ignored: %s",
			 get->oack ? "over 4096 bytes" : "no OACK");
		return;
	}
	config_parse(&pi->config, get->text ? get->text : "", get->text ? get->bytes : 0, &pi->who);
}

static const char *bare_name(const struct pi *pi)
{
	const char *slash = strchr(pi->get.path, '/');

	return pi->prefixed && slash ? slash + 1 : pi->get.path;
}

static void note_flaw(struct pi *pi, const char *what)
{
	if (!pi->flaw[0])
		snprintf(pi->flaw, sizeof(pi->flaw), "%s: %.100s", what, bare_name(pi));
}

/* A file of which only a part had come is whole in a later request: no harm done. */
static void heal_flaw(struct pi *pi)
{
	const char *colon = strstr(pi->flaw, "lost: ");

	if (colon && !strcmp(colon + 6, bare_name(pi)))
		pi->flaw[0] = 0;
}

static void use_file(struct pi *pi, enum result result)
{
	switch (pi->step->act) {
	case ACT_PREFIX:
	case ACT_PREFIX_OR: pi->prefixed = result == RESULT_THERE; break;
	case ACT_KERNEL_TRY:
		if (result == RESULT_THERE &&
		    !(pi->config.arm_64bit && !strcmp(pi->kernel, "kernel8.img")))
			snprintf(pi->kernel, sizeof(pi->kernel), "%s", pi->step->name);
		break;
	case ACT_CONFIG:
		if (result == RESULT_WHOLE)
			take_config(pi);
		break;
	case ACT_GET:
	case ACT_PROBE:
	case ACT_CONFIG_PROBE:
	case ACT_CMDLINE:
	case ACT_CMDLINE_PROBE:
	case ACT_INITRAMFS:
	case ACT_TREE:
	case ACT_TREE_PROBE:
	case ACT_OVERLAYS:
	case ACT_KERNEL_PROBE:
	case ACT_KERNEL:
	case ACT_DHCP:
	case ACT_END: break;
	}
}

/* The ROM lost bootcode.bin: what is left of its DISCOVERs (nobody knows; the milder guess). */
static void rom_again(struct pi *pi)
{
	while (pi->step->act != ACT_DHCP)
		pi->step--;
	if (pi->discovers >= pi->sim->rules.discovers_rom)
		pi_fail(pi, "ROM: file lost: bootcode.bin");
	else
		dhcp_begin(pi);
}

void pi_file_ended(struct pi *pi, enum result result)
{
	const struct step *step = pi->step;
	struct get *get = &pi->get;
	bool list = step->act == ACT_OVERLAYS || step->act == ACT_INITRAMFS;

	/* fw#1913 (that the missing OACK is the reason is a guess). */
	if (pi->sim->rules.need_oack && result == RESULT_WHOLE && step->level == LEVEL_BOOTCODE &&
	    !get->oack)
		result = RESULT_MISSING;
	if (result == RESULT_WHOLE)
		pi->files++;
	if (result == RESULT_MISSING)
		pi->missing++;
	if (get->wrong) {
		pi->flaw[0] = 0;
		note_flaw(pi, "content wrong");
	}
	use_file(pi, result);
	if (result == RESULT_WHOLE)
		heal_flaw(pi);
	if (result == RESULT_LOST && step->level == LEVEL_EEPROM) {
		pi_fail(pi, "EEPROM: file lost: %.100s", bare_name(pi));
		return;
	}
	if (result == RESULT_LOST && step->level == LEVEL_ROM && step->need == NEED_IT) {
		file_close(pi);
		rom_again(pi);
		return;
	}
	if (step->need == NEED_IT && (result == RESULT_LOST || result == RESULT_MISSING)) {
		pi_fail(pi, "%s: file %s: %.100s", level_names[step->level],
			result == RESULT_LOST ? "lost" : "missing", bare_name(pi));
		return;
	}
	if (step->need == NEED_WHOLE && result == RESULT_LOST)
		note_flaw(pi, "bootcode.bin: file lost");
	file_close(pi);
	if (list) {
		pi->overlay++;
	} else {
		pi->step++;
		pi->overlay = 0;
	}
	pi_step(pi);
}

/* --- Being woken --- */

void pi_on(struct pi *pi)
{
	pi->step = pi->model->steps;
	pi->prefixed = false;
	pi->kernel[0] = pi->flaw[0] = 0;
	pi->discovers = 0;
	pi->overlay = 0;
	memset(&pi->config, 0, sizeof(pi->config));
	config_parse(&pi->config, "", 0, &pi->who);
	pi_step(pi);
}

void pi_due(struct pi *pi)
{
	uint64_t now = pi->sim->link.now_us;
	bool due = (pi->next_us && now >= pi->next_us) || (pi->limit_us && now >= pi->limit_us);

	pi->queued_us = 0;
	if (!due) {
		pi_set_times(pi, pi->next_us, pi->limit_us);
		return;
	}
	switch (pi->stage) {
	case STAGE_OFF:
	case STAGE_PAUSE: pi_on(pi); break;
	case STAGE_DHCP:
	case STAGE_REQUEST: dhcp_due(pi); break;
	case STAGE_ARP: arp_due(pi); break;
	case STAGE_FILES: file_due(pi); break;
	case STAGE_END: break;
	}
}

static void process(struct pi *pi, const uint8_t *frame, size_t bytes)
{
	struct seen seen = packet_parse(frame, bytes);

	pi->received++;
	if (seen.kind == SEEN_ARP)
		arp_packet(pi, &seen);
	else if (seen.kind == SEEN_UDP && seen.to_port == PORT_DHCP_CLIENT)
		dhcp_packet(pi, &seen);
	else if (seen.kind == SEEN_UDP && pi->stage == STAGE_FILES)
		file_packet(pi, &seen);
}

void pi_release(struct pi *pi)
{
	uint8_t *held = pi->held;

	if (!held)
		return;
	pi->held = NULL;
	pi->sim->held_count--;
	process(pi, held, pi->held_bytes);
	free(held);
}

void pi_frame(struct pi *pi, const uint8_t *frame, size_t bytes)
{
	const struct rules *rules = &pi->sim->rules;
	bool sits;

	if (pi->stage == STAGE_OFF || pi->stage == STAGE_PAUSE || pi->stage == STAGE_END)
		return;
	pi_release(pi);
	if (pi->stage == STAGE_END)
		return;
	sits = pi->stage == STAGE_DHCP && pi->who.model == MODEL_3B &&
	       (pi->step->level == LEVEL_ROM || rules->sit_bootcode) &&
	       chance_permille(&pi->sim->link.chance, rules->sit_percent * 10);
	if (!sits) {
		process(pi, frame, bytes);
		return;
	}
	pi->held = malloc(bytes);
	if (!pi->held)
		abort();
	memcpy(pi->held, frame, bytes);
	pi->held_bytes = (uint16_t)bytes;
	pi->sim->held_count++;
	pi_trace(pi, "a packet sits in the NIC");
}
