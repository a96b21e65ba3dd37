/*
 * What the readers of the three sources share: the source while it is read, and the one gate,
 * settings_take_key(), through which its text becomes settings.
 */
#ifndef LUNROOT_INITRAMFS_SETTINGS_INTERNAL_H
#define LUNROOT_INITRAMFS_SETTINGS_INTERNAL_H

#include "initramfs/settings.h"

/* A node's target has this and its name; the target's side of the rule is in target/control. */
#define IQN_PREFIX  "iqn.2026-11.local.lunroot:"
#define NAME_WANTED "an iSCSI name (" IQN_PREFIX "NODE)"

#define ISCSI_PORT 3260
#define REPORT_PORT \
	6666 /* of the boot service, where the firmware's own log (netconsole) goes, too */
#define LUN_MAX     16383 /* SAM-5, 4.7.7.3: flat addressing has 14 bits */
#define SHOWN_BYTES 64    /* of a wrong value in an error */

enum settings_key {
	KEY_PORTAL,
	KEY_TARGET,
	KEY_INITIATOR,
	KEY_LUN,
	KEY_USER,
	KEY_SECRET,
	KEY_MUTUAL_USER,
	KEY_MUTUAL_SECRET,
	KEY_HEADER_DIGEST,
	KEY_DATA_DIGEST,
	KEY_ROOT,
	KEY_ROOTFLAGS,
	KEY_ROOTFSTYPE,
	KEY_RO,
	KEY_OVERLAY,
	KEY_FSCK,
	KEY_INIT,
	KEY_INTERFACE,
	KEY_IP,
	KEY_HOSTNAME,
	KEY_RESCUE,
	KEY_REBOOT_AFTER,
	KEY_REPORT,
	KEY_COUNT,
};

/* One source while it is read. */
struct settings_reader {
	struct settings settings; /* what it says; given[source] are the keys it has named */
	enum settings_source source;
	char where[48];     /* "node.conf, line 3": how an error begins */
	const char *prefix; /* what stands before a key there: "lunroot." */
	bool after_secret;  /* what follows may be a torn piece of it */
	struct settings_error *error;
};

/* Writes the error, with the place before it; -EINVAL. */
__attribute__((format(printf, 2, 3))) int settings_fail(struct settings_reader *reader,
							const char *format, ...);
/* What of `value` may be shown: cut to a length, and nothing that has a secret in it. */
const char *settings_shown(const char *value, char ret_text[SHOWN_BYTES + 4]);

void settings_reader_init(struct settings_reader *reader, enum settings_source source,
			  const char *where, const char *prefix, struct settings_error *ret_error);
void settings_reader_done(struct settings_reader *reader);
/* After a whole source was good: its keys, each unless a source of higher rank gave it. */
void settings_merge(struct settings_reader *reader, struct settings *settings);

/* All: 0, or -EINVAL with the error. `value` may be NULL: the word stands alone. */
int settings_take_key(struct settings_reader *reader, enum settings_key index, const char *text,
		      size_t bytes);
int settings_take_setting(struct settings_reader *reader, const char *name, size_t name_bytes,
			  const char *value, size_t value_bytes);
/* KEY=VALUE with blanks around both. */
int settings_take_pair(struct settings_reader *reader, const char *text, size_t bytes);
/* A root path or a list of portals, and what follows after semicolons. */
int settings_take_place(struct settings_reader *reader, const char *text, size_t bytes,
			const char *dhcp_server);

/* Decimal only: 010 and 0x10 mean different things to different people. */
bool settings_number_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret_number);
/* An IPv4 or IPv6 address, this with a scope or not: no name. */
bool settings_is_address(const char *text);
/* Only letters, digits and `others`. */
bool settings_only(const char *text, const char *others);
/* Letters, digits and hyphens, these not at the ends (RFC 1123, 2.1), and underscores. */
bool settings_label_valid(const char *text, size_t bytes);
void settings_trim(const char **text, size_t *bytes);
/* In any letter case. */
bool settings_begins(const char *text, size_t bytes, const char *word);

static inline uint64_t settings_bit(enum settings_key index)
{
	return UINT64_C(1) << index;
}

static inline bool settings_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool settings_is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool settings_is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
