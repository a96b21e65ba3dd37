/*
 * Boot records on disk: boots.db in the state directory. A copy of what boots.c has in memory,
 * written by a thread of its own in one transaction at a time, so that a disk that is slow, full or
 * broken is never waited for. Losing the last seconds is no harm: synchronous=NORMAL. What can't
 * be read is put aside as boots.db.damaged; the timelines in it are not worth a daemon that does
 * not start.
 */
#include "control/boots_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

#define DB_VERSION          1
#define DB_VERSION_TEXT     "1"
#define APPLICATION_ID_TEXT "1280661058" /* 0x4c554e42, "LUNB" */
#define WAL_BYTES_TEXT      "4194304"    /* what the log shrinks to after a storm */

static const char schema[] =
	"CREATE TABLE boots(id TEXT PRIMARY KEY, place INTEGER NOT NULL, node TEXT,"
	" serial TEXT NOT NULL, mac TEXT NOT NULL, model TEXT NOT NULL, address TEXT NOT NULL,"
	" began_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, reached INTEGER NOT NULL,"
	" reached_ms INTEGER NOT NULL, login_ms INTEGER NOT NULL, done INTEGER NOT NULL,"
	" files INTEGER NOT NULL, file_bytes INTEGER NOT NULL, retries INTEGER NOT NULL,"
	" dropped INTEGER NOT NULL, events BLOB NOT NULL) STRICT, WITHOUT ROWID;"
	"PRAGMA application_id=" APPLICATION_ID_TEXT "; PRAGMA user_version=" DB_VERSION_TEXT;

struct boots_db {
	char path[PATH_BYTES];
	struct mailbox *mailbox;
	sqlite3 *db; /* the thread's while it runs; NULL: to be opened */
	sqlite3_stmt *insert, *forget;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* of these: */
	pthread_cond_t changed;
	struct boots_batch *batch;
	bool stop;
};

/* --- opening --- */

static void db_close(struct boots_db *db)
{
	(void)sqlite3_finalize(TAKE_PTR(db->insert));
	(void)sqlite3_finalize(TAKE_PTR(db->forget));
	(void)sqlite3_close(TAKE_PTR(db->db));
}

static int db_errno(struct boots_db *db)
{
	switch (sqlite3_errcode(db->db) & 0xff) {
	case SQLITE_ERROR: /* a statement of ours does not fit its tables */
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB: return -EBADMSG;
	case SQLITE_NOMEM: return -ENOMEM;
	case SQLITE_FULL: return -ENOSPC;
	default: return -EIO;
	}
}

static int db_run(struct boots_db *db, const char *sql)
{
	return sqlite3_exec(db->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_errno(db);
}

static int db_number(struct boots_db *db, const char *sql, int64_t *ret_number)
{
	sqlite3_stmt *st = NULL;
	int r = 0;

	if (sqlite3_prepare_v2(db->db, sql, -1, &st, NULL) != SQLITE_OK)
		return db_errno(db);
	if (sqlite3_step(st) == SQLITE_ROW)
		*ret_number = sqlite3_column_int64(st, 0);
	else
		r = db_errno(db);
	(void)sqlite3_finalize(st);
	return r;
}

/* -EBADMSG: of another program or version; nobody's loss. */
static int db_version(struct boots_db *db)
{
	int64_t version = 0, tables = 0;
	int r = db_number(db, "PRAGMA user_version", &version);

	if (r == 0)
		r = db_number(db, "SELECT count(*) FROM sqlite_schema", &tables);
	if (r < 0)
		return r;
	if (version == 0 && tables == 0)
		return db_run(db, schema);
	return version == DB_VERSION ? 0 : -EBADMSG;
}

static int db_prepare(struct boots_db *db)
{
	if (sqlite3_prepare_v2(db->db,
			       "INSERT OR REPLACE INTO boots"
			       " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
			       -1, &db->insert, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(db->db, "DELETE FROM boots WHERE id=?", -1, &db->forget, NULL) !=
		    SQLITE_OK)
		return db_errno(db);
	return 0;
}

/* 0 or -errno, and nothing is open. */
static int db_open(struct boots_db *db)
{
	int fd = open(db->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return -errno;
	(void)close(fd);
	r = sqlite3_open_v2(db->path, &db->db,
			    SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW,
			    NULL) == SQLITE_OK
		    ? 0
		    : db_errno(db);
	if (r == 0)
		r = db_run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
			       "PRAGMA journal_size_limit=" WAL_BYTES_TEXT);
	if (r == 0)
		r = db_version(db);
	if (r == 0)
		r = db_prepare(db);
	if (r < 0)
		db_close(db);
	return r;
}

/* Out of the way, with what SQLite keeps beside it. */
static void put_aside(struct boots_db *db)
{
	static const char *const tails[] = {"", "-wal", "-shm"};
	char from[PATH_BYTES + 8], to[PATH_BYTES + 24];

	db_close(db);
	for (size_t i = 0; i < ARRAY_COUNT(tails); i++) {
		(void)snprintf(from, sizeof(from), "%s%s", db->path, tails[i]);
		(void)snprintf(to, sizeof(to), "%s.damaged%s", db->path, tails[i]);
		if (rename(from, to) < 0 && errno != ENOENT)
			log_debug("%s: %s", from, strerror(errno));
	}
	log_warn(
		"boot records: %s is damaged, or of another version; it is %s.damaged now, and new "
		"records begin",
		db->path, db->path);
}

/* --- reading --- */

static bool take_text(sqlite3_stmt *st, int column, char *to, size_t bytes)
{
	const char *text = (const char *)sqlite3_column_text(st, column);

	if (!text || strlen(text) >= bytes)
		return false;
	memcpy(to, text, strlen(text) + 1);
	return true;
}

/* False: it makes no sense. */
static bool take_row(sqlite3_stmt *st, struct boot_row *row)
{
	struct boot_head *head = &row->head;
	int reached = sqlite3_column_int(st, 9);
	const char *node = (const char *)sqlite3_column_text(st, 2);

	head->has_node = node != NULL;
	head->order = (uint64_t)sqlite3_column_int64(st, 1);
	head->began_ms = sqlite3_column_int64(st, 7);
	head->last_ms = sqlite3_column_int64(st, 8);
	head->reached = (enum boot_stage)reached;
	head->reached_ms = sqlite3_column_int64(st, 10);
	head->login_ms = sqlite3_column_int64(st, 11);
	head->done = sqlite3_column_int(st, 12) != 0;
	head->files = (uint64_t)sqlite3_column_int64(st, 13);
	head->file_bytes = (uint64_t)sqlite3_column_int64(st, 14);
	head->retries = (uint64_t)sqlite3_column_int64(st, 15);
	row->dropped = (uint64_t)sqlite3_column_int64(st, 16);
	row->event_bytes = (size_t)sqlite3_column_bytes(st, 17);
	row->events = (uint8_t *)sqlite3_column_blob(st, 17);
	return reached >= 0 && reached < STAGE_COUNT && head->order < INT64_MAX &&
	       head->began_ms >= 0 && head->last_ms >= 0 && head->reached_ms >= 0 &&
	       (!node || store_uuid_parse(node, &head->node)) &&
	       take_text(st, 0, head->id, sizeof(head->id)) &&
	       strspn(head->id, "0123456789abcdef") == BOOT_ID_BYTES - 1 &&
	       take_text(st, 3, head->serial, sizeof(head->serial)) &&
	       take_text(st, 4, head->mac, sizeof(head->mac)) &&
	       take_text(st, 5, head->model, sizeof(head->model)) &&
	       take_text(st, 6, head->address, sizeof(head->address));
}

/* Rows that make no sense are passed over; -EBADMSG if there were any. */
static int db_load(struct boots_db *db, boots_db_row_fn on_boot, void *arg)
{
	sqlite3_stmt *st = NULL;
	bool bad = false;
	int r = 0, step = SQLITE_ROW;

	if (sqlite3_prepare_v2(db->db, "SELECT * FROM boots ORDER BY place", -1, &st, NULL) !=
	    SQLITE_OK)
		return db_errno(db);
	while (r == 0 && (step = sqlite3_step(st)) == SQLITE_ROW) {
		struct boot_row row = {.dropped = 0};

		r = take_row(st, &row) ? on_boot(arg, &row) : -EBADMSG;
		bad |= r == -EBADMSG;
		r = r == -EBADMSG ? 0 : r;
	}
	if (r == 0 && step != SQLITE_DONE)
		r = db_errno(db);
	(void)sqlite3_finalize(st);
	return r == 0 && bad ? -EBADMSG : r;
}

int boots_db_open(const char *path, struct mailbox *mailbox, boots_db_row_fn on_boot, void *arg,
		  struct boots_db **ret_db)
{
	struct boots_db *db = calloc(1, sizeof(*db));
	int r;

	if (!db)
		return -ENOMEM;
	(void)snprintf(db->path, sizeof(db->path), "%s", path);
	db->mailbox = mailbox;
	(void)pthread_mutex_init(&db->lock, NULL);
	(void)pthread_cond_init(&db->changed, NULL);
	*ret_db = db;
	r = db_open(db);
	if (r == 0)
		r = db_load(db, on_boot, arg);
	if (r == -EBADMSG)
		put_aside(db);
	else if (r < 0)
		db_close(db);
	return r;
}

/* --- writing --- */

static bool bind_head(sqlite3_stmt *st, const struct boot_row *row)
{
	const struct boot_head *h = &row->head;
	const char *const texts[] = {h->serial, h->mac, h->model, h->address};
	const int64_t numbers[] = {h->began_ms,         h->last_ms,
				   (int64_t)h->reached, h->reached_ms,
				   h->login_ms,         (int64_t)h->done,
				   (int64_t)h->files,   (int64_t)h->file_bytes,
				   (int64_t)h->retries, (int64_t)row->dropped};
	char node[STORE_UUID_TEXT_BYTES];
	bool good = sqlite3_bind_text(st, 1, h->id, -1, SQLITE_STATIC) == SQLITE_OK &&
		    sqlite3_bind_int64(st, 2, (int64_t)h->order) == SQLITE_OK;

	store_uuid_format(&h->node, node);
	good = good && (h->has_node ? sqlite3_bind_text(st, 3, node, -1, SQLITE_TRANSIENT)
				    : sqlite3_bind_null(st, 3)) == SQLITE_OK;
	for (int i = 0; i < (int)ARRAY_COUNT(texts); i++)
		good = good &&
		       sqlite3_bind_text(st, 4 + i, texts[i], -1, SQLITE_STATIC) == SQLITE_OK;
	for (int i = 0; i < (int)ARRAY_COUNT(numbers); i++)
		good = good && sqlite3_bind_int64(st, 8 + i, numbers[i]) == SQLITE_OK;
	return good && sqlite3_bind_blob64(st, 18, row->events, row->event_bytes, SQLITE_STATIC) ==
			       SQLITE_OK;
}

static int step_once(struct boots_db *db, sqlite3_stmt *st)
{
	int r = sqlite3_step(st) == SQLITE_DONE ? 0 : db_errno(db);

	(void)sqlite3_reset(st);
	(void)sqlite3_clear_bindings(st);
	return r;
}

static int write_rows(struct boots_db *db, const struct boots_batch *batch)
{
	int r = db_run(db, batch->anew ? "BEGIN IMMEDIATE; DELETE FROM boots" : "BEGIN IMMEDIATE");

	for (unsigned i = 0; r == 0 && i < batch->dead_count; i++) {
		(void)sqlite3_bind_text(db->forget, 1, batch->dead[i], -1, SQLITE_STATIC);
		r = step_once(db, db->forget);
	}
	for (unsigned i = 0; r == 0 && i < batch->row_count; i++)
		r = bind_head(db->insert, &batch->rows[i]) ? step_once(db, db->insert) : -ENOMEM;
	return r == 0 ? db_run(db, "COMMIT") : r;
}

static void write_batch(struct boots_db *db, struct boots_batch *batch)
{
	int r = db->db ? 0 : db_open(db);

	if (r == 0)
		r = write_rows(db, batch);
	batch->result = r;
	if (r == 0)
		return;
	(void)snprintf(batch->message, sizeof(batch->message), "%.200s: %s", db->path,
		       strerror(-r));
	if (r == -EBADMSG)
		put_aside(db);
	else
		db_close(db); /* takes the transaction back */
}

static void *db_thread(void *arg)
{
	struct boots_db *db = arg;

	log_set_thread("boots");
	(void)pthread_mutex_lock(&db->lock);
	while (!db->stop || db->batch) {
		struct boots_batch *batch = db->batch;

		if (!batch) {
			(void)pthread_cond_wait(&db->changed, &db->lock);
			continue;
		}
		(void)pthread_mutex_unlock(&db->lock);
		write_batch(db, batch);
		(void)pthread_mutex_lock(&db->lock);
		db->batch = NULL;
		/* Nobody runs the message once we are told to stop: the batch is looked at then. */
		if (!db->stop)
			mailbox_post(db->mailbox, &batch->written);
	}
	(void)pthread_mutex_unlock(&db->lock);
	return NULL;
}

/* Signals are for the others. */
static int start(struct boots_db *db)
{
	sigset_t all, before;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = pthread_create(&db->thread, NULL, db_thread, db);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	db->started = r == 0;
	return -r;
}

void boots_db_write(struct boots_db *db, struct boots_batch *batch)
{
	if (!db->started && start(db) < 0) {
		batch->result = -EAGAIN;
		(void)snprintf(batch->message, sizeof(batch->message), "no thread for %.200s",
			       db->path);
		mailbox_post(db->mailbox, &batch->written);
		return;
	}
	(void)pthread_mutex_lock(&db->lock);
	assert(!db->batch);
	db->batch = batch;
	(void)pthread_cond_signal(&db->changed);
	(void)pthread_mutex_unlock(&db->lock);
}

void boots_db_write_now(struct boots_db *db, struct boots_batch *batch)
{
	assert(!db->started);
	write_batch(db, batch);
}

void boots_db_stop(struct boots_db *db)
{
	if (!db->started)
		return;
	(void)pthread_mutex_lock(&db->lock);
	db->stop = true;
	(void)pthread_cond_signal(&db->changed);
	(void)pthread_mutex_unlock(&db->lock);
	(void)pthread_join(db->thread, NULL);
	db->started = false;
}

void boots_db_free(struct boots_db *db)
{
	db_close(db);
	(void)pthread_mutex_destroy(&db->lock);
	(void)pthread_cond_destroy(&db->changed);
	free(db);
}

void boots_batch_free(struct boots_batch *batch)
{
	for (unsigned i = 0; i < batch->row_count; i++)
		free(batch->rows[i].events);
	free(batch->rows);
	free(batch->dead);
	free(batch);
}
