/*
 * The lease file, and the hand-over of the lease to the real system.
 */
#include "initramfs/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/console.h"

#define DHCP_CLIENT_PORT 68
#define INODE_WORD       9  /* in a line of /proc/net/udp */
#define DESCRIPTORS_MAX  64 /* udhcpc has a handful */
/* A system that has no DHCP client a quarter of an hour after it came up has none. */
#define WATCH_FOR_MS (15 * 60 * 1000)

/* --- the file --- */

static void take_line(struct lease *lease, const char *line, size_t bytes)
{
	const struct {
		const char *key;
		char *value;
		size_t bytes;
	} fields[] = {
		{"interface=", lease->interface, sizeof(lease->interface)},
		{"ip=", lease->ip, sizeof(lease->ip)},
		{"router=", lease->router, sizeof(lease->router)},
		{"serverid=", lease->server, sizeof(lease->server)},
		{"hostname=", lease->hostname, sizeof(lease->hostname)},
		{"rootpath=", lease->root_path, sizeof(lease->root_path)},
	};

	for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
		size_t key_bytes = strlen(fields[i].key);

		if (bytes < key_bytes || memcmp(line, fields[i].key, key_bytes) != 0 ||
		    bytes - key_bytes >= fields[i].bytes)
			continue;
		memcpy(fields[i].value, line + key_bytes, bytes - key_bytes);
		fields[i].value[bytes - key_bytes] = '\0';
	}
}

void lease_parse(const char *text, size_t bytes, struct lease *ret_lease)
{
	*ret_lease = (struct lease){0};
	while (bytes > 0) {
		const char *end = memchr(text, '\n', bytes);
		size_t line_bytes = end ? (size_t)(end - text) : bytes;

		take_line(ret_lease, text, line_bytes);
		if (!end)
			break;
		bytes -= line_bytes + 1;
		text = end + 1;
	}
}

int lease_read(struct lease *ret_lease)
{
	int AUTO_CLOSE fd = open(LEASE_FILE, O_RDONLY | O_CLOEXEC);
	char text[4096];
	ssize_t bytes;

	if (fd < 0)
		return -errno;
	bytes = read(fd, text, sizeof(text));
	if (bytes < 0)
		return -errno;
	lease_parse(text, (size_t)bytes, ret_lease);
	return 0;
}

/* --- who has the port --- */

void lease_watch_init(struct lease_watch *watch, int udhcpc_pid, int udhcpc_fd)
{
	*watch = (struct lease_watch){.udhcpc_pid = udhcpc_pid, .udhcpc_fd = udhcpc_fd};
	watch->proc_fd = udhcpc_fd < 0 ? -1 : open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	watch->until_ms = now_ms() + WATCH_FOR_MS;
}

bool lease_watch_due(const struct lease_watch *watch)
{
	return watch->udhcpc_fd >= 0 && watch->proc_fd >= 0 && now_ms() < watch->until_ms;
}

/* Whether one of udhcpc's descriptors is that socket: it has the port itself while it renews. */
static bool is_of_udhcpc(const struct lease_watch *watch, unsigned long inode)
{
	char wanted[40];

	(void)snprintf(wanted, sizeof(wanted), "socket:[%lu]", inode);
	for (int i = 0; i < DESCRIPTORS_MAX; i++) {
		char path[40], link[64];
		ssize_t bytes;

		(void)snprintf(path, sizeof(path), "%d/fd/%d", watch->udhcpc_pid, i);
		bytes = readlinkat(watch->proc_fd, path, link, sizeof(link) - 1);
		if (bytes < 0)
			continue;
		link[bytes] = '\0';
		if (strcmp(link, wanted) == 0)
			return true;
	}
	return false;
}

/*
 * A line of /proc/net/udp: "sl: ADDRESS:PORT ADDRESS:PORT st queues timer retrnsmt uid timeout
 * inode
 * ...", with hexadecimal ports.
 */
static bool line_is_client(char *line, unsigned long *ret_inode)
{
	char *save = NULL, *word = strtok_r(line, " \n", &save);
	const char *colon = NULL;

	for (int i = 0; word && i < INODE_WORD; i++) {
		word = strtok_r(NULL, " \n", &save);
		if (i == 0 && word)
			colon = strchr(word, ':');
	}
	if (!word || !colon || strtoul(colon + 1, NULL, 16) != DHCP_CLIENT_PORT)
		return false;
	*ret_inode = strtoul(word, NULL, 10);
	return true;
}

static bool another_client(const struct lease_watch *watch)
{
	/* The calling process's own network, which is the machine's. */
	int fd = openat(watch->proc_fd, "self/net/udp", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "re");
	char line[256];
	bool found = false;

	if (!file) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while (!found && fgets(line, sizeof(line), file)) {
		unsigned long inode;

		found = line_is_client(line, &inode) && !is_of_udhcpc(watch, inode);
	}
	(void)fclose(file);
	return found;
}

void lease_watch_look(struct lease_watch *watch)
{
	if (watch->udhcpc_fd < 0 || watch->proc_fd < 0 || !another_client(watch))
		return;
	say("the system has a DHCP client of its own: ours ends");
	(void)syscall(SYS_pidfd_send_signal, watch->udhcpc_fd, SIGTERM, NULL, 0);
	close(watch->udhcpc_fd);
	watch->udhcpc_fd = -1;
}
