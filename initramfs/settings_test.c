/*
 * The three sources of a node's settings: what each may say, which one wins, and that a mistake is
 * named and changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>

#include <cmocka.h>

#include "initramfs/settings.h"

#define IQN "iqn.2026-11.local.lunroot:pi-07"

#define TOKEN "0123456789abcdef0123456789abcdef"

#define CONF(s, text)    settings_take_node_conf(s, text, strlen(text), &error)
#define CMDLINE(s, text) settings_take_cmdline(s, text, strlen(text), &error)
#define DHCP(s, text)    settings_take_root_path(s, text, strlen(text), "192.168.1.1", &error)

static struct settings_error error;

static void assert_portal(const struct settings_portal *portal, const char *host, unsigned port)
{
	assert_string_equal(portal->host, host);
	assert_int_equal(portal->port, port);
}

static void node_conf_says_all(void **state)
{
	struct settings s;

	(void)state;
	settings_init(&s);
	assert_int_equal(CONF(&s, "\xef\xbb\xbf# a node\r\n"
				  "\r\n"
				  "portal = nas.lan, [fd00::7]:3261\r\n"),
			 -EINVAL); /* a blank in the list */
	assert_int_equal(CONF(&s, "\xef\xbb\xbf# a node\r\n"
				  "  \t\r\n"
				  "portal = nas.lan,[fd00::7]:3261,10.0.0.9:99,fe80::1%eth0\r\n"
				  "\ttarget=IQN.2026-11.local.lunroot:Pi-07 \r\n"
				  "initiator=iqn.2001-04.com.example:me\n"
				  "lun=16383\nuser=us=er\nsecret=a secret = of #1 \n"
				  "mutual_user=nas\nmutual_secret=another secret\n"
				  "header_digest=CRC32C\ndata_digest=none\n"
				  "root=LABEL=a b\nrootflags=noatime,x=y\nrootfstype=ext4\n"
				  "rw\noverlay=tmpfs\nfsck=no\ninit=/bin/sh\ninterface=eth0\n"
				  "ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:off\n"
				  "hostname=pi-07\nrescue=yes\nreboot_after=0\n"
				  "report=10.0.0.9/" TOKEN "\n"),
			 0);
	assert_int_equal(s.portal_count, 4);
	assert_portal(&s.portals[0], "nas.lan", 3260);
	assert_portal(&s.portals[1], "fd00::7", 3261);
	assert_portal(&s.portals[2], "10.0.0.9", 99);
	assert_portal(&s.portals[3], "fe80::1%eth0", 3260);
	assert_string_equal(s.target, IQN);
	assert_string_equal(s.initiator, "iqn.2001-04.com.example:me");
	assert_int_equal(s.lun, 16383);
	assert_string_equal(s.user, "us=er");
	assert_string_equal(s.secret, "a secret = of #1");
	assert_string_equal(s.mutual_user, "nas");
	assert_string_equal(s.mutual_secret, "another secret");
	assert_true(s.header_digest && !s.data_digest);
	assert_string_equal(s.root, "LABEL=a b");
	assert_string_equal(s.rootflags, "noatime,x=y");
	assert_string_equal(s.rootfstype, "ext4");
	assert_int_equal(s.read_only, SETTINGS_NO);
	assert_true(s.overlay_tmpfs);
	assert_int_equal(s.fsck, SETTINGS_NO);
	assert_string_equal(s.init, "/bin/sh");
	assert_string_equal(s.interface, "eth0");
	assert_string_equal(s.ip, "10.0.0.2::10.0.0.1:255.255.255.0::eth0:off");
	assert_string_equal(s.hostname, "pi-07");
	assert_int_equal(s.rescue, SETTINGS_YES);
	assert_int_equal(s.reboot_after_s, 0);
	assert_portal(&s.report.to, "10.0.0.9", 6666);
	assert_string_equal(s.report.token, TOKEN);
	assert_int_equal(settings_finish(&s, "", &error), 0);
	settings_done(&s);
	assert_string_equal(s.secret, "");
}

static void defaults_are_safe(void **state)
{
	struct settings s;

	(void)state;
	settings_init(&s);
	assert_int_equal(CONF(&s, ""), 0);
	assert_int_equal(CMDLINE(&s, ""), 0);
	assert_int_equal(DHCP(&s, ""), 0);
	assert_int_equal(s.portal_count, 0);
	assert_int_equal(s.reboot_after_s, 600);
	assert_int_equal(s.read_only, SETTINGS_UNSET);
	assert_false(s.overlay_tmpfs);
}

/* A Raspberry Pi's own cmdline.txt with ours before it. */
static void cmdline_of_a_pi(void **state)
{
	struct settings s;

	(void)state;
	settings_init(&s);
	assert_int_equal(
		CMDLINE(&s, "coherent_pool=1M 8250.nr_uarts=0 snd.x=\"a b\" console=ttyS0,115200 "
			    "lunroot=iscsi:10.0.0.5::::" IQN " lunroot.header-digest=crc32c "
			    "lunroot.rescue \"lunroot.rootflags=a b\" lunroot.user=\"x y\" "
			    "root=PARTUUID=1234-02 root=PARTUUID=4321-02 rootfstype=ext4 ro "
			    "fsck.repair=yes rootwait rw ip=dhcp init=/sbin/x rootflags=lost "
			    "\xff\xfe=foreign -- lunroot.lun=x init=/no\n"),
		0);
	assert_portal(&s.portals[0], "10.0.0.5", 3260);
	assert_int_equal(s.portal_count, 1);
	assert_string_equal(s.target, IQN);
	assert_int_equal(s.lun, 0);
	assert_true(s.header_digest);
	assert_int_equal(s.rescue, SETTINGS_YES);
	assert_string_equal(s.rootflags, "a b");
	assert_string_equal(s.user, "x y");
	assert_string_equal(s.root, "PARTUUID=4321-02");
	assert_string_equal(s.rootfstype, "ext4");
	assert_int_equal(s.read_only, SETTINGS_NO);
	assert_string_equal(s.ip, "dhcp");
	assert_string_equal(s.init, "/sbin/x");
}

static void cmdline_forms_of_a_place(void **state)
{
	static const struct {
		const char *text, *host, *target, *root;
		unsigned port, count, lun;
	} cases[] = {
		{"lunroot=nas", "nas", "", "", 3260, 1, 0},
		{"lunroot=10.0.0.1:7,nas", "10.0.0.1", "", "", 7, 2, 0},
		{"lunroot=[fd00::1]:3261;lun=3;ro", "fd00::1", "", "", 3261, 1, 3},
		{"lunroot=\"iscsi:[fd00::1]:6:1:2:" IQN ";root=LABEL=a b;\"", "fd00::1", IQN,
		 "LABEL=a b", 1, 1, 2},
		{"lunroot=ISCSI:nas::::" IQN " lunroot.lun=9", "nas", IQN, "", 3260, 1, 9},
		{"root=iscsi:nas:6:3260:4:" IQN " lunroot.root=PART=2", "", "", "PART=2", 0, 0, 0},
		{"root=iscsi:nas:6:3260:4:" IQN, "nas", IQN, "", 3260, 1, 4},
		{"root=/dev/nfs lunroot=nas", "nas", "", "", 3260, 1, 0},
		{"root=/dev/lunroot/root lunroot=nas", "nas", "", "", 3260, 1, 0},
		{"root=/dev/ram0", "", "", "", 0, 0, 0},
		{"root=/dev/sda2 lunroot=dhcp", "", "", "/dev/sda2", 0, 0, 0},
		{"lunroot=iscsi:::::" IQN, "", IQN, "", 0, 0, 0},
		{"root= init= lunroot.root=", "", "", "", 0, 0, 0},
		{"-- lunroot=nas", "", "", "", 0, 0, 0},
		{"lunroots=nas lunroot-x blunroot.lun=3", "", "", "", 0, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings s;

		settings_init(&s);
		if (CMDLINE(&s, cases[i].text))
			fail_msg("%s: %s", cases[i].text, error.text);
		assert_portal(&s.portals[0], cases[i].host, cases[i].port);
		assert_int_equal(s.portal_count, cases[i].count);
		assert_string_equal(s.target, cases[i].target);
		assert_string_equal(s.root, cases[i].root);
		assert_int_equal(s.lun, cases[i].lun);
	}
}

static void root_path_forms(void **state)
{
	static const struct {
		const char *text, *host;
		unsigned port, lun;
	} cases[] = {
		{"iscsi:10.0.0.5:6:3260:0:" IQN, "10.0.0.5", 3260, 0},
		{"iscsi:10.0.0.5::::" IQN, "10.0.0.5", 3260, 0},
		{"iscsi:nas.lan.::860:1f:" IQN "\r\n", "nas.lan.", 860, 0x1f},
		{"iscsi:[2001:db8::1]:6::40:" IQN, "2001:db8::1", 3260, 64},
		{"iscsi:[fe80::1%eth0]::3261:0-0-0-0:" IQN, "fe80::1%eth0", 3261, 0},
		{"iscsi:[::ffff:10.0.0.5]:::7-0000:" IQN, "::ffff:10.0.0.5", 3260, 7},
		{"iscsi:::::" IQN, "192.168.1.1", 3260, 0},
		{"iscsi:::3261::" IQN, "192.168.1.1", 3261, 0},
		{"iscsi:nas:::0003-0000-0000-0000:" IQN, "nas", 3260, 3},
		{"iscsi:nas:::4100-0:" IQN, "nas", 3260, 256},
		{"iscsi:nas:::7FFF:" IQN, "nas", 3260, 16383},
		{"iscsi:nas:::3fff:" IQN, "nas", 3260, 16383},
		{"iscsi:nas:::000000000000000E:" IQN, "nas", 3260, 14},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings s;

		settings_init(&s);
		if (DHCP(&s, cases[i].text))
			fail_msg("%s: %s", cases[i].text, error.text);
		assert_int_equal(s.portal_count, 1);
		assert_portal(&s.portals[0], cases[i].host, cases[i].port);
		assert_int_equal(s.lun, cases[i].lun);
		assert_string_equal(s.target, IQN);
	}
}

static void root_path_of_another_kind(void **state)
{
	static const char *const cases[] = {"/srv/nfs", "10.0.0.1:/srv/nfs", "nbd:x",
					    "iscsi",    "\xff\xff",          "aoe:e0.0"};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings s, before;

		settings_init(&s);
		before = s;
		assert_int_equal(DHCP(&s, cases[i]), 0);
		assert_memory_equal(&s, &before, sizeof(s));
	}
}

static void root_path_with_a_nul_and_an_extension(void **state)
{
	static const char path[] = "iscsi:nas::::" IQN ";user=u;secret=123456789012;;rescue\0";
	struct settings s;

	(void)state;
	settings_init(&s);
	assert_int_equal(settings_take_root_path(&s, path, sizeof(path), "", &error), 0);
	assert_string_equal(s.user, "u");
	assert_string_equal(s.secret, "123456789012");
	assert_int_equal(s.rescue, SETTINGS_YES);
	assert_string_equal(s.target, IQN);
}

/* All six orders of the calls end the same. */
static void rank_not_order_decides(void **state)
{
	static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
					      {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct settings s;

		settings_init(&s);
		for (unsigned j = 0; j < 3; j++) {
			if (orders[i][j] == 0)
				assert_int_equal(CONF(&s, "portal=conf\nuser=conf\n"), 0);
			else if (orders[i][j] == 1)
				assert_int_equal(CMDLINE(&s, "lunroot=line;user=line "
							     "lunroot.target=" IQN
							     " lunroot.hostname=line"),
						 0);
			else
				assert_int_equal(
					DHCP(&s, "iscsi:dhcp::99:5:iqn.2001-04.com.example:x;user="
						 "dhcp;hostname=dhcp;interface=eth9"),
					0);
		}
		assert_portal(&s.portals[0], "conf", 3260);
		assert_string_equal(s.user, "conf");
		assert_string_equal(s.target, IQN);
		/* LUN 5 is another target's. */
		assert_int_equal(s.lun, 0);
		assert_string_equal(s.hostname, "line");
		assert_string_equal(s.interface, "eth9");
	}
}

struct wrong {
	const char *text, *error;
};

static void assert_wrong(const struct wrong *wrong, size_t count,
			 int (*take)(struct settings *, const char *, size_t,
				     struct settings_error *))
{
	for (size_t i = 0; i < count; i++) {
		struct settings s, before;

		settings_init(&s);
		strcpy(s.hostname, "untouched");
		before = s;
		if (take(&s, wrong[i].text, strlen(wrong[i].text), &error) != -EINVAL)
			fail_msg("accepted: %s", wrong[i].text);
		assert_string_equal(error.text, wrong[i].error);
		assert_memory_equal(&s, &before, sizeof(s));
	}
}

#define LETTERS32 "abcdefghijklmnopqrstuvwxyzabcdef"
#define LETTERS64 LETTERS32 LETTERS32

#define REPORT_WRONG(value)                                        \
	"node.conf, line 1: report=" value                         \
	": ADDRESS:PORT/TOKEN (a number, no name; 32 hexadecimal " \
	"digits) is wanted"

static void node_conf_mistakes(void **state)
{
	static const struct wrong cases[] = {
		{"user=a\nlun=x\n", "node.conf, line 2: lun=x: a number from 0 to 16383 is wanted"},
		{"lun=16384", "node.conf, line 1: lun=16384: a number from 0 to 16383 is wanted"},
		{"lun=", "node.conf, line 1: lun=: a number from 0 to 16383 is wanted"},
		{"lun=010", "node.conf, line 1: lun=010: a number from 0 to 16383 is wanted"},
		{"lun=0x1", "node.conf, line 1: lun=0x1: a number from 0 to 16383 is wanted"},
		{"lun=-1", "node.conf, line 1: lun=-1: a number from 0 to 16383 is wanted"},
		{"lun=4294967296",
		 "node.conf, line 1: lun=4294967296: a number from 0 to 16383 is wanted"},
		{"lun=99999999999999999999", "node.conf, line 1: lun=99999999999999999999: "
					     "a number from 0 to 16383 is wanted"},
		{"lun=1\n\n#\nlun=1", "node.conf, line 4: lun is given twice"},
		{"ro\nrw=no", "node.conf, line 2: ro is given twice"},
		{"rw=maybe", "node.conf, line 1: rw: yes or no is wanted"},
		{"rescue=1", "node.conf, line 1: rescue=1: yes or no is wanted"},
		{"secrett=hunter2",
		 "node.conf, line 1: secrett: no such setting (the manual page has the list)"},
		{"secret:hunter2", "node.conf, line 1: : KEY=VALUE is wanted"},
		{"lun", "node.conf, line 1: lun: KEY=VALUE is wanted"},
		{"=x", "node.conf, line 1: : no such setting (the manual page has the list)"},
		{"target=pi-07", "node.conf, line 1: target=pi-07: an iSCSI name "
				 "(iqn.2026-11.local.lunroot:NODE) is wanted"},
		{"hostname=a.b", "node.conf, line 1: hostname=a.b: a DNS label (letters, digits, "
				 "hyphens; at most 63) is wanted"},
		{"hostname=" LETTERS64,
		 "node.conf, line 1: hostname: at most 63 bytes are wanted, these are 64"},
		{"secret=" LETTERS64 LETTERS64 "a",
		 "node.conf, line 1: secret: at most 128 bytes are wanted, these are 129"},
		{"user=\xc3", "node.conf, line 1: user: has bytes that are no UTF-8 text (or are "
			      "controls)"},
		{"user=a\x1b[2J", "node.conf, line 1: user: has bytes that are no UTF-8 text (or "
				  "are controls)"},
		{"user=a\rlun=3", "node.conf, line 1: user: has bytes that are no UTF-8 text (or "
				  "are controls)"},
		{"portal=", "node.conf, line 1: portal=: HOST, HOST:PORT or [IPv6]:PORT is wanted"},
		{"portal=a,,b",
		 "node.conf, line 1: portal=: HOST, HOST:PORT or [IPv6]:PORT is wanted"},
		{"portal=10.0.0.1:3260,1",
		 "node.conf, line 1: portal=1: HOST, HOST:PORT or [IPv6]:PORT is wanted"},
		{"portal=a,b,c,d,e", "node.conf, line 1: portal: at most 4 portals are wanted"},
		{"portal=a:" LETTERS64, "node.conf, line 1: portal=a:" LETTERS32
					"abcdefghijklmnopqrstuvwxyzabcd...: HOST, HOST:PORT or "
					"[IPv6]:PORT is wanted"},
		{"init=bin/sh",
		 "node.conf, line 1: init=bin/sh: a path that begins with / is wanted"},
		{"overlay=ext4", "node.conf, line 1: overlay=ext4: tmpfs or none is wanted"},
		{"data_digest=md5", "node.conf, line 1: data_digest=md5: crc32c or none is wanted"},
		{"interface=../x", "node.conf, line 1: interface=../x: an interface's name, like "
				   "eth0, is wanted"},
		{"report=", REPORT_WRONG("")},
		{"report=10.0.0.1:6666", REPORT_WRONG("10.0.0.1:6666")},
		{"report=/" TOKEN, REPORT_WRONG("/" TOKEN)},
		{"report=nas:6666/" TOKEN, REPORT_WRONG("nas:6666/" TOKEN)},
		{"report=10.0.0.1:0/" TOKEN, REPORT_WRONG("10.0.0.1:0/" TOKEN)},
		{"report=10.0.0.1,1/" TOKEN, REPORT_WRONG("10.0.0.1,1/" TOKEN)},
		{"report=10.0.0.1/x" TOKEN, REPORT_WRONG("10.0.0.1/x" TOKEN)},
		{"report=10.0.0.1/0123456789abcdef0123456789abcdeg",
		 REPORT_WRONG("10.0.0.1/0123456789abcdef0123456789abcdeg")},
		{"report=" LETTERS64 LETTERS64 LETTERS64 LETTERS64 LETTERS64 "/" TOKEN,
		 REPORT_WRONG(LETTERS64 "...")},
	};

	(void)state;
	assert_wrong(cases, sizeof(cases) / sizeof(cases[0]), settings_take_node_conf);
}

static void cmdline_mistakes(void **state)
{
	static const struct wrong cases[] = {
		{"quiet lunroot.lun=abc",
		 "kernel command line: lunroot.lun=abc: a number from 0 to 16383 is wanted"},
		{"lunroot.nul=1", "kernel command line: lunroot.nul: no such setting (the manual "
				  "page has the list)"},
		{"lunroot.=1", "kernel command line: lunroot.: no such setting (the manual page "
			       "has the list)"},
		{"lunroot.lun", "kernel command line: lunroot.lun: KEY=VALUE is wanted"},
		{"lunroot",
		 "kernel command line: lunroot: an address, a root path or dhcp is wanted"},
		{"lunroot=",
		 "kernel command line: lunroot: an address, a root path or dhcp is wanted"},
		{"lunroot=nas lunroot=nas", "kernel command line, lunroot: portal is given twice"},
		{"lunroot=iscsi:nas:::1:" IQN " lunroot.lun=1",
		 "kernel command line: lunroot.lun is given twice"},
		{"root=iscsi:nas::::" IQN " lunroot=nas",
		 "kernel command line, root: portal is given twice"},
		{"lunroot=iscsi:nas", "kernel command line, lunroot: "
				      "iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET is wanted"},
		{"a=\"b lunroot=nas", "kernel command line: a quotation mark is not closed"},
		{"init=sh", "kernel command line: init=sh: a path that begins with / is wanted"},
		{"lunroot=secret=hunter2", "kernel command line, lunroot: portal=(not shown): "
					   "HOST, HOST:PORT or [IPv6]:PORT is wanted"},
	};

	(void)state;
	assert_wrong(cases, sizeof(cases) / sizeof(cases[0]), settings_take_cmdline);
}

static int take_root_path_alone(struct settings *s, const char *text, size_t bytes,
				struct settings_error *ret_error)
{
	return settings_take_root_path(s, text, bytes, "", ret_error);
}

static void root_path_mistakes(void **state)
{
	static const struct wrong cases[] = {
		{"iscsi:", "DHCP root path: iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET is wanted"},
		{"iscsi:a:b:c:d",
		 "DHCP root path: iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET is wanted"},
		{"iscsi:nas::::", "DHCP root path: TARGET is missing: an iSCSI name "
				  "(iqn.2026-11.local.lunroot:NODE) is wanted"},
		{"iscsi:nas:17:::" IQN,
		 "DHCP root path: PROTOCOL=17: 6 (TCP) or nothing is wanted"},
		{"iscsi:nas::0::" IQN,
		 "DHCP root path: PORT=0: a number from 1 to 65535 is wanted"},
		{"iscsi:nas::65536::" IQN,
		 "DHCP root path: PORT=65536: a number from 1 to 65535 is wanted"},
		{"iscsi:nas::iscsi-target::" IQN,
		 "DHCP root path: PORT=iscsi-target: a number from 1 to 65535 is wanted"},
		{"iscsi:nas:::1-1:" IQN, "DHCP root path: LUN=1-1: a single-level LUN, 0 to 3fff "
					 "in hexadecimal, is wanted"},
		{"iscsi:nas:::8000:" IQN, "DHCP root path: LUN=8000: a single-level LUN, 0 to "
					  "3fff in hexadecimal, is wanted"},
		{"iscsi:nas:::0-0-0-0-0:" IQN, "DHCP root path: LUN=0-0-0-0-0: a single-level "
					       "LUN, 0 to 3fff in hexadecimal, is wanted"},
		{"iscsi:nas:::1-:" IQN, "DHCP root path: LUN=1-: a single-level LUN, 0 to 3fff in "
					"hexadecimal, is wanted"},
		{"iscsi:nas:::0001000000000000:" IQN,
		 "DHCP root path: LUN=0001000000000000: a single-level LUN, 0 to 3fff in "
		 "hexadecimal, is wanted"},
		{"iscsi:nas:::g:" IQN, "DHCP root path: LUN=g: a single-level LUN, 0 to 3fff in "
				       "hexadecimal, is wanted"},
		{"iscsi:fd00::1::::" IQN,
		 "DHCP root path: target=::" IQN
		 ": an iSCSI name (iqn.2026-11.local.lunroot:NODE) is wanted"},
		{"iscsi:[fd00:1::::" IQN, "DHCP root path: SERVER: its [ is not closed"},
		{"iscsi:10.0.0.256::::" IQN,
		 "DHCP root path: SERVER=10.0.0.256: an address, a name or [IPv6] is wanted"},
		{"iscsi:a,b::::" IQN,
		 "DHCP root path: SERVER=a,b: an address, a name or [IPv6] is wanted"},
		{"iscsi:\xff::::" IQN,
		 "DHCP root path: SERVER: an address, a name or [IPv6] is wanted"},
		{"iscsi:::3261::" IQN,
		 "DHCP root path: SERVER is missing, and the DHCP server is not known"},
		{"iscsi:nas::::" IQN ";lun=99999",
		 "DHCP root path: lun=99999: a number from 0 to 16383 is wanted"},
		{"iscsi:nas:::1:" IQN ";lun=1", "DHCP root path: lun is given twice"},
		{"iscsi:nas::::" IQN ";secret=ab;cd=ef",
		 "DHCP root path: no such setting (the manual page has the list)"},
		{"iscsi:nas::::" IQN ";secret=ab;cd", "DHCP root path: KEY=VALUE is wanted"},
	};

	(void)state;
	assert_wrong(cases, sizeof(cases) / sizeof(cases[0]), take_root_path_alone);
}

static void root_path_without_a_server(void **state)
{
	struct settings s;

	(void)state;
	settings_init(&s);
	assert_int_equal(take_root_path_alone(&s, "iscsi:::::" IQN, 10 + strlen(IQN), &error), 0);
	assert_string_equal(s.target, IQN);
	assert_int_equal(settings_finish(&s, "", &error), -EINVAL);
	assert_int_equal(CMDLINE(&s, "lunroot=nas"), 0);
	assert_int_equal(settings_finish(&s, "", &error), 0);
}

static void a_nul_inside_is_refused(void **state)
{
	struct settings s;

	(void)state;
	settings_init(&s);
	assert_int_equal(settings_take_node_conf(&s, "user=a\0b", 8, &error), -EINVAL);
	assert_int_equal(settings_take_cmdline(&s, "lunroot.user=a\0b", 16, &error), -EINVAL);
	assert_string_equal(s.user, "");
}

static void report_comes_from_any_source(void **state)
{
	struct settings s;

	(void)state;
	settings_init(&s);
	assert_string_equal(s.report.token, "");
	assert_int_equal(DHCP(&s, "iscsi:nas::::" IQN ";report=10.0.0.1:7/" TOKEN), 0);
	assert_portal(&s.report.to, "10.0.0.1", 7);
	/* Kept in one form, since it is compared. */
	assert_int_equal(CMDLINE(&s, "lunroot.report=[fe80::1%eth0]:8/"
				     "0123456789ABCDEF0123456789abcdef"),
			 0);
	assert_portal(&s.report.to, "fe80::1%eth0", 8);
	assert_string_equal(s.report.token, TOKEN);
	assert_int_equal(CONF(&s, "report=fd00::1/" TOKEN), 0);
	assert_portal(&s.report.to, "fd00::1", 6666);
}

static void finish_wants_what_belongs_together(void **state)
{
	static const struct wrong cases[] = {
		{"target=" IQN, "no target address: lunroot=iscsi:ADDRESS::::TARGET on the kernel "
				"command line, portal= in node.conf, or a DHCP root path (option "
				"17) is wanted"},
		{"portal=nas",
		 "no target name: target= in node.conf, lunroot.target= on the kernel "
		 "command line, or a DHCP root path (option 17) is wanted"},
		{"portal=nas\ntarget=" IQN "\nuser=u", "user= is given, but no secret= for it"},
		{"portal=nas\ntarget=" IQN "\nsecret=123456789012",
		 "secret= is given, but no user= for it"},
		{"portal=nas\ntarget=" IQN "\nuser=u\nsecret=12345678901",
		 "secret= is too short: CHAP wants 12 to 128 bytes"},
		{"portal=nas\ntarget=" IQN "\nmutual_user=m\nmutual_secret=123456789012",
		 "mutual_user= is given without user= and secret=: mutual CHAP needs both "
		 "directions"},
		{"portal=nas\ntarget=" IQN "\nuser=u\nsecret=123456789012\nmutual_user=m",
		 "mutual_user= and mutual_secret= belong together, and one of them is missing"},
		{"portal=nas\ntarget=" IQN
		 "\nuser=u\nsecret=123456789012\nmutual_user=m\nmutual_secret=1",
		 "mutual_secret= is too short: CHAP wants 12 to 128 bytes"},
		{"portal=nas\ntarget=" IQN
		 "\nuser=u\nsecret=123456789012\nmutual_user=m\nmutual_secret=123456789012",
		 "secret= and mutual_secret= are the same: a target could prove itself by echoing"},
		{"portal=nas\ntarget=iqn.2001-04.com.example:x",
		 "initiator= is missing: this target is not lunroot's, and the machine has no "
		 "serial number"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings s;

		settings_init(&s);
		assert_int_equal(CONF(&s, cases[i].text), 0);
		assert_int_equal(settings_finish(&s, "", &error), -EINVAL);
		assert_string_equal(error.text, cases[i].error);
	}
}

static void finish_names_the_initiator(void **state)
{
	static const struct {
		const char *conf, *fallback, *initiator;
	} cases[] = {
		{"target=" IQN, "", "iqn.2026-11.local.lunroot:initiator:pi-07"},
		{"target=iqn.2001-04.com.example:x", "B8-27-eb-00-11-22",
		 "iqn.2026-11.local.lunroot:initiator:b8-27-eb-00-11-22"},
		{"target=" IQN "\ninitiator=IQN.2001-04.com.example:me", "1",
		 "iqn.2001-04.com.example:me"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings s;

		settings_init(&s);
		assert_int_equal(CONF(&s, "portal=nas\n"), 0);
		assert_int_equal(CONF(&s, cases[i].conf), 0);
		assert_int_equal(settings_finish(&s, cases[i].fallback, &error), 0);
		assert_string_equal(s.initiator, cases[i].initiator);
	}
}

static void portals(void **state)
{
	static const struct {
		const char *text, *host;
		unsigned port; /* 0: refused */
	} cases[] = {
		{"nas", "nas", 3260},
		{"nas:1", "nas", 1},
		{"10.0.0.1:65535,1", "10.0.0.1", 65535},
		{"10.0.0.1,65535", "10.0.0.1", 3260},
		{"[fd00::1]", "fd00::1", 3260},
		{"[fd00::1]:99,2", "fd00::1", 99},
		{"fd00::1", "fd00::1", 3260},
		{"::1", "::1", 3260},
		{"fe80::1%eth0", "fe80::1%eth0", 3260},
		{"3com.example.", "3com.example.", 3260},
		{"", NULL, 0},
		{":3260", NULL, 0},
		{"nas:", NULL, 0},
		{"nas:0", NULL, 0},
		{"nas:65536", NULL, 0},
		{"nas: 1", NULL, 0},
		{"nas,x", NULL, 0},
		{"nas,65536", NULL, 0},
		{"1", NULL, 0},
		{"1.2.3", NULL, 0},
		{"10.0.0.256", NULL, 0},
		{"a..b", NULL, 0},
		{"-a", NULL, 0},
		{"a b", NULL, 0},
		{"[nas]:1", NULL, 0},
		{"[10.0.0.1]", NULL, 0},
		{"[fd00::1", NULL, 0},
		{"[fd00::1]x", NULL, 0},
		{"[]", NULL, 0},
		{"fd00::1%", NULL, 0},
		{"fd00::1%abcdefghijklmnop", NULL, 0},
		{"1:2:3", NULL, 0},
		{LETTERS64 LETTERS64 LETTERS64 LETTERS64 LETTERS64, NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings_portal portal = {.port = 7};
		int res = settings_portal_parse(cases[i].text, 3260, &portal);

		if (res != (cases[i].port ? 0 : -EINVAL))
			fail_msg("%s gives %d", cases[i].text, res);
		if (res)
			assert_int_equal(portal.port, 7);
		else
			assert_portal(&portal, cases[i].host, cases[i].port);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(node_conf_says_all),
		cmocka_unit_test(defaults_are_safe),
		cmocka_unit_test(cmdline_of_a_pi),
		cmocka_unit_test(cmdline_forms_of_a_place),
		cmocka_unit_test(root_path_forms),
		cmocka_unit_test(root_path_of_another_kind),
		cmocka_unit_test(root_path_with_a_nul_and_an_extension),
		cmocka_unit_test(rank_not_order_decides),
		cmocka_unit_test(node_conf_mistakes),
		cmocka_unit_test(cmdline_mistakes),
		cmocka_unit_test(root_path_mistakes),
		cmocka_unit_test(root_path_without_a_server),
		cmocka_unit_test(a_nul_inside_is_refused),
		cmocka_unit_test(report_comes_from_any_source),
		cmocka_unit_test(finish_wants_what_belongs_together),
		cmocka_unit_test(finish_names_the_initiator),
		cmocka_unit_test(portals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
