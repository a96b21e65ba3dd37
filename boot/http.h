/*
 * The HTTP server for boot loaders that prefer it to TFTP (EDK2, iPXE, the Pis' EEPROMs): GET and
 * HEAD of the same files through the same serve_ops, with single ranges. Bytes go from the blobs to
 * the socket without a copy. Event-loop thread only; the process must ignore SIGPIPE.
 */
#ifndef LUNROOT_BOOT_HTTP_H
#define LUNROOT_BOOT_HTTP_H

#include <stdint.h>

#include <netinet/in.h>

#include "boot/serve.h"

struct event_base;
struct http;

struct http_config {
	uint16_t port;          /* 0: any, see http_port */
	struct in_addr address; /* to listen on; INADDR_ANY: each one the host has */
	/* Requests that came through others get 403; none: all are served. They may come and go. */
	const char *const *interfaces;
	unsigned interface_count;
	unsigned clients_max;          /* connections; 0: LIMIT_BOOT_HTTP_CLIENTS */
	unsigned clients_per_peer_max; /* 0: LIMIT_BOOT_HTTP_CLIENTS_PER_PEER */
	unsigned idle_ms_max;          /* 0: LIMIT_BOOT_HTTP_IDLE_MS */
	unsigned answer_ms_max;        /* 0: LIMIT_BOOT_HTTP_ANSWER_MS */
};

/* 0, or -errno: of socket and bind (-EADDRINUSE, -EACCES), -ENOMEM. The config is copied. */
int http_new(struct event_base *base, const struct http_config *config, const struct serve_ops *ops,
	     void *arg, struct http **ret_http);
/* Closes all connections without a word. Accepts NULL. */
void http_free(struct http *http);

uint16_t http_port(const struct http *http);
unsigned http_client_count(const struct http *http);

#endif
