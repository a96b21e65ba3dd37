/*
 * The block map of a sealed layer: loaded once in a process and shared by every disk that stands on
 * that layer. It never changes, so any thread may read it without a lock; the lock of the registry
 * is taken for an instant when a disk is opened and when it is freed.
 */
#ifndef LUNROOT_STORE_SEALED_H
#define LUNROOT_STORE_SEALED_H

#include <stdbool.h>
#include <stdint.h>

struct layer_header;
struct sealed_map;
struct stat;
struct store_error;
struct store_map;

/*
 * The map of the open, locked, sealed layer file; `header` is the one that counts. Given back with
 * sealed_map_unref, before the file is closed. 0 or -errno with a message, also if another opener
 * was told the same before. Blocking; any thread.
 */
int sealed_map_get(int fd, const char *path, const struct layer_header *header,
		   struct sealed_map **ret_map, struct store_error *err);
/* Any thread; never blocks for longer than it takes to give memory back. NULL: nothing. */
void sealed_map_unref(struct sealed_map *map);
/* How many blocks from `block` on, at most `limit`, have the same bit. */
uint64_t sealed_map_run(const struct sealed_map *map, uint64_t block, uint64_t limit,
			bool *ret_owned);
uint64_t sealed_map_owned_count(const struct sealed_map *map);

/*
 * The map of a top whose disk has been closed in order, `fd` being its file: it is there for who
 * opens the layer when it is sealed, as long as it is not given back with sealed_map_unref. Takes
 * what `left` has, but for its counts; NULL: for want of memory it stays. Any thread, never blocks.
 */
struct sealed_map *sealed_map_leave(int fd, struct store_map *left);
/* The file is going to be written to: what has been left of it counts no more. 0 or -errno. */
int sealed_maps_disown(int fd);
/*
 * The file was `before` when its caller alone had it, and the caller has changed nothing of its map
 * since: who had its map then has it now.
 */
void sealed_maps_follow(int fd, const struct stat *before);

/* For tests: how many are loaded, */
unsigned sealed_map_count(void);
/* and what is left of them when the process dies: nothing. */
void sealed_maps_forget(void);

#endif
