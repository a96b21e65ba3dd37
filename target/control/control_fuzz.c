/*
 * Fuzzes what a client of the control socket can say: method, path, query and body through the
 * functions that http.c gives them to. Input: a method byte, then "path\n", "query\n", body.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "control/control_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of the bytes up to the next newline; NULL without one. */
static char *take_line(const uint8_t **data, size_t *size)
{
	const uint8_t *end = memchr(*data, '\n', *size);
	size_t bytes = end ? (size_t)(end - *data) : 0;
	char *line;

	if (!end)
		return NULL;
	line = strndup((const char *)*data, bytes);
	*data += bytes + 1;
	*size -= bytes + 1;
	return line;
}

/* What the rest of the room relies on. */
static void check_call(const struct api_call *call)
{
	assert(call->op <= API_JOB_CANCEL);
	assert(call->name[0] == '\0' || name_valid(call->name));
	assert(call->new_name[0] == '\0' || name_valid(call->new_name));
	assert(call->base[0] == '\0' || name_valid(call->base));
	assert(call->path[0] == '\0' || call->path[0] == '/');
	assert(call->size_bytes <= LIMIT_DISK_BYTES && call->data_bytes <= LIMIT_DISK_BYTES);
	assert(call->size_bytes % STORE_BLOCK_BYTES == 0);
	assert(call->lun < LIMIT_LUNS_PER_NODE);
	assert(strlen(call->serial) < sizeof(call->serial));
	assert(call->mac[0] == '\0' || strlen(call->mac) == sizeof(call->mac) - 1);
	if (call->op == API_NODE_CLONE)
		assert(name_valid(call->name) && name_valid(call->base) &&
		       name_valid(call->hostname));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct api_error err = {0};
	struct api_call call;
	char *path, *query;
	unsigned method;

	if (size == 0)
		return 0;
	method = data[0] % 4;
	data++;
	size--;
	path = take_line(&data, &size);
	query = take_line(&data, &size);
	if (path && query) {
		if (request_parse((enum api_method)method, path, query, data, size, &call, &err) ==
		    0) {
			check_call(&call);
		} else {
			assert(err.status >= 400 && err.code && err.message[0] && err.cure[0]);
		}
	}
	free(path);
	free(query);
	return 0;
}
