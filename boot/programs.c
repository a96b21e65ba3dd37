/* Candidates, and the first that is there. */
#include "programs.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

/* One static program serves all 32-bit Pis if it is made for the oldest. */
static const char *const arch_names[KERNEL_OTHER] = {
	[KERNEL_ARM64] = "arm64", [KERNEL_ARM32] = "armel", [KERNEL_X86] = "amd64"};

static const char *const usual[] = {
	"../boot-programs",   /* a build folder, filled by tools/boot-programs */
	"../libexec/lunroot", /* installed */
	"../lib/lunroot",
};

static bool is_there(const char *folder, const char *name, const char *suffix, char *ret_path)
{
	int n = snprintf(ret_path, PATH_MAX, "%s/%s%s", folder, name, suffix);

	if (n > 0 && n < PATH_MAX && access(ret_path, X_OK) == 0)
		return true;
	ret_path[0] = '\0';
	return false;
}

/* The folder of this very program, without the slash. */
static void own_folder(char ret_path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", ret_path, PATH_MAX - 1);
	char *slash;

	ret_path[n > 0 ? n : 0] = '\0';
	slash = strrchr(ret_path, '/');
	if (slash)
		*slash = '\0';
}

static void look_into(const char *folder, struct programs *programs)
{
	if (!programs->mkinitramfs[0])
		(void)is_there(folder, "mkinitramfs", "", programs->mkinitramfs);
	for (unsigned arch = 0; arch < KERNEL_OTHER; arch++) {
		if (!programs->init[arch][0])
			(void)is_there(folder, "lunroot-init-", arch_names[arch],
				       programs->init[arch]);
		if (!programs->busybox[arch][0])
			(void)is_there(folder, "busybox-", arch_names[arch],
				       programs->busybox[arch]);
	}
}

void programs_find(const char *dir, struct programs *ret_programs)
{
	char own[PATH_MAX], folder[2 * PATH_MAX];

	memset(ret_programs, 0, sizeof(*ret_programs));
	own_folder(own);
	if (dir[0]) {
		look_into(dir, ret_programs);
	} else {
		for (size_t i = 0; i < ARRAY_COUNT(usual); i++) {
			(void)snprintf(folder, sizeof(folder), "%s/%s", own, usual[i]);
			look_into(folder, ret_programs);
		}
	}
	/* The source tree's, of a build folder within it. */
	for (unsigned up = 0; up < 3 && !ret_programs->mkinitramfs[0]; up++) {
		(void)snprintf(folder, sizeof(folder), "%s/../..%s/tools", own,
			       up == 0   ? ""
			       : up == 1 ? "/.."
					 : "/../..");
		(void)is_there(folder, "mkinitramfs", "", ret_programs->mkinitramfs);
	}
}
