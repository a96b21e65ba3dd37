/*
 * Is all there that the first Pi needs: doctor. It goes on when the daemon does not answer, since
 * that is one of the things it looks at.
 */
#include <stdio.h>
#include <string.h>

#include "doctor.h"
#include "output.h"

static bool is_bad(const json_t *finding)
{
	const char *level = get_text(finding, "level");

	return strcmp(level, "warning") == 0 || strcmp(level, "error") == 0;
}

static void print_finding(const json_t *finding)
{
	(void)printf("%-8s ", get_text(finding, "level"));
	put_text(stdout, get_text(finding, "message"));
	(void)putchar('\n');
	if (get_text(finding, "cure")[0]) {
		(void)fputs("           cure: ", stdout);
		put_text(stdout, get_text(finding, "cure"));
		(void)putchar('\n');
	}
}

static int run_doctor(const struct request *request)
{
	struct doctor_facts facts;
	json_t *findings;
	unsigned bad = 0;
	int r;

	doctor_gather(request, &facts);
	findings = doctor_judge(&facts);
	if (!findings) {
		doctor_done(&facts);
		return complain("out of memory", NULL);
	}
	for (size_t i = 0; i < json_array_size(findings); i++) {
		const json_t *finding = json_array_get(findings, i);

		bad += is_bad(finding) ? 1 : 0;
		if (!request->json)
			print_finding(finding);
	}
	r = bad > 0 ? EXIT_FINDINGS : EXIT_DONE;
	if (request->json) {
		json_t *answer = json_pack("{s:O}", "findings", findings);
		int printed = print_json(answer);

		json_decref(answer);
		r = printed != EXIT_DONE ? printed : r;
	} else if (bad > 0) {
		say_next(request, "put that right from top to bottom, then lunctl doctor again");
	} else {
		say_next(request, "switch a Pi on; lunctl ls --pending shows it");
	}
	json_decref(findings);
	doctor_done(&facts);
	return r;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.operands = "",
	.help = "look whether all is there that a Pi needs to boot; as root it looks at more",
	.run = run_doctor,
};
