/*
 * What many disks over one chain of sealed layers cost in memory, without a daemon around them:
 * makes LAYERS sealed layers of GIB GiB, opens CLONES disks with an empty top each over them, and
 * prints what each step took. Judges nothing.
 *
 * usage: chain_clones FOLDER GIB LAYERS CLONES [touched|scattered]
 *   touched (default)  a layer owns one block in every 64 MiB
 *   scattered          every other block by chance: the most that a map can cost
 * FOLDER is on tmpfs or a file system with holes; live maps are made there too.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "chain_map.h"

static struct {
	uint64_t block_count;
	unsigned layer_count, clone_count;
	bool scattered;
	char layers[LIMIT_CHAIN_LAYERS][192];
	store_uuid_t uuids[LIMIT_CHAIN_LAYERS];
	struct store_error err;
} t;

static const char *folder;

static void must(int r)
{
	if (r >= 0)
		return;
	(void)fprintf(stderr, "%s\n", t.err.text[0] ? t.err.text : strerror(-r));
	exit(1);
}

/* KiB that this process really has: private memory, and its part of what is shared. */
static long pss_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	char line[256];
	long kib = -1;

	while (f && kib < 0 && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Pss:", 4) == 0)
			kib = strtol(line + 4, NULL, 10);
	}
	if (f)
		(void)fclose(f);
	return kib;
}

static void map_write(const char *path, const store_uuid_t *uuid)
{
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);

	must(fd < 0 ? -errno : 0);
	must(chain_map_write(fd, uuid->b, t.block_count, t.scattered));
}

/* `below`: how many layers it stands on. */
static void layer_make(const char *path, store_uuid_t *ret_uuid, unsigned below)
{
	struct store_layer_info info = {.size_bytes = t.block_count * STORE_BLOCK_BYTES};

	store_uuid_generate(&info.uuid);
	if (below > 0) {
		info.parent_kind = STORE_PARENT_LAYER;
		info.parent_uuid = t.uuids[below - 1];
		info.parent_size_bytes = info.size_bytes;
	}
	must(store_layer_create(path, &info, &t.err));
	*ret_uuid = info.uuid;
}

static void chain_make(void)
{
	for (unsigned i = 0; i < t.layer_count; i++) {
		(void)snprintf(t.layers[i], sizeof(t.layers[i]), "%s/sealed%u", folder, i);
		layer_make(t.layers[i], &t.uuids[i], i);
		map_write(t.layers[i], &t.uuids[i]);
		must(store_layer_seal(t.layers[i], "", &t.err));
	}
}

static void clone_open(unsigned number)
{
	struct store_chain chain = {.layer_count = t.layer_count + 1, .run_dir = folder};
	struct store_disk *disk; /* stays open until the process ends */
	char path[192];
	store_uuid_t uuid;

	(void)snprintf(path, sizeof(path), "%s/top%u", folder, number);
	layer_make(path, &uuid, t.layer_count);
	for (unsigned i = 0; i < t.layer_count; i++)
		chain.layer_paths[i] = t.layers[i];
	chain.layer_paths[t.layer_count] = path;
	must(store_open(&chain, &disk, &t.err));
}

static void tell(const char *what, long kib, unsigned count)
{
	double bits = (double)kib * 1024 * 8 / (double)t.block_count;

	(void)printf("%s: %ld KiB, %.3f bits a block of 4 KiB", what, kib, bits);
	if (count > 1)
		(void)printf("; each of %u: %ld bytes, %.4f bits a block", count,
			     kib * 1024 / count, bits / count);
	(void)printf("\n");
}

int main(int argc, char **argv)
{
	long before, first;

	if (argc < 5) {
		(void)fprintf(stderr, "usage: chain_clones FOLDER GIB LAYERS CLONES "
				      "[touched|scattered]\n");
		return 2;
	}
	folder = argv[1];
	t.block_count = strtoull(argv[2], NULL, 10) << 18;
	t.layer_count = (unsigned)strtoul(argv[3], NULL, 10);
	t.clone_count = (unsigned)strtoul(argv[4], NULL, 10);
	t.scattered = argc > 5 && strcmp(argv[5], "scattered") == 0;
	if (t.block_count == 0 || t.layer_count == 0 || t.layer_count >= LIMIT_CHAIN_LAYERS ||
	    t.clone_count < 2)
		return 2;
	chain_make();
	before = pss_kib();
	clone_open(0);
	first = pss_kib();
	tell("the first disk", first - before, 1);
	for (unsigned i = 1; i < t.clone_count; i++)
		clone_open(i);
	tell("the others over the same layers", pss_kib() - first, t.clone_count - 1);
	return 0;
}
