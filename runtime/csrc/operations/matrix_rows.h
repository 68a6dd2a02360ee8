// Matrices of tensors as kernels take them, and how much of a product is done at a time.
#pragma once
#include <algorithm>

#include "core/graph/graph.h"
#include "core/matrix_kernels.h"

namespace bitorch {

// A matrix that is row y of a tensor of floats: its pixels by its channels.
struct FloatMatrix {
  const float* data = nullptr;
  int64_t pixel_step = 0;  // in floats; channels lie side by side

  FloatMatrix() = default;
  FloatMatrix(const RunContext& context, const Tensor& tensor, int64_t n, int64_t y)
      : data(context.floats(tensor, n, y)), pixel_step(tensor.layout.pixel_bytes / 4) {}
};

// Rows of a result that are made at a time: blocks of at most `most`, as equal as they can be.
struct RowBlocks {
  int64_t rows = 1, count = 1;

  RowBlocks() = default;
  RowBlocks(int64_t all, int64_t most) : rows(all), count(ceil_div(all, most)) {}
  int64_t begin(int64_t block) const {
    const int64_t longer = rows % count;
    return rows / count * block + std::min(block, longer);
  }
  int64_t size(int64_t block) const { return begin(block + 1) - begin(block); }
};

}  // namespace bitorch
