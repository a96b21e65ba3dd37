/*
 * sysfs from the session down to the device node.
 */
#include "initramfs/disk.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <linux/fs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "initramfs/console.h"
#include "initramfs/run.h"

#define LOOK_MS 20
/*
 * How long a command may take before Linux looks after it: a slow network with a full queue takes
 * minutes. A connection that is dead is found by pings, not by this.
 */
#define COMMAND_TIMEOUT_S "600"
/*
 * A command is repeated without end when the connection was lost under it, or the target was busy
 * because its disk is full. By itself Linux gives up after five times, and a target that restarts
 * in a loop would end in an I/O error. What the target reports as an error is still one.
 */
#define MAX_RETRIES "-1"

/* --- finding it --- */

static int scan(uint32_t host, const char *what)
{
	char path[64];
	int r;

	(void)snprintf(path, sizeof(path), "/sys/class/scsi_host/host%u/scan", host);
	r = file_write(path, what);
	if (r)
		complain("%s: %s", path, strerror(-r));
	return r;
}

/* The first entry of a folder whose name begins with `start`; false if there is none. */
static bool entry_find(const char *folder, const char *start, char *ret_name, size_t bytes)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	bool found = false;

	while (dir && !found && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || strncmp(entry->d_name, start, strlen(start)) != 0 ||
		    strlen(entry->d_name) >= bytes)
			continue;
		(void)snprintf(ret_name, bytes, "%s", entry->d_name);
		found = true;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The SCSI device of that LUN below the session: its folder in sysfs. */
static bool device_find(const struct keeper_session *session, uint16_t lun, char *ret_path,
			size_t bytes)
{
	char folder[96], target[32];

	(void)snprintf(folder, sizeof(folder), "/sys/class/iscsi_session/session%u/device",
		       session->sid);
	if (!entry_find(folder, "target", target, sizeof(target)))
		return false;
	/* target2:0:0 has 2:0:0:LUN. */
	(void)snprintf(ret_path, bytes, "%s/%s/%s:%u", folder, target, target + strlen("target"),
		       lun);
	return file_exists(ret_path);
}

static void size_read(struct disk *disk)
{
	char path[80], text[32];

	(void)snprintf(path, sizeof(path), "/sys/class/block/%s/size", disk->name);
	file_read_word(path, text, sizeof(text));
	disk->size_bytes = strtoull(text, NULL, 10) * 512;
}

/*
 * The kernel makes the node of a disk or a partition a moment before it can be opened. Any other
 * error is said where the node is read or mounted.
 */
static bool node_ready(const char *path)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 || (errno != ENOENT && errno != ENXIO);
}

/* sd reads the capacity by itself, after the scan has returned. */
static bool block_find(const char *device, struct disk *disk)
{
	char folder[160];

	(void)snprintf(folder, sizeof(folder), "%s/block", device);
	if (!entry_find(folder, "sd", disk->name, sizeof(disk->name)))
		return false;
	(void)snprintf(disk->device, sizeof(disk->device), "/dev/%s", disk->name);
	size_read(disk);
	return disk->size_bytes > 0 && node_ready(disk->device);
}

/* Kernels before 5.10 do not know max_retries, and have their five. */
static void patience_set(const char *device)
{
	char path[256], address[32];

	(void)snprintf(path, sizeof(path), "%s/timeout", device);
	(void)file_write(path, COMMAND_TIMEOUT_S "\n");
	(void)snprintf(path, sizeof(path), "%s/scsi_disk", device);
	if (!entry_find(path, "", address, sizeof(address)))
		return;
	(void)snprintf(path, sizeof(path), "%s/scsi_disk/%s/max_retries", device, address);
	(void)file_write(path, MAX_RETRIES "\n");
}

void disk_patience_all(const struct keeper_session *session)
{
	char folder[96], target[32], devices[136];
	const struct dirent *entry;
	DIR *dir;

	(void)snprintf(folder, sizeof(folder), "/sys/class/iscsi_session/session%u/device",
		       session->sid);
	if (!entry_find(folder, "target", target, sizeof(target)))
		return;
	(void)snprintf(devices, sizeof(devices), "%s/%s", folder, target);
	dir = opendir(devices);
	while (dir && (entry = readdir(dir))) {
		char device[224];

		/* H:C:T:L, as the target's own name goes on. */
		if (strncmp(entry->d_name, target + strlen("target"),
			    strlen(target) - strlen("target")) != 0)
			continue;
		if ((size_t)snprintf(device, sizeof(device), "%s/%s", devices, entry->d_name) <
		    sizeof(device))
			patience_set(device);
	}
	if (dir)
		closedir(dir);
}

int disk_find(const struct keeper_session *session, uint16_t lun, int timeout_ms,
	      struct disk *ret_disk)
{
	char what[24], device[128];
	long long until_ms = now_ms() + timeout_ms;
	int r;

	(void)snprintf(what, sizeof(what), "0 0 %u", lun);
	r = scan(session->host, what);
	if (r)
		return r;
	if (!device_find(session, lun, device, sizeof(device)))
		return -ENODEV;
	while (!block_find(device, ret_disk)) {
		if (now_ms() > until_ms)
			return -ETIMEDOUT;
		sleep_ms(LOOK_MS);
	}
	patience_set(device);
	(void)scan(session->host, "0 0 -");
	return 0;
}

/* --- what is on it --- */

static int read_at(void *arg, void *ret_data, size_t bytes, uint64_t offset)
{
	return pread_all(*(int *)arg, ret_data, bytes, offset);
}

int disk_probe(const struct disk *disk, struct probe_disk *ret_probe)
{
	int AUTO_CLOSE fd = open(disk->device, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	/* A few places far apart: reading ahead would only make it longer. */
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	return probe_disk(read_at, &fd, disk->size_bytes, ret_probe);
}

static void partitions_read_again(const struct disk *disk)
{
	int AUTO_CLOSE fd = open(disk->device, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)ioctl(fd, BLKRRPART);
}

int disk_partition_node(const struct disk *disk, unsigned partition, int timeout_ms, char *ret_path,
			size_t bytes)
{
	long long until_ms = now_ms() + timeout_ms;

	if (partition == 0)
		(void)snprintf(ret_path, bytes, "%s", disk->device);
	else
		(void)snprintf(ret_path, bytes, "%s%u", disk->device, partition);
	while (!node_ready(ret_path)) {
		if (now_ms() > until_ms)
			return -ETIMEDOUT;
		/* Its first look at the table may have ended with a lost connection. */
		if (now_ms() > until_ms - timeout_ms / 2)
			partitions_read_again(disk);
		sleep_ms(LOOK_MS * 5);
	}
	return 0;
}
