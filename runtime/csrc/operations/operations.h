// The operations that there are.
#pragma once
#include <vector>

#include "operations/definition.h"

namespace bitorch {

// In the order of messages and of documentation.
const std::vector<OperationDefinition>& all_operations();

}  // namespace bitorch
