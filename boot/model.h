/*
 * Which Raspberry Pi: the models as far as their way of booting from the network differs, and
 * what is known of one board. No network in here. Any thread.
 */
#ifndef LUNROOT_BOOT_MODEL_H
#define LUNROOT_BOOT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum pi_model {
	PI_NONE, /* a PXE client that is no Pi */
	PI_3B,   /* and the 2B v1.2, which has the same ROM */
	PI_3B_PLUS,
	PI_4,           /* 400, CM4, CM4S too */
	PI_5,           /* 500, CM5 too */
	PI_OLD_UNKNOWN, /* up to the Pi 3, not told apart: bootcode.bin says no more */
	PI_NEW_UNKNOWN, /* a bootloader in EEPROM, board unknown */
};

struct pi_identity {
	enum pi_model model;
	bool has_serial;
	uint32_t serial;
	uint32_t revision; /* the board's revision code; 0: unknown */
	uint8_t mac[6];
	bool rom;      /* asked by the mask ROM of a Pi up to 3, */
	bool bootcode; /* or by its bootcode.bin; neither: an EEPROM bootloader, or no Pi */
};

/* "Raspberry Pi 4"; a static text. */
const char *pi_model_text(enum pi_model model);

/* The board by its revision code, more exactly: "Raspberry Pi 400"; NULL if unknown. */
const char *pi_revision_text(uint32_t revision);

/* The model by a revision code; PI_NONE if the code is unknown. */
enum pi_model pi_model_of_revision(uint32_t revision);

/* Has its bootloader in EEPROM: answers ARP, makes whole DHCP exchanges, and waits with patience.
 */
bool pi_model_is_new(enum pi_model model);

#define PI_IDENTITY_TEXT_BYTES 80

/* For people: "Raspberry Pi 4 dc:a6:32:01:36:c2, serial 5b154510", "PXE client 52:54:00:00:00:01".
 */
const char *pi_identity_text(const struct pi_identity *pi, char buffer[PI_IDENTITY_TEXT_BYTES]);

#endif
