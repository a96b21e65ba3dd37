/*
 * One simulated Pi and the world they share. Everything runs in one thread; a Pi is woken by frames
 * for it and by the one time it asked for, and does the next thing its firmware would do.
 */
#ifndef PISIM_H
#define PISIM_H

#include <stdio.h>

#include "pisim_link.h"
#include "pisim_model.h"

#define NAME_MAX_BYTES    160 /* prefix and file name in a request */
#define CONFIG_BYTES_MAX  (64 * 1024)
#define OVERLAYS_MAX      16
#define CONFIG_4096_BYTES 4096 /* fw#1012: what a Pi 4 reads of config.txt */

struct sim;

/* What config.txt says, as far as it changes which files are asked for. */
struct config {
	char kernel[64], initramfs[128], cmdline[64], tree[64];
	char overlays[OVERLAYS_MAX][40];
	unsigned overlay_count;
	bool auto_initramfs, arm_64bit, arm_64bit_said;
};
/* Reads the text for one Pi: sections ([pi4], [0x1234abcd], [all]) as the firmware filters them. */
void config_parse(struct config *ret_config, const char *text, size_t bytes,
		  const struct identity *who);

enum result { RESULT_WHOLE, RESULT_THERE /* a probe's */, RESULT_MISSING, RESULT_LOST };

/* One file being asked for. */
struct get {
	char path[NAME_MAX_BYTES];
	bool active, probe, oack;
	uint16_t port, tid, block; /* tid 0: no answer yet */
	unsigned asks;
	unsigned blksize;
	uint64_t bytes, tsize;
	bool has_tsize;
	char *text; /* of config.txt */
	FILE *save;
	/* What it must be: an expected file, or its own first line. */
	const uint8_t *expected;
	uint64_t expected_bytes;
	uint64_t said_bytes, said_hash, hash;
	bool says, wrong;
};

enum stage { STAGE_OFF, STAGE_DHCP, STAGE_REQUEST, STAGE_ARP, STAGE_FILES, STAGE_PAUSE, STAGE_END };

struct pi {
	struct sim *sim;
	struct identity who;
	const struct model *model;
	const struct step *step;
	enum stage stage;
	/* Times: the next thing to do, and when to give this up; 0: none. `queued_us` is what the
	 * link was asked for. */
	uint64_t next_us, limit_us, queued_us, on_us, done_us, asked_us, address_us, boot_us;
	uint32_t xid, address, mask, address_server, tftp;
	uint8_t tftp_mac[6];
	bool has_boot, locked, deaf, prefixed, prefix_tried;
	unsigned discovers, tries, restarts, overlay;
	uint16_t next_port, ip_id;
	struct get get;
	struct config config;
	char kernel[64];
	char flaw[NAME_MAX_BYTES]; /* a file that should have been whole */
	char stuck[NAME_MAX_BYTES + 40];
	bool booted;
	uint8_t *held; /* a frame that sits in the NIC */
	uint16_t held_bytes;
	uint64_t sent, received, retries, file_bytes;
	unsigned files, missing;
};

struct sim {
	struct link link;
	struct rules rules;
	struct pi *pis;
	unsigned count, ended, held_count;
	struct pi **by_mac;
	unsigned by_mac_mask;
	bool nudged;
	const char *expect_dir, *save_dir;
	bool trace;
	struct router {
		bool on;
		uint32_t address; /* the router's; Pis get the following ones */
		unsigned answer_us;
	} router;
};

/* pisim_router.c: the network's DHCP server, within the simulator: sees what the Pis send to the
 * wire and gives each its own address. For crowds that a real one would not survive. */
void router_frame(struct sim *sim, const uint8_t *frame, size_t bytes);

int sim_init(struct sim *sim, unsigned count);
void sim_done(struct sim *sim);
/* Gives the index-th Pi its identity and the time it is switched on. */
void sim_place(struct sim *sim, unsigned index, struct identity who, uint64_t on_us);
struct pi *sim_by_mac(struct sim *sim, const uint8_t mac[6]);
/* The link's two callbacks; arg is the sim. */
void sim_frame(void *arg, const uint8_t *frame, size_t bytes);
void sim_due(void *arg, void *who, uint64_t at_us);

/* pisim_pi.c: power on, a frame for it, its time has come. */
void pi_on(struct pi *pi);
void pi_frame(struct pi *pi, const uint8_t *frame, size_t bytes);
void pi_due(struct pi *pi);
void pi_release(struct pi *pi); /* what sits in its NIC comes out */
/* Used between pisim_pi.c and pisim_file.c. */
void pi_set_times(struct pi *pi, uint64_t next_us, uint64_t limit_us);
void pi_send(struct pi *pi, const uint8_t to_mac[6], uint32_t to_ip, uint16_t from_port,
	     uint16_t to_port, const void *payload, size_t bytes);
void pi_trace(const struct pi *pi, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pi_fail(struct pi *pi, const char *format, ...) __attribute__((format(printf, 2, 3)));
void pi_step(struct pi *pi);                           /* begins what pi->step says */
void pi_file_ended(struct pi *pi, enum result result); /* then goes on to the next step */

/* kernel=, cmdline=, tree=, initramfs= and overlay= lines: what it would start. */
void pi_tell_files(const struct pi *pi, FILE *to);

/* pisim_file.c: one file by TFTP. */
void file_begin(struct pi *pi, const char *name, bool probe);
void file_packet(struct pi *pi, const struct seen *seen);
void file_due(struct pi *pi);
void file_close(struct pi *pi);
/* Writes the first line of a test file over data's beginning: its length, and the hash of the rest.
 */
enum { FILE_LINE_BYTES = 48 };
unsigned file_line(uint8_t *data, size_t bytes);

/* pisim_report.c */
void report_text(const struct sim *sim, FILE *to, double seconds, uint64_t lag_us);
void report_json(const struct sim *sim, FILE *to, double seconds, uint64_t lag_us);
void report_pis(const struct sim *sim, FILE *to);

#endif
