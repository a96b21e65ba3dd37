/*
 * A node's settings as lunroot-init reads them (docs/lunroot-init.8): lines of KEY=VALUE. They hold
 * secrets: wipe them with explicit_bzero. Any thread.
 */
#ifndef LUNROOT_BASE_NODE_CONF_H
#define LUNROOT_BASE_NODE_CONF_H

#include <stdbool.h>
#include <stddef.h>

#define NODE_CONF_BYTES 4096

/* Zeroed at first. */
struct node_conf {
	char text[NODE_CONF_BYTES];
	size_t used;
	bool bad; /* a value had a line's end in it, or there was no room: what is here is no
		     settings */
};

/* Nothing for an empty value. */
void node_conf_put(struct node_conf *conf, const char *key, const char *value);

#endif
