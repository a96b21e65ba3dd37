/*
 * pisim: many Raspberry Pis that boot from the network, in one process on one Ethernet interface.
 *
 *   pisim --interface veth0 --model 3b=20 --model 4=20 --loss 1 --deadline 60
 *   pisim --list --model 3b=20                 who they are: "pi-3b-1 3b SERIAL MAC"
 *   pisim --interface veth0 --model 4 --save DIR    one Pi; its files, and what it would start
 *
 * Exit status: 0 all booted, 1 not all, 2 wrong use, 3 no interface.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "pisim.h"

struct wish {
	unsigned counts[MODEL_COUNT];
	unsigned first, ramp_us, deadline_s;
	uint64_t seed;
	const char *interface, *json;
	bool list, pis, filled;
};

enum {
	OPT_INTERFACE = 256,
	OPT_MODEL,
	OPT_FIRST,
	OPT_RAMP,
	OPT_DEADLINE,
	OPT_SEED,
	OPT_LOSS,
	OPT_DUPLICATE,
	OPT_REORDER,
	OPT_DELAY,
	OPT_JITTER,
	OPT_EXPECT,
	OPT_SAVE,
	OPT_JSON,
	OPT_LIST,
	OPT_FILL,
	OPT_ROUTER,
	OPT_PIS,
	OPT_TRACE,
	OPT_RULE,
	OPT_HELP,
};

static const struct option options[] = {
	{"interface", required_argument, NULL, OPT_INTERFACE},
	{"model", required_argument, NULL, OPT_MODEL},
	{"first", required_argument, NULL, OPT_FIRST},
	{"ramp", required_argument, NULL, OPT_RAMP},
	{"deadline", required_argument, NULL, OPT_DEADLINE},
	{"seed", required_argument, NULL, OPT_SEED},
	{"loss", required_argument, NULL, OPT_LOSS},
	{"duplicate", required_argument, NULL, OPT_DUPLICATE},
	{"reorder", required_argument, NULL, OPT_REORDER},
	{"delay", required_argument, NULL, OPT_DELAY},
	{"jitter", required_argument, NULL, OPT_JITTER},
	{"expect", required_argument, NULL, OPT_EXPECT},
	{"save", required_argument, NULL, OPT_SAVE},
	{"json", required_argument, NULL, OPT_JSON},
	{"list", no_argument, NULL, OPT_LIST},
	{"fill", required_argument, NULL, OPT_FILL},
	{"router", no_argument, NULL, OPT_ROUTER},
	{"pis", no_argument, NULL, OPT_PIS},
	{"trace", no_argument, NULL, OPT_TRACE},
	{"rule", required_argument, NULL, OPT_RULE},
	{"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0},
};

static const char usage_text[] =
	"usage: pisim --interface IF --model MODEL[=COUNT]... [OPTIONS]    models: 3b 3b+ 3b-sd 4 "
	"5\n"
	"  --first N       index of each model's first Pi (1): other Pis, other serial numbers\n"
	"  --ramp MS       between two Pis being switched on (0: all at one instant)\n"
	"  --deadline S    after the last one is switched on (120)\n"
	"  --seed N        of loss, delay and chance (1)\n"
	"  --loss, --duplicate, --reorder PERCENT   in both directions; may have a decimal\n"
	"  --delay MS, --jitter MS                  one way\n"
	"  --expect DIR    what the files must be: DIR/SERIAL/NAME or DIR/NAME\n"
	"  --save DIR      files of the one Pi, and what it would start\n"
	"  --json FILE     the summary as JSON too (-: standard output, instead)\n"
	"  --list          who they would be: NODE MODEL SERIAL MAC; sends nothing\n"
	"  --fill PATH=BYTES   makes a file whose first line tells its length and hash; sends "
	"nothing\n"
	"  --router        addresses come from the simulator itself: 10.77.16.1 and on\n"
	"  --pis           a line for each Pi\n"
	"  --trace         what each does, on standard error\n"
	"  --rule NAME=N   firmware's timing and bugs; N 0 or 1 for yes and no\n";

static int wrong(const char *what, const char *value)
{
	fprintf(stderr, "pisim: %s: %s\n%s", what, value, usage_text);
	return 2;
}

static bool number(const char *text, unsigned *ret_number)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value > 1000000000)
		return false;
	*ret_number = (unsigned)value;
	return true;
}

/* "1.5" (percent) is 15 in a thousand. */
static bool permille(const char *text, unsigned *ret_permille)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || value < 0 || value > 100)
		return false;
	*ret_permille = (unsigned)(value * 10 + 0.5);
	return true;
}

static bool milliseconds(const char *text, unsigned *ret_us)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || value < 0 || value > 100000)
		return false;
	*ret_us = (unsigned)(value * 1000);
	return true;
}

static bool take_model(struct wish *wish, const char *text)
{
	char name[16];
	const char *equals = strchr(text, '=');
	unsigned count = 1;
	enum model_id id;

	snprintf(name, sizeof(name), "%.*s", equals ? (int)(equals - text) : (int)strlen(text),
		 text);
	id = model_by_name(name);
	if (id == MODEL_COUNT || (equals && !number(equals + 1, &count)) || count > 65000)
		return false;
	wish->counts[id] += count;
	return true;
}

static bool take_rule(struct rules *rules, const char *text)
{
	const struct {
		const char *name;
		unsigned *number;
		bool *flag;
	} names[] = {
		{"lock-percent", &rules->lock_percent, NULL},
		{"lock-below-ms", &rules->lock_below_ms, NULL},
		{"lock-for-good", NULL, &rules->lock_for_good},
		{"sit-percent", &rules->sit_percent, NULL},
		{"sit-bootcode", NULL, &rules->sit_bootcode},
		{"deaf-bootcode", NULL, &rules->deaf_bootcode},
		{"need-padding", NULL, &rules->need_padding},
		{"xid-only", NULL, &rules->xid_only},
		{"need-oack", NULL, &rules->need_oack},
		{"alone", NULL, &rules->alone},
		{"black-screen", NULL, &rules->black_screen},
		{"discovers-rom", &rules->discovers_rom, NULL},
		{"discovers-bootcode", &rules->discovers_bootcode, NULL},
		{"discover-every-ms", &rules->discover_every_ms, NULL},
		{"rom-patience-ms", &rules->rom_patience_ms, NULL},
		{"bootcode-patience-ms", &rules->bootcode_patience_ms, NULL},
		{"bootcode-asks", &rules->bootcode_asks, NULL},
		{"dhcp-timeout-ms", &rules->dhcp_timeout_ms, NULL},
		{"dhcp-resend-ms", &rules->dhcp_resend_ms, NULL},
		{"file-timeout-ms", &rules->file_timeout_ms, NULL},
		{"rrq-every-ms", &rules->rrq_every_ms, NULL},
		{"arp-every-ms", &rules->arp_every_ms, NULL},
		{"arp-tries", &rules->arp_tries, NULL},
		{"restart-ms", &rules->restart_ms, NULL},
		{"blksize", &rules->blksize, NULL},
	};
	size_t bytes = strcspn(text, "=");
	unsigned value;

	if (!text[bytes] || !number(text + bytes + 1, &value))
		return false;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strlen(names[i].name) != bytes || strncmp(names[i].name, text, bytes) != 0)
			continue;
		if (names[i].flag)
			*names[i].flag = value != 0;
		else
			*names[i].number = value;
		return true;
	}
	return false;
}

/* PATH=BYTES: a file that file_packet() can check without knowing it. */
static bool fill(const char *text)
{
	const char *equals = strrchr(text, '=');
	struct chance chance;
	unsigned bytes, line;
	char path[1024];
	uint8_t *data;
	bool done;
	FILE *to;

	if (!equals || !number(equals + 1, &bytes) || bytes < FILE_LINE_BYTES)
		return false;
	snprintf(path, sizeof(path), "%.*s", (int)(equals - text), text);
	data = malloc(bytes);
	if (!data)
		return false;
	chance_seed(&chance, bytes);
	for (unsigned i = 0; i < bytes; i++)
		data[i] = (uint8_t)chance_below(&chance, 256);
	line = file_line(data, bytes);
	to = fopen(path, "wb");
	done = to && fwrite(data, 1, bytes, to) == bytes;
	if (to && fclose(to) != 0)
		done = false;
	free(data);
	return done && line == FILE_LINE_BYTES;
}

static bool take_option(int option, const char *value, struct wish *wish, struct sim *sim)
{
	struct trouble *trouble = &sim->link.out;
	unsigned seed;

	switch (option) {
	case OPT_INTERFACE: wish->interface = value; return true;
	case OPT_MODEL: return take_model(wish, value);
	case OPT_FIRST: return number(value, &wish->first);
	case OPT_RAMP: return milliseconds(value, &wish->ramp_us);
	case OPT_DEADLINE: return number(value, &wish->deadline_s);
	case OPT_SEED:
		if (!number(value, &seed))
			return false;
		wish->seed = seed;
		return true;
	case OPT_LOSS: return permille(value, &trouble->loss_permille);
	case OPT_DUPLICATE: return permille(value, &trouble->duplicate_permille);
	case OPT_REORDER: return permille(value, &trouble->reorder_permille);
	case OPT_DELAY: return milliseconds(value, &trouble->delay_us);
	case OPT_JITTER: return milliseconds(value, &trouble->jitter_us);
	case OPT_EXPECT: sim->expect_dir = value; return true;
	case OPT_SAVE: sim->save_dir = value; return true;
	case OPT_JSON: wish->json = value; return true;
	case OPT_LIST: wish->list = true; return true;
	case OPT_ROUTER: sim->router.on = true; return true;
	case OPT_FILL: wish->filled = true; return fill(value);
	case OPT_PIS: wish->pis = true; return true;
	case OPT_TRACE: sim->trace = true; return true;
	case OPT_RULE: return take_rule(&sim->rules, value);
	default: return false;
	}
}

static void list(const struct wish *wish)
{
	for (enum model_id id = 0; id < MODEL_COUNT; id++) {
		for (unsigned i = 0; i < wish->counts[id]; i++) {
			struct identity who = identity_make(id, wish->first + i);
			const uint8_t *mac = who.mac;

			printf("pi-%s-%u %s %08x %02x:%02x:%02x:%02x:%02x:%02x\n",
			       id == MODEL_3B_PLUS ? "3bp" : models[id].name, who.index,
			       models[id].name, who.serial, mac[0], mac[1], mac[2], mac[3], mac[4],
			       mac[5]);
		}
	}
}

/* Models take turns, so that a ramp switches on a mixture. */
static void place_all(struct sim *sim, const struct wish *wish)
{
	unsigned placed = 0, left[MODEL_COUNT];

	memcpy(left, wish->counts, sizeof(left));
	while (placed < sim->count) {
		for (enum model_id id = 0; id < MODEL_COUNT; id++) {
			if (!left[id])
				continue;
			sim_place(sim, placed,
				  identity_make(id, wish->first + wish->counts[id] - left[id]),
				  sim->link.now_us + 1000 + (uint64_t)placed * wish->ramp_us);
			left[id]--;
			placed++;
		}
	}
}

/* For whoever starts the same Pi under an emulator. */
static void tell_start(const struct sim *sim)
{
	const struct pi *pi = &sim->pis[0];
	const uint8_t *mac = pi->who.mac;
	uint32_t ip = pi->address, tftp = pi->tftp;

	printf("address=%u.%u.%u.%u\nserver=%u.%u.%u.%u\n", ip >> 24, ip >> 16 & 255, ip >> 8 & 255,
	       ip & 255, tftp >> 24, tftp >> 16 & 255, tftp >> 8 & 255, tftp & 255);
	printf("mac=%02x:%02x:%02x:%02x:%02x:%02x\nserial=%08x\nprefix=%s\n", mac[0], mac[1],
	       mac[2], mac[3], mac[4], mac[5], pi->who.serial, pi->prefixed ? "yes" : "no");
	pi_tell_files(pi, stdout);
}

static void run(struct sim *sim, const struct wish *wish)
{
	uint64_t lag_us = 0, began_us = sim->link.now_us, end_us;
	double seconds;
	FILE *json = NULL;

	place_all(sim, wish);
	end_us = began_us + (uint64_t)sim->count * wish->ramp_us + 1000000ull * wish->deadline_s;
	while (sim->ended < sim->count && sim->link.now_us < end_us)
		link_turn(&sim->link, end_us, &lag_us);
	seconds = (double)(sim->link.now_us - began_us) / 1e6;
	if (wish->pis)
		report_pis(sim, stdout);
	if (wish->json)
		json = strcmp(wish->json, "-") != 0 ? fopen(wish->json, "w") : stdout;
	if (json)
		report_json(sim, json, seconds, lag_us);
	if (json && json != stdout && fclose(json) != 0)
		perror(wish->json);
	if (json != stdout)
		report_text(sim, stdout, seconds, lag_us);
	if (sim->save_dir)
		tell_start(sim);
}

int main(int argc, char **argv)
{
	struct wish wish = {.first = 1, .deadline_s = 120, .seed = 1};
	struct sim sim = {.rules = rules_default(), .link = {.fd = -1}};
	unsigned count = 0, booted = 0;
	int option, status;

	sim.router = (struct router){.address = 0x0a4d0001, .answer_us = 2000};
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == OPT_HELP) {
			fputs(usage_text, stdout);
			return 0;
		}
		if (option == '?')
			return wrong("wrong option", argv[optind - 1]);
		if (!take_option(option, optarg, &wish, &sim))
			return wrong("wrong value", optarg ? optarg : "");
	}
	if (wish.filled && optind == argc)
		return 0;
	for (enum model_id id = 0; id < MODEL_COUNT; id++)
		count += wish.counts[id];
	if (optind != argc || !count || (!wish.interface && !wish.list) ||
	    (sim.save_dir && count != 1))
		return wrong("wrong use",
			     "an interface, at least one model (and just one Pi with --save)");
	if (wish.list) {
		list(&wish);
		return 0;
	}
	sim.link.out.reorder_us = 3000 + sim.link.out.jitter_us;
	sim.link.in = sim.link.out;
	if (sim_init(&sim, count) < 0)
		return 3;
	status = link_open(&sim.link, wish.interface, wish.seed);
	if (status < 0) {
		fprintf(stderr, "pisim: %s: %s\n", wish.interface, strerror(-status));
		return 3;
	}
	run(&sim, &wish);
	for (unsigned i = 0; i < count; i++)
		booted += sim.pis[i].booted;
	sim_done(&sim);
	return booted == count ? 0 : 1;
}
