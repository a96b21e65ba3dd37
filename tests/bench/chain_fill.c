/*
 * Gives layer files block maps as if much had been written to them: for measuring what a chain of
 * them costs a daemon. The daemon must not run. There is no data: all of it reads as zeros.
 *
 * usage: chain_fill touched|scattered LAYER...      as of chain_clones
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "chain_map.h"

static int fill(const char *path, bool scattered, struct store_error *err)
{
	struct layer_header header;
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CLOEXEC);
	bool agree;
	int r;

	if (fd < 0)
		return store_fail(err, -errno, "%s: %s", path, strerror(errno));
	r = layer_header_read(fd, path, &header, &agree, err);
	if (r < 0)
		return r;
	r = chain_map_write(fd, header.uuid, layer_layout(le64_get(header.size_bytes)).block_count,
			    scattered);
	return r < 0 ? store_fail(err, r, "%s: %s", path, strerror(-r)) : 0;
}

int main(int argc, char **argv)
{
	struct store_error err;

	if (argc < 3) {
		(void)fprintf(stderr, "usage: chain_fill touched|scattered LAYER...\n");
		return 2;
	}
	for (int i = 2; i < argc; i++) {
		if (fill(argv[i], strcmp(argv[1], "scattered") == 0, &err) < 0) {
			(void)fprintf(stderr, "%s\n", err.text);
			return 1;
		}
	}
	return 0;
}
