/*
 * Which mutant is on: the one that MUTANT in the environment names.
 */
#include "base/mutant.h"

#include <stdlib.h>
#include <string.h>

bool mutant(const char *name)
{
	static const char *chosen;

	if (!chosen)
		chosen = getenv("MUTANT");
	if (!chosen)
		chosen = "";
	return strcmp(chosen, name) == 0;
}
