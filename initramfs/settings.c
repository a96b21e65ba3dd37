/*
 * Reading of a node's settings. A source is read whole into settings of its own; only when all of
 * it is good are its keys merged, each unless a source of higher rank gave it. So the order of
 * calls does not matter, and a bad source changes nothing.
 *
 * What the network's root path or a person's typing error may hold is unlimited: every value is
 * checked to be clean UTF-8 and measured before it is copied, and an error repeats only what can
 * be no secret.
 */
#include "initramfs/settings_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "wire/text.h"

#define INITIATOR_PREFIX IQN_PREFIX "initiator:"

#define VALUE_BYTES        1280 /* the longest value: SETTINGS_PORTALS_MAX times HOST:PORT */
#define REBOOT_AFTER_MAX_S 31536000
#define REBOOT_AFTER_S     600
#define FALLBACK_BYTES     64

struct key {
	const char *name;
	int (*take)(struct settings_reader *reader, const struct key *key, const char *value);
	uint16_t offset, bytes;          /* of the field */
	bool (*valid)(const char *text); /* of a text */
	const char *wanted;              /* "a number from 0 to 16383" */
	uint32_t min, max;               /* of a number */
	bool secret;
	bool may_be_bare; /* the word alone means yes */
};

/* --- errors --- */

int settings_fail(struct settings_reader *reader, const char *format, ...)
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

const char *settings_shown(const char *value, char ret_text[SHOWN_BYTES + 4])
{
	size_t bytes = strlen(value), cut = utf8_cut(value, bytes, SHOWN_BYTES);

	if (strcasestr(value, "secret"))
		return "(not shown)";
	(void)snprintf(ret_text, SHOWN_BYTES + 4, "%.*s%s", (int)cut, value,
		       cut < bytes ? "..." : "");
	return ret_text;
}

static int fail_value(struct settings_reader *reader, const struct key *key, const char *value)
{
	char text[SHOWN_BYTES + 4];

	if (key->secret)
		return settings_fail(reader, "%s%s: %s is wanted", reader->prefix, key->name,
				     key->wanted);
	return settings_fail(reader, "%s%s=%s: %s is wanted", reader->prefix, key->name,
			     settings_shown(value, text), key->wanted);
}

/* --- notations --- */

bool settings_only(const char *text, const char *others)
{
	for (; *text; text++) {
		if (!settings_is_digit(*text) && !settings_is_letter(*text) &&
		    !strchr(others, *text))
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

bool settings_number_parse(const char *text, uint32_t min, uint32_t max, uint32_t *ret_number)
{
	uint64_t number = 0;

	if (!settings_is_digit(text[0]) || (text[0] == '0' && text[1] != '\0') || strlen(text) > 10)
		return false;
	for (; *text; text++) {
		if (!settings_is_digit(*text))
			return false;
		number = number * 10 + (unsigned)(*text - '0');
	}
	if (number < min || number > max)
		return false;
	*ret_number = (uint32_t)number;
	return true;
}

bool settings_label_valid(const char *text, size_t bytes)
{
	if (bytes == 0 || bytes > 63 || text[0] == '-' || text[bytes - 1] == '-')
		return false;
	for (size_t i = 0; i < bytes; i++) {
		/* An underscore is no host name's, but is seen in real ones. */
		if (!settings_is_digit(text[i]) && !settings_is_letter(text[i]) && text[i] != '-' &&
		    text[i] != '_')
			return false;
	}
	return true;
}

static bool hostname_valid(const char *text)
{
	return *text == '\0' || (!strchr(text, '_') && settings_label_valid(text, strlen(text)));
}

/* --- texts of a form --- */

static bool interface_valid(const char *text)
{
	return settings_only(text, "._-") && text[0] != '.' && text[0] != '-';
}

static bool types_valid(const char *text)
{
	return settings_only(text, "_-.,");
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

static int take_text(struct settings_reader *reader, const struct key *key, const char *value)
{
	if (strlen(value) >= key->bytes)
		return settings_fail(reader, "%s%s: at most %u bytes are wanted, these are %zu",
				     reader->prefix, key->name, key->bytes - 1u, strlen(value));
	if (key->valid && !key->valid(value))
		return fail_value(reader, key, value);
	memcpy(field_of(&reader->settings, key), value, strlen(value) + 1);
	return 0;
}

/* Kept in lower case, as names are compared (RFC 3722). */
static int take_iscsi_name(struct settings_reader *reader, const struct key *key, const char *value)
{
	int res = take_text(reader, key, value);

	if (!res)
		lower(field_of(&reader->settings, key));
	return res;
}

static int take_number(struct settings_reader *reader, const struct key *key, const char *value)
{
	uint32_t number;

	if (!settings_number_parse(value, key->min, key->max, &number))
		return fail_value(reader, key, value);
	if (key->bytes == sizeof(uint16_t))
		*(uint16_t *)field_of(&reader->settings, key) = (uint16_t)number;
	else
		*(uint32_t *)field_of(&reader->settings, key) = number;
	return 0;
}

static int take_choice(struct settings_reader *reader, const struct key *key, const char *value)
{
	bool yes = strcasecmp(value, "yes") == 0;

	if (!yes && strcasecmp(value, "no") != 0)
		return fail_value(reader, key, value);
	*(enum settings_choice *)field_of(&reader->settings, key) =
		yes ? SETTINGS_YES : SETTINGS_NO;
	return 0;
}

static int take_word(struct settings_reader *reader, const struct key *key, const char *value,
		     const char *word)
{
	bool yes = strcasecmp(value, word) == 0;

	if (!yes && strcasecmp(value, "none") != 0)
		return fail_value(reader, key, value);
	*(bool *)field_of(&reader->settings, key) = yes;
	return 0;
}

static int take_digest(struct settings_reader *reader, const struct key *key, const char *value)
{
	return take_word(reader, key, value, "crc32c");
}

static int take_overlay(struct settings_reader *reader, const struct key *key, const char *value)
{
	return take_word(reader, key, value, "tmpfs");
}

static int take_portals(struct settings_reader *reader, const struct key *key, const char *value)
{
	struct settings *settings = &reader->settings;
	unsigned count = 0;

	for (const char *item = value;; item++) {
		size_t bytes = strcspn(item, ",");
		char text[VALUE_BYTES];

		if (count == SETTINGS_PORTALS_MAX)
			return settings_fail(reader, "%s%s: at most %d portals are wanted",
					     reader->prefix, key->name, SETTINGS_PORTALS_MAX);
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

/* A name would have to be looked up, and nobody waits for a report. */
static int take_report(struct settings_reader *reader, const struct key *key, const char *value)
{
	const char *slash = strrchr(value, '/');
	struct settings_report report = {0};
	size_t host_bytes = slash ? (size_t)(slash - value) : 0;
	char host[sizeof(report.to.host) + sizeof("[]:65535")];

	if (!slash || host_bytes >= sizeof(host) || strlen(slash + 1) != sizeof(report.token) - 1 ||
	    strspn(slash + 1, "0123456789abcdefABCDEF") != sizeof(report.token) - 1)
		return fail_value(reader, key, value);
	memcpy(host, value, host_bytes);
	host[host_bytes] = '\0';
	memcpy(report.token, slash + 1, sizeof(report.token));
	lower(report.token);
	if (strchr(host, ',') || settings_portal_parse(host, REPORT_PORT, &report.to) ||
	    !settings_is_address(report.to.host))
		return fail_value(reader, key, value);
	reader->settings.report = report;
	return 0;
}

/* --- the table --- */

#define FIELD(member) \
	.offset = offsetof(struct settings, member), .bytes = sizeof(((struct settings *)0)->member)

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
	[KEY_REPORT] = {.name = "report", .take = take_report, FIELD(report),
		.wanted = "ADDRESS:PORT/TOKEN (a number, no name; 32 hexadecimal digits)"},
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

/* One key with its value. Here is the only gate through which a source's text comes in. */
int settings_take_key(struct settings_reader *reader, enum settings_key index, const char *text,
		      size_t bytes)
{
	const struct key *key = &keys[index];
	uint64_t *given = &reader->settings.given[reader->source];
	char value[VALUE_BYTES + 1];
	int res;

	if (*given & settings_bit(index))
		return settings_fail(reader, "%s%s is given twice", reader->prefix, key->name);
	if (bytes > VALUE_BYTES)
		return settings_fail(reader, "%s%s: at most %u bytes are wanted, these are %zu",
				     reader->prefix, key->name,
				     key->take == take_text || key->take == take_iscsi_name
					     ? key->bytes - 1u
					     : (unsigned)VALUE_BYTES,
				     bytes);
	if (!utf8_clean(text, bytes))
		return settings_fail(reader,
				     "%s%s: has bytes that are no UTF-8 text (or are controls)",
				     reader->prefix, key->name);
	memcpy(value, text, bytes);
	value[bytes] = '\0';
	res = key->take(reader, key, value);
	if (!res)
		*given |= settings_bit(index);
	reader->after_secret |= key->secret;
	explicit_bzero(value, sizeof(value));
	return res;
}

/* A wrong key is named by its first letters only: what follows them may be a secret. */
static int fail_key(struct settings_reader *reader, const char *text, size_t bytes,
		    const char *problem)
{
	size_t letters = 0;

	if (reader->after_secret)
		return settings_fail(reader, "%s", problem);
	while (letters < bytes && letters < 32 &&
	       (settings_is_letter(text[letters]) || settings_is_digit(text[letters]) ||
		strchr("_-", text[letters] ? text[letters] : ' ')))
		letters++;
	return settings_fail(reader, "%s%.*s: %s", reader->prefix, (int)letters, text, problem);
}

void settings_trim(const char **text, size_t *bytes)
{
	while (*bytes > 0 && settings_is_blank(**text)) {
		(*text)++;
		(*bytes)--;
	}
	while (*bytes > 0 && settings_is_blank((*text)[*bytes - 1]))
		(*bytes)--;
}

/*
 * A key with its value; NULL for one of the words that may stand alone. rw is the opposite of ro.
 */
int settings_take_setting(struct settings_reader *reader, const char *name, size_t name_bytes,
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
			return settings_fail(reader, "%srw: yes or no is wanted", reader->prefix);
		value = yes ? "no" : "yes";
		value_bytes = yes ? 2 : 3;
	}
	return settings_take_key(reader, (enum settings_key)(key - keys), value, value_bytes);
}

int settings_take_pair(struct settings_reader *reader, const char *text, size_t bytes)
{
	const char *equals = memchr(text, '=', bytes), *value = NULL, *name = text;
	size_t name_bytes = equals ? (size_t)(equals - text) : bytes, value_bytes = 0;

	if (equals) {
		value = equals + 1;
		value_bytes = bytes - name_bytes - 1;
		settings_trim(&value, &value_bytes);
	}
	settings_trim(&name, &name_bytes);
	return settings_take_setting(reader, name, name_bytes, value, value_bytes);
}

bool settings_begins(const char *text, size_t bytes, const char *word)
{
	return bytes >= strlen(word) && strncasecmp(text, word, strlen(word)) == 0;
}

/* --- merging --- */

void settings_reader_init(struct settings_reader *reader, enum settings_source source,
			  const char *where, const char *prefix, struct settings_error *ret_error)
{
	memset(reader, 0, sizeof(*reader));
	settings_init(&reader->settings);
	reader->source = source;
	reader->prefix = prefix;
	reader->error = ret_error;
	(void)snprintf(reader->where, sizeof(reader->where), "%s", where);
}

void settings_reader_done(struct settings_reader *reader)
{
	settings_done(&reader->settings);
}

static bool outranked(const struct settings *settings, enum settings_source source,
		      enum settings_key index)
{
	for (unsigned higher = 0; higher < source; higher++) {
		if (settings->given[higher] & settings_bit(index))
			return true;
	}
	return false;
}

/*
 * A source that names a target means LUN 0 of it unless it says otherwise; the LUN that a source
 * of lower rank named for another target must not be mixed in.
 */
void settings_merge(struct settings_reader *reader, struct settings *settings)
{
	enum settings_source source = reader->source;
	uint64_t given = reader->settings.given[source];

	if (given & settings_bit(KEY_TARGET))
		given |= settings_bit(KEY_LUN);
	for (unsigned i = 0; i < KEY_COUNT; i++) {
		enum settings_key index = (enum settings_key)i;

		if ((given & settings_bit(index)) && !outranked(settings, source, index))
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

/* --- node.conf --- */

int settings_take_node_conf(struct settings *settings, const char *text, size_t bytes,
			    struct settings_error *ret_error)
{
	struct settings_reader reader;
	unsigned number = 0;
	int res = 0;

	settings_reader_init(&reader, SETTINGS_NODE_CONF, "node.conf", "", ret_error);
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
		settings_trim(&line, &line_bytes);
		if (line_bytes > 0 && *line != '#')
			res = settings_take_pair(&reader, line, line_bytes);
		text += whole;
		bytes -= whole;
		if (end) {
			text++;
			bytes--;
		}
	}
	if (!res)
		settings_merge(&reader, settings);
	settings_reader_done(&reader);
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
	else if (!*fallback_id || strlen(fallback_id) > FALLBACK_BYTES ||
		 !settings_only(fallback_id, "-"))
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
