/*
 * lunbootd's settings; see options.h.
 */
#include "options.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/option_table.h"

/* Enough to fill a gigabit line with Pis that wait for each answer, few enough that each is quick.
 */
#define IN_FLIGHT        48
#define AUTO_MAX         32
#define LEASE_S          (12 * 3600)
#define LEASE_S_MIN      120
#define DEFAULT_FIRMWARE "/usr/lib/raspi-firmware"

#define OPTION_PATH(field)                                              \
	static const char *set_##field(void *options, const char *text) \
	{                                                               \
		struct boot_options *o = options;                       \
                                                                        \
		return option_path(o->field, sizeof(o->field), text);   \
	}

OPTION_PATH(socket_path)
OPTION_PATH(run_dir)
OPTION_PATH(firmware_dir)
OPTION_PATH(folder)
OPTION_PATH(programs_dir)
OPTION_PATH(log_file)

#define OPTION_NUMBER(field, min, max)                                  \
	static const char *set_##field(void *options, const char *text) \
	{                                                               \
		struct boot_options *o = options;                       \
                                                                        \
		return option_number(&o->field, min, max, text);        \
	}

OPTION_NUMBER(auto_max, 1, LIMIT_NODES)
OPTION_NUMBER(in_flight, 1, LIMIT_BOOTS)
OPTION_NUMBER(http_port, 0, 65535)
OPTION_NUMBER(tftp_port, 1, 65535)
OPTION_NUMBER(report_port, 1, 65535)
OPTION_NUMBER(lease_s, LEASE_S_MIN, 30 * 86400)

static const char *set_word(char *to, size_t room, const char *text, const char *wanted)
{
	if (text[0] == '\0' || strlen(text) >= room)
		return wanted;
	memcpy(to, text, strlen(text) + 1);
	return NULL;
}

static const char *set_interface(void *options, const char *text)
{
	struct boot_options *o = options;

	if (text[0] == '\0' || strlen(text) >= IFNAMSIZ)
		return "an interface's name is wanted, like eth0; ip link shows them";
	if (o->interface_count == LIMIT_BOOT_INTERFACES)
		return "too many interfaces";
	o->interfaces[o->interface_count] = strdup(text);
	if (!o->interfaces[o->interface_count])
		return "out of memory";
	o->interface_count++;
	return NULL;
}

static const char *set_user(void *options, const char *text)
{
	struct boot_options *o = options;

	return set_word(o->user, sizeof(o->user), text, "a user's name is wanted");
}

static const char *set_portal(void *options, const char *text)
{
	struct boot_options *o = options;

	if (strpbrk(text, " \t\r\n#;="))
		return "HOST, HOST:PORT or [IPv6]:PORT is wanted";
	return set_word(o->portal, sizeof(o->portal), text,
			"HOST, HOST:PORT or [IPv6]:PORT is wanted");
}

static const char *set_cmdline(void *options, const char *text)
{
	struct boot_options *o = options;

	if (strpbrk(text, "\r\n"))
		return "one line is wanted";
	return set_word(o->cmdline, sizeof(o->cmdline), text, "words for the kernel are wanted");
}

static const char *set_auto(void *options, const char *text)
{
	struct boot_options *o = options;

	return set_word(o->auto_image, sizeof(o->auto_image), text, "an image's name is wanted");
}

/* "pi-##": letters, digits and '-', and one run of #. */
static const char *set_auto_name(void *options, const char *text)
{
	struct boot_options *o = options;
	static const char wanted[] = "a name with a place for the number is wanted, like pi-##";
	size_t before = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
	size_t digits = strspn(text + before, "#");
	size_t after = strspn(text + before + digits, "abcdefghijklmnopqrstuvwxyz0123456789-");

	if (digits == 0 || digits > 4 || text[before + digits + after] != '\0' || text[0] == '-' ||
	    text[strlen(text) - 1] == '-')
		return wanted;
	return set_word(o->auto_name, sizeof(o->auto_name), text, wanted);
}

static const char *set_dhcp(void *options, const char *text)
{
	struct boot_options *o = options;

	o->dhcp = strcmp(text, "none") != 0;
	o->known = strcmp(text, "known") == 0;
	return strcmp(text, "proxy") == 0 || strcmp(text, "known") == 0 || strcmp(text, "none") == 0
		       ? NULL
		       : "proxy (beside the router's DHCP server), known (be the DHCP server) or "
			 "none is wanted";
}

static const char *set_force_known(void *options, const char *text)
{
	struct boot_options *o = options;

	(void)text;
	o->force_known = true;
	return NULL;
}

static const char *set_address(struct in_addr *address, const char *text)
{
	return inet_pton(AF_INET, text, address) == 1
		       ? NULL
		       : "an IPv4 address is wanted, like 192.168.7.1";
}

/* "192.168.7.100-192.168.7.199" */
static const char *set_pool(void *options, const char *text)
{
	static const char wanted[] = "FIRST-LAST is wanted, like 192.168.7.100-192.168.7.199";
	struct boot_options *o = options;
	const char *dash = strchr(text, '-');
	char first[INET_ADDRSTRLEN];
	struct in_addr from, to;

	if (!dash || (size_t)(dash - text) >= sizeof(first))
		return wanted;
	memcpy(first, text, (size_t)(dash - text));
	first[dash - text] = '\0';
	if (set_address(&from, first) || set_address(&to, dash + 1) ||
	    ntohl(from.s_addr) > ntohl(to.s_addr))
		return wanted;
	o->pool_first = from;
	o->pool_last = to;
	return NULL;
}

static const char *set_router(void *options, const char *text)
{
	struct boot_options *o = options;

	return set_address(&o->router, text);
}

static const char *set_dns(void *options, const char *text)
{
	struct boot_options *o = options;

	return set_address(&o->dns, text);
}

static const char *set_foreground(void *options, const char *text)
{
	struct boot_options *o = options;

	(void)text;
	o->foreground = true;
	return NULL;
}

static const char *set_log_level(void *options, const char *text)
{
	struct boot_options *o = options;

	return log_level_parse(text, &o->log_level) ? NULL : "error, warn, info or debug is wanted";
}

static const struct option_row rows[] = {
	{"interface", "NAME", "serve Pis there; may be repeated (default: all that are up)",
	 set_interface},
	{"socket", "PATH", "lunrootd's control socket (default /run/lunroot/control.sock)",
	 set_socket_path},
	{"run", "DIR", "what is made for boots is kept here (default /run/lunboot)", set_run_dir},
	{"user", "NAME", "started as root: become this user when the ports are open", set_user},
	{"portal", "HOST:PORT", "where nodes find lunrootd (default: as it listens)", set_portal},
	{"firmware", "DIR",
	 "bootcode.bin, start*.elf for disks that have none (default " DEFAULT_FIRMWARE ")",
	 set_firmware_dir},
	{"folder", "DIR", "boot files for every node, instead of those on its disk", set_folder},
	{"cmdline", "WORDS", "appended to each node's cmdline.txt", set_cmdline},
	{"programs", "DIR", "where mkinitramfs, lunroot-init and busybox are", set_programs_dir},
	{"auto", "IMAGE", "clone this image for each Pi that belongs to no node", set_auto},
	{"auto-name", "NAME", "what such nodes are called (default pi-##)", set_auto_name},
	{"auto-max", "N", "no more nodes than this are made so (default 32)", set_auto_max},
	{"in-flight", "N", "Pis that load their files at a time (default 48)", set_in_flight},
	{"dhcp", "MODE", "proxy (default), known: be the network's DHCP server, none", set_dhcp},
	{"dhcp-force", NULL, "with --dhcp known: although another DHCP server was heard",
	 set_force_known},
	{"pool", "FIRST-LAST", "with --dhcp known: addresses to give out", set_pool},
	{"router", "ADDR", "with --dhcp known: the default gateway", set_router},
	{"dns", "ADDR", "with --dhcp known: the name server", set_dns},
	{"lease", "SECONDS", "with --dhcp known: how long addresses are given (default 43200)",
	 set_lease_s},
	{"tftp-port", "N", "default 69", set_tftp_port},
	{"http-port", "N", "boot files over HTTP, too (default 8069; 0: not)", set_http_port},
	{"report-port", "N", "UDP: nodes' reports, boot loaders' NETCONSOLE (default 6666)",
	 set_report_port},
	{"log-file", "FILE",
	 "append the log here (default: standard error; in the background, lunbootd.log in the run "
	 "directory)",
	 set_log_file},
	{"foreground", NULL, "stay in the foreground", set_foreground},
	{"log-level", "LEVEL", "error, warn, info or debug (default info)", set_log_level},
};

static const struct option_table table = {
	.program = "lunbootd",
	.about = "usage: lunbootd [--interface NAME ...] [--socket PATH] [--config FILE]\n\n"
		 "Gives each Raspberry Pi its own boot files, beside the router's DHCP server.\n"
		 "lunrootd knows the nodes; lunctl adopt makes a Pi one of them.\n\n",
	.rows = rows,
	.count = ARRAY_COUNT(rows),
};

static enum options_verdict wrong(const char *text)
{
	(void)fprintf(stderr, "lunbootd: %s\n", text);
	return OPTIONS_EXIT_USAGE;
}

enum options_verdict boot_options_parse(int argc, char **argv, struct boot_options *ret_options)
{
	enum options_verdict verdict;

	*ret_options = (struct boot_options){
		.socket_path = "/run/lunroot/control.sock",
		.run_dir = "/run/lunboot",
		.firmware_dir = DEFAULT_FIRMWARE,
		.auto_name = "pi-##",
		.auto_max = AUTO_MAX,
		.in_flight = IN_FLIGHT,
		.tftp_port = 69,
		.http_port = 8069,
		.report_port = 6666,
		.dhcp = true,
		.lease_s = LEASE_S,
		.log_level = LOG_LEVEL_INFO,
	};
	verdict = options_read(&table, argc, argv, ret_options);
	if (verdict != OPTIONS_RUN)
		return verdict;
	if (!ret_options->log_file[0] && !ret_options->foreground)
		(void)snprintf(ret_options->log_file, sizeof(ret_options->log_file),
			       "%.*s/lunbootd.log", LIMIT_PATH_BYTES - 16, ret_options->run_dir);
	if (ret_options->known &&
	    (ret_options->interface_count != 1 || ret_options->pool_first.s_addr == INADDR_ANY))
		return wrong("--dhcp known wants one --interface and a --pool FIRST-LAST");
	if (!ret_options->known && ret_options->pool_first.s_addr != INADDR_ANY)
		return wrong("--pool makes sense only with --dhcp known");
	return OPTIONS_RUN;
}

void boot_options_done(struct boot_options *options)
{
	for (unsigned i = 0; i < options->interface_count; i++)
		free(options->interfaces[i]);
	options->interface_count = 0;
}
