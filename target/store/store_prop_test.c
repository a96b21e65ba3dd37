/*
 * Random commands against a simple model, with every kind of death.
 *
 * The model keeps, for each block that the test touches, all contents it may have: the last one
 * that is certain to survive a power loss, and each later one in the order of submission (the
 * store serves overlapping writes in that order). Completions and flushes move two marks in that
 * history. After a process death a block must be at the last acknowledged content or later; after
 * a power loss at the last flushed or later, and always exactly one of them, never a mixture.
 *
 * usage: store_prop_test [--ops N] [--seed S]
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
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

/* A sector's content: the number of the write that made it, 0 for zeros. */
struct content {
	uint64_t sectors[SECTORS];
};

struct block_model {
	struct content *history;
	unsigned count, room;
	unsigned durable; /* index of the one that is certain to survive a power loss */
	unsigned acked;   /* index of the last acknowledged one */
};

struct command {
	struct store_io io;
	bool busy;
	uint64_t first, count;           /* hot blocks it touches */
	unsigned entry[COMMAND_SECTORS]; /* its place in each block's history, as an absolute number
					  */
	uint64_t number;
	uint64_t sector_first, sector_count;
	uint8_t data[COMMAND_SECTORS * STORE_SECTOR_BYTES];
	uint64_t *acked_at_submit; /* flushes */
};

static struct {
	char dir[64], run_dir[80];
	char image[128], layers[CHAIN_MAX][128];
	unsigned layer_count, layer_number;
	store_uuid_t image_uuid, layer_uuids[CHAIN_MAX];
	struct store_disk *disk;
	bool write_through;
	struct block_model blocks[BLOCKS];
	uint64_t base[BLOCKS]; /* absolute number of history[0] */
	struct command commands[IN_FLIGHT_MAX];
	uint64_t write_number, seed, op;
	uint64_t kills, losses, snapshots, clones, reads, writes, discards, flushes;
} t;

static void die(const char *what, uint64_t block)
{
	(void)fprintf(stderr, "seed %llu, operation %llu, block %llu: %s\n",
		      (unsigned long long)t.seed, (unsigned long long)t.op,
		      (unsigned long long)block, what);
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
	struct block_model *b = &t.blocks[hot];

	if (!b->history) {
		b->room = 8;
		b->history = calloc(b->room, sizeof(*b->history));
	}
	b->history[0] = *content;
	b->count = 1;
	b->acked = b->durable = 0;
	t.base[hot] = 0;
}

static unsigned history_add(uint64_t hot, const struct content *content)
{
	struct block_model *b = &t.blocks[hot];

	if (b->count == b->room) {
		b->room *= 2;
		b->history = reallocarray(b->history, b->room, sizeof(*b->history));
		if (!b->history)
			abort();
	}
	b->history[b->count] = *content;
	return (unsigned)t.base[hot] + b->count++;
}

static void history_durable(uint64_t hot, uint64_t absolute)
{
	struct block_model *b = &t.blocks[hot];

	if (absolute > t.base[hot] + b->durable)
		b->durable = (unsigned)(absolute - t.base[hot]);
}

/* Forgets what can't come back. Reads under way may still see it, so only when there are none. */
static void history_trim(uint64_t hot)
{
	struct block_model *b = &t.blocks[hot];
	unsigned drop = b->durable;

	memmove(b->history, b->history + drop, (b->count - drop) * sizeof(*b->history));
	b->count -= drop;
	b->acked -= drop;
	b->durable = 0;
	t.base[hot] += drop;
}

static void history_acked(uint64_t hot, uint64_t absolute)
{
	struct block_model *b = &t.blocks[hot];

	if (absolute > t.base[hot] + b->acked)
		b->acked = (unsigned)(absolute - t.base[hot]);
}

static void model_to_image(void)
{
	for (uint64_t hot = 0; hot < BLOCKS; hot++) {
		struct content content;

		for (unsigned i = 0; i < SECTORS; i++)
			content.sectors[i] = image_number(hot_to_disk(hot) * SECTORS + i);
		history_reset(hot, &content);
	}
}

/* --- files --- */

static void must(int r, const struct store_error *err)
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

	(void)snprintf(t.image, sizeof(t.image), "%s/image", t.dir);
	fd = open(t.image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
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
	store_uuid_generate(&t.image_uuid);
	must(store_image_seal(t.image, &t.image_uuid, "test", NULL, NULL, &info, &err), &err);
}

static void layer_add(void)
{
	struct store_layer_info info = {.size_bytes = DISK_BLOCKS * STORE_BLOCK_BYTES};
	struct store_error err = {""};
	unsigned i = t.layer_count++;
	char path[sizeof(t.layers[0])];

	store_uuid_generate(&info.uuid);
	t.layer_uuids[i] = info.uuid;
	info.parent_kind = i == 0 ? STORE_PARENT_IMAGE : STORE_PARENT_LAYER;
	info.parent_uuid = i == 0 ? t.image_uuid : t.layer_uuids[i - 1];
	info.parent_size_bytes = i == 0 ? IMAGE_BYTES : DISK_BLOCKS * STORE_BLOCK_BYTES;
	(void)snprintf(path, sizeof(path), "%s/layer%u", t.dir, t.layer_number++);
	memcpy(t.layers[i], path, sizeof(path));
	must(store_layer_create(t.layers[i], &info, &err), &err);
}

static void disk_open(void)
{
	struct store_chain chain = {.image_path = t.image, .image_uuid = t.image_uuid};
	struct store_error err = {""};

	chain.layer_count = t.layer_count;
	for (unsigned i = 0; i < t.layer_count; i++)
		chain.layer_paths[i] = t.layers[i];
	chain.run_dir = t.write_through ? NULL : t.run_dir;
	must(store_open(&chain, &t.disk, &err), &err);
	must(store_attach(t.disk, sim_ring()), &err);
	if (t.disk->volatile_cache == t.write_through)
		die("the cache is not told as it is", 0);
}

static void layers_remove(void)
{
	for (unsigned i = 0; i < t.layer_count; i++) {
		(void)unlink(t.layers[i]);
		store_live_map_remove(t.run_dir, &t.layer_uuids[i]);
	}
	t.layer_count = 0;
}

/* --- commands --- */

static bool busy(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++) {
		if (t.commands[i].busy)
			return true;
	}
	return false;
}

static void quiesce(void)
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

static void write_done(struct store_io *io, int res)
{
	struct command *c = CONTAINER_OF(io, struct command, io);

	c->busy = false;
	if (res == -ENOSPC)
		return; /* its blocks may be either way: the history keeps both */
	if (res != 0)
		die("a write failed", hot_to_disk(c->first));
	each_block_made(c, history_acked);
	if (io->fua || t.write_through)
		each_block_made(c, history_durable);
}

static void flush_done(struct store_io *io, int res)
{
	struct command *c = CONTAINER_OF(io, struct command, io);

	c->busy = false;
	if (res == -ENOSPC) {
		free(c->acked_at_submit);
		c->acked_at_submit = NULL;
		return;
	}
	if (res != 0)
		die("a flush failed", 0);
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		history_durable(hot, c->acked_at_submit[hot]);
	free(c->acked_at_submit);
	c->acked_at_submit = NULL;
}

/* A sector that was read must be one of those its block's history holds from `low` on. */
static void sector_check(uint64_t hot, unsigned sector, uint64_t number, unsigned low,
			 unsigned high)
{
	const struct block_model *b = &t.blocks[hot];

	for (unsigned i = low; i < high; i++) {
		if (b->history[i].sectors[sector] == number)
			return;
	}
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
	if (res != 0)
		die("a read failed", hot_to_disk(c->first));
	for (uint64_t i = 0; i < c->sector_count; i++) {
		uint64_t sector = c->sector_first + i, hot = c->first + (sector - first) / SECTORS;
		uint64_t low = c->entry[hot - c->first];

		sector_check(
			hot, (unsigned)(sector % SECTORS),
			sector_number(c->data + i * STORE_SECTOR_BYTES, sector, hot_to_disk(hot)),
			(unsigned)(low - t.base[hot]), t.blocks[hot].count);
	}
}

static struct command *command_new(void)
{
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++) {
		struct command *c = &t.commands[i];

		if (!c->busy) {
			memset(c, 0, sizeof(*c));
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

static void submit_read(struct command *c)
{
	choose_range(c);
	/* It must not see anything older than what is acknowledged now. */
	for (uint64_t i = 0; i < c->count; i++)
		c->entry[i] = (unsigned)t.base[c->first + i] + t.blocks[c->first + i].acked;
	c->io.op = STORE_READ;
	c->io.done = read_done;
	t.reads++;
	store_submit(t.disk, &c->io);
}

static void submit_change(struct command *c, bool discard)
{
	uint64_t number = discard ? 0 : ++t.write_number;

	choose_range(c);
	for (uint64_t i = 0; i < c->count; i++) {
		uint64_t hot = c->first + i;
		struct content content = t.blocks[hot].history[t.blocks[hot].count - 1];

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
	c->io.fua = sim_below(20) == 0;
	c->io.done = write_done;
	if (discard)
		t.discards++;
	else
		t.writes++;
	store_submit(t.disk, &c->io);
}

static void submit_flush(struct command *c)
{
	c->acked_at_submit = calloc(BLOCKS, sizeof(*c->acked_at_submit));
	if (!c->acked_at_submit)
		abort();
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		c->acked_at_submit[hot] = t.base[hot] + t.blocks[hot].acked;
	c->io.op = STORE_FLUSH;
	c->io.done = flush_done;
	t.flushes++;
	store_submit(t.disk, &c->io);
}

/* --- deaths and changes of the chain --- */

/* Reads every hot block; `from_acked`: nothing acknowledged may be missing. */
static void verify_all(bool from_acked)
{
	static struct command c;

	for (uint64_t hot = 0; hot < BLOCKS; hot++) {
		struct block_model *b = &t.blocks[hot];
		struct content content;
		unsigned i;

		memset(&c, 0, sizeof(c));
		c.first = hot;
		c.io.op = STORE_READ;
		c.io.offset_bytes = hot_to_disk(hot) * STORE_BLOCK_BYTES;
		c.io.length_bytes = STORE_BLOCK_BYTES;
		c.io.data = c.data;
		c.io.done = read_done; /* with no sectors to check */
		store_submit(t.disk, &c.io);
		sim_run(NULL, NULL);
		for (unsigned s = 0; s < SECTORS; s++)
			content.sectors[s] =
				sector_number(c.data + s * STORE_SECTOR_BYTES,
					      hot_to_disk(hot) * SECTORS + s, hot_to_disk(hot));
		for (i = from_acked ? b->acked : b->durable; i < b->count; i++) {
			if (content_equal(&b->history[i], &content))
				break;
		}
		if (i == b->count)
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
}

static void commands_forget(void)
{
	for (unsigned i = 0; i < IN_FLIGHT_MAX; i++) {
		free(t.commands[i].acked_at_submit);
		t.commands[i].acked_at_submit = NULL;
		t.commands[i].busy = false;
	}
}

static void die_and_come_back(bool power)
{
	for (uint64_t steps = sim_below(20); steps > 0 && sim_step(); steps--)
		;
	sim_kill();
	t.disk->ops->free(t.disk);
	commands_forget();
	if (power) {
		/* The maps and the headers may be torn at sectors; data blocks are written whole.
		 */
		sim_power_loss(1u << 20);
		store_live_map_remove(t.run_dir, &t.layer_uuids[t.layer_count - 1]);
		t.losses++;
	} else {
		t.kills++;
	}
	disk_open();
	verify_all(!power);
}

static void detach_closed(void *arg, int res)
{
	if (res != 0)
		die("detaching failed", 0);
	*(bool *)arg = true;
}

static void detach(void)
{
	bool closed = false;

	quiesce();
	t.disk->ops->detach(t.disk, detach_closed, &closed);
	sim_run(NULL, NULL);
	if (!closed)
		die("detaching does not end", 0);
	t.disk->ops->free(t.disk);
	/* Flushed: what is acknowledged is durable now. */
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		history_durable(hot, t.base[hot] + t.blocks[hot].acked);
}

static void snapshot(void)
{
	struct store_error err = {""};

	detach();
	sim_forget();
	must(store_layer_seal(t.layers[t.layer_count - 1], &err), &err);
	layer_add();
	disk_open();
	t.snapshots++;
}

static void clone_anew(void)
{
	detach();
	sim_forget();
	layers_remove();
	t.write_through = sim_below(6) == 0;
	model_to_image();
	layer_add();
	disk_open();
	t.clones++;
}

static void reopen(void)
{
	detach();
	/* The power may fail right after an orderly end, too. */
	if (sim_below(2))
		sim_power_loss(1u << 20);
	disk_open();
	verify_all(true);
}

static void step(void)
{
	uint64_t dice = sim_below(10000);
	struct command *c;

	if (dice < 6)
		die_and_come_back(true);
	else if (dice < 12)
		die_and_come_back(false);
	else if (dice < 15 && t.layer_count < CHAIN_MAX)
		snapshot();
	else if (dice < 17)
		clone_anew();
	else if (dice < 19)
		reopen();
	else if (dice < 25)
		sim_set_no_space(sim_below(2) ? 300 : 0);
	else if (dice < 60)
		quiesce();
	else if (dice < 4000)
		(void)sim_step();
	else if ((c = command_new()) == NULL)
		(void)sim_step();
	else if (dice < 6000)
		submit_read(c);
	else if (dice < 8800)
		submit_change(c, false);
	else if (dice < 9700)
		submit_change(c, true);
	else
		submit_flush(c);
	if (!busy(NULL))
		return;
	if (!sim_step())
		quiesce();
}

static void run(uint64_t ops)
{
	(void)snprintf(t.dir, sizeof(t.dir), "/dev/shm/store_prop.XXXXXX");
	if (!mkdtemp(t.dir))
		die("no folder on /dev/shm", 0);
	memcpy(t.run_dir, t.dir, sizeof(t.dir));
	strcat(t.run_dir, "/run");
	if (mkdir(t.run_dir, 0700) < 0)
		die("no runtime folder", 0);
	sim_init(t.seed);
	sim_set_no_punch(t.seed % 4 == 0);
	image_make();
	model_to_image();
	layer_add();
	disk_open();
	for (t.op = 0; t.op < ops; t.op++)
		step();
	detach();
	layers_remove();
	sim_done();
}

static void clean_up(void)
{
	char command[256];

	(void)snprintf(command, sizeof(command), "rm -rf '%s'", t.dir);
	if (t.dir[0] && system(command) != 0)
		(void)fprintf(stderr, "%s stays\n", t.dir);
}

static uint64_t argument(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i + 1 < argc; i++) {
		if (strcmp(argv[i], name) == 0)
			return strtoull(argv[i + 1], NULL, 10);
	}
	return otherwise;
}

static uint64_t ops_by_mode(void)
{
	const char *mode = getenv("LUNROOT_CHECK");

	if (mode && strcmp(mode, "long") == 0)
		return 20000000;
	return mode && strcmp(mode, "full") == 0 ? 1500000 : 300000;
}

int main(int argc, char **argv)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	t.seed = argument(argc, argv, "--seed",
			  (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec);
	log_init("store_prop_test", getenv("VERBOSE") ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
	(void)atexit(clean_up);
	(void)printf("seed %llu\n", (unsigned long long)t.seed);
	(void)fflush(stdout);
	run(argument(argc, argv, "--ops", ops_by_mode()));
	(void)printf("%llu reads, %llu writes, %llu discards, %llu flushes, %llu snapshots, %llu "
		     "clones, "
		     "%llu process deaths, %llu power losses: nothing lost\n",
		     (unsigned long long)t.reads, (unsigned long long)t.writes,
		     (unsigned long long)t.discards, (unsigned long long)t.flushes,
		     (unsigned long long)t.snapshots, (unsigned long long)t.clones,
		     (unsigned long long)t.kills, (unsigned long long)t.losses);
	for (uint64_t hot = 0; hot < BLOCKS; hot++)
		free(t.blocks[hot].history);
	return 0;
}
