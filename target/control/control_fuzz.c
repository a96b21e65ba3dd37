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
	assert(call->op <= API_BOOTD_PUT);
	assert(call->name[0] == '\0' || name_valid(call->name));
	assert(call->new_name[0] == '\0' || name_valid(call->new_name));
	assert(call->base[0] == '\0' || name_valid(call->base));
	assert(call->path[0] == '\0' || call->path[0] == '/');
	assert(call->size_bytes <= LIMIT_DISK_BYTES && call->data_bytes <= LIMIT_DISK_BYTES);
	assert(call->size_bytes % STORE_BLOCK_BYTES == 0);
	assert(call->lun < LIMIT_LUNS_PER_NODE);
	assert(strlen(call->serial) < sizeof(call->serial));
	assert(call->mac[0] == '\0' || strlen(call->mac) == sizeof(call->mac) - 1);
	assert(call->snapshot[0] == '\0' || name_valid(call->snapshot));
	if (call->op == API_SNAPSHOT_MAKE || call->op == API_SNAPSHOT_DELETE ||
	    call->op == API_NODE_ROLLBACK)
		assert(name_valid(call->name) && name_valid(call->snapshot));
	if (call->op == API_NODE_PROMOTE)
		assert(name_valid(call->name) && name_valid(call->new_name));
	assert(call->length <= LIMIT_DATA_BYTES && call->offset <= LIMIT_DISK_BYTES);
	if (call->op == API_LUN_DATA || call->op == API_IMAGE_DATA)
		assert(name_valid(call->name) && call->length > 0);
	if (call->op == API_NODE_BOOT)
		assert(name_valid(call->name) && boot_id_valid(call->boot));
	if (call->op == API_NODE_IDENTITY)
		assert(name_valid(call->name) &&
		       (call->serial_given || call->mac_given || call->address_given));
	for (const char *p = call->serial; *p; p++)
		assert((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9'));
	if (call->op == API_NODE_RESIZE)
		assert(name_valid(call->name) && call->size_bytes > 0);
	assert(strlen(call->key) < sizeof(call->key));
	assert(boot_has_body(call->op) == (call->json != NULL));
	if (call->op == API_BOOT || call->op == API_BOOT_PUT || call->op == API_BOOT_EVENTS)
		assert(strspn(call->key, "0123456789abcdef") == 16 && call->key[16] == '\0');
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
	method = data[0] % 5;
	data++;
	size--;
	path = take_line(&data, &size);
	query = take_line(&data, &size);
	if (path && query) {
		if (request_parse((enum api_method)method, path, query, data, size, &call, &err) ==
		    0) {
			check_call(&call);
			request_done(&call);
		} else {
			assert(err.status >= 400 && err.code && err.message[0] && err.cure[0]);
		}
	}
	free(path);
	free(query);
	return 0;
}
