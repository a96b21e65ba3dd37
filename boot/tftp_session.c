/*
 * One transfer on the wire. Its socket is not connected, so that a stranger's packets can be
 * answered with ERROR 5 (RFC 1350, 4) and do not disturb it; its receive buffer is small, as all
 * that comes are ACKs. The kernel reports ICMP errors (IP_RECVERR): a client that has gone, or one
 * that never asked because its address was forged, is sent nothing more.
 *
 * The timer is lazy: an ACK only moves the transfer's deadline, and the timer, when it fires, sees
 * how much is left. So a transfer costs the event loop nothing while it runs well.
 */
#include "boot/tftp_internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/ip.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "boot/netif.h"

#define HEADERS_BYTES 32 /* IP, UDP and TFTP */
#define RECEIVE_BYTES 4096
#define PACKET_COST_BYTES \
	1200 /* half of what the kernel accounts for one, as it doubles SO_SNDBUF */

uint64_t tftp_now_ms(void)
{
	return clock_ms();
}

static bool same_peer(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
	return a->sin_addr.s_addr == b->sin_addr.s_addr && a->sin_port == b->sin_port;
}

/* --- the end --- */

void session_free(struct session *session)
{
	if (!session)
		return;
	list_remove(&session->bucket_node);
	list_remove(&session->age_node);
	session->tftp->stats.sessions--;
	if (session->readable)
		event_free(session->readable);
	if (session->timer)
		event_free(session->timer);
	if (session->fd >= 0)
		close(session->fd);
	tftp_transfer_done(&session->transfer);
	free(session);
}

static void tell(struct session *session, enum serve_event event, const char *text)
{
	struct tftp *tftp = session->tftp;
	const struct serve_progress progress = {
		.bytes = event == SERVE_SENT ? session->transfer.file_bytes
					     : tftp_transfer_bytes(&session->transfer),
		.file_bytes = session->transfer.file_bytes,
		.retries = session->transfer.retries,
		.took_ms = tftp_now_ms() - session->started_ms,
		.block_bytes = session->transfer.block_bytes,
		.text = text,
	};

	tftp->ops->event(tftp->arg, &session->request, event, &progress);
}

void session_end(struct session *session, enum serve_event event, const char *text)
{
	struct tftp_stats *stats = &session->tftp->stats;

	if (event == SERVE_SENT)
		stats->sent++;
	else if (event == SERVE_ENDED)
		stats->ended++;
	else
		stats->lost++;
	if (event != SERVE_LOST || !session->superseded)
		tell(session, event, text);
	session_free(session);
}

/* --- sending --- */

static bool send_packet(struct session *session, const uint8_t *packet, size_t bytes)
{
	const struct sockaddr_in *peer = &session->request.peer;

	/* The first try may get the ICMP error of an earlier packet, perhaps of one to a stranger.
	 */
	for (unsigned tries = 0; tries < 2; tries++) {
		if (sendto(session->fd, packet, bytes, session->tftp->send_flags,
			   (const struct sockaddr *)peer, sizeof(*peer)) >= 0)
			return true;
		if (errno != ECONNREFUSED)
			break;
	}
	log_debug("tftp: %s: a packet is not sent: %s", session->asked.path, strerror(errno));
	return false;
}

/*
 * The window as far as it is not sent; what the kernel does not take is for the timer. One call a
 * packet: sendmmsg measured no better, and segmentation by the kernel (UDP_SEGMENT) halves the time
 * of large windows only, which no Pi asks for, and not on every interface.
 */
static void send_window(struct session *session)
{
	uint8_t packet[TFTP_PACKET_BYTES];
	bool taken = true;
	size_t bytes;

	while (taken && (bytes = tftp_transfer_packet(&session->transfer, packet)) > 0)
		taken = send_packet(session, packet, bytes);
	tftp_transfer_sent(&session->transfer, taken ? 0 : 1, tftp_now_ms());
}

static void arm(struct session *session)
{
	uint64_t now = tftp_now_ms(), deadline = session->transfer.deadline_ms;
	uint64_t ms = deadline > now ? deadline - now : 0;
	const struct timeval wait = {.tv_sec = (time_t)(ms / 1000),
				     .tv_usec = (suseconds_t)(ms % 1000 * 1000 + 1)};

	(void)evtimer_add(session->timer, &wait);
}

/* false: the session is gone. */
static bool session_step(struct session *session, enum tftp_step step)
{
	switch (step) {
	case TFTP_STEP_WAIT: return true;
	case TFTP_STEP_SEND: send_window(session); return true;
	case TFTP_STEP_DONE: session_end(session, SERVE_SENT, ""); return false;
	case TFTP_STEP_LOST: session_end(session, SERVE_LOST, "no answer"); return false;
	}
	return true;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct session *session = arg;

	(void)fd;
	(void)what;
	if (session_step(session, tftp_transfer_timeout(&session->transfer, tftp_now_ms())))
		arm(session);
}

/* --- receiving --- */

/* Empties the error queue; whether the peer's host says that nobody has its port. */
static bool peer_has_gone(struct session *session)
{
	bool gone = false;

	for (;;) {
		uint8_t control[256], data[1];
		struct sockaddr_in to = {0};
		struct iovec iovec = {data, sizeof(data)};
		struct msghdr header = {.msg_name = &to,
					.msg_namelen = sizeof(to),
					.msg_iov = &iovec,
					.msg_iovlen = 1,
					.msg_control = control,
					.msg_controllen = sizeof(control)};

		if (recvmsg(session->fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
			return gone;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
			struct sock_extended_err error;

			if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_RECVERR)
				continue;
			memcpy(&error, CMSG_DATA(c), sizeof(error));
			if (error.ee_origin == SO_EE_ORIGIN_ICMP &&
			    error.ee_errno == ECONNREFUSED &&
			    same_peer(&to, &session->request.peer))
				gone = true;
		}
	}
}

static void answer_stranger(struct session *session, const struct sockaddr_in *from,
			    const uint8_t *packet, size_t bytes)
{
	uint8_t answer[TFTP_HEADER_BYTES + TFTP_ERROR_TEXT_BYTES];
	unsigned opcode = tftp_opcode(packet, bytes);
	size_t length;

	session->tftp->stats.strangers++;
	if (opcode == 0 || opcode == TFTP_ERROR) /* errors are never answered */
		return;
	length = tftp_error_write(answer, TFTP_ERROR_UNKNOWN_TID, "not your transfer");
	(void)sendto(session->fd, answer, length, MSG_DONTWAIT, (const struct sockaddr *)from,
		     sizeof(*from));
}

static void take_ack(struct session *session, uint16_t block)
{
	uint64_t now = tftp_now_ms();
	enum tftp_step step = tftp_transfer_ack(&session->transfer, block, now);

	if (step != TFTP_STEP_WAIT) {
		session->heard_ms = now;
		session->proven = true;
		list_remove(&session->age_node);
		list_append(&session->tftp->proven, &session->age_node);
	}
	(void)session_step(session, step);
}

/* One packet each time: the event loop comes back for more, and other sessions have their turn. */
static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct session *session = arg;
	uint8_t packet[TFTP_HEADER_BYTES + TFTP_ERROR_TEXT_BYTES];
	struct sockaddr_in from = {0};
	socklen_t from_bytes = sizeof(from);
	char text[TFTP_ERROR_TEXT_BYTES];
	uint16_t block;
	ssize_t bytes = recvfrom(fd, packet, sizeof(packet), MSG_DONTWAIT, (struct sockaddr *)&from,
				 &from_bytes);

	(void)what;
	if (bytes < 0) {
		if (!peer_has_gone(session))
			return;
		/* A client that has all of it goes without waiting whether its ACK arrives. */
		if (tftp_transfer_at_end(&session->transfer))
			session_end(session, SERVE_SENT, "the last answer was lost");
		else
			session_end(session, SERVE_LOST, "the client has gone");
		return;
	}
	if (!same_peer(&from, &session->request.peer)) {
		answer_stranger(session, &from, packet, (size_t)bytes);
		return;
	}
	if (tftp_ack_parse(packet, (size_t)bytes, &block))
		take_ack(session, block);
	else if (tftp_error_parse(packet, (size_t)bytes, text))
		session_end(session, SERVE_ENDED, text);
}

void session_again(struct session *session)
{
	(void)session_step(session, tftp_transfer_again(&session->transfer, tftp_now_ms()));
}

/* --- the beginning --- */

static int session_socket(struct session *session)
{
	const struct serve_request *request = &session->request;
	struct sockaddr_in local = request->local;
	int AUTO_CLOSE fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1, receive = RECEIVE_BYTES, discover = IP_PMTUDISC_DONT;
	const int send = (int)(session->transfer.window_blocks + 4) * PACKET_COST_BYTES;
	const uint32_t interface = htonl((uint32_t)request->ifindex);

	if (fd < 0)
		return -errno;
	local.sin_port = 0;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive, sizeof(receive)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send, sizeof(send)) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &discover, sizeof(discover)) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_UNICAST_IF, &interface, sizeof(interface)) < 0 ||
	    bind(fd, (const struct sockaddr *)&local, sizeof(local)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int session_new(struct tftp *tftp, const struct serve_request *request,
		const struct tftp_request *asked, struct blob *blob)
{
	struct session *session = calloc(1, sizeof(*session));
	unsigned payload = asked->options.block_bytes
				   ? netif_mtu(tftp->fd, request->ifindex) - HEADERS_BYTES
				   : TFTP_BLOCK_BYTES;
	uint64_t now = tftp_now_ms();
	int r;

	if (!session)
		return -ENOMEM;
	session->tftp = tftp;
	session->request = *request;
	session->asked = *asked;
	session->request.path = session->asked.path;
	session->started_ms = session->heard_ms = now;
	tftp_transfer_init(&session->transfer, blob, &asked->options, payload, now);
	list_append(tftp_bucket(tftp, request->peer.sin_addr), &session->bucket_node);
	list_append(&tftp->unproven, &session->age_node);
	tftp->stats.sessions++;
	r = session->fd = session_socket(session);
	if (r >= 0) {
		session->readable = event_new(tftp->base, session->fd, EV_READ | EV_PERSIST,
					      on_readable, session);
		session->timer = evtimer_new(tftp->base, on_timer, session);
		r = session->readable && session->timer && event_add(session->readable, NULL) == 0
			    ? 0
			    : -ENOMEM;
	}
	if (r < 0) {
		session_free(session);
		return r;
	}
	tell(session, SERVE_ASKED, "");
	send_window(session);
	arm(session);
	return 0;
}
