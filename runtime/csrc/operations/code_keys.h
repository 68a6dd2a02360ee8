// The keys "bits", "thresholds" and "descending" of an operation that gives codes.
#pragma once
#include <cstdint>

#include "core/conv/code_spec.h"
#include "core/graph/operation_reader.h"

namespace bitorch {

CodeSpec read_code_keys(const OperationReader& reader, int64_t channels, bool int_thresholds_allowed);
// Error where one of them is there although no codes are.
void refuse_code_keys(const OperationReader& reader);

}  // namespace bitorch
