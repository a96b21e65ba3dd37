/*
 * The verbs about a node's boot: initramfs. The daemon says who the node is and where its disk is
 * served; tools/mkinitramfs makes the archive. The settings hold secrets, so they go from here to
 * there in memory, and what is written has mode 0600.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/node_conf.h"
#include "base/portal.h"
#include "lunctl.h"
#include "output.h"

enum {
	INITRAMFS_MODULES,
	INITRAMFS_PORTAL,
	INITRAMFS_REPORT,
	INITRAMFS_BOARD,
	INITRAMFS_ADD_MODULE,
	INITRAMFS_OVERLAY,
	INITRAMFS_INIT,
	INITRAMFS_BUSYBOX,
	INITRAMFS_E2FSCK,
	INITRAMFS_COMPRESS,
	INITRAMFS_VERBOSE,
};

#define TOKEN_DIGITS 32
#define REPORT_BYTES 128 /* an IPv6 address with its scope, a port, a token */
/* Each option with its value, the settings, the output, the program and the end. */
#define ARGUMENTS_MAX (2 * LUNCTL_OPTIONS_MAX + 5)

/* --- the settings --- */

static bool is_loopback(const char *portal)
{
	return portal_is_loopback(portal) || strncmp(portal, "localhost", 9) == 0;
}

/* Where the node finds the server: as the person says, else as the daemon does. */
static int find_portal(const struct request *request, char *ret_portal, size_t bytes)
{
	const char *given = request->values[INITRAMFS_PORTAL], *portal;
	json_t *answer = NULL;
	char target[160];
	int r;

	if (given) {
		if (strpbrk(given, " \t\r\n#;=") || strlen(given) >= bytes)
			return usage_error("--portal %.80s: HOST, HOST:PORT or [IPv6]:PORT is "
					   "wanted",
					   given);
		(void)snprintf(ret_portal, bytes, "%s", given);
		return 0;
	}
	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/url", request->operands[0]);
	r = api_call(request, "GET", target, NULL, &answer);
	if (r != 0)
		return r;
	portal = get_text(answer, "portal");
	if (is_loopback(portal)) {
		r = complain("lunrootd listens on a loopback address, which no other machine "
			     "reaches",
			     "start it with --portal ADDRESS, or say here with --portal ADDRESS "
			     "what the node shall use");
	} else if (!portal[0] || strlen(portal) >= bytes) {
		r = complain("the daemon names no portal", "--portal ADDRESS names one");
	} else {
		(void)snprintf(ret_portal, bytes, "%s", portal);
	}
	json_decref(answer);
	return r;
}

/* ADDRESS:PORT/TOKEN, by its form: lunroot-init reads the address and refuses a name. */
static bool report_is_wrong(const char *report)
{
	const char *slash = strrchr(report, '/');

	return strpbrk(report, " \t\r\n#;=,") || strlen(report) > REPORT_BYTES || !slash ||
	       slash == report || strlen(slash + 1) != TOKEN_DIGITS ||
	       strspn(slash + 1, "0123456789abcdefABCDEF") != TOKEN_DIGITS;
}

static int write_settings(const json_t *node, const char *portal, const char *report,
			  struct node_conf *conf)
{
	const json_t *credentials = json_object_get(node, "credentials");
	const char *hostname = get_text(node, "hostname");

	node_conf_put(conf, "portal", portal);
	node_conf_put(conf, "target", get_text(node, "iqn"));
	node_conf_put(conf, "initiator", get_text(node, "initiator"));
	node_conf_put(conf, "hostname", hostname[0] ? hostname : get_text(node, "name"));
	node_conf_put(conf, "user", get_text(credentials, "user"));
	node_conf_put(conf, "secret", get_text(credentials, "secret"));
	node_conf_put(conf, "mutual_user", get_text(credentials, "mutual_user"));
	node_conf_put(conf, "mutual_secret", get_text(credentials, "mutual_secret"));
	node_conf_put(conf, "report", report);
	if (conf->bad || !get_text(node, "iqn")[0] ||
	    (get_bool(node, "auth") && !get_text(credentials, "secret")[0]))
		return complain("the daemon's answer does not make a node's settings",
				"are lunctl and lunrootd of the same version?");
	return 0;
}

/* --- mkinitramfs --- */

/*
 * Beside lunctl in the source tree, below it in a build folder of the source tree, or installed.
 * Seen from the program itself, so that a tree can be moved.
 */
bool mkinitramfs_path(char *ret_path, size_t bytes)
{
	static const char *const places[] = {
		"mkinitramfs",
		"../../tools/mkinitramfs",
		"../../../../tools/mkinitramfs", /* build/check/gcc/tools */
		"../libexec/lunroot/mkinitramfs",
		"../lib/lunroot/mkinitramfs",
	};
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < ARRAY_COUNT(places); i++) {
		int used =
			snprintf(ret_path, bytes, "%.*s/%s", (int)(slash - self), self, places[i]);

		if (used > 0 && (size_t)used < bytes && access(ret_path, X_OK) == 0)
			return true;
	}
	return false;
}

static int find_mkinitramfs(char *ret_path, size_t bytes)
{
	if (mkinitramfs_path(ret_path, bytes))
		return 0;
	return complain("mkinitramfs is not found beside lunctl",
			"it is tools/mkinitramfs in the source tree, libexec/lunroot/mkinitramfs "
			"where lunroot is installed");
}

/* The settings as a file that has no name. */
static int settings_fd(const struct node_conf *conf)
{
	int AUTO_CLOSE fd = memfd_create("node.conf", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (write(fd, conf->text, conf->used) != (ssize_t)conf->used)
		return -EIO;
	if (lseek(fd, 0, SEEK_SET) != 0)
		return -errno;
	return TAKE_FD(fd);
}

static int run_program(const char *const *arguments, int input_fd)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return complain("no process can be started", strerror(errno));
	if (pid == 0) {
		/* Its messages are for the person, and standard output is ours. */
		if (dup2(input_fd, STDIN_FILENO) >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0)
			(void)execv(arguments[0], (char *const *)arguments);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return complain("mkinitramfs is lost", strerror(errno));
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return complain("mkinitramfs can't be started", "it wants bash");
	/* It has said what is wrong. */
	return WIFEXITED(status) && WEXITSTATUS(status) == 2 ? EXIT_USAGE : EXIT_REFUSED;
}

static int call_mkinitramfs(const struct request *request, const struct node_conf *conf)
{
	static const struct {
		int option;
		const char *name;
	} passed[] = {
		{INITRAMFS_MODULES, "--modules"},       {INITRAMFS_BOARD, "--board"},
		{INITRAMFS_ADD_MODULE, "--add-module"}, {INITRAMFS_INIT, "--init"},
		{INITRAMFS_BUSYBOX, "--busybox"},       {INITRAMFS_E2FSCK, "--e2fsck"},
		{INITRAMFS_COMPRESS, "--compress"},     {INITRAMFS_OVERLAY, "--overlay"},
		{INITRAMFS_VERBOSE, "--verbose"},
	};
	const char *arguments[ARGUMENTS_MAX];
	char program[PATH_MAX];
	size_t count = 0;
	int AUTO_CLOSE fd = -1;
	int r = find_mkinitramfs(program, sizeof(program));

	if (r != 0)
		return r;
	fd = settings_fd(conf);
	if (fd < 0)
		return complain("no memory for the settings", strerror(-fd));
	arguments[count++] = program;
	arguments[count++] = "--node-conf";
	arguments[count++] = "/dev/stdin";
	for (size_t i = 0; i < ARRAY_COUNT(passed); i++) {
		const char *value = request->values[passed[i].option];

		if (!value)
			continue;
		arguments[count++] = passed[i].name;
		if (value[0])
			arguments[count++] = value;
	}
	/* A name like --help is a file's name here. */
	arguments[count++] = request->operands[1];
	arguments[count] = NULL;
	return run_program(arguments, fd);
}

/* --- initramfs --- */

static int tell(const struct request *request)
{
	const char *name = request->operands[0], *out = request->operands[1];
	char size[OUTPUT_SIZE_BYTES];
	struct stat st = {0};

	(void)stat(out, &st);
	if (request->json) {
		json_t *answer = json_pack("{s:s, s:s, s:I}", "node", name, "file", out, "bytes",
					   (json_int_t)st.st_size);
		int r = print_json(answer);

		json_decref(answer);
		return r;
	}
	put_text(stdout, out);
	(void)printf(": %s%s for node %s\n", size_format((uint64_t)st.st_size, size),
		     GIVEN(request, INITRAMFS_MODULES) ? "" : ", settings only,", name);
	if (GIVEN(request, INITRAMFS_MODULES))
		say_next(request,
			 "boot %s with this initramfs; keep the file to yourself, it holds the "
			 "node's secrets",
			 name);
	else
		say_next(request,
			 "cat INITRAMFS %s >initrd-%s.img; with --modules DIR lunctl makes the "
			 "whole of it",
			 out, name);
	return EXIT_DONE;
}

static int run_initramfs(const struct request *request)
{
	const char *name = request->operands[0];
	enum object_kind kind;
	struct node_conf conf = {.used = 0};
	json_t *node = NULL;
	const char *report = request->values[INITRAMFS_REPORT];
	char portal[300];
	int r;

	if (report && report_is_wrong(report))
		return usage_error("--report %.80s: ADDRESS:PORT/TOKEN is wanted, TOKEN 32 "
				   "hexadecimal digits",
				   report);
	if (!GIVEN(request, INITRAMFS_MODULES)) {
		for (int i = INITRAMFS_BOARD; i <= INITRAMFS_VERBOSE; i++) {
			if (GIVEN(request, i))
				return usage_error("initramfs: this option makes sense only with "
						   "--modules DIR, the kernel's modules");
		}
	}
	if (request->operands[1][0] == '-')
		return usage_error("%s: write ./%s for such a file name", request->operands[1],
				   request->operands[1]);
	r = find_object(request, name, true, false, true, &kind, &node);
	if (r == 0)
		r = find_portal(request, portal, sizeof(portal));
	if (r == 0)
		r = write_settings(node, portal, report ? report : "", &conf);
	if (r == 0)
		r = call_mkinitramfs(request, &conf);
	if (r == 0)
		r = tell(request);
	explicit_bzero(&conf, sizeof(conf));
	json_decref(node);
	return r;
}

const struct verb verb_initramfs = {
	.name = "initramfs",
	.operands = "NODE FILE",
	.operands_min = 2,
	.operands_max = 2,
	.help = "make what a node boots with: its initramfs, or its settings to append to one",
	.options =
		{
			[INITRAMFS_MODULES] = {"modules", "DIR",
					       "the kernel's modules: /lib/modules/VERSION"},
			[INITRAMFS_PORTAL] = {"portal", "HOST[:PORT]",
					      "where the node finds lunrootd"},
			[INITRAMFS_REPORT] = {"report", "ADDRESS:PORT/TOKEN",
					      "who is told how far its boot got"},
			[INITRAMFS_BOARD] = {"board", "pi|virt|all|none",
					     "network drivers (default: all)"},
			[INITRAMFS_ADD_MODULE] = {"add-module", "NAME",
						  "one more module and what it needs"},
			[INITRAMFS_OVERLAY] = {"overlay", NULL,
					       "overlayfs, for lunroot.overlay=tmpfs"},
			[INITRAMFS_INIT] = {"init", "FILE", "lunroot-init for that processor"},
			[INITRAMFS_BUSYBOX] = {"busybox", "FILE",
					       "static busybox for that processor"},
			[INITRAMFS_E2FSCK] = {"e2fsck", "FILE",
					      "static e2fsck: root is checked at each boot"},
			[INITRAMFS_COMPRESS] =
				{"compress", "zstd|xz|gzip|none",
				 "how it is packed (default: zstd; gzip for settings alone)"},
			[INITRAMFS_VERBOSE] = {"verbose", NULL, "what takes the room"},
		},
	.run = run_initramfs,
};
