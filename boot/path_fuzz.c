/*
 * Any bytes as a path and as a URL's path: what is accepted is clean, relative, stays in the tree,
 * and cleaning it once more changes nothing.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "boot/path.h"

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(int r, const char *path)
{
	char again[PATH_BUFFER_BYTES], framed[PATH_BUFFER_BYTES + 2];
	size_t bytes;

	if (r < 0) {
		assert(r == -EINVAL || r == -EACCES || r == -ENOENT || r == -ENAMETOOLONG);
		return;
	}
	bytes = strlen(path);
	assert(bytes > 0 && bytes <= LIMIT_BOOT_PATH_BYTES && utf8_clean(path, bytes));
	assert(!strchr(path, '\\'));
	framed[0] = '/';
	memcpy(framed + 1, path, bytes);
	memcpy(framed + 1 + bytes, "/", 2);
	assert(!strstr(framed, "/../") && !strstr(framed, "/./") && !strstr(framed, "//"));
	assert(path_clean(path, bytes, again) == 0 && strcmp(path, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[PATH_BUFFER_BYTES];
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	judge(path_clean(text, size, path), path);
	judge(path_clean_url(text, path), path);
	free(text);
	return 0;
}
