/*
 * config.txt, by which the Pi's firmware boots: read as one board would read it (its conditional
 * sections, included files), and written again for that board with the kernel that was chosen and
 * our initramfs, so that the firmware and we can't disagree. Pure but for the reading of included
 * files; any thread. The format: raspberrypi.com/documentation/computers/config_txt.html.
 */
#ifndef LUNROOT_BOOT_CONFIG_TXT_H
#define LUNROOT_BOOT_CONFIG_TXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/limits.h"
#include "boot/boot_error.h"

struct pi_identity;
struct config_txt;

#define CONFIG_NAME_BYTES 128

/* What this board would take from it. Names "" where nothing is said. */
struct config_settings {
	char kernel[CONFIG_NAME_BYTES];
	char cmdline[CONFIG_NAME_BYTES];
	char os_prefix[CONFIG_NAME_BYTES];
	char overlay_prefix[CONFIG_NAME_BYTES];
	char device_tree[CONFIG_NAME_BYTES];
	char armstub[CONFIG_NAME_BYTES];
	char start_file[CONFIG_NAME_BYTES];
	char fixup_file[CONFIG_NAME_BYTES];
	int arm_64bit;     /* -1: nothing is said */
	bool boot_ramdisk; /* everything comes out of a boot.img */
	bool by_serial; /* has a section for a serial number: differs between boards of one model */
	bool unsure;    /* has sections that hang on what nobody knows here (GPIO, monitor, ...) */
};

/* Reads an included file into `ret_text` (capacity bytes). 0, or a negative errno. May be NULL. */
typedef int (*config_include_fn)(void *arg, const char *name, char *ret_text, size_t capacity,
				 size_t *ret_bytes);

/* 0; -EINVAL with the text: too long, no text, too many includes; -ENOMEM. */
int config_txt_parse(const char *text, size_t bytes, const struct pi_identity *pi,
		     config_include_fn include, void *arg, struct config_txt **ret_config,
		     struct boot_error *ret_error);
/* Accepts NULL. */
void config_txt_free(struct config_txt *config);

const struct config_settings *config_txt_settings(const struct config_txt *config);

/*
 * The text to be served, NUL-terminated and at most LIMIT_CONFIG_TXT_BYTES: the disk's own without
 * what names kernels, initramfs and command lines (`initramfs` is NULL: without ours), then ours.
 * What is too long loses first its comments and blank lines, then the sections of other boards.
 * 0, or -EINVAL with the text.
 */
int config_txt_serve(const struct config_txt *config, const char *kernel, bool arm64,
		     const char *initramfs, char ret_text[LIMIT_CONFIG_TXT_BYTES + 1],
		     struct boot_error *ret_error);

#endif
