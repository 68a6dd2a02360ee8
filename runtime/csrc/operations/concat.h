// concat: tensors one behind the other, along the channels or an axis of rows.
#pragma once
#include <vector>

#include "operations/definition.h"
#include "operations/row_axis.h"

namespace bitorch {

inline constexpr const char* kConcatKeys[] = {"inputs", "output", "axis"};

struct ConcatSpec {
  std::vector<const Tensor*> inputs;  // float32, or codes of the same bits; equal but for the axis
  const Tensor* output = nullptr;     // of their values, and as large along the axis as all of them
  bool of_rows = false;               // the axis is one of rows
  RowAxis axis;                       // then: of the first input
  std::vector<int64_t> ends;          // then: behind each input, along the axis
};

ConcatSpec read_concat(const OperationReader& reader);
std::unique_ptr<Operation> make_concat(const ConcatSpec& spec, Preparation& preparation);

}  // namespace bitorch
