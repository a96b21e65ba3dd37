/*
 * From HTTP's words to a checked call: routes, queries, JSON bodies. Pure functions over bytes
 * from a client; nothing here looks at the state, so that it can be fuzzed by itself.
 */
#include "control/control_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS_MAX    6
#define QUERY_BYTES_MAX 256
#define LAST_MAX        100000
#define CURE_DOCS       "see docs/api.md"
#define CURE_NAME       "use 1 to 63 lower-case letters, digits and '-', with no '-' at either end"

int api_error_set(struct api_error *err, int status, const char *code, const char *cure,
		  const char *format, ...)
{
	va_list ap;

	err->status = status;
	err->code = code;
	(void)snprintf(err->cure, sizeof(err->cure), "%s", cure);
	va_start(ap, format);
	(void)vsnprintf(err->message, sizeof(err->message), format, ap);
	va_end(ap);
	/* What came from a client and is no UTF-8 would make the answer impossible to encode. */
	for (char *p = err->message; *p; p++) {
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
	}
	switch (status) {
	case 404: return -ENOENT;
	case 409: return -EBUSY;
	case 403: return -EACCES;
	case 507: return -ENOSPC;
	case 422: return -EMEDIUMTYPE;
	case 500: return -EIO;
	default: return -EINVAL;
	}
}

int api_error_world(struct api_error *err, int r, const char *what)
{
	const char *why = strerror(-r);
	/* Some sentences end with it. */
	bool said =
		strlen(what) > strlen(why) && strcmp(what + strlen(what) - strlen(why), why) == 0;

	switch (-r) {
	case ENOSPC:
	case EDQUOT:
		api_error_set(err, 507, "no_space", "free space there, then try again",
			      "no space left: %s", what);
		return -ENOSPC;
	case EFBIG:
		api_error_set(err, 400, "invalid", "choose a smaller size",
			      "the file system of the state directory takes no files of that size "
			      "(ext4 takes 16 TiB at most): %s",
			      what);
		return r;
	case EACCES:
	case EPERM:
	case EROFS:
		return api_error_set(err, 403, "denied",
				     "let the daemon's user read and write there", "%s%s%s", what,
				     said ? "" : ": ", said ? "" : why);
	default:
		api_error_set(err, 500, "io", "see the daemon's log and the kernel's", "%s%s%s",
			      what, said ? "" : ": ", said ? "" : why);
		return r;
	}
}

int api_error_store(struct api_error *err, int r, const char *sentence)
{
	if (r != -ESTALE)
		return api_error_world(err, r, sentence);
	return api_error_set(err, 409, "damaged",
			     "restore the file, or import the image anew under another name", "%s",
			     sentence);
}

bool boot_id_valid(const char *id)
{
	return strlen(id) == BOOT_ID_CHARS && strspn(id, "0123456789abcdef") == BOOT_ID_CHARS;
}

bool name_valid(const char *name)
{
	size_t bytes = strlen(name);

	if (bytes == 0 || bytes > LIMIT_OBJECT_NAME_BYTES)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		char c = name[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      (c == '-' && i > 0 && i + 1 < bytes)))
			return false;
	}
	return true;
}

/* --- the body --- */

enum field_kind {
	FIELD_NAME,
	FIELD_TEXT,
	FIELD_SIZE,
	FIELD_BOOL,
	FIELD_DURABILITY,
	FIELD_LUN,
	FIELD_SERIAL,
	FIELD_MAC,
	FIELD_ADDRESS,
	FIELD_BOOT
};

struct field {
	const char *name;
	enum field_kind kind;
	bool required;
	size_t offset, bytes; /* in struct api_call */
};

#define FIELD(n, k, r, member)                                                                     \
	{                                                                                          \
		n, k, r, offsetof(struct api_call, member), sizeof(((struct api_call *)0)->member) \
	}

static const struct field image_fields[] = {
	FIELD("name", FIELD_NAME, true, name),
	FIELD("path", FIELD_TEXT, false, path),
	FIELD("force", FIELD_BOOL, false, force),
	FIELD("size_bytes", FIELD_SIZE, false, size_bytes),
	FIELD("ext4", FIELD_BOOL, false, ext4),
};

static const struct field rename_fields[] = {
	FIELD("name", FIELD_NAME, true, new_name),
};

static const struct field undo_fields[] = {
	FIELD("name", FIELD_NAME, false, new_name),
};

static const struct field check_fields[] = {
	FIELD("node", FIELD_NAME, false, name),
	FIELD("image", FIELD_NAME, false, base),
	FIELD("repair", FIELD_BOOL, false, repair),
};

static const struct field clone_fields[] = {
	FIELD("name", FIELD_NAME, true, name),
	FIELD("base", FIELD_NAME, true, base),
	FIELD("serial", FIELD_SERIAL, false, serial),
	FIELD("mac", FIELD_MAC, false, mac),
	FIELD("address", FIELD_ADDRESS, false, address),
	FIELD("hostname", FIELD_NAME, false, hostname),
	FIELD("size_bytes", FIELD_SIZE, false, size_bytes),
	FIELD("data_bytes", FIELD_SIZE, false, data_bytes),
	FIELD("auth", FIELD_BOOL, false, auth),
	FIELD("shared", FIELD_BOOL, false, shared),
	FIELD("read_only", FIELD_BOOL, false, read_only),
	FIELD("removable", FIELD_BOOL, false, removable),
	FIELD("durability", FIELD_DURABILITY, false, scratch),
};

static const struct field identity_fields[] = {
	FIELD("serial", FIELD_SERIAL, false, serial),
	FIELD("mac", FIELD_MAC, false, mac),
	FIELD("address", FIELD_ADDRESS, false, address),
};

static const struct field boot_fields[] = {
	FIELD("boot", FIELD_BOOT, true, boot),
};

static const struct field snapshot_fields[] = {
	FIELD("name", FIELD_NAME, true, snapshot),
};

static const struct field rollback_fields[] = {
	FIELD("snapshot", FIELD_NAME, true, snapshot),
	FIELD("force", FIELD_BOOL, false, force),
	FIELD("dry_run", FIELD_BOOL, false, dry_run),
};

static const struct field reset_fields[] = {
	FIELD("force", FIELD_BOOL, false, force),
	FIELD("dry_run", FIELD_BOOL, false, dry_run),
};

static const struct field resize_fields[] = {
	FIELD("size_bytes", FIELD_SIZE, true, size_bytes),
	FIELD("lun", FIELD_LUN, false, lun),
};

static const struct field promote_fields[] = {
	FIELD("image", FIELD_NAME, true, new_name),
	FIELD("snapshot", FIELD_NAME, false, snapshot),
};

static const struct field export_fields[] = {
	FIELD("snapshot", FIELD_NAME, false, snapshot),
	FIELD("lun", FIELD_LUN, false, lun),
};

static int field_text(const struct field *field, json_t *value, void *to, struct api_error *err)
{
	const char *text = json_string_value(value);
	size_t bytes = json_string_length(value);

	if (!text)
		return api_error_set(err, 400, "invalid", CURE_DOCS, "%s is not a string",
				     field->name);
	if (bytes >= field->bytes && field->kind != FIELD_NAME)
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "%s is longer than %zu characters", field->name,
				     field->bytes - 1);
	if (strlen(text) != bytes)
		return api_error_set(err, 400, "invalid", CURE_DOCS, "%s has a NUL in it",
				     field->name);
	if (field->kind == FIELD_NAME && !name_valid(text))
		return api_error_set(err, 400, "invalid", CURE_NAME,
				     "%s \"%.80s\" is no valid name", field->name, text);
	memcpy(to, text, bytes + 1);
	return 0;
}

static int field_size(const struct field *field, json_t *value, void *to, struct api_error *err)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value))
		return api_error_set(err, 400, "invalid", CURE_DOCS, "%s is not a whole number",
				     field->name);
	if (n < (json_int_t)LIMIT_DISK_BYTES_MIN || n > (json_int_t)LIMIT_DISK_BYTES)
		return api_error_set(err, 400, "invalid", "choose a size from 1 MiB to 64 TiB",
				     "%s is out of range: %lld", field->name, (long long)n);
	/* Disks are made of whole blocks. */
	*(uint64_t *)to =
		((uint64_t)n + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES * STORE_BLOCK_BYTES;
	return 0;
}

static int field_lun(const struct field *field, json_t *value, void *to, struct api_error *err)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < 0 || n >= LIMIT_LUNS_PER_NODE)
		return api_error_set(err, 400, "invalid", "LUNs are numbered from 0",
				     "%s is no number of a LUN", field->name);
	*(uint8_t *)to = (uint8_t)n;
	return 0;
}

/* As the Pi says it in /proc/cpuinfo, in lower case; empty: none. */
static int field_serial(const struct field *field, json_t *value, struct api_call *call,
			struct api_error *err)
{
	int r = field_text(field, value, call->serial, err);

	if (r < 0)
		return r;
	for (char *p = call->serial; *p; p++) {
		if (!isalnum((unsigned char)*p))
			return api_error_set(
				err, 400, "invalid", "use what the Pi says in /proc/cpuinfo",
				"serial \"%s\" has more than letters and digits", call->serial);
		*p = (char)tolower((unsigned char)*p);
	}
	call->serial_given = true;
	return 0;
}

/* Written with ':' and in lower case; empty: none. */
static int field_mac(const struct field *field, json_t *value, struct api_call *call,
		     struct api_error *err)
{
	int r = field_text(field, value, call->mac, err);
	size_t bytes = strlen(call->mac);
	bool good = bytes == 17;

	if (r < 0)
		return r;
	for (size_t i = 0; good && i < bytes; i++) {
		char c = call->mac[i];

		if (i % 3 == 2) {
			good = c == ':' || c == '-';
			call->mac[i] = ':';
		} else {
			good = isxdigit((unsigned char)c) != 0;
			call->mac[i] = (char)tolower((unsigned char)c);
		}
	}
	if (bytes > 0 && !good)
		return api_error_set(err, 400, "invalid", "write it as dc:a6:32:01:02:03",
				     "mac \"%s\" is no hardware address", call->mac);
	call->mac_given = true;
	return 0;
}

/* One that a machine can have, as inet_ntop writes it; empty: none. */
static int field_address(const struct field *field, json_t *value, struct api_call *call,
			 struct api_error *err)
{
	int r = field_text(field, value, call->address, err);
	struct in_addr address;
	uint32_t number;

	if (r < 0)
		return r;
	call->address_given = true;
	if (call->address[0] == '\0')
		return 0;
	number = inet_pton(AF_INET, call->address, &address) == 1 ? ntohl(address.s_addr) : 0;
	if (number >> 24 == 0 || number >> 24 == 127 || number >> 28 >= 0xe)
		return api_error_set(err, 400, "invalid", "write it as 10.42.0.7",
				     "address \"%s\" is no IPv4 address of a machine",
				     call->address);
	(void)inet_ntop(AF_INET, &address, call->address, sizeof(call->address));
	return 0;
}

static int field_boot(const struct field *field, json_t *value, struct api_call *call,
		      struct api_error *err)
{
	int r = field_text(field, value, call->boot, err);

	if (r == 0 && !boot_id_valid(call->boot))
		r = api_error_set(err, 400, "invalid", CURE_DOCS,
				  "boot \"%s\" is not 16 hexadecimal digits in lower case",
				  call->boot);
	return r;
}

static int field_read(const struct field *field, json_t *value, struct api_call *call,
		      struct api_error *err)
{
	void *to = (char *)call + field->offset;
	const char *text;

	switch (field->kind) {
	case FIELD_SERIAL: return field_serial(field, value, call, err);
	case FIELD_MAC: return field_mac(field, value, call, err);
	case FIELD_ADDRESS: return field_address(field, value, call, err);
	case FIELD_BOOT: return field_boot(field, value, call, err);
	case FIELD_NAME:
	case FIELD_TEXT: return field_text(field, value, to, err);
	case FIELD_SIZE: return field_size(field, value, to, err);
	case FIELD_LUN: return field_lun(field, value, to, err);
	case FIELD_BOOL:
		if (!json_is_boolean(value))
			return api_error_set(err, 400, "invalid", CURE_DOCS,
					     "%s is neither true nor false", field->name);
		*(bool *)to = json_is_true(value);
		return 0;
	case FIELD_DURABILITY:
		text = json_string_value(value);
		if (!text || (strcmp(text, "strict") != 0 && strcmp(text, "scratch") != 0))
			return api_error_set(err, 400, "invalid",
					     "strict keeps what was flushed, scratch is for what "
					     "nobody will miss",
					     "%s is neither \"strict\" nor \"scratch\"",
					     field->name);
		*(bool *)to = strcmp(text, "scratch") == 0;
		return 0;
	}
	return -EINVAL;
}

static const struct field *field_find(const struct field *fields, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(fields[i].name, name) == 0)
			return &fields[i];
	}
	return NULL;
}

static int body_fields(json_t *root, const struct field *fields, size_t count,
		       struct api_call *call, struct api_error *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(root))
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "the body is not a JSON object");
	json_object_foreach(root, key, value)
	{
		const struct field *field = field_find(fields, count, key);
		int r;

		if (!field)
			return api_error_set(err, 400, "invalid",
					     "leave it out, or update the server if it is too old",
					     "unknown field \"%.80s\"", key);
		r = json_is_null(value) && !field->required ? 0
							    : field_read(field, value, call, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < count; i++) {
		if (fields[i].required && !json_object_get(root, fields[i].name))
			return api_error_set(err, 400, "invalid", CURE_DOCS, "%s is missing",
					     fields[i].name);
	}
	return 0;
}

static int body_read(const void *body, size_t bytes, const struct field *fields, size_t count,
		     struct api_call *call, struct api_error *err)
{
	bool required = false;
	json_error_t where;
	json_t *root;
	int r;

	for (size_t i = 0; i < count; i++)
		required |= fields[i].required;
	if (bytes == 0 && !required)
		return 0;
	if (bytes > LIMIT_CONTROL_BODY_BYTES)
		return api_error_set(err, 413, "too_large", CURE_DOCS,
				     "the body has more than %u bytes", LIMIT_CONTROL_BODY_BYTES);
	root = json_loadb(body ? body : "", bytes, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "the body is no JSON: %s (line %d)", where.text, where.line);
	r = body_fields(root, fields, count, call, err);
	json_decref(root);
	return r;
}

/* --- what fields must fulfil together --- */

static int check_image(struct api_call *call, struct api_error *err)
{
	bool has_path = call->path[0] != '\0', has_size = call->size_bytes > 0;

	if (has_path == has_size)
		return api_error_set(
			err, 400, "invalid", CURE_DOCS,
			"an image is made from a path or with a size_bytes: one of them");
	if (has_path && call->path[0] != '/')
		return api_error_set(err, 400, "invalid", "give the whole path from / on",
				     "path %.200s is not absolute", call->path);
	if (has_path && call->ext4)
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "ext4 goes with size_bytes, not with path");
	if (has_size && call->force)
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "force goes with path, not with size_bytes");
	return 0;
}

static int check_one(struct api_call *call, struct api_error *err)
{
	if (call->name[0] && call->base[0])
		return api_error_set(err, 400, "invalid", CURE_DOCS,
				     "a node or an image is checked, or all of them: one of these");
	return 0;
}

static int check_clone(struct api_call *call, struct api_error *err)
{
	(void)err;
	if (call->hostname[0] == '\0')
		memcpy(call->hostname, call->name, sizeof(call->hostname));
	return 0;
}

static int check_identity(struct api_call *call, struct api_error *err)
{
	if (call->serial_given || call->mac_given || call->address_given)
		return 0;
	return api_error_set(err, 400, "invalid", CURE_DOCS,
			     "serial, mac or address is missing; empty ones are taken away");
}

static int check_data(struct api_call *call, struct api_error *err)
{
	if (call->length > 0)
		return 0;
	return api_error_set(err, 400, "invalid", CURE_DOCS, "query length is missing");
}

/* --- path and query --- */

enum {
	QUERY_DRY_RUN = 1,
	QUERY_SECRETS = 2,
	QUERY_LUN = 4,
	QUERY_NOW = 8,
	QUERY_OFFSET = 16,
	QUERY_LENGTH = 32,
	QUERY_LAST = 64,
	QUERY_NODE = 128,
	QUERY_PI = 256,
};

static int name_copy(const char *text, char to[NAME_BYTES], struct api_error *err);

static const struct query {
	const char *name;
	unsigned bit;
	uint64_t min, max;
} queries[] = {
	{"dry_run", QUERY_DRY_RUN, 0, 1},
	{"secrets", QUERY_SECRETS, 0, 1},
	{"lun", QUERY_LUN, 0, LIMIT_LUNS_PER_NODE - 1},
	{"now", QUERY_NOW, 0, 1},
	{"offset", QUERY_OFFSET, 0, LIMIT_DISK_BYTES},
	{"length", QUERY_LENGTH, 1, LIMIT_DATA_BYTES},
	{"last", QUERY_LAST, 0, LAST_MAX},
};

static int query_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		value = value * 10 + (uint64_t)(*text - '0');
		if (value > max)
			return -ERANGE;
	}
	if (value < min)
		return -ERANGE;
	*ret_value = value;
	return 0;
}

static void query_take(unsigned bit, uint64_t number, struct api_call *call)
{
	switch (bit) {
	case QUERY_DRY_RUN: call->dry_run = number == 1; break;
	case QUERY_SECRETS: call->secrets = number == 1; break;
	case QUERY_NOW: call->now = number == 1; break;
	case QUERY_OFFSET: call->offset = number; break;
	case QUERY_LENGTH: call->length = (uint32_t)number; break;
	case QUERY_LAST: call->last = (unsigned)number; break;
	default: call->lun = (uint8_t)number; break;
	}
}

static int query_read_one(char *word, unsigned allowed, struct api_call *call,
			  struct api_error *err)
{
	char *value = strchr(word, '=');
	uint64_t number;

	if (value)
		*value++ = '\0';
	if ((allowed & QUERY_NODE) && strcmp(word, "node") == 0)
		return name_copy(value ? value : "", call->name, err);
	if ((allowed & QUERY_PI) && strcmp(word, "pi") == 0)
		return boot_key_read(API_BOOTS, value ? value : "", call, err);
	for (size_t i = 0; i < ARRAY_COUNT(queries); i++) {
		const struct query *query = &queries[i];

		if (!(query->bit & allowed) || strcmp(word, query->name) != 0)
			continue;
		if (query_number(value ? value : "", query->min, query->max, &number) < 0)
			return api_error_set(err, 400, "invalid", CURE_DOCS,
					     "query %s has a bad value", word);
		query_take(query->bit, number, call);
		return 0;
	}
	return api_error_set(err, 400, "invalid", CURE_DOCS, "unknown query \"%.80s\"", word);
}

static int query_read(const char *query, unsigned allowed, struct api_call *call,
		      struct api_error *err)
{
	char words[QUERY_BYTES_MAX];
	char *save = NULL;

	if (!query || query[0] == '\0')
		return 0;
	if (strlen(query) >= sizeof(words))
		return api_error_set(err, 400, "invalid", CURE_DOCS, "the query is too long");
	memcpy(words, query, strlen(query) + 1);
	for (char *word = strtok_r(words, "&", &save); word; word = strtok_r(NULL, "&", &save)) {
		int r = query_read_one(word, allowed, call, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static const struct route {
	enum api_method method;
	enum api_op op;
	const char *collection; /* after /v1/ */
	bool has_name;
	const char *verb; /* with '/' behind it: another name follows, then what stands behind it */
	unsigned queries;
	const struct field *fields;
	size_t field_count;
	int (*check)(struct api_call *call, struct api_error *err);
} routes[] = {
	{API_GET, API_VERSION, "version", false, NULL, 0, NULL, 0, NULL},
	{API_GET, API_IMAGES, "images", false, NULL, 0, NULL, 0, NULL},
	{API_POST, API_IMAGE_MAKE, "images", false, NULL, 0, image_fields,
	 ARRAY_COUNT(image_fields), check_image},
	{API_GET, API_IMAGE, "images", true, NULL, 0, NULL, 0, NULL},
	{API_DELETE, API_IMAGE_DELETE, "images", true, NULL, QUERY_DRY_RUN | QUERY_NOW, NULL, 0,
	 NULL},
	{API_POST, API_IMAGE_RENAME, "images", true, "rename", 0, rename_fields,
	 ARRAY_COUNT(rename_fields), NULL},
	{API_GET, API_IMAGE_DATA, "images", true, "data", QUERY_OFFSET | QUERY_LENGTH, NULL, 0,
	 check_data},
	{API_GET, API_NODES, "nodes", false, NULL, 0, NULL, 0, NULL},
	{API_POST, API_NODE_CLONE, "nodes", false, NULL, 0, clone_fields, ARRAY_COUNT(clone_fields),
	 check_clone},
	{API_GET, API_NODE, "nodes", true, NULL, QUERY_SECRETS, NULL, 0, NULL},
	{API_DELETE, API_NODE_DELETE, "nodes", true, NULL, QUERY_DRY_RUN | QUERY_NOW, NULL, 0,
	 NULL},
	{API_GET, API_NODE_URL, "nodes", true, "url", QUERY_LUN, NULL, 0, NULL},
	{API_GET, API_LUN, "nodes", true, "luns/", 0, NULL, 0, NULL},
	{API_GET, API_LUN_DATA, "nodes", true, "luns/data", QUERY_OFFSET | QUERY_LENGTH, NULL, 0,
	 check_data},
	{API_POST, API_NODE_BOOT, "nodes", true, "boots", 0, boot_fields, ARRAY_COUNT(boot_fields),
	 NULL},
	{API_POST, API_NODE_IDENTITY, "nodes", true, "identity", 0, identity_fields,
	 ARRAY_COUNT(identity_fields), check_identity},
	{API_POST, API_NODE_ROTATE, "nodes", true, "rotate", 0, NULL, 0, NULL},
	{API_POST, API_NODE_RENAME, "nodes", true, "rename", 0, rename_fields,
	 ARRAY_COUNT(rename_fields), NULL},
	{API_POST, API_SNAPSHOT_MAKE, "nodes", true, "snapshots", 0, snapshot_fields,
	 ARRAY_COUNT(snapshot_fields), NULL},
	{API_DELETE, API_SNAPSHOT_DELETE, "nodes", true, "snapshots/", QUERY_DRY_RUN, NULL, 0,
	 NULL},
	{API_POST, API_NODE_ROLLBACK, "nodes", true, "rollback", 0, rollback_fields,
	 ARRAY_COUNT(rollback_fields), NULL},
	{API_POST, API_NODE_RESET, "nodes", true, "reset", 0, reset_fields,
	 ARRAY_COUNT(reset_fields), NULL},
	{API_POST, API_NODE_RESIZE, "nodes", true, "resize", 0, resize_fields,
	 ARRAY_COUNT(resize_fields), NULL},
	{API_POST, API_NODE_FLATTEN, "nodes", true, "flatten", 0, NULL, 0, NULL},
	{API_POST, API_NODE_PROMOTE, "nodes", true, "promote", 0, promote_fields,
	 ARRAY_COUNT(promote_fields), NULL},
	{API_POST, API_NODE_EXPORT, "nodes", true, "export", 0, export_fields,
	 ARRAY_COUNT(export_fields), NULL},
	{API_GET, API_TRASH, "trash", false, NULL, 0, NULL, 0, NULL},
	{API_DELETE, API_TRASH_DELETE, "trash", true, NULL, QUERY_DRY_RUN, NULL, 0, NULL},
	{API_POST, API_TRASH_UNDO, "trash", true, "undo", 0, undo_fields, ARRAY_COUNT(undo_fields),
	 NULL},
	{API_POST, API_CHECK, "check", false, NULL, 0, check_fields, ARRAY_COUNT(check_fields),
	 check_one},
	{API_GET, API_STATS, "stats", false, NULL, 0, NULL, 0, NULL},
	{API_GET, API_HEALTH, "health", false, NULL, 0, NULL, 0, NULL},
	{API_GET, API_JOBS, "jobs", false, NULL, 0, NULL, 0, NULL},
	{API_GET, API_JOB, "jobs", true, NULL, 0, NULL, 0, NULL},
	{API_DELETE, API_JOB_CANCEL, "jobs", true, NULL, 0, NULL, 0, NULL},
	{API_GET, API_BOOTS, "boots", false, NULL, QUERY_NODE | QUERY_LAST | QUERY_PI, NULL, 0,
	 NULL},
	{API_POST, API_BOOTS_ADD, "boots", false, NULL, 0, NULL, 0, NULL},
	{API_GET, API_BOOT, "boots", true, NULL, 0, NULL, 0, NULL},
	{API_PUT, API_BOOT_PUT, "boots", true, NULL, 0, NULL, 0, NULL},
	{API_POST, API_BOOT_EVENTS, "boots", true, "events", 0, NULL, 0, NULL},
	{API_GET, API_PENDING, "pending", false, NULL, 0, NULL, 0, NULL},
	{API_DELETE, API_PENDING_DELETE, "pending", true, NULL, 0, NULL, 0, NULL},
	{API_GET, API_LEASES, "leases", false, NULL, 0, NULL, 0, NULL},
	{API_PUT, API_LEASE_PUT, "leases", true, NULL, 0, NULL, 0, NULL},
	{API_DELETE, API_LEASE_DELETE, "leases", true, NULL, 0, NULL, 0, NULL},
	{API_GET, API_BOOTD, "bootd", false, NULL, 0, NULL, 0, NULL},
	{API_PUT, API_BOOTD_PUT, "bootd", false, NULL, 0, NULL, 0, NULL},
};

/* Cuts a copy of the path into its segments; no decoding: no name of ours needs it. */
static unsigned path_cut(char *path, char *segments[SEGMENTS_MAX])
{
	unsigned count = 0;
	char *save = NULL;

	if (path[0] != '/' || strstr(path, "//"))
		return 0;
	for (char *s = strtok_r(path, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
		if (count == SEGMENTS_MAX)
			return 0;
		segments[count++] = s;
	}
	return count;
}

static bool verb_is(const char *verb, const char *word)
{
	size_t bytes = strlen(word);

	return strncmp(verb, word, bytes) == 0 && (verb[bytes] == '\0' || verb[bytes] == '/');
}

static bool has_second_name(const struct route *route)
{
	return route->verb && strchr(route->verb, '/');
}

/* What stands behind the second name; "": nothing. */
static const char *tail_of(const struct route *route)
{
	return has_second_name(route) ? strchr(route->verb, '/') + 1 : "";
}

static const struct route *route_find(enum api_method method, char *const segments[],
				      unsigned count, bool *ret_path_known)
{
	*ret_path_known = false;
	for (size_t i = 0; i < ARRAY_COUNT(routes); i++) {
		const struct route *route = &routes[i];
		unsigned wanted = 2u + (route->has_name ? 1u : 0u) + (route->verb ? 1u : 0u) +
				  (has_second_name(route) ? 1u : 0u) +
				  (tail_of(route)[0] ? 1u : 0u);

		if (count != wanted || strcmp(segments[1], route->collection) != 0 ||
		    (route->verb && !verb_is(route->verb, segments[3])) ||
		    (tail_of(route)[0] && strcmp(segments[5], tail_of(route)) != 0))
			continue;
		*ret_path_known = true;
		if (route->method == method)
			return route;
	}
	return NULL;
}

static int name_copy(const char *text, char to[NAME_BYTES], struct api_error *err)
{
	if (!name_valid(text))
		return api_error_set(err, 400, "invalid", CURE_NAME, "\"%.80s\" is no valid name",
				     text);
	memcpy(to, text, strlen(text) + 1);
	return 0;
}

static int name_read(const struct route *route, const char *text, struct api_call *call,
		     struct api_error *err)
{
	if (route->op == API_JOB || route->op == API_JOB_CANCEL) {
		uint64_t id;

		if (query_number(text, 0, 1000000000, &id) < 0)
			return api_error_set(err, 404, "not_found",
					     "lunctl jobs lists those there are",
					     "there is no job \"%.80s\"", text);
		call->job_id = id;
		return 0;
	}
	if (strcmp(route->collection, "boots") == 0 || strcmp(route->collection, "pending") == 0 ||
	    strcmp(route->collection, "leases") == 0)
		return boot_key_read(route->op, text, call, err);
	return name_copy(text, call->name, err);
}

static int second_name_read(const struct route *route, const char *text, struct api_call *call,
			    struct api_error *err)
{
	uint64_t lun;

	if (route->op != API_LUN && route->op != API_LUN_DATA)
		return name_copy(text, call->snapshot, err);
	if (query_number(text, 0, LIMIT_LUNS_PER_NODE - 1, &lun) < 0)
		return api_error_set(err, 404, "not_found", "lunctl show lists its LUNs",
				     "there is no LUN \"%.80s\"", text);
	call->lun = (uint8_t)lun;
	return 0;
}

int request_parse(enum api_method method, const char *path, const char *query, const void *body,
		  size_t body_bytes, struct api_call *ret_call, struct api_error *ret_err)
{
	struct api_call call = {.auth = true};
	char copy[LIMIT_PATH_BYTES];
	char *segments[SEGMENTS_MAX];
	const struct route *route = NULL;
	unsigned count = 0;
	bool known = false;
	int r;

	if (strlen(path) < sizeof(copy)) {
		memcpy(copy, path, strlen(path) + 1);
		count = path_cut(copy, segments);
	}
	if (count >= 2 && strcmp(segments[0], "v1") == 0)
		route = route_find(method, segments, count, &known);
	if (!route && known)
		return api_error_set(ret_err, 405, "method", CURE_DOCS,
				     "%.200s does not know this method", path);
	if (!route)
		return api_error_set(ret_err, 404, "not_found", CURE_DOCS,
				     "there is no resource %.200s", path);
	call.op = route->op;
	r = query_read(query, route->queries, &call, ret_err);
	if (r == 0 && route->has_name)
		r = name_read(route, segments[2], &call, ret_err);
	if (r == 0 && has_second_name(route))
		r = second_name_read(route, segments[4], &call, ret_err);
	if (r == 0 && route->fields)
		r = body_read(body, body_bytes, route->fields, route->field_count, &call, ret_err);
	else if (r == 0 && boot_has_body(route->op))
		r = boot_body_read(route->op, body, body_bytes, &call.json, ret_err);
	if (r == 0 && route->check)
		r = route->check(&call, ret_err);
	if (r == 0)
		*ret_call = call;
	return r;
}

void request_done(struct api_call *call)
{
	json_decref(TAKE_PTR(call->json));
}
