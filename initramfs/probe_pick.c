/*
 * Picking root among what was found. Whatever is not certain is refused, with a list of what is
 * there.
 */
#include "initramfs/probe.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

static bool can_be_root(const struct probe_volume *volume)
{
	static const char *const types[] = {"ext2", "ext3", "ext4",     "btrfs",
					    "xfs",  "f2fs", "squashfs", "erofs"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strcmp(volume->fstype, types[i]) == 0)
			return true;
	}
	return false;
}

/* What `root` asks for. */
struct wish {
	enum { WISH_ANY, WISH_LABEL, WISH_UUID, WISH_PARTUUID, WISH_PARTLABEL, WISH_PART } kind;
	char text[257];
	unsigned partition;
};

static const struct {
	const char *prefix;
	int kind;
	bool encoded; /* by udev: \x20 is a blank */
} wishes[] = {
	{"LABEL=", WISH_LABEL, false},
	{"UUID=", WISH_UUID, false},
	{"PARTUUID=", WISH_PARTUUID, false},
	{"PARTLABEL=", WISH_PARTLABEL, false},
	{"/dev/disk/by-label/", WISH_LABEL, true},
	{"/dev/disk/by-uuid/", WISH_UUID, true},
	{"/dev/disk/by-partuuid/", WISH_PARTUUID, true},
	{"/dev/disk/by-partlabel/", WISH_PARTLABEL, true},
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool digits_parse(const char *text, unsigned *ret_number)
{
	unsigned number = 0;

	if (!is_digit(*text) || strlen(text) > 3)
		return false;
	for (; *text; text++) {
		if (!is_digit(*text))
			return false;
		number = number * 10 + (unsigned)(*text - '0');
	}
	*ret_number = number;
	return true;
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The value of a tag, without its quotes or udev's escapes. */
static bool tag_parse(const char *value, bool encoded, char ret_text[257])
{
	size_t bytes = strlen(value), n = 0;

	if (!encoded && bytes >= 2 && (value[0] == '"' || value[0] == '\'') &&
	    value[bytes - 1] == value[0]) {
		value++;
		bytes -= 2;
	}
	if (bytes == 0 || bytes > 256)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		int high = -1, low = -1;

		if (encoded && bytes - i >= 4 && value[i] == '\\' && value[i + 1] == 'x') {
			high = hex_digit(value[i + 2]);
			low = high < 0 ? -1 : hex_digit(value[i + 3]);
		}
		if (low >= 0 && (high | low) != 0) {
			ret_text[n++] = (char)(high << 4 | low);
			i += 3;
		} else {
			ret_text[n++] = value[i];
		}
	}
	ret_text[n] = '\0';
	return true;
}

/*
 * The number at the end of a disk's device name, 0 if there is none: sda2, vda2; behind a name
 * that ends with a digit after a p: mmcblk0p2, nvme0n1p2. Other devices are no disks of ours.
 */
static bool device_parse(const char *name, unsigned *ret_partition)
{
	static const char *const lettered[] = {"sd", "vd", "hd", "xvd"};
	static const char *const numbered[] = {"mmcblk", "nvme", "nbd", "loop"};

	*ret_partition = 0;
	for (size_t i = 0; i < sizeof(lettered) / sizeof(lettered[0]); i++) {
		const char *at = name + strlen(lettered[i]);

		if (strncmp(name, lettered[i], strlen(lettered[i])) != 0)
			continue;
		if (*at < 'a' || *at > 'z')
			return false;
		while (*at >= 'a' && *at <= 'z')
			at++;
		return *at == '\0' || (*at != '0' && digits_parse(at, ret_partition));
	}
	for (size_t i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++) {
		const char *at = name + strlen(numbered[i]);

		if (strncmp(name, numbered[i], strlen(numbered[i])) != 0)
			continue;
		if (!is_digit(*at))
			return false;
		at += strspn(at, "0123456789");
		if (i == 1) {
			if (at[0] != 'n' || !is_digit(at[1]))
				return false;
			at += 1 + strspn(at + 1, "0123456789");
		}
		return *at == '\0' ||
		       (at[0] == 'p' && at[1] != '0' && digits_parse(at + 1, ret_partition));
	}
	return false;
}

static bool wish_parse(const char *root, struct wish *ret_wish)
{
	memset(ret_wish, 0, sizeof(*ret_wish));
	if (*root == '\0')
		return true;
	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		size_t bytes = strlen(wishes[i].prefix);

		if (strncmp(root, wishes[i].prefix, bytes) == 0) {
			ret_wish->kind = wishes[i].kind;
			return tag_parse(root + bytes, wishes[i].encoded, ret_wish->text);
		}
	}
	ret_wish->kind = WISH_PART;
	if (strncmp(root, "PART=", 5) == 0)
		return digits_parse(root + 5, &ret_wish->partition);
	return strncmp(root, "/dev/", 5) == 0 && device_parse(root + 5, &ret_wish->partition);
}

static bool wish_fits(const struct wish *wish, const struct probe_volume *volume)
{
	switch (wish->kind) {
	case WISH_ANY: return can_be_root(volume);
	case WISH_LABEL: return strcmp(volume->label, wish->text) == 0;
	case WISH_UUID: return strcasecmp(volume->uuid, wish->text) == 0;
	case WISH_PARTUUID: return strcasecmp(volume->partuuid, wish->text) == 0;
	case WISH_PARTLABEL: return strcmp(volume->partlabel, wish->text) == 0;
	case WISH_PART: return volume->partition == wish->partition;
	}
	return false;
}

/* --- what is there, in words --- */

/* Appends as much as fits, whole or not at all; false when the room is used up. */
static bool say(struct probe_error *error, const char *text)
{
	size_t used = strlen(error->text), bytes = strlen(text);

	if (bytes >= sizeof(error->text) - used - sizeof(", ..."))
		return false;
	memcpy(error->text + used, text, bytes + 1);
	return true;
}

static void say_volumes(struct probe_error *error, const struct probe_disk *disk)
{
	for (unsigned i = 0; i < disk->count; i++) {
		const struct probe_volume *volume = &disk->volumes[i];
		const char *label = *volume->label ? volume->label : volume->partlabel;
		size_t cut = utf8_cut(label, strlen(label), 32);
		char number[16], text[96];

		(void)snprintf(number, sizeof(number), "PART=%u", volume->partition);
		(void)snprintf(text, sizeof(text), "%s%s %s%s%.*s%s", i ? ", " : "", number,
			       *volume->fstype ? volume->fstype : "unknown", *label ? " \"" : "",
			       (int)cut, label, *label ? "\"" : "");
		if (!say(error, text)) {
			memcpy(error->text + strlen(error->text), ", ...", sizeof(", ..."));
			return;
		}
	}
}

static int pick_fail(struct probe_error *ret_error, const struct probe_disk *disk, const char *root,
		     int res)
{
	size_t bytes = strlen(root), cut = utf8_cut(root, bytes, 64);

	if (!utf8_clean(root, cut))
		root = "(no text)", cut = strlen(root);
	(void)snprintf(ret_error->text, sizeof(ret_error->text), "root=%.*s: %s", (int)cut, root,
		       res == -EINVAL ? "LABEL=, UUID=, PARTUUID=, PARTLABEL=, PART=NUMBER or a "
					"disk's /dev name is wanted"
		       : res == -ENOTUNIQ ? "several file systems fit, and root= must name one: "
		       : *root            ? "the disk has none: "
					  : "the disk has no file system that can be root: ");
	if (res == -EINVAL)
		return res;
	if (disk->count == 0)
		(void)say(ret_error, "it is empty or has no file system that is known");
	say_volumes(ret_error, disk);
	return res;
}

int probe_pick(const struct probe_disk *disk, const char *root,
	       const struct probe_volume **ret_volume, struct probe_error *ret_error)
{
	const struct probe_volume *picked = NULL;
	struct wish wish;

	if (!wish_parse(root, &wish))
		return pick_fail(ret_error, disk, root, -EINVAL);
	for (unsigned i = 0; i < disk->count; i++) {
		if (!wish_fits(&wish, &disk->volumes[i]))
			continue;
		if (picked)
			return pick_fail(ret_error, disk, root, -ENOTUNIQ);
		picked = &disk->volumes[i];
	}
	if (!picked)
		return pick_fail(ret_error, disk, root, -ENOENT);
	*ret_volume = picked;
	return 0;
}
