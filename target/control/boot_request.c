/*
 * What lunbootd sends, checked: bodies with lists in them, which do not fit into struct api_call
 * and are passed on as JSON that need not be looked at twice. Pure, as request.c.
 */
#include "control/boots_internal.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define CURE_DOCS  "see docs/api.md"
#define NUMBER_MAX (1ll << 53) /* above it JSON's numbers are not exact elsewhere */

enum member_kind {
	MEMBER_TEXT,
	MEMBER_NUMBER,
	MEMBER_TIME,
	MEMBER_NAME, /* of a node */
	MEMBER_ID,
	MEMBER_SERIAL,
	MEMBER_MAC,
	MEMBER_EVENT_KIND,
	MEMBER_OBJECTS, /* a list of objects with `members` */
};

struct member {
	const char *name;
	enum member_kind kind;
	bool required;                /* others may be null too */
	const struct member *members; /* ended by one without a name */
	unsigned max;                 /* of a list; 0: the body's size is bound enough */
};

static const struct member event_members[] = {
	{"at", MEMBER_TIME, true, NULL, 0},         {"kind", MEMBER_EVENT_KIND, true, NULL, 0},
	{"text", MEMBER_TEXT, false, NULL, 0},      {"file", MEMBER_TEXT, false, NULL, 0},
	{"bytes", MEMBER_NUMBER, false, NULL, 0},   {"retries", MEMBER_NUMBER, false, NULL, 0},
	{"took_ms", MEMBER_NUMBER, false, NULL, 0}, {NULL, MEMBER_TEXT, false, NULL, 0},
};

#define HEAD_MEMBERS                                                                         \
	{"node", MEMBER_NAME, false, NULL, 0}, {"serial", MEMBER_SERIAL, false, NULL, 0},    \
		{"mac", MEMBER_MAC, false, NULL, 0}, {"model", MEMBER_TEXT, false, NULL, 0}, \
	{                                                                                    \
		"address", MEMBER_TEXT, false, NULL, 0                                       \
	}

static const struct member put_members[] = {
	HEAD_MEMBERS,
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member events_members[] = {
	{"events", MEMBER_OBJECTS, true, event_members, 0},
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member boot_members[] = {
	{"id", MEMBER_ID, true, NULL, 0},
	HEAD_MEMBERS,
	{"events", MEMBER_OBJECTS, false, event_members, 0},
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member boots_members[] = {
	{"boots", MEMBER_OBJECTS, true, boot_members, 0},
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member lease_members[] = {
	{"address", MEMBER_TEXT, true, NULL, 0},
	{"until", MEMBER_TIME, true, NULL, 0},
	{"hostname", MEMBER_TEXT, false, NULL, 0},
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member trouble_members[] = {
	{"code", MEMBER_TEXT, true, NULL, 0},
	{"message", MEMBER_TEXT, true, NULL, 0},
	{"cure", MEMBER_TEXT, false, NULL, 0},
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member interface_members[] = {
	{"name", MEMBER_TEXT, true, NULL, 0},
	{"address", MEMBER_TEXT, false, NULL, 0},
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member bootd_members[] = {
	{"version", MEMBER_TEXT, true, NULL, 0},
	{"pid", MEMBER_NUMBER, false, NULL, 0},
	{"started", MEMBER_TIME, false, NULL, 0},
	{"interfaces", MEMBER_OBJECTS, true, interface_members, LIMIT_BOOTD_INTERFACES},
	{"troubles", MEMBER_OBJECTS, false, trouble_members, LIMIT_BOOTD_TROUBLES},
	{NULL, MEMBER_TEXT, false, NULL, 0},
};

static const struct member *body_members(enum api_op op)
{
	switch (op) {
	case API_BOOT_PUT: return put_members;
	case API_BOOT_EVENTS: return events_members;
	case API_BOOTS_ADD: return boots_members;
	case API_LEASE_PUT: return lease_members;
	case API_BOOTD_PUT: return bootd_members;
	default: return NULL;
	}
}

/* --- words --- */

bool mac_normal(const char *text, char ret_mac[MAC_BYTES])
{
	char mac[MAC_BYTES];

	if (strlen(text) != MAC_BYTES - 1)
		return false;
	for (size_t i = 0; i < MAC_BYTES - 1; i++) {
		char c = text[i];

		if (i % 3 == 2 ? c != ':' && c != '-' : !isxdigit((unsigned char)c))
			return false;
		mac[i] = (char)(i % 3 == 2 ? ':' : tolower((unsigned char)c));
	}
	mac[MAC_BYTES - 1] = '\0';
	memcpy(ret_mac, mac, MAC_BYTES);
	return true;
}

static bool serial_valid(const char *text)
{
	size_t bytes = strlen(text);

	for (size_t i = 0; i < bytes; i++) {
		if (!isalnum((unsigned char)text[i]))
			return false;
	}
	return bytes < SERIAL_BYTES;
}

static bool id_valid(const char *text)
{
	return strlen(text) == BOOT_ID_BYTES - 1 &&
	       strspn(text, "0123456789abcdef") == BOOT_ID_BYTES - 1;
}

static bool digits(const char *text, unsigned count, int *ret_value)
{
	int value = 0;

	for (unsigned i = 0; i < count; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (text[i] - '0');
	}
	*ret_value = value;
	return true;
}

/* Days from 1970-01-01 in the Gregorian calendar; years begin in March for this. */
static int64_t days_since_1970(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

bool time_parse_ms(const char *text, int64_t *ret_ms)
{
	int year, month, day, hour, minute, second, ms = 0;
	size_t bytes = strlen(text);

	if ((bytes != 20 && bytes != 24) || text[4] != '-' || text[7] != '-' || text[10] != 'T' ||
	    text[13] != ':' || text[16] != ':' || text[bytes - 1] != 'Z' ||
	    (bytes == 24 && text[19] != '.'))
		return false;
	if (!digits(text, 4, &year) || !digits(text + 5, 2, &month) || !digits(text + 8, 2, &day) ||
	    !digits(text + 11, 2, &hour) || !digits(text + 14, 2, &minute) ||
	    !digits(text + 17, 2, &second) || (bytes == 24 && !digits(text + 20, 3, &ms)))
		return false;
	if (year < 1970 || year > 2199 || month < 1 || month > 12 || day < 1 || day > 31 ||
	    hour > 23 || minute > 59 || second > 60)
		return false;
	*ret_ms = (days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second) *
			  1000 +
		  ms;
	return true;
}

/* --- members --- */

static int check_object(const json_t *object, const struct member *members, struct api_error *err);

static int bad(const struct member *member, const char *what, struct api_error *err)
{
	return api_error_set(err, 400, "invalid", CURE_DOCS, "%s is %s", member->name, what);
}

static int check_list(const json_t *value, const struct member *member, struct api_error *err)
{
	if (!json_is_array(value))
		return bad(member, "no list", err);
	if (member->max > 0 && json_array_size(value) > member->max)
		return api_error_set(err, 400, "invalid", CURE_DOCS, "%s has more than %u members",
				     member->name, member->max);
	for (size_t i = 0; i < json_array_size(value); i++) {
		int r = check_object(json_array_get(value, i), member->members, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_member(const json_t *value, const struct member *member, struct api_error *err)
{
	const char *text = json_string_value(value);
	enum boot_kind kind;
	char mac[MAC_BYTES];
	int64_t ms;

	if (member->kind == MEMBER_NUMBER) {
		json_int_t n = json_integer_value(value);

		return json_is_integer(value) && n >= 0 && n <= NUMBER_MAX
			       ? 0
			       : bad(member, "no whole number from 0 to 2^53", err);
	}
	if (member->kind == MEMBER_OBJECTS)
		return check_list(value, member, err);
	if (!text)
		return bad(member, "not a string", err);
	switch (member->kind) {
	case MEMBER_TIME: return time_parse_ms(text, &ms) ? 0 : bad(member, "no time in UTC", err);
	case MEMBER_NAME: return name_valid(text) ? 0 : bad(member, "no name of a node", err);
	case MEMBER_ID: return id_valid(text) ? 0 : bad(member, "not 16 hex digits", err);
	case MEMBER_SERIAL:
		return serial_valid(text) ? 0 : bad(member, "more than letters and digits", err);
	case MEMBER_MAC:
		return text[0] == '\0' || mac_normal(text, mac)
			       ? 0
			       : bad(member, "no hardware address", err);
	case MEMBER_EVENT_KIND:
		return boot_kind_parse(text, &kind) ? 0 : bad(member, "no kind of event", err);
	default: return 0;
	}
}

static int check_object(const json_t *object, const struct member *members, struct api_error *err)
{
	const struct member *member;
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "the body is not a JSON object, or has something else where "
				     "objects are wanted");
	json_object_foreach((json_t *)object, key, value)
	{
		int r;

		for (member = members; member->name && strcmp(member->name, key) != 0;)
			member++;
		if (!member->name)
			return api_error_set(err, 400, "invalid",
					     "leave it out, or update the server if it is too old",
					     "unknown field \"%.80s\"", key);
		r = json_is_null(value) && !member->required ? 0 : check_member(value, member, err);
		if (r < 0)
			return r;
	}
	for (member = members; member->name; member++) {
		if (member->required && !json_object_get(object, member->name))
			return bad(member, "missing", err);
	}
	return 0;
}

bool boot_has_body(enum api_op op)
{
	return body_members(op) != NULL;
}

int boot_body_read(enum api_op op, const void *body, size_t bytes, json_t **ret_json,
		   struct api_error *err)
{
	json_error_t where;
	json_t *root;
	int r;

	if (bytes > LIMIT_CONTROL_BODY_BYTES)
		return api_error_set(err, 413, "too_large", CURE_DOCS,
				     "the body has more than %u bytes", LIMIT_CONTROL_BODY_BYTES);
	root = json_loadb(body ? body : "", bytes, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "the body is no JSON: %s (line %d)", where.text, where.line);
	r = check_object(root, body_members(op), err);
	if (r < 0)
		json_decref(root);
	else
		*ret_json = root;
	return r;
}

/* --- the name in the path --- */

int boot_key_read(enum api_op op, const char *text, struct api_call *call, struct api_error *err)
{
	bool lease = op == API_LEASE_PUT || op == API_LEASE_DELETE;

	if (op == API_PENDING_DELETE || op == API_BOOTS || lease) {
		if (mac_normal(text, call->key))
			return 0;
		if (lease)
			return api_error_set(err, 400, "invalid", "write it as dc:a6:32:01:02:03",
					     "\"%.80s\" is no hardware address", text);
		if (text[0] == '\0' || !serial_valid(text))
			return api_error_set(err, 400, "invalid", "GET /v1/pending tells the keys",
					     "\"%.80s\" is neither a serial nor a hardware address",
					     text);
		for (size_t i = 0; i <= strlen(text); i++)
			call->key[i] = (char)tolower((unsigned char)text[i]);
		return 0;
	}
	if (!id_valid(text))
		return api_error_set(err, 400, "invalid", "GET /v1/boots lists those there are",
				     "\"%.80s\" is no boot's ID: they have 16 hex digits, 0-9 and "
				     "a-f",
				     text);
	memcpy(call->key, text, BOOT_ID_BYTES);
	return 0;
}
