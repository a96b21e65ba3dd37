/*
 * The verbs that say whose a node is and who may log in as it: assign, auth.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lunctl.h"
#include "output.h"

/* --- assign --- */

enum { ASSIGN_SERIAL, ASSIGN_MAC, ASSIGN_ADDRESS, ASSIGN_NONE };

static int assign_body(const struct request *request, json_t **ret_body)
{
	const char *address = request->values[ASSIGN_ADDRESS];
	json_t *body;
	int r;
	bool pi = GIVEN(request, ASSIGN_SERIAL) || GIVEN(request, ASSIGN_MAC);

	if (GIVEN(request, ASSIGN_NONE) && pi)
		return usage_error("assign: --none takes away what --serial and --mac give");
	if (!GIVEN(request, ASSIGN_NONE) && !pi && !GIVEN(request, ASSIGN_ADDRESS))
		return usage_error("assign: give --serial, --mac, --address or --none");
	body = GIVEN(request, ASSIGN_NONE) ? json_pack("{s:s, s:s}", "serial", "", "mac", "")
					   : json_object();
	r = put_string(body, "serial", request->values[ASSIGN_SERIAL]);
	if (r == 0)
		r = put_string(body, "mac", request->values[ASSIGN_MAC]);
	if (r == 0)
		r = put_string(body, "address",
			       address && strcmp(address, "none") == 0 ? "" : address);
	if (r == 0)
		*ret_body = body;
	else
		json_decref(body);
	return r;
}

static int run_assign(const struct request *request)
{
	const char *name = request->operands[0], *serial, *mac, *address;
	json_t *answer = NULL, *body = NULL;
	char target[160];
	int r;

	if (!name_valid(name))
		return usage_error("%s: no name of a node", name);
	r = assign_body(request, &body);
	if (r != 0)
		return r;
	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/identity", name);
	r = api_call(request, "POST", target, body, &answer);
	if (r != 0)
		return r;
	serial = get_text(json_object_get(answer, "node"), "serial");
	mac = get_text(json_object_get(answer, "node"), "mac");
	address = get_text(json_object_get(answer, "node"), "address");
	if (request->json) {
		r = print_json(answer);
	} else if (serial[0] || mac[0]) {
		(void)printf("node %s is the Pi with%s%s%s%s%s\n", name,
			     serial[0] ? " serial " : "", serial, serial[0] && mac[0] ? " and" : "",
			     mac[0] ? " MAC " : "", mac);
		say_next(request, "lunctl show %s", name);
	} else {
		(void)printf("node %s has no Pi\n", name);
		say_next(request, "lunctl assign %s --serial SERIAL gives it one", name);
	}
	if (!request->json && address[0])
		(void)printf("its address is %s\n", address);
	json_decref(answer);
	return r;
}

const struct verb verb_assign = {
	.name = "assign",
	.operands = "NODE",
	.operands_min = 1,
	.operands_max = 1,
	.help = "say which Pi a node is",
	.options = {[ASSIGN_SERIAL] = {"serial", "SERIAL", "the Pi's serial number"},
		    [ASSIGN_MAC] = {"mac", "MAC", "its Ethernet address"},
		    [ASSIGN_ADDRESS] = {"address", "ADDR|none",
					"what lunbootd --dhcp known gives it"},
		    [ASSIGN_NONE] = {"none", NULL, "it is none; another node may have it"}},
	.run = run_assign,
};

/* --- auth --- */

enum { AUTH_ROTATE };

static void auth_rows(struct table *table, const json_t *node)
{
	const json_t *credentials = json_object_get(node, "credentials"),
		     *boots = json_object_get(node, "boot_credentials");

	table_row(table, (const char *[]){"CREDENTIALS", "USER", "FOR", "STATE"});
	table_row(table, (const char *[]){"the node's own", get_text(credentials, "user"),
					  get_text(node, "initiator"), "good until rotated"});
	table_row(table, (const char *[]){"the operator's", get_text(credentials, "operator_user"),
					  "any initiator", "good until rotated"});
	for (size_t i = 0; i < json_array_size(boots); i++) {
		const json_t *boot = json_array_get(boots, i);
		const char *used = get_text(boot, "used");
		char what[64], state[96], age[OUTPUT_AGE_BYTES];

		(void)snprintf(what, sizeof(what), "boot %.16s", get_text(boot, "boot"));
		(void)snprintf(
			state, sizeof(state), used[0] ? "in use for %s" : "not used yet, for %s",
			age_format(used[0] ? used : get_text(boot, "issued"), time(NULL), age));
		table_row(table, (const char *[]){what, get_text(credentials, "user"),
						  get_text(node, "initiator"), state});
	}
}

static int show_auth(const struct request *request, const char *name)
{
	enum object_kind kind;
	json_t *node = NULL;
	struct table table;
	/* The user names; their secrets are not printed. */
	int r = find_object(request, name, true, false, true, &kind, &node);

	if (r != 0)
		return r;
	if (request->json) {
		json_t *credentials = json_object_get(node, "credentials");
		json_t *answer = json_pack(
			"{s:O, s:O, s:O, s:O}", "auth", json_object_get(node, "auth"), "initiator",
			json_object_get(node, "initiator"), "credentials", credentials,
			"boot_credentials", json_object_get(node, "boot_credentials"));

		(void)json_object_del(credentials, "secret");
		(void)json_object_del(credentials, "operator_secret");
		(void)json_object_del(credentials, "mutual_secret");
		r = print_json(answer);
		json_decref(answer);
	} else if (!get_bool(node, "auth")) {
		(void)printf("node %s: any initiator may log in, without CHAP\n", name);
	} else {
		table_init(&table, 4);
		auth_rows(&table, node);
		table_print(&table, stdout);
		table_done(&table);
		say_next(request, "lunctl show %s --secrets, or lunctl auth %s --rotate", name,
			 name);
	}
	json_decref(node);
	return r;
}

static int rotate(const struct request *request, const char *name)
{
	json_t *answer = NULL;
	char target[160];
	int r;

	(void)snprintf(target, sizeof(target), "/v1/nodes/%s/rotate", name);
	r = api_call(request, "POST", target, NULL, &answer);
	if (r != 0)
		return r;
	if (request->json) {
		r = print_json(answer);
	} else {
		(void)printf("node %s has new credentials, its own and the operator's\n", name);
		(void)printf("made anew must be: an initramfs or node.conf made for it "
			     "(lunctl initramfs %s), URLs (lunctl url %s),\n"
			     "and initiators that were set up by hand (lunctl show %s --secrets)\n",
			     name, name, name);
		(void)printf("who is logged in stays so; with the old ones it can't come back "
			     "after its connection has broken\n"
			     "credentials of boots are not changed\n");
		say_next(request, "lunctl auth %s", name);
	}
	json_decref(answer);
	return r;
}

static int run_auth(const struct request *request)
{
	const char *name = request->operands[0];

	if (!name_valid(name))
		return usage_error("%s: no name of a node", name);
	return GIVEN(request, AUTH_ROTATE) ? rotate(request, name) : show_auth(request, name);
}

const struct verb verb_auth = {
	.name = "auth",
	.operands = "NODE",
	.operands_min = 1,
	.operands_max = 1,
	.help = "tell which credentials are good, or make new ones",
	.options = {[AUTH_ROTATE] = {"rotate", NULL,
				     "new ones for the node and the operator; the old ones end"}},
	.run = run_auth,
};
