/* What only the firmware of a Pi says. */
#include <string.h>

#include "fingerprint.h"

/*
 * What option 97 says:
 *
 *   Pi 3B, 2B v1.2    00 | sixteen 0x44: no identity at all
 *   3B+, bootcode.bin 00 | the serial number four times, little-endian. The MAC's last three
 *                     bytes are the serial's.
 *   Pi 4, 5           00 | "RPi4" or "RPi5" | revision | MAC's last four bytes | serial
 *                     all little-endian but the MAC; some bootloaders have the four letters
 *                     the other way round ("4iPR"), and only those
 *   the same, set to DHCP_OPTION97=0   00 | the serial number four times
 *
 * Option 55 has 12 items in the ROM, 14 in bootcode.bin and the EEPROM's bootloader.
 */

bool pxe_is_http(const struct dhcp_packet *packet)
{
	return dhcp_begins(packet, DHCP_OPT_CLASS, "HTTPClient");
}

bool pxe_client(const struct dhcp_packet *packet)
{
	return dhcp_begins(packet, DHCP_OPT_CLASS, "PXEClient") || pxe_is_http(packet);
}

uint16_t pxe_architecture(const struct dhcp_packet *packet)
{
	size_t bytes;
	const uint8_t *value = dhcp_get(packet, DHCP_OPT_ARCHITECTURE, &bytes);

	return value && bytes >= 2 ? get_be16(value) : 0xffff;
}

bool pxe_is_ipxe(const struct dhcp_packet *packet)
{
	size_t bytes;

	/* RFC 3004 wants a length before each class; iPXE sends the bare text. Take both. */
	return dhcp_begins(packet, DHCP_OPT_USER_CLASS, "iPXE") ||
	       dhcp_begins(packet, DHCP_OPT_USER_CLASS, "\4iPXE") ||
	       dhcp_get(packet, DHCP_OPT_IPXE, &bytes);
}

enum list { LIST_OTHER, LIST_ROM, LIST_LOADER };

/* Option 55 as a set: a Pi's ROM asks for these twelve, its later stages for 1 and 3 too. */
static enum list list_of(const struct dhcp_packet *packet)
{
	static const uint8_t both[] = {43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135};
	bool asked[256] = {false};
	size_t bytes;
	const uint8_t *value = dhcp_get(packet, DHCP_OPT_PARAMETERS, &bytes);

	if (!value || (bytes != sizeof(both) && bytes != sizeof(both) + 2))
		return LIST_OTHER;
	for (size_t i = 0; i < bytes; i++)
		asked[value[i]] = true;
	for (size_t i = 0; i < sizeof(both); i++)
		if (!asked[both[i]])
			return LIST_OTHER;
	if (bytes == sizeof(both))
		return LIST_ROM;
	return asked[1] && asked[3] ? LIST_LOADER : LIST_OTHER;
}

/* "RPi4" in either byte order; the digit, or 0. */
static char board_letter(const uint8_t *fourcc)
{
	if (memcmp(fourcc, "RPi", 3) == 0)
		return (char)fourcc[3];
	if (memcmp(fourcc + 1, "iPR", 3) == 0)
		return (char)fourcc[0];
	return 0;
}

static uint32_t word(const uint8_t *at)
{
	le32_t v;

	memcpy(v.b, at, 4);
	return le32_get(v);
}

static void identify_new(const uint8_t *guid, char letter, struct pi_identity *pi)
{
	pi->model = letter == '4' ? PI_4 : letter == '5' ? PI_5 : PI_NEW_UNKNOWN;
	pi->revision = word(guid + 4);
	pi->serial = word(guid + 12);
	pi->has_serial = pi->serial != 0;
}

/* The serial number four times over. */
static void identify_by_serial(const uint8_t *guid, enum list list, bool rom_xid,
			       struct pi_identity *pi)
{
	uint32_t serial = word(guid);
	uint32_t mac_tail = get_be24(pi->mac + 3);

	for (unsigned i = 1; i < 4; i++)
		if (word(guid + 4 * i) != serial)
			return;
	if (serial == 0 || serial == UINT32_MAX) /* what careless PC boards have */
		return;
	if ((serial & 0xffffff) == mac_tail || rom_xid)
		pi->model = list == LIST_ROM ? PI_3B_PLUS : PI_OLD_UNKNOWN;
	else if (list == LIST_LOADER) /* an EEPROM set so; its MAC and serial are unrelated */
		pi->model = PI_NEW_UNKNOWN;
	else
		return;
	pi->serial = serial;
	pi->has_serial = true;
}

static void identify_by_guid(const uint8_t *guid, enum list list, bool rom_xid,
			     struct pi_identity *pi)
{
	static const uint8_t rom_3b[16] = {0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44,
					   0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44};
	char letter = board_letter(guid);

	if (letter >= '0' && letter <= '9')
		identify_new(guid, letter, pi);
	else if (memcmp(guid, rom_3b, sizeof(rom_3b)) == 0)
		pi->model = list == LIST_LOADER ? PI_OLD_UNKNOWN : PI_3B;
	else
		identify_by_serial(guid, list, rom_xid, pi);
}

struct pi_identity pi_identify(const struct dhcp_packet *packet)
{
	struct pi_identity pi = {.model = PI_NONE};
	bool rom_xid = be32_get(packet->head.xid) == PI_ROM_XID;
	enum list list = list_of(packet);
	size_t bytes;
	const uint8_t *guid = dhcp_get(packet, DHCP_OPT_GUID, &bytes);

	memcpy(pi.mac, packet->head.chaddr, sizeof(pi.mac));
	if (!pxe_client(packet) || pxe_is_http(packet) || pxe_architecture(packet) != 0)
		return pi;
	if (guid && bytes == DHCP_GUID_BYTES && guid[0] == 0)
		identify_by_guid(guid + 1, list, rom_xid, &pi);
	if (pi.model == PI_NONE && rom_xid && list != LIST_OTHER)
		pi.model = PI_OLD_UNKNOWN;
	if (pi.model != PI_NONE && !pi_model_is_new(pi.model)) {
		pi.bootcode = list == LIST_LOADER;
		pi.rom = !pi.bootcode;
	}
	return pi;
}
