/*
 * lunbootd's start and end, top to bottom: settings, its folder, sockets while it may still open
 * them, rights given up, threads, and then the event loop until somebody says stop.
 */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "api.h"
#include "base/daemon.h"
#include "base/log.h"
#include "base/loop.h"
#include "confine.h"
#include "options.h"
#include "service.h"

struct lunbootd {
	struct boot_options options;
	struct loop loop;
	struct service *service;
	int log_fd;
};

static void on_signal(void *arg, int number)
{
	struct lunbootd *d = arg;

	log_info("signal %d: stopping", number);
	daemon_notify("STOPPING=1");
	event_base_loopbreak(d->loop.base);
}

/* Ours alone: what is made there has nodes' secrets beside it. */
static int run_dir_ready(const struct boot_options *options)
{
	const struct passwd *pw = options->user[0] ? getpwnam(options->user) : NULL;
	uid_t uid = pw ? pw->pw_uid : geteuid();
	bool made = mkdir(options->run_dir, 0700) == 0;
	struct stat st;

	if (!made && errno != EEXIST) {
		int r = -errno;

		log_error("runtime directory %s can't be made: %s; choose another with --run",
			  options->run_dir, strerror(-r));
		return r;
	}
	if (made && uid != geteuid() && chown(options->run_dir, pw->pw_uid, pw->pw_gid) < 0)
		return -errno;
	if (stat(options->run_dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		log_error("runtime directory %s is no directory; choose another with --run",
			  options->run_dir);
		return -ENOTDIR;
	}
	if (st.st_uid != uid) {
		pw = getpwuid(st.st_uid);
		log_error("runtime directory %s belongs to user %s, as whom lunbootd does not run: "
			  "remove it, since nothing is in it that is not made anew, or choose "
			  "another with --run",
			  options->run_dir, pw ? pw->pw_name : "nobody knows");
		return -EACCES;
	}
	return 0;
}

static int start(struct lunbootd *d)
{
	int r = loop_init(&d->loop, on_signal, d);

	if (r == 0)
		r = confine_choose(d->options.user, sizeof(d->options.user),
				   d->options.socket_path);
	if (r == 0)
		r = run_dir_ready(&d->options);
	if (r == 0)
		r = service_new(&d->options, d->loop.base, &d->loop.mailbox, &d->service);
	if (r == 0)
		r = daemon_log_open(d->options.log_file, &d->log_fd);
	if (r == 0)
		/* As a DHCP server it has port 67 of each interface, and one may come back. */
		r = confine(d->options.user, d->options.run_dir, d->options.known);
	return r < 0 ? r : service_start(d->service);
}

static void finish(struct lunbootd *d)
{
	api_stop(); /* nobody waits for a lunrootd that hangs */
	service_free(d->service);
	loop_done(&d->loop);
	boot_options_done(&d->options);
}

int main(int argc, char **argv)
{
	static struct lunbootd d = {.loop.mailbox.eventfd = -1, .log_fd = -1};
	int status = EXIT_FAILURE, r;

	switch (boot_options_parse(argc, argv, &d.options)) {
	case OPTIONS_EXIT_OK: return EXIT_SUCCESS;
	case OPTIONS_EXIT_USAGE: return 2;
	case OPTIONS_RUN: break;
	}
	log_init("lunbootd", d.options.log_level);
	(void)signal(SIGPIPE, SIG_IGN);
	umask(0077);
	api_init();
	daemon_raise_descriptor_limit(); /* each transfer has a socket */
	if (!d.options.foreground && daemon_background() < 0) {
		log_error("can't go to the background: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	/* Until it is ready whoever starts us reads what is wrong on standard error. */
	r = start(&d);
	if (r == 0)
		r = daemon_log_take(d.log_fd, d.options.foreground);
	if (r == 0) {
		log_info("lunbootd %s is ready", LUNROOT_VERSION);
		daemon_ready();
		event_base_dispatch(d.loop.base);
		log_info("stopped");
		status = EXIT_SUCCESS;
	} else {
		log_error("lunbootd can't start: %s", strerror(-r));
	}
	finish(&d);
	return status;
}
