/*
 * For the tests of the DHCP engine: boards as they are known to speak, a clock that is turned by
 * hand, and an owner who remembers all that happened.
 */
#ifndef LUNROOT_BOOT_DHCP_TEST_WORLD_H
#define LUNROOT_BOOT_DHCP_TEST_WORLD_H

#include "base/cleanup.h"
#include "dhcp.h"

/* A message; what is 0 or NULL is left out of it. */
struct speech {
	uint8_t op; /* 0: 1, a request */
	enum dhcp_message type;
	uint32_t xid;
	uint16_t flags;
	const uint8_t *mac;
	const char *ciaddr, *yiaddr, *siaddr, *giaddr;
	const char *class; /* option 60 */
	bool architecture; /* option 93 ... */
	uint16_t architecture_is;
	const uint8_t *guid; /* seventeen bytes */
	const uint8_t *list; /* option 55 */
	size_t list_bytes;
	const char *requested, *server; /* options 50 and 54 */
	const char *hostname, *user_class;
	const char *tftp_server; /* option 66 */
	const uint8_t *vendor;   /* option 43 */
	size_t vendor_bytes;
	uint16_t max_bytes; /* option 57 */
};

/* The message's bytes; at most LIMIT_DHCP_PACKET_BYTES. */
size_t speech_write(const struct speech *speech, uint8_t *to);

/* The boards of boot-ROM fame, with the bytes they are known to send. */
extern const uint8_t rom_list[12], loader_list[14];
extern const uint8_t mac_3b[6], mac_3b_plus[6], mac_4[6], mac_5[6], mac_pc[6];
extern const uint8_t guid_3b[17], guid_3b_plus[17], guid_4[17], guid_4_swapped[17], guid_5[17],
	guid_pc[17];
extern const struct speech rom_3b, rom_3b_plus, bootcode_3b_plus, eeprom_4, eeprom_5, pxe_pc;

#define SENT_MAX   64
#define EVENTS_MAX 128

struct sent {
	struct dhcp_out out;
	uint8_t data[LIMIT_DHCP_REPLY_BYTES];
	uint64_t at_ms;
	struct dhcp_packet packet; /* parsed: all that is sent must be well formed */
};

struct world {
	struct dhcp *dhcp;
	uint64_t now_ms, due_ms;
	struct sent sent[SENT_MAX];
	unsigned sent_count;
	uint64_t nudge_ms[SENT_MAX];
	unsigned nudge_count;
	struct in_addr neighbour;
	unsigned neighbour_count;
	struct {
		enum dhcp_event event;
		uint64_t at_ms;
		struct dhcp_client client;
		char text[512];
	} events[EVENTS_MAX];
	unsigned event_count;
	/* The owner. */
	enum dhcp_verdict verdict;       /* for Pis */
	enum dhcp_verdict verdict_other; /* for other PXE clients */
	bool meddles; /* calls the engine back whenever it is told or asked something */
	unsigned asked;
	char boot_file[LIMIT_DHCP_BOOT_FILE_BYTES + 1];
	struct {
		uint8_t mac[6];
		const char *address, *hostname;
	} hosts[4];
	int store_result;
	struct dhcp_lease stored[16];
	unsigned stored_count, forgotten_count;
	int64_t unix_s;
};

/* An engine with one interface, eth0 (index 2), 192.168.1.10/24. */
struct world *world_new(const struct dhcp_config *config);
void world_free(struct world *world);
void world_iface(struct world *world, int ifindex, const char *name, const char *const *addresses,
		 unsigned count);
/* Lets time pass; what is due happens when it is due. */
void world_pass(struct world *world, uint64_t ms);
/* Says it on eth0, to the port the message goes to. */
void world_say(struct world *world, const struct speech *speech);
void world_say_on(struct world *world, int ifindex, const char *from, const char *to, uint16_t port,
		  const struct speech *speech);
/* How many events of a kind; for troubles with this in the text (NULL: all). */
unsigned world_events(const struct world *world, enum dhcp_event event, const char *text);
struct in_addr address(const char *text);

#endif
