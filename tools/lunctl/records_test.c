/*
 * Boot records in words, and why: each rule with a record that it is for, and the table's order
 * with records that more than one rule would fit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/serial.h"
#include "lunctl.h"
#include "records.h"
#include "why.h"

#define BEGIN_MS 1795694400000 /* 2026-11-26T12:00:00Z */

/* --- records from a few words --- */

static void time_text(int64_t ms, char buffer[40])
{
	(void)snprintf(buffer, 40, "2026-11-26T%02d:%02d:%02d.%03dZ", 12 + (int)(ms / 3600000),
		       (int)(ms / 60000 % 60), (int)(ms / 1000 % 60), (int)(ms % 1000));
}

/* As lunrootd does it. */
static enum record_stage stage_of(const char *kind, const char *text)
{
	char word[32];

	if (strcmp(kind, "report") == 0) {
		(void)snprintf(word, sizeof(word), "%.*s", (int)strcspn(text, " "), text);
		return record_stage(word);
	}
	if (strcmp(kind, "missing") == 0 || strcmp(kind, "ended") == 0 || strcmp(kind, "lost") == 0)
		return RECORD_ASKED;
	return record_stage(kind);
}

static bool about_file(const char *kind)
{
	return strcmp(kind, "asked") == 0 || strcmp(kind, "sent") == 0 ||
	       strcmp(kind, "missing") == 0 || strcmp(kind, "lost") == 0 ||
	       strcmp(kind, "ended") == 0;
}

/*
 * A boot from "SECONDS KIND [TEXT]", one a line. Of a file: "SECONDS KIND FILE [BYTES]".
 */
static json_t *record(const char *model, const char *lines)
{
	static const char *const names[] = {
		"nothing", "discover", "offer", "request", "asked", "sent",   "settings",
		"start",   "network",  "login", "disk",    "root",  "switch", "multi-user",
	};
	json_t *events = json_array(), *boot;
	char began[40], last[40], reached_at[40], copy[4096], *save = NULL;
	enum record_stage reached = RECORD_NOTHING;
	unsigned files = 0;

	time_text(0, began);
	time_text(0, last);
	time_text(0, reached_at);
	(void)snprintf(copy, sizeof(copy), "%s", lines);
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char kind[32], rest[512] = "", file[200] = "", at[40], *word;
		double seconds = strtod(line, &word);
		size_t bytes = strcspn(word + 1, " ");
		json_t *event;

		assert_true(*word == ' ' && bytes > 0 && bytes < sizeof(kind));
		(void)snprintf(kind, sizeof(kind), "%.*s", (int)bytes, word + 1);
		word += 1 + bytes;
		(void)snprintf(rest, sizeof(rest), "%s", *word ? word + 1 : "");
		if (strcmp(kind, "session_end") == 0)
			kind[7] = ' ';
		time_text((int64_t)(seconds * 1000), at);
		(void)snprintf(last, sizeof(last), "%s", at);
		event = json_pack("{s:s, s:s}", "at", at, "kind", kind);
		if (about_file(kind)) {
			bytes = strcspn(rest, " ");
			(void)snprintf(file, sizeof(file), "%.*s", (int)bytes, rest);
			json_object_set_new(event, "file", json_string(file));
			json_object_set_new(event, "bytes",
					    json_integer(strtoll(rest + bytes, NULL, 10)));
			json_object_set_new(event, "retries", json_integer(0));
			json_object_set_new(event, "took_ms", json_integer(100));
			files += strcmp(kind, "sent") == 0;
		} else if (rest[0]) {
			json_object_set_new(event, "text", json_string(rest));
		}
		if (stage_of(kind, rest) > reached) {
			reached = stage_of(kind, rest);
			(void)snprintf(reached_at, sizeof(reached_at), "%s", at);
		}
		json_array_append_new(events, event);
	}
	boot = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:o}", "id", "00000000000000aa",
			 "model", model, "began", began, "last", last, "reached", names[reached],
			 "reached_at", reached_at, "files", (int)files, "events", events);
	assert_non_null(boot);
	json_object_set(boot, "last_event", json_array_get(events, json_array_size(events) - 1));
	return boot;
}

/* --- times --- */

static void times_and_durations(void **state)
{
	static const struct {
		const char *text;
		int64_t ms;
	} times[] = {
		{"2026-11-26T12:00:00Z", BEGIN_MS},
		{"2026-11-26T12:00:00.123Z", BEGIN_MS + 123},
		{"", -1},
		{"2026-11-26T12:00:00", -1},
		{"2026-11-26T12:00:00.Z", -1},
		{"2026-11-26T12:00:00.12Z", -1},
		{"2026-11-26T12:00:00.1234Z", -1},
		{"yesterday", -1},
	};
	static const struct {
		int64_t ms;
		const char *text;
	} durations[] = {
		{-1, "-"},         {0, "0 ms"},          {999, "999 ms"},     {1000, "1.0 s"},
		{99999, "99.9 s"}, {100000, "1:40 min"}, {3600000, "1:00 h"}, {7500000, "2:05 h"},
	};
	char buffer[RECORD_TIME_BYTES];

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(times); i++)
		assert_int_equal(record_time_ms(times[i].text), times[i].ms);
	for (size_t i = 0; i < ARRAY_COUNT(durations); i++)
		assert_string_equal(record_duration(durations[i].ms, buffer), durations[i].text);
	assert_string_equal(record_when("2026-11-26T12:00:00.123Z", buffer), "2026-11-26 12:00:00");
	assert_string_equal(record_when("x", buffer), "-");
	assert_true(serial_same("10000000ABCDEF01", "abcdef01"));
	assert_false(serial_same("abcdef02", "abcdef01"));
	assert_false(serial_same("", ""));
	assert_true(serial_same("aa", "AA"));
	assert_false(serial_same("aa", "xxxxxxaa"));
}

static void results_in_words(void **state)
{
	static const struct {
		const char *lines;
		int64_t later_ms;
		const char *words;
		int64_t took_ms;
	} table[] = {
		{"0 discover", 5000, "under way: asked for an address", 0},
		{"0 discover", 500000, "stopped: asked for an address", 0},
		{"0 discover\n1 offer\n2.5 sent start4.elf 10", 500000, "stopped: was sent 1 file",
		 2500},
		{"0 discover\n1 wait 3 boot before it", 100,
		 "under way: asked for an address; 3 boot "
		 "before it",
		 0},
		{"0 discover\n9 report network eth0\n12 report waiting nobody answers", 100000,
		 "stopped: its network is up; waiting nobody answers", 9000},
		{"0 discover\n20 report multi-user", 9000000, "up", 20000},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		json_t *boot = record("Raspberry Pi 4", table[i].lines);
		int64_t last = record_time_ms(get_text(boot, "last"));
		char words[RECORD_WORDS_BYTES];

		assert_string_equal(record_result(boot, last + table[i].later_ms, words),
				    table[i].words);
		assert_int_equal(record_took_ms(boot), table[i].took_ms);
		json_decref(boot);
	}
}

static char *timeline(const json_t *boot, bool all)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	assert_non_null(out);
	record_print_events(boot, all, out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void timeline_folds_files(void **state)
{
	json_t *boot = record("Raspberry Pi 4",
			      "0 discover\n1 asked a\n1.2 sent a 1048576\n1.3 missing b\n"
			      "2 lost c 5\n3 console x\x1b[31m\n4 asked d");
	char *text;

	(void)state;
	json_object_set_new(boot, "dropped", json_integer(7));
	text = timeline(boot, false);
	assert_string_equal(
		text, "        0 ms  discover     \n"
		      "     1000 ms  files        1 file, 1.0 MiB, 1 that there are not, 1 broken "
		      "off: c\n"
		      "     3000 ms  console      x?[31m\n"
		      "     4000 ms  files        0 files, 0 B\n"
		      "(7 events of its middle were not kept)\n");
	free(text);
	text = timeline(boot, true);
	assert_non_null(strstr(text, "     1200 ms  sent         a, 1.0 MiB in 100 ms\n"));
	free(text);
	json_decref(boot);
	/* Of something that is no record nothing is said. */
	boot = json_pack("{s:[i, s], s:i}", "events", 1, "x", "began", 3);
	free(timeline(boot, false));
	json_decref(boot);
}

/* --- why --- */

#define FILES                                                                                     \
	"0 discover\n0.1 offer\n1 request 10.0.0.17 from 10.0.0.1\n2 asked 5b154510/start4.elf\n" \
	"3 sent 5b154510/start4.elf 2250000\n3.1 sent config.txt 900\n"
#define KERNEL FILES "8 sent kernel8.img 9000000\n9 sent initramfs8 9000000\n9.1 settings\n"
#define INIT   KERNEL "12 report start lunroot-init\n"
#define NET    INIT "14 report network eth0 10.0.0.17\n"
#define LOGIN  NET "15 login 10.0.0.17:40000 as iqn.x\n15 report login 10.0.0.2 port 3260\n"
#define DISK   LOGIN "16 report disk sda LUN 0\n"
#define ROOT   DISK "17 report root ext4 /dev/sda2\n"
#define UP     ROOT "18 report switch /sbin/init\n40 report multi-user 41 s after the kernel's start\n"

static const struct sample {
	const char *rule, *model, *lines;
	int64_t later_ms;         /* after the last event */
	bool stranger;            /* it has no node */
	const char *stuck, *more; /* parts of the answer: of `stuck`, and of cause or cure */
} samples[] = {
	{"unknown", "Raspberry Pi 4", "0 discover", 1000, true, "belongs to no node",
	 "lunctl adopt pi-07 as NAME"},
	{"shut-down", "Raspberry Pi 4", UP "900 session_end logout", 60000, false,
	 "logged out 60.0 s", ""},
	{"gone", "Raspberry Pi 4", UP "900 session_end connection lost: 10.0.0.17:40000", 60000,
	 false, "ended 60.0 s ago (connection lost", "lost power"},
	{"gone", "Raspberry Pi 4", ROOT "900 session_end connection lost", 60000, false, "was up",
	 ""},
	{"up", "Raspberry Pi 4",
	 UP "900 session_end connection lost\n901 login 10.0.0.17:40001 as x", 600000, false,
	 "up, 40.0 s after", ""},
	{"up", "Raspberry Pi 4", UP, 86400000, false, "up, 40.0 s after", ""},
	{"up-waiting", "Raspberry Pi 4", UP "900 report waiting no connection to 10.0.0.2", 1000,
	 false, "waits now; it says: \"no connection", "goes on by itself"},
	{"up", "Raspberry Pi 4", UP "900 report waiting no connection\n950 report back 50.0 s",
	 1000, false, "up", ""},
	{"refused-old", "Raspberry Pi 4",
	 NET "15 trouble login refused to 10.0.0.17:4: credentials of an older boot", 1000, false,
	 "older boot", "switch it off and on"},
	{"refused", "Raspberry Pi 4", NET "15 trouble login refused to 10.0.0.17:4: wrong secret",
	 1000, false, "wrong secret", "lunctl show pi-07"},
	{"up", "Raspberry Pi 4", INIT "13 trouble login refused to 10.0.0.17:4: wrong secret\n" UP,
	 1000, false, "up", ""},
	{"waiting-network", "Raspberry Pi 4", INIT "13 report waiting: eth0 has no carrier", 1000,
	 false, "it says: \"eth0 has no carrier\"", "DHCP"},
	{"waiting-portal", "Raspberry Pi 4",
	 NET "20 report waiting nobody answers on 10.0.0.2 port 3260", 1000, false,
	 "can't reach lunrootd", "TCP port 3260"},
	{"waiting-login", "Raspberry Pi 4", NET "20 report waiting target not found", 1000, false,
	 "target not found", "lunctl url pi-07"},
	{"waiting-disk", "Raspberry Pi 4", LOGIN "20 report waiting no disk appears", 1000, false,
	 "waits for its disk", "sd_mod"},
	{"waiting", "Raspberry Pi 4", DISK "20 report waiting /dev/sda2 is no file system", 1000,
	 false, "no file system", "root="},
	{"no-multi-user", "Raspberry Pi 4", ROOT "18 report switch /sbin/init", 400000, false,
	 "has mounted root 6:40 min ago", "emergency"},
	{"coming-up", "Raspberry Pi 4", ROOT "18 report switch /sbin/init", 100000, false,
	 "coming up", ""},
	{"no-root", "Raspberry Pi 4", DISK, 60000, false, "has its disk", "rootfstype="},
	{"no-disk", "Raspberry Pi 4", LOGIN, 60000, false, "is logged in", "iscsi_tcp"},
	{"no-login", "Raspberry Pi 4", NET, 60000, false, "has seen no login", "firewall"},
	{"no-network", "Raspberry Pi 4", INIT, 60000, false, "has started", "driver"},
	{"no-report", "Raspberry Pi 4", KERNEL, 90000, false, "not said a word", "panicked"},
	{"two-macs", "Raspberry Pi 3B",
	 "0 discover\n1 offer\n2 trouble two boards were given the address 10.0.0.9: a and b",
	 60000, false, "used twice", "two boards were given"},
	{"two-boots", "Raspberry Pi 4",
	 "0 discover\n1 offer\n2 trouble another boot server at 10.0.0.3 answers it too", 60000,
	 false, "follows another", "10.0.0.3"},
	{"two-boots", "Raspberry Pi 4",
	 "0 discover\n1 offer\n2 trouble the DHCP server 10.0.0.1 sends it to another TFTP server",
	 60000, false, "follows another", "another TFTP server"},
	{"relay", "Raspberry Pi 3B",
	 "0 discover\n1 trouble it asks from another network through the DHCP relay 10.1.0.1",
	 60000, false, "another network", "10.1.0.1"},
	{"middle-of-file", "Raspberry Pi 3B",
	 FILES "5 asked kernel8.img\n9 lost kernel8.img 3145728", 60000, false,
	 "in the middle of kernel8.img, after 3.0 MiB", "half duplex"},
	{"stopped", "Raspberry Pi 3B",
	 FILES "5 lost kernel7.img 3145728\n6 asked kernel7.img\n9 sent kernel7.img 5000000\n"
	       "10 asked initramfs7\n11 sent initramfs7 10",
	 30000 + 60000, false, "", ""},
	{"no-answer", "Raspberry Pi 3B",
	 "0 discover\n1 offer\n2 asked bootcode.bin\n12 lost bootcode.bin 0", 60000, false,
	 "takes nothing", "ARP"},
	{"again-and-again", "Raspberry Pi 4",
	 "0 discover\n1 offer\n2 asked x/start4.elf\n4 asked x/start4.elf\n6 asked x/start4.elf\n"
	 "8 asked x/start4.elf",
	 1000, false, "start4.elf again and again (4 times)", "UDP"},
	{"no-firmware", "Raspberry Pi 4",
	 "0 discover\n1 offer\n2 missing 5b154510/start4.elf\n2 missing 5b154510/start.elf\n"
	 "2.1 missing start4.elf\n2.2 missing start.elf",
	 60000, false, "asks for its firmware", "first partition"},
	{"no-kernel", "Raspberry Pi 4", FILES "5 missing kernel8.img\n5 missing kernel7l.img",
	 60000, false, "asks for a kernel", "kernel="},
	{"large-config", "Raspberry Pi 4",
	 "0 discover\n1 offer\n2 sent start4.elf 100\n2 sent config.txt 5000", 60000, false,
	 "config.txt of 4.9 KiB", "4096"},
	{"no-settings", "Raspberry Pi 4", FILES "5 sent kernel8.img 9000000", 90000, false,
	 "not asked for its initramfs", "config.txt"},
	{"bootcode-only", "Raspberry Pi 3B",
	 "0 discover\n1 offer\n2 asked bootcode.bin\n3 sent bootcode.bin 52000\n3 missing "
	 "bootsig.bin",
	 60000, false, "bootcode.bin", "SD card"},
	{"turn", "Raspberry Pi 4", "0 discover\n0 wait 3 boot before it", 1000, false,
	 "its turn: 3 boot before it", ""},
	{"no-dhcp", "Raspberry Pi 4",
	 "0 discover\n0 offer\n4 trouble no DHCP server answers on eth0, so it gets no address",
	 60000, false, "gets no address", "no DHCP server answers on eth0"},
	{"no-address", "Raspberry Pi 4", "0 discover\n0 offer\n4 discover\n4 offer", 60000, false,
	 "offered its boot 2 times", "router's DHCP"},
	{"spanning-tree", "Raspberry Pi 3B",
	 "0 discover\n0 offer\n4 trouble the switch on eth0 speaks spanning tree", 60000, false,
	 "asks for no file", "portfast"},
	{"old-pi-locked", "Raspberry Pi 3B", "0 discover\n1 offer\n5 discover\n6 offer", 60000,
	 false, "offered its boot 2 times", "locks up"},
	{"two-dhcp", "a board",
	 "0 discover\n1 offer\n2 trouble another DHCP server, 10.0.0.3, gives addresses too", 60000,
	 false, "two DHCP servers", "10.0.0.3"},
	{"offered", "Raspberry Pi 4", "0 discover\n1 offer\n1.5 request 10.0.0.17", 60000, false,
	 "asks for no file", "TFTP_IP"},
	{"trouble", "Raspberry Pi 4", "0 discover\n1 trouble its disk can't be read: try check.",
	 60000, false, "lunbootd says: its disk can't be read: try check.", ""},
	{"no-offer", "Raspberry Pi 4", "0 discover\n4 discover\n8 discover", 60000, false,
	 "asked 3 times", "lunbootd's log"},
	{"stopped", "Raspberry Pi 4", FILES, 90000, false, "was sent 2 files", "four times"},
	{"silent", "Raspberry Pi 4", "0 console Boot mode: SD", 90000, false, "Nothing has come",
	 ""},
	{"under-way", "Raspberry Pi 4", FILES, 3000, false, "is booting", ""},
	{"under-way", "Raspberry Pi 4", "0 discover\n0 offer", 3000, false, "is booting", ""},
};

static void explain(const struct sample *s, const json_t *bootd, struct why_answer *ret_answer)
{
	json_t *boot = record(s->model, s->lines);
	const struct why_context context = {
		.now_ms = record_time_ms(get_text(boot, "last")) + s->later_ms,
		.pi = "pi-07",
		.is_node = !s->stranger,
		.bootd = bootd,
	};

	why_explain(boot, &context, ret_answer);
	json_decref(boot);
}

static void each_rule_fits_its_record(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
		const struct sample *s = &samples[i];
		struct why_answer a;

		explain(s, NULL, &a);
		if (strcmp(a.rule, s->rule) != 0)
			print_error("sample %zu: %s instead of %s: %s\n", i, a.rule, s->rule,
				    a.stuck);
		assert_string_equal(a.rule, s->rule);
		assert_non_null(strstr(a.stuck, s->stuck));
		assert_true(strstr(a.cause, s->more) || strstr(a.cure, s->more));
		/* Nothing is left of the patterns. */
		assert_null(strpbrk(a.stuck, "{}"));
		assert_null(strpbrk(a.cause, "{}"));
		assert_null(strpbrk(a.cure, "{}"));
		assert_true(a.stuck[0] != '\0');
		assert_true(a.fine || a.cure[0] || strcmp(a.rule, "trouble") == 0);
	}
}

static void each_rule_has_a_record(void **state)
{
	static const char *const names[] = {
		"unknown",
		"shut-down",
		"gone",
		"up-waiting",
		"up",
		"refused-old",
		"refused",
		"waiting-network",
		"waiting-portal",
		"waiting-login",
		"waiting-disk",
		"waiting",
		"no-multi-user",
		"coming-up",
		"no-root",
		"no-disk",
		"no-login",
		"no-network",
		"no-report",
		"two-macs",
		"two-boots",
		"relay",
		"middle-of-file",
		"no-answer",
		"again-and-again",
		"no-firmware",
		"no-kernel",
		"large-config",
		"no-settings",
		"bootcode-only",
		"turn",
		"no-dhcp",
		"no-address",
		"spanning-tree",
		"old-pi-locked",
		"two-dhcp",
		"offered",
		"trouble",
		"no-offer",
		"stopped",
		"silent",
		"under-way",
	};

	(void)state;
	assert_int_equal(ARRAY_COUNT(names), why_rule_count());
	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		bool found = false;

		for (size_t k = 0; k < ARRAY_COUNT(samples); k++)
			found |= strcmp(samples[k].rule, names[i]) == 0;
		if (!found)
			print_error("no record for %s\n", names[i]);
		assert_true(found);
	}
}

static void network_troubles_count_too(void **state)
{
	static const struct sample s = {
		"", "Raspberry Pi 3B", "0 discover\n1 offer", 60000, false, "", ""};
	json_t *bootd =
		json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "troubles", "code", "network", "message",
			  "the switch on eth0 speaks spanning tree: 30 s", "code", "two_boards",
			  "message", "dc:a6:32:01:02:03 says to be the Pi of node pi-08");
	struct why_answer a;

	(void)state;
	explain(&s, bootd, &a);
	assert_string_equal(a.rule, "spanning-tree");
	assert_non_null(strstr(a.cause, "30 s"));
	json_decref(bootd);
	explain(&s, NULL, &a);
	assert_string_equal(a.rule, "old-pi-locked");
}

static void nothing_was_ever_seen(void **state)
{
	const struct why_context context = {.now_ms = BEGIN_MS, .pi = "pi-07", .is_node = true};
	struct why_answer a;

	(void)state;
	why_explain(NULL, &context, &a);
	assert_string_equal(a.rule, "never");
	assert_false(a.fine);
	assert_non_null(strstr(a.stuck, "pi-07"));
	assert_non_null(strstr(a.cure, "lunctl doctor"));
}

/* What a peer has said fills the answer, but no more. */
static void long_texts_end(void **state)
{
	char lines[900], text[600];
	const struct sample s = {"", "Raspberry Pi 4", lines, 60000, false, "", ""};
	struct why_answer a;

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	(void)snprintf(lines, sizeof(lines), "0 discover\n1 trouble %.500s", text);
	explain(&s, NULL, &a);
	assert_string_equal(a.rule, "trouble");
	assert_true(strlen(a.stuck) < WHY_TEXT_BYTES);
}

static void boot_loader_lines(void **state)
{
	static const struct {
		const char *line, *part;
	} table[] = {
		{"NET_BOOT: dc:a6:32:b8:04:5c wait for link TFTP: 0.0.0.0", "cable"},
		{"  5.21 LINK STATUS: speed: 1000 full duplex", NULL},
		{"LINK STATUS: speed: 100 half duplex", "half duplex"},
		{"LINK STATUS: speed: 100 full duplex", "100 Mbit/s"},
		{"Boot mode: NETWORK (02) order f1", "begins"},
		{"Boot mode: SD (01) order f2", "card"},
		{"RX: 9 IP: 0 IPV4: 0 MAC: 0 UDP: 0 UDP RECV: 0 IP_CSUM_ERR: 0 UDP_CSUM_ERR: 0",
		 NULL},
		{"RX: 9 IP: 0 IPV4: 0 MAC: 0 UDP: 0 UDP RECV: 0 IP_CSUM_ERR: 0 UDP_CSUM_ERR: 3",
		 "damaged"},
		{"NET 192.168.1.17 255.255.255.0 gw 0.0.0.0 tftp 192.168.1.3", "no gateway"},
		{"", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
		const char *meaning = why_console(table[i].line);

		if (!table[i].part) {
			assert_null(meaning);
		} else {
			assert_non_null(meaning);
			assert_non_null(strstr(meaning, table[i].part));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_and_durations),
		cmocka_unit_test(results_in_words),
		cmocka_unit_test(timeline_folds_files),
		cmocka_unit_test(each_rule_fits_its_record),
		cmocka_unit_test(each_rule_has_a_record),
		cmocka_unit_test(network_troubles_count_too),
		cmocka_unit_test(nothing_was_ever_seen),
		cmocka_unit_test(long_texts_end),
		cmocka_unit_test(boot_loader_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
