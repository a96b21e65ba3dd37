/*
 * Which board sends this DISCOVER. A Pi is told by what its boot ROM or bootloader alone sends,
 * never by the maker's part of the MAC address: that list grows, can be overridden, and the Pi's
 * own operating system has the same MAC. Who is no Pi for sure is none. Any thread.
 */
#ifndef LUNROOT_BOOT_FINGERPRINT_H
#define LUNROOT_BOOT_FINGERPRINT_H

#include "dhcp_packet.h"
#include "model.h"

/* The transaction id of every boot ROM and bootcode.bin up to the Pi 3. */
#define PI_ROM_XID 0x26f30339u

/* Wants to be booted: option 60 begins with "PXEClient", or, by HTTP (UEFI), "HTTPClient". */
bool pxe_client(const struct dhcp_packet *packet);

/*
 * The sender's identity: `mac` is always there; the model is PI_NONE and the rest empty unless it
 * is a Pi that wants to boot.
 */
struct pi_identity pi_identify(const struct dhcp_packet *packet);

/* The first of option 93; 0xffff if there is none. */
uint16_t pxe_architecture(const struct dhcp_packet *packet);

/* Wants a URL, and an answer of its own class (UEFI 2.10, 24.7). */
bool pxe_is_http(const struct dhcp_packet *packet);

/* Says that it is iPXE (option 77, or iPXE's own 175). */
bool pxe_is_ipxe(const struct dhcp_packet *packet);

#endif
