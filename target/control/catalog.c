/*
 * The catalogue: SQLite (WAL, synchronous=FULL, so that a committed transaction survives a power
 * loss). It holds secrets, so its mode is 0600. It alone says what exists; control_internal.h
 * tells how files follow it.
 */
#include "control/control_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SCHEMA_VERSION 1
#define APPLICATION_ID 0x4c554e52 /* "LUNR": file(1) can tell whose it is */

struct catalog {
	sqlite3 *db;
	char path[PATH_BYTES];
};

static const char schema[] =
	"CREATE TABLE images(uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, old_name TEXT,"
	" size_bytes INTEGER NOT NULL, content TEXT NOT NULL, created INTEGER NOT NULL) STRICT;"
	/* No reference to images: a node whose image is lost is damaged, not gone. */
	"CREATE TABLE nodes(uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
	" image_uuid TEXT NOT NULL, serial TEXT NOT NULL, mac TEXT NOT NULL,"
	" hostname TEXT NOT NULL, user TEXT NOT NULL, secret TEXT NOT NULL,"
	" operator_user TEXT NOT NULL, operator_secret TEXT NOT NULL,"
	" mutual_user TEXT NOT NULL, mutual_secret TEXT NOT NULL,"
	" auth INTEGER NOT NULL, shared INTEGER NOT NULL, read_only INTEGER NOT NULL,"
	" removable INTEGER NOT NULL, durability TEXT NOT NULL, created INTEGER NOT NULL) STRICT;"
	"CREATE TABLE luns(uuid TEXT PRIMARY KEY,"
	" node_uuid TEXT NOT NULL REFERENCES nodes(uuid) ON DELETE CASCADE,"
	" lun INTEGER NOT NULL, size_bytes INTEGER NOT NULL, UNIQUE(node_uuid, lun)) STRICT;"
	"CREATE TABLE layers(uuid TEXT PRIMARY KEY,"
	" lun_uuid TEXT NOT NULL REFERENCES luns(uuid) ON DELETE CASCADE,"
	" position INTEGER NOT NULL, sealed INTEGER NOT NULL, UNIQUE(lun_uuid, position)) STRICT;";

static int catalog_errno(const struct catalog *c)
{
	switch (sqlite3_errcode(c->db) & 0xff) {
	case SQLITE_FULL: return -ENOSPC;
	case SQLITE_NOMEM: return -ENOMEM;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_CANTOPEN:
	case SQLITE_AUTH: return -EACCES;
	case SQLITE_CONSTRAINT: return -EEXIST;
	case SQLITE_BUSY:
	case SQLITE_LOCKED: return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB: return -EBADMSG;
	default: return -EIO;
	}
}

static int catalog_failed(struct catalog *c, struct store_error *err)
{
	int r = catalog_errno(c);

	if (r == -EBADMSG)
		(void)snprintf(err->text, sizeof(err->text),
			       "catalogue %.300s is damaged: %.60s; move it away: the next start "
			       "rebuilds it from images and layers, with new credentials",
			       c->path, sqlite3_errmsg(c->db));
	else
		(void)snprintf(err->text, sizeof(err->text), "catalogue %.300s: %.120s", c->path,
			       sqlite3_errmsg(c->db));
	return r;
}

static int run(struct catalog *c, const char *sql, struct store_error *err)
{
	return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : catalog_failed(c, err);
}

/* One value from a pragma; text is cut. */
static int ask(struct catalog *c, const char *sql, int64_t *ret_number, char *text, size_t bytes,
	       struct store_error *err)
{
	sqlite3_stmt *st = NULL;
	int r = 0;

	if (sqlite3_prepare_v2(c->db, sql, -1, &st, NULL) != SQLITE_OK)
		return catalog_failed(c, err);
	if (sqlite3_step(st) == SQLITE_ROW) {
		if (ret_number)
			*ret_number = sqlite3_column_int64(st, 0);
		if (text)
			(void)snprintf(text, bytes, "%s", (const char *)sqlite3_column_text(st, 0));
	} else {
		r = catalog_failed(c, err);
	}
	sqlite3_finalize(st);
	return r;
}

/* Binds by letters: s text (NULL allowed), u uuid, i int64_t, b bool; runs; resets. */
static int put(struct catalog *c, struct store_error *err, const char *sql, const char *kinds, ...)
{
	char uuid[STORE_UUID_TEXT_BYTES];
	sqlite3_stmt *st = NULL;
	const char *text;
	va_list ap;
	int r = 0;

	if (sqlite3_prepare_v2(c->db, sql, -1, &st, NULL) != SQLITE_OK)
		return catalog_failed(c, err);
	va_start(ap, kinds);
	for (int i = 0; kinds[i]; i++) {
		switch (kinds[i]) {
		case 's':
			text = va_arg(ap, const char *);
			(void)sqlite3_bind_text(st, i + 1, text, -1, SQLITE_STATIC);
			break;
		case 'u':
			store_uuid_format(va_arg(ap, const store_uuid_t *), uuid);
			(void)sqlite3_bind_text(st, i + 1, uuid, -1, SQLITE_TRANSIENT);
			break;
		/* NOLINTNEXTLINE(bugprone-branch-clone): int and int64_t are passed differently */
		case 'i': (void)sqlite3_bind_int64(st, i + 1, va_arg(ap, int64_t)); break;
		default: (void)sqlite3_bind_int64(st, i + 1, va_arg(ap, int)); break;
		}
	}
	va_end(ap);
	if (sqlite3_step(st) != SQLITE_DONE)
		r = catalog_failed(c, err);
	sqlite3_finalize(st);
	return r;
}

/* --- opening --- */

/* SQLite gives the -wal and -shm files the mode of the database. */
static int file_ready(const char *path, struct store_error *err)
{
	struct stat st;
	int AUTO_CLOSE fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = -errno;

		(void)snprintf(err->text, sizeof(err->text),
			       "catalogue %.300s can't be opened: %s; give it and its directory "
			       "to the daemon's user",
			       path, strerror(-r));
		return r;
	}
	if ((st.st_mode & 0077) && fchmod(fd, 0600) < 0)
		return -errno;
	return 0;
}

static int check_whole(struct catalog *c, struct store_error *err)
{
	char answer[128] = "";
	int r = ask(c, "PRAGMA quick_check(1)", NULL, answer, sizeof(answer), err);

	if (r < 0)
		return r;
	if (strcmp(answer, "ok") == 0)
		return 0;
	(void)snprintf(err->text, sizeof(err->text),
		       "catalogue %.250s is damaged: %.80s; move it away: the next start rebuilds "
		       "it from images and layers, with new credentials",
		       c->path, answer);
	return -EBADMSG;
}

static int check_version(struct catalog *c, bool *ret_fresh, struct store_error *err)
{
	int64_t version = 0, application = 0, tables = 0;
	int r = ask(c, "PRAGMA user_version", &version, NULL, 0, err);

	if (r == 0)
		r = ask(c, "PRAGMA application_id", &application, NULL, 0, err);
	if (r == 0)
		r = ask(c, "SELECT count(*) FROM sqlite_schema", &tables, NULL, 0, err);
	if (r < 0)
		return r;
	if (version == 0 && tables == 0) {
		*ret_fresh = true;
		return 0;
	}
	*ret_fresh = false;
	if (application != APPLICATION_ID || version < 1) {
		(void)snprintf(err->text, sizeof(err->text),
			       "%.300s is a database of another program; choose another state "
			       "directory with --state",
			       c->path);
		return -EBADMSG;
	}
	if (version > SCHEMA_VERSION) {
		(void)snprintf(
			err->text, sizeof(err->text),
			"catalogue %.300s was written by a newer lunrootd (schema %lld, this "
			"one knows %d); install the newer one again",
			c->path, (long long)version, SCHEMA_VERSION);
		return -EPROTO;
	}
	return check_whole(c, err);
}

static int open_db(struct catalog *c, bool *ret_fresh, struct store_error *err)
{
	char pragma[64];
	int r;

	if (sqlite3_open_v2(c->path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		return catalog_failed(c, err);
	sqlite3_busy_timeout(c->db, 2000); /* somebody's backup */
	r = check_version(c, ret_fresh, err);
	if (r == 0)
		r = run(c,
			"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON",
			err);
	if (r < 0 || !*ret_fresh)
		return r;
	r = catalog_begin(c, err);
	if (r == 0)
		r = run(c, schema, err);
	(void)snprintf(pragma, sizeof(pragma), "PRAGMA application_id=%d; PRAGMA user_version=%d",
		       APPLICATION_ID, SCHEMA_VERSION);
	if (r == 0)
		r = run(c, pragma, err);
	return r;
}

int catalog_open(const char *path, struct catalog **ret_catalog, bool *ret_fresh,
		 struct store_error *err)
{
	struct catalog *c;
	bool fresh = false;
	int r = file_ready(path, err);

	if (r < 0)
		return r;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	(void)snprintf(c->path, sizeof(c->path), "%s", path);
	r = open_db(c, &fresh, err);
	if (r < 0) {
		catalog_close(c);
		return r;
	}
	*ret_catalog = c;
	*ret_fresh = fresh;
	return 0;
}

void catalog_close(struct catalog *c)
{
	if (!c)
		return;
	(void)sqlite3_close(c->db);
	free(c);
}

int catalog_begin(struct catalog *c, struct store_error *err)
{
	return run(c, "BEGIN IMMEDIATE", err);
}

int catalog_commit(struct catalog *c, struct store_error *err)
{
	int r = run(c, "COMMIT", err);

	if (r < 0)
		catalog_rollback(c);
	return r;
}

void catalog_rollback(struct catalog *c)
{
	if (!sqlite3_get_autocommit(c->db))
		(void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

/* --- writing --- */

int catalog_put_image(struct catalog *c, const struct image *image, struct store_error *err)
{
	return put(c, err, "INSERT INTO images VALUES(?,?,NULL,?,?,?)", "usisi", &image->uuid,
		   image->name, (int64_t)image->size_bytes, image->content, image->created);
}

static int put_lun(struct catalog *c, const struct node *node, const struct lun *lun,
		   struct store_error *err)
{
	int r = put(c, err, "INSERT INTO luns VALUES(?,?,?,?)", "uubi", &lun->uuid, &node->uuid,
		    (int)lun->number, (int64_t)lun->size_bytes);

	for (unsigned i = 0; r == 0 && i < lun->layer_count; i++)
		r = put(c, err, "INSERT INTO layers VALUES(?,?,?,?)", "uubb", &lun->layers[i].uuid,
			&lun->uuid, (int)i, (int)lun->layers[i].sealed);
	return r;
}

int catalog_put_node(struct catalog *c, const struct node *node, struct store_error *err)
{
	int r = put(c, err, "INSERT INTO nodes VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		    "ususssssssssbbbbsi", &node->uuid, node->name, &node->image_uuid, node->serial,
		    node->mac, node->hostname, node->cred.user, node->cred.secret,
		    node->cred.operator_user, node->cred.operator_secret, node->cred.mutual_user,
		    node->cred.mutual_secret, (int)node->auth, (int)node->shared,
		    (int)node->read_only, (int)node->removable,
		    node->scratch ? "scratch" : "strict", node->created);

	for (unsigned i = 0; r == 0 && i < node->lun_count; i++)
		r = put_lun(c, node, &node->luns[i], err);
	return r;
}

int catalog_rename_image(struct catalog *c, const store_uuid_t *uuid, const char *name,
			 const char *old_name, struct store_error *err)
{
	return put(c, err, "UPDATE images SET name=?, old_name=? WHERE uuid=?", "ssu", name,
		   old_name, uuid);
}

int catalog_update_node(struct catalog *c, const struct node *node, struct store_error *err)
{
	return put(c, err,
		   "UPDATE nodes SET name=?, hostname=?, user=?, secret=?, operator_user=?,"
		   " operator_secret=?, mutual_user=?, mutual_secret=? WHERE uuid=?",
		   "ssssssssu", node->name, node->hostname, node->cred.user, node->cred.secret,
		   node->cred.operator_user, node->cred.operator_secret, node->cred.mutual_user,
		   node->cred.mutual_secret, &node->uuid);
}

int catalog_delete_image(struct catalog *c, const store_uuid_t *uuid, struct store_error *err)
{
	return put(c, err, "DELETE FROM images WHERE uuid=?", "u", uuid);
}

int catalog_delete_node(struct catalog *c, const store_uuid_t *uuid, struct store_error *err)
{
	return put(c, err, "DELETE FROM nodes WHERE uuid=?", "u", uuid);
}

/* --- reading --- */

static int bad_row(struct catalog *c, const char *what, struct store_error *err)
{
	(void)snprintf(err->text, sizeof(err->text),
		       "catalogue %.300s is damaged: %s makes no sense; move it away: the next "
		       "start rebuilds it from images and layers, with new credentials",
		       c->path, what);
	return -EBADMSG;
}

/* false if it does not fit. */
static bool take_text(sqlite3_stmt *st, int column, char *to, size_t bytes)
{
	const char *text = (const char *)sqlite3_column_text(st, column);

	if (!text)
		text = "";
	if (strlen(text) >= bytes)
		return false;
	memcpy(to, text, strlen(text) + 1);
	return true;
}

static bool take_uuid(sqlite3_stmt *st, int column, store_uuid_t *to)
{
	const char *text = (const char *)sqlite3_column_text(st, column);

	return text && store_uuid_parse(text, to);
}

static bool take_image(sqlite3_stmt *st, struct image *image)
{
	image->size_bytes = (uint64_t)sqlite3_column_int64(st, 3);
	image->created = sqlite3_column_int64(st, 5);
	return take_uuid(st, 0, &image->uuid) &&
	       take_text(st, 1, image->name, sizeof(image->name)) && name_valid(image->name) &&
	       take_text(st, 2, image->old_name, sizeof(image->old_name)) &&
	       (image->old_name[0] == '\0' || name_valid(image->old_name)) &&
	       image->size_bytes <= LIMIT_DISK_BYTES &&
	       take_text(st, 4, image->content, sizeof(image->content));
}

static int load_images(struct catalog *c, int (*on_image)(void *, struct image *), void *arg,
		       struct store_error *err)
{
	sqlite3_stmt *st = NULL;
	int r = 0, step = SQLITE_ROW;

	if (sqlite3_prepare_v2(c->db,
			       "SELECT uuid, name, old_name, size_bytes, content, created FROM "
			       "images ORDER BY name",
			       -1, &st, NULL) != SQLITE_OK)
		return catalog_failed(c, err);
	while (r == 0 && (step = sqlite3_step(st)) == SQLITE_ROW) {
		struct image *image = calloc(1, sizeof(*image));

		if (!image) {
			r = -ENOMEM;
		} else if (!take_image(st, image)) {
			free(image);
			r = bad_row(c, "an image", err);
		} else {
			r = on_image(arg, image);
		}
	}
	if (r == 0 && step != SQLITE_DONE)
		r = catalog_failed(c, err);
	sqlite3_finalize(st);
	return r;
}

static bool take_node(sqlite3_stmt *st, struct node *node)
{
	struct credentials *cred = &node->cred;
	char durability[16];

	node->auth = sqlite3_column_int(st, 12) != 0;
	node->shared = sqlite3_column_int(st, 13) != 0;
	node->read_only = sqlite3_column_int(st, 14) != 0;
	node->removable = sqlite3_column_int(st, 15) != 0;
	node->created = sqlite3_column_int64(st, 17);
	if (!take_text(st, 16, durability, sizeof(durability)))
		return false;
	node->scratch = strcmp(durability, "scratch") == 0;
	return take_uuid(st, 0, &node->uuid) && take_text(st, 1, node->name, sizeof(node->name)) &&
	       name_valid(node->name) && take_uuid(st, 2, &node->image_uuid) &&
	       take_text(st, 3, node->serial, sizeof(node->serial)) &&
	       take_text(st, 4, node->mac, sizeof(node->mac)) &&
	       take_text(st, 5, node->hostname, sizeof(node->hostname)) &&
	       take_text(st, 6, cred->user, sizeof(cred->user)) &&
	       take_text(st, 7, cred->secret, sizeof(cred->secret)) &&
	       take_text(st, 8, cred->operator_user, sizeof(cred->operator_user)) &&
	       take_text(st, 9, cred->operator_secret, sizeof(cred->operator_secret)) &&
	       take_text(st, 10, cred->mutual_user, sizeof(cred->mutual_user)) &&
	       take_text(st, 11, cred->mutual_secret, sizeof(cred->mutual_secret));
}

/* Rows of one node, by LUN and position: each starts a LUN or adds a layer to the last one. */
static bool take_layer(sqlite3_stmt *st, struct node *node)
{
	int number = sqlite3_column_int(st, 1), position = sqlite3_column_int(st, 3);
	struct lun *lun = node->lun_count ? &node->luns[node->lun_count - 1] : NULL;

	if (number < 0 || number >= LIMIT_LUNS_PER_NODE)
		return false;
	if (!lun || lun->number != number) {
		if (node->lun_count == LIMIT_LUNS_PER_NODE)
			return false;
		lun = &node->luns[node->lun_count++];
		lun->number = (uint8_t)number;
		lun->size_bytes = (uint64_t)sqlite3_column_int64(st, 2);
		if (!take_uuid(st, 0, &lun->uuid) || lun->size_bytes > LIMIT_DISK_BYTES)
			return false;
	}
	if (position != (int)lun->layer_count || position >= LIMIT_CHAIN_LAYERS)
		return false;
	lun->layers[position].sealed = sqlite3_column_int(st, 5) != 0;
	lun->layer_count++;
	return take_uuid(st, 4, &lun->layers[position].uuid);
}

static int load_luns(struct catalog *c, struct node *node, struct store_error *err)
{
	char uuid[STORE_UUID_TEXT_BYTES];
	sqlite3_stmt *st = NULL;
	struct lun *luns;
	int step, r = 0;

	node->luns = calloc(LIMIT_LUNS_PER_NODE, sizeof(*node->luns));
	if (!node->luns)
		return -ENOMEM;
	if (sqlite3_prepare_v2(
		    c->db,
		    "SELECT l.uuid, l.lun, l.size_bytes, y.position, y.uuid, y.sealed "
		    "FROM luns l JOIN layers y ON y.lun_uuid = l.uuid WHERE l.node_uuid=? "
		    "ORDER BY l.lun, y.position",
		    -1, &st, NULL) != SQLITE_OK)
		return catalog_failed(c, err);
	store_uuid_format(&node->uuid, uuid);
	(void)sqlite3_bind_text(st, 1, uuid, -1, SQLITE_STATIC);
	while (r == 0 && (step = sqlite3_step(st)) != SQLITE_DONE) {
		if (step != SQLITE_ROW)
			r = catalog_failed(c, err);
		else if (!take_layer(st, node))
			r = bad_row(c, node->name, err);
	}
	sqlite3_finalize(st);
	if (r == 0 && node->lun_count == 0)
		r = bad_row(c, node->name, err);
	if (r < 0)
		return r;
	luns = realloc(node->luns, node->lun_count * sizeof(*luns));
	if (luns)
		node->luns = luns;
	return 0;
}

static int load_nodes(struct catalog *c, int (*on_node)(void *, struct node *), void *arg,
		      struct store_error *err)
{
	sqlite3_stmt *st = NULL;
	int r = 0, step = SQLITE_ROW;

	if (sqlite3_prepare_v2(c->db, "SELECT * FROM nodes ORDER BY name", -1, &st, NULL) !=
	    SQLITE_OK)
		return catalog_failed(c, err);
	while (r == 0 && (step = sqlite3_step(st)) == SQLITE_ROW) {
		struct node *node = calloc(1, sizeof(*node));

		if (!node)
			r = -ENOMEM;
		else if (!take_node(st, node))
			r = bad_row(c, "a node", err);
		else
			r = load_luns(c, node, err);
		if (r == 0)
			r = on_node(arg, node);
		else
			node_free(node);
	}
	if (r == 0 && step != SQLITE_DONE)
		r = catalog_failed(c, err);
	sqlite3_finalize(st);
	return r;
}

int catalog_load(struct catalog *c, int (*on_image)(void *arg, struct image *image),
		 int (*on_node)(void *arg, struct node *node), void *arg, struct store_error *err)
{
	int r = load_images(c, on_image, arg, err);

	return r < 0 ? r : load_nodes(c, on_node, arg, err);
}
