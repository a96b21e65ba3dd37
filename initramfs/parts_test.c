/*
 * The small parsers: ip=, leases, module parameters, and the words of refusals.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "initramfs/ip_setting.h"
#include "initramfs/lease.h"
#include "initramfs/modules.h"

static void ip_settings(void **state)
{
	static const struct {
		const char *text, *field; /* the field that is wrong, or NULL */
		bool dhcp;
		const char *address;
		unsigned prefix;
		const char *gateway, *interface;
	} rows[] = {
		{"", NULL, true, "", 0, "", ""},
		{"dhcp", NULL, true, "", 0, "", ""},
		{"on", NULL, true, "", 0, "", ""},
		{"off", NULL, false, "", 0, "", ""},
		{":::::eth0:dhcp", NULL, true, "", 0, "", "eth0"},
		{"10.0.0.7::10.0.0.1:255.255.255.0:pi-07:eth0:off", NULL, false, "10.0.0.7", 24,
		 "10.0.0.1", "eth0"},
		{"10.0.0.7:::255.255.255.255", NULL, false, "10.0.0.7", 32, "", ""},
		/* An address that is given is not asked for. */
		{"10.0.0.7::10.0.0.1:255.255.0.0::eth0:dhcp", NULL, false, "10.0.0.7", 16,
		 "10.0.0.1", "eth0"},
		{"10.0.0.7::10.0.0.1:255.255.255.0:pi:eth0:off:9.9.9.9:1.1.1.1:2.2.2.2", NULL,
		 false, "10.0.0.7", 24, "10.0.0.1", "eth0"},
		{"10.0.0", "client address", false, NULL, 0, NULL, NULL},
		{"10.0.0.7", "netmask", false, NULL, 0, NULL, NULL},
		{"10.0.0.7:::255.0.255.0", "netmask", false, NULL, 0, NULL, NULL},
		{"10.0.0.7::x:255.255.255.0", "gateway", false, NULL, 0, NULL, NULL},
		{"10.0.0.7:::255.255.255.0::an-interface-name-too-long:off", "device", false, NULL,
		 0, NULL, NULL},
		{"10.0.0.7:::255.255.255.0::eth0:perhaps", "autoconf", false, NULL, 0, NULL, NULL},
		{"1:2:3:4:5:6:7:8:9:10:11", "number of fields", false, NULL, 0, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct ip_setting setting;
		const char *field;
		int r = ip_setting_parse(rows[i].text, &setting, &field);

		if (r != (rows[i].field ? -EINVAL : 0))
			fail_msg("ip=%s: %d", rows[i].text, r);
		if (rows[i].field) {
			assert_string_equal(field, rows[i].field);
			continue;
		}
		assert_int_equal(setting.dhcp, rows[i].dhcp);
		assert_string_equal(setting.address, rows[i].address);
		assert_int_equal(setting.prefix, rows[i].prefix);
		assert_string_equal(setting.gateway, rows[i].gateway);
		assert_string_equal(setting.interface, rows[i].interface);
	}
}

static void leases(void **state)
{
	static const char text[] =
		"interface=eth0\nip=10.0.2.15\nrootpath=iscsi:10.0.0.1::::iqn.x:y\n"
		"unknown=1\nserverid=10.0.2.2\nhostname=pi-07\nno newline";
	static char long_text[1200];
	struct lease lease;

	(void)state;
	lease_parse(text, sizeof(text) - 1, &lease);
	assert_string_equal(lease.interface, "eth0");
	assert_string_equal(lease.ip, "10.0.2.15");
	assert_string_equal(lease.root_path, "iscsi:10.0.0.1::::iqn.x:y");
	assert_string_equal(lease.server, "10.0.2.2");
	assert_string_equal(lease.hostname, "pi-07");
	lease_parse("", 0, &lease);
	assert_string_equal(lease.ip, "");
	/* A value that is too long is none. */
	memset(long_text, 'a', sizeof(long_text));
	memcpy(long_text, "rootpath=", 9);
	lease_parse(long_text, sizeof(long_text), &lease);
	assert_string_equal(lease.root_path, "");
}

static void parameters_of_modules(void **state)
{
	static const char line[] =
		"console=tty1 smsc95xx.macaddr=B8:27:EB:00:00:01 usb-storage.quirks=x "
		"smsc95xx.turbo_mode=N smsc95.x=1 r8152 root=LABEL=r8152.a=1";
	char text[64];

	(void)state;
	modules_parameters(line, "6.1/kernel/drivers/net/usb/smsc95xx.ko.xz", text, sizeof(text));
	assert_string_equal(text, "macaddr=B8:27:EB:00:00:01 turbo_mode=N ");
	modules_parameters(line, "usb_storage.ko", text, sizeof(text));
	assert_string_equal(text, "quirks=x ");
	modules_parameters(line, "r8152.ko", text, sizeof(text));
	assert_string_equal(text, "");
	modules_parameters(line, "smsc95xx.ko", text, 16);
	assert_string_equal(text, "turbo_mode=N ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ip_settings),
		cmocka_unit_test(leases),
		cmocka_unit_test(parameters_of_modules),
	};

	return cmocka_run_group_tests_name("init parts", tests, NULL, NULL);
}
