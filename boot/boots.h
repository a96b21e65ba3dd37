/*
 * The boots under way: one object from a Pi's first DISCOVER until it runs, and what is remembered
 * of it for `lunctl boots` and `lunctl why`. Found by MAC, by address and by token. Event loop.
 *
 *     PREPARING --> WAITING --> OFFERED --> LOADING --> LOADED --> RUNNING
 *         |        admission     offer      first file   settings    lunroot-init
 *         v                                              handed out   has reported
 *      FAILED  (its files can't be made)
 *
 * STRANGER is the whole life of a Pi that belongs to no node.
 */
#ifndef LUNROOT_BOOT_BOOTS_H
#define LUNROOT_BOOT_BOOTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/list.h"
#include "model.h"
#include "nodes.h"
#include "report.h"

#define BOOT_ID_BYTES 17 /* 16 hexadecimal digits */

enum boot_stage {
	BOOT_STRANGER,
	BOOT_PREPARING,
	BOOT_WAITING,
	BOOT_OFFERED,
	BOOT_LOADING,
	BOOT_LOADED,
	BOOT_RUNNING,
	BOOT_FAILED,
};

struct view;
struct boots;

struct boot {
	struct list entry; /* of all boots, the least recently made first */
	struct list by_mac, by_address;
	char id[BOOT_ID_BYTES], token[REPORT_TOKEN_BYTES];
	struct pi_identity who;
	char node[NODE_NAME_BYTES]; /* "" for a stranger */
	bool has_node_mac;          /* the node has a MAC: its settings are for that one */
	uint8_t node_mac[6];
	struct in_addr address; /* 0.0.0.0: not known */
	int ifindex;
	enum boot_stage stage;
	uint64_t started_ms, active_ms; /* monotonic; active: its Pi has said something */
	bool without_dhcp;              /* a request for a file began it */
	bool in_rom;                    /* its boot ROM asks, which takes bootcode.bin alone */
	uint64_t asked_ms;              /* when its present boot loader did first */
	struct view *view;              /* its files, ours; NULL before WAITING */
	unsigned settings_sent;         /* how often the file with the secrets went out whole; */
	uint64_t settings_ms;           /* when it last did */
	bool refused;                   /* somebody else asked for it, and the log has been told */
	unsigned console_lines;
	uint32_t report_sequence; /* the newest; 0 none */
	bool preparing;           /* a worker has it: it can't be forgotten */
	char trouble[512];        /* FAILED: why */

	/* The timeline: what lunrootd has not been told yet. */
	bool head_changed, posting;
	json_t *events;
};

struct boots *boots_new(void); /* NULL: no memory */
void boots_free(struct boots *boots);

/*
 * A new boot, which becomes the one that its MAC stands for; an earlier one is still found by its
 * token. When there are LIMIT_BOOTS, the longest silent one is forgotten. NULL: no memory, or no
 * random numbers.
 */
struct boot *boots_add(struct boots *boots, const struct pi_identity *who, enum boot_stage stage,
		       uint64_t now_ms);
struct boot *boots_find_mac(const struct boots *boots, const uint8_t mac[6]);
struct boot *boots_find_address(const struct boots *boots, struct in_addr address);
struct boot *boots_find_token(const struct boots *boots, const char *token);
struct boot *boots_find_id(const struct boots *boots, const char *id);
/* An address belongs to one boot: from another it is taken away. */
void boot_set_address(struct boots *boots, struct boot *boot, struct in_addr address, int ifindex);
/* Its bootcode.bin asks now, and may have to wait for its files. */
void boot_leaves_rom(struct boot *boot, uint64_t now_ms);
/* Those whose Pi loads its files, or is about to: what admission counts. Boot ROMs and those silent
 * for long do not count. */
unsigned boots_in_flight(const struct boots *boots, uint64_t now_ms);
/* The one that waits longest for admission, or NULL. */
struct boot *boots_next_waiting(const struct boots *boots);
/* Those that are over and told: to be called now and then. */
void boots_forget_old(struct boots *boots, uint64_t now_ms);
/* One after the other, beginning with NULL; the one given may not have been forgotten. */
struct boot *boots_next(const struct boots *boots, const struct boot *after);

/* --- the timeline --- */

/* `kind` as in docs/api.md; `text` may be NULL. */
void boot_note(struct boot *boot, const char *kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* What became of a file. */
void boot_note_file(struct boot *boot, const char *kind, const char *file, uint64_t bytes,
		    unsigned retries, uint64_t took_ms, const char *text);
/* What lunrootd keeps of it; new references. */
json_t *boot_head(const struct boot *boot);
/* Takes what was noted, to be posted; NULL: nothing. boot_untake gives it back when that failed. */
json_t *boot_take_events(struct boot *boot);
void boot_untake_events(struct boot *boot, json_t *events);

#endif
