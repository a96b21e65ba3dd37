/*
 * Network interfaces by index, as packets name them. Asked anew each time, through any socket `fd`:
 * interfaces come, go and change under a daemon. Any thread.
 */
#ifndef LUNROOT_BOOT_NETIF_H
#define LUNROOT_BOOT_NETIF_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

/* Whether the interface is one of the named ones; of no names (count 0), every one is. */
bool netif_listed(int fd, int ifindex, const char *const *names, unsigned count);

/* What it carries, IP header included; 1500 if it can't tell. */
unsigned netif_mtu(int fd, int ifindex);

/* Whose MAC the kernel has seen at an address; false if it does not know. */
bool netif_neighbour(int fd, int ifindex, struct in_addr address, uint8_t ret_mac[6]);

/* Owned copies of `count` names, freed by netif_names_free; 0 or -ENOMEM. */
int netif_names_copy(const char *const *names, unsigned count, char ***ret_names);
void netif_names_free(char **names, unsigned count);

#endif
