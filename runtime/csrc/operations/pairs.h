// sub, mul, div, minimum, maximum, where: functions of two tensors, number by number, each of which is repeated along
// the axes where it has one place. `where` has a condition besides, which chooses. (add has further steps: add.h)
#pragma once
#include <vector>

#include "core/pair_kernels.h"
#include "operations/definition.h"

namespace bitorch {

inline constexpr const char* kPairKeys[] = {"inputs", "output"};
inline constexpr const char* kWhereKeys[] = {"condition", "inputs", "output"};

struct PairSpec {
  PairFunction function = kPairMul;
  std::vector<const Tensor*> inputs;  // float32: two, and the condition behind them
  const Tensor* output = nullptr;     // float32, of the shape of all inputs together
};

// The function is called as the operation is.
PairSpec read_pair(const OperationReader& reader);
std::unique_ptr<Operation> make_pair_operation(const PairSpec& spec, Preparation& preparation);

}  // namespace bitorch
