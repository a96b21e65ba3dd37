/*
 * Reading of a node's settings. A source is read whole into settings of its own; only when all of
 * it is good are its keys merged, each unless a source of higher rank gave it. So the order of
 * calls does not matter, and a bad source changes nothing.
 *
 * What the network's root path or a person's typing error may hold is unlimited: every value is
 * checked to be clean UTF-8 and measured before it is copied, and an error repeats only what can
 * be no secret.
 */
#include "initramfs/settings.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "initramfs/utf8.h"
#include "wire/text.h"

/* A node's target has this and its name; the target's side of the rule is in target/control. */
#define IQN_PREFIX       "iqn.2026-11.local.lunroot:"
#define INITIATOR_PREFIX IQN_PREFIX "initiator:"

#define ISCSI_PORT         3260
#define LUN_MAX            16383 /* SAM-5, 4.7.7.3: flat addressing has 14 bits */
#define VALUE_BYTES        1280  /* the longest value: SETTINGS_PORTALS_MAX times HOST:PORT */
#define SHOWN_BYTES        64    /* of a wrong value in an error */
#define REBOOT_AFTER_MAX_S 31536000
#define REBOOT_AFTER_S     600
#define SCOPE_BYTES        15 /* an interface's name */
#define FALLBACK_BYTES     64

/* One source while it is read. */
struct reader {
	struct settings settings; /* what it says; given[source] are the keys it has named */
	enum settings_source source;
	char where[48];     /* "node.conf, line 3": how an error begins */
	const char *prefix; /* what stands before a key there: "lunroot." */
	bool after_secret;  /* what follows may be a torn piece of it */
	struct settings_error *error;
};

struct key {
	const char *name;
	int (*take)(struct reader *reader, const struct key *key, const char *value);
	uint16_t offset, bytes;          /* of the field */
	bool (*valid)(const char *text); /* of a text */
	const char *wanted;              /* "a number from 0 to 16383" */
	uint32_t min, max;               /* of a number */
	bool secret;
	bool may_be_bare; /* the word alone means yes */
};

/* --- errors --- */

__attribute__((format(printf, 2, 3))) static int fail(struct reader *reader, const char *format,
						      ...)
{
	char text[sizeof(reader->error->text)];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)snprintf(reader->error->text, sizeof(reader->error->text), "%s: %s", reader->where,
		       text);
	return -EINVAL;
}

/* What of `value` may be shown: cut to a length, and nothing that has a secret in it. */
static const char *shown(const char *value, char ret_text[SHOWN_BYTES + 4])
{
	size_t bytes = strlen(value), cut = utf8_cut(value, bytes, SHOWN_BYTES);

	if (strcasestr(value, "secret"))
		return "(not shown)";
	(void)snprintf(ret_text, SHOWN_BYTES + 4, "%.*s%s", (int)cut, value,
		       cut < bytes ? "..." : "");
	return ret_text;
}

static int fail_value(struct reader *reader, const struct key *key, const char *value)
{
	char text[SHOWN_BYTES + 4];

	if (key->secret)
		return fail(reader, "%s%s: %s is wanted", reader->prefix, key->name, key->wanted);
	return fail(reader, "%s%s=%s: %s is wanted", reader->prefix, key->name, shown(value, text),
		    key->wanted);
}

/* --- notations --- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool only(const char *text, const char *others)
{
	for (; *text; text++) {
		if (!is_digit(*text) && !is_letter(*text) && !strchr(others, *text))
			return false;
	}
	return true;
}

static void lower(char *text)
{
	for (; *text; text++) {
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
	}
}

/* Decimal only: 010 and 0x10 mean different things to different people. */
static bool number_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret_number)
{
	uint64_t number = 0;

	if (!is_digit(text[0]) || (text[0] == '0' && text[1] != '\0') || strlen(text) > 10)
		return false;
	for (; *text; text++) {
		if (!is_digit(*text))
			return false;
		number = number * 10 + (unsigned)(*text - '0');
	}
	if (number < min || number > max)
		return false;
	*ret_number = (uint32_t)number;
	return true;
}

/* Letters, digits and hyphens, these not at the ends (RFC 1123, 2.1). */
static bool label_valid(const char *text, size_t bytes)
{
	if (bytes == 0 || bytes > 63 || text[0] == '-' || text[bytes - 1] == '-')
		return false;
	for (size_t i = 0; i < bytes; i++) {
		/* An underscore is no host name's, but is seen in real ones. */
		if (!is_digit(text[i]) && !is_letter(text[i]) && text[i] != '-' && text[i] != '_')
			return false;
	}
	return true;
}

static bool hostname_valid(const char *text)
{
	return *text == '\0' || (!strchr(text, '_') && label_valid(text, strlen(text)));
}

/* A DNS name. One whose last label is a number would be read as a (wrong) IPv4 address. */
static bool host_name_valid(const char *text)
{
	const char *label = text;

	for (;;) {
		size_t bytes = strcspn(label, ".");

		if (!label_valid(label, bytes))
			return false;
		if (label[bytes] == '\0' || label[bytes + 1] == '\0')
			return strspn(label, "0123456789") < bytes;
		label += bytes + 1;
	}
}

static bool ipv6_valid(const char *text)
{
	struct in6_addr address;
	char plain[INET6_ADDRSTRLEN];
	size_t bytes = strcspn(text, "%");

	if (bytes >= sizeof(plain))
		return false;
	memcpy(plain, text, bytes);
	plain[bytes] = '\0';
	if (inet_pton(AF_INET6, plain, &address) != 1)
		return false;
	if (text[bytes] == '\0')
		return true;
	text += bytes + 1;
	return *text && strlen(text) <= SCOPE_BYTES && only(text, "._-");
}

static bool host_valid(const char *text)
{
	struct in_addr address;

	return inet_pton(AF_INET, text, &address) == 1 || host_name_valid(text);
}

/* Cuts off a TargetAddress's ",TPGT". False if there is a comma and no tag behind it. */
static bool tag_cut(char *text)
{
	char *comma = strchr(text, ',');
	uint32_t tag;

	if (!comma)
		return true;
	*comma = '\0';
	return number_parse(comma + 1, 0, UINT16_MAX, &tag);
}

int settings_portal_parse(const char *text, uint16_t default_port,
			  struct settings_portal *ret_portal)
{
	struct settings_portal portal;
	char copy[sizeof(portal.host) + sizeof("[]:65535,65535")];
	char *host = copy, *port = NULL, *end;
	uint32_t number = default_port;
	bool ipv6 = true;

	if (strlen(text) >= sizeof(copy))
		return -EINVAL;
	strcpy(copy, text);
	if (!tag_cut(copy))
		return -EINVAL;
	end = strchr(copy, ':');
	if (copy[0] == '[') {
		host++;
		end = strchr(copy, ']');
		if (!end || (end[1] != '\0' && end[1] != ':'))
			return -EINVAL;
		port = end[1] == ':' ? end + 2 : NULL;
		*end = '\0';
	} else if (!end || !strchr(end + 1, ':')) {
		ipv6 = false;
		if (end) {
			port = end + 1;
			*end = '\0';
		}
	}
	if (strlen(host) >= sizeof(portal.host) || !(ipv6 ? ipv6_valid(host) : host_valid(host)) ||
	    (port && !number_parse(port, 1, UINT16_MAX, &number)))
		return -EINVAL;
	memset(&portal, 0, sizeof(portal));
	strcpy(portal.host, host);
	portal.port = (uint16_t)number;
	*ret_portal = portal;
	return 0;
}

/* --- texts of a form --- */

static bool interface_valid(const char *text)
{
	return only(text, "._-") && text[0] != '.' && text[0] != '-';
}

static bool types_valid(const char *text)
{
	return only(text, "_-.,");
}

static bool init_valid(const char *text)
{
	return *text == '\0' || *text == '/';
}

static bool word_valid(const char *text)
{
	return !strchr(text, ' ');
}

/* --- kinds of values; `value` is clean UTF-8, ends with NUL, and its key is new --- */

static void *field_of(struct settings *settings, const struct key *key)
{
	return (char *)settings + key->offset;
}

static int take_text(struct reader *reader, const struct key *key, const char *value)
{
	if (strlen(value) >= key->bytes)
		return fail(reader, "%s%s: at most %u bytes are wanted, these are %zu",
			    reader->prefix, key->name, key->bytes - 1u, strlen(value));
	if (key->valid && !key->valid(value))
		return fail_value(reader, key, value);
	strcpy(field_of(&reader->settings, key), value);
	return 0;
}

/* Kept in lower case, as names are compared (RFC 3722). */
static int take_iscsi_name(struct reader *reader, const struct key *key, const char *value)
{
	int res = take_text(reader, key, value);

	if (!res)
		lower(field_of(&reader->settings, key));
	return res;
}

static int take_number(struct reader *reader, const struct key *key, const char *value)
{
	uint32_t number;

	if (!number_parse(value, key->min, key->max, &number))
		return fail_value(reader, key, value);
	if (key->bytes == sizeof(uint16_t))
		*(uint16_t *)field_of(&reader->settings, key) = (uint16_t)number;
	else
		*(uint32_t *)field_of(&reader->settings, key) = number;
	return 0;
}

static int take_choice(struct reader *reader, const struct key *key, const char *value)
{
	bool yes = strcasecmp(value, "yes") == 0;

	if (!yes && strcasecmp(value, "no") != 0)
		return fail_value(reader, key, value);
	*(enum settings_choice *)field_of(&reader->settings, key) =
		yes ? SETTINGS_YES : SETTINGS_NO;
	return 0;
}

static int take_word(struct reader *reader, const struct key *key, const char *value,
		     const char *word)
{
	bool yes = strcasecmp(value, word) == 0;

	if (!yes && strcasecmp(value, "none") != 0)
		return fail_value(reader, key, value);
	*(bool *)field_of(&reader->settings, key) = yes;
	return 0;
}

static int take_digest(struct reader *reader, const struct key *key, const char *value)
{
	return take_word(reader, key, value, "crc32c");
}

static int take_overlay(struct reader *reader, const struct key *key, const char *value)
{
	return take_word(reader, key, value, "tmpfs");
}

static int take_portals(struct reader *reader, const struct key *key, const char *value)
{
	struct settings *settings = &reader->settings;
	unsigned count = 0;

	for (const char *item = value;; item++) {
		size_t bytes = strcspn(item, ",");
		char text[VALUE_BYTES];

		if (count == SETTINGS_PORTALS_MAX)
			return fail(reader, "%s%s: at most %d portals are wanted", reader->prefix,
				    key->name, SETTINGS_PORTALS_MAX);
		memcpy(text, item, bytes);
		text[bytes] = '\0';
		if (settings_portal_parse(text, ISCSI_PORT, &settings->portals[count]))
			return fail_value(reader, key, text);
		count++;
		item += bytes;
		if (*item == '\0')
			break;
	}
	settings->portal_count = count;
	return 0;
}

/* --- the table --- */

#define FIELD(member) \
	.offset = offsetof(struct settings, member), .bytes = sizeof(((struct settings *)0)->member)

enum key_index {
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
	KEY_COUNT,
};

#define NAME_WANTED "an iSCSI name (" IQN_PREFIX "NODE)"

/* clang-format off */
#define TEXT(member)   .take = take_text, FIELD(member)
#define NUMBER(member) .take = take_number, FIELD(member)
#define CHOICE(member) .take = take_choice, FIELD(member), .wanted = "yes or no"
#define DIGEST(member) .take = take_digest, FIELD(member), .wanted = "crc32c or none"
#define NAME(member)   .take = take_iscsi_name, FIELD(member), .valid = wire_iscsi_name_valid

static const struct key keys[KEY_COUNT] = {
	/* The list and its count are one field. */
	[KEY_PORTAL] = {.name = "portal", .take = take_portals,
		.offset = offsetof(struct settings, portals),
		.bytes = offsetof(struct settings, portal_count) + sizeof(unsigned) -
			 offsetof(struct settings, portals),
		.wanted = "HOST, HOST:PORT or [IPv6]:PORT"},
	[KEY_TARGET] = {.name = "target", NAME(target), .wanted = NAME_WANTED},
	[KEY_INITIATOR] = {.name = "initiator", NAME(initiator), .wanted = "an iSCSI name"},
	[KEY_LUN] = {.name = "lun", NUMBER(lun), .max = LUN_MAX,
		.wanted = "a number from 0 to 16383"},
	[KEY_USER] = {.name = "user", TEXT(user)},
	[KEY_SECRET] = {.name = "secret", TEXT(secret), .secret = true},
	[KEY_MUTUAL_USER] = {.name = "mutual_user", TEXT(mutual_user)},
	[KEY_MUTUAL_SECRET] = {.name = "mutual_secret", TEXT(mutual_secret), .secret = true},
	[KEY_HEADER_DIGEST] = {.name = "header_digest", DIGEST(header_digest)},
	[KEY_DATA_DIGEST] = {.name = "data_digest", DIGEST(data_digest)},
	[KEY_ROOT] = {.name = "root", TEXT(root)},
	[KEY_ROOTFLAGS] = {.name = "rootflags", TEXT(rootflags)},
	[KEY_ROOTFSTYPE] = {.name = "rootfstype", TEXT(rootfstype), .valid = types_valid,
		.wanted = "a file system's name, like ext4,"},
	[KEY_RO] = {.name = "ro", CHOICE(read_only), .may_be_bare = true},
	[KEY_OVERLAY] = {.name = "overlay", .take = take_overlay, FIELD(overlay_tmpfs),
		.wanted = "tmpfs or none"},
	[KEY_FSCK] = {.name = "fsck", CHOICE(fsck)},
	[KEY_INIT] = {.name = "init", TEXT(init), .valid = init_valid,
		.wanted = "a path that begins with /"},
	[KEY_INTERFACE] = {.name = "interface", TEXT(interface), .valid = interface_valid,
		.wanted = "an interface's name, like eth0,"},
	[KEY_IP] = {.name = "ip", TEXT(ip), .valid = word_valid,
		.wanted = "the kernel's notation, like ip=dhcp,"},
	[KEY_HOSTNAME] = {.name = "hostname", TEXT(hostname), .valid = hostname_valid,
		.wanted = "a DNS label (letters, digits, hyphens; at most 63)"},
	[KEY_RESCUE] = {.name = "rescue", CHOICE(rescue), .may_be_bare = true},
	[KEY_REBOOT_AFTER] = {.name = "reboot_after", NUMBER(reboot_after_s),
		.max = REBOOT_AFTER_MAX_S,
		.wanted = "a number of seconds from 0 (never) to 31536000"},
};
/* clang-format on */

static bool key_name_equal(const char *name, const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		/* The kernel takes - and _ of a parameter's name for the same. */
		if (name[i] == '\0' || name[i] != (text[i] == '-' ? '_' : text[i]))
			return false;
	}
	return name[bytes] == '\0';
}

static const struct key *key_find(const char *text, size_t bytes)
{
	for (unsigned i = 0; i < KEY_COUNT; i++) {
		if (key_name_equal(keys[i].name, text, bytes))
			return &keys[i];
	}
	return NULL;
}

static uint64_t bit_of(enum key_index index)
{
	return UINT64_C(1) << index;
}

/* One key with its value. Here is the only gate through which a source's text comes in. */
static int take_key(struct reader *reader, enum key_index index, const char *text, size_t bytes)
{
	const struct key *key = &keys[index];
	uint64_t *given = &reader->settings.given[reader->source];
	char value[VALUE_BYTES + 1];
	int res;

	if (*given & bit_of(index))
		return fail(reader, "%s%s is given twice", reader->prefix, key->name);
	if (bytes > VALUE_BYTES)
		return fail(reader, "%s%s: at most %u bytes are wanted, these are %zu",
			    reader->prefix, key->name,
			    key->take == take_text || key->take == take_iscsi_name
				    ? key->bytes - 1u
				    : (unsigned)VALUE_BYTES,
			    bytes);
	if (!utf8_clean(text, bytes))
		return fail(reader, "%s%s: has bytes that are no UTF-8 text (or are controls)",
			    reader->prefix, key->name);
	memcpy(value, text, bytes);
	value[bytes] = '\0';
	res = key->take(reader, key, value);
	if (!res)
		*given |= bit_of(index);
	reader->after_secret |= key->secret;
	explicit_bzero(value, sizeof(value));
	return res;
}

/* A wrong key is named by its first letters only: what follows them may be a secret. */
static int fail_key(struct reader *reader, const char *text, size_t bytes, const char *problem)
{
	size_t letters = 0;

	if (reader->after_secret)
		return fail(reader, "%s", problem);
	while (letters < bytes && letters < 32 &&
	       (is_letter(text[letters]) || is_digit(text[letters]) ||
		strchr("_-", text[letters] ? text[letters] : ' ')))
		letters++;
	return fail(reader, "%s%.*s: %s", reader->prefix, (int)letters, text, problem);
}

static void trim(const char **text, size_t *bytes)
{
	while (*bytes > 0 && is_blank(**text)) {
		(*text)++;
		(*bytes)--;
	}
	while (*bytes > 0 && is_blank((*text)[*bytes - 1]))
		(*bytes)--;
}

/*
 * A key with its value; NULL for one of the words that may stand alone. rw is the opposite of ro.
 */
static int take_setting(struct reader *reader, const char *name, size_t name_bytes,
			const char *value, size_t value_bytes)
{
	bool rw = key_name_equal("rw", name, name_bytes);
	const struct key *key = rw ? &keys[KEY_RO] : key_find(name, name_bytes);

	if (!value) {
		if (!key || !key->may_be_bare)
			return fail_key(reader, name, key ? name_bytes : 0, "KEY=VALUE is wanted");
		value = "yes";
		value_bytes = 3;
	}
	if (!key)
		return fail_key(reader, name, name_bytes,
				"no such setting (the manual page has the list)");
	if (rw) {
		bool yes = value_bytes == 3 && strncasecmp(value, "yes", 3) == 0;

		if (!yes && (value_bytes != 2 || strncasecmp(value, "no", 2) != 0))
			return fail(reader, "%srw: yes or no is wanted", reader->prefix);
		value = yes ? "no" : "yes";
		value_bytes = yes ? 2 : 3;
	}
	return take_key(reader, (enum key_index)(key - keys), value, value_bytes);
}

/* KEY=VALUE with blanks around both. */
static int take_pair(struct reader *reader, const char *text, size_t bytes)
{
	const char *equals = memchr(text, '=', bytes), *value = NULL, *name = text;
	size_t name_bytes = equals ? (size_t)(equals - text) : bytes, value_bytes = 0;

	if (equals) {
		value = equals + 1;
		value_bytes = bytes - name_bytes - 1;
		trim(&value, &value_bytes);
	}
	trim(&name, &name_bytes);
	return take_setting(reader, name, name_bytes, value, value_bytes);
}

/* --- merging --- */

static void reader_init(struct reader *reader, enum settings_source source, const char *where,
			const char *prefix, struct settings_error *ret_error)
{
	memset(reader, 0, sizeof(*reader));
	settings_init(&reader->settings);
	reader->source = source;
	reader->prefix = prefix;
	reader->error = ret_error;
	(void)snprintf(reader->where, sizeof(reader->where), "%s", where);
}

static void reader_done(struct reader *reader)
{
	settings_done(&reader->settings);
}

static bool outranked(const struct settings *settings, enum settings_source source,
		      enum key_index index)
{
	for (unsigned higher = 0; higher < source; higher++) {
		if (settings->given[higher] & bit_of(index))
			return true;
	}
	return false;
}

/*
 * A source that names a target means LUN 0 of it unless it says otherwise; the LUN that a source
 * of lower rank named for another target must not be mixed in.
 */
static void merge(struct reader *reader, struct settings *settings)
{
	enum settings_source source = reader->source;
	uint64_t given = reader->settings.given[source];

	if (given & bit_of(KEY_TARGET))
		given |= bit_of(KEY_LUN);
	for (unsigned i = 0; i < KEY_COUNT; i++) {
		enum key_index index = (enum key_index)i;

		if ((given & bit_of(index)) && !outranked(settings, source, index))
			memcpy(field_of(settings, &keys[i]), field_of(&reader->settings, &keys[i]),
			       keys[i].bytes);
	}
	settings->given[source] |= given;
}

void settings_init(struct settings *settings)
{
	memset(settings, 0, sizeof(*settings));
	settings->reboot_after_s = REBOOT_AFTER_S;
}

void settings_done(struct settings *settings)
{
	explicit_bzero(settings, sizeof(*settings));
}

/* --- RFC 4173's root path --- */

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Up to 16 digits; false for none, more, or another character. */
static bool hex_parse(const char *text, size_t bytes, uint64_t *ret_number)
{
	uint64_t number = 0;

	if (bytes == 0 || bytes > 16)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		int digit = hex_digit(text[i]);

		if (digit < 0)
			return false;
		number = number << 4 | (unsigned)digit;
	}
	*ret_number = number;
	return true;
}

/*
 * Section 5: the eight bytes of a SAM LUN as up to four groups of up to four hexadecimal digits,
 * trailing zero groups left out. The first group is then the LUN of a single-level target,
 * peripheral (the number itself) or flat (0x4000 and the number). Many write the plain number in
 * hexadecimal, which for a lone group is the same, and longer than a group when zeros lead.
 */
static bool lun_parse(const char *text, size_t bytes, uint32_t *ret_lun)
{
	const char *dash = memchr(text, '-', bytes);
	size_t first = dash ? (size_t)(dash - text) : bytes, at = first;
	unsigned groups = 1;
	uint64_t number;

	if ((dash && first > 4) || !hex_parse(text, first, &number) || number > 0x7fff)
		return false;
	while (at < bytes) {
		const char *group = text + at + 1;
		size_t left = bytes - at - 1;
		const char *end = memchr(group, '-', left);
		size_t group_bytes = end ? (size_t)(end - group) : left;
		uint64_t rest;

		if (++groups > 4 || group_bytes > 4 || !hex_parse(group, group_bytes, &rest) ||
		    rest != 0)
			return false;
		at += 1 + group_bytes;
	}
	*ret_lun = (uint32_t)number & LUN_MAX;
	return true;
}

enum { PATH_SERVER, PATH_PROTOCOL, PATH_PORT, PATH_LUN, PATH_TARGET, PATH_FIELDS };

struct path_field {
	const char *text;
	size_t bytes;
};

/* Splits what follows "iscsi:"; only the server may hold colons, in brackets, and the target. */
static int path_split(struct reader *reader, const char *text, size_t bytes,
		      struct path_field ret_fields[PATH_FIELDS])
{
	const char *bracket = bytes > 0 && text[0] == '[' ? memchr(text, ']', bytes) : NULL;
	size_t skip = bracket ? (size_t)(bracket - text) : 0;

	if (bytes > 0 && text[0] == '[' && !bracket)
		return fail(reader, "SERVER: its [ is not closed");
	for (unsigned i = 0; i < PATH_TARGET; i++) {
		const char *colon = memchr(text + skip, ':', bytes - skip);

		if (!colon)
			return fail(reader, "iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET is wanted");
		ret_fields[i] = (struct path_field){text, (size_t)(colon - text)};
		bytes -= ret_fields[i].bytes + 1;
		text = colon + 1;
		skip = 0;
	}
	ret_fields[PATH_TARGET] = (struct path_field){text, bytes};
	return 0;
}

static int fail_field(struct reader *reader, const char *name, const struct path_field *field,
		      const char *wanted)
{
	char value[SHOWN_BYTES * 2], text[SHOWN_BYTES + 4];
	size_t cut = utf8_cut(field->text, field->bytes, sizeof(value) - 1);

	if (!utf8_clean(field->text, cut))
		return fail(reader, "%s: %s is wanted", name, wanted);
	memcpy(value, field->text, cut);
	value[cut] = '\0';
	return fail(reader, "%s=%s: %s is wanted", name, shown(value, text), wanted);
}

/* The server and the port as one portal. Neither: nothing is said. */
static int take_path_portal(struct reader *reader, const struct path_field *server,
			    const struct path_field *port)
{
	struct settings_portal portal;
	char text[sizeof(portal.host) + 32], number[8];
	bool bare = server->bytes > 0 && memchr(server->text, ',', server->bytes);

	if (server->bytes == 0 && port->bytes == 0)
		return 0;
	if (server->bytes == 0)
		return fail(reader, "SERVER is missing, and the DHCP server is not known");
	if (port->bytes >= sizeof(number) || !utf8_clean(port->text, port->bytes))
		return fail_field(reader, "PORT", port, "a number from 1 to 65535");
	(void)snprintf(number, sizeof(number), "%.*s", (int)port->bytes, port->text);
	uint32_t port_number = ISCSI_PORT;
	if (port->bytes > 0 && !number_parse(number, 1, UINT16_MAX, &port_number))
		return fail_field(reader, "PORT", port, "a number from 1 to 65535");
	if (bare || server->bytes >= sizeof(text) - 16 || !utf8_clean(server->text, server->bytes))
		return fail_field(reader, "SERVER", server, "an address, a name or [IPv6]");
	(void)snprintf(text, sizeof(text), "%.*s:%u", (int)server->bytes, server->text,
		       (unsigned)port_number);
	if (settings_portal_parse(text, ISCSI_PORT, &portal))
		return fail_field(reader, "SERVER", server, "an address, a name or [IPv6]");
	return take_key(reader, KEY_PORTAL, text, strlen(text));
}

static int take_path_lun(struct reader *reader, const struct path_field *field)
{
	char text[12];
	uint32_t lun;

	if (field->bytes == 0)
		return 0;
	if (!lun_parse(field->text, field->bytes, &lun))
		return fail_field(reader, "LUN", field,
				  "a single-level LUN, 0 to 3fff in hexadecimal,");
	(void)snprintf(text, sizeof(text), "%u", (unsigned)lun);
	return take_key(reader, KEY_LUN, text, strlen(text));
}

static int take_path(struct reader *reader, const char *text, size_t bytes, const char *server)
{
	struct path_field fields[PATH_FIELDS];
	int res = path_split(reader, text, bytes, fields);

	if (res)
		return res;
	if (fields[PATH_SERVER].bytes == 0 && *server)
		fields[PATH_SERVER] = (struct path_field){server, strlen(server)};
	if (fields[PATH_PROTOCOL].bytes > 0 &&
	    (fields[PATH_PROTOCOL].bytes != 1 || *fields[PATH_PROTOCOL].text != '6'))
		return fail_field(reader, "PROTOCOL", &fields[PATH_PROTOCOL], "6 (TCP) or nothing");
	res = take_path_portal(reader, &fields[PATH_SERVER], &fields[PATH_PORT]);
	if (!res)
		res = take_path_lun(reader, &fields[PATH_LUN]);
	if (!res && fields[PATH_TARGET].bytes == 0)
		return fail(reader, "TARGET is missing: " NAME_WANTED " is wanted");
	if (!res)
		res = take_key(reader, KEY_TARGET, fields[PATH_TARGET].text,
			       fields[PATH_TARGET].bytes);
	return res;
}

static bool begins(const char *text, size_t bytes, const char *word)
{
	return bytes >= strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

/* A root path or (on the command line) a list of portals, and what follows after semicolons. */
static int take_place(struct reader *reader, const char *text, size_t bytes, const char *server)
{
	const char *semicolon = memchr(text, ';', bytes);
	size_t place = semicolon ? (size_t)(semicolon - text) : bytes;
	int res;

	if (begins(text, place, "iscsi:"))
		res = take_path(reader, text + 6, place - 6, server);
	else
		res = take_key(reader, KEY_PORTAL, text, place);
	while (!res && place < bytes) {
		const char *part = text + place + 1;
		size_t left = bytes - place - 1;
		const char *end = memchr(part, ';', left);
		size_t part_bytes = end ? (size_t)(end - part) : left;

		place += 1 + part_bytes;
		trim(&part, &part_bytes);
		if (part_bytes > 0)
			res = take_pair(reader, part, part_bytes);
	}
	return res;
}

int settings_take_root_path(struct settings *settings, const char *text, size_t bytes,
			    const char *dhcp_server, struct settings_error *ret_error)
{
	struct reader reader;
	int res;

	/* Some servers count the NUL of their own string. */
	while (bytes > 0 && (text[bytes - 1] == '\0' || is_blank(text[bytes - 1])))
		bytes--;
	if (!begins(text, bytes, "iscsi:"))
		return 0;
	reader_init(&reader, SETTINGS_DHCP, "DHCP root path", "", ret_error);
	res = take_place(&reader, text, bytes, dhcp_server);
	if (!res && !(reader.settings.given[SETTINGS_DHCP] & bit_of(KEY_PORTAL)))
		res = fail(&reader, "SERVER is missing, and the DHCP server is not known");
	if (!res)
		merge(&reader, settings);
	reader_done(&reader);
	return res;
}

/* --- node.conf --- */

int settings_take_node_conf(struct settings *settings, const char *text, size_t bytes,
			    struct settings_error *ret_error)
{
	struct reader reader;
	unsigned number = 0;
	int res = 0;

	reader_init(&reader, SETTINGS_NODE_CONF, "node.conf", "", ret_error);
	if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3; /* an editor's byte order mark */
		bytes -= 3;
	}
	while (!res && bytes > 0) {
		const char *end = memchr(text, '\n', bytes);
		size_t whole = end ? (size_t)(end - text) : bytes, line_bytes = whole;
		const char *line = text;

		(void)snprintf(reader.where, sizeof(reader.where), "node.conf, line %u", ++number);
		reader.after_secret = false;
		trim(&line, &line_bytes);
		if (line_bytes > 0 && *line != '#')
			res = take_pair(&reader, line, line_bytes);
		text += whole;
		bytes -= whole;
		if (end) {
			text++;
			bytes--;
		}
	}
	if (!res)
		merge(&reader, settings);
	reader_done(&reader);
	return res;
}

/* --- the kernel's command line --- */

/* A word with its quotes as they stood, and the two parts of it without. */
struct word {
	const char *name, *value; /* no value: NULL */
	size_t name_bytes, value_bytes;
};

/*
 * The kernel's rules: blanks end a word unless within quotes; a quote at its beginning, or right
 * after =, is dropped together with one at the end; others stay. False at the end or at a quote
 * that is never closed (*ret_open): all that follows it would be swallowed.
 */
static bool word_next(const char **text, size_t *bytes, struct word *ret_word, bool *ret_open)
{
	struct word word = {0};
	bool open = false, quoted;
	size_t i = 0, equals = 0, end;

	while (*bytes > 0 && is_blank(**text)) {
		(*text)++;
		(*bytes)--;
	}
	if (*bytes == 0)
		return false;
	quoted = **text == '"';
	for (; i < *bytes && (open || !is_blank((*text)[i])); i++) {
		if ((*text)[i] == '"')
			open = !open;
		else if ((*text)[i] == '=' && equals == 0)
			equals = i;
	}
	end = i;
	if (open) {
		*ret_open = true;
		return false;
	}
	if (end > 1 && (*text)[end - 1] == '"' &&
	    (quoted || (equals > 0 && equals + 1 < end - 1 && (*text)[equals + 1] == '"')))
		end--;
	word.name = *text + quoted;
	word.name_bytes = (equals > 0 ? equals : end) - quoted;
	if (equals > 0) {
		size_t start = equals + 1;

		if (start < end && (*text)[start] == '"')
			start++;
		word.value = *text + start;
		word.value_bytes = end - start;
	}
	*text += i;
	*bytes -= i;
	*ret_word = word;
	return true;
}

/* The kernel's own words; of several the last counts, as in the kernel. */
enum { OWN_ROOT, OWN_ROOTFLAGS, OWN_ROOTFSTYPE, OWN_INIT, OWN_IP, OWN_RO, OWN_COUNT };

static const struct {
	const char *name;
	enum key_index key;
} own_words[OWN_COUNT] = {
	[OWN_ROOT] = {"root", KEY_ROOT},
	[OWN_ROOTFLAGS] = {"rootflags", KEY_ROOTFLAGS},
	[OWN_ROOTFSTYPE] = {"rootfstype", KEY_ROOTFSTYPE},
	[OWN_INIT] = {"init", KEY_INIT},
	[OWN_IP] = {"ip", KEY_IP},
	[OWN_RO] = {"ro", KEY_RO},
};

static bool word_is(const struct word *word, const char *name)
{
	return word->name_bytes == strlen(name) && memcmp(word->name, name, word->name_bytes) == 0;
}

static bool value_is(const struct word *word, const char *value)
{
	return word->value_bytes == strlen(value) &&
	       memcmp(word->value, value, word->value_bytes) == 0;
}

/* Keeps a word of the kernel's for later; empty ones say nothing. */
static void keep_own_word(const struct word *word, struct word own[OWN_COUNT])
{
	if (!word->value && (word_is(word, "ro") || word_is(word, "rw"))) {
		const char *value = word_is(word, "ro") ? "yes" : "no";

		own[OWN_RO] = (struct word){"ro", value, 2, strlen(value)};
		return;
	}
	for (unsigned i = 0; i < OWN_RO && word->value; i++) {
		if (word_is(word, own_words[i].name))
			own[i] = *word;
	}
}

static int take_place_word(struct reader *reader, const struct word *word)
{
	int res;

	(void)snprintf(reader->where, sizeof(reader->where), "kernel command line, %.*s",
		       (int)word->name_bytes, word->name);
	reader->prefix = "";
	res = take_place(reader, word->value, word->value_bytes, "");
	(void)snprintf(reader->where, sizeof(reader->where), "kernel command line");
	reader->prefix = "lunroot.";
	return res;
}

static int take_lunroot_word(struct reader *reader, const struct word *word)
{
	reader->after_secret = false;
	if (begins(word->name, word->name_bytes, "lunroot."))
		return take_setting(reader, word->name + 8, word->name_bytes - 8, word->value,
				    word->value_bytes);
	if (!word_is(word, "lunroot"))
		return 0;
	if (!word->value || word->value_bytes == 0)
		return fail(reader, "lunroot: an address, a root path or dhcp is wanted");
	/* To say that root is ours and DHCP knows the rest. */
	return value_is(word, "dhcp") ? 0 : take_place_word(reader, word);
}

/* What the kernel's words say, where no lunroot.KEY of the same meaning stands. */
static int take_own_words(struct reader *reader, const struct word own[OWN_COUNT])
{
	uint64_t lunroot = reader->settings.given[SETTINGS_CMDLINE];
	const struct word *root = &own[OWN_ROOT];
	int res = 0;

	reader->prefix = "";
	reader->after_secret = false;
	for (unsigned i = 0; i < OWN_COUNT && !res; i++) {
		const struct word *word = &own[i];

		if (!word->value || word->value_bytes == 0 || (lunroot & bit_of(own_words[i].key)))
			continue;
		/* These are the boot loader's defaults, or a netboot server's. */
		if (word == root && (value_is(root, "/dev/nfs") || value_is(root, "/dev/ram0")))
			continue;
		if (word == root && begins(root->value, root->value_bytes, "iscsi:"))
			res = take_place_word(reader, root);
		else
			res = take_key(reader, own_words[i].key, word->value, word->value_bytes);
		reader->prefix = "";
	}
	return res;
}

int settings_take_cmdline(struct settings *settings, const char *text, size_t bytes,
			  struct settings_error *ret_error)
{
	struct word word, own[OWN_COUNT] = {0};
	struct reader reader;
	bool open = false;
	int res = 0;

	reader_init(&reader, SETTINGS_CMDLINE, "kernel command line", "lunroot.", ret_error);
	while (bytes > 0 && text[bytes - 1] == '\0')
		bytes--;
	/* The rest after -- is for init. */
	while (!res && word_next(&text, &bytes, &word, &open) &&
	       (word.value || !word_is(&word, "--"))) {
		keep_own_word(&word, own);
		res = take_lunroot_word(&reader, &word);
	}
	if (!res && open)
		res = fail(&reader, "a quotation mark is not closed");
	if (!res)
		res = take_own_words(&reader, own);
	if (!res)
		merge(&reader, settings);
	reader_done(&reader);
	return res;
}

/* --- after all sources --- */

static int finish_fail(struct settings_error *ret_error, const char *text)
{
	(void)snprintf(ret_error->text, sizeof(ret_error->text), "%s", text);
	return -EINVAL;
}

static bool secret_short(const char *secret)
{
	return *secret && strlen(secret) < LIMIT_CHAP_SECRET_BYTES_MIN;
}

static int finish_chap(const struct settings *s, struct settings_error *ret_error)
{
	bool mutual = *s->mutual_user || *s->mutual_secret;

	if (!*s->user != !*s->secret)
		return finish_fail(ret_error, *s->user ? "user= is given, but no secret= for it"
						       : "secret= is given, but no user= for it");
	if (mutual && (!*s->mutual_user || !*s->mutual_secret))
		return finish_fail(ret_error, "mutual_user= and mutual_secret= belong together, "
					      "and one of them is missing");
	if (mutual && !*s->user)
		return finish_fail(ret_error, "mutual_user= is given without user= and secret=: "
					      "mutual CHAP needs both directions");
	if (secret_short(s->secret))
		return finish_fail(ret_error, "secret= is too short: CHAP wants 12 to 128 bytes");
	if (secret_short(s->mutual_secret))
		return finish_fail(ret_error,
				   "mutual_secret= is too short: CHAP wants 12 to 128 bytes");
	if (mutual && strcmp(s->secret, s->mutual_secret) == 0)
		return finish_fail(ret_error, "secret= and mutual_secret= are the same: a target "
					      "could prove itself by echoing");
	return 0;
}

/* The name by which the node logs in, where none is given. */
static int finish_initiator(struct settings *settings, const char *fallback_id,
			    struct settings_error *ret_error)
{
	size_t prefix_bytes = strlen(IQN_PREFIX);
	const char *node = fallback_id;
	char name[LIMIT_ISCSI_NAME_BYTES * 2];

	if (strncmp(settings->target, IQN_PREFIX, prefix_bytes) == 0)
		node = settings->target + prefix_bytes;
	else if (!*fallback_id || strlen(fallback_id) > FALLBACK_BYTES || !only(fallback_id, "-"))
		return finish_fail(ret_error, "initiator= is missing: this target is not "
					      "lunroot's, and the machine has no serial number");
	(void)snprintf(name, sizeof(name), INITIATOR_PREFIX "%s", node);
	lower(name);
	if (!wire_iscsi_name_valid(name))
		return finish_fail(ret_error, "initiator= is missing: none can be made from the "
					      "target's name");
	memcpy(settings->initiator, name, strlen(name) + 1);
	return 0;
}

int settings_finish(struct settings *settings, const char *fallback_id,
		    struct settings_error *ret_error)
{
	int res;

	if (settings->portal_count == 0)
		return finish_fail(ret_error,
				   "no target address: lunroot=iscsi:ADDRESS::::TARGET on the "
				   "kernel command line, portal= in node.conf, or a DHCP root path "
				   "(option 17) is wanted");
	if (!*settings->target)
		return finish_fail(
			ret_error,
			"no target name: target= in node.conf, lunroot.target= on the "
			"kernel command line, or a DHCP root path (option 17) is wanted");
	res = finish_chap(settings, ret_error);
	if (!res && !*settings->initiator)
		res = finish_initiator(settings, fallback_id, ret_error);
	return res;
}
