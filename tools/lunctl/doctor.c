/*
 * What is to be said of the facts: each check gives one finding, or one for each interface, port or
 * trouble. An error keeps Pis from booting; a warning will hurt some day, or makes them slow.
 */
#include "doctor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/size.h"
#include "base/portal.h"
#include "records.h"

#define BOOTD_SILENT_MS 90000 /* it tells of itself every 30 s */
#define SPEED_MIN_MBIT  1000

static void add(json_t *findings, const char *level, const char *code, const char *cure,
		const char *format, ...) __attribute__((format(printf, 5, 6)));

static void add(json_t *findings, const char *level, const char *code, const char *cure,
		const char *format, ...)
{
	char message[768];
	json_t *text;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	text = json_string(message);
	json_array_append_new(findings,
			      json_pack("{s:s, s:s, s:o, s:s}", "level", level, "code", code,
					"message", text ? text : json_string("?"), "cure", cure));
}

/* --- lunrootd --- */

static void judge_portals(const struct doctor_facts *facts, json_t *findings)
{
	const json_t *portals = json_object_get(facts->version, "portals");
	char names[300] = "";
	size_t used = 0;
	bool reachable = false;

	for (size_t i = 0; i < json_array_size(portals) && used < sizeof(names); i++) {
		const char *portal = json_string_value(json_array_get(portals, i));

		if (!portal)
			continue;
		reachable |= !portal_is_loopback(portal);
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
					 portal);
	}
	if (reachable)
		add(findings, "ok", "portals", "", "lunrootd listens on %s", names);
	else
		add(findings, "error", "portals",
		    "start lunrootd with --portal ADDRESS, an address of the Pis' network",
		    "lunrootd listens on loopback addresses only (%s), which no Pi reaches", names);
}

static void judge_daemon(const struct doctor_facts *facts, json_t *findings)
{
	const char *version = get_text(facts->version, "version");

	if (!facts->version) {
		add(findings, "error", "lunrootd",
		    facts->unreachable == EACCES
			    ? "use sudo, or become a member of the socket's group"
		    : facts->unreachable == ETIMEDOUT
			    ? "it is there and hangs: see its log and its disk"
			    : "start it: lunrootd --state DIR --run DIR; if it runs elsewhere, "
			      "name "
			      "its socket with --socket",
		    "no lunrootd answers on %s: %s", facts->socket_path,
		    strerror(facts->unreachable));
		return;
	}
	add(findings, "ok", "lunrootd", "", "lunrootd %s answers on %s", version,
	    facts->socket_path);
	judge_portals(facts, findings);
	if (get_bool(facts->version, "write_through"))
		add(findings, "warning", "runtime_dir",
		    "start lunrootd with --run on a tmpfs: /run/lunroot",
		    "its runtime directory %s is not on tmpfs, so each write waits for the disk",
		    get_text(facts->version, "run_dir"));
	else
		add(findings, "ok", "runtime_dir", "", "its runtime directory %s is on tmpfs",
		    get_text(facts->version, "run_dir"));
}

static void judge_health(const struct doctor_facts *facts, json_t *findings)
{
	const json_t *space = json_object_get(facts->health, "space"),
		     *alarms = json_object_get(facts->health, "alarms");
	char left[SIZE_TEXT_BYTES], total[SIZE_TEXT_BYTES], reserve[SIZE_TEXT_BYTES];

	if (space && !get_bool(space, "below_reserve"))
		add(findings, "ok", "space", "",
		    "%s of %s are free for its disks, the reserve is %s",
		    size_format(get_number(space, "free_bytes"), left),
		    size_format(get_number(space, "total_bytes"), total),
		    size_format(get_number(space, "reserve_bytes"), reserve));
	/* Too little space is among them. */
	for (size_t i = 0; i < json_array_size(alarms); i++) {
		const json_t *alarm = json_array_get(alarms, i);
		bool bad = strcmp(get_text(alarm, "code"), "reserve") != 0;

		add(findings, bad ? "error" : "warning", get_text(alarm, "code"),
		    get_text(alarm, "cure"), "%s", get_text(alarm, "message"));
	}
}

/* Images and layers are files with holes, which are given back when a node discards. */
static void judge_state_fs(const struct doctor_facts *facts, json_t *findings)
{
	static const struct {
		const char *fs, *level, *what, *cure;
	} known[] = {
		{"ext4", "ok", "", ""},
		{"xfs", "ok", "", ""},
		{"btrfs", "ok", "", ""},
		{"zfs", "ok", "", ""},
		{"f2fs", "ok", "", ""},
		{"bcachefs", "ok", "", ""},
		{"tmpfs", "warning", ": all disks are gone when this machine is switched off",
		 "give lunrootd a --state on a disk"},
		{"nfs", "warning",
		 ": what a Pi flushes is as safe as that server keeps it, and "
		 "discarded space may not come back",
		 "give lunrootd a --state on a disk of this machine"},
		{"cifs", "error", ", which loses holes and locks",
		 "give lunrootd a --state on ext4, XFS "
		 "or Btrfs"},
		{"fuse", "warning", ": it may not know holes",
		 "give lunrootd a --state on ext4, XFS or "
		 "Btrfs"},
		{"vfat", "error", ", which has no holes and no large files",
		 "give lunrootd a --state on "
		 "ext4, XFS or Btrfs"},
		{"exfat", "error", ", which has no holes",
		 "give lunrootd a --state on ext4, XFS or "
		 "Btrfs"},
	};
	const char *dir = get_text(facts->version, "state_dir");

	if (!facts->version)
		return;
	for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
		if (strcmp(known[i].fs, facts->state_fs) != 0)
			continue;
		add(findings, known[i].level, "state_dir", known[i].cure,
		    "its state directory %s is on %s%s", dir, known[i].fs, known[i].what);
		return;
	}
	add(findings, "unknown", "state_dir", "run lunctl doctor as root on lunrootd's machine",
	    "the file system of its state directory %s is not known (%s)", dir,
	    facts->state_fs[0] ? facts->state_fs : "it can't be seen from here");
}

/* --- lunbootd --- */

static bool bootd_is_alive(const struct doctor_facts *facts)
{
	int64_t seen = record_time_ms(get_text(facts->bootd, "seen"));

	return seen >= 0 && facts->now_ms - seen <= BOOTD_SILENT_MS;
}

static void judge_bootd_troubles(const json_t *troubles, json_t *findings)
{
	for (size_t i = 0; i < json_array_size(troubles); i++) {
		const json_t *trouble = json_array_get(troubles, i);

		add(findings, "warning", get_text(trouble, "code"), get_text(trouble, "cure"),
		    "lunbootd: %s", get_text(trouble, "message"));
	}
}

static void judge_bootd(const struct doctor_facts *facts, json_t *findings)
{
	const json_t *interfaces = json_object_get(facts->bootd, "interfaces");
	int64_t seen = record_time_ms(get_text(facts->bootd, "seen"));
	int64_t started = record_time_ms(get_text(facts->bootd, "started"));
	char time[RECORD_TIME_BYTES], names[300] = "";
	size_t used = 0;

	if (!facts->version)
		return;
	if (!json_is_object(facts->bootd)) {
		add(findings, "error", "lunbootd",
		    "start it on this machine: lunbootd; it says what it lacks",
		    "lunbootd has not told lunrootd of itself: it does not run, so no Pi gets its "
		    "boot files");
		return;
	}
	if (!bootd_is_alive(facts)) {
		add(findings, "error", "lunbootd", "start it again; its log says why it ended",
		    "lunbootd was last heard of %s ago",
		    record_duration(seen < 0 ? -1 : facts->now_ms - seen, time));
		return;
	}
	for (size_t i = 0; i < json_array_size(interfaces) && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 i ? ", " : " on ",
					 get_text(json_array_get(interfaces, i), "name"));
	if (used == 0)
		add(findings, "error", "lunbootd_interfaces",
		    "connect this machine to the Pis' network, or name the interface to lunbootd",
		    "lunbootd %s runs, but has no interface to serve",
		    get_text(facts->bootd, "version"));
	else
		add(findings, "ok", "lunbootd", "", "lunbootd %s runs%s%s%s",
		    get_text(facts->bootd, "version"), names, started >= 0 ? " since " : "",
		    started >= 0 ? record_when(get_text(facts->bootd, "started"), time) : "");
	judge_bootd_troubles(json_object_get(facts->bootd, "troubles"), findings);
}

/* --- ports --- */

static void judge_port(const struct doctor_facts *facts, unsigned port, const char *what,
		       json_t *findings)
{
	const struct doctor_socket *taken = NULL;
	bool alive = bootd_is_alive(facts);

	for (unsigned i = 0; i < facts->socket_count; i++) {
		const struct doctor_socket *s = &facts->sockets[i];

		/* Of several the one that is in the way. */
		if (s->port == port && (!taken || strcmp(taken->owner, "lunbootd") == 0))
			taken = s;
	}
	if (!taken) {
		if (!alive)
			add(findings, "ok", "port", "", "UDP port %u (%s) is free", port, what);
		return;
	}
	if (strcmp(taken->owner, "lunbootd") == 0)
		add(findings, "ok", "port", "", "UDP port %u (%s) is lunbootd's", port, what);
	else if (taken->owner[0])
		add(findings, port == 67 && alive ? "warning" : "error", "port",
		    "stop it, or let it leave this port and the Pis' network alone",
		    "UDP port %u (%s) is taken by %s (pid %d)", port, what, taken->owner,
		    taken->pid);
	else if (!alive)
		add(findings, "error", "port", "sudo lunctl doctor says by whom; stop that",
		    "UDP port %u (%s) is taken, and lunbootd does not run", port, what);
}

/* --- the network --- */

bool doctor_is_asked(const struct doctor_facts *facts, const struct doctor_interface *interface)
{
	const json_t *named = json_object_get(facts->bootd, "interfaces");

	if (json_array_size(named) == 0)
		return interface->carrier && !interface->loopback && !interface->is_virtual &&
		       interface->address[0];
	for (size_t i = 0; i < json_array_size(named); i++) {
		if (strcmp(get_text(json_array_get(named, i), "name"), interface->name) == 0)
			return true;
	}
	return false;
}

static void judge_interface(const struct doctor_interface *i, json_t *findings)
{
	char speed[48] = "";

	if (i->speed_mbit > 0)
		(void)snprintf(speed, sizeof(speed), ", %d Mbit/s", i->speed_mbit);
	if (!i->up || !i->carrier)
		add(findings, "error", "interface", "plug its cable in; ip link set %s up",
		    "%s is not connected", i->name);
	else if (!i->address[0])
		add(findings, "error", "interface", "give it one in the Pis' network",
		    "%s has no IPv4 address", i->name);
	else if (strncmp(i->address, "169.254.", 8) == 0)
		add(findings, "warning", "interface",
		    "look at the router's DHCP, or give it a fixed address",
		    "%s has only the address %s, which it has given itself", i->name, i->address);
	else if (i->wireless)
		add(findings, "warning", "interface", "connect this machine by cable",
		    "%s (%s) is wireless: Pis that boot over it are slow and lose packets", i->name,
		    i->address);
	else if (i->speed_mbit > 0 && i->speed_mbit < SPEED_MIN_MBIT)
		add(findings, "warning", "interface", "try another cable and another port",
		    "%s (%s) has only %d Mbit/s, for all Pis together", i->name, i->address,
		    i->speed_mbit);
	else
		add(findings, "ok", "interface", "", "%s is connected: %s%s", i->name, i->address,
		    speed);
}

static void judge_interfaces(const struct doctor_facts *facts, json_t *findings)
{
	unsigned count = 0;

	for (unsigned i = 0; i < facts->interface_count; i++) {
		if (!doctor_is_asked(facts, &facts->interfaces[i]))
			continue;
		judge_interface(&facts->interfaces[i], findings);
		count++;
	}
	if (count == 0)
		add(findings, "error", "interface",
		    "connect this machine to the Pis' network and give it an address there",
		    "no network interface is connected and has an IPv4 address");
}

/* What answered on one interface. */
static void judge_servers(const struct doctor_facts *facts, const char *name, json_t *findings)
{
	char names[200] = "";
	unsigned count = 0;
	size_t used = 0;

	for (unsigned i = 0; i < facts->server_count; i++) {
		const struct doctor_server *s = &facts->servers[i];

		if (strcmp(s->interface, name) != 0)
			continue;
		if (s->is_pxe && !s->is_ours)
			add(findings, "error", "pxe_server",
			    "switch it off, or let it leave Raspberry Pis out: which of the two a "
			    "Pi "
			    "follows is chance",
			    "another boot server (PXE) answers on %s: %s", name, s->address);
		if (!s->gives_address)
			continue;
		count++;
		if (used < sizeof(names))
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
						 count > 1 ? ", " : "", s->address);
	}
	if (count == 0)
		add(findings, "error", "dhcp",
		    "switch the router's DHCP on; in a network without router: lunbootd --dhcp "
		    "known",
		    "no DHCP server answers on %s, so the Pis there get no address", name);
	else if (count == 1)
		add(findings, "ok", "dhcp", "", "one DHCP server answers on %s: %s", name, names);
	else
		add(findings, "error", "dhcp",
		    "switch off all but one: two Pis may get the same address",
		    "%u DHCP servers answer on %s: %s", count, name, names);
}

static void judge_dhcp(const struct doctor_facts *facts, json_t *findings)
{
	if (!facts->asked_dhcp) {
		add(findings, "unknown", "dhcp", "sudo lunctl doctor",
		    "DHCP and PXE servers were not looked for: that needs root");
		return;
	}
	for (unsigned i = 0; i < facts->interface_count; i++) {
		const struct doctor_interface *interface = &facts->interfaces[i];

		if (doctor_is_asked(facts, interface) && interface->carrier)
			judge_servers(facts, interface->name, findings);
	}
}

/* --- what an initramfs is made of --- */

static void judge_programs(const struct doctor_facts *facts, json_t *findings)
{
	if (facts->init[0])
		add(findings, "ok", "init", "", "lunroot-init for 64-bit Pis: %s", facts->init);
	else
		add(findings, "warning", "init", "tools/boot-programs arm64 makes it",
		    "there is no lunroot-init for 64-bit Pis where lunctl initramfs looks");
	if (facts->busybox[0])
		add(findings, "ok", "busybox", "", "busybox for 64-bit Pis: %s", facts->busybox);
	else
		add(findings, "warning", "busybox", "tools/boot-programs arm64 gets one",
		    "there is no busybox for 64-bit Pis where lunctl initramfs looks");
}

json_t *doctor_judge(const struct doctor_facts *facts)
{
	json_t *findings = json_array();

	if (!findings)
		return NULL;
	judge_daemon(facts, findings);
	judge_health(facts, findings);
	judge_state_fs(facts, findings);
	judge_bootd(facts, findings);
	judge_port(facts, 67, "DHCP", findings);
	judge_port(facts, 69, "TFTP", findings);
	judge_port(facts, 6666, "reports", findings);
	judge_interfaces(facts, findings);
	judge_dhcp(facts, findings);
	judge_programs(facts, findings);
	return findings;
}
