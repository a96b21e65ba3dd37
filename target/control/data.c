/*
 * What disks hold, as bytes: GET .../data of a LUN or an image, and what a LUN's content is called.
 *
 * Nothing is read here. A LUN is read by the reactor that owns it (server_read), so the bytes are
 * what an initiator would get at that moment, also while layers are exchanged; an image is a file
 * that never changes, and is read by whichever reactor is next. The buffer is the client's answer
 * as it stands, and counts until the client has taken it: LIMIT_DATA_READS of them are there at one
 * time, and further requests wait in the order in which they came. There are no more of those than
 * there are clients.
 *
 * The names of content. Two texts tell of a LUN's content at the moment of the request:
 *
 *   generation   state:UUID:CHANGES     as store/gate.h counts changes. Two equal ones: between
 *                                       the two moments nothing was changed, so whatever was read
 *                                       between them belongs together.
 *                state:UUID:CHANGES:N   something is being changed. N grows, so that no two are
 *                                       equal.
 *   identity     image:UUID:SIZE        the LUN reads as the image does, cut off or followed by
 *                                       zeros at SIZE: no layer owns a block
 * (store_stats.untouched), and nothing is being written. All fresh clones of an image have the
 * same. zeros:SIZE             the same without an image else the generation
 *
 * Equal identities mean equal content. Of two "image" texts: an image never changes under its UUID.
 * Of two "state" texts without N: nothing has changed from the one moment to the other. UUID is
 * drawn anew whenever a target begins to be served, by a restart, a rename or an undo, so texts of
 * different lives are never equal; within one life every write and every discard counts (WRITE SAME
 * and COMPARE AND WRITE reach the disk as these), and so does every exchange of layers: snapshot,
 * rollback, reset, resize, merge, flatten. A text may change although the content did not; never
 * the other way around.
 *
 * "image" can come back when a node is reset. So who caches by identity and reads while a node may
 * run compares the generation before and after.
 */
#include "control/control_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

struct data_read {
	struct list node;        /* of control.reads: waiting, or under way; or of control.lent */
	struct control *control; /* NULL: it is gone, and only a client's answer is left */
	struct api_request *request;
	store_uuid_t uuid; /* the node's */
	char name[NAME_BYTES];
	uint8_t lun;
	int fd; /* of an image; else -1 */
	uint64_t offset;
	uint32_t length;
	bool begun;
	uint8_t *buffer;
};

static void data_read_free(struct data_read *read)
{
	list_remove(&read->node);
	if (read->fd >= 0)
		close(read->fd);
	free(read->buffer);
	free(read);
}

static void reads_go_on(struct control *control);

/* The client has taken it, or has gone. */
static void data_taken(void *arg)
{
	struct data_read *read = arg;
	struct control *control = read->control;

	data_read_free(read);
	if (!control)
		return;
	control->read_count--;
	reads_go_on(control);
}

static void data_fail(struct data_read *read, struct api_error *err)
{
	api_reply_error(read->request, err);
	data_taken(read);
}

static uint64_t sector_before(uint64_t offset)
{
	return offset / STORE_SECTOR_BYTES * STORE_SECTOR_BYTES;
}

static void on_data(void *arg, int res)
{
	struct data_read *read = arg;
	struct api_error err = {0};
	uint64_t skip = read->fd < 0 ? read->offset - sector_before(read->offset) : 0;

	switch (res) {
	case 0:
		list_remove(&read->node);
		list_append(&read->control->lent, &read->node);
		read->request->reply_data(read->request, read->buffer + skip, read->length,
					  data_taken, read);
		return;
	case -ENOENT:
	case -ERANGE:
	case -EAGAIN:
	case -ECANCELED:
		(void)api_error_set(&err, 409, "busy", "try again in a moment",
				    "%s is being changed", read->name);
		break;
	default: (void)api_error_world(&err, res, read->name); break;
	}
	data_fail(read, &err);
}

static void data_begin(struct data_read *read)
{
	uint64_t first = read->offset, bytes = read->length;
	struct api_error err = {0};

	read->begun = true;
	read->control->read_count++;
	if (read->fd < 0) {
		first = sector_before(read->offset);
		bytes = sector_before(read->offset + read->length + STORE_SECTOR_BYTES - 1) - first;
	}
	read->buffer = malloc(bytes);
	if (!read->buffer) {
		(void)api_error_world(&err, -ENOMEM, read->name);
		data_fail(read, &err);
	} else if (read->fd < 0) {
		server_read(read->control->server, read->uuid.b, read->lun, first, read->buffer,
			    bytes, on_data, read);
	} else {
		server_read_file(read->control->server, read->fd, first, read->buffer, bytes,
				 on_data, read);
	}
}

static void reads_go_on(struct control *control)
{
	struct data_read *next;

	do {
		next = NULL;
		list_for_each (pos, &control->reads) {
			struct data_read *read = LIST_ENTRY(pos, struct data_read, node);

			if (!next && !read->begun)
				next = read;
		}
		if (!next || control->read_count >= LIMIT_DATA_READS)
			return;
		data_begin(next);
	} while (next);
}

/* libevent gives back what a client has not taken as late as with the event base itself. */
static void lent_forget(struct control *control)
{
	list_for_each (pos, &control->lent) {
		LIST_ENTRY(pos, struct data_read, node)->control = NULL;
		list_remove(pos);
	}
}

void data_drop(struct control *control)
{
	lent_forget(control);
	list_for_each (pos, &control->reads) {
		struct data_read *read = LIST_ENTRY(pos, struct data_read, node);

		read->request->drop(read->request);
		list_remove(&read->node);
		/* A reactor that could not be stopped in time may still fill the buffer of one that
		 * is under way: it stays. */
		if (!read->begun)
			data_read_free(read);
	}
}

/* --- what is asked for --- */

static int check_range(const struct api_call *call, const char *what, uint64_t size_bytes,
		       uint32_t *ret_length, struct api_error *err)
{
	if (call->offset >= size_bytes)
		return api_error_set(err, 416, "range", "read below its end",
				     "%s %s has %llu bytes: there is nothing at offset %llu", what,
				     call->name, (unsigned long long)size_bytes,
				     (unsigned long long)call->offset);
	*ret_length = call->length;
	if (call->length > size_bytes - call->offset)
		*ret_length = (uint32_t)(size_bytes - call->offset);
	return 0;
}

int node_check_served(const struct node *node, struct api_error *err)
{
	if (node->damaged)
		return api_error_set(err, 409, "damaged", "put right what it says",
				     "node %s is not served: %.400s", node->name, node->message);
	if (!node->served)
		return api_error_set(err, 409, "busy", "try again in a moment",
				     "node %s is being changed", node->name);
	return 0;
}

const struct lun *lun_find(struct control *control, const struct api_call *call,
			   const struct node **ret_node, struct api_error *err)
{
	const struct node *node = node_find(control, call->name);

	if (!node) {
		(void)api_error_set(err, 404, "not_found", "lunctl ls shows what there is",
				    "there is no node %s", call->name);
		return NULL;
	}
	for (unsigned i = 0; i < node->lun_count; i++) {
		if (node->luns[i].number == call->lun && node_check_served(node, err) == 0) {
			*ret_node = node;
			return &node->luns[i];
		}
	}
	if (!err->status)
		(void)api_error_set(err, 404, "not_found", "lunctl show lists its LUNs",
				    "node %s has no LUN %u", node->name, (unsigned)call->lun);
	return NULL;
}

static int data_find(struct control *control, const struct api_call *call, struct data_read *read,
		     struct api_error *err)
{
	const struct node *node = NULL;
	const struct lun *lun;
	const struct image *image;
	char path[PATH_BYTES];

	if (call->op == API_LUN_DATA) {
		lun = lun_find(control, call, &node, err);
		if (!lun)
			return -ENOENT;
		read->uuid = node->uuid;
		return check_range(call, "the LUN of node", lun->size_bytes, &read->length, err);
	}
	image = image_find(control, call->name);
	if (!image)
		return api_error_set(err, 404, "not_found", "lunctl ls shows what there is",
				     "there is no image %s", call->name);
	image_path(control, "", image->name, path);
	read->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (read->fd < 0)
		return api_error_world(err, -errno, path);
	return check_range(call, "image", image->size_bytes, &read->length, err);
}

void data_handle(struct control *control, const struct api_call *call, struct api_request *request)
{
	struct data_read *read = calloc(1, sizeof(*read));
	struct api_error err = {0};

	if (!read) {
		(void)api_error_world(&err, -ENOMEM, call->name);
		api_reply_error(request, &err);
		return;
	}
	list_init(&read->node);
	read->control = control;
	read->request = request;
	read->fd = -1;
	read->lun = call->lun;
	read->offset = call->offset;
	(void)snprintf(read->name, sizeof(read->name), "%s", call->name);
	if (data_find(control, call, read, &err) < 0) {
		api_reply_error(request, &err);
		data_read_free(read);
		return;
	}
	list_append(&control->reads, &read->node);
	reads_go_on(control);
}

/* --- what it is called --- */

static json_t *generation_of(const struct server_unit_state *state, uint64_t asked)
{
	char uuid[STORE_UUID_TEXT_BYTES];

	store_uuid_format(&state->incarnation, uuid);
	if (state->steady)
		return json_sprintf("state:%s:%llu", uuid, (unsigned long long)state->changes);
	return json_sprintf("state:%s:%llu:%llu", uuid, (unsigned long long)state->changes,
			    (unsigned long long)asked);
}

static json_t *identity_of(const struct node *node, const struct server_unit_state *state,
			   uint64_t asked)
{
	char uuid[STORE_UUID_TEXT_BYTES];

	if (!state->steady || !state->unit.store.untouched)
		return generation_of(state, asked);
	/* Answers of a reactor come in order: had it been given a chain with another image before
	 * it told this, the node would have that image here; had it not, the node would not. */
	if (state->unit.lun > 0 || node_is_flat(node))
		return json_sprintf("zeros:%llu", (unsigned long long)state->size_bytes);
	store_uuid_format(&node->image_uuid, uuid);
	return json_sprintf("image:%s:%llu", uuid, (unsigned long long)state->size_bytes);
}

/* server_unit_look's answer to an operation. */
void operation_show_lun(void *arg, int res, const struct server_unit_state *state)
{
	struct operation *op = arg;
	struct control *control = op->control;
	struct server_unit_info unit = state->unit;
	const struct server_stats stats = {.units = &unit, .unit_count = 1};
	const struct node *node = NULL;
	const struct lun *lun = lun_find(control, &op->call, &node, &op->error);

	if (lun && res < 0)
		(void)api_error_set(&op->error, 409, "busy", "try again in a moment",
				    "node %s is being changed", node->name);
	if (!lun || res < 0) {
		operation_fail(op);
		return;
	}
	control->identities_asked++;
	operation_end(op, 200,
		      json_pack("{s:o, s:o, s:o}", "lun", reply_lun(control, node, lun, &stats),
				"identity", identity_of(node, state, control->identities_asked),
				"generation", generation_of(state, control->identities_asked)));
}
