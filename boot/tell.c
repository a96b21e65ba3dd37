/*
 * What lunrootd is told: the timelines of boots, about once a second each while something happens,
 * and how the service itself is, every half a minute. What could not be posted is kept and comes
 * with the next turn.
 */
#include "service_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include "api.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/log.h"

#define BEAT_MS    30000
#define NEWS_MS    1000             /* a trouble is told sooner */
#define TROUBLE_MS (10 * 60 * 1000) /* without being said again it is over */

struct trouble {
	char code[32], message[512];
	uint64_t seen_ms;
};

struct teller {
	struct service *service;
	time_t started;
	bool posting;
	struct boot *turn; /* whose boot is next: only compared, never followed */
	uint64_t beat_ms;
	bool beating, news, refused;
	struct trouble troubles[LIMIT_BOOTD_TROUBLES];
	unsigned trouble_count;
};

/*
 * --- timelines ---
 *
 * Many boots go in one call (POST /v1/boots), heads and events, so a storm costs lunrootd little;
 * and a record that it has lost is made anew by that.
 */

#define BOOTS_PER_CALL 100
/* With those of the last boot that still begins, 1,200 of 700 bytes: below what the API takes in
 * one call. */
#define EVENTS_PER_CALL 700

struct post {
	struct work work;
	struct teller *teller;
	struct boot *boots[BOOTS_PER_CALL]; /* each stays while `posting` */
	json_t *events[BOOTS_PER_CALL];     /* NULL: none */
	unsigned count;
	size_t event_count;
	json_t *body;
	int res;
	struct api_failure failure;
};

static void run_post(struct work *work)
{
	struct post *post = CONTAINER_OF(work, struct post, work);

	post->res = api_call(post->teller->service->options->socket_path, "POST", "/v1/boots",
			     TAKE_PTR(post->body), NULL, &post->failure);
}

static void post_boots(struct teller *teller);

static void on_posted(struct work *work)
{
	struct post *post = CONTAINER_OF(work, struct post, work);
	bool again = post->res == -ECONNREFUSED;

	post->teller->posting = false;
	service_lunrootd(post->teller->service, !again, post->failure.text);
	if (post->res < 0 && !again)
		log_warn("timelines of %u boots are not kept: %s", post->count, post->failure.text);
	for (unsigned i = 0; i < post->count; i++) {
		struct boot *boot = post->boots[i];

		boot->posting = false;
		boot->head_changed |= again;
		if (again && post->events[i])
			boot_untake_events(boot, TAKE_PTR(post->events[i]));
		json_decref(post->events[i]);
	}
	/* In a storm the next ones wait already. */
	if (!again && (post->count == BOOTS_PER_CALL || post->event_count >= EVENTS_PER_CALL))
		post_boots(post->teller);
	free(post);
}

/* One object: what the boot is, and what is new of it. */
static void post_add(struct post *post, json_t *list, struct boot *boot)
{
	json_t *object = boot_head(boot), *events = boot_take_events(boot);

	if (!object) {
		if (events)
			boot_untake_events(boot, events);
		return;
	}
	json_object_set_new(object, "id", json_string(boot->id));
	if (events)
		json_object_set(object, "events", events);
	json_array_append_new(list, object);
	boot->head_changed = false;
	boot->posting = true;
	post->boots[post->count] = boot;
	post->events[post->count++] = events;
	post->event_count += json_array_size(events);
}

static bool wants_post(const struct boot *boot)
{
	return !boot->posting && (boot->head_changed || json_array_size(boot->events) > 0);
}

/* From where the last turn ended, so that each gets its own in a storm. */
static void post_fill(struct teller *teller, struct post *post, json_t *list)
{
	struct boots *boots = teller->service->boots;
	struct boot *boot, *last = NULL;
	bool there = false;

	for (boot = boots_next(boots, NULL); boot; boot = boots_next(boots, boot))
		there |= boot == teller->turn;
	for (int round = there ? 0 : 1; round < 2; round++) {
		bool reached = round == 1;

		for (boot = boots_next(boots, NULL);
		     boot && post->count < BOOTS_PER_CALL && post->event_count < EVENTS_PER_CALL;
		     boot = boots_next(boots, boot)) {
			if (reached && wants_post(boot)) {
				post_add(post, list, boot);
				last = boot;
			}
			reached |= boot == teller->turn;
		}
	}
	if (last)
		teller->turn = last;
}

/* One call at a time; the next takes what came meanwhile. */
static void post_boots(struct teller *teller)
{
	struct post *post = teller->posting ? NULL : calloc(1, sizeof(*post));
	json_t *list = post ? json_array() : NULL;

	if (!list) {
		free(post);
		return;
	}
	post->work = (struct work){.run = run_post, .done = on_posted};
	post->teller = teller;
	post_fill(teller, post, list);
	post->body = json_pack("{s:o}", "boots", list);
	if (post->count == 0 || !post->body) {
		/* Without memory for it what was taken is lost, and the boots are as before. */
		for (unsigned i = 0; i < post->count; i++) {
			post->boots[i]->posting = false;
			json_decref(post->events[i]);
		}
		json_decref(post->body);
		free(post);
		return;
	}
	teller->posting = true;
	work_post(teller->service->clerk, &post->work);
}

/* --- how the service is --- */

struct beat {
	struct work work;
	struct teller *teller;
	json_t *body;
	int res;
	struct api_failure failure;
};

static void run_beat(struct work *work)
{
	struct beat *beat = CONTAINER_OF(work, struct beat, work);

	beat->res = api_call(beat->teller->service->options->socket_path, "PUT", "/v1/bootd",
			     TAKE_PTR(beat->body), NULL, &beat->failure);
}

static void on_beaten(struct work *work)
{
	struct beat *beat = CONTAINER_OF(work, struct beat, work);
	bool answers = beat->res != -ECONNREFUSED, refused = beat->res < 0 && answers;

	beat->teller->beating = false;
	service_lunrootd(beat->teller->service, answers, beat->failure.text);
	if (refused && !beat->teller->refused)
		log_warn("lunctl doctor can't tell how lunbootd is: %s", beat->failure.text);
	beat->teller->refused = refused;
	free(beat);
}

/* "NAME" with each IPv4 address that it has; all that could carry Pis if none was chosen. */
static json_t *interfaces_json(const struct boot_options *options)
{
	json_t *list = json_array();
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) < 0)
		return list;
	for (const struct ifaddrs *at = all; at && json_array_size(list) < LIMIT_BOOTD_INTERFACES;
	     at = at->ifa_next) {
		char text[INET_ADDRSTRLEN];
		bool chosen = options->interface_count == 0;

		if (!at->ifa_addr || at->ifa_addr->sa_family != AF_INET ||
		    (at->ifa_flags & IFF_LOOPBACK))
			continue;
		for (unsigned i = 0; i < options->interface_count; i++)
			chosen |= strcmp(options->interfaces[i], at->ifa_name) == 0;
		if (!chosen ||
		    !inet_ntop(AF_INET,
			       &((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr,
			       text, sizeof(text)))
			continue;
		json_array_append_new(
			list, json_pack("{s:s, s:s}", "name", at->ifa_name, "address", text));
	}
	freeifaddrs(all);
	return list;
}

static json_t *troubles_json(struct teller *teller, uint64_t now)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < teller->trouble_count; i++) {
		const struct trouble *trouble = &teller->troubles[i];

		if (now - trouble->seen_ms < TROUBLE_MS)
			json_array_append_new(list,
					      json_pack("{s:s, s:s, s:s}", "code", trouble->code,
							"message", trouble->message, "cure", ""));
	}
	return list;
}

static void beat(struct teller *teller, uint64_t now)
{
	struct beat *beat = calloc(1, sizeof(*beat));
	char started[API_TIME_BYTES];

	if (!beat)
		return;
	beat->work = (struct work){.run = run_beat, .done = on_beaten};
	beat->teller = teller;
	api_time(teller->started, started);
	beat->body = json_pack("{s:s, s:i, s:s, s:o, s:o}", "version", LUNROOT_VERSION, "pid",
			       (int)getpid(), "started", started, "interfaces",
			       interfaces_json(teller->service->options), "troubles",
			       troubles_json(teller, now));
	teller->beating = true;
	teller->news = false;
	teller->beat_ms = now;
	work_post(teller->service->clerk, &beat->work);
}

/* The oldest gives its place. */
static struct trouble *trouble_place(struct teller *teller, const char *code, const char *message)
{
	struct trouble *oldest = &teller->troubles[0];

	for (unsigned i = 0; i < teller->trouble_count; i++) {
		struct trouble *at = &teller->troubles[i];

		if (strcmp(at->code, code) == 0 && strcmp(at->message, message) == 0)
			return at;
		if (at->seen_ms < oldest->seen_ms)
			oldest = at;
	}
	teller->news = true;
	return teller->trouble_count < LIMIT_BOOTD_TROUBLES
		       ? &teller->troubles[teller->trouble_count++]
		       : oldest;
}

void teller_trouble(struct teller *teller, const char *code, const char *message)
{
	struct trouble *at = trouble_place(teller, code, message);

	(void)snprintf(at->code, sizeof(at->code), "%s", code);
	(void)snprintf(at->message, sizeof(at->message), "%s", message);
	at->seen_ms = now_ms();
}

/* --- */

struct teller *teller_new(struct service *service)
{
	struct teller *teller = calloc(1, sizeof(*teller));

	if (!teller)
		return NULL;
	teller->service = service;
	teller->started = time(NULL);
	return teller;
}

void teller_free(struct teller *teller)
{
	free(teller);
}

void teller_tick(struct teller *teller, uint64_t now)
{
	post_boots(teller);
	if (!teller->beating &&
	    (teller->beat_ms == 0 || now - teller->beat_ms >= (teller->news ? NEWS_MS : BEAT_MS)))
		beat(teller, now);
}
