/* A node's settings, line by line. */
#include "base/node_conf.h"

#include <stdio.h>
#include <string.h>

void node_conf_put(struct node_conf *conf, const char *key, const char *value)
{
	size_t room = sizeof(conf->text) - conf->used;
	int n;

	if (!value[0])
		return;
	/* One that would be two lines is none of ours. */
	if (strpbrk(value, "\r\n")) {
		conf->bad = true;
		return;
	}
	n = snprintf(conf->text + conf->used, room, "%s=%s\n", key, value);
	if (n < 0 || (size_t)n >= room)
		conf->bad = true;
	else
		conf->used += (size_t)n;
}
