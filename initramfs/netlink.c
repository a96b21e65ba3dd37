/*
 * NETLINK_ISCSI, spoken directly: a few messages with fixed layouts.
 */
#include "initramfs/netlink.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/console.h"

#define PORT_OF_THE_KERNEL 0xffffffffu /* see iscsi_netlink_open */
#define EVENT_GROUP        1
#define ANSWER_MS          10000 /* the kernel answers at once, but for a scan that it runs itself */
#define ANSWER_LOST_MS     500   /* the rest of it once messages were lost: the answer may be one */
#define DRAIN_COUNT_MAX    4096  /* events may come as fast as they are read */
#define RECEIVE_BYTES      (1024 * 1024)
#define MESSAGE_BYTES_MAX  8192
#define COMMANDS_MAX       128 /* per session and LUN: Linux's usual values */
#define QUEUE_DEPTH        32

enum command {
	CREATE_SESSION = 11,
	DESTROY_SESSION = 12,
	CREATE_CONN = 13,
	DESTROY_CONN = 14,
	BIND_CONN = 15,
	SET_PARAM = 16,
	START_CONN = 17,
	STOP_CONN = 18,
	GET_STATS = 20,
	EVENT_CONN_ERROR = 102,
	EVENT_FAILED = 103,
};

enum { STOP_TERM = 1, STOP_RECOVER = 3 };

enum param {
	PARAM_MAX_RECV = 0,
	PARAM_MAX_XMIT = 1,
	PARAM_HEADER_DIGEST = 2,
	PARAM_DATA_DIGEST = 3,
	PARAM_INITIAL_R2T = 4,
	PARAM_MAX_R2T = 5,
	PARAM_IMMEDIATE_DATA = 6,
	PARAM_FIRST_BURST = 7,
	PARAM_MAX_BURST = 8,
	PARAM_PDU_IN_ORDER = 9,
	PARAM_SEQUENCE_IN_ORDER = 10,
	PARAM_ERL = 11,
	PARAM_EXP_STATSN = 14,
	PARAM_TARGET_NAME = 15,
	PARAM_TPGT = 16,
	PARAM_PERSISTENT_ADDRESS = 17,
	PARAM_PERSISTENT_PORT = 18,
	PARAM_RECOVERY_S = 19,
	PARAM_FAST_ABORT = 26,
	PARAM_ABORT_S = 27,
	PARAM_LU_RESET_S = 28,
	PARAM_PING_S = 30,
	PARAM_RECV_S = 31,
	PARAM_IFACE_NAME = 32,
	PARAM_INITIATOR_NAME = 34,
	PARAM_TARGET_RESET_S = 35,
};

/* struct iscsi_uevent: 56 bytes. Both unions are arrays here; what stands where is below. */
struct uevent {
	uint32_t type, iferror;
	uint64_t transport __attribute__((aligned(8)));
	uint32_t request[6]; /* byte 16 */
	uint32_t reply[4];   /* byte 40 */
};
static_assert(sizeof(struct uevent) == 56, "the kernel's struct iscsi_uevent");

/* The start of struct iscsi_stats, which follows a uevent of GET_STATS. */
struct statistics {
	uint64_t tx_bytes, rx_bytes;
	uint32_t tx_nop_pdus, tx_command_pdus;
};
static_assert(offsetof(struct statistics, tx_command_pdus) == 20, "struct iscsi_stats");

struct message {
	struct nlmsghdr head;
	struct uevent event;
	char payload[512];
};
static_assert(offsetof(struct message, payload) == NLMSG_HDRLEN + sizeof(struct uevent),
	      "no padding in a message");

/* One message of the kernel; `ret_payload` points into the buffer. */
struct received {
	_Alignas(8) char buffer[MESSAGE_BYTES_MAX];
	const struct nlmsghdr *head;
	const struct uevent *event;
	const void *payload;
	size_t payload_bytes;
};

/* --- opening --- */

static int transport_handle(int sysfs_fd, uint64_t *ret_handle)
{
	int AUTO_CLOSE fd =
		openat(sysfs_fd, "class/iscsi_transport/tcp/handle", O_RDONLY | O_CLOEXEC);
	char text[32], *end;
	ssize_t bytes;

	if (fd < 0)
		return -errno;
	bytes = read(fd, text, sizeof(text) - 1);
	if (bytes <= 0)
		return bytes < 0 ? -errno : -EIO;
	text[bytes] = '\0';
	errno = 0;
	*ret_handle = strtoull(text, &end, 10);
	return errno || end == text ? -EIO : 0;
}

int iscsi_netlink_open(struct iscsi_netlink *netlink)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK, .nl_pid = PORT_OF_THE_KERNEL, .nl_groups = EVENT_GROUP};
	int AUTO_CLOSE fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ISCSI);
	int r;

	if (fd < 0)
		return -errno;
	/* Events wait here while a login takes its time, those of other sessions, too. */
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &(int){RECEIVE_BYTES}, sizeof(int));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)))
		return -errno;
	r = transport_handle(netlink->sysfs_fd, &netlink->transport);
	if (r)
		return r;
	netlink->fd = TAKE_FD(fd);
	return 0;
}

/* --- messages --- */

static int message_send(const struct iscsi_netlink *netlink, struct message *message,
			size_t payload_bytes)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t sent;

	message->head.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + sizeof(struct uevent) + payload_bytes);
	message->head.nlmsg_type = (uint16_t)message->event.type;
	message->event.transport = netlink->transport;
	do {
		sent = sendto(netlink->fd, message, message->head.nlmsg_len, 0,
			      (struct sockaddr *)&kernel, sizeof(kernel));
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

/* 0, -EAGAIN when none came in time, -ENOBUFS when some were lost, -EBADMSG. */
static int message_receive(const struct iscsi_netlink *netlink, int timeout_ms,
			   struct received *ret_received)
{
	struct pollfd wait = {.fd = netlink->fd, .events = POLLIN};
	struct sockaddr_nl from = {0};
	socklen_t from_bytes = sizeof(from);
	ssize_t bytes;
	int r;

	do {
		r = poll(&wait, 1, timeout_ms);
	} while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -EAGAIN;
	bytes = recvfrom(netlink->fd, ret_received->buffer, sizeof(ret_received->buffer),
			 MSG_DONTWAIT, (struct sockaddr *)&from, &from_bytes);
	if (bytes < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	/* Only the kernel speaks to us. */
	if (from.nl_pid != 0 || (size_t)bytes < NLMSG_HDRLEN + sizeof(struct uevent))
		return -EBADMSG;
	ret_received->head = (const struct nlmsghdr *)ret_received->buffer;
	ret_received->event = (const struct uevent *)(ret_received->buffer + NLMSG_HDRLEN);
	ret_received->payload = ret_received->buffer + NLMSG_HDRLEN + sizeof(struct uevent);
	ret_received->payload_bytes = (size_t)bytes - NLMSG_HDRLEN - sizeof(struct uevent);
	return 0;
}

/*
 * Other answers have the command as their type and come to us alone. Statistics come as an event to
 * all who listen, whoever asked, and so name the connection they are of: another program may ask
 * for those of its own session, and numbers of the wrong one would be a wrong CmdSN.
 */
static bool is_answer(const struct received *received, const struct message *asked)
{
	if (asked->event.type == GET_STATS)
		return received->event->type == GET_STATS &&
		       received->event->request[0] == asked->event.request[0] &&
		       received->event->request[1] == asked->event.request[1] &&
		       received->payload_bytes >= sizeof(struct statistics);
	return received->head->nlmsg_type == asked->event.type &&
	       received->event->type == asked->event.type;
}

/* Whether it tells that our connection failed. */
static bool is_loss(const struct iscsi_netlink *netlink, const struct received *received)
{
	return received->event->type == EVENT_CONN_ERROR && netlink->session &&
	       received->event->reply[0] == netlink->sid;
}

/*
 * What came before a command: read, so that there is room for its answer, which the kernel throws
 * away when there is none.
 */
static void drain(struct iscsi_netlink *netlink)
{
	struct received received;

	for (unsigned i = 0; i < DRAIN_COUNT_MAX; i++) {
		int r = message_receive(netlink, 0, &received);

		if (r == -ENOBUFS)
			netlink->unsure = true;
		else if (r == 0 && is_loss(netlink, &received))
			netlink->lost = true;
		else if (r && r != -EBADMSG)
			return;
	}
}

/*
 * Sends a command and waits for its answer; -ETIMEDOUT. A loss that is reported between is
 * remembered (also one that may be among lost events): nobody else will hear of it.
 */
static int command(struct iscsi_netlink *netlink, struct message *message, size_t payload_bytes,
		   struct received *received)
{
	long long until_ms;
	int r;

	drain(netlink);
	r = message_send(netlink, message, payload_bytes);
	if (r)
		return r;
	until_ms = now_ms() + ANSWER_MS;
	for (;;) {
		long long left_ms = until_ms - now_ms();

		r = left_ms > 0 ? message_receive(netlink, (int)left_ms, received) : -ETIMEDOUT;
		if (r == -ENOBUFS) {
			netlink->unsure = true;
			until_ms = left_ms > ANSWER_LOST_MS ? now_ms() + ANSWER_LOST_MS : until_ms;
		}
		if (r == -EBADMSG || r == -ENOBUFS || r == -EAGAIN)
			continue;
		if (r)
			return r;
		if (is_loss(netlink, received))
			netlink->lost = true;
		if (received->event->type == EVENT_FAILED && received->event->iferror)
			return (int)received->event->iferror;
		if (is_answer(received, message))
			return (int)received->event->iferror;
	}
}

/* A command whose answer is only a return code, the first word of the reply. */
static int simple(struct iscsi_netlink *netlink, struct message *message, size_t payload_bytes)
{
	struct received received;
	int r = command(netlink, message, payload_bytes, &received);

	return r ? r : (int)received.event->reply[0];
}

static struct message message_make(const struct iscsi_netlink *netlink, uint32_t type)
{
	return (struct message){.event = {.type = type, .request = {netlink->sid, netlink->cid}}};
}

/* --- parameters --- */

static int set_text(struct iscsi_netlink *netlink, enum param param, const char *text)
{
	struct message message = message_make(netlink, SET_PARAM);
	size_t bytes = strlen(text) + 1;
	int r;

	if (bytes > sizeof(message.payload))
		return -E2BIG;
	message.event.request[2] = param;
	message.event.request[3] = (uint32_t)bytes;
	memcpy(message.payload, text, bytes);
	r = simple(netlink, &message, bytes);
	/* A kernel that does not know one of them does as it always does. */
	return r == -ENOSYS ? 0 : r;
}

static int set_number(struct iscsi_netlink *netlink, enum param param, uint32_t number)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%u", number);
	return set_text(netlink, param, text);
}

static int set_params(struct iscsi_netlink *netlink, const struct iscsi_handover *handover)
{
	const struct wire_params *p = handover->params;
	const struct {
		enum param param;
		uint32_t number;
	} numbers[] = {
		{PARAM_MAX_RECV, p->max_recv_segment_bytes},
		{PARAM_MAX_XMIT, p->max_send_segment_bytes},
		{PARAM_HEADER_DIGEST, p->header_digest},
		{PARAM_DATA_DIGEST, p->data_digest},
		{PARAM_INITIAL_R2T, p->initial_r2t},
		{PARAM_MAX_R2T, p->max_outstanding_r2t},
		{PARAM_IMMEDIATE_DATA, p->immediate_data},
		{PARAM_FIRST_BURST, p->first_burst_bytes},
		{PARAM_MAX_BURST, p->max_burst_bytes},
		{PARAM_PDU_IN_ORDER, p->data_pdu_in_order},
		{PARAM_SEQUENCE_IN_ORDER, p->data_sequence_in_order},
		{PARAM_ERL, 0},
		{PARAM_EXP_STATSN, handover->exp_statsn},
		{PARAM_TPGT, handover->portal_group_tag},
		{PARAM_PERSISTENT_PORT, handover->port},
		{PARAM_RECOVERY_S, handover->recovery_s},
		{PARAM_FAST_ABORT, 1},
		{PARAM_ABORT_S, 15},
		{PARAM_LU_RESET_S, 30},
		{PARAM_TARGET_RESET_S, 30},
		{PARAM_PING_S, handover->ping_s},
		{PARAM_RECV_S, handover->ping_s},
	};
	const struct {
		enum param param;
		const char *text;
	} texts[] = {
		{PARAM_TARGET_NAME, handover->target},
		{PARAM_PERSISTENT_ADDRESS, handover->address},
		{PARAM_IFACE_NAME, "default"},
		{PARAM_INITIATOR_NAME, handover->initiator},
	};

	for (size_t i = 0; i < ARRAY_COUNT(numbers); i++) {
		int r = set_number(netlink, numbers[i].param, numbers[i].number);

		if (r)
			return r;
	}
	for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
		int r = set_text(netlink, texts[i].param, texts[i].text);

		if (r)
			return r;
	}
	return 0;
}

/* --- the session --- */

int iscsi_netlink_create(struct iscsi_netlink *netlink, uint32_t initial_cmdsn)
{
	struct message message = {.event = {.type = CREATE_SESSION, .request = {initial_cmdsn}}};
	uint16_t sizes[2] = {COMMANDS_MAX, QUEUE_DEPTH};
	struct received received;
	int r;

	assert(!netlink->session && !netlink->connection);
	memcpy(&message.event.request[1], sizes, sizeof(sizes));
	r = command(netlink, &message, 0, &received);
	if (r)
		return r;
	netlink->sid = received.event->reply[0];
	netlink->host = received.event->reply[1];
	/* A failure shows in there being no session. */
	if (netlink->sid == 0)
		return -EIO;
	netlink->session = true;
	netlink->cid = 0;
	netlink->initial_cmdsn = initial_cmdsn;
	message = message_make(netlink, CREATE_CONN);
	r = command(netlink, &message, 0, &received);
	if (r)
		return r;
	if (received.event->reply[0] != netlink->sid)
		return -EIO;
	netlink->cid = received.event->reply[1];
	netlink->connection = true;
	return 0;
}

int iscsi_netlink_start(struct iscsi_netlink *netlink, int tcp_fd,
			const struct iscsi_handover *handover)
{
	struct message bind_conn = message_make(netlink, BIND_CONN);
	struct message start = message_make(netlink, START_CONN);
	uint64_t fd = (uint64_t)tcp_fd;
	int r;

	assert(netlink->connection);
	memcpy(&bind_conn.event.request[2], &fd, sizeof(fd));
	bind_conn.event.request[4] = 1; /* the leading connection */
	r = simple(netlink, &bind_conn, 0);
	/* What was reported so far was of the connection before. */
	netlink->lost = netlink->unsure = false;
	if (r == 0)
		r = set_params(netlink, handover);
	if (r == 0)
		r = simple(netlink, &start, 0);
	if (r == 0 && (netlink->lost || (netlink->unsure && !iscsi_netlink_is_up(netlink))))
		return -ECONNRESET;
	return r;
}

static int stop(struct iscsi_netlink *netlink, uint32_t how)
{
	struct message message = message_make(netlink, STOP_CONN);

	message.event.request[4] = how;
	return simple(netlink, &message, 0);
}

int iscsi_netlink_recover(struct iscsi_netlink *netlink, uint32_t *ret_cmdsn)
{
	struct message message = message_make(netlink, GET_STATS);
	struct statistics statistics;
	struct received received;
	int r = stop(netlink, STOP_RECOVER);

	if (r)
		return r;
	r = command(netlink, &message, 0, &received);
	if (r)
		return r;
	memcpy(&statistics, received.payload, sizeof(statistics));
	/* Pings and task management are immediate and count for nothing (RFC 7143, 4.2.2.1). */
	*ret_cmdsn = netlink->initial_cmdsn + statistics.tx_command_pdus;
	return 0;
}

void iscsi_netlink_destroy(struct iscsi_netlink *netlink)
{
	struct message message;

	if (netlink->connection) {
		(void)stop(netlink, STOP_TERM);
		message = message_make(netlink, DESTROY_CONN);
		(void)simple(netlink, &message, 0);
		netlink->connection = false;
	}
	if (netlink->session) {
		message = message_make(netlink, DESTROY_SESSION);
		(void)simple(netlink, &message, 0);
		netlink->session = false;
	}
}

/* --- events --- */

enum iscsi_event iscsi_netlink_event(struct iscsi_netlink *netlink, uint32_t *ret_error)
{
	struct received received;
	int r = message_receive(netlink, 0, &received);

	if (r == -ENOBUFS)
		return ISCSI_EVENT_UNSURE;
	if (r || !is_loss(netlink, &received))
		return ISCSI_EVENT_NONE;
	*ret_error = received.event->reply[2];
	return ISCSI_EVENT_CONN_LOST;
}

const char *iscsi_error_name(uint32_t error)
{
	switch (error) {
	case 1011: return "the connection failed";
	case 1014: return "a header digest was wrong";
	case 1015: return "a data digest was wrong";
	case 1019: return "nothing could be sent";
	case 1020: return "the target closed it";
	case 1021: return "commands got no answer";
	case 1022: return "the target was silent";
	default: return "the kernel gave it up";
	}
}

bool iscsi_error_is_close(uint32_t error)
{
	return error == 1011 || error == 1020;
}

bool iscsi_netlink_is_up(const struct iscsi_netlink *netlink)
{
	char path[64], text[32];
	ssize_t bytes;

	(void)snprintf(path, sizeof(path), "class/iscsi_session/session%u/state", netlink->sid);
	int AUTO_CLOSE fd = openat(netlink->sysfs_fd, path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	bytes = read(fd, text, sizeof(text) - 1);
	return bytes > 0 && strncmp(text, "LOGGED_IN", 9) == 0;
}
