/*
 * Pis that belong to no node: remembered for `lunctl ls --pending`, looked at again when the nodes'
 * list is new, and perhaps given a node of their own.
 */
#include "service_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"

#define FAILED_MS 10000 /* before the next try */

struct cloning {
	struct work work;
	struct service *service;
	char name[NODE_NAME_BYTES], serial[16], mac[MAC_TEXT_BYTES];
	int res;
	struct api_failure failure;
};

static void run_cloning(struct work *work)
{
	struct cloning *cloning = CONTAINER_OF(work, struct cloning, work);
	const struct boot_options *options = cloning->service->options;

	cloning->res = api_call(options->socket_path, "POST", "/v1/nodes",
				json_pack("{s:s, s:s, s:s, s:s}", "name", cloning->name, "base",
					  options->auto_image, "serial", cloning->serial, "mac",
					  cloning->mac),
				NULL, &cloning->failure);
}

static void on_cloned(struct work *work)
{
	struct cloning *cloning = CONTAINER_OF(work, struct cloning, work);
	struct service *service = cloning->service;

	service->cloning = false;
	if (cloning->res == 0 || strcmp(cloning->failure.code, API_UNANSWERED) == 0)
		service->auto_made++; /* or perhaps */
	if (cloning->res == 0) {
		log_info("node %s is made for the Pi %s, serial %s", cloning->name, cloning->mac,
			 cloning->serial);
	} else {
		log_warn("no node is made for the Pi %s: %s", cloning->mac, cloning->failure.text);
		service->cloning_failed_ms = now_ms();
	}
	if (cloning->res == 0)
		service_fetch_nodes(service, true);
	free(cloning);
}

/* "pi-##" with the lowest number that is free. */
static bool free_name(const struct service *service, char ret_name[NODE_NAME_BYTES])
{
	const char *pattern = service->options->auto_name;
	size_t before = strcspn(pattern, "#"), digits = strspn(pattern + before, "#");
	unsigned max = 1;

	for (size_t i = 0; i < digits; i++)
		max *= 10;
	for (unsigned n = 1; n < max; n++) {
		(void)snprintf(ret_name, NODE_NAME_BYTES, "%.*s%0*u%s", (int)before, pattern,
			       (int)digits, n, pattern + before + digits);
		if (!nodes_find_name(service->nodes, ret_name))
			return true;
	}
	return false;
}

/* Said once in the log, and as long as it matters to whoever asks for troubles. */
static void no_more(struct service *service, const char *code, const char *text)
{
	if (!service->cloning_refused)
		log_warn("%s", text);
	service->cloning_refused = true;
	teller_trouble(service->teller, code, text);
}

/* One at a time: the next name is known when the last node is. */
static void clone_for(struct service *service, const struct boot *boot)
{
	struct cloning *cloning;

	if (!service->options->auto_image[0] || service->cloning || !service->nodes_known ||
	    (service->cloning_failed_ms && now_ms() - service->cloning_failed_ms < FAILED_MS))
		return;
	if (service->auto_made >= service->options->auto_max) {
		no_more(service, "auto_max",
			"as many nodes as --auto-max allows were made; others must be adopted: "
			"lunctl adopt");
		return;
	}
	cloning = calloc(1, sizeof(*cloning));
	if (!cloning)
		return;
	if (!free_name(service, cloning->name)) {
		no_more(service, "auto_name",
			"all names that --auto-name allows are taken: give it more digits, or "
			"adopt: lunctl adopt");
		free(cloning);
		return;
	}
	cloning->work = (struct work){.run = run_cloning, .done = on_cloned};
	cloning->service = service;
	mac_format(boot->who.mac, ':', cloning->mac);
	if (boot->who.has_serial)
		(void)snprintf(cloning->serial, sizeof(cloning->serial), "%08x", boot->who.serial);
	service->cloning = true;
	work_post(service->workers, &cloning->work);
}

void stranger_asks(struct service *service, const struct dhcp_client *client)
{
	struct boot *boot = boots_find_mac(service->boots, client->pi.mac);
	uint64_t now = now_ms();

	/* One record of a stranger, however often it asks; a long silence begins another. */
	if (!boot || boot->stage != BOOT_STRANGER || now - boot->active_ms >= BOOT_SILENCE_MS)
		boot = boots_add(service->boots, &client->pi, BOOT_STRANGER, now);
	if (!boot)
		return;
	if (client->pi.has_serial && !boot->who.has_serial) {
		boot->who = client->pi;
		boot->head_changed = true;
	}
	boot->ifindex = client->ifindex;
	boot->active_ms = now;
	boot_note(boot, "discover", "belongs to no node");
	ask_remember_address(service, boot, client);
}

/* The list is new: perhaps some of those who waited are nodes' now. */
void strangers_look(struct service *service)
{
	struct boot *boot, *next;

	for (boot = boots_next(service->boots, NULL); boot; boot = next) {
		const struct boot_node *node;
		struct boot *begun;
		struct in_addr address;
		int ifindex;

		next = boots_next(service->boots, boot);
		if (boot->stage != BOOT_STRANGER || now_ms() - boot->active_ms >= BOOT_SILENCE_MS ||
		    boots_find_mac(service->boots, boot->who.mac) != boot)
			continue;
		node = nodes_find(service->nodes, &boot->who);
		if (!node) {
			clone_for(service, boot);
			continue;
		}
		if (ask_other_board(service, node, boot->who.mac))
			continue;
		address = boot->address;
		ifindex = boot->ifindex;
		begun = service_begin(service, &boot->who, node, ifindex);
		if (!begun)
			break; /* no memory, or no room: this one would be found for ever */
		if (address.s_addr != INADDR_ANY)
			boot_set_address(service->boots, begun, address, ifindex);
		/* For the new one another may have been forgotten, even the next; this MAC has
		 * another boot now. */
		next = boots_next(service->boots, NULL);
	}
}
