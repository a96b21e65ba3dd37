/*
 * A few thousand nodes in an array: it is searched once for each boot, so no index is kept.
 */
#include "nodes.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/serial.h"

struct nodes {
	struct boot_node *entries;
	unsigned count;
};

/* --- texts --- */

void mac_format(const uint8_t mac[6], char separator, char ret_text[MAC_TEXT_BYTES])
{
	(void)snprintf(ret_text, MAC_TEXT_BYTES, "%02x%c%02x%c%02x%c%02x%c%02x%c%02x", mac[0],
		       separator, mac[1], separator, mac[2], separator, mac[3], separator, mac[4],
		       separator, mac[5]);
}

bool mac_parse(const char *text, uint8_t ret_mac[6])
{
	uint8_t mac[6];

	if (strlen(text) != MAC_TEXT_BYTES - 1)
		return false;
	for (unsigned i = 0; i < 6; i++) {
		char digits[3] = {text[3 * i], text[3 * i + 1], '\0'};

		if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1]) ||
		    (i < 5 && text[3 * i + 2] != ':' && text[3 * i + 2] != '-'))
			return false;
		mac[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	memcpy(ret_mac, mac, sizeof(mac));
	return true;
}

/* --- what lunrootd says --- */

static void take_text(const json_t *object, const char *name, char *to, size_t bytes)
{
	const char *text = json_string_value(json_object_get(object, name));

	(void)snprintf(to, bytes, "%s", text ? text : "");
}

/* Of a board's sixteen digits the last eight go over the wire. */
static void serial_take(struct boot_node *entry)
{
	size_t bytes = strlen(entry->serial);
	const char *wire;

	if (bytes < SERIAL_TAIL)
		return;
	wire = entry->serial + bytes - SERIAL_TAIL;
	entry->has_serial = strspn(wire, "0123456789abcdef") == SERIAL_TAIL;
	if (entry->has_serial)
		entry->wire_serial = (uint32_t)strtoul(wire, NULL, 16);
}

static void entry_take(struct boot_node *entry, const json_t *node)
{
	char mac[MAC_TEXT_BYTES + 1], address[INET_ADDRSTRLEN], state[16];

	take_text(node, "name", entry->name, sizeof(entry->name));
	take_text(node, "hostname", entry->hostname, sizeof(entry->hostname));
	take_text(node, "iqn", entry->target, sizeof(entry->target));
	take_text(node, "initiator", entry->initiator, sizeof(entry->initiator));
	take_text(node, "serial", entry->serial, sizeof(entry->serial));
	for (char *c = entry->serial; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	serial_take(entry);
	take_text(node, "state", state, sizeof(state));
	entry->in_use = strcmp(state, "in use") == 0;
	take_text(node, "mac", mac, sizeof(mac));
	entry->has_mac = mac_parse(mac, entry->mac);
	take_text(node, "address", address, sizeof(address));
	if (inet_pton(AF_INET, address, &entry->address) != 1)
		entry->address.s_addr = INADDR_ANY;
}

/* The lists are nearly always in one order. */
static const struct boot_node *entry_before(const struct nodes *nodes, unsigned i, const char *name)
{
	if (i < nodes->count && strcmp(nodes->entries[i].name, name) == 0)
		return &nodes->entries[i];
	return nodes_find_name(nodes, name);
}

static void entry_keep(struct boot_node *entry, const struct boot_node *before)
{
	if (!before)
		return;
	entry->used_ms = before->used_ms;
	entry->has_booted = before->has_booted;
	memcpy(entry->booted_mac, before->booted_mac, sizeof(entry->booted_mac));
}

int nodes_take(struct nodes *nodes, const json_t *answer, uint64_t now_ms)
{
	const json_t *list = json_object_get(answer, "nodes");
	size_t count = json_array_size(list);
	struct boot_node *entries;

	if (!json_is_array(list) || count > LIMIT_NODES)
		return -EINVAL;
	entries = calloc(count + 1, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		entry_take(&entries[i], json_array_get(list, i));
		entry_keep(&entries[i], entry_before(nodes, (unsigned)i, entries[i].name));
		if (entries[i].in_use)
			entries[i].used_ms = now_ms;
	}
	free(nodes->entries);
	nodes->entries = entries;
	nodes->count = (unsigned)count;
	return 0;
}

/* --- who it is --- */

/* The boot ROM of a Pi 3B does not tell its serial, but its MAC ends as the serial does. */
static const struct boot_node *find_tail(const struct nodes *nodes, const uint8_t mac[6])
{
	uint32_t tail = (uint32_t)mac[3] << 16 | (uint32_t)mac[4] << 8 | mac[5];

	for (unsigned i = 0; i < nodes->count; i++) {
		const struct boot_node *entry = &nodes->entries[i];

		if (!entry->has_mac && entry->has_serial && (entry->wire_serial & 0xffffff) == tail)
			return entry;
	}
	return NULL;
}

const struct boot_node *nodes_find_mac(const struct nodes *nodes, const uint8_t mac[6])
{
	for (unsigned i = 0; i < nodes->count; i++) {
		if (nodes->entries[i].has_mac && memcmp(nodes->entries[i].mac, mac, 6) == 0)
			return &nodes->entries[i];
	}
	return NULL;
}

const struct boot_node *nodes_find(const struct nodes *nodes, const struct pi_identity *who)
{
	const struct boot_node *found;

	for (unsigned i = 0; who->has_serial && i < nodes->count; i++) {
		if (nodes->entries[i].has_serial && nodes->entries[i].wire_serial == who->serial)
			return &nodes->entries[i];
	}
	found = nodes_find_mac(nodes, who->mac);
	return found || who->has_serial || who->model == PI_NONE ? found
								 : find_tail(nodes, who->mac);
}

const struct boot_node *nodes_find_address(const struct nodes *nodes, struct in_addr address)
{
	for (unsigned i = 0; address.s_addr != INADDR_ANY && i < nodes->count; i++) {
		if (nodes->entries[i].address.s_addr == address.s_addr)
			return &nodes->entries[i];
	}
	return NULL;
}

static struct boot_node *entry_of(const struct nodes *nodes, const char *name)
{
	for (unsigned i = 0; i < nodes->count; i++) {
		if (strcmp(nodes->entries[i].name, name) == 0)
			return &nodes->entries[i];
	}
	return NULL;
}

const struct boot_node *nodes_find_name(const struct nodes *nodes, const char *name)
{
	return entry_of(nodes, name);
}

static void entry_begun(struct boot_node *entry, const uint8_t mac[6])
{
	entry->has_booted = true;
	memcpy(entry->booted_mac, mac, sizeof(entry->booted_mac));
}

void nodes_begun(struct nodes *nodes, const char *name, const uint8_t mac[6])
{
	struct boot_node *entry = entry_of(nodes, name);

	if (entry)
		entry_begun(entry, mac);
}

void nodes_take_boots(struct nodes *nodes, const json_t *answer)
{
	const json_t *boot;
	size_t i;

	json_array_foreach(json_object_get(answer, "boots"), i, boot)
	{
		const char *name = json_string_value(json_object_get(boot, "node"));
		const char *text = json_string_value(json_object_get(boot, "mac"));
		struct boot_node *entry = name ? entry_of(nodes, name) : NULL;
		uint8_t mac[6];

		if (entry && !entry->has_booted && text && mac_parse(text, mac))
			entry_begun(entry, mac);
	}
}

struct nodes *nodes_new(void)
{
	return calloc(1, sizeof(struct nodes));
}

void nodes_free(struct nodes *nodes)
{
	if (!nodes)
		return;
	free(nodes->entries);
	free(nodes);
}

unsigned nodes_count(const struct nodes *nodes)
{
	return nodes->count;
}
