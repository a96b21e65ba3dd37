/*
 * Files over TFTP and HTTP: whose boot asks, and what he may have. Everything in a view may be read
 * by its node, before and after; the file with the credentials goes only to the address whose MAC
 * is the node's, and once.
 */
#include "service_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "blob.h"
#include "netif.h"

/* A Pi that asks for a file when this long has passed since it got its settings has begun anew. */
#define ANEW_MS 60000
/* Nobody may have logged in to a node for so long before it is believed that it does not run. */
#define FREE_MS 60000
/* A boot whose files could not be made is tried again, if somebody asks for them. */
#define AGAIN_MS 4000

/* --- who asks --- */

/* Whose MAC the kernel has seen at an address; false if it does not know. */
static bool neighbour_mac(struct in_addr address, int ifindex, uint8_t ret_mac[6])
{
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && netif_neighbour(fd, ifindex, address, ret_mac);
}

static const struct boot_node *node_of_boot(const struct service *service, const struct boot *boot)
{
	const struct boot_node *node = nodes_find(service->nodes, &boot->who);

	return node ? node : nodes_find_name(service->nodes, boot->node);
}

/*
 * Where Pis ask by DHCP: what asks for files while its node runs is some program. After lunrootd
 * was away a node seems free until its keeper has logged in again.
 */
static bool program_asks(const struct service *service, const struct boot_node *node)
{
	uint64_t now = now_ms();

	if (!service->options->dhcp || !node)
		return false;
	return node->in_use || (node->used_ms > 0 && now - node->used_ms < FREE_MS) ||
	       now - service->away_ms < FREE_MS;
}

/*
 * It runs, or should, and loads files again: nobody told us of its new start. Where Pis ask by DHCP
 * that may be so for those that skip it, and for PCs.
 */
static bool may_begin_anew(const struct boot *boot, bool dhcp)
{
	uint64_t now = now_ms();
	uint64_t ended_ms = boot->settings_sent > 0 ? boot->settings_ms : boot->started_ms;

	if (boot->stage == BOOT_FAILED)
		return now - boot->started_ms >= AGAIN_MS;
	if (dhcp && boot->who.model != PI_NONE && !boot->without_dhcp)
		return false;
	if (!dhcp && boot->stage == BOOT_RUNNING)
		return true;
	return (boot->stage == BOOT_LOADED || boot->stage == BOOT_RUNNING) &&
	       now - ended_ms >= ANEW_MS;
}

/*
 * Not while somebody is logged in to the node: any program on it could ask, and get new credentials
 * of its disk. Asked for each file, so the nodes are looked through only where it matters.
 */
static bool begins_anew(const struct service *service, const struct boot *boot)
{
	return may_begin_anew(boot, service->options->dhcp) &&
	       !program_asks(service, node_of_boot(service, boot));
}

/* A boot that a request for a file begins. */
static struct boot *begin(struct service *service, const struct serve_request *request,
			  const struct pi_identity *who, const struct boot_node *node)
{
	struct boot *boot = service_begin(service, who, node, request->ifindex);

	if (!boot)
		return NULL;
	boot->without_dhcp = true;
	boot_set_address(service->boots, boot, request->peer.sin_addr, request->ifindex);
	return boot;
}

/* What a board is that did not ask by DHCP: each kind begins with another file. */
static enum pi_model model_by_file(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	return strcasecmp(name, "bootcode.bin") == 0 ? PI_OLD_UNKNOWN
	       : strcasecmp(name, "start.elf") == 0  ? PI_OLD_UNKNOWN /* bootcode.bin on a card */
	       : strcasecmp(name, "start4.elf") == 0 ? PI_4
	       : strcasecmp(name, "config.txt") == 0 ? PI_5
						     : PI_NONE;
}

/* A boot loader that was not told otherwise looks for its files below its serial number. */
static bool serial_by_folder(const char *path, uint32_t *ret_serial)
{
	char digits[9] = "";

	if (strspn(path, "0123456789abcdef") != 8 || path[8] != '/')
		return false;
	memcpy(digits, path, 8);
	*ret_serial = (uint32_t)strtoul(digits, NULL, 16);
	return true;
}

/* What is known of a board that asks for a file, by its DHCP, an earlier boot, or that alone. */
static void identify(struct service *service, const struct serve_request *request,
		     const struct boot *before, struct pi_identity *who)
{
	const struct dhcp_client *client = dhcp_find_mac(service->dhcp, who->mac);

	if (client) {
		*who = client->pi;
	} else if (before) {
		*who = before->who;
	} else {
		who->model = model_by_file(request->path);
		who->has_serial =
			who->model != PI_NONE && serial_by_folder(request->path, &who->serial);
	}
}

/*
 * Where Pis don't ask by DHCP a node is found by all that its Pi says of itself, and who belongs to
 * none is a stranger. Elsewhere a Pi that skips DHCP must be known by its MAC, and its node must
 * not run: what asks from a running one is some program, of whom that disk need not be.
 */
static const struct boot_node *node_of(struct service *service, const struct serve_request *request,
				       const struct pi_identity *who)
{
	const struct dhcp_client client = {
		.pi = *who, .ifindex = request->ifindex, .address = request->peer.sin_addr};
	const struct boot_node *node;

	if (service->options->dhcp) {
		node = nodes_find_mac(service->nodes, who->mac);
		return program_asks(service, node) ? NULL : node;
	}
	node = nodes_find(service->nodes, who);
	if (!node && who->model != PI_NONE)
		stranger_asks(service, &client);
	return node && ask_other_board(service, node, who->mac) ? NULL : node;
}

/* Of a Pi that skips DHCP, or whose address we did not see: by its MAC. */
static struct boot *boot_by_neighbour(struct service *service, const struct serve_request *request)
{
	struct pi_identity who = {.model = PI_NONE};
	const struct boot_node *node;
	struct boot *boot;

	if (!neighbour_mac(request->peer.sin_addr, request->ifindex, who.mac))
		return NULL;
	boot = boots_find_mac(service->boots, who.mac);
	if (!boot || boot->stage == BOOT_STRANGER || begins_anew(service, boot)) {
		identify(service, request, boot, &who);
		node = node_of(service, request, &who);
		if (!node) {
			service_fetch_nodes(service, false);
			return NULL;
		}
		return begin(service, request, &who, node);
	}
	boot_set_address(service->boots, boot, request->peer.sin_addr, request->ifindex);
	return boot;
}

static struct boot *boot_of(struct service *service, const struct serve_request *request)
{
	struct boot *boot = boots_find_address(service->boots, request->peer.sin_addr);
	const struct boot_node *node;
	uint8_t mac[6];

	/* An address says little: another board may have it now. And a board has one boot, its
	 * newest. */
	if (boot && neighbour_mac(request->peer.sin_addr, request->ifindex, mac)) {
		struct boot *newest = boots_find_mac(service->boots, mac);

		if (memcmp(mac, boot->who.mac, 6) != 0)
			boot = NULL;
		else if (newest && newest != boot)
			boot_set_address(service->boots, boot = newest, request->peer.sin_addr,
					 request->ifindex);
	}
	if (!boot || boot->stage == BOOT_STRANGER)
		return boot_by_neighbour(service, request);
	if (!begins_anew(service, boot))
		return boot;
	node = node_of_boot(service, boot);
	return node ? begin(service, request, &boot->who, node) : NULL;
}

/* --- what he may have --- */

/* A boot loader's folder is its serial number or what it was set to: it does not matter which. */
static const char *below_first_folder(const char *path)
{
	const char *slash = strchr(path, '/');

	return slash && slash[1] ? slash + 1 : NULL;
}

/* The boot ROM of a Pi 3B tells its serial only by the folder that it asks for. */
static void learn_serial(struct boot *boot, const char *path)
{
	if (boot->who.has_serial || boot->who.model == PI_NONE ||
	    !serial_by_folder(path, &boot->who.serial))
		return;
	boot->who.has_serial = true;
	boot->head_changed = true;
}

static struct blob *find(const struct view *view, const char *path)
{
	const char *below = below_first_folder(path);
	struct blob *blob = view_find(view, path);

	return blob || !below ? blob : view_find(view, below);
}

/* Settings are behind the initramfs; credentials are in a PC's script. */
static bool is_secret(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

	return strcasecmp(name, VIEW_INITRAMFS) == 0 || strcasecmp(name, VIEW_SCRIPT) == 0;
}

/* The settings of a boot are for the machine whose boot it is. */
static int may_have_secret(struct service *service, struct boot *boot,
			   const struct serve_request *request)
{
	uint8_t mac[6];
	char address[INET_ADDRSTRLEN] = "", text[MAC_TEXT_BYTES];

	/* Who runs has them, though the last ACK of them may have been lost. */
	if (boot->settings_sent > 0 || boot->stage == BOOT_RUNNING)
		return -EACCES;
	/* Without an entry nothing is known of who asks. Files went there before, so there is one:
	 * a moment later, then. */
	if (!neighbour_mac(request->peer.sin_addr, request->ifindex, mac))
		return -EAGAIN;
	if (memcmp(mac, boot->who.mac, 6) == 0 &&
	    (!boot->has_node_mac || memcmp(mac, boot->node_mac, 6) == 0))
		return 0;
	if (boot->refused)
		return -EACCES;
	boot->refused = true;
	(void)inet_ntop(AF_INET, &request->peer.sin_addr, address, sizeof(address));
	mac_format(mac, ':', text);
	log_warn("%s: %s (%s) asks for this node's settings and does not get them; two machines "
		 "with one address, or somebody who should not",
		 boot->node, address, text);
	boot_note(boot, "trouble", "%s at %s asked for the settings: refused", text, address);
	teller_trouble(service->teller, "duplicate_address",
		       "two machines use one address: reserve one for each MAC on the router");
	return -EACCES;
}

static int on_open(void *arg, const struct serve_request *request, struct blob **ret_blob)
{
	struct service *service = arg;
	struct boot *boot = boot_of(service, request);
	struct blob *blob;
	int r;

	if (!boot)
		return service->nodes_known ? -EACCES : -EAGAIN;
	if (boot->stage == BOOT_STRANGER)
		return -EACCES;
	if (boot->stage == BOOT_FAILED || !boot->view)
		return -EAGAIN;
	boot->active_ms = now_ms();
	dhcp_begun(service->dhcp, boot->who.mac, request->peer.sin_addr);
	learn_serial(boot, request->path);
	if (is_secret(request->path)) {
		r = may_have_secret(service, boot, request);
		if (r < 0)
			return r;
	}
	blob = find(boot->view, request->path);
	if (!blob)
		return -ENOENT;
	/* One that was not offered (it knew the server) is let in: it loads already. */
	if (boot->stage < BOOT_LOADING)
		boot->stage = BOOT_LOADING;
	*ret_blob = blob;
	return 0;
}

/* --- what became of it --- */

static void on_sent(struct service *service, struct boot *boot, const struct serve_request *request,
		    const struct serve_progress *progress)
{
	struct blob *blob = boot->view ? find(boot->view, request->path) : NULL;
	/* A part by HTTP is not all of it; and what began before this boot was another's. */
	bool whole = blob && progress->bytes >= blob_bytes(blob) &&
		     progress->took_ms <= now_ms() - boot->started_ms;

	blob_unref(blob);
	boot_note_file(boot, "sent", request->path, progress->bytes, progress->retries,
		       progress->took_ms, progress->text);
	if (!whole || boot->stage < BOOT_LOADING || !is_secret(request->path))
		return;
	boot->settings_sent++;
	boot->settings_ms = now_ms();
	if (boot->stage < BOOT_LOADED)
		boot->stage = BOOT_LOADED;
	boot_note(boot, "settings", "handed out with %s", request->path);
	service_admit(service);
}

static void on_event(void *arg, const struct serve_request *request, enum serve_event event,
		     const struct serve_progress *progress)
{
	struct service *service = arg;
	struct boot *boot = boots_find_address(service->boots, request->peer.sin_addr);

	if (!boot)
		return;
	/* A transfer that ends for want of an answer is no sign of life. */
	if (event != SERVE_LOST)
		boot->active_ms = now_ms();
	switch (event) {
	case SERVE_ASKED:
		boot_note_file(boot, "asked", request->path, progress->file_bytes, 0, 0,
			       request->http ? "HTTP" : NULL);
		break;
	case SERVE_MISSING: boot_note_file(boot, "missing", request->path, 0, 0, 0, NULL); break;
	case SERVE_SENT: on_sent(service, boot, request, progress); break;
	case SERVE_ENDED:
		boot_note_file(boot, "ended", request->path, progress->bytes, progress->retries,
			       progress->took_ms, progress->text);
		break;
	case SERVE_LOST:
		boot_note_file(boot, "lost", request->path, progress->bytes, progress->retries,
			       progress->took_ms, progress->text);
		break;
	}
}

const struct serve_ops hand_out_ops = {.open = on_open, .event = on_event};
