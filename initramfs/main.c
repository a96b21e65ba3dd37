/*
 * lunroot-init: from the kernel's first program to the real system, on a disk over the network.
 *
 *     /init                        all of it: file systems, modules, network, login, root, switch
 *     lunroot-init login [...]     only settings, login and disk, in a distribution's initramfs
 *
 * Read boot_run() from top to bottom. Each step is tried until it works: most of what goes wrong
 * (a cable, a switch, a server that is still starting) is mended by somebody else meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/console.h"
#include "initramfs/disk.h"
#include "initramfs/keeper.h"
#include "initramfs/lease.h"
#include "initramfs/modules.h"
#include "initramfs/net.h"
#include "initramfs/probe.h"
#include "initramfs/report.h"
#include "initramfs/root.h"
#include "initramfs/run.h"
#include "initramfs/settings.h"

#define NODE_CONF        "/etc/lunroot/node.conf"
#define NODE_CONF_BYTES  16384
#define CMDLINE_BYTES    4096 /* COMMAND_LINE_SIZE of arm64 is 2048, of x86 too */
#define RETRY_MS         2000
#define STEP_PATIENCE_MS 60000 /* as a step in another initramfs, whose own shell is the rescue */
#define DISK_MS          15000
#define ASK_AGAIN_MS     10000

struct boot {
	char cmdline[CMDLINE_BYTES];
	struct settings settings;
	struct ip_setting ip;
	struct net net;
	struct lease lease;
	struct keeper keeper;
	struct keeper_session session;
	struct disk disk;
	struct probe_disk probe;
	const struct probe_volume *volume;
	char device[48], fstype[32], init[SETTINGS_WORD_BYTES];
	struct complaint complaint;
	bool is_step; /* lunroot-init login */
	bool rescue;
	long long begun_ms, trouble_ms;
	const char *root_path, *dhcp_server; /* given to `login` */
};

/* --- when something does not work --- */

static void rescue_shell(void)
{
	char *shell[] = {"/bin/busybox", "sh", NULL};
	char *install[] = {"/bin/busybox", "--install", "-s", "/bin", NULL};
	int pid, console_fd, status;

	if (!file_exists(shell[0])) {
		complain("no rescue shell: the initramfs has no /bin/busybox");
		return;
	}
	(void)program_run(install);
	say("rescue shell, as the command line asks; \"exit\" tries again");
	pid = fork();
	if (pid == 0) {
		/* A session of its own, whose terminal is the console: Ctrl-C works. */
		(void)setsid();
		console_fd = open("/dev/console", O_RDWR);
		for (int fd = 0; fd < 3 && console_fd >= 0; fd++)
			(void)dup2(console_fd, fd);
		(void)setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
		(void)execv(shell[0], shell);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
}

/*
 * Something is wrong that may heal: says so (again, if it lasts), gives the person a shell, or
 * waits a little. A machine that can't help itself starts again after a while, since its settings
 * come anew with each boot.
 */
static void trouble(struct boot *boot, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void trouble(struct boot *boot, const char *format, ...)
{
	char text[sizeof(boot->complaint.text)];
	uint32_t after_s = boot->settings.reboot_after_s;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	complain_again(&boot->complaint, "%s", text);
	if (boot->trouble_ms == 0)
		boot->trouble_ms = now_ms();
	if (boot->is_step) {
		/* With a keeper behind it there is no way back: two would take the disk from each
		 * other. */
		if (boot->keeper.pid == 0 && now_ms() > boot->trouble_ms + STEP_PATIENCE_MS)
			exit(1);
	} else if (boot->rescue) {
		rescue_shell();
		complaint_clear(&boot->complaint);
	} else if (after_s && now_ms() > boot->trouble_ms + (long long)after_s * 1000) {
		complain("starting again, after %u s of this (reboot_after)", after_s);
		report(REPORT_WAITING, "starting again, after %u s of this", after_s);
		sync();
		(void)reboot(RB_AUTOBOOT);
	}
	report_sleep_ms(RETRY_MS);
}

static void trouble_over(struct boot *boot)
{
	complaint_clear(&boot->complaint);
	boot->trouble_ms = 0;
}

/* --- the machine --- */

static void mount_pseudo(const char *type, const char *where, unsigned long flags, const char *data)
{
	(void)mkdir(where, 0755);
	/* EBUSY: it is there already. */
	if (mount(type, where, type, flags, data) && errno != EBUSY)
		(void)dprintf(STDERR_FILENO, "lunroot: %s can't be mounted: %s\n", where,
			      strerror(errno));
}

static void mount_all_pseudo(void)
{
	(void)umask(022);
	mount_pseudo("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mount_pseudo("sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
	mount_pseudo("devtmpfs", "/dev", MS_NOSUID, "mode=755");
	mount_pseudo("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
	(void)mkdir("/run/lunroot", 0755);
	(void)mkdir("/tmp", 01777);
}

/* The kernel opens the console only if the initramfs had one before devtmpfs. */
static void stdio_open(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3 && fd >= 0; i++)
		(void)dup2(fd, i);
	if (fd > 2)
		close(fd);
}

/*
 * CHAP wants random bytes, and a machine without a hardware source collects its first ones for a
 * second, but only once somebody asks: a child asks now, while the network comes up.
 */
static void randomness_begin(void)
{
	pid_t pid = fork();
	char byte;

	if (pid == 0)
		_exit(getrandom(&byte, sizeof(byte), 0) == 1 ? 0 : 1);
}

/* --- settings --- */

static int take_node_conf(struct boot *boot, struct settings_error *error)
{
	static char text[NODE_CONF_BYTES];
	ssize_t bytes = file_read(NODE_CONF, text, sizeof(text));
	int r;

	if (bytes == -ENOENT)
		return 0;
	if (bytes < 0 || (size_t)bytes == sizeof(text) - 1) {
		(void)snprintf(error->text, sizeof(error->text), "%s: %s", NODE_CONF,
			       bytes < 0 ? strerror((int)-bytes) : "longer than 16 KiB");
		return -EINVAL;
	}
	r = settings_take_node_conf(&boot->settings, text, (size_t)bytes, error);
	explicit_bzero(text, sizeof(text));
	return r;
}

static int take_boot_settings(struct boot *boot, struct settings_error *error)
{
	const char *field;
	bool of_node_conf;
	int r;

	settings_init(&boot->settings);
	r = take_node_conf(boot, error);
	of_node_conf = boot->settings.ip[0] != '\0';
	if (r == 0)
		r = settings_take_cmdline(&boot->settings, boot->cmdline, strlen(boot->cmdline),
					  error);
	if (r == 0 && ip_setting_parse(boot->settings.ip, &boot->ip, &field)) {
		(void)snprintf(error->text, sizeof(error->text), "%s: ip=%.100s: the %s is wrong",
			       of_node_conf ? "node.conf" : "kernel command line",
			       boot->settings.ip, field);
		r = -EINVAL;
	}
	return r;
}

static bool report_where(const struct boot *boot)
{
	if (!boot->settings.report.token[0])
		return false;
	report_to(&boot->settings.report);
	return true;
}

static void settings_read(struct boot *boot)
{
	struct settings_error error;

	/* Asked for even if nothing else on the line can be understood. */
	boot->rescue = strstr(boot->cmdline, "lunroot.rescue") != NULL;
	while (take_boot_settings(boot, &error))
		trouble(boot, "%s", error.text);
	boot->rescue = boot->settings.rescue == SETTINGS_YES;
	trouble_over(boot);
	(void)report_where(boot);
}

/* Something that names this machine where nobody has: its serial number, else a MAC address. */
static void machine_id(const struct boot *boot, char *ret_id, size_t bytes)
{
	char path[64], mac[32];
	size_t used = 0;

	file_read_word("/proc/device-tree/serial-number", ret_id, bytes);
	if (ret_id[0])
		return;
	(void)snprintf(path, sizeof(path), "/sys/class/net/%s/address",
		       boot->net.interface[0] ? boot->net.interface : "eth0");
	file_read_word(path, mac, sizeof(mac));
	for (const char *p = mac; *p && used + 1 < bytes; p++) {
		if (*p != ':')
			ret_id[used++] = *p;
	}
	ret_id[used] = '\0';
}

/* With all that was said by anybody: who serves the disk. */
static int settings_try(struct boot *boot, const char *id, struct settings_error *error)
{
	struct settings complete = boot->settings;
	int r = 0;

	if (boot->root_path)
		r = settings_take_root_path(&complete, boot->root_path, strlen(boot->root_path),
					    boot->dhcp_server, error);
	if (r == 0)
		r = settings_finish(&complete, id, error);
	if (r == 0)
		boot->settings = complete;
	settings_done(&complete);
	return r;
}

static void settings_complete(struct boot *boot)
{
	struct settings_error error;
	long long asked_ms = now_ms();
	char id[64];

	machine_id(boot, id, sizeof(id));
	while (settings_try(boot, id, &error)) {
		trouble(boot, "%s", error.text);
		/* A renewed lease may say more, and its time is hours: the server is asked now. */
		if (boot->net.udhcpc_pid > 0 && now_ms() > asked_ms + ASK_AGAIN_MS) {
			(void)kill(boot->net.udhcpc_pid, SIGUSR1);
			asked_ms = now_ms();
		}
		if (!boot->is_step && lease_read(&boot->lease) == 0 && boot->lease.root_path[0]) {
			boot->root_path = boot->lease.root_path;
			boot->dhcp_server = boot->lease.server;
		}
	}
	trouble_over(boot);
	if (!report_where(boot))
		report_none();
}

/* --- the network --- */

static bool needs_lease(const struct boot *boot)
{
	bool told = boot->settings.portal_count > 0 && boot->settings.target[0];

	/* The address is there; who serves the disk may have to be asked for. */
	if (boot->net.configured)
		return !told && boot->net.udhcpc_pid > 0;
	/* An IPv6 portal is reached by what the router announces. */
	return !told || !strchr(boot->settings.portals[0].host, ':');
}

static void network_up(struct boot *boot)
{
	const char *wanted =
		boot->settings.interface[0] ? boot->settings.interface : boot->ip.interface;

	while (net_wait_carrier(&boot->net, wanted, 30000) == -ETIMEDOUT)
		trouble(boot, "no wired network yet");
	while (net_configure(&boot->net, &boot->ip, boot->settings.hostname))
		trouble(boot, "%s gets no address", boot->net.interface);
	trouble_over(boot);
}

static void lease_await(struct boot *boot)
{
	long long begun_ms = now_ms();

	while (lease_read(&boot->lease)) {
		if (now_ms() > begun_ms + 10000)
			trouble(boot,
				"%s: no lease: no DHCP server answers; is the router on, does the "
				"switch port forward yet (spanning tree)?",
				boot->net.interface);
		else
			sleep_ms(20);
	}
	trouble_over(boot);
	say("%s: %s from DHCP server %s", boot->net.interface, boot->lease.ip,
	    boot->lease.server[0] ? boot->lease.server : "(unnamed)");
	boot->root_path = boot->lease.root_path;
	boot->dhcp_server = boot->lease.server;
}

static void address_await(struct boot *boot)
{
	char address[INET_ADDRSTRLEN];

	if (needs_lease(boot))
		lease_await(boot);
	net_address(&boot->net, address, sizeof(address));
	report(REPORT_NETWORK, "%s%s%s", boot->net.interface, address[0] ? " " : "", address);
}

static void hostname_set(const struct boot *boot)
{
	const char *name =
		boot->settings.hostname[0] ? boot->settings.hostname : boot->lease.hostname;

	if (name[0])
		(void)sethostname(name, strlen(name));
}

/* --- the disk --- */

static void login_await(struct boot *boot, char *argv[])
{
	int r;

	while ((r = keeper_start(&boot->settings, argv, boot->net.udhcpc_pid, boot->net.udhcpc_fd,
				 &boot->keeper)) != 0)
		trouble(boot, "the keeper can't be started: %s", strerror(-r));
	/* It says itself what is wrong; here only time passes. */
	while ((r = keeper_wait(&boot->keeper, 5000, &boot->session)) != 0) {
		if (r == -ECHILD)
			complain("the keeper has ended; this should not happen");
		trouble(boot, "no disk yet: %s at %s", boot->settings.target,
			boot->settings.portals[0].host);
	}
	trouble_over(boot);
}

static void disk_await(struct boot *boot)
{
	uint16_t lun = boot->settings.lun;
	int r;

	while ((r = disk_find(&boot->session, lun, DISK_MS, &boot->disk)) != 0)
		trouble(boot, "disk missing: %s has no LUN %u%s%s", boot->settings.target, lun,
			r == -ENODEV ? "" : ": ", r == -ENODEV ? "" : strerror(-r));
	trouble_over(boot);
	say("%s is LUN %u, %llu MiB", boot->disk.name, lun,
	    (unsigned long long)(boot->disk.size_bytes >> 20));
	report(REPORT_DISK, "%s LUN %u, %llu MiB", boot->disk.name, lun,
	       (unsigned long long)(boot->disk.size_bytes >> 20));
}

/* Finds root on it; trouble is said in the error. */
static int volume_pick(struct boot *boot, struct probe_error *error)
{
	int r = disk_probe(&boot->disk, &boot->probe);

	if (r) {
		(void)snprintf(error->text, sizeof(error->text), "%s can't be read: %s",
			       boot->disk.device, strerror(-r));
		return r;
	}
	r = probe_pick(&boot->probe, boot->settings.root, &boot->volume, error);
	if (r)
		return r;
	r = disk_partition_node(&boot->disk, boot->volume->partition, 5000, boot->device,
				sizeof(boot->device));
	if (r)
		(void)snprintf(error->text, sizeof(error->text),
			       "%s does not appear: does the kernel read this partition table?",
			       boot->device);
	return r;
}

static void volume_await(struct boot *boot)
{
	struct probe_error error;

	while (volume_pick(boot, &error))
		trouble(boot, "root not found: %s", error.text);
	trouble_over(boot);
	(void)snprintf(boot->fstype, sizeof(boot->fstype), "%s",
		       boot->settings.rootfstype[0] ? boot->settings.rootfstype
						    : boot->volume->fstype);
}

/* --- root --- */

static int root_prepare(struct boot *boot, struct root_error *error)
{
	int r = root_check(&boot->settings, boot->device, boot->fstype, error);

	if (r == 0)
		r = root_mount(&boot->settings, boot->device, boot->fstype, error);
	if (r == 0)
		r = root_find_init(&boot->settings, boot->init, sizeof(boot->init), error);
	return r;
}

static void root_await(struct boot *boot)
{
	struct root_error error;

	while (root_prepare(boot, &error))
		trouble(boot, "%s", error.text);
	trouble_over(boot);
	(void)file_write(ROOT_MOUNTED_MARK, "");
	say("root is %s, %s \"%s\"%s%s, after %lld.%02lld s", boot->device, boot->fstype,
	    boot->volume->label, boot->settings.read_only == SETTINGS_NO ? "" : ", read-only",
	    boot->settings.overlay_tmpfs ? " below a tmpfs" : "", now_ms() / 1000,
	    now_ms() % 1000 / 10);
	report(REPORT_ROOT, "%s %s", boot->fstype, boot->device);
}

static void boot_run(struct boot *boot, char *argv[])
{
	int r;

	mount_all_pseudo();
	stdio_open();
	console_open();
	report_init();
	say("lunroot-init " LUNROOT_VERSION);
	report(REPORT_START, "lunroot-init " LUNROOT_VERSION);
	randomness_begin();
	(void)file_read("/proc/cmdline", boot->cmdline, sizeof(boot->cmdline));
	settings_read(boot);
	modules_load(boot->cmdline);
	network_up(boot);
	address_await(boot);
	settings_complete(boot);
	hostname_set(boot);
	login_await(boot, argv);
	disk_await(boot);
	volume_await(boot);
	root_await(boot);
	disk_patience_all(&boot->session);
	say("starting %s", boot->init);
	report(REPORT_SWITCH, "%s", boot->init);
	console_unlimit_end();
	settings_done(&boot->settings);
	r = root_switch(boot->init, argv);
	for (;;) {
		/* The first process must not end: the kernel would panic. */
		complain("%s can't be started: %s", boot->init, strerror(-r));
		report(REPORT_WAITING, "%s can't be started: %s", boot->init, strerror(-r));
		report_sleep_ms(10000);
		(void)reboot(RB_AUTOBOOT);
	}
}

/* --- as a step --- */

static void link_make(const char *device, const char *link)
{
	(void)mkdir("/dev/lunroot", 0755);
	(void)unlink(link);
	if (symlink(device, link))
		complain("%s: %s", link, strerror(errno));
}

static int step_run(struct boot *boot, char *argv[])
{
	struct settings_error error;

	boot->is_step = true;
	boot->net.udhcpc_pid = boot->net.udhcpc_fd = -1;
	console_open();
	report_init();
	report(REPORT_START, "lunroot-init " LUNROOT_VERSION);
	(void)file_read("/proc/cmdline", boot->cmdline, sizeof(boot->cmdline));
	if (take_boot_settings(boot, &error)) {
		complain("%s", error.text);
		return 1;
	}
	(void)report_where(boot);
	settings_complete(boot);
	login_await(boot, argv);
	disk_await(boot);
	link_make(boot->disk.device, "/dev/lunroot/disk");
	volume_await(boot);
	link_make(boot->device, "/dev/lunroot/root");
	report(REPORT_ROOT, "%s %s", boot->fstype, boot->device);
	disk_patience_all(&boot->session);
	console_unlimit_end();
	return 0;
}

static int usage(void)
{
	(void)fputs("usage: lunroot-init login [--root-path STRING] [--dhcp-server ADDRESS]\n"
		    "or as /init of an initramfs; see lunroot-init(8)\n",
		    stderr);
	return 2;
}

int main(int argc, char *argv[])
{
	static struct boot boot;

	boot.begun_ms = now_ms();
	boot.dhcp_server = "";
	if (argc >= 2 && strcmp(argv[1], "--version") == 0 && getpid() != 1) {
		(void)puts("lunroot-init " LUNROOT_VERSION);
		return 0;
	}
	if (getpid() == 1) {
		boot_run(&boot, argv);
		return 1;
	}
	if (argc < 2 || strcmp(argv[1], "login") != 0)
		return usage();
	for (int i = 2; i < argc; i += 2) {
		if (i + 1 == argc)
			return usage();
		if (strcmp(argv[i], "--root-path") == 0)
			boot.root_path = argv[i + 1];
		else if (strcmp(argv[i], "--dhcp-server") == 0)
			boot.dhcp_server = argv[i + 1];
		else
			return usage();
	}
	return step_run(&boot, argv);
}
