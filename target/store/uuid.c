/*
 * UUIDs, by libuuid.
 */
#include <ctype.h>
#include <string.h>

#include <uuid/uuid.h>

#include "store/store.h"

void store_uuid_generate(store_uuid_t *ret_uuid)
{
	uuid_generate_random(ret_uuid->b);
}

void store_uuid_format(const store_uuid_t *uuid, char ret_text[STORE_UUID_TEXT_BYTES])
{
	uuid_unparse_lower(uuid->b, ret_text);
}

bool store_uuid_parse(const char *text, store_uuid_t *ret_uuid)
{
	uuid_t uuid;

	if (uuid_parse(text, uuid) != 0)
		return false;
	memcpy(ret_uuid->b, uuid, sizeof(uuid));
	return true;
}
