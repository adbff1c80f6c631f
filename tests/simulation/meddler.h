// Somebody who pauses, resumes, cancels, finalizes and dismisses jobs that are not theirs, and asks
// about everything.
#ifndef TESTS_SIMULATION_MEDDLER_H_
#define TESTS_SIMULATION_MEDDLER_H_

#include "tests/simulation/world.h"

namespace tidemark::simulation {

// Runs until it has done enough, or the world is calm.
void RunMeddler(World* world);

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_MEDDLER_H_
