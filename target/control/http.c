/*
 * evhttp on a unix socket: bytes to requests, answers to bytes. It knows nothing of what they
 * mean. A request may be answered later; libevent keeps it for us even if its client has gone.
 */
#include "control/control_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "base/cleanup.h"
#include "base/log.h"

#define CLIENT_TIMEOUT_S  30
#define HEADERS_BYTES_MAX 16384
#define BACKLOG           64
#define SWEEP_MS          20
/* Taken from an answer at a time; libevent's own 16 KiB cost four times the turns of the loop. */
#define WRITE_BYTES (256 << 10)

struct http {
	struct control *control;
	struct evhttp *evhttp;
	struct evconnlistener *listener; /* evhttp's */
	char path[LIMIT_PATH_BYTES];
	struct event *sweep;
	struct bufferevent *clients[LIMIT_CONTROL_CLIENTS + BACKLOG];
	unsigned client_count;
	struct list requests; /* unanswered */
};

struct http_request {
	struct api_request api;
	struct list node;
	struct evhttp_request *req;
};

/* --- answers --- */

static void send_json(struct evhttp_request *req, int status, json_t *body)
{
	struct evbuffer *out = evbuffer_new();
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);

	json_decref(body);
	if (!text || !out || evbuffer_add(out, text, strlen(text)) < 0 ||
	    evbuffer_add(out, "\n", 1) < 0) {
		free(text);
		if (out)
			evbuffer_free(out);
		evhttp_send_error(req, 500, NULL);
		return;
	}
	evhttp_add_header(headers, "Content-Type", "application/json");
	evhttp_add_header(headers, "Connection", "close");
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_send_reply(req, status, NULL, out); /* adds Content-Length */
	evbuffer_free(out);
	explicit_bzero(text, strlen(text)); /* it may hold secrets */
	free(text);
}

static void request_reply(struct api_request *api, int status, json_t *body)
{
	struct http_request *r = CONTAINER_OF(api, struct http_request, api);

	list_remove(&r->node);
	send_json(r->req, status, body);
	free(r);
}

struct taken {
	void (*taken)(void *arg);
	void *arg;
};

static void data_sent(const void *data, size_t bytes, void *arg)
{
	struct taken taken = *(struct taken *)arg;

	(void)data;
	(void)bytes;
	free(arg);
	taken.taken(taken.arg);
}

/* The client may ask for more on the same connection: a disk is read in many pieces. */
static void request_reply_data(struct api_request *api, const void *data, size_t bytes,
			       void (*taken)(void *arg), void *arg)
{
	struct http_request *r = CONTAINER_OF(api, struct http_request, api);
	struct evkeyvalq *headers = evhttp_request_get_output_headers(r->req);
	struct evbuffer *out = evbuffer_new();
	struct taken *t = malloc(sizeof(*t));

	list_remove(&r->node);
	if (t)
		*t = (struct taken){taken, arg};
	if (!out || !t || evbuffer_add_reference(out, data, bytes, data_sent, t) < 0) {
		free(t);
		if (out)
			evbuffer_free(out);
		evhttp_send_error(r->req, 500, NULL);
		free(r);
		taken(arg);
		return;
	}
	evhttp_add_header(headers, "Content-Type", "application/octet-stream");
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_send_reply(r->req, 200, NULL, out);
	evbuffer_free(out);
	free(r);
}

/* The control goes away: evhttp_free takes requests whose clients are still there. */
static void request_drop(struct api_request *api)
{
	struct http_request *r = CONTAINER_OF(api, struct http_request, api);

	list_remove(&r->node);
	if (!evhttp_request_get_connection(r->req))
		evhttp_request_free(r->req);
	free(r);
}

/* --- requests --- */

static enum api_method method_of(struct evhttp_request *req)
{
	switch (evhttp_request_get_command(req)) {
	case EVHTTP_REQ_GET: return API_GET;
	case EVHTTP_REQ_POST: return API_POST;
	case EVHTTP_REQ_DELETE: return API_DELETE;
	case EVHTTP_REQ_PUT: return API_PUT;
	default: return API_OTHER_METHOD;
	}
}

static void on_request(struct evhttp_request *req, void *arg)
{
	struct http *http = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	struct evbuffer *in = evhttp_request_get_input_buffer(req);
	size_t bytes = evbuffer_get_length(in);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	struct http_request *r = calloc(1, sizeof(*r));
	struct api_error err = {0};
	struct api_call call;

	if (!r) {
		evhttp_send_error(req, 500, NULL);
		return;
	}
	r->api.reply = request_reply;
	r->api.reply_data = request_reply_data;
	r->api.drop = request_drop;
	r->req = req;
	list_append(&http->requests, &r->node);
	if (request_parse(method_of(req), path ? path : "", uri ? evhttp_uri_get_query(uri) : NULL,
			  bytes ? evbuffer_pullup(in, -1) : NULL, bytes, &call, &err) < 0) {
		api_reply_error(&r->api, &err);
		return;
	}
	api_handle(http->control, &call, &r->api);
	request_done(&call);
}

/* --- connections: counted, so that no more than the limit are open --- */

/*
 * libevent tells nobody when a connection ends. So we hold a reference to each one's bufferevent,
 * and see by its callbacks, which go when evhttp lets go of it, that it is ours alone; the client
 * has got its end of file by then, from shutdown.
 */
static void clients_sweep(struct http *http)
{
	bufferevent_data_cb on_read, on_write;
	bufferevent_event_cb on_event;
	void *arg;

	for (unsigned i = 0; i < http->client_count;) {
		bufferevent_getcb(http->clients[i], &on_read, &on_write, &on_event, &arg);
		if (on_read || on_write || on_event) {
			i++;
			continue;
		}
		(void)bufferevent_decref(http->clients[i]);
		http->clients[i] = http->clients[--http->client_count];
	}
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval again = {.tv_usec = SWEEP_MS * 1000};
	struct http *http = arg;

	(void)fd;
	(void)what;
	clients_sweep(http);
	if (http->client_count < LIMIT_CONTROL_CLIENTS)
		(void)evconnlistener_enable(http->listener);
	if (http->client_count > 0)
		(void)evtimer_add(http->sweep, &again);
}

static struct bufferevent *on_client(struct event_base *base, void *arg)
{
	const struct timeval soon = {.tv_usec = SWEEP_MS * 1000};
	struct http *http = arg;
	struct bufferevent *client;

	/* One accept may bring several clients before the listener stops. */
	if (http->client_count == ARRAY_COUNT(http->clients))
		return NULL;
	client = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (!client)
		return NULL;
	(void)bufferevent_set_max_single_write(client, WRITE_BYTES);
	bufferevent_incref(client);
	http->clients[http->client_count++] = client;
	if (http->client_count >= LIMIT_CONTROL_CLIENTS)
		(void)evconnlistener_disable(http->listener);
	if (!evtimer_pending(http->sweep, NULL))
		(void)evtimer_add(http->sweep, &soon);
	return client;
}

/* --- the socket --- */

static int bind_error(const char *path, int r, struct store_error *err)
{
	(void)snprintf(
		err->text, sizeof(err->text),
		"control socket %.300s can't be made: %s; let the daemon's user write to its "
		"directory, or choose another with --socket",
		path, strerror(-r));
	return r;
}

/* Whether somebody answers there. */
static bool socket_is_live(const struct sockaddr_un *address)
{
	int AUTO_CLOSE fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return true;
	/* A full backlog gives EAGAIN: somebody listens. */
	return connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	       errno == EAGAIN;
}

static int socket_open(const char *path, int *ret_fd, struct store_error *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int AUTO_CLOSE fd = -1;
	struct stat st;
	mode_t before;
	int r;

	if (strlen(path) >= sizeof(address.sun_path)) {
		(void)snprintf(
			err->text, sizeof(err->text),
			"control socket %.300s: the path has more than %zu characters; choose "
			"a shorter one with --socket",
			path, sizeof(address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, strlen(path));
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return bind_error(path, -EEXIST, err);
		if (socket_is_live(&address)) {
			(void)snprintf(
				err->text, sizeof(err->text),
				"control socket %.300s is in use by another lunrootd; stop it, "
				"or choose another runtime directory with --run",
				path);
			return -EADDRINUSE;
		}
		if (unlink(path) < 0) /* of a daemon that was killed */
			return bind_error(path, -errno, err);
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return bind_error(path, -errno, err);
	before = umask(0117); /* 0660 from birth; no thread of ours makes files yet */
	r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	(void)umask(before);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0)
		return bind_error(path, r, err);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int serve(struct http *http, int *fd, struct store_error *err)
{
	struct event_base *base = http->control->base;

	http->evhttp = evhttp_new(base);
	http->sweep = evtimer_new(base, on_sweep, http);
	if (!http->evhttp || !http->sweep)
		return bind_error(http->path, -ENOMEM, err);
	evhttp_set_timeout(http->evhttp, CLIENT_TIMEOUT_S);
	/* Twice, so that request_parse can say in JSON what is wrong. */
	evhttp_set_max_body_size(http->evhttp, 2 * LIMIT_CONTROL_BODY_BYTES);
	evhttp_set_max_headers_size(http->evhttp, HEADERS_BYTES_MAX);
	evhttp_set_gencb(http->evhttp, on_request, http);
	evhttp_set_bevcb(http->evhttp, on_client, http);
	http->listener = evconnlistener_new(base, NULL, NULL,
					    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, *fd);
	if (!http->listener)
		return bind_error(http->path, -ENOMEM, err);
	(void)TAKE_FD(*fd);
	if (!evhttp_bind_listener(http->evhttp, http->listener)) {
		evconnlistener_free(TAKE_PTR(http->listener));
		return bind_error(http->path, -ENOMEM, err);
	}
	return 0;
}

int http_new(struct control *control, const char *socket_path, struct http **ret_http,
	     struct store_error *err)
{
	struct http *http = calloc(1, sizeof(*http));
	int AUTO_CLOSE fd = -1;
	int r;

	if (!http)
		return -ENOMEM;
	http->control = control;
	list_init(&http->requests);
	r = socket_open(socket_path, &fd, err);
	if (r == 0) {
		(void)snprintf(http->path, sizeof(http->path), "%s", socket_path);
		r = serve(http, &fd, err);
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
	if (http->path[0])
		(void)unlink(http->path);
	if (http->sweep)
		event_free(http->sweep);
	if (http->evhttp)
		evhttp_free(http->evhttp); /* and the listener */
	for (unsigned i = 0; i < http->client_count; i++)
		(void)bufferevent_decref(http->clients[i]);
	assert(list_empty(&http->requests));
	free(http);
}
