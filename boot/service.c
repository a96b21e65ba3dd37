/*
 * The service's start and end, its clock, and the list of nodes.
 */
#include "service_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "blob_pool.h"

#define WORKERS    3
#define TICK_MS    250
#define TELL_MS    1000
#define VIEWS_KEPT 64
#define POOL_BYTES \
	(1ull      \
	 << 30) /* boot files in RAM; what is in use stays beyond it no longer than its boots */
/* The list of nodes: not more often for strangers, and anyway now and then, since nodes are
 * renamed. */
#define FETCH_MS_MIN 1000
#define FETCH_MS     15000

uint64_t now_ms(void)
{
	return clock_ms();
}

void service_lunrootd(struct service *service, bool answers, const char *why)
{
	if (!answers && !service->unreachable)
		log_warn("%s; nobody can begin to boot until it does", why);
	if (answers && service->unreachable)
		log_info("lunrootd answers again");
	service->unreachable = !answers;
}

/* --- the nodes' list --- */

struct fetch {
	struct work work;
	struct service *service;
	json_t *version, *nodes, *boots;
	bool with_boots; /* those from before lunbootd began */
	int res;
	struct api_failure failure;
};

static void run_fetch(struct work *work)
{
	struct fetch *fetch = CONTAINER_OF(work, struct fetch, work);
	struct api_failure ignored; /* Pis boot without, and the next fetch tries again */
	const char *socket_path = fetch->service->options->socket_path;

	fetch->res =
		api_call(socket_path, "GET", "/v1/version", NULL, &fetch->version, &fetch->failure);
	if (fetch->res == 0)
		fetch->res = api_call(socket_path, "GET", "/v1/nodes", NULL, &fetch->nodes,
				      &fetch->failure);
	if (fetch->res == 0 && fetch->with_boots)
		(void)api_call(socket_path, "GET", "/v1/boots?last=4096", NULL, &fetch->boots,
			       &ignored);
}

static void take_portals(struct service *service, const json_t *version)
{
	const json_t *portal;
	size_t i;

	service->portals.count = 0;
	json_array_foreach(json_object_get(version, "portals"), i, portal)
	{
		const char *text = json_string_value(portal);

		if (text)
			reach_portals_add(&service->portals, text);
	}
}

static void on_fetched(struct work *work)
{
	struct fetch *fetch = CONTAINER_OF(work, struct fetch, work);
	struct service *service = fetch->service;

	service->nodes_fetching = false;
	service_lunrootd(service, fetch->res != -ECONNREFUSED, fetch->failure.text);
	if (fetch->res < 0)
		service->away_ms = now_ms();
	if (fetch->res == 0) {
		take_portals(service, fetch->version);
		if (nodes_take(service->nodes, fetch->nodes, now_ms()) == 0) {
			service->nodes_known = true;
			nodes_take_boots(service->nodes, fetch->boots);
			service->boots_known |= fetch->boots != NULL;
			strangers_look(service);
		}
	}
	json_decref(fetch->version);
	json_decref(fetch->nodes);
	json_decref(fetch->boots);
	free(fetch);
}

void service_fetch_nodes(struct service *service, bool at_once)
{
	uint64_t now = now_ms();
	struct fetch *fetch;

	/* What somebody looks for now may have come after the list that there is. */
	service->nodes_wanted = true;
	if (service->nodes_fetching || (!at_once && now - service->nodes_ms < FETCH_MS_MIN))
		return;
	fetch = calloc(1, sizeof(*fetch));
	if (!fetch)
		return;
	fetch->work = (struct work){.run = run_fetch, .done = on_fetched};
	fetch->service = service;
	fetch->with_boots = !service->boots_known;
	service->nodes_fetching = true;
	service->nodes_wanted = false;
	service->nodes_ms = now;
	work_post(service->workers, &fetch->work);
}

/* --- start and end --- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct service *service = arg;
	uint64_t now = now_ms();

	(void)fd;
	(void)what;
	if (now - service->nodes_ms >=
	    (service->nodes_known && !service->nodes_wanted ? FETCH_MS : FETCH_MS_MIN))
		service_fetch_nodes(service, false);
	if (service->options->known)
		leases_load(service);
	admission_tick(service, now);
	if (now - service->told_ms < TELL_MS)
		return;
	service->told_ms = now;
	teller_tick(service->teller, now);
	boots_forget_old(service->boots, now_ms());
}

static int start_dhcp(struct service *service)
{
	const struct boot_options *options = service->options;
	struct dhcp_config config = {
		.known = options->known,
		.known_anyway = options->force_known,
		.leases_later = options->known,
		.addresses = {.pool_first = options->pool_first,
			      .pool_last = options->pool_last,
			      .lease_s = (uint32_t)options->lease_s},
		.router = options->router,
	};
	const struct dhcp_socket_config sockets = {
		.names = (const char *const *)options->interfaces,
		.name_count = options->interface_count,
		.tap_only = !options->dhcp,
		.tap_port = (uint16_t)options->report_port,
		.on_tap = listen_to_frame,
		.arg = service,
	};
	int r;

	if (options->dns.s_addr != INADDR_ANY)
		config.dns[config.dns_count++] = options->dns;
	service->dhcp = dhcp_new(&config, &ask_ops, service);
	if (!service->dhcp)
		return -ENOMEM;
	r = dhcp_socket_new(service->base, service->dhcp, &sockets, &service->dhcp_socket);
	if (r < 0 && !options->dhcp) {
		log_info("the logs of boot loaders can't be heard: %s%s", strerror(-r),
			 r == -EPERM ? "; that needs CAP_NET_RAW" : "");
		return 0;
	}
	if (r < 0)
		log_error("DHCP: %s; lunctl doctor says who has the port", strerror(-r));
	return r;
}

static int start_serving(struct service *service)
{
	const struct boot_options *options = service->options;
	const struct tftp_config tftp = {.port = (uint16_t)options->tftp_port,
					 .interfaces = (const char *const *)options->interfaces,
					 .interface_count = options->interface_count,
					 .confirm = true};
	const struct http_config http = {.port = (uint16_t)options->http_port,
					 .interfaces = (const char *const *)options->interfaces,
					 .interface_count = options->interface_count};
	int r = tftp_new(service->base, &tftp, &hand_out_ops, service, &service->tftp);

	if (r < 0) {
		log_error("TFTP, UDP port %llu: %s; lunctl doctor says who has it",
			  (unsigned long long)options->tftp_port, strerror(-r));
		return r;
	}
	if (options->http_port == 0)
		return 0;
	r = http_new(service->base, &http, &hand_out_ops, service, &service->http);
	if (r < 0)
		log_error("HTTP, TCP port %llu: %s; choose another with --http-port, or 0 for none",
			  (unsigned long long)options->http_port, strerror(-r));
	return r;
}

/* What all views are made with. */
static int start_views(struct service *service)
{
	const struct boot_options *options = service->options;
	struct initramfs_config config = {.run_folder = options->run_dir};
	struct boot_error error;
	int r;

	programs_find(options->programs_dir, &service->programs);
	config.tool = service->programs.mkinitramfs;
	for (unsigned arch = 0; arch < KERNEL_OTHER; arch++) {
		const char *init = service->programs.init[arch];
		const char *busybox = service->programs.busybox[arch];

		config.programs[arch].init = init[0] ? init : NULL;
		config.programs[arch].busybox = busybox[0] ? busybox : NULL;
	}
	if (!config.tool[0] || !config.programs[KERNEL_ARM64].init) {
		log_error("%s is not found beside lunbootd; run tools/boot-programs, or say where "
			  "it is with --programs",
			  config.tool[0] ? "lunroot-init-arm64" : "mkinitramfs");
		return -ENOENT;
	}
	r = initramfs_maker_new(&config, &service->maker, &error);
	if (r < 0)
		log_error("%s", error.text);
	service->view_config = (struct view_config){
		.firmware_folder = options->firmware_dir,
		.folder = options->folder[0] ? options->folder : NULL,
		.cmdline_extra = options->cmdline[0] ? options->cmdline : NULL,
		.pool = service->pool,
		.make_initramfs = initramfs_make,
		.make_initramfs_arg = service->maker,
	};
	return r;
}

int service_new(const struct boot_options *options, struct event_base *base, struct mailbox *box,
		struct service **ret_service)
{
	struct service *service = calloc(1, sizeof(*service));
	int r;

	if (!service)
		return -ENOMEM;
	service->options = options;
	service->base = base;
	service->box = box;
	service->away_ms = now_ms();
	service->admission.allowed = options->in_flight;
	admission_begin(service);
	leases_init(service);
	service->boots = boots_new();
	service->nodes = nodes_new();
	service->views = views_new(VIEWS_KEPT);
	service->pool = blob_pool_new(POOL_BYTES);
	service->teller = teller_new(service);
	service->tick = event_new(base, -1, EV_PERSIST, on_tick, service);
	r = service->boots && service->nodes && service->views && service->pool &&
			    service->teller && service->tick
		    ? 0
		    : -ENOMEM;
	if (r == 0)
		r = start_dhcp(service);
	if (r == 0)
		r = start_serving(service);
	if (r == 0)
		r = listener_new(service, &service->listener);
	if (r < 0) {
		service_free(service);
		return r;
	}
	*ret_service = service;
	return 0;
}

int service_start(struct service *service)
{
	const struct timeval tick = {.tv_usec = TICK_MS * 1000};
	/* What it writes belongs to whom we have become. */
	int r = start_views(service);

	if (r == 0)
		r = workers_new(WORKERS, service->box, &service->workers);
	if (r == 0)
		r = workers_new(WORKERS, service->box, &service->makers);
	if (r == 0)
		r = workers_new(1, service->box, &service->clerk);
	if (r < 0)
		return r;
	if (event_add(service->tick, &tick) < 0)
		return -ENOMEM;
	service_fetch_nodes(service, false);
	return 0;
}

void service_free(struct service *service)
{
	if (!service)
		return;
	workers_free(service->workers);
	workers_free(service->makers);
	workers_free(service->clerk);
	leases_done(service);
	listener_free(service->listener);
	http_free(service->http);
	tftp_free(service->tftp);
	dhcp_socket_free(service->dhcp_socket);
	dhcp_free(service->dhcp);
	if (service->tick)
		event_free(service->tick);
	teller_free(service->teller);
	boots_free(service->boots);
	views_free(service->views);
	initramfs_maker_free(service->maker);
	nodes_free(service->nodes);
	blob_pool_free(service->pool);
	admission_end(service);
	free(service);
}
