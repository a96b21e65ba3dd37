/*
 * The TFTP and HTTP servers of lunbootd with a folder for all peers, read into memory at the start.
 * For tests and benchmarks; SIGTERM ends it with what it counted.
 *
 * usage: serve_files FOLDER [--tftp PORT] [--http PORT] [--interface NAME]... [--deny PATH]
 *                    [--busy PATH] [--sessions N] [--peer-sessions N] [--events]
 *
 * When it serves, it says "tftp PORT http PORT".
 */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "boot/http.h"
#include "boot/tftp.h"

#define FILES_MAX 1000

static struct {
	char *path;
	struct blob *blob;
} files[FILES_MAX];
static size_t file_count, folder_bytes;
static const char *denied = "", *busy = "";
static bool show_events;

static int load(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	FILE *file;
	char *data;

	(void)ftw;
	if (type != FTW_F || file_count == FILES_MAX)
		return 0;
	file = fopen(path, "rb");
	data = malloc((size_t)st->st_size + 1);
	if (!file || !data || fread(data, 1, (size_t)st->st_size, file) != (size_t)st->st_size) {
		perror(path);
		exit(2);
	}
	(void)fclose(file);
	files[file_count].path = strdup(path + folder_bytes + 1);
	files[file_count++].blob = blob_new(data, (size_t)st->st_size);
	return 0;
}

static int open_file(void *arg, const struct serve_request *request, struct blob **ret_blob)
{
	(void)arg;
	if (strcmp(request->path, denied) == 0)
		return -EACCES;
	if (strcmp(request->path, busy) == 0)
		return -EAGAIN;
	for (size_t i = 0; i < file_count; i++) {
		if (strcmp(files[i].path, request->path) == 0) {
			*ret_blob = blob_ref(files[i].blob);
			return 0;
		}
	}
	return -ENOENT;
}

static void on_event(void *arg, const struct serve_request *request, enum serve_event event,
		     const struct serve_progress *progress)
{
	static const char *const names[] = {"asked", "missing", "sent", "ended", "lost"};

	(void)arg;
	if (show_events)
		(void)printf("%s %s %s: %" PRIu64 " of %" PRIu64 " bytes, %u retries, %" PRIu64
			     " ms, block %u, \"%s\"\n",
			     request->http ? "http" : "tftp", names[event], request->path,
			     progress->bytes, progress->file_bytes, progress->retries,
			     progress->took_ms, progress->block_bytes, progress->text);
}

static void on_term(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)event_base_loopbreak(arg);
}

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	(void)fprintf(stderr, "serve_files: %s: %s\n", what, strerror(-r));
	exit(2);
}

static void say_stats(const struct tftp *tftp)
{
	struct tftp_stats s = tftp_stats(tftp);

	(void)printf("tftp: %" PRIu64 " requests, %" PRIu64 " malformed, %" PRIu64
		     " missing, %" PRIu64 " sent, %" PRIu64 " ended, %" PRIu64 " lost, %" PRIu64
		     " no room, %" PRIu64 " evicted, %" PRIu64 " strangers, %u open\n",
		     s.requests, s.malformed, s.missing, s.sent, s.ended, s.lost, s.no_room,
		     s.evicted, s.strangers, s.sessions);
}

static void serve(const struct tftp_config *tftp_config, const struct http_config *http_config)
{
	static const struct serve_ops ops = {.open = open_file, .event = on_event};
	struct event_base *base = event_base_new();
	struct event *term = evsignal_new(base, SIGTERM, on_term, base);
	struct tftp *tftp;
	struct http *http;

	must(tftp_new(base, tftp_config, &ops, NULL, &tftp), "TFTP");
	must(http_new(base, http_config, &ops, NULL, &http), "HTTP");
	(void)event_add(term, NULL);
	(void)printf("tftp %u http %u\n", tftp_port(tftp), http_port(http));
	(void)event_base_dispatch(base);
	say_stats(tftp);
	tftp_free(tftp);
	http_free(http);
	event_free(term);
	event_base_free(base);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"tftp", 1, NULL, 't'},
		{"http", 1, NULL, 'h'},
		{"interface", 1, NULL, 'i'},
		{"deny", 1, NULL, 'd'},
		{"busy", 1, NULL, 'b'},
		{"sessions", 1, NULL, 's'},
		{"peer-sessions", 1, NULL, 'p'},
		{"events", 0, NULL, 'e'},
		{NULL, 0, NULL, 0},
	};
	const char *interfaces[8];
	struct tftp_config tftp = {.interfaces = interfaces, .confirm = true};
	struct http_config http = {.interfaces = interfaces, .clients_per_peer_max = 256};
	struct rlimit descriptors;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 't': tftp.port = (uint16_t)atoi(optarg); break;
		case 'h': http.port = (uint16_t)atoi(optarg); break;
		case 'i':
			if (tftp.interface_count < ARRAY_COUNT(interfaces))
				interfaces[tftp.interface_count++] = optarg;
			http.interface_count = tftp.interface_count;
			break;
		case 'd': denied = optarg; break;
		case 'b': busy = optarg; break;
		case 's': tftp.sessions_max = (unsigned)atoi(optarg); break;
		case 'p': tftp.sessions_per_peer_max = (unsigned)atoi(optarg); break;
		case 'e': show_events = true; break;
		default: return 2;
		}
	}
	if (optind != argc - 1) {
		(void)fprintf(stderr, "usage: serve_files FOLDER [OPTIONS]\n");
		return 2;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
		descriptors.rlim_cur = descriptors.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &descriptors);
	}
	folder_bytes = strlen(argv[optind]);
	if (nftw(argv[optind], load, 16, FTW_PHYS) != 0) {
		perror(argv[optind]);
		return 2;
	}
	serve(&tftp, &http);
	for (size_t i = 0; i < file_count; i++) {
		free(files[i].path);
		blob_unref(files[i].blob);
	}
	return 0;
}
