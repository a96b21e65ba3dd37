/* Pieces of a peer that means harm: chance, and its DHCP. */
#ifndef LUNROOT_TESTS_BOOT_HOSTILE_H
#define LUNROOT_TESTS_BOOT_HOSTILE_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>

unsigned rnd(unsigned below);
/* One of the addresses that are ours. */
struct in_addr somewhere(void);
/* The length of what is put there. */
size_t noise(uint8_t *packet, size_t max);
void mutate(uint8_t *packet, size_t *bytes);

/* Frames leave through this interface, of boards and servers that are made up, and of the board
 * with this MAC. Ends the program if it can't be. */
void dhcp_open(const char *interface, const char *mac, struct in_addr server);
/* Sends one; 1, or 0 if there was no room. */
unsigned trouble_dhcp(void);

#endif
