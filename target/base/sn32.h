/*
 * 32-bit serial number arithmetic (RFC 7143, 4.2.2.1; RFC 1982): CmdSN, StatSN, DataSN and
 * R2TSN are compared only here.
 */
#ifndef LUNROOT_BASE_SN32_H
#define LUNROOT_BASE_SN32_H

#include <stdbool.h>
#include <stdint.h>

static inline bool sn32_before(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}

static inline bool sn32_after(uint32_t a, uint32_t b)
{
	return sn32_before(b, a);
}

#endif
