// permute: the axes of a tensor in another order, channels among them.
#pragma once
#include <vector>

#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kPermuteKeys[] = {"input", "output", "axes"};

struct PermuteSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // of the same values
  std::vector<int64_t> axes;       // of [C, rows ...]: axis i of the output is axis axes[i] of the input
  RowAxes from, to;                // the rows of both, as many as `axes` has
};

PermuteSpec read_permute(const OperationReader& reader);
std::unique_ptr<Operation> make_permute(const PermuteSpec& spec, Preparation& preparation);

}  // namespace bitorch
