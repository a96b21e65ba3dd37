/*
 * Requests to answers on libevent's evhttp, which does the parsing of HTTP itself. A blob's pieces
 * are put into the answer by reference; each holds the blob until the socket has taken it.
 *
 * Peers may be slow on purpose. A connection that moves no byte ends by evhttp's timeout; one that
 * moves a byte now and then has a deadline for its request's headers, and another one for the
 * answer. Connections are counted, all and those of each address.
 */
#include "boot/http.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "boot/http_range.h"
#include "boot/netif.h"
#include "boot/path.h"

#define BACKLOG        128
#define BODY_BYTES_MAX 4096 /* no request that we answer has one */
#define WRITE_BYTES    (256 << 10)
#define SWEEP_MS       20

struct http {
	struct list node;
	const struct serve_ops *ops;
	void *arg;
	struct http_config config; /* its interfaces are our copies */
	char **interfaces;
	struct evhttp *evhttp;
	struct evconnlistener *listener; /* evhttp's */
	struct event *sweep;
	struct list clients;
	unsigned client_count;
	uint16_t port;
	bool ending;
};

/* libevent's accept errors name nothing but the listener. */
static struct list servers = {&servers, &servers};

struct client {
	struct list node;
	struct bufferevent *bufferevent; /* a reference */
	struct in_addr peer;             /* 0 before the first sweep */
	uint64_t deadline_ms;
};

/* An answer with a file, until it is sent or its connection ends. */
struct answer {
	struct http *http;
	struct evhttp_request *req;
	struct serve_request request; /* its path is ours */
	char path[PATH_BUFFER_BYTES];
	uint64_t bytes, started_ms;
};

/* --- connections: counted, and ended when their time is over --- */

static struct client *client_of(struct http *http, struct evhttp_request *req)
{
	struct bufferevent *bufferevent =
		evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));

	list_for_each (node, &http->clients) {
		struct client *client = LIST_ENTRY(node, struct client, node);

		if (client->bufferevent == bufferevent)
			return client;
	}
	return NULL;
}

static void client_give(struct http *http, struct evhttp_request *req, unsigned ms)
{
	struct client *client = client_of(http, req);

	if (client)
		client->deadline_ms = clock_ms() + ms;
}

static void client_free(struct http *http, struct client *client)
{
	list_remove(&client->node);
	http->client_count--;
	(void)bufferevent_decref(client->bufferevent);
	free(client);
}

/* evhttp's callbacks go from the bufferevent when evhttp lets go of it; nothing else tells. */
static bool client_has_ended(const struct client *client)
{
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;
	void *arg;

	bufferevent_getcb(client->bufferevent, &on_read, &on_write, &on_event, &arg);
	return !on_read && !on_write && !on_event;
}

static bool is_one_too_many(struct http *http, struct client *client)
{
	struct sockaddr_in peer = {0};
	socklen_t bytes = sizeof(peer);
	unsigned count = 0;

	if (client->peer.s_addr != 0)
		return false;
	if (getpeername(bufferevent_getfd(client->bufferevent), (struct sockaddr *)&peer, &bytes))
		return false; /* it is about to end */
	list_for_each (node, &http->clients) {
		const struct client *other = LIST_ENTRY(node, struct client, node);

		count += other->peer.s_addr == peer.sin_addr.s_addr;
	}
	client->peer = peer.sin_addr;
	return count >= http->config.clients_per_peer_max;
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval again = {.tv_usec = SWEEP_MS * 1000};
	struct http *http = arg;
	uint64_t now = clock_ms();

	(void)fd;
	(void)what;
	list_for_each (node, &http->clients) {
		struct client *client = LIST_ENTRY(node, struct client, node);

		if (client_has_ended(client))
			client_free(http, client);
		else if (now >= client->deadline_ms || is_one_too_many(http, client))
			/* evhttp sees the end of file, and does the rest. */
			(void)shutdown(bufferevent_getfd(client->bufferevent), SHUT_RDWR);
	}
	if (http->client_count < http->config.clients_max)
		(void)evconnlistener_enable(http->listener);
	if (http->client_count > 0)
		(void)evtimer_add(http->sweep, &again);
}

static void sweep_soon(struct http *http)
{
	const struct timeval soon = {.tv_usec = SWEEP_MS * 1000};

	if (!evtimer_pending(http->sweep, NULL))
		(void)evtimer_add(http->sweep, &soon);
}

static struct bufferevent *on_client(struct event_base *base, void *arg)
{
	struct http *http = arg;
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	client->bufferevent = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (!client->bufferevent) {
		free(client);
		return NULL;
	}
	(void)bufferevent_set_max_single_write(client->bufferevent, WRITE_BYTES);
	bufferevent_incref(client->bufferevent);
	client->deadline_ms = clock_ms() + http->config.idle_ms_max;
	list_append(&http->clients, &client->node);
	if (++http->client_count >= http->config.clients_max)
		(void)evconnlistener_disable(http->listener);
	sweep_soon(http);
	return client->bufferevent;
}

/* No descriptor for a client: it waits in the backlog. The argument is evhttp's, not ours. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
	(void)arg;
	log_debug("http: no connection accepted: %s", strerror(errno));
	list_for_each (node, &servers) {
		struct http *http = LIST_ENTRY(node, struct http, node);

		if (http->listener != listener)
			continue;
		(void)evconnlistener_disable(listener);
		sweep_soon(http);
	}
}

/* --- answers --- */

static void tell(struct answer *answer, enum serve_event event, const char *text)
{
	struct http *http = answer->http;
	const struct serve_progress progress = {
		.bytes = event == SERVE_SENT ? answer->bytes : 0,
		.file_bytes = answer->bytes,
		.took_ms = clock_ms() - answer->started_ms,
		.text = text,
	};

	http->ops->event(http->arg, &answer->request, event, &progress);
}

static void on_closed(struct evhttp_connection *connection, void *arg)
{
	struct answer *answer = arg;

	evhttp_connection_set_closecb(connection, NULL, NULL);
	if (!answer->http->ending)
		tell(answer, SERVE_LOST, "the connection ended");
	free(answer);
}

static void on_sent(struct evhttp_request *req, void *arg)
{
	struct answer *answer = arg;

	evhttp_connection_set_closecb(evhttp_request_get_connection(req), NULL, NULL);
	client_give(answer->http, req, answer->http->config.idle_ms_max);
	tell(answer, SERVE_SENT, "");
	free(answer);
}

static void send_text(struct evhttp_request *req, int status, const char *text)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	struct evbuffer *body = evbuffer_new();
	char length[24];

	if (!body) {
		evhttp_send_error(req, 500, NULL);
		return;
	}
	(void)snprintf(length, sizeof(length), "%zu", strlen(text) + 1);
	evhttp_add_header(headers, "Content-Type", "text/plain");
	evhttp_add_header(headers, "Content-Length", length);
	if (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD)
		(void)evbuffer_add_printf(body, "%s\n", text);
	evhttp_send_reply(req, status, NULL, body);
	evbuffer_free(body);
}

static void on_piece_sent(const void *data, size_t bytes, void *arg)
{
	(void)data;
	(void)bytes;
	blob_unref(arg);
}

/* References to `bytes` of the blob from `first` on. */
static int add_pieces(struct evbuffer *body, struct blob *blob, uint64_t first, uint64_t bytes)
{
	size_t count = blob_pieces(blob, NULL, NULL, 0);
	const void **data AUTO_FREE = calloc(count + 1, sizeof(*data));
	size_t *lengths AUTO_FREE = calloc(count + 1, sizeof(*lengths));

	if (!data || !lengths)
		return -ENOMEM;
	blob_pieces(blob, data, lengths, count);
	for (size_t i = 0; i < count && bytes > 0; i++) {
		size_t part;

		if (first >= lengths[i]) {
			first -= lengths[i];
			continue;
		}
		part = lengths[i] - (size_t)first;
		if (part > bytes)
			part = (size_t)bytes;
		if (evbuffer_add_reference(body, (const uint8_t *)data[i] + first, part,
					   on_piece_sent, blob_ref(blob)) < 0) {
			blob_unref(blob);
			return -ENOMEM;
		}
		bytes -= part;
		first = 0;
	}
	return 0;
}

/* Which part of it is asked for; the status, and the header that names the part. */
static int choose_range(struct evhttp_request *req, uint64_t file_bytes, uint64_t *ret_first,
			uint64_t *ret_bytes)
{
	struct evkeyvalq *in = evhttp_request_get_input_headers(req);
	struct evkeyvalq *out = evhttp_request_get_output_headers(req);
	const char *range = evhttp_find_header(in, "Range");
	char text[80];
	int r;

	*ret_first = 0;
	*ret_bytes = file_bytes;
	evhttp_add_header(out, "Accept-Ranges", "bytes");
	/* We name no versions, so none can be the one that If-Range wants. */
	if (!range || evhttp_find_header(in, "If-Range"))
		return 200;
	r = http_range_parse(range, file_bytes, ret_first, ret_bytes);
	if (r == -ENOENT)
		return 200;
	if (r < 0)
		(void)snprintf(text, sizeof(text), "bytes */%" PRIu64, file_bytes);
	else
		(void)snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
			       *ret_first, *ret_first + *ret_bytes - 1, file_bytes);
	evhttp_add_header(out, "Content-Range", text);
	return r < 0 ? 416 : 206;
}

/* Takes the answer. */
static void send_blob(struct answer *answer, struct blob *blob)
{
	struct evhttp_request *req = answer->req;
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	struct evbuffer *body = evbuffer_new();
	char length[24];
	uint64_t first;
	int status = choose_range(req, blob_bytes(blob), &first, &answer->bytes);

	if (status == 416) {
		send_text(req, status, "nothing of that range is in the file");
		goto out;
	}
	if (!body || (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD &&
		      add_pieces(body, blob, first, answer->bytes) < 0)) {
		evhttp_send_error(req, 500, NULL);
		goto out;
	}
	(void)snprintf(length, sizeof(length), "%" PRIu64, answer->bytes);
	evhttp_add_header(headers, "Content-Type", "application/octet-stream");
	evhttp_add_header(headers, "Content-Length", length);
	client_give(answer->http, req, answer->http->config.answer_ms_max);
	if (evhttp_request_get_command(req) == EVHTTP_REQ_HEAD) {
		evhttp_send_reply(req, status, NULL, NULL);
		goto out;
	}
	tell(answer, SERVE_ASKED, "");
	evhttp_connection_set_closecb(evhttp_request_get_connection(req), on_closed, answer);
	evhttp_request_set_on_complete_cb(req, on_sent, TAKE_PTR(answer));
	evhttp_send_reply(req, status, NULL, body);
out:
	if (body)
		evbuffer_free(body);
	free(answer);
}

/* --- requests --- */

static int fd_of(struct evhttp_request *req)
{
	return bufferevent_getfd(
		evhttp_connection_get_bufferevent(evhttp_request_get_connection(req)));
}

/* Who asks, whom, through which interface. */
static int identify(struct evhttp_request *req, struct serve_request *ret_request)
{
	int fd = fd_of(req);
	struct serve_request request = {.http = true};
	socklen_t peer_bytes = sizeof(request.peer), local_bytes = sizeof(request.local);
	uint8_t control[256];
	socklen_t control_bytes = sizeof(control);
	const int on = 1;

	if (getpeername(fd, (struct sockaddr *)&request.peer, &peer_bytes) < 0 ||
	    getsockname(fd, (struct sockaddr *)&request.local, &local_bytes) < 0)
		return -errno;
	/* The kernel remembers through which interface the connection came. */
	if (setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on)) == 0 &&
	    getsockopt(fd, IPPROTO_IP, IP_PKTOPTIONS, control, &control_bytes) == 0) {
		struct msghdr header = {.msg_control = control, .msg_controllen = control_bytes};

		for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
			struct in_pktinfo info;

			if (c->cmsg_level != IPPROTO_IP || c->cmsg_type != IP_PKTINFO)
				continue;
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			request.ifindex = info.ipi_ifindex;
		}
	}
	*ret_request = request;
	return 0;
}

static void refuse_path(struct evhttp_request *req, int r)
{
	switch (r) {
	case -EACCES: send_text(req, 403, "no path may have .. in it"); break;
	case -EINVAL: send_text(req, 400, "no such name is served"); break;
	default: send_text(req, 404, "no such file"); break;
	}
}

/* Takes the answer. */
static void open_and_send(struct answer *answer)
{
	struct http *http = answer->http;
	struct evhttp_request *req = answer->req;
	struct blob *blob;
	int r = http->ops->open(http->arg, &answer->request, &blob);

	if (r == 0) {
		send_blob(answer, blob);
		blob_unref(blob);
		return;
	}
	if (r == -ENOENT) {
		send_text(req, 404, "no such file");
		tell(answer, SERVE_MISSING, "");
	} else if (r == -EACCES) {
		send_text(req, 403, "not for this client");
		tell(answer, SERVE_MISSING, "not for this client");
	} else {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Retry-After", "1");
		send_text(req, 503, "not ready yet");
	}
	free(answer);
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct http *http = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	enum evhttp_cmd_type command = evhttp_request_get_command(req);
	struct answer *answer;
	int r;

	client_give(http, req, http->config.idle_ms_max);
	if (command != EVHTTP_REQ_GET && command != EVHTTP_REQ_HEAD) {
		evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "GET, HEAD");
		send_text(req, 405, "GET and HEAD are served");
		return;
	}
	answer = calloc(1, sizeof(*answer));
	if (!answer || identify(req, &answer->request) < 0) {
		evhttp_send_error(req, 500, NULL);
		free(answer);
		return;
	}
	if (!netif_listed(fd_of(req), answer->request.ifindex, http->config.interfaces,
			  http->config.interface_count)) {
		send_text(req, 403, "not served through this interface");
		free(answer);
		return;
	}
	r = path_clean_url(path ? path : "", answer->path);
	if (r < 0) {
		refuse_path(req, r);
		free(answer);
		return;
	}
	answer->http = http;
	answer->req = req;
	answer->request.path = answer->path;
	answer->started_ms = clock_ms();
	open_and_send(answer);
}

/* --- the server --- */

static int serve(struct http *http, struct event_base *base)
{
	const struct http_config *config = &http->config;
	struct sockaddr_in local = {.sin_family = AF_INET,
				    .sin_port = htons(config->port),
				    .sin_addr = config->address};
	const struct timeval idle = {.tv_sec = config->idle_ms_max / 1000,
				     .tv_usec = config->idle_ms_max % 1000 * 1000};
	socklen_t bytes = sizeof(local);

	http->evhttp = evhttp_new(base);
	http->sweep = evtimer_new(base, on_sweep, http);
	if (!http->evhttp || !http->sweep)
		return -ENOMEM;
	evhttp_set_timeout_tv(http->evhttp, &idle);
	evhttp_set_max_body_size(http->evhttp, BODY_BYTES_MAX);
	evhttp_set_max_headers_size(http->evhttp, LIMIT_BOOT_HTTP_HEADER_BYTES);
	evhttp_set_allowed_methods(http->evhttp, UINT16_MAX); /* so that we say 405 */
	evhttp_set_gencb(http->evhttp, on_request, http);
	evhttp_set_bevcb(http->evhttp, on_client, http);
	errno = 0;
	http->listener = evconnlistener_new_bind(
		base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE,
		BACKLOG, (const struct sockaddr *)&local, sizeof(local));
	if (!http->listener)
		return errno ? -errno : -ENOMEM;
	if (!evhttp_bind_listener(http->evhttp, http->listener)) {
		evconnlistener_free(TAKE_PTR(http->listener));
		return -ENOMEM;
	}
	evconnlistener_set_error_cb(http->listener, on_accept_error);
	(void)getsockname(evconnlistener_get_fd(http->listener), (struct sockaddr *)&local, &bytes);
	http->port = ntohs(local.sin_port);
	return 0;
}

int http_new(struct event_base *base, const struct http_config *config, const struct serve_ops *ops,
	     void *arg, struct http **ret_http)
{
	struct http *http = calloc(1, sizeof(*http));
	struct http_config *own;
	int r;

	if (!http)
		return -ENOMEM;
	http->ops = ops;
	http->arg = arg;
	list_append(&servers, &http->node);
	list_init(&http->clients);
	http->config = *config;
	own = &http->config;
	own->interface_count = 0;
	r = netif_names_copy(config->interfaces, config->interface_count, &http->interfaces);
	if (r == 0) {
		own->interfaces = (const char *const *)http->interfaces;
		own->interface_count = config->interface_count;
		if (!own->clients_max)
			own->clients_max = LIMIT_BOOT_HTTP_CLIENTS;
		if (!own->clients_per_peer_max)
			own->clients_per_peer_max = LIMIT_BOOT_HTTP_CLIENTS_PER_PEER;
		if (!own->idle_ms_max)
			own->idle_ms_max = LIMIT_BOOT_HTTP_IDLE_MS;
		if (!own->answer_ms_max)
			own->answer_ms_max = LIMIT_BOOT_HTTP_ANSWER_MS;
		r = serve(http, base);
	}
	if (r < 0) {
		http_free(http);
		return r;
	}
	*ret_http = http;
	return 0;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	http->ending = true;
	list_remove(&http->node);
	if (http->sweep)
		event_free(http->sweep);
	if (http->evhttp)
		evhttp_free(http->evhttp); /* and the listener */
	while (!list_empty(&http->clients))
		client_free(http, LIST_FIRST(&http->clients, struct client, node));
	netif_names_free(http->interfaces, http->config.interface_count);
	free(http);
}

uint16_t http_port(const struct http *http)
{
	return http->port;
}

unsigned http_client_count(const struct http *http)
{
	return http->client_count;
}
