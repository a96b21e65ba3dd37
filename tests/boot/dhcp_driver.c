/*
 * The DHCP engine on real sockets with the smallest owner that works, for dhcp.sh: it boots every
 * Pi and one PC, keeps leases in memory, and writes a line for all that happens.
 *
 * usage: dhcp_driver proxy|known INTERFACE [PC-MAC [POOL-FIRST POOL-LAST [LEASE-SECONDS]]]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "boot/dhcp_socket.h"

static uint8_t pc[6];
static struct dhcp *dhcp;
static struct dhcp_lease storing;
static struct event *stored_event;

static const char *address_text(struct in_addr address)
{
	static char texts[4][INET_ADDRSTRLEN];
	static unsigned next;

	return inet_ntop(AF_INET, &address, texts[next++ % 4], INET_ADDRSTRLEN);
}

static enum dhcp_verdict ask(void *arg, const struct dhcp_client *client, struct dhcp_boot *boot)
{
	(void)arg;
	if (client->pi.model != PI_NONE)
		return DHCP_OFFER;
	if (memcmp(client->pi.mac, pc, 6) != 0)
		return DHCP_IGNORE;
	snprintf(boot->file, sizeof(boot->file), "%s", client->ipxe ? "boot.ipxe" : "ipxe.efi");
	return DHCP_OFFER;
}

static void on_event(void *arg, const struct dhcp_client *client, enum dhcp_event event,
		     const char *text)
{
	static const char *const words[] = {"discover", "offer",   "address",
					    "trouble",  "serving", "refused"};
	char who[PI_IDENTITY_TEXT_BYTES] = "nobody";

	(void)arg;
	if (client)
		pi_identity_text(&client->pi, who);
	printf("%s: %s: %s", words[event], who, text ? text : "");
	if (client && event == DHCP_EVENT_ADDRESS)
		printf("%s from %s", address_text(client->address), address_text(client->server));
	printf("\n");
}

static bool host(void *arg, const uint8_t mac[6], struct dhcp_host *ret_host)
{
	(void)arg;
	(void)mac;
	(void)ret_host;
	return false;
}

static bool is_static(void *arg, struct in_addr address)
{
	(void)arg;
	(void)address;
	return false;
}

static int64_t unix_s(void *arg)
{
	(void)arg;
	return time(NULL);
}

static void on_stored(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	dhcp_lease_stored(dhcp, storing.mac, 0);
}

/* A moment later, as a real owner: one at a time is enough here. */
static int lease_store(void *arg, const struct dhcp_lease *lease)
{
	struct timeval moment = {.tv_usec = 20000};

	(void)arg;
	printf("lease: %s %s\n", address_text(lease->address), lease->hostname);
	storing = *lease;
	return event_add(stored_event, &moment) ? -ENOMEM : -EINPROGRESS;
}

static void lease_forget(void *arg, const uint8_t mac[6])
{
	(void)arg;
	(void)mac;
	printf("forget\n");
}

static const struct dhcp_ops ops = {
	.ask = ask,
	.event = on_event,
	.known = {.host = host, .is_static = is_static, .unix_s = unix_s},
	.lease_store = lease_store,
	.lease_forget = lease_forget,
};

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	event_base_loopbreak(arg);
}

int main(int argc, char **argv)
{
	struct dhcp_config config = {0};
	struct event_base *base = event_base_new();
	struct dhcp_socket_config on = {0};
	struct dhcp_socket *socket = NULL;
	struct event *end;
	const char *names[1];
	int res;

	if (argc < 3 || !base) {
		fprintf(stderr,
			"usage: %s proxy|known INTERFACE|- [PC-MAC [FIRST LAST [LEASE-S]]]\n",
			argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	config.known = strcmp(argv[1], "known") == 0;
	names[0] = argv[2];
	on.names = names;
	on.name_count = strcmp(names[0], "-") != 0;
	for (unsigned i = 0; argc > 3 && i < 6 && strlen(argv[3]) == 17; i++)
		pc[i] = (uint8_t)strtoul(argv[3] + 3 * i, NULL, 16);
	if (argc > 5) {
		inet_pton(AF_INET, argv[4], &config.addresses.pool_first);
		inet_pton(AF_INET, argv[5], &config.addresses.pool_last);
	}
	if (argc > 6)
		config.addresses.lease_s = (uint32_t)strtoul(argv[6], NULL, 10);
	stored_event = evtimer_new(base, on_stored, NULL);
	end = evsignal_new(base, SIGTERM, on_signal, base);
	dhcp = dhcp_new(&config, &ops, NULL);
	if (!dhcp || !stored_event || !end || event_add(end, NULL))
		return 1;
	res = dhcp_socket_new(base, dhcp, &on, &socket);
	if (res) {
		fprintf(stderr, "dhcp_driver: %s\n", strerror(-res));
		return 1;
	}
	printf("ready\n");
	event_base_dispatch(base);
	dhcp_socket_free(socket);
	dhcp_free(dhcp);
	event_free(stored_event);
	event_free(end);
	event_base_free(base);
	printf("ended\n");
	return 0;
}
