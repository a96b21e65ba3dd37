/*
 * Addresses of the small DHCP mode: who is known, and leases, which lunrootd keeps. It is told of
 * their changes one after the other, in the order in which they came to be: a lease that is given
 * back after it was given stays given back, and an address may be another's only when it is free.
 */
#include "service_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"

/* A node that is known by its serial has told its MAC when it began to boot. */
static const struct boot_node *node_of_mac(const struct service *service, const uint8_t mac[6])
{
	const struct boot_node *node = nodes_find_mac(service->nodes, mac);
	const struct boot *boot = node ? NULL : boots_find_mac(service->boots, mac);

	return boot && boot->node[0] ? nodes_find_name(service->nodes, boot->node) : node;
}

bool lease_host(void *arg, const uint8_t mac[6], struct dhcp_host *ret_host)
{
	struct service *service = arg;
	const struct boot_node *node = node_of_mac(service, mac);

	if (!node)
		return false;
	*ret_host = (struct dhcp_host){.address = node->address};
	memcpy(ret_host->hostname, node->hostname, sizeof(ret_host->hostname));
	return true;
}

bool lease_is_static(void *arg, struct in_addr address)
{
	const struct service *service = arg;

	return nodes_find_address(service->nodes, address) != NULL;
}

int64_t lease_unix_s(void *arg)
{
	(void)arg;
	return (int64_t)time(NULL);
}

#define LEASES_RETRY_MS 2000

/* One change. */
struct keeping {
	struct list entry; /* in service->keepings, whose first one is under way */
	struct work work;
	struct service *service;
	struct dhcp_lease lease;
	bool forget;
	int res;
	struct api_failure failure;
};

/* "DESKTOP-AB12.home" is called desktop-ab12: what lunrootd takes for a name. */
static void host_label(const char *name, char *ret_label)
{
	size_t bytes = 0;

	for (; name[bytes] && name[bytes] != '.' && bytes < LIMIT_OBJECT_NAME_BYTES; bytes++) {
		char c = (char)tolower((unsigned char)name[bytes]);

		ret_label[bytes] = '-';
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			ret_label[bytes] = c;
	}
	while (bytes > 0 && ret_label[bytes - 1] == '-')
		bytes--;
	ret_label[bytes] = '\0';
	if (ret_label[0] == '-')
		ret_label[0] = '\0';
}

static void run_keeping(struct work *work)
{
	struct keeping *keeping = CONTAINER_OF(work, struct keeping, work);
	const char *socket_path = keeping->service->options->socket_path;
	char target[API_TARGET_BYTES], mac[MAC_TEXT_BYTES], address[INET_ADDRSTRLEN];
	char until[API_TIME_BYTES];
	char hostname[sizeof(keeping->lease.hostname)];

	host_label(keeping->lease.hostname, hostname);
	mac_format(keeping->lease.mac, ':', mac);
	(void)snprintf(target, sizeof(target), "/v1/leases/%s", mac);
	if (keeping->forget) {
		keeping->res =
			api_call(socket_path, "DELETE", target, NULL, NULL, &keeping->failure);
		return;
	}
	(void)inet_ntop(AF_INET, &keeping->lease.address, address, sizeof(address));
	api_time((time_t)keeping->lease.until_s, until);
	keeping->res = api_call(socket_path, "PUT", target,
				json_pack("{s:s, s:s, s:s}", "address", address, "until", until,
					  "hostname", hostname),
				NULL, &keeping->failure);
}

/* A later change of the same board's lease waits. */
static bool is_outdated(const struct service *service, const struct keeping *keeping)
{
	list_for_each (at, &service->keepings) {
		const struct keeping *other = LIST_ENTRY(at, struct keeping, entry);

		if (other != keeping && memcmp(other->lease.mac, keeping->lease.mac, 6) == 0)
			return true;
	}
	return false;
}

static void keep_next(struct service *service)
{
	struct keeping *keeping = LIST_FIRST(&service->keepings, struct keeping, entry);

	if (keeping)
		work_post(service->workers, &keeping->work);
}

static void drop(struct service *service, struct keeping *keeping)
{
	list_remove(&keeping->entry);
	service->keeping_count--;
	free(keeping);
}

static void on_kept(struct work *work)
{
	struct keeping *keeping = CONTAINER_OF(work, struct keeping, work);
	struct service *service = keeping->service;

	service_lunrootd(service, keeping->res != -ECONNREFUSED, keeping->failure.text);
	/* One that is to be forgotten may have made room for another already. */
	if (keeping->res < 0 && keeping->res != -ECONNREFUSED &&
	    !(keeping->forget && keeping->res == -ENOENT))
		log_warn("a lease is not kept: %s", keeping->failure.text);
	/* The ACK is for the newest one, which is not kept before its own turn. */
	if (!keeping->forget && !is_outdated(service, keeping))
		dhcp_lease_stored(service->dhcp, keeping->lease.mac, keeping->res);
	drop(service, keeping);
	keep_next(service);
}

static int keep(struct service *service, const struct dhcp_lease *lease, bool forget)
{
	bool idle = list_empty(&service->keepings);
	struct keeping *keeping;

	/* lunrootd does not answer: what is asked for now would come too late anyway. */
	if (service->keeping_count >= LIMIT_LEASES)
		return -ENOBUFS;
	keeping = calloc(1, sizeof(*keeping));
	if (!keeping)
		return -ENOMEM;
	keeping->work = (struct work){.run = run_keeping, .done = on_kept};
	keeping->service = service;
	keeping->lease = *lease;
	keeping->forget = forget;
	list_append(&service->keepings, &keeping->entry);
	service->keeping_count++;
	if (idle)
		keep_next(service);
	return -EINPROGRESS;
}

int lease_store(void *arg, const struct dhcp_lease *lease)
{
	return keep(arg, lease, false);
}

void lease_forget(void *arg, const uint8_t mac[6])
{
	struct dhcp_lease lease = {.until_s = 0};

	memcpy(lease.mac, mac, sizeof(lease.mac));
	(void)keep(arg, &lease, true);
}

void leases_init(struct service *service)
{
	list_init(&service->keepings);
}

void leases_done(struct service *service)
{
	list_for_each (at, &service->keepings)
		drop(service, LIST_ENTRY(at, struct keeping, entry));
}

/* --- those from before --- */

struct loading {
	struct work work;
	struct service *service;
	json_t *answer;
	int res;
	struct api_failure failure;
};

static void run_loading(struct work *work)
{
	struct loading *loading = CONTAINER_OF(work, struct loading, work);

	loading->res = api_call(loading->service->options->socket_path, "GET", "/v1/leases", NULL,
				&loading->answer, &loading->failure);
}

static bool lease_read(const json_t *object, struct dhcp_lease *ret_lease)
{
	struct dhcp_lease lease = {.until_s = 0};
	struct tm tm = {.tm_year = 0};
	const char *end = strptime(api_text(object, "until"), "%Y-%m-%dT%H:%M:%SZ", &tm);

	if (!end || *end || !mac_parse(api_text(object, "mac"), lease.mac) ||
	    inet_pton(AF_INET, api_text(object, "address"), &lease.address) != 1)
		return false;
	lease.until_s = (int64_t)timegm(&tm);
	(void)snprintf(lease.hostname, sizeof(lease.hostname), "%s", api_text(object, "hostname"));
	*ret_lease = lease;
	return true;
}

static void on_loaded(struct work *work)
{
	struct loading *loading = CONTAINER_OF(work, struct loading, work);
	struct service *service = loading->service;
	const json_t *object;
	struct dhcp_lease lease;
	size_t i;

	json_array_foreach(json_object_get(loading->answer, "leases"), i, object)
	{
		if (!lease_read(object, &lease) || dhcp_lease_load(service->dhcp, &lease) < 0)
			log_warn("a lease of %s is passed over", api_text(object, "mac"));
	}
	/* Nobody gets an address before it is known who has which. */
	service->leases_known = loading->res == 0;
	service->leases_loading = false;
	if (loading->res < 0 && !service->leases_failed)
		log_warn("leases can't be read, so no address is given: %s", loading->failure.text);
	service->leases_failed = loading->res < 0;
	if (service->leases_known)
		dhcp_leases_loaded(service->dhcp);
	json_decref(loading->answer);
	free(loading);
}

void leases_load(struct service *service)
{
	struct loading *loading;

	if (service->leases_known || service->leases_loading ||
	    now_ms() - service->leases_ms < LEASES_RETRY_MS)
		return;
	service->leases_ms = now_ms();
	loading = calloc(1, sizeof(*loading));
	if (!loading)
		return;
	loading->work = (struct work){.run = run_loading, .done = on_loaded};
	loading->service = service;
	service->leases_loading = true;
	work_post(service->workers, &loading->work);
}
