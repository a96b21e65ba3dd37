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
#include "base/log.h"

#define SCHEMA_VERSION ((int)ARRAY_COUNT(steps))
#define APPLICATION_ID 0x4c554e52 /* "LUNR": file(1) can tell whose it is */

/*
 * Room for what must be written when the disk is full, so that removing something works then: the
 * write-ahead log has this much beyond its end, and begins anew before it is used up; the database
 * grows in such steps, so that few changes need more of it.
 */
#define ROOM_BYTES       (1 << 20)
#define GROW_BYTES       (256 << 10)
#define CHECKPOINT_PAGES "100"

struct catalog {
	sqlite3 *db;
	char path[PATH_BYTES];
};

/*
 * How a catalogue comes to be, and from one version to the next: steps[n] leads from user_version n
 * to n + 1. A fresh one takes all of them. What stands here is never changed, only added to.
 */
static const char *const steps[] = {
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
	" position INTEGER NOT NULL, sealed INTEGER NOT NULL, UNIQUE(lun_uuid, position)) STRICT;",

	/* Snapshots: a sealed layer's name, and when it was sealed. */
	"ALTER TABLE layers ADD COLUMN snapshot TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE layers ADD COLUMN created INTEGER NOT NULL DEFAULT 0;",

	/* The trash: images and nodes keep their rows, but their names are free: there they are
	 * called ".UUID", which nobody else can be. Rowids grow: of those that came in one second
	 * the later one has the higher. */
	"CREATE TABLE trash(uuid TEXT PRIMARY KEY, name TEXT NOT NULL, removed INTEGER NOT NULL)"
	" STRICT;"
	"CREATE TRIGGER image_gone AFTER DELETE ON images"
	" BEGIN DELETE FROM trash WHERE uuid = old.uuid; END;"
	"CREATE TRIGGER node_gone AFTER DELETE ON nodes"
	" BEGIN DELETE FROM trash WHERE uuid = old.uuid; END;",

	/* Credentials of boots, in the order in which they were issued. */
	"CREATE TABLE boot_credentials("
	"node_uuid TEXT NOT NULL REFERENCES nodes(uuid) ON DELETE CASCADE,"
	" position INTEGER NOT NULL, boot TEXT NOT NULL, secret TEXT NOT NULL,"
	" mutual_secret TEXT NOT NULL, issued INTEGER NOT NULL, used INTEGER NOT NULL,"
	" PRIMARY KEY(node_uuid, position)) STRICT;",
	/* Addresses that lunbootd has given out. */
	"CREATE TABLE leases(mac TEXT PRIMARY KEY, address TEXT NOT NULL UNIQUE,"
	" until INTEGER NOT NULL, hostname TEXT NOT NULL) STRICT;",
	/* Static addresses of nodes. */
	"ALTER TABLE nodes ADD COLUMN address TEXT NOT NULL DEFAULT '';",
};

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

/*
 * After a commit that failed, outside of any transaction. If its sync failed all of it may stand in
 * the log, and count when that is read again; so another transaction, one that changes nothing,
 * takes its place there. `r` if that worked: then nothing has happened. Else -EUCLEAN.
 */
static int commit_failed(struct catalog *c, int r, struct store_error *err)
{
	struct store_error ignored;
	char pragma[80];
	int64_t version = 0;

	if (r != -EIO || MUTANT(failed_commit_left))
		return r; /* it was not written */
	if (ask(c, "PRAGMA user_version", &version, NULL, 0, &ignored) == 0) {
		(void)snprintf(pragma, sizeof(pragma),
			       "BEGIN IMMEDIATE; PRAGMA user_version=%lld; COMMIT",
			       (long long)version);
		if (sqlite3_exec(c->db, pragma, NULL, NULL, NULL) == SQLITE_OK)
			return r;
		catalog_rollback(c);
	}
	(void)snprintf(err->text, sizeof(err->text),
		       "catalogue %.300s: disk I/O error; whether it happened is known after the "
		       "next start of lunrootd",
		       c->path);
	return MUTANT(unsure_commit_undone) ? r : -EUCLEAN;
}

/* Binds by letters: s text (NULL allowed), u uuid, i int64_t, b bool; runs; resets. */
static int put(struct catalog *c, struct store_error *err, const char *sql, const char *kinds, ...)
{
	bool alone = sqlite3_get_autocommit(c->db);
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
	return r < 0 && alone ? commit_failed(c, r, err) : r;
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

/*
 * A commit that was written, but not synced when we died, counts when the log is read; what we do
 * on its word must not outlive it. So it is synced first, and read anew: the cache may hold what a
 * sync that failed has not brought to the medium.
 */
static int log_settle(const char *path, struct store_error *err)
{
	char log[PATH_BYTES + 8];
	int AUTO_CLOSE fd = -1;
	int r;

	(void)snprintf(log, sizeof(log), "%s-wal", path);
	fd = open(log, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd >= 0 && (MUTANT(log_believed) || fsync(fd) == 0)) {
		(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		return 0;
	}
	r = -errno;
	(void)snprintf(err->text, sizeof(err->text), "catalogue's log %.300s can't be synced: %s",
		       log, strerror(-r));
	return r;
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

/* What is there: version 0 is an empty one. */
static int check_version(struct catalog *c, int *ret_version, struct store_error *err)
{
	int64_t version = 0, application = 0, tables = 0;
	int r = ask(c, "PRAGMA user_version", &version, NULL, 0, err);

	if (r == 0)
		r = ask(c, "PRAGMA application_id", &application, NULL, 0, err);
	if (r == 0)
		r = ask(c, "SELECT count(*) FROM sqlite_schema", &tables, NULL, 0, err);
	if (r < 0)
		return r;
	*ret_version = (int)version;
	if (version == 0 && tables == 0)
		return 0;
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

/* All steps that are missing, in one transaction, which stays open. */
static int upgrade(struct catalog *c, int version, struct store_error *err)
{
	char pragma[80];
	int r = catalog_begin(c, err);

	for (int i = version; r == 0 && i < SCHEMA_VERSION; i++)
		r = run(c, steps[i], err);
	(void)snprintf(pragma, sizeof(pragma), "PRAGMA application_id=%d; PRAGMA user_version=%d",
		       APPLICATION_ID, SCHEMA_VERSION);
	if (r == 0)
		r = run(c, pragma, err);
	if (r < 0)
		catalog_rollback(c);
	return r;
}

static int open_db(struct catalog *c, bool *ret_fresh, struct store_error *err)
{
	int version = 0, grow = GROW_BYTES;
	int r;

	if (sqlite3_open_v2(c->path, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		return catalog_failed(c, err);
	sqlite3_busy_timeout(c->db, 2000); /* somebody's backup */
	(void)sqlite3_file_control(c->db, NULL, SQLITE_FCNTL_CHUNK_SIZE, &grow);
	r = check_version(c, &version, err);
	if (r == 0)
		r = run(c,
			"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
			"PRAGMA wal_autocheckpoint=" CHECKPOINT_PAGES,
			err);
	if (r == 0 && MUTANT(commit_unsynced))
		r = run(c, "PRAGMA synchronous=NORMAL", err);
	*ret_fresh = version == 0;
	if (r < 0 || version == SCHEMA_VERSION)
		return r;
	r = upgrade(c, version, err);
	if (r < 0 || *ret_fresh)
		return r;
	r = catalog_commit(c, err);
	if (r == 0)
		log_info("catalogue %s: brought from schema %d to %d", c->path, version,
			 SCHEMA_VERSION);
	return r;
}

int catalog_open(const char *path, struct catalog **ret_catalog, bool *ret_fresh,
		 struct store_error *err)
{
	struct catalog *c;
	bool fresh = false;
	int r = file_ready(path, err);

	if (r == 0)
		r = log_settle(path, err);
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

void catalog_reserve(struct catalog *c)
{
	char path[PATH_BYTES + 8];
	int AUTO_CLOSE fd = -1;

	(void)snprintf(path, sizeof(path), "%s-wal", c->path);
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, ROOM_BYTES) < 0)
		log_debug("%s: no room can be kept for it: %s", path, strerror(errno));
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
	return MUTANT(rows_one_by_one) ? 0 : run(c, "BEGIN IMMEDIATE", err);
}

int catalog_commit(struct catalog *c, struct store_error *err)
{
	int r = MUTANT(rows_one_by_one) ? 0 : run(c, "COMMIT", err);

	if (r == 0)
		return 0;
	catalog_rollback(c);
	return commit_failed(c, r, err);
}

void catalog_rollback(struct catalog *c)
{
	if (!sqlite3_get_autocommit(c->db))
		(void)sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
}

/* --- writing --- */

/* What its row is called: in the trash the name is free for others. */
static const char *row_name(const store_uuid_t *uuid, const char *name, bool trash,
			    char buffer[NAME_BYTES])
{
	if (!trash)
		return name;
	buffer[0] = '.';
	store_uuid_format(uuid, buffer + 1);
	return buffer;
}

static int put_trash(struct catalog *c, const store_uuid_t *uuid, const char *name, int64_t removed,
		     struct store_error *err)
{
	return put(c, err, "INSERT INTO trash(uuid, name, removed) VALUES(?,?,?)", "usi", uuid,
		   name, removed);
}

int catalog_put_image(struct catalog *c, const struct image *image, struct store_error *err)
{
	char buffer[NAME_BYTES];
	int r = put(c, err, "INSERT INTO images VALUES(?,?,NULL,?,?,?)", "usisi", &image->uuid,
		    row_name(&image->uuid, image->name, image->removed, buffer),
		    (int64_t)image->size_bytes, image->content, image->created);

	return r < 0 || !image->removed
		       ? r
		       : put_trash(c, &image->uuid, image->name, image->removed, err);
}

static int put_lun(struct catalog *c, const struct node *node, const struct lun *lun,
		   struct store_error *err)
{
	int r = put(c, err, "INSERT INTO luns VALUES(?,?,?,?)", "uubi", &lun->uuid, &node->uuid,
		    (int)lun->number, (int64_t)lun->size_bytes);

	for (unsigned i = 0; r == 0 && i < lun->layer_count; i++)
		r = put(c, err,
			"INSERT INTO layers(uuid, lun_uuid, position, sealed, snapshot, created)"
			" VALUES(?,?,?,?,?,?)",
			"uubbsi", &lun->layers[i].uuid, &lun->uuid, (int)i,
			(int)lun->layers[i].sealed, lun->layers[i].snapshot,
			lun->layers[i].created);
	return r;
}

int catalog_put_node(struct catalog *c, const struct node *node, struct store_error *err)
{
	char buffer[NAME_BYTES];
	int r = put(c, err, "INSERT INTO nodes VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		    "ususssssssssbbbbsis", &node->uuid,
		    row_name(&node->uuid, node->name, node->removed, buffer), &node->image_uuid,
		    node->serial, node->mac, node->hostname, node->cred.user, node->cred.secret,
		    node->cred.operator_user, node->cred.operator_secret, node->cred.mutual_user,
		    node->cred.mutual_secret, (int)node->auth, (int)node->shared,
		    (int)node->read_only, (int)node->removable,
		    node->scratch ? "scratch" : "strict", node->created, node->address);

	for (unsigned i = 0; r == 0 && i < node->lun_count; i++)
		r = put_lun(c, node, &node->luns[i], err);
	if (r == 0 && node->removed)
		r = put_trash(c, &node->uuid, node->name, node->removed, err);
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
		   "UPDATE nodes SET name=?, hostname=?, serial=?, mac=?, user=?, secret=?,"
		   " operator_user=?, operator_secret=?, mutual_user=?, mutual_secret=?, address=?"
		   " WHERE uuid=?",
		   "sssssssssssu", node->name, node->hostname, node->serial, node->mac,
		   node->cred.user, node->cred.secret, node->cred.operator_user,
		   node->cred.operator_secret, node->cred.mutual_user, node->cred.mutual_secret,
		   node->address, &node->uuid);
}

int catalog_put_boots(struct catalog *c, const struct node *node, struct store_error *err)
{
	int r = put(c, err, "DELETE FROM boot_credentials WHERE node_uuid=?", "u", &node->uuid);

	for (unsigned i = 0; r == 0 && i < node->boot_count; i++) {
		const struct boot_cred *boot = &node->boots[i];

		r = put(c, err, "INSERT INTO boot_credentials VALUES(?,?,?,?,?,?,?)", "uisssii",
			&node->uuid, (int64_t)i, boot->id, boot->secret, boot->mutual_secret,
			boot->issued, boot->used);
	}
	return r;
}

int catalog_update_chains(struct catalog *c, const struct node *node, struct store_error *err)
{
	int r = put(c, err, "UPDATE nodes SET image_uuid=? WHERE uuid=?", "uu", &node->image_uuid,
		    &node->uuid);

	/* Layers go with their LUNs. */
	if (r == 0)
		r = put(c, err, "DELETE FROM luns WHERE node_uuid=?", "u", &node->uuid);
	for (unsigned i = 0; r == 0 && i < node->lun_count; i++)
		r = put_lun(c, node, &node->luns[i], err);
	return r;
}

int catalog_delete_image(struct catalog *c, const store_uuid_t *uuid, struct store_error *err)
{
	return put(c, err, "DELETE FROM images WHERE uuid=?", "u", uuid);
}

int catalog_delete_node(struct catalog *c, const store_uuid_t *uuid, struct store_error *err)
{
	return put(c, err, "DELETE FROM nodes WHERE uuid=?", "u", uuid);
}

static int forget_trash(struct catalog *c, const store_uuid_t *uuid, struct store_error *err)
{
	return put(c, err, "DELETE FROM trash WHERE uuid=?", "u", uuid);
}

int catalog_trash_image(struct catalog *c, const struct image *image, struct store_error *err)
{
	char buffer[NAME_BYTES];
	int r = put_trash(c, &image->uuid, image->name, image->removed, err);

	return r < 0 ? r
		     : catalog_rename_image(c, &image->uuid,
					    row_name(&image->uuid, image->name, true, buffer), NULL,
					    err);
}

int catalog_trash_node(struct catalog *c, const struct node *node, struct store_error *err)
{
	char buffer[NAME_BYTES];
	int r = put_trash(c, &node->uuid, node->name, node->removed, err);

	if (r == 0)
		r = put(c, err, "DELETE FROM boot_credentials WHERE node_uuid=? AND used=0", "u",
			&node->uuid);
	return r < 0 ? r
		     : put(c, err, "UPDATE nodes SET name=? WHERE uuid=?", "su",
			   row_name(&node->uuid, node->name, true, buffer), &node->uuid);
}

int catalog_undo_image(struct catalog *c, const struct image *image, struct store_error *err)
{
	int r = forget_trash(c, &image->uuid, err);

	return r < 0 ? r : catalog_rename_image(c, &image->uuid, image->name, NULL, err);
}

int catalog_undo_node(struct catalog *c, const struct node *node, struct store_error *err)
{
	int r = forget_trash(c, &node->uuid, err);

	return r < 0 ? r : catalog_update_node(c, node, err);
}

/* --- leases --- */

static int put_lease(struct catalog *c, const struct lease *lease, int64_t now,
		     struct store_error *err)
{
	int64_t count = 0;
	int r = put(c, err, "DELETE FROM leases WHERE mac=? OR (address=? AND until<?)", "ssi",
		    lease->mac, lease->address, now);

	if (r == 0)
		r = ask(c, "SELECT count(*) FROM leases", &count, NULL, 0, err);
	/* A MAC that comes again gets its old address, as long as nobody else needs the place. */
	if (r == 0 && count >= LIMIT_LEASES) {
		r = put(c, err,
			"DELETE FROM leases WHERE mac IN (SELECT mac FROM leases WHERE until<? "
			"ORDER BY until LIMIT 1)",
			"i", now);
		if (r == 0 && sqlite3_changes(c->db) == 0)
			return -EMFILE;
	}
	return r < 0 ? r
		     : put(c, err, "INSERT INTO leases VALUES(?,?,?,?)", "ssis", lease->mac,
			   lease->address, lease->until, lease->hostname);
}

int catalog_put_lease(struct catalog *c, const struct lease *lease, int64_t now,
		      struct store_error *err)
{
	int r = catalog_begin(c, err);

	if (r < 0)
		return r;
	r = put_lease(c, lease, now, err);
	if (r < 0)
		catalog_rollback(c);
	return r < 0 ? r : catalog_commit(c, err);
}

int catalog_delete_lease(struct catalog *c, const char *mac, struct store_error *err)
{
	int r = put(c, err, "DELETE FROM leases WHERE mac=?", "s", mac);

	return r < 0 ? r : sqlite3_changes(c->db) == 0 ? -ENOENT : 0;
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
	image->removed = sqlite3_column_int64(st, 6);
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
			       "SELECT i.uuid, coalesce(t.name, i.name), i.old_name, i.size_bytes,"
			       " i.content, i.created, t.removed FROM images i"
			       " LEFT JOIN trash t ON t.uuid = i.uuid ORDER BY t.rowid, i.name",
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
	int trash = sqlite3_column_count(st) - 2; /* name, removed */
	bool removed = sqlite3_column_type(st, trash) != SQLITE_NULL;

	node->auth = sqlite3_column_int(st, 12) != 0;
	node->shared = sqlite3_column_int(st, 13) != 0;
	node->read_only = sqlite3_column_int(st, 14) != 0;
	node->removable = sqlite3_column_int(st, 15) != 0;
	node->created = sqlite3_column_int64(st, 17);
	node->removed = sqlite3_column_int64(st, trash + 1);
	if (!take_text(st, 16, durability, sizeof(durability)))
		return false;
	node->scratch = strcmp(durability, "scratch") == 0;
	return take_uuid(st, 0, &node->uuid) &&
	       take_text(st, removed ? trash : 1, node->name, sizeof(node->name)) &&
	       name_valid(node->name) && take_uuid(st, 2, &node->image_uuid) &&
	       take_text(st, 3, node->serial, sizeof(node->serial)) &&
	       take_text(st, 4, node->mac, sizeof(node->mac)) &&
	       take_text(st, 5, node->hostname, sizeof(node->hostname)) &&
	       take_text(st, 6, cred->user, sizeof(cred->user)) &&
	       take_text(st, 7, cred->secret, sizeof(cred->secret)) &&
	       take_text(st, 8, cred->operator_user, sizeof(cred->operator_user)) &&
	       take_text(st, 9, cred->operator_secret, sizeof(cred->operator_secret)) &&
	       take_text(st, 10, cred->mutual_user, sizeof(cred->mutual_user)) &&
	       take_text(st, 11, cred->mutual_secret, sizeof(cred->mutual_secret)) &&
	       take_text(st, 18, node->address, sizeof(node->address));
}

/* Rows of one node, by LUN and position: each starts a LUN or adds a layer to the last one. */
static bool take_layer(sqlite3_stmt *st, struct node *node)
{
	int number = sqlite3_column_int(st, 1), position = sqlite3_column_int(st, 3);
	struct lun *lun = node->lun_count ? &node->luns[node->lun_count - 1] : NULL;
	struct layer *layer;

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
	layer = &lun->layers[lun->layer_count++];
	layer->sealed = sqlite3_column_int(st, 5) != 0;
	layer->created = sqlite3_column_int64(st, 7);
	return take_uuid(st, 4, &layer->uuid) &&
	       take_text(st, 6, layer->snapshot, sizeof(layer->snapshot)) &&
	       (layer->snapshot[0] == '\0' || name_valid(layer->snapshot));
}

/* The rows of what belongs to one node, each by `take`, which says whether it makes sense. Ends the
 * statement. */
static int take_rows(struct catalog *c, sqlite3_stmt *st, struct node *node,
		     bool (*take)(sqlite3_stmt *st, struct node *node), struct store_error *err)
{
	char uuid[STORE_UUID_TEXT_BYTES];
	int step, r = 0;

	store_uuid_format(&node->uuid, uuid);
	(void)sqlite3_bind_text(st, 1, uuid, -1, SQLITE_STATIC);
	while (r == 0 && (step = sqlite3_step(st)) != SQLITE_DONE) {
		if (step != SQLITE_ROW)
			r = catalog_failed(c, err);
		else if (!take(st, node))
			r = bad_row(c, node->name, err);
	}
	sqlite3_finalize(st);
	return r;
}

static int load_luns(struct catalog *c, struct node *node, struct store_error *err)
{
	sqlite3_stmt *st = NULL;
	struct lun *luns;
	int r = 0;

	node->luns = calloc(LIMIT_LUNS_PER_NODE, sizeof(*node->luns));
	if (!node->luns)
		return -ENOMEM;
	if (sqlite3_prepare_v2(
		    c->db,
		    "SELECT l.uuid, l.lun, l.size_bytes, y.position, y.uuid, y.sealed, "
		    "y.snapshot, y.created "
		    "FROM luns l JOIN layers y ON y.lun_uuid = l.uuid WHERE l.node_uuid=? "
		    "ORDER BY l.lun, y.position",
		    -1, &st, NULL) != SQLITE_OK)
		return catalog_failed(c, err);
	r = take_rows(c, st, node, take_layer, err);
	if (r == 0 && node->lun_count == 0)
		r = bad_row(c, node->name, err);
	if (r < 0)
		return r;
	luns = realloc(node->luns, node->lun_count * sizeof(*luns));
	if (luns)
		node->luns = luns;
	return 0;
}

static bool take_boot(sqlite3_stmt *st, struct node *node)
{
	struct boot_cred *boot;

	if (node->boot_count == TARGET_BOOTS_MAX)
		return false;
	boot = &node->boots[node->boot_count++];
	boot->issued = sqlite3_column_int64(st, 3);
	boot->used = sqlite3_column_int64(st, 4);
	return take_text(st, 0, boot->id, sizeof(boot->id)) && boot_id_valid(boot->id) &&
	       take_text(st, 1, boot->secret, sizeof(boot->secret)) &&
	       strlen(boot->secret) == SECRET_CHARS &&
	       take_text(st, 2, boot->mutual_secret, sizeof(boot->mutual_secret)) &&
	       strlen(boot->mutual_secret) == SECRET_CHARS;
}

static int load_boots(struct catalog *c, struct node *node, struct store_error *err)
{
	sqlite3_stmt *st = NULL;
	int r = 0;

	if (sqlite3_prepare_v2(c->db,
			       "SELECT boot, secret, mutual_secret, issued, used"
			       " FROM boot_credentials WHERE node_uuid=? ORDER BY position",
			       -1, &st, NULL) != SQLITE_OK)
		return catalog_failed(c, err);
	r = take_rows(c, st, node, take_boot, err);
	boot_cred_renew(node);
	return r;
}

static int load_nodes(struct catalog *c, int (*on_node)(void *, struct node *), void *arg,
		      struct store_error *err)
{
	sqlite3_stmt *st = NULL;
	int r = 0, step = SQLITE_ROW;

	if (sqlite3_prepare_v2(c->db,
			       "SELECT n.*, t.name, t.removed FROM nodes n"
			       " LEFT JOIN trash t ON t.uuid = n.uuid ORDER BY t.rowid, n.name",
			       -1, &st, NULL) != SQLITE_OK)
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
			r = load_boots(c, node, err);
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

int catalog_load_leases(struct catalog *c, int (*on_lease)(void *arg, const struct lease *),
			void *arg, struct store_error *err)
{
	sqlite3_stmt *st = NULL;
	int r = 0, step = SQLITE_ROW;

	if (sqlite3_prepare_v2(c->db,
			       "SELECT mac, address, until, hostname FROM leases ORDER BY address",
			       -1, &st, NULL) != SQLITE_OK)
		return catalog_failed(c, err);
	while (r == 0 && (step = sqlite3_step(st)) == SQLITE_ROW) {
		struct lease lease = {.until = sqlite3_column_int64(st, 2)};

		r = take_text(st, 0, lease.mac, sizeof(lease.mac)) &&
				    take_text(st, 1, lease.address, sizeof(lease.address)) &&
				    take_text(st, 3, lease.hostname, sizeof(lease.hostname))
			    ? on_lease(arg, &lease)
			    : bad_row(c, "a lease", err);
	}
	if (r == 0 && step != SQLITE_DONE)
		r = catalog_failed(c, err);
	sqlite3_finalize(st);
	return r;
}
