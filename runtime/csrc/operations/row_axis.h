// One axis of rows that an operation works along, and how it lies among the rows and pixels of a tensor.
#pragma once
#include "core/graph/operation_reader.h"

namespace bitorch {

struct RowAxis {
  int64_t size = 1;  // of the axis
  int64_t inner =
      1;  // rows of pixels (`Tensor::height`) at each place of it; 1 of the last one, whose places are pixels
  bool is_last = false;  // its places are the pixels of a row

  RowAxis() = default;
  // The key counts from the last axis, -1, so that axes of 1 in front of all others make no difference.
  RowAxis(const OperationReader& reader, const char* key, const Tensor& input);

  // The axes of the tensor with another size of this one.
  RowAxes with_size(int64_t other) const;

 private:
  RowAxes axes_;
  size_t index_ = 0;
};

}  // namespace bitorch
