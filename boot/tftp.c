/*
 * Hears requests and decides: whom to answer, with what, and who makes room when all transfers
 * are taken. Errors are answered from the server's own port, at once and without any state, since
 * half of what a boot ROM asks for does not exist.
 *
 * Peers are not to be believed: a request may be forged, repeated at wire speed, or one of
 * thousands. So there is a number of transfers that all share, and a smaller one for each address;
 * transfers that were never acknowledged make room first and soon, silent ones next, and a request
 * that finds none of these is left unanswered: its client asks again.
 */
#include "boot/tftp_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "boot/netif.h"

#define REQUESTS_AT_ONCE 64        /* before transfers have their turn again */
#define LISTEN_BYTES     (4 << 20) /* three thousand nodes may ask in one moment */
/* How long a transfer is left alone before it has to make room. */
#define UNPROVEN_MS 100
#define PROVEN_MS   3000
/* The same request again after so long is a client that began anew, not a packet that was late. */
#define ANEW_MS 1000

/* --- who is there --- */

struct list *tftp_bucket(struct tftp *tftp, struct in_addr peer)
{
	/* Keyed, so that nobody can choose addresses that meet in one list. */
	uint64_t mixed = (peer.s_addr ^ tftp->seed) * 0x9e3779b97f4a7c15u;

	mixed = (mixed ^ mixed >> 32 ^ tftp->seed >> 32) * 0xff51afd7ed558ccdu;
	return &tftp->buckets[mixed >> 54];
}
static_assert(TFTP_BUCKETS == 1 << 10, "ten bits of the hash");

static bool same_address(const struct session *session, const struct serve_request *request)
{
	return session->request.peer.sin_addr.s_addr == request->peer.sin_addr.s_addr;
}

static bool may_make_room(const struct session *session, uint64_t now)
{
	return now - session->heard_ms >= (session->proven ? PROVEN_MS : UNPROVEN_MS);
}

/* Ends the session, if there is one that may make room. */
static bool make_room(struct tftp *tftp, struct session *session)
{
	if (!session || !may_make_room(session, tftp_now_ms()))
		return false;
	tftp->stats.evicted++;
	session_end(session, SERVE_LOST, "it was silent, and others wanted its place");
	return true;
}

/* Room among this peer's own transfers. */
static bool room_for_peer(struct tftp *tftp, const struct serve_request *request)
{
	struct session *oldest = NULL;
	unsigned count = 0;

	list_for_each (node, tftp_bucket(tftp, request->peer.sin_addr)) {
		struct session *session = LIST_ENTRY(node, struct session, bucket_node);

		if (!same_address(session, request))
			continue;
		count++;
		if (!oldest || session->heard_ms < oldest->heard_ms)
			oldest = session;
	}
	return count < tftp->sessions_per_peer_max || make_room(tftp, oldest);
}

static bool room_for_one(struct tftp *tftp)
{
	if (tftp->stats.sessions < tftp->sessions_max)
		return true;
	return make_room(tftp, LIST_FIRST(&tftp->unproven, struct session, age_node)) ||
	       make_room(tftp, LIST_FIRST(&tftp->proven, struct session, age_node));
}

/* --- answers without a transfer --- */

static void refuse(struct tftp *tftp, const struct serve_request *request, enum tftp_error code,
		   const char *text)
{
	uint8_t packet[TFTP_HEADER_BYTES + TFTP_ERROR_TEXT_BYTES];
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
	} control = {.bytes = {0}};
	const struct in_pktinfo from = {.ipi_ifindex = request->ifindex,
					.ipi_spec_dst = request->local.sin_addr};
	struct sockaddr_in to = request->peer;
	struct iovec iovec = {packet, tftp_error_write(packet, code, text)};
	struct msghdr header = {.msg_name = &to,
				.msg_namelen = sizeof(to),
				.msg_iov = &iovec,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *info = CMSG_FIRSTHDR(&header);

	info->cmsg_level = IPPROTO_IP;
	info->cmsg_type = IP_PKTINFO;
	info->cmsg_len = CMSG_LEN(sizeof(from));
	memcpy(CMSG_DATA(info), &from, sizeof(from));
	if (sendmsg(tftp->fd, &header, tftp->send_flags) < 0)
		log_debug("tftp: an ERROR is not sent: %s", strerror(errno));
}

static void tell_missing(struct tftp *tftp, const struct serve_request *request, const char *text)
{
	const struct serve_progress progress = {.text = text};

	tftp->stats.missing++;
	tftp->ops->event(tftp->arg, request, SERVE_MISSING, &progress);
}

static void refuse_unread(struct tftp *tftp, const struct serve_request *request, int r)
{
	tftp->stats.malformed++;
	switch (r) {
	case -EPROTO: refuse(tftp, request, TFTP_ERROR_ILLEGAL, "only octet mode is served"); break;
	case -EACCES: refuse(tftp, request, TFTP_ERROR_ACCESS, "no path may have .. in it"); break;
	case -EINVAL: refuse(tftp, request, TFTP_ERROR_ACCESS, "no such name is served"); break;
	case -ENOENT:
	case -ENAMETOOLONG: refuse(tftp, request, TFTP_ERROR_NOT_FOUND, "no such file"); break;
	default: refuse(tftp, request, TFTP_ERROR_ILLEGAL, "malformed request"); break;
	}
}

/* --- requests --- */

static bool same_request(const struct tftp_request *a, const struct tftp_request *b)
{
	return a->options.tsize == b->options.tsize &&
	       a->options.block_bytes == b->options.block_bytes &&
	       a->options.window_blocks == b->options.window_blocks &&
	       a->options.timeout_s == b->options.timeout_s && strcmp(a->path, b->path) == 0;
}

/*
 * What the peer's other transfers have to do with it. The one from the same port for the same file
 * is this one, and gets its first packet again: true. If it got ahead but has been silent since,
 * its client may have begun anew: there will be two, and the client disowns one (RFC 1350, 4). One
 * for another file from this port is over; one for the same file from another port goes on, but if
 * it ends, nobody need hear of it.
 */
static bool is_running(struct tftp *tftp, const struct serve_request *request,
		       const struct tftp_request *asked)
{
	uint64_t now = tftp_now_ms();

	list_for_each (node, tftp_bucket(tftp, request->peer.sin_addr)) {
		struct session *session = LIST_ENTRY(node, struct session, bucket_node);
		bool same_port = session->request.peer.sin_port == request->peer.sin_port;

		if (!same_address(session, request))
			continue;
		if (same_port && !same_request(&session->asked, asked)) {
			session->superseded = true;
			session_end(session, SERVE_LOST, "");
		} else if (same_port && (!session->proven || now - session->heard_ms < ANEW_MS)) {
			session_again(session);
			return true;
		} else if (strcmp(session->asked.path, asked->path) == 0) {
			session->superseded = true;
		}
	}
	return false;
}

static void begin(struct tftp *tftp, const struct serve_request *request,
		  const struct tftp_request *asked, struct blob *blob)
{
	int r;

	if (!room_for_peer(tftp, request) || !room_for_one(tftp)) {
		tftp->stats.no_room++;
		return;
	}
	r = session_new(tftp, request, asked, blob);
	/* No descriptor left: somebody else's may be had. */
	if ((r == -EMFILE || r == -ENFILE) &&
	    make_room(tftp, LIST_FIRST(&tftp->unproven, struct session, age_node)))
		r = session_new(tftp, request, asked, blob);
	if (r < 0) {
		tftp->stats.no_room++;
		log_debug("tftp: %s: no transfer: %s", asked->path, strerror(-r));
	}
}

static void take_request(struct tftp *tftp, struct serve_request *request, const uint8_t *packet,
			 size_t bytes)
{
	struct tftp_request asked;
	struct blob *blob;
	int r = tftp_request_parse(packet, bytes, &asked);

	if (r < 0) {
		refuse_unread(tftp, request, r);
		return;
	}
	tftp->stats.requests++;
	if (asked.write) {
		refuse(tftp, request, TFTP_ERROR_ACCESS, "files can't be written here");
		return;
	}
	if (is_running(tftp, request, &asked))
		return;
	request->path = asked.path;
	r = tftp->ops->open(tftp->arg, request, &blob);
	if (r == 0) {
		begin(tftp, request, &asked, blob);
		blob_unref(blob);
	} else if (r == -ENOENT) {
		refuse(tftp, request, TFTP_ERROR_NOT_FOUND, "no such file");
		tell_missing(tftp, request, "");
	} else if (r == -EACCES) {
		refuse(tftp, request, TFTP_ERROR_ACCESS, "not for this client");
		tell_missing(tftp, request, "not for this client");
	}
}

/* --- the socket --- */

static bool is_host(struct in_addr address)
{
	uint32_t a = ntohl(address.s_addr);

	return a >> 24 != 0 && a >> 28 != 0xe && a >> 28 != 0xf;
}

/* false: there is nothing more to be read. */
static bool hear(struct tftp *tftp)
{
	uint8_t packet[LIMIT_TFTP_REQUEST_BYTES + 1], control[256];
	struct serve_request request = {.path = ""};
	struct iovec iovec = {packet, sizeof(packet)};
	struct msghdr header = {.msg_name = &request.peer,
				.msg_namelen = sizeof(request.peer),
				.msg_iov = &iovec,
				.msg_iovlen = 1,
				.msg_control = control,
				.msg_controllen = sizeof(control)};
	ssize_t bytes = recvmsg(tftp->fd, &header, MSG_DONTWAIT);
	unsigned opcode;

	if (bytes < 0)
		return errno == EINTR;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
		struct in_pktinfo info;

		if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO)
			continue;
		memcpy(&info, CMSG_DATA(c), sizeof(info));
		request.ifindex = info.ipi_ifindex;
		request.local.sin_family = AF_INET;
		request.local.sin_addr = info.ipi_spec_dst;
		request.local.sin_port = htons(tftp->port);
	}
	if (request.local.sin_family != AF_INET || request.peer.sin_port == 0 ||
	    !is_host(request.peer.sin_addr) ||
	    !netif_listed(tftp->fd, request.ifindex, (const char *const *)tftp->interfaces,
			  tftp->interface_count))
		return true;
	opcode = tftp_opcode(packet, (size_t)bytes);
	if (opcode == TFTP_RRQ || opcode == TFTP_WRQ)
		take_request(tftp, &request, packet, (size_t)bytes);
	else
		tftp->stats.malformed++; /* no answer to what may be one itself */
	return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	for (unsigned i = 0; i < REQUESTS_AT_ONCE && hear(arg); i++)
		;
}

static int listen_socket(const struct tftp_config *config)
{
	const struct sockaddr_in local = {.sin_family = AF_INET,
					  .sin_port = htons(config->port),
					  .sin_addr = config->address};
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1, receive = LISTEN_BYTES;

	if (fd < 0)
		return -errno;
	/* More than the system's limit only for the privileged; less does as well. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive, sizeof(receive)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive));
	if (setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&local, sizeof(local)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_in local = {0};
	socklen_t bytes = sizeof(local);

	(void)getsockname(fd, (struct sockaddr *)&local, &bytes);
	return ntohs(local.sin_port);
}

int tftp_new(struct event_base *base, const struct tftp_config *config, const struct serve_ops *ops,
	     void *arg, struct tftp **ret_tftp)
{
	struct tftp *tftp = calloc(1, sizeof(*tftp));
	int r;

	if (!tftp)
		return -ENOMEM;
	tftp->fd = -1;
	tftp->base = base;
	tftp->ops = ops;
	tftp->arg = arg;
	tftp->sessions_max = config->sessions_max ? config->sessions_max : LIMIT_TFTP_SESSIONS;
	tftp->sessions_per_peer_max = config->sessions_per_peer_max ? config->sessions_per_peer_max
								    : LIMIT_TFTP_SESSIONS_PER_PEER;
	tftp->send_flags = MSG_DONTWAIT | (config->confirm ? MSG_CONFIRM : 0);
	list_init(&tftp->unproven);
	list_init(&tftp->proven);
	for (unsigned i = 0; i < TFTP_BUCKETS; i++)
		list_init(&tftp->buckets[i]);
	if (getrandom(&tftp->seed, sizeof(tftp->seed), 0) < 0)
		tftp->seed = tftp_now_ms(); /* never with so few bytes */
	r = netif_names_copy(config->interfaces, config->interface_count, &tftp->interfaces);
	if (r < 0)
		goto fail;
	tftp->interface_count = config->interface_count;
	r = tftp->fd = listen_socket(config);
	if (r < 0)
		goto fail;
	tftp->readable = event_new(base, tftp->fd, EV_READ | EV_PERSIST, on_readable, tftp);
	r = tftp->readable && event_add(tftp->readable, NULL) == 0 ? 0 : -ENOMEM;
	if (r < 0)
		goto fail;
	tftp->port = port_of(tftp->fd);
	*ret_tftp = tftp;
	return 0;
fail:
	tftp_free(tftp);
	return r;
}

void tftp_free(struct tftp *tftp)
{
	if (!tftp)
		return;
	while (!list_empty(&tftp->unproven))
		session_free(LIST_FIRST(&tftp->unproven, struct session, age_node));
	while (!list_empty(&tftp->proven))
		session_free(LIST_FIRST(&tftp->proven, struct session, age_node));
	assert(tftp->stats.sessions == 0);
	if (tftp->readable)
		event_free(tftp->readable);
	if (tftp->fd >= 0)
		close(tftp->fd);
	netif_names_free(tftp->interfaces, tftp->interface_count);
	free(tftp);
}

uint16_t tftp_port(const struct tftp *tftp)
{
	return tftp->port;
}

struct tftp_stats tftp_stats(const struct tftp *tftp)
{
	return tftp->stats;
}
