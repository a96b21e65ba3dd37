/*
 * Switches that leave out one step on which durability rests, or turn an order round. The tests
 * switch each of them and must notice (tests/crash/mutants.sh): a test that can't fail proves
 * nothing. Only the store and the control plane that are built for those tests have them; in the
 * daemon's they are `false`.
 */
#ifndef LUNROOT_BASE_MUTANT_H
#define LUNROOT_BASE_MUTANT_H

#include <stdbool.h>

#ifdef MUTANTS
/* Whether the mutant of this name is on. */
bool mutant(const char *name);
#define MUTANT(name) mutant(#name)
#else
#define MUTANT(name) false
#endif

#endif
