/*
 * Looks at this machine for doctor.c: the daemon's answers, /proc, interfaces, a file system.
 * Whatever can't be looked at stays empty; doctor.c knows what that means.
 */
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/http_client.h"
#include "doctor.h"
#include "output.h"

#define ELF_HEAD_BYTES 64
#define ELF_AARCH64    183
#define INODES_MAX     DOCTOR_SOCKETS

/* --- the daemon --- */

/* NULL: nothing, with errno in *ret_error if nobody answers. */
static json_t *fetch(const struct request *request, const char *target, int *ret_error)
{
	char *AUTO_FREE reply = NULL;
	char why[HTTP_WHY_BYTES];
	size_t bytes = 0;
	int status = 0, error = 0;
	json_t *answer;

	switch (http_client_call(request->socket_path, "GET", target, NULL, HTTP_SILENCE_MS,
				 &status, &reply, &bytes, &error, why)) {
	case HTTP_UNREACHABLE: *ret_error = error; return NULL;
	case HTTP_SILENT: *ret_error = ETIMEDOUT; return NULL;
	case HTTP_STOPPED:
	case HTTP_BROKEN: *ret_error = EPROTO; return NULL;
	case HTTP_ANSWERED: break;
	}
	answer = status == 200 ? json_loadb(reply, bytes, 0, NULL) : NULL;
	if (json_is_object(answer))
		return answer;
	json_decref(answer);
	return NULL;
}

static void gather_daemon(const struct request *request, struct doctor_facts *facts)
{
	json_t *bootd;
	int ignored = 0;

	facts->socket_path = request->socket_path;
	facts->version = fetch(request, "/v1/version", &facts->unreachable);
	if (!facts->version) {
		facts->unreachable = facts->unreachable ? facts->unreachable : EPROTO;
		return;
	}
	facts->health = fetch(request, "/v1/health", &ignored);
	bootd = fetch(request, "/v1/bootd", &ignored);
	facts->bootd = json_incref(json_object_get(bootd, "bootd"));
	json_decref(bootd);
}

/* --- the state directory --- */

static void gather_state(struct doctor_facts *facts)
{
	/* As statfs(2) and linux/magic.h name them. */
	static const struct {
		unsigned long magic;
		const char *name;
	} known[] = {
		{0xef53, "ext4"},      {0x58465342, "xfs"},  {0x9123683e, "btrfs"},
		{0x2fc12fc1, "zfs"},   {0xf2f52010, "f2fs"}, {0xca451a4e, "bcachefs"},
		{0x01021994, "tmpfs"}, {0x6969, "nfs"},      {0xff534d42, "cifs"},
		{0xfe534d42, "cifs"},  {0x65735546, "fuse"}, {0x4d44, "vfat"},
		{0x2011bab0, "exfat"},
	};
	const char *dir = get_text(facts->version, "state_dir");
	struct statfs fs;

	if (!dir[0] || statfs(dir, &fs) < 0)
		return;
	(void)snprintf(facts->state_fs, sizeof(facts->state_fs), "type %lx",
		       (unsigned long)fs.f_type & 0xfffffffful);
	for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
		if (known[i].magic == ((unsigned long)fs.f_type & 0xfffffffful))
			(void)snprintf(facts->state_fs, sizeof(facts->state_fs), "%s",
				       known[i].name);
	}
}

/* --- interfaces --- */

/* /sys may be of another network namespace, so only for what the kernel tells nowhere else. */
static bool is_wireless(const char *interface)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "/sys/class/net/%s/phy80211", interface);
	return access(path, F_OK) == 0;
}

/* What its driver says; nothing if there is none that talks. */
static void ask_driver(struct doctor_interface *i)
{
	struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
	struct ethtool_cmd settings = {.cmd = ETHTOOL_GSET};
	struct ifreq ifr = {0};
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(i->name) >= sizeof(ifr.ifr_name))
		return;
	memcpy(ifr.ifr_name, i->name, strlen(i->name));
	ifr.ifr_data = (char *)&driver;
	if (ioctl(fd, SIOCETHTOOL, &ifr) == 0)
		i->is_virtual |= strcmp(driver.driver, "tun") == 0;
	ifr.ifr_data = (char *)&settings;
	if (ioctl(fd, SIOCETHTOOL, &ifr) == 0 && ethtool_cmd_speed(&settings) < INT_MAX)
		i->speed_mbit = (int)ethtool_cmd_speed(&settings);
}

static struct doctor_interface *interface_find(struct doctor_facts *facts, const char *name)
{
	/* Containers' and virtual machines' own networks are no Pi's. */
	static const char *const inner[] = {"docker", "virbr", "lxcbr", "lxdbr", "cni", "br-"};
	struct doctor_interface *i;

	for (unsigned k = 0; k < facts->interface_count; k++) {
		if (strcmp(facts->interfaces[k].name, name) == 0)
			return &facts->interfaces[k];
	}
	if (facts->interface_count == DOCTOR_INTERFACES)
		return NULL;
	i = &facts->interfaces[facts->interface_count++];
	(void)snprintf(i->name, sizeof(i->name), "%s", name);
	i->speed_mbit = -1;
	i->wireless = is_wireless(name);
	for (size_t k = 0; k < ARRAY_COUNT(inner); k++)
		i->is_virtual |= strncmp(name, inner[k], strlen(inner[k])) == 0;
	ask_driver(i);
	return i;
}

static void gather_interfaces(struct doctor_facts *facts)
{
	struct ifaddrs *list = NULL;

	if (getifaddrs(&list) < 0)
		return;
	for (const struct ifaddrs *a = list; a; a = a->ifa_next) {
		struct doctor_interface *i = interface_find(facts, a->ifa_name);

		if (!i)
			break;
		i->up = (a->ifa_flags & IFF_UP) != 0;
		i->carrier = (a->ifa_flags & IFF_RUNNING) != 0;
		i->loopback = (a->ifa_flags & IFF_LOOPBACK) != 0;
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET && !i->address[0])
			(void)getnameinfo(a->ifa_addr, sizeof(struct sockaddr_in), i->address,
					  sizeof(i->address), NULL, 0, NI_NUMERICHOST);
	}
	freeifaddrs(list);
}

/* --- ports --- */

struct inode_port {
	unsigned long inode;
	unsigned port;
};

/* sl local remote st tx:rx tr:when retrnsmt uid timeout inode ...; false: another line. */
static bool parse_udp(char *line, struct inode_port *ret_found)
{
	enum { LOCAL = 1, INODE = 9 };
	char *save = NULL, *word = strtok_r(line, " ", &save), *colon;

	for (unsigned i = 0; word && i <= INODE; i++) {
		if (i == LOCAL) {
			colon = strrchr(word, ':');
			if (!colon)
				return false;
			ret_found->port = (unsigned)strtoul(colon + 1, NULL, 16);
		} else if (i == INODE) {
			ret_found->inode = strtoul(word, NULL, 10);
			return ret_found->inode > 0;
		}
		word = strtok_r(NULL, " ", &save);
	}
	return false;
}

/* Sockets of our ports in /proc/net/udp or udp6. */
static unsigned read_udp(const char *path, struct inode_port *found, unsigned count)
{
	char line[256];
	FILE *in = fopen(path, "re");

	while (in && fgets(line, sizeof(line), in) && count < INODES_MAX) {
		struct inode_port it;

		if (parse_udp(line, &it) && (it.port == 67 || it.port == 69 || it.port == 6666))
			found[count++] = it;
	}
	if (in)
		(void)fclose(in);
	return count;
}

static void read_name(const char *pid, char *to, size_t bytes)
{
	char path[64];
	FILE *in;

	to[0] = '\0';
	(void)snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	in = fopen(path, "re");
	if (!in)
		return;
	if (!fgets(to, (int)bytes, in))
		to[0] = '\0';
	to[strcspn(to, "\n")] = '\0';
	(void)fclose(in);
}

/* Whose of them this process has. */
static void match_process(struct doctor_facts *facts, const char *pid,
			  const struct inode_port *found, unsigned count)
{
	char path[64], link[PATH_MAX], target[64];
	const struct dirent *entry;
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		unsigned long inode;
		ssize_t n;

		(void)snprintf(link, sizeof(link), "%s/%s", path, entry->d_name);
		n = readlink(link, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (strncmp(target, "socket:[", 8) != 0)
			continue;
		inode = strtoul(target + 8, NULL, 10);
		for (unsigned i = 0; i < count; i++) {
			struct doctor_socket *s = &facts->sockets[i];

			if (found[i].inode != inode)
				continue;
			s->pid = (int)strtol(pid, NULL, 10);
			read_name(pid, s->owner, sizeof(s->owner));
		}
	}
	if (dir)
		(void)closedir(dir);
}

static void gather_ports(struct doctor_facts *facts)
{
	struct inode_port found[INODES_MAX];
	unsigned count = read_udp("/proc/net/udp", found, 0);
	const struct dirent *entry;
	DIR *dir;

	count = read_udp("/proc/net/udp6", found, count);
	facts->socket_count = count;
	for (unsigned i = 0; i < count; i++)
		facts->sockets[i].port = found[i].port;
	if (count == 0)
		return;
	dir = opendir("/proc");
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
			match_process(facts, entry->d_name, found, count);
	}
	if (dir)
		(void)closedir(dir);
}

/* --- programs for the Pi --- */

static bool is_arm64(const char *path)
{
	unsigned char head[ELF_HEAD_BYTES] = {0};
	FILE *in = fopen(path, "re");
	size_t n = in ? fread(head, 1, sizeof(head), in) : 0;

	if (in)
		(void)fclose(in);
	return n == sizeof(head) && memcmp(head, "\177ELF", 4) == 0 &&
	       (head[18] | head[19] << 8) == ELF_AARCH64;
}

/* Of the files named as seen from the tool's folder, one for 64-bit Pis; else nothing changes. */
static void look_beside(const char *tool, const char *const names[], size_t count, char *ret_path,
			size_t bytes)
{
	const char *slash = strrchr(tool, '/');
	char path[PATH_MAX + 64];

	for (size_t i = 0; slash && i < count; i++) {
		(void)snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - tool), tool, names[i]);
		if (is_arm64(path))
			(void)snprintf(ret_path, bytes, "%s", path);
	}
}

/* As mkinitramfs does it. */
static void gather_programs(struct doctor_facts *facts)
{
	static const char *const inits[] = {"lunroot-init-arm64",
					    "../build/init-arm64/lunroot-init",
					    "../build/boot-programs/lunroot-init-arm64"};
	static const char *const busyboxes[] = {"/usr/bin/busybox", "/bin/busybox"};
	static const char *const got[] = {"busybox-arm64", "../build/boot-programs/busybox-arm64"};
	char tool[PATH_MAX];

	if (mkinitramfs_path(tool, sizeof(tool))) {
		look_beside(tool, inits, ARRAY_COUNT(inits), facts->init, sizeof(facts->init));
		look_beside(tool, got, ARRAY_COUNT(got), facts->busybox, sizeof(facts->busybox));
	}
	for (size_t i = 0; i < ARRAY_COUNT(busyboxes); i++) {
		if (is_arm64(busyboxes[i]))
			(void)snprintf(facts->busybox, sizeof(facts->busybox), "%s", busyboxes[i]);
	}
}

/* --- all of it --- */

static void gather_dhcp(struct doctor_facts *facts)
{
	for (unsigned i = 0; i < facts->interface_count; i++) {
		const struct doctor_interface *interface = &facts->interfaces[i];

		if (doctor_is_asked(facts, interface) && interface->carrier)
			facts->asked_dhcp |= doctor_ask_dhcp(facts, interface);
	}
}

void doctor_gather(const struct request *request, struct doctor_facts *facts)
{
	*facts = (struct doctor_facts){
		.now_ms = (int64_t)time(NULL) * 1000,
		.is_root = geteuid() == 0,
	};
	gather_daemon(request, facts);
	gather_state(facts);
	gather_interfaces(facts);
	gather_ports(facts);
	gather_programs(facts);
	if (facts->is_root)
		gather_dhcp(facts);
}

void doctor_done(struct doctor_facts *facts)
{
	json_decref(facts->version);
	json_decref(facts->health);
	json_decref(facts->bootd);
}
