/*
 * Credentials of boots. Each boot of a node may be given its own (POST /v1/nodes/NAME/boots), so
 * that what an earlier boot carried, or somebody saw of it, is worth nothing once a later one has
 * logged in. They stand beside the node's own, with the same user names and other secrets.
 *
 *   issued --login--> in use --a later boot's login--> gone
 *      \--LIMIT_BOOT_UNUSED_MS, or LIMIT_BOOT_UNUSED later ones--> gone
 *
 * node.boots has them in the order in which they were issued. A login with one ends all that stand
 * before it; what was issued later stays, since its boot is still to come.
 *
 * Nobody is locked out. What a node that runs logs in with must stay good however lunrootd ends:
 *
 * 1. The first login with issued credentials gets its last response only after the catalogue says
 *    "in use" (server_watch.record). So whoever has been logged in with them holds credentials that
 *    stand there as in use, and those have no time limit.
 * 2. The same transaction forgets those before them. It is the only one that ends credentials in
 *    use, and it is done for somebody who has just proved to have later ones. Killed before it, the
 *    old ones are in use and the new ones issued: both good after the restart. Killed after it: the
 *    new ones are in use, and the initiator, which has had no answer, tries again with them.
 * 3. Time that passes while lunrootd is away counts for nobody: what is issued and not used begins
 *    its time anew at the start, so that a Pi which waited for us gets in.
 * 4. A catalogue that can't be written does not keep a node from booting: the login goes on, memory
 *    has what should be written, and it is tried again. Only if lunrootd ends before that works
 *    are the credentials "issued" after the restart, with all their time before them (3).
 *
 * Until the control thread has answered, an initiator waits for its last response; no data path
 * does, and a session that is there is not touched.
 *
 * A shared node has several Pis, and none may end the other's credentials: it has only its own.
 * So has the trash: what nobody has used goes when the node goes there; what is in use comes back
 * with it. A rename changes the user's name and keeps the secrets, like the node's own.
 */
#include "control/control_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "base/log.h"

#define SAVE_AGAIN_MS 10000 /* after the catalogue could not be written */

static uint64_t now_ms(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- what a target is told --- */

static uint8_t hex_digit(char c)
{
	return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

void boot_id_bytes(const char *id, uint8_t ret_bytes[LIMIT_BOOT_ID_BYTES])
{
	assert(boot_id_valid(id));
	for (unsigned i = 0; i < LIMIT_BOOT_ID_BYTES; i++)
		ret_bytes[i] = (uint8_t)(hex_digit(id[2 * i]) << 4 | hex_digit(id[2 * i + 1]));
}

static void boot_id_text(const uint8_t bytes[LIMIT_BOOT_ID_BYTES], char ret_id[BOOT_ID_CHARS + 1])
{
	for (unsigned i = 0; i < LIMIT_BOOT_ID_BYTES; i++)
		(void)snprintf(ret_id + 2 * (size_t)i, 3, "%02x", bytes[i]);
}

int boot_cred_conf(const struct node *node, struct target_conf *conf)
{
	struct target_boot boots[TARGET_BOOTS_MAX] = {0};
	int r;

	assert(node->boot_count <= TARGET_BOOTS_MAX);
	for (unsigned i = 0; i < node->boot_count; i++) {
		const struct boot_cred *from = &node->boots[i];
		struct target_boot *to = &boots[i];

		boot_id_bytes(from->id, to->id);
		to->used = from->used > 0;
		to->secret_bytes = SECRET_CHARS;
		to->mutual_secret_bytes = SECRET_CHARS;
		memcpy(to->secret, from->secret, SECRET_CHARS);
		memcpy(to->mutual_secret, from->mutual_secret, SECRET_CHARS);
	}
	r = target_conf_set_boots(conf, boots, node->boot_count);
	explicit_bzero(boots, sizeof(boots));
	return r;
}

static void on_told(void *arg, int res)
{
	(void)arg;
	/* A node that is being renamed or removed is told when it is served again. */
	if (res < 0 && res != -ENOENT)
		log_warn("a target can't be told of new credentials: %s", strerror(-res));
}

static void tell_target(struct control *control, const struct node *node)
{
	if (node->served && node_tell_target(control, node, on_told, NULL) < 0)
		log_warn("node %s: no memory for new credentials", node->name);
}

/* --- the list --- */

static struct boot_cred *boot_find(struct node *node, const char *id)
{
	for (unsigned i = 0; i < node->boot_count; i++) {
		if (strcmp(node->boots[i].id, id) == 0)
			return &node->boots[i];
	}
	return NULL;
}

static void boots_cut(struct node *node, unsigned from, unsigned count)
{
	unsigned after = node->boot_count - from - count;

	memmove(&node->boots[from], &node->boots[from + count], after * sizeof(node->boots[0]));
	node->boot_count -= count;
	explicit_bzero(&node->boots[node->boot_count], count * sizeof(node->boots[0]));
}

static unsigned unused_count(const struct node *node)
{
	unsigned count = 0;

	for (unsigned i = 0; i < node->boot_count; i++)
		count += node->boots[i].used == 0;
	return count;
}

/* One that goes: unused and over its time. */
static bool expired(const struct boot_cred *boot, uint64_t now)
{
	return boot->used == 0 && boot->until_ms <= now;
}

static bool drop_expired(struct node *node, uint64_t now)
{
	bool any = false;

	for (unsigned i = node->boot_count; i-- > 0;) {
		if (!expired(&node->boots[i], now))
			continue;
		log_info("node %s: boot %s has not used its credentials in time", node->name,
			 node->boots[i].id);
		boots_cut(node, i, 1);
		any = true;
	}
	return any;
}

static void drop_oldest_unused(struct node *node)
{
	for (unsigned i = 0; i < node->boot_count; i++) {
		if (node->boots[i].used == 0) {
			boots_cut(node, i, 1);
			return;
		}
	}
}

void boot_cred_drop_unused(struct node *node)
{
	while (unused_count(node) > 0)
		drop_oldest_unused(node);
}

void boot_cred_renew(struct node *node)
{
	for (unsigned i = 0; i < node->boot_count; i++)
		node->boots[i].until_ms = now_ms() + LIMIT_BOOT_UNUSED_MS;
}

/* --- the catalogue --- */

static int save(struct control *control, struct node *node, struct store_error *err)
{
	int r = catalog_begin(control->catalog, err);

	if (r == 0) {
		r = catalog_put_boots(control->catalog, node, err);
		if (r == 0)
			r = catalog_commit(control->catalog, err);
		else
			catalog_rollback(control->catalog);
	}
	node->boots_unsaved = r < 0;
	return r;
}

/* --- time --- */

/* When something is to be done next; UINT64_MAX: never. */
static uint64_t next_due(const struct control *control, uint64_t now)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < control->node_count; i++) {
		const struct node *node = control->nodes[i];

		if (node->boots_unsaved && due > now + SAVE_AGAIN_MS)
			due = now + SAVE_AGAIN_MS;
		for (unsigned j = 0; j < node->boot_count; j++) {
			if (node->boots[j].used == 0 && node->boots[j].until_ms < due)
				due = node->boots[j].until_ms;
		}
	}
	return due;
}

static void watch_time(struct control *control)
{
	uint64_t now = now_ms(), due = next_due(control, now), ms = due > now ? due - now : 1;
	const struct timeval wait = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};

	if (due == UINT64_MAX)
		(void)event_del(control->boot_timer);
	else
		(void)event_add(control->boot_timer, &wait);
}

void boot_cred_look(struct control *control, uint64_t now)
{
	for (unsigned i = 0; i < control->node_count; i++) {
		struct node *node = control->nodes[i];
		struct store_error err = {""};
		bool dropped = drop_expired(node, now);

		if (dropped)
			tell_target(control, node);
		if ((dropped || node->boots_unsaved) && save(control, node, &err) < 0)
			log_warn("node %s: credentials of its boots are not saved yet: %s",
				 node->name, err.text);
	}
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
	struct control *control = arg;

	(void)fd;
	(void)what;
	boot_cred_look(control, now_ms());
	watch_time(control);
}

/* --- a login --- */

/* It is in use; those before it end. */
static void use(struct node *node, struct boot_cred *boot)
{
	boot->used = time(NULL) > 0 ? time(NULL) : 1;
	boots_cut(node, 0, (unsigned)(boot - node->boots));
}

static int on_record(void *arg, const struct server_login *login)
{
	struct control *control = arg;
	struct node *node = node_find_uuid(control, (const store_uuid_t *)login->target_uuid);
	struct store_error err = {""};
	char id[BOOT_ID_CHARS + 1];
	struct boot_cred *boot;

	boot_id_text(login->boot_id, id);
	boot = node ? boot_find(node, id) : NULL;
	if (!boot)
		return -ENOENT;
	if (boot->used == 0) {
		control_step("boot-login");
		use(node, boot);
		if (save(control, node, &err) < 0)
			log_warn("node %s: that boot %s has logged in is not saved yet: %s",
				 node->name, id, err.text);
		control_step("boot-login-saved");
		tell_target(control, node);
		watch_time(control);
	}
	return 0;
}

static const char *end_text(enum server_end end)
{
	switch (end) {
	case SERVER_END_NOT_YET: break;
	case SERVER_END_LOGOUT: return "the node logged out";
	case SERVER_END_CLOSED: return "the node closed the connection";
	case SERVER_END_LOST: return "the connection was lost";
	case SERVER_END_REPLACED: return "a new login took its place";
	case SERVER_END_TARGET: return "the target was taken away, or lunrootd stops";
	case SERVER_END_BROKEN: return "the node broke the protocol";
	}
	return "";
}

/* The node and the boot that a notice is about; the boot's id is "" for other credentials. */
static struct node *notice_node(struct control *control, const struct server_login *login,
				char ret_id[BOOT_ID_CHARS + 1])
{
	ret_id[0] = '\0';
	if (login->by_boot)
		boot_id_text(login->boot_id, ret_id);
	if (login->lost > 0)
		log_warn("%u logins and ends of sessions came too fast to be noted", login->lost);
	return node_find_uuid(control, (const store_uuid_t *)login->target_uuid);
}

static void on_login(void *arg, const struct server_login *login)
{
	char id[BOOT_ID_CHARS + 1];
	const struct node *node = notice_node(arg, login, id);

	if (node && !login->by_operator)
		boots_login(arg, &node->uuid, id, login->initiator, login->address);
}

static void on_end(void *arg, const struct server_login *login, enum server_end end)
{
	char id[BOOT_ID_CHARS + 1];
	const struct node *node = notice_node(arg, login, id);

	if (node && !login->by_operator)
		boots_session_end(arg, &node->uuid, end_text(end), login->address);
}

/* --- POST /v1/nodes/NAME/boots --- */

static json_t *reply_boot(const struct control *control, const struct node *node,
			  const struct boot_cred *boot)
{
	const char *secret = boot ? boot->secret : node->cred.secret;
	const char *mutual = boot ? boot->mutual_secret : node->cred.mutual_secret;
	json_t *credentials = json_null();

	if (node->auth)
		credentials =
			json_pack("{s:s, s:s, s:s, s:s}", "user", node->cred.user, "secret", secret,
				  "mutual_user", node->cred.mutual_user, "mutual_secret", mutual);
	return json_pack(
		"{s:o, s:o, s:o, s:o}", "credentials", credentials, "portal", reply_portal(control),
		"iqn", json_sprintf("%s%s", IQN_PREFIX, node->name), "initiator",
		node->auth ? json_sprintf("%s%s", INITIATOR_PREFIX, node->name) : json_string(""));
}

static int issue(struct control *control, struct node *node, const char *id,
		 struct api_error *api_err)
{
	struct node before = *node;
	struct boot_cred *boot;
	struct store_error err = {""};
	int r;

	(void)drop_expired(node, now_ms());
	if (unused_count(node) >= LIMIT_BOOT_UNUSED)
		drop_oldest_unused(node);
	assert(node->boot_count < TARGET_BOOTS_MAX);
	boot = &node->boots[node->boot_count++];
	(void)snprintf(boot->id, sizeof(boot->id), "%s", id);
	boot->used = 0;
	boot->issued = time(NULL);
	boot->until_ms = now_ms() + LIMIT_BOOT_UNUSED_MS;
	r = random_text(boot->secret, SECRET_CHARS);
	if (r == 0)
		r = random_text(boot->mutual_secret, SECRET_CHARS);
	if (r == 0)
		r = save(control, node, &err);
	if (r < 0) {
		memcpy(node->boots, before.boots, sizeof(node->boots));
		node->boot_count = before.boot_count;
		api_error_world(api_err, r, err.text[0] ? err.text : node->name);
	}
	explicit_bzero(&before, sizeof(before));
	return r;
}

static void on_issued(void *arg, int res)
{
	struct operation *op = arg;

	if (res == 0 || res == -ENOENT) {
		operation_end(op, op->created ? 201 : 200, json_incref(op->removed));
		return;
	}
	(void)api_error_world(&op->error, res, op->call.name);
	operation_fail(op);
}

/* Answered when the target knows them: the node may log in at once. */
void boot_cred_handle(struct operation *op)
{
	struct control *control = op->control;
	struct node *node = node_find(control, op->call.name);
	struct boot_cred *boot;
	int r;

	assert(node);
	if (node_check_served(node, &op->error) < 0) {
		operation_fail(op);
		return;
	}
	if (!node->auth || node->shared) {
		operation_end(op, 200, reply_boot(control, node, NULL));
		return;
	}
	boot = boot_find(node, op->call.boot);
	op->created = !boot;
	if (!boot && issue(control, node, op->call.boot, &op->error) < 0) {
		watch_time(control);
		operation_fail(op);
		return;
	}
	boot = boot_find(node, op->call.boot);
	boot->until_ms = now_ms() + LIMIT_BOOT_UNUSED_MS;
	watch_time(control);
	control_step("boot-issued");
	op->removed = reply_boot(control, node, boot);
	r = node_tell_target(control, node, on_issued, op);
	if (r < 0) {
		(void)api_error_world(&op->error, r, node->name);
		operation_fail(op);
	}
}

/* What is good now, without the secrets. */
json_t *reply_boot_credentials(const struct node *node)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < node->boot_count; i++) {
		const struct boot_cred *boot = &node->boots[i];

		json_array_append_new(list,
				      json_pack("{s:s, s:o, s:o}", "boot", boot->id, "issued",
						reply_time(boot->issued), "used",
						boot->used ? reply_time(boot->used) : json_null()));
	}
	return list;
}

/* --- begin and end --- */

int boot_cred_start(struct control *control)
{
	const struct server_watch watch = {
		.record = on_record, .login = on_login, .end = on_end, .arg = control};

	control->boot_timer = evtimer_new(control->base, on_time, control);
	if (!control->boot_timer)
		return -ENOMEM;
	watch_time(control);
	server_watch(control->server, &watch);
	return 0;
}

void boot_cred_stop(struct control *control)
{
	if (!control->boot_timer)
		return;
	server_watch(control->server, NULL);
	event_free(control->boot_timer);
	control->boot_timer = NULL;
}
