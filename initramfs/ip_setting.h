/*
 * The kernel's ip= (Documentation/admin-guide/nfs/nfsroot.rst), for kernels that do not act on it
 * themselves:
 *
 *     ip=dhcp|on|any|off|none
 *     ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF[:DNS0[:DNS1[:NTP0]]]
 *
 * Pure.
 */
#ifndef LUNROOT_INITRAMFS_IP_SETTING_H
#define LUNROOT_INITRAMFS_IP_SETTING_H

#include <stdbool.h>

struct ip_setting {
	bool dhcp; /* ask for an address; else `address` holds, or nothing is to be done */
	/* IPv4, dotted; "" not given */
	char address[16], gateway[16], dns[2][16];
	unsigned prefix; /* bits of the netmask */
	char interface[16], hostname[64];
};

/* "" is DHCP. 0, or -EINVAL with the name of the field that is wrong in `ret_field` (static). */
int ip_setting_parse(const char *text, struct ip_setting *ret_setting, const char **ret_field);

#endif
