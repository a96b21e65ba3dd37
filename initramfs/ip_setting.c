/*
 * Parsing ip=.
 */
#include "initramfs/ip_setting.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define FIELDS_MAX      10
#define FIELD_BYTES_MAX 64

enum field { CLIENT, SERVER, GATEWAY, NETMASK, HOSTNAME, DEVICE, AUTOCONF, DNS0, DNS1, NTP0 };

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++) {
		if (strcmp(word, *words) == 0)
			return true;
	}
	return false;
}

static bool is_dhcp(const char *word)
{
	static const char *const words[] = {"dhcp", "on", "any", "both", NULL};

	return is_one_of(word, words);
}

static bool is_off(const char *word)
{
	static const char *const words[] = {"off", "none", "static", NULL};

	return is_one_of(word, words);
}

static bool take_address(const char *field, char *ret_address)
{
	struct in_addr address;

	if (!field[0])
		return true;
	if (inet_pton(AF_INET, field, &address) != 1)
		return false;
	(void)snprintf(ret_address, 16, "%s", field);
	return true;
}

/* Dotted, or a number of bits; without one, that of the address's old class is no guess of ours. */
static bool take_netmask(const char *field, unsigned *ret_prefix)
{
	struct in_addr mask;
	uint32_t bits;

	if (inet_pton(AF_INET, field, &mask) != 1)
		return false;
	bits = ntohl(mask.s_addr);
	/* Ones, then zeros. */
	if ((~bits & (~bits + 1)) != 0)
		return false;
	*ret_prefix = (unsigned)__builtin_popcount(bits);
	return true;
}

/* Cuts at colons; false if there are too many fields or one is too long. */
static bool cut(const char *text, char fields[FIELDS_MAX][FIELD_BYTES_MAX], unsigned *ret_count)
{
	unsigned count = 0;

	for (;;) {
		size_t bytes = strcspn(text, ":");

		if (count == FIELDS_MAX || bytes >= FIELD_BYTES_MAX)
			return false;
		memcpy(fields[count], text, bytes);
		fields[count++][bytes] = '\0';
		if (!text[bytes])
			break;
		text += bytes + 1;
	}
	*ret_count = count;
	return true;
}

static const char *fields_fault(char fields[FIELDS_MAX][FIELD_BYTES_MAX],
				struct ip_setting *setting)
{
	if (!take_address(fields[CLIENT], setting->address))
		return "client address";
	if (!take_address(fields[GATEWAY], setting->gateway))
		return "gateway";
	if (setting->address[0] && !take_netmask(fields[NETMASK], &setting->prefix))
		return "netmask";
	if (strlen(fields[DEVICE]) >= sizeof(setting->interface) || strchr(fields[DEVICE], '/'))
		return "device";
	if (!take_address(fields[DNS0], setting->dns[0]) ||
	    !take_address(fields[DNS1], setting->dns[1]))
		return "DNS server";
	if (fields[AUTOCONF][0] && !is_dhcp(fields[AUTOCONF]) && !is_off(fields[AUTOCONF]))
		return "autoconf";
	return NULL;
}

int ip_setting_parse(const char *text, struct ip_setting *ret_setting, const char **ret_field)
{
	char fields[FIELDS_MAX][FIELD_BYTES_MAX] = {{0}};
	struct ip_setting setting = {.dhcp = true};
	unsigned count = 0;
	const char *fault;

	*ret_field = "number of fields";
	if (!cut(text, fields, &count))
		return -EINVAL;
	if (count == 1 && (!fields[0][0] || is_dhcp(fields[0]) || is_off(fields[0]))) {
		setting.dhcp = !is_off(fields[0]);
		*ret_setting = setting;
		return 0;
	}
	fault = fields_fault(fields, &setting);
	if (fault) {
		*ret_field = fault;
		return -EINVAL;
	}
	/* As the kernel: an address that is given is not asked for. */
	setting.dhcp = !setting.address[0] && !is_off(fields[AUTOCONF]);
	memcpy(setting.interface, fields[DEVICE], sizeof(setting.interface));
	memcpy(setting.hostname, fields[HOSTNAME], sizeof(setting.hostname));
	*ret_setting = setting;
	return 0;
}
