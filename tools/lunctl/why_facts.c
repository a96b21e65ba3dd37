/*
 * A boot's record as facts: how far, how often, what was the last of each kind. And what the lines
 * of the Pi's own boot loader mean.
 */
#include "why_internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "lunctl.h"

bool why_has(const char *text, const char *part)
{
	return strcasestr(text, part) != NULL;
}

/* The name without its folders: the Pi's prefix is of no interest. */
static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static bool is_firmware(const char *name)
{
	return strncmp(name, "start", 5) == 0 && why_has(name, ".elf");
}

static bool is_kernel(const char *name)
{
	return strncmp(name, "kernel", 6) == 0 && why_has(name, ".img");
}

static bool is_initramfs(const char *name)
{
	return strncmp(name, "init", 4) == 0;
}

static void keep(char to[NAME_BYTES], const char *name)
{
	(void)snprintf(to, NAME_BYTES, "%s", name);
}

/* Troubles of the network, which every Pi has. */
static bool take_network_trouble(struct why_facts *f, const char *text)
{
	if (why_has(text, "another boot server") || why_has(text, "another TFTP server"))
		f->two_boots = text;
	else if (why_has(text, "another DHCP server"))
		f->two_dhcp = text;
	else if (why_has(text, "no DHCP server"))
		f->no_dhcp = text;
	else if (why_has(text, "spanning tree"))
		f->stp = text;
	else
		return false;
	return true;
}

/* lunbootd's troubles are whole sentences; the one that explains most is chosen by its words. */
static void take_trouble(struct why_facts *f, const char *text, int64_t at)
{
	if (why_has(text, "login refused")) {
		f->refused = text;
		f->refused_ms = at;
	} else if (why_has(text, "given the address")) {
		f->two_macs = text;
	} else if (take_network_trouble(f, text)) {
		return;
	} else if (why_has(text, "another network") || why_has(text, "not of the network")) {
		f->relay = text;
	} else {
		f->trouble = text;
	}
}

static void take_report(struct why_facts *f, const char *text, int64_t at)
{
	if (strncmp(text, "waiting", 7) == 0) {
		f->waiting = text + 7 + strspn(text + 7, ": ");
		f->waiting_ms = at;
	} else {
		f->stage_ms = at;
	}
}

static void take_sent(struct why_facts *f, const json_t *event, const char *name)
{
	f->sent++;
	f->bootcode_sent |= strcmp(name, "bootcode.bin") == 0;
	f->firmware_sent |= is_firmware(name);
	f->kernel_sent |= is_kernel(name);
	f->initramfs_sent |= is_initramfs(name);
	if (strcmp(name, "config.txt") == 0) {
		f->config_sent = true;
		f->config_bytes = get_number(event, "bytes");
	}
	if (strcmp(f->lost_file, name) == 0)
		f->lost_file[0] = '\0'; /* it came through in the end */
}

static void take_file(struct why_facts *f, const json_t *event, const char *kind)
{
	const char *name = base_name(get_text(event, "file"));

	if (strcmp(kind, "asked") == 0) {
		f->asked++;
		f->repeats = strcmp(f->repeated, name) == 0 ? f->repeats + 1 : 1;
		keep(f->repeated, name);
	} else if (strcmp(kind, "sent") == 0) {
		take_sent(f, event, name);
		f->repeats = 0;
	} else if (strcmp(kind, "missing") == 0) {
		f->missing++;
		f->firmware_missing |= is_firmware(name);
		f->kernel_missing |= is_kernel(name);
	} else if (strcmp(kind, "lost") == 0) {
		f->lost++;
		keep(f->lost_file, name);
		f->lost_bytes = get_number(event, "bytes");
		f->only_lost &= f->lost_bytes == 0;
	}
	keep(f->last_file, name);
}

static void take_event(struct why_facts *f, const json_t *event)
{
	const char *kind = get_text(event, "kind"), *text = get_text(event, "text");
	int64_t at = record_time_ms(get_text(event, "at"));

	if (strcmp(kind, "discover") == 0) {
		f->discovers++;
	} else if (strcmp(kind, "offer") == 0) {
		f->offers++;
		f->offer_ms = at;
	} else if (strcmp(kind, "request") == 0) {
		f->request = text;
	} else if (strcmp(kind, "wait") == 0) {
		f->wait = text;
		f->wait_ms = at;
	} else if (strcmp(kind, "trouble") == 0) {
		take_trouble(f, text, at);
	} else if (strcmp(kind, "report") == 0) {
		take_report(f, text, at);
	} else if (strcmp(kind, "login") == 0) {
		f->login_ms = at;
	} else if (strcmp(kind, "session end") == 0) {
		f->session_end = text;
		f->session_end_ms = at;
	} else if (get_text(event, "file")[0]) {
		take_file(f, event, kind);
	}
}

/* What lunbootd says of the networks as they are now. What it says of other Pis is not this one's.
 */
static void take_bootd(struct why_facts *f, const json_t *bootd)
{
	const json_t *troubles = json_object_get(bootd, "troubles");

	for (size_t i = 0; i < json_array_size(troubles); i++)
		(void)take_network_trouble(f, get_text(json_array_get(troubles, i), "message"));
}

void why_facts(const json_t *boot, const struct why_context *context, struct why_facts *f)
{
	const json_t *events = json_object_get(boot, "events");

	*f = (struct why_facts){.context = context,
				.login_ms = -1,
				.session_end_ms = -1,
				.waiting_ms = -1,
				.stage_ms = -1,
				.refused_ms = -1,
				.wait_ms = -1,
				.offer_ms = -1,
				.only_lost = true,
				.session_end = "",
				.request = ""};
	keep(f->model, get_text(boot, "model"));
	keep(f->address, get_text(boot, "address"));
	f->new_pi = why_has(f->model, "Pi 4") || why_has(f->model, "Pi 5") ||
		    why_has(f->model, "400") || why_has(f->model, "500") ||
		    why_has(f->model, "CM4") || why_has(f->model, "CM5");
	f->old_pi = !f->new_pi && why_has(f->model, "Pi");
	f->reached = record_stage(get_text(boot, "reached"));
	f->began_ms = record_time_ms(get_text(boot, "began"));
	f->last_ms = record_time_ms(get_text(boot, "last"));
	f->silent_ms = context->now_ms > f->last_ms ? context->now_ms - f->last_ms : 0;
	f->took_ms = record_took_ms(boot);
	take_bootd(f, context->bootd);
	for (size_t i = 0; i < json_array_size(events); i++)
		take_event(f, json_array_get(events, i));
}

/* --- the boot loader's own log --- */

const char *why_console(const char *line)
{
	static const struct {
		const char *part, *meaning;
	} known[] = {
		{"wait for link", "it waits for its cable: the port's light should come on"},
		{"half duplex",
		 "the link is half duplex: expect loss; set the switch's port to auto"},
		{"speed: 10 ", "the link has only 10 Mbit/s: a bad cable?"},
		{"speed: 100 ", "the link has only 100 Mbit/s"},
		{"Link ready", "its cable is well"},
		{"Boot mode: SD", "it tries a card before the network (BOOT_ORDER)"},
		{"Boot mode: USB", "it tries USB before the network (BOOT_ORDER)"},
		{"Boot mode: NVME", "it tries NVMe before the network (BOOT_ORDER)"},
		{"Boot mode: HTTP", "it tries HTTP boot, which wants signed files (BOOT_ORDER)"},
		{"Boot mode: NETWORK", "it begins to boot from the network"},
		{"expect ACK", "the router confirms its address"},
		{"expect OFFER", "it got an offer"},
		{"YI_ADDR", "the address that it is offered"},
		{"gw 0.0.0.0", "its address and TFTP server; it has no gateway, and needs none"},
		{" tftp ", "its address, gateway and TFTP server"},
		{"signature", "it wants signed files: secure boot is on, or HTTP boot"},
		{"timeout", "it waited for an answer that did not come"},
		{"timed out", "it waited for an answer that did not come"},
		{"not found", "it has asked for something that there is not; often normal"},
	};
	/* Packets with wrong check sums: IP_CSUM_ERR: N UDP_CSUM_ERR: N. */
	const char *errors = strstr(line, "CSUM_ERR: ");

	while (errors) {
		if (errors[10] >= '1' && errors[10] <= '9')
			return "packets arrive damaged: change the cable or the port";
		errors = strstr(errors + 1, "CSUM_ERR: ");
	}
	for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
		if (strcasestr(line, known[i].part))
			return known[i].meaning;
	}
	return NULL;
}
