/*
 * What a confined process can't do: each forbidden write is tried, in a child, and so is each one
 * that it needs. Whoever runs the test owns all files, so nothing but the confinement is in the
 * way.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "boot/confine.h"

#define ABI_TRUNCATE 3

static char top[] = "/tmp/confine_test.XXXXXX";
static int abi;

/* --- what is tried: each in a folder with "file", "other", "link", "empty" --- */

static int opened(const char *path, int flags)
{
	int AUTO_CLOSE fd = open(path, flags | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : 0;
}

static int done(int r)
{
	return r < 0 ? -errno : 0;
}

static int creates(void)
{
	return opened("new", O_WRONLY | O_CREAT | O_EXCL);
}

static int writes(void)
{
	return opened("file", O_WRONLY);
}

static int appends(void)
{
	return opened("link", O_RDWR | O_APPEND);
}

static int renames(void)
{
	return done(rename("other", "renamed"));
}

static int replaces(void)
{
	return done(rename("renamed", "file"));
}

static int links(void)
{
	return done(link("file", "second"));
}

static int links_by_name(void)
{
	return done(symlink("file", "third"));
}

static int removes(void)
{
	return done(unlink("file"));
}

static int makes_folder(void)
{
	return done(mkdir("folder", 0700));
}

static int removes_folder(void)
{
	return done(rmdir("empty"));
}

static int makes_pipe(void)
{
	return done(mknod("pipe", S_IFIFO | 0600, 0));
}

static int makes_socket(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX, .sun_path = "socket"};
	int AUTO_CLOSE fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? -EBADF : done(bind(fd, (const struct sockaddr *)&at, sizeof(at)));
}

static int truncates(void)
{
	return done(truncate("file", 1));
}

/* What needs no right to write where the right to truncate is not known. */
static int empties(void)
{
	return opened("file", O_RDONLY | O_TRUNC);
}

/* In this order: what comes later works with what is left. */
static const struct attempt {
	const char *name;
	int (*run)(void);
	int since_abi;
} attempts[] = {
	{"create a file", creates, 1},
	{"write into one", writes, 1},
	{"append through a link", appends, 1},
	{"truncate", truncates, ABI_TRUNCATE},
	{"open to truncate", empties, ABI_TRUNCATE},
	{"rename", renames, 1},
	{"rename over another", replaces, 1},
	{"link", links, 1},
	{"make a symbolic link", links_by_name, 1},
	{"unlink", removes, 1},
	{"make a folder", makes_folder, 1},
	{"remove a folder", removes_folder, 1},
	{"make a pipe", makes_pipe, 1},
	{"make a socket", makes_socket, 1},
};

/* --- in the child, which says on standard error what went wrong --- */

static bool complain(const char *what, const char *where, int r)
{
	(void)fprintf(stderr, "%s %s: %s\n", what, where, r ? strerror(-r) : "it can");
	return false;
}

static bool all_fail(const char *folder)
{
	bool good = chdir(folder) == 0;

	for (size_t i = 0; i < ARRAY_COUNT(attempts); i++) {
		int r = attempts[i].since_abi > abi ? -EACCES : attempts[i].run();

		/* What an attempt before should have made is not there. */
		if (r != -EACCES && !(attempts[i].run == replaces && r == -ENOENT))
			good = complain(attempts[i].name, folder, r);
	}
	return good;
}

static bool all_succeed(const char *folder)
{
	bool good = chdir(folder) == 0;

	for (size_t i = 0; i < ARRAY_COUNT(attempts); i++) {
		int r = attempts[i].run();

		if (r < 0)
			good = complain(attempts[i].name, folder, r);
	}
	return good;
}

/* Neither in nor out. */
static bool nothing_moves(void)
{
	static const char *const ways[][2] = {{"outside/file", "inside/moved"},
					      {"inside/kept", "outside/moved"},
					      {"outside/other", "inside/kept"},
					      {"inside/kept", "outside/other"}};
	bool good = chdir(top) == 0;

	for (size_t i = 0; i < ARRAY_COUNT(ways); i++) {
		if (rename(ways[i][0], ways[i][1]) == 0)
			good = complain("rename to", ways[i][1], 0);
		if (link(ways[i][0], ways[i][1]) == 0)
			good = complain("link to", ways[i][1], 0);
	}
	return good;
}

static bool as_wanted(void)
{
	bool good = all_fail("outside");

	good &= chdir(top) == 0 && all_fail(".");
	good &= nothing_moves();
	good &= chdir(top) == 0 && all_succeed("inside");
	/* As a shell does for 2>/dev/null. */
	if (opened("/dev/null", O_WRONLY | O_CREAT | O_TRUNC) < 0)
		good = complain("write to", "/dev/null", -errno);
	if (opened("../outside/file", O_RDONLY) < 0)
		good = complain("read", "outside", -errno);
	return good;
}

/* --- */

static void file_make(const char *path)
{
	int AUTO_CLOSE fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "text", 4), 4);
}

static void folder_fill(const char *folder)
{
	assert_int_equal(chdir(folder), 0);
	file_make("file");
	file_make("other");
	file_make("kept");
	assert_int_equal(symlink("kept", "link"), 0);
	assert_int_equal(mkdir("empty", 0700), 0);
	assert_int_equal(chdir(top), 0);
}

static int folders_make(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(top));
	assert_int_equal(chdir(top), 0);
	assert_int_equal(mkdir("inside", 0700), 0);
	assert_int_equal(mkdir("outside", 0700), 0);
	folder_fill(".");
	folder_fill("inside");
	folder_fill("outside");
	return 0;
}

static int folders_remove(void **state)
{
	char command[sizeof(top) + 16];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf %s", top);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static void writes_in_one_folder_alone(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(confine("", "inside", false) == 0 && as_wanted() ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_in_one_folder_alone, folders_make,
						folders_remove),
	};

	abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 0) {
		(void)printf("skipped: this kernel has no Landlock (%s)\n", strerror(errno));
		return 77;
	}
	if (abi < ABI_TRUNCATE)
		(void)printf("this kernel's Landlock lets files be truncated: not tried\n");
	log_init("confine_test", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("boot_confine", tests, NULL, NULL);
}
