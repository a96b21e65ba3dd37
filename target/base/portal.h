/*
 * Portals as text: "ADDR:PORT", "[ADDR6]:PORT". Any thread.
 */
#ifndef LUNROOT_BASE_PORTAL_H
#define LUNROOT_BASE_PORTAL_H

#include <stdbool.h>
#include <string.h>

/* No other machine reaches it. */
static inline bool portal_is_loopback(const char *portal)
{
	return strncmp(portal, "127.", 4) == 0 || strncmp(portal, "[::1]", 5) == 0;
}

#endif
