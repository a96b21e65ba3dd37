/*
 * A peer of the boot service that means harm: for some seconds and at full speed, what is
 * well-formed, mutated or noise, from many addresses. TFTP requests, and any packet to the ports
 * that answered; HTTP requests; with --dhcp what boards and DHCP servers say; with --reports what
 * nodes tell of their boot. It waits for nothing. Links nothing of ours.
 *
 * usage: boot_hostile [OPTIONS] ADDRESS TFTP-PORT HTTP-PORT SECONDS SEED NAME...
 *     --from NETWORK/BITS   where it sends from (127.0.0.0/8)
 *     --dhcp INTERFACE      there, and
 *     --mac MAC             now and then as this board
 *     --reports PORT
 */
#include "boot_hostile.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS 200
#define STREAMS 20

static uint64_t seed;
static uint32_t from_first = 0x7f000000, from_count = 1u << 24;
static struct sockaddr_in tftp, http, reports, answered[SOCKETS];
static int sockets[SOCKETS], streams[STREAMS];
static char **names;
static unsigned name_count;
static unsigned long long packets, answers, connections, frames, reported;

unsigned rnd(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed >> 11) % below);
}

struct in_addr somewhere(void)
{
	return (struct in_addr){htonl(from_first + 2 + rnd(from_count - 4))};
}

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

size_t noise(uint8_t *packet, size_t max)
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

void mutate(uint8_t *packet, size_t *bytes)
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
	struct sockaddr_in local = {.sin_family = AF_INET, .sin_addr = somewhere()};

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

static void trouble_report(void)
{
	static const char *const events[] = {"start", "network", "root", "switch", "ro-ot", "Root"};
	static const char *const texts[] = {"", " eth0 is up", " \xc3\xa9\xff", " \x1b[2J", "\n"};
	uint8_t packet[1500];
	unsigned kind = rnd(4);
	size_t bytes;

	if (kind == 0)
		bytes = noise(packet, sizeof(packet));
	else if (kind == 1)
		bytes = (size_t)snprintf((char *)packet, sizeof(packet),
					 "%8u.%02u NET: line %u\r\n\nRXID %08x\n", rnd(99999),
					 rnd(100), rnd(999), rnd(1u << 31));
	else
		bytes = (size_t)snprintf((char *)packet, sizeof(packet),
					 "lunroot-report %u %08x%08x%08x%08x %u %s%s",
					 1 + (rnd(9) == 0), rnd(1u << 31), rnd(1u << 31),
					 rnd(1u << 31), rnd(1u << 31), rnd(1u << rnd(32)),
					 events[rnd(6)], texts[rnd(5)]);
	if (rnd(3) == 0)
		mutate(packet, &bytes);
	if (sendto(sockets[rnd(SOCKETS)], packet, bytes, 0, (struct sockaddr *)&reports,
		   sizeof(reports)) >= 0)
		reported++;
}

static void round_of_trouble(bool dhcp)
{
	for (unsigned i = 0; i < 50; i++) {
		trouble_tftp();
		if (dhcp)
			frames += trouble_dhcp();
		if (reports.sin_port)
			trouble_report();
	}
	trouble_http();
}

static bool take_network(const char *text)
{
	char address[INET_ADDRSTRLEN];
	struct in_addr first;
	unsigned bits;

	if (sscanf(text, "%15[0-9.]/%u", address, &bits) != 2 || bits < 8 || bits > 29 ||
	    !inet_aton(address, &first))
		return false;
	from_first = ntohl(first.s_addr);
	from_count = 1u << (32 - bits);
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"from", required_argument, NULL, 'f'},
						{"dhcp", required_argument, NULL, 'd'},
						{"mac", required_argument, NULL, 'm'},
						{"reports", required_argument, NULL, 'r'},
						{NULL, 0, NULL, 0}};
	const char *interface = NULL, *mac = "02:00:00:00:00:00";
	double until;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'f':
			if (!take_network(optarg))
				return 2;
			break;
		case 'd': interface = optarg; break;
		case 'm': mac = optarg; break;
		case 'r': reports.sin_port = htons((uint16_t)atoi(optarg)); break;
		default: return 2;
		}
	}
	argc -= optind;
	argv += optind;
	if (argc < 6 || !inet_aton(argv[0], &tftp.sin_addr))
		return 2;
	tftp.sin_family = http.sin_family = reports.sin_family = AF_INET;
	http.sin_addr = reports.sin_addr = tftp.sin_addr;
	tftp.sin_port = htons((uint16_t)atoi(argv[1]));
	http.sin_port = htons((uint16_t)atoi(argv[2]));
	until = now() + atof(argv[3]);
	seed = strtoull(argv[4], NULL, 10) * 2 + 1;
	names = argv + 5;
	name_count = (unsigned)argc - 5;
	if (interface)
		dhcp_open(interface, mac, tftp.sin_addr);
	for (unsigned i = 0; i < SOCKETS; i++)
		reopen(i);
	while (now() < until)
		round_of_trouble(interface != NULL);
	(void)printf("hostile: %llu packets, %llu answers, %llu connections, %llu frames, "
		     "%llu reports, seed %s\n",
		     packets, answers, connections, frames, reported, argv[4]);
	return 0;
}
