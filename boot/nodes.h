/*
 * The nodes as lunrootd knows them, and which one a Pi is. A copy: it is fetched anew when somebody
 * asks who is not in it, and from time to time. Event loop.
 */
#ifndef LUNROOT_BOOT_NODES_H
#define LUNROOT_BOOT_NODES_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/limits.h"
#include "model.h"

#define NODE_NAME_BYTES   (LIMIT_OBJECT_NAME_BYTES + 1)
#define NODE_SERIAL_BYTES 33

struct boot_node {
	char name[NODE_NAME_BYTES], hostname[NODE_NAME_BYTES];
	char target[LIMIT_ISCSI_NAME_BYTES + 1], initiator[LIMIT_ISCSI_NAME_BYTES + 1];
	char serial[NODE_SERIAL_BYTES]; /* lower case; "" unknown */
	bool has_serial;                /* it ends in eight hexadecimal digits: */
	uint32_t wire_serial;
	bool has_mac;
	uint8_t mac[6];
	bool in_use; /* somebody was logged in */
	/* What lunrootd does not tell: when it was last in use (0: never seen so), and whose boot
	 * began last. */
	uint64_t used_ms;
	bool has_booted;
	uint8_t booted_mac[6];
	struct in_addr address; /* what it shall get (--dhcp known); 0.0.0.0: one of the pool */
};

struct nodes;

struct nodes *nodes_new(void); /* NULL: no memory */
void nodes_free(struct nodes *nodes);
/* GET /v1/nodes' answer takes the place of what was there, but for what lunrootd does not tell; 0,
 * -ENOMEM or -EINVAL (nothing changes). */
int nodes_take(struct nodes *nodes, const json_t *answer, uint64_t now_ms);
/* A boot of the node begins, of the board with this MAC. */
void nodes_begun(struct nodes *nodes, const char *name, const uint8_t mac[6]);
/* GET /v1/boots' answer, the newest first: the same of nodes of which it is not known. */
void nodes_take_boots(struct nodes *nodes, const json_t *answer);
unsigned nodes_count(const struct nodes *nodes);
/*
 * Whose Pi this is: by serial, which nobody but the Pi has, else by MAC. A Pi's serial has 32 bits
 * on the wire and more on the board: the last eight digits decide. NULL: nobody's. Valid until
 * nodes_take.
 */
const struct boot_node *nodes_find(const struct nodes *nodes, const struct pi_identity *who);
const struct boot_node *nodes_find_mac(const struct nodes *nodes, const uint8_t mac[6]);
/* Whose static address this is, or NULL. */
const struct boot_node *nodes_find_address(const struct nodes *nodes, struct in_addr address);
const struct boot_node *nodes_find_name(const struct nodes *nodes, const char *name);

/* "dc:a6:32:01:02:03", with `separator` between; ret_text has MAC_TEXT_BYTES. */
#define MAC_TEXT_BYTES 18
void mac_format(const uint8_t mac[6], char separator, char ret_text[MAC_TEXT_BYTES]);
bool mac_parse(const char *text, uint8_t ret_mac[6]);

#endif
