/* Over the probing that lunroot-init does. */
#include "boot/partition.h"

#include <errno.h>
#include <string.h>

#include "boot/disk.h"

static int read_disk(void *arg, void *ret_data, size_t bytes, uint64_t offset)
{
	return disk_read(arg, ret_data, bytes, offset);
}

int partition_probe(struct disk *disk, struct probe_disk *ret_volumes, struct boot_error *ret_error)
{
	int res = probe_disk(read_disk, disk, disk_bytes(disk), ret_volumes);

	return res ? boot_fail(ret_error, res, "can't be read: %s", strerror(-res)) : 0;
}

const struct probe_volume *partition_next_fat(const struct probe_disk *volumes,
					      const struct probe_volume *after)
{
	const struct probe_volume *end = volumes->volumes + volumes->count;

	for (const struct probe_volume *at = after ? after + 1 : volumes->volumes; at < end; at++) {
		if (strcmp(at->fstype, "vfat") == 0)
			return at;
	}
	return NULL;
}

int partition_root(const struct probe_disk *volumes, const char *root,
		   const struct probe_volume **ret_volume, struct boot_error *ret_error)
{
	struct probe_error error;
	int res = probe_pick(volumes, root, ret_volume, &error);

	return res ? boot_fail(ret_error, res, "%s", error.text) : 0;
}

bool partition_root_understood(const char *root)
{
	static const struct probe_disk none;
	const struct probe_volume *volume;
	struct probe_error error;

	return probe_pick(&none, root, &volume, &error) != -EINVAL;
}

const char *partition_text(const struct probe_volume *volume, char buffer[PARTITION_TEXT_BYTES])
{
	char place[32] = "the whole disk";

	if (volume->partition > 0)
		(void)snprintf(place, sizeof(place), "partition %u", volume->partition);
	(void)snprintf(buffer, PARTITION_TEXT_BYTES, "%s on %s%s%.64s%s",
		       *volume->fstype ? volume->fstype : "an unknown file system", place,
		       *volume->label ? " (label " : "", volume->label, *volume->label ? ")" : "");
	return buffer;
}
