/*
 * TCP and the login's PDUs. After the final response not one byte more is read: what follows
 * belongs to the kernel.
 */
#include "initramfs/connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/console.h"

#define CONNECT_MS       5000
#define REDIRECTIONS_MAX 4

/* --- addresses --- */

/* Looks the host up; keeps what was known if that fails. */
static int addresses_find(struct connect_portal *portal)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	char port[8];
	int r;

	(void)snprintf(port, sizeof(port), "%u", portal->portal.port);
	r = getaddrinfo(portal->portal.host, port, &hints, &found);
	if (r)
		return r;
	portal->address_count = 0;
	for (const struct addrinfo *a = found; a && portal->address_count < CONNECT_ADDRESSES_MAX;
	     a = a->ai_next) {
		if (a->ai_addrlen > sizeof(portal->addresses[0]))
			continue;
		memcpy(&portal->addresses[portal->address_count++], a->ai_addr, a->ai_addrlen);
	}
	freeaddrinfo(found);
	return portal->address_count ? 0 : EAI_NONAME;
}

static socklen_t address_bytes(const struct sockaddr_storage *address)
{
	return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
					      : sizeof(struct sockaddr_in);
}

static void address_name(const struct sockaddr_storage *address, char *ret_name, size_t bytes)
{
	if (getnameinfo((const struct sockaddr *)address, address_bytes(address), ret_name,
			(socklen_t)bytes, NULL, 0, NI_NUMERICHOST))
		(void)snprintf(ret_name, bytes, "?");
}

/* --- TCP --- */

static int wait_for(int fd, short events, long long until_ms)
{
	for (;;) {
		struct pollfd wait = {.fd = fd, .events = events};
		long long left_ms = until_ms - now_ms();
		int r;

		if (left_ms <= 0)
			return -ETIMEDOUT;
		r = poll(&wait, 1, (int)left_ms);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

static int tcp_connect(const struct sockaddr_storage *address, int *ret_fd)
{
	int AUTO_CLOSE fd =
		socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	int one = 1, error = 0, r;
	socklen_t error_bytes = sizeof(error);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)address, address_bytes(address))) {
		if (errno != EINPROGRESS)
			return -errno;
		r = wait_for(fd, POLLOUT, now_ms() + CONNECT_MS);
		if (r)
			return r;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes))
			return -errno;
		if (error)
			return -error;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int send_all(int fd, const void *data, size_t bytes, long long until_ms)
{
	const char *p = data;

	while (bytes > 0) {
		ssize_t sent = send(fd, p, bytes, MSG_NOSIGNAL);
		int r;

		if (sent >= 0) {
			p += sent;
			bytes -= (size_t)sent;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		r = wait_for(fd, POLLOUT, until_ms);
		if (r)
			return r;
	}
	return 0;
}

static int receive_all(int fd, void *ret_data, size_t bytes, long long until_ms)
{
	char *p = ret_data;

	while (bytes > 0) {
		ssize_t got = recv(fd, p, bytes, 0);
		int r;

		if (got > 0) {
			p += got;
			bytes -= (size_t)got;
			continue;
		}
		if (got == 0)
			return -ECONNRESET;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return -errno;
		r = wait_for(fd, POLLIN, until_ms);
		if (r)
			return r;
	}
	return 0;
}

/* --- the login over it --- */

/* Static, since they are large and live in a process that locks its memory. */
static struct initiator_request request;
static uint8_t response_data[LIMIT_LOGIN_SEGMENT_BYTES + 4];

static int exchange(int fd, struct wire_login_rsp *ret_response, uint32_t *ret_data_bytes,
		    long long until_ms)
{
	struct wire_bhs bhs;
	int r = send_all(fd, &request.bhs, sizeof(request.bhs), until_ms);

	if (r == 0)
		r = send_all(fd, request.text, wire_pad4(request.text_bytes), until_ms);
	if (r == 0)
		r = receive_all(fd, &bhs, sizeof(bhs), until_ms);
	if (r)
		return r;
	*ret_data_bytes = wire_data_bytes(&bhs);
	/* Login responses have no additional headers, and are bounded (11.13, 13.12). */
	if (*ret_data_bytes > LIMIT_LOGIN_SEGMENT_BYTES || wire_ahs_bytes(&bhs))
		return -EPROTO;
	memcpy(ret_response, &bhs, sizeof(bhs));
	return receive_all(fd, response_data, wire_pad4(*ret_data_bytes), until_ms);
}

static enum initiator_verdict login(int fd, const struct initiator_wish *wish,
				    struct initiator *initiator, int *ret_error)
{
	enum initiator_verdict verdict = initiator_begin(initiator, wish, &request);
	long long until_ms = now_ms() + LIMIT_LOGIN_TIMEOUT_MS;

	*ret_error = 0;
	while (verdict == INITIATOR_SEND) {
		struct wire_login_rsp response;
		uint32_t data_bytes;

		*ret_error = exchange(fd, &response, &data_bytes, until_ms);
		if (*ret_error)
			break;
		verdict = initiator_step(initiator, &response, response_data, data_bytes, &request);
	}
	explicit_bzero(&request, sizeof(request));
	explicit_bzero(response_data, sizeof(response_data));
	return verdict;
}

static const char *error_words(int error)
{
	switch (-error) {
	case ECONNREFUSED: return "nobody listens there: is lunrootd running?";
	case ETIMEDOUT: return "no answer";
	case EHOSTUNREACH: return "no such machine answers on the network";
	case ENETUNREACH: return "there is no route to it";
	case ECONNRESET: return "it hung up during the login";
	case EPROTO: return "what answers is no iSCSI target";
	default: return strerror(-error);
	}
}

/* One address: connection and login. */
static enum connect_result address_login(const struct sockaddr_storage *address, uint16_t port,
					 const struct initiator_wish *wish,
					 struct initiator *initiator,
					 enum initiator_verdict *ret_verdict,
					 struct connected *ret_connected, char *why,
					 size_t why_bytes)
{
	int AUTO_CLOSE fd = -1;
	int error = 0;

	address_name(address, ret_connected->address, sizeof(ret_connected->address));
	ret_connected->port = port;
	*ret_verdict = INITIATOR_BROKEN;
	error = tcp_connect(address, &fd);
	if (error == 0)
		*ret_verdict = login(fd, wish, initiator, &error);
	if (error) {
		(void)snprintf(why, why_bytes, "target unreachable: %s port %u: %s",
			       ret_connected->address, port, error_words(error));
		return CONNECT_UNREACHABLE;
	}
	switch (*ret_verdict) {
	case INITIATOR_DONE: ret_connected->fd = TAKE_FD(fd); return CONNECT_DONE;
	case INITIATOR_REFUSED:
		(void)snprintf(why, why_bytes, "login refused by %s port %u: %s: %s",
			       ret_connected->address, port, initiator->why,
			       initiator_cure(initiator->status));
		break;
	case INITIATOR_MOVED: break;
	case INITIATOR_SEND:
	case INITIATOR_BROKEN:
		(void)snprintf(why, why_bytes, "login at %s port %u failed: %s",
			       ret_connected->address, port, initiator->why);
	}
	return CONNECT_REFUSED;
}

static enum connect_result
addresses_login(struct connect_portal *portal, const struct initiator_wish *wish,
		struct initiator *initiator, enum initiator_verdict *ret_verdict,
		struct connected *ret_connected, char *why, size_t why_bytes)
{
	enum connect_result result = CONNECT_UNREACHABLE;
	int r = addresses_find(portal);

	if (r && portal->address_count == 0) {
		(void)snprintf(why, why_bytes, "target unreachable: %s: %s", portal->portal.host,
			       gai_strerror(r));
		return CONNECT_UNREACHABLE;
	}
	for (unsigned i = 0; i < portal->address_count; i++) {
		result = address_login(&portal->addresses[i], portal->portal.port, wish, initiator,
				       ret_verdict, ret_connected, why, why_bytes);
		if (result != CONNECT_UNREACHABLE)
			break;
	}
	return result;
}

enum connect_result connect_portal_login(struct connect_portal *portal,
					 const struct initiator_wish *wish,
					 struct initiator *initiator,
					 struct connected *ret_connected, char *why,
					 size_t why_bytes)
{
	enum initiator_verdict verdict = INITIATOR_BROKEN;
	enum connect_result result =
		addresses_login(portal, wish, initiator, &verdict, ret_connected, why, why_bytes);
	/* Where it was sent to holds for this time only: the way back must stay open. */
	struct connect_portal moved;

	for (int i = 0;
	     i < REDIRECTIONS_MAX && result == CONNECT_REFUSED && verdict == INITIATOR_MOVED; i++) {
		memset(&moved, 0, sizeof(moved));
		if (settings_portal_parse(initiator->moved_to, WIRE_PORT, &moved.portal)) {
			(void)snprintf(why, why_bytes,
				       "%s sends us to an address that is none: %.100s",
				       ret_connected->address, initiator->moved_to);
			return CONNECT_REFUSED;
		}
		say("%s sends us to %s", ret_connected->address, initiator->moved_to);
		result = addresses_login(&moved, wish, initiator, &verdict, ret_connected, why,
					 why_bytes);
	}
	if (result == CONNECT_REFUSED && verdict == INITIATOR_MOVED)
		(void)snprintf(why, why_bytes, "%s sends us from target to target without end",
			       portal->portal.host);
	return result;
}
