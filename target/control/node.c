/*
 * Operations on nodes: make, rename, remove, serve. The files follow the catalogue as
 * control_internal.h says. Nothing here waits for the server.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#define DATA_LUN 1

/* --- credentials --- */

/* Letters and digits survive URLs, shells and configuration files; each has log2(62) bits. */
int random_text(char *to, unsigned chars)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	unsigned char byte;

	for (unsigned i = 0; i < chars;) {
		if (RAND_bytes(&byte, 1) != 1)
			return -EIO; /* no entropy: no secret may be made */
		if (byte < 248)      /* 4 * 62: without this, some would come more often */
			to[i++] = alphabet[byte % 62];
	}
	to[chars] = '\0';
	return 0;
}

static void name_credentials(struct node *node)
{
	(void)snprintf(node->cred.user, sizeof(node->cred.user), "%s", node->name);
	(void)snprintf(node->cred.operator_user, sizeof(node->cred.operator_user), "operator-%s",
		       node->name);
}

static int new_secrets(struct credentials *cred)
{
	int r = random_text(cred->secret, SECRET_CHARS);

	if (r == 0)
		r = random_text(cred->operator_secret, SECRET_CHARS);
	if (r == 0)
		r = random_text(cred->mutual_secret, SECRET_CHARS);
	return r;
}

int node_new_credentials(struct node *node)
{
	struct credentials *cred = &node->cred;

	name_credentials(node);
	(void)snprintf(cred->mutual_user, sizeof(cred->mutual_user), "lunroot-");
	return random_text(cred->mutual_user + strlen("lunroot-"), 8) < 0 ? -EIO
									  : new_secrets(cred);
}

/* The names stay: boots that run know us by them. */
int node_rotate(struct control *control, struct node *node, struct api_error *api_err)
{
	struct credentials before = node->cred;
	struct store_error err = {""};
	int r = new_secrets(&node->cred);

	if (r == 0)
		r = catalog_update_node(control->catalog, node, &err);
	if (r < 0) {
		node->cred = before;
		api_error_world(api_err, r, err.text[0] ? err.text : "random numbers");
	}
	explicit_bzero(&before, sizeof(before));
	control_step("rotated");
	return r;
}

static void conf_chap(struct target_chap *chap, const char *user, const char *secret)
{
	(void)snprintf(chap->name, sizeof(chap->name), "%s", user);
	chap->secret_bytes = (uint8_t)strlen(secret);
	memcpy(chap->secret, secret, strlen(secret));
}

static struct target_conf *node_conf(const struct node *node)
{
	struct target_conf *conf = target_conf_new();

	if (!conf)
		return NULL;
	memcpy(conf->uuid, node->uuid.b, sizeof(conf->uuid));
	(void)snprintf(conf->name, sizeof(conf->name), IQN_PREFIX "%s", node->name);
	(void)snprintf(conf->alias, sizeof(conf->alias), "%s", node->name);
	conf->shared = node->shared;
	if (!node->auth)
		return conf;
	(void)snprintf(conf->initiator, sizeof(conf->initiator), INITIATOR_PREFIX "%s", node->name);
	conf_chap(&conf->in, node->cred.user, node->cred.secret);
	conf_chap(&conf->operator, node->cred.operator_user, node->cred.operator_secret);
	conf_chap(&conf->mutual, node->cred.mutual_user, node->cred.mutual_secret);
	if (boot_cred_conf(node, conf) < 0) {
		target_conf_unref(conf);
		return NULL;
	}
	return conf;
}

int node_tell_target(struct control *control, const struct node *node, server_cb cb, void *arg)
{
	struct target_conf *conf = node_conf(node);

	if (!conf)
		return -ENOMEM;
	server_target_update(control->server, conf, cb, arg);
	return 0;
}

/* --- serve --- */

bool node_is_flat(const struct node *node)
{
	return all_zero(&node->image_uuid, sizeof(node->image_uuid));
}

int lun_chain(struct control *control, const struct node *node, const struct lun *lun,
	      unsigned layer_count, struct job_chain *ret_chain, struct store_error *err)
{
	struct image *base = image_find_uuid(control, &node->image_uuid);
	struct job_chain *chain = ret_chain;
	char uuid[STORE_UUID_TEXT_BYTES];

	chain->store = (struct store_chain){
		.layer_count = layer_count,
		.run_dir = control->run_dir,
		.read_only = node->read_only,
		.scratch = node->scratch,
	};
	/* Further LUNs are data disks, with nothing beneath their first layer. */
	if (lun->number == 0 && !base && !node_is_flat(node)) {
		store_uuid_format(&node->image_uuid, uuid);
		(void)snprintf(err->text, sizeof(err->text),
			       "the image of node %s (%s) is missing; put its file and its .json "
			       "back into %.200s/images and start lunrootd again",
			       node->name, uuid, control->state_dir);
		return -ENOENT;
	}
	if (lun->number == 0 && base) {
		image_path(control, "", base->name, chain->image);
		chain->store.image_path = chain->image;
		chain->store.image_uuid = base->uuid;
	}
	for (unsigned i = 0; i < layer_count; i++) {
		layer_path(control, "", &lun->layers[i].uuid, chain->layers[i]);
		chain->store.layer_paths[i] = chain->layers[i];
		chain->uuids[i] = lun->layers[i].uuid;
	}
	return 0;
}

static int open_lun(struct control *control, const struct node *node, const struct lun *lun,
		    struct store_disk **ret_disk, struct store_error *err)
{
	struct job_chain chain;
	int r = lun_chain(control, node, lun, lun->layer_count, &chain, err);

	return r < 0 ? r : store_open(&chain.store, ret_disk, err);
}

void node_units_free(const struct server_unit *units, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		units[i].disk->ops->free(units[i].disk);
}

int node_open_units(struct control *control, const struct node *node,
		    struct server_unit units[LIMIT_LUNS_PER_NODE], struct store_error *err)
{
	for (unsigned i = 0; i < node->lun_count; i++) {
		const struct lun *lun = &node->luns[i];
		int r;

		units[i] = (struct server_unit){
			.lun = lun->number,
			.uuid = lun->uuid,
			.read_only = node->read_only,
			.removable = node->removable,
		};
		r = open_lun(control, node, lun, &units[i].disk, err);
		if (r < 0) {
			node_units_free(units, i);
			if (err->text[0] == '\0')
				(void)snprintf(err->text, sizeof(err->text), "%s", strerror(-r));
			return r;
		}
	}
	return 0;
}

void node_not_served(struct node *node, int error)
{
	node->served = false;
	node->damaged = true;
	(void)snprintf(node->message, sizeof(node->message), "the target can't be served: %s",
		       strerror(-error));
}

/*
 * A lost catalogue is rebuilt from the layers, so the top ones say what the node is called now. Not
 * served yet, so nobody has them open.
 */
static void labels_follow(struct control *control, const struct node *node)
{
	for (unsigned i = 0; i < node->lun_count; i++) {
		const struct lun *lun = &node->luns[i];
		struct store_layer_info info;
		struct store_error err = {""};
		char path[PATH_BYTES];

		layer_path(control, "", &lun->layers[lun->layer_count - 1].uuid, path);
		/* What is wrong with it is told when it is opened. */
		if (store_layer_info(path, &info, &err) < 0 || strcmp(info.label, node->name) == 0)
			continue;
		if (store_layer_label(path, control->run_dir, node->name, &err) < 0)
			log_warn("node %s: a rebuilt catalogue would call it %s: %s", node->name,
				 info.label, err.text);
		control_step("node-labelled");
	}
}

int node_serve(struct control *control, struct node *node, server_cb cb, void *arg)
{
	struct server_unit units[LIMIT_LUNS_PER_NODE];
	struct store_error err = {""};
	struct target_conf *conf;
	int r;

	labels_follow(control, node);
	r = node_open_units(control, node, units, &err);
	node->damaged = r < 0;
	(void)snprintf(node->message, sizeof(node->message), "%s", err.text);
	if (r < 0)
		return r;
	conf = node_conf(node);
	if (!conf) {
		node_units_free(units, node->lun_count);
		return -ENOMEM;
	}
	node->served = true;
	gone_note(control, node);
	server_target_add(control->server, conf, units, node->lun_count, cb, arg);
	return 0;
}

/* --- whose Pi it is --- */

static bool all_hex(const char *text)
{
	return text[strspn(text, "0123456789abcdef")] == '\0';
}

/* A Pi has 16 digits, of which its boot ROM tells the last 8. */
static bool same_serial(const char *a, const char *b)
{
	size_t a_bytes = strlen(a), b_bytes = strlen(b);

	if (a_bytes == 0 || b_bytes == 0)
		return false;
	if (all_hex(a) && all_hex(b) && a_bytes == 16 && b_bytes == 8)
		a += 8;
	else if (all_hex(a) && all_hex(b) && a_bytes == 8 && b_bytes == 16)
		b += 8;
	return strcmp(a, b) == 0;
}

struct node *node_of_pi(struct control *control, const char *serial, const char *mac,
			const struct node *except)
{
	for (unsigned i = 0; i < control->node_count; i++) {
		struct node *node = control->nodes[i];

		if (node == except)
			continue;
		if (same_serial(node->serial, serial) ||
		    (mac[0] != '\0' && strcmp(node->mac, mac) == 0))
			return node;
	}
	return NULL;
}

struct node *node_of_address(struct control *control, const char *address,
			     const struct node *except)
{
	for (unsigned i = 0; address[0] != '\0' && i < control->node_count; i++) {
		if (control->nodes[i] != except && strcmp(control->nodes[i]->address, address) == 0)
			return control->nodes[i];
	}
	return NULL;
}

/* Neither Pi nor address may be another node's. */
static int check_identity(struct control *control, const struct api_call *call,
			  const struct node *except, struct api_error *err)
{
	const struct node *other = node_of_pi(control, call->serial, call->mac, except);

	if (other)
		return api_error_set(
			err, 409, "exists", "take it away there first: lunctl assign NODE --none",
			"the Pi with %s %s belongs to node %s",
			same_serial(other->serial, call->serial) ? "serial" : "MAC",
			same_serial(other->serial, call->serial) ? call->serial : call->mac,
			other->name);
	other = node_of_address(control, call->address, except);
	if (other)
		return api_error_set(err, 409, "exists",
				     "take it away there first: lunctl assign NODE --address none",
				     "the address %s belongs to node %s", call->address,
				     other->name);
	return 0;
}

int node_assign(struct control *control, struct node *node, const struct api_call *call,
		struct api_error *api_err)
{
	char serial[SERIAL_BYTES], mac[MAC_BYTES], address[ADDRESS_BYTES];
	struct store_error err = {""};
	int r = check_identity(control, call, node, api_err);

	if (r < 0)
		return r;
	memcpy(serial, node->serial, sizeof(serial));
	memcpy(mac, node->mac, sizeof(mac));
	memcpy(address, node->address, sizeof(address));
	if (call->serial_given)
		memcpy(node->serial, call->serial, sizeof(node->serial));
	if (call->mac_given)
		memcpy(node->mac, call->mac, sizeof(node->mac));
	if (call->address_given)
		memcpy(node->address, call->address, sizeof(node->address));
	r = catalog_update_node(control->catalog, node, &err);
	if (r < 0) {
		memcpy(node->serial, serial, sizeof(serial));
		memcpy(node->mac, mac, sizeof(mac));
		memcpy(node->address, address, sizeof(address));
		api_error_world(api_err, r, err.text);
	}
	control_step("assigned");
	return r;
}

/* --- make --- */

static int check_size(const struct api_call *call, const struct image *image, struct api_error *err)
{
	if (call->size_bytes > 0 && call->size_bytes < image->size_bytes)
		return api_error_set(err, 400, "invalid",
				     "choose at least the image's size, or leave it out",
				     "size_bytes %llu is smaller than image %s (%llu bytes)",
				     (unsigned long long)call->size_bytes, image->name,
				     (unsigned long long)image->size_bytes);
	return 0;
}

static struct node *node_new(const struct api_call *call, const struct image *image)
{
	struct node *node = calloc(1, sizeof(*node));
	uint64_t size = call->size_bytes ? call->size_bytes : image->size_bytes;

	if (!node)
		return NULL;
	node->lun_count = call->data_bytes ? 2 : 1;
	node->luns = calloc(node->lun_count, sizeof(*node->luns));
	if (!node->luns) {
		free(node);
		return NULL;
	}
	memcpy(node->name, call->name, sizeof(node->name));
	memcpy(node->serial, call->serial, sizeof(node->serial));
	memcpy(node->mac, call->mac, sizeof(node->mac));
	memcpy(node->hostname, call->hostname, sizeof(node->hostname));
	memcpy(node->address, call->address, sizeof(node->address));
	node->image_uuid = image->uuid;
	node->auth = call->auth;
	node->shared = call->shared;
	node->read_only = call->read_only;
	node->removable = call->removable;
	node->scratch = call->scratch;
	node->created = time(NULL);
	if (node_new_credentials(node) < 0) {
		node_free(node);
		return NULL;
	}
	for (unsigned i = 0; i < node->lun_count; i++) {
		struct lun *lun = &node->luns[i];

		lun->number = i == 0 ? 0 : DATA_LUN;
		lun->size_bytes = i == 0 ? (size + STORE_BLOCK_BYTES - 1) / STORE_BLOCK_BYTES *
						   STORE_BLOCK_BYTES
					 : call->data_bytes;
		store_uuid_generate(&lun->layers[0].uuid);
		lun->layers[0].created = node->created;
		lun->layer_count = 1;
		lun->uuid = lun->layers[0].uuid;
	}
	node->uuid = node->luns[0].uuid;
	return node;
}

static void layers_unlink(struct control *control, const struct node *node, const char *prefix)
{
	char path[PATH_BYTES];

	for (unsigned i = 0; i < node->lun_count; i++) {
		for (unsigned j = 0; j < node->luns[i].layer_count; j++) {
			layer_path(control, prefix, &node->luns[i].layers[j].uuid, path);
			file_unlink(path);
			control_step("layer-unlinked");
		}
	}
}

int node_layers_move(struct control *control, const struct node *node, const char *from,
		     const char *to)
{
	char old_path[PATH_BYTES], new_path[PATH_BYTES];

	for (unsigned i = 0; i < node->lun_count; i++) {
		for (unsigned j = 0; j < node->luns[i].layer_count; j++) {
			int r;

			layer_path(control, from, &node->luns[i].layers[j].uuid, old_path);
			layer_path(control, to, &node->luns[i].layers[j].uuid, new_path);
			r = file_move(old_path, new_path);
			/* A damaged node may lack files; it can be removed all the same. */
			if (r < 0 && r != -ENOENT)
				return r;
			control_step("layer-moved");
		}
	}
	return 0;
}

static int layers_create(struct control *control, const struct node *node,
			 const struct image *image, struct api_error *api_err)
{
	struct store_error err = {""};
	char path[PATH_BYTES];

	for (unsigned i = 0; i < node->lun_count; i++) {
		const struct lun *lun = &node->luns[i];
		struct store_layer_info info = {
			.uuid = lun->uuid,
			.parent_kind = i == 0 ? STORE_PARENT_IMAGE : STORE_PARENT_NONE,
			.size_bytes = lun->size_bytes,
			.node_uuid = node->uuid,
			.lun_uuid = lun->uuid,
			.lun = lun->number,
		};
		int r;

		if (i == 0) {
			info.parent_uuid = image->uuid;
			info.parent_size_bytes = image->size_bytes;
		}
		(void)snprintf(info.label, sizeof(info.label), "%s", node->name);
		layer_path(control, PREFIX_NEW, &lun->uuid, path);
		r = store_layer_create(path, &info, &err);
		if (r < 0) {
			api_error_world(api_err, r, err.text[0] ? err.text : path);
			return r;
		}
		control_step("layer-made");
	}
	return 0;
}

static int node_commit(struct control *control, const struct node *node, struct api_error *api_err)
{
	struct store_error err = {""};
	int r = catalog_begin(control->catalog, &err);

	if (r == 0) {
		r = catalog_put_node(control->catalog, node, &err);
		if (r == 0)
			r = catalog_commit(control->catalog, &err);
		else
			catalog_rollback(control->catalog);
	}
	if (r < 0)
		api_error_world(api_err, r, err.text);
	control_step("clone-committed");
	return r;
}

int node_make(struct control *control, const struct api_call *call, struct node **ret_node,
	      struct api_error *err)
{
	struct image *image = image_find(control, call->base);
	struct node *node;
	int r;

	if (!image)
		return api_error_set(err, 404, "not_found",
				     "lunctl ls shows the images; lunctl import makes one",
				     "there is no image %s", call->base);
	if (node_find(control, call->name))
		return api_error_set(err, 409, "exists", "choose another name, or remove it first",
				     "there is a node %s already", call->name);
	if (control->node_count == LIMIT_NODES)
		return api_error_set(err, 409, "limit", "remove nodes that are not needed",
				     "there are %u nodes, no more can be made", LIMIT_NODES);
	r = check_size(call, image, err);
	if (r == 0)
		r = check_identity(control, call, NULL, err);
	if (r == 0)
		r = space_check(control, "node", call->name, err);
	if (r < 0)
		return r;
	node = node_new(call, image);
	if (!node)
		return api_error_world(err, -ENOMEM, "clone");
	control_step("clone-begin");
	r = layers_create(control, node, image, err);
	if (MUTANT(node_named_early))
		(void)node_layers_move(control, node, PREFIX_NEW, "");
	if (r == 0)
		r = node_commit(control, node, err);
	if (r < 0) {
		if (r != -EUCLEAN)
			layers_unlink(control, node, PREFIX_NEW);
		node_free(node);
		return r;
	}
	r = node_layers_move(control, node, PREFIX_NEW, "");
	(void)node_insert(control, node); /* there is room */
	if (r < 0) {
		/* The node is in the catalogue: the next start gives the files their names. */
		node->damaged = true;
		(void)snprintf(node->message, sizeof(node->message),
			       "its layers can't get their names: %s; start lunrootd again",
			       strerror(-r));
		return api_error_world(err, r, node->message);
	}
	control_step("clone-done");
	*ret_node = node;
	return 0;
}

/* --- rename, remove --- */

void node_call(struct node *node, const char *name)
{
	bool host_follows = strcmp(node->hostname, node->name) == 0;

	(void)snprintf(node->name, sizeof(node->name), "%s", name);
	if (host_follows)
		(void)snprintf(node->hostname, sizeof(node->hostname), "%s", name);
	name_credentials(node);
}

int node_rename(struct control *control, struct node *node, const char *name,
		struct api_error *api_err)
{
	struct store_error err = {""};
	struct node before = *node;
	int r;

	control_step("node-rename-begin");
	node_take_out(control, node);
	node_call(node, name);
	r = catalog_update_node(control->catalog, node, &err);
	if (r < 0) {
		*node = before;
		api_error_world(api_err, r, err.text);
	}
	(void)node_insert(control, node);
	explicit_bzero(&before, sizeof(before));
	control_step("node-rename-done");
	return r;
}

uint64_t node_used_bytes(const struct control *control, const struct node *node)
{
	const char *prefix = node->removed ? PREFIX_TRASH : "";
	char path[PATH_BYTES];
	uint64_t bytes = 0;

	for (unsigned i = 0; i < node->lun_count; i++) {
		for (unsigned j = 0; j < node->luns[i].layer_count; j++) {
			layer_path(control, prefix, &node->luns[i].layers[j].uuid, path);
			bytes += file_used_bytes(path);
		}
	}
	return bytes;
}

void node_removal(struct control *control, const struct node *node, json_t *removed,
		  uint64_t *ret_bytes)
{
	char path[PATH_BYTES];

	*ret_bytes = node_used_bytes(control, node);
	json_array_append_new(removed, json_sprintf("node %s", node->name));
	for (unsigned i = 0; i < node->lun_count; i++) {
		for (unsigned j = 0; j < node->luns[i].layer_count; j++) {
			layer_path(control, node->removed ? PREFIX_TRASH : "",
				   &node->luns[i].layers[j].uuid, path);
			json_array_append_new(removed, json_string(path));
		}
	}
}

int node_delete(struct control *control, struct node *node, struct api_error *api_err)
{
	const char *prefix = node->removed ? PREFIX_TRASH : "";
	struct store_error err = {""};
	int r;

	control_step("node-delete-begin");
	r = node_layers_move(control, node, prefix, PREFIX_RM);
	if (r == 0 && !MUTANT(node_removal_unsynced))
		r = folder_sync(control, "layers");
	if (MUTANT(node_unlinked_early))
		layers_unlink(control, node, PREFIX_RM);
	if (r < 0) {
		(void)node_layers_move(control, node, PREFIX_RM, prefix);
		return api_error_world(api_err, r, "the node's layers");
	}
	r = catalog_delete_node(control->catalog, &node->uuid, &err);
	if (r < 0) {
		if (r != -EUCLEAN)
			(void)node_layers_move(control, node, PREFIX_RM, prefix);
		api_error_world(api_err, r, err.text);
		return r;
	}
	control_step("node-delete-committed");
	boots_forget_node(control, &node->uuid);
	/* The live map first: without its layer nothing would lead us to it any more. */
	for (unsigned i = 0; i < node->lun_count; i++) {
		for (unsigned j = 0; j < node->luns[i].layer_count; j++)
			store_live_map_remove(control->run_dir, &node->luns[i].layers[j].uuid);
	}
	control_step("node-delete-map");
	layers_unlink(control, node, PREFIX_RM);
	control_step("node-delete-done");
	if (!node->removed)
		node_take_out(control, node);
	node_free(node);
	return 0;
}
