/*
 * A chain of files, commands and a model of them; see store_world.h.
 */
#include "store/store_world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "store/sealed.h"

struct world w;

void die(const char *what, uint64_t block)
{
	if (w.tell_where)
		w.tell_where();
	(void)fprintf(stderr, "block %llu: %s\n", (unsigned long long)block, what);
	exit(1);
}

/* --- hot blocks: at the borders of map pages, of the image, and at the ends of the disk --- */

static uint64_t zone_start(unsigned zone)
{
	static const uint64_t starts[ZONES] = {
		0,
		MAP_PAGE_BLOCKS - ZONE_BLOCKS / 2,
		2 * MAP_PAGE_BLOCKS - ZONE_BLOCKS / 2,
		DISK_BLOCKS - ZONE_BLOCKS,
	};

	return starts[zone];
}

static uint64_t hot_to_disk(uint64_t hot)
{
	return zone_start((unsigned)(hot / ZONE_BLOCKS)) + hot % ZONE_BLOCKS;
}

/* --- contents --- */

static void sector_fill(uint8_t *data, uint64_t number, uint64_t disk_sector)
{
	for (unsigned i = 0; i < STORE_SECTOR_BYTES / 8; i++) {
		uint64_t word = number == 0 ? 0 : i == 0 ? number : number * 31 + disk_sector + i;

		memcpy(data + 8 * i, &word, 8);
	}
}

/* The number a sector holds; dies if it is no whole sector of one write. */
static uint64_t sector_number(const uint8_t *data, uint64_t disk_sector, uint64_t block)
{
	uint8_t expected[STORE_SECTOR_BYTES];
	uint64_t number;

	memcpy(&number, data, 8);
	sector_fill(expected, number, disk_sector);
	if (memcmp(expected, data, sizeof(expected)) != 0)
		die("a sector is a mixture", block);
	return number;
}

static uint64_t image_number(uint64_t disk_sector)
{
	if ((disk_sector + 1) * STORE_SECTOR_BYTES > IMAGE_BYTES)
		return 0;
	return disk_sector / SECTORS % 3 == 0 ? 0 : 1000000007ull + disk_sector;
}

static bool content_equal(const struct content *a, const struct content *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* --- the model --- */

static void history_reset(uint64_t hot, const struct content *content)
{
	struct block_model *b = &w.blocks[hot];

	if (!b->history) {
		b->room = 64;
		b->history = calloc(b->room, sizeof(*b->history));
		if (!b->history)
			abort();
	}
	b->history[0] = *content;
	b->count = 1;
	b->acked = b->durable = 0;
	b->base = 0;
	b->mixed = false;
}

static unsigned history_add(uint64_t hot, const struct content *content)
{
	struct block_model *b = &w.blocks[hot];

	if (b->count == b->room) {
		b->room *= 2;
		b->history = reallocarray(b->history, b->room, sizeof(*b->history));
		if (!b->history)
			abort();
	}
	b->history[b->count] = *content;
	return (unsigned)b->base + b->count++;
}

static void history_durable(uint64_t hot, uint64_t absolute)
{
	struct block_model *b = &w.blocks[hot];

	if (absolute > b->base + b->durable)
		b->durable = (unsigned)(absolute - b->base);
}

/* Forgets what can't come back. Reads under way may still see it, so only when there are none. */
static void history_trim(uint64_t hot)
{
	struct block_model *b = &w.blocks[hot];
	unsigned drop = b->mixed ? 0 : b->durable;

	memmove(b->history, b->history + drop, (b->count - drop) * sizeof(*b->history));
	b->count -= drop;
	b->acked -= drop;
	b->durable -= drop;
	b->base += drop;
}

static void history_acked(uint64_t hot, uint64_t absolute)
{
	struct block_model *b = &w.blocks[hot];

	if (absolute > b->base + b->acked)
		b->acked = (unsigned)(absolute - b->base);
}

static void model_to_image(void)
{
	for (uint64_t hot = 0; hot < BLOCKS; hot++) {
		struct content content;

		for (unsigned i = 0; i < SECTORS; i++)
			content.sectors[i] =
				w.without_image ? 0 : image_number(hot_to_disk(hot) * SECTORS + i);
		history_reset(hot, &content);
	}
}

/* --- files --- */

void must(int r, const struct store_error *err)
{
	if (r < 0)
		die(err->text[0] ? err->text : strerror(-r), 0);
}

static void image_make(void)
{
	uint8_t data[STORE_SECTOR_BYTES];
	struct store_image_info info;
	struct store_error err = {""};
	int fd;

	(void)snprintf(w.image, sizeof(w.image), "%s/image", w.dir);
	fd = open(w.image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)IMAGE_BYTES) < 0)
		die("can't make the image", 0);
	for (uint64_t hot = 0; hot < BLOCKS; hot++) {
		for (unsigned i = 0; i < SECTORS; i++) {
			uint64_t sector = hot_to_disk(hot) * SECTORS + i;

			if (image_number(sector) == 0)
				continue;
			sector_fill(data, image_number(sector), sector);
			if (pwrite(fd, data, sizeof(data), (off_t)(sector * sizeof(data))) < 0)
				die("can't fill the image", 0);
		}
	}
	close(fd);
	store_uuid_generate(&w.image_uuid);
	must(store_image_seal(w.image, &w.image_uuid, "test", NULL, NULL, &info, &err), &err);
}

int layer_try(struct store_error *err)
{
	struct store_layer_info info = {.size_bytes = DISK_BLOCKS * STORE_BLOCK_BYTES};
	unsigned i = w.layer_count;
	char path[sizeof(w.layers[0])];
	int r;

	store_uuid_generate(&info.uuid);
	if (i > 0) {
		info.parent_kind = STORE_PARENT_LAYER;
		info.parent_uuid = w.layer_uuids[i - 1];
		info.parent_size_bytes = DISK_BLOCKS * STORE_BLOCK_BYTES;
	} else if (!w.without_image) {
		info.parent_kind = STORE_PARENT_IMAGE;
		info.parent_uuid = w.image_uuid;
		info.parent_size_bytes = IMAGE_BYTES;
	}
	w.layer_uuids[i] = info.uuid;
	(void)snprintf(path, sizeof(path), "%s/layer%u", w.dir, w.layer_number);
	memcpy(w.layers[i], path, sizeof(path));
	r = store_layer_create(w.layers[i], &info, err);
	if (r < 0)
		return r;
	w.layer_count++;
	w.layer_number++;
	return 0;
}

void layer_add(void)
{
	struct store_error err = {""};

	must(layer_try(&err), &err);
}

static struct store_chain chain_of(unsigned layer_count)
{
	struct store_chain chain = {.image_path = w.without_image ? NULL : w.image,
				    .image_uuid = w.image_uuid};

	chain.layer_count = layer_count;
	for (unsigned i = 0; i < layer_count; i++)
		chain.layer_paths[i] = w.layers[i];
	return chain;
}

void merge_choose(void)
{
	w.merge.first = (unsigned)sim_below(w.layer_count - 1);
	w.merge.with_image = w.merge.first == 0 && !w.without_image && sim_below(2);
	memcpy(w.merge.path, w.dir, sizeof(w.dir));
	(void)snprintf(w.merge.path + strlen(w.dir), sizeof(w.merge.path) - sizeof(w.dir),
		       "/layer%u", w.layer_number++);
}

int merge_try(struct store_error *err)
{
	struct store_chain chain = chain_of(w.layer_count - 1);
	store_uuid_t uuid;

	store_uuid_generate(&uuid);
	return store_merge(&chain, w.merge.first, w.merge.with_image, &uuid, w.merge.path, NULL,
			   err);
}

void merge_take(void)
{
	unsigned first = w.merge.first, top = w.layer_count - 1;

	memcpy(w.layers[first], w.merge.path, sizeof(w.layers[0]));
	/* What is made over it names the layer that it stands for. */
	w.layer_uuids[first] = w.layer_uuids[top - 1];
	memmove(w.layers[first + 1], w.layers[top], sizeof(w.layers[0]));
	w.layer_uuids[first + 1] = w.layer_uuids[top];
	w.layer_count = first + 2;
	w.without_image |= w.merge.with_image;
}

int chain_open(bool read_only, struct store_error *err)
{
	struct store_chain chain = chain_of(w.layer_count);
	int r;

	chain.read_only = read_only;
	chain.scratch = w.scratch;
	chain.run_dir = w.write_through ? NULL : w.run_dir;
	r = store_open(&chain, &w.disk, err);
	return r < 0 ? r : store_attach(w.disk, sim_ring());
}

void disk_open(void)
{
	struct store_error err = {""};

	must(chain_open(false, &err), &err);
	if (w.disk->volatile_cache == w.write_through)
		die("the cache is not told as it is", 0);
}

void disk_open_to_read(void)
{
	struct store_error err = {""};

	must(chain_open(true, &err), &err);
}

void layers_remove(void)
{
	char path[sizeof(w.layers[0])];

	for (unsigned i = 0; i <= w.layer_number; i++) {
		(void)snprintf(path, sizeof(path), "%s/layer%u", w.dir, i);
		(void)unlink(path);
	}
	for (unsigned i = 0; i < CHAIN_MAX; i++)
		store_live_map_remove(w.run_dir, &w.layer_uuids[i]);
	w.layer_count = w.layer_number = 0;
}

/* --- commands --- */

bool busy(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++) {
		if (w.commands[i].busy)
			return true;
	}
	return false;
}

void quiesce(void)
{
	sim_set_no_space(0);
	sim_run(busy, NULL);
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		history_trim(hot);
}

static void each_block_made(struct command *c, void (*mark)(uint64_t hot, uint64_t absolute))
{
	for (uint64_t i = 0; i < c->count; i++)
		mark(c->first + i, c->entry[i]);
}

/* Its blocks may be either way, and later writes lie over either. */
static void write_gave_up(const struct command *c)
{
	for (uint64_t i = 0; i < c->count; i++) {
		struct block_model *b = &w.blocks[c->first + i];
		uint64_t before = c->entry[i] - b->base - 1;

		if (!b->mixed || b->mixed_from > before)
			b->mixed_from = (unsigned)before;
		b->mixed = true;
	}
}

static bool forgiven(const struct command *c, int res)
{
	return w.forgives ? w.forgives(c, res) : res == -ENOSPC;
}

static void write_done(struct store_io *io, int res)
{
	struct command *c = CONTAINER_OF(io, struct command, io);

	c->busy = false;
	if (res != 0) {
		if (!forgiven(c, res))
			die("a write failed", hot_to_disk(c->first));
		write_gave_up(c);
		return;
	}
	if (c->after_failure)
		die("a write after a failed sync says that all is well", 0);
	each_block_made(c, history_acked);
	if ((io->fua && !w.scratch) || w.write_through)
		each_block_made(c, history_durable);
}

static void flush_done(struct store_io *io, int res)
{
	struct command *c = CONTAINER_OF(io, struct command, io);

	c->busy = false;
	if (res != 0) {
		if (!forgiven(c, res))
			die("a flush failed", 0);
		return;
	}
	if (c->after_failure)
		die("a flush after a failed sync says that all is well", 0);
	for (uint64_t hot = 0; hot < BLOCKS && !w.scratch; hot++)
		history_durable(hot, c->acked_at_submit[hot]);
}

/* The oldest content that a block may show, if without failed writes it were `low`. */
static unsigned oldest(const struct block_model *b, unsigned low)
{
	return b->mixed && b->mixed_from < low ? b->mixed_from : low;
}

static bool sector_is_known(const struct block_model *b, unsigned sector, uint64_t number,
			    unsigned low)
{
	for (unsigned i = oldest(b, low); i < b->count; i++) {
		if (b->history[i].sectors[sector] == number)
			return true;
	}
	return false;
}

/* A sector that was read must be one of those its block's history holds from `low` on. */
static void sector_check(uint64_t hot, unsigned sector, uint64_t number, unsigned low)
{
	const struct block_model *b = &w.blocks[hot];

	if (sector_is_known(b, sector, number, low))
		return;
	(void)fprintf(stderr, "sector %u holds %llu, known from the durable one on:", sector,
		      (unsigned long long)number);
	for (unsigned i = 0; i < b->count; i++)
		(void)fprintf(stderr, "%s %llu",
			      i == low        ? " |"
			      : i == b->acked ? " a"
					      : "",
			      (unsigned long long)b->history[i].sectors[sector]);
	(void)fprintf(stderr, "\n");
	die("a read saw what was never there, or something older than acknowledged",
	    hot_to_disk(hot));
}

static void read_done(struct store_io *io, int res)
{
	struct command *c = CONTAINER_OF(io, struct command, io);
	uint64_t first = hot_to_disk(c->first) * SECTORS;

	c->busy = false;
	c->res = res;
	if (res != 0) {
		if (!forgiven(c, res))
			die("a read failed", hot_to_disk(c->first));
		return;
	}
	for (uint64_t i = 0; i < c->sector_count; i++) {
		uint64_t sector = c->sector_first + i, hot = c->first + (sector - first) / SECTORS;
		uint64_t low = c->entry[hot - c->first];

		sector_check(
			hot, (unsigned)(sector % SECTORS),
			sector_number(c->data + i * STORE_SECTOR_BYTES, sector, hot_to_disk(hot)),
			(unsigned)(low - w.blocks[hot].base));
	}
}

struct command *command_new(void)
{
	struct store_stats stats;

	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++) {
		struct command *c = &w.commands[i];

		if (!c->busy) {
			c->io = (struct store_io){.fua = false};
			w.disk->ops->stats(w.disk, &stats);
			c->after_failure = stats.failed;
			c->sector_count = 0;
			c->busy = true;
			return c;
		}
	}
	return NULL;
}

/* A range of sectors within one zone, whole blocks half of the time. */
static void choose_range(struct command *c)
{
	uint64_t zone = sim_below(ZONES), begin, count, zone_sectors = ZONE_BLOCKS * SECTORS;

	begin = sim_below(zone_sectors);
	count = 1 + sim_below(COMMAND_SECTORS);
	if (sim_below(2)) {
		begin = begin / SECTORS * SECTORS;
		count = (count + SECTORS - 1) / SECTORS * SECTORS;
	}
	if (count > zone_sectors - begin)
		count = zone_sectors - begin;
	c->sector_first = zone_start((unsigned)zone) * SECTORS + begin;
	c->sector_count = count;
	c->first = zone * ZONE_BLOCKS + begin / SECTORS;
	c->count = (begin + count - 1) / SECTORS - begin / SECTORS + 1;
	c->io.offset_bytes = c->sector_first * STORE_SECTOR_BYTES;
	c->io.length_bytes = count * STORE_SECTOR_BYTES;
	c->io.data = c->data;
}

void submit_read(struct command *c)
{
	choose_range(c);
	/* It must not see anything older than what is acknowledged now. */
	for (uint64_t i = 0; i < c->count; i++)
		c->entry[i] = (unsigned)w.blocks[c->first + i].base + w.blocks[c->first + i].acked;
	c->io.op = STORE_READ;
	c->io.done = read_done;
	w.reads++;
	store_submit(w.disk, &c->io);
}

void submit_change(struct command *c, bool discard)
{
	uint64_t number = discard ? 0 : ++w.write_number;

	choose_range(c);
	for (uint64_t i = 0; i < c->count; i++) {
		uint64_t hot = c->first + i;
		struct content content = w.blocks[hot].history[w.blocks[hot].count - 1];

		for (unsigned s = 0; s < SECTORS; s++) {
			uint64_t sector = hot_to_disk(hot) * SECTORS + s;

			if (sector >= c->sector_first && sector < c->sector_first + c->sector_count)
				content.sectors[s] = number;
		}
		c->entry[i] = history_add(hot, &content);
	}
	for (uint64_t i = 0; i < c->sector_count; i++)
		sector_fill(c->data + i * STORE_SECTOR_BYTES, number, c->sector_first + i);
	c->io.op = discard ? STORE_DISCARD : STORE_WRITE;
	c->io.fua = sim_below(w.fua_of) == 0;
	c->io.done = write_done;
	if (discard)
		w.discards++;
	else
		w.writes++;
	store_submit(w.disk, &c->io);
}

void submit_flush(struct command *c)
{
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		c->acked_at_submit[hot] = w.blocks[hot].base + w.blocks[hot].acked;
	c->io.op = STORE_FLUSH;
	c->io.done = flush_done;
	w.flushes++;
	store_submit(w.disk, &c->io);
}

/* --- the whole disk --- */

void act(void)
{
	uint64_t dice = sim_below(100);
	struct command *c = dice < 60 ? command_new() : NULL;

	if (dice >= 95)
		quiesce();
	else if (!c)
		(void)sim_step();
	else if (dice < 8)
		submit_read(c);
	else if (dice < 38)
		submit_change(c, false);
	else if (dice < 48)
		submit_change(c, true);
	else
		submit_flush(c);
}

static void zone_read(unsigned zone, uint8_t *data)
{
	static struct command c;

	c = (struct command){.busy = true};
	c.first = zone * ZONE_BLOCKS;
	c.io.op = STORE_READ;
	c.io.offset_bytes = zone_start(zone) * STORE_BLOCK_BYTES;
	c.io.length_bytes = ZONE_BLOCKS * STORE_BLOCK_BYTES;
	c.io.data = data;
	c.io.done = read_done; /* with no sectors to check */
	do {
		c.busy = true;
		store_submit(w.disk, &c.io);
		while (c.busy && sim_step())
			;
	} while (c.res != 0);
}

static bool block_is_known(const struct block_model *b, const struct content *content, unsigned low)
{
	for (unsigned i = low; i < b->count; i++) {
		if (content_equal(&b->history[i], content))
			return true;
	}
	for (unsigned s = 0; s < SECTORS; s++) {
		if (!b->mixed || !sector_is_known(b, s, content->sectors[s], low))
			return false;
	}
	return true;
}

static void block_verify(uint64_t hot, const uint8_t *data, bool from_acked)
{
	struct block_model *b = &w.blocks[hot];
	struct content content;

	for (unsigned s = 0; s < SECTORS; s++)
		content.sectors[s] =
			sector_number(data + (size_t)s * STORE_SECTOR_BYTES,
				      hot_to_disk(hot) * SECTORS + s, hot_to_disk(hot));
	if (!block_is_known(b, &content, from_acked ? b->acked : b->durable))
		die(from_acked ? "an acknowledged write is gone"
			       : "a flushed write is gone, or a block is a third thing",
		    hot_to_disk(hot));
	/* What is there now may still fall back to what is durable: keep it all. */
	if (from_acked) {
		history_add(hot, &content);
		b->acked = b->count - 1;
	} else {
		history_reset(hot, &content);
	}
}

void verify_all(bool from_acked)
{
	static uint8_t data[ZONE_BLOCKS * STORE_BLOCK_BYTES];

	for (unsigned zone = 0; zone < ZONES; zone++) {
		zone_read(zone, data);
		for (unsigned i = 0; i < ZONE_BLOCKS; i++)
			block_verify(zone * ZONE_BLOCKS + i, data + (size_t)i * STORE_BLOCK_BYTES,
				     from_acked);
	}
}

void model_all_durable(void)
{
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		history_durable(hot, w.blocks[hot].base + w.blocks[hot].acked);
}

static void detach_closed(void *arg, int res)
{
	*(int *)arg = res;
}

static bool detaching(void *arg)
{
	return *(int *)arg > 0;
}

int detach_now(void)
{
	int res = 1;

	quiesce();
	w.disk->ops->detach(w.disk, detach_closed, &res);
	sim_run(detaching, &res);
	w.disk->ops->free(w.disk);
	w.disk = NULL;
	return res;
}

void detach(void)
{
	if (detach_now() != 0)
		die("detaching failed", 0);
	/* Flushed: what is acknowledged is durable now. */
	model_all_durable();
}

void process_end(void)
{
	sim_arm(false);
	sim_kill();
	sim_process_ends();
	sealed_maps_forget();
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++)
		w.commands[i].busy = false;
	w.disk = NULL;
}

/* --- the world --- */

/* No two boots have the same. */
static void boot_id_write(void)
{
	static uint64_t boots;
	char text[37];
	int AUTO_CLOSE fd = open(w.boot_id, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	(void)snprintf(text, sizeof(text), "%036llu", (unsigned long long)++boots);
	if (fd < 0 || pwrite(fd, text, 36, 0) != 36)
		die("no boot id", 0);
}

void power_loss(enum sim_loss loss)
{
	/* Now and then the live maps stay, of a boot that is over. */
	bool live_stays = sim_below(4) == 0;

	sim_set_loss(loss);
	sim_power_loss(TORN_END);
	for (unsigned i = 0; i < w.layer_count && !live_stays; i++)
		store_live_map_remove(w.run_dir, &w.layer_uuids[i]);
	boot_id_write();
}

static void clean_up(void)
{
	char command[256];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", w.dir);
	if (w.dir[0] && system(command) != 0)
		(void)fprintf(stderr, "%s stays\n", w.dir);
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		free(w.blocks[hot].history);
}

/* Everyday runs repeat their seeds, long ones look for what nobody has seen. */
static uint64_t seed_first(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return by_mode(1, 1, (uint64_t)now.tv_sec * 1000);
}

void world_init(const char *program, int argc, char **argv, void (*tell_where)(void))
{
	log_init(program, getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	w.seed = argument(argc, argv, "--seed", seed_first());
	w.tell_where = tell_where;
	(void)snprintf(w.dir, sizeof(w.dir), "/dev/shm/%s.XXXXXX", program);
	if (!mkdtemp(w.dir))
		die("no folder on /dev/shm", 0);
	(void)atexit(clean_up);
	(void)snprintf(w.run_dir, sizeof(w.run_dir), "%s/run", w.dir);
	(void)snprintf(w.boot_id, sizeof(w.boot_id), "%s/boot_id", w.dir);
	if (mkdir(w.run_dir, 0700) < 0)
		die("no runtime folder", 0);
	sim_init(1);
	boot_id_write();
	sim_set_folders(w.dir, w.run_dir, w.boot_id);
	w.fua_of = 20;
	image_make();
	model_to_image();
}

void world_each_seed(int argc, char **argv, uint64_t seeds_otherwise, void (*run)(void))
{
	uint64_t seeds = argument(argc, argv, "--seeds", seeds_otherwise);

	(void)printf("seeds %llu and on\n", (unsigned long long)w.seed);
	(void)fflush(stdout);
	for (; seeds > 0; seeds--, w.seed++)
		run();
}

void world_clone(void)
{
	bool armed = sim_is_armed();

	sim_arm(false);
	layers_remove();
	sim_forget();
	sim_arm(armed);
	w.without_image = false;
	model_to_image();
}

/* --- arguments --- */

uint64_t argument(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return strtoull(argv[i + 1], NULL, 10);
	}
	return otherwise;
}

uint64_t by_mode(uint64_t quick, uint64_t full, uint64_t thorough)
{
	const char *mode = getenv("LUNROOT_CHECK");

	if (mode && strcmp(mode, "long") == 0)
		return thorough;
	if (mode && strcmp(mode, "least") == 0) /* an emulated processor */
		return quick / 10 + 1;
	return mode && strcmp(mode, "full") == 0 ? full : quick;
}
