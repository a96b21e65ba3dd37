/*
 * The verb jobs: what the daemon works on by itself, or has, and an end to one of them.
 */
#include <stdio.h>
#include <string.h>

#include "lunctl.h"
#include "output.h"

#define ID_DIGITS_MAX 10

enum { JOBS_CANCEL };

/* "1.0 MiB of 4.0 GiB"; nothing where there is nothing to count. */
static void print_done(const json_t *job, char *buffer, size_t bytes)
{
	uint64_t done = get_number(job, "done_bytes"), total = get_number(job, "total_bytes");
	char a[OUTPUT_SIZE_BYTES], b[OUTPUT_SIZE_BYTES];

	if (total > 0)
		(void)snprintf(buffer, bytes, "%s of %s", size_format(done, a),
			       size_format(total, b));
	else
		(void)snprintf(buffer, bytes, "%s", done > 0 ? size_format(done, a) : "");
}

static bool runs(const json_t *job)
{
	return strcmp(get_text(job, "state"), "running") == 0;
}

static int list_jobs(const struct request *request)
{
	json_t *answer = NULL;
	const json_t *jobs, *running = NULL;
	struct table table;
	int r = api_call(request, "GET", "/v1/jobs", NULL, &answer);

	if (!api_tells_person(request, answer, &r)) {
		json_decref(answer);
		return r;
	}
	jobs = json_object_get(answer, "jobs");
	table_init(&table, 5);
	table_row(&table, (const char *[]){"JOB", "KIND", "STATE", "DONE", "WHAT"});
	for (size_t i = 0; i < json_array_size(jobs); i++) {
		const json_t *job = json_array_get(jobs, i);
		char done[2 * OUTPUT_SIZE_BYTES + 8];

		print_done(job, done, sizeof(done));
		table_row(&table,
			  (const char *[]){get_text(job, "id"), get_text(job, "kind"),
					   get_text(job, "state"), done, get_text(job, "message")});
		if (runs(job))
			running = job;
	}
	table_print(&table, stdout);
	table_done(&table);
	if (running)
		say_next(request, "lunctl jobs --cancel %.20s", get_text(running, "id"));
	json_decref(answer);
	return 0;
}

/* As it has ended, which may have been by itself meanwhile. */
static int tell_end(const struct request *request, const json_t *job)
{
	const json_t *error = json_object_get(job, "error");
	bool cancelled = strcmp(get_text(error, "code"), "cancelled") == 0;

	if (request->json) {
		int r = print_json(job);

		return r == 0 && !cancelled ? EXIT_REFUSED : r;
	}
	if (!cancelled)
		return complain("the job ended before it could be cancelled",
				"lunctl jobs tells how");
	(void)printf("job %s: ", get_text(job, "id"));
	put_text(stdout, get_text(job, "message"));
	(void)putchar('\n');
	return 0;
}

static int cancel_job(const struct request *request, const char *id)
{
	json_t *job = NULL, *answer, *ended = NULL;
	char target[64], message[64];
	int r;

	if (strlen(id) > ID_DIGITS_MAX || strspn(id, "0123456789") != strlen(id))
		return usage_error("%s: no number of a job; lunctl jobs lists them", id);
	(void)snprintf(target, sizeof(target), "/v1/jobs/%s", id);
	r = api_call(request, "GET", target, NULL, &job);
	if (r == 0 && !runs(job)) {
		(void)snprintf(message, sizeof(message), "job %s has ended already", id);
		r = complain(message, "lunctl jobs tells how");
	}
	if (r == 0) {
		answer = json_pack("{s:O}", "job", job);
		r = api_cancel_job(request, answer, &ended);
		json_decref(answer);
	}
	if (r == 0)
		r = tell_end(request, ended);
	json_decref(job);
	json_decref(ended);
	return r;
}

static int run_jobs(const struct request *request)
{
	const char *id = request->values[JOBS_CANCEL];

	return id ? cancel_job(request, id) : list_jobs(request);
}

const struct verb verb_jobs = {
	.name = "jobs",
	.operands = "",
	.help = "list what lunrootd works on, and what has ended",
	.options = {[JOBS_CANCEL] = {"cancel", "JOB", "end this one, and wait until it has"}},
	.run = run_jobs,
};
