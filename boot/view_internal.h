/*
 * What the makers of a view share: a view while it is being made, the rules which files a model
 * asks for, and where the files come from.
 */
#ifndef LUNROOT_BOOT_VIEW_INTERNAL_H
#define LUNROOT_BOOT_VIEW_INTERNAL_H

#include "boot/config_txt.h"
#include "boot/ext.h"
#include "boot/model.h"
#include "boot/partition.h"
#include "boot/tree.h"
#include "boot/view.h"

/* --- view.c: a view that is being made --- */

/* NULL: no memory. */
struct view *view_new(void);
/* Adds a file; the reference is taken, also in failure. A name that is there already keeps its
 * first bytes. 0, -EFBIG: more than LIMIT_VIEW_BYTES; -ENOMEM. */
int view_add(struct view *view, const char *name, struct blob *blob);
bool view_has(const struct view *view, const char *name);
/* For the list of files that are not served, and for the notes; what has no room is left out. */
void view_hide(struct view *view, const char *name);
void view_note(struct view *view, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Copies a text that lives as long as the view; "" without memory. */
const char *view_text(struct view *view, const char *text);
struct view_about *view_about_edit(struct view *view);

/* --- view_rules.c: which files for whom --- */

/* Whether a file of a boot partition must never be served. */
bool rules_hide(const char *path);
/* Whether this model's firmware may ask for it. Kernels and what config.txt names are not in here.
 */
bool rules_wanted(enum pi_model model, const char *path);
/* Whether the file is a device tree that this model can boot with. */
bool rules_device_tree(enum pi_model model, const char *path);
/* The kernels that the model looks for, best first, NULL at the end; arm_64bit is -1, 0 or 1. */
const char *const *rules_kernels(enum pi_model model, int arm_64bit);
/* Firmware that the model must have before a kernel, NULL at the end. */
const char *const *rules_firmware(enum pi_model model);
/* Whether any Pi would take this file for a kernel, or people call one so. */
bool rules_kernel_like(const char *path);

/* --- view_source.c: where they come from --- */

enum source_kind {
	SOURCE_FAT,    /* a boot partition */
	SOURCE_EXT,    /* a folder of the root file system that is laid out like one */
	SOURCE_DEBIAN, /* a root file system as Debian's kernel packages leave it */
	SOURCE_FOLDER, /* of this machine */
};

struct source {
	enum source_kind kind;
	struct disk *disk;         /* not ours; may be NULL with a folder */
	struct probe_disk volumes; /* of the disk */
	struct tree *boot;         /* the boot files; Debian's: /boot */
	struct ext *ext;           /* the root file system; NULL: not opened (yet) */
	const struct probe_volume *root;
	char text[PARTITION_TEXT_BYTES + 64]; /* for people */
};

/* Finds the boot files. 0, or a negative errno with the text. source_done in either case. */
int source_open(struct source *source, struct disk *disk, const struct view_config *config,
		struct boot_error *ret_error);
void source_done(struct source *source);

/* Opens the root file system that root= names; one that is open already stays if it is the same. */
int source_open_root(struct source *source, const char *root, const struct view_config *config,
		     struct boot_error *ret_error);

/* The name within /boot of the kernel that a Debian-like root file system boots. 0 or -ENOENT. */
int source_debian_kernel(struct source *source, char *ret_name, size_t capacity,
			 struct boot_error *ret_error);

#endif
