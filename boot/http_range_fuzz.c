/*
 * Any text as a Range header of files of any size: what is accepted lies in the file.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/http_range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t sizes[] = {0, 1, 10, 1ull << 32, UINT64_MAX};
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t first = 0, bytes = 0;
		int r = http_range_parse(text, sizes[i], &first, &bytes);

		assert(r == 0 || r == -ENOENT || r == -ERANGE);
		if (r == 0)
			assert(bytes > 0 && first < sizes[i] && bytes <= sizes[i] - first);
	}
	free(text);
	return 0;
}
