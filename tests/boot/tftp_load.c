/*
 * Many TFTP clients in one program, each with a socket of its own: downloads a file again and
 * again, so many at a time, from so many addresses of 127.0.0.0/8, and compares all that comes with
 * a copy. For tests and benchmarks of any server; it links nothing of ours.
 *
 * usage: tftp_load ADDRESS PORT NAME COPY [--count N] [--parallel N] [--peers N] [--blksize N]
 *                  [--windowsize N] [--no-options] [--give-up SECONDS]
 *
 * Exit status: 0 if all of them arrived whole.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AGAIN_MS 1000

struct download {
	int fd;
	bool begun;              /* the server's port is known */
	struct sockaddr_in from; /* the transfer's */
	uint64_t got_blocks, got_bytes;
	unsigned since_ack;
	bool gap_told;
	unsigned block_bytes, window;
	uint64_t heard_ms, began_ms;
};

static struct sockaddr_in server;
static const char *name;
static uint8_t *copy;
static size_t copy_bytes;
static unsigned count = 1, parallel = 1, peers = 1, blksize, windowsize, give_up_s = 60;
static bool no_options;
static unsigned begun, arrived, failed, active, asked_again, last_block_bytes;
static int epoll_fd;
static struct download *downloads;

static uint64_t now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void send_request(struct download *d)
{
	char packet[600];
	size_t at = 2;

	packet[0] = 0;
	packet[1] = 1;
	at += (size_t)sprintf(packet + at, "%s%coctet", name, 0) + 1;
	if (!no_options)
		at += (size_t)sprintf(packet + at, "tsize%c0", 0) + 1;
	if (blksize)
		at += (size_t)sprintf(packet + at, "blksize%c%u", 0, blksize) + 1;
	if (windowsize)
		at += (size_t)sprintf(packet + at, "windowsize%c%u", 0, windowsize) + 1;
	(void)sendto(d->fd, packet, at, 0, (struct sockaddr *)&server, sizeof(server));
}

static void send_ack(struct download *d)
{
	uint8_t packet[4] = {0, 4, (uint8_t)(d->got_blocks >> 8), (uint8_t)d->got_blocks};

	d->since_ack = 0;
	(void)sendto(d->fd, packet, sizeof(packet), 0, (struct sockaddr *)&d->from,
		     sizeof(d->from));
}

static void start(struct download *d)
{
	struct sockaddr_in local = {.sin_family = AF_INET};
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = d};

	if ((ntohl(server.sin_addr.s_addr) & 0xff000000) == 0x7f000000)
		local.sin_addr.s_addr = htonl(0x7f010001 + begun % peers);
	*d = (struct download){.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0),
			       .block_bytes = 512,
			       .window = 1,
			       .heard_ms = now_ms(),
			       .began_ms = now_ms()};
	if (d->fd < 0 || bind(d->fd, (struct sockaddr *)&local, sizeof(local)) < 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, d->fd, &event) < 0)
		die("socket");
	begun++;
	active++;
	send_request(d);
}

static void end(struct download *d, const char *trouble)
{
	if (trouble && failed++ < 5)
		(void)fprintf(stderr, "%s: %s after %llu bytes\n", name, trouble,
			      (unsigned long long)d->got_bytes);
	else if (!trouble)
		arrived++;
	last_block_bytes = d->block_bytes;
	close(d->fd);
	d->fd = -1;
	active--;
	if (begun < count)
		start(d);
}

static void take_options(struct download *d, const uint8_t *packet, size_t bytes)
{
	const char *p = (const char *)packet + 2, *stop = (const char *)packet + bytes;

	while (p < stop) {
		const char *value = p + strlen(p) + 1;

		if (strcmp(p, "blksize") == 0)
			d->block_bytes = (unsigned)atoi(value);
		else if (strcmp(p, "windowsize") == 0)
			d->window = (unsigned)atoi(value);
		else if (strcmp(p, "tsize") == 0 && strtoull(value, NULL, 10) != copy_bytes)
			(void)fprintf(stderr, "%s: tsize is %s\n", name, value);
		p = value + strlen(value) + 1;
	}
}

static void take_data(struct download *d, const uint8_t *packet, size_t bytes)
{
	uint16_t block = (uint16_t)(packet[2] << 8 | packet[3]);
	size_t data = bytes - 4;

	if (block == (uint16_t)d->got_blocks) {
		send_ack(d);
		return;
	}
	if (block != (uint16_t)(d->got_blocks + 1)) {
		if (!d->gap_told)
			send_ack(d);
		d->gap_told = true;
		return;
	}
	if (data > d->block_bytes || d->got_bytes + data > copy_bytes ||
	    memcmp(copy + d->got_bytes, packet + 4, data) != 0) {
		end(d, "wrong bytes");
		return;
	}
	d->gap_told = false;
	d->got_blocks++;
	d->got_bytes += data;
	if (++d->since_ack == d->window || data < d->block_bytes)
		send_ack(d);
	if (data < d->block_bytes)
		end(d, d->got_bytes == copy_bytes ? NULL : "it is short");
}

static void take(struct download *d)
{
	static uint8_t packet[70000];
	struct sockaddr_in from;
	socklen_t from_bytes = sizeof(from);
	ssize_t bytes = recvfrom(d->fd, packet, sizeof(packet) - 1, 0, (struct sockaddr *)&from,
				 &from_bytes);

	if (bytes < 4)
		return;
	packet[bytes] = 0;
	if (d->begun &&
	    (from.sin_port != d->from.sin_port || from.sin_addr.s_addr != d->from.sin_addr.s_addr))
		return; /* an earlier answer's transfer, which ends by itself */
	d->from = from;
	d->heard_ms = now_ms();
	if (packet[1] == 5) {
		end(d, (char *)packet + 4);
	} else if (packet[1] == 6) {
		if (!d->begun)
			take_options(d, packet, (size_t)bytes);
		d->begun = true;
		if (d->got_blocks == 0)
			send_ack(d);
	} else if (packet[1] == 3) {
		d->begun = true;
		take_data(d, packet, (size_t)bytes);
	}
}

static void ask_again(void)
{
	uint64_t now = now_ms();

	for (unsigned i = 0; i < parallel; i++) {
		struct download *d = &downloads[i];

		if (d->fd < 0 || now - d->heard_ms < AGAIN_MS)
			continue;
		if (now - d->began_ms > give_up_s * 1000ull) {
			end(d, "given up");
			continue;
		}
		d->heard_ms = now;
		asked_again++;
		if (d->begun)
			send_ack(d);
		else
			send_request(d);
	}
}

static void run(void)
{
	struct epoll_event events[256];
	uint64_t checked = now_ms();

	while (active > 0) {
		int ready = epoll_wait(epoll_fd, events, 256, 100);

		for (int i = 0; i < ready; i++)
			take(events[i].data.ptr);
		if (now_ms() - checked >= 100) {
			ask_again();
			checked = now_ms();
		}
	}
}

static void read_copy(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file || fseek(file, 0, SEEK_END) != 0)
		die(path);
	copy_bytes = (size_t)ftell(file);
	rewind(file);
	copy = malloc(copy_bytes + 1);
	if (!copy || fread(copy, 1, copy_bytes, file) != copy_bytes)
		die(path);
	(void)fclose(file);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"count", 1, NULL, 'c'},      {"parallel", 1, NULL, 'p'},
		{"peers", 1, NULL, 'a'},      {"blksize", 1, NULL, 'b'},
		{"windowsize", 1, NULL, 'w'}, {"no-options", 0, NULL, 'n'},
		{"give-up", 1, NULL, 'g'},    {NULL, 0, NULL, 0},
	};
	struct rlimit descriptors;
	uint64_t began;
	double seconds;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned value = optarg ? (unsigned)atoi(optarg) : 0;

		switch (option) {
		case 'c': count = value; break;
		case 'p': parallel = value; break;
		case 'a': peers = value; break;
		case 'b': blksize = value; break;
		case 'w': windowsize = value; break;
		case 'n': no_options = true; break;
		case 'g': give_up_s = value; break;
		default: return 2;
		}
	}
	if (optind != argc - 4 || parallel == 0 || peers == 0) {
		(void)fprintf(stderr, "usage: tftp_load ADDRESS PORT NAME COPY [OPTIONS]\n");
		return 2;
	}
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16_t)atoi(argv[optind + 1]));
	name = argv[optind + 2];
	read_copy(argv[optind + 3]);
	if (!inet_aton(argv[optind], &server.sin_addr) || strlen(name) > 400)
		return 2;
	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
		descriptors.rlim_cur = descriptors.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &descriptors);
	}
	if (parallel > count)
		parallel = count;
	epoll_fd = epoll_create1(0);
	downloads = calloc(parallel, sizeof(*downloads));
	if (epoll_fd < 0 || !downloads)
		die("tftp_load");
	began = now_ms();
	for (unsigned i = 0; i < parallel; i++)
		start(&downloads[i]);
	run();
	seconds = (double)(now_ms() - began + 1) / 1000;
	(void)printf("%u of %u arrived, %u at a time, block %u: %.2f s, %.0f transfers/s, %.1f "
		     "MB/s, asked again "
		     "%u times\n",
		     arrived, count, parallel, last_block_bytes, seconds, arrived / seconds,
		     (double)arrived * (double)copy_bytes / 1e6 / seconds, asked_again);
	free(downloads);
	free(copy);
	return arrived == count ? 0 : 1;
}
