/*
 * Portals: listening sockets, accepting, and addresses as text. All portals are accepted on
 * reactor 0; a login moves to its target's reactor by itself.
 *
 * When there is no room (connections, half-open logins, descriptors), accepting stops and the
 * kernel's backlog waits; a timer looks again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "session/session_internal.h"

#define BACKLOG         1024
#define ACCEPT_RETRY_MS 100
#define PORT_RETRY_MS   10
#define PORT_TELL_MS    500
/* Accepted in one go before the cancel took effect. */
#define ACCEPT_SLACK_MAX 256

unsigned portal_wait_ms = 10000;

/* --- addresses --- */

static bool is_mapped(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET6 &&
	       IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
	return ntohs(((const struct sockaddr_in *)address)->sin_port);
}

static void format(const struct sockaddr_storage *address, uint16_t port,
		   char ret_text[LIMIT_ADDRESS_TEXT_BYTES])
{
	char host[INET6_ADDRSTRLEN] = "?";
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

	if (address->ss_family == AF_INET)
		(void)inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, host,
				sizeof(host));
	else if (is_mapped(address))
		(void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
	else if (address->ss_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
	(void)snprintf(ret_text, LIMIT_ADDRESS_TEXT_BYTES, strchr(host, ':') ? "[%s]:%u" : "%s:%u",
		       host, port);
}

void address_format(const struct sockaddr_storage *address, char ret_text[LIMIT_ADDRESS_TEXT_BYTES])
{
	format(address, port_of(address), ret_text);
}

static bool is_wildcard(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
	return ((const struct sockaddr_in *)address)->sin_addr.s_addr == htonl(INADDR_ANY);
}

static bool is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

	if (is_mapped(address))
		return in6->sin6_addr.s6_addr[12] == 127;
	if (address->ss_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
	return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
}

static bool same_family(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	bool a4 = a->ss_family == AF_INET || is_mapped(a);
	bool b4 = b->ss_family == AF_INET || is_mapped(b);

	return a4 == b4;
}

bool portal_address_for(const struct portal *portal, const struct sockaddr_storage *local,
			char ret_text[LIMIT_ADDRESS_TEXT_BYTES])
{
	if (portal->wildcard) {
		if (!same_family(&portal->address, local))
			return false;
		/* The address that has just been seen to work. */
		format(local, port_of(&portal->address), ret_text);
		return true;
	}
	if (is_loopback(&portal->address) && !is_loopback(local))
		return false;
	address_format(&portal->address, ret_text);
	return true;
}

/* --- listening --- */

static int refuse(struct store_error *err, const char *portal, const char *why)
{
	(void)snprintf(err->text, sizeof(err->text), "portal %s: %s", portal, why);
	return -EINVAL;
}

static int listen_error(struct store_error *err, int error, const char *host, const char *port)
{
	switch (error) {
	case EADDRINUSE:
		(void)snprintf(err->text, sizeof(err->text),
			       "port %s is in use by another program (tgt? another lunrootd?); see "
			       "which with: ss -ltnp 'sport = :%s', or choose another port with "
			       "--portal ADDR:PORT",
			       port, port);
		break;
	case EADDRNOTAVAIL:
		(void)snprintf(
			err->text, sizeof(err->text),
			"this machine has no address %s; see which it has with: ip address, or "
			"listen on all with --portal 0.0.0.0:%s",
			host, port);
		break;
	case EACCES:
		(void)snprintf(err->text, sizeof(err->text),
			       "this user may not listen on port %s; choose one above 1023 (iSCSI "
			       "uses 3260)",
			       port);
		break;
	default:
		(void)snprintf(err->text, sizeof(err->text), "can't listen on %s port %s: %s", host,
			       port, strerror(error));
		break;
	}
	return -error;
}

/* "ADDR:PORT" or "[ADDR6]:PORT" in two. */
static bool split(const char *text, char host[LIMIT_ADDRESS_TEXT_BYTES],
		  char port[LIMIT_ADDRESS_TEXT_BYTES])
{
	const char *colon = strrchr(text, ':');
	size_t bytes = colon ? (size_t)(colon - text) : 0;

	bool bracketed = text[0] == '[';

	if (!colon || bytes == 0 || bytes >= LIMIT_ADDRESS_TEXT_BYTES || colon[1] == '\0' ||
	    strlen(colon + 1) > 5 || strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return false;
	if (bracketed) {
		if (bytes < 3 || colon[-1] != ']')
			return false;
		text++;
		bytes -= 2;
	}
	memcpy(host, text, bytes);
	host[bytes] = '\0';
	memcpy(port, colon + 1, strlen(colon + 1) + 1);
	return bracketed == (strchr(host, ':') != NULL);
}

/*
 * A lunrootd that was killed still has its port for some milliseconds, on a busy machine for some
 * seconds: the kernel takes an io_uring, and the listening socket that an accept in it holds, apart
 * after the process is gone. Whoever starts us again at once must not be told that the port is
 * taken.
 */
static int bind_patiently(int fd, const struct addrinfo *info, const char *portal)
{
	const struct timespec pause = {.tv_nsec = PORT_RETRY_MS * 1000000};
	const uint64_t begin_ms = clock_ms();
	bool bound = false, told = false;

	for (;;) {
		uint64_t waited_ms = clock_ms() - begin_ms;

		bound = bound || bind(fd, info->ai_addr, info->ai_addrlen) == 0;
		if (bound && listen(fd, BACKLOG) == 0)
			return 0;
		if (errno != EADDRINUSE || waited_ms >= portal_wait_ms)
			return errno;
		if (waited_ms >= PORT_TELL_MS && !told)
			log_info("portal %s: waiting for the process that has this port", portal);
		told |= waited_ms >= PORT_TELL_MS;
		(void)nanosleep(&pause, NULL);
	}
}

static int bind_and_listen(int fd, const struct addrinfo *info, const char *portal)
{
	int one = 1;

	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* So that 0.0.0.0 and [::] can stand side by side. */
	if (info->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	return bind_patiently(fd, info, portal);
}

static void accept_done(struct ring_op *op, int res);

int portal_listen(struct server *server, const char *text,
		  char ret_address[LIMIT_ADDRESS_TEXT_BYTES], struct store_error *err)
{
	const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
				       .ai_socktype = SOCK_STREAM};
	char host[LIMIT_ADDRESS_TEXT_BYTES], port[LIMIT_ADDRESS_TEXT_BYTES];
	struct portal *portal = &server->portals[server->portal_count];
	struct addrinfo *info = NULL;
	socklen_t bytes = sizeof(portal->address);
	int AUTO_CLOSE fd = -1;
	int r;

	if (server->portal_count == LIMIT_PORTALS)
		return refuse(err, text, "one too many; 16 are possible");
	if (!split(text, host, port) || strtoul(port, NULL, 10) > UINT16_MAX)
		return refuse(err, text, "write ADDR:PORT or [ADDR6]:PORT, like 0.0.0.0:3260");
	r = getaddrinfo(host, port, &hints, &info);
	if (r != 0)
		return refuse(err, text,
			      "unknown address; give it in numbers, like 192.168.1.2:3260");
	fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	r = fd < 0 ? errno : bind_and_listen(fd, info, text);
	freeaddrinfo(info);
	if (r != 0)
		return listen_error(err, r, host, port);
	if (getsockname(fd, (struct sockaddr *)&portal->address, &bytes) < 0)
		return listen_error(err, errno, host, port);
	portal->fd = TAKE_FD(fd);
	portal->wildcard = is_wildcard(&portal->address);
	portal->server = server;
	portal->accept_op.done = accept_done;
	address_format(&portal->address, portal->text);
	memcpy(ret_address, portal->text, sizeof(portal->text));
	server->portal_count++;
	return 0;
}

/* --- accepting --- */

static bool has_room(struct server *server, unsigned slack)
{
	return atomic_load(&server->half_open) < LIMIT_HALF_OPEN_LOGINS + slack &&
	       atomic_load(&server->connections_open) < LIMIT_CONNECTIONS + slack;
}

static void accept_start(struct portal *portal)
{
	portal->accepting = true;
	ring_accept_multishot(portal->server->reactors[0].ring, &portal->accept_op, portal->fd);
}

/* All stop, and are tried again a little later. */
static void pause_accepting(struct server *server)
{
	struct reactor *reactor = &server->reactors[0];

	for (unsigned i = 0; i < server->portal_count; i++) {
		if (server->portals[i].accepting)
			ring_cancel(reactor->ring, &server->portals[i].accept_op);
	}
	if (!reactor->accept_timer.armed &&
	    ring_timer_arm(reactor->ring, &reactor->accept_timer, ACCEPT_RETRY_MS) < 0)
		log_error("accepting stops for good: out of memory");
}

static void accept_timer_fire(struct ring_timer *timer)
{
	struct reactor *reactor = CONTAINER_OF(timer, struct reactor, accept_timer);
	struct server *server = reactor->server;

	if (reactor->stopping)
		return;
	if (!has_room(server, 0)) {
		pause_accepting(server);
		return;
	}
	for (unsigned i = 0; i < server->portal_count; i++) {
		if (!server->portals[i].accepting)
			accept_start(&server->portals[i]);
	}
}

static void accept_failed(struct server *server, int res)
{
	switch (-res) {
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		if (!server->accept_error_told)
			log_error("connections wait: %s; raise LimitNOFILE= of the service or "
				  "ulimit -n",
				  strerror(-res));
		server->accept_error_told = true;
		pause_accepting(server);
		break;
	default: log_debug("accept: %s", strerror(-res)); break;
	}
}

static void accept_done(struct ring_op *op, int res)
{
	struct portal *portal = CONTAINER_OF(op, struct portal, accept_op);
	struct server *server = portal->server;
	struct reactor *reactor = &server->reactors[0];

	if (!op->more)
		portal->accepting = false;
	if (res >= 0) {
		server->accept_error_told = false;
		if (reactor->stopping || !has_room(server, ACCEPT_SLACK_MAX))
			close(res);
		else
			conn_accepted(reactor, res);
	} else if (res != -ECANCELED) {
		accept_failed(server, res);
	}
	if (reactor->stopping)
		return;
	if (!has_room(server, 0)) {
		if (!server->accept_full_told)
			log_warn("connections wait: %u are open, %u of them have not logged in",
				 atomic_load(&server->connections_open),
				 atomic_load(&server->half_open));
		server->accept_full_told = true;
		pause_accepting(server);
	} else {
		server->accept_full_told = false;
	}
	if (!portal->accepting && !reactor->accept_timer.armed)
		accept_start(portal);
}

void portals_start(struct server *server)
{
	ring_timer_init(&server->reactors[0].accept_timer, accept_timer_fire);
	for (unsigned i = 0; i < server->portal_count; i++)
		accept_start(&server->portals[i]);
}

void portals_stop(struct server *server)
{
	struct reactor *reactor = &server->reactors[0];

	ring_timer_cancel(reactor->ring, &reactor->accept_timer);
	for (unsigned i = 0; i < server->portal_count; i++) {
		if (server->portals[i].accepting)
			ring_cancel(reactor->ring, &server->portals[i].accept_op);
		/* Nobody shall be taken into the backlog who will not be served. */
		(void)shutdown(server->portals[i].fd, SHUT_RD);
	}
}
