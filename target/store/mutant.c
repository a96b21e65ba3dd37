/*
 * Which mutant is on: the one that STORE_MUTANT in the environment names.
 */
#include "store/mutant.h"

#include <stdlib.h>
#include <string.h>

bool store_mutant(const char *name)
{
	static const char *chosen;

	if (!chosen)
		chosen = getenv("STORE_MUTANT");
	if (!chosen)
		chosen = "";
	return strcmp(chosen, name) == 0;
}
