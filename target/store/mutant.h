/*
 * Switches that leave out one step on which durability rests. The tests switch each of them and
 * must notice (tests/crash/mutants.sh): a test that can't fail proves nothing. Only the store that
 * is built for those tests has them; in the daemon's they are `false`.
 */
#ifndef LUNROOT_STORE_MUTANT_H
#define LUNROOT_STORE_MUTANT_H

#include <stdbool.h>

#ifdef STORE_MUTANTS
/* Whether the mutant of this name is on. */
bool store_mutant(const char *name);
#define STORE_MUTANT(name) store_mutant(#name)
#else
#define STORE_MUTANT(name) false
#endif

#endif
