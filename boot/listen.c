/*
 * One UDP port for what Pis say of themselves: lunroot-init's reports, and the log lines of EEPROM
 * boot loaders (NETCONSOLE). Whoever is not in the middle of a boot here is not listened to.
 *
 * A report names its boot. A boot loader's line has the source address that stands in the setting,
 * which is no address of the Pi's, and perhaps none that the IP layer lets through: it is tapped
 * from the interfaces, and the MAC tells whose it is. Where nothing is tapped the UDP socket gets
 * it, and only the address is left to go by.
 */
#include "service_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* Taken in one go, so that nobody who floods us keeps the loop from others. */
#define DATAGRAMS_AT_A_TIME 64
#define CONSOLE_LINES_MAX   128 /* of one boot */

struct listener {
	struct service *service;
	int fd;
	struct event *event;
};

/* Frees its place for others that wait. */
static void on_report(struct service *service, struct boot *boot, const struct report *report)
{
	if (report->sequence <= boot->report_sequence)
		return;
	boot->report_sequence = report->sequence;
	boot->active_ms = now_ms();
	boot_note(boot, "report", "%s%s%s", report->event, report->text[0] ? ": " : "",
		  report->text);
	if (boot->stage == BOOT_RUNNING)
		return;
	boot->stage = BOOT_RUNNING;
	service_admit(service);
}

static void on_console(struct boot *boot, const void *datagram, size_t bytes)
{
	char line[REPORT_TEXT_BYTES];
	size_t at = 0;

	/* Whose it is can't be proved: it is noted, and changes nothing. */
	if (!boot || boot->stage < BOOT_PREPARING || boot->stage > BOOT_LOADED)
		return;
	while (boot->console_lines < CONSOLE_LINES_MAX &&
	       console_line(datagram, bytes, &at, line)) {
		boot_note(boot, "console", "%s", line);
		boot->console_lines++;
	}
}

void listen_to_frame(void *arg, const uint8_t mac[6], const struct dhcp_datagram *datagram)
{
	struct service *service = arg;
	struct report report;

	/* The UDP socket has the reports. */
	if (report_parse(datagram->data, datagram->bytes, &report) < 0)
		on_console(boots_find_mac(service->boots, mac), datagram->data, datagram->bytes);
}

static void on_datagram(struct service *service, struct in_addr from, int ifindex, const void *data,
			size_t bytes)
{
	struct report report;
	struct boot *boot;

	if (report_parse(data, bytes, &report) == 0) {
		boot = boots_find_token(service->boots, report.token);
		if (boot)
			on_report(service, boot, &report);
	} else if (!dhcp_socket_taps(service->dhcp_socket, ifindex)) {
		on_console(boots_find_address(service->boots, from), data, bytes);
	}
}

/* The interface that a datagram came in by; 0: not told. */
static int ifindex_of(struct msghdr *header)
{
	struct in_pktinfo info = {0};

	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c))
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
			memcpy(&info, CMSG_DATA(c), sizeof(info));
	return info.ipi_ifindex;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;
	char data[REPORT_DATAGRAM_BYTES];

	(void)what;
	for (unsigned i = 0; i < DATAGRAMS_AT_A_TIME; i++) {
		union {
			struct cmsghdr header;
			char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
		} control;
		struct sockaddr_in from;
		struct iovec part = {data, sizeof(data)};
		struct msghdr header = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = &part,
			.msg_iovlen = 1,
			.msg_control = control.room,
			.msg_controllen = sizeof(control.room),
		};
		ssize_t n = recvmsg(fd, &header, MSG_DONTWAIT);

		if (n < 0)
			return;
		if (header.msg_namelen >= sizeof(from) && from.sin_family == AF_INET)
			on_datagram(listener->service, from.sin_addr, ifindex_of(&header), data,
				    (size_t)n);
	}
}

int listener_new(struct service *service, struct listener **ret_listener)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_port = htons((uint16_t)service->options->report_port)};
	struct listener *listener = calloc(1, sizeof(*listener));
	int on = 1, r = 0;

	if (!listener)
		return -ENOMEM;
	listener->service = service;
	listener->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0 ||
	    setsockopt(listener->fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0 ||
	    bind(listener->fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		r = -errno;
	if (r == 0) {
		listener->event = event_new(service->base, listener->fd, EV_READ | EV_PERSIST,
					    on_readable, listener);
		if (!listener->event || event_add(listener->event, NULL) < 0)
			r = -ENOMEM;
	}
	if (r < 0) {
		log_error("UDP port %llu for reports: %s; see who has it with ss -lunp, or choose "
			  "another with --report-port",
			  (unsigned long long)service->options->report_port, strerror(-r));
		listener_free(listener);
		return r;
	}
	*ret_listener = listener;
	return 0;
}

void listener_free(struct listener *listener)
{
	if (!listener)
		return;
	if (listener->event)
		event_free(listener->event);
	if (listener->fd >= 0)
		close(listener->fd);
	free(listener);
}
