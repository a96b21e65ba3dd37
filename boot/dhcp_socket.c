/* The engine on libevent: one link for each interface, looked after as they come and go. */
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "dhcp_internal.h"
#include "dhcp_link.h"
#include "dhcp_socket.h"

#define SCAN_SOON_MS  100  /* changes come in bursts */
#define SCAN_RETRY_MS 5000 /* after a failure, and while a named interface is missing */
#define BURST         64   /* packets of one link before others get their turn */

struct port {
	struct dhcp_socket *owner;
	struct dhcp_link link; /* ifindex 0: the place is free */
	struct event *packet_event, *stp_event, *tap_event;
};

struct dhcp_socket {
	struct event_base *base;
	struct dhcp *dhcp;
	struct dhcp_socket_config config;
	char names[LIMIT_DHCP_INTERFACES][IF_NAMESIZE];
	unsigned name_count;
	struct port ports[LIMIT_DHCP_INTERFACES];
	bool more; /* interfaces than there is room for */
	int watch_fd, neighbour_fd;
	struct event *watch_event, *scan_event, *timer_event;
};

/* --- what the engine asks for --- */

static uint64_t io_now(void *arg)
{
	(void)arg;
	return clock_ms();
}

static struct port *port_find(struct dhcp_socket *s, int ifindex)
{
	for (unsigned i = 0; i < LIMIT_DHCP_INTERFACES; i++)
		if (ifindex && s->ports[i].link.at.ifindex == ifindex)
			return &s->ports[i];
	return NULL;
}

static void io_send(void *arg, const struct dhcp_out *out)
{
	struct dhcp_socket *s = arg;
	struct port *port = port_find(s, out->ifindex);
	int res = port ? dhcp_link_send(&port->link, out) : 0;

	if (res)
		dhcp_trouble(s->dhcp, NULL, TROUBLE_SEND, (uint64_t)out->ifindex,
			     "an answer could not be sent on %s: %s", port->link.at.name,
			     strerror(-res));
}

static void io_nudge(void *arg, int ifindex, struct in_addr local)
{
	struct port *port = port_find(arg, ifindex);

	if (port)
		(void)dhcp_link_nudge(&port->link, local); /* only to be helpful */
}

static void io_neighbour(void *arg, int ifindex, struct in_addr address, const uint8_t mac[6])
{
	struct dhcp_socket *s = arg;
	int res = s->neighbour_fd < 0 ? s->neighbour_fd
				      : dhcp_neighbour_set(s->neighbour_fd, ifindex, address, mac);

	if (res)
		dhcp_trouble(s->dhcp, NULL, TROUBLE_NEIGHBOUR, 0,
			     "the kernel takes no neighbour entry for a Pi (%s), so one up to the "
			     "3 may fall deaf while it loads: give lunbootd CAP_NET_ADMIN",
			     strerror(-res));
}

static void after(struct event *event, uint64_t ms)
{
	struct timeval t = {.tv_sec = (time_t)(ms / 1000),
			    .tv_usec = (suseconds_t)(ms % 1000 * 1000)};

	if (event_add(event, &t))
		log_error("DHCP: no memory for a timer");
}

static void io_timer(void *arg, uint64_t due_ms)
{
	struct dhcp_socket *s = arg;
	uint64_t now = io_now(NULL);

	after(s->timer_event, due_ms > now ? due_ms - now : 0);
}

static const struct dhcp_io socket_io = {
	.now_ms = io_now,
	.send = io_send,
	.nudge = io_nudge,
	.neighbour = io_neighbour,
	.timer = io_timer,
};

/* --- what happens --- */

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct dhcp_socket *s = arg;

	(void)fd;
	(void)what;
	dhcp_run(s->dhcp);
}

static void on_packet(evutil_socket_t fd, short what, void *arg)
{
	struct port *port = arg;
	uint8_t buffer[2048];

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < BURST && port->link.at.ifindex; i++) {
		struct dhcp_datagram datagram;
		int res = dhcp_link_receive(&port->link, buffer, sizeof(buffer), &datagram);

		if (res == 1)
			dhcp_input(port->owner->dhcp, port->link.at.ifindex, &datagram);
		else if (res < 0) {
			if (res != -EAGAIN) /* ENETDOWN, say: the watch tells what becomes of it */
				after(port->owner->scan_event, SCAN_SOON_MS);
			break;
		}
	}
}

static void on_bpdu(evutil_socket_t fd, short what, void *arg)
{
	struct port *port = arg;
	uint8_t llc[128];
	ssize_t n = recv(fd, llc, sizeof(llc), 0);

	(void)what;
	if (n > 0)
		dhcp_input_bpdu(port->owner->dhcp, port->link.at.ifindex, llc, (size_t)n);
}

static void on_tap(evutil_socket_t fd, short what, void *arg)
{
	struct port *port = arg;
	const struct dhcp_socket_config *config = &port->owner->config;
	uint8_t buffer[2048], mac[6];

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < BURST; i++) {
		struct dhcp_datagram datagram;
		int res =
			dhcp_link_receive_tap(&port->link, buffer, sizeof(buffer), &datagram, mac);

		if (res == 1)
			config->on_tap(config->arg, mac, &datagram);
		else if (res < 0)
			break; /* ENETDOWN, say: the watch tells what becomes of it */
	}
}

static void on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct dhcp_socket *s = arg;

	(void)what;
	dhcp_links_watch_clear(fd);
	after(s->scan_event, SCAN_SOON_MS);
}

/* --- interfaces come and go --- */

static void port_close(struct port *port)
{
	struct dhcp_socket *owner = port->owner;

	if (port->packet_event)
		event_free(port->packet_event);
	if (port->stp_event)
		event_free(port->stp_event);
	if (port->tap_event)
		event_free(port->tap_event);
	dhcp_link_close(&port->link);
	*port = (struct port){.owner = owner};
}

static int port_listen(struct port *port, int fd, event_callback_fn run, struct event **ret_event)
{
	struct event *event = event_new(port->owner->base, fd, EV_READ | EV_PERSIST, run, port);

	if (!event)
		return -ENOMEM;
	if (event_add(event, NULL)) {
		event_free(event);
		return -ENOMEM;
	}
	*ret_event = event;
	return 0;
}

/* Without it boards are served all the same. */
static void port_tap(struct port *port)
{
	const struct dhcp_socket_config *config = &port->owner->config;
	int res = config->tap_port ? dhcp_link_tap(&port->link, config->tap_port) : 0;

	if (!res && port->link.tap_fd >= 0)
		res = port_listen(port, port->link.tap_fd, on_tap, &port->tap_event);
	if (res)
		log_warn("the logs of boot loaders can't be heard on %s: %s", port->link.at.name,
			 strerror(-res));
}

static int port_open_dhcp(struct port *port)
{
	struct dhcp *dhcp = port->owner->dhcp;
	const struct dhcp_iface *at = &port->link.at;
	int pxe_res, res = dhcp_link_open(&port->link, dhcp->known, &pxe_res);

	if (!res)
		res = port_listen(port, port->link.packet_fd, on_packet, &port->packet_event);
	if (!res && port->link.stp_fd >= 0)
		res = port_listen(port, port->link.stp_fd, on_bpdu, &port->stp_event);
	if (!res)
		res = dhcp_iface_set(dhcp, at);
	if (!res && pxe_res)
		dhcp_trouble(dhcp, NULL, TROUBLE_PORT, (uint64_t)at->ifindex << 16 | DHCP_PORT_PXE,
			     "UDP port %u of %s can't be had (%s): PCs may not find their boot "
			     "file; Pis do not use it. Another boot server on this machine?",
			     DHCP_PORT_PXE, at->name, strerror(-pxe_res));
	return res;
}

static int port_open(struct dhcp_socket *s, const struct dhcp_iface *at)
{
	struct port *port = NULL;
	int res;

	for (unsigned i = 0; !port && i < LIMIT_DHCP_INTERFACES; i++)
		if (!s->ports[i].link.at.ifindex)
			port = &s->ports[i];
	if (!port)
		return -ENOSPC;
	dhcp_link_init(&port->link, at);
	res = s->config.tap_only ? 0 : port_open_dhcp(port);
	if (res) {
		port_close(port);
		return res;
	}
	port_tap(port);
	log_debug("DHCP: listening on %s", at->name);
	return 0;
}

static void open_failed(struct dhcp_socket *s, const struct dhcp_iface *at, int res)
{
	if (res == -EADDRINUSE)
		dhcp_trouble(s->dhcp, NULL, TROUBLE_PORT,
			     (uint64_t)at->ifindex << 16 | DHCP_PORT_SERVER,
			     "another program on this machine has UDP port %u of %s, a DHCP server "
			     "most likely: end it, or go without --dhcp known",
			     DHCP_PORT_SERVER, at->name);
	else
		dhcp_trouble(s->dhcp, NULL, TROUBLE_PORT, (uint64_t)at->ifindex << 16,
			     "%s can't be listened on (%s)%s", at->name, strerror(-res),
			     res == -EPERM ? ": lunbootd needs CAP_NET_RAW, and for --dhcp known "
					     "CAP_NET_BIND_SERVICE"
					   : "");
}

static const struct dhcp_iface *find(const struct dhcp_iface *ifaces, int count, int ifindex)
{
	for (int i = 0; i < count; i++)
		if (ifaces[i].ifindex == ifindex)
			return &ifaces[i];
	return NULL;
}

static bool iface_same(const struct dhcp_iface *a, const struct dhcp_iface *b)
{
	return strcmp(a->name, b->name) == 0 && memcmp(a->mac, b->mac, sizeof(a->mac)) == 0 &&
	       a->net_count == b->net_count &&
	       memcmp(a->nets, b->nets, a->net_count * sizeof(a->nets[0])) == 0;
}

/* Closes what is gone (or became another thing under its number) and tells what changed. */
static void ports_update(struct dhcp_socket *s, const struct dhcp_iface *ifaces, int count)
{
	for (unsigned i = 0; i < LIMIT_DHCP_INTERFACES; i++) {
		struct port *port = &s->ports[i];
		const struct dhcp_iface *at = find(ifaces, count, port->link.at.ifindex);

		if (!port->link.at.ifindex)
			continue;
		if (!at || strcmp(at->name, port->link.at.name) != 0 ||
		    memcmp(at->mac, port->link.at.mac, 6) != 0) {
			log_debug("DHCP: %s is gone", port->link.at.name);
			if (!s->config.tap_only)
				dhcp_iface_gone(s->dhcp, port->link.at.ifindex);
			port_close(port);
		} else if (!iface_same(at, &port->link.at)) {
			port->link.at = *at;
			if (!s->config.tap_only)
				(void)dhcp_iface_set(s->dhcp, at); /* it has its place */
		}
	}
}

static void warn_of_more(struct dhcp_socket *s, bool more)
{
	if (more && !s->more)
		dhcp_trouble(s->dhcp, NULL, TROUBLE_PORT, 0,
			     "there are more than %d interfaces with an IPv4 address, and only the "
			     "first ones are listened to: name those that Pis are on (--interface)",
			     LIMIT_DHCP_INTERFACES);
	s->more = more;
}

static void scan(struct dhcp_socket *s)
{
	bool more = false;
	struct dhcp_iface ifaces[LIMIT_DHCP_INTERFACES];
	int count = dhcp_links_scan((const char(*)[IF_NAMESIZE])s->names, s->name_count, ifaces,
				    LIMIT_DHCP_INTERFACES, &more);
	bool again = count < 0;

	if (count >= 0) {
		warn_of_more(s, more);
		ports_update(s, ifaces, count);
	}
	for (int i = 0; i < count; i++) {
		int res = port_find(s, ifaces[i].ifindex) ? 0 : port_open(s, &ifaces[i]);

		if (res) {
			open_failed(s, &ifaces[i], res);
			again = true;
		}
	}
	if (again || count < (int)s->name_count)
		after(s->scan_event, SCAN_RETRY_MS);
}

static void on_scan(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	scan(arg);
}

/* --- life --- */

static int names_take(struct dhcp_socket *s, const char *const *names, unsigned count)
{
	if (count > LIMIT_DHCP_INTERFACES)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++) {
		if (!names[i][0] || strlen(names[i]) >= IF_NAMESIZE)
			return -EINVAL;
		memcpy(s->names[i], names[i], strlen(names[i]) + 1);
	}
	s->name_count = count;
	return 0;
}

/* May packet sockets be opened at all? */
static int may_listen(void)
{
	int AUTO_CLOSE fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : 0;
}

static int begin(struct dhcp_socket *s, struct event_base *base)
{
	s->watch_fd = dhcp_links_watch_open();
	if (s->watch_fd < 0)
		return s->watch_fd;
	s->neighbour_fd = dhcp_neighbour_open();
	s->timer_event = evtimer_new(base, on_timer, s);
	s->scan_event = evtimer_new(base, on_scan, s);
	s->watch_event = event_new(base, s->watch_fd, EV_READ | EV_PERSIST, on_watch, s);
	if (!s->timer_event || !s->scan_event || !s->watch_event || event_add(s->watch_event, NULL))
		return -ENOMEM;
	return 0;
}

int dhcp_socket_new(struct event_base *base, struct dhcp *dhcp,
		    const struct dhcp_socket_config *config, struct dhcp_socket **ret_socket)
{
	struct dhcp_socket *s;
	int res = may_listen();

	if (res)
		return res;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->base = base;
	s->dhcp = dhcp;
	s->config = *config;
	s->watch_fd = s->neighbour_fd = -1;
	for (unsigned i = 0; i < LIMIT_DHCP_INTERFACES; i++)
		s->ports[i].owner = s;
	res = names_take(s, config->names, config->name_count);
	if (!res)
		res = begin(s, base);
	if (res) {
		dhcp_socket_free(s);
		return res;
	}
	dhcp_set_io(dhcp, &socket_io, s);
	scan(s);
	*ret_socket = s;
	return 0;
}

void dhcp_socket_free(struct dhcp_socket *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < LIMIT_DHCP_INTERFACES; i++)
		if (s->ports[i].link.at.ifindex)
			port_close(&s->ports[i]);
	if (s->watch_event)
		event_free(s->watch_event);
	if (s->scan_event)
		event_free(s->scan_event);
	if (s->timer_event)
		event_free(s->timer_event);
	if (s->watch_fd >= 0)
		close(s->watch_fd);
	if (s->neighbour_fd >= 0)
		close(s->neighbour_fd);
	free(s);
}

bool dhcp_socket_taps(const struct dhcp_socket *s, int ifindex)
{
	for (unsigned i = 0; s && i < LIMIT_DHCP_INTERFACES; i++)
		if (ifindex && s->ports[i].link.at.ifindex == ifindex)
			return s->ports[i].tap_event != NULL;
	return false;
}
