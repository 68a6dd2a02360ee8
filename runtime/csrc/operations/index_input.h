// The input of indices: an array of int32 or int64 from outside becomes a tensor of int32.
#pragma once
#include "operations/input.h"

namespace bitorch {

// Error in run() where an index is negative, or too large.
std::unique_ptr<Operation> make_index_input(const InputSpec& spec);

}  // namespace bitorch
