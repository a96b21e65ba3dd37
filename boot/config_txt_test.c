/*
 * config.txt as the boards read it, and as it is served; cmdline.txt beside it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "boot/cmdline.h"
#include "boot/config_txt.h"
#include "boot/model.h"

static const struct pi_identity pi3 = {.model = PI_3B, .has_serial = true, .serial = 0xb66c4c16};
static const struct pi_identity pi3_plus = {.model = PI_3B_PLUS};
static const struct pi_identity pi4 = {.model = PI_4, .revision = 0xa03111};
static const struct pi_identity cm4 = {.model = PI_4, .revision = 0xa03140};
static const struct pi_identity pi400 = {.model = PI_4, .revision = 0xc03130};
static const struct pi_identity pi5 = {.model = PI_5, .revision = 0xc04170};

static struct config_txt *parse(const char *text, const struct pi_identity *pi)
{
	struct config_txt *config = NULL;
	struct boot_error error = {""};

	if (config_txt_parse(text, strlen(text), pi, NULL, NULL, &config, &error))
		fail_msg("%s", error.text);
	return config;
}

static void sections_are_read_by_their_boards(void **state)
{
	static const struct {
		const char *text;
		const struct pi_identity *pi;
		const char *kernel;
	} cases[] = {
		{"kernel=a", &pi3, "a"},
		{"kernel=a\nkernel=b", &pi3, "b"},
		{"  kernel=a \r\n", &pi3, "a"},
		{"#kernel=a", &pi3, ""},
		{"xkernel=a\nkernel_address=1\nkernel a", &pi3, ""},
		{"[pi3]\nkernel=a\n[pi4]\nkernel=b\n[all]\n", &pi3, "a"},
		{"[pi3]\nkernel=a\n[pi4]\nkernel=b\n[all]\n", &pi4, "b"},
		{"[pi3+]\nkernel=a", &pi3, ""},
		{"[pi3+]\nkernel=a", &pi3_plus, "a"},
		{"[pi3]\nkernel=a", &pi3_plus, "a"},
		{"[pi4]\nkernel=a\n[cm4]\nkernel=b", &pi4, "a"},
		{"[pi4]\nkernel=a\n[cm4]\nkernel=b", &cm4, "b"},
		{"[pi4]\nkernel=a\n[pi400]\nkernel=b", &pi400, "b"},
		{"[pi5]\nkernel=a", &pi5, "a"},
		{"[cm5]\nkernel=a", &pi5, ""},
		{"[board-type=0x11]\nkernel=a", &pi4, "a"},
		{"[board-type=0x14]\nkernel=a", &pi4, ""},
		{"[board-type=17]\nkernel=a", &pi4, "a"},
		{"[0xb66c4c16]\nkernel=a", &pi3, "a"},
		{"[0x00000000b66c4c16]\nkernel=a", &pi3, "a"},
		{"[0xb66c4c17]\nkernel=a", &pi3, ""},
		{"[0xb66c4c16]\nkernel=a", &pi3_plus, ""}, /* its serial is unknown */
		{"[0xb66c4c16]\n[pi4]\nkernel=a", &pi3, ""},
		{"[0xb66c4c16]\n[pi3]\nkernel=a", &pi3, "a"},
		{"[none]\nkernel=a\n[all]\nkernel=b", &pi3, "b"},
		{"[none]\nkernel=a", &pi3, ""},
		{"[none]\n[pi3]\nkernel=a", &pi3, ""},
		{"[gpio4=1]\nkernel=a", &pi3, ""},
		{"[EDID=X-Y]\nkernel=a\n[all]\n", &pi3, ""},
		{"[tryboot]\nkernel=a\n", &pi3, ""},
		{"[HDMI:1]\nkernel=a", &pi4, "a"},
		{"[strange]\nkernel=a", &pi4, ""},
		{"[]\nkernel=a", &pi4, "a"},
		{"kernel=\xff\xfe", &pi4, ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct config_txt *config = parse(cases[i].text, cases[i].pi);

		if (strcmp(config_txt_settings(config)->kernel, cases[i].kernel) != 0)
			fail_msg("case %zu (%s): kernel \"%s\"", i, cases[i].text,
				 config_txt_settings(config)->kernel);
		config_txt_free(config);
	}
}

static void other_settings(void **state)
{
	struct config_txt *config =
		parse("arm_64bit=0\nos_prefix=next/\noverlay_prefix=o/\ncmdline=c.txt\n"
		      "device_tree=d.dtb\narmstub=a.bin\nstart_file=s.elf\nfixup_file=f.dat\n"
		      "boot_ramdisk=1\n[0x1]\n[gpio1=1]\n",
		      &pi4);
	const struct config_settings *settings = config_txt_settings(config);

	(void)state;
	assert_int_equal(settings->arm_64bit, 0);
	assert_string_equal(settings->os_prefix, "next/");
	assert_string_equal(settings->overlay_prefix, "o/");
	assert_string_equal(settings->cmdline, "c.txt");
	assert_string_equal(settings->device_tree, "d.dtb");
	assert_string_equal(settings->armstub, "a.bin");
	assert_string_equal(settings->start_file, "s.elf");
	assert_string_equal(settings->fixup_file, "f.dat");
	assert_true(settings->boot_ramdisk && settings->by_serial && settings->unsure);
	config_txt_free(config);
	config = parse("", &pi4);
	assert_int_equal(config_txt_settings(config)->arm_64bit, -1);
	assert_false(config_txt_settings(config)->by_serial);
	config_txt_free(config);
}

static int include(void *arg, const char *name, char *ret_text, size_t capacity, size_t *ret_bytes)
{
	const char *text = strcmp(name, "user.txt") == 0   ? "[pi4]\nkernel=user\ngpu_mem=16\n"
			   : strcmp(name, "loop.txt") == 0 ? "include loop.txt\n"
							   : NULL;

	(void)arg;
	if (!text)
		return -ENOENT;
	assert_true(strlen(text) <= capacity);
	*ret_bytes = strlen(text);
	memcpy(ret_text, text, *ret_bytes);
	return 0;
}

static void includes_stand_in_their_place(void **state)
{
	const char *text = "kernel=first\ninclude user.txt\ninclude missing.txt\n[all]\nhdmi=1\n";
	char served[LIMIT_CONFIG_TXT_BYTES + 1];
	struct config_txt *config;
	struct boot_error error = {""};

	(void)state;
	assert_int_equal(config_txt_parse(text, strlen(text), &pi4, include, NULL, &config, &error),
			 0);
	assert_string_equal(config_txt_settings(config)->kernel, "user");
	assert_int_equal(config_txt_serve(config, "user", true, "lunroot.img", served, &error), 0);
	assert_string_equal(served,
			    "[pi4]\ngpu_mem=16\n[all]\nhdmi=1\n[all]\nauto_initramfs=0\n"
			    "arm_64bit=1\nkernel=user\ninitramfs lunroot.img followkernel\n");
	config_txt_free(config);
	text = "[pi3]\ninclude user.txt\n";
	assert_int_equal(config_txt_parse(text, strlen(text), &pi4, include, NULL, &config, &error),
			 0);
	assert_string_equal(config_txt_settings(config)->kernel, "");
	config_txt_free(config);
	text = "include loop.txt\n";
	assert_int_equal(config_txt_parse(text, strlen(text), &pi4, include, NULL, &config, &error),
			 -EINVAL);
	assert_non_null(strstr(error.text, "includes more than"));
}

static void what_we_say_is_said_once(void **state)
{
	static const char text[] =
		"# For more options\n\ndtparam=audio=on\nauto_initramfs=1\n"
		"initramfs initrd.img followkernel\nramfsfile=x\nkernel=vmlinuz\n"
		"[pi4]\ncmdline=c.txt\nos_prefix=p/\narm_64bit=0\n[all]\n"
		"initramfs\tother 0\nenable_uart=1";
	char served[LIMIT_CONFIG_TXT_BYTES + 1];
	struct config_txt *config = parse(text, &pi4);
	struct boot_error error;

	(void)state;
	assert_int_equal(config_txt_serve(config, "kernel8.img", false, NULL, served, &error), 0);
	assert_string_equal(served,
			    "# For more options\n\ndtparam=audio=on\n[pi4]\n[all]\nenable_uart=1\n"
			    "[all]\nauto_initramfs=0\narm_64bit=0\nkernel=kernel8.img\n");
	config_txt_free(config);
}

static void long_ones_lose_what_can_be_spared(void **state)
{
	static char text[LIMIT_CONFIG_TXT_SOURCE_BYTES + 10];
	char served[LIMIT_CONFIG_TXT_BYTES + 1];
	struct config_txt *config;
	struct boot_error error = {""};
	char *at = text;

	(void)state;
	/* 6,000 bytes of comments. */
	for (unsigned i = 0; i < 300; i++)
		at = stpcpy(at, "# a comment of 20 b\n");
	at = stpcpy(at, "dtparam=audio=on\n");
	config = parse(text, &pi4);
	assert_int_equal(config_txt_serve(config, "k", true, "i", served, &error), 0);
	assert_null(strchr(served, '#'));
	assert_true(strncmp(served, "dtparam=audio=on\n[all]\n", 22) == 0);
	config_txt_free(config);
	/* And 6,000 of a section of another board. */
	at = stpcpy(at, "[pi3]\n");
	for (unsigned i = 0; i < 300; i++)
		at = stpcpy(at, "dtparam=some=thing1\n");
	at = stpcpy(at, "[gpio1=0]\ndtparam=x\n[all]\ngpu_mem=16\n[gpio2=1]\ngpu_mem=17\n");
	config = parse(text, &pi4);
	assert_int_equal(config_txt_serve(config, "k", true, "i", served, &error), 0);
	assert_null(strstr(served, "some=thing"));
	assert_non_null(strstr(served, "dtparam=audio=on\n[pi3]\n[gpio1=0]\n[all]\ngpu_mem=16\n"
				       "[gpio2=1]\ngpu_mem=17\n[all]\nauto_initramfs=0\n"));
	assert_true(strlen(served) <= LIMIT_CONFIG_TXT_BYTES);
	config_txt_free(config);
	config = parse(text, &pi3);
	assert_int_equal(config_txt_serve(config, "k", true, "i", served, &error), -EINVAL);
	assert_non_null(strstr(error.text, "shorten"));
	config_txt_free(config);
	/* Exactly as long as can be. */
	at = text;
	for (unsigned i = 0; i < LIMIT_CONFIG_TXT_BYTES - 65; i += 16)
		at = stpcpy(at, "dtparam=0123456\n");
	for (unsigned extra = 0; extra < 40; extra++) {
		int res;

		config = parse(text, &pi4);
		res = config_txt_serve(config, "k", true, "i", served, &error);
		assert_true(res == 0 ? strlen(served) <= LIMIT_CONFIG_TXT_BYTES : res == -EINVAL);
		config_txt_free(config);
		at[-1] = 'x';
		at = stpcpy(at, "\n");
	}
	memset(text, 'x', sizeof(text) - 1);
	assert_int_equal(
		config_txt_parse(text, sizeof(text) - 1, &pi4, NULL, NULL, &config, &error),
		-EINVAL);
}

/* --- cmdline.txt --- */

static void words_that_lead_elsewhere_go(void **state)
{
	static const struct {
		const char *text, *extra, *want, *root;
	} cases[] = {
		/* Raspberry Pi OS, trixie and bookworm */
		{"console=serial0,115200 console=tty1 root=PARTUUID=7d267577-02 rootfstype=ext4 "
		 "fsck.repair=yes rootwait resize\n",
		 "",
		 "console=serial0,115200 console=tty1 root=PARTUUID=7d267577-02 rootfstype=ext4 "
		 "fsck.repair=yes rootwait",
		 "PARTUUID=7d267577-02"},
		{"console=tty1 root=PARTUUID=7d267577-02 rootwait quiet "
		 "init=/usr/lib/raspberrypi-sys-mods/firstboot",
		 "", "console=tty1 root=PARTUUID=7d267577-02 rootwait quiet",
		 "PARTUUID=7d267577-02"},
		{"quiet init=/usr/lib/raspi-config/init_resize.sh", "x", "quiet x", ""},
		{"init=/sbin/init resized", "", "init=/sbin/init resized", ""},
		{"root=/dev/mmcblk0p2", "", "root=/dev/mmcblk0p2", "/dev/mmcblk0p2"},
		{"root=/dev/nfs nfsroot=10.0.0.1:/x,vers=3 ip=dhcp rw", "", "rw", ""},
		{"root=LABEL=\"two words\" rw", "", "root=LABEL=\"two words\" rw",
		 "LABEL=\"two words\""},
		{"\"root=LABEL=x\" rw", "", "\"root=LABEL=x\" rw", ""},
		{"root=LABEL=a root=LABEL=b", "", "root=LABEL=a root=LABEL=b", "LABEL=b"},
		{"root=iscsi:10.0.0.9::::iqn.x rw", "", "rw", ""},
		{"a\tb  c\r\nsecond line", "d", "a b c d", ""},
		{"\n\n  first\n", "", "first", ""},
		{"", "only extra", "only extra", ""},
		{"ipv6.disable=1 ip=10.0.0.7::::", "", "ipv6.disable=1", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct boot_error error = {""};
		struct cmdline cmdline;

		if (cmdline_make(cases[i].text, strlen(cases[i].text), cases[i].extra, &cmdline,
				 &error))
			fail_msg("case %zu: %s", i, error.text);
		assert_string_equal(cmdline.text, cases[i].want);
		if (*cases[i].root)
			assert_string_equal(cmdline.root, cases[i].root);
	}
}

static void cmdline_that_can_not_be(void **state)
{
	struct boot_error error = {""};
	struct cmdline cmdline;
	char text[LIMIT_CMDLINE_BYTES + 2];

	(void)state;
	assert_int_equal(cmdline_make("a \"b", 4, "", &cmdline, &error), -EINVAL);
	assert_non_null(strstr(error.text, "quote"));
	assert_int_equal(cmdline_make("a \x01 b", 5, "", &cmdline, &error), -EINVAL);
	memset(text, 'x', sizeof(text));
	assert_int_equal(cmdline_make(text, LIMIT_CMDLINE_BYTES, "", &cmdline, &error), 0);
	assert_int_equal(cmdline_make(text, LIMIT_CMDLINE_BYTES + 1, "", &cmdline, &error),
			 -EINVAL);
	assert_int_equal(cmdline_make(text, LIMIT_CMDLINE_BYTES - 1, "y", &cmdline, &error),
			 -EINVAL);
	assert_non_null(strstr(error.text, "shorten"));
	assert_int_equal(cmdline_make("a resize b ip=x", 15, "", &cmdline, &error), 0);
	assert_string_equal(cmdline.dropped, "resize ip=x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_are_read_by_their_boards),
		cmocka_unit_test(other_settings),
		cmocka_unit_test(includes_stand_in_their_place),
		cmocka_unit_test(what_we_say_is_said_once),
		cmocka_unit_test(long_ones_lose_what_can_be_spared),
		cmocka_unit_test(words_that_lead_elsewhere_go),
		cmocka_unit_test(cmdline_that_can_not_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
