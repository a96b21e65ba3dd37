/*
 * One UDP port for what Pis say of themselves: lunroot-init's reports, and the log lines of EEPROM
 * boot loaders (NETCONSOLE=6665@.../,6666@SERVER/). Whoever is not in the middle of a boot here is
 * not listened to.
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

static void on_console(struct service *service, struct in_addr from, const void *datagram,
		       size_t bytes)
{
	struct boot *boot = boots_find_address(service->boots, from);
	char line[REPORT_TEXT_BYTES];
	size_t at = 0;

	/* Whose address it is can't be proved: it is noted, and changes nothing. */
	if (!boot || boot->stage < BOOT_PREPARING || boot->stage > BOOT_LOADED)
		return;
	while (boot->console_lines < CONSOLE_LINES_MAX &&
	       console_line(datagram, bytes, &at, line)) {
		boot_note(boot, "console", "%s", line);
		boot->console_lines++;
	}
}

static void on_datagram(evutil_socket_t fd, short what, void *arg)
{
	struct listener *listener = arg;
	char datagram[REPORT_DATAGRAM_BYTES];
	struct sockaddr_in from;
	struct report report;

	(void)what;
	for (unsigned i = 0; i < DATAGRAMS_AT_A_TIME; i++) {
		socklen_t from_bytes = sizeof(from);
		ssize_t n = recvfrom(fd, datagram, sizeof(datagram), MSG_DONTWAIT,
				     (struct sockaddr *)&from, &from_bytes);
		struct boot *boot;

		if (n < 0)
			return;
		if (from_bytes < sizeof(from) || from.sin_family != AF_INET)
			continue;
		if (report_parse(datagram, (size_t)n, &report) < 0) {
			on_console(listener->service, from.sin_addr, datagram, (size_t)n);
			continue;
		}
		boot = boots_find_token(listener->service->boots, report.token);
		if (boot)
			on_report(listener->service, boot, &report);
	}
}

int listener_new(struct service *service, struct listener **ret_listener)
{
	const struct sockaddr_in any = {.sin_family = AF_INET,
					.sin_port = htons((uint16_t)service->options->report_port)};
	struct listener *listener = calloc(1, sizeof(*listener));
	int r = 0;

	if (!listener)
		return -ENOMEM;
	listener->service = service;
	listener->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0 || bind(listener->fd, (const struct sockaddr *)&any, sizeof(any)) < 0)
		r = -errno;
	if (r == 0) {
		listener->event = event_new(service->base, listener->fd, EV_READ | EV_PERSIST,
					    on_datagram, listener);
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
