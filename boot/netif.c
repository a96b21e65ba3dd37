/*
 * The kernel's answers about interfaces.
 */
#include "boot/netif.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* With one call; if_indextoname makes a socket each time. */
static bool name_of(int fd, int ifindex, struct ifreq *ret_request)
{
	struct ifreq request = {.ifr_ifindex = ifindex};

	if (ifindex <= 0 || ioctl(fd, SIOCGIFNAME, &request) < 0)
		return false;
	*ret_request = request;
	return true;
}

bool netif_listed(int fd, int ifindex, const char *const *names, unsigned count)
{
	struct ifreq request;

	if (count == 0)
		return true;
	if (!name_of(fd, ifindex, &request))
		return false;
	for (unsigned i = 0; i < count; i++) {
		if (strncmp(request.ifr_name, names[i], IFNAMSIZ) == 0)
			return true;
	}
	return false;
}

unsigned netif_mtu(int fd, int ifindex)
{
	struct ifreq request;

	if (!name_of(fd, ifindex, &request) || ioctl(fd, SIOCGIFMTU, &request) < 0 ||
	    request.ifr_mtu < 68 /* IPv4's least */)
		return 1500;
	return (unsigned)request.ifr_mtu;
}

bool netif_neighbour(int fd, int ifindex, struct in_addr address, uint8_t ret_mac[6])
{
	struct arpreq request = {.arp_pa.sa_family = AF_INET};
	struct ifreq name;

	if (!name_of(fd, ifindex, &name))
		return false;
	((struct sockaddr_in *)(void *)&request.arp_pa)->sin_addr = address;
	memcpy(request.arp_dev, name.ifr_name, sizeof(request.arp_dev));
	if (ioctl(fd, SIOCGARP, &request) < 0 || !(request.arp_flags & ATF_COM))
		return false;
	memcpy(ret_mac, request.arp_ha.sa_data, 6);
	return true;
}

int netif_names_copy(const char *const *names, unsigned count, char ***ret_names)
{
	char **copy = calloc(count > 0 ? count : 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		copy[i] = strdup(names[i]);
		if (!copy[i]) {
			netif_names_free(copy, i);
			return -ENOMEM;
		}
	}
	*ret_names = copy;
	return 0;
}

void netif_names_free(char **names, unsigned count)
{
	if (!names)
		return;
	for (unsigned i = 0; i < count; i++)
		free(names[i]);
	free(names);
}
