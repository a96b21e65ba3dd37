/*
 * Any bytes as a kernel: what is found is fit to be the name of a folder.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "boot/blob.h"
#include "boot/kernel_version.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blob *blob = blob_copy(data, size);
	struct boot_error error = {""};
	struct kernel_info info;
	int res;

	assert(blob);
	res = kernel_info(blob, &info, &error);
	if (res == 0)
		assert(kernel_version_clean(info.version) && !strchr(info.version, '/'));
	else
		assert(res == -EINVAL && *error.text);
	blob_unref(blob);
	return 0;
}
