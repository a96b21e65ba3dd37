/*
 * Why a Pi has not booted. The record gives facts (why_facts.c); the first
 * rule of the table that fits them says where the Pi is stuck, the likely cause and the cure. The
 * order is what makes it right: what is certain (the Pi, the daemon or lunbootd has said it) comes
 * before what is inferred from silence, and what is farther on before what is earlier.
 */
#include "why_internal.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/size.h"

#define QUIET_MS         20000  /* after so much silence a boot loader or kernel has stopped */
#define KERNEL_MS        60000  /* from the settings to lunroot-init's first word, on a Pi 3 */
#define UP_MS            300000 /* from root to a system that is up */
#define AGAIN_COUNT      4      /* the same file so often: it does not get through */
#define CONFIG_MAX_BYTES 4096   /* a longer config.txt is not read by some boot loaders */

/* --- when a rule fits --- */

static bool is_quiet(const struct why_facts *f)
{
	return f->silent_ms > QUIET_MS;
}

/* lunroot-init's last word is that it waits for something. */
static bool is_waiting(struct why_facts *f)
{
	f->text = f->waiting;
	return f->waiting_ms >= 0 && f->waiting_ms >= f->stage_ms && f->waiting_ms >= f->login_ms;
}

static bool fits_up_and_gone(struct why_facts *f)
{
	f->text = f->session_end;
	return f->login_ms >= 0 && f->session_end_ms >= f->login_ms && is_quiet(f) &&
	       f->reached >= RECORD_ROOT;
}

static bool fits_shut_down(struct why_facts *f)
{
	return fits_up_and_gone(f) && why_has(f->session_end, "logout");
}

static bool fits_up_and_waiting(struct why_facts *f)
{
	return f->reached == RECORD_MULTI_USER && is_waiting(f);
}

static bool fits_up(struct why_facts *f)
{
	return f->reached == RECORD_MULTI_USER;
}

static bool fits_refused(struct why_facts *f)
{
	f->text = f->refused;
	return f->refused && f->refused_ms >= f->login_ms;
}

static bool fits_refused_old(struct why_facts *f)
{
	return fits_refused(f) &&
	       (why_has(f->refused, "older boot") || why_has(f->refused, "former"));
}

static bool fits_waiting_portal(struct why_facts *f)
{
	return is_waiting(f) && f->reached < RECORD_LOGIN &&
	       (why_has(f->text, "answers") || why_has(f->text, "connect") ||
		why_has(f->text, "unreachable") || why_has(f->text, "refused") ||
		why_has(f->text, "timed out") || why_has(f->text, "route"));
}

static bool fits_waiting_network(struct why_facts *f)
{
	return is_waiting(f) && f->reached < RECORD_NETWORK;
}

static bool fits_waiting_login(struct why_facts *f)
{
	return is_waiting(f) && f->reached < RECORD_LOGIN;
}

static bool fits_waiting_disk(struct why_facts *f)
{
	return is_waiting(f) && f->reached < RECORD_DISK;
}

static bool fits_waiting(struct why_facts *f)
{
	return is_waiting(f);
}

static bool fits_no_multi_user(struct why_facts *f)
{
	return f->reached >= RECORD_ROOT && f->silent_ms > UP_MS;
}

static bool fits_root_soon(struct why_facts *f)
{
	return f->reached >= RECORD_ROOT;
}

static bool fits_no_root(struct why_facts *f)
{
	return f->reached == RECORD_DISK && is_quiet(f);
}

static bool fits_no_disk(struct why_facts *f)
{
	return f->reached == RECORD_LOGIN && is_quiet(f);
}

static bool fits_no_login(struct why_facts *f)
{
	return f->reached == RECORD_NETWORK && is_quiet(f);
}

static bool fits_no_network(struct why_facts *f)
{
	return f->reached == RECORD_START && is_quiet(f);
}

static bool fits_no_report(struct why_facts *f)
{
	return f->reached == RECORD_SETTINGS && f->silent_ms > KERNEL_MS;
}

/* From here on only boots whose kernel does not run yet. */
static bool fits_two_macs(struct why_facts *f)
{
	f->text = f->two_macs;
	return f->two_macs && f->reached < RECORD_START && is_quiet(f);
}

static bool fits_two_boots(struct why_facts *f)
{
	f->text = f->two_boots;
	return f->two_boots && f->reached < RECORD_ASKED && is_quiet(f);
}

static bool fits_relay(struct why_facts *f)
{
	f->text = f->relay;
	return f->relay && f->reached < RECORD_SENT && is_quiet(f);
}

static bool fits_middle(struct why_facts *f)
{
	f->file = f->lost_file;
	f->bytes = f->lost_bytes;
	return f->lost_file[0] && f->lost_bytes > 0 && is_quiet(f);
}

static bool fits_again(struct why_facts *f)
{
	f->file = f->repeated;
	f->count = f->repeats;
	return f->repeats >= AGAIN_COUNT;
}

static bool fits_no_answer(struct why_facts *f)
{
	f->file = f->last_file;
	return f->asked > 0 && f->sent == 0 && f->lost > 0 && f->only_lost && is_quiet(f);
}

static bool fits_no_firmware(struct why_facts *f)
{
	return f->firmware_missing && !f->firmware_sent && !f->kernel_sent && is_quiet(f) &&
	       !(why_has(f->model, "Pi 5") && f->config_sent);
}

static bool fits_no_kernel(struct why_facts *f)
{
	return f->kernel_missing && !f->kernel_sent && is_quiet(f);
}

static bool fits_large_config(struct why_facts *f)
{
	f->bytes = f->config_bytes;
	return f->config_bytes > CONFIG_MAX_BYTES && f->reached < RECORD_SETTINGS && is_quiet(f);
}

static bool fits_no_settings(struct why_facts *f)
{
	return f->kernel_sent && !f->initramfs_sent && f->reached < RECORD_SETTINGS &&
	       f->silent_ms > KERNEL_MS;
}

static bool fits_bootcode_only(struct why_facts *f)
{
	return f->bootcode_sent && f->sent == 1 && !f->firmware_sent && is_quiet(f);
}

static bool fits_files_stop(struct why_facts *f)
{
	f->file = f->last_file;
	f->count = f->sent;
	return f->reached >= RECORD_ASKED && f->reached <= RECORD_SETTINGS &&
	       f->silent_ms > KERNEL_MS;
}

static bool fits_turn(struct why_facts *f)
{
	f->text = f->wait;
	return f->wait && f->wait_ms >= f->offer_ms && f->asked == 0;
}

static bool fits_no_dhcp(struct why_facts *f)
{
	f->text = f->no_dhcp;
	return f->no_dhcp && f->asked == 0 && is_quiet(f);
}

static bool offered_in_vain(const struct why_facts *f)
{
	return f->offers > 0 && f->asked == 0 && is_quiet(f);
}

static bool fits_new_without_address(struct why_facts *f)
{
	f->count = f->offers;
	return offered_in_vain(f) && f->new_pi && f->reached < RECORD_REQUEST;
}

static bool fits_stp(struct why_facts *f)
{
	f->text = f->stp;
	return f->stp && f->asked == 0 && !f->new_pi && is_quiet(f);
}

static bool fits_old_locked(struct why_facts *f)
{
	f->count = f->offers;
	return offered_in_vain(f) && f->old_pi;
}

static bool fits_two_dhcp(struct why_facts *f)
{
	f->text = f->two_dhcp;
	return f->two_dhcp && f->reached < RECORD_SETTINGS && is_quiet(f);
}

static bool fits_offered(struct why_facts *f)
{
	f->count = f->offers;
	return offered_in_vain(f);
}

static bool fits_trouble(struct why_facts *f)
{
	f->text = f->trouble;
	return f->trouble && f->reached < RECORD_LOGIN && is_quiet(f);
}

static bool fits_no_offer(struct why_facts *f)
{
	f->count = f->discovers;
	return f->discovers > 0 && f->offers == 0 && f->asked == 0 && is_quiet(f);
}

static bool fits_unknown(struct why_facts *f)
{
	return !f->context->is_node && f->asked == 0;
}

static bool fits_quiet(struct why_facts *f)
{
	return f->silent_ms > KERNEL_MS;
}

static bool fits_always(struct why_facts *f)
{
	(void)f;
	return true;
}

/* --- the rules --- */

/*
 * The first that fits. {pi} is its name; {silent} how long nothing has come; {took} from the first
 * DISCOVER to the farthest point; {file}, {text}, {count} and {bytes} are what `fits` has put
 * there.
 */
static const struct rule {
	const char *name;
	bool (*fits)(struct why_facts *f);
	bool fine;
	const char *stuck, *cause, *cure;
} rules[] = {
	{"unknown", fits_unknown, false, "{pi} asks to be booted, and belongs to no node.",
	 "lunbootd boots nobody whom it does not know.",
	 "lunctl adopt {pi} as NAME makes it a node; it boots when it asks the next time"},

	/* It has been up. */
	{"shut-down", fits_shut_down, true,
	 "{pi} was up, and logged out {silent} ago: it was shut down or restarts.", "",
	 "switch it on, if it shall run"},
	{"gone", fits_up_and_gone, false,
	 "{pi} was up; its connection ended {silent} ago ({text}), and it has not come back.",
	 "It has lost power or its network, or hangs; a Pi that runs logs in again by itself, for "
	 "ever.",
	 "look at its power, its cable and the lights of its port; if all is well, switch it off "
	 "and "
	 "on"},
	{"up-waiting", fits_up_and_waiting, false,
	 "{pi} was up, and waits now; it says: \"{text}\".",
	 "Its connection to lunrootd is broken; it goes on by itself when it can log in again.",
	 "look whether lunrootd runs (lunctl ls) and can be reached from there"},
	{"up", fits_up, true, "{pi} is up, {took} after it was first seen.", "", ""},

	/* What lunrootd and lunroot-init say themselves. */
	{"refused-old", fits_refused_old, false, "lunrootd refuses {pi}: {text}.",
	 "It has credentials of an older boot: each boot gets its own, and the login of a newer "
	 "boot "
	 "ends those before. Two machines may boot as this node, or an initramfs of yesterday is "
	 "kept somewhere.",
	 "switch it off and on, so that it fetches new ones; look for a second Pi with the same "
	 "serial or MAC, and for a copy on a card"},
	{"refused", fits_refused, false, "lunrootd refuses {pi}: {text}.",
	 "What it logs in with is not what the node has: another initiator name, an old secret, or "
	 "somebody else uses the node now.",
	 "switch it off and on, so that it fetches its settings again; lunctl show {pi} says who "
	 "is "
	 "logged in"},
	{"waiting-network", fits_waiting_network, false,
	 "lunroot-init runs on {pi} and waits for its network; it says: \"{text}\".",
	 "No address came by DHCP, or the driver of its network is not in the initramfs.",
	 "look whether the DHCP server has addresses left; lunctl initramfs --board says whose "
	 "drivers go in"},
	{"waiting-portal", fits_waiting_portal, false,
	 "{pi} has its network, but can't reach lunrootd; it says: \"{text}\".",
	 "lunrootd listens elsewhere, or a firewall keeps TCP port 3260 shut.",
	 "open TCP port 3260 on the server, and see that lunrootd's --portal is an address of that "
	 "network (lunctl doctor)"},
	{"waiting-login", fits_waiting_login, false,
	 "{pi} reaches its network, but has not logged in; it says: \"{text}\".",
	 "The portal or the target's name in its settings does not fit, or the login is refused.",
	 "lunctl url {pi} shows where it should log in to; lunrootd's log says whether it has "
	 "come"},
	{"waiting-disk", fits_waiting_disk, false,
	 "{pi} is logged in and waits for its disk; it says: \"{text}\".",
	 "The kernel has found no disk, or the server holds it back.",
	 "lunctl ls shows whether the node's disk is in trouble; the kernel needs sd_mod and "
	 "iscsi_tcp"},
	{"waiting", fits_waiting, false, "{pi} has its disk and waits; it says: \"{text}\".",
	 "What it looks for is not on the disk: root=, the file system's module, or init.",
	 "look at the disk from here: qemu-img and lunctl url {pi}, or lunctl rollback to a "
	 "snapshot "
	 "that worked"},

	/* lunroot-init has run, and then silence. */
	{"no-multi-user", fits_no_multi_user, false,
	 "{pi} has mounted root {silent} ago or longer, and its system has not come up since.",
	 "A service hangs or has failed, a file system of /etc/fstab is missing (a boot partition "
	 "that is not there?), or the kernel has panicked.",
	 "look at its screen or serial console; systemd's emergency mode waits there; lunctl "
	 "rollback goes back to a snapshot that worked"},
	{"coming-up", fits_root_soon, true, "{pi} has its root; its system is coming up.", "", ""},
	{"no-root", fits_no_root, false, "{pi} has its disk, and nothing has come since {silent}.",
	 "The root file system is not found or can't be mounted: root=, rootfstype= or the file "
	 "system's module in the initramfs.",
	 "look at its screen: lunroot-init says there what it looks for"},
	{"no-disk", fits_no_disk, false, "{pi} is logged in, and nothing has come since {silent}.",
	 "The kernel can't use the disk: iscsi_tcp or sd_mod are not in the initramfs or are of "
	 "another kernel, or the network has failed just then.",
	 "make its initramfs with the modules of exactly its kernel; look at its screen"},
	{"no-login", fits_no_login, false,
	 "{pi} has its network, and nothing has come since {silent}: lunrootd has seen no login.",
	 "The portal can't be reached: a firewall, lunrootd on another address, or another "
	 "network.",
	 "open TCP port 3260 on the server; lunctl doctor looks at the portals"},
	{"no-network", fits_no_network, false,
	 "lunroot-init has started on {pi}, and nothing has come since {silent}.",
	 "Its network has failed: no driver in the initramfs, or no address.",
	 "look at its screen; lunctl initramfs --board pi puts the drivers of all Pis in"},
	{"no-report", fits_no_report, false,
	 "{pi} was sent all files and its settings {silent} ago; lunroot-init has not said a word.",
	 "The kernel has panicked or does not start: a kernel of 32 bits with a lunroot-init of 64 "
	 "(or the reverse), a device tree that does not fit, or an initramfs too large for its "
	 "memory. Or UDP from it does not reach lunbootd's port 6666.",
	 "look at its screen; arm_64bit=1 in config.txt and an initramfs of the same kernel mend "
	 "the "
	 "usual cases; open UDP port 6666"},

	/* No kernel yet: what lunbootd has seen on the network. */
	{"two-macs", fits_two_macs, false, "{pi} stopped: its address is used twice.", "{text}",
	 "reserve an address for each Pi in the router"},
	{"two-boots", fits_two_boots, false, "{pi} does not take our offer: it follows another.",
	 "{text}", "leave one boot server in this network"},
	{"relay", fits_relay, false, "{pi} can't reach its files: it is in another network.",
	 "{text}", "run lunbootd in the Pi's own network"},

	/* Files. */
	{"middle-of-file", fits_middle, false,
	 "{pi} stopped in the middle of {file}, after {bytes}.",
	 "Packets are lost between here and there: a bad cable or port, half duplex, a switch that "
	 "is overrun. A Pi up to the 3 gives up after one second.",
	 "try another cable and port; look at the errors of the server's interface (ip -s link); "
	 "boot fewer at a time"},
	{"no-answer", fits_no_answer, false,
	 "{pi} asks for {file}, and takes nothing of what it is sent.",
	 "Our packets do not reach it: it answers no ARP, a switch filters it, a firewall on the "
	 "way, or its address belongs to somebody else too.",
	 "put server and Pi on one switch without filters, and open UDP (any port) from the "
	 "server; "
	 "reserve its address in the router"},
	{"again-and-again", fits_again, false,
	 "{pi} asks for {file} again and again ({count} times), and does not get it.",
	 "Our answers do not reach it, or it reaches us by a way that our answers do not take "
	 "(ARP, "
	 "a firewall, a second server on the same address).",
	 "open UDP (any port) from the server to the Pi; put both into one network; look for a "
	 "second TFTP server"},
	{"no-firmware", fits_no_firmware, false,
	 "{pi} asks for its firmware (start.elf, start4.elf), and there is none.",
	 "The node's boot partition has no firmware for this model, or it is no boot partition of "
	 "a "
	 "Pi at all.",
	 "import an image of Raspberry Pi OS, or copy the firmware into the node's first "
	 "partition"},
	{"no-kernel", fits_no_kernel, false, "{pi} asks for a kernel, and there is none.",
	 "kernel= in config.txt names a file that is not there, or the image has no kernel for "
	 "this "
	 "model (a Pi 5 wants kernel_2712.img or kernel8.img, a Pi 3 or 4 kernel8.img with "
	 "arm_64bit=1).",
	 "install the kernel for this model in the image, or correct kernel= in config.txt"},
	{"large-config", fits_large_config, false,
	 "{pi} was sent a config.txt of {bytes}, and stopped.",
	 "Some boot loaders do not read a config.txt of more than 4096 bytes.",
	 "shorten config.txt: comments can go"},
	{"no-settings", fits_no_settings, false,
	 "{pi} was sent its kernel, but has not asked for its initramfs with the settings.",
	 "The boot loader has not read our config.txt, or starts the kernel without an initramfs.",
	 "update its boot loader (rpi-eeprom-update), or the firmware in the image; look at its "
	 "screen"},
	{"bootcode-only", fits_bootcode_only, false,
	 "{pi} was sent bootcode.bin, and has asked for nothing since.",
	 "bootcode.bin asks for an address by itself, and has got none: the ROM of a Pi 3 and "
	 "bootcode.bin do two exchanges, and a router may answer only the first.",
	 "switch it off and on; if it happens again, put bootcode.bin alone on an SD card: that "
	 "skips the ROM"},

	/* No files at all. */
	{"turn", fits_turn, true, "{pi} waits for its turn: {text}.",
	 "Only so many boot at a time, so that all get through.", "nothing; it asks again"},
	{"no-dhcp", fits_no_dhcp, false, "{pi} gets no address.", "{text}",
	 "switch the router's DHCP on, or give addresses with lunbootd --dhcp known"},
	{"no-address", fits_new_without_address, false,
	 "{pi} was offered its boot {count} times, but has no address, so it can't begin.",
	 "A Pi 4 or 5 waits for an address of the router's DHCP too; none was seen.",
	 "look whether the router's DHCP answers this Pi (range used up? MAC filter?)"},
	{"spanning-tree", fits_stp, false, "{pi} was offered its boot and asks for no file.",
	 "{text}", "set the ports of the Pis to edge (portfast)"},
	{"old-pi-locked", fits_old_locked, false,
	 "{pi} was offered its boot {count} times and asks for no file.",
	 "The ROM of a Pi up to the 3 locks up easily: when offers come too fast, when the packet "
	 "sits in its network chip until another one comes, or when another boot server answers. "
	 "After five questions, 25 s, it is silent for good.",
	 "switch it off and on; if it happens often, put bootcode.bin alone on an SD card, which "
	 "avoids the ROM's faults; look for another PXE server; turn spanning tree off on its "
	 "port"},
	{"two-dhcp", fits_two_dhcp, false, "{pi} stopped, and two DHCP servers are in its network.",
	 "{text}", "switch one of the two off"},
	{"offered", fits_offered, false,
	 "{pi} was offered its boot {count} times and asks for no file.",
	 "It has no address, follows another boot server, or its boot loader expects something "
	 "else "
	 "(TFTP_IP, PXE_OPTION43 in its settings).",
	 "look at its screen, which shows what it does; look for another boot server"},
	{"trouble", fits_trouble, false, "{pi} stopped; lunbootd says: {text}.", "", ""},
	{"no-offer", fits_no_offer, false, "{pi} has asked {count} times and was offered nothing.",
	 "lunbootd could not make its boot files, or has not been able to ask lunrootd.",
	 "lunbootd's log says why; lunctl show {pi} says whether its disk is well"},

	{"stopped", fits_files_stop, false,
	 "{pi} was sent {count} files, the last it asked for is {file}, and then nothing for "
	 "{silent}.",
	 "It was switched off, has lost its network, or its firmware stopped there.",
	 "look at its screen: a Pi up to the 3 blinks four times for missing firmware, seven for a "
	 "missing kernel; switch it off and on"},
	{"silent", fits_quiet, false, "Nothing has come from {pi} for {silent}.",
	 "It was switched off, or has lost its network.", "switch it off and on"},
	{"under-way", fits_always, true, "{pi} is booting.", "", ""},
};

/* --- words --- */

static void put(char *to, size_t *used, const char *text, size_t bytes)
{
	size_t room = WHY_TEXT_BYTES - 1 - *used;

	bytes = bytes < room ? bytes : room;
	memcpy(to + *used, text, bytes);
	*used += bytes;
}

/* The text that stands for a name in braces. */
static const char *value(const struct why_facts *f, const char *name, size_t bytes, char buffer[64])
{
	char time[RECORD_TIME_BYTES];

	if (strncmp(name, "pi", bytes) == 0)
		return f->context->pi;
	if (strncmp(name, "file", bytes) == 0)
		return f->file ? f->file : "";
	if (strncmp(name, "text", bytes) == 0)
		return f->text ? f->text : "";
	if (strncmp(name, "bytes", bytes) == 0)
		return size_format(f->bytes, buffer);
	buffer[0] = '\0';
	if (strncmp(name, "count", bytes) == 0)
		(void)snprintf(buffer, 64, "%u", f->count);
	else if (strncmp(name, "silent", bytes) == 0)
		(void)snprintf(buffer, 64, "%s", record_duration(f->silent_ms, time));
	else if (strncmp(name, "took", bytes) == 0)
		(void)snprintf(buffer, 64, "%s", record_duration(f->took_ms, time));
	return buffer;
}

static void expand(const struct why_facts *f, const char *pattern, char to[WHY_TEXT_BYTES])
{
	size_t used = 0;
	char buffer[64];

	while (*pattern) {
		size_t plain = strcspn(pattern, "{"), bytes;
		const char *text;

		put(to, &used, pattern, plain);
		pattern += plain;
		if (*pattern == '\0')
			break;
		bytes = strcspn(pattern + 1, "}");
		text = value(f, pattern + 1, bytes, buffer);
		put(to, &used, text, strlen(text));
		pattern += bytes + 2;
	}
	/* A sentence that was quoted may have brought its own full stop. */
	if (used > 1 && to[used - 1] == '.' && to[used - 2] == '.')
		used--;
	to[used] = '\0';
}

static void answer(const struct why_facts *f, const struct rule *rule,
		   struct why_answer *ret_answer)
{
	ret_answer->rule = rule->name;
	ret_answer->fine = rule->fine;
	expand(f, rule->stuck, ret_answer->stuck);
	expand(f, rule->cause, ret_answer->cause);
	expand(f, rule->cure, ret_answer->cure);
}

size_t why_rule_count(void)
{
	return ARRAY_COUNT(rules);
}

/* Nothing has ever come from it. */
static const struct rule never = {
	"never",
	NULL,
	false,
	"Nothing was ever seen of {pi}.",
	"It is off, not in this network, boots from a card, or network boot is not switched on in "
	"it: "
	"a Pi 4 or 5 needs it in BOOT_ORDER (0xf21), a Pi 3 its OTP bit. Or lunbootd does not hear "
	"it.",
	"lunctl doctor looks at lunbootd and its network; switch the Pi on without a card and look "
	"at "
	"its screen",
};

void why_explain(const json_t *boot, const struct why_context *context,
		 struct why_answer *ret_answer)
{
	struct why_facts facts;
	size_t i = 0;

	why_facts(boot, context, &facts);
	if (!boot) {
		answer(&facts, &never, ret_answer);
		return;
	}
	while (!rules[i].fits(&facts))
		i++; /* the last one always fits */
	answer(&facts, &rules[i], ret_answer);
}
