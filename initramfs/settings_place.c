/*
 * Where a disk is: portals as people write them, and DHCP's root path (RFC 4173) with what lunroot
 * lets follow it.
 */
#include "initramfs/settings_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#define SCOPE_BYTES 15 /* an interface's name */

/* --- portals --- */

/* A DNS name. One whose last label is a number would be read as a (wrong) IPv4 address. */
static bool host_name_valid(const char *text)
{
	const char *label = text;

	for (;;) {
		size_t bytes = strcspn(label, ".");

		if (!settings_label_valid(label, bytes))
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
	return *text && strlen(text) <= SCOPE_BYTES && settings_only(text, "._-");
}

static bool ipv4_valid(const char *text)
{
	struct in_addr address;

	return inet_pton(AF_INET, text, &address) == 1;
}

static bool host_valid(const char *text)
{
	return ipv4_valid(text) || host_name_valid(text);
}

bool settings_is_address(const char *text)
{
	return ipv4_valid(text) || ipv6_valid(text);
}

/* Cuts off a TargetAddress's ",TPGT". False if there is a comma and no tag behind it. */
static bool tag_cut(char *text)
{
	char *comma = strchr(text, ',');
	uint32_t tag;

	if (!comma)
		return true;
	*comma = '\0';
	return settings_number_parse(comma + 1, 0, UINT16_MAX, &tag);
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
	memcpy(copy, text, strlen(text) + 1);
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
	    (port && !settings_number_parse(port, 1, UINT16_MAX, &number)))
		return -EINVAL;
	memset(&portal, 0, sizeof(portal));
	memcpy(portal.host, host, strlen(host) + 1);
	portal.port = (uint16_t)number;
	*ret_portal = portal;
	return 0;
}

/* --- RFC 4173's root path --- */

static int hex_digit(char c)
{
	if (settings_is_digit(c))
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
static int path_split(struct settings_reader *reader, const char *text, size_t bytes,
		      struct path_field ret_fields[PATH_FIELDS])
{
	const char *bracket = bytes > 0 && text[0] == '[' ? memchr(text, ']', bytes) : NULL;
	size_t skip = bracket ? (size_t)(bracket - text) : 0;

	if (bytes > 0 && text[0] == '[' && !bracket)
		return settings_fail(reader, "SERVER: its [ is not closed");
	for (unsigned i = 0; i < PATH_TARGET; i++) {
		const char *colon = memchr(text + skip, ':', bytes - skip);

		if (!colon)
			return settings_fail(reader,
					     "iscsi:SERVER:PROTOCOL:PORT:LUN:TARGET is wanted");
		ret_fields[i] = (struct path_field){text, (size_t)(colon - text)};
		bytes -= ret_fields[i].bytes + 1;
		text = colon + 1;
		skip = 0;
	}
	ret_fields[PATH_TARGET] = (struct path_field){text, bytes};
	return 0;
}

static int fail_field(struct settings_reader *reader, const char *name,
		      const struct path_field *field, const char *wanted)
{
	char value[SHOWN_BYTES * 2], text[SHOWN_BYTES + 4];
	size_t cut = utf8_cut(field->text, field->bytes, sizeof(value) - 1);

	if (!utf8_clean(field->text, cut))
		return settings_fail(reader, "%s: %s is wanted", name, wanted);
	memcpy(value, field->text, cut);
	value[cut] = '\0';
	return settings_fail(reader, "%s=%s: %s is wanted", name, settings_shown(value, text),
			     wanted);
}

/* The server and the port as one portal. Neither: nothing is said. */
static int take_path_portal(struct settings_reader *reader, const struct path_field *server,
			    const struct path_field *port)
{
	struct settings_portal portal;
	char text[sizeof(portal.host) + 32], number[8];
	bool bare = server->bytes > 0 && memchr(server->text, ',', server->bytes);

	if (server->bytes == 0 && port->bytes == 0)
		return 0;
	if (server->bytes == 0)
		return settings_fail(reader, "SERVER is missing, and the DHCP server is not known");
	if (port->bytes >= sizeof(number) || !utf8_clean(port->text, port->bytes))
		return fail_field(reader, "PORT", port, "a number from 1 to 65535");
	(void)snprintf(number, sizeof(number), "%.*s", (int)port->bytes, port->text);
	uint32_t port_number = ISCSI_PORT;
	if (port->bytes > 0 && !settings_number_parse(number, 1, UINT16_MAX, &port_number))
		return fail_field(reader, "PORT", port, "a number from 1 to 65535");
	if (bare || server->bytes >= sizeof(text) - 16 || !utf8_clean(server->text, server->bytes))
		return fail_field(reader, "SERVER", server, "an address, a name or [IPv6]");
	(void)snprintf(text, sizeof(text), "%.*s:%u", (int)server->bytes, server->text,
		       (unsigned)port_number);
	if (settings_portal_parse(text, ISCSI_PORT, &portal))
		return fail_field(reader, "SERVER", server, "an address, a name or [IPv6]");
	return settings_take_key(reader, KEY_PORTAL, text, strlen(text));
}

static int take_path_lun(struct settings_reader *reader, const struct path_field *field)
{
	char text[12];
	uint32_t lun;

	if (field->bytes == 0)
		return 0;
	if (!lun_parse(field->text, field->bytes, &lun))
		return fail_field(reader, "LUN", field,
				  "a single-level LUN, 0 to 3fff in hexadecimal,");
	(void)snprintf(text, sizeof(text), "%u", (unsigned)lun);
	return settings_take_key(reader, KEY_LUN, text, strlen(text));
}

static int take_path(struct settings_reader *reader, const char *text, size_t bytes,
		     const char *server)
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
		return settings_fail(reader, "TARGET is missing: " NAME_WANTED " is wanted");
	if (!res)
		res = settings_take_key(reader, KEY_TARGET, fields[PATH_TARGET].text,
					fields[PATH_TARGET].bytes);
	return res;
}

int settings_take_place(struct settings_reader *reader, const char *text, size_t bytes,
			const char *server)
{
	const char *semicolon = memchr(text, ';', bytes);
	size_t place = semicolon ? (size_t)(semicolon - text) : bytes;
	int res;

	if (settings_begins(text, place, "iscsi:"))
		res = take_path(reader, text + 6, place - 6, server);
	else
		res = settings_take_key(reader, KEY_PORTAL, text, place);
	while (!res && place < bytes) {
		const char *part = text + place + 1;
		size_t left = bytes - place - 1;
		const char *end = memchr(part, ';', left);
		size_t part_bytes = end ? (size_t)(end - part) : left;

		place += 1 + part_bytes;
		settings_trim(&part, &part_bytes);
		if (part_bytes > 0)
			res = settings_take_pair(reader, part, part_bytes);
	}
	return res;
}

int settings_take_root_path(struct settings *settings, const char *text, size_t bytes,
			    const char *dhcp_server, struct settings_error *ret_error)
{
	struct settings_reader reader;
	int res;

	/* Some servers count the NUL of their own string. */
	while (bytes > 0 && (text[bytes - 1] == '\0' || settings_is_blank(text[bytes - 1])))
		bytes--;
	if (!settings_begins(text, bytes, "iscsi:"))
		return 0;
	settings_reader_init(&reader, SETTINGS_DHCP, "DHCP root path", "", ret_error);
	res = settings_take_place(&reader, text, bytes, dhcp_server);
	if (!res)
		settings_merge(&reader, settings);
	settings_reader_done(&reader);
	return res;
}
