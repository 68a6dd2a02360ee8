// How much memory a network from a file may take, unless whoever loads it says otherwise.
#pragma once
#include <cstdint>

namespace bitorch {

// For all that is kept, and what one image is worked on in: more than any network in use needs.
constexpr int64_t kMemoryLimit = int64_t{1} << 30;

}  // namespace bitorch
