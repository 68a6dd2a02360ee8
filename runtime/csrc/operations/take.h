// take: places along an axis of rows: some of them, in another order, or some several times.
#pragma once
#include "operations/definition.h"
#include "operations/row_axis.h"

namespace bitorch {

inline constexpr const char* kTakeKeys[] = {"input", "output", "axis", "indices"};

struct TakeSpec {
  const Tensor* input = nullptr;   // float32 or codes
  const Tensor* output = nullptr;  // of the same values and channels
  RowAxis axis;                    // of the input
  const int32_t* indices = nullptr;
  int64_t count = 0;  // of the indices: the size of the axis in the output
};

TakeSpec read_take(const OperationReader& reader);
std::unique_ptr<Operation> make_take(const TakeSpec& spec, Preparation& preparation);

}  // namespace bitorch
