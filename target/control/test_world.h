/*
 * A control to talk to, for this room's tests: a state directory on tmpfs, a fake iSCSI side, calls
 * as a client makes them.
 */
#ifndef LUNROOT_CONTROL_TEST_WORLD_H
#define LUNROOT_CONTROL_TEST_WORLD_H

#include "control/control_internal.h"

struct world {
	char dir[64], state[96], run[96];
	struct mailbox mailbox;
	struct event_base *base;
	struct server *server;
	struct control *control;
	struct store_error err;
	int64_t trash_s; /* 0: what is removed is gone */
};

extern struct world w;

/* For cmocka: all of it new, all of it gone. */
int world_setup(void **state);
int world_teardown(void **state);
int world_open(void);
void world_close(void);
/* As after a restart of the daemon. */
void world_reopen(void);
/* The same, with the catalogue gone meanwhile. */
void world_lose_catalogue(void);
void mailbox_wait(void);
/* Up to `ms`, whether something came or not. */
void mailbox_wait_ms(int ms);

/* --- calls --- */

struct answer {
	struct api_request request;
	int status;
	json_t *body;
	void *data; /* a copy; ours */
	size_t data_bytes;
	bool dropped;
	/* The client takes its data later: call it then. */
	bool holds;
	void (*taken)(void *arg);
	void *taken_arg;
};

void on_reply(struct api_request *request, int status, json_t *body);
void on_reply_data(struct api_request *request, const void *data, size_t bytes,
		   void (*taken)(void *arg), void *arg);
void on_drop(struct api_request *request);
/* Begins a call; it may be answered already. */
void call_begin(struct answer *a, enum api_method method, const char *path, const char *query,
		const char *body);
/* The body stays valid until the next call. */
json_t *call(enum api_method method, const char *path, const char *query, const char *body,
	     int status);
const char *text_at(json_t *body, const char *key);
void error_is(json_t *body, const char *code, const char *part);
/* Starts a job and waits for its end. */
json_t *job_at(const char *where, const char *body);
json_t *job(const char *body);      /* on images */
json_t *job_done(const char *body); /* its image */
void job_fails(const char *body, const char *code, const char *part);
const char *import_body(const char *name, const char *file, const char *more);

/* An image "base" of 8 MiB, and a node over it. */
void make_base(void);
void clone_node(const char *name);
void log_somebody_in(const char *name);

unsigned files_in(const char *sub);
/* In the world's directory. */
void shell(const char *command);
/* On the closed world's catalogue. */
void sql(const char *text);

#endif
