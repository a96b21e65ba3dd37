/*
 * The keeper.
 *
 *     log in --> give to the kernel --> wait for an event --> the connection is lost: recover
 *       ^                                                                |
 *       '------------------------ back-off, for ever --------------------'
 *
 * While the connection is away nothing here may wait for the root disk, or both wait for ever. So:
 * all memory is locked, nothing is opened outside of the initramfs and the pseudo file systems
 * (which are reached by descriptors from before the switch), writes of dirty pages to make room are
 * not ours to wait for (PR_SET_IO_FLUSHER), and scanning for disks, which waits for I/O, is left to
 * the parent.
 */
#include "initramfs/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/arrival.h"
#include "initramfs/connect.h"
#include "initramfs/console.h"
#include "initramfs/lease.h"
#include "initramfs/netlink.h"
#include "initramfs/report.h"

#define RECOVERY_S     86400 /* not for ever: the kernel shortens only positive ones at shutdown */
#define PING_S         5
#define BACKOFF_MS     250   /* doubled up to the next: a target that restarts is met soon, and a */
#define BACKOFF_MAX_MS 2000  /* thousand nodes do not drown one that struggles */
#define LOOK_MS        60000 /* should an event ever be lost */
#define SHORT_MS       15000 /* a connection that lived shorter than this; above RIVAL_MS, so that */
#define RIVAL_MS       10000 /* both of two rivals see their own as short, and slow down */
#define RIVAL_COUNT    4
#define STACK_BYTES    65536 /* touched once, so that it never has to grow */

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* One a process; static, because it is large and must not move. */
static struct {
	const struct settings *settings;
	struct iscsi_netlink netlink;
	struct connect_portal portals[SETTINGS_PORTALS_MAX];
	struct initiator_wish wish;
	struct initiator initiator;
	struct complaint complaint;
	struct lease_watch lease;
	struct arrival arrival;
	struct complaint rival;
	long long connected_ms;
	bool at_once;         /* the last login was good at its first try */
	unsigned short_lives; /* in a row, of connections that the target closed */
	int session_fd, run_fd;
	bool is_first; /* the parent is /init */
} keeper;

/* --- the process --- */

static void write_text(const char *path, const char *text)
{
	int AUTO_CLOSE fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		complain("%s: %s", path, strerror(errno));
}

static void __attribute__((noinline)) touch_stack(void)
{
	volatile char stack[STACK_BYTES];

	for (size_t i = 0; i < sizeof(stack); i += 4096)
		stack[i] = 0;
}

/*
 * In argv[0] an '@' asks systemd to spare a process whose disk is the root (its document on root
 * storage daemons); only the memory that the kernel knows as the arguments counts. They lie one
 * behind the other there.
 */
static void rename_process(char *argv[])
{
	char *end = argv[0];

	for (int i = 0; argv[i] && (i == 0 || argv[i] == end); i++)
		end = argv[i] + strlen(argv[i]) + 1;
	memset(argv[0], 0, (size_t)(end - argv[0]));
	(void)snprintf(argv[0], (size_t)(end - argv[0]), "%s", "@lunroot-keeper");
	(void)prctl(PR_SET_NAME, "lunroot-keeper");
}

static void become_keeper(char *argv[])
{
	rename_process(argv);
	(void)setsid();
	/* The real system's shutdown and hang-ups mean others. */
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	write_text("/proc/self/oom_score_adj", "-1000");
	(void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		complain("memory can't be locked: %s", strerror(errno));
	touch_stack();
}

/* --- logging in --- */

/*
 * The ISID must be the same at each login of this machine, so that the target knows the session
 * again (RFC 7143, 10.1.1): type random (9.), qualifier 0; one session a machine needs no more.
 */
static void wish_fill(const struct settings *settings, struct initiator_wish *ret_wish)
{
	*ret_wish = (struct initiator_wish){
		.initiator = settings->initiator,
		.target = settings->target,
		.alias = settings->hostname,
		.user = settings->user,
		.secret = settings->secret,
		.mutual_user = settings->mutual_user,
		.mutual_secret = settings->mutual_secret,
		.isid = {0x80, 0x6c, 0x75, 0x6e, 0x00, 0x00},
		.cmdsn = 1,
		.header_digest = settings->header_digest,
		.data_digest = settings->data_digest,
	};
}

/* Every portal once. */
static enum connect_result try_portals(struct connected *ret_connected)
{
	char why[320] = "no portal is known";
	enum connect_result result = CONNECT_UNREACHABLE;

	for (unsigned i = 0; i < keeper.settings->portal_count; i++) {
		result = connect_portal_login(&keeper.portals[i], &keeper.wish, &keeper.initiator,
					      ret_connected, why, sizeof(why));
		if (result == CONNECT_DONE)
			return result;
		complain_again(&keeper.complaint, "%s; trying again", why);
	}
	return result;
}

static int hand_over(const struct connected *connected)
{
	const struct iscsi_handover handover = {
		.params = &keeper.initiator.negotiation.agreed,
		.initiator = keeper.settings->initiator,
		.target = keeper.settings->target,
		.address = connected->address,
		.port = connected->port,
		.portal_group_tag = keeper.initiator.portal_group_tag,
		.exp_statsn = keeper.initiator.statsn + 1,
		.recovery_s = RECOVERY_S,
		.ping_s = PING_S,
	};

	return iscsi_netlink_start(&keeper.netlink, connected->fd, &handover);
}

/*
 * The kernel lets go of the connection, and tells the next CmdSN. Without it no login may follow: a
 * wrong one stalls the disk silently. A kernel that can't now can in a moment: its own clean-up
 * runs first.
 */
static void recover(void)
{
	int r;

	while ((r = iscsi_netlink_recover(&keeper.netlink, &keeper.wish.cmdsn)) != 0) {
		complain_again(&keeper.complaint, "the kernel does not let go of it: %s",
			       strerror(-r));
		report_sleep_ms(BACKOFF_MS);
	}
}

/* One connection that the kernel goes on with; tries for ever. */
static void connect_for_ever(void)
{
	unsigned backoff_ms = BACKOFF_MS;

	for (keeper.at_once = true;; keeper.at_once = false) {
		struct connected connected = {.fd = -1};

		if (try_portals(&connected) == CONNECT_DONE) {
			int r = hand_over(&connected);

			/* The kernel has its own reference to the socket. */
			close(connected.fd);
			initiator_done(&keeper.initiator);
			if (r == 0) {
				say("logged in to %s at %s port %u%s", keeper.settings->target,
				    connected.address, connected.port,
				    keeper.wish.user[0] ? "" : ", without authentication");
				report(REPORT_LOGIN, "%s port %u", connected.address,
				       connected.port);
				complaint_clear(&keeper.complaint);
				keeper.connected_ms = now_ms();
				return;
			}
			complain_again(&keeper.complaint,
				       "the kernel does not take the connection: %s; trying again",
				       strerror(-r));
			recover();
		}
		initiator_done(&keeper.initiator);
		report_sleep_ms(backoff_ms);
		backoff_ms = backoff_ms * 2 < BACKOFF_MAX_MS ? backoff_ms * 2 : BACKOFF_MAX_MS;
	}
}

/*
 * Two machines with one name throw each other out for ever: the target serves who came last. A
 * target that restarts looks alike but for one thing: it can't be reached for a moment.
 */
static void beware_of_rival(uint32_t error, long long lost_ms)
{
	if (iscsi_error_is_close(error) && keeper.at_once &&
	    lost_ms < keeper.connected_ms + SHORT_MS)
		keeper.short_lives++;
	else
		keeper.short_lives = 0;
	if (keeper.short_lives < RIVAL_COUNT)
		return;
	complain_again(&keeper.rival,
		       "another machine may be using this node's name (%s): the target closes each "
		       "connection within seconds; next login in %d s",
		       keeper.settings->initiator, RIVAL_MS / 1000);
	report_sleep_ms(RIVAL_MS);
}

static void reconnect(const char *why, uint32_t error)
{
	static const char text[] = "the connection to the disk is lost: %s; logging in again, "
				   "reads and writes wait";
	long long lost_ms = now_ms(), away_ms;

	complain(text, why);
	report(REPORT_WAITING, text, why);
	recover();
	beware_of_rival(error, lost_ms);
	connect_for_ever();
	away_ms = now_ms() - lost_ms;
	say("the disk is back after %lld.%lld s", away_ms / 1000, away_ms % 1000 / 100);
	report(REPORT_BACK, "%lld.%lld s", away_ms / 1000, away_ms % 1000 / 100);
}

/* --- the loop --- */

/* At what tells nothing by itself: another DHCP client, and events that were lost. */
static int look_period_ms(void)
{
	return lease_watch_due(&keeper.lease) ? LEASE_WATCH_MS : LOOK_MS;
}

static int sooner(int timeout_ms, int due_ms)
{
	return due_ms >= 0 && due_ms < timeout_ms ? due_ms : timeout_ms;
}

static enum iscsi_event wait_for_event(int timeout_ms, uint32_t *ret_error)
{
	struct pollfd wait = {.fd = keeper.netlink.fd, .events = POLLIN};

	timeout_ms = sooner(timeout_ms, arrival_due(&keeper.arrival));
	timeout_ms = sooner(timeout_ms, report_tick());
	if (poll(&wait, 1, timeout_ms) > 0)
		return iscsi_netlink_event(&keeper.netlink, ret_error);
	return ISCSI_EVENT_NONE;
}

static void watch(void)
{
	long long look_ms = now_ms() + look_period_ms();

	for (;;) {
		long long left_ms = look_ms - now_ms();
		uint32_t error = 0;
		enum iscsi_event event = wait_for_event(left_ms > 0 ? (int)left_ms : 0, &error);

		arrival_look(&keeper.arrival);
		if (now_ms() >= look_ms) {
			lease_watch_look(&keeper.lease);
			look_ms = now_ms() + look_period_ms();
			if (event == ISCSI_EVENT_NONE)
				event = ISCSI_EVENT_UNSURE;
		}
		if (event == ISCSI_EVENT_CONN_LOST)
			reconnect(iscsi_error_name(error), error);
		else if (event == ISCSI_EVENT_UNSURE && !iscsi_netlink_is_up(&keeper.netlink))
			reconnect("seen late", 0);
	}
}

static void keeper_run(void)
{
	struct keeper_session session;
	struct complaint complaint = {{0}, 0};
	int r;

	while ((r = iscsi_netlink_open(&keeper.netlink)) != 0 ||
	       (r = iscsi_netlink_create(&keeper.netlink, keeper.wish.cmdsn)) != 0) {
		complain_again(&complaint, "the kernel's iSCSI initiator can't be used: %s%s",
			       strerror(-r),
			       r == -EPROTONOSUPPORT || r == -ENOENT
				       ? "; is the module iscsi_tcp in the initramfs?"
				       : "");
		iscsi_netlink_destroy(&keeper.netlink);
		if (keeper.netlink.fd >= 0)
			close(keeper.netlink.fd);
		keeper.netlink.fd = -1;
		report_sleep_ms(1000);
	}
	connect_for_ever();
	session = (struct keeper_session){keeper.netlink.sid, keeper.netlink.host};
	if (write(keeper.session_fd, &session, sizeof(session)) != (ssize_t)sizeof(session))
		complain("nobody waits for the disk any more");
	arrival_init(&keeper.arrival, keeper.session_fd, keeper.run_fd, keeper.is_first);
	watch();
}

int keeper_start(const struct settings *settings, char *argv[], int udhcpc_pid, int udhcpc_fd,
		 struct keeper *ret_keeper)
{
	int pipe_fds[2], pid;

	keeper.settings = settings;
	for (unsigned i = 0; i < settings->portal_count; i++)
		keeper.portals[i].portal = settings->portals[i];
	wish_fill(settings, &keeper.wish);
	keeper.netlink = (struct iscsi_netlink){.fd = -1};
	keeper.netlink.sysfs_fd = open("/sys", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (keeper.netlink.sysfs_fd < 0 || pipe2(pipe_fds, O_CLOEXEC))
		return -errno;
	lease_watch_init(&keeper.lease, udhcpc_pid, udhcpc_fd);
	keeper.run_fd = open("/run", O_PATH | O_DIRECTORY | O_CLOEXEC);
	keeper.is_first = getpid() == 1;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		close(pipe_fds[0]);
		keeper.session_fd = pipe_fds[1];
		become_keeper(argv);
		keeper_run();
		_exit(1);
	}
	close(pipe_fds[1]);
	close(keeper.netlink.sysfs_fd);
	close(keeper.run_fd);
	*ret_keeper = (struct keeper){.pid = pid, .session_fd = pipe_fds[0]};
	return 0;
}

int keeper_wait(struct keeper *process, int timeout_ms, struct keeper_session *ret_session)
{
	struct pollfd wait = {.fd = process->session_fd, .events = POLLIN};
	int r = poll(&wait, 1, timeout_ms);

	if (r == 0 || (r < 0 && errno == EINTR))
		return -EAGAIN;
	if (r < 0)
		return -errno;
	if (read(process->session_fd, ret_session, sizeof(*ret_session)) !=
	    (ssize_t)sizeof(*ret_session))
		return -ECHILD;
	return 0;
}
