/*
 * DHCP messages as bytes (RFC 2131, RFC 2132): parse with every length checked, build within the
 * room a client has. Options that are cut in pieces (RFC 3396) come out whole, those in the `file`
 * and `sname` fields (option 52) come out beside the others. Also the IPv4 and UDP headers around
 * a message, since it is taken from and given to packet sockets. No I/O, no state. Any thread.
 */
#ifndef LUNROOT_BOOT_DHCP_PACKET_H
#define LUNROOT_BOOT_DHCP_PACKET_H

#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/byteorder.h"
#include "base/limits.h"

#define DHCP_PORT_SERVER 67
#define DHCP_PORT_CLIENT 68
#define DHCP_PORT_PXE    4011 /* PXE 2.1: where a proxyDHCP server is asked for the boot file */

enum dhcp_message {
	DHCP_MSG_DISCOVER = 1,
	DHCP_MSG_OFFER,
	DHCP_MSG_REQUEST,
	DHCP_MSG_DECLINE,
	DHCP_MSG_ACK,
	DHCP_MSG_NAK,
	DHCP_MSG_RELEASE,
	DHCP_MSG_INFORM,
};

enum dhcp_option {
	DHCP_OPT_PAD = 0,
	DHCP_OPT_MASK = 1,
	DHCP_OPT_ROUTER = 3,
	DHCP_OPT_DNS = 6,
	DHCP_OPT_HOSTNAME = 12,
	DHCP_OPT_DOMAIN = 15,
	DHCP_OPT_BROADCAST = 28,
	DHCP_OPT_VENDOR = 43,
	DHCP_OPT_REQUESTED = 50,
	DHCP_OPT_LEASE = 51,
	DHCP_OPT_OVERLOAD = 52,
	DHCP_OPT_MESSAGE = 53,
	DHCP_OPT_SERVER = 54,
	DHCP_OPT_PARAMETERS = 55,
	DHCP_OPT_TEXT = 56,
	DHCP_OPT_MAX_BYTES = 57,
	DHCP_OPT_T1 = 58,
	DHCP_OPT_T2 = 59,
	DHCP_OPT_CLASS = 60,
	DHCP_OPT_TFTP_SERVER = 66,
	DHCP_OPT_BOOT_FILE = 67,
	DHCP_OPT_USER_CLASS = 77,
	DHCP_OPT_ARCHITECTURE = 93,
	DHCP_OPT_GUID = 97,
	DHCP_OPT_IPXE = 175,
	DHCP_OPT_END = 255,
};

#define DHCP_FLAG_BROADCAST 0x8000
#define DHCP_GUID_BYTES     17 /* option 97: a type byte, and sixteen */

/* What of a message every answer needs. */
struct dhcp_head {
	uint8_t op, htype, hlen, hops;
	be32_t xid;
	be16_t secs, flags;
	be32_t ciaddr, yiaddr, siaddr, giaddr;
	uint8_t chaddr[16];
};
static_assert(sizeof(struct dhcp_head) == 44, "RFC 2131, 2");

struct dhcp_wire {
	struct dhcp_head head;
	uint8_t sname[64], file[128];
	uint8_t cookie[4];
};
static_assert(sizeof(struct dhcp_wire) == 240, "RFC 2131, 2");

/* A parsed message, with a copy of all options. */
struct dhcp_packet {
	struct dhcp_head head;
	enum dhcp_message type;
	bool has[256];
	uint16_t at[256], bytes[256];
	uint8_t data[LIMIT_DHCP_PACKET_BYTES];
};

/*
 * 0, or: -EMSGSIZE (shorter than BOOTP's header, longer than LIMIT_DHCP_PACKET_BYTES), -ENOMSG
 * (BOOTP without a DHCP message type), -EPROTONOSUPPORT (not Ethernet), -EBADMSG (anything
 * malformed; no guesses are made).
 */
int dhcp_parse(const void *data, size_t bytes, struct dhcp_packet *ret_packet);

/* The option's value, or NULL; it may be empty. It stays in the packet. */
const uint8_t *dhcp_get(const struct dhcp_packet *packet, enum dhcp_option code, size_t *ret_bytes);

/* An option that is one address; 0.0.0.0 if it is absent or not four bytes. */
struct in_addr dhcp_get_address(const struct dhcp_packet *packet, enum dhcp_option code);

/* A text option as a host name: letters, digits, '-' and '.', cut at what is none; "" if nothing is
 * left. */
void dhcp_get_name(const struct dhcp_packet *packet, enum dhcp_option code, char *to, size_t room);

/* The option begins with this text. */
bool dhcp_begins(const struct dhcp_packet *packet, enum dhcp_option code, const char *text);

static inline struct in_addr dhcp_address(be32_t a)
{
	return (struct in_addr){htonl(be32_get(a))};
}

static inline be32_t dhcp_be32(struct in_addr a)
{
	be32_t r;

	be32_put(&r, ntohl(a.s_addr));
	return r;
}

/* What is kept of a request until it is answered. */
struct dhcp_request {
	struct dhcp_head head;
	uint8_t guid[DHCP_GUID_BYTES];
	uint8_t guid_bytes; /* 0: none was sent */
	uint16_t reply_bytes_max;
	enum dhcp_message type;
	struct in_addr requested, server; /* options 50 and 54; 0.0.0.0: absent */
};

struct dhcp_request dhcp_request_of(const struct dhcp_packet *packet);

/* An answer in the making. */
struct dhcp_reply {
	struct dhcp_wire wire;
	uint8_t options[LIMIT_DHCP_REPLY_BYTES - sizeof(struct dhcp_wire)];
	size_t option_bytes, option_bytes_max;
};

/* op 2, xid, hops, chaddr, giaddr and flags of the request, and option 53. */
void dhcp_reply_begin(struct dhcp_reply *reply, const struct dhcp_request *request,
		      enum dhcp_message type);
/* A request of our own: a DISCOVER that asks for broadcast answers. */
void dhcp_discover_begin(struct dhcp_reply *reply, const uint8_t mac[6], uint32_t xid);
/* false: no room (or more than 255 bytes), and the option is left out. Put what matters most first.
 */
bool dhcp_put(struct dhcp_reply *reply, enum dhcp_option code, const void *data, size_t bytes);
bool dhcp_put_text(struct dhcp_reply *reply, enum dhcp_option code, const char *text); /* no NUL */
bool dhcp_put_u32(struct dhcp_reply *reply, enum dhcp_option code, uint32_t value);
bool dhcp_put_address(struct dhcp_reply *reply, enum dhcp_option code, struct in_addr address);
/* Ends the options; the message lies at reply->wire and has this many bytes, at least BOOTP's 300.
 */
size_t dhcp_reply_end(struct dhcp_reply *reply);

/* A UDP datagram. */
struct dhcp_datagram {
	struct in_addr from, to;
	uint16_t from_port, to_port;
	const uint8_t *data;
	size_t bytes;
};

#define DHCP_FRAME_HEADER_BYTES 28

/*
 * An IPv4 packet with a whole UDP datagram: 0, or -EBADMSG. The checksums are not looked at:
 * Ethernet has one, a packet from this machine's own virtual links may have none yet, and a Pi's
 * ROM makes none.
 */
int dhcp_frame_parse(const void *packet, size_t bytes, struct dhcp_datagram *ret_datagram);

/* IPv4 and UDP headers with their checksums, and the data; 0 if there is no room. */
size_t dhcp_frame_build(const struct dhcp_datagram *datagram, uint8_t *to, size_t room);

#endif
