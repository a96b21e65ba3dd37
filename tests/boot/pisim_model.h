/*
 * What is known of each model's firmware: how its DHCP looks, which files it asks for in which
 * order, how patient it is, and which bugs it has. Every line is somebody's observation; the
 * comments name the public thread (fw#N: raspberrypi/firmware, ee#N: raspberrypi/rpi-eeprom, doc:
 * raspberrypi.com's network boot pages). Where observers differ, the milder reading is the default
 * and the harder one a switch in struct rules.
 */
#ifndef PISIM_MODEL_H
#define PISIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum model_id { MODEL_3B, MODEL_3B_PLUS, MODEL_3B_SD, MODEL_4, MODEL_5, MODEL_COUNT };

/* Who is running. The mask ROM, bootcode.bin with the start.elf it loads, or the EEPROM's
 * bootloader with the start4.elf it loads. */
enum level { LEVEL_ROM, LEVEL_BOOTCODE, LEVEL_EEPROM };

enum act {
	ACT_DHCP,      /* an exchange of its own, then ARP for the server */
	ACT_PREFIX,    /* is there PREFIX/name? If so, all later names have the prefix */
	ACT_PREFIX_OR, /* the same, if the one before was not there */
	ACT_GET,
	ACT_PROBE,  /* opened and ended early */
	ACT_CONFIG, /* config.txt, and what it says */
	ACT_CONFIG_PROBE,
	ACT_CMDLINE,
	ACT_CMDLINE_PROBE,
	ACT_INITRAMFS,
	ACT_TREE, /* device tree */
	ACT_TREE_PROBE,
	ACT_OVERLAYS,
	ACT_KERNEL_TRY,   /* is there a kernel of this name? (config.txt names none) */
	ACT_KERNEL_PROBE, /* is there the one that config.txt names? */
	ACT_KERNEL,
	ACT_END,
};

enum need {
	NEED_NOTHING, /* there or not, whole or not: the boot goes on the same */
	NEED_WHOLE,   /* may be absent by the server's own word, but half of it is a wrong boot */
	NEED_IT,      /* without it nothing boots */
};

struct step {
	enum act act;
	enum level level;
	enum need need;
	const char *name;
};

struct model {
	const char *name, *text;
	enum level first;
	bool rom_bugs; /* the 3B's ROM; mended in the 3B+ */
	bool constant_guid;
	uint8_t oui[3];
	uint8_t fourcc_digit; /* "RPi4", "RPi5" */
	uint32_t revision;
	const char *tree;
	const struct step *steps;
};
extern const struct model models[MODEL_COUNT];
/* MODEL_COUNT: no such model. */
enum model_id model_by_name(const char *name);

/* One Pi's identity, made of model and index: the same on every run, so that a server can be told.
 */
struct identity {
	enum model_id model;
	unsigned index;
	uint32_t serial;
	uint8_t mac[6];
};
struct identity identity_make(enum model_id model, unsigned index);

/* Timing and bugs; rules_default() has the mild reading of everything. */
struct rules {
	/* fw#934: an address offer and a boot offer "within 2 seconds" lock the 3B's ROM into a
	 * loop; fw#862: with 1 s between them it is stable. A lock costs the DISCOVER it happened
	 * at, or (lock_for_good) the boot. */
	unsigned lock_percent, lock_below_ms;
	bool lock_for_good;
	/* fw#764, #862, #894: a received packet stays in the 3B's NIC until another arrives;
	 * "roughly one time in 3" (fw#764). fw#1124 may be the same thing in bootcode.bin:
	 * sit_bootcode. */
	unsigned sit_percent;
	bool sit_bootcode;
	/* doc: the 3B does not answer ARP once a transfer has begun. The ROM's only, or
	 * bootcode.bin's too. */
	bool deaf_bootcode;
	bool need_padding; /* fw#941: the ROM wants "Raspberry Pi Boot   "; fw#1362 has one that
			      doesn't */
	bool xid_only;  /* fw#1067, #1303: an offer with the right xid is taken, whoever it was for
			 */
	bool need_oack; /* fw#1913: start.elf takes files for missing behind a server without OACK
			 */
	/* Each Pi as if it were the only one: others' DISCOVERs and answers to them push nothing
	 * out of its NIC. For counting boots of single Pis many at a time. */
	bool alone;
	bool black_screen; /* ee#687: a file's timeout was the end on a Pi 5 until 2025 */
	unsigned discovers_rom, discovers_bootcode, discover_every_ms;
	unsigned rom_patience_ms, bootcode_patience_ms;
	unsigned dhcp_timeout_ms, dhcp_resend_ms, file_timeout_ms, rrq_every_ms;
	/* Requests without an answer until bootcode.bin takes the file for missing: the milder
	 * reading, since nobody has figures. If it asks only once (1), a lost request is beyond any
	 * server's help, and with nine files that count a wire that loses 1, 5 or 10 % lets at most
	 * 91, 63 or 39 % of the boots through. */
	unsigned bootcode_asks;
	unsigned arp_every_ms, arp_tries, restart_ms;
	unsigned blksize;
};
struct rules rules_default(void);

/* Option 55 and the GUID of a stage. */
const uint8_t *model_asked_for(enum level level, size_t *ret_count);
void model_guid(const struct identity *who, enum level level, uint8_t guid[static 17]);

#endif
