// Checks of training steps behind a BatchNorm, each against the portable kernels. They print what is wrong, and return
// how much.
#pragma once
#include <cstdint>

#include "tools/tool.h"

namespace bitorch {

// Every function of all tables that this CPU runs, on arrays that end at an inaccessible page.
struct Calls {
  int64_t done, wrong;
};
Calls check_norm_functions(Random& random);

// `cases` random layers, on all kernels that this CPU runs and on one and three threads.
int64_t check_layers(Random& random, int64_t cases);

}  // namespace bitorch
