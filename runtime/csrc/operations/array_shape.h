// The key "array_shape" of an input or output: one image of the array in other dimensions than the tensor's, the same
// numbers in the same order.
#pragma once
#include "core/graph/operation_reader.h"
#include "core/graph/port.h"

namespace bitorch {

void read_array_shape(const OperationReader& reader, Port* port);

}  // namespace bitorch
