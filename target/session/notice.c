/*
 * What the control plane is told of logins: who has logged in and how that ended, and, before the
 * last response of a login with a boot's new credentials, that it is about to use them.
 *
 * That one is a question: the session waits until the control plane has written down that they are
 * in use (see struct server_watch), while its reactor serves others. There is at most one for each
 * connection that has not logged in, so LIMIT_HALF_OPEN_LOGINS bounds them. The rest is news only;
 * no more than LIMIT_SESSION_NOTICES are on their way, and what a storm of logins makes beyond
 * that is counted, not kept.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "session/session_internal.h"

struct notice {
	struct mailbox_msg msg;
	struct server *server;
	struct server_login login;
	enum server_end end;
	/* A question: */
	struct reactor *reactor;
	struct session *session; /* its reactor's: who waits; NULL: has gone meanwhile */
	int res;
};

static void fill(struct notice *notice, const struct session *session)
{
	struct server_login *login = &notice->login;

	notice->server = session->conn->server;
	memcpy(login->target_uuid, session->target->conf->uuid, sizeof(login->target_uuid));
	login->by_boot = session->by == LOGIN_BY_BOOT;
	login->by_operator = session->by == LOGIN_BY_OPERATOR;
	memcpy(login->boot_id, session->boot_id, sizeof(login->boot_id));
	(void)snprintf(login->initiator, sizeof(login->initiator), "%s", session->initiator);
	(void)snprintf(login->address, sizeof(login->address), "%s", session->conn->peer);
}

/* --- news --- */

static void news_run(struct mailbox_msg *msg)
{
	struct notice *notice = CONTAINER_OF(msg, struct notice, msg);
	struct server *server = notice->server;
	const struct server_watch *watch = &server->watch;

	atomic_fetch_sub(&server->notices, 1);
	notice->login.lost = atomic_exchange(&server->notices_lost, 0);
	if (notice->end == SERVER_END_NOT_YET && watch->login)
		watch->login(watch->arg, &notice->login);
	if (notice->end != SERVER_END_NOT_YET && watch->end)
		watch->end(watch->arg, &notice->login, notice->end);
	free(notice);
}

static void tell(const struct session *session, enum server_end end)
{
	struct server *server = session->conn->server;
	struct notice *notice = NULL;

	if (atomic_fetch_add(&server->notices, 1) < LIMIT_SESSION_NOTICES)
		notice = calloc(1, sizeof(*notice));
	if (!notice) {
		atomic_fetch_sub(&server->notices, 1);
		atomic_fetch_add(&server->notices_lost, 1);
		return;
	}
	fill(notice, session);
	notice->end = end;
	notice->msg.run = news_run;
	mailbox_post(server->config.control, &notice->msg);
}

void session_tell_begun(struct session *session)
{
	assert(session->target && !session->told);
	session->told = true;
	tell(session, SERVER_END_NOT_YET);
}

void session_tell_ended(struct session *session, enum server_end end)
{
	if (!session->told)
		return;
	session->told = false;
	tell(session, end);
}

/* --- the question --- */

static void answer_arrives(struct mailbox_msg *msg)
{
	struct notice *notice = CONTAINER_OF(msg, struct notice, msg);
	struct session *session = notice->session;
	int res = notice->res;

	free(notice);
	if (!session)
		return;
	session->question = NULL;
	session_recorded(session, res);
}

static void question_run(struct mailbox_msg *msg)
{
	struct notice *notice = CONTAINER_OF(msg, struct notice, msg);
	const struct server_watch *watch = &notice->server->watch;

	notice->res = watch->record ? watch->record(watch->arg, &notice->login) : 0;
	msg->run = answer_arrives;
	ring_post(notice->reactor->ring, msg);
}

int session_ask_record(struct session *session)
{
	struct notice *notice = calloc(1, sizeof(*notice));

	assert(!session->question);
	if (!notice)
		return -ENOMEM;
	fill(notice, session);
	notice->reactor = session->conn->reactor;
	notice->session = session;
	session->question = notice;
	notice->msg.run = question_run;
	mailbox_post(notice->server->config.control, &notice->msg);
	return 0;
}

void session_question_drop(struct session *session)
{
	if (session->question)
		session->question->session = NULL;
	session->question = NULL;
}

void server_watch(struct server *server, const struct server_watch *watch)
{
	server->watch = watch ? *watch : (struct server_watch){0};
}
