/*
 * Between why_facts.c, which goes through a record once, and the rules of why.c.
 */
#ifndef LUNROOT_LUNCTL_WHY_INTERNAL_H
#define LUNROOT_LUNCTL_WHY_INTERNAL_H

#include "records.h"
#include "why.h"

#define NAME_BYTES 64

struct why_facts {
	const struct why_context *context;
	enum record_stage reached;
	bool old_pi, new_pi; /* up to the 3; 4 and later. Neither: not known */
	char model[NAME_BYTES], address[NAME_BYTES];
	int64_t began_ms, last_ms, silent_ms, took_ms;
	unsigned discovers, offers, asked, sent, missing, lost;
	int64_t login_ms, session_end_ms, waiting_ms, stage_ms; /* of the last; -1: never */
	const char *waiting, *session_end, *refused, *wait, *request;
	int64_t refused_ms, wait_ms, offer_ms;
	/* files */
	char repeated[NAME_BYTES], last_file[NAME_BYTES], lost_file[NAME_BYTES];
	unsigned repeats;
	uint64_t lost_bytes, config_bytes;
	bool bootcode_sent, firmware_sent, firmware_missing, config_sent, kernel_sent,
		kernel_missing, initramfs_sent, only_lost;
	/* Sentences of lunbootd, in the boot or about the network. */
	const char *trouble, *two_macs, *two_boots, *two_dhcp, *no_dhcp, *stp, *relay;
	/* What the rule that fits speaks of. */
	const char *file, *text;
	uint64_t bytes;
	unsigned count;
};

/* Texts of the record are pointed to: it must outlive the facts. */
void why_facts(const json_t *boot, const struct why_context *context, struct why_facts *ret_facts);
/* `part` is in the text, in whatever case. */
bool why_has(const char *text, const char *part);

#endif
