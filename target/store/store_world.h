/*
 * A world for the store's random tests: a chain of files, commands under way, and a simple model of
 * what may be read.
 *
 * The model keeps, for each block that the test touches, all contents it may have: the last one
 * that is certain to survive a power loss, and each later one in the order of submission (the
 * store serves overlapping writes in that order). Completions and flushes move two marks in that
 * history. After a process death a block must be at the last acknowledged content or later; after
 * a power loss at the last flushed or later, and always exactly one of them, never a mixture.
 */
#ifndef LUNROOT_STORE_WORLD_H
#define LUNROOT_STORE_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "store/sim.h"
#include "store/store.h"

#define SECTORS         8 /* of a block */
#define ZONES           4
#define ZONE_BLOCKS     24
#define BLOCKS          (ZONES * ZONE_BLOCKS)
#define MAP_PAGE_BLOCKS 16384ull
#define DISK_BLOCKS     (3 * MAP_PAGE_BLOCKS + 100)
#define IMAGE_BYTES     ((2 * MAP_PAGE_BLOCKS + 3) * STORE_BLOCK_BYTES + 1536)
#define IN_FLIGHT_MAX   24
#define CHAIN_MAX       5
#define COMMAND_SECTORS (6 * SECTORS)
/* Maps and headers lie before it and may be torn at sectors; data blocks are written whole. */
#define TORN_END (1u << 20)

/* A sector's content: the number of the write that made it, 0 for zeros. */
struct content {
	uint64_t sectors[SECTORS];
};

struct block_model {
	struct content *history;
	unsigned count, room;
	unsigned durable; /* index of the one that is certain to survive a power loss */
	unsigned acked;   /* index of the last acknowledged one */
	uint64_t base;    /* absolute number of history[0] */
	/* A write failed: each sector for itself is one of those from here on. */
	bool mixed;
	unsigned mixed_from;
};

struct command {
	struct store_io io;
	bool busy;
	int res;
	bool after_failure;    /* the disk had failed when it was made */
	uint64_t first, count; /* hot blocks it touches */
	/* Its place in each block's history, as an absolute number. */
	unsigned entry[COMMAND_SECTORS];
	uint64_t sector_first, sector_count;
	uint8_t data[COMMAND_SECTORS * STORE_SECTOR_BYTES];
	uint64_t acked_at_submit[BLOCKS]; /* flushes */
};

struct world {
	uint64_t seed; /* of this run */
	char dir[64], run_dir[80], boot_id[80], image[128];
	char layers[CHAIN_MAX][128];
	unsigned layer_count, layer_number;
	store_uuid_t image_uuid, layer_uuids[CHAIN_MAX];
	struct store_disk *disk;
	bool without_image, write_through, scratch;
	unsigned fua_of; /* one in so many writes */
	struct block_model blocks[BLOCKS];
	struct command commands[IN_FLIGHT_MAX];
	/* Layers [first, top) and perhaps the image become one. */
	struct {
		unsigned first;
		bool with_image;
		char path[128];
	} merge;
	uint64_t write_number;
	uint64_t reads, writes, discards, flushes;
	/* Whether a command may end so; NULL: only for want of space. */
	bool (*forgives)(const struct command *c, int res);
	/* How to do it again, for the message of a failure. */
	void (*tell_where)(void);
};

extern struct world w;

__attribute__((noreturn)) void die(const char *what, uint64_t block);
void must(int r, const struct store_error *err);

/* What every program begins with: its first seed (--seed), the log, folders on tmpfs, and the
 * image.
 */
void world_init(const char *program, int argc, char **argv, void (*tell_where)(void));
/* run() for each of --seeds seeds. */
void world_each_seed(int argc, char **argv, uint64_t seeds_otherwise, void (*run)(void));
/* No layers: all blocks are the image's. */
void world_clone(void);
/* Makes a layer; it is part of the chain only once it is made. */
int layer_try(struct store_error *err);
void layer_add(void);
/* What to merge of the sealed layers; there are some. */
void merge_choose(void);
int merge_try(struct store_error *err);
/* The merged layer takes its place in the chain. */
void merge_take(void);
void layers_remove(void);
int chain_open(bool read_only, struct store_error *err);
void disk_open(void);
/* For reading only, as who looks into a disk that a dead daemon left. */
void disk_open_to_read(void);
bool busy(void *arg);
/* Ends all commands; gives space. */
void quiesce(void);
/* Ends and frees the disk. */
void detach(void);
int detach_now(void);
/* As the kernel ends it: nothing of the store may be used any more. */
void process_end(void);
/* After process_end: what was not synced falls back; the live maps go. */
void power_loss(enum sim_loss loss);

/* NULL: too many are under way. */
struct command *command_new(void);
void submit_read(struct command *c);
void submit_change(struct command *c, bool discard);
void submit_flush(struct command *c);
/* One of these, or a step of the reactor. */
void act(void);

/* Reads every hot block; `from_acked`: nothing acknowledged may be missing. */
void verify_all(bool from_acked);
/* All that is acknowledged is certain to survive a power loss now. */
void model_all_durable(void);

/* --- arguments --- */

uint64_t argument(int argc, char **argv, const char *name, uint64_t otherwise);
/* By LUNROOT_CHECK in the environment. */
uint64_t by_mode(uint64_t quick, uint64_t full, uint64_t thorough);

#endif
