/*
 * A bad network in user space: relays TCP connections between a port of its own and another,
 * with delay and jitter, a limited rate, segments of random size, and connections that are reset
 * in the middle. (Kernels without netem have nothing else for this.)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAIRS_MAX       64
#define CHUNKS_MAX      512 /* on their way in one direction */
#define CHUNK_BYTES_MAX 4096

struct chunk {
	uint64_t due_us;
	uint32_t bytes, sent;
	uint8_t data[CHUNK_BYTES_MAX];
};

/* One direction of one connection. */
struct flow {
	int from, to;
	struct chunk *chunks;
	unsigned first, count;
	uint64_t busy_until_us; /* the line's rate */
	bool ended;             /* `from` said end of file */
	bool passed_on;         /* and `to` was told */
};

struct pair {
	bool used;
	uint64_t cut_at_us;
	struct flow flows[2];
};

static struct pair pairs[PAIRS_MAX];
static unsigned delay_us, jitter_us, rate_kib, chunk_max = CHUNK_BYTES_MAX, life_ms;
static uint64_t random_state = 88172645463325252ull;

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint32_t below(uint32_t bound)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return bound ? (uint32_t)(random_state >> 20) % bound : 0;
}

static void close_hard(int fd)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void pair_end(struct pair *pair)
{
	close_hard(pair->flows[0].from);
	close_hard(pair->flows[1].from);
	free(pair->flows[0].chunks);
	free(pair->flows[1].chunks);
	memset(pair, 0, sizeof(*pair));
}

static void pair_begin(int client, const struct sockaddr_in *to)
{
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	struct pair *pair = NULL;

	for (unsigned i = 0; i < PAIRS_MAX && !pair; i++)
		if (!pairs[i].used)
			pair = &pairs[i];
	if (!pair || server < 0 || connect(server, (const struct sockaddr *)to, sizeof(*to)) < 0) {
		close(client);
		if (server >= 0)
			close(server);
		return;
	}
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(client, F_SETFL, O_NONBLOCK);
	fcntl(server, F_SETFL, O_NONBLOCK);
	pair->used = true;
	pair->flows[0] = (struct flow){.from = client, .to = server};
	pair->flows[1] = (struct flow){.from = server, .to = client};
	for (int i = 0; i < 2; i++) {
		pair->flows[i].chunks = calloc(CHUNKS_MAX, sizeof(struct chunk));
		if (!pair->flows[i].chunks)
			abort();
	}
	if (life_ms)
		pair->cut_at_us = now_us() + 1000ull * (life_ms / 2 + below(life_ms));
}

/* Takes one chunk in; false if the connection is broken. */
static bool flow_read(struct flow *flow)
{
	struct chunk *chunk = &flow->chunks[(flow->first + flow->count) % CHUNKS_MAX];
	uint64_t now = now_us(), begin = now > flow->busy_until_us ? now : flow->busy_until_us;
	ssize_t got = recv(flow->from, chunk->data, 1 + below(chunk_max), 0);

	if (got == 0)
		flow->ended = true;
	if (got <= 0)
		return got == 0 || errno == EAGAIN || errno == EINTR;
	chunk->bytes = (uint32_t)got;
	chunk->sent = 0;
	flow->busy_until_us =
		begin + (rate_kib ? (uint64_t)got * 1000000 / (rate_kib * 1024ull) : 0);
	chunk->due_us = flow->busy_until_us + delay_us + below(jitter_us);
	/* TCP keeps the order whatever the jitter. */
	if (flow->count) {
		const struct chunk *last =
			&flow->chunks[(flow->first + flow->count - 1) % CHUNKS_MAX];

		if (chunk->due_us < last->due_us)
			chunk->due_us = last->due_us;
	}
	flow->count++;
	return true;
}

/* Sends what is due; false if the connection is broken. */
static bool flow_write(struct flow *flow)
{
	while (flow->count) {
		struct chunk *chunk = &flow->chunks[flow->first];
		ssize_t put;

		if (chunk->due_us > now_us())
			return true;
		put = send(flow->to, chunk->data + chunk->sent, chunk->bytes - chunk->sent,
			   MSG_NOSIGNAL);
		if (put < 0)
			return errno == EAGAIN || errno == EINTR;
		chunk->sent += (uint32_t)put;
		if (chunk->sent < chunk->bytes)
			return true;
		flow->first = (flow->first + 1) % CHUNKS_MAX;
		flow->count--;
	}
	if (flow->ended && !flow->passed_on) {
		shutdown(flow->to, SHUT_WR);
		flow->passed_on = true;
	}
	return true;
}

static void serve_pair(struct pair *pair, const struct pollfd *poll_fds)
{
	bool good = true;

	for (int i = 0; i < 2 && good; i++) {
		struct flow *flow = &pair->flows[i];

		if (!flow->ended && flow->count < CHUNKS_MAX && poll_fds[i].revents)
			good = flow_read(flow);
		if (good)
			good = flow_write(flow);
	}
	if (!good || (pair->cut_at_us && now_us() > pair->cut_at_us) ||
	    (pair->flows[0].passed_on && pair->flows[1].passed_on))
		pair_end(pair);
}

static void serve(int listener, const struct sockaddr_in *to)
{
	struct pollfd poll_fds[1 + 2 * PAIRS_MAX];

	for (;;) {
		bool waiting = false;

		poll_fds[0] = (struct pollfd){.fd = listener, .events = POLLIN};
		for (unsigned i = 0; i < 2 * PAIRS_MAX; i++) {
			const struct flow *flow = &pairs[i / 2].flows[i % 2];
			bool reads = pairs[i / 2].used && !flow->ended && flow->count < CHUNKS_MAX;

			poll_fds[1 + i] =
				(struct pollfd){.fd = reads ? flow->from : -1, .events = POLLIN};
			waiting |= pairs[i / 2].used && flow->count;
		}
		if (poll(poll_fds, 1 + 2 * PAIRS_MAX, waiting ? 1 : 50) < 0 && errno != EINTR)
			return;
		for (unsigned i = 0; i < PAIRS_MAX; i++)
			if (pairs[i].used)
				serve_pair(&pairs[i], poll_fds + 1 + 2 * i);
		if (poll_fds[0].revents) {
			int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

			if (client >= 0)
				pair_begin(client, to);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{"delay-ms", 1, NULL, 'd'}, {"jitter-ms", 1, NULL, 'j'},
		{"rate-kib", 1, NULL, 'r'}, {"segment-bytes", 1, NULL, 's'},
		{"life-ms", 1, NULL, 'l'},  {"seed", 1, NULL, 'S'},
		{NULL, 0, NULL, 0},
	};
	struct sockaddr_in at = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
	int option, one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		unsigned long value = strtoul(optarg ? optarg : "0", NULL, 0);

		switch (option) {
		case 'd': delay_us = (unsigned)value * 1000; break;
		case 'j': jitter_us = (unsigned)value * 1000; break;
		case 'r': rate_kib = (unsigned)value; break;
		case 's':
			chunk_max = value && value <= CHUNK_BYTES_MAX ? (unsigned)value : 1;
			break;
		case 'l': life_ms = (unsigned)value; break;
		case 'S': random_state ^= value * 2654435761u; break;
		default: return 2;
		}
	}
	if (argc - optind != 2) {
		fputs("usage: relay [--delay-ms N] [--jitter-ms N] [--rate-kib N] [--segment-bytes "
		      "N]\n"
		      "             [--life-ms N] [--seed N] PORT TO-PORT        (both on "
		      "127.0.0.1)\n",
		      stderr);
		return 2;
	}
	at.sin_port = htons((uint16_t)strtoul(argv[optind], NULL, 0));
	to.sin_port = htons((uint16_t)strtoul(argv[optind + 1], NULL, 0));
	at.sin_addr.s_addr = to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 64) < 0) {
		fprintf(stderr, "relay: port %s: %s\n", argv[optind], strerror(errno));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	serve(listener, &to);
	return 1;
}
