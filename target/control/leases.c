/*
 * What lunbootd keeps with us: the addresses that it has given out (in the catalogue, so that a Pi
 * has the same one after a restart of both), and what it says of itself, which is worth nothing
 * after a restart and so only in memory.
 */
#include "control/control_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static json_t *reply_lease(const struct lease *lease)
{
	return json_pack("{s:s, s:s, s:o, s:s}", "mac", lease->mac, "address", lease->address,
			 "until", reply_time(lease->until), "hostname", lease->hostname);
}

static int on_lease(void *arg, const struct lease *lease)
{
	return json_array_append_new(arg, reply_lease(lease)) < 0 ? -ENOMEM : 0;
}

static int handle_leases(struct control *control, json_t **ret_body, struct api_error *err)
{
	struct store_error why = {""};
	json_t *list = json_array();
	int r = catalog_load_leases(control->catalog, on_lease, list, &why);

	if (r < 0) {
		json_decref(list);
		return api_error_world(err, r, why.text);
	}
	*ret_body = json_pack("{s:o}", "leases", list);
	return 0;
}

static int lease_read(const struct api_call *call, struct lease *lease, struct api_error *err)
{
	const char *address = json_string_value(json_object_get(call->json, "address"));
	const char *hostname = json_string_value(json_object_get(call->json, "hostname"));
	struct in_addr binary;
	int64_t until_ms = 0;

	if (inet_pton(AF_INET, address, &binary) != 1)
		return api_error_set(err, 400, "invalid", "write it as 10.0.0.17",
				     "address \"%.80s\" is no IPv4 address", address);
	if (hostname && hostname[0] && !name_valid(hostname))
		return api_error_set(err, 400, "invalid", "leave it out, or give a DNS label",
				     "hostname \"%.80s\" is no host's name", hostname);
	memcpy(lease->mac, call->key, sizeof(lease->mac));
	(void)inet_ntop(AF_INET, &binary, lease->address, sizeof(lease->address));
	(void)snprintf(lease->hostname, sizeof(lease->hostname), "%s", hostname ? hostname : "");
	(void)time_parse_ms(json_string_value(json_object_get(call->json, "until")), &until_ms);
	lease->until = until_ms / 1000;
	return 0;
}

static int handle_lease_put(struct control *control, const struct api_call *call, json_t **ret_body,
			    struct api_error *err)
{
	struct store_error why = {""};
	struct lease lease;
	int r = lease_read(call, &lease, err);

	if (r < 0)
		return r;
	r = catalog_put_lease(control->catalog, &lease, time(NULL), &why);
	if (r == -EEXIST)
		return api_error_set(err, 409, "exists", "give another address",
				     "%s is leased to another Pi", lease.address);
	if (r == -EMFILE)
		return api_error_set(err, 409, "limit", "remove leases that are not needed",
				     "there are %u leases, no more can be kept", LIMIT_LEASES);
	if (r < 0)
		return api_error_world(err, r, why.text);
	*ret_body = json_pack("{s:o}", "lease", reply_lease(&lease));
	return 0;
}

static int handle_lease_delete(struct control *control, const struct api_call *call,
			       json_t **ret_body, struct api_error *err)
{
	struct store_error why = {""};
	int r = catalog_delete_lease(control->catalog, call->key, &why);

	if (r == -ENOENT)
		return api_error_set(err, 404, "not_found", "GET /v1/leases lists those there are",
				     "there is no lease of %s", call->key);
	if (r < 0)
		return api_error_world(err, r, why.text);
	*ret_body = json_pack("{s:[s]}", "removed", call->key);
	return 0;
}

static void handle_bootd_put(struct control *control, const struct api_call *call,
			     json_t **ret_body)
{
	json_decref(control->bootd);
	control->bootd = json_incref(call->json);
	control->bootd_seen = time(NULL);
	*ret_body = json_pack("{s:o}", "seen", reply_time(control->bootd_seen));
}

static void handle_bootd(struct control *control, json_t **ret_body)
{
	json_t *bootd = control->bootd ? json_copy(control->bootd) : json_null();

	if (control->bootd)
		json_object_set_new(bootd, "seen", reply_time(control->bootd_seen));
	*ret_body = json_pack("{s:o}", "bootd", bootd);
}

int leases_handle(struct control *control, const struct api_call *call, json_t **ret_body,
		  struct api_error *err)
{
	switch (call->op) {
	case API_LEASES: return handle_leases(control, ret_body, err);
	case API_LEASE_PUT: return handle_lease_put(control, call, ret_body, err);
	case API_LEASE_DELETE: return handle_lease_delete(control, call, ret_body, err);
	case API_BOOTD_PUT: handle_bootd_put(control, call, ret_body); return 0;
	default: handle_bootd(control, ret_body); return 0;
	}
}
