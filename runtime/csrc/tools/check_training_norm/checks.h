// Checks of training steps behind a BatchNorm, each against the portable kernels. They print what is wrong, and return
// how much.
#pragma once
#include <cstdint>

#include "tools/random_layers.h"

namespace bitorch {

// Every function of all tables that this CPU runs, on arrays that end at an inaccessible page.
struct Calls {
  int64_t done, wrong;
};
Calls check_norm_functions(Random& random);

// Random layers, on all kernels that this CPU runs.
int64_t check_layers(RandomLayers& layers);

}  // namespace bitorch
