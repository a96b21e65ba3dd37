/*
 * The verbs that make something: import, create, clone. What a person may leave out is left out
 * of the request too, so that the daemon's defaults hold.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "lunctl.h"
#include "output.h"

int put_size(json_t *body, const char *field, const char *what, const char *text)
{
	uint64_t bytes = 0;
	int r = size_parse(text, &bytes);

	if (r == -ERANGE)
		return usage_error("%s %s: no disk is that large", what, text);
	if (r < 0)
		return usage_error("%s %s: no size; write it like 512M, 32G or 1T (powers of 1024)",
				   what, text);
	if (json_object_set_new(body, field, json_integer((json_int_t)bytes)) < 0)
		return complain("out of memory", NULL);
	return 0;
}

int put_lun(json_t *body, const char *text)
{
	if (!text)
		return 0;
	if (strlen(text) > 5 || strspn(text, "0123456789") != strlen(text))
		return usage_error("%s: no LUN; LUNs are numbered from 0", text);
	if (json_object_set_new(body, "lun", json_integer(strtol(text, NULL, 10))) < 0)
		return complain("out of memory", NULL);
	return 0;
}

int put_string(json_t *body, const char *field, const char *text)
{
	if (!text)
		return 0;
	if (json_object_set_new(body, field, json_string(text)) < 0)
		return usage_error("%s: not UTF-8", field);
	return 0;
}

static int put_flag(json_t *body, const char *field, bool given, bool value)
{
	if (given && json_object_set_new(body, field, json_boolean(value)) < 0)
		return complain("out of memory", NULL);
	return 0;
}

int make_image(const struct request *request, const char *target, json_t *body, const char *next)
{
	json_t *result = NULL;
	char size[OUTPUT_SIZE_BYTES], used[OUTPUT_SIZE_BYTES];
	int r = api_job(request, target, body, &result);

	if (api_tells_person(request, result, &r)) {
		const json_t *image = json_object_get(result, "image");

		(void)printf("image %s: ", get_text(image, "name"));
		put_text(stdout, get_text(image, "content"));
		(void)printf(", %s (%s on disk)\n",
			     size_format(get_number(image, "size_bytes"), size),
			     size_format(get_number(image, "used_bytes"), used));
		say_next(request, "%s", next);
	}
	json_decref(result);
	return r;
}

/* The daemon works in another directory; it wants the whole path. */
static int absolute_path(const char *path, char *buffer, size_t bytes)
{
	char here[PATH_MAX];
	int n;

	if (path[0] == '/')
		n = snprintf(buffer, bytes, "%s", path);
	else if (!getcwd(here, sizeof(here)))
		return usage_error("%s: the current directory is gone", path);
	else
		n = snprintf(buffer, bytes, "%s/%s", here, path);
	if (n < 0 || (size_t)n >= bytes)
		return usage_error("%s: the path is too long", path);
	return 0;
}

/* --- import --- */

enum { IMPORT_FORCE };

static int run_import(const struct request *request)
{
	const char *name = request->operands[1];
	json_t *body = json_object();
	char path[PATH_MAX], next[256];
	int r = absolute_path(request->operands[0], path, sizeof(path));

	if (r == 0)
		r = put_string(body, "name", name);
	if (r == 0)
		r = put_string(body, "path", path);
	if (r == 0)
		r = put_flag(body, "force", GIVEN(request, IMPORT_FORCE), true);
	if (r != 0) {
		json_decref(body);
		return r;
	}
	(void)snprintf(next, sizeof(next), "lunctl clone %.63s pi-01", name);
	return make_image(request, "/v1/images", body, next);
}

const struct verb verb_import = {
	.name = "import",
	.operands = "FILE NAME",
	.operands_min = 2,
	.operands_max = 2,
	.help = "make an image from a raw disk or file system (.xz, .gz, .zst too)",
	.options =
		{[IMPORT_FORCE] = {"force", NULL,
				   "take it even if no partition table or file system is found"}},
	.run = run_import,
};

/* --- create --- */

enum { CREATE_SIZE, CREATE_EXT4 };

static int run_create(const struct request *request)
{
	const char *name = request->operands[0];
	json_t *body;
	char next[256];
	int r;

	if (!GIVEN(request, CREATE_SIZE))
		return usage_error("create: how large? --size 8G");
	body = json_object();
	r = put_string(body, "name", name);
	if (r == 0)
		r = put_size(body, "size_bytes", "--size", request->values[CREATE_SIZE]);
	if (r == 0)
		r = put_flag(body, "ext4", GIVEN(request, CREATE_EXT4), true);
	if (r != 0) {
		json_decref(body);
		return r;
	}
	(void)snprintf(next, sizeof(next), "lunctl clone %.63s pi-01", name);
	return make_image(request, "/v1/images", body, next);
}

const struct verb verb_create = {
	.name = "create",
	.operands = "NAME --size SIZE",
	.operands_min = 1,
	.operands_max = 1,
	.help = "make an empty image",
	.options = {[CREATE_SIZE] = {"size", "SIZE", "how large: 512M, 8G, 1T"},
		    [CREATE_EXT4] = {"ext4", NULL, "with an empty ext4 file system"}},
	.run = run_create,
};

/* --- clone --- */

enum {
	CLONE_SERIAL,
	CLONE_MAC,
	CLONE_ADDRESS,
	CLONE_HOSTNAME,
	CLONE_SIZE,
	CLONE_DATA,
	CLONE_NO_AUTH,
	CLONE_SHARED,
	CLONE_READ_ONLY,
	CLONE_REMOVABLE,
	CLONE_DURABILITY,
};

static int clone_body(const struct request *request, json_t *body)
{
	const char *const *values = request->values;
	int r = put_string(body, "base", request->operands[0]);

	if (r == 0)
		r = put_string(body, "name", request->operands[1]);
	if (r == 0)
		r = put_string(body, "serial", values[CLONE_SERIAL]);
	if (r == 0)
		r = put_string(body, "mac", values[CLONE_MAC]);
	if (r == 0)
		r = put_string(body, "address", values[CLONE_ADDRESS]);
	if (r == 0)
		r = put_string(body, "hostname", values[CLONE_HOSTNAME]);
	if (r == 0 && values[CLONE_SIZE])
		r = put_size(body, "size_bytes", "--size", values[CLONE_SIZE]);
	if (r == 0 && values[CLONE_DATA])
		r = put_size(body, "data_bytes", "--data", values[CLONE_DATA]);
	if (r == 0)
		r = put_flag(body, "auth", values[CLONE_NO_AUTH], false);
	if (r == 0)
		r = put_flag(body, "shared", values[CLONE_SHARED], true);
	if (r == 0)
		r = put_flag(body, "read_only", values[CLONE_READ_ONLY], true);
	if (r == 0)
		r = put_flag(body, "removable", values[CLONE_REMOVABLE], true);
	if (r == 0)
		r = put_string(body, "durability", values[CLONE_DURABILITY]);
	return r;
}

static int run_clone(const struct request *request)
{
	json_t *body = json_object(), *answer = NULL;
	const json_t *node;
	int r = clone_body(request, body);

	if (r != 0) {
		json_decref(body);
		return r;
	}
	r = api_call(request, "POST", "/v1/nodes", body, &answer);
	node = json_object_get(answer, "node");
	if (api_tells_person(request, answer, &r)) {
		(void)printf("node %s: ", get_text(node, "name"));
		put_text(stdout, get_text(node, "iqn"));
		(void)putchar('\n');
		say_next(request,
			 "lunctl url %s, or lunctl show %s --secrets for the initiator's settings",
			 request->operands[1], request->operands[1]);
	}
	json_decref(answer);
	return r;
}

const struct verb verb_clone = {
	.name = "clone",
	.operands = "BASE NODE",
	.operands_min = 2,
	.operands_max = 2,
	.help = "add a node with its own copy-on-write disk over an image",
	.options =
		{
			[CLONE_SERIAL] = {"serial", "SERIAL", "the Pi's serial number"},
			[CLONE_MAC] = {"mac", "MAC", "its Ethernet address"},
			[CLONE_ADDRESS] = {"address", "ADDR",
					   "its IPv4 address from lunbootd --dhcp known"},
			[CLONE_HOSTNAME] = {"hostname", "NAME",
					    "its host name, if not the node's name"},
			[CLONE_SIZE] = {"size", "SIZE", "size of LUN 0, if not the image's: 32G"},
			[CLONE_DATA] = {"data", "SIZE", "adds an empty data disk as LUN 1: 64G"},
			[CLONE_NO_AUTH] = {"no-auth", NULL,
					   "any initiator may log in, without CHAP"},
			[CLONE_SHARED] = {"shared", NULL, "several sessions at a time"},
			[CLONE_READ_ONLY] = {"read-only", NULL, "the disks refuse writes"},
			[CLONE_REMOVABLE] = {"removable", NULL,
					     "the disks say that they are removable"},
			[CLONE_DURABILITY] =
				{"durability", "strict|scratch",
				 "scratch: flushes do nothing, for disks nobody will miss"},
		},
	.run = run_clone,
};
