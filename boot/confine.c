/* Capabilities by libcap-ng, writing by Landlock. */
#include "confine.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* Since Linux 6.2; headers of before do not know it. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#define ABI_TRUNCATE 3

#define WRITING                                                          \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
	 LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | \
	 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |     \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |   \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

/* --- who we are --- */

int confine_choose(char *user, size_t bytes, const char *socket_path)
{
	const struct passwd *pw;
	struct stat st;

	if (user[0] && !getpwnam(user)) {
		log_error("user %s does not exist; make it with: useradd --system %s", user, user);
		return -ENOENT;
	}
	if (user[0] || geteuid() != 0)
		return 0;
	if (stat(socket_path, &st) < 0) {
		log_warn("lunbootd stays root, without most of its rights, because lunrootd's "
			 "socket "
			 "%s is not there yet: start lunrootd first, or name its user with --user",
			 socket_path);
		return 0;
	}
	pw = st.st_uid == 0 ? NULL : getpwuid(st.st_uid);
	if (pw && strlen(pw->pw_name) < bytes) {
		log_info("lunbootd becomes user %s, as lunrootd is", pw->pw_name);
		memcpy(user, pw->pw_name, strlen(pw->pw_name) + 1);
	} else {
		log_warn("lunbootd stays root, without most of its rights, as lunrootd is: give "
			 "lunrootd a user of its own (useradd --system lunroot; lunrootd --user "
			 "lunroot), and lunbootd follows; --user root ends this warning");
	}
	return 0;
}

static int rights_keep(bool low_ports)
{
	const capng_type_t sets = CAPNG_EFFECTIVE | CAPNG_PERMITTED;
	int r;

	capng_clear(CAPNG_SELECT_BOTH);
	r = capng_updatev(CAPNG_ADD, sets, CAP_NET_RAW, CAP_NET_ADMIN, -1);
	if (r == 0 && low_ports)
		r = capng_update(CAPNG_ADD, sets, CAP_NET_BIND_SERVICE);
	return r < 0 ? -EINVAL : 0;
}

static int become(const char *user, bool low_ports)
{
	const struct passwd *pw = getpwnam(user);
	int r = pw ? rights_keep(low_ports) : -ENOENT;

	if (r == 0 && capng_change_id((int)pw->pw_uid, (int)pw->pw_gid,
				      CAPNG_INIT_SUPP_GRP | CAPNG_CLEAR_BOUNDING) != 0)
		r = -EPERM;
	if (r < 0)
		log_error("can't become user %s; start lunbootd as root, or as that user with the "
			  "capabilities net_bind_service, net_raw and net_admin",
			  user);
	return r;
}

/* Root without root's rights; otherwise whoever started us has chosen them. */
static int stay(bool low_ports)
{
	int r;

	if (geteuid() != 0)
		return 0;
	r = rights_keep(low_ports);
	if (r == 0 && (capng_lock() != 0 || capng_apply(CAPNG_SELECT_BOTH) != 0))
		r = -EPERM;
	if (r < 0)
		log_error("root's rights can't be given up: %s", strerror(errno));
	return r;
}

/* --- what may be written --- */

static int allow(int ruleset, const char *path, uint64_t access)
{
	int AUTO_CLOSE fd = open(path, O_PATH | O_CLOEXEC);
	const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

	if (fd < 0)
		return -errno;
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

static int landlock_create(const struct landlock_ruleset_attr *attr, size_t bytes, uint32_t flags)
{
	return (int)syscall(SYS_landlock_create_ruleset, attr, bytes, flags);
}

static int write_only_below(const char *run_dir)
{
	int abi = landlock_create(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	uint64_t writing = WRITING | (abi >= ABI_TRUNCATE ? LANDLOCK_ACCESS_FS_TRUNCATE : 0);
	const struct landlock_ruleset_attr attr = {.handled_access_fs = writing};
	int AUTO_CLOSE ruleset = landlock_create(&attr, sizeof(attr), 0);
	int r;

	if (ruleset < 0) {
		log_info("this kernel has no Landlock (%s): only its user's rights keep lunbootd "
			 "from writing elsewhere than in %s",
			 strerror(errno), run_dir);
		return 0;
	}
	r = allow(ruleset, run_dir, writing);
	if (r == 0)
		r = allow(ruleset, "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	if (r < 0)
		log_error("writing can't be restricted to %s: %s", run_dir, strerror(-r));
	return r;
}

int confine(const char *user, const char *run_dir, bool low_ports)
{
	int r = user[0] ? become(user, low_ports) : stay(low_ports);

	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	return r < 0 ? r : write_only_below(run_dir);
}
