/*
 * Interfaces by sysfs and the old ioctls; addresses by busybox (udhcpc, ip).
 */
#include "initramfs/net.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/console.h"
#include "initramfs/run.h"

#define BUSYBOX      "/bin/busybox"
#define DHCP_SCRIPT  "/etc/lunroot/dhcp"
#define LOOK_MS      50
#define ARPHRD_ETHER "1"

/* --- interfaces --- */

static void sysfs_word(const char *interface, const char *what, char *ret_text, size_t bytes)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "/sys/class/net/%.15s/%s", interface, what);
	file_read_word(path, ret_text, bytes);
}

static bool sysfs_has(const char *interface, const char *what)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "/sys/class/net/%.15s/%s", interface, what);
	return file_exists(path);
}

/* Hardware, Ethernet, no radio: bridges and tunnels of the kernel's own have no device. */
static bool is_wired(const char *interface)
{
	char type[8];

	sysfs_word(interface, "type", type, sizeof(type));
	return strcmp(type, ARPHRD_ETHER) == 0 && sysfs_has(interface, "device") &&
	       !sysfs_has(interface, "wireless") && !sysfs_has(interface, "phy80211");
}

static bool has_carrier(const char *interface)
{
	char carrier[8];

	sysfs_word(interface, "carrier", carrier, sizeof(carrier));
	return strcmp(carrier, "1") == 0;
}

static int interface_up(const char *interface)
{
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {0};

	if (fd < 0)
		return -errno;
	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%.15s", interface);
	if (ioctl(fd, SIOCGIFFLAGS, &request))
		return -errno;
	if (request.ifr_flags & IFF_UP)
		return 0;
	request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
	return ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
}

void net_address(const struct net *net, char *ret_text, size_t bytes)
{
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {0};
	struct sockaddr_in address;

	ret_text[0] = '\0';
	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%.15s", net->interface);
	if (fd < 0 || ioctl(fd, SIOCGIFADDR, &request))
		return;
	memcpy(&address, &request.ifr_addr, sizeof(address));
	(void)inet_ntop(AF_INET, &address.sin_addr, ret_text, (socklen_t)bytes);
}

/* One look at all of them: brings them up, takes the first that has a carrier. */
static bool look(struct net *net, const char *wanted, char *ret_seen, size_t bytes)
{
	DIR *dir = opendir("/sys/class/net");
	const struct dirent *entry;

	ret_seen[0] = '\0';
	while (dir && (entry = readdir(dir))) {
		if (wanted[0] ? strcmp(entry->d_name, wanted) != 0 : !is_wired(entry->d_name))
			continue;
		if (strlen(entry->d_name) >= sizeof(net->interface))
			continue;
		(void)snprintf(ret_seen, bytes, "%s", entry->d_name);
		if (interface_up(entry->d_name) == 0 && has_carrier(entry->d_name)) {
			(void)snprintf(net->interface, sizeof(net->interface), "%.15s",
				       entry->d_name);
			break;
		}
	}
	if (dir)
		closedir(dir);
	return net->interface[0] != '\0';
}

int net_wait_carrier(struct net *net, const char *interface, int timeout_ms)
{
	long long begun_ms = now_ms();
	struct complaint complaint = {{0}, 0};
	char seen[32];

	net->interface[0] = '\0';
	(void)interface_up("lo");
	while (!look(net, interface, seen, sizeof(seen))) {
		long long waited_ms = now_ms() - begun_ms;

		if (waited_ms > timeout_ms)
			return -ETIMEDOUT;
		/* A link takes two or three seconds to come up; silence until then. */
		if (waited_ms > 5000 && seen[0])
			complain_again(&complaint,
				       "%s: no carrier: is the cable plugged in, is the switch on?",
				       seen);
		else if (waited_ms > 5000)
			complain_again(&complaint,
				       "no wired network interface%s%s: is its module in the "
				       "initramfs?",
				       interface[0] ? " called " : "", interface);
		sleep_ms(LOOK_MS);
	}
	return 0;
}

/* --- addresses --- */

static int ip(char *const argv[])
{
	int status = program_run(argv);

	if (status == 0)
		return 0;
	complain("%s %s %s: status %d", argv[0], argv[1], argv[2], status);
	return status < 0 ? status : -EIO;
}

static int set_address(const struct net *net, const struct ip_setting *setting)
{
	char address[24], resolv[80];
	char *add[] = {BUSYBOX,   "ip",    "addr",
		       "replace", address, "brd",
		       "+",       "dev",   (char *)net->interface,
		       NULL};
	char *route[] = {
		BUSYBOX, "ip", "route", "replace", "default", "via", (char *)setting->gateway,
		NULL};
	int r;

	(void)snprintf(address, sizeof(address), "%s/%u", setting->address, setting->prefix);
	r = ip(add);
	if (r == 0 && setting->gateway[0])
		r = ip(route);
	if (setting->dns[0][0]) {
		(void)snprintf(resolv, sizeof(resolv), "nameserver %s\n%s%s%s", setting->dns[0],
			       setting->dns[1][0] ? "nameserver " : "", setting->dns[1],
			       setting->dns[1][0] ? "\n" : "");
		(void)file_write("/etc/resolv.conf", resolv);
	}
	if (r == 0)
		say("%s: %s, as the command line says", net->interface, address);
	return r;
}

/* For ever, at its own pace; it tells by LEASE_FILE. */
static int start_udhcpc(struct net *net, const char *hostname)
{
	char name[80];
	char *argv[] = {BUSYBOX, "udhcpc",    "-f", "-S",       "-i", net->interface,
			"-s",    DHCP_SCRIPT, "-O", "rootpath", "-O", "hostname",
			"-V",    "lunroot",   "-T", "1",        "-t", "8",
			"-A",    "1",         NULL, NULL,       NULL};
	size_t at = 0;

	if (!file_exists(BUSYBOX) || !file_exists(DHCP_SCRIPT)) {
		complain("no DHCP client in the initramfs (%s, %s); ip= on the command line can "
			 "give an address",
			 BUSYBOX, DHCP_SCRIPT);
		return -ENOENT;
	}
	(void)snprintf(name, sizeof(name), "hostname:%s", hostname);
	while (argv[at])
		at++;
	if (hostname[0]) {
		argv[at] = "-x";
		argv[at + 1] = name;
	}
	net->udhcpc_pid = program_start(argv, -1);
	if (net->udhcpc_pid < 0)
		return net->udhcpc_pid;
	net->udhcpc_fd = (int)syscall(SYS_pidfd_open, net->udhcpc_pid, 0);
	return 0;
}

/* What the kernel's own DHCP learnt beside the address. */
static void take_kernel_dns(void)
{
	char text[1024], out[256] = "";
	char *rest = text, *line;
	size_t used = 0;

	if (file_read("/proc/net/pnp", text, sizeof(text)) < 0)
		return;
	while ((line = strsep(&rest, "\n"))) {
		int r;

		if (strncmp(line, "nameserver ", 11) != 0 && strncmp(line, "domain ", 7) != 0)
			continue;
		r = snprintf(out + used, sizeof(out) - used, "%s\n", line);
		if (r < 0 || (size_t)r >= sizeof(out) - used)
			break;
		used += (size_t)r;
	}
	out[used] = '\0';
	(void)file_write("/etc/resolv.conf", out);
}

int net_configure(struct net *net, const struct ip_setting *setting, const char *hostname)
{
	char address[INET_ADDRSTRLEN];

	net->udhcpc_pid = net->udhcpc_fd = -1;
	net_address(net, address, sizeof(address));
	net->configured = address[0] != '\0';
	if (net->configured) {
		say("%s: the kernel has set its address", net->interface);
		take_kernel_dns();
	} else if (setting->address[0]) {
		int r = set_address(net, setting);

		net->configured = r == 0;
		return r;
	}
	if (!setting->dhcp)
		return net->configured ? 0 : -EADDRNOTAVAIL;
	if (!net->configured)
		say("%s: asking for an address (DHCP)", net->interface);
	/* Also for an address that the kernel got: it never renews the lease. */
	return start_udhcpc(net, hostname[0] ? hostname : setting->hostname);
}
