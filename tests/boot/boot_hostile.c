/*
 * A peer of the boot service that means harm: for some seconds and at full speed, TFTP requests
 * that are well-formed, mutated or noise, from many addresses of 127.0.0.0/8; any packet to the
 * ports that answered; and HTTP requests of the same kinds. It waits for nothing. Links nothing of
 * ours.
 *
 * usage: boot_hostile ADDRESS TFTP-PORT HTTP-PORT SECONDS SEED NAME...
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS 200
#define STREAMS 20

static uint64_t seed;
static struct sockaddr_in tftp, http, answered[SOCKETS];
static int sockets[SOCKETS], streams[STREAMS];
static char **names;
static unsigned name_count;
static unsigned long long packets, answers, connections;

static unsigned rnd(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed >> 11) % below);
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t noise(uint8_t *packet, size_t max)
{
	size_t bytes = rnd((unsigned)max);

	for (size_t i = 0; i < bytes; i++)
		packet[i] = (uint8_t)rnd(256);
	return bytes;
}

static size_t put(uint8_t *packet, size_t at, const char *text)
{
	memcpy(packet + at, text, strlen(text) + 1);
	return at + strlen(text) + 1;
}

static size_t request(uint8_t *packet)
{
	static const char *const options[] = {"tsize", "blksize", "windowsize", "timeout",
					      "multicast"};
	static const char *const values[] = {"0",  "8",   "512", "1468", "65464",
					     "64", "255", "-1",  "",     "99999999999"};
	static const char *const modes[] = {"octet", "netascii", "mail", "octet"};
	static const char *const odd[] = {"../../etc/passwd", "", "/", "..\\x", "a/./b", "\x1b[2J"};
	size_t at = 2;

	packet[0] = 0;
	packet[1] = (uint8_t)(1 + (rnd(10) == 0));
	at = put(packet, at, rnd(4) ? names[rnd(name_count)] : odd[rnd(6)]);
	at = put(packet, at, modes[rnd(4)]);
	for (unsigned i = rnd(5); i > 0; i--) {
		at = put(packet, at, options[rnd(5)]);
		at = put(packet, at, values[rnd(10)]);
	}
	return at;
}

static size_t reply(uint8_t *packet)
{
	packet[0] = 0;
	packet[1] = (uint8_t)(rnd(8) ? 4 : rnd(7));
	packet[2] = (uint8_t)(rnd(4) ? 0 : rnd(256));
	packet[3] = (uint8_t)rnd(rnd(2) ? 8 : 256);
	return 4 + (rnd(4) ? 0 : rnd(600));
}

static void mutate(uint8_t *packet, size_t *bytes)
{
	for (unsigned i = rnd(4); i > 0 && *bytes > 0; i--) {
		if (rnd(4) == 0)
			*bytes = rnd((unsigned)*bytes + 1);
		else
			packet[rnd((unsigned)*bytes)] ^= (uint8_t)(1 << rnd(8));
	}
}

static void reopen(unsigned i)
{
	struct sockaddr_in local = {.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(0x7f000000 + 2 + rnd(0xfffff0))};

	if (sockets[i] > 0)
		close(sockets[i]);
	sockets[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (sockets[i] < 0 || bind(sockets[i], (struct sockaddr *)&local, sizeof(local)) < 0) {
		perror("socket");
		exit(2);
	}
	answered[i] = tftp;
}

static void trouble_tftp(void)
{
	uint8_t packet[2000] = {0};
	unsigned i = rnd(SOCKETS), kind = rnd(10);
	struct sockaddr_in to = rnd(2) ? answered[i] : tftp;
	socklen_t from_bytes = sizeof(to);
	size_t bytes;

	if (rnd(100) == 0)
		reopen(i);
	bytes = kind == 0 ? noise(packet, 1500) : kind < 6 ? request(packet) : reply(packet);
	if (rnd(2))
		mutate(packet, &bytes);
	if (sendto(sockets[i], packet, bytes, 0, (struct sockaddr *)&to, sizeof(to)) >= 0)
		packets++;
	if (recvfrom(sockets[i], packet, sizeof(packet), 0, (struct sockaddr *)&to, &from_bytes) >
	    0) {
		answers++;
		answered[i] = to;
	}
}

static void trouble_http(void)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "GE", "OPTIONS"};
	static const char *const paths[] = {"/../x", "/%2e%2e/x", "/%00",       "/%",
					    "//",    "*",         "http://a/b", "/a b"};
	uint8_t text[1500];
	unsigned i = rnd(STREAMS);
	size_t bytes;

	if (streams[i] <= 0 || rnd(10) == 0) {
		if (streams[i] > 0)
			close(streams[i]);
		streams[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(streams[i], (struct sockaddr *)&http, sizeof(http));
		connections++;
	}
	if (rnd(8) == 0)
		bytes = noise(text, sizeof(text));
	else
		bytes = (size_t)snprintf((char *)text, sizeof(text),
					 "%s %s%s HTTP/1.1\r\nHost: x\r\nRange: bytes=%u-%u\r\n%s",
					 methods[rnd(6)], rnd(2) ? "/" : paths[rnd(8)],
					 names[rnd(name_count)], rnd(9), rnd(2000),
					 rnd(5) ? "\r\n" : "");
	if (rnd(3) == 0)
		mutate(text, &bytes);
	if (send(streams[i], text, bytes, MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
		close(streams[i]);
		streams[i] = 0;
	}
	if (streams[i] > 0 && rnd(2))
		(void)recv(streams[i], text, sizeof(text), 0);
}

int main(int argc, char **argv)
{
	double until;

	if (argc < 7)
		return 2;
	tftp.sin_family = http.sin_family = AF_INET;
	if (!inet_aton(argv[1], &tftp.sin_addr))
		return 2;
	http.sin_addr = tftp.sin_addr;
	tftp.sin_port = htons((uint16_t)atoi(argv[2]));
	http.sin_port = htons((uint16_t)atoi(argv[3]));
	until = now() + atof(argv[4]);
	seed = strtoull(argv[5], NULL, 10) * 2 + 1;
	names = argv + 6;
	name_count = (unsigned)argc - 6;
	for (unsigned i = 0; i < SOCKETS; i++)
		reopen(i);
	while (now() < until) {
		for (unsigned i = 0; i < 50; i++)
			trouble_tftp();
		trouble_http();
	}
	(void)printf("hostile: %llu packets, %llu answers, %llu connections, seed %s\n", packets,
		     answers, connections, argv[5]);
	return 0;
}
