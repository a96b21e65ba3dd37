/*
 * Boot records in words: times, what a boot came to, its timeline with the files folded. Pure
 * functions over the API's JSON (docs/api.md, "Boots"); what is missing there reads as nothing.
 */
#ifndef LUNROOT_LUNCTL_RECORDS_H
#define LUNROOT_LUNCTL_RECORDS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#define RECORD_WORDS_BYTES 256
#define RECORD_TIME_BYTES  32

/* Milliseconds since 1970 of 2026-11-26T12:00:00.123Z, with or without the fraction; -1: none. */
int64_t record_time_ms(const char *text);
/* "350 ms", "12.3 s", "1:05 min", "2:05 h". */
const char *record_duration(int64_t ms, char buffer[RECORD_TIME_BYTES]);
/* 2026-11-26 12:00:00. */
const char *record_when(const char *text, char buffer[RECORD_TIME_BYTES]);

/* Numbered in the order in which a boot reaches them; 0: nothing, or a word of a newer daemon. */
enum record_stage {
	RECORD_NOTHING,
	RECORD_DISCOVER,
	RECORD_OFFER,
	RECORD_REQUEST,
	RECORD_ASKED,
	RECORD_SENT,
	RECORD_SETTINGS,
	RECORD_START,
	RECORD_NETWORK,
	RECORD_LOGIN,
	RECORD_DISK,
	RECORD_ROOT,
	RECORD_SWITCH,
	RECORD_MULTI_USER,
};
enum record_stage record_stage(const char *name);

/* How far a boot has come, from its head: "was sent 31 files", "root is mounted". */
const char *record_got_to(const json_t *boot, char buffer[RECORD_WORDS_BYTES]);
/* The same as a boot's result, seen at `now_ms`: "up", "under way: ...", "stopped: ...". */
const char *record_result(const json_t *boot, int64_t now_ms, char buffer[RECORD_WORDS_BYTES]);
/* From its first event to the farthest that it reached; -1: it reached nothing. */
int64_t record_took_ms(const json_t *boot);

/* A line for each event, or for each run of events about files. */
void record_print_events(const json_t *boot, bool all, FILE *out);

#endif
