/*
 * The world of the simulated Pis: who lives at which MAC, which frame is for whom, and when each is
 * switched on.
 */
#include <stdlib.h>
#include <string.h>

#include "pisim.h"

static const uint8_t everybody[6] = {255, 255, 255, 255, 255, 255};

static void sim_out(void *arg, const uint8_t *frame, size_t bytes)
{
	struct sim *sim = arg;

	if (sim->router.on)
		router_frame(sim, frame, bytes);
}

int sim_init(struct sim *sim, unsigned count)
{
	unsigned buckets = 4;

	while (buckets < 2 * count)
		buckets *= 2;
	sim->count = count;
	sim->pis = calloc(count, sizeof(*sim->pis));
	sim->by_mac = calloc(buckets, sizeof(struct pi *));
	sim->by_mac_mask = buckets - 1;
	sim->link.on_in = sim_frame;
	sim->link.on_due = sim_due;
	sim->link.on_out = sim_out;
	sim->link.arg = sim;
	return sim->pis && sim->by_mac ? 0 : -1;
}

void sim_done(struct sim *sim)
{
	for (unsigned i = 0; i < sim->count; i++) {
		file_close(&sim->pis[i]);
		free(sim->pis[i].held);
	}
	free(sim->pis);
	free(sim->by_mac);
	link_close(&sim->link);
}

static struct pi **bucket(struct sim *sim, const uint8_t mac[6])
{
	unsigned at = (unsigned)(mac[3] << 16 | mac[4] << 8 | mac[5]) * 2654435761u >> 8;

	for (at &= sim->by_mac_mask;
	     sim->by_mac[at] && memcmp(sim->by_mac[at]->who.mac, mac, 6) != 0;)
		at = (at + 1) & sim->by_mac_mask;
	return &sim->by_mac[at];
}

struct pi *sim_by_mac(struct sim *sim, const uint8_t mac[6])
{
	return *bucket(sim, mac);
}

void sim_place(struct sim *sim, unsigned index, struct identity who, uint64_t on_us)
{
	struct pi *pi = &sim->pis[index];

	*pi = (struct pi){.sim = sim, .who = who, .model = &models[who.model], .on_us = on_us};
	pi->step = pi->model->steps;
	*bucket(sim, who.mac) = pi;
	pi_set_times(pi, on_us, 0);
}

static void to_all(struct sim *sim, const uint8_t *frame, size_t bytes, const struct pi *but)
{
	for (unsigned i = 0; i < sim->count; i++)
		if (&sim->pis[i] != but)
			pi_frame(&sim->pis[i], frame, bytes);
}

static void release_all(struct sim *sim, const struct pi *but)
{
	for (unsigned i = 0; sim->held_count && i < sim->count; i++)
		if (&sim->pis[i] != but)
			pi_release(&sim->pis[i]);
}

/* A broadcast reaches all, but means something to one or a few: of a DHCP reply the client it names
 * (or everybody that goes by xid), of an ARP request the owner of the address. */
static void broadcast(struct sim *sim, const uint8_t *frame, size_t bytes)
{
	struct seen seen = packet_parse(frame, bytes);
	struct dhcp_seen dhcp;
	struct pi *pi = NULL;

	if (seen.kind == SEEN_UDP && seen.to_port == PORT_DHCP_CLIENT &&
	    packet_parse_dhcp(seen.payload, seen.bytes, &dhcp)) {
		if (sim->rules.xid_only) {
			to_all(sim, frame, bytes, NULL);
			return;
		}
		pi = sim_by_mac(sim, dhcp.mac);
	}
	if (!pi || !sim->rules.alone)
		release_all(sim, pi);
	if (pi) {
		pi_frame(pi, frame, bytes);
	} else if (seen.kind == SEEN_ARP) {
		for (unsigned i = 0; i < sim->count; i++)
			if (sim->pis[i].address == seen.target_ip)
				pi_frame(&sim->pis[i], frame, bytes);
	}
}

void sim_frame(void *arg, const uint8_t *frame, size_t bytes)
{
	struct sim *sim = arg;
	struct pi *pi;

	if (bytes < 14)
		return;
	if (!memcmp(frame, everybody, 6)) {
		broadcast(sim, frame, bytes);
		return;
	}
	pi = sim_by_mac(sim, frame);
	if (pi)
		pi_frame(pi, frame, bytes);
}

void sim_due(void *arg, void *who, uint64_t at_us)
{
	struct sim *sim = arg;
	struct pi *pi = who;

	if (who == sim) {
		sim->nudged = false;
		release_all(sim, NULL);
	} else if (at_us == pi->queued_us) {
		pi_due(pi);
	}
}
