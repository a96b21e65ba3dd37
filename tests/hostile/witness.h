/*
 * The witness: a well-behaved session through libiscsi that writes, reads back and compares all
 * the time, on a thread of its own, while others misbehave. It must never see an error, a wrong
 * byte or a long stall.
 */
#ifndef LUNROOT_TESTS_WITNESS_H
#define LUNROOT_TESTS_WITNESS_H

#include <stdbool.h>
#include <stdint.h>

struct witness;

struct witness_report {
	uint64_t rounds; /* written, read and compared */
	uint64_t slowest_ms;
	char failure[256]; /* empty: none */
};

/* Logs in and starts; NULL after printing why not. */
struct witness *witness_start(const char *url, unsigned stall_ms_max);
bool witness_failed(struct witness *witness);
/* Logs out, joins the thread, frees. */
void witness_stop(struct witness *witness, struct witness_report *ret_report);

#endif
