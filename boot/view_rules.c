/*
 * Which files a Pi's boot ROM, bootcode.bin, EEPROM and start.elf ask for, by model. Only those are
 * served: a boot partition may hold passwords of a wireless network and users as well, and TFTP
 * has no secrets.
 */
#include <fnmatch.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "boot/view_internal.h"

#define BIT(model) (1u << (model))
#define OLD        (BIT(PI_3B) | BIT(PI_3B_PLUS) | BIT(PI_OLD_UNKNOWN))
#define OLDEST     BIT(PI_OLD_UNKNOWN)
#define FOUR       (BIT(PI_4) | BIT(PI_NEW_UNKNOWN))
#define FIVE       (BIT(PI_5) | BIT(PI_NEW_UNKNOWN))
#define ALL        (OLD | FOUR | FIVE)

struct rule {
	const char *pattern;
	unsigned models;
};

static const struct rule device_trees[] = {
	{"bcm2708*.dtb", OLDEST}, {"bcm2709*.dtb", OLDEST}, {"bcm2710*.dtb", OLD},
	{"bcm2835*.dtb", OLDEST}, {"bcm2836*.dtb", OLDEST}, {"bcm2837*.dtb", OLD},
	{"bcm2711*.dtb", FOUR},   {"bcm2712*.dtb", FIVE},
};

static const struct rule others[] = {
	{"bootcode.bin", OLD}, {"start.elf", OLD},    {"start_*.elf", OLD},  {"fixup.dat", OLD},
	{"fixup_*.dat", OLD},  {"start4*.elf", FOUR}, {"fixup4*.dat", FOUR}, {"overlays/*", ALL},
	{"armstub*.bin", ALL}, {"dt-blob.bin", ALL},  {"edid*.dat", ALL},
};

/*
 * recovery files start another way of booting; the EEPROM updates itself from pieeprom and vl805
 * files it is shown; autoboot.txt and tryboot.txt name other partitions and files; and no initramfs
 * but ours is needed, so that none is fetched by mistake.
 */
static const char *const hidden[] = {
	"recover*.elf", "recovery*.img", "recovery*.bin", "pieeprom.*", "vl805.*",
	"autoboot.txt", "tryboot.txt",   "initramfs*",    "initrd*",
};

static bool like(const char *pattern, const char *path)
{
	return fnmatch(pattern, path, FNM_CASEFOLD) == 0;
}

static bool rule_holds(const struct rule *rules, size_t count, enum pi_model model,
		       const char *path)
{
	for (size_t i = 0; i < count; i++) {
		if ((rules[i].models & BIT(model)) && like(rules[i].pattern, path))
			return true;
	}
	return false;
}

bool rules_hide(const char *path)
{
	for (size_t i = 0; i < ARRAY_COUNT(hidden); i++) {
		if (like(hidden[i], path))
			return true;
	}
	return false;
}

bool rules_device_tree(enum pi_model model, const char *path)
{
	return rule_holds(device_trees, ARRAY_COUNT(device_trees), model, path);
}

bool rules_wanted(enum pi_model model, const char *path)
{
	return rules_device_tree(model, path) ||
	       rule_holds(others, ARRAY_COUNT(others), model, path);
}

const char *const *rules_kernels(enum pi_model model, int arm_64bit)
{
	static const char *const five[] = {"kernel_2712.img", "kernel8.img", NULL};
	static const char *const wide[] = {"kernel8.img", NULL};
	static const char *const four[] = {"kernel8.img", "kernel7l.img", NULL};
	static const char *const four_narrow[] = {"kernel7l.img", NULL};
	static const char *const three[] = {"kernel7.img", "kernel8.img", NULL};
	static const char *const three_narrow[] = {"kernel7.img", NULL};
	static const char *const oldest[] = {"kernel7.img", "kernel8.img", "kernel.img", NULL};
	static const char *const any[] = {"vmlinuz", "kernel8.img", "kernel.img", NULL};

	switch (model) {
	case PI_5: return five;
	case PI_4:
	case PI_NEW_UNKNOWN: return arm_64bit == 1 ? wide : arm_64bit == 0 ? four_narrow : four;
	case PI_3B:
	case PI_3B_PLUS: return arm_64bit == 1 ? wide : arm_64bit == 0 ? three_narrow : three;
	case PI_OLD_UNKNOWN: return arm_64bit == 1 ? wide : oldest;
	case PI_NONE: break;
	}
	return any;
}

const char *const *rules_firmware(enum pi_model model)
{
	static const char *const old[] = {"bootcode.bin", "start.elf", "fixup.dat", NULL};
	static const char *const four[] = {"start4.elf", "fixup4.dat", NULL};
	static const char *const none[] = {NULL};

	switch (model) {
	case PI_3B:
	case PI_3B_PLUS:
	case PI_OLD_UNKNOWN: return old;
	case PI_4:
	case PI_NEW_UNKNOWN: return four;
	case PI_5:
	case PI_NONE: break;
	}
	return none;
}

bool rules_kernel_like(const char *path)
{
	return like("kernel*.img", path) || like("vmlinuz*", path) || like("Image*", path) ||
	       like("zImage*", path);
}
