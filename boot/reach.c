/* Choosing among addresses. */
#include "reach.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dhcp_link.h"

void reach_portals_add(struct reach_portals *portals, const char *text)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	char host[INET_ADDRSTRLEN];

	if (portals->count == LIMIT_PORTALS || !colon || (size_t)(colon - text) >= sizeof(host))
		return;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (inet_pton(AF_INET, host, &at.sin_addr) != 1)
		return;
	at.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	portals->at[portals->count++] = at;
}

struct dhcp_net reach_choose(const struct dhcp_net *nets, unsigned count, struct in_addr pi,
			     struct in_addr told)
{
	struct dhcp_net best = {.address = {0}};
	int best_score = -1;

	for (unsigned i = 0; i < count; i++) {
		int score = (pi.s_addr && dhcp_net_has(&nets[i], pi) ? 2 : 0) +
			    (told.s_addr && nets[i].address.s_addr == told.s_addr);

		if (score > best_score) {
			best = nets[i];
			best_score = score;
		}
	}
	return best;
}

/* An address may have a label: "eth0:1". */
static bool is_of(const char *label, const char *name)
{
	size_t bytes = strlen(name);

	return strncmp(label, name, bytes) == 0 && (label[bytes] == '\0' || label[bytes] == ':');
}

struct dhcp_net reach_find(int ifindex, struct in_addr pi, struct in_addr told)
{
	struct dhcp_net nets[LIMIT_DHCP_ADDRESSES];
	struct ifaddrs *all;
	char name[IF_NAMESIZE];
	unsigned count = 0;

	if (ifindex <= 0 || !if_indextoname((unsigned)ifindex, name) || getifaddrs(&all))
		return (struct dhcp_net){.address = {0}};
	for (const struct ifaddrs *at = all; at && count < LIMIT_DHCP_ADDRESSES; at = at->ifa_next)
		if (at->ifa_addr && at->ifa_addr->sa_family == AF_INET && at->ifa_netmask &&
		    is_of(at->ifa_name, name))
			nets[count++] = dhcp_net_of(at);
	freeifaddrs(all);
	return reach_choose(nets, count, pi, told);
}

static int portal_score(struct in_addr at, const struct dhcp_net *net)
{
	return at.s_addr == net->address.s_addr ? 3
	       : at.s_addr == INADDR_ANY        ? 2
	       : dhcp_net_has(net, at)          ? 1
						: 0;
}

void reach_portal(const struct reach_portals *portals, const struct dhcp_net *net,
		  char ret_text[LIMIT_ADDRESS_TEXT_BYTES])
{
	char host[INET_ADDRSTRLEN];
	int best_score = 0;

	ret_text[0] = '\0';
	for (unsigned i = 0; net->address.s_addr && i < portals->count; i++) {
		struct in_addr at = portals->at[i].sin_addr;
		int score = portal_score(at, net);

		if (score <= best_score)
			continue;
		best_score = score;
		if (at.s_addr == INADDR_ANY)
			at = net->address;
		(void)inet_ntop(AF_INET, &at, host, sizeof(host));
		(void)snprintf(ret_text, LIMIT_ADDRESS_TEXT_BYTES, "%s:%u", host,
			       ntohs(portals->at[i].sin_port));
	}
}
