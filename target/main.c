/*
 * lunrootd's start and end, top to bottom: settings, io_uring, portals, privileges, state,
 * threads, and then the control thread's loop until somebody says stop.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/daemon.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/loop.h"
#include "control/control.h"
#include "options.h"
#include "ring/ring.h"
#include "session/server.h"

/* After this the daemon ends without waiting for what does not answer; written data is in the
 * page cache, and the live maps stay for the next start. */
#define STOP_GIVE_UP_MS (LIMIT_STOP_MS + 3000)

struct lunrootd {
	struct options options;
	struct loop loop;
	struct server *server;
	struct control *control;
	struct event *give_up_event;
	char addresses[LIMIT_PORTALS][LIMIT_ADDRESS_TEXT_BYTES];
	char pid_path[LIMIT_PATH_BYTES + 16];
	bool stopping;
};

static void on_stopped(void *arg)
{
	struct lunrootd *d = arg;

	event_base_loopbreak(d->loop.base);
}

static void on_give_up(evutil_socket_t fd, short what, void *arg)
{
	struct lunrootd *d = arg;

	(void)fd;
	(void)what;
	log_error(
		"not everything could be ended in time; acknowledged writes are in the page cache "
		"and are found again at the next start");
	(void)unlink(d->pid_path);
	_exit(EXIT_FAILURE);
}

static void on_signal(void *arg, int number)
{
	const struct timeval give_up = {.tv_sec = STOP_GIVE_UP_MS / 1000};
	struct lunrootd *d = arg;

	if (d->stopping) {
		log_warn("signal %d again: ending at once", number);
		on_give_up(-1, 0, d);
	}
	d->stopping = true;
	log_info("signal %d: stopping", number);
	daemon_notify("STOPPING=1");
	event_add(d->give_up_event, &give_up);
	control_stop(d->control);
	server_stop(d->server, on_stopped, d);
}

/* --- start-up --- */

static int log_redirect(const struct options *o)
{
	char path[LIMIT_PATH_BYTES + 16] = "";

	if (o->log_file[0])
		(void)snprintf(path, sizeof(path), "%s", o->log_file);
	else if (!o->foreground)
		(void)snprintf(path, sizeof(path), "%s/lunrootd.log", o->state_dir);
	return daemon_log_to(path, o->foreground);
}

/* A directory of ours, made if only its last part is missing. */
static int directory_ready(const char *what, const char *path, const char *option, uid_t uid,
			   gid_t gid)
{
	struct stat st;

	if (mkdir(path, 0750) == 0) {
		if (geteuid() == 0 && chown(path, uid, gid) < 0)
			return -errno;
		return 0;
	}
	if (errno != EEXIST) {
		int r = -errno;

		log_error("%s directory %s can't be made: %s; make it for this user, or choose "
			  "another "
			  "with %s",
			  what, path, strerror(-r), option);
		return r;
	}
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
		log_error("%s directory %s is not a directory; choose another with %s", what, path,
			  option);
		return -ENOTDIR;
	}
	return 0;
}

/* As root with --user: the directories are made for that user, then we become it. */
static int become_user(const struct options *o)
{
	struct passwd *pw = NULL;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r;

	if (o->user[0]) {
		errno = 0;
		pw = getpwnam(o->user);
		if (!pw) {
			log_error("user %s does not exist; make it with: useradd --system %s",
				  o->user, o->user);
			return -ENOENT;
		}
		uid = pw->pw_uid;
		gid = pw->pw_gid;
	}
	r = directory_ready("state", o->state_dir, "--state", uid, gid);
	if (r == 0)
		r = directory_ready("runtime", o->run_dir, "--run", uid, gid);
	if (r < 0 || !pw || uid == geteuid())
		return r;
	if (initgroups(pw->pw_name, gid) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0) {
		r = -errno;
		log_error("can't become user %s: %s; start lunrootd as root or as that user",
			  o->user, strerror(-r));
	}
	return r;
}

static int start_portals(struct lunrootd *d)
{
	struct store_error err = {""};

	for (unsigned i = 0; i < d->options.portal_count; i++) {
		int r = server_listen(d->server, d->options.portals[i], d->addresses[i], &err);

		if (r < 0) {
			log_error("portal %s: %s", d->options.portals[i], err.text);
			return r;
		}
	}
	return 0;
}

static int start_server(struct lunrootd *d)
{
	const struct server_config config = {
		.reactor_count = d->options.reactor_count,
		.control = &d->loop.mailbox,
		.ping_idle_ms = d->options.ping_idle_ms,
	};
	int r = server_new(&config, &d->server);

	if (r < 0) {
		log_error("the reactors can't be made: %s", strerror(-r));
		return r;
	}
	return start_portals(d);
}

static int start_control(struct lunrootd *d)
{
	struct control_config config = {
		.state_dir = d->options.state_dir,
		.run_dir = d->options.run_dir,
		.socket_path = d->options.socket_path[0] ? d->options.socket_path : NULL,
		.server = d->server,
		.mailbox = &d->loop.mailbox,
		.base = d->loop.base,
		.portal_count = d->options.portal_count,
		.merge_bytes_per_s = d->options.merge_bytes_per_s,
		.reserve_percent = d->options.reserve_percent,
		.reserve_bytes = d->options.reserve_bytes,
		.trash_s = (int64_t)d->options.trash_s,
	};
	struct store_error err = {""};
	int r;

	for (unsigned i = 0; i < d->options.portal_count; i++)
		config.portals[i] = d->addresses[i];
	r = control_new(&config, &d->control, &err);
	if (r < 0)
		log_error("%s", err.text);
	return r;
}

static int start_events(struct lunrootd *d)
{
	int r = loop_init(&d->loop, on_signal, d);

	if (r == 0)
		d->give_up_event = evtimer_new(d->loop.base, on_give_up, d);
	return r == 0 && !d->give_up_event ? -ENOMEM : r;
}

static void write_pid(struct lunrootd *d)
{
	FILE *file;

	(void)snprintf(d->pid_path, sizeof(d->pid_path), "%s/lunrootd.pid", d->options.run_dir);
	file = fopen(d->pid_path, "we");
	if (!file || fprintf(file, "%d\n", (int)getpid()) < 0)
		log_warn("%s: %s", d->pid_path, strerror(errno));
	if (file && fclose(file) != 0)
		log_warn("%s: %s", d->pid_path, strerror(errno));
}

static int start(struct lunrootd *d)
{
	char why[512];
	int r;

	daemon_raise_descriptor_limit();
	r = ring_probe(why, sizeof(why));
	if (r < 0) {
		log_error("%s", why);
		return r;
	}
	r = start_events(d);
	if (r == 0)
		r = become_user(&d->options);
	if (r == 0)
		r = start_server(d);
	if (r == 0)
		r = start_control(d);
	/* Before anybody can log in: an initiator whose target is not found may give it up. */
	if (r == 0)
		r = control_serve_all(d->control);
	if (r < 0)
		return r;
	r = server_start(d->server);
	if (r < 0)
		log_error("the reactors' threads can't be started: %s", strerror(-r));
	return r;
}

static void finish(struct lunrootd *d)
{
	control_free(d->control);
	server_free(d->server);
	if (d->give_up_event)
		event_free(d->give_up_event);
	loop_done(&d->loop);
	options_done(&d->options);
	if (d->pid_path[0])
		(void)unlink(d->pid_path);
}

int main(int argc, char **argv)
{
	static struct lunrootd d = {.loop.mailbox.eventfd = -1};
	int status = EXIT_FAILURE;

	switch (options_parse(argc, argv, &d.options)) {
	case OPTIONS_EXIT_OK: return EXIT_SUCCESS;
	case OPTIONS_EXIT_USAGE: return 2;
	case OPTIONS_RUN: break;
	}
	log_init("lunrootd", d.options.log_level);
	(void)signal(SIGPIPE, SIG_IGN);
	umask(0027);
	if (!d.options.foreground && daemon_background() < 0) {
		log_error("can't go to the background: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	/* Until here whoever starts us reads what is wrong on standard error. */
	if (start(&d) == 0 && log_redirect(&d.options) == 0) {
		write_pid(&d);
		log_info("lunrootd %s serves on %s%s", LUNROOT_VERSION, d.addresses[0],
			 d.options.portal_count > 1 ? " and other portals" : "");
		daemon_ready();
		event_base_dispatch(d.loop.base);
		status = EXIT_SUCCESS;
		log_info("stopped");
	}
	finish(&d);
	return status;
}
