/*
 * Who asks by DHCP, and whose boot that is.
 */
#include "service_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"

/* A boot that could not be prepared is tried again when its Pi asks, but not faster than this. */
#define RETRY_MS 4000
/* A Pi that says nothing for so long and then asks has been switched off and on. */
#define SILENCE_MS BOOT_SILENCE_MS
/* The same for one that was loading files: its boot loader would have asked again long ago. */
#define RESTART_MS 6000
/* A Pi that no router gives an address asks for hours: its credentials, good for 15 minutes, and
 * its files are made anew. */
#define FRESH_MS (5 * 60 * 1000)
/* A duplicate of the packet that began a boot is no new one. */
#define DUPLICATE_MS 3000
/* Anybody on the network can make any number of troubles: so many get into the log in so long. */
#define TROUBLES_LOGGED   60
#define TROUBLES_EVERY_MS 60000

/* --- whose Pi it is --- */

struct boot *service_begin(struct service *service, const struct pi_identity *who,
			   const struct boot_node *node, int ifindex)
{
	struct boot *boot = boots_add(service->boots, who, BOOT_PREPARING, now_ms());

	if (!boot)
		return NULL;
	boot->ifindex = ifindex;
	memcpy(boot->node, node->name, sizeof(boot->node));
	boot->has_node_mac = node->has_mac;
	memcpy(boot->node_mac, node->mac, sizeof(boot->node_mac));
	/* `who` may have been of a boot that is forgotten now. */
	nodes_begun(service->nodes, node->name, boot->who.mac);
	prepare_boot(service, boot, node);
	return boot;
}

/* Its DISCOVER begins another boot than the one that we have. */
static bool is_over(const struct boot *boot, const struct dhcp_client *client, uint64_t now)
{
	uint64_t silent_ms = now - boot->active_ms;

	switch (boot->stage) {
	case BOOT_STRANGER: return true;
	case BOOT_PREPARING:
	case BOOT_FAILED: return false;
	case BOOT_WAITING:
		return now - boot->started_ms >= FRESH_MS ||
		       (client->pi.rom && !boot->in_rom && silent_ms >= DUPLICATE_MS);
	case BOOT_OFFERED: return silent_ms >= SILENCE_MS || now - boot->started_ms >= FRESH_MS;
	case BOOT_LOADING:
		/* bootcode.bin asks by DHCP once more in the middle of a boot. */
		return silent_ms >= (client->pi.bootcode ? SILENCE_MS : RESTART_MS);
	case BOOT_LOADED:
	case BOOT_RUNNING: return silent_ms >= DUPLICATE_MS;
	}
	return true;
}

static void retry(struct service *service, struct boot *boot, const struct boot_node *node)
{
	if (now_ms() - boot->active_ms < RETRY_MS)
		return;
	boot->stage = BOOT_PREPARING;
	boot->active_ms = now_ms();
	prepare_boot(service, boot, node);
}

void ask_remember_address(struct service *service, struct boot *boot,
			  const struct dhcp_client *client)
{
	if (client->address.s_addr != INADDR_ANY)
		boot_set_address(service->boots, boot, client->address, client->ifindex);
}

/* What other machines are told to fetch: iPXE its script, UEFI the program that is named by its
 * processor. */
static void choose_file(const struct service *service, const struct dhcp_client *client,
			struct dhcp_boot *boot)
{
	const char *program = "";
	char address[INET_ADDRSTRLEN];

	switch (client->architecture) {
	case 7: /* x86-64; */
	case 9:
	case 16: program = "EFI/BOOT/BOOTX64.EFI"; break;
	case 11: /* arm64; by HTTP */
	case 19: program = "EFI/BOOT/BOOTAA64.EFI"; break;
	default: break;
	}
	if (client->ipxe)
		program = VIEW_SCRIPT;
	if (client->http && program[0] && service->http &&
	    inet_ntop(AF_INET, &client->local, address, sizeof(address)))
		(void)snprintf(boot->file, sizeof(boot->file), "http://%s:%u/%s", address,
			       http_port(service->http), program);
	else if (!client->http)
		(void)snprintf(boot->file, sizeof(boot->file), "%s", program);
}

/* --- what the engine asks and tells --- */

/* Another board boots as the node, or has begun to run a moment ago. */
static bool another_boots(struct service *service, const struct boot_node *node,
			  const uint8_t who[6])
{
	const struct boot *boot = NULL;
	uint64_t now = now_ms();

	while ((boot = boots_next(service->boots, boot))) {
		if (boot->stage >= BOOT_PREPARING && boot->stage <= BOOT_RUNNING &&
		    boot->active_ms + SILENCE_MS > now && memcmp(boot->who.mac, who, 6) != 0 &&
		    strcmp(boot->node, node->name) == 0)
			return true;
	}
	return false;
}

/*
 * Who is logged in is the board that booted last; not known to be this one is another. One that was
 * logged in a moment ago may come back: lunrootd began anew, or the network had its troubles.
 */
static bool another_runs(const struct boot_node *node, const uint8_t who[6])
{
	bool used = node->used_ms > 0 && now_ms() - node->used_ms < SILENCE_MS;

	return node->has_booted ? (node->in_use || used) && memcmp(node->booted_mac, who, 6) != 0
				: node->in_use;
}

/*
 * Two boards that say to be the same node's. A serial number is no secret: whoever repeats a node's
 * must not be able to stop it. If the node has a MAC, only that board boots; else the one that came
 * first, as long as it lasts.
 */
bool ask_other_board(struct service *service, const struct boot_node *node, const uint8_t who[6])
{
	char text[256], mac[MAC_TEXT_BYTES];
	bool other = node->has_mac ? memcmp(node->mac, who, 6) != 0
				   : another_boots(service, node, who) || another_runs(node, who);

	if (!other)
		return false;
	mac_format(who, ':', mac);
	(void)snprintf(text, sizeof(text),
		       "%s says to be the Pi of node %s, which %s: if the board was changed, "
		       "lunctl assign %s --mac %s",
		       mac, node->name, node->has_mac ? "has another MAC" : "another boots or runs",
		       node->name, mac);
	/* Its login may have ended just now. */
	service_fetch_nodes(service, false);
	teller_trouble(service->teller, "two_boards", text);
	return true;
}

static enum dhcp_verdict on_ask(void *arg, const struct dhcp_client *client,
				struct dhcp_boot *ret_boot)
{
	struct service *service = arg;
	const struct boot_node *node = nodes_find(service->nodes, &client->pi);
	struct boot *boot = boots_find_mac(service->boots, client->pi.mac);
	uint64_t now = now_ms();

	if (!node) {
		service_fetch_nodes(service, false);
		if (client->pi.model == PI_NONE)
			return DHCP_IGNORE;
		stranger_asks(service, client);
		return DHCP_WAIT;
	}
	if (client->pi.model == PI_NONE)
		choose_file(service, client, ret_boot);
	if (ask_other_board(service, node, client->pi.mac))
		return DHCP_WAIT;
	if (!boot || is_over(boot, client, now) || strcmp(boot->node, node->name) != 0 ||
	    (boot->who.model == PI_NONE && client->pi.model != PI_NONE))
		boot = service_begin(service, &client->pi, node, client->ifindex);
	if (!boot)
		return DHCP_WAIT;
	if (boot->stage == BOOT_FAILED)
		retry(service, boot, node);
	else
		boot->active_ms = now;
	if (client->pi.bootcode && boot->in_rom)
		boot_leaves_rom(boot, now);
	boot_note(boot, "discover", "%s",
		  client->pi.rom        ? "boot ROM"
		  : client->pi.bootcode ? "bootcode.bin"
					: "");
	ask_remember_address(service, boot, client);
	if (boot->stage == BOOT_WAITING && !admission_let_in(service, boot, now))
		boot_note(boot, "wait", "%llu others load their files",
			  (unsigned long long)service->admission.allowed);
	return boot->stage >= BOOT_OFFERED && boot->stage <= BOOT_RUNNING ? DHCP_OFFER : DHCP_WAIT;
}

static void log_trouble(struct service *service, const char *text)
{
	uint64_t now = now_ms();

	if (now - service->troubles_ms >= TROUBLES_EVERY_MS) {
		service->troubles_ms = now;
		service->troubles_logged = 0;
	}
	if (service->troubles_logged > TROUBLES_LOGGED)
		return;
	if (service->troubles_logged++ < TROUBLES_LOGGED)
		log_warn("%s", text);
	else
		log_warn("there are more troubles of the network than are logged in a minute; "
			 "lunctl doctor knows the last ones");
}

static void on_trouble(struct service *service, struct boot *boot, const char *text)
{
	log_trouble(service, text);
	teller_trouble(service->teller, "network", text);
	if (boot)
		boot_note(boot, "trouble", "%s", text);
}

static void on_dhcp_event(void *arg, const struct dhcp_client *client, enum dhcp_event event,
			  const char *text)
{
	struct service *service = arg;
	struct boot *boot = client ? boots_find_mac(service->boots, client->pi.mac) : NULL;
	char address[INET_ADDRSTRLEN] = "", server[INET_ADDRSTRLEN] = "";

	switch (event) {
	case DHCP_EVENT_DISCOVER: break; /* on_ask has noted it */
	case DHCP_EVENT_OFFER:
		if (boot)
			boot_note(boot, "offer", NULL);
		break;
	case DHCP_EVENT_ADDRESS:
		if (!boot)
			break;
		ask_remember_address(service, boot, client);
		(void)inet_ntop(AF_INET, &client->address, address, sizeof(address));
		(void)inet_ntop(AF_INET, &client->server, server, sizeof(server));
		boot_note(boot, "request", "%s from %s", address, server);
		break;
	case DHCP_EVENT_TROUBLE: on_trouble(service, boot, text); break;
	case DHCP_EVENT_SERVING:
		log_info("no other DHCP server answers: addresses are given out");
		break;
	case DHCP_EVENT_REFUSED: on_trouble(service, NULL, text); break;
	}
}

const struct dhcp_ops ask_ops = {
	.ask = on_ask,
	.event = on_dhcp_event,
	.known = {.host = lease_host, .is_static = lease_is_static, .unix_s = lease_unix_s},
	.lease_store = lease_store,
	.lease_forget = lease_forget,
};
