/*
 * Loading modules, compressed ones too: newer kernels unpack them by themselves, for others
 * busybox does, if it can (.xz and .gz).
 */
#include "initramfs/modules.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "initramfs/console.h"
#include "initramfs/run.h"

#define MODULES_DIR          "/lib/modules/"
#define LIST_BYTES_MAX       32768
#define PARAMETERS_BYTES_MAX 1024
#define INIT_COMPRESSED_FILE 4 /* MODULE_INIT_COMPRESSED_FILE, since Linux 5.17 */

static bool ends_with(const char *text, const char *end)
{
	size_t text_bytes = strlen(text), end_bytes = strlen(end);

	return text_bytes >= end_bytes && strcmp(text + text_bytes - end_bytes, end) == 0;
}

/* --- parameters --- */

static bool is_dash(char c)
{
	return c == '-' || c == '_';
}

static bool same_name(const char *a, const char *b, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (a[i] != b[i] && !(is_dash(a[i]) && is_dash(b[i])))
			return false;
	}
	return true;
}

void modules_parameters(const char *cmdline, const char *path, char *ret_text, size_t bytes)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t name_bytes = strcspn(name, "."), used = 0;

	ret_text[0] = '\0';
	while (*cmdline) {
		size_t word_bytes;

		cmdline += strspn(cmdline, " \t\n");
		word_bytes = strcspn(cmdline, " \t\n");
		if (word_bytes > name_bytes + 1 && cmdline[name_bytes] == '.' &&
		    same_name(cmdline, name, name_bytes)) {
			size_t parameter_bytes = word_bytes - name_bytes - 1;

			if (used + parameter_bytes + 2 <= bytes) {
				memcpy(ret_text + used, cmdline + name_bytes + 1, parameter_bytes);
				used += parameter_bytes;
				ret_text[used++] = ' ';
				ret_text[used] = '\0';
			}
		}
		cmdline += word_bytes;
	}
}

/* --- loading --- */

static int load_fd(int fd, const char *parameters, int flags)
{
	return syscall(SYS_finit_module, fd, parameters, flags) ? -errno : 0;
}

/* Unpacked by a program into memory. */
static int load_unpacked(const char *path, const char *parameters, const char *program)
{
	int AUTO_CLOSE fd = memfd_create("module", MFD_CLOEXEC);
	char *argv[] = {"/bin/busybox", (char *)program, "-c", (char *)path, NULL};
	int pid, status = 0;

	if (fd < 0)
		return -errno;
	pid = program_start(argv, fd);
	if (pid < 0)
		return pid;
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return -ENOEXEC;
	return load_fd(fd, parameters, 0);
}

static int load(const char *path, const char *parameters)
{
	int AUTO_CLOSE fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	if (ends_with(path, ".ko"))
		return load_fd(fd, parameters, 0);
	r = load_fd(fd, parameters, INIT_COMPRESSED_FILE);
	if (r == 0 || r == -EEXIST)
		return r;
	if (ends_with(path, ".xz"))
		return load_unpacked(path, parameters, "xzcat");
	if (ends_with(path, ".gz"))
		return load_unpacked(path, parameters, "zcat");
	return r;
}

static void load_listed(const char *name, const char *cmdline)
{
	char path[512], parameters[PARAMETERS_BYTES_MAX];
	int r;

	if ((size_t)snprintf(path, sizeof(path), MODULES_DIR "%s", name) >= sizeof(path)) {
		complain("%s: a module's name is too long", MODULES_LIST);
		return;
	}
	modules_parameters(cmdline, name, parameters, sizeof(parameters));
	r = load(path, parameters);
	/* Present already, built in, or made for hardware that is not here. */
	if (r == 0 || r == -EEXIST || r == -ENODEV)
		return;
	complain("module %s can't be loaded: %s%s", name, strerror(-r),
		 r == -ENOENT    ? " (it is not in the initramfs, or one that it needs is not)"
		 : r == -ENOEXEC ? " (is it made for this kernel?)"
				 : "");
}

void modules_load(const char *cmdline)
{
	static char list[LIST_BYTES_MAX];
	char *rest = list, *line;
	ssize_t bytes = file_read(MODULES_LIST, list, sizeof(list));

	/* A kernel with everything built in needs no list. */
	if (bytes < 0)
		return;
	if ((size_t)bytes == sizeof(list) - 1)
		complain("%s is longer than %d bytes; its end is left out", MODULES_LIST,
			 LIST_BYTES_MAX);
	while ((line = strsep(&rest, "\n"))) {
		if (line[0] && line[0] != '#')
			load_listed(line, cmdline);
	}
}
