/*
 * lunrootd's start and end, top to bottom: settings, io_uring, portals, privileges, state,
 * threads, and then the control thread's loop until somebody says stop.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "control/control.h"
#include "options.h"
#include "ring/ring.h"
#include "session/server.h"

/* After this the daemon ends without waiting for what does not answer; written data is in the
 * page cache, and the live maps stay for the next start. */
#define STOP_GIVE_UP_MS (LIMIT_STOP_MS + 3000)

struct lunrootd {
	struct options options;
	struct event_base *base;
	struct mailbox mailbox;
	struct server *server;
	struct control *control;
	struct event *mailbox_event, *term_event, *int_event, *give_up_event;
	char addresses[LIMIT_PORTALS][LIMIT_ADDRESS_TEXT_BYTES];
	char pid_path[LIMIT_PATH_BYTES + 16];
	bool stopping;
};

static void on_mailbox(evutil_socket_t fd, short what, void *arg)
{
	struct lunrootd *d = arg;

	(void)fd;
	(void)what;
	mailbox_run(&d->mailbox);
}

static void on_stopped(void *arg)
{
	struct lunrootd *d = arg;

	event_base_loopbreak(d->base);
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

static void notify_service_manager(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int AUTO_CLOSE fd = -1;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(to.sun_path))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	memcpy(to.sun_path, path, strlen(path));
	if (path[0] == '@') /* an abstract address */
		to.sun_path[0] = '\0';
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0)
		log_debug("service manager: %s", strerror(errno));
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	const struct timeval give_up = {.tv_sec = STOP_GIVE_UP_MS / 1000};
	struct lunrootd *d = arg;

	(void)what;
	if (d->stopping) {
		log_warn("signal %d again: ending at once", (int)number);
		on_give_up(-1, 0, d);
	}
	d->stopping = true;
	log_info("signal %d: stopping", (int)number);
	notify_service_manager("STOPPING=1");
	event_add(d->give_up_event, &give_up);
	server_stop(d->server, on_stopped, d);
}

/* --- the background --- */

/* Tells the waiting parent that the daemon is ready; a closed pipe tells it that it is not. */
static int ready_pipe = -1;

static void ready_say(void)
{
	if (ready_pipe >= 0) {
		if (write(ready_pipe, "+", 1) != 1)
			log_debug("nobody waits for us");
		close(TAKE_FD(ready_pipe));
	}
	notify_service_manager("READY=1");
}

/* The child goes on; the parent waits until it is ready, so that who starts us may go on then. */
static int go_background(void)
{
	int fds[2];
	pid_t pid;
	char answer;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(fds[0]);
		ready_pipe = fds[1];
		setsid();
		return 0;
	}
	close(fds[1]);
	if (read(fds[0], &answer, 1) == 1)
		_exit(EXIT_SUCCESS);
	/* It has said why on standard error. */
	_exit(EXIT_FAILURE);
}

static int redirect_log(const struct options *o)
{
	char path[LIMIT_PATH_BYTES + 16];
	int AUTO_CLOSE null = -1;
	int AUTO_CLOSE fd = -1;

	if (o->log_file[0] == '\0' && o->foreground)
		return 0;
	if (o->log_file[0])
		(void)snprintf(path, sizeof(path), "%s", o->log_file);
	else
		(void)snprintf(path, sizeof(path), "%s/lunrootd.log", o->state_dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		log_error("log file %s: %s; name one that this user may write with --log-file",
			  path, strerror(errno));
		return -errno;
	}
	if (dup2(fd, STDERR_FILENO) < 0)
		return -errno;
	if (!o->foreground) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
			return -errno;
	}
	return 0;
}

/* --- start-up --- */

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_debug("descriptor limit: %s", strerror(errno));
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
		.control = &d->mailbox,
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
		.mailbox = &d->mailbox,
		.base = d->base,
		.portal_count = d->options.portal_count,
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
	d->base = event_base_new();
	if (!d->base || mailbox_init(&d->mailbox) < 0)
		return -ENOMEM;
	d->mailbox_event =
		event_new(d->base, d->mailbox.eventfd, EV_READ | EV_PERSIST, on_mailbox, d);
	d->term_event = evsignal_new(d->base, SIGTERM, on_signal, d);
	d->int_event = evsignal_new(d->base, SIGINT, on_signal, d);
	d->give_up_event = evtimer_new(d->base, on_give_up, d);
	if (!d->mailbox_event || !d->term_event || !d->int_event || !d->give_up_event ||
	    event_add(d->mailbox_event, NULL) < 0 || event_add(d->term_event, NULL) < 0 ||
	    event_add(d->int_event, NULL) < 0)
		return -ENOMEM;
	return 0;
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

	raise_descriptor_limit();
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
	if (r < 0)
		return r;
	r = server_start(d->server);
	if (r < 0) {
		log_error("the reactors' threads can't be started: %s", strerror(-r));
		return r;
	}
	return control_serve_all(d->control);
}

static void finish(struct lunrootd *d)
{
	struct event *events[] = {d->mailbox_event, d->term_event, d->int_event, d->give_up_event};

	control_free(d->control);
	server_free(d->server);
	for (size_t i = 0; i < ARRAY_COUNT(events); i++) {
		if (events[i])
			event_free(events[i]);
	}
	mailbox_done(&d->mailbox);
	if (d->base)
		event_base_free(d->base);
	options_done(&d->options);
	if (d->pid_path[0])
		(void)unlink(d->pid_path);
}

int main(int argc, char **argv)
{
	static struct lunrootd d = {.mailbox.eventfd = -1};
	int status = EXIT_FAILURE;

	switch (options_parse(argc, argv, &d.options)) {
	case OPTIONS_EXIT_OK: return EXIT_SUCCESS;
	case OPTIONS_EXIT_USAGE: return 2;
	case OPTIONS_RUN: break;
	}
	log_init("lunrootd", d.options.log_level);
	(void)signal(SIGPIPE, SIG_IGN);
	umask(0027);
	if (!d.options.foreground && go_background() < 0) {
		log_error("can't go to the background: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	/* Until here whoever starts us reads what is wrong on standard error. */
	if (start(&d) == 0 && redirect_log(&d.options) == 0) {
		write_pid(&d);
		log_info("lunrootd %s serves on %s%s", LUNROOT_VERSION, d.addresses[0],
			 d.options.portal_count > 1 ? " and other portals" : "");
		ready_say();
		event_base_dispatch(d.base);
		status = EXIT_SUCCESS;
		log_info("stopped");
	}
	finish(&d);
	return status;
}
