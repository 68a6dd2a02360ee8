// Tensors of which some are repeated along axes where they have one place: which shape they make together, and where
// the rows of each lie.
#pragma once
#include <vector>

#include "core/graph/operation_reader.h"
#include "core/pair_kernels.h"

namespace bitorch {

// The shape of tensors together: axes of rows are counted from the last one. Error, about this key, where an axis has
// two sizes, none of which is 1.
struct BroadcastShape {
  RowAxes axes;
  int64_t channels = 1;

  BroadcastShape(const OperationReader& reader, const char* key, const std::vector<const Tensor*>& tensors);
  bool is_of(const Tensor& tensor) const;
};

// How the rows and pixels of a result are made of those of one tensor.
class Broadcast {
 public:
  // result: of the shape of all of them together.
  Broadcast(const Tensor& tensor, const Tensor& result);

  // Pixels x, x + 1, ... of row y of the result, in the tensor. Layouts are final.
  PairInput pixels(const RunContext& context, int64_t n, int64_t y, int64_t x) const;

 private:
  int64_t row(int64_t y) const;

  // An axis of rows but the last one, innermost first: the result's size and how many rows of the tensor a step is.
  struct Axis {
    int64_t size, step;
  };

  const Tensor& tensor_;
  bool repeats_pixels_, repeats_channels_, has_all_rows_;
  std::vector<Axis> axes_;
};

}  // namespace bitorch
